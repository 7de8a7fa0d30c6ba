"""Figures of entities_wide."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows

#: what is shown of a first hop alone: its cell, its colour and marker
SHOWN = {
    "λ by forced choice": ("H_old_forced", BLUE, "o"),
    "λ in free text": ("H_old", RED, "^"),
    "its own facts": ("first", GREEN, "s"),
    "the base's own text": ("text", PURPLE, "D"),
}


def scan_figure(records: Records, rows: Rows) -> Figure | None:
    """First hops on blocks of layers: what they compose with the base, what they learn, and what they leave of it."""
    worlds = draw.in_groups(records, "scan")
    if not worlds:
        return None
    experts = worlds[0].cell.experts
    figure, axes = draw.new_panels(1, 1, (8.0, 3.6))
    axis = axes[0][0]
    for k, (cell, colour, marker) in enumerate(SHOWN.values()):
        for x, expert in enumerate(experts):
            rates = [w.metrics.scores[expert][cell].rate for w in worlds]
            draw.cloud(axis, x + 0.18 * k - 0.27, rates, colour, 0.08, marker)
    axis.axhline(1 / worlds[0].cell.countries, color="black", lw=1.2)
    draw.name_axis(axis, [expert.removeprefix("first_") for expert in experts])
    axis.set_xlim(-0.6, len(experts) - 0.4)
    axis.set_xlabel("layers in which the first hop is written")
    draw.panel_title(axis, "λ falls with depth" + draw.verdict_suffix(rows, "scan.depth.forced"))
    draw.share_axis(axis, "share")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (_, colour, marker) in SHOWN.items()),
               draw.world_mark(), draw.line_mark("blind to the country")]  # fmt: skip
    return draw.finish(figure, "Where a first hop is written: composition and damage", worlds, handles, 3)


plots = {"entities_scan": scan_figure}
