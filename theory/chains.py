"""A chain of linear layers adapted, layer by layer, to a target product: the core of three constructions.

Used by :mod:`theory.approximation` (deep linear networks) and :mod:`theory.networks` (ReLU blocks, pairs of attention
matrices). Layers are listed input first, so the product of ``[W_1, ..., W_L]`` is ``W_L @ ... @ W_1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from theory.lowrank import LowRank, column_norms, frobenius
from theory.numerics import EPS, Array, rank_tolerance, require, stream


class Gap(NamedTuple):
    """SVD of ``target - product``; singular values at or below `tolerance` are rounding and are set to zero."""

    left: Array
    values: Array
    right: Array
    tolerance: float
    #: norm of the target and norm of the gap: at least the norm of the frozen product
    scale: float

    @property
    def rank(self) -> int:
        """Numerical rank of the gap."""
        return int(np.count_nonzero(self.values))

    def floor(self, r: int) -> float:
        """sigma_{r+1} of the gap: what is left in spectral norm after the best update of rank r."""
        return float(self.values[r]) if r < self.values.size else 0.0


class Adapted(NamedTuple):
    """What :func:`adapt` returns."""

    adapters: list[LowRank]
    #: sigma_{rL+1} of the gap, 0.0 where it is rounding
    floor: float
    #: most by which the product of the adapted layers, and with it the error, differs from what exact arithmetic gives
    tolerance: float


def spectral(a: Array) -> float:
    """Spectral norm; 0.0 of an empty matrix."""
    return float(np.linalg.norm(a, 2)) if a.size else 0.0


def largest_size(weights: Sequence[Array]) -> int:
    """Largest number of rows or columns in the chain: the length of the longest inner product."""
    return max(int(size) for w in weights for size in w.shape)


def product(weights: Sequence[Array]) -> Array:
    """``weights[-1] @ ... @ weights[0]``."""
    result = weights[0]
    for w in weights[1:]:
        result = w @ result
    return result


def check_chain(weights: Sequence[Array], names: Sequence[str]) -> None:
    """Neighbouring layers must fit and no size may be 0; the error names the layer."""
    for i, w in enumerate(weights):
        require(min(w.shape) > 0, names[i], "at least one row and one column", f"{w.shape[0]} x {w.shape[1]}")
        if i:
            rows = weights[i - 1].shape[0]
            require(w.shape[1] == rows, names[i], f"{rows} columns, as the layer below has rows", w.shape[1])


def rounding(weights: Sequence[Array]) -> float:
    """Most by which float64 moves :func:`product`, in spectral norm and to first order in eps.

    Multiplying layer l onto the product Q of those below is off by ``rank_tolerance(.., ||W_l|| ||Q||)``, which the
    product S of those above stretches by at most ||S||. These are norms of products: far below a product of norms.
    """
    below = [stretch(q) for q in accumulate(weights[:-1], lambda q, w: w @ q)]
    above = [1.0, *(stretch(s) for s in accumulate(weights[:1:-1], lambda s, w: s @ w))][::-1]
    total = sum(s * stretch(w) * q for s, w, q in zip(above, weights[1:], below, strict=True)) if below else 0.0
    return rank_tolerance((largest_size(weights),), total)


def gap(weights: Sequence[Array], target: Array, uncertain: float = 0.0) -> Gap:
    """SVD of ``target - product(weights)``; `uncertain` is the absolute error with which `target` is known.

    The tolerance is the sum of :func:`rounding` of the product, of that of the difference and its SVD, and of
    `uncertain`.
    """
    left, values, right = np.linalg.svd(target - product(weights), full_matrices=False)
    scale = stretch(target) + float(values[0])
    tolerance = rank_tolerance((largest_size(weights),), scale) + rounding(weights) + uncertain
    return Gap(left, np.where(values > tolerance, values, 0.0), right, tolerance, scale)


def adapt(weights: Sequence[Array], target: Array, r: int, names: Sequence[str], uncertain: float = 0.0) -> Adapted:
    """Adapters of rank at most r, one per layer, whose product comes within sigma_{rL+1} of `target`.

    With S_l the product of the layers above l and Q_l that of the adapted layers up to l, layer l takes a part
    ``E_l = C_l F_l`` of rank at most r of what is left of ``E = LR_{rL}(target - product) = C F``, namely ``U_l = S_l^+
    C_l F_l Q_{l-1}^+``: then S_l U_l Q_{l-1} = E_l, and the products telescope. Any parts do in exact arithmetic; these
    keep the updates small.

    Columns: C_l spans directions of what is left that S_l^+ stretches hardly more than the least, so that a direction
    which many layers write at great cost waits for a layer near the output. Equal costs go to the leading terms of the
    SVD.

    Rows: ``C_1 (F_1 + Z F_2) + (C_2 - C_1 Z) F_2`` is the same E for every Z. The adapted product is non-singular if
    ``D_1 + Z D_2`` is, where ``D_1 = I + F_1 X``, ``D_2 = F_2 X`` and ``X = (W_l Q_{l-1})^+ S_l^+ C_1``. With polar
    decompositions ``D_i = V_i H_i`` the choice ``Z = V_1 V_2^T`` makes it V_1 (H_1 + H_2), singular only if some x is
    mapped to 0 by both: then the target itself is singular, and the rows that are left do not see what was lost.

    Neither S_l nor Q_l is inverted as a whole: both are kept as an orthonormal basis times triangular factors, one per
    layer, each as well conditioned as its layer.

    Acceptance. The product of the adapted layers is formed once and compared with what it should be. A difference that
    :func:`rounding` of this product and the tolerance of the gap explain is accepted; the three add up to `tolerance`.

    Accuracy. Little more is left than what storing the adapted layers in float64 does. With every entry rounded alone,
    evenly within half an eps, the product moves by ``eps / sqrt(12) sqrt(sum_l s_l^T W_l^2 q_l)`` in root mean square,
    s_l the squared lengths of the columns of S_l, q_l of the rows of Q_{l-1}, and squared entries of the adapted W_l:
    2e-9 for eight layers of 128 x 128 as torch makes them, whose product is 4e-9 off. Refining the factors cannot get
    below it.

    Raises:
        ValueError: the product is off by more than that, or not one of its digits is certain. Names the layer that is
            worst conditioned where it is needed: seen through those above it, or adapted, through those below.
    """
    depth = len(weights)
    found = gap(weights, target, uncertain)
    kept = min(found.rank, r * depth)
    values = found.values[:kept]
    share = 1.0 / (1.0 + values / values[0]) if kept else values
    columns, rows = found.left[:, :kept] * share, (values / share)[:, None] * found.right[:kept]
    above = _above(weights) if kept else []
    conditions = [(regular, name) for (_, _, regular), name in zip(above, names[:0:-1], strict=False)]
    basis = np.eye(target.shape[1])
    adapters = []
    for i, w in enumerate(weights):
        left = columns.shape[1]
        take = -(-left // (depth - i))
        if not left:
            adapters.append(LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1]))))
            continue
        b, a, through = _reach(columns, above[: depth - 1 - i]), rows, w @ basis
        if take < left:
            turn = _least_stretched_first(b, take)
            columns, rows = columns @ turn.T, turn @ rows
            a, rows = rows[:take], rows[take:]
            b = _reach(columns[:, :take], above[: depth - 1 - i])  # turning what was stretched would cancel
            x = _solve(through, b)
            mix = _orthogonal(np.eye(take) + a @ x) @ _orthogonal(rows @ x).T
            a, columns = a + mix @ rows, columns[:, take:] - columns[:, :take] @ mix
        else:
            columns = columns[:, left:]
        adapters.append(LowRank(b, a @ basis.T))
        if take < left:
            basis, factor = np.linalg.qr(through + b @ a)
            conditions.append((_regularity(factor), names[i]))
            rows = _divide(rows, factor, conditions[-1][0])
    wanted = target - (found.left[:, kept:] * found.values[kept:]) @ found.right[kept:]
    layers = [w + u.dense() for w, u in zip(weights, adapters, strict=True)]
    off = frobenius(product(layers) - wanted)
    allowed = rounding(layers) + found.tolerance
    condition, name = min(conditions, key=itemgetter(0), default=(1.0, names[0]))
    got = f"one of reciprocal condition {condition:.1g} and a product off by {off:.1g} where rounding is {allowed:.1g}"
    cure = "put another layer in its place, or shorten the chain"
    require(
        not kept or off <= allowed <= found.scale / 10, name, "a layer regular to working precision", f"{got}: {cure}"
    )
    return Adapted(adapters, found.floor(r * depth), off + allowed)


def stretch(a: Array) -> float:
    """Spectral norm from below, within a tenth, by a power method: far cheaper than an SVD."""
    largest = float(np.abs(a).max())
    if not largest:
        return 0.0
    unit, directions = a / largest, _directions(a.shape[1])
    for _ in range(5):
        directions = unit.T @ (unit @ directions)
    return largest * float((column_norms(unit @ directions) / column_norms(directions)).max())


@lru_cache(maxsize=64)
def _directions(size: int) -> Array:
    return stream(0, "stretch").standard_normal((size, 8))


def _regularity(factor: Array) -> float:
    """Reciprocal condition number of a triangular matrix in the 1-norm, estimated by LAPACK; 0.0 if not square."""
    from scipy.linalg.lapack import dtrcon

    return float(dtrcon(factor)[0]) if factor.shape[0] == factor.shape[1] else 0.0


class _Layer(NamedTuple):
    """``S_l = R_L^T ... R_{l+1}^T O^T``, O orthonormal: what is above layer l; the regularity of its R_{l+1}."""

    basis: Array
    factor: Array
    regularity: float


def _above(weights: Sequence[Array]) -> list[_Layer]:
    """For the layers from the last down to the second."""
    basis, found = np.eye(weights[-1].shape[0]), []
    for w in weights[:0:-1]:
        basis, factor = np.linalg.qr((basis.T @ w).T)
        found.append(_Layer(basis, factor, _regularity(factor)))
    return found


def _reach(columns: Array, above: Sequence[_Layer]) -> Array:
    """S^+ columns, for the layers of `above`."""
    reach = columns.T
    for layer in above:
        reach = _divide(reach, layer.factor, layer.regularity)
    return above[-1].basis @ reach.T if above else columns


def _divide(rows: Array, factor: Array, regularity: float) -> Array:
    """X with ``X factor = rows`` for a triangular factor; least squares where that is singular."""
    from scipy.linalg.lapack import dtrtrs

    if regularity > EPS:
        return np.asarray(dtrtrs(factor, rows.T, trans=1)[0].T)
    return np.asarray(np.linalg.lstsq(factor.T, rows.T, rcond=None)[0].T, dtype=np.float64)


def _solve(a: Array, b: Array) -> Array:
    """The solution; by least squares where `a` is singular or not square."""
    if a.shape[0] == a.shape[1]:
        with suppress(np.linalg.LinAlgError):
            return np.asarray(np.linalg.solve(a, b), dtype=np.float64)
    return np.asarray(np.linalg.lstsq(a, b, rcond=None)[0], dtype=np.float64)


def _least_stretched_first(a: Array, count: int) -> Array:
    """Orthonormal rows; no `count` directions are stretched much less by `a` than the first so many.

    By QR with column pivoting, whose last columns are nearly combinations of those before.
    """
    from scipy.linalg import qr

    factor, order = qr(a, mode="r", pivoting=True, check_finite=False)
    rest = a.shape[1] - count
    directions = np.vstack([-np.linalg.solve(factor[:rest, :rest], factor[:rest, rest:]), np.eye(count)])
    turn = np.empty((a.shape[1], a.shape[1]))
    turn[:, order] = np.linalg.qr(directions, mode="complete")[0].T
    return turn


def _orthogonal(a: Array) -> Array:
    """The orthogonal factor of the polar decomposition."""
    left, _, right = np.linalg.svd(a, full_matrices=False)
    factor: Array = left @ right
    return factor
