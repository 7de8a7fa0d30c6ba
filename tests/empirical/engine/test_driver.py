"""The driver and its records: resumable, whole or not at all, and one clear line for whatever is broken."""

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue
from rich.console import Console

from empirical.engine import archive, estimate, pool, run
from empirical.engine.catalogue import Theorems
from empirical.engine.driver import Driver
from empirical.engine.estimate import Job, Times, available_memory, describe, processes_that_fit
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.pool import Outcome, peak_memory
from empirical.engine.records import (
    FIELDS,
    RESULTS,
    RecordError,
    Store,
    canonical,
    cell_hash,
    files,
    finite,
    read,
    short_hash,
    write_json,
)
from empirical.engine.sealed import seal, sealing
from empirical.engine.settings import Cell, UserMethod
from empirical.engine.show import print_cells
from theory.provenance import ROOT


def test_a_finished_cell_is_never_run_twice(toy: Any) -> None:
    first = toy.here()
    assert first.returncode == 0, first.stderr
    assert "holds" in first.stdout
    kept = toy.files()
    assert len(kept) == 3
    assert toy.marks() == ["1-0", "2-0", "3-0"]
    assert toy.here().returncode == 0
    assert toy.marks() == ["1-0", "2-0", "3-0"]
    assert toy.files() == kept
    record = json.loads(next(iter(kept.values())))
    assert set(record) == FIELDS
    assert record["device"].startswith("CPU")


@pytest.mark.parametrize(
    ("mode", "said"),
    [("fail", "two is refused"), ("object", "what JSON can hold"),
     ("nan", "metrics.square: expected finite numbers, got nan")],
)  # fmt: skip
def test_a_failed_cell_is_named_recorded_and_tried_again(toy: Any, mode: str, said: str) -> None:
    toy.settle(mode)
    done = toy.here()
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("failed:")]
    assert '"x":2' in line
    assert said in line
    assert len(toy.files()) == 2
    assert not (toy.results / "experiments.json").exists()
    (error,) = (toy.results / "toy" / "cpu").glob("*.error.txt")
    assert '"x":2' in error.read_text(encoding="utf-8")
    assert toy.here().returncode == 1
    assert toy.marks() == ["1-0", "2-0", "2-1", "3-0"]


def test_dry_run_shows_the_cells_and_runs_nothing(toy: Any) -> None:
    done = toy.here("--dry-run")
    assert done.returncode == 0
    assert "3 to run" in done.stdout
    assert toy.marks() == []
    assert not toy.results.exists()


