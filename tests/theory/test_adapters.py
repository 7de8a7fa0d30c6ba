"""Adapters: documented values, types and errors, and laws that the checks do not already hold."""

from fractions import Fraction

import numpy as np
import pytest

from theory.adapters import (
    UNIT_ROUNDOFF,
    adapter_scale,
    first_step_power,
    first_update,
    largest_saving_rank,
    likely_rounding_bound,
    merge_rounding_bound,
    merged_weight,
    parameter_count,
    rank_set_dimension,
    regauge,
)
from theory.lowrank import LowRank
from theory.numerics import stream


def test_sizes_of_a_usual_layer() -> None:
    assert parameter_count(4096, 4096, 16) == 131072
    assert rank_set_dimension(4096, 4096, 16) == 131072 - 256
    assert largest_saving_rank(4096, 4096) == 2047
    assert largest_saving_rank(1, 1) == 0
    assert adapter_scale(16, 64, rslora=True) == 2.0


def test_returned_types_and_shapes() -> None:
    update, x = LowRank([[1.0], [2.0]], [[3.0, 4.0]], 0.5), np.array([1.0, -2.0])
    assert type(rank_set_dimension(3, 4, 2)) is int
    assert regauge(update, [[2.0]]).shape == (2, 2)
    for dtype in UNIT_ROUNDOFF:
        one = merge_rounding_bound(np.eye(2), update, x, dtype)
        assert one.shape == (2,)
        assert (merge_rounding_bound(np.eye(2), update, x) >= one).all()  # bfloat16 is the default and the coarsest
        assert merge_rounding_bound(np.eye(2), update, np.stack([x, x], axis=1), dtype).shape == (2, 2)


def test_errors_name_the_argument() -> None:
    update = LowRank(np.ones((3, 2)), np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^T: expected an invertible matrix, got a matrix that is singular"):
        regauge(update, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^W: expected shape \(3, 4\), as the update, got \(4, 3\)$"):
        merged_weight(np.ones((4, 3)), update)
    with pytest.raises(ValueError, match=r"^dtype: expected one of float64, float32, float16, bfloat16, got 'int8'$"):
        merge_rounding_bound(np.ones((3, 4)), update, np.ones(4), "int8")


def test_the_likely_bound_says_something_where_the_certain_one_does_not() -> None:
    rng = stream(3, "wide")
    W, x = rng.standard_normal((4, 4096)) / 64, rng.standard_normal(4096)
    update = LowRank(np.zeros((4, 1)), np.zeros((1, 4096)))
    size = np.abs(W @ x)
    certain, likely = merge_rounding_bound(W, update, x), likely_rounding_bound(W, update, x)
    assert np.median(certain / size) > 1 > 0.3 > np.median(likely / size)
    assert (likely_rounding_bound(W, update, x, failure=1e-9) > likely).all()
    assert (likely_rounding_bound(W, update, x, failure=1e-300) <= certain).all()
    with pytest.raises(ValueError, match=r"^failure: expected a probability in \(0, 1\), got 2"):
        likely_rounding_bound(W, update, x, failure=2)


def test_the_table_of_the_first_step() -> None:
    table = {
        (o, of): [first_step_power(o, of, x) for x in (False, True)] for o in ("sgd", "adam") for of in ("norm", "loss")
    }
    half = Fraction(1, 2)
    assert table == {
        ("sgd", "norm"): [-3 * half, -half], ("sgd", "loss"): [-1, 0],
        ("adam", "norm"): [-half, 0], ("adam", "loss"): [0, half],
    }  # fmt: skip
    assert all(type(x) is Fraction for row in table.values() for x in row)


def test_the_first_update_keeps_to_the_factor_that_was_drawn() -> None:
    gradient, a = np.array([[1.0, 2.0], [-3.0, 0.0]]), np.array([[1.0, 1.0]])
    assert np.array_equal(first_update(gradient, a, 2.0, 0.5).dense(), [[-6.0, -6.0], [6.0, 6.0]])
    assert np.array_equal(first_update(gradient, a, 2.0, 0.5, optimizer="adam").dense(), [[-1.0, -1.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match="factor: expected 2 columns, as the gradient, got 3"):
        first_update(gradient, np.ones((1, 3)), 1.0, 1.0)
