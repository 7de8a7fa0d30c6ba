"""What `entities_library` declares of a library of three: the two hops, and direct questions about other people.

No world was run before. Deviations of the alternatives are those of `entities_methods`, whose worlds have the same
people, countries and wordings.
"""

from __future__ import annotations

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Prediction, Predictions
from empirical.engine.settings import Group
from empirical.experiments.plain_english_predictions import against_placed, learnt
from empirical.experiments.plain_english_tables import Grouped, WorldSettings

#: sum of three -> the sum of two to which the expert for direct questions is added
ADDED = {"all+all+all": "all+all", "early+late+late": "early+late"}


def declare(settings: Grouped) -> list[Prediction]:
    """Every group says the same of its libraries."""
    return [p for group in settings.groups for p in worlds(group, settings.but(**group.changes))]


def worlds(group: Group, settings: WorldSettings) -> Predictions:
    """What must be there, what the best method of each kind joins, and what the third expert changes in plain sums."""
    said = Predictions(group.name)
    learnt(said, ("first_early", "second_late", "first_all", "second_all"))
    against_placed(said, settings)
    for three, two in ADDED.items():
        of, without = f"sum:{three}", f"sum:{two}"
        words = three.replace("+", " + ")
        said.hypothesis(f"fewer.{three}", "interference",
                        f"first hops: {words} keeps fewer than without the expert for direct questions",
                        of=(without, "first"), above=(of, "first"),
                        unless=Alternative("the other way round, by .3", -0.3, 0.15),
                        family="an expert for direct questions beside two hops", about=of)  # fmt: skip
        said.hypothesis(f"asks.{three}", "interference",
                        f"H in free text: {words} names the country less often than without that expert",
                        of=(without, "H_country"), above=(of, "H_country"),
                        unless=Alternative("the other way round, by .3", -0.3, 0.15),
                        family="an expert for direct questions beside two hops", about=of)  # fmt: skip
    return said
