"""Limits of merging updates: rank of a sum, averaging of factors, dilution, interference.

Glossary: ``U_i = s_i B_i A_i`` the updates, ``w_i`` merge weights, a *gain* and a *deficit* are differences of logits
(right answer minus a rival), from the update and, with the sign turned, from the base.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank
from theory.numerics import Array, exact, matrix, one_of, real, require, vector


class MergedRank(NamedTuple):
    """What :func:`merged_rank` returns."""

    rank: int
    bound: int
    independent: bool


def merged_rank(updates: Sequence[LowRank]) -> MergedRank:
    """Rank of the unweighted sum of `updates` and the sum of their ranks, which bounds it.

    Args:
        updates: at least one update, all out x in; ranks may differ.

    Returns:
        rank of the sum, bound (sum of the ranks), and whether column spaces are independent and row spaces are
        independent, which holds exactly when rank equals bound. Ranks are numerical, see :meth:`LowRank.rank`.

    Raises:
        ValueError: no updates or different shapes.

    Source: claim merge_rank (rank of a sum, standard).
    """
    total = LowRank.combine(updates, [1.0] * len(updates))
    ranks = [u.rank() for u in updates]
    columns = np.hstack([u.column_basis() for u in updates])
    rows = np.vstack([u.row_basis() for u in updates])
    bound = sum(ranks)
    independent = _rank_of_unit_columns(columns) == bound and _rank_of_unit_columns(rows.T) == bound
    return MergedRank(total.rank(), bound, independent)


def _rank_of_unit_columns(basis: Array) -> int:
    return LowRank(basis, np.eye(basis.shape[1])).rank()


def factor_average_error(updates: Sequence[LowRank], weights: Sequence[float], convention: str) -> float:
    """Error of averaging B and A separately, relative to the Frobenius norm of the wanted sum ``sum_i w_i U_i``.

    Args:
        updates: k updates of equal shape and equal number of columns r.
        weights: k finite weights.
        convention: ``"sqrt"``: ``(sum_i |w_i s_i|^(1/2) B_i)(sum_i sign(w_i s_i) |w_i s_i|^(1/2) A_i)``, which is
            what peft's combination type ``linear`` computes; ``"plain"``: ``s (sum_i w_i B_i)(sum_i w_i A_i)``, s
            the common scale.

    Returns:
        ``||averaged - wanted||_F / ||wanted||_F``; ``inf`` if the wanted sum is zero and the averaged one is not,
        0.0 if both are.

    Raises:
        ValueError: no updates, different shapes or numbers of columns, wrong weights, unknown convention, or scales
            that differ under ``"plain"``.

    Source: claim factor_average; peft 0.21 ``add_weighted_adapter`` for ``"sqrt"``.
    """
    averaged = factor_average(updates, weights, convention)
    wanted = LowRank.combine(updates, weights)
    size, floor = wanted.norm("frobenius"), wanted.tolerance()
    error = LowRank.combine([averaged, wanted], [1.0, -1.0])
    if size <= floor:
        return 0.0 if error.norm("frobenius") <= error.tolerance() else math.inf
    return error.norm("frobenius") / size


def factor_average(updates: Sequence[LowRank], weights: Sequence[float], convention: str) -> LowRank:
    """The update that averaging B and A separately really gives; arguments as :func:`factor_average_error`."""
    one_of(convention, "convention", ("sqrt", "plain"))
    shapes = {(u.shape, u.columns) for u in updates}
    require(len(shapes) == 1, "updates", "one or more of equal shape and number of columns", sorted(shapes))
    require(len(weights) == len(updates), "weights", f"{len(updates)} weights", len(weights))
    values = [real(w, "weights") for w in weights]
    if convention == "plain":
        scales = {u.scale for u in updates}
        require(len(scales) == 1, "updates", "one common scale for the plain convention", sorted(scales))
        left = right = values
        scale = updates[0].scale
    else:
        strengths = [w * u.scale for w, u in zip(values, updates, strict=True)]
        left = [math.sqrt(abs(x)) for x in strengths]
        right = [math.copysign(math.sqrt(abs(x)), x) for x in strengths]
        scale = 1.0
    return LowRank(
        sum(c * u.B for c, u in zip(left, updates, strict=True)),
        sum(c * u.A for c, u in zip(right, updates, strict=True)),
        scale,
    )


def dilution_limit(gain: float | Fraction, deficit: float | Fraction, convention: str = "update") -> float:
    """Largest number k of adapters whose uniform mean still answers a query of one of them.

    Args:
        gain: logit of the right answer minus logit of a rival, from the query's own update alone.
        deficit: logit of the rival minus logit of the right answer, from the base alone.
        convention: ``"update"``: the mean of the updates, which keeps 1/k of each: k is the largest integer with
            gain > k deficit, when the other updates do not read the query's key. ``"factor"``: both factors averaged
            with weight 1/k, which keeps 1/k^2: the largest k with gain > k^2 deficit. That is the limit from the own
            term and NO guarantee: the cross terms B_j A_i, j != i, act on the very same key.

    Returns:
        k as an int, exact for the floats or Fractions given; 0 if no k answers; ``math.inf`` if there is no largest:
        deficit < 0 (the base answers by itself, so a mean of enough adapters does), or deficit = 0 < gain.

    Raises:
        ValueError: not finite, or unknown convention.

    Source: claim dilution.
    """
    one_of(convention, "convention", ("update", "factor"))
    g, d = exact(gain, "gain"), exact(deficit, "deficit")
    if d <= 0:
        return math.inf if d < 0 or g > 0 else 0
    below_ratio = max(math.ceil(g / d) - 1, 0)  # the largest integer under gain / deficit
    return math.isqrt(below_ratio) if convention == "factor" else below_ratio


def interference_bound(updates: Sequence[LowRank], key: ArrayLike) -> list[float]:
    """Most that each update can change the output at `key`: ``s_j ||B_j||_2 ||A_j k||_2``, in units of the output.

    Args:
        updates: updates with equal `in`.
        key: vector of length in.

    Returns:
        one non-negative float per update; 0.0 exactly where A_j k = 0.

    Raises:
        ValueError: key is not a vector of that length.

    Source: claim interference (submultiplicativity of the spectral norm).
    """
    k = vector(key, "key")
    bounds = []
    for u in updates:
        require(u.shape[1] == k.size, "key", f"length {u.shape[1]}", k.size)
        spectral = float(np.linalg.norm(u.B, 2)) if u.B.size else 0.0
        bounds.append(abs(u.scale) * spectral * float(np.linalg.norm(u.A @ k)))
    return bounds


def surviving_facts(
    updates: Sequence[LowRank], keys: ArrayLike, margins: ArrayLike, owners: Sequence[int]
) -> list[bool]:
    """Which facts are certain to survive the sum of `updates` (a sufficient condition).

    A fact with key k, written by update ``owners[i]``, survives if its margin (right logit minus best rival, with its
    own update alone) exceeds ``sqrt(2) * sum_{j != owner} s_j ||B_j||_2 ||A_j k||``: no difference of two outputs
    moves by more than sqrt(2) times the Euclidean norm of the change.

    Args:
        updates: k updates, out x in, on the matrix whose outputs are the logits.
        keys: in x N, one column per fact.
        margins: (N,) margins in logits.
        owners: N indices into `updates`.

    Raises:
        ValueError: sizes that do not fit or an owner out of range.

    Source: claim interference.
    """
    k, m = matrix(keys, "keys"), vector(margins, "margins")
    require(m.size == k.shape[1], "margins", f"{k.shape[1]} margins, one per key", m.size)
    require(len(owners) == m.size, "owners", f"{m.size} owners, one per key", len(owners))
    survivors = []
    for column, margin, owner in zip(k.T, m, owners, strict=True):
        require(0 <= owner < len(updates), "owners", f"indices from 0 to {len(updates) - 1}", owner)
        damage = sum(b for j, b in enumerate(interference_bound(updates, column)) if j != owner)
        survivors.append(bool(margin > math.sqrt(2.0) * damage))
    return survivors
