"""The two-layer residual stack of the claim layer_order.

``h1 = h0 + W1 phi1(h0)``, ``logits = E (h1 + W2 phi2(h1))`` with ``phi1 = relu`` and ``phi2(h) = relu(G h - c)``. All
frozen entries are whole numbers, so that every logit of a placement can be written down.

Coordinates of h, in this order: person x_i; relation R2; bridge y_j; memory (j, z), "bridge j has value z"; value z.
Units of phi2: a copy of every coordinate; gates "y_j and memory (j, z)"; gates "x_i and memory (j, z)".
The logits are those of the bridges, then of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from theory.facts import least_rank
from theory.lowrank import LowRank
from theory.numerics import Array, integer, one_of, require

#: where the first hop sits, then the second; "memory" marks the two that compose with an early second hop
PLACEMENTS = (
    "late_late",
    "early_late",
    "early_early",
    "late_early",
    "early_early_memory",
    "late_early_memory",
)
PROMPTS = ("first", "second", "two_hop")
#: logit of a value against 1 for the bridge's own token
STRENGTH = 2.0


class Placement(NamedTuple):
    """Both adapters, and whether each sits at the late layer (on W2) or at the early one (on W1)."""

    first: LowRank
    second: LowRank
    first_late: bool
    second_late: bool


class TwoLayerStack(NamedTuple):
    """The frozen stack. W1: d x d, W2: d x k, gates G: k x d, offsets c: (k,), readout E: (n + m) x d."""

    W1: Array
    W2: Array
    gates: Array
    offsets: Array
    readout: Array
    people: int
    bridges: int
    values: int

    def prompt(self, kind: str, index: int) -> Array:
        """h0 (d,) of "x_i R1" (``"first"``), "y_j R2" (``"second"``) or "x_i R1 R2" (``"two_hop"``).

        Raises:
            ValueError: unknown kind or index out of range.
        """
        one_of(kind, "kind", PROMPTS)
        count = self.bridges if kind == "second" else self.people
        i = integer(index, "index", 0)
        require(i < count, "index", f"an index below {count}", i)
        h = np.zeros(self.W1.shape[0])
        h[self.people + 1 + i if kind == "second" else i] = 1.0
        if kind != "first":
            h[self.people] = 1.0
        return h

    def early_key(self, h0: Array) -> Array:
        """phi1(h0), what updates of W1 read (d,)."""
        return np.maximum(h0, 0.0)

    def late_key(self, h0: Array, early: Sequence[LowRank] = ()) -> Array:
        """phi2(h1), what updates of W2 read (k,), with `early` added to W1."""
        return np.maximum(self.gates @ self.residual(h0, early) - self.offsets, 0.0)

    def residual(self, h0: Array, early: Sequence[LowRank] = ()) -> Array:
        """h1 (d,) with `early` added to W1."""
        key = self.early_key(h0)
        return sum((u.apply(key) for u in early), h0 + self.W1 @ key)

    def logits(self, h0: Array, early: Sequence[LowRank] = (), late: Sequence[LowRank] = ()) -> Array:
        """Logits (n + m,), bridges first, with `early` added to W1 and `late` to W2."""
        key = self.late_key(h0, early)
        return self.readout @ sum((u.apply(key) for u in late), self.residual(h0, early) + self.W2 @ key)

    def placed(self, h0: Array, placement: Placement) -> Array:
        """Logits (n + m,) with both adapters of `placement` added where they sit."""
        first, second, first_late, second_late = placement
        early = [u for u, late in ((first, first_late), (second, second_late)) if not late]
        late = [u for u, late in ((first, first_late), (second, second_late)) if late]
        return self.logits(h0, early, late)


def two_layer_stack(bridges: int, values: int, people: int = 1, frozen_gates: bool = True) -> TwoLayerStack:
    """The stack for n bridges and m values; with `frozen_gates` W2 writes value z where "y_j and memory (j, z)" fires.

    Args:
        bridges: n >= 1.
        values: m >= 1.
        people: persons with a first hop, >= 1.
        frozen_gates: False sets W2 = 0.

    Raises:
        ValueError: a size below 1.

    Source: claim layer_order (ours).
    """
    n, m, count = integer(bridges, "bridges", 1), integer(values, "values", 1), integer(people, "people", 1)
    memory = count + 1 + n
    d = memory + n * m + m
    identity = np.eye(d)
    slots = [(j, z) for j in range(n) for z in range(m)]
    pairs = [(count + 1 + j, memory + j * m + z) for j, z in slots]
    pairs += [(i, memory + j * m + z) for i in range(count) for j, z in slots]
    gates = np.vstack([identity] + [identity[a] + identity[b] for a, b in pairs])
    offsets = np.concatenate([np.zeros(d), np.ones(len(pairs))])
    frozen = np.zeros((d, len(gates)))
    if frozen_gates:
        for unit, (_, z) in enumerate(slots, start=d):
            frozen[d - m + z, unit] = STRENGTH
    readout = np.vstack([identity[count + 1 : memory], identity[d - m :]])
    return TwoLayerStack(np.zeros((d, d)), frozen, gates, offsets, readout, count, n, m)


def place_edits(
    stack: TwoLayerStack, bridge_of: Sequence[int], table: Sequence[int], placement: str, one_hop: bool = True
) -> Placement:
    """The two adapters of a placement, each made without knowledge of the other.

    The first hop writes bridge ``bridge_of[i]`` for person i at "x_i R1"; the second writes value ``table[j]`` at
    "y_j R2". ``"late_late"``, ``"early_late"``, ``"early_early"``, ``"late_early"`` (first hop, second hop): joint
    least-norm edits on the one-hop keys of the frozen stack. ``"early_early_memory"``: the second hop writes the whole
    table into the memory where it sees R2 (rank 1); the frozen gates read it. ``"late_early_memory"``: the same, and
    the first hop reads the memory of its bridge at the gates of its person (rank m), which needs no frozen W2; both
    also answer their own one-hop prompts unless `one_hop` is False (the other placements do so anyhow).

    Answers to "x_i R1" are read among the bridges, the others among the values: under ``"early_late"`` the second hop
    also finds the bridge at "x_i R1" and writes there.

    Args:
        stack: from :func:`two_layer_stack`.
        bridge_of: one bridge per person.
        table: one value per bridge.
        placement: one of ``PLACEMENTS``.
        one_hop: whether ``"late_early_memory"`` answers one-hop prompts too.

    Raises:
        ValueError: wrong lengths, entries out of range, or unknown placement.

    Source: claim layer_order (ours).
    """
    one_of(placement, "placement", PLACEMENTS)
    n, m, count = stack.bridges, stack.values, stack.people
    require(len(bridge_of) == count, "bridge_of", f"{count} bridges, one per person", len(bridge_of))
    require(len(table) == n, "table", f"{n} values, one per bridge", len(table))
    p = [integer(j, "bridge_of", 0) for j in bridge_of]
    q = [integer(z, "table", 0) for z in table]
    require(max(p) < n, "bridge_of", f"bridges below {n}", max(p))
    require(max(q) < m, "table", f"values below {m}", max(q))
    first_late, second_late = placement.startswith("late"), placement.split("_")[1] == "late"
    d = stack.W1.shape[0]
    identity = np.eye(d)
    bridge, value = identity[count + 1 : count + 1 + n].T, STRENGTH * identity[d - m :].T
    memory = identity[count + 1 + n :].T
    if not placement.endswith("memory"):
        first = _least_norm(stack, "first", bridge[:, p], first_late)
        return Placement(first, _least_norm(stack, "second", value[:, q], second_late), first_late, second_late)
    written = memory[:, [j * m + z for j, z in enumerate(q)]].sum(axis=1, keepdims=True)
    second = LowRank(written, identity[[count]])
    if not first_late:
        return Placement(_least_norm(stack, "first", bridge[:, p], False), second, False, False)
    reading = np.zeros((m, stack.gates.shape[0]))
    for i, j in enumerate(p):
        start = d + n * m + (i * n + j) * m
        reading[:, start : start + m] += np.eye(m)
    first = LowRank(value, reading)
    if one_hop:
        first = LowRank.combine([_least_norm(stack, "first", bridge[:, p], True), first], [1.0, 1.0])
        second = LowRank.combine([second, LowRank(value[:, q], identity[count + 1 : count + 1 + n])], [1.0, 1.0])
    return Placement(first, second, True, False)


def _least_norm(stack: TwoLayerStack, kind: str, changes: Array, late: bool) -> LowRank:
    """The joint least-norm edit that adds `changes` (d x N) at the one-hop prompts of `kind`."""
    prompts = [stack.prompt(kind, i) for i in range(changes.shape[1])]
    keys = np.array([stack.late_key(h) if late else stack.early_key(h) for h in prompts]).T
    update = least_rank(keys, changes).update
    assert update is not None  # one-hop keys of the stack are independent
    return update
