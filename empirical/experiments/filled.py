"""Adapters that are filled with facts: what they recall, a power law of their ranks, their numbers in few bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from empirical.engine.settings import Count, Table
from empirical.experiments.known import top1
from empirical.tasks.sentences import Ints
from empirical.training.bases import Updates
from theory.facts import capacity_ceiling
from theory.lowrank import LowRank
from theory.numerics import Array

#: bits of a float32
FULL = 32
#: powers a that are tried; the least stands for the logarithm, to which the law tends as a falls to zero
POWERS = tuple(np.linspace(0.02, 1.5, 75).tolist())


class Filled(Table):
    """An adapter after training: facts recalled, fall of the mean cross-entropy (nats), its parameters."""

    recalled: Count
    drop: float
    parameters: int


class Law(Table):
    """``drop = scale * rank ** power + offset``, fitted to the fitted ranks; the drops that it foretells."""

    scale: float
    power: float
    offset: float
    foretold: dict[str, float]


class Rounded(Table):
    """An adapter whose numbers are rounded to some bits each: facts recalled, its bits, and the most by counting."""

    recalled: Count
    bits: int
    ceiling: float


def filled(updates: Updates, before: Array, logits: Array, answers: Ints) -> Filled:
    """What an adapter recalls, by the logits (n, values) of the base and with it and the right answers (n,)."""
    drop = float((cross_entropy(before, answers) - cross_entropy(logits, answers)).mean())
    return Filled(recalled=top1(logits, answers), drop=drop, parameters=numbers(updates))


def cross_entropy(logits: Array, answers: Ints) -> Array:
    """Of every answer, in nats (n,)."""
    from scipy.special import logsumexp

    found: Array = logsumexp(logits, axis=1) - logits[np.arange(len(answers)), answers]
    return found


def numbers(updates: Updates) -> int:
    """How many numbers the factors of an adapter have."""
    return sum(u.A.size + u.B.size for u in updates.values() if isinstance(u, LowRank))


def fitted(drops: Mapping[int, float], ranks: tuple[int, ...]) -> Law:
    """The law ``C r^a + b`` of drops by rank, by least squares, a in :data:`POWERS`, and what it says of others."""
    columns = {a: np.column_stack([np.array(list(drops)) ** a, np.ones(len(drops))]) for a in POWERS}
    wanted = np.array(list(drops.values()))
    found = {a: np.linalg.lstsq(x, wanted, rcond=None)[0] for a, x in columns.items()}
    power = min(POWERS, key=lambda a: float(np.square(columns[a] @ found[a] - wanted).sum()))
    scale, offset = found[power].tolist()
    foretold = {str(r): scale * r**power + offset for r in ranks}
    return Law(scale=scale, power=power, offset=offset, foretold=foretold)


def rounded(updates: Updates, bits: Sequence[int], ask: Callable[[Updates], Count], values: int) -> dict[str, Rounded]:
    """A trained adapter with its numbers rounded to each number of bits; `ask` says what it then recalls.

    values: how many an answer may have.
    """
    found = {}
    for each in bits:
        coarse, size = round_to(updates, each)
        right = ask(coarse)
        found[str(each)] = Rounded(recalled=right, bits=size, ceiling=capacity_ceiling(size, right.asked, values))
    return found


def round_to(updates: Updates, bits: int) -> tuple[dict[str, LowRank], int]:
    """An adapter whose numbers have so many bits each, and the bits of all.

    32 are as they are; 16 keep the upper half of a float32 (bfloat16, towards zero); fewer are 2^bits - 1 even steps
    between minus and plus the largest number of each factor, which is kept in 32 bits more.
    """
    found, size = {}, 0
    for name, update in updates.items():
        assert isinstance(update, LowRank)
        size += sum(bits * factor.size + FULL * (bits < FULL // 2) for factor in (update.B, update.A))
        found[name] = LowRank(_rounded(update.B, bits), _rounded(update.A, bits), update.scale)
    return found, size


def _rounded(factor: Array, bits: int) -> Array:
    if bits >= FULL // 2:
        raw = factor.astype(np.float32).view(np.uint32)
        kept: Array = (raw >> (FULL - bits) << (FULL - bits)).view(np.float32).astype(np.float64)
        return kept
    most, steps = float(np.abs(factor).max()), 2 ** (bits - 1) - 1
    found: Array = np.round(factor / most * steps) / steps * most if most else factor
    return found
