"""Merges that see a few examples, and so are not data-free: RegMean, LoRA Soups, LoraHub.

`probes` are a few examples of what each adapter was trained on, `data` a few of the task to be solved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.reuse.linear import by_module, modules_of, padded_factors, weighted_sum
from empirical.reuse.options import Examples
from empirical.reuse.routers import Gate, Routing, routed
from empirical.tasks.sentences import Ragged, collate
from empirical.training.adapter import answer_loss
from empirical.training.bases import Update, Updates, updated
from theory.lowrank import LowRank
from theory.merging import factor_average
from theory.numerics import Array, require

#: what RegMean leaves of the entries off the diagonal of each Gram matrix
OFF_DIAGONAL = 0.9
#: of LoRA Soups: steps and rate of Adam
STEPS, RATE = 20, 0.1
#: of LoraHub: evaluations, largest weight, and the price of the weights' absolute sum
EVALUATIONS, LARGEST_WEIGHT, PRICE = 40, 1.5, 0.05


# ---------------------------------------------------------------- RegMean


@contextmanager
def inputs_of(model: nn.Module, modules: Sequence[str], into: dict[str, torch.Tensor]) -> Iterator[None]:
    """While open, a forward pass leaves the inputs (n, L, in) of these modules in `into`."""
    handles = []
    try:
        for name in modules:

            def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
                into[name] = inputs[0].detach()

            handles.append(model.get_submodule(name).register_forward_pre_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def features(model: Any, modules: Sequence[str], examples: Examples) -> dict[str, Array]:
    """Inputs (tokens, in) of each module at every token of the examples, padding left out."""
    n, length = examples.tokens.shape
    lengths = examples.lengths if isinstance(examples, Ragged) else np.full(n, length)
    real = torch.as_tensor(np.arange(length) < lengths[:, None])
    found: dict[str, torch.Tensor] = {}
    with inputs_of(model, modules, found):
        model(input_ids=torch.as_tensor(examples.tokens, device=next(model.parameters()).device), use_cache=False)
    return {name: x[real.to(x.device)].double().cpu().numpy() for name, x in found.items()}


def regmean(updates: Sequence[Updates], base: nn.Module, probes: Sequence[Examples]) -> Updates:
    """RegMean (Jin et al. 2023, arXiv 2212.09849): the linear map nearest to every adapter's on that adapter's inputs.

    With the Gram matrices ``G_i = X_i^T X_i`` of a module's inputs under adapter i on its own examples (entries off
    the diagonal times `OFF_DIAGONAL`), the update is ``(sum_i U_i G_i) (sum_i G_i)^-1``, formed in factors.

    Raises:
        ValueError: examples that leave some input of a module at zero.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    names = modules_of(updates)
    seen = []
    for adapter, examples in zip(updates, probes, strict=True):
        with updated(base, adapter) as model:
            seen.append(features(model, names, examples))
    merged: dict[str, Update] = {}
    for name, low in by_module(updates):
        grams = [_damped(x[name].T @ x[name]) for x in seen]
        total = np.sum(grams, axis=0)
        read = np.vstack([u.A @ g for u, g in zip(low, grams, strict=True)])
        try:
            right = cho_solve(cho_factor(total, overwrite_a=True, check_finite=False), read.T).T
        except LinAlgError:
            raise ValueError(f"probes: expected examples that reach every input of {name}, got fewer") from None
        merged[name] = LowRank(np.hstack([u.scale * u.B for u in low]), right)
    return merged


def _damped(gram: Array) -> Array:
    return OFF_DIAGONAL * gram + (1.0 - OFF_DIAGONAL) * np.diag(np.diag(gram))


# ---------------------------------------------------------------- learned weights


def constant(weights: torch.Tensor) -> Gate:
    """A gate that gives every token the same shares (k,)."""
    return lambda x: weights.expand(*x.shape[:-1], len(weights))


def lora_soups(updates: Sequence[Updates], base: nn.Module, probes: Sequence[Examples]) -> Updates:
    """LoRA Soups, CAT (Prabhakar et al. 2024, arXiv 2410.13025): ``sum_i w_i U_i``, weights learnt module by module.

    From the mean on, by Adam on the cross-entropy of a few examples of all the adapters' tasks together.
    """
    names = modules_of(updates)
    require(
        all(isinstance(u, LowRank) for a in updates for u in a.values()), "lora_soups", "low-rank updates", "others"
    )
    device, batches = next(base.parameters()).device, collate(list(probes))
    weights = {
        name: torch.full((len(updates),), 1.0 / len(updates), device=device, requires_grad=True) for name in names
    }
    optimizer = torch.optim.Adam(weights.values(), lr=RATE)
    with routed(base, Routing(updates, {name: constant(w) for name, w in weights.items()})) as model:
        for _ in range(STEPS):
            loss = answer_loss(model, batches)
            for w, gradient in zip(weights.values(), torch.autograd.grad(loss, list(weights.values())), strict=True):
                w.grad = gradient
            optimizer.step()
    found = {name: w.detach().double().cpu().tolist() for name, w in weights.items()}
    return {n: weighted_sum([{n: a[n]} if n in a else {} for a in updates], found[n])[n] for n in names}


def lora_hub(updates: Sequence[Updates], base: nn.Module, data: Examples) -> Updates:
    """LoraHub (Huang et al. 2023, arXiv 2307.13269): one weight per adapter, found without gradients on a few examples.

    As there, the weights mix factors, ``(sum_i w_i B_i)(sum_i w_i A_i)``, lie within `LARGEST_WEIGHT` of zero, start
    at zero, and minimise the loss plus `PRICE` times the sum of their magnitudes. The search is Nelder and Mead's, in
    place of the authors' evolution.
    """
    padded = padded_factors(updates, "lora_hub")
    names, batches = modules_of(updates), collate([data])

    @torch.no_grad()
    def price(weights: Array) -> float:
        gate = constant(torch.as_tensor(weights))
        with routed(base, Routing(padded, dict.fromkeys(names, gate), factors=True)) as model:
            return float(answer_loss(model, batches)) + PRICE * float(np.abs(weights).sum())

    weights = minimised(price, len(updates))
    return {name: factor_average([a[name] for a in padded], weights.tolist(), "plain") for name in names}


def minimised(price: Callable[[Array], float], count: int) -> Array:
    """The cheapest weights (count,) that Nelder and Mead's search finds from zero, within the bounds."""
    from scipy.optimize import minimize

    start = np.vstack([np.zeros(count), 0.5 * np.eye(count)])
    options = {"maxfev": EVALUATIONS, "initial_simplex": start}
    bounds = [(-LARGEST_WEIGHT, LARGEST_WEIGHT)] * count
    return np.asarray(minimize(price, start[0], method="Nelder-Mead", bounds=bounds, options=options).x)
