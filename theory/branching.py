"""Branch and bound over the patterns that additive first logits reach; letters and terms of :mod:`theory.additive`."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np

from theory.numerics import Array

Pattern = tuple[int, ...]


def no_better(n: int, m: int, known: int, decide: Callable[[Array], bool | None] | None = None) -> bool:
    """Whether no first logits agree with all tables more than `known` times in sum; False also where that is undecided.

    Generic a reaches exactly one pattern per vector of counts, and any reachable set lies in such a one, so the search
    chooses one for each. Two patterns g, h reached by the same a need b_h - b_g to grow strictly along g(y) -> h(y):
    that graph has no cycle (necessary, not sufficient). A branch closes when the best agreement of its remaining
    patterns with each table sums to no more than `known`, or when its choices beat their rivals for no real a, which
    `decide` certifies.
    """
    judge = _has_weights if decide is None else decide
    every = list(product(range(m), repeat=n))
    onehot = np.zeros((len(every), n, m), dtype=np.int64)
    for i, g in enumerate(every):
        onehot[i, np.arange(n), g] = 1
    by_counts: dict[Pattern, list[int]] = defaultdict(list)
    for i, g in enumerate(every):
        by_counts[tuple(sorted(g))].append(i)
    kept = [i for i, g in enumerate(every) if _canonical(g, n, m)]
    groups = {i: k for k, members in enumerate(by_counts.values()) for i in members}
    group = np.array([groups[i] for i in kept])
    agree = np.array([[sum(map(int.__eq__, every[i], q)) for q in every] for i in kept], dtype=np.int16)
    fits = np.array([[_acyclic(every[i], every[j], m) for j in kept] for i in kept])
    members = list(by_counts.values())
    decided = True

    def visit(allowed: np.ndarray) -> None:
        nonlocal decided
        number = np.bincount(group[allowed], minlength=len(members))
        if not number.all() or _total(agree, allowed) <= known:
            return
        if number.max() == 1:
            rivals = [onehot[kept[i]] - onehot[j] for i in allowed for j in members[group[i]] if j != kept[i]]
            decided = decided and judge(np.array(rivals).reshape(len(rivals), -1)) is False
            return
        branch = np.where(number > 1, number, len(every)).argmin()
        for i in allowed[group[allowed] == branch]:
            visit(allowed[fits[i, allowed]])

    visit(np.arange(len(kept)))
    return decided


def _total(agree: np.ndarray, allowed: np.ndarray) -> int:
    return int(agree[allowed].max(axis=0).sum(dtype=np.int64))


def _canonical(g: Pattern, n: int, m: int) -> bool:
    """False for patterns that a relabelling avoids: sort the bridges by a(., 0) - a(., 1), then the values >= 2.

    With that order of bridges no pattern has value 1 before value 0; with values 2..m-1 sorted by a(0, .) - a(1, .)
    no pattern has g(0) > g(1) >= 2. (Sorting all m values and then the bridges >= 2 is the same with roles changed.)
    """
    if n >= m:
        first_one = g.index(1) if 1 in g else n
        return 0 not in g[first_one:] and not g[0] > g[1] >= 2
    tail = g[2:]
    first_one = tail.index(1) if 1 in tail else len(tail)
    return 0 not in tail[first_one:] and g[0] <= g[1]


def _acyclic(g: Pattern, h: Pattern, m: int) -> bool:
    """No cycle in the graph with an edge g(y) -> h(y) wherever they differ."""
    edges = {(a, b) for a, b in zip(g, h, strict=True) if a != b}
    left = set(range(m))
    while left:
        sinks = {z for z in left if not any(a == z and b in left for a, b in edges)}
        if not sinks:
            return False
        left -= sinks
    return True


def _has_weights(rows: Array) -> bool | None:
    """Whether some real a has ``rows @ a > 0``; True and False are certified in whole numbers, else None.

    The certificates come from a linear program in floats and are checked exactly: a vector of whole numbers, or a
    non-negative combination of the rows that is zero (Farkas).
    """
    from scipy.optimize import linprog

    count, size = rows.shape
    # maximise t subject to rows @ a >= t, t <= 1
    system = np.hstack([-rows, np.ones((count, 1))])
    result = linprog(np.append(np.zeros(size), -1.0), A_ub=system, b_ub=np.zeros(count),
                     bounds=[(None, None)] * size + [(None, 1.0)], method="highs")  # fmt: skip
    if result.x is None:
        return None
    if any((rows @ np.rint(result.x[:size] * 2.0**k).astype(np.int64) > 0).all() for k in range(12)):
        return True
    ratios = [Fraction(-x).limit_denominator(1000) for x in result.ineqlin.marginals]
    common = math.lcm(*(x.denominator for x in ratios))
    multipliers = np.array([int(x * common) for x in ratios], dtype=np.int64)
    proved = bool((multipliers >= 0).all() and multipliers.any() and not (multipliers @ rows).any())
    return False if proved else None
