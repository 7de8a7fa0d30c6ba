"""Frozen non-linear networks adapted to a target network: ReLU nets and plain transformers.

Constructions, no training. They speak of networks without residual stream, LayerNorm, mask or 1/sqrt(D): they are no
theorems about GPT blocks.

Glossary: a ReLU layer is a pair (W, b); a *block* of a ReLU net is the group of frozen layers that stands for one
layer of the target; tokens are the columns of a transformer's input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from theory.chains import Gap, adapt, check_chain, gap, spectral, stretch
from theory.lowrank import LowRank, column_norms, frobenius
from theory.numerics import Array, integer, matrix, rank_tolerance, real, require, vector

ReluLayer: TypeAlias = tuple[ArrayLike, ArrayLike]


class ReluAdapters(NamedTuple):
    """What :func:`relu_adapters` returns, input layer first; `biases` replace the frozen ones."""

    adapters: list[LowRank]
    biases: list[Array]


class Block(NamedTuple):
    """One transformer block: heads (Wq, Wk, Wv, Wo), all D x D; W1, W2 D x D; b1, b2 (D,)."""

    heads: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]]
    W1: ArrayLike
    b1: ArrayLike
    W2: ArrayLike
    b2: ArrayLike


class TransformerWeights(NamedTuple):
    """Blocks, input first, and the output matrix Wout (d_out x D)."""

    blocks: Sequence[Block]
    Wout: ArrayLike


class TransformerAdapters(NamedTuple):
    """What :func:`transformer_adapters` returns.

    q, k, v, o: [layer][head]; w2_last, out: the last W2 and Wout; b1, b2: [layer], replacing the frozen biases.
    """

    q: list[list[LowRank]]
    k: list[list[LowRank]]
    v: list[list[LowRank]]
    o: list[list[LowRank]]
    w2_last: LowRank
    out: LowRank
    b1: list[Array]
    b2: list[Array]


# ---- relu_network ----


def relu_forward(layers: Sequence[ReluLayer], x: ArrayLike) -> Array:
    """Output of a ReLU net, ReLU after every layer, the last too.

    Args:
        layers: list of (W, b), input first.
        x: (d_0,) or d_0 x N, one column per input.

    Raises:
        ValueError: no layers, shapes that do not fit, not finite and real.
    """
    weights, biases = _layers(layers, "layers")
    single = np.ndim(x) == 1
    h = vector(x, "x")[:, None] if single else matrix(x, "x")
    require(h.shape[0] == weights[0].shape[1], "x", f"{weights[0].shape[1]} rows", f"{h.shape[0]} rows")
    for w, b in zip(weights, biases, strict=True):
        h = np.maximum(w @ h + b[:, None], 0.0)
    return h[:, 0] if single else h


def adapted_relu(frozen: Sequence[ReluLayer], adapted: ReluAdapters) -> list[tuple[Array, Array]]:
    """The adapted net as a list of (W + U, b), input first.

    Raises:
        ValueError: shapes or lengths that do not fit.
    """
    weights, _ = _layers(frozen, "frozen")
    count = len(weights)
    for name, size in (("adapters", len(adapted.adapters)), ("biases", len(adapted.biases))):
        require(size == count, f"adapted.{name}", f"{count} entries, one per layer", size)
    layers = []
    for at, (w, update, bias) in enumerate(zip(weights, adapted.adapters, adapted.biases, strict=True)):
        require(update.shape == w.shape, f"adapted.adapters[{at}]", f"shape {w.shape}", update.shape)
        b = vector(bias, f"adapted.biases[{at}]")
        require(b.size == len(w), f"adapted.biases[{at}]", f"length {len(w)}, as W has rows", b.size)
        layers.append((w + update.dense(), b))
    return layers


def relu_adapters(frozen: Sequence[ReluLayer], target: Sequence[ReluLayer], r: int, radius: float) -> ReluAdapters:
    """Adapters of rank at most r and new biases with which a frozen ReLU net takes on a target net.

    The L frozen layers fall into Lbar blocks of M = floor(L / Lbar) layers, the last with the L - Lbar M extra ones.
    Within a block all but the last ReLU are held open by biases just large enough for every input of the ball, so the
    block is one linear chain, adapted as in :func:`theory.approximation.deep_linear_adapters`.

    Args:
        frozen: L layers (W, b), input first.
        target: Lbar <= L layers (W, b); each block's input and output sizes are those of its target layer.
        r: rank per layer, >= 0.
        radius: bound of the Euclidean norm of the inputs, >= 0.

    Returns:
        adapters and biases. On the ball the adapted net is the target for r >= :func:`relu_rank`, and within
        :func:`relu_error_bound` of it otherwise, up to rounding (amplified by the condition numbers of the chains).

    Raises:
        ValueError: shapes that do not fit, not finite and real, fewer frozen than target layers, r or radius
            negative; or, naming ``frozen[l]``, a layer that is not regular to working precision within its block
            (as in deep_linear; nothing is asked where each block has one layer).

    Source: claim relu_network; [Z] construction.
    """
    rank, bound = integer(r, "r", 0), _radius(radius)
    weights, _ = _layers(frozen, "frozen")
    adapters: list[LowRank] = []
    biases: list[Array] = []
    for block, w_bar, b_bar in _blocks(frozen, target):
        chain = [weights[at] for at in block]
        found = adapt(chain, w_bar, rank, [f"frozen[{at}]" for at in block])
        adapters += found.adapters
        prefix, offset = np.eye(w_bar.shape[1]), np.zeros(w_bar.shape[1])
        for w, update in zip(chain[:-1], found.adapters[:-1], strict=True):
            adapted = w + update.dense()
            prefix = adapted @ prefix
            wanted = bound * column_norms(prefix.T)  # |row . x| <= ||row|| ||x||, attained on the ball
            biases.append(wanted - adapted @ offset)
            offset = wanted
        biases.append(b_bar - (chain[-1] + found.adapters[-1].dense()) @ offset)
        bound = (spectral(w_bar) + found.floor + found.tolerance) * bound + frobenius(b_bar)
    return ReluAdapters(adapters, biases)


def relu_rank(frozen: Sequence[ReluLayer], target: Sequence[ReluLayer]) -> int:
    """Least rank at which :func:`relu_adapters` is exact: the largest ``ceil(rank gap / layers)`` over the blocks.

    The gap of block i is ``Wbar_i - (product of its frozen weights)``; ranks are numerical. It is at most
    ``max_i ceil(rank gap / M)``, and smaller where the last, longer block decides.

    Raises:
        ValueError: as :func:`relu_adapters`, but for full rank.

    Source: claim relu_network; [Z].
    """
    return max(-(-found.rank // depth) for found, depth in _relu_gaps(frozen, target))


def relu_error_bound(frozen: Sequence[ReluLayer], target: Sequence[ReluLayer], r: int, radius: float) -> float:
    """Most that the net of :func:`relu_adapters` differs from the target, in Euclidean norm, on the ball.

    ``sum_i s_i X_{i-1} prod_{k>i} (||Wbar_k|| + s_k)`` with s_i = sigma_{r |P_i| + 1} of the gap of block i,
    X_0 = radius, X_i = ||Wbar_i|| X_{i-1} + ||bbar_i||, spectral norms.

    Returns:
        float; 0.0 from :func:`relu_rank` on.

    Raises:
        ValueError: as :func:`relu_adapters`, but for full rank.

    Source: claim relu_network (ours).
    """
    rank, size = integer(r, "r", 0), _radius(radius)
    error = 0.0
    for (found, depth), (_, w_bar, b_bar) in zip(_relu_gaps(frozen, target), _blocks(frozen, target), strict=True):
        s, norm = found.floor(rank * depth), spectral(w_bar)
        error = (norm + s) * error + s * size
        size = norm * size + frobenius(b_bar)
    return error


def _radius(radius: float) -> float:
    value = real(radius, "radius")
    require(value >= 0, "radius", "a number >= 0", radius)
    return value


def _layers(layers: Sequence[ReluLayer], name: str) -> tuple[list[Array], list[Array]]:
    require(len(layers) > 0, name, "at least one layer", "none")
    weights, biases = [], []
    for at, layer in enumerate(layers):
        require(len(layer) == 2, f"{name}[{at}]", "a pair (W, b)", f"{len(layer)} entries")
        weights.append(matrix(layer[0], f"{name}[{at}].W"))
        biases.append(vector(layer[1], f"{name}[{at}].b"))
        rows = weights[at].shape[0]
        require(biases[at].size == rows, f"{name}[{at}].b", f"length {rows}, as W has rows", biases[at].size)
    check_chain(weights, [f"{name}[{at}].W" for at in range(len(weights))])
    return weights, biases


def _blocks(frozen: Sequence[ReluLayer], target: Sequence[ReluLayer]) -> list[tuple[range, Array, Array]]:
    """(indices of the frozen layers, Wbar, bbar) for each target layer; checks that the sizes fit."""
    weights, _ = _layers(frozen, "frozen")
    wanted, biases = _layers(target, "target")
    depth, count = len(weights), len(wanted)
    require(depth >= count, "frozen", f"at least {count} layers, as the target has", depth)
    step = depth // count
    blocks = []
    for i, (w_bar, b_bar) in enumerate(zip(wanted, biases, strict=True)):
        block = range(i * step, depth if i == count - 1 else (i + 1) * step)
        shape = (weights[block[-1]].shape[0], weights[block[0]].shape[1])
        expected = f"shape {shape}, as the product of frozen layers {block[0]} to {block[-1]}"
        require(w_bar.shape == shape, f"target[{i}].W", expected, w_bar.shape)
        blocks.append((block, w_bar, b_bar))
    return blocks


def _relu_gaps(frozen: Sequence[ReluLayer], target: Sequence[ReluLayer]) -> list[tuple[Gap, int]]:
    weights, _ = _layers(frozen, "frozen")
    return [(gap([weights[at] for at in block], w_bar), len(block)) for block, w_bar, _ in _blocks(frozen, target)]


# ---- transformer ----


def transformer_forward(weights: TransformerWeights, X: ArrayLike) -> Array:
    """Reference forward pass; no residual stream, LayerNorm, mask or 1/sqrt(D).

    A block maps Z to ``W2 relu(W1 Y + b1) + b2`` with ``Y = sum_h Wo Wv Z softmax((Wk Z)^T (Wq Z))``, the softmax
    over each column, i.e. over the keys of one query; the output is ``Wout Z``.

    Args:
        weights: D x D matrices, biases (D,), Wout d_out x D.
        X: D x N, one token per column, N >= 1.

    Returns:
        d_out x N.

    Raises:
        ValueError: shapes that do not fit, not finite and real.
    """
    net = _transformer(weights, "weights")
    z = matrix(X, "X")
    size = net.out.shape[1]
    require(z.shape[0] == size and z.shape[1] > 0, "X", f"{size} rows and at least one column", z.shape)
    for block in net.blocks:
        y = np.zeros_like(z)
        for wq, wk, wv, wo in block.heads:
            scores = (wk @ z).T @ (wq @ z)
            shares = np.exp(scores - scores.max(axis=0))
            y += wo @ (wv @ z) @ (shares / shares.sum(axis=0))
        z = block.w2 @ np.maximum(block.w1 @ y + block.b1[:, None], 0.0) + block.b2[:, None]
    return net.out @ z


def adapted_transformer(frozen: TransformerWeights, adapted: TransformerAdapters) -> TransformerWeights:
    """The frozen weights with the updates added and the biases replaced.

    Raises:
        ValueError: shapes or lengths that do not fit.
    """
    net = _transformer(frozen, "frozen")
    depth = len(net.blocks)
    for name in ("q", "k", "v", "o", "b1", "b2"):
        part = getattr(adapted, name)
        require(len(part) == depth, f"adapted.{name}", f"{depth} entries, one per block", len(part))
    blocks = []
    for at, block in enumerate(net.blocks):
        for name in ("q", "k", "v", "o"):
            got, expected = len(getattr(adapted, name)[at]), len(block.heads)
            require(got == expected, f"adapted.{name}[{at}]", f"{expected} entries, one per head", got)
        heads = []
        for h, (wq, wk, wv, wo) in enumerate(block.heads):
            where = f"[{at}][{h}]"
            heads.append(
                (
                    _plus(wq, adapted.q[at][h], "adapted.q" + where),
                    _plus(wk, adapted.k[at][h], "adapted.k" + where),
                    _plus(wv, adapted.v[at][h], "adapted.v" + where),
                    _plus(wo, adapted.o[at][h], "adapted.o" + where),
                )
            )
        w2 = _plus(block.w2, adapted.w2_last, "adapted.w2_last") if at == depth - 1 else block.w2
        blocks.append(Block(heads, block.w1, adapted.b1[at], w2, adapted.b2[at]))
    result = TransformerWeights(blocks, _plus(net.out, adapted.out, "adapted.out"))
    _transformer(result, "adapted")
    return result


def transformer_adapters(frozen: TransformerWeights, target: TransformerWeights, r: int) -> TransformerAdapters:
    """Adapters of rank at most r and new biases with which a frozen transformer takes on a target transformer.

    Each pair of neighbouring matrices is a linear chain of two layers, adapted so that the frozen net runs through
    the target's hidden units: its residual-free stream Z_l is the target's up to C_{l+1} = Wbar_{2,l} W_{2,l}^{-1}.

    Args:
        frozen, target: equal numbers of blocks and heads, D x D matrices, Wout d_out x D.
        r: rank per matrix, >= 0.

    Returns:
        updates of every Wq, Wk, Wv, Wo, of the last W2 and of Wout, and all feed-forward biases. The adapted net is
        the target on all inputs for r >= :func:`transformer_rank`, up to rounding (amplified by condition numbers);
        below that each product is as close as rank 2 r brings it, and nothing is claimed of the outputs.

    Raises:
        ValueError: shapes that do not fit, not finite and real, r not an integer >= 0. Naming the matrix: a frozen
            W1 or W2 (not the last) that is singular to working precision; a frozen Wq, Wk, Wv, Wo, last W2 or Wout that
            is, where its pair needs an update that it prevents; a target b2 outside the range of its W2, or
            ``Wbar_out bbar_2`` of the last block outside the range of the adapted Wout.

    Source: claim transformer; [Z] construction.
    """
    rank = integer(r, "r", 0)
    source, wanted = _transformer(frozen, "frozen"), _transformer(target, "target")
    parts: list[list[list[LowRank]]] = [[], [], [], []]
    for at, heads in enumerate(_head_chains(source, wanted)):
        for part in parts:
            part.append([])
        for h, (scores, values) in enumerate(heads):
            where = f"frozen.blocks[{at}].heads[{h}]"
            first, second = _adapt(scores, rank, [f"{where} Wq", f"{where} Wk"])
            parts[0][at].append(first)
            parts[1][at].append(LowRank(second.A.T, second.B.T, second.scale))
            first, second = _adapt(values, rank, [f"{where} Wv", f"{where} Wo"])
            parts[2][at].append(first)
            parts[3][at].append(second)
    last = len(source.blocks) - 1
    names = [f"frozen.blocks[{last}].W2", "frozen.Wout"]
    w2, out = _adapt(_output_chain(source, wanted), rank, names)
    b2 = []
    for at, (have, want) in enumerate(zip(source.blocks, wanted.blocks, strict=True)):
        if at < last:
            b2.append(have.w2 @ _preimage(want.w2, want.b2, f"target.blocks[{at}].b2", "the range of its W2"))
        else:
            name, space = f"target.blocks[{at}].b2", "that Wout maps it into the range of the adapted Wout"
            b2.append(_preimage(source.out + out.dense(), wanted.out @ want.b2, name, space))
    return TransformerAdapters(
        parts[0], parts[1], parts[2], parts[3], w2, out, [block.b1.copy() for block in wanted.blocks], b2
    )


def transformer_rank(frozen: TransformerWeights, target: TransformerWeights) -> int:
    """Least rank at which :func:`transformer_adapters` is exact: ``ceil(largest rank gap / 2)``.

    The gaps are those of Wk^T Wq and Wo Wv in every head against the calibrated target products
    ``C_l^T Wbar_k^T Wbar_q C_l`` and ``W1^{-1} Wbar_1 Wbar_o Wbar_v C_l``, and of Wout W2 of the last block; ranks are
    numerical.

    Raises:
        ValueError: shapes that do not fit, not finite and real, a frozen W1 or W2 (not the last) that is singular.

    Source: claim transformer; [Z].
    """
    source, wanted = _transformer(frozen, "frozen"), _transformer(target, "target")
    chains = [chain for heads in _head_chains(source, wanted) for head in heads for chain in head]
    chains.append(_output_chain(source, wanted))
    return max(-(-gap(*chain).rank // 2) for chain in chains)


class _Block(NamedTuple):
    heads: list[list[Array]]
    w1: Array
    b1: Array
    w2: Array
    b2: Array


class _Net(NamedTuple):
    blocks: list[_Block]
    out: Array


class _Chain(NamedTuple):
    """Two neighbouring matrices, what their product is to become, and how exactly that is known."""

    pair: list[Array]
    target: Array
    uncertain: float


def _adapt(chain: _Chain, r: int, names: list[str]) -> list[LowRank]:
    """To the target as it was computed; where a singular matrix prevents that, up to what is certain of it."""
    try:
        return adapt(chain.pair, chain.target, r, names).adapters
    except ValueError:
        return adapt(chain.pair, chain.target, r, names, chain.uncertain).adapters


def _plus(w: Array, update: LowRank, name: str) -> Array:
    require(update.shape == w.shape, name, f"shape {w.shape}", update.shape)
    return w + update.dense()


def _transformer(weights: TransformerWeights, name: str) -> _Net:
    out = matrix(weights.Wout, f"{name}.Wout")
    size = out.shape[1]
    require(min(out.shape) > 0, f"{name}.Wout", "at least one row and one column", out.shape)
    require(len(weights.blocks) > 0, f"{name}.blocks", "at least one block", "none")

    def square(value: ArrayLike, where: str) -> Array:
        w = matrix(value, where)
        require(w.shape == (size, size), where, f"shape {(size, size)}, as Wout has {size} columns", w.shape)
        return w

    def bias(value: ArrayLike, where: str) -> Array:
        b = vector(value, where)
        require(b.size == size, where, f"length {size}", b.size)
        return b

    blocks = []
    for at, block in enumerate(weights.blocks):
        where = f"{name}.blocks[{at}]"
        require(len(block.heads) > 0, f"{where}.heads", "at least one head", "none")
        heads = []
        for h, head in enumerate(block.heads):
            require(len(head) == 4, f"{where}.heads[{h}]", "(Wq, Wk, Wv, Wo)", f"{len(head)} entries")
            heads.append([square(w, f"{where}.heads[{h}] {kind}") for kind, w in zip(_KINDS, head, strict=True)])
        blocks.append(_Block(heads, square(block.W1, f"{where}.W1"), bias(block.b1, f"{where}.b1"),
                             square(block.W2, f"{where}.W2"), bias(block.b2, f"{where}.b2")))  # fmt: skip
    return _Net(blocks, out)


_KINDS = ("Wq", "Wk", "Wv", "Wo")


def _product(pair: list[Array], factors: Sequence[tuple[Array, float]]) -> _Chain:
    """The chain `pair`, which is to become the product of the matrices in `factors`.

    Beside each stands the condition number of what it was divided by. To first order, each and its multiplication
    add that times g, relative to the product of all norms, g = 8 eps D.
    """
    values, conditions = zip(*factors, strict=True)
    off = math.prod((_GROWTH, len(values[-1]), sum(conditions), *map(stretch, values)))
    return _Chain(pair, reduce(np.matmul, values), off)


def _output_chain(frozen: _Net, target: _Net) -> _Chain:
    return _product([frozen.blocks[-1].w2, frozen.out], [(target.out, 1.0), (target.blocks[-1].w2, 1.0)])


def _head_chains(frozen: _Net, target: _Net) -> list[list[tuple[_Chain, _Chain]]]:
    """[block][head]: (Wq, Wk^T with its calibrated target), (Wv, Wo with its calibrated target)."""
    require(target.out.shape == frozen.out.shape, "target.Wout", f"shape {frozen.out.shape}", target.out.shape)
    depth, size = len(frozen.blocks), frozen.out.shape[1]
    require(len(target.blocks) == depth, "target.blocks", f"{depth} blocks, as frozen has", len(target.blocks))
    calibration, condition = np.eye(size), 1.0
    result = []
    for at, (have, want) in enumerate(zip(frozen.blocks, target.blocks, strict=True)):
        count, got = len(have.heads), len(want.heads)
        require(got == count, f"target.blocks[{at}].heads", f"{count} heads, as the frozen block has", got)
        lift = _quotient(have.w1, want.w1, f"frozen.blocks[{at}].W1")
        heads = []
        for (wq, wk, wv, wo), (tq, tk, tv, to) in zip(have.heads, want.heads, strict=True):
            scores = [(calibration.T, condition), (tk.T, 1.0), (tq, 1.0), (calibration, condition)]
            values = [lift, (to, 1.0), (tv, 1.0), (calibration, condition)]
            heads.append((_product([wq, wk.T], scores), _product([wv, wo], values)))
        result.append(heads)
        if at < depth - 1:
            turned, condition = _quotient(have.w2.T, want.w2.T, f"frozen.blocks[{at}].W2")
            calibration = turned.T
    return result


def _quotient(w: Array, b: Array, name: str) -> tuple[Array, float]:
    """(W^-1 b, the condition number of W); it is known within g times that, relative to its norm."""
    left, values, right = np.linalg.svd(w)
    got = int(np.count_nonzero(values > rank_tolerance(w.shape, float(values[0]))))
    require(got == w.shape[0], name, f"an invertible layer (rank {w.shape[0]})", f"rank {got}")
    found: Array = (right.T / values) @ (left.T @ b)
    return found, float(values[0] / values[-1])


def _preimage(w: Array, b: Array, name: str, space: str) -> Array:
    """Least-norm y with w y = b; a solve by SVD leaves a residual relative to ||w|| ||y||."""
    left, values, right = np.linalg.svd(w, full_matrices=False)
    rank = int(np.count_nonzero(values > rank_tolerance(w.shape, float(values[0]))))
    y: Array = right[:rank].T @ ((left.T @ b)[:rank] / values[:rank])
    off = frobenius(w @ y - b)
    allowed = rank_tolerance(w.shape, float(values[0]) * frobenius(y))
    require(off <= allowed, name, f"a bias in {space}", f"distance {off:.3g}")
    return y


#: growth of rounding errors per unit of matrix size, twice the factor of :func:`theory.numerics.rank_tolerance`
_GROWTH = rank_tolerance((2,), 1.0)
