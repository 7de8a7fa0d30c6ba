"""Settings, cells and metrics of entities."""

from __future__ import annotations

from typing import Literal

from empirical.engine.settings import Cell, Count, Table
from empirical.experiments.plain_english_tables import Grouped


class Asked(Table):
    """Base cells: worlds in which the untouched base is asked."""

    worlds: int
    first_seed: int
    people: int
    countries: int


class Settings(Grouped):
    """Of a profile: worlds, and the base cells."""

    asked: Asked


class BaseCell(Cell):
    """The untouched base is asked."""

    kind: Literal["base"] = "base"
    base: str
    people: int
    countries: int


class Knowledge(Table):
    """What the untouched base knows and composes; `new_chance`: of what it says of new people."""

    capitals: Count
    given: Count
    new: Count
    famous: Count
    new_chance: float
