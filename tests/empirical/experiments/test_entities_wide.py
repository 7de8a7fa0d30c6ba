"""What entities leaves open, in one tiny world of every group: layers, facts, names, rehearsal."""

import numpy as np
import pytest

from empirical.engine.records import Record
from empirical.experiments import plain_english
from empirical.tasks.entities import REAL
from tests.empirical.experiments.live import labels, live, small, verdicts, worlds_that_answer
from tests.empirical.judged import mean, rates

SMALL = small("entities_wide")


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """The world of each group."""
    return {cell.group: live("entities_wide", cell) for cell in plain_english.world_cells(SMALL)}


def test_every_group_asks_what_it_is_there_for(records: dict[str, Record]) -> None:
    assert set(records["scan"].metrics.answered) == {"base", "first_0-0", "first_1-1", "first_0-1"}
    assert {"first_all", "first_all_typed"} <= set(records["typed"].metrics.answered)
    for name in ("made_up", "famous"):
        questions = records[name].metrics.answered["sum:early+late"].questions
        assert {"R", "H", "F"} <= set(questions)
    famous = {x for c in REAL for x in c.people}
    for name in ("made_up", "famous"):
        run = plain_english.WorldRun(records[name].cell, "cpu")
        assert {p.name in famous for p in run.world.people} == {name == "famous"}


def test_planted_outcomes_are_judged_as_what_they_are(records: dict[str, Record]) -> None:
    none, all_, old = {"neither": 4}, {"right": 4, "forced": 4, "old_forced": 4}, {"old": 4, "old_forced": 4}
    blocks = ("first_0-0", "first_1-1", "first_0-1")
    late, early = (worlds_that_answer(records["scan"], 20, {b: {"H": a} for b, a in zip(blocks, answers, strict=True)})
                   for answers in ((none, none, old), (old, old, none)))  # fmt: skip
    assert verdicts("entities_wide", SMALL, late)["scan.depth.forced"] == ("hypothesis", "violated")
    assert verdicts("entities_wide", SMALL, early)["scan.depth.forced"] == ("hypothesis", "holds")
    assert verdicts("entities_wide", SMALL, late)["scan.depth.free"][1] == "violated"
    assert verdicts("entities_wide", SMALL, early)["scan.depth.free"][1] == "holds"
    facts = worlds_that_answer(records["made_up"], 5, {"sum:early+late": {"R": all_, "H": none, "F": all_}})
    found = verdicts("entities_wide", SMALL, facts)
    assert found["made_up.R.H"][1] == "holds"
    assert found["made_up.H.F"][1] == found["made_up.F.blind"][1] == "violated"
    typed = {"first_all_typed": {"H": old}, "first_all": {"H": {"country": 4, "old_forced": 4}},
             "first_early_typed": {"H": none}, "first_early": {"H": old}}  # fmt: skip
    found = verdicts("entities_wide", SMALL, worlds_that_answer(records["typed"], 20, typed))
    assert found["typed.lambda.all.free"][1] == found["typed.country.all"][1] == "holds"
    assert found["typed.lambda.all.forced"][1] == "holds"
    assert found["typed.lambda.early.free"][1] == found["typed.lambda.early.forced"][1] == "violated"


def test_the_figures_name_every_block_and_every_kind(records: dict[str, Record]) -> None:
    blocks = ["0-0", "1-1", "0-1"]
    assert labels("entities_wide", [records["scan"]]) == [blocks]
    typed = ["early", "early, direct", "all", "all, direct"]
    assert labels("entities_wide", list(records.values())) == [blocks, ["R", "H", "F"], ["R", "H", "F"], typed]


# ------------------------------------------------------------ why rows stay undecided, in the committed worlds


def test_rehearsed_direct_questions_take_the_place_of_countries_alone() -> None:
    """The explanation of `typed.lambda.early.free`."""
    experts = ("first_early", "first_early_typed", "first_all")
    country, old = ({e: rates("entities_wide", "cpu", e, cell, group="typed") for e in experts}
                    for cell in ("H_country", "H_old"))  # fmt: skip
    early, typed, _ = experts
    assert (country[typed] < country[early]).all()
    assert [round(float(country[e].mean()), 2) for e in experts] == [0.25, 0.09, 0.82]  # as explained.toml has it
    rest = {e: (old[e] / (1 - country[e])).mean() for e in experts}
    assert abs(rest[typed] - rest[early]) < 0.05
    assert sum(old[typed] < old[early]) == 1


def test_one_world_of_five_is_above_chance_on_made_up_countries_of_famous_people() -> None:
    """The explanation of `famous.F.blind`."""
    found = rates("entities_wide", "cpu", "sum:early+late", "F_forced", group="famous")
    assert sum(found > 1 / 12) == 1
    assert found.mean() < 1 / 12


def test_made_up_capitals_and_made_up_countries_of_made_up_people_differ_in_two_worlds() -> None:
    """The explanations of `made_up.H.F` and `made_up.F.blind`."""
    found = {f: rates("entities_wide", "cpu", "sum:early+late", f"{f}_forced", group="made_up") for f in "RHF"}
    apart = found["H"] - found["F"]
    assert sorted(np.round(apart, 2).tolist())[-2:] == [0.22, 0.22]
    assert np.sum(np.abs(apart) < 0.06) == 3
    assert (found["R"] > np.maximum(found["H"], found["F"])).all()
    assert np.sum(found["F"] > 1 / 12 + 0.1) == 3
    # as explained.toml has it
    assert mean("entities_wide", "cpu", "random:early+late", "F_forced", group="made_up") == 0.08
    means = [mean("entities_wide", "cpu", "sum:early+late", f"{f}_forced", group=group)
             for group in ("made_up", "famous") for f in "HF"]  # fmt: skip
    assert means == [0.24, 0.16, 0.33, 0.07]
