"""Adapters: documented values, types and errors, and laws that the checks do not already hold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from theory.adapters import (
    UNIT_ROUNDOFF,
    adapter_scale,
    largest_saving_rank,
    merge_rounding_bound,
    merged_weight,
    parameter_count,
    rank_set_dimension,
    regauge,
)
from theory.checks.strategies import orthonormal, seeds, updates
from theory.lowrank import LowRank
from theory.numerics import EPS, stream


def test_sizes_of_a_usual_layer() -> None:
    assert parameter_count(4096, 4096, 16) == 131072
    assert rank_set_dimension(4096, 4096, 16) == 131072 - 256
    assert largest_saving_rank(4096, 4096) == 2047
    assert largest_saving_rank(1, 1) == 0
    assert adapter_scale(16, 64, rslora=True) == 2.0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 50))
def test_dimension_never_exceeds_parameters_or_entries(m: int, n: int, r: int) -> None:
    dimension = rank_set_dimension(m, n, r)
    assert dimension <= min(parameter_count(m, n, r), m * n)
    assert (dimension == m * n) == (r >= min(m, n))
    assert type(dimension) is int


@given(updates(), seeds)
def test_an_orthogonal_gauge_keeps_the_singular_values(update: LowRank, seed: int) -> None:
    turned = regauge(update, orthonormal(stream(seed), update.columns, update.columns))
    size = abs(update.scale) * np.linalg.norm(update.B) * np.linalg.norm(update.A)
    # two products with an orthogonal matrix and a solve: a few eps per column of the factors
    allowed = update.tolerance() + turned.tolerance() + 32 * EPS * (update.columns + 1) ** 2 * size
    assert np.abs(turned.singular_values() - update.singular_values()).max(initial=0.0) <= allowed


@given(updates(), seeds, st.sampled_from(sorted(UNIT_ROUNDOFF)))
def test_rounding_bound_is_homogeneous_and_ordered(update: LowRank, seed: int, dtype: str) -> None:
    rng = stream(seed)
    W, x = rng.standard_normal(update.shape), rng.standard_normal(update.shape[1])
    one = merge_rounding_bound(W, update, x, dtype)
    assert one.shape == (update.shape[0],)
    assert np.array_equal(merge_rounding_bound(W, update, 4 * x, dtype), 4 * one)
    assert (merge_rounding_bound(W, update, x, "bfloat16") >= one).all()
    columns = merge_rounding_bound(W, update, np.stack([x, x], axis=1), dtype)
    assert np.allclose(columns, one[:, None], rtol=64 * EPS, atol=0)  # sums in another order


def test_merging_is_addition() -> None:
    update = LowRank([[1.0], [2.0]], [[3.0, 4.0]], 0.5)
    assert np.array_equal(merged_weight(np.eye(2), update), [[2.5, 2.0], [3.0, 5.0]])


def test_errors_name_the_argument() -> None:
    update = LowRank(np.ones((3, 2)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^T: expected an invertible matrix, got a matrix that is singular"):
        regauge(update, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^W: expected shape \(3, 4\), as the update, got \(4, 3\)$"):
        merged_weight(np.ones((4, 3)), update)
    with pytest.raises(ValueError, match=r"^dtype: expected one of float64, float32, float16, bfloat16, got 'int8'$"):
        merge_rounding_bound(np.ones((3, 4)), update, np.ones(4), "int8")
