"""What `entities_ranks` declares, group by group: what must be there at every rank, and what the rank changes.

What placed experts join comes from where they are written and not from how many directions they have, so the rank
leaves it as it is. On calibration worlds (see ``settings.toml``) experts on all layers did not: by forced choice their
sum answers more at rank 64 than at rank 4, as often as the placed sum. Deviations of the alternatives are what earlier
worlds at rank 16 showed between worlds, rounded up.
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
#: what the sum of placed experts beats, in multiples of one country's share
BEATS = 2.25
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
    """The predictions of one group of worlds; those of the sum over all layers where it is there."""
    said = Predictions(group.name)
    people, blind = settings.people, 1 / settings.countries
    low, *_, high = ranks = [rank for rank, _ in settings.ranks]
    for rank in ranks:
        says = f"rank {rank}, early first hop alone: the countries of {people} people, in wordings that were not taught"
        unless = Alternative("two in three", 2 / 3, 0.1, people * len(FIRST.held_out))
        said.hypothesis(f"learnt.{rank}", "margin_rank", says, of=at(rank, "first_early", "first"), at_least=LEARNT,
                        unless=unless, family="a low rank holds them", about="first_early")  # fmt: skip
        says = f"rank {rank}, late second hop alone: its facts in wordings that were not taught"
        said.control(f"second.{rank}", "coverage_law", says, of=at(rank, "second_late", "second"), at_least=LEARNT)
        says = (
            f"rank {rank}, H by forced choice: early + late {BEATS} times what an answer blind to it reaches, or more"
        )
        unless = Alternative("no better than blind", blind, 0.04, people * len(DIRECT.held_out))
        said.hypothesis(f"blind.{rank}", "coverage_law", says, of=at(rank, PLACED, "H_forced"), at_least=BEATS * blind,
                        unless=unless, family="more than blind", about=PLACED)  # fmt: skip
    for condition, cell, name, counted in (
        ("first_early", "H_old_forced", "lambda", "λ of an early first hop"),
        (PLACED, "H_forced", "joined", "H, the sum of early + late"),
    ):
        says = f"{counted}, by forced choice: rank {high} as rank {low}, give or take {SAME:g}"
        of = at(high, condition, cell) - at(low, condition, cell)
        unless = Alternative("other by .4", 0.4, 0.12)
        said.hypothesis(f"same.{name}", "layer_order", says, of=of, equal=0.0, within=SAME, unless=unless,
                        family="the rank leaves it", about=condition)  # fmt: skip
    if EVERYWHERE.removeprefix("sum:") not in settings.sums:
        return said
    for rank in ranks:
        for how, (cell, words) in ANSWERS.items():
            if rank == high and how == "forced":
                continue  # what all + all answers rises with the rank
            says = f"rank {rank}, H {words}: the sum of early + late above all + all"
            of = at(rank, PLACED, f"H{cell}") - at(rank, EVERYWHERE, f"H{cell}")
            said.hypothesis(f"sum.{rank}.{how}", "layer_order", says, of=of, above=0.0, unless=LOWER,
                            family=f"order of sums, {words}", about=PLACED)  # fmt: skip
    says = f"H by forced choice: the sum of all + all at rank {high} above that at rank {low}"
    of = at(high, EVERYWHERE, "H_forced") - at(low, EVERYWHERE, "H_forced")
    said.hypothesis("rises", "interference", says, of=of, above=0.0, unless=LOWER, about=EVERYWHERE)
    return said
