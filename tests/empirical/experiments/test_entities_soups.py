"""Learnt weights over placed experts, in a tiny world."""

from typing import Any

import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_soups.figures import plots
from empirical.experiments.plain_english_tables import Answered, Grouped
from tests.empirical.experiments.live import live, verdicts

SUM, SOUP = "sum:early+late", "lora_soups:early+late"


def small() -> Grouped:
    found: Grouped = catalogue.settings("entities_soups", "smoke").but(steps=3, batch=4)
    return found


@pytest.fixture(scope="module")
def record() -> Record:
    (cell,) = plain_english.world_cells(small())
    return live("entities_soups", cell)


def test_the_weights_are_learnt_beside_the_plain_sum(record: Record) -> None:
    assert set(record.metrics.merging) == {SUM, SOUP, "random:early+late"}
    assert record.metrics.merging[SOUP] > record.metrics.merging[SUM]


def planted(record: Record, facts: float, joined: float) -> list[Record]:
    """Five worlds in which learnt weights keep and join these shares, and the sum half of its facts and a quarter."""
    metrics: Any = as_json(record.metrics)
    for condition, (kept, right) in {SUM: (0.5, 0.25), SOUP: (facts, joined)}.items():
        scored = metrics["answered"][condition]
        for hop in ("first", "second"):
            scored["facts"][hop] = [round(kept * 48), 48]
        for wording in scored["questions"]["H"]:
            hits = round(right * 24)
            counts = {"right": hits, "neither": 24 - hits, "forced": hits}
            wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live("entities_soups", record.cell.but(seed=seed), metrics) for seed in range(5)]


@pytest.mark.parametrize(
    ("facts", "joined", "violated"),
    [
        (1.0, 0.75, ""),
        (0.1, 0.75, "first second kept"),
        (1.0, 0.0, "H H_forced"),
        (0.1, 0.0, "first second kept H H_forced"),
    ],
)
def test_each_prediction_holds_and_breaks_with_what_it_speaks_of(
    record: Record, facts: float, joined: float, violated: str
) -> None:
    found = verdicts("entities_soups", small(), planted(record, facts, joined))
    rows = {row: f"placed.{row}.early+late" for row in ("H", "H_forced", "first", "second", "kept")}
    assert {row: found[full] for row, full in rows.items()} == {
        row: ("hypothesis", "violated" if row in violated.split() else "holds") for row in rows
    }


def test_the_figure_has_a_row_for_every_condition(record: Record) -> None:
    (plot,) = plots.values()
    assert plot([], []) is None
    figure = plot([record], [])
    assert figure is not None
    assert {t.get_text() for t in figure.axes[0].get_yticklabels()} == {
        "sum, early+late", "lora soups, early+late", "random, early+late"
    }  # fmt: skip
