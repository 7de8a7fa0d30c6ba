"""An adversary for the additive limit: logits a(p) + b(q) optimised for two-hop accuracy itself, ties lost.

The count of right answers is piecewise constant in each single number, so that it can be maximised exactly in one
number at a time: b by table with a fixed, a by bridge with b fixed, in turns. The count on the tables at hand never
falls. Nothing here knows the ceiling.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.numerics import Array

Ints = NDArray[np.int64]


def right(first: Array, second: Array, tables: Ints) -> Ints:
    """Strictly right answers per table (T,) of ``first[y] + second[t]``.

    Args:
        first: n x m, by bridge.
        second: T x m, by table.
        tables: T x n, values.
    """
    logits = first[None] + second[:, None]
    own = np.take_along_axis(logits, tables[:, :, None], axis=2)
    np.put_along_axis(logits, tables[:, :, None], -np.inf, axis=2)
    counts: Ints = (own[:, :, 0] > logits.max(axis=2)).sum(axis=1)
    return counts


def _best(points: Array, change: Ints, rng: np.random.Generator) -> Array:
    """For each row the x that maximises the sum of `change` over points below x; ties are broken by chance."""
    order = np.argsort(points, axis=1)
    ends = np.full((len(points), 1), np.inf)
    at = np.hstack([-ends, np.take_along_axis(points, order, axis=1), ends])
    gains = np.hstack([np.zeros_like(ends), np.cumsum(np.take_along_axis(change, order, axis=1), axis=1)])
    usable = at[:, 1:] > at[:, :-1]  # between equal points there is no room
    chosen = np.where(usable, gains + 0.5 * rng.random(gains.shape), -np.inf).argmax(axis=1)[:, None]
    low, high = np.take_along_axis(at, chosen, axis=1)[:, 0], np.take_along_axis(at, chosen + 1, axis=1)[:, 0]
    low = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - 1.0, 0.0))
    return np.where(np.isfinite(high), (low + np.where(np.isfinite(high), high, 0.0)) / 2, low + 1.0)


def ascend(fixed: Array, moving: Array, tables: Ints, rng: np.random.Generator) -> Array:
    """One round over the m numbers of every row of `moving` (T x m), each set to its best; `fixed` is n x m."""
    moved = moving.copy()
    values = fixed.shape[1]
    for z in range(values):
        logits = fixed[None] + moved[:, None]
        logits[:, :, z] = -np.inf
        own = np.take_along_axis(logits, tables[:, :, None], axis=2)[:, :, 0]
        rest = logits.copy()
        np.put_along_axis(rest, tables[:, :, None], -np.inf, axis=2)
        mine = tables == z
        # where z is right it must rise above the others; elsewhere it must stay below a right one that leads the rest
        alive = mine | (own > rest.max(axis=2))
        bound = np.where(mine, logits.max(axis=2), own) - fixed[None, :, z]
        points = np.where(alive, bound, np.inf)
        moved[:, z] = _best(points, np.where(alive, np.where(mine, 1, -1), 0), rng)
    return moved


class Optimised(NamedTuple):
    """First logits (n x m) and, for the tables they were optimised on, second logits (T x m)."""

    first: Array
    second: Array


def optimise(n: int, m: int, tables: Ints, rounds: int, starts: int, rng: np.random.Generator) -> Optimised:
    """Alternating ascent from `starts` random beginnings; the one with most right answers on `tables`."""
    best, most = None, -1
    for _ in range(starts):
        first, second = rng.standard_normal((n, m)), rng.standard_normal((len(tables), m))
        for _ in range(rounds):
            second = ascend(first, second, tables, rng)
            first = ascend(second, first, np.ascontiguousarray(tables.T), rng)
        second = ascend(first, second, tables, rng)
        found = int(right(first, second, tables).sum())
        if found > most:
            best, most = Optimised(first, second), found
    assert best is not None  # starts >= 1
    return best


def answer(first: Array, tables: Ints, rounds: int, starts: int, rng: np.random.Generator) -> Array:
    """Second logits (T x m) for tables at fixed first logits: the best of `starts` ascents, table by table."""
    best = np.zeros((len(tables), first.shape[1]))
    most = np.full(len(tables), -1)
    for _ in range(starts):
        second = rng.standard_normal(best.shape) * first.std()
        for _ in range(rounds):
            second = ascend(first, second, tables, rng)
        found = right(first, second, tables)
        better = found > most
        best[better], most[better] = second[better], found[better]
    return best
