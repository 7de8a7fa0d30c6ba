"""Predictions of the entities experiment: what was said before the experts were reused, claim by claim."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from empirical.engine.eager import Predictions
from empirical.engine.judge import Observed
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.entities.tables import BaseCell, Knowledge, Measured, Settings, Steps
from empirical.tasks.entities import FAMILIES
from theory.composition import chain_of_thought

#: smallest rates at which a positive control counts as positive; "learnt" and "direct" were seen on a calibration
#: world, the others set by judgement
CONTROLS = {"composes": 0.5, "given": 0.5, "learnt": 0.8, "direct": 0.8, "kept": 0.8}
#: half-width for equality of rates, and what "at most chance" allows above it
MARGIN = 0.10
#: conditions that are no reuse of the two experts
ALONE = ("base", "first", "second", "joint", "joint_bridge", "direct", "random")
FIRST, TAUGHT = [f"first_{f}" for f in FAMILIES], ["second_H", "second_F"]


def predictions(settings: Settings, records: Sequence[Record[Any, Any]]) -> list[Observed]:
    """What was said, and what the worlds showed."""
    found: list[Observed] = [*_untouched([r.metrics for r in records if isinstance(r.cell, BaseCell)])]
    for group in settings.groups:
        worlds = [r.metrics for r in records if not isinstance(r.cell, BaseCell) and r.cell.group == group.name]
        if worlds:
            found += Worlds(group.name, worlds)
    return found


def _untouched(worlds: Sequence[Knowledge]) -> Predictions:
    """The untouched base: it reads a stated country off the text and composes; of new people it knows nothing."""
    said = Predictions("base")
    says = "untouched base: the direct question after a sentence that states the country"
    said.control("given", "coverage_law", says, of=[w.given for w in worlds], at_least=CONTROLS["given"])
    says = "untouched base: direct questions about new people, at most measured chance + margin"
    chance = [w.new_chance + MARGIN for w in worlds]
    said.control("new", "coverage_law", says, of=[w.new for w in worlds], at_most=chance)
    return said


def pooled(world: Measured, condition: str, *cells: str) -> Count:
    """Several cells of one condition together."""
    return Count.total(world.scores[condition][cell] for cell in cells)


def allowed(world: Measured, condition: str, family: str = "F") -> float:
    """Chance as measured by permuting the answers given, plus the margin."""
    return world.chance[condition][family] + MARGIN


def reuses(world: Measured) -> list[str]:
    """Conditions in which both experts were reused."""
    return [c for c in world.scores if c not in ALONE]


class Worlds(Predictions):
    """All predictions of one group of worlds."""

    def __init__(self, group: str, worlds: Sequence[Measured]) -> None:
        super().__init__(group, [w.scores for w in worlds])
        self.worlds = worlds
        self.controls()
        self.uncovered()
        self.covered()
        self.kept()
        self.chain_bound()
        for condition in ("sum", "joint"):
            self.chain(condition)

    def together(self, condition: str, *cells: str) -> list[Count]:
        """Several cells of one condition together, per world."""
        return [pooled(w, condition, *cells) for w in self.worlds]

    def controls(self) -> None:
        """What must come out, or the worlds show nothing."""
        say, claim, least = self.control, "coverage_law", CONTROLS
        says = "the untouched base composes held-out wordings about famous people"
        say("composes", claim, says, of=("base", "famous_R"), at_least=least["composes"])
        says = "first-hop expert alone: new people's countries in a new wording"
        say("learnt.first", claim, says, of=self.together("first", *FIRST), at_least=least["learnt"])
        says = "second-hop expert alone: made-up capitals in a new wording"
        say("learnt.second", claim, says, of=self.together("second", *TAUGHT), at_least=least["learnt"])
        says = "the direct expert answers the questions it was taught, in a new wording"
        say("direct", claim, says, of=("direct", "direct_F"), at_least=least["direct"])
        if all("random" in w.scores for w in self.worlds):
            chance = [allowed(w, "random") for w in self.worlds]
            says = "random adapters compose nothing"
            say("random", claim, says, of=("random", "direct_F"), at_most=chance)

    def uncovered(self) -> None:
        """F: no reuse composes facts of which the base knows neither."""
        say, claim, worlds = self.hypothesis, "coverage_law", self.worlds
        says = "direct questions at most measured chance + margin"
        # method by method: the mean over them would hide one that composes
        for condition in [*reuses(worlds[0]), "joint"]:
            chance = [allowed(w, condition) for w in worlds if condition in w.scores]
            say(f"uncovered.{condition}", claim, f"F, {condition}: {says}", of=(condition, "direct_F"), at_most=chance,
                family="no method, F", about=condition)  # fmt: skip
        says = "F: direct examples of other people do not spread to the rest"
        data, joint = ("joint_bridge", "unseen_F"), ("joint", "unseen_F")
        say("bridge_data", claim, says, of=data, equal=joint, within=MARGIN)

    def covered(self) -> None:
        """R and H: what the base composes, the sum composes as far as each expert alone."""
        say, claim, worlds = self.hypothesis, "coverage_law", self.worlds
        if all(c.rate >= CONTROLS["composes"] for c in self.counts("base", "famous_R")):
            gains = [w.scores["sum"]["direct_R"].rate - w.chance["sum"]["R"] for w in worlds]
            says = "R, sum: above measured chance, since the base composes these countries"
            say("covered", claim, says, of=gains, above=0.0)
        laws = [w.predicted.law.value for w in worlds]
        says = "R, sum: λ of the first-hop expert alone"
        say("law.R", claim, says, of=("sum", "direct_R"), equal=[law.retrieval for law in laws], within=MARGIN)
        says = "H, sum: λ p₂ of the experts alone"
        say("law.H", claim, says, of=("sum", "direct_H"), equal=[law.low for law in laws], within=MARGIN)

    def kept(self) -> None:
        """interference: what the sum keeps of each hop, and what every expert keeps of the base."""
        for name, cells in (("first", FIRST), ("second", TAUGHT)):
            says, kept = f"the sum keeps the {name} hops", self.together("sum", *cells)
            self.hypothesis(f"retained.{name}", "interference", says, of=kept, at_least=CONTROLS["kept"])
        for name in ("first", "second", "sum"):
            says = f"{name}: real capitals that the base named are kept"
            self.hypothesis(f"damage.{name}", "interference", says, of=(name, "second_R"), at_least=CONTROLS["kept"])

    def chain_bound(self) -> None:
        """chain_of_thought: the bound in every world, condition and family."""
        every = [(w, family) for world in self.worlds for w in world.written.values() for family in FAMILIES]
        lower = [w.predicted.value[family].lower for w, family in every]
        reached = [w.reached[family] for w, family in every]
        # s1 + s2 - 1 and k / n are each a few roundings from exact
        rounding = float(4 * np.finfo(np.float64).eps)
        says = "written out: at least s₁ + s₂ − 1 in every world, condition and family"
        self.exact("chain.lower", "chain_of_thought", says, of=reached, at_least=lower, within=rounding)

    def chain(self, condition: str) -> None:
        """chain_of_thought: independence, and bare one-hops, of all families together."""

        def rate(steps: Sequence[Steps], step: str) -> float:
            return Count.total(getattr(s, step) for s in steps).rate

        independent, bare = [], []
        for world in self.worlds:
            steps = list(world.written[condition].predicted.value.values())
            s1 = rate(steps, "s1")
            independent.append(chain_of_thought(s1, rate(steps, "s2")).independent)
            bare.append(chain_of_thought(s1, rate(steps, "bare2")).independent)
        total = [Count.total(w.written[condition].reached.values()) for w in self.worlds]
        for name, product, what in (("independent", independent, "s₁ s₂ of its own steps"),
                                    ("bare", bare, "the product of the bare one-hops")):  # fmt: skip
            says = f"{condition}, written out: {what}"
            where = f"chain.{condition}.{name}"
            self.hypothesis(where, "chain_of_thought", says, of=total, equal=product, within=MARGIN)
