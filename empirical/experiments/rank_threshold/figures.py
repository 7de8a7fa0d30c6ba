"""Figures of the rank_threshold experiment."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, RED, SOFT, Records, Rows
from empirical.experiments.rank_threshold.run import ANSWERS, LAW, MEMORY, SQUARED, code_rank, spectrum
from theory.approximation import floor_error


def error_figure(records: Records, rows: Rows) -> Figure | None:
    """Error of trained adapters against rank, with the closed-form floor, and how far above it they end."""
    worlds = SQUARED.of(records)
    if not worlds:
        return None
    cell = worlds[0].cell
    values, whole, ranks = spectrum(cell), cell.rank, cell.ranks
    every = list(range(1, max(ranks) + 1))
    floor = {r: floor_error(values, r, "frobenius") if r < whole else 0.0 for r in every}
    errors = {r: [w.metrics.errors[i] for w in worlds] for i, r in enumerate(ranks)}
    figure, axes = draw.new_panels(2, 1, 2.9)
    left, right = axes[0]
    left.fill_between(every, 0, [floor[r] for r in every], color="black", alpha=0.1, lw=0)
    left.plot(every, [floor[r] for r in every], "k-", gid="floor")
    for r in ranks:
        draw.cloud(left, r, errors[r], BLUE)
    left.annotate("impossible", (max(1.0, whole * 0.18), 0.12), color=SOFT)
    left.axvline(whole, color="black", ls=":", lw=1)
    left.annotate(f"rank D = {whole}: floor 0", (whole, 0.97), xytext=(-4, 0), textcoords="offset points", ha="right")
    left.set(ylim=(-0.03, 1.05), xlim=(0, max(ranks) + 1.5), xlabel="rank r of the adapter",
             ylabel="error left, ‖error‖ / ‖D‖")  # fmt: skip
    draw.panel_title(left, f"No adapter below the floor{draw.verdict_suffix(rows, 'floor')}")
    rounding = max(w.metrics.rounding for w in worlds)
    right.axhspan(rounding / 100, rounding, color="black", alpha=0.1, lw=0)
    right.text(0.99, 0.03, "rounding", transform=right.transAxes, ha="right", color=SOFT)
    for r in ranks:
        draw.cloud(right, r, [max(e - floor[r], rounding / 5) for e in errors[r]], BLUE)
    margins = {r: row["margin"] for row in rows for r in ranks if row["id"] in (f"reached.{r}", f"zero.{r}")}
    if margins:
        right.plot(list(margins), list(margins.values()), "k_", ms=9, mew=1.6, gid="margins")
    right.axvline(whole, color="black", ls=":", lw=1)
    right.set(yscale="log", xlim=(0, max(ranks) + 1.5), ylim=(rounding / 100, 0.1), xlabel="rank r of the adapter",
              ylabel="error above the floor, / ‖D‖")  # fmt: skip
    right.yaxis.set_major_formatter("{x:.0e}")
    draw.panel_title(right, "Training comes within the margin" + draw.tally(rows, "reached.", "zero."))
    handles = [draw.mean_mark("trained adapters, mean over worlds", BLUE), draw.world_mark(BLUE),
               draw.line_mark("floor: tail of the spectrum of D"),
               draw.line_mark("margin predicted", "", marker="_", ms=9, mew=1.6)]  # fmt: skip
    title = f"{cell.facts} facts on a frozen memory: error against rank"
    return draw.finish(figure, title, worlds, handles)


def trace_bound(n: int, rank: float) -> float:
    """Least root-mean-square change of other answers at this rank: the real e with ``n / (1 + (n - 1) e^2) = rank``."""
    return math.sqrt(max(n / rank - 1, 0.0) / (n - 1))


def margin_figure(records: Records, rows: Rows) -> Figure | None:
    """Margin against rank with the trace bound; argmax accuracy; pairs in a full memory against the published law."""
    answers, memory = ANSWERS.of(records), MEMORY.of(records)
    if not answers or not memory:
        return None
    cell = answers[0].cell
    n, ranks = cell.facts, cell.ranks
    figure, axes = draw.new_panels(3, 1, 3.0)
    left, middle, right = axes[0]
    every = np.geomspace(1, max(ranks), 200)
    bound = [1 - trace_bound(n, r) for r in every]
    left.fill_between(every, bound, 1.05, color="black", alpha=0.1, lw=0)
    left.plot(every, bound, "k-", gid="bound")
    left.text(1.1, 0.93, "impossible for 1 − rms", color=SOFT)
    for i, r in enumerate(ranks):
        draw.cloud(left, r, [1 - w.metrics.eps_mean_square[i] for w in answers], BLUE, marker="s")
        draw.cloud(left, r, [w.metrics.margin[i] for w in answers], GREEN, marker="^")
    least = min(min(w.metrics.margin) for w in answers)
    left.set(ylim=(max(min(least, 0) - 0.06, -1.1), 1.05), ylabel="margin / rise of the right logit")
    draw.rank_axis(left, ranks)
    draw.panel_title(left, f"Trace bound{draw.verdict_suffix(rows, 'margin')}")
    for i, r in enumerate(ranks):
        draw.cloud(middle, r, [w.metrics.right[i].rate for w in answers], BLUE)
    enough = code_rank(cell)
    middle.axvline(enough, color="black", lw=1.2, gid="codes")
    note = f"random codes:\nall right from\nrank {enough} on\n(exact values:\nrank {n})"
    middle.annotate(note, (enough, 0.2), xytext=(-4, 0), textcoords="offset points", ha="right")
    draw.share_axis(middle, f"answers right (share of {n})")
    draw.rank_axis(middle, ranks)
    draw.panel_title(middle, f"Argmax needs far less{draw.verdict_suffix(rows, 'argmax')}")
    sizes = sorted({r.cell.d for r in memory})
    for d in sizes:
        mine = [r.metrics for r in memory if r.cell.d == d]
        draw.cloud(right, d, [m.ratio for m in mine], BLUE)
        draw.cloud(right, d, [m.finite for m in mine], RED, marker="D")
    right.axhline(LAW, color="black", lw=1.4, gid="law")
    right.set_xscale("log", base=2)
    right.set_xticks(sizes, [str(d) for d in sizes])
    right.minorticks_off()
    highest = max(r.metrics.ratio for r in memory)
    right.set(ylim=(0, max(1.0, 1.1 * highest)), xlabel="width d of the memory", ylabel="p log p / d²")
    draw.panel_title(right, f"Memory law {LAW:g}{draw.verdict_suffix(rows, 'law')}")
    handles = [draw.mean_mark("1 − rms change of the rivals", BLUE, "s"),
               draw.mean_mark("least lead over the best rival", GREEN, "^"),
               draw.mean_mark("measured", BLUE), draw.mean_mark("with the finite number of rivals", RED, "D"),
               draw.world_mark(), draw.line_mark("predicted")]  # fmt: skip
    title = f"{n} answers on a frozen memory: margin and accuracy against rank; pairs p stored in a full memory"
    return draw.finish(figure, title, [*answers, *memory], handles)


plots = {
    "rank_threshold_error": error_figure,
    "rank_threshold_margin": margin_figure,
}
