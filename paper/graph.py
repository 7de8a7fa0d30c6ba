"""The claims and how they rest on one another, laid out once from the registry; paper and page draw the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from theory.claims import Claim

#: a box, a row, from column to column, room for the topics; in pixels of the page
NODE, HEIGHT, ROW, STEP, LEFT = 275, 40, 54, 330, 165

Point = tuple[float, float]


class Band(NamedTuple):
    """A topic and its rows."""

    topic: str
    top: int
    height: int


class Edge(NamedTuple):
    """An arrow from a claim to one that rests on it: curves between the columns, straight lines across them."""

    used: str
    claim: str
    curves: list[tuple[Point, Point]]


class Graph(NamedTuple):
    """Everything that a drawing needs; y grows downwards."""

    width: int
    height: int
    bands: list[Band]
    #: claim -> left upper corner of its box
    corners: dict[str, tuple[int, int]]
    edges: list[Edge]
    #: width and height of a box
    box: tuple[int, int] = (NODE, HEIGHT)


def depths(uses: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Claim -> length of the longest chain of claims below it. `uses` has no circle, as the loader sees to."""
    found: dict[str, int] = {}

    def depth(claim: str) -> int:
        if claim not in found:
            found[claim] = max((depth(used) + 1 for used in uses[claim]), default=0)
        return found[claim]

    for claim in uses:
        depth(claim)
    return found


def places(claims: Mapping[str, Claim]) -> tuple[dict[str, tuple[int, int]], list[tuple[str, int, int]]]:
    """(claim -> (column, row), topics with first and last row). Columns are depths; topics are bands of rows."""
    depth = depths({c: claims[c].uses for c in claims})
    where: dict[str, tuple[int, int]] = {}
    bands, start = [], 0
    for topic in dict.fromkeys(c.topic for c in claims.values()):
        mine = [c for c in claims if claims[c].topic == topic]
        height = 1
        for column in sorted({depth[c] for c in mine}):
            stacked = [c for c in mine if depth[c] == column]
            # claims that rest on something stand at the height of what they rest on
            stacked.sort(
                key=lambda c: sum(where[u][1] for u in claims[c].uses if u in where) / max(len(claims[c].uses), 1)
            )
            for i, claim in enumerate(stacked):
                where[claim] = (column, start + i)
            height = max(height, len(stacked))
        bands.append((topic, start, start + height - 1))
        start += height
    return where, bands


def layout(claims: Mapping[str, Claim]) -> Graph:
    """Boxes, bands and arrows; columns on the way of an arrow are crossed at the nearest height without a box."""
    where, bands = places(claims)
    rows, taken = bands[-1][2] + 1, set(where.values())

    def corner(column: int, row: int) -> tuple[int, int]:
        return LEFT + column * STEP, row * ROW + (ROW - HEIGHT) // 2

    def edge(used: str, claim: str) -> Edge:
        (column, row), (end, to) = where[used], where[claim]
        curves: list[tuple[Point, Point]] = []
        while column < end:
            (left, top), column = corner(column, row), column + 1
            free = [r for r in range(rows) if (column, r) not in taken]
            row = to if column == end else min(free, key=lambda r: abs(r - to))
            x, y = corner(column, row)
            curves.append(((left + NODE, top + HEIGHT / 2), (x - 2, y + HEIGHT / 2)))
        return Edge(used, claim, curves)

    corners = {claim: corner(*where[claim]) for claim in claims}
    return Graph(
        max(x for x, _ in corners.values()) + NODE + 12, rows * ROW + 8,
        [Band(topic, first * ROW, (last - first + 1) * ROW) for topic, first, last in bands], corners,
        [edge(used, c.id) for c in claims.values() for used in c.uses],
    )  # fmt: skip
