"""``lora-limits explain``: a claim of the registry in words, with its status as last computed."""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from empirical.ladder import checks_of, experiments_of
from theory.claims import Claim, load
from theory.numerics import require
from theory.provenance import ROOT, build_folder

WIDTH = 100


def explain(claim: str | None, build: Path | None = None) -> list[str]:
    """Lines for a terminal: statement, assumptions, source, where it is computed, checked, proved, tested, measured.

    Args:
        claim: id in the registry; None lists all ids with their titles.
        build: where ``verification.json`` and ``experiments.json`` lie, if they were made; by default ``build/``.

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
    for number, sentence in enumerate(found.sentences, start=1):
        mark = f"{number}. "
        lines += textwrap.wrap(mark + sentence.tex, WIDTH, subsequent_indent=" " * len(mark))
        stands = ", ".join(sentence.theorems) or (
            f"not proved: {sentence.unproved}" if sentence.unproved else f"for experiments: {sentence.measured}"
        )
        lines += textwrap.wrap(stands, WIDTH - len(mark), initial_indent="   -> ", subsequent_indent="      ")
    lines += ["", "assumes"]
    for text in found.assumptions:
        lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    lines += ["", *_row("source", [found.source])]
    lines += _row("computed by", [_dotted(c) for c in found.code])
    lines += _row("checked by", [_dotted(c) for c in (*found.checks, *checks_of(found.id))])
    proofs = [f"{name} ({part})" for name, part in found.theorems.items()]
    lines += _row(f"proved in proofs/{found.topic}.v", proofs or ["nothing yet"])
    lines += _row("sentences proved", [f"{found.proved}/{len(found.mathematics)}"])
    lines += _row("tested by", list(_tests(found)) or ["tests in the checkout"])
    lines += _row("in the paper", list(_paper(found)) or ["its source is in the checkout"])
    lines += _row("measured by", [f"empirical/experiments/{e}" for e in experiments_of(found.id)] or ["no experiment"])
    if found.uses:
        lines += _row("rests on", list(found.uses))
    return lines + _status(found, build or build_folder())


def _dotted(reference: str) -> str:
    return reference.replace(":", ".")


def _row(label: str, values: list[str]) -> list[str]:
    first, *rest = values
    wrapped = textwrap.wrap(first, WIDTH, initial_indent=f"{label}: ", subsequent_indent="      ")
    return wrapped + [line for v in rest for line in textwrap.wrap(v, WIDTH, initial_indent="    ",
                                                                   subsequent_indent="      ")]  # fmt: skip


def _tests(claim: Claim) -> Iterator[str]:
    """``file:line test`` of every test of a theorem of the claim, then the files that test its functions."""
    for path in sorted((ROOT / "tests" / "proofs").glob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            marks = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            theorems = [ast.literal_eval(name) for mark in marks if isinstance(mark, ast.Call)
                        and ast.unparse(mark.func) == "pytest.mark.theorem" for name in mark.args]  # fmt: skip
            mine = [name for name in theorems if name in claim.theorems]
            if mine:
                assert isinstance(node, ast.FunctionDef)
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} ({', '.join(mine)})"
    functions = "|".join(re.escape(reference.partition(":")[2]) for reference in claim.code)
    for path in sorted((ROOT / "tests" / "theory").glob("test_*.py")):
        if re.search(rf"\b({functions})\b", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}"


def _paper(claim: Claim) -> Iterator[str]:
    r"""``file:line, section, label`` of every place where ``\claim{id}`` stands."""
    for path in sorted((ROOT / "paper").glob("*.tex")):
        section = "no section"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            label = re.match(r"\s*\\label{(sec:[^}]*)}", line)
            section = label[1] if label else section
            if re.match(rf"\s*\\claim{{{claim.id}}}", line):
                yield f"{path.relative_to(ROOT)}:{number}, section {section}, label claim:{claim.id}"


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
            said = f"{p['verdict']} ({p['kind']}; last make experiments)"
            lines += _row(f"prediction {p['experiment']}/{p['id']}", [said])
    return lines


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
