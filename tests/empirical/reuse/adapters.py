"""Random adapters, and what the tests of the methods compare with."""

import numpy as np
import torch

from empirical.training.bases import dense, linear_modules
from theory.lowrank import LowRank
from theory.numerics import stream

# float32 layers of at most 32 x 32 with entries of order 1: sums of 32 products, each rounded to 2^-24, and the merge
# on top of them
SINGLE = 64 * 2.0**-24
# the same in double precision
DOUBLE = 64 * np.finfo(np.float64).eps


def adapter(base, seed, rank=2, scale=1.5, layers=None):
    """A random adapter; entries are float32 numbers, as a trained one's are."""
    rng = stream(seed, "adapter")
    modules = dict(base.named_modules())
    found = {}
    for name in linear_modules(base, layers):
        out, inner = modules[name].weight.shape
        b, a = rng.standard_normal((out, rank)), rng.standard_normal((rank, inner))
        found[name] = LowRank(b.astype(np.float32) * 0.25, a.astype(np.float32) * 0.25, scale)
    return found


def close(found, wanted, tolerance=SINGLE):
    assert set(found) == set(wanted)
    for name in wanted:
        want = dense(wanted[name])
        assert np.abs(dense(found[name]) - want).max() <= tolerance * max(1.0, np.abs(want).max()), name


def logits(model, tokens=((3, 7, 1), (9, 2, 5))):
    with torch.no_grad():
        return model(input_ids=torch.tensor(tokens)).logits


def formed(adapters):
    """Dense updates (k, out, in) by module, zero where an adapter does not touch it."""
    shapes = {n: u.shape for a in adapters for n, u in a.items()}
    return {
        n: np.array([a[n].scale * (a[n].B @ a[n].A) if n in a else np.zeros(shape) for a in adapters])
        for n, shape in shapes.items()
    }


def union_sum(adapters, weights):
    return {n: np.tensordot(weights, values, axes=1) for n, values in formed(adapters).items()}


def slow_ties(values, density):
    """TIES entry by entry."""
    trimmed = []
    for v in values:
        order = sorted(range(v.size), key=lambda i: -abs(v.flat[i]))
        keep = set(order[: int(density * v.size)])
        trimmed.append(np.array([v.flat[i] if i in keep else 0.0 for i in range(v.size)]).reshape(v.shape))
    return slow_election(trimmed)


def slow_election(values):
    """TIES' signs and mean, entry by entry."""
    out = []
    for entries in zip(*(v.ravel() for v in values), strict=True):
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [e for e in entries if e * sign > 0]
        out.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return np.array(out).reshape(values[0].shape)
