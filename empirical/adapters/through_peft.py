"""Checks of the claims on adapters that peft made, saved and loaded, on transformers models.

The models are small, of the Llama and the GPT-2 kind, with random weights; the last check runs on the packaged
pretrained model. Factors are random and B is not zero, as after training. A missing torch, transformers or peft
surfaces as ImportError, which the runner reports as not checked.
"""

from __future__ import annotations

import copy
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from empirical.adapters.rounding import UNIT, Local, Reach, RoundingTrace, lora_gap, sum_unit
from empirical.training.bases import factors, generator, load_base, lora_layers, update_of
from theory.adapters import adapter_scale, merge_rounding_bound, regauge
from theory.checks import Figure, check, expect, expect_close, expect_mutant_rejected
from theory.lowrank import LowRank
from theory.merging import factor_average_error
from theory.numerics import Array, stream

ARCHITECTURES = ("llama", "gpt2")
VOCABULARY, WIDTH, LAYERS = 61, 32, 2
#: names as theory.adapters writes them
FORMATS = {torch.float64: "float64", torch.float32: "float32", torch.bfloat16: "bfloat16"}
#: what peft and transformers say about things that are done here on purpose
_EXPECTED_WARNINGS = (
    ".*tie_word_embeddings=True.*",
    ".*peft_config. attribute.*",
    ".*is_gradient_checkpointing.*",
    ".*fan_in_fan_out.*",  # GPT-2's Conv1D stores its weight transposed; peft notices by itself
)


@contextmanager
def expected_warnings() -> Iterator[None]:
    """Silence the warnings that these checks provoke on purpose, and no others."""
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


# ---- models and adapters ----


