"""A chain of linear layers adapted, layer by layer, to a target product: the core of three constructions.

Used by :mod:`theory.approximation` (deep linear networks) and :mod:`theory.networks` (ReLU blocks, pairs of attention
matrices). Layers are listed input first, so the product of ``[W_1, ..., W_L]`` is ``W_L @ ... @ W_1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from theory.lowrank import LowRank, frobenius
from theory.numerics import EPS, Array, rank_tolerance, require, stream


class Gap(NamedTuple):
    """``change = target - product`` and its SVD; singular values at or below `tolerance` are rounding, set to zero."""

    change: Array
    left: Array
    values: Array
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
    inner = len(weights) - 1
    norms = [*stretches([*weights[1:], *below[:-1], *above[1:]]), 1.0]
    terms = zip(norms[:inner], norms[inner:], norms[2 * inner :], strict=False)
    return rank_tolerance((largest_size(weights),), sum(w * q * s for w, q, s in terms))


def gap(weights: Sequence[Array], target: Array, uncertain: float = 0.0) -> Gap:
    """SVD of ``target - product(weights)``; `uncertain` is the absolute error with which `target` is known.

    The tolerance is the sum of :func:`rounding` of the product, of that of the difference and its SVD, and of
    `uncertain`.
    """
    below, above = _partial(weights)
    change = target - below[-1]
    left, values, _ = np.linalg.svd(change, full_matrices=False)
    scale = stretch(target) + float(values[0])
    tolerance = rank_tolerance((largest_size(weights),), scale) + rounding(weights, below, above) + uncertain
    return Gap(change, left, np.where(values > tolerance, values, 0.0), tolerance, scale, above)


def adapt(weights: Sequence[Array], target: Array, r: int, names: Sequence[str], uncertain: float = 0.0) -> Adapted:
    """Adapters of rank at most r, one per layer, whose product comes within sigma_{rL+1} of `target`.

    With S_l the product of the layers above l and Q_l that of the adapted layers up to l, layer l takes a part
    ``E_l = C_l F_l`` of rank at most r of what is left of ``E = LR_{rL}(target - product) = C F``, namely ``U_l = B_l
    F_l Q_{l-1}^+`` with ``S_l B_l = C_l``: then S_l U_l Q_{l-1} = E_l, and the products telescope. In exact
    arithmetic any parts do; these keep the updates small.

    Columns: B_l are directions that S_l stretches much, so no other C_l costs much less. A direction which many layers
    write at great cost waits for a layer near the output.

    Rows: ``C_1 (F_1 + Z F_2) + (C_2 - C_1 Z) F_2`` is the same E for every Z. The adapted product is non-singular if
    ``D_1 + Z D_2`` is, where ``D_1 = Y + F_1 X``, ``D_2 = F_2 X`` and ``W_l Q_{l-1} X = B_1 Y``. With one QR
    decomposition ``D_i = K_i R`` of both and the polar decomposition ``K_1 = V H`` the choice ``Z = V K_2^T`` makes it
    V (I + H - H^2) R, as well conditioned as R up to a factor 5/4, and singular only if some x is mapped to 0 by both:
    then the target itself is singular, and the rows that are left do not see what was lost.

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
    outer = found.left[:, : found.rank]
    rows, beyond = np.split(outer.T @ found.change, [kept])
    wanted = target - outer[:, kept:] @ beyond
    # the columns of C come last
    directions = np.hstack([_complement(found.left), found.left[:, kept:], found.left[:, :kept]])
    carried = np.zeros((len(weights[0]), kept))
    basis = None
    adapters, layers, regularity = [], [], []
    for i, w in enumerate(weights):
        left = len(rows)
        take = -(-left // (depth - i))
        if not left:
            adapters.append(LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1]))))
            layers.append(w)
            continue
        # C = directions[:, -left:] + S_l carried
        written = directions[:, -left:]
        if i < depth - 1:
            turn, written = _cheapest(found.above[i], directions, left, take)
            directions[:, -left:], carried, rows = directions[:, -left:] @ turn, carried @ turn, turn.T @ rows
        b, a, rows = written + carried[:, :take], rows[:take], rows[take:]
        if take < left:
            x, y = _cancelled(w if basis is None else w @ basis, b)
            mixed = _qr(np.vstack([y + a @ x, rows @ x]), take)[0]
            mix = _orthogonal(mixed[:take]) @ mixed[take:].T
            a, carried = a + mix @ rows, weights[i + 1] @ (carried[:, take:] - b @ mix)
        adapters.append(LowRank._trusted(b, a if basis is None else a @ basis.T))
        layers.append(w + b @ adapters[-1].A)
        if take < left:
            adapted = _factored(layers[-1] if basis is None else layers[-1] @ basis)
            regularity.append(adapted.regularity)
            basis, rows = adapted.basis, _divide(rows, adapted)
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
    return stretches([a])[0]


