"""capacity_pretrained: a small world live, what it asks against the whole model, two ranks by hand, the floor."""

import numpy as np
import pytest
import torch

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.capacity_pretrained import run as experiment
from empirical.experiments.capacity_pretrained.run import Memory
from empirical.experiments.capacity_pretrained.tables import Settings
from empirical.experiments.pretrained import base_model
from empirical.tasks.entities import FIRST, REAL
from empirical.tasks.styles import FIRST_NAMES, SURNAMES
from empirical.training.bases import updated
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.lowrank import LowRank
from theory.numerics import stream

LAST = "model.layers.1.mlp.down_proj"


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("capacity_pretrained", "smoke")


@pytest.fixture(scope="module")
def memory(settings: Settings) -> Memory:
    return Memory(experiment.cells(settings)[0], "cpu")


@pytest.fixture(scope="module")
def result(settings: Settings) -> Record:
    return live("capacity_pretrained", experiment.cells(settings)[0])


def test_a_world_live(settings: Settings, result: Record) -> None:
    found = result.metrics
    wanted = [str(r) for r in (*settings.fitted, *settings.foretold)]
    assert list(found.ranks) == wanted
    sizes = [found.ranks[r].parameters for r in wanted]
    assert sizes == [sizes[0] * int(r) for r in wanted]
    assert set(found.law.foretold) == {str(r) for r in settings.foretold}
    assert found.ranks[str(max(settings.foretold))].drop > found.ranks["1"].drop > 0
    assert found.rounded["32"].recalled == found.ranks[str(settings.rank)].recalled
    assert found.circle["32"].bits == 32 * 2 * sizes[0]
    assert found.circle["32"].recalled.rate == 1 > found.circle["2"].recalled.rate


def test_what_is_asked_is_what_the_whole_model_says(settings: Settings, memory: Memory) -> None:
    model, reader = base_model("scratch", "cpu")
    rng = stream(0, "update")
    update = LowRank(rng.standard_normal((64, 3)), rng.standard_normal((3, 128)), 0.1)
    draw = stream(settings.first_seed, "facts")
    people = draw.permutation([f"{a} {b}" for a in FIRST_NAMES for b in SURNAMES])[: settings.facts]
    first = [reader.answer(c.name)[0] for c in REAL]
    values = [t for t in first if first.count(t) == 1]
    for change, said in ((LowRank(update.B, update.A, 0.0), memory.before), (update, memory.ask(update))):
        with updated(model, {LAST: change}), torch.no_grad():
            whole = [model(input_ids=torch.tensor([reader.prompt(FIRST.taught[0].format(x=x))])).logits[0, -1, values]
                     for x in people]  # fmt: skip
        np.testing.assert_allclose(said, torch.stack(whole).numpy(), rtol=1e-3, atol=1e-3)
    assert np.abs(memory.ask(update) - memory.before).max() > 0.1


def test_the_floor_is_that_of_the_leak(memory: Memory) -> None:
    assert memory.floor(memory.circle()) == 2
    # every value a direction of its own, every key too: no leak but what centring leaves
    code = np.eye(len(memory.head))[:, memory.answers]
    read = memory.read_out()
    free = LowRank(np.linalg.pinv(read - read.mean(axis=0)), code @ np.linalg.pinv(memory.keys.double().numpy()).T)
    assert memory.floor(free) >= len(np.unique(memory.answers)) - 2
    assert memory.floor(LowRank(-free.B, free.A)) == 1  # nothing rises


def test_an_adapter_below_its_floor_stops_the_run(settings: Settings, result: Record) -> None:
    said = catalogue.load("capacity_pretrained")
    assert said.broken(settings, [result]) is None
    assert "margin" in (said.broken(settings, [spoilt(result, "ranks", "4", "floor", to=5)]) or "")


def test_a_rank_by_hand_that_is_no_better_than_training_is_seen(settings: Settings, result: Record) -> None:
    spoiled = spoilt(result, "circle", "32", "recalled", to=list(result.metrics.ranks["2"].recalled))
    worlds = [live("capacity_pretrained", spoiled.cell.but(seed=seed), spoiled.metrics) for seed in range(3)]
    found = verdicts("capacity_pretrained", settings, worlds)
    assert found["hand"] == ("hypothesis", "violated")


@pytest.mark.parametrize("change", [{"facts": 577}, {"rank": 3}])
def test_settings_that_make_no_sense(settings: Settings, change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected"):
        experiment.cells(settings.but(**change))
