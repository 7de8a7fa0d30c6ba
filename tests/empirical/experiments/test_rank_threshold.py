"""rank_threshold: a small world live, its exact predictions, and wrong results that are seen."""

import math
from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.rank_threshold import run as experiment
from tests.empirical.experiments.live import live, planted, verdicts
from theory.facts import circle_update
from theory.numerics import stream


@pytest.fixture(scope="module")
def settings() -> experiment.Settings:
    small = catalogue.settings("rank_threshold", "smoke")
    return small.but(
        worlds=1,
        squared=small.squared.but(ranks=(1, 4, 8), steps=250),
        answers=small.answers.but(ranks=(2, 24, 48), steps=60),
        memory=small.memory.but(sizes=(4, 8), large=10, worlds=1),
    )


@pytest.fixture(scope="module")
def results(settings: experiment.Settings) -> list[Record]:
    return [live("rank_threshold", cell) for cell in experiment.cells(settings)]


def test_exact_predictions_hold_in_a_live_world(settings: experiment.Settings, results: list[Record]) -> None:
    found = verdicts("rank_threshold", settings, results)
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert set(exact) == {"floor", "base", "trace", "margin"}
    assert set(exact.values()) == {"holds"}
    squared = results[0].metrics
    assert squared.errors[-1] < settings.squared.zero < squared.errors[0]


@pytest.mark.parametrize(
    ("part", "key", "wrong", "prediction"),
    [
        ("squared", "errors", (0.0,) * 3, "floor"),
        ("answers", "trace_rank", (2.1, 1.0, 1.0), "trace"),
        ("answers", "eps_mean_square", (0.1, 0.1, 0.1), "margin"),
        ("answers", "base", Count(1, 96), "base"),
    ],
)
def test_a_wrong_result_is_violated(
    settings: experiment.Settings, results: list[Record], part: str, key: str, wrong: Any, prediction: str
) -> None:
    wrongly = planted(results, lambda r: r.cell.part == part, **{key: wrong})
    assert verdicts("rank_threshold", settings, wrongly)[prediction] == ("exact", "violated")


def test_a_cell_gives_the_same_numbers_twice(results: list[Record]) -> None:
    assert live("rank_threshold", results[0].cell) == results[0]


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


def test_ranks_from_which_nothing_can_be_read_are_named(settings: experiment.Settings) -> None:
    with pytest.raises(ValueError, match="random_code_eps"):
        experiment.cells(settings.but(answers=settings.answers.but(ranks=(1, 2))))
    with pytest.raises(ValueError, match="ranks"):
        experiment.cells(settings.but(squared=settings.squared.but(ranks=(1, 2))))


def test_rivals_are_those_of_the_largest_of_many_gaussians() -> None:
    """To first order; nearer to half the square of the median of the largest of p than log p is, and ever nearer."""
    from scipy import stats

    off = []
    for p in (200, 2000, 20000, 200_000):
        half = stats.norm.isf(1 - 0.5 ** (1 / p)) ** 2 / 2
        off.append(abs(experiment.rivals(p) - half) / half)
        assert abs(experiment.rivals(p) - half) < abs(math.log(p) - half) / 3
    assert off == sorted(off, reverse=True)
    assert experiment.rivals(1) == experiment.rivals(4) == 0.0
