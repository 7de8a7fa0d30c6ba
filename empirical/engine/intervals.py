"""How far the mean over worlds is known: one rule for every number of worlds, and what a planned run would notice.

The unit is the world. Queries within a world share tables, base and experts, so they are never pooled.

*Rates of counts.* A world's rate is Beta distributed about the mean over worlds, its count binomial given the rate. A
mean is left out of the interval where the likelihood-ratio statistic of the beta-binomial model, maximised over the
deviation between worlds, passes what the t test would pass on normal worlds: ``n log(1 + t^2 / (n - 1))`` with the t
quantile at `SHARE` of the error (the rest pays for small samples). So the interval is never empty, never without width
and never outside [0, 1]; in the middle of the range it is the t interval in all but name, and near the ends, where the
t interval of skewed worlds is too short and in one direction, it is not. Worlds that all answer alike say nothing of
their deviation: it is taken to be at most `SPREAD`, or twice what was seen if that is more.

Simulated coverage at nominal .95 is at least .94 for means .02 to .98, deviations .02 to .15, 5 to 20 worlds and 10 to
200 questions (tests/empirical/engine/test_intervals.py). It is *not* where one world in ten fails altogether: with .2
in those and .995 in the rest (mean .9155), ten worlds cover .67, since a third of such runs meet no failed world.
No interval that is short for ten equal worlds can. Tables show the lowest world beside the mean for that reason.

*Other numbers* (differences of rates, ranks): the t interval at the same share, with a deviation between worlds of at
least one step of the number's own scale, such as one question.

Sources: Clopper-Pearson and t intervals as in scipy.stats; Venzon and Moolgavkar 1988 for profile likelihood
intervals; Crowder 1978 for the beta-binomial model of proportions in groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np

from empirical.engine.settings import Count
from theory.numerics import require, stream

#: of one world
Outcome = Count | float
#: largest deviation between worlds that is thought of where worlds agree
SPREAD = 0.2
#: of the error rate that is spent on the quantile
SHARE = 0.8
#: how many deviations the likelihood is maximised over
DEVIATIONS = 32
#: simulated runs per power
TRIALS = 2000


@dataclass(frozen=True)
class Alternative:
    """A plausible outcome that would refute a prediction.

    Args:
        says: the outcome in words, which do not tell two alternatives apart.
        mean: over worlds.
        deviation: between worlds.
        asked: questions per world, for rates; None for worlds that are plain numbers (then they are normal).
    """

    says: str = field(compare=False)
    mean: float
    deviation: float
    asked: int | None = None

    def __post_init__(self) -> None:
        require(self.deviation > 0, "alternative: deviation", "a number > 0", self.deviation)
        if self.asked is not None:
            possible = self.deviation**2 < self.mean * (1 - self.mean)
            require(possible, "alternative", "mean in (0, 1), deviation below (mean (1 - mean))^1/2", vars(self))

    def draw(self, worlds: int, trials: int) -> np.ndarray:
        """Runs of `worlds` worlds, (trials, worlds): right answers, or plain numbers. The same at every call."""
        rng = stream(0, "power")
        if self.asked is None:
            return rng.normal(self.mean, self.deviation, (trials, worlds))
        both = self.mean * (1 - self.mean) / self.deviation**2 - 1
        return rng.binomial(self.asked, rng.beta(self.mean * both, (1 - self.mean) * both, (trials, worlds)))


def _deviations(mean: np.ndarray, most: float) -> np.ndarray:
    """Deviations between worlds to try at each mean, (..., DEVIATIONS); the first stands for none."""
    top = np.minimum(most, 0.999 * np.sqrt(mean * (1 - mean)))
    found: np.ndarray = top[..., None] * np.linspace(0, 1, DEVIATIONS)
    return found


def _likelihood(right: np.ndarray, asked: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Log likelihood of a count up to what does not depend on the parameters; arguments broadcast."""
    from scipy import special

    both = mean * (1 - mean) / np.maximum(deviation, 1e-12) ** 2 - 1
    binomial = special.xlogy(right, mean) + special.xlog1py(asked - right, -mean)
    a, b = mean * both, (1 - mean) * both
    with np.errstate(invalid="ignore"):
        beta = special.betaln(right + a, asked - right + b) - special.betaln(a, b)
    # at the ends, and where there is so little deviation that betaln loses its digits
    found: np.ndarray = np.where((both > 1e6) | (mean * (1 - mean) == 0), binomial, beta)
    return found


