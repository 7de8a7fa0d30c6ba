"""Two-hop reuse in a real pretrained model: person -> country -> capital, in plain English.

A cell is either *base* (the untouched base is asked what it knows and what it composes) or a *world*: experts on chosen
layers, each alone, then reused together (see `plain_english`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Count
from empirical.experiments.entities.predictions import declare
from empirical.experiments.entities.tables import BaseCell, Knowledge, Settings
from empirical.experiments.plain_english import WORLD, hits, prompts, try_method, world_cells
from empirical.experiments.plain_english_tables import asked
from empirical.experiments.pretrained import SCRATCH, base_model
from empirical.tasks.entities import REAL, EntityShape, World, bridge_given, direct, second_hop
from theory.numerics import require


def cells(settings: Settings) -> list[Cell]:
    """Base cells, and one cell per world of every group. Raises ValueError as `world_cells` does."""
    asked = settings.asked
    seeds = range(asked.first_seed, asked.first_seed + asked.worlds)
    return [*(BaseCell.of(asked, base=settings.base, seed=s) for s in seeds), *world_cells(settings)]


def base_seconds(cell: BaseCell) -> float:
    """A guess of the seconds that a base cell takes on one core with the packaged base."""
    return 5.0 if cell.base == SCRATCH else 20.0


def run_base(cell: BaseCell, device: str) -> Knowledge:
    """What the untouched base knows of real countries drawn at random, and what it composes.

    `given`: the direct question about a new person after a sentence that states the country; `new`: without it, and
    its chance; `famous`: the direct question about famous people, chosen by nothing that the base was asked before.

    Raises:
        ValueError: the base cannot be loaded.
    """
    model, reader = base_model(cell.base, device)
    world = World(EntityShape(cell.people, cell.countries, ("R",)), cell.seed)
    names = [*dict.fromkeys([c.capital for c in REAL])]
    sets = {
        "capitals": second_hop(world.old),
        "given": bridge_given(world.people),
        "new": direct(world.people),
        "famous": direct(world.famous("R")[: 3 * cell.people]),
    }
    given = {name: reader.names(model, prompts(asked), names) for name, asked in sets.items()}
    counts = {name: Count.of(hits(given[name], asked)) for name, asked in sets.items()}
    return Knowledge(**counts, new_chance=permuted_chance(given["new"], [p.capital for p in world.people]))


def permuted_chance(given: Sequence[str | None], answers: Sequence[str]) -> float:
    """Expected share right if the answers given were permuted uniformly among the people: exact, no draw.

    Every pair of a given answer and a person meets with probability 1/n, so it is the share of equal pairs among all.
    """
    require(len(given) == len(answers) > 0, "given", f"{len(answers)} answers, at least one", len(given))
    there = Counter(answers)
    return sum(there[g] for g in given if g is not None) / len(answers) ** 2


BASE = Kind(run_base, seconds=base_seconds)
experiment = Experiment(
    purpose="Two-hop reuse in a real pretrained model: person -> country -> capital, in plain English",
    order=50,
    protocol=3,
    settings=Settings,
    cells=cells,
    kinds=(BASE, WORLD),
    declare=declare,
    asked=asked,
    try_method=try_method,
)
