"""The rank of experts that are added: few people and many, small ranks and large ones, in a pretrained model.

Every cell is a world (see `plain_english`) whose experts have one rank; the same world is there once for each rank.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.engine.settings import Group
from empirical.experiments.entities_ranks.predictions import declare
from empirical.experiments.entities_ranks.tables import RankSettings, Settings
from empirical.experiments.plain_english import WORLD, world_cells
from empirical.experiments.plain_english_tables import Grouped, WorldCell


def cells(settings: Settings) -> list[WorldCell]:
    """One cell per rank of every world of every group. Raises ValueError as `world_cells` does."""
    grid: list[WorldCell] = []
    for group in settings.groups:
        world = RankSettings.of(settings).but(**group.changes)
        worlds = Group(name=group.name, worlds=group.worlds, first_seed=group.first_seed)
        for rank, rate in world.ranks:
            grid += world_cells(Grouped.of(world, groups=(worlds,), rank=rank, rate=rate))
    return grid


experiment = Experiment(
    purpose="The rank of placed experts that are added in a pretrained model, for few facts and for many",
    order=55,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    declare=declare,
)
