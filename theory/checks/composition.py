"""Checks of the topic composition: the one-layer model, alignment, order of layers, coverage, chains of thought."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.additive import additive_ceiling, additive_optimum, composed_share, extremal_first, extremal_second
from theory.checks import (
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
from theory.checks.strategies import conditioned, conditions, scales, seeds, shapes
from theory.composition import (
    AlignedAnswer,
    ChainOfThought,
    CoverageLaw,
    aligned_answer,
    bridge_alignment,
    bridge_cosine,
    bridge_room,
    chain_of_thought,
    coverage_law,
    few_writings_ceiling,
)
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, rank_tolerance, stream
from theory.one_layer import OneLayer, joint_edit, one_layer_edit, one_layer_model, relu_key_cosine, summed_edits
from theory.stack import PLACEMENTS, Placement, TwoLayerStack, place_edits, two_layer_stack

# ---- one_layer_composition ----


@check("one_layer_composition")
def one_layer_symbolic(code: Code) -> None:
    """Free symbols: the edit writes, leaves orthogonal keys alone, is of least norm; updates add up; 1/pi."""
    import sympy

    w, v = (sympy.Matrix(2, 3, sympy.symbols(f"{x}:6")) for x in "wv")
    k, o = (sympy.Matrix(sympy.symbols(f"{x}:3", real=True)) for x in "ko")
    t = sympy.Matrix(sympy.symbols("t:2"))
    square = (k.T * k)[0]
    edit = (t - w * k) * k.T / square
    expect(((w + edit) * k - t).applyfunc(sympy.simplify).is_zero_matrix, "the edit does not write its target")
    moved = (edit * o - (t - w * k) * (k.T * o)[0] / square).applyfunc(sympy.simplify)
    expect(moved.is_zero_matrix, "the effect on another key is not proportional to its inner product")
    # any other solution is edit + V with V k = 0, and <edit, V> = (t - W k)^T V k / ||k||^2 = 0: Pythagoras
    inner = sum(x * y for x, y in zip(edit, v, strict=True))
    expect(sympy.simplify(inner - ((t - w * k).T * (v * k))[0] / square) == 0, "the edit is not of least norm")
    # two updates of the readout: no interaction; and the second one's part has no symbol of the first
    u = sympy.Matrix(2, 3, sympy.symbols("u:6"))
    inter = (w + u + v) * k - (w + u) * k - (w + v) * k + w * k
    expect(inter.applyfunc(sympy.expand).is_zero_matrix, "updates of the readout interact")
    # Gaussian ReLU features: E[relu(r cos x) relu(r cos(x - a))] / E[relu(r cos x)^2] for an angle a in (0, pi)
    angle, x = sympy.symbols("alpha x", positive=True)
    overlap = sympy.integrate(sympy.expand_trig(sympy.cos(x) * sympy.cos(x - angle)), (x, angle - sympy.pi / 2,
                                                                                       sympy.pi / 2))  # fmt: skip
    norm = sympy.integrate(sympy.cos(x) ** 2, (x, -sympy.pi / 2, sympy.pi / 2))
    kernel = (sympy.sin(angle) + (sympy.pi - angle) * sympy.cos(angle)) / sympy.pi
    expect(sympy.simplify(overlap / norm - kernel) == 0, "cosine of ReLU features")
    expect(kernel.subs(angle, sympy.pi / 2) == 1 / sympy.pi, "orthogonal prompts")
    for at in (sympy.pi / 2, sympy.pi / 3, sympy.pi * 3 / 4, sympy.pi):
        want, cosine = float(kernel.subs(angle, at).evalf(30)), float(sympy.cos(at).evalf(30))
        expect_close(code.relu_key_cosine(cosine), want, 8 * EPS, f"cosine of ReLU keys at the angle {at}")
    # the code at whole numbers: the edit above, and what a model of whole numbers computes
    numbers = sympy.Matrix([[2, -1, 3], [0, 1, -2]]), sympy.Matrix([1, -2, 2]), sympy.Matrix([5, -3])
    values = dict(zip([*w, *k, *t], [x for matrix in numbers for x in matrix], strict=True))
    got = code.one_layer_edit(*(np.array(x.tolist(), dtype=float).squeeze() for x in numbers))
    # entries below 8, each a quotient of short sums
    expect_entries(got.dense(), edit.subs(values).tolist(), 64 * EPS, "(t - W k) k^T / ||k||^2")
    _whole_model(code)


def _whole_model(code: Code) -> None:
    """A one-layer model of whole numbers, whose keys and logits are exact in float64, and edits against rationals."""
    import sympy

    rng = stream(4, "whole model")
    draws = [rng.integers(-2, 3, shape) for shape in ((3, 5), (3, 3), (4, 3), (5, 4))]
    model = OneLayer(*(x.astype(float) for x in draws))
    embedding, value, hidden, readout = draws
    prompts = [(0, 4), (1, 2, 3), (2, 0)]
    keys = np.array([np.maximum(hidden @ (value @ embedding[:, p[:-1]].sum(axis=1) + embedding[:, p[-1]]), 0)
                     for p in prompts]).T  # fmt: skip
    expect_entries(code.keys(model, prompts), keys, 0.0, "keys")
    u1, u2 = (rng.integers(-2, 3, (5, 4)) for _ in range(2))
    for prompt, key in zip(prompts, keys.T, strict=True):
        expect_entries(code.key(model, prompt), key, 0.0, f"key of {prompt}")
        want = (readout + u1 + u2) @ key
        parts = [LowRank(u, np.eye(4)) for u in (u1, u2)]
        expect_entries(code.logits(model, prompt, parts), want, 0.0, f"logits of {prompt} with two updates")
        expect_entries(code.logits(model, prompt), readout @ key, 0.0, f"logits of {prompt}")
    exact_keys, answers = sympy.Matrix(keys.tolist()), [3, 0, 1]
    change = sympy.Matrix(np.eye(5, dtype=int)[:, answers].tolist()) - sympy.Matrix(readout.tolist()) * exact_keys
    joint = change * (exact_keys.T * exact_keys).inv() * exact_keys.T
    summed = sum((change[:, [i]] * exact_keys[:, [i]].T / exact_keys[:, i].dot(exact_keys[:, i]) for i in range(3)),
                 sympy.zeros(5, 4))  # fmt: skip
    targets = np.eye(5)[:, answers]
    # a pseudo-inverse is computed to about 4 eps max(shape) cond^2 of its norm, the product rounds no worse
    condition = float(np.linalg.cond(keys))
    room = rank_tolerance((5, 4), condition**2 * float(change.norm()) * float(np.linalg.norm(np.linalg.pinv(keys), 2)))
    for got in (code.joint_edit(model.readout, keys, targets), code.write(model, prompts, answers)):
        expect_entries(got.dense(), joint.tolist(), room, "(T - W K) K^+")
    for got in (code.summed_edits(model.readout, keys, targets), code.write(model, prompts, answers, joint=False)):
        expect_entries(got.dense(), summed.tolist(), room, "the sum of the rank-one edits")
    drawn = code.one_layer_model(5, 8, 7, rng)
    expect([x.shape for x in drawn] == [(8, 5), (8, 8), (7, 8), (5, 7)], "sizes of a drawn model")
    for factor in (drawn.embedding.T, drawn.value, drawn.hidden):
        rows = np.vectorize(Fraction, otypes=[object])(factor)
        expect_entries(np.ones(len(rows)), (rows * rows).sum(axis=1), 128 * EPS, "squared lengths of rows")


def _edit_body(edit: Callable[..., LowRank]) -> None:
    def body(size: tuple[int, int], seed: int, scale: float, key_scale: float, condition: float) -> None:
        out, in_ = size
        rng = stream(seed, "edit")
        w = scale * conditioned(rng, out, in_, condition)
        key, target = key_scale * rng.standard_normal(in_), scale * rng.standard_normal(out)
        update = edit(w, key, target)
        # in + 4 roundings per entry of W k and of the two inner products with the key
        tolerance = 4 * (in_ + 4) * EPS * float(np.linalg.norm(w) * np.linalg.norm(key) + np.linalg.norm(target))
        error = float(np.linalg.norm(w @ key + update.apply(key) - target))
        expect(error <= tolerance, f"{error} off the target, allowed {tolerance}")
        other = rng.standard_normal(in_)
        other -= key * (key @ other) / (key @ key)
        size_u = float(np.linalg.norm(target - w @ key) / np.linalg.norm(key))
        left = float(np.linalg.norm(update.apply(other)))
        expect(left <= 8 * (in_ + 4) * EPS * size_u * (np.linalg.norm(other) + 1) + tolerance / key_scale, "orthogonal")
        # least norm: any U with U k = d has ||U||_F >= ||d|| / ||k||
        expect_close(update.norm(), size_u, tolerance / float(np.linalg.norm(key)) + update.tolerance(), "norm")

    for_all(body, 60, size=shapes(), seed=seeds, scale=scales, key_scale=scales, condition=conditions)


@check("one_layer_composition")
def one_layer_numeric() -> Figure:
    """Edits over shapes and scales; a model whose one-hop facts are right while two hops stay under the ceiling."""
    _edit_body(one_layer_edit)
    expect_mutant_rejected(
        _edit_body, lambda w, k, t: LowRank.combine([one_layer_edit(w, k, t)], [1.01]), "edit 1 % too large"
    )
    tiny = one_layer_edit(np.zeros((1, 2)), [3e-200, 4e-200], [1.0])
    expect_close(float(tiny.apply([3e-200, 4e-200])[0]), 1.0, 16 * EPS, "a key whose square underflows")
    for cosine in (-1.0, -0.3, 0.0, 0.5, 1.0):
        # second evaluation: integral of the tail of the angle, d/dx kernel(cos x) = -(1 - x/pi) sin x
        grid = (np.arange(20_000) + 0.5) / 20_000 * math.acos(cosine)
        integral = 1.0 - float(np.mean((1 - grid / np.pi) * np.sin(grid))) * math.acos(cosine)
        expect_close(relu_key_cosine(cosine), integral, 1e-7, "kernel")  # midpoint rule: (pi / 2e4)^2 / 24 * pi < 1e-7
    _model_arrays()
    lost, worst = 0.0, 0.0
    for n, m in ((2, 2), (3, 2), (2, 3)):
        share, gap = _two_hop(n, m)
        worst = max(worst, gap)
        lost = max(lost, share - additive_ceiling(n, m))
    expect(lost <= 0, "least-norm edits exceed the ceiling")
    kept = _many_facts()
    _one_layer_rejections()
    return Figure("facts kept by the plain sum of 50 rank-one edits (joint edit: 1)", kept, "share")


def _model_arrays() -> None:
    """Sizes and norms of the random model, and its keys and logits recomputed entry by entry."""
    for tokens, width in ((5, 8), (12, 4)):
        model = one_layer_model(tokens, width, 7, stream(5, "model"))
        expect([a.shape for a in model] == [(width, tokens), (width, width), (7, width), (tokens, 7)], "shapes")
        for squares in ((model.embedding**2).sum(axis=0), (model.hidden**2).sum(axis=1), (model.value**2).sum(axis=0)):
            expect(bool(np.abs(squares - 1).max() <= 16 * width * EPS), f"lengths {squares}")
        flat = model.value.T @ model.value - np.eye(width)
        expect(float(np.abs(flat).max()) <= 16 * width * EPS, "V is not orthogonal")
        model = model._replace(readout=stream(5, "readout").standard_normal((tokens, 7)))
        prompt = (1, 3, 2)
        h = [sum(model.value[i, j] * (model.embedding[j, 1] + model.embedding[j, 3]) for j in range(width))
             + model.embedding[i, 2] for i in range(width)]  # fmt: skip
        key = [max(0.0, sum(model.hidden[i, j] * h[j] for j in range(width))) for i in range(7)]
        tolerance = 64 * (width + 7) * EPS * (1 + float(np.abs(model.readout).sum()))  # sums of width, then of 7 terms
        update = LowRank(np.ones((tokens, 1)), np.ones((1, 7)))
        got = [
            model.key(prompt),
            model.keys([prompt, prompt])[:, 1],
            model.logits(prompt),
            model.logits(prompt, [update]),
        ]
        logits = model.readout @ key
        for have, want in zip(got, (key, key, logits, logits + sum(key)), strict=True):
            expect(have.shape == np.shape(want) and float(np.abs(have - want).max()) <= tolerance, "keys or logits")


def _two_hop(n: int, m: int) -> tuple[float, float]:
    """Share of all (p, q) that two least-norm edits compose, and the largest interaction in units of its tolerance."""
    person, hop1, hop2 = n + m, n + m + 1, n + m + 2
    model = one_layer_model(n + m + 4, 16, 64, stream(11, "two hops", n, m))
    old = model.write([(person, hop1), *[(y, hop2) for y in range(n)], (n + m + 3, hop1)], [0, *[n] * n, 1])
    model = model._replace(readout=old.dense())
    asked = (person, hop1, hop2)
    direct = [model.write([asked], [n + z]) for z in range(m)]
    for z, update in enumerate(direct):
        expect(int(model.logits(asked, [update]).argmax()) == n + z, "a direct two-hop edit fails")
    logits = np.zeros((n, m**n, m))
    attained = np.zeros((n, m**n, m))
    key = model.key(asked)
    worst = 0.0
    seconds = [(q, model.write([(y, hop2) for y in range(n)], [n + z for z in q])) for q in product(range(m), repeat=n)]
    norms = [second.norm() for _, second in seconds]
    for p in range(n):
        first = model.write([(person, hop1)], [p])
        expect(int(model.logits((person, hop1), [first]).argmax()) == p, "a one-hop fact of the first edit fails")
        sizes = [first.norm() + float(np.linalg.norm(model.readout)), *norms]
        a = np.concatenate([np.zeros(n), extremal_first(n, m)[p], np.zeros(4)])
        held = one_layer_edit(np.zeros_like(model.readout), key, a)
        for t, (q, second) in enumerate(seconds):
            for y in range(n):
                answer = int(model.logits((y, hop2), [second]).argmax())
                expect(answer == n + q[y], "a one-hop fact of the second edit fails")
            views = [model.logits(asked, us) for us in ((), (first,), (second,), (first, second))]
            inter = views[3] - views[1] - views[2] + views[0]
            # three roundings of sums over 64 hidden units
            allowed = 256 * EPS * float(np.linalg.norm(key)) * (sizes[0] + sizes[1 + t])
            worst = max(worst, float(np.abs(inter).max()) / allowed)
            logits[p, t] = views[3][n : n + m]
            b = np.concatenate([np.zeros(n), extremal_second(q, m), np.zeros(4)])
            other = one_layer_edit(np.zeros_like(model.readout), key, b)
            attained[p, t] = (held.apply(key) + other.apply(key))[n : n + m]
    expect(worst <= 1, "updates of the readout interact")
    share = composed_share(logits, margin=1e-9)  # far above the rounding of order-one logits
    expect(composed_share(attained, margin=0.5) == additive_optimum(n, m), "adapters that attain the optimum")
    expect(share <= additive_optimum(n, m), f"share {share} at {n, m}")
    return float(share), worst


def _many_facts() -> float:
    """50 facts over 10 answers under one relation: the joint edit keeps all, the sum of rank-one edits does not."""
    rng = stream(2, "fifty")
    model = one_layer_model(64, 64, 256, rng)
    prompts = [(x, 63) for x in range(50)]
    answers = [50 + int(z) for z in rng.integers(0, 10, 50)]
    targets = np.eye(64)[:, answers]
    kept = []
    for joint in (True, False):
        update = model.write(prompts, answers, joint)
        kept.append(np.mean([model.logits(p, [update]).argmax() == z for p, z in zip(prompts, answers, strict=True)]))
    keys = model.keys(prompts)
    joint_edits = (joint_edit(model.readout, keys, targets), model.write(prompts, answers))
    error = max(float(np.abs(u.apply(keys) - targets).max()) for u in joint_edits)
    condition = float(np.linalg.cond(keys))
    expect(error <= 4 * 256 * EPS * condition * math.sqrt(50) * float(np.linalg.norm(keys, axis=0).max()), f"{error}")
    # the sum at key i reads sum_j t_j (k_j . k_i) / ||k_j||^2
    cosines = (keys / (keys**2).sum(axis=0)).T @ keys
    gap = float(np.abs(summed_edits(model.readout, keys, targets).apply(keys) - targets @ cosines).max())
    expect(gap <= 256 * 50 * EPS, f"sum of the edits off by {gap}")  # 50 terms of inner products of 256, all below 2
    distinct = model.write(prompts, list(range(50)), joint=False)
    right = sum(int(model.logits(p, [distinct]).argmax()) == z for z, p in enumerate(prompts))
    expect(right == 50, "with 50 distinct answers and an empty readout the sum keeps them: cosines are below 1")
    expect(kept[0] == 1.0 and kept[1] < 0.9, f"joint keeps {kept[0]}, sum {kept[1]}")
    return float(kept[1])


def _one_layer_rejections() -> None:
    w: Array = np.ones((2, 3))
    expect_rejected("key", one_layer_edit, w, [1.0, 1.0], [1.0, 1.0])
    expect_rejected("key", one_layer_edit, w, [0.0, 0.0, 0.0], [1.0, 1.0])
    expect_rejected("target", one_layer_edit, w, [1.0, 1.0, 1.0], [1.0])
    keys, same = np.eye(3)[:, :2], np.ones((3, 2))
    single: list[Any] = [w, np.ones(3), np.ones(2)]
    several: list[Any] = [w, keys, np.ones((2, 2))]
    for position in range(3):
        for names, given, calls in (
            (("W", "key", "target"), single, [one_layer_edit]),
            (("W", "keys", "targets"), several, [joint_edit, summed_edits]),
        ):
            broken = [*given[:position], given[position] * np.nan, *given[position + 1 :]]
            for call in calls:
                expect_rejected(names[position], call, *broken)
    for call in (joint_edit, summed_edits):
        expect_rejected("targets", call, w, keys, np.ones((2, 3)))
    expect_rejected("targets", joint_edit, w, keys, np.ones((1, 2)))
    expect_rejected("keys", joint_edit, w, np.ones((2, 2)), np.ones((2, 2)))
    expect_rejected("keys", joint_edit, w, same, np.eye(2))
    expect_rejected("keys", summed_edits, w, np.ones((3, 0)), np.ones((2, 0)))
    for cosine in (-1.5, 1.5, True):
        expect_rejected("cosine", relu_key_cosine, cosine)
    smallest = one_layer_model(1, 1, 1, stream(0, "small"))
    expect(abs(abs(smallest.embedding.item()) - 1) + abs(abs(smallest.hidden.item()) - 1) <= 4 * EPS, "sizes of 1")
    model = one_layer_model(4, 2, 3, stream(0, "small"))
    for position, name in enumerate(("tokens", "width", "hidden")):
        sizes: list[Any] = [4, 2, 3]
        sizes[position] = 0
        expect_rejected(name, one_layer_model, *sizes, stream(0, "small"))
    expect_rejected("prompt", model.key, ())
    for prompt in ((4,), (4, 0), (0, 4)):
        expect_rejected("prompt", model.key, prompt)
    expect_rejected("prompt", model.key, (-1,))
    expect_rejected("answers", model.write, [(0, 1)], [0, 1])
    for outside in (4, -1):
        expect_rejected("answers", model.write, [(0, 1), (0, 2)], [outside, 0])


# ---- bridge_alignment ----


@check("bridge_alignment")
def bridge_alignment_symbolic(code: Code) -> None:
    """Free symbols: what a joint edit adds, the sufficient condition term by term; exact counter-examples."""
    import sympy

    # joint edit D K^+ at any psi, in particular at psi = K e_j + something orthogonal to all keys: alpha = e_j
    keys = sympy.Matrix([[1, 0], [1, 1], [0, 2], [0, 0]])
    pseudo = (keys.T * keys).inv() * keys.T
    d = sympy.Matrix(2, 2, sympy.symbols("d:4"))
    edit = d * pseudo
    psi = keys[:, 1] + sympy.Symbol("x") * sympy.Matrix([2, -2, 1, 0]) + sympy.Symbol("y") * sympy.Matrix([0, 0, 0, 1])
    expect((pseudo * psi).applyfunc(sympy.expand) == sympy.Matrix([0, 1]), "alpha is not e_j")
    floats = np.array(keys.tolist(), dtype=float)
    for feature in product((-1, 0, 2), repeat=4):
        got = code.bridge_alignment(floats, feature)
        # cond(K) < 2, ||K^+|| < 1, ||psi|| <= 4
        want = (pseudo * sympy.Matrix(feature)).T.tolist()[0]
        expect_entries(got.alpha, want, rank_tolerance((4, 2), 2**2 * 4), f"K^+ psi at {feature}")
        expect(got.full_rank, "independent keys")
    expect((edit * psi - d[:, 1]).applyfunc(sympy.expand).is_zero_matrix, "the edit adds another column")
    # an update that only writes the keys, and is not the least-norm one, may add anything off their span
    other = edit + sympy.Matrix([[0, 0, 0, 1], [0, 0, 0, 0]])
    expect((other * keys - d).applyfunc(sympy.expand).is_zero_matrix, "the other update does not write the keys")
    expect(not (other * psi - d[:, 1]).applyfunc(sympy.expand).is_zero_matrix, "no counter-example off the span")
    # dependent keys with different changes: alpha = (1/2, 1/2) at the key itself
    twice = sympy.Matrix([[1, 1], [0, 0]])
    expect(twice.pinv() * twice[:, 0] == sympy.Matrix([1, 1]) / 2, "dependent keys")
    got = code.bridge_alignment([[1, 1], [0, 0]], [1, 0])
    expect_entries(got.alpha, [Fraction(1, 2)] * 2, 8 * EPS, "alpha of dependent keys")
    expect(not got.full_rank, "dependent keys")
    for key, other, want in (((3, 4), (4, 3), 24 / 25), ((1, 0), (0, 5), 0.0), ((2, -1), (-4, 2), -1.0)):
        expect_close(code.bridge_cosine(key, other), want, 8 * EPS, f"cosine of {key} and {other}")
    # the margin of the right value over a rival is alpha_j lead_j + sum alpha_i lead_i - (deficit of that rival)
    lead, alpha = sympy.symbols("v:3", real=True), sympy.symbols("a:3", real=True)
    right, low, high = sympy.symbols("s l h", real=True)
    columns = [(right + v, right) for v in lead]  # right and rival entries of three columns of L
    margin = (
        low
        + sum(a * x for a, (x, _) in zip(alpha, columns, strict=True))
        - (high + sum(a * x for a, (_, x) in zip(alpha, columns, strict=True)))
    )
    expect(sympy.expand(margin - sum(a * v for a, v in zip(alpha, lead, strict=True)) + (high - low)) == 0, "margin")
    # exact search over small whole numbers: condition implies the answer; each premise dropped has a counter-example
    dropped_sign = 0
    for entries in product((-1, 0, 2), repeat=6):
        for a0, a1, base in product((-1, 1, 2), (-1, 0, 1), ((0, 0, 0), (1, 0, -3))):
            rows = [entries[:2], entries[2:4], entries[4:]]
            gain = min(rows[0][0] - row[0] for row in rows[1:])
            cross = max(abs(rows[0][1] - row[1]) for row in rows[1:])
            deficit = max(base[1] - base[0], base[2] - base[0])
            slack = a0 * gain - cross * abs(a1) - deficit
            got = code.aligned_answer([row[:2] for row in rows], (a0, a1), base, 0, 0)
            want = gain, cross, deficit, slack, a0 >= 0 and slack > 0
            expect(got == want, f"{got} for {rows} {a0, a1} {base}, exactly {want}")
            final = [x + a0 * row[0] + a1 * row[1] for x, row in zip(base, rows, strict=True)]
            answered = final[0] > max(final[1:])
            expect(answered or slack <= 0 or a0 < 0, f"{rows} {a0, a1} {base}")
            dropped_sign += slack > 0 and a0 < 0 and not answered
    expect(dropped_sign > 0, "a negative alpha_j needs no premise")


def _aligned_body(answer: Callable[..., AlignedAnswer]) -> None:
    """Exact second evaluation of every field, and a certain answer is the argmax."""

    def body(size: tuple[int, int], seed: int, scale: float, fits: float) -> None:
        m, count = size[0] + 1, size[1]
        rng = stream(seed, "aligned")
        changes = scale * rng.standard_normal((m, count))
        base = scale * rng.standard_normal(m)
        j, z = int(rng.integers(count)), int(rng.integers(m))
        changes[z, j] += 4 * scale
        alpha = fits * np.eye(count)[j] + 0.1 * rng.standard_normal(count)
        got = answer(changes, alpha, base, j, z)
        rows = [[Fraction(x) for x in row] for row in changes.tolist()]
        weights, logits = [Fraction(x) for x in alpha.tolist()], [Fraction(x) for x in base.tolist()]
        rivals = [y for y in range(m) if y != z]
        gain = min(rows[z][j] - rows[y][j] for y in rivals)
        cross = max((abs(rows[z][i] - rows[y][i]) for i in range(count) for y in rivals if i != j), default=Fraction(0))
        deficit = max(logits[y] - logits[z] for y in rivals)
        slack = weights[j] * gain - cross * sum(abs(w) for i, w in enumerate(weights) if i != j) - deficit
        for have, want, name in zip(got[:4], (gain, cross, deficit, slack), got._fields, strict=False):
            expect(have == float(want), f"{name} {have}, exactly {float(want)}")
        expect(got.certain == (slack > 0 and alpha[j] >= 0), f"certain {got.certain}, slack {float(slack)}")
        final = [x + sum(w * y for w, y in zip(weights, row, strict=True)) for x, row in zip(logits, rows, strict=True)]
        expect(all(final[z] > final[y] for y in rivals) or not got.certain, "certain, but not answered")

    for_all(body, 60, size=shapes(5), seed=seeds, scale=scales, fits=st.sampled_from([1.0, 0.5, 0.0, -0.5]))
    # the condition is sharp: with equality the right value and a rival tie
    tie = answer([[3.0, 0.0], [1.0, 1.0]], [1.0, 1.0], [0.0, 1.0], 0, 0)
    expect(tie == (2.0, 1.0, 1.0, 0.0, False), f"{tie}")
    # three values, alpha = -1: the bound without its premise would say yes, and rival 1 wins
    negative = answer([[10.0], [0.0], [9.0]], [-1.0], [2.0, 0.0, 0.0], 0, 0)
    expect(negative == (1.0, 0.0, -2.0, 1.0, False), f"{negative}")
    expect(answer([[1.0], [0.0]], [0.0], [1.0, 0.0], 0, 0) == (1.0, 0.0, -1.0, 1.0, True), "alpha = 0 is allowed")


@check("bridge_alignment")
def bridge_alignment_numeric() -> Figure:
    """Planted coefficients at any conditioning, least-norm otherwise; aligned answers; mutants."""

    def body(size: tuple[int, int], seed: int, scale: float, condition: float) -> None:
        in_, count = size
        rng = stream(seed, "alignment")
        k = scale * conditioned(rng, in_, count, condition)
        planted = rng.standard_normal(count)
        off = rng.standard_normal(in_)
        if count:
            basis = np.linalg.svd(k, full_matrices=True)[0][:, min(in_, count) :]
            off = basis @ (basis.T @ off) * scale
        psi = k @ planted + off
        got = bridge_alignment(k, psi)
        expect(got.alpha.shape == (count,), "shape")
        expect(got.full_rank == (count <= in_), f"full rank: {got.full_rank} for {size}")
        # backward stable: relative error at most a modest multiple of the condition number (Higham, ch. 20),
        # once for psi and once for the singular vectors
        tolerance = 16 * max(size) * EPS * condition * (float(np.linalg.norm(psi)) / scale * condition + 1)
        if got.full_rank:
            expect(float(np.abs(got.alpha - planted).max(initial=0)) <= tolerance, "planted coefficients")
        residual = k.T @ (k @ got.alpha - psi)  # normal equations: least squares whatever the rank
        expect(float(np.linalg.norm(residual)) <= tolerance * scale * scale, f"normal equations {residual}")
        expect(float(np.linalg.norm(got.alpha)) <= float(np.linalg.norm(planted)) + tolerance, "not of least norm")

    for_all(body, 60, size=shapes(), seed=seeds, scale=scales, condition=conditions)
    for times, counted in ((0.5, False), (2.0, True)):  # the edge of what counts as zero: 4 eps 3 beside 1
        edge = bridge_alignment(np.diag([1.0, times * 12 * EPS, 1.0]), [0.0, 1.0, 0.0])
        expect((edge.full_rank, bool(edge.alpha.any())) == (counted, counted), f"{times} times what is zero: {edge}")
    half = bridge_alignment([[1.0, 1.0], [0.0, 0.0]], [1.0, 0.0])
    expect(not half.full_rank and bool(np.abs(half.alpha - 0.5).max() <= 8 * EPS), f"dependent keys: {half}")
    expect(bridge_alignment(np.zeros((3, 0)), np.ones(3)).full_rank, "no keys are independent")
    empty = bridge_alignment(np.zeros((0, 2)), np.zeros(0))
    expect(not empty.full_rank and empty.alpha.tolist() == [0.0, 0.0], "keys without coordinates")
    _aligned_body(aligned_answer)
    for field in ("gain", "crosstalk", "deficit", "slack"):
        expect_mutant_rejected(_aligned_body, _scaled(field), f"{field} 1 % too large")
    expect_mutant_rejected(
        _aligned_body,
        lambda *a: aligned_answer(*a)._replace(certain=aligned_answer(*a).slack > 0),
        "no sign premise",
    )
    for lost, counted in ((1.0, False), (1.0 - EPS / 2, True)):  # a tie, and the least lead
        close = aligned_answer([[1.0], [0.0]], [1.0], [0.0, lost], 0, 0)
        expect(close.certain == counted, f"a deficit of {lost!r} against a gain of 1: {close}")
    huge = aligned_answer([[1e308, 0.0], [-1e308, 9.0]], [1.0, 1.0], [-1e308, 1e308], 0, 0)
    expect(huge == (math.inf, 9.0, math.inf, -9.0, False), f"beyond the range of floats: {huge}")
    # the whole answer agrees with the one-hop prompt only if the other logits do: alpha = e_j, another base
    same = aligned_answer([[2.0, 0.0], [0.0, 2.0]], [1.0, 0.0], [0.0, 0.0], 0, 0)
    base = aligned_answer([[2.0, 0.0], [0.0, 2.0]], [1.0, 0.0], [0.0, 3.0], 0, 0)
    expect(same.certain and not base.certain, "the base logits of the two-hop prompt must count")
    for scale in (1e-200, 1.0, 1e200):
        got = bridge_cosine(np.array([3.0, 4.0]) * scale, np.array([4.0, 3.0]) / scale)
        expect_close(got, 0.96, 8 * EPS, "cosine")
    expect(bridge_cosine([1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]) >= -1.0, "cosines are clipped")
    _alignment_rejections()
    worst = 0.0
    for condition in (1.0, 1e3, 1e6):
        k = conditioned(stream(8, "figure"), 12, 6, condition)
        alpha = bridge_alignment(k, k[:, 2]).alpha
        worst = max(worst, float(np.abs(alpha - np.eye(6)[2]).max()) / condition)
    return Figure("error of α at a key of its own, over the condition number", worst, "absolute")


def _scaled(field: str) -> Callable[..., AlignedAnswer]:
    def mutant(*arguments: Any) -> AlignedAnswer:
        answer = aligned_answer(*arguments)
        return answer._replace(**{field: 1.01 * getattr(answer, field)})

    return mutant


def _alignment_rejections() -> None:
    expect_rejected("psi", bridge_alignment, np.eye(2), [1.0])
    expect_rejected("psi", bridge_alignment, np.zeros((2, 0)), [1.0])
    nan = np.full((2, 2), np.nan)
    expect_rejected("K", bridge_alignment, nan, [1.0, 1.0])
    expect_rejected("psi", bridge_alignment, np.eye(2), nan[0])
    expect_rejected("key", bridge_cosine, nan[0], [1.0, 1.0])
    expect_rejected("psi", bridge_cosine, [1.0, 1.0], nan[0])
    expect_rejected("psi", bridge_cosine, [1.0], [1.0, 2.0])
    expect_rejected("key", bridge_cosine, [0.0], [1.0])
    expect_rejected("psi", bridge_cosine, [1.0], [0.0])
    ok: list[Any] = [np.eye(2), [1.0, 0.0], [0.0, 0.0], 0, 0]
    wrong: dict[str, list[Any]] = {
        "L": [np.ones((1, 2)), nan],
        "alpha": [[1.0], nan[0]],
        "logits": [[0.0], nan[0]],
        "bridge": [2, -1],
        "right": [2, -1],
    }
    for position, (name, values) in enumerate(wrong.items()):
        for value in values:
            expect_rejected(name, aligned_answer, *ok[:position], value, *ok[position + 1 :])
    expect_rejected("alpha", aligned_answer, np.eye(2), [1.0, 0.0, 0.0], [0.0, 0.0], 0, 0)
    expect_rejected("logits", aligned_answer, np.eye(2), [1.0, 0.0], [0.0, 0.0, 0.0], 0, 0)


# ---- layer_order ----


def _expected(stack: TwoLayerStack, kind: str, i: int, p: list[int], q: tuple[int, ...], placement: str) -> Array:
    """Logits of the constructed stack, written down by hand."""
    n, m = stack.bridges, stack.values
    counts, bridge, value = np.bincount(q, minlength=m), np.eye(n), np.eye(m)
    gated = bool(stack.W2.any())
    memory = placement.endswith("memory")
    if kind == "second":
        strength = 2.0
        if memory:
            strength = 2.0 * gated + 2.0 * (placement == "late_early_memory")
        return np.concatenate([bridge[i], strength * value[q[i]]])
    reads = np.zeros(m)
    if placement == "early_late":
        # (K^T K)^-1 = I - 1 1^T / (n + 1), so R2 and the bridge give alpha = e_p, the bridge alone less 1/(n + 1)
        reads = 2.0 * value[q[p[i]]] - (2.0 * counts / (n + 1) if kind == "first" else 0.0)
    elif kind == "two_hop":
        reads = 2.0 * counts / (n + 1)  # R2 alone: every one-hop key has coefficient 1/(n + 1)
        if memory:
            reads = 2.0 * value[q[p[i]]] * (gated or placement == "late_early_memory")
    return np.concatenate([bridge[p[i]], reads])


def _stack_body(place: Callable[..., Placement]) -> None:
    sizes = ((2, 2, 1, True), (2, 2, 2, False), (3, 2, 2, True), (2, 3, 1, False), (1, 2, 1, True), (2, 1, 2, True))
    for n, m, people, gates in sizes:
        stack = two_layer_stack(n, m, people, gates)
        prompts = [(kind, i) for kind in ("first", "second", "two_hop")
                   for i in range(n if kind == "second" else people)]  # fmt: skip
        # least_rank: rank_tolerance(shapes, cond(K) ||D||) ||k||, cond(K) = sqrt(n + 1), ||D|| <= 2 sqrt(n),
        # three layers of reading, each entry of gates at most doubling
        tolerance = 16 * rank_tolerance(stack.gates.shape, math.sqrt(n + 1) * 2 * math.sqrt(n))
        for placement in PLACEMENTS:
            share = np.zeros((n, m**n, m))
            for bridge, (t, q) in product(range(n), enumerate(product(range(m), repeat=n))):
                p = [bridge] + [0] * (people - 1)
                placed = place(stack, p, q, placement)
                late = (placement.startswith("late"), placement.endswith("late"))
                expect((placed.first_late, placed.second_late) == late, f"layers of {placement}")
                for kind, i in prompts:
                    got = stack.placed(stack.prompt(kind, i), placed)
                    gap = float(np.abs(got - _expected(stack, kind, i, p, q, placement)).max())
                    expect(gap <= tolerance, f"{placement} {kind} {i}, p {p}, q {q}: off by {gap}, got {got}")
                share[bridge, t] = stack.placed(stack.prompt("two_hop", 0), placed)[n:]
            composes = placement in ("early_late", "late_early_memory") or (placement == "early_early_memory" and gates)
            got_share = composed_share(share, margin=2 * tolerance)
            if composes:
                expect(got_share == 1, f"{placement} composes {got_share}")
            elif m > 1:
                expect(got_share <= additive_optimum(n, m), f"{placement} composes {got_share}")


@check("layer_order")
def layer_order_symbolic(code: Code) -> None:
    """Free symbols: additive on the last matrix; whole numbers: ranks and exact answers of the two early memories."""
    import sympy

    h1, f = sympy.Matrix(sympy.symbols("h:2")), sympy.Matrix(sympy.symbols("f:3"))
    e, w, u, v = (sympy.Matrix(r, k, sympy.symbols(f"{x}:{r * k}")) for x, r, k in
                  (("e", 2, 2), ("w", 2, 3), ("u", 2, 3), ("v", 2, 3)))  # fmt: skip
    views = [e * (h1 + (w + x) * f) for x in (u + v, u, v, 0 * u)]
    inter = views[0] - views[1] - views[2] + views[3]
    expect(inter.applyfunc(sympy.expand).is_zero_matrix, "both on the last matrix are not additive")
    # first hop late, second early: the interaction is what U reads of the change that V made, U (phi2(h1') - phi2(h1))
    g = sympy.Matrix(sympy.symbols("g:3"))
    views = [e * (h1 + x * y) for x, y in ((u, g), (u, f), (0 * u, g), (0 * u, f))]
    inter = views[0] - views[1] - views[2] + views[3] - e * u * (g - f)
    expect(inter.applyfunc(sympy.expand).is_zero_matrix, "interaction of an early second hop")
    for n, m in ((2, 2), (3, 2), (2, 3)):
        for placement, gates in (("early_early_memory", True), ("late_early_memory", False)):
            stack = code.two_layer_stack(n, m, 1, gates)
            frozen = [_whole(x) for x in (stack.W1, stack.W2, stack.gates, stack.offsets, stack.readout)]
            for p, q in product(range(n), product(range(m), repeat=n)):
                placed = code.place_edits(stack, [p], q, placement, one_hop=False)
                first, second, late = placed[:3]
                one, two = _whole(first.dense()), _whole(second.dense())
                early, above = ([second], [first]) if late else ([second, first], [])
                h0 = code.prompt(stack, "two_hop", 0)
                h, key = _whole(h0), np.maximum(_whole(h0), 0)
                expect((_whole(code.early_key(stack, h0)) == key).all(), "phi1 of the prompt")
                h = h + (frozen[0] + two + (0 if late else one)) @ key
                expect((_whole(code.residual(stack, h0, early)) == h).all(), f"h1 of {placement} {p, q}")
                key = np.maximum(frozen[2] @ h - frozen[3], 0)
                expect((_whole(code.late_key(stack, h0, early)) == key).all(), f"phi2 of {placement} {p, q}")
                logits = frozen[4] @ (h + (frozen[1] + (one if late else 0)) @ key)
                for got in (code.logits(stack, h0, early, above), code.placed(stack, h0, placed)):
                    expect((_whole(got) == logits).all(), f"logits of {placement} {p, q}: {got}")
                expect(logits[n:].tolist() == [2 * (z == q[p]) for z in range(m)], f"{placement} {p, q}: {logits}")
                if p == sum(q) == 0:
                    expect(second.rank() == 1 and first.rank() == (m if late else 1), f"ranks of {placement}")
    _frozen_writes_early(code)
    _room_exact(code.bridge_room)


def _frozen_writes_early(code: Code) -> None:
    """Any W1 and any two updates, in whole numbers: the placements above need none, and have W1 = 0."""
    rng = stream(2, "frozen")
    stack = code.two_layer_stack(2, 2)
    size, units = stack.W2.shape
    stack = stack._replace(W1=rng.integers(-3, 4, (size, size)).astype(float))
    early, late = (
        LowRank(rng.integers(-3, 4, (size, 2)).astype(float), rng.integers(-3, 4, (2, inputs)).astype(float))
        for inputs in (size, units)
    )
    w1, w2, gates, offsets, readout = map(_whole, stack[:5])
    h0 = code.prompt(stack, "two_hop", 0)
    h = _whole(h0) + (w1 + _whole(early.dense())) @ np.maximum(_whole(h0), 0)
    expect((_whole(code.residual(stack, h0, [early])) == h).all(), "h1 where W1 writes too")
    key = np.maximum(gates @ h - offsets, 0)
    expect((_whole(code.late_key(stack, h0, [early])) == key).all(), "phi2 where W1 writes too")
    logits = readout @ (h + (w2 + _whole(late.dense())) @ key)
    expect((_whole(code.logits(stack, h0, [early], [late])) == logits).all(), "logits where W1 writes too")


def _room_exact(room: Callable[..., float]) -> None:
    """Where the feature must lie: the worst direction in free symbols, then whole numbers with whole norms."""
    import sympy

    a, k = (sympy.Matrix(3, 1, sympy.symbols(f"{x}:3", real=True)) for x in "ak")
    lead, delta = sympy.symbols("l delta", real=True)
    length = sympy.sqrt(a.dot(a))
    off = k - delta / length * a  # at distance delta of the key
    expect(sympy.simplify((off - k).dot(off - k) - delta**2) == 0, "the worst feature is at distance delta")
    expect(sympy.simplify(lead + a.dot(off) - (lead + a.dot(k) - delta * length)) == 0, "and loses delta |a|")
    right, key = (1, 0, 2, -1), (3, 1, -2, 4)
    offsets = [(3, 4, 0, 0), (2, 4, 4, 8), (0, 0, 0, 0), (-8, 0, 6, 0)]  # lengths 5, 10, 0 and 10
    for leads in product((0, 10, 25), repeat=3):
        chosen = list(zip(offsets, (*leads, 5), strict=True))[-3 if min(leads) else 0 :]
        changes = [right, *(tuple(x - y for x, y in zip(right, row, strict=True)) for row, _ in chosen)]
        at_key = [sum(x * y for x, y in zip(row, key, strict=True)) for row, _ in chosen]
        logits = [7, *(7 + at - led for at, (_, led) in zip(at_key, chosen, strict=True))]
        lengths = [math.isqrt(sum(x * x for x in row)) for row, _ in chosen]
        rooms = [
            Fraction(led, d) if d else (math.inf if led else 0) for (_, led), d in zip(chosen, lengths, strict=True)
        ]
        want, got = min(rooms), room(changes, key, logits, 0)
        # leads of at most 200 in terms, at lengths of at least 5
        expect(got <= want, f"{got} is beyond the exact room {want}")
        expect_close(got, float(want), 16 * EPS * 200, f"room of leads {leads}")


def _whole(array: Array) -> np.ndarray:
    """`array` in whole numbers; it must be whole up to the rounding of a least-norm edit of order one."""
    rounded = np.rint(array).astype(np.int64)
    expect(float(np.abs(array - rounded).max(initial=0)) <= rank_tolerance((*array.shape, 64), 4.0), "not whole")
    return rounded


@check("layer_order")
def layer_order_numeric() -> Figure:
    """All placements against logits written by hand, every p and q; shares under the ceiling or 1; mutants."""
    _stack_body(place_edits)

    def weaker(*arguments: Any) -> Placement:
        placed = place_edits(*arguments)
        return placed._replace(second=LowRank(placed.second.B, placed.second.A, 1.01 * placed.second.scale))

    expect_mutant_rejected(_stack_body, weaker, "second hop 1 % too strong")
    expect_mutant_rejected(
        _stack_body, lambda *a: place_edits(*a)._replace(first_late=True), "first hop always at the late layer"
    )
    stack = two_layer_stack(3, 2, 2)
    expect((stack.people, stack.bridges, stack.values) == (2, 3, 2), "sizes")
    default = two_layer_stack(3, 2)
    expect(default.people == 1 and bool(default.W2.any()), "defaults: one person, frozen gates")
    for kind, index, ones in (("first", 1, [1]), ("second", 2, [2, 5]), ("two_hop", 0, [0, 2])):
        h0 = stack.prompt(kind, index)
        expect(np.flatnonzero(h0).tolist() == ones and bool((h0[ones] == 1).all()), f"{kind} {index}: {h0}")
        # one update at each layer that no placement uses: entries by hand
        early, late = LowRank(np.ones((len(h0), 1)), np.ones((1, len(h0)))), stack.gates.shape[0]
        total = h0 + h0.sum()
        expect(bool((stack.early_key(-h0) == 0).all() and (stack.early_key(h0) == h0).all()), "phi1")
        expect(bool((stack.residual(h0, [early]) == total).all()), "h1")
        key = np.maximum(stack.gates @ total - stack.offsets, 0)
        expect(bool((stack.late_key(h0, [early]) == key).all()), "phi2")
        top = LowRank(np.ones((len(h0), 1)), np.ones((1, late)), 0.5)
        want = stack.readout @ (total + stack.W2 @ key + 0.5 * key.sum())
        expect(bool((stack.logits(h0, [early], [top]) == want).all()), "logits")
    for name, sizes in (("bridges", (0, 1, 1)), ("values", (1, 0, 1)), ("people", (1, 1, 0))):
        expect_rejected(name, two_layer_stack, *sizes)
    expect_rejected("kind", stack.prompt, "third", 0)
    for kind, index in (("first", 2), ("second", 3), ("two_hop", 2), ("first", -1)):
        expect_rejected("index", stack.prompt, kind, index)
    expect_rejected("placement", place_edits, stack, [0, 0], [0, 0, 0], "early")
    for bridges in ([0], [0, 3], [0, -1]):
        expect_rejected("bridge_of", place_edits, stack, bridges, [0, 0, 0], "late_late")
    for table in ([0], [0, 0, 2], [0, 0, -1]):
        expect_rejected("table", place_edits, stack, [0, 0], table, "late_late")
    _room_numeric()
    small = two_layer_stack(2, 2)
    share = np.array([[small.placed(small.prompt("two_hop", 0), place_edits(small, [p], q, "late_late"))[2:]
                       for q in product(range(2), repeat=2)] for p in range(2)])  # fmt: skip
    return Figure("composed with both on the last matrix, n = m = 2 (early then late: 1)",
                  float(composed_share(share, 1e-9)), "share")  # fmt: skip


def _room_body(room: Callable[..., float]) -> None:
    """Any feature within the room is answered, exactly; one just beyond it in the worst direction is not."""

    def body(size: tuple[int, int], seed: int, scale: float, lead: float) -> None:
        m, width = size[0] + 1, size[1]
        rng = stream(seed, "room")
        changes, key = scale * rng.standard_normal((m, width)), rng.standard_normal(width)
        z = int(rng.integers(m))
        logits = scale * rng.standard_normal(m)
        logits[z] = float((logits + changes @ key - changes[z] @ key).max()) + lead * scale
        got = room(changes, key, logits, z)
        rows = [[Fraction(x) for x in row] for row in changes.tolist()]
        base, feature = [Fraction(x) for x in logits.tolist()], [Fraction(x) for x in key.tolist()]
        squares = []  # of the distances to the boundaries, exact
        for y in set(range(m)) - {z}:
            normal = [p - q for p, q in zip(rows[z], rows[y], strict=True)]
            led = base[z] - base[y] + sum(p * q for p, q in zip(normal, feature, strict=True))
            square_length = sum((x * x for x in normal), Fraction(0))
            squares.append(((led * led if led > 0 else Fraction(0)) / square_length, y))
        square, rival = min(squares)
        expect(Fraction(got) ** 2 <= square, f"{got} is beyond the distance {math.sqrt(square)}")
        # relative to the lead, terms of which it is what is left: twice the room that the code leaves
        terms = float(np.abs(changes[z] - changes[rival]) @ np.abs(key)) + abs(logits[z] - logits[rival])
        length = float(np.linalg.norm(changes[z] - changes[rival]))
        slack = 4 * (width + 4) * EPS * (terms / length + math.sqrt(square))
        expect_close(got, math.sqrt(square), slack, "distance to the nearest boundary")
        if lead > 0:
            step = (changes[rival] - changes[z]) / length
            for reach, answered in ((got - 2 * slack, True), (got + 2 * slack, False)):
                psi = [Fraction(x) for x in (key + reach * step).tolist()]
                final = [
                    x + sum(p * q for p, q in zip(row, psi, strict=True)) for x, row in zip(base, rows, strict=True)
                ]
                wins = all(final[z] > final[y] for y in range(m) if y != z)
                expect(wins == answered, f"at {reach} of {got}: answered {wins}")

    for_all(body, 60, size=shapes(5).filter(lambda s: s[0] > 0 < s[1]), seed=seeds, scale=scales,
            lead=st.sampled_from([1.0, 1e-3, 30.0, -1.0]))  # fmt: skip


def _room_numeric() -> None:
    """Random rooms, mutants, the stack's own second hop, ends, rejections."""
    _room_body(bridge_room)
    expect_mutant_rejected(_room_body, lambda *a: 1.01 * bridge_room(*a), "1 % more room")
    expect_mutant_rejected(_room_body, lambda *a: 0.99 * bridge_room(*a), "1 % less room")

    def own_row(changes: Array, key: Array, logits: Array, right: int) -> float:
        lead = np.delete((changes @ key + logits)[right] - (changes @ key + logits), right).min()
        return max(0.0, float(lead / np.linalg.norm(changes[right])))

    expect_mutant_rejected(_room_body, own_row, "the rival's own row forgotten")
    # where an allowance that lacks either part is too small: a single entry, and sums that round one way all along
    rng = stream(3, "room")
    for (own, rival), key, logits in zip(rng.standard_normal((1000, 2)), rng.standard_normal(1000),
                                         rng.standard_normal((1000, 2)), strict=True):  # fmt: skip
        got, normal = bridge_room([[own], [rival]], [key], logits, 0), Fraction(own) - Fraction(rival)
        led = Fraction(logits[0]) - Fraction(logits[1]) + normal * Fraction(key)
        expect(Fraction(got) <= max(led, Fraction(0)) / abs(normal), f"{got} is beyond the room of a single entry")
    for width, entry in product((4**4, 4**6, 4**7), (4 / 3, 5 / 3)):
        got = bridge_room([[entry] * width, [0.0] * width], [1.0] * width, [0.0, 0.0], 0)
        expect(got <= math.isqrt(width), f"{got} is beyond the room of {width} equal entries")
    stack, p, q = two_layer_stack(3, 2), 1, (1, 0, 1)
    placed = place_edits(stack, [p], q, "early_late")
    h0 = stack.prompt("two_hop", 0)
    key = stack.late_key(stack.prompt("second", p))
    changes = (stack.readout @ placed.second.dense())[3:]
    room = bridge_room(changes, key, stack.logits(h0, [placed.first])[3:], q[p])
    # value rows are 2 (1, -1) times the sign of each table entry: K^+ has row difference norms by (K^T K)^-1
    inverse = np.linalg.inv(np.eye(3) + np.ones((3, 3)))
    signs = np.array([1.0 if z == q[p] else -1.0 for z in q])
    want = 2.0 / math.sqrt(float(4.0 * signs @ inverse @ signs))
    expect_close(room, want, 64 * EPS * 13, "room of the stack's second hop")
    missed = stack.late_key(h0, [placed.first]) - key  # the person's coordinate, which the edit does not read
    expect(float(np.linalg.norm(missed)) == 1.0 > room, f"room {room}, and the two-hop feature misses by {missed}")
    expect(float(np.abs(changes @ missed).max()) <= 64 * EPS, "what the changes do not read needs no room")
    expect(bridge_room([[1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], [1.0, 0.0], 0) == math.inf, "equal rows never lose")
    expect(bridge_room([[1.0, 0.0], [1.0, 0.0]], [1.0, 1.0], [0.0, 0.0], 0) == 0.0, "a tie is no answer")
    ok = (np.eye(2), [1.0, 0.0], [0.0, 0.0], 0)
    for position, name, bad in (
        (0, "changes", np.ones((1, 2))),
        (0, "changes", np.full((2, 2), np.nan)),
        (1, "key", [1.0]),
        (1, "key", [np.nan, 1.0]),
        (2, "logits", [0.0]),
        (2, "logits", [np.inf, 0.0]),
        (3, "right", 2),
        (3, "right", -1),
        (3, "right", 0.5),
    ):
        expect_rejected(name, bridge_room, *ok[:position], bad, *ok[position + 1 :])


# ---- few_writings_limit ----


def _best_reader(writings: int, n: int, m: int) -> Fraction:
    """Best share right over every reader of so many writings, each table written as the one that is read best."""
    tables = list(product(range(m), repeat=n))
    agree = [[sum(map(int.__eq__, g, q)) for q in tables] for g in tables]
    families = combinations(agree, min(writings, len(tables)))
    return Fraction(max(sum(map(max, zip(*family, strict=True))) for family in families), n * len(tables))


@check("few_writings_limit")
def few_writings_symbolic(code: Code) -> Figure:
    """Every reader of every small size, exact: never above the ceiling, and at it for one writing and for all."""
    tightest = Fraction(0)
    for n, m in ((2, 2), (3, 2), (2, 3)):
        room = (8 * n + 16) * EPS  # a logarithm, n tails and their sum are rounded
        for writings in range(1, m**n + 1):
            best, ceiling = _best_reader(writings, n, m), code.few_writings_ceiling(writings, n, m)
            expect(best <= Fraction(ceiling) + Fraction(room), f"{writings} writings reach {best}, ceiling {ceiling}")
            counted = sum(
                min(m**n, writings * sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1)))
                for k in range(1, n + 1)
            )
            expect_close(ceiling, float(Fraction(counted, n * m**n)), room, f"ceiling of {writings} at {n, m}")
            tightest = max(tightest, best / Fraction(ceiling)) if 1 < writings < m**n else tightest
        for writings, share in ((1, Fraction(1, m)), (m**n, Fraction(1))):
            expect(_best_reader(writings, n, m) == share, f"{writings} writings at {n, m}")
            expect_close(code.few_writings_ceiling(writings, n, m), float(share), room, f"the end {writings} at {n, m}")
    return Figure("best reader / ceiling, small sizes", float(tightest), "ratio")


