"""ReLU nets and transformers adapted to a target: messages that name the layer, gaps that are nearly noise."""

import numpy as np
import pytest

from theory.networks import (
    Block,
    TransformerWeights,
    adapted_transformer,
    relu_adapters,
    relu_error_bound,
    relu_rank,
    transformer_adapters,
    transformer_rank,
)


def test_errors_name_the_layer() -> None:
    eye, low, zero = np.eye(2), np.diag([1.0, 0.0]), np.zeros(2)
    target = [(np.diag([5.0, 3.0]), zero)]
    with pytest.raises(ValueError, match=r"^frozen\[2\]: expected a layer regular to working precision"):
        relu_adapters([(eye, zero), (eye, zero), (low, zero)], target, 1, 1.0)
    with pytest.raises(ValueError, match=r"^frozen: expected at least 2 layers, as the target has, got 1$"):
        relu_rank([(eye, zero)], target * 2)
    with pytest.raises(ValueError, match=r"^target\[0\]\.W: expected shape \(2, 2\)"):
        relu_error_bound([(eye, zero)], [(np.ones((1, 2)), np.zeros(1))], 1, 1.0)
    with pytest.raises(ValueError, match=r"^radius: expected a number >= 0, got -1\.0$"):
        relu_adapters([(eye, zero)], target, 1, -1.0)
    net = TransformerWeights([Block([(eye, eye, eye, eye)], low, zero, eye, zero)], eye)
    with pytest.raises(
        ValueError, match=r"^frozen\.blocks\[0\]\.W1: expected an invertible layer \(rank 2\), got rank 1$"
    ):
        transformer_adapters(net, net, 1)
    frozen = TransformerWeights([Block([(eye, 0 * eye, eye, eye)], eye, zero, eye, zero)], eye)
    odd = TransformerWeights([Block([(eye, np.diag([3.0, 2.0]), eye, eye)], eye, zero, eye, zero)], eye)
    with pytest.raises(ValueError, match=r"^frozen\.blocks\[0\]\.heads\[0\] Wk: expected a layer regular"):
        transformer_adapters(frozen, odd, 1)


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
