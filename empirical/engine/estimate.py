"""How long cells will take here and how much memory they need: guesses, corrected by what was measured.

An experiment may guess the seconds of its cells from their sizes. What it says is scaled, kind of cell by kind of
cell, by what finished cells took on this device. The records of another device count for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from empirical.engine.experiment import Experiment
from empirical.engine.records import RawRecord, Store, canonical
from empirical.engine.scheduler import fitting, simulate
from empirical.engine.settings import Cell
from empirical.training.store import Storage

#: resident memory of a worker before one was measured: torch, transformers and a model of a few million parameters;
#: with CUDA its libraries too
MEMORY = {"cpu": 0.8 * 2**30, "cuda": 2.0 * 2**30}


class Job(NamedTuple):
    """One cell, with what is needed to place it."""

    experiment: str
    store: Store
    cell: Cell
    #: cells of one kind take time in proportion to their guess
    kind: str
    #: seconds as the experiment guesses them; None if it does not
    guess: float | None
    #: whether what it trains is kept
    stores: bool = False
    #: seconds that it took but for training, where all that it trains is kept here
    stored: float | None = None


def job(experiment: Experiment[Any], name: str, store: Store, cell: Cell, kept: Storage | None = None) -> Job:
    """The job of a cell. Its kind is what its settings say in words and not in numbers."""
    words = {k: v for k, v in cell.identity().items() if isinstance(v, str)}
    stores = experiment.kind(cell).stores
    stored = kept.remembered(told(name, experiment.protocol, cell)) if kept is not None and stores else None
    return Job(name, store, cell, canonical({"experiment": name} | words), experiment.seconds(cell), stores, stored)


def told(name: str, protocol: int, cell: Cell) -> dict[str, Any]:
    """What decides what a cell trains: all of it but the user's method."""
    return {"experiment": name, "protocol": protocol, "cell": cell.but(user_method=None).identity()}


class Times:
    """Expected seconds of cells on one device."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # kind or experiment -> (seconds, guessed seconds)

    def add(self, cell: Job, seconds: float) -> None:
        """A cell took so long here."""
        for key in (cell.kind, cell.experiment):
            took, guessed = self._sums.get(key, (0.0, 0.0))
            self._sums[key] = (took + seconds, guessed + self._weight(cell))

    @staticmethod
    def _weight(cell: Job) -> float:
        return 1.0 if cell.guess is None else max(cell.guess, 1e-9)

    def measured(self, cell: Job) -> bool:
        """Whether it, or a cell of this kind, was measured here."""
        return cell.stored is not None or cell.kind in self._sums

    def expected(self, cell: Job) -> float | None:
        """Seconds, from itself where nothing is to train, else from cells of its kind, else of its experiment, else the
        bare guess; None if there is none."""
        if cell.stored is not None:
            return cell.stored
        for key in (cell.kind, cell.experiment):
            if key in self._sums:
                took, guessed = self._sums[key]
                return self._weight(cell) * took / guessed
        return cell.guess

    def ordered(self, jobs: Sequence[Job]) -> list[Job]:
        """Longest first, which ends sooner (bench/scaling.md); but one of each kind not yet measured before all."""
        first: dict[str, Job] = {}
        ranked = sorted(jobs, key=lambda j: -(self.expected(j) or 0.0))
        for cell in ranked:
            if not self.measured(cell):
                first.setdefault(cell.kind, cell)
        ahead = {id(cell) for cell in first.values()}
        return [*first.values(), *(cell for cell in ranked if id(cell) not in ahead)]


def describe(jobs: Sequence[Job], times: Times, workers: int, minutes_left: float | None) -> list[str]:
    """What `jobs` will take on `workers` processes: a line per experiment and one for all; what a budget leaves out."""
    lines = []
    for name in dict.fromkeys(j.experiment for j in jobs):
        mine = [j for j in jobs if j.experiment == name]
        lines.append(f"{name}: {len(mine)} cells, {_minutes(mine, times, workers)} ({_source(mine, times)})")
        stored = [j.stored is not None for j in mine if j.stores]
        if any(stored):
            lines[-1] += f"; stored is what {sum(stored)} train, to be trained what {len(stored) - sum(stored)} train"
    if not jobs:
        return lines
    each = [times.expected(j) for j in jobs]
    known = [e for e in each if e is not None]
    lines.append(f"all: {len(jobs)} cells, {_minutes(jobs, times, workers)} on {workers} processes, longest first")
    if minutes_left is not None and len(known) == len(each):
        limit = 60 * minutes_left
        fit = fitting(known, workers, limit)
        never = sum(e > limit for e in known)
        alone = f", {never} of them longer than that each" if never else ""
        lines.append(f"in {minutes_left:.3g} min about {fit} cells fit, {len(jobs) - fit} do not{alone}")
    return lines


def _minutes(jobs: Sequence[Job], times: Times, workers: int) -> str:
    each = [times.expected(j) for j in jobs]
    known = [e for e in each if e is not None]
    if len(known) < len(each):
        return "time unknown before the first cell"
    return f"about {simulate(known, workers).makespan / 60:.1f} min"


def _source(jobs: Sequence[Job], times: Times) -> str:
    here = sum(times.measured(j) for j in jobs)
    if here == len(jobs):
        return "measured here"
    if here:
        return f"{here} of kinds measured here, {len(jobs) - here} not"
    return "a guess from their sizes, none measured here" if all(j.guess is not None for j in jobs) else "no guess"


def available_memory() -> int | None:
    """Bytes that new processes may take on this machine, or in this container; None where that cannot be read."""
    found = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    except OSError:
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            found.append(int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def processes_that_fit(wanted: int, each: float, available: float | None) -> int:
    """At most `wanted` processes of `each` bytes in `available` bytes, at least one."""
    return wanted if available is None else max(1, min(wanted, int(available // each)))


def gib(size: float) -> str:
    """Bytes in words."""
    return f"{size / 2**30:.2g} GiB"


def here(records: Sequence[tuple[Job, RawRecord]], device: str) -> Times:
    """The times of the records that were made on `device`, as `empirical.engine.records.device_name` calls it."""
    times = Times()
    for cell, record in records:
        if record["device"] == device:
            times.add(cell, float(record["seconds"]))
    return times
