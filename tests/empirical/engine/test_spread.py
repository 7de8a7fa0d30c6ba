"""What worlds differ by is split into training and world as the analysis of variance does it."""

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.spread import Repeats, table
from tests.empirical.judged import records


def test_planted_deviations_are_found() -> None:
    rng = np.random.default_rng(0)
    worlds = rng.normal(0.5, 0.08, (4000, 1)) + rng.normal(0, 0.03, (4000, 3))
    (row,) = table([Repeats("x", worlds.tolist())])
    assert (row.what, row.worlds, row.repeats) == ("x", 4000, 3)
    assert row.mean == pytest.approx(0.5, abs=0.005)
    assert row.training == pytest.approx(0.03, rel=0.02)
    assert row.world == pytest.approx(0.08, rel=0.04)


def test_by_hand() -> None:
    (row,) = table([Repeats("x", [[1.0, 3.0], [5.0, 7.0]])])
    # about the means 2 and 6: variance 2 within; the means vary by 8, of which 2 / 2 is training
    assert (row.mean, row.training, row.world) == pytest.approx((4.0, 2**0.5, 7**0.5))
    (row,) = table([Repeats("x", [[0.0, 4.0], [1.0, 3.0]])])
    assert row.world == 0.0  # the means are equal


@pytest.mark.parametrize("worlds", [[], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 2.0], [1.0, 2.0, 3.0]]])
def test_what_cannot_be_split_is_refused(worlds: list[list[float]]) -> None:
    with pytest.raises(ValueError, match=r"^x: expected two worlds or more, of equally many repeats"):
        table([Repeats("x", worlds)])


def test_the_committed_worlds_of_coverage_are_split() -> None:
    found = records("coverage", "cpu")
    repeats = catalogue.load("coverage").repeats
    assert repeats is not None
    rows = table(repeats(found))
    assert len(rows) > 3
    headline = [r.metrics for r in found if getattr(r.metrics, "sets", None) and len(r.metrics.sets) > 1]
    assert {(row.worlds, row.repeats) for row in rows} == {(len(headline), len(headline[0].sets))}
    assert all(0 < row.training < 0.2 and 0 <= row.world < 0.2 for row in rows)
