"""Figures of the entities experiment."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from empirical.engine import drawing as draw
from empirical.engine.drawing import BLUE, GREEN, PURPLE, RED, Records, Rows
from empirical.engine.records import Record
from empirical.experiments.plain_english_tables import Answered, Measured, WorldCell
from empirical.tasks.entities import DIRECT

#: how a question is answered: colour, marker, cell's ending for the right and for the old capital
ANSWERS = {"forced choice": (BLUE, "o", "_forced", "_old_forced"), "free text": (RED, "^", "", "_old")}
#: colours of the kinds of free answers
COLOURS = {"right": GREEN, "old": PURPLE, "other_capital": "#E69F00", "country": BLUE, "other_country": "#56B4E9",
           "neither": "#bbbbbb"}  # fmt: skip
LOOKS = [(colour, None) for colour in COLOURS.values()]


def _ticks(axis: Axes, names: Sequence[str]) -> None:
    draw.name_axis(axis, names, rotation=40, ha="right")
    axis.set_xlim(-0.6, len(names) - 0.4)


def _rates(worlds: Sequence[Record[WorldCell, Measured]], condition: str, cell: str) -> list[float]:
    """The rate of a cell in every world that has the condition."""
    return [w.metrics.scores[condition][cell].rate for w in worlds if condition in w.metrics.answered]


def placement_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct questions by forced choice and in free text: λ by the place of the first hop, p₂ by that of the second,
    sums by the places of both, early + late wording by wording."""
    worlds = draw.in_groups(records, "headline")
    if not worlds:
        return None
    blind = 1 / worlds[0].cell.countries
    figure, axes = draw.new_panels(4, 1, 3.3, sharey=True, width_ratios=(4, 4, 6, 3))
    sums = worlds[0].cell.sums
    panels: tuple[tuple[str, str, str, Sequence[str], str, bool], ...] = (
        ("λ: first hop alone", "lambda.early.all.forced", "first_", ("early", "all", "middle", "late"), "H", True),
        ("p₂: second hop alone", "p2.late.all.forced", "second_", ("late", "all", "early"), "famous_H", False),
        ("H: sums", "sum.all+all.forced", "sum:", sums, "H", False),
    )
    for axis, (title, judged, before, places, of, old) in zip(axes[0], panels, strict=False):
        for k, (colour, marker, new_ending, old_ending) in enumerate(ANSWERS.values()):
            cell = of + (old_ending if old else new_ending)
            for x, place in enumerate(places):
                draw.cloud(axis, x + 0.24 * k - 0.12, _rates(worlds, before + place, cell), colour, 0.1, marker)
        _ticks(axis, places)
        draw.panel_title(axis, title + draw.verdict_suffix(rows, f"headline.{judged}"))
    for x, sum_ in enumerate(sums):
        law = [w.metrics.predicted.forced[sum_].product for w in worlds]
        axes[0][2].plot([x - 0.36, x + 0.36], [draw.mean_rate(law)] * 2, "k:", lw=1.1)
    last = axes[0][3]
    for k, (colour, marker, ending, _) in enumerate(ANSWERS.values()):
        for x in range(len(DIRECT.held_out)):
            found = _rates(worlds, "sum:early+late", f"H_{x}{ending}")
            draw.cloud(last, x + 0.24 * k - 0.12, found, colour, 0.1, marker)
    _ticks(last, [" ".join(w.format(x="X").split()[:2]) + " …" for w in DIRECT.held_out])
    draw.panel_title(last, "early + late")
    for axis in axes[0]:
        axis.axhline(blind, color="black", lw=1.2)
    draw.share_axis(axes[0][0], "capital right (share of questions)")
    handles = [
        *(draw.mean_mark(name, colour, marker) for name, (colour, marker, *_) in ANSWERS.items()), draw.world_mark(),
        draw.line_mark("blind to the country"), draw.line_mark("λ p₂ of the experts alone, forced choice", ":"),
    ]  # fmt: skip
    return draw.finish(figure, "Where facts are written decides what a pretrained model joins", worlds, handles)


def answers_figure(records: Records, rows: Rows) -> Figure | None:
    """Free answers to direct questions by kind: of new people by the first hop alone, and of H by the sums."""
    worlds = draw.in_groups(records, "headline")
    if not worlds:
        return None
    conditions = [c for c in worlds[0].metrics.answered if c.startswith(("first_", "sum:"))]
    figure, axes = draw.new_panels(1, 1, 3.1)
    axis = axes[0][0]
    for x, condition in enumerate(conditions):
        answered = [Answered.total(w.metrics.answered[condition].questions["H"]) for w in worlds]
        draw.pile(axis, x, [draw.mean_rate([a.kind(k).rate for a in answered]) for k in COLOURS], LOOKS, width=0.7)
    _ticks(axis, [c.removeprefix("sum:") for c in conditions])
    draw.panel_title(axis, "All layers: the country itself" + draw.verdict_suffix(rows, "headline.kind.all"))
    draw.share_axis(axis, "share of questions")
    names = {"right": "made-up capital", "old": "real capital", "country": "the country itself"}
    handles = [draw.area_mark(names.get(k, k.replace("_", " ")), look) for k, look in zip(COLOURS, LOOKS, strict=True)]
    return draw.finish(figure, "What the model says when it is asked for the capital", worlds, handles)


plots = {
    "entities_placement": placement_figure,
    "entities_answers": answers_figure,
}
