"""The figures: files are there, what they call predicted is what theory says, nothing to draw is one line."""

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empirical.__main__ import main
from empirical.engine import catalogue, run
from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, as_json
from empirical.experiments.rank_threshold import run as rank_threshold
from tests.empirical.conftest import files_of_at_most
from tests.empirical.experiments.live import live
from theory.adapters import first_step_power
from theory.additive import additive_ceiling
from theory.approximation import floor_error
from theory.composition import coverage_law
from theory.facts import margin_rank_floor

pytest.importorskip("matplotlib")
from empirical.engine import figures
from empirical.experiments.coverage import figures as coverage_figures
from empirical.experiments.coverage.predictions import TELLS
from empirical.experiments.coverage.tables import (
    Alignment,
    Answered,
    Experts,
    Foretold,
    Law,
    Measured,
    Pair,
    Scored,
    StackCell,
    WorldCell,
)
from empirical.experiments.first_step.figures import first_step_figure
from empirical.experiments.first_step.run import WAYS
from empirical.experiments.one_layer import figures as one_layer_figures
from empirical.experiments.rank_threshold import figures as rank_figures

LEVELS = (0.0, 0.5, 1.0)
LAMBDA, P2, VALUES = 0.75, 0.8, 20


def record(cell: Cell, metrics: Any) -> Record:
    raw: Any = {}
    return Record("coverage", "cpu", cell, metrics, 1.0, "CPU: a test", "0123456789abcdef", False, raw)


