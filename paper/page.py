"""The parts of the static page: ladder, graph of claims, claims, experiments, judged predictions; all are HTML.

The same material, numbers and wording as in the paper: values are formatted by :mod:`paper.tex` and set by
:mod:`paper.markup`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from empirical.engine.summary import purpose
from empirical.ladder import checks_of, experiments_of
from paper import tex
from paper.graph import RUNGS, places
from paper.markup import text, verdict
from paper.material import EXPERIMENTS, Material, Run
from paper.plots import Drawn, Entry, convert
from paper.values import RUN_FIELDS, rung
from theory.claims import Claim

#: a mark on a rung: sign, words
MARKS = {"yes": ("●", "yes"), "part": ("◐", "in part"), "no": ("○", "not checked"), "fail": ("✗", "FAILED"),
         "none": ("–", "none planned")}  # fmt: skip
STATUS = {"pass": "passed", "fail": "FAILED", "not_checked": "not checked", "none_planned": "none planned",
          **{v: v for v in tex.VERDICTS}}  # fmt: skip
KINDS = ("exact", "ceiling", "hypothesis", "control")
CLOSED = "Closed under the global context"


class Plot(NamedTuple):
    """A figure of a run, ready for the page."""

    name: str
    drawn: Drawn
    says: str


def claim_link(claim: str, label: str | None = None) -> str:
    """A link to a claim's entry."""
    return f'<a href="#claim-{claim}">{label or f"<code>{escape(claim)}</code>"}</a>'


def run_name(run: Run) -> str:
    """Experiment and profile, as the filter has it."""
    return f"{run.experiment}, {run.profile}"


def _mark(mark: str) -> str:
    sign, words = MARKS[mark]
    return f'<span class="mark {mark}"><span aria-hidden="true">{sign}</span> <span class="words">{words}</span></span>'


def _rows_of(material: Material, claim: str) -> list[Mapping[str, Any]]:
    return [row for runs in material.runs.values() for row in runs[0].rows if row["claim"] == claim]


def _figure_of(material: Material, claim: str) -> str:
    layers = material.verification["claims"][claim]
    figure = layers["numeric"]["figure"] or layers["symbolic"]["figure"]
    if not figure:
        return ""
    return f"{escape(figure['name'])}: {text(tex.number(figure['value']))} {escape(figure['unit'])}"


def _measured(material: Material, claim: Claim) -> str:
    rows = _rows_of(material, claim.id)
    if rows:
        counts = {v: sum(r["verdict"] == v for r in rows) for v in tex.VERDICTS}
        said = {"holds": '<span class="mark yes">{} hold</span>',
                "undecided": '<span class="mark no">{} undecided</span>',
                "violated": '<strong class="mark fail">{} VIOLATED</strong>'}  # fmt: skip
        return "<br>".join(said[v].format(n) for v, n in counts.items() if n)
    return '<span class="mark no">not finished</span>' if experiments_of(claim.id) else ""


def verification_line(material: Material) -> str:
    """Where and when the rungs were computed."""
    e = material.verification["environment"]
    versions = ", ".join(f"{n} {v}" for n, v in e["packages"].items())
    commit = (e["commit"] or "unknown")[:7] + (" with changes" if e["dirty"] else "")
    return escape(f"make verify at commit {commit}: {e['platform']}, {e['cores']} cores, Python {e['python']}, "
                  f"{versions}; {e['coq'] or 'no Coq'}")  # fmt: skip


