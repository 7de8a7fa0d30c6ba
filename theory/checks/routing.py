"""Checks of the topic routing: the ceiling of an oracle that hands each query to one adapter; gates and merging."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.additive import additive_optimum
from theory.checks import (
    Code,
    Figure,
    check,
    expect,
    expect_close,
    expect_mutant_rejected,
    expect_rejected,
    for_all,
)
from theory.checks.strategies import seeds, shapes, updates
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, rank_tolerance, stream
from theory.routing import LARGEST_N, bridge_blind_ceiling, gated_merge_error, maxload, oracle_ceiling


def _maxload_by_listing(n: int, m: int) -> Fraction:
    """Mean of the largest count over all m^n tables."""
    total = sum(max(q.count(z) for z in set(q)) for q in product(range(m), repeat=n))
    return Fraction(total, m**n)


def _maxload_by_bins(n: int, m: int) -> Fraction:
    """Exact, one bin after another: the ways to throw s balls into i bins with at most k in each."""
    expected = Fraction(0)
    for k in range(n):
        ways = [1] + [0] * n
        for _ in range(m):
            ways = [
                sum(ways[s - j] * math.comb(s, j) for j in range(min(k, s) + 1))
                for s in range(n + 1)
            ]  # fmt: skip
        expected += 1 - Fraction(ways[n], m**n)
    return expected


def _optimum(n: int, m: int, bystanders: int) -> Fraction:
    """Best oracle router over every pair of answer rules a(p), b(q) and the constants 0..bystanders - 1, exactly.

    b may be chosen for each q by itself: the value that is right on most bridges that are not right already.
    """
    tables = list(product(range(m), repeat=n))
    best = 0
    for a in tables:
        right = 0
        for q in tables:
            left = [q[p] for p in range(n) if q[p] != a[p] and q[p] >= bystanders]
            right += n - len(left) + max((left.count(z) for z in set(left)), default=0)
        best = max(best, right)
    return Fraction(best, n * len(tables))


@check("hard_routing")
def hard_routing_symbolic(code: Code) -> Figure:
    """All answer rules of small sizes in rationals: each part attained, the ceiling never passed, bystanders count."""
    import sympy

    tightest = Fraction(0)
    for n, m, bystanders in (
        (1, 3, 0), (2, 2, 0), (3, 2, 0), (4, 2, 0), (2, 3, 0), (3, 3, 0), (4, 3, 0), (3, 4, 0), (2, 6, 0),
        (3, 3, 1), (3, 4, 1), (3, 4, 2), (2, 6, 2),
    ):  # fmt: skip
        tables = list(product(range(m), repeat=n))
        load = _maxload_by_listing(n, m)
        expect(load == _maxload_by_bins(n, m), f"two ways to the largest load differ at {n, m}")
        room = 200 * EPS  # relative, as in _maxload_body
        expect_close(code.maxload(n, m), float(load), room * float(load), f"largest load at {n, m}")
        expect_close(code.bridge_blind_ceiling(n, m), float(load / n), room, f"ceiling without the bridge at {n, m}")
        # the first adapter alone: every rule a(p) is right exactly 1/m of the time
        for a in tables:
            share = Fraction(sum(x == y for q in tables for x, y in zip(a, q, strict=True)), n * len(tables))
            expect(share == Fraction(1, m), f"a rule without q is right {share} of the time")
        # the second adapter alone: the most frequent value attains maxload / n, a constant only 1/m
        blind = Fraction(sum(max(q.count(z) for z in range(m)) for q in tables), n * len(tables))
        expect(blind == load / n, f"the most frequent value is right {blind} of the time")
        constant = Fraction(sum(q.count(0) for q in tables), n * len(tables))
        expect(constant == Fraction(1, m), f"a constant is right {constant} of the time")
        ceiling = min(Fraction(1), Fraction(1 + bystanders, m) + load / n)
        expect_close(code.oracle_ceiling(n, m, bystanders), float(ceiling), room, f"ceiling at {n, m, bystanders}")
        best = _optimum(n, m, bystanders)
        expect(best <= ceiling, f"an oracle reaches {best}, ceiling {ceiling}, at {n, m, bystanders}")
        if ceiling < 1:
            tightest = max(tightest, best / ceiling)
    # a third choice that knows nothing passes the ceiling of two
    two = Fraction(1, 6) + _maxload_by_listing(3, 6) / 3
    expect(_optimum(3, 6, 2) > two, "two bystanders do not pass the ceiling without them")
    # the generating function: n! [x^n] (sum_{j <= k} x^j / j!)^m counts the tables with no value more than k times
    x = sympy.Symbol("x")
    for n, m in ((4, 3), (5, 2), (3, 4)):
        for k in range(1, n + 1):
            series = sympy.Poly(sum(x**j / sympy.factorial(j) for j in range(k + 1)) ** m, x)
            count = sum(max(q.count(z) for z in set(q)) <= k for q in product(range(m), repeat=n))
            expect(series.coeff_monomial(x**n) * sympy.factorial(n) == count, f"generating function at {n, m, k}")
    return Figure("best oracle router / ceiling, small sizes", float(tightest), "ratio")


def _maxload_body(load: Callable[[int, int], float]) -> None:
    def body(n: int, m: int) -> None:
        want = float(_maxload_by_bins(n, m))
        # weights and powers are rounded n + m times; below 40 + 40 that and the sums over k stay under 200 eps
        expect_close(load(n, m), want, 200 * EPS * want, f"maxload at {n, m}")

    for_all(body, 40, n=st.integers(1, 16), m=st.integers(1, 24))
    for n in (2, 3, 100, 2001):  # two bins in closed form: n/2 + n C(n - 1, floor(n/2)) / 2^n
        want = float(Fraction(n, 2) + Fraction(n * math.comb(n - 1, n // 2), 2**n))
        expect_close(load(n, 2), want, 4 * n * EPS * want, f"two bins, {n} balls")
    for n, m in ((30, 10**9), (200, 10**12), (7, 10**30), (7, 10**400)):
        # many bins: P[max > 1] = 1 - prod (1 - i/m), and sum_{k >= 2} P[max > k] <= sum C(n, k + 1) / m^k
        distinct = math.prod((Fraction(m - i, m) for i in range(n)), start=Fraction(1))
        low = 1 + (1 - distinct)
        high = low + Fraction(n**4, 6 * m**2)
        got = Fraction(load(n, m))
        expect(low - 4 * Fraction(EPS) <= got <= high + 4 * Fraction(EPS), f"maxload at {n, m}: {float(got)}")
    for m in (2**53, 10**20, 10**24):  # the most balls: two meet with this probability, three with less than rounding
        met = -math.expm1(math.fsum(math.log1p(-i / m) for i in range(LARGEST_N)))
        expect_close(load(LARGEST_N, m), 1.0 + met, 1e-12, f"maxload of the most balls in {m} bins")


def _ceiling_body(ceiling: Callable[[int, int, int], float]) -> None:
    def body(n: int, m: int, bystanders: int) -> None:
        want = float(min(Fraction(1), Fraction(1 + bystanders, m) + _maxload_by_bins(n, m) / n))
        expect_close(ceiling(n, m, bystanders), want, 200 * EPS * want, f"ceiling at {n, m, bystanders}")

    for_all(body, 25, n=st.integers(1, 16), m=st.integers(1, 24), bystanders=st.integers(0, 3))


@check("hard_routing")
def hard_routing_numeric() -> Figure:
    """Against exact counts, closed forms for two and for very many bins, a simulation at n = m = 100, and mutants."""
    _maxload_body(maxload)
    _maxload_body(lambda n, m: n * bridge_blind_ceiling(n, m))
    _ceiling_body(oracle_ceiling)
    mutants: dict[str, Callable[[int, int], float]] = {
        "1 % above": lambda n, m: 1.01 * maxload(n, m),
        "1 % below": lambda n, m: 0.99 * maxload(n, m),
        "the mean load": lambda n, m: max(1.0, n / m),
    }
    for what, mutant in mutants.items():
        expect_mutant_rejected(_maxload_body, mutant, what)
    expect_mutant_rejected(_ceiling_body, lambda n, m, b: oracle_ceiling(n, m), "bystanders not counted")
    expect_rejected("n:", maxload, LARGEST_N + 1, 10)
    expect_rejected("n:", maxload, 0, 10)
    expect_rejected("m:", maxload, 10, 0)
    expect_rejected("n:", bridge_blind_ceiling, 0, 10)
    expect(maxload(LARGEST_N, 1) == LARGEST_N, "the largest number of balls")
    expect_rejected("m:", oracle_ceiling, 10, 0)
    expect_rejected("bystanders", oracle_ceiling, 10, 3, -1)
    return _simulated()


def _simulated() -> Figure:
    import numpy as np

    from theory.numerics import stream

    rng = stream(4, "maxload")
    tables = rng.integers(0, 100, size=(4000, 100))
    counts = np.zeros((4000, 100), dtype=int)
    np.add.at(counts, (np.arange(4000)[:, None], tables), 1)
    loads = counts.max(axis=1)
    error = abs(float(loads.mean()) - maxload(100, 100))
    # five standard errors of 4000 independent draws
    expect(error <= 5 * float(loads.std(ddof=1)) / math.sqrt(4000), f"simulated mean load is off by {error}")
    # the oracle itself, simulated: a constant first adapter, the most frequent value of q from the second
    bridge = rng.integers(0, 100, size=4000)
    answer = tables[np.arange(4000), bridge]
    reached = float(((answer == 0) | (answer == counts.argmax(axis=1))).mean())
    ceiling = oracle_ceiling(100, 100)
    spread = 5 * math.sqrt(ceiling / 4000)
    expect(reached <= ceiling + spread, f"an oracle router reaches {reached}, ceiling {ceiling}")
    return Figure("ceiling at n = m = 100", ceiling, "accuracy")


# ---- gated_merge ----


@check("gated_merge")
def gated_merge_symbolic(code: Code) -> None:
    """One weight for two contexts and the mean gates with free symbols; squared errors of whole numbers."""
    import sympy

    # two contexts: W' is determined by each, and both agree iff the gated sums do
    first, second = (sympy.Matrix(2, 2, sympy.symbols(f"{x}:4")) for x in "uv")
    g, h = sympy.symbols("g:2"), sympy.symbols("h:2")
    unequal = (g[0] - h[0]) * first + (g[1] - h[1]) * second
    freed = sympy.solve(list(unequal.subs(dict(zip([*first, *second], (1, 0, 0, 0, 0, 1, 0, 0), strict=True)))), g)
    expect(freed == {g[0]: h[0], g[1]: h[1]}, "independent experts whose gates move have one merged weight")
    # the mean gates: what others add is their distance from it
    V, share = sympy.Matrix(2, 2, sympy.symbols("w:4")), sympy.Symbol("p")
    sums = [g[0] * first + g[1] * second, h[0] * first + h[1] * second]
    mean = share * sums[0] + (1 - share) * sums[1]

    def spread(fixed: Any) -> Any:
        off = [sum(x**2 for x in fixed - s) for s in sums]
        return share * off[0] + (1 - share) * off[1]

    expect(sympy.expand(spread(V) - spread(mean) - sum(x**2 for x in V - mean)) == 0, "the mean gates are not best")
    # dividing by a gate leaves the order of logits as it is if the gate is positive, and not otherwise
    gap = sympy.Symbol("x", real=True)
    for gate, fits in ((sympy.Symbol("t", positive=True), True), (sympy.Symbol("t", real=True), False)):
        expect(
            (sympy.sign(gate * gap) == sympy.sign(gap)) == fits, f"order of logits under a gate: {gate.assumptions0}"
        )
    # the code at whole numbers: the squared error is a quotient of whole numbers
    rng = stream(2, "gates")
    for experts, contexts in ((1, 1), (2, 1), (2, 3), (3, 2)):
        factors = [(rng.integers(-3, 4, (3, 2)), rng.integers(-3, 4, (2, 4))) for _ in range(experts)]
        gates, weights = rng.integers(1, 5, (contexts, experts)), rng.integers(-3, 4, experts)
        dense = np.array([b @ a for b, a in factors])
        for w in (None, weights):
            mix = np.ones(experts, dtype=int) if w is None else w
            off = int(np.sum(np.tensordot(mix - gates, dense, 1) ** 2))
            size = int(np.sum(np.tensordot(gates, dense, 1) ** 2))
            got = code.gated_merge_error([LowRank(b, a) for b, a in factors], gates, w)
            # norms of combinations through two decompositions, squared
            room = 8 * rank_tolerance((3, 4, 2 * experts), sum(float(np.abs(u).sum()) for u in dense) * 8)
            expect_close(got**2 * size, off, room * math.sqrt(float(size)), f"squared error of {experts, contexts}")
    # K experts at gates 1/K: the merge that ignores them is K times too strong
    for K in (2, 3, 5):
        parts = [LowRank(np.eye(K)[:, [k]], np.eye(K)[[k]]) for k in range(K)]
        expect_close(code.gated_merge_error(parts, np.full((2, K), 1 / K)), K - 1, 64 * K * EPS, f"{K} equal gates")


def _gated_body(error: Callable[..., float]) -> float:
    worst = [0.0]

    def body(data: Any) -> None:
        shape, experts = data.draw(shapes()), data.draw(st.integers(1, 4))
        parts = data.draw(st.lists(updates(shape=shape), min_size=experts, max_size=experts))
        rng = stream(data.draw(seeds), "gates")
        gates = rng.dirichlet(np.ones(experts), data.draw(st.integers(1, 5)))
        dense = np.array([u.dense() for u in parts])
        # what decompositions of the stacked factors may lose, against the size of the gated sums
        size = float(np.linalg.norm(np.tensordot(gates, dense, 1)))
        terms = sum(abs(u.scale) * float(np.linalg.norm(u.B) * np.linalg.norm(u.A)) for u in parts)
        room = 8 * rank_tolerance((*shape, sum(u.columns for u in parts)), terms) * (1 + len(gates))
        if size <= 1e3 * room:
            return

        def off(mix: Array) -> float:
            return float(np.linalg.norm(np.tensordot(mix - gates, dense, 1))) / size

        mean = gates.mean(axis=0)
        for mix in (None, mean, rng.standard_normal(experts)):
            want = off(np.ones(experts) if mix is None else mix)
            found = error(parts, gates, mix)
            expect_close(found, want, room / size * (1 + want), "error of the merge")
            expect(error(parts, gates, mean) <= found + 2 * room / size * (1 + want), "the mean gates are beaten")
        worst[0] = max(worst[0], error(parts, gates, mean))

    for_all(body, 60, data=st.data())
    return worst[0]


def _group_body(gates: Callable[[Array], Array]) -> float:
    """Groups of few bridges, tables listed: the best of many first hops and offsets is the additive optimum."""
    best = Fraction(0)
    for n, m in ((2, 2), (3, 2), (2, 3)):
        truths = np.array(list(product(range(m), repeat=n)))
        offsets = np.array([(0, *rest) for rest in product(range(-3, 4), repeat=m - 1)])
        for given in ((1.0,) * n, tuple(range(1, n + 1)), tuple(range(n, 0, -1))):
            most = 0
            for first in product((0, 2), repeat=n * m):
                logits = np.reshape(first, (n, 1, m)) + gates(np.array(given))[:, None, None] * offsets
                strict = np.sort(logits, axis=-1)
                answers = np.where(strict[..., -1] > strict[..., -2], logits.argmax(axis=-1), -1)
                most = max(most, int((truths[:, :, None] == answers).sum(axis=1).max(axis=1).sum()))
            share = Fraction(most, n * m**n)
            expect(share <= additive_optimum(n, m), f"a group of {n} bridges, {m} values, gates {given}: {share}")
            best = max(best, share)
    expect(best == additive_optimum(2, 2), f"the optimum is not reached: {best}")
    return float(best)


@check("gated_merge")
def gated_merge_numeric() -> Figure:
    """Drawn experts and gates against dense sums, the mean gates best, zero where one weight serves, mutants."""
    worst = _gated_body(gated_merge_error)
    for what, mutant in {
        "the mean gates always": lambda u, g, w: gated_merge_error(u, g, g.mean(axis=0)),
        "gates ignored in the size": lambda u, g, w: gated_merge_error(u, np.ones_like(g), w),
        "the first context alone": lambda u, g, w: gated_merge_error(u, g[:1], w),
    }.items():
        expect_mutant_rejected(_gated_body, mutant, what)
    _group_body(lambda g: g)
    expect_mutant_rejected(_group_body, lambda g: g * (-1.0) ** np.arange(len(g)), "gates of both signs")
    equal = [LowRank(np.ones((2, 1)), np.ones((1, 3))) for _ in range(2)]
    moving = np.array([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]])
    expect(gated_merge_error(equal, moving, [0.5, 0.5]) == 0.0, "equal experts: gates move and their sum does not")
    apart = [LowRank(np.eye(2)[:, [k]], np.eye(3)[[k]]) for k in range(2)]
    expect(gated_merge_error(apart, moving, [0.5, 0.5]) > 0.1, "independent experts have no merged weight")
    expect(gated_merge_error(apart, moving[:1], moving[0]) == 0.0, "one context has one")
    # a context that comes twice counts twice: distances 1 and 0 of size 1
    twice = gated_merge_error(apart[:1], [[1.0], [1.0], [2.0]], [2.0])
    expect_close(twice, math.sqrt(2.0 / 6.0), 16 * EPS, "contexts that occur twice")
    expect(gated_merge_error(apart, [[0.0, 0.0]]) == math.inf, "nothing wanted and something added")
    expect(gated_merge_error(apart, [[0.0, 0.0]], [0.0, 0.0]) == 0.0, "nothing wanted, nothing added")
    expect_rejected("gates", gated_merge_error, apart, [0.5, 0.5])
    expect_rejected("gates", gated_merge_error, apart, [[0.5]])
    expect_rejected("gates", gated_merge_error, apart, np.zeros((0, 2)))
    expect_rejected("gates", gated_merge_error, apart, [[math.nan, 0.5]])
    expect_rejected("weights", gated_merge_error, apart, moving, [1.0])
    expect_rejected("weights", gated_merge_error, apart, moving, [[1.0, 1.0]])
    expect_rejected("weights", gated_merge_error, apart, moving, [1.0, math.inf])
    expect_rejected("updates", gated_merge_error, [], np.zeros((1, 0)))
    return Figure("largest error at the mean gates", worst, "relative")
