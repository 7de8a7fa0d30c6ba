"""Settings, cells and metrics of word_problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field

from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Table
from empirical.engine.ways import Asked


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
    #: of the adapters that see both skills
    both_steps: int
    adapter_batch: int
    #: share of every batch; the rest rehearses what the base knows
    lessons: float
    rank: int
    rate: float
    density: float
    #: asked per cell of the questions
    questions: int = Field(ge=1)
    methods: tuple[str, ...]


class Settings(WorldSettings):
    """Of a profile."""

    worlds: int
    first_seed: int


class WorldCell(WorldSettings, Cell):
    """One world."""


class Law(Table):
    """The coverage law of one order: retrieval (lambda) and p2 of the experts alone, and what follows for the sum."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    low: float


class Foretold(Table):
    """What was fixed before any merge, by order of the skills; oracle: routing to one adapter, share right."""

    coverage_law: dict[str, Law]
    oracle: dict[str, Count]


class Chain(Table):
    """Worked steps of one order: the first, the second after the right first, and the end of the model's own run."""

    first: Count
    second: Count
    reached: Count


class World(Table):
    """What a world measures: losses, scores by condition and cell of the questions, what was foretold, chains."""

    trainer: str
    losses: dict[str, float]
    scores: dict[str, dict[str, Count]]
    predicted: Foretold
    chains: dict[str, dict[str, Chain]]
    #: seconds of the processor until a method's model was there; records of before have none
    merging: dict[str, float] | None = None


#: examples for a method that is not data-free, of every expert's lessons and of problems with both skills
FEW = 32
#: conditions that are no reuse of both experts
ALONE = ("base", "A", "B", "random_first")


def asked(records: Sequence[Record[Any, Any]]) -> Iterator[Asked]:
    """What each method made of the two skills in each world; both orders of two clauses together."""
    for record in records:
        for method, cells in record.metrics.scores.items():
            if method not in ALONE:
                both = Count.total([cells["AB"], cells["BA"]])
                yield Asked(
                    method, "A, B", "two skills", first=cells["A"], second=cells["B"], covered=both,
                    seconds=(record.metrics.merging or {}).get(method), few=FEW,
                )  # fmt: skip
