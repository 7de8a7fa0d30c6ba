"""Coverage, taught over real countries: one tiny world, and planted outcomes."""

from typing import Any

import pytest

from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments.plain_english_tables import Answered
from empirical.experiments.taught import TaughtRun, cells
from empirical.experiments.taught_predictions import SIDES
from empirical.tasks.entities import REAL
from tests.empirical.experiments.live import labels, live, small, verdicts
from tests.empirical.judged import rates

SMALL = small("taught_real")


@pytest.fixture(scope="module")
def record() -> Record:
    """One world."""
    (cell,) = cells(SMALL)
    return live("taught_real", cell)


def planted(record: Record, covered: int, uncovered: int, joined: int) -> list[Record]:
    """Five worlds in which as many old capitals of three are answered, by side, and a sum chooses as many new ones."""
    metrics: Any = as_json(record.metrics)
    for condition, scored in metrics["answered"].items():
        for name, wordings in scored["questions"].items():
            old = uncovered if "uncovered" in name else covered
            new = joined if condition.startswith("sum") else 0
            counts = {"old": old, "neither": 3 - old, "old_forced": old, "forced": new}
            wordings[:] = [[counts.get(field, 0) for field in Answered._fields]] * len(wordings)
    return [live("taught_real", record.cell.but(seed=seed), metrics) for seed in range(5)]


def test_the_base_is_taught_the_capitals_that_it_knows() -> None:
    (cell,) = cells(SMALL)
    run = TaughtRun(cell, "cpu")
    known = {c.name: c.capital for c in REAL}
    assert {side: len(table) for side, table in run.tables.items()} == {"R_covered": 2, "R_uncovered": 2}
    assert run.world.old == {y: known[y] for y in run.world.old}


@pytest.mark.parametrize(
    ("covered", "uncovered", "open_", "gap", "free"),
    [
        (3, 3, "holds", "holds", "undecided"),
        (3, 0, "violated", "violated", "holds"),
        (0, 3, "holds", "holds", "violated"),
        (0, 0, "violated", "holds", "undecided"),
    ],
)
def test_planted_outcomes_are_judged_as_what_they_are(
    record: Record, covered: int, uncovered: int, open_: str, gap: str, free: str
) -> None:
    found = verdicts("taught_real", SMALL, planted(record, covered, uncovered, joined=3))
    for of in ("base", "lambda"):
        assert [found[f"half.{of}.{row}"] for row in ("open", "gap", "free")] == [
            ("hypothesis", verdict) for verdict in (open_, gap, free)
        ]


@pytest.mark.parametrize(("joined", "verdict"), [(3, "holds"), (0, "undecided")])
def test_a_planted_sum_joins_or_does_not(record: Record, joined: int, verdict: str) -> None:
    assert verdicts("taught_real", SMALL, planted(record, 3, 3, joined))["half.sum.random"][1] == verdict


def test_the_figure_shows_both_sides_in_every_panel(record: Record) -> None:
    assert labels("taught_real", [record]) == [["covered", "uncovered"]] * 4


# ------------------------------------------------------------ what the committed worlds show


def test_untaught_real_countries_are_open_in_every_world_and_free_text_is_not() -> None:
    """What paper and recipe say."""
    run = ("taught_real", "cpu")
    forced, free = ([rates(*run, "first_early", f"R_{side}_old{how}") for side in SIDES] for how in ("_forced", ""))
    assert (forced[1] > 4 / 6).all()  # a guess has a sixth
    assert (forced[0] - forced[1] < 0.3).all()
    assert (free[0] - free[1] > 0.4).all()
    # what is said over untaught countries is another capital or the country, both more often than theirs
    others = [rates(*run, "first_early", f"R_uncovered_{kind}").mean() for kind in ("other_capital", "country")]
    assert min(others) > free[1].mean()
    # the sum gets through on either side, in the mean of the worlds
    for side in SIDES:
        both = [rates(*run, f"{how}:early+late", f"R_{side}_forced").mean() for how in ("sum", "random")]
        assert both[0] > both[1] + 0.1
