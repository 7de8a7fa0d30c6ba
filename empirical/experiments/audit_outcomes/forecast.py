"""What single adapters say of a merge of some of them: the audit's numbers, and what logits say that add up.

*Geometry*, by the audit's own code, needs the files alone. For adapter i of a merge with weights w, over all modules:

- cosine: what the merged update holds of this one, ``<sum_j w_j U_j, U_i> / ||U_i||^2`` (the audit's *keep*);
- keys: the row space that each other adapter shares with it, times ``|w_j / w_i|``, added up;
- interference: the most that each other adapter does to a key that it reads, relative to what it does there itself,
  times ``|w_j / w_i|``, added up (the audit's *disturb*);
- norm, of the base: the merged update's norm relative to that of the weights that it is added to.

*Logits* need the base and the probes. With f(0) of the base and f(U) of a single adapter, the share of probes that stay
right under

- dilution: ``f(0) + w_i (f(U_i) - f(0))``, as if no other adapter read the prompt;
- additive: ``f(0) + sum_j w_j (f(U_j) - f(0))``, as if the changes of logits added up, one step of a line.

The head is linear and not adapted, so that sums of logits are logits of sums of the states in front of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.audit import Together
from empirical.adapters.joint import Part, compressed, meeting
from empirical.reuse.linear import by_module
from empirical.tasks.sentences import Batch, Bools, Ints, Ragged, Sentences, collate
from empirical.training.adapter import answer_states
from empirical.training.bases import Updates
from theory.numerics import Array, rank_tolerance

Taught = Sentences | Ragged
#: of every adapter of a merge, and of the base's own facts
KEPT, BASE = ("cosine", "keys", "interference", "dilution", "additive"), ("norm", "additive")
#: those that are shares of answers themselves
SHARES = ("dilution", "additive")


# ---------------------------------------------------------------- geometry


class Geometry(NamedTuple):
    """Of n adapters, over all modules.

    Attributes:
        inner: inner products of the updates (n, n).
        keys, largest: row space shared with, and most done to a key of, the adapter of the row by that of the column;
            means over modules.
        beyond: the largest excess of `largest` over its bound, relative to the largest bound of the module, less what
            rounding may do; over all modules.
        base: norm of the adapted weights.
    """

    inner: Array
    keys: Array
    largest: Array
    beyond: float
    base: float


def geometry(base: Any, adapters: Sequence[Updates]) -> Geometry:
    """The audit's numbers of all adapters of a base."""
    together, beyond, squares = Together(len(adapters)), -1.0, 0.0
    for name, updates in by_module(adapters):
        factors = [(torch.tensor(u.A), torch.tensor(u.B)) for u in updates]
        size = updates[0].shape
        small = compressed(factors, [u.scale for u in updates])
        met = meeting([Part(i, u, *u.svd(size)) for i, u in enumerate(small)], *size)
        together.add(met)
        rounding = rank_tolerance((*size, sum(u.columns for u in updates)), 1.0)
        if met.bound.any():  # none where no adapter does anything
            beyond = max(beyond, float((met.largest - met.bound).max() / met.bound.max()) - rounding)
        squares += float(base.get_submodule(name).weight.double().square().sum())
    count = np.maximum(together.common, 1)
    sums = together.sums
    return Geometry(sums["inner"], sums["keys"] / count, sums["largest"] / count, beyond, squares**0.5)


def of_geometry(found: Geometry, members: Ints, weights: Array) -> tuple[dict[str, Array], float]:
    """(what is said of each member, the norm relative to the base's) of a merge."""
    here = np.ix_(members, members)
    inner, ratio = found.inner[here], np.abs(weights[None, :] / weights[:, None])
    np.fill_diagonal(ratio, 0.0)
    said = {
        "cosine": inner @ weights / np.diag(inner),
        "keys": (ratio * found.keys[here]).sum(axis=1),
        "interference": (ratio * found.largest[here]).sum(axis=1),
    }
    return said, float(np.sqrt(weights @ inner @ weights)) / found.base


# ---------------------------------------------------------------- logits


#: name of the questions -> states in front of every answer (answers, width)
States = Mapping[str, torch.Tensor]


class Questions:
    """Probes by name, asked of one model after the other.

    Args:
        base: whose head turns states into logits.
        probes: name -> sentences.
    """

    def __init__(self, base: Any, probes: Mapping[str, Taught]) -> None:
        self.head = base.get_output_embeddings()
        self.batches: dict[str, Batch] = {}
        for name, sentences in probes.items():
            (self.batches[name],) = collate([sentences])

    @torch.no_grad()
    def ask(self, model: Any) -> States:
        """The states of a model."""
        return {name: answer_states(model, batch) for name, batch in self.batches.items()}

    @torch.no_grad()
    def right(self, name: str, states: torch.Tensor) -> Bools:
        """Which sentences have every answer right, by the largest logit of all tokens (n,)."""
        batch = self.batches[name]
        given = self.head(states).argmax(dim=1).cpu().numpy()
        whole = np.ones(len(batch.tokens), dtype=np.bool_)
        np.logical_and.at(whole, batch.rows, given == batch.tokens[batch.rows, batch.columns])
        return whole


def added(base: torch.Tensor, alone: Sequence[torch.Tensor], weights: Sequence[float]) -> torch.Tensor:
    """The base's states and the weighted changes that single adapters make."""
    found = base.double()
    for states, weight in zip(alone, weights, strict=True):
        found = found + weight * (states.double() - base.double())
    return found.to(base)
