"""Figures of the experiments, predicted and measured in one plot: ``build/figures/*.svg`` and ``*.png``.

Each figure is a function of the records and the judged rows of one experiment. What theory says is black; what was
measured is coloured: a faint dot is one world, a large mark the mean over worlds. The colours are those of Okabe and
Ito, which colour-blind readers tell apart, and every series has a marker of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from empirical.experiments._coverage_predictions import MARGIN, TELLS
from empirical.experiments.one_layer import COVERED
from empirical.experiments.rank_threshold import code_rank, spectrum
from empirical.record import RESULTS, ROOT, RecordError
from theory.approximation import floor_error
from theory.composition import additive_ceiling, coverage_law
from theory.numerics import require

Records = Sequence[Mapping[str, Any]]

FIGURES = ROOT / "build" / "figures"
BLUE, RED, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SOFT = "#666666"
STYLE: dict[str, Any] = {
    "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "legend.fontsize": 8, "xtick.labelsize": 8,
    "ytick.labelsize": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e4e4e4", "grid.linewidth": 0.6, "lines.linewidth": 1.4,
    "legend.frameon": False, "svg.hashsalt": "lora-limits", "savefig.dpi": 160, "figure.titlesize": 10.5,
}  # fmt: skip

#: pairs of the coverage experiment, by where the first and the second hop are written
PAIRS = {
    "placed": "early + late layers",
    "rows": "new embeddings + late layers",
    "all": "all layers + all layers",
    "swapped": "late + early layers",
    "shuffled": "wrong bridges + late",
}


# ---------------------------------------------------------------- what all figures share


def _rate(count: Sequence[float]) -> float:
    return count[0] / count[1] if count[1] else math.nan


def _mean(values: Sequence[float]) -> float:
    kept = [v for v in values if not math.isnan(v)]
    return sum(kept) / len(kept) if kept else math.nan


def _verdict(rows: Records, name: str) -> str:
    """What the judge says of a prediction, as a suffix; empty where it was not judged."""
    found = [r["verdict"] for r in rows if r["id"] == name]
    return f": {found[0].upper() if found[0] == 'violated' else found[0]}" if found else ""


def _tally(verdicts: Sequence[str]) -> str:
    """How many predictions hold, as a suffix; and how many are violated."""
    held, broken = (sum(v == kind for v in verdicts) for kind in ("holds", "violated"))
    return f": {held} of {len(verdicts)} hold{f', {broken} VIOLATED' if broken else ''}" if verdicts else ""


def _title(axis: Axes, text: str, **options: Any) -> None:
    """A panel's title; a violated prediction is as loud as it can be."""
    loud: dict[str, Any] = {"color": RED, "fontweight": "bold"} if "VIOLATED" in text else {}
    axis.set_title(text, loc="left", **loud, **options)


def provenance(records: Records) -> str:
    """One line: experiment, profile, device, number of worlds, their seeds, commit."""
    seeds = sorted({r["cell"]["seed"] for r in records})
    spans: list[list[int]] = []
    for seed in seeds:
        if spans and seed == spans[-1][1] + 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    shown = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)
    commits = sorted({(r["commit"] or "unknown")[:7] + (" + changes" if r["dirty"] else "") for r in records})
    devices = ", ".join(sorted({r["device"] for r in records}))
    first = records[0]
    number = f"1 world (seed {shown})" if len(seeds) == 1 else f"{len(seeds)} worlds (seeds {shown})"
    parts = (f"{first['experiment']}, profile {first['profile']}", devices, number, f"commit {', '.join(commits)}")
    return "  |  ".join(parts)


def _finish(figure: Figure, title: str, records: Records, handles: Sequence[Any], columns: int = 4) -> Figure:
    """Title above, legend and caption line below."""
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    height = float(figure.get_size_inches()[1])
    lines = math.ceil(len(handles) / columns)
    figure.text(0.01, 0.05 / height, provenance(records), fontsize=6.5, color=SOFT, va="bottom")
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 0.2 / height), ncols=columns)
    bottom = (0.3 + 0.19 * lines) / height
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.005, bottom, 0.99, 1 - bottom))  # type: ignore[call-arg]
    return figure


