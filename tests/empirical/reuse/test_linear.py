"""Merges that are linear in the updates, and peft's, against dense algebra and peft's own layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from empirical.reuse.linear import random_like, weighted_sum
from empirical.reuse.methods import Options, merged
from empirical.reuse.peft_forms import peft_weighted
from tests.empirical.reuse.adapters import DOUBLE, SINGLE, adapter, close, slow_ties, union_sum
from theory.lowrank import LowRank


def test_sum_and_mean_are_exact_for_unlike_ranks_scales_and_placements(base):
    adapters = [adapter(base, 1, 2, 1.5, [0]), adapter(base, 2, 3, 0.5, [1, 2]), adapter(base, 3, 1, 2.0)]
    close(merged("sum", adapters, base), union_sum(adapters, [1, 1, 1]), DOUBLE)
    close(merged("mean", adapters, base), union_sum(adapters, [1 / 3] * 3), DOUBLE)
    mixed = [adapters[0], {n: u.dense() for n, u in adapters[1].items()}, adapters[2]]
    close(weighted_sum(mixed, [1.0, -2.0, 0.5]), union_sum(adapters, [1, -2, 0.5]), DOUBLE)


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.0])
def test_task_arithmetic_scales_the_sum(base, scale):
    adapters = [adapter(base, 1), adapter(base, 2, 3, 0.5, [1])]
    wanted = union_sum(adapters, [scale] * 2)
    close(merged("sum", adapters, base, Options(scale=scale)), wanted, DOUBLE)
    close(merged(f"sum@{scale}", adapters, base), wanted, DOUBLE)


@pytest.mark.parametrize("layers", [(None, None), ([0], [1, 2])])
def test_cat_and_svd_are_what_peft_makes_of_them(base, layers):
    adapters = [adapter(base, 1, 2, 1.5, layers[0]), adapter(base, 2, 3, 0.5, layers[1])]
    close(merged("cat", adapters, base), union_sum(adapters, [1, 1]), DOUBLE)
    close(merged("cat", adapters, base), peft_weighted(adapters, base, "cat", [1.0, 1.0]))
    close(merged("svd@5", adapters, base), union_sum(adapters, [1, 1]))
    for name, rank in (("svd", None), ("svd@1", 1), ("svd@4", 4), ("svd@5", 5)):
        close(merged(name, adapters, base), peft_weighted(adapters, base, "svd", [1.0, 1.0], svd_rank=rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_svd_is_the_best_approximation_of_its_rank(base, rank):
    adapters = [adapter(base, 1), adapter(base, 2)]
    wanted = {}
    for name, total in union_sum(adapters, [0.5, 0.5]).items():
        u, s, vt = np.linalg.svd(total)
        wanted[name] = (u[:, :rank] * s[:rank]) @ vt[:rank]
    close(merged("svd", adapters, base, Options(rank=rank, scale=0.5)), wanted, 1e3 * DOUBLE)  # two decompositions
    if rank == 2:
        close(merged("svd", adapters, base, Options(scale=0.5)), wanted, 1e3 * DOUBLE)


def test_peft_linear_averages_the_factors(base):
    adapters = [adapter(base, 1, scale=1.5), adapter(base, 2, scale=0.5)]
    wanted = {}
    for name in adapters[0]:
        first, second = (a[name] for a in adapters)
        left = np.sqrt(1.5) * first.B + np.sqrt(0.5) * second.B
        wanted[name] = left @ (np.sqrt(1.5) * first.A + np.sqrt(0.5) * second.A)
    close(merged("linear", adapters, base), wanted)


def test_factor_mean_keeps_a_quarter_and_adds_cross_terms(base):
    adapters = [adapter(base, 1), adapter(base, 2)]
    wanted = {n: 1.5 * sum(a[n].B @ b[n].A for a in adapters for b in adapters) / 4 for n in adapters[0]}
    close(merged("factor_mean", adapters, base), wanted, DOUBLE)


def test_peft_ties_merges_the_factors_entry_by_entry(base):
    adapters = [adapter(base, 1), adapter(base, 2), adapter(base, 3)]
    root = np.sqrt(1.5)
    wanted = {
        n: (root * slow_ties([a[n].B for a in adapters], 0.5)) @ (root * slow_ties([a[n].A for a in adapters], 0.5))
        for n in adapters[0]
    }
    close(merged("ties_factors", adapters, base, Options(density=0.5)), wanted)


@pytest.mark.parametrize("method", ["dare_factors", "dare_ties_factors"])
def test_dare_is_seeded_and_leaves_the_global_generator_alone(base, method):
    adapters = [adapter(base, 1), adapter(base, 2)]
    before = torch.random.get_rng_state()
    made: list[Mapping[str, Any]] = [merged(method, adapters, base, Options(seed=s)) for s in (5, 5, 6)]
    one, again, other = made
    assert torch.equal(before, torch.random.get_rng_state())
    close(one, again, 0.0)
    name = next(iter(one))
    assert np.abs(one[name].dense() - other[name].dense()).max() > 0


def test_dare_linear_keeps_or_drops_each_entry_of_the_factors(base):
    only = [adapter(base, 1), {n: LowRank(0 * u.B, 0 * u.A, u.scale) for n, u in adapter(base, 1).items()}]
    found: Mapping[str, Any] = merged("dare_factors", only, base, Options(density=0.5, seed=2))
    kept = total = 0
    for name, update in only[0].items():
        for got, given in ((found[name].B, update.B), (found[name].A, update.A)):
            ratio = got / (np.sqrt(1.5) * given)
            assert (np.isclose(ratio, 0, atol=0) | np.isclose(ratio, 2, rtol=SINGLE)).all()
            kept, total = kept + int(np.count_nonzero(ratio)), total + ratio.size
    assert abs(kept / total - 0.5) < 5 * 0.5 / np.sqrt(total)  # five standard errors of a fair coin


def test_random_control_has_the_norms_and_ranks(base):
    one = adapter(base, 1)
    noise = random_like(one, seed=4)
    for name in one:
        assert noise[name].norm() == pytest.approx(one[name].norm(), rel=1e-12)  # one division and one SVD
        assert noise[name].rank() == one[name].rank()
        assert abs(noise[name].inner(one[name])) < 0.9 * one[name].norm() ** 2
    array = random_like({"model.norm": np.ones(16)}, seed=4)["model.norm"]
    assert isinstance(array, np.ndarray)
    assert np.linalg.norm(array) == pytest.approx(4.0, rel=1e-12)
    total = merged("random", [one, one], base, Options(seed=4))
    assert set(total) == set(one)
