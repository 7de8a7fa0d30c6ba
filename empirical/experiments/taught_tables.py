"""Settings and cells of worlds in which coverage is taught."""

from __future__ import annotations

from empirical.engine.settings import Table
from empirical.experiments.plain_english_tables import Grouped, WorldCell


class Teaching(Table):
    """How the base goes on training: an adapter of all layers that is added to it."""

    rank: int
    steps: int
    batch: int
    rate: float
    #: shares of a batch, relative to one another: homes, capitals, direct questions, capitals of other countries, the
    #: base's own text
    first: float
    second: float
    direct: float
    capitals: float
    text: float


class Taught(Table):
    """What is taught to the base of a world; `people` are all people of a family, pupils and fellows among them."""

    #: of each country: pupils, of whom direct questions are taught where it is covered, and fellows, of whom none is
    pupils: int
    fellows: int
    #: share of each family's countries that are covered
    coverage: float
    teaching: Teaching


class Settings(Taught, Grouped):
    """Of a profile."""


class Cell(Taught, WorldCell):
    """One world, whose base is taught first."""
