"""Figures of the word_problems experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, SOFT, Records, Rows
from empirical.experiments.word_problems.predictions import JOINS, ORDERS
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
    methods = ["sum", *(m for m in worlds[0].cell.methods if m in found[0].scores)]

    def share(condition: str, question: str) -> float:
        return draw.mean_rate([m.scores[condition][question].rate for m in found])

    methods.sort(key=lambda m: -sum(share(m, order) for order in ORDERS))
    models = {"": "the expert", "sum": "sum", "joint": "joint", "mixed": "mixed"}
    heights = [len(methods), len(models)]
    figure, axes = draw.new_panels(2, 2, 1.3 + 0.16 * sum(heights), sharex="row", sharey="row", height_ratios=heights)
    for axis, (order, name) in zip(axes[0], ORDERS.items(), strict=True):
        for y, method in enumerate(methods):
            shares = [share(method, f"{order}{kind}") for kind in KINDS]
            draw.pile(axis, y, shares, (look for _, look in KINDS.values()), 0.76, lying=True, lw=0)
        axis.axvline(JOINS, color="black", ls="--", lw=1, gid=f"joins.{order}")
        draw.name_rows(axis, methods)
        draw.panel_title(axis, name)
        axis.set_xlabel("share of problems with two new clauses")
    for axis, skill in zip(axes[1], "AB", strict=True):
        for y, model in enumerate(models):
            shares = [share(model or skill, f"lure_{skill}_{kind}") for kind in READ]
            draw.pile(axis, y, shares, READ.values(), 0.76, lying=True, lw=0)
        draw.name_rows(axis, list(models.values()))
        said = f"its expert by the frame > 1/3{draw.verdict_suffix(rows, f'lure.{skill}')}"
        draw.panel_title(axis, f"Lures of {skill}; {said}")
        axis.set(xlim=(0, 1), xlabel="share of lures")
    handles = [
        *(draw.area_mark(name, look) for name, look in KINDS.values()),
        draw.line_mark(f"predicted of both orders: at most {JOINS:g}{draw.tally(rows, 'method.')}", "--", lw=1),
        draw.area_mark("lure read by its frame (right)", READ["clear"]),
        draw.area_mark("lure read by its verb", READ["verb"]),
    ]  # fmt: skip
    return draw.finish(figure, "Word problems: what each method answers, and what the surface does", worlds, handles)


plots = {
    "word_problems_hops": hops_figure,
    "word_problems_surface": surface_figure,
}
