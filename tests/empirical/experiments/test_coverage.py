"""The two-hop experiment: its grid, the stack, the training it rests on, and one tiny world through every path."""

import json
import math

import numpy as np
import pytest
import torch

from empirical.engine.catalogue import settings as config
from empirical.engine.judge import judge
from empirical.experiments.coverage import run as coverage
from empirical.experiments.coverage.predictions import COMPOSING, PLACEMENTS
from empirical.tasks.sentences import Part, collate
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    TrainingDiverged,
    answer_logits,
    answer_loss,
    pretrain,
    train_adapter,
    train_everything,
    train_rows,
)
from empirical.training.bases import BaseShape, linear_modules, scratch_base, updated
from theory.composition import bridge_alignment
from theory.numerics import stream

TINY = {
    "stack": {"worlds": 1, "bridges": 4, "values": 3, "people": 8},
    "old_persons": 24,
    "new_persons": 8,
    "bridges": 6,
    "values": 4,
    "changed_relations": 2,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "feed_forward": 24,
    "base_steps": 12,
    "base_batch": 32,
    "adapter_steps": 4,
    "adapter_batch": 16,
    "rank": 2,
    "early": [0],
    "late": [1],
    "alpha_layer": 1,
    "kappa_layer": 1,
    "scan": True,
    "methods_placed": ["mean", "ties", "knots", "examples/my_merge.py:merge"],
    "groups": [
        {"name": "headline", "coverage": [0.5], "worlds": 1, "first_seed": 0},
        {"name": "sweep", "coverage": [0.0, 1.0], "worlds": 1, "first_seed": 5, "methods": [], "methods_placed": [],
         "experts": ["first_early", "second_late", "rows"], "scan": False},
    ],
}  # fmt: skip


def tiny(**changes):
    return {**config("coverage", "smoke"), **TINY, **changes}


@pytest.fixture(scope="module")
def records():
    """Every cell of the tiny grid, as the driver would store it: through JSON."""
    found = []
    for cell in coverage.cells(tiny()):
        text = json.dumps(coverage.run(cell, "cpu"), allow_nan=False)
        found.append({"cell": cell, "metrics": json.loads(text)})
    return found


@pytest.fixture(scope="module")
def small():
    world = World(WorldShape(old_persons=24, new_persons=8, bridges=6, values=4), 0)
    base = scratch_base(BaseShape(world.vocabulary.size, width=32, layers=2, heads=2, feed_forward=48), 0)
    pretrain(base, world.pretraining(documents=50), Schedule(120, 48, 1e-2), 0)
    return world, base


# ------------------------------------------------------------ grid and predictions


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_every_profile_has_a_grid_of_different_cells(profile):
    grid = coverage.cells(config("coverage", profile))
    assert len({json.dumps(c, sort_keys=True) for c in grid}) == len(grid)
    worlds = [c for c in grid if c["kind"] == "world"]
    headline = [c for c in worlds if c["group"] == "headline"]
    assert all(coverage.seconds(c) > 0 for c in grid)
    assert min(c["seed"] for c in worlds) >= 100  # seeds below 100 were used to choose placement and rates
    if profile != "smoke":
        assert len({c["seed"] for c in headline}) >= 10
        assert all(c["new_persons"] >= 100 for c in headline)
        assert len({c["coverage"] for c in worlds} - {0.5}) >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widht": 3}, "coverage: expected known keys, got widht"),
        ({"experts": ["first_all", "third"]}, "experts: expected some of .*, got third"),
        ({"methods": ["summ"]}, "method: expected one of"),
        ({"stack": {"worlds": 1}}, "coverage: stack: expected the keys"),
        ({"groups": [{"name": "a", "coverage": [0.5], "worlds": 1}]}, "coverage: group a: expected the keys"),
        ({"groups": [{"name": "a", "coverage": [0.5], "worlds": 1, "first_seed": 0, "seed": 1}]}, "got seed"),
    ],
)
def test_bad_configs_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        coverage.cells(tiny(**changes))


def test_predictions_are_fixed_by_kind_and_judged(records):
    found = coverage.predictions(tiny(), records)
    assert len({p.id for p in found}) == len(found)
    verdicts = dict(zip((p.id for p in found), judge(found), strict=True))
    for p in found:
        if p.kind == "exact":
            assert verdicts[p.id].verdict == "holds", p.id
    names = {p.id for p in found}
    wanted = ("law.placed", "additive.all", "oracle.rows", "chain.all.lower", "order.sum.swapped", "joint_like_sum")
    assert {f"headline.{w}" for w in wanted} | {"sweep.lambda.rows", "sweep.p2.placed", "sweep.exceeds"} <= names
    assert {p.kind for p in found} == {"exact", "ceiling", "hypothesis", "control"}


