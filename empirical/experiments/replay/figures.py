"""The figure of the replay experiment."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from empirical.engine.drawing import (
    BLUE,
    GREEN,
    RED,
    Records,
    Rows,
    cloud,
    finish,
    mean_mark,
    new_panels,
    panel_title,
    share_axis,
    tally_suffix,
    world_mark,
)
from empirical.experiments.replay.predictions import run_name
from empirical.experiments.replay.run import WORLD


def replay_figure(records: Records, rows: Rows) -> Figure | None:
    """Old facts kept, by exposures of each and by rehearsed examples, on bases of many facts and of a quarter of them;
    and in and out of buffers."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    figure, axes = new_panels(3, 1, (9.6, 3.5), sharey=True)
    left, middle, last = axes[0]
    sizes = sorted({w.cell.old_persons for w in worlds}, reverse=True)
    marks = []
    for persons, colour, marker in zip(sizes, (BLUE, RED), "os", strict=False):
        of = [w for w in worlds if w.cell.old_persons == persons]
        cell, known = of[0].cell, of[0].metrics.base.asked
        marks.append(mean_mark(f"base of {known} facts", colour, marker))
        for share in cell.shares:
            for steps in cell.steps:
                found = [w.metrics.runs[run_name(share, steps)] for w in of]
                kept = [f.inside.rate for f in found]
                cloud(left, found[0].exposures, kept, colour, marker=marker)
                cloud(middle, share * cell.batch * steps, kept, colour, marker=marker)
    left.set_xscale("symlog", base=2, linthresh=0.03125)
    left.set_xlabel("exposures of each old fact")
    middle.set_xscale("symlog", base=2, linthresh=16)
    middle.set_xlabel("old examples shown, all together")
    for x, size in enumerate(worlds[0].cell.buffers):
        found = [w.metrics.buffers[str(size)] for w in worlds if str(size) in w.metrics.buffers]
        cloud(last, x - 0.15, [f.inside.rate for f in found], GREEN, 0.2, "^")
        cloud(last, x + 0.15, [f.outside.rate for f in found], BLUE, 0.2)
    last.set_xticks(range(len(worlds[0].cell.buffers)), [str(m) for m in worlds[0].cell.buffers])
    last.set_xlabel("facts in the buffer")
    share_axis(left, "old facts kept")

    def held(starts: Sequence[str]) -> str:
        chosen = [r for r in rows if r["kind"] == "hypothesis" and r["id"].startswith(tuple(starts))]
        return tally_suffix([r["verdict"] for r in chosen])

    panel_title(left, f"By exposures{held(['exposures.'])}")
    panel_title(middle, f"By examples{held(['none', 'steps', 'ways.', 'facts.'])}")
    panel_title(last, f"Buffers{held(['inside.', 'outside.'])}")
    handles = [*marks, mean_mark("facts in the buffer", GREEN, "^"), world_mark()]
    return finish(figure, "Old facts that are kept while new ones are learnt", worlds, handles)


plots = {"replay": replay_figure}
