"""Training on a base: adapters, rows, everything; what they change, what they leave alone, what they refuse."""

import math

import numpy as np
import pytest
import torch

from empirical.tasks.sentences import Part, collate
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    answer_loss,
    pretrain,
    train_adapter,
    train_everything,
    train_rows,
)
from empirical.training.bases import BaseShape, linear_modules, scratch_base, updated


@pytest.fixture(scope="module")
def small():
    world = World(WorldShape(old_persons=24, new_persons=8, bridges=6, values=4), 0)
    base = scratch_base(BaseShape(world.vocabulary.size, width=32, layers=2, heads=2, feed_forward=48), 0)
    pretrain(base, world.pretraining(documents=50), Schedule(120, 48, 1e-2), 0)
    return world, base


def same_state(a, b):
    return all(torch.equal(v, b[k]) for k, v in a.items())


def test_an_adapter_learns_what_it_is_shown_and_leaves_the_base_alone(small):
    world, base = small
    before = {k: v.clone() for k, v in base.state_dict().items()}
    facts = world.first_hops(world.new)
    job = Job("first", [Part(facts, 1.0)], AdapterShape(4, 8, (1,)), Schedule(60, 16, 2e-2), 0)
    trained, again = train_adapter(base, job), train_adapter(base, job)
    assert same_state(before, base.state_dict())
    assert not any(p.requires_grad for p in base.parameters())
    assert set(trained.updates) == set(linear_modules(base, [1]))
    assert {u.columns for u in trained.updates.values()} == {4}
    assert {u.scale for u in trained.updates.values()} == {2.0}
    for name, update in trained.updates.items():
        assert (update.B == again.updates[name].B).all()
        assert (update.A == again.updates[name].A).all()
    assert trained.losses == again.losses
    with updated(base, trained.updates) as model, torch.no_grad():
        loss = answer_loss(model, collate([facts]))
    assert float(loss) < 0.5 * trained.losses[0]
    other = train_adapter(base, Job("first", job.parts, job.shape, job.schedule, 1))
    assert other.losses != trained.losses


def test_written_updates_answer_as_peft_does(small):
    """The loss that training saw at a step is the loss of the written-out updates of the step before."""
    world, base = small
    facts = world.first_hops(world.new)
    longer = Job("step", [Part(facts, 1.0)], AdapterShape(2, 4), Schedule(5, 16, 1e-2, warmup=1, floor=1.0), 0)
    shorter = Job("step", longer.parts, longer.shape, Schedule(4, 16, 1e-2, warmup=1, floor=1.0), 0)
    seen = train_adapter(base, longer).losses[4]
    with updated(base, train_adapter(base, shorter).updates) as model, torch.no_grad():
        # batches of 16 sentences show all 16 facts at every step
        assert float(answer_loss(model, collate([facts]))) == pytest.approx(seen, rel=1e-5)  # float32, order of sums


def test_rows_change_only_their_tokens(small):
    world, base = small
    tokens = world.vocabulary.tokens("person", world.new)
    facts = world.first_hops(world.new)
    trained = train_rows(base, tokens, [Part(facts, 1.0)], Schedule(30, 16, 3e-2), 0)
    change = trained.updates["model.embed_tokens"].dense()
    assert set(np.flatnonzero(np.abs(change).sum(axis=1))) <= set(tokens.tolist())
    assert trained.losses[-1] < trained.losses[0]
    with updated(base, trained.updates) as model, torch.no_grad():
        assert float(answer_loss(model, collate([facts]))) < trained.losses[0]
        assert model.lm_head.weight is model.model.embed_tokens.weight


def test_full_fine_tuning_returns_all_changes(small):
    world, base = small
    before = {k: v.clone() for k, v in base.state_dict().items()}
    facts = world.first_hops(world.new)
    trained = train_everything(base, [Part(facts, 1.0)], Schedule(20, 16, 3e-3), 0)
    assert same_state(before, base.state_dict())
    assert set(trained.updates) == {n.removesuffix(".weight") for n, _ in base.named_parameters()}
    with updated(base, trained.updates) as model, torch.no_grad():
        assert float(answer_loss(model, collate([facts]))) < 0.5 * trained.losses[0]


def test_bad_training_arguments_are_refused():
    with pytest.raises(ValueError, match="rank: expected an integer >= 1"):
        AdapterShape(0, 1)
    with pytest.raises(ValueError, match="rate: expected a positive"):
        Schedule(1, 1, 0.0)
    with pytest.raises(ValueError, match="width: expected a multiple of 4"):
        scratch_base(BaseShape(10, width=18), 0)


def test_schedule_warms_up_and_ends_at_its_floor():
    plan = Schedule(100, 1, 1.0, warmup=10, floor=0.05)
    factors = [plan.factor(s) for s in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1.0
    assert factors[-1] == pytest.approx(0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * 89 / 90)), rel=1e-12)
    assert factors[-1] < 0.0503