def test_law_is_read_off_the_single_experts(records):
    world = next(r["metrics"] for r in records if r["cell"].get("group") == "headline")
    law = world["predicted"]["coverage_law"]["value"]["placed"]
    k, n = world["scores"]["first_early"]["new_unchanged_covered"]
    j, m = world["scores"]["second_late"]["old_changed_covered"]
    assert law["covered"] == k / n * j / m
    assert coverage.seal(world["predicted"]["coverage_law"]["value"]) == world["predicted"]["coverage_law"]


def test_every_condition_is_scored_with_its_one_hops(records):
    world = next(r["metrics"] for r in records if r["cell"].get("group") == "headline")
    scores = world["scores"]
    alone = {"base", "joint", "joint_bridge", "direct", "identity", "everything", "first_0", "second_1"}
    sums = {"sum:all", "sum:placed", "sum:rows", "sum:swapped", "sum:shuffled", "random_first:placed"}
    for name in alone | sums | {"identity:placed", "knots:all", "arrow_top2_subtract:all", "own:placed"}:
        assert set(scores[name]) >= {"first_new", "second_changed", "first_old", "second_unchanged"}, name
    for counts in scores.values():
        assert all(0 <= k <= n for k, n in counts.values())
        assert counts["first_new"][1] == 16
        assert counts["new_changed_any"][1] == 8 * 2 * 2
        assert counts["new_unchanged_covered"][1] + counts["new_unchanged_uncovered"][1] == 8 * 2 * 2
    assert scores["cat:all"] == scores["sum:all"]


def test_no_coverage_leaves_covered_cells_empty(records):
    world = next(r["metrics"] for r in records if r["cell"].get("coverage") == 0.0)
    assert world["scores"]["sum:rows"]["new_changed_covered"] == [0, 0]


# ------------------------------------------------------------ the stack


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_stack_cells_agree_with_the_theory_prompt_by_prompt(placement):
    from theory.stack import place_edits, two_layer_stack

    cell = {"kind": "stack", "placement": placement, "seed": 3, "bridges": 5, "values": 3, "people": 9}
    found = coverage.run(cell, "cpu")
    rng = stream(3, "stack", "tables")
    p, q = rng.integers(5, size=9), rng.integers(3, size=5)
    stack = two_layer_stack(5, 3, 9)
    placed = place_edits(stack, p.tolist(), q.tolist(), placement)
    right = 0
    for i in range(9):
        values = stack.placed(stack.prompt("two_hop", i), placed)[5:]
        rivals = np.delete(values, q[p[i]])
        right += bool(values[q[p[i]]] > rivals.max() + 1e-9)  # whole numbers up to rounding
    assert found["two_hop"] == [right, 9]
    assert found["first_hop"] == [9, 9]
    assert found["second_hop"] == [5, 5]
    assert (found["two_hop"] == [9, 9]) == (placement in COMPOSING)


# ------------------------------------------------------------ scores of foretelling


def test_auc_counts_pairs():
    rng = stream(0, "auc")
    score, right = rng.integers(5, size=40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    assert coverage.auc(score, right) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert coverage.auc(score, np.arange(40) < 2) is None


def test_coefficients_are_bridge_alignment():
    rng = stream(0, "alpha")
    K, psi = rng.standard_normal((12, 5)), rng.standard_normal((12, 4))
    found = coverage.coefficients(K, psi)
    for i in range(4):
        # K is well conditioned (Gaussian, 12 x 5): both routes lose a few digits at most
        assert np.allclose(found[:, i], bridge_alignment(K, psi[:, i]).alpha, rtol=0, atol=1e-12)


# ------------------------------------------------------------ training


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


def test_padding_is_never_seen(small):
    world, base = small
    queries = world.queries(world.old)
    one, two = world.first_hops(world.old), world.direct(queries, "old")
    (mixed,) = collate([one, two])
    with torch.no_grad():
        together, _ = answer_logits(base, mixed)
        apart = torch.cat([answer_logits(base, collate([s])[0])[0] for s in (one, two)])
    assert torch.allclose(together, apart, rtol=0, atol=1e-5 * float(apart.abs().max()))  # float32, other batch shapes


def test_a_diverging_run_says_so(small):
    world, base = small
    job = Job("x", [Part(world.first_hops(world.new), 1.0)], AdapterShape(2, 4), Schedule(30, 16, 1e30, warmup=1), 0)
    with pytest.raises(TrainingDiverged, match="not finite") as caught:
        train_adapter(base, job)
    assert caught.value.config["name"] == "x"
    assert not any("lora" in name for name, _ in base.named_modules())


def test_bad_training_arguments_are_refused(small):
    world, base = small
    facts = [Part(world.first_hops(world.new), 1.0)]
    with pytest.raises(ValueError, match="layers: expected layers from 0 to 1, got 2"):
        train_adapter(base, Job("x", facts, AdapterShape(2, 4, (2,)), Schedule(1, 4, 1e-3), 0))
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
