"""Chains adapted to a target: how long the constructions take, beside one SVD of the gap, and how exact they are.

A construction cannot do without the SVD of the gap, which tells its rank and the error below the threshold, so times
are given as multiples of that, in processor time. Nothing here runs under ``make test``.

Beside the public code of Zeng & Lee (UW-Madison-Lee-Lab/Expressive_Power_of_LoRA at eaeb7d3, in float64), linear chains
take so many times as long, the median of all settings and that of the worst:

    width   2 layers   4 layers   8 layers
       16  1.5, 1.6   1.6, 1.6   1.6, 1.7
       32  1.4, 1.5   1.5, 1.6   1.5, 1.6
       64  1.1, 1.3   1.3, 1.4   1.4, 1.7
      128  0.9, 1.1   1.0, 1.2   1.2, 1.3

That is processor time of one thread, two processes in turns on one core of an AMD EPYC (Zen 3), same weights, November
2026; three seeds of each setting: Gaussian, orthogonal and near-identity layers and those that torch draws, at the rank
that is needed, half of it, and that of a gap of rank size / 4. On Gaussian layers and those of torch the error is 6 to
8e2 times smaller at 2 layers and 3e2 to 2e8 times at 4 (medians, where the target is reached); at 8 theirs has few
digits or none. Orthogonal and near-identity layers are a tie at rounding, and so is what lies above 0 at half the rank.
Transformers of width 16 to 64 with 1 to 3 blocks of two heads take 0.8 to 1.1 times as long (with the copy of the model
that theirs makes), and the error is smaller on each of 36.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest

from theory.approximation import deep_linear_adapters
from theory.networks import Block, TransformerWeights, transformer_adapters
from theory.numerics import Array, stream

#: what is allowed: SVDs per layer, and error relative to ||T||
TIMES, ERROR = 3.5, 1e-12


def layer(rng: np.random.Generator, kind: str, size: int) -> Array:
    """Standard Gaussian entries, or those that torch draws for a linear layer."""
    if kind == "gaussian":
        return rng.standard_normal((size, size))
    return rng.uniform(-1, 1, (size, size)) / math.sqrt(size)


def seconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Processor time, the least of a few runs."""

    def once() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return min(once() for _ in range(rounds))


@pytest.mark.parametrize(
    ("kind", "size", "depth"),
    [
        ("gaussian", 64, 4),
        ("gaussian", 128, 4),
        ("gaussian", 128, 8),
        ("gaussian", 512, 2),
        ("torch", 64, 4),
        ("torch", 128, 4),
    ],
)
def test_deep_linear(kind: str, size: int, depth: int, benchmark) -> None:
    benchmark.group = "deep linear chains, rank size / depth"
    rng = stream(size + depth, kind)
    weights = [layer(rng, kind, size) for _ in range(depth)]
    target = np.linalg.multi_dot([np.eye(size), *(layer(rng, kind, size) for _ in range(depth))])
    rank = -(-size // depth)
    made = benchmark(deep_linear_adapters, weights, target, rank)
    product = np.eye(size)
    for w, u in zip(weights, made, strict=True):
        product = (w + u.dense()) @ product
    error = float(np.linalg.norm(product - target, 2) / np.linalg.norm(target, 2))
    times = seconds(lambda: deep_linear_adapters(weights, target, rank)) / seconds(lambda: np.linalg.svd(target))
    benchmark.extra_info.update(relative_error=error, svds=times)
    print(f"\n{kind}, {depth} layers of size {size}: relative error {error:.1e}, {times:.1f} SVDs")
    assert error <= ERROR
    assert times <= TIMES * depth


def test_transformer(benchmark) -> None:
    """Two blocks of one head at width 64: five chains of two matrices."""
    benchmark.group = "transformer, width 64, two blocks, rank 32"
    rng = stream(64, "transformer")

    def net() -> TransformerWeights:
        def block() -> Block:
            w1, w2, *head = (layer(rng, "gaussian", 64) / 8 for _ in range(6))
            return Block([tuple(head)], w1, rng.standard_normal(64), w2, rng.standard_normal(64))

        return TransformerWeights([block(), block()], layer(rng, "gaussian", 64) / 8)

    frozen, target = net(), net()
    benchmark(transformer_adapters, frozen, target, 32)
    svds = 5 * seconds(lambda: np.linalg.svd(np.asarray(target.Wout)))
    times = seconds(lambda: transformer_adapters(frozen, target, 32)) / svds
    benchmark.extra_info.update(svds=times)
    print(f"\ntransformer of width 64: {times:.1f} SVDs per chain")
    assert times <= TIMES * 2