@check("few_writings_limit")
def few_writings_numeric() -> Figure:
    """An early second hop of the two-layer stack that rounds what it writes; numbers of any size; rejections."""
    n, m, levels = 6, 3, 2
    rng = stream(11, "writings")
    reader, tables = rng.standard_normal((4, n, m)), list(product(range(m), repeat=n))
    # it writes 4 numbers of the table, each rounded to one of two levels: 16 writings at most
    numbers = np.array([[sum(w[y, z] for y, z in enumerate(q)) for w in reader] for q in tables])
    written = (numbers > np.median(numbers, axis=0)).astype(int)
    right = 0
    for code in {tuple(row) for row in written.tolist()}:
        mine = [q for q, row in zip(tables, written.tolist(), strict=True) if tuple(row) == code]
        right += sum(
            max(sum(q[y] == z for q in mine) for z in range(m)) for y in range(n)
        )  # the best answers by bridge
    share = right / (n * len(tables))
    ceiling = few_writings_ceiling(levels**4, n, m)
    expect(1 / m < share <= ceiling, f"share {share}, ceiling {ceiling}")
    expect_mutant_rejected(
        lambda bound: expect(share <= bound(levels**4, n, m), "above"), lambda g, *size: 1 / m, "guessing"
    )
    along = [few_writings_ceiling(g, 40, 10) for g in (1, 2, 10, 10**3, 10**9, 10**400)]
    expect(along == sorted(along) and along[0] == 0.1 and along[-1] == 1.0, f"more writings, more at most: {along}")
    for wrong in (0, 1.5, True):
        expect_rejected("writings", few_writings_ceiling, wrong, 2, 2)
    expect_rejected("n", few_writings_ceiling, 2, 0, 2)
    expect_rejected("m", few_writings_ceiling, 2, 2, 0)
    return Figure("ceiling less what a rounded writing reaches", ceiling - share, "share")


