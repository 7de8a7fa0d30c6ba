"""Figures of the experiments as interactive plots: a matplotlib figure, artist by artist, as data for plotly.

The figures are those of the experiments, so page and paper show the same. Every panel becomes a plot of its own,
which a narrow screen can stack; titles, legend and provenance are text.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection, PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

MARKERS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "d": "diamond-tall",
           "_": "line-ew", "|": "line-ns", "x": "x-thin", "X": "x", "+": "cross-thin", "P": "cross", "*": "star",
           "<": "triangle-left", ">": "triangle-right", ".": "circle"}  # fmt: skip
DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
STEPS = {"default": "linear", "steps": "vh", "steps-pre": "vh", "steps-post": "hv", "steps-mid": "hvh"}
#: pixels of the page per point of a figure; a little larger than on paper
PIXELS = 1.45
HOVER = "%{text}<extra></extra>"
#: what a trace has one of per point, as numbers
NUMBERS: tuple[Literal["x", "y", "base", "width"], ...] = ("x", "y", "base", "width")
#: marks up to this size, in points, are single worlds
FAINT = 3.0
#: letters of a label of an axis on one line, and beside names of rows: a panel may be as narrow as a phone
BREADTH, BESIDE = 24, 34


class PlotError(ValueError):
    """A figure holds something that has no counterpart on the page; the message names figure and artist."""


class Stroke(TypedDict, total=False):
    """A line, or the edge of a mark, in plotly's words."""

    color: str
    dash: str
    width: float
    shape: str


class Marker(TypedDict, total=False):
    """Marks or bars; size and colour of all, or one per point."""

    symbol: str
    size: float | list[float | None] | None
    color: str | list[str]
    line: Stroke
    pattern: dict[str, str | float]


class Trace(TypedDict, total=False):
    """Data; None in a list of numbers is a gap."""

    type: Required[Literal["scatter", "bar"]]
    x: Required[list[float | None]]
    y: Required[list[float | None]]
    base: list[float | None]
    width: list[float | None]
    text: list[str]
    mode: str
    line: Stroke
    marker: Marker
    fill: str
    fillcolor: str
    textposition: str
    hoverinfo: str
    hovertemplate: str
    cliponaxis: bool


class Shape(TypedDict, total=False):
    """A line or a band across a panel."""

    type: Required[Literal["line", "rect"]]
    xref: str
    yref: str
    x0: float | None
    y0: float | None
    x1: float | None
    y1: float | None
    line: Stroke
    fillcolor: str
    layer: str


class Note(TypedDict):
    """A text in a panel."""

    text: str
    showarrow: bool
    align: str
    xanchor: str
    yanchor: str
    xshift: float
    yshift: float
    font: dict[str, str | float]
    bgcolor: str
    xref: str
    yref: str
    x: float | None
    y: float | None


class AxisLayout(TypedDict, total=False):
    """An axis; its ticks are left to plotly where it has none of its own."""

    title: dict[str, str]
    range: list[float | None]
    showgrid: bool
    type: str
    tickmode: str
    tickvals: list[float | None]
    ticktext: list[str]
    tickangle: float
    tickfont: dict[str, float]
    dtick: float
    exponentformat: str


class Layout(TypedDict):
    """What a panel has besides data."""

    xaxis: AxisLayout
    yaxis: AxisLayout
    shapes: list[Shape]
    annotations: list[Note]
    height: int
    barmode: str


@dataclass(frozen=True)
class Entry:
    """A line of a legend: how it is drawn, what it says."""

    label: str
    marker: str
    size: float
    colour: str
    hollow: bool
    dash: str
    width: float
    box: bool
    hatch: bool
    opacity: float


@dataclass(frozen=True)
class Panel:
    """One set of axes: title, lines below the title (with whether they are loud), data and layout for plotly."""

    title: str
    loud: bool
    lines: Sequence[tuple[str, bool]]
    data: Sequence[Trace]
    layout: Layout


@dataclass(frozen=True)
class Drawn:
    """A figure for the page."""

    name: str
    title: str
    #: what it shows
    says: str
    provenance: str
    legend: Sequence[Entry]
    panels: Sequence[Panel]
    #: panels side by side, where there is room
    columns: int


