"""How a verification is shown: the ladder, what was measured, what failed, where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from theory.claims import Claim
from theory.verify.status import Result, worst

if TYPE_CHECKING:
    from theory.checks import Figure

MARKS = {
    "pass": "[green]yes[/]",
    "fail": "[bold red]FAIL[/]",
    "not_checked": "[yellow]not checked[/]",
    "none_planned": "-",
}


def mark(results: Mapping[str, Result]) -> str:
    """One cell: how a claim stands on a rung, from the layers that make the rung; of several, which of them passed."""
    status = worst(r.status for r in results.values())
    if status != "pass":
        return MARKS[status]
    if len(results) == 1:
        (only,) = results.values()
        return f"[green]{only.proved}/{only.sentences}[/]" if only.sentences else MARKS[status]
    return f"[green]{' + '.join(name for name, r in results.items() if r.status == 'pass')}[/]"


def figure(measured: Figure | None) -> str:
    """What a check measured, in words."""
    return f"{measured.name}: {measured.value:.3g} {measured.unit}" if measured else ""


def print_ladder(
    console: Any,
    claims: Mapping[str, Claim],
    results: Mapping[str, Mapping[str, Result]],
    rungs: Mapping[str, str],
    details: Sequence[str],
    busy: Mapping[str, float],
    wall: float,
) -> None:
    """Print one row per claim, then `details`, every reason for a failure or a gap, and the seconds.

    Args:
        console: Rich's.
        claims: those that were verified.
        results: claim id -> layer -> result.
        rungs: layer -> the rung that it stands for.
        details: lines of the layers' own.
        busy: layer -> seconds of its processes.
        wall: seconds on the clock.
    """
    from rich.table import Table

    table = Table(title="The ladder of claims", title_justify="left", pad_edge=False, show_edge=False)
    shown = dict.fromkeys(rungs.values())
    for name in ("claim", "stated", "coded", *shown):
        table.add_column(name, no_wrap=True)
    table.add_column("measured slack or attained gap", overflow="fold")
    table.add_column("s", justify="right")
    for claim_id, of in results.items():
        checks = [of[layer] for layer, rung in rungs.items() if rung == "checked"]
        cells = [mark({layer: r for layer, r in of.items() if rungs[layer] == rung}) for rung in shown]
        measured = next((figure(r.figure) for r in reversed(checks) if r.figure), "")
        table.add_row(claim_id, "yes", "yes", *cells, measured, f"{sum(r.seconds for r in checks):.1f}")
    console.print(table)
    for line in details:
        console.print(line)
    for status, title in (("fail", "Failed"), ("not_checked", "Not checked")):
        reasons: dict[str, list[str]] = {}
        for claim_id, of in results.items():
            for layer, r in of.items():
                if r.status == status:
                    reasons.setdefault(r.reason or "no reason given", []).append(f"{claim_id} ({layer})")
        if reasons:
            console.print(f"\n{title}:")
            for reason, where in reasons.items():
                console.print(f"  {', '.join(where)}: {reason}", markup=False)
    formal = [r for of in results.values() for r in of.values() if r.sentences]
    if formal:
        whole = sum(r.status == "pass" and r.proved == r.sentences for r in formal)
        console.print(f"\n{whole} of {len(formal)} claims are proved whole.")
    left = [(c.id, i, s.unproved) for c in claims.values() for i, s in enumerate(c.sentences, 1) if s.unproved]
    if left:
        console.print("\nSentences that no theorem covers:")
        for claim_id, number, reason in left:
            console.print(f"  {claim_id}, {number}: {reason}", markup=False)
    spent = ", ".join(f"{layer} {seconds:.1f} s" for layer, seconds in busy.items() if seconds)
    console.print(f"\ntime: {wall:.1f} s on the clock; process time by layer: {spent}")
