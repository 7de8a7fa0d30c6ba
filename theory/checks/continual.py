"""Checks of the topic continual: mean-merged rounds of heads on their own facts, merging, routes, rehearsal."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.adapters import regauge
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
from theory.checks.strategies import conditioned, conditions, exact_rank, scales, seeds, shapes, with_spectrum
from theory.continual import exposures, round_dilution, rounds_to_answer, route_drift, telescoping_rank
from theory.facts import least_rank
from theory.lowrank import LowRank
from theory.numerics import EPS, rank_tolerance, stream

# ---- round_dilution ----


def _rounds(heads: int, rounds: int, seed: int) -> list[Fraction]:
    """Shares written of one fact per head after so many rounds, by simulation: one output, unit keys, exact."""
    rng = stream(seed, "rounds")
    wanted = [Fraction(int(x)) for x in rng.integers(1, 9, heads)]
    start = [Fraction(int(x), 3) for x in rng.integers(-4, 5, heads)]
    merged = list(start)
    for _ in range(rounds):  # each head fits its fact from the merged weights; the mean of the heads is merged
        updates = [[wanted[h] - merged[h] if g == h else Fraction(0) for g in range(heads)] for h in range(heads)]
        merged = [w + sum((u[g] for u in updates), Fraction(0)) / heads for g, w in enumerate(merged)]
    moved = [(w - s, d - s) for w, s, d in zip(merged, start, wanted, strict=True)]
    return [a / b for a, b in moved if b != 0]


def _least_rounds(gain: Fraction, deficit: Fraction, heads: int, most: int = 400) -> float:
    missing = Fraction(1)
    for rounds in range(most):
        if gain * (1 - missing) > deficit:
            return rounds
        missing *= Fraction(heads - 1, heads)
    return math.inf


@check("round_dilution")
def round_dilution_symbolic(code: Code) -> None:
    """Exact simulations of heads and rounds; the least number of rounds by trying them one after another."""
    for heads in range(1, 6):
        for rounds in range(6):
            for share in _rounds(heads, rounds, 10 * heads + rounds):
                expect(code.round_dilution(heads, rounds) == share, f"{heads} heads, {rounds} rounds: {share}")
        expect(code.round_dilution(heads, 1) == Fraction(1, heads), f"one round of {heads} heads is no dilution")
        for gain in (Fraction(5), Fraction(7, 3), Fraction(-1)):
            for deficit in (Fraction(-1), Fraction(0), Fraction(1), Fraction(2), Fraction(22, 10), Fraction(7, 3)):
                want = _least_rounds(gain, deficit, heads)
                found = code.rounds_to_answer(gain, deficit, heads)
                expect(found == want, f"{heads} heads, gain {gain}, deficit {deficit}: {want} rounds")
    # heads that read one another's keys are no case of it: two heads with one key between them, both fitting 1
    merged = Fraction(0)
    for _ in range(2):
        merged += (1 - merged + 1 - merged) / 2
    expect(merged != code.round_dilution(2, 2), "two heads on one key write more")


def _simulated(share: Callable[[int, int], Fraction]) -> float:
    """Heads that write by least-norm edits on orthogonal keys, in floats; the largest error of the share."""
    worst = [0.0]

    def body(seed: int, heads: int, rounds: int, condition: float) -> None:
        rng = stream(seed, "heads")
        facts, out = 2, 3
        spread = np.geomspace(1.0, 1.0 / condition, facts)
        basis = with_spectrum(rng, heads * facts, heads * facts, np.ones(heads * facts))
        keys = [basis[:, facts * h : facts * (h + 1)] * spread for h in range(heads)]
        wanted = [rng.standard_normal((out, facts)) * spread for _ in range(heads)]
        weights = np.zeros((out, heads * facts))
        for _ in range(rounds):
            edits = [least_rank(K, D - weights @ K).update for K, D in zip(keys, wanted, strict=True)]
            weights = weights + sum(e.dense() for e in edits if e is not None) / heads
        for K, D in zip(keys, wanted, strict=True):
            error = float(np.abs(weights @ K - float(share(heads, rounds)) * D).max())
            # each round solves with keys of this condition, and so errs by some eps times it and the size of D
            allowed = 64 * (rounds + 1) * heads * condition * EPS * (1 + float(np.abs(D).max()))
            expect(error <= allowed, f"{heads} heads, {rounds} rounds: off by {error:.3g}, allowed {allowed:.3g}")
            worst[0] = max(worst[0], error)

    for_all(body, 20, seed=seeds, heads=st.integers(1, 5), rounds=st.integers(0, 6), condition=conditions)
    return worst[0]


def _answers_body(rounds: Callable[[Any, Any, int], float]) -> None:
    import mpmath

    def body(gain: float, deficit: float, heads: int) -> None:
        found = rounds(gain, deficit, heads)
        if deficit < 0:
            expect(found == 0, "the base answers it already")
        elif gain <= deficit:
            expect(found == math.inf, "no number of rounds will do")
        else:
            won, lost = Fraction(gain), Fraction(deficit)
            at = int(found)
            expect(won * round_dilution(heads, at) > lost, f"{at} rounds do not answer")
            expect(not won * round_dilution(heads, at - 1) > lost, f"{at - 1} rounds answer already")

    numbers = st.floats(-4, 40, allow_nan=False, width=32)
    for_all(body, 60, gain=numbers, deficit=numbers, heads=st.integers(1, 60))
    expect(rounds(14.4, 8.2, 4) == 3, "14.4 over 8.2 with 4 heads")
    expect(rounds(10.0, 5.0, 32) == 22, "10 over 5 with 32 heads")
    expect(rounds(0.1 * 3, 0.1, 2) == 1, "floats are taken as they are")
    expect(rounds(32, 31, 2) == 6, "a tie after 5 rounds")
    expect(rounds(32, 31 - Fraction(1, 10**30), 2) == 5, "5 rounds, by 1e-30")
    expect(rounds(1, 1 - Fraction(1, 2**30_000), 2) == 30_001, "a tie after 30000 rounds")
    expect(rounds(1, 1 - Fraction(1, 2**30_000) * (1 + Fraction(1, 2**50)), 2) == 30_000, "30000 rounds, by 2^-50")
    for at in range(5, 15):
        left = (1 - Fraction(1, 10**30)) ** at
        expect(rounds(1, 1 - left, 10**30) == at + 1, f"a tie after {at} rounds of 1e30 heads")
    for heads, lost in ((1000, 1.0 - 1e-12), (10**9, 0.5), (10**15, 1.0 - 1e-9), (10**15, 1e-9)):
        at = int(rounds(1.0, lost, heads))
        with mpmath.workdps(80):
            missing = [mpmath.exp(t * mpmath.log1p(-1 / mpmath.mpf(heads))) for t in (at, at - 1)]
            expect(missing[0] < 1 - mpmath.mpf(lost) <= missing[1], f"{at} rounds of {heads} heads against {lost}")


@check("round_dilution")
def round_dilution_numeric() -> Figure:
    """Heads that write by least-norm edits, the least rounds for drawn gains, rejections, mutants."""
    worst = _simulated(round_dilution)
    for what, share in {
        "one per cent up": lambda h, t: round_dilution(h, t) * Fraction(101, 100),
        "one round less": lambda h, t: round_dilution(h, max(t - 1, 0)),
        "dilution alone": lambda h, t: Fraction(1, h),
    }.items():
        expect_mutant_rejected(_simulated, share, what)
    _answers_body(rounds_to_answer)
    expect_mutant_rejected(_answers_body, lambda g, d, h: rounds_to_answer(g, d, h) + 1, "one round more")
    for call in (lambda h: round_dilution(h, 1), lambda h: rounds_to_answer(2.0, 1.0, h)):
        for none in (0, 1.5, True):
            expect_rejected("heads", call, none)
    expect_rejected("rounds", round_dilution, 2, -1)
    for wrong in (math.nan, math.inf, "1"):
        expect_rejected("gain", rounds_to_answer, wrong, 1.0, 2)
        expect_rejected("deficit", rounds_to_answer, 1.0, wrong, 2)
    return Figure("largest error of the share of a fact that was written", worst, "of its change")


# ---- telescoping_merge ----


def _merged_rank(heads: int, r: int, rounds: int, reset: bool, side: int, seed: int) -> int:
    """Rank of what is merged when every head moves at random through whole matrices of rank r."""
    rng = stream(seed, "telescoping")
    merged = np.zeros((side, side), dtype=np.int64)
    held = [np.zeros((side, side), dtype=np.int64) for _ in range(heads)]
    for _ in range(rounds):
        for h in range(heads):
            new = rng.integers(-2, 3, (side, r)) @ rng.integers(-2, 3, (r, side))
            merged += new if reset else new - held[h]
            held[h] = new
    return exact_rank(merged.tolist())


def _telescoping_body(bound: Callable[[int, int, int, bool], int]) -> None:
    """Never above the bound, and attained by one of a few draws where the matrix has room for it."""
    for heads, r, rounds in ((1, 1, 0), (1, 2, 3), (2, 1, 1), (2, 1, 3), (3, 1, 2), (2, 2, 2), (2, 0, 2)):
        for reset in (False, True):
            most = bound(heads, r, rounds, reset)
            side = heads * r * max(rounds, 1) + 1
            ranks = [_merged_rank(heads, r, rounds, reset, side, seed) for seed in range(4)]
            where = f"{heads} heads of rank {r}, {rounds} rounds, {'with' if reset else 'without'} reset"
            expect(max(ranks) == most, f"{where}: ranks {ranks}, bound {most}")


@check("telescoping_merge")
def telescoping_merge_symbolic(code: Code) -> None:
    """Ranks of whole matrices, exact: never above the bound, and attained."""
    _telescoping_body(code.telescoping_rank)


@check("telescoping_merge")
def telescoping_merge_numeric() -> Figure:
    """Drawn heads in floats through their singular values, rejections, mutants."""
    worst = [0]

    def body(seed: int, heads: int, r: int, rounds: int, reset: bool) -> None:
        rng, side = stream(seed, "float"), 12
        merged, held = np.zeros((side, side)), [np.zeros((side, side))] * heads
        for _ in range(rounds):
            fresh = [rng.standard_normal((side, r)) @ rng.standard_normal((r, side)) for _ in range(heads)]
            merged = merged + sum(u if reset else u - old for u, old in zip(fresh, held, strict=True))
            held = fresh
        values = np.linalg.svd(merged, compute_uv=False)
        # sums of heads * rounds matrices of norm about side: what telescopes leaves their rounding
        found = int(np.count_nonzero(values > 64 * EPS * side * side * max(heads * rounds, 1)))
        most = telescoping_rank(heads, r, rounds, reset)
        expect(found == min(most, side), f"rank {found} for {heads, r, rounds, reset}, bound {most}")
        worst[0] = max(worst[0], found)

    few = st.integers(0, 2)
    for_all(body, 30, seed=seeds, heads=st.integers(1, 3), r=few, rounds=st.integers(0, 4), reset=st.booleans())
    for what, mutant in {
        "no reset counted as reset": lambda h, r, t, reset: telescoping_rank(h, r, t, True),
        "one more": lambda h, r, t, reset: telescoping_rank(h, r, t, reset) + 1,
        "without the heads": lambda h, r, t, reset: telescoping_rank(1, r, t, reset),
    }.items():
        expect_mutant_rejected(_telescoping_body, mutant, what)
    expect_rejected("heads", telescoping_rank, 0, 1, 1, True)
    expect_rejected("r", telescoping_rank, 1, -1, 1, True)
    expect_rejected("rounds", telescoping_rank, 1, 1, -1, True)
    expect_close(telescoping_rank(3, 2, 50, False), 6, 0.0, "fifty rounds without reset")
    return Figure("largest rank seen, equal to its bound", worst[0], "rank")


# ---- frozen_route_drift ----


@check("frozen_route_drift")
def frozen_route_drift_symbolic(code: Code) -> None:
    """The two terms and the gauge with free symbols; drift of whole numbers, exactly, and where it is zero."""
    import sympy

    names = {"B": (2, 2), "C": (2, 2), "R": (2, 2), "A": (2, 3), "D": (2, 3)}
    B, C, R, A, D = (sympy.Matrix(m, n, sympy.symbols(f"{x}:{m * n}")) for x, (m, n) in names.items())
    expect((C * R * D - B * R * A - (C - B) * R * D - B * R * (D - A)).expand().is_zero_matrix, "the two terms")
    # B R T R^-1 and T^-1 A: nothing moves, cleared of the two determinants
    T = sympy.Matrix(2, 2, sympy.symbols("t:4"))
    moved = B * R * T * R.adjugate() * R * T.adjugate() * A
    expect((moved - R.det() * T.det() * B * R * A).expand().is_zero_matrix, "the gauge of a route")
    rng = stream(4, "route")
    for r, s in ((1, 2.0), (2, -0.5), (3, 1.0)):
        b, c, route = rng.integers(-3, 4, (4, r)), rng.integers(-3, 4, (4, r)), rng.integers(-3, 4, (r, r))
        a, d = rng.integers(-3, 4, (r, 5)), rng.integers(-3, 4, (r, 5))
        for left, right in ((c, d), (b, d), (c, a), (b, a)):
            want = Fraction(s) * np.array((left @ route @ right - b @ route @ a).tolist(), dtype=object)
            got = code.route_drift(route, LowRank(b, a, s), LowRank(left, right, s))
            expect_entries(got.dense(), want.tolist(), 0.0, "drift")
    # a gauge by whole numbers of determinant one, under a route of determinant one: no drift
    b, a, route = rng.integers(-3, 4, (3, 2)), rng.integers(-3, 4, (2, 3)), np.array([[2, 1], [1, 1]])
    turn, back = np.array([[3, 2], [1, 1]]), np.array([[1, -2], [-1, 3]])
    inverse = np.array([[1, -1], [-1, 2]])
    same = LowRank(b @ route @ turn @ inverse, back @ a)
    expect(not code.route_drift(route, LowRank(b, a), same).dense().any(), "a gauge drifts")
    expect(code.route_drift(route, LowRank(b, a), LowRank(b @ turn, a)).dense().any(), "a factor alone does not show")


def _drift_body(drift: Callable[..., LowRank]) -> float:
    worst = [0.0]

    def body(seed: int, shape: tuple[int, int], r: int, condition: float, scale: float, near: float) -> None:
        rng, (m, n) = stream(seed, "drift"), shape
        b, a = conditioned(rng, m, r, condition), conditioned(rng, r, n, condition)
        route = rng.standard_normal((r, r))
        c, d = b + near * rng.standard_normal((m, r)), a + near * rng.standard_normal((r, n))
        got = drift(route, LowRank(b, a, scale), LowRank(c, d, scale))
        expect(got.shape == shape and got.columns <= 2 * r, f"shape {got.shape}, columns {got.columns}")
        # the direct difference cancels: products of three matrices, each rounded, both times
        sizes = [float(np.linalg.norm(x)) for x in (b, c, a, d, route)]
        room = 4 * rank_tolerance((m, n, r), scale * sizes[4] * (sizes[0] * sizes[2] + 2 * sizes[1] * sizes[3]))
        off = float(np.abs(got.dense() - scale * (c @ route @ d - b @ route @ a)).max())
        expect(off <= room, f"drift off by {off}")
        worst[0] = max(worst[0], float(np.linalg.norm(got.dense())) / scale)

    for_all(body, 40, seed=seeds, shape=shapes(), r=st.integers(1, 4), condition=conditions, scale=scales,
            near=st.sampled_from([0.0, 1e-3, 1.0]))  # fmt: skip
    return worst[0]


@check("frozen_route_drift")
def frozen_route_drift_numeric() -> Figure:
    """Drawn factors against the direct difference, zero exactly where both are frozen, the gauge, mutants."""
    worst = _drift_body(route_drift)
    for what, mutant in {
        "one term alone": lambda R, u, v: route_drift(R, u, LowRank(v.B, u.A, u.scale)),
        "the other term alone": lambda R, u, v: route_drift(R, u, LowRank(u.B, v.A, u.scale)),
        "no route": lambda R, u, v: route_drift(np.eye(len(R)), u, v),
        "before and after exchanged": lambda R, u, v: route_drift(R, v, u),
    }.items():
        expect_mutant_rejected(_drift_body, mutant, what)
    rng = stream(9, "witness")
    old = LowRank(rng.standard_normal((5, 3)), rng.standard_normal((3, 6)), 2.0)
    route = rng.standard_normal((3, 3))
    expect(not route_drift(route, old, old).dense().any(), "frozen factors drift")
    new = LowRank(rng.standard_normal((5, 3)), rng.standard_normal((3, 6)), 2.0)
    expect(route_drift(route, old, new).rank() == 5, "all of the five outputs move")
    # the gauge of the theorem: regauge of the adapter whose left factor is B R
    turned = regauge(LowRank(old.B @ route, old.A, 2.0), rng.standard_normal((3, 3)))
    same = LowRank(turned.B @ np.linalg.inv(route), turned.A, 2.0)
    room = (
        64
        * float(np.linalg.cond(route))
        * rank_tolerance((5, 6), 2.0 * float(np.linalg.norm(same.B) * np.linalg.norm(route) * np.linalg.norm(same.A)))
    )
    expect(route_drift(route, old, same).norm("frobenius") <= room, "the gauge drifts")
    expect_rejected("after", route_drift, route, old, LowRank(old.B, old.A, 1.0))
    expect_rejected("after", route_drift, route, old, LowRank(old.B[:4], old.A, 2.0))
    expect_rejected("after", route_drift, route, old, LowRank(old.B[:, :2], old.A[:2], 2.0))
    expect_rejected("route", route_drift, route[:2], old, new)
    expect_rejected("route", route_drift, np.full((3, 3), math.nan), old, new)
    return Figure("largest drift", worst, "Frobenius norm at scale 1")


# ---- exposure_law ----


@check("exposure_law")
def exposure_law_symbolic(code: Code) -> None:
    """All draws of small batches, each by its chance: how often a fact is shown, in the mean."""
    for share, batch, steps, buffer in (
        (Fraction(1), 1, 3, 2), (Fraction(1), 2, 2, 3), (Fraction(1, 3), 2, 2, 2), (Fraction(3, 4), 1, 3, 1),
        (Fraction(0), 2, 1, 2), (Fraction(1, 2), 3, 0, 2), (Fraction(2, 5), 1, 2, 4),
    ):  # fmt: skip
        # an example is a rehearsal of one of the facts, or new (-1)
        chance = dict.fromkeys(range(buffer), share / buffer) | {-1: 1 - share}
        shown = Fraction(0)
        for draws in product(chance, repeat=batch * steps):
            shown += math.prod((chance[x] for x in draws), start=Fraction(1)) * draws.count(0)
        expect(code.exposures(share, batch, steps, buffer) == shown, f"exposures at {share, batch, steps, buffer}")


def _exposures_body(exposed: Callable[[float, int, int, int], Any]) -> float:
    worst = [0.0]

    def body(seed: int, share: float, batch: int, steps: int, buffer: int) -> None:
        rng, worlds = stream(seed, "rehearsal"), 100
        replays = rng.binomial(batch, share, (worlds, steps)).sum(axis=1)
        seen = np.array([np.count_nonzero(rng.integers(buffer, size=n) == 0) for n in replays])
        want = float(exposed(share, batch, steps, buffer))
        # a fact is shown by each example with chance share / buffer; seven deviations of the mean over the worlds,
        # and for means so small that they are not normal the same with one hit more
        deviation = math.sqrt((batch * steps * share / buffer + 1.0 / worlds) / worlds)
        expect_close(float(seen.mean()), want, 7 * deviation, f"exposures at {share, batch, steps, buffer}")
        worst[0] = max(worst[0], abs(float(seen.mean()) - want) / deviation)

    for_all(body, 20, seed=seeds, share=st.floats(0, 1), batch=st.integers(1, 16), steps=st.integers(0, 50),
            buffer=st.integers(1, 9))  # fmt: skip
    return worst[0]


@check("exposure_law")
def exposure_law_numeric() -> Figure:
    """Drawn batches of rehearsals, rejections, mutants."""
    worst = _exposures_body(exposures)
    for what, mutant in {
        "the share of new examples": lambda s, b, t, m: exposures(1 - s, b, t, m),
        "one fact more in the buffer": lambda s, b, t, m: exposures(s, b, t, m + 1),
        "a step more": lambda s, b, t, m: exposures(s, b, t + 1, m),
    }.items():
        expect_mutant_rejected(_exposures_body, mutant, what)
    for share in (-0.1, 1.1, math.nan):
        expect_rejected("share", exposures, share, 1, 1, 1)
    expect(exposures(0.1, 3, 1, 7) == Fraction(0.1) * 3 / 7, "floats are taken as they are")
    expect(exposures(1, 1, 1, 1) == 1 and exposures(0, 1, 1, 1) == 0, "the ends of the share")
    expect_rejected("batch", exposures, 0.5, 0, 1, 1)
    expect_rejected("steps", exposures, 0.5, 1, -1, 1)
    expect_rejected("buffer", exposures, 0.5, 1, 1, 0)
    return Figure("largest deviation of a mean", worst, "standard deviations")
