"""The rank of experts that are added, in a tiny world."""

import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.entities_ranks.run import cells
from tests.empirical.experiments.live import labels, live, small, verdicts, worlds_that_answer
from tests.empirical.judged import rates

PLACED, EVERYWHERE = "sum:early+late", "sum:all+all"


SMALL = small("entities_ranks")


@pytest.fixture(scope="module")
def pair() -> list[Record]:
    return [live("entities_ranks", cell) for cell in cells(SMALL)]


def test_a_world_is_there_once_for_each_rank(pair: list[Record]) -> None:
    low, high = (r.cell for r in pair)
    assert (low.rank, low.rate, high.rank, high.rate) == (2, 8e-3, 8, 4e-3)
    assert low.but(rank=high.rank, rate=high.rate) == high
    assert {c.rank for c in cells(catalogue.settings("entities_ranks", "gpu"))} == {4, 64}


def planted(pair: list[Record], placed: tuple[float, float], everywhere: tuple[float, float]) -> list[Record]:
    """Ten worlds in which the sums answer these shares, at the low rank and at the high one."""
    found = []
    for record, shares in zip(pair, zip(placed, everywhere, strict=True), strict=True):
        hits = {c: round(24 * right) for c, right in zip((PLACED, EVERYWHERE), shares, strict=True)}
        said = {c: {"H": {"right": n, "neither": 24 - n, "forced": n}} for c, n in hits.items()}
        found += worlds_that_answer(record, 10, said)
    return found


@pytest.mark.parametrize(
    ("placed", "everywhere", "violated"),
    [
        ((0.75, 0.75), (0.25, 0.5), ""),
        ((0.75, 0.25), (0.25, 0.5), "blind.8 same.joined sum.8.free"),
        ((0.25, 0.25), (0.5, 0.25), "blind.2 blind.8 sum.2.forced sum.2.free rises"),
        ((0.75, 0.75), (0.5, 0.25), "rises"),
    ],
)
def test_each_prediction_holds_and_breaks_with_what_it_speaks_of(
    pair: list[Record], placed: tuple[float, float], everywhere: tuple[float, float], violated: str
) -> None:
    found = verdicts("entities_ranks", SMALL, planted(pair, placed, everywhere))
    rows = ("blind.2", "blind.8", "same.joined", "sum.2.forced", "sum.2.free", "sum.8.free", "rises")
    broken = {row: found[f"few.{row}"][1] for row in rows}
    assert {row for row, verdict in broken.items() if verdict == "violated"} == set(violated.split())


def test_the_figure_has_a_panel_for_each_group(pair: list[Record]) -> None:
    assert labels("entities_ranks", pair)[0] == ["2", "8"]


# ------------------------------------------------------------ why a row came out otherwise, in the committed worlds


def test_the_sum_over_all_layers_answers_as_much_at_either_rank() -> None:
    """The explanation of `rises`; numbers as explained.toml has them."""
    low, high = (rates("entities_ranks", "gpu", EVERYWHERE, "H_forced", group="few", rank=rank) for rank in (4, 64))
    assert [round(float(found.mean()), 2) for found in (low, high)] == [0.21, 0.21]
    assert sum(high > low) == 5
