"""What experiments declare of every method over a library of experts, beside the sum of placed ones."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Predictions, address, measure
from empirical.experiments.plain_english_tables import Measured, WorldSettings
from empirical.reuse.methods import asks, find
from empirical.reuse.options import Options

#: smallest share of its facts at which an expert counts as having learnt them
LEARNT = 0.85
#: what no method over experts on all layers exceeds by forced choice
MOST = 0.4
#: kinds of methods
KINDS = {"merge": "merge without data", "data": "merge that sees examples", "router": "router"}


def kind(method: str) -> str:
    """Of which kind a method is: "data" for one that sees examples, else merge or router."""
    return "data" if asks(method) & {"probes", "data"} else find(method, Options())[0].kind


def best(m: Measured, conditions: Sequence[str], cell: str) -> float:
    """The highest rate of some conditions."""
    return max(m.scores[c][cell].rate for c in conditions)


def learnt(said: Predictions, experts: Sequence[str]) -> None:
    """Experts for a hop know their facts, alone."""
    for expert in experts:
        says = f"{expert} alone: its facts in wordings that were not taught"
        of = (expert, expert.partition("_")[0])
        said.control(f"learnt.{expert}", "coverage_law", says, of=of, at_least=LEARNT)


def against_placed(said: Predictions, settings: WorldSettings) -> None:
    """The best method of each kind over every library, chosen with the answers at hand, and the sum of placed experts."""
    for library in settings.libraries:
        for of_kind in dict.fromkeys(map(kind, settings.methods)):
            conditions = [f"{m}:{library}" for m in settings.methods if kind(m) == of_kind]
            free, forced = (
                measure(Measured, f"the best of {', '.join(conditions)}: {cell}",
                        partial(best, conditions=conditions, cell=cell), step=0.01)
                for cell in ("H", "H_forced")
            )  # fmt: skip
            words = f"the best {KINDS[of_kind]} over {library.replace('+', ' + ')}"
            unless = Alternative("the other way round, by .3", -0.3, 0.1)
            said.hypothesis(f"placed.{library}.{of_kind}", "layer_order",
                            f"H in free text: the plain sum of early + late beats {words}",
                            of=address("sum:early+late", "H") - free, above=0.0, unless=unless,
                            family="the sum of placed experts, in free text", about="sum:early+late")  # fmt: skip
            said.hypothesis(f"most.{library}.{of_kind}", "interference",
                            f"H by forced choice: {words} answers at most {MOST:g}", of=forced, at_most=MOST,
                            unless=Alternative("answers .65", 0.65, 0.1),
                            family="experts on all layers, by forced choice")  # fmt: skip
