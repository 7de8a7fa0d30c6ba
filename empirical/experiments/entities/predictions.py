"""What `entities` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what the calibration worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Address, Measure, Prediction, Predictions, measure
from empirical.engine.settings import Count, Group
from empirical.experiments.entities.tables import Knowledge, Settings
from empirical.experiments.plain_english_tables import Answered, Measured, Steps, WorldSettings
from empirical.tasks.entities import DIRECT
from theory.composition import chain_of_thought
from theory.routing import oracle_ceiling

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"composes": 0.5, "given": 0.5, "retrieves": 0.6, "learnt": 0.9, "text": 0.6}
#: half-width within which the law of a sum must fit
LAW = 0.1
#: what an answer that is blind to the country may reach by forced choice above one country's share
BLIND = 0.1
#: how a question is answered: by forced choice among the family's capitals, or in free text
ANSWERS = {"forced": "by forced choice", "free": "in free text"}


def cell(of: str, how: str, old: bool = False) -> str:
    """The cell of the right capitals, or of those before they were changed."""
    name = "old" if old else ""
    if how == "forced":
        name = "old_forced" if old else "forced"
    return f"{of}_{name}" if name else of


def measured(name: str, read: Callable[[Measured], Outcome | None]) -> Measure:
    """What is read off the worlds."""
    return measure(Measured, name, read)


def declare(settings: Settings) -> list[Prediction]:
    """The untouched base, and for every group of worlds what it is there for."""
    found: list[Prediction] = list(untouched())
    for group in settings.groups:
        said = Worlds(group, settings.but(**group.changes))
        said.theorems()
        said.controls()
        said.headline()
        found += said
    return found


def untouched() -> Predictions:
    """The untouched base: it reads a stated country off the text; of new people it knows nothing."""
    said = Predictions("", prefix="base")
    says = "untouched base: the direct question after a sentence that states the country"
    given = measure(Knowledge, "base, given", lambda m: m.given)
    said.control("given", "coverage_law", says, of=given, at_least=CONTROLS["given"])
    says = "untouched base: direct questions about new people, above chance as measured by permuting its answers"
    new = measure(Knowledge, "base, new - new_chance", lambda m: m.new.rate - m.new_chance, step=0.01)
    said.control("new", "coverage_law", says, of=new, at_most=BLIND)
    return said


def spare(m: Measured, condition: str) -> float:
    """How far the written-out questions of a condition lie above the least possible, s1 + s2 - 1, at the lowest."""
    steps = [s for s in m.written[condition].values() if s.reached.asked]
    return min(s.reached.rate - chain_of_thought(s.s1.rate, s.s2.rate).lower for s in steps)


def all_steps(m: Measured, condition: str) -> Steps:
    """The written-out questions of all families together."""
    found = list(m.written[condition].values())
    return Steps(**{name: Count.total(getattr(s, name) for s in found) for name in Steps.model_fields})


def wrong(m: Measured, condition: str, field: str) -> Count:
    """How many of the wrong free answers to the capitals that the base knows are of a kind."""
    found = Answered.total(m.answered[condition].questions["H"])
    return Count(getattr(found, field), found.asked - found.old)


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: Group, settings: WorldSettings) -> None:
        super().__init__(group.name)
        self.settings = settings
        #: questions about new people, and about famous ones at least
        self.asked = settings.people * len(DIRECT.held_out)
        self.blind = 1 / settings.countries

    def theorems(self) -> None:
        """What must hold in every world to the last digit."""
        rounding = float(4 * np.finfo(np.float64).eps)  # s1 + s2 - 1 and k / n are each a few roundings from exact
        for sum_ in self.settings.sums:
            of = measured(f"sum:{sum_}, written out, least of reached - (s1 + s2 - 1)",
                          partial(spare, condition=f"sum:{sum_}"))  # fmt: skip
            says = f"{sum_}, written out: at least s₁ + s₂ − 1 in every family"
            self.exact(f"chain.{sum_}.lower", "chain_of_thought", says, of=of, at_least=0.0, within=rounding)

    def controls(self) -> None:
        """What must come out, or the worlds show nothing."""
        law, least = "coverage_law", CONTROLS
        says = "the untouched base composes famous people of these countries, by forced choice"
        of = ("base", "famous_H_old_forced")
        self.control("composes", law, says, of=of, at_least=least["composes"])
        for expert in (e for e in self.settings.experts if not e.endswith("_typed")):
            says = f"{expert} alone: its facts in wordings that were not taught"
            of = (expert, expert.partition("_")[0])
            self.control(f"learnt.{expert}", law, says, of=of, at_least=least["learnt"])
        says = "early first hop: the capitals that the base knows, by forced choice"
        self.control("retrieves", law, says, of=("first_early", "H_old_forced"), at_least=least["retrieves"])
        says = "early first hop: the base's own text is kept, token by token"
        self.control("text", "interference", says, of=("first_early", "text"), at_least=least["text"])
        says = "a random adapter for the first hop, with a late second one, composes nothing, by forced choice"
        self.control("random", law, says, of=("random:early+late", "H_forced"), at_most=self.blind + BLIND)

    def order(self, name: str, family: str, says: str, above: Address, below: Address, by: float = 0.15,
              deviation: float = 0.1, claim: str = "layer_order") -> None:  # fmt: skip
        """One condition's cell above another's, against the same difference the other way round."""
        unless = Alternative(f"the other way round, by {by:g}", -by, deviation)
        self.hypothesis(name, claim, says, of=above, above=below, unless=unless, family=family, about=above[0])

    # ------------------------------------------------------------ the headline

    def headline(self) -> None:
        """Placement, and the sum of two experts that share no fact."""
        for how, words in ANSWERS.items():
            self.placement(how, words)
            self.sums(how, words)
            self.rehearsal(how, words)
        self.laws()
        self.against_blind()
        self.chains()
        self.kept()

    def placement(self, how: str, words: str) -> None:
        """lambda by the place of the first hop, p2 by that of the second."""
        old, new = cell("H", how, old=True), cell("famous_H", how)
        pairs = [("early", "all"), ("all", "middle"), ("middle", "late")] if how == "forced" else [
            ("early", "all"), ("early", "middle"), ("early", "late")]  # fmt: skip
        for better, worse in pairs:
            says = f"λ {words}: first hop {better} above {worse}"
            self.order(f"lambda.{better}.{worse}.{how}", f"order of λ, {words}", says,
                       (f"first_{better}", old), (f"first_{worse}", old))  # fmt: skip
        for better, worse in (("late", "all"), ("late", "early")):
            says = f"p₂ {words}: second hop {better} above {worse}"
            self.order(f"p2.{better}.{worse}.{how}", f"order of p₂, {words}", says,
                       (f"second_{better}", new), (f"second_{worse}", new))  # fmt: skip

    def sums(self, how: str, words: str) -> None:
        """The sum of an early first hop and a late second one above the other sums."""
        new = cell("H", how)
        pairs = [("early+late", worse) for worse in ("all+all", "early+all", "all+late", "late+early")]
        for better, worse in [*pairs, ("early_typed+late_typed", "all_typed+all_typed")]:
            says = f"H {words}: the sum of {better} above {worse}"
            self.order(f"sum.{worse}.{how}", f"order of sums, {words}", says,
                       (f"sum:{better}", new), (f"sum:{worse}", new))  # fmt: skip

    def rehearsal(self, how: str, words: str) -> None:
        """What direct questions about other people in the rehearsal change: the free text, not the forced choice."""
        old, new = cell("H", how, old=True), cell("H", how)
        pairs = (
            ("lambda.early", "λ of the early first hop", "first_early_typed", "first_early", old),
            ("lambda.all", "λ of the first hop on all layers", "first_all_typed", "first_all", old),
            ("sum.early+late", "H, the sum of early + late", "sum:early_typed+late_typed", "sum:early+late", new),
            ("sum.all+all", "H, the sum of all + all", "sum:all_typed+all_typed", "sum:all+all", new),
        )
        for name, what, typed, plain, of in pairs:
            where, family = f"typed.{name}.{how}", f"direct questions of others, {words}"
            if how == "free":
                says = f"{what} {words}: higher where direct questions about others were rehearsed"
                self.order(where, family, says, (typed, of), (plain, of), claim="coverage_law")
                continue
            says = f"{what} {words}: the same where direct questions about others were rehearsed"
            unless = Alternative("other by .25", 0.25, 0.1)
            self.hypothesis(where, "coverage_law", says, of=(typed, of), equal=(plain, of), within=0.1, unless=unless,
                            family=family, about=typed)  # fmt: skip

    def laws(self) -> None:
        """coverage_law, placement by placement: what the sum answers of H is lambda p2 of its experts alone."""
        for sum_ in ("early+late", "all+all", "early+all"):
            for how, words in ANSWERS.items():
                predicted = measured(f"sealed {how}.{sum_}.product", partial(product, sum_=sum_, how=how))
                for part, which in (("H", "H"), ("H_survivors", "H, people whose two hops the sum names")):
                    unless = Alternative("off by .3", 0.3, 0.15)
                    self.hypothesis(
                        f"law.{sum_}.{'survivors.' if part != 'H' else ''}{how}", "coverage_law",
                        f"{which}, {sum_} {words}: λ p₂ of the experts alone", of=(f"sum:{sum_}", cell(part, how)),
                        equal=predicted, within=LAW, unless=unless, family=f"the law of {sum_}", about=f"sum:{sum_}",
                    )  # fmt: skip

    def against_blind(self) -> None:
        """Which sums beat an answer that is blind to the country, which stands at one country's share."""
        limit, family = self.blind + BLIND, "blind to the country"
        least = {
            "early+late": 3.0, "early_typed+late_typed": 3.0, "all+all": 2.5, "all_typed+all_typed": 2.5,
            "early+all": 2.5, "all+late": 2.5,
        }  # fmt: skip
        for sum_, times in least.items():
            says = f"H, {sum_} by forced choice: {times:g} times what an answer blind to the country reaches, or more"
            unless = Alternative("no better than blind", self.blind, 0.04, self.asked)
            self.hypothesis(f"blind.{sum_}", "coverage_law", says, of=(f"sum:{sum_}", "H_forced"),
                            at_least=times * self.blind, unless=unless, family=family,
                            about=f"sum:{sum_}")  # fmt: skip
        says = f"H, late+early by forced choice: no better than an answer blind to the country, give or take {BLIND:g}"
        unless = Alternative("answers .35", 0.35, 0.1, self.asked)
        self.hypothesis("blind.late+early", "coverage_law", says, of=("sum:late+early", "H_forced"), at_most=limit,
                        unless=unless, family=family, about="sum:late+early")  # fmt: skip
        for number, wording in enumerate(DIRECT.held_out):
            says = f"H, early + late by forced choice, three times that or more in “{wording.format(x='X')}” alone"
            unless = Alternative("no better than blind", self.blind, 0.05, self.settings.people)
            self.hypothesis(f"wording.{number}", "coverage_law", says, of=("sum:early+late", f"H_{number}_forced"),
                            at_least=3 * self.blind, unless=unless, family="wording by wording",
                            about="sum:early+late")  # fmt: skip
        says = "H, early + late: the right one among made-up and real capitals together"
        unless = Alternative("no better than blind", self.blind / 2, 0.03, self.asked)
        self.hypothesis("of_all.early+late", "coverage_law", says, of=("sum:early+late", "H_forced_of_all"),
                        at_least=limit, unless=unless, family=family, about="sum:early+late")  # fmt: skip
        for sum_ in ("early+late", "early_typed+late_typed"):
            answered = measured(f"oracle {sum_}, H", partial(routed, sum_=sum_))
            n = self.settings.countries
            says = f"{sum_}, one adapter a question by an oracle, in free text: at most the ceiling"
            unless = Alternative("three in four", 0.75, 0.1, self.asked)
            limit = oracle_ceiling(n, n, bystanders=1)
            self.ceiling(f"oracle.{sum_}", "hard_routing", says, of=answered, at_most=limit,
                         unless=unless, about=f"sum:{sum_}")  # fmt: skip

    def chains(self) -> None:
        """chain_of_thought: the written-out question from its two steps in the prompt, and against bare one-hops."""
        for sum_ in ("early+late", "all+all"):
            condition = f"sum:{sum_}"
            reached = measured(f"{condition}, written out", partial(end, condition=condition))
            for name, second, says in (("independent", "s2", "s₁ s₂ of its own steps"),
                                       ("bare", "bare2", "the product of the bare one-hops")):  # fmt: skip
                steps = measured(f"{condition}, written out, s1 times {second}", partial(both, condition=condition,
                                                                                        second=second))  # fmt: skip
                unless = Alternative("off by .25", 0.25, 0.1)
                self.hypothesis(f"chain.{sum_}.{name}", "chain_of_thought", f"{sum_}, written out: {says}", of=reached,
                                equal=steps, within=0.1, unless=unless, about=condition)  # fmt: skip

    def kept(self) -> None:
        """interference: one-hop facts that sums keep, what is left of the base, and the kind of wrong answers."""
        for hop, words in (("first", "first hops"), ("second", "second hops")):
            says = f"early + late keeps more {words} than all + all"
            self.order(f"retained.{hop}", "one-hop facts", says, ("sum:early+late", hop), ("sum:all+all", hop),
                       claim="interference")  # fmt: skip
        apart = self.settings.apart
        for condition in ("first_early", "second_late", "sum:early+late"):
            says = f"{condition}: capitals of other countries that the base names are kept"
            unless = Alternative("half of them", 0.5, 0.15, apart)
            self.hypothesis(f"capitals.{condition}", "interference", says, of=(condition, "capitals"), at_least=0.8,
                            unless=unless, family="capitals elsewhere", about=condition)  # fmt: skip
        for place in ("all", "late"):
            of = measured(f"first_{place}, H, wrong free answers that are the country itself",
                          partial(wrong, condition=f"first_{place}", field="country"))  # fmt: skip
            says = f"first hop {place}: most wrong free answers are the country itself, an answer of the wrong type"
            unless = Alternative("a fifth of them", 0.2, 0.15, self.asked // 2)
            self.hypothesis(f"kind.{place}", "coverage_law", says, of=of, at_least=0.5, unless=unless,
                            family="kinds of answers", about=f"first_{place}")  # fmt: skip


def product(m: Measured, sum_: str, how: str) -> float:
    """The sealed product of a sum."""
    found: float = getattr(m.predicted, how)[sum_].product
    return found


def routed(m: Measured, sum_: str) -> Count:
    """What an oracle that hands each question to one expert of a sum, or to none, answers of H."""
    return m.oracle[sum_]["H"]


def end(m: Measured, condition: str) -> Count:
    """Written-out questions whose end is reached."""
    return all_steps(m, condition).reached


def both(m: Measured, condition: str, second: str) -> float:
    """Product of the first step of the written-out question and another rate of it."""
    steps = all_steps(m, condition)
    return chain_of_thought(steps.s1.rate, getattr(steps, second).rate).independent
