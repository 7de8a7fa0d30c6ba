"""The figure of the rounds experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.experiments.rounds.run import HEADS, MASKS

COLOURS, MARKERS = (BLUE, GREEN, PURPLE, RED, "#56B4E9"), "os^Dv"


def rounds_figure(records: Records, rows: Rows) -> Figure | None:
    """Median margin and share of new facts after every round, with what the heads of round 1 foretell; and facts
    answered by adapters trained under masks, by the part of the update that is used."""
    worlds, masked = HEADS.of(records), MASKS.of(records)
    if not worlds or not masked:
        return None
    figure, axes = draw.new_panels(3, 1, 3.0)
    left, middle, last = axes[0]
    conditions = [c for c in worlds[0].cell.conditions if not c.equal]
    marks = []
    for c, colour, marker in zip(conditions, COLOURS, MARKERS, strict=False):
        marks.append(draw.mean_mark(c.name, colour, marker))
        times = range(1, c.rounds + 1)
        foretold = [w.metrics.predicted[c.name] for w in worlds]
        law = [draw.mean_rate([f.margin[t - 1] for f in foretold]) for t in times]
        left.plot(times, law, "k-" if c.reset else "k:", lw=1.1, gid=f"law.{c.name}")
        by_fact = [draw.mean_rate([f.right[t - 1].rate for f in foretold]) for t in times]
        middle.plot(times, by_fact, "k-" if c.reset else "k:", lw=0.8, alpha=0.6)
        for t in times:
            found = [w.metrics.rounds[c.name][t - 1] for w in worlds]
            draw.cloud(left, t, [f.margin for f in found], colour, 0.2, marker)
            draw.cloud(middle, t, [f.right.rate for f in found], colour, 0.2, marker)
    left.set(xlabel="round", ylabel="median margin (logits)")
    middle.set_xlabel("round")
    for (name, first), colour, marker in zip(masked[0].metrics.found.items(), COLOURS, MARKERS, strict=False):
        marks.append(draw.mean_mark(f"masks, p = {name}", colour, marker))
        for i in range(len(first.new)):
            values = [w.metrics.found[name].new[i].rate for w in masked]
            draw.cloud(last, masked[0].cell.parts[i], values, colour, 0.2, marker)
    last.set_xlabel("k (1/k of the update is used)")
    for axis in (middle, last):
        draw.share_axis(axis, "new facts answered")
    for axis, title, start, claim in (
        (left, "1 − (1 − 1/H)ᵀ", "heads.", "round_dilution"),
        (middle, "Facts, one by one", "heads.", "interference"),
        (last, "Masks", "masks.", "dilution"),
    ):
        draw.panel_title(axis, title + draw.tally(rows, start, claim=claim, kind="hypothesis"))
    handles = [*marks, draw.line_mark("foretold by the heads of round 1", lw=1.1), draw.world_mark()]
    return draw.finish(figure, "Rounds of mean merging, and masks", [*worlds, *masked], handles)


plots = {"rounds": rounds_figure}
