"""Behaviour of theory.continual beyond its checks: documented values, types, messages."""

import math
from fractions import Fraction

import numpy as np
import pytest

from theory.continual import exposures, round_dilution, rounds_to_answer, route_drift, telescoping_rank
from theory.lowrank import LowRank


def test_documented_values_and_types() -> None:
    assert round_dilution(4, 1) == Fraction(1, 4)
    assert round_dilution(2, 10) == 1 - Fraction(1, 2**10)
    assert round_dilution(3, 0) == 0
    assert rounds_to_answer(14.4, 8.2, 4) == 3
    assert type(rounds_to_answer(14.4, 8.2, 4)) is int
    assert rounds_to_answer(1.0, 0.0, 5) == 1  # a tie is no answer
    assert rounds_to_answer(1.0, -0.5, 5) == 0
    assert rounds_to_answer(1, 2, 5) == math.inf
    assert telescoping_rank(4, 8, 1000, reset=False) == 32
    assert telescoping_rank(4, 8, 1000, reset=True) == 32_000
    assert exposures(Fraction(1, 4), 32, 200, 1380) == Fraction(80, 69)
    assert exposures(0.5, 2, 3, 1) == 3


def test_gains_of_any_size() -> None:
    assert rounds_to_answer(10**400, 10**399, 2) == 1
    assert rounds_to_answer(Fraction(10**30 + 1, 10**30), 1, 3) == 171  # 30 ln 10 / ln 1.5 = 170.4


@pytest.mark.parametrize(("heads", "message"), [(0, "heads: expected an integer >= 1, got 0"), (2.0, "heads")])
def test_what_is_wrong_is_named(heads: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        round_dilution(heads, 1)


def test_a_share_is_no_percentage() -> None:
    with pytest.raises(ValueError, match=r"share: expected a number in \[0, 1\], got 25"):
        exposures(25, 32, 200, 1380)


def test_the_drift_of_a_route() -> None:
    old = LowRank([[1.0], [0.0]], [[1.0, 0.0]], 2.0)
    new = LowRank([[1.0], [1.0]], [[1.0, 3.0]], 2.0)
    drift = route_drift([[0.5]], old, new)
    assert np.array_equal(drift.dense(), [[0.0, 3.0], [1.0, 3.0]])
    assert np.array_equal(drift.apply([1.0, 0.0]), [0.0, 1.0])  # what an old fact sees
    with pytest.raises(ValueError, match=r"after: expected shape, columns and scale"):
        route_drift([[0.5]], old, LowRank([[1.0], [1.0]], [[1.0, 3.0]], 1.0))