# ---- coverage_law ----


@check("coverage_law")
def coverage_law_symbolic(code: Code) -> None:
    """An exact world with independent steps attains both ends; dependent steps leave the law; affine in c."""
    import sympy

    for c_, lam, p2, m in product((0, 1, 3), (0, 2, 4), (1, 3, 4), (1, 2, 5)):
        shares = [Fraction(x, 4) for x in (c_, lam, p2)]
        low = high = Fraction(0)
        # covered or not, bridge retrieved or not, second hop right or not; a failure says the old value or guesses
        for events in product((True, False), repeat=3):
            weight = math.prod(s if hit else 1 - s for s, hit in zip(shares, events, strict=True))
            low += weight * all(events)
            high += weight * (1 if all(events) else Fraction(1, m))
        got = code.coverage_law(float(shares[0]), float(shares[1]), float(shares[2]), m)
        # quarters: products are exact, the share 1/m is rounded once and added once
        expect(Fraction(got.low) == low, f"low {got.low}, exact {low}")
        expect(abs(Fraction(got.high) - high) <= Fraction(2 * EPS), f"high {got.high}, exact {high}")
    # two kinds of bridges, lambda and p2 both 1 on one and 0 on the other: accuracy 1/2, the law says 1/4
    expect(Fraction(1, 2) != Fraction(1, 2) * Fraction(1, 2), "means multiply only if bridges are alike")
    x, lam, p, m = sympy.symbols("c lambda p m", positive=True)
    for line in (x * lam * p, x * lam * p + (1 - x * lam * p) / m):
        expect(sympy.diff(line, x, 2) == 0, "not affine in c")
    expect(sympy.diff(x * lam.subs(lam, x) * p, x, 2) != 0, "affine although lambda moves with c")


