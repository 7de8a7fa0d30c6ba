"""The figure of the replay experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, RED, Records, Rows
from empirical.experiments.replay.predictions import run_name
from empirical.experiments.replay.run import WORLD


def replay_figure(records: Records, rows: Rows) -> Figure | None:
    """Old facts kept, by exposures of each and by rehearsed examples, on bases of many facts and of a quarter of them;
    and in and out of buffers."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    figure, axes = draw.new_panels(3, 1, 3.0, sharey=True)
    left, middle, last = axes[0]
    sizes = sorted({w.cell.old_persons for w in worlds}, reverse=True)
    marks = []
    for persons, colour, marker in zip(sizes, (BLUE, RED), "os", strict=False):
        of = [w for w in worlds if w.cell.old_persons == persons]
        cell, known = of[0].cell, of[0].metrics.base.asked
        marks.append(draw.mean_mark(f"base of {known} facts", colour, marker))
        for share in cell.shares:
            for steps in cell.steps:
                found = [w.metrics.runs[run_name(share, steps)] for w in of]
                kept = [f.inside.rate for f in found]
                draw.cloud(left, found[0].exposures, kept, colour, marker=marker)
                draw.cloud(middle, share * cell.batch * steps, kept, colour, marker=marker)
    left.set_xscale("symlog", base=2, linthresh=0.03125)
    left.set_xlabel("exposures of each old fact")
    middle.set_xscale("symlog", base=2, linthresh=16)
    middle.set_xlabel("old examples shown in all")
    for axis in (left, middle):
        axis.xaxis.get_major_locator().set_params(numticks=4)
    for x, size in enumerate(worlds[0].cell.buffers):
        found = [w.metrics.buffers[str(size)] for w in worlds if str(size) in w.metrics.buffers]
        draw.cloud(last, x - 0.15, [f.inside.rate for f in found], GREEN, 0.2, "^")
        draw.cloud(last, x + 0.15, [f.outside.rate for f in found], BLUE, 0.2)
    draw.name_axis(last, [str(m) for m in worlds[0].cell.buffers])
    last.set_xlabel("facts in the buffer")
    draw.share_axis(left, "old facts kept")

    draw.panel_title(left, "By exposures" + draw.tally(rows, "exposures."))
    draw.panel_title(middle, "By examples" + draw.tally(rows, "none", "steps", "ways.", "facts."))
    draw.panel_title(last, "Buffers" + draw.tally(rows, "inside.", "outside."))
    handles = [*marks, draw.mean_mark("facts in the buffer", GREEN, "^"), draw.world_mark()]
    return draw.finish(figure, "Old facts that are kept while new ones are learnt", worlds, handles)


plots = {"replay": replay_figure}
