"""The formal layer: are the registered theorems there, built, unchanged, and free of axioms?

``proofs/statements.v`` is written from the registry; ``proofs/statements.v.out`` is what Coq printed for it when it was
last reviewed (the golden copy). A claim counts as proved only if the sources build, Coq prints the same again, and it
says "Closed under the global context" under each theorem.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from theory.claims import Claim

CLOSED = "Closed under the global context"
INSTALL = "apt-get install coq libcoq-mathcomp-algebra"
FORBIDDEN = ("Admitted", "Axiom", "Axioms", "Parameter", "Parameters", "Conjecture",
             "Unset Guard Checking", "Unset Universe Checking", "Unset Positivity Checking", "bypass_check",
             "admit", "Abort", "give_up", "type_in_type")  # fmt: skip
_HEADER = """\
(* Written from the registry by `python -m theory statements --write`; do not edit.
   What Coq prints for it is kept in statements.v.out and compared at every verification. *)
From mathcomp Require Import all_ssreflect all_algebra.
"""


class Printed(NamedTuple):
    """What Coq printed about one theorem."""

    statement: str
    assumptions: str


def missing_tools() -> str | None:
    """None if the formal layer can run here, else one line that says what is missing and how to install it."""
    if shutil.which("coqc") is None or shutil.which("coq_makefile") is None:
        return f"coqc not found; install it with: {INSTALL}"
    where = subprocess.run(["coqc", "-where"], capture_output=True, text=True, check=False)
    library = Path(where.stdout.strip()) / "user-contrib" / "mathcomp" / "algebra"
    if where.returncode != 0 or not library.is_dir():
        return f"MathComp's algebra not found; install it with: {INSTALL}"
    if shutil.which("make") is None:
        return "make not found; install it with: apt-get install make"
    return None


def theorem_files(folder: Path) -> dict[str, list[str]]:
    """Every ``Theorem`` in the sources: name -> stems of the files that state it (one, if all is well)."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.v")):
        text = strip_comments(path.read_text(encoding="utf-8"))
        for theorem in re.findall(r"^\s*(?:Local |Global |#\[[^]]*\]\s*)*Theorem\s+([\w']+)", text, re.MULTILINE):
            found.setdefault(theorem, []).append(path.stem)
    return found


def statements_source(claims: Mapping[str, Claim], folder: Path) -> str:
    """The text of ``statements.v`` for this registry: Check and Print Assumptions of each registered theorem."""
    files = theorem_files(folder)
    where = {t: files[t][0] if t in files else c.topic for c in claims.values() for t in c.theorems}
    lines = [_HEADER + f"From LoraLimits Require Import {' '.join(dict.fromkeys(['lowrank', *where.values()]))}."]
    lines += ["Set Printing Width 110.", "Local Open Scope ring_scope."]
    for claim in claims.values():
        for theorem in claim.theorems:
            name = f"{where[theorem]}.{theorem}"
            lines += ["", f"(* {claim.id} *)", f"Check @{name}.", f"Print Assumptions {name}."]
    return "\n".join(lines) + "\n"


def parse(output: str) -> list[tuple[str, Printed]]:
    """Split what Coq printed for ``statements.v`` into (theorem, :class:`Printed`), in order.

    A block is a line with the name alone, the indented statement, then the assumptions up to the next block.
    """
    found: list[tuple[str, Printed]] = []
    name, statement, assumptions = "", [], []  # type: str, list[str], list[str]

    def close() -> None:
        if name:
            found.append((name, Printed("\n".join(statement), "\n".join(assumptions))))

    lines = output.splitlines()
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if re.fullmatch(r"@?[\w.']+", line) and following.startswith("     : "):
            close()
            name, statement, assumptions = line.lstrip("@").split(".")[-1], [], []
        elif name and line.startswith(" ") and not assumptions:
            statement.append(line)
        elif name and line.strip():
            assumptions.append(line)
    close()
    return found


