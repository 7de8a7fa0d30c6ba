"""Hypothesis strategies for matrices and updates: square, wide, tall, rank 0, rank above min, ill-conditioned.

Matrices are drawn as a seed and a recipe rather than entry by entry: a shrunk counter-example is then a small shape
and a small seed, and the spectrum, on which every tolerance here depends, is known by construction.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from theory.lowrank import LowRank
from theory.numerics import Array, stream

sizes = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)
#: powers of ten from 1e-6 to 1e6
scales = st.sampled_from([10.0**k for k in range(-6, 7)])
#: condition numbers of the factors; 1e6 squared is still far from 1/eps
conditions = st.sampled_from([1.0, 10.0, 1e3, 1e6])


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """rows x columns with orthonormal columns (rows >= columns), Haar distributed."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.where(np.diag(r) < 0, -1.0, 1.0)


def with_spectrum(rng: np.random.Generator, rows: int, columns: int, values: Array) -> Array:
    """rows x columns with the given singular values (at most min(rows, columns) of them)."""
    k = len(values)
    return (orthonormal(rng, rows, k) * values) @ orthonormal(rng, columns, k).T


def conditioned(rng: np.random.Generator, rows: int, columns: int, condition: float) -> Array:
    """Full-rank rows x columns whose singular values fall geometrically from 1 to 1/condition."""
    k = min(rows, columns)
    return with_spectrum(rng, rows, columns, np.geomspace(1.0, 1.0 / condition, k) if k > 1 else np.ones(k))


@st.composite
def shapes(draw: st.DrawFn, largest: int = 9) -> tuple[int, int]:
    """(out, in): square, wide or tall."""
    return draw(st.integers(1, largest)), draw(st.integers(1, largest))


@st.composite
def updates(
    draw: st.DrawFn, shape: tuple[int, int] | None = None, max_columns: int = 6, least_columns: int = 0
) -> LowRank:
    """A LowRank of any number of columns from 0 to above min(out, in), any scale, possibly ill-conditioned."""
    out, in_ = shape if shape is not None else draw(shapes())
    columns = draw(st.integers(least_columns, max_columns))
    rng = stream(draw(seeds), "update")
    condition = draw(conditions)
    b = conditioned(rng, out, columns, condition) if columns else np.zeros((out, 0))
    a = conditioned(rng, columns, in_, condition) if columns else np.zeros((0, in_))
    return LowRank(b, a, draw(scales) * draw(st.sampled_from([1.0, -1.0])))


@st.composite
def integer_matrices(draw: st.DrawFn, rows: int, columns: int, bound: int = 3) -> list[list[int]]:
    """Small integer matrix as lists, for exact rational arithmetic."""
    drawn = stream(draw(seeds), "integers").integers(-bound, bound + 1, (rows, columns))
    return [[int(x) for x in row] for row in drawn]


def exact_rank(rows: list[list[int]]) -> int:
    """Rank by fraction-free (Bareiss) elimination on Python integers: exact, the second oracle for ranks."""
    work = [list(map(int, row)) for row in rows]
    if not work or not work[0]:
        return 0
    rank, previous = 0, 1
    for column in range(len(work[0])):
        pivot = next((i for i in range(rank, len(work)) if work[i][column]), None)
        if pivot is None:
            continue
        work[rank], work[pivot] = work[pivot], work[rank]
        for i in range(rank + 1, len(work)):
            for j in range(column + 1, len(work[0])):
                numerator = work[rank][column] * work[i][j] - work[i][column] * work[rank][j]
                work[i][j] = numerator // previous
            work[i][column] = 0
        previous = work[rank][column]
        rank += 1
        if rank == len(work):
            break
    return rank
