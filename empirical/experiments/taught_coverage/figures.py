"""Figure of taught_coverage."""

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
#: who is asked: condition, what the cell begins with, how many of the answers can come, a row that is judged
PANELS = {
    "base": ("base", "fellows_", 2, "half.base.F"),
    "λ: first hop": ("first_early", "", 2, "half.lambda.F"),
    "p₂: second hop": ("second_late", "fellows_", 4, "half.p2.free.F"),
    "sum": ("sum:early+late", "", 4, "half.sum.F"),
}


def sides_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct questions over covered and uncovered countries, made up (F) or real (H) where there are both: how many are
    answered with the old capital, which the base was taught, and with the new one, which the second hop was taught.
    Base and p₂: of people whom the base knows; λ and the sum: of new ones; none: where no direct question was taught.
    """
    worlds, none = draw.in_groups(records, "half"), draw.in_groups(records, "none")
    if not worlds:
        return None
    cell = worlds[0].cell
    families = sorted(cell.families)
    sides = [f"{family}_{side}" for family in families for side in ("covered", "uncovered")]
    shown = {title: [(side, worlds) for side in sides] for title in PANELS}
    if none:
        shown["λ: first hop"] += [(side, none) for side in sides[1::2]]
    widths = [len(shown[title]) * (6 + come) for title, (_, _, come, _) in PANELS.items()]
    figure, axes = draw.new_panels(4, 1, 3.1, sharey=True, width_ratios=widths)
    for axis, (title, (condition, before, come, judged)) in zip(axes[0], PANELS.items(), strict=True):
        for x, (side, of) in enumerate(shown[title]):
            for k, (colour, marker, ending) in enumerate(list(ANSWERS.values())[:come]):
                rates = [w.metrics.scores[condition][before + side + ending].rate for w in of]
                draw.cloud(axis, x + 0.2 * (k - (come - 1) / 2), rates, colour, 0.1, marker)
            coverage = of[0].cell.coverage
            choices = cell.countries * (1 - coverage if side.endswith("uncovered") else coverage)
            axis.plot([x - 0.45, x + 0.45], [1 / choices] * 2, color="black", lw=1.2)
        names = [side if of is worlds else side.replace("uncovered", "none") for side, of in shown[title]]
        if len(families) == 1:
            names = [name.removeprefix(f"{families[0]}_") for name in names]
        draw.name_axis(axis, names, rotation=40, ha="right")
        axis.set_xlim(-0.6, len(names) - 0.4)
        draw.panel_title(axis, title + draw.verdict_suffix(rows, judged))
    draw.share_axis(axes[0][0], "answered so (share of questions)")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (colour, marker, _) in ANSWERS.items()),
               draw.world_mark(), draw.line_mark("a guess by forced choice")]  # fmt: skip
    return draw.finish(figure, "Coverage, taught to a pretrained model", [*worlds, *none], handles)


plots = {"taught_coverage": sides_figure}
