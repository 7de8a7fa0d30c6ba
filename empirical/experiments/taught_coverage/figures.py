"""Figure of taught_coverage."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, RED, Records, Rows

#: how a direct question is answered: colour, marker, ending of the cell for the right and for the old capital
ANSWERS = {"forced choice": (BLUE, "o", "_forced", "_old_forced"), "free text": (RED, "^", "", "_old")}
#: what is asked of whom: condition, what the cell begins with, whether of the old capital, a row that is judged
PANELS = {
    "λ: first hop alone": ("first_early", "", True, "half.lambda.F"),
    "p₂: second hop alone": ("second_late", "fellows_", False, "half.p2.F"),
    "sum": ("sum:early+late", "", False, "half.sum.F"),
}


def sides_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct questions by forced choice and in free text, over made-up (F) and real (H) countries of which the base was
    taught direct questions, and over the others; λ also where none was taught (none)."""
    worlds, none = draw.in_groups(records, "half"), draw.in_groups(records, "none")
    if not worlds:
        return None
    sides = [f"{family}_{side}" for family in ("F", "H") for side in ("covered", "uncovered")]
    figure, axes = draw.new_panels(3, 1, 3.1, sharey=True, width_ratios=(6, 4, 4))
    for axis, (title, (condition, before, old, judged)) in zip(axes[0], PANELS.items(), strict=True):
        shown = [(side, worlds) for side in sides]
        if condition == "first_early":
            shown += [(side, none) for side in sides[1::2]]
        for k, (colour, marker, *endings) in enumerate(ANSWERS.values()):
            for x, (side, of) in enumerate(shown):
                rates = [w.metrics.scores[condition][before + side + endings[old]].rate for w in of]
                draw.cloud(axis, x + 0.24 * k - 0.12, rates, colour, 0.1, marker)
        names = [side if of is worlds else f"{side[0]} none" for side, of in shown]
        draw.name_axis(axis, names, rotation=40, ha="right")
        axis.set_xlim(-0.6, len(shown) - 0.4)
        axis.axhline(2 / worlds[0].cell.countries, color="black", lw=1.2)
        draw.panel_title(axis, title + draw.verdict_suffix(rows, judged))
    draw.share_axis(axes[0][0], "capital right (share of questions)")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (colour, marker, *_) in ANSWERS.items()),
               draw.world_mark(), draw.line_mark("blind to the country")]  # fmt: skip
    return draw.finish(figure, "Coverage, taught to a pretrained model", worlds, handles)


plots = {"taught_coverage": sides_figure}
