"""The driver: config -> cells -> engine -> one JSON per cell; resumable, never the same cell twice.

A cell runs in a worker process, of this machine or of a Ray cluster; only the driver writes. A killed driver or worker
costs the cells that were running and nothing else: the next run finds the finished ones by their hash and goes on.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from empirical.engine import catalogue, estimate
from empirical.engine.catalogue import judge_all, judged_profile, pick_profile, store_for
from empirical.engine.estimate import Job, Times, gib
from empirical.engine.judge import Row
from empirical.engine.pool import Engine, Local, Outcome
from empirical.engine.records import RESULTS, RawRecord, canonical, commit, device_name, write_json
from empirical.engine.settings import UserMethod
from theory import provenance
from theory.numerics import one_of, require
from theory.provenance import build_folder

ENGINES = ("local", "ray")
#: a worker that dies (out of memory, killed) takes its cell with it, which is tried this often in one run
ATTEMPTS = 3
#: processes on a machine with a GPU
ON_A_GPU = 12


def pending(
    names: Sequence[str], profile: str, results: Path, method: UserMethod | None = None
) -> tuple[list[Job], list[tuple[Job, RawRecord]]]:
    """(cells that have to run, finished ones with their records). A damaged record raises RecordError."""
    jobs, done = [], []
    for name in names:
        store = store_for(name, profile, results)
        for cell in catalogue.cells(name, profile, method):
            job = estimate.job(catalogue.load(name), name, store, cell)
            record = store.get(cell)
            if record is None:
                jobs.append(job)
            else:
                done.append((job, record))
    return jobs, done


def run(
    names: Sequence[str] | None = None,
    profile: str = "auto",
    method: str | None = None,
    workers: int | None = None,
    results: Path | None = None,
    budget_minutes: float | None = None,
    dry_run: bool = False,
    engine: str = "local",
    address: str | None = None,
) -> int:
    """Run what is missing, judge what is there. Exit status: 0 all cells finished, 1 a cell failed.

    Args:
        workers: processes at once; by default as many as there are cores (or 12 on a GPU) and as fit into memory.
        budget_minutes: no cell starts that is expected to end later.
        engine: "local" for processes of this machine, "ray" for tasks of a Ray cluster.
        address: of the cluster, by default one that is started here for the run.

    Raises:
        ValueError: unknown experiment, profile, method or engine, broken config, damaged record, second driver, no
            cluster; nothing was run then and nothing is lost. Results that cannot be written: what was, is kept.
    """
    from rich.console import Console

    one_of(engine, "engine", ENGINES)
    require(address is None or engine == "ray", "--address", "--engine ray with it", f"--engine {engine}")
    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    chosen = list(names) if names else catalogue.names()
    for name in chosen:
        catalogue.load(name)
    described = catalogue.user_method(method) if method else None
    if address is None:
        profile = pick_profile(profile)  # before anything is started
    with ExitStack() as stack:
        cluster = None
        if engine == "ray" and (address or not dry_run):
            from empirical.engine.ray import Ray

            on_gpu = ON_A_GPU if profile == "gpu" else None
            cluster = Ray(address, workers if address else workers or on_gpu, described)
            stack.callback(cluster.close)
            if address is not None:
                profile = pick_profile(profile, cluster.gpus() > 0)
        device = "cuda" if profile == "gpu" else "cpu"
        folder = results or (build_folder() / "results-method" if method else RESULTS)
        jobs, done = pending(chosen, profile, folder, described)
        # what a cluster's machines take is not known before they ran something
        times = Times() if address else estimate.here(done, device_name(device))
        each, available = estimate.MEMORY[device], None if address else estimate.available_memory()
        if cluster is not None:
            count = cluster.slots(device)
        else:
            wanted = ON_A_GPU if device == "cuda" else max(os.cpu_count() or 1, 1)
            count = workers or estimate.processes_that_fit(wanted, each, available)
            if count < (workers or wanted):
                console.print(f"{count} processes and not {wanted}: more would not fit into {gib(available or 0)}")
        where = cluster.name() if cluster is not None else device_name(device)
        console.print(f"profile {profile} on {where}: {len(done)} cells finished, {len(jobs)} to run")
        free = "" if available is None else f", {gib(available)} are free"
        if jobs:
            console.print(f"  memory: {gib(count * each)} for {count} processes (guessed before the first cell){free}")
        for line in [*_strangers(chosen, profile, folder, described),
                     *estimate.describe(jobs, times, count, budget_minutes)]:  # fmt: skip
            console.print(f"  {line}")
        if dry_run:
            for job in times.ordered(jobs):
                expected = times.expected(job)
                shown = "time unknown" if expected is None else f"{expected:.3g} s"
                name, cell = job.store.path(job.cell).stem, canonical(job.cell.identity())
                console.print(f"  {name}  {job.experiment}  {shown}  {cell}", soft_wrap=True, markup=False)
            return 0
        failures: list[str] = []
        left = 0
        if jobs:
            for store in {j.store.folder: j.store for j in jobs}.values():
                stack.enter_context(store.lock())
            if cluster is None:
                local = Local(count)
                stack.callback(local.close)
            room = None if workers or cluster is not None else available
            driver = Driver(cluster or local, device, times, budget_minutes, room, console)
            failures, left = driver.run(jobs)
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, soft_wrap=True)
    if left:
        console.print(f"{left} cells left when the budget of {budget_minutes:g} min ended; run the same command again")
    if not failures and not left:
        # all that is there is judged, so that a run of one experiment leaves the others in the document
        rows = judge_all(catalogue.names(folder, profile), profile, folder, described)
        print_rows(console, [row for row in rows if row["experiment"] in chosen])
        target, figures = documents(folder, profile, described)
        write_experiments(target, profile, rows)
        console.print(f"written: {provenance.shown(target)}")
        for line in _figures(chosen, profile, folder, described, figures):
            console.print(line, markup=False, soft_wrap=True)
    return 1 if failures else 0


def _strangers(names: Sequence[str], profile: str, folder: Path, method: UserMethod | None) -> Iterator[str]:
    for name in names:
        found = store_for(name, profile, folder).strangers(catalogue.cells(name, profile, method))
        if found and method is None:
            yield f"{name}: {found} records of another config or protocol are here; they are kept and not used"


def documents(folder: Path, profile: str, method: UserMethod | None = None) -> tuple[Path, Path]:
    """(JSON file, folder of figures) for the outcomes of `profile`.

    They lie in build/, or beside results that lie elsewhere. ``experiments.json`` is the profile that counts
    (`judged_profile`), or the user's method; a smoke run, or a CPU run where there are GPU results, gets a name of its
    own.
    """
    base = build_folder() if folder in (RESULTS, build_folder() / "results-method") else folder
    suffix = "-method" if method else "" if profile == judged_profile(folder) else f"-{profile}"
    return base / f"experiments{suffix}.json", base / f"figures{suffix}"


def _figures(names: Sequence[str], profile: str, folder: Path, method: UserMethod | None, out: Path) -> Iterator[str]:
    """Draw the figures where matplotlib is there; one line for each, or one that says that it is not."""
    # looked up by file: the plots load torch, for which an experiment without one need not wait
    plotted = [name for name in names if importlib.util.find_spec(f"empirical.experiments.{name}.figures")]
    if not plotted:
        return
    if importlib.util.find_spec("matplotlib") is None:
        yield "no figures: matplotlib is not installed"
        return
    from empirical.engine.figures import draw

    yield from draw(profile, folder, out, plotted, method)


class Driver:
    """Runs jobs on an engine: what goes next, what is written, what is tried again."""

    def __init__(
        self,
        engine: Engine,
        device: str,
        times: Times,
        budget_minutes: float | None,
        memory: float | None,
        console: Any,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`memory`: bytes for all workers together; None if nobody asked to keep below anything."""
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
        with _bar(self.console, jobs, self.times) as advance:
            while waiting or running:
                while len(running) < self.slots() and (position := self.next(waiting, bool(running))) is not None:
                    job = waiting.pop(position)
                    running[tickets[id(job)]] = job
                    self.engine.submit(tickets[id(job)], job.experiment, job.cell.identity(), self.device)
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
        self.times.add(job, outcome.seconds)
        job.store.put(job.cell, outcome.metrics, outcome.seconds, outcome.device, outcome.environment, self.code)

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


