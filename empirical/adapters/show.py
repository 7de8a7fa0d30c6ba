"""An audit for people: numbers as text, and tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from empirical.adapters.library import FEW, SHOWN, clusters, listed, notes, worst_pairs
from empirical.adapters.report import AuditReport, Probe

# ---------------------------------------------------------------- numbers as text


def percent(value: float | None) -> str:
    """A share or a relative error."""
    if value is None:
        return "-"
    return f"{value:.1%}" if value < 10 else f"{value:.0f}x"


def number(value: float | None, digits: int = 3) -> str:
    """A number in few digits."""
    return "-" if value is None else f"{value:.{digits}g}"


def combination_rows(data: AuditReport) -> list[tuple[str, str, str]]:
    """(types, error, remark) of peft's combination types, and the averaging of factors with 1/k."""
    rows: list[tuple[str, str, str]] = []
    for kind, found in data.total.combinations.items():
        remarks = []
        if found.rank:
            remarks.append(f"rank {found.rank}")
        if found.random and found.error is not None:
            remarks.append("one draw")
        if found.scale != 1.0 and found.reason is None:
            remarks.append(f"scaled by {found.scale:.3g}")
        if found.dropped:
            remarks.append(f"drops {len(found.dropped)} modules")
        if found.reason:
            remarks = [found.reason]
        same = next((i for i, row in enumerate(rows) if found.reason and row[2] == found.reason), None)
        if same is None:
            rows.append((kind, percent(found.error), ", ".join(remarks)))
        else:  # one refusal is said once
            rows[same] = (f"{rows[same][0]}, {kind}", *rows[same][1:])
    mean = data.total.mean
    if mean.adapters > 1:
        k = mean.adapters
        remark = f"of the uniform mean; keeps 1/{k**2}"
        if mean.factor_error is None:
            remark = "needs equal ranks and scales"
        rows.append((f"factors x 1/{k}", percent(mean.factor_error), remark))
    return rows


# ---------------------------------------------------------------- terminal


def print_report(console: Any, data: AuditReport, every_module: bool = False, why: bool = False) -> None:
    """The answer, then tables of adapters, pairs and combination types.

    Args:
        console: of rich.
        data: the report.
        every_module: with one row per module.
        why: with the reasons behind the answer, their claims and limits.
    """
    from rich.markup import escape
    from rich.table import Table

    names = [escape(a.name) for a in data.adapters]
    few = len(names) <= FEW
    table = Table.grid(padding=(0, 2))
    for question, text in data.answer.lines():
        table.add_row(f"[bold]{question}[/bold]", escape(text))
    console.print(table)
    console.print()
    console.print(_adapter_table(data) if few else escape("\n".join(library(data))))
    for note in notes(data):
        console.print(f"  note: {escape(note)}")
    if data.total.pairs:
        heads = ["pair", "common", "cosine", "keys (chance)", "outputs (chance)", "2nd on 1st", "1st on 2nd"]
        table = Table(
            *heads, title="\npairs" if few else "\nworst pairs", title_justify="left", box=None, pad_edge=False
        )
        for p in worst_pairs(data):
            table.add_row(
                f"{names[p.first]} + {names[p.second]}", str(p.common_modules), f"{p.cosine:+.3f}",
                f"{percent(p.keys_share)} ({percent(p.keys_chance)})",
                f"{percent(p.outputs_share)} ({percent(p.outputs_chance)})",
                percent(p.second_on_first.mean_largest), percent(p.first_on_second.mean_largest),
            )  # fmt: skip
        console.print(table)
    merge = data.total.merge
    terms = [f"{w:g} x {n}" for w, n in zip(data.options.weights, names, strict=True)]
    console.print(f"\nmerge: {' + '.join(terms) if few else listed(terms)}")
    console.print(
        f"  exact at rank {span([merge.smallest_rank, merge.largest_rank])}; "
        f"kept at rank {merge.kept_rank} it loses {percent(merge.truncation)}"
    )
    table = Table("combination", "error", "", title=f"\nwhat peft {data.tool['peft']} would make of it",
                  title_justify="left", box=None, pad_edge=False)  # fmt: skip
    for kind, error, remark in combination_rows(data):
        table.add_row(kind, error, escape(remark))
    console.print(table)
    if every_module:
        console.print(_module_table(data))
    if data.probe:
        table = Table("probe", "base", *margin_heads(names), "sum", "mean", "a mean holds", "others' reach",
                      title="\nmargins (first token)",
                      title_justify="left", box=None, pad_edge=False)  # fmt: skip
        for x in data.probe.lines:
            cells = [f"{x.base_margin:+.2f}", *margins(x, names), f"{x.sum_margin:+.2f}", f"{x.mean_margin:+.2f}"]
            limit = "any number" if x.mean_limit is None else str(x.mean_limit)
            table.add_row(escape(short(x.prompt, 40)), *cells, limit, reach(x))
        console.print(table)
    if not why:
        console.print("\nreasons, claims and limits: --why; plots: --html FILE; all numbers: --json FILE")
        return
    console.print("\nwhy")
    table = Table.grid(padding=(0, 1))
    for line in data.verdict:
        mark = {"fine": "+", "warning": "!", "limit": "x"}[line.level]
        table.add_row(mark, escape(line.text))
        table.add_row("", f"[dim]{line.claim}: {escape(line.limits)}[/dim]")
    console.print(table)


