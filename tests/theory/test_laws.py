"""Laws of the topics that the checks do not hold already, on instances worked by hand or of the size in use."""

import math
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from theory.adapters import UNIT_ROUNDOFF, first_update, likely_rounding_bound, merge_rounding_bound
from theory.additive import affine_ceiling, composing_factors, factor_numbers
from theory.approximation import decay_error, deep_linear_adapters
from theory.composition import bridge_room
from theory.continual import route_drift
from theory.facts import counting_bound, random_code_eps
from theory.lowrank import LowRank
from theory.merging import (
    best_weights,
    dilution_limit,
    factor_average,
    factor_average_error,
    least_weights,
    surviving_facts,
)
from theory.networks import Block, TransformerWeights, adapted_transformer, transformer_adapters, transformer_rank
from theory.numerics import EPS, stream
from theory.routing import LARGEST_N, gated_merge_error, maxload


def test_a_bound_for_each_entry_of_what_is_computed() -> None:
    update, x = LowRank([[1.0], [2.0]], [[3.0, 4.0]], 0.5), np.array([1.0, -2.0])
    for dtype in UNIT_ROUNDOFF:
        one = merge_rounding_bound(np.eye(2), update, x, dtype)
        assert one.shape == (2,)
        assert (merge_rounding_bound(np.eye(2), update, x) >= one).all()  # bfloat16 is the default and the coarsest
        assert merge_rounding_bound(np.eye(2), update, np.stack([x, x], axis=1), dtype).shape == (2, 2)


def test_the_likely_bound_says_something_where_the_certain_one_does_not() -> None:
    rng = stream(3, "wide")
    W, x = rng.standard_normal((4, 4096)) / 64, rng.standard_normal(4096)
    update = LowRank(np.zeros((4, 1)), np.zeros((1, 4096)))
    size = np.abs(W @ x)
    certain, likely = merge_rounding_bound(W, update, x), likely_rounding_bound(W, update, x)
    assert np.median(certain / size) > 1 > 0.3 > np.median(likely / size)
    assert (likely_rounding_bound(W, update, x, failure=1e-9) > likely).all()
    assert (likely_rounding_bound(W, update, x, failure=1e-300) <= certain).all()


def test_the_first_update_keeps_to_the_factor_that_was_drawn() -> None:
    gradient, a = np.array([[1.0, 2.0], [-3.0, 0.0]]), np.array([[1.0, 1.0]])
    assert np.array_equal(first_update(gradient, a, 2.0, 0.5).dense(), [[-6.0, -6.0], [6.0, 6.0]])
    assert np.array_equal(first_update(gradient, a, 2.0, 0.5, optimizer="adam").dense(), [[-1.0, -1.0], [1.0, 1.0]])


def test_thousands_of_values_are_told_apart() -> None:
    for table in ((5, 1999, 1998), (7, 0, 0), (1000, 1000, 999)):
        for bridge, answer in enumerate(table):
            base, first, second = composing_factors(bridge, table, 2000, 1)
            logits = base + factor_average([first, second], [1.0, 1.0], "plain").dense()[:, 0]
            assert int(np.argmax(logits)) == answer


