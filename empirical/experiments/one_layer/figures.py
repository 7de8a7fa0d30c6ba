"""The figure of the one_layer experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, SOFT, Records, Rows
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.one_layer.predictions import COVERED
from empirical.experiments.one_layer.run import ADVERSARY as OPTIMISED
from empirical.experiments.one_layer.run import TWO_HOP
from empirical.experiments.one_layer.tables import FORMER, Hops, TwoHop, TwoHopCell
from theory.additive import additive_ceiling

BASES = {
    ("constructed", "closed"): ("constructed, closed form", BLUE, "o"),
    ("constructed", "trained"): ("constructed, trained adapters", GREEN, "^"),
    ("scratch", "trained"): ("trained from scratch", PURPLE, "s"),
}
NAMES = {"direct": "direct two-hop adapter", "product linear": "product factors, peft linear",
         "product sum": "product factors, sum", "first": "first adapter alone", "second": "second adapter alone",
         "svd_full": "svd, full rank", "dare_each": "dare, each alone", "magnitude_each": "pruned, each alone",
         **{former: name.replace("_", " ") for former, name in FORMER.items()}, "own": "your own method"}  # fmt: skip
ADVERSARY = "adversary: optimised logits"


def _score(record: Record[TwoHopCell, TwoHop], method: str) -> Hops | None:
    """Counts of a method at the largest rank."""
    scores = record.metrics.scores
    return scores.get(f"{method} {record.cell.top}", scores.get(method))


def one_layer_figure(records: Records, rows: Rows) -> Figure | None:
    """Two-hop accuracy of every method against the additive ceiling, with the one-hop facts kept beside it."""
    worlds = TWO_HOP.of(records)
    if not worlds:
        return None
    cell = worlds[0].cell
    n, m = cell.bridges, cell.values
    ceiling = additive_ceiling(n, m)
    methods = [*cell.methods, *(["own"] if any(_score(r, "own") for r in worlds) else [])]
    adversary = [r for r in OPTIMISED.of(records) if (r.cell.bridges, r.cell.values) == (n, m)]
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
    figure, axes = draw.new_panels(3, 1, 0.9 + 0.2 * total, sharey=True, width_ratios=[1.7, 1, 1])
    y, ticks, labels = 0.0, [], []
    for title, listed in groups:
        place = axes[0, 0].get_yaxis_transform()
        axes[0, 0].text(0.985, y, title, transform=place, ha="right", va="center", style="italic", color=SOFT)
        for axis in axes[0]:
            axis.axhline(y, color="#bbbbbb", lw=0.6, xmax=0.5 if axis is axes[0, 0] else 1.0, zorder=1)
        y += 1
        for method in listed:
            ticks.append(y)
            labels.append(NAMES.get(method, method.replace("_", " ")))
            if method == ADVERSARY:
                draw.row(axes[0, 0], y, [Count.total(r.metrics.large).rate for r in adversary], RED, "D")
            for (base, writing), (_, colour, marker), offset in zip(
                BASES, BASES.values(), (-0.27, 0, 0.27), strict=True
            ):
                mine = [r for r in worlds if (r.cell.base, r.cell.writing) == (base, writing)]
                found = [s for s in (_score(r, method) for r in mine) if s]
                for axis, hop in zip(axes[0], ("two_hop", "first", "second"), strict=True):
                    draw.row(axis, y + offset, [getattr(s, hop).rate for s in found], colour, marker)
            y += 1
    for axis, label in zip(axes[0], ("two-hop accuracy", "first hop kept", "second hop kept"), strict=True):
        axis.set(xlim=(-0.03, 1.04), xlabel=f"{label}\n(share right)", ylim=(y - 0.3, -0.7))
        axis.set_yticks(ticks, labels)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].axvline(ceiling, color="black", lw=1.6, gid="ceiling")
    axes[0, 0].axvline(1 / m, color="black", lw=0.9, ls="--")
    held = draw.tally(rows, claim="additive_limit", kind="ceiling")
    draw.panel_title(axes[0, 0], f"Additive ceiling{held}")
    draw.panel_title(axes[0, 1], "One-hop facts kept")
    title = f"One adapted matrix: two-hop accuracy of every method, rank {max(cell.ranks)}"
    bases = [v for k, v in BASES.items() if any((r.cell.base, r.cell.writing) == k for r in worlds)]
    handles = [*(draw.mean_mark(label, colour, marker) for label, colour, marker in bases),
               *([draw.mean_mark(ADVERSARY, RED, "D")] if adversary else []), draw.world_mark(),
               draw.line_mark(f"additive ceiling {ceiling:.3g} (n = {n}, m = {m})", lw=1.6),
               draw.line_mark(f"chance, 1/{m}", "--", lw=0.9)]  # fmt: skip
    return draw.finish(figure, title, [*worlds, *adversary], handles)


plots = {"one_layer_two_hop": one_layer_figure}
