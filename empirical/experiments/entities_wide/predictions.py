"""What `entities_wide` declares, group by group; no more than its worlds decide.

Deviations of the alternatives are what the calibration worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Prediction, Predictions, address, measure
from empirical.engine.settings import Group
from empirical.experiments.plain_english import Expert
from empirical.experiments.plain_english_tables import Grouped, Measured, WorldSettings
from empirical.tasks.entities import DIRECT

#: smallest shares at which a positive control counts as positive; fixed on calibration worlds
LEARNT, RETRIEVES = 0.85, 0.6
#: half-width within which two rates are called the same
SAME = 0.15
#: what would refute that a difference is above 0
LOWER = Alternative("the other way round, by .25", -0.25, 0.1)
#: what a family of facts is
FAMILIES = {"R": "real facts", "H": "made-up capitals of real countries", "F": "made-up countries"}


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says what it is there for, by what it trains and reuses."""
    found: list[Prediction] = []
    for group in settings.groups:
        said = Worlds(group, settings.but(**group.changes))
        said.learnt()
        if any(Expert.of(expert).typed for expert in said.settings.experts):
            said.rehearsal()
        elif said.settings.sums:
            said.facts()
        else:
            said.scan()
        found += said
    return found


def measured(name: str, read: Callable[[Measured], Outcome | None], step: float) -> Measure:
    """What is read off the worlds: a number with a step of its own."""
    return measure(Measured, name, read, step=step)


def mean(m: Measured, experts: Sequence[str], cell: str) -> float:
    """A rate, averaged over experts."""
    return float(np.mean([m.scores[expert][cell].rate for expert in experts]))


def drop(m: Measured, experts: Sequence[str], cell: str) -> float:
    """A rate of the first two experts less that of the others, averaged over each."""
    return mean(m, experts[:2], cell) - mean(m, experts[2:], cell)


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
        for how, cell, least, words in (
            ("forced", "H_old_forced", 0.3, "by forced choice: the first two blocks .3 or more"),
            ("free", "H_old", 0.05, "in free text: the first two blocks .05 or more"),
        ):
            of = measured(f"{cell}, first two blocks less the others on average",
                          partial(drop, experts=experts, cell=cell), 0.01)  # fmt: skip
            unless = Alternative("no drop", 0.0, 0.1) if how == "forced" else Alternative("by -.1", -0.1, 0.05)
            self.hypothesis(f"depth.{how}", "layer_order", f"λ {words} above the others", of=of, at_least=least,
                            unless=unless, family="depth")  # fmt: skip

    def facts(self) -> None:
        """The sum of an early first hop and a late second one: real facts, then made-up capitals, then all made up."""
        pairs = zip(self.settings.families, self.settings.families[1:], strict=False)
        for better, worse in pairs:
            of = address("sum:early+late", f"{better}_forced") - address("sum:early+late", f"{worse}_forced")
            says = f"early + late by forced choice: {FAMILIES[better]} above {FAMILIES[worse]}"
            unless = Alternative("the other way round, by .3", -0.3, 0.1)
            self.hypothesis(f"{better}.{worse}", "coverage_law", says, of=of, above=0.0, unless=unless,
                            family="kinds of facts", about="sum:early+late")  # fmt: skip

        blind, asked = 1 / self.settings.countries, self.settings.people * len(DIRECT.held_out)
        says = f"early + late by forced choice, {FAMILIES['F']}: at most .1 above an answer blind to the country"
        unless = Alternative("answers .45", 0.45, 0.1, asked)
        self.hypothesis("F.blind", "coverage_law", says, of=("sum:early+late", "F_forced"), at_most=blind + 0.1,
                        unless=unless, family="made-up countries", about="sum:early+late")  # fmt: skip

    def rehearsal(self) -> None:
        """What direct questions about other people in the rehearsal change: the free text, not the forced choice."""
        family = "direct questions of others, in free text"
        changed = "where direct questions about others were rehearsed"
        for place in ("early", "all"):
            typed, plain = f"first_{place}_typed", f"first_{place}"
            of = address(typed, "H_old") - address(plain, "H_old")
            self.hypothesis(f"lambda.{place}.free", "coverage_law", f"λ of {plain} in free text: higher {changed}",
                            of=of, above=0.0, unless=LOWER, family=family, about=typed)  # fmt: skip
        of = address("first_all", "H_country") - address("first_all_typed", "H_country")
        says = f"first_all: fewer free answers are the country itself, an answer of the wrong type, {changed}"
        self.hypothesis("country.all", "coverage_law", says, of=of, above=0.0, unless=LOWER, family=family,
                        about="first_all_typed")  # fmt: skip
        family = "direct questions of others: what they leave as it is"
        for place in ("early", "all"):
            typed, plain = f"first_{place}_typed", f"first_{place}"
            unless = Alternative("other by .4", 0.4, 0.1)
            self.hypothesis(f"lambda.{place}.forced", "coverage_law",
                            f"λ of {plain} by forced choice: the same, give or take {SAME:g}, {changed}",
                            of=(typed, "H_old_forced"), equal=(plain, "H_old_forced"), within=SAME, unless=unless,
                            family=family, about=typed)  # fmt: skip
