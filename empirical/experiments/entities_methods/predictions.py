"""What `entities_methods` declares: the plain sum of placed experts against the best of each kind of method.

Deviations of the alternatives are what the worlds of `entities` and a calibration world showed, rounded up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, Predictions, address, measure
from empirical.engine.settings import Group
from empirical.experiments.plain_english_tables import Grouped, Measured, WorldSettings
from empirical.reuse.methods import asks, find
from empirical.reuse.options import Options

#: smallest share of its facts at which an expert counts as having learnt them
LEARNT = 0.85
#: how a question is answered: ending of its cell, words
ANSWERS = {"free": ("", "in free text"), "forced": ("_forced", "by forced choice")}


def kind(method: str) -> str:
    """Of which kind a method is: "data" for one that sees examples, else merge or router."""
    return "data" if asks(method) & {"probes", "data"} else find(method, Options())[0].kind


def best(m: Measured, conditions: Sequence[str], cell: str) -> float:
    """The highest rate of some conditions, chosen with the answers at hand."""
    return max(m.scores[c][cell].rate for c in conditions)


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says the same of its libraries."""
    found: list[Prediction] = []
    for group in settings.groups:
        found += worlds(group, settings.but(**group.changes))
    return found


def worlds(group: Group, settings: WorldSettings) -> Predictions:
    """What must be there, and the sum of placed experts against what each kind of method makes of the others."""
    said = Predictions(group.name)
    for expert in ("first_early", "second_late", "first_all", "second_all"):
        says = f"{expert} alone: its facts in wordings that were not taught"
        of = (expert, expert.partition("_")[0])
        said.control(f"learnt.{expert}", "coverage_law", says, of=of, at_least=LEARNT)
    kinds = dict.fromkeys(map(kind, settings.methods))
    for (how, (ending, words)), library in ((a, b) for a in ANSWERS.items() for b in settings.libraries):
        for of_kind in kinds:
            conditions = [f"{m}:{library}" for m in settings.methods if kind(m) == of_kind]
            cell = f"H{ending}"
            instead = measure(Measured, f"the best of {', '.join(conditions)}: {cell}",
                              partial(best, conditions=conditions, cell=cell), step=0.01)  # fmt: skip
            unless = Alternative("the other way round, by .3", -0.3, 0.1)
            said.hypothesis(f"placed.{library}.{of_kind}.{how}", "layer_order",
                            f"H {words}: the sum of early + late beats the best {NAMES[of_kind]} over {library}",
                            of=address("sum:early+late", cell) - instead, above=0.0, unless=unless,
                            family=f"the sum of placed experts, {words}", about="sum:early+late")  # fmt: skip
    return said


NAMES = {"merge": "merge without data", "data": "merge that sees examples", "router": "router"}
