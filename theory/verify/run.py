"""Run layers of evidence side by side in processes of their own, print the ladder, write it as JSON.

Rungs: *stated* (in the registry), *coded* (every reference resolves), *checked* (symbolic and numeric checks pass),
*proved* (Coq says closed under the global context). A package that stands above this one may add layers, and rungs, of
its own. A layer that cannot run here is shown as not checked, never as passed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import platform
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypedDict

from theory.claims import Claim, RegistryError, resolve
from theory.provenance import ROOT, build_folder, cache_folder, commit, first_line, shown, versions, write_text
from theory.verify.status import Result, ResultData, Row, run_reference, summed, worst

SCHEMA = 2
PACKAGES = ("numpy", "scipy", "sympy", "hypothesis", "torch", "transformers", "peft")
#: what the layers of this package are made of
SOURCES = ("theory/**/*.py", "theory/claims.toml", "proofs/*.v", "proofs/*.out")

Task = Callable[[], Any]


class Environment(TypedDict):
    """What a verification depends on, how long it took (wall seconds), and the hash of its sources."""

    python: str
    platform: str
    cores: int | None
    packages: dict[str, str | None]
    coq: str | None
    commit: str | None
    dirty: bool
    seconds: float
    sources: str


class Verification(TypedDict):
    """``verification.json``; `claims`: claim id -> layer -> its result."""

    schema: int
    environment: Environment
    claims: dict[str, dict[str, ResultData]]


class Layer(ABC):
    """One kind of evidence: what is to be run for it, and what that says of each claim."""

    #: its name in verification.json, and the rung of the ladder that it stands for
    name: ClassVar[str]
    rung: ClassVar[str]

    @abstractmethod
    def tasks(self, claims: Mapping[str, Claim]) -> Sequence[Task]:
        """What to run, each in a process of its own choosing; the longest first."""

    @abstractmethod
    def results(self, claims: Mapping[str, Claim], found: Sequence[Any]) -> dict[str, Result]:
        """Claim id -> result, from what the tasks returned, in their order."""

    def details(self, found: Sequence[Any]) -> list[str]:
        """Lines in Rich's markup to print below the ladder."""
        return []

    def lacking(self, result: Result) -> bool:
        """Whether this verification should have checked what it did not, which fails where it is strict."""
        return result.status == "not_checked"


class Checks(Layer):
    """The checks that the registry names under the layer's own name."""

    rung = "checked"

    def references(self, claim: Claim) -> Sequence[str]:
        """References of the checks of a claim."""
        named: Sequence[str] = getattr(claim, self.name)
        return named

    def tasks(self, claims: Mapping[str, Claim]) -> list[Task]:
        """One per check."""
        return [partial(run_references, (r,)) for c in claims.values() for r in self.references(c)]

    def results(self, claims: Mapping[str, Claim], found: Sequence[Mapping[str, Row]]) -> dict[str, Result]:
        """The worst of a claim's checks."""
        rows = {reference: row for task in found for reference, row in task.items()}
        return {c.id: self._result(c, {r: rows[r] for r in self.references(c)}) for c in claims.values()}

    def _result(self, claim: Claim, rows: Mapping[str, Row]) -> Result:
        return summed(rows) if rows else Result("none_planned", reason=claim.none_planned.get(self.name))


class Symbolic(Checks):
    """Identities and bounds in exact algebra."""

    name = "symbolic"


class Numeric(Checks):
    """Bounds and what attains them, on numbers."""

    name = "numeric"


class Formal(Layer):
    """The theorems, as Coq sees them."""

    name = "formal"
    rung = "proved"

    def __init__(self, everything: Mapping[str, Claim], proofs: Path = ROOT / "proofs") -> None:
        self.everything, self.proofs = everything, proofs

    def tasks(self, claims: Mapping[str, Claim]) -> list[Task]:
        """One, if there is a theorem."""
        wanted = list(dict.fromkeys(t for c in claims.values() for s in c.sentences for t in s.theorems))
        return [partial(_formal, self.proofs, dict(self.everything), wanted)] if wanted else []

    def results(self, claims: Mapping[str, Claim], found: Sequence[Any]) -> dict[str, Result]:
        """The worst of the theorems that a claim's sentences name; the seconds are shared out evenly."""
        status, seconds = found[0] if found else ({}, 0.0)
        return {c.id: self._result(c, status, seconds / max(len(status), 1)) for c in claims.values()}

    @staticmethod
    def _result(claim: Claim, status: Mapping[str, tuple[str, str | None]], share: float) -> Result:
        rows = {theorem: status[theorem] for sentence in claim.sentences for theorem in sentence.theorems}
        if not rows:
            return Result("none_planned", reason=claim.none_planned.get("formal"))
        reasons = dict.fromkeys(reason for _, reason in rows.values() if reason)
        held = [bool(s.theorems) and all(rows[t][0] == "pass" for t in s.theorems) for s in claim.mathematics]
        return Result(
            worst(s for s, _ in rows.values()),
            seconds=share * len(rows),
            parts={theorem: s for theorem, (s, _) in rows.items()},
            reason="; ".join(reasons) or None,
            proved=sum(held),
            sentences=len(held),
        )


def run_references(references: Sequence[str]) -> dict[str, Row]:
    """Reference -> outcome, one after the other in this process."""
    return {reference: run_reference(reference) for reference in references}


