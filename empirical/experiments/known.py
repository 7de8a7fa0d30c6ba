"""Small bases that know the facts of a world, for experiments on what becomes of facts: settings, base, answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from empirical.engine.settings import Count, Table
from empirical.tasks.sentences import Batch, Part, Sentences
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import Schedule, answer_logits, pretrain
from empirical.training.bases import BaseShape, scratch_base
from theory.numerics import Array


class KnownSettings(Table):
    """Sizes of a world, and of the base that learns its facts from scratch."""

    old_persons: int
    new_persons: int
    bridges: int
    values: int
    first_relations: int
    second_relations: int
    changed_relations: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    base_steps: int
    base_batch: int
    base_rate: float


def known_world(settings: KnownSettings, seed: int) -> World:
    """The world of a seed."""
    return World(WorldShape(**settings.model_dump(include={field.name for field in fields(WorldShape)})), seed)


def fresh_base(settings: KnownSettings, world: World, device: str) -> Any:
    """A base from scratch for the vocabulary of a world, untrained."""
    s = settings
    shape = BaseShape(world.vocabulary.size, s.width, s.layers, s.heads, s.feed_forward)
    return scratch_base(shape, world.seed).to(device)


def trained_base(settings: KnownSettings, world: World, parts: Sequence[Part], device: str) -> Any:
    """A base trained from scratch on the mixture. Raises TrainingDiverged where a loss was not finite."""
    s = settings
    base = fresh_base(s, world, device)
    pretrain(base, parts, Schedule(s.base_steps, s.base_batch, s.base_rate, warmup=30, weight_decay=0.1), world.seed)
    return base


def old_facts(world: World) -> list[Part]:
    """All one-hop facts of the old tables, each as often as any other."""
    facts = world.replay()
    return [Part(facts, 1.0)]


@torch.no_grad()
def ask(model: Any, sentences: Sentences) -> Array:
    """Logits (n, vocabulary) in front of the last answer of every sentence."""
    tokens, column = sentences.tokens, sentences.answers[-1]
    batch = Batch(tokens[:, : column + 1], np.arange(len(tokens)), np.full(len(tokens), column))
    found: Array = answer_logits(model, batch)[0].double().cpu().numpy()
    return found


def margins(logits: Array, sentences: Sentences) -> Array:
    """By how much the right last answer leads all other tokens (n,); positive where it is given."""
    return lead(logits, sentences.tokens[:, sentences.answers[-1]])


def lead(logits: Array, answers: NDArray[np.integer[Any]]) -> Array:
    """By how much the logits of the right answers (n,) lead all others (n, values); positive where they are given."""
    rows = np.arange(len(answers))
    rest = logits.copy()
    rest[rows, answers] = -np.inf
    found: Array = logits[rows, answers] - rest.max(axis=1)
    return found


def top1(logits: Array, answers: NDArray[np.integer[Any]]) -> Count:
    """How many right answers (n,) have the largest logit (n, values); ties are wrong."""
    return Count.of(lead(logits, answers) > 0)


def right(model: Any, sentences: Sentences) -> np.ndarray:
    """Which last answers the model gives, by the largest logit over the whole vocabulary (n,)."""
    given: np.ndarray = margins(ask(model, sentences), sentences) > 0
    return given


class FourTasks:
    """A base that composes two hops, and four tasks for adapters on it.

    Attributes:
        tasks: first hops of either half of the new persons, each before one of two relations' changed second hops.
        old: facts that the base knows and no task changes.
        hops: two-hop questions of new persons through changed facts, over covered bridges and over uncovered ones.
    """

    def __init__(self, settings: KnownSettings, seed: int, device: str) -> None:
        self.world = w = known_world(settings, seed)
        self.base = trained_base(settings, w, w.pretraining(documents=500), device)
        half = len(w.new) // 2
        changed = w.second_hops("new", changed=True)
        relation = np.arange(len(changed.tokens)) % settings.changed_relations  # all (y, R2) in order
        self.tasks = (
            w.first_hops(w.new[:half]), changed.take(relation == 0),
            w.first_hops(w.new[half:]), changed.take(relation == 1),
        )  # fmt: skip
        self.old, q = w.replay(spare=changed), w.queries(w.new)
        self.hops = tuple(w.direct(q.take(q.changed & q.differs & covered)) for covered in (q.covered, ~q.covered))

    def known(self) -> Count:
        """Old facts that the base answers."""
        return Count.of(right(self.base, self.old))

    def composes(self) -> Count:
        """Two hops of held-out old persons over covered bridges that the base answers."""
        q = self.world.queries(self.world.held_out)
        return Count.of(right(self.base, self.world.direct(q.take(q.covered), "old")))
