"""Settings, cells and metrics of coverage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Group, Table
from empirical.engine.spread import Repeats
from empirical.engine.ways import Asked
from empirical.experiments.known import KnownSettings

#: placements of the constructed stack that compose, and all of them
COMPOSING = ("early_late", "early_early_memory", "late_early_memory")
PLACEMENTS = ("late_late", "early_early", "late_early", *COMPOSING)


class StackSettings(Table):
    """Of the constructed two-layer stack."""

    worlds: int
    bridges: int
    values: int
    people: int


class WorldSettings(KnownSettings):
    """A world, its base, the experts that are trained on it and the methods by which they are reused."""

    coverage_by: Literal["bridge", "relation"]
    adapter_steps: int
    adapter_batch: int
    rank: int
    #: layers of experts that are written early, and late
    early: tuple[int, ...]
    late: tuple[int, ...]
    #: learning rates: of every adapter, whatever its layers; of new embedding rows; of full fine-tuning
    rate: float
    rate_rows: float
    rate_everything: float
    density: float
    alpha_layer: int
    kappa_layer: int
    #: how many sets of experts are trained on each base, with seeds of their own
    sets: int
    #: how many new x changed questions are asked for their second derivative
    curved: int
    experts: tuple[str, ...]
    methods: tuple[str, ...]
    methods_placed: tuple[str, ...]
    #: whether both hops are also written on each single layer
    scan: bool


class Worlds(Group):
    """A group of worlds at each level of coverage."""

    coverage: tuple[float, ...]


class Settings(WorldSettings):
    """Of a profile: those that worlds have by default, the stack and the groups."""

    stack: StackSettings
    groups: tuple[Worlds, ...]


class StackCell(Cell):
    """The stack under one placement."""

    kind: Literal["stack"] = "stack"
    placement: str
    bridges: int
    values: int
    people: int


class WorldCell(WorldSettings, Cell):
    """One world."""

    kind: Literal["world"] = "world"
    group: str
    coverage: float


class Stack(Table):
    """Right answers of the stack; the best of answers that are blind to the bridge."""

    first_hop: Count
    second_hop: Count
    two_hop: Count
    bridge_blind: Count


class Answered(NamedTuple):
    """How many two-hop questions were answered how: the right value, the bridge itself, the value before the change,
    another value, another bridge, neither; and how many by the right value where only values may be named (forced)."""

    right: int
    bridge: int
    old_value: int
    other_value: int
    other_bridge: int
    neither: int
    forced: int

    @classmethod
    def of(cls, kinds: np.ndarray, forced: np.ndarray, among: np.ndarray) -> Self:
        """Count the questions that a mask chooses; kinds (n,) by the position of their field, forced (n,) a mask."""
        counts = np.bincount(kinds[among], minlength=len(cls._fields) - 1).tolist()
        return cls._make([*counts, int(np.count_nonzero(forced[among]))])

    @classmethod
    def total(cls, counts: Iterable[Answered]) -> Self:
        """All counts together."""
        return cls._make(np.sum([(0,) * len(cls._fields), *counts], axis=0).tolist())

    @property
    def free(self) -> Count:
        """Right by the largest logit of the whole vocabulary, of all that were asked."""
        return Count(self.right, sum(self[:-1]))

    @property
    def choice(self) -> Count:
        """Right by the largest logit of the values, of all that were asked."""
        return Count(self.forced, sum(self[:-1]))


class Survivors(Table):
    """Of some questions: those whose first hop the model answers, whose second hop, and how those with both."""

    first: Count
    second: Count
    both: Answered


class Scored(Table):
    """A model's answers: one-hop facts; two-hop questions by cell; of new x changed ones the survivors."""

    facts: dict[str, Count]
    questions: dict[str, Answered]
    survivors: dict[str, Survivors]


class Law(Table):
    """The coverage law of a pair: retrieval (lambda) and p2 of the experts alone, and what follows for the sum."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    covered: float
    low: float
    high: float


class Foretold(Table):
    """What was fixed before any merge; `coverage_law`: by set of experts, of the pairs of which something was asked."""

    coverage_law: tuple[dict[str, Law], ...]
    oracle_ceiling: float
    additive_ceiling: float
    bridge_blind: float

    def law(self, pair: str) -> Law | None:
        """The law of a pair, every field the mean over the sets; None where nothing could be asked."""
        found = [laws[pair] for laws in self.coverage_law if pair in laws]
        fields = {name: sum(getattr(law, name) for law in found) / len(found) for name in Law.model_fields if found}
        return Law(**fields) if found else None


class Steps(Table):
    """The written-out question: first step right, last step right with the right bridge given, the bare one-hops right,
    the end reached."""

    s1: Count
    s2: Count
    bare1: Count
    bare2: Count
    reached: Count

    @classmethod
    def total(cls, steps: Iterable[Steps]) -> Self:
        """All counts together."""
        found = list(steps)
        return cls(**{name: Count.total(getattr(s, name) for s in found) for name in cls.model_fields})


class Alignment(Table):
    """AUC of alpha and kappa for what is answered, and of the answer's confidence; None below three of either."""

    alpha_covered: float | None
    alpha_covered_confidence: float | None
    alpha_any: float | None
    alpha_any_confidence: float | None
    kappa_covered: float | None
    kappa_covered_confidence: float | None
    kappa_any: float | None
    kappa_any_confidence: float | None

    def both(self, score: str) -> tuple[float, float] | None:
        """(AUC of the score, AUC of the confidence) over covered bridges, if both are known."""
        value, confidence = getattr(self, f"{score}_covered"), getattr(self, f"{score}_covered_confidence")
        return None if value is None or confidence is None else (value, confidence)