def _adapter_table(data: AuditReport) -> Any:
    from rich.markup import escape
    from rich.table import Table

    names = [escape(a.name) for a in data.adapters]
    table = Table("adapter", "modules", "rank", "mean rank", "95% rank", "stable", "norm", "of base", "a mean keeps",
                  title="adapters", title_justify="left", box=None, pad_edge=False)  # fmt: skip
    for name, one, total in zip(names, data.adapters, data.total.adapters, strict=True):
        table.add_row(
            name, str(one.modules), span(one.ranks), number(total.mean_rank), number(total.mean_rank95),
            number(total.mean_stable_rank), number(total.norm), percent(total.relative_norm),
            percent(total.kept_by_mean),
        )  # fmt: skip
    return table


def library(data: AuditReport) -> list[str]:
    """Many adapters in a few lines: sizes, what their sum would weigh, and clusters."""
    names = [a.name for a in data.adapters]
    norms = [t.norm for t in data.total.adapters]
    ranks = span(sorted({r for a in data.adapters for r in a.ranks}))
    terms = [w * n for w, n in zip(data.options.weights, norms, strict=True)]
    lines = [
        f"{len(names)} adapters, {data.total.modules} modules, rank {ranks}, norm {number(min(norms))} to "
        f"{number(max(norms))}",
        f"their sum has norm {number(data.total.norm)}; at right angles it would have {number(math.hypot(*terms))}",
    ]
    found = clusters(data)
    words = "share more than half of what they read beyond chance"
    lines += [f"{len(c)} {words}: {listed([names[i] for i in c])}" for c in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"and {len(found) - SHOWN} more such groups")
    if not found:
        lines.append(f"no two {words}")
    return lines


def _module_table(data: AuditReport) -> Any:
    from rich.table import Table

    table = Table("module", "size", "ranks", "95% ranks", "norms", "keys shared", "sum rank", "lost at kept rank",
                  title="\nmodules", title_justify="left", box=None, pad_edge=False)  # fmt: skip
    for m in data.modules:
        table.add_row(
            m.name, f"{m.out} x {m.inner}", each([p.rank for p in m.parts]), each([p.rank95 for p in m.parts]),
            each([p.norm for p in m.parts]),
            percent(m.keys_shared), str(m.merge.rank), percent(m.merge.truncation),
        )  # fmt: skip
    return table


def each(values: Sequence[float]) -> str:
    """Numbers of a few adapters; of many, the smallest and the largest."""
    shown = values if len(values) <= FEW else [min(values), max(values)]
    return (" " if shown is values else " to ").join(number(v) for v in shown)


def span(values: Sequence[int]) -> str:
    """One number, or the smallest and the largest."""
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def short(text: str, width: int) -> str:
    """The end of a text that is too long."""
    return text if len(text) <= width else "..." + text[3 - width :]


def margin_heads(names: Sequence[str]) -> list[str]:
    """Heads of the columns of :func:`margins`."""
    return list(names) if len(names) <= FEW else ["best alone"]


def margins(line: Probe, names: Sequence[str]) -> list[str]:
    """Margins of a few adapters; of many, that of the best."""
    if len(names) <= FEW:
        return [f"{m:+.2f}" for m in line.margins]
    return [f"{line.margins[line.best]:+.2f} {names[line.best]}"]


def reach(line: Probe) -> str:
    """The most that any other adapter can do at this prompt's keys, relative to what the best one does there."""
    return percent(max((d for d in line.disturbance if d is not None), default=None))
