"""tools/outside.py: tables of others, by task; merges of others that differ, however little; what cannot be read is one
line; an overfull memory fails."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empirical.reuse import spectral
from empirical.reuse.linear import in_factors
from empirical.training.bases import Updates, dense
from theory.numerics import Array, stream
from tools import outside


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


def test_gains_are_paired_by_task(tmp_path: Path) -> None:
    folder = written(tmp_path, {"performance_agg": 0.1, "performance_ties": -0.02})
    count, mean, low, high = outside.gain(folder, "performance_agg")
    assert count == 20
    assert mean == pytest.approx(0.1)
    assert 0.05 < low < mean < high < 0.15
    assert [fits for fits, _ in outside.tables(folder)] == [True, True]


@pytest.mark.parametrize(("agg", "ties"), [(0.0, 0.0), (0.1, 0.1), (-0.1, 0.1)])
def test_tables_that_say_otherwise_are_seen(tmp_path: Path, agg: float, ties: float) -> None:
    folder = written(tmp_path, {"performance_agg": agg, "performance_ties": ties})
    assert not all(fits for fits, _ in outside.tables(folder))


def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_an_overfull_memory_fails_and_an_empty_one_does_not() -> None:
    right = [[outside.recalled(32, c, stream(i, "memory")) for i in range(5)] for c in (1, 100)]
    assert np.array(right).sum(axis=1).tolist() == [0, 5]


# ---------------------------------------------------------------- code of others

#: a layer that merges as LoRA-the-Explorer's does, if MINUS is the sign of what was merged before
LTE = """
import torch
from types import SimpleNamespace
from torch import nn

MINUS = {minus}


class LTEConfig:
    default = staticmethod(lambda **given: SimpleNamespace(**given))


class Layer(nn.Linear):
    def begin(self, h, r):
        self.weight.requires_grad_(False)
        for name in "AB":
            shape = (h, r, self.in_features) if name == "A" else (h, self.out_features, r)
            setattr(self, f"lora_{{name}}_weight", nn.Parameter(torch.zeros(shape, dtype=self.weight.dtype)))
            setattr(self, f"prev_lora_{{name}}_weight", torch.zeros(shape, dtype=self.weight.dtype))
        self.reset_lora_parameters()

    def reset_lora_parameters(self):
        nn.init.normal_(self.lora_A_weight)
        nn.init.zeros_(self.lora_B_weight)

    def new(self):
        return self.lora_B_weight @ self.lora_A_weight + MINUS * self.prev_lora_B_weight @ self.prev_lora_A_weight

    def forward(self, x):
        parts = x.unflatten(0, (len(self.lora_A_weight), -1))
        return super().forward(x) + (parts @ self.new().transpose(1, 2)).flatten(0, 1)

    def merge_parameters(self):
        with torch.no_grad():
            self.weight += self.new().mean(0)
            for name in "AB":
                setattr(self, f"prev_lora_{{name}}_weight", getattr(self, f"lora_{{name}}_weight").clone())


def prepare_model_for_lte(model, config):
    model[0].__class__ = Layer
    model[0].begin(config.num_heads, config.lora_r)
    return model
"""


def package(folder: Path, minus: float) -> Path:
    (folder / "lte").mkdir(parents=True)
    (folder / "lte" / "__init__.py").write_text(LTE.format(minus=minus), encoding="utf-8")
    (folder / "lte" / "prepare.py").touch()
    return folder


def test_ranks_of_merged_heads_are_those_of_the_claim_and_others_are_seen(tmp_path: Path) -> None:
    assert [fits for fits, _ in outside.lte(package(tmp_path / "right", -1.0))] == [True, True, True]
    # what was merged before is not wholly taken off: merges without reset leave more than the heads' rank
    fits, line = next(outside.lte(package(tmp_path / "wrong", -0.5)))
    assert not fits
    assert "[6, 12, 18, 24], expected [6, 6, 6, 6]" in line
    assert not {"lte", "lte.prepare", "utils"} & sys.modules.keys()


def merges(wrong: str = "", times: float = 1.0, more: int = 0) -> Callable[..., dict[str, Array]]:
    """The bench's merges of three adapters in the place of the authors', one off by a factor or an entry."""

    def merge(given: Sequence[Updates], space: str, method: str, **settings: Any) -> dict[str, Array]:
        kind = " ".join([space, method, *map(str, settings.values())])
        columns = sum(in_factors(a["wide"]).columns for a in given)
        entries = columns * (columns if space == "core" else 24)
        density = outside.kept(settings.get("topK", 100), entries) + more * (kind == wrong) / entries
        found = {
            "tv": spectral.core_sum(given, outside.SCALE),
            "tsv": spectral.tsv(given, outside.SCALE),
            "ties": spectral.core_ties(given, density, outside.SCALE)
            if space == "core"
            else outside.scaled(spectral.knots(given, density)),
        }[method]
        if "isotropize" in settings:
            found = spectral.iso_c(given, outside.SCALE)
        return {name: (times if kind == wrong else 1.0) * dense(update) for name, update in found.items()}

    return merge


TIES = ["core ties 20", "core ties 100", "knots ties 20", "knots ties 100"]


@pytest.mark.parametrize("wrong", ["core tv", "full tv", "core tsv", "full tsv", "core tv True", *TIES])
def test_a_merge_that_is_off_by_a_hundred_thousandth_is_seen(wrong: str) -> None:
    given = outside.adapters(8)
    assert all(fits for fits, _ in outside.core_merges(merges(), given, 8))
    fits = [f for f, _ in outside.core_merges(merges(wrong, times=1 + 1e-5), given, 8)]
    # both sums are held against the one in Core Space
    assert fits.count(False) == (2 if wrong == "core tv" else 1)


@pytest.mark.parametrize("space", ["core", "knots"])
def test_one_entry_more_or_less_is_seen(space: str) -> None:
    given = outside.adapters(8)
    for more in (-1, 1):
        found = outside.core_merges(merges(f"{space} ties 20", more=more), given, 8)
        assert [fits for fits, _ in found].count(False) == 1


def test_free_directions_of_thin_adapters_that_take_no_part_are_seen() -> None:
    """Where the authors' TSV-Merge in the whole space is the bench's, what is said of it here is wrong."""
    found = [line for fits, line in outside.core_merges(merges(), outside.adapters(3), 3) if not fits]
    assert found == ["rank 3: TSV in the whole and tsv: 0.0e+00 apart"]


@pytest.mark.parametrize("variable", ["KNOTS", "CORE_SPACE", "LTE"])
def test_code_that_is_not_there_or_cannot_run_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setattr(outside, "memory", lambda: iter([]))
    monkeypatch.setenv(variable, str(tmp_path))
    assert outside.main() == 2
    assert "expected a checkout that holds" in capsys.readouterr().err
    for file in ("task_merger.py", "lte/__init__.py", "lte/prepare.py"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("import no_such_package", encoding="utf-8")
    assert outside.main() == 0
    assert "skipped, its code needs the package no_such_package" in capsys.readouterr().out
