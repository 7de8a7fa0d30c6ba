"""Settings, cells and metrics of first_step."""

from __future__ import annotations

from empirical.engine.settings import Table, WholeWorld, Worlds
from empirical.experiments.known import KnownSettings


class Rates(Table):
    """Learning rates of either optimiser."""

    sgd: float
    adam: float


class WorldSettings(KnownSettings):
    """A world, its base, and the ranks of adapters that are trained for one step."""

    ranks: tuple[int, ...]
    alpha: int
    rates: Rates


class Settings(WorldSettings, Worlds):
    """Of a profile."""


class WorldCell(WorldSettings, WholeWorld):
    """One world."""


class Step(Table):
    """The first step of an adapter: Frobenius norm of its update over all matrices, and by how much the loss fell."""

    norm: float
    loss: float


class Measured(Table):
    """steps: by way (optimiser, convention of the scale, factor that starts at zero: "sgd, alpha/r, B") and rank."""

    steps: dict[str, dict[str, Step]]
