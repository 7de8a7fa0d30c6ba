"""What `taught_real` declares: pretraining has covered real countries, and teaching adds free text.

Over made-up countries (`taught_coverage`), which pretraining never showed, the two sides lie more than .5 apart by
forced choice, and a changed second hop hardly gets through. Deviations of the alternatives are what calibration worlds
showed between worlds, rounded up.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Prediction, address, measure
from empirical.engine.settings import Count
from empirical.experiments.plain_english_tables import Measured
from empirical.experiments.taught_predictions import SIDES, Worlds
from empirical.experiments.taught_tables import Settings

#: what is answered at least over countries of which no direct question was taught
OPEN = 0.5
#: how far the two sides lie apart at most
GAP = 0.3
#: of whom: words, condition, what the cell begins with
ASKED = {
    "base": ("fellows, by the taught base", "base", "fellows_"),
    "lambda": ("λ of an early first hop", "first_early", ""),
}
TURNED = Alternative("the other way round, by .3", -0.3, 0.1)


def declare(settings: Settings) -> list[Prediction]:
    """Uncovered countries are open by forced choice, covered ones hardly more so; free text goes by what is taught."""
    found: list[Prediction] = []
    for group in settings.groups:
        said = Real(group, settings.but(**group.changes))
        said.learnt("coverage_law")
        said.first_hops()
        said.sums()
        found += said
    return found


class Real(Worlds):
    """The predictions of one group of worlds of real countries."""

    def first_hops(self) -> None:
        """The base alone, and through an expert of new people."""
        for name, (words, condition, before) in ASKED.items():
            covered, uncovered = (address(condition, f"{before}R_{side}_old_forced") for side in SIDES)
            says = f"{words}: where no direct question was taught, at least {OPEN:g} by forced choice"
            unless = Alternative("answers as a guess does", self.blind, 0.1, self.asked)
            self.hypothesis(f"{name}.open", "coverage_law", says, of=uncovered, at_least=OPEN, unless=unless,
                            family="untaught countries", about=condition)  # fmt: skip
            says = f"{words}: covered above uncovered by at most {GAP:g} by forced choice"
            unless = Alternative("as far apart as made-up countries, by .55", 0.55, 0.1)
            self.hypothesis(f"{name}.gap", "coverage_law", says, of=covered - uncovered, at_most=GAP, unless=unless,
                            family="taught and untaught countries", about=condition)  # fmt: skip
            free = [address(condition, f"{before}R_{side}_old") for side in SIDES]
            says = f"{words}: covered above uncovered in free text"
            self.hypothesis(f"{name}.free", "coverage_law", says, of=free[0] - free[1], above=0.0, unless=TURNED,
                            family="in free text", about=condition)  # fmt: skip

    def sums(self) -> None:
        """A changed second hop gets through, on both sides together."""
        for sum_ in self.settings.sums:
            says = f"{sum_}, both sides: above a random adapter for the first hop, with the same second one"
            self.hypothesis("sum.random", "coverage_law", says, of=both(f"sum:{sum_}") - both(f"random:{sum_}"),
                            above=0.0, unless=TURNED, family="the sum over real countries",
                            about=f"sum:{sum_}")  # fmt: skip


def both(condition: str) -> Measure:
    """What a condition chooses of the new capitals, over both sides."""
    return measure(Measured, f"{condition}, both sides, new capitals by forced choice",
                   lambda m: Count.total(m.scores[condition][f"R_{side}_forced"] for side in SIDES))  # fmt: skip
