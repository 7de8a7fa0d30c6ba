"""Figures of the word_problems experiment."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.engine.records import Record
from empirical.experiments.word_problems.predictions import ORDERS
from empirical.experiments.word_problems.tables import World, WorldCell

GROUPS = {"composed": "base composed its own skills", "single": "base saw single clauses only"}
#: what is asked, as it stands below the axis
ASKED = {"A": "A", "B": "B", "AB": "A, B", "BA": "B, A", "written AB": "A, B\nworked", "written BA": "B, A\nworked",
         "long": "three\nclauses"}  # fmt: skip
MODELS = {"sum": ("sum of A and B", BLUE, "o"), "joint": ("joint training", GREEN, "s"),
          "mixed": ("saw mixed problems (A, B)", PURPLE, "^")}  # fmt: skip
METHODS = {"sum": "o", "mean": "s", "ties": "^", "svd": "D", "knots": "v", "linear": "P", "arrow_top1": "X",
           "arrow_top2": "*"}  # fmt: skip
COLOURS = (BLUE, GREEN, PURPLE, RED)
#: how a lure is read: its look
READ = {"clear": (BLUE, None), "verb": (RED, None)}


def _share(record: Record[WorldCell, World], model: str, asked: str) -> float:
    metrics = record.metrics
    if model not in metrics.scores:
        return math.nan
    if asked.startswith("written "):
        return metrics.chains[model].reached[asked.removeprefix("written ")].rate
    return metrics.scores[model][asked].rate


def hops_figure(records: Records, rows: Rows) -> Figure | None:
    """One clause, two, three, direct and worked, by base; with the law and with oracle routing."""
    groups = {g: draw.in_groups(records, g) for g in GROUPS}
    groups = {g: worlds for g, worlds in groups.items() if worlds}
    if not groups:
        return None
    figure, axes = draw.new_panels(1, len(groups), (8.2, 2.9 * len(groups) + 0.7), sharex=True)
    for axis, (group, worlds) in zip(axes[:, 0], groups.items(), strict=True):
        for x, asked in enumerate(ASKED):
            for shift, (model, (_, colour, marker)) in zip((-0.25, 0.0, 0.25), MODELS.items(), strict=True):
                draw.cloud(axis, x + shift, [_share(r, model, asked) for r in worlds], colour, 0.16, marker)
            if asked in ORDERS:
                said = [r.metrics.predicted for r in worlds]
                law = draw.mean_rate([s.coverage_law.value[asked].low for s in said])
                oracle = draw.mean_rate([s.oracle.value[asked] for s in said])
                for value, name, look in (
                    (law, "law", {"color": "black"}),
                    (oracle, "oracle", {"color": RED, "ls": ":"}),
                ):
                    axis.plot([x - 0.38, x - 0.12], [value] * 2, lw=1.6, gid=f"{name}.{group}.{asked}", **look)
        axis.set_xticks(range(len(ASKED)), list(ASKED.values()))
        draw.share_axis(axis, "share right")
        draw.panel_title(axis, GROUPS[group] + draw.tally(rows, f"{group}."))
    handles = [*(draw.mean_mark(*look) for look in MODELS.values()), draw.world_mark(),
               draw.line_mark("predicted: c λ p₂"), draw.line_mark("oracle routing", ":", RED)]  # fmt: skip
    shown = [r for worlds in groups.values() for r in worlds]
    return draw.finish(figure, "Word problems: new names, numbers and templates", shown, handles, 3)


def surface_figure(records: Records, rows: Rows) -> Figure | None:
    """What the surface does (lures), and what each method keeps and composes."""
    worlds = draw.in_groups(records, "composed")
    if not worlds:
        return None
    figure, axes = draw.new_panels(2, 1, (8.2, 3.7))
    left, right = axes[0]
    models = ("A", "B", "sum", "joint", "mixed")
    for x, model in enumerate(models):
        for shift, skill in ((-0.2, "A"), (0.2, "B")):
            if model in ("A", "B") and model != skill:
                continue
            shares = [draw.mean_rate([_share(r, model, f"lure_{skill}_{kind}") for r in worlds]) for kind in READ]
            draw.pile(left, x + shift, shares, READ.values(), width=0.36, alpha=0.85, lw=0)
            left.text(x + shift, min(sum(shares), 1.0) + 0.01, skill, ha="center", fontsize=7.5)
    left.set_xticks(range(len(models)), models)
    draw.share_axis(left, "share of lures")
    left.set_ylim(0, 1.1)
    draw.panel_title(left, "Looks like the other skill" + draw.tally(rows, *(f"{g}.lure." for g in GROUPS)))
    shown = [m for m in METHODS if m in worlds[0].metrics.scores]
    for i, method in enumerate(shown):
        points = [
            [draw.mean_rate([_share(r, method, c) for c in cells]) for cells in (("A", "B"), ("AB", "BA"))]
            for r in worlds
        ]
        colour = COLOURS[i % 4]
        right.plot(*zip(*points, strict=True), marker="o", ls="", ms=2.8, mew=0, color=colour, alpha=0.45)
        kept, both = (draw.mean_rate([p[k] for p in points]) for k in (0, 1))
        right.plot([kept], [both], marker=METHODS[method], ls="", ms=7, mec="white", mew=0.7, color=colour)
    right.set(xlim=(-0.03, 1.05), xlabel="one clause (A, B)")
    draw.share_axis(right, "two clauses (A, B and B, A)")
    draw.panel_title(right, "What a method keeps, and composes")
    marks = [draw.mean_mark(m, COLOURS[i % 4], METHODS[m]) for i, m in enumerate(shown)]
    names = ("lure read by its frame (right)", "lure read by its verb")
    lures = [draw.area_mark(name, look, alpha=0.85) for name, look in zip(names, READ.values(), strict=True)]
    return draw.finish(figure, "Word problems: surface and methods", worlds, [*lures, *marks, draw.world_mark()], 5)


plots = {
    "word_problems_hops": hops_figure,
    "word_problems_surface": surface_figure,
}
