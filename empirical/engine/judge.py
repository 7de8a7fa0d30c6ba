"""Outcome against prediction: holds, violated or undecided, with the interval that says so.

The unit is the world: tables, base and experts drawn anew (a pretrained base is the same in all). Queries within a
world share all of these, so they are never pooled. :mod:`empirical.engine.intervals` has the one rule for any number of
worlds, and the error rate is 5 % whatever their number. A prediction is decided *alone* at that rate; its verdict is
that of Holm's step-down over its family. Controls must all hold together, and a test of such a conjunction needs no
correction (it is an intersection-union test). What is exact has no interval: every world must agree.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

from empirical.engine.intervals import Outcome, fit, tend
from empirical.engine.predictions import INFORMATIVE, Measure, Prediction, World, rate
from empirical.engine.records import Record, canonical
from empirical.engine.settings import Count, group_of
from theory.numerics import require

#: of every verdict that is no theorem
ERROR = 0.05


@dataclass(frozen=True)
class Observed:
    """A prediction and what the worlds showed, of the worlds in which something was asked."""

    prediction: Prediction
    outcomes: Sequence[Outcome]
    #: the predicted value, world by world
    targets: Sequence[float]
    #: one step of the outcome's own scale, the smallest deviation between worlds that is believed
    step: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.outcomes) == len(self.targets), f"{self.prediction.id}: predicted",
                f"{len(self.outcomes)} values, one per world", len(self.targets))  # fmt: skip

    @property
    def judged(self) -> tuple[list[Outcome], float]:
        """(what is judged world by world, the one target): differences where the prediction varies by world."""
        if not self.prediction.difference:
            return list(self.outcomes), self.targets[0] if self.targets else 0.0
        return [rate(o) - t for o, t in zip(self.outcomes, self.targets, strict=True)], 0.0


def worlds(records: Iterable[Record[Any, Any]]) -> dict[str, list[World]]:
    """Group -> its worlds, each all records with one seed, in the order of the records."""
    found: dict[str, dict[int, list[Record[Any, Any]]]] = {}
    for record in records:
        found.setdefault(group_of(record.cell), {}).setdefault(record.cell.seed, []).append(record)
    return {group: list(by_seed.values()) for group, by_seed in found.items()}


def observe(predictions: Iterable[Prediction], records: Iterable[Record[Any, Any]]) -> list[Observed]:
    """What the worlds show of each prediction. Raises ValueError for a metric that a record does not have."""
    found, there = [], worlds(records)
    for p in predictions:
        outcomes, targets, steps = [], [], [p.of.step or 0.0]
        for world in there.get(p.group, ()):
            outcome = p.of(world)
            target = p.predicted(world) if isinstance(p.predicted, Measure) else p.predicted
            if outcome is not None and target is not None:
                outcomes.append(outcome)
                targets.append(rate(target))
                steps.append(p.of.question(world, outcome))
        found.append(Observed(p, outcomes, targets, max(steps)))
    return found


@dataclass(frozen=True)
class Verdict:
    """A judged prediction. `interval` is for the outcome, or for outcome minus prediction if that varies by world."""

    verdict: str
    interval: tuple[float, float]
    level: float
    p: float
    mean: float
    #: the verdict at the full error rate, without the others of its family
    alone: str


def judge_exact(seen: Observed) -> Verdict:
    """Every world must agree; the margin is the rounding that is allowed."""
    rates, slack = [rate(o) for o in seen.outcomes], seen.prediction.margin
    known: dict[str, Callable[[float, float], bool]] = {
        "at_most": lambda r, t: r <= t + slack,
        "at_least": lambda r, t: r >= t - slack,
        "equal": lambda r, t: abs(r - t) <= slack,
        "order": lambda r, t: r > t - slack,
    }
    fits = known[seen.prediction.relation]
    held = "holds" if all(fits(r, t) for r, t in zip(rates, seen.targets, strict=True)) else "violated"
    return Verdict(held, (min(rates), max(rates)), 1.0, 0.0, math.fsum(rates) / len(rates), held)


def _judged(seen: Observed) -> Verdict:
    """At the full error rate, without the others of its family."""
    outcomes, target = seen.judged
    p = seen.prediction
    counted = all(isinstance(o, Count) for o in outcomes)
    require(counted or seen.step > 0, f"{p.id}: step", "the step of the number's own scale, in its measure", seen.step)
    known = fit(outcomes, seen.step)
    way, error = tend(p.relation, target, p.margin, known)
    alone = way if error <= ERROR else "undecided"
    mean = math.fsum(map(rate, outcomes)) / len(outcomes)
    return Verdict(alone, known.interval(1 - ERROR), 1 - ERROR, error, mean, alone)


def judge(seen: Sequence[Observed]) -> list[Verdict]:
    """Judge the predictions of one experiment together, in their order; one without a world is undecided."""
    found: list[Verdict] = []
    families: dict[str, list[int]] = {}
    for i, each in enumerate(seen):
        kind, family = each.prediction.kind, each.prediction.family
        if each.prediction.informative:
            families.setdefault(family, []).append(i)
        if not each.outcomes:
            nothing = (-math.inf, math.inf)
            found.append(Verdict("undecided", nothing, 1 - ERROR, 1.0, math.nan, "undecided"))
        else:
            found.append(judge_exact(each) if kind == "exact" else _judged(each))
    for members in families.values():
        stopped = False
        for step, i in enumerate(sorted(members, key=lambda i: found[i].p)):
            stopped = stopped or found[i].p > ERROR / (len(members) - step)
            if stopped:
                found[i] = replace(found[i], verdict="undecided")
    return found


class Row(TypedDict):
    """A judged prediction as ``build/experiments.json`` holds it; infinite ends of an interval are None."""

    id: str
    claim: str
    experiment: str
    kind: str
    relation: str
    predicted: float | list[float]
    margin: float
    worlds: list[float | list[float]]
    interval: list[float | None]
    level: float
    mean: float | None
    verdict: str
    #: the verdict without the others of the family, and the smallest error rate at which it is decided so
    alone: str
    p: float
    family: str
    #: the method or condition it speaks of; "" for none
    about: str
    #: what would have refuted it, and how probably the planned worlds would have shown that
    alternative: dict[str, Any] | None
    power: float | None
    #: hash of the declaration under which the worlds ran; None if they ran without
    declared: str | None
    predicted_hash: str
    explained: str | None
    says: str
    devices: list[str]


def as_row(
    seen: Observed,
    verdict: Verdict,
    experiment: str,
    explained: str | None,
    devices: list[str],
    declared: str | None = None,
    power: float | None = None,
) -> Row:
    """The row of a judged prediction of an experiment whose cells ran on `devices`."""

    def number(x: float) -> float | None:
        return round(x, 6) if math.isfinite(x) else None

    p = seen.prediction
    predicted: float | list[float] = list(seen.targets) if isinstance(p.predicted, Measure) else p.predicted
    fixed = {"id": p.id, "claim": p.claim, "kind": p.kind, "relation": p.relation, "predicted": predicted,
             "margin": p.margin}  # fmt: skip
    return {
        "id": p.id,
        "claim": p.claim,
        "experiment": experiment,
        "kind": p.kind,
        "relation": p.relation,
        "predicted": predicted,
        "margin": p.margin,
        "worlds": [list(w) if isinstance(w, Count) else w for w in seen.outcomes],
        "interval": [number(verdict.interval[0]), number(verdict.interval[1])],
        "level": round(verdict.level, 6),
        "mean": number(verdict.mean),
        "verdict": verdict.verdict,
        "alone": verdict.alone,
        "p": round(verdict.p, 6),
        "family": p.family,
        "about": p.about,
        "alternative": asdict(p.unless) if p.unless else None,
        "power": power,
        "declared": declared,
        "predicted_hash": hashlib.sha256(canonical(fixed).encode()).hexdigest()[:16],
        "explained": None if verdict.verdict == "holds" else explained,
        "says": p.says,
        "devices": devices,
    }


def informative(rows: Iterable[Row]) -> list[Row]:
    """Rows that are counted: hypotheses and ceilings that were declared before their worlds ran."""
    return [r for r in rows if r["kind"] in INFORMATIVE and r["declared"]]


def tally(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """Kind -> verdict -> how many of the rows that are counted; kinds of which there is none are left out."""
    counts: dict[str, dict[str, int]] = {}
    for row in informative(rows):
        of = counts.setdefault(row["kind"], {"holds": 0, "violated": 0, "undecided": 0})
        of[row["verdict"]] += 1
    return counts


def by_method(rows: Iterable[Row]) -> dict[str, list[str]]:
    """Verdict -> the methods of which it is true; of rows that each speak of one method."""
    found: dict[str, list[str]] = {"holds": [], "violated": [], "undecided": []}
    for row in rows:
        found[row["verdict"]].append(row["about"])
    return found
