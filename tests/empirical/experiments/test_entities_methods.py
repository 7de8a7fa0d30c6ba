"""Every method of the bench in a tiny world, beside the sum of placed experts."""

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments import plain_english
from empirical.experiments.plain_english_predictions import kind
from empirical.reuse.methods import METHODS
from tests.empirical.experiments.live import labels, live, small, verdicts, worlds_that_answer
from tests.empirical.judged import mean, rates, rows
from tests.empirical.judged import records as committed

SMALL = small("entities_methods")


@pytest.fixture(scope="module")
def record() -> Record:
    (cell,) = plain_english.world_cells(SMALL)
    return live("entities_methods", cell)


def test_the_declared_methods_are_those_of_the_bench() -> None:
    """All but the control and those that are the sum in other words; a sum by halves is the mean."""
    listed = {m.partition("@")[0] for m in catalogue.settings("entities_methods", "cpu").methods}
    assert listed == set(METHODS) - {"random", "cat", "core_sum"}
    kinds = {m: kind(m) for m in listed}
    assert {m for m, k in kinds.items() if k == "data"} == {"regmean", "lora_soups", "lora_hub"}
    assert {m for m, k in kinds.items() if k == "router"} == {m for m in listed if m.startswith("arrow")}


def test_every_method_is_timed_and_scored_in_both_ways(record: Record) -> None:
    methods = SMALL.methods
    conditions = {f"{m}:all+all" for m in methods} | {"sum:early+late", "random:early+late"}
    assert conditions == set(record.metrics.merging)
    assert conditions < set(record.metrics.scores)
    assert all({"H", "H_forced", "first", "second"} <= set(record.metrics.scores[c]) for c in conditions)
    assert all(record.metrics.merging[c] > 0 for c in conditions)


def planted(record: Record, right: set[str]) -> list[Record]:
    """Five worlds in which some conditions answer everything right, in free text and by choice, and others nothing."""
    every, none = {"right": 24, "forced": 24}, {"neither": 24}
    return worlds_that_answer(record, 5, {c: {"H": every if c in right else none} for c in record.metrics.answered})


@pytest.mark.parametrize(
    ("winner", "of_kind"), [("mean:all+all", "merge"), ("regmean:all+all", "data"), ("arrow_top1:all+all", "router")]
)
def test_one_method_that_joins_refutes_its_kind_alone(record: Record, winner: str, of_kind: str) -> None:
    found = verdicts("entities_methods", SMALL, planted(record, {"sum:early+late"}))
    rows = [f"two.{row}.all+all.{k}" for k in ("merge", "data", "router") for row in ("placed", "most")]
    assert {found[row] for row in rows} == {("hypothesis", "holds")}
    found = verdicts("entities_methods", SMALL, planted(record, {winner}))
    assert {row for row in rows if found[row][1] == "violated"} == {r for r in rows if r.endswith(of_kind)}


def test_the_figure_has_a_row_for_every_method(record: Record) -> None:
    names, *_ = labels("entities_methods", [record], "y")
    assert len(names) == len(SMALL.methods) + 2
    assert {"sum, early+late", "arrow top1"} <= set(names)


def test_lora_soups_alone_joins_as_much_as_placed_experts_and_keeps_every_fact() -> None:
    """The explanation of `two.placed.all+all.data` on a GPU."""
    run, placed, soups = ("entities_methods", "gpu"), "sum:early+late", "lora_soups:all+all"
    others = set(committed(*run)[0].metrics.merging) - {placed, soups}
    assert [mean(*run, c, "H") for c in (placed, soups)] == [0.23, 0.23]  # here and below as explained.toml has it
    second = max(rates(*run, c, "H").mean() for c in others)
    assert second < min(rates(*run, c, "H").mean() for c in (placed, soups)) / 2
    assert len(others) - 1 == 29  # without the random adapter
    better = np.sign(rates(*run, soups, "H") - rates(*run, placed, "H")).tolist()
    assert (better.count(1), better.count(-1)) == (6, 4)
    kept = {c: [mean(*run, c, hop) for hop in ("first", "second")] for c in (placed, soups)}
    assert kept == {placed: [0.45, 0.69], soups: [0.95, 0.97]}


def test_five_worlds_lead_the_same_way_and_decide_too_little() -> None:
    """Both explanations of the run on a processor, in their numbers."""
    run, placed, soups = ("entities_methods", "cpu"), "sum:early+late", "lora_soups:all+all"
    judged, made = {row["id"]: row for row in rows(*run)}, committed(*run)[0].metrics.merging

    def lead(of_kind: str) -> list[float]:
        others = [c for m in METHODS if kind(m) == of_kind and (c := f"{m}:all+all") in made]
        return sorted(rates(*run, placed, "H") - np.max([rates(*run, c, "H") for c in others], axis=0))

    data, router = lead("data"), lead("router")
    assert data == sorted(rates(*run, placed, "H") - rates(*run, soups, "H"))  # the best of its kind in every world
    assert [mean(*run, c, "H") for c in (placed, soups)] == [0.24, 0.15]
    assert data[0] == 0 < data[1]
    assert [round(x, 2) for x in (data[-1], router[0], router[-1])] == [0.19, 0.01, 0.24]
    assert judged["two.placed.all+all.data"]["interval"][0] < 0 < judged["two.placed.all+all.router"]["interval"][0]
    row = judged["two.placed.all+all.router"]
    family = [r for r in judged.values() if r["family"] == row["family"] and r["kind"] == "hypothesis"]
    assert (round(row["p"], 3), len(family), row["alone"]) == (0.045, 3, "holds")
    on_gpu = {row["id"]: row["verdict"] for row in rows("entities_methods", "gpu")}
    assert [on_gpu[f"two.placed.all+all.{k}"] for k in ("data", "router")] == ["undecided", "holds"]
