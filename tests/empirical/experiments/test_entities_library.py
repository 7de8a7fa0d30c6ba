"""A library of three in a tiny world: two hops, and an expert for direct questions about other people."""

from typing import Any

import pytest

from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments import plain_english
from empirical.experiments.entities_library.predictions import ADDED
from tests.empirical.experiments.live import labels, live, small, verdicts, worlds_that_answer
from tests.empirical.judged import mean, rates

SMALL = small("entities_library")


@pytest.fixture(scope="module")
def record() -> Record:
    (cell,) = plain_english.world_cells(SMALL)
    return live("entities_library", cell)


def test_the_third_expert_is_shown_other_people_alone(record: Record) -> None:
    world = plain_english.WorldRun(record.cell, "cpu")
    shown = world.shown("direct_all")
    people, inside = {p.name for p in world.world.people}, {y for table in world.tables.values() for y in table}
    assert shown
    assert not any(name in q.prompt for q in shown for name in people | inside)
    three = {f"{m}:all+all+all" for m in SMALL.methods}
    assert three | {f"sum:{s}" for s in (*ADDED, *ADDED.values())} | {"random:early+late"} == set(
        record.metrics.merging
    )


def planted(record: Record, kept: dict[str, float], countries: dict[str, float], joined: str) -> list[Record]:
    """Ten worlds: shares of first hops that sums keep, of direct questions answered with the country, and who joins."""
    metrics: Any = as_json(record.metrics)
    said = {}
    for condition, scored in metrics["answered"].items():
        if condition in kept:
            scored["facts"]["first"] = [round(kept[condition] * 48), 48]
        country = round(countries.get(condition, 0.0) * 24)
        said[condition] = {"H": {"right": 24, "forced": 24} if condition == joined else {
            "country": country, "neither": 24 - country}}  # fmt: skip
    return worlds_that_answer(record, 10, said, metrics)


@pytest.mark.parametrize("helps", [False, True])
def test_each_prediction_holds_and_breaks_with_what_it_speaks_of(record: Record, helps: bool) -> None:
    """A third expert that takes facts and countries away, or gives both; the placed sum joins, or a merge of three."""
    two, three = [f"sum:{s}" for s in ADDED.values()], [f"sum:{s}" for s in ADDED]
    more, fewer = (three, two) if helps else (two, three)
    shares = dict.fromkeys(more, 0.75) | dict.fromkeys(fewer, 0.25)
    placed, merge = "sum:early+late", "mean:all+all+all"
    joined = merge if helps else placed
    found = verdicts(
        "entities_library", SMALL, planted(record, shares, {c: s for c, s in shares.items() if c != joined}, joined)
    )
    rows = [f"three.{row}.{s}" for row in ("fewer", "asks") for s in ADDED]
    if not helps:
        rows.remove("three.asks.early+late+late")  # the sum that joins everything names no country
    rows += ["three.placed.all+all+all.merge", "three.most.all+all+all.merge"]
    assert {row: found[row] for row in rows} == dict.fromkeys(rows, ("hypothesis", "violated" if helps else "holds"))


def test_the_figure_has_a_row_for_every_method(record: Record) -> None:
    names, *_ = labels("entities_library", [record], "y")
    assert {f"sum, {s}" for s in (*ADDED, *ADDED.values())} | {"arrow top1"} <= set(names)


# ------------------------------------------------------------ what the committed worlds show


def test_an_expert_for_direct_questions_takes_away_what_the_hops_join() -> None:
    """The explanation of `asks`, and what paper and recipe say: numbers as explained.toml has them."""
    run = ("entities_library", "gpu")
    sums = [f"sum:{s}" for pair in ADDED.items() for s in pair]
    assert {c: mean(*run, c, "H_country") for c in sums} == {
        "sum:all+all": 0.30, "sum:all+all+all": 0.03, "sum:early+late": 0.02, "sum:early+late+late": 0.01
    }  # fmt: skip
    assert round(float(rates(*run, "sum:early+late", "H_country").max()), 2) == 0.08
    # in every world the placed sum joins more without the third expert than with it
    assert (rates(*run, "sum:early+late", "H") > rates(*run, "sum:early+late+late", "H")).all()
    # alone it answers with capitals, and never with the right one
    assert mean(*run, "direct_late", "H_other_capital") > 0.7
    assert mean(*run, "direct_late", "H") == 0.0
