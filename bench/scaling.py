"""What a large sweep would need: measured costs of cells and records, arithmetic for larger bases, and a simulation.

``python bench/scaling.py --write`` puts the tables into scaling.md beside it (``--measure`` times the driver anew); a
test holds the committed document against the records. What is measured, what is assumed and what follows is said there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import textwrap
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TypedDict

import numpy as np
from pydantic import ConfigDict
from rich.console import Console

from empirical.engine import catalogue, estimate
from empirical.engine.driver import Driver
from empirical.engine.pool import Engine, Local
from empirical.engine.ray import PER_GPU, Ray
from empirical.engine.records import RESULTS, RecordError, Store, device_name, files, read, write_json
from empirical.engine.scheduler import Schedule, graham, lower_bound, simulate
from empirical.engine.settings import Cell
from empirical.experiments.coverage.tables import StackCell
from theory.adapters import parameter_count
from theory.numerics import require, stream
from theory.provenance import build_folder, embed

DOCUMENT = Path(__file__).with_suffix(".md")
#: milliseconds that the driver needs for a record, written by ``python bench/scaling.py --measure``
MEASURED = Path(__file__).with_suffix(".json")
SEED = 5

CELLS = 100_000
# a base of the 7B class: the linear modules of 32 layers, as out x in
LAYERS, WIDTH, FEED_FORWARD, VOCABULARY = 32, 4096, 11008, 32000
MODULES = [(WIDTH, WIDTH)] * 4 + [(FEED_FORWARD, WIDTH)] * 2 + [(WIDTH, FEED_FORWARD)]
RANK = 16
# one cell trains one adapter and asks it
STEPS, SEQUENCES, TOKENS = 300, 16, 64
QUESTIONS, QUESTION_TOKENS = 2000, 32
#: dense bf16 rate of an H100 or H200 as its data sheet gives it, FLOP/s, and the share of it that is assumed
PEAK, SHARE = 989e12, 0.35
#: bytes of GPU memory of an H200, and its data-sheet bandwidth in bytes/s
GPU_MEMORY, GPU_BANDWIDTH = 141e9, 4.8e12
#: bytes/s at which a base is read from a shared disk, assumed
DISK = 2e9
#: seconds until a lost worker is replaced, assumed
RESTART = 120.0


class _Copy(Cell):
    """A cell of any experiment, with a number that makes it another."""

    model_config = ConfigDict(extra="allow")
    number: int


def recorded(results: Path = RESULTS) -> dict[str, list[float]]:
    """Experiment -> seconds of its cells, of the records on a CPU. Raises ValueError if there are none."""
    found: dict[str, list[float]] = {}
    for path in sorted(p for folder in results.glob("*/cpu") for p in files(folder)):
        record = read(path)
        found.setdefault(record["experiment"], []).append(float(record["seconds"]))
    require(bool(found), "scaling", f"records of the profile cpu in {results}", "none (make experiments)")
    return found


class Sweep(TypedDict):
    """Cells of about nothing on so many workers: milliseconds from one record to the next, in the second tenth of them
    (in the first, workers start) and in the last."""

    cells: int
    workers: int
    early_ms: float
    late_ms: float


class Work(TypedDict):
    """What the driver's own work takes: milliseconds (median) per record, on a device, over so many records."""

    device: str
    records: int
    write_ms: float
    read_ms: float
    sweeps: dict[str, Sweep]


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """In the checkout, since /tmp may be memory."""
    build_folder().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=build_folder())


def measure(count: int = 300) -> Work:
    """Time the driver's own work: on records of the mean size, and on sweeps."""
    kept = [p for folder in RESULTS.glob("*/cpu") for p in files(folder)]
    mean = sum(p.stat().st_size for p in kept) / len(kept)
    example = read(min(kept, key=lambda path: abs(path.stat().st_size - mean)))
    write: list[float] = []
    reading: list[float] = []
    with _scratch() as folder:
        store = Store(Path(folder), example["experiment"], example["protocol"], example["profile"])
        for i in range(count):
            cell = _Copy(number=i, **example["cell"])
            started = time.perf_counter()
            store.put(cell, example["metrics"], 1.0, "measured", code=(None, True))
            written = time.perf_counter()
            store.get(cell)
            write.append(written - started)
            reading.append(time.perf_counter() - written)
    return {
        "device": device_name("cpu"),
        "records": count,
        "write_ms": round(1e3 * float(np.median(write)), 3),
        "read_ms": round(1e3 * float(np.median(reading)), 3),
        "sweeps": {"processes": sweep(Local(2)), "Ray": sweep(Ray(None, 2))},
    }


