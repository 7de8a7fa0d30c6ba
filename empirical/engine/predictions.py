"""How an experiment writes its predictions down: one verb a kind, one keyword a relation.

::

    said = Predictions("headline", [w.scores for w in worlds])
    said.control("rows", "coverage_law", "new embeddings retrieve", of=("rows", "new"), at_least=0.3)
    said.hypothesis("joint", "layer_order", "like the sum", of=("joint", "new"), equal=("sum", "new"), within=0.1)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict, Unpack

from empirical.engine.judge import Outcome, Prediction
from empirical.engine.settings import Count
from theory.numerics import require

#: condition, cell -> what was asked there and how much of it was right
Scores = Mapping[str, Mapping[str, Count]]
#: a condition and a cell of the scores
Address = tuple[str, str]


class Relation(TypedDict, total=False):
    """What is said of the outcome: `of` which outcome, and one of the other keys but `within`.

    Args:
        of: an address in the scores, or the outcome per world: a count, or a plain number.
        at_most, at_least: a bound: one number, or one per world.
        equal: the value, one or per world; or the address of an outcome that is as high.
        above: the address of an outcome that is lower; or 0 where `of` is a difference.
        within: for `equal`, the half-width within which the whole interval must lie; for what is exact, the rounding.
    """

    of: Required[Address | Sequence[Outcome]]
    at_most: float | Sequence[float]
    at_least: float | Sequence[float]
    equal: float | Sequence[float] | Address
    above: float | Address
    within: float


RELATIONS = {"at_most": "at_most", "at_least": "at_least", "equal": "equal", "above": "order"}


def _is_address(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and isinstance(value[0], str)


class Predictions(list[Prediction]):
    """Predictions of one group of worlds, in the order in which they are made.

    Args:
        group: its name, with which every id begins.
        scores: of its worlds, for outcomes that are named by their address.
        words: with what the words of every prediction begin.

    The verbs are the kinds of :mod:`empirical.engine.judge`. Worlds in which nothing was asked are left out with what
    was predicted of them, and a prediction of which no world is left is not made.
    """

    def __init__(self, group: str = "", scores: Sequence[Scores] = (), words: str = "") -> None:
        super().__init__()
        self.group, self.scores, self.words = group, scores, words

    def exact(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """A theorem about the very system that ran: every world must agree."""
        self._make("exact", name, claim, says, **relation)

    def ceiling(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """A theorem whose premises hold in the mean."""
        self._make("ceiling", name, claim, says, **relation)

    def hypothesis(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """A proposed mechanism; a violation is a result."""
        self._make("hypothesis", name, claim, says, **relation)

    def control(self, name: str, claim: str, says: str, **relation: Unpack[Relation]) -> None:
        """What must hold, or the experiment shows nothing."""
        self._make("control", name, claim, says, **relation)

    def counts(self, condition: str, cell: str) -> list[Count]:
        """The outcome at an address, of the worlds that have the condition."""
        return [s[condition][cell] for s in self.scores if condition in s]

    def differences(self, a: Address, b: Address) -> list[float]:
        """Rate at `a` minus that at `b`, of the worlds that have both conditions."""
        return [s[a[0]][a[1]].rate - s[b[0]][b[1]].rate for s in self.scores if a[0] in s and b[0] in s]

    def _make(self, kind: str, name: str, claim: str, says: str, of: Any, within: float = 0.0, **said: Any) -> None:
        require(len(said) == 1 and set(said) <= set(RELATIONS), name, "one of " + ", ".join(RELATIONS), sorted(said))
        ((relation, target),) = said.items()
        if _is_address(target):
            outcomes: list[Any] = self.differences(of, target)
            target = 0.0
        else:
            outcomes = self.counts(*of) if _is_address(of) else list(of)
        asked = [not math.isnan(o.rate if isinstance(o, Count) else o) for o in outcomes]
        kept = [o for o, a in zip(outcomes, asked, strict=True) if a]
        if not isinstance(target, (int, float)):
            target = [t for t, a in zip(target, asked, strict=True) if a]
        if kept:
            id_ = f"{self.group}.{name}" if self.group else name
            words = f"{self.words}: {says}" if self.words else says
            self.append(Prediction(id_, claim, kind, RELATIONS[relation], target, within, kept, words))
