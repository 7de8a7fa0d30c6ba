"""What entities leaves open, in one tiny world of every group: layers, facts, names, rehearsal."""

from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_wide.figures import plots
from empirical.experiments.plain_english_tables import Answered, Grouped
from empirical.tasks.entities import REAL
from tests.empirical.experiments.live import live, verdicts
from tests.empirical.judged import records as committed


def small(**changes: Any) -> Grouped:
    found: Grouped = catalogue.settings("entities_wide", "smoke").but(steps=3, batch=4, **changes)
    return found


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """The world of each group."""
    return {cell.group: live("entities_wide", cell) for cell in plain_english.world_cells(small())}


def test_every_group_asks_what_it_is_there_for(records: dict[str, Record]) -> None:
    assert set(records["scan"].metrics.answered) == {"base", "first_0-0", "first_1-1", "first_0-1"}
    assert {"first_all", "first_all_typed"} <= set(records["typed"].metrics.answered)
    for name in ("made_up", "famous"):
        questions = records[name].metrics.answered["sum:early+late"].questions
        assert {"R", "H", "F"} <= set(questions)
    famous = {x for c in REAL for x in c.people}
    for name in ("made_up", "famous"):
        run = plain_english.WorldRun(records[name].cell, "cpu")
        assert {p.name in famous for p in run.world.people} == {name == "famous"}


def planted(record: Record, worlds: int, changes: dict[str, dict[str, dict[str, int]]]) -> list[Record]:
    """Worlds with the metrics of one, some conditions answering all wordings alike."""
    metrics: Any = as_json(record.metrics)
    for condition, families in changes.items():
        for family, counts in families.items():
            for wording in metrics["answered"][condition]["questions"][family]:
                wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live("entities_wide", record.cell.but(seed=seed), metrics) for seed in range(worlds)]


def test_planted_outcomes_are_judged_as_what_they_are(records: dict[str, Record]) -> None:
    none, all_, old = {"neither": 4}, {"right": 4, "forced": 4, "old_forced": 4}, {"old": 4, "old_forced": 4}
    blocks = ("first_0-0", "first_1-1", "first_0-1")
    late, early = (planted(records["scan"], 20, {b: {"H": a} for b, a in zip(blocks, answers, strict=True)})
                   for answers in ((none, none, old), (old, old, none)))  # fmt: skip
    assert verdicts("entities_wide", small(), late)["scan.depth.forced"] == ("hypothesis", "violated")
    assert verdicts("entities_wide", small(), early)["scan.depth.forced"] == ("hypothesis", "holds")
    assert verdicts("entities_wide", small(), late)["scan.depth.free"][1] == "violated"
    assert verdicts("entities_wide", small(), early)["scan.depth.free"][1] == "holds"
    facts = planted(records["made_up"], 5, {"sum:early+late": {"R": all_, "H": none, "F": all_}})
    found = verdicts("entities_wide", small(), facts)
    assert found["made_up.R.H"][1] == "holds"
    assert found["made_up.H.F"][1] == found["made_up.F.blind"][1] == "violated"
    typed = {"first_all_typed": {"H": old}, "first_all": {"H": {"country": 4, "old_forced": 4}},
             "first_early_typed": {"H": none}, "first_early": {"H": old}}  # fmt: skip
    found = verdicts("entities_wide", small(), planted(records["typed"], 20, typed))
    assert found["typed.lambda.all.free"][1] == found["typed.country.all"][1] == "holds"
    assert found["typed.lambda.all.forced"][1] == "holds"
    assert found["typed.lambda.early.free"][1] == found["typed.lambda.early.forced"][1] == "violated"


def test_the_figures_name_every_block_and_every_kind(records: dict[str, Record]) -> None:
    scan, kinds = plots.values()
    assert scan([], []) is None
    assert kinds([records["scan"]], []) is None
    figure = scan([records["scan"]], [])
    assert figure is not None
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0-0", "1-1", "0-1"]
    figure = kinds(list(records.values()), [])
    assert figure is not None
    made_up, famous, typed = ([t.get_text() for t in axis.get_xticklabels()] for axis in figure.axes)
    assert made_up == famous == ["R", "H", "F"]
    assert typed == ["early", "early, direct", "all", "all, direct"]


# ------------------------------------------------------------ why rows stay undecided, in the committed worlds


def of_group(group: str) -> list[Record]:
    return [r for r in committed("entities_wide", "cpu") if r.cell.group == group]


def test_rehearsed_direct_questions_take_the_place_of_countries_alone() -> None:
    """The explanation of `typed.lambda.early.free`."""
    scores = [w.metrics.scores for w in of_group("typed")]
    country, rest = {}, {}
    for expert in ("first_early", "first_early_typed", "first_all"):
        country[expert] = np.array([s[expert]["H_country"].rate for s in scores])
        rest[expert] = np.array([s[expert]["H_old"].rate for s in scores]) / (1 - country[expert])
    assert (country["first_early_typed"] < country["first_early"]).all()
    means = [country[e].mean() for e in ("first_early", "first_early_typed", "first_all")]
    assert [round(float(m), 2) for m in means] == [0.25, 0.09, 0.82]  # as explained.toml has it
    assert abs(rest["first_early_typed"].mean() - rest["first_early"].mean()) < 0.05
    gain = [s["first_early_typed"]["H_old"].rate - s["first_early"]["H_old"].rate for s in scores]
    assert sum(g < 0 for g in gain) == 1


def test_one_world_of_five_is_above_chance_on_made_up_countries_of_famous_people() -> None:
    """The explanation of `famous.F.blind`."""
    counts = [w.metrics.scores["sum:early+late"]["F_forced"] for w in of_group("famous")]
    assert sum(c.right > c.asked / 12 for c in counts) == 1
    assert np.mean([c.rate for c in counts]) < 1 / 12


def test_made_up_capitals_and_made_up_countries_of_made_up_people_differ_in_two_worlds() -> None:
    """The explanations of `made_up.H.F` and `made_up.F.blind`."""
    scores = [w.metrics.scores for w in of_group("made_up")]
    rates = {f: np.array([s["sum:early+late"][f"{f}_forced"].rate for s in scores]) for f in "RHF"}
    apart = rates["H"] - rates["F"]
    assert sorted(np.round(apart, 2).tolist())[-2:] == [0.22, 0.22]
    assert np.sum(np.abs(apart) < 0.06) == 3
    assert (rates["R"] > np.maximum(rates["H"], rates["F"])).all()
    assert np.sum(rates["F"] > 1 / 12 + 0.1) == 3
    random = np.array([s["random:early+late"]["F_forced"].rate for s in scores])
    assert round(float(random.mean()), 2) == 0.08  # as explained.toml has it
    famous = [w.metrics.scores["sum:early+late"] for w in of_group("famous")]
    means = [rates["H"].mean(), rates["F"].mean(), *(np.mean([s[f"{f}_forced"].rate for s in famous]) for f in "HF")]
    assert [round(float(m), 2) for m in means] == [0.24, 0.16, 0.33, 0.07]
