"""The committed records and how they are judged, read and judged once, however many tests ask."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.catalogue import judge_all
from empirical.engine.catalogue import records as read
from empirical.engine.judge import Row
from empirical.engine.records import RESULTS, Record
from theory.numerics import Array


@cache
def records(name: str, profile: str) -> list[Record[Any, Any]]:
    """Those of the current grid of an experiment."""
    return read(name, profile)


def rates(name: str, profile: str, condition: str, cell: str, **of: Any) -> Array:
    """What a condition answers of a cell, world by world; of those alone whose settings have these values."""
    worlds = [r for r in records(name, profile) if condition in getattr(r.metrics, "scores", {})]
    chosen = [r for r in worlds if all(getattr(r.cell, key) == value for key, value in of.items())]
    return np.array([r.metrics.scores[condition][cell].rate for r in chosen])


def mean(name: str, profile: str, condition: str, cell: str, **of: Any) -> float:
    """Over the worlds of :func:`rates`, to the two digits that an explanation has."""
    return round(float(rates(name, profile, condition, cell, **of).mean()), 2)


def _records(name: str, profile: str, results: Path = RESULTS, method: Any = None) -> list[Record[Any, Any]]:
    return records(name, profile) if results == RESULTS and not method else read(name, profile, results, method)


@cache
def rows(name: str, profile: str) -> list[Row]:
    """Its predictions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "records", _records)
        return judge_all([name], profile)


def once(patch: pytest.MonkeyPatch) -> None:
    """Let all that asks the engine for committed results have them from here; it reads and judges others itself."""

    def known(names: Sequence[str], profile: str, results: Path = RESULTS) -> list[Row]:
        if results != RESULTS:
            return judge_all(names, profile, results)
        return [row for name in names for row in rows(name, profile)]

    patch.setattr(catalogue, "records", _records)
    patch.setattr(catalogue, "judge_all", known)
