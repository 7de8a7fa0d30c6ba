"""The algebra of one adapter: size, dimension, gauge, merging into the weight, and what rounding does to a merge.

Glossary: ``W`` (m x n) frozen, an adapter ``(B, A, s)`` with B (m x r), A (r x n) and scale ``s``; the *side path*
computes ``W x + s B (A x)``, a *merged* layer ``(W + s B A) x``; *unit roundoff* u is half the gap between 1 and the
next number of a format.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank
from theory.numerics import EPS, Array, integer, matrix, one_of, real, require, vector

#: unit roundoff by format, round to nearest
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def parameter_count(m: int, n: int, r: int) -> int:
    """Parameters of a rank-r adapter of an m x n matrix, ``r (m + n)``; the matrix itself has ``m n``.

    Raises:
        ValueError: m or n < 1, r < 0.

    Source: claim adapter_algebra [H].
    """
    rows, columns, rank = integer(m, "m", 1), integer(n, "n", 1), integer(r, "r", 0)
    return rank * (rows + columns)


def largest_saving_rank(m: int, n: int) -> int:
    """Largest r whose adapter has fewer parameters than the m x n matrix, ``r (m + n) < m n``; may be 0.

    Raises:
        ValueError: m or n < 1.

    Source: claim adapter_algebra.
    """
    rows, columns = integer(m, "m", 1), integer(n, "n", 1)
    return (rows * columns - 1) // (rows + columns)


def rank_set_dimension(m: int, n: int, r: int) -> int:
    """Dimension of the set of m x n updates of rank at most r: ``r (m + n - r)``, and ``m n`` from r = min(m, n) on.

    It is r^2 less than the number of parameters: (B T, T^-1 A) is the same update for every invertible T (r x r).
    Below min(m, n) it misses ``(m - r)(n - r)`` dimensions, so the updates of rank <= r have measure zero.

    Raises:
        ValueError: m or n < 1, r < 0.

    Source: claim adapter_algebra (standard).
    """
    rows, columns = integer(m, "m", 1), integer(n, "n", 1)
    rank = min(integer(r, "r", 0), rows, columns)
    return rank * (rows + columns - rank)


def adapter_scale(alpha: float, r: int, rslora: bool = False) -> float:
    """The factor in front of B A: ``alpha / r``, or ``alpha / sqrt(r)`` for rank-stabilised LoRA.

    Raises:
        ValueError: alpha not finite, r < 1.

    Source: [H]; peft's ``use_rslora``.
    """
    strength, rank = real(alpha, "alpha"), integer(r, "r", 1)
    return strength / math.sqrt(rank) if rslora else strength / rank


def regauge(update: LowRank, T: ArrayLike) -> LowRank:
    """The same update with other factors: ``(B T, T^-1 A, s)``.

    Args:
        update: an update with r columns.
        T: r x r, invertible. The update is kept to about eps cond(T).

    Raises:
        ValueError: T is not r x r, or singular to working precision (``cond(T) >= 1 / (r eps)``).

    Source: claim adapter_algebra.
    """
    turn, size = matrix(T, "T"), update.columns
    require(turn.shape == (size, size), "T", f"shape {(size, size)}, as the update has {size} columns", turn.shape)
    values = np.linalg.svd(turn, compute_uv=False)
    invertible = not size or bool(values[-1] > size * EPS * values[0])
    require(invertible, "T", "an invertible matrix", "a matrix that is singular to working precision")
    return LowRank(update.B @ turn, np.linalg.solve(turn, update.A), update.scale)


def merged_weight(W: ArrayLike, update: LowRank) -> Array:
    """``W + s B A`` in float64, m x n.

    A layer with this weight computes what W with the side path does, for every input (up to rounding, see
    :func:`merge_rounding_bound`). If W is shared with another place, as an embedding tied to the head is, merging
    changes that place too and the side path does not: the logits then move by ``update.apply(hidden)``.

    Raises:
        ValueError: W is not a matrix of the update's shape.

    Source: claim adapter_algebra [H].
    """
    weight = matrix(W, "W")
    require(weight.shape == update.shape, "W", f"shape {update.shape}, as the update", weight.shape)
    return weight + update.dense()


def merge_rounding_bound(
    W: ArrayLike, update: LowRank, x: ArrayLike, dtype: str = "bfloat16", bias: ArrayLike | None = None
) -> Array:
    """Most that the outputs of a merged layer and of its side path differ, when both are computed in `dtype`.

    With K = 1 or more columns of inputs, per output and column:

    ``c_h (|W| |x| + |bias|) + c_g |s| |B| |A| |x|``, with ``c_h = 2 ((1+v)^(n+1) (1+u)^3 - 1)`` and
    ``c_g = (1+v)^(n+r) ((1+u)^4 + (1+u)^5) - 2``.

    u is the unit roundoff of `dtype`, v that of the sums inside a matrix product (float32 for the 16-bit formats,
    `dtype` itself otherwise). Along the base term a path rounds at most three times to `dtype` (merged: the weight,
    the product, the bias; side: the product, the bias, the sum), along the adapter's term four times on the side
    (A x, B (A x), the scale, the sum) and five times merged (B A, the scale, the weight, the product, the bias), and
    every sum of k products in any order costs (1+v)^k. Underflow is left out. Holding the adapter in a finer format
    than W, as peft does beside bfloat16, only rounds less.

    Args:
        W: m x n, numbers of that format.
        update: the adapter, factors in that format or finer; the scale may be any number.
        x: inputs of that format, (n,) or (n, K).
        dtype: ``"float64"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        bias: (m,) or None.

    Returns:
        non-negative bounds of shape (m,) or (m, K).

    Raises:
        ValueError: shapes that do not fit, or an unknown format.

    Source: claim adapter_algebra (ours; standard rounding analysis, Higham, Accuracy and Stability of Numerical
    Algorithms, ch. 3).
    """
    weight = np.abs(matrix(W, "W"))
    one_of(dtype, "dtype", tuple(UNIT_ROUNDOFF))
    require(weight.shape == update.shape, "W", f"shape {update.shape}, as the update", weight.shape)
    inputs = np.abs(vector(x, "x") if np.ndim(x) == 1 else matrix(x, "x"))
    require(inputs.shape[0] == weight.shape[1], "x", f"{weight.shape[1]} rows", f"{inputs.shape[0]} rows")
    base = weight @ inputs
    if bias is not None:
        offset = np.abs(vector(bias, "bias"))
        require(offset.size == weight.shape[0], "bias", f"length {weight.shape[0]}", offset.size)
        base = base + (offset if base.ndim == 1 else offset[:, None])
    side: Array = abs(update.scale) * (np.abs(update.B) @ (np.abs(update.A) @ inputs))
    u = UNIT_ROUNDOFF[dtype]
    v = min(u, UNIT_ROUNDOFF["float32"])
    log_u, log_v = math.log1p(u), math.log1p(v)
    n, r = weight.shape[1], update.columns
    on_base = 2.0 * math.expm1((n + 1) * log_v + 3 * log_u)
    on_side = math.expm1((n + r) * log_v + 4 * log_u) + math.expm1((n + r) * log_v + 5 * log_u)
    bound: Array = on_base * base + on_side * side
    return bound
