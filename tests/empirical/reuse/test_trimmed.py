"""TIES, DARE and Breadcrumbs on updates, against definitions evaluated entry by entry."""

import numpy as np
import pytest

from empirical.reuse import trimmed
from empirical.reuse.methods import Options, merged, peft_weighted
from empirical.training.bases import dense
from tests.empirical.reuse.adapters import adapter, close, formed, slow_election, union_sum
from theory.lowrank import LowRank
from theory.numerics import stream


def whole(adapters):
    """Each adapter as one vector over its own modules, and the way back to its modules."""
    for one in adapters:
        parts = {n: u.scale * (u.B @ u.A) for n, u in one.items()}
        ends = np.cumsum([p.size for p in parts.values()])[:-1]
        yield (
            np.concatenate([p.ravel() for p in parts.values()]),
            lambda v, parts=parts, ends=ends: {
                n: piece.reshape(p.shape) for (n, p), piece in zip(parts.items(), np.split(v, ends), strict=True)
            },
        )


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("layers", [(None, None, None), ([0, 1], [1, 2], None)])
def test_ties_trims_the_updates_over_the_whole_model(base, density, layers):
    # strong and weak modules, so that a threshold by module would keep others than one for all
    adapters = []
    for seed, placed in zip((1, 2, 3), layers, strict=True):
        given = adapter(base, seed, layers=placed)
        adapters.append({n: LowRank(u.B, u.A, u.scale * 2.0 ** (-i % 4)) for i, (n, u) in enumerate(given.items())})
    kept = []
    for vector, back in whole(adapters):
        order = np.argsort(-np.abs(vector), kind="stable")
        thin = np.zeros_like(vector)
        thin[order[: int(density * vector.size)]] = vector[order[: int(density * vector.size)]]
        kept.append(back(thin))
    wanted = {
        n: 0.7 * slow_election([k.get(n, np.zeros(v.shape[1:])) for k in kept]) for n, v in formed(adapters).items()
    }
    close(merged("ties", adapters, base, Options(density=density, scale=0.7)), wanted)


def test_ties_of_one_adapter_keeps_what_is_largest_anywhere(base):
    one = adapter(base, 1)
    loud = next(iter(one))
    one = {n: LowRank(u.B, u.A, u.scale * (1e4 if n == loud else 1.0)) for n, u in one.items()}
    share = np.prod(one[loud].shape) / sum(np.prod(u.shape) for u in one.values())
    found = merged("ties", [one], base, Options(density=0.9 * share))
    assert np.count_nonzero(dense(found[loud])) > 0
    assert not any(np.any(dense(found[n])) for n in one if n != loud)
    by_layer = peft_weighted([one], base, "ties", [1.0], density=0.9 * share)
    assert all(np.any(dense(u)) for u in by_layer.values()), "peft trims each factor of each layer by itself"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_threshold_is_the_entry_that_a_sort_finds(size):
    rng = stream(size, "threshold")
    values = (rng.standard_normal(size) * 10.0 ** rng.integers(-30, 30, size)).astype(np.float32)
    values[::5] = values[0]  # equal ones
    arrays = [values[: size // 3], values[size // 3 :]]
    for density in (0.001, 0.2, 0.5, 0.999, 1.0):
        keep = int(density * size)
        wanted = np.sort(np.abs(values))[::-1][keep - 1] if keep else np.inf
        assert trimmed.threshold(lambda: iter(arrays), density) == wanted


def test_dare_drops_entries_of_the_updates_and_rescales(base):
    one, other = adapter(base, 1), adapter(base, 2)
    found = merged("dare", [one], base, Options(density=0.3, seed=5))
    kept = total = 0
    for name, (value,) in formed([one]).items():
        ratio = dense(found[name]) / value
        assert (np.isclose(ratio, 0, atol=0) | np.isclose(ratio, 1 / 0.3, rtol=1e-4)).all()
        kept, total = kept + int(np.count_nonzero(ratio)), total + ratio.size
    assert abs(kept / total - 0.3) < 5 * np.sqrt(0.3 * 0.7 / total)  # five standard errors
    alone = [merged("dare", [a], base, Options(density=0.3, seed=5)) for a in (one, {**one})]
    close(alone[0], alone[1], 0.0)
    assert not np.array_equal(
        dense(merged("dare", [one], base, Options(density=0.3, seed=6))[name]), dense(found[name])
    )
    both = merged("dare", [one, other], base, Options(density=1.0, scale=0.4))
    close(both, union_sum([one, other], [0.4, 0.4]))


def test_dare_drops_each_adapter_by_its_own_draws(base):
    one = adapter(base, 1)
    double = merged("dare", [one, one], base, Options(density=0.5))
    name = next(iter(one))
    ratio = np.round(dense(double[name]) / formed([one])[name][0])
    assert set(np.unique(ratio)) == {0.0, 2.0, 4.0}, "one draw for both would give 0 and 4 alone"


def test_dare_ties_elects_signs_of_what_dare_left(base):
    adapters = [adapter(base, 1), adapter(base, 2)]
    options = Options(density=0.5, seed=3, scale=1.3)
    first = merged("dare", [adapters[0]], base, Options(density=0.5, seed=3))
    total = merged("dare", adapters, base, Options(density=0.5, seed=3))
    wanted = {n: 1.3 * slow_election([dense(first[n]), dense(total[n]) - dense(first[n])]) for n in first}
    found = merged("dare_ties", adapters, base, options)
    for name in wanted:  # a difference of two single-precision numbers leaves rounding where an entry was dropped
        assert np.mean(np.isclose(dense(found[name]), wanted[name], rtol=1e-4, atol=1e-5)) > 0.98
    close(merged("dare_ties", adapters, base, Options(density=1.0)),
          {n: slow_election(v) for n, v in formed(adapters).items()})  # fmt: skip


@pytest.mark.parametrize("density", [0.2, 0.9])
def test_breadcrumbs_drops_the_largest_and_the_smallest_of_each_module(base, density, monkeypatch):
    monkeypatch.setattr(trimmed, "OUTLIERS", 0.05)
    adapters = [adapter(base, 1), adapter(base, 2, layers=[1])]
    wanted = {}
    for name, values in formed(adapters).items():
        total = np.zeros(values.shape[1:])
        for v in values:
            order = np.argsort(-np.abs(v).ravel(), kind="stable")
            top = int(0.05 * v.size)
            keep = order[top : top + int(density * v.size)]
            thin = np.zeros(v.size)
            thin[keep] = v.ravel()[keep]
            total += thin.reshape(v.shape)
        wanted[name] = 0.6 * total
    close(merged("breadcrumbs", adapters, base, Options(density=density, scale=0.6)), wanted)


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties", "breadcrumbs"])
def test_no_large_dense_update_is_formed(base, monkeypatch, method):
    monkeypatch.setattr(trimmed, "LARGEST", 16 * 32 - 1)
    with pytest.raises(ValueError, match=r"updates: expected at most 511 entries in model\.layers.*, got 512"):
        merged(method, [adapter(base, 1)], base)
