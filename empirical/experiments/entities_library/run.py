"""A library of three in a pretrained model: two hops, and direct questions about other people.

Every cell is a world (see `plain_english`): the third expert learns to answer with a capital, of people and countries
that the base knows, which is what the question asks for and neither hop teaches.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.entities_library.predictions import declare
from empirical.experiments.plain_english import WORLD, try_method, world_cells
from empirical.experiments.plain_english_tables import Grouped, asked

experiment = Experiment(
    purpose="Every method of reuse over three experts of a pretrained model: two hops, and direct questions about others",
    order=53,
    protocol=1,
    settings=Grouped,
    cells=world_cells,
    kinds=(WORLD,),
    declare=declare,
    asked=asked,
    try_method=try_method,
)