class Rates:
    """What the counts of some worlds say of their mean rate."""

    def __init__(self, counts: Sequence[Count]) -> None:
        from scipy import optimize

        self.n = len(counts)
        found = np.array(counts, dtype=float)
        # worlds that are alike have one likelihood
        self.different, self.world = np.unique(found, axis=0, return_inverse=True)
        rates = found[:, 0] / found[:, 1]
        self.mean = math.fsum(rates) / self.n
        self.most = max(SPREAD, 2 * float(rates.std(ddof=1)) if self.n > 1 else 0.0)
        peak = optimize.minimize_scalar(lambda m: -self._profile(m), bounds=(0, 1), method="bounded",
                                        options={"xatol": 1e-9})  # fmt: skip
        # the ends are not tried by the search, and are the best where all or nothing is right
        best = [(self._profile(m), m) for m in (float(peak.x), self.mean, 0.0, 1.0)]
        self.top, self.best = max(best)

    def _profile(self, mean: float) -> float:
        at = np.array(mean)
        right, asked = self.different.T
        each = _likelihood(right, asked, at, _deviations(at, self.most)[:, None])
        return float(each.take(self.world, axis=1).sum(axis=1).max())

    def statistic(self, value: float) -> float:
        """Likelihood-ratio statistic of a mean of `value`; infinite where it is impossible."""
        if not 0 <= value <= 1:
            return math.inf
        return max(2 * (self.top - self._profile(value)), 0.0)

    def error(self, value: float) -> float:
        """The error rate at which `value` is just left out of the interval, in [0, 1]."""
        return float(_error(self.statistic(value), self.n))

    def interval(self, level: float) -> tuple[float, float]:
        """All means that are not left out, in [0, 1]."""
        from scipy import optimize

        limit = _limit(1 - level, self.n)

        def beyond(value: float) -> float:
            return min(self.statistic(value), 1e6) - limit

        low = 0.0 if beyond(0.0) <= 0 else float(optimize.brentq(beyond, 0.0, self.best, xtol=1e-7))
        high = 1.0 if beyond(1.0) <= 0 else float(optimize.brentq(beyond, self.best, 1.0, xtol=1e-7))
        return low, high


class Numbers:
    """What the numbers of some worlds say of their mean; `step` is the smallest deviation that is believed."""

    def __init__(self, values: Sequence[float], step: float) -> None:
        require(step > 0, "step", "the smallest deviation between worlds that is believed, > 0", step)
        self.n = len(values)
        self.mean = self.best = math.fsum(values) / self.n
        seen = math.fsum((v - self.mean) ** 2 for v in values) / (self.n - 1) if self.n > 1 else math.inf
        self.scale = max(math.sqrt(seen), step) / math.sqrt(self.n)

    def error(self, value: float) -> float:
        """The error rate at which `value` is just left out of the interval, in [0, 1]."""
        return float(_tail(abs(value - self.mean) / self.scale, self.n))

    def interval(self, level: float) -> tuple[float, float]:
        """All means that are not left out."""
        if self.n == 1:
            return -math.inf, math.inf
        half = _quantile(1 - level, self.n) * self.scale
        return self.mean - half, self.mean + half


def fit(outcomes: Sequence[Outcome], step: float | None = None) -> Rates | Numbers:
    """What the outcomes of some worlds say of their mean.

    Args:
        outcomes: one per world: all counts, or numbers.
        step: for numbers: the smallest deviation between worlds that is believed.
    """
    require(len(outcomes) > 0, "worlds", "at least one world", 0)
    counts = [o for o in outcomes if isinstance(o, Count)]
    if len(counts) == len(outcomes):
        return Rates(counts)
    return Numbers([o.rate if isinstance(o, Count) else float(o) for o in outcomes], step or 0.0)


def interval(outcomes: Sequence[Outcome], level: float, step: float | None = None) -> tuple[float, float]:
    """Two-sided interval for the mean over worlds, at `level` in (0, 1)."""
    return fit(outcomes, step).interval(level)


