"""Settings, cells and metrics of capacity."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.filled import Filled, Law, Rounded
from empirical.experiments.known import KnownSettings


class WorldSettings(KnownSettings):
    """A world, its base, and the adapters that are filled with its new facts."""

    #: ranks on the last layer to which the power law is fitted, and ranks that it foretells
    fitted: tuple[int, ...]
    foretold: tuple[int, ...]
    #: rank on single layers and on all of them
    rank: int
    #: bits to which numbers are rounded
    bits: tuple[int, ...]
    steps: int
    batch: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Measured(Table):
    """What the base answers of new and old facts, the law as it was sealed, and adapters by rank and place.

    ranks: on the last layer. layers: of one rank, by layer, "all" among them. rounded: the one on all layers, by bits
    of each number; small: the one of rank one on one matrix.
    """

    base: Count
    known: Count
    law: Law
    ranks: dict[str, Filled]
    layers: dict[str, Filled]
    rounded: dict[str, Rounded]
    small: dict[str, Rounded]
