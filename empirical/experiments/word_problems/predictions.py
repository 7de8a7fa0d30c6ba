"""What `word_problems` declares: claims, kinds, margins, and for each what would refute it.

No theorem of the registry covers these models: numbers are written in digits, several layers are adapted, and the
second hop is a rule, not a table. Where a law of a claim is used here, it is a hypothesis that it carries over; only the
bound on chains, which follows from counting, is exact.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.word_problems.tables import Settings, World
from theory.composition import chain_of_thought

#: smallest rates at which a positive control counts as positive
CONTROLS = {"bare": 0.9, "known": 0.8, "composes": 0.6, "learnt": 0.6, "mixed": 0.6}
#: largest rate at which a negative control counts as negative
NOTHING = 0.1
#: half-width for equality of rates
MARGIN = 0.10
#: by how much a sum falls short of the law, and of each expert, at least
SHORT, LOST = 0.2, 0.2
ORDERS = {"AB": "A then B", "BA": "B then A"}
#: step of the scale of differences of shares
SHARE = 0.01


def of(condition: str, *cells: str) -> Measure:
    """Answers of a condition to some cells of the questions, all together."""
    return measure(World, f"{condition}, {' and '.join(cells)}",
                   lambda m: Count.total(m.scores[condition][cell] for cell in cells))  # fmt: skip


def measured(name: str, read: Callable[[World], Outcome | None]) -> Measure:
    """What is read off a world."""
    return measure(World, name, read, step=SHARE)


def both(condition: str) -> Measure:
    """Problems with both skills, in both orders."""
    return of(condition, *ORDERS)


def reached(condition: str, order: str) -> Measure:
    """Worked steps of a condition that end right."""
    return measured(f"{condition}, worked, {order}", lambda m: m.chains[condition][order].reached)


def declare(settings: Settings) -> Predictions:
    """Controls, both skills at once, method by method, by length, with worked steps, on lures."""
    said = Predictions()
    controls(said)
    direct(said)
    methods(said, settings)
    lengths(said)
    worked(said)
    lures(said)
    return said


def controls(said: Predictions) -> None:
    """What must come out before any merge, or the worlds show nothing; and that mixed problems can be learnt."""
    claim, least = "coverage_law", CONTROLS
    says = "the base knows the bare facts"
    said.control("bare", "chain_of_thought", says, of=("base", "bare"), at_least=least["bare"])
    says = "the base reads its own skills in new stories"
    said.control("known", claim, says, of=("base", "known"), at_least=least["known"])
    says = "the base composes its own skills"
    said.control("composes", claim, says, of=("base", "known_known"), at_least=least["composes"])
    says = "the base answers nothing that needs both new skills"
    said.control("base", claim, says, of=both("base"), at_most=NOTHING)
    places = {"alone": "{0}", "before": "{0}_known", "after": "known_{0}"}
    words = {"alone": "new names, numbers and templates", "before": "them before a clause of the base's own",
             "after": "them after a clause of the base's own"}  # fmt: skip
    for skill in ("A", "B"):
        for place, cell in places.items():
            says = f"expert {skill} answers {words[place]}"
            said.control(f"learnt.{skill}.{place}", claim, says, of=(skill, cell.format(skill)),
                         at_least=least["learnt"])  # fmt: skip
    for order, words_ in ORDERS.items():
        says = f"{words_}: an expert that saw such problems solves new ones"
        said.control(f"mixed.{order}", claim, says, of=("mixed", order), at_least=least["mixed"])
    says = "a random first adapter composes nothing"
    said.control("random", claim, says, of=both("random_first"), at_most=NOTHING)


def direct(said: Predictions) -> None:
    """Both skills in one text, the number at once."""
    for order, words in ORDERS.items():
        predicted = measured(f"sealed coverage_law.{order}", lambda m, order=order: m.predicted.coverage_law[order].low)
        says = f"{words}: the sum stays {SHORT} or more below λ p₂, read off each expert beside the base's own skills"
        unless = Alternative("what the law says", 0.0, 0.12)
        said.hypothesis(f"law.{order}", "coverage_law", says, of=predicted - of("sum", order), at_least=SHORT,
                        unless=unless, about="sum")  # fmt: skip
        oracle = measured(f"sealed oracle.{order}", lambda m, order=order: m.predicted.oracle[order])
        says = f"{words}: the sum answers more than oracle routing to the base or one expert"
        unless = Alternative("no more: an expert by itself does as well", -0.05, 0.04)
        said.hypothesis(f"oracle.{order}", "hard_routing", says, of=of("sum", order) - oracle, above=0.0,
                        unless=unless, about="sum")  # fmt: skip
    for skill in ("A", "B"):
        says = f"the sum loses {LOST} or more of what expert {skill} answers by itself"
        unless = Alternative("it keeps nearly all", 0.03, 0.08)
        said.hypothesis(f"lost.{skill}", "interference", says, of=of(skill, skill) - of("sum", skill), at_least=LOST,
                        unless=unless, about="sum")  # fmt: skip


def methods(said: Predictions, settings: Settings) -> None:
    """Problems with both skills, method by method."""
    unless = Alternative("solves four in five", 0.8, 0.12, 2 * settings.questions)
    for method in ("sum", *settings.methods):
        says = f"{method}: solves at most half of the problems that need both skills"
        said.hypothesis(f"method.{method}", "coverage_law", says, of=both(method), at_most=0.5, unless=unless,
                        family="no method joins two skills", about=method)  # fmt: skip


def lengths(said: Predictions) -> None:
    """From easy to hard: each further clause costs."""
    one, two, three = (of("sum", *cells) for cells in (("A", "B"), ("AB", "BA"), ("long",)))
    unless = Alternative("no fewer", -0.05, 0.06)
    says = "the sum answers fewer problems of two new clauses than of one"
    said.hypothesis("length.two", "interference", says, of=one - two, above=0.0, unless=unless, about="sum",
                    family="length")  # fmt: skip
    says = "the sum answers fewer problems of three new clauses than of two"
    said.hypothesis("length.three", "interference", says, of=two - three, above=0.0, unless=unless, about="sum",
                    family="length")  # fmt: skip


def worked(said: Predictions) -> None:
    """Worked steps, of the sum."""
    models, rounding = ("base", "A", "B", "joint", "mixed", "sum", "random_first"), float(4 * np.finfo(np.float64).eps)

    def beyond(m: World) -> float:
        chains = [chain for model in models for chain in m.chains[model].values()]
        return min(c.reached.rate - chain_of_thought(c.first.rate, c.second.rate).lower for c in chains)

    says = "worked steps end right in at least s₁ + s₂ - 1, in every model and order"
    bound = measured("worked steps that end right minus s1 + s2 - 1, least over models and orders", beyond)
    said.exact("chain.bound", "chain_of_thought", says, of=bound, at_least=0.0, within=rounding)
    for order, words in ORDERS.items():

        def product(m: World, order: str = order) -> float:
            chain = m.chains["sum"][order]
            return chain_of_thought(chain.first.rate, chain.second.rate).independent

        says = f"{words}, worked: s₁ s₂ of the sum"
        unless = Alternative("steps fail together: .25 above", 0.25, 0.1)
        said.hypothesis(f"chain.{order}", "chain_of_thought", says, of=reached("sum", order),
                        equal=measured(f"sum, worked, {order}, s1 times s2", product), within=MARGIN, unless=unless,
                        about="sum")  # fmt: skip
        says = f"{words}: worked steps of the sum end right more often than its direct answers"
        unless = Alternative("less often", -0.15, 0.12)
        said.hypothesis(f"worked.{order}", "chain_of_thought", says, of=reached("sum", order) - of("sum", order),
                        above=0.0, unless=unless, about="sum")  # fmt: skip


def lures(said: Predictions) -> None:
    """Clauses with a verb of the other skill."""
    for skill in ("A", "B"):
        says = f"clauses of {skill} with a verb of the other: the sum goes by the frame more often than by the verb"
        unless = Alternative("by the verb", -0.25, 0.2)
        frame, verb = of("sum", f"lure_{skill}_clear"), of("sum", f"lure_{skill}_verb")
        said.hypothesis(f"lure.{skill}", "interference", says, of=frame - verb, above=0.0, unless=unless, about="sum",
                        family="lures")  # fmt: skip
