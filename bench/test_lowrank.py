"""Merging and truncating four rank-16 adapters: factor space against peft's dense ``svd`` merge, in one run.

``make bench`` prints the times; the ratio is printed and asserted at the end of each size, together with the agreement
of the singular values. Nothing here runs under ``make test``.
"""

import time

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from theory.lowrank import LowRank

K, R = 4, 16
#: singular values come back from peft in float32: its SVD and the products before it round at about 1e-7 relative
AGREE = 1e-5


def adapted(width: int) -> PeftModel:
    """One width x width linear layer with K peft adapters of rank R, both factors Gaussian."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential()
    layer.add_module("proj", torch.nn.Linear(width, width, bias=False))
    config = LoraConfig(r=R, lora_alpha=2 * R, target_modules=["proj"], init_lora_weights=False)
    model = get_peft_model(layer, config, adapter_name="a0")
    for i in range(1, K):
        model.add_adapter(f"a{i}", config)
    return model


def updates_of(model: PeftModel) -> list[LowRank]:
    target = model.base_model.model.proj
    return [
        LowRank(
            target.lora_B[f"a{i}"].weight.detach().numpy(),
            target.lora_A[f"a{i}"].weight.detach().numpy(),
            target.scaling[f"a{i}"],
        )
        for i in range(K)
    ]


def factor_space(parts: list[LowRank]) -> LowRank:
    return LowRank.combine(parts, [1.0 / K] * K).truncate(R)


@pytest.mark.parametrize("width", [2048, 4096])
def test_merge_and_truncate(width: int, benchmark) -> None:
    benchmark.group = f"merge {K} adapters of rank {R} at {width} x {width}, keep rank {R}"
    model = adapted(width)
    parts = updates_of(model)
    merged = benchmark(factor_space, parts)
    started = time.perf_counter()
    model.base_model.add_weighted_adapter(
        [f"a{i}" for i in range(K)], [1.0 / K] * K, "merged", combination_type="svd", svd_rank=R
    )
    dense_seconds = time.perf_counter() - started
    target = model.base_model.model.proj
    peft_values = np.sort(
        LowRank(
            target.lora_B["merged"].weight.detach().numpy(),
            target.lora_A["merged"].weight.detach().numpy(),
            target.scaling["merged"],
        ).singular_values()
    )[::-1]
    ours = merged.singular_values()
    gap = float(np.max(np.abs(ours - peft_values) / ours))
    ratio = dense_seconds / benchmark.stats.stats.median
    benchmark.extra_info.update(peft_svd_seconds=dense_seconds, ratio=ratio, largest_relative_gap=gap)
    print(f"\n{width} x {width}: peft svd {dense_seconds:.2f} s, factor space {benchmark.stats.stats.median:.4f} s,"
          f" ratio {ratio:.0f}, largest relative gap of the singular values {gap:.1e}")  # fmt: skip
    assert gap <= AGREE
    assert ratio >= 100


def test_exact_sum_and_spectrum(benchmark) -> None:
    """The spectrum of the exact sum alone, at 4096 x 4096."""
    rng = np.random.default_rng(0)
    parts = [LowRank(rng.standard_normal((4096, R)), rng.standard_normal((R, 4096))) for _ in range(K)]
    values = benchmark(lambda: LowRank.combine(parts, [1.0] * K).singular_values())
    assert len(values) == K * R
