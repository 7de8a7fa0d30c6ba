"""Many adapters at once: the same as peft one by one, whatever their shapes and schedules, and whatever goes wrong.

How far two float64 runs may be apart is not picked but measured on the sequential run itself: every gradient of it is
moved by what rounding in another order can do to it, and what training makes of that is the tolerance (`deviations`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import nn

from empirical.engine.catalogue import settings
from empirical.experiments.coverage import run as coverage
from empirical.experiments.coverage.tables import WorldCell
from empirical.tasks.sentences import Part, Sentences, ragged
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    TrainingDiverged,
    answer_logits,
    answer_loss,
    pretrain,
    train_adapter,
)
from empirical.training.bases import BaseShape, Updates, linear_modules, scratch_base
from empirical.training.forms import Form, Values, adding
from empirical.training.together import ROWS, chunks, form_of, pretrain_many, stack, train_adapters, trainer
from tests.empirical.accelerator import accelerator
from theory.lowrank import LowRank
from theory.numerics import EPS, stream

TOKENS, LAYERS, WIDE = 30, 2, 48
NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
#: the longest sum behind an entry of a gradient: about ten products or norms a layer, there and back, one after the
#: other, each a sum over a layer's inputs or over the tokens of a batch (at most 16 sentences of 9); n terms added in
#: another order differ by at most n eps relative to their absolute sum (Higham, 2nd ed., section 4.2)
ROUNDING = 2 * 10 * LAYERS * max(WIDE, 16 * 9) * EPS


def llama() -> nn.Module:
    """Untrained, float64, large enough initial weights for all layers to matter."""
    shape = BaseShape(TOKENS, width=32, layers=LAYERS, heads=2, feed_forward=WIDE, init=0.2)
    return scratch_base(shape, 0).double().requires_grad_(False)


def neox() -> nn.Module:
    """Another architecture: biases everywhere, one matrix for queries, keys and values, two norms in parallel."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    shape = GPTNeoXConfig(
        vocab_size=TOKENS, hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=2, intermediate_size=WIDE,
        max_position_embeddings=32, initializer_range=0.2, hidden_dropout=0.0, attention_dropout=0.0,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = GPTNeoXForCausalLM(shape).double().eval().requires_grad_(False)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return model


def facts(seed: int, count: int = 12) -> Part:
    """Short sentences of one length."""
    return Part(Sentences(stream(seed, "facts").integers(TOKENS, size=(count, 3)), (2,)), 1.0)


def texts(seed: int, share: float = 0.5) -> Part:
    """Short and long sentences, answers of one to three tokens."""
    rng = stream(seed, "texts")
    prompts = [rng.integers(TOKENS, size=n).tolist() for n in (2, 3, 4, 6, 5, 1, 3)]
    return Part(ragged(prompts, [rng.integers(TOKENS, size=n).tolist() for n in (1, 2, 1, 3, 3, 2, 1)]), share)


def one_step(name: str = "x", **shape: Any) -> Job:
    """The least that can be trained."""
    return Job(name, [facts(0)], AdapterShape(2, 4, **shape), Schedule(1, 4, 1e-2), 0)


def sweep(targets: tuple[str, ...] | None) -> list[Job]:
    """Jobs that differ in everything: rank, scale, place, steps, batch, rate, decay, clipping, data, seed."""
    targets = targets or AdapterShape(1, 1).targets
    shape = partial(AdapterShape, targets=targets)
    return [
        Job("all", [facts(0)], shape(4, 8), Schedule(16, 16, 1e-2, warmup=4), 0),
        Job("late", [facts(1), texts(1)], shape(2, 8, (1,), rslora=True), Schedule(9, 7, 2e-2, clip=0.3),
            1),
        Job("early", [texts(2)], shape(3, 3, (0,)), Schedule(14, 5, 3e-3, weight_decay=0.3, warmup=1), 2),
        Job("one_type", [facts(3)], shape(1, 2, targets=targets[:1]), Schedule(12, 8, 1e-2, betas=(0.8, 0.95)), 3),
        Job("like_all", [facts(0)], shape(6, 8), Schedule(16, 12, 1e-2, clip=100.0), 0),
    ]  # fmt: skip


