"""The theorems on approximation, read literally, against the functions of :mod:`theory.approximation`.

Coq's ``chain`` lists the OUTPUT layer first, the module the input layer: every call here turns the list around.
Singular values count from 0 in Coq: ``sv_at r s`` is sigma_(r+1). Coq's ``singular_values E`` are those of any
decomposition that is sorted and not negative (singular_values_unique), so the instances give one, rational and with
free signs.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise, product

import numpy as np
import pytest

from tests.proofs.exact import (
    Mat,
    below,
    chain,
    const,
    definite,
    delta,
    diagonal,
    every,
    eye,
    near,
    pseudo_inverse,
    stretches_at_most,
    stretches_some,
    total,
    vstack,
    whole,
    zeros,
)
from theory.approximation import (
    best_update,
    decay_error,
    decay_rank,
    decay_spectrum,
    deep_linear_adapters,
    deep_linear_floor,
    floor_error,
    rounds_needed,
    spectral_rank,
    split_update,
)
from theory.lowrank import LowRank
from theory.numerics import Array, stream

F2 = 2
SMALL = list(every(2, 2, F2))
UNITS = [a for a in SMALL if a.unit()]


def reversed_product(layers: Sequence[Mat], adapters: Sequence[LowRank]) -> Array:
    """The product of the adapted layers, output layer first, from the module's input-first updates."""
    result = np.eye(layers[-1].n)
    for w, u in zip(reversed(layers), adapters, strict=True):
        result = (w.floats() + u.dense()) @ result
    return result


# ---- rounds ----


@pytest.mark.theorem("merge_and_reset")
@pytest.mark.example("merge_and_reset_too_few")
def test_rounds_needed_is_the_least_number_of_the_statement() -> None:
    rng = stream(1, "rounds")
    for m, n, k in ((3, 4, 2), (4, 3, 3), (5, 5, 1), (2, 2, 0)):
        e = whole(rng, m, k) @ whole(rng, k, n) if k else zeros(m, n)
        for r in (1, 2, 3):
            least = next(t for t in range(6) if e.rank() <= t * r)
            assert rounds_needed(e.floats(), r) == least
            parts = split_update(e.floats(), r, least)
            assert all(u.rank() <= r for u in parts)
            assert np.allclose(sum((u.dense() for u in parts), np.zeros((m, n))), e.floats(), atol=1e-9)
            if least:
                with pytest.raises(ValueError):
                    split_update(e.floats(), r, least - 1)
    assert rounds_needed(np.eye(2), 1) == 2  # one is too few
    # wrong reading: the sum of the row spaces of the rounds; here two rounds cancel and reach rank 0
    u = delta(2, 2, 0, 0)
    assert total([u, -u]).rank() == 0 != vstack(u, -u).rank()


# ---- singular values ----

PYTHAGORAS = Mat([[Fraction(3, 5), Fraction(4, 5)], [Fraction(-4, 5), Fraction(3, 5)]])
LONG = Mat([[Fraction(1, 3), Fraction(2, 3), Fraction(2, 3)], [Fraction(2, 3), Fraction(1, 3), Fraction(-2, 3)]])


def orthonormal(q: Mat) -> bool:
    return q @ q.T == eye(q.m)


def sv_sum(p: Mat, s: Sequence[Fraction], q: Mat) -> Mat:
    return p.T @ diagonal(s) @ q


def sv_sorted(s: Sequence[Fraction]) -> bool:
    return all(s[j] ** 2 <= s[i] ** 2 for i in range(len(s)) for j in range(i, len(s)))


def sv_trunc(r: int, s: Sequence[Fraction]) -> list[Fraction]:
    return [x if i < r else Fraction(0) for i, x in enumerate(s)]


def sv_tail(r: int, s: Sequence[Fraction]) -> Fraction:
    return sum((x**2 for x in s[r:]), Fraction(0))