def convert(figure: Figure, name: str, says: str, start: str) -> Drawn:
    """Everything that a figure shows.

    Args:
        says: what it shows, in a sentence.
        start: how the figure's line of provenance begins.

    Raises:
        PlotError: an artist that is not known here.
    """
    sources = [t.get_text() for t in figure.texts if t.get_text().startswith(start)]
    if len(sources) != 1:
        raise PlotError(f"{name}: expected one line of provenance that starts with {start!r}, got {len(sources)}")
    boxes = [box for box in (*figure.legends, *(axis.get_legend() for axis in figure.axes)) if box is not None]
    legend = [_entry(handle, label.get_text(), name)
              for box in boxes for handle, label in zip(box.legend_handles, box.get_texts(), strict=True)]  # fmt: skip
    panels = [_panel(axis, figure, legend, name) for axis in figure.axes if axis.axison]
    specs = [spec for spec in (axis.get_subplotspec() for axis in figure.axes) if spec]
    columns = max((spec.get_gridspec().ncols for spec in specs), default=1)
    return Drawn(name, figure.get_suptitle(), says, sources[0], legend, panels, columns)


# ---------------------------------------------------------------- colours and marks


def _colour(colour: Any, alpha: float | None = None) -> str:
    from matplotlib.colors import to_rgba

    r, g, b, a = to_rgba(colour, alpha)
    return f"rgba({round(255 * r)},{round(255 * g)},{round(255 * b)},{a:.3g})"


def _hex(colour: Any) -> str:
    from matplotlib.colors import to_hex

    return str(to_hex(colour))


def _dash(line: Any) -> str:
    style = line.get_linestyle()
    return DASHES.get(style, "none") if isinstance(style, str) else "dash"


def _hollow(line: Line2D) -> bool:
    face = line.get_markerfacecolor()
    return isinstance(face, str) and face == "none"


def _entry(handle: Any, label: str, name: str) -> Entry:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if isinstance(handle, Line2D):
        marker = MARKERS.get(str(handle.get_marker()), "")
        colour = handle.get_color() if _hollow(handle) or not marker else handle.get_markerfacecolor()
        return Entry(label, marker, handle.get_markersize(), _hex(colour), _hollow(handle), _dash(handle),
                     handle.get_linewidth(), False, False, handle.get_alpha() or 1.0)  # fmt: skip
    if isinstance(handle, Patch):
        face: Any = handle.get_facecolor()
        return Entry(label, "", 0.0, _hex(face), False, "none", 0.0, True, bool(handle.get_hatch()), float(face[3]))
    raise PlotError(f"{name}: expected lines and patches in a legend, got {type(handle).__name__}")


def _named(line: Line2D, legend: Sequence[Entry]) -> str:
    """What a line of the plot is called: its own label, else what the legend says of its mark and colour."""
    own = str(line.get_label())
    if not own.startswith("_"):
        return own
    marker, size = MARKERS.get(str(line.get_marker()), ""), line.get_markersize()
    colour = _hex(line.get_color())
    if marker:
        faint = size <= FAINT
        alike = [e for e in legend if e.marker == marker and (e.size <= FAINT) == faint]
        found = [e for e in alike if e.colour == colour] or (alike if faint or len(alike) == 1 else [])
        return found[0].label if found else ""
    found = [e for e in legend if not e.marker and not e.box and (e.dash, e.colour) == (_dash(line), colour)]
    return found[0].label if len(found) == 1 else ""


# ---------------------------------------------------------------- one panel


