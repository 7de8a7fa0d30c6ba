"""Coverage, taught to a base: one tiny world of either group through every path."""

from typing import Any

import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.engine.settings import as_json
from empirical.experiments.plain_english_tables import Answered
from empirical.experiments.taught import TaughtRun, cells
from empirical.experiments.taught_coverage.figures import plots
from empirical.tasks.entities import DIRECT, FIRST, SECOND
from tests.empirical.experiments.live import labels, live, small, verdicts

SMALL = small("taught_coverage")


@pytest.fixture(scope="module")
def runs() -> dict[str, TaughtRun]:
    """The world of each group, untrained."""
    return {cell.group: TaughtRun(cell, "cpu") for cell in cells(SMALL)}


@pytest.fixture(scope="module")
def records() -> dict[str, Record]:
    """The world of each group."""
    return {cell.group: live("taught_coverage", cell) for cell in cells(SMALL)}


def test_half_of_the_countries_is_covered_and_everybody_lives_where_the_sides_say(runs: dict[str, TaughtRun]) -> None:
    run, cell = runs["half"], runs["half"].cell
    assert {side: len(table) for side, table in run.tables.items()} == dict.fromkeys(
        ("F_covered", "F_uncovered", "H_covered", "H_uncovered"), cell.countries // 2
    )
    everybody = [*run.pupils, *run.fellows, *run.world.people]
    assert len({p.name for p in everybody}) == len(everybody) == 2 * cell.people
    for people, each in ((run.pupils, 2), (run.fellows, 1), (run.world.people, 1)):
        homes = [p.country for p in people]
        assert {homes.count(y) for y in run.world.old} == {each}
        assert all(p.country in run.tables[p.family] for p in people)
    # a capital is taken over by another country of the same side, so that a choice among them says nothing of the side
    for table in run.tables.values():
        assert {run.world.old[y] for y in table} == set(table.values())
        assert all(run.world.old[y] != z for y, z in table.items())
    assert set(runs["none"].tables) == {"F_uncovered", "H_uncovered"}


def texts(run: TaughtRun) -> list[str]:
    """What the base goes on training with, without its own text."""
    return [
        run.reader.tokenizer.decode(row[: int(n)])
        for part in run.teacher().parts[1:]
        for row, n in zip(part.sentences.tokens, part.sentences.lengths, strict=True)
    ]


def test_direct_questions_are_taught_of_pupils_over_covered_countries_alone(runs: dict[str, TaughtRun]) -> None:
    for run in runs.values():
        said = texts(run)
        for people, covered in ((run.pupils, True), (run.fellows, False), (run.world.people, False)):
            for p in people:
                taught = [f"{w.format(x=p.name)} {p.old}." in said for w in DIRECT.taught]
                assert taught == [covered and p.family.endswith("_covered")] * len(DIRECT.taught)
                known = p not in run.world.people
                assert all((f"{w.format(x=p.name)} {p.country}." in said) == known for w in FIRST.taught)
                held_out = [w.format(x=p.name) for w in (*DIRECT.held_out, *FIRST.held_out)]
                assert not [t for t in said if any(t.startswith(q) for q in held_out)]
        for y, z in run.world.old.items():
            assert all(f"{w.format(y=y)} {z}." in said for w in SECOND.taught)
            assert run.world.capital[y] not in {t.split()[-1][:-1] for t in said if y in t}


def test_experts_learn_new_people_and_new_capitals(runs: dict[str, TaughtRun]) -> None:
    run = runs["half"]
    first, second = run.shown("first_early"), run.shown("second_late")
    assert {q.answer for q in first} == set(run.world.old)
    assert len(first) == len(FIRST.taught) * len(run.world.people)
    assert {(q.prompt, q.answer) for q in second} == {
        (w.format(y=y), run.world.capital[y]) for w in SECOND.taught for y in run.world.old
    }


def test_every_condition_is_asked_by_side(records: dict[str, Record]) -> None:
    answered = records["half"].metrics.answered
    assert set(answered) == {"base", "first_early", "second_late", "sum:early+late", "random:early+late"}
    assert set(records["none"].metrics.answered) == {"base", "first_early"}
    sides = {"F_covered", "F_uncovered", "H_covered", "H_uncovered"}
    for name, scored in answered.items():
        fellows = set() if name == "first_early" else {f"fellows_{side}" for side in sides}
        assert set(scored.questions) == sides | fellows
        assert {"taught_first", "taught_second"} <= set(scored.facts)
    predicted = records["half"].metrics.predicted
    for how, old, new in ((predicted.free, "old", "right"), (predicted.forced, "old_forced", "forced")):
        for side in sides:
            law = how[f"early+late, {side}"]
            assert law.retrieval == Answered.total(answered["first_early"].questions[side]).kind(old).rate
            assert law.p2 == Answered.total(answered["second_late"].questions[f"fellows_{side}"]).kind(new).rate
    assert records["half"].metrics.losses.keys() == {"teacher", "first_early", "second_late"}


