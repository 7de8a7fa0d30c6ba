"""The benchmark's table in docs/training.md is that of the result that was kept, and the benchmark runs."""

import json
import mmap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from theory.provenance import marked

ROOT = Path(__file__).resolve().parents[2]
bench: Any = import_module("bench.training")
KEPT = sorted((ROOT / "bench" / "results").glob("training-*.json"))


@pytest.mark.parametrize("kept", KEPT, ids=lambda p: p.stem)
def test_the_table_is_that_of_the_kept_result(kept: Path) -> None:
    found = json.loads(kept.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    kind = kept.stem.removeprefix("training-")
    shown = marked(text, kind, "docs/training.md")[1]
    assert shown == bench.table(found)
    found["rows"][0]["together_step_s"] = [9.0]
    assert shown != bench.table(found)


def test_a_result_was_kept_for_every_size() -> None:
    rows = [row for kept in KEPT for row in json.loads(kept.read_text(encoding="utf-8"))["rows"]]
    assert {(row["batch"], row["adapters"]) for row in rows} == {(b, k) for b in bench.BATCHES for k in bench.COUNTS}


def test_memory_of_a_process_is_read_from_the_system() -> None:
    before = bench._resident("VmRSS")
    with mmap.mmap(-1, 64 * 2**20) as fresh:  # not from the heap, which may have as much to spare
        for page in range(0, len(fresh), mmap.PAGESIZE):
            fresh[page] = 1
        assert 60 <= bench._resident("VmRSS") - before <= 70
        assert bench._resident("VmHWM") >= bench._resident("VmRSS") - 1


def test_a_run_that_was_cut_off_goes_on_after_its_last_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BEGUN", tmp_path / "training.part.json")
    told = {"repeats": 5, "on": "CPU: a test"}
    assert bench.begun(told) == []
    bench.BEGUN.write_text(json.dumps({"told": told, "rows": [{"batch": 8, "adapters": 1}]}))
    assert bench.begun(told) == [{"batch": 8, "adapters": 1}]
    assert bench.begun({**told, "repeats": 3}) == []
    bench.BEGUN.write_text(bench.BEGUN.read_text()[:-5])
    assert bench.begun(told) == []
