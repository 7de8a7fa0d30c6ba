"""Many adapters at once: which belong together, which are the same, which pairs are worst; a report of one screen."""

from __future__ import annotations

from collections.abc import Sequence

from empirical.adapters.report import AuditReport, PairTotal

#: adapters up to which all of them, and all of their pairs, are shown
FEW = 8
#: pairs, names and clusters shown of more
SHOWN = 6
#: cosine and norms of updates that differ by no more than this are the same up to the rounding of 16-bit factors
_SAME = 1e-4


def listed(names: Sequence[str]) -> str:
    """Names in a sentence; of many, the first."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def reached(pair: PairTotal) -> float:
    """The most that one does to keys that the other reads, mean over modules; 0 where they share no module."""
    both = (pair.second_on_first.mean_largest, pair.first_on_second.mean_largest)
    return max((x for x in both if x is not None), default=0.0)


def worst_pairs(data: AuditReport) -> list[PairTotal]:
    """All pairs of a few adapters; of many, those that disturb each other most."""
    if len(data.adapters) <= FEW:
        return list(data.total.pairs)
    return sorted(data.total.pairs, key=reached, reverse=True)[:SHOWN]


def duplicates(data: AuditReport) -> list[tuple[int, int]]:
    """Pairs whose updates are one and the same."""
    norms = [t.norm for t in data.total.adapters]
    return [
        (p.first, p.second)
        for p in data.total.pairs
        if norms[p.first] > 0
        and p.cosine > 1 - _SAME
        and abs(norms[p.first] - norms[p.second]) <= _SAME * norms[p.first]
    ]


def clusters(data: AuditReport) -> list[list[int]]:
    """Adapters that are linked by sharing more than half of what they read; largest first, without single ones."""
    group = list(range(len(data.adapters)))

    def root(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    for pair in data.total.pairs:
        if pair.keys_share is not None and pair.keys_share > 0.5:
            group[root(pair.second)] = root(pair.first)
    found: dict[int, list[int]] = {}
    for i in range(len(group)):
        found.setdefault(root(i), []).append(i)
    return sorted((g for g in found.values() if len(g) > 1), key=len, reverse=True)
