"""bench/scaling.md is in step with the records, and its arithmetic is what it says."""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from empirical.engine.records import RESULTS, RecordError, read
from theory.provenance import marked

scaling: Any = import_module("bench.scaling")


def test_the_committed_document_is_in_step_with_the_records() -> None:
    text = scaling.DOCUMENT.read_text(encoding="utf-8")
    assert marked(text, "scaling", "bench/scaling.md")[1] == scaling.section(), "run make scaling"


def test_a_record_that_changed_is_noticed(tmp_path: Path) -> None:
    shutil.copytree(RESULTS / "one_layer" / "cpu", tmp_path / "one_layer" / "cpu")
    seconds = scaling.recorded(tmp_path)["one_layer"]
    (victim, *_) = sorted((tmp_path / "one_layer" / "cpu").glob("*.json"))
    victim.write_text(json.dumps({**read(victim), "seconds": read(victim)["seconds"] + 1.0}), encoding="utf-8")
    assert sum(scaling.recorded(tmp_path)["one_layer"]) == pytest.approx(sum(seconds) + 1.0)


def test_the_arithmetic_by_hand() -> None:
    c = scaling.cost()
    # 32 layers of 4 x 4096^2 + 3 x 4096 x 11008, two vocabularies of 32000 x 4096
    assert c["base"] == 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 2 * 32000 * 4096 == 6_738_149_376
    assert c["adapter"] == 32 * 16 * (4 * 2 * 4096 + 3 * (4096 + 11008)) == 39_976_960
    flop = 307_200 * (4 * c["base"] + 6 * c["adapter"]) + 64_000 * 2 * (c["base"] + c["adapter"])
    assert c["flop"] == pytest.approx(flop, rel=1e-12)
    assert c["seconds"] == pytest.approx(flop / 989e12 / 0.35, rel=1e-12)


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="scaling: expected records"):
        scaling.recorded(tmp_path)
    with pytest.raises(RecordError, match="expected what --measure writes"):
        scaling.section(measured=tmp_path / "none.json")
