"""tools/outside.py: tables of others, by task; what cannot be read is one line; an overfull memory fails."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from theory.numerics import stream
from theory.provenance import ROOT


@pytest.fixture(scope="module")
def outside() -> Any:
    spec = importlib.util.spec_from_file_location("tools_outside", ROOT / "tools" / "outside.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def written(folder: Path, gains: dict[str, float]) -> Path:
    """Tables in which merges gain so much on twenty tasks, give or take little; one task is in one table alone."""
    tables = folder / "results" / "tables"
    tables.mkdir(parents=True)
    plain = {f"t{i}": 0.3 + 0.01 * i for i in range(20)}
    (tables / "zero_shot_performance.csv").write_text(
        "task,zero_shot\nalone,0.9\n" + "".join(f"{t},{v}\n" for t, v in plain.items()), encoding="utf-8"
    )
    lines = [",".join(["task", *gains])]
    for i, (task, value) in enumerate(plain.items()):
        lines.append(",".join([task, *(str(value + g + 0.02 * (-1) ** i) for g in gains.values())]))
    file = tables / "merged_performance_eval_experts_summary.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_gains_are_paired_by_task(outside: Any, tmp_path: Path) -> None:
    folder = written(tmp_path, {"performance_agg": 0.1, "performance_ties": -0.02})
    count, mean, low, high = outside.gain(folder, "performance_agg")
    assert (count, mean) == (20, pytest.approx(0.1))
    assert 0.05 < low < mean < high < 0.15
    assert [fits for fits, _ in outside.tables(folder)] == [True, True]


@pytest.mark.parametrize(("agg", "ties"), [(0.0, 0.0), (0.1, 0.1), (-0.1, 0.1)])
def test_tables_that_say_otherwise_are_seen(outside: Any, tmp_path: Path, agg: float, ties: float) -> None:
    folder = written(tmp_path, {"performance_agg": agg, "performance_ties": ties})
    assert not all(fits for fits, _ in outside.tables(folder))


def test_what_cannot_be_read_is_one_line(
    outside: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(outside, "memory", lambda: iter([]))
    monkeypatch.setenv("MERGING", str(tmp_path))
    assert outside.main() == 2
    monkeypatch.setenv("MERGING", str(written(tmp_path, {"performance_agg": 0.1})))
    assert outside.main() == 2
    assert "expected columns task and performance_ties" in capsys.readouterr().err
    monkeypatch.delenv("MERGING")
    assert outside.main() == 0
    assert "tables: skipped" in capsys.readouterr().out


def test_an_overfull_memory_fails_and_an_empty_one_does_not(outside: Any) -> None:
    right = [[outside.recalled(32, c, stream(i, "memory")) for i in range(5)] for c in (1, 100)]
    assert np.array(right).sum(axis=1).tolist() == [0, 5]
