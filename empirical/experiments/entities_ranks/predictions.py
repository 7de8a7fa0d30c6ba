"""What `entities_ranks` declares, group by group: what must be there at every rank, and what the rank changes.

A sum is ahead for where its experts are written and not for how many directions they have, so the rank leaves what is
joined as it is. Deviations of the alternatives are what earlier worlds at rank 16 showed between worlds, rounded up.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Prediction, Predictions, measure
from empirical.engine.settings import Count, Group
from empirical.experiments.entities_ranks.tables import RankSettings, Settings
from empirical.experiments.plain_english_tables import Measured, WorldCell
from empirical.tasks.entities import DIRECT, FIRST

#: smallest share of its facts at which an expert counts as having learnt them
LEARNT = 0.85
#: half-width within which two ranks are called the same
SAME = 0.15
#: how a question is answered: by forced choice among the family's capitals, or in free text
ANSWERS = {"forced": ("_forced", "by forced choice"), "free": ("", "in free text")}
PLACED, EVERYWHERE = "sum:early+late", "sum:all+all"
#: what would refute that a difference is above 0
LOWER = Alternative("the other way round, by .15", -0.15, 0.1)


def declare(settings: Settings) -> list[Prediction]:
    """Every group says the same of each of its ranks, and of the lowest beside the highest."""
    found: list[Prediction] = []
    for group in settings.groups:
        found += worlds(group, RankSettings.of(settings).but(**group.changes))
    return found


def at(rank: int, condition: str, cell: str) -> Measure:
    """A count at an address in the scores, of the worlds' experts of one rank."""

    def read(m: Measured) -> Count:
        found: Count = m.scores[condition][cell]
        return found

    def has(of: WorldCell) -> bool:
        return of.rank == rank

    return measure(Measured, f"rank {rank}: {condition}, {cell}", read, where=has)


def worlds(group: Group, settings: RankSettings) -> Predictions:
    """The predictions of one group of worlds."""
    said = Predictions(group.name)
    people, blind = settings.people, 1 / settings.countries
    for rank, _ in settings.ranks:
        says = f"rank {rank}, early first hop alone: the countries of {people} people, in wordings that were not taught"
        unless = Alternative("two in three", 2 / 3, 0.1, people * len(FIRST.held_out))
        said.hypothesis(f"learnt.{rank}", "margin_rank", says, of=at(rank, "first_early", "first"), at_least=LEARNT,
                        unless=unless, family="a low rank holds them", about="first_early")  # fmt: skip
        says = f"rank {rank}, late second hop alone: its facts in wordings that were not taught"
        said.control(f"second.{rank}", "coverage_law", says, of=at(rank, "second_late", "second"), at_least=LEARNT)
        for how, (cell, words) in ANSWERS.items():
            says = f"rank {rank}, H {words}: the sum of early + late above all + all"
            of = at(rank, PLACED, f"H{cell}") - at(rank, EVERYWHERE, f"H{cell}")
            said.hypothesis(f"sum.{rank}.{how}", "layer_order", says, of=of, above=0.0, unless=LOWER,
                            family=f"order of sums, {words}", about=PLACED)  # fmt: skip
        says = f"rank {rank}, H by forced choice: early + late at least twice what an answer blind to it reaches"
        unless = Alternative("no better than blind", blind, 0.04, people * len(DIRECT.held_out))
        said.hypothesis(f"blind.{rank}", "coverage_law", says, of=at(rank, PLACED, "H_forced"), at_least=2 * blind,
                        unless=unless, family="more than blind", about=PLACED)  # fmt: skip
        says = f"rank {rank}: early + late keeps more second hops than all + all"
        of = at(rank, PLACED, "second") - at(rank, EVERYWHERE, "second")
        said.hypothesis(f"kept.{rank}", "interference", says, of=of, above=0.0, unless=LOWER, family="what is left",
                        about=PLACED)  # fmt: skip
    low, high = settings.ranks[0].rank, settings.ranks[-1].rank
    for condition, cell, name, counted in (
        ("first_early", "H_old_forced", "lambda", "λ of an early first hop by forced choice"),
        (PLACED, "H_forced", "joined", "H by forced choice, the sum of early + late"),
        (EVERYWHERE, "H_forced", "everywhere", "H by forced choice, the sum of all + all"),
    ):
        says = f"{counted}: rank {high} as rank {low}, give or take {SAME:g}"
        of = at(high, condition, cell) - at(low, condition, cell)
        unless = Alternative("other by .4", 0.4, 0.12)
        said.hypothesis(f"same.{name}", "layer_order", says, of=of, equal=0.0, within=SAME, unless=unless,
                        family="the rank leaves it", about=condition)  # fmt: skip
    return said
