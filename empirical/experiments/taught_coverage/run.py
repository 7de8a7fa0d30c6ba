"""Coverage, taught to a pretrained model: does it compose country by country, as the worlds from scratch do?

Every cell is a world (see `taught`) of made-up countries: direct questions are taught over half of them, or over none.
"""

from __future__ import annotations

from empirical.engine.experiment import Experiment
from empirical.experiments.taught import TAUGHT, cells
from empirical.experiments.taught_coverage.predictions import declare
from empirical.experiments.taught_tables import Settings

experiment = Experiment(
    purpose="Coverage, taught to a pretrained model: direct questions over half of the countries",
    order=53,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(TAUGHT,),
    declare=declare,
)
