"""Settings, cells and metrics of audit_outcomes."""

from __future__ import annotations

from typing import Literal

from empirical.engine.settings import Cell, Count, Table
from empirical.experiments.known import KnownSettings

#: adapters are added with weights 1 each, or averaged
Weights = Literal["sum", "mean"]


class PoolSettings(Table):
    """The adapters of a base, and the merges of some of them that are drawn."""

    #: adapters of new facts, each with prompts of its own
    facts: int
    #: adapters that are taught other answers to the prompts of the first so many of these
    contested: int
    #: adapters that are taught the very facts of the last so many of these, from another start
    again: int
    #: adapters that are taught other answers to what the base knows
    changed: int
    styles: tuple[str, ...]
    #: prompts of one adapter; as many others are asked of a style
    lesson: int
    #: of the adapters, as evenly as their number allows
    ranks: tuple[int, ...]
    steps: int
    batch: int
    rate: float
    merges: int
    #: least and most adapters of a merge
    sizes: tuple[int, int]


class ScratchSettings(PoolSettings, KnownSettings):
    """A world, and the base that learns its facts from scratch."""


class PretrainedSettings(PoolSettings):
    """A pretrained base, of which the last so many layers (0: all) are adapted."""

    base: str
    layers: int


class Line(Table):
    """A share that is foretold from a number: start + slope x number, kept between 0 and 1."""

    start: float
    slope: float


class Lines(Table):
    """Of every number of the audit that is not a share of answers itself, for one kind of weights."""

    cosine: Line
    keys: Line
    interference: Line
    norm: Line


class Worlds(Table):
    """How many of each group; there may be none in the pretrained base."""

    scratch: int
    pretrained: int


class Settings(Table):
    """Of a profile; lines for sums and for means."""

    worlds: Worlds
    first_seed: int
    scratch: ScratchSettings
    pretrained: PretrainedSettings
    lines: dict[Weights, Lines]


class ScratchCell(ScratchSettings, Cell):
    """One world with a base of its own."""

    kind: Literal["scratch"] = "scratch"
    group: str = "scratch"


class PretrainedCell(PretrainedSettings, Cell):
    """One world in the pretrained base."""

    kind: Literal["pretrained"] = "pretrained"
    group: str = "pretrained"


class Alone(Table):
    """An adapter by itself: rank; its probes that the base answers, and that it answers; facts of the base left."""

    rank: int
    before: Count
    right: Count
    base: Count


class Foretold(Table):
    """What single adapters say of a merge, before it is made.

    adapters: by name, with weights 1 each ("sum") or one over their number ("mean"). said: what is said -> of every
    adapter, see `empirical.experiments.audit_outcomes.forecast`. base: the same of the base's own facts.
    """

    adapters: tuple[str, ...]
    weights: Weights
    said: dict[str, tuple[float, ...]]
    base: dict[str, float]


class Merged(Table):
    """What a merge keeps: of the probes that each adapter answers alone, and of the facts that the base answers."""

    kept: tuple[Count, ...]
    base: Count


class Measured(Table):
    """A world: the base's own facts, its adapters, and every merge, foretold and then measured.

    beyond: the most that an adapter does to a key that another reads, less the bound of the claim and what rounding
    may do, relative to the largest bound of the module; the largest over modules and pairs.
    """

    base: Count
    adapters: dict[str, Alone]
    beyond: float
    foretold: tuple[Foretold, ...]
    merged: tuple[Merged, ...]
