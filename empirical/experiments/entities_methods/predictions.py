"""What `entities_methods` declares of the best of each kind of method, chosen with the answers at hand.

Deviations of the alternatives are what the worlds of `entities` and a calibration world showed, rounded up.
"""

from __future__ import annotations

from empirical.engine.predictions import Prediction, Predictions
from empirical.engine.settings import Group
from empirical.experiments.plain_english_predictions import against_placed, learnt
from empirical.experiments.plain_english_tables import Grouped, WorldSettings


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says the same of its libraries."""
    return [p for group in settings.groups for p in worlds(group, settings.but(**group.changes))]


def worlds(group: Group, settings: WorldSettings) -> Predictions:
    """What must be there, and what the best method of each kind makes of experts on all layers."""
    said = Predictions(group.name)
    learnt(said, ("first_early", "second_late", "first_all", "second_all"))
    against_placed(said, settings)
    return said
