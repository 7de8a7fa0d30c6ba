"""Learnt weights over placed experts, in a tiny world."""

from typing import Any

import pytest

from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.tasks.entities import FIRST
from tests.empirical.experiments.live import labels, live, small, verdicts, worlds_that_answer
from tests.empirical.judged import mean, rates

SUM, SOUP = "sum:early+late", "lora_soups:early+late"


SMALL = small("entities_soups")


@pytest.fixture(scope="module")
def record() -> Record:
    (cell,) = plain_english.world_cells(SMALL)
    return live("entities_soups", cell)


def test_the_weights_are_learnt_beside_the_plain_sum(record: Record) -> None:
    assert set(record.metrics.merging) == {SUM, SOUP, "random:early+late"}
    assert record.metrics.merging[SOUP] > record.metrics.merging[SUM]


def planted(record: Record, facts: float, joined: float) -> list[Record]:
    """Five worlds in which learnt weights keep and join these shares, and the sum half of its facts and a quarter."""
    metrics: Any = as_json(record.metrics)
    said = {}
    for condition, (kept, right) in {SUM: (0.5, 0.25), SOUP: (facts, joined)}.items():
        metrics["answered"][condition]["facts"] |= {hop: [round(kept * 48), 48] for hop in ("first", "second")}
        hits = round(right * 24)
        said[condition] = {"H": {"right": hits, "neither": 24 - hits, "forced": hits}}
    return worlds_that_answer(record, 5, said, metrics)


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
    found = verdicts("entities_soups", SMALL, planted(record, facts, joined))
    rows = {row: f"placed.{row}.early+late" for row in ("H", "H_forced", "first", "second", "kept")}
    assert {row: found[full] for row, full in rows.items()} == {
        row: ("hypothesis", "violated" if row in violated.split() else "holds") for row in rows
    }


def test_the_figure_has_a_row_for_every_condition(record: Record) -> None:
    names, *_ = labels("entities_soups", [record], "y")
    assert set(names) == {"sum, early+late", "lora soups", "random, early+late"}


# ------------------------------------------------------------ why rows came out otherwise, in the committed worlds


def test_first_hops_are_lost_where_the_wording_leaves_room_for_a_capital() -> None:
    """The explanation of `kept`, and of the rows on first and second hops; numbers as explained.toml has them."""
    assert FIRST.held_out == ("The home country of {x} is", "{x} was born and raised in")
    found = {cell: [mean("entities_soups", "cpu", c, cell) for c in (SOUP, SUM)]
             for cell in ("first_0", "first_1", "first", "second")}  # fmt: skip
    assert found == {"first_0": [0.83, 0.73], "first_1": [0.09, 0.17], "first": [0.46, 0.45], "second": [0.93, 0.77]}
    # the late second hop is the same, the first hop on all layers is not
    for profile, kept in (("cpu", 0.96), ("gpu", 0.97)):
        assert mean("entities", profile, "sum:all+late", "first_1") == kept
        assert mean("entities", profile, SUM, "first_1") < 0.2


def test_four_worlds_of_five_are_ahead() -> None:
    """The explanation of `H_forced` and `second`."""
    for cell, ahead, behind in (("H_forced", [0.11, 0.25], -0.01), ("second", [0.08, 0.42], -0.08)):
        apart = sorted(rates("entities_soups", "cpu", SOUP, cell) - rates("entities_soups", "cpu", SUM, cell))
        assert [round(float(x), 2) for x in (apart[0], apart[1], apart[-1])] == [behind, *ahead]
