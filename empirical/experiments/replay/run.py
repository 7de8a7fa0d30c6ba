"""Replay: what an adapter that learns new facts keeps of old ones, by how often each of these is shown again.

A base from scratch knows its old facts. Adapters are taught new ones, which share no prompt with them; a share of every
batch rehearses old facts (as Replay to Remember does, arXiv 2504.17780, as far as its abstract tells). *Runs* rehearse
all old facts, at several shares and for several numbers of steps, so that the same number of examples, share x batch x
steps, is rehearsed in different ways; and on two bases, one of which knows a quarter of the facts, so that each of them
is seen four times as often. *Buffers* rehearse some of the old facts and never the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Count
from empirical.experiments.known import known_world, old_facts, right, trained_base
from empirical.experiments.replay.predictions import declare, run_name
from empirical.experiments.replay.tables import Measured, Rehearsed, Settings, WorldCell
from empirical.tasks.sentences import Ints, Part, Sentences
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import updated
from empirical.training.together import train_adapters
from theory.continual import exposures
from theory.numerics import stream

#: of every adapter: alpha = 2 r
SCALE = 2


def cells(settings: Settings) -> list[WorldCell]:
    """Two cells a world: a base of all old persons, and one of fewer, on which there are no buffers."""
    fewer = settings.but(old_persons=settings.fewer, buffers=())
    return [WorldCell.of(kind, seed=seed) for seed in settings.seeds for kind in (settings, fewer)]


@dataclass(frozen=True)
class Plan:
    """What one adapter is shown: a share of the batches from the old facts of a buffer (indices), for some steps."""

    share: float
    steps: int
    buffer: Ints


def run_world(cell: WorldCell, device: str) -> Measured:
    """Train all adapters of a base. Raises TrainingDiverged where a loss was not finite."""
    world = known_world(cell, cell.seed)
    new, old = world.first_hops(world.new), world.replay()
    base = trained_base(cell, world, old_facts(world), device)
    order = stream(cell.seed, "buffer").permutation(len(old.tokens))
    runs = {run_name(share, steps): Plan(share, steps, order) for share in cell.shares for steps in cell.steps}
    buffers = {str(m): Plan(cell.buffer_share, cell.buffer_steps, order[:m]) for m in cell.buffers}
    plans = {**runs, **{f"buffer {name}": plan for name, plan in buffers.items()}}

    trained = train_adapters(base, [job_of(cell, name, plan, new, old) for name, plan in plans.items()])
    found = {}
    for name, plan in plans.items():
        shown = np.isin(np.arange(len(old.tokens)), plan.buffer)
        with updated(base, trained[name].updates) as model:
            kept = right(model, old)
            found[name] = Rehearsed(
                exposures=float(exposures(plan.share, cell.batch, plan.steps, len(plan.buffer))),
                new=Count.of(right(model, new)), inside=Count.of(kept, shown), outside=Count.of(kept, ~shown),
            )  # fmt: skip
    return Measured(
        base=Count.of(right(base, old)), unknown=Count.of(right(base, new)),
        runs={name: found[name] for name in runs}, buffers={name: found[f"buffer {name}"] for name in buffers},
    )  # fmt: skip


def job_of(cell: WorldCell, name: str, plan: Plan, new: Sentences, old: Sentences) -> Job:
    """The training of one adapter."""
    parts = [Part(new, 1 - plan.share)] + [Part(old.take(plan.buffer), plan.share)] * (plan.share > 0)
    shape, schedule = AdapterShape(cell.rank, SCALE * cell.rank), Schedule(plan.steps, cell.batch, cell.rate)
    return Job(name, parts, shape, schedule, cell.seed)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a cell takes on one core."""
    steps = len(cell.shares) * sum(cell.steps) + len(cell.buffers) * cell.buffer_steps
    return cell.base_steps * cell.base_batch * 2e-4 + steps * cell.batch * 1.2e-4


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="Replay: what is kept of old facts, by share, steps and buffer",
    order=42,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
