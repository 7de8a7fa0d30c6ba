"""What stands behind paper and page, read and checked: the registry, its verification, the results, what Coq printed.

Nothing else is read. What is missing, damaged or stale stops the build with the file's name.
``python -m paper.evidence`` only says whether the verification is fresh (exit status 0) or not (1).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from empirical.engine.judge import Row
from empirical.engine.records import RESULTS, Record, RecordError, files
from empirical.engine.ways import Way
from empirical.ladder import LAYERS, SOURCES
from theory.checks import Figure
from theory.claims import REGISTRY, Claim, RegistryError, load
from theory.provenance import ROOT, short
from theory.verify.formal import Printed, parse
from theory.verify.run import SCHEMA, Verification, sources_hash

VERIFICATION = ROOT / "build" / "verification.json"
STATEMENTS = ROOT / "proofs" / "statements.v.out"
RUNGS = ("stated", "coded", "checked", "proved", "measured")


class EvidenceError(ValueError):
    """Something that the paper needs is missing, damaged or stale; one line names the file."""


@dataclass(frozen=True)
class Run:
    """All cells of one experiment under one profile, and its judged predictions."""

    experiment: str
    profile: str
    records: Sequence[Record[Any, Any]]
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """Experiment and profile."""
        return f"{self.experiment}, {self.profile}"

    @property
    def cells(self) -> list[Mapping[str, Any]]:
        """The cells of the records."""
        return [r["cell"] for r in self.records]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the worlds, cell by cell."""
        return [cell["seed"] for cell in self.cells if "seed" in cell]

    @property
    def commits(self) -> str:
        """Short commits that the records were made at."""
        return ", ".join(sorted({commit(r) for r in self.records}))

    @cached_property
    def ways(self) -> list[Way]:
        """What each method made of its experts; empty where none are compared."""
        from empirical.engine.catalogue import ways_of

        return ways_of(self.experiment, self.records)


@dataclass(frozen=True)
class Evidence:
    """Everything that paper and page are made of."""

    claims: Mapping[str, Claim]
    verification: Verification
    #: theorem -> statement and assumptions, as Coq printed them
    statements: Mapping[str, Printed]
    #: experiment -> its finished runs, the one for the text first
    runs: Mapping[str, Sequence[Run]]
    #: experiment -> why there is no finished run
    unfinished: Mapping[str, str]

    def run(self, name: str) -> Run | None:
        """The run that the text speaks of, or of `<experiment>.<profile>` that one; None if it is not finished."""
        experiment, _, profile = name.partition(".")
        found = [run for run in self.runs.get(experiment, ()) if profile in ("", run.profile)]
        return found[0] if found else None

    @property
    def first_runs(self) -> list[Run]:
        """The run of every finished experiment that the text speaks of."""
        return [runs[0] for runs in self.runs.values()]

    @property
    def all_runs(self) -> list[Run]:
        """The runs of every experiment under every profile."""
        return [run for runs in self.runs.values() for run in runs]

    def figure(self, claim: str) -> Figure | None:
        """What a check of the claim measured."""
        layers = self.verification["claims"][claim]
        found = layers["numeric"]["figure"] or layers["symbolic"]["figure"]
        return Figure(**found) if found else None

    def rungs(self, claim: str) -> dict[str, str]:
        """Rung -> yes, part (not every sentence), no (not checked), fail or none (none planned)."""
        from theory.verify.status import worst

        layers = self.verification["claims"][claim]
        marks = {"pass": "yes", "fail": "fail", "not_checked": "no", "none_planned": "none"}
        formal = layers["formal"]
        proved = marks[formal["status"]]
        return {
            "stated": "yes",
            "coded": "yes",  # a verification with a dangling reference is not written
            "checked": marks[worst(layers[layer]["status"] for layer in ("symbolic", "numeric"))],
            "proved": "part" if proved == "yes" and formal["proved"] < formal["sentences"] else proved,
            "measured": marks[layers["empirical"]["status"]],
        }


