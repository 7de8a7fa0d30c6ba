"""The order in which cells run, and what it costs: a simulation of the driver on known durations.

The driver is a list scheduler: whenever a worker is free it takes the next cell of a list. A cell that is lost with
its worker goes to the end of the list. `simulate` does the same with durations instead of cells.

Source: Graham 1969, "Bounds on multiprocessing timing anomalies" (any list: at most 2 - 1/k times the optimum on k
workers; longest first: at most 4/3 - 1/(3k) times).
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from theory.numerics import integer, one_of, real, require

ORDERS = ("longest", "arrival")


class Schedule(NamedTuple):
    """What became of a list of cells. All times in the unit of the durations."""

    #: end of the last cell
    makespan: float
    #: time that went into attempts that finished
    useful: float
    #: time that went into attempts that were lost, and into replacing their workers
    wasted: float
    #: attempts that were lost
    losses: int
    #: cells of which more attempts were lost than `attempts` allows; they did not finish
    failed: int
    workers: int

    @property
    def utilisation(self) -> float:
        """Useful time by workers x makespan; 1 for nothing to do."""
        return self.useful / (self.workers * self.makespan) if self.makespan else 1.0


def lower_bound(durations: Sequence[float], workers: int) -> float:
    """max(longest, total / workers): no schedule without loss ends earlier."""
    return max(max(durations, default=0.0), sum(durations) / workers)


def graham(workers: int) -> float:
    """2 - 1/k: any list schedule ends within this factor of `lower_bound`."""
    return 2.0 - 1.0 / workers


def simulate(
    durations: Sequence[float],
    workers: int,
    order: str = "longest",
    between_losses: float = float("inf"),
    restart: float = 0.0,
    attempts: int | None = None,
    rng: np.random.Generator | None = None,
) -> Schedule:
    """Run a list of durations on equal workers.

    Args:
        durations: of the cells, each >= 0, in their order of arrival.
        order: "longest" first or as they arrive.
        between_losses: mean time a worker lives, exponential; infinite for none that dies.
        restart: time until a worker that died is replaced.
        attempts: lost attempts after which a cell is given up; by default never.
        rng: needed if workers die.

    Raises:
        ValueError: negative or infinite durations, no workers, an unknown order, or deaths without `rng`.
    """
    integer(workers, "workers", 1)
    one_of(order, "order", ORDERS)
    cells = [real(d, "durations") for d in durations]
    require(min(cells, default=0.0) >= 0, "durations", "none below 0", min(cells, default=0.0))
    require(between_losses > 0, "between_losses", "a positive time", between_losses)
    mortal = between_losses != float("inf")
    require(not mortal or rng is not None, "rng", "a generator, since workers die", "none")
    listed = sorted(cells, reverse=True) if order == "longest" else cells
    queue = deque((d, 0) for d in listed)  # (duration, attempts lost)
    free = [0.0] * workers
    makespan = useful = wasted = 0.0
    losses = failed = 0
    lost: list[tuple[float, float, int]] = []  # (when, duration, attempts lost): known only when it happens
    while queue or lost:
        now = heapq.heappop(free)
        while lost and lost[0][0] <= now:
            _, duration, tries = heapq.heappop(lost)
            queue.append((duration, tries))
        if not queue:
            # nothing to do before the next loss is noticed
            heapq.heappush(free, lost[0][0])
            continue
        duration, tries = queue.popleft()
        # exponential lives forget their age, so each attempt draws its own
        lives = float(rng.exponential(between_losses)) if mortal and rng is not None else float("inf")
        if lives < duration:
            losses += 1
            wasted += lives + restart
            heapq.heappush(free, now + lives + restart)
            if attempts is None or tries + 1 < attempts:
                heapq.heappush(lost, (now + lives, duration, tries + 1))
            else:
                failed += 1
                makespan = max(makespan, now + lives)
            continue
        useful += duration
        makespan = max(makespan, now + duration)
        heapq.heappush(free, now + duration)
    return Schedule(makespan, useful, wasted, losses, failed, workers)


def fitting(durations: Sequence[float], workers: int, limit: float) -> int:
    """How many cells end by `limit` if each free worker takes the longest that still does."""
    integer(workers, "workers", 1)
    left = sorted(durations)
    free = [0.0] * workers
    while free:
        now = heapq.heappop(free)
        position = bisect_right(left, limit - now)
        if position:
            heapq.heappush(free, now + left.pop(position - 1))
    return len(durations) - len(left)
