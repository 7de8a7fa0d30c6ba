"""Coverage, taught over real countries: what direct questions over half of them add to what pretraining has covered.

Every cell is a world (see `taught`) of real countries with their own capitals.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.taught import TAUGHT, cells
from empirical.experiments.taught_real.predictions import declare
from empirical.experiments.taught_tables import Settings

experiment = Experiment(
    purpose="Coverage, taught over half of the real countries, beside what pretraining covers by itself",
    order=54,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(TAUGHT,),
    declare=declare,
)