@contextmanager
def _bar(console: Any, jobs: Sequence[Job], times: Times) -> Iterator[Callable[[Job, int], None]]:
    """A progress bar whose time left goes by expected seconds, since cells differ; yields what advances it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("cells {task.fields[count]}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    expected = [times.expected(job) for job in jobs]
    weights = {id(job): 1.0 if None in expected else e or 0.0 for job, e in zip(jobs, expected, strict=True)}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(weights.values()), count=f"0/{len(jobs)}")
        yield lambda job, done: bar.update(task, advance=weights[id(job)], count=f"{done}/{len(jobs)}")


def write_experiments(path: Path, profile: str, rows: Sequence[Row]) -> None:
    """Write the judged predictions as one document."""
    from empirical.engine.records import SCHEMA, commit

    write_json(path, {"schema": SCHEMA, "profile": profile, "commit": commit()[0], "predictions": list(rows)})


def print_rows(console: Any, rows: Sequence[Row]) -> None:
    """One line per prediction: what was said, what came out per world, the verdict; violations as loud as the rest."""
    from rich.table import Table

    colour = {"holds": "[green]holds[/]", "violated": "[bold red]VIOLATED[/]", "undecided": "[yellow]undecided[/]"}
    signs = {"at_most": "<=", "at_least": ">=", "equal": "=", "order": ">"}
    table = Table(title="Predictions and outcomes", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("prediction", "kind", "predicted", "mean", "interval", "level", "worlds", "verdict"):
        table.add_column(column, overflow="fold")
    for row in rows:
        predicted = row["predicted"]
        target = f"{predicted:.3g}" if isinstance(predicted, (int, float)) else "by world"
        if row["relation"] == "equal" and row["margin"]:
            target += f" ± {row['margin']:g}"
        low, high = row["interval"]
        interval = f"[{'-inf' if low is None else f'{low:.3g}'}, {'inf' if high is None else f'{high:.3g}'}]"
        table.add_row(
            f"{row['experiment']}: {row['says']}",
            row["kind"],
            f"{signs[row['relation']]} {target}",
            "-" if row["mean"] is None else f"{row['mean']:.3g}",
            interval.replace("[", "\\["),
            "exact" if row["kind"] == "exact" else f"{100 * row['level']:.2f} %",
            str(len(row["worlds"])),
            colour[row["verdict"]],
        )
    console.print(table)
    counts = {v: sum(r["verdict"] == v for r in rows) for v in ("holds", "violated", "undecided")}
    console.print(", ".join(f"{n} {v}" for v, n in counts.items()))
