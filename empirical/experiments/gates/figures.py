"""The figure of the gates experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, RED, Records, Rows
from empirical.engine.predictions import INFORMATIVE
from empirical.experiments.gates.run import WORLD
from theory.additive import additive_ceiling
from theory.routing import bridge_blind_ceiling


def gates_figure(records: Records, rows: Rows) -> Figure | None:
    """Two-hop questions that experts of single hops answer under gates by the prompt; and with an expert for each group
    of bridges under gates that know the group, by bridges in a group."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    cell = worlds[0].cell
    figure, axes = draw.new_panels(2, 1, 2.8, width_ratios=[1, 2], sharey=True)
    left, right = axes[0]
    names = list(worlds[0].metrics.gates)
    for x, name in enumerate(names):
        draw.cloud(left, x, [w.metrics.gates[name].two_hop.rate for w in worlds], BLUE, 0.3)
    draw.name_axis(left, names)
    sizes = sorted(cell.bridges // number for number in cell.groups)
    ceilings = [1.0 if size == 1 else additive_ceiling(size, cell.values) for size in sizes]
    right.plot(sizes, ceilings, "k-", lw=1.1, gid="ceiling")
    right.plot(sizes, [bridge_blind_ceiling(size, cell.values) for size in sizes], "k:", lw=1.1, gid="blind")
    for number in cell.groups:
        found, size = [w.metrics.groups[str(number)] for w in worlds], cell.bridges // number
        draw.cloud(right, size * 0.95, [f.gated.two_hop.rate for f in found], BLUE)
        draw.cloud(right, size * 1.05, [f.carried.two_hop.rate for f in found], GREEN, marker="^")
        draw.cloud(right, size, [f.summed.two_hop.rate for f in found], RED, marker="v")
    right.set_xscale("log")
    right.set_xticks(sizes, [str(size) for size in sizes])
    right.minorticks_off()
    right.set_xlabel("bridges in a group, each group with an expert")
    left.axhline(additive_ceiling(cell.bridges, cell.values), color="black", lw=1.1)
    left.axhline(bridge_blind_ceiling(cell.bridges, cell.values), color="black", ls=":", lw=1.1)
    draw.share_axis(left, "two-hop questions answered")
    rows = [r for r in rows if r["kind"] in INFORMATIVE]
    draw.panel_title(left, "Gates by prompt" + draw.tally(rows, *names))
    draw.panel_title(
        right, "Gates that know the group" + draw.tally(rows, "group.", "over.", "bridge", "carried", "merged.")
    )
    handles = [
        draw.mean_mark("gated", BLUE), draw.mean_mark("gates learnt at first-hop prompts", GREEN, "^"),
        draw.mean_mark("gates ignored, experts added", RED, "v"), draw.line_mark("additive ceiling", lw=1.1),
        draw.line_mark("an answer blind to the bridge", ":", lw=1.1), draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "Experts that are weighed anew at every prompt", worlds, handles)


plots = {"gates": gates_figure}
