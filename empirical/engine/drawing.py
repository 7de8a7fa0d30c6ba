"""What all figures share: style, marks, the caption line.

What theory says is black; what was measured is coloured: a faint dot is one world, a large mark the mean over worlds.
The colours are those of Okabe and Ito, which colour-blind readers tell apart, and every series has a marker of its own.
"""

from __future__ import annotations

import math
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
STYLE: dict[str, str | float] = {
    "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "legend.fontsize": 8, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "lines.linewidth": 1.4,
    "legend.frameon": False, "svg.hashsalt": "lora-limits", "savefig.dpi": 160, "figure.titlesize": 10.5,
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


def panel_title(axis: Axes, text: str, below: str = "", **options: Any) -> None:
    """A panel's title, and a line in small type between it and the panel."""
    axis.set_title(f"{text}\n" if below else text, loud(text), "left", **options)
    if below:
        axis.text(0, 1.015, below, transform=axis.transAxes, fontsize=7, color=SOFT)


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


def finish(figure: Figure, title: str, records: Records, handles: Sequence[Any], columns: int = 4) -> Figure:
    """Title above, legend and caption line below."""
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    height = float(figure.get_size_inches()[1])
    lines = math.ceil(len(handles) / columns)
    figure.text(0.01, 0.05 / height, provenance(records), fontsize=6.5, color=SOFT, va="bottom")
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.2 / height), ncols=columns)
    bottom = (0.3 + 0.19 * lines) / height
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.005, bottom, 0.99, 1 - bottom))  # type: ignore[call-arg]
    return figure


def in_groups(records: Records, *groups: str) -> list[Record[Any, Any]]:
    """The records of these groups of worlds."""
    return [r for r in records if group_of(r.cell) in groups]


def new_panels(columns: int, rows: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """An empty figure with a grid of axes; size in inches."""
    figure = Figure(figsize=size, layout="constrained")
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


def name_axis(axis: Axes, names: Sequence[str], **options: Any) -> None:
    """A horizontal axis of names at 0, 1, ... instead of numbers."""
    axis.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], **options)
    axis.grid(False, axis="x")


def pile(
    axis: Axes, x: float, shares: Sequence[float], looks: Iterable[tuple[str, str | None]], **options: Any
) -> None:
    """Bars on one another at `x`, each in its colour and hatch."""
    for height, foot, (colour, hatch) in zip(shares, np.cumsum([0.0, *shares]), looks, strict=False):
        axis.bar(x, height, bottom=foot, color=colour, hatch=hatch, **options)


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
