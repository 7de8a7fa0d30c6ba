"""The algebra of one adapter: size, dimension, gauge, first step, merging, and what rounding does to a merge.

Glossary: ``W`` (m x n) frozen, an adapter ``(B, A, s)`` with B (m x r), A (r x n) and scale ``s``; the *side path*
computes ``W x + s B (A x)``, a *merged* layer ``(W + s B A) x``; *unit roundoff* u is half the gap between 1 and the
next number of a format.
"""

from __future__ import annotations

import math
from contextlib import suppress
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank
from theory.numerics import EPS, Array, exponent, integer, matrix, one_of, quotient, real, require, rounding, vector

#: unit roundoff by format, round to nearest
UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}

#: arguments below 2^this have products of four whose squares are in the range of floats
_MOST_EXPONENT = 64
#: bounds from here on are sums of products whose squares are in that range
_LEAST = 2.0 ** (-4 * _MOST_EXPONENT)


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
    if not rslora:
        return quotient(strength, rank)
    with suppress(OverflowError):
        return strength / math.sqrt(rank)
    return quotient(strength, math.isqrt(rank))


def first_update(
    gradient: ArrayLike,
    factor: ArrayLike,
    alpha: float,
    rate: float,
    rslora: bool = False,
    optimizer: str = "sgd",
    zero: str = "B",
) -> LowRank:
    """The update after the first step of training.

    Args:
        gradient: G, m x n, of the loss with respect to the frozen weight, at the base.
        factor: the one that does not start at zero: A, r x n, or B, m x r.
        alpha: scale as in :func:`adapter_scale`.
        rate: learning rate.
        rslora: as in :func:`adapter_scale`.
        optimizer: ``"sgd"``: gradient descent; ``"adam"``: Adam with epsilon 0, whose first step is the sign of the
            gradient.
        zero: which factor starts at zero, ``"B"`` (then ``-rate s^2 G A^T A`` with sgd) or ``"A"`` (``-rate s^2 B B^T
            G``).

    Returns:
        the update, m x n: the factor as it is and the other one step from zero; the factor's own gradient is zero.

    Raises:
        ValueError: sizes that do not fit, numbers that are not finite, unknown optimizer or factor.

    Source: claim first_step_size.
    """
    one_of(zero, "zero", ("B", "A"))
    one_of(optimizer, "optimizer", ("sgd", "adam"))
    G, known, step = matrix(gradient, "gradient"), matrix(factor, "factor"), real(rate, "rate")
    size = G.shape[1] if zero == "B" else G.shape[0]
    found = known.shape[1] if zero == "B" else known.shape[0]
    require(found == size, "factor", f"{size} {'columns' if zero == 'B' else 'rows'}, as the gradient", found)
    scale = adapter_scale(alpha, known.shape[0] if zero == "B" else known.shape[1], rslora)
    slope = scale * (G @ known.T if zero == "B" else known.T @ G)
    moved = -step * (slope if optimizer == "sgd" else np.sign(slope))
    return LowRank(moved, known, scale) if zero == "B" else LowRank(known, moved, scale)


