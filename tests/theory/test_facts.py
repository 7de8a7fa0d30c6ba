"""Facts: documented values and types, and laws that the checks do not already hold."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from theory.checks.strategies import seeds, sizes
from theory.facts import (
    capacity_ceiling,
    circle_margin,
    counting_bound,
    least_rank,
    margin_rank_floor,
    random_code_eps,
)
from theory.lowrank import LowRank
from theory.numerics import stream


@given(sizes, sizes, sizes, st.integers(0, 4), seeds)
@example(1, 1, 3, 4, 2971739)  # four products of 1 x 1 factors that nearly cancel
def test_a_planted_update_is_feasible_and_never_cheaper(out: int, in_: int, n: int, r: int, seed: int) -> None:
    rng = stream(seed)
    keys = rng.standard_normal((in_, n))
    planted = LowRank(rng.standard_normal((out, r)), rng.standard_normal((r, in_)))
    for got in (least_rank(keys, planted), least_rank(keys, planted.apply(keys))):
        assert got.feasible
        assert got.rank <= planted.rank()
        assert isinstance(got.rank, int)
        assert isinstance(got.feasible, bool)


def test_keys_of_very_different_size_are_separate_facts() -> None:
    keys = np.diag([1e-150, 1.0, 1e150])
    got = least_rank(keys, keys)
    assert (got.feasible, got.rank) == (True, 3)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"^D: expected 3 columns, one per key, got 2 columns$"):
        least_rank(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^eps: expected a number >= 0, got -1$"):
        margin_rank_floor(3, -1)
    with pytest.raises(ValueError, match=r"^log_hypotheses: expected a number >= 0, got -0\.5$"):
        counting_bound(-0.5, 3, 3)
    with pytest.raises(ValueError, match=r"^n_values: expected an integer >= 1, got 0$"):
        capacity_ceiling(3, 3, 0)


@pytest.mark.parametrize(("n", "eps", "floor"), [(1, 0.3, 1), (7, 0.0, 7), (28, 1 / 3, 7), (1000, 0.1, 91), (5, 2, 1)])
def test_margin_floor_values(n: int, eps: float, floor: int) -> None:
    assert margin_rank_floor(n, eps) == floor


@given(st.integers(2, 400), st.integers(1, 50), seeds)
@settings(max_examples=30, deadline=None)
def test_random_codes_and_the_floor_agree(n: int, r: int, seed: int) -> None:
    # the coherence promised for rank r can never fall below what rank r allows
    assert margin_rank_floor(n, random_code_eps(n, r)) <= r


@pytest.mark.parametrize(("n", "m", "value"), [(100, 10, 0.375), (1000, 10, 0.203), (10**4, 100, 0.058)])
def test_counting_bound_at_the_tables_of_additive_merges(n: int, m: int, value: float) -> None:
    log_count = math.lgamma(n + m) - math.lgamma(n + 1) - math.lgamma(m)
    assert round(counting_bound(log_count, n, m), 3) == value


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(1, 3000), st.integers(1, 10**6))
@settings(deadline=None)
def test_counting_bound_is_monotone_and_in_range(a: float, b: float, n: int, m: int) -> None:
    low, high = counting_bound(min(a, b), n, m), counting_bound(max(a, b), n, m)
    assert 1 / m <= low <= high <= 1
    assert type(low) is float


def test_counting_bound_does_not_overflow() -> None:
    assert counting_bound(1e300, 10**5, 10) == 1.0
    assert counting_bound(0.0, 10**6, 3) == 1 / 3
    assert 0 < counting_bound(1e4, 10**5, 10**400) < 0.1


def test_integers_beyond_the_range_of_floats() -> None:
    huge = 10**400
    assert circle_margin(huge) == 0.0
    assert 0 <= random_code_eps(3, huge) * 1e200 / math.sqrt(4 * math.log(3)) - 1 < 1e-14  # and not below it
    assert random_code_eps(3, huge**2) == math.ulp(0.0)
    assert random_code_eps(huge, 3) == pytest.approx(math.sqrt(4 * 400 * math.log(10) / 3), rel=1e-14)


def test_bits() -> None:
    assert capacity_ceiling(0, 50, 4) == 0.25
    assert capacity_ceiling(10 * math.log2(4), 10, 4) == pytest.approx(1.0, rel=1e-12)  # one bit pattern per table
