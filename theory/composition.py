"""What makes two hops compose: bridges that meet their keys, coverage, the bridge written out.

Glossary: the first adapter holds a *bridge* p in Y (|Y| = n), the second a *table* q: Y -> Z (|Z| = m); the two-hop
question is right if the answer is q(p). Base, prompt and tables are independent throughout: the base knows neither.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.facts import counting_bound
from theory.lowrank import column_norms
from theory.numerics import (
    EPS,
    Array,
    exponent,
    integer,
    matrix,
    quotient,
    rank_tolerance,
    real,
    require,
    rounded,
    vector,
)

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
        deficit``, and certain: ``alpha_j >= 0`` and slack > 0. All exact for the floats given, then rounded.

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
    rivals = [y for y in range(m) if y != z]
    rows, weights, given = (np.vectorize(Fraction, otypes=[object])(x) for x in (changes, coefficients, base))
    lead = rows[z] - rows[rivals]  # (m - 1) x N
    gain = lead[:, j].min()
    crosstalk = np.delete(abs(lead), j, axis=1).max(initial=0)
    deficit = (given[rivals] - given[z]).max()
    slack = weights[j] * gain - crosstalk * np.delete(abs(weights), j).sum() - deficit
    certain = bool(weights[j] >= 0 and slack > 0)
    return AlignedAnswer(rounded(gain), rounded(crosstalk), rounded(deficit), rounded(slack), certain)


# ---- layer_order ----


def bridge_room(changes: ArrayLike, key: ArrayLike, logits: ArrayLike, right: int) -> float:
    """How far the late feature may be from the key of the right bridge so that a late second hop still answers.

    Each rival z' loses as long as ``(c_z - c_z') . psi + l_z - l_z' > 0``, c the rows of `changes`; the room is the
    distance of the key to the nearest of these half-spaces' boundaries, so it is attained: beyond it some feature
    makes a rival at least as high.

    Args:
        changes: m x in, the second adapter in logits, ``E U'`` with scale; m >= 2.
        key: (in,), k_j, what the second adapter's matrix reads at "y_j R2".
        logits: (m,), at the two-hop prompt without the second adapter.
        right: index z of the right value.

    Returns:
        delta >= 0: every psi with ``||psi - k_j|| < delta`` is answered right. Rounded to the safe side; 0.0 where the
        key itself is not answered or a difference leaves the range of floats, ``inf`` where no feature loses. At least
        the least lead over ``sqrt(2) ||changes||_2``.

    Raises:
        ValueError: sizes that do not fit, m < 2, or an index out of range.

    Source: claim layer_order, (b) (ours; Cauchy-Schwarz).
    """
    rows, feature, base = matrix(changes, "changes"), vector(key, "key"), vector(logits, "logits")
    m, size = rows.shape
    require(m >= 2, "changes", "at least 2 rows", m)
    require(feature.size == size, "key", f"length {size}", feature.size)
    require(base.size == m, "logits", f"length {m}", base.size)
    z = integer(right, "right", 0)
    require(z < m, "right", f"an index below {m}", z)
    # a rival's room does not change with the size of both: products and squares of small changes stay in range
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        normals, ahead = rows[z] - np.delete(rows, z, axis=0), base[z] - np.delete(base, z)  # (m - 1) x in, (m - 1,)
        sizes = np.array([exponent(x) for x in normals])
        normals, ahead = np.ldexp(normals, -sizes[:, None]), np.ldexp(ahead, -sizes)
        lengths = column_norms(normals.T)
        # each lead is a sum of size + 1 products of rounded differences, each length a root of as many squares: to
        # first order the quotient errs by (1.5 size + 8) eps / 2 of the sum of the sizes of the products
        normals, feature = np.column_stack([normals, ahead]), np.append(feature, 1.0)
        leads = normals @ feature - (size + 4) * EPS * (np.abs(normals) @ np.abs(feature))
        rooms = np.where(leads > 0, leads / lengths, 0.0)
    return float(rooms.min())


# ---- few_writings_limit ----


def few_writings_ceiling(writings: int, n: int, m: int) -> float:
    """Most that composes where an early second hop writes few different things, whatever reads them later.

    Args:
        writings: G >= 1, how many different things it writes at the two-hop prompt over all tables. An adapter whose
            output there is stored in so many bits has at most 2^bits.
        n: bridges, n >= 1.
        m: values, m >= 1.

    Returns:
        ``counting_bound(ln G, n, m)``: a ceiling on P[answer is q(p)] for independent uniform p and tables q.

    Raises:
        ValueError: an argument is no integer >= 1.

    Source: claim few_writings_limit (ours, from capacity_bits).
    """
    return counting_bound(math.log(integer(writings, "writings", 1)) * (1.0 + 2.0 * EPS), n, m)


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
    return CoverageLaw(low, min(1.0, low + quotient(1.0 - low, integer(m, "m", 1))))


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
        lower ``max(0, s1 + s2 - 1)`` of the floats given, which the accuracy is never below but by their rounding (.9
        and .2 give two units in the last place above .1), and independent ``s1 s2``, the share of chains
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
