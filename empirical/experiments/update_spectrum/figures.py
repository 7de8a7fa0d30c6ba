"""Figure of the update_spectrum experiment."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.engine.drawing import (
    BLUE,
    GREEN,
    PURPLE,
    RED,
    Records,
    Rows,
    cloud,
    finish,
    line_mark,
    mean_mark,
    new_panels,
    panel_title,
    rank_axis,
    share_axis,
    tally_suffix,
    world_mark,
)
from empirical.experiments.update_spectrum.predictions import mean, saturation
from empirical.experiments.update_spectrum.tables import LinearCell
from theory.approximation import decay_spectrum

#: at most this many singular values are drawn
SHOWN = 32


def spectrum_figure(records: Records, rows: Rows) -> Figure | None:
    """r95 of every update by group, spectra with the decays that fit, and tasks against the rank that is left."""
    studies = [r for r in records if not isinstance(r.cell, LinearCell)]
    groups = {r.cell.group: [s for s in studies if s.cell.group == r.cell.group] for r in studies}
    if not groups:
        return None
    figure, axes = new_panels(3, len(groups), (10.4, 3.3 * len(groups) + 0.9), width_ratios=[5, 4, 4])
    for row, (name, worlds) in zip(axes, groups.items(), strict=True):
        _ranks(row[0], name, worlds, rows)
        _decays(row[1], worlds)
        _tasks(row[2], name, worlds, rows)
    handles = [mean_mark("r95 of the update", BLUE), mean_mark("r95 of the mean gradient at the base", PURPLE, "^"),
               mean_mark("facts: update cut to rank r", BLUE, "s"), mean_mark("facts: LoRA of rank r", RED, "D"),
               mean_mark("style: update cut to rank r", GREEN, "v"), mean_mark("style: LoRA of rank r", PURPLE, "P"),
               world_mark(), line_mark("predicted: facts saturate at min(N, answers, width)"),
               line_mark("fitted power law (not judged)", ":")]  # fmt: skip
    every = [r for worlds in groups.values() for r in worlds]
    return finish(figure, "What full fine-tuning changes: facts against a style", every, handles, 4)


def _ranks(axis: Axes, name: str, worlds: Records, rows: Rows) -> None:
    """r95, mean over matrices, of the updates and of the gradients at the base."""
    cell = worlds[0].cell
    sizes = sorted(cell.facts)
    facts = [f"facts_{n}" for n in sizes]
    rest = sorted(set(worlds[0].metrics.conditions) - set(facts), key=lambda c: (c.split("_")[0], c))
    conditions = [*facts, *rest]
    for x, condition in enumerate(conditions):
        found = [r.metrics.conditions[condition] for r in worlds]
        cloud(axis, x, [mean(f.r95) for f in found], BLUE, 0.3)
        cloud(axis, x, [mean(f.gradient) for f in found], PURPLE, 0.3, "^")
    point = saturation(cell)
    axis.plot(range(len(sizes)), [min(n, point) for n in sizes], "k-", gid="saturation")
    labels = [c.replace("_", " ") for c in conditions]
    axis.set_xticks(range(len(conditions)), labels, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    axis.set(ylabel="95 % rank (mean over matrices)", ylim=(0, None))
    prefixes = tuple(
        f"{name}.{p}" for p in ("saturates", "within", "shuffled.", "alike.", "turned.", "optimiser.", "path.")
    )
    judged = [row["verdict"] for row in rows if row["id"].startswith(prefixes)]
    panel_title(axis, f"{name}: r95{tally_suffix(judged)}")


def _decays(axis: Axes, worlds: Records) -> None:
    """Spectra of the first world, relative to the largest value, with the power laws fitted to them."""
    cell, found = worlds[0].cell, worlds[0].metrics.conditions
    for condition, colour in ((f"facts_{cell.compare}", BLUE), (cell.styles[0], GREEN)):
        values = found[condition].spectrum[:SHOWN]
        index = np.arange(1, len(values) + 1)
        axis.plot(index, values, marker="o", ls="", ms=3, color=colour, label=condition.replace("_", " "))
        axis.plot(index, decay_spectrum("power", found[condition].power, len(values)), ":", color=colour)
    axis.set(xscale="log", yscale="log", xlabel="index i", ylabel="σᵢ / σ₁")
    axis.legend(loc="lower left")
    panel_title(axis, f"Spectrum of a middle matrix (seed {cell.seed})")


def _tasks(axis: Axes, name: str, worlds: Records, rows: Rows) -> None:
    """Share right against rank: the full update cut, and LoRA."""
    cell = worlds[0].cell

    def series(table: str, condition: str, colour: str, marker: str, aside: float) -> None:
        runs = [getattr(r.metrics, table)[condition] for r in worlds]
        for key in runs[0]:
            if key != "r95":
                found = [run[key].asked.right.rate for run in runs]
                cloud(axis, float(key) * 2**aside, found, colour, marker=marker)

    series("cuts", f"facts_{cell.compare}", BLUE, "s", -0.15)
    series("lora", f"facts_{cell.compare}", RED, "D", -0.05)
    series("cuts", cell.styles[0], GREEN, "v", 0.05)
    series("lora", cell.styles[0], PURPLE, "P", 0.15)
    rank_axis(axis, cell.cuts)
    axis.set_xlabel("rank r of the cut or of LoRA")
    share_axis(axis)
    prefixes = tuple(f"{name}.{p}" for p in ("cut.", "lora.", "needed"))
    judged = [row["verdict"] for row in rows if row["id"].startswith(prefixes)]
    panel_title(axis, f"left at rank r{tally_suffix(judged)}")


plots = {"update_spectrum": spectrum_figure}