def decompositions() -> list[tuple[Mat, list[Fraction], Mat]]:
    s2 = [[Fraction(3), Fraction(1)], [Fraction(-2), Fraction(2)], [Fraction(5), Fraction(0)]]
    found = [(PYTHAGORAS, s, LONG) for s in s2] + [(LONG, s, PYTHAGORAS) for s in s2]
    found += [(eye(3), [Fraction(3), Fraction(-2), Fraction(1, 2)], eye(3))]
    return found


def sv_at(r: int, s: Sequence[Fraction]) -> Fraction:
    return s[r] if r < len(s) else Fraction(0)


@pytest.mark.theorem("singular_value_decomposition", "singular_values_unique", "spectral_norm_least")
@pytest.mark.example("singular_values_hypotheses", "singular_values_diagonal")
def test_singular_values() -> None:
    # one matrix, several decompositions: other bases, other signs, more terms or fewer
    one, two = eye(2), [Fraction(2)] * 2
    rotated = [(one, two, one), (PYTHAGORAS, two, PYTHAGORAS), (-one, two, -one)]
    wide = sv_sum(PYTHAGORAS, [Fraction(3), Fraction(0)], LONG)
    longer = [(Mat([p.rows[0]]), [Fraction(3)], Mat([q.rows[0]])) for p, q in [(PYTHAGORAS, LONG)]]
    longer += [(PYTHAGORAS, [Fraction(3), Fraction(0)], LONG)]
    for matrix, found in ((2 * one, rotated), (wide, longer)):
        for p, s, q in found:
            assert sv_sum(p, s, q) == matrix
            assert orthonormal(p)
            assert orthonormal(q)
            assert [floor_error(matrix.floats(), r) for r in range(4)] == near([float(sv_at(r, s)) for r in range(4)])
    # every matrix has one, with min(m, n) terms: the spectral norm is the least bound of |E x| / |x|
    rng = stream(11, "singular values")
    for m, n in ((2, 2), (2, 3), (3, 2), (3, 3), (1, 3)):
        for _ in range(4):
            e = whole(rng, m, n)
            s = [Fraction(floor_error(e.floats(), r)) for r in range(min(m, n) + 1)]
            assert s == sorted(s, reverse=True)
            assert s[-1] == 0
            assert float(sv_tail(0, s)) == near(e.frob2())
            assert np.allclose(best_update(e.floats(), min(m, n)).dense(), e.floats(), atol=1e-12)
            for r in range(min(m, n)):
                rest = Mat((e.floats() - best_update(e.floats(), r).dense()).tolist())
                assert stretches_at_most(rest, (s[r] + Fraction(1, 10**9)) ** 2)
                assert s[r] < Fraction(1, 10**9) or not stretches_at_most(rest, (s[r] - Fraction(1, 10**9)) ** 2)
    # not the values: an entry that is negative, a vector that is too long, an order that is not falling
    assert floor_error([[-1.0]], 0) == 1
    assert floor_error([[2.0]], 0) == 2
    assert [floor_error(np.diag([1.0, 2.0]), r) for r in range(3)] == [2, 1, 0]


@pytest.mark.theorem("eckart_young_frobenius", "eckart_young_frobenius_attained")
@pytest.mark.theorem("eckart_young_spectral", "eckart_young_spectral_attained")
def test_eckart_young() -> None:
    rng = stream(2, "eckart-young")
    for p, s, q in decompositions():
        assert orthonormal(p)
        assert orthonormal(q)
        assert sv_sorted(s)
        e = sv_sum(p, s, q)
        for r in range(len(s) + 1):
            kept = sv_sum(p, sv_trunc(r, s), q)
            assert kept.rank() <= r
            assert (e - kept).frob2() == sv_tail(r, s)
            rivals = [kept] + [whole(rng, e.m, r, 2) @ whole(rng, r, e.n, 2) for _ in range(4 if r else 0)]
            rivals += [kept + Fraction(1, 9) * u for u in [kept @ whole(rng, e.n, e.n, 1)] if (kept + u).rank() <= r]
            for u in rivals:
                assert u.rank() <= r
                assert sv_tail(r, s) <= (e - u).frob2()
                if r < len(s):
                    assert stretches_some(e - u, s[r] ** 2)
            assert floor_error(e.floats(), r, "frobenius") ** 2 == near(sv_tail(r, s))
            best = best_update(e.floats(), r)
            if r < len(s):
                assert stretches_at_most(e - kept, s[r] ** 2)
                assert floor_error(e.floats(), r) == near(abs(s[r]))
                assert float(np.linalg.norm(e.floats() - best.dense(), 2)) == near(abs(s[r]))
                # off by one: s 0 r is sigma_(r+1), and sigma_r is another number where it differs
                if r and s[r - 1] ** 2 != s[r] ** 2:
                    assert not stretches_some(e - kept, s[r - 1] ** 2)
                    assert floor_error(e.floats(), r) != near(abs(s[r - 1]))
            assert float(np.linalg.norm(e.floats() - best.dense())) ** 2 == near(sv_tail(r, s))


