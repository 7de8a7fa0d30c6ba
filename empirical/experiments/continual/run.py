"""One task after the other: what adapters that learn in sequence keep of earlier tasks, of the base, and of two hops.

Four tasks: first hops of half of the new persons, one relation's changed second hops, first hops of the other half,
another relation's. Every training rehearses facts of the base, and never another task's.

Systems, each as it is written and, where that differs, as its code does it:

- one LoRA that goes on; a LoRA per task that is merged before the next starts from zero (merge and reset);
- SD-LoRA (arXiv 2501.13198): ``W0 + sum_k a_k N(B_k A_k)``, N(X) = X / ||X||_F, old directions fixed, all magnitudes
  trained and carried over, one per task for all matrices. Released: old directions over ||B||_F ||A||_F, the current
  one as it is, and all magnitudes at 0.8 again in every task. Its optimiser is SGD, here all have AdamW;
- C-LoRA (arXiv 2502.17920; its method section could not be read, this is what is quoted of it): ``B R A`` with one
  pair of factors, the routing of earlier tasks fixed and without a gradient to the factors, a new routing added in each
  task; the factors move, or are frozen after the first task. Its penalty on overlap with the old routing is left out;
- adapters of all tasks trained apart and added, or averaged; and one on all tasks at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Count
from empirical.experiments.continual.predictions import declare
from empirical.experiments.continual.tables import Learnt, Measured, Settings, WorldCell
from empirical.experiments.known import FourTasks, right
from empirical.reuse.methods import weighted_sum
from empirical.tasks.sentences import Part, Sentences
from empirical.training.adapter import AdapterShape, Job, Schedule, Trained
from empirical.training.bases import Updates, updated
from empirical.training.forms import Form, Values, adding
from empirical.training.together import form_of, train_adapters
from theory.lowrank import LowRank
from theory.numerics import one_of

#: of every adapter: alpha = 2 r
SCALE = 2.0


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world. Raises ValueError for a method that is not known."""
    for method in settings.methods:
        one_of(method, "methods", tuple(METHODS))
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


def run_world(cell: WorldCell, device: str) -> Measured:
    """Every method on one base. Raises TrainingDiverged where a loss was not finite."""
    run = WorldRun(cell, device)
    return Measured(base=run.known(), composes=run.composes(), methods={m: run.learn(m) for m in cell.methods})


