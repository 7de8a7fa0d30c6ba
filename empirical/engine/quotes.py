"""Rows of the tables in prose: ``python -m empirical.engine.quotes`` (``--write`` writes) fills in what a page quotes.

A page marks a place with ``<!-- row coverage/headline.order.sum.all -->`` and ``<!-- /row -->``; between them stands
what the judge says of that prediction today: mean over worlds, interval, verdict, number of worlds; first of the run on
a processor, then of the one on a GPU.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from empirical.engine import catalogue as engine
from empirical.engine.records import PREDICTIONS, RESULTS
from theory.provenance import ROOT, write_text

#: pages that quote rows
PAGES = [ROOT / "docs" / name for name in ("reusable-adapters.md", "audit.md")]
#: what stands before a row, by profile
BEFORE = {"cpu": "", "gpu": "on a GPU "}
#: a place: experiment, id of the prediction, what stands there
PLACE = re.compile(r"<!-- row ([a-z_]+)/(\S+) -->(.*?)<!-- /row -->", re.DOTALL)


def said(row: Mapping[str, Any]) -> str:
    """What was measured: mean over worlds, interval, verdict, worlds."""
    mean, low, high = (round(x, 2) + 0.0 for x in (row["mean"], *row["interval"]))  # no minus before a zero
    verdict = "**violated**" if row["verdict"] == "violated" else row["verdict"]
    return f"{mean:.2f} ({low:.2f} to {high:.2f}; {verdict}, {len(row['worlds'])} worlds)"


def filled(text: str, results: Path = RESULTS) -> str:
    """A text with all its places filled in; what is declared and has not run says so.

    Raises:
        ValueError: a place names a row that no experiment declares.
        RecordError: records cannot be judged.
    """
    named = sorted({experiment for experiment, _, _ in PLACE.findall(text)})
    rows: dict[tuple[str, str], list[str]] = {}
    for profile, before in BEFORE.items():
        for row in engine.judge_all(named, profile, results):
            if row["interval"]:
                rows.setdefault((row["experiment"], row["id"]), []).append(before + said(row))

    def put(place: re.Match[str]) -> str:
        experiment, row, _ = place.groups()
        told = "; ".join(rows.get((experiment, row), []))
        if not told:
            declared = [d.read_text(encoding="utf-8") for d in results.glob(f"{experiment}/*/{PREDICTIONS}")]
            if not any(f'"id": "{row}"' in text for text in declared):
                raise ValueError(f"row: expected one that is declared, got {experiment}/{row}")
            told = "declared, not run yet"
        return f"<!-- row {experiment}/{row} -->{told}<!-- /row -->"

    return PLACE.sub(put, text)


if __name__ == "__main__":
    for page in PAGES:
        told = filled(page.read_text(encoding="utf-8"))
        if "--write" in sys.argv[1:]:
            write_text(page, told)
        else:
            print(told)
