"""What `taught_real` declares: pretraining has covered real countries, so what is taught over half of them adds little.

Over made-up countries (`taught_coverage`), which pretraining never showed, the two sides lie more than .5 apart.
Deviations of the alternatives are what calibration worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, address
from empirical.experiments.taught_predictions import SIDES, Worlds
from empirical.experiments.taught_tables import Settings

#: what is answered at least over countries of which no direct question was taught
OPEN = 0.4
#: how far the two sides lie apart at most
GAP = 0.3
#: of whom: words, condition, what the cell begins with
ASKED = {
    "base": ("fellows, by the taught base", "base", "fellows_"),
    "lambda": ("λ of an early first hop", "first_early", ""),
}


def declare(settings: Settings) -> list[Prediction]:
    """Uncovered countries are open, and covered ones hardly more so, for the base alone and through an expert."""
    found: list[Prediction] = []
    for group in settings.groups:
        said = Worlds(group, settings.but(**group.changes))
        said.learnt()
        for name, (words, condition, before) in ASKED.items():
            covered, uncovered = (address(condition, f"{before}R_{side}_old_forced") for side in SIDES)
            says = f"real countries, {words}: where no direct question was taught, at least {OPEN:g}"
            unless = Alternative("answers as a guess does", said.blind, 0.1, said.asked)
            said.hypothesis(f"{name}.open", "coverage_law", says, of=uncovered, at_least=OPEN, unless=unless,
                            family=f"{words}, untaught", about=condition)  # fmt: skip
            says = f"real countries, {words}: covered above uncovered by at most {GAP:g}"
            unless = Alternative("as far apart as made-up countries, by .55", 0.55, 0.1)
            said.hypothesis(f"{name}.gap", "coverage_law", says, of=covered - uncovered, at_most=GAP, unless=unless,
                            family=f"{words}, apart", about=condition)  # fmt: skip
        found += said
    return found
