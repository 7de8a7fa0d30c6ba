"""Rounds of merging: heads trained from the merged weights, again and again; and adapters trained under masks.

*heads*: LoRA-the-Explorer (arXiv 2402.16828). H heads train side by side from the merged weights, their mean is merged,
and they go on: from zero (the paper) or from where they are, less what was merged (the released code's default; its
optimiser goes on too, here every round starts a new one). Shards are disjoint facts; equal data are all facts for each
head, in batches H times as large, so that every fact is seen as often.

*masks*: LoRA Dropout (arXiv 2404.09610). In every pass entries of the inputs of A and of the outputs of B are left out
at rate p, without scaling up the rest, as the paper writes it, and with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Cell, Count
from empirical.experiments.known import ask, known_world, margins, old_facts, right, trained_base
from empirical.experiments.rounds.predictions import declare
from empirical.experiments.rounds.tables import (
    Condition,
    Foretold,
    Heads,
    HeadsCell,
    Masked,
    Masks,
    MasksCell,
    Round,
    Settings,
)
from empirical.reuse.methods import weighted_sum
from empirical.tasks.sentences import Part
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, generator, updated
from empirical.training.forms import Form, Values, adding
from empirical.training.together import adapted, form_of, train_adapters
from theory.continual import round_dilution
from theory.lowrank import LowRank
from theory.numerics import Array


def cells(settings: Settings) -> list[Cell]:
    """One cell of heads and one of masks a world."""
    return [
        *(HeadsCell.of(settings.heads, seed=seed) for seed in settings.seeds),
        *(MasksCell.of(settings.masks, seed=seed) for seed in settings.seeds),
    ]


# ---------------------------------------------------------------- heads

#: of every adapter: alpha = 2 r
SCALE = 2.0


def run_heads(cell: HeadsCell, device: str) -> Heads:
    """Every condition on one base. Raises TrainingDiverged where a loss was not finite."""
    run = HeadsRun(cell, device)
    rounds = {c.name: run.rounds(c) for c in cell.conditions}
    known = Count.of(right(run.base, run.new)), Count.of(right(run.base, run.old))
    return Heads(base=known[0], old=known[1], predicted=run.predicted, rounds=rounds)


class HeadsRun:
    """A base, new facts for heads to write, old ones to keep."""

    def __init__(self, cell: HeadsCell, device: str) -> None:
        world = known_world(cell, cell.seed)
        self.cell, self.new, self.old = cell, world.first_hops(world.new), world.replay()
        self.base = trained_base(cell, world, old_facts(world), device)
        self.predicted: dict[str, Foretold] = {}

    def rounds(self, condition: Condition) -> tuple[Round, ...]:
        """Train, merge, and again."""
        n, heads = len(self.new.tokens), condition.heads
        shards = [np.arange(n) if condition.equal else np.arange(n)[h::heads] for h in range(heads)]
        merged: Updates = {}
        ends: list[Values] = []
        found = []
        for number in range(condition.rounds):
            with updated(self.base, merged) as model:
                jobs = [self.job(condition, f"{number} {h}", rows) for h, rows in enumerate(shards)]
                if not condition.reset:
                    starts = ends or [form_of(model, job).trained for job in jobs]
                    jobs = [replace(j, shape=going_on(values)) for j, values in zip(jobs, starts, strict=True)]
                trained = train_adapters(model, jobs)
                ends = [trained[job.name].values for job in jobs]
                changes = [trained[job.name].updates for job in jobs]
                before, alone = ask(model, self.new), []
                for change in changes:
                    with updated(model, change):
                        alone.append(ask(model, self.new))
            if number == 0 and not condition.equal:
                name = condition.name
                self.predicted[name] = seal(f"predicted.{name}", self.foretell(condition, before, alone, shards))
            merged = weighted_sum([merged, *changes], [1.0] + [1 / heads] * heads)
            found.append(self.after(merged, before + np.mean([a - before for a in alone], axis=0), alone, shards))
        return tuple(found)

    def job(self, condition: Condition, name: str, rows: np.ndarray) -> Job:
        """A head's training in a round; half of every batch rehearses old facts."""
        cell = self.cell
        parts = [Part(self.new.take(rows), 0.5), Part(self.old, 0.5)]
        batch = 2 * cell.batch // (1 if condition.equal else condition.heads)
        shape, plan = AdapterShape(cell.rank, round(SCALE) * cell.rank), Schedule(cell.steps, batch, cell.rate)
        return Job(f"{condition.name} {name}", parts, shape, plan, cell.seed)

    def foretell(
        self, condition: Condition, before: Array, alone: Sequence[Array], shards: Sequence[np.ndarray]
    ) -> Foretold:
        """What `round_dilution` makes of the heads of the first round, which are alone right by some median margin."""
        own = before.copy()
        for logits, rows in zip(alone, shards, strict=True):
            own[rows] = logits[rows]
        shares = [float(round_dilution(condition.heads, t + 1)) for t in range(condition.rounds)]
        start, end = (float(np.median(margins(logits, self.new))) for logits in (before, own))
        leads = [margins(before + share * (own - before), self.new) for share in shares]
        margin = tuple(start + share * (end - start) for share in shares)
        return Foretold(margin=margin, right=tuple(Count.of(lead > 0) for lead in leads))

    def after(self, merged: Updates, additive: Array, alone: Sequence[Array], shards: Sequence[np.ndarray]) -> Round:
        """What the merged model answers, and what the heads did alone."""
        with updated(self.base, merged) as model:
            leads, old = margins(ask(model, self.new), self.new), Count.of(right(model, self.old))
        own = np.concatenate([margins(a, self.new)[rows] for a, rows in zip(alone, shards, strict=True)])
        return Round(
            right=Count.of(leads > 0), margin=float(np.median(leads)),
            additive=Count.of(margins(additive, self.new) > 0),
            alone=Count.of(own > 0), alone_margin=float(np.median(own)), old=old,
            rank=max(update.rank() for update in merged.values() if isinstance(update, LowRank)),
        )  # fmt: skip


