"""The figure of the capacity experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.experiments.capacity.run import WORLD


def capacity_figure(records: Records, rows: Rows) -> Figure | None:
    """Fall of the loss against rank with the mean law, recall by rank and place, and recall by bits of a number."""
    worlds = WORLD.of(records)
    if not worlds:
        return None
    cell = worlds[0].cell
    figure, axes = draw.new_panels(3, 1, 3.0)
    left, middle, last = axes[0]
    ranks = sorted((*cell.fitted, *cell.foretold))
    laws = [w.metrics.law for w in worlds]
    left.plot(
        ranks,
        [draw.mean_rate([law.scale * r**law.power + law.offset for law in laws]) for r in ranks],
        "k-",
        lw=1.1,
        gid="law",
    )
    for r in ranks:
        found = [w.metrics.ranks[str(r)] for w in worlds]
        colour, marker = (BLUE, "o") if r in cell.fitted else (RED, "s")
        draw.cloud(left, r, [f.drop for f in found], colour, marker=marker)
        draw.cloud(middle, r, [f.recalled.rate for f in found], colour, marker=marker)
    for name, colour in zip(worlds[0].metrics.layers, (GREEN, PURPLE, PURPLE, PURPLE), strict=False):
        found = [w.metrics.layers[name] for w in worlds]
        draw.cloud(middle, cell.rank, [f.recalled.rate for f in found], colour, 0.0, "^" if name == "all" else "v")
    for axis in (left, middle):
        draw.rank_axis(axis, ranks)
    left.set_ylabel("fall of the loss (nats)")
    for bits in cell.bits:
        whole, small = ([getattr(w.metrics, g)[str(bits)] for w in worlds] for g in ("rounded", "small"))
        draw.cloud(last, bits, [r.recalled.rate for r in whole], GREEN, marker="^")
        draw.cloud(last, bits, [r.recalled.rate for r in small], PURPLE, marker="v")
        last.plot([bits], [draw.mean_rate([r.ceiling for r in small])], "k_", ms=12, mew=1.6)
    last.set_xscale("log", base=2)
    last.set_xticks(cell.bits, [str(b) for b in cell.bits])
    last.minorticks_off()
    last.set_xlabel("bits of each number")
    for axis in (middle, last):
        draw.share_axis(axis, "facts recalled")

    draw.panel_title(left, "A power law" + draw.tally(rows, "law."))
    draw.panel_title(middle, "By rank and place" + draw.tally(rows, "middle", "all"))
    draw.panel_title(last, "By bits" + draw.tally(rows, "bits.", "counting", "training"))
    handles = [
        draw.mean_mark("fitted ranks, last layer", BLUE), draw.mean_mark("foretold ranks", RED, "s"),
        draw.line_mark("the law", lw=1.1), draw.mean_mark(f"rank {cell.rank}, all layers", GREEN, "^"),
        draw.mean_mark("single layers (right: one matrix, rank 1)", PURPLE, "v"),
        draw.line_mark("most by counting, one matrix", lw=1.6), draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "How many facts an adapter recalls", worlds, handles)


plots = {"capacity": capacity_figure}
