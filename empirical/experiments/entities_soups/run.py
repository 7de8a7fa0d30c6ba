"""Weights learnt from a few examples over placed experts of a pretrained model.

Every cell is a world (see `plain_english`): LoRA Soups learns a weight for each adapter and module from sixteen facts
of either expert, an early first hop and a late second one, and stands beside their plain sum.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.entities_soups.predictions import declare
from empirical.experiments.plain_english import WORLD, try_method, world_cells
from empirical.experiments.plain_english_tables import Grouped, asked

experiment = Experiment(
    purpose="Weights learnt from a few examples over placed experts of a pretrained model, beside their plain sum",
    order=54,
    protocol=1,
    settings=Grouped,
    cells=world_cells,
    kinds=(WORLD,),
    declare=declare,
    asked=asked,
    try_method=try_method,
)
