"""Settings, cells and metrics of continual."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.known import KnownSettings


class WorldSettings(KnownSettings):
    """A world, its base, and the methods that learn one task after the other."""

    methods: tuple[str, ...]
    #: of every adapter but those of C-LoRA that are wide
    rank: int
    wide: int
    steps: int
    #: own sentences in a step; as many rehearse facts of the base
    batch: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Learnt(Table):
    """What a method comes to.

    learnt: each task right after it was trained. switched: the task before, right after the switch to the next and
    before any step. kept: each task at the end. base: old facts at the end. covered, uncovered: two-hop questions of
    new persons through changed facts. rank: of all that was added, largest over modules.
    """

    learnt: tuple[Count, ...]
    switched: tuple[Count, ...]
    kept: tuple[Count, ...]
    base: Count
    covered: Count
    uncovered: Count
    rank: int


class Measured(Table):
    """What the base answers (old facts, two hops of held-out old persons over covered bridges), and every method."""

    base: Count
    composes: Count
    methods: dict[str, Learnt]
