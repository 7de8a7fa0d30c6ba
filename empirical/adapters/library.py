"""Many adapters at once: which belong together, which are the same, which pairs are worst; a report of one screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

from empirical.adapters.report import AuditReport, PairTotal

#: adapters up to which all of them, and all of their pairs (28), fit on a screen
FEW = 8
#: pairs, names and clusters shown of more
SHOWN = 6
#: unit roundoff of the formats of factors; of a mixture, that of the coarsest
_UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11}
_COARSEST = 2.0**-8
#: relative distance of two updates that inner products in float64 tell from none: they are good to about 1e-14, and the
#: distance is the root
_RESOLVED = 1e-6


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


def _resolution(data: AuditReport, pair: PairTotal) -> float:
    """Relative distance up to which two updates may be one and the same.

    Factors rounded to a format with unit roundoff u are off by at most u of themselves, entry by entry, and their
    product, where nothing cancels, by 2u + u^2.
    """
    dtypes = (*data.adapters[pair.first].dtypes, *data.adapters[pair.second].dtypes)
    unit = max(_UNIT.get(dtype, _COARSEST) for dtype in dtypes)
    return max(2.0 * unit + unit**2, _RESOLVED)


def multiples(data: AuditReport) -> list[tuple[int, int, float]]:
    """(i, j, x): update j is x times update i, to the rounding of the formats in which they are stored."""
    norms = [t.norm for t in data.total.adapters]
    return [
        (p.first, p.second, math.copysign(norms[p.second] / norms[p.first], p.cosine))
        for p in data.total.pairs
        if norms[p.first] > 0 < norms[p.second]
        and math.sqrt(max(2.0 - 2.0 * abs(p.cosine), 0.0)) <= _resolution(data, p)
    ]


def duplicates(data: AuditReport) -> list[tuple[int, int]]:
    """Pairs whose updates are one and the same."""
    limit = {(p.first, p.second): _resolution(data, p) for p in data.total.pairs}
    return [(i, j) for i, j, x in multiples(data) if abs(x - 1.0) <= limit[i, j]]


def linked(pair: PairTotal) -> bool:
    """Whether two adapters share more than half of what they read, beyond what chance makes them share.

    Half is where sharing is passed on. With the projections P, Q, R on what three adapters of one rank r read,
    ``tr(Q P) > r / 2`` and ``tr(Q R) > r / 2`` leave ``tr(P R) > 0``: otherwise P + R would be a projection, and
    ``tr(Q (P + R)) <= r``. Two that are linked with a third read something in common; below half they need not.
    """
    share, chance = pair.keys_share, pair.keys_chance
    return share is not None and chance is not None and share - chance > (1.0 - chance) / 2.0


def clusters(data: AuditReport) -> list[list[int]]:
    """Adapters that are :func:`linked`, or by way of others; largest first, without single ones."""
    group = list(range(len(data.adapters)))

    def root(i: int) -> int:
        while group[i] != i:
            i = group[i]
        return i

    for pair in data.total.pairs:
        if linked(pair):
            group[root(pair.second)] = root(pair.first)
    found: dict[int, list[int]] = {}
    for i in range(len(group)):
        found.setdefault(root(i), []).append(i)
    return sorted((g for g in found.values() if len(g) > 1), key=len, reverse=True)


def side_by_side(data: AuditReport) -> list[int]:
    """All adapters, those of a cluster next to each other."""
    first = [i for group in clusters(data) for i in group]
    return first + [i for i in range(len(data.adapters)) if i not in first]


def notes(data: AuditReport) -> list[str]:
    """What was taken otherwise than it is written in a file; of many, the first."""
    found = [note for a in data.adapters for note in a.notes]
    more = len(found) - SHOWN if len(data.adapters) > FEW else 0
    return [*found[:SHOWN], f"and {more} more such notes (--json: adapters)"] if more > 0 else found
