"""Learning that goes on: heads trained from the merged weights, round after round, and rehearsal of old facts.

Glossary: H *heads* each train an update of rank at most r from the merged weights; a *round* ends with adding their
mean (or any multiple of their sum). *With reset* every head starts the next round from zero; *without* it keeps its
update and what is merged is what it changed. *Rehearsal* mixes examples of old facts, drawn from a *buffer* of them,
into the batches. A *route* R between the factors, ``B R A``, is frozen after a task and new ones are added to it.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank
from theory.numerics import exact, integer, matrix, require

#: bits behind the point of a number of rounds; rounds up to which a tie is decided in exact arithmetic
_BITS, _EXACT_ROUNDS = 128, 20_000


def round_dilution(heads: int, rounds: int) -> Fraction:
    """Share of each fact's change that mean-merged rounds have written: ``1 - (1 - 1/H)^T``.

    Args:
        heads: H >= 1. Each fits its own facts from the merged weights and leaves the keys of the others alone.
        rounds: T >= 0. One round is dilution: 1/H.

    Returns:
        the share, exact, in [0, 1].

    Raises:
        ValueError: heads < 1 or rounds < 0.

    Source: claim round_dilution (a recursion of one line; ours for adapters).
    """
    count, times = integer(heads, "heads", 1), integer(rounds, "rounds", 0)
    return 1 - Fraction(count - 1, count) ** times


def rounds_to_answer(gain: float | Fraction, deficit: float | Fraction, heads: int) -> float:
    """Least number of mean-merged rounds after which a fact is answered.

    Args:
        gain: logit of the right answer minus logit of a rival, from the fact's whole change.
        deficit: logit of the rival minus logit of the right answer, from the base.
        heads: H >= 1, as in :func:`round_dilution`.

    Returns:
        the least T with ``gain (1 - (1 - 1/H)^T) > deficit``: 0 if the base answers it already (deficit < 0), inf if no
        number will do (gain <= deficit, where deficit >= 0), else a positive int; where keep^T and the rest agree
        to 64 bits beyond 20000 rounds, one too many. Floats are taken as they are.

    Raises:
        ValueError: gain or deficit not finite, or heads < 1.

    Source: claim round_dilution.
    """
    won, lost, count = exact(gain, "gain"), exact(deficit, "deficit"), integer(heads, "heads", 1)
    if lost < 0:
        return 0
    if won <= lost:
        return math.inf
    if count == 1:
        return 1
    import mpmath

    left, keep = 1 - Fraction(lost) / Fraction(won), Fraction(count - 1, count)  # the least T with keep^T < left
    with mpmath.workprec(_BITS + (count * left.denominator).bit_length()):
        about = mpmath.log(mpmath.mpf(left.numerator) / left.denominator) / mpmath.log1p(-mpmath.mpf(1) / count)
        rounds = int(mpmath.nint(about))
        if abs(about - rounds) > mpmath.ldexp(1, -_BITS // 2):
            return int(mpmath.ceil(about))
    return rounds + int(rounds > _EXACT_ROUNDS or keep**rounds >= left)


def telescoping_rank(heads: int, r: int, rounds: int, reset: bool) -> int:
    """Largest rank of what has been merged after so many rounds.

    Args:
        heads: H >= 1.
        r: rank of each head's update, >= 0.
        rounds: T >= 0.
        reset: whether heads start every round from zero.

    Returns:
        ``H r`` without reset (0 before the first round): the merges telescope to the sum of the last updates; ``T H r``
        with reset. Both are attained where the matrix is large enough.

    Raises:
        ValueError: heads < 1, r < 0 or rounds < 0.

    Source: claim telescoping_merge (standard linear algebra; the observation ours).
    """
    count, rank, times = integer(heads, "heads", 1), integer(r, "r", 0), integer(rounds, "rounds", 0)
    return count * rank * (times if reset else min(times, 1))


def exposures(share: float | Fraction, batch: int, steps: int, buffer: int) -> Fraction:
    """How often rehearsal shows each fact of its buffer, in the mean: ``share batch steps / buffer``.

    Args:
        share: part of the examples that are rehearsals, in [0, 1].
        batch: examples in a step, >= 1.
        steps: steps, >= 0.
        buffer: facts that rehearsals are drawn from, evenly, >= 1. Facts outside are not shown at all.

    Returns:
        the mean number, exact.

    Raises:
        ValueError: an argument out of range.

    Source: claim exposure_law.
    """
    part = exact(share, "share")
    require(0 <= part <= 1, "share", "a number in [0, 1]", share)
    return part * integer(batch, "batch", 1) * integer(steps, "steps", 0) / integer(buffer, "buffer", 1)


def route_drift(route: ArrayLike, before: LowRank, after: LowRank) -> LowRank:
    """By how much a frozen route adds something else once the factors have moved: ``s (B' R A' - B R A)``.

    Args:
        route: R, r x r.
        before: B, A and the scale s, as they were.
        after: B' and A' of the same sizes, with the same scale.

    Returns:
        the drift, of at most 2 r columns, from the differences of the factors: zero exactly where they are. Its
        ``apply(keys)`` is what old facts see, its spectral norm the most that any input of norm one does.

    Raises:
        ValueError: sizes or scales that do not fit.

    Source: claim frozen_route_drift (ours; the system is C-LoRA, arXiv 2502.17920).
    """
    r = matrix(route, "route")
    wanted = (before.shape, before.columns, before.scale)
    found = (after.shape, after.columns, after.scale)
    require(found == wanted, "after", f"shape, columns and scale {wanted}", found)
    require(r.shape == (before.columns,) * 2, "route", f"shape {(before.columns,) * 2}", r.shape)
    left = np.hstack([after.B - before.B, before.B])
    return LowRank(left, np.vstack([r @ after.A, r @ (after.A - before.A)]), before.scale)
