"""Beyond placement in a pretrained model: which layers, which kind of facts and names, which rehearsal.

Every cell is a world (see `plain_english`). Groups: *scan*, first hops on blocks of three layers; *made_up* and
*famous*, facts of three families about made-up people and about real ones who are given another home; *typed*, experts
that rehearse direct questions about other people, beside experts that do not.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.entities_wide.predictions import declare
from empirical.experiments.plain_english import WORLD, world_cells
from empirical.experiments.plain_english_tables import Grouped

experiment = Experiment(
    purpose="Beyond placement in a pretrained model: which layers, facts, names and rehearsal",
    order=51,
    protocol=1,
    settings=Grouped,
    cells=world_cells,
    kinds=(WORLD,),
    declare=declare,
)
