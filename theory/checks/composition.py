"""Checks of the topic composition, where it fails: the one-layer model and the additive limit."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, permutations, product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory import composition as c
from theory._additive import search
from theory.checks import Figure, check, expect, expect_close, expect_mutant_rejected, expect_rejected, for_all
from theory.checks.strategies import conditioned, conditions, scales, seeds, shapes
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, stream

SMALL = [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (2, 3), (4, 2), (3, 3), (2, 4), (5, 2), (3, 4), (4, 3)]

# ---- additive_limit ----


@check("additive_limit")
def additive_limit_symbolic() -> None:
    """Exact: part 1 at n = 2, part 2 for every pair of patterns, the optima by certified search, part 4."""
    import sympy

    m, n = sympy.symbols("m n", positive=True, integer=True)
    pairs = sympy.Rational(1, 2) + sympy.binomial(m + 1, 2).expand(func=True) / (2 * m**2)
    expect(sympy.simplify(pairs - sympy.Rational(3, 4) - 1 / (4 * m)) == 0, "part 1 from the count of patterns")
    triples = 6 * m * (m - 1) * (m - 2) / 6 + 4 * m * (m - 1) + 2 * m
    expect(sympy.simplify((m**3 + triples) / (3 * m**3) - sympy.Rational(2, 3) - 1 / (3 * m)) == 0, "n = 3")
    # part 2, free a and b: if counts agree, the inequalities of g against h and of h against g sum to 0 > 0
    a, b, d = (sympy.Matrix(3, 3, sympy.symbols(f"{x}:9")) for x in "abd")
    patterns = list(product(range(3), repeat=3))
    for g, h in combinations(patterns, 2):
        total = sum(a[y, u] + b[u] - a[y, v] - b[v] + a[y, v] + d[v] - a[y, u] - d[u]
                    for y, (u, v) in enumerate(zip(g, h, strict=True)))  # fmt: skip
        expect((sympy.expand(total) == 0) == (sorted(g) == sorted(h)), f"telescoping sum of {g} and {h}")
    # the lightest order of three values: changing two of its entries never makes it lighter, so no pair is reached
    for order in permutations(range(3)):
        for y, x in combinations(range(3), 2):
            swapped = list(order)
            swapped[y], swapped[x] = swapped[x], swapped[y]
            change = sum(a[i, swapped[i]] - a[i, order[i]] for i in range(3))
            pair = a[y, order[x]] + a[x, order[y]] - a[y, order[y]] - a[x, order[x]]
            expect(sympy.expand(change - pair) == 0, f"swap {y, x} in {order}")
    # part 3: excess over 1/m at most 1/n + s + 1/(4 n s), s = sqrt(ln G / (2n)) <= sqrt((m-1) ln(n+m-1) / (2n)) -> 0
    for values in (2, 10):
        limit = sympy.limit((values - 1) * sympy.log(n + values - 1) / (2 * n), n, sympy.oo)
        expect(limit == 0, f"the excess does not vanish for m = {values}")
    # part 4 with free logits: margins of the whole and of the additive part differ by I_right - I_rival
    f0, f1, f2, f12 = (sympy.symbols(f"{x}:2") for x in ("e", "f", "g", "h"))
    inter = [f12[z] - f1[z] - f2[z] + f0[z] for z in (0, 1)]
    margin = (f12[0] - f12[1]) - (f1[0] + f2[0] - f0[0] - f1[1] - f2[1] + f0[1])
    expect(sympy.expand(margin - inter[0] + inter[1]) == 0, "part 4")
    # optima: values pinned, upper bound by exhaustive certified search, attained by the extremal logits
    pinned = {(2, 2): (7, 8), (3, 2): (5, 6), (2, 3): (5, 6), (4, 2): (51, 64), (3, 3): (7, 9), (4, 3): (79, 108)}
    for (bridges, values), ratio in pinned.items():
        want = Fraction(*ratio)
        expect(c.additive_optimum(bridges, values) == want, f"optimum at {bridges, values}")
        expect(c.additive_score(c.extremal_first(bridges, values)) == want, f"witness at {bridges, values}")
        if bridges * values < 12:
            expect(search(bridges, values) == want, f"search at {bridges, values}")
    expect(search(3, 3, lambda rows: None) is None, "undecided branches must leave the optimum unproved")
    expect(search(3, 3, lambda rows: True) is None, "a better choice of patterns must not be overlooked")
    # every a over {0, 1, 2}: never more patterns than the bound, never more than the optimum, both attained
    for bridges, values in ((2, 2), (3, 2), (2, 3)):
        reached, score = 0, Fraction(0)
        for entries in product(range(3), repeat=bridges * values):
            first = np.reshape(entries, (bridges, values))
            reached = max(reached, len(c.reachable_patterns(first)))
            if entries[0] == entries[values] == 0:  # a constant per row is absorbed: half the work
                score = max(score, c.additive_score(first))
        expect(reached == c.additive_patterns(bridges, values), f"patterns at {bridges, values}: {reached}")
        expect(score == c.additive_optimum(bridges, values), f"best score at {bridges, values}: {score}")


def _exact_tail(n: int, m: int, k: int) -> Fraction:
    return Fraction(sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1)), m**n)


def _exact_ceiling(n: int, m: int) -> Fraction:
    if n == 1:
        return Fraction(1)
    patterns = math.factorial(n + m - 1) // math.factorial(n) // math.factorial(m - 1)
    part3 = sum((min(Fraction(1), patterns * _exact_tail(n, m, k)) for k in range(1, n + 1)), Fraction(0)) / n
    return min(Fraction(3 * m + 1, 4 * m), part3)


def _ceiling_body(ceiling: Callable[[int, int], float]) -> None:
    """Second evaluation in fractions, published values, and never below what is really attained."""
    for n, m in [*SMALL, (12, 4), (30, 2), (30, 30), (60, 10)]:
        exact = _exact_ceiling(n, m)
        expect_close(
            ceiling(n, m), float(exact), 16 * (n + 2) * EPS, f"ceiling at {n, m}"
        )  # n terms, logs below n ln m
    for (n, m), value in {(100, 10): 0.375, (1000, 10): 0.203, (10_000, 100): 0.058}.items():
        expect_close(ceiling(n, m), value, 0.0005, f"ceiling at {n, m}")  # three decimals are stated
    for n, m in SMALL:
        expect(ceiling(n, m) >= c.additive_optimum(n, m) - Fraction(EPS), f"ceiling below the optimum at {n, m}")


def _shares_body(optimum: Callable[[int, int], Fraction]) -> None:
    """Random additive logits never exceed the optimum; the extremal ones attain it and answer strictly."""

    def body(size: tuple[int, int], seed: int, scale: float) -> None:
        n, m = size
        rng = stream(seed, "additive")
        first = scale * rng.integers(-3, 4, (n, m)).astype(float)
        second = scale * rng.integers(-3, 4, (m**n, m)).astype(float)
        share = c.composed_share(first[:, None, :] + second[None, :, :])
        score = c.additive_score(first)
        expect(share <= score <= optimum(n, m), f"share {share}, score {score} at {size}")
        patterns = c.reachable_patterns(first)
        expect(1 <= len(patterns) <= c.additive_patterns(n, m), f"{len(patterns)} patterns at {size}")

    for_all(body, 40, size=st.sampled_from(SMALL[:-2]), seed=seeds, scale=scales)
    for n, m in SMALL:
        first = c.extremal_first(n, m)
        second = np.array([c.extremal_second(q, m) for q in product(range(m), repeat=n)])
        # whole numbers below n m + ... : sums are exact, so the margin 1 is exact too
        share = c.composed_share(first[:, None, :] + second[None, :, :], margin=0.9995)
        expect(share == optimum(n, m) == c.monotone_score(n, m), f"share {share} of the extremal logits at {n, m}")
        expect(len(c.reachable_patterns(first)) == c.additive_patterns(n, m), f"extremal patterns at {n, m}")
        expect(bool((first == 2 * np.outer(range(n), range(m))).all()), "extremal first logits")


@check("additive_limit")
def additive_limit_numeric() -> Figure:
    """Two evaluations of the ceiling, random and extremal logits, thresholds, interaction split, mutants."""
    _ceiling_body(c.additive_ceiling)
    expect_mutant_rejected(_ceiling_body, lambda n, m: 1.01 * c.additive_ceiling(n, m), "ceiling 1 % up")
    expect_mutant_rejected(_ceiling_body, lambda n, m: 0.99 * c.additive_ceiling(n, m), "ceiling 1 % down")
    _shares_body(c.additive_optimum)
    expect_mutant_rejected(_shares_body, lambda n, m: Fraction(99, 100) * c.additive_optimum(n, m), "optimum down")
    for n in range(1, 13):  # more bridges never compose better; the walk formula against the letter count
        expect(c.additive_optimum(n, 2) == c.monotone_score(n, 2), f"optimum at {n, 2}")
        expect(c.additive_optimum(n + 1, 2) <= c.additive_optimum(n, 2), f"optimum grows at {n + 1, 2}")
    ceilings = [c.additive_ceiling(10**k, 3) for k in range(1, 6)]
    expect(ceilings == sorted(ceilings, reverse=True) and ceilings[-1] < 1 / 3 + 0.02, f"m = 3: {ceilings}")
    # generic logits reach every vector of counts once; permutation tables do worse: 3/4 and 2/3
    generic = c.reachable_patterns(stream(3, "generic").standard_normal((3, 4)))
    expect(len(generic) == len({tuple(sorted(g)) for g in generic}) == math.comb(6, 3), "generic patterns")
    for n, want in ((2, Fraction(3, 4)), (3, Fraction(2, 3))):
        reached = c.reachable_patterns(c.extremal_first(n, n))
        best = [max(sum(map(int.__eq__, g, q)) for g in reached) for q in permutations(range(n))]
        expect(Fraction(sum(best), n * len(best)) == want < c.additive_optimum(n, n), f"permutations of {n}")
    for n, m, level in ((20, 3, 0.01), (50, 10, 0.01), (100, 10, 0.01), (40, 2, 0.2), (3, 2, 0.01), (1, 4, 0.01)):
        k = next((k for k in range(1, n + 1)
                  if math.comb(n + m - 1, n) * _exact_tail(n, m, k) <= Fraction(level)), n + 1)  # fmt: skip
        expect(c.additive_threshold(n, m, level) == k, f"threshold at {n, m}: exact {k}")
    expect(c.additive_threshold(100, 10) == c.additive_threshold(100, 10, 0.01), "the default level is 0.01")
    _interaction()
    _additive_rejections()
    slack = c.additive_ceiling(4, 3) - float(c.additive_optimum(4, 3))
    return Figure("slack of the ceiling at n = 4, m = 3 (0 at n = 2)", slack, "share")


def _interaction() -> None:
    """Split against fractions; certified queries are answered by the additive part; the factor 2 is sharp."""

    def body(seed: int, scale: float, m: int) -> None:
        rng = stream(seed, "interaction")
        f0, f1, f2 = (scale * rng.standard_normal((12, m)) for _ in range(3))
        f12 = f1 + f2 - f0 + 0.3 * scale * rng.standard_normal((12, m))
        right = [int(z) for z in (f12 + 0.1 * scale * rng.standard_normal((12, m))).argmax(axis=1)]
        split = c.interaction_split(f0, f1, f2, f12, right)
        for i, z in enumerate(right):
            rows = [[Fraction(x) for x in f[i].tolist()] for f in (f0, f1, f2, f12)]
            additive = [p + q - o for o, p, q in zip(*rows[:3], strict=True)]
            inter = [w - x for w, x in zip(rows[3], additive, strict=True)]
            margin = rows[3][z] - max(x for y, x in enumerate(rows[3]) if y != z)
            tolerance = 16 * EPS * max(abs(float(x)) for row in rows for x in row)
            expect_close(split.margin[i], float(margin), tolerance, "margin")
            for y in range(m):
                expect_close(split.additive[i, y], float(additive[y]), tolerance, "additive part")
                expect_close(split.interaction[i, y], float(inter[y]), tolerance, "interaction")
            excess = margin - 2 * max(map(abs, inter))
            if abs(excess) > 4 * tolerance:
                expect(split.certified[i] == (excess > 0), f"certified {split.certified[i]}, excess {float(excess)}")
            wins = all(additive[z] > x for y, x in enumerate(additive) if y != z)
            expect(wins or not split.certified[i], "certified, but the additive part does not answer it")

    for_all(body, 15, seed=seeds, scale=scales, m=st.integers(2, 4))
    zero = [[0.0, 0.0]]
    expect(not c.interaction_split(zero, zero, zero, [[1.0, -1.0]], [0]).certified[0], "margin 2 max|I| is not enough")
    expect(bool(c.interaction_split(zero, [[1.0, 0.0]], zero, [[1.0, 0.0]], [0]).certified[0]), "no interaction")


def _additive_rejections() -> None:
    for call in (c.additive_ceiling, c.additive_patterns, c.additive_optimum, c.monotone_score, c.extremal_first,
                 c.additive_threshold):  # fmt: skip
        expect_rejected("n", call, 0, 2)
        expect_rejected("m", call, 2, 0)
    expect_rejected("level", c.additive_threshold, 3, 2, 1.5)
    for n, m in ((4, 4), (16, 3), (5001, 2)):
        expect_rejected("n", c.additive_optimum, n, m)
    expect_rejected("n", c.monotone_score, 100, 10)
    expect_rejected("first", c.reachable_patterns, np.zeros((0, 2)))
    expect_rejected("first", c.reachable_patterns, np.zeros((15, 2)))
    expect_rejected("first", c.additive_score, np.zeros((15, 2)))
    expect_rejected("table", c.extremal_second, [], 2)
    expect_rejected("table", c.extremal_second, [0, 2], 2)
    expect_rejected("m", c.extremal_second, [0], 0)
    expect_rejected("logits", c.composed_share, np.zeros((2, 2)))
    expect_rejected("logits", c.composed_share, np.zeros((2, 3, 2)))
    expect_rejected("logits", c.composed_share, np.zeros((0, 1, 2)))
    expect_rejected("logits", c.composed_share, np.full((1, 2, 2), np.nan))
    for margin in (-1.0, True):
        expect_rejected("margin", c.composed_share, np.zeros((1, 2, 2)), margin)
    expect_rejected("first", c.reachable_patterns, np.full((2, 2), np.nan))
    expect_rejected("table", c.extremal_second, [0, -1], 2)
    ok = np.zeros((3, 2))
    for position, name in enumerate(("first", "second", "both"), start=1):
        arguments = [ok, ok, ok, ok]
        arguments[position] = np.zeros((1, 2))
        expect_rejected(name, c.interaction_split, *arguments, [0, 0, 0])
        arguments[position] = np.full((3, 2), np.nan)
        expect_rejected(name, c.interaction_split, *arguments, [0, 0, 0])
    expect_rejected("base", c.interaction_split, np.full((3, 2), np.nan), ok, ok, ok, [0, 0, 0])
    expect_rejected("base", c.interaction_split, *[np.zeros((3, 1))] * 4, [0, 0, 0])
    expect_rejected("right", c.interaction_split, ok, ok, ok, ok, [0])
    for outside in (2, -1):
        expect_rejected("right", c.interaction_split, ok, ok, ok, ok, [0, 0, outside])


# ---- one_layer_composition ----


@check("one_layer_composition")
def one_layer_symbolic() -> None:
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
    _edit_body(c.one_layer_edit)
    expect_mutant_rejected(
        _edit_body, lambda w, k, t: LowRank.combine([c.one_layer_edit(w, k, t)], [1.01]), "edit 1 % too large"
    )
    tiny = c.one_layer_edit(np.zeros((1, 2)), [3e-200, 4e-200], [1.0])
    expect_close(float(tiny.apply([3e-200, 4e-200])[0]), 1.0, 16 * EPS, "a key whose square underflows")
    for cosine in (-1.0, -0.3, 0.0, 0.5, 1.0):
        # second evaluation: integral of the tail of the angle, d/dx kernel(cos x) = -(1 - x/pi) sin x
        grid = (np.arange(20_000) + 0.5) / 20_000 * math.acos(cosine)
        integral = 1.0 - float(np.mean((1 - grid / np.pi) * np.sin(grid))) * math.acos(cosine)
        expect_close(
            c.relu_key_cosine(cosine), integral, 1e-7, "kernel"
        )  # midpoint rule: (pi / 2e4)^2 / 24 * pi < 1e-7
    _model_arrays()
    lost, worst = 0.0, 0.0
    for n, m in ((2, 2), (3, 2), (2, 3)):
        share, gap = _two_hop(n, m)
        worst = max(worst, gap)
        lost = max(lost, share - c.additive_ceiling(n, m))
    expect(lost <= 0, "least-norm edits exceed the ceiling")
    kept = _many_facts()
    _one_layer_rejections()
    return Figure("facts kept by the plain sum of 50 rank-one edits (joint edit: 1)", kept, "share")


def _model_arrays() -> None:
    """Sizes and norms of the random model, and its keys and logits recomputed entry by entry."""
    for tokens, width in ((5, 8), (12, 4)):
        model = c.one_layer_model(tokens, width, 7, stream(5, "model"))
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
    model = c.one_layer_model(n + m + 4, 16, 64, stream(11, "two hops", n, m))
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
        a = np.concatenate([np.zeros(n), c.extremal_first(n, m)[p], np.zeros(4)])
        held = c.one_layer_edit(np.zeros_like(model.readout), key, a)
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
            b = np.concatenate([np.zeros(n), c.extremal_second(q, m), np.zeros(4)])
            other = c.one_layer_edit(np.zeros_like(model.readout), key, b)
            attained[p, t] = (held.apply(key) + other.apply(key))[n : n + m]
    expect(worst <= 1, "updates of the readout interact")
    share = c.composed_share(logits, margin=1e-9)  # far above the rounding of order-one logits
    expect(c.composed_share(attained, margin=0.5) == c.additive_optimum(n, m), "adapters that attain the optimum")
    expect(share <= c.additive_optimum(n, m), f"share {share} at {n, m}")
    return float(share), worst


def _many_facts() -> float:
    """50 facts over 10 answers under one relation: the joint edit keeps all, the sum of rank-one edits does not."""
    rng = stream(2, "fifty")
    model = c.one_layer_model(64, 64, 256, rng)
    prompts = [(x, 63) for x in range(50)]
    answers = [50 + int(z) for z in rng.integers(0, 10, 50)]
    targets = np.eye(64)[:, answers]
    kept = []
    for joint in (True, False):
        update = model.write(prompts, answers, joint)
        kept.append(np.mean([model.logits(p, [update]).argmax() == z for p, z in zip(prompts, answers, strict=True)]))
    keys = model.keys(prompts)
    joint_edits = (c.joint_edit(model.readout, keys, targets), model.write(prompts, answers))
    error = max(float(np.abs(u.apply(keys) - targets).max()) for u in joint_edits)
    condition = float(np.linalg.cond(keys))
    expect(error <= 4 * 256 * EPS * condition * math.sqrt(50) * float(np.linalg.norm(keys, axis=0).max()), f"{error}")
    # the sum at key i reads sum_j t_j (k_j . k_i) / ||k_j||^2
    cosines = (keys / (keys**2).sum(axis=0)).T @ keys
    gap = float(np.abs(c.summed_edits(model.readout, keys, targets).apply(keys) - targets @ cosines).max())
    expect(gap <= 256 * 50 * EPS, f"sum of the edits off by {gap}")  # 50 terms of inner products of 256, all below 2
    distinct = model.write(prompts, list(range(50)), joint=False)
    right = sum(int(model.logits(p, [distinct]).argmax()) == z for z, p in enumerate(prompts))
    expect(right == 50, "with 50 distinct answers and an empty readout the sum keeps them: cosines are below 1")
    expect(kept[0] == 1.0 and kept[1] < 0.9, f"joint keeps {kept[0]}, sum {kept[1]}")
    return float(kept[1])


def _one_layer_rejections() -> None:
    w: Array = np.ones((2, 3))
    expect_rejected("key", c.one_layer_edit, w, [1.0, 1.0], [1.0, 1.0])
    expect_rejected("key", c.one_layer_edit, w, [0.0, 0.0, 0.0], [1.0, 1.0])
    expect_rejected("target", c.one_layer_edit, w, [1.0, 1.0, 1.0], [1.0])
    keys, same = np.eye(3)[:, :2], np.ones((3, 2))
    single: list[Any] = [w, np.ones(3), np.ones(2)]
    several: list[Any] = [w, keys, np.ones((2, 2))]
    for position in range(3):
        for names, given, calls in (
            (("W", "key", "target"), single, [c.one_layer_edit]),
            (("W", "keys", "targets"), several, [c.joint_edit, c.summed_edits]),
        ):
            broken = [*given[:position], given[position] * np.nan, *given[position + 1 :]]
            for call in calls:
                expect_rejected(names[position], call, *broken)
    for call in (c.joint_edit, c.summed_edits):
        expect_rejected("targets", call, w, keys, np.ones((2, 3)))
    expect_rejected("targets", c.joint_edit, w, keys, np.ones((1, 2)))
    expect_rejected("keys", c.joint_edit, w, np.ones((2, 2)), np.ones((2, 2)))
    expect_rejected("keys", c.joint_edit, w, same, np.eye(2))
    expect_rejected("keys", c.summed_edits, w, np.ones((3, 0)), np.ones((2, 0)))
    for cosine in (-1.5, 1.5, True):
        expect_rejected("cosine", c.relu_key_cosine, cosine)
    model = c.one_layer_model(4, 2, 3, stream(0, "small"))
    for position, name in enumerate(("tokens", "width", "hidden")):
        sizes: list[Any] = [4, 2, 3]
        sizes[position] = 0
        expect_rejected(name, c.one_layer_model, *sizes, stream(0, "small"))
    expect_rejected("prompt", model.key, ())
    expect_rejected("prompt", model.key, (4,))
    expect_rejected("prompt", model.key, (-1,))
    expect_rejected("answers", model.write, [(0, 1)], [0, 1])
    for outside in (4, -1):
        expect_rejected("answers", model.write, [(0, 1)], [outside])