def first_step_power(optimizer: str, of: str, rslora: bool = False) -> Fraction:
    """The power of the rank with which the first step grows: ``c r^power`` in root mean square, or in the mean.

    Args:
        optimizer: ``"sgd"`` or ``"adam"``, as in :func:`first_update`.
        of: ``"norm"``: Frobenius norm of the update, where the rows of A (columns of B) are orthogonal and of one
            length; ``"loss"``: by how much the loss falls, to first order.
        rslora: as in :func:`adapter_scale`.

    Returns:
        the power, for random factors whose entries have a variance that does not depend on r; whichever factor is zero.
        A variance c / r, as the default for a layer with r inputs gives B, lowers the power by 1 (sgd) or 1/2 (adam).

    Raises:
        ValueError: unknown optimizer or quantity.

    Source: claim first_step_size.
    """
    one_of(optimizer, "optimizer", ("sgd", "adam"))
    one_of(of, "of", ("norm", "loss"))
    scales = 2 if optimizer == "sgd" else 1  # the scale is in the update, and with sgd in the gradient too
    return Fraction(1 if of == "loss" else Fraction(1, 2)) - scales * (Fraction(1, 2) if rslora else 1)


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
    than W, as peft does beside bfloat16, only rounds less. Not covered: a GPU that multiplies float32 in TF32, or adds
    parts of a 16-bit product in that format, which torch allows unless told otherwise
    (``allow_bf16_reduced_precision_reduction`` of ``torch.backends.cuda.matmul`` and the like).

    Args:
        W: m x n, numbers of that format.
        update: the adapter, factors in that format or finer; the scale may be any number.
        x: inputs of that format, (n,) or (n, K).
        dtype: ``"float64"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``.
        bias: (m,) or None.

    Returns:
        non-negative bounds of shape (m,) or (m, K), rounded up. They let all roundings conspire: at n = 4096 in
        bfloat16 they are several times the output itself, and say little there; :func:`likely_rounding_bound` says
        more, at a price.

    Raises:
        ValueError: shapes that do not fit, or an unknown format.

    Source: claim adapter_algebra (ours; standard rounding analysis, Higham, Accuracy and Stability of Numerical
    Algorithms, ch. 3).
    """
    layer = _layer(W, update, x, dtype, bias)
    log_u, log_v = math.log1p(layer.u), math.log1p(layer.v)
    n, r = layer.weight.shape[1], update.columns
    base, side = _sizes(layer, update)
    on_base = 2.0 * math.expm1((n + 1) * log_v + 3 * log_u)
    on_side = math.expm1((n + r) * log_v + 4 * log_u) + math.expm1((n + r) * log_v + 5 * log_u)
    bound: Array = (on_base * base + on_side * side) * (1.0 + rounding(n, r))
    return bound if np.ndim(x) > 1 else bound[:, 0]


def likely_rounding_bound(
    W: ArrayLike,
    update: LowRank,
    x: ArrayLike,
    dtype: str = "bfloat16",
    bias: ArrayLike | None = None,
    failure: float = 1e-3,
) -> Array:
    """What :func:`merge_rounding_bound` bounds, if rounding errors are independent with mean zero: much smaller.

    Under that model, no output exceeds it but with probability at most `failure`, for all outputs together. Each
    rounding error moves an output by itself times the exact value that passes through it, to first order; by
    Hoeffding's inequality their sum stays within ``sqrt(2 ln(2 m K / failure))`` times the root of the sum of their
    squared bounds, so that sums over n inputs cost sqrt(n) u |x| in place of n u |x|. What is of second order is
    bounded as if all conspired.

    The model is not a law: rounding to nearest is deterministic, and stored numbers with few digits (or inputs that are
    all alike) can make errors agree. It holds by construction for stochastic rounding, with twice the unit roundoff.

    Args:
        W, update, x, dtype, bias: as :func:`merge_rounding_bound`.
        failure: probability in (0, 1).

    Returns:
        non-negative bounds of shape (m,) or (m, K), rounded up; nowhere above :func:`merge_rounding_bound`, and that
        bound itself where squares might leave the range of floats (an argument with largest entries beyond 1e-19 to
        1e19).

    Raises:
        ValueError: as :func:`merge_rounding_bound`, or failure outside (0, 1).

    Source: claim adapter_algebra (ours, for the two paths; probabilistic rounding analysis after Higham & Mary, SIAM
    J. Sci. Comput. 41, 2019).
    """
    chance = real(failure, "failure")
    require(0 < chance < 1, "failure", "a probability in (0, 1)", failure)
    certain = merge_rounding_bound(W, update, x, dtype, bias)
    layer = _layer(W, update, x, dtype, bias)
    large = certain if np.ndim(x) > 1 else certain[:, None]
    weight, inputs, offset, u, v = layer
    n, r, s = weight.shape[1], update.columns, update.scale
    if any(abs(exponent(a)) > _MOST_EXPONENT for a in (weight, inputs, offset, update.B, update.A, np.array(s))):
        return certain
    change = s * (update.B @ update.A)
    merged, low, squares = weight + change, update.A @ inputs, inputs**2
    base, added = weight @ inputs, s * (update.B @ low)
    whole = base + added
    # stored numbers: B A and its scale, the weight; products and biases of both paths; A x, B (A x), scale and sum
    stored = (2.0 * change**2 + merged**2) @ squares + whole**2 + base**2 + (base + offset) ** 2
    stored = stored + 2.0 * (whole + offset) ** 2 + s * s * (update.B**2 @ low**2) + 2.0 * added**2
    # inside products of k terms: k products and as many sums, none larger than the sum of absolute values
    size = np.abs(merged) @ np.abs(inputs), np.abs(weight) @ np.abs(inputs), np.abs(update.A) @ np.abs(inputs)
    inside = (merged**2 + weight**2) @ squares + n * (size[0] ** 2 + size[1] ** 2)
    inside = inside + (r + 1) * s * s * ((np.abs(update.B) @ np.abs(update.A)) ** 2 @ squares)
    inside = (
        inside + s * s * (n + 1) * (update.B**2 @ size[2] ** 2) + (r + 1) * (s * (np.abs(update.B) @ np.abs(low))) ** 2
    )
    spread = math.sqrt(2.0 * (math.log(2.0 * max(whole.size, 1)) - math.log(chance)))
    # what cancels was rounded as its terms were, of which the certain bound, raised by that share, holds several u
    first = spread * (np.sqrt(u * u * stored + v * v * inside) + rounding(n, r) * large)
    on_base, on_side = 2.0 * ((n + 1) * v + 3.0 * u), 2.0 * (n + r) * v + 9.0 * u
    base, side = _sizes(layer, update)
    second = large - (1.0 + rounding(n, r)) * (on_base * base + on_side * side)
    likely = first + second
    bound: Array = np.where(large < _LEAST, large, np.minimum(large, likely))
    return bound if np.ndim(x) > 1 else bound[:, 0]


class _Layer(NamedTuple):
    """Checked arguments of the rounding bounds: W (m x n), x (n x K), bias (m x 1); u, v the unit roundoffs."""

    weight: Array
    inputs: Array
    offset: Array
    u: float
    v: float


def _sizes(layer: _Layer, update: LowRank) -> tuple[Array, Array]:
    """``|W| |x| + |bias|`` and ``|s| |B| |A| |x|``, m x K each."""
    base = np.abs(layer.weight) @ np.abs(layer.inputs) + np.abs(layer.offset)
    return base, abs(update.scale) * (np.abs(update.B) @ (np.abs(update.A) @ np.abs(layer.inputs)))


def _layer(W: ArrayLike, update: LowRank, x: ArrayLike, dtype: str, bias: ArrayLike | None) -> _Layer:
    weight = matrix(W, "W")
    one_of(dtype, "dtype", tuple(UNIT_ROUNDOFF))
    require(weight.shape == update.shape, "W", f"shape {update.shape}, as the update", weight.shape)
    inputs = vector(x, "x")[:, None] if np.ndim(x) == 1 else matrix(x, "x")
    require(inputs.shape[0] == weight.shape[1], "x", f"{weight.shape[1]} rows", f"{inputs.shape[0]} rows")
    offset = np.zeros(weight.shape[0]) if bias is None else vector(bias, "bias")
    require(offset.size == weight.shape[0], "bias", f"length {weight.shape[0]}", offset.size)
    u = UNIT_ROUNDOFF[dtype]
    return _Layer(weight, inputs, offset[:, None], u, min(u, UNIT_ROUNDOFF["float32"]))
