"""Merges that trim the updates themselves, as published: what they keep is no longer of low rank.

Updates are formed module by module, in single precision, which is what a base holds; a module of more than `LARGEST`
entries is refused, since its dense update was not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from empirical.reuse.linear import modules_of, shape_of
from empirical.training.bases import Update, Updates
from theory.lowrank import LowRank
from theory.numerics import Array, require, stream

Single = NDArray[np.float32]

#: entries of a dense update that is formed unasked: 2048 x 2048
LARGEST = 2**22
#: share of the largest entries of a module that Breadcrumbs drops besides the small ones
OUTLIERS = 0.007


def formed(update: Update, name: str) -> Single:
    """The update as an array of the weight's shape.

    Raises:
        ValueError: it has more than `LARGEST` entries.
    """
    size = int(np.prod(update.shape))
    require(size <= LARGEST, "updates", f"at most {LARGEST} entries in {name}, to form what is trimmed", size)
    if isinstance(update, LowRank):
        return (update.scale * update.B).astype(np.float32) @ update.A.astype(np.float32)
    return np.asarray(update, dtype=np.float32)


# ---------------------------------------------------------------- TIES


def threshold(arrays: Callable[[], Iterator[Single]], density: float) -> float:
    """The ``floor(density n)``-th largest magnitude of the n entries of some arrays together; inf if that is none.

    Positive floats are ordered as the integers that their bits spell, so two counts over 16 bits each find it, and no
    more than one array is held.
    """
    counts = np.zeros(2**16, dtype=np.int64)
    for values in arrays():
        counts += np.bincount(bits(values) >> 16, minlength=2**16)
    left = int(density * counts.sum())
    if left == 0:
        return np.inf
    high, left = _from_above(counts, left)
    counts = np.zeros(2**16, dtype=np.int64)
    for values in arrays():
        spelled = bits(values)
        counts += np.bincount(spelled[spelled >> 16 == high] & 0xFFFF, minlength=2**16)
    low, _ = _from_above(counts, left)
    return float(np.uint32((high << 16) + low).view(np.float32))


def bits(values: Single) -> NDArray[np.uint32]:
    """The bits of the magnitudes, as whole numbers (n,)."""
    found: NDArray[np.uint32] = np.abs(values).ravel().view(np.uint32)
    return found


def _from_above(counts: NDArray[np.int64], left: int) -> tuple[int, int]:
    """(the bin that holds the `left`-th entry counted from the highest bin, how many of it are to be taken)."""
    beyond = np.cumsum(counts[::-1])
    place = int(np.searchsorted(beyond, left))
    return len(counts) - 1 - place, left - int(beyond[place] - counts[::-1][place])


def trim(values: Array, density: float) -> Array:
    """The ``floor(density size)`` entries of largest magnitude, the first of equal ones; zero elsewhere."""
    keep = np.zeros(values.size, dtype=bool)
    keep[np.argsort(-np.abs(values).ravel(), kind="stable")[: int(density * values.size)]] = True
    return np.where(keep.reshape(values.shape), values, 0.0)


def elect(values: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """TIES' signs and disjoint mean: of each entry's values those with the sign of their sum are averaged."""
    stacked = np.stack(values)
    agree = np.sign(stacked) == np.where(stacked.sum(axis=0) >= 0, 1.0, -1.0)
    mean: NDArray[np.floating] = (stacked * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1).astype(stacked.dtype)
    return mean


def ties_arrays(values: Sequence[Array], density: float) -> Array:
    """TIES of k arrays of one shape: each is trimmed by itself, then signs are elected."""
    return np.asarray(elect([trim(v, density) for v in values]))


def ties(updates: Sequence[Updates], density: float, scale: float) -> Updates:
    """TIES (Yadav et al. 2023, arXiv 2306.01708): trimming over the whole model, signs entry by entry.

    Of each adapter the share `density` of all entries of its updates is kept, the largest (with all that equal the
    smallest of these); per entry the sign of the sum is elected, and the values of that sign are averaged and scaled.
    """
    least = [threshold(lambda a=a: (formed(u, n) for n, u in a.items()), density) for a in updates]  # type: ignore[misc]

    def trimmed(values: Single, adapter: int, name: str) -> Single:
        return np.where(np.abs(values) >= least[adapter], values, np.float32(0.0))

    return entrywise(updates, trimmed, elect, scale)


def entrywise(
    updates: Sequence[Updates],
    thin: Callable[[Single, int, str], Single],
    join: Callable[[Sequence[Single]], NDArray[np.floating]],
    scale: float,
) -> Updates:
    """Module by module: each update formed and thinned out (values, adapter, module), joined, and scaled."""
    merged: dict[str, Update] = {}
    for name in modules_of(updates):
        nothing = np.zeros(shape_of(updates, name), dtype=np.float32)
        thinned = [thin(formed(a[name], name), i, name) if name in a else nothing for i, a in enumerate(updates)]
        merged[name] = np.asarray(scale * join(thinned), dtype=np.float32)
    return merged


# ---------------------------------------------------------------- DARE, Breadcrumbs


def drop(values: NDArray[np.floating], density: float, rng: np.random.Generator) -> NDArray[np.floating]:
    """DARE of one update: each entry kept with this probability, and rescaled by its inverse."""
    return np.where(rng.random(values.shape) < density, values / density, np.zeros_like(values))


def together(values: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """The sum."""
    total: NDArray[np.floating] = np.sum(values, axis=0)
    return total


def dare(updates: Sequence[Updates], density: float, scale: float, seed: int) -> Updates:
    """DARE (Yu et al. 2023, arXiv 2311.03099) with task arithmetic: entries dropped at random, rescaled, summed."""
    return entrywise(updates, _dropped(density, seed), together, scale)


def dare_ties(updates: Sequence[Updates], density: float, scale: float, seed: int) -> Updates:
    """DARE with TIES: entries dropped at random take the place of its trimming; its signs and mean follow."""
    return entrywise(updates, _dropped(density, seed), elect, scale)


def _dropped(density: float, seed: int) -> Callable[[Single, int, str], Single]:
    def thin(values: Single, adapter: int, name: str) -> Single:
        return np.asarray(drop(values, density, stream(seed, "dare", adapter, name)), dtype=np.float32)

    return thin


def breadcrumbs(updates: Sequence[Updates], density: float, scale: float) -> Updates:
    """Model Breadcrumbs (Davari & Belilovsky 2023, arXiv 2312.06795): the largest and smallest entries dropped.

    In each module of each adapter the share `OUTLIERS` of largest magnitude is dropped, the next share `density` kept;
    then all are summed.
    """

    def thin(values: Single, adapter: int, name: str) -> Single:
        size = np.abs(values).ravel()
        top = int(OUTLIERS * size.size)
        bottom = min(size.size, top + int(density * size.size))
        if bottom == top:
            return np.zeros_like(values)
        ordered = np.partition(size, sorted({size.size - bottom, size.size - top - 1}))
        kept = (np.abs(values) >= ordered[size.size - bottom]) & (np.abs(values) <= ordered[size.size - top - 1])
        return np.where(kept, values, np.float32(0.0))

    return entrywise(updates, thin, together, scale)
