"""The figure of the continual experiment."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, SOFT, Records, Rows
from empirical.experiments.continual.run import WORLD
from theory.routing import bridge_blind_ceiling

TASKS = ((BLUE, "o"), (GREEN, "s"), (PURPLE, "^"), (SOFT, "D"))


def continual_figure(records: Records, rows: Rows) -> Figure | None:
    """What each method keeps of every task and of the base when all four have been learnt, and its two hops."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    cell = worlds[0].cell
    figure, axes = draw.new_panels(2, 1, 0.9 + 0.36 * len(cell.methods), width_ratios=[2, 1], sharex=True, sharey=True)
    left, last = axes[0]
    for y, method in enumerate(cell.methods):
        found = [w.metrics.methods[method] for w in worlds]
        for number, ((colour, marker), shift) in enumerate(zip(TASKS, np.linspace(-0.34, 0.17, 4), strict=True)):
            draw.row(left, y + shift, [f.kept[number].rate for f in found], colour, marker)
        draw.row(left, y + 0.34, [f.base.rate for f in found], RED, "v")
        draw.row(last, y - 0.17, [f.covered.rate for f in found], BLUE, "o")
        draw.row(last, y + 0.17, [f.uncovered.rate for f in found], RED, "v")
    for axis in axes[0]:
        draw.name_rows(axis, cell.methods)
        axis.hlines(np.arange(len(cell.methods) - 1) + 0.5, 0, 1, color="#e4e4e4", lw=0.6)
        axis.set_xticks(np.linspace(0, 1, 5), ["0", "0.25", "0.5", "0.75", "1"])
        axis.set(xlim=(-0.03, 1.03), xlabel="share right at the end")
    last.axvline(bridge_blind_ceiling(cell.bridges, cell.values), color="black", ls="--", lw=0.9)
    draw.panel_title(left, "Tasks and base" + draw.tally(rows, "sd.", "c.", "mean", "sum.", kind="hypothesis"))
    draw.panel_title(last, "New × changed" + draw.tally(rows, claim="coverage_law", kind="hypothesis"))
    handles = [
        *(draw.mean_mark(f"task {i + 1}", *look) for i, look in enumerate(TASKS)),
        draw.mean_mark("facts of the base", RED, "v"), draw.mean_mark("right: covered bridges", BLUE),
        draw.mean_mark("right: uncovered bridges", RED, "v"),
        draw.line_mark("an answer blind to the bridge", "--", lw=0.9), draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "Four tasks, one after the other", worlds, handles)


plots = {"continual": continual_figure}
