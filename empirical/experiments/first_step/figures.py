"""The figure of the first_step experiment."""

from __future__ import annotations

from itertools import product

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, RED, Records, Rows
from empirical.experiments.first_step.predictions import MARGIN, WORDS, read
from empirical.experiments.first_step.run import OPTIMIZERS, SCALES, WORLD
from theory.adapters import first_step_power

NAMES, SIGNS = {"sgd": "SGD", "adam": "Adam"}, {"alpha/r": "α / r", "alpha/sqrt(r)": "α / √r"}
#: the factor that starts at zero: colour, marker, place in its row
LOOKS = {"B": (BLUE, "o", -0.2), "A": (RED, "s", 0.2)}


def first_step_figure(records: Records, rows: Rows) -> Figure | None:
    """Powers of the rank with which the first step grows, by optimiser and scale: the norm of the update, and the fall
    of the loss."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    ways = list(product(OPTIMIZERS, SCALES))
    figure, axes = draw.new_panels(2, 1, 2.2, sharex=True, sharey=True)
    for axis, (of, words) in zip(axes[0], WORDS.items(), strict=True):
        for y, (optimizer, scale) in enumerate(ways):
            said = float(first_step_power(optimizer, of, SCALES[scale]))
            axis.fill_between([said - MARGIN, said + MARGIN], y - 0.45, y + 0.45, color="black", alpha=0.1, lw=0)
            axis.plot([said] * 2, [y - 0.45, y + 0.45], "k-", gid=f"power.{of}.{y}")
            for zero, (colour, marker, shift) in LOOKS.items():
                found = [read(w.metrics, f"{optimizer}, {scale}, {zero}", of) for w in worlds]
                draw.row(axis, y + shift, found, colour, marker)
        draw.name_rows(axis, [f"{NAMES[o]}, {SIGNS[s]}" for o, s in ways])
        axis.set_xlabel("power of the rank")
        judged = [row for row in rows if row["id"].endswith(f".{of}")]
        draw.panel_title(axis, words.capitalize() + draw.tally(judged))
    handles = [
        *(draw.mean_mark(f"{zero} at zero", *look) for zero, (*look, _) in LOOKS.items()), draw.world_mark(),
        draw.line_mark("predicted"), draw.area_mark("within the margin", ("black", None), alpha=0.1, lw=0),
    ]  # fmt: skip
    return draw.finish(figure, "How the first step grows with the rank", worlds, handles)


plots = {"first_step": first_step_figure}