def _coverage_body(law: Callable[..., CoverageLaw]) -> None:
    def body(shares: tuple[float, float, float], m: int) -> None:
        got = law(*shares, m)
        low = math.prod((Fraction(s) for s in shares), start=Fraction(1))
        high = low + (1 - low) / m
        expect_close(got.low, float(low), 4 * EPS * float(low) + 1e-320, "low")  # subnormal products lose digits
        expect_close(got.high, float(high), 4 * EPS, "high")
        expect(0 <= got.low <= got.high <= 1, f"{got}")

    share = st.floats(0, 1)
    for_all(body, 60, shares=st.tuples(share, share, share), m=st.integers(1, 100))


@check("coverage_law")
def coverage_law_numeric() -> Figure:
    """Against fractions, ends of the range, mutants."""
    _coverage_body(coverage_law)
    for field in ("low", "high"):
        expect_mutant_rejected(
            _coverage_body,
            lambda *a, f=field: coverage_law(*a)._replace(**{f: 1.01 * getattr(coverage_law(*a), f)}),
            f"{field} 1 % up",
        )
    expect(coverage_law(1, 1, 1, 7) == (1.0, 1.0) and coverage_law(0, 1, 1, 4) == (0.0, 0.25), "ends")
    for position, name in enumerate(("c", "retrieval", "p2")):
        for bad in (-0.1, 1.1, True):
            shares = [0.5, 0.5, 0.5]
            shares[position] = bad
            expect_rejected(name, coverage_law, *shares, 2)
    expect_rejected("m", coverage_law, 0.5, 0.5, 0.5, 0)
    band = coverage_law(0.5, 0.9, 0.9, 10)
    return Figure("width of the band at c = 1/2, λ = p₂ = 0.9, m = 10", band.high - band.low, "share")


