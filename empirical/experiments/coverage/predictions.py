"""What `coverage` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) and the first run of this experiment showed
between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import (
    Measure,
    Prediction,
    Predictions,
    World,
    address,
    measure,
    pooled,
    rate,
)
from empirical.engine.settings import Count
from empirical.experiments.coverage.tables import COMPOSING, PLACEMENTS, Measured, Pair, Settings, Steps
from theory.additive import additive_ceiling
from theory.composition import chain_of_thought
from theory.routing import bridge_blind_ceiling

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base": 0.85, "composes": 0.3, "written": 0.8, "direct": 0.8, "retained": 0.9}
#: half-width within which the law of a pair must fit: none larger than what the law predicts for it
LAW = {"placed": 0.1, "rows": 0.1}
#: share of uncovered questions whose bridge a method reads at most, and in the alternative
READS, INSTEAD = 1 / 15, 0.25
#: smallest AUC at which alpha or kappa is said to foretell answers
TELLS = 0.62
#: new person x changed second hop
COVERED, UNCOVERED = "new_changed_covered", "new_changed_uncovered"


def measured(
    name: str, read: Callable[[Measured], Outcome | None], coverage: float | None = None, step: float | None = None
) -> Measure:
    """What is read off the worlds at one coverage, or at each that there is."""
    return measure(Measured, name, read, lambda cell: coverage in (None, cell.coverage), step)


def of_pair(pair: str, name: str, read: Callable[[Pair], Outcome | None], coverage: float | None = None) -> Measure:
    """What is read off a pair of experts that are reused together, all sets together."""
    return measured(f"sum:{pair}, {name}", lambda m: pooled(read(e.pairs[pair]) for e in m.sets), coverage)


def sealed(pair: str, field: str) -> Measure:
    """What the experts of a pair foretold alone, mean over the sets."""
    return measured(f"sealed coverage_law.{pair}.{field}", lambda m: foretold(m, pair, field))


def foretold(m: Measured, pair: str, field: str) -> float | None:
    """A field of the law of a pair; None where nothing could be asked of its experts."""
    law = m.predicted.law(pair)
    return None if law is None else float(getattr(law, field))


def off(m: Measured, pair: str) -> float | None:
    """How far the sum of a pair is above lambda p2 over covered bridges."""
    predicted = foretold(m, pair, "covered")
    return None if predicted is None else m.scores[f"sum:{pair}"][COVERED].rate - predicted


def unseen(m: Measured, condition: str) -> Count:
    """Changed questions of new people whose answers no expert was shown, by forced choice, over all bridges."""
    cells = m.scores[condition]
    return Count.total(cells[f"new_changed_unseen{bridges}_forced"] for bridges in ("", "_uncovered"))


def slope(name: str, read: Callable[[Measured], float | None]) -> Measure:
    """Least-squares slope in the coverage, within a world."""

    def of_world(world: World) -> float | None:
        found = {r.cell.coverage: value for r in world if (value := read(r.metrics)) is not None}
        return float(np.polyfit(list(found), list(found.values()), 1)[0]) if len(found) > 1 else None

    return Measure(f"slope in c of {name}", of_world, step=0.01)


def declare(settings: Settings) -> list[Prediction]:
    """The stack, and for every group of worlds what it is there for."""
    found: list[Prediction] = list(stack())
    for group in settings.groups:
        world = settings.but(**group.changes)
        said = Worlds(group.name, world)
        said.theorems()
        if len(group.coverage) > 1:
            said.against(max(group.coverage))
        elif group.name == "headline":
            said.headline()
        else:
            said.laws()
        found += said
    return found


def stack() -> Predictions:
    """The constructed stack: all one-hop facts are written; three placements compose, three do no better than blind."""

    def of(placement: str, *fields: str) -> Measure:
        def read(world: World) -> Outcome | None:
            runs = [r.metrics for r in world if r.cell.placement == placement]
            return pooled(getattr(run, field) for run in runs for field in fields)

        return Measure(f"{placement}, {' and '.join(fields)}", read)

    said = Predictions("", prefix="stack")
    for placement in PLACEMENTS:
        said.words = f"stack, {placement}"
        says = "both adapters answer all their one-hop facts"
        said.exact(f"{placement}.one_hop", "layer_order", says, of=of(placement, "first_hop", "second_hop"), equal=1.0)
        name, two_hop = f"{placement}.two_hop", of(placement, "two_hop")
        if placement in COMPOSING:
            said.exact(name, "layer_order", "the sum composes every two-hop question", of=two_hop, equal=1.0)
        else:
            says = "no better than one answer for all bridges"
            said.exact(name, "layer_order", says, of=two_hop, at_most=of(placement, "bridge_blind"))
    return said


def spare(m: Measured, pair: str) -> float:
    """How far the written-out questions of a pair lie above the least possible, s1 + s2 - 1, at the lowest."""
    steps = [s for experts in m.sets for s in experts.pairs[pair].written.values() if s.reached.asked]
    return min(s.reached.rate - chain_of_thought(s.s1.rate, s.s2.rate).lower for s in steps)


def written(pair: Pair) -> Steps:
    """The written-out new x changed questions of a pair."""
    return Steps.total(pair.written[cell] for cell in ("changed_covered", "changed_uncovered"))


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: str, settings: Settings) -> None:
        super().__init__(group)
        self.settings = settings
        self.pairs = ("placed", "rows", "all")
        self.blind = bridge_blind_ceiling(settings.bridges, settings.values)
        #: changed questions of a world over half of the bridges, all sets together
        self.asked = settings.sets * settings.new_persons * settings.first_relations * settings.changed_relations // 2

    def theorems(self) -> None:
        """What must hold in every world to the last digit."""
        says = "the base composes held-out old persons over covered bridges"
        held_out = measured("base, held-out old persons", lambda m: m.held_out_questions.covered)
        self.control("base_composes", "coverage_law", says, of=held_out, at_least=CONTROLS["base"])
        rounding = float(4 * np.finfo(np.float64).eps)  # s1 + s2 - 1 and k / n are each a few roundings from exact
        for pair in self.pairs:
            says = f"{pair}: what the sum answers beyond its additive part has margin at most 2 max|I|"
            within = of_pair(pair, "carried within 2 max|I|", lambda found: found.additive.within)
            self.exact(f"interaction.{pair}", "additive_limit", says, of=within, equal=1.0)
            says = f"{pair}, written out: at least s₁ + s₂ − 1 in every cell"
            above = measured(f"sum:{pair}, written out, least of reached - (s1 + s2 - 1)", partial(spare, pair=pair))
            self.exact(f"chain.{pair}.lower", "chain_of_thought", says, of=above, at_least=0.0, within=rounding)

    def against(self, full: float) -> None:
        """Do lambda, p2 and the bias of the law move with coverage, in the same world? And what carries a full sum."""
        moves = Alternative("moves by .4 from no to full coverage", mean=0.4, deviation=0.2)
        for name, words, read in (
            ("lambda", "λ of the early first hop", lambda m: foretold(m, "placed", "retrieval")),
            ("bias", "the bias of the law of early + late", lambda m: off(m, "placed")),
        ):
            says = f"{words} moves by at most .2 from no to full coverage"
            self.hypothesis(f"slope.{name}", "coverage_law", says, of=slope(f"placed, {name}", read), equal=0.0,
                            within=0.2, unless=moves, family="slopes in coverage")  # fmt: skip
        says = "p₂ of the late second hop rises with coverage"
        falls = Alternative("falls by .3", mean=-0.3, deviation=0.25)
        rises = slope("placed, p2", lambda m: foretold(m, "placed", "p2"))
        self.hypothesis("slope.p2", "coverage_law", says, of=rises, above=0.0, unless=falls,
                        family="slopes in coverage")  # fmt: skip
        ceiling = additive_ceiling(self.settings.bridges, self.settings.values)
        together = of_pair("rows", f"new_changed_any at coverage {full:g}", lambda found: found.additive.together, full)
        says = "at full coverage the interaction carries a sum beyond the additive ceiling"
        unless = Alternative("half of the ceiling", 0.5 * ceiling, 0.08, 2 * self.asked)
        self.hypothesis("exceeds", "additive_limit", says, of=together, at_least=ceiling, unless=unless)

    def headline(self) -> None:
        """Controls, laws, methods, placement, joint training, interference, chains, alignment."""
        self.controls()
        self.laws()
        self.methods()
        self.placement()
        self.together()
        self.interference()
        self.chains()
        self.tells()

    def controls(self) -> None:
        """What must hold, or the worlds show nothing."""
        law, composes, keeps = "coverage_law", CONTROLS["composes"], CONTROLS["retained"]
        says = "new embeddings: unchanged second hops compose"
        self.control("rows_retrieve", law, says, of=("rows", "new_unchanged_covered"), at_least=composes)
        says = "new embeddings + late second hop compose over covered bridges"
        self.control("rows_compose", law, says, of=("sum:rows", COVERED), at_least=composes)
        says = "the direct expert answers the questions it was taught"
        taught = ("direct", "new_changed_any")
        self.control("direct", "one_layer_composition", says, of=taught, at_least=CONTROLS["direct"])
        for hop in ("first_new", "second_changed"):
            says = f"new embeddings + late second hop keep {hop}"
            self.control(f"retained.{hop}", "interference", says, of=("sum:rows", hop), at_least=keeps)
        for name, condition in (("random", "random_first:placed"), ("shuffled", "sum:shuffled")):
            says = f"a {name} first hop composes nothing"
            self.control(name, law, says, of=(condition, "new_changed_any"), at_most=self.blind)
        says = "new embeddings + late second hop: the written-out question composes on every bridge"
        end = of_pair("rows", "written out, changed", lambda found: written(found).reached)
        self.control("written", "chain_of_thought", says, of=end, at_least=CONTROLS["written"])

    def laws(self) -> None:
        """coverage_law, pair by pair: its bias over covered bridges, and what of the bias two suspects account for."""
        for pair in LAW:
            says = f"{pair}: new x changed over covered bridges = λ p₂ of the experts alone"
            self.law(f"law.{pair}", pair, says, (f"sum:{pair}", COVERED), sealed(pair, "covered"))
        above = address("sum:all", COVERED) - sealed("all", "covered")
        says = "all: new x changed over covered bridges is above λ p₂ of the experts alone"
        unless = Alternative("below it, by .1", -0.1, 0.05)
        self.hypothesis("law.all", "coverage_law", says, of=above, above=0.0, unless=unless, about="sum:all")
        predicted = sealed("placed", "covered")
        says = "placed, questions whose two hops survive: = λ p₂ of the experts alone"
        self.law("law.placed.survivors", "placed", says, ("sum:placed", f"{COVERED}_survivors"), predicted)

        def left(m: Measured) -> float | None:
            p2 = foretold(m, "placed", "p2")
            return None if p2 is None else m.scores["sum:placed"]["new_unchanged_covered"].rate * p2

        says = "placed: = λ as the sum has left it (unchanged second hops) times p₂ of the second expert alone"
        predicted = measured("sum:placed, new_unchanged_covered, times sealed p2", left)
        self.law("law.placed.left", "placed", says, ("sum:placed", COVERED), predicted)

    def law(self, name: str, pair: str, says: str, of: tuple[str, str], predicted: Measure) -> None:
        """What a pair answers, against a product."""
        unless = Alternative("off by .2", 0.2, 0.085)
        self.hypothesis(name, "coverage_law", says, of=of, equal=predicted, within=LAW[pair], unless=unless,
                        about=f"sum:{pair}")  # fmt: skip

    def methods(self) -> None:
        """Uncovered bridges, method by method, by forced choice: whoever is right freely is right by it."""
        bound, instead = (self.blind + share * (1.0 - self.blind) for share in (READS, INSTEAD))
        unless = Alternative("reads one bridge of four", instead, 0.1, self.asked)
        for condition in self.reused:
            says = f"uncovered bridges, {condition}, by forced choice: blind to the bridge in all but one of fifteen"
            self.hypothesis(f"uncovered.{condition.replace(':', '_')}", "coverage_law", says,
                            of=(condition, f"{UNCOVERED}_forced"), at_most=bound, unless=unless,
                            family="no method over uncovered bridges", about=condition)  # fmt: skip
        for method in ("sum", *self.settings.methods):
            condition = f"{method}:library"
            says = f"{condition}, people whose answers no expert saw, forced choice: blind in all but one of fifteen"
            of = measured(f"{condition}, unseen people by forced choice", partial(unseen, condition=condition))
            self.hypothesis(f"library.{method}", "coverage_law", says, of=of, at_most=bound, unless=unless,
                            family="no method with an expert for the answers of others", about=condition)  # fmt: skip
        everywhere = self.methods_of("all")
        best = measured(f"the best of {', '.join(everywhere)}: {COVERED}",
                        lambda m: max(m.scores[c][COVERED].rate for c in everywhere), step=0.01)  # fmt: skip
        says = "covered bridges: the sum of early + late beats the best of all methods over experts on all layers"
        unless = Alternative("the other way round, by .1", -0.1, 0.08)
        self.hypothesis("placed.best", "layer_order", says, of=address("sum:placed", COVERED) - best, above=0.0,
                        unless=unless, about="sum:placed")  # fmt: skip

        def no_value(m: Measured) -> Count:
            found = m.answered("sum:placed", UNCOVERED)
            return Count(found.bridge + found.other_bridge + found.neither, found.free.asked)

        says = "uncovered bridges, early + late: the wrong answers are values, not of the wrong type"
        unless = Alternative("half are no values, as in a pretrained model", 0.5, 0.2, self.asked)
        of = measured(f"sum:placed, {UNCOVERED}, no value", no_value)
        self.hypothesis("kind.placed", "coverage_law", says, of=of, at_most=0.1, unless=unless, about="sum:placed",
                        family="kinds of answers")  # fmt: skip

    def methods_of(self, pair: str) -> list[str]:
        """The conditions that reuse a pair of experts."""
        listed = {"all": self.settings.methods, "placed": self.settings.methods_placed}
        return [f"{method}:{pair}" for method in ("sum", *listed.get(pair, ()))]

    @property
    def reused(self) -> list[str]:
        """The conditions that reuse both experts, and those that learn both hops at once."""
        return [*(condition for pair in self.pairs for condition in self.methods_of(pair)), "joint", "everything"]

    def placement(self) -> None:
        """layer_order for trained experts, all trained at one rate."""
        first, second = "new_unchanged_covered", "old_changed_covered"
        survivors = f"{COVERED}_survivors"
        unless = Alternative("the other way round, by .15", -0.15, 0.08)
        for name, cell, better, worse, says in (
            ("first.all", first, "first_early", "first_all", "first hop: early beats all layers"),
            ("first.late", first, "first_early", "first_late", "first hop: early beats late"),
            ("second.all", second, "second_late", "second_all", "second hop: late beats all layers"),
            ("second.early", second, "second_late", "second_early", "second hop: late beats early"),
            ("sum.all", COVERED, "sum:placed", "sum:all", "sum: early + late beats all + all"),
            ("sum.swapped", COVERED, "sum:placed", "sum:swapped", "sum: early + late beats late + early"),
            ("survivors.all", survivors, "sum:placed", "sum:all",
             "sum: early + late beats all + all where both hops survive"),
            ("sum.joint", COVERED, "sum:placed", "joint", "early + late beats one adapter for both hops on all layers"),
        ):  # fmt: skip
            self.hypothesis(f"order.{name}", "layer_order", says, of=(better, cell), above=(worse, cell),
                            unless=unless, about=better)  # fmt: skip

    def together(self) -> None:
        """Bridge data, full fine-tuning."""
        unseen = "new_changed_unseen"
        says = "two-hop examples of other people do not spread to the rest"
        unless = Alternative("they spread to a quarter of the rest", 0.25, 0.08)
        self.hypothesis("bridge_data", "coverage_law", says, of=("joint_bridge", unseen), equal=("joint", unseen),
                        within=0.08, unless=unless, about="joint_bridge")  # fmt: skip
        says = "full fine-tuning composes better than one adapter for both hops, by forced choice"
        unless = Alternative("the other way round, by .15", -0.15, 0.08)
        self.hypothesis("order.everything", "layer_order", says, of=("everything", f"{COVERED}_forced"),
                        above=("joint", f"{COVERED}_forced"), unless=unless, about="everything")  # fmt: skip

    def interference(self) -> None:
        """Facts kept by plain sums, where in the second adapter the first one's are lost, and how curved the sum is."""
        facts = round(self.settings.new_persons * self.settings.first_relations) * self.settings.sets
        says = "all + all: the sum loses first hops"
        unless = Alternative("nearly all are kept", 0.97, 0.02, facts)
        self.hypothesis("retained.all.first_new", "interference", says, of=("sum:all", "first_new"), at_most=0.9,
                        unless=unless, about="sum:all")  # fmt: skip
        says = "early + late: the sum keeps first hops"
        unless = Alternative("no more than all + all", 0.65, 0.1, facts)
        self.hypothesis("retained.placed.first_new", "interference", says, of=("sum:placed", "first_new"),
                        at_least=0.8, unless=unless, about="sum:placed")  # fmt: skip
        whole = measured("sum:all, first_new", lambda m: m.scores["sum:all"]["first_new"])
        says = "all + all without the second adapter's first layer: at least .1 more first hops are kept"
        unless = Alternative("no more than before", 0.0, 0.07)
        self.hypothesis("trace.first_layer", "interference", says, of=without(0) - whole, at_least=0.1, unless=unless,
                        about="sum:all")  # fmt: skip
        says = "all + all: the second adapter's first layer costs more first hops than any other of its layers"
        rest = [without(layer) for layer in range(1, self.settings.layers)]
        best = Measure(
            "the best of " + "; ".join(m.name for m in rest),
            lambda world: max(rate(kept) for m in rest if (kept := m(world)) is not None),
        )
        unless = Alternative("another layer, by .15", -0.15, 0.1)
        self.hypothesis("trace.most", "interference", says, of=without(0) - best, above=0.0, unless=unless,
                        about="sum:all")  # fmt: skip
        says = "all + all: the second-order bound decides few questions"

        def decided(pair: Pair) -> Count | None:
            return pair.curvature.decided if pair.curvature else None

        of = of_pair("all", "decided by the mixed derivative", decided)
        unless = Alternative("half of them", 0.5, 0.2, self.settings.curved * self.settings.sets)
        self.hypothesis("curvature", "additive_limit", says, of=of, at_most=0.1, unless=unless, about="sum:all",
                        family="second order")  # fmt: skip

    def chains(self) -> None:
        """chain_of_thought beyond its bound: independent steps, and steps asked in the prompt against bare one-hops."""
        for pair in ("placed", "all"):
            reached = of_pair(pair, "written out, changed", lambda found: written(found).reached)
            says, steps = f"{pair}, written out: s₁ s₂ on new x changed", product(pair, "s1", "s2")
            unless = Alternative("steps fail together: .15 above", 0.15, 0.05)
            self.hypothesis(f"chain.{pair}.independent", "chain_of_thought", says, of=reached, equal=steps, within=0.06,
                            unless=unless, about=f"sum:{pair}")  # fmt: skip
            least, deviation = {"placed": (0.1, 0.07), "all": (0.05, 0.04)}[pair]
            says = f"{pair}, written out: at least {least} below the product of the bare one-hop accuracies"
            unless = Alternative("as high as that product", 0.0, deviation)
            below = product(pair, "bare1", "bare2") - reached
            self.hypothesis(f"chain.{pair}.bare", "chain_of_thought", says, of=below, at_least=least, unless=unless,
                            about=f"sum:{pair}")  # fmt: skip

    def tells(self) -> None:
        """bridge_alignment: do alpha (changed facts) and kappa (unchanged) foretell which queries are answered?"""
        for pair, score in (("placed", "alpha"), ("rows", "alpha"), ("placed", "kappa"), ("all", "kappa")):
            sign = {"alpha": "α", "kappa": "κ"}[score]
            says = f"{pair}: AUC of {sign} within covered bridges"
            unless = Alternative("tells nothing", 0.5, 0.08)
            self.hypothesis(f"{score}.{pair}", "bridge_alignment", says, of=auc(pair, score, 0), at_least=TELLS,
                            unless=unless, about=f"sum:{pair}")  # fmt: skip
        for pair, score, sign in (("all", "alpha", "α"), ("placed", "kappa", "κ"), ("all", "kappa", "κ")):
            says = f"{pair}: AUC of {sign} above that of the answer's own confidence"
            unless = Alternative("below it by .15", -0.15, 0.1)
            gain = auc(pair, score, 0) - auc(pair, score, 1)
            self.hypothesis(f"{score}.{pair}.gain", "bridge_alignment", says, of=gain, above=0.0, unless=unless,
                            about=f"sum:{pair}")  # fmt: skip


def without(layer: int) -> Measure:
    """First hops kept by all + all where the second adapter has no part on a layer."""
    of = f"without_{layer}"
    return measured(f"sum:all {of}, first_new", lambda m: pooled(e.trace[of]["first_new"] for e in m.sets))


def product(pair: str, first: str, second: str) -> Measure:
    """Product of two rates of the written-out questions of a pair."""

    def read(m: Measured) -> float:
        steps = Steps.total(written(experts.pairs[pair]) for experts in m.sets)
        return chain_of_thought(getattr(steps, first).rate, getattr(steps, second).rate).independent

    return measured(f"sum:{pair}, written out, {first} times {second}", read)


def auc(pair: str, score: str, which: int) -> Measure:
    """Mean over the sets of the AUC of alpha or kappa (0) or of the confidence of the same questions (1)."""

    def read(m: Measured) -> float | None:
        aligned = [a for experts in m.sets if (a := experts.pairs[pair].alignment)]
        found = [both[which] for a in aligned if (both := a.both(score))]
        return sum(found) / len(found) if found else None

    return measured(f"sum:{pair}, AUC of {('confidence for ' if which else '') + score}", read, step=0.01)
