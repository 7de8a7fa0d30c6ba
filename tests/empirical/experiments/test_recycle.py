"""recycle: a small world live; probing, conflicts and recovery held against loops over planted answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue, sealed
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.recycle import run as experiment
from empirical.experiments.recycle.predictions import DISTILLED, EXPERTS, MERGES
from empirical.experiments.recycle.tables import Settings
from tests.empirical.experiments.live import live
from theory.numerics import stream


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("recycle", "smoke").but(base_steps=5, steps=4, one_steps=4)


@pytest.fixture(scope="module")
def run(settings: Settings) -> experiment.WorldRun:
    return experiment.WorldRun(experiment.cells(settings)[0], "cpu")


@pytest.fixture(scope="module")
def result(settings: Settings) -> Record:
    return live("recycle", experiment.cells(settings)[0])


def test_every_expert_and_every_adapter_in_their_place_is_measured(run: experiment.WorldRun, result: Record) -> None:
    found = result.metrics
    assert tuple(found.probed) == (*EXPERTS, *MERGES)
    assert set(found.found) == {*MERGES, *DISTILLED, "joint"}
    sizes = [len(t.tokens) for t in run.tasks]
    assert [c.asked for c in found.found["joint"].tasks] == sizes
    assert found.foretold["raw"].asked == sum(sizes)
    assert found.probed["sum"].alone == Count.total(found.found["sum"].tasks)


def test_all_prompts_are_asked_once(run: experiment.WorldRun) -> None:
    w = run.world
    shape = w.shape
    assert len(run.prompts.tokens) == len(run.place)
    assert len(run.place) == shape.persons * (shape.first_relations + 1) + shape.bridges * shape.second_relations
    assert np.array_equal(run.probe({}).given, run.before.given)


def planted(run: experiment.WorldRun) -> list[experiment.Answers]:
    """Four experts that change some answers by chance, with chances of their own."""
    rng = stream(0, "planted")
    said = []
    for _ in EXPERTS:
        given = run.before.given.copy()
        moved = rng.random(len(given)) < 0.4
        given[moved] = rng.integers(5, 9, size=moved.sum())
        said.append(experiment.Answers(given, rng.random(len(given))))
    return said


def test_recovery_is_that_of_a_loop_over_prompts(run: experiment.WorldRun) -> None:
    said = planted(run)
    raw, surest, clashes, changed = set(), set(), 0, 0
    for i, (x, r, _) in enumerate(run.prompts.tokens.tolist()):
        claims = [(s.sure[i], int(s.given[i])) for s in said if s.given[i] != run.before.given[i]]
        raw |= {(x, r, token) for _, token in claims}
        if claims:
            surest.add((x, r, max(claims)[1]))
            changed += 1
            clashes += len({token for _, token in claims}) > 1
    found = {name: run.recovered(said, surest=name == "surest") for name in DISTILLED}
    assert {tuple(row) for row in found["raw"].tokens.tolist()} == raw
    assert {tuple(row) for row in found["surest"].tokens.tolist()} == surest
    assert len(found["raw"].tokens) == len(raw) > len(surest) == len(found["surest"].tokens)
    assert run.conflicts(said) == (clashes, changed)
    silent = run.silent(said)
    assert len(silent.tokens) == len(run.prompts.tokens) - changed
    assert {tuple(row[:2]) for row in silent.tokens.tolist()}.isdisjoint({row[:2] for row in raw})


def test_what_is_foretold_is_what_stands_right(run: experiment.WorldRun) -> None:
    """Experts that say what they were taught and nothing else: all is recovered; a lie that is surer is believed."""
    said = []
    for task in run.tasks:
        given = run.before.given.copy()
        places, answers = run.taught([task])
        given[places] = answers
        said.append(experiment.Answers(given, np.full(len(given), 0.5)))
    facts = sum(len(t.tokens) for t in run.tasks)
    for name in DISTILLED:
        assert run.foretold(run.recovered(said, surest=name == "surest")) == (facts, facts)
    for expert, task in zip(said, run.tasks, strict=True):
        found = run.probed(expert, [task])
        assert found.alone.rate == found.recalled.rate == found.taught.rate == 1.0
    place = run.taught(run.tasks[:1])[0][0]
    lie = next(t for t in (5, 6) if t not in (said[0].given[place], run.before.given[place]))
    said[1].given[place], said[1].sure[place] = lie, 0.9
    for name in DISTILLED:
        assert run.foretold(run.recovered(said, surest=name == "surest")) == (facts - 1, facts)
    said[1].sure[place] = 0.1
    assert run.foretold(run.recovered(said, surest=True)) == (facts, facts)


def test_what_was_recovered_is_sealed_before_it_is_taught(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lines = tmp_path / "results", []
    folder.mkdir()
    train = experiment.WorldRun.trained

    def trained(self: experiment.WorldRun, *args: Any) -> Any:
        lines.append(len(kept.text.splitlines()))
        return train(self, *args)

    monkeypatch.setattr(experiment.WorldRun, "trained", trained)
    with sealed.sealing(folder / sealed.FOLDER / "cell.json") as kept:
        metrics = experiment.run_world(experiment.cells(settings)[0], "cpu")
    assert lines == [0, len(DISTILLED)]
    found = {line["name"]: tuple(line["value"]) for line in map(json.loads, kept.text.splitlines())}
    assert found == {f"foretold.{name}": metrics.foretold[name] for name in DISTILLED}
