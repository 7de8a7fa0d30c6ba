"""The formal layer: are the registered theorems there, built, unchanged, and free of axioms?

``proofs/statements.v`` is written from the registry; ``proofs/statements.v.out`` is what Coq printed for it when it was
last reviewed (the golden copy). ``proofs/definitions.out`` holds likewise what every definition of the project reads
that a registered statement reaches, and every Example. A claim counts as proved only if the sources build, Coq prints
the same again, and it says "Closed under the global context" under each theorem. Coq is asked only for the theorems
that are wanted, and what it printed is kept under a hash of everything that it was made of.
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
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from theory.claims import Claim
from theory.provenance import ROOT, cache_folder, first_line, write_text

CLOSED = "Closed under the global context"
INSTALL = "apt-get install coq libcoq-mathcomp-algebra"
FORBIDDEN = ("Admitted", "Axiom", "Axioms", "Parameter", "Parameters", "Conjecture",
             "Unset Guard Checking", "Unset Universe Checking", "Unset Positivity Checking", "bypass_check",
             "admit", "Abort", "give_up", "type_in_type",
             "Defined")  # fmt: skip  # a lemma means its statement, and no more
_HEADER = """\
(* Written from the registry by `python -m theory statements --write`; do not edit.
   What Coq prints for it is kept in statements.v.out and compared at every verification. *)
From mathcomp Require Import all_ssreflect all_algebra.
"""
_SHOWN = ["Set Printing Width 110.", "Local Open Scope ring_scope."]


class Printed(NamedTuple):
    """What Coq printed about one theorem."""

    statement: str
    assumptions: str


class Meaning(NamedTuple):
    """What Coq prints for a theorem, an Example or a definition or lemma that one of them reaches.

    Attributes:
        review: how ``definitions.out`` shows it: kind, name, a digest of it with nothing hidden (no notation, no
            implicit argument), and what it reads; the statement of a theorem stands in ``statements.v.out``.
        uses: names of the project that stand in it, hidden or not, as ``file.name``.
    """

    review: str
    uses: list[str]


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


def theorem_files(folder: Path, kind: str = "Theorem") -> dict[str, list[str]]:
    """Every ``Theorem`` in the sources: name -> stems of the files that state it (one, if all is well)."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.v")):
        text = strip_comments(path.read_text(encoding="utf-8"))
        for theorem in re.findall(rf"^\s*(?:Local |Global |#\[[^]]*\]\s*)*{kind}\s+([\w']+)", text, re.MULTILINE):
            found.setdefault(theorem, []).append(path.stem)
    return found


def statements_source(claims: Mapping[str, Claim], folder: Path, wanted: Collection[str] | None = None) -> str:
    """The text of ``statements.v``: Check and Print Assumptions of each registered theorem, or of those `wanted`."""
    files = theorem_files(folder)
    where = {t: files[t][0] if t in files else c.topic for c in claims.values() for t in c.theorems}
    lines = [_HEADER + f"From LoraLimits Require Import {' '.join(dict.fromkeys(['lowrank', *where.values()]))}."]
    lines += _SHOWN
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


def _coqc(folder: Path, source: str, scratch: Path) -> str:
    """What Coq prints for a text about the built proofs, run in `scratch`."""
    options = ["-q", "-w", "-notation-overridden,-ambiguous-paths", "-R", str(folder.resolve()), "LoraLimits"]
    (scratch / "statements.v").write_text(source, encoding="utf-8")
    command = ["coqc", *options, "statements.v"]
    return subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=True).stdout


def ask(folder: Path, source: str) -> str:
    """What Coq prints for a text about the built proofs. Raises CalledProcessError if it does not compile."""
    with tempfile.TemporaryDirectory() as scratch:
        return _coqc(folder, source, Path(scratch))


def _modules(folder: Path) -> list[str]:
    return [path.stem for path in sorted(folder.glob("*.v")) if path.name != "statements.v"]


def meanings_source(modules: Collection[str], questions: Mapping[str, str]) -> str:
    """Coq's text that puts each question twice, into the files ``name`` and ``name.full``, there with nothing hidden.

    The modules are not imported: what is of the project is then printed as ``file.name``, and nothing else is.
    """
    lines = [_HEADER, f"From LoraLimits Require {' '.join(modules)}." if modules else "", *_SHOWN]
    lines += [f'Redirect "{name}" {question}{name}.' for name, question in questions.items()]
    lines.append("Set Printing All.")
    lines += [f'Redirect "{name}.full" {question}{name}.' for name, question in questions.items()]
    return "\n".join(lines) + "\n"


