"""Settings, cells and metrics of capacity_pretrained."""

from __future__ import annotations

from empirical.engine.settings import Count, Table, WholeWorld, Worlds
from empirical.experiments.filled import Filled, Law, Rounded


class WorldSettings(Table):
    """A pretrained base, and the adapters of its last matrix that are filled with facts."""

    base: str
    facts: int
    #: ranks to which the power law is fitted, and ranks that it foretells
    fitted: tuple[int, ...]
    foretold: tuple[int, ...]
    #: of the fitted ones, the one whose numbers are rounded
    rank: int
    #: bits to which numbers are rounded
    bits: tuple[int, ...]
    steps: int
    rate: float


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Written(Filled):
    """An adapter, and the least rank that `margin_rank` leaves one whose changes of logits leak as little as its."""

    floor: int


class Measured(Table):
    """The base, the law as it was sealed, and adapters.

    base, loss: facts that the base answers, and its mean cross-entropy (nats) of them; values: how many countries.
    ranks: trained ones. rounded: one of them by bits of each number; circle: the one of rank two that is not trained,
    by bits too.
    """

    base: Count
    loss: float
    values: int
    law: Law
    ranks: dict[str, Written]
    rounded: dict[str, Rounded]
    circle: dict[str, Rounded]
