"""What all figures share: style, marks, the caption line.

What theory says is black; what was measured is coloured: a faint dot is one world, a large mark the mean over worlds.
The colours are those of Okabe and Ito, which colour-blind readers tell apart, and every series has a marker of its own.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from empirical.engine.judge import Row
from empirical.engine.records import Record
from empirical.engine.settings import group_of
from empirical.engine.show import spans
from theory.numerics import Array
from theory.provenance import short

#: records of one experiment, or of one kind of its cells
Records = Sequence[Record[Any, Any]]
Rows = Sequence[Row]

BLUE, RED, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SOFT = "#666666"
#: inches that every figure is wide; the text of a page is 6.3, so that 8 points are 7 in print
WIDTH = 7.1
#: on logarithmic axes no exponents in smaller type
STYLE: dict[str, str | float] = {
    "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 8, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "lines.linewidth": 1.4,
    "legend.frameon": False, "svg.hashsalt": "lora-limits", "savefig.dpi": 160, "figure.titlesize": 10.5,
    "axes.formatter.min_exponent": 99,
}  # fmt: skip


class Plot(NamedTuple):
    """A figure: file name without suffix, the experiment it is of, what draws it of the records and the judged rows."""

    name: str
    experiment: str
    draw: Callable[[Any, Rows], Figure | None]


def mean_rate(values: Sequence[float]) -> float:
    """Mean over worlds of what is not NaN."""
    kept = [v for v in values if not math.isnan(v)]
    return sum(kept) / len(kept) if kept else math.nan


def verdict_suffix(rows: Rows, name: str) -> str:
    """What the judge says of a prediction, as a suffix; empty where it was not judged."""
    found = [r["verdict"] for r in rows if r["id"] == name]
    return f": {found[0].upper() if found[0] == 'violated' else found[0]}" if found else ""


def tally(rows: Rows, *starts: str, claim: str = "", kind: str = "") -> str:
    """How many predictions hold, as a suffix, and how many are violated: those whose id starts so, of this claim and
    of this kind where they are named."""
    chosen = [r for r in rows if r["id"].startswith(starts or "") and claim in ("", r["claim"])]
    verdicts = [r["verdict"] for r in chosen if kind in ("", r["kind"])]
    held, broken = verdicts.count("holds"), verdicts.count("violated")
    return f": {held} of {len(verdicts)} hold{f', {broken} VIOLATED' if broken else ''}" if verdicts else ""


def loud(text: str) -> dict[str, str]:
    """How a text is written: a violated prediction is as loud as it can be."""
    return {"color": RED, "fontweight": "bold"} if "VIOLATED" in text else {}


def panel_title(axis: Axes, text: str, below: str = "") -> None:
    """A panel's title, and words in grey between it and the panel; both broken where the panel ends."""
    spec = axis.get_subplotspec()
    assert spec is not None
    shares = np.asarray(spec.get_gridspec().get_width_ratios(), dtype=float)
    # a letter is about five points wide, and the axis takes its part
    letters = int((WIDTH * shares[spec.colspan.start] / shares.sum() - 0.25) * 72 / 4.8)
    title, below = (textwrap.fill(words, letters) for words in (text, below))
    axis.set_title(title + "\n" * len(below.splitlines()), loud(text), "left")
    if below:
        axis.text(0, 1.015, below, transform=axis.transAxes, color=SOFT)


def provenance(records: Records) -> str:
    """One line: experiment, profile, device, number of worlds, their seeds, commit."""
    seeds = {r.cell.seed for r in records}
    shown = spans(seeds)
    commits = sorted({short(r.commit, r.dirty) for r in records})
    devices = ", ".join(sorted({r.device for r in records}))
    first = records[0]
    number = f"1 world (seed {shown})" if len(seeds) == 1 else f"{len(seeds)} worlds (seeds {shown})"
    parts = (f"{first.experiment}, profile {first.profile}", devices, number, f"commit {', '.join(commits)}")
    return "  |  ".join(parts)


def finish(figure: Figure, title: str, records: Records, handles: Sequence[Any]) -> Figure:
    """Title above; below the panels, with room of its own, a legend of as many columns as fit, and the caption line."""
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    for columns in range(len(handles), 0, -1):
        legend = figure.legend(handles=handles, loc="lower left", ncols=columns)
        if columns == 1 or legend.get_window_extent().width <= WIDTH * figure.dpi:
            break
        legend.remove()
    below = 0.3 + 0.19 * math.ceil(len(handles) / columns)
    height = float(figure.get_size_inches()[1]) + below
    figure.set_size_inches(WIDTH, height)
    legend.set_bbox_to_anchor((0.0, 0.2 / height))
    figure.text(0.01, 0.05 / height, provenance(records), fontsize=6.5, color=SOFT, va="bottom")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.005, below / height, 0.99, 1 - below / height))  # type: ignore[call-arg]
    return figure


