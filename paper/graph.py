"""The claims and how they use one another, each with its rungs: a figure made from the registry."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from paper.material import Material
from paper.values import rung

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, EDGE, BAND, LOUD = "#000000", "#0072B2", "#f1f1f1", "#D55E00"
RUNGS = ("stated", "coded", "checked", "proved", "measured")
WIDTH, ROW, NODE, GAP = 6.6, 0.40, 1.62, 0.22
LEFT = 0.95


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


def places(material: Material) -> tuple[dict[str, tuple[int, int]], list[tuple[str, int, int]]]:
    """(claim -> (column, row), topics with first and last row). Columns are depths; topics are bands of rows."""
    claims = material.claims
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


def _pips(axis: Axes, x: float, y: float, marks: Mapping[str, str], size: float = 0.085) -> None:
    """One square per rung: full, half (in part), open (not checked), a dash (none planned), a cross (failed)."""
    from matplotlib.patches import Rectangle

    for i, name in enumerate(RUNGS):
        left, mark = x + i * size * 1.7, marks[name]
        if mark == "none":
            axis.plot([left + 0.015, left + size - 0.015], [y + size / 2] * 2, color="#888888", lw=0.8, zorder=5)
            continue
        edge = LOUD if mark == "fail" else INK
        axis.add_patch(Rectangle((left, y), size, size, fc="white", ec=edge, lw=0.7, zorder=5))
        if mark == "fail":
            axis.plot([left, left + size], [y, y + size], color=LOUD, lw=1.2, zorder=6)
            axis.plot([left, left + size], [y + size, y], color=LOUD, lw=1.2, zorder=6)
        elif mark in ("yes", "part"):
            share = 0.5 if mark == "part" else 1.0
            axis.add_patch(Rectangle((left, y), size * share, size, fc=INK, lw=0, zorder=6))


def claims_figure(material: Material) -> Figure:
    """Boxes are claims, columns are depths, bands are topics; an arrow leads from a claim to one that rests on it."""
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
    from matplotlib.path import Path

    where, bands = places(material)
    rows, columns = bands[-1][2] + 1, max(column for column, _ in where.values()) + 1
    legend = 0.34
    height = rows * ROW + legend
    figure = Figure(figsize=(WIDTH, height))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, WIDTH), ylim=(0, height))
    axis.axis("off")
    step = (WIDTH - LEFT - NODE) / max(columns - 1, 1) if columns > 1 else 0.0

    def corner(claim: str) -> tuple[float, float]:
        column, row = where[claim]
        return LEFT + column * step, height - (row + 1) * ROW + 0.035

    for i, (topic, first, last) in enumerate(bands):
        if i % 2 == 0:
            axis.add_patch(Rectangle((0, height - (last + 1) * ROW), WIDTH, (last - first + 1) * ROW, fc=BAND, lw=0))
        axis.text(0.06, height - (first + last + 1) / 2 * ROW, topic, va="center", fontsize=7.5, style="italic")
    box = ROW - 0.07
    for claim in material.claims.values():
        for used in claim.uses:
            points = [(corner(used)[0] + NODE, corner(used)[1] + box / 2)]
            for column in range(where[used][0] + 1, where[claim.id][0]):  # behind no box: through a free row
                free = [r for r in range(rows) if (column, r) not in where.values()]
                row = min(free, key=lambda r: abs(r - where[claim.id][1]))
                y = height - (row + 1) * ROW + 0.035 + box / 2
                points += [(LEFT + column * step, y), (LEFT + column * step + NODE, y)]
            points.append((corner(claim.id)[0] - 0.02, corner(claim.id)[1] + box / 2))
            vertices, codes = [points[0]], [Path.MOVETO]
            for i, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
                if i % 2:
                    vertices.append((x1, y1))
                    codes.append(Path.LINETO)
                else:  # vertical only in the gap between two columns
                    middle = (x0 + x1) / 2
                    vertices += [(middle, y0), (middle, y1), (x1, y1)]
                    codes += [Path.CURVE4] * 3
            axis.add_patch(FancyArrowPatch(path=Path(vertices, codes), arrowstyle="-|>", mutation_scale=6, color=EDGE,
                                           fc="none", lw=0.8, zorder=2))  # fmt: skip
    for name in where:
        x, y = corner(name)
        axis.add_patch(
            FancyBboxPatch((x, y), NODE, box, boxstyle="round,pad=0,rounding_size=0.05", fc="white", ec=INK, lw=0.8,
                           zorder=3)
        )  # fmt: skip
        axis.text(x + 0.07, y + box * 0.68, name, va="center", fontsize=7.2, zorder=4, family="monospace")
        _pips(axis, x + 0.07, y + 0.045, rung(material, name))
    axis.text(0.06, 0.13, "squares: " + ", ".join(RUNGS) + "; full: yes, half: in part, open: not checked, dash: none"
              " planned, cross: failed", fontsize=7, va="center")  # fmt: skip
    return figure