# ---- chain_of_thought ----


@check("chain_of_thought")
def chain_of_thought_symbolic(code: Code) -> None:
    """All pairs of sets of right queries among four, and lucky last steps: the bound holds, is attained, is exact."""
    sets = list(product((0, 1), repeat=4))
    attained: dict[tuple[int, int], int] = {}
    for first, second in product(sets, repeat=2):
        both = sum(x * y for x, y in zip(first, second, strict=True))
        size = sum(first), sum(second)
        got = code.chain_of_thought(size[0] / 4, size[1] / 4)  # quarters are exact
        lucky = both + 4 - size[0]  # every wrong bridge may still give the right value
        expect(got.lower <= both / 4 <= lucky / 4, f"{first, second}")
        attained[size] = min(attained.get(size, 4), both)
        # independent: second is right equally often where first is right and where it is wrong
        if both * (4 - size[0]) == (size[1] - both) * size[0] and 0 < size[0] < 4:
            expect(got.independent == both / 4, f"independent {first, second}")
    for (a, b), least in attained.items():
        expect(code.chain_of_thought(a / 4, b / 4).lower == least / 4, f"the bound is not attained at {a, b}")
        expect(code.chain_of_thought(a / 4, b / 4).independent == a * b / 16, f"product at {a, b}")


