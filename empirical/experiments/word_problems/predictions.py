"""What `word_problems` predicts: claims, kinds and margins.

No theorem of the registry covers these models: numbers are written in digits, several layers are adapted, and the
second hop is a rule, not a table. Where a ceiling or a law of a claim is used here, it is a hypothesis that it carries
over; exact is only what follows from counting (the bound on chains).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from empirical.engine.eager import Predictions
from empirical.engine.judge import Observed
from empirical.engine.records import Record
from empirical.experiments.word_problems.tables import Settings, World

#: smallest rates at which a positive control counts as positive; set low after calibration on earlier forms of the task
CONTROLS = {"bare": 0.9, "known": 0.7, "composes": 0.4, "learnt": 0.6, "mixed": 0.4}
#: largest rate at which a negative control counts as negative
NOTHING = 0.1
#: half-width for equality of rates, and how far above oracle routing counts as above
MARGIN = 0.10
ORDERS = {"AB": "A then B", "BA": "B then A"}


def predictions(settings: Settings, records: Sequence[Record[Any, Any]]) -> list[Observed]:
    """What was said, and what the worlds showed; tiny worlds (group *live*) only carry what is exact."""
    found: list[Observed] = []
    for group in settings.groups:
        worlds = [r.metrics for r in records if r.cell.group == group.name]
        if worlds:
            said = Worlds(group.name, worlds)
            said.chain_bound()
            if group.name != "live":
                said.controls()
                said.reuse(group.composed)
            found += said
    return found + _coverage(records)


def _coverage(records: Sequence[Record[Any, Any]]) -> Predictions:
    """The base that composed its own skills against the one that did not, world by world."""
    said = Predictions()
    composed, single = (
        {r.cell.seed: r.metrics.scores["sum"] for r in records if r.cell.group == group}
        for group in ("composed", "single")
    )
    both = sorted(set(composed) & set(single))
    for cell, order in ORDERS.items():
        gains = [composed[s][cell].rate - single[s][cell].rate for s in both]
        says = f"{order}: the sum answers more where the base composed its own skills"
        said.hypothesis(f"coverage.{cell}", "coverage_law", says, of=gains, above=0.0)
    return said


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: str, worlds: Sequence[World]) -> None:
        super().__init__(group, [w.scores for w in worlds], words=group)
        self.worlds = worlds

    def has(self, condition: str) -> bool:
        """Whether every world has this condition."""
        return all(condition in w.scores for w in self.worlds)

    def chain_bound(self) -> None:
        """chain_of_thought as it is a theorem about the counts of one model."""
        rounding = float(4 * np.finfo(np.float64).eps)  # s1 + s2 - 1 and k / n are each a few roundings from exact
        chains = [c for w in self.worlds for c in w.chains.values()]
        lower = [c.predicted.value[cell].lower for c in chains for cell in ORDERS]
        reached = [c.reached[cell] for c in chains for cell in ORDERS]
        says = "worked steps end right in at least s₁ + s₂ − 1, in every model and order"
        self.exact("chain.lower", "chain_of_thought", says, of=reached, at_least=lower, within=rounding)

    def controls(self) -> None:
        """What must come out, or the worlds show nothing."""
        say, least = self.control, CONTROLS
        says = "the base knows the bare facts"
        say("bare", "chain_of_thought", says, of=("base", "bare"), at_least=least["bare"])
        says = "the base reads its own skills in new stories"
        say("known", "coverage_law", says, of=("base", "known"), at_least=least["known"])
        for skill in ("A", "B"):
            says = f"expert {skill} answers new names, numbers and templates"
            say(f"learnt.{skill}", "interference", says, of=(skill, skill), at_least=least["learnt"])
        if self.has("mixed"):
            says = "an expert that saw A then B solves new ones"
            say("mixed", "coverage_law", says, of=("mixed", "AB"), at_least=least["mixed"])
        says = "a random first adapter composes nothing"
        say("random", "coverage_law", says, of=("random_first", "AB"), at_most=NOTHING)

    def reuse(self, composed: bool) -> None:
        """Experts together: what is kept, what is composed, by which route, and what the surface does."""
        if composed:
            says = "the base composes its own skills"
            self.control("composes", "coverage_law", says, of=("base", "known_known"), at_least=CONTROLS["composes"])
        for skill in ("A", "B"):
            says = f"the sum keeps {skill}"
            self.hypothesis(f"retained.{skill}", "interference", says, of=("sum", skill), at_least=CONTROLS["learnt"])
        for cell in ORDERS:
            self.direct(cell, composed)
            self.worked(cell)
        if self.has("mixed"):
            says = "mixed problems in one order do not teach the other"
            self.hypothesis("spread", "coverage_law", says, of=("mixed", "BA"), equal=("joint", "BA"), within=MARGIN)
        for skill in ("A", "B"):
            says = f"clauses of {skill} with a verb of the other: the sum goes by the frame more often than by the verb"
            frame, verb = ("sum", f"lure_{skill}_clear"), ("sum", f"lure_{skill}_verb")
            self.hypothesis(f"lure.{skill}", "interference", says, of=frame, above=verb)

    def direct(self, cell: str, composed: bool) -> None:
        """Both skills in one text, the number at once."""
        order, sums = ORDERS[cell], self.counts("sum", cell)
        laws = [w.predicted.coverage_law.value[cell].low for w in self.worlds]
        says = f"{order}: the sum answers c λ p₂, read off each expert beside the base's own skills"
        self.hypothesis(f"law.{cell}", "coverage_law", says, of=sums, equal=laws, within=MARGIN)
        # the outcome is what the sum answers beyond oracle routing and the margin
        beyond = [k.rate - w.predicted.oracle.value[cell] - MARGIN for k, w in zip(sums, self.worlds, strict=True)]
        says = (
            f"{order}: the sum passes oracle routing to one adapter by {'' if composed else 'no '}more than the margin"
        )
        if composed:
            self.hypothesis(f"oracle.{cell}", "hard_routing", says, of=beyond, above=0.0)
        else:
            self.hypothesis(f"oracle.{cell}", "hard_routing", says, of=beyond, at_most=0.0)
        if self.has("joint"):
            says = f"{order}: joint training composes no better than the sum"
            joint, both = ("joint", cell), ("sum", cell)
            self.hypothesis(f"joint.{cell}", "coverage_law", says, of=joint, equal=both, within=MARGIN)

    def worked(self, cell: str) -> None:
        """Both skills in one text, with worked steps, by the sum."""
        order, chains = ORDERS[cell], [w.chains["sum"] for w in self.worlds]
        product = [c.predicted.value[cell].independent for c in chains]
        reached = [c.reached[cell] for c in chains]
        says = f"{order}, worked: s₁ s₂ of the sum"
        self.hypothesis(f"chain.{cell}", "chain_of_thought", says, of=reached, equal=product, within=MARGIN)
        gains = [worked.rate - at_once.rate for worked, at_once in zip(reached, self.counts("sum", cell), strict=True)]
        says = f"{order}: worked steps of the sum answer more than its direct answers"
        self.hypothesis(f"worked.{cell}", "chain_of_thought", says, of=gains, above=0.0)
