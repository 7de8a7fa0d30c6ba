"""Figure of the update_spectrum experiment."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.experiments.update_spectrum.predictions import mean, saturation
from empirical.experiments.update_spectrum.tables import LinearCell
from theory.approximation import decay_spectrum

#: at most this many singular values are drawn
SHOWN = 32
#: what the tasks are measured under: how it is called and drawn
SERIES = {("cuts", "facts"): ("facts: update cut to rank r", BLUE, "s"),
          ("lora", "facts"): ("facts: LoRA of rank r", RED, "D"),
          ("cuts", "style"): ("style: update cut to rank r", GREEN, "v"),
          ("lora", "style"): ("style: LoRA of rank r", PURPLE, "P")}  # fmt: skip


def spectrum_figure(records: Records, rows: Rows) -> Figure | None:
    """r95 of every update by group, spectra with the decays that fit, and tasks against the rank that is left."""
    studies = [r for r in records if not isinstance(r.cell, LinearCell)]
    groups = {r.cell.group: [s for s in studies if s.cell.group == r.cell.group] for r in studies}
    if not groups:
        return None
    figure, axes = draw.new_panels(3, len(groups), 3.2 * len(groups), width_ratios=[5, 4, 4])
    for row, (name, worlds) in zip(axes, groups.items(), strict=True):
        _ranks(row[0], name, worlds, rows)
        _decays(row[1], worlds)
        _tasks(row[2], name, worlds, rows)
    means = [("r95 of the update", BLUE), ("r95 of the mean gradient at the base", PURPLE, "^"), *SERIES.values()]
    lines = [("predicted: facts saturate at min(N, answers, width)",), ("fitted power law (not judged)", ":")]
    handles = [*(draw.mean_mark(*m) for m in means), draw.world_mark(), *(draw.line_mark(*m) for m in lines)]
    every = [r for worlds in groups.values() for r in worlds]
    return draw.finish(figure, "What full fine-tuning changes: facts against a style", every, handles)


def _ranks(axis: Axes, name: str, worlds: Records, rows: Rows) -> None:
    """r95, mean over matrices, of the updates and of the gradients at the base."""
    cell = worlds[0].cell
    sizes = sorted(cell.facts)
    facts = [f"facts_{n}" for n in sizes]
    rest = sorted(set(worlds[0].metrics.conditions) - set(facts), key=lambda c: (c.split("_")[0], c))
    conditions = [*facts, *rest]
    for x, condition in enumerate(conditions):
        found = [r.metrics.conditions[condition] for r in worlds]
        draw.cloud(axis, x, [mean(f.r95) for f in found], BLUE, 0.3)
        draw.cloud(axis, x, [mean(f.gradient) for f in found], PURPLE, 0.3, "^")
    point = saturation(cell)
    axis.plot(range(len(sizes)), [min(n, point) for n in sizes], "k-", gid="saturation")
    draw.name_axis(axis, conditions, rotation=60, ha="right", rotation_mode="anchor")
    axis.set(ylabel="95 % rank (mean over matrices)", ylim=(0, None))
    starts = ("saturates", "within", "shuffled.", "alike.", "turned.", "optimiser.", "path.")
    draw.panel_title(axis, f"{name}: r95{draw.tally(rows, *(f'{name}.{s}' for s in starts))}")


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
    draw.panel_title(axis, f"Spectrum of a middle matrix (seed {cell.seed})")


def _tasks(axis: Axes, name: str, worlds: Records, rows: Rows) -> None:
    """Share right against rank: the full update cut, and LoRA."""
    cell = worlds[0].cell
    conditions = {"facts": f"facts_{cell.compare}", "style": cell.styles[0]}
    for aside, ((table, taught), (_, colour, marker)) in zip((-0.15, -0.05, 0.05, 0.15), SERIES.items(), strict=True):
        runs = [getattr(r.metrics, table)[conditions[taught]] for r in worlds]
        for key in runs[0]:
            if key != "r95":
                found = [run[key].asked.right.rate for run in runs]
                draw.cloud(axis, float(key) * 2**aside, found, colour, marker=marker)
    draw.rank_axis(axis, cell.cuts)
    axis.set_xlabel("rank r of the cut or of LoRA")
    draw.share_axis(axis)
    starts = ("cut.", "lora.", "needed")
    draw.panel_title(axis, f"left at rank r{draw.tally(rows, *(f'{name}.{s}' for s in starts))}")


plots = {"update_spectrum": spectrum_figure}
