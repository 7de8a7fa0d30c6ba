"""Predictions of the entities experiment: what was said before the experts were reused, claim by claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from empirical.engine.judge import Prediction
from empirical.engine.predictions import Book
from empirical.tasks.entities import FAMILIES
from theory.composition import chain_of_thought

#: smallest rates at which a positive control counts as positive; "learnt" and "direct" were seen on a calibration
#: world, the others set by judgement
CONTROLS = {"composes": 0.5, "given": 0.5, "learnt": 0.8, "direct": 0.8, "kept": 0.8}
#: half-width for equality of rates, and what "at most chance" allows above it
MARGIN = 0.10
#: conditions that are no reuse of the two experts
ALONE = ("base", "first", "second", "joint", "joint_bridge", "direct", "random")

Count = list[int]


def predictions(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """What was said, and what the worlds of `results` showed."""
    found = base_predictions([r["metrics"] for r in results if r["cell"]["kind"] == "base"])
    for group in config["groups"]:
        worlds = [r["metrics"] for r in results if r["cell"].get("group") == group["name"]]
        if worlds:
            found += world_predictions(group["name"], worlds)
    return found


def base_predictions(worlds: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """The untouched base: it reads a stated country off the text and composes; of new people it knows nothing."""
    if not worlds:
        return []
    says = "untouched base: the direct question after a sentence that states the country"
    nothing = "untouched base: direct questions about new people, at most measured chance + margin"
    chance = [w["new_chance"] + MARGIN for w in worlds]
    return [
        Prediction("base.given", "coverage_law", "control", "at_least", CONTROLS["given"], 0.0,
                   [w["given"] for w in worlds], says),
        Prediction("base.new", "coverage_law", "control", "at_most", chance, 0.0, [w["new"] for w in worlds], nothing),
    ]  # fmt: skip


def pooled(world: Mapping[str, Any], condition: str, *cells: str) -> Count:
    """[right, asked] over several cells of one condition."""
    found = [world["scores"][condition][cell] for cell in cells]
    return [sum(c[0] for c in found), sum(c[1] for c in found)]


def rate(count: Count) -> float:
    """k / n, and 0 where nothing was asked."""
    return count[0] / count[1] if count[1] else 0.0


def allowed(world: Mapping[str, Any], conditions: Sequence[str], family: str = "F") -> float:
    """Chance as measured by permuting the answers given, mean over the conditions, plus the margin."""
    return sum(world["chance"][c][family] for c in conditions) / len(conditions) + MARGIN


def reuses(world: Mapping[str, Any]) -> list[str]:
    """Conditions in which both experts were reused."""
    return [c for c in world["scores"] if c not in ALONE]


def world_predictions(group: str, worlds: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """All predictions of one group of worlds."""
    book = Book(group, [{"metrics": w} for w in worlds])
    say = book.say

    def counts(condition: str, *cells: str) -> list[Count]:
        return [pooled(w, condition, *cells) for w in worlds]

    first, taught = [f"first_{f}" for f in FAMILIES], ["second_H", "second_F"]
    say("composes", "coverage_law", "control", "at_least", CONTROLS["composes"], counts("base", "famous_R"),
        "the untouched base composes held-out wordings about famous people")  # fmt: skip
    say("learnt.first", "coverage_law", "control", "at_least", CONTROLS["learnt"], counts("first", *first),
        "first-hop expert alone: new people's countries in a new wording")  # fmt: skip
    say("learnt.second", "coverage_law", "control", "at_least", CONTROLS["learnt"], counts("second", *taught),
        "second-hop expert alone: made-up capitals in a new wording")  # fmt: skip
    say("direct", "coverage_law", "control", "at_least", CONTROLS["direct"], counts("direct", "direct_F"),
        "the direct expert answers the questions it was taught, in a new wording")  # fmt: skip
    if all("random" in w["scores"] for w in worlds):
        say("random", "coverage_law", "control", "at_most", [allowed(w, ["random"]) for w in worlds],
            counts("random", "direct_F"), "random adapters compose nothing")  # fmt: skip

    methods = [reuses(w) for w in worlds]
    every = [
        [sum(w["scores"][c]["direct_F"][i] for c in m) for i in (0, 1)] for w, m in zip(worlds, methods, strict=True)
    ]
    say("uncovered.sum", "coverage_law", "hypothesis", "at_most", [allowed(w, ["sum"]) for w in worlds],
        counts("sum", "direct_F"), "F, sum: direct questions at most measured chance + margin")  # fmt: skip
    say("uncovered.every", "coverage_law", "hypothesis", "at_most",
        [allowed(w, m) for w, m in zip(worlds, methods, strict=True)], every,
        "F, all methods of reuse: direct questions at most measured chance + margin")  # fmt: skip
    say("uncovered.joint", "coverage_law", "hypothesis", "at_most", [allowed(w, ["joint"]) for w in worlds],
        counts("joint", "direct_F"), "F, joint: direct questions at most measured chance + margin")  # fmt: skip
    say("bridge_data", "coverage_law", "hypothesis", "equal", 0.0,
        [rate(w["scores"]["joint_bridge"]["unseen_F"]) - rate(w["scores"]["joint"]["unseen_F"]) for w in worlds],
        "F: direct examples of other people do not spread to the rest", MARGIN)  # fmt: skip
    composes = all(rate(c) >= CONTROLS["composes"] for c in counts("base", "famous_R"))
    if composes:
        say("covered", "coverage_law", "hypothesis", "order", 0.0,
            [rate(w["scores"]["sum"]["direct_R"]) - w["chance"]["sum"]["R"] for w in worlds],
            "R, sum: above measured chance, since the base composes these countries")  # fmt: skip
    laws = [w["predicted"]["law"]["value"] for w in worlds]
    say("law.R", "coverage_law", "hypothesis", "equal", [law["lambda"] for law in laws], counts("sum", "direct_R"),
        "R, sum: λ of the first-hop expert alone", MARGIN)  # fmt: skip
    say("law.H", "coverage_law", "hypothesis", "equal", [law["low"] for law in laws], counts("sum", "direct_H"),
        "H, sum: λ p₂ of the experts alone", MARGIN)  # fmt: skip

    for name, cells in (("first", first), ("second", taught)):
        say(f"retained.{name}", "interference", "hypothesis", "at_least", CONTROLS["kept"], counts("sum", *cells),
            f"the sum keeps the {name} hops")  # fmt: skip
    for name in ("first", "second", "sum"):
        say(f"damage.{name}", "interference", "hypothesis", "at_least", CONTROLS["kept"], counts(name, "second_R"),
            f"{name}: real capitals that the base named are kept")  # fmt: skip
    return [*book.entries, *chains(group, worlds)]


def chains(group: str, worlds: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """chain_of_thought: the bound in every world, condition and family; independence and bare one-hops for the sum."""
    steps, reached = [], []
    for world in worlds:
        for written in world["written"].values():
            for family in FAMILIES:
                steps.append(written["predicted"]["value"][family])
                reached.append(written["reached"][family])
    # s1 + s2 - 1 and k / n are each a few roundings from exact
    rounding = float(4 * np.finfo(np.float64).eps)
    found = [
        Prediction(f"{group}.chain.lower", "chain_of_thought", "exact", "at_least", [s["lower"] for s in steps],
                   rounding, reached, "written out: at least s₁ + s₂ − 1 in every world, condition and family")
    ]  # fmt: skip
    for condition in ("sum", "joint"):
        parts: dict[str, list[float]] = {"independent": [], "bare": []}
        total: list[Count] = []
        for world in worlds:
            written = world["written"][condition]
            step = {
                s: rate([sum(written["predicted"]["value"][f][s][i] for f in FAMILIES) for i in (0, 1)])
                for s in ("s1", "s2", "bare2")
            }
            parts["independent"].append(chain_of_thought(step["s1"], step["s2"]).independent)
            parts["bare"].append(chain_of_thought(step["s1"], step["bare2"]).independent)
            total.append([sum(written["reached"][f][i] for f in FAMILIES) for i in (0, 1)])
        for name, says in (("independent", "s₁ s₂ of its own steps"), ("bare", "the product of the bare one-hops")):
            found.append(
                Prediction(f"{group}.chain.{condition}.{name}", "chain_of_thought", "hypothesis", "equal", parts[name],
                           MARGIN, total, f"{condition}, written out: {says}")
            )  # fmt: skip
    return found
