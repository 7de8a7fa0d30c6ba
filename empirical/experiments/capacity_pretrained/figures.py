"""The figure of the capacity_pretrained experiment."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.experiments.capacity_pretrained.run import WORLD


def capacity_figure(records: Records, rows: Rows) -> Figure | None:
    """Fall of the loss against rank with the mean law, recall by rank, and recall by bits, trained and by hand."""
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
    left.axhline(draw.mean_rate([w.metrics.loss for w in worlds]), color="k", ls=":", lw=1.1, gid="loss")
    for r in ranks:
        found = [w.metrics.ranks[str(r)] for w in worlds]
        colour, marker = (BLUE, "o") if r in cell.fitted else (RED, "s")
        draw.cloud(left, r, [f.drop for f in found], colour, marker=marker)
        draw.cloud(middle, r, [f.recalled.rate for f in found], colour, marker=marker)
    whole = str(max(cell.bits))
    draw.cloud(middle, 2, [w.metrics.circle[whole].recalled.rate for w in worlds], PURPLE, marker="v")
    for axis in (left, middle):
        draw.rank_axis(axis, ranks)
    left.set_ylabel("fall of the loss (nats)")
    for bits in cell.bits:
        trained, by_hand = ([getattr(w.metrics, g)[str(bits)] for w in worlds] for g in ("rounded", "circle"))
        draw.cloud(last, bits, [r.recalled.rate for r in trained], GREEN, marker="^")
        draw.cloud(last, bits, [r.recalled.rate for r in by_hand], PURPLE, marker="v")
    last.set_xscale("log", base=2)
    last.set_xticks(cell.bits, [str(b) for b in cell.bits])
    last.minorticks_off()
    last.set_xlabel("bits of each number")
    for axis in (middle, last):
        draw.share_axis(axis, "facts recalled")

    draw.panel_title(left, "A power law" + draw.tally(rows, "law."))
    draw.panel_title(middle, "By rank" + draw.tally(rows, "doubled", "training", "density", "hand"))
    draw.panel_title(last, "By bits" + draw.tally(rows, "bits.", "hand."))
    handles = [
        draw.mean_mark("fitted ranks", BLUE), draw.mean_mark("foretold ranks", RED, "s"),
        draw.line_mark("the law", lw=1.1), draw.line_mark("all of the base's loss", ls=":", lw=1.1),
        draw.mean_mark(f"rank {cell.rank}, trained", GREEN, "^"), draw.mean_mark("rank 2, by hand", PURPLE, "v"),
        draw.world_mark(),
    ]  # fmt: skip
    return draw.finish(figure, "How many facts an adapter of a pretrained model recalls", worlds, handles)


plots = {"capacity_pretrained": capacity_figure}
