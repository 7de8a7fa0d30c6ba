"""Checks of the topic networks: frozen ReLU nets and plain transformers adapted to a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from theory.chains import adapt
from theory.checks import (
    CheckFailed,
    Code,
    Figure,
    check,
    expect,
    expect_close,
    expect_entries,
    expect_mutant_rejected,
    expect_rejected,
    for_all,
)
from theory.checks.strategies import conditioned, orthonormal, seeds, with_spectrum
from theory.lowrank import LowRank
from theory.networks import (
    Block,
    ReluAdapters,
    TransformerAdapters,
    TransformerWeights,
    adapted_relu,
    adapted_transformer,
    relu_adapters,
    relu_error_bound,
    relu_forward,
    relu_rank,
    transformer_adapters,
    transformer_forward,
    transformer_rank,
)
from theory.numerics import EPS, Array, rank_tolerance, stream

# ---- relu_network ----


@check("relu_network")
def relu_network_symbolic(code: Code) -> None:
    """The open ReLU, the folded biases and the bound with free symbols; a whole net in exact rational arithmetic."""
    import sympy

    # the offset holds the ReLU open: (row . x)^2 <= ||row||^2 ||x||^2, Lagrange's identity
    row, x = sympy.symbols("r1:5"), sympy.symbols("x1:5")
    slack = sum(a**2 for a in row) * sum(a**2 for a in x) - sum(a * b for a, b in zip(row, x, strict=True)) ** 2
    squares = sum((row[i] * x[j] - row[j] * x[i]) ** 2 for i in range(4) for j in range(i))
    expect(sympy.expand(slack - squares) == 0, "Cauchy-Schwarz")
    # three layers of a block, all open: the offsets cancel and the chain is A3 A2 A1 x + bbar
    a1, a2, a3, v, o1, o2, bbar = sympy.symbols("a1 a2 a3 v o1 o2 bbar", commutative=False)
    first = a1 * v + o1
    second = a2 * first + (o2 - a2 * o1)
    third = a3 * second + (bbar - a3 * o2)
    expect(sympy.expand(second - a2 * a1 * v - o2) == 0, "the offset after two layers")
    expect(sympy.expand(third - a3 * a2 * a1 * v - bbar) == 0, "an open block is linear")
    # error recursion e_i = (w_i + s_i) e_{i-1} + s_i X_{i-1}, X_i = w_i X_{i-1} + b_i, against the closed sum
    for depth in range(1, 5):
        w, s, b = (sympy.symbols(f"{c}1:{depth + 1}", nonnegative=True) for c in "wsb")
        radius = sympy.symbols("radius", nonnegative=True)
        error, size, sizes, adapted = sympy.Integer(0), radius, [radius], radius
        for i in range(depth):
            error, size = (w[i] + s[i]) * error + s[i] * size, w[i] * size + b[i]
            adapted = (w[i] + s[i]) * adapted + b[i]
            sizes.append(size)
        closed = sum(s[i] * sizes[i] * math.prod(w[k] + s[k] for k in range(i + 1, depth)) for i in range(depth))
        expect(sympy.expand(error - closed) == 0, f"the bound of {depth} blocks in closed form")
        # attained: scalars w_i + s_i in place of w_i, positive input and biases, so no ReLU closes
        expect(sympy.expand(adapted - sizes[-1] - closed) == 0, f"the witness of {depth} blocks")
        # whole numbers: target layers i + 1, frozen ones larger by s = i + 2, biases i
        numbers = [(i + 1, i + 2, i) for i in range(depth)]
        want = closed.subs({radius: 3} | {x: v for row, vs in zip(zip(w, s, b, strict=True), numbers, strict=True)
                                          for x, v in zip(row, vs, strict=True)})  # fmt: skip
        frozen, target = ([([[sum(v[:k])]], [v[2]]) for v in numbers] for k in (2, 1))
        got = code.relu_error_bound(frozen, target, 0, 3)
        expect_close(got, int(want), 16 * depth * EPS * int(want), f"the bound of {depth} scalar layers")
        expect(code.relu_error_bound(frozen, target, 1, 3) == 0, "nothing is lost at the threshold")
    _exact_relu(code)


def _exact_relu(code: Code) -> None:
    """Four frozen 2 x 2 layers as a target of two, in rationals and as coded; offsets bound rows in the 1-norm."""
    import sympy

    frozen = [sympy.Matrix([[2, 1], [1, 1]]), sympy.Matrix([[1, -1], [1, 2]])] * 2
    wanted = [sympy.Matrix([[3, -4], [5, 1]]), sympy.Matrix([[-1, 2], [2, -1]])]
    shift = [sympy.Matrix([1, -2]), sympy.Matrix([sympy.Rational(1, 2), 3])]
    bound = sympy.Integer(2)  # of the largest entry of the input
    grid = [sympy.Matrix(p) for p in product((-2, -1, 0, sympy.Rational(1, 3), 2), repeat=2)]
    outputs = list(grid)
    for i in range(2):
        lower, upper = frozen[2 * i], frozen[2 * i + 1]
        gap = wanted[i] - upper * lower
        # a rational split of the gap into two rank-one terms: the first row and the second row
        pieces = [sympy.Matrix([gap.row(0), [0, 0]]), sympy.Matrix([[0, 0], gap.row(1)])]
        first = lower + upper.inv() * pieces[0]
        second = upper + pieces[1] * first.inv()
        expect((first - lower).rank() == 1 and (second - upper).rank() == 1, "rank one per layer")
        offset = sympy.Matrix([sum(abs(e) for e in first.row(k)) * bound for k in range(2)])
        last = shift[i] - second * offset
        outputs = [(second * (first * z + offset).applyfunc(_relu) + last).applyfunc(_relu) for z in outputs]
        bound = max(sum(abs(e) for e in wanted[i].row(k)) * bound + abs(shift[i][k]) for k in range(2))
    targets = [(wanted[1] * (wanted[0] * z + shift[0]).applyfunc(_relu) + shift[1]).applyfunc(_relu) for z in grid]
    expect(outputs == targets, "the exact ReLU net is not the target")
    bare = [(np.array(w.tolist(), dtype=float), np.zeros(2)) for w in frozen]
    goal = [(np.array(w.tolist(), dtype=float), np.array(b.tolist(), dtype=float)[:, 0])
            for w, b in zip(wanted, shift, strict=True)]  # fmt: skip
    expect(code.relu_rank(bare, goal) == 1, "gaps of rank 2 over two layers each")
    layers = code.adapted_relu(bare, code.relu_adapters(bare, goal, 1, 3.0))  # the grid has norms up to sqrt(8)
    net = _Net(bare, goal, [], [range(2), range(2, 4)])
    for z, want in zip(grid, targets, strict=True):
        x = np.array(z.tolist(), dtype=float)[:, 0]
        room = _relu_room(net, layers, 1, x)
        for some in (layers, goal):
            expect_entries(code.relu_forward(some, x), want.T.tolist()[0], room, f"the ReLU nets at {z.T.tolist()}")


def _relu(x: Any) -> Any:
    return max(x, 0)


class _Net(NamedTuple):
    frozen: list[tuple[Array, Array]]
    target: list[tuple[Array, Array]]
    gaps: list[Array]  # singular values of the gap of each block
    blocks: list[range]


def _draw_relu(data: Any) -> _Net:
    """Frozen net and target whose gaps have planted spectra; widths grow inside a block where they may."""
    count = data.draw(st.integers(1, 3))
    depth = count + data.draw(st.integers(0, 4))
    rng = stream(data.draw(seeds), "relu")
    condition = data.draw(st.sampled_from([1.0, 3.0, 30.0]))
    scale = data.draw(st.sampled_from([1e-6, 1e-2, 1.0, 1e6]))
    step = depth // count
    blocks = [range(i * step, depth if i == count - 1 else (i + 1) * step) for i in range(count)]
    ends = [data.draw(st.integers(1, 5)) for _ in range(count + 1)]
    frozen: list[tuple[Array, Array]] = []
    target, gaps = [], []
    for i, block in enumerate(blocks):
        wide = max(ends[i], ends[i + 1])
        sizes = [ends[i], *(wide + data.draw(st.integers(0, 2)) for _ in block[1:]), ends[i + 1]]
        chain = [conditioned(rng, o, n, condition) * scale ** (1 / len(block)) for n, o in pairwise(sizes)]
        frozen += [(w, rng.standard_normal(len(w)) * scale) for w in chain]
        total = chain[0]
        for w in chain[1:]:
            total = w @ total
        planted = np.sort(rng.uniform(0.2, 1.0, min(ends[i], ends[i + 1])))[::-1] * scale
        planted[data.draw(st.integers(0, len(planted))) :] = 0.0
        gaps.append(planted)
        target.append(
            (total + with_spectrum(rng, ends[i + 1], ends[i], planted), rng.standard_normal(ends[i + 1]) * scale)
        )
    return _Net(frozen, target, gaps, blocks)


def _relu_by_hand(layers: Sequence[tuple[Array, Array]], x: Array) -> Array:
    """Forward pass of one input, unit by unit: the second oracle of relu_forward."""
    values = [float(v) for v in x]
    for w, b in layers:
        sums = [
            math.fsum([*(float(e) * v for e, v in zip(row, values, strict=True)), float(c)])
            for row, c in zip(w, b, strict=True)
        ]
        values = [max(s, 0.0) for s in sums]
    return np.array(values)


def _relu_room(net: _Net, layers: list[tuple[Array, Array]], r: int, x: Array) -> float:
    """First-order rounding bound of ||adapted(x) - exact adapted(x)||: chain tolerances plus one forward pass.

    A layer's rounding is 4 eps d (||W|| ||h|| + ||b||), as in rank_tolerance, and grows by ||W|| per later layer; the
    bias of a block's last layer is itself such a product. A block's chain is off by its tolerance times its input.
    """
    room, h = 0.0, x
    for block, (w_bar, _) in zip(net.blocks, net.target, strict=True):
        chain = [net.frozen[at][0] for at in block]
        off = adapt(chain, w_bar, r, ["frozen"] * len(chain)).tolerance * float(np.linalg.norm(h))
        for at in block:
            w, b = layers[at]
            size = float(np.linalg.norm(w, 2))
            room = size * room + 2 * rank_tolerance(
                w.shape, size * float(np.linalg.norm(h)) + 2 * float(np.linalg.norm(b))
            )
            h = np.maximum(w @ h + b, 0.0)
        room += off
    own, h = 0.0, x
    for w, b in net.target:  # the target's own forward pass
        size = float(np.linalg.norm(w, 2))
        own = size * own + rank_tolerance(w.shape, size * float(np.linalg.norm(h)) + float(np.linalg.norm(b)))
        h = np.maximum(w @ h + b, 0.0)
    return room + own


def _bound_by_hand(net: _Net, r: int, radius: float, shift: int) -> float:
    """The stated sum, term by term, from the planted spectra.

    `shift` = -1 or 1 moves each s_i by its rounding, that of a product of the block's layers, a difference and an SVD.
    """
    norms = [float(np.linalg.svd(w, compute_uv=False)[0]) for w, _ in net.target]
    s, sizes = [], [radius]
    for gap, block, norm, (_, b) in zip(net.gaps, net.blocks, norms, net.target, strict=True):
        magnitude = math.prod(float(np.linalg.norm(net.frozen[at][0], 2)) for at in block)
        off = rank_tolerance((7,), norm + (len(block) + 2) * magnitude)  # widths are at most 7
        planted = float(gap[r * len(block)]) if r * len(block) < len(gap) else 0.0
        s.append(max(planted + shift * off, 0.0))
        sizes.append(norm * sizes[-1] + math.sqrt(math.fsum(float(e) ** 2 for e in b)))
    total = math.fsum(s[i] * sizes[i] * math.prod(norms[k] + s[k] for k in range(i + 1, len(s))) for i in range(len(s)))
    return total * (1 + shift * rank_tolerance((7,), len(s)))  # norms and sums themselves


def _relu_network_body(
    construct: Callable[..., ReluAdapters],
    rank: Callable[..., int],
    bound: Callable[..., float],
) -> None:
    def body(data: Any) -> None:
        net = _draw_relu(data)
        radius, r = data.draw(st.sampled_from([1e-3, 1.0, 50.0])), data.draw(st.integers(0, 3))
        least = max(math.ceil(np.count_nonzero(g) / len(b)) for g, b in zip(net.gaps, net.blocks, strict=True))
        expect(rank(net.frozen, net.target) == least, f"{rank(net.frozen, net.target)} for the threshold {least}")
        stated = bound(net.frozen, net.target, r, radius)
        low, high = (_bound_by_hand(net, r, radius, shift) for shift in (-1, 1))
        expect(low <= stated <= high, f"bound {stated}, by hand from {low} to {high}")
        expect((r < least) == (stated > 0), f"bound {stated} at rank {r}, threshold {least}")
        made = construct(net.frozen, net.target, r, radius)
        expect(all(u.columns <= r for u in made.adapters), "an adapter of rank above r")
        layers = adapted_relu(net.frozen, made)
        rng = stream(data.draw(seeds), "inputs")
        for length in (0.0, 0.3, 1.0, 1.0):
            direction = rng.standard_normal(net.frozen[0][0].shape[1])
            x = direction / np.linalg.norm(direction) * length * radius
            got, wanted = _relu_by_hand(layers, x), _relu_by_hand(net.target, x)
            room = _relu_room(net, layers, r, x)
            error = float(np.linalg.norm(got - wanted))
            expect(error <= stated + room, f"error {error} at rank {r}, stated {stated}, rounding {room}")
            expect(np.linalg.norm(relu_forward(layers, x) - got) <= room, "relu_forward differs from the second oracle")
        batch = relu_forward(net.target, np.column_stack([x, 0.5 * x]))
        expect(batch.shape == (len(net.target[-1][1]), 2), f"a batch of shape {batch.shape}")

    for_all(body, 50, data=st.data())


def _relu_witness(bound: Callable[..., float]) -> float:
    """Coordinates 1: what rank 1 mends; coordinate 2: the largest stretch of both target layers. Equality at (0, 2)."""
    target = [(np.diag([1.0, 5.0]), np.array([0.0, 0.5])), (np.diag([1.0, 3.0]), np.array([0.0, 2.0]))]
    frozen = [(np.diag([10.0, 5.25]), np.zeros(2)), (np.diag([-7.0, 3.5]), np.zeros(2))]
    x = np.array([0.0, 2.0])
    layers = adapted_relu(frozen, relu_adapters(frozen, target, 1, 2.0))
    error = float(np.linalg.norm(relu_forward(layers, x) - relu_forward(target, x)))
    want = float((Fraction(7, 2) * (Fraction(21, 4) * 2 + Fraction(1, 2)) + 2) - (3 * (5 * 2 + Fraction(1, 2)) + 2))
    stated = bound(frozen, target, 1, 2.0)
    room = 64 * rank_tolerance((2,), 40.0)
    expect_close(stated, want, room, "the bound of the witness")
    expect_close(error, want, room, "the error of the witness")
    return abs(error / stated - 1)


def _relu_unfinished(construct: Callable[..., ReluAdapters]) -> None:
    """What the first block leaves undone reaches the second, which must stay open inside for that too.

    The inner layer takes (0, 4), where the target's has (0, 2), to its first row's -40: closed at -20 or so, the first
    coordinate would be off by 20. The bound, 2, is attained.
    """
    eye, zero, sheared = np.eye(2), np.zeros(2), np.array([[1.0, -10.0], [0.0, 1.0]])
    frozen = [(w, zero) for w in (eye, np.diag([1.0, 2.0]), sheared, np.array([[1.0, 10.0], [0.0, 1.0]]))]
    target = [(eye, zero)] * 2
    layers = adapted_relu(frozen, construct(frozen, target, 0, 2.0))
    x = np.array([0.0, 2.0])
    error = float(np.linalg.norm(relu_forward(layers, x) - relu_forward(target, x)))
    expect_close(error, 2.0, 64 * rank_tolerance((2,), 400.0), "what rank 0 leaves of two blocks")
    expect_close(relu_error_bound(frozen, target, 0, 2.0), 2.0, rank_tolerance((2,), 64.0), "the bound of two blocks")


def _relu_held_open(construct: Callable[..., ReluAdapters]) -> None:
    """What rounding leaves of the first block's layer reaches the second, which stays open inside for that too: exact.

    Layers of one entry: the inner ReLU of the second block at the end of the ball, where its bias is least spare.
    """
    rng = stream(4, "held_open")
    for *entries, goal, radius in rng.standard_normal((300, 5)):
        target = [([[abs(goal)]], [0.0]), ([[1.0]], [0.0])]
        frozen = [([[entry]], [0.0]) for entry in entries]
        (first, _), (inner, bias), _ = adapted_relu(frozen, construct(frozen, target, 1, abs(radius)))
        reach = Fraction(first.item()) * Fraction(abs(radius))
        expect(Fraction(inner.item()) * reach + Fraction(bias.item()) >= 0, f"closed at {float(reach)}: {frozen}")


def _relu_solvable(construct: Callable[..., ReluAdapters]) -> None:
    """Gaussian layers at a common width, and target layers that no regular product inside a block leads to."""
    rng = stream(3, "relu_solvable")
    layers = [(rng.standard_normal((64, 64)) / 8, rng.standard_normal(64)) for _ in range(6)]
    eye, zero = (np.eye(2), np.ones(2)), np.zeros(2)
    turned = np.array([[0.0, 1.0], [-1.0, 0.0]])
    pairs = [(layers[:4], layers[4:], 32)]
    pairs += [([eye, eye], [(w, zero)], 1) for w in (0 * turned, turned, np.diag([0.0, 1.5]))]
    for frozen, target, r in pairs:
        try:
            made = construct(frozen, target, r, 2.0)
        except ValueError as refusal:
            raise CheckFailed(f"refused, although the layers are regular: {refusal}") from refusal
        expect(all(u.columns <= r for u in made.adapters), "an adapter of rank above r")
        adapted = adapted_relu(frozen, made)
        step = len(frozen) // len(target)
        net = _Net(frozen, target, [], [range(i * step, (i + 1) * step) for i in range(len(target))])
        for x in rng.standard_normal((4, len(target[0][1]))):
            x *= 2.0 / np.linalg.norm(x)
            got, wanted = _relu_by_hand(adapted, x), _relu_by_hand(target, x)
            off, room = float(np.linalg.norm(got - wanted)), _relu_room(net, adapted, r, x)
            expect(off <= room, f"{len(frozen)} layers of size {len(x)}: off by {off:.2g}, rounding {room:.2g}")
            expect(off <= 1e-9 * float(1 + np.linalg.norm(wanted)), f"{len(frozen)} layers: off by {off:.2g}")


def _refuses_singular(frozen: Any, target: Any, r: int, radius: float) -> ReluAdapters:
    made = relu_adapters(frozen, target, r, radius)
    for (w, _), update in zip(frozen[:-1], made.adapters, strict=False):
        if np.linalg.cond(w + update.dense()) > 1e14:
            raise ValueError("frozen: a product on the way is singular")
    return made


@check("relu_network")
def relu_network_numeric() -> Figure:
    """Random nets of 1 to 7 layers, any widths: exact above the threshold, within the bound below; witness; mutants."""
    _relu_network_body(relu_adapters, relu_rank, relu_error_bound)
    _relu_unfinished(relu_adapters)
    _relu_held_open(relu_adapters)
    _relu_solvable(relu_adapters)
    expect_mutant_rejected(_relu_solvable, _refuses_singular, "a product inside a block that may not be singular")
    gap = _relu_witness(relu_error_bound)
    # the last block is longer: M = 1 but its two layers share a gap of rank 2, so rank 1 suffices
    eye, zero = np.eye(2), np.zeros(2)
    frozen = [(eye, zero), (eye, zero), (2 * eye, zero)]
    target = [(eye + np.diag([3.0, 0.0]), np.ones(2)), (np.diag([5.0, 3.0]), -np.ones(2))]
    expect(relu_rank(frozen, target) == 1, "the longer last block halves its gap")
    expect(relu_error_bound(frozen, target, 1, 3.0) == 0.0, "nothing is lost at the threshold")
    expect_mutant_rejected(
        lambda f: _relu_network_body(f, relu_rank, relu_error_bound), _frozen_biases, "the frozen biases kept"
    )
    expect_mutant_rejected(
        lambda f: _relu_network_body(relu_adapters, f, relu_error_bound),
        lambda *a: max(relu_rank(*a) - 1, 0),
        "threshold one too low",
    )
    expect_mutant_rejected(_relu_witness, lambda *a: 1.001 * relu_error_bound(*a), "a loose bound")
    _relu_rejects(frozen, target)
    return Figure("gap of the witness to the bound", gap, "relative")


def _frozen_biases(frozen: Any, target: Any, r: int, radius: float) -> ReluAdapters:
    made = relu_adapters(frozen, target, r, radius)
    return ReluAdapters(made.adapters, [np.asarray(b) for _, b in frozen])


def _relu_rejects(frozen: list[Any], target: list[Any]) -> None:
    eye, zero = np.eye(2), np.zeros(2)
    for index in (1, 2):
        singular = [(eye, zero)] * 3
        singular[index] = (0 * eye, zero)
        expect_rejected(f"frozen[{index}]", relu_adapters, singular, [(np.diag([5.0, 3.0]), zero)], 1, 1.0)
    for function, rest in ((relu_adapters, (1, 1.0)), (relu_rank, ()), (relu_error_bound, (1, 1.0))):
        expect_rejected("frozen", function, [], target, *rest)
        expect_rejected("frozen", function, frozen[:1], target, *rest)
        expect_rejected("target", function, frozen, [], *rest)
        expect_rejected("frozen[1]", function, [frozen[0], (eye,), frozen[2]], target, *rest)
        expect_rejected("frozen[1].W", function, [frozen[0], (np.ones((2, 3)), zero)], target, *rest)
        expect_rejected("frozen[0].W", function, [(np.zeros((2, 0)), zero), frozen[0]], target, *rest)
        expect_rejected("frozen[0].b", function, [(eye, np.zeros(3))] * 2, target, *rest)
        expect_rejected("frozen[0].W", function, [(math.nan * eye, zero), *frozen[1:]], target, *rest)
        expect_rejected("frozen[0].b", function, [(eye, zero + math.nan), *frozen[1:]], target, *rest)
        expect_rejected("target[1].W", function, frozen, [target[0], (np.ones((3, 2)), np.zeros(3))], *rest)
    for function in (relu_adapters, relu_error_bound):
        expect_rejected("r", function, frozen, target, -1, 1.0)
        expect_rejected("radius", function, frozen, target, 1, -1.0)
        expect_rejected("radius", function, frozen, target, 1, math.inf)
    made = relu_adapters(frozen, target, 1, 1.0)
    expect_rejected("adapted.adapters", adapted_relu, frozen, made._replace(adapters=made.adapters[:2]))
    expect_rejected("adapted.biases", adapted_relu, frozen, made._replace(biases=made.biases[:2]))
    wrong = LowRank(np.ones((3, 1)), np.ones((1, 2)))
    expect_rejected("adapted.adapters[0]", adapted_relu, frozen, made._replace(adapters=[wrong] * 3))
    expect_rejected("adapted.biases[0]", adapted_relu, frozen, made._replace(biases=[np.zeros((1, 2))] * 3))
    expect_rejected("adapted.biases[0]", adapted_relu, frozen, made._replace(biases=[np.zeros(3)] * 3))
    expect_rejected("layers", relu_forward, [], zero)
    expect_rejected("x", relu_forward, frozen, np.zeros(3))
    expect_rejected("x", relu_forward, frozen, zero + math.nan)
    expect_rejected("x", relu_forward, frozen, eye + math.nan)
    expect_rejected("x", relu_forward, frozen, np.zeros((1, 2, 2)))


# ---- transformer ----


@check("transformer")
def transformer_symbolic(code: Code) -> None:
    """Calibration in non-commuting symbols, and two blocks with two heads in exact rational arithmetic.

    Nothing in the argument depends on what the softmax is, so the exact run puts a rational map in its place. The
    code runs where its softmax is rational: at one token, and at equal ones.
    """
    import sympy

    names = "Z Zt C Ct Tkt Tq S To Tv W1 T1 W2 T2 y h"
    Z, Zt, C, Ct, Tkt, Tq, S, To, Tv, W1, T1, W2, T2, y, h = sympy.symbols(names, commutative=False)
    scores = Zt * (Ct * Tkt * Tq * C) * Z  # the adapted Wk^T Wq on the frozen stream
    expect(sympy.expand(scores - (Zt * Ct) * Tkt * Tq * (C * Z)) == 0, "scores of the calibrated stream C Z")
    values = W1 * (W1**-1 * T1 * To * Tv * C) * Z * S
    expect(sympy.expand(values - T1 * To * Tv * (C * Z) * S) == 0, "pre-activations of the calibrated stream")
    stream_, wanted = W2 * h + W2 * y, T2 * h + T2 * y  # hidden units h agree; b2 = T2 y
    expect(sympy.expand(T2 * W2**-1 * stream_) == sympy.expand(wanted), "the next calibration is T2 W2^-1")
    _exact_transformer(code)


def _exact_transformer(code: Code) -> None:
    import sympy

    rng = stream(3, "transformer")

    def draw() -> sympy.Matrix:
        # a rotation or reflection times a number: whole entries, condition 1
        a, b = (int(v) for v in rng.integers(1, 4, 2))
        return sympy.Matrix([[a, -b], [b, a]] if rng.integers(2) else [[-b, a], [a, b]])

    def attention(scores: sympy.Matrix) -> sympy.Matrix:
        weights = scores.applyfunc(lambda s: 1 + s**2)
        return sympy.Matrix(2, 2, lambda i, j: weights[i, j] / (weights[0, j] + weights[1, j]))

    def run(blocks: list[Any], out: sympy.Matrix, z: sympy.Matrix) -> sympy.Matrix:
        for products, w1, b1, w2, b2 in blocks:
            y = sum((v * z * attention(z.T * s * z) for s, v in products), sympy.zeros(2, 2))
            hidden = (w1 * y + sympy.Matrix.hstack(b1, b1)).applyfunc(_relu)
            z = w2 * hidden + sympy.Matrix.hstack(b2, b2)
        return out * z

    def floats(matrix: sympy.Matrix) -> Array:
        return np.array(matrix.tolist(), dtype=float)

    x = sympy.Matrix([[1, -2], [sympy.Rational(1, 3), 2]])
    biases = [[sympy.Matrix([1, -1]), sympy.Matrix([2, 1])], [sympy.Matrix([0, 3]), sympy.Matrix([-1, 1])]]
    target: list[Any] = []
    adapted: list[Any] = []
    calibration = sympy.eye(2)
    out, frozen_out = draw(), draw()
    have: list[Block] = []
    want: list[Block] = []
    ranks = [0]
    for b1, b2 in biases:
        w1, w2, f1, f2 = draw(), draw(), draw(), draw()
        matrices, frozen = ([[draw() for _ in range(4)] for _ in range(2)] for _ in range(2))  # k, q, o, v of each head
        heads = [(k.T * q, o * v) for k, q, o, v in matrices]
        target.append((heads, w1, b1, w2, b2))
        for into, four, one, two in ((want, matrices, w1, w2), (have, frozen, f1, f2)):
            split = [(floats(q), floats(k), floats(v), floats(o)) for k, q, o, v in four]
            into.append(Block(split, floats(one), floats(b1)[:, 0], floats(two), floats(b2)[:, 0]))
        lifted = [(calibration.T * s * calibration, f1.inv() * w1 * v * calibration) for s, v in heads]
        for (s, v), (k, q, o, u) in zip(lifted, frozen, strict=True):
            ranks += [(s - k.T * q).rank(), (v - o * u).rank()]
        last = len(adapted) == 1
        # the last pair Wout W2 takes the target's product; before it, W2 stays frozen
        w2_new = frozen_out.inv() * out * w2 if last else f2
        adapted.append((lifted, f1, b1, w2_new, frozen_out.inv() * out * b2 if last else f2 * w2.inv() * b2))
        calibration = w2 * f2.inv()
    expect(run(adapted, frozen_out, x) == run(target, out, x), "the exact transformer is not the target")
    ranks.append((out * w2 - frozen_out * f2).rank())
    source, goal = TransformerWeights(have, floats(frozen_out)), TransformerWeights(want, floats(out))
    expect(code.transformer_rank(source, goal) == math.ceil(Fraction(max(ranks), 2)), f"threshold for gaps {ranks}")
    net = code.adapted_transformer(source, code.transformer_adapters(source, goal, 1))
    for token in ((1, -2), (2, 3), (0, 1), (-3, -1)):
        twice = sympy.Matrix([[t, t] for t in token])  # equal tokens get equal shares, 1 or 1/2, whatever the scores
        exact, X = run(target, out, twice), floats(twice)
        expect_entries(code.transformer_forward(goal, X), exact.tolist(), 0.0, f"the target at {token}")
        expect_entries(code.transformer_forward(goal, X[:, :1]), exact[:, :1].tolist(), 0.0, f"one token {token}")
        room = _transformer_room(source, goal, X)
        expect_entries(code.transformer_forward(net, X), exact.tolist(), room, f"the adapted net at {token}")


def _draw_transformer(data: Any) -> tuple[Any, Any, int]:
    """Frozen and target transformers with planted calibrated gaps, and the exact threshold."""
    size, depth, heads = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    out_rows = data.draw(st.integers(1, size))
    rng = stream(data.draw(seeds), "transformer")
    condition = data.draw(st.sampled_from([1.0, 3.0]))
    most = data.draw(st.integers(0, size))

    def square() -> Array:
        return conditioned(rng, size, size, condition)

    def with_gap(product_: Array, rank: int) -> Array:
        planted = rng.uniform(0.2, 0.6, min(rank, *product_.shape))
        return product_ + with_spectrum(rng, product_.shape[0], product_.shape[1], planted)

    ranks = [0]
    calibration = np.eye(size)
    frozen_blocks: list[Any] = []
    target_blocks: list[Any] = []
    for _ in range(depth):
        w1, w2, t1, t2 = square(), square(), orthonormal(rng, size, size), orthonormal(rng, size, size)
        have, want = [], []
        for _ in range(heads):
            wq, wk, wv, wo = (square() for _ in range(4))
            rank_s, rank_v = rng.integers(0, most + 1, 2)
            ranks += [int(rank_s), int(rank_v)]
            back = np.linalg.inv(calibration)
            # Tk^T Tq = C^-T (Wk^T Wq + gap) C^-1 and To Tv = T1^-1 W1 (Wo Wv + gap) C^-1
            want.append(
                (with_gap(wk.T @ wq, int(rank_s)) @ back, back, with_gap(wo @ wv, int(rank_v)) @ back, t1.T @ w1)
            )
            have.append((wq, wk, wv, wo))
        frozen_blocks.append(Block(have, w1, rng.standard_normal(size), w2, rng.standard_normal(size)))
        target_blocks.append(Block(want, t1, rng.standard_normal(size), t2, rng.standard_normal(size)))
        calibration = t2 @ np.linalg.inv(w2)
    wout = conditioned(rng, out_rows, size, condition)
    last = min(int(rng.integers(0, most + 1)), out_rows)
    ranks.append(last)
    wout_bar = with_gap(wout @ frozen_blocks[-1].W2, last) @ np.asarray(target_blocks[-1].W2).T  # W2bar is orthogonal
    return TransformerWeights(frozen_blocks, wout), TransformerWeights(target_blocks, wout_bar), -(-max(ranks) // 2)


def _transformer_by_hand(weights: Any, X: Array) -> Array:
    """Forward pass token by token: the second oracle of transformer_forward."""
    tokens = [np.asarray(c) for c in X.T]
    for block in weights.blocks:
        after = []
        for mine in tokens:
            y = np.zeros(len(mine))
            for wq, wk, wv, wo in block.heads:
                scores = [float((np.asarray(wk) @ other) @ (np.asarray(wq) @ mine)) for other in tokens]
                top = max(scores)
                total = math.fsum(math.exp(s - top) for s in scores)
                for s, other in zip(scores, tokens, strict=True):
                    y = y + math.exp(s - top) / total * (np.asarray(wo) @ (np.asarray(wv) @ other))
            hidden = np.maximum(np.asarray(block.W1) @ y + block.b1, 0.0)
            after.append(np.asarray(block.W2) @ hidden + block.b2)
        tokens = after
    return np.column_stack([np.asarray(weights.Wout) @ t for t in tokens])


def _transformer_room(frozen: Any, target: Any, X: Array) -> float:
    """First-order bound on the rounding of construction and both forward passes.

    Every product in play is one of at most eight factors with condition numbers `kappa` (three inverses: W1, W2 and a
    half-way product) and is known within u = 64 D eps kappa times its norms. A score moves by u times the squared
    length of a token, a column of the softmax by at most twice that in the 1-norm, and each block multiplies errors
    by at most its own Lipschitz constant, 1 + 2 (score norm) (token length)^2 times the norm of its value path.
    """

    def norm(w: Any) -> float:
        return float(np.linalg.norm(np.asarray(w), 2))

    made = transformer_adapters(frozen, target, len(np.asarray(frozen.blocks[0].b1)))
    nets: list[Any] = [adapted_transformer(frozen, made), target]
    rooms = []
    for net in nets:
        z, off = X, 0.0
        for block, have in zip(net.blocks, frozen.blocks, strict=True):
            length = float(np.linalg.norm(z, axis=0).max())
            kappa = (
                float(np.linalg.cond(have.W1) * np.linalg.cond(have.W2))
                * max(float(np.linalg.cond(w)) for pair in (have.heads, block.heads) for head in pair for w in head)
                ** 2
            )
            unit = 64 * len(z) * EPS * kappa
            score = max(norm(wk) * norm(wq) for wq, wk, _, _ in block.heads)
            value = sum(norm(wo) * norm(wv) for _, _, wv, wo in block.heads)
            path = norm(block.W2) * norm(block.W1)
            # equal tokens get equal shares, whatever their scores
            spread = 1.0 if (X[:, :1] == X).all() else 1 + 4 * score * length**2
            off = path * value * spread * (off + unit * length) + unit * (
                path * value * length
                + norm(block.W2) * float(np.linalg.norm(block.b1))
                + float(np.linalg.norm(block.b2))
            )
            z = _states(block, z)
        kappa_out = float(np.linalg.cond(nets[0].Wout) * np.linalg.cond(np.asarray(nets[0].blocks[-1].W2)))
        length = float(np.linalg.norm(z, axis=0).max())
        rooms.append(norm(net.Wout) * (off + 64 * len(z) * EPS * kappa_out * length))
    return sum(rooms) * math.sqrt(X.shape[1])


def _states(block: Block, z: Array) -> Array:
    return transformer_forward(TransformerWeights([block], np.eye(len(z))), z)


def _transformer_body(construct: Callable[..., TransformerAdapters], rank: Callable[..., int]) -> Callable[[], float]:
    worst = [0.0]

    def body(data: Any) -> None:
        frozen, target, least = _draw_transformer(data)
        expect(rank(frozen, target) == least, f"{rank(frozen, target)} for the threshold {least}")
        size = len(np.asarray(frozen.blocks[0].b1))
        X = stream(data.draw(seeds), "tokens").standard_normal((size, data.draw(st.integers(1, 4))))
        wanted = _transformer_by_hand(target, X)
        room = _transformer_room(frozen, target, X)
        forward = transformer_forward(target, X)
        expect(np.linalg.norm(forward - wanted) <= room, "transformer_forward differs from the second oracle")
        for r in (least, least + 1):
            made = construct(frozen, target, r)
            flat = [u for kind in made[:4] for layer in kind for u in layer] + [made.w2_last, made.out]
            expect(all(u.columns <= r for u in flat), "an adapter of rank above r")
            got = _transformer_by_hand(adapted_transformer(frozen, made), X)
            error = float(np.linalg.norm(got - wanted))
            expect(error <= room, f"error {error} at rank {r} >= {least}, rounding {room}")
            worst[0] = max(worst[0], error / float(np.linalg.norm(wanted)))

    def run() -> float:
        for_all(body, 25, data=st.data())
        return worst[0]

    return run


@check("transformer")
def transformer_numeric() -> Figure:
    """Random transformers, up to three blocks and two heads: exact from the threshold on, not below; mutants."""
    gap = _transformer_body(transformer_adapters, transformer_rank)()
    frozen, target = _small_pair()
    # one token: the softmax is 1, so (2, 3) -> y (4, 6) -> relu (5, 4) -> plus b2 (6, 6) -> (12, 6)
    one = transformer_forward(frozen, np.array([[2.0], [3.0]]))
    expect(np.linalg.norm(one - [[12.0], [6.0]]) <= rank_tolerance((2,), 20.0), f"forward pass of one token: {one}")
    # scores (1600, 0) of the first token, (0, 0) of the second: shares (1, 0) and (1/2, 1/2)
    far = transformer_forward(frozen, np.array([[40.0, 0.0], [0.0, 0.0]]))
    expect(bool((far == [[164.0, 84.0], [2.0, 2.0]]).all()), f"forward pass of two tokens, one long: {far}")
    X = np.array([[1.0, -0.5, 0.25], [0.5, 1.0, -1.0]])
    expect(transformer_rank(frozen, target) == 1, "the threshold of the small pair")
    nets = [adapted_transformer(frozen, transformer_adapters(frozen, target, r)) for r in (0, 1)]
    wanted = transformer_forward(target, X)
    error = [float(np.linalg.norm(transformer_forward(net, X) - wanted)) for net in nets]
    expect(error[0] > 0.1 and error[1] <= _transformer_room(frozen, target, X), f"errors at ranks 0 and 1: {error}")
    expect_mutant_rejected(lambda f: _transformer_body(f, transformer_rank)(), _without_b2, "the second biases kept")
    expect_mutant_rejected(
        lambda f: _transformer_body(f, transformer_rank)(),
        lambda a, b, r: transformer_adapters(a, b, max(r - 1, 0)),
        "a rank too few",
    )
    # from Wk^T Wq = I: the leading correction towards diag(0, 3/2) makes the product singular, any towards 0 or a turn
    eye = np.eye(2)
    for scores in (np.diag([0.0, 1.5]), 0 * eye, np.array([[0.0, 1.0], [-1.0, 0.0]])):
        odd = _with(target, heads=[(scores, eye, scores, eye)])
        wanted, net = transformer_forward(odd, X), adapted_transformer(frozen, transformer_adapters(frozen, odd, 1))
        off = float(np.linalg.norm(transformer_forward(net, X) - wanted))
        # twelve products of entries below 40, of well-conditioned matrices
        expect(off <= 12 * rank_tolerance((2,), 40.0), f"scores {scores.tolist()}: off by {off:.2g}")
    # beside a quotient by a matrix of condition 1e8 a gap of 1e-7 may be rounding, one of 1e-5 is none
    steep, level = (Block([(eye,) * 4], eye, np.zeros(2), np.diag([1.0, size]), np.zeros(2)) for size in (1e-8, 1.0))
    for size, rank in ((1e-7, 0), (1e-5, 1)):
        shear = eye + size * np.eye(2, k=1)
        for heads in ((shear, eye, eye, eye), (eye, eye, shear, eye)):
            sheared = level._replace(heads=[heads])
            nets = [TransformerWeights([steep, block], eye) for block in (level, sheared)]
            expect(transformer_rank(*nets) == rank, f"rank of a gap of {size} that is known to about 1e-6")
        nets = [TransformerWeights([block._replace(W1=steep.W2)], eye) for block in (level, sheared)]
        expect(transformer_rank(*nets) == rank, f"rank of a gap of {size} beside a quotient by W1")
    _transformer_rejects(frozen, target)
    return Figure("gap of the adapted net to the target", gap, "relative")


def _without_b2(frozen: TransformerWeights, target: TransformerWeights, r: int) -> TransformerAdapters:
    made = transformer_adapters(frozen, target, r)
    return made._replace(b2=[np.asarray(block.b2) for block in frozen.blocks])


def _small_pair() -> tuple[TransformerWeights, TransformerWeights]:
    eye = np.eye(2)
    frozen = [Block([(eye, eye, eye, 2 * eye)], eye, np.array([1.0, -2.0]), eye, np.array([1.0, 2.0]))] * 1
    heads = [(np.diag([3.0, 2.0]), eye, np.diag([1.0, 4.0]), eye)]
    target = [Block(heads, 2 * eye, np.array([0.5, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([-1.0, 1.0]))]
    return TransformerWeights(frozen, np.diag([2.0, 1.0])), TransformerWeights(target, eye)


def _swap(made: Any, **fields: Any) -> Any:
    return made._replace(**fields)


def _with(weights: TransformerWeights, block: int = 0, **fields: Any) -> TransformerWeights:
    blocks = list(weights.blocks)
    blocks[block] = blocks[block]._replace(**fields)
    return weights._replace(blocks=blocks)


def _accepted_iff(wanted: bool, named: str, frozen: TransformerWeights, target: TransformerWeights) -> None:
    try:
        transformer_adapters(frozen, target, 2)
    except ValueError as error:
        expect(str(error).startswith(named) != wanted, f"{named}: {error}")
        return
    expect(wanted, f"expected an error that begins with {named}, got none")


def _transformer_rejects(frozen: TransformerWeights, target: TransformerWeights) -> None:
    eye, low = np.eye(2), np.diag([1.0, 0.0])
    twice = TransformerWeights([*frozen.blocks, *frozen.blocks], frozen.Wout)
    wanted = TransformerWeights([*target.blocks, *target.blocks], target.Wout)
    functions = ((transformer_adapters, (1,)), (transformer_rank, ()))
    for function, rest in functions:
        expect_rejected("frozen.blocks[1].W1", function, _with(twice, 1, W1=low), wanted, *rest)
        expect_rejected("frozen.blocks[0].W2", function, _with(twice, 0, W2=low), wanted, *rest)
        expect_rejected("target.Wout", function, frozen, target._replace(Wout=np.ones((1, 2))), *rest)
        expect_rejected("target.blocks", function, frozen, wanted, *rest)
        doubled = _with(target, heads=list(target.blocks[0].heads) * 2)
        expect_rejected("target.blocks[0].heads", function, frozen, doubled, *rest)
        expect_rejected("frozen.Wout", function, frozen._replace(Wout=np.zeros((0, 2))), target, *rest)
        expect_rejected("frozen.blocks", function, frozen._replace(blocks=[]), target, *rest)
        expect_rejected("frozen.blocks[0].heads", function, _with(frozen, heads=[]), target, *rest)
        expect_rejected("frozen.blocks[0].heads[0]", function, _with(frozen, heads=[(eye, eye, eye)]), target, *rest)
        bad_head = [(eye, eye, np.eye(3), eye)]
        expect_rejected("frozen.blocks[0].heads[0] Wv", function, _with(frozen, heads=bad_head), target, *rest)
        expect_rejected("frozen.blocks[0].b1", function, _with(frozen, b1=np.zeros(3)), target, *rest)
        expect_rejected("frozen.Wout", function, frozen._replace(Wout=math.nan * eye), target, *rest)
        expect_rejected("frozen.blocks[0].W1", function, _with(frozen, W1=math.nan * eye), target, *rest)
        expect_rejected("frozen.blocks[0].b1", function, _with(frozen, b1=np.full(2, math.nan)), target, *rest)
    expect_rejected("r", transformer_adapters, frozen, target, -1)
    for at, kind in ((1, "Wk"), (3, "Wo")):
        head = [eye, eye, eye, 2 * eye]
        head[at] = 0 * eye
        where = f"frozen.blocks[0].heads[0] {kind}"
        generic = _with(target, heads=[(np.diag([3.0, 2.0]), eye, np.diag([1.0, 5.0]), np.diag([3.0, 2.0]))])
        expect_rejected(where, transformer_adapters, _with(frozen, heads=[tuple(head)]), generic, 1)
    expect_rejected("frozen.Wout", transformer_adapters, frozen._replace(Wout=0 * eye), target, 1)
    outside = _with(wanted, 0, W2=low, b2=np.array([1.0, 1.0]))
    expect_rejected("target.blocks[0].b2", transformer_adapters, twice, outside, 2)
    transformer_adapters(twice, _with(wanted, 0, W2=low, b2=np.array([1.0, 0.0])), 2)  # in the range: accepted
    blunt = _with(frozen, W2=low)
    expect(transformer_rank(blunt, blunt) == 0, "by the last W2 nothing is divided")
    none = np.zeros(2)  # no bias at all is in every range, and no input is a ball of radius 0
    transformer_adapters(twice, _with(_with(wanted, 0, W2=low, b2=none), 1, b2=none), 2)
    expect(relu_error_bound([(eye, none)], [(low, none)], 0, 0.0) == 0.0, "a ball of radius 0")
    # the edges of what counts as zero, 4 eps 2 beside a largest singular value of 1, and of a bias that sticks out
    for times, counted in ((0.5, False), (2.0, True)):
        edge = np.diag([1.0, times * 8 * EPS])
        _accepted_iff(counted, "target.blocks[0].b2", twice, _with(wanted, 0, W2=edge, b2=np.array([0.0, 1.0])))
        beside = np.array([1.0, times * 8 * EPS])  # ||W2|| ||y|| = 1
        _accepted_iff(not counted, "target.blocks[0].b2", twice, _with(wanted, 0, W2=16 * low, b2=beside))
        for at, name in ((1, "W1"), (0, "W2")):
            singular = _with(twice, at, **{name: edge})
            _accepted_iff(counted, f"frozen.blocks[{at}].{name}: expected an invertible", singular, wanted)
    # Wout = diag(2, 0) needs no update for this target, but cannot produce the second entry of the bias
    blind, seen = frozen._replace(Wout=2 * low), TransformerWeights(
        [target.blocks[0]._replace(W2=low, b2=np.array([0.0, 1.0]))], np.diag([2.0, 1.0])
    )  # fmt: skip
    expect_rejected("target.blocks[0].b2", transformer_adapters, blind, seen, 0)
    for X in (np.ones((3, 1)), np.ones((2, 0)), np.ones(2), np.full((2, 1), np.nan)):
        expect_rejected("X", transformer_forward, frozen, X)
    expect_rejected("weights.blocks[0].W1", transformer_forward, _with(frozen, W1=np.eye(3)), eye)
    expect_rejected("weights.blocks[0].b2", transformer_forward, _with(frozen, b2=np.zeros(1)), eye)
    made = transformer_adapters(frozen, target, 1)
    wrong = LowRank(np.ones((3, 1)), np.ones((1, 2)))
    for name in ("q", "k", "v", "o"):
        expect_rejected(f"adapted.{name}", adapted_transformer, frozen, _swap(made, **{name: []}))
        expect_rejected(f"adapted.{name}[0]", adapted_transformer, frozen, _swap(made, **{name: [[]]}))
        expect_rejected(f"adapted.{name}[0][0]", adapted_transformer, frozen, _swap(made, **{name: [[wrong]]}))
    for name in ("w2_last", "out"):
        expect_rejected(f"adapted.{name}", adapted_transformer, frozen, _swap(made, **{name: wrong}))
    for name in ("b1", "b2"):
        expect_rejected(f"adapted.{name}", adapted_transformer, frozen, _swap(made, **{name: []}))
        expect_rejected("adapted", adapted_transformer, frozen, _swap(made, **{name: [np.zeros(3)]}))
