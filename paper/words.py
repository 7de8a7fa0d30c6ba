"""What text, tables and page say, before it is TeX or HTML: numbers, names, verdicts, and phrases made of them.

:mod:`paper.render` sets a phrase in either; nothing is made HTML by way of TeX.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from typing import Any

from empirical.engine import judge
from empirical.engine.judge import Row
from empirical.engine.predictions import INFORMATIVE
from empirical.engine.show import SAID

#: text, a number, or a sequence of phrases that are set one after the other; None is a dash
Phrase = Any

SIGNS = {"at_most": "≤", "at_least": "≥", "equal": "=", "order": ">"}
VERDICTS = ("holds", "violated", "undecided")


class TeX(str):
    """TeX by nature, with mathematics between dollars, as the registry's statements are."""


class Code(str):
    """An identifier."""


class Verdict(str):
    """What the judge says: holds, violated or undecided."""


class Soft(str):
    """What is not there yet."""


PENDING = Soft("not finished")


@dataclass(frozen=True)
class Number:
    """A number that is shown to so many significant digits; whole numbers as they are."""

    value: float | Fraction
    digits: int = 3

    def decimal(self) -> tuple[str, int | None]:
        """(digits, a fraction or an infinity; power of ten, None for 1)."""
        if isinstance(self.value, bool):
            raise ValueError(f"number: expected a number, got {self.value}")
        if isinstance(self.value, Fraction) and self.value.denominator != 1:
            return str(self.value), None
        x = float(self.value)
        if math.isinf(x):
            return "-∞" if x < 0 else "∞", None
        if x == round(x) and abs(x) < 1e7:
            return str(round(x)), None
        if 1e-3 <= abs(x) < 1e6:
            return f"{x:.0f}" if abs(x) >= 10**self.digits else f"{x:.{self.digits}g}", None
        mantissa, exponent = f"{x:.{max(self.digits - 2, 0)}e}".split("e")
        return mantissa, int(exponent)


def percent(x: float, digits: int = 3) -> Phrase:
    """A share as a percentage."""
    return Number(100 * float(x), digits), "\u202f%"


def joined(phrases: Iterable[Phrase], between: str = ", ") -> Phrase:
    """Phrases with the same words between each two."""
    found = list(phrases)
    return tuple(part for phrase in found for part in (between, phrase))[1:]


