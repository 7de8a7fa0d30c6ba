"""Merges that see a few examples, against dense algebra and another way to train and to search."""

import numpy as np
import pytest
import torch
from torch import nn

from empirical.reuse import with_data
from empirical.reuse.methods import METHODS, Options, merged
from empirical.tasks.sentences import Sentences, ragged
from empirical.training.bases import dense, updated
from tests.empirical.reuse.adapters import SINGLE, adapter, close, formed, logits
from theory.lowrank import LowRank
from theory.numerics import stream


def examples(seed, count=12):
    rng = stream(seed, "examples")
    prompts = [rng.integers(1, 30, size=rng.integers(2, 5)).tolist() for _ in range(count)]
    return ragged(prompts, [[int(a)] for a in rng.integers(1, 30, size=count)])


def loss(base, updates, data):
    """Mean cross-entropy of the answers, every sentence by itself, with dense updates (tensors) on the weights."""
    moved = {f"{n}.weight": base.get_submodule(n).weight.detach() + u for n, u in updates.items()}
    losses = []
    for row, length, answers in zip(*data, strict=True):
        tokens = torch.as_tensor(row[:length])[None]
        found = torch.func.functional_call(base, moved, (), {"input_ids": tokens, "use_cache": False}).logits[0]
        for column in np.flatnonzero(answers[:length]):
            losses.append(nn.functional.cross_entropy(found[column - 1], tokens[0, column]))
    return torch.stack(losses).mean()


def tensors(values):
    return {n: torch.tensor(v, dtype=torch.float32) for n, v in values.items()}


@pytest.mark.parametrize("layers", [None, [1]])
def test_regmean_solves_its_regression(base, monkeypatch, layers):
    """Without damping: least squares of all adapters' outputs on their own inputs, token by token."""
    monkeypatch.setattr(with_data, "OFF_DIAGONAL", 1.0)
    adapters, probes = [adapter(base, 1), adapter(base, 2, 3, 0.5, layers)], [examples(1, 30), examples(2, 30)]
    stacked: dict[str, list] = {n: [] for n in adapters[0]}
    for i, (one, data) in enumerate(zip(adapters, probes, strict=True)):
        with updated(base, one) as model:
            for row, length in zip(data.tokens, data.lengths, strict=True):
                hooks = [
                    model.get_submodule(n).register_forward_hook(
                        lambda m, x, y, n=n, i=i: stacked[n].append((i, x[0][0].double().numpy()))
                    )
                    for n in stacked
                ]
                logits(model, [row[:length].tolist()])
                for hook in hooks:
                    hook.remove()
    wanted = {}
    for n, values in formed(adapters).items():
        inputs = np.vstack([x for _, x in stacked[n]])
        outputs = np.vstack([x @ values[i].T for i, x in stacked[n]])
        assert np.linalg.matrix_rank(inputs) == inputs.shape[1]
        wanted[n] = np.linalg.lstsq(inputs, outputs, rcond=None)[0].T
    found = merged("regmean", adapters, base, Options(probes=probes))
    close(found, wanted, 1e-3)  # inputs in single precision, of condition up to some hundreds
    assert all(isinstance(u, LowRank) for u in found.values())


def test_regmean_damps_what_is_off_the_diagonal(base):
    adapters, probes = [adapter(base, 1), adapter(base, 2)], [examples(1), examples(2)]
    name = "model.layers.0.self_attn.q_proj"
    # the first norm has weight 1
    embedded = base.get_submodule("model.embed_tokens").weight.detach().double().numpy()
    left = right = 0.0
    for one, data in zip(adapters, probes, strict=True):
        tokens = np.concatenate([row[:length] for row, length in zip(data.tokens, data.lengths, strict=True)])
        x = embedded[tokens]
        x = x / np.sqrt(np.mean(x**2, axis=1, keepdims=True) + 1e-6)
        gram = x.T @ x
        gram = np.where(np.eye(16) > 0, gram, 0.9 * gram)
        left, right = left + dense(one[name]) @ gram, right + gram
    close({name: merged("regmean", adapters, base, Options(probes=probes))[name]},
          {name: left @ np.linalg.inv(right)}, 1e-4)  # fmt: skip


def test_sentences_of_one_length_are_read_to_their_ends(base):
    adapters, rng = [adapter(base, 1), adapter(base, 2)], stream(0, "one length")
    tokens = [rng.integers(1, 30, size=(12, 4)) for _ in adapters]
    same = [ragged(t[:, :3].tolist(), t[:, 3:].tolist()) for t in tokens]
    found = merged("regmean", adapters, base, Options(probes=[Sentences(t, (3,)) for t in tokens]))
    close(found, merged("regmean", adapters, base, Options(probes=same)), 0.0)


