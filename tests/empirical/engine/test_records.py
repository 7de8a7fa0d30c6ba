"""The committed results: whole, of the current grid and protocol, and in agreement with what must hold."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from empirical.engine import catalogue as engine
from empirical.engine import log
from empirical.engine.judge import informative
from empirical.engine.pool import Outcome, work
from empirical.engine.records import (
    PREDICTIONS,
    RESULTS,
    Record,
    canonical,
    cell_hash,
    device_name,
    files,
    read,
    short_hash,
    write_json,
)
from empirical.ladder import experiments_of
from tests.empirical.experiments.live import changed
from tests.empirical.judged import records, rows
from theory.claims import load

#: experiments and profiles that have records; all of their cells; and those that were declared and have not run whole
PAIRS = sorted((f.parent.name, f.name) for f in RESULTS.glob("*/[!s]*") if files(f))  # smoke runs are no results
WHOLE = [(n, p) for n, p in PAIRS if len(files(RESULTS / n / p)) == len(engine.cells(n, p))]
#: seconds of the longest cell that is run again
LONGEST = 100
WAITING = sorted({(f.parent.name, f.name) for f in RESULTS.glob("*/[!s]*") if (f / PREDICTIONS).exists()} - set(WHOLE))


@cache
def spoken_of() -> list[tuple[str, str, str]]:
    """(experiment, prediction, claim) of all that was judged, or was declared and waits for its run."""
    found = [(r["experiment"], r["id"], r["claim"]) for name, p in WHOLE for r in rows(name, p)]
    for name, profile in WAITING:
        declare = engine.load(name).declare
        assert declare is not None
        found += [(name, p.id, p.claim) for p in declare(engine.settings(name, profile))]
    return found


@pytest.mark.parametrize(
    ("cpu", "gpu", "counts"), [(0, 0, "cpu"), (0, 1, "gpu"), (2, 2, "cpu"), (1, 2, "gpu"), (2, 1, "cpu")]
)
def test_cpu_counts_unless_more_of_gpu_has_run(tmp_path: Path, cpu: int, gpu: int, counts: str) -> None:
    for profile, ran in (("cpu", cpu), ("gpu", gpu)):
        store, grid = engine.store_for("gates", profile, tmp_path), engine.cells("gates", profile)
        store.folder.mkdir(parents=True)
        for cell in grid[: len(grid) * ran // 2]:
            store.path(cell).touch()
    assert engine.judged_profile("gates", "auto", tmp_path) == counts
    assert engine.judged_profile("gates", "gpu", tmp_path) == "gpu"


def test_every_experiment_that_a_claim_names_has_results_or_waits_for_its_run() -> None:
    named = {e for claim in load() for e in experiments_of(claim)}
    assert {name for name, _ in (*WHOLE, *WAITING)} == named
    assert named <= set(engine.names())
    assert set(PAIRS) <= {*WHOLE, *WAITING}  # what is in part was declared


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_results_are_of_the_current_grid(name: str, profile: str) -> None:
    store = engine.store_for(name, profile)
    assert store.damaged() == []
    wanted = {store.path(cell) for cell in engine.cells(name, profile)}
    there = set(files(store.folder))
    assert there <= wanted
    protocols = {read(path)["protocol"] for path in there}
    assert protocols == {engine.load(name).protocol}


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_results_come_from_one_kind_of_device_and_from_committed_code(name: str, profile: str) -> None:
    found = records(name, profile)
    assert len({r["device"] for r in found}) == 1
    assert not any(r["dirty"] for r in found)
    assert all(r["commit"] for r in found)


@pytest.mark.parametrize(("name", "profile"), WHOLE)
def test_what_must_hold_holds_and_violations_are_explained(name: str, profile: str) -> None:
    judged = rows(name, profile)
    assert judged
    assert [r["id"] for r in judged if r["kind"] == "exact" and r["verdict"] != "holds"] == []
    assert [r["id"] for r in judged if r["kind"] == "ceiling" and r["verdict"] == "violated"] == []
    # that all are decided is no condition of being shown, or it would say nothing that they are
    assert [r["id"] for r in judged if r["kind"] == "control" and r["verdict"] == "violated"] == []
    assert [r["id"] for r in judged if r["verdict"] == "violated" and not r["explained"]] == []
    undecided = [r for r in informative(judged) if r["verdict"] == "undecided"]
    assert [r["id"] for r in undecided if not r["explained"]] == [], "why it is undecided stands in explained.toml"


def test_every_set_of_results_is_in_the_log(tmp_path: Path) -> None:
    assert log.missing() == [], "python -m empirical log"
    for name in ("one_layer", "gates"):
        shutil.copytree(RESULTS / name / "cpu", tmp_path / name / "cpu")
    shutil.copy(RESULTS / log.NAME, tmp_path)
    found = next(raw for raw in map(read, files(tmp_path / "one_layer" / "cpu")) if "cosine" in raw["metrics"])
    found["metrics"]["cosine"] = 0.5
    found["digest"] = short_hash(canonical(found["metrics"]))
    name = cell_hash(found["experiment"], found["protocol"], found["cell"])
    write_json(tmp_path / "one_layer" / "cpu" / f"{name}.json", found)
    before = (tmp_path / log.NAME).read_text(encoding="utf-8")
    (added,) = log.append(tmp_path)
    assert added.startswith(f"| {log.identity('one_layer', 'cpu', tmp_path)} | one_layer, cpu | ")
    after = (tmp_path / log.NAME).read_text(encoding="utf-8")
    assert set(before.splitlines()) < set(after.splitlines())
    assert log.append(tmp_path) == []


def test_explanations_belong_to_predictions() -> None:
    known = {(name, prediction) for name, prediction, _ in spoken_of()}
    known |= {(r["experiment"], r["family"]) for name, p in WHOLE for r in rows(name, p)}
    assert {
        (name, key) for name in engine.names() for p in engine.JUDGED for key in engine.explanations(name, p)
    } <= known


def test_experiments_name_the_claims_that_they_speak_of() -> None:
    spoken = {(claim, name) for name, _, claim in spoken_of()}
    assert {(claim, e) for claim in load() for e in experiments_of(claim)} == spoken


def leaves(metrics: Any) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Every number of a record by its place: (value, size of one standard deviation of counting it)."""
    found: dict[tuple[Any, ...], tuple[float, float]] = {}

    def note(path: tuple[Any, ...], value: Any) -> None:
        if isinstance(value, list):
            k, n = value
            if n:
                found[path] = (k / n, (max(k / n * (1 - k / n), 0.0) / n) ** 0.5)
        else:
            found[path] = (float(value), 0.0)

    changed(metrics, note)
    return found