def commit(made: Any) -> str:
    """The short commit of a record or of the verification."""
    return short(made["commit"], made["dirty"])


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def read_verification(path: Path, claims: Mapping[str, Claim]) -> Verification:
    """``verification.json``, made of the sources that are there now.

    Raises:
        EvidenceError: missing, damaged, or made of other sources.
    """
    name = _shown(path)
    if not path.exists():
        raise EvidenceError(f"{name}: expected what `make verify` writes, got no such file")
    try:
        found: Verification = json.loads(path.read_text(encoding="utf-8"))
        complete = found["schema"] == SCHEMA and all(set(layers) == set(LAYERS) for layers in found["claims"].values())
        made_of, about = found["environment"].get("sources"), set(found["claims"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EvidenceError(f"{name}: expected a whole verification, got: {type(error).__name__} {error}") from error
    if not complete:
        raise EvidenceError(f"{name}: expected all layers of every claim under schema {SCHEMA}, got another document")
    if made_of != sources_hash(SOURCES) or about != set(claims):
        raise EvidenceError(f"{name}: expected a verification of the present theory and proofs, got a stale one"
                            " (make verify)")  # fmt: skip
    return found


def read_statements(path: Path, claims: Mapping[str, Claim]) -> dict[str, Printed]:
    """Registered theorem -> what Coq printed about it.

    Raises:
        EvidenceError: missing, or not about the registered theorems.
    """
    name = _shown(path)
    if not path.exists():
        raise EvidenceError(f"{name}: expected what Coq printed (make golden), got no such file")
    found = dict(parse(path.read_text(encoding="utf-8")))
    registered = {theorem for claim in claims.values() for theorem in claim.theorems}
    wrong = sorted(registered ^ set(found))
    if wrong:
        raise EvidenceError(f"{name}: expected the registered theorems (make golden), got a difference in {wrong[0]}")
    return found


def judge_everything(results: Path) -> dict[tuple[str, str], Run]:
    """(experiment, profile) -> the cells that have run, whole grid or not, and their judged predictions.

    Raises:
        EvidenceError: a damaged record, or one that does not belong to the present grid and protocol.
    """
    from empirical.engine import catalogue as engine

    found = {}
    for experiment in engine.names():
        for profile in engine.JUDGED:
            there = {path.name for path in files(results / experiment / profile)}
            if not there:
                continue
            store = engine.store_for(experiment, profile, results)
            stale = there - {store.path(cell).name for cell in engine.cells(experiment, profile)}
            if stale:
                name = _shown(results / experiment / profile / min(stale))
                raise EvidenceError(f"{name}: expected a cell of the present grid and protocol, got another one")
            try:
                records = engine.records(experiment, profile, results)
                rows = engine.judge_all([experiment], profile, results)
            except RecordError as error:
                raise EvidenceError(str(error)) from error
            found[experiment, profile] = Run(experiment, profile, records, rows)
    return found


def sort_runs(judged: Mapping[tuple[str, str], Run]) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """(finished runs by experiment, why the others are not finished)."""
    from empirical.engine import catalogue as engine

    runs: dict[str, list[Run]] = {}
    unfinished: dict[str, str] = {}
    for experiment in engine.names():
        notes = []
        for profile in engine.JUDGED:
            run = judged.get((experiment, profile))
            if run is None:
                continue
            cells = len(engine.cells(experiment, profile))
            if len(run.records) == cells:
                runs.setdefault(experiment, []).append(run)
            else:
                notes.append(f"{len(run.records)} of {cells} cells of profile {profile} have run")
        if experiment not in runs:
            unfinished[experiment] = "; ".join(notes) or "no results yet"
    return runs, unfinished


def check_measured(
    verification: Verification, claims: Mapping[str, Claim], judged: Mapping[tuple[str, str], Run], results: Path
) -> None:
    """The verdicts in the verification are those that the results give now.

    Raises:
        EvidenceError: they differ; results or judge changed after the verification.
    """
    from empirical.engine.catalogue import judged_profile

    rows = [
        row for (e, under), run in judged.items() if under == judged_profile(e, "auto", results) for row in run.rows
    ]
    for claim in claims.values():
        now = {r["id"]: r["verdict"] for r in rows if r["claim"] == claim.id}
        if verification["claims"][claim.id]["empirical"]["parts"] != now:
            raise EvidenceError(f"{_shown(VERIFICATION)}: expected the verdicts of the present results, got others for"
                                f" {claim.id} (make verify)")  # fmt: skip


def gather(
    verification: Path = VERIFICATION, results: Path = RESULTS, statements: Path = STATEMENTS, registry: Path = REGISTRY
) -> Evidence:
    """Read and check everything.

    Raises:
        EvidenceError: see the functions above.
    """
    claims = load(registry)
    verified = read_verification(verification, claims)
    printed = read_statements(statements, claims)
    judged = judge_everything(results)
    check_measured(verified, claims, judged, results)
    runs, unfinished = sort_runs(judged)
    return Evidence(claims, verified, printed, runs, unfinished)


def command(name: str, build: Callable[[Evidence], str]) -> int:
    """Gather the evidence, build from it and print what `build` says.

    Returns:
        exit status 0, or 2 with one line on stderr that names what is missing, stale, unknown or cannot be written.
    """
    try:
        done = build(gather())
    except (EvidenceError, RegistryError, ValueError) as error:
        reason = str(error).splitlines()[0]
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}"
    except ImportError as error:
        reason = f"a package is missing: {error} (make setup)"
    else:
        print(done)
        return 0
    print(f"{name}: {reason}", file=sys.stderr)
    return 2


def main() -> int:
    """Say whether the verification is fresh."""
    claims = load()
    try:
        check_measured(read_verification(VERIFICATION, claims), claims, judge_everything(RESULTS), RESULTS)
    except EvidenceError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
