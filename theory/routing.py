"""Limits of routing: what a router that hands each query to one adapter can answer, and what gates cost a merge.

Glossary: a two-hop query has a bridge ``p``, one of ``n``, known to the first adapter alone, and a table ``q`` from
bridges to ``m`` values, known to the second adapter alone; p and q are uniform and independent, q i.i.d. over bridges.
``maxload(n, m)``: the expected number of balls in the fullest of m bins after n balls, the count of the most frequent
value of q. *Gates* weigh experts anew at every context, ``sum_k g_k U_k``: an instance-wise adapter (iLoRA,
arXiv 2408.10159).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from theory.lowrank import LowRank, frobenius
from theory.numerics import Array, integer, matrix, quotient, require, vector

Complex = NDArray[np.complex128]

#: largest n of :func:`maxload`; it takes one or two seconds there
LARGEST_N = 10**5


def maxload(n: int, m: int) -> float:
    """Expected load of the fullest of `m` bins when `n` balls fall independently and uniformly.

    Args:
        n: balls, from 1 to 10^5 (``LARGEST_N``).
        m: bins, m >= 1.

    Returns:
        the expectation, in [max(1, n/m), n]: no limit law and no estimate but ``sum_k P[max > k]`` with
        ``P[max <= k] = n! m^-n [x^n] (sum_{j <= k} x^j / j!)^m``, relative error at most about 1e-12.

    Raises:
        ValueError: n outside 1..10^5, m < 1.

    Source: claim hard_routing; the generating function is standard. Its coefficient is taken by a discrete Fourier
    transform, after the series is weighted with the probabilities of Poisson(n/m). With T(x) the part of the Poisson
    series above k, ``P[max > k] = -mean((1 - T(x) e^{(n/m)(1 - x)})^m - 1)`` over the M-th roots of unity x, with
    weights ``e^{n (x - 1)} x^-n`` that are divided by their sum: nothing cancels where T is small. What a finite M
    adds is at most the Poisson(n) mass at n +- M, n +- 2M, ... relative to that at n, less than e^-59.
    """
    balls, bins = integer(n, "n", 1), integer(m, "m", 1)
    require(balls <= LARGEST_N, "n", f"at most {LARGEST_N}", n)
    if bins == 1 or balls == 1:
        return float(balls)
    if bins >= 2**53 * balls * balls:
        return 1.0  # two balls meet with probability below n^2 / (2 m), which is rounding
    mean = balls / bins
    points = math.ceil(_reach(balls))
    steps = np.arange(points)
    angle = 2.0 * np.pi * (steps - points * (2 * steps > points)) / points  # in (-pi, pi]
    shift = -2.0 * np.sin(angle / 2) ** 2 + 1j * np.sin(angle)  # x - 1 without cancellation
    tilt = np.exp(mean * shift)
    log_weight = balls * (shift.real + 1j * (np.sin(angle) - angle))
    total = float(np.exp(log_weight).real.sum())
    log_p, least = _log_poisson(mean, balls), math.ceil(mean)
    above = np.zeros(points, dtype=np.complex128)
    expected = 0.0
    for k in range(len(log_p) - 2, least - 1, -1):
        above += math.exp(log_p[k + 1]) * np.exp(1j * angle[(k + 1) * steps % points])
        more = -_sum_of_differences(tilt, above, bins, angle * balls, log_weight) / total
        expected += max(0.0, more)
    return expected + least  # P[max > k] = 1 below n/m


def _reach(mean: float) -> float:
    """t such that Poisson(mean) exceeds mean + t with probability below e^-60 (Chernoff), and likewise its mass."""
    return 60.0 + math.sqrt(3600.0 + 120.0 * mean)


def _log_poisson(mean: float, most: int) -> Array:
    """Log probabilities of Poisson(mean), summed outwards from the mode and normalised by their sum.

    They are those of 0..most, or end where less than e^-60 is left.
    """
    ratios = math.log(mean) - np.log(np.arange(1.0, mean + _reach(mean)))
    mode = math.floor(mean)
    logs = np.concatenate([-np.cumsum(ratios[:mode][::-1])[::-1], [0.0], np.cumsum(ratios[mode:])])
    return (logs - math.log(float(np.exp(logs).sum())))[: most + 1]


def _sum_of_differences(tilt: Complex, above: Complex, power: int, turn: Array, log_weight: Complex) -> float:
    """Real part of the sum of ``(tilt - above)^power e^{-i turn} - weight``, where weight = tilt^power e^{-i turn}.

    Where `above` is small against `tilt` the difference is formed as ``weight ((1 + z)^power - 1)``, from whichever of
    its two terms is larger, without cancellation; NumPy's complex log1p would lose it.
    """
    near = np.abs(above) < 0.5 * np.abs(tilt)
    z = -above[near] / tilt[near]
    grown = power * (0.5 * np.log1p(2 * z.real + z.real**2 + z.imag**2) + 1j * np.arctan2(z.imag, 1.0 + z.real))
    sign = np.where(grown.real > 0, -1.0, 1.0)
    larger = np.exp(log_weight[near] + np.where(grown.real > 0, grown, 0.0))
    far = ~near & (tilt != above)
    whole = np.exp(power * np.log(tilt[far] - above[far]) - 1j * turn[far])
    less = (sign * larger * _expm1(sign * grown)).real.sum()
    return float(less + whole.real.sum() - np.exp(log_weight[~near]).real.sum())


def _expm1(w: Complex) -> Complex:
    """e^w - 1 without cancellation."""
    real = np.expm1(w.real) * np.cos(w.imag) - 2.0 * np.sin(w.imag / 2) ** 2
    return real + 1j * np.exp(w.real) * np.sin(w.imag)


def oracle_ceiling(n: int, m: int, bystanders: int = 0) -> float:
    """Most that a router which hands each two-hop query to one adapter answers, even if it knows the answer.

    Args:
        n: bridges, from 1 to 10^5.
        m: values of the second hop, m >= 1.
        bystanders: further choices whose answer depends on neither p nor q: the base without adapter, adapters for
            other facts. An oracle draws up to 1/m from each, so more than two choices raise the ceiling.

    Returns:
        ``min(1, (1 + bystanders)/m + maxload(n, m)/n)``: the first adapter's answer does not depend on q and is right
        1/m of the time; the second's does not depend on p and is right at most maxload/n of the time; a bystander's
        1/m; an oracle takes the union. A ceiling, not the optimum; not rounded up, exact as :func:`maxload` is.

    Raises:
        ValueError: n outside 1..10^5, m < 1, bystanders < 0.

    Source: claim hard_routing (ours).
    """
    blind = bridge_blind_ceiling(n, m)
    return min(1.0, quotient(1 + integer(bystanders, "bystanders", 0), m) + blind)


def bridge_blind_ceiling(n: int, m: int) -> float:
    """Most that an answer which does not depend on the bridge is right, ``maxload(n, m) / n``; attained.

    The best such answer names the most frequent value of q. One that ignores how often the values occur is right
    1/m of the time. Exact as :func:`maxload` is, not rounded up.

    Args:
        n: bridges, from 1 to 10^5.
        m: values of the second hop, m >= 1.

    Raises:
        ValueError: n outside 1..10^5, m < 1.

    Source: claim hard_routing (ours).
    """
    return maxload(n, m) / n


def gated_merge_error(updates: Sequence[LowRank], gates: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Error of one merged update in place of experts that gates weigh anew at every context, relative to these.

    Args:
        updates: K experts, all out x in.
        gates: contexts x K, the gates of each context.
        weights: K weights of the merge; ones where None, which is a merge that ignores the gates. The best are the mean
            gates, ``gates.mean(axis=0)``.

    Returns:
        ``(sum_u ||sum_k (w_k - g_uk) U_k||_F^2 / sum_u ||sum_k g_uk U_k||_F^2)^(1/2)``; 0.0 exactly if every context
        is served, as far as floats tell, inf if the experts add nothing anywhere and the merge does. Time grows with
        the number of different rows of `gates`.

    Raises:
        ValueError: no updates or different shapes, no contexts, or sizes that do not fit.

    Source: claim gated_merge (ours).
    """
    table = matrix(gates, "gates")
    require(table.shape[1] == len(updates), "gates", f"{len(updates)} columns, one per update", table.shape[1])
    require(len(table) > 0, "gates", "at least one context", 0)
    chosen = np.ones(len(updates)) if weights is None else vector(weights, "weights")
    require(chosen.size == len(updates), "weights", f"{len(updates)} weights", chosen.size)
    rows, counts = np.unique(table, axis=0, return_counts=True)

    def size(mixes: Array) -> float:
        norms = []
        for mix in mixes:
            merged = LowRank.combine(updates, mix.tolist())
            norm = merged.norm("frobenius")
            norms.append(norm if norm > merged.tolerance() else 0.0)
        return frobenius(np.sqrt(counts) * norms)

    error, wanted = size(chosen - rows), size(rows)
    return error / wanted if wanted else (math.inf if error else 0.0)