class WorldRun(FourTasks):
    """A base and the tasks that are learnt on it, one after the other."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        super().__init__(cell, cell.seed, device)
        self.cell = cell

    def job(self, name: str, tasks: Sequence[Sentences], rank: int | None = None, shape: Form | None = None) -> Job:
        """The training of an adapter on some tasks; half of every batch rehearses facts of the base."""
        cell, r = self.cell, rank or self.cell.rank
        parts = [Part(task, 0.5 / len(tasks)) for task in tasks]
        plan = Schedule(cell.steps * len(tasks), 2 * cell.batch, cell.rate)
        lora = AdapterShape(r, round(SCALE) * r)
        return Job(name, [*parts, Part(self.old, 0.5)], shape or lora, plan, cell.seed)

    def trained(self, job: Job, merged: Updates | None = None) -> Trained:
        """Train one adapter on the base, with what was merged into it."""
        with updated(self.base, merged or {}) as model:
            return train_adapters(model, [job])[job.name]

    @cached_property
    def apart(self) -> list[Updates]:
        """An adapter for each task, trained on the base without the others."""
        jobs = [self.job(f"apart {t}", [task]) for t, task in enumerate(self.tasks)]
        return [trained.updates for trained in train_adapters(self.base, jobs).values()]

    def learn(self, method: str) -> Learnt:
        """All tasks by one method, and what it answers on the way and at the end."""
        learnt, switched = [], []
        final: Updates = {}
        for number, (before, after) in enumerate(METHODS[method](self)):
            if number:
                switched.append(self.asked(before, self.tasks[number - 1]))
            final = after
            learnt.append(self.asked(final, self.tasks[number]))
        covered, uncovered = (self.asked(final, hops) for hops in self.hops)
        return Learnt(
            learnt=tuple(learnt), switched=tuple(switched), kept=tuple(self.asked(final, t) for t in self.tasks),
            base=self.asked(final, self.old), covered=covered, uncovered=uncovered,
            rank=max(u.rank() for u in final.values() if isinstance(u, LowRank)),
        )  # fmt: skip

    def asked(self, updates: Updates, sentences: Sentences) -> Count:
        """What is answered with these updates on the base."""
        with updated(self.base, updates) as model:
            return Count.of(right(model, sentences))


# ---------------------------------------------------------------- methods

#: what is added to the base when a task begins and when it ends, task by task
Course = Iterator[tuple[Updates, Updates]]


def go_on(run: WorldRun) -> Course:
    """One LoRA is trained on one task after the other."""
    form = form_of(run.base, run.job("go on", run.tasks[:1]))
    before: Updates = {}
    for t, task in enumerate(run.tasks):
        found = run.trained(run.job(f"go on {t}", [task], shape=form))
        yield before, found.updates
        before, form = found.updates, replace(form, trained=found.values)


def merge_and_reset(run: WorldRun) -> Course:
    """A LoRA per task, merged before the next."""
    merged: Updates = {}
    for t, task in enumerate(run.tasks):
        after = weighted_sum([merged, run.trained(run.job(f"merge {t}", [task]), merged).updates], [1.0, 1.0])
        yield merged, after
        merged = after


def apart(weight: float) -> Callable[[WorldRun], Course]:
    """Adapters of all tasks, trained side by side on the base and added with one weight; the sum counts as the end."""

    def learn(run: WorldRun) -> Course:
        found = run.apart
        for t in range(len(found)):
            last = t == len(found) - 1
            yield found[t - 1] if t else {}, weighted_sum(found, [weight] * len(found)) if last else found[t]

    return learn


def joint(run: WorldRun) -> Course:
    """One LoRA on all tasks at once, for as many steps as all of them have."""
    found = run.trained(run.job("joint", run.tasks)).updates
    for _ in run.tasks:
        yield found, found


def sd_lora(released: bool) -> Callable[[WorldRun], Course]:
    """Directions and magnitudes; see the module."""

    def learn(run: WorldRun) -> Course:
        directions: dict[str, torch.Tensor] = {}
        magnitudes = torch.zeros(0)
        for t, task in enumerate(run.tasks):
            job = run.job(f"sd{' released' * released} {t}", [task])
            lora = form_of(run.base, job)
            old = magnitudes if not released else torch.full((t,), 0.8)
            start = {**lora.trained, "magnitudes": torch.cat([old, torch.tensor([0.8 if released else 1.0])])}
            form = Form(lora.modules, start, _RELEASED if released else _FORMULA, _directed(lora.modules, released),
                        dict(directions))  # fmt: skip
            found = run.trained(replace(job, shape=form))
            yield form.updates({**form.fixed, **start}), found.updates
            magnitudes = found.values["magnitudes"]
            for name in lora.modules:
                b, a = found.values[f"{name}.B"], found.values[f"{name}.A"]
                size = b.norm() * a.norm() if released else (b @ a).norm()
                b = b / size
                olds = (directions.get(f"{name}.{f}, old") for f in "BA")
                for f, axis, new, before in zip("BA", (1, 0), (b, a), olds, strict=True):
                    directions[f"{name}.{f}, old"] = new if before is None else torch.cat([before, new], dim=axis)

    return learn


def _directions(name: str, values: Values, released: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns (n, out, t r) and rows (n, t r, in) of all directions times their magnitudes."""
    b, a, sizes = values[f"{name}.B"], values[f"{name}.A"], values["magnitudes"]
    rank = b.shape[2]
    if not released:  # ||B A||_F^2 = tr(B'B A A'); B starts at zero, where there is no direction
        squared = ((b.mT @ b) * (a @ a.mT)).sum(dim=(1, 2), keepdim=True)
        b = b / (squared + 1e-12).sqrt()
    if (key := f"{name}.B, old") in values:
        b, a = torch.cat([values[key], b], dim=2), torch.cat([values[f"{name}.A, old"], a], dim=1)
    return b * sizes.repeat_interleave(rank, dim=1)[:, None], a