def world(group: str, seed: int, c: float) -> Record:
    """A world of the coverage experiment, with only what the figures read."""
    covered, asked = round(100 * c), 100
    counts = {f"{cell}_{bridge}": Count(n // 2 if bridge == "covered" else n // VALUES, n)
              for cell in ("new_unchanged", "new_changed", "old_changed")
              for bridge, n in (("covered", covered), ("uncovered", asked - covered))}  # fmt: skip
    counts |= {"new_changed_covered_survivors": Count(covered // 2, covered)}
    answered = {cell: Answered(n.right, 0, n.asked - n.right, 0, 0, 0, n.right) for cell, n in counts.items()}
    conditions = ("first_early", "first_0", "first_1", "second_late", "rows", "sum:placed", "sum:rows", "joint")
    known = c > 0
    bounds = coverage_law(c, LAMBDA * known, P2 * known, VALUES)
    law = Law(retrieval=LAMBDA * known, p2=P2 * known, covered=LAMBDA * P2 * known, low=bounds.low, high=bounds.high)
    aligned = Alignment.model_construct(
        alpha_covered=0.8 - seed / 1e3, alpha_covered_confidence=0.6, kappa_covered=None, kappa_covered_confidence=None
    )
    metrics = Measured.model_construct(
        scores=dict.fromkeys(conditions, counts),
        predicted=Foretold.model_construct(coverage_law=({"placed": law, "rows": law},)),
        sets=(
            Experts.model_construct(
                pairs={pair: Pair.model_construct(alignment=aligned) for pair in ("placed", "rows")}, trace={},
                scores=dict.fromkeys(conditions, Scored.model_construct(questions=answered)),
            ),
        ),
    )  # fmt: skip
    return record(WorldCell.model_construct(group=group, seed=seed, coverage=c, values=VALUES, layers=2), metrics)


@pytest.fixture(scope="module")
def coverage() -> list[Record]:
    stack = record(StackCell(placement="late_late", seed=0, bridges=4, values=3, people=8), None)
    return [
        stack, *(world("headline", seed, 0.5) for seed in (100, 101)),
        *(world("sweep", 200 + i, c) for i, c in enumerate(LEVELS)),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A whole grid of rank_threshold under smoke, as records on disk; the errors lie on the floor."""
    folder = tmp_path_factory.mktemp("results")
    store = catalogue.store_for("rank_threshold", "smoke", folder)
    for cell in catalogue.cells("rank_threshold", "smoke"):
        metrics: Any
        if isinstance(cell, rank_threshold.SquaredCell):
            metrics = rank_threshold.Squared(ranks=cell.ranks, errors=floor(cell, cell.ranks), rounding=1e-12)
        elif isinstance(cell, rank_threshold.AnswersCell):
            n, ranks = cell.facts, cell.ranks
            eps = tuple(1.1 * rank_figures.trace_bound(n, r) for r in ranks)
            metrics = rank_threshold.Answers(
                ranks=ranks, base=Count(0, n), right=tuple(Count(min(n, 9 * r), n) for r in ranks),
                trace_rank=tuple(0.9 * r for r in ranks), eps=eps, eps_mean_square=eps,
                margin=tuple(1 - e for e in eps),
            )  # fmt: skip
        else:
            metrics = rank_threshold.Memory(stored=10, refuted=11, ratio=0.6, finite=0.5)
        found: Any = as_json(metrics)
        store.put(cell, found, 1.0, "CPU: a test")
    return folder, catalogue.records("rank_threshold", "smoke", folder)


def floor(task: rank_threshold.SquaredTask, ranks: Iterable[int]) -> tuple[float, ...]:
    values = rank_threshold.spectrum(task)
    return tuple(floor_error(values, r, "frobenius") if r < task.rank else 0.0 for r in ranks)


def line(figure: Any, gid: str) -> tuple[Any, Any]:
    (found,) = [drawn for axis in figure.axes for drawn in axis.lines if drawn.get_gid() == gid]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def texts(figure: Any) -> str:
    return "\n".join(t.get_text() for t in figure.texts)


def test_the_line_of_the_coverage_law_is_the_law(coverage: list[Record]) -> None:
    figure = coverage_figures.coverage_figure(coverage, [])
    assert figure is not None
    for pair in ("placed", "rows"):
        x, y = line(figure, f"law.{pair}.False")
        assert list(x) == list(LEVELS)
        assert y == pytest.approx([coverage_law(c, LAMBDA, P2, VALUES).low for c in LEVELS])
        x, y = line(figure, f"affine.{pair}.False")
        assert y == pytest.approx([coverage_law(float(c), LAMBDA, P2, VALUES).low for c in x])
        x, y = line(figure, f"law.{pair}.True")
        assert list(x) == [0.5, 1.0]
        assert y == pytest.approx([LAMBDA * P2] * 2)
    said = texts(figure)
    for word in ("profile cpu", "CPU: a test", "5 worlds", "100–101, 200–202", "commit 0123456"):
        assert word in said


def test_placement_and_alignment_show_prediction_and_verdict(coverage: list[Record]) -> None:
    figure = coverage_figures.placement_figure(coverage, [])
    assert figure is not None
    assert line(figure, "law.placed")[1] == pytest.approx([LAMBDA * P2] * 2)
    assert len(figure.axes) == 5, "the layer scan has a panel where it was run"
    rows: Any = [{"id": "headline.alpha.placed", "verdict": "violated"}]
    figure = coverage_figures.answers_figure(coverage, [])
    assert figure is not None
    assert {"sum:placed", "sum:rows", "joint"} == {t.get_text() for t in figure.axes[0].get_yticklabels()}
    figure = coverage_figures.alignment_figure(coverage, rows)
    assert figure is not None
    assert set(line(figure, "tells.alpha.placed")[1]) == {TELLS}
    assert any("VIOLATED" in t.get_text() for t in figure.axes[0].texts)


def test_floor_margin_and_law_are_those_of_the_theory(small: tuple[Path, list[Record]]) -> None:
    _, records = small
    figure = rank_figures.error_figure(records, [])
    assert figure is not None
    cell = rank_threshold.SQUARED.of(records)[0].cell
    x, y = line(figure, "floor")
    assert y == pytest.approx(floor(cell, [int(r) for r in x]), abs=1e-12)
    figure = rank_figures.margin_figure(records, [])
    assert figure is not None
    answers = rank_threshold.ANSWERS.of(records)[0].cell
    ranks, bound = line(figure, "bound")
    for r, most in zip(ranks, bound, strict=True):
        assert margin_rank_floor(answers.facts, (1 - most) * (1 + 1e-9), powers=1) <= np.ceil(r)
        assert margin_rank_floor(answers.facts, (1 - most) * (1 - 1e-9), powers=1) > np.floor(r) or most == 0
    assert set(line(figure, "codes")[0]) == {rank_threshold.code_rank(answers)}
    assert set(line(figure, "law")[1]) == {0.5}


def test_the_ceiling_is_that_of_the_sizes() -> None:
    hops = {"first": [9, 10], "second": [9, 10], "two_hop": [2, 10], "second_old": [0, 10]}
    metrics = {"two_hop": {"scores": {"sum 0": hops}}, "adversary": {"small": {}, "large": [[20, 60]]}}
    cells = {
        getattr(c, "kind", ""): c
        for c in catalogue.cells("one_layer", "smoke")
        if getattr(c, "writing", "closed") == "closed"
    }
    records = [live("one_layer", cells[kind], found) for kind, found in metrics.items()]
    figure = one_layer_figures.one_layer_figure(records, [])
    assert figure is not None
    assert set(line(figure, "ceiling")[0]) == {additive_ceiling(60, 3)}
    assert one_layer_figures.one_layer_figure([], []) is None


def test_the_powers_of_the_first_step_are_those_of_the_claim() -> None:
    cell: Any
    (cell,) = catalogue.cells("first_step", "smoke")
    measured: Any = {"norm": -0.5, "loss": -1.0}
    steps = {way: {str(r): {of: r**power for of, power in measured.items()} for r in cell.ranks} for way in WAYS}
    figure = first_step_figure([live("first_step", cell, {"steps": steps})], [])
    assert figure is not None
    names = [("SGD, α / r", "sgd", False), ("SGD, α / √r", "sgd", True), ("Adam, α / r", "adam", False),
             ("Adam, α / √r", "adam", True)]  # fmt: skip
    for axis, (of, power) in zip(figure.axes, measured.items(), strict=True):
        assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [name for name, *_ in names]
        for y, (_, optimizer, rslora) in enumerate(names):
            assert set(line(figure, f"power.{of}.{y}")[0]) == {float(first_step_power(optimizer, of, rslora))}
        marks = [float(np.asarray(drawn.get_xdata())[0]) for drawn in axis.lines if drawn.get_marker() in ("o", "s")]
        assert marks == pytest.approx([power] * 4 * len(names)), "dot and mean, either factor, every way"


def test_files_are_written_and_what_is_missing_is_skipped(
    small: tuple[Path, list[Record]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = small
    asked = ["figures", "--profile", "smoke", "--results", str(folder), "--out", str(tmp_path / "out")]
    assert main(asked) == 0
    said = capsys.readouterr().out.splitlines()
    assert [s.split(":")[0] for s in said] == ["written"] * 2 + ["skipped"] * (len(figures.plots()) - 2)
    wanted = {f"rank_threshold_{name}.{kind}" for name in ("error", "margin") for kind in ("svg", "png")}
    assert {p.name for p in (tmp_path / "out").iterdir()} == wanted
    svg = (tmp_path / "out" / "rank_threshold_error.svg").read_bytes()
    assert main(asked) == 0
    assert (tmp_path / "out" / "rank_threshold_error.svg").read_bytes() == svg, "the same records, the same file"
    with files_of_at_most(1000):
        assert main(asked) == 2
    assert "rank_threshold_error.svg: expected to write it, got: File too large" in capsys.readouterr().err
    assert (tmp_path / "out" / "rank_threshold_error.svg").read_bytes() == svg


@pytest.mark.parametrize("extra", [[], ["--profile", "tiny"]])
def test_nothing_to_draw_is_one_line(extra: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["figures", "--results", str(tmp_path), "--out", str(tmp_path / "out"), *extra]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(
    small: tuple[Path, list[Record]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text(json.dumps({}), encoding="utf-8")
    asked = ["figures", "--profile", "smoke", "--results", str(small[0]), "--out", str(tmp_path / "out")]
    assert main(asked) == 2
    assert "folder to write" in capsys.readouterr().err


def test_a_run_goes_on_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else there(name))
    said = list(run._figures(["coverage"], "cpu", tmp_path, None, tmp_path / "out"))
    assert said == ["no figures: matplotlib is not installed"]
