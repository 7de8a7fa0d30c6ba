"""Settings, cells and metrics of word_problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from empirical.engine.eager import Sealed
from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Group, Table
from empirical.engine.ways import Asked
from empirical.reuse.methods import FORMER


class WorldSettings(Table):
    """A base, its experts and the methods by which they are reused; see ``settings.toml``."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    base_rows: int
    base_steps: int
    base_batch: int
    base_rate: float
    adapter_rows: int
    adapter_steps: int
    adapter_batch: int
    rank: int
    rate: float
    density: float
    #: asked per cell of the questions
    questions: int = Field(ge=1)
    experts: tuple[str, ...]
    methods: tuple[str, ...]


class Worlds(Group):
    """A group of worlds; `composed`: whether the base's direct stories have two clauses."""

    composed: bool


class Settings(WorldSettings):
    """Of a profile: those that worlds have by default, and the groups."""

    groups: tuple[Worlds, ...]


class WorldCell(WorldSettings, Cell):
    """One world."""

    group: str
    composed: bool


class Law(Table):
    """The coverage law of one order: retrieval (lambda) and p2 of the experts alone, and what follows for the sum."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    low: float


class Foretold(Table):
    """What was fixed before any merge, by order of the skills; oracle: routing to one adapter, share right."""

    coverage_law: Sealed[dict[str, Law]]
    oracle: Sealed[dict[str, float]]


class Steps(Table):
    """Both worked steps, the second after the right first, and the bounds for both together."""

    s1: Count
    s2: Count
    lower: float
    independent: float


class Chain(Table):
    """Worked steps by order of the skills: what was foretold, what was reached."""

    predicted: Sealed[dict[str, Steps]]
    reached: dict[str, Count]


class World(Table):
    """What a world measures: losses, scores by condition and cell of the questions, what was foretold, chains."""

    trainer: str
    losses: dict[str, float]
    scores: dict[str, dict[str, Count]]
    predicted: Foretold
    chains: dict[str, Chain]


def asked(records: Sequence[Record[Any, Any]]) -> Iterator[Asked]:
    """What each method made of the two skills in each world; both orders of two clauses together.

    Covered are stories of two clauses where the base composes clauses of its own.
    """
    for record in records:
        for method, cells in record.metrics.scores.items():
            if method in ("base", "A", "B", "random_first"):
                continue
            both = Count.total([cells["AB"], cells["BA"]])
            covered, uncovered = (both, None) if record.cell.composed else (None, both)
            yield Asked(
                FORMER.get(method, method), "A, B", record.cell.group, first=cells["A"], second=cells["B"],
                covered=covered, uncovered=uncovered,
            )  # fmt: skip
