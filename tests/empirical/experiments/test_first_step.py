"""first_step: one step of peft's own adapters against the claim's function, powers of known sizes, planted outcomes."""

import numpy as np
import pytest
import torch

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.first_step import run as experiment
from empirical.experiments.first_step.predictions import power
from empirical.experiments.first_step.tables import Settings, Step
from empirical.experiments.known import known_world, trained_base
from empirical.tasks.sentences import Part, collate
from empirical.training.adapter import answer_loss, initial
from empirical.training.bases import generator, linear_modules
from tests.empirical.experiments.live import live, verdicts
from theory.adapters import first_step_power, first_update


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("first_step", "smoke").but(base_steps=3)


@pytest.fixture(scope="module")
def record(settings: Settings) -> Record:
    return live("first_step", experiment.cells(settings)[0])


def test_a_step_is_what_the_claim_says_of_the_gradient(settings: Settings) -> None:
    """The norm over all matrices, from the gradient of each frozen weight and the factor that was drawn."""
    cell = experiment.cells(settings)[0]
    world = known_world(cell, cell.seed)
    facts = world.first_hops(world.new)
    base = trained_base(cell, world, [Part(facts, 1.0)], "cpu").double()
    names = linear_modules(base)
    weights = [base.get_submodule(n).weight for n in names]
    for w in weights:
        w.requires_grad_(True)
    gradients = torch.autograd.grad(answer_loss(base, collate([facts])), weights)
    base.requires_grad_(False)
    for optimizer, rslora, zero in experiment.WAYS.values():
        draw, sizes = generator(cell.seed, "first_step", 2, zero), []
        for w, g in zip(weights, gradients, strict=True):
            a, b = initial(2, w.shape[1], draw).double().numpy(), initial(2, w.shape[0], draw).T.double().numpy()
            rate = getattr(cell.rates, optimizer)
            update = first_update(g.numpy(), a if zero == "B" else b, cell.alpha, rate, rslora, optimizer, zero)
            sizes.append(update.norm())
        found = experiment.first_step(cell, base, collate([facts]), 2, optimizer, rslora, zero)
        assert found.norm == pytest.approx(np.linalg.norm(sizes), rel=1e-9)  # some thousand roundings of doubles
        assert found.loss > 0


def test_a_power_is_read_off_sizes_that_have_it() -> None:
    steps = {str(r): Step(norm=3.0 * r**-1.5, loss=7.0 * r**0.5) for r in (1, 2, 8)}
    assert power(steps, "norm") == pytest.approx(-1.5, abs=1e-12)  # a few roundings
    assert power(steps, "loss") == pytest.approx(0.5, abs=1e-12)


def test_planted_outcomes_are_judged_as_what_they_are(settings: Settings, record: Record) -> None:
    """Worlds that obey the claim, and worlds in which the two conventions of the scale are exchanged."""

    def worlds(exchanged: bool) -> list[Record]:
        steps = {}
        for way, (optimizer, rslora, _) in experiment.WAYS.items():
            powers = {of: float(first_step_power(optimizer, of, rslora != exchanged)) for of in ("norm", "loss")}
            steps[way] = {str(r): {of: r**p for of, p in powers.items()} for r in settings.ranks}
        return [live("first_step", record.cell.but(seed=seed), {"steps": steps}) for seed in range(10)]

    assert {v for _, v in verdicts("first_step", settings, worlds(exchanged=False)).values()} == {"holds"}
    assert {v for _, v in verdicts("first_step", settings, worlds(exchanged=True)).values()} == {"violated"}