def in_groups(records: Records, *groups: str) -> list[Record[Any, Any]]:
    """The records of these groups of worlds."""
    return [r for r in records if group_of(r.cell) in groups]


def new_panels(columns: int, rows: int, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """An empty figure with a grid of axes, so many inches high; a legend comes below it."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def share_axis(axis: Axes, label: str = "accuracy (share right)") -> None:
    """The vertical axis of an accuracy."""
    axis.set_ylim(-0.03, 1.05)
    axis.set_ylabel(label)


def aside(x: float, count: int, width: float) -> Array:
    """Places of so many worlds around `x`, in their order, over `width`."""
    return x + width * (np.arange(count) / max(count - 1, 1) - 0.5) * (count > 1)


def cloud(axis: Axes, x: float, values: Sequence[float], colour: str, width: float = 0.0, marker: str = "o") -> None:
    """One faint dot per world, spread over `width` in the order of the worlds; a large mark at their mean."""
    kept = [v for v in values if not math.isnan(v)]
    if not kept:
        return
    axis.plot(aside(x, len(kept), width), kept, marker="o", ls="", ms=2.8, mew=0, color=colour, alpha=0.45, zorder=3)
    axis.plot([x], [mean_rate(kept)], marker=marker, ls="", ms=6.5, mec="white", mew=0.7, color=colour, zorder=4)


def row(axis: Axes, y: float, values: Sequence[float], colour: str, marker: str) -> None:
    """One faint dot per world along a row; a mark at their mean."""
    if values:
        axis.plot(values, [y] * len(values), marker="o", ls="", ms=2.2, mew=0, color=colour, alpha=0.4, zorder=3)
        axis.plot([mean_rate(values)], [y], marker=marker, ls="", ms=5, mec="white", mew=0.5, color=colour, zorder=4)


def name_axis(axis: Axes, names: Sequence[str], **options: Any) -> None:
    """A horizontal axis of names at 0, 1, ... instead of numbers."""
    axis.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], **options)
    axis.grid(False, axis="x")


def name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Names of rows, at 0, 1, ... from above."""
    axis.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(False, axis="y")


def pile(
    axis: Axes, at: float, shares: Sequence[float], looks: Iterable[tuple[str, str | None]], width: float,
    lying: bool = False, **options: Any,
) -> None:  # fmt: skip
    """Bars on one another, or lying one after the other, at a place; each in its colour and hatch."""
    for share, foot, (colour, hatch) in zip(shares, np.cumsum([0.0, *shares]), looks, strict=False):
        (axis.barh if lying else axis.bar)(at, share, width, foot, color=colour, hatch=hatch, **options)


def rank_axis(axis: Axes, ranks: Sequence[int]) -> None:
    """The horizontal axis of adapter ranks, logarithmic in base 2."""
    axis.set_xscale("log", base=2)
    powers = [2**i for i in range(int(math.log2(max(ranks))) + 1)]
    axis.set_xticks(powers, [str(p) for p in powers])
    axis.minorticks_off()
    axis.set_xlabel("rank r of the adapter")


def world_mark(colour: str = SOFT) -> Line2D:
    """Legend entry of the faint dots."""
    return Line2D([], [], marker="o", ls="", ms=2.8, mew=0, color=colour, alpha=0.6, label="one world")


def mean_mark(label: str, colour: str = SOFT, marker: str = "o") -> Line2D:
    """Legend entry of a mean over worlds."""
    return Line2D([], [], marker=marker, ls="", ms=6.5, mec="white", mew=0.7, color=colour, label=label)


def area_mark(label: str, look: tuple[str, str | None], **options: Any) -> Patch:
    """Legend entry of bars, or of an area."""
    colour, hatch = look
    return Patch(fc=colour, hatch=hatch, label=label, **options)


def line_mark(label: str, style: str = "-", colour: str = "black", **options: Any) -> Line2D:
    """Legend entry of a line, or of marks where the style is empty."""
    return Line2D([], [], **{"ls": style, "color": colour, "label": label} | options)
