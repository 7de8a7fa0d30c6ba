"""Ways to reuse adapters without data: name -> (adapters, base) -> a model to ask.

An adapter is a dict from module names of the base to updates (:class:`theory.lowrank.LowRank`, or a dense array). A
*merge* turns several adapters into one such dict; a *router* decides at every token and every module. :func:`reused`
is the one door: it yields the base with the adapters in place and takes them out again.

A merge of your own is one function ``merge(adapters, base) -> dict`` in a file; ``"my_merge.py:merge"`` is its name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.training.bases import (
    Update,
    Updates,
    check_updates,
    dense,
    factors,
    holds,
    lora_layers,
    update_of,
    updated,
    with_peft,
)
from theory.lowrank import LowRank
from theory.merging import factor_average
from theory.numerics import Array, integer, one_of, require, stream


@dataclass(frozen=True)
class Options:
    """What some methods need beyond the adapters.

    Args:
        seed: of the random methods (DARE, the random control).
        density: share of entries kept by TIES, DARE and KnOTS.
        temperature: of Arrow's softmax.
        general: adapters trained on general data, for Arrow with general-knowledge subtraction.
    """

    seed: int = 0
    density: float = 0.5
    temperature: float = 1.0
    general: Sequence[Updates] = ()

    def __post_init__(self) -> None:
        require(0.0 < self.density <= 1.0, "density", "a share in (0, 1]", self.density)
        require(self.temperature > 0.0, "temperature", "a positive number", self.temperature)


Merge = Callable[[Sequence[Updates], nn.Module, Options], Updates]

# ---------------------------------------------------------------- merges by definition


def weighted_sum(adapters: Sequence[Updates], weights: Sequence[float]) -> dict[str, Update]:
    """``sum_i w_i U_i`` module by module, exactly; an adapter that does not touch a module counts as zero there.

    Ranks, scales and placements may differ. Low-rank updates stay low-rank (columns are stacked).
    """
    require(len(adapters) > 0, "adapters", "at least one adapter", "none")
    require(len(weights) == len(adapters), "weights", f"{len(adapters)} weights", len(weights))
    merged: dict[str, Update] = {}
    for name in modules_of(adapters):
        present = [(a[name], w) for a, w in zip(adapters, weights, strict=True) if name in a]
        shapes = {tuple(u.shape) for u, _ in present}
        require(len(shapes) == 1, "adapters", f"equal shapes for {name}", sorted(shapes))
        low = [u for u, _ in present if isinstance(u, LowRank)]
        if len(low) == len(present):
            merged[name] = LowRank.combine(low, [w for _, w in present])
        else:
            merged[name] = np.sum([w * dense(u) for u, w in present], axis=0)
    return merged


def modules_of(adapters: Sequence[Updates]) -> list[str]:
    """Names of all modules that some adapter touches, in order of first appearance."""
    return list(dict.fromkeys(name for adapter in adapters for name in adapter))


def _sum(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    return weighted_sum(adapters, [1.0] * len(adapters))


def _mean(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    return weighted_sum(adapters, [1.0 / len(adapters)] * len(adapters))


def _factor_mean(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    """B and A averaged with weights 1/k each: 1/k^2 of every update is kept, and cross terms are added."""
    weights = [1.0 / len(adapters)] * len(adapters)
    padded = _like_adapters(adapters, "factor_mean")
    return {n: factor_average([a[n] for a in padded], weights, "plain") for n in modules_of(adapters)}


def ties(values: Sequence[Array], density: float) -> Array:
    """TIES (Yadav et al. 2023, arXiv 2306.01708) of k arrays of one shape, with unit weights.

    Each is trimmed to its ``floor(density * size)`` entries of largest magnitude; the sign of an entry is that of the
    sum; entries that agree with it are averaged over those that agree (zeros do not).
    """
    trimmed = []
    for v in values:
        keep = np.zeros(v.size, dtype=bool)
        keep[np.argsort(-np.abs(v).ravel(), kind="stable")[: int(density * v.size)]] = True
        trimmed.append(np.where(keep.reshape(v.shape), v, 0.0))
    stacked = np.stack(trimmed)
    elected = np.where(stacked.sum(axis=0) >= 0, 1.0, -1.0)
    agree = np.sign(stacked) == elected
    mean: Array = (stacked * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)
    return mean


def knots_module(updates: Sequence[Update], density: float) -> LowRank:
    """KnOTS (Stoica et al. 2024, arXiv 2410.19735) of one module: a TIES merge in the basis shared by all updates.

    ``[U_1 ... U_k] = Q S [V_1 ... V_k]`` (thin SVD, zero singular values dropped); the V_i are merged by
    :func:`ties`; the update is ``Q S V_merged``.
    """
    columns = updates[0].shape[1]
    if all(isinstance(u, LowRank) for u in updates):
        low = [u for u in updates if isinstance(u, LowRank)]
        blocks = np.zeros((sum(u.columns for u in low), columns * len(low)))
        start = 0
        for i, u in enumerate(low):
            blocks[start : start + u.columns, i * columns : (i + 1) * columns] = u.A
            start += u.columns
        joint = LowRank(np.hstack([u.scale * u.B for u in low]), blocks)
    else:
        joint = LowRank(np.eye(updates[0].shape[0]), np.hstack([dense(u) for u in updates]))
    kept = joint.truncate(joint.rank())
    strength = np.linalg.norm(kept.B, axis=0)  # truncate() balances: ||B_j|| = ||A_j|| = sqrt(sigma_j)
    right = kept.A / np.where(strength > 0, strength, 1.0)[:, None]
    return LowRank(kept.B * strength, ties(np.split(right, len(updates), axis=1), density))


def _knots(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    merged = {}
    for name in modules_of(adapters):
        shape = next(a[name].shape for a in adapters if name in a)
        absent = LowRank(np.zeros((shape[0], 0)), np.zeros((0, shape[1])))
        merged[name] = knots_module([a.get(name, absent) for a in adapters], options.density)
    return merged


def random_like(adapter: Updates, seed: int, name: str = "random") -> dict[str, Update]:
    """Gaussian updates with the ranks and the Frobenius norms that `adapter` has, module by module."""
    drawn: dict[str, Update] = {}
    for module, update in adapter.items():
        rng = stream(seed, "control", name, module)
        if isinstance(update, LowRank):
            noise = LowRank(rng.standard_normal(update.B.shape), rng.standard_normal(update.A.shape))
            size = noise.norm()
            drawn[module] = LowRank(noise.B, noise.A, update.norm() / size if size else 0.0)
        else:
            values = rng.standard_normal(update.shape)
            drawn[module] = values * (np.linalg.norm(update) / np.linalg.norm(values))
    return drawn


def _random(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    return _sum([random_like(a, options.seed, f"adapter {i}") for i, a in enumerate(adapters)], base, options)


# ---------------------------------------------------------------- merges by peft itself


def _like_adapters(adapters: Sequence[Updates], method: str) -> list[dict[str, LowRank]]:
    """The adapters on all modules that any of them touches, with zero factors where one has none.

    peft takes the layers of a merged adapter from the first adapter alone and drops the others' without a word
    (0.21), so it is only ever given adapters on equal modules.

    Raises:
        ValueError: no adapters, dense updates, or more than one number of columns within an adapter.
    """
    require(len(adapters) > 0, "adapters", "at least one adapter", "none")
    ranks = []
    for adapter in adapters:
        for name, update in adapter.items():
            require(isinstance(update, LowRank), method, f"low-rank updates for {name}", type(update).__name__)
        found = {u.columns for u in adapter.values() if isinstance(u, LowRank)}
        require(len(found) == 1, method, "one rank within each adapter", sorted(found))
        ranks.append(found.pop())
    padded = []
    for adapter, rank in zip(adapters, ranks, strict=True):
        scale = next(u.scale for u in adapter.values() if isinstance(u, LowRank))
        full: dict[str, LowRank] = {}
        for name in modules_of(adapters):
            if name in adapter:
                update = adapter[name]
                assert isinstance(update, LowRank)
                full[name] = update
            else:
                out, inner = next(a[name].shape for a in adapters if name in a)
                full[name] = LowRank(np.zeros((out, rank)), np.zeros((rank, inner)), scale)
        padded.append(full)
    return padded


def _peft_merge(combination: str) -> Merge:
    def merge(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
        return peft_weighted(adapters, base, combination, [1.0] * len(adapters), options)

    return merge


def peft_weighted(
    adapters: Sequence[Updates],
    base: nn.Module,
    combination: str,
    weights: Sequence[float],
    options: Options | None = None,
    svd_rank: int | None = None,
) -> dict[str, LowRank]:
    """What peft's ``add_weighted_adapter`` makes of the adapters, read back from its layers (float32 as `base`).

    Args:
        adapters: low-rank adapters of linear modules; padded with zero factors to equal modules first.
        base: the model that they adapt; unchanged afterwards.
        combination: peft's ``combination_type``.
        weights: one per adapter.
        options: density and seed (DARE draws from the global generator; its state is put back).
        svd_rank: for ``svd``; peft's default is the largest rank of an adapter.

    Raises:
        ValueError: dense updates, modules that are not linear, or ranks that `combination` cannot take.
    """
    from peft import LoraConfig

    options = options or Options()
    padded = _like_adapters(adapters, combination)
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
        trimming["density"] = options.density
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
        torch.manual_seed(int(stream(options.seed, "reuse", combination).integers(2**63 - 1)))  # undone by fork_rng
        wrapped.base_model.add_weighted_adapter(
            given, list(weights), "merged", combination_type=combination, **trimming
        )
        found = {module: update_of(layer, "merged") for module, layer in lora_layers(wrapped).items()
                 if holds(layer, "merged")}  # fmt: skip
    require(set(found) == set(names), combination, f"{len(names)} merged modules from peft", len(found))
    return found


# ---------------------------------------------------------------- routers


def subtract_general(adapter: Updates, general: Sequence[Updates]) -> dict[str, LowRank]:
    """Arrow's general-knowledge subtraction as peft does it: mean factors of `general` off the factors of `adapter`.

    Raises:
        ValueError: no general adapters, or modules, ranks or forms that do not match.
    """
    require(len(general) > 0, "general", "at least one general adapter", "none")
    purified = {}
    for name, update in adapter.items():
        peers = [g.get(name) for g in general]
        fits = isinstance(update, LowRank) and all(
            isinstance(p, LowRank) and p.shape == update.shape and p.columns == update.columns for p in peers
        )
        require(fits, "general", f"low-rank updates of {name} with the adapter's shape and rank", "something else")
        assert isinstance(update, LowRank)
        low = [p for p in peers if isinstance(p, LowRank)]
        purified[name] = LowRank(
            update.B - np.mean([p.B for p in low], axis=0), update.A - np.mean([p.A for p in low], axis=0), update.scale
        )
    return purified


def arrow_prototype(update: LowRank) -> Array:
    """Top right singular vector (in,) of an update: the direction of inputs that it reads most."""
    core = update.core()
    _, _, vt = np.linalg.svd(core.core)
    top: Array = (vt[0] @ core.mix_right) @ core.wide_right
    return top


class _ArrowHook:
    """Adds the routed updates to the output of one linear module (Ostapenko et al. 2024, arXiv 2405.11157).

    Per token: scores ``|v_e . x|`` with the prototypes v_e, the k largest kept, softmax over them at a temperature;
    the output is the weighted sum of the updates applied to x. Adapters that do not touch the module take no part.
    """

    def __init__(self, updates: Sequence[LowRank], top: int, temperature: float, like: torch.Tensor) -> None:
        self.top, self.temperature = min(top, len(updates)), temperature
        self.prototypes = torch.as_tensor(np.stack([arrow_prototype(u) for u in updates])).to(like)
        self.factors = [
            (torch.as_tensor(u.scale * u.B).to(like), torch.as_tensor(np.array(u.A)).to(like)) for u in updates
        ]

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        scores = (x @ self.prototypes.T).abs()
        kept, index = scores.topk(self.top, dim=-1)
        share = torch.zeros_like(scores).scatter(-1, index, torch.softmax(kept / self.temperature, dim=-1))
        for e, (b, a) in enumerate(self.factors):
            output = output + share[..., e : e + 1] * ((x @ a.T) @ b.T)
        return output


@contextmanager
def _arrow(
    adapters: Sequence[Updates], base: nn.Module, options: Options, top: int, subtract: bool
) -> Iterator[nn.Module]:
    method = f"arrow_top{top}" + ("_subtract" if subtract else "")
    if subtract:
        adapters = [subtract_general(a, options.general) for a in adapters]
    modules = dict(base.named_modules())
    with ExitStack() as hooks:
        for name in modules_of(adapters):
            module = modules.get(name)
            require(isinstance(module, nn.Linear), method, "linear modules only", name)
            assert isinstance(module, nn.Linear)
            here = [a[name] for a in adapters if name in a]
            require(all(isinstance(u, LowRank) for u in here), method, "low-rank updates", name)
            low = [u for u in here if isinstance(u, LowRank) and u.norm() > 0]
            if low:
                handle = module.register_forward_hook(_ArrowHook(low, top, options.temperature, module.weight))
                hooks.callback(handle.remove)
        yield base


def oracle_right(single: Sequence[np.ndarray]) -> np.ndarray:
    """One-adapter routing by an oracle: a query is right if some single adapter (or the base) answers it right.

    Args:
        single: boolean arrays (n,), one per adapter that the router may choose.
    """
    require(len(single) > 0, "single", "at least one adapter's answers", "none")
    right: np.ndarray = np.logical_or.reduce([np.asarray(s, dtype=bool) for s in single])
    return right


# ---------------------------------------------------------------- the registry

MERGES: dict[str, Merge] = {
    "sum": _sum,
    "mean": _mean,
    "linear": _peft_merge("linear"),
    "cat": _peft_merge("cat"),
    "svd": _peft_merge("svd"),
    "ties": _peft_merge("ties"),
    "dare_linear": _peft_merge("dare_linear"),
    "dare_ties": _peft_merge("dare_ties"),
    "factor_mean": _factor_mean,
    "knots": _knots,
    "random": _random,
}

ROUTERS: dict[str, tuple[int, bool]] = {
    "arrow_top1": (1, False),
    "arrow_top2": (2, False),
    "arrow_top1_subtract": (1, True),
    "arrow_top2_subtract": (2, True),
}

METHODS: tuple[str, ...] = (*MERGES, *ROUTERS)


def check_method(name: str) -> str:
    """`name` if it is a known method or ``file.py:function`` of a readable file.

    Raises:
        ValueError: neither.
    """
    if ".py:" in name:
        own_merge(name)
        return name
    return one_of(name, "method", METHODS)


def own_merge(reference: str) -> Callable[[list[Updates], nn.Module], Any]:
    """The function that ``path/to/file.py:function`` names.

    Raises:
        ValueError: no such file, the file cannot be run, or it has no such function.
    """
    path, _, function = reference.rpartition(":")
    require(Path(path).is_file(), "method", "a file, as in my_merge.py:merge", repr(path))
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    require(spec is not None and spec.loader is not None, "method", "a Python file", repr(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"method: expected a file that runs, got {type(error).__name__} in {path}: {error}") from error
    merge: Callable[[list[Updates], nn.Module], Any] | None = getattr(module, function, None)
    require(callable(merge), "method", f"a function {function!r} in {path}", type(merge).__name__)
    assert merge is not None
    return merge


def merged(name: str, adapters: Sequence[Updates], base: nn.Module, options: Options | None = None) -> Updates:
    """The updates that a merge gives, checked against `base`.

    Raises:
        ValueError: unknown name, adapters that do not fit the base, or a merge that returns the wrong thing.
    """
    require(len(adapters) > 0, "adapters", "at least one adapter", "none")
    for i, adapter in enumerate(adapters):
        check_updates(base, adapter, f"adapters[{i}]")
    if ".py:" in name:
        return check_updates(base, own_merge(name)([dict(a) for a in adapters], base), name)
    return check_updates(
        base, MERGES[one_of(name, "method", tuple(MERGES))](adapters, base, options or Options()), name
    )


@contextmanager
def reused(
    name: str, adapters: Sequence[Updates], base: nn.Module, options: Options | None = None
) -> Iterator[nn.Module]:
    """`base` with the adapters reused by method `name`; as it was, bit for bit, on leaving.

    Raises:
        ValueError: see :func:`merged`.
    """
    if name in ROUTERS:
        top, subtract = ROUTERS[name]
        for i, adapter in enumerate(adapters):
            check_updates(base, adapter, f"adapters[{i}]")
        with _arrow(adapters, base, options or Options(), top, subtract) as model:
            yield model
    else:
        with updated(base, merged(name, adapters, base, options)) as model:
            yield model
