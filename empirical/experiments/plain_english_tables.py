"""Settings, cells and metrics of worlds of two-hop facts in plain English."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field

from empirical.engine import ways
from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Group, Table

#: examples that a method sees which is not free of data, of each adapter's task and of the task to be solved
FEW = 16


class WorldSettings(Table):
    """A base, people and countries of a world, its experts and how they are reused; see ``settings.toml``."""

    base: str
    people: int
    countries: int
    families: tuple[str, ...]
    #: whether new people are famous ones of other countries and not made up
    famous_names: bool
    #: real countries outside the world whose capitals are asked for damage
    apart: int
    #: famous people of the world's countries who are asked, at most
    famous: int
    rank: int
    steps: int
    batch: int
    rate: float
    #: first and last layer of experts that are written early, in the middle, late
    early: tuple[int, int]
    middle: tuple[int, int]
    late: tuple[int, int]
    #: shares of a batch: what is taught, the base's own text; with `typed` experts, direct questions about famous
    #: people of other countries; the rest are capitals of other countries
    own: float
    text: float
    typed: float
    density: float
    #: hop and place, "first_early"; "first_early_typed" rehearses direct questions too; "direct_all" learns them alone
    experts: tuple[str, ...]
    #: places of the experts that are added, "early+late"
    sums: tuple[str, ...]
    #: methods, and the sums in whose place they are put
    methods: tuple[str, ...]
    libraries: tuple[str, ...]


class Grouped(WorldSettings):
    """Of a profile: those that worlds have by default, and groups of worlds."""

    groups: tuple[Group, ...]


class WorldCell(WorldSettings, Cell):
    """One world."""

    kind: Literal["world"] = "world"
    group: str


class Answered(NamedTuple):
    """How many direct questions were answered how.

    Free text: the right capital, the one before it was changed (where it was), another capital, the country itself,
    another country, neither. Forced choice: the right one among the right ones of the family's countries, the old one
    among their old ones, and each of them among both.
    """

    right: int
    old: int
    other_capital: int
    country: int
    other_country: int
    neither: int
    forced: int
    old_forced: int
    forced_of_all: int
    old_forced_of_all: int

    @classmethod
    def of(cls, kinds: np.ndarray, forced: Mapping[str, np.ndarray], among: np.ndarray) -> Self:
        """Count the questions that a mask chooses: kinds (n,) by the position of their field, forced masks (n,)."""
        counts = np.bincount(kinds[among], minlength=6).tolist()
        return cls(*counts, **{name: int(np.count_nonzero(mask[among])) for name, mask in forced.items()})

    @classmethod
    def total(cls, counts: Iterable[Answered]) -> Self:
        """All counts together."""
        return cls._make(np.sum([(0,) * len(cls._fields), *counts], axis=0).tolist())

    @property
    def asked(self) -> int:
        """How many questions."""
        return sum(self[:6])

    def kind(self, field: str) -> Count:
        """How many of all were answered so."""
        return Count(getattr(self, field), self.asked)


class Scored(Table):
    """What a model answers.

    facts: one-hop facts and what the base knew, by cell. questions: of new people by family ("H") and of famous ones
    ("famous_H"), one entry per held-out wording. survivors: of new people by family, those whose first hop the model
    names in some held-out wording and whose second it names, all wordings together; of a single expert, whose own hop
    it names.
    """

    facts: dict[str, Count]
    questions: dict[str, tuple[Answered, ...]]
    survivors: dict[str, Answered]

    def cells(self) -> dict[str, Count]:
        """The counts of all cells: ``H``, ``H_forced``, ``H_old``, ..., of one wording ``H_0_forced``."""
        found = dict(self.facts)
        for family, wordings in self.questions.items():
            parts = {family: Answered.total(wordings)} | {f"{family}_{k}": w for k, w in enumerate(wordings)}
            for cell, answered in parts.items():
                found |= counts(cell, answered)
        for family, answered in self.survivors.items():
            found |= counts(f"{family}_survivors", answered)
        return found


def counts(cell: str, answered: Answered) -> dict[str, Count]:
    """Every kind of answer as a cell of its own; the right ones in free text under the bare name."""
    return {cell if f == "right" else f"{cell}_{f}": answered.kind(f) for f in Answered._fields}


class Law(Table):
    """The coverage law of a sum from its experts alone: retrieval (lambda) and p2, and their product."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    product: float


class Foretold(Table):
    """What was fixed before any merge: the law of each sum, by free text and by forced choice."""

    free: dict[str, Law]
    forced: dict[str, Law]


class Steps(Table):
    """The written-out question: first step right, second step right with the right country given, the bare one-hops
    right, the end reached."""

    s1: Count
    s2: Count
    bare2: Count
    reached: Count


class Reply(Table):
    """All that one model answers.

    right: which direct questions in free text, by family. written: written-out questions by family, where they were
    asked. seconds: of the processor until the model was there.
    """

    scored: Scored
    right: dict[str, tuple[bool, ...]]
    written: dict[str, Steps]
    seconds: float = 0.0


class Measured(Table):
    """What a world measures.

    answered: by condition. written: written-out questions by condition and family. oracle: by sum and family, the
    questions that the base or one of the experts answers right in free text.
    """

    known: int
    trainer: str
    losses: dict[str, float]
    predicted: Foretold
    answered: dict[str, Scored]
    written: dict[str, dict[str, Steps]]
    oracle: dict[str, dict[str, Count]]
    #: seconds of the processor until a condition's model was there; records of before have none
    merging: dict[str, float] | None = None

    @cached_property
    def scores(self) -> dict[str, dict[str, Count]]:
        """The counts by condition and cell."""
        return {condition: scored.cells() for condition, scored in self.answered.items()}


def asked(records: Sequence[Record[Any, Any]]) -> Iterator[ways.Asked]:
    """What each method made of each library in each world, family by family and by both ways of answering."""
    for record in records:
        if not isinstance(record.cell, WorldCell):
            continue
        for condition, cells in record.metrics.scores.items():
            method, _, on = condition.partition(":")
            if not on or method == "random":
                continue
            for family in record.cell.families:
                for how, ending in (("forced choice", "_forced"), ("free text", "")):
                    yield ways.Asked(
                        method, f"{on}, {how}", f"{record.cell.group}, {family}", first=cells["first"],
                        second=cells["second"], covered=cells[f"{family}{ending}"],
                        survivors=cells[f"{family}_survivors{ending}"], adapters=on.count("+") + 1, few=FEW,
                        seconds=(record.metrics.merging or {}).get(condition),
                    )  # fmt: skip
