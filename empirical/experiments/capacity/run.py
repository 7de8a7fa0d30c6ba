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

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.capacity.predictions import declare
from empirical.experiments.capacity.tables import Measured, Settings, WorldCell
from empirical.experiments.filled import Filled, Rounded, filled, fitted, rounded
from empirical.experiments.known import ask, known_world, old_facts, right, top1, trained_base
from empirical.tasks.sentences import Part
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, updated
from empirical.training.together import train_adapters
from theory.numerics import Array

#: of every adapter: alpha = 2 r
SCALE = 2
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
        self.before, self.right = ask(self.base, self.new), self.new.tokens[:, self.new.answers[-1]]
        self.adapters: dict[str, Updates] = {}

    def filled(self, shapes: Mapping[str, AdapterShape]) -> dict[str, Filled]:
        """Train adapters of these shapes on all facts."""
        plan = Schedule(self.cell.steps, self.cell.batch, self.cell.rate)
        jobs = [Job(name, [Part(self.new, 1.0)], shape, plan, self.cell.seed) for name, shape in shapes.items()]
        found = {}
        for name, trained in train_adapters(self.base, jobs).items():
            self.adapters[name] = trained.updates
            found[name] = filled(trained.updates, self.before, self.answers(trained.updates), self.right)
        return found

    def answers(self, updates: Updates) -> Array:
        """Logits in front of the new facts' answers."""
        with updated(self.base, updates) as model:
            return ask(model, self.new)

    def rounded(self, name: str) -> dict[str, Rounded]:
        """A trained adapter with its numbers rounded to each number of bits."""
        return rounded(self.adapters[name], self.cell.bits, lambda u: top1(self.answers(u), self.right),
                       self.cell.bridges)  # fmt: skip


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