def _directed(modules: Sequence[str], released: bool) -> Callable[[Values], Updates]:
    def updates(values: Values) -> Updates:
        one = {name: value[None] for name, value in values.items()}
        pairs = {n: _directions(n, one, released) for n in modules}
        return {n: LowRank(b[0].numpy(), a[0].numpy()) for n, (b, a) in pairs.items()}

    return updates


def _sd(released: bool) -> Any:
    def change(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
        b, a = _directions(name, values, released)
        return x @ a.mT @ b.mT

    return adding(change)


_FORMULA, _RELEASED = _sd(False), _sd(True)


def c_lora(wide: bool, frozen: bool) -> Callable[[WorldRun], Course]:
    """A routing per task between shared factors; see the module."""

    def learn(run: WorldRun) -> Course:
        rank = run.cell.wide if wide else run.cell.rank
        job = run.job(f"c {rank}", run.tasks[:1], rank)
        lora = form_of(run.base, job)
        found = run.trained(replace(job, shape=lora))
        yield {}, found.updates
        values = dict(found.values)
        routes = {f"{name}.R": torch.eye(rank) for name in lora.modules}
        before = found.updates
        for t, task in enumerate(run.tasks[1:], start=1):
            fresh = {f"{name}.R, new": torch.zeros(rank, rank) for name in lora.modules}
            trained, fixed = (fresh, {**values, **routes}) if frozen else ({**values, **fresh}, routes)
            form = Form(lora.modules, trained, _ROUTED, _routed(lora.modules), fixed)
            found = run.trained(replace(run.job(f"c {rank}{' frozen' * frozen} {t}", [task]), shape=form))
            yield before, found.updates
            before = found.updates
            values |= {n: v for n, v in found.values.items() if n in values}
            routes = {n: route + found.values[f"{n}, new"] for n, route in routes.items()}

    return learn


def _route(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
    a, b = values[f"{name}.A"], values[f"{name}.B"]
    old = x @ a.detach().mT @ values[f"{name}.R"].mT @ b.detach().mT
    return SCALE * (old + x @ a.mT @ values[f"{name}.R, new"].mT @ b.mT)


_ROUTED = adding(_route)


def _routed(modules: Sequence[str]) -> Callable[[Values], Updates]:
    def updates(values: Values) -> Updates:
        found = {}
        for n in modules:
            b = values[f"{n}.B"] @ (values[f"{n}.R"] + values[f"{n}.R, new"])
            found[n] = LowRank(b.numpy(), values[f"{n}.A"].numpy(), SCALE)
        return found

    return updates


METHODS: dict[str, Callable[[WorldRun], Course]] = {
    "go on": go_on,
    "merge and reset": merge_and_reset,
    "sd formula": sd_lora(released=False),
    "sd released": sd_lora(released=True),
    "c moving": c_lora(wide=False, frozen=False),
    "c wide moving": c_lora(wide=True, frozen=False),
    "c wide frozen": c_lora(wide=True, frozen=True),
    "sum": apart(1.0),
    "mean": apart(0.25),
    "joint": joint,
}


# ---------------------------------------------------------------- the experiment


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    return cell.base_steps * cell.base_batch * 2e-4 + len(cell.methods) * 4 * cell.steps * (4e-3 + 6e-5 * cell.batch)


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="Tasks in sequence: what adapters that go on, are merged, directed or routed keep of earlier tasks",
    order=41,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
