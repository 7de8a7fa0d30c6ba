"""Branch and bound over the patterns that additive first logits reach; letters and terms of :mod:`theory.additive`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np

from theory.numerics import Array

Pattern = tuple[int, ...]


def no_better(n: int, m: int, known: int, decide: Callable[[Array], bool] | None = None) -> bool:
    """Whether no first logits agree with all tables more than `known` times in sum; False also where that is undecided.

    n and m are at least 2.

    Generic a reaches exactly one pattern per vector of counts, and any reachable set lies in such a one, so the search
    chooses one for each. Two patterns g, h reached by the same a need b_h - b_g to grow strictly along g(y) -> h(y):
    that graph has no cycle (necessary, not sufficient). A branch closes when the best agreement of its remaining
    patterns with each table sums to no more than `known`, or when its choices beat their rivals for no real a, which
    `decide` certifies (False: it cannot).
    """
    excluded = _infeasible if decide is None else decide
    every = list(product(range(m), repeat=n))
    onehot = np.zeros((len(every), n, m), dtype=np.int64)
    for i, g in enumerate(every):
        onehot[i, np.arange(n), g] = 1
    by_counts: dict[Pattern, list[int]] = defaultdict(list)
    for i, g in enumerate(every):
        by_counts[tuple(sorted(g))].append(i)
    kept = [i for i, g in enumerate(every) if _canonical(g, n)]
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
            decided = decided and excluded(np.array(rivals).reshape(len(rivals), -1))
            return
        branch = np.where(number > 1, number, len(every)).argmin()
        for i in allowed[group[allowed] == branch]:
            visit(allowed[fits[i, allowed]])

    visit(np.arange(len(kept)))
    return decided


def _total(agree: np.ndarray, allowed: np.ndarray) -> int:
    return int(agree[allowed].max(axis=0).sum(dtype=np.int64))


def _canonical(g: Pattern, n: int) -> bool:
    """False for patterns that a relabelling avoids: sort the bridges by a(., 0) - a(., 1), then the values >= 2.

    With that order of bridges no pattern has value 1 before value 0; with values 2..m-1 sorted by a(0, .) - a(1, .)
    no pattern has g(0) > g(1) >= 2.
    """
    first_one = g.index(1) if 1 in g else n
    return 0 not in g[first_one:] and not g[0] > g[1] >= 2


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


def _infeasible(rows: Array) -> bool:
    """Whether it is certified that no real a has ``rows @ a > 0``.

    The certificate is a combination of the rows that is zero, with weights not negative and not all zero (Farkas): a
    vertex found by a linear program in floats, as multiples of its least weight, checked in whole numbers.
    """
    from scipy.optimize import linprog

    count, size = rows.shape
    found = linprog(
        np.zeros(count), A_eq=np.vstack([rows.T, np.ones(count)]), b_eq=np.append(np.zeros(size), 1.0), method="highs"
    ).x
    if found is None:
        return False
    weights = [Fraction(x) for x in found.tolist()]
    least = min(x for x in weights if x > 0)
    multiples = np.array([round(x / least) for x in weights], dtype=object)
    return bool((multiples >= 0).all() and multiples.any() and not (multiples @ rows).any())
