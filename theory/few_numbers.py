"""Merges that see the second adapter through few numbers: averages of factors, beyond sums.

Glossary: bridges p, tables q, patterns as in :mod:`theory.additive`. The merged logits *see the table through d
numbers* if at each bridge they are affine in d numbers of the second adapter, with coefficients of the first, up to a
term that all values share. A sum sees m - 1 (its offsets); a *factor average* ``(B1 + B2)(A1 + A2)`` at a feature that
knows neither adapter (weights and scales are part of the factors) sees the entries of B2 A2, of B2 and of A2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from theory.additive import additive_ceiling, moment_ceiling
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, integer, require

#: bridges times numbers; beyond it the ceiling of fewer bridges is given, which holds for more
_MOST_TERMS = 2 * 10**6


def affine_patterns(k: int, m: int, d: int) -> int:
    """Most patterns of strict argmaxes on k bridges while d numbers run free: ``sum_(i <= d) C(k, i) C(m, 2)^i``.

    One more bridge adds to each pattern at most the patterns on the C(m, 2) hyperplanes where two of its values tie.
    Attained for m = 2, by monic polynomials of degree d at k places.

    Args:
        k: bridges, k >= 0.
        m: values, m >= 1.
        d: numbers, d >= 0.

    Raises:
        ValueError: an argument out of range.

    Source: claim few_numbers (cells of an arrangement, standard for m = 2).
    """
    bridges, values, numbers = integer(k, "k", 0), integer(m, "m", 1), integer(d, "d", 0)
    pairs = math.comb(values, 2)
    return sum(math.comb(bridges, i) * pairs**i for i in range(min(bridges, numbers) + 1))


def affine_ceiling(n: int, m: int, d: int) -> float:
    """Most that merged logits compose which see the table through d numbers, in the mean over tables.

    With K the number of right bridges, ``E C(K, k) <= C(n, k) min(1, affine_patterns(k, m, d) / m^k)`` for every k; the
    mean follows by the tangents of :func:`theory.additive.additive_ceiling`.

    Args:
        n: bridges, n >= 1. Time grows with n d, up to a second; beyond 2e6 the ceiling of fewer bridges is given.
        m: values, m >= 1.
        d: numbers, d >= 0; :func:`factor_numbers` for a factor average.

    Returns:
        a ceiling on P[strict argmax is q(p)] for independent uniform p and tables q, rounded to the safe side; 1.0
        where n <= d.

    Raises:
        ValueError: an argument out of range.

    Source: claim few_numbers (ours).
    """
    bridges, values, numbers = integer(n, "n", 1), integer(m, "m", 1), integer(d, "d", 0)
    size = min(bridges, max(1, _MOST_TERMS // (numbers + 1)))
    if size <= numbers or values == 1:
        return 1.0
    from scipy.special import gammaln

    k = np.arange(size + 1.0)
    factorial: Array = np.asarray(gammaln(k + 1.0))
    log_pairs, log_values = math.log(math.comb(values, 2)), math.log(values)
    patterns = np.zeros(size + 1)  # ln of the sum, i = 0
    for i in range(1, numbers + 1):
        patterns[i:] = np.logaddexp(
            patterns[i:], factorial[i:] - factorial[i] - factorial[: size + 1 - i] + i * log_pairs
        )
    # log factorials and products err by a few eps of their size, the sum by eps of its logarithm a term
    rounding = EPS * (16.0 * factorial[size] + 4.0 * numbers * log_pairs + (numbers + 4) * (1.0 + patterns))
    share = np.minimum(patterns + rounding - k * log_values * (1.0 - 2.0 * EPS), 0.0)
    choose = factorial[size] - factorial - factorial[::-1] + 16.0 * EPS * factorial[size]
    return min(1.0, moment_ceiling(share + choose))


def factor_numbers(m: int, r: int) -> int:
    """Numbers through which a factor average of rank r sees the table: ``m (r + 1) - 1``.

    r of A2, and of the differences between the values' rows of B2 and of B2 A2 ``r (m - 1)`` and ``m - 1``.

    Raises:
        ValueError: m < 1 or r < 0.

    Source: claim few_numbers (ours).
    """
    return integer(m, "m", 1) * (integer(r, "r", 0) + 1) - 1


class FactorRanks(NamedTuple):
    """Ranks of factor averages; see :func:`factor_ranks`."""

    needed: int
    enough: int
    escape: int


def factor_ranks(n: int, m: int) -> FactorRanks:
    """From which rank a factor average composes.

    Args:
        n: bridges, n >= 2.
        m: values, m >= 2.

    Returns:
        needed ``floor(n / 2)``: a factor average that answers every bridge of every table has at least this rank (n <=
        2 r + 1); enough ``ceil(n / 2)``: one of this rank does; escape: one of this rank answers a larger share than
        ``additive_ceiling(n, m)``, since rank r answers 2 r bridges always and the others one time in m.

    Raises:
        ValueError: n or m < 2.

    Source: claim few_numbers (ours).
    """
    bridges, values = integer(n, "n", 2), integer(m, "m", 2)
    enough = (bridges + 1) // 2
    excess = (Fraction(additive_ceiling(bridges, values)) - Fraction(1, values)) / (1 - Fraction(1, values))
    return FactorRanks(bridges // 2, enough, min(enough, math.floor(excess * bridges / 2) + 1))


class ComposingFactors(NamedTuple):
    """What :func:`composing_factors` returns: base logits (m,) and two updates, m x 1 of rank at most r."""

    base: Array
    first: LowRank
    second: LowRank


def composing_factors(bridge: int, table: Sequence[int], m: int, r: int) -> ComposingFactors:
    """Two adapters, made without knowledge of each other, whose factor average answers the first 2 r bridges.

    The logits are ``base + (B1 + B2)(A1 + A2)`` at the feature 1. Bridges below r are read by A1 in the columns of B2,
    one value each; bridges from r to 2 r - 1 by B1 in the entries of A2, as numbers that a concave base turns into
    values. A1 and B1 are so loud that the second adapter's own term B2 A2 does not matter. All entries are whole.

    Args:
        bridge: p, which `first` holds.
        table: n values, which `second` holds.
        m: values, m >= 1.
        r: number of columns, r >= 1; beyond the first 2 r bridges the answer is 0.

    Raises:
        ValueError: m or r < 1, no entries, or an index out of range.

    Source: claim few_numbers (ours).
    """
    values, columns = integer(m, "m", 1), integer(r, "r", 1)
    require(len(table) > 0, "table", "at least one entry", "none")
    q = [integer(z, "table", 0) for z in table]
    require(max(q) < values, "table", f"entries below {values}", max(q))
    p = integer(bridge, "bridge", 0)
    require(p < len(q), "bridge", f"an index below {len(q)}", p)
    loud = float(columns * values + 1)
    scores = np.arange(float(values))
    b1, a1 = np.zeros((values, columns)), np.zeros((columns, 1))
    if p < columns:
        a1[p] = loud * (values**2 + 1)
    elif p < 2 * columns:
        b1[:, p - columns] = 2.0 * loud * scores
    b2, a2 = np.zeros((values, columns)), np.zeros((columns, 1))
    for y, z in enumerate(q[: 2 * columns]):
        if y < columns:
            b2[z, y] = 1.0
        else:
            a2[y - columns] = z
    return ComposingFactors(-loud * scores**2, LowRank(b1, a1), LowRank(b2, a2))
