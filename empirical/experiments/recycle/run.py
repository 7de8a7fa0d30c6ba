"""Recycling adapters: what was taught is recovered by asking, and taught to one adapter in place of several.

LoRA Recycle (arXiv 2412.02220, read in its code) inverts adapters of image models into images and trains one adapter on
these, without the data. Where prompts can be listed there is nothing to invert: every prompt is put to the base and to
the base with an adapter, and what is answered differently is what it was taught, or was disturbed on the way. **So such
adapters are not private: whoever has base and adapter has the facts**, and distilling without data is training on the
data.

Four experts are trained apart: first hops of either half of the new persons, changed second hops of either of two
relations. *raw* distils all that they changed into one adapter; *surest* lets the expert that is surest speak where
several say different things of one prompt. Both rehearse the base's own answers to all other prompts, so that no data
is used at all. Beside them the sum and the mean of the experts, and one adapter that is taught all facts (*joint*).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.known import FourTasks, ask, right
from empirical.experiments.recycle.predictions import DISTILLED, EXPERTS, declare
from empirical.experiments.recycle.tables import Learnt, Measured, Probed, Settings, WorldCell
from empirical.reuse.methods import weighted_sum
from empirical.tasks.sentences import Ints, Part, Sentences
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, updated
from empirical.training.together import train_adapters
from theory.numerics import Array

#: of every adapter: alpha = 2 r
SCALE = 2


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world."""
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


class Answers(NamedTuple):
    """What a model says at every prompt (n,): the token, and its probability."""

    given: Ints
    sure: Array


def run_world(cell: WorldCell, device: str) -> Measured:
    """Train, probe, seal, distil. Raises TrainingDiverged where a loss was not finite."""
    run = WorldRun(cell, device)
    tasks = dict(zip(EXPERTS, run.tasks, strict=True))
    experts = run.trained({n: [Part(t, 0.5), Part(run.old, 0.5)] for n, t in tasks.items()}, cell.steps)
    merges = {n: weighted_sum(list(experts.values()), [w] * len(experts)) for n, w in (("sum", 1.0), ("mean", 0.25))}
    said = {name: run.probe(updates) for name, updates in (experts | merges).items()}
    claims = [said[name] for name in experts]
    sets = {name: run.recovered(claims, surest=name == "surest") for name in DISTILLED}
    foretold = {name: seal(f"foretold.{name}", run.foretold(found)) for name, found in sets.items()}
    rest = run.silent(claims)
    lessons = {name: [Part(s, 0.5) for s in (found, rest) if len(s.tokens)] for name, found in sets.items()}
    lessons["joint"] = [*(Part(t, 0.5 / len(EXPERTS)) for t in run.tasks), Part(run.old, 0.5)]
    one = run.trained(lessons, cell.one_steps)
    of = {**{name: (task,) for name, task in tasks.items()}, **dict.fromkeys(merges, run.tasks)}
    return Measured(
        base=run.known(), composes=run.composes(),
        probed={name: run.probed(answers, of[name]) for name, answers in said.items()},
        conflicts=run.conflicts(claims), foretold=foretold,
        found={name: run.learnt(updates) for name, updates in (merges | one).items()},
    )  # fmt: skip


