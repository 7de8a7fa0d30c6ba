"""Figures of the entities experiment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from empirical.engine.drawing import (
    BLUE,
    GREEN,
    PURPLE,
    RED,
    Records,
    Rows,
    cloud,
    finish,
    mean_mark,
    mean_rate,
    new_panels,
    panel_title,
    share_axis,
    verdict_suffix,
    world_mark,
)
from empirical.engine.records import Record
from empirical.experiments.entities.predictions import MARGIN, pooled
from empirical.experiments.entities.tables import BaseCell, Measured, WorldCell
from empirical.tasks.entities import FAMILIES

FAMILY_NAMES = {"F": "F: made up", "H": "H: made-up capital", "R": "R: real"}
#: prediction whose verdict stands over the panel of a family
JUDGED = {"F": "uncovered.sum", "H": "law.H", "R": "covered"}


def _worlds(records: Records) -> list[Record[WorldCell, Measured]]:
    """The worlds of the first group that has any."""
    found = [r for r in records if not isinstance(r.cell, BaseCell)]
    return [r for r in found if r.cell.group == found[0].cell.group]


def _conditions(axis: Axes, names: Sequence[str]) -> None:
    axis.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], rotation=50, ha="right")
    axis.set_xlim(-0.6, len(names) - 0.4)


def direct_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct and written-out questions by family and condition, with the chance of each."""
    worlds = _worlds(records)
    if not worlds:
        return None
    group = worlds[0].cell.group
    names = list(worlds[0].metrics.scores)
    figure, axes = new_panels(3, 1, (11.0, 3.9), sharey=True)
    for axis, family in zip(axes[0], ("F", "H", "R"), strict=True):
        for x, name in enumerate(names):
            own = [w.metrics for w in worlds if name in w.metrics.scores]
            chance = mean_rate([m.chance[name][family] for m in own])
            axis.plot([x - 0.36, x + 0.36], [chance + MARGIN] * 2, "k:", lw=1.1)
            axis.plot([x - 0.36, x + 0.36], [chance] * 2, "k-", lw=1.6)
            cloud(axis, x - 0.14, [m.scores[name][f"direct_{family}"].rate for m in own], BLUE, 0.1)
            cloud(axis, x + 0.14, [m.written[name].reached[family].rate for m in own], GREEN, 0.1, "^")
        _conditions(axis, names)
        title = FAMILY_NAMES[family] + verdict_suffix(rows, f"{group}.{JUDGED[family]}")
        panel_title(axis, title)
    share_axis(axes[0][0], "capital right (share of people)")
    handles = [mean_mark("asked directly", BLUE), mean_mark("country written out", GREEN, "^"), world_mark(),
               Line2D([], [], color="black", lw=1.6, label="chance: answers permuted among people"),
               Line2D([], [], color="black", ls=":", label=f"chance + {MARGIN:g}")]  # fmt: skip
    return finish(figure, "Person → country → capital in a pretrained model", worlds, handles, 5)


def retention_figure(records: Records, rows: Rows) -> Figure | None:
    """What every condition keeps: the taught one-hop facts, and what the base knew before."""
    worlds = _worlds(records)
    if not worlds:
        return None
    names = list(worlds[0].metrics.scores)
    figure, axes = new_panels(2, 1, (9.6, 3.9), sharey=True)
    panels: tuple[tuple[str, tuple[tuple[str, tuple[str, ...], str, str], ...]], ...] = (
        ("Taught, asked in a new wording", (
            ("first hop: new people's countries", tuple(f"first_{f}" for f in FAMILIES), BLUE, "o"),
            ("second hop: made-up capitals", ("second_H", "second_F"), GREEN, "^"))),
        ("Known before, never rehearsed", (
            ("real capitals", ("second_R",), PURPLE, "s"),
            ("direct questions about famous people", ("famous_R",), RED, "D"),
            ("the base's own text, token by token", ("text",), "black", "v"))),
    )  # fmt: skip
    handles: list[Any] = []
    for axis, (title, series) in zip(axes[0], panels, strict=True):
        for place, (label, cells, colour, marker) in enumerate(series):
            shift = 0.24 * (place - (len(series) - 1) / 2)
            for x, name in enumerate(names):
                own = [w.metrics for w in worlds if name in w.metrics.scores]
                cloud(axis, x + shift, [pooled(m, name, *cells).rate for m in own], colour, 0.08, marker)
            handles.append(mean_mark(label, colour, marker))
        _conditions(axis, names)
        panel_title(axis, title)
    share_axis(axes[0][0], "share right")
    return finish(figure, "What each condition keeps", worlds, [*handles, world_mark()], 3)


plots = {
    "entities_direct": direct_figure,
    "entities_retention": retention_figure,
}