def _new(columns: int, rows: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _share(axis: Axes, label: str = "accuracy (share right)") -> None:
    axis.set_ylim(-0.03, 1.05)
    axis.set_ylabel(label)


def _cloud(axis: Axes, x: float, values: Sequence[float], colour: str, width: float = 0.0, marker: str = "o") -> None:
    """One faint dot per world, spread over `width` in the order of the worlds; a large mark at their mean."""
    kept = [v for v in values if not math.isnan(v)]
    if not kept:
        return
    spread = x + width * (np.arange(len(kept)) / max(len(kept) - 1, 1) - 0.5) * (len(kept) > 1)
    axis.plot(spread, kept, marker="o", ls="", ms=2.8, mew=0, color=colour, alpha=0.45, zorder=3)
    axis.plot([x], [_mean(kept)], marker=marker, ls="", ms=6.5, mec="white", mew=0.7, color=colour, zorder=4)


def _ranks(axis: Axes, ranks: Sequence[int]) -> None:
    axis.set_xscale("log", base=2)
    powers = [2**i for i in range(int(math.log2(max(ranks))) + 1)]
    axis.set_xticks(powers, [str(p) for p in powers])
    axis.minorticks_off()
    axis.set_xlabel("rank r of the adapter")


def _world_mark(colour: str = SOFT) -> Line2D:
    return Line2D([], [], marker="o", ls="", ms=2.8, mew=0, color=colour, alpha=0.6, label="one world")


def _mean_mark(label: str, colour: str = SOFT, marker: str = "o") -> Line2D:
    return Line2D([], [], marker=marker, ls="", ms=6.5, mec="white", mew=0.7, color=colour, label=label)


def _line(label: str, style: str = "-", colour: str = "black", **options: Any) -> Line2D:
    return Line2D([], [], ls=style, color=colour, label=label, **options)


# ---------------------------------------------------------------- coverage


def _worlds(records: Records, *groups: str) -> list[Mapping[str, Any]]:
    return [r for r in records if r["cell"]["kind"] == "world" and r["cell"]["group"] in groups]


def _law(record: Mapping[str, Any], pair: str) -> Mapping[str, float] | None:
    found: Mapping[str, float] | None = record["metrics"]["predicted"]["coverage_law"]["value"].get(pair)
    return found


def _cells(record: Mapping[str, Any], condition: str, *cells: str) -> float:
    """Share right in some cells together; NaN where the world lacks the condition or asked nothing."""
    counts = record["metrics"]["scores"].get(condition)
    return math.nan if counts is None else _rate([sum(counts[c][i] for c in cells) for i in (0, 1)])


def coverage_figure(records: Records, rows: Records) -> Figure | None:
    """Accuracy of new x changed against coverage, on all bridges and on covered ones, with coverage_law."""
    worlds = _worlds(records, "headline", "sweep")
    pairs = [p for p in ("placed", "rows", "all") if any(f"sum:{p}" in r["metrics"]["scores"] for r in worlds)]
    if not pairs:
        return None
    figure, axes = _new(len(pairs), 2, (7.6, 5.2), sharex=True, sharey=True)
    m = worlds[0]["cell"]["values"]
    # lambda and p2 of the worlds at the headline coverage, which the affine law takes to every coverage
    headline = _worlds(records, "headline") or worlds
    line = np.linspace(0.0, 1.0, 41)
    for column, pair in enumerate(pairs):
        mine = [r for r in worlds if f"sum:{pair}" in r["metrics"]["scores"]]
        levels = sorted({r["cell"]["coverage"] for r in mine})
        known = [law for law in (_law(r, pair) for r in headline) if law]
        factors = [_mean([law[f] for law in known]) for f in ("lambda", "p2")]
        for axis, covered in ((axes[0, column], False), (axes[1, column], True)):
            shown = [c for c in levels if c > 0 or not covered]
            sealed = {c: [_law(r, pair) for r in mine if r["cell"]["coverage"] == c] for c in shown}
            laws = {c: [law for law in found if law] for c, found in sealed.items()}
            low = [_mean([law["covered" if covered else "low"] for law in laws[c]]) for c in shown]
            high = [v + MARGIN for v in low] if covered else [_mean([law["high"] for law in laws[c]]) for c in shown]
            foot = [v - MARGIN for v in low] if covered else low
            affine = [
                coverage_law(1.0 if covered else float(c), factors[0], factors[1], m).low if known else math.nan
                for c in line
            ]
            ends = np.array([foot, high])
            if len(shown) > 1:
                axis.fill_between(shown, *ends, color="black", alpha=0.1, lw=0)
            else:
                axis.errorbar(shown, low, np.abs(ends - low), color="black", alpha=0.15, elinewidth=9)
            axis.plot(line, affine, ls=":", color="black", lw=1.1, gid=f"affine.{pair}.{covered}")
            axis.plot(shown, low, "k-", marker="D", mfc="none", ms=7, zorder=5, gid=f"law.{pair}.{covered}")
            cells = ("new_changed_covered",) if covered else ("new_changed_covered", "new_changed_uncovered")
            for c in shown:
                values = [_cells(r, f"sum:{pair}", *cells) for r in mine if r["cell"]["coverage"] == c]
                _cloud(axis, c, values, BLUE, 0.09)
            axis.axhline(1 / m, color=RED, ls="--", lw=1)
        _title(axes[0, column], PAIRS[pair])
        at = f"λ p₂ at c = {headline[0]['cell']['coverage']:g}"
        _title(axes[1, column], f"{at}{_verdict(rows, f'headline.law.{pair}')}", fontsize=8)
        axes[1, column].set_xlabel("coverage c (share of bridges)")
    for axis, label in ((axes[0, 0], "accuracy, all bridges"), (axes[1, 0], "accuracy, covered bridges")):
        _share(axis, label)
        axis.set_xlim(-0.08, 1.08)
    handles = [
        _mean_mark("measured, mean over worlds", BLUE), _world_mark(BLUE),
        _line("predicted from each world's experts alone", marker="D", mfc="none", ms=7),
        Patch(color="black", alpha=0.1, lw=0, label=f"top: guesses included; below: ± {MARGIN:g}"),
        _line(f"λ, p₂ of c = {headline[0]['cell']['coverage']:g} at every c", ":", lw=1.1),
        _line(f"chance, 1/{m}", "--", RED, lw=1),
    ]  # fmt: skip
    title = "Sum of two experts: new person × changed second hop, against coverage"
    return _finish(figure, title, worlds, handles, 3)


def placement_figure(records: Records, rows: Records) -> Figure | None:
    """Where each hop is written decides: single experts, sums and training together, covered and uncovered bridges."""
    worlds = _worlds(records, "headline")
    if not worlds:
        return None
    m = worlds[0]["cell"]["values"]
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
        for e in worlds[0]["metrics"]["scores"]
        if e.startswith("first_") and e.removeprefix("first_").isdigit()
    )
    if scanned:
        figure, axes = _new(5, 1, (11.4, 3.3), sharey=True, width_ratios=[4, 3, 5, 4, 3.5])
    else:
        figure, axes = _new(4, 1, (9.6, 3.5), sharey=True, width_ratios=[4, 3, 5, 4])
    for axis, (title, questions, cell, conditions) in zip(axes[0], panels, strict=False):
        for offset, bridges, colour in ((-0.2, "covered", BLUE), (0.2, "uncovered", RED)):
            for x, condition in enumerate(conditions):
                # bridge data shows the changed questions of every other person; only the others' count
                if condition == "joint_bridge":
                    asked = ("new_changed_unseen",) if bridges == "covered" else ()
                else:
                    asked = (f"{cell}_{bridges}",)
                values = [_cells(r, condition, *asked) for r in worlds]
                kept = [v for v in values if not math.isnan(v)]
                if kept:
                    spread = x + offset + 0.24 * (np.arange(len(kept)) / max(len(kept) - 1, 1) - 0.5) * (len(kept) > 1)
                    hatch = None if bridges == "covered" else "////"
                    axis.bar(x + offset, _mean(kept), 0.36, color=colour, alpha=0.55, hatch=hatch, ec="white", lw=0)
                    axis.plot(spread, kept, "o", ms=2.6, mew=0, color="#222222", alpha=0.6, zorder=3)
                pair = condition.removeprefix("sum:")
                laws = [law["covered"] for law in (_law(r, pair) for r in worlds) if law]
                if condition.startswith("sum:") and bridges == "covered" and laws:
                    axis.plot([x - 0.42, x + 0.02], [_mean(laws)] * 2, "k-", lw=2.2, zorder=4, gid=f"law.{pair}",
                              solid_capstyle="butt")  # fmt: skip
        axis.set_xticks(range(len(conditions)), list(conditions.values()), fontsize=7.5)
        axis.grid(False, axis="x")
        _title(axis, f"{title}\n")
        axis.text(0, 1.015, questions, transform=axis.transAxes, fontsize=7, color=SOFT)
        axis.axhline(1 / m, color="black", ls="--", lw=0.9)
    if scanned:
        axis = axes[0, -1]
        for hop, cell, colour, marker in (
            ("first", "new_unchanged", GREEN, "^"),
            ("second", "old_changed", PURPLE, "s"),
        ):
            for layer in scanned:
                values = [_cells(r, f"{hop}_{layer}", f"{cell}_covered") for r in worlds]
                _cloud(axis, layer, values, colour, 0.2, marker)
        axis.set_xticks(scanned, [str(layer) for layer in scanned])
        axis.set_xlabel("layer")
        _title(axis, "One layer only\n")
        axis.text(0, 1.015, "covered bridges", transform=axis.transAxes, fontsize=7, color=SOFT)
        axis.axhline(1 / m, color="black", ls="--", lw=0.9)
    _share(axes[0, 0])
    handles = [
        Patch(fc=BLUE, alpha=0.55, label="covered bridges, mean"),
        Patch(fc=RED, alpha=0.55, hatch="////", ec="white", label="uncovered bridges, mean"),
        Line2D([], [], marker="o", ls="", ms=2.6, mew=0, color="#222222", alpha=0.6, label="one world"),
        _line("predicted: λ p₂", lw=2.2), _line(f"chance, 1/{m}", "--", lw=0.9),
    ]  # fmt: skip
    handles.append(Line2D([], [], ls="", label="* on people it saw no two-hop of"))
    if scanned:
        handles += [_mean_mark("first hop", GREEN, "^"), _mean_mark("second hop", PURPLE, "s")]
    return _finish(figure, "Where each hop is written", worlds, handles, 4)


