"""The simulated scheduler against bounds that are proved, an optimum by trying all, and the driver itself."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empirical.engine.scheduler import Schedule, fitting, graham, lower_bound, simulate
from theory.numerics import stream

#: whole seconds, so that every sum below is exact in floating point
DURATIONS = st.lists(st.integers(0, 1000).map(float), max_size=40)
WORKERS = st.integers(1, 8)


def best(durations: list[float], workers: int) -> float:
    """The least makespan, by trying every assignment."""
    every = itertools.product(range(workers), repeat=len(durations))
    return min(max(sum(d for d, w in zip(durations, a, strict=True) if w == k) for k in range(workers)) for a in every)


@given(DURATIONS, WORKERS, st.sampled_from(["longest", "arrival"]))
def test_a_list_schedule_keeps_its_bounds(durations: list[float], workers: int, order: str) -> None:
    done = simulate(durations, workers, order)
    low = lower_bound(durations, workers)
    assert low * (1 - 1e-12) <= done.makespan  # total / workers is rounded once
    assert done.makespan <= graham(workers) * low * (1 + 1e-12)
    assert done.useful == sum(durations)
    assert (done.wasted, done.losses, done.failed) == (0.0, 0, 0)
    assert done.utilisation <= 1 + 1e-12


@given(st.lists(st.integers(0, 50).map(float), min_size=1, max_size=6), st.integers(1, 3))
def test_longest_first_keeps_its_sharper_bound(durations: list[float], workers: int) -> None:
    optimum = best(durations, workers)
    assert optimum <= simulate(durations, workers).makespan <= (4 / 3 - 1 / (3 * workers)) * optimum * (1 + 1e-12)


def test_both_bounds_are_attained() -> None:
    # Graham's examples for three workers: arrival order at 2 - 1/3, longest first at 4/3 - 1/9
    short_then_long = [1.0] * 6 + [3.0]
    assert simulate(short_then_long, 3, "arrival").makespan == 5.0 == graham(3) * lower_bound(short_then_long, 3)
    assert simulate(short_then_long, 3).makespan == 3.0
    hard = [5.0, 5.0, 4.0, 4.0, 3.0, 3.0, 3.0]
    assert simulate(hard, 3).makespan == 11.0
    assert best(hard, 3) == 9.0


@given(DURATIONS, WORKERS, st.integers(0, 2**32 - 1), st.sampled_from([20.0, 500.0]), st.integers(1, 4))
def test_what_dies_is_counted(durations: list[float], workers: int, seed: int, lives: float, attempts: int) -> None:
    done = simulate(durations, workers, between_losses=lives, restart=5.0, attempts=attempts, rng=stream(seed, "loss"))
    assert done.failed * attempts <= done.losses <= len(durations) * attempts
    assert done.wasted >= 5.0 * done.losses
    assert done.useful <= sum(durations)
    assert done.useful == sum(durations) or done.failed
    # every attempt ends by the makespan and each worker does one thing at a time; restarts may end after it
    assert done.useful + done.wasted - 5.0 * done.losses <= workers * done.makespan * (1 + 1e-12)


def test_losses_cost_what_renewal_theory_says() -> None:
    # attempts at a cell of d s on workers that live L s on average, replaced after r: mean (e^(d/L) - 1)(L + r)
    duration, lives, restart, count = 60.0, 100.0, 10.0, 4000
    done = simulate([duration] * count, 1, between_losses=lives, restart=restart, rng=stream(3, "renewal"))
    expected = count * (math.exp(duration / lives) - 1) * (lives + restart)
    # the time for one cell is at most geometric: a number G of losses (variance q/p^2, p = e^(-d/L)) of at most
    # d + r each; three standard deviations of the sum of `count` of them
    p = math.exp(-duration / lives)
    spread = 3 * math.sqrt(count * (1 - p) / p**2) * (duration + restart)
    assert abs(done.makespan - expected) < spread
    assert spread < 0.08 * expected
    assert done.failed == 0


def test_a_lost_cell_goes_to_the_end() -> None:
    class Once:
        """Kills the first attempt after 2 s and no other."""

        def __init__(self) -> None:
            self.lives = iter([2.0])

        def exponential(self, scale: float) -> float:
            return next(self.lives, float("inf"))

    done = simulate([4.0, 3.0, 3.0], 1, "arrival", between_losses=1.0, restart=1.0, rng=Once())  # type: ignore[arg-type]
    # lost at 2, back at 3, then 3 + 3 + 4
    assert done == Schedule(13.0, 10.0, 3.0, 1, 0, 1)


@given(DURATIONS, WORKERS)
def test_all_fit_into_the_makespan_and_none_into_nothing(durations: list[float], workers: int) -> None:
    assert fitting(durations, workers, simulate(durations, workers).makespan) == len(durations)
    assert fitting(durations, workers, 0.0) == sum(d == 0 for d in durations)
    assert fitting(durations, workers, -1.0) == 0


def test_what_fits_skips_what_is_too_long() -> None:
    assert fitting([90.0, 40.0, 30.0, 20.0], 1, 70.0) == 2  # 40 and 30
    assert fitting([90.0, 40.0, 30.0, 20.0], 2, 70.0) == 3


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([1.0, -1.0], 2), "durations: expected none below 0"),
        (([float("inf")], 2), "durations: expected a finite number"),
        (([1.0], 0), "workers: expected an integer >= 1"),
        (([1.0], 1, "shortest"), "order: expected one of longest, arrival"),
        (([1.0], 1, "longest", 5.0), "rng: expected a generator"),
        (([1.0], 1, "longest", 0.0), "between_losses: expected a positive time"),
    ],
)
def test_bad_input_is_named(arguments: tuple[object, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        simulate(*arguments)  # type: ignore[arg-type]


def test_nothing_to_do_takes_no_time() -> None:
    assert simulate([], 3) == Schedule(0.0, 0.0, 0.0, 0, 0, 3)
    assert simulate([], 3).utilisation == 1.0