def ladder(material: Material) -> str:
    """One row per claim: its rungs, what the checks and the experiments measured."""
    lines, topic = [], ""
    for claim in material.claims.values():
        if claim.topic != topic:
            topic = claim.topic
            lines.append(f'<tr class="topic"><th colspan="7" scope="rowgroup">{escape(topic)}</th></tr>')
        marks = rung(material, claim.id)
        cells = "".join(f"<td>{_mark(marks[name])}</td>" for name in RUNGS[:-1])
        measured = _measured(material, claim) or _mark(marks["measured"])
        lines.append(
            f'<tr><th scope="row">{claim_link(claim.id, escape(claim.title))}<br><code>{escape(claim.id)}</code></th>'
            f"{cells}<td>{measured}</td><td>{_figure_of(material, claim.id)}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("claim", *RUNGS, "slack, or gap of what attains it"))
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


# ---------------------------------------------------------------- the graph

#: measures of the graph in pixels: a box, a row, from column to column, room for the topics
NODE, HEIGHT, ROW, STEP, LEFT = 200, 40, 54, 330, 112


def graph(material: Material) -> str:
    """The claims as boxes that are links; an arrow leads from a claim to one that rests on it."""
    where, bands = places(material)
    columns, rows = 1 + max(c for c, _ in where.values()), bands[-1][2] + 1
    width, height = LEFT + (columns - 1) * STEP + NODE + 12, rows * ROW + 8
    drawn = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
        'aria-label="Claims and what they rest on; each claim is a link">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z"/></marker></defs>',
    ]
    for i, (topic, first, last) in enumerate(bands):
        shade, tall = ("band", "band clear")[i % 2], (last - first + 1) * ROW
        drawn.append(f'<rect class="{shade}" x="0" y="{first * ROW}" width="{width}" height="{tall}"/>'
                     f'<text class="topic" x="8" y="{first * ROW + tall / 2:g}">{escape(topic)}</text>')  # fmt: skip
    for claim in material.claims.values():
        for used in claim.uses:
            drawn.append(f'<path class="edge" data-ends="{used} {claim.id}" marker-end="url(#tip)" '
                         f'd="{_edge(used, claim.id, where, rows)}"/>')  # fmt: skip
    for claim in material.claims.values():
        x, y = _corner(*where[claim.id])
        marks = rung(material, claim.id)
        pips = "".join(f'<tspan class="mark {marks[r]}">{MARKS[marks[r]][0]} </tspan>' for r in RUNGS)
        said = ", ".join(f"{r}: {MARKS[marks[r]][1]}" for r in RUNGS)
        drawn.append(
            f'<a href="#claim-{claim.id}" id="node-{claim.id}"><title>{escape(claim.title)} ({said})</title>'
            f'<rect x="{x}" y="{y}" width="{NODE}" height="{HEIGHT}" rx="5"/>'
            f'<text class="id" x="{x + 9}" y="{y + 17}">{escape(claim.id)}</text>'
            f'<text class="pips" aria-hidden="true" x="{x + 9}" y="{y + 33}">{pips}</text></a>'
        )
    return "\n".join([*drawn, "</svg>"])


def _corner(column: int, row: int) -> tuple[int, int]:
    return LEFT + column * STEP, row * ROW + (ROW - HEIGHT) // 2


def _edge(used: str, claim: str, where: Mapping[str, tuple[int, int]], rows: int) -> str:
    """Curves in the gaps between columns; columns on the way are crossed at the nearest height without a box."""
    taken = set(where.values())
    (start, row), (end, to) = where[used], where[claim]
    left, top = _corner(start, row)
    x, y = left + NODE, top + HEIGHT / 2
    path = f"M{x} {y:g}"
    for column in range(start + 1, end + 1):
        free = [r for r in range(rows) if (column, r) not in taken]
        left, top = _corner(column, to if column == end else min(free, key=lambda r: abs(r - to)))
        middle, height = (x + left) / 2, top + HEIGHT / 2
        path += f"C{middle:g} {y:g} {middle:g} {height:g} {left - 2} {height:g}"
        if column < end:
            path += f"H{left + NODE}"
        x, y = left + NODE, height
    return path


# ---------------------------------------------------------------- one claim


def claims(material: Material) -> str:
    """Every claim with what stands behind it, by topic."""
    found, topic = [], ""
    for claim in material.claims.values():
        if claim.topic != topic:
            topic = claim.topic
            found.append(f"<h3>{escape(topic.capitalize())}</h3>")
        found.append(_claim(material, claim))
    return "\n".join(found)


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _claim(material: Material, claim: Claim) -> str:
    marks = rung(material, claim.id)
    layers = material.verification["claims"][claim.id]
    pips = "".join(f'<span class="pip"><span class="name">{r}</span> {_mark(marks[r])}</span>' for r in RUNGS)
    facts = [("Statement", f'<div class="tex"><p>{text(claim.statement)}</p></div>')]
    if claim.assumptions:
        facts.append(("Assumptions", f'<div class="tex">{_list([text(a) for a in claim.assumptions])}</div>'))
    facts.append(("Source", text(claim.source)))
    if claim.uses:
        facts.append(("Rests on", ", ".join(claim_link(c) for c in claim.uses)))
    above = [c.id for c in material.claims.values() if claim.id in c.uses]
    if above:
        facts.append(("Used by", ", ".join(claim_link(c) for c in above)))
    facts.append(("In the graph", f'<a href="#node-{claim.id}">its place</a>'))
    facts.append(("Bounds and constructions", ", ".join(f"<code>{escape(c)}</code>" for c in claim.code)))
    facts.append(("Checks", _list(list(_checks(material, claim)))))
    facts.append(("Proof", _proof(material, claim, layers["formal"])))
    facts.append(("Measured", _evidence(material, claim)))
    body = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts)
    return (
        f'<details class="claim" id="claim-{claim.id}"><summary><h4>{escape(claim.title)}</h4> '
        f'<code>{escape(claim.id)}</code> <span class="kind">{claim.kind}</span>'
        f'<span class="pips">{pips}</span></summary><dl>{body}</dl></details>'
    )


