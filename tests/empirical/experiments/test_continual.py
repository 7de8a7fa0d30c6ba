"""continual: a small world live; each system held against what its definition says, and a wrong rank that is seen."""

from itertools import islice, pairwise

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.continual import run as experiment
from empirical.experiments.continual.tables import Settings
from empirical.training.bases import dense
from tests.empirical.experiments.live import live, spoilt, verdicts


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("continual", "smoke").but(steps=4, base_steps=5)


@pytest.fixture(scope="module")
def run(settings: Settings) -> experiment.WorldRun:
    return experiment.WorldRun(experiment.cells(settings)[0], "cpu")


@pytest.fixture(scope="module")
def result(settings: Settings) -> Record:
    return live("continual", experiment.cells(settings)[0])


def test_ranks_hold_live_and_a_wrong_one_is_seen(settings: Settings, result: Record) -> None:
    found = verdicts("continual", settings, [result])
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert len(exact) == 8
    assert set(exact.values()) == {"holds"}
    wrong = spoilt(result, "methods", "c wide frozen", "rank", to=settings.wide + 1)
    assert verdicts("continual", settings, [wrong])["c.wide.frozen.rank"] == ("exact", "violated")


def course(run: experiment.WorldRun, method: str) -> list[tuple[dict, dict]]:
    """What is added when a task begins and when it ends, as dense matrices."""
    pairs = experiment.METHODS[method](run)
    return [({n: dense(u) for n, u in start.items()}, {n: dense(u) for n, u in end.items()}) for start, end in pairs]


def norms(updates: dict) -> np.ndarray:
    return np.array([np.linalg.norm(u) for u in updates.values()])


@pytest.mark.parametrize("method", ["go on", "merge and reset", "sd formula", "c wide moving", "c wide frozen"])
def test_a_task_begins_where_the_last_one_ended(run: experiment.WorldRun, method: str) -> None:
    found = course(run, method)
    assert len(found) == len(run.tasks) == 4
    for (_, end), (start, after) in pairwise(found):
        for name, update in end.items():
            scale = np.linalg.norm(update)
            assert np.abs(start[name] - update).max() <= 1e-5 * scale, name  # float32
            assert np.abs(after[name] - update).max() > 1e-4 * scale  # ten times that


def test_directions_have_norm_one_and_the_released_ones_shrink_at_a_switch(run: experiment.WorldRun) -> None:
    formula, released = course(run, "sd formula"), course(run, "sd released")
    # the first task's direction has norm one, times its magnitude, which starts at one and moves by at most the rate
    moved = run.cell.steps * run.cell.rate
    assert np.abs(norms(formula[0][1]) - 1).max() <= moved
    for (_, end), (start, _) in pairwise(released):
        assert sum(norms(start)) != pytest.approx(sum(norms(end)), rel=0.05)


def test_moving_factors_drift_under_a_frozen_route_and_frozen_ones_do_not(run: experiment.WorldRun) -> None:
    """The parts that earlier tasks wrote: B' R A' - B R A is zero where the factors are frozen."""
    outside = {}
    for method in ("c wide frozen", "c wide moving"):
        first, second = (dict(end) for _, end in islice(experiment.METHODS[method](run), 2))
        name = next(iter(first))
        rows = first[name].row_basis()  # what the first task reads
        update = dense(second[name])
        outside[method] = np.linalg.norm(update - update @ rows.T @ rows) / np.linalg.norm(update)
    assert outside["c wide frozen"] < 1e-6 < 1e-4 < outside["c wide moving"]


def test_independent_adapters_are_added(run: experiment.WorldRun) -> None:
    total, mean = course(run, "sum")[-1][1], course(run, "mean")[-1][1]
    assert all(np.abs(total[n] - 4 * mean[n]).max() <= 1e-9 * np.abs(total[n]).max() for n in total)