def meanings(folder: Path, cache: Path) -> dict[str, Meaning]:
    """Every theorem and every Example of the built proofs, and all definitions that their statements reach, by name.

    A definition may rest on a lemma (a choice of what exists): of that its statement counts, as its proof is opaque.

    Raises:
        CalledProcessError: the sources are not built.
    """
    kept = cache / f"{sources_hash(folder)}.meanings.json"
    found = {name: Meaning(*two) for name, two in _kept(kept).items()}
    if found:
        return found
    modules = _modules(folder)
    ours = re.compile(rf"(?<![\w.'])(?:LoraLimits\.)?((?:{'|'.join(modules)})\.[\w']+)")
    stated = {f"{stem}.{name}": kind for kind in ("Theorem", "Example", "Lemma")
              for name, stems in theorem_files(folder, kind).items() for stem in stems}  # fmt: skip
    kinds = {name: kind for name, kind in stated.items() if kind != "Lemma"}
    while kinds:
        questions = {name: "Print " if kind == "Definition" else "Check @" for name, kind in kinds.items()}
        with tempfile.TemporaryDirectory() as scratch:
            _coqc(folder, meanings_source(modules, questions), Path(scratch))
            texts = {f.name: f.read_text(encoding="utf-8") for f in Path(scratch).glob("*.out")}
        for name, kind in kinds.items():
            full, shown = texts[f"{name}.full.out"], "" if kind == "Theorem" else texts[f"{name}.out"]
            head = f"(* {kind} {name} {hashlib.sha256(full.encode()).hexdigest()[:16]} *)"
            found[name] = Meaning(f"{head}\n{shown}".rstrip(), sorted({*ours.findall(full)} - {name}))
        reached = {used for name in kinds for used in found[name].uses}
        kinds = {name: stated.get(name, "Definition") for name in sorted(reached - set(found))}
    write_text(kept, json.dumps(found, indent=1) + "\n")
    return found


def definitions_file(known: Mapping[str, Meaning]) -> str:
    """The text of ``definitions.out``."""
    return "\n\n".join(known[name].review for name in sorted(known)) + "\n"


def unreviewed(theorem: str, known: Mapping[str, Meaning], golden: str) -> list[str]:
    """What does not read as reviewed: the theorem, the Examples of its file, the definitions that these reach.

    Args:
        theorem: ``file.name``.
        known: what Coq prints now.
        golden: the text of ``definitions.out``.
    """
    file = theorem.partition(".")[0]
    reviewed = set(re.split(r"\n\n(?=\(\* \w+ \S+ [0-9a-f]{16} \*\)$)", golden.rstrip(), flags=re.MULTILINE))
    examples = [name for name in known if known[name].review.startswith(f"(* Example {file}.")]
    reached, todo = set(), [theorem, *examples]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += known[name].uses
    gone = {n for n in re.findall(rf"^\(\* Example ({file}\.\S+) ", golden, re.MULTILINE) if n not in known}
    return sorted(gone | {name for name in reached if known[name].review not in reviewed})


def sources_hash(folder: Path) -> str:
    """SHA-256 over all that decides what Coq prints: its version, how it is asked, every source but that."""
    digest = hashlib.sha256(repr(first_line(["coqc", "--version"])).encode() + Path(__file__).read_bytes())
    for path in sorted({*folder.glob("*.v"), folder / "_CoqProject"} - {folder / "statements.v"}):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _kept(path: Path) -> dict[str, list[Any]]:
    """What a file of the cache holds: name -> two things; nothing, if it is damaged or not there."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [first, second] for name, (first, second) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def printed(folder: Path, claims: Mapping[str, Claim], wanted: Collection[str], cache: Path) -> dict[str, Printed]:
    """Theorem -> what Coq prints about it; only what `cache` does not hold for these very sources is asked for.

    Raises:
        CalledProcessError: what is asked does not compile.
    """
    kept = cache / f"{sources_hash(folder)}.json"
    known = {theorem: Printed(*two) for theorem, two in _kept(kept).items()}
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
    cache = cache or cache_folder() / "coq"
    statements, definitions = (
        path.read_text(encoding="utf-8") if path.exists() else ""
        for path in (folder / "statements.v.out", folder / "definitions.out")
    )
    golden, files = dict(parse(statements)), theorem_files(folder)
    status: dict[str, tuple[str, str | None]] = {}
    meant = lru_cache(lambda: meanings(folder, cache))  # asked once, and only behind the other gates
    try:
        found = printed(folder, claims, names, cache)
        for theorem in names:
            if theorem not in found:
                reason: str | None = f"Coq printed nothing about {theorem}"
            elif found[theorem].assumptions != CLOSED:
                reason = f"{theorem} rests on {found[theorem].assumptions.splitlines()[:3]}"
            elif golden.get(theorem) != found[theorem]:
                reason = f"{theorem}: the statement is not the reviewed one (make golden, then review)"
            elif changed := unreviewed(f"{files[theorem][0]}.{theorem}", meant(), definitions):
                expected = f"expected {', '.join(changed)} as reviewed in proofs/definitions.out"
                reason = f"{theorem}: {expected}, got another text (make golden, then review)"
            else:
                reason = None
            status[theorem] = ("fail" if reason else "pass", reason)
    except subprocess.CalledProcessError as error:
        return dict.fromkeys(names, ("fail", " | ".join(error.stderr.strip().splitlines()[-3:])))
    return status
