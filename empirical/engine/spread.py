"""How much of what worlds differ by is training, and how much is the world: where a world holds several repeats.

An experiment says by its member `repeats` what each repeat of training showed in each world; `table` splits the
variance, one way with random effects (the usual analysis of variance): that of a repeat about its world's mean, and
what the world means vary by beyond their share of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from theory.numerics import require


@dataclass(frozen=True)
class Repeats:
    """One number, in every repeat of every world; equally many repeats in each, at least two, and two worlds."""

    what: str
    worlds: Sequence[Sequence[float]]


class Spread(NamedTuple):
    """Standard deviations: `training` of one repeat about its world, `world` of the worlds themselves; 0 where the
    means of worlds vary by no more than their repeats explain."""

    what: str
    worlds: int
    repeats: int
    mean: float
    training: float
    world: float


def table(found: Iterable[Repeats]) -> list[Spread]:
    """A row for each number.

    Raises:
        ValueError: unequal numbers of repeats, fewer than two, or fewer than two worlds.
    """
    rows = []
    for one in found:
        sizes = {len(world) for world in one.worlds}
        fits = len(one.worlds) >= 2 and len(sizes) == 1 and min(sizes) >= 2
        require(fits, one.what, "two worlds or more, of equally many repeats, two or more", sorted(sizes))
        values = np.array(one.worlds)
        worlds, repeats = values.shape
        within = float(values.var(axis=1, ddof=1).mean())
        between = float(values.mean(axis=1).var(ddof=1))
        rows.append(
            Spread(one.what, worlds, repeats, float(values.mean()), within**0.5,
                   max(0.0, between - within / repeats) ** 0.5)
        )  # fmt: skip
    return rows