def source_problems(folder: Path, claims: Mapping[str, Claim]) -> list[str]:
    """Why the sources cannot be trusted, one line each: escapes, files outside the build, unregistered theorems."""
    problems = []
    project = folder / "_CoqProject"
    listed = {w for w in project.read_text(encoding="utf-8").split() if w.endswith(".v")} if project.exists() else set()
    present = {p.name for p in folder.glob("*.v")}
    problems += [f"proofs/{name}: expected in _CoqProject, got no entry" for name in sorted(present - listed)]
    problems += [f"proofs/_CoqProject: expected the file {name}, got none" for name in sorted(listed - present)]
    for name in sorted(present):
        text = strip_comments((folder / name).read_text(encoding="utf-8"))
        for word in FORBIDDEN:
            if re.search(rf"(?<![\w'])\#?\[?{re.escape(word)}(?![\w'])", text):
                problems.append(f"proofs/{name}: expected no {word}, got one")
    stated = theorem_files(folder)
    registered = {theorem: c.topic for c in claims.values() for theorem in c.theorems}
    for theorem, stems in sorted(stated.items()):
        if theorem not in registered:
            problems.append(f"proofs/{stems[0]}.v: expected Theorem {theorem} in claims.toml, got no entry")
        elif len(stems) > 1:
            problems.append(f"proofs: expected Theorem {theorem} once, got it in {', '.join(stems)}")
    for theorem, topic in sorted(registered.items()):
        if topic not in stated.get(theorem, []):
            got = stated.get(theorem, ["none"])[0]
            problems.append(f"claims.toml: expected Theorem {theorem} in proofs/{topic}.v, got {got}")
    statements = folder / "statements.v"
    if not statements.exists() or statements.read_text(encoding="utf-8") != statements_source(claims, folder):
        problems.append("proofs/statements.v: expected what the registry gives, got another text (make golden)")
    return problems


def strip_comments(text: str) -> str:
    """Coq source without its (nested) comments and without the contents of strings."""
    kept, depth, i, in_string = [], 0, 0, False
    while i < len(text):
        pair = text[i : i + 2]
        if in_string:
            in_string = text[i] != '"'
            kept.append(text[i] if not in_string and depth == 0 else "")
            i += 1
        elif pair == "(*":
            depth, i = depth + 1, i + 2
        elif pair == "*)" and depth:
            depth, i = depth - 1, i + 2
            kept.append(" ")
        else:
            in_string = text[i] == '"'
            kept.append(text[i] if depth == 0 else "\n" if text[i] == "\n" else "")
            i += 1
    return "".join(kept)


def build(folder: Path) -> str | None:
    """Build the proofs (only what changed). None, or the last lines of what went wrong."""
    jobs = f"-j{os.cpu_count() or 1}"
    done = subprocess.run(["make", "-s", jobs, "-C", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return " | ".join((done.stderr or done.stdout).strip().splitlines()[-6:])


def printed(folder: Path) -> str:
    """What Coq prints for ``statements.v`` now. Raises CalledProcessError if it does not compile."""
    options = ["-q", "-w", "-notation-overridden,-ambiguous-paths", "-R", ".", "LoraLimits"]
    done = subprocess.run(["coqc", *options, "statements.v"], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def theorem_status(folder: Path, claims: Mapping[str, Claim]) -> dict[str, tuple[str, str | None]]:
    """Status of every registered theorem: name -> ("pass" | "fail" | "not_checked", reason or None)."""
    names = [theorem for c in claims.values() for theorem in c.theorems]
    lacking = missing_tools()
    if lacking:
        return dict.fromkeys(names, ("not_checked", lacking))
    problems = source_problems(folder, claims)
    failure = "; ".join(problems) if problems else build(folder)
    if failure:
        return dict.fromkeys(names, ("fail", failure))
    try:
        now = printed(folder)
    except subprocess.CalledProcessError as error:
        return dict.fromkeys(names, ("fail", " | ".join(error.stderr.strip().splitlines()[-3:])))
    golden_file = folder / "statements.v.out"
    golden = dict(parse(golden_file.read_text(encoding="utf-8"))) if golden_file.exists() else {}
    found = dict(parse(now))
    status: dict[str, tuple[str, str | None]] = {}
    for theorem in names:
        if theorem not in found:
            status[theorem] = ("fail", f"Coq printed nothing about {theorem}")
        elif found[theorem].assumptions != CLOSED:
            status[theorem] = ("fail", f"{theorem} rests on {found[theorem].assumptions.splitlines()[:3]}")
        elif golden.get(theorem) != found[theorem]:
            status[theorem] = ("fail", f"{theorem}: the statement is not the reviewed one (make golden, then review)")
        else:
            status[theorem] = ("pass", None)
    return status
