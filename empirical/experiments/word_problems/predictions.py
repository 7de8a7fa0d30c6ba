"""What `word_problems` predicts: claims, kinds and margins.

No theorem of the registry covers these models: numbers are written in digits, several layers are adapted, and the
second hop is a rule, not a table. Where a ceiling or a law of a claim is used here, it is a hypothesis that it carries
over; exact is only what follows from counting (the bound on chains).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from empirical.engine import predictions as _book
from empirical.engine.judge import Prediction

#: smallest rates at which a positive control counts as positive; set low after calibration on earlier forms of the task
CONTROLS = {"bare": 0.9, "known": 0.7, "composes": 0.4, "learnt": 0.6, "mixed": 0.4}
#: largest rate at which a negative control counts as negative
NOTHING = 0.1
#: half-width for equality of rates, and how far above oracle routing counts as above
MARGIN = 0.10
ORDERS = {"AB": "A then B", "BA": "B then A"}


def predictions(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """What was said, and what the worlds of `results` showed; tiny worlds (group *live*) only carry what is exact."""
    found: list[Prediction] = []
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for group in config["groups"]:
        worlds = [r for r in results if r["cell"]["group"] == group["name"]]
        if worlds:
            groups[group["name"]] = worlds
            book = Book(group["name"], worlds)
            book.chain_bound()
            if group["name"] != "live":
                book.controls()
                book.reuse(group["composed"])
            found += book.entries
    composed = {r["cell"]["seed"]: r["metrics"] for r in groups.get("composed", [])}
    single = {r["cell"]["seed"]: r["metrics"] for r in groups.get("single", [])}
    both = sorted(set(composed) & set(single))
    for cell, order in ORDERS.items() if both else ():
        gains = [_rate(composed[s]["scores"]["sum"][cell]) - _rate(single[s]["scores"]["sum"][cell]) for s in both]
        found.append(
            Prediction(
                f"coverage.{cell}",
                "coverage_law",
                "hypothesis",
                "order",
                0.0,
                0.0,
                gains,
                f"{order}: the sum answers more where the base composed its own skills",
            )
        )
    return found


def _rate(count: Sequence[int]) -> float:
    return count[0] / count[1]


class Book(_book.Book):
    """The predictions of one group of worlds."""

    names_group = True

    def control(self, name: str, claim: str, least: str, condition: str, cell: str, says: str) -> None:
        """A positive control."""
        self.say(name, claim, "control", "at_least", CONTROLS[least], self.counts(condition, cell), says)

    def chain_bound(self) -> None:
        """chain_of_thought as it is a theorem about the counts of one model."""
        rounding = float(4 * np.finfo(np.float64).eps)  # s1 + s2 - 1 and k / n are each a few roundings from exact
        chains = [c for w in self.worlds for c in w["chains"].values()]
        self.say(
            "chain.lower",
            "chain_of_thought",
            "exact",
            "at_least",
            [c["predicted"]["value"][cell]["lower"] for c in chains for cell in ORDERS],
            [c["reached"][cell] for c in chains for cell in ORDERS],
            "worked steps end right in at least s₁ + s₂ − 1, in every model and order",
            rounding,
        )

    def controls(self) -> None:
        """What must come out, or the worlds show nothing."""
        self.control("bare", "chain_of_thought", "bare", "base", "bare", "the base knows the bare facts")
        self.control("known", "coverage_law", "known", "base", "known", "the base reads its own skills in new stories")
        for skill in ("A", "B"):
            says = f"expert {skill} answers new names, numbers and templates"
            self.control(f"learnt.{skill}", "interference", "learnt", skill, skill, says)
        if self.has("mixed"):
            self.control("mixed", "coverage_law", "mixed", "mixed", "AB", "an expert that saw A then B solves new ones")
        says = "a random first adapter composes nothing"
        self.say("random", "coverage_law", "control", "at_most", NOTHING, self.counts("random_first", "AB"), says)

    def reuse(self, composed: bool) -> None:
        """Experts together: what is kept, what is composed, by which route, and what the surface does."""
        if composed:
            says = "the base composes its own skills"
            self.control("composes", "coverage_law", "composes", "base", "known_known", says)
        for skill in ("A", "B"):
            kept, says = self.counts("sum", skill), f"the sum keeps {skill}"
            self.say(f"retained.{skill}", "interference", "hypothesis", "at_least", CONTROLS["learnt"], kept, says)
        for cell in ORDERS:
            self.direct(cell, composed)
            self.worked(cell)
        if self.has("mixed"):
            gains, says = (
                self.differences(("mixed", "BA"), ("joint", "BA")),
                "mixed problems in one order do not teach the other",
            )
            self.say("spread", "coverage_law", "hypothesis", "equal", 0.0, gains, says, MARGIN)
        for skill in ("A", "B"):
            lead = self.differences(("sum", f"lure_{skill}_clear"), ("sum", f"lure_{skill}_verb"))
            says = f"clauses of {skill} with a verb of the other: the sum goes by the frame more often than by the verb"
            self.say(f"lure.{skill}", "interference", "hypothesis", "order", 0.0, lead, says)

    def direct(self, cell: str, composed: bool) -> None:
        """Both skills in one text, the number at once."""
        order, sums = ORDERS[cell], self.counts("sum", cell)
        laws = [w["predicted"]["coverage_law"]["value"][cell]["low"] for w in self.worlds]
        says = f"{order}: the sum answers c λ p₂, read off each expert beside the base's own skills"
        self.say(f"law.{cell}", "coverage_law", "hypothesis", "equal", laws, sums, says, MARGIN)
        oracle = [w["predicted"]["oracle"]["value"][cell] for w in self.worlds]
        # the outcome is what the sum answers beyond oracle routing and the margin
        beyond = [k / n - o - MARGIN for (k, n), o in zip(sums, oracle, strict=True)]
        if composed:
            says = f"{order}: the sum passes oracle routing to one adapter by more than the margin"
            self.say(f"oracle.{cell}", "hard_routing", "hypothesis", "order", 0.0, beyond, says)
        else:
            says = f"{order}: the sum passes oracle routing to one adapter by no more than the margin"
            self.say(f"oracle.{cell}", "hard_routing", "hypothesis", "at_most", 0.0, beyond, says)
        if self.has("joint"):
            gains = self.differences(("joint", cell), ("sum", cell))
            says = f"{order}: joint training composes no better than the sum"
            self.say(f"joint.{cell}", "coverage_law", "hypothesis", "equal", 0.0, gains, says, MARGIN)

    def worked(self, cell: str) -> None:
        """Both skills in one text, with worked steps, by the sum."""
        order = ORDERS[cell]
        chains = [w["chains"]["sum"] for w in self.worlds]
        product = [c["predicted"]["value"][cell]["independent"] for c in chains]
        reached = [c["reached"][cell] for c in chains]
        says = f"{order}, worked: s₁ s₂ of the sum"
        self.say(f"chain.{cell}", "chain_of_thought", "hypothesis", "equal", product, reached, says, MARGIN)
        gains = [k / n - j / m for (k, n), (j, m) in zip(reached, self.counts("sum", cell), strict=True)]
        says = f"{order}: worked steps of the sum answer more than its direct answers"
        self.say(f"worked.{cell}", "chain_of_thought", "hypothesis", "order", 0.0, gains, says)
