"""What `taught_coverage` declares, group by group.

Deviations of the alternatives are what calibration worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, address
from empirical.experiments import taught_predictions
from empirical.experiments.taught_predictions import SIDES
from empirical.experiments.taught_tables import Settings

#: how far above one country's share a model that is blind to the country may lie
ROOM = 0.15
#: what the predictions on both sides speak of: words, condition, what the cell begins with, its ending
ASKED = {
    "base": ("fellows, by the taught base", "base", "fellows_", "_old_forced"),
    "lambda": ("λ of an early first hop", "first_early", "", "_old_forced"),
    "lambda.free": ("λ of an early first hop, in free text", "first_early", "", "_old"),
    "p2.free": ("p₂ of a late second hop, in free text", "second_late", "fellows_", ""),
}
#: what a family of countries is
FAMILIES = {"F": "made-up countries", "H": "real countries with made-up capitals"}


def declare(settings: Settings) -> list[Prediction]:
    """Every group says what it is there for: by half of the countries, or by none."""
    found: list[Prediction] = []
    for group in settings.groups:
        said = Worlds(group, settings.but(**group.changes))
        said.learnt("coverage_law")
        said.random()
        if said.settings.sums:
            said.sides()
        else:
            said.untaught()
        found += said
    return found


class Worlds(taught_predictions.Worlds):
    """The predictions of one group of worlds."""

    def random(self) -> None:
        """What stands in for a first hop leads nowhere."""
        for sum_ in self.settings.sums:
            says = "a random adapter for the first hop, with a late second one: made-up countries, covered"
            self.control("random", "coverage_law", says, of=(f"random:{sum_}", "F_covered_forced"),
                         at_most=self.blind + ROOM)  # fmt: skip

    def sides(self) -> None:
        """Covered countries above uncovered ones: of fellows by the taught base alone, then through experts."""
        for family in self.settings.families:
            for name, (words, condition, before, ending) in ASKED.items():
                covered, uncovered = (address(condition, f"{before}{family}_{side}{ending}") for side in SIDES)
                says = f"{FAMILIES[family]}, {words}: covered above uncovered"
                self.hypothesis(f"{name}.{family}", "coverage_law", says, of=covered - uncovered, above=0.0,
                                unless=Alternative("the other way round, by .3", -0.3, 0.1), family=words,
                                about=condition)  # fmt: skip
        for sum_ in self.settings.sums:
            for family in self.settings.families:
                says = f"{FAMILIES[family]}, {sum_}, covered: at most {ROOM:g} above blind, for little is left to join"
                self.hypothesis(f"sum.{family}", "coverage_law", says, of=(f"sum:{sum_}", f"{family}_covered_forced"),
                                at_most=self.blind + ROOM, unless=Alternative("answers .6", 0.6, 0.1, self.asked),
                                family="the sum over taught countries", about=f"sum:{sum_}")  # fmt: skip

    def untaught(self) -> None:
        """Where no direct question was taught, the base goes on from made-up countries no better than by chance."""
        family = "F"
        says = f"no direct question taught, {FAMILIES[family]}, λ of an early first hop: at most {ROOM:g} above blind"
        unless = Alternative("answers .5", 0.5, 0.1, self.asked)
        self.hypothesis(f"lambda.{family}", "coverage_law", says, of=("first_early", f"{family}_uncovered_old_forced"),
                        at_most=self.blind + ROOM, unless=unless, family="no direct question",
                        about="first_early")  # fmt: skip
