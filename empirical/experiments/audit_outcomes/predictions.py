"""What `audit_outcomes` declares: which numbers tell how much a merge keeps, which do not, and what would refute it.

A forecast is judged in two ways, for sums and for means apart. *Error*: the mean of |foretold share - kept share| over
adapters of merges, less than that of the trivial forecast, which is the mean of the very shares that were kept in this
world (so it knows more than the mean over other worlds does). *Rank*: the correlation of ranks with what was kept.
Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up. Bounds
near one are no higher than the planned worlds can show.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.audit_outcomes.forecast import SHARES
from empirical.experiments.audit_outcomes.tables import Line, Lines, Measured, Settings, Weights
from theory.numerics import Array

#: claim of every number
CLAIMS = {"cosine": "dilution", "keys": "interference", "interference": "interference", "dilution": "dilution",
          "additive": "optimal_weights", "norm": "interference"}  # fmt: skip
WEIGHTS = get_args(Weights)
#: by what a forecast is judged: its name, and the step of its scale
MEASURES = {"error": "error of the mean that is known afterwards, less its error", "rank": "rank correlation"}
STEPS = {"error": 0.01, "rank": 0.02}
WORDS = {
    ("error", "at_least"): "errs less than the mean that is known afterwards, by at least",
    ("error", "at_most"): "errs less than the mean that is known afterwards by no more than",
    ("rank", "at_least"): "foretells the order of what is kept, a correlation of at least",
    ("rank", "at_most"): "hardly foretells the order of what is kept, a correlation of at most",
}


class Bound(NamedTuple):
    """What is said of a number of every world, and the mean of the alternative."""

    relation: Literal["at_least", "at_most"]
    value: float
    otherwise: float


def at_least(value: float, otherwise: float) -> Bound:
    """No less."""
    return Bound("at_least", value, otherwise)


def at_most(value: float, otherwise: float) -> Bound:
    """No more."""
    return Bound("at_most", value, otherwise)


#: share of their probes that adapters answer alone, at least
LEARNT = {"scratch": 0.85, "pretrained": 0.55}
#: share of the base's facts that means keep, at least; and how many are asked in a world, all means together
LEFT, ASKED = {"scratch": 0.85, "pretrained": 0.7}, {"scratch": 1300, "pretrained": 330}
#: between worlds, of the alternatives; where one calibration world is all there is, those of worlds from scratch
DEVIATIONS = {
    "scratch": {"kept error": 0.05, "kept rank": 0.2, "base error": 0.08, "base rank": 0.22},
    "pretrained": {"kept error": 0.04, "kept rank": 0.2, "base error": 0.08, "base rank": 0.22},
}
#: group -> weights, what is asked, by what it is judged -> number -> what is said
EXPECTED: dict[str, dict[str, dict[str, Bound]]] = {
    "scratch": {
        "sum kept error": {
            "cosine": at_most(0.04, 0.11), "keys": at_most(0.05, 0.12), "interference": at_most(0.04, 0.11),
            "dilution": at_most(0.0, 0.1), "additive": at_least(-0.03, -0.1),
        },
        "mean kept error": {
            "cosine": at_most(0.05, 0.12), "keys": at_most(0.04, 0.11), "interference": at_most(0.04, 0.11),
            "dilution": at_most(0.04, 0.11), "additive": at_most(0.04, 0.11),
        },
        "sum kept rank": {
            "cosine": at_most(0.5, 0.8), "keys": at_most(0.5, 0.8), "interference": at_most(0.5, 0.8),
            "additive": at_least(0.5, 0.2),
        },
        "mean kept rank": {
            "cosine": at_least(0.25, 0.0), "keys": at_most(0.5, 0.8), "interference": at_most(0.5, 0.8),
            "dilution": at_least(0.25, 0.0), "additive": at_least(0.5, 0.2),
        },
        "sum base error": {"norm": at_least(-0.02, -0.12), "additive": at_least(0.03, -0.07)},
        "sum base rank": {"norm": at_least(0.4, 0.1), "additive": at_least(0.5, 0.2)},
    },
    "pretrained": {
        "sum kept error": {
            "cosine": at_least(-0.05, -0.13), "keys": at_most(0.0, 0.08), "interference": at_most(0.0, 0.08),
            "dilution": at_most(0.0, 0.08), "additive": at_least(-0.05, -0.13),
        },
        "mean kept error": {
            "cosine": at_most(0.01, 0.09), "keys": at_most(0.02, 0.1), "interference": at_most(0.02, 0.1),
            "dilution": at_most(0.02, 0.1), "additive": at_least(-0.03, -0.11),
        },
        "sum kept rank": {
            "cosine": at_least(0.0, -0.4), "keys": at_least(0.2, -0.2), "interference": at_least(0.2, -0.2),
            "additive": at_least(0.1, -0.3),
        },
        "mean kept rank": {
            "cosine": at_most(0.5, 0.9), "keys": at_most(0.5, 0.9), "interference": at_most(0.5, 0.9),
            "dilution": at_most(0.5, 0.9), "additive": at_least(0.3, -0.1),
        },
        "sum base error": {"norm": at_most(0.0, 0.13), "additive": at_least(0.0, -0.13)},
        "sum base rank": {"norm": at_least(0.4, 0.05), "additive": at_least(0.5, 0.15)},
    },
}  # fmt: skip


class Pairs(NamedTuple):
    """What was said and what was kept, of adapters of merges or of the base in merges (n,)."""

    said: Array
    kept: Array


def kept(m: Measured, number: str, weights: Weights) -> Pairs:
    """Of every adapter of every sum, or mean; adapters that answer nothing alone are left out."""
    found = [
        (said, count.rate)
        for foretold, merged in zip(m.foretold, m.merged, strict=True)
        if foretold.weights == weights
        for said, count in zip(foretold.said[number], merged.kept, strict=True)
        if count.asked
    ]
    return Pairs(*np.array(found).reshape(-1, 2).T)


def base_kept(m: Measured, number: str, weights: Weights) -> Pairs:
    """Of the base's own facts in every sum, or mean."""
    found = [
        (foretold.base[number], merged.base.rate)
        for foretold, merged in zip(m.foretold, m.merged, strict=True)
        if foretold.weights == weights
    ]
    return Pairs(*np.array(found).reshape(-1, 2).T)


