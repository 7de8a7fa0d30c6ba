"""The outcome of a layer of evidence for a claim, and of a single check."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from theory.claims import resolve
from theory.console import install_hint

if TYPE_CHECKING:
    from theory.checks import Figure


class FigureData(TypedDict):
    """A :class:`theory.checks.Figure` as the verification's file holds it."""

    name: str
    value: float
    unit: str


class ResultData(TypedDict):
    """A :class:`Result` as the verification's file holds it."""

    status: str
    figure: FigureData | None
    seconds: float
    parts: dict[str, str]
    reason: str | None
    expectations: int
    proved: int
    sentences: int


@dataclass
class Result:
    """The outcome of one layer for one claim; see the schema in the README."""

    status: str
    figure: Figure | None = None
    seconds: float = 0.0
    parts: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    #: how often the checks compared something; 0 for the other layers
    expectations: int = 0
    #: sentences of the claim that theorems prove, of those that can be proved; 0 of 0 for the other layers
    proved: int = 0
    sentences: int = 0

    def as_json(self) -> ResultData:
        """Plain data in the order of the schema."""
        f = self.figure
        return {
            "status": self.status,
            "figure": None if f is None else {"name": f.name, "value": f.value, "unit": f.unit},
            "seconds": round(self.seconds, 3),
            "parts": self.parts,
            "reason": self.reason,
            "expectations": self.expectations,
            "proved": self.proved,
            "sentences": self.sentences,
        }


class Row(NamedTuple):
    """The outcome of one check; `reason`: why it did not pass, `expectations`: how often it compared something."""

    status: str
    figure: Figure | None
    reason: str | None
    seconds: float
    expectations: int


def worst(statuses: Iterable[str]) -> str:
    """The status of a whole from the statuses of its parts: fail over not_checked over pass over none_planned."""
    found = set(statuses)
    for status in ("fail", "not_checked", "pass"):
        if status in found:
            return status
    return "none_planned"


def run_reference(reference: str) -> Row:
    """Run one check; never raises. A check that lacks a package of others is not checked, anything else failed."""
    from theory.checks import expectations

    started = time.perf_counter()
    figure, status, reason, made = None, "pass", None, 0
    try:
        found = resolve(reference)()
        figure = None if found is None else found._replace(value=float(found.value))
        made = expectations()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "theory", re.split("[.:]", reference)[0]):
            status, reason = "fail", f"{reference}: {error}"
        else:
            status, reason = "not_checked", f"expected the package {package}, got none ({install_hint(package)})"
    except Exception as error:  # a check may fail in any way; the reason is shown and the run goes on
        lines = str(error).strip().splitlines() or [type(error).__name__]
        status, reason = "fail", f"{reference.partition(':')[2]}: {type(error).__name__}: {lines[0]}"
    return Row(status, figure, reason, time.perf_counter() - started, made)


def summed(rows: Mapping[str, Row]) -> Result:
    """The result of a layer whose parts are the checks `rows`: reference -> outcome."""
    figures = [row.figure for row in rows.values() if row.figure]
    return Result(
        worst(row.status for row in rows.values()),
        figure=figures[0] if figures else None,
        seconds=sum(row.seconds for row in rows.values()),
        parts={reference.partition(":")[2]: row.status for reference, row in rows.items()},
        reason="; ".join(row.reason for row in rows.values() if row.reason) or None,
        expectations=sum(row.expectations for row in rows.values()),
    )
