"""Settings, cells and metrics of entities."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from empirical.engine.eager import Sealed
from empirical.engine.settings import Cell, Count, Group, Table


class Asked(Table):
    """Base cells: worlds in which the untouched base is asked."""

    worlds: int
    first_seed: int
    people: int
    countries: int


class WorldSettings(Table):
    """A base, people and countries of a world, its experts and the methods of reuse; see ``settings.toml``."""

    base: str
    people: int
    countries: int
    rank: int
    steps: int
    batch: int
    rate: float
    density: float
    methods: tuple[str, ...]


class Settings(WorldSettings):
    """Of a profile: those that worlds have by default, the base cells and the groups."""

    asked: Asked
    groups: tuple[Group, ...]


class BaseCell(Cell):
    """The untouched base is asked."""

    kind: Literal["base"] = "base"
    base: str
    people: int
    countries: int


class WorldCell(WorldSettings, Cell):
    """One world."""

    kind: Literal["world"] = "world"
    group: str


class Knowledge(Table):
    """What the untouched base knows and composes; `new_chance`: of what it says of new people."""

    capitals: Count
    given: Count
    new: Count
    famous: Count
    new_chance: float


class Law(Table):
    """The coverage law: retrieval (lambda) and p2 of the experts alone, and what follows for the sum."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    low: float
    high: float


class Foretold(Table):
    """What was fixed before any merge."""

    law: Sealed[Law]


class Steps(Table):
    """Both steps of the written-out question and the bare second hop, and the bounds for both together."""

    s1: Count
    s2: Count
    bare2: Count
    lower: float
    independent: float
    bare: float


class Written(Table):
    """The written-out question by family: what was foretold, what was reached."""

    predicted: Sealed[dict[str, Steps]]
    reached: dict[str, Count]


class Measured(Table):
    """What a world measures: scores and chance by condition, oracle routing by family."""

    known: int
    trainer: str
    losses: dict[str, float]
    scores: dict[str, dict[str, Count]]
    chance: dict[str, dict[str, float]]
    written: dict[str, Written]
    oracle: dict[str, Count]
    predicted: Foretold
