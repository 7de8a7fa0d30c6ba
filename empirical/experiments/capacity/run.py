"""How many facts an adapter recalls: by its rank, by where it is written, and by the bits of its numbers.

A base from scratch knows its people; adapters are taught one fact about each new person, uniform over m values and
independent. On the last layer the fall of the loss against the rank is fitted by the power law that was published for
large models (arXiv 2605.30260: ``C r^a + b``, in which C holds the length of the data, a constant here), and ranks that
were not fitted are foretold before they are trained. Beside it one rank on single layers and on all of them; that
on all with its numbers rounded to few bits; and the smallest adapter there is, on one matrix, rounded too, which is
held against what counting allows so many bits (`capacity_bits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.capacity.predictions import declare
from empirical.experiments.capacity.tables import Filled, Law, Measured, Rounded, Settings, WorldCell
from empirical.experiments.known import ask, known_world, margins, old_facts, right, trained_base
from empirical.tasks.sentences import Part
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, updated
from empirical.training.together import train_adapters
from theory.facts import capacity_ceiling
from theory.lowrank import LowRank
from theory.numerics import Array

#: of every adapter: alpha = 2 r
SCALE = 2
#: bits of a float32
FULL = 32
#: powers a that are tried; the least stands for the logarithm, to which the law tends as a falls to zero
POWERS = tuple(np.linspace(0.02, 1.5, 75).tolist())
#: the matrix of the smallest adapters
MATRIX = "down_proj"


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world."""
    return [WorldCell.of(settings, seed=seed) for seed in settings.seeds]


def run_world(cell: WorldCell, device: str) -> Measured:
    """Fit on some ranks, seal, train the others. Raises TrainingDiverged where a loss was not finite."""
    run, last, r = WorldRun(cell, device), (cell.layers - 1,), cell.rank
    ranks = run.filled({str(r): AdapterShape(r, SCALE * r, last) for r in cell.fitted})
    law = seal("law", fitted({int(r): f.drop for r, f in ranks.items()}, cell.foretold))
    ranks |= run.filled({str(r): AdapterShape(r, SCALE * r, last) for r in cell.foretold})
    places = {"all": None, **{str(i): (i,) for i in range(cell.layers)}}
    layers = run.filled({f"layers {name}": AdapterShape(r, SCALE * r, where) for name, where in places.items()})
    run.filled({"small": AdapterShape(1, SCALE, last, (MATRIX,))})
    return Measured(
        base=Count.of(right(run.base, run.new)), known=Count.of(right(run.base, run.old)), law=law, ranks=ranks,
        layers={name: layers[f"layers {name}"] for name in places}, rounded=run.rounded("layers all"),
        small=run.rounded("small"),
    )  # fmt: skip


class WorldRun:
    """A base and the facts that adapters are filled with."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        world = known_world(cell, cell.seed)
        self.cell, self.new, self.old = cell, world.first_hops(world.new), world.replay()
        self.base = trained_base(cell, world, old_facts(world), device)
        self.before = ask(self.base, self.new)
        self.adapters: dict[str, Updates] = {}

    def filled(self, shapes: Mapping[str, AdapterShape]) -> dict[str, Filled]:
        """Train adapters of these shapes on all facts."""
        plan = Schedule(self.cell.steps, self.cell.batch, self.cell.rate)
        jobs = [Job(name, [Part(self.new, 1.0)], shape, plan, self.cell.seed) for name, shape in shapes.items()]
        found = {}
        for name, trained in train_adapters(self.base, jobs).items():
            self.adapters[name] = trained.updates
            logits = self.answers(trained.updates)
            drop = float((cross_entropy(self.before, self.new) - cross_entropy(logits, self.new)).mean())
            found[name] = Filled(recalled=Count.of(margins(logits, self.new) > 0), drop=drop,
                                 parameters=numbers(trained.updates))  # fmt: skip
        return found

    def answers(self, updates: Updates) -> Array:
        """Logits in front of the new facts' answers."""
        with updated(self.base, updates) as model:
            return ask(model, self.new)

    def rounded(self, name: str) -> dict[str, Rounded]:
        """A trained adapter with its numbers rounded to each number of bits."""
        n, m = len(self.new.tokens), self.cell.bridges
        found = {}
        for bits in self.cell.bits:
            updates, size = round_to(self.adapters[name], bits)
            recalled = Count.of(margins(self.answers(updates), self.new) > 0)
            found[str(bits)] = Rounded(recalled=recalled, bits=size, ceiling=capacity_ceiling(size, n, m))
        return found


def cross_entropy(logits: Array, sentences: Any) -> Array:
    """Of every answer, in nats (n,)."""
    from scipy.special import logsumexp

    answers = sentences.tokens[:, sentences.answers[-1]]
    found: Array = logsumexp(logits, axis=1) - logits[np.arange(len(answers)), answers]
    return found


def numbers(updates: Updates) -> int:
    """How many numbers the factors of an adapter have."""
    return sum(u.A.size + u.B.size for u in updates.values() if isinstance(u, LowRank))


def fitted(drops: Mapping[int, float], ranks: tuple[int, ...]) -> Law:
    """The law ``C r^a + b`` of drops by rank, by least squares, a in :data:`POWERS`, and what it says of others."""
    columns = {a: np.column_stack([np.array(list(drops)) ** a, np.ones(len(drops))]) for a in POWERS}
    wanted = np.array(list(drops.values()))
    found = {a: np.linalg.lstsq(x, wanted, rcond=None)[0] for a, x in columns.items()}
    power = min(POWERS, key=lambda a: float(np.square(columns[a] @ found[a] - wanted).sum()))
    scale, offset = found[power].tolist()
    foretold = {str(r): scale * r**power + offset for r in ranks}
    return Law(scale=scale, power=power, offset=offset, foretold=foretold)


def round_to(updates: Updates, bits: int) -> tuple[dict[str, LowRank], int]:
    """An adapter whose numbers have so many bits each, and the bits of all.

    32 are as they are; 16 keep the upper half of a float32 (bfloat16, towards zero); fewer are 2^bits - 1 even steps
    between minus and plus the largest number of each factor, which is kept in 32 bits more.
    """
    found, size = {}, 0
    for name, update in updates.items():
        assert isinstance(update, LowRank)
        size += sum(bits * factor.size + FULL * (bits < FULL // 2) for factor in (update.B, update.A))
        found[name] = LowRank(_rounded(update.B, bits), _rounded(update.A, bits), update.scale)
    return found, size


def _rounded(factor: Array, bits: int) -> Array:
    if bits >= FULL // 2:
        raw = factor.astype(np.float32).view(np.uint32)
        kept: Array = (raw >> (FULL - bits) << (FULL - bits)).view(np.float32).astype(np.float64)
        return kept
    most, steps = float(np.abs(factor).max()), 2 ** (bits - 1) - 1
    found: Array = np.round(factor / most * steps) / steps * most if most else factor
    return found


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core."""
    adapters = len(cell.fitted) + len(cell.foretold) + cell.layers + 2
    return cell.base_steps * cell.base_batch * 1e-4 + adapters * cell.steps * cell.batch * 6e-5


WORLD = Kind(run_world, seconds, stores=True)

experiment = Experiment(
    purpose="How many facts an adapter recalls: by its rank, its layers and the bits of its numbers",
    order=44,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