def stretches(matrices: Sequence[Array]) -> list[float]:
    """:func:`stretch` of each, those of one shape at once."""
    found = np.zeros(len(matrices))
    for shape in {a.shape for a in matrices}:
        chosen = [at for at, a in enumerate(matrices) if a.shape == shape]
        stack = np.array([matrices[at] for at in chosen])
        largest = np.maximum(stack.max(axis=(1, 2)), -stack.min(axis=(1, 2)))
        unit, directions = _or_one(largest)[:, None, None], _directions(shape[1], 4)
        for _ in range(3):
            directions = stack.transpose(0, 2, 1) @ (stack @ directions / unit) / unit
        squares = ((stack @ directions / unit) ** 2).sum(axis=1) / _or_one((directions**2).sum(axis=1))
        found[chosen] = largest * np.sqrt(squares.max(axis=1))
    return list(map(float, found))


def _or_one(a: Array) -> Array:
    return np.where(a, a, 1.0)


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
    from scipy.linalg import lapack

    basis, factor = (None, a) if a.shape[0] == a.shape[1] else np.linalg.qr(a)
    if factor.shape[0] != factor.shape[1]:
        return _Factored(basis, factor, None, None, 0.0)
    lu, pivots, _ = lapack.dgetrf(factor)
    return _Factored(basis, factor, lu, pivots, float(lapack.dgecon(lu, lapack.dlange("1", factor))[0]))


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
    from scipy.linalg import lapack

    if by.regularity > EPS:
        return np.asarray(lapack.dgetrs(by.lu, by.pivots, rows.T, trans=1)[0].T)
    return np.asarray(np.linalg.lstsq(by.factor.T, rows.T, rcond=None)[0].T, dtype=np.float64)


def _cancelled(w: Array, b: Array) -> tuple[Array, Array]:
    """(X, Y) of as many columns as `b` has, with ``w X = b Y`` as far as `w` reaches; Y = I where no column depends."""
    from scipy.linalg import lapack

    rows, columns = w.shape
    if rows > columns:
        basis, w = np.linalg.qr(w)
        b = basis.T @ b
    if rows >= columns:
        *_, x, singular = lapack.dgesv(w, b)
        if not singular:
            return x, np.eye(b.shape[1])
    closest = np.linalg.svd(np.hstack([w, -b]))[2][-b.shape[1] :].T
    return closest[:columns], closest[columns:]


def _qr(a: Array, count: int) -> tuple[Array, Array]:
    """The first `count` columns of Q, and R, under whose triangle is what LAPACK leaves there.

    ``numpy.linalg.qr`` takes five times as long where matrices are small.
    """
    from scipy.linalg import lapack

    r, scalars, *_ = lapack.dgeqrf(a, lwork=a.size)
    q = np.zeros((len(a), count), order="F")
    q[:, : a.shape[1]] = r
    return np.asarray(lapack.dorgqr(q, scalars, lwork=q.size)[0]), r[: a.shape[1]]


def _complement(columns: Array) -> Array:
    """Orthonormal columns, orthogonal to the given ones and so many that there are no more."""
    size, count = columns.shape
    return _qr(columns, size)[0][:, count:] if 0 < count < size else np.eye(size)[:, count:]


def _cheapest(above: Array, directions: Array, left: int, count: int) -> tuple[Array, Array]:
    """A change of basis `turn` of the last `left` directions, and what `above` turns into the first `count` of these.

    What is written are those that `above` stretches much, by a step of a power method, among all that it turns into
    the last directions alone, in the basis in which their images are orthonormal.
    """
    from scipy.linalg import lapack

    seen = np.zeros((max(above.shape), len(directions)))  # of a layer that is too narrow, with rows that write nothing
    seen[: above.shape[1]] = above.T @ directions
    free = _complement(seen[:, :-left])
    image = seen[:, -left:].T @ free
    chosen, _ = _qr(image.T @ (image @ _directions(free.shape[1], count)), count)
    turn, factor = _qr(image @ chosen, left)
    # if `factor` is singular, not written, which the product will tell
    return turn, (free @ lapack.dtrtrs(factor, chosen.T, trans=1)[0].T)[: above.shape[1]]


def _orthogonal(a: Array) -> Array:
    """The orthogonal factor of the polar decomposition."""
    left, _, right = np.linalg.svd(a, full_matrices=False)
    factor: Array = left @ right
    return factor
