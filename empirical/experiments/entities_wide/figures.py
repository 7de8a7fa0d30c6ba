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
    figure, axes = draw.new_panels(1, 1, 3.0)
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
    return draw.finish(figure, "Where a first hop is written: composition and damage", worlds, handles)


#: how a direct question is answered: colour, marker, ending of the cell
ANSWERS = {"forced choice": (BLUE, "o", "_forced"), "free text": (RED, "^", "")}
SLANTED = {"rotation": 30, "ha": "right"}


def kinds_figure(records: Records, rows: Rows) -> Figure | None:
    """The sum of an early first hop and a late second one by the kind of facts, of made-up and of famous people; and λ
    of a first hop that rehearsed direct questions of others or did not."""
    worlds = draw.in_groups(records, "made_up", "famous", "typed")
    if not worlds:
        return None
    figure, axes = draw.new_panels(3, 1, 2.9, sharey=True, width_ratios=(3, 3, 4))
    families = [("sum:early+late", family, family) for family in worlds[0].cell.families]
    rehearsed = [(f"first_{place}{typed}", "H_old", f"{place}{words}")
                 for place in ("early", "all") for typed, words in (("", ""), ("_typed", ", direct"))]  # fmt: skip
    panels = (
        ("made_up", "made-up people", "made_up.R.H", families),
        ("famous", "famous people", "famous.R.H", families),
        ("typed", "λ, direct questions of others rehearsed", "typed.lambda.all.free", rehearsed),
    )
    for axis, (group, title, judged, shown) in zip(axes[0], panels, strict=True):
        of = draw.in_groups(records, group)
        for k, (colour, marker, ending) in enumerate(ANSWERS.values()):
            for x, (condition, cell, _) in enumerate(shown):
                rates = [w.metrics.scores[condition][cell + ending].rate for w in of]
                draw.cloud(axis, x + 0.24 * k - 0.12, rates, colour, 0.1, marker)
        draw.name_axis(axis, [name for _, _, name in shown], **({} if shown is families else SLANTED))
        axis.set_xlim(-0.6, len(shown) - 0.4)
        axis.axhline(1 / worlds[0].cell.countries, color="black", lw=1.2)
        draw.panel_title(axis, title + draw.verdict_suffix(rows, judged))
    draw.share_axis(axes[0][0], "capital right (share of questions)")
    handles = [*(draw.mean_mark(name, colour, marker) for name, (colour, marker, _) in ANSWERS.items()),
               draw.world_mark(), draw.line_mark("blind to the country")]  # fmt: skip
    return draw.finish(
        figure, "Which facts the sum joins, and what rehearsing the type of answer changes", worlds, handles
    )


plots = {"entities_scan": scan_figure, "entities_kinds": kinds_figure}