def sweep(engine: Engine, count: int = 2000) -> Sweep:
    """Run so many cells of the smallest kind that there is, from the list of jobs to the last record on disk."""
    settings, workers = catalogue.settings("coverage", "smoke"), engine.slots("cpu")
    written: list[float] = []

    def note(*_: object) -> None:
        written.append(time.perf_counter())

    with _scratch() as folder, closing(engine):
        store = Store(Path(folder), "coverage", catalogue.load("coverage").protocol, "smoke")
        cells = [StackCell.of(settings.stack, placement="early_late", seed=seed) for seed in range(count)]
        jobs = [estimate.job(catalogue.load("coverage"), "coverage", store, cell) for cell in cells]
        driver = Driver(engine, "cpu", estimate.Times(), None, None, Console(quiet=True), broken=note)
        failures, left = driver.run(jobs)
        require(not failures and not left, "sweep", f"{count} records", f"{failures[:1]}, {left} left")
    tenth = count // 10
    early, late = (1e3 * (written[i + tenth - 1] - written[i]) / (tenth - 1) for i in (tenth, count - tenth))
    return {"cells": count, "workers": workers, "early_ms": round(early, 2), "late_ms": round(late, 2)}


def section(results: Path = RESULTS, measured: Path = MEASURED) -> str:
    """The generated part of the document, as Markdown."""
    durations = recorded(results)
    try:
        driver = json.loads(measured.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{measured}: expected what --measure writes, got: {error}") from error
    sizes = [path.stat().st_size for folder in results.glob("*/cpu") for path in files(folder)]
    each = [s for of in durations.values() for s in of]
    return "\n\n".join(
        (
            _costs(durations),
            _driven(driver["sweeps"]),
            _order(each),
            _sweep(each, float(np.mean(sizes)), driver),
            _losses(each),
        ),
    )


def _paragraph(*sentences: str) -> str:
    return textwrap.fill(" ".join(sentences), 120, break_on_hyphens=False, break_long_words=False)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _costs(durations: dict[str, list[float]]) -> str:
    every = [x for s in durations.values() for x in s]
    rows = [
        [name, str(len(s)), f"{np.mean(s):.1f}", f"{max(s):.1f}", f"{sum(s) / 60:.1f}"]
        for name, s in [*((f"`{n}`", durations[n]) for n in sorted(durations)), ("all", every)]
    ]
    head = "### Measured: what a cell took\n\nEach on one CPU core, from the committed records.\n\n"
    return head + _table(["experiment", "cells", "mean s", "longest s", "sum min"], rows)


def _driven(sweeps: dict[str, Sweep]) -> str:
    rows = [[name, f"{s['cells']:,}", str(s["workers"]), f"{s['early_ms']:.1f}", f"{s['late_ms']:.1f}"]
            for name, s in sweeps.items()]  # fmt: skip
    text = _paragraph(
        "Cells of about nothing (the constructed stack), from the list of jobs to the last record on disk:",
        "milliseconds from one record to the next, in the second tenth (in the first, workers start) and in the last.",
    )
    head = "### Measured: thousands of cells through the driver\n\n"
    return f"{head}{text}\n\n{_table(['workers', 'cells', 'at once', 'early, ms', 'late, ms'], rows)}"


def _order(each: Sequence[float]) -> str:
    rows, to_bound, to_first = [], [], []
    for workers in (2, 8, 32, 128):
        low = lower_bound(each, workers)
        done = simulate(each, workers)
        # the grid comes in no order of length; ten random orders stand for it
        rng = stream(SEED, "arrival", workers)
        arrival = [simulate(list(rng.permutation(each)), workers, "arrival").makespan for _ in range(10)]
        to_bound.append(done.makespan / low)
        to_first.append(float(np.mean(arrival)) / done.makespan)
        shares = (to_bound[-1], np.mean(arrival) / low, max(arrival) / low, graham(workers))
        rows.append([str(workers), f"{low / 60:.2f}", *(f"{share:.3f}" for share in shares),
                     f"{100 * done.utilisation:.0f} %"])  # fmt: skip
    text = _paragraph(
        "The recorded durations on k workers without loss, as multiples of the bound max(longest, sum / k),",
        "before which no order ends.",
        f"Longest first ends at most {100 * (max(to_bound) - 1):.1f} % after it. Ten random orders of",
        f"arrival take on average {min(to_first):.2f} to {max(to_first):.2f} times as long as longest first.",
    )
    header = ["k", "bound, min", "longest first", "arrival, mean", "arrival, worst", "any list, at most (Graham)",
              "busy, longest first"]  # fmt: skip
    return f"### Simulated: the order of the cells\n\n{text}\n\n" + _table(header, rows)


def cost() -> dict[str, float]:
    """Arithmetic for one cell over the base: parameters, FLOP, seconds, bytes."""
    base = LAYERS * sum(out * inn for out, inn in MODULES) + 2 * VOCABULARY * WIDTH
    adapter = LAYERS * sum(parameter_count(out, inn, RANK) for out, inn in MODULES)
    trained, asked = STEPS * SEQUENCES * TOKENS, QUESTIONS * QUESTION_TOKENS
    # a frozen base needs no gradients of its weights: 2 N forward and 2 N backward per token, and 2 N to ask
    flop = 4.0 * base * trained + 6.0 * adapter * trained + 2.0 * (base + adapter) * asked
    return {
        "base": base, "adapter": adapter, "trained": trained, "asked": asked, "flop": flop,
        "seconds": flop / (PEAK * SHARE), "base_bytes": 2.0 * base, "adapter_bytes": 2.0 * adapter,
        "load": 2.0 * base / DISK, "step_seconds": 4.0 * base * SEQUENCES * TOKENS / (PEAK * SHARE),
        "step_read": 2 * 2.0 * base / GPU_BANDWIDTH,
    }  # fmt: skip


def _sweep(each: Sequence[float], record_bytes: float, driver: Work) -> str:
    c = cost()
    hours = CELLS * c["seconds"] / 3600
    apart = int(GPU_MEMORY // (1.2 * c["base_bytes"]))
    writing = CELLS * driver["write_ms"] / 1e3
    rows = [
        ["parameters of the base", f"{c['base'] / 1e9:.2f} billion", "arithmetic, from the shapes"],
        [f"parameters of an adapter of rank {RANK}", f"{c['adapter'] / 1e6:.1f} million", "arithmetic"],
        ["tokens of a cell, trained and asked", f"{c['trained']:,} and {c['asked']:,}", "assumed"],
        ["work of a cell", f"{c['flop'] / 1e15:.1f} PFLOP", "arithmetic: 4 N per token trained, 2 N asked"],
        ["time of a cell", f"{c['seconds']:.0f} s", f"assumed: {100 * SHARE:.0f} % of {PEAK / 1e12:.0f} TFLOP/s"],
        ["GPU hours", f"{hours:,.0f}", "arithmetic, base kept in memory"],
        ["GPU hours, base loaded for each cell", f"{CELLS * (c['seconds'] + c['load']) / 3600:,.0f}",
         f"assumed: {DISK / 1e9:.0f} GB/s, {c['load']:.1f} s each"],
        ["records", f"{CELLS * record_bytes / 1e9:.2f} GB in {CELLS:,} files",
         f"measured: {record_bytes / 1e3:.1f} kB each"],
        ["adapters, if they are kept, bf16", f"{CELLS * c['adapter_bytes'] / 1e12:.1f} TB",
         f"arithmetic: {c['adapter_bytes'] / 1e6:.0f} MB each"],
        ["driver: writing all records", f"{writing / 60:.1f} min", f"measured: {driver['write_ms']:.2f} ms each"],
        ["driver: reading all records at a restart", f"{CELLS * driver['read_ms'] / 6e4:.1f} min",
         f"measured: {driver['read_ms']:.2f} ms each"],
        ["GPUs that one driver keeps busy", f"{1e3 * c['seconds'] / driver['write_ms']:,.0f}",
         "arithmetic: time of a cell by time to write"],
        ["bases side by side on a GPU of 141 GB", str(apart), "arithmetic: bf16, and a fifth for everything else"],
    ]  # fmt: skip
    text = _paragraph(
        f"One adapter of rank {RANK} on all linear modules per cell: {STEPS} steps of {SEQUENCES} sequences of",
        f"{TOKENS} tokens, then {QUESTIONS} questions of {QUESTION_TOKENS} tokens. The driver was timed on",
        f"{driver['device'].removeprefix('CPU: ')}, median of {driver['records']} records.",
    )
    step, busy = SEQUENCES * TOKENS, c["step_seconds"] / c["step_read"]
    after = _paragraph(
        f"The bottleneck is the matrix products of the base: {hours:,.0f} GPU hours, {hours / 64:.0f} h on 64 GPUs.",
        f"A step of {step:,} tokens computes for {1e3 * c['step_seconds']:.0f} ms and reads the weights twice in",
        f"{1e3 * c['step_read']:.1f} ms, so memory bandwidth counts only for steps below {step / busy:.0f} tokens;",
        "there, several adapters in one batch share each read. Memory decides how a GPU is filled: of the",
        f"{PER_GPU} processes that share a GPU in the profile gpu, {apart} would find room with a base of their own,",
        "so at this size one process per GPU trains several adapters over one base.",
        "Next comes storage: kept adapters need",
        f"{c['adapter_bytes'] / record_bytes:,.0f} times the room of the records; a cell therefore measures what is",
        "wanted, and an adapter that is missed is trained again from its seed.",
        "The driver comes last: its writing takes as long as",
        f"the cells only from {1e3 * c['seconds'] / driver['write_ms']:,.0f} GPUs on.",
    )
    head = f"### Arithmetic: {CELLS:,} cells over a base of the 7B class\n\n{text}\n\n"
    return f"{head}{_table(['quantity', 'value', 'where from'], rows)}\n\n{after}"


def _losses(each: Sequence[float]) -> str:
    c = cost()
    rng = stream(SEED, "sweep")
    # cells differ as the recorded ones do, about the mean computed above
    cells = rng.choice(np.asarray(each) / np.mean(each) * c["seconds"], CELLS)
    total = float(cells.sum())
    rows = []
    for workers in (64, 512):
        for hours in (float("inf"), 24.0, 1.0):
            done: Schedule = simulate(list(cells), workers, between_losses=3600 * hours, restart=RESTART, attempts=3,
                                      rng=stream(SEED, "losses", workers, str(hours)))  # fmt: skip
            rows.append([str(workers), "never" if hours == float("inf") else f"every {hours:g} h",
                         f"{done.makespan / 3600:.2f}", f"{total / workers / 3600:.2f}", f"{done.losses:,}",
                         f"{100 * done.wasted / (done.useful + done.wasted):.2f} %", str(done.failed),
                         f"{100 * done.utilisation:.1f} %"])  # fmt: skip
    text = _paragraph(
        f"{CELLS:,} cells whose times spread about that mean as the recorded ones do (the longest",
        f"{max(cells) / np.mean(cells):.1f} times the mean), longest first. A lost cell goes to the end, a worker is",
        f"replaced after {RESTART:.0f} s, three lost attempts give a cell up.",
    )
    header = ["GPUs", "each dies", "hours", "sum / GPUs, h", "attempts lost", "time wasted", "given up", "busy"]
    return f"### Simulated: the sweep, with workers that die\n\n{text}\n\n" + _table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="bring scaling.md up to date")
    parser.add_argument("--measure", action="store_true", help="time the driver anew (scaling.json)")
    options = parser.parse_args()
    if options.measure:
        write_json(MEASURED, measure())
    if options.write:
        embed(DOCUMENT, "scaling", section())
    else:
        print(section())


if __name__ == "__main__":
    main()
