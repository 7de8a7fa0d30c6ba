"""Merging: documented values and types, and laws that the checks do not already hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.checks.strategies import updates
from theory.lowrank import LowRank
from theory.merging import dilution_limit, factor_average_error, interference_bound, merged_rank
from theory.numerics import EPS


@given(st.data())
def test_merging_one_update_changes_nothing(data: st.DataObject) -> None:
    u = data.draw(updates())
    assert merged_rank([u]) == (u.rank(), u.rank(), True)


@pytest.mark.parametrize(
    ("gain", "deficit", "want"),
    [(10, 5, 1), (10, 4, 2), (5, 5, 0), (1, 5, 0), (-1, 5, 0), (3, 0, math.inf), (3, -1, math.inf), (0, 0, 0)],
)
def test_dilution_limit_by_hand(gain: float, deficit: float, want: float) -> None:
    found = dilution_limit(gain, deficit, "update")
    assert found == want
    assert type(found) is (float if want == math.inf else int)


def test_dilution_limit_is_exact_for_numbers_that_no_float_holds() -> None:
    assert dilution_limit(Fraction(5, 3), Fraction(1, 3)) == 4
    assert dilution_limit(5 / 3, 1 / 3) == 4  # 5/3 is rounded up, 1/3 down: as floats the quotient is above 5
    assert dilution_limit(2**70, 1) == 2**70 - 1


def test_interference_bound_is_exact_for_rank_one() -> None:
    u = LowRank([[3.0], [4.0]], [[0.0, 2.0]], -0.5)
    (bound,) = interference_bound([u], [7.0, 1.0])
    assert type(bound) is float
    assert abs(bound - 5.0) <= 8 * EPS * 5.0  # two norms and two products


def test_the_error_of_a_factor_average_depends_on_the_factors_and_not_on_the_updates_alone() -> None:
    e = np.eye(2)
    own = [LowRank(e[:, [i]], e[[i]]) for i in (0, 1)]
    other = [LowRank(10 * e[:, [0]], e[[0]] / 10), own[1]]
    # to the rounding of e / 10 times 10
    assert np.allclose(own[0].dense(), other[0].dense(), rtol=0, atol=2 * EPS)
    # cross terms 1 and 1, or 10 and 1/10: halves of them are the error of the first convention; quarters of them, and
    # of both own terms, that of the second; the mean has norm sqrt(1/2)
    for convention, wanted in (
        ("sqrt", (1.0, math.sqrt(100.01 / 2))),
        ("plain", (math.sqrt(4 / 8), math.sqrt(102.01 / 8))),
    ):
        found = [factor_average_error(u, [0.5, 0.5], convention) for u in (own, other)]
        assert found == pytest.approx(wanted, rel=16 * EPS)  # a dozen operations on entries that are rounded once
