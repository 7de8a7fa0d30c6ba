"""Figure of worlds in which coverage is taught."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, RED, Records, Rows

#: what direct questions are answered, and how they are asked: colour, marker, ending of the cell
ANSWERS = {
    "old capital, forced choice": (BLUE, "o", "_old_forced"),
    "old capital, free text": (BLUE, "^", "_old"),
    "new capital, forced choice": (RED, "s", "_forced"),
    "new capital, free text": (RED, "v", ""),
}
#: who is asked: condition, what the cell begins with, how many of the answers can come
PANELS = {
    "base": ("base", "fellows_", 2),
    "λ: first hop": ("first_early", "", 2),
    "p₂: second hop": ("second_late", "fellows_", 4),
    "sum": ("sum:early+late", "", 4),
}


def sides_figure(records: Records, rows: Rows, title: str, *judged: str) -> Figure | None:
    """Direct questions over covered and uncovered countries, made up (F) or real (H) where there are both: how many are
    answered with the old capital, which the base was taught, and with the new one, which the second hop was taught.
    Base and p₂: of people whom the base knows; λ and the sum: of new ones; none: where no direct question was taught.

    Args:
        judged: a row of the declaration for each panel that is drawn; conditions that were not run have none.
    """
    worlds, none = draw.in_groups(records, "half"), draw.in_groups(records, "none")
    if not worlds:
        return None
    cell = worlds[0].cell
    families = sorted(cell.families)
    sides = [f"{family}_{side}" for family in families for side in ("covered", "uncovered")]
    panels = {name: panel for name, panel in PANELS.items() if panel[0] in worlds[0].metrics.scores}
    shown = {name: [(side, worlds) for side in sides] for name in panels}
    if none:
        shown["λ: first hop"] += [(side, none) for side in sides[1::2]]
    answers = list(ANSWERS.items())[: max(come for _, _, come in panels.values())]
    widths = [len(shown[name]) * (6 + come) for name, (_, _, come) in panels.items()]
    figure, axes = draw.new_panels(len(panels), 1, 3.1, sharey=True, width_ratios=widths)
    for axis, (name, (condition, before, come)), row in zip(axes[0], panels.items(), judged, strict=True):
        for x, (side, of) in enumerate(shown[name]):
            for k, (_, (colour, marker, ending)) in enumerate(answers[:come]):
                rates = [w.metrics.scores[condition][before + side + ending].rate for w in of]
                draw.cloud(axis, x + 0.2 * (k - (come - 1) / 2), rates, colour, 0.1, marker)
            coverage = of[0].cell.coverage
            choices = cell.countries * (1 - coverage if side.endswith("uncovered") else coverage)
            axis.plot([x - 0.45, x + 0.45], [1 / choices] * 2, color="black", lw=1.2)
        ticks = [side if of is worlds else side.replace("uncovered", "none") for side, of in shown[name]]
        if len(families) == 1:
            ticks = [tick.removeprefix(f"{families[0]}_") for tick in ticks]
        draw.name_axis(axis, ticks, rotation=40, ha="right")
        axis.set_xlim(-0.6, len(ticks) - 0.4)
        draw.panel_title(axis, name + draw.verdict_suffix(rows, row))
    draw.share_axis(axes[0][0], "answered so (share of questions)")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (colour, marker, _) in answers),
               draw.world_mark(), draw.line_mark("a guess by forced choice")]  # fmt: skip
    return draw.finish(figure, title, [*worlds, *none], handles)
