"""Limits and ways of composing two hops: the additive limit, the one-layer model, bridges, layers, coverage, chains.

Glossary: the first adapter holds a *bridge* p in Y (|Y| = n), the second a *table* q: Y -> Z (|Z| = m); the two-hop
question is right if the answer is q(p). Base, prompt and tables are independent throughout: the base knows neither.
The combinatorics, the one-layer model and the two-layer stack live in private modules and are public here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory._additive import (
    additive_optimum,
    additive_patterns,
    additive_score,
    extremal_first,
    extremal_second,
    monotone_score,
    reachable_patterns,
)
from theory._onelayer import OneLayer, joint_edit, one_layer_edit, one_layer_model, relu_key_cosine, summed_edits
from theory._stack import PLACEMENTS, Placement, TwoLayerStack, place_edits, two_layer_stack
from theory.facts import counting_bound, counting_threshold
from theory.numerics import EPS, Array, integer, matrix, rank_tolerance, real, require, vector

__all__ = [
    "PLACEMENTS",
    "AlignedAnswer",
    "Alignment",
    "ChainOfThought",
    "CoverageLaw",
    "InteractionSplit",
    "OneLayer",
    "Placement",
    "TwoLayerStack",
    "additive_ceiling",
    "additive_optimum",
    "additive_patterns",
    "additive_score",
    "additive_threshold",
    "aligned_answer",
    "bridge_alignment",
    "bridge_cosine",
    "chain_of_thought",
    "composed_share",
    "coverage_law",
    "extremal_first",
    "extremal_second",
    "interaction_split",
    "joint_edit",
    "monotone_score",
    "one_layer_edit",
    "one_layer_model",
    "place_edits",
    "reachable_patterns",
    "relu_key_cosine",
    "summed_edits",
    "two_layer_stack",
]

# ---- additive_limit ----


def additive_ceiling(n: int, m: int) -> float:
    """Most that additive merged logits compose: ``min(3/4 + 1/(4m), counting_bound(ln C(n + m - 1, n), n, m))``.

    Args:
        n: bridges, n >= 1. Time grows linearly with n.
        m: values, m >= 1.

    Returns:
        a ceiling on P[strict argmax of a(p) + b(q) is q(p)] for independent uniform p and q, tables q independent and
        uniform over all m^n maps; 1.0 for n = 1. Sharp at n = 2 for every m.

    Raises:
        ValueError: n or m < 1.

    Source: claim additive_limit, parts 1 and 3 (ours).
    """
    log_patterns = math.log(additive_patterns(n, m))
    if n == 1:
        return 1.0
    return min(0.75 + 0.25 / m, counting_bound(log_patterns, n, m))


def additive_threshold(n: int, m: int, level: float = 0.01) -> int:
    """For one world: the number of right bridges that additive logits reach with probability at most `level`.

    Args:
        n: bridges, n >= 1.
        m: values, m >= 1.
        level: probability over the draw of the table, in (0, 1).

    Returns:
        the smallest k with ``C(n + m - 1, n) P[Bin(n, 1/m) >= k] <= level``; n + 1 if there is none.

    Raises:
        ValueError: n or m < 1, or level outside (0, 1).

    Source: claim additive_limit, part 3 (ours).
    """
    return counting_threshold(math.log(additive_patterns(n, m)), n, m, level)


def composed_share(logits: ArrayLike, margin: float = 0.0) -> Fraction:
    """Share of all (p, q) whose right value q(p) beats every other by more than `margin`; exact for the floats given.

    Args:
        logits: n x m^n x m; entry [p, t] are the logits of the m values for bridge p and the t-th table in the order
            of ``itertools.product(range(m), repeat=n)``.
        margin: in logits, >= 0. For computed logits it should cover their rounding, or ties may count as right.

    Raises:
        ValueError: not such an array, entries not finite, or a negative margin.

    Source: claim additive_limit (the quantity that it bounds).
    """
    array = np.asarray(logits, dtype=np.float64)
    require(array.ndim == 3, "logits", "an n x m^n x m array", f"{array.ndim} dimensions")
    n, tables, m = array.shape
    require(array.size > 0 and tables == m**n, "logits", "an n x m^n x m array", array.shape)
    values = matrix(array.reshape(n * tables, m), "logits").reshape(array.shape)
    least = real(margin, "margin")
    require(least >= 0, "margin", "a number >= 0", margin)
    right = np.array(list(product(range(m), repeat=n)), dtype=np.int64).T[:, :, None]
    own = np.take_along_axis(values, right, axis=2)[:, :, 0]
    np.put_along_axis(values, right, -np.inf, axis=2)
    beaten = own - values.max(axis=2) > least
    return Fraction(int(np.count_nonzero(beaten)), n * tables)


class InteractionSplit(NamedTuple):
    """What :func:`interaction_split` returns. additive, interaction: N x m; margin, certified: (N,)."""

    additive: Array
    interaction: Array
    margin: Array
    certified: NDArray[np.bool_]


def interaction_split(
    base: ArrayLike, first: ArrayLike, second: ArrayLike, both: ArrayLike, right: Sequence[int]
) -> InteractionSplit:
    """Split the logits of two updates together into an additive part and an interaction, in any network.

    Args:
        base: N x m logits f(0) of N queries without updates.
        first: f(U1).
        second: f(U2).
        both: f(U1 + U2), or of any other way to join the two.
        right: N right values, in 0..m-1, with m >= 2.

    Returns:
        additive ``f(U1) + f(U2) - f(0)``, interaction ``I = both - additive``, margin of `both` (right minus best
        rival), and which queries have a margin above ``2 max_z |I_z|`` (plus the rounding of this very computation):
        those are answered by the additive part too, so that additive_limit bounds their share.

    Raises:
        ValueError: shapes that differ, fewer than two values, or right answers out of range.

    Source: claim additive_limit, part 4 (ours).
    """
    f0, f1, f2, f12 = matrix(base, "base"), matrix(first, "first"), matrix(second, "second"), matrix(both, "both")
    for name, array in (("first", f1), ("second", f2), ("both", f12)):
        require(array.shape == f0.shape, name, f"shape {f0.shape}, as base", array.shape)
    count, m = f0.shape
    require(m >= 2, "base", "at least 2 columns", m)
    require(len(right) == count, "right", f"{count} answers, one per row", len(right))
    answers = np.array([integer(z, "right", 0) for z in right], dtype=np.int64)[:, None]
    require(answers.max(initial=0) < m, "right", f"answers below {m}", answers.max(initial=0))
    additive = f1 + f2 - f0
    interaction = f12 - additive
    own = np.take_along_axis(f12, answers, axis=1)[:, 0]
    rivals = f12.copy()
    np.put_along_axis(rivals, answers, -np.inf, axis=1)
    margin = own - rivals.max(axis=1)
    # with u = eps/2 and M the largest logit of the row: 5uM in the additive part, 9uM in I, 2uM in the margin;
    # 2 max|I| + margin + two additive entries: 30uM = 15 eps M
    largest = np.max([np.abs(f).max(axis=1) for f in (f0, f1, f2, f12)], axis=0)
    certified = margin > 2.0 * np.abs(interaction).max(axis=1) + 16.0 * EPS * largest
    return InteractionSplit(additive, interaction, margin, certified)


# ---- bridge_alignment ----


class Alignment(NamedTuple):
    """What :func:`bridge_alignment` returns: the coefficients (N,), and whether the keys are independent."""

    alpha: Array
    full_rank: bool


def bridge_alignment(K: ArrayLike, psi: ArrayLike) -> Alignment:
    """Coefficients ``alpha = K^+ psi`` with which the second adapter's changes enter at the feature psi.

    The joint edit D K^+ adds ``D alpha`` there, whatever psi is.

    Args:
        K: in x N, the one-hop keys of the second adapter, one column per bridge.
        psi: (in,), what the same matrix reads in the two-hop prompt.

    Returns:
        alpha, and whether K has full column rank (only then ``alpha = e_j`` at ``psi = k_j``, and the edit writes every
        D). Singular values below ``rank_tolerance(shape, sigma_1)`` count as zero.

    Raises:
        ValueError: not a matrix and a vector of that length.

    Source: claim bridge_alignment (ours).
    """
    k, feature = matrix(K, "K"), vector(psi, "psi")
    require(feature.size == k.shape[0], "psi", f"length {k.shape[0]}", feature.size)
    if not k.size:
        return Alignment(np.zeros(k.shape[1]), k.shape[1] == 0)
    left, values, right = np.linalg.svd(k, full_matrices=False)
    rank = int(np.count_nonzero(values > rank_tolerance(k.shape, float(values[0]))))
    alpha = right[:rank].T @ ((left[:, :rank].T @ feature) / values[:rank])
    return Alignment(alpha, rank == k.shape[1])


def bridge_cosine(key: ArrayLike, psi: ArrayLike) -> float:
    """kappa: cosine of psi to the one-hop key of the right bridge, for facts that no adapter changed.

    Args:
        key: (in,), not zero.
        psi: (in,), not zero.

    Raises:
        ValueError: different lengths, or a zero vector.

    Source: claim bridge_alignment (ours; a diagnosis, it needs the right bridge).
    """
    k, feature = vector(key, "key"), vector(psi, "psi")
    require(k.size == feature.size, "psi", f"length {k.size}", feature.size)
    require(bool(k.any()), "key", "a vector that is not zero", "zero")
    require(bool(feature.any()), "psi", "a vector that is not zero", "zero")
    k, feature = k / np.abs(k).max(), feature / np.abs(feature).max()
    return float(np.clip(k @ feature / (np.linalg.norm(k) * np.linalg.norm(feature)), -1.0, 1.0))


class AlignedAnswer(NamedTuple):
    """What :func:`aligned_answer` returns; all in logits except `certain`."""

    gain: float
    crosstalk: float
    deficit: float
    slack: float
    certain: bool


def aligned_answer(L: ArrayLike, alpha: ArrayLike, logits: ArrayLike, bridge: int, right: int) -> AlignedAnswer:
    """Sufficient condition that the second adapter, read with coefficients alpha, answers `right`.

    Args:
        L: m x N, the second adapter's changes in logits, one column per bridge; m >= 2.
        alpha: (N,), from :func:`bridge_alignment`.
        logits: (m,), at the prompt without the second adapter.
        bridge: index j of the right bridge.
        right: index z of the right value.

    Returns:
        gain ``g = min_{z' != z} (L[z, j] - L[z', j])``, crosstalk ``g' = max_{i != j, z'} |L[z, i] - L[z', i]|`` (0.0
        if N = 1), deficit ``max_{z'} (l[z'] - l[z])`` over the rivals, slack ``alpha_j g - g' sum_{i != j} |alpha_i| -
        deficit``, and certain: ``alpha_j >= 0`` and the slack exceeds the rounding of the whole computation.

    Raises:
        ValueError: sizes that do not fit, m < 2, or an index out of range.

    Source: claim bridge_alignment (ours).
    """
    changes, coefficients, base = matrix(L, "L"), vector(alpha, "alpha"), vector(logits, "logits")
    m, count = changes.shape
    require(m >= 2, "L", "at least 2 rows", m)
    require(coefficients.size == count, "alpha", f"length {count}", coefficients.size)
    require(base.size == m, "logits", f"length {m}", base.size)
    j, z = integer(bridge, "bridge", 0), integer(right, "right", 0)
    require(j < count, "bridge", f"an index below {count}", j)
    require(z < m, "right", f"an index below {m}", z)
    lead = changes[z] - np.delete(changes, z, axis=0)  # (m - 1) x N
    others = np.delete(np.abs(lead), j, axis=1)
    gain, crosstalk = float(lead[:, j].min()), float(others.max(initial=0.0))
    deficit = float((np.delete(base, z) - base[z]).max())
    spread = float(np.delete(np.abs(coefficients), j).sum())
    slack = float(coefficients[j]) * gain - crosstalk * spread - deficit
    # sums of N + 3 terms, none larger than the magnitudes below
    size = 2.0 * float(np.abs(changes).max() * np.abs(coefficients).sum()) + 2.0 * float(np.abs(base).max())
    certain = bool(coefficients[j] >= 0 and slack > (count + 3) * EPS * size)
    return AlignedAnswer(gain, crosstalk, deficit, slack, certain)


# ---- coverage_law ----


class CoverageLaw(NamedTuple):
    """Ends of the predicted accuracy."""

    low: float
    high: float


def coverage_law(c: float, retrieval: float, p2: float, m: int) -> CoverageLaw:
    """Accuracy on new first hop x changed second hop when composition acts bridge by bridge.

    Args:
        c: share of bridges that are covered.
        retrieval: lambda, share of new persons answered right on unchanged second hops over covered bridges, first-hop
            expert alone.
        p2: share of old persons answered right on changed facts over covered bridges, second-hop expert alone.
        m: values, m >= 1.

    Returns:
        low ``c retrieval p2`` (failures give the old value), high ``low + (1 - low) / m`` (failures guess).

    Raises:
        ValueError: a share outside [0, 1], or m < 1.

    Source: claim coverage_law (ours, a hypothesis: it needs lambda and p2 independent given the bridge, and bridges
    that are alike).
    """
    shares = [real(c, "c"), real(retrieval, "retrieval"), real(p2, "p2")]
    for name, share in zip(("c", "retrieval", "p2"), shares, strict=True):
        require(0 <= share <= 1, name, "a share in [0, 1]", share)
    low = math.prod(shares)
    return CoverageLaw(low, min(1.0, low + (1.0 - low) / integer(m, "m", 1)))


# ---- chain_of_thought ----


class ChainOfThought(NamedTuple):
    """Share of chains with both steps right: the least possible, and the one for independent steps."""

    lower: float
    independent: float


def chain_of_thought(s1: float, s2: float) -> ChainOfThought:
    """What two steps written out one after the other reach together.

    Args:
        s1: share of queries whose bridge step is right.
        s2: share of the same queries whose last step is right when the right bridge is given.

    Returns:
        lower ``max(0, s1 + s2 - 1)``, which the accuracy is never below, and independent ``s1 s2``, the share of chains
        right in both steps if the steps are independent. The accuracy exceeds that share by the wrong bridges that
        give the right value all the same.

    Raises:
        ValueError: a share outside [0, 1].

    Source: claim chain_of_thought (Frechet's inequality, standard).
    """
    shares = real(s1, "s1"), real(s2, "s2")
    for name, share in zip(("s1", "s2"), shares, strict=True):
        require(0 <= share <= 1, name, "a share in [0, 1]", share)
    return ChainOfThought(max(0.0, math.fsum((*shares, -1.0))), shares[0] * shares[1])
