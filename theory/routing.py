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
    points = math.ceil(_reach(balls, 60.0))
    steps = np.arange(points)
    angle = 2.0 * np.pi * (steps - points * (2 * steps > points)) / points  # in (-pi, pi]
    shift = -2.0 * np.sin(angle / 2) ** 2 + 1j * np.sin(angle)  # x - 1 without cancellation
    tilt = np.exp(mean * shift)
    phase = balls * (np.sin(angle) - angle)
    weight = np.exp(balls * shift.real + 1j * phase)
    total = float(weight.real.sum())
    # beyond `last` balls a bin is impossible, or of probability below e^-60 in all bins together
    last = min(balls, math.ceil(mean + _reach(mean, 60.0 + math.log(bins) + math.log(balls))))
    log_p = _log_poisson(mean, last)
    above = np.zeros(points, dtype=np.complex128)
    expected = 0.0
    for k in range(last - 1, -1, -1):
        above += math.exp(log_p[k + 1]) * np.exp(1j * angle[(k + 1) * steps % points])
        more = -_sum_of_differences(tilt, above, bins, angle * balls, weight) / total
        if k < mean or more >= 1.0 - 1e-15:
            return expected + k + 1  # P[max > k] = 1 from here down, exactly below n/m
        expected += max(0.0, more)
    return expected


def _reach(mean: float, nats: float) -> float:
    """t such that Poisson(mean) exceeds mean + t with probability below e^-nats (Chernoff), and likewise its mass."""
    return nats + math.sqrt(nats * nats + 2.0 * nats * mean)


def _log_poisson(mean: float, last: int) -> Array:
    """Log probabilities of Poisson(mean) at 0..last, summed outwards from the mode and normalised by their sum."""
    end = math.ceil(mean + _reach(mean, 60.0))
    ratios = math.log(mean) - np.log(np.arange(1.0, max(end, last) + 1.0))
    mode = math.floor(mean)
    logs = np.concatenate([-np.cumsum(ratios[:mode][::-1])[::-1], [0.0], np.cumsum(ratios[mode:])])
    return (logs - math.log(float(np.exp(logs).sum())))[: last + 1]


def _sum_of_differences(tilt: Complex, above: Complex, power: int, turn: Array, weight: Complex) -> float:
    """Real part of the sum of ``(tilt - above)^power e^{-i turn} - weight``, where weight = tilt^power e^{-i turn}.

    Where `above` is small against `tilt` the difference is formed as ``weight ((1 + z)^power - 1)`` without
    cancellation; NumPy's complex log1p would lose it.
    """
    near = (np.abs(above) < 0.5 * np.abs(tilt)) & (np.abs(weight) > 1e-200)  # (1 + z)^power <= 1 / |weight|
    z = -above[near] / tilt[near]
    size = 0.5 * power * np.log1p(2 * z.real + z.real**2 + z.imag**2)
    twist = power * np.arctan2(z.imag, 1.0 + z.real)
    less = np.expm1(size) * np.cos(twist) - 2.0 * np.sin(twist / 2) ** 2 + 1j * np.exp(size) * np.sin(twist)
    far = ~near & (tilt != above)
    whole = np.exp(power * np.log(tilt[far] - above[far]) - 1j * turn[far])
    return float((weight[near] * less).real.sum() + whole.real.sum() - weight[~near].real.sum())


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
