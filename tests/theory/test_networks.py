"""ReLU nets and transformers adapted to a target: torch as second oracle, sizes, types, messages."""

from itertools import pairwise

import numpy as np
import pytest

from theory.networks import (
    Block,
    TransformerWeights,
    adapted_transformer,
    relu_adapters,
    relu_error_bound,
    relu_forward,
    relu_rank,
    transformer_adapters,
    transformer_forward,
    transformer_rank,
)
from theory.numerics import EPS, stream


def relu_net(rng, sizes, spread=0.3):
    """Near-identity layers, so that every condition number stays under about 10."""
    return [
        (np.eye(b, a) + spread * rng.standard_normal((b, a)) / np.sqrt(a), rng.standard_normal(b))
        for a, b in pairwise(sizes)
    ]


def transformer(rng, size, depth, heads, rows):
    def w(m=size):
        return np.eye(m, size) + 0.3 * rng.standard_normal((m, size)) / np.sqrt(size)

    def block():
        return Block([(w(), w(), w(), w()) for _ in range(heads)], w(), w()[0], w(), w()[1])

    return TransformerWeights([block() for _ in range(depth)], w(rows))


def test_relu_forward_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = stream(5, "torch")
    net = relu_net(rng, [3, 5, 2, 4])
    x = rng.standard_normal((3, 7))
    h = torch.tensor(x.T)
    for w, b in net:
        h = torch.relu(torch.nn.functional.linear(h, torch.tensor(w), torch.tensor(b)))
    assert np.allclose(relu_forward(net, x), h.numpy().T, rtol=0, atol=64 * EPS * float(h.max()))  # 3 layers, width 5
    one = relu_forward(net, x[:, 2])
    assert one.shape == (4,)
    assert np.allclose(relu_forward(net, x)[:, 2], one, rtol=0, atol=64 * EPS * float(h.max()))


def test_transformer_forward_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    rng = stream(6, "torch")
    net = transformer(rng, 4, 2, 2, 3)
    x = rng.standard_normal((4, 5))
    z = torch.tensor(x.T)  # torch has tokens as rows
    for block in net.blocks:
        y = torch.zeros_like(z)
        for wq, wk, wv, wo in block.heads:
            q, k, v = (z @ torch.tensor(w).T for w in (wq, wk, wv))
            y = y + torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0) @ torch.tensor(wo).T
        z = torch.relu(y @ torch.tensor(block.W1).T + torch.tensor(block.b1)) @ torch.tensor(block.W2).T
        z = z + torch.tensor(block.b2)
    oracle = (z @ torch.tensor(net.Wout).T).numpy().T
    # two blocks of six products; the softmax turns an error of a score into the same relative error of a share
    assert np.allclose(transformer_forward(net, x), oracle, rtol=0, atol=4096 * EPS * float(np.abs(oracle).max()))


def test_one_token_is_linear_up_to_the_relu() -> None:
    eye = np.eye(2)
    net = TransformerWeights(
        [Block([(eye, eye, eye, 2 * eye)], eye, [1.0, -2.0], eye, [1.0, 2.0])], np.diag([2.0, 1.0])
    )
    assert transformer_forward(net, [[2.0], [3.0]]).tolist() == [[12.0], [6.0]]
    assert transformer_rank(net, net) == 0


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
