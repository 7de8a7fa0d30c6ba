"""Figures of the coverage experiment."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, SOFT, Records, Rows
from empirical.engine.predictions import rate
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.coverage.predictions import COVERED, LAW, TELLS, UNCOVERED, auc
from empirical.experiments.coverage.tables import Answered, Law, Measured, WorldCell
from theory.composition import coverage_law

PAIRS = {
    "placed": "early + late layers",
    "rows": "new embeddings + late",
    "all": "all layers + all layers",
    "swapped": "late + early layers",
    "shuffled": "wrong bridges + late",
}
#: kinds of bridges, their colours and hatches; one world beside them
BRIDGES = {"covered": (BLUE, None), "uncovered": (RED, "////")}
DOT: dict[str, Any] = {"marker": "o", "ls": "", "ms": 2.6, "mew": 0, "color": "#222222", "alpha": 0.6}
World = Record[WorldCell, Measured]


def _law(record: World, pair: str) -> Law | None:
    return record.metrics.predicted.law(pair)


def _cells(record: World, condition: str, *cells: str) -> float:
    """Share right in some cells together; NaN where the world lacks the condition or asked nothing."""
    counts = record.metrics.scores.get(condition)
    return math.nan if counts is None else Count.total(counts[c] for c in cells).rate


def coverage_figure(records: Records, rows: Rows) -> Figure | None:
    """Accuracy of new x changed against coverage, on all bridges and on covered ones, with coverage_law."""
    worlds = draw.in_groups(records, "headline", "sweep")
    pairs = [p for p in ("placed", "rows", "all") if any(f"sum:{p}" in r.metrics.scores for r in worlds)]
    if not pairs:
        return None
    figure, axes = draw.new_panels(len(pairs), 2, 4.6, sharex=True, sharey=True)
    m = worlds[0].cell.values
    # lambda and p2 of the worlds at the headline coverage, which the affine law takes to every coverage
    headline = draw.in_groups(records, "headline") or worlds
    line = np.linspace(0.0, 1.0, 41)
    for column, pair in enumerate(pairs):
        mine = [r for r in worlds if f"sum:{pair}" in r.metrics.scores]
        levels = sorted({r.cell.coverage for r in mine})
        known = [law for law in (_law(r, pair) for r in headline) if law]
        factors = draw.mean_rate([law.retrieval for law in known]), draw.mean_rate([law.p2 for law in known])
        for axis, covered in ((axes[0, column], False), (axes[1, column], True)):
            shown = [c for c in levels if c > 0 or not covered]
            sealed = {c: [_law(r, pair) for r in mine if r.cell.coverage == c] for c in shown}
            laws = {c: [law for law in found if law] for c, found in sealed.items()}
            low = [draw.mean_rate([law.covered if covered else law.low for law in laws[c]]) for c in shown]
            margin = LAW.get(pair, 0.0)  # a pair of which only the direction is said has none
            guessed = [draw.mean_rate([law.high for law in laws[c]]) for c in shown]
            ends = np.array([np.subtract(low, margin), np.add(low, margin)] if covered else [low, guessed])
            affine = [
                coverage_law(1.0 if covered else float(c), factors[0], factors[1], m).low if known else math.nan
                for c in line
            ]
            if len(shown) > 1:
                axis.fill_between(shown, *ends, color="black", alpha=0.1, lw=0)
            else:
                axis.errorbar(shown, low, np.abs(ends - low), color="black", alpha=0.15, elinewidth=9)
            axis.plot(line, affine, ls=":", color="black", lw=1.1, gid=f"affine.{pair}.{covered}")
            axis.plot(shown, low, "k-", marker="D", mfc="none", ms=7, zorder=5, gid=f"law.{pair}.{covered}")
            cells = ("new_changed_covered",) if covered else ("new_changed_covered", "new_changed_uncovered")
            for c in shown:
                values = [_cells(r, f"sum:{pair}", *cells) for r in mine if r.cell.coverage == c]
                draw.cloud(axis, c, values, BLUE, 0.09)
            axis.axhline(1 / m, color=RED, ls="--", lw=1)
        draw.panel_title(axes[0, column], PAIRS[pair])
        at = f"λ p₂ at c = {headline[0].cell.coverage:g}"
        draw.panel_title(axes[1, column], f"{at}{draw.verdict_suffix(rows, f'headline.law.{pair}')}")
        axes[1, column].set_xlabel("coverage c (share of bridges)")
    for axis, label in ((axes[0, 0], "accuracy, all bridges"), (axes[1, 0], "accuracy, covered bridges")):
        draw.share_axis(axis, label)
        axis.set_xlim(-0.08, 1.08)
    handles = [
        draw.mean_mark("measured, mean over worlds", BLUE), draw.world_mark(BLUE),
        draw.line_mark("predicted from each world's experts alone", marker="D", mfc="none", ms=7),
        draw.area_mark("top: guesses included; below: margin of the law", ("black", None), alpha=0.1, lw=0),
        draw.line_mark(f"λ, p₂ of c = {headline[0].cell.coverage:g} at every c", ":", lw=1.1),
        draw.line_mark(f"chance, 1/{m}", "--", RED, lw=1),
    ]  # fmt: skip
    title = "Sum of two experts: new person × changed second hop, against coverage"
    return draw.finish(figure, title, worlds, handles)


def placement_figure(records: Records, rows: Rows) -> Figure | None:
    """Where each hop is written decides: single experts, sums and training together, covered and uncovered bridges."""
    worlds = draw.in_groups(records, "headline")
    if not worlds:
        return None
    m = worlds[0].cell.values
    panels = [
        ("First hop alone", "new person × unchanged second hop", "new_unchanged",
         {"first_early": "early", "first_all": "all", "first_late": "late", "rows": "new\nembed."}),
        ("Second hop alone", "old person × changed second hop", "old_changed",
         {"second_late": "late", "second_all": "all", "second_early": "early"}),
        ("Sums of the two", "new person × changed second hop", "new_changed",
         {"sum:placed": "early\n+ late", "sum:rows": "embed.\n+ late", "sum:all": "all\n+ all",
          "sum:swapped": "late\n+ early", "sum:shuffled": "wrong\n+ late"}),
        ("Trained together", "new person × changed second hop", "new_changed",
         {"joint": "joint", "everything": "full\nfine-t.", "joint_bridge": "+ bridge\ndata *",
          "direct": "direct\n(taught)"}),
    ]  # fmt: skip
    scanned = sorted(
        int(e.removeprefix("first_"))
        for e in worlds[0].metrics.scores
        if e.startswith("first_") and e.removeprefix("first_").isdigit()
    )
    columns = 3 if scanned else 2
    figure, axes = draw.new_panels(columns, 2, 5.0, sharey=True, width_ratios=[5, 4, 4][:columns])
    for axis, (title, questions, cell, conditions) in zip(axes[:, :2].flat, panels, strict=True):
        for offset, (bridges, look) in zip((-0.2, 0.2), BRIDGES.items(), strict=True):
            for x, condition in enumerate(conditions):
                # bridge data shows the changed questions of every other person; only the others' count
                if condition == "joint_bridge":
                    asked = ("new_changed_unseen",) if bridges == "covered" else ()
                else:
                    asked = (f"{cell}_{bridges}",)
                values = [_cells(r, condition, *asked) for r in worlds]
                kept = [v for v in values if not math.isnan(v)]
                survivors = [_cells(r, condition, f"{COVERED}_survivors") for r in worlds]
                own = condition not in ("joint_bridge", "direct")  # which were shown some of these questions
                if cell == "new_changed" and bridges == "covered" and own and kept:
                    axis.plot([x + offset], [draw.mean_rate(survivors)], "v", ms=5, mfc="none", mec=BLUE, zorder=5)
                if kept:
                    at = x + offset
                    draw.pile(axis, at, [draw.mean_rate(kept)], [look], width=0.36, alpha=0.55, ec="white", lw=0)
                    axis.plot(draw.aside(at, len(kept), 0.24), kept, **DOT, zorder=3)
                pair = condition.removeprefix("sum:")
                laws = [law.covered for law in (_law(r, pair) for r in worlds) if law]
                if condition.startswith("sum:") and bridges == "covered" and laws:
                    law = {"lw": 2.2, "zorder": 4, "gid": f"law.{pair}", "solid_capstyle": "butt"}
                    axis.plot([x - 0.42, x + 0.02], [draw.mean_rate(laws)] * 2, "k-", **law)
        draw.name_axis(axis, list(conditions.values()))
        draw.panel_title(axis, title, questions)
    if scanned:
        axes[1, 2].remove()
        axis = axes[0, 2]
        for (hop, cell), (colour, marker) in zip(
            (("first", "new_unchanged"), ("second", "old_changed")), ((GREEN, "^"), (PURPLE, "s")), strict=True
        ):
            for layer in scanned:
                values = [_cells(r, f"{hop}_{layer}", f"{cell}_covered") for r in worlds]
                draw.cloud(axis, layer, values, colour, 0.2, marker)
        axis.set_xticks(scanned, [str(layer) for layer in scanned])
        axis.set_xlabel("layer")
        draw.panel_title(axis, "One layer only", "covered bridges")
    for axis in figure.axes:
        axis.axhline(1 / m, color="black", ls="--", lw=0.9)
    for axis in axes[:, 0]:
        draw.share_axis(axis)
    handles = [
        *(draw.area_mark(f"{name} bridges, mean", look, alpha=0.55, ec="white") for name, look in BRIDGES.items()),
        draw.line_mark("one world", **DOT),
        draw.line_mark("covered, where both hops survive", "", marker="v", ms=5, mfc="none", mec=BLUE),
        draw.line_mark("predicted: λ p₂", lw=2.2), draw.line_mark(f"chance, 1/{m}", "--", lw=0.9),
        draw.line_mark("* on people it saw no two-hop of", ""),
    ]  # fmt: skip
    if scanned:
        handles += [draw.mean_mark("first hop", GREEN, "^"), draw.mean_mark("second hop", PURPLE, "s")]
    return draw.finish(figure, "Where each hop is written", worlds, handles)


def alignment_figure(records: Records, rows: Rows) -> Figure | None:
    """AUC of α and κ for what will be answered, beside that of the answer's own confidence, world by world."""
    worlds = draw.in_groups(records, "headline")
    said = [("placed", "alpha"), ("rows", "alpha"), ("all", "kappa"), ("placed", "kappa")]
    found = {}
    for pair, score in said:
        of = [auc(pair, score, 0), auc(pair, score, 1)]
        both = [(of[0]([r]), of[1]([r])) for r in worlds if all(pair in experts.pairs for experts in r.metrics.sets)]
        found[pair, score] = [(rate(v), rate(c)) for v, c in both if v is not None and c is not None]
    if not any(found.values()):
        return None
    figure, axes = draw.new_panels(4, 1, 3.7, sharey=True)
    names = {"alpha": "α", "kappa": "κ"}
    for axis, (pair, score) in zip(axes[0], said, strict=True):
        values = found[pair, score]
        for v, c in values:
            axis.plot([0, 1], [v, c], color=SOFT, lw=0.7, alpha=0.5, zorder=2)
        draw.cloud(axis, 0, [v for v, _ in values], BLUE)
        draw.cloud(axis, 1, [c for _, c in values], RED, marker="s")
        axis.axhline(TELLS, color="black", ls="-", lw=1.1, gid=f"tells.{score}.{pair}")
        axis.axhline(0.5, color="black", ls="--", lw=0.9)
        axis.set_xlim(-0.5, 1.5)
        axis.set_ylim(min([0.4, *(x - 0.05 for pairs in found.values() for both in pairs for x in both)]), 1.03)
        draw.name_axis(axis, [names[score], "confidence"])
        asked = "changed" if score == "alpha" else "unchanged"
        lines = [
            f"{PAIRS[pair]}",
            f"AUC in {len(values)} of {len(worlds)} worlds",
            f"≥ {TELLS:g}{draw.verdict_suffix(rows, f'headline.{score}.{pair}') or ' predicted'}",
        ]
        gain = draw.verdict_suffix(rows, f"headline.{score}.{pair}.gain")  # not said of every pair
        lines += [f"> confidence{gain}"] if gain else []
        axis.set_title("\n" * (len(lines) + 1))  # room for the lines
        axis.text(0, 1.27, f"{names[score]}, {asked} 2nd hops", transform=axis.transAxes).set_in_layout(False)
        for i, text in enumerate(lines):
            look = {"color": SOFT} | draw.loud(text)
            drawn = axis.text(0, 1.2 - 0.06 * i, text, look, transform=axis.transAxes)
            drawn.set_in_layout(False)
        if not values:
            note = "no world with\n3 right, 3 wrong"
            axis.text(0.5, 0.68, note, transform=axis.transAxes, ha="center", color=SOFT).set_in_layout(False)
    axes[0, 0].set_ylabel("AUC on covered bridges")
    handles = [draw.mean_mark("before scoring: α or κ, mean", BLUE),
               draw.mean_mark("the answer's own confidence, mean", RED, "s"),
               draw.line_mark("one world", "-", SOFT, lw=0.7), draw.line_mark(f"predicted: at least {TELLS:g}", lw=1.1),
               draw.line_mark("chance, 0.5", "--", lw=0.9)]  # fmt: skip
    return draw.finish(figure, "Which queries will be answered? α and κ against success", worlds, handles)


