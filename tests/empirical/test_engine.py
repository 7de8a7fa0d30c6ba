"""The driver and its records: resumable, whole or not at all, and one clear line for whatever is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from empirical import archive
from empirical.record import FIELDS, RecordError, Store, canonical, cell_hash, finite, read, write_json

ROOT = Path(__file__).resolve().parents[2]

TOY = '''
"""A toy: each cell squares its number."""
import os, pathlib, signal
from empirical.judge import Prediction
PROTOCOL = 1
def cells(config):
    return [{"x": x, "mode": config["mode"], "marks": config["marks"]} for x in config["xs"]]
def run(cell, device):
    folder = pathlib.Path(cell["marks"])
    mark = folder / f"{cell['x']}-{len(list(folder.glob(str(cell['x']) + '-*')))}"
    mark.write_text("ran")
    if cell["mode"] == "fail" and cell["x"] == 2:
        raise RuntimeError("two is refused")
    if cell["mode"] == "nan" and cell["x"] == 2:
        return {"square": float("nan")}
    if cell["mode"] == "die" and cell["x"] == 2 and mark.name.endswith("-0"):
        os.kill(os.getpid(), signal.SIGKILL)
    return {"square": cell["x"] ** 2, "right": [cell["x"] % 2, 2]}
def predictions(config, results):
    worlds = [r["metrics"]["right"] for r in results]
    return [Prediction("toy_at_most_one", "additive_limit", "exact", "at_most", 1.0, 0.0, worlds, "rates are rates")]
'''


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with the toy experiment, its settings and a place for marks of what ran."""
    (tmp_path / "toy.py").write_text(TOY, encoding="utf-8")
    (tmp_path / "marks").mkdir()
    settle(tmp_path, "plain")
    return tmp_path


def settle(folder: Path, mode: str, extra: str = "") -> None:
    common = f'[common]\nxs = [1, 2, 3]\nmode = "{mode}"\nmarks = "{folder}/marks"\n'
    (folder / "toy.toml").write_text(f"{common}[smoke]\n[cpu]\n{extra}[gpu]\n", encoding="utf-8")


def drive(folder: Path, *arguments: str, command: str = "run") -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-m", "empirical", command]
    if command in ("run", "judge"):
        given += ["--experiment", "toy", "--profile", "cpu", "--results", str(folder / "results")]
    environment = os.environ | {"LORA_LIMITS_EXPERIMENTS": str(folder), "PYTHONPATH": str(folder)}
    return subprocess.run([*given, *arguments], capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


def files(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in sorted((folder / "results" / "toy" / "cpu").glob("*.json"))}


def marks(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "marks").iterdir())


def test_a_finished_cell_is_never_run_twice(toy: Path) -> None:
    first = drive(toy)
    assert first.returncode == 0, first.stderr
    assert "holds" in first.stdout
    kept = files(toy)
    assert len(kept) == 3
    assert marks(toy) == ["1-0", "2-0", "3-0"]
    assert drive(toy).returncode == 0
    assert marks(toy) == ["1-0", "2-0", "3-0"]
    assert files(toy) == kept
    record = json.loads(next(iter(kept.values())))
    assert set(record) == FIELDS
    assert record["device"].startswith("CPU")


def test_a_failed_cell_is_named_recorded_and_tried_again(toy: Path) -> None:
    settle(toy, "fail")
    done = drive(toy)
    assert done.returncode == 1
    assert "two is refused" in done.stdout
    assert len(files(toy)) == 2
    (error,) = (toy / "results" / "toy" / "cpu").glob("*.error.txt")
    assert '"x":2' in error.read_text(encoding="utf-8")
    assert drive(toy).returncode == 1
    assert marks(toy) == ["1-0", "2-0", "2-1", "3-0"]


def test_a_number_that_is_not_finite_is_a_failed_cell(toy: Path) -> None:
    settle(toy, "nan")
    done = drive(toy)
    assert done.returncode == 1
    assert '"x":2' in done.stdout.replace("\n", "")
    assert len(files(toy)) == 2


def test_a_worker_that_is_killed_costs_only_its_time(toy: Path) -> None:
    settle(toy, "die")
    done = drive(toy)
    assert done.returncode == 0, done.stdout
    assert len(files(toy)) == 3


def test_dry_run_shows_the_cells_and_runs_nothing(toy: Path) -> None:
    done = drive(toy, "--dry-run")
    assert done.returncode == 0
    assert "3 to run" in done.stdout
    assert marks(toy) == []
    assert not (toy / "results").exists()


def test_a_damaged_record_stops_the_run_before_it_starts(toy: Path) -> None:
    assert drive(toy).returncode == 0
    victim = sorted((toy / "results" / "toy" / "cpu").glob("*.json"))[0]
    whole = victim.read_text(encoding="utf-8")
    for text in (whole[:50], "{}", whole.replace('"x": ', '"x": 9')):
        victim.write_text(text, encoding="utf-8")
        done = drive(toy)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert victim.name in done.stderr
    assert marks(toy) == ["1-0", "2-0", "3-0"]


def test_a_second_driver_is_refused(toy: Path) -> None:
    store = Store(toy / "results", "toy", 1, "cpu")
    with store.lock():
        done = drive(toy)
    assert done.returncode == 2
    assert "no other driver" in done.stderr
    assert marks(toy) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--experiment", "nope"), "experiment: expected one of"),
        (("--profile", "tpu"), "profile: expected one of"),
        (("--method", "nothing.py:f"), "method"),
        (("--method", "nothing"), "method"),
        (("--workers", "0"), "--workers"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_bad_input_gets_one_line_and_exit_two(toy: Path, arguments: tuple[str, ...], named: str) -> None:
    done = drive(toy, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert named in done.stderr
    assert marks(toy) == []


def test_gpu_profile_without_a_gpu_is_refused(toy: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = drive(toy, "--profile", "gpu")
    assert done.returncode == 2
    assert "CUDA" in done.stderr


def test_a_broken_config_key_is_named(toy: Path) -> None:
    settle(toy, "plain", "typo = 1\n")
    done = drive(toy)
    assert done.returncode == 2
    assert "typo" in done.stderr


def test_an_unwritable_results_folder_is_named(toy: Path) -> None:
    (toy / "results").write_text("a file in the way", encoding="utf-8")
    done = drive(toy)
    assert done.returncode == 2
    assert "results" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_pack_and_import_carry_records_verified(toy: Path, tmp_path: Path) -> None:
    assert drive(toy).returncode == 0
    bundle = tmp_path / "bundle.tar.gz"
    assert archive.pack(toy / "results", "cpu", bundle) == 3
    elsewhere = tmp_path / "elsewhere"
    assert archive.unpack(bundle, elsewhere) == (3, 0)
    assert archive.unpack(bundle, elsewhere) == (0, 3)
    copied = {p.name: p.read_text(encoding="utf-8") for p in (elsewhere / "toy" / "cpu").glob("*.json")}
    assert copied == files(toy)
    victim = next((elsewhere / "toy" / "cpu").glob("*.json"))
    changed = json.loads(victim.read_text(encoding="utf-8"))
    changed["metrics"]["square"] = -1
    write_json(victim, changed)
    with pytest.raises(RecordError, match="other metrics"):
        archive.unpack(bundle, elsewhere)
    bundle.write_bytes(bundle.read_bytes()[:200])
    with pytest.raises(RecordError, match="expected"):
        archive.unpack(bundle, tmp_path / "third")
    assert not (tmp_path / "third").exists()
    with pytest.raises(ValueError, match="none"):
        archive.pack(toy / "results", "gpu", bundle)


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
