"""The driver: config -> cells -> processes -> one JSON per cell; resumable, never the same cell twice.

A cell runs in a worker process; only the driver writes. A killed driver or worker costs the cells that were running
and nothing else: the next run finds the finished ones by their hash and goes on.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import multiprocessing
import os
import pkgutil
import sys
import time
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import empirical.experiments
from empirical.judge import Prediction, as_row, judge
from empirical.record import RESULTS, ROOT, RecordError, Store, canonical, device_name, write_json
from theory.numerics import one_of, require

CONFIGS = Path(__file__).resolve().parent / "configs"
PROFILES = ("smoke", "cpu", "gpu")
#: a worker that dies (out of memory, killed) takes the cells with it; they are tried this often in one run
ATTEMPTS = 3


class Job(NamedTuple):
    """One cell that has to run."""

    experiment: str
    store: Store
    cell: dict[str, Any]


def experiments() -> list[str]:
    """Names of all experiments, in the order in which they run."""
    names = [m.name for m in pkgutil.iter_modules(empirical.experiments.__path__) if not m.name.startswith("_")]
    return sorted(names, key=lambda name: (getattr(_module(name), "ORDER", 99), name))


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"empirical.experiments.{name}")


def module(name: str) -> ModuleType:
    """The experiment's module. Raises ValueError for an unknown name."""
    one_of(name, "experiment", experiments())
    return _module(name)


def config(name: str, profile: str, folder: Path = CONFIGS) -> dict[str, Any]:
    """The experiment's settings under `profile`: its table over [common].

    Raises:
        ValueError: unreadable file, no table for the profile, or a key that [common] does not have.
    """
    one_of(profile, "profile", PROFILES)
    path = folder / f"{name}.toml"
    if not path.exists():
        path = Path(str(module(name).__file__)).with_suffix(".toml")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path.name}: expected readable TOML, got: {error}") from error
    require("common" in tables and profile in tables, path.name, f"the tables common and {profile}", sorted(tables))
    unknown = sorted(set(tables[profile]) - set(tables["common"]))
    require(not unknown, f"{path.name} [{profile}]", "only keys that [common] has", ", ".join(unknown))
    return {**tables["common"], **tables[profile]}


def pick_profile(profile: str) -> str:
    """Resolve "auto"; refuse "gpu" where there is none."""
    one_of(profile, "profile", (*PROFILES, "auto"))
    if profile in ("smoke", "cpu"):
        return profile
    import torch

    cuda = bool(torch.cuda.is_available())
    if profile == "auto":
        return "gpu" if cuda else "cpu"
    require(cuda, "profile", "a CUDA device for gpu (PROFILE=cpu runs anywhere)", "none")
    return profile


def user_method(reference: str) -> dict[str, str]:
    """What a cell remembers of METHOD=file.py:function: the reference and the hash of the file's text.

    Raises:
        ValueError: the file or the function is not there.
    """
    path, _, function = reference.partition(":")
    require(bool(path) and bool(function), "method", "file.py:function", repr(reference))
    file = Path(path)
    require(file.is_file(), "method", "a Python file", repr(path))
    from empirical.reuse import own_merge

    own_merge(reference)
    return {"reference": str(file.resolve()) + ":" + function,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}  # fmt: skip


def store_for(name: str, profile: str, results: Path = RESULTS) -> Store:
    """Where the records of an experiment lie."""
    return Store(results, name, module(name).PROTOCOL, profile)


