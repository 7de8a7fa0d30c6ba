"""Settings, cells and metrics of one_layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Table, Worlds
from empirical.engine.ways import OWN, Asked
from empirical.experiments.one_matrix import MatrixSettings

#: what conditions named before the published forms were there mean by these names: peft's forms, on the factors
FORMER = {"ties": "ties_factors", "dare_linear": "dare_factors", "dare_ties": "dare_ties_factors"}


class SurvivalSettings(Table):
    """A model with facts, the strongest old value, and how many adapters share the facts."""

    facts: int
    values: int
    width: int
    hidden: int
    strongest: float
    adapters: tuple[int, ...]


class WorldSettings(MatrixSettings):
    """And how adapters are merged."""

    methods: tuple[str, ...]
    density: float


class TwoHopSettings(WorldSettings):
    """And of the adapters, and of a base that is trained from scratch."""

    ranks: tuple[int, ...]
    steps: int
    rate_constructed: float
    rate_scratch: float
    scratch_width: int
    scratch_old_persons: int
    scratch_steps: int
    scratch_batch: int
    scratch_rate: float


class TailSettings(WorldSettings):
    """And the chance that is left above the count of right answers that is predicted as the most."""

    level: float


class AdversarySettings(Table):
    """Small sizes [bridges, values] with all their tables, and a large one with tables to learn from and fresh ones."""

    sizes: tuple[tuple[int, int], ...]
    starts: int
    rounds: int
    bridges: int
    values: int
    train: int
    tables: int


class Settings(Worlds):
    """Of a profile; `bases` are pairs of a base and a way of writing adapters."""

    bases: tuple[tuple[str, str], ...]
    survival: SurvivalSettings
    two_hop: TwoHopSettings
    tail: TailSettings
    adversary: AdversarySettings


class SurvivalCell(SurvivalSettings, Cell):
    """One world of *survival*."""

    kind: Literal["survival"] = "survival"


class TwoHopCell(TwoHopSettings, Cell):
    """One world of *two_hop* on one base."""

    kind: Literal["two_hop"] = "two_hop"
    base: Literal["constructed", "scratch"]
    writing: Literal["closed", "trained"]

    @property
    def top(self) -> int:
        """The largest rank, by which scores are named; 0 is as many as needed."""
        return 0 if self.writing == "closed" else max(self.ranks)


class TailCell(TailSettings, Cell):
    """One world of *tail*."""

    kind: Literal["tail"] = "tail"


class AdversaryCell(AdversarySettings, Cell):
    """One world of *adversary*."""

    kind: Literal["adversary"] = "adversary"


class Fate(Table):
    """Facts whose fate is as foretold, of those that rounding cannot turn; foretold to live; alive."""

    agree: Count
    foretold: Count
    kept: Count


class Survival(Table):
    """Fates by merge; damages above their bound; dead among the facts that were certain to survive; cosine of keys."""

    cosine: float
    fates: dict[str, Fate]
    bounds: Count
    certified: Count


class Hops(Table):
    """Right answers: one-hop among all tokens, two-hop among the values; and second hops as the base had them."""

    first: Count
    second: Count
    two_hop: Count
    second_old: Count


class TwoHop(Table):
    """By condition and rank, as in "sum 64"."""

    scores: dict[str, Hops]
    #: seconds of the processor until a method's model was there; records of before have none
    merging: dict[str, float] | None = None


class Tail(Table):
    """Right bridges by method."""

    right: dict[str, Count]


class Small(Table):
    """Right answers over all tables, with logits that were optimised and with the extremal ones."""

    optimised: Count
    extremal: Count


class Adversary(Table):
    """By size, as in "3,2"; and of the large size by fresh table."""

    small: dict[str, Small]
    large: tuple[Count, ...]


def asked(records: Sequence[Record[Any, Any]]) -> Iterator[Asked]:
    """What each method made of two adapters of the last matrix, at the largest rank; the base composes no bridge."""
    from empirical.reuse.methods import METHODS

    for record in records:
        if not isinstance(record.cell, TwoHopCell):
            continue
        for condition, hops in record.metrics.scores.items():
            former, _, rank = condition.rpartition(" ")
            method = FORMER.get(former, former)
            if rank == str(record.cell.top) and (method in METHODS or method == OWN):
                on = f"{record.cell.base} base, {record.cell.writing}"
                yield Asked(
                    method, on, "two hops", first=hops.first, second=hops.second, uncovered=hops.two_hop,
                    seconds=(record.metrics.merging or {}).get(condition),
                )  # fmt: skip
