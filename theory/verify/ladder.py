"""How a verification is shown: the ladder, what was measured, what failed, where the time went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from theory.claims import Claim

_MARKS = {
    "pass": "[green]yes[/]",
    "fail": "[bold red]FAIL[/]",
    "not_checked": "[yellow]not checked[/]",
    "none_planned": "-",
}


def _mark(result: Any) -> str:
    if result.status == "pass" and result.part == "part":
        return "[green]in part[/]"
    return _MARKS[result.status]


def _checked(layers: Mapping[str, Any]) -> str:
    from theory.verify.status import worst

    return _MARKS[worst(layers[layer].status for layer in ("symbolic", "numeric"))]


def _figure(result: Any) -> str:
    if not result.figure:
        return ""
    return f"{result.figure['name']}: {result.figure['value']:.3g} {result.figure['unit']}"


def print_ladder(
    console: Any,
    claims: Mapping[str, Claim],
    results: Mapping[str, Mapping[str, Any]],
    ran: Mapping[str, Mapping[str, Any]],
    busy: Mapping[str, float],
    wall: float,
) -> None:
    """Print one row per claim, then the real adapters, every reason for a failure or a gap, and the seconds."""
    from rich.table import Table

    table = Table(title="The ladder of claims", title_justify="left", pad_edge=False, show_edge=False)
    for name in ("claim", "stated", "coded", "checked", "proved", "measured"):
        table.add_column(name, no_wrap=True)
    table.add_column("measured slack or attained gap", overflow="fold")
    table.add_column("s", justify="right")
    for claim_id, layers in results.items():
        seconds = sum(layers[layer].seconds for layer in ("symbolic", "numeric"))
        table.add_row(
            claim_id,
            "yes",
            "yes",
            _checked(layers),
            _mark(layers["formal"]),
            _mark(layers["empirical"]),
            _figure(layers["numeric"]) or _figure(layers["symbolic"]),
            f"{seconds:.1f}",
        )
    console.print(table)
    references = [r for c in claims.values() for r in c.adapters]
    if references:
        console.print("\nOn adapters that peft made, through peft's own forward pass and merges:")
        for reference in references:
            row = ran[reference]
            figure = row["figure"]
            measured = f"{figure['name']}: {figure['value']:.3g} {figure['unit']}" if figure else ""
            name = reference.partition(":")[2]
            console.print(f"  {name:<30} {_MARKS[row['status']]} {row['seconds']:5.1f} s  {measured}")
    gaps = [
        (claim_id, layer, r)
        for claim_id, layers in results.items()
        for layer, r in layers.items()
        if r.status in ("fail", "not_checked")
    ]
    for status, title in (("fail", "Failed"), ("not_checked", "Not checked")):
        reasons: dict[str, list[str]] = {}
        for claim_id, layer, r in gaps:
            if r.status == status:
                reasons.setdefault(r.reason or "no reason given", []).append(f"{claim_id} ({layer})")
        if reasons:
            console.print(f"\n{title}:")
            for reason, where in reasons.items():
                console.print(f"  {', '.join(where)}: {reason}", markup=False)
    parts = [(c.id, c.unproved) for c in claims.values() if c.unproved]
    if parts:
        console.print("\nProved in part; not covered by the theorems:")
        for claim_id, unproved in parts:
            console.print(f"  {claim_id}: {unproved}", markup=False)
    spent = ", ".join(f"{layer} {seconds:.1f} s" for layer, seconds in busy.items() if seconds)
    console.print(f"\ntime: {wall:.1f} s on the clock; process time by layer: {spent}")