def tend(relation: str, target: float, margin: float, found: Rates | Numbers) -> tuple[str, float]:
    """(which way the outcome decides the prediction, the smallest error rate at which it does)."""
    low, high = target - margin, target + margin
    if relation == "equal":
        if low <= found.best <= high:
            return "holds", max(found.error(low), found.error(high))
        return "violated", found.error(low if found.best < low else high)
    holds = {"at_most": found.best <= target, "at_least": found.best >= target, "order": found.best > target}[relation]
    return "holds" if holds else "violated", found.error(target)


# ---------------------------------------------------------------- quantiles


def _quantile(error: float, n: int) -> float:
    from scipy import special

    return float(special.stdtrit(n - 1, 1 - SHARE * error / 2))


def _tail(quantile: Any, n: int) -> Any:
    from scipy import special

    if n == 1:
        return np.ones_like(np.asarray(quantile, dtype=float))
    return np.minimum(2 * special.stdtr(n - 1, -np.asarray(quantile, dtype=float)) / SHARE, 1.0)


def _limit(error: float, n: int) -> float:
    return math.inf if n == 1 else n * math.log1p(_quantile(error, n) ** 2 / (n - 1))


def _error(statistic: Any, n: int) -> Any:
    if n == 1:
        return np.ones_like(np.asarray(statistic, dtype=float))
    with np.errstate(over="ignore"):
        return _tail(np.sqrt((n - 1) * np.expm1(np.asarray(statistic) / n)), n)


# ---------------------------------------------------------------- power


@lru_cache(maxsize=64)
def _table(asked: int, extra: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(means, log likelihoods (means, DEVIATIONS, asked + 1)); the last means are `extra`."""
    from scipy import special

    means = np.concatenate([special.expit(np.linspace(-9, 9, 121)), extra])
    deviations = _deviations(means, SPREAD)
    return means, _likelihood(np.arange(asked + 1.0), np.array(asked), means[:, None, None], deviations[:, :, None])


def many_rates(right: np.ndarray, asked: int, values: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """`Rates` of many runs at once, on a grid of means: (likeliest mean (runs,), error of each value (values, runs)).

    Args:
        right: right answers (runs, worlds) of `asked` in each world.
        values: means, within (0, 1).
    """
    means, table = _table(asked, tuple(values))
    seen = np.zeros((len(right), asked + 1))
    np.add.at(seen, (np.arange(len(right))[:, None], right), 1.0)
    profile = (seen @ table.reshape(-1, asked + 1).T).reshape(len(right), len(means), -1).max(axis=2)
    # between the points of the grid the profile is a parabola; at its ends it is not
    grid = profile[:, : len(means) - len(values)]
    middle = np.clip(grid.argmax(axis=1), 1, grid.shape[1] - 2)
    before, at, after = (grid[np.arange(len(right)), middle + k] for k in (-1, 0, 1))
    bent = np.minimum(before + after - 2 * at, -1e-12)
    peak = np.where(at >= np.maximum(before, after), at - (after - before) ** 2 / (8 * bent), at)
    top = np.maximum(profile.max(axis=1), peak)
    each = [_error(2 * (top - profile[:, i]), right.shape[1]) for i in range(-len(values), 0)]
    return means[profile.argmax(axis=1)], np.array(each)


@cache
def power(
    alternative: Alternative, relation: str, target: float, margin: float, worlds: int, error: float,
    step: float | None = None,
) -> float:  # fmt: skip
    """Probability that `worlds` worlds of the alternative refute the prediction at an error rate of `error`.

    Simulated: `TRIALS` runs, the same at every call, hence made once.
    """
    drawn = alternative.draw(worlds, TRIALS)
    edges = (target - margin, target + margin)
    if alternative.asked is None:
        scale = np.maximum(drawn.std(axis=1, ddof=1), step or 0.0) / math.sqrt(worlds)
        best = drawn.mean(axis=1)
        low, high = (_tail(np.abs(best - e) / scale, worlds) for e in edges)
    else:
        inside = [min(max(e, 1e-9), 1 - 1e-9) for e in edges]
        best, (low, high) = many_rates(drawn, alternative.asked, inside)
    refuted = {
        "at_most": (best > target) & (high <= error),
        "at_least": (best < target) & (low <= error),
        "order": (best <= target) & (low <= error),
        "equal": ((best < edges[0]) & (low <= error)) | ((best > edges[1]) & (high <= error)),
    }
    return float(refuted[relation].mean())
