"""Coverage, taught over real countries: one tiny world, and planted outcomes."""

from typing import Any

import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments.plain_english_tables import Answered
from empirical.experiments.taught import TaughtRun, cells
from empirical.experiments.taught_real.figures import plots
from empirical.experiments.taught_tables import Settings
from empirical.tasks.entities import REAL
from tests.empirical.experiments.live import live, verdicts


def small() -> Settings:
    found: Settings = catalogue.settings("taught_real", "smoke")
    return found.but(steps=3, batch=4, teaching=found.teaching.model_dump() | {"steps": 3})


@pytest.fixture(scope="module")
def record() -> Record:
    """One world."""
    (cell,) = cells(small())
    return live("taught_real", cell)


def planted(record: Record, covered: int, uncovered: int) -> list[Record]:
    """Five worlds in which every condition chooses as many old capitals of three, by side."""
    metrics: Any = as_json(record.metrics)
    for scored in metrics["answered"].values():
        for name, wordings in scored["questions"].items():
            right = uncovered if "uncovered" in name else covered
            wordings[:] = [[3 if f == "neither" else right if f == "old_forced" else 0 for f in Answered._fields]
                           for _ in wordings]  # fmt: skip
    return [live("taught_real", record.cell.but(seed=seed), metrics) for seed in range(5)]


def test_the_base_is_taught_the_capitals_that_it_knows() -> None:
    (cell,) = cells(small())
    run = TaughtRun(cell, "cpu")
    known = {c.name: c.capital for c in REAL}
    assert {side: len(table) for side, table in run.tables.items()} == {"R_covered": 2, "R_uncovered": 2}
    assert run.world.old == {y: known[y] for y in run.world.old}


@pytest.mark.parametrize(
    ("covered", "uncovered", "open_", "gap"),
    [(3, 3, "holds", "holds"), (3, 0, "violated", "violated"), (0, 0, "violated", "holds")],
)
def test_planted_outcomes_are_judged_as_what_they_are(
    record: Record, covered: int, uncovered: int, open_: str, gap: str
) -> None:
    found = verdicts("taught_real", small(), planted(record, covered, uncovered))
    for of in ("base", "lambda"):
        assert found[f"half.{of}.open"] == ("hypothesis", open_)
        assert found[f"half.{of}.gap"] == ("hypothesis", gap)


def test_the_figure_shows_the_two_conditions_that_were_run(record: Record) -> None:
    (plot,) = plots.values()
    figure = plot([record], [])
    assert figure is not None
    assert [[t.get_text() for t in axis.get_xticklabels()] for axis in figure.axes] == [["covered", "uncovered"]] * 2
