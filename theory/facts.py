"""Limits of storing facts in an update: exact rank, rank for a margin, and counting bounds.

Glossary: ``K`` (in x N) keys as columns, the features at which facts are read; ``D`` (out x N) wanted changes of the
outputs there; ``n`` queries or facts, each with one of ``m`` equally likely answers; ``ln G`` the natural logarithm of
the number of answer tables that can be expressed at all.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.lowrank import LowRank, column_norms, frobenius
from theory.numerics import (
    EPS,
    Array,
    above,
    below,
    exact,
    integer,
    matrix,
    quotient,
    rank_tolerance,
    real,
    require,
    rounded_up,
    rounding,
)


class LeastRank(NamedTuple):
    """What :func:`least_rank` returns."""

    feasible: bool
    rank: int
    update: LowRank | None


def least_rank(K: ArrayLike, D: LowRank | ArrayLike) -> LeastRank:
    """Least rank of an update U with ``U K = D``, and the joint least-norm edit ``D K^+`` that attains it.

    Args:
        K: in x N keys as columns, N >= 0; columns of very different norms are fine.
        D: out x N wanted changes of the output, one column per key; or an update (out x in) that makes them. Then they
            are known up to ``D.tolerance() ||k_j||``, which is far more than their own rounding where factors cancel.

    Returns:
        feasible (the row space of D lies in that of K, so that some U exists), rank (rank D, which every such U has at
        least) and the edit as a LowRank with exactly `rank` columns, or None where none exists.

        Decided numerically, after dividing each column of K and D by the key's norm (which changes neither the
        solutions nor the ranks): a singular value counts as zero at ``4 eps max(shape)`` times the largest one, and D
        as inside the row space of K when what sticks out is at most that times ``cond(K) ||D||``, the error of the
        computed row space. Keys with a condition number near 1/eps can therefore pass as feasible. Where feasible,
        ``||U k_j - d_j|| <= rank_tolerance(shapes, cond(K) ||D||) ||k_j||`` with K and D divided as above. What D is
        known up to, if it is an update, is added to all three.

    Raises:
        ValueError: not matrices, or D has not one column per key.

    Source: claim fact_rank (standard).
    """
    k = matrix(K, "K")
    d, uncertain = (D.apply(k), D.tolerance()) if isinstance(D, LowRank) else (matrix(D, "D"), 0.0)
    uncertain *= math.sqrt(k.shape[1])
    require(d.shape[1] == k.shape[1], "D", f"{k.shape[1]} columns, one per key", f"{d.shape[1]} columns")
    norms = column_norms(k)
    live = norms > 0
    unit_d = d / np.where(live, norms, 1.0)
    rank, left, weight, right = _thin_svd(unit_d, uncertain)
    key_rank, key_left, key_values, key_right = _thin_svd(k[:, live] / norms[live])
    condition = float(key_values[0] / key_values[-1]) if key_rank else 1.0
    inside = unit_d[:, live]
    outside = frobenius(inside - (inside @ key_right.T) @ key_right)
    allowed = rank_tolerance((*k.shape, *d.shape), condition * frobenius(inside)) + uncertain
    if d[:, ~live].any() or outside > allowed:
        return LeastRank(False, rank, None)
    # D K^+ = P S (Q^T K^+) with the thin SVD D = P S Q^T, so that the factors have rank D columns
    reading = (right[:, live] @ key_right.T) / key_values @ key_left.T
    return LeastRank(True, rank, LowRank(left * weight, reading))


def _thin_svd(a: Array, uncertain: float = 0.0) -> tuple[int, Array, Array, Array]:
    """Numerical rank r of a matrix known within `uncertain`, left (rows x r), values (r), right (r x columns)."""
    if not a.size:
        return 0, np.zeros((a.shape[0], 0)), np.zeros(0), np.zeros((0, a.shape[1]))
    left, values, right = np.linalg.svd(a, full_matrices=False)
    rank = int(np.count_nonzero(values > rank_tolerance(a.shape, float(values[0])) + uncertain))
    return rank, left[:, :rank], values[:rank], right[:rank]


def margin_rank_floor(n_answers: int, eps: float | Fraction, powers: int = 100) -> int:
    """Least rank of an update that gives N facts with N distinct answers a margin, for any keys.

    Args:
        n_answers: N >= 1, the number of distinct right answers. Facts that share an answer count once.
        eps: largest change of another right answer's logit, relative to the rise of the fact's own right logit;
            eps >= 0.
        powers: entrywise powers that are tried, >= 1. With 1 the root mean square of the changes will do for `eps`;
            the others need the largest.

    Returns:
        the least r with ``C(r + k - 1, k) (1 + (N - 1) eps^(2k)) >= N`` for every k <= powers up to the first with
        ``(N - 1) eps^(2k) <= 1``, at least 1: the bound for
        the matrix of logit changes (k = 1), and for its entrywise powers, whose rank is at most C(r + k - 1, k). A
        float `eps` is first rounded up by one unit in the last place of its format, so that one that stands for 1/3 or
        1/sqrt(5) never gives a rank above the true floor; a Fraction is exact.

    Raises:
        ValueError: n_answers or powers < 1, or eps negative or not finite.

    Source: claim margin_rank: (tr M)^2 <= rank(M) ||M||_F^2 for the N x N matrix of logit changes and its entrywise
    powers (Alon; as a floor for adapters ours).
    """
    count, bound, orders = integer(n_answers, "n_answers", 1), above(eps, "eps"), integer(powers, "powers", 1)
    require(bound >= 0, "eps", "a number >= 0", eps)
    square = min(bound, Fraction(1)) ** 2
    floor, left = 1, Fraction(count - 1)
    for k in range(1, orders + 1):
        left *= square
        floor = max(floor, _least_power_rank(k, count / (1 + left)))
        if left <= 1:  # higher powers can ask for twice as many facts at most, in larger spaces
            break
    return floor


def _least_power_rank(k: int, wanted: Fraction) -> int:
    """Least r >= 1 with ``C(r + k - 1, k) >= wanted``."""
    low, high = 0, 1
    while math.comb(high + k - 1, k) < wanted:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if math.comb(middle + k - 1, k) >= wanted else (middle, high)
    return high


def circle_update(n_answers: int) -> LowRank:
    """An N x N update of rank at most 2 that gives N one-hot keys N distinct answers: classes on a circle.

    Entry (i, j), the logit of class i at key j, is ``cos(2 pi (i - j) / N)``: the right one is 1, every rival is at
    most ``1 - circle_margin(N)``.

    Raises:
        ValueError: n_answers < 1.

    Source: claim margin_rank (standard).
    """
    count = integer(n_answers, "n_answers", 1)
    angles = 2.0 * np.pi * np.arange(count) / count
    codes = np.vstack([np.cos(angles), np.sin(angles)])
    return LowRank(codes.T, codes)


def circle_margin(n_answers: int) -> float:
    """Margin of :func:`circle_update` relative to the right logit: ``1 - cos(2 pi / N)``, for N >= 2.

    Raises:
        ValueError: n_answers < 2 (one class has no rival).

    Source: claim margin_rank (standard).
    """
    count = integer(n_answers, "n_answers", 2)
    return 2.0 * math.sin(quotient(math.pi, count)) ** 2


def random_code_eps(n_answers: int, r: int, failure: float = 1.0) -> float:
    """Coherence that N random unit codes in r dimensions keep over all pairs, ``sqrt((4 ln N + 2 ln(1/failure)) / r)``.

    With U = C^T C for such codes C (r x N) every fact rises by 1 and every other right class moves by at most this.

    Args:
        n_answers: N >= 1.
        r: dimension of the codes, which is the rank of the update; r >= 1.
        failure: the probability that uniform independent codes miss it is less than this, in [1e-300, 1]. The default
            1, exact in every format, says that such codes exist (a random draw misses with probability at most
            1 - 1/N).

    Returns:
        the coherence, rounded up; a value of 1 or more says nothing.

    Raises:
        ValueError: N or r < 1, failure outside [1e-300, 1].

    Source: claim margin_rank (Chernoff bound for one coordinate of a unit vector, union over pairs; standard).
    """
    count, dimension = integer(n_answers, "n_answers", 1), integer(r, "r", 1)
    chance = real(failure, "failure")
    require(1e-300 <= chance <= 1, "failure", "a probability in [1e-300, 1]", failure)
    if chance < 1:  # the smallest number of a format stands for those down to its half
        chance = float(below(failure, "failure")) or chance / 2
    spread = math.sqrt(4.0 * math.log(count) - 2.0 * math.log(chance)) * (1.0 + rounding())
    return rounded_up(Fraction(spread) / Fraction(math.isqrt(dimension << 128), 2**64))  # at any dimension


def counting_bound(log_hypotheses: float, n: int, m: int) -> float:
    """Most that the best of G answer tables, chosen after the truth is known, agrees with a random truth in the mean.

    ``(1/n) sum_{k=1..n} min(1, G P[Bin(n, 1/m) >= k])``.

    Args:
        log_hypotheses: ``ln G`` >= 0, natural logarithm; may be huge.
        n: queries, 1 <= n <= 10^8. Time and memory grow linearly: about 10 ms at 1e5, 100 MB at 1e6.
        m: equally likely answers of each query, independent, m >= 1.

    Returns:
        a share in [1/m, 1], rounded up by ``2 max(n + 2, ln m)`` eps; exactly ``1/m`` at ln G = 0.

    Raises:
        ValueError: log_hypotheses negative or not finite, n or m < 1, n > 10^8.

    Source: claims capacity_bits and additive_limit (union bound over hypotheses; ours as a bound for adapters).
    """
    log_g = real(log_hypotheses, "log_hypotheses")
    require(log_g >= 0, "log_hypotheses", "a number >= 0", log_hypotheses)
    count, values = _queries(n, "n"), integer(m, "m", 1)
    chance = 1 / values
    if log_g == 0 or values == 1:
        return chance  # the mean of the binomial, without rounding
    tails = _log_binomial_tails(count, values)
    mean = float(np.exp(np.minimum(log_g + tails, 0.0)).sum()) / count
    room = 2.0 * max(count + 2, math.log(values))  # n sums, of logarithms as large as that of m
    return min(1.0, max(chance, mean * (1.0 + room * EPS), math.ulp(0.0)))


def counting_threshold(log_hypotheses: float, n: int, m: int, level: float = 0.01) -> int:
    """Number of right answers that the best of G tables reaches with probability at most `level`.

    Args:
        log_hypotheses: ``ln G`` >= 0, natural logarithm.
        n: queries, n >= 1.
        m: equally likely answers, m >= 1.
        level: in (0, 1).

    Returns:
        the smallest k >= 1 with ``G P[Bin(n, 1/m) >= k] <= level``: in one world (one draw of the truth) k or more
        right answers have at most this probability. n + 1 if no k <= n will do. What rounding cannot tell from more
        than the level counts as more.

    Raises:
        ValueError: as :func:`counting_bound`, or level outside (0, 1).

    Source: claim capacity_bits.
    """
    log_g = real(log_hypotheses, "log_hypotheses")
    require(log_g >= 0, "log_hypotheses", "a number >= 0", log_hypotheses)
    count, values = _queries(n, "n"), integer(m, "m", 1)
    chance = real(level, "level")
    require(0 < chance < 1, "level", "a probability in (0, 1)", level)
    if values == 1:
        return count + 1
    tails = _log_binomial_tails(count, values)
    room = 4.0 * EPS * count * (1.0 - tails)  # n sums, of logarithms as large as their own
    return 1 + int(np.count_nonzero(log_g + tails + room > math.log(chance)))


def capacity_ceiling(bits: float, n_facts: int, n_values: int) -> float:
    """Most that an adapter of `bits` bits recalls, as mean accuracy over random facts.

    Args:
        bits: bits of the whole adapter as it is stored, >= 0 and of any size. They name at most 2^bits functions.
        n_facts: facts, at most 10^8, each with an independent uniform answer.
        n_values: possible answers.

    Returns:
        ``counting_bound(bits ln 2, n_facts, n_values)``.

    Raises:
        ValueError: bits negative or not finite, n_facts or n_values < 1, n_facts > 10^8.

    Source: claim capacity_bits.
    """
    size = exact(bits, "bits")
    require(size >= 0, "bits", "a number >= 0", bits)
    facts, values = _queries(n_facts, "n_facts"), integer(n_values, "n_values", 1)
    size = min(size, Fraction(facts * values.bit_length()))  # which name every table of answers
    return counting_bound(float(size) * math.log(2) * (1.0 + 2.0 * EPS), facts, values)


def _queries(n: int, name: str) -> int:
    count = integer(n, name, 1)
    require(count <= 10**8, name, "at most 10^8, since the tails are summed one by one", count)
    return count


def _log_binomial_tails(n: int, m: int) -> Array:
    """``ln P[Bin(n, 1/m) >= k]`` for k = 1..n, m >= 2.

    The log probabilities are summed outwards from the mode, where the terms are small, and normalised by their own
    sum: no factorial is formed, so nothing overflows and large numbers do not cancel.
    """
    below = np.arange(n, dtype=np.float64)
    ratios = np.log(n - below) - np.log(below + 1.0) - math.log(m - 1)  # ln P[k + 1] / P[k]
    mode = n // m  # or one above it
    logs = np.concatenate([-np.cumsum(ratios[:mode][::-1])[::-1], [0.0], np.cumsum(ratios[mode:])])
    logs -= math.log(float(np.exp(logs).sum()))
    tails = np.logaddexp.accumulate(logs[::-1])[::-1]
    return np.minimum(tails[1:], 0.0)
