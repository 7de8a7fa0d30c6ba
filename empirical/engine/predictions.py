"""What an experiment says before it runs: one verb a kind, one keyword a relation, an alternative that would refute it.

::

    said = Predictions("headline")
    half = Alternative("half of them are answered", mean=0.5, deviation=0.1, asked=60)
    said.control("rows", "coverage_law", "new embeddings retrieve", of=("rows", "new"), at_least=0.3)
    said.hypothesis("blind", "coverage_law", "no better than blind", of=("sum", "new"), at_most=0.2, unless=half)

Nothing here has seen a result: a prediction names by `Measure` what is to be read off a world, and the judge reads it.

Kinds: *exact* (a theorem about the very numbers; a run stops where one is broken), *ceiling* (a theorem whose premises
hold in the mean), *hypothesis* (a proposed mechanism; a violation is a result), *control* (must hold, or the experiment
shows nothing). Ceilings and hypotheses are informative: each names an alternative, and is refused where the planned
worlds would miss it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Required, TypedDict, TypeVar, Unpack

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.records import Record
from empirical.engine.settings import Count
from theory.numerics import one_of, require

M = TypeVar("M")
KINDS = ("exact", "ceiling", "hypothesis", "control")
#: kinds that an outcome could refute by more than a bug
INFORMATIVE = ("ceiling", "hypothesis")
RELATIONS = {"at_most": "at_most", "at_least": "at_least", "equal": "equal", "above": "order"}
#: all records of one group with one seed
World = Sequence[Record[Any, Any]]
#: a condition and a cell of the scores
Address = tuple[str, str]


def rate(outcome: Outcome) -> float:
    """An outcome as a number; NaN where nothing was asked."""
    return outcome.rate if isinstance(outcome, Count) else float(outcome)


def pooled(outcomes: Iterable[Outcome | None]) -> Outcome | None:
    """One outcome of several of the same world: counts are added, numbers averaged; None if there is none."""
    found = [o for o in outcomes if o is not None]
    if not found:
        return None
    if all(isinstance(o, Count) for o in found):
        return Count.total(o for o in found if isinstance(o, Count))
    return math.fsum(map(rate, found)) / len(found)


@dataclass(frozen=True)
class Measure:
    """What is read off a world, under a name that stands in the declaration.

    Args:
        name: stable words.
        read: world -> a count or a number; None where nothing was asked there.
        step: of a number: one step of its own scale, the smallest deviation between worlds that is believed.
        parts: of a difference: the two measures.
    """

    name: str
    read: Callable[[World], Outcome | None] = field(compare=False, repr=False)
    step: float | None = None
    parts: tuple[Measure, ...] = ()

    def __call__(self, world: World) -> Outcome | None:
        """The outcome of a world; None where nothing was asked. Raises ValueError for a metric that is not there."""
        try:
            found = self.read(world)
        except (LookupError, AttributeError, TypeError) as error:
            raise ValueError(f"expected {self.name} in the record, got: {type(error).__name__} {error}") from error
        return None if found is None or math.isnan(rate(found)) else found

    def __sub__(self, other: Measure) -> Measure:
        """The difference of two rates, of the worlds that have both."""

        def difference(world: World) -> float | None:
            a, b = self(world), other(world)
            return None if a is None or b is None else rate(a) - rate(b)

        return Measure(f"{self.name} - {other.name}", difference, self.step, (self, other))

    def question(self, world: World, outcome: Outcome) -> float:
        """What one question is worth in a world with this outcome, where it is counted; else 0."""
        found = [m(world) for m in self.parts] or [outcome]
        return max((1 / o.asked for o in found if isinstance(o, Count)), default=0.0)


def measure(
    metrics: type[M],
    name: str,
    read: Callable[[M], Outcome | None],
    where: Callable[[Any], bool] = lambda cell: True,
    step: float | None = None,
) -> Measure:
    """What is read off the records of a world that have such metrics, pooled over them.

    Args:
        metrics: type of what a kind of cell measures.
        name: stable words, as they stand in the declaration.
        read: metrics -> a count or a number; None where nothing was asked.
        where: which cells; all by default.
        step: see `Measure`.
    """

    def of_world(world: World) -> Outcome | None:
        return pooled(read(r.metrics) for r in world if isinstance(r.metrics, metrics) and where(r.cell))

    return Measure(name, of_world, step)


def address(condition: str, cell: str) -> Measure:
    """The count at an address in the scores of a world, of all its records that have the condition."""

    def read(world: World) -> Outcome | None:
        tables = [scores for r in world if (scores := getattr(r.metrics, "scores", None))]
        return pooled(scores[condition][cell] for scores in tables if condition in scores)

    return Measure(f"{condition}, {cell}", read)


@dataclass(frozen=True)
class Prediction:
    """What is said before a run.

    Args:
        id: unique within the experiment.
        claim: id in the registry.
        kind: see the module.
        relation: outcome "at_most", "at_least" or "equal" to `predicted`; "order" says that the outcome, a difference,
            is above `predicted`.
        predicted: a number, or what is read off the single experts of each world.
        margin: for "equal": half-width within which the whole interval must lie; for "exact": rounding allowed.
        of: the outcome.
        group: of the worlds that decide.
        says: in words.
        unless: the alternative; of informative predictions alone.
        family: predictions among which Holm's step-down keeps the error rate; by default those of the claim.
        about: the method or condition that it speaks of.
    """

    id: str
    claim: str
    kind: str
    relation: str
    predicted: float | Measure
    margin: float
    of: Measure
    group: str
    says: str
    unless: Alternative | None = None
    family: str = ""
    about: str = ""

    def __post_init__(self) -> None:
        one_of(self.kind, "kind", KINDS)
        one_of(self.relation, "relation", tuple(RELATIONS.values()))
        require(self.margin >= 0, "margin", "a number >= 0", self.margin)
        object.__setattr__(self, "family", self.family or self.claim)

    @property
    def informative(self) -> bool:
        """Whether it is of a kind that an outcome could refute."""
        return self.kind in INFORMATIVE

    @property
    def difference(self) -> bool:
        """Whether outcome minus prediction is judged, since the prediction differs from world to world."""
        return isinstance(self.predicted, Measure)


class Relation(TypedDict, total=False):
    """What is said of the outcome: `of` which outcome, and one of the other keys but `within`.

    Args:
        of: an address in the scores, or a measure.
        at_most, at_least: a bound: a number, or a measure of each world.
        equal: the value; or the address of an outcome that is as high.
        above: the address of an outcome that is lower; or a number.
        within: for `equal`, the half-width within which the whole interval must lie; for what is exact, the rounding.
    """

    of: Required[Address | Measure]
    at_most: float | Measure
    at_least: float | Measure
    equal: float | Measure | Address
    above: float | Address
    within: float


class Informative(Relation, total=False):
    """And what ceilings and hypotheses need: the alternative; see `Prediction` for family and about."""

    unless: Required[Alternative]
    family: str
    about: str


class Predictions(list[Prediction]):
    """Predictions, in the order in which they are made.

    Args:
        group: of the worlds that decide; "" where cells name none.
        prefix: with which every id begins, by default the group.
        words: with what the words of every prediction begin.

    The verbs are the kinds. Two addresses that are compared become their difference.
    """

    def __init__(self, group: str = "", prefix: str | None = None, words: str = "") -> None:
        super().__init__()
        self.group, self.prefix, self.words = group, group if prefix is None else prefix, words

    def exact(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """A theorem about the very numbers: the run stops where it is broken."""
        self._make("exact", name, claim, says, **relation)

    def control(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """What must hold, or the experiment shows nothing."""
        self._make("control", name, claim, says, **relation)

    def ceiling(self, name: str, claim: str, says: str, **relation: Unpack[Informative]) -> None:
        """A theorem whose premises hold in the mean."""
        self._make("ceiling", name, claim, says, **relation)

    def hypothesis(self, name: str, claim: str, says: str, **relation: Unpack[Informative]) -> None:
        """A proposed mechanism; a violation is a result."""
        self._make("hypothesis", name, claim, says, **relation)

    def _make(
        self, kind: str, name: str, claim: str, says: str, of: Any, within: float = 0.0,
        unless: Alternative | None = None, family: str = "", about: str = "", **said: Any,
    ) -> None:  # fmt: skip
        require(len(said) == 1 and set(said) <= set(RELATIONS), name, "one of " + ", ".join(RELATIONS), sorted(said))
        ((relation, target),) = said.items()
        outcome = address(*of) if isinstance(of, tuple) else of
        if isinstance(target, tuple):
            outcome, target = outcome - address(*target), 0.0
        id_ = f"{self.prefix}.{name}" if self.prefix else name
        words = f"{self.words}: {says}" if self.words else says
        self.append(
            Prediction(id_, claim, kind, RELATIONS[relation], target, within, outcome, self.group, words, unless,
                       family, about)
        )  # fmt: skip
