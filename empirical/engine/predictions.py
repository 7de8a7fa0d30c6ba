"""How an experiment writes its predictions down: one book per group of worlds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from empirical.engine.judge import Prediction


class Book:
    """The predictions of one group of worlds, written down one by one.

    Args:
        group: its name, with which every id begins.
        records: the records of its worlds.

    Attributes:
        worlds: the metrics of the records. entries: what has been written down. names_group: whether the words of
            every prediction begin with the name of the group.
    """

    names_group = False

    def __init__(self, group: str, records: Sequence[Mapping[str, Any]]) -> None:
        self.group, self.records = group, records
        self.worlds: list[Mapping[str, Any]] = [r["metrics"] for r in records]
        self.entries: list[Prediction] = []

    def say(
        self,
        name: str,
        claim: str,
        kind: str,
        relation: str,
        predicted: float | Sequence[float],
        worlds: Sequence[Any],
        says: str,
        margin: float = 0.0,
    ) -> None:
        """Enter a prediction; see :class:`~empirical.engine.judge.Prediction`.

        Worlds in which nothing was asked ([0, 0]) are dropped with what was predicted of them, and a prediction of
        which no world is left is not entered.
        """
        asked = [not (isinstance(w, list) and w[1] == 0) for w in worlds]
        kept = [w for w, a in zip(worlds, asked, strict=True) if a]
        if not isinstance(predicted, (int, float)):
            predicted = [p for p, a in zip(predicted, asked, strict=True) if a]
        if kept:
            words = f"{self.group}: {says}" if self.names_group else says
            entry = Prediction(f"{self.group}.{name}", claim, kind, relation, predicted, margin, kept, words)
            self.entries.append(entry)

    def has(self, condition: str) -> bool:
        """Whether every world has this condition."""
        return all(condition in w["scores"] for w in self.worlds)

    def counts(self, condition: str, cell: str) -> list[list[int]]:
        """[right, asked] per world that has the condition."""
        return [w["scores"][condition][cell] for w in self.worlds if condition in w["scores"]]

    def differences(self, a: tuple[str, str], b: tuple[str, str]) -> list[float]:
        """Rate in condition and cell `a` minus that in `b`, per world that has both."""
        both = [w["scores"] for w in self.worlds if a[0] in w["scores"] and b[0] in w["scores"]]
        pairs = [(s[a[0]][a[1]], s[b[0]][b[1]]) for s in both]
        return [k / n - j / m for (k, n), (j, m) in pairs if n and m]