@pytest.mark.theorem("eckart_young")
@pytest.mark.example("eckart_young_not_free")
def test_eckart_young_without_singular_values() -> None:
    rng = stream(3, "eckart-young")
    used = 0
    for m, n, r in ((2, 3, 1), (3, 3, 2), (3, 2, 0), (2, 2, 1)):
        for _ in range(8):
            d, space = whole(rng, m, n), whole(rng, r + 1, n)
            if space.rank() < r + 1:
                continue
            # largest s2 of a grid with s2 |v|^2 <= |v D^T|^2 on the row space of S: v = c S, a form in c
            gram, form = space @ space.T, space @ d.T @ d @ space.T
            s2 = max((x for x in range(12) if definite(form - x * gram, strictly=False)), default=None)
            assert s2 is not None
            for _ in range(4):
                u = whole(rng, m, r, 2) @ whole(rng, r, n, 2) if r else zeros(m, n)
                rest = d - u
                # some v != 0 in the space with s2 |v|^2 <= |v (D - U)^T|^2: on the kernel of U it is so
                kernel = [v for v in small_vectors(r + 1) if not any((Mat([v]) @ space @ u.T).rows[0])]
                for v in kernel:
                    row = Mat([v]) @ space
                    assert s2 * row.frob2() <= (row @ rest.T).frob2()
                    used += 1
                excess = space @ rest.T @ rest @ space.T - s2 * gram
                assert not definite(-1 * excess, strictly=True)
                if s2:  # and so no U of rank r comes closer than the floor of the code
                    assert np.linalg.norm(rest.floats(), 2) >= math.sqrt(s2) - 1e-9
                    assert floor_error(d.floats(), r) >= math.sqrt(s2) - 1e-9
    assert used > 50
    # S = 0: the premise holds for every s2, and no v != 0 lies in the space
    assert zeros(2, 2).rank() < 2
    assert not any(below(Mat([v]), zeros(2, 2)) for v in small_vectors(2))


def small_vectors(n: int) -> list[tuple[int, ...]]:
    return [v for v in product(range(-2, 3), repeat=n) if any(v)]


@pytest.mark.example("eckart_young_diagonal", "eckart_young_unsorted", "eckart_young_not_orthonormal")
def test_eckart_young_needs_its_hypotheses() -> None:
    e = diagonal([2, 1])
    assert floor_error(e.floats(), 1) == 1 == (e - diagonal([2, 0])).frob2()
    unsorted = [Fraction(1), Fraction(2)]
    assert sv_tail(1, unsorted) == 4
    assert (diagonal(unsorted) - diagonal([0, 2])).frob2() == 1
    assert floor_error([1.0, 2.0], 1, "frobenius") == 1  # the code sorts
    ones = [Fraction(1), Fraction(1)]
    assert sv_tail(1, ones) == 1
    assert sv_sum(eye(2), ones, const(2, 2, 1)).rank() == 1
    assert floor_error(np.ones((2, 2)), 1) == near(0.0)


# ---- chains ----