@pytest.mark.parametrize(("width", "depth"), [(64, 8), (128, 8), (128, 4)])
def test_a_chain_is_as_exact_as_its_layers_can_be_stored(width: int, depth: int) -> None:
    """Default layers of torch: what rounding the entries of factors and adapted layers moves, and what is left."""
    rng, bound = stream(0, "default"), width**-0.5
    weights = [rng.uniform(-bound, bound, (width, width)) for _ in range(depth)]
    target = rng.uniform(-bound, bound, (width, width))
    adapters = deep_linear_adapters(weights, target, -(-width // depth))
    layers = [w + u.dense() for w, u in zip(weights, adapters, strict=True)]
    below = [np.eye(width), *accumulate(layers[:-1], lambda q, w: w @ q)]
    above = [np.eye(width), *accumulate(layers[:0:-1], lambda s, w: s @ w)][::-1]
    squares = [w**2 + 2 * (u.B**2 @ u.A**2) for w, u in zip(layers, adapters, strict=True)]
    moved = [(s**2).sum(axis=0) @ w @ (q**2).sum(axis=1) for s, w, q in zip(above, squares, below, strict=True)]
    stored = EPS / math.sqrt(12) * math.sqrt(sum(moved))
    exact = layers[0].astype(np.longdouble)
    for w in layers[1:]:
        exact = w.astype(np.longdouble) @ exact
    off = float(np.linalg.norm((exact - target).astype(float)))
    assert off <= 4 * stored  # 1.2 to 3.2 seen
    assert stored > 1e-10 or depth < 8  # 1e-12 is out of reach there


def test_room_of_a_bridge_is_the_distance_to_the_first_boundary() -> None:
    room = bridge_room([[3.0, 4.0], [0.0, 0.0], [3.0, 0.0]], [1.0, 1.0], [0.0, 2.0, -6.0], 0)
    assert room <= 1.0 == pytest.approx(room, rel=1e-14)  # (7 - 2) / 5, nearer than (4 + 6) / 4


def test_the_drift_of_a_route() -> None:
    old = LowRank([[1.0], [0.0]], [[1.0, 0.0]], 2.0)
    new = LowRank([[1.0], [1.0]], [[1.0, 3.0]], 2.0)
    drift = route_drift([[0.5]], old, new)
    assert np.array_equal(drift.dense(), [[0.0, 3.0], [1.0, 3.0]])
    assert np.array_equal(drift.apply([1.0, 0.0]), [0.0, 1.0])  # what an old fact sees


def test_integers_beyond_the_range_of_floats() -> None:
    huge = 10**400
    assert 0 < counting_bound(1e4, 10**5, huge) < 0.1
    assert 0 <= random_code_eps(3, huge) * 1e200 / math.sqrt(4 * math.log(3)) - 1 < 1e-14  # and not below it
    assert random_code_eps(huge, 3) == pytest.approx(math.sqrt(4 * 400 * math.log(10) / 3), rel=1e-14)


def test_the_tail_of_an_infinite_spectrum() -> None:
    assert decay_error("exponential", 1.0, 3) == pytest.approx(math.exp(-3), rel=4 * EPS)


def test_ceilings_of_averages_of_factors() -> None:
    for r, ceiling in ((1, 0.2836), (4, 0.4061), (16, 0.6932)):  # of 1000 bridges with 10 values
        assert ceiling - 1e-4 < affine_ceiling(1000, 10, factor_numbers(10, r)) < ceiling


def test_time_does_not_grow_with_what_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One spectral norm for each update, however many facts; a factor average takes none and no decomposition."""
    rng = stream(3, "speed")
    parts = [LowRank(rng.standard_normal((40, 2)), rng.standard_normal((2, 30))) for _ in range(3)]
    taken, norm = [], np.linalg.norm

    def counted(x: Any, order: Any = None, **rest: Any) -> Any:
        taken.append(order)
        return norm(x, order, **rest)

    monkeypatch.setattr(np.linalg, "norm", counted)
    survive = surviving_facts(parts, rng.standard_normal((30, 50)), np.full(50, 1e9), [0] * 50)
    assert all(survive)
    assert taken.count(2) == len(parts)
    for name in ("svd", "qr", "cholesky", "norm"):
        monkeypatch.setattr(np.linalg, name, None)
    assert 0.5 < factor_average_error(parts, [1.0] * 3, "sqrt") < 5  # sqrt 2 for very wide ones


def test_best_weights_are_exact_numbers() -> None:
    best = best_weights(np.array([[4.0, -6.0], [-1.0, 9.0]]))
    assert all(type(x) is Fraction for x in (*best.weights, best.lead, best.ceiling, *best.mixture))
    assert [float(w) for w in best.weights] == pytest.approx([0.75, 0.25])
    assert float(best.ceiling) == pytest.approx(1.5)


def test_what_each_adapter_needs() -> None:
    # one quotient for all: three adapters of gain 10 over 3 are kept, by the uniform mean as well, four are not
    assert sum(least_weights([10] * 3, [3] * 3, range(3), 3)) < 1 <= sum(least_weights([10] * 4, [3] * 4, range(4), 4))
    assert dilution_limit(10, 3) == 3


@pytest.mark.parametrize(("condition", "wanted", "rank"), [(1e5, 0.5, 1), (1e8, 1e-7, 0)])
def test_a_small_gap_beside_an_ill_conditioned_quotient_is_closed(condition: float, wanted: float, rank: int) -> None:
    """Also where the a priori bound on what the calibration rounds says that it may be noise."""
    eye, zero = np.eye(2), np.zeros(2)
    w2 = np.diag([1.0, 1.0 / condition])
    plain = Block([(eye, eye, eye, eye)], eye, zero, w2, zero)
    turned = Block([(np.array([[1.0, wanted], [0.0, 1.0]]), eye, eye, eye)], eye, zero, eye, zero)
    frozen = TransformerWeights([plain, Block([(eye, eye, eye, eye)], eye, zero, eye, zero)], eye)
    target = TransformerWeights([plain, turned], eye)
    assert transformer_rank(frozen, target) == rank
    made = adapted_transformer(frozen, transformer_adapters(frozen, target, 1))
    (query, key, *_), (ask, hold, *_) = made.blocks[1].heads[0], turned.heads[0]
    product = np.asarray(hold).T @ np.asarray(ask)
    assert np.abs(np.asarray(key).T @ np.asarray(query) - product).max() <= 1e-3 * wanted


def test_the_largest_load_of_two_bins() -> None:
    # two bins, in closed form, at the largest n; 1e-12 is the relative error that is documented
    n = LARGEST_N
    exact = Fraction(n, 2) + Fraction(n * math.comb(n - 1, n // 2), 2**n)
    assert abs(Fraction(maxload(n, 2)) / exact - 1) <= 1e-12


def test_merging_an_instance_wise_adapter() -> None:
    experts = [LowRank(np.eye(4)[:, [k]], np.eye(4)[[k]]) for k in range(4)]
    uniform = np.full((3, 4), 0.25)
    assert gated_merge_error(experts, uniform) == pytest.approx(3.0)  # four times too strong
    assert gated_merge_error(experts, uniform, uniform[0]) == 0.0
    pointed = np.eye(4)  # every context has an expert of its own
    assert gated_merge_error(experts, pointed, pointed.mean(axis=0)) == pytest.approx(math.sqrt(0.75))