def _checks(material: Material, claim: Claim) -> Iterator[str]:
    layers = material.verification["claims"][claim.id]
    for name, layer, references in (
        ("symbolic", "symbolic", claim.symbolic),
        ("numeric", "numeric", claim.numeric),
        ("real adapters", "numeric", checks_of(claim.id)),
    ):
        for reference in references:
            status = layers[layer]["parts"].get(reference.partition(":")[2], layers[layer]["status"])
            loud = ' class="violated"' if status == "fail" else ""
            yield f"{name}: <code>{escape(reference)}</code> <span{loud}>{STATUS[status]}</span>"
        if not references and layer in claim.none_planned:
            yield f"{name}: none planned, {escape(claim.none_planned[layer])}"
    figure = _figure_of(material, claim.id)
    if figure:
        yield f"measured by them: {figure}"


def _proof(material: Material, claim: Claim, layer: Mapping[str, Any]) -> str:
    if not claim.theorems:
        return f"none planned{': ' + escape(layer['reason']) if layer['reason'] else ''}"
    found = []
    for theorem, covers in claim.theorems.items():
        printed = material.statements[theorem]
        status = STATUS[layer["parts"].get(theorem, layer["status"])]
        closed = "no axioms" if printed.assumptions == CLOSED else escape(printed.assumptions)
        found.append(
            f'<details class="theorem" id="theorem-{theorem}"><summary><code>{escape(theorem)}</code> '
            f'{escape(status)}: {escape(covers)}</summary><pre tabindex="0">{escape(theorem)}\n'
            f"{escape(printed.statement)}</pre><p>Coq: {closed} (<code>proofs/{claim.topic}.v</code>)</p></details>"
        )
    left = f"<p>Not covered: {escape(claim.unproved)}.</p>" if claim.unproved else ""
    return "".join(found) + left


def _evidence(material: Material, claim: Claim) -> str:
    rows = _rows_of(material, claim.id)
    found = []
    if rows:
        judged = dict.fromkeys(r["experiment"] for r in rows)
        links = ", ".join(f'<a href="#experiment-{e}">{escape(e)}</a>' for e in judged)
        found.append(f"{text(tex.tally(rows))} ({links}: predictions and plots).")
        found.append(f'<a class="filter" href="#predictions" data-claim="{claim.id}">Show them</a>')
    missing = [e for e in experiments_of(claim.id) if material.run(e) is None]
    found += [f'Not finished: <a href="#experiment-{e}">{escape(e)}</a>.' for e in missing]
    return " ".join(found) or "nothing measured"


# ---------------------------------------------------------------- experiments


def plots_of(run: Run) -> list[Plot]:
    """The figures of a run, for the page."""
    import matplotlib

    from empirical.engine.drawing import STYLE
    from empirical.engine.figures import plots

    found = []
    for plot in (p for p in plots() if p.experiment == run.experiment):
        with matplotlib.rc_context(STYLE):
            figure = plot.draw(run.records, run.rows)
            if figure is not None:
                drawn = convert(figure, plot.name, f"{run.experiment}, profile {run.profile}")
                says = (plot.draw.__doc__ or "").strip().splitlines()
                found.append(Plot(plot.name, drawn, says[0] if says else ""))
    return found


def experiments(material: Material, drawn: Mapping[str, Sequence[Plot]]) -> str:
    """Every experiment: its plots, or that it is not finished."""
    found = []
    for name in dict.fromkeys((*EXPERIMENTS, *material.runs, *material.unfinished)):
        found.append(f'<section id="experiment-{name}"><h3><code>{escape(name)}</code></h3>')
        if name in material.unfinished:
            found.append(f'<p class="unfinished">Not finished: {escape(material.unfinished[name])}.</p>')
        for i, run in enumerate(material.runs.get(name, ())):
            if i == 0:
                found.append(f"<p>{escape(purpose(name))}.</p>")
            found.append(_run(run, drawn[run_name(run)]))
        found.append("</section>")
    return "\n".join(found)


