"""The tables of paper and page as data: where each claim stands, groups of predictions, scores, settings, environments.

Templates set them; a table that stands in both is made here once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from empirical.engine.catalogue import load
from empirical.engine.declaration import declared
from empirical.engine.judge import Row
from empirical.engine.records import RESULTS
from empirical.engine.show import spans
from empirical.engine.spread import Spread
from empirical.engine.spread import table as split
from empirical.engine.ways import SHARES, Way
from empirical.ladder import checks_of, experiments_of
from paper import words
from paper.evidence import RUNGS, Evidence, Run, commit
from paper.graph import layout
from paper.keys import RUN_FIELDS, UnknownKey, cell_rates, dig, kind_of, select
from paper.words import Code, Number, Phrase, joined
from theory.claims import Claim
from theory.provenance import short
from theory.verify.formal import CLOSED, Printed
from theory.verify.status import ResultData

#: a mark on a rung: sign, words
MARKS = {"yes": ("●", "yes"), "part": ("◐", "in part"), "no": ("○", "not checked"), "fail": ("✗", "FAILED"),
         "none": ("–", "none planned")}  # fmt: skip


# ---------------------------------------------------------------- methods


class Compared(NamedTuple):
    """Methods of an experiment on the same experts."""

    experts: str
    #: the shares of :data:`~empirical.engine.ways.SHARES` that were asked of any
    shares: list[str]
    ways: list[Way]


def methods(evidence: Evidence) -> dict[str, list[Compared]]:
    """Experiment -> its methods, asked three ways, by experts; of the experiments that compare any."""
    found = {run.experiment: _compared(run.ways) for run in evidence.first_runs}
    return {name: tables for name, tables in found.items() if tables}


def _compared(ways: Sequence[Way]) -> list[Compared]:
    found: dict[str, list[Way]] = {}
    for way in ways:
        found.setdefault(f"{way.group}; {way.on}", []).append(way)
    return [Compared(experts, [s for s in SHARES if any(getattr(w, s) for w in mine)], mine)
            for experts, mine in found.items()]  # fmt: skip


def spread(run: Run) -> list[Spread]:
    """What training and what the world adds to the differences between worlds, where an experiment repeats training."""
    repeats = load(run.experiment).repeats
    return [] if repeats is None else split(repeats(run.records))


# ---------------------------------------------------------------- claims


@dataclass(frozen=True)
class Standing:
    """Where a claim stands."""

    claim: Claim
    #: rung -> key of :data:`MARKS`
    marks: Mapping[str, str]
    #: the verification, layer by layer
    layers: Mapping[str, ResultData]
    #: what a check measured; empty if nothing
    figure: Phrase
    #: the judged predictions of it
    rows: Sequence[Row]
    #: its experiments that are not finished
    unfinished: Sequence[str]
    #: claims that rest on it
    above: Sequence[str]

    def checks(self) -> list[tuple[str, str, str]]:
        """(kind, reference, status) of every check."""
        kinds = (("symbolic", "symbolic", self.claim.symbolic), ("numeric", "numeric", self.claim.numeric),
                 ("real adapters", "numeric", checks_of(self.claim.id)))  # fmt: skip
        return [
            (kind, reference, self._part(layer, reference.partition(":")[2]))
            for kind, layer, references in kinds for reference in references
        ]  # fmt: skip

    def proof(self, theorem: str) -> str:
        """The status of a theorem."""
        return self._part("formal", theorem)

    def mark(self, rung: str) -> tuple[str, str, str]:
        """(key of :data:`MARKS`, sign, words); for what is proved the words count sentences, as in 4/5."""
        key, formal = self.marks[rung], self.layers["formal"]
        sign, said = MARKS[key]
        counted = rung == "proved" and key in ("yes", "part")
        return key, sign, f"{formal['proved']}/{formal['sentences']}" if counted else said

    def formal(self, theorem: Printed) -> str:
        """The statement as Coq printed it, moved to the left."""
        first, *others = theorem.statement.splitlines()
        return "\n".join([re.sub("^     : ", "  ", first), *(line.rstrip().removeprefix("     ") for line in others)])

    def _part(self, layer: str, name: str) -> str:
        status = self.layers[layer]["parts"].get(name, self.layers[layer]["status"])
        return {"pass": "passed", "fail": "FAILED"}.get(status, status.replace("_", " "))


def standings(evidence: Evidence) -> dict[str, Standing]:
    """Every claim of the registry, in its order."""
    rows = [row for run in evidence.first_runs for row in run.rows]
    found = {}
    for c in evidence.claims.values():
        figure = evidence.figure(c.id)
        said = (figure.name, ": ", Number(figure.value), " ", figure.unit) if figure else ""
        found[c.id] = Standing(
            c, evidence.rungs(c.id), evidence.verification["claims"][c.id], said,
            [row for row in rows if row["claim"] == c.id],
            [e for e in experiments_of(c.id) if evidence.run(e) is None],
            [other.id for other in evidence.claims.values() if c.id in other.uses],
        )  # fmt: skip
    return found


def by_topic(evidence: Evidence) -> list[tuple[str, list[Standing]]]:
    """(topic, its claims) in the registry's order."""
    return [(topic, list(mine)) for topic, mine in groupby(standings(evidence).values(), lambda s: s.claim.topic)]


