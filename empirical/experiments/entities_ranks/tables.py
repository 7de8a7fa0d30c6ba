"""Settings of entities_ranks."""

from __future__ import annotations

from typing import NamedTuple

from empirical.engine.settings import Group
from empirical.experiments.plain_english_tables import WorldSettings


class Ranked(NamedTuple):
    """A rank, and the learning rate at which experts of that rank are trained."""

    rank: int
    rate: float


class RankSettings(WorldSettings):
    """A world, and the ranks of the experts that are trained in it, each rank in a cell of its own."""

    ranks: tuple[Ranked, ...]


class Settings(RankSettings):
    """Of a profile: what worlds have by default, and groups of worlds."""

    groups: tuple[Group, ...]
