"""The committed results in one table for the README: ``python -m empirical.engine.summary`` (``--write`` writes)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from empirical.engine import catalogue as engine
from empirical.engine.judge import tally
from empirical.engine.records import RESULTS, Record, canonical
from theory.provenance import ROOT, embed


def purpose(name: str) -> str:
    """What an experiment holds against real training, in one line."""
    return engine.load(name).purpose


def settled(records: Sequence[Record[Any, Any]]) -> set[str]:
    """What was set in the cells, but for the seeds."""
    return {canonical({k: v for k, v in r["cell"].items() if k != "seed"}) for r in records}


def again(first: set[str], other: set[str]) -> str:
    """What a second run is, by what was set in the cells of either."""
    if other == first:
        return "the same again, on fresh worlds"
    return (
        "a part of the same" if other < first else "in part the same, in part at other settings"
    ) + ", on fresh worlds"


def summary(results: Path = RESULTS, profiles: Sequence[str] = engine.JUDGED) -> str:
    """One row per experiment and profile: what it is about, what ran, how its predictions came out.

    Hypotheses and ceilings, by kind: hold / violated / undecided. An experiment without results has a row that says so;
    what it is about stands in the first of several.
    """
    lines = ["| experiment | what it holds against real training | results | hypotheses | ceilings |",
             "|---|---|---|---|---|"]  # fmt: skip
    for name in engine.names():
        found = {p: engine.records(name, p, results) for p in profiles}
        done = {p: records for p, records in found.items() if records}
        for profile, records in done.items():
            rows = engine.judge_all([name], profile, results)
            seeds, counts = {r.cell.seed for r in records}, tally(rows)
            kinds = [
                " / ".join(map(str, counts[k].values())) if k in counts else "-" for k in ("hypothesis", "ceiling")
            ]
            ran = f"{profile.upper()}, {len(seeds)} worlds, {len(records)} cells"
            first = next(iter(done.values()))
            about = purpose(name) if records is first else again(settled(first), settled(records))
            lines.append(f"| `{name}` | {about} | {ran} | {' | '.join(kinds)} |")
        if not done:
            lines.append(f"| `{name}` | {purpose(name)} | none yet | - | - |")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        embed(ROOT / "README.md", "experiments", summary())
    else:
        print(summary())
