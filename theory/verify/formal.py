"""The formal layer: are the registered theorems there, built, unchanged, and free of axioms?

``proofs/statements.v`` is written from the registry; ``proofs/statements.v.out`` is what Coq printed for it when it was
last reviewed (the golden copy). A claim counts as proved only if the sources build, Coq prints the same again, and it
says "Closed under the global context" under each theorem. Coq is asked only for the theorems that are wanted, and what
it printed is kept under a hash of everything that it was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from theory.claims import Claim
from theory.provenance import ROOT, cache_folder, first_line, write_text

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


def missing_tools(folder: Path = ROOT / "proofs") -> str | None:
    """None if the formal layer can run here, else one line that says what is missing and how to install it."""
    if not any(folder.glob("*.v")):
        return f"no proofs in {folder}: they are in the checkout, not in the installed package"
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


def statements_source(claims: Mapping[str, Claim], folder: Path, wanted: Collection[str] | None = None) -> str:
    """The text of ``statements.v``: Check and Print Assumptions of each registered theorem, or of those `wanted`."""
    files = theorem_files(folder)
    where = {t: files[t][0] if t in files else c.topic for c in claims.values() for t in c.theorems}
    lines = [_HEADER + f"From LoraLimits Require Import {' '.join(dict.fromkeys(['lowrank', *where.values()]))}."]
    lines += ["Set Printing Width 110.", "Local Open Scope ring_scope."]
    for claim in claims.values():
        for theorem in (t for t in claim.theorems if wanted is None or t in wanted):
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
    # statements.v is not built but asked, theorem by theorem
    present = {p.name for p in folder.glob("*.v")} - {"statements.v"}
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
    kept, depth, in_string = [], 0, False
    for piece in re.split(r'(\(\*|\*\)|")', text):
        if in_string:
            in_string = piece != '"'
            kept.append(piece if not in_string and depth == 0 else "")
        elif piece == "(*":
            depth += 1
        elif piece == "*)" and depth:
            depth -= 1
            kept.append(" ")
        else:
            in_string = piece == '"'
            kept.append(piece if depth == 0 else "\n" * piece.count("\n"))
    return "".join(kept)


def build(folder: Path) -> str | None:
    """Build the proofs (only what changed). None, or the last lines of what went wrong."""
    jobs = f"-j{os.cpu_count() or 1}"
    done = subprocess.run(["make", "-s", jobs, "-C", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return " | ".join((done.stderr or done.stdout).strip().splitlines()[-6:])


def ask(folder: Path, source: str) -> str:
    """What Coq prints for a text about the built proofs. Raises CalledProcessError if it does not compile."""
    options = ["-q", "-w", "-notation-overridden,-ambiguous-paths", "-R", str(folder.resolve()), "LoraLimits"]
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "statements.v").write_text(source, encoding="utf-8")
        command = ["coqc", *options, "statements.v"]
        return subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True).stdout


def sources_hash(folder: Path) -> str:
    """SHA-256 over all that decides what Coq prints: its version, how it is asked, every source but that."""
    digest = hashlib.sha256(repr((first_line(["coqc", "--version"]), statements_source({}, folder))).encode())
    for path in sorted({*folder.glob("*.v"), folder / "_CoqProject"} - {folder / "statements.v"}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def printed(folder: Path, claims: Mapping[str, Claim], wanted: Collection[str], cache: Path) -> dict[str, Printed]:
    """Theorem -> what Coq prints about it; only what `cache` does not hold for these very sources is asked for.

    Raises:
        CalledProcessError: what is asked does not compile.
    """
    kept = cache / f"{sources_hash(folder)}.json"
    try:
        known = {theorem: Printed(*two) for theorem, two in json.loads(kept.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        known = {}
    lacking = set(wanted) - set(known)
    if lacking:
        known |= dict(parse(ask(folder, statements_source(claims, folder, lacking))))
        write_text(kept, json.dumps(known, indent=1) + "\n")
    return known


def theorem_status(
    folder: Path, claims: Mapping[str, Claim], wanted: Collection[str] | None = None, cache: Path | None = None
) -> dict[str, tuple[str, str | None]]:
    """Status of registered theorems: name -> ("pass" | "fail" | "not_checked", reason or None).

    Args:
        folder: the proofs.
        claims: the whole registry.
        wanted: theorems; by default all.
        cache: where what Coq printed is kept, by default in :func:`~theory.provenance.cache_folder`.
    """
    names = [t for c in claims.values() for t in c.theorems if wanted is None or t in wanted]
    lacking = missing_tools(folder)
    if lacking:
        return dict.fromkeys(names, ("not_checked", lacking))
    problems = source_problems(folder, claims)
    failure = "; ".join(problems) if problems else build(folder)
    if failure:
        return dict.fromkeys(names, ("fail", failure))
    try:
        found = printed(folder, claims, names, cache or cache_folder() / "coq")
    except subprocess.CalledProcessError as error:
        return dict.fromkeys(names, ("fail", " | ".join(error.stderr.strip().splitlines()[-3:])))
    golden_file = folder / "statements.v.out"
    golden = dict(parse(golden_file.read_text(encoding="utf-8"))) if golden_file.exists() else {}
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
