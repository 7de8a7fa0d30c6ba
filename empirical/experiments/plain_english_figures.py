"""Figures of worlds of two-hop facts in plain English."""

from __future__ import annotations

from itertools import zip_longest

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows

#: what is shown, panel by panel: its cell, its colour and marker
SHOWN = (
    ("capital of a new person's country",
     {"right by forced choice": ("H_forced", BLUE, "o"), "right in free text": ("H", RED, "^")}),
    ("one-hop facts", {"first hops kept": ("first", GREEN, "s"), "second hops kept": ("second", PURPLE, "D")}),
)  # fmt: skip


def panels_of_methods(records: Records, rows: Rows, group: str, title: str, *judged: str) -> Figure | None:
    """Every method over the libraries of a group of worlds, beside its sums: what is joined, and what is kept.

    Args:
        judged: rows of the group whose verdicts stand over the panels.
    """
    worlds = draw.in_groups(records, group)
    if not worlds:
        return None

    def rates(condition: str, cell: str) -> list[float]:
        return [w.metrics.scores[condition][cell].rate for w in worlds]

    conditions = [c for c in worlds[0].metrics.scores if ":" in c]
    conditions.sort(key=lambda c: -draw.mean_rate(rates(c, "H_forced")))
    figure, axes = draw.new_panels(2, 1, max(1.9, 0.5 + 0.2 * len(conditions)), sharey=True)
    for axis, (panel, cells), row in zip_longest(axes[0], SHOWN, judged):
        for cell, colour, marker in cells.values():
            for y, condition in enumerate(conditions):
                draw.row(axis, y, rates(condition, cell), colour, marker)
        draw.panel_title(axis, panel + draw.verdict_suffix(rows, f"{group}.{row}"))
        axis.set(xlim=(-0.03, 1.05), xlabel="share of questions")
    axes[0][0].axvline(1 / worlds[0].cell.countries, color="black", lw=1.1)
    alone = len(worlds[0].cell.libraries) == 1
    named = [c if c.startswith(("sum:", "random:")) or not alone else c.partition(":")[0] for c in conditions]
    draw.name_rows(axes[0][0], [c.replace(":", ", ") for c in named])
    looks = [(name, *look) for _, cells in SHOWN for name, (_, *look) in cells.items()]
    handles = [*(draw.mean_mark(*look) for look in looks), draw.world_mark(),
               draw.line_mark("blind to the country", lw=1.1)]  # fmt: skip
    return draw.finish(figure, title + draw.tally(rows, f"{group}."), worlds, handles)
