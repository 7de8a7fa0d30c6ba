"""replay: a small world live, exposures counted in the batches themselves, and what is said of buffers and ways."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.known import known_world
from empirical.experiments.replay import run as experiment
from empirical.experiments.replay.predictions import declare, facts, ways
from empirical.experiments.replay.tables import Settings
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.continual import exposures


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("replay", "smoke").but(base_steps=5, steps=(4, 8), buffer_steps=4, rehearsals=(8, 16, 32))


@pytest.fixture(scope="module")
def results(settings: Settings) -> list[Record]:
    return [live("replay", cell) for cell in experiment.cells(settings)]


def test_every_run_and_buffer_is_measured(settings: Settings, results: list[Record]) -> None:
    many, few = (r.metrics for r in results)
    assert (many.base.asked, few.base.asked) == (facts(settings, settings.old_persons), facts(settings, settings.fewer))
    assert len(many.runs) == len(few.runs) == len(settings.shares) * len(settings.steps)
    assert {n: (b.inside.asked, b.outside.asked) for n, b in many.buffers.items()} == {
        str(m): (m, many.base.asked - m) for m in settings.buffers
    }
    assert not few.buffers
    assert all(r.outside.asked == 0 for r in many.runs.values())


@pytest.mark.parametrize(("share", "steps", "buffer"), [(0.25, 40, 20), (0.5, 20, 8), (0.125, 80, 64)])
def test_exposures_are_how_often_the_trainer_shows_a_fact(
    settings: Settings, share: float, steps: int, buffer: int
) -> None:
    cell = experiment.cells(settings)[0].but(shares=(share,), steps=(steps,))
    world = known_world(cell, cell.seed)
    new, old = world.first_hops(world.new), world.replay().take(np.arange(buffer))
    plan = experiment.Plan(share, steps, np.arange(buffer))
    job = experiment.job_of(cell, "a run", plan, new, old)
    shown = Counter(tuple(row) for step in islice(job.data(), steps) for batch in step for row in batch.tokens.tolist())
    rehearsed = [shown[tuple(row)] for row in old.tokens.tolist()]
    assert np.mean(rehearsed) == pytest.approx(float(exposures(share, cell.batch, steps, buffer)))
    assert max(rehearsed) - min(rehearsed) <= 1
    assert sum(shown.values()) == cell.batch * steps


def test_ways_have_one_number_of_rehearsed_examples(settings: Settings) -> None:
    profile = catalogue.settings("replay", "cpu")
    assert ways(profile, 120) == ["0.03125 60", "0.015625 120", "0.0078125 240"]
    with pytest.raises(ValueError, match="rehearsals: expected a product of share, batch and steps, got 7"):
        ways(settings, 7)
    # a quarter of the facts: what is compared at equal exposures
    assert facts(profile, profile.old_persons) == 4 * facts(profile, profile.fewer)


def test_no_gain_outside_and_exposures_that_decide_are_seen(settings: Settings, results: list[Record]) -> None:
    """The two sides that the claim leaves open, planted."""
    many, few = results
    asked = many.metrics.base.asked
    base = spoilt(many, "runs", "0 4", "inside", to=[asked // 2, asked])
    said = {p.id: p for p in declare(settings)}
    size = str(max(settings.buffers))
    outside = asked - int(size)
    gain = [
        said[f"outside.{size}"].of([spoilt(base, "buffers", size, "outside", to=[right, outside]), few])
        for right in (outside // 2, outside)
    ]
    assert gain == [pytest.approx(0.0, abs=0.01), pytest.approx(0.5, abs=0.01)]
    number = settings.rehearsals[0]
    names = ways(settings, number)
    alike = few
    for name in names:
        alike = spoilt(alike, "runs", name, "inside", to=[18, 18])
    lost = said[f"facts.{number}"].of([many, alike])
    assert lost == pytest.approx(1 - np.mean([many.metrics.runs[n].inside.rate for n in names]))
    assert set(verdicts("replay", settings, results)) == set(said)
