"""Three ways of asking a method of reuse: does it keep both experts' facts, compose them, and compose what it kept?

An experiment says by its member `asked` what each method made of its experts in each world; `table` puts the worlds
together. Two hops alone say nothing of a method that wiped out the facts: hence one-hop facts beside them, and the
share among the questions whose two hops the method answers one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from empirical.engine.intervals import interval
from empirical.engine.settings import Count

#: confidence of the intervals
LEVEL = 0.95
#: of the user's method, in every experiment
OWN = "own"


@dataclass(frozen=True)
class Asked:
    """What a method made of some experts in one world; None where it was not asked.

    Args:
        method: a row of the methods, `OWN`, or what else was scored beside them.
        on: which experts.
        group: of the world.
        first, second: facts of each expert that are kept.
        covered, uncovered: two-hop questions answered, by whether the base composes over the bridge.
        survivors: those of `covered` whose two hops are answered one by one.
        seconds: of the processor, for the merge alone.
        adapters: how many are reused.
        few: examples that a method which is not data-free may see of each adapter's task, and of the task to be solved.
    """

    method: str
    on: str
    group: str
    first: Count | None = None
    second: Count | None = None
    covered: Count | None = None
    uncovered: Count | None = None
    survivors: Count | None = None
    seconds: float | None = None
    adapters: int = 2
    few: int = 0


class Share(NamedTuple):
    """A mean over worlds, and its interval at `LEVEL`."""

    mean: float
    low: float
    high: float


class Way(NamedTuple):
    """A method on some experts, over all worlds of a group; shares are None where nothing was asked."""

    experiment: str
    group: str
    on: str
    method: str
    worlds: int
    first: Share | None
    second: Share | None
    covered: Share | None
    uncovered: Share | None
    survivors: Share | None
    #: claims that bound it
    limit: tuple[str, ...]
    #: of the processor, for one merge
    seconds: float | None
    #: that it saw, and so is not data-free; None of one's own
    examples: int | None

    @property
    def own(self) -> bool:
        """Whether it is the user's."""
        return self.method == OWN


SHARES = ("first", "second", "covered", "uncovered", "survivors")


def table(experiment: str, asked: Iterable[Asked]) -> list[Way]:
    """A row for each method on each set of experts, in the order in which they come; worlds of a group together."""
    found: dict[tuple[str, str, str], list[Asked]] = {}
    for one in asked:
        found.setdefault((one.group, one.on, one.method), []).append(one)
    from empirical.reuse.methods import METHODS

    rows = []
    for (group, on, method), worlds in found.items():
        shares: dict[str, Any] = {name: _share([getattr(w, name) for w in worlds]) for name in SHARES}
        seconds = _mean([w.seconds for w in worlds if w.seconds is not None])
        row = METHODS.get(method.partition("@")[0])
        examples = None if method == OWN else row.examples(worlds[0].adapters, worlds[0].few) if row else 0
        rows.append(Way(experiment, group, on, method, len(worlds), limit=row.limit if row else (), seconds=seconds,
                        examples=examples, **shares))  # fmt: skip
    return rows


def _share(counts: Sequence[Count | None]) -> Share | None:
    asked = [count for count in counts if count is not None and count.asked]
    if not asked:
        return None
    rates = [count.rate for count in asked]
    return Share(sum(rates) / len(rates), *interval(asked, LEVEL))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
