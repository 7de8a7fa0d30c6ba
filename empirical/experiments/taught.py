"""Worlds in which coverage is taught to a pretrained model, before experts are trained on it.

In a world (see `plain_english`) the base first goes on training: where *pupils* and *fellows* live, the capitals of all
countries, and direct questions about the pupils of the *covered* ones. No direct question about a fellow, or about
anybody of an *uncovered* country, is ever taught. Experts on this base then teach new people's countries, and new
capitals: every country takes over that of another one of its side. lambda is what the first expert answers of the
capitals that the base was taught, p2 what the second one answers of fellows. A world of coverage 0 is the control.

A choice is forced among the capitals of one side, covered or uncovered, so that what the base may have learnt of which
capitals answer direct questions tells the sides not apart.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from torch import nn

from empirical.engine.experiment import Kind
from empirical.engine.settings import Count
from empirical.experiments.plain_english import WorldRun, hits
from empirical.experiments.plain_english_tables import Foretold, Measured, Reply
from empirical.experiments.pretrained import SCRATCH, train_placed
from empirical.experiments.taught_tables import Cell, Settings
from empirical.tasks.entities import first_hop, second_hop, training, training_second
from empirical.tasks.sentences import Part
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import updated
from theory.numerics import stream


def cells(settings: Settings) -> list[Cell]:
    """One cell per world of every group."""
    return [
        Cell.of(settings.but(**group.changes), group=group.name, seed=seed)
        for group in settings.groups
        for seed in group.seeds
    ]


def seconds(cell: Cell) -> float:
    """A guess of the seconds that a world takes on one core with the packaged base, from its sizes."""
    sentences = cell.teaching.steps * cell.teaching.batch + len(cell.experts) * cell.steps * cell.batch
    conditions = len(cell.experts) + 2 * len(cell.sums) + 1
    if cell.base == SCRATCH:
        return 10 + sentences * 2e-3 + conditions
    return 60 + sentences * 0.05 + conditions * 60


class TaughtRun(WorldRun):
    """Everything that happens in one world, in order."""

    def __init__(self, cell: Cell, device: str) -> None:
        super().__init__(cell, device)
        self.taught, w = cell, self.world
        side = {y: f"{f}_{name}" for f, ys in w.countries.items() for y, name in zip(ys, self._sides(f), strict=True)}
        w.countries = {name: [y for y in side if side[y] == name] for name in sorted(set(side.values()))}
        w.people = [p._replace(family=side[p.country]) for p in w.people]
        self.world = w = w.turned()
        self.tables = {name: {y: w.capital[y] for y in ys} for name, ys in w.countries.items()}
        homes = {y: [p for p in w.people if p.country == y] for y in side}
        first, then = cell.pupils, cell.pupils + cell.fellows
        self.pupils = [p for there in homes.values() for p in there[:first]]
        self.fellows = [p for there in homes.values() for p in there[first:then]]
        w.people = [p for there in homes.values() for p in there[then:]]
        self.people, fellows = (
            {n: [p for p in of if p.family == n] for n in self.tables} for of in (w.people, self.fellows)
        )
        self.famous = {f"fellows_{name}": of for name, of in fellows.items()}

    def _sides(self, family: str) -> list[str]:
        n = self.cell.countries
        order = stream(self.seed, "entities", "covered", family).permutation(n)
        return ["covered" if i < round(self.taught.coverage * n) else "uncovered" for i in order]

    def teacher(self) -> Job:
        """What the base goes on training with."""
        how, lesson = self.taught.teaching, self.reader.lesson
        composed = [p._replace(capital=p.old) for p in self.pupils if p.family.endswith("_covered")]
        asked = [
            (training([*self.pupils, *self.fellows], "first"), how.first),
            (training_second(self.world.old), how.second),
            (training(composed, "direct"), how.direct),
            ([q for c in self.rehearsed for q in self.survey.replay[c.name]], how.capitals),
        ]
        parts = [Part(self.survey.rehearsed, how.text), *(Part(lesson(q), share) for q, share in asked if q)]
        plan = Schedule(how.steps, how.batch, how.rate, warmup=max(1, how.steps // 10))
        return Job("teacher", parts, AdapterShape(how.rank, 2 * how.rank), plan, self.seed)

    def run(self) -> Measured:
        """Teach the base; then as in every world."""
        taught = train_placed(self.base, [self.teacher()])["teacher"]
        with updated(self.base, taught.updates):
            found = super().run()
        return found.but(losses={"teacher": float(np.mean(taught.losses[-10:])), **found.losses})

    def reply(self, model: nn.Module, kinds: Iterable[str], written: bool = False) -> Reply:
        """As in every world, and the facts that the base was taught."""
        found = super().reply(model, kinds, written)
        for kind, asked, names in (
            ("taught_first", first_hop(self.fellows), self.countries),
            ("taught_second", second_hop(self.world.old), self.capitals),
        ):
            found.scored.facts[kind] = Count.of(hits(self.ask(model, asked, names), asked))
        return found

    def foretell(self) -> Foretold:
        """The law of each sum over each side: lambda of its first expert, p2 of its second one."""
        free, forced = (
            {
                f"{sum_}, {side}": self.law(sum_, side, f"fellows_{side}", old, new)
                for sum_ in self.cell.sums
                for side in self.people
            }
            for old, new in (("old", "right"), ("old_forced", "forced"))
        )
        return Foretold(free=free, forced=forced)


def run_world(cell: Cell, device: str) -> Measured:
    """Run a world.

    Raises:
        TrainingDiverged: a loss was not finite.
        ValueError: the base cannot be loaded, or knows too few countries.
    """
    return TaughtRun(cell, device).run()


TAUGHT = Kind(run_world, seconds=seconds, stores=True)
