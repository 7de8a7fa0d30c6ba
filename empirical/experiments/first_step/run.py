"""How the first step grows with the rank: two optimisers, two conventions of the scale, either factor at zero.

A base from scratch knows its people; adapters on all its matrices take one step, on all facts about new people at once,
in double precision. What is measured is the update after that step and by how much the loss fell, at every rank, for
gradient descent and Adam, alpha / r and alpha / sqrt(r), with B at zero (and A drawn as peft draws it) or the other way
round (`first_step_size`). Of what is trained the base is kept; the steps are the measurement.
"""

from __future__ import annotations

import math
from itertools import product

import torch

from empirical.engine.experiment import Experiment, Kind
from empirical.experiments.first_step.predictions import declare
from empirical.experiments.first_step.tables import Measured, Settings, Step, WorldCell
from empirical.experiments.known import known_world, old_facts, trained_base
from empirical.tasks.sentences import Batch, collate
from empirical.training.adapter import AdapterShape, answer_loss, initial
from empirical.training.bases import factors, generator, lora_layers, update_of, with_peft

OPTIMIZERS, SCALES, ZEROS = ("sgd", "adam"), {"alpha/r": False, "alpha/sqrt(r)": True}, ("B", "A")
#: a way of the first step, in words -> optimiser, whether rank-stabilised, factor that starts at zero
WAYS = {f"{o}, {s}, {z}": (o, SCALES[s], z) for o, s, z in product(OPTIMIZERS, SCALES, ZEROS)}
NAME = "first"


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world."""
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


def run_world(cell: WorldCell, device: str) -> Measured:
    """Take every first step. Raises TrainingDiverged where a loss of the base was not finite."""
    world = known_world(cell, cell.seed)
    base = trained_base(cell, world, old_facts(world), device).double()
    facts = collate([world.first_hops(world.new)])
    return Measured(steps={
        way: {str(r): first_step(cell, base, facts, r, *how) for r in cell.ranks} for way, how in WAYS.items()
    })  # fmt: skip


def first_step(
    cell: WorldCell, base: torch.nn.Module, facts: list[Batch], rank: int, optimizer: str, rslora: bool, zero: str
) -> Step:
    """One step of an adapter from its start."""
    draw = generator(cell.seed, "first_step", rank, zero)
    config = AdapterShape(rank, cell.alpha, rslora=rslora).lora_config()
    with with_peft(base, config, NAME) as model:
        model.double()
        layers, moved = lora_layers(model), []
        for layer in layers.values():
            a, b = factors(layer, NAME)
            with torch.no_grad():
                a.copy_(initial(a.shape[0], a.shape[1], draw))
                b.copy_(initial(b.shape[1], b.shape[0], draw).T)
                (b if zero == "B" else a).zero_()
            moved += [a, b]
        rate = getattr(cell.rates, optimizer)
        step = torch.optim.SGD(moved, lr=rate) if optimizer == "sgd" else torch.optim.Adam(moved, lr=rate, eps=0.0)
        before = answer_loss(base, facts)
        before.backward()
        for factor in moved:  # a gradient of zero leaves a factor where it is, and would be 0 / 0 for Adam
            if factor.grad is not None and not factor.grad.any():
                factor.grad = None
        step.step()
        with torch.no_grad():
            fall = float(before - answer_loss(base, facts))
        size = math.hypot(*(update_of(layer, NAME).norm() for layer in layers.values()))
    return Step(norm=size, loss=fall)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    return cell.base_steps * cell.base_batch * 1e-4 + len(WAYS) * len(cell.ranks) * 0.1


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="How the size of the first step grows with the rank, by optimiser, scale and the factor at zero",
    order=45,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
