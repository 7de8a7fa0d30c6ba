"""The committed records and how they are judged, read and judged once, however many tests ask."""

from functools import cache
from typing import Any

from empirical.engine import catalogue
from empirical.engine.judge import Row
from empirical.engine.records import Record


@cache
def records(name: str, profile: str) -> list[Record[Any, Any]]:
    """Those of the current grid of an experiment."""
    return catalogue.records(name, profile)


@cache
def rows(name: str, profile: str) -> list[Row]:
    """Its predictions."""
    return catalogue.judge_all([name], profile)