def small_base(architecture: str, dtype: torch.dtype = torch.float32, tied: bool = False) -> Any:
    """A small causal language model with random weights, large enough that all its layers matter."""
    shapes = {
        "llama": {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
                  "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 32},
        "gpt2": {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": 4, "n_positions": 32},
    }  # fmt: skip
    config = AutoConfig.for_model(
        architecture, **shapes[architecture], vocab_size=VOCABULARY, initializer_range=0.2, tie_word_embeddings=tied,
        attn_implementation="eager", bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the library draws from the global generator, which is put back
        model: Any = AutoModelForCausalLM.from_config(config)
    return model.to(dtype).eval().requires_grad_(False)


def lora_config(r: int, alpha: Any, targets: Any = "all-linear", **options: Any) -> Any:
    """A plain LoRA configuration."""
    return LoraConfig(r=r, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM", **options)


def randomize(model: nn.Module, adapter: str, seed: int, strength: float = 0.3) -> None:
    """Random factors with B not zero, so that the update is about `strength` of what reaches it."""
    draw = generator(seed, "factors", adapter)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            a, b = factors(layer, adapter)
            a.copy_(torch.randn(a.shape, generator=draw) / math.sqrt(a.shape[1]))
            b.copy_(torch.randn(b.shape, generator=draw) * strength / math.sqrt(a.shape[0]))


def saved_and_loaded(base: nn.Module, configs: Mapping[str, Any], seed: int) -> Any:
    """`base` with one random adapter per configuration, after a trip through ``save_pretrained`` and back.

    The factors that come back are compared bit for bit with those that were saved. Every adapter is active by name
    only: the first is switched on.
    """
    with expected_warnings(), tempfile.TemporaryDirectory() as folder:
        first, *others = configs
        made: Any = get_peft_model(base, configs[first], adapter_name=first)
        for name in others:
            made.add_adapter(name, configs[name])
        for number, name in enumerate(configs):
            randomize(made, name, seed + number)
        made.save_pretrained(folder, save_embedding_layers=False)
        before = {k: [[f.clone() for f in factors(v, n)] for n in configs] for k, v in lora_layers(made).items()}
        bare = made.unload()
        del made
        where = {name: Path(folder) / name for name in configs}
        loaded: Any = PeftModel.from_pretrained(bare, where[first], adapter_name=first)
        for name in others:
            loaded.load_adapter(where[name], adapter_name=name)
        loaded.set_adapter(first)
    after = lora_layers(loaded)
    expect(after.keys() == before.keys(), "other layers are adapted after loading")
    for key, layer in after.items():
        for name, kept in zip(configs, before[key], strict=True):
            same = all(torch.equal(x, y) for x, y in zip(factors(layer, name), kept, strict=True))
            expect(same, f"{key}: factors of {name} changed by saving and loading")
    return loaded.eval().requires_grad_(False)


def delta(layer: Any, adapter: str) -> Array:
    """peft's own dense update of one layer, out x in as :func:`update_of`."""
    with torch.no_grad():
        dense: Array = layer.get_delta_weight(adapter).double().numpy()
    return dense.T if getattr(layer, "fan_in_fan_out", False) else dense


def weight_of(layer: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(out x in weight, bias) of the layer under an adapter; GPT-2's Conv1D stores in x out."""
    base = layer.get_base_layer()
    weight = base.weight.T if getattr(layer, "fan_in_fan_out", False) else base.weight
    return weight, getattr(base, "bias", None)


def prompt(seed: int, vocabulary: int = VOCABULARY, length: int = 7) -> torch.Tensor:
    """One row of random tokens."""
    return torch.randint(vocabulary, (1, length), generator=generator(seed, "prompt"))


def logits_of(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (length x vocabulary) as they come, without a cache."""
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits[0]
    return logits


# ---- adapter_algebra ----


def merged_copy(model: Any) -> Any:
    """A copy with the adapter merged by peft; the model keeps its side path."""
    with expected_warnings():
        return copy.deepcopy(model).merge_and_unload()


def merged_twice(model: Any) -> Any:
    """The mutant that the comparison must reject: twice the update in the weight."""
    twice = copy.deepcopy(model)
    with torch.no_grad():
        for layer in lora_layers(twice).values():
            factors(layer, model.active_adapter)[1].mul_(2.0)
    return twice.merge_and_unload()


def merge_against_side(
    model: Any, tokens: torch.Tensor, count: int, seed: int, merge: Callable[[Any], Any] = merged_copy
) -> tuple[float, Reach]:
    """Merge a copy, run it and the side path, and compare `count` logits with their rounding bounds.

    Returns:
        the largest difference of any logit and the bounds on that one.
    """
    with torch.no_grad():
        merged = logits_of(merge(model), tokens).double()
    gaps: dict[Any, Any] = {}
    adapter = model.active_adapter
    for layer in lora_layers(model).values():
        a, b = factors(layer, adapter)
        gaps[layer] = lora_gap(float(layer.scaling[adapter]), a, b, *weight_of(layer))
    trace = RoundingTrace(model, gaps)
    with trace.watching():
        side = logits_of(model, tokens)
    return _within(merged, side, trace, count, seed)


def _within(
    got: torch.Tensor, wanted: torch.Tensor, trace: RoundingTrace, count: int, seed: int
) -> tuple[float, Reach]:
    """The logit with the largest difference and some random ones are as close as rounding allows."""
    gap = (got - wanted.detach().double()).abs()
    expect(bool(torch.isfinite(gap).all()), "logits that are not finite")
    flat = [int(gap.argmax()), *stream(seed, "logits").integers(0, gap.numel(), count - 1).tolist()]
    where = [(i // gap.shape[1], i % gap.shape[1]) for i in dict.fromkeys(flat)]
    bounds = trace.bound(wanted, where)
    for index, bound in zip(where, bounds, strict=True):
        least, difference = min(bound), float(gap[index])
        expect(
            difference <= least, f"logit {index}: merged and side path differ by {difference:.3g}, bound {least:.3g}"
        )
    return float(gap.max()), bounds[0]


def layers_against_bound(model: Any, tokens: torch.Tensor, step: int = 1) -> float:
    """Every `step`-th adapted layer on the inputs it really gets: merged and side path, against the rounding bound.

    Returns:
        the largest ratio of the difference to the bound.
    """
    adapter = model.active_adapter
    seen: dict[Any, tuple[torch.Tensor, torch.Tensor]] = {}

    def note(module: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        seen[module] = (inputs[0][0], output[0])

    layers: list[Any] = list(lora_layers(model).values())
    handles = [layer.register_forward_hook(note) for layer in layers[::step]]
    with torch.no_grad():
        logits_of(model, tokens)
    for handle in handles:
        handle.remove()
    worst = 0.0
    for layer, (x, side) in seen.items():
        weight, bias = weight_of(layer)
        merged: Any = copy.deepcopy(layer)
        merged.merge()
        with torch.no_grad():
            difference = (merged(x) - side).double().abs().numpy()
        offset = None if bias is None else bias.double().numpy()
        allowed = merge_rounding_bound(
            weight.double().numpy(), update_of(layer, adapter), x.double().numpy().T, FORMATS[side.dtype], offset
        ).T
        expect(bool((difference <= allowed).all()), f"a merged layer is off by {difference.max()}, more than rounding")
        worst = max(worst, float((difference / np.where(allowed > 0, allowed, 1.0)).max()))
    return worst


@check("adapter_algebra")
def adapter_algebra_adapters() -> Figure:
    """B = 0, gauge, and merging against the side path in three formats, on two architectures."""
    worst = 0.0
    for architecture in ARCHITECTURES:
        tokens = prompt(1)
        for dtype in FORMATS:
            base = small_base(architecture, dtype)
            with torch.no_grad():
                plain = logits_of(base, tokens)
            model = saved_and_loaded(base, {"one": lora_config(4, 8)}, seed=2)
            worst = max(worst, layers_against_bound(model, tokens))
            with torch.no_grad():
                expect(not torch.equal(logits_of(model, tokens), plain), "the adapter changes nothing")
                _powers_of_two(model, tokens)
            merge_against_side(model, tokens, 8, seed=3)
            expect_mutant_rejected(partial(merge_against_side, model, tokens, 1, 3), merged_twice, "merged twice")
            with torch.no_grad():
                for layer in lora_layers(model).values():
                    factors(layer, "one")[1].zero_()
                expect(torch.equal(logits_of(model, tokens), plain), "B = 0 is not the base, bit for bit")
        with expected_warnings():
            untouched = get_peft_model(small_base(architecture), lora_config(4, 8))
        expect(not any(factors(layer, "default")[1].any() for layer in lora_layers(untouched).values()),
               "an adapter does not start with B = 0")  # fmt: skip
    return Figure("worst layer: merged against side path / rounding bound", worst, "ratio")


def _powers_of_two(model: Any, tokens: torch.Tensor) -> None:
    """The gauge T = diag of powers of two rounds nothing: the logits stay bit for bit."""
    before = logits_of(model, tokens)
    for layer in lora_layers(model).values():
        a, b = factors(layer, model.active_adapter)
        powers = 2.0 ** torch.arange(-2, a.shape[0] - 2).to(a.dtype)
        a.copy_(a / powers[:, None])
        b.copy_(b * powers)
    expect(torch.equal(logits_of(model, tokens), before), "(B T, T^-1 A) computes something else")


@check("adapter_algebra")
def adapter_algebra_scale() -> Figure:
    """peft's scale and dense update equal ours, for alpha / r and alpha / sqrt(r); a general gauge keeps the update."""
    worst = 0.0
    for architecture, r, alpha, rslora in (
        ("llama", 4, 8.0, False),
        ("llama", 3, 5.0, True),
        ("gpt2", 1, 7.0, False),
        ("gpt2", 6, 2.0, True),
    ):
        config = lora_config(r, alpha, use_rslora=rslora)
        model = saved_and_loaded(small_base(architecture), {"one": config}, seed=r)
        turn = stream(r, "gauge").standard_normal((r, r)) + 3 * np.eye(r)
        kappa = float(np.linalg.cond(turn))
        for name, layer in lora_layers(model).items():
            update = update_of(layer, "one")
            expect(update.scale == adapter_scale(alpha, r, rslora), f"{name}: scale {update.scale}")
            u = UNIT[torch.float32]
            size = abs(update.scale) * (np.abs(update.B) @ np.abs(update.A))
            # r products summed, then the scale, whose rounding to float32 is one more
            gap = np.abs(delta(layer, "one") - update.dense())
            expect(bool((gap <= 2 * (r + 2) * u * size).all()), f"{name}: peft's update is another one")
            turned = regauge(update, turn).dense()
            allowed = 64 * r * 2.0**-52 * kappa * float(np.linalg.norm(size))
            expect(float(np.linalg.norm(turned - update.dense())) <= allowed, f"{name}: the gauge moves the update")
            worst = max(worst, float(np.linalg.norm(gap) / np.linalg.norm(update.dense())))
    return Figure("peft's dense update against scale B A", worst, "relative")


@check("adapter_algebra")
def adapter_algebra_tied() -> Figure:
    """LoRA on an embedding tied to the head: merging moves the logits by U h, the side path does not."""
    shift = 0.0
    for architecture, target in (("llama", "embed_tokens"), ("gpt2", "wte")):
        for dtype in (torch.float64, torch.float32):
            base = small_base(architecture, dtype, tied=True)
            model = saved_and_loaded(base, {"one": lora_config(4, 8, [target])}, seed=4)
            shift = max(shift, _tied(model, prompt(5)))
    return Figure("shift of the logits by merging a tied embedding", shift, "relative")


def _tied(model: Any, tokens: torch.Tensor) -> float:
    layer: Any
    (layer,) = lora_layers(model).values()
    update, embedding = update_of(layer, "one"), layer.get_base_layer().weight.clone()
    head = model.get_output_embeddings()
    expect(head.weight is layer.get_base_layer().weight, "the head is not tied")
    u, v = UNIT[embedding.dtype], sum_unit(embedding.dtype)
    hidden: list[torch.Tensor] = []

    def embedding_gap(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Local:
        # both ways look up r products, scale them and add them to the row: r v, the scale and the sum
        size = abs(update.scale) * np.abs(update.B) @ np.abs(update.A)
        whole = (embedding.double().abs() + torch.from_numpy(size))[inputs[0]]
        error = 2.0 * math.expm1(update.columns * math.log1p(v) + 3 * math.log1p(u)) * whole
        return Local(error, error)

    def head_gap(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Local:
        # the side path's head, with the update added afterwards in float64, against the merged head
        hidden.append(inputs[0][0])
        return merged_head(module, inputs, output)

    a, b = (torch.from_numpy(f.copy()) for f in (update.A, update.B))
    merged_head = lora_gap(update.scale, a, b, embedding, None)
    trace = RoundingTrace(model, {layer: embedding_gap, head: head_gap})
    with trace.watching():
        side = logits_of(model, tokens)
    # still in the graph: an error in the hidden state reaches U h as well
    predicted = side.double() + hidden[0].double() @ torch.from_numpy(update.dense()).T
    merged = merged_copy(model)
    expect(merged.get_output_embeddings().weight is merged.get_input_embeddings().weight, "merging unties the head")
    with torch.no_grad():
        got = logits_of(merged, tokens).double()
    _within(got, predicted, trace, 8, seed=6)
    return float((got - side.detach().double()).norm() / side.detach().double().norm())


@check("adapter_algebra")
def adapter_algebra_pretrained() -> Figure:
    """The packaged pretrained model, LoRA on all linear layers: merged logits agree with the side path, in float32."""
    model = load_base().eval().requires_grad_(False)
    model.set_attn_implementation("eager")  # named steps, whose rounding can be traced
    adapted = saved_and_loaded(model, {"one": lora_config(8, 16)}, seed=7)
    tokens = prompt(8, vocabulary=model.config.vocab_size, length=6)
    with torch.no_grad():
        with_adapter = logits_of(adapted, tokens)
        with adapted.disable_adapter():
            moved = float((logits_of(adapted, tokens) - with_adapter).abs().max())
    layers_against_bound(adapted, tokens, step=9)  # prime to the seven kinds of layers: all kinds, all depths
    largest, bound = merge_against_side(adapted, tokens, 3, seed=9)
    # an adapter that was left out, or merged twice, would show
    expect(moved > bound.likely, f"the adapter moves the logits by {moved}, less than rounding may, {bound.likely}")
    return Figure("largest logit gap of the merged pretrained model / likely bound", largest / bound.likely, "ratio")


# ---- merge_rank ----


def _combined(model: Any, names: Sequence[str], weights: Sequence[float], kind: str, **options: Any) -> str:
    """Name of the adapter that peft's ``add_weighted_adapter`` makes."""
    made = "_".join([kind, *(str(v) for v in options.values())])
    with expected_warnings():
        model.add_weighted_adapter(list(names), list(weights), made, combination_type=kind, **options)
    return made


def _size(updates: Sequence[LowRank], weights: Sequence[float]) -> Array:
    """sum |w_i s_i| |B_i| |A_i|: what the rounding errors of a sum of updates are relative to, entry by entry."""
    terms = [abs(w * u.scale) * (np.abs(u.B) @ np.abs(u.A)) for u, w in zip(updates, weights, strict=True)]
    size: Array = np.sum(terms, axis=0)
    return size


@check("merge_rank")
def merge_rank_adapters() -> Figure:
    """peft's ``cat`` and ``svd`` on saved adapters: exact with enough rank, the Eckart-Young tail lost by default."""
    u = UNIT[torch.float32]
    names, weights, ranks = ("one", "two", "three"), (0.7, -1.3, 2.0), (4, 6, 2)
    lost = 0.0
    for architecture in ARCHITECTURES:
        configs = {n: lora_config(r, alpha) for n, r, alpha in zip(names, ranks, (8.0, 3.0, 5.0), strict=True)}
        model = saved_and_loaded(small_base(architecture), configs, seed=10)
        cat = _combined(model, names, weights, "cat")
        enough = _combined(model, names, weights, "svd", svd_rank=sum(ranks))
        short = _combined(model, names, weights, "svd")
        for key, layer in lora_layers(model).items():
            updates = [update_of(layer, n) for n in names]
            wanted = LowRank.combine(updates, weights)
            size, dense = _size(updates, weights), wanted.dense()
            # weight and scale are multiplied into A, 12 products are summed, the scale 1 is applied
            exact = bool((np.abs(delta(layer, cat) - dense) <= 2 * (sum(ranks) + 4) * u * size).all())
            expect(exact, f"{key}: cat is not the weighted sum")
            expect(update_of(layer, cat).rank() == wanted.rank() == sum(ranks), f"{key}: rank of cat")
            # the sum of dense updates and a singular value decomposition in float32
            allowed = 8 * u * max(dense.shape) * float(np.linalg.norm(size))
            miss = float(np.linalg.norm(delta(layer, enough) - dense))
            expect(miss <= allowed, f"{key}: svd with enough rank misses the sum by {miss}")
            kept = update_of(layer, short)
            expect(kept.columns == kept.rank() == max(ranks), f"{key}: default svd keeps rank {kept.rank()}")
            loss = delta(layer, short) - dense
            tail = wanted.singular_values()[max(ranks) :]
            expect_close(float(np.linalg.norm(loss, 2)), float(tail[0]), allowed, f"{key}: spectral loss of svd")
            expect_close(float(np.linalg.norm(loss)), float(np.linalg.norm(tail)), allowed, f"{key}: loss of svd")
            lost = max(lost, float(np.linalg.norm(loss)) / wanted.norm("frobenius"))
    _rank_stabilised()
    return Figure("largest share lost by default svd, ranks 4 + 6 + 2 to 6", lost, "relative")


def _rank_stabilised() -> None:
    """With rslora in the first adapter, peft 0.21 scales what it combined by sqrt(new rank); a mended peft by 1."""
    configs = {n: lora_config(4, 8.0, use_rslora=True) for n in ("one", "two")}
    model = saved_and_loaded(small_base("llama"), configs, seed=20)
    cat = _combined(model, ("one", "two"), (1.0, 1.0), "cat")
    for key, layer in lora_layers(model).items():
        updates = [update_of(layer, n) for n in configs]
        wanted, size = LowRank.combine(updates, [1.0, 1.0]).dense(), _size(updates, [1.0, 1.0])
        factor = float(layer.scaling[cat])
        expect(factor in (1.0, adapter_scale(8, 8, rslora=True)), f"{key}: scale {factor} of the combination")
        gap = np.abs(delta(layer, cat) - factor * wanted)
        expect(bool((gap <= 2 * 12 * UNIT[torch.float32] * factor * size).all()), f"{key}: cat with rslora")


# ---- factor_average ----


@check("factor_average")
def factor_average_adapters() -> Figure:
    """peft's ``linear`` errs by exactly what ``factor_average_error`` predicts from the saved factors."""
    u, r = UNIT[torch.float32], 4
    worst, shown = 0.0, 0.0
    for architecture in ARCHITECTURES:
        names = ("one", "two", "three", "four")
        configs = {n: lora_config(r, alpha) for n, alpha in zip(names, (8.0, 3.0, 5.0, 8.0), strict=True)}
        model = saved_and_loaded(small_base(architecture), configs, seed=30)
        cases = [(0.5, 0.5), (1.0, 1.0, 1.0), (0.25,) * 4, (0.2, 1.7), (1.0, -1.0), (-0.4, 0.9, -2.0), (3.0,)]
        for number, weights in enumerate(cases):
            made, k = f"mean{number}", len(weights)
            with expected_warnings():
                model.add_weighted_adapter(list(names[:k]), list(weights), made, combination_type="linear")
            for key, layer in lora_layers(model).items():
                updates = [update_of(layer, n) for n in names[:k]]
                wanted = sum(w * delta(layer, n) for w, n in zip(weights, names, strict=False))
                norm = float(np.linalg.norm(wanted))
                measured = float(np.linalg.norm(delta(layer, made) - wanted)) / norm
                predicted = factor_average_error(updates, weights, "sqrt")
                roots = [math.sqrt(abs(w * x.scale)) for w, x in zip(weights, updates, strict=True)]
                left = np.sum([c * np.abs(x.B) for c, x in zip(roots, updates, strict=True)], axis=0)
                right = np.sum([c * np.abs(x.A) for c, x in zip(roots, updates, strict=True)], axis=0)
                size = float(np.linalg.norm(left @ right)) + float(np.linalg.norm(_size(updates, weights)))
                # each averaged factor: root, product and k sums; then r products and the scale, on both sides
                allowed = 2 * (2 * (k + 2) + 2 * (r + 2)) * u * size / norm
                expect_close(measured, predicted, allowed, f"{key}: error of linear with weights {weights}")
                worst = max(worst, abs(measured - predicted) / allowed)
                shown = max(shown, measured) if number == 0 else shown
    expect(shown > 0.5, "averaging factors made no error")
    return Figure("largest error of linear, two adapters, equal weights", shown, "relative")
