"""A run: settings -> cells -> an engine -> one JSON per cell -> judged; resumable, never the same cell twice."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from empirical.engine import catalogue, estimate
from empirical.engine.catalogue import judge_all, pick_profile, store_for
from empirical.engine.driver import Driver
from empirical.engine.estimate import Job, Times, gib
from empirical.engine.judge import Row
from empirical.engine.pool import Engine, Local, storage
from empirical.engine.records import RESULTS, RawRecord, RecordError, commit, device_name, write_json
from empirical.engine.settings import UserMethod
from empirical.engine.show import new_console, print_cells, print_rows, print_ways, teller
from empirical.training.store import Storage
from theory.numerics import one_of, require
from theory.provenance import build_folder, shown

if TYPE_CHECKING:
    from rich.console import Console

ENGINES = ("local", "ray")
#: of ``experiments.json``
SCHEMA = 1
#: processes on a machine with a GPU
ON_A_GPU = 12


class Place(NamedTuple):
    """Where cells run: the engine, the profile that was resolved there, its name, and memory that is free for them."""

    engine: Engine
    profile: str
    name: str
    #: in bytes; None where nobody asks for it, as on the machines of a cluster
    free: int | None
    #: whether it is this machine, whose records tell how long cells take
    here: bool = True

    @property
    def device(self) -> str:
        """Of its workers."""
        return "cuda" if self.profile == "gpu" else "cpu"


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
        ValueError: unknown experiment, profile, method or engine, broken settings, damaged record, predictions that are
            not declared, second driver, no cluster; nothing was run then and nothing is lost. Results that cannot be
            written: what was, is kept.
    """
    one_of(engine, "engine", ENGINES)
    require(address is None or engine == "ray", "--address", "--engine ray with it", f"--engine {engine}")
    console = new_console()
    chosen = catalogue.asked_for(names)
    own = catalogue.user_method(method, chosen) if method else None
    folder = results or (build_folder() / "results-method" if method else RESULTS)
    with ExitStack() as stack:
        if engine == "ray" and (address or not dry_run):
            place = _cluster(address, workers, profile, own)
        else:
            place = _this_machine(workers, pick_profile(profile), console)
        stack.enter_context(closing(place.engine))
        if own is not None:
            _require_takers(chosen, place.profile, own)
        # what lies on the machines of a cluster is not known here
        kept = storage(place.device) if place.here else None
        jobs, done, damaged = pending(chosen, place.profile, folder, own, kept)
        for line in damaged:
            console.print(f"left out: {line}", markup=False, soft_wrap=True)
        # what a cluster's machines take is not known before they ran something
        times = estimate.here(done, device_name(place.device)) if place.here else Times()
        _announce(console, place, jobs, done, times, budget_minutes)
        for line in _strangers(chosen, place.profile, folder, own):
            console.print(f"  {line}")
        if dry_run:
            print_cells(console, jobs, times)
            return 0
        for store in {j.store.folder: j.store for j in jobs}.values():
            stack.enter_context(store.lock())
            if own is None:
                store.declaration = catalogue.declared(store.experiment, place.profile, folder)
        room = place.free if engine == "local" and not workers else None
        theorems = catalogue.Theorems(place.profile, own)
        driver = Driver(place.engine, place.device, times, budget_minutes, room, console, broken=theorems.broken)
        failures, left = driver.run(jobs) if jobs else ([], 0)
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, soft_wrap=True)
    if left:
        console.print(f"{left} cells left when the budget of {budget_minutes:g} min ended; run the same command again")
    if not failures and not left:
        _conclude(console, chosen, place.profile, folder, own)
    return 1 if failures or damaged else 0


def _cluster(address: str | None, workers: int | None, profile: str, own: UserMethod | None) -> Place:
    from empirical.engine.ray import Ray

    if address is not None:
        cluster = Ray(address, workers, own)
        return Place(cluster, pick_profile(profile, cluster.gpus() > 0), cluster.name(), None, here=False)
    profile = pick_profile(profile)  # before anything is started
    cluster = Ray(None, workers or (ON_A_GPU if profile == "gpu" else None), own)
    return Place(cluster, profile, cluster.name(), estimate.available_memory())


def _this_machine(workers: int | None, profile: str, console: Console) -> Place:
    device = "cuda" if profile == "gpu" else "cpu"
    wanted = ON_A_GPU if profile == "gpu" else max(os.cpu_count() or 1, 1)
    free = estimate.available_memory()
    count = workers or estimate.processes_that_fit(wanted, estimate.MEMORY[device], free)
    if count < (workers or wanted):
        console.print(f"{count} processes and not {wanted}: more would not fit into {gib(free or 0)}")
    return Place(Local(count), profile, device_name(device), free)