def setting(value: Any) -> Phrase:
    """A setting of a cell."""
    if value in ("", [], ()):
        return None
    if isinstance(value, Mapping):
        return joined((str(k), " ", setting(v)) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return joined(("(", setting(v), ")") if isinstance(v, (list, tuple)) else setting(v) for v in value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return Number(value)
    return value.replace("_", " ") if isinstance(value, str) else str(value)


# ---------------------------------------------------------------- judged predictions


def share(way: Any) -> Phrase:
    """A mean over worlds with its interval, or a dash where nothing was asked."""
    if way is None:
        return None
    return f"{way.mean:.2f} [{way.low:.2f}, {way.high:.2f}]"


def mean(values: Sequence[float]) -> float:
    """Mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def rate(value: Any) -> float:
    """[k, n] as k / n, NaN where nothing was asked; a number as itself. Raises TypeError for anything else."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        return value[0] / value[1] if value[1] else math.nan
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    raise TypeError(f"expected a count [k, n] or a number, got {str(value)[:60]}")


def rates(row: Row) -> list[float]:
    """Outcome per world; worlds in which nothing was asked are left out."""
    return [x for x in map(rate, row["worlds"]) if not math.isnan(x)]


def targets(row: Row) -> list[float]:
    """The predicted value, world by world."""
    said = row["predicted"]
    return said if isinstance(said, list) else [said] * len(row["worlds"])


def by_world(row: Row) -> bool:
    """Whether the predicted value differs from world to world (the interval is then one of differences)."""
    return len(set(targets(row))) > 1


def target(row: Row) -> float:
    """The predicted value, or its mean over worlds."""
    return mean(targets(row)) if by_world(row) else targets(row)[0]


def predicted(row: Row) -> Phrase:
    """What was said, with its margin; that of a theorem is rounding and not shown."""
    sign, exact = SIGNS[row["relation"]], row["kind"] == "exact"
    if exact and by_world(row):
        return f"{sign} by world"
    margin = (" ± ", Number(row["margin"])) if row["relation"] == "equal" and row["margin"] and not exact else ""
    return sign, " ", Number(target(row)), margin, " (by world)" if by_world(row) else ""


def bounds(row: Row) -> Phrase:
    """The interval of the row by itself."""
    low, high = (Number(end if end is not None else side)
                 for end, side in zip(row["interval"], (-math.inf, math.inf), strict=True))  # fmt: skip
    return "[", low, ", ", high, "]"


def interval(row: Row) -> Phrase:
    """That interval, marked where it is one of differences from a prediction that varies by world."""
    return "Δ " if by_world(row) and row["kind"] != "exact" else "", bounds(row)


def measured(row: Row) -> Phrase:
    """Mean over worlds with its interval; for a theorem the range over worlds."""
    found = rates(row)
    if not found:
        return "nothing asked"
    if row["kind"] == "exact":
        least, greatest = Number(min(found)), Number(max(found))
        return least if least == greatest else (least, " to ", greatest)
    return Number(round(mean(found), 12)), " ", interval(row)  # a zero without what adding left of it


def error(row: Row) -> Phrase:
    """The smallest error rate at which the row is decided by itself."""
    return Number(row["p"], 2) if row["p"] >= 1e-6 else "< 0.000001"


def outcome(row: Row) -> Phrase:
    """One clause about one prediction: predicted, measured, verdict."""
    worlds, verdict = len(rates(row)), Verdict(row["verdict"])
    return "predicted ", predicted(row), ", measured ", measured(row), " in ", worlds, " worlds: ", verdict


def families(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """(sentence, rows that say it each of something else, its name left out of the sentence); "" and the row where it
    stands alone. The rows are in their order."""

    def shape(row: Row) -> str:
        return row["says"].replace(row["about"], "…", 1) if row["about"] else row["id"]

    found: list[tuple[str, list[Row]]] = []
    for sentence, group in groupby(rows, shape):
        alike = list(group)
        found += [(sentence, alike)] if len(alike) > 1 else [("", alike)]
    return found


def by_reason(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Explanation -> the rows that it explains."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["explained"]:
            found.setdefault(row["explained"], []).append(row)
    return found


def alone(rows: Sequence[Row]) -> Phrase:
    """One clause about several undecided predictions: means, and how many would be decided if asked alone."""
    means = [Number(f(rate(r["mean"]) for r in rows), 2) for f in (min, max)]
    worlds, decided = len(rates(rows[0])), sum(r["alone"] == "holds" for r in rows)
    return "measured ", means[0], " to ", means[1], " in ", worlds, " worlds; asked alone ", decided, " would hold"


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Verdict -> how many rows have it."""
    return {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}


#: kind -> several of it
SEVERAL = {
    "hypothesis": "hypotheses",
    "ceiling": "ceilings",
    "control": "controls",
    "exact": "theorems about the very numbers",
}


def came_out(rows: Sequence[Row]) -> list[Phrase]:
    """One clause a kind: how many hold, are violated, are undecided; of controls and theorems no zeros."""
    parts: list[Phrase] = []
    for kind, name in SEVERAL.items():
        if of := [r for r in rows if r["kind"] == kind]:
            holds, *others = counts(of).values()
            said = zip(others, (" violated", " undecided"), strict=True)
            rest = [(", ", n, word) for n, word in said if n or kind in INFORMATIVE]
            parts.append((holds, " of ", len(of), f" {name} hold", *rest))
    return parts


def undeclared(rows: Sequence[Row]) -> list[Row]:
    """Those that could be refuted and were not declared before the run."""
    return [r for r in rows if r["kind"] in INFORMATIVE and not r["declared"]]


def tally(rows: Sequence[Row]) -> Phrase:
    """One clause, by kind: how the hypotheses and ceilings came out that were declared before their run."""
    parts = came_out(judge.informative(rows))
    if late := undeclared(rows):
        parts.append((len(late), " not declared before the run and not counted"))
    return joined(parts, "; ") if parts else "theorems about the very numbers and controls alone"


def twice(rows: Sequence[Row]) -> list[Row]:
    """Those that are counted and have, in every world, the outcome of another of their family that says as much or
    more: one merge under two names, or a second bound on one outcome."""

    def implied(row: Row, by: Row) -> bool:
        alike = all(row[key] == by[key] for key in ("family", "relation", "worlds"))
        if not alike or by_world(row) or by_world(by) or row["relation"] == "equal":
            return False
        tighter = target(row) - target(by) if row["relation"] == "at_most" else target(by) - target(row)
        return tighter > 0 or (tighter == 0 and counted.index(by) < counted.index(row))

    counted = judge.informative(rows)
    return [row for row in counted if any(implied(row, by) for by in counted if by is not row)]


#: more names than these are counted where the sentence is not violated for them
NAMED = 8


def methods(rows: Sequence[Row]) -> Phrase:
    """One clause: for which methods a sentence holds that the rows say of one method each; for how many of all, where
    they are many and it is not violated for them."""
    found = judge.by_method(rows)
    count = sum(map(len, found.values()))

    def told(verdict: str, names: Sequence[str]) -> Phrase:
        many = verdict != "violated" and len(names) > NAMED
        return f"{len(names)} of {count} ways" if many else joined(map(Code, names))

    said = joined([(SAID[v], " ", told(v, names)) for v, names in found.items() if names], "; ")
    same = len(twice(rows))
    return (said, " (", same, " of them with the answers of another in every world)") if same else said


def subset(rows: Sequence[Row]) -> Phrase:
    """One clause about chosen rows, by kind: how they came out; controls and theorems apart from what is counted."""
    rest = [r for r in rows if r["kind"] not in INFORMATIVE]
    late = [(part, " (not declared before the run)") for part in came_out(undeclared(rows))]
    return joined([*came_out(judge.informative(rows)), *late, *came_out(rest)], "; ")
