"""What `coverage` predicts: claims, kinds and margins, each entry beside the figure of the worlds that decides it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from empirical.engine import predictions as _book
from empirical.engine.judge import Prediction
from theory.composition import chain_of_thought
from theory.numerics import require

#: placements of the constructed stack that compose, and all of them
COMPOSING = ("early_late", "early_early_memory", "late_early_memory")
PLACEMENTS = ("late_late", "early_early", "late_early", *COMPOSING)
#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base": 0.85, "composes": 0.3, "written": 0.8, "direct": 0.8, "retained": 0.9}
#: half-width for equality of rates
MARGIN = 0.10
#: smallest AUC at which alpha or kappa is said to foretell answers
TELLS = 0.7


def predictions(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """What was said, and what the worlds of `results` showed. Headline worlds carry the full list, others the laws."""
    found = list(stack_predictions(results))
    for group in config["groups"]:
        worlds = [r for r in results if r["cell"]["kind"] == "world" and r["cell"]["group"] == group["name"]]
        if worlds:
            book = Book(group["name"], worlds)
            book.laws()
            if group["name"] == "headline":
                book.headline()
            else:
                book.against([r for r in results if r["cell"].get("group") == "headline"])
            found += book.entries
    return found


def stack_predictions(results: Sequence[Mapping[str, Any]]) -> Iterator[Prediction]:
    """The constructed stack: all one-hop facts are written; three placements compose, three do no better than blind."""
    for placement in PLACEMENTS:
        runs = [r["metrics"] for r in results if r["cell"].get("placement") == placement]
        if not runs:
            continue
        one_hop = [[r[hop][0], r[hop][1]] for r in runs for hop in ("first_hop", "second_hop")]
        yield Prediction(
            f"stack.{placement}.one_hop",
            "layer_order",
            "exact",
            "equal",
            1.0,
            0.0,
            one_hop,
            f"stack, {placement}: both adapters answer all their one-hop facts",
        )
        worlds = [r["two_hop"] for r in runs]
        if placement in COMPOSING:
            yield Prediction(
                f"stack.{placement}.two_hop",
                "layer_order",
                "exact",
                "equal",
                1.0,
                0.0,
                worlds,
                f"stack, {placement}: the sum composes every two-hop question",
            )
        else:
            blind = [r["bridge_blind"][0] / r["bridge_blind"][1] for r in runs]
            yield Prediction(
                f"stack.{placement}.two_hop",
                "layer_order",
                "exact",
                "at_most",
                blind,
                0.0,
                worlds,
                f"stack, {placement}: no better than one answer for all bridges",
            )


class Book(_book.Book):
    """The predictions of one group of worlds."""

    def foretold(self, name: str) -> float:
        """A ceiling that is the same in all worlds of the group."""
        values = {w["predicted"][name]["value"] for w in self.worlds}
        require(len(values) == 1, name, "one value in all worlds of a group", sorted(values))
        return float(values.pop())

    def with_pair(self, pair: str) -> list[Mapping[str, Any]]:
        """Worlds in which this pair was reused."""
        return [w for w in self.worlds if pair in w["pairs"]]

    def laws(self) -> None:
        """coverage_law and the ceilings: for every group."""
        blind = self.foretold("bridge_blind")
        self.say(
            "base_composes",
            "coverage_law",
            "control",
            "at_least",
            CONTROLS["base"],
            [w["held_out_questions"]["covered"] for w in self.worlds],
            "the base composes held-out old persons over covered bridges",
        )
        for pair in ("placed", "rows", "all"):
            worlds = self.with_pair(pair)
            laws = [w["predicted"]["coverage_law"]["value"][pair] for w in worlds]
            covered = self.counts(f"sum:{pair}", "new_changed_covered")
            self.say(
                f"law.{pair}",
                "coverage_law",
                "hypothesis",
                "equal",
                [law["covered"] for law in laws],
                covered,
                f"{pair}: new x changed over covered bridges = λ p₂ of the experts alone",
                MARGIN,
            )
            self.say(
                f"additive.{pair}",
                "additive_limit",
                "ceiling",
                "at_most",
                self.foretold("additive_ceiling"),
                [w["pairs"][pair]["additive"]["additive"] for w in worlds],
                f"{pair}: f(U₁) + f(U₂) − f(0) alone on new x changed",
            )
            self.say(
                f"interaction.{pair}",
                "additive_limit",
                "exact",
                "equal",
                1.0,
                [w["pairs"][pair]["additive"]["within"] for w in worlds],
                f"{pair}: what the sum answers beyond its additive part has margin at most 2 max|I|",
            )
            self.say(
                f"oracle.{pair}",
                "hard_routing",
                "ceiling",
                "at_most",
                self.foretold("oracle_ceiling"),
                [w["pairs"][pair]["oracle"] for w in worlds],
                f"{pair}: one-adapter routing by an oracle on new x changed",
            )
        uncovered = [
            [sum(c[i] for c in cells) for i in (0, 1)]
            for cells in (
                [s["new_changed_uncovered"] for name, s in w["scores"].items() if ":" in name] for w in self.worlds
            )
        ]
        self.say(
            "uncovered",
            "coverage_law",
            "hypothesis",
            "at_most",
            blind,
            uncovered,
            "uncovered bridges: no method beats an answer blind to the bridge",
        )

    def against(self, headline: Sequence[Mapping[str, Any]]) -> None:
        """Do lambda and p2 move with coverage? Only if not is the law affine in c. And where the ceiling is passed."""
        for pair in ("placed", "rows"):
            known = [r["metrics"]["predicted"]["coverage_law"]["value"].get(pair) for r in headline]
            mine = [
                w["predicted"]["coverage_law"]["value"].get(pair)
                for w, r in zip(self.worlds, self.records, strict=True)
                if r["cell"]["coverage"] > 0
            ]
            for factor, sign in (("lambda", "λ"), ("p2", "p₂")):
                levels = [law[factor] for law in known if law]
                if levels:
                    self.say(
                        f"{factor}.{pair}",
                        "coverage_law",
                        "hypothesis",
                        "equal",
                        sum(levels) / len(levels),
                        [law[factor] for law in mine if law],
                        f"{pair}: {sign} is the same at every coverage",
                        MARGIN,
                    )
        full = [
            w["pairs"]["rows"]["additive"]["together"]
            for w, r in zip(self.worlds, self.records, strict=True)
            if r["cell"]["coverage"] == 1.0 and "rows" in w["pairs"]
        ]
        self.say(
            "exceeds",
            "additive_limit",
            "hypothesis",
            "at_least",
            self.foretold("additive_ceiling"),
            full,
            "at full coverage the interaction carries a sum beyond the additive ceiling",
        )

    def headline(self) -> None:
        """Controls, placement, joint training, chains, alignment."""
        blind = self.foretold("bridge_blind")
        cell = "new_changed_covered"
        self.say(
            "rows_retrieve",
            "coverage_law",
            "control",
            "at_least",
            CONTROLS["composes"],
            self.counts("rows", "new_unchanged_covered"),
            "new embeddings: unchanged second hops compose",
        )
        self.say(
            "rows_compose",
            "coverage_law",
            "control",
            "at_least",
            CONTROLS["composes"],
            self.counts("sum:rows", cell),
            "new embeddings + late second hop compose over covered bridges",
        )
        self.say(
            "direct",
            "one_layer_composition",
            "control",
            "at_least",
            CONTROLS["direct"],
            self.counts("direct", "new_changed_any"),
            "the direct expert answers the questions it was taught",
        )
        for hop in ("first_new", "second_changed"):
            self.say(
                f"retained.{hop}",
                "interference",
                "control",
                "at_least",
                CONTROLS["retained"],
                self.counts("sum:rows", hop),
                f"new embeddings + late second hop keep {hop}",
            )
            self.say(
                f"retained_all.{hop}",
                "interference",
                "hypothesis",
                "at_least",
                CONTROLS["retained"],
                self.counts("sum:all", hop),
                f"the plain sum keeps {hop}",
            )
        for name, condition in (("random", "random_first:placed"), ("shuffled", "sum:shuffled")):
            self.say(
                name,
                "coverage_law",
                "control",
                "at_most",
                blind,
                self.counts(condition, "new_changed_any"),
                f"a {name} first hop composes nothing",
            )
        self.placement(cell)
        self.say(
            "joint_like_sum",
            "layer_order",
            "hypothesis",
            "equal",
            0.0,
            self.differences(("joint", cell), ("sum:all", cell)),
            "joint training composes no better than the sum",
            MARGIN,
        )
        unseen = "new_changed_unseen"
        self.say(
            "bridge_data",
            "coverage_law",
            "hypothesis",
            "equal",
            0.0,
            self.differences(("joint_bridge", unseen), ("joint", unseen)),
            "two-hop examples of other people do not spread to the rest",
            MARGIN,
        )
        self.say(
            "identity",
            "bridge_alignment",
            "hypothesis",
            "order",
            0.0,
            self.differences(("identity:placed", "new_changed_uncovered"), ("sum:placed", "new_changed_uncovered")),
            "an identity adapter repairs uncovered bridges",
        )
        self.say(
            "everything",
            "layer_order",
            "hypothesis",
            "equal",
            0.0,
            self.differences(("everything", cell), ("joint", cell)),
            "full fine-tuning composes like joint LoRA",
            MARGIN,
        )
        for pair in ("all", "rows"):
            self.chains(pair)
        for pair, score in (("placed", "alpha"), ("rows", "alpha"), ("all", "kappa"), ("placed", "kappa")):
            self.tells(pair, score)

    def placement(self, cell: str) -> None:
        """layer_order for trained experts."""
        first, second = "new_unchanged_covered", "old_changed_covered"
        for name, a, b, says in (
            ("first.all", ("first_early", first), ("first_all", first), "first hop: early beats all layers"),
            ("first.late", ("first_early", first), ("first_late", first), "first hop: early beats late"),
            ("second.all", ("second_late", second), ("second_all", second), "second hop: late beats all layers"),
            ("second.early", ("second_late", second), ("second_early", second), "second hop: late beats early"),
            ("sum.all", ("sum:placed", cell), ("sum:all", cell), "sum: early + late beats all + all"),
            ("sum.swapped", ("sum:placed", cell), ("sum:swapped", cell), "sum: early + late beats late + early"),
        ):
            self.say(f"order.{name}", "layer_order", "hypothesis", "order", 0.0, self.differences(a, b), says)

    def chains(self, pair: str) -> None:
        """chain_of_thought: the bound in every world and cell; independence; transfer from bare one-hops."""
        worlds = [w["pairs"][pair]["written"] for w in self.with_pair(pair)]
        lower, reached = [], []
        sums: dict[str, list[float]] = {"independent": [], "bare": []}
        total: list[list[int]] = []
        for written in worlds:
            steps = written["predicted"]["value"]
            for cell, count in written["reached"].items():
                if count[1]:
                    lower.append(steps[cell]["lower"])
                    reached.append(count)
            changed = [c for c in ("changed_covered", "changed_uncovered") if written["reached"][c][1]]
            asked = sum(written["reached"][c][1] for c in changed)
            share = {s: sum(steps[c][s][0] for c in changed) / asked for s in ("s1", "s2", "bare1", "bare2")}
            sums["independent"].append(chain_of_thought(share["s1"], share["s2"]).independent)
            sums["bare"].append(chain_of_thought(share["bare1"], share["bare2"]).independent)
            total.append([sum(written["reached"][c][0] for c in changed), asked])
        rounding = 4 * np.finfo(np.float64).eps  # s1 + s2 - 1 and k / n are each a few roundings from exact
        self.say(
            f"chain.{pair}.lower",
            "chain_of_thought",
            "exact",
            "at_least",
            lower,
            reached,
            f"{pair}, written out: at least s₁ + s₂ − 1 in every world and cell",
            float(rounding),
        )
        self.say(
            f"chain.{pair}.independent",
            "chain_of_thought",
            "hypothesis",
            "equal",
            sums["independent"],
            total,
            f"{pair}, written out: s₁ s₂ on new x changed",
            MARGIN,
        )
        self.say(
            f"chain.{pair}.bare",
            "chain_of_thought",
            "hypothesis",
            "equal",
            sums["bare"],
            total,
            f"{pair}, written out: the product of the bare one-hop accuracies",
            MARGIN,
        )
        if pair == "rows":
            self.say(
                "written",
                "chain_of_thought",
                "control",
                "at_least",
                CONTROLS["written"],
                total,
                "new embeddings + late second hop: the written-out question composes on every bridge",
            )

    def tells(self, pair: str, score: str) -> None:
        """bridge_alignment: does alpha (changed facts) or kappa (unchanged) foretell which queries are answered?"""
        found = [w["pairs"][pair]["alignment"] for w in self.with_pair(pair)]
        both = [(a[f"{score}_covered"], a[f"{score}_covered_confidence"]) for a in found]
        values = [v for v, c in both if v is not None and c is not None]
        gains = [v - c for v, c in both if v is not None and c is not None]
        sign = {"alpha": "α", "kappa": "κ"}[score]
        self.say(
            f"{score}.{pair}",
            "bridge_alignment",
            "hypothesis",
            "at_least",
            TELLS,
            values,
            f"{pair}: AUC of {sign} within covered bridges",
        )
        self.say(
            f"{score}.{pair}.gain",
            "bridge_alignment",
            "hypothesis",
            "order",
            0.0,
            gains,
            f"{pair}: AUC of {sign} above that of the answer's own confidence",
        )
