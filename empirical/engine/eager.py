"""Predictions that were made with the records in hand, of experiments that do not declare them yet.

They are judged like others, shown as not declared and counted nowhere. An experiment that names `declare` instead of
`predictions` needs nothing of this module; the last one to do so deletes it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, TypeVar

from empirical.engine.intervals import Outcome
from empirical.engine.judge import Observed
from empirical.engine.predictions import RELATIONS, Address, Measure, Prediction, rate
from empirical.engine.records import canonical
from empirical.engine.settings import Count, Table, as_json
from theory.numerics import require

T = TypeVar("T")
#: condition, cell -> what was asked there and how much of it was right
Scores = Mapping[str, Mapping[str, Count]]


class Sealed(Table, Generic[T]):
    """A value beside the SHA-256 of its canonical JSON, in one record with what it foretells."""

    value: T
    sha256: str


def seal(value: T) -> Sealed[T]:
    """Hash a value. Raises ValueError for one that JSON cannot hold."""
    return Sealed(value=value, sha256=hashlib.sha256(canonical(as_json(value)).encode()).hexdigest())


def _is_address(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], str)


class Predictions(list[Observed]):
    """Like those of :mod:`empirical.engine.predictions`, of outcomes world by world and not of measures.

    Args:
        group: its name, with which every id begins.
        scores: of its worlds, for outcomes that are named by their address.
        words: with what the words of every prediction begin.

    Worlds in which nothing was asked are left out with what was predicted of them, and a prediction of which no world
    is left is not made.
    """

    def __init__(self, group: str = "", scores: Sequence[Scores] = (), words: str = "") -> None:
        super().__init__()
        self.group, self.scores, self.words = group, scores, words

    def exact(self, name: str, claim: str, says: str, **relation: Any) -> None:
        """A theorem about the very system that ran."""
        self._make("exact", name, claim, says, **relation)

    def ceiling(self, name: str, claim: str, says: str, **relation: Any) -> None:
        """A theorem whose premises hold in the mean."""
        self._make("ceiling", name, claim, says, **relation)

    def hypothesis(self, name: str, claim: str, says: str, **relation: Any) -> None:
        """A proposed mechanism."""
        self._make("hypothesis", name, claim, says, **relation)

    def control(self, name: str, claim: str, says: str, **relation: Any) -> None:
        """What must hold, or the experiment shows nothing."""
        self._make("control", name, claim, says, **relation)

    def counts(self, condition: str, cell: str) -> list[Count]:
        """The outcome at an address, of the worlds that have the condition."""
        return [s[condition][cell] for s in self.scores if condition in s]

    def differences(self, a: Address, b: Address) -> list[float]:
        """Rate at `a` minus that at `b`, of the worlds that have both conditions."""
        return [s[a[0]][a[1]].rate - s[b[0]][b[1]].rate for s in self.scores if a[0] in s and b[0] in s]

    def _make(
        self, kind: str, name: str, claim: str, says: str, of: Any, within: float = 0.0, family: str = "",
        about: str = "", **said: Any,
    ) -> None:  # fmt: skip
        require(len(said) == 1 and set(said) <= set(RELATIONS), name, "one of " + ", ".join(RELATIONS), sorted(said))
        ((relation, target),) = said.items()
        if _is_address(target):
            outcomes: list[Outcome] = [*self.differences(of, target)]
            target = 0.0
        else:
            outcomes = [*self.counts(*of)] if _is_address(of) else [Count(*o) if isinstance(o, list) else o for o in of]
        targets = [target] * len(outcomes) if isinstance(target, (int, float)) else list(target)
        kept = [i for i, o in enumerate(outcomes) if not math.isnan(rate(o))]
        if not kept:
            return
        unread = Measure(name, lambda world: None)
        id_ = f"{self.group}.{name}" if self.group else name
        words = f"{self.words}: {says}" if self.words else says
        by_world = len({targets[i] for i in kept}) > 1
        seen = Observed(
            Prediction(id_, claim, kind, RELATIONS[relation], unread if by_world else targets[kept[0]], within, unread,
                       self.group, words, family=family, about=about),
            [outcomes[i] for i in kept],
            [targets[i] for i in kept],
        )  # fmt: skip
        judged, aim = seen.judged
        # nobody named the scale of these numbers: a hundredth of the largest
        self.append(replace(seen, step=max(abs(aim), *(abs(rate(o)) for o in judged)) / 100 or 0.01))
