"""Merges that are linear in the updates, or would be if factors were updates; and the random control."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from empirical.training.bases import Update, Updates, dense
from theory.lowrank import LowRank
from theory.merging import factor_average
from theory.numerics import Array, require, stream


def modules_of(updates: Sequence[Updates]) -> list[str]:
    """Names of all modules that some adapter touches, in order of first appearance."""
    return list(dict.fromkeys(name for adapter in updates for name in adapter))


def shape_of(updates: Sequence[Updates], name: str) -> tuple[int, ...]:
    """The shape of the module's weight. Raises ValueError where adapters differ in it."""
    shapes = {tuple(adapter[name].shape) for adapter in updates if name in adapter}
    require(len(shapes) == 1, "updates", f"equal shapes for {name}", sorted(shapes))
    return shapes.pop()


def by_module(updates: Sequence[Updates]) -> Iterator[tuple[str, list[LowRank]]]:
    """Module by module the update of every adapter in factors, of rank 0 where an adapter does not touch it.

    Raises:
        ValueError: different shapes, or a weight that is no matrix.
    """
    for name in modules_of(updates):
        shape = shape_of(updates, name)
        require(len(shape) == 2, "updates", f"a matrix for {name}", f"shape {shape}")
        absent = LowRank(np.zeros((shape[0], 0)), np.zeros((0, shape[1])))
        yield name, [in_factors(adapter.get(name, absent)) for adapter in updates]


def in_factors(update: Update) -> LowRank:
    """The same update (out x in) as B A; a dense one beside an identity."""
    if isinstance(update, LowRank):
        return update
    out, inner = update.shape
    return LowRank(np.eye(out), update) if out <= inner else LowRank(update, np.eye(inner))


def weighted_sum(updates: Sequence[Updates], weights: Sequence[float]) -> dict[str, Update]:
    """``sum_i w_i U_i`` module by module, exactly; an adapter that does not touch a module counts as zero there.

    Ranks, scales and placements may differ. Low-rank updates stay low-rank (columns are stacked).
    """
    require(len(updates) > 0, "updates", "at least one adapter", "none")
    require(len(weights) == len(updates), "weights", f"{len(updates)} weights", len(weights))
    merged: dict[str, Update] = {}
    for name in modules_of(updates):
        shape_of(updates, name)
        present = [(a[name], w) for a, w in zip(updates, weights, strict=True) if name in a]
        low = [u for u, _ in present if isinstance(u, LowRank)]
        if len(low) == len(present):
            merged[name] = LowRank.combine(low, [w for _, w in present])
        else:
            merged[name] = np.sum([w * dense(u) for u, w in present], axis=0)
    return merged


def scaled_sum(updates: Sequence[Updates], scale: float) -> Updates:
    """Task arithmetic (Ilharco et al. 2023, arXiv 2212.04089): the sum of the updates times one factor.

    What peft calls ``cat`` is this sum at scale 1, its columns stacked.
    """
    return weighted_sum(updates, [scale] * len(updates))


def mean(updates: Sequence[Updates]) -> Updates:
    """The mean of the updates: each keeps 1/k."""
    return weighted_sum(updates, [1.0 / len(updates)] * len(updates))


def svd(updates: Sequence[Updates], scale: float, rank: int | None) -> Updates:
    """The best approximation of the scaled sum with at most `rank` directions in every module (Eckart-Young).

    Without a rank: the largest number of columns of an adapter in that module, which is what peft's ``svd`` takes.
    """
    return {
        name: LowRank.combine(low, [scale] * len(low)).truncate(max(u.columns for u in low) if rank is None else rank)
        for name, low in by_module(updates)
    }


def factor_mean(updates: Sequence[Updates]) -> Updates:
    """B and A averaged with weights 1/k each: 1/k^2 of every update is kept, and cross terms are added.

    This is Uniform as mttl mixes it (Ostapenko et al. 2024, arXiv 2405.11157); `mean` is its update form.
    """
    weights = [1.0 / len(updates)] * len(updates)
    padded = padded_factors(updates, "factor_mean")
    return {n: factor_average([a[n] for a in padded], weights, "plain") for n in modules_of(updates)}


def padded_factors(updates: Sequence[Updates], method: str) -> list[dict[str, LowRank]]:
    """The adapters on all modules that any of them touches, with zero factors where one has none.

    Raises:
        ValueError: no adapters, dense updates, or more than one number of columns within an adapter.
    """
    require(len(updates) > 0, "updates", "at least one adapter", "none")
    ranks = []
    for adapter in updates:
        for name, update in adapter.items():
            require(isinstance(update, LowRank), method, f"low-rank updates for {name}", type(update).__name__)
        found = {u.columns for u in adapter.values() if isinstance(u, LowRank)}
        require(len(found) == 1, method, "one rank within each adapter", sorted(found))
        ranks.append(found.pop())
    padded = []
    for adapter, rank in zip(updates, ranks, strict=True):
        scale = next(u.scale for u in adapter.values() if isinstance(u, LowRank))
        full: dict[str, LowRank] = {}
        for name in modules_of(updates):
            if name in adapter:
                full[name] = in_factors(adapter[name])
            else:
                out, inner = shape_of(updates, name)
                full[name] = LowRank(np.zeros((out, rank)), np.zeros((rank, inner)), scale)
        padded.append(full)
    return padded


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
            values: Array = rng.standard_normal(update.shape)
            drawn[module] = values * (np.linalg.norm(update) / np.linalg.norm(values))
    return drawn


def random(updates: Sequence[Updates], seed: int) -> Updates:
    """Control: the sum of random adapters of the same ranks and norms."""
    return scaled_sum([random_like(a, seed, f"adapter {i}") for i, a in enumerate(updates)], 1.0)
