"""The additive limit: what merged logits can compose when each adapter adds a term of its own.

Glossary: a *table* q maps n bridges to m values; a *pattern* g is such a map, namely what the argmax says; fixed first
logits ``a`` (n x m) *reach* g if some offsets b (m) make every ``a[y, g(y)] + b[g(y)]`` a strict maximum over z.
The *counts* of a pattern say how often each value occurs; its *weight* is ``sum_y a[y, g(y)]``.

Beyond sums, merged logits *see the table through d numbers* if at each bridge they are affine in d numbers of the
second adapter, with coefficients of the first, up to a term that all values share. A sum sees m - 1 (its offsets); a
*factor average* ``(B1 + B2)(A1 + A2)`` at a feature that knows neither adapter (weights and scales are part of the
factors) sees the entries of B2 A2, of B2 and of A2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.branching import Pattern, no_better
from theory.facts import counting_threshold
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, above, integer, matrix, numbers_of, real, require, rounded_up, vector

_MOST_PATTERNS = 20_000
_MOST_STATES = 200_000


def additive_patterns(n: int, m: int) -> int:
    """Most patterns that offsets b can reach when a is fixed: ``C(n + m - 1, n)``; every generic a reaches as many.

    Two patterns with equal counts exclude each other: each would have to weigh more than the other. So there is at
    most one per vector of counts, and these are C(n + m - 1, n). For generic a the heaviest pattern of each vector is
    reached, by the dual variables of the transport problem.

    Args:
        n: bridges, n >= 1.
        m: values, m >= 1.

    Raises:
        ValueError: n or m < 1.

    Source: claim additive_limit, part 2 (ours; the duality of the transport problem is standard).
    """
    bridges, values = integer(n, "n", 1), integer(m, "m", 1)
    return math.comb(bridges + values - 1, bridges)


def reachable_patterns(first: ArrayLike) -> list[Pattern]:
    """All patterns that some offsets b reach, in lexicographic order; exact for the floats given.

    A pattern is reached iff it is the only heaviest one among the patterns with its counts.

    Args:
        first: n x m logits a of the first adapter, one row per bridge; m ** n is at most 20000.

    Raises:
        ValueError: not a matrix, no rows or columns, or too large.

    Source: claim additive_limit, part 2 (ours).
    """
    a = matrix(first, "first")
    n, m = a.shape
    require(a.size > 0, "first", "at least one row and one column", f"{n} x {m}")
    require(n * math.log(m) <= math.log(_MOST_PATTERNS), "first", f"at most {_MOST_PATTERNS} patterns", f"{m}^{n}")
    rows = [[Fraction(x) for x in row] for row in a.tolist()]
    common = math.lcm(*(x.denominator for row in rows for x in row))
    weights = [[int(x * common) for x in row] for row in rows]
    best: dict[Pattern, tuple[int, Pattern | None]] = {}
    for g in product(range(m), repeat=n):
        weight = sum(row[z] for row, z in zip(weights, g, strict=True))
        counts = tuple(sorted(g))
        old = best.get(counts)
        if old is None or weight > old[0]:
            best[counts] = (weight, g)
        elif weight == old[0]:
            best[counts] = (weight, None)
    return sorted(g for _, g in best.values() if g is not None)


def additive_score(first: ArrayLike) -> Fraction:
    """Best share of right answers over all independent uniform tables when the first adapter's logits are `first`.

    The second adapter may choose its offsets b for each table; ties count as wrong. Exact.

    Args:
        first: n x m logits, as for :func:`reachable_patterns`.

    Raises:
        ValueError: as :func:`reachable_patterns`.

    Source: claim additive_limit (ours).
    """
    reached = np.array(reachable_patterns(first), dtype=np.int64)
    n, m = np.shape(first)
    total = sum(int((reached == np.array(q)).sum(axis=1).max()) for q in product(range(m), repeat=n))
    return Fraction(total, n * m**n)


def extremal_first(n: int, m: int) -> Array:
    """First logits ``a[y, z] = 2 y z`` (n x m, whole numbers), which reach exactly the non-decreasing patterns.

    With :func:`extremal_second` they attain :func:`monotone_score`, the optimum wherever that is proved.

    Raises:
        ValueError: n or m < 1.

    Source: claim additive_limit (ours; rearrangement inequality).
    """
    bridges, values = integer(n, "n", 1), integer(m, "m", 1)
    return 2.0 * np.outer(np.arange(bridges), np.arange(values)).astype(np.float64)


def extremal_second(table: Sequence[int], m: int) -> Array:
    """Offsets b (m whole numbers) that answer as much of `table` as any can beside :func:`extremal_first`.

    Right answers are those on a longest non-decreasing subsequence of the table; each wins by at least 1.

    Args:
        table: n values in 0..m-1.
        m: values, m >= 1.

    Raises:
        ValueError: m < 1, no entries, or an entry out of range.

    Source: claim additive_limit (ours).
    """
    values = integer(m, "m", 1)
    require(len(table) > 0, "table", "at least one entry", "none")
    q = [integer(z, "table", 0) for z in table]
    require(max(q) < values, "table", f"entries below {values}", max(q))
    pattern = _closest_monotone(q)
    # z wins at y over z - 1 iff 2 y > 2 c_z - 1, c_z = how many bridges have a pattern below z
    steps = [0.0] + [2.0 * sum(g < z for g in pattern) - 1.0 for z in range(1, values)]
    return -np.cumsum(steps)


def _closest_monotone(q: Sequence[int]) -> list[int]:
    """A non-decreasing pattern that agrees with `q` along a longest non-decreasing subsequence."""
    length = [0] * len(q)
    before = [-1] * len(q)
    last: dict[int, int] = {}  # place of each value where the longest that ends in it ends
    for i, z in enumerate(q):
        before[i] = max((j for value, j in last.items() if value <= z), key=lambda j: (length[j], -j), default=-1)
        length[i] = 1 + (length[before[i]] if before[i] >= 0 else 0)
        last[z] = i
    i = max(range(len(q)), key=lambda j: length[j])
    kept = []
    while i >= 0:
        kept.append(i)
        i = before[i]
    pattern, current, left = [], q[kept[-1]], set(kept)
    for i, z in enumerate(q):
        current = z if i in left else current
        pattern.append(current)
    return pattern


def monotone_score(n: int, m: int) -> Fraction:
    """What :func:`extremal_first` and :func:`extremal_second` reach: E[longest non-decreasing subsequence] / n, exact.

    The word is uniform over m letters, of length n. A lower bound of the optimum for every n and m, and equal to it at
    every size where that is proved (n <= 3, m <= 2, (4, 3) and (5, 3)).

    Args:
        n: bridges, n >= 1.
        m: values, m >= 1; C(n + m, m) must stay below 200000. Steps are at most m^2 times as many.

    Raises:
        ValueError: n or m < 1, or too large.

    Source: claim additive_limit (ours).
    """
    bridges, values = integer(n, "n", 1), integer(m, "m", 1)
    states = math.comb(bridges + values, values)
    require(states <= _MOST_STATES, "n", f"C(n + m, m) <= {_MOST_STATES}", f"n = {bridges}, m = {values}")
    # state: for each letter, how far the longest subsequence that ends at or below it is behind the longest of all
    ways, grown = {(0,) * values: 1}, 0  # words and, over all words so far, the lengths of their longest
    for _ in range(bridges):
        after: dict[Pattern, int] = defaultdict(int)
        grown *= values
        for behind, number in ways.items():
            for z, short in enumerate(behind):
                if short:
                    after[behind[:z] + tuple(min(short - 1, x) for x in behind[z:])] += number
                else:
                    after[tuple(x + 1 for x in behind[:z]) + behind[z:]] += number
                    grown += number
        ways = after
    return Fraction(grown, bridges * values**bridges)


def additive_optimum(n: int, m: int) -> Fraction:
    """Best possible P[strict argmax of a(p) + b(q) is q(p)], exact, for independent uniform tables.

    n = 1 or m = 1: 1. n = 2: 3/4 + 1/(4m), from part 2. n = 3: 2/3 + 1/(3m) (see below). m = 2: 1/2 +
    E[max_k S_k] / n for a fair walk S, because two values leave only threshold patterns. Otherwise a branch and bound
    over one pattern per vector of counts, whose closed branches are certified in whole numbers.

    n = 3: of the 6 orders of three distinct values the lightest has no pair that is reached, so it agrees at 1 bridge
    at most, and only one order is reached whole; patterns with a repeated value always have a reached pair. Summed:
    m^3 + (m^3 + m^2) agreements.

    Args:
        n: bridges, n >= 1.
        m: values, m >= 1.

    Returns:
        the optimum, attained by :func:`extremal_first` and :func:`extremal_second`. Permutation tables have another,
        lower one.

    Raises:
        ValueError: n or m < 1, or a size that it cannot prove: n <= 3, m <= 2 or n m <= 15 are possible; m = 2 takes
            n <= 5000, and (5, 3) some seconds.

    Source: claim additive_limit (ours; the reflection principle for m = 2).
    """
    bridges, values = integer(n, "n", 1), integer(m, "m", 1)
    value = None
    if bridges == 1 or values == 1:
        value = Fraction(1)
    elif bridges <= 3:
        value = Fraction(3, 4) + Fraction(1, 4 * values) if bridges == 2 else Fraction(2, 3) + Fraction(1, 3 * values)
    elif values == 2 and bridges <= 5000:
        value = _two_values(bridges, bridges)
    elif bridges * values <= 15:
        reached = monotone_score(bridges, values)
        value = reached if no_better(bridges, values, int(reached * bridges * values**bridges)) else None
    require(value is not None, "n", "n <= 3, m = 2 (n <= 5000) or n * m <= 15", f"n = {bridges}, m = {values}")
    assert value is not None
    return value


#: bits behind the point of fixed-point numbers that are rounded upwards
_BITS = 128


def _two_values(n: int, bits: int) -> Fraction:
    """1/2 + E[max_k S_k] / n for a fair walk S: exact with n bits, with fewer above it by at most n / 2^bits.

    By reflection E[max_k S_k] = E|S_n| - P[S_n > 0]; with j = ceil(n/2) and c = P[S_2j = 0] = C(2j, j) / 4^j the first
    is 2 j c, and twice the second 1 - c for even n, 1 for odd n.
    """
    half, share = (n + 1) // 2, 1 << bits
    for j in range(1, half + 1):
        share = -(-share * (2 * j - 1) // (2 * j))
    back = Fraction(share, 1 << bits)
    return Fraction(1, 2) + (2 * half * back - (1 - (back if n % 2 == 0 else 0)) / Fraction(2)) / n


# ---- ceilings, and the additive part of any network ----


class Tangent(NamedTuple):
    """What :func:`additive_tangent` returns: E[K] / n is at most `bound`, from the moment of order `k` at `j`."""

    bound: Fraction
    k: int
    j: int


def additive_ceiling(n: int, m: int, weights: ArrayLike | None = None, distinct: bool = False) -> float:
    """Most that additive merged logits compose, in the mean over tables: the least of all bounds that are proved.

    With K the number of bridges that are right at a table, ``E C(K, k) <= C(n, k) h_k`` for every k: of the tables
    that agree off a k-subset, at most one per vector of counts is right on all of it. C(K, k) is convex in K, so for
    every k and j >= k - 1 its tangent gives ``E K <= j + (C(n, k) h_k - C(j, k)) / C(j, k - 1)``; the ceiling is the
    least of these over n. For uniform tables beside it: 2/3 + 1/(3m) from three bridges on, and the optimum for m = 2.

    Args:
        n: bridges, n >= 1; a million take a second, more get the ceiling of a million.
        m: values, m >= 1.
        weights: m probabilities of the values, which q draws independently; by default uniform. Time grows with n m.
        distinct: q gives every bridge another value, uniform over all such tables (permutations if n = m; m >= n).

    Returns:
        a ceiling on P[strict argmax of a(p) + b(q) is q(p)] for independent uniform p and tables q, rounded to the
        safe side; 1.0 for n = 1. It never rises with n: a ceiling for fewer bridges holds for more, as the mean over
        the subsets of that size. Sharp for n <= 3 and for m = 2 (uniform tables).

    Raises:
        ValueError: n or m < 1, weights that are no m probabilities, weights with `distinct`, or `distinct` with m < n.

    Source: claim additive_limit, parts 1 and 3 (ours).
    """
    bridges, values, law = _law(n, m, weights, distinct)
    if bridges == 1 or values == 1:
        return 1.0
    size, plain = min(bridges, _MOST_BRIDGES), law is None and not distinct
    if plain and values == 2:
        return rounded_up(_two_values(size, _BITS))
    found = _tangent(size, _log_moments(size, values, law, distinct))[0]
    if plain:
        sharp = Fraction(3 * values + 1, 4 * values) if size == 2 else Fraction(2 * values + 1, 3 * values)
        found = min(found, rounded_up(sharp))
    return min(1.0, found)


def additive_tangent(n: int, m: int) -> Tangent:
    """The ceiling of one moment for uniform tables, in exact arithmetic: a proof to look at.

    Args:
        n: bridges, n >= 1; up to some thousands, since binomial coefficients are formed.
        m: values, m >= 1.

    Returns:
        the least ``(j + (C(n, k) C(k + m - 1, k) / m^k - C(j, k)) / C(j, k - 1)) / n``, with its k and j (found in
        floats; the bound of any k >= 1 and j >= k - 1 is a ceiling, whatever the search missed). At every size tried
        this is the optimum of the linear programme over the laws of K that meet all moments, so its dual certificate.

    Raises:
        ValueError: n or m < 1.

    Source: claim additive_limit, part 3 (ours).
    """
    bridges, values, _ = _law(n, m, None, False)
    if bridges == 1 or values == 1:
        return Tangent(Fraction(1), 1, 0)
    _, k, j = _tangent(bridges, _log_moments(bridges, values, None, False))
    moment = Fraction(math.comb(bridges, k) * math.comb(k + values - 1, k), values**k)
    return Tangent((j + (moment - math.comb(j, k)) / math.comb(j, k - 1)) / bridges, k, j)


def additive_threshold(
    n: int, m: int, level: float = 0.01, weights: ArrayLike | None = None, distinct: bool = False
) -> int:
    """For one world: the number of right bridges that additive logits reach with probability at most `level`.

    Args:
        n: bridges, n >= 1. Time and memory grow linearly.
        m: values, m >= 1.
        level: probability over the draw of the table, in (0, 1).
        weights, distinct: the law of the table, as in :func:`additive_ceiling`.

    Returns:
        the smallest t with ``C(n, k) h_k / C(t, k) <= level`` for some k <= t (Markov's inequality for the moment of
        order k) or, for uniform tables, ``C(n + m - 1, n) P[Bin(n, 1/m) >= t] <= level`` or ``1 - N_t / m^n <= level``
        (the lightest orders, see :func:`_lightest`: of use at levels above one half only); n + 1 if there is none.

    Raises:
        ValueError: as :func:`additive_ceiling`, or level outside (0, 1).

    Source: claim additive_limit, part 3 (ours).
    """
    chance = real(level, "level")
    require(0 < chance < 1, "level", "a probability in (0, 1)", level)
    bridges, values, law = _law(n, m, weights, distinct)
    if values == 1:
        return bridges + 1
    factorial, moments = _log_factorials(bridges), _log_moments(bridges, values, law, distinct)
    least = bridges + 1
    if law is None and not distinct:
        least = counting_threshold(moments[bridges] + bridges * math.log(values), bridges, values, chance)
    # C(t, k) >= C(n, k) h_k / level for some k: each k allows all t from some place on, so the least t by bisection
    wanted = moments - math.log(chance)
    low, high = 0, least
    while high - low > 1:
        t = (low + high) // 2
        k = np.arange(t + 1)
        reached = bool((factorial[t] - factorial[k] - factorial[t - k] >= wanted[k]).any())
        low, high = (low, t) if reached else (t, high)
    # N_t <= C(n + m - 1, n), so that sizes at which the lightest orders say nothing need not be counted
    if law is None and not distinct and moments[bridges] >= math.log1p(-chance):
        return next((t for t in range(1, high) if _lightest(bridges, values, t) <= Fraction(chance)), high)
    return high


def _lightest(n: int, m: int, t: int) -> Fraction:
    """``1 - N_t / m^n``, N_t the multisets of n of m values none of which occurs t times or more.

    The lightest order of each is a table with fewer than t right bridges: two right answers that differ would make the
    order heavier than its exchange. N_t by inclusion and exclusion over the values that occur t times.
    """
    multisets = (math.comb(m, j) * math.comb(n - j * t + m - 1, n - j * t) for j in range(min(m, n // t) + 1))
    return 1 - Fraction(sum((-1) ** j * number for j, number in enumerate(multisets)), m**n)


#: more bridges get the ceiling of this many, more values that of so many: it falls with both
_MOST_BRIDGES, _MOST_VALUES = 10**6, 2**60


def _law(n: int, m: int, weights: ArrayLike | None, distinct: bool) -> tuple[int, int, tuple[float, ...] | None]:
    """Bridges, values and the weights of the values in falling order, checked."""
    bridges, values = integer(n, "n", 1), integer(m, "m", 1)
    require(not distinct or values >= bridges, "distinct", f"m >= n = {bridges} values", values)
    if weights is None:
        return bridges, min(values, _MOST_VALUES), None
    require(not distinct, "weights", "none with distinct answers", "weights")
    given = vector(weights, "weights")
    require(given.size == values, "weights", f"{values} probabilities, one per value", f"{given.size} entries")
    off = math.fsum(given) - 1.0
    # a sum of so many terms, and a division of each by it, are off by half as much
    sound = bool((given >= 0).all()) and abs(off) <= values * EPS
    require(
        sound, "weights", "probabilities that sum to 1", f"{float(given.min()):.3g} at least, an excess of {off:.3g}"
    )
    return bridges, values, tuple(sorted((float(above(w, "weights")) for w in given.tolist()), reverse=True))


def moment_ceiling(moments: Array) -> float:
    """E[K] / n at most, from ``ln E C(K, k)`` for k = 0..n, n >= 1 (bounds from above will do): the least tangent.

    Rounded up by 8 eps; bounds are to cover besides that ln n! is known up to some eps of it.
    """
    return _tangent(len(moments) - 1, moments)[0]


def _tangent(n: int, moments: Array) -> tuple[float, int, int]:
    """(ceiling, k, j): the least over k of the place where the interpolated C(., k) reaches its moment, over n."""
    factorial = _log_factorials(n)

    def places(k: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
        def log_choose(j: NDArray[np.int64]) -> Array:
            inside = factorial[j] - factorial[k] - factorial[np.maximum(j - k, 0)]
            return np.asarray(np.where(j >= k, inside, -np.inf))

        low, high = k - 1, np.full_like(k, n)  # C(low, k) <= moment <= C(high, k)
        while bool((high - low > 1).any()):
            middle = (low + high) // 2
            below = log_choose(middle) <= moments[k]
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        with np.errstate(over="ignore"):  # a moment smaller than floats can be is reached at once
            under, over = np.exp(log_choose(low) - moments[k]), np.exp(log_choose(low + 1) - moments[k])
        return low + (1.0 - under) / (over - under), low

    # at every size tried places fall and then rise with k, so that the least lies near the least of every so many; any
    # order gives a ceiling
    k, stride = np.arange(1, n + 1), math.isqrt(n)
    some = k[::-stride]
    k = k[np.abs(k - some[np.argmin(places(some)[0])]) < stride]
    found, j = places(k)
    at = int(np.argmin(found))
    return float(found[at]) / n * (1.0 + 8 * EPS), int(k[at]), int(j[at])


@lru_cache(maxsize=64)
def _log_moments(n: int, m: int, weights: tuple[float, ...] | None, distinct: bool) -> Array:
    """``ln C(n, k) h_k`` for k = 0..n, above the true value by no more than its rounding.

    h_k is C(k + m - 1, k) / m^k for uniform values, 1/k! for distinct answers, else the complete homogeneous
    polynomial of the weights.
    """
    factorial = _log_factorials(n)
    k = np.arange(n + 1, dtype=np.float64)
    if weights is None:
        growth = np.zeros_like(factorial)  # ln k! h_k
        if not distinct:  # C(k + m - 1, k) / m^k = (1/k!) prod_(i < k) (1 + i/m)
            growth[1:] = np.cumsum(np.log1p(np.arange(n) / float(m)))
        logs, off = growth - factorial, k * growth
    else:
        whole = k * math.log(weights[0])  # the polynomial of the others over the largest, from zero on
        logs, off = np.zeros_like(factorial), -whole
        for w in weights[1:]:  # one factor of the series 1 / prod_z (1 - w_z x) after the other
            if w > 0:
                shift = k * math.log(w / weights[0])
                sums = np.logaddexp.accumulate(logs - shift)
                logs = sums + shift
                off += (k + 1) * sums
        logs = logs + whole
    # sums of k terms err by k eps times their size, log factorials by a few eps of theirs
    rounding = EPS * (off + 8.0 * factorial[n])
    return np.asarray(logs + factorial[n] - factorial - factorial[::-1] + rounding)


@lru_cache(maxsize=8)
def _log_factorials(n: int) -> Array:
    """ln k! for k = 0..n."""
    from scipy.special import gammaln

    return np.asarray(gammaln(np.arange(1.0, n + 2.0)))


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
    array = numbers_of(logits, "logits", "an n x m^n x m array of real numbers")
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


# ---- merges that see the second adapter through few numbers: averages of factors ----

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
    mean follows by the tangents of :func:`additive_ceiling`.

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
    tables = k * log_values
    share = np.minimum(patterns - tables, 0.0)
    # log factorials err by a few eps of their size, each addend of the sum by eps of k ln m where share is below 0
    rounding = (numbers + 16) * EPS * (factorial[size] + tables)
    return min(1.0, moment_ceiling(share + factorial[size] - factorial - factorial[::-1] + rounding))


def factor_numbers(m: int, r: int) -> int:
    """Numbers through which a factor average of rank r sees the table: ``m (r + 1) - 1``.

    r of A2, and of the differences between the values' rows of B2 and of B2 A2 ``r (m - 1)`` and ``m - 1``.

    Raises:
        ValueError: m < 1 or r < 0.

    Source: claim few_numbers (ours).
    """
    return integer(m, "m", 1) * (integer(r, "r", 0) + 1) - 1


def composing_rank(n: int) -> int:
    """Least rank at which a factor average answers every bridge of every table: ``floor(n / 2)``.

    Of two values or more; one of rank r does if and only if n <= 2 r + 1, see :func:`composing_factors`.

    Args:
        n: bridges, n >= 2.

    Raises:
        ValueError: n < 2.

    Source: claim few_numbers (ours).
    """
    return integer(n, "n", 2) // 2


def escape_rank(n: int, m: int) -> int:
    """A rank at which a factor average answers a larger share than ``additive_ceiling(n, m)``, so more than any sum.

    Rank r answers 2 r + 1 bridges always and the others one time in m; the least r for which that exceeds the ceiling.

    Args:
        n: bridges, n >= 2.
        m: values, m >= 2.

    Raises:
        ValueError: n or m < 2.

    Source: claim few_numbers (ours).
    """
    bridges, values = integer(n, "n", 2), integer(m, "m", 2)
    excess = (Fraction(additive_ceiling(bridges, values)) - Fraction(1, values)) / (1 - Fraction(1, values))
    return (math.floor(excess * bridges) + 1) // 2


class ComposingFactors(NamedTuple):
    """What :func:`composing_factors` returns: base logits (m,) and two updates, m x 1 of rank at most r."""

    base: Array
    first: LowRank
    second: LowRank


def composing_factors(bridge: int, table: Sequence[int], m: int, r: int) -> ComposingFactors:
    """Two adapters, made without knowledge of each other, whose factor average answers the first 2 r + 1 bridges.

    The logits are ``base + (B1 + B2)(A1 + A2)`` at the feature 1. Bridges below r are read by a loud A1 in the columns
    of B2, those from r + 1 to 2 r - 1 by a loud B1 in the entries of A2, as numbers that a concave term turns into
    values. Bridges r and 2 r read Q = B2[:, 0] and v = A2[0] together, as ``(P + Q)(u + v)`` with u + v negative and
    positive. Where bridges r and 2 r have different values, or all three the same, v stands at ``-(2 c + 1)``, c the
    value of bridge 0: there what bridge r reads is largest at c and what bridge 2 r reads is smallest at c, up to Q,
    which undoes the second and marks the values wanted. Else v is so low that both signs are negative. All entries are
    whole.

    Args:
        bridge: p, which `first` holds.
        table: n values, which `second` holds.
        m: values, m >= 1.
        r: number of columns, r >= 1; beyond the first 2 r + 1 bridges the answer is 0.

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
    # each louder than all that disturbs it: a mark than the other columns' B2 A2 and the rounding of Q, and so on
    width, mark = 4 * values, columns * values + 2
    scale = 2 * width * mark
    hold = scale * width**3
    loud = hold * width**2
    z = np.arange(values, dtype=object)  # whole numbers of any size until the end
    ticks = 2 * z
    ground, fall, rise = (scale * np.cumsum(x) for x in (-ticks * (width - ticks), (width - ticks) * (z > 0), ticks))
    b1, a1, b2, a2 = (np.zeros(shape, dtype=object) for shape in 2 * ((values, columns), (columns, 1)))
    if p < columns:
        a1[p] = loud
    elif p == columns:
        b1[:, 0] = -fall
    elif p == 2 * columns:
        b1[:, 0], a1[0] = rise, width
    else:
        b1[:, 0], a1[0] = -loud * z**2, loud
        if p < 2 * columns:
            b1[:, p - columns] = 2 * loud**2 * z

    def held(seat: int) -> int:
        return q[seat] if seat < len(q) else 0

    for j in range(1, columns):
        b2[held(j), j], a2[j] = 1, held(columns + j)
    third, first, second = held(0), held(columns), held(2 * columns)
    if first == second != third:
        a2[0] = -width - 1
        b2[third, 0], b2[first, 0] = hold, -hold
    else:
        a2[0] = -2 * third - 1
        rest = width + a2[0, 0]
        b2[:, 0] = -((ground + rise * rest) // rest)
        b2[second, 0] += mark
        b2[first, 0] -= hold * (first != third)
    return ComposingFactors(ground.astype(float), LowRank(b1.astype(float), a1.astype(float)),
                            LowRank(b2.astype(float), a2.astype(float)))  # fmt: skip