def _panel(axis: Axes, figure: Figure, legend: Sequence[Entry], name: str) -> Panel:
    from matplotlib.text import Annotation

    scales = _Scales(axis)
    shapes: list[Shape] = []
    data: list[Trace] = []
    for artist in _in_order(axis):
        for made in _drawn(artist, axis, scales, legend, name):
            if made["type"] == "line" or made["type"] == "rect":
                shapes.append(made)
            else:
                _join(data, made)
    notes, above = [], []
    for note in axis.texts:
        said = note.get_text()
        x, y = (float(v) for v in (note.xy if isinstance(note, Annotation) else note.get_position()))
        if not isinstance(note, Annotation) and note.get_transform() is axis.transAxes and y > 1:
            above.append((y, said, _hex(note.get_color())))
        elif said.strip():
            notes.append(_annotation(note, x, y, axis, scales))
    for trace in data:
        trace["x"], trace["y"] = scales.bent("x", trace["x"]), scales.bent("y", trace["y"])
    for shape in shapes:
        if shape["xref"] == "x":
            shape["x0"], shape["x1"] = scales.bent("x", [shape["x0"], shape["x1"]])
        if shape["yref"] == "y":
            shape["y0"], shape["y1"] = scales.bent("y", [shape["y0"], shape["y1"]])
    spec = axis.get_subplotspec()
    rows = np.asarray(spec.get_gridspec().get_height_ratios(), dtype=float) if spec else np.ones(1)
    height = float(figure.get_size_inches()[1] * rows[spec.rowspan.start if spec else 0] / rows.sum()) * 96
    layout: Layout = {
        "xaxis": scales.layout("x"), "yaxis": scales.layout("y"), "shapes": shapes, "annotations": notes,
        "height": round(min(max(height, 300), 900)), "barmode": "overlay",
    }  # fmt: skip
    title = axis.get_title("left").strip() or axis.get_title().strip()
    lines = [(said, "VIOLATED" in said) for _, said, _ in sorted(above, key=lambda a: -a[0])]
    return Panel(title, "VIOLATED" in title, lines, data, layout)


def _join(data: list[Trace], trace: Trace) -> None:
    """Add a trace; points and bars that look alike become one, which is faster to draw."""
    if "lines" not in trace.get("mode", ""):
        for other in data:
            if _look(other) == _look(trace):
                for key in NUMBERS:
                    if key in trace:
                        other[key].extend(trace[key])
                other["text"].extend(trace["text"])
                return
    data.append(trace)


def _look(trace: Trace) -> dict[str, object]:
    return {k: v for k, v in trace.items() if k not in (*NUMBERS, "text")}


def _in_order(axis: Axes) -> Iterator[Any]:
    yield from sorted([*axis.collections, *axis.patches, *axis.lines, *axis.images], key=lambda a: a.get_zorder())


