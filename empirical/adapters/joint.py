"""The updates of one module in coordinates of the spaces that they read and write together, and what pairs of them do.

The factors themselves are read in blocks of rows, once: all that is measured follows from two triangles as wide as the
sum of the ranks.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from theory.lowrank import LowRank, triangle
from theory.numerics import Array

#: rows of a block: a few factors side by side stay in the cache of a core
ROWS = 2048

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def workers() -> Iterator[Callable[[Callable[[T], R], Sequence[T]], Iterator[R]]]:
    """Threads that take modules, each with one thread for its algebra: narrow factors are not worth dividing."""
    from concurrent.futures import Future, ThreadPoolExecutor

    from threadpoolctl import threadpool_limits

    def ahead(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """In order; no more than four results per thread wait to be taken, behind a head that takes one for long."""
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    threads, count = torch.get_num_threads(), min(4, os.cpu_count() or 1)
    try:
        with threadpool_limits(1), ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield ahead
    finally:
        torch.set_num_threads(threads)


def blocks(tensors: Sequence[torch.Tensor], dim: int, rows: int = ROWS) -> Iterator[torch.Tensor]:
    """Tensors side by side along `dim`, a block of `rows` along the other dimension at a time."""
    for start in range(0, tensors[0].shape[1 - dim], rows):
        size = min(rows, tensors[0].shape[1 - dim] - start)
        yield torch.cat([t.narrow(1 - dim, start, size) for t in tensors], dim)


def gram(tensors: Sequence[torch.Tensor], dim: int, dtype: torch.dtype = torch.float64) -> Array:
    """Inner products, in float64, of all columns (`dim` 1) or rows (`dim` 0) of tensors of one length.

    Each block is multiplied in `dtype`; in float32 the relative error of an entry, to the norms of its two vectors, is
    that of a sum of :data:`ROWS` products, at most 2^-24 `ROWS` and in all likelihood its root.
    """
    width = sum(t.shape[dim] for t in tensors)
    total: Array = np.zeros((width, width))
    for block in blocks(tensors, dim):
        x = block.to(dtype).numpy()
        total += x.T @ x if dim else x @ x.T
    return total


def _triangle(tensors: Sequence[torch.Tensor], dim: int) -> Array:
    """R with ``R^T R`` the inner products of the columns (`dim` 1) or rows (`dim` 0), as good as Householder's."""
    width = sum(t.shape[dim] for t in tensors)
    found = triangle(gram(tensors, dim)) if width <= tensors[0].shape[1 - dim] else None
    if found is not None:
        return found
    rest: Array = np.zeros((0, width))
    for block in blocks(tensors, dim, max(ROWS, 2 * width)):
        x = block.double().numpy()
        rest = np.asarray(np.linalg.qr(np.vstack([rest, x if dim else x.T]), mode="r"))
    return rest


def compressed(factors: Sequence[tuple[torch.Tensor, torch.Tensor]], scales: Sequence[float]) -> list[LowRank]:
    """Updates ``s B A`` in coordinates of their joint spaces (:meth:`theory.lowrank.LowRank.compress`).

    Args:
        factors: (A, B) of each, r x in and out x r, in the format in which they are stored.
        scales: one per update.
    """
    left, right = _triangle([b for _, b in factors], 1), _triangle([a for a, _ in factors], 0)
    ends = np.cumsum([0, *(a.shape[0] for a, _ in factors)])
    return [
        LowRank(left[:, i:j], right[:, i:j].T, s) for s, i, j in zip(scales, ends[:-1], ends[1:], strict=True)
    ]  # fmt: skip


class Part(NamedTuple):
    """One adapter's update of one module in compressed coordinates, decomposed."""

    adapter: int
    update: LowRank
    left: Array
    values: Array
    right: Array

    @property
    def rank(self) -> int:
        """Numerical rank."""
        return int(self.values.size)

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(self.values))


class Meeting(NamedTuple):
    """What the parts of one module do to each other: tables of one row and one column per part.

    Attributes:
        owners: adapters of the parts.
        inner: inner products of the updates.
        keys, outputs: mean squared cosine of the principal angles of row and of column spaces; `keys_chance`,
            `outputs_chance`: its mean for independent random subspaces, (larger dimension) / width.
        largest: the most that the part of the column does to a key of length 1 that the part of the row reads, relative
            to the most that the latter does there itself; `bound`: the same by ``s ||B||_2 ||A k||`` for the worst key
            (claim interference).
    """

    owners: list[int]
    inner: Array
    keys: Array
    outputs: Array
    keys_chance: Array
    outputs_chance: Array
    largest: Array
    bound: Array


def meeting(parts: Sequence[Part], out: int, inner: int) -> Meeting:
    """All pairs of the parts of a module of size out x inner at once."""
    ranks = np.array([p.rank for p in parts])
    widest = max(1, int(ranks.max()))
    values = np.array([_padded(p.values[:, None], widest)[:, 0] for p in parts])
    left, right = (_rows(vectors, widest) for vectors in ([p.left.T for p in parts], [p.right for p in parts]))
    reads = _rows([p.update.A for p in parts], max(p.update.columns for p in parts))
    outputs, keys = _products(left, left), _products(right, right)
    smaller, larger = np.minimum.outer(ranks, ranks), np.maximum.outer(ranks, ranks)
    both = smaller > 0
    shares = [np.where(both, (x**2).sum((2, 3)) / np.maximum(smaller, 1), 0.0) for x in (keys, outputs)]
    chances = [np.where(both, larger / width, 0.0) for width in (inner, out)]
    inside = np.einsum("ia,ijab,jb->ij", values, outputs * keys, values, optimize=True)
    strengths = [abs(p.update.scale) * _spectral(p.update.B.T @ p.update.B) ** 0.5 for p in parts]
    largest, bound = np.zeros(both.shape), np.zeros(both.shape)
    for i in np.flatnonzero(ranks):
        own = right[i, : ranks[i]]
        done = values[:, :, None] * keys[:, i, :, : ranks[i]]
        read = reads @ own.T
        largest[i] = np.linalg.norm(done, 2, axis=(1, 2)) / values[i, 0]
        bound[i] = strengths * np.linalg.norm(read, 2, axis=(1, 2)) / values[i, 0]
    return Meeting(
        [p.adapter for p in parts], inside, shares[0], shares[1], chances[0], chances[1],
        np.where(both, largest, 0.0), np.where(both, bound, 0.0),
    )  # fmt: skip


def _padded(rows: Array, count: int) -> Array:
    return np.pad(rows, ((0, count - len(rows)), (0, 0)))


def _rows(vectors: Sequence[Array], count: int) -> Array:
    """parts x count x width, with rows of zeros where a part has fewer."""
    return np.array([_padded(v, count) for v in vectors])


def _products(one: Array, two: Array) -> Array:
    """[i, j, a, b]: row a of part i times row b of part j."""
    k, r, width = one.shape
    return (one.reshape(-1, width) @ two.reshape(-1, width).T).reshape(k, r, k, r).transpose(0, 2, 1, 3)


def _spectral(symmetric: Array) -> float:
    return max(float(np.linalg.eigvalsh(symmetric)[-1]), 0.0) if symmetric.size else 0.0


def angles(one: Array, two: Array) -> tuple[float, ...]:
    """Principal angles in degrees, smallest first, of two spaces with these orthonormal rows."""
    if not len(one) or not len(two):
        return ()
    cosines = np.clip(np.linalg.svd(one @ two.T, compute_uv=False), 0.0, 1.0)
    return tuple(np.degrees(np.arccos(cosines)).tolist())
