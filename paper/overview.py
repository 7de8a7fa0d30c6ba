"""The figure of the first page: what a merge keeps, what it cannot join, what makes it join, and in a pretrained model.

Every row is a condition of a finished experiment: a dot is one world, the bar the interval for the mean over worlds, a
black tick what the theory allows an answer that does not know the bridge, or chance. What has not run is left out with
its panel.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from empirical.engine.intervals import Outcome, interval
from empirical.engine.judge import worlds
from empirical.engine.predictions import World, address, rate
from paper.evidence import Run
from paper.figures import provenance, save, settle
from paper.render import template
from theory.numerics import require


class Condition(NamedTuple):
    """A row: what stands beside it, the condition in the scores."""

    label: str
    name: str


class Panel(NamedTuple):
    """Conditions that are asked the same of: a cell of the scores of one group of an experiment.

    Args:
        title: what is asked.
        bound: of a world, what the theory allows, or chance; None where neither says anything.
    """

    title: str
    experiment: str
    group: str
    cell: str
    conditions: tuple[Condition, ...]
    bound: Callable[[World], float] | None = None


def _blind(world: World) -> float:
    return float(world[0].metrics.predicted.bridge_blind)


def _chance(world: World) -> float:
    return 1.0 / float(world[0].cell.countries)


PANELS = (
    Panel("What a merge keeps: one hop, a new person's bridge", "coverage", "headline", "first_new", (
        Condition("sum, experts on all layers", "sum:all"), Condition("sum, early + late", "sum:placed"),
        Condition("mean", "mean:all"), Condition("Arrow, one adapter a token", "arrow_top1:all"))),
    Panel("What it cannot join: two hops over a bridge that the base never composed", "coverage", "headline",
          "new_changed_uncovered", (
        Condition("sum, all layers", "sum:all"), Condition("sum, early + late", "sum:placed"),
        Condition("Arrow, one adapter a token", "arrow_top1:all"), Condition("one adapter for both hops", "joint")),
        _blind),
    Panel("What makes it join: over a bridge that the base composes", "coverage", "headline", "new_changed_covered", (
        Condition("sum, all layers", "sum:all"), Condition("sum, early + late", "sum:placed"),
        Condition("sum, new embeddings + late", "sum:rows"), Condition("one adapter for both hops", "joint")), _blind),
    Panel("In a pretrained model: new person, changed capital, forced choice", "entities", "headline", "H_forced", (
        Condition("sum, all + all layers", "sum:all+all"), Condition("sum, late + early", "sum:late+early"),
        Condition("sum, early + all", "sum:early+all"), Condition("sum, early + late", "sum:early+late")), _chance),
)  # fmt: skip


class Row(NamedTuple):
    """What a row shows: outcomes of its worlds, the interval for their mean, the mean of the bounds."""

    label: str
    outcomes: Sequence[Outcome]
    interval: tuple[float, float]
    bound: float | None

    @property
    def mean(self) -> float:
        """The mean over worlds."""
        return sum(map(rate, self.outcomes)) / len(self.outcomes)

    def sentence(self, title: str) -> str:
        """All numbers of the row, for somebody who points at it or listens."""
        rates, (low, high) = [rate(o) for o in self.outcomes], self.interval
        blind = "" if self.bound is None else f"; blind to the bridge, or by chance, {self.bound:.2f}"
        return (
            f"{title}. {self.label}: {self.mean:.2f} ({low:.2f} to {high:.2f}) in the mean of {len(rates)} worlds,"
            f" which lie from {min(rates):.2f} to {max(rates):.2f}{blind}."
        )


def mark(panel: int, row: int) -> str:
    """The name that a row has in the figure."""
    return f"overview-{panel}-{row}"


def rows(panel: Panel, run: Run) -> list[Row]:
    """The rows of a panel for which the run has answers."""
    there = worlds(run.records).get(panel.group, [])
    bounds = [panel.bound(w) for w in there] if panel.bound else []
    found = []
    for condition in panel.conditions:
        outcomes = [o for w in there if (o := address(condition.name, panel.cell)(w)) is not None]
        if outcomes:
            bound = sum(bounds) / len(bounds) if bounds else None
            found.append(Row(condition.label, outcomes, interval(outcomes, 0.95), bound))
    return found


def answered(runs: Mapping[str, Run]) -> list[tuple[Panel, list[Row]]]:
    """The panels of which something has run, with their rows."""
    asked = [(panel, rows(panel, runs[panel.experiment])) for panel in PANELS if panel.experiment in runs]
    return [(panel, found) for panel, found in asked if found]


def draw(runs: Mapping[str, Run]) -> Any:
    """The figure; None if no experiment of it has run."""
    from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, new_panels

    shown = answered(runs)
    if not shown:
        return None
    heights = [len(found) for _, found in shown]
    figure, grid = new_panels(1, len(shown), 0.2 * sum(heights) + 0.32 * len(shown) + 0.3, sharex=True,
                              gridspec_kw={"height_ratios": heights})  # fmt: skip
    figure.set_figwidth(6.3)  # on the first page at its own size
    for k, (axis, (panel, found), colour) in enumerate(
        zip(grid[:, 0], shown, (GREEN, RED, BLUE, PURPLE), strict=False)
    ):
        for y, row in enumerate(reversed(found)):
            values = [rate(o) for o in row.outcomes]
            axis.plot(row.interval, [y, y], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
            axis.plot(values, [y] * len(values), marker="o", ls="", ms=3, mew=0, color=colour, alpha=0.4, zorder=3)
            axis.plot([row.mean], [y], marker="D", ls="", ms=5, mec="white", mew=0.7, color=colour, zorder=4)
            if row.bound is not None:
                axis.plot([row.bound] * 2, [y - 0.4, y + 0.4], color="black", lw=1.3, zorder=5)
            axis.annotate(f"{row.mean:.2f}", (1.0, y), xytext=(4, 0), textcoords="offset points", va="center",
                          annotation_clip=False)  # fmt: skip
        for i, y in enumerate(reversed(range(len(found)))):  # from above, as one reads
            axis.axhspan(y - 0.5, y + 0.5, color="black", lw=0, alpha=0, zorder=6, gid=mark(k, i))
        axis.set_yticks(range(len(found)), [row.label for row in reversed(found)])
        axis.set_ylim(-0.6, len(found) - 0.4)
        axis.set_xlim(0.0, 1.0)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set_title(" ")  # its place; the words begin at the left edge of the figure
        axis.annotate(panel.title, (0.008, 1.05), xycoords=("figure fraction", "axes fraction"), fontweight="bold",
                      fontsize=9, annotation_clip=False)  # fmt: skip
    grid[-1, 0].set_xlabel("share right")
    return figure


def svg(runs: Mapping[str, Run]) -> str:
    """The figure as an SVG element for the page, every row of which can be pointed at; nothing without a figure."""
    import matplotlib

    from empirical.engine.drawing import STYLE

    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = draw(runs)
        if figure is None:
            return ""
        settle(figure)
        made = io.StringIO()
        figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    whole = made.getvalue()
    for k, (panel, found) in enumerate(answered(runs)):
        for i, row in enumerate(found):
            group, says = f'<g id="{mark(k, i)}"', escape(row.sentence(panel.title), quote=True)
            require(group in whole, "overview", f"a group {mark(k, i)} in the SVG", "none")
            whole = whole.replace(group, f'{group} tabindex="0" role="img" aria-label="{says}"', 1)
    return whole[whole.index("<svg") :]


def write(runs: Mapping[str, Run], folder: Path) -> str:
    """Draw the figure into `folder` as ``overview.pdf``. Returns what the paper inputs: nothing without a figure."""
    import matplotlib

    from empirical.engine.drawing import STYLE

    with matplotlib.rc_context({**STYLE, "pdf.fonttype": 42, "pdf.compression": 6}):
        figure = draw(runs)
        if figure is None:
            return ""
        settle(figure)
        save(figure, folder / "overview.pdf")
    shown = [runs[name] for name in dict.fromkeys(panel.experiment for panel, _ in answered(runs))]
    return template("overview.tex").render({"runs": shown, "provenance": provenance})