def _run(run: Run, drawn: Sequence[Plot]) -> str:
    facts = ", ".join(f"{name} {text(RUN_FIELDS[key](run))}" for name, key in
                      (("profile", "profile"), ("device", "device"), ("seeds", "seeds"), ("commit", "commit"),
                       ("cells", "cells"), ("minutes", "minutes")))  # fmt: skip
    broken = [r for r in run.rows if r["verdict"] == "violated"]
    parts = [
        f'<p class="provenance">{facts}</p>',
        f'<p>{text(tex.tally(run.rows))}. <a class="filter" href="#predictions" data-run="{escape(run_name(run))}">'
        "Show them</a></p>",
        *(f'<p class="loud">{verdict("violated")}: {escape(r["says"])}. Measured {text(tex.measured(r))}. '
          f"{_why(r)}</p>" for r in broken),
        *(_plot(plot, run) for plot in drawn),
    ]  # fmt: skip
    return "\n".join(parts)


def _why(row: Mapping[str, Any]) -> str:
    return f"Explained: {escape(row['explained'])}" if row["explained"] else "<strong>No explanation is known.</strong>"


def plot_id(plot: Plot, run: Run, panel: int) -> str:
    """The id of the element that a panel is drawn in."""
    return f"plot-{run.profile}-{plot.name}-{panel}"


def _plot(plot: Plot, run: Run) -> str:
    panels = []
    for i, panel in enumerate(plot.drawn.panels):
        loud = ' class="violated"' if panel.loud else ""
        lines = "".join(f'<li{" class=violated" if said_loudly else ""}>{escape(said)}</li>'
                        for said, said_loudly in panel.lines)  # fmt: skip
        label = escape(f"{plot.drawn.title}: {panel.title or panel.layout['xaxis']['title']['text']}", quote=True)
        panels.append(
            f'<div class="panel">{f"<h5{loud}>{escape(panel.title)}</h5>" if panel.title else ""}'
            f"{f'<ul>{lines}</ul>' if lines else ''}"
            f'<div class="plot" id="{plot_id(plot, run, i)}" role="img" aria-label="{label}" '
            f'style="min-height:{panel.layout["height"]}px"></div></div>'
        )
    legend = "".join(f"<li>{_swatch(e)} {escape(e.label)}</li>" for e in plot.drawn.legend)
    return (
        f'<figure class="chart"><figcaption><h4>{escape(plot.drawn.title)}</h4><p>{escape(plot.says)}</p></figcaption>'
        f'<div class="panels" style="--columns:{plot.drawn.columns}">{"".join(panels)}</div>'
        f'<ul class="legend">{legend}</ul><p class="provenance">{escape(plot.drawn.provenance)}</p></figure>'
    )


def _swatch(entry: Entry) -> str:
    inside = ""
    if entry.box:
        inside = f'<rect x="3" y="2" width="20" height="10" fill="{entry.colour}" fill-opacity="{entry.opacity:.3g}"/>'
        if entry.hatch:
            inside += '<path d="M6 12L12 2M12 12L18 2M18 12L23 3" stroke="white" stroke-width="1.5"/>'
    if entry.dash != "none":
        dash = {"solid": "", "dash": ' stroke-dasharray="5 3"', "dot": ' stroke-dasharray="1.5 2.5"',
                "dashdot": ' stroke-dasharray="5 2 1.5 2"'}[entry.dash]  # fmt: skip
        inside += f'<path d="M1 7H25" stroke="{entry.colour}" stroke-width="{entry.width + 0.4:g}"{dash}/>'
    size = min(entry.size, 7) * 0.62
    shape = {
        "circle": f'<circle cx="13" cy="7" r="{size:.3g}"/>',
        "square": f'<rect x="{13 - size:.3g}" y="{7 - size:.3g}" width="{2 * size:.3g}" height="{2 * size:.3g}"/>',
        "triangle-up": f'<path d="M13 {7 - size:.3g}L{13 + size:.3g} {7 + size:.3g}H{13 - size:.3g}z"/>',
        "triangle-down": f'<path d="M13 {7 + size:.3g}L{13 + size:.3g} {7 - size:.3g}H{13 - size:.3g}z"/>',
        "diamond": f'<path d="M13 {7 - size:.3g}L{13 + size:.3g} 7L13 {7 + size:.3g}L{13 - size:.3g} 7z"/>',
        "line-ew": f'<path d="M{13 - size:.3g} 7H{13 + size:.3g}" stroke-width="2"/>',
        "x": f'<path d="M{13 - size:.3g} {7 - size:.3g}L{13 + size:.3g} {7 + size:.3g}M{13 - size:.3g} '
             f'{7 + size:.3g}L{13 + size:.3g} {7 - size:.3g}" stroke-width="2.4"/>',
        "cross": f'<path d="M{13 - size:.3g} 7H{13 + size:.3g}M13 {7 - size:.3g}V{7 + size:.3g}" stroke-width="2.4"/>',
        "star": f'<text x="13" y="{7 + size:.3g}" text-anchor="middle" font-size="15">★</text>',
    }.get(entry.marker, "")  # fmt: skip
    if shape:
        fill = "none" if entry.hollow else entry.colour
        edge = f' stroke="{entry.colour}"' if entry.hollow or entry.marker in ("line-ew", "x", "cross") else ""
        inside += f'<g fill="{fill}" fill-opacity="{entry.opacity:.3g}"{edge}>{shape}</g>'
    if not inside:
        return ""
    return f'<svg class="swatch" width="26" height="14" aria-hidden="true">{inside}</svg>'


