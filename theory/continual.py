"""Merging that goes on: heads trained from the merged weights, round after round.

Glossary: H *heads* each train an update of rank at most r from the merged weights; a *round* ends with adding their
mean (or any multiple of their sum). *With reset* every head starts the next round from zero; *without* it keeps its
update and what is merged is what it changed.
"""

from __future__ import annotations

import math
from fractions import Fraction

from theory.numerics import exact, integer

#: rounds up to which the least number is decided in exact arithmetic
_EXACT_ROUNDS = 20_000


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
        number will do (gain <= deficit, where deficit >= 0), else a positive int; beyond 20000 rounds one too many at
        worst. Floats are taken as they are.

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
    left = 1 - Fraction(lost) / Fraction(won)  # what must still be missing: (1 - 1/H)^T < left
    if left == 1:
        return 1
    about = (math.log(left.numerator) - math.log(left.denominator)) / math.log1p(-1 / count)
    if about > _EXACT_ROUNDS:
        return math.ceil(about * (1 + 1e-9)) + 1
    keep = Fraction(count - 1, count)
    rounds = max(1, math.floor(about) - 1)
    missing = keep**rounds
    while missing >= left:
        missing, rounds = missing * keep, rounds + 1
    return rounds


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
