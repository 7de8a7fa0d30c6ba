"""What `entities` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds, and the worlds of the set before, showed between worlds,
rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Address, Measure, Prediction, Predictions, address, measure
from empirical.engine.settings import Count, Group
from empirical.experiments.entities.tables import Knowledge, Settings
from empirical.experiments.plain_english_tables import Answered, Measured, Steps, WorldSettings
from empirical.tasks.entities import DIRECT
from theory.composition import chain_of_thought
from theory.routing import oracle_ceiling

#: smallest rates at which a positive control counts as positive
CONTROLS = {"composes": 0.5, "given": 0.3, "retrieves": 0.6, "learnt": 0.85, "text": 0.5}
#: experts on whose having learnt everything rests; what one rate teaches in other places is asked, not asked for
LEARNT = ("first_early", "first_all", "second_late", "second_all")
#: half-width within which the law of a sum must fit
LAW = 0.12
#: what the sums beat, in multiples of one country's share
BEATS = 2.25
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


def measured(name: str, read: Callable[[Measured], Outcome | None], step: float | None = None) -> Measure:
    """What is read off the worlds; `step` of a number that is no count."""
    return measure(Measured, name, read, step=step)


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
        for expert in LEARNT:
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
        self.learnt()
        for how, words in ANSWERS.items():
            self.placement(how, words)
            self.sums(how, words)
        self.laws()
        self.against_blind()
        self.chains()
        self.kept()

    def learnt(self) -> None:
        """How much of its facts an expert learns in each place, at one rate and in as many steps."""
        for better, worse, hop in (
            ("first_early", "first_middle", "first"), ("first_early", "first_late", "first"),
            ("second_late", "second_early", "second"),
        ):  # fmt: skip
            says = f"one-hop facts in wordings that were not taught: {better} learns more than {worse} at the same rate"
            self.order(f"learns.{better}.{worse}", "learnt at one rate", says, (better, hop), (worse, hop))

    def placement(self, how: str, words: str) -> None:
        """lambda by the place of the first hop, of all people and of those whose country the expert names; p2 by the
        place of the second hop."""
        old, new = cell("H", how, old=True), cell("famous_H", how)
        pairs = [("early", "all"), ("early", "middle"), ("early", "late"), ("all", "middle"), ("all", "late")]
        for better, worse in pairs if how == "forced" else pairs[:3]:
            says = f"λ {words}: first hop {better} above {worse}"
            self.order(f"lambda.{better}.{worse}.{how}", f"order of λ, {words}", says,
                       (f"first_{better}", old), (f"first_{worse}", old))  # fmt: skip
        named = cell("H_survivors", how, old=True)
        for better, worse in pairs[1:3]:
            says = f"λ {words}, of people whose country the expert names: first hop {better} above {worse}"
            self.order(f"named.{better}.{worse}.{how}", f"λ of what is named, {words}", says,
                       (f"first_{better}", named), (f"first_{worse}", named))  # fmt: skip
        family = f"order of p₂, {words}"
        self.order(f"p2.late.early.{how}", family, f"p₂ {words}: second hop late above early",
                   ("second_late", new), ("second_early", new))  # fmt: skip
        unless = Alternative("below by .3", -0.3, 0.12)
        self.hypothesis(f"p2.late.all.{how}", "layer_order",
                        f"p₂ {words}: second hop late at most .1 below all layers",
                        of=address("second_late", new) - address("second_all", new), at_least=-0.1, unless=unless,
                        family=family, about="second_late")  # fmt: skip

    def sums(self, how: str, words: str) -> None:
        """The sum of an early first hop and a late second one against the other sums."""
        new, family = cell("H", how), f"order of sums, {words}"
        for worse in ("all+all", "all+late", "late+early"):
            says = f"H {words}: the sum of early + late above {worse.replace('+', ' + ')}"
            self.order(f"sum.{worse}.{how}", family, says, ("sum:early+late", new), (f"sum:{worse}", new))
        says = f"H {words}: the sum of early + all as good as early + late: the place of the first hop decides"
        unless = Alternative("other by .3", 0.3, 0.12)
        self.hypothesis(f"sum.early+all.{how}", "layer_order", says, of=("sum:early+late", new),
                        equal=("sum:early+all", new), within=LAW, unless=unless, family=family,
                        about="sum:early+late")  # fmt: skip

    def laws(self) -> None:
        """What the sum answers of H, against lambda p2 of its experts alone and what the sum keeps of each hop."""
        for sum_ in ("early+late", "all+all"):
            words, about = sum_.replace("+", " + "), f"sum:{sum_}"
            free = measured(f"sealed free.{sum_}.product", partial(product, sum_=sum_, how="free"))
            unless = Alternative("off by .3", 0.3, 0.12)
            self.hypothesis(f"law.{sum_}.free", "coverage_law", f"H, {words} in free text: λ p₂ of the experts alone",
                            of=(about, "H"), equal=free, within=LAW, unless=unless, family="the law, in free text",
                            about=about)  # fmt: skip
            short = measured(
                f"sealed forced.{sum_}.product - {about}, H_forced", partial(shortfall, sum_=sum_), step=0.01
            )
            unless = Alternative("above it, by .1", -0.1, 0.12)
            says = f"H, {words} by forced choice: at least .05 below λ p₂ of the experts alone"
            self.hypothesis(f"short.{sum_}", "interference", says, of=short, at_least=0.05, unless=unless,
                            family="short of the law, by forced choice", about=about)  # fmt: skip
            kept = measured(f"sealed forced.{sum_}.product times what {about} keeps of both hops, else chance",
                            partial(survive, sum_=sum_, chance=self.blind))  # fmt: skip
            unless = Alternative("off by .3", 0.3, 0.12)
            says = f"H, {words} by forced choice: λ p₂ times what the sum keeps of each hop, and chance for the rest"
            self.hypothesis(f"kept.{sum_}", "interference", says, of=(about, "H_forced"), equal=kept, within=LAW,
                            unless=unless, family="the law of what is kept, by forced choice", about=about)  # fmt: skip

    def against_blind(self) -> None:
        """Which sums beat an answer that is blind to the country, which stands at one country's share."""
        family = "blind to the country"
        for sum_ in ("early+late", "early+all"):
            says = f"H, {sum_} by forced choice: {BEATS} times what an answer blind to the country reaches, or more"
            unless = Alternative("no better than blind", self.blind, 0.04, self.asked)
            self.hypothesis(f"blind.{sum_}", "coverage_law", says, of=(f"sum:{sum_}", "H_forced"),
                            at_least=BEATS * self.blind, unless=unless, family="more than blind",
                            about=f"sum:{sum_}")  # fmt: skip
        for sum_, most in (("all+all", 2.5 * self.blind), ("all+late", 2.5 * self.blind),
                           ("late+early", self.blind + BLIND)):  # fmt: skip
            says = f"H, {sum_} by forced choice: at most {most:.2g}; blind to the country is {self.blind:.2g}"
            unless = Alternative("answers .35", 0.35, 0.1, self.asked)
            self.hypothesis(f"blind.{sum_}", "coverage_law", says, of=(f"sum:{sum_}", "H_forced"), at_most=most,
                            unless=unless, family=family, about=f"sum:{sum_}")  # fmt: skip
        for number, wording in enumerate(DIRECT.held_out):
            says = f"H by forced choice: early + late above all + all in “{wording.format(x='X')}” alone"
            of = f"H_{number}_forced"
            self.order(f"wording.{number}", "wording by wording", says, ("sum:early+late", of), ("sum:all+all", of))
        says = "H, early + late: the right one among made-up and real capitals together, four times chance or more"
        unless = Alternative("no better than chance", self.blind / 2, 0.03, self.asked)
        self.hypothesis("of_all.early+late", "coverage_law", says, of=("sum:early+late", "H_forced_of_all"),
                        at_least=2 * self.blind, unless=unless, family=family, about="sum:early+late")  # fmt: skip
        answered = measured("oracle early+late, H", partial(routed, sum_="early+late"))
        n = self.settings.countries
        says = "early+late, one adapter a question by an oracle, in free text: at most the ceiling"
        unless = Alternative("three in four", 0.75, 0.1, self.asked)
        limit = oracle_ceiling(n, n, bystanders=1)
        self.ceiling("oracle.early+late", "hard_routing", says, of=answered, at_most=limit, unless=unless,
                     about="sum:early+late")  # fmt: skip

    def chains(self) -> None:
        """chain_of_thought: the written-out question from its two steps, against bare one-hops, and against the direct
        question."""
        reached = {sum_: measured(f"sum:{sum_}, written out", partial(end, condition=f"sum:{sum_}"))
                   for sum_ in ("early+late", "all+all")}  # fmt: skip
        for sum_, name, second, says in (
            ("early+late", "independent", "s2", "s₁ s₂ of its own steps"),
            ("early+late", "bare", "bare2", "the product of the bare one-hops"),
            ("all+all", "independent", "s2", "s₁ s₂ of its own steps"),
        ):
            condition = f"sum:{sum_}"
            steps = measured(f"{condition}, written out, s1 times {second}",
                             partial(both, condition=condition, second=second))  # fmt: skip
            unless = Alternative("off by .3", 0.3, 0.12)
            self.hypothesis(f"chain.{sum_}.{name}", "chain_of_thought", f"{sum_}, written out: {says}",
                            of=reached[sum_], equal=steps, within=LAW, unless=unless, about=condition)  # fmt: skip
        direct = address("sum:early+late", "H")
        for name, says, less in (("direct", "the direct question in free text", direct),
                                 ("all", "all + all, written out", reached["all+all"])):  # fmt: skip
            unless = Alternative("the other way round, by .25", -0.25, 0.15)
            self.hypothesis(f"chain.above.{name}", "chain_of_thought", f"early + late, written out, above {says}",
                            of=reached["early+late"] - less, above=0.0, unless=unless, family="writing the bridge out",
                            about="sum:early+late")  # fmt: skip

    def kept(self) -> None:
        """interference: what is left of one-hop facts and of the base, and the kind of wrong answers."""
        family = "what is left"
        says = "early + late keeps more of the base's own text than all + all"
        self.order("text.sum", family, says, ("sum:early+late", "text"), ("sum:all+all", "text"), claim="interference")
        says = "early + late keeps more second hops than all + all"
        self.order("retained.second", family, says, ("sum:early+late", "second"), ("sum:all+all", "second"),
                   claim="interference")  # fmt: skip
        says = "capitals of other countries that the base names: a new first hop spares more than a changed second hop"
        self.order("capitals.spared", family, says, ("first_early", "capitals"), ("second_late", "capitals"),
                   claim="interference")  # fmt: skip
        apart = self.settings.apart
        unless = Alternative("a quarter of them", 0.25, 0.15, apart)
        self.hypothesis("capitals.first_early", "interference",
                        "first_early: of the capitals of other countries that the base names at least half are kept",
                        of=("first_early", "capitals"), at_least=0.5, unless=unless, family=family,
                        about="first_early")  # fmt: skip
        unless = Alternative("three quarters of them", 0.75, 0.15, apart)
        self.hypothesis("capitals.sum:early+late", "interference",
                        "early + late: of the capitals of other countries that the base names at most half are kept",
                        of=("sum:early+late", "capitals"), at_most=0.5, unless=unless, family=family,
                        about="sum:early+late")  # fmt: skip
        country = {place: measured(f"first_{place}, H, wrong free answers that are the country itself",
                                   partial(wrong, condition=f"first_{place}", field="country"))
                   for place in ("all", "early")}  # fmt: skip
        says = "first hop on all layers: most wrong free answers are the country itself, an answer of the wrong type"
        unless = Alternative("a fifth of them", 0.2, 0.15, self.asked // 2)
        self.hypothesis("kind.all", "coverage_law", says, of=country["all"], at_least=0.5, unless=unless,
                        family="kinds of answers", about="first_all")  # fmt: skip
        says = "first hop early: fewer of the wrong free answers are the country itself than on all layers"
        unless = Alternative("the other way round, by .25", -0.25, 0.15)
        self.hypothesis("kind.early", "coverage_law", says, of=country["all"] - country["early"], above=0.0,
                        unless=unless, family="kinds of answers", about="first_early")  # fmt: skip


def product(m: Measured, sum_: str, how: str) -> float:
    """The sealed product of a sum."""
    found: float = getattr(m.predicted, how)[sum_].product
    return found


def shortfall(m: Measured, sum_: str) -> float:
    """By how much a sum falls short of its sealed product, by forced choice."""
    return product(m, sum_, "forced") - m.scores[f"sum:{sum_}"]["H_forced"].rate


def survive(m: Measured, sum_: str, chance: float) -> float:
    """The sealed product of a sum times what the sum keeps of the one-hop facts of both experts, and chance else."""
    there = product(m, sum_, "forced")
    for hop, place in zip(("first", "second"), sum_.split("+"), strict=True):
        alone = m.scores[f"{hop}_{place}"][hop].rate
        there *= m.scores[f"sum:{sum_}"][hop].rate / alone if alone else 0.0
    return there + (1 - there) * chance


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
