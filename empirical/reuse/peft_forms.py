"""Merges as peft's ``add_weighted_adapter`` makes them: on the factors A and B, not on the updates.

Its ``ties`` and ``dare_*`` are not the published methods, which trim the updates (:mod:`empirical.reuse.trimmed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from empirical.reuse.linear import modules_of, padded_factors
from empirical.training.bases import Updates, factors, holds, lora_layers, update_of, with_peft
from theory.lowrank import LowRank
from theory.numerics import integer, require, stream


def peft_weighted(
    updates: Sequence[Updates],
    base: nn.Module,
    combination: str,
    weights: Sequence[float],
    density: float = 0.5,
    seed: int = 0,
    svd_rank: int | None = None,
) -> dict[str, LowRank]:
    """What peft's ``add_weighted_adapter`` makes of the adapters, read back from its layers (float32 as `base`).

    peft takes the layers of a merged adapter from the first adapter alone and drops the others' without a word (0.21),
    so it is only ever given adapters on equal modules.

    Args:
        updates: low-rank adapters of linear modules; padded with zero factors to equal modules first.
        base: the model that they adapt; unchanged afterwards.
        combination: peft's ``combination_type``.
        weights: one per adapter.
        density: share kept by ``ties`` and ``dare_*``.
        seed: of ``dare_*``, which draws from the global generator; its state is put back.
        svd_rank: for ``svd``; peft's default is the largest rank of an adapter.

    Raises:
        ValueError: dense updates, modules that are not linear, or ranks that `combination` cannot take.
    """
    from peft import LoraConfig

    padded = padded_factors(updates, combination)
    modules = dict(base.named_modules())
    names = modules_of(padded)
    for name in names:
        require(isinstance(modules.get(name), nn.Linear), combination, "linear modules only", name)
    configs = []
    for adapter in padded:
        rank = next(iter(adapter.values())).columns
        configs.append(LoraConfig(r=rank, lora_alpha=rank, target_modules=names, lora_dropout=0.0))
    if combination in ("linear", "ties", "dare_linear", "dare_ties"):
        ranks = [c.r for c in configs]
        require(len(set(ranks)) == 1, combination, "adapters of one rank", ranks)
    device = next(base.parameters()).device
    cuda = [device] if device.type == "cuda" else []
    given = [f"adapter_{i}" for i in range(len(padded))]
    trimming: dict[str, float | int] = {}
    if combination in ("ties", "dare_linear", "dare_ties"):
        trimming["density"] = density
    if svd_rank is not None:
        trimming["svd_rank"] = integer(svd_rank, "svd_rank", 1)
    with torch.random.fork_rng(devices=cuda), with_peft(base, configs[0], given[0]) as wrapped, torch.no_grad():
        for name, config in zip(given[1:], configs[1:], strict=True):
            wrapped.add_adapter(name, config)
        for name, adapter in zip(given, padded, strict=True):
            for module, layer in lora_layers(wrapped).items():
                a, b = factors(layer, name)
                a.copy_(torch.as_tensor(np.array(adapter[module].A)))
                b.copy_(torch.as_tensor(np.array(adapter[module].B)))
                layer.scaling[name] = adapter[module].scale
        torch.manual_seed(int(stream(seed, "reuse", combination).integers(2**63 - 1)))  # undone by fork_rng
        wrapped.base_model.add_weighted_adapter(
            given, list(weights), "merged", combination_type=combination, **trimming
        )
        found = {module: update_of(layer, "merged") for module, layer in lora_layers(wrapped).items()
                 if holds(layer, "merged")}  # fmt: skip
    require(set(found) == set(names), combination, f"{len(names)} merged modules from peft", len(found))
    return found


def through_peft(combination: str) -> Callable[..., Updates]:
    """The merge with unit weights of one ``combination_type``."""

    def merge(updates: Sequence[Updates], base: nn.Module, density: float, seed: int) -> Updates:
        return peft_weighted(updates, base, combination, [1.0] * len(updates), density, seed)

    return merge
