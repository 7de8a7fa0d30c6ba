"""The table of three ways of asking: what it says is what the worlds say, and one's own method is marked."""

import io

import pytest
from rich.console import Console

from empirical.engine import catalogue
from empirical.engine.intervals import interval
from empirical.engine.records import RESULTS
from empirical.engine.settings import Count
from empirical.engine.show import print_ways
from empirical.engine.ways import LEVEL, OWN, Asked, Share, table
from tests.empirical.judged import records


def test_worlds_of_a_method_stand_in_one_row() -> None:
    right = [Count(3, 10), Count(9, 10), Count(0, 0)]
    rows = table("toy", [
        *(Asked("sum@0.3", "a, b", "g", first=r, covered=r, survivors=Count(0, 0), seconds=s)
          for r, s in zip(right, (1.0, 3.0, None), strict=True)),
        Asked(OWN, "a, b", "g", second=Count(1, 4)),
        Asked("sum@0.3", "a, b", "h", uncovered=Count(1, 2)),
    ])  # fmt: skip
    summed, own, other = rows
    # a world that was not asked says nothing; the mean is over worlds, not over questions
    assert summed.first == summed.covered == Share(pytest.approx(0.6), *interval(right[:2], LEVEL))  # type: ignore[arg-type]
    assert (summed.survivors, summed.second, summed.worlds, summed.seconds) == (None, None, 3, 2.0)
    assert summed.limit == ("additive_limit",)
    assert not summed.own
    assert (own.own, own.limit, own.seconds) == (True, (), None)
    assert (other.group, other.worlds, other.covered) == ("h", 1, None)
    needy, free = table("toy", [Asked(m, "a, b, c", "g", adapters=3, few=5) for m in ("regmean", "mean")])
    assert (needy.examples, free.examples, summed.examples, own.examples) == (15, 0, 0, None)
    text = io.StringIO()
    print_ways(Console(file=text, width=200), rows)
    lines = [line for line in text.getvalue().splitlines() if "a, b" in line]
    assert [">" in line for line in lines] == [False, True, False]
    assert ".60 " in lines[0]
    assert text.getvalue().count("additive_limit") == 2


@pytest.mark.parametrize("name", [n for n in catalogue.names(RESULTS, "cpu") if catalogue.load(n).asked])
def test_the_committed_worlds_are_in_their_tables(name: str) -> None:
    found = records(name, "cpu")
    rows = catalogue.ways_of(name, found)
    summed = [row for row in rows if row.method == "sum"]
    assert summed
    asked = [a for a in catalogue.load(name).asked(found) if a.method == "sum"]  # type: ignore[misc]
    for row in rows:
        shares = (row.first, row.second, row.covered, row.uncovered, row.survivors)
        assert all(0 <= s.low <= s.mean <= s.high <= 1 for s in shares if s is not None), row
    for row in summed:
        mine = [a.first.rate for a in asked if (a.group, a.on) == (row.group, row.on) and a.first]
        assert row.first is not None
        assert row.first.mean == pytest.approx(sum(mine) / len(mine))
        assert row.worlds == len(mine)