def base_left(m: Measured, weights: Weights) -> Count:
    """Facts of the base that all sums, or means, still answer, of those that it answers."""
    return Count.total(
        merged.base for foretold, merged in zip(m.foretold, m.merged, strict=True) if foretold.weights == weights
    )


def share(line: Line | None, said: Array) -> Array:
    """The share that is foretold; what is a share itself has no line."""
    return said if line is None else np.clip(line.start + line.slope * said, 0.0, 1.0)


def line_of(lines: Lines, number: str) -> Line | None:
    """The line of a number; None for what is a share itself."""
    found: Line | None = None if number in SHARES else getattr(lines, number)
    return found


def error(pairs: Pairs, line: Line | None) -> float | None:
    """Mean |foretold - kept|; None of nothing."""
    return float(np.abs(share(line, pairs.said) - pairs.kept).mean()) if len(pairs.kept) else None


def gain(pairs: Pairs, line: Line | None) -> float | None:
    """By how much the error is less than that of a forecast that knows what is kept in the mean; None of nothing."""
    own = error(pairs, line)
    return None if own is None else float(np.abs(pairs.kept - pairs.kept.mean()).mean()) - own


def rank(pairs: Pairs, line: Line | None) -> float | None:
    """Spearman's correlation of what is foretold and what is kept; None where either is always the same."""
    from scipy import stats

    # before it is cut off at 0 and 1, since what is out of reach is still in order
    foretold = pairs.said if line is None else line.slope * pairs.said
    if len(pairs.kept) < 3 or np.ptp(foretold) == 0 or np.ptp(pairs.kept) == 0:
        return None
    return float(stats.spearmanr(foretold, pairs.kept).statistic)


# ---------------------------------------------------------------- what is declared


def declare(settings: Settings) -> list[Prediction]:
    """Of both groups of worlds, where they are planned."""
    return [p for group, worlds in settings.worlds if worlds for p in of_group(settings, group)]


def of_group(settings: Settings, group: str) -> Predictions:
    """The theorem, controls, and every forecast."""
    said = Predictions(group)
    beyond = measure(Measured, "most done to a key that another reads, beyond its bound", lambda m: m.beyond)
    said.exact("bound", "interference", "no adapter does more to a key that another reads than its bound", of=beyond,
               at_most=0.0)  # fmt: skip
    controls(said, group)
    left = measure(Measured, "means, facts of the base", lambda m: base_left(m, "mean"))
    says = "means keep what the base knows, nearly all of it"
    damage = Alternative(f"{LEFT[group] - 0.2:g} of it, as sums do", LEFT[group] - 0.2, 0.1, ASKED[group])
    said.hypothesis("left.mean", "interference", says, of=left, at_least=LEFT[group], unless=damage)
    for key, bounds in EXPECTED[group].items():
        for number, bound in bounds.items():
            forecast(said, settings, key, number, bound)
    return said


def controls(said: Predictions, group: str) -> None:
    """What must hold, or the worlds show nothing."""
    claim = "dilution"
    if group == "scratch":
        known = measure(Measured, "base, own facts", lambda m: m.base)
        said.control("base", claim, "the base knows its facts", of=known, at_least=0.9)
    alone = "adapters alone, their probes"
    right = measure(Measured, alone, lambda m: Count.total(a.right for a in m.adapters.values()))
    says = "adapters learn, most of them whatever their rank"
    said.control("learnt", claim, says, of=right, at_least=LEARNT[group])
    before = measure(Measured, "base, probes of adapters", lambda m: Count.total(a.before for a in m.adapters.values()))
    said.control("before", claim, "the base does not know what they are taught", of=before, at_most=0.2)


def forecast(said: Predictions, settings: Settings, key: str, number: str, bound: Bound) -> None:
    """What is said of one number: `key` names the weights, what is asked, and by what it is judged."""
    weights, asked, question = key.split()
    line = line_of(settings.lines[weights], number)  # type: ignore[index]
    read, of = {"kept": kept, "base": base_kept}[asked], {"error": gain, "rank": rank}[question]

    def measured(m: Measured) -> float | None:
        return of(read(m, number, weights), line)  # type: ignore[arg-type]

    what = f"{weights}s, {'probes of adapters' if asked == 'kept' else 'facts of the base'}, {number}"
    outcome = measure(Measured, f"{what}: {MEASURES[question]}", measured, step=STEPS[question])
    spread = DEVIATIONS[said.group][f"{asked} {question}"]
    unless = Alternative(f"on the average {bound.otherwise:g}", bound.otherwise, spread)
    relation: Any = {bound.relation: bound.value}
    said.hypothesis(f"{question}.{asked}.{weights}.{number}", CLAIMS[number],
                    f"{what}: {WORDS[question, bound.relation]} {bound.value:g}", of=outcome, unless=unless,
                    family=f"{said.group} {key}", about=number, **relation)  # fmt: skip
