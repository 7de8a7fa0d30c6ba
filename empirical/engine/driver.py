"""The driver's loop: which cell goes next, what is written of it, what is tried again.

A cell runs in a worker process, of this machine or of a Ray cluster; only the driver writes. A killed driver or worker
costs the cells that were running and nothing else: the next run finds the finished ones by their hash and goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from empirical.engine import estimate
from empirical.engine.estimate import Job, Times, gib
from empirical.engine.pool import Engine, Outcome
from empirical.engine.records import Store, canonical, commit
from empirical.engine.sealed import sealed_path, secure
from empirical.engine.settings import Cell
from empirical.engine.show import progress

if TYPE_CHECKING:
    from rich.console import Console

#: a worker that dies (out of memory, killed) takes its cell with it, which is tried this often in one run
ATTEMPTS = 3


class Driver:
    """Runs jobs on an engine: what goes next, what is written, what is tried again."""

    def __init__(
        self,
        engine: Engine,
        device: str,
        times: Times,
        budget_minutes: float | None,
        memory: float | None,
        console: Console,
        clock: Callable[[], float] = time.perf_counter,
        broken: Callable[[Store, Cell, Mapping[str, Any]], str | None] = lambda store, cell, metrics: None,
    ) -> None:
        """`memory`: bytes for all workers together; None if nobody asked to keep below anything.

        `broken`: which theorem does not hold for a cell's metrics; such a cell has failed.
        """
        self.broken = broken
        self.engine, self.device, self.times, self.console = engine, device, times, console
        self.limit = None if budget_minutes is None else 60 * budget_minutes
        self.memory, self.peak, self.shown = memory, 0, engine.slots(device)
        self.clock, self.began = clock, clock()
        self.code = commit()  # of what the workers are about to load
        self.failures: list[str] = []
        self.finished = 0

    def run(self, jobs: Sequence[Job]) -> tuple[list[str], int]:
        """Run `jobs`; returns (failures, number of cells that did not fit into the budget)."""
        waiting = self.times.ordered(jobs)
        first = {job.kind for job in jobs if not self.times.measured(job)}
        running: dict[int, Job] = {}
        attempts: dict[int, int] = {}
        tickets = {id(job): i for i, job in enumerate(waiting)}
        with progress(self.console, jobs, self.times) as advance:
            while waiting or running:
                while len(running) < self.slots() and (position := self.next(waiting, bool(running))) is not None:
                    job = waiting.pop(position)
                    running[tickets[id(job)]] = job
                    sealed = sealed_path(job.store.path(job.cell))
                    self.engine.submit(tickets[id(job)], job.experiment, job.cell.identity(), self.device, sealed)
                if not running:
                    return self.failures, len(waiting)
                for ticket, outcome in self.engine.wait():
                    job = running.pop(ticket)
                    if outcome is None:
                        attempts[ticket] = attempts.get(ticket, 0) + 1
                        if attempts[ticket] < ATTEMPTS:
                            # to the end: what died for want of memory has more of it when little else is left
                            waiting.append(job)
                            continue
                        self.fail(job, f"the worker process died {ATTEMPTS} times")
                    else:
                        self.keep(job, outcome)
                    self.finished += 1
                    advance(job, self.finished)
                    if first:
                        first.discard(job.kind)
                        if not first and waiting:
                            waiting = self.refresh(waiting, running)
        return self.failures, 0

    def next(self, waiting: Sequence[Job], busy: bool) -> int | None:
        """Position of the first cell that is expected to end within the budget."""
        if not waiting or self.limit is None:
            return 0 if waiting else None
        left = self.limit - (self.clock() - self.began)
        for i, job in enumerate(waiting):
            if (self.times.expected(job) or 0.0) <= left:
                return i
        # a guess alone keeps no cell from ever being tried
        if left > 0 and not busy and not self.finished and not self.times.measured(waiting[0]):
            return min(range(len(waiting)), key=lambda i: self.times.expected(waiting[i]) or 0.0)
        return None

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Write what came of a cell."""
        self.peak = max(self.peak, outcome.memory)
        if outcome.metrics is None:
            self.fail(job, outcome.error or "no metrics")
            return
        theorem = self.broken(job.store, job.cell, outcome.metrics)
        if theorem is not None:
            self.fail(job, f"a theorem does not hold here: {theorem}")
            return
        self.times.add(job, outcome.seconds)
        sealed = secure(job.store.path(job.cell), outcome.sealed)
        job.store.put(
            job.cell, outcome.metrics, outcome.seconds, outcome.device, outcome.environment, self.code, sealed
        )

    def fail(self, job: Job, error: str) -> None:
        """Write why there is no record."""
        job.store.put_error(job.cell, error)
        self.failures.append(f"{job.experiment} {canonical(job.cell.identity())}: {error.splitlines()[0]}")

    def slots(self) -> int:
        """How many cells to run at once: as many as the engine has and, as measured so far, fit into memory."""
        count = self.engine.slots(self.device)
        if self.memory is not None and self.peak:
            count = estimate.processes_that_fit(count, self.peak, self.memory)
            if count < self.shown:
                self.shown = count
                self.console.print(f"{count} processes from here on: each takes {gib(self.peak)} of {gib(self.memory)}")
        return count

    def refresh(self, waiting: Sequence[Job], running: Mapping[int, Job]) -> list[Job]:
        """Say again what is left, now that every kind of cell was measured here; returns the new order."""
        left = None if self.limit is None else max(self.limit - (self.clock() - self.began), 0.0) / 60
        count = self.slots()
        self.console.print(
            f"after the first {self.finished}: {len(waiting)} cells wait, {len(running)} run; "
            f"{gib(self.peak)} a process, {gib(count * self.peak)} for {count} (measured)"
        )
        for line in estimate.describe(waiting, self.times, count, left):
            self.console.print(f"  {line}")
        return self.times.ordered(waiting)
