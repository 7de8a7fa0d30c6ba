"""The rule of intervals: simulated coverage, its ends, and what a planned run would notice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from empirical.engine.intervals import SHARE, Alternative, Numbers, Rates, fit, interval, many_rates, power
from empirical.engine.settings import Count

WORST = [
    # mean, deviation, worlds, questions: corners of means .02 to .98, deviations .02 to .15, 5 to 20 worlds, 10 to 200
    # questions, and where a finer grid of these was covered least
    (0.02, 0.02, 5, 10), (0.02, 0.02, 20, 200), (0.02, 0.10, 5, 200), (0.02, 0.10, 20, 10), (0.05, 0.10, 20, 10),
    (0.05, 0.125, 20, 20), (0.05, 0.15, 10, 200), (0.10, 0.15, 10, 10), (0.10, 0.15, 5, 200), (0.30, 0.15, 5, 200),
    (0.30, 0.02, 20, 10), (0.50, 0.15, 5, 200), (0.50, 0.15, 20, 200), (0.50, 0.05, 5, 10), (0.70, 0.10, 14, 50),
    (0.90, 0.15, 20, 30), (0.95, 0.10, 20, 10), (0.98, 0.05, 10, 100), (0.98, 0.10, 7, 30), (0.98, 0.02, 5, 200),
]  # fmt: skip


def beta_worlds(mean: float, deviation: float, worlds: int, asked: int, runs: int = 2000) -> np.ndarray:
    """Right answers (runs, worlds)."""
    rng, both = np.random.default_rng(7), mean * (1 - mean) / deviation**2 - 1
    return rng.binomial(asked, rng.beta(mean * both, (1 - mean) * both, (runs, worlds)))


@pytest.mark.parametrize(("mean", "deviation", "worlds", "asked"), WORST)
def test_coverage(mean: float, deviation: float, worlds: int, asked: int) -> None:
    right = beta_worlds(mean, deviation, worlds, asked)
    _, (errors,) = many_rates(right, asked, [mean])
    for nominal in (0.95, 0.99):
        assert np.mean(errors > 1 - nominal) >= nominal - 0.01


def test_a_t_interval_would_not_cover() -> None:
    """What the rule is for: the same worlds under the t interval."""
    rates = beta_worlds(0.98, 0.05, 10, 100) / 100
    half = stats.t.ppf(0.975, 9) * rates.std(axis=1, ddof=1) / math.sqrt(10)
    assert np.mean(np.abs(rates.mean(axis=1) - 0.98) <= half) < 0.8


def test_a_world_that_failed_altogether_is_not_covered_and_the_page_says_so() -> None:
    rng = np.random.default_rng(0)
    failed = rng.random((2000, 10)) < 0.1
    right = rng.binomial(100, np.where(failed, 0.2, 0.995))
    _, (errors,) = many_rates(right, 100, [0.9155])
    covered = np.mean(errors > 0.05)
    from empirical.engine import intervals

    assert f"ten worlds cover {covered:.2f}".replace("0.", ".") in intervals.__doc__.replace("\n", " ")


def test_one_run_is_one_of_many() -> None:
    """The exact fit of a run, and the grid on which power is simulated, are one rule."""
    right = beta_worlds(0.3, 0.1, 8, 200, runs=40)
    _, errors = many_rates(right, 200, [0.25, 0.4])
    for i, run in enumerate(right):
        found = Rates([Count(int(k), 200) for k in run])
        for j, value in enumerate((0.25, 0.4)):
            assert found.error(value) == pytest.approx(errors[j, i], abs=0.02)


def test_in_the_middle_it_is_the_t_interval() -> None:
    rng = np.random.default_rng(3)
    counts = [Count(int(k), 100_000) for k in 100_000 * rng.normal(0.5, 0.03, 10)]
    rates = np.array([c.rate for c in counts])
    half = stats.t.ppf(1 - SHARE * 0.05 / 2, 9) * rates.std(ddof=1) / math.sqrt(10)
    low, high = interval(counts, 0.95)
    assert (low, high) == pytest.approx((rates.mean() - half, rates.mean() + half), abs=0.002)


@pytest.mark.parametrize("worlds", [1, 2, 5, 9, 10, 11, 20])
@pytest.mark.parametrize("right", [0, 3, 8])
def test_never_without_width_and_never_outside(worlds: int, right: int) -> None:
    low, high = interval([Count(right, 8)] * worlds, 0.95)
    assert 0 <= low <= right / 8 <= high <= 1
    assert high - low > 0.01


def test_more_worlds_say_more_and_ten_are_no_threshold() -> None:
    widths = [np.subtract(*interval([Count(k, 50) for k in ([14, 18] * n)[:n]], 0.95)[::-1]) for n in range(4, 14)]
    assert all(b < a for a, b in zip(widths[::2], widths[2::2], strict=False))
    assert abs(widths[6] - widths[5]) < abs(widths[1] - widths[0])


def test_the_error_is_where_the_interval_ends() -> None:
    for found in (fit([Count(3, 20), Count(5, 20), Count(9, 20), Count(2, 20)]), fit([0.1, 0.4, 0.2], step=0.05)):
        for end in found.interval(0.9):
            assert found.error(end) == pytest.approx(0.1, abs=1e-4)


def test_agreeing_numbers_are_known_to_one_step_only() -> None:
    low, high = interval([0.0] * 5, 0.95, step=0.1)
    assert high - low > 0.1
    with pytest.raises(ValueError, match="step"):
        fit([0.1, 0.2])


def test_power() -> None:
    far, near = Alternative("far", 0.48, 0.08, 100), Alternative("near", 0.39, 0.08, 100)
    assert power(far, "at_most", 0.375, 0, 10, 0.05) > 0.7 > 0.3 > power(near, "at_most", 0.375, 0, 10, 0.05)
    assert power(far, "at_most", 0.375, 0, 20, 0.05) > power(far, "at_most", 0.375, 0, 10, 0.05)
    assert power(far, "at_most", 0.375, 0, 10, 0.001) < power(far, "at_most", 0.375, 0, 10, 0.05)
    assert power(Alternative("itself", 0.375, 0.08, 100), "at_most", 0.375, 0, 10, 0.05) < 0.05
    step = Alternative("the other way", -0.1, 0.05)
    assert power(step, "order", 0.0, 0, 8, 0.05, step=0.01) > 0.95
    assert power(Alternative("elsewhere", 0.62, 0.05, 50), "equal", 0.4, 0.05, 6, 0.05) > 0.95
    assert power(far, "at_least", 0.65, 0, 10, 0.05) > 0.95


def test_an_alternative_that_no_worlds_can_have() -> None:
    with pytest.raises(ValueError, match="deviation"):
        Alternative("sure", 0.99, 0.2, 10)
    with pytest.raises(ValueError, match="deviation"):
        Alternative("without spread", 0.5, 0.0, 10)


def test_numbers_are_a_t_test() -> None:
    values = [1.0, 2.0, 2.5, 3.5]
    known = stats.ttest_1samp(values, 1.2).pvalue
    assert Numbers(values, 0.1).error(1.2) == pytest.approx(known / SHARE)