class _Scales:
    """The two axes: ranges, ticks, what they say."""

    def __init__(self, axis: Axes) -> None:
        self.axis = axis

    def of(self, which: str) -> Any:
        return self.axis.xaxis if which == "x" else self.axis.yaxis

    def log(self, which: str) -> bool:
        return str(self.of(which).get_scale()) == "log"

    def bends(self, which: str) -> bool:
        """Whether the scale is one that plotly does not have; what is drawn are then places on it, with named ticks."""
        return str(self.of(which).get_scale()) not in ("linear", "log")

    def bent(self, which: str, values: Sequence[float | None]) -> list[float | None]:
        """Coordinates of the data as they are drawn: places on a scale that plotly does not have, else as they are."""
        return [_round(self.place(which, v)) if v is not None and self.bends(which) else v for v in values]

    def limits(self, which: str) -> tuple[float, float]:
        low, high = self.axis.get_xlim() if which == "x" else self.axis.get_ylim()
        return float(low), float(high)

    def ticks(self, which: str) -> dict[float, str]:
        """Ticks with labels where they are fixed, or on a scale that plotly does not have; else none."""
        from matplotlib.ticker import FixedLocator

        locator = self.of(which).get_major_locator()
        if self.bends(which):
            return {float(v): f"{v:g}" for v in locator()}
        if not isinstance(locator, FixedLocator):
            return {}
        places = [float(v) for v in locator()]
        return dict(zip(places, map(str, self.of(which).get_major_formatter().format_ticks(places)), strict=True))

    def label(self, which: str) -> str:
        """The axis' label; that of a neighbour in its row or column where they share the axis and only one has it."""
        own = str(self.of(which).get_label_text())
        spec = self.axis.get_subplotspec()
        if own or spec is None:
            return own
        shared = self.axis.get_shared_x_axes() if which == "x" else self.axis.get_shared_y_axes()
        for other in shared.get_siblings(self.axis):
            place = other.get_subplotspec()
            beside = place and (place.colspan == spec.colspan if which == "x" else place.rowspan == spec.rowspan)
            said = str((other.xaxis if which == "x" else other.yaxis).get_label_text())
            if beside and said:
                return said
        return ""

    def place(self, which: str, value: float) -> float:
        """A coordinate for plotly's ranges and notes, which want the logarithm."""
        if self.log(which):
            return math.log10(value)
        return float(self.of(which).get_transform().transform([value])[0]) if self.bends(which) else value

    def layout(self, which: str) -> AxisLayout:
        low, high = self.limits(which)
        beside = max(map(len, self.ticks("y").values()), default=0) if which == "x" else 0
        breadth = min(BREADTH, max(BESIDE - beside, 14))
        lines = self.of(which).get_gridlines()
        found: AxisLayout = {
            "title": {"text": _lines(_broken(self.label(which), breadth))},
            "range": [_round(self.place(which, v)) for v in (low, high)],
            "showgrid": bool(lines) and bool(lines[0].get_visible()),
            "type": "log" if self.log(which) else "linear",
        }
        ticks = self.ticks(which)
        if ticks:
            found |= {"tickmode": "array", "tickvals": self.bent(which, list(ticks)),
                      "ticktext": [_lines(t) for t in ticks.values()]}  # fmt: skip
            slant = max((t.get_rotation() for t in self.of(which).get_ticklabels()), default=0.0)
            if slant:  # else left to plotly, which slants names that would touch
                found["tickangle"] = -slant
            if which == "x" and len(ticks) > 4:
                found["tickfont"] = {"size": 10}
        elif self.log(which):
            found |= {"dtick": 1 if abs(self.place(which, high) - self.place(which, low)) < 6 else 2,
                      "exponentformat": "power"}  # fmt: skip
        return found

    def say(self, which: str, value: float) -> str:
        """A value in words: its tick's label where ticks are names, else the number."""
        for at, label in self.ticks(which).items():
            if abs(value - at) < 0.5 and not label.replace(".", "").isdigit() and label:
                return " ".join(label.split())
        return f"{value:.3g}"