def planted(record: Record, covered: int, uncovered: int) -> list[Record]:
    """Five worlds in which every condition answers as many questions of three right, by side."""
    metrics: Any = as_json(record.metrics)
    for scored in metrics["answered"].values():
        for name, wordings in scored["questions"].items():
            right = uncovered if "uncovered" in name else covered
            for wording in wordings:
                free = "right" if name.startswith("fellows") else "old"
                counts = {free: right, "neither": 3 - right, "forced": right, "old_forced": right}
                wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live("taught_coverage", record.cell.but(seed=seed), metrics) for seed in range(5)]


def test_planted_outcomes_are_judged_as_what_they_are(records: dict[str, Record]) -> None:
    apart, turned = (verdicts("taught_coverage", SMALL, planted(records["half"], k, 3 - k)) for k in (3, 0))
    names = [f"half.{name}.{family}" for name in ("base", "lambda", "lambda.free", "p2.free") for family in ("F", "H")]
    assert {apart[name] for name in names} == {("hypothesis", "holds")}
    assert {turned[name] for name in names} == {("hypothesis", "violated")}
    assert apart["half.random"] == ("control", "violated")
    assert {apart[f"half.sum.{family}"][1] for family in "FH"} == {"violated"}
    assert {turned[f"half.sum.{family}"][1] for family in "FH"} == {"holds"}
    for right, verdict in ((3, "violated"), (0, "holds")):
        found = verdicts("taught_coverage", SMALL, planted(records["none"], right, right))
        assert found["none.lambda.F"] == ("hypothesis", verdict)


def test_the_base_is_put_back(runs: dict[str, TaughtRun], records: dict[str, Record]) -> None:
    run = runs["half"]
    before = {name: p.clone() for name, p in run.base.named_parameters()}
    run.run()
    assert all((p == before[name]).all() for name, p in run.base.named_parameters())


def test_the_figure_names_every_side(records: dict[str, Record]) -> None:
    assert labels("taught_coverage", []) == []
    sides = ["F covered", "F uncovered", "H covered", "H uncovered"]
    assert labels("taught_coverage", list(records.values())) == [sides, [*sides, "F none", "H none"], sides, sides]
    assert labels("taught_coverage", [records["half"]]) == [sides] * 4


def test_the_figure_shows_the_families_that_the_worlds_have(records: dict[str, Record]) -> None:
    def alone(family: str, record: Record) -> Record:
        metrics: Any = as_json(record.metrics)
        for scored in metrics["answered"].values():
            for kind in ("questions", "survivors"):
                scored[kind] = {name: c for name, c in scored[kind].items() if f"{family}_" in name}
        return live("taught_coverage", record.cell.but(families=[family]), metrics)

    sides = ["covered", "uncovered"]
    for family in "FH":
        found = labels("taught_coverage", [alone(family, r) for r in records.values()])
        assert found == [sides, [*sides, "none"], sides, sides]


def test_the_figure_of_the_committed_run_marks_what_was_measured() -> None:
    found = catalogue.records("taught_coverage", "gpu")
    worlds, none = ([r for r in found if r.cell.group == group] for group in ("half", "none"))
    (plot,) = plots.values()
    figure = plot(found, [])
    assert figure is not None

    def marks(axis: Any) -> list[float]:
        return sorted(float(line.get_ydata()[0]) for line in axis.lines if len(line.get_xdata()) == 1)

    def means(of: list[Record], condition: str, *names: str) -> list[float]:
        return [sum(r.metrics.scores[condition][name].rate for r in of) / len(of) for name in names]

    old = [f"F_{side}{how}" for side in ("covered", "uncovered") for how in ("_old", "_old_forced")]
    new = [f"F_{side}{how}" for side in ("covered", "uncovered") for how in ("", "_forced")]
    base, first, second, both = map(marks, figure.axes)
    assert base == pytest.approx(sorted(means(worlds, "base", *(f"fellows_{name}" for name in old))))
    assert first == pytest.approx(sorted(means(worlds, "first_early", *old) + means(none, "first_early", *old[2:])))
    assert second == pytest.approx(sorted(means(worlds, "second_late", *(f"fellows_{n}" for n in (*old, *new)))))
    assert both == pytest.approx(sorted(means(worlds, "sum:early+late", *old, *new)))
    for axis, sizes in zip(figure.axes, ((6, 6), (6, 6, 12), (6, 6), (6, 6)), strict=True):
        lines: list[Any] = [line for line in axis.lines if line.get_color() == "black"]
        assert [line.get_ydata()[0] for line in lines] == pytest.approx([1 / n for n in sizes])