#: kinds of answers, their colours and hatches
KINDS = {
    "right": (BLUE, None), "old_value": (PURPLE, "\\\\\\"), "other_value": (RED, "////"), "bridge": (GREEN, "xx"),
    "other_bridge": ("#56B4E9", ".."), "neither": (SOFT, None),
}  # fmt: skip


#: beside plain sums, of all that the table has
SHOWN = ("joint", "everything", "mean:all", "ties:all", "knots:all", "tsv:all", "lora_soups:all", "arrow_top1:all",
         "knots:placed")  # fmt: skip


def answers_figure(records: Records, rows: Rows) -> Figure | None:
    """What is answered instead, over covered and uncovered bridges, and what layer of an adapter costs first hops."""
    worlds = draw.in_groups(records, "headline")
    if not worlds:
        return None

    def answered(condition: str, cell: str) -> list[Answered]:
        return [r.metrics.answered(condition, cell) for r in worlds if condition in r.metrics.scores]

    def share(condition: str, cell: str, kind: str) -> float:
        return draw.mean_rate([_share(given, kind) for given in answered(condition, cell)])

    conditions = [c for c in worlds[0].metrics.scores if c in SHOWN or c.startswith("sum:")]
    conditions.sort(key=lambda c: -share(c, COVERED, "right"))
    figure, axes = draw.new_panels(3, 1, 0.5 + 0.2 * len(conditions), width_ratios=[5, 5, 4])
    axes[0, 1].sharey(axes[0, 0])
    axes[0, 1].tick_params(labelleft=False)
    for axis, cell, title in zip(axes[0], (COVERED, UNCOVERED), ("Covered bridges", "Uncovered bridges"), strict=False):
        for y, condition in enumerate(conditions):
            shares = [share(condition, cell, kind) for kind in KINDS]
            draw.pile(axis, y, shares, KINDS.values(), 0.8, lying=True, alpha=0.6, ec="white", lw=0)
            forced = [given.choice.rate for given in answered(condition, cell)]
            axis.plot([draw.mean_rate(forced)], [y], "D", ms=4, mfc="none", mec="black", zorder=5)
        draw.name_rows(axis, conditions)
        draw.panel_title(axis, title, "new person × changed second hop")
        axis.set(xlim=(-0.03, 1.05), xlabel="share of answers")
    axis = axes[0, 2]
    for label, colour, marker in (("only", GREEN, "^"), ("without", PURPLE, "s")):
        for layer in range(worlds[0].cell.layers):
            parts = [[e.trace[f"{label}_{layer}"]["first_new"] for e in r.metrics.sets if e.trace] for r in worlds]
            draw.cloud(axis, layer, [Count.total(part).rate for part in parts], colour, 0.2, marker)
    whole = draw.mean_rate([_cells(r, "sum:all", "first_new") for r in worlds])
    axis.axhline(whole, color="black", lw=1.1)
    axis.set_xticks(range(worlds[0].cell.layers))
    axis.set_xlabel("layer of the second adapter")
    draw.panel_title(axis, "First hops in all + all")
    draw.share_axis(axis, "first hops kept")
    handles = [
        *(draw.area_mark(kind.replace("_", " "), look, alpha=0.6, ec="white") for kind, look in KINDS.items()),
        draw.line_mark("right by forced choice", "", marker="D", ms=4, mfc="none", mec="black"),
        draw.mean_mark("its part on this layer only", GREEN, "^"), draw.mean_mark("all but this layer", PURPLE, "s"),
        draw.line_mark("the whole sum", lw=1.1),
    ]  # fmt: skip
    return draw.finish(figure, "What is answered instead, and where first hops are lost", worlds, handles)


def _share(answered: Answered, kind: str) -> float:
    asked = answered.free.asked
    return getattr(answered, kind) / asked if asked else math.nan


plots = {
    "coverage_law": coverage_figure,
    "coverage_placement": placement_figure,
    "coverage_answers": answers_figure,
    "coverage_alignment": alignment_figure,
}
