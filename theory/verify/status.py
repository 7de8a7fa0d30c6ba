"""Run the layers of evidence side by side, print the ladder, write ``build/verification.json``.

Rungs: *stated* (in the registry), *coded* (every reference resolves), *checked* (symbolic and numeric checks pass),
*proved* (Coq says closed under the global context), *measured* (a judged experiment). A layer that cannot run here is
shown as not checked, never as passed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from theory.claims import Claim, RegistryError, load, resolve

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("symbolic", "numeric", "formal", "empirical")
SCHEMA = 1
PACKAGES = ("numpy", "scipy", "sympy", "hypothesis", "torch", "transformers", "peft")
#: what a verification is made of, besides the results that the empirical layer judges
SOURCES = (
    "theory/**/*.py",
    "theory/claims.toml",
    "proofs/*.v",
    "proofs/statements.v.out",
    "empirical/adapters/through_peft.py",
)


@dataclass
class Result:
    """The outcome of one layer for one claim; see the schema in the README."""

    status: str
    part: str = "whole"
    figure: dict[str, Any] | None = None
    seconds: float = 0.0
    parts: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    #: how often the checks compared something; 0 for the other layers
    expectations: int = 0

    def as_json(self) -> dict[str, Any]:
        """Plain data in the order of the schema."""
        return {
            "status": self.status,
            "part": self.part,
            "figure": self.figure,
            "seconds": round(self.seconds, 3),
            "parts": self.parts,
            "reason": self.reason,
            "expectations": self.expectations,
        }


def worst(statuses: Iterable[str]) -> str:
    """The status of a whole from the statuses of its parts: fail over not_checked over pass over none_planned."""
    found = set(statuses)
    for status in ("fail", "not_checked", "pass"):
        if status in found:
            return status
    return "none_planned"


def run_reference(reference: str) -> dict[str, Any]:
    """Run one check; never raises. A check that lacks a package of others is not checked, anything else failed."""
    from theory.checks import expectations

    started = time.perf_counter()
    figure, status, reason, made = None, "pass", None, 0
    try:
        function: Callable[[], Any] = resolve(reference)
        found = function()
        figure = None if found is None else {"name": found.name, "value": float(found.value), "unit": found.unit}
        made = expectations()
    except ModuleNotFoundError as error:
        ours = (error.name or "").partition(".")[0] in ("", "theory", re.split("[.:]", reference)[0])
        status, reason = "fail" if ours else "not_checked", f"{reference}: {error}"
    except Exception as error:  # a check may fail in any way; the reason is shown and the run goes on
        lines = str(error).strip().splitlines() or [type(error).__name__]
        status, reason = "fail", f"{reference.partition(':')[2]}: {type(error).__name__}: {lines[0]}"
    return {
        "reference": reference,
        "status": status,
        "figure": figure,
        "reason": reason,
        "seconds": time.perf_counter() - started,
        "expectations": made,
    }


def _run_all(references: list[str]) -> list[dict[str, Any]]:
    return [run_reference(r) for r in references]


def _run_formal(folder: str, claims: Mapping[str, Claim]) -> tuple[dict[str, tuple[str, str | None]], float]:
    from theory.verify.formal import theorem_status

    started = time.perf_counter()
    return theorem_status(Path(folder), claims), time.perf_counter() - started


def _run_judge(write: str) -> str | None:
    """Judge the committed results in a process of its own. None, or why there is no judged result."""
    command = [sys.executable, "-m", "empirical", "judge", "--write", write]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode in (0, 1) and Path(write).exists():
        return None
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"exit status {done.returncode}"


def _environment() -> dict[str, Any]:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": versions,
        "coq": _first_line(["coqc", "--version"]),
        "commit": _first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) or os.environ.get("LORA_LIMITS_COMMIT"),
        "dirty": bool(_first_line(["git", "-C", str(ROOT), "status", "--porcelain"])),
    }


def sources_hash(root: Path = ROOT) -> str:
    """SHA-256 over names and contents of :data:`SOURCES`: whether a verification still speaks of what is there."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in SOURCES for p in root.glob(pattern)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def coded_problems(claims: Mapping[str, Claim]) -> dict[str, list[str]]:
    """Claim id -> references that do not resolve. Modules whose packages are not installed are passed over."""
    problems: dict[str, list[str]] = {claim_id: [] for claim_id in claims}
    for claim in claims.values():
        for reference in (*claim.code, *claim.symbolic, *claim.numeric):
            try:
                resolve(reference)
            except RegistryError as error:
                problems[claim.id].append(str(error))
    return problems


def _gather(claim: Claim, layer: str, ran: Mapping[str, dict[str, Any]]) -> Result:
    references = claim.symbolic if layer == "symbolic" else claim.numeric + claim.adapters
    if not references:
        return Result("none_planned", reason=claim.none_planned.get(layer))
    rows = [ran[r] for r in references]
    figures = [row["figure"] for row in rows if row["figure"]]
    return Result(
        worst(row["status"] for row in rows),
        figure=figures[0] if figures else None,
        seconds=sum(row["seconds"] for row in rows),
        parts={row["reference"].partition(":")[2]: row["status"] for row in rows},
        reason="; ".join(row["reason"] for row in rows if row["reason"]) or None,
        expectations=sum(row["expectations"] for row in rows),
    )


