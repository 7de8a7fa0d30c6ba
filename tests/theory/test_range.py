"""Sizes: what is homogeneous stays so where squares leave the range of floats, whole numbers may be of any size."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from theory.adapters import adapter_scale, likely_rounding_bound, merge_rounding_bound
from theory.additive import additive_ceiling, affine_ceiling
from theory.approximation import best_update, decay_error, deep_linear_adapters, floor_error
from theory.composition import aligned_answer, bridge_alignment, bridge_cosine, bridge_room, few_writings_ceiling
from theory.continual import rounds_to_answer
from theory.facts import counting_bound, least_rank
from theory.lowrank import LowRank
from theory.merging import (
    best_weights,
    factor_average_error,
    interference_bound,
    least_weights,
    merged_rank,
    surviving_facts,
)
from theory.networks import adapted_relu, relu_adapters, relu_error_bound, relu_forward
from theory.numerics import Array, real, rounded_up, stream
from theory.one_layer import joint_edit
from theory.routing import gated_merge_error, oracle_ceiling

RNG = stream(5, "range")
K, D, X = RNG.standard_normal((6, 4)), RNG.standard_normal((5, 4)), RNG.standard_normal((8, 7))
LAYERS, TARGET, BIAS = list(RNG.standard_normal((2, 8, 8))), RNG.standard_normal((8, 8)), RNG.standard_normal(8)
B, A = RNG.standard_normal((2, 40, 3)), RNG.standard_normal((2, 3, 30))
INSIDE = X / np.linalg.norm(X, axis=0)


def updates(s: float, of_b: float = 1.0) -> list[LowRank]:
    """Two updates times s, all of it in B, or a part in A and another in the scale."""
    return [LowRank(of_b * b, s / of_b / 4.0 * a, 4.0) for b, a in zip(B, A, strict=True)]


def linear(s: float) -> Array:
    first, second = deep_linear_adapters([s * LAYERS[0], LAYERS[1]], s * TARGET, 3)
    return (LAYERS[1] + second.dense()) @ (LAYERS[0] + first.dense() / s)


def relu(s: float) -> Array:
    frozen = [(s * LAYERS[0], BIAS), (LAYERS[1], BIAS)]
    return relu_forward(adapted_relu(frozen, relu_adapters(frozen, [(s * TARGET, s * BIAS)], 4, 1.0)), INSIDE) / s


HOMOGENEOUS: dict[str, Callable[[float], object]] = {
    "edit of small keys": lambda s: least_rank(s * K, D).update.dense() * s,
    "edit of small keys and changes": lambda s: joint_edit(np.zeros((5, 6)), s * K, s * D).dense(),
    "alignment": lambda s: bridge_alignment(s * K, s * K[:, 1]).alpha,
    "cosine": lambda s: bridge_cosine(s * K[:, 0], K[:, 1]),
    "gain": lambda s: aligned_answer(s * D, BIAS[:4], s * BIAS[:5], 1, 2).slack / s,
    "room of small changes": lambda s: bridge_room(s * np.eye(3), BIAS[:3], [0.0, -s, s / 8], 0),
    "room of a small key": lambda s: bridge_room(np.eye(3), [s, 0.0, 0.0], [0.0, 0.0, 0.0], 0) / s,
    "room of small logits": lambda s: bridge_room(np.eye(3), [0.0, 0.0, 0.0], [s, 0.0, 0.0], 0) / s,
    "gates": lambda s: gated_merge_error(updates(s), [[1.0, 0.0], [0.25, 0.5]]),
    "floor": lambda s: floor_error(s * TARGET, 3, "frobenius") / s,
    "best update": lambda s: best_update(s * TARGET, 3).norm() / s,
    "linear chain": linear,
    "relu": relu,
    "relu bound": lambda s: relu_error_bound([(s * TARGET, BIAS), (np.eye(8), BIAS)],
                                             [(s * LAYERS[0], s * BIAS), (LAYERS[1], BIAS)], 2, 1.0) / s,
    "norms": lambda s: [updates(s)[0].norm(kind) / s for kind in ("spectral", "frobenius", "nuclear")],
    "truncated": lambda s: updates(s)[0].truncate(2).norm() / s,
    "compressed": lambda s: [u.norm() / s for u in LowRank.compress(updates(s))],
    "ranks": lambda s: merged_rank(updates(s)),
    "factor average": lambda s: factor_average_error(updates(s), [0.75, 0.5], "sqrt"),
    "damage of a small key": lambda s: np.array(interference_bound(updates(1.0), s * X[:6].ravel()[:30])) / s,
    "damage of small updates": lambda s: np.array(interference_bound(updates(s), X[:6].ravel()[:30])) / s,
    "survival": lambda s: surviving_facts(updates(s), K[:, :1].repeat(5, 0), [1e3 * s], [1]),
    "needs": lambda s: [float(x) for x in least_weights([s, 2 * s], [s / 4, s], [0, 1], 2)],
    "weights": lambda s: [float(x) for x in best_weights([[s, -s], [-s, 2 * s]]).weights],
}  # fmt: skip


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_sizes_beyond_the_squares_of_floats(name: str) -> None:
    plain = np.asarray(HOMOGENEOUS[name](1.0), dtype=float)
    assert plain.any()
    for power in (-990, -560, 560, 960):
        assert HOMOGENEOUS[name](2.0**power) == pytest.approx(plain, rel=1e-9), power


def test_large_and_small_factors_of_one_update() -> None:
    assert updates(1.0, 2.0**700)[0].norm() == pytest.approx(updates(1.0)[0].norm(), rel=1e-12)
    with pytest.raises(ValueError, match=r"^B: expected factors and a scale that can be balanced within floats"):
        LowRank([[1e300]], [[1e-300]], 1e300).norm()
    with pytest.raises(ValueError, match=r"^weights: expected finite products with the scales, got \[inf\]"):
        LowRank.combine([LowRank([[1.0]], [[1.0]], 1e200)], [1e200])
    with pytest.raises(ValueError, match=r"^B: expected finite entries, got nan or inf"):
        LowRank(np.full((1, 1), np.longdouble("1e4000")), [[1.0]])


@pytest.mark.parametrize("powers", [x for x in product((-990, 0, 990), repeat=3) if abs(sum(x)) < 1000])
def test_products_in_range_whose_factors_are_not(powers: tuple[int, int, int]) -> None:
    of_b, of_a, of_scale = (2.0**x for x in powers)
    kept, mixed = np.array([1.0, 1.0, 0.0]), np.array([1.0, 2.0**30, 1.0])  # columns differ, one holds nothing
    plain, whole = LowRank(B[0], A[0] * kept[:, None], -3.0), 2.0 ** sum(powers)
    large = LowRank(of_b * B[0] * mixed, of_a * A[0] * (kept / mixed)[:, None], -3.0 * of_scale)
    other, x = LowRank(B[1], A[1], 0.5), np.column_stack([A[1][0], np.zeros(30)])
    assert large.dense() / whole == pytest.approx(plain.dense(), rel=1e-12, abs=1e-12)
    for of_x in (2.0**-990, 1.0, 2.0**990):
        if abs(math.log2(whole) + math.log2(of_x)) < 1000:
            assert large.apply(of_x * x) / whole / of_x == pytest.approx(plain.apply(x), rel=1e-12, abs=1e-12)
            assert large.inner(LowRank(of_x * other.B, other.A, 0.5)) / whole / of_x == pytest.approx(
                plain.inner(other)
            )
            if of_x * of_scale in (2.0**-990, 1.0, 2.0**990, 0.0):
                weighted = LowRank.combine([large, other], [of_x, 0.0]).inner(other)
                assert weighted / whole / of_x == pytest.approx(plain.inner(other))


def test_damage_is_zero_where_no_term_is_there_only() -> None:
    cancelling = LowRank([[1.0]], [[1e16, 1.0, -1e16]])  # A k is 1, and 0 in floats
    assert interference_bound([cancelling], np.ones(3))[0] >= 1.0
    assert interference_bound([LowRank([[1e-200]], [[1e-200, 0.0]])], [1.0, 0.0]) == [math.ulp(0.0)]
    assert interference_bound([LowRank([[1e200]], [[1e200, 0.0]])], [1.0, 0.0]) == [math.inf]
    assert interference_bound([LowRank([[1e200]], [[1e200, 0.0]])], [0.0, 1.0]) == [0.0]


@pytest.mark.parametrize("size", [1e-200, 1e-30, 1e30, 1e200])
def test_rounding_bounds_of_any_size(size: float) -> None:
    weight, update, x = np.full((2, 9), 0.3), LowRank([[1.0], [0.5]], np.ones((1, 9)) / 3), np.ones(9)
    likely = likely_rounding_bound(weight, update, x)
    certain = merge_rounding_bound(weight, update, x)
    scaled = LowRank(size * update.B, update.A)
    found = likely_rounding_bound(size * weight, scaled, x)
    assert np.all(found >= size * likely * (1 - 1e-12))
    assert found == pytest.approx(size * certain, rel=1e-12)
    mixed = likely_rounding_bound(weight * [[1.0], [size]], LowRank(update.B * [[1.0], [size]], update.A), x)
    assert np.all(mixed >= likely * [1.0, size] * (1 - 1e-12))


def test_rounding_bounds_of_nothing() -> None:
    row = np.ones((1, 3))
    assert likely_rounding_bound(np.ones((0, 3)), LowRank(np.ones((0, 1)), row), np.ones(3)).shape == (0,)
    assert likely_rounding_bound(row, LowRank([[1.0]], row), np.ones((3, 0))).shape == (1, 0)


def test_whole_numbers_of_any_size() -> None:
    huge = 10**400
    assert adapter_scale(2.0, huge) == 0.0
    assert adapter_scale(2.0, huge, rslora=True) == pytest.approx(2e-200, rel=1e-15)
    assert adapter_scale(2.0, 10**300, rslora=True) == pytest.approx(2e-150, rel=1e-15)
    assert oracle_ceiling(3, 5, huge) == 1.0
    assert oracle_ceiling(3, huge, huge) == 1.0
    assert counting_bound(1.0, 5, huge) == math.ulp(0.0), "more than nothing"
    assert affine_ceiling(10, huge, 3) == pytest.approx(0.6, rel=1e-12)
    assert Fraction(additive_ceiling(3, huge)) >= Fraction(2, 3)
    beyond = 10**5000  # of more digits than Python prints
    assert Fraction(additive_ceiling(3, beyond)) >= Fraction(2, 3)
    assert 0.2 < few_writings_ceiling(2**14285, 10**5, 10) < 0.3
    number: Any
    for number in (-beyond, Fraction(-beyond)):
        with pytest.raises(ValueError, match=r"^n: expected an integer >= 1, got \S"):
            additive_ceiling(number, 3)
    with pytest.raises(ValueError, match=r"^gain: expected a finite number, got a number of thousands of digits$"):
        real(beyond, "gain")


def test_whole_numbers_of_numpy_do_not_overflow() -> None:
    kind: Any
    for kind in (np.int64, np.uint64):
        leads = np.array([[2**62 + 1, 27, 3], [100, 2**61, 5], [3, 7, 2**60 + 11]], dtype=kind)
        assert best_weights(leads) == best_weights(leads.tolist())
        assert rounds_to_answer(kind(2**62), kind(2**61), 3) == rounds_to_answer(2**62, 2**61, 3) == 2
    one = [LowRank(B[0], A[0], 3e4)]  # the mean of one update is that update, whatever its weight is kept in
    for kind in (np.float16, np.float32):
        assert factor_average_error(one, [kind(7.1)], "sqrt") < 1e-15
    small = [[100, 27, -3], [-100, 100, 5], [3, 7, 11]]
    assert best_weights(np.array(small, dtype=np.int8)) == best_weights(small)


def test_tails_of_many_values() -> None:
    last = decay_error("power", 0.1, 10**60 - 1, 10**60)  # one of 10^60 values: (n^-0.2 / (n^0.8 / 0.8))^(1/2)
    assert last * 1e30 == pytest.approx(math.sqrt(0.8), rel=1e-14)


def test_rounding_up() -> None:
    third = Fraction(1, 3)
    assert rounded_up(third) == math.nextafter(1 / 3, 1.0) > third > 1 / 3
    assert rounded_up(-third) == -1 / 3 > -third
    assert rounded_up(Fraction(3, 4)) == 0.75
    assert rounded_up(Fraction(10**400)) == math.inf
