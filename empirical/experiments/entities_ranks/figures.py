"""Figures of entities_ranks."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows

#: what is shown: its condition and cell, its colour and marker
SHOWN = {
    "early + late by forced choice": ("sum:early+late", "H_forced", BLUE, "o"),
    "all + all by forced choice": ("sum:all+all", "H_forced", RED, "^"),
    "λ of an early first hop by forced choice": ("first_early", "H_old_forced", GREEN, "s"),
    "people whose country it names": ("first_early", "first", PURPLE, "D"),
}


def ranks_figure(records: Records, rows: Rows) -> Figure | None:
    """Experts of every rank, for few people and many: what their sum joins, what the first hop composes and knows."""
    worlds = {name: found for name in ("few", "many") if (found := draw.in_groups(records, name))}
    if not worlds:
        return None
    figure, axes = draw.new_panels(len(worlds), 1, 2.9, sharey=True)
    for axis, (group, found) in zip(axes[0], worlds.items(), strict=True):
        ranks = sorted({w.cell.rank for w in found})
        for k, (condition, cell, colour, marker) in enumerate(SHOWN.values()):
            for x, rank in enumerate(ranks):
                of = [w.metrics.scores for w in found if w.cell.rank == rank and condition in w.metrics.scores]
                rates = [scores[condition][cell].rate for scores in of]
                draw.cloud(axis, x + 0.2 * k - 0.3, rates, colour, 0.08, marker)
        draw.name_axis(axis, list(map(str, ranks)))
        axis.set_xlim(-0.6, len(ranks) - 0.4)
        axis.set_xlabel("rank")
        axis.axhline(1 / found[0].cell.countries, color="black", lw=1.2)
        draw.panel_title(axis, f"{found[0].cell.people} people" + draw.tally(rows, f"{group}."))
    draw.share_axis(axes[0][0], "share of questions")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (_, _, colour, marker) in SHOWN.items()),
               draw.world_mark(), draw.line_mark("blind to the country")]  # fmt: skip
    shown = [w for found in worlds.values() for w in found]
    return draw.finish(figure, "The rank of experts that are added", shown, handles)


plots = {"entities_ranks": ranks_figure}