def alignment_figure(records: Records, rows: Records) -> Figure | None:
    """AUC of alpha and kappa for what will be answered, beside that of the answer's own confidence, world by world."""
    worlds = _worlds(records, "headline")
    said = [("placed", "alpha"), ("rows", "alpha"), ("all", "kappa"), ("placed", "kappa")]
    found = {}
    for pair, score in said:
        aligned = [r["metrics"]["pairs"][pair]["alignment"] for r in worlds if pair in r["metrics"]["pairs"]]
        both = [(a[f"{score}_covered"], a[f"{score}_covered_confidence"]) for a in aligned]
        found[pair, score] = [(v, c) for v, c in both if v is not None and c is not None]
    if not any(found.values()):
        return None
    figure, axes = _new(4, 1, (8.6, 4.2), sharey=True)
    names = {"alpha": "α", "kappa": "κ"}
    for axis, (pair, score) in zip(axes[0], said, strict=True):
        values = found[pair, score]
        for v, c in values:
            axis.plot([0, 1], [v, c], color=SOFT, lw=0.7, alpha=0.5, zorder=2)
        _cloud(axis, 0, [v for v, _ in values], BLUE)
        _cloud(axis, 1, [c for _, c in values], RED, marker="s")
        axis.axhline(TELLS, color="black", ls="-", lw=1.1, gid=f"tells.{score}.{pair}")
        axis.axhline(0.5, color="black", ls="--", lw=0.9)
        axis.set_xlim(-0.5, 1.5)
        axis.set_ylim(min([0.4, *(x - 0.05 for pairs in found.values() for both in pairs for x in both)]), 1.03)
        axis.set_xticks([0, 1], [names[score], "confidence"])
        axis.grid(False, axis="x")
        asked = "changed" if score == "alpha" else "unchanged"
        lines = [
            f"{PAIRS[pair]}",
            f"AUC in {len(values)} of {len(worlds)} worlds",
            f"≥ {TELLS:g}{_verdict(rows, f'headline.{score}.{pair}') or ' predicted'}",
            f"> confidence{_verdict(rows, f'headline.{score}.{pair}.gain') or ' predicted'}",
        ]
        axis.set_title("\n" * (len(lines) + 1))  # room for the lines
        axis.text(0, 1.37, f"{names[score]}, {asked} 2nd hops", transform=axis.transAxes).set_in_layout(False)
        for i, text in enumerate(lines):
            loud: dict[str, Any] = {"color": RED, "fontweight": "bold"} if "VIOLATED" in text else {"color": SOFT}
            drawn = axis.text(0, 1.28 - 0.08 * i, text, transform=axis.transAxes, fontsize=7.5, **loud)
            drawn.set_in_layout(False)
        if not values:
            note = "no world with\n3 right, 3 wrong"
            axis.text(0.5, 0.68, note, transform=axis.transAxes, ha="center", color=SOFT).set_in_layout(False)
    axes[0, 0].set_ylabel("AUC on covered bridges")
    handles = [_mean_mark("before scoring: α or κ, mean", BLUE),
               _mean_mark("the answer's own confidence, mean", RED, "s"),
               _line("one world", "-", SOFT, lw=0.7), _line(f"predicted: at least {TELLS:g}", lw=1.1),
               _line("chance, 0.5", "--", lw=0.9)]  # fmt: skip
    return _finish(figure, "Which queries will be answered? α and κ against success", worlds, handles, 3)


