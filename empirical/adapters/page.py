"""An audit for people: one HTML file with plots that needs no network."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from empirical.adapters.library import FEW, listed, notes, side_by_side, worst_pairs
from empirical.adapters.report import Answer, AuditReport, ModuleReport, PairTotal, Probes, Sentence
from empirical.adapters.show import (
    combination_rows,
    each,
    library,
    margin_heads,
    margins,
    number,
    percent,
    reach,
    short,
    span,
)

#: how every page begins, and nobody else's
BEGINS = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="lora-limits audit">'
)
_STYLE = """
:root{color-scheme:light dark;--ink:#1a1a1a;--soft:#667;--paper:#fff;--line:#dde;--a:#2864b4;--b:#c25a1e;--good:#2c7a4b;
--warn:#b06a00;--bad:#a3282e}
@media(prefers-color-scheme:dark){:root{--ink:#e8e8ea;--soft:#9aa;--paper:#16181c;--line:#333842;--a:#79aef2;--b:#f0a070;
--good:#7cc99a;--warn:#e0b060;--bad:#ee8a8e}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:62rem;margin:2rem auto;
padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}p.sub{color:var(--soft);margin-top:.2rem}
table{border-collapse:collapse;font-size:.9rem;margin:.5rem 0}th,td{padding:.25rem .8rem .25rem 0;text-align:left;
vertical-align:top;border-bottom:1px solid var(--line)}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
ul.verdict{list-style:none;padding:0}ul.verdict li{border-left:4px solid var(--line);padding:.1rem .8rem;margin:.7rem 0}
li.fine{border-color:var(--good)!important}li.warning{border-color:var(--warn)!important}
li.limit{border-color:var(--bad)!important}li small{color:var(--soft);display:block}
dl.answer{display:grid;grid-template-columns:max-content 1fr;gap:.5rem 1.2rem;font-size:1.1rem;margin:1.4rem 0;
border-left:4px solid var(--a);padding:.3rem 1rem}dt{font-weight:600}dd{margin:0}
svg{max-width:100%;height:auto}svg text{fill:var(--ink);font:12px system-ui,sans-serif}svg .soft{fill:var(--soft)}
.scroll{overflow-x:auto}.hid{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
table.map{border-collapse:separate;border-spacing:1px;font-size:.75rem}table.map caption{text-align:left}
table.map td,table.map th{border:0;padding:0;white-space:nowrap;font-weight:400}
table.map thead th{vertical-align:bottom}
table.map thead th span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:9rem;overflow:hidden}
table.map td{min-width:1.05rem;height:1.05rem;text-align:center;position:relative;
background:color-mix(in srgb,var(--a) calc(var(--s)*1%),var(--paper))}table.map tbody th{padding-right:.4rem}
table.map td.own{background:var(--line)}.near{display:none;position:absolute;z-index:1;background:var(--paper);
border:1px solid var(--soft);padding:.2rem .5rem}th:hover>.near,th:focus>.near{display:block}
th:focus,.scroll:focus{outline:2px solid var(--a)}details{margin-top:1rem}code{font-size:.95em}
"""
_COLORS = ("var(--a)", "var(--b)", "var(--good)", "var(--warn)", "var(--bad)", "var(--soft)")


def as_html(data: AuditReport) -> str:
    """The report as one self-contained page: inline style, inline SVG, no script, nothing loaded."""
    names = [a.name for a in data.adapters]
    few = len(names) <= FEW
    title = "Audit of " + " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    title = title if few else f"Audit of {len(names)} adapters"
    weighed = [f"{w:g} x {n}" for w, n in zip(data.options.weights, names, strict=True)]
    terms = " + ".join(weighed) if few else listed(weighed)
    merge = data.total.merge
    body = [
        f"<h1>{_e(title)}</h1>",
        f'<p class="sub">Wanted sum: {_e(terms)}. {data.total.modules} modules. lora-limits '
        f"{_e(data.tool['lora-limits'])}, peft {_e(data.tool['peft'])}.</p>",
        _answer(data.answer),
        "<h2>Adapters</h2>",
    ]  # fmt: skip
    if not few:
        body += [f"<p>{'<br>'.join(_e(line[0].upper() + line[1:]) for line in library(data))}</p>"]
    body += [_folded(f"All {len(names)} adapters", _adapters(data), few)]
    if notes(data):
        body += [f"<p>Notes on names:</p><ul>{''.join(f'<li>{_e(note)}</li>' for note in notes(data))}</ul>"]
    if data.total.pairs:
        body += ["<h2>Pairs</h2>", _pairs(data, worst_pairs(data))]
        if not few:
            body += [_folded(f"All {len(data.total.pairs)} pairs", _pairs(data, data.total.pairs), few)]
    if len(names) > 2:
        body += ["<h2>Who reads what others read</h2>", _map(data)]
    body += [
        f"<h2>What peft {_e(data.tool['peft'])} would make of the sum</h2>",
        '<p class="sub">Frobenius norm of the error over that of the wanted sum, all modules together.</p>',
        _bars(data), _table(["combination", "error", ""], combination_rows(data), {1}),
        "<h2>Spectra</h2>",
        '<p class="sub">Singular values relative to the largest of each update: median over modules, and the range '
        "from the 10th to the 90th percentile.</p>",
        _spectra(data),
        "<h2>What the sum loses at a lower rank</h2>",
        f'<p class="sub">Least possible relative error, all modules together. At rank {merge.kept_rank}: '
        f"{percent(merge.truncation)}.</p>",
        _losses(data),
    ]  # fmt: skip
    if data.total.pairs:
        body += [
            "<h2>Where they meet</h2>",
            '<p class="sub">Share of key directions in common, by layer and module (largest over the pairs). '
            "Chance is near zero for wide modules.</p>",
            _grid(data, _shared, 0.25),
        ]
    body += [
        "<h2>Where they write</h2>",
        '<p class="sub">Norm of the wanted sum by layer and module'
        f"{', relative to the base weight' if _based(data) else ''}.</p>",
        _grid(data, _written, 0.0),
    ]
    if data.probe:
        body += ["<h2>Probes</h2>", _probes(data, data.probe)]
    body += ["<h2>Why: reasons, claims and limits</h2>", _verdict(data.verdict)]
    body += ["<details><summary>Every module</summary>", _modules(data), "</details>"]
    page = "\n".join(body)
    return (
        f'{BEGINS}<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{_e(title)}</title><style>{_STYLE}</style></head>\n<body>\n{page}\n</body></html>\n"
    )


def _e(text: Any) -> str:
    return html.escape(str(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], right: set[int] | None = None) -> str:
    marks = right or set()

    def cells(tag: str, values: Sequence[Any]) -> str:
        return "".join(f"<{tag}{' class=n' if i in marks else ''}>{_e(v)}</{tag}>" for i, v in enumerate(values))

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{cells("th", head)}</tr>{lines}</table></div>'


def _answer(answer: Answer) -> str:
    rows = "".join(f"<dt>{_e(question)}</dt><dd>{_e(text)}</dd>" for question, text in answer.lines())
    return f'<dl class="answer">{rows}</dl>'


def _verdict(lines: Sequence[Sentence]) -> str:
    items = "".join(
        f'<li class="{_e(x.level)}">{_e(x.text)}<small><code>{_e(x.claim)}</code>. {_e(x.limits)}</small></li>'
        for x in lines
    )
    return f'<ul class="verdict">{items}</ul>'


def _adapters(data: AuditReport) -> str:
    rows = [
        (a.name, a.modules, span(a.ranks), number(t.mean_rank95), number(t.mean_stable_rank),
         number(t.norm), percent(t.relative_norm), percent(t.kept_by_mean), ", ".join(a.dtypes))
        for a, t in zip(data.adapters, data.total.adapters, strict=True)
    ]  # fmt: skip
    head = ["adapter", "modules", "rank", "95% rank", "stable rank", "norm", "of base", "a mean keeps", "format"]
    return _table(head, rows, set(range(1, 8)))


def _folded(summary: str, content: str, shown: bool) -> str:
    return content if shown else f"<details><summary>{_e(summary)}</summary>{content}</details>"


def _map(data: AuditReport) -> str:
    """Shares of key directions in common: a table, so that it can be read aloud cell by cell; clusters lie together.

    The names of a row and of those that it shares most with come up with the pointer or, by Tab, with the keyboard.
    """
    names, order = [a.name for a in data.adapters], side_by_side(data)
    shares = {frozenset((p.first, p.second)): p.keys_share for p in data.total.pairs}
    numbers = len(names) <= 2 * FEW  # more do not fit beside each other

    def near(i: int) -> str:
        found = [(x, j) for j in order if j != i and (x := shares[frozenset((i, j))]) is not None]
        most = sorted(found, key=lambda t: -t[0])[:3]
        return ", ".join(f"{names[j]} {percent(x)}" for x, j in most) or "shares no module"

    def cell(i: int, j: int) -> str:
        share = shares.get(frozenset((i, j)))
        if i == j or share is None:
            return f'<td class="own"><span class="hid">{"itself" if i == j else "no module in common"}</span></td>'
        # where a number stands on it, half of the ink leaves it readable
        ink, label = (50 if numbers else 100) * share, f"{names[i]} and {names[j]}: {percent(share)}"
        text = f"<span{'' if numbers else ' class=hid'}>{100 * share:.0f}</span>"
        return f'<td style="--s:{ink:.1f}" title="{_e(label)}">{text}</td>'

    head = "".join(f'<th scope="col" title="{_e(names[j])}"><span>{_e(short(names[j], 24))}</span></th>' for j in order)
    rows = "".join(
        f'<tr><th scope="row" tabindex="0" title="{_e(names[i])}">{_e(short(names[i], 24))}'
        f'<span class="near" aria-hidden="true">{_e(names[i])}: {_e(near(i))}</span></th>'
        f"{''.join(cell(i, j) for j in order)}</tr>"
        for i in order
    )
    caption = (
        "Share of key directions in common, in per cent, mean over modules; groups that share more than half lie "
        "together. Tab through the names for those that each shares most with."
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="shares of key directions"><table class="map">'
        f"<caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _pairs(data: AuditReport, pairs: Sequence[PairTotal]) -> str:
    names = [a.name for a in data.adapters]
    rows = [
        (f"{names[p.first]} + {names[p.second]}", p.common_modules, f"{p.cosine:+.3f}",
         f"{percent(p.keys_share)} ({percent(p.keys_chance)})",
         f"{percent(p.outputs_share)} ({percent(p.outputs_chance)})",
         percent(p.second_on_first.mean_largest), percent(p.first_on_second.mean_largest))
        for p in pairs
    ]  # fmt: skip
    head = ["pair", "common", "cosine", "keys shared (chance)", "outputs shared (chance)", "2nd on 1st's keys",
            "1st on 2nd's keys"]  # fmt: skip
    return _table(head, rows, set(range(1, 7)))


def _svg(width: float, height: float, inside: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{_e(label)}">{inside}</svg>'
    )


def _bars(data: AuditReport) -> str:
    found = [(k, v.error) for k, v in data.total.combinations.items() if v.error is not None]
    mean = data.total.mean
    if mean.factor_error is not None and mean.adapters > 1:
        found.append((f"factors x 1/{mean.adapters}", mean.factor_error))
    if not found:
        return ""
    largest = max(1.0, *(e for _, e in found))
    left, width, step = 150, 560, 22
    parts = []
    for i, (name, error) in enumerate(found):
        y = i * step
        size = error / largest * (width - 70)
        parts.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{_e(name)}</text>'
            f'<rect x="{left}" y="{y + 4}" width="{max(size, 1):.1f}" height="14" fill="var(--a)"/>'
            f'<text x="{left + size + 6:.1f}" y="{y + 15}" class="soft">{percent(error)}</text>'
        )
    return _svg(left + width, len(found) * step + 4, "".join(parts), "relative errors of the combination types")


class _Axes:
    """A frame with ticks; `x` and `y` map data to the drawing."""

    def __init__(self, xs: tuple[float, float], ys: tuple[float, float], log: bool = False) -> None:
        self.left, self.top, self.width, self.height = 56.0, 10.0, 560.0, 220.0
        self.xs, self.ys, self.log = xs, ys, log

    def x(self, value: float) -> float:
        low, high = self.xs
        return self.left + (value - low) / max(high - low, 1e-12) * self.width

    def y(self, value: float) -> float:
        low, high = self.ys
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(value, low))
        share = (value - low) / max(high - low, 1e-12)
        return self.top + (1 - min(max(share, 0.0), 1.0)) * self.height

    def frame(self, xlabel: str, yticks: Sequence[float]) -> str:
        bottom = self.top + self.height
        low, high = (int(v) for v in self.xs)
        steps = sorted({round(low + (high - low) * i / 4) for i in range(5)})
        parts = [
            f'<path d="M{self.left},{self.top}V{bottom}H{self.left + self.width}" fill="none" stroke="var(--soft)"/>'
        ]
        parts += [f'<text x="{self.x(s):.1f}" y="{bottom + 16}" text-anchor="middle">{s}</text>' for s in steps]
        for tick in yticks:
            y = self.y(tick)
            parts.append(
                f'<line x1="{self.left}" x2="{self.left + self.width}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>'
                f'<text x="{self.left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
            )
        middle = self.left + self.width / 2
        parts.append(f'<text x="{middle}" y="{bottom + 34}" text-anchor="middle" class="soft">{_e(xlabel)}</text>')
        return "".join(parts)


def _spectra(data: AuditReport) -> str:
    names = [a.name for a in data.adapters]
    groups = [{i} for i in range(len(names))]
    if len(names) > FEW:
        names, groups = ["all adapters"], [set(range(len(names)))]
    curves = []
    for group in groups:
        rows = [
            [v / p.singular_values[0] for v in p.singular_values]
            for m in data.modules
            for p in m.parts
            if p.adapter in group and p.rank
        ]
        length = max((len(r) for r in rows), default=0)
        columns = [sorted(r[i] if i < len(r) else 0.0 for r in rows) for i in range(length)]
        curves.append([(_at(c, 0.1), _at(c, 0.5), _at(c, 0.9)) for c in columns])
    longest = max((len(c) for c in curves), default=0)
    if not longest:
        return "<p>All updates are zero.</p>"
    axes = _Axes((1, max(longest, 2)), (1e-3, 1.0), log=True)
    parts = [axes.frame("singular value number", (1.0, 0.1, 0.01, 0.001))]
    for index, curve in enumerate(curves):
        color = _COLORS[index % len(_COLORS)]
        if not curve:
            continue
        top = [f"{axes.x(i + 1):.1f},{axes.y(c[2]):.1f}" for i, c in enumerate(curve)]
        low = [f"{axes.x(i + 1):.1f},{axes.y(c[0]):.1f}" for i, c in enumerate(curve)]
        line = [f"{axes.x(i + 1):.1f},{axes.y(c[1]):.1f}" for i, c in enumerate(curve)]
        parts.append(f'<polygon points="{" ".join(top + low[::-1])}" fill="{color}" opacity=".18"/>')
        parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{color}" stroke-width="2"/>')
        y = axes.top + 16 + 18 * index
        x = axes.left + axes.width + 16
        parts.append(
            f'<line x1="{x}" x2="{x + 20}" y1="{y - 4}" y2="{y - 4}" stroke="{color}" stroke-width="2"/>'
            f'<text x="{x + 26}" y="{y}">{_e(short(names[index], 24))}</text>'
        )
    return _svg(820, 272, "".join(parts), "singular values by adapter")


def _at(ordered: Sequence[float], share: float) -> float:
    return ordered[round(share * (len(ordered) - 1))]


def _losses(data: AuditReport) -> str:
    spectra = [m.merge.singular_values for m in data.modules]
    whole = sum(v * v for s in spectra for v in s)
    longest = max((len(s) for s in spectra), default=0)
    if not whole:
        return "<p>The wanted sum is zero.</p>"
    errors = [math.sqrt(sum(v * v for s in spectra for v in s[r:]) / whole) for r in range(longest + 1)]
    axes = _Axes((0, longest), (0.0, 1.0))
    points = " ".join(f"{axes.x(r):.1f},{axes.y(e):.1f}" for r, e in enumerate(errors))
    kept = data.total.merge.kept_rank
    mark = ""
    if kept <= longest:
        x, y = axes.x(kept), axes.y(errors[kept])
        mark = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{axes.top + axes.height}" stroke="var(--b)" '
            f'stroke-dasharray="4 3"/><circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--b)"/>'
            f'<text x="{x + 8:.1f}" y="{y - 6:.1f}">rank {kept}: {percent(errors[kept])}</text>'
        )
    line = f'<polyline points="{points}" fill="none" stroke="var(--a)" stroke-width="2"/>'
    frame = axes.frame("rank kept in every module", (0.0, 0.25, 0.5, 0.75, 1.0))
    return _svg(660, 272, frame + line + mark, "least error by rank")


def _based(data: AuditReport) -> bool:
    return all(m.base_norm for m in data.modules)


def _shared(module: ModuleReport, based: bool) -> float | None:
    return module.keys_shared


def _written(module: ModuleReport, based: bool) -> float | None:
    norm: float = module.merge.norm
    return norm / module.base_norm if based and module.base_norm else norm


def _grid(data: AuditReport, value: Callable[[ModuleReport, bool], float | None], floor: float) -> str:
    """Layers down, modules across; a module outside the layers gets a row of its own. Full ink is at least `floor`."""
    based = _based(data)
    cells: dict[tuple[str, str], tuple[str, float]] = {}
    rows: list[str] = []
    columns: list[str] = []
    for module in data.modules:
        found = value(module, based)
        parts = module.name.split(".")
        at = next((i for i, p in enumerate(parts) if p.isdigit()), None)
        row = "other" if at is None else parts[at]
        column = module.name if at is None else ".".join(parts[at + 1 :])
        if row not in rows:
            rows.append(row)
        if column not in columns:
            columns.append(column)
        if found is not None:
            cells[row, column] = (module.name, found)
    if not cells:
        return "<p>No module is adapted by two of them.</p>"
    rows.sort(key=lambda r: (not r.isdigit(), int(r) if r.isdigit() else 0))
    top_value = max(v for _, v in cells.values())
    largest = max(top_value, floor) or 1.0
    wide = 62 if len(columns) <= 12 else 34
    left, top, high = 50, 120, max(8, min(22, 560 // len(rows)))
    parts = []
    for j, column in enumerate(columns):
        x = left + j * wide + wide / 2
        parts.append(f'<text transform="translate({x:.0f},{top - 8}) rotate(-40)">{_e(short(column, 24))}</text>')
    for i, row in enumerate(rows):
        if high >= 12 or i % 4 == 0:
            parts.append(f'<text x="{left - 8}" y="{top + i * high + high - 3}" text-anchor="end">{_e(row)}</text>')
        for j, column in enumerate(columns):
            if (row, column) not in cells:
                continue
            name, found = cells[row, column]
            parts.append(
                f'<rect x="{left + j * wide}" y="{top + i * high}" width="{wide - 2}" height="{high - 1}" '
                f'fill="var(--a)" fill-opacity="{0.04 + 0.96 * found / largest:.3f}"><title>{_e(name)}: {number(found)}'
                "</title></rect>"
            )
    width = left + len(columns) * wide + 150
    said = f"full ink: {number(largest)}; largest here: {number(top_value)}"
    note = f'<text x="{left}" y="{top + len(rows) * high + 18}" class="soft">{said}</text>'
    return f'<div class="scroll">{_svg(width, top + len(rows) * high + 26, "".join(parts) + note, "by module")}</div>'


def _probes(data: AuditReport, probes: Probes) -> str:
    names = [a.name for a in data.adapters]
    rows = [
        (x.prompt, x.token, f"{x.base_margin:+.2f}", *margins(x, names),
         f"{x.sum_margin:+.2f}", f"{x.mean_margin:+.2f}",
         "any number" if x.mean_limit is None else x.mean_limit, reach(x))
        for x in probes.lines
    ]  # fmt: skip
    head = [
        "prompt",
        "answer's first token",
        "base",
        *margin_heads(names),
        "sum",
        "mean",
        "a mean holds",
        "others' reach",
    ]
    return _table(head, rows, set(range(2, len(head))))


def _modules(data: AuditReport) -> str:
    kinds = [k for k, v in data.total.combinations.items() if v.error is not None]
    rows = []
    for m in data.modules:
        size = m.merge.norm
        errors = [found.error if (found := m.combinations[k]) else None for k in kinds]
        rows.append(
            (m.name, f"{m.out} x {m.inner}", each([p.rank for p in m.parts]), each([p.norm for p in m.parts]),
             percent(m.keys_shared), m.merge.rank,
             percent(m.merge.truncation),
             *(percent(e / size) if e is not None and size else "-" for e in errors))
        )  # fmt: skip
    head = ["module", "size", "ranks", "norms", "keys shared", "sum rank", "lost at kept rank", *kinds]
    return _table(head, rows, set(range(5, len(head))))
