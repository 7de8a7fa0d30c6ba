"""What `entities_soups` declares of weights that are learnt over placed experts.

No world was run before: what is predicted goes on from `entities_methods`, where the same weights over experts on all
layers kept nearly all one-hop facts, of which the plain sum of placed experts keeps half, and joined as many.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, Predictions
from empirical.engine.settings import Group
from empirical.experiments.plain_english_tables import Grouped, WorldSettings
from empirical.tasks.entities import FIRST

#: smallest share of its facts at which an expert counts as having learnt them
LEARNT = 0.85
#: smallest share of first hops that is kept
KEPT = 0.8
#: cell of the scores -> what it counts
CELLS = {
    "H": "H in free text",
    "H_forced": "H by forced choice",
    "first": "one-hop facts, first hops",
    "second": "one-hop facts, second hops",
}


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says the same of its sums."""
    return [p for group in settings.groups for p in worlds(group, settings.but(**group.changes))]


def worlds(group: Group, settings: WorldSettings) -> Predictions:
    """What must be there, and what the weights change of what is joined and of what is kept."""
    said = Predictions(group.name)
    for expert in settings.experts:
        says = f"{expert} alone: its facts in wordings that were not taught"
        of = (expert, expert.partition("_")[0])
        said.control(f"learnt.{expert}", "coverage_law", says, of=of, at_least=LEARNT)
    for sum_ in settings.sums:
        soup, words = f"lora_soups:{sum_}", sum_.replace("+", " + ")
        for cell, counted in CELLS.items():
            says = f"{counted}: weights learnt over {words} above their plain sum"
            unless = Alternative("the other way round, by .3", -0.3, 0.1)
            said.hypothesis(f"{cell}.{sum_}", "interference", says, of=(soup, cell), above=(f"sum:{sum_}", cell),
                            unless=unless, family="learnt weights", about=soup)  # fmt: skip
        unless = Alternative("half of them", 0.5, 0.1, settings.people * len(FIRST.held_out))
        says = f"first hops: weights learnt over {words} keep at least {KEPT:g}"
        said.hypothesis(f"kept.{sum_}", "interference", says, of=(soup, "first"), at_least=KEPT, unless=unless,
                        family="learnt weights", about=soup)  # fmt: skip
    return said