def test_a_damaged_record_stops_the_run_before_it_starts(toy: Any) -> None:
    assert toy.here().returncode == 0
    victim = files(toy.results / "toy" / "cpu")[0]
    whole = victim.read_text(encoding="utf-8")
    for text in (whole[:50], "{}", whole.replace('"x": ', '"x": 9')):
        victim.write_text(text, encoding="utf-8")
        done = toy.here()
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert victim.name in done.stderr
    assert toy.marks() == ["1-0", "2-0", "3-0"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--experiment", "nope"), "experiment: expected one of"),
        (("--profile", "tpu"), "profile: expected one of"),
        (("--method", "nothing.py:f"), "method"),
        (("--method", "nothing"), "method"),
        (("--workers", "0"), "--workers"),
        (("--budget", "0"), "--budget"),
        (("--engine", "threads"), "engine: expected one of local, ray"),
        (("--address", "auto"), "--address: expected --engine ray"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_bad_input_gets_one_line_and_exit_two(toy: Any, arguments: tuple[str, ...], named: str) -> None:
    done = toy.here(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr
    assert toy.marks() == []


def test_gpu_profile_without_a_gpu_is_refused(toy: Any) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = toy.here("--profile", "gpu")
    assert done.returncode == 2
    assert "CUDA" in done.stderr


def test_a_broken_config_key_is_named(toy: Any) -> None:
    toy.settle("plain", "typo = 1\n")
    done = toy.here()
    assert done.returncode == 2
    assert "typo" in done.stderr


def test_a_changed_config_leaves_the_old_records_and_says_so(toy: Any) -> None:
    assert toy.here().returncode == 0
    kept = toy.files()
    toy.settle("fail", xs=[1, 3])  # the mode is part of each cell
    done = toy.here()
    assert done.returncode == 0
    assert "3 records of another config or protocol are here; they are kept and not used" in done.stdout
    assert toy.files().items() > kept.items()
    assert len(toy.files()) == 5
    assert len(toy.table()[0]["worlds"]) == 2


def test_an_unwritable_results_folder_is_named(toy: Any) -> None:
    toy.results.write_text("a file in the way", encoding="utf-8")
    done = toy.here()
    assert done.returncode == 2
    assert "results" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_pack_and_import_carry_records_verified(toy: Any, tmp_path: Path) -> None:
    assert toy.here().returncode == 0
    bundle = tmp_path / "bundle.tar.gz"
    assert archive.pack(toy.results, "cpu", bundle) == 3
    elsewhere = tmp_path / "elsewhere"
    assert archive.unpack(bundle, elsewhere) == (3, 0)
    assert archive.unpack(bundle, elsewhere) == (0, 3)
    copied = {p.name: p.read_text(encoding="utf-8") for p in files(elsewhere / "toy" / "cpu")}
    assert copied == toy.files()
    victim = files(elsewhere / "toy" / "cpu")[0]
    changed = json.loads(victim.read_text(encoding="utf-8"))
    changed["metrics"]["square"] = -1
    changed["digest"] = short_hash(canonical(changed["metrics"]))
    write_json(victim, changed)
    with pytest.raises(RecordError, match="other metrics"):
        archive.unpack(bundle, elsewhere)
    bundle.write_bytes(bundle.read_bytes()[:200])
    with pytest.raises(RecordError, match="expected"):
        archive.unpack(bundle, tmp_path / "third")
    assert not (tmp_path / "third").exists()
    with pytest.raises(ValueError, match="none"):
        archive.pack(toy.results, "gpu", bundle)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(RecordError, match="expected to write it"):
        archive.pack(toy.results, "cpu", tmp_path / "file" / "bundle.tar.gz")


def test_an_archive_that_pack_did_not_write_is_named_with_its_member_and_leaves_nothing(
    toy: Any, tmp_path: Path
) -> None:
    toy.here()
    archive.pack(toy.results, "cpu", tmp_path / "good")
    with tarfile.open(tmp_path / "good") as tar:
        good = {m.name: tar.extractfile(m).read() for m in tar.getmembers()[1:]}
    name = next(n for n in good if "predictions" not in n)
    alias, cut = name.replace("cpu/", "cpu/./"), b'{"a":' * 50_000
    edits: list[tuple[dict[str, bytes], Any]] = [
        *((good, wrong) for wrong in ([name], 5, None, {name: 5})), ({**good, name: cut}, None),
        ({**good, name: good[name].replace(b'"seconds"', b'"minutes"')}, None), ({**good, alias: good[name]}, None),
        ({**good, name.replace(".json", ".txt"): good[name]}, None), ({**good, "toy/other.json": b"{}"}, None),
    ]  # fmt: skip
    for i, (members, wrong) in enumerate(edits):
        hashes = {n: hashlib.sha256(data).hexdigest() for n, data in members.items()}
        manifest = json.dumps(wrong if members is good else hashes).encode()
        bundle = tmp_path / f"bundle{i}"
        with tarfile.open(bundle, "w:gz") as tar:
            for n, data in {archive.MANIFEST: manifest, **members}.items():
                member = tarfile.TarInfo(n)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        odd = (set(members) - set(good)) or ({name} if members is not good else {archive.MANIFEST})
        with pytest.raises(RecordError) as refusal:
            archive.unpack(bundle, tmp_path / "elsewhere")
        (line,) = str(refusal.value).splitlines()
        assert line.startswith(f"{bundle}: ")
        assert odd.pop() in line
        assert "delete it" not in line
        assert not (tmp_path / "elsewhere").exists()
    (tmp_path / "elsewhere" / name).mkdir(parents=True)  # in the way of the last that would be written
    with pytest.raises(RecordError, match="expected a folder to write to"):
        archive.unpack(tmp_path / "good", tmp_path / "elsewhere")
    assert not [p for p in (tmp_path / "elsewhere").rglob("*") if p.is_file()]


def test_a_cell_is_named_by_what_it_is() -> None:
    assert cell_hash("e", 1, {"a": 1, "b": 2}) == cell_hash("e", 1, {"b": 2, "a": 1})
    different = {cell_hash("e", 1, {"a": 1}), cell_hash("e", 2, {"a": 1}), cell_hash("f", 1, {"a": 1})}
    assert len(different) == 3
    assert canonical({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    write_json(target, {"x": 1})
    with pytest.raises(ValueError):
        write_json(target, {"x": float("nan")})
    with pytest.raises(TypeError):
        write_json(target, {"x": object()})
    assert json.loads(target.read_text(encoding="utf-8")) == {"x": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_finite_names_the_place() -> None:
    finite({"a": [1.0, {"b": 2}]})
    with pytest.raises(RecordError, match=r"metrics\.a\[1\]\.b"):
        finite({"a": [1.0, {"b": float("inf")}]})


def test_read_refuses_what_is_no_record(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="whole JSON"):
        read(tmp_path / "none.json")


# ---------------------------------------------------------------- where the outcomes go


def test_a_run_of_one_experiment_keeps_the_others_in_the_document(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(toy.folder / "toy", toy.folder / "other")
    assert toy.here("--experiment", "other").returncode == 0
    assert [row["experiment"] for row in toy.table()] == ["other", "toy"]
    done = toy.here()
    assert [row["experiment"] for row in toy.table()] == ["other", "toy"]
    assert "toy: rates" in done.stdout
    assert "other: rates" not in done.stdout


def test_a_smoke_run_does_not_overwrite_the_document_that_counts(tmp_path: Path) -> None:
    assert run.documents(RESULTS, "cpu") == (ROOT / "build/experiments.json", ROOT / "build/figures")
    assert run.documents(RESULTS, "smoke") == (ROOT / "build/experiments-smoke.json", ROOT / "build/figures-smoke")
    assert run.documents(tmp_path, "cpu")[0] == tmp_path / "experiments.json"
    assert run.documents(tmp_path, "gpu")[0] == tmp_path / "experiments-gpu.json"
    method = UserMethod(reference="mine.py:f", sha256="0")
    assert run.documents(ROOT / "build/results-method", "cpu", method)[0] == ROOT / "build/experiments-method.json"


# ---------------------------------------------------------------- what is expected, and in which order


class Part(Cell):
    part: str
    x: int = 0


def job(kind: str, guess: float | None, experiment: str = "toy") -> Job:
    return Job(experiment, Store(Path("nowhere"), experiment, 1, "cpu"), Part(seed=0, part=kind), kind, guess)


def test_a_kind_is_what_a_cell_says_in_words() -> None:
    def part(cell: Part, device: str) -> dict[str, int]:
        return {}

    def experiment(kind: Kind) -> Experiment:
        return Experiment("nothing", 1, 1, dict, lambda settings: [], [kind], lambda settings: [])

    store = Store(Path("nowhere"), "e", 1, "cpu")
    cells = [Part(seed=0, part=part, x=x) for part, x in (("memory", 8), ("memory", 9), ("answers", 8))]
    jobs = [estimate.job(experiment(Kind(part, lambda cell: 2.0 * cell.x)), "e", store, cell) for cell in cells]
    assert [j.guess for j in jobs] == [16.0, 18.0, 16.0]
    assert jobs[0].kind == jobs[1].kind != jobs[2].kind
    assert estimate.job(experiment(Kind(part)), "e", store, cells[0]).guess is None


def test_guesses_are_scaled_by_what_was_measured_kind_by_kind() -> None:
    times = Times()
    assert times.expected(job("a", 4.0)) == 4.0
    assert times.expected(job("a", None)) is None
    times.add(job("a", 2.0), 6.0)  # three times its guess
    times.add(job("a", 4.0), 12.0)
    times.add(job("b", 10.0), 2.0)  # a fifth
    assert times.expected(job("a", 5.0)) == pytest.approx(15.0)
    assert times.expected(job("b", 5.0)) == pytest.approx(1.0)
    # a kind that was not measured is scaled by its experiment: 20 s for guesses of 16 s
    assert times.expected(job("c", 8.0)) == pytest.approx(10.0)
    assert times.expected(job("c", 8.0, experiment="other")) == 8.0
    assert not times.measured(job("c", 8.0))
    times.add(job("d", None, experiment="plain"), 3.0)
    assert times.expected(job("d", None, experiment="plain")) == 3.0


def test_records_of_another_device_do_not_count_as_measured_here() -> None:
    records: Any = [
        (job("a", 1.0), {"device": "mine", "seconds": 2.0}),
        (job("a", 1.0), {"device": "yours", "seconds": 9.0}),
    ]
    assert estimate.here(records, "mine").expected(job("a", 1.0)) == 2.0
    assert estimate.here(records, "theirs").expected(job("a", 1.0)) == 1.0


def test_one_of_each_kind_that_is_not_measured_goes_first_then_the_longest() -> None:
    jobs = [job("a", 1.0), job("b", 5.0), job("a", 3.0), job("b", 9.0), job("c", 2.0)]
    times = Times()
    assert [j.guess for j in times.ordered(jobs)] == [9.0, 3.0, 2.0, 5.0, 1.0]
    times.add(job("b", 1.0), 1.0)
    assert [j.guess for j in times.ordered(jobs)] == [3.0, 2.0, 9.0, 5.0, 1.0]


def test_what_does_not_fit_into_a_budget_is_said() -> None:
    jobs = [job("a", 60.0)] * 5 + [job("b", 600.0)]
    lines = describe(jobs, Times(), 2, 2.0)
    assert lines[0] == "toy: 6 cells, about 10.0 min (a guess from their sizes, none measured here)"
    assert lines[-1] == "in 2 min about 4 cells fit, 2 do not, 1 of them longer than that each"
    assert "unknown" in describe([job("a", None)], Times(), 2, None)[0]


class Fake:
    """An engine without processes: one worker, a clock that moves by what each cell takes."""

    def __init__(self, takes: dict[int, float], memory: int = 0, dies: int = 0, workers: int = 1) -> None:
        self.takes, self.memory, self.dies, self.workers = takes, memory, dies, workers
        self.now, self.ran, self.queue = 0.0, [], []
        self.most = 0

    def slots(self, device: str) -> int:
        return self.workers

    def submit(
        self, ticket: int, experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None = None
    ) -> None:
        self.queue.append((ticket, cell["x"]))
        self.most = max(self.most, len(self.queue))

    def wait(self) -> list[tuple[int, Outcome | None]]:
        ticket, x = self.queue.pop(0)
        self.ran.append(x)
        self.now += self.takes[x]
        if self.dies:
            self.dies -= 1
            return [(ticket, None)]
        return [(ticket, Outcome({"square": x * x}, None, self.takes[x], "a device", {}, self.memory))]

    def close(self) -> None:
        pass


def driver(engine: Fake, budget: float | None = None, memory: float | None = None) -> tuple[Driver, io.StringIO]:
    text = io.StringIO()
    return Driver(engine, "cpu", Times(), budget, memory, Console(file=text, width=200), lambda: engine.now), text


def jobs(folder: Path, guesses: dict[int, float]) -> list[Job]:
    store = Store(folder, "toy", 1, "cpu")
    return [Job("toy", store, Part(seed=0, part="k", x=x), "k", guess) for x, guess in guesses.items()]


def test_a_budget_takes_what_still_ends_within_it(tmp_path: Path) -> None:
    # guessed too low by half; known after the first, so that of 60 s the next 40 s cell and not the 80 s one is taken
    engine = Fake({1: 80.0, 2: 80.0, 3: 40.0, 4: 20.0})
    drive, text = driver(engine, budget=140 / 60)
    assert drive.run(jobs(tmp_path, {1: 40.0, 2: 40.0, 3: 20.0, 4: 10.0})) == ([], 1)
    assert engine.ran == [1, 3, 4]
    assert "after the first 1: 3 cells wait, 0 run" in text.getvalue()
    assert "in 1 min about 2 cells fit, 1 do not, 1 of them longer than that each" in text.getvalue()


def test_a_guess_alone_keeps_no_cell_from_being_tried(tmp_path: Path) -> None:
    engine = Fake({1: 1.0, 2: 1.0, 3: 1.0})
    drive, _ = driver(engine, budget=1.0)
    assert drive.run(jobs(tmp_path, {1: 900.0, 2: 800.0, 3: 700.0})) == ([], 0)
    assert engine.ran == [3, 1, 2]
    # measured, it does
    engine = Fake({1: 100.0})
    drive, _ = driver(engine, budget=1.0)
    (one,) = jobs(tmp_path, {1: 900.0})
    drive.times.add(one, 100.0)
    assert drive.run([one]) == ([], 1)
    assert engine.ran == []


def test_a_lost_cell_is_tried_three_times_and_then_named(tmp_path: Path) -> None:
    engine = Fake({1: 1.0}, dies=2)
    assert driver(engine)[0].run(jobs(tmp_path / "two", {1: 1.0})) == ([], 0)
    assert engine.ran == [1, 1, 1]
    engine = Fake({1: 1.0}, dies=3)
    failures, _ = driver(engine)[0].run(jobs(tmp_path / "three", {1: 1.0}))
    assert failures == ['toy {"part":"k","seed":0,"x":1}: the worker process died 3 times']
    assert engine.ran == [1, 1, 1]


def test_measured_memory_lowers_the_number_of_processes(tmp_path: Path) -> None:
    takes = dict.fromkeys(range(12), 1.0)
    engine = Fake(takes, memory=2**30, workers=4)
    drive, text = driver(engine, memory=2.5 * 2**30)
    assert drive.run(jobs(tmp_path, takes)) == ([], 0)
    assert engine.most == 4  # before the first was measured
    assert drive.slots() == 2
    assert text.getvalue().count("2 processes from here on: each takes 1 GiB of 2.5 GiB") == 1
    assert "1 GiB a process, 2 GiB for 2 (measured)" in text.getvalue()


def test_memory_is_read_from_the_machine() -> None:
    assert 2**20 < peak_memory() < 2**44
    available = available_memory()
    assert available is not None
    assert 2**20 < available < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert processes_that_fit(8, 1.0, 3.9) == 3
    assert processes_that_fit(8, 10.0, 3.9) == 1
    assert processes_that_fit(8, 1.0, None) == 8


def test_fewer_processes_where_memory_is_short_unless_asked_for(
    toy: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.show(monkeypatch)
    monkeypatch.setattr(estimate, "available_memory", lambda: 2**30)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert run.run(["toy"], "cpu", results=toy.results, dry_run=True) == 0
    assert "1 processes and not 4: more would not fit into 1 GiB" in capsys.readouterr().out
    assert run.run(["toy"], "cpu", results=toy.results, dry_run=True, workers=3) == 0
    out = capsys.readouterr().out
    assert "would not fit" not in out
    assert "for 3 processes" in out


class Instant(Fake):
    """An engine on which every toy cell ends at once, and has sealed something."""

    def __init__(self) -> None:
        super().__init__({})

    def submit(
        self, ticket: int, experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None = None
    ) -> None:
        with sealing(sealed) as there:
            seal("law", cell["x"])
        self.queue.append((ticket, cell["x"], there.text))

    def wait(self) -> list[tuple[int, Outcome | None]]:
        ticket, x, said = self.queue.pop(0)
        return [(ticket, Outcome({"right": [x % 2, 2], "law": x}, None, 1.0, "a device", {}, 0, said))]


#: what this process does while it is a list; a hook cannot be taken out again
STEPS: list[int] | None = None


def looked(event: str, given: tuple[Any, ...]) -> None:
    """A step for every name in a folder that is looked through."""
    global STEPS
    if STEPS is not None and event in ("os.listdir", "os.scandir"):
        steps, STEPS = STEPS, None
        steps.append(len(os.listdir(given[0])))
        STEPS = steps


def effort(toy: Any, count: int) -> int:
    """Calls of functions, Python's and others, and names in folders, until `count` cells are sealed, kept and read."""
    global STEPS
    toy.settle("plain", xs=range(count))
    jobs, done, _ = run.pending(["toy"], "cpu", toy.results / str(count))
    assert not done
    drive = driver(Instant())[0]
    drive.broken = Theorems("cpu").broken
    STEPS = steps = []

    def counted(frame: Any, event: str, argument: Any) -> None:
        if STEPS is not None and event in ("call", "c_call"):
            steps.append(1)

    sys.setprofile(counted)
    try:
        assert drive.run(jobs) == ([], 0)
        assert all(job.store.get(job.cell) for job in jobs)
    finally:
        sys.setprofile(None)
        STEPS = None
    assert len(files(jobs[0].store.folder)) == count
    return sum(steps)


def test_a_record_costs_no_more_among_many(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.show(monkeypatch)
    sys.addaudithook(looked)
    effort(toy, 2)  # loads what is loaded once in a process
    one, two, four = (effort(toy, n) for n in (50, 100, 200))
    few, many = (two - one) / 50, (four - two) / 100  # what is done once for all is in both
    assert many < 1.01 * few


def test_what_is_stored_is_said_before_a_run(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.show(monkeypatch)
    monkeypatch.setattr(pool, "cache_folder", lambda: tmp_path / "cache")
    toy.settle("plain", xs=(1, 2))
    source = (toy.folder / "toy" / "run.py").read_text(encoding="utf-8")
    source = source.replace("Kind(run)", "Kind(run, stores=True)").replace(
        '    (folder.parent / "ends"',
        "    from empirical.training.store import stored\n    import torch\n"
        "    stored('toy', {'x': x}, lambda: time.sleep(0.2) or {'x': torch.zeros(1)})\n    (folder.parent / \"ends\"",
    )
    (toy.folder / "toy").rename(toy.folder / "storing")
    (toy.folder / "storing" / "run.py").write_text(source, encoding="utf-8")

    def dry() -> list[str]:
        jobs, _, _ = run.pending(["storing"], "cpu", tmp_path / "none", None, pool.storage("cpu"))
        text = io.StringIO()
        print_cells(Console(file=text, width=300), jobs, Times())
        return [*text.getvalue().splitlines(), *describe(jobs, Times(), 1, None)]

    def cell(x: int) -> dict[str, Any]:
        return {"seed": x, "x": x, "mode": "plain", "marks": f"{toy.folder}/marks"}

    assert [line.count("to train") for line in dry()] == [1, 1, 0, 0]
    first, again = (pool.work("storing", cell(1), "cpu") for _ in range(2))
    # what was loaded counts with the time that its training took
    assert first.seconds > 0.2
    assert again.seconds > 0.2
    lines = dry()
    assert sum(", stored" in line for line in lines[:2]) == 1
    assert lines[2].endswith("; stored is what 1 train, to be trained what 1 train")
    jobs, _, _ = run.pending(["storing"], "cpu", tmp_path, None, pool.storage("cpu"))
    (expected,) = (job.stored for job in jobs if job.stored is not None)
    assert again.seconds - expected >= 0.2  # and is not expected to be spent again
    pool.work("storing", cell(2), "cpu")
    assert [", stored" in line for line in dry()[:2]] == [True, True]
    (entry, *_) = (tmp_path / "cache" / "trained").glob("*.safetensors")
    entry.unlink()
    assert sorted(", stored" in line for line in dry()[:2]) == [False, True]
