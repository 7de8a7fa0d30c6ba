"""The same predictions under two profiles, each in worlds of its own: how their verdicts and means agree.

The two runs stand side by side; no number is made of the worlds of both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import variance
from typing import NamedTuple

from empirical.engine.catalogue import JUDGED
from empirical.engine.judge import ERROR, Row, informative
from empirical.engine.records import canonical
from paper import words
from paper.evidence import Evidence, EvidenceError, Run

#: how a pair came out -> in words; in one run alone is undecided in the other
CAME = {"both": "hold in both", "first": f"hold under {JUDGED[0]} alone", "again": f"hold under {JUDGED[1]} alone",
        "neither": "undecided in both", "violated": "violated in either"}  # fmt: skip
#: what makes two rows of one id the same prediction, beside the predicted value
FIELDS = ("claim", "kind", "relation", "margin", "says", "about")


class Pair(NamedTuple):
    """A prediction as two runs judged it."""

    first: Row
    again: Row

    @property
    def came(self) -> str:
        """The key of :data:`CAME`."""
        verdicts = self.first["verdict"], self.again["verdict"]
        if "violated" in verdicts:
            return "violated"
        held = [verdict == "holds" for verdict in verdicts]
        return "both" if all(held) else "first" if held[0] else "again" if held[1] else "neither"

    @property
    def predicted(self) -> words.Phrase:
        """What was said, of each run where it differs."""
        return words.joined(dict.fromkeys(map(words.predicted, self)), "; ")

    @property
    def means(self) -> tuple[float, float]:
        """Of each run over its worlds."""
        return words.mean(words.rates(self.first)), words.mean(words.rates(self.again))

    @property
    def difference(self) -> float:
        """Between the means; NaN where a world lies outside -1 to 1, the range of shares and what is made of them."""
        small = all(abs(x) <= 1 for row in self for x in words.rates(row))
        return abs(self.means[0] - self.means[1]) if small else math.nan

    @property
    def apart(self) -> bool:
        """Whether the means differ by more than the spread of worlds explains, by Welch's t test of this row alone."""
        from scipy.stats import t

        found = [words.rates(row) for row in self]
        if min(map(len, found)) < 2:
            return False
        errors = [variance(rates) / len(rates) for rates in found]
        gap = abs(self.means[0] - self.means[1])
        if not sum(errors):
            return gap > 0
        degrees = sum(errors) ** 2 / sum(e**2 / (len(rates) - 1) for e, rates in zip(errors, found, strict=True))
        return bool(2 * t.sf(gap / math.sqrt(sum(errors)), degrees) <= ERROR)


@dataclass(frozen=True)
class Replication:
    """An experiment under two profiles: what both judged of what was declared before its run."""

    first: Run
    again: Run
    pairs: Sequence[Pair]

    def count(self, came: str) -> int:
        """How many came out so."""
        return sum(pair.came == came for pair in self.pairs)

    @property
    def apart(self) -> int:
        """How many have means further apart than their worlds explain."""
        return sum(pair.apart for pair in self.pairs)

    @property
    def worlds(self) -> list[words.Phrase]:
        """Of each run: how many a row has, the fewest and the most where rows differ."""
        found = [{len(words.rates(row)) for row in side} for side in zip(*self.pairs, strict=True)]
        return [max(n) if len(n) == 1 else (min(n), "–", max(n)) for n in found]

    @property
    def widest(self) -> Pair | None:
        """The pair with the largest difference."""
        known = [pair for pair in self.pairs if not math.isnan(pair.difference)]
        return max(known, key=lambda pair: pair.difference, default=None)

    @property
    def open(self) -> list[Pair]:
        """Those that do not hold in both."""
        return [pair for pair in self.pairs if pair.came != "both"]


def _pair(first: Row, again: Row) -> Pair:
    """Two rows of one id.

    Raises:
        EvidenceError: they are not the same prediction; what is predicted of each world may differ with the worlds.
    """
    by_world = all(isinstance(row["predicted"], list) for row in (first, again))
    for field in FIELDS if by_world else (*FIELDS, "predicted"):
        said: list[object] = [row[field] for row in (first, again)]  # type: ignore[literal-required]
        if said[0] != said[1]:
            raise EvidenceError(f"{first['experiment']}, {first['id']}: expected the same prediction under both"
                                f" profiles, got another {field}: {said[0]} and {said[1]}")  # fmt: skip
    return Pair(first, again)


def _alike(first: Run, again: Run) -> bool:
    """Whether the cells of one are those of the other, or some of them, but for the seeds."""
    cells = [{canonical({**cell, "seed": None}) for cell in run.cells} for run in (first, again)]
    return cells[0] <= cells[1] or cells[1] <= cells[0]


def unlike(evidence: Evidence) -> list[str]:
    """Experiments that are finished under two profiles, at settings that differ in more than the seeds."""
    return [name for name, runs in evidence.runs.items() if not all(_alike(*two) for two in pairwise(runs))]


def replications(evidence: Evidence) -> list[Replication]:
    """Every experiment that is finished under two profiles at the same settings, and what both judged.

    Raises:
        EvidenceError: a prediction is another one under the second profile, or a world stands in both runs.
    """
    found = []
    for first, again in (two for runs in evidence.runs.values() for two in pairwise(runs)):
        if not _alike(first, again):
            continue
        if same := sorted({*first.seeds} & {*again.seeds}):
            raise EvidenceError(f"{again.name}: expected other worlds than under {first.profile}, got seed {same[0]}"
                                " in both")  # fmt: skip
        rows = {row["id"]: row for row in informative(again.rows)}
        found.append(Replication(first, again, [
            _pair(row, rows[row["id"]]) for row in informative(first.rows) if row["id"] in rows
        ]))  # fmt: skip
    return [one for one in found if one.pairs]


def counts(found: Sequence[Replication]) -> Mapping[str, int]:
    """Over all of them: experiments, pairs, how they came out, what held in the first run, what is apart."""
    pairs = [pair for one in found for pair in one.pairs]
    return {
        "experiments": len(found),
        "rows": len(pairs),
        **{came: sum(one.count(came) for one in found) for came in CAME},
        "held": sum(pair.first["verdict"] == "holds" for pair in pairs),
        "apart": sum(one.apart for one in found),
    }
