"""What `coverage` predicts: claims, kinds and margins, each entry beside the figure of the worlds that decides it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from empirical.engine.eager import Predictions
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.coverage.tables import COMPOSING, PLACEMENTS, Measured, Stack, StackCell, WorldCell
from theory.composition import chain_of_thought
from theory.numerics import require

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base": 0.85, "composes": 0.3, "written": 0.8, "direct": 0.8, "retained": 0.9}
#: half-width for equality of rates
MARGIN = 0.10
#: smallest AUC at which alpha or kappa is said to foretell answers
TELLS = 0.7
#: new person x changed second hop over covered bridges
CELL = "new_changed_covered"


def stack(records: Sequence[Record[StackCell, Stack]]) -> Predictions:
    """The constructed stack: all one-hop facts are written; three placements compose, three do no better than blind."""
    said = Predictions("stack")
    for placement in PLACEMENTS:
        runs = [r.metrics for r in records if r.cell.placement == placement]
        said.words = f"stack, {placement}"
        says = "both adapters answer all their one-hop facts"
        one_hop = [count for r in runs for count in (r.first_hop, r.second_hop)]
        said.exact(f"{placement}.one_hop", "layer_order", says, of=one_hop, equal=1.0)
        two_hop, name = [r.two_hop for r in runs], f"{placement}.two_hop"
        if placement in COMPOSING:
            says = "the sum composes every two-hop question"
            said.exact(name, "layer_order", says, of=two_hop, equal=1.0)
        else:
            blind = [r.bridge_blind.rate for r in runs]
            says = "no better than one answer for all bridges"
            said.exact(name, "layer_order", says, of=two_hop, at_most=blind)
    return said


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: str, records: Sequence[Record[WorldCell, Measured]]) -> None:
        self.records, self.worlds = records, [r.metrics for r in records]
        super().__init__(group, [w.scores for w in self.worlds])

    def foretold(self, name: str) -> float:
        """A ceiling that is the same in all worlds of the group."""
        values = {getattr(w.predicted, name).value for w in self.worlds}
        require(len(values) == 1, name, "one value in all worlds of a group", sorted(values))
        return float(values.pop())

    def laws(self) -> None:
        """coverage_law and the ceilings: for every group."""
        says = "the base composes held-out old persons over covered bridges"
        held_out = [w.held_out_questions.covered for w in self.worlds]
        self.control("base_composes", "coverage_law", says, of=held_out, at_least=CONTROLS["base"])
        for pair in ("placed", "rows", "all"):
            worlds = [w for w in self.worlds if pair in w.pairs]
            laws = [w.predicted.coverage_law.value.get(pair) for w in worlds]
            covered = [law.covered if law else math.nan for law in laws]
            says = f"{pair}: new x changed over covered bridges = λ p₂ of the experts alone"
            self.hypothesis(f"law.{pair}", "coverage_law", says, of=(f"sum:{pair}", CELL), equal=covered, within=MARGIN)
            alone = [w.pairs[pair].additive for w in worlds]
            says, ceiling = f"{pair}: f(U₁) + f(U₂) − f(0) alone on new x changed", self.foretold("additive_ceiling")
            self.ceiling(f"additive.{pair}", "additive_limit", says, of=[a.additive for a in alone], at_most=ceiling)
            says = f"{pair}: what the sum answers beyond its additive part has margin at most 2 max|I|"
            self.exact(f"interaction.{pair}", "additive_limit", says, of=[a.within for a in alone], equal=1.0)
            says, ceiling = (
                f"{pair}: one-adapter routing by an oracle on new x changed",
                self.foretold("oracle_ceiling"),
            )
            routed = [w.pairs[pair].oracle for w in worlds]
            self.ceiling(f"oracle.{pair}", "hard_routing", says, of=routed, at_most=ceiling)
        says = "uncovered bridges: no method beats an answer blind to the bridge"
        uncovered = [
            Count.total(s["new_changed_uncovered"] for name, s in w.scores.items() if ":" in name) for w in self.worlds
        ]
        self.hypothesis("uncovered", "coverage_law", says, of=uncovered, at_most=self.foretold("bridge_blind"))

    def against(self, headline: Sequence[Measured]) -> None:
        """Do lambda and p2 move with coverage? Only if not is the law affine in c. And where the ceiling is passed."""
        for pair in ("placed", "rows"):
            levels = [law for w in headline if (law := w.predicted.coverage_law.value.get(pair))]
            mine = [r.metrics.predicted.coverage_law.value.get(pair) for r in self.records if r.cell.coverage > 0]
            for factor, field, sign in (("lambda", "retrieval", "λ"), ("p2", "p2", "p₂")):
                known = [getattr(law, field) for law in levels]
                if known:
                    says = f"{pair}: {sign} is the same at every coverage"
                    seen, level = [getattr(law, field) for law in mine if law], sum(known) / len(known)
                    self.hypothesis(f"{factor}.{pair}", "coverage_law", says, of=seen, equal=level, within=MARGIN)
        full = [r.metrics.pairs for r in self.records if r.cell.coverage == 1.0]
        says = "at full coverage the interaction carries a sum beyond the additive ceiling"
        together = [pairs["rows"].additive.together for pairs in full if "rows" in pairs]
        self.hypothesis("exceeds", "additive_limit", says, of=together, at_least=self.foretold("additive_ceiling"))

    def headline(self) -> None:
        """Controls, placement, joint training, chains, alignment."""
        law, composes = "coverage_law", CONTROLS["composes"]
        says = "new embeddings: unchanged second hops compose"
        self.control("rows_retrieve", law, says, of=("rows", "new_unchanged_covered"), at_least=composes)
        says = "new embeddings + late second hop compose over covered bridges"
        self.control("rows_compose", law, says, of=("sum:rows", CELL), at_least=composes)
        says = "the direct expert answers the questions it was taught"
        asked = ("direct", "new_changed_any")
        self.control("direct", "one_layer_composition", says, of=asked, at_least=CONTROLS["direct"])
        for hop in ("first_new", "second_changed"):
            says, kept = f"new embeddings + late second hop keep {hop}", CONTROLS["retained"]
            self.control(f"retained.{hop}", "interference", says, of=("sum:rows", hop), at_least=kept)
            says = f"the plain sum keeps {hop}"
            self.hypothesis(f"retained_all.{hop}", "interference", says, of=("sum:all", hop), at_least=kept)
        for name, condition in (("random", "random_first:placed"), ("shuffled", "sum:shuffled")):
            says, blind = f"a {name} first hop composes nothing", self.foretold("bridge_blind")
            self.control(name, law, says, of=(condition, "new_changed_any"), at_most=blind)
        self.placement()
        says = "joint training composes no better than the sum"
        self.hypothesis(
            "joint_like_sum", "layer_order", says, of=("joint", CELL), equal=("sum:all", CELL), within=MARGIN
        )
        says, taught, untaught = "two-hop examples of other people do not spread to the rest", "joint_bridge", "joint"
        unseen = "new_changed_unseen"
        self.hypothesis("bridge_data", law, says, of=(taught, unseen), equal=(untaught, unseen), within=MARGIN)
        says, cell = "an identity adapter repairs uncovered bridges", "new_changed_uncovered"
        self.hypothesis("identity", "bridge_alignment", says, of=("identity:placed", cell), above=("sum:placed", cell))
        says = "full fine-tuning composes like joint LoRA"
        self.hypothesis(
            "everything", "layer_order", says, of=("everything", CELL), equal=("joint", CELL), within=MARGIN
        )
        for pair in ("all", "rows"):
            self.chains(pair)
        for pair, score in (("placed", "alpha"), ("rows", "alpha"), ("all", "kappa"), ("placed", "kappa")):
            self.tells(pair, score)

    def placement(self) -> None:
        """layer_order for trained experts."""
        first, second = "new_unchanged_covered", "old_changed_covered"
        for name, cell, better, worse, says in (
            ("first.all", first, "first_early", "first_all", "first hop: early beats all layers"),
            ("first.late", first, "first_early", "first_late", "first hop: early beats late"),
            ("second.all", second, "second_late", "second_all", "second hop: late beats all layers"),
            ("second.early", second, "second_late", "second_early", "second hop: late beats early"),
            ("sum.all", CELL, "sum:placed", "sum:all", "sum: early + late beats all + all"),
            ("sum.swapped", CELL, "sum:placed", "sum:swapped", "sum: early + late beats late + early"),
        ):
            self.hypothesis(f"order.{name}", "layer_order", says, of=(better, cell), above=(worse, cell))

    def chains(self, pair: str) -> None:
        """chain_of_thought: the bound in every world and cell; independence; transfer from bare one-hops."""
        claim, written = "chain_of_thought", [w.pairs[pair].written for w in self.worlds if pair in w.pairs]
        known = [
            (w.predicted.value[cell].lower, count) for w in written for cell, count in w.reached.items() if count.asked
        ]
        rounding = float(4 * np.finfo(np.float64).eps)  # s1 + s2 - 1 and k / n are each a few roundings from exact
        says = f"{pair}, written out: at least s₁ + s₂ − 1 in every world and cell"
        lower, reached = [low for low, _ in known if low is not None], [count for _, count in known]
        self.exact(f"chain.{pair}.lower", claim, says, of=reached, at_least=lower, within=rounding)
        changed = ("changed_covered", "changed_uncovered")
        total = [Count.total(w.reached[c] for c in changed) for w in written]
        for name, first, second, says in (
            ("independent", "s1", "s2", "s₁ s₂ on new x changed"),
            ("bare", "bare1", "bare2", "the product of the bare one-hop accuracies"),
        ):
            steps = [
                [Count.total(getattr(w.predicted.value[c], step) for c in changed).rate for step in (first, second)]
                for w in written
            ]
            products = [chain_of_thought(*rates).independent for rates in steps]
            says = f"{pair}, written out: {says}"
            self.hypothesis(f"chain.{pair}.{name}", claim, says, of=total, equal=products, within=MARGIN)
        if pair == "rows":
            says = "new embeddings + late second hop: the written-out question composes on every bridge"
            self.control("written", claim, says, of=total, at_least=CONTROLS["written"])

    def tells(self, pair: str, score: str) -> None:
        """bridge_alignment: does alpha (changed facts) or kappa (unchanged) foretell which queries are answered?"""
        found = [a for w in self.worlds if pair in w.pairs and (a := w.pairs[pair].alignment)]
        both = [b for a in found if (b := a.both(score))]
        sign = {"alpha": "α", "kappa": "κ"}[score]
        says = f"{pair}: AUC of {sign} within covered bridges"
        self.hypothesis(f"{score}.{pair}", "bridge_alignment", says, of=[v for v, _ in both], at_least=TELLS)
        says = f"{pair}: AUC of {sign} above that of the answer's own confidence"
        self.hypothesis(f"{score}.{pair}.gain", "bridge_alignment", says, of=[v - c for v, c in both], above=0.0)