# ---------------------------------------------------------------- rank_threshold


def _part(records: Records, part: str) -> list[Mapping[str, Any]]:
    return [r for r in records if r["cell"]["part"] == part]


def error_figure(records: Records, rows: Records) -> Figure | None:
    """Error of trained adapters against rank, with the closed-form floor, and how far above it they end."""
    worlds = _part(records, "squared")
    if not worlds:
        return None
    cell = worlds[0]["cell"]
    values, whole, ranks = spectrum(cell), cell["rank"], cell["ranks"]
    every = list(range(1, max(ranks) + 1))
    floor = {r: floor_error(values, r, "frobenius") if r < whole else 0.0 for r in every}
    errors = {r: [w["metrics"]["errors"][i] for w in worlds] for i, r in enumerate(ranks)}
    figure, axes = _new(2, 1, (7.4, 3.4))
    left, right = axes[0]
    left.fill_between(every, 0, [floor[r] for r in every], color="black", alpha=0.1, lw=0)
    left.plot(every, [floor[r] for r in every], "k-", gid="floor")
    for r in ranks:
        _cloud(left, r, errors[r], BLUE)
    left.annotate("impossible", (max(1.0, whole * 0.18), 0.12), color=SOFT)
    left.axvline(whole, color="black", ls=":", lw=1)
    left.annotate(f"rank D = {whole}: floor 0", (whole, 0.97), xytext=(-4, 0), textcoords="offset points", ha="right")
    left.set(ylim=(-0.03, 1.05), xlim=(0, max(ranks) + 1.5), xlabel="rank r of the adapter",
             ylabel="error left, ‖error‖ / ‖D‖")  # fmt: skip
    _title(left, f"No adapter below the floor{_verdict(rows, 'floor')}")
    rounding = max(w["metrics"]["rounding"] for w in worlds)
    right.axhspan(rounding / 100, rounding, color="black", alpha=0.1, lw=0)
    right.text(0.99, 0.03, "rounding", transform=right.transAxes, ha="right", color=SOFT)
    for r in ranks:
        _cloud(right, r, [max(e - floor[r], rounding / 5) for e in errors[r]], BLUE)
    margins = {r: row["margin"] for row in rows for r in ranks if row["id"] in (f"reached.{r}", f"zero.{r}")}
    if margins:
        right.plot(list(margins), list(margins.values()), "k_", ms=9, mew=1.6, gid="margins")
    right.axvline(whole, color="black", ls=":", lw=1)
    right.set(yscale="log", xlim=(0, max(ranks) + 1.5), ylim=(rounding / 100, 0.1), xlabel="rank r of the adapter",
              ylabel="error above the floor, / ‖D‖")  # fmt: skip
    judged = [row["verdict"] for row in rows if row["id"].startswith(("reached.", "zero."))]
    held = _tally(judged)
    _title(right, f"Training reaches it within the margin{held}")
    handles = [_mean_mark("trained adapters, mean over worlds", BLUE), _world_mark(BLUE),
               _line("floor: tail of the spectrum of D"),
               Line2D([], [], marker="_", ls="", ms=9, mew=1.6, color="black", label="margin predicted")]  # fmt: skip
    title = f"{cell['facts']} facts on a frozen memory: error against rank"
    return _finish(figure, title, worlds, handles, 4)


