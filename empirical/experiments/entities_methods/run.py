"""Every method of the bench in a pretrained model, over two experts on all layers.

Every cell is a world (see `plain_english`): the methods reuse experts that were trained without a thought of placement,
and beside them stands the plain sum of an early first hop and a late second one.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.entities_methods.predictions import declare
from empirical.experiments.plain_english import WORLD, try_method, world_cells
from empirical.experiments.plain_english_tables import Grouped, asked

experiment = Experiment(
    purpose="Every method of reuse over experts on all layers of a pretrained model, beside the sum of placed ones",
    order=52,
    protocol=1,
    settings=Grouped,
    cells=world_cells,
    kinds=(WORLD,),
    declare=declare,
    asked=asked,
    try_method=try_method,
)