@pytest.mark.theorem("deep_linear", "deep_linear_rank_rectangular")
def test_updates_move_a_product_by_the_sum_of_their_ranks() -> None:
    rng = stream(4, "chains")
    for sizes in ((3, 3, 3), (3, 3, 3, 3), (2, 4, 3), (4, 1, 3, 2)):
        for _ in range(6):
            layers = [whole(rng, a, b) for a, b in pairwise(sizes)]  # output layer first
            ranks = rng.integers(0, 3, len(layers)).tolist()
            moves = [
                whole(rng, w.m, r) @ whole(rng, r, w.n) if r else zeros(w.m, w.n)
                for w, r in zip(layers, ranks, strict=True)
            ]
            moved = chain([w + u for w, u in zip(layers, moves, strict=True)], sizes[-1])
            before = chain(layers, sizes[-1])
            assert (moved - before).rank() <= sum(u.rank() for u in moves)
            # so the code's floor cannot be beaten: sigma of (target - product) beyond the sum of the ranks is 0
            r = max(u.rank() for u in moves)
            assert deep_linear_floor([w.floats() for w in reversed(layers)], moved.floats(), r) <= 1e-8


@pytest.mark.theorem("deep_linear_exact")
@pytest.mark.example("deep_linear_singular_layer", "deep_linear_singular_targets")
def test_reachable_products_over_a_finite_field() -> None:
    by_rank = {r: [u for u in SMALL if u.rank() <= r] for r in (0, 1, 2)}
    for r in (0, 1, 2):
        assert {(e + u) for e in UNITS[:1] for u in by_rank[r]} == {t for t in SMALL if (t - UNITS[0]).rank() <= r}
    for r in (0, 1):
        for first in UNITS:
            for second in UNITS[::2]:
                layers = [first, second]
                reached = {(first + u) @ (second + v) for u in by_rank[r] for v in by_rank[r]}
                assert reached == {t for t in SMALL if (t - chain(layers, 2, F2)).rank() <= r * 2}
    one, zero = eye(2, F2), zeros(2, 2, F2)
    blind = {(one + u) @ (zero + v) for u in by_rank[1] for v in by_rank[1]}
    assert one not in blind  # although rank (1 - 0) = 2 <= 1 * 2
    with pytest.raises(ValueError):  # and the code refuses a singular layer behind an update that is needed
        deep_linear_adapters([np.eye(2), np.zeros((2, 2))], np.eye(2), 1)
    # from the identity rank 1 twice reaches 0, through no invertible half-way target; so does the code
    assert zero in {(one + u) @ (one + v) for u in by_rank[1] for v in by_rank[1]}
    assert not any(t.unit() for t in SMALL if (zero - t).rank() <= 1)
    made = deep_linear_adapters([np.eye(2), np.eye(2)], np.zeros((2, 2)), 1)
    assert np.abs((np.eye(2) + made[1].dense()) @ (np.eye(2) + made[0].dense())).max() <= 1e-14
    assert deep_linear_floor([np.eye(2), np.eye(2)], np.zeros((2, 2)), 1) == 0


def prefix(layers: Sequence[Mat], count: int) -> Mat:
    """Input layer first."""
    return chain(layers[:count][::-1], layers[0].n)


def suffix(layers: Sequence[Mat], at: int) -> Mat:
    """The product of the layers from `at` up; input layer first."""
    return chain([w.T for w in layers[at:]], layers[-1].m).T


def layer_by_layer(layers: Sequence[Mat], targets: Sequence[Mat]) -> tuple[list[Mat], list[Mat]]:
    """(update l, adapted_prefix l) of the construction; any one-sided inverses do, here Moore-Penrose."""
    updates, adapted = list[Mat](), [eye(layers[0].n)]
    for at, w in enumerate(layers):
        change = targets[at + 1] - targets[at]
        updates.append(pseudo_inverse(suffix(layers, at + 1)) @ change @ pseudo_inverse(adapted[at]))
        adapted.append((w + updates[at]) @ adapted[at])
    return updates, adapted