def _formal(claim: Claim, status: Mapping[str, tuple[str, str | None]], seconds: float) -> Result:
    if not claim.theorems:
        return Result("none_planned", reason=claim.none_planned.get("formal"))
    rows = {theorem: status[theorem] for theorem in claim.theorems}
    reasons = dict.fromkeys(reason for _, reason in rows.values() if reason)
    return Result(
        worst(s for s, _ in rows.values()),
        part="part" if claim.unproved else "whole",
        seconds=seconds,
        parts={theorem: s for theorem, (s, _) in rows.items()},
        reason="; ".join(reasons) or (f"not proved: {claim.unproved}" if claim.unproved else None),
    )


def _empirical(claim: Claim, judged: Mapping[str, Any] | None, missing: str | None) -> Result:
    if not claim.experiments:
        return Result("none_planned", reason=claim.none_planned.get("empirical"))
    rows = [p for p in (judged or {}).get("predictions", []) if p["claim"] == claim.id]
    if not rows:
        return Result("not_checked", reason=missing or "no result speaks of it yet (make experiments)")
    # a violated hypothesis is a result, not a defect; a violated theorem about the system that ran is one
    broken = [p["id"] for p in rows if p["verdict"] == "violated" and p["kind"] != "hypothesis"]
    return Result(
        "fail" if broken else "pass",
        parts={p["id"]: p["verdict"] for p in rows},
        reason=f"violated: {', '.join(broken)}" if broken else None,
    )


def verify(
    only: str | None = None,
    strict: bool = False,
    jobs: int | None = None,
    proofs: Path = ROOT / "proofs",
    write: Path | None = None,
) -> int:
    """Run all layers (of one claim if `only` is given), print the ladder, write it as JSON if `write` is given.

    Returns the exit status. 0: nothing failed (and, if `strict`, nothing planned was left unchecked); 1 otherwise.
    """
    from rich.console import Console

    started = time.perf_counter()
    sources = sources_hash()
    everything = load()
    claims = {only: everything[only]} if only else everything
    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    problems = coded_problems(claims)
    dangling = [p for lines in problems.values() for p in lines]
    if dangling:
        for line in dangling:
            console.print(f"[red]{line}[/]", markup=True)
        return 1
    judged_file = ROOT / "build" / "experiments.json"
    ran, formal, formal_seconds, busy, missing = _run_layers(claims, everything, proofs, jobs, judged_file, console)
    judged = None if missing else json.loads(judged_file.read_text(encoding="utf-8"))
    share = formal_seconds / max(sum(len(c.theorems) for c in claims.values()), 1)
    results = {
        claim.id: {
            "symbolic": _gather(claim, "symbolic", ran),
            "numeric": _gather(claim, "numeric", ran),
            "formal": _formal(claim, formal, share * len(claim.theorems)),
            "empirical": _empirical(claim, judged, missing),
        }
        for claim in claims.values()
    }
    from theory.verify.ladder import print_ladder

    wall = time.perf_counter() - started
    print_ladder(console, claims, results, ran, busy, wall)
    if write is not None:
        document = {
            "schema": SCHEMA,
            "environment": _environment() | {"seconds": round(wall, 1), "sources": sources},
            "claims": {c: {layer: r.as_json() for layer, r in layers.items()} for c, layers in results.items()},
        }
        write.parent.mkdir(parents=True, exist_ok=True)
        partial = write.with_suffix(".json.partial")
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        partial.replace(write)
        console.print(f"written: {write.relative_to(ROOT) if write.is_relative_to(ROOT) else write}")
    statuses = [r.status for layers in results.values() for r in layers.values()]
    if "fail" in statuses:
        return 1
    return 1 if strict and "not_checked" in statuses else 0


def _run_layers(
    claims: Mapping[str, Claim],
    everything: Mapping[str, Claim],
    proofs: Path,
    jobs: int | None,
    judged: Path,
    console: Any,
) -> tuple[dict[str, dict[str, Any]], dict[str, tuple[str, str | None]], float, dict[str, float], str | None]:
    """Two or more processes share out the formal layer, the real adapters and every single check, longest first."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # one BLAS thread per process: the processes are the parallelism
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    ran: dict[str, dict[str, Any]] = {}
    formal: dict[str, tuple[str, str | None]] = {}
    formal_seconds = 0.0
    busy = {"symbolic": 0.0, "numeric": 0.0, "formal": 0.0, "real adapters": 0.0}
    adapters = [r for c in claims.values() for r in c.adapters]
    single = {r: layer for c in claims.values() for layer in ("symbolic", "numeric") for r in getattr(c, layer)}
    context = multiprocessing.get_context("spawn")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        ProcessPoolExecutor(max_workers=jobs or max(os.cpu_count() or 1, 1), mp_context=context) as pool,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        tasks: dict[Future[Any], str] = {}
        if any(c.theorems for c in claims.values()):
            tasks[pool.submit(_run_formal, str(proofs), dict(everything))] = "formal"
        if adapters:
            tasks[pool.submit(_run_all, adapters)] = "real adapters"
        missing: str | None = "no experiment is registered"
        if any(c.experiments for c in claims.values()):
            tasks[pool.submit(_run_judge, str(judged))] = "empirical"
        for reference, layer in single.items():
            tasks[pool.submit(run_reference, reference)] = layer
        bar = progress.add_task("verifying", total=len(tasks))
        waiting = set(tasks)
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                kind = tasks[future]
                if kind == "formal":
                    formal, formal_seconds = future.result()
                    busy[kind] = formal_seconds
                elif kind == "empirical":
                    missing = future.result()
                else:
                    rows = future.result() if kind == "real adapters" else [future.result()]
                    for row in rows:
                        ran[row["reference"]] = row
                        busy[kind] += row["seconds"]
                progress.advance(bar)
    return ran, formal, formal_seconds, busy, missing