def ladder(evidence: Evidence) -> dict[str, object]:
    """What the ladder, the graph and the list of claims are made of."""
    return {"topics": by_topic(evidence), "rungs": RUNGS, "statements": evidence.statements,
            "graph": layout(evidence.claims), "closed": CLOSED}  # fmt: skip


# ---------------------------------------------------------------- predictions


def groups(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """(claim, kind) -> its judged predictions."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["claim"], row["kind"]), []).append(row)
    return found


class Scores(NamedTuple):
    """Mean rates over worlds: a line per condition, a column per named count."""

    worlds: int
    heads: Sequence[str]
    lines: Sequence[tuple[str, Sequence[Phrase]]]


def scores(run: Run, selector: str, path: str, rows: str, columns: str) -> Scores:
    """The conditions under `path` that are named (`*` for all) and have one of the columns.

    Raises:
        UnknownKey: no such kind of cell, condition or count.
    """
    records = select(run, selector)
    names = [c.strip() for c in columns.split(",")]
    conditions = dict.fromkeys(
        name for r in records for name, value in dig(r["metrics"], [path]).items() if isinstance(value, Mapping)
    )
    wanted = list(conditions) if rows == "*" else [c.strip() for c in rows.split(",")]
    for condition in wanted:
        if condition not in conditions:
            raise UnknownKey(f"{condition}: expected a condition in the results of {run.experiment}, got none such")
    lines = []
    for condition in wanted:
        found = [cell_rates(records, [path, condition, name]) for name in names]
        if any(found):
            shown = [Number(round(words.mean(f), 2)) if f else None for f in found]
            lines.append((condition.replace("_", " "), shown))
    if not lines:
        raise UnknownKey(f"{columns}: expected names of counts in the results of {run.experiment}, got none such")
    return Scores(len(records), [n.replace("_", " ") for n in names], lines)


class Strip(NamedTuple):
    """A drawing of one prediction, 240 wide: places of what it shows, and the ends of its scale."""

    band: tuple[float, float]
    goal: float
    #: ends of the interval of the row by itself; none for a theorem
    interval: Sequence[float]
    worlds: Sequence[float]
    mean: float
    low: float
    high: float
    #: whether it shows the difference from a prediction that differs from world to world
    difference: bool


def allowed(row: Row, goal: float) -> tuple[float, float]:
    """Where the outcome has to lie for the prediction to hold."""
    slack = row["margin"] if row["kind"] == "exact" or row["relation"] == "equal" else 0.0
    low = -math.inf if row["relation"] == "at_most" else goal - slack
    return low, goal + slack if row["relation"] in ("at_most", "equal") else math.inf


def strip(row: Row) -> Strip | None:
    """Where the outcome should lie, one dot per world, interval and mean; None if nothing was asked."""
    values, goal, difference = words.rates(row), words.target(row), words.by_world(row)
    if difference:
        pairs = zip(map(words.rate, row["worlds"]), words.targets(row), strict=True)
        values, goal = [v - p for v, p in pairs if not math.isnan(v)], 0.0
    if not values:
        return None
    band = allowed(row, goal)
    interval = None if row["kind"] == "exact" else row["interval"]
    shown = [*values, goal, *(v for v in interval or () if v is not None), *(v for v in band if math.isfinite(v))]
    share = all(isinstance(w, (list, tuple)) for w in row["worlds"]) and not difference
    if share and min(shown) >= 0 and max(shown) <= 1:
        low, high = 0.0, 1.0
    else:
        pad = 0.06 * (max(shown) - min(shown)) or 0.5 * abs(goal) or 0.5
        low, high = min(shown) - pad, max(shown) + pad

    def place(value: float) -> float:
        return 8 + 224 * (min(max(value, low), high) - low) / (high - low)

    ends = [place(side if end is None else end) for end, side in zip(interval or (), (low, high), strict=False)]
    return Strip((place(band[0]), place(band[1])), place(goal), ends, [place(v) for v in values],
                 place(words.mean(values)), low, high, difference)  # fmt: skip


# ---------------------------------------------------------------- runs


class Setting(NamedTuple):
    """A kind of cell: what varies between its cells, what they share."""

    kind: str
    cells: int
    varied: Phrase
    same: Phrase


def settings(run: Run) -> list[Setting]:
    """Configurations as the records' cells have them."""
    found = []
    for kind in dict.fromkeys(map(kind_of, run.cells)):
        mine = [cell for cell in run.cells if kind_of(cell) == kind]
        same: list[Phrase] = []
        varied: list[Phrase] = []
        for name in dict.fromkeys(n for c in mine for n in c if n not in ("kind", "part")):
            values: list[Any] = [c.get(name) for c in mine]
            label = name.replace("_", " ")
            if all(v == values[0] for v in values):
                same.append((label, " ", words.setting(values[0])))
            elif name == "seed":
                varied.append(("seeds ", spans(values)))
            else:
                each = dict.fromkeys(words.setting(v) if v is not None else None for v in values)
                varied.append((label, ": ", joined(each, " / ")))
        found.append(Setting(kind, len(mine), joined(varied, "; "), joined(same, "; ")))
    return found


class Declaration(NamedTuple):
    """What a run was declared by: the hash in its records, the commit that declared it, the commits whose declarations
    that one replaced, marked where worlds had run under them; no commit where the history of the records is not
    there, nothing where the run was not declared."""

    said: Phrase = None
    commit: Phrase = None
    replaced: Phrase = None


def declarations(evidence: Evidence) -> dict[str, Declaration]:
    """Run by name -> its declaration.

    Raises:
        RecordError: a record was made at a commit before which its declaration was not committed.
    """
    found = {}
    for run in evidence.all_runs:
        made = sorted({(r["declaration"], r["commit"]) for r in run.records if r["declaration"]})
        there = [declared(*pair, RESULTS / run.experiment / run.profile) for pair in made]
        said: list[Phrase] = [Code(made[0][0])] if made else []
        for first in [d for d in there[:1] if d]:
            before = [(Code(short(c)), " *" if seen else "") for c, seen in first.replaced]
            said += [Code(short(first.commit)), joined(before) or None]
        found[run.name] = Declaration(*said)
    return found


class Made(NamedTuple):
    """Where and with what a run, or the verification, was made."""

    name: Phrase
    where: str
    seeds: Phrase
    cells: Phrase
    commit: str
    minutes: Number


def verification(evidence: Evidence) -> Made:
    """Where and with what the rungs were computed."""
    e = evidence.verification["environment"]
    where = f"{e['platform']}, {e['cores']} cores; {_versions(e)}; {e['coq'] or 'no Coq'}"
    return Made("verification", where, None, None, commit(e), Number(e["seconds"] / 60, 2))


def environments(evidence: Evidence) -> dict[str, list[Made]]:
    """Device and versions -> what was made there: the verification and every run, with seeds, commits and times."""
    first = verification(evidence)
    found = {first.where: [first]}
    for run in evidence.all_runs:
        each: dict[str, int] = {}
        for r in run.records:
            where = f"{r['device']}; {_versions(r['environment'])}"
            each[where] = each.get(where, 0) + 1
        where = "; ".join(f"{where} ({cells} cells)" if len(each) > 1 else where for where, cells in each.items())
        made = Made((Code(run.experiment), f", {run.profile}"), where, spans(run.seeds), len(run.records), run.commits,
                    RUN_FIELDS["minutes"](run))  # fmt: skip
        found.setdefault(where, []).append(made)
    return found


def _versions(environment: Mapping[str, Any]) -> str:
    packages = (f"{name} {version}" for name, version in environment["packages"].items())
    return ", ".join([f"Python {environment['python']}", *packages])