def trace_bound(n: int, rank: float) -> float:
    """Least root-mean-square change of other answers at this rank: the real e with ``n / (1 + (n - 1) e^2) = rank``."""
    return math.sqrt(max(n / rank - 1, 0.0) / (n - 1))


def margin_figure(records: Records, rows: Records) -> Figure | None:
    """Margin against rank with the trace bound; argmax accuracy; pairs in a full memory against the published law."""
    answers, memory = _part(records, "answers"), _part(records, "memory")
    if not answers or not memory:
        return None
    cell = answers[0]["cell"]
    n, ranks = cell["facts"], cell["ranks"]
    figure, axes = _new(3, 1, (9.6, 3.5))
    left, middle, right = axes[0]
    every = np.geomspace(1, max(ranks), 200)
    bound = [1 - trace_bound(n, r) for r in every]
    left.fill_between(every, bound, 1.05, color="black", alpha=0.1, lw=0)
    left.plot(every, bound, "k-", gid="bound")
    left.text(1.1, 0.93, "impossible for 1 − rms", color=SOFT)
    for i, r in enumerate(ranks):
        _cloud(left, r, [1 - w["metrics"]["eps_mean_square"][i] for w in answers], BLUE, marker="s")
        _cloud(left, r, [w["metrics"]["margin"][i] for w in answers], GREEN, marker="^")
    least = min(min(w["metrics"]["margin"]) for w in answers)
    left.set(ylim=(max(min(least, 0) - 0.06, -1.1), 1.05), ylabel="margin / rise of the right logit")
    _ranks(left, ranks)
    _title(left, f"Trace bound on the margin{_verdict(rows, 'margin')}")
    for i, r in enumerate(ranks):
        _cloud(middle, r, [_rate(w["metrics"]["right"][i]) for w in answers], BLUE)
    enough = code_rank(cell)
    middle.axvline(enough, color="black", lw=1.2, gid="codes")
    note = f"random codes:\nall right from\nrank {enough} on\n(exact values:\nrank {n})"
    middle.annotate(note, (enough, 0.2), xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=7.5)
    _share(middle, f"answers right (share of {n})")
    _ranks(middle, ranks)
    _title(middle, f"Argmax needs far less{_verdict(rows, 'argmax')}")
    sizes = sorted({r["cell"]["d"] for r in memory})
    for d in sizes:
        _cloud(right, d, [r["metrics"]["ratio"] for r in memory if r["cell"]["d"] == d], BLUE)
    law = memory[0]["cell"]["law"]
    right.axhline(law, color="black", lw=1.4, gid="law")
    margin = [row["margin"] for row in rows if row["id"] == "law"]
    if margin:
        right.axhspan(law - margin[0], law + margin[0], color="black", alpha=0.1, lw=0)
    right.set_xscale("log", base=2)
    right.set_xticks(sizes, [str(d) for d in sizes])
    right.minorticks_off()
    highest = max(r["metrics"]["ratio"] for r in memory)
    right.set(ylim=(0, max(1.0, 1.1 * highest)), xlabel="width d of the memory", ylabel="p log p / d²")
    _title(right, f"Memory law {law:g}{_verdict(rows, 'law')}")
    handles = [_mean_mark("1 − rms change of the rivals", BLUE, "s"),
               _mean_mark("least lead over the best rival", GREEN, "^"),
               _mean_mark("measured", BLUE), _world_mark(), _line("predicted")]  # fmt: skip
    title = f"{n} answers on a frozen memory: margin and accuracy against rank; pairs p stored in a full memory"
    return _finish(figure, title, [*answers, *memory], handles, 5)


