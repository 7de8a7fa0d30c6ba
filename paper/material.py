"""What the paper is made of, read and checked: the registry, its verification, the results, what Coq printed.

Nothing else is read. What is missing, damaged or stale stops the build with the file's name.
``python -m paper.material`` only says whether the verification is fresh (exit status 0) or not (1).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from empirical.ladder import LAYERS, SOURCES
from theory.claims import REGISTRY, Claim, RegistryError, load
from theory.provenance import ROOT
from theory.verify.formal import Printed, parse
from theory.verify.run import SCHEMA, sources_hash

VERIFICATION = ROOT / "build" / "verification.json"
RESULTS = ROOT / "empirical" / "results"
STATEMENTS = ROOT / "proofs" / "statements.v.out"
#: experiments that the paper speaks of, in its order; those without a complete grid of results are "not finished"
EXPERIMENTS = ("rank_threshold", "one_layer", "coverage", "entities", "word_problems", "update_spectrum")
#: profiles whose results the paper shows; where both are complete the first one is in the text
PROFILES = ("gpu", "cpu")


class MaterialError(ValueError):
    """Something that the paper needs is missing, damaged or stale; one line names the file."""


@dataclass(frozen=True)
class Run:
    """All cells of one experiment under one profile, and its judged predictions."""

    experiment: str
    profile: str
    records: Sequence[Mapping[str, Any]]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Material:
    """Everything that the generated parts are made of."""

    claims: Mapping[str, Claim]
    verification: Mapping[str, Any]
    #: theorem -> statement and assumptions, as Coq printed them
    statements: Mapping[str, Printed]
    #: experiment -> its finished runs, the one for the text first
    runs: Mapping[str, Sequence[Run]]
    #: experiment -> why there is no finished run
    unfinished: Mapping[str, str]

    def run(self, experiment: str) -> Run | None:
        """The run that the text speaks of; None if the experiment is not finished."""
        found = self.runs.get(experiment, ())
        return found[0] if found else None


def _shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()


def read_verification(path: Path, claims: Mapping[str, Claim]) -> dict[str, Any]:
    """``verification.json``, made of the sources that are there now.

    Raises:
        MaterialError: missing, damaged, or made of other sources.
    """
    name = _shown(path)
    if not path.exists():
        raise MaterialError(f"{name}: expected what `make verify` writes, got no such file")
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = found["schema"] == SCHEMA and all(set(layers) == set(LAYERS) for layers in found["claims"].values())
        made_of, about = found["environment"].get("sources"), set(found["claims"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise MaterialError(f"{name}: expected a whole verification, got: {type(error).__name__} {error}") from error
    if not complete:
        raise MaterialError(f"{name}: expected all layers of every claim under schema {SCHEMA}, got another document")
    if made_of != sources_hash(SOURCES) or about != set(claims):
        raise MaterialError(f"{name}: expected a verification of the present theory and proofs, got a stale one"
                            " (make verify)")  # fmt: skip
    return found


def read_statements(path: Path, claims: Mapping[str, Claim]) -> dict[str, Printed]:
    """Registered theorem -> what Coq printed about it.

    Raises:
        MaterialError: missing, or not about the registered theorems.
    """
    name = _shown(path)
    if not path.exists():
        raise MaterialError(f"{name}: expected what Coq printed (make golden), got no such file")
    found = dict(parse(path.read_text(encoding="utf-8")))
    registered = {theorem for claim in claims.values() for theorem in claim.theorems}
    wrong = sorted(registered ^ set(found))
    if wrong:
        raise MaterialError(f"{name}: expected the registered theorems (make golden), got a difference in {wrong[0]}")
    return found


def judge_everything(results: Path) -> dict[tuple[str, str], Run]:
    """(experiment, profile) -> the cells that have run, whole grid or not, and their judged predictions.

    Raises:
        MaterialError: a damaged record, or one that does not belong to the present grid and protocol.
    """
    from empirical.engine import catalogue as engine
    from empirical.engine.records import RecordError

    found = {}
    for experiment in engine.names():
        for profile in PROFILES:
            there = {path.name for path in (results / experiment / profile).glob("*.json")}
            if not there:
                continue
            store = engine.store_for(experiment, profile, results)
            stale = there - {store.path(cell).name for cell in engine.cells(experiment, profile)}
            if stale:
                name = _shown(results / experiment / profile / min(stale))
                raise MaterialError(f"{name}: expected a cell of the present grid and protocol, got another one")
            try:
                records = engine.records(experiment, profile, results)
                rows = engine.judge_all([experiment], profile, results)
            except RecordError as error:
                raise MaterialError(str(error)) from error
            found[experiment, profile] = Run(experiment, profile, records, rows)
    return found


def sort_runs(judged: Mapping[tuple[str, str], Run]) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """(finished runs by experiment, why the others are not finished)."""
    from empirical.engine import catalogue as engine

    runs: dict[str, list[Run]] = {}
    unfinished: dict[str, str] = {}
    known = engine.names()
    for experiment in dict.fromkeys((*EXPERIMENTS, *known)):
        notes = []
        for profile in PROFILES:
            run = judged.get((experiment, profile))
            if run is None:
                continue
            cells = len(engine.cells(experiment, profile))
            if len(run.records) == cells:
                runs.setdefault(experiment, []).append(run)
            else:
                notes.append(f"{len(run.records)} of {cells} cells of profile {profile} have run")
        if experiment not in runs:
            nothing = "no results yet" if experiment in known else "no code and no results yet"
            unfinished[experiment] = "; ".join(notes) or nothing
    return runs, unfinished


def check_measured(
    verification: Mapping[str, Any], claims: Mapping[str, Claim], judged: Mapping[tuple[str, str], Run], results: Path
) -> None:
    """The verdicts in the verification are those that the results give now.

    Raises:
        MaterialError: they differ; results or judge changed after the verification.
    """
    from empirical.engine.catalogue import judged_profile

    profile = judged_profile(results)
    rows = [row for (_, under), run in judged.items() if under == profile for row in run.rows]
    for claim in claims.values():
        now = {r["id"]: r["verdict"] for r in rows if r["claim"] == claim.id}
        if verification["claims"][claim.id]["empirical"]["parts"] != now:
            raise MaterialError(f"{_shown(VERIFICATION)}: expected the verdicts of the present results, got others for"
                                f" {claim.id} (make verify)")  # fmt: skip


def gather(
    verification: Path = VERIFICATION, results: Path = RESULTS, statements: Path = STATEMENTS, registry: Path = REGISTRY
) -> Material:
    """Read and check everything.

    Raises:
        MaterialError: see the functions above.
    """
    claims = load(registry)
    verified = read_verification(verification, claims)
    printed = read_statements(statements, claims)
    judged = judge_everything(results)
    check_measured(verified, claims, judged, results)
    runs, unfinished = sort_runs(judged)
    return Material(claims, verified, printed, runs, unfinished)


def command(name: str, build: Callable[[Material], str]) -> int:
    """Gather the material, build from it and print what `build` says.

    Returns:
        exit status 0, or 2 with one line on stderr that names what is missing, stale, unknown or cannot be written.
    """
    try:
        done = build(gather())
    except (MaterialError, RegistryError, ValueError) as error:
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
    except MaterialError as error:
        print(f"paper: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
