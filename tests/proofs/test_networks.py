"""The theorems on networks, read literally, against the functions of :mod:`theory.networks`.

Nets list their layers input first in Coq and in the module; a product of layers listed so is ``chain (rev Ws)``.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest

from tests.proofs.exact import (
    Mat,
    below,
    chain,
    column,
    const,
    delta,
    diagonal,
    every,
    eye,
    factors,
    hstack,
    stretches_at_most,
    total,
    vstack,
    whole,
    zeros,
)
from theory.networks import (
    Block,
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
from theory.numerics import stream

Layer = tuple[Mat, Mat]


def positive(x: Fraction) -> Fraction:
    return max(Fraction(0), x)


def relu_net(net: Sequence[Layer], x: Mat) -> Mat:
    for w, b in net:
        x = (w @ x + b).map(positive)
    return x


def affine_net(net: Sequence[Layer], x: Mat) -> Mat:
    for w, b in net:
        x = w @ x + b
    return x


def active(net: Sequence[Layer], x: Mat) -> bool:
    for w, b in net:
        x = w @ x + b
        if any(y < 0 for (y,) in x.rows):
            return False
    return True


def floats(net: Sequence[Layer]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(w.floats(), b.floats()[:, 0]) for w, b in net]


def grouped(layers: Sequence[Mat], count: int) -> list[Sequence[Mat]]:
    """Groups of as many layers each, and of what is left as the last."""
    size = len(layers) // count
    return [layers[at * size : (at + 1) * size] for at in range(count - 1)] + [layers[(count - 1) * size :]]


@pytest.mark.theorem("relu_network_affine")
def test_active_nets_are_affine() -> None:
    rng = stream(1, "relu")
    seen = 0
    for _ in range(60):
        d = int(rng.integers(1, 4))
        net = [(whole(rng, d, d), whole(rng, d, 1, 9)) for _ in range(int(rng.integers(1, 4)))]
        for x in (whole(rng, d, 1) for _ in range(4)):
            assert np.array_equal(relu_forward(floats(net), x.floats()[:, 0]), relu_net(net, x).floats()[:, 0])
            if active(net, x):
                seen += 1
                linear = chain([w for w, _ in reversed(net)], d)  # chain (rev ..): input first turned around
                assert relu_net(net, x) == linear @ x + affine_net(net, zeros(d, 1))
    assert seen > 20


def pieces(gap: Mat, count: int, r: int) -> list[Mat]:
    """`count` matrices of rank <= r that sum to gap: groups of terms of a rank factorisation."""
    left, right = factors(gap)
    terms = [left.column(i) @ right.row(i) for i in range(left.n)]
    parts = [total([zeros(gap.m, gap.n), *terms[at * r : (at + 1) * r]]) for at in range(count)]
    assert total(parts) == gap
    return parts


def adapt_chain(layers: Sequence[Mat], target: Mat, r: int) -> list[Mat] | None:
    """Adapted square layers, input first, through invertible half-way targets; None if one is singular."""
    d = target.m
    start = chain(list(layers)[::-1], d)
    halfway, done, adapted = start, eye(d), list[Mat]()
    for at, change in enumerate(pieces(target - start, len(layers), r)):
        halfway = halfway + change
        if at < len(layers) - 1 and not halfway.unit():
            return None
        above = chain(list(layers)[at + 1 :][::-1], d)
        adapted.append(above.inverse() @ halfway @ done.inverse())
        done = adapted[-1] @ done
    return adapted


@pytest.mark.theorem("relu_network_groups", "relu_network")
@pytest.mark.example("relu_network_two_layers")
def test_exact_nets() -> None:
    rng = stream(2, "relu")
    done = 0
    for d, depth, count, r in ((2, 2, 1, 1), (2, 4, 2, 1), (3, 5, 2, 1), (3, 3, 1, 1), (2, 3, 3, 2), (3, 5, 2, 2)) * 3:
        c = 3
        frozen = [(whole(rng, d, d), whole(rng, d, 1)) for _ in range(depth)]
        target = [(whole(rng, d, d), whole(rng, d, 1)) for _ in range(count)]
        parts = grouped([w for w, _ in frozen], count)
        gaps = [(layer[0] - chain(ws[::-1], d)).rank() for layer, ws in zip(target, parts, strict=True)]
        assert relu_rank(floats(frozen), floats(target)) == max(
            -(-g // len(ws)) for g, ws in zip(gaps, parts, strict=True)
        )
        if any(g > r * len(ws) for g, ws in zip(gaps, parts, strict=True)) or not all(w.unit() for w, _ in frozen):
            continue
        net, bound = list[Layer](), Fraction(c)
        for (w_bar, b_bar), ws in zip(target, parts, strict=True):
            adapted = adapt_chain(ws, w_bar, r)
            if adapted is None:
                break
            prefix, offset = eye(d), zeros(d, 1)
            for w in adapted[:-1]:  # biases that keep every pre-activation of the box at 0 or more
                prefix = w @ prefix
                wanted = column([bound * sum(abs(x) for x in row) for row in prefix.rows])
                net.append((w, wanted - w @ offset))
                offset = wanted
            net.append((adapted[-1], b_bar - adapted[-1] @ offset))
            bound = max(
                bound * sum(abs(x) for x in row) + abs(b) for row, (b,) in zip(w_bar.rows, b_bar.rows, strict=True)
            )
        else:
            done += 1
            assert all((new - old).rank() <= r for (new, _), (old, _) in zip(net, frozen, strict=True))
            for corner in product((-c, 0, c), repeat=d):
                assert relu_net(net, column(corner)) == relu_net(target, column(corner))
            # the module builds such a net on the ball of that radius
            made = adapted_relu(floats(frozen), relu_adapters(floats(frozen), floats(target), r, float(c)))
            for x in (rng.standard_normal(d) for _ in range(5)):
                x *= c / np.linalg.norm(x)
                want = relu_forward(floats(target), x)
                assert np.allclose(relu_forward(made, x), want, rtol=1e-6, atol=1e-6)
            assert relu_error_bound(floats(frozen), floats(target), r, float(c)) == 0
    assert done >= 6


@pytest.mark.example("relu_network_singular_layer", "relu_network_outside_box")
def test_what_exact_nets_need() -> None:
    # a zero layer with an update of rank 1 is blind to a direction of the box; the module refuses it at depth 2
    for left, right in product(product((-1, 0, 1), repeat=2), repeat=2):
        v = column(left) @ Mat([right])
        assert v.rank() <= 1
        blind = column([-right[1], right[0]]) if any(right) else column([1, 0])
        assert v @ blind == zeros(2, 1)
    identity, none = (eye(2), zeros(2, 1)), (zeros(2, 2), zeros(2, 1))
    with pytest.raises(ValueError):
        relu_adapters(floats([identity, none]), floats([identity]), 1, 1.0)
    # biases serve a ball, not the whole space
    c = 2
    net = [(eye(1), const(1, 1, c)), (-eye(1), const(1, 1, 1 + c))]
    target = [(-eye(1), eye(1))]
    assert all(
        relu_net(net, const(1, 1, Fraction(a, 4))) == relu_net(target, const(1, 1, Fraction(a, 4)))
        for a in range(-8, 9)
    )
    outside = const(1, 1, -(c + 1))
    assert relu_net(net, outside) != relu_net(target, outside)


def state_bound(w: Sequence[Fraction], beta: Sequence[Fraction], radius: Fraction, at: int) -> Fraction:
    return radius if at == 0 else w[at - 1] * state_bound(w, beta, radius, at - 1) + beta[at - 1]


def error_bound(w: Sequence[Fraction], s: Sequence[Fraction], beta: Sequence[Fraction], radius: Fraction) -> Fraction:
    depth = len(w)
    return Fraction(
        sum(
            s[i] * state_bound(w, beta, radius, i) * math.prod(w[k] + s[k] for k in range(i + 1, depth))
            for i in range(depth)
        )
    )


@pytest.mark.theorem("relu_network_perturbed", "relu_network_perturbed_attained", "relu_network_bound_attained")
def test_perturbed_nets() -> None:
    rng = stream(3, "relu")
    for depth, d in ((1, 2), (2, 2), (3, 2), (2, 3)):
        for _ in range(3):
            ws, moves = [whole(rng, d, d, 2) for _ in range(depth)], [whole(rng, d, d, 1) for _ in range(depth)]
            bs = [whole(rng, d, 1, 2) for _ in range(depth)]
            w = [next(Fraction(c) for c in range(20) if stretches_at_most(x, c * c)) for x in ws]
            s = [next(Fraction(c, 2) for c in range(40) if stretches_at_most(x, Fraction(c * c, 4))) for x in moves]
            beta = [next(Fraction(c) for c in range(9) if b.frob2() <= c * c) for b in bs]
            for x in (whole(rng, d, 1) for _ in range(3)):
                radius = next(Fraction(c) for c in range(9) if x.frob2() <= c * c)
                bound = error_bound(w, s, beta, radius)
                moved = relu_net([(a + u, b) for a, u, b in zip(ws, moves, bs, strict=True)], x)
                assert (moved - relu_net(list(zip(ws, bs, strict=True)), x)).frob2() <= bound**2
    one = eye(1)
    for depth in (1, 2, 3, 5):
        w, s, beta = ([Fraction(int(x), 3) for x in rng.integers(0, 7, depth)] for _ in range(3))
        radius = Fraction(int(rng.integers(0, 7)), 2)
        moved = relu_net([((a + u) * one, b * one) for a, u, b in zip(w, s, beta, strict=True)], radius * one)
        still = relu_net([(a * one, b * one) for a, b in zip(w, beta, strict=True)], radius * one)
        assert moved - still == error_bound(w, s, beta, radius) * one
    # attained: weights 1 in the target, 1 + h in the frozen net, whose updates make it 1 on r axes of r + 1
    for h, depth, r in product((Fraction(0), Fraction(1, 3), Fraction(2)), (1, 2, 5), (0, 1, 2)):
        one, none, x = eye(r + 1), zeros(r + 1, 1), column([0] * r + [1])
        attained = error_bound([Fraction(1)] * depth, [h] * depth, [Fraction(0)] * depth, Fraction(1))
        assert attained == (1 + h) ** depth - 1
        frozen, target = [((1 + h) * one, none)] * depth, [(one, none)] * depth
        move = diagonal([-h] * r + [0])
        assert move.rank() <= r
        adapted = [(w + move, b) for w, b in frozen]
        assert relu_net(adapted, x) - relu_net(target, x) == attained * x
        assert abs(relu_error_bound(floats(frozen), floats(target), r, 1.0) - attained) <= 1e-12 * (1 + attained)


@pytest.mark.theorem("relu_network_bound")
def test_error_bound_is_the_statement() -> None:
    rng = stream(4, "relu")
    for depth, count, r in ((2, 2, 1), (4, 2, 1), (5, 2, 1), (3, 1, 0), (2, 1, 0)):
        d = 4
        frozen = [(diagonal(rng.integers(1, 4, d).tolist()), zeros(d, 1)) for _ in range(depth)]
        target = [
            (diagonal(rng.integers(-6, 7, d).tolist()), int(rng.integers(0, 3)) * column([3, -4, 0, 0]))
            for _ in range(count)
        ]
        radius, parts = Fraction(3, 2), grouped([w for w, _ in frozen], count)
        sizes = [len(ws) for ws in parts]
        gaps = [layer[0] - chain(ws[::-1], d) for layer, ws in zip(target, parts, strict=True)]
        values = [sorted((abs(g[i, i]) for i in range(d)), reverse=True) for g in gaps]
        s = [v[r * size] if r * size < d else Fraction(0) for v, size in zip(values, sizes, strict=True)]
        w = [max(abs(a[i, i]) for i in range(d)) for a, _ in target]
        beta = [Fraction(math.isqrt(int(b.frob2()))) for _, b in target]
        want = error_bound(w, s, beta, radius)
        assert abs(relu_error_bound(floats(frozen), floats(target), r, float(radius)) - want) <= 1e-9 * (1 + want)
        made = adapted_relu(floats(frozen), relu_adapters(floats(frozen), floats(target), r, float(radius)))
        for _ in range(20):
            x = rng.standard_normal(d)
            x *= float(radius) / np.linalg.norm(x)
            off = np.linalg.norm(relu_forward(made, x) - relu_forward(floats(target), x))
            assert off <= float(want) * (1 + 1e-9) + 1e-9
        # the wrong reading, sigma_(r |P|) for sigma_(r |P| + 1), is another number
        early = [v[max(r * size - 1, 0)] for v, size in zip(values, sizes, strict=True)]
        if early != s:
            assert error_bound(w, early, beta, radius) != want


# ---- two factors ----

SMALL = list(every(2, 2, 2))


@pytest.mark.theorem("transformer_product", "transformer_scores")
@pytest.mark.example("transformer_product_singular", "transformer_product_needs_unit")
def test_two_factors_over_a_finite_field() -> None:
    by_rank = {r: [u for u in SMALL if u.rank() <= r] for r in (0, 1)}
    units = [a for a in SMALL if a.unit()]
    for r, a, b in product((0, 1), units, units):
        reached = {(a + u) @ (b + v) for u in by_rank[r] for v in by_rank[r]}
        assert reached == {g for g in SMALL if (g - a @ b).rank() <= 2 * r}
        scores = {(a + u).T @ (b + v) for u in by_rank[r] for v in by_rank[r]}
        assert scores == {g for g in SMALL if (g - a.T @ b).rank() <= 2 * r}
    one, zero = eye(2, 2), zeros(2, 2, 2)
    assert zero in {(one + u) @ (one + v) for u in by_rank[1] for v in by_rank[1]}
    assert not any(t.unit() for t in SMALL if (zero - t).rank() <= 1)
    assert one not in {(one + u) @ (zero + v) for u in by_rank[1] for v in by_rank[1]}


@pytest.mark.theorem("transformer_pair")
def test_a_readout_with_fewer_rows_reaches_its_product_too() -> None:
    right = {r: [v for v in SMALL if v.rank() <= r] for r in (0, 1)}
    for rows, r in product((1, 2), (0, 1)):
        readouts = list(every(rows, 2, 2))
        left = [u for u in readouts if u.rank() <= r]
        for a, b in product(readouts, SMALL):
            reached = {(a + u) @ (b + v) for u in left for v in right[r]}
            assert a @ b in reached  # a gap of 0 needs nothing
            if a.rank() == rows and b.unit():
                assert {g for g in readouts if (g - a @ b).rank() <= 2 * r} <= reached


def halfway_pair(a: Mat, b: Mat, g: Mat, r: int) -> tuple[Mat, Mat] | None:
    """(A', B') of transformer_product_halfway with T1 = A B + the first terms of the gap; None if T1 is singular."""
    t1 = a @ b + pieces(g - a @ b, 2, r)[0]
    if not (a.unit() and t1.unit()):
        return None
    moved_b = a.inverse() @ t1
    moved_a = g @ moved_b.inverse()
    assert (t1 - a @ b).rank() <= r
    assert (g - t1).rank() <= r
    assert (moved_a - a).rank() <= r
    assert (moved_b - b).rank() <= r
    assert moved_a @ moved_b == g
    assert below(moved_a.T, g.T)
    assert below(g.T, moved_a.T)
    return moved_a, moved_b


# ---- the transformer ----


class Head(NamedTuple):
    q: Mat
    k: Mat
    v: Mat
    o: Mat


class Layers(NamedTuple):
    heads: list[Head]
    w1: Mat
    b1: Mat
    w2: Mat
    b2: Mat


def on_tokens(b: Mat, count: int) -> Mat:
    return b @ const(1, count, 1)


def head_out(h: Head, x: Mat, sm: Callable[[Mat], Mat]) -> Mat:
    return h.o @ h.v @ x @ sm(x.T @ (h.k.T @ h.q) @ x)


def block_out(b: Layers, x: Mat, sm: Callable[[Mat], Mat]) -> Mat:
    mixed = total([head_out(h, x, sm) for h in b.heads])
    return b.w2 @ (b.w1 @ mixed + on_tokens(b.b1, x.n)).map(positive) + on_tokens(b.b2, x.n)


def stream_out(blocks: Sequence[Layers], x: Mat, sm: Callable[[Mat], Mat]) -> Mat:
    for b in blocks:
        x = block_out(b, x, sm)
    return x


def calib(frozen: Sequence[Layers], target: Sequence[Layers], at: int) -> Mat:
    d = frozen[0].w1.m
    return target[at - 1].w2 @ frozen[at - 1].w2.inverse() if at else eye(d)


def squares(scores: Mat) -> Mat:
    """A rational stand-in for the softmax: 1 + s^2, each column divided by its sum."""
    raised = scores.map(lambda x: 1 + x * x)
    sums = [sum(c) for c in raised.T.rows]
    return raised @ diagonal([1 / x for x in sums])


def uniform(scores: Mat) -> Mat:
    """The softmax of equal scores."""
    return const(scores.m, scores.n, Fraction(1, scores.m))


def invertible(rng: np.random.Generator, d: int) -> Mat:
    while not (a := whole(rng, d, d, 2)).unit():
        pass
    return a


def random_blocks(rng: np.random.Generator, d: int, heads: int, depth: int) -> list[Layers]:
    blocks = []
    for _ in range(depth):
        parts = [Head(*(invertible(rng, d) for _ in range(4))) for _ in range(heads)]
        blocks.append(Layers(parts, invertible(rng, d), whole(rng, d, 1, 2), invertible(rng, d), whole(rng, d, 1, 2)))
    return blocks


def weights(blocks: Sequence[Layers], out: Mat) -> TransformerWeights:
    heads = [[(h.q.floats(), h.k.floats(), h.v.floats(), h.o.floats()) for h in b.heads] for b in blocks]
    layers = [(b.w1.floats(), b.b1.floats()[:, 0], b.w2.floats(), b.b2.floats()[:, 0]) for b in blocks]
    return TransformerWeights([Block(h, *rest) for h, rest in zip(heads, layers, strict=True)], out.floats())


def exact_adaptation(
    frozen: Sequence[Layers], target: Sequence[Layers], out: Mat, wanted: Mat, r: int
) -> tuple[list[Layers], Mat] | None:
    """Blocks and Wout that meet the calibrated identities with updates of rank r, or None."""
    last, adapted = len(frozen) - 1, list[Layers]()
    new_out = out
    for at, (have, want) in enumerate(zip(frozen, target, strict=True)):
        if not (have.w1.unit() and have.w2.unit() and want.w2.unit()):
            return None
        c, heads = calib(frozen, target, at), list[Head]()
        for h, t in zip(have.heads, want.heads, strict=True):
            scores = halfway_pair(h.k.T, h.q, c.T @ (t.k.T @ t.q) @ c, r)
            values = halfway_pair(h.o, h.v, have.w1.inverse() @ want.w1 @ t.o @ t.v @ c, r)
            if scores is None or values is None:
                return None
            heads.append(Head(scores[1], scores[0].T, values[1], values[0]))
        w2, b2 = have.w2, calib(frozen, target, at + 1).inverse() @ want.b2
        if at == last:
            whole_out = vstack(out, *(delta(1, out.n, 0, i) for i in range(out.m, out.n)))
            if not whole_out.unit():
                return None
            top = eye(out.n).part(slice(out.m), slice(out.n))
            gap = wanted @ want.w2 - out @ have.w2
            pair = halfway_pair(whole_out, have.w2, whole_out @ have.w2 + top.T @ gap, r)
            if pair is None:
                return None
            new_out, w2 = top @ pair[0], pair[1]
            b2 = w2 @ want.w2.inverse() @ want.b2
        adapted.append(Layers(heads, have.w1, want.b1, w2, b2))
    return adapted, new_out


@pytest.mark.theorem("transformer_calibrated", "transformer", "transformer_product_halfway")
def test_adapted_transformer_is_the_target() -> None:
    rng = stream(6, "transformer")
    done = 0
    while done < 6:
        d, heads, depth, r = [(2, 1, 1, 1), (2, 2, 2, 1), (2, 1, 3, 1)][done % 3]
        rows = 2 if done < 3 else 1
        frozen, target = random_blocks(rng, d, heads, depth), random_blocks(rng, d, heads, depth)
        out, wanted = (invertible(rng, d).part(slice(rows), slice(d)) for _ in range(2))
        made = exact_adaptation(frozen, target, out, wanted, r)
        if made is None:
            continue
        done += 1
        adapted, new_out = made
        for have, got in zip(frozen, adapted, strict=True):
            assert (got.w1, (got.w2 - have.w2).rank() <= (r if have is frozen[-1] else 0)) == (have.w1, True)
            heads_of = zip(have.heads, got.heads, strict=True)
            assert all((x - y).rank() <= r for h, g in heads_of for x, y in zip(g, h, strict=True))
        assert (new_out - out).rank() <= r
        for tokens in (1, 2):
            x = whole(rng, d, tokens, 1)
            for sm in (squares, uniform, lambda s: s):
                assert new_out @ stream_out(adapted, x, sm) == wanted @ stream_out(target, x, sm)
        # the code, with the softmax: the same rank is enough, and the adapted net is the target
        source, goal = weights(frozen, out), weights(target, wanted)
        assert transformer_rank(source, goal) <= r
        gaps = [(wanted @ target[-1].w2 - out @ frozen[-1].w2).rank()]
        for at, (have, want) in enumerate(zip(frozen, target, strict=True)):
            c = calib(frozen, target, at)
            for h, t in zip(have.heads, want.heads, strict=True):
                gaps.append((c.T @ (t.k.T @ t.q) @ c - h.k.T @ h.q).rank())
                gaps.append((have.w1.inverse() @ want.w1 @ t.o @ t.v @ c - h.o @ h.v).rank())
        assert transformer_rank(source, goal) == max(-(-g // 2) for g in gaps)
        net = adapted_transformer(source, transformer_adapters(source, goal, r))
        entered = 0.1 * rng.standard_normal((d, 3))
        assert np.allclose(transformer_forward(net, entered), transformer_forward(goal, entered), rtol=1e-5, atol=1e-5)


def test_forward_pass_is_the_block_of_the_statement() -> None:
    rng = stream(7, "transformer")
    for d, heads, depth, tokens in ((2, 1, 1, 2), (3, 2, 2, 4), (2, 1, 2, 1)):
        blocks = random_blocks(rng, d, heads, depth)
        # keys 0: all scores equal, so the softmax is 1/N and rational
        still = [b._replace(heads=[h._replace(k=zeros(d, d)) for h in b.heads]) for b in blocks]
        out, x = whole(rng, d, d), whole(rng, d, tokens)
        want = out @ stream_out(still, x, uniform)
        assert np.allclose(transformer_forward(weights(still, out), x.floats()), want.floats(), rtol=1e-12, atol=1e-12)
    # columns are normalised (the keys of one query), and the scores are X^T Wk^T Wq X: with Wk^T Wq = e2 e1^T the
    # query e1 attends to the key e2, and not the other way around
    strong = 40 * delta(2, 2, 1, 0)
    h = Head(strong, eye(2), eye(2), eye(2))
    block = Layers([h], eye(2), zeros(2, 1), eye(2), zeros(2, 1))
    got = transformer_forward(weights([block], eye(2)), np.eye(2))
    assert np.allclose(got, hstack(column([0, 1]), column([Fraction(1, 2)] * 2)).floats())
