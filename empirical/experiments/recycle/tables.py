"""Settings, cells and metrics of recycle."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.known import KnownSettings


class WorldSettings(KnownSettings):
    """A world, its base, and adapters on it."""

    rank: int
    #: of each expert, and of an adapter that takes the place of all
    steps: int
    one_steps: int
    #: own examples in a step; as many rehearse old facts, or the base's own answers
    batch: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Probed(Table):
    """What probing an adapter gives away.

    alone: taught facts that it answers. recalled: of the taught facts that the base does not answer, those that are
    found. taught: of all answers that differ from the base's, those that it was taught.
    """

    alone: Count
    recalled: Count
    taught: Count


class Learnt(Table):
    """What one adapter answers: facts of each expert, old facts, two hops over covered and uncovered bridges."""

    tasks: tuple[Count, ...]
    old: Count
    covered: Count
    uncovered: Count


class Measured(Table):
    """By expert and by merge what probing gives away, and what adapters in place of all experts answer.

    base, composes: old facts, two hops of held-out old persons over covered bridges, of the base. conflicts: prompts at
    which experts contradict one another, of those that any of them changed. foretold: facts that stand right in what
    was recovered, as sealed before it is taught.
    """

    base: Count
    composes: Count
    probed: dict[str, Probed]
    conflicts: Count
    foretold: dict[str, Count]
    found: dict[str, Learnt]
