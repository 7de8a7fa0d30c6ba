"""LowRank against dense linear algebra, over all shapes, scales and conditionings."""

import math
from typing import Literal

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from theory.checks.strategies import conditioned, shapes, updates
from theory.lowrank import LowRank
from theory.numerics import EPS, rank_tolerance, stream


def dense_tolerance(u: LowRank) -> float:
    """Rounding of the dense product itself, which the oracle below starts from."""
    return u.tolerance() + rank_tolerance(
        (*u.shape, u.columns), abs(u.scale) * float(np.linalg.norm(u.B) * np.linalg.norm(u.A))
    )


@given(updates(max_columns=12))
def test_singular_values_agree_with_the_dense_svd(u: LowRank) -> None:
    values = u.singular_values()
    assert values.shape == (u.columns,)
    assert np.all(values[:-1] >= values[1:])
    oracle = np.zeros(max(u.columns, min(u.shape)))
    oracle[: min(u.shape)] = scipy.linalg.svdvals(u.dense())
    padded = np.zeros_like(oracle)
    padded[: u.columns] = values
    assert np.abs(padded - oracle).max(initial=0.0) <= dense_tolerance(u)


@given(updates(), st.integers(0, 8))
def test_truncation_loses_exactly_the_tail(u: LowRank, r: int) -> None:
    kept = u.truncate(r)
    assert kept.columns <= r
    assert kept.scale == 1.0
    lost = np.linalg.norm(kept.dense() - u.dense())
    tail = float(np.linalg.norm(u.singular_values()[r:]))
    assert abs(lost - tail) <= math.sqrt(max(min(u.shape), 1)) * dense_tolerance(u)


@given(st.data())
def test_combine_is_the_dense_weighted_sum(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    parts = data.draw(st.lists(updates(shape=shape), min_size=1, max_size=4))
    # nearer to zero products leave the range in which rounding is relative to them
    weights = [data.draw(st.floats(-3, 3).filter(lambda w: w == 0 or abs(w) >= 1e-150)) for _ in parts]
    total = LowRank.combine(parts, weights)
    dense = sum((w * u.dense() for w, u in zip(weights, parts, strict=True)), np.zeros(shape))
    size = math.fsum(
        abs(w * u.scale) * float(np.linalg.norm(u.B) * np.linalg.norm(u.A)) for w, u in zip(weights, parts, strict=True)
    )
    columns = sum(u.columns for u in parts)
    assert np.abs(total.dense() - dense).max() <= rank_tolerance((*shape, columns), size)
    assert total.columns == columns


@given(st.data())
def test_inner_and_norms_agree_with_dense(data: st.DataObject) -> None:
    shape = data.draw(shapes())
    u, v = data.draw(updates(shape=shape)), data.draw(updates(shape=shape))
    sizes = [abs(x.scale) * float(np.linalg.norm(x.B) * np.linalg.norm(x.A)) for x in (u, v)]
    slack = rank_tolerance((*shape, u.columns, v.columns), sizes[0] * sizes[1])
    assert abs(u.inner(v) - float(np.sum(u.dense() * v.dense()))) <= slack
    dense = u.dense()
    orders: dict[str, float | Literal["fro", "nuc"]] = {"spectral": 2, "frobenius": "fro", "nuclear": "nuc"}
    for kind, order in orders.items():
        assert abs(u.norm(kind) - float(np.linalg.norm(dense, order))) <= min(shape) * dense_tolerance(u)


@given(updates())
def test_bases_are_orthonormal_and_span(u: LowRank) -> None:
    rows, columns = u.row_basis(), u.column_basis()
    assert rows.shape == (u.rank(), u.shape[1])
    assert columns.shape == (u.shape[0], u.rank())
    slack = rank_tolerance((*u.shape, u.columns), 1.0)
    assert np.abs(rows @ rows.T - np.eye(len(rows))).max(initial=0.0) <= slack
    assert np.abs(columns.T @ columns - np.eye(columns.shape[1])).max(initial=0.0) <= slack
    projected = columns @ (columns.T @ u.dense() @ rows.T) @ rows
    assert np.linalg.norm(projected - u.dense()) <= min(u.shape) * (dense_tolerance(u) + u.tolerance())


def test_apply_takes_vectors_and_columns() -> None:
    u = LowRank([[1.0], [2.0]], [[1.0, 0.0, -1.0]], 2.0)
    assert u.apply([1.0, 5.0, 0.0]).tolist() == [2.0, 4.0]
    assert u.apply(np.eye(3)).tolist() == u.dense().tolist()


def test_extreme_balance_loses_nothing() -> None:
    u = LowRank(np.diag([1e-150, 1e150]), np.diag([1e150, 1e-150]))
    assert u.rank() == 2
    assert np.allclose(u.singular_values(), 1.0, rtol=8 * EPS, atol=0)  # two QR steps and one SVD of a 2 x 2 identity


def test_rank_counts_above_the_given_tolerance() -> None:
    u = LowRank(np.eye(3), np.diag([4.0, 2.0, 1.0]))
    assert [u.rank(t) for t in (0.5, 1.5, 3.0, 5.0)] == [3, 2, 1, 0]


def test_rank_zero_and_no_columns() -> None:
    u = LowRank(np.zeros((3, 0)), np.zeros((0, 2)))
    assert (u.rank(), u.norm(), u.norm("spectral"), u.columns, u.shape) == (0, 0.0, 0.0, 0, (3, 2))
    assert u.dense().tolist() == np.zeros((3, 2)).tolist()
    assert u.truncate(2).columns == 0
    assert LowRank(np.zeros((3, 2)), np.ones((2, 2))).rank() == 0


def test_returned_numbers_are_python_numbers() -> None:
    u = LowRank(conditioned(stream(0), 4, 2, 3.0), conditioned(stream(1), 2, 5, 3.0))
    assert type(u.rank()) is int
    assert type(u.norm()) is float
    assert type(u.inner(u)) is float


def test_factors_cannot_be_changed_from_outside() -> None:
    source = np.ones((2, 1))
    u = LowRank(source, np.ones((1, 2)))
    source[0, 0] = 5.0
    assert u.dense()[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        u.B[0, 0] = 1.0


@pytest.mark.parametrize("close", [1.0, 1e-2, 1e-9, 0.0])
def test_compressed_updates_keep_their_products(close: float) -> None:
    """By Cholesky where columns are well apart, by Householder where they nearly coincide: the same numbers."""
    rng = np.random.default_rng(3)
    b, a = rng.standard_normal((90, 4)), rng.standard_normal((4, 70))
    b[:, 1] = b[:, 0] + close * b[:, 1]
    updates = [LowRank(b, a, 0.5), LowRank(rng.standard_normal((90, 3)), rng.standard_normal((3, 70)), -2.0)]
    small = LowRank.compress(updates)
    for one, two in zip(updates, small, strict=True):
        assert two.singular_values() == pytest.approx(
            np.linalg.svd(one.dense(), compute_uv=False)[: one.columns], abs=1e-12
        )
        for other, less in zip(updates, small, strict=True):
            assert two.inner(less) == pytest.approx(float(np.sum(one.dense() * other.dense())), rel=1e-10)
