"""The identity test: a merged adapter against its parts, active together, on real logits, with a derived bound.

Both runs go through peft, in float64 where the base is small enough. Their difference has two sources, and the bound
has a term for each:

* the stored factors: in module m the merged update is off by at most rho_m in Frobenius norm (rounding to the output
  format, and the truncation of an inexact merge), so its output moves by at most ``rho_m ||x||``; to first order a
  logit moves by at most ``sum_m sum_t ||d logit / d output|| rho_m ||x_t||`` over the tokens t;
* the rounding of the two runs, by :class:`empirical.adapters.rounding.RoundingTrace`.

Terms of second order are left out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from empirical.adapters.base import quiet
from empirical.adapters.files import Adapter
from empirical.adapters.rounding import UNIT, Local, RoundingTrace, sum_unit
from empirical.training.bases import generator
from theory.numerics import require

#: largest base that is run in float64, parameters; above it float32
DOUBLE_LIMIT = 1_000_000_000
TOKENS = 8


class _Written(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def norm(self) -> float: ...
    @property
    def truncation(self) -> float: ...
    @property
    def bound(self) -> float: ...


def with_adapters(model: Any, folders: Sequence[Path], names: Sequence[str]) -> Any:
    """`model` wrapped by peft with these adapters loaded from disk."""
    from peft import PeftModel

    with quiet():
        wrapped: Any = PeftModel.from_pretrained(model, str(folders[0]), adapter_name=names[0])
        for folder, name in zip(folders[1:], names[1:], strict=True):
            wrapped.load_adapter(str(folder), adapter_name=name)
    return wrapped.eval().requires_grad_(False)


def activate(wrapped: Any, names: Sequence[str], weights: Sequence[float] | None = None) -> None:
    """Switch on these adapters together, each scaled by its weight on top of peft's own scale."""
    from peft.tuners.lora import LoraLayer

    wrapped.base_model.set_adapter(list(names))
    for layer in wrapped.modules():
        if isinstance(layer, LoraLayer) and weights is not None:
            for name, weight in zip(names, weights, strict=True):
                if name in layer.scaling:
                    layer.scaling[name] *= weight
    wrapped.requires_grad_(False)