def going_on(values: Values) -> Form:
    """A head that goes on from these factors on a base that holds what they were: it adds what it has changed."""
    modules = tuple(name.removesuffix(".A") for name in values if name.endswith(".A"))
    fixed = {f"{name}, before": value.clone() for name, value in values.items()}

    def updates(found: Values) -> Updates:
        def factors(name: str, when: str) -> LowRank:
            return LowRank(found[f"{name}.B{when}"].numpy(), found[f"{name}.A{when}"].numpy(), SCALE)

        return {n: LowRank.combine([factors(n, ""), factors(n, ", before")], [1.0, -1.0]) for n in modules}

    return Form(modules, values, _going_on, updates, fixed)


def _change(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
    now, before = (x @ values[f"{name}.A{when}"].mT @ values[f"{name}.B{when}"].mT for when in ("", ", before"))
    return SCALE * (now - before)


_going_on = adding(_change)


# ---------------------------------------------------------------- masks


def run_masks(cell: MasksCell, device: str) -> Masks:
    """Adapters under masks of several rates on one base. Raises TrainingDiverged where a loss was not finite."""
    world = known_world(cell, cell.seed)
    new, old = world.first_hops(world.new), world.replay()
    base = trained_base(cell, world, old_facts(world), device)
    draw = generator(cell.seed, "masks")
    outputs = adding(masking(draw))
    jobs = []
    for p, rescaled in cell.masks:
        shape, plan = AdapterShape(cell.rank, round(SCALE) * cell.rank), Schedule(cell.steps, 2 * cell.batch, cell.rate)
        name = f"{p:g}{' rescaled' * rescaled}"
        job = Job(name, [Part(new, 0.5), Part(old, 0.5)], shape, plan, cell.seed)
        lora = form_of(base, job)
        kept = {"keep": torch.tensor(1 - p), "gain": torch.tensor(1 / (1 - p) if rescaled else 1.0)}
        jobs.append(replace(job, shape=replace(lora, outputs=outputs, fixed={**lora.fixed, **kept}, draw=draw)))
    trained = train_adapters(base, jobs)
    found = {}
    for job in jobs:
        form, updates = job.shape, trained[job.name].updates
        assert isinstance(form, Form)
        counts, leads = [], []
        for part in cell.parts:
            with updated(base, weighted_sum([updates], [1 / part])) as model:
                lead = margins(ask(model, new), new)
                counts.append((Count.of(lead > 0), Count.of(right(model, old))))
                leads.append(float(np.median(lead)))
        modules = {name: base.get_submodule(name) for name in form.modules}
        values = {n: v[None].to(device) for n, v in {**form.fixed, **trained[job.name].values}.items()}
        with adapted(modules, form.outputs, {n: v.float() for n, v in values.items()}):
            mean = np.mean([ask(base, new) for _ in range(cell.ensemble)], axis=0)
        found[job.name] = Masked(
            new=tuple(c[0] for c in counts), old=tuple(c[1] for c in counts), margin=tuple(leads),
            ensemble=Count.of(margins(mean, new) > 0),
        )  # fmt: skip
    return Masks(base=Count.of(right(base, new)), old=Count.of(right(base, old)), found=found)


def masking(draw: torch.Generator) -> Callable[[str, torch.Tensor, Values], torch.Tensor]:
    """LoRA whose inputs of A and outputs of B are kept with probability `keep` each, and scaled by `gain`; drawn once
    a pass for all sentences."""

    def change(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
        a, b = values[f"{name}.A"], values[f"{name}.B"]
        into = a * mask(a[:, :1], values, draw)
        return SCALE * (x @ into.mT) @ (b * mask(b[:, :, :1], values, draw)).mT

    return change


def mask(like: torch.Tensor, values: Values, draw: torch.Generator) -> torch.Tensor:
    """A mask of this shape (n, ...) for each of n adapters."""
    drawn = torch.rand(like.shape, generator=draw).to(like)
    keep, gain = (values[key][:, None, None] for key in ("keep", "gain"))
    return (drawn < keep) * gain


# ---------------------------------------------------------------- the experiment


def _seconds(rows: float, steps: float) -> float:
    return 0.2 + steps * (4e-3 + 3e-5 * rows)


HEADS = Kind(
    run_heads,
    lambda c: sum(k.rounds * _seconds(2 * c.batch * (k.heads if k.equal else 1), c.steps) for k in c.conditions),
    stores=True,
)
MASKS = Kind(run_masks, lambda c: _seconds(2 * c.batch * len(c.masks), c.steps), stores=True)

experiment = Experiment(
    purpose="Rounds of merging and masks: how much of each fact a mean of heads writes, round after round",
    order=40,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(HEADS, MASKS),
    declare=declare,
)
