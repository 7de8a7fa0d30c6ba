"""The whole ladder: the layers of :mod:`theory.verify`, real adapters among the checks, and the rung *measured*.

Nothing about it is listed by hand. A check on real adapters carries its claim by the mark ``@check``; an experiment
measures the claims that its predictions name. Both are read from the source, so that asking loads nothing.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theory.claims import Claim, load
from theory.provenance import build_folder
from theory.verify import run
from theory.verify.ladder import MARKS, figure
from theory.verify.status import Result, Row

if TYPE_CHECKING:
    from empirical.engine.judge import Row as Judged

HERE = Path(__file__).resolve().parent
#: what a verification is made of, besides the results that are judged
SOURCES = (*run.SOURCES, "empirical/adapters/through_peft.py")
LAYERS = ("symbolic", "numeric", "formal", "empirical")


def _trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


@cache
def adapter_checks() -> dict[str, str]:
    """Reference of every check on real adapters -> the claim that its mark names, in the order of the source."""
    found = {}
    for path, tree in _trees(HERE / "adapters"):
        module = ".".join(path.relative_to(HERE.parent).with_suffix("").parts)
        for node in tree.body:
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "check":
                    (claim,) = mark.args
                    assert isinstance(node, ast.FunctionDef)
                    found[f"{module}:{node.name}"] = str(ast.literal_eval(claim))
    return found


def checks_of(claim_id: str) -> list[str]:
    """The checks of a claim on real adapters."""
    return [reference for reference, claim in adapter_checks().items() if claim == claim_id]


@cache
def _constants() -> dict[str, frozenset[object]]:
    """Experiment -> the constants in its source, in the order of the folders."""
    found: dict[str, set[object]] = {}
    for path, tree in _trees(HERE / "experiments"):
        named = found.setdefault(path.relative_to(HERE / "experiments").parts[0], set())
        named.update(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {experiment: frozenset(named) for experiment, named in found.items()}


def experiments_of(claim_id: str) -> tuple[str, ...]:
    """The experiments whose predictions name a claim, whether they have run or not."""
    return tuple(experiment for experiment, named in _constants().items() if claim_id in named)


class Numeric(run.Numeric):
    """Checks on numbers, those on adapters that peft made among them; these run in one process, which loads peft."""

    def references(self, claim: Claim) -> list[str]:
        """Those of the registry, then those that carry the claim's mark."""
        return [*claim.numeric, *checks_of(claim.id)]

    def tasks(self, claims: Mapping[str, Claim]) -> list[run.Task]:
        """The real adapters, then one per check."""
        adapters = [reference for claim in claims for reference in checks_of(claim)]
        first: list[run.Task] = [partial(run.run_references, adapters)] if adapters else []
        return first + run.Numeric().tasks(claims)

    def details(self, found: Sequence[Mapping[str, Row]]) -> list[str]:
        """One line per check on real adapters."""
        rows = [(reference, task[reference]) for task in found for reference in task if reference in adapter_checks()]
        lines = [
            f"  {reference.partition(':')[2]:<30} {MARKS[row.status]} {row.seconds:5.1f} s  {figure(row.figure)}"
            for reference, row in rows
        ]
        return ["\nOn adapters that peft made, through peft's own forward pass and merges:", *lines] if lines else []


NO_RESULT = "no result speaks of it yet (make experiments)"
UNDECLARED = "what was measured was not declared before it ran"


class Measured(run.Layer):
    """The committed results, held against the predictions."""

    name = "empirical"
    rung = "measured"

    def __init__(self, write: Path | None = None) -> None:
        self.write = write

    def tasks(self, claims: Mapping[str, Claim]) -> list[run.Task]:
        """One, if an experiment names a claim."""
        names = sorted({e for claim in claims for e in experiments_of(claim)})
        return [partial(_judged, names, self.write)] if names else []

    def results(self, claims: Mapping[str, Claim], found: Sequence[Any]) -> dict[str, Result]:
        """A violated hypothesis is a result, not a defect; a violated theorem about the system that ran is one."""
        rows, missing = found[0] if found else ([], None)
        return {c.id: self._result(c, [p for p in rows if p["claim"] == c.id], missing) for c in claims.values()}

    @staticmethod
    def _result(claim: Claim, rows: Sequence[Judged], missing: str | None) -> Result:
        if not experiments_of(claim.id):
            return Result("none_planned", reason=claim.none_planned.get("measured"))
        if not rows:
            return Result("not_checked", reason=missing or NO_RESULT)
        parts = {p["id"]: p["verdict"] for p in rows}
        broken = [p["id"] for p in rows if p["verdict"] == "violated" and p["kind"] != "hypothesis"]
        if broken:
            return Result("fail", parts=parts, reason=f"violated: {', '.join(broken)}")
        if not any(p["declared"] for p in rows):
            return Result("not_checked", parts=parts, reason=UNDECLARED)
        return Result("pass", parts=parts)

    def lacking(self, result: Result) -> bool:
        """An experiment that waits for its run is shown; a verification, which runs none, does not lack it."""
        return super().lacking(result) and result.reason not in (NO_RESULT, UNDECLARED)


def _judged(names: Sequence[str], write: Path | None) -> tuple[list[Judged], str | None]:
    """The judged predictions of experiments, and why there are none."""
    try:
        from empirical.engine import catalogue
        from empirical.engine.run import write_experiments

        rows = catalogue.judge_all(names, "auto")
        if write is not None:
            write_experiments(write, "auto", rows)
    except (ImportError, ValueError) as error:
        return [], str(error).splitlines()[0]
    return rows, None


def verify(only: str | None = None, strict: bool = False, jobs: int | None = None) -> int:
    """Verify all claims, or one of them (then nothing is written); see :func:`theory.verify.run.verify`."""
    everything = load()
    build = build_folder()
    claims = {only: everything[only]} if only else everything
    measured = Measured(None if only else build / "experiments.json")
    evidence = [run.Symbolic(), Numeric(), run.Formal(everything), measured]
    return run.verify(claims, evidence, strict, jobs, None if only else build / "verification.json", SOURCES)
