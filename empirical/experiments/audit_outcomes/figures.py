"""The figure of the audit_outcomes experiment."""

from __future__ import annotations

import math

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, RED, Records, Rows
from empirical.engine.settings import group_of
from empirical.experiments.audit_outcomes.forecast import BASE, KEPT
from empirical.experiments.audit_outcomes.predictions import WEIGHTS, Pairs, base_kept, gain, kept, line_of, rank
from empirical.experiments.audit_outcomes.tables import Settings

LOOKS = {"sum": (BLUE, "o", -0.15), "mean": (RED, "s", 0.15)}


def outcomes_figure(records: Records, rows: Rows) -> Figure | None:
    """By how much each number's error is less than that of a forecast which knows the mean, and how it ranks; for
    adapters of sums and of means, and for the base (left of the line: probes of adapters)."""
    if not records:
        return None
    from empirical.engine import catalogue

    settings: Settings = catalogue.settings(records[0].experiment, records[0].profile)
    groups = list(dict.fromkeys(group_of(r.cell) for r in records))
    figure, axes = draw.new_panels(2, len(groups), 0.3 + 2.6 * len(groups))
    numbers = [*((n, kept) for n in KEPT), *((n, base_kept) for n in BASE)]
    for (left, right), group in zip(axes, groups, strict=True):
        worlds = draw.in_groups(records, group)
        for weights in WEIGHTS:
            colour, marker, shift = LOOKS[weights]
            for x, (number, read) in enumerate(numbers):
                line = line_of(settings.lines[weights], number)
                pairs: list[Pairs] = [read(w.metrics, number, weights) for w in worlds]
                for axis, of in ((left, gain), (right, rank)):
                    found = [of(p, line) for p in pairs]
                    draw.cloud(axis, x + shift, [math.nan if f is None else f for f in found], colour, 0.2, marker)
        for axis in (left, right):
            draw.name_axis(axis, [*KEPT, *(f"base: {n}" for n in BASE)], rotation=30, ha="right")
            axis.axvline(len(KEPT) - 0.5, color="black", lw=0.6)
            axis.axhline(0.0, color="black", ls="--", lw=0.9)
        left.set_ylabel("error saved")
        right.set_ylabel("rank correlation")
        draw.panel_title(left, f"{group}: error" + draw.tally(rows, *starts(group, "error"), kind="hypothesis"))
        draw.panel_title(right, f"{group}: rank" + draw.tally(rows, *starts(group, "rank"), kind="hypothesis"))
    handles = [
        draw.mean_mark("in sums", BLUE, "o"), draw.mean_mark("in means", RED, "s"),
        draw.line_mark("the mean of what is kept, known", "--", lw=0.9), draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "What single adapters foretell of a merge", records, handles)


def starts(group: str, question: str) -> list[str]:
    """With what the names of a group's predictions about one question begin."""
    return [f"{group}.{question}.{of}" for of in ("kept", "base")]


plots = {"audit_outcomes": outcomes_figure}