def rooms(committed: Any, worlds: list[Any], same: bool) -> dict[tuple[Any, ...], tuple[float, float]]:
    """From where to where a number may lie when its cell is run again.

    On the same processor: three standard deviations of its count and a tenth of its spread over the worlds, for
    decisions at a tie. Another one rounds otherwise, which training makes as much of as of another start: what comes
    back there lies so far, or a hundredth, from what some world has.
    """
    found, others = {}, [leaves(w) for w in worlds]
    for path, (value, deviation) in leaves(committed).items():
        there = [o[path] for o in others if path in o]
        low, high = min(v for v, _ in there), max(v for v, _ in there)
        tie = 0.1 * (high - low)
        room = tie + 3 * deviation + 1e-6 * abs(value)
        wide = tie + 3 * max(d for _, d in there) + 0.01 * max(abs(low), abs(high))
        found[path] = (value - room, value + room) if same else (low - wide, high + wide)
    return found


def moved(wanted: dict[tuple[Any, ...], tuple[float, float]], again: Any) -> set[tuple[Any, ...]]:
    """Places whose number did not come back."""
    found = leaves(again)
    off = {path for path in wanted.keys() & found.keys() if not wanted[path][0] <= found[path][0] <= wanted[path][1]}
    return off | (wanted.keys() ^ found.keys())


def far_off(metrics: Any) -> Any:
    """The metrics with every count at its other end, and every other number beyond any spread."""

    def far(x: Any) -> Any:
        return [0 if 2 * x[0] > x[1] else x[1], x[1]] if isinstance(x, list) else 3 * x + 1e3

    return changed(metrics, lambda path, x: far(x))


def smallest(name: str) -> list[Record]:
    """The committed worlds of the cell that took the least time; nothing where it took too long."""
    found = records(name, "cpu")
    quickest = min(found, key=lambda r: r.seconds)
    kind = quickest.cell.but(seed=0)
    # the first world of several experiments has one base
    alike = sorted((r for r in found if r.cell.but(seed=0) == kind), key=lambda r: r.cell.seed)
    return alike if quickest.seconds <= LONGEST else []


@pytest.fixture(scope="module")
def again(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """The cells that are asked for, run again: as many at once as there are processors."""
    items: list[Any] = request.session.items
    here = [item for item in items if item.path == request.path and "again" in item.fixturenames]
    asked = [item.callspec.params["name"] for item in here]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:  # what the same code trained before is loaded
        yield {n: pool.submit(work, n, found[0].cell.identity(), "cpu") for n in asked if (found := smallest(n))}


@pytest.mark.parametrize("name", [name for name, profile in WHOLE if profile == "cpu"])
def test_a_small_cell_comes_back_when_it_is_run_again(name: str, again: dict[str, Future[Outcome]]) -> None:
    alike = smallest(name)
    if not alike:
        pytest.skip(f"{name}: its smallest cell takes longer than {LONGEST} s")
    assert len(alike) >= 2
    record, outcome = alike[0], again[name].result()
    assert outcome.error is None
    same = record["device"] == device_name("cpu")
    wanted = rooms(record["metrics"], [r.raw["metrics"] for r in alike], same)
    assert wanted
    assert moved(wanted, outcome.metrics) == set()
    # and a number that is off by more than the worlds differ would be noticed, wherever it stands; beside worlds that
    # fill the whole range of a count, nearly everywhere
    missed = wanted.keys() - moved(wanted, far_off(outcome.metrics))
    assert len(missed) <= (0 if same else 0.1 * len(wanted)), missed
