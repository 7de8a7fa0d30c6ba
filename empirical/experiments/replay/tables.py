"""Settings, cells and metrics of replay."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.known import KnownSettings


class WorldSettings(KnownSettings):
    """A world, its base, and adapters that learn new facts while old ones are rehearsed."""

    #: parts of every batch that are old facts, all of which are in the buffer
    shares: tuple[float, ...]
    steps: tuple[int, ...]
    #: old facts that are rehearsed while the others never are, at one share and number of steps
    buffers: tuple[int, ...]
    buffer_share: float
    buffer_steps: int
    rank: int
    #: examples in a step, new and old together
    batch: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""

    #: old persons of each world's second base, which knows fewer facts
    fewer: int
    #: numbers of rehearsed examples at which runs are compared
    rehearsals: tuple[int, ...]


class WorldCell(WorldSettings, WholeWorld):
    """One base of a world: of all old persons, or of fewer."""


class Rehearsed(Table):
    """How often each fact of the buffer was shown, in the mean; new facts, and old ones in and out of the buffer."""

    exposures: float
    new: Count
    inside: Count
    outside: Count


class Measured(Table):
    """Old and new facts that the base answers; runs by share and steps, as in "0.25 120"; and by size of the buffer."""

    base: Count
    unknown: Count
    runs: dict[str, Rehearsed]
    buffers: dict[str, Rehearsed]
