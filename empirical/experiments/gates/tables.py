"""Settings, cells and metrics of gates."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.one_matrix import MatrixSettings


class WorldSettings(MatrixSettings):
    """A world in front of one matrix, and gated adapters on it."""

    #: experts of an adapter whose gates know nothing of bridges, half of them of each hop; an even number
    experts: int
    #: numbers of groups of bridges, with an expert for each
    groups: tuple[int, ...]
    #: of an expert at most; no more than it has facts
    rank: int
    steps: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Answered(Table):
    """Questions of both hops and of two hops that are answered."""

    first: Count
    second: Count
    two_hop: Count


class Merge(Table):
    """Error of one weight in place of gates at the two-hop prompts, relative: all experts as they are; mean gates."""

    ignored: float
    mean: float


class Grouped(Table):
    """An expert for each group of bridges.

    found: groups that the gates tell at two-hop prompts. gated: with gates that learnt people's groups at such prompts;
    carried: at first-hop prompts. summed, mean: without gates.
    """

    found: Count
    gated: Answered
    carried: Answered
    summed: Answered
    mean: Answered


class Measured(Table):
    """By the way gates came about; by number of groups; merges in place of gates, and of gates that are all 1 / K."""

    base: Answered
    gates: dict[str, Answered]
    groups: dict[str, Grouped]
    merges: dict[str, Merge]
