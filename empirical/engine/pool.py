"""What runs a cell: the work itself, and the processes of this machine that do it.

An engine takes cells and hands back outcomes, or says that a cell was lost with its worker. `Local` is one, `Ray` in
``ray.py`` the other; the driver knows no more of them than `Engine` says. Workers write
no results, but what they seal.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Mapping
from multiprocessing import connection, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import JsonValue

from empirical.engine.catalogue import load
from empirical.engine.estimate import told
from empirical.engine.records import canonical, device_name, environment, finite
from empirical.engine.sealed import check, sealing
from empirical.training.store import Storage, storing
from theory.provenance import cache_folder

#: the processes are the parallelism: each runs on one thread
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
              "TOKENIZERS_PARALLELISM": "false"}  # fmt: skip


class Outcome(NamedTuple):
    """What came of one cell: metrics or an error, and where it ran."""

    metrics: dict[str, JsonValue] | None
    error: str | None
    #: wall time of the cell alone; what was loaded counts with the time that its training took
    seconds: float
    #: the worker's device in words
    device: str
    #: versions in the worker
    environment: dict[str, JsonValue]
    #: peak resident memory of the worker so far, in bytes
    memory: int
    #: what the cell sealed
    sealed: str = ""


class Engine(Protocol):
    """Something that runs cells in other processes."""

    def slots(self, device: str) -> int:
        """How many cells run at once on `device` ("cpu" or "cuda")."""

    def submit(
        self, ticket: int, experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None = None
    ) -> None:
        """Start a cell; `wait` will name it by its ticket. `sealed`: where it seals what single experts say."""

    def wait(self) -> list[tuple[int, Outcome | None]]:
        """Wait for at least one cell that was submitted; None if its worker died."""

    def close(self) -> None:
        """Stop all workers at once. What they were running is lost, and nothing else: they never write."""


def storage(device: str) -> Storage:
    """Where what cells train on this machine is kept."""
    return Storage(cache_folder() / "trained", device_name(device))


def work(experiment: str, cell: Mapping[str, JsonValue], device: str, sealed: Path | None = None) -> Outcome:
    """Run a cell in this process, which seals into the file `sealed`.

    Whatever it dies of, and a number that is not finite, becomes its error.
    """
    started = time.perf_counter()
    metrics: Any = None
    problem, text, kept, stores = None, "", storage(device), False
    try:
        found = load(experiment)
        one = found.cell(cell)
        stores = found.kind(one).stores
        with sealing(sealed) as seal, storing(kept if stores else None):
            metrics = found.run(one, device)
            text = seal.text
        finite(metrics)
        canonical(metrics)
        check(text, metrics, "metrics")
    except Exception as error:  # whatever a cell dies of is recorded with its config, and the run goes on
        metrics, problem = None, f"{type(error).__name__}: {error}\n{traceback.format_exc(limit=-4)}"
    seconds = time.perf_counter() - started
    if problem is None and stores:
        kept.remember(told(experiment, found.protocol, one), seconds)
    seconds += kept.spared
    return Outcome(metrics, problem, seconds, device_name(device), environment(), peak_memory(), text)


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    try:
        # not ru_maxrss, which a new process takes over from the one that started it
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


class _Worker(NamedTuple):
    process: Any
    pipe: connection.Connection


class Local:
    """Processes of this machine, each with a pipe of its own, so that a death costs one cell and is known to be its.

    They are spawned and not forked (CUDA asks for that), started when first needed, and die with the driver.
    """

    def __init__(self, workers: int) -> None:
        self._count = workers
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Worker] = []
        self._busy: dict[int, _Worker] = {}

    def slots(self, device: str) -> int:
        """How many cells run at once."""
        return self._count

    def submit(
        self, ticket: int, experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None = None
    ) -> None:
        """Give a cell to an idle worker, or to a new one."""
        while self._idle:
            worker = self._idle.pop()
            try:
                worker.pipe.send((experiment, cell, device, sealed))
            except OSError:  # died while it was idle
                _end(worker)
                continue
            self._busy[ticket] = worker
            return
        worker = self._busy[ticket] = self._start()
        worker.pipe.send((experiment, cell, device, sealed))

    def _start(self) -> _Worker:
        os.environ.update(ONE_THREAD)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        # Ctrl-C reaches the whole terminal; only the driver is to answer it, and a blocked signal is inherited. The
        # tracker, which the first process would start, unblocks it, hence before
        resource_tracker.ensure_running()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return _Worker(process, ours)

    def wait(self) -> list[tuple[int, Outcome | None]]:
        """Wait until a worker answers or dies."""
        ready = connection.wait([worker.pipe for worker in self._busy.values()])
        found: list[tuple[int, Outcome | None]] = []
        for ticket, worker in [(t, w) for t, w in self._busy.items() if w.pipe in ready]:
            del self._busy[ticket]
            try:
                found.append((ticket, worker.pipe.recv()))
                self._idle.append(worker)
            except (EOFError, OSError):
                found.append((ticket, None))
                _end(worker)
        return found

    def close(self) -> None:
        """Kill all workers."""
        for worker in [*self._idle, *self._busy.values()]:
            _end(worker)
        self._idle, self._busy = [], {}


def _end(worker: _Worker) -> None:
    worker.pipe.close()
    worker.process.kill()
    worker.process.join()
    worker.process.close()


def _serve(pipe: connection.Connection) -> None:
    """In a worker: run cells until the driver hangs up or dies."""
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    try:
        while True:
            pipe.send(work(*pipe.recv()))
    except (EOFError, OSError):
        return


def _die_with_the_driver() -> None:
    """A killed driver cannot stop its workers, so each watches it; else they would finish their cells for nobody."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)