def chain_instances() -> list[tuple[list[Mat], Mat, Sequence[Fraction], Mat, int]]:
    """(layers input first, P, s, Q, r): T = product + P^T diag(s) Q."""
    rng = stream(5, "chains")
    found = []
    for sizes, p, q, r in (
        ((2, 2, 2), PYTHAGORAS, eye(2), 1),
        ((3, 3, 3, 3), eye(3), eye(3), 1),
        ((3, 4, 2), PYTHAGORAS, LONG, 1),
        ((2, 3, 3), LONG, PYTHAGORAS, 1),
        ((3, 3, 3), LONG, Mat([[1, 0, 0], [0, 0, 1]]), 1),
        ((2, 2), eye(2), eye(2), 1),
        ((2, 3, 2), eye(2), PYTHAGORAS, 0),
    ):
        s: Sequence[Fraction] = [Fraction(7), Fraction(-3), Fraction(2)][: p.m]
        for _ in range(20):
            layers = [whole(rng, b, a) for a, b in pairwise(sizes)]
            count = len(layers)
            targets = [prefix(layers, count) + sv_sum(p, sv_trunc(r * at, s), q) for at in range(count + 1)]
            if any(suffix(layers, at).rank() < sizes[-1] for at in range(1, count)):
                continue
            _, adapted = layer_by_layer(layers, targets)
            if all(a.rank() == sizes[0] for a in adapted[:count]):
                found.append((layers, p, s, q, r))
                break
    assert len(found) == 7
    return found


@pytest.mark.theorem("deep_linear_rectangular", "deep_linear_rectangular_attained", "deep_linear_rectangular_floor")
@pytest.mark.theorem("deep_linear_truncated_targets", "deep_linear_floor", "deep_linear_floor_attained")
@pytest.mark.theorem("deep_linear_attained")
def test_construction_of_the_code() -> None:
    rng = stream(6, "chains")
    for layers, p, s, q, r in chain_instances():
        count, start = len(layers), prefix(layers, len(layers))
        wanted = start + sv_sum(p, s, q)
        targets = [start + sv_sum(p, sv_trunc(r * at, s), q) for at in range(count + 1)]
        updates, adapted = layer_by_layer(layers, targets)
        assert all(u.rank() <= r for u in updates)
        assert adapted[count] == targets[count]
        # output layer first, the same product
        outputs_first = [w + u for w, u in zip(layers, updates, strict=True)][::-1]
        assert chain(outputs_first, layers[0].n) == targets[count]
        left = wanted - adapted[count]
        assert left.frob2() == sv_tail(r * count, s)
        floats = [w.floats() for w in layers]
        floor = deep_linear_floor(floats, wanted.floats(), r)
        if r * count < len(s):
            assert stretches_at_most(left, s[r * count] ** 2)
            assert stretches_some(left, s[r * count] ** 2)
            assert floor == near(abs(s[r * count]))
        else:
            assert floor == near(0.0)
        made = deep_linear_adapters(floats, wanted.floats(), r)
        assert all(u.rank() <= r for u in made)
        product_made = reversed_product(layers[::-1], made)
        assert np.allclose(product_made, targets[count].floats(), rtol=1e-8, atol=1e-8)
        # the code splits the gap otherwise, and builds the same updates from its own intermediate targets
        below = np.eye(layers[0].n)
        for at, update in enumerate(made):
            above = np.linalg.multi_dot([np.eye(layers[-1].m), np.eye(layers[-1].m), *floats[:at:-1]])
            move = above @ update.dense() @ below
            built = np.linalg.pinv(above) @ move @ np.linalg.pinv(below)
            assert np.allclose(built, update.dense(), rtol=1e-7, atol=1e-7)
            below = (floats[at] + update.dense()) @ below
        # no other updates of rank r do better
        for _ in range(3):
            others = [whole(rng, w.m, r) @ whole(rng, r, w.n) if r else zeros(w.m, w.n) for w in layers]
            rest = wanted - prefix([w + u for w, u in zip(layers, others, strict=True)], count)
            assert sv_tail(r * count, s) <= rest.frob2()
            if r * count < len(s):
                assert stretches_some(rest, s[r * count] ** 2)
        # the wrong order of the layers is another product
        if count > 1 and len({(w.m, w.n) for w in layers}) == 1 and layers[0].m == layers[0].n:
            assert chain(layers, layers[0].n) != chain(layers[::-1], layers[0].n)


