"""What `first_step` declares: the power of the rank, way by way, by the claim's function."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import product

import numpy as np

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Predictions, measure
from empirical.experiments.first_step.tables import Measured, Settings, Step
from theory.adapters import first_step_power

CLAIM = "first_step_size"
#: half-width within which a power is met
MARGIN = 0.15
WORDS = {"norm": "the norm of the update", "loss": "the fall of the loss"}


def power(steps: Mapping[str, Step], of: str) -> float:
    """Slope of the logarithm of a size in that of the rank, by least squares."""
    sizes = [getattr(step, of) for step in steps.values()]
    return float(np.polyfit(np.log(np.array(list(steps), dtype=float)), np.log(sizes), 1)[0])


def read(m: Measured, way: str, of: str) -> float:
    """The power of a way."""
    return power(m.steps[way], of)


def declare(settings: Settings) -> Predictions:
    """Every way, its norm and its loss."""
    said = Predictions()
    for (optimizer, scale, zero), of in product(
        product(("sgd", "adam"), ("alpha/r", "alpha/sqrt(r)"), ("B", "A")), WORDS
    ):
        way, rslora = f"{optimizer}, {scale}, {zero}", scale != "alpha/r"
        wanted = float(first_step_power(optimizer, of, rslora))
        says = f"{optimizer}, scale {scale}, {zero} at zero: {WORDS[of]} grows with the rank to the power {wanted:g}"
        measured = measure(Measured, f"{way}: power of the rank, {of}", partial(read, way=way, of=of), step=0.01)
        other = Alternative("by half a power off", wanted + 0.5, 0.15)
        name = f"{optimizer}.{'rslora' if rslora else 'lora'}.{zero}.{of}"
        said.hypothesis(name, CLAIM, says, of=measured, equal=wanted, within=MARGIN, unless=other, family=WORDS[of])
    return said