def _formal(
    folder: Path, claims: Mapping[str, Claim], wanted: Sequence[str]
) -> tuple[dict[str, tuple[str, str | None]], float]:
    from theory.verify.formal import theorem_status

    started = time.perf_counter()
    return theorem_status(folder, claims, wanted), time.perf_counter() - started


def coded_problems(claims: Mapping[str, Claim]) -> dict[str, list[str]]:
    """Claim id -> references that do not resolve. Modules whose packages are not installed are passed over."""
    problems: dict[str, list[str]] = {claim_id: [] for claim_id in claims}
    for claim in claims.values():
        for reference in (*claim.code, *claim.checks):
            try:
                resolve(reference)
            except RegistryError as error:
                problems[claim.id].append(str(error))
            except ModuleNotFoundError:
                continue  # the check itself will say so
    return problems


def sources_hash(patterns: Sequence[str] = SOURCES, root: Path = ROOT) -> str:
    """SHA-256 over names and contents of files: whether a verification still speaks of what is there."""
    digest = hashlib.sha256()
    for path in sorted({p for pattern in patterns for p in root.glob(pattern)}):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def environment(seconds: float, sources: str) -> Environment:
    """That of a verification which took so long and is made of these sources."""
    identity, dirty = commit()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "packages": versions(PACKAGES),
        "coq": first_line(["coqc", "--version"]),
        "commit": identity,
        "dirty": dirty,
        "seconds": round(seconds, 1),
        "sources": sources,
    }


def verify(
    claims: Mapping[str, Claim],
    evidence: Sequence[Layer],
    strict: bool = False,
    jobs: int | None = None,
    write: Path | None = None,
    sources: Sequence[str] = SOURCES,
) -> int:
    """Run the layers of `evidence` on `claims`, print the ladder, write it as JSON if `write` is given.

    Returns the exit status. 0: nothing failed (and, if `strict`, nothing planned was left unchecked); 1 otherwise.
    """
    from rich.console import Console

    from theory.verify.ladder import print_ladder

    started = time.perf_counter()
    made_of = sources_hash(sources)
    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    dangling, found, busy = _run(claims, evidence, jobs, console)
    if dangling:
        for line in dangling:
            console.print(line, style="red", markup=False)
        return 1
    by_layer = {layer.name: layer.results(claims, found[layer.name]) for layer in evidence}
    results = {c: {name: of[c] for name, of in by_layer.items()} for c in claims}
    details = [line for layer in evidence for line in layer.details(found[layer.name])]
    wall = time.perf_counter() - started
    print_ladder(console, claims, results, {layer.name: layer.rung for layer in evidence}, details, busy, wall)
    if write is not None:
        document: Verification = {
            "schema": SCHEMA,
            "environment": environment(wall, made_of),
            "claims": {c: {name: r.as_json() for name, r in of.items()} for c, of in results.items()},
        }
        write_text(write, json.dumps(document, indent=1) + "\n")
        console.print(f"written: {shown(write)}")
    if any(r.status == "fail" for of in results.values() for r in of.values()):
        return 1
    return 1 if strict and any(layer.lacking(r) for layer in evidence for r in by_layer[layer.name].values()) else 0


def verify_claims(
    everything: Mapping[str, Claim],
    only: str | None = None,
    strict: bool = False,
    jobs: int | None = None,
    proofs: Path = ROOT / "proofs",
) -> int:
    """Verify all claims, or one of them (then nothing is written), by the layers of this package: :func:`verify`."""
    claims = {only: everything[only]} if only else everything
    write = None if only else build_folder() / "verification.json"
    return verify(claims, [Symbolic(), Numeric(), Formal(everything, proofs)], strict, jobs, write)


def _timed(task: Task) -> tuple[Any, float]:
    started = time.perf_counter()
    return task(), time.perf_counter() - started


def _run(
    claims: Mapping[str, Claim], evidence: Sequence[Layer], jobs: int | None, console: Any
) -> tuple[list[str], dict[str, list[Any]], dict[str, float]]:
    """(references that do not resolve, layer -> what its tasks returned, layer -> seconds of process time)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    # one BLAS thread per process: the processes are the parallelism
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(cache_folder() / "hypothesis"))
    tasks = {layer.name: list(layer.tasks(claims)) for layer in evidence}
    busy = dict.fromkeys(tasks, 0.0)
    # the checks' modules are loaded once, by the process that the others are forked from
    context = multiprocessing.get_context("forkserver")
    modules = {r.partition(":")[0] for c in claims.values() for r in (*c.code, *c.checks)}
    context.set_forkserver_preload(sorted(modules))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    workers = max(1, min(jobs or os.cpu_count() or 1, sum(map(len, tasks.values()))))
    with (
        ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        dangling = [line for lines in pool.submit(coded_problems, dict(claims)).result().values() for line in lines]
        if dangling:
            return dangling, {}, busy
        # the layers that come last take longest
        running: dict[str, list[Future[Any]]] = {
            name: [pool.submit(_timed, task) for task in tasks[name]] for name in reversed(tasks)
        }
        waiting = {future for futures in running.values() for future in futures}
        bar = progress.add_task("verifying", total=len(waiting))
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            progress.advance(bar, len(done))
        for name, futures in running.items():
            busy[name] = sum(future.result()[1] for future in futures)
        return [], {name: [future.result()[0] for future in running[name]] for name in tasks}, busy
