"""What every experiment declares that teaches coverage: what must be learnt, and what a blind answer has right."""

from __future__ import annotations

from empirical.engine.predictions import Predictions
from empirical.engine.settings import Group
from empirical.experiments.plain_english_predictions import LEARNT, learnt
from empirical.experiments.taught_tables import Settings
from empirical.tasks.entities import DIRECT

SIDES = ("covered", "uncovered")


class Worlds(Predictions):
    """The predictions of one group of worlds."""

    def __init__(self, group: Group, settings: Settings) -> None:
        super().__init__(group.name)
        self.settings = settings
        new = settings.people - settings.countries * (settings.pupils + settings.fellows)
        #: questions about new people of a family, over one half of its countries at least
        self.asked = new * len(DIRECT.held_out) // 2
        #: what an answer that is blind to the country has right, among the capitals of covered ones
        self.blind = 1 / (settings.coverage * settings.countries) if settings.coverage else 1 / settings.countries

    def learnt(self, claim: str) -> None:
        """What must come out, or the worlds show nothing; controls of the claim."""
        for kind, says in (
            ("taught_first", "the taught base: where fellows live, in wordings that were not taught"),
            ("taught_second", "the taught base: the capitals, in a wording that was not taught"),
        ):
            self.control(f"learnt.{kind}", claim, says, of=("base", kind), at_least=LEARNT)
        learnt(self, claim, self.settings.experts)
