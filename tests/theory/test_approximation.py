"""Best updates, deep linear chains, rounds and decaying spectra: known values, edge shapes, messages."""

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import pytest

from theory.approximation import (
    decay_error,
    decay_rank,
    decay_spectrum,
    deep_linear_adapters,
    deep_linear_floor,
    floor_error,
    rounds_needed,
    saturation_point,
    spectral_rank,
    split_update,
)
from theory.lowrank import LowRank
from theory.numerics import EPS, stream


def test_known_floors() -> None:
    weights, target = [np.eye(4)] * 2, np.eye(4) + np.diag([8.0, 4.0, 2.0, 1.0])
    assert [deep_linear_floor(weights, target, r) for r in range(4)] == [8.0, 2.0, 0.0, 0.0]
    assert floor_error([1.0, 3.0, 2.0], 1) == 2.0
    assert floor_error([3.0, 4.0], 0, "frobenius") == 5.0
    nothing: tuple[Any, ...] = (np.zeros((0, 2)), [], LowRank(np.ones((2, 1)), np.ones((1, 2))))
    assert [type(floor_error(x, 0)) for x in nothing] == [float] * 3


def test_a_target_that_needs_no_update_asks_nothing_of_the_layers() -> None:
    singular = [np.diag([1.0, 0.0])] * 3
    assert [u.columns for u in deep_linear_adapters(singular, np.diag([1.0, 0.0]), 2)] == [0, 0, 0]
    assert deep_linear_adapters([np.eye(2)], np.ones((2, 2)), 0)[0].columns == 0


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


def test_errors_name_the_layer() -> None:
    eye, target = np.eye(3), np.diag([5.0, 4.0, 3.0])
    irregular = "expected a layer regular to working precision, got one of reciprocal condition 0 and a product off by"
    with pytest.raises(ValueError, match=rf"^weights\[1\]: {irregular} .* put another layer in its place"):
        deep_linear_adapters([eye, 0 * eye, eye], target, 1)
    with pytest.raises(ValueError, match=rf"^weights\[0\]: {irregular}"):  # of rank 1 once adapted
        deep_linear_adapters([np.zeros((3, 3)), eye], target, 1)
    with pytest.raises(ValueError, match=rf"^weights\[0\]: {irregular}"):  # too narrow inside
        deep_linear_adapters([np.ones((2, 3)), np.eye(2)], np.array([[1.0, 5, 2], [0, 1, 7]]), 1)
    with pytest.raises(ValueError, match=r"^weights\[1\]: expected 3 columns"):
        deep_linear_adapters([eye, np.ones((2, 2))], target, 1)
    with pytest.raises(ValueError, match=r"^target: expected shape"):
        deep_linear_floor([eye], np.ones((2, 3)), 1)


def test_known_decays() -> None:
    assert (decay_rank("power", 1.0), decay_rank("exponential", 0.1), decay_rank("exponential", 0.0, 0.95, 20)) == (
        12,
        15,
        19,
    )
    assert decay_rank("power", 0.5, 0.48, 4) == 1  # 1 of 25/12: a tie that floats cannot see
    assert decay_error("power", 1.0, 0) == 1.0
    assert decay_error("exponential", 1.0, 3) == pytest.approx(math.exp(-3), rel=4 * EPS)
    assert decay_error("power", 2.0, 1, norm="spectral") == 0.25
    assert decay_error("power", 2.0, 5, 5) == 0.0
    assert decay_error("power", 0.5, 10**400, norm="spectral") == 1e-200
    assert decay_error("exponential", 1e-3, 10**400, norm="spectral") == 0.0
    tenth: Any = np.float32(0.1)
    assert spectral_rank([1.0] * 10, 0.1) == spectral_rank([1.0] * 10, float(tenth)) - 1 == 1
    assert spectral_rank([1.0] * 10, energy=tenth) == 1  # prints as one tenth
    assert spectral_rank([], 0.95) == spectral_rank([0.0], 1.0) == 0
    assert saturation_point(40, 128) == 40
    assert decay_spectrum("power", 1.0, 3).tolist() == [1.0, 0.5, 1 / 3]


def test_returned_numbers_are_python_numbers() -> None:
    for value in (rounds_needed(np.eye(2), 1), decay_rank("power", 1.0), spectral_rank(np.ones(3), 0.5)):
        assert type(value) is int
    for number in (decay_error("power", 1.0, 3), deep_linear_floor([np.eye(2)], np.ones((2, 2)), 1)):
        assert type(number) is float


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: split_update(np.eye(3), 1, 2), "E: expected rank at most 2, as 2 rounds of rank 1, got 3"),
        (lambda: floor_error([1.0, -2.0], 0), "E: expected singular values >= 0, got -2.0"),
        (lambda: floor_error(np.eye(2), -1), "r: expected an integer >= 0, got -1"),
        (lambda: floor_error(np.eye(2), 0, "nuclear"), "norm: expected one of spectral, frobenius, got 'nuclear'"),
        (lambda: spectral_rank([1.0], 1.5), r"energy: expected a share in \[0, 1\], got 1.5"),
        (lambda: decay_rank("power", 0.5), "rate: expected a rate above 0.5 for an infinite spectrum, got 0.5"),
        (lambda: decay_rank("power", 1.0, 1.0), "energy: expected a share below 1 for an infinite spectrum, got 1.0"),
    ],
)
def test_messages_give_argument_expected_and_got(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
