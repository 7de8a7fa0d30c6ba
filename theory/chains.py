"""A chain of linear layers adapted, layer by layer, to a target product: the core of three constructions.

Used by :mod:`theory.approximation` (deep linear networks) and :mod:`theory.networks` (ReLU blocks, pairs of attention
matrices). Layers are listed input first, so the product of ``[W_1, ..., W_L]`` is ``W_L @ ... @ W_1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.lowrank import LowRank, frobenius
from theory.numerics import EPS, Array, rank_tolerance, require, stream


class Gap(NamedTuple):
    """SVD of ``target - product``; singular values at or below `tolerance` are rounding and are set to zero."""

    left: Array
    values: Array
    right: Array
    tolerance: float
    #: norm of the target and norm of the gap: at least the norm of the frozen product
    scale: float
    #: products of the frozen layers above each but the last
    above: list[Array]

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


def check_chain(weights: Sequence[Array], names: Sequence[str]) -> None:
    """Neighbouring layers must fit and no size may be 0; the error names the layer."""
    for i, w in enumerate(weights):
        require(min(w.shape) > 0, names[i], "at least one row and one column", f"{w.shape[0]} x {w.shape[1]}")
        if i:
            rows = weights[i - 1].shape[0]
            require(w.shape[1] == rows, names[i], f"{rows} columns, as the layer below has rows", w.shape[1])


def _partial(weights: Sequence[Array]) -> tuple[list[Array], list[Array]]:
    """``Q_1, .., Q_L`` with ``Q_l = W_l ... W_1``, and ``S_1, .., S_{L-1}`` with ``S_l = W_L ... W_{l+1}``."""
    above = list(accumulate(weights[:0:-1], lambda s, w: s @ w))
    return list(accumulate(weights, lambda q, w: w @ q)), above[::-1]


def rounding(weights: Sequence[Array], below: Sequence[Array], above: Sequence[Array]) -> float:
    """Most by which float64 moves the product of a chain, in spectral norm and to first order in eps.

    Multiplying layer l onto the product Q of those below is off by ``rank_tolerance(.., ||W_l|| ||Q||)``, which the
    product S of those above stretches by at most ||S||. These are norms of products: far below a product of norms.
    """
    norms = zip([*map(stretch, above[1:]), 1.0], map(stretch, weights[1:]), map(stretch, below[:-1]), strict=False)
    return rank_tolerance((largest_size(weights),), sum(s * w * q for s, w, q in norms))


def gap(weights: Sequence[Array], target: Array, uncertain: float = 0.0) -> Gap:
    """SVD of ``target - product(weights)``; `uncertain` is the absolute error with which `target` is known.

    The tolerance is the sum of :func:`rounding` of the product, of that of the difference and its SVD, and of
    `uncertain`.
    """
    below, above = _partial(weights)
    left, values, right = np.linalg.svd(target - below[-1], full_matrices=False)
    scale = stretch(target) + float(values[0])
    tolerance = rank_tolerance((largest_size(weights),), scale) + rounding(weights, below, above) + uncertain
    return Gap(left, np.where(values > tolerance, values, 0.0), right, tolerance, scale, above)


def adapt(weights: Sequence[Array], target: Array, r: int, names: Sequence[str], uncertain: float = 0.0) -> Adapted:
    """Adapters of rank at most r, one per layer, whose product comes within sigma_{rL+1} of `target`.

    With S_l the product of the layers above l and Q_l that of the adapted layers up to l, layer l takes a part
    ``E_l = C_l F_l`` of rank at most r of what is left of ``E = LR_{rL}(target - product) = C F``, namely ``U_l = B_l
    F_l Q_{l-1}^+`` with ``S_l B_l = C_l``: then S_l U_l Q_{l-1} = E_l, and the products telescope. In exact
    arithmetic any parts do; these keep the updates small.

    Columns: B_l are directions that S_l stretches much, so no other C_l costs much less. A direction which many layers
    write at great cost waits for a layer near the output.

    Rows: ``C_1 (F_1 + Z F_2) + (C_2 - C_1 Z) F_2`` is the same E for every Z. The adapted product is non-singular if
    ``D_1 + Z D_2`` is, where ``D_1 = I + F_1 X``, ``D_2 = F_2 X`` and ``X = (W_l Q_{l-1})^+ B_1``. With polar
    decompositions ``D_i = V_i H_i`` the choice ``Z = V_1 V_2^T`` makes it V_1 (H_1 + H_2), singular only if some x is
    mapped to 0 by both: then the target itself is singular, and the rows that are left do not see what was lost.

    S_l is not inverted at all: what a layer is to write before it is known at the layer below, and goes through the
    layer between. Nor is Q_l as a whole, only each adapted layer, as well conditioned as it is.

    Acceptance. The product of the adapted layers is formed once and compared with what it should be. A difference that
    :func:`rounding` of this product and the tolerance of the gap explain is accepted; the three add up to `tolerance`.

    Accuracy. Little more is left than what storing the adapted layers in float64 does. With every entry rounded alone,
    evenly within half an eps, the product moves by ``eps / sqrt(12) sqrt(sum_l s_l^T W_l^2 q_l)`` in root mean square,
    s_l the squared lengths of the columns of S_l, q_l of the rows of Q_{l-1}, and squared entries of the adapted W_l:
    2e-9 for eight layers of 128 x 128 as torch makes them, whose product is 7e-9 off, since the factors are rounded
    too. Refining them cannot get below it.

    Raises:
        ValueError: the product is off by more than that, or not one of its digits is certain. Names the layer that is
            worst conditioned where it is needed: seen through those above it, or adapted, through those below.
    """
    depth = len(weights)
    found = gap(weights, target, uncertain)
    kept = min(found.rank, r * depth)
    columns, rows = found.left[:, :kept], found.values[:kept, None] * found.right[:kept]
    outside = _complement(columns)
    carried = np.zeros((weights[0].shape[0], kept))
    basis = None
    adapters, regularity = [], []
    for i, w in enumerate(weights):
        left = columns.shape[1]
        take = -(-left // (depth - i))
        if not left:
            adapters.append(LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1]))))
            continue
        # C = columns + S_l carried
        if i < depth - 1:
            turn, written = _cheapest(found.above[i], columns, outside, take)
            columns, carried, rows = columns @ turn.T, carried @ turn.T, turn @ rows
        else:
            written = columns
        b, a, rows = written + carried[:, :take], rows[:take], rows[take:]
        through = w if basis is None else w @ basis
        if take < left:
            x = _solve(through, b)
            mix = _orthogonal(np.eye(take) + a @ x) @ _orthogonal(rows @ x).T
            a, carried = a + mix @ rows, weights[i + 1] @ (carried[:, take:] - b @ mix)
        outside, columns = np.hstack([outside, columns[:, :take]]), columns[:, take:]
        adapters.append(LowRank._trusted(b, a if basis is None else a @ basis.T))
        if take < left:
            adapted = _factored(through + b @ a)
            regularity.append(adapted.regularity)
            basis, rows = adapted.basis, _divide(rows, adapted)
    wanted = target - (found.left[:, kept:] * found.values[kept:]) @ found.right[kept:]
    layers = [w + u.dense() for w, u in zip(weights, adapters, strict=True)]
    partial = _partial(layers)
    off = frobenius(partial[0][-1] - wanted)
    allowed = rounding(layers, *partial) + found.tolerance
    if not kept or off <= allowed <= found.scale / 10:
        return Adapted(adapters, found.floor(r * depth), off + allowed)
    frozen = min(zip(_regularities(weights), names[:0:-1], strict=True), default=(1.0, names[0]))
    # what a singular layer asks of one below makes that irregular too
    condition, name = frozen if frozen[0] <= EPS else min([frozen, *zip(regularity, names, strict=False)])
    got = f"one of reciprocal condition {condition:.1g} and a product off by {off:.1g} where rounding is {allowed:.1g}"
    cure = "put another layer in its place, or shorten the chain"
    raise ValueError(f"{name}: expected a layer regular to working precision, got {got}: {cure}")


def stretch(a: Array) -> float:
    """Spectral norm from below, by a power method: far cheaper than an SVD.

    Within a tenth of Gaussian matrices, and where one singular value is twice the others. One that stands out by less
    may be missed, and what is found then lies among those beside it.
    """
    largest = float(np.abs(a).max())
    if not largest:
        return 0.0
    unit, directions = a / largest, _directions(a.shape[1], 4)
    for _ in range(3):
        directions = unit.T @ (unit @ directions)
    return largest * float((np.linalg.norm(unit @ directions, axis=0) / np.linalg.norm(directions, axis=0)).max())


@lru_cache(maxsize=64)
def _directions(size: int, count: int) -> Array:
    return stream(0, "stretch").standard_normal((size, count))


class _Factored(NamedTuple):
    """``basis @ factor``: the identity (None) and the matrix itself, or orthonormal and a triangle."""

    basis: Array | None
    factor: Array
    #: of the factor, where it is square
    lu: Array | None
    pivots: NDArray[np.int32] | None
    #: reciprocal condition number of the factor in the 1-norm, estimated by LAPACK; 0.0 if it is not square
    regularity: float


def _factored(a: Array) -> _Factored:
    from scipy.linalg.lapack import dgecon, dgetrf

    basis, factor = (None, a) if a.shape[0] == a.shape[1] else np.linalg.qr(a)
    if factor.shape[0] != factor.shape[1]:
        return _Factored(basis, factor, None, None, 0.0)
    lu, pivots, _ = dgetrf(factor)
    return _Factored(basis, factor, lu, pivots, float(dgecon(lu, np.abs(factor).sum(axis=0).max())[0]))


def _regularities(weights: Sequence[Array]) -> list[float]:
    """Of the layers from the last down to the second, each seen through those above it."""
    basis, found = None, []
    for w in weights[:0:-1]:
        seen = _factored(w.T if basis is None else w.T @ basis)
        basis = seen.basis
        found.append(seen.regularity)
    return found


def _divide(rows: Array, by: _Factored) -> Array:
    """X with ``X factor = rows``; least squares where that is singular."""
    from scipy.linalg.lapack import dgetrs

    if by.regularity > EPS:
        return np.asarray(dgetrs(by.lu, by.pivots, rows.T, trans=1)[0].T)
    return np.asarray(np.linalg.lstsq(by.factor.T, rows.T, rcond=None)[0].T, dtype=np.float64)


def _solve(a: Array, b: Array) -> Array:
    """The solution; by least squares where `a` is singular or not square."""
    if a.shape[0] == a.shape[1]:
        with suppress(np.linalg.LinAlgError):
            return np.asarray(np.linalg.solve(a, b), dtype=np.float64)
    return np.asarray(np.linalg.lstsq(a, b, rcond=None)[0], dtype=np.float64)


def _complement(columns: Array) -> Array:
    """Orthonormal columns that complete the given ones."""
    size, count = columns.shape
    return np.zeros((size, 0)) if count == size else np.linalg.qr(columns, mode="complete")[0][:, count:]


def _cheapest(above: Array, columns: Array, outside: Array, count: int) -> tuple[Array, Array]:
    """Orthonormal rows `turn`, and what `above` turns into ``columns @ turn[:count].T``.

    What is written are directions that `above` stretches much, by a step of a power method, less what it would turn
    into `outside`, in the basis in which their images are orthonormal.
    """
    seen = np.linalg.qr(above.T @ outside)[0]

    def inside(x: Array) -> Array:
        for _ in range(2):  # the second takes what the first leaves by rounding where nearly all cancels
            x = x - seen @ (seen.T @ x)
        return x

    image = columns.T @ (above @ inside(_directions(above.shape[1], count)))
    written = inside(np.linalg.qr(above.T @ (columns @ image))[0])
    turn, factor = np.linalg.qr(columns.T @ (above @ written), mode="complete")
    return turn.T, _solve(factor[:count].T, written.T).T


def _orthogonal(a: Array) -> Array:
    """The orthogonal factor of the polar decomposition."""
    left, _, right = np.linalg.svd(a, full_matrices=False)
    factor: Array = left @ right
    return factor