def _round(value: float) -> float | None:
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _lines(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


def _broken(label: str, breadth: int) -> str:
    """A label of an axis on lines of so many letters; what stands in brackets on one of its own."""
    if len(label) <= breadth:
        return label
    return "\n".join(textwrap.fill(line, breadth) for line in label.replace(" (", "\n(").splitlines())


def _place(artist: Any, axis: Axes) -> tuple[str, str] | None:
    """What an artist's coordinates are: of the data, or shares of the panel ("domain")."""
    transform = artist.get_data_transform() if hasattr(artist, "get_data_transform") else artist.get_transform()
    for known, found in (
        (axis.transData, ("data", "data")),
        (axis.get_xaxis_transform("grid"), ("data", "domain")),
        (axis.get_yaxis_transform("grid"), ("domain", "data")),
        (axis.get_xaxis_transform(), ("data", "domain")),
        (axis.get_yaxis_transform(), ("domain", "data")),
        (axis.transAxes, ("domain", "domain")),
    ):
        if transform == known:
            return found
    return None


def _drawn(artist: Any, axis: Axes, scales: _Scales, legend: Sequence[Entry], name: str) -> Iterator[Trace | Shape]:
    """What plotly needs for one artist."""
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.container import BarContainer
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    if not artist.get_visible():
        return
    place = ("data", "data") if isinstance(artist, PathCollection) else _place(artist, axis)
    if place is None:
        raise PlotError(f"{name}: expected {type(artist).__name__} in coordinates of the data or the panel")
    on_data = place == ("data", "data")
    if isinstance(artist, Line2D) and on_data:
        yield _trace(artist, scales, legend)
    elif isinstance(artist, Line2D):
        yield _rule(artist, place)
    elif isinstance(artist, Rectangle) and on_data:
        bars = [c for c in axis.containers if isinstance(c, BarContainer) and artist in c]
        lying = any(c.orientation == "horizontal" for c in bars)
        yield _bar(artist, scales, legend, lying)
    elif isinstance(artist, Rectangle):
        yield _span(artist, place)
    elif isinstance(artist, LineCollection):
        yield _segments(artist)
    elif isinstance(artist, PathCollection):
        yield _points(artist, scales)
    elif isinstance(artist, PolyCollection):
        for path in artist.get_paths():
            yield _area(path.vertices, _colour(artist.get_facecolor()[0]))
    else:
        raise PlotError(f"{name}: expected lines, bars, areas and points, got {type(artist).__name__}")


def _shape(kind: Literal["line", "rect"], corners: Sequence[float], place: tuple[str, str], line: Stroke) -> Shape:
    x0, y0, x1, y1 = (_round(v) for v in corners)
    # shapes take data coordinates as they are, also on a logarithmic axis
    return {"type": kind, "x0": x0, "y0": y0, "x1": x1, "y1": y1, "xref": _ref("x", place[0]),
            "yref": _ref("y", place[1]), "line": line}  # fmt: skip


def _ref(which: str, kept: str) -> str:
    return which if kept == "data" else f"{which} domain"


def _rule(line: Line2D, place: tuple[str, str]) -> Shape:
    """A line across the panel."""
    xs, ys = (np.asarray(v, dtype=float) for v in line.get_data(orig=False))
    style: Stroke = {"color": _colour(line.get_color(), line.get_alpha()), "dash": _dash(line),
                     "width": line.get_linewidth() * PIXELS}  # fmt: skip
    return _shape("line", (xs[0], ys[0], xs[-1], ys[-1]), place, style)


def _span(box: Rectangle, place: tuple[str, str]) -> Shape:
    """A band across the panel."""
    x, y = box.get_xy()
    corners = (x, y, x + box.get_width(), y + box.get_height())
    band = _shape("rect", corners, place, {"width": 0})
    return {**band, "fillcolor": _colour(box.get_facecolor()), "layer": "below"}


def _bar(box: Rectangle, scales: _Scales, legend: Sequence[Entry], lying: bool) -> Trace:
    (x, y), w, h = box.get_xy(), box.get_width(), box.get_height()
    end = (x + w, y + h / 2) if lying else (x + w / 2, y + h)
    marker: Marker = {"color": _colour(box.get_facecolor())}
    if box.get_hatch():
        marker["pattern"] = {"shape": "/", "fgcolor": "white", "size": 6, "solidity": 0.3, "fillmode": "overlay"}
    label = next((e.label for e in legend if e.box and e.colour == _hex(box.get_facecolor())), "")
    return {"type": "bar", "x": [_round(x + w / 2)], "base": [_round(y)], "y": [_round(h)], "width": [_round(w)],
            "marker": marker, "text": [_said(label, *end, scales)], "textposition": "none",
            "hovertemplate": HOVER}  # fmt: skip


def _segments(lines: LineCollection) -> Trace:
    xs: list[float | None] = []
    ys: list[float | None] = []
    for segment in lines.get_segments():
        xs += [*(_round(v) for v in segment[:, 0]), None]
        ys += [*(_round(v) for v in segment[:, 1]), None]
    width = float(np.atleast_1d(lines.get_linewidth())[0])
    style: Stroke = {"color": _colour(lines.get_colors()[0], lines.get_alpha()), "width": width * PIXELS}
    return {"type": "scatter", "mode": "lines", "x": xs, "y": ys, "line": style, "hoverinfo": "skip"}


def _points(dots: PathCollection, scales: _Scales) -> Trace:
    places = np.asarray(dots.get_offsets(), dtype=float)
    sizes = np.sqrt(np.resize(dots.get_sizes(), len(places))) * PIXELS
    faces = np.resize(np.atleast_2d(dots.get_facecolor()), (len(places), 4))
    label = str(dots.get_label())
    said = [_said("" if label.startswith("_") else label, x, y, scales) for x, y in places]
    marker: Marker = {"size": [_round(s) for s in sizes], "color": [_colour(tuple(f)) for f in faces]}
    return {"type": "scatter", "mode": "markers", "x": [_round(v) for v in places[:, 0]],
            "y": [_round(v) for v in places[:, 1]], "marker": marker, "text": said, "hovertemplate": HOVER}  # fmt: skip


def _area(corners: Any, colour: str) -> Trace:
    return {"type": "scatter", "mode": "lines", "fill": "toself", "x": [_round(v) for v in corners[:, 0]],
            "y": [_round(v) for v in corners[:, 1]], "line": {"width": 0}, "fillcolor": colour,
            "hoverinfo": "skip"}  # fmt: skip


def _said(label: str, x: float, y: float, scales: _Scales) -> str:
    parts = [f"<b>{_lines(label)}</b>"] if label else []
    for which, value in (("x", x), ("y", y)):
        title, value_said = " ".join(scales.label(which).split()), scales.say(which, value)
        parts.append(f"{_lines(title)}: {_lines(value_said)}" if title else _lines(value_said))
    return "<br>".join(parts)


def _trace(line: Line2D, scales: _Scales, legend: Sequence[Entry]) -> Trace:
    xs, ys = (np.asarray(v, dtype=float) for v in line.get_data(orig=False))
    marker, dash = MARKERS.get(str(line.get_marker()), ""), _dash(line)
    label = _named(line, legend)
    found: Trace = {
        "type": "scatter", "mode": "+".join([*(["lines"] if dash != "none" else []), *(["markers"] if marker else [])]),
        "x": [_round(v) for v in xs], "y": [_round(v) for v in ys],
        "text": [_said(label, x, y, scales) for x, y in zip(xs, ys, strict=True)],
        "cliponaxis": dash != "none", "hovertemplate": HOVER,
    }  # fmt: skip
    if dash != "none":
        found["line"] = {"color": _colour(line.get_color(), line.get_alpha()), "dash": dash,
                         "width": line.get_linewidth() * PIXELS,
                         "shape": STEPS[line.get_drawstyle()]}  # fmt: skip
    if marker:
        hollow = _hollow(line)
        face = line.get_color() if hollow else line.get_markerfacecolor()
        edge = line.get_markeredgewidth()
        thin = marker.startswith("line-") or marker.endswith("-thin")
        found["marker"] = {
            "symbol": marker + ("-open" if hollow or thin else ""), "size": _round(line.get_markersize() * PIXELS),
            "color": _colour(face, line.get_alpha()),
            "line": {"width": max(edge, 1.0) * PIXELS if hollow or thin else edge,
                     "color": _colour(face if hollow or thin else line.get_markeredgecolor(), line.get_alpha())},
        }  # fmt: skip
    return found


def _annotation(note: Any, x: float, y: float, axis: Axes, scales: _Scales) -> Note:
    from matplotlib.text import Annotation

    shift = (0.0, 0.0)
    if isinstance(note, Annotation):
        place: tuple[str, str] | None = ("data", "data")
        if note.anncoords == "offset points":
            shift = (float(note.xyann[0]), float(note.xyann[1]))
        elif note.anncoords == "data":
            x, y = (float(v) for v in note.xyann)
    else:
        place = _place(note, axis)
    if place is None:
        raise PlotError(f"{note.get_text()!r}: expected a note in coordinates of the data or the panel")
    align = {"left": "left", "center": "center", "right": "right"}[note.get_ha()]
    return {
        "text": _lines(note.get_text()), "showarrow": False, "align": align, "xanchor": align,
        "yanchor": {"top": "top", "center": "middle", "center_baseline": "middle"}.get(note.get_va(), "bottom"),
        "xshift": shift[0] * PIXELS, "yshift": shift[1] * PIXELS,
        "font": {"size": 11, "color": _hex(note.get_color())}, "bgcolor": "rgba(255,255,255,0.75)",
        "xref": _ref("x", place[0]), "x": _round(scales.place("x", x) if place[0] == "data" else x),
        "yref": _ref("y", place[1]), "y": _round(scales.place("y", y) if place[1] == "data" else y),
    }  # fmt: skip