@pytest.mark.example("deep_linear_diagonal")
def test_diagonal_chain() -> None:
    target = diagonal([2, 3])
    first, second = eye(2) + delta(2, 2, 0, 0), eye(2) + 2 * delta(2, 2, 1, 1)
    assert chain([first, second], 2) == target
    assert (target - eye(2)).rank() == 2
    made = deep_linear_adapters([np.eye(2), np.eye(2)], target.floats(), 1)
    assert [u.rank() for u in made] == [1, 1]
    assert np.allclose(reversed_product([eye(2), eye(2)], made), target.floats(), atol=1e-12)


# ---- spectra ----


@pytest.mark.theorem("spectral_concentration_geometric", "spectral_concentration_geometric_rank")
@pytest.mark.example("spectral_concentration_half")
def test_geometric_spectrum() -> None:
    for q in (Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)):
        rate = -math.log(q)
        for k in (1, 2, 5, 8):
            s = [q**i for i in range(k)]
            shape = decay_spectrum("exponential", rate, k)
            assert np.allclose(shape / shape[0], [float(x) for x in s])  # the code starts at e^-rate: a common factor
            for r in range(k + 1):
                x = q**2
                share = sv_tail(r, s) / sv_tail(0, s)
                assert share == (x**r - x**k) / (1 - x**k)
                assert share <= x**r
                assert decay_error("exponential", rate, r, k) ** 2 == near(share)
                for e in (Fraction(0), Fraction(1, 4), Fraction(1, 2), Fraction(19, 20), Fraction(1)):
                    closed = x**r <= (1 - e) * (1 - x**k) + x**k
                    assert (sv_tail(r, s) <= (1 - e) * sv_tail(0, s)) == closed
            for e in (Fraction(1, 8), Fraction(1, 2), Fraction(19, 20)):
                least = next(r for r in range(k + 1) if sv_tail(r, s) <= (1 - e) * sv_tail(0, s))
                assert decay_rank("exponential", rate, float(e), k) == least
                if q != Fraction(9, 10):  # exact for the floats given
                    assert spectral_rank([float(v) for v in s], float(e)) == least
    half = [Fraction(1), Fraction(1, 2)]
    assert sv_tail(1, half) / sv_tail(0, half) == Fraction(1, 5)
    assert decay_error("exponential", math.log(2), 1, 2) ** 2 == near(0.2)


@pytest.mark.theorem("spectral_concentration_harmonic")
def test_harmonic_spectrum() -> None:
    for k in (1, 2, 5, 30):
        s = [Fraction(1, i + 1) for i in range(k)]
        assert np.allclose(decay_spectrum("power", 1.0, k), [float(x) for x in s], rtol=1e-15)
        for r in range(1, k + 1):
            tail = sv_tail(r, s)
            assert Fraction(1, r + 1) - Fraction(1, k + 1) <= tail <= Fraction(1, r) - Fraction(1, k)
            assert decay_error("power", 1.0, r, k) ** 2 == near(tail / sv_tail(0, s))
        if k > 2:  # with r = 0 there is no upper bound 1/0: the premise 0 < r is needed
            assert sv_tail(0, s) > 1


@pytest.mark.theorem("spectral_concentration_sums")
@pytest.mark.parametrize("power", [0, 1, 2])  # sigma_i = i^(-power / 2), so that energies are rational
def test_spectrum_of_any_power(power: int) -> None:
    for k in (1, 3, 12):
        energies = [Fraction(1, i**power) for i in range(1, k + 1)]
        spectrum = decay_spectrum("power", power / 2, k)
        assert np.allclose(spectrum**2, [float(x) for x in energies], rtol=1e-14)
        for r in range(k + 1):
            kept, whole_sum = sum(energies[:r], Fraction(0)), sum(energies, Fraction(0))
            assert decay_error("power", power / 2, r, k) ** 2 == near((whole_sum - kept) / whole_sum)
            tail = float((spectrum[r:] ** 2).sum() / (spectrum**2).sum())
            assert tail == near((whole_sum - kept) / whole_sum)
