"""``lora-limits explain``: a claim of the registry in words, with its status as last computed."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from empirical.ladder import checks_of, experiments_of
from theory.claims import Claim, load
from theory.numerics import require

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100


def explain(claim: str | None, build: Path = ROOT / "build") -> list[str]:
    """Lines for a terminal: statement, assumptions, source, where it is computed, checked, proved and measured.

    Args:
        claim: id in the registry; None lists all ids with their titles.
        build: where ``verification.json`` and ``experiments.json`` lie, if they were made.

    Raises:
        ValueError: no such claim.
    """
    claims = load()
    if claim is None:
        width = max(map(len, claims))
        return [f"{c.id:<{width}}  {c.title}" for c in claims.values()]
    require(claim in claims, "claim", "one of " + ", ".join(claims), repr(claim))
    found = claims[claim]
    lines = [f"{found.id}: {found.title} ({found.kind})", ""]
    lines += textwrap.wrap(" ".join(found.statement.split()), WIDTH)
    lines += ["", "assumes"]
    for text in found.assumptions:
        lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    lines += ["", *_row("source", [found.source])]
    lines += _row("computed by", [_dotted(c) for c in found.code])
    lines += _row("checked by", [_dotted(c) for c in (*found.checks, *checks_of(found.id))])
    proofs = [f"{name} ({part})" for name, part in found.theorems.items()]
    lines += _row(f"proved in proofs/{found.topic}.v", proofs or ["nothing yet"])
    if found.unproved:
        lines += _row("not proved", [found.unproved])
    lines += _row("measured by", [f"empirical/experiments/{e}" for e in experiments_of(found.id)] or ["no experiment"])
    if found.uses:
        lines += _row("rests on", list(found.uses))
    return lines + _status(found, build)


def _dotted(reference: str) -> str:
    return reference.replace(":", ".")


def _row(label: str, values: list[str]) -> list[str]:
    first, *rest = values
    wrapped = textwrap.wrap(first, WIDTH, initial_indent=f"{label}: ", subsequent_indent="    ")
    return wrapped + [line for v in rest for line in textwrap.wrap(v, WIDTH, initial_indent="    ",
                                                                   subsequent_indent="      ")]  # fmt: skip


def _status(claim: Claim, build: Path) -> list[str]:
    layers = _read(build / "verification.json").get("claims", {}).get(claim.id)
    lines = []
    if layers:
        shown = ", ".join(f"{name} {layer['status'].replace('_', ' ')}" for name, layer in layers.items())
        lines += _row("status (last make verify)", [shown])
    else:
        lines += _row("status", ["not computed here (make verify)"])
    for p in _read(build / "experiments.json").get("predictions", []):
        if p.get("claim") == claim.id:
            lines += _row(f"prediction {p['id']}", [f"{p['verdict']} ({p['kind']})"])
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
