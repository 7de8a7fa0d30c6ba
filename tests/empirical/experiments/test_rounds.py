"""rounds: a small world live, what is merged held against the parts, and wrong results that are seen."""

import numpy as np
import pytest
import torch

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.known import ask, margins
from empirical.experiments.rounds import run as experiment
from empirical.experiments.rounds.predictions import OFF
from empirical.experiments.rounds.tables import HeadsCell, Settings
from empirical.training.bases import updated
from empirical.training.forms import Values
from empirical.training.together import form_of
from tests.empirical.experiments.live import live, spoilt, verdicts
from tests.empirical.judged import records
from theory.lowrank import LowRank

SMALL = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 16, "new_persons": 8, "base_steps": 20, "steps": 6}


@pytest.fixture(scope="module")
def settings() -> Settings:
    found = catalogue.settings("rounds", "smoke")
    return found.but(
        heads=found.heads.but(**SMALL, batch=8, rank=2), masks=found.masks.but(**SMALL, rank=2, ensemble=2)
    )


@pytest.fixture(scope="module")
def results(settings: Settings) -> list[Record]:
    return [live("rounds", c) for c in experiment.cells(settings)]


def test_exact_predictions_hold_live_and_are_attained(settings: Settings, results: list[Record]) -> None:
    found = verdicts("rounds", settings, results)
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert len(exact) == len(settings.heads.conditions)
    assert set(exact.values()) == {"holds"}
    heads = results[0].metrics.rounds
    assert [r.rank for r in heads["going on 4"]] == [8] * 3  # H r, round after round
    assert [r.rank for r in heads["shards 2"]][:2] == [4, 8]  # T H r


def test_a_wrong_rank_is_violated(settings: Settings, results: list[Record]) -> None:
    wrong = spoilt(results[0], "rounds", "going on 4", 2, "rank", to=9)
    assert verdicts("rounds", settings, [wrong, results[1]])["heads.going.on.4.rank"] == ("exact", "violated")


def test_the_first_round_is_the_mean_of_the_heads(settings: Settings) -> None:
    """What is sealed of round 1 is what the heads say; a head alone is base plus its change."""
    cell = next(c for c in experiment.cells(settings) if isinstance(c, HeadsCell))
    run = experiment.HeadsRun(cell, "cpu")
    condition = next(c for c in cell.conditions if c.name == "shards 4")
    (first,) = run.rounds(condition.but(rounds=1))
    sealed = run.predicted["shards 4"]
    start = float(np.median(margins(ask(run.base, run.new), run.new)))
    assert sealed.margin[0] == pytest.approx(start + (first.alone_margin - start) / 4, abs=1e-9)
    assert first.alone.asked == first.right.asked == len(run.new.tokens)


def test_a_head_that_goes_on_changes_nothing_before_its_first_step(settings: Settings) -> None:
    cell = next(c for c in experiment.cells(settings) if isinstance(c, HeadsCell))
    run = experiment.HeadsRun(cell, "cpu")
    lora = form_of(run.base, run.job(cell.conditions[0], "a head", np.arange(4)))
    moved: Values = {n: v + 0.1 for n, v in lora.trained.items()}
    form = experiment.going_on(moved)
    still = form.updates({**form.fixed, **moved})
    assert max(u.norm() for u in still.values() if isinstance(u, LowRank)) < 1e-12
    later = form.updates({**form.fixed, **{n: v + 0.1 for n, v in moved.items()}})
    before = ask(run.base, run.new)
    with updated(run.base, later) as model:
        assert np.abs(ask(model, run.new) - before).max() > 1e-3


def test_masks_keep_the_share_that_they_say() -> None:
    draw = torch.Generator().manual_seed(0)
    values = {"keep": torch.tensor([1.0, 0.5, 0.5]), "gain": torch.tensor([1.0, 1.0, 2.0])}
    drawn = experiment.mask(torch.zeros(3, 1, 4000), values, draw)
    assert bool((drawn[0] == 1).all())
    # the share of 4000 fair draws is off by more than .04 once in two million
    assert drawn[1].mean() == pytest.approx(0.5, abs=0.04)
    assert set(drawn[2].unique().tolist()) == {0.0, 2.0}


def test_what_explains_two_heads_is_in_the_records() -> None:
    """The recursion of the claim, fed with the heads of each round, stays within the margin of the law."""
    worlds = [r for r in records("rounds", "cpu") if isinstance(r.cell, HeadsCell)]
    if not worlds:
        pytest.skip("rounds: no world has run")
    for world in worlds:
        rounds, law = world.metrics.rounds["shards 2"], world.metrics.predicted["shards 2"]
        margin = 2 * law.margin[0] - rounds[0].alone_margin  # the base's, from half of the way
        for seen in rounds:
            margin += (seen.alone_margin - margin) / 2
            assert abs(margin - seen.margin) <= OFF
