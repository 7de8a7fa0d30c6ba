"""rank_threshold: a small world live, its exact predictions, and wrong results that are seen."""

import copy
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from empirical.engine.driver import config
from empirical.engine.judge import judge
from empirical.experiments.rank_threshold import run as experiment
from theory.facts import circle_update
from theory.numerics import stream


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the engine's workers run: many tiny steps are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def settings() -> dict:
    small = config("rank_threshold", "smoke")
    small["worlds"] = 1
    small["squared"] = {**small["squared"], "ranks": [1, 4, 8], "steps": 250}
    small["answers"] = {**small["answers"], "ranks": [2, 24, 48], "steps": 60}
    small["memory"] = {**small["memory"], "sizes": [4, 8]}
    return small


@pytest.fixture(scope="module")
def results(settings: dict) -> list[dict]:
    return [{"cell": c, "metrics": experiment.run(c, "cpu")} for c in experiment.cells(settings)]


def verdicts(settings: dict, results: list[dict]) -> dict[str, tuple[str, str]]:
    said = experiment.predictions(settings, results)
    return {p.id: (p.kind, v.verdict) for p, v in zip(said, judge(said), strict=True)}


def test_exact_predictions_hold_in_a_live_world(settings: dict, results: list[dict]) -> None:
    found = verdicts(settings, results)
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert set(exact) == {"floor", "base", "trace", "margin"}
    assert set(exact.values()) == {"holds"}
    squared = results[0]["metrics"]
    assert squared["errors"][-1] < settings["squared"]["zero"] < squared["errors"][0]


@pytest.mark.parametrize(
    ("part", "key", "wrong", "prediction"),
    [
        ("squared", "errors", [0.0] * 3, "floor"),
        ("answers", "trace_rank", [2.1, 1.0, 1.0], "trace"),
        ("answers", "eps_mean_square", [0.1, 0.1, 0.1], "margin"),
        ("answers", "base", [1, 96], "base"),
    ],
)
def test_a_wrong_result_is_violated(
    settings: dict, results: list[dict], part: str, key: str, wrong, prediction
) -> None:
    planted = copy.deepcopy(results)
    next(r for r in planted if r["cell"]["part"] == part)["metrics"][key] = wrong
    assert verdicts(settings, planted)[prediction] == ("exact", "violated")


def test_a_cell_gives_the_same_numbers_twice(settings: dict, results: list[dict]) -> None:
    again = experiment.run(results[0]["cell"], "cpu")
    assert again == results[0]["metrics"]


def test_stores_agrees_with_a_linear_program() -> None:
    from scipy.optimize import linprog

    seen = set()
    for p in (6, 9, 14, 20):
        rng = stream(3, "pairs", p)
        keys, targets = rng.standard_normal((p, 4)), rng.standard_normal((p, 4))
        rows = [np.outer(targets[j] - targets[i], keys[i]).ravel() for i in range(p) for j in range(p) if i != j]
        program = linprog(np.zeros(16), A_ub=rows, b_ub=-np.ones(len(rows)), bounds=(None, None), method="highs")
        answer = experiment.stores(keys, targets)
        assert answer.decided
        assert answer.stored == (program.status == 0)
        seen.add(answer.stored)
    assert seen == {True, False}


def test_what_the_trace_bound_sees_of_a_circle() -> None:
    found = experiment.changed(circle_update(12).dense())
    assert found["trace_rank"] == pytest.approx(2.0, rel=1e-12)  # tr = 12 and ||A||^2 = 12^2 / 2, sums of 144 terms
    assert found["margin"] == pytest.approx(1 - math.cos(2 * math.pi / 12), rel=1e-12)
    assert experiment.changed(-np.eye(3))["margin"] == -1.0


def test_bad_settings_are_named(settings: dict) -> None:
    with pytest.raises(ValueError, match="typo"):
        experiment.cells({**settings, "typo": 1})
    with pytest.raises(ValueError, match="random_code_eps"):
        experiment.cells({**settings, "answers": {**settings["answers"], "ranks": [1, 2]}})
    with pytest.raises(ValueError, match="ranks"):
        experiment.cells({**settings, "squared": {**settings["squared"], "ranks": [1, 2]}})