def plot_data(material: Material, drawn: Mapping[str, Sequence[Plot]]) -> str:
    """Data and layout of all panels as JSON for a script element."""
    found = {
        plot_id(plot, run, i): {"data": panel.data, "layout": panel.layout}
        for runs in material.runs.values() for run in runs for plot in drawn[run_name(run)]
        for i, panel in enumerate(plot.drawn.panels)
    }  # fmt: skip
    written = json.dumps(found, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.replace("</", r"<\/")


# ---------------------------------------------------------------- judged predictions


def filters(material: Material) -> str:
    """The form that narrows the list of predictions."""
    runs = [run for found in material.runs.values() for run in found]
    judged = {r["claim"] for run in runs for r in run.rows}
    choices = {
        "run": ("experiment", [run_name(run) for run in runs]),
        "kind": ("kind", [k for k in KINDS if any(r["kind"] == k for run in runs for r in run.rows)]),
        "verdict": ("verdict", list(tex.VERDICTS)),
        "claim": ("claim", [c for c in material.claims if c in judged]),
    }
    fields = "".join(
        f'<label>{label} <select name="{name}"><option value="">all</option>'
        + "".join(f"<option>{escape(v)}</option>" for v in values) + "</select></label>"
        for name, (label, values) in choices.items()
    )  # fmt: skip
    words = '<label>words <input name="words" type="search"></label>'
    return f'<form id="filter">{fields}{words}<button type="reset">Show all</button></form>'


def predictions(material: Material) -> str:
    """Every judged prediction as a row."""
    rows = [(run, row) for runs in material.runs.values() for run in runs for row in run.rows]
    return '<ol class="rows" id="rows">' + "\n".join(_row(run, row) for run, row in rows) + "</ol>"


def _row(run: Run, row: Mapping[str, Any]) -> str:
    loud = f'<p class="why">{_why(row)}</p>' if row["verdict"] == "violated" else ""
    note = f"<p>{_why(row)}</p>" if row["explained"] and not loud else ""
    level = "every world must agree" if row["kind"] == "exact" else (
        f"interval {text(tex.interval(row))} at {text(tex.percent(row['level'], 4))}")  # fmt: skip
    worlds = ", ".join(f"{_short(w[0])} of {_short(w[1])}" if isinstance(w, (list, tuple)) else _short(w)
                       for w in row["worlds"])  # fmt: skip
    return (
        f'<li class="row {row["verdict"]}" data-run="{escape(run_name(run))}" data-kind="{row["kind"]}" '
        f'data-verdict="{row["verdict"]}" data-claim="{row["claim"]}"><div class="says"><p>{escape(row["says"])}</p>'
        f'<p class="meta">{escape(run_name(run))} · {claim_link(row["claim"])} · {row["kind"]}</p>'
        f"<details><summary>{len(tex.rates(row))} worlds</summary><p>{worlds}</p><p>{level}. Hash of what is "
        f"predicted, computed when judging: <code>{row['predicted_hash']}</code>, id <code>{escape(row['id'])}</code>. "
        f"{escape(', '.join(row['devices']))}.</p>"
        f"{note}</details></div>"
        f'<div class="strip">{strip(row)}</div>'
        f'<div class="outcome"><p>{verdict(row["verdict"])}</p><p>predicted {text(tex.predicted(row))}<br>'
        f"measured {text(tex.measured(row))}</p></div>{loud}</li>"
    )


def _short(x: float) -> str:
    return f"{x:.6g}"


class _Scale(NamedTuple):
    low: float
    high: float

    def __call__(self, value: float) -> float:
        return 8 + 224 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def allowed(row: Mapping[str, Any], goal: float) -> tuple[float, float]:
    """Where the outcome has to lie for the prediction to hold."""
    slack = row["margin"] if row["kind"] == "exact" else 0.0
    return {
        "at_most": (-math.inf, goal + slack), "at_least": (goal - slack, math.inf),
        "equal": (goal - row["margin"], goal + row["margin"]), "order": (goal - slack, math.inf),
    }[row["relation"]]  # fmt: skip


def strip(row: Mapping[str, Any]) -> str:
    """A small drawing: where the outcome should lie, one dot per world, interval and mean.

    Where the prediction differs from world to world it is of the difference from it.
    """
    values, goal, difference = tex.rates(row), tex.target(row), tex.by_world(row)
    if difference:
        asked = [w if isinstance(w, (int, float)) else (w[0] / w[1] if w[1] else math.nan) for w in row["worlds"]]
        values = [v - p for v, p in zip(asked, row["predicted"], strict=True) if not math.isnan(v)]
        goal = 0.0
    if not values:
        return "nothing asked"
    low, high = allowed(row, goal)
    judged = [] if row["kind"] == "exact" else [v for v in row["interval"] if v is not None]
    shown = [*values, goal, *judged, *(v for v in (low, high) if math.isfinite(v))]
    share = all(isinstance(w, (list, tuple)) for w in row["worlds"]) and not difference
    if share and min(shown) >= 0 and max(shown) <= 1:
        scale = _Scale(0.0, 1.0)
    else:
        pad = 0.06 * (max(shown) - min(shown)) or 0.5 * abs(goal) or 0.5
        scale = _Scale(min(shown) - pad, max(shown) + pad)
    left, right = scale(max(low, scale.low)), scale(min(high, scale.high))
    parts = [
        '<path class="base" d="M8 17H232"/>',
        f'<rect class="allowed" x="{left:.1f}" y="7" width="{max(right - left, 1):.1f}" height="20"/>',
        f'<path class="goal" d="M{scale(goal):.1f} 4V30"/>',
    ]
    if row["kind"] != "exact":
        ends = [scale(v) if v is not None else (8.0, 232.0)[i] for i, v in enumerate(row["interval"])]
        parts.append(
            f'<path class="interval" d="M{ends[0]:.1f} 17H{ends[1]:.1f}M{ends[0]:.1f} 12V22M{ends[1]:.1f} 12V22"/>'
        )
    parts += [f'<circle class="world" cx="{scale(v):.1f}" cy="17" r="3"/>' for v in values]
    parts.append(f'<path class="mean" d="M{scale(tex.mean(values)):.1f} 11l5 6l-5 6l-5 -6z"/>')
    parts.append(
        f'<text x="8" y="41">{scale.low:.3g}</text><text x="232" y="41" text-anchor="end">{scale.high:.3g}</text>'
    )
    if difference:
        parts.append('<text x="120" y="41" text-anchor="middle">measured − predicted</text>')
    return f'<svg viewBox="0 0 240 44" aria-hidden="true">{"".join(parts)}</svg>'


def environments(material: Material) -> str:
    """Device, seeds, commits, versions of every run."""
    rows = []
    for runs in material.runs.values():
        for run in runs:
            packages = sorted({
                ", ".join([f"Python {r['environment']['python']}",
                           *(f"{n} {v}" for n, v in r["environment"]["packages"].items())]) for r in run.records
            })  # fmt: skip
            cells = [text(RUN_FIELDS[k](run)) for k in ("device", "seeds", "cells", "minutes", "commit")]
            rows.append(f'<tr><th scope="row">{escape(run_name(run))}</th>{"".join(f"<td>{c}</td>" for c in cells)}'
                        f"<td>{escape('; '.join(packages))}</td></tr>")  # fmt: skip
    heads = "".join(
        f'<th scope="col">{h}</th>' for h in ("run", "device", "seeds", "cells", "minutes", "commit", "versions")
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