class Additive(Table):
    """New x changed questions: answered by f(U1) + f(U2) - f(0), by the sum; `carried` by the sum alone; `within`: of
    these, margin at most 2 max|I|."""

    additive: Count
    together: Count
    carried: Count
    within: Count


class Curvature(Table):
    """Mixed second derivative of the logits of f(s U1 + t U2) on some new x changed questions.

    decided: margin of the sum above twice its largest value on the grid s, t in {0, 1/2, 1}, so that the additive part
    gives the answer; agree: of these, the additive part does. residual: relative error (Frobenius) of the derivative
    at 0 as the interaction f(U1 + U2) - f(U1) - f(U2) + f(0).
    """

    decided: Count
    agree: Count
    residual: float


class Pair(Table):
    """Two experts reused together; `oracle` is one-adapter routing by an oracle."""

    written: dict[str, Steps]
    alignment: Alignment | None = None
    additive: Additive
    oracle: Count
    curvature: Curvature | None = None


class Queries(Table):
    """How many new persons, and how many queries of the headline cell."""

    new_persons: int
    headline: int


class HeldOut(Table):
    """Held-out two-hop questions that the base answers, by bridge."""

    covered: Count
    uncovered: Count


class Experts(Table):
    """What happened with one set of experts.

    scores: by condition. trace: facts of both experts kept by the first on all layers plus the second's part on one
    layer (``only_2``) or on all others (``without_2``).
    """

    losses: dict[str, float]
    scores: dict[str, Scored]
    pairs: dict[str, Pair]
    trace: dict[str, dict[str, Count]]


class Measured(Table):
    """What happened in one world.

    scores: by condition and cell, all sets together: one-hop facts, two-hop questions, with ``_forced`` by forced
    choice among the values, with ``_survivors`` those whose two hops the condition answers one by one.
    """

    trainer: str
    base_loss: float
    held_out_questions: HeldOut
    queries: Queries
    predicted: Foretold
    scores: dict[str, dict[str, Count]]
    base: Scored
    sets: tuple[Experts, ...]
    #: seconds of the processor until a condition's model was there, mean over the sets; records of before have none
    merging: dict[str, float] | None = None

    def answered(self, condition: str, cell: str) -> Answered:
        """Questions of a cell by kind of answer, all sets together."""
        return Answered.total(experts.scores[condition].questions[cell] for experts in self.sets)


#: examples of each kind that a method which is not data-free is shown
FEW = 16
#: conditions of the table of methods that merge nothing: both hops at once by one adapter
TOGETHER = ("joint", "joint_bridge", "direct")


def asked(records: Sequence[Record[Any, Any]]) -> Iterator[Asked]:
    """What each method made of each pair of experts in each world, all sets of experts together.

    Of a library, whose third expert was shown the answers of some people, the others are asked.
    """
    for record in records:
        if not isinstance(record.cell, WorldCell):
            continue
        for condition, cells in record.metrics.scores.items():
            method, _, on = condition.partition(":")
            if (on and method != "random_first") or method in TOGETHER:
                unseen = on == "library"
                yield Asked(
                    method, on or "one adapter", f"{record.cell.group}, c = {record.cell.coverage:g}",
                    first=cells["first_new"], second=cells["second_changed"],
                    covered=cells["new_changed_unseen" if unseen else "new_changed_covered"],
                    uncovered=cells["new_changed_unseen_uncovered" if unseen else "new_changed_uncovered"],
                    survivors=None if unseen else cells["new_changed_covered_survivors"],
                    seconds=(record.metrics.merging or {}).get(condition), adapters=3 if unseen else 2, few=FEW,
                )  # fmt: skip


#: of which training and world are told apart: condition, cell, words
REPEATED = (
    ("first_early", "new_unchanged_covered", "λ of the early first hop"),
    ("second_late", "old_changed_covered", "p₂ of the late second hop"),
    ("sum:placed", "new_changed_covered", "early + late, covered bridges"),
    ("sum:rows", "new_changed_covered", "new embeddings + late, covered bridges"),
    ("sum:all", "new_changed_covered", "all + all, covered bridges"),
    ("sum:placed", "new_changed_uncovered", "early + late, uncovered bridges"),
)


def repeats(records: Sequence[Record[Any, Any]]) -> Iterator[Repeats]:
    """Two-hop questions by world and set of experts, where a base has several sets."""
    worlds = [r.metrics for r in records if isinstance(r.metrics, Measured) and len(r.metrics.sets) > 1]
    for condition, cell, what in REPEATED:
        found = [[e.scores[condition].questions[cell].free.rate for e in world.sets] for world in worlds]
        if len(found) > 1:
            yield Repeats(what, found)


def scores(scored: Mapping[str, Sequence[Scored]]) -> dict[str, dict[str, Count]]:
    """`Measured.scores`, of what every set scored in a condition."""
    found: dict[str, dict[str, Count]] = {}
    for condition, parts in scored.items():
        cells = found[condition] = {}
        for hop in parts[0].facts:
            cells[hop] = Count.total(s.facts[hop] for s in parts)
        for cell in parts[0].questions:
            answered = Answered.total(s.questions[cell] for s in parts)
            cells[cell], cells[f"{cell}_forced"] = answered.free, answered.choice
        for cell in parts[0].survivors:
            cells[f"{cell}_survivors"] = Answered.total(s.survivors[cell].both for s in parts).free
    return found
