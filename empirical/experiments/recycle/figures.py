"""The figure of the recycle experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.experiments.recycle.predictions import DISTILLED
from empirical.experiments.recycle.run import WORLD
from theory.routing import bridge_blind_ceiling


def recycle_figure(records: Records, rows: Rows) -> Figure | None:
    """What probing finds of each adapter's facts, and how much of what it changed was taught; and what one adapter in
    place of all experts answers."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    cell, first = worlds[0].cell, worlds[0].metrics
    figure, axes = draw.new_panels(2, 1, 3.3, sharey=True)
    left, right = axes[0]
    for x, name in enumerate(first.probed):
        found = [w.metrics.probed[name] for w in worlds]
        draw.cloud(left, x - 0.15, [f.recalled.rate for f in found], BLUE, 0.2)
        draw.cloud(left, x + 0.15, [f.taught.rate for f in found], PURPLE, 0.2, "s")
    draw.name_axis(left, [name.replace(" ", "\n") for name in first.probed])
    for x, name in enumerate(first.found):
        learnt = [w.metrics.found[name] for w in worlds]
        draw.cloud(right, x - 0.3, [sum(t.right for t in f.tasks) / sum(t.asked for t in f.tasks) for f in learnt],
                   BLUE, 0.12)  # fmt: skip
        draw.cloud(right, x - 0.1, [f.old.rate for f in learnt], RED, 0.12, "v")
        draw.cloud(right, x + 0.1, [f.covered.rate for f in learnt], GREEN, 0.12, "^")
        draw.cloud(right, x + 0.3, [f.uncovered.rate for f in learnt], PURPLE, 0.12, "s")
        if name in DISTILLED:
            foretold = draw.mean_rate([w.metrics.foretold[name].rate for w in worlds])
            right.plot([x - 0.3], [foretold], "k_", ms=12, mew=1.6)
    right.axhline(bridge_blind_ceiling(cell.bridges, cell.values), color="black", ls="--", lw=0.9)
    draw.name_axis(right, list(first.found))
    draw.share_axis(left, "share")
    probing = draw.tally(rows, "recalled", "taught", "conflicts")
    below = "circles: taught facts that are found; squares: changed answers that were taught"
    draw.panel_title(left, f"Probing{probing}", below)
    one = draw.tally(rows, "surest", "foretold", "sum", "raw", "old", "covered", "uncovered.")
    draw.panel_title(right, f"One adapter in place of all{one}", "bars: right in what was recovered")
    handles = [
        draw.mean_mark("facts of the experts", BLUE), draw.mean_mark("old facts", RED, "v"),
        draw.mean_mark("two hops, covered bridges", GREEN, "^"), draw.mean_mark("uncovered bridges", PURPLE, "s"),
        draw.line_mark("an answer blind to the bridge", "--", lw=0.9), draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "What adapters give away, and what is made of it", worlds, handles)


plots = {"recycle": recycle_figure}
