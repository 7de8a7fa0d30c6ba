"""A chain of linear layers adapted, layer by layer, to a target product: the core of three constructions.

Used by :mod:`theory.approximation` (deep linear networks) and :mod:`theory.networks` (ReLU blocks, pairs of attention
matrices). Layers are listed input first, so the product of ``[W_1, ..., W_L]`` is ``W_L @ ... @ W_1``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from theory.lowrank import LowRank
from theory.numerics import Array, rank_tolerance, require

_AFTER = "this layer and those after it to have a product of full row rank {}"
_BEFORE = "this layer and those before it, adapted, to have a product of full column rank {}"


class Gap(NamedTuple):
    """SVD of ``target - product``; singular values at or below `tolerance` are rounding and are set to zero."""

    left: Array
    values: Array
    right: Array
    tolerance: float

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
    #: most by which float64 moves the product of the adapted layers, and with it the error, from its exact value
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


def gap(weights: Sequence[Array], target: Array, uncertain: float = 0.0) -> Gap:
    """SVD of ``target - product(weights)``; `uncertain` is the absolute error with which `target` is known.

    The product of L layers is computed within ``(L - 1) rank_tolerance(.., prod ||W_l||)``, the difference and its SVD
    within ``rank_tolerance(.., ||T|| + prod ||W_l||)``: the sum of the two, and of `uncertain`, is the tolerance.
    """
    magnitude = math.prod(spectral(w) for w in weights)
    tolerance = rank_tolerance((largest_size(weights),), spectral(target) + len(weights) * magnitude) + uncertain
    left, values, right = np.linalg.svd(target - product(weights), full_matrices=False)
    return Gap(left, np.where(values > tolerance, values, 0.0), right, tolerance)


def adapt(weights: Sequence[Array], target: Array, r: int, names: Sequence[str], uncertain: float = 0.0) -> Adapted:
    """Adapters of rank at most r, one per layer, whose product comes within sigma_{rL+1} of `target`.

    With S_l the product of the layers above l, Q_l that of the adapted layers up to l, and E_l = L_l R_l the l-th group
    of r terms of the SVD of target - product, layer l takes ``U_l = B_l A_l``, ``B_l = S_l^+ L_l``,
    ``A_l = R_l Q_{l-1}^+``. As S_l has full row rank and Q_{l-1} full column rank, S_l U_l Q_{l-1} = E_l, and the
    products telescope. A layer whose group is empty takes an update without columns and needs nothing of the others.

    Tolerance. The telescoping identity holds for the updates as computed, so only the residuals of
    ``S_l B_l = L_l`` and ``A_l Q_{l-1} = R_l`` count. A solve by SVD leaves a residual of at most
    ``g (||S|| ||B|| + ||L||)``, g = 4 eps d, d the largest size; the product S itself is off by at most
    ``g`` times its number of factors times the product of their norms. Condition numbers enter through
    ``||S|| ||B|| <= cond(S) ||L||``. Second-order terms are covered by the factor 4 in g.

    What counts as singular. A prefix is accepted if it has full column rank beyond the rounding of its own product
    and exact arithmetic is certain to agree: because S_l Q_l, known far better, has full column rank, or because
    ``Q_l = W_l Q_{l-1} + B_l R_l``, whose error is a sum of terms X_j R_j with ||X_j|| <= m_j, keeps full rank under
    every such error: sum_j m_j ||R_j Q_l^+|| < 1.

    Raises:
        ValueError: naming ``names[l]`` where a product is not of full rank beyond rounding, or where the layers are
            so ill-conditioned that not one digit of the product would be certain.
    """
    depth, rows, columns = len(weights), target.shape[0], target.shape[1]
    found = gap(weights, target, uncertain)
    g = rank_tolerance((largest_size(weights),), 1.0)
    kept = min(found.rank, r * depth)
    used = math.ceil(kept / r) if kept else 0
    norms = [spectral(w) for w in weights]
    suffixes = [np.eye(rows)] * depth
    for i in range(depth - 1, 0, -1):
        suffixes[i - 1] = suffixes[i] @ weights[i]
        if used:
            uncertain = (depth - i) * g * math.prod(norms[i:])
            _require_full_rank(suffixes[i - 1], rows, uncertain, names[i], _AFTER.format(rows))
    adapters: list[LowRank] = []
    prefix, halfway = np.eye(columns), product(weights)
    exact = np.eye(columns)  # the prefix without left inverses
    doubts: list[tuple[float, Array]] = []  # its (m_j, R_j)
    doubt = 0.0
    tolerance = found.tolerance
    scale = spectral(target) + math.prod(norms)
    magnitude = 1.0  # product of the norms of the adapted layers so far
    for i, w in enumerate(weights):
        doubts = [(m * norms[i], right) for m, right in doubts]
        rounding = norms[i] * spectral(exact)
        if i < used:
            if i:
                _require_full_rank(prefix, columns, i * g * magnitude, names[i - 1], _BEFORE.format(columns))
                certain = _rank(halfway, found.tolerance) == columns or doubt < 1
                require(certain, names[i - 1], _BEFORE.format(columns), f"rank {columns - 1} to working precision")
            group = slice(i * r, min((i + 1) * r, kept))
            root = np.sqrt(found.values[group])
            right = root[:, None] * found.right[group]
            b, b_error, b_residual = _solve(
                suffixes[i], found.left[:, group] * root, g, (depth - 1 - i) * g * math.prod(norms[i + 1 :])
            )
            a, _, a_residual = _solve(prefix.T, right.T, g, i * g * magnitude)
            update = LowRank(b, a.T)
            halfway = halfway + (found.left[:, group] * root) @ right
            size = float(root[0])
            tolerance += (b_residual + a_residual) * (size + a_residual)
            exact = w @ exact + b @ right
            # besides the solve, the gap itself is known within its tolerance, here and in the groups before
            inexact = 2 * found.tolerance / float(np.linalg.svd(suffixes[i], compute_uv=False)[-1])
            doubts += [(b_error, right), (inexact, np.eye(columns))]
            rounding += spectral(b) * size
        else:
            update = LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1])))
            exact = w @ exact
        doubts.append((g * rounding, np.eye(columns)))
        doubt = _doubt(exact, doubts)
        adapters.append(update)
        adapted = w + update.dense()
        prefix = adapted @ prefix
        magnitude *= spectral(adapted)
        if i < used:
            off = tolerance + depth * g * magnitude * math.prod(norms[i + 1 :])
            expected = "layers conditioned well enough for float64"
            require(off <= scale / 10, names[i], expected, f"an error of {off:.2g} on a scale of {scale:.2g}")
    tolerance += depth * g * magnitude + g * spectral(target)  # whoever multiplies the layers out rounds once more
    return Adapted(adapters, found.floor(r * depth), tolerance)


def _doubt(prefix: Array, doubts: Sequence[tuple[float, Array]]) -> float:
    """sum_j m_j ||R_j prefix^+||; infinite if the prefix has no full column rank as it stands."""
    _, values, vt = np.linalg.svd(prefix, full_matrices=False)
    if values.size < prefix.shape[1] or values[-1] == 0.0:
        return math.inf
    return sum(m * spectral(right @ vt.T / values) for m, right in doubts)


def _rank(a: Array, uncertain: float) -> int:
    return int(np.count_nonzero(np.linalg.svd(a, compute_uv=False) > uncertain))


def _require_full_rank(a: Array, rank: int, uncertain: float, name: str, expected: str) -> None:
    got = _rank(a, uncertain)
    require(got == rank, name, expected, f"rank {got}")


def _solve(a: Array, b: Array, g: float, off: float) -> tuple[Array, float, float]:
    """Least-norm x with a x = b for `a` of full row rank, known within `off`: (x, bound of its error, of its residual).

    `off` is 0 exactly where `a` is an identity.
    """
    if off == 0.0:
        return b, 0.0, 0.0
    u, values, vt = np.linalg.svd(a, full_matrices=False)
    x = vt.T @ ((u.T @ b) / values[:, None])
    size = spectral(x)
    return x, (g * values[0] + off) / values[-1] * size, (g * values[0] + off) * size + g * spectral(b)
