"""Behaviour of theory.additive beyond its checks: documented types, known values, independent oracles."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.additive import (
    additive_ceiling,
    additive_optimum,
    additive_tangent,
    additive_threshold,
    affine_ceiling,
    affine_patterns,
    composed_share,
    composing_factors,
    composing_rank,
    escape_rank,
    factor_numbers,
    interaction_split,
    monotone_score,
    reachable_patterns,
)
from theory.checks.strategies import seeds
from theory.merging import factor_average
from theory.numerics import stream


@pytest.mark.parametrize(
    ("n", "m", "value"),
    [(2, 2, "7/8"), (3, 2, "5/6"), (2, 3, "5/6"), (4, 2, "51/64"), (3, 3, "7/9"), (3, 4, "3/4"),
     (1, 9, "1"), (9, 1, "1"), (3, 50, "101/150")],
)  # fmt: skip
def test_optimum_has_its_known_value(n: int, m: int, value: str) -> None:
    found = additive_optimum(n, m)
    assert isinstance(found, Fraction)
    assert found == Fraction(value)


@pytest.mark.parametrize(("n", "m", "value"), [(100, 10, 0.304), (1000, 10, 0.176), (1000, 1000, 0.076)])
def test_ceiling_has_the_stated_values(n: int, m: int, value: float) -> None:
    found = additive_ceiling(n, m)
    assert type(found) is float
    assert round(found, 3) == value


@pytest.mark.parametrize(("n", "m"), [(5, 3), (10, 10), (20, 5)])
def test_all_moments_together_say_no_more_than_the_best_of_them(n: int, m: int) -> None:
    """Second oracle: the law of the number of right bridges with the largest mean, by a linear programme."""
    from scipy.optimize import linprog

    right = range(n + 1)
    most = [Fraction(comb(n, k) * comb(k + m - 1, k), m**k) for k in right]
    moments = [[float(comb(j, k) / most[k]) for j in right] for k in right[1:]]
    solved = linprog([-j / n for j in right], A_ub=moments, b_ub=np.ones(n), A_eq=np.ones((1, n + 1)), b_eq=[1.0])
    bound = additive_tangent(n, m).bound
    assert -solved.fun == pytest.approx(float(bound), rel=1e-7)  # the solver's own tolerance


@given(n=st.integers(1, 40), m=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_ceiling_is_a_share_above_guessing(n: int, m: int) -> None:
    found = additive_ceiling(n, m)
    assert 1 / m <= found <= 1.0
    if n == 2:
        exact = Fraction(3, 4) + Fraction(1, 4 * m)
        assert Fraction(np.nextafter(found, 0.0)) < exact <= Fraction(found)  # the least float that is not below
    assert type(additive_threshold(n, m)) is int
    assert 1 <= additive_threshold(n, m) <= n + 1


@given(seed=seeds, size=st.sampled_from([(2, 3), (3, 2)]))
@settings(max_examples=12, deadline=None)
def test_reachable_patterns_against_a_linear_program(seed: int, size: tuple[int, int]) -> None:
    """Second oracle: offsets with a margin exist iff a small linear program says so."""
    from scipy.optimize import linprog

    n, m = size
    first = stream(seed, "patterns").integers(-2, 3, size).astype(float)
    found = set(reachable_patterns(first))
    for g in product(range(m), repeat=n):
        rows, limits = [], []
        for y, z in product(range(n), range(m)):
            if z != g[y]:
                row = np.zeros(m)
                row[z], row[g[y]] = 1.0, -1.0
                rows.append(row)
                limits.append(first[y, g[y]] - first[y, z] - 1 / (2 * m))  # whole logits: cycles weigh 0 or >= 1
        status = linprog(np.zeros(m), A_ub=rows, b_ub=limits, bounds=(-100, 100), method="highs").status
        assert (g in found) == (status == 0), g


def test_the_longest_subsequences_of_a_long_word_over_two_letters() -> None:
    assert monotone_score(400, 2) == additive_optimum(400, 2)  # 22 seconds where whole lengths were followed


def test_composed_share_counts_strict_answers_only() -> None:
    assert composed_share(np.zeros((2, 4, 2))) == 0
    always_zero = np.zeros((2, 4, 2))
    always_zero[:, :, 0] = 1.0
    assert composed_share(always_zero) == Fraction(1, 2)
    assert composed_share(always_zero, margin=1.0) == 0


def test_interaction_split_keeps_shapes_and_takes_no_queries() -> None:
    none = np.zeros((0, 3))
    empty = interaction_split(none, none, none, none, [])
    assert empty.additive.shape == (0, 3)
    assert empty.certified.shape == (0,)


def test_documented_values_of_factor_averages() -> None:
    assert (affine_patterns(3, 2, 1), affine_patterns(2, 3, 1), affine_patterns(4, 2, 9)) == (4, 7, 16)
    assert (factor_numbers(10, 1), factor_numbers(10, 0)) == (19, 9)
    assert (composing_rank(1000), composing_rank(3), composing_rank(2)) == (500, 1, 1)
    assert (escape_rank(1000, 10), escape_rank(2, 2)) == (42, 1)
    for r, ceiling in ((1, 0.2836), (4, 0.4061), (16, 0.6932)):  # of 1000 bridges with 10 values
        assert ceiling - 1e-4 < affine_ceiling(1000, 10, factor_numbers(10, r)) < ceiling


def test_a_sum_seen_through_its_offsets_is_bounded_more_loosely() -> None:
    for n, m in ((10, 3), (100, 10), (1000, 2)):
        assert additive_ceiling(n, m) <= affine_ceiling(n, m, m - 1) < 1


def test_types_of_factor_averages() -> None:
    assert type(affine_ceiling(5, 2, 1)) is type(affine_ceiling(5, 2, 5)) is float
    assert all(
        type(x) is int for x in (composing_rank(4), escape_rank(4, 3), affine_patterns(3, 3, 2), factor_numbers(2, 2))
    )


def test_bridges_beyond_the_rank_get_the_first_value() -> None:
    for table in ((1, 1, 1, 1), (0, 1, 0, 0)):
        base, first, second = composing_factors(3, table, 2, 1)
        logits = base + factor_average([first, second], [1.0, 1.0], "plain").dense()[:, 0]
        assert logits[0] > logits[1]


def test_thousands_of_values_are_told_apart() -> None:
    for table in ((5, 1999, 1998), (7, 0, 0), (1000, 1000, 999)):
        for bridge, answer in enumerate(table):
            base, first, second = composing_factors(bridge, table, 2000, 1)
            logits = base + factor_average([first, second], [1.0, 1.0], "plain").dense()[:, 0]
            assert int(np.argmax(logits)) == answer


def test_messages_of_factor_averages() -> None:
    with pytest.raises(ValueError, match="d: expected an integer >= 0, got -1"):
        affine_ceiling(5, 2, -1)
    with pytest.raises(ValueError, match="table: expected entries below 2, got 2"):
        composing_factors(0, (2, 0), 2, 1)
