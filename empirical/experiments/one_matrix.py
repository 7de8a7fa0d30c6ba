"""Two-hop worlds in front of one matrix, for experiments that adapt the last matrix alone: tables, prompts, features.

Features of a prompt are frozen, ``logits = W phi(prompt)``. Tables are i.i.d. uniform, and the base knows neither.
Two-hop answers are scored among the values, one-hop answers among all tokens; ties are wrong.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from empirical.engine.settings import Table
from empirical.training.readout import Readout
from theory.numerics import Array, stream
from theory.one_layer import OneLayer, joint_edit, one_layer_model

Indices = NDArray[np.int64]


class MatrixSettings(Table):
    """Sizes of a two-hop world and of the constructed model."""

    persons: int
    old_persons: int
    bridges: int
    values: int
    width: int
    hidden: int


class Constructed(nn.Module):
    """The first layers of :class:`theory.composition.OneLayer` in torch: prompts (N, t) -> features (N, k)."""

    embedding: torch.Tensor
    value: torch.Tensor
    hidden: torch.Tensor

    def __init__(self, model: OneLayer) -> None:
        super().__init__()
        for name in ("embedding", "value", "hidden"):
            self.register_buffer(name, torch.tensor(getattr(model, name)))

    def forward(self, prompts: torch.Tensor) -> torch.Tensor:
        """Features that the readout sees at the last token."""
        e = self.embedding.T[prompts]
        h = e[:, :-1].sum(dim=1) @ self.value.T + e[:, -1]
        return torch.relu(h @ self.hidden.T)


class World:
    """Tokens, prompts and tables: p (bridge by new person) and q (value by bridge) are i.i.d. uniform.

    Args:
        settings: sizes.
        seed: every stream of the world derives from it.
        old: persons whose bridges the base knows, in place of those of the settings.
        distinct: whether the base answers each bridge's question by a token of its own, and not by a value.
    """

    def __init__(self, settings: MatrixSettings, seed: int, old: int | None = None, distinct: bool = False) -> None:
        self.seed, self.persons, self.n, self.m = seed, settings.persons, settings.bridges, settings.values
        self.old = settings.old_persons if old is None else old
        people = np.arange(self.persons + self.old)
        self.bridge = people.size + np.arange(self.n)  # tokens
        self.value = self.bridge[-1] + 1 + np.arange(self.m)
        self.tokens = int(self.value[-1]) + 4
        rel0, rel1, rel2 = range(self.tokens - 3, self.tokens)
        self.p = stream(seed, "tables", "p").integers(self.n, size=self.persons)
        self.q = stream(seed, "tables", "q").integers(self.m, size=self.n)
        self.old_p = stream(seed, "tables", "old p").integers(self.n, size=self.old)
        # the base's answers to "y REL2": values, which the second adapter changes. A trained base would fold bridges of
        # one value into one feature, at which no readout could tell them apart; it learns an answer for each of them
        rng = stream(seed, "tables", "old q")
        alike = self.value[rng.integers(self.m, size=self.n)]
        self.old_q = rng.permutation(self.bridge) if distinct else alike
        new, known = people[: self.persons], people[self.persons :]
        self.first, self.old_first = prompts_of(new, rel1), prompts_of(known, rel1)
        self.second = prompts_of(self.bridge, rel2)
        self.names = prompts_of(people, rel0)  # answered by the person, so that a trained base tells new persons apart
        self.both, self.old_both = prompts_of(new, rel1, rel2), prompts_of(known, rel1, rel2)


def prompts_of(*columns: Any) -> torch.Tensor:
    """Prompts (N, t) of t columns of tokens, numbers or of length N."""
    return torch.tensor(np.stack(np.broadcast_arrays(*columns), axis=1))


def one_hot(rows: int, answers: Any) -> Array:
    """rows x N, column j one-hot at answers[j]."""
    found: Array = np.eye(rows)[:, np.asarray(answers)]
    return found


class Asked(NamedTuple):
    """A base (matrix W under float64) and the features of the world's prompts, one row each."""

    readout: Readout
    W: Array
    first: torch.Tensor
    second: torch.Tensor
    both: torch.Tensor
    old: torch.Tensor


def constructed(settings: MatrixSettings, world: World, device: str) -> Asked:
    """The random one-layer model whose readout holds the old facts: old persons' bridges and old values."""
    model = one_layer_model(world.tokens, settings.width, settings.hidden, stream(world.seed, "model"))
    encoder = Constructed(model).to(device)
    first, second, both, old = (encoder(p.to(device)) for p in (world.first, world.second, world.both, world.old_first))
    answers = np.concatenate([world.bridge[world.old_p], world.old_q])
    keys = torch.cat([old, second]).cpu().numpy().T
    W = joint_edit(model.readout, keys, one_hot(world.tokens, answers)).dense()
    return Asked(Readout(W, device), W, first, second, both, old)