# ---------------------------------------------------------------- one_layer


BASES = {
    ("constructed", "closed"): ("constructed, closed form", BLUE, "o"),
    ("constructed", "trained"): ("constructed, trained adapters", GREEN, "^"),
    ("scratch", "trained"): ("trained from scratch", PURPLE, "s"),
}
NAMES = {"direct": "direct two-hop adapter", "product linear": "product factors, peft linear",
         "product sum": "product factors, sum", "first": "first adapter alone", "second": "second adapter alone",
         "svd_full": "svd, full rank", "dare_each": "dare, each alone", "magnitude_each": "pruned, each alone",
         "own": "your own method"}  # fmt: skip
ADVERSARY = "adversary: optimised logits"


def _score(record: Mapping[str, Any], method: str) -> Mapping[str, Sequence[int]] | None:
    """Counts of a method at the largest rank."""
    cell, scores = record["cell"], record["metrics"]["scores"]
    top = 0 if cell["writing"] == "closed" else max(cell["ranks"])
    found: Mapping[str, Sequence[int]] | None = scores.get(f"{method} {top}", scores.get(method))
    return found


def one_layer_figure(records: Records, rows: Records) -> Figure | None:
    """Two-hop accuracy of every method against the additive ceiling, with the one-hop facts kept beside it."""
    worlds = [r for r in records if r["cell"]["kind"] == "two_hop"]
    if not worlds:
        return None
    cell = worlds[0]["cell"]
    n, m = cell["bridges"], cell["values"]
    ceiling = additive_ceiling(n, m)
    methods = [*cell["methods"], *(["own"] if any(_score(r, "own") for r in worlds) else [])]
    adversary = [
        r for r in records
        if r["cell"]["kind"] == "adversary" and (r["cell"]["bridges"], r["cell"]["values"]) == (n, m)
    ]  # fmt: skip
    groups = [
        ("additive: ceiling proven",
         [*(v for v in methods if v in COVERED), *([ADVERSARY] if adversary else []), "product sum"]),
        ("not additive: no ceiling", [v for v in methods if v not in COVERED and not v.startswith("arrow")]),
        ("routed token by token", [v for v in methods if v.startswith("arrow")]),
        ("controls", ["first", "second", "direct", "product linear"]),
    ]  # fmt: skip
    groups = [
        (title, [v for v in listed if v == ADVERSARY or any(_score(r, v) for r in worlds)]) for title, listed in groups
    ]
    groups = [g for g in groups if g[1]]
    total = sum(len(g[1]) for g in groups) + len(groups)
    figure, axes = _new(3, 1, (9.2, 1.5 + 0.215 * total), sharey=True, width_ratios=[1.7, 1, 1])
    y, ticks, labels = 0.0, [], []
    for title, listed in groups:
        place = axes[0, 0].get_yaxis_transform()
        axes[0, 0].text(0.985, y, title, transform=place, ha="right", va="center", style="italic", color=SOFT)
        for axis in axes[0]:
            axis.axhline(y, color="#bbbbbb", lw=0.6, xmax=0.5 if axis is axes[0, 0] else 1.0, zorder=1)
        y += 1
        for method in listed:
            ticks.append(y)
            labels.append(NAMES.get(method, method))
            if method == ADVERSARY:
                pooled = [[sum(t[i] for t in r["metrics"]["large"]) for i in (0, 1)] for r in adversary]
                _row(axes[0, 0], y, [_rate(p) for p in pooled], RED, "D")
            for (base, writing), (_, colour, marker), offset in zip(
                BASES, BASES.values(), (-0.27, 0, 0.27), strict=True
            ):
                mine = [r for r in worlds if (r["cell"]["base"], r["cell"]["writing"]) == (base, writing)]
                found = [s for s in (_score(r, method) for r in mine) if s]
                for axis, hop in zip(axes[0], ("two_hop", "first", "second"), strict=True):
                    _row(axis, y + offset, [_rate(s[hop]) for s in found], colour, marker)
            y += 1
    for axis, label in zip(axes[0], ("two-hop accuracy", "first hop kept", "second hop kept"), strict=True):
        axis.set(xlim=(-0.03, 1.04), xlabel=f"{label} (share right)", ylim=(y - 0.3, -0.7))
        axis.set_yticks(ticks, labels)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].axvline(ceiling, color="black", lw=1.6, gid="ceiling")
    axes[0, 0].axvline(1 / m, color="black", lw=0.9, ls="--")
    judged = [row["verdict"] for row in rows if row["claim"] == "additive_limit" and row["kind"] == "ceiling"]
    held = _tally(judged)
    _title(axes[0, 0], f"Ceiling for additive merges{held}")
    _title(axes[0, 1], "One-hop facts kept beside it")
    title = f"One adapted matrix: two-hop accuracy of every method, rank {max(cell['ranks'])}"
    bases = [v for k, v in BASES.items() if any((r["cell"]["base"], r["cell"]["writing"]) == k for r in worlds)]
    handles = [*(_mean_mark(label, colour, marker) for label, colour, marker in bases),
               *([_mean_mark(ADVERSARY, RED, "D")] if adversary else []), _world_mark(),
               _line(f"additive ceiling {ceiling:.3g} (n = {n}, m = {m})", lw=1.6),
               _line(f"chance, 1/{m}", "--", lw=0.9)]  # fmt: skip
    return _finish(figure, title, [*worlds, *adversary], handles, 4)


