"""Settings, cells and metrics of coverage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from empirical.engine.eager import Sealed
from empirical.engine.settings import Cell, Count, Group, Table

#: placements of the constructed stack that compose, and all of them
COMPOSING = ("early_late", "early_early_memory", "late_early_memory")
PLACEMENTS = ("late_late", "early_early", "late_early", *COMPOSING)


class StackSettings(Table):
    """Of the constructed two-layer stack."""

    worlds: int
    bridges: int
    values: int
    people: int


class WorldSettings(Table):
    """A world, its base, the experts that are trained on it and the methods by which they are reused."""

    old_persons: int
    new_persons: int
    bridges: int
    values: int
    first_relations: int
    second_relations: int
    changed_relations: int
    coverage_by: Literal["bridge", "relation"]
    width: int
    layers: int
    heads: int
    feed_forward: int
    base_steps: int
    base_batch: int
    base_rate: float
    adapter_steps: int
    adapter_batch: int
    rank: int
    #: layers of experts that are written early, and late
    early: tuple[int, ...]
    late: tuple[int, ...]
    rate_all: float
    rate_placed: float
    rate_rows: float
    rate_everything: float
    density: float
    alpha_layer: int
    kappa_layer: int
    experts: tuple[str, ...]
    methods: tuple[str, ...]
    methods_placed: tuple[str, ...]
    #: whether both hops are also written on each single layer
    scan: bool


class Worlds(Group):
    """A group of worlds at each level of coverage."""

    coverage: tuple[float, ...]


class Settings(WorldSettings):
    """Of a profile: those that worlds have by default, the stack and the groups."""

    stack: StackSettings
    groups: tuple[Worlds, ...]


class StackCell(Cell):
    """The stack under one placement."""

    kind: Literal["stack"] = "stack"
    placement: str
    bridges: int
    values: int
    people: int


class WorldCell(WorldSettings, Cell):
    """One world."""

    kind: Literal["world"] = "world"
    group: str
    coverage: float


class Stack(Table):
    """Right answers of the stack; the best of answers that are blind to the bridge."""

    first_hop: Count
    second_hop: Count
    two_hop: Count
    bridge_blind: Count


class Law(Table):
    """The coverage law of a pair: retrieval (lambda) and p2 of the experts alone, and what follows for the sum."""

    retrieval: float = Field(validation_alias="lambda", serialization_alias="lambda")
    p2: float
    covered: float
    low: float
    high: float


class Foretold(Table):
    """What was fixed before any merge; a pair of whose experts nothing could be asked has no law."""

    coverage_law: Sealed[dict[str, Law]]
    oracle_ceiling: Sealed[float]
    additive_ceiling: Sealed[float]
    bridge_blind: Sealed[float]


class Steps(Table):
    """Steps of the written-out question and bare one-hops, right of asked, and the bounds; None where nothing is."""

    s1: Count
    s2: Count
    bare1: Count
    bare2: Count
    lower: float | None
    independent: float | None
    bare: float | None


class Written(Table):
    """Written out, by cell of the questions: what was foretold, what was reached."""

    predicted: Sealed[dict[str, Steps]]
    reached: dict[str, Count]


class Alignment(Table):
    """AUC of alpha and kappa for what is answered, and of the answer's confidence; None below three of either.

    `sha256` is of alpha and kappa as they were before the answers were known.
    """

    sha256: str
    alpha_covered: float | None
    alpha_covered_confidence: float | None
    alpha_any: float | None
    alpha_any_confidence: float | None
    kappa_covered: float | None
    kappa_covered_confidence: float | None
    kappa_any: float | None
    kappa_any_confidence: float | None

    def both(self, score: str) -> tuple[float, float] | None:
        """AUC of "alpha" or "kappa" within covered bridges and that of the confidence; None where either is."""
        value, confidence = getattr(self, f"{score}_covered"), getattr(self, f"{score}_covered_confidence")
        return None if value is None or confidence is None else (value, confidence)


class Additive(Table):
    """New x changed questions: answered by f(U1) + f(U2) - f(0), by the sum; `carried` by the sum alone; `within`: of
    these, margin at most 2 max|I|."""

    additive: Count
    together: Count
    carried: Count
    within: Count


class Pair(Table):
    """Two experts reused together; `oracle` is one-adapter routing by an oracle."""

    written: Written
    alignment: Alignment | None = None
    additive: Additive
    oracle: Count


class Queries(Table):
    """How many new persons, and how many queries of the headline cell."""

    new_persons: int
    headline: int


class HeldOut(Table):
    """Held-out two-hop questions that the base answers, by bridge."""

    covered: Count
    uncovered: Count


class Measured(Table):
    """What happened in one world; `scores` by condition and cell."""

    trainer: str
    losses: dict[str, float]
    scores: dict[str, dict[str, Count]]
    predicted: Foretold
    pairs: dict[str, Pair]
    queries: Queries
    held_out_questions: HeldOut
