"""Merging: documented values and types, and laws that the checks do not already hold."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.checks.strategies import orthonormal, seeds, shapes, updates
from theory.lowrank import LowRank
from theory.merging import dilution_limit, factor_average, factor_average_error, interference_bound, merged_rank
from theory.numerics import EPS, rank_tolerance, stream


@given(st.data())
def test_merging_one_update_changes_nothing(data: st.DataObject) -> None:
    u = data.draw(updates())
    assert merged_rank([u]) == (u.rank(), u.rank(), True)


@given(st.integers(1, 5), st.integers(0, 3), seeds)
def test_orthogonal_updates_add_their_ranks(k: int, r: int, seed: int) -> None:
    rng = stream(seed)
    left, right = orthonormal(rng, 20, k * r), orthonormal(rng, 18, k * r)
    parts = [LowRank(left[:, i * r : (i + 1) * r], right[:, i * r : (i + 1) * r].T, 3.0**i) for i in range(k)]
    assert merged_rank(parts) == (k * r, k * r, True)


@given(st.data())
def test_one_adapter_has_no_factor_error(data: st.DataObject) -> None:
    u = data.draw(updates(least_columns=1))
    error = factor_average_error([u], [1.0], "sqrt")
    # B and A are each multiplied by sqrt(scale): three roundings per entry of a product over the columns
    floor = rank_tolerance((*u.shape, u.columns), abs(u.scale) * float(np.linalg.norm(u.B) * np.linalg.norm(u.A)))
    assert error * u.norm() <= 2 * math.sqrt(min(u.shape)) * (floor + u.tolerance())


@given(st.data(), st.integers(2, 4))
def test_equal_adapters_average_to_themselves_under_plain_weights(data: st.DataObject, k: int) -> None:
    u = data.draw(updates(shape=data.draw(shapes()), least_columns=1))
    averaged = factor_average([u] * k, [1.0 / k] * k, "plain")
    slack = rank_tolerance((*u.shape, u.columns), abs(u.scale) * float(np.linalg.norm(u.B) * np.linalg.norm(u.A)))
    assert np.abs(averaged.dense() - u.dense()).max() <= slack


@given(st.fractions(min_value=0, max_value=1000), st.fractions(min_value="1/100", max_value=100))
def test_dilution_limit_is_the_largest_k(gain: Fraction, deficit: Fraction) -> None:
    g, d = Fraction(float(gain)), Fraction(float(deficit))
    for convention, power in (("update", 1), ("factor", 2)):
        k = dilution_limit(float(g), float(d), convention)
        assert type(k) is int
        assert k == 0 or g > k**power * d
        assert not g > (k + 1) ** power * d


@pytest.mark.parametrize(
    ("gain", "deficit", "want"),
    [(10, 5, 1), (10, 4, 2), (5, 5, 0), (1, 5, 0), (-1, 5, 0), (3, 0, math.inf), (3, -1, math.inf), (0, 0, 0)],
)
def test_dilution_limit_by_hand(gain: float, deficit: float, want: float) -> None:
    assert dilution_limit(gain, deficit, "update") == want


def test_interference_bound_is_exact_for_rank_one() -> None:
    u = LowRank([[3.0], [4.0]], [[0.0, 2.0]], -0.5)
    (bound,) = interference_bound([u], [7.0, 1.0])
    assert type(bound) is float
    assert abs(bound - 5.0) <= 8 * EPS * 5.0  # two norms and two products


def test_gaussian_factor_averages_keep_the_published_shares() -> None:
    rng = stream(11, "gaussian")
    for k, sqrt_error, plain_error in ((2, 1.00, 0.71), (3, 1.41, 0.82), (4, 1.73, 0.87)):
        parts = [LowRank(rng.standard_normal((256, 8)), rng.standard_normal((8, 256))) for _ in range(k)]
        assert round(factor_average_error(parts, [1 / k] * k, "sqrt"), 1) == round(sqrt_error, 1)
        assert round(factor_average_error(parts, [1 / k] * k, "plain"), 1) == round(plain_error, 1)


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