def test_regmean_refuses_examples_that_do_not_reach_an_input(base):
    silent = {n: LowRank(u.B, u.A, 0.0) for n, u in adapter(base, 1).items()}
    nothing = Sentences(np.zeros((1, 1), dtype=np.int64), ())
    kept = base.model.embed_tokens.weight.data.clone()
    try:
        base.model.embed_tokens.weight.data[0] = 0.0
        with pytest.raises(ValueError, match=r"probes: expected examples that reach every input of model\.layers\.0"):
            merged("regmean", [silent, silent], base, Options(probes=[nothing, nothing]))
    finally:
        base.model.embed_tokens.weight.data = kept


def test_lora_soups_learns_weights_module_by_module(base, monkeypatch):
    monkeypatch.setattr(with_data, "STEPS", 6)
    adapters = [adapter(base, 1), adapter(base, 2, layers=[0, 2])]
    probes = [examples(1, 5), examples(2, 3)]
    found = merged("lora_soups", adapters, base, Options(probes=probes))
    assert all(p.grad is None for p in base.parameters())
    values = formed(adapters)
    parts = {n: torch.tensor(v, dtype=torch.float32) for n, v in values.items()}
    weights = {n: torch.full((2,), 0.5, requires_grad=True) for n in values}
    optimizer = torch.optim.Adam(weights.values(), lr=0.1)
    first = None
    for _ in range(6):
        moved = {n: (weights[n][:, None, None] * parts[n]).sum(dim=0) for n in values}
        both = (5 * loss(base, moved, probes[0]) + 3 * loss(base, moved, probes[1])) / 8
        first = float(both.detach()) if first is None else first
        optimizer.zero_grad()
        both.backward()
        optimizer.step()
    close(found, {n: np.tensordot(w.detach().numpy(), values[n], axes=1) for n, w in weights.items()}, 1e-2)
    moved = tensors({n: dense(u) for n, u in found.items()})
    assert (5 * loss(base, moved, probes[0]) + 3 * loss(base, moved, probes[1])) / 8 < first - 0.05
    ranges = [np.ptp([float(w.detach()[i]) for n, w in weights.items() if np.any(values[n][i])]) for i in (0, 1)]
    assert min(ranges) > 0.1, "one weight for all modules would do"


def test_lora_hub_mixes_factors_at_the_least_price(base):
    adapters, data = [adapter(base, 1), adapter(base, 2)], examples(3)
    found = merged("lora_hub", adapters, base, Options(data=data))

    def mixed(weights):
        pairs = list(zip(weights, adapters, strict=True))
        return {n: 1.5 * sum(w * a[n].B for w, a in pairs) @ sum(w * a[n].A for w, a in pairs) for n in adapters[0]}

    def price(weights):
        with torch.no_grad():
            return float(loss(base, tensors(mixed(weights)), data)) + 0.05 * sum(map(abs, weights))

    name = next(iter(adapters[0]))
    # the weights that the merge stands for: B and A of one module are combinations of the adapters'
    columns = np.stack([a[name].B.ravel() for a in adapters], axis=1)
    weights = np.linalg.lstsq(columns, found[name].B.ravel(), rcond=None)[0]
    close(found, mixed(weights), SINGLE)
    # the same search with a price that is computed another way, to what rounding does to its steps
    assert weights == pytest.approx(with_data.minimised(price, 2), abs=1e-3)
    assert price(weights) < price(np.zeros(2)) - 1e-3
    assert np.abs(weights).max() <= 1.5


def test_the_search_stays_within_its_bounds_and_its_evaluations():
    asked = []

    def price(weights):
        asked.append(weights)
        return float(np.sum((weights - np.array([3.0, -0.4])) ** 2))

    found = with_data.minimised(price, 2)
    assert found == pytest.approx([1.5, -0.4], abs=0.05)
    assert len(asked) <= with_data.EVALUATIONS
    assert np.abs(asked).max() <= 1.5


def test_examples_are_counted_and_methods_that_see_them_are_marked(base):
    counted = {name: row.examples(3, 5) for name, row in METHODS.items()}
    assert {n: c for n, c in counted.items() if c} == {"regmean": 15, "lora_soups": 15, "lora_hub": 5}
    for name in ("regmean", "lora_soups", "lora_hub"):
        with pytest.raises(
            ValueError, match=r"(probes|data): expected some, as the method asks for them, got none here"
        ):
            merged(name, [adapter(base, 1)], base)
    with pytest.raises(ValueError, match="probes: expected 2, for each adapter, got 1"):
        merged("regmean", [adapter(base, 1), adapter(base, 2)], base, Options(probes=[examples(1)]))
