"""Every method of the bench in a tiny world, beside the sum of placed experts."""

from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_methods.figures import plots
from empirical.experiments.plain_english_predictions import kind
from empirical.experiments.plain_english_tables import Answered, Grouped
from empirical.reuse.methods import METHODS
from tests.empirical.experiments.live import live, verdicts
from tests.empirical.judged import records as committed
from tests.empirical.judged import rows


def small(**changes: Any) -> Grouped:
    found: Grouped = catalogue.settings("entities_methods", "smoke").but(steps=3, batch=4, **changes)
    return found


@pytest.fixture(scope="module")
def record() -> Record:
    (cell,) = plain_english.world_cells(small())
    return live("entities_methods", cell)


def test_the_declared_methods_are_those_of_the_bench() -> None:
    """All but the control and those that are the sum in other words; a sum by halves is the mean."""
    listed = {m.partition("@")[0] for m in catalogue.settings("entities_methods", "cpu").methods}
    assert listed == set(METHODS) - {"random", "cat", "core_sum"}
    kinds = {m: kind(m) for m in listed}
    assert {m for m, k in kinds.items() if k == "data"} == {"regmean", "lora_soups", "lora_hub"}
    assert {m for m, k in kinds.items() if k == "router"} == {m for m in listed if m.startswith("arrow")}


def test_every_method_is_timed_and_scored_in_both_ways(record: Record) -> None:
    methods = small().methods
    conditions = {f"{m}:all+all" for m in methods} | {"sum:early+late", "random:early+late"}
    assert conditions == set(record.metrics.merging)
    assert conditions < set(record.metrics.scores)
    assert all({"H", "H_forced", "first", "second"} <= set(record.metrics.scores[c]) for c in conditions)
    assert all(record.metrics.merging[c] > 0 for c in conditions)


def planted(record: Record, right: set[str]) -> list[Record]:
    """Five worlds in which some conditions answer everything right, in free text and by choice, and others nothing."""
    metrics: Any = as_json(record.metrics)
    for condition, scored in metrics["answered"].items():
        for wording in scored["questions"].get("H", ()):
            asked = sum(wording[:6])
            counts = {"right": asked, "forced": asked} if condition in right else {"neither": asked}
            wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live("entities_methods", record.cell.but(seed=seed), metrics) for seed in range(5)]


@pytest.mark.parametrize(
    ("winner", "of_kind"), [("mean:all+all", "merge"), ("regmean:all+all", "data"), ("arrow_top1:all+all", "router")]
)
def test_one_method_that_joins_refutes_its_kind_alone(record: Record, winner: str, of_kind: str) -> None:
    found = verdicts("entities_methods", small(), planted(record, {"sum:early+late"}))
    rows = [f"two.{row}.all+all.{k}" for k in ("merge", "data", "router") for row in ("placed", "most")]
    assert {found[row] for row in rows} == {("hypothesis", "holds")}
    found = verdicts("entities_methods", small(), planted(record, {winner}))
    assert {row for row in rows if found[row][1] == "violated"} == {r for r in rows if r.endswith(of_kind)}


def test_the_figure_has_a_row_for_every_method(record: Record) -> None:
    (plot,) = plots.values()
    assert plot([], []) is None
    figure = plot([record], [])
    assert figure is not None
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert len(names) == len(small().methods) + 2
    assert {"sum, early+late", "arrow top1"} <= set(names)


def test_lora_soups_alone_joins_as_much_as_placed_experts_and_keeps_every_fact() -> None:
    """The explanation of `two.placed.all+all.data` on a GPU."""
    worlds = committed("entities_methods", "gpu")

    def rates(condition: str, cell: str) -> list[float]:
        return [w.metrics.scores[condition][cell].rate for w in worlds]

    mean = {c: float(np.mean(rates(c, "H"))) for c in worlds[0].metrics.merging}
    placed, soups = "sum:early+late", "lora_soups:all+all"
    second = max(m for c, m in mean.items() if c not in (placed, soups))
    assert [round(mean[c], 2) for c in (placed, soups)] == [0.23, 0.23]  # here and below as explained.toml has it
    assert second < min(mean[placed], mean[soups]) / 2
    assert len(mean) - 3 == 29  # neither the two nor the random adapter
    better = np.sign(np.subtract(rates(soups, "H"), rates(placed, "H"))).tolist()
    assert (better.count(1), better.count(-1)) == (6, 4)
    kept = {c: [round(float(np.mean(rates(c, hop))), 2) for hop in ("first", "second")] for c in (placed, soups)}
    assert kept == {placed: [0.45, 0.69], soups: [0.95, 0.97]}


def test_five_worlds_lead_the_same_way_and_decide_too_little() -> None:
    """Both explanations of the run on a processor, in their numbers."""
    worlds, judged = committed("entities_methods", "cpu"), {row["id"]: row for row in rows("entities_methods", "cpu")}

    def rates(condition: str) -> list[float]:
        return [w.metrics.scores[condition]["H"].rate for w in worlds]

    def lead(of_kind: str) -> list[float]:
        others = [f"{m}:all+all" for m in METHODS if kind(m) == of_kind and f"{m}:all+all" in worlds[0].metrics.merging]
        return sorted(np.subtract(rates(placed), np.max([rates(c) for c in others], axis=0)))

    placed, soups = "sum:early+late", "lora_soups:all+all"
    data, router = lead("data"), lead("router")
    assert data == sorted(np.subtract(rates(placed), rates(soups)))  # the best of its kind in every world
    assert [round(float(np.mean(rates(c))), 2) for c in (placed, soups)] == [0.24, 0.15]
    assert data[0] == 0 < data[1]
    assert [round(x, 2) for x in (data[-1], router[0], router[-1])] == [0.19, 0.01, 0.24]
    low = {k: judged[f"two.placed.all+all.{k}"]["interval"][0] for k in ("data", "router")}
    assert low["data"] < 0 < low["router"]
    p = judged["two.placed.all+all.router"]["p"]
    family = [row for row in judged.values() if row["family"] == judged["two.placed.all+all.router"]["family"]]
    assert (round(p, 3), len([r for r in family if r["kind"] == "hypothesis"])) == (0.045, 3)
    assert judged["two.placed.all+all.router"]["alone"] == "holds"
    on_gpu = {row["id"]: row["verdict"] for row in rows("entities_methods", "gpu")}
    assert [on_gpu[f"two.placed.all+all.{k}"] for k in ("data", "router")] == ["undecided", "holds"]
