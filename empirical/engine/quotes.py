"""Rows of the tables in prose: ``python -m empirical.engine.quotes`` (``--write`` writes) fills in what a page quotes.

A page marks a place with ``<!-- row coverage/headline.order.sum.all -->`` and ``<!-- /row -->``; between them stands
what the judge says of that prediction today: mean over worlds, interval, verdict, number of worlds, profile.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empirical.engine import catalogue as engine
from empirical.engine.records import RESULTS
from theory.provenance import ROOT, write_text

#: pages that quote rows
PAGES = (ROOT / "docs" / "reusable-adapters.md",)
#: a place: experiment, id of the prediction, what stands there
PLACE = re.compile(r"<!-- row ([a-z_]+)/(\S+) -->(.*?)<!-- /row -->", re.DOTALL)


def rows(text: str, profile: str = "cpu", results: Path = RESULTS) -> dict[tuple[str, str], Mapping[str, Any]]:
    """The judged rows of the experiments that a text quotes, by experiment and id."""
    named = sorted({experiment for experiment, _, _ in PLACE.findall(text)})
    return {(row["experiment"], row["id"]): row for row in engine.judge_all(named, profile, results)}


def said(row: Mapping[str, Any], profile: str = "cpu") -> str:
    """What was measured: mean over worlds, 95 % interval, verdict, worlds, profile."""
    if row["mean"] is None or row["interval"] is None:
        return f"not measured yet ({profile.upper()})"
    low, high = row["interval"]
    holds = {"holds": "holds", "violated": "**violated**", "undecided": "undecided"}[row["verdict"]]
    return f"{row['mean']:.2f} [{low:.2f}, {high:.2f}], {holds}, {len(row['worlds'])} worlds, {profile.upper()}"


def filled(text: str, profile: str = "cpu", results: Path = RESULTS) -> str:
    """A text with all its places filled in.

    Raises:
        ValueError: a place names a row that no experiment declares.
    """
    found = rows(text, profile, results)

    def put(place: re.Match[str]) -> str:
        experiment, row, _ = place.groups()
        if (experiment, row) not in found:
            raise ValueError(f"row: expected one that is declared, got {experiment}/{row}")
        return f"<!-- row {experiment}/{row} -->{said(found[experiment, row], profile)}<!-- /row -->"

    return PLACE.sub(put, text)


if __name__ == "__main__":
    for page in PAGES:
        told = filled(page.read_text(encoding="utf-8"))
        if "--write" in sys.argv[1:]:
            write_text(page, told)
        else:
            print(told)