BASES = [pytest.param(llama, None, id="llama"), pytest.param(neox, NEOX, id="neox")]


def apart(one, other) -> tuple[float, float]:
    """Largest difference of the losses and of the factors of two trained adapters."""
    assert list(one.updates) == list(other.updates)
    assert len(one.losses) == len(other.losses)
    factors = [
        np.abs(x - y).max()
        for name, update in one.updates.items()
        for x, y in ((update.A, other.updates[name].A), (update.B, other.updates[name].B))
    ]
    return float(np.abs(np.subtract(one.losses, other.losses)).max()), float(max(factors))


@contextmanager
def shaken(number: int = 0) -> Iterator[None]:
    """Every entry of every gradient moves by up to ROUNDING of the largest one in its matrix."""
    clip, draw = nn.utils.clip_grad_norm_, torch.Generator().manual_seed(number)

    def noisy(parameters, limit):
        for p in parameters:
            p.grad += ROUNDING * p.grad.abs().max() * (2 * torch.rand(p.shape, generator=draw).double() - 1)
        return clip(parameters, limit)

    with mock.patch.object(nn.utils, "clip_grad_norm_", noisy):
        yield


def deviations(base, job: Job, exact) -> tuple[float, float]:
    """How far losses and factors of a sequential run move when it is shaken: the larger of two draws, and the rounding
    of the loss itself."""
    found = []
    for number in range(2):
        with shaken(number):
            found.append(apart(train_adapter(base, job), exact))
    return max(f[0] for f in found) + ROUNDING * max(exact.losses), max(f[1] for f in found)


