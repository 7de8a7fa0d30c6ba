"""Checks of the topic additive."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, pairwise, permutations, product

import numpy as np
from hypothesis import strategies as st

from theory.additive import (
    additive_ceiling,
    additive_optimum,
    additive_patterns,
    additive_score,
    additive_tangent,
    additive_threshold,
    affine_ceiling,
    affine_patterns,
    composed_share,
    composing_factors,
    composing_rank,
    escape_rank,
    extremal_first,
    extremal_second,
    factor_numbers,
    interaction_split,
    monotone_score,
    reachable_patterns,
)
from theory.branching import no_better
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
from theory.checks.strategies import scales, seeds
from theory.lowrank import LowRank
from theory.merging import factor_average
from theory.numerics import EPS, stream

#: weights of the values, or None for distinct answers
Law = tuple[Fraction, ...] | None
SMALL = [(1, 1), (1, 3), (2, 1), (2, 2), (3, 2), (2, 3), (4, 2), (3, 3), (2, 4), (5, 2), (3, 4), (4, 3)]


@check("additive_limit")
def additive_limit_symbolic(code: Code) -> None:
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
        expect(code.additive_optimum(bridges, values) == want, f"optimum at {bridges, values}")
        expect(code.additive_score(code.extremal_first(bridges, values)) == want, f"witness at {bridges, values}")
        expect(code.monotone_score(bridges, values) == want, f"letter count at {bridges, values}")
        first = code.extremal_first(bridges, values)
        expect_entries(first, [[2 * y * z for z in range(values)] for y in range(bridges)], 0.0, "a[y, z] = 2 y z")
        monotone = list(combinations_with_replacement(range(values), bridges))
        expect(code.reachable_patterns(first) == monotone, f"extremal patterns at {bridges, values}")
        second = np.array([code.extremal_second(q, values) for q in product(range(values), repeat=bridges)])
        # whole numbers, so the least lead, 1, is exact
        share = code.composed_share(first[:, None, :] + second[None, :, :], margin=0.9995)
        expect(share == want, f"the extremal logits compose {share} at {bridges, values}")
        expect(code.additive_ceiling(bridges, values) >= want, f"ceiling below the optimum at {bridges, values}")
        # they answer whole tables, the non-decreasing ones, more often than once in a hundred
        expect(code.additive_patterns(bridges, values) * 100 > values**bridges, f"tables at {bridges, values}")
        expect(code.additive_threshold(bridges, values) == bridges + 1, f"threshold at {bridges, values}")
        if bridges * values < 12:
            known = int(want * bridges * values**bridges)
            expect(no_better(bridges, values, known), f"search at {bridges, values}")
            expect(not no_better(bridges, values, known - 1), f"search below the optimum at {bridges, values}")
    expect(not no_better(3, 3, 63, lambda rows: False), "undecided branches must leave the optimum unproved")
    # every a over {0, 1, 2}: never more patterns than the bound, never more than the optimum, both attained
    for bridges, values in ((2, 2), (3, 2), (2, 3)):
        reached, score = 0, Fraction(0)
        for entries in product(range(3), repeat=bridges * values):
            first = np.reshape(entries, (bridges, values))
            reached = max(reached, len(code.reachable_patterns(first)))
            if entries[0] == entries[values] == 0:  # a constant per row is absorbed: half the work
                score = max(score, code.additive_score(first))
        expect(reached == code.additive_patterns(bridges, values), f"patterns at {bridges, values}: {reached}")
        expect(score == code.additive_optimum(bridges, values), f"best score at {bridges, values}: {score}")
    for bridges, values in (*product((2, 3), range(2, 9)), (9, 2), (40, 2), (1001, 2)):  # where the optimum is known
        found, sharp = code.additive_ceiling(bridges, values), code.additive_optimum(bridges, values)
        expect(math.nextafter(found, 0.0) < sharp <= found, f"the least float that is not below, at {bridges, values}")
    for bridges, values in ((2, 3), (5, 3), (7, 4)):
        want = _exact_tangent(bridges, (Fraction(1, values),) * values)
        expect(code.additive_tangent(bridges, values).bound == want, f"tangent at {bridges, values}")
    grid = np.array(list(product((-1, 0, 2), repeat=8))[::7]).reshape(-1, 4, 2).transpose(1, 0, 2)
    split = code.interaction_split(*grid, [0] * grid.shape[1])
    base, one, two, both = grid.astype(object)
    inside = one + two - base
    expect_entries(split.additive, inside, 0.0, "additive part")
    expect_entries(split.interaction, both - inside, 0.0, "interaction")
    lead, twice = both[:, 0] - both[:, 1], 2 * np.abs(both - inside).max(axis=1)
    expect_entries(split.margin, lead, 0.0, "margin")
    expect(bool((split.certified == (lead > twice)).all()), "certified where the margin exceeds 2 max |I|")


def _exact_moment(n: int, k: int, law: Law) -> Fraction:
    """``C(n, k) h_k``: h_k is 1/k! for distinct answers (law None), else the sum of all monomials in the weights."""
    if law is None:
        return Fraction(math.comb(n, k), math.factorial(k))
    if len(set(law)) == 1:
        return math.comb(n, k) * math.comb(k + len(law) - 1, k) * law[0] ** k
    return math.comb(n, k) * sum((Fraction(math.prod(c)) for c in combinations_with_replacement(law, k)), Fraction(0))


def _exact_tangent(n: int, law: Law) -> Fraction:
    """The least tangent of all orders at all places."""
    moments = [_exact_moment(n, k, law) for k in range(n + 1)]
    found = (
        j + (moments[k] - math.comb(j, k)) / math.comb(j, k - 1) for k in range(1, n + 1) for j in range(k - 1, n + 1)
    )
    return min(found) / n


def _exact_threshold(n: int, law: Law, level: Fraction) -> int:
    moments = [_exact_moment(n, k, law) for k in range(n + 1)]
    tails = [min(moments[k] / math.comb(t, k) for k in range(t + 1)) for t in range(n + 1)]
    if law is not None and len(set(law)) == 1:
        m = len(law)
        for t in range(n + 1):
            tail = Fraction(sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(t, n + 1)), m**n)
            tails[t] = min(tails[t], math.comb(n + m - 1, n) * tail)
    return next((t for t in range(1, n + 1) if tails[t] <= level), n + 1)


def _ceiling_body(ceiling: Callable[..., float]) -> None:
    """Second evaluation in fractions, never below it nor what is attained, published values, never rising."""

    def close(found: float, exact: Fraction, n: int, what: str, sums: int = 1) -> None:
        expect(found >= exact, f"{what}: {found!r} is below its exact value")
        # a moment of log size L is off by at most n L eps, twice, and the place where it is reached moves by n + 1
        # times that at most, since C(j + 1, k) / C(j, k - 1) <= n + 1; L <= n ln 2 + ln n!; for m weights m sums
        size = 2 * n * sums * EPS * (n * math.log(2) + math.lgamma(n + 1)) + 16 * EPS * math.lgamma(n + 1)
        expect_close(found, float(exact), (n + 1) * size + 64 * n * EPS, what)

    for n, m in [*SMALL, (12, 4), (30, 2), (30, 30), (60, 10)]:
        uniform = (Fraction(1, m),) * m
        exact = _exact_tangent(n, uniform) if n > 1 < m else Fraction(1)
        if n == 2:
            exact = min(exact, Fraction(3 * m + 1, 4 * m))
        elif n > 2 < m:
            exact = min(exact, Fraction(2 * m + 1, 3 * m))
        elif n > 2 == m:
            exact = additive_optimum(n, m)
        close(ceiling(n, m), exact, n, f"ceiling at {n, m}")
        if m >= n:
            close(ceiling(n, m, distinct=True), _exact_tangent(n, None), n, f"distinct at {n, m}")
    # in floats, with no allowance for the rounding of ln k!, it would be below its exact value
    close(ceiling(58, 58, distinct=True), _exact_tangent(58, None), 58, "distinct at 58")
    for law in ((Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)), (Fraction(3, 4), Fraction(1, 4), Fraction(0))):
        for n in (2, 5, 9):
            close(ceiling(n, len(law), weights=list(map(float, law))), _exact_tangent(n, law), n, f"{law} at {n}", 3)
    many = (Fraction(1, 1000),) * 1000  # likewise, of the rounding of its sums
    close(ceiling(2, 1000, weights=list(map(float, many))), _exact_tangent(2, many), 2, "a thousand weights", 1000)
    for n, m in ((100, 10), (1000, 10), (1000, 1000), (5000, 20)):
        exact, k, j = additive_tangent(n, m)
        moment = Fraction(math.comb(n, k) * math.comb(k + m - 1, k), m**k)
        expect(exact * n * math.comb(j, k - 1) == j * math.comb(j, k - 1) + moment - math.comb(j, k), f"tangent {n, m}")
        close(ceiling(n, m), exact, n, f"ceiling at {n, m}")
    for n, m in [*SMALL, (12, 4), (30, 2)]:
        want = _exact_tangent(n, (Fraction(1, m),) * m) if n > 1 < m else 1
        expect(additive_tangent(n, m).bound == want, f"tangent at {n, m}")
    for n, m in SMALL:
        expect(ceiling(n, m) >= additive_optimum(n, m), f"ceiling below the optimum at {n, m}")
    for m in (2, 3, 10, 300):
        along = [ceiling(n, m) for n in (*range(1, 130), 1000, 1001, 4095, 4097, 4500, 10**5, 10**6, 10**7)]
        expect(all(x >= y for x, y in pairwise(along)), f"the ceiling rises at m = {m}")


def _shares_body(optimum: Callable[[int, int], Fraction]) -> None:
    """Random additive logits never exceed the optimum; the extremal ones attain it and answer strictly."""

    def body(size: tuple[int, int], seed: int, scale: float) -> None:
        n, m = size
        rng = stream(seed, "additive")
        first = scale * rng.integers(-3, 4, (n, m)).astype(float)
        second = scale * rng.integers(-3, 4, (m**n, m)).astype(float)
        share = composed_share(first[:, None, :] + second[None, :, :])
        score = additive_score(first)
        expect(share <= score <= optimum(n, m), f"share {share}, score {score} at {size}")
        patterns = reachable_patterns(first)
        expect(1 <= len(patterns) <= additive_patterns(n, m), f"{len(patterns)} patterns at {size}")

    for_all(body, 40, size=st.sampled_from(SMALL[:-2]), seed=seeds, scale=scales)
    for n, m in SMALL:
        first = extremal_first(n, m)
        second = np.array([extremal_second(q, m) for q in product(range(m), repeat=n)])
        # whole numbers below n m + ... : sums are exact, so the margin 1 is exact too
        share = composed_share(first[:, None, :] + second[None, :, :], margin=0.9995)
        expect(share == optimum(n, m) == monotone_score(n, m), f"share {share} of the extremal logits at {n, m}")
        expect(len(reachable_patterns(first)) == additive_patterns(n, m), f"extremal patterns at {n, m}")
        expect(bool((first == 2 * np.outer(range(n), range(m))).all()), "extremal first logits")


@check("additive_limit")
def additive_limit_numeric() -> Figure:
    """Two evaluations of the ceiling, random and extremal logits, thresholds, interaction split, mutants."""
    _ceiling_body(additive_ceiling)
    for factor in (0.99, 1.01):
        mutant = lambda *size, by=factor, **law: by * additive_ceiling(*size, **law)  # noqa: E731
        expect_mutant_rejected(_ceiling_body, mutant, f"ceiling times {factor}")
    _shares_body(additive_optimum)
    expect_mutant_rejected(_shares_body, lambda n, m: Fraction(99, 100) * additive_optimum(n, m), "optimum down")
    for n in range(1, 13):  # more bridges never compose better; the walk formula against the letter count
        expect(additive_optimum(n, 2) == monotone_score(n, 2), f"optimum at {n, 2}")
        expect(additive_optimum(n + 1, 2) <= additive_optimum(n, 2), f"optimum grows at {n + 1, 2}")
    ceilings = [additive_ceiling(10**k, 3) for k in range(1, 6)]
    expect(ceilings == sorted(ceilings, reverse=True) and ceilings[-1] < 1 / 3 + 0.02, f"m = 3: {ceilings}")
    # generic logits reach every vector of counts once; permutation tables do worse: 3/4 and 2/3
    generic = reachable_patterns(stream(3, "generic").standard_normal((3, 4)))
    expect(len(generic) == len({tuple(sorted(g)) for g in generic}) == math.comb(6, 3), "generic patterns")
    for n, want in ((2, Fraction(3, 4)), (3, Fraction(2, 3))):
        expect(additive_ceiling(n, n, distinct=True) >= want, f"ceiling below the optimum of permutations of {n}")
        reached = reachable_patterns(extremal_first(n, n))
        best = [max(sum(map(int.__eq__, g, q)) for g in reached) for q in permutations(range(n))]
        expect(Fraction(sum(best), n * len(best)) == want < additive_optimum(n, n), f"permutations of {n}")
    for n, m, level in ((20, 3, 0.01), (50, 10, 0.01), (100, 10, 0.01), (40, 2, 0.2), (3, 2, 0.01), (1, 4, 0.01)):
        k = _exact_threshold(n, (Fraction(1, m),) * m, Fraction(level))
        expect(additive_threshold(n, m, level) == k, f"threshold at {n, m}: exact {k}")
    # the lightest orders, attained at these: 1 - C(m, n) / m^n of all tables have two right bridges or more
    for n, m, level, k in ((3, 5, 0.93, 2), (3, 5, 0.91, 3), (4, 4, 0.99609375, 2), (4, 4, 0.996, 3), (3, 2, 0.9, 3)):
        found = additive_threshold(n, m, level)
        expect(found == k, f"threshold at {n, m}, level {level}: {found}, expected {k}")
    expect(additive_threshold(12, 12, 0.01, distinct=True) == _exact_threshold(12, None, Fraction(0.01)), "distinct")
    skew = (Fraction(1, 2), Fraction(1, 4), Fraction(1, 4))
    found = additive_threshold(9, 3, 0.01, weights=[float(w) for w in skew])
    expect(found == _exact_threshold(9, skew, Fraction(0.01)), f"threshold with weights: {found}")
    for found in (additive_threshold(3, 4, distinct=True), additive_threshold(3, 2, weights=[0.5, 0.5]),
                  additive_threshold(3, 1)):  # fmt: skip
        expect(found == 4, f"{found} bridges, but all three are right more often than at the level")
    expect(additive_threshold(100, 10) == additive_threshold(100, 10, 0.01), "the default level is 0.01")
    _interaction()
    _additive_rejections()
    slack = additive_ceiling(4, 3) - float(additive_optimum(4, 3))
    return Figure("slack of the ceiling at n = 4, m = 3 (0 at n = 2)", slack, "share")


def _interaction() -> None:
    """Split against fractions; certified queries are answered by the additive part; the factor 2 is sharp."""

    def body(seed: int, scale: float, m: int) -> None:
        rng = stream(seed, "interaction")
        f0, f1, f2 = (scale * rng.standard_normal((12, m)) for _ in range(3))
        f12 = f1 + f2 - f0 + 0.3 * scale * rng.standard_normal((12, m))
        right = [int(z) for z in (f12 + 0.1 * scale * rng.standard_normal((12, m))).argmax(axis=1)]
        split = interaction_split(f0, f1, f2, f12, right)
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
    expect(not interaction_split(zero, zero, zero, [[1.0, -1.0]], [0]).certified[0], "margin 2 max|I| is not enough")
    # the edge of a margin that rounding may have made, 16 eps of the largest logit, in steps of the floats below 4
    for steps, counted in ((16, False), (32, False), (33, True), (64, True)):
        none, close = [[0.0, 0.0, 0.0]], [[4.0, 4.0 - steps * 2 * EPS, 0.0]]
        certified = bool(interaction_split(none, close, none, close, [0]).certified[0])
        expect(certified == counted, f"a margin of {steps} steps, 32 may be rounding: {certified}")
    expect(bool(interaction_split(zero, [[1.0, 0.0]], zero, [[1.0, 0.0]], [0]).certified[0]), "no interaction")


def _additive_rejections() -> None:
    for call in (additive_ceiling, additive_tangent, additive_threshold, additive_patterns, additive_optimum,
                 monotone_score, extremal_first):  # fmt: skip
        expect_rejected("n", call, 0, 2)
        expect_rejected("m", call, 2, 0)
    for level in (1.5, 1.0, 0.0, True, "0.5"):
        expect_rejected("level", additive_threshold, 3, 3, level, distinct=True)
    for call in (additive_ceiling, lambda n, m, **law: additive_threshold(n, m, 0.01, **law)):
        expect_rejected("distinct", call, 3, 2, distinct=True)
        expect_rejected("weights", call, 2, 2, weights=[0.5, 0.5], distinct=True)
        for wrong in ([1.0], [0.5, 0.6], [1.5, -0.5], [[0.5, 0.5]], [0.5, 0.5 + 3 * EPS]):
            expect_rejected("weights", call, 2, 2, weights=wrong)
        call(2, 2, weights=[0.5, 0.5 + 2 * EPS])  # off by no more than rounding
    for n, m in ((4, 4), (16, 3), (5001, 2)):
        expect_rejected("n", additive_optimum, n, m)
    # the largest sizes are taken: 20000 patterns, and as many states, one each
    expect(len(reachable_patterns([np.arange(20_000.0)])) == 20_000, "one bridge reaches each of 20000 values")
    expect(monotone_score(199_999, 1) == 1, "200000 states")
    expect_rejected("n", monotone_score, 100, 10)
    expect_rejected("n", monotone_score, 20, 6)
    expect_rejected("first", reachable_patterns, np.zeros((0, 2)))
    expect_rejected("first", reachable_patterns, np.zeros((15, 2)))
    expect_rejected("first", additive_score, np.zeros((15, 2)))
    expect_rejected("table", extremal_second, [], 2)
    expect_rejected("table", extremal_second, [0, 2], 2)
    expect_rejected("m", extremal_second, [0], 0)
    expect_rejected("logits", composed_share, np.zeros((2, 2)))
    expect_rejected("logits", composed_share, np.zeros((2, 3, 2)))
    expect_rejected("logits", composed_share, np.zeros((0, 1, 2)))
    expect_rejected("logits", composed_share, np.full((1, 2, 2), np.nan))
    for kind in (complex, str, object):
        expect_rejected("logits", composed_share, np.zeros((1, 2, 2), dtype=kind))
    for margin in (-1.0, True):
        expect_rejected("margin", composed_share, np.zeros((1, 2, 2)), margin)
    expect_rejected("first", reachable_patterns, np.full((2, 2), np.nan))
    expect_rejected("table", extremal_second, [0, -1], 2)
    ok = np.zeros((3, 2))
    for position, name in enumerate(("first", "second", "both"), start=1):
        arguments = [ok, ok, ok, ok]
        arguments[position] = np.zeros((1, 2))
        expect_rejected(name, interaction_split, *arguments, [0, 0, 0])
        arguments[position] = np.full((3, 2), np.nan)
        expect_rejected(name, interaction_split, *arguments, [0, 0, 0])
    expect_rejected("base", interaction_split, np.full((3, 2), np.nan), ok, ok, ok, [0, 0, 0])
    expect_rejected("base", interaction_split, *[np.zeros((3, 1))] * 4, [0, 0, 0])
    expect_rejected("right", interaction_split, ok, ok, ok, ok, [0])
    for outside in (2, -1):
        expect_rejected("right", interaction_split, ok, ok, ok, ok, [0, 0, outside])


# ---- few_numbers ----


def _line_patterns(k: int, m: int, seed: int) -> set[tuple[int, ...]]:
    """Every pattern of strict argmaxes on k bridges of whole logits that are affine in one number, exact."""
    logits = stream(seed, "line", k, m).integers(-30, 31, (k, m, 2)).tolist()
    ties = {
        Fraction(c - a, b - d) for row in logits for (a, b), (c, d) in combinations(map(tuple, row), 2) if b != d
    }  # a + b t = c + d t
    ends = sorted(ties) or [Fraction(0)]
    found = set()
    for t in [ends[0] - 1, *((x + y) / 2 for x, y in pairwise(ends)), ends[-1] + 1]:
        values = [[a + b * t for a, b in row] for row in logits]
        if all(row.count(max(row)) == 1 for row in values):
            found.add(tuple(row.index(max(row)) for row in values))
    return found


def _polynomial_patterns(k: int, d: int) -> list[tuple[int, ...]]:
    """Signs at the places 0..k-1 of monic polynomials of degree d, whose coefficients are d free numbers; exact.

    Roots between neighbouring places or far on the left give every sequence with at most d changes of sign, counted
    from the plus at infinity.
    """
    found = []
    for roots in combinations_with_replacement(range(-1, k), d):  # -1: on the left of all places
        signs = [math.prod(1 if 2 * y > 2 * root + 1 else -1 for root in roots) for y in range(k)]
        found.append(tuple(int(s > 0) for s in signs))
    return sorted(set(found))


def _exact_affine(n: int, m: int, d: int) -> Fraction:
    """The least over the orders of the tangent where C(., k) reaches its moment ``C(n, k) min(1, patterns / m^k)``."""
    pairs = math.comb(m, 2)

    def reached(k: int) -> Fraction:
        patterns = sum(math.comb(k, i) * pairs**i for i in range(min(k, d) + 1))
        moment = math.comb(n, k) * min(Fraction(1), Fraction(patterns, m**k))
        j = bisect_right(range(n), int(moment), lo=k, key=lambda x: math.comb(x, k)) - 1
        return j + (moment - math.comb(j, k)) / math.comb(j, k - 1)

    return min(map(reached, range(1, n + 1))) / n


# the last: in floats, with no allowance for rounding, it would be below its exact value
AFFINE = [
    (2, 2, 1), (4, 2, 1), (6, 2, 2), (5, 3, 2), (9, 3, 1), (12, 2, 0), (30, 4, 3), (20, 2, 19), (60, 10, 9), (300, 2, 0)
]  # fmt: skip


def _affine_body(ceiling: Callable[[int, int, int], float]) -> None:
    for n, m, d in AFFINE:
        exact, found = min(Fraction(1), _exact_affine(n, m, d)), ceiling(n, m, d)
        expect(found >= exact, f"{found!r} is below the exact ceiling {float(exact)!r} at {n, m, d}")
        # a moment of log size L <= n ln m + ln n! is off by 64 L eps, its place by n + 1 times that at most
        size = 64 * EPS * (n * math.log(m) + math.lgamma(n + 1) + d * math.log(m * m + 1) + 1)
        expect_close(found, float(exact), (n + 1) * size, f"ceiling at {n, m, d}")


def _closed_factors(p: int, table: Sequence[int], m: int, r: int) -> tuple[list[int], list[list[list[int]]]]:
    """Base, and B and A of both adapters, from polynomials of the values; all whole."""
    width, mark = 4 * m, r * m + 2
    scale = 2 * width * mark
    hold, loud = scale * width**3, scale * width**5
    ground = [scale * (2 * z * (z + 1) * (2 * z + 1) // 3 - width * z * (z + 1)) for z in range(m)]
    b1, b2 = [[0] * r for _ in range(m)], [[0] * r for _ in range(m)]
    a1, a2 = [[0] for _ in range(r)], [[0] for _ in range(r)]
    q = [*table, *[0] * (2 * r + 1)]
    if p != r:
        a1[p if p < r else 0] = [width if p == 2 * r else loud]
    for j in range(1, r):
        a2[j] = [q[r + j]]
    turned = q[r] == q[2 * r] != q[0]
    a2[0] = [-(width + 1) if turned else -(2 * q[0] + 1)]
    for z in range(m):
        if p == r:
            b1[z][0] = -scale * (width * z - z * (z + 1))
        elif p == 2 * r:
            b1[z][0] = scale * z * (z + 1)
        elif p > r:
            b1[z][0] = -loud * z * z
            if p < 2 * r:
                b1[z][p - r] = 2 * loud * loud * z
        for j in range(1, r):
            b2[z][j] = int(z == q[j])
        rest = width - 2 * q[0] - 1
        level = math.floor(Fraction(ground[z], rest) + scale * z * (z + 1))
        marked = mark * (z == q[2 * r]) - hold * (z == q[r] != q[0])
        b2[z][0] = hold * ((z == q[0]) - (z == q[r])) if turned else marked - level
    return ground, [b1, a1, b2, a2]


@check("few_numbers")
def few_numbers_symbolic(code: Code) -> Figure:
    """Patterns by recursion and enumeration, numbers of a factor average in free symbols, the composing factors."""
    import sympy

    for m, d, k in product((1, 2, 3, 5), range(4), range(6)):
        at = code.affine_patterns(k + 1, m, d + 1)
        below = code.affine_patterns(k, m, d + 1) + math.comb(m, 2) * code.affine_patterns(k, m, d)
        expect(at == below and code.affine_patterns(0, m, d) == 1, f"recursion at {k, m, d}")
        expect(code.affine_patterns(k, m, 0) == 1, "no number, one pattern")
    for k, d in product(range(1, 7), range(5)):  # two values: attained
        expect(len(_polynomial_patterns(k, d)) == code.affine_patterns(k, 2, d), f"monic polynomials at {k, d}")
    tightest = Fraction(0)
    for (k, m), seed in product(((3, 2), (2, 3), (4, 3), (3, 4)), range(20)):
        got, most = len(_line_patterns(k, m, seed)), code.affine_patterns(k, m, 1)
        expect(got <= most, f"{got} patterns on a line of {k, m}, at most {most}")
        tightest = max(tightest, Fraction(got, most))
    # gaps of (P + Q)(u + v) to the first value: which monomials of the second adapter occur
    for m, r in product((1, 2, 3), (1, 2)):
        u, v = (sympy.Matrix(r, 1, sympy.symbols(f"{x}:{r}")) for x in "uv")
        P, T = (sympy.Matrix(m - 1, r, sympy.symbols(f"{x}:{(m - 1) * r}")) for x in "pt")
        gaps = ((P + T) * (u + v)).expand()  # P, T: rows less the first row
        numbers = {x for gap in gaps for x in sympy.Poly(gap, *v, *T).monoms() if sum(x) == 1}
        for gap, row in zip(gaps, (T * v).expand(), strict=True):
            quadratic = [x for x in sympy.Poly(gap, *v, *T).terms() if sum(x[0]) > 1]
            expect(all(c == 1 for _, c in quadratic), "the second adapter's own term has no coefficient of the first")
            expect(len(quadratic) == len(sympy.Poly(row, *v, *T).terms()), "and is one number for each value")
        seen = len(numbers) + len(gaps) if m > 1 else r  # r of v even where no gap reads them
        expect(seen == code.factor_numbers(m, r), f"numbers of a factor average at {m, r}: {seen}")
    expect(code.factor_numbers(5, 0) == 4, "without columns: the offsets of a sum")
    # in whole numbers: what the factors hold, who knows what, and which bridges they answer
    for n, m, r in ((2, 2, 1), (5, 2, 2), (3, 3, 1), (3, 2, 2), (4, 2, 1), (6, 2, 2), (4, 3, 2), (3, 4, 1), (2, 1, 1)):
        right = 0
        for p, q in product(range(n), product(range(m), repeat=n)):
            base, first, second = code.composing_factors(p, q, m, r)
            for update in (first, second):
                expect((update.B.shape, update.A.shape, update.scale) == ((m, r), (r, 1), 1.0), "shapes")
            own = code.composing_factors(p, (0,) * n, m, r), code.composing_factors(0, q, m, r)
            unaware = (own[0].first.B == first.B).all() and (own[1].second.B == second.B).all()
            expect(unaware and (own[0].first.A == first.A).all() and (own[1].second.A == second.A).all(), "unaware")
            expect((own[0].base == base).all() and (own[1].base == base).all(), "a base that knows neither")
            ground, parts = _closed_factors(p, q, m, r)
            expect_entries(base, ground, 0.0, "base")
            for made, part in zip((first.B, first.A, second.B, second.A), parts, strict=True):
                expect_entries(made, part, 0.0, f"factors at {p, q} of {m, r}")
            logits = [
                ground[z] + sum((parts[0][z][j] + parts[2][z][j]) * (parts[1][j][0] + parts[3][j][0]) for j in range(r))
                for z in range(m)
            ]
            wins = all(logits[q[p]] > logits[z] for z in range(m) if z != q[p])
            expect(wins == (p <= 2 * r or q[p] == 0), f"{logits} at {p, q} of {m, r}")
            right += wins
        covered = min(n, 2 * r + 1)
        expect(Fraction(right, n * m**n) == (covered + Fraction(n - covered, m)) / n, f"{right} right at {n, m, r}")
    for n, m in ((2, 2), (3, 2), (3, 3), (40, 20), (101, 2)):
        whole, escape = code.composing_rank(n), code.escape_rank(n, m)
        # all 2^n tables of two values are patterns of 2 r + 1 numbers
        expect(code.affine_patterns(n, 2, 2 * whole - 1) < 2**n, f"rank {whole - 1} is not excluded at {n}")
        expect(2 * whole + 1 >= n, f"rank {whole} does not answer {n}")
        ceiling = Fraction(additive_ceiling(n, m))
        answered = [min(n, 2 * r + 1) if r else 0 for r in (escape - 1, escape)]
        shares = [Fraction(x * m + n - x, n * m) for x in answered]
        expect(shares[0] <= ceiling < shares[1], f"escape at {n, m}: {escape}")
    _affine_body(code.affine_ceiling)
    for n in (1, 4, 9):  # moments of n fair coins: the mean is n / 2, and order 1 says so
        moments = [math.log(math.comb(n, k)) - k * math.log(2) for k in range(n + 1)]
        expect_close(code.moment_ceiling(np.array(moments)), 0.5, 64 * n * EPS, f"{n} fair coins")
    for n, most in ((1, 1 + 8 * EPS), (3, 1.0)):  # always one bridge of n; a third is no float
        found = code.moment_ceiling(np.array([0.0, 0.0, *[-1000.0] * (n - 1)]))  # e^-1000: less than floats can be
        expect(Fraction(1, n) <= found <= most, f"one bridge of {n} is {found!r} of them")
    return Figure("patterns on a line / bound, values above two", float(tightest), "ratio")


@check("few_numbers")
def few_numbers_numeric() -> Figure:
    """Exact second evaluation, what polynomials and random factors reach, ends of the range, mutants, rejections."""
    _affine_body(affine_ceiling)
    expect_mutant_rejected(_affine_body, lambda *a: 1.01 * affine_ceiling(*a), "1 % above")
    expect_mutant_rejected(_affine_body, lambda *a: 0.99 * affine_ceiling(*a), "1 % below")
    expect_mutant_rejected(_affine_body, lambda n, m, d: affine_ceiling(n, m, max(0, d - 1)), "one number less")
    slack = 1.0
    for n, d in product((4, 6, 8), range(1, 4)):  # the best table among the patterns, for every truth
        patterns = np.array(_polynomial_patterns(n, d))
        truths = np.array(list(product((0, 1), repeat=n)))
        share = float((patterns[None] == truths[:, None]).sum(axis=2).max(axis=1).mean()) / n
        expect(share <= affine_ceiling(n, 2, d), f"{share} reached at {n, d}, ceiling {affine_ceiling(n, 2, d)}")
        slack = min(slack, affine_ceiling(n, 2, d) - share) if d < n else slack
    rng = stream(31, "factors")
    n, m, r = 12, 2, 1
    P, u = rng.standard_normal((n, m, r)), rng.standard_normal((n, r))
    drawn = [(rng.standard_normal((m, r)) * 3, rng.standard_normal(r) * 3) for _ in range(4000)]
    reached = {tuple(np.argmax(np.einsum("nmr,nr->nm", P + q, u + v), axis=1).tolist()) for q, v in drawn}
    expect(len(reached) <= affine_patterns(n, m, factor_numbers(m, r)) < m**n, f"{len(reached)} patterns")
    # the same factors, summed as updates instead: additive, and no more than additive merges answer
    logits = np.array([
        [c.base + LowRank.combine([c.first, c.second], [1.0, 1.0]).dense()[:, 0]
         for c in (composing_factors(p, q, 2, 1) for q in product(range(2), repeat=2))]
        for p in range(2)
    ])  # fmt: skip
    averaged = np.array([
        [c.base + factor_average([c.first, c.second], [1.0, 1.0], "plain").dense()[:, 0]
         for c in (composing_factors(p, q, 2, 1) for q in product(range(2), repeat=2))]
        for p in range(2)
    ])  # fmt: skip
    expect(composed_share(averaged, 0.5) == 1 > additive_optimum(2, 2) >= composed_share(logits), "sum and average")
    expect(affine_ceiling(5, 3, 5) == affine_ceiling(5, 1, 0) == affine_ceiling(1, 2, 3) == 1.0, "no limit")
    expect(0.5 < affine_ceiling(10**6, 2, 1) <= affine_ceiling(1000, 2, 1), "more bridges")
    expect(affine_ceiling(10**30, 2, 3) == affine_ceiling(5 * 10**5, 2, 3), "bridges beyond what is computed")
    along = [affine_ceiling(200, 5, factor_numbers(5, r)) for r in range(0, 41, 4)]
    expect(along == sorted(along) and along[-1] == 1.0, f"more rank, more at most: {along}")
    plain: tuple[tuple[Callable[..., object], dict[str, int]], ...] = (
        (affine_patterns, {"k": 2, "m": 2, "d": 1}),
        (affine_ceiling, {"n": 2, "m": 2, "d": 1}),
        (factor_numbers, {"m": 2, "r": 1}),
        (composing_rank, {"n": 2}),
        (escape_rank, {"n": 2, "m": 2}),
    )
    for function, good in plain:
        for name, wrong in product(good, (-1, 1.5, True)):
            expect_rejected(name, function, **{**good, name: wrong})
    ends: tuple[tuple[tuple[int, ...], str, Callable[..., object]], ...] = (
        ((2, 0, 1), "m", affine_patterns),
        ((0, 2, 1), "n", affine_ceiling),
        ((2, 0, 1), "m", affine_ceiling),
        ((0, 1), "m", factor_numbers),
        ((1,), "n", composing_rank),
        ((1, 2), "n", escape_rank),
        ((2, 1), "m", escape_rank),
    )
    for sizes, name, function in ends:
        expect_rejected(name, function, *sizes)
    expect(affine_patterns(0, 1, 0) == 1 and factor_numbers(1, 0) == 0, "least sizes")
    for bridge, table, m, r, name in (
        (2, (0, 1), 2, 1, "bridge"),
        (-1, (0, 1), 2, 1, "bridge"),
        (0, (0, 2), 2, 1, "table"),
        (0, (0, -1), 2, 1, "table"),
        (0, (), 2, 1, "table"),
        (0, (0,), 0, 1, "m"),
        (0, (0,), 2, 0, "r"),
    ):
        expect_rejected(name, composing_factors, bridge, table, m, r)
    return Figure("least gap from monic polynomials to the ceiling, two values", slack, "share")
