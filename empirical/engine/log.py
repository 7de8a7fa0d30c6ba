"""``results/LOG.md``: every set of results that was ever judged, one row each, none ever taken out.

A set is all records of an experiment under a profile, known by a hash of their names and metrics. A row that is there
is never written again; what it says of the verdicts is what the judge of its time said.
"""

from __future__ import annotations

from pathlib import Path

from empirical.engine import catalogue
from empirical.engine.records import RESULTS, canonical, files, read, short_hash
from empirical.engine.settings import group_of
from empirical.engine.show import tally_line
from theory.provenance import embed, marked, short

NAME = "LOG.md"
#: the table stands between marks of this name
MARK = "sets"


def identity(name: str, profile: str, results: Path = RESULTS) -> str:
    """Hash of the names and metrics of a set, 8 hex digits. Raises RecordError for a damaged record."""
    found = [(path.stem, short_hash(canonical(read(path)["metrics"]))) for path in files(results / name / profile)]
    return short_hash(canonical(found))[:8]


def row(name: str, profile: str, results: Path = RESULTS) -> str:
    """A set as it is judged now: set, experiment, commits of its code, machines, worlds and seeds, verdicts."""
    records = catalogue.records(name, profile, results)
    seeds: dict[str, set[int]] = {}
    for r in records:
        seeds.setdefault(group_of(r.cell), set()).add(r.cell.seed)
    worlds = "; ".join(f"{g or 'all'} {len(s)} ({min(s)} to {max(s)})" for g, s in sorted(seeds.items()))
    commits = ", ".join(sorted({short(r.commit) for r in records}))
    machines = ", ".join(sorted({r.device for r in records}))
    verdicts = tally_line(catalogue.judge_all([name], profile, results))
    cells = [identity(name, profile, results), f"{name}, {profile}", commits, machines, worlds, verdicts]
    return f"| {' | '.join(cells)} |"


def missing(results: Path = RESULTS) -> list[str]:
    """Rows of the sets that are there, whole, and not in the log."""
    text = marked((results / NAME).read_text(encoding="utf-8"), MARK, NAME)[1]
    there = [(folder.parent.name, folder.name, len(files(folder))) for folder in sorted(results.glob("*/*"))]
    names = set(catalogue.names())
    # smoke runs are no results, and a part is no set
    kept = [(n, p) for n, p, count in there if p != "smoke" and n in names
            and 0 < len(catalogue.cells(n, p)) <= count]  # fmt: skip
    return [row(n, p, results) for n, p in kept if f"| {identity(n, p, results)} |" not in text]


def append(results: Path = RESULTS) -> list[str]:
    """Add the rows that are missing, and return them. Raises ValueError where the log has no table."""
    rows, path = missing(results), results / NAME
    if rows:
        table = marked(path.read_text(encoding="utf-8"), MARK, NAME)[1]
        embed(path, MARK, "\n".join([table, *rows]))
    return rows
