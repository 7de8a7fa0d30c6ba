"""What entities leaves open, in one tiny world of every group: layers, facts, names, methods."""

from typing import Any

import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_wide.figures import plots
from empirical.experiments.plain_english_tables import FEW, Answered, Grouped
from empirical.tasks.entities import FIRST, REAL
from empirical.tasks.sentences import Ragged
from tests.empirical.experiments.live import live, verdicts


def small(**changes: Any) -> Grouped:
    found: Grouped = catalogue.settings("entities_wide", "smoke").but(steps=3, batch=4, **changes)
    return found


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """The world of each group."""
    return {cell.group: live("entities_wide", cell) for cell in plain_english.world_cells(small())}


def test_every_group_asks_what_it_is_there_for(records: dict[str, Record]) -> None:
    scan, methods = records["scan"], records["methods"]
    assert set(scan.metrics.answered) == {"base", "first_0-0", "first_1-1", "first_0-1"}
    ways = {f"{m}:{on}" for m in methods.cell.methods for on in methods.cell.libraries}
    assert ways <= set(methods.metrics.answered)
    assert "first" not in methods.metrics.answered["general_all"].facts
    for name in ("made_up", "famous"):
        questions = records[name].metrics.answered["sum:early+late"].questions
        assert {"R", "H", "F"} <= set(questions)
    famous = {x for c in REAL for x in c.people}
    for name in ("made_up", "famous"):
        run = plain_english.WorldRun(records[name].cell, "cpu")
        assert {p.name in famous for p in run.world.people} == {name == "famous"}


def test_a_method_sees_a_few_of_each_adapter_s_own_facts(records: dict[str, Record]) -> None:
    run = plain_english.WorldRun(records["methods"].cell, "cpu")

    def texts(few: Ragged) -> list[str]:
        return [run.reader.tokenizer.decode(t[:n]) for t, n in zip(few.tokens, few.lengths, strict=True)]

    first, second = (texts(run.few(run.shown(e))) for e in ("first_all", "second_all"))
    assert len(first) == FEW > len(run.world.people)
    assert all(any(p.name in t and p.country in t for p in run.world.people) for t in first)
    assert all(any(y in t and run.world.capital[y] in t for y in run.world.countries["H"]) for t in second)
    assert not [
        t for t in first if any(t.startswith(w.format(x=p.name)) for w in FIRST.held_out for p in run.world.people)
    ]
    assert len(run.job("general_all").parts) == len(run.job("first_all").parts) - 1
    assert sum(p.weight for p in run.job("general_all").parts) == pytest.approx(0.6, abs=1e-12)  # roundings of shares


def test_a_method_that_asks_for_general_adapters_needs_one() -> None:
    group = {"name": "methods", "worlds": 1, "first_seed": 100, "methods": ["arrow_top1_subtract"]}
    with pytest.raises(ValueError, match="methods: arrow_top1_subtract: expected the expert general_all"):
        plain_english.world_cells(small(groups=[group]))


def planted(record: Record, worlds: int, changes: dict[str, dict[str, dict[str, int]]]) -> list[Record]:
    """Worlds with the metrics of one, some conditions answering all wordings alike."""
    metrics: Any = as_json(record.metrics)
    for condition, families in changes.items():
        for family, counts in families.items():
            for wording in metrics["answered"][condition]["questions"][family]:
                wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live("entities_wide", record.cell.but(seed=seed), metrics) for seed in range(worlds)]


def test_planted_outcomes_are_judged_as_what_they_are(records: dict[str, Record]) -> None:
    none, all_ = {"neither": 4}, {"right": 4, "old": 0, "forced": 4, "old_forced": 4}
    blocks = ("first_0-0", "first_1-1", "first_0-1")
    late, early = (planted(records["scan"], 20, {b: {"H": a} for b, a in zip(blocks, answers, strict=True)})
                   for answers in ((none, none, all_), (all_, all_, none)))  # fmt: skip
    assert verdicts("entities_wide", small(), late)["scan.depth.forced"] == ("hypothesis", "violated")
    assert verdicts("entities_wide", small(), early)["scan.depth.forced"] == ("hypothesis", "holds")
    assert verdicts("entities_wide", small(), late)["scan.depth.drop"][1] == "violated"
    assert verdicts("entities_wide", small(), early)["scan.depth.drop"][1] == "holds"
    facts = planted(records["made_up"], 5, {"sum:early+late": {"R": all_, "H": none, "F": all_}})
    found = verdicts("entities_wide", small(), facts)
    assert found["made_up.R.H"][1] == "holds"
    assert found["made_up.H.F"][1] == "violated"
    ways = {f"{m}:all+all": {"H": none} for m in records["methods"].cell.methods}
    placed = {"sum:early+late": {"H": {"forced": 2, "neither": 4}}}
    best = planted(records["methods"], 5, ways | placed | {"mean:all+all": {"H": all_}})
    assert verdicts("entities_wide", small(), best)["methods.best.all+all"][1] == "violated"
    least = planted(records["methods"], 5, ways | placed)
    assert verdicts("entities_wide", small(), least)["methods.best.all+all"][1] == "holds"


def test_the_figure_names_every_block(records: dict[str, Record]) -> None:
    (draw,) = plots.values()
    assert draw([], []) is None
    figure = draw([records["scan"]], [])
    assert figure is not None
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0-0", "1-1", "0-1"]
