"""Limits of merging updates: rank of a sum, averaging of factors, dilution, weights, masks, interference.

Glossary: ``U_i = s_i B_i A_i`` the updates, ``w_i`` merge weights, a *gain* and a *deficit* are differences of logits
(right answer minus a rival), from the update and, with the sign turned, from the base; their difference is the *lead*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank, column_norms, mild
from theory.numerics import (
    Array,
    above,
    below,
    exact,
    exponent,
    integer,
    matrix,
    one_of,
    real,
    require,
    rounding,
    vector,
)


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
        independent, which holds exactly when rank equals bound. Ranks are numerical, see :meth:`LowRank.rank`; whether
        spaces are independent does not depend on how large the updates are, and decides where the rank of the sum
        would count a small update as rounding of a large one.

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
    return MergedRank(bound if independent else min(total.rank(), bound - 1), bound, independent)


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
    left, right, scale = _coefficients(updates, weights, convention)
    wanted = LowRank.combine(updates, weights)
    own = np.array([float(w) * u.scale for w, u in zip(weights, updates, strict=True)])
    found = _norms_by_grams(updates, [scale * np.outer(left, right) - np.diag(own), np.diag(own)])
    if found:
        return found[0] / found[1]
    error = LowRank.combine([factor_average(updates, weights, convention), wanted], [1.0, -1.0])
    size, floor = wanted.norm("frobenius"), wanted.tolerance()
    if size <= floor:
        return 0.0 if error.norm("frobenius") <= error.tolerance() else math.inf
    return error.norm("frobenius") / size


#: squared sum of the terms over the square of what is left of them, up to which Gram matrices give its norm
_MOST_CANCELLED = 1e4


def _norms_by_grams(updates: Sequence[LowRank], mixes: Sequence[Array]) -> list[float] | None:
    """Frobenius norms of ``sum_ij mix[i, j] B_i A_j``, without a decomposition of the stacked factors.

    Rounding moves a squared norm by at most about ``eps max(out, in)`` times the square of the sum of the terms' own
    norms. None where it is less than 1e-4 of that square, so that too many digits would cancel (a norm that is given is
    right to ``1e4 eps max(out, in)``, in practice to far less), or where squares may leave the normal range.
    """
    k, r = len(updates), updates[0].columns
    if not mild([np.abs(x).max(initial=0.0) for x in (*mixes, *(u.B for u in updates), *(u.A for u in updates))]):
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        tall, wide = np.hstack([u.B for u in updates]), np.vstack([u.A for u in updates])
        left, right = (tall.T @ tall).reshape(k, r, k, r), (wide @ wide.T).reshape(k, r, k, r)
        lengths = np.outer(np.sqrt(np.einsum("irir->i", left)), np.sqrt(np.einsum("irir->i", right)))
        norms = []
        for mix in mixes:
            square = float(np.sum(np.einsum("iapb,pq->iaqb", left, mix) * np.einsum("ij,jaqb->iaqb", mix, right)))
            terms = float(np.sum(np.abs(mix) * lengths))
            if not 0 < terms * terms <= _MOST_CANCELLED * square < math.inf:
                return None
            norms.append(math.sqrt(square))
    return norms


def factor_average(updates: Sequence[LowRank], weights: Sequence[float], convention: str) -> LowRank:
    """The update that averaging B and A separately really gives; arguments as :func:`factor_average_error`."""
    left, right, scale = _coefficients(updates, weights, convention)
    return LowRank(
        sum(c * u.B for c, u in zip(left, updates, strict=True)),
        sum(c * u.A for c, u in zip(right, updates, strict=True)),
        scale,
    )


def _coefficients(
    updates: Sequence[LowRank], weights: Sequence[float], convention: str
) -> tuple[list[float], list[float], float]:
    """What averaging factors multiplies each B and each A with, and the common scale in front."""
    one_of(convention, "convention", ("sqrt", "plain"))
    shapes = {(u.shape, u.columns) for u in updates}
    require(len(shapes) == 1, "updates", "one or more of equal shape and number of columns", sorted(shapes))
    require(len(weights) == len(updates), "weights", f"{len(updates)} weights", len(weights))
    values = [real(w, "weights") for w in weights]
    if convention == "plain":
        scales = {u.scale for u in updates}
        require(len(scales) == 1, "updates", "one common scale for the plain convention", sorted(scales))
        return values, values, updates[0].scale
    strengths = [w * u.scale for w, u in zip(values, updates, strict=True)]
    left = [math.sqrt(abs(x)) for x in strengths]
    return left, [math.copysign(math.sqrt(abs(x)), x) for x in strengths], 1.0


def dilution_limit(gain: float | Fraction, deficit: float | Fraction, convention: str = "update") -> float:
    """Largest number k of adapters whose uniform mean still prefers the right answer to a rival, at a query of one.

    Args:
        gain: logit of the right answer minus logit of a rival, from the query's own update alone.
        deficit: logit of the rival minus logit of the right answer, from the base alone.
        convention: ``"update"``: the mean of the updates, which keeps 1/k of each: k is the largest integer with
            gain > k deficit, when the other updates do not read the query's key. ``"factor"``: both factors averaged
            with weight 1/k, which keeps 1/k^2: the largest k with gain > k^2 deficit. That is the limit from the own
            term and NO guarantee: the cross terms B_j A_i, j != i, act on the very same key.

    Returns:
        k as an int, on the safe side of what floats stand for (.3 over .1 is no more than 3, so 2) and exact for
        Fractions and whole numbers; 0 if no k answers; ``math.inf`` if there is no largest:
        deficit < 0 (the base prefers it by itself, so a mean of enough adapters does; of few it may not where gain
        < 0), or deficit = 0 < gain. The query is answered up to the least k over its rivals.

    Raises:
        ValueError: not finite, or unknown convention.

    Source: claim dilution.
    """
    one_of(convention, "convention", ("update", "factor"))
    g, d = below(gain, "gain"), above(deficit, "deficit")
    if d <= 0:
        return math.inf if d < 0 or g > 0 else 0
    below_ratio = max(math.ceil(g / d) - 1, 0)  # the largest integer under gain / deficit
    return math.isqrt(below_ratio) if convention == "factor" else below_ratio


class BestWeights(NamedTuple):
    """What :func:`best_weights` returns; all numbers are exact."""

    weights: list[Fraction]
    lead: Fraction
    ceiling: Fraction
    mixture: list[Fraction]


#: relative to the largest lead: what the solver may leave between primal and dual
LP_TOLERANCE = 1e-9


def best_weights(leads: Sequence[Sequence[float | Fraction]] | Array) -> BestWeights:
    """Weights of sum one whose linear merge has the largest least lead, and the proof that none are better.

    Under weights that sum to one the lead of a pair (a fact's right answer, a rival) is their mean of its leads under
    the adapters alone. So the best weights are one player's optimal strategy in a matrix game; the other player mixes
    pairs. Where the logits are linear in the merge this is exact, interference included.

    Args:
        leads: pairs x adapters: logit of the right answer minus logit of the rival with that adapter alone, at full
            strength. For weights that sum to c in place of one, multiply what the adapters add by c.

    Returns:
        weights, non-negative, of sum one; lead, the least lead under them; ceiling, which no such weights exceed:
        under `mixture`, non-negative, of sum one, no adapter alone has a larger mean lead. All four are Fractions and
        hold exactly for `leads` as given (floats as they are); ceiling - lead is what a solver in floats leaves, at
        most about 1e-8 times the largest lead.

    Raises:
        ValueError: no rows, rows of different lengths or none, not finite.

    Source: claim optimal_weights (ours; minimax theorem and linear programming standard).
    """
    require(all(map(np.iterable, leads)), "leads", "pairs x adapters", "single numbers")
    rows = [[exact(x, "leads") for x in row] for row in leads]
    lengths = sorted({len(row) for row in rows})
    require(len(lengths) == 1 and lengths[0] > 0, "leads", "rows of one length, at least one entry", lengths)
    from scipy.optimize import linprog

    pairs, adapters = len(rows), lengths[0]
    size = max(abs(x) for row in rows for x in row) or Fraction(1)
    scaled = np.array([[float(x / size) for x in row] for row in rows])
    solved = linprog(
        np.append(np.zeros(adapters), -1.0),
        A_ub=np.hstack([-scaled, np.ones((pairs, 1))]),
        b_ub=np.zeros(pairs),
        A_eq=np.append(np.ones(adapters), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, None)] * adapters + [(None, None)],
        options={"primal_feasibility_tolerance": LP_TOLERANCE, "dual_feasibility_tolerance": LP_TOLERANCE},
    )
    weights, mixture = _mixture(solved.x[:-1]), _mixture(-solved.ineqlin.marginals)
    merged = [sum(x * w for x, w in zip(row, weights, strict=True)) for row in rows]
    means = [sum(y * row[j] for y, row in zip(mixture, rows, strict=True)) for j in range(adapters)]
    return BestWeights(weights, Fraction(min(merged)), Fraction(max(means)), mixture)


def _mixture(values: Array) -> list[Fraction]:
    """The nearest point of the simplex on the ray of `values`, exactly."""
    parts = [Fraction(max(float(x), 0.0)) for x in values]
    return [x / sum(parts) for x in parts]


def least_weights(
    gains: Sequence[float | Fraction], deficits: Sequence[float | Fraction], owners: Sequence[int], adapters: int
) -> list[Fraction]:
    """Weight that each adapter needs for its facts, where no update reads the keys of the others.

    Args:
        gains: one for each pair of a fact and a rival, from the fact's own update, > 0.
        deficits: as many, from the base.
        owners: as many indices below `adapters`.
        adapters: k >= 1.

    Returns:
        for each adapter the largest ``deficit / gain`` of its pairs, 0 where that is negative or there are none, on the
        safe side of what floats stand for. Non-negative weights of sum one that answer every pair exist exactly if
        these sum to less than one: each adapter gets more than it needs. With the same quotient everywhere this is
        dilution, ``gain > k deficit``.

    Raises:
        ValueError: lists of different lengths, a gain that is not positive, an owner out of range.

    Source: claim optimal_weights (ours).
    """
    count = integer(adapters, "adapters", 1)
    sizes = (len(gains), len(deficits), len(owners))
    require(len(set(sizes)) == 1, "owners", "as many gains, deficits and owners", sizes)
    needs = [Fraction(0)] * count
    for gain, deficit, owner in zip(gains, deficits, owners, strict=True):
        won, lost, j = below(gain, "gains"), above(deficit, "deficits"), integer(owner, "owners", 0)
        require(won > 0, "gains", "positive numbers", gain)
        require(j < count, "owners", f"indices from 0 to {count - 1}", owner)
        needs[j] = max(needs[j], lost / won)
    return needs


def mask_share(rate_out: float | Fraction, rate_in: float | Fraction = 0) -> Fraction:
    """Share of an update that the mean over random masks keeps: ``(1 - rate_out) (1 - rate_in)``.

    Args:
        rate_out: chance that a mask drops an output (a row of B), in [0, 1].
        rate_in: chance that one drops an input (a column of A), in [0, 1]. Every coordinate is dropped independently
            and nothing is rescaled.

    Returns:
        the share, exact. Facts survive the mean over all masks as they do the mean of ``k = 1 / share`` updates on keys
        of their own, :func:`dilution_limit`; used without masks, an adapter that was trained under them is to be
        scaled by the share.

    Raises:
        ValueError: a rate outside [0, 1].

    Source: claim mask_dilution (ours as a reading of LoRA Dropout, arXiv 2404.09610; the mean standard).
    """
    share = Fraction(1)
    for rate, name in ((rate_out, "rate_out"), (rate_in, "rate_in")):
        dropped = exact(rate, name)
        require(0 <= dropped <= 1, name, "a probability in [0, 1]", rate)
        share *= 1 - dropped
    return share


def interference_bound(updates: Sequence[LowRank], key: ArrayLike) -> list[float]:
    """Most that each update can change the output at `key`: ``|s_j| ||B_j||_2 ||A_j k||_2``, in units of the output.

    Args:
        updates: updates with equal `in`.
        key: vector of length in.

    Returns:
        one non-negative float per update, rounded up: by what A_j k may be off where its terms cancel, so that it is
        0.0 where no term is there.

    Raises:
        ValueError: key is not a vector of that length.

    Source: claim interference (submultiplicativity of the spectral norm).
    """
    return [float(x) for x in _damage(updates, vector(key, "key")[:, None], "key")[:, 0]]


def _damage(updates: Sequence[LowRank], keys: Array, name: str) -> Array:
    """``|s_j| ||B_j||_2 ||A_j k||_2`` for every update (rows) and key (columns), rounded up.

    Scaled by powers of two to entries of at most 1, which changes no digit, so that nothing leaves the range of floats
    on the way.
    """
    key_exponents = np.array([exponent(k) for k in keys.T], dtype=np.int64)
    unit_keys = np.ldexp(keys, -key_exponents)
    rows = []
    for u in updates:
        require(u.shape[1] == len(keys), name, f"length {u.shape[1]}", len(keys))
        exponents = [exponent(x) for x in (u.B, u.A, np.array(u.scale))]
        left, reading, scale = (np.ldexp(x, -e) for x, e in zip((u.B, u.A, np.array(u.scale)), exponents, strict=True))
        spectral = float(np.linalg.norm(left, 2)) if left.size else 0.0
        # of A k, where its terms cancel; and of the norms and products, as no entry of A k is above its terms
        off = rounding(*u.shape, u.columns) * (np.abs(reading) @ np.abs(unit_keys))
        found = abs(scale) * spectral * column_norms(np.abs(reading @ unit_keys) + off)
        with np.errstate(over="ignore"):
            damage = np.ldexp(found, sum(exponents) + key_exponents)
        rows.append(np.where(found > 0, np.maximum(damage, math.ulp(0.0)), 0.0))
    return np.array(rows).reshape(len(updates), keys.shape[1])


def surviving_facts(
    updates: Sequence[LowRank], keys: ArrayLike, margins: ArrayLike, owners: Sequence[int]
) -> list[bool]:
    """Which facts are certain to survive the sum of `updates` (a sufficient condition).

    A fact with key k, written by update ``owners[i]``, survives if its margin (right logit minus best rival, with its
    own update alone) exceeds ``sqrt(2) * sum_{j != owner} |s_j| ||B_j||_2 ||A_j k||``: no difference of two outputs
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
    own = np.array([integer(j, "owners", 0) for j in owners], dtype=np.int64)
    require(own.max(initial=-1) < len(updates), "owners", f"indices from 0 to {len(updates) - 1}", own.max(initial=-1))
    damage = _damage(updates, k, "keys")
    damage[own, np.arange(len(own))] = 0.0
    return [bool(x) for x in m > math.sqrt(2.0) * (1.0 + rounding(len(damage))) * damage.sum(axis=0)]