def _row(axis: Axes, y: float, values: Sequence[float], colour: str, marker: str) -> None:
    if values:
        axis.plot(values, [y] * len(values), marker="o", ls="", ms=2.2, mew=0, color=colour, alpha=0.4, zorder=3)
        axis.plot([_mean(values)], [y], marker=marker, ls="", ms=5, mec="white", mew=0.5, color=colour, zorder=4)


# ---------------------------------------------------------------- all of them


class Plot(NamedTuple):
    """A figure: file name without suffix, the experiment it is of, the function that draws it."""

    name: str
    experiment: str
    draw: Callable[[Records, Records], Figure | None]


PLOTS = (
    Plot("rank_threshold_error", "rank_threshold", error_figure),
    Plot("rank_threshold_margin", "rank_threshold", margin_figure),
    Plot("one_layer_two_hop", "one_layer", one_layer_figure),
    Plot("coverage_law", "coverage", coverage_figure),
    Plot("coverage_placement", "coverage", placement_figure),
    Plot("coverage_alignment", "coverage", alignment_figure),
)


def draw(
    profile: str = "auto",
    results: Path = RESULTS,
    out: Path = FIGURES,
    names: Sequence[str] | None = None,
    method: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Draw what the results allow; yields one line per figure, drawn or skipped.

    Args:
        profile: "auto" takes gpu where it has results, else cpu.
        names: only figures of these experiments.

    Raises:
        ValueError: no results of the profile at all, or an unknown profile.
        RecordError: a damaged record, or a folder that cannot be written.
    """
    from empirical import run as engine

    if profile == "auto":
        profile = "gpu" if any(results.glob("*/gpu/*.json")) else "cpu"
    plots = [p for p in PLOTS if names is None or p.experiment in names]
    wanted = list(dict.fromkeys(p.experiment for p in plots))
    found = {name: engine.records(name, profile, results, method) for name in wanted}
    if names is None:
        got = "none (make experiments)"
        require(any(found.values()), "figures", f"results of profile {profile} in {results}", got)
    rows = {name: engine.judge_all([name], profile, results, method) for name in wanted}
    for plot in plots:
        records = found[plot.experiment]
        with matplotlib.rc_context(STYLE):
            figure = plot.draw(records, rows[plot.experiment]) if records else None
            if figure is None:
                yield f"skipped: {plot.name}, no results of {plot.experiment} under profile {profile}"
                continue
            try:
                out.mkdir(parents=True, exist_ok=True)
                figure.savefig(out / f"{plot.name}.svg", metadata={"Date": None})
                figure.savefig(out / f"{plot.name}.png", metadata={"Software": None})
            except OSError as error:
                raise RecordError(f"{out}: expected a folder to write to, got: {error.strerror}") from error
        shown = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
        yield f"written: {shown / plot.name}.svg, .png"