def _require_takers(names: Sequence[str], profile: str, own: UserMethod) -> None:
    """Raises ValueError where none of these experiments runs a method of the user's own."""
    if not any(catalogue.cells(name, profile, own) for name in names):
        takers = ", ".join(name for name in catalogue.names() if catalogue.cells(name, profile, own))
        require(False, "--experiment", f"one that takes a method under profile {profile}: {takers}", ", ".join(names))


def pending(
    names: Sequence[str],
    profile: str,
    results: Path,
    method: UserMethod | None = None,
    kept: Storage | None = None,
) -> tuple[list[Job], list[tuple[Job, RawRecord]], list[str]]:
    """(cells that have to run, finished ones with their records, why experiments are left out).

    `kept` tells of which cells all that they train is stored. An experiment with a damaged record is left out, and if
    no other is asked for that is a RecordError.
    """
    jobs, done, damaged = [], [], []
    for name in names:
        store = store_for(name, profile, results)
        try:
            found = [(cell, store.get(cell)) for cell in catalogue.cells(name, profile, method)]
        except RecordError as error:
            if len(names) == 1:
                raise
            damaged.append(str(error))
            continue
        for cell, record in found:
            job = estimate.job(catalogue.load(name), name, store, cell, kept if record is None else None)
            if record is None:
                jobs.append(job)
            else:
                done.append((job, record))
    return jobs, done, damaged


def _announce(
    console: Console,
    place: Place,
    jobs: Sequence[Job],
    done: Sequence[object],
    times: Times,
    budget_minutes: float | None,
) -> None:
    count = place.engine.slots(place.device)
    console.print(f"profile {place.profile} on {place.name}: {len(done)} cells finished, {len(jobs)} to run")
    if jobs:
        free = "" if place.free is None else f", {gib(place.free)} are free"
        need = gib(count * estimate.MEMORY[place.device])
        console.print(f"  memory: {need} for {count} processes (guessed before the first cell){free}")
    for line in estimate.describe(jobs, times, count, budget_minutes):
        console.print(f"  {line}")


def _conclude(console: Console, names: Sequence[str], profile: str, folder: Path, own: UserMethod | None) -> None:
    """Judge, write and draw; all that is there, so that a run of one experiment leaves the others in the document."""
    rows = judge_all(catalogue.names(folder, profile), profile, folder, own, teller(console))
    print_rows(console, [row for row in rows if row["experiment"] in names])
    for name in names:
        with suppress(RecordError):  # judge_all has told of it
            print_ways(console, catalogue.ways_of(name, catalogue.records(name, profile, folder, own)))
    target, figures = documents(folder, profile, own)
    write_experiments(target, profile, rows)
    console.print(f"written: {shown(target)}")
    for line in _figures(names, profile, folder, own, figures):
        console.print(line, markup=False, soft_wrap=True)


def _strangers(names: Sequence[str], profile: str, folder: Path, method: UserMethod | None) -> Iterator[str]:
    for name in names:
        found = store_for(name, profile, folder).strangers(catalogue.cells(name, profile, method))
        if found and method is None:
            yield f"{name}: {found} records of another config or protocol are here; they are kept and not used"


def documents(folder: Path, profile: str, method: UserMethod | None = None) -> tuple[Path, Path]:
    """(JSON file, folder of figures) for the outcomes of `profile`.

    They lie in build/, or beside results that lie elsewhere. A user's method, and any profile but cpu, gets names of
    its own.
    """
    base = build_folder() if folder in (RESULTS, build_folder() / "results-method") else folder
    suffix = "-method" if method else "" if profile == "cpu" else f"-{profile}"
    return base / f"experiments{suffix}.json", base / f"figures{suffix}"


def write_experiments(path: Path, profile: str, rows: Sequence[Row]) -> None:
    """Write the judged predictions as one document."""
    write_json(path, {"schema": SCHEMA, "profile": profile, "commit": commit()[0], "predictions": list(rows)})


def _figures(names: Sequence[str], profile: str, folder: Path, method: UserMethod | None, out: Path) -> Iterator[str]:
    """Draw the figures where matplotlib is there; one line for each, or one that says that it is not."""
    plotted = [name for name in names if (catalogue.folders()[name] / "figures.py").exists()]
    if not plotted:
        return
    if importlib.util.find_spec("matplotlib") is None:
        yield "no figures: matplotlib is not installed"
        return
    from empirical.engine.figures import draw

    yield from draw(profile, folder, out, plotted, method)