def cells(name: str, profile: str, method: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The grid of an experiment under a profile; with a user's method only where the experiment can take one."""
    found: list[dict[str, Any]] = module(name).cells(config(name, profile))
    if method is not None:
        found = [{**c, "user_method": dict(method)} for c in found if getattr(module(name), "takes_method", _no)(c)]
    hashes = [canonical(c) for c in found]
    require(len(set(hashes)) == len(hashes), f"{name}.cells", "different cells", "the same cell twice")
    return found


def _no(cell: Mapping[str, Any]) -> bool:
    return False


def _work(experiment: str, cell: dict[str, Any], device: str) -> tuple[dict[str, Any] | None, str | None, float]:
    """In a worker process: (metrics, None, seconds) or (None, error, seconds)."""
    started = time.perf_counter()
    try:
        metrics = _module(experiment).run(cell, device)
    except Exception as error:  # whatever a cell dies of is recorded with its config, and the run goes on
        trace = traceback.format_exc(limit=-4)
        return None, f"{type(error).__name__}: {error}\n{trace}", time.perf_counter() - started
    return metrics, None, time.perf_counter() - started


def pending(
    names: Sequence[str], profile: str, results: Path, method: Mapping[str, str] | None = None
) -> tuple[list[Job], list[dict[str, Any]]]:
    """(cells that have to run, records that are there). A damaged record raises RecordError before anything runs."""
    jobs, done = [], []
    for name in names:
        store = store_for(name, profile, results)
        for cell in cells(name, profile, method):
            record = store.get(cell)
            if record is None:
                jobs.append(Job(name, store, cell))
            else:
                done.append(record)
    return jobs, done


def estimate(jobs: Sequence[Job], done: Sequence[Mapping[str, Any]], workers: int) -> tuple[float | None, list[str]]:
    """Seconds that `jobs` will take here, from records of the same experiment, else from the config's own guess.

    Returns the seconds (None if nothing is known about some experiment) and one line per experiment.
    """
    lines: list[str] = []
    total: float | None = 0.0
    for name in dict.fromkeys(j.experiment for j in jobs):
        mine = [j for j in jobs if j.experiment == name]
        measured = [float(r["seconds"]) for r in done if r["experiment"] == name]
        guess = getattr(_module(name), "seconds", None)
        if measured:
            each, source = sum(measured) / len(measured), "measured on the finished cells"
        elif guess is not None:
            each, source = sum(guess(j.cell) for j in mine) / len(mine), "guessed from the cells' sizes"
        else:
            each, source = math_nan(), "unknown before the first cell"
        known = each == each
        total = total + each * len(mine) / workers if known and total is not None else None
        minutes = f"about {each * len(mine) / workers / 60:.1f} min" if known else "time unknown"
        lines.append(f"{name}: {len(mine)} cells, {minutes} on {workers} processes ({source})")
    return total, lines


def math_nan() -> float:
    """Not a number, for 'unknown'."""
    return float("nan")


def run(
    names: Sequence[str] | None = None,
    profile: str = "auto",
    method: str | None = None,
    workers: int | None = None,
    results: Path | None = None,
    budget_minutes: float | None = None,
    dry_run: bool = False,
) -> int:
    """Run what is missing, judge what is there. Exit status: 0 all cells finished, 1 a cell failed.

    Raises:
        ValueError: unknown experiment, profile or method, broken config, damaged record, second driver; nothing was
            run then and nothing is lost.
    """
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    profile = pick_profile(profile)
    chosen = list(names) if names else experiments()
    for name in chosen:
        module(name)
    described = user_method(method) if method else None
    folder = results or (ROOT / "build" / "results-method" if method else RESULTS)
    device = "cuda" if profile == "gpu" else "cpu"
    count = workers or (12 if device == "cuda" else max(os.cpu_count() or 1, 1))
    jobs, done = pending(chosen, profile, folder, described)
    _, lines = estimate(jobs, done, count)
    memory = f"about {count * 0.8:.1f} GiB of memory"
    console.print(
        f"profile {profile} on {device_name(device)}: {len(done)} cells finished, {len(jobs)} to run, {memory}"
    )
    for line in lines:
        console.print(f"  {line}")
    if dry_run:
        for job in jobs:
            console.print(f"  {job.store.path(job.cell).stem}  {job.experiment}  {canonical(job.cell)}", soft_wrap=True)
        return 0
    failures, left = _run_jobs(jobs, device, count, budget_minutes, console) if jobs else ([], 0)
    for failure in failures:
        console.print(f"failed: {failure}", markup=False, soft_wrap=True)
    if left:
        console.print(f"{left} cells left when the budget of {budget_minutes:g} min ended; run the same command again")
    if not failures and not left:
        rows = judge_all(chosen, profile, folder, described)
        print_rows(console, rows)
        target = ROOT / "build" / ("experiments-method.json" if method else "experiments.json")
        write_experiments(target, profile, rows)
        console.print(f"written: {target.relative_to(ROOT)}")
        for line in _figures(chosen, profile, folder, described):
            console.print(line, markup=False, soft_wrap=True)
    return 1 if failures else 0


def _figures(names: Sequence[str], profile: str, folder: Path, method: Mapping[str, str] | None) -> Iterator[str]:
    """Draw the figures where matplotlib is there; one line for each, or one that says that it is not."""
    if importlib.util.find_spec("matplotlib") is None:
        yield "no figures: matplotlib is not installed"
        return
    from empirical.figures import draw

    yield from draw(profile, folder, ROOT / "build" / ("figures-method" if method else "figures"), names, method)


def _run_jobs(
    jobs: Sequence[Job], device: str, workers: int, budget_minutes: float | None, console: Any
) -> tuple[list[str], int]:
    """Run the cells; the driver alone writes. Returns (failures, number of cells not started within the budget)."""
    from contextlib import ExitStack

    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    # one thread per process: the processes are the parallelism
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TOKENIZERS_PARALLELISM"):
        os.environ[variable] = "false" if variable == "TOKENIZERS_PARALLELISM" else "1"
    started = time.perf_counter()
    failures: list[str] = []
    waiting = list(jobs)
    attempts: dict[int, int] = {}
    longest = 0.0
    name = device_name(device)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    with ExitStack() as stack:
        for store in {j.store.folder: j.store for j in jobs}.values():
            stack.enter_context(store.lock())
        bar = stack.enter_context(Progress(*columns, console=console))
        task = bar.add_task("cells", total=len(jobs))
        while waiting:
            pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
            running: dict[Future[Any], Job] = {}
            try:
                while waiting or running:
                    spent = (time.perf_counter() - started) / 60
                    fits = budget_minutes is None or spent + longest / 60 <= budget_minutes
                    while fits and waiting and len(running) < workers:
                        job = waiting[0]  # taken off the list only once the pool, which may be broken, has it
                        running[pool.submit(_work, job.experiment, job.cell, device)] = job
                        waiting.pop(0)
                    if not running:
                        return failures, len(waiting)
                    finished, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in finished:
                        job = running.pop(future)
                        try:
                            metrics, error, seconds = future.result()
                        except BrokenProcessPool:
                            running[future] = job
                            raise
                        longest = max(longest, seconds)
                        if error is None:
                            try:
                                job.store.put(job.cell, metrics, seconds, name)
                            except RecordError as refused:
                                if "finite" not in str(refused):
                                    raise
                                error = str(refused)
                        if error is not None:
                            job.store.put_error(job.cell, error)
                            failures.append(f"{job.experiment} {canonical(job.cell)}: {error.splitlines()[0]}")
                        bar.advance(task)
            except BrokenProcessPool:
                # a worker was killed; which cell it ran is not known, so every running one is tried again
                for job in running.values():
                    key = id(job.cell)
                    attempts[key] = attempts.get(key, 0) + 1
                    if attempts[key] < ATTEMPTS:
                        waiting.append(job)
                    else:
                        job.store.put_error(job.cell, "the worker process died")
                        failures.append(f"{job.experiment} {canonical(job.cell)}: the worker process died")
                        bar.advance(task)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    return failures, 0


def records(
    name: str, profile: str, results: Path = RESULTS, method: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The records of the current grid, in its order. Cells that have not run are left out."""
    store = store_for(name, profile, results)
    found = (store.get(cell) for cell in cells(name, profile, method))
    return [r for r in found if r is not None]


def judge_all(
    names: Sequence[str], profile: str, results: Path = RESULTS, method: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Judge every experiment that has a record: rows as in ``build/experiments.json``."""
    from theory.claims import load

    claims = load()
    rows = []
    for name in names:
        found = records(name, profile, results, method)
        if not found:
            continue
        predictions: list[Prediction] = module(name).predictions(config(name, profile), found)
        for prediction, verdict in zip(predictions, judge(predictions), strict=True):
            claim = claims.get(prediction.claim)
            require(claim is not None, f"{name}: claim", "an id of the registry", prediction.claim)
            assert claim is not None
            row = as_row(prediction, verdict, name, claim.explained.get(prediction.id))
            row["devices"] = sorted({r["device"] for r in found})
            rows.append(row)
    return rows


def write_experiments(path: Path, profile: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the judged predictions as one document."""
    from empirical.record import SCHEMA, commit

    write_json(path, {"schema": SCHEMA, "profile": profile, "commit": commit()[0], "predictions": list(rows)})


def print_rows(console: Any, rows: Sequence[Mapping[str, Any]]) -> None:
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