def _chain_body(chain: Callable[[float, float], ChainOfThought]) -> None:
    def body(s1: float, s2: float) -> None:
        got = chain(s1, s2)
        a, b = Fraction(s1), Fraction(s2)
        expect_close(got.lower, float(max(Fraction(0), a + b - 1)), 0.0, "lower")  # fsum rounds once, as float() does
        expect_close(got.independent, float(a * b), 0.0, "independent")  # one product, rounded once
        expect(got.lower <= got.independent + EPS, f"{got}")

    for_all(body, 60, s1=st.floats(0, 1), s2=st.floats(0, 1))


@check("chain_of_thought")
def chain_of_thought_numeric() -> Figure:
    """Against fractions, mutants, and the largest gap between the two values."""
    _chain_body(chain_of_thought)
    for field in ("lower", "independent"):
        expect_mutant_rejected(
            _chain_body,
            lambda *a, f=field: chain_of_thought(*a)._replace(**{f: 1.01 * getattr(chain_of_thought(*a), f)}),
            f"{field} 1 % up",
        )
    for bad in (-0.1, 1.1, True):
        expect_rejected("s1", chain_of_thought, bad, 0.5)
        expect_rejected("s2", chain_of_thought, 0.5, bad)
    grid = [x / 20 for x in range(21)]
    gap = max(chain_of_thought(x, y).independent - chain_of_thought(x, y).lower for x in grid for y in grid)
    expect_close(gap, 0.25, 4 * EPS, "largest gap, (1 - s1)(1 - s2) or s1 s2, at s1 = s2 = 1/2")
    return Figure("largest gap between independent and worst chains", gap, "share")
