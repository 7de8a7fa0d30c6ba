"""Outcome against prediction: holds, violated or undecided, with the interval that says so.

The unit is the world: tables, base and experts drawn anew. Queries within a world share all of these, so they are
never pooled; the interval is a t interval over per-world rates (99 % with at least ten worlds, 95 % with fewer). Where
all worlds agree it has no width; then it is that of the nearest outcomes in which they do not, one query of one world
answered otherwise (Clopper-Pearson on worlds where only 0 or 1 is known of each). Holm's step-down keeps the error
rate over the ceilings and hypotheses of one experiment. Controls must all hold together, and a test of such a
conjunction needs no correction (it is an intersection-union test), so each is judged at the full level.

Kinds: *exact* (a theorem about the very system that ran: every world must agree, no interval), *ceiling* (a theorem
whose premises hold in the mean), *hypothesis* (a proposed mechanism; a violation is a result), *control* (must hold, or
the experiment shows nothing).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

from empirical.engine.records import canonical
from empirical.engine.settings import Count
from theory.numerics import one_of, require

KINDS = ("exact", "ceiling", "hypothesis", "control")
RELATIONS = ("at_most", "at_least", "equal", "order")
HEADLINE_WORLDS = 10
#: of one world
Outcome = Count | float


@dataclass(frozen=True)
class Prediction:
    """What is said before a run, and what the worlds then showed.

    Args:
        id: unique within the experiment.
        claim: id in the registry.
        kind: see the module.
        relation: outcome "at_most", "at_least" or "equal" to `predicted`; "order" says that the outcome, a difference
            of two rates, is positive (`predicted` is then 0).
        predicted: one number, or one per world where it is read off single experts before any merge.
        margin: for "equal": half-width within which the whole interval must lie; for "exact": rounding allowed.
        worlds: the count per world, or a plain number per world where the figure is no count.
        says: the prediction in words.
    """

    id: str
    claim: str
    kind: str
    relation: str
    predicted: float | Sequence[float]
    margin: float
    worlds: Sequence[Outcome]
    says: str

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", KINDS)
        one_of(self.relation, "relation", RELATIONS)
        require(self.margin >= 0, "margin", "a number >= 0", self.margin)
        counted = [w if isinstance(w, (int, float)) else Count(*w) for w in self.worlds]
        object.__setattr__(self, "worlds", counted)
        if not isinstance(self.predicted, (int, float)):
            require(len(self.predicted) == len(self.worlds), "predicted", f"{len(self.worlds)} values, one per world",
                    len(self.predicted))  # fmt: skip

    def rates(self) -> list[float]:
        """The outcome per world, in the unit of the prediction."""
        return [w.rate if isinstance(w, Count) else float(w) for w in self.worlds]

    def targets(self) -> list[float]:
        """The predicted value per world."""
        if isinstance(self.predicted, (int, float)):
            return [float(self.predicted)] * len(self.worlds)
        return [float(p) for p in self.predicted]

    def hash(self) -> str:
        """SHA-256 (16 hex digits) of everything that was fixed before the outcome was known."""
        fixed = {"id": self.id, "claim": self.claim, "kind": self.kind, "relation": self.relation,
                 "predicted": self.predicted if isinstance(self.predicted, (int, float)) else list(self.predicted),
                 "margin": self.margin}  # fmt: skip
        return hashlib.sha256(canonical(fixed).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Verdict:
    """A judged prediction. `interval` is for the outcome, or for outcome minus prediction if that varies by world."""

    verdict: str
    interval: tuple[float, float]
    level: float
    p: float
    mean: float


def t_interval(values: Sequence[float], level: float, step: float | None = None) -> tuple[float, float]:
    """Two-sided t interval for the mean over worlds.

    Where all worlds agree: the smallest interval that holds those of the outcomes with one world moved by `step`, which
    is what one query is worth. Clopper-Pearson on worlds would say less of ten worlds in which every query is right
    than the t interval says of ten in which one query is wrong. It is used where no step is known and all are 0 or 1.

    Args:
        values: one number per world.
        level: confidence, in (0, 1).
        step: the rate of one query in one world, 1 / n; None where the worlds are no counts.
    """
    from scipy import stats

    n = len(values)
    require(n > 0, "worlds", "at least one world", 0)
    unanimous = len(set(values)) == 1
    if unanimous and values[0] in (0, 1) and (step is None or n == 1):
        edge = ((1 - level) / 2) ** (1 / n)
        return (0.0, 1 - edge) if values[0] == 0 else (edge, 1.0)
    if n == 1:
        return -math.inf, math.inf
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    if unanimous:
        # one world moved by `step`: the mean moves by step / n, and the deviation of the mean is step / n as well
        half = (1 + quantile) * (step or 0.0) / n
        return values[0] - half, values[0] + half
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = quantile * deviation / math.sqrt(n)
    return mean - half, mean + half


def _verdict(relation: str, interval: tuple[float, float], target: float, margin: float) -> str:
    low, high = interval
    if relation == "at_most":
        return "holds" if high <= target else "violated" if low > target else "undecided"
    if relation == "at_least":
        return "holds" if low >= target else "violated" if high < target else "undecided"
    if relation == "order":
        return "holds" if low > target else "violated" if high <= target else "undecided"
    if target - margin <= low and high <= target + margin:
        return "holds"
    return "violated" if high < target - margin or low > target + margin else "undecided"


def _outcomes(prediction: Prediction) -> tuple[list[float], float]:
    """Per-world outcomes and the one target: differences from the prediction where that varies by world."""
    rates, targets = prediction.rates(), prediction.targets()
    if len(set(targets)) <= 1:
        return rates, targets[0] if targets else 0.0
    return [r - t for r, t in zip(rates, targets, strict=True)], 0.0


def _interval(prediction: Prediction, values: Sequence[float], level: float) -> tuple[float, float]:
    """The interval for `values`; a rate of counts stays within [0, 1]."""
    counts = [w for w in prediction.worlds if isinstance(w, Count)]
    whole = len(counts) == len(values)
    low, high = t_interval(values, level, max(1 / w.asked for w in counts) if whole else None)
    if whole and len(set(values)) == 1 and values == prediction.rates():
        return max(low, 0.0), min(high, 1.0)
    return low, high


def smallest_error(prediction: Prediction) -> float:
    """The p-value of the verdict: the smallest error rate at which the interval decides; 1.0 if none does.

    Found by bisection over the level, so that the same interval serves the verdict, the p-value and Holm's step.
    """
    values, target = _outcomes(prediction)

    def decides(error: float) -> bool:
        interval = _interval(prediction, values, 1 - error)
        return _verdict(prediction.relation, interval, target, prediction.margin) != "undecided"

    low, high = 0.0, 1.0 - 1e-9
    if not decides(high):
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2 if low > 1e-12 else high / 8
        if middle < 1e-12:
            return high
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def _error_rate(prediction: Prediction) -> float:
    return 0.01 if len(prediction.worlds) >= HEADLINE_WORLDS else 0.05


def _at_level(prediction: Prediction, level: float, p: float) -> Verdict:
    values, target = _outcomes(prediction)
    interval = _interval(prediction, values, level)
    outcome = _verdict(prediction.relation, interval, target, prediction.margin)
    return Verdict(outcome, interval, level, p, math.fsum(values) / len(values))


def judge_exact(prediction: Prediction) -> Verdict:
    """Every world must agree; `margin` is the rounding that is allowed."""
    rates, targets = prediction.rates(), prediction.targets()
    slack = prediction.margin
    known: dict[str, Callable[[float, float], bool]] = {
        "at_most": lambda r, t: r <= t + slack,
        "at_least": lambda r, t: r >= t - slack,
        "equal": lambda r, t: abs(r - t) <= slack,
        "order": lambda r, t: r > t - slack,
    }
    fits = known[prediction.relation]
    held = bool(rates) and all(fits(r, t) for r, t in zip(rates, targets, strict=True))
    mean = math.fsum(rates) / len(rates) if rates else math.nan
    interval = (min(rates), max(rates)) if rates else (math.nan, math.nan)
    return Verdict("holds" if held else "violated", interval, 1.0, 0.0, mean)


def judge(predictions: Sequence[Prediction]) -> list[Verdict]:
    """Judge the predictions of one experiment together, in their order.

    Worlds without any query (n = 0) are left out; a prediction with no world left is undecided.
    """
    verdicts: list[Verdict | None] = [None] * len(predictions)
    tested: list[tuple[float, int, Prediction]] = []
    for i, prediction in enumerate(predictions):
        kept = [j for j, r in enumerate(prediction.rates()) if not math.isnan(r)]
        targets = prediction.targets()
        by_world = not isinstance(prediction.predicted, (int, float))
        usable = replace(
            prediction,
            predicted=[targets[j] for j in kept] if by_world else prediction.predicted,
            worlds=[prediction.worlds[j] for j in kept],
        )
        if not kept:
            verdicts[i] = Verdict("undecided", (-math.inf, math.inf), 0.95, 1.0, math.nan)
        elif prediction.kind == "exact":
            verdicts[i] = judge_exact(usable)
        elif prediction.kind == "control":
            verdicts[i] = _at_level(usable, 1 - _error_rate(usable), smallest_error(usable))
        else:
            tested.append((smallest_error(usable), i, usable))
    stopped = False
    for step, (p, i, prediction) in enumerate(sorted(tested, key=lambda row: row[0] / _error_rate(row[2]))):
        found = _at_level(prediction, 1 - _error_rate(prediction) / (len(tested) - step), p)
        stopped = stopped or found.verdict == "undecided"
        verdicts[i] = replace(found, verdict="undecided") if stopped else found
    return [v for v in verdicts if v is not None]


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
    predicted_hash: str
    explained: str | None
    says: str
    devices: list[str]


def as_row(prediction: Prediction, verdict: Verdict, experiment: str, explained: str | None, devices: list[str]) -> Row:
    """The row of a judged prediction of an experiment whose cells ran on `devices`."""

    def number(x: float) -> float | None:
        return round(x, 6) if math.isfinite(x) else None

    predicted = prediction.predicted
    return {
        "id": prediction.id,
        "claim": prediction.claim,
        "experiment": experiment,
        "kind": prediction.kind,
        "relation": prediction.relation,
        "predicted": predicted if isinstance(predicted, (int, float)) else list(predicted),
        "margin": prediction.margin,
        "worlds": [list(w) if isinstance(w, Count) else w for w in prediction.worlds],
        "interval": [number(verdict.interval[0]), number(verdict.interval[1])],
        "level": round(verdict.level, 6),
        "mean": number(verdict.mean),
        "verdict": verdict.verdict,
        "predicted_hash": prediction.hash(),
        "explained": explained,
        "says": prediction.says,
        "devices": devices,
    }
