"""Settings, cells and metrics of rounds."""

from __future__ import annotations

from typing import Literal

from empirical.engine.settings import Cell, Count, Table, Worlds
from empirical.experiments.known import KnownSettings


class Condition(Table):
    """How heads are merged: how many, on equal data or on shards, from zero in every round or going on."""

    name: str
    heads: int
    equal: bool
    reset: bool
    rounds: int


class HeadsSettings(KnownSettings):
    """A world, its base, and heads that are trained on its new facts."""

    conditions: tuple[Condition, ...]
    rank: int
    steps: int
    #: own sentences of a head in a step, on shards; as many rehearse old facts
    batch: int
    rate: float


class MasksSettings(KnownSettings):
    """A world, its base, and adapters that are trained under masks."""

    #: rates p, and whether what is left is scaled up
    masks: tuple[tuple[float, bool], ...]
    #: of the update, 1 / k is used
    parts: tuple[int, ...]
    #: masks over which outputs are averaged
    ensemble: int
    rank: int
    steps: int
    batch: int
    rate: float


class Settings(Worlds):
    """Of a profile."""

    heads: HeadsSettings
    masks: MasksSettings


class HeadsCell(HeadsSettings, Cell):
    """One world of heads."""

    kind: Literal["heads"] = "heads"
    group: str = "heads"


class MasksCell(MasksSettings, Cell):
    """One world of masks."""

    kind: Literal["masks"] = "masks"
    group: str = "masks"


class Foretold(Table):
    """What the heads of the first round, each alone, say of every round.

    margin: the median one that is written by then. right: facts that are answered at that share of their own change.
    """

    margin: tuple[float, ...]
    right: tuple[Count, ...]


class Round(Table):
    """After one round of a condition.

    right, margin: new facts that the merged model answers, and their median lead. additive: facts that logits before
    the round plus the mean of the heads' changes of logits answer. alone, alone_margin: each head on its own facts
    before the merge. old: facts of the base. rank: of all that was merged, largest over modules.
    """

    right: Count
    margin: float
    additive: Count
    alone: Count
    alone_margin: float
    old: Count
    rank: int


class Heads(Table):
    """By condition; new and old facts that the base answers."""

    base: Count
    old: Count
    predicted: dict[str, Foretold]
    rounds: dict[str, tuple[Round, ...]]


class Masked(Table):
    """New and old facts by part of the update that is used (1 / k), and with the mean of outputs over masks."""

    new: tuple[Count, ...]
    old: tuple[Count, ...]
    margin: tuple[float, ...]
    ensemble: Count


class Masks(Table):
    """By mask, as in "0.3" or "0.5 rescaled"."""

    base: Count
    old: Count
    found: dict[str, Masked]
