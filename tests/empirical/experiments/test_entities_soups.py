"""Learnt weights over placed experts, in a tiny world."""

from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_soups.figures import plots
from empirical.experiments.plain_english_tables import Answered, Grouped
from empirical.tasks.entities import FIRST
from tests.empirical.experiments.live import live, verdicts
from tests.empirical.judged import records as committed

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
        "sum, early+late", "lora soups", "random, early+late"
    }  # fmt: skip


# ------------------------------------------------------------ why rows came out otherwise, in the committed worlds


def share(worlds: list[Record], condition: str, cell: str) -> float:
    return round(float(np.mean([w.metrics.scores[condition][cell].rate for w in worlds])), 2)


def test_first_hops_are_lost_where_the_wording_leaves_room_for_a_capital() -> None:
    """The explanation of `kept`, and of the rows on first and second hops; numbers as explained.toml has them."""
    worlds = committed("entities_soups", "cpu")
    assert FIRST.held_out == ("The home country of {x} is", "{x} was born and raised in")
    assert [share(worlds, c, cell) for cell in ("first_0", "first_1") for c in (SOUP, SUM)] == [0.83, 0.73, 0.09, 0.17]
    assert [share(worlds, c, cell) for cell in ("first", "second") for c in (SOUP, SUM)] == [0.46, 0.45, 0.93, 0.77]
    # the late second hop is the same, the first hop on all layers is not
    for profile, kept in (("cpu", 0.96), ("gpu", 0.97)):
        there = [w for w in committed("entities", profile) if "sum:all+late" in getattr(w.metrics, "scores", {})]
        assert share(there, "sum:all+late", "first_1") == kept
        assert share(there, "sum:early+late", "first_1") < 0.2


def test_four_worlds_of_five_are_ahead() -> None:
    """The explanation of `H_forced` and `second`."""
    for cell, ahead, behind in (("H_forced", [0.11, 0.25], -0.01), ("second", [0.08, 0.42], -0.08)):
        apart = sorted(
            w.metrics.scores[SOUP][cell].rate - w.metrics.scores[SUM][cell].rate
            for w in committed("entities_soups", "cpu")
        )
        assert [round(apart[0], 2), *(round(x, 2) for x in (apart[1], apart[-1]))] == [behind, *ahead]