def sequential(base, jobs, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setenv("SEQUENTIAL", "1")
        assert trainer() == "peft"
        return train_adapters(base, jobs)


# ------------------------------------------------------------ the same as peft


@pytest.mark.parametrize(("build", "targets"), BASES)
def test_together_is_peft_one_by_one(build, targets, monkeypatch):
    base, jobs = build(), sweep(targets)
    wanted = sequential(base, jobs, monkeypatch)
    allowed = {job.name: deviations(base, job, wanted[job.name]) for job in jobs}
    assert trainer() == "together"
    for rows in (None, 20, 1):  # all at once, a few at a time, one by one
        found = train_adapters(base, jobs, rows=rows)
        assert list(found) == [job.name for job in jobs]
        for job in jobs:
            losses, factors = apart(found[job.name], wanted[job.name])
            assert losses <= allowed[job.name][0], (rows, job.name)
            assert factors <= allowed[job.name][1], (rows, job.name)
            assert len(found[job.name].losses) == job.schedule.steps
            scales = [{u.scale for u in run[job.name].updates.values()} for run in (found, wanted)]
            assert scales[0] == scales[1]
            assert found[job.name].losses[-1] != found[job.name].losses[0]


@pytest.mark.parametrize(
    "change", [{"rate": 1e-2 * (1 + 1e-6)}, {"betas": (0.9, 0.980001)}, {"weight_decay": 1e-5}, {"clip": 0.9}]
)
def test_the_tolerance_would_notice_a_wrong_step(change):
    base = llama()
    plan = {"steps": 12, "batch": 12, "rate": 1e-2, "warmup": 4}
    job, other = (Job("all", [facts(0)], AdapterShape(4, 8), Schedule(**(plan | c)), 0) for c in ({}, change))
    exact = train_adapter(base, job)
    _, allowed = deviations(base, job, exact)
    assert apart(train_adapters(base, [other])["all"], exact)[1] > 10 * allowed


def test_a_world_is_the_same_either_way(monkeypatch):
    small = {
        **{"width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "rank": 2, "early": [0], "late": [1]},
        **{"old_persons": 24, "new_persons": 8, "bridges": 6, "values": 4, "adapter_steps": 5, "adapter_batch": 16},
    }
    grid = coverage.cells(settings("coverage", "smoke").but(**small))
    cell = next(c for c in grid if isinstance(c, WorldCell))
    world = coverage.WorldRun(cell, "cpu")
    world.base = world.base.double()
    run = coverage.SetRun(world, 0, world.score(world.base)[1])
    names = ["first_all", "first_early", "second_late", "joint_bridge", "first_shuffled", "general", "second_1"]
    together = run.train(names)
    monkeypatch.setenv("SEQUENTIAL", "1")
    one_by_one = run.train(names)
    assert set(together) == set(one_by_one) == set(names)
    monkeypatch.delenv("SEQUENTIAL")
    for name in names:
        losses, factors = apart(together[name], one_by_one[name])
        # five steps of an untrained base: a rounding error of a gradient entry passes AdamW at most eps-fold (1e-8)
        assert max(losses, factors) <= 5 * cell.rate * ROUNDING / 1e-8
        assert losses < 1e-6 < abs(one_by_one[name].losses[0] - one_by_one[name].losses[-1])


def test_the_base_is_left_alone_also_by_an_error():
    base = llama().requires_grad_(True)
    before = {k: v.clone() for k, v in base.state_dict().items()}
    job = Job("all", [facts(0)], AdapterShape(4, 8), Schedule(2, 4, 1e-2), 0)
    train_adapters(base, [job])
    broken = Job("broken", [Part(Sentences(np.full((4, 3), TOKENS), (2,)), 1.0)], job.shape, job.schedule, 0)
    with pytest.raises(IndexError):  # a token that the base does not know
        train_adapters(base, [job, broken])
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())
    assert not any("forward" in module.__dict__ for module in base.modules())
    assert not any(p.requires_grad for p in base.parameters())


def test_half_precision_keeps_float32_factors(monkeypatch):
    base = llama().float().bfloat16()
    job = Job("all", [facts(0)], AdapterShape(4, 8), Schedule(20, 12, 1e-2, warmup=2), 0)
    found, wanted = train_adapters(base, [job])["all"], sequential(base, [job], monkeypatch)["all"]
    assert any((torch.tensor(u.B).bfloat16().double().numpy() != u.B).any() for u in found.updates.values())
    # peft multiplies its factors in float32, here they are rounded to bfloat16 first: 2^-8 a product, and a loss is a
    # chain of ten a layer; both runs learn
    assert np.abs(np.subtract(found.losses, wanted.losses)).max() <= 10 * LAYERS * 2**-8 * max(wanted.losses)
    assert found.losses[-1] < 0.8 * found.losses[0]


# ------------------------------------------------------------ forms of one's own


def scaled(base: Any, job: Job, size: float) -> Form:
    """The LoRA of a job with its strength as a number that all modules share, and is trained too."""
    lora = form_of(base, job)

    def change(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
        strength = (values["strength"] * values["size"])[:, None, None]
        return strength * (x @ values[f"{name}.A"].mT @ values[f"{name}.B"].mT)

    def updates(values: Values) -> Updates:
        strength = float(values["strength"] * values["size"])
        return {n: LowRank(values[f"{n}.B"].numpy(), values[f"{n}.A"].numpy(), strength) for n in lora.modules}

    trained = {**lora.trained, "strength": torch.tensor(2.0)}
    return Form(lora.modules, trained, adding(change), updates, {"size": torch.tensor(size)})


def test_a_form_of_its_own_is_trained_by_its_own_gradient():
    base = llama()
    job = Job("own", [facts(0)], AdapterShape(2, 4), Schedule(3, 8, 1e-2, warmup=1, clip=1e9), 0)
    form = scaled(base, job, 1.0)
    found = train_adapters(base, [replace(job, shape=form)])["own"]
    # the same by hand: a forward hook on every module, one AdamW over all
    values = {n: v.double().clone().requires_grad_() for n, v in form.trained.items()}
    optimizer = torch.optim.AdamW(list(values.values()), **job.schedule.adamw())

    def hook(name: str):
        return lambda module, inputs, y: (
            y + values["strength"] * inputs[0] @ values[f"{name}.A"].T @ values[f"{name}.B"].T
        )

    handles = [base.get_submodule(n).register_forward_hook(hook(n)) for n in form.modules]
    data = job.data()
    losses = []
    for step in range(job.schedule.steps):
        optimizer.param_groups[0]["lr"] = job.schedule.rate * job.schedule.factor(step)
        optimizer.zero_grad()
        loss = answer_loss(base, next(data))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    for handle in handles:
        handle.remove()
    # an entry's rounding passes AdamW at most eps-fold (1e-8), once a step
    room = job.schedule.steps * job.schedule.rate * ROUNDING / 1e-8
    for name, value in values.items():
        assert float((found.values[name] - value.detach()).abs().max()) <= room, name
    assert float(found.values["strength"]) != 2.0
    assert np.abs(np.subtract(found.losses, losses)).max() <= room
    name = form.modules[0]
    update = found.updates[name].dense()
    assert np.array_equal(update, LowRank(found.values[f"{name}.B"].numpy(), found.values[f"{name}.A"].numpy(),
                                          float(found.values["strength"])).dense())  # fmt: skip


def test_forms_with_values_of_their_own_run_together_as_alone():
    base = llama()
    jobs = [Job(f"{k}", [facts(k)], AdapterShape(2, 4), Schedule(4, 8, 1e-2, warmup=1), k) for k in (0, 1)]
    outputs = scaled(base, jobs[0], 1.0).outputs
    own = [
        replace(job, shape=replace(scaled(base, job, size), outputs=outputs))
        for job, size in zip(jobs, (0.5, 2.0), strict=True)
    ]
    assert [len(c) for c in chunks(own, [form_of(base, job) for job in own], 100)] == [2]
    mixed = [own[0], jobs[1]]
    assert [len(c) for c in chunks(mixed, [form_of(base, job) for job in mixed], 100)] == [1, 1]
    together = train_adapters(base, own)
    for job in own:
        alone = train_adapters(base, [job])[job.name]
        assert max(apart(together[job.name], alone)) <= 4 * 1e-2 * ROUNDING / 1e-8
    assert together["0"].losses != together["1"].losses
    with pytest.raises(ValueError, match="0: expected an AdapterShape, got a form of its own"):
        train_adapter(base, own[0])


# ------------------------------------------------------------ what runs together


def test_chunks_are_bounded_and_of_one_kind_where_they_can_be():
    base = llama()
    shapes = {"all": AdapterShape(2, 4), "late": AdapterShape(2, 4, (1,))}
    jobs = [
        Job(f"{kind}{i}_{batch}", [facts(i)], shape, Schedule(steps, batch, 1e-2), i)
        for i, (batch, steps) in enumerate([(8, 3), (8, 9), (64, 3), (8, 5)])
        for kind, shape in shapes.items()
    ]
    found = [form_of(base, job) for job in jobs]
    made = chunks(jobs, found, 32)
    assert sorted(m.job.name for chunk in made for m in chunk) == sorted(job.name for job in jobs)
    for chunk in made:
        sizes, steps = [m.job.schedule.batch for m in chunk], [m.job.schedule.steps for m in chunk]
        assert len(chunk) == 1 or len(chunk) * max(sizes) <= 32  # one job runs whatever its size
        assert steps == sorted(steps, reverse=True)
        assert len({"all" in m.job.name for m in chunk}) == 1
    free = chunks(jobs, found, 10**6)
    assert 1 < len(free) < len(jobs)  # 64 beside six of 8 would be mostly padding
    for chunk in free:
        sizes = [m.job.schedule.batch for m in chunk]
        assert len(sizes) * max(sizes) <= 2 * sum(sizes)
    assert ROWS["cpu"] > 0


def test_batches_are_stacked_with_their_own_means():
    groups = [next(job.data()) for job in sweep(None)]
    stacked = stack(groups, torch.device("cpu"))
    assert [s.tokens.shape[1] < 6 for s in stacked] == [True, False]
    total = torch.stack([s.weights.sum(dim=1) for s in stacked]).sum(dim=0)
    assert (total - 1).abs().max() <= 50 * EPS  # 50 shares of one
    for k, group in enumerate(groups):
        answers = sorted(int(b.tokens[r, c]) for b in group for r, c in zip(b.rows, b.columns, strict=True))
        kept = [s.tokens[s.rows[k], s.columns[k]][s.weights[k] > 0] for s in stacked]
        assert sorted(torch.cat(kept).tolist()) == answers


# ------------------------------------------------------------ what goes wrong


@pytest.mark.parametrize("path", ["together", "peft"])
def test_one_that_diverges_is_named_and_the_others_are_kept(path, monkeypatch):
    base, jobs = llama(), sweep(None)[:2]
    if path == "peft":
        monkeypatch.setenv("SEQUENTIAL", "1")
    wrong = [
        Job(name, [facts(0)], AdapterShape(4, 8), Schedule(16, 16, 1e200, warmup=1), 0) for name in ("wild", "wilder")
    ]
    alone = train_adapters(base, jobs)
    with pytest.raises(TrainingDiverged, match=r"wild.*wilder") as caught:
        train_adapters(base, [wrong[0], *jobs, wrong[1]])
    assert [c["name"] for c in caught.value.config] == ["wild", "wilder"]
    assert caught.value.config[0]["schedule"]["rate"] == 1e200
    assert list(caught.value.finished) == [job.name for job in jobs]
    for job in jobs:
        allowed = deviations(base, job, alone[job.name])  # the same products in other blocks
        losses, factors = apart(caught.value.finished[job.name], alone[job.name])
        assert losses <= allowed[0]
        assert factors <= allowed[1]


def test_what_cannot_be_trained_together_is_refused(tiny_base):
    job = one_step()
    with pytest.raises(ValueError, match="jobs: expected different names, got x, x"):
        train_adapters(llama(), [job, job])
    with pytest.raises(ValueError, match="rows: expected an integer >= 1"):
        train_adapters(llama(), [job], rows=0)
    for base, shape, said in (
        (llama(), {"layers": (2,)}, "layers: expected layers from 0 to 1, got 2"),
        (llama(), {"targets": ("nothing_such",)}, "targets: expected names of modules of the base, got nothing_such"),
        (llama(), {"targets": ("embed_tokens",)}, "embed_tokens: expected an nn.Linear, got Embedding"),
        (tiny_base("gpt2"), {"targets": ("c_attn",)}, "transformer.h.0.attn.c_attn: expected an nn.Linear, got Conv1D"),
        (tiny_base("bert"), {"targets": ("query",)}, "base: expected a causal model"),
    ):
        with pytest.raises(ValueError, match=said):
            train_adapters(base, [one_step(**shape)])
    assert train_adapters(llama(), []) == {}
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="capture: expected a CUDA device, got none"):
            train_adapters(llama(), [job], capture=True)


def test_logits_that_are_not_the_heads_are_refused():
    class Scaled(type(llama())):  # type: ignore[misc]
        def forward(self, *args, **kwargs):
            out = super().forward(*args, **kwargs)
            out.logits = 0.5 * out.logits
            return out

    base = llama()
    base.__class__ = Scaled
    with pytest.raises(ValueError, match="output matrix times the last hidden state"):
        train_adapters(base, [one_step()])


def test_a_module_that_sees_its_inputs_in_another_order_is_refused():
    base: Any = llama()
    layer = base.model.layers[0].mlp
    inside = layer.forward
    layer.forward = lambda x: inside(x.flatten(0, 1)).view(x.shape)  # as a mixture of experts hands tokens on
    with pytest.raises(ValueError, match=r"mlp.gate_proj: expected inputs"):
        train_adapters(base, [one_step("x"), one_step("y")])


def test_replayed_graphs_give_the_same_numbers_on_the_same_device():
    one, other = sweep(None)[0], sweep(None)[-1]  # facts alone: every step has the shape of the first
    jobs = [replace(j, schedule=replace(j.schedule, steps=s)) for j, s in ((one, 5), (other, 3))]
    plain = train_adapters(llama(), jobs)
    with accelerator():
        base = llama().to("cuda")
        replayed = train_adapters(base, jobs, capture=True)
        eager = train_adapters(base, jobs)
        assert next(base.parameters()).device.type == "cuda"
    for job in jobs:
        assert apart(replayed[job.name], plain[job.name]) == apart(eager[job.name], plain[job.name]) == (0.0, 0.0)


# ------------------------------------------------------------ bases


def test_several_bases_are_trained_as_one_by_one():
    def build(k: int):
        return scratch_base(BaseShape(TOKENS, width=16, layers=2, heads=2, feed_forward=24, init=0.2), k).double()

    mixtures = [[facts(k, 20), texts(k)] for k in range(3)]
    plan, seeds = Schedule(10, 12, 1e-2, warmup=3, weight_decay=0.1), [5, 6, 7]
    one_by_one, together = [build(k) for k in range(3)], [build(k) for k in range(3)]
    wanted = [pretrain(b, m, plan, s) for b, m, s in zip(one_by_one, mixtures, seeds, strict=True)]
    found = pretrain_many(together, mixtures, plan, seeds)
    for k, (one, other) in enumerate(zip(one_by_one, together, strict=True)):
        moved = build(k)
        with shaken():
            losses = pretrain(moved, mixtures[k], plan, seeds[k])
        allowed = max(float((p - q).abs().max()) for p, q in zip(one.parameters(), moved.parameters(), strict=True))
        gap = max(float((p - q).abs().max()) for p, q in zip(one.parameters(), other.parameters(), strict=True))
        assert gap <= allowed
        room = np.abs(np.subtract(losses, wanted[k])).max() + ROUNDING * max(wanted[k])
        assert np.abs(np.subtract(found[k], wanted[k])).max() <= room
        assert found[k][-1] < found[k][0]
        assert not any(p.requires_grad for p in other.parameters())
        assert other.lm_head.weight is other.model.embed_tokens.weight
    with pytest.raises(ValueError, match="seeds: expected 3, one per base, got 2"):
        pretrain_many(together, mixtures, plan, [1, 2])
    with pytest.raises(ValueError, match="bases: expected the same parameters"):
        pretrain_many([build(0), llama()], mixtures[:2], plan, [1, 2])
    with pytest.raises(TrainingDiverged, match=r"'base': 0.*'base': 1.*'base': 2"):
        pretrain_many(together, mixtures, Schedule(3, 12, 1e300, warmup=1), seeds)


def test_answers_are_read_where_the_architecture_has_them():
    for base in (llama(), neox()):
        (batch,) = next(sweep(None)[0].data())
        logits, answers = answer_logits(base, batch)
        whole = base(input_ids=torch.as_tensor(batch.tokens)).logits
        rows, columns = torch.as_tensor(batch.rows), torch.as_tensor(batch.columns)
        assert torch.equal(answers, torch.as_tensor(batch.tokens)[rows, columns])
        # the last token is not read there, so the sums may run in another order
        assert torch.allclose(logits, whole[rows, columns - 1], rtol=0, atol=ROUNDING * float(whole.abs().max()))
        loss = nn.functional.cross_entropy(logits, answers)
        assert float(answer_loss(base, [batch])) == float(loss)
        assert linear_modules(base)
