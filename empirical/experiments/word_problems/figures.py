"""Figures of the word_problems experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, SOFT, Records, Rows
from empirical.experiments.word_problems.predictions import ORDERS
from empirical.experiments.word_problems.run import WORLD

#: what is asked, as it stands below the axis; a worked one is of the chains
ASKED = {"A": "A", "B": "B", "AB": "A, B", "BA": "B, A", "long": "three\nclauses", "worked AB": "A, B\nworked",
         "worked BA": "B, A\nworked"}  # fmt: skip
MODELS = {"sum": ("sum of A and B", BLUE, "o"),
          "joint": ("joint training", GREEN, "s"), "mixed": ("saw problems with both", PURPLE, "^")}  # fmt: skip
#: how a lure is read: its look
READ = {"clear": (BLUE, None), "verb": (RED, None)}
#: what is answered to two new clauses: its name and look
KINDS = {"": ("both clauses", (BLUE, None)), "_first": ("the first alone", (GREEN, None)),
         "_second": ("the second alone", (PURPLE, None)), "_neither": ("the start", (SOFT, None))}  # fmt: skip


def hops_figure(records: Records, rows: Rows) -> Figure | None:
    """One clause, two, three, direct and worked; with the law and with oracle routing."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    found = [w.metrics for w in worlds]
    figure, axes = draw.new_panels(1, 1, 3.2)
    axis = axes[0][0]
    for x, asked in enumerate(ASKED):
        order = asked.removeprefix("worked ")
        for k, (model, (_, colour, marker)) in enumerate(MODELS.items()):
            shares = [
                (m.chains[model][order].reached if order != asked else m.scores[model][asked]).rate for m in found
            ]
            draw.cloud(axis, x + 0.2 * k - 0.3, shares, colour, 0.12, marker)
        if asked in ORDERS:
            law = draw.mean_rate([m.predicted.coverage_law[asked].low for m in found])
            oracle = draw.mean_rate([m.predicted.oracle[asked].rate for m in found])
            axis.plot([x - 0.42, x - 0.18], [law] * 2, color="black", lw=1.6, gid=f"law.{asked}")
            axis.plot([x - 0.42, x - 0.18], [oracle] * 2, color=RED, ls=":", lw=1.6, gid=f"oracle.{asked}")
    draw.name_axis(axis, list(ASKED.values()))
    draw.share_axis(axis, "share right")
    draw.panel_title(axis, f"New names, numbers and templates{draw.tally(rows)}")
    handles = [*(draw.mean_mark(*look) for look in MODELS.values()), draw.world_mark(),
               draw.line_mark("predicted: λ p₂ of the experts alone"),
               draw.line_mark("oracle routing", ":", RED)]  # fmt: skip
    return draw.finish(figure, "Word problems: from one clause to three", worlds, handles)


def surface_figure(records: Records, rows: Rows) -> Figure | None:
    """What each method answers to problems with both skills, and what the surface does (lures)."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    found = [w.metrics for w in worlds]
    figure, axes = draw.new_panels(2, 1, 3.9, width_ratios=[2.6, 1], sharey=True)
    left, right = axes[0]
    methods = ["sum", *(m for m in worlds[0].cell.methods if m in found[0].scores)]
    for x, method in enumerate(methods):
        for shift, order in ((-0.2, "AB"), (0.2, "BA")):
            shares = [draw.mean_rate([m.scores[method][f"{order}{kind}"].rate for m in found]) for kind in KINDS]
            draw.pile(left, x + shift, shares, (look for _, look in KINDS.values()), width=0.36, lw=0)
    draw.name_axis(left, methods, rotation=60, ha="right")
    draw.share_axis(left, "share of problems")
    draw.panel_title(left, "Each method" + draw.tally(rows, "method."), "left bars: A then B; right bars: B then A")
    models = ("A", "B", "sum", "joint", "mixed")
    for x, model in enumerate(models):
        for shift, skill in ((-0.2, "A"), (0.2, "B")):
            if model not in ("A", "B") or model == skill:
                shares = [
                    draw.mean_rate([m.scores[model][f"lure_{skill}_{kind}"].rate for m in found]) for kind in READ
                ]
                draw.pile(right, x + shift, shares, READ.values(), width=0.36, lw=0)
    draw.name_axis(right, models)
    draw.panel_title(right, "Lures" + draw.tally(rows, "lure."), "blue: read by the frame (right); red: by the verb")
    handles = [draw.area_mark(name, look) for name, look in KINDS.values()]
    return draw.finish(figure, "Word problems: what each method answers, and what the surface does", worlds, handles)


plots = {
    "word_problems_hops": hops_figure,
    "word_problems_surface": surface_figure,
}