def outputs(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Logits (positions x vocabulary), or the last hidden states of a model without a head."""
    result = model(input_ids=tokens)
    logits = getattr(result, "logits", None)
    found: torch.Tensor = logits if logits is not None else result[0]
    return found.reshape(-1, found.shape[-1])


def identity_test(
    model: Any,
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    folder: Path,
    written: Sequence[_Written],
    seed: int,
) -> dict[str, Any]:
    """Compare the logits of the merged adapter in `folder` with the weighted sum of the parts, all through peft.

    Returns:
        ``gap`` (largest difference of a logit), ``bound`` on that logit, ``holds``, ``moved`` (how far the adapters
        move the logits from the base; a test with a bound above that would not notice a missing adapter), ``decisive``
        (bound below moved), ``dtype`` of the runs, ``derived`` (False where an operation of this architecture has no
        known rounding and a multiple of the largest logit stands in), ``text``.

    Raises:
        ValueError: peft does not load what was written.
    """
    from peft.tuners.lora import LoraLayer

    double = sum(p.numel() for p in model.parameters()) <= DOUBLE_LIMIT
    model = model.double() if double else model.float()
    with contextlib.suppress(AttributeError, ValueError):
        model.set_attn_implementation("eager")  # named steps, whose rounding can be traced
    vocabulary = int(getattr(model.config, "vocab_size", 0) or model.get_input_embeddings().weight.shape[0])
    tokens = torch.randint(vocabulary, (1, TOKENS), generator=generator(seed, "identity"))
    with torch.no_grad():
        plain = outputs(model, tokens).double()
    names = [f"part{i}" for i in range(len(adapters))]
    wrapped = with_adapters(model, [*(a.path for a in adapters), folder], [*names, "merged"])
    wrapped = wrapped.double() if double else wrapped.float()
    layers = {n.removeprefix("base_model.model."): m for n, m in wrapped.named_modules() if isinstance(m, LoraLayer)}
    has = {n for n, m in layers.items() if "merged" in m.lora_A or "merged" in m.lora_embedding_A}
    expected = {m.name for m in written}
    require(has == expected, "merged adapter", f"{len(expected)} modules once peft has loaded it", len(has))
    activate(wrapped, ["merged"])
    with torch.no_grad():
        merged = outputs(wrapped, tokens).double()
    activate(wrapped, names, weights)
    reach = {m.name: m.bound + m.truncation + 1e-14 * m.norm for m in written}
    wanted, bound_of, derived = _watched(wrapped, layers, names, tokens, reach)
    gap = (merged - wanted).abs()
    worst = int(gap.argmax())
    index = (worst // gap.shape[1], worst % gap.shape[1])
    bound = bound_of(index)
    largest = float(gap.max())
    moved = float((wanted - plain).abs().max())
    return {
        "gap": largest,
        "bound": bound,
        "holds": bool(math.isfinite(largest) and largest <= bound),
        "moved": moved,
        "decisive": bound < moved,
        "logits": gap.numel(),
        "dtype": "float64" if double else "float32",
        "derived": derived,
        "text": f"{gap.numel()} logits: merged and weighted sum differ by at most {largest:.3g}, bound {bound:.3g}; "
        f"the adapters move them by {moved:.3g}",
    }


def _watched(
    wrapped: Any, layers: dict[str, Any], names: Sequence[str], tokens: torch.Tensor, reach: dict[str, float]
) -> tuple[torch.Tensor, Any, bool]:
    """Logits of the parts, and a function from an index to the bound on the merged adapter's difference there."""
    sizes: dict[int, torch.Tensor] = {}
    gaps: dict[nn.Module, Any] = {}

    def watch(name: str, layer: Any) -> Any:
        def gap(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Local:
            sizes[len(trace.results)] = reach.get(name, 0.0) * _norms(inputs[0], output)
            error = _two_ways(layer, [*names], inputs[0], output)
            return Local(error, error)

        return gap

    for name, layer in layers.items():
        gaps[layer] = watch(name, layer)
    trace = RoundingTrace(wrapped, gaps)
    derived = True
    try:
        with quiet(), trace.watching():
            logits = outputs(wrapped, tokens)
    except ValueError:  # an operation whose rounding is not known: only the stored factors are bounded
        derived = False
        trace = _Plain(wrapped, gaps)
        sizes.clear()
        with quiet(), trace.watching():
            logits = outputs(wrapped, tokens)

    def bound(index: tuple[int, ...]) -> float:
        gradients = torch.autograd.grad(logits[index], trace.results, retain_graph=True, allow_unused=True)
        total = 0.0
        for i, (gradient, error) in enumerate(zip(gradients, trace.errors, strict=True)):
            if gradient is None:
                continue
            slope = gradient.double().abs()
            total += float((slope * error.certain.double()).sum())
            if i in sizes:
                total += float((slope.norm(dim=-1) * sizes[i]).sum())
        if not derived:
            total += 2.0**20 * UNIT[logits.dtype] * float(logits.detach().abs().max())
        return total

    return logits.detach().double(), bound, derived


class _Plain(RoundingTrace):
    """Watches the adapted layers only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        fresh = not self.inside and getattr(func, "__name__", "") == "embedding"
        if fresh and isinstance(out, torch.Tensor) and not out.requires_grad:
            return out.requires_grad_()
        return out


def _norms(x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Euclidean norms of the inputs per token; 1 for the one-hot inputs of an embedding."""
    if not x.dtype.is_floating_point:
        return torch.ones(output.shape[:-1], dtype=torch.float64)
    norms: torch.Tensor = x.detach().double().norm(dim=-1)
    return norms


def _two_ways(layer: Any, names: Sequence[str], x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """Most that rounding makes the layer's outputs differ between the parts and the merged adapter, entry by entry."""
    base = layer.get_base_layer()
    unit, inner = UNIT[output.dtype], sum_unit(output.dtype)
    weight = base.weight.detach().double().abs()
    shape = output.detach()
    terms = 1
    if not x.dtype.is_floating_point:
        base_size = torch.zeros_like(shape, dtype=torch.float64)  # looked up alike in both runs
    else:
        a = x.detach().double().abs()
        terms = a.shape[-1]
        conv = weight.shape[0] == terms and (weight.shape[1] != terms or type(base).__name__ == "Conv1D")
        base_size = a @ (weight if conv else weight.T)
        if getattr(base, "bias", None) is not None:
            base_size = base_size + base.bias.detach().double().abs()
    side = torch.zeros_like(base_size)
    ranks = 0
    for name in [*names, "merged"]:
        if name in layer.lora_A:
            f_a, f_b = (f.weight.detach().double().abs() for f in (layer.lora_A[name], layer.lora_B[name]))
            side = side + abs(layer.scaling[name]) * (x.detach().double().abs() @ f_a.T @ f_b.T)
        elif name in layer.lora_embedding_A:
            f_a, f_b = (f[name].detach().double().abs() for f in (layer.lora_embedding_A, layer.lora_embedding_B))
            side = side + abs(layer.scaling[name]) * (f_a.T[x] @ f_b.T)
        else:
            continue
        ranks = max(ranks, f_a.shape[0])
    k = len(names)
    on_base = 2.0 * math.expm1((terms + 1) * math.log1p(inner) + (k + 3) * math.log1p(unit))
    on_side = math.expm1((terms + ranks) * math.log1p(inner) + (k + 4) * math.log1p(unit))
    # adding the side paths to an embedding's row rounds the row too
    rows = 2.0 * (k + 1) * unit * output.detach().double().abs()
    return on_base * base_size + on_side * side + rows