class WorldRun(FourTasks):
    """A base, what experts are taught on it, and all prompts there are."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        super().__init__(cell, cell.seed, device)
        self.cell, w = cell, self.world
        people = np.arange(w.shape.persons)
        whole = [w.first_hops(people), w.second_hops("old"), w.attribute_facts(people)]
        self.prompts = Sentences(np.concatenate([s.tokens for s in whole]), (2,))
        self.place = {tuple(row): i for i, row in enumerate(self.prompts.tokens[:, :2].tolist())}
        self.before = self.probe({})

    def trained(self, lessons: Mapping[str, Sequence[Part]], steps: int) -> dict[str, Updates]:
        """Adapters on the base, by name."""
        cell = self.cell
        shape, plan = AdapterShape(cell.rank, SCALE * cell.rank), Schedule(steps, 2 * cell.batch, cell.rate)
        jobs = [Job(name, parts, shape, plan, cell.seed) for name, parts in lessons.items()]
        return {name: found.updates for name, found in train_adapters(self.base, jobs).items()}

    # ------------------------------------------------------------ probing

    def probe(self, updates: Updates) -> Answers:
        """What the base says with these updates, at every prompt."""
        with updated(self.base, updates) as model:
            logits = torch.as_tensor(ask(model, self.prompts))
        sure, given = logits.softmax(dim=1).max(dim=1)
        return Answers(given.numpy(), sure.numpy())

    def changed(self, said: Answers) -> np.ndarray:
        """Prompts at which an adapter says something else than the base (n,)."""
        found: np.ndarray = said.given != self.before.given
        return found

    def taught(self, tasks: Sequence[Sentences]) -> tuple[Ints, Ints]:
        """Where the prompts of all facts of these tasks stand, and their answers."""
        tokens = np.concatenate([t.tokens for t in tasks])
        return np.array([self.place[tuple(row)] for row in tokens[:, :2].tolist()]), tokens[:, 2]

    def probed(self, said: Answers, tasks: Sequence[Sentences]) -> Probed:
        """What an adapter gives away of the tasks that it was taught."""
        places, answers = self.taught(tasks)
        known, hidden = said.given[places] == answers, self.before.given[places] != answers
        claims = Count.of(self.changed(said)).right
        return Probed(alone=Count.of(known), recalled=Count.of(known, hidden),
                      taught=Count(Count.of(known & hidden).right, claims))  # fmt: skip

    def conflicts(self, said: Sequence[Answers]) -> Count:
        """Prompts at which experts that changed the answer say different things, among those that any has changed."""
        given = np.ma.masked_array([s.given for s in said], [~self.changed(s) for s in said])
        differ = np.ma.filled(given.max(axis=0) != given.min(axis=0), False)
        return Count.of(differ, np.any([self.changed(s) for s in said], axis=0))

    def recovered(self, said: Sequence[Answers], surest: bool) -> Sentences:
        """All answers that experts changed; where they differ each of them, or that of the surest expert alone."""
        changed = np.array([self.changed(s) for s in said])
        sure = np.where(changed, [s.sure for s in said], -1.0)
        rows = []
        for prompt in np.flatnonzero(changed.any(axis=0)):
            speak = [int(sure[:, prompt].argmax())] if surest else np.flatnonzero(changed[:, prompt]).tolist()
            rows += [[*self.prompts.tokens[prompt, :2], token] for token in {said[e].given[prompt] for e in speak}]
        return Sentences(np.array(rows, dtype=np.int64).reshape(-1, 3), (2,))

    def silent(self, said: Sequence[Answers]) -> Sentences:
        """The base's answers to all prompts that no expert changed."""
        rest = ~np.any([self.changed(s) for s in said], axis=0)
        return Sentences(np.column_stack([self.prompts.tokens[rest, :2], self.before.given[rest]]), (2,))

    def foretold(self, recovered: Sentences) -> Count:
        """Facts of all tasks that stand right and undisputed in what was recovered, or that the base answers itself."""
        found: dict[tuple[int, ...], set[int]] = {}
        for *prompt, token in recovered.tokens.tolist():
            found.setdefault(tuple(prompt), set()).add(token)
        places, answers = self.taught(self.tasks)
        right = [
            found.get(tuple(self.prompts.tokens[place, :2].tolist()), {int(self.before.given[place])}) == {answer}
            for place, answer in zip(places.tolist(), answers.tolist(), strict=True)
        ]
        return Count.of(np.array(right))

    # ------------------------------------------------------------ questions

    def learnt(self, updates: Updates) -> Learnt:
        """What one adapter in place of all experts answers."""
        with updated(self.base, updates) as model:
            covered, uncovered, old, *tasks = (self.count(model, s) for s in (*self.hops, self.old, *self.tasks))
        return Learnt(tasks=tuple(tasks), old=old, covered=covered, uncovered=uncovered)

    def count(self, model: Any, sentences: Sentences) -> Count:
        """Right answers."""
        return Count.of(right(model, sentences))


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    return cell.base_steps * cell.base_batch * 2e-4 + (4 * cell.steps + 3 * cell.one_steps) * (4e-3 + 6e-5 * cell.batch)


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="Recycling: what probing recovers of adapters, and one adapter that is taught what was recovered",
    order=43,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
