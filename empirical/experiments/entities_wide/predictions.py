"""What `entities_wide` declares, group by group; no more than its worlds decide.

Deviations of the alternatives are what the calibration worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from scipy import stats

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Prediction, Predictions, address, measure
from empirical.engine.settings import Group
from empirical.experiments.plain_english_tables import Grouped, Measured, WorldSettings
from empirical.tasks.entities import DIRECT

#: smallest shares at which a positive control counts as positive; fixed on calibration worlds
LEARNT, RETRIEVES = 0.85, 0.6
#: what a family of facts is
FAMILIES = {"R": "real facts", "H": "made-up capitals of real countries", "F": "made-up countries"}


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says what it is there for, by what it trains and reuses."""
    found: list[Prediction] = []
    for group in settings.groups:
        said = Worlds(group, settings.but(**group.changes))
        said.learnt()
        if not said.settings.sums:
            said.scan()
        if len(said.settings.families) > 1:
            said.facts()
        for library in said.settings.libraries:
            said.methods(library)
        found += said
    return found


def measured(name: str, read: Callable[[Measured], Outcome | None], step: float) -> Measure:
    """What is read off the worlds: a number with a step of its own."""
    return measure(Measured, name, read, step=step)


def forced(m: Measured, condition: str, cell: str = "H_forced") -> float:
    """A rate by forced choice."""
    return m.scores[condition][cell].rate


def falls(m: Measured, experts: Sequence[str], cell: str) -> float:
    """Rank correlation of a cell with the depth of the block that an expert is written in."""
    rates = [m.scores[expert][cell].rate for expert in experts]
    return float(stats.kendalltau(np.arange(len(rates)), rates).statistic)


def mean(m: Measured, experts: Sequence[str], cell: str) -> float:
    """A rate, averaged over experts."""
    return float(np.mean([m.scores[expert][cell].rate for expert in experts]))


def drop(m: Measured, experts: Sequence[str]) -> float:
    """The first two experts less the others, by the capitals that the base knows."""
    return mean(m, experts[:2], "H_old_forced") - mean(m, experts[2:], "H_old_forced")


def lead(m: Measured, library: str, methods: Sequence[str]) -> float:
    """The plain sum of placed experts less the best of all methods on a library."""
    return forced(m, "sum:early+late") - max(forced(m, f"{method}:{library}") for method in methods)


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: Group, settings: WorldSettings) -> None:
        super().__init__(group.name)
        self.settings = settings

    def learnt(self) -> None:
        """What must come out, or the worlds show nothing."""
        for expert in ("first_early", "second_late"):
            if expert in self.settings.experts:
                says = f"{expert} alone: its facts in wordings that were not taught"
                of = (expert, expert.partition("_")[0])
                self.control(f"learnt.{expert}", "coverage_law", says, of=of, at_least=LEARNT)
        if "first_early" in self.settings.experts:
            says = "early first hop: the capitals that the base knows, by forced choice"
            self.control("retrieves", "coverage_law", says, of=("first_early", "H_old_forced"), at_least=RETRIEVES)

    def scan(self) -> None:
        """First hops on blocks of layers: the later they are written, the less often the base goes on from them."""
        experts = self.settings.experts
        of = measured(
            "mean over blocks of the names that they learn", partial(mean, experts=experts, cell="first"), 0.01
        )
        self.control(
            "learnt", "coverage_law", "blocks of layers, on average: new people's countries", of=of, at_least=0.6
        )
        of = measured(
            "λ by forced choice, first two blocks less the others on average", partial(drop, experts=experts), 0.01
        )
        says = "λ by forced choice: the first two blocks .3 or more above the others"
        self.hypothesis("depth.drop", "layer_order", says, of=of, at_least=0.3, unless=Alternative("by .1", 0.1, 0.1),
                        family="depth")  # fmt: skip
        of = measured("rank correlation of λ by forced choice with depth",
                      partial(falls, experts=experts, cell="H_old_forced"),
                      step=4 / (len(experts) * (len(experts) - 1)))  # fmt: skip
        unless = Alternative("no order", 0.0, 0.2)
        self.hypothesis("depth.forced", "layer_order", "λ by forced choice falls with the depth of the hop", of=of,
                        at_most=-0.3, unless=unless, family="depth")  # fmt: skip

    def facts(self) -> None:
        """The sum of an early first hop and a late second one: real facts, then made-up capitals, then all made up."""
        pairs = zip(self.settings.families, self.settings.families[1:], strict=False)
        for better, worse in pairs:
            of = address("sum:early+late", f"{better}_forced") - address("sum:early+late", f"{worse}_forced")
            says = f"early + late by forced choice: {FAMILIES[better]} above {FAMILIES[worse]}"
            unless = Alternative("the other way round, by .25", -0.25, 0.1)
            self.hypothesis(f"{better}.{worse}", "coverage_law", says, of=of, above=0.0, unless=unless,
                            family="kinds of facts", about="sum:early+late")  # fmt: skip

    def methods(self, library: str) -> None:
        """The best of all methods, chosen with the answers at hand, below the plain sum of placed experts."""
        of = measured(f"sum:early+late less the best method of {library}",
                      partial(lead, library=library, methods=self.settings.methods),
                      step=1 / (self.settings.people * len(DIRECT.held_out)))  # fmt: skip
        says = f"H by forced choice: the sum of early + late above the best of all methods on {library}"
        unless = Alternative("the best method is above, by .2", -0.2, 0.1)
        self.hypothesis(
            f"best.{library}", "coverage_law", says, of=of, above=0.0, unless=unless, about="sum:early+late"
        )
