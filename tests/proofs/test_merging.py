"""The theorems on merging, read literally, against the functions of :mod:`theory.merging`."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy.optimize import linprog

from tests.proofs.exact import (
    Mat,
    column,
    const,
    delta,
    diagonal,
    direct,
    every,
    eye,
    hstack,
    near,
    stretches_at_most,
    total,
    vstack,
    weighted,
    whole,
    wins,
    zeros,
)
from theory.lowrank import LowRank
from theory.merging import (
    best_weights,
    dilution_limit,
    factor_average,
    factor_average_error,
    interference_bound,
    least_weights,
    mask_share,
    merged_rank,
    surviving_facts,
)
from theory.numerics import stream

Weights = Sequence[Fraction]


def col_direct(parts: Sequence[Mat]) -> bool:
    return direct([part.T for part in parts])


def low_rank(b: Mat, a: Mat, scale: Fraction | int = 1) -> LowRank:
    return LowRank(b.floats(), a.floats(), float(scale))


# ---- ranks ----


@pytest.mark.theorem("merge_rank", "merge_rank_sum", "merge_rank_eq", "merge_rank_factors", "merge_rank_truncate")
def test_merged_rank_of_the_code() -> None:
    rng = stream(1, "ranks")
    seen = set()
    for m, n, ranks in ((3, 3, (1, 1)), (4, 5, (2, 1, 1)), (3, 4, (1, 2)), (2, 2, (2, 1)), (4, 4, (1, 0, 2))):
        for bound in (1, 1, 1, 3):
            left, right = [whole(rng, m, r, bound) for r in ranks], [whole(rng, r, n, bound) for r in ranks]
            weights = [Fraction(int(x)) for x in rng.choice([-2, -1, 1, 3], len(ranks))]
            updates = [b @ a for b, a in zip(left, right, strict=True)]
            merged = weighted(weights, updates)
            summed = sum(u.rank() for u in updates)
            independent = direct(updates) and col_direct(updates)
            assert merged.rank() <= summed <= sum(ranks)
            assert (merged.rank() == summed) == independent
            if all(b.rank() == a.rank() == r for b, a, r in zip(left, right, ranks, strict=True)):
                assert (merged.rank() == sum(ranks)) == (direct(right) and col_direct(left))
            for r in range(3):
                stand_in = whole(rng, m, r) @ whole(rng, r, n) if r else zeros(m, n)
                if independent:
                    assert (merged - stand_in).rank() >= summed - r
            found = merged_rank([low_rank(w * b, a) for w, b, a in zip(weights, left, right, strict=True)])
            assert found == (merged.rank(), summed, independent)
            seen.add(independent)
    assert seen == {True, False}


@pytest.mark.example(
    "merge_rank_diagonal", "merge_rank_col_needed", "merge_rank_row_needed", "merge_rank_weight_needed"
)
def test_merge_rank_needs_both_spaces_and_the_matrix_sum() -> None:
    units = [delta(3, 3, i, i) for i in range(3)]
    assert total(units).rank() == 3 == merged_rank([LowRank(u.floats(), np.eye(3)) for u in units]).rank
    outputs = [delta(1, 2, 0, i) for i in range(2)]
    assert direct(outputs)
    assert total(outputs).rank() == 1 == merged_rank([LowRank(np.ones((1, 1)), u.floats()) for u in outputs]).rank
    inputs = [u.T for u in outputs]
    assert col_direct(inputs)
    found = merged_rank([LowRank(u.floats(), np.ones((1, 1))) for u in inputs])
    assert total(inputs).rank() == 1 == found.rank
    assert not found.independent
    # scope MS reads the sum as one of row spaces: that rank is 2, and the code follows the matrix sum
    assert vstack(*outputs).rank() == 2 != total(outputs).rank()
    opposite = [eye(2), -eye(2)]
    assert total(opposite).rank() == 0 == merged_rank([LowRank(u.floats(), np.eye(2)) for u in opposite]).rank
    assert vstack(*opposite).rank() == 2
    assert (0 * eye(1)).rank() == 0 != eye(1).rank()
    assert LowRank.combine([LowRank([[1.0]], [[1.0]])], [0.0]).rank() == 0


# ---- averages of factors ----


def factor_merge(b: Weights, a: Weights, left: Sequence[Mat], right: Sequence[Mat]) -> Mat:
    return weighted(b, left) @ weighted(a, right)


def cross_terms(b: Weights, a: Weights, left: Sequence[Mat], right: Sequence[Mat]) -> Mat:
    start = zeros(left[0].m, right[0].n, left[0].p)
    pairs = [(i, j) for i in range(len(left)) for j in range(len(left)) if j != i]
    return total([start, *((b[i] * a[j]) * (left[i] @ right[j]) for i, j in pairs)])


def adapters(seed: str, m: int, n: int, r: int, k: int) -> tuple[list[Mat], list[Mat]]:
    rng = stream(2, seed, m, n, r, k)
    return [whole(rng, m, r) for _ in range(k)], [whole(rng, r, n) for _ in range(k)]


@pytest.mark.theorem("factor_average", "factor_average_sqrt", "factor_average_plain")
def test_factor_average_of_the_code() -> None:
    for m, n, r, k in ((3, 4, 2, 2), (2, 2, 1, 3), (3, 3, 2, 1), (2, 3, 3, 4)):
        left, right = adapters("average", m, n, r, k)
        own = [b @ a for b, a in zip(left, right, strict=True)]
        c = [Fraction(x) for x in (1, -2, 3, Fraction(1, 2))][:k]
        assert factor_merge(c, c, left, right) == weighted([x**2 for x in c], own) + cross_terms(c, c, left, right)
        # peft's sign sits on one side: b_i = sqrt |w_i|, a_i = sign(w_i) sqrt |w_i|; squares are rational here
        b, a = [abs(x) for x in c], c
        w = [x * y for x, y in zip(b, a, strict=True)]
        assert factor_merge(b, a, left, right) - weighted(w, own) == cross_terms(b, a, left, right)
        updates = [low_rank(x, y) for x, y in zip(left, right, strict=True)]
        made = factor_average(updates, [float(x) for x in w], "sqrt")
        assert np.allclose(made.dense(), factor_merge(b, a, left, right).floats(), rtol=1e-12, atol=1e-12)
        wanted, error = weighted(w, own), cross_terms(b, a, left, right)
        if wanted.frob2():
            ratio = factor_average_error(updates, [float(x) for x in w], "sqrt")
            assert ratio**2 == near(float(error.frob2() / wanted.frob2()))
        # plain, weights 1/k: 1/k^2 of each update
        q = [Fraction(1, k)] * k
        cross = cross_terms([Fraction(1)] * k, [Fraction(1)] * k, left, right)
        assert factor_merge(q, q, left, right) == Fraction(1, k) ** 2 * (total(own) + cross)
        assert Fraction(1, k) ** 2 * total(own) == Fraction(1, k) * weighted(q, own)
        plain = factor_average(updates, [1 / k] * k, "plain")
        assert np.allclose(plain.dense(), factor_merge(q, q, left, right).floats(), rtol=1e-12, atol=1e-12)
        # the wrong reading, 1/k of each update beside the cross terms, is another matrix for k > 1
        assert (factor_merge(q, q, left, right) == Fraction(1, k) * total(own) + Fraction(1, k * k) * cross) == (k == 1)


@pytest.mark.example("factor_average_two")
def test_two_orthogonal_adapters() -> None:
    left, right = [delta(2, 2, i, 0) for i in range(2)], [delta(2, 2, 0, i) for i in range(2)]
    half = [Fraction(1, 2)] * 2
    assert factor_merge(half, half, left, right) == const(2, 2, Fraction(1, 4))
    updates = [low_rank(b, a) for b, a in zip(left, right, strict=True)]
    assert np.array_equal(factor_average(updates, [0.5, 0.5], "plain").dense(), np.full((2, 2), 0.25))
    assert factor_average_error(updates, [0.5, 0.5], "sqrt") == near(1.0)
    assert factor_average_error(updates, [0.5, 0.5], "plain") ** 2 == near(0.5)


@pytest.mark.theorem("factor_average_gauge")
def test_other_factors_of_the_same_updates_average_to_another_matrix() -> None:
    one, t, half = eye(1), 2 * eye(1), [Fraction(1, 2)] * 2
    left, right = [one @ t, one], [t.inverse() @ one, one]
    assert [b @ a for b, a in zip(left, right, strict=True)] == [one, one]
    assert (
        factor_merge(half, half, left, right) == Fraction(9, 8) * one != factor_merge(half, half, [one] * 2, [one] * 2)
    )
    errors = [
        factor_average_error([low_rank(b, a) for b, a in zip(bs, as_, strict=True)], [0.5, 0.5], "plain")
        for bs, as_ in ((left, right), ([one] * 2, [one] * 2))
    ]
    assert errors[0] == near(1 / 8)
    assert errors[1] == near(0.0)


@pytest.mark.theorem("factor_average_exact", "factor_average_neq0", "factor_average_col_direct")
def test_cross_terms_do_not_cancel() -> None:
    p, seen = 3, set()
    columns, rows = list(every(3, 1, p)), list(every(1, 2, p))
    rng = stream(3, "cross")
    for _ in range(1500):
        k = int(rng.integers(2, 4))
        left = [columns[i] for i in rng.integers(0, len(columns), k)]
        right = [rows[i] for i in rng.integers(0, len(rows), k)]
        b, a = rng.integers(0, p, k).tolist(), rng.integers(0, p, k).tolist()
        zero = not cross_terms(b, a, left, right).rank()
        pairs = [(i, j) for i in range(k) for j in range(k) if i != j]
        if direct(right) and col_direct(left):
            each = all(b[i] * a[j] % p == 0 or not (left[i] @ right[j]).rank() for i, j in pairs)
            assert zero == each
            if all(b) and all(a) and all(x.rank() == 1 for x in left) and all(y.rank() for y in right):
                assert not zero
                seen.add("neq0")
        if (k - 1) % p and col_direct(left) and all(b) and all(x.rank() == 1 for x in left):
            assert zero == all(not (a[j] * right[j]).rank() for j in range(k))
            seen.add(f"col {zero}")
    assert {"neq0", "col True", "col False"} <= seen


@pytest.mark.example("factor_average_row_needed", "factor_average_col_needed", "factor_average_char_needed")
def test_cross_terms_that_cancel() -> None:
    ones = [Fraction(1)] * 3
    left = [delta(3, 3, i, i) for i in range(3)]
    right = [column([0 if i == j else 1 if (i + 1) % 3 == j else -1 for i in range(3)]) for j in range(3)]
    assert col_direct(left)
    assert cross_terms(ones, ones, left, right) == zeros(3, 1)
    assert left[0] @ right[1] != zeros(3, 1)
    updates = [low_rank(b, a) for b, a in zip(left, right, strict=True)]
    own = total([b @ a for b, a in zip(left, right, strict=True)])
    assert own == zeros(3, 1)  # so the wanted sum is zero, and the averaged one too: the code reports 0
    assert factor_average_error(updates, [1.0] * 3, "sqrt") == 0.0
    turned = [a.T for a in right], [b.T for b in left]
    assert direct(turned[1])
    assert cross_terms(ones, ones, *turned) == zeros(1, 3)
    assert turned[0][1] @ turned[1][0] != zeros(1, 3)
    over_two = [delta(3, 1, i, 0, 2) for i in range(3)]
    assert cross_terms([Fraction(1)] * 3, [Fraction(1)] * 3, over_two, [eye(1, 2)] * 3) == zeros(3, 1, 2)


@pytest.mark.theorem("factor_average_rank")
def test_factor_average_has_the_rank_of_one_adapter() -> None:
    used = 0
    for m, n, r, k in ((4, 4, 1, 2), (4, 5, 2, 2), (3, 3, 1, 3), (6, 6, 2, 3)):
        left, right = adapters("rank", m, n, r, k)
        own = [x @ y for x, y in zip(left, right, strict=True)]
        if not (direct(own) and col_direct(own)):
            continue
        used += 1
        w, b, a = [Fraction(3)] * k, [Fraction(i + 1) for i in range(k)], [Fraction(1, i + 1) for i in range(k)]
        merged = factor_merge(b, a, left, right)
        assert merged.rank() <= r
        assert (weighted(w, own) - merged).rank() >= sum(u.rank() for u in own) - r
        updates = [low_rank(x, y) for x, y in zip(left, right, strict=True)]
        for convention in ("sqrt", "plain"):
            averaged = factor_average(updates, [1 / k] * k, convention)
            wanted = LowRank.combine(updates, [1 / k] * k)
            missed = LowRank.combine([averaged, wanted], [1.0, -1.0])
            assert missed.rank() >= sum(u.rank() for u in own) - r
    assert used >= 3


@pytest.mark.theorem("factor_average_sqrt_error", "factor_average_plain_error")
@pytest.mark.example("orthogonal_adapters")
def test_error_of_orthogonal_adapters() -> None:
    for k, r in product((1, 2, 3, 4), (1, 2)):
        left = [2 * vstack(*(delta(1, r, 0, 0) if i == j else zeros(1, r) for j in range(k))) for i in range(k)]
        right = [hstack(*(delta(r, 1, 0, 0) if i == j else zeros(r, 1) for j in range(k))) for i in range(k)]
        pairs = list(product(range(k), range(k)))
        terms = {(i, j): left[i] @ right[j] for i, j in pairs}
        assert all(x.frob2() == 4 for x in terms.values())
        assert all((terms[x] @ terms[y].T).trace() == 0 for x, y in product(pairs, pairs) if x != y)
        own = [terms[i, i] for i in range(k)]
        updates = [low_rank(b, a) for b, a in zip(left, right, strict=True)]
        for c in (Fraction(1), Fraction(-3, 2)):
            wanted = weighted([c**2] * k, own)
            assert (factor_merge([c] * k, [c] * k, left, right) - wanted).frob2() == (k - 1) * wanted.frob2()
            assert factor_average_error(updates, [float(c**2)] * k, "sqrt") ** 2 == near(k - 1)
        q = Fraction(1, k)
        wanted = weighted([q] * k, own)
        assert (factor_merge([q] * k, [q] * k, left, right) - wanted).frob2() == (1 - q) * wanted.frob2()
        assert factor_average_error(updates, [1 / k] * k, "plain") ** 2 == near(float(1 - q))


# ---- dilution ----


def gap(logits: Mat, z0: int, z: int) -> Fraction:
    return logits[z0, 0] - logits[z, 0]


@pytest.mark.theorem("dilution", "dilution_limit")
def test_mean_of_updates_keeps_what_the_limit_says() -> None:
    rng = stream(4, "dilution")
    seen = {True: 0, False: 0}
    key = column([1, 1, 0])
    for _ in range(800):
        k, m = int(rng.integers(1, 5)), int(rng.integers(2, 4))
        readout, h = whole(rng, m, 2), whole(rng, 2, 1)
        updates = [whole(rng, 2, 3, 6)] + [whole(rng, 2, 3) for _ in range(k - 1)]
        # the others must leave the key alone: make rows orthogonal to it
        updates[1:] = [Mat([[x, -x, y] for x, _, y in u.rows]) for u in updates[1:]]
        z0 = int(rng.integers(m))
        base, own = readout @ h, readout @ (updates[0] @ key)
        if not wins(base + own, z0):
            continue
        kept = wins(readout @ (h + Fraction(1, k) * (total(updates) @ key)), z0)
        positive = [z for z in range(m) if gap(base, z0, z) < 0]
        assert kept == all(k * -gap(base, z0, z) < gap(own, z0, z) for z in positive)
        limits = [dilution_limit(float(gap(own, z0, z)), float(-gap(base, z0, z))) for z in positive]
        assert kept == all(k <= limit for limit in limits)
        seen[kept] += 1
    assert min(seen.values()) >= 20


@pytest.mark.theorem("dilution_limit")
@pytest.mark.example("dilution_ten_five")
def test_limit_is_the_number_of_the_statement() -> None:
    for gain, deficit in product((-3, 0, 1, 4, 5, 10, 11), (1, 2, 5)):
        c = dilution_limit(gain, deficit)
        assert c == max(math.ceil(Fraction(gain, deficit)) - 1, 0)
        assert c == 0 or c * deficit < gain
        assert gain <= (c + 1) * deficit
        for k in range(1, 13):
            assert (k * deficit < gain) == (k <= c)
        squares = dilution_limit(gain, deficit, "factor")
        assert all((k**2 * deficit < gain) == (k <= squares) for k in range(1, 5))
    assert dilution_limit(10, 5) == 1  # floor(gain / deficit) = 2 is the wrong reading: 10 = 2 * 5 is a tie


@pytest.mark.theorem("dilution_factor", "dilution_factor_own")
@pytest.mark.theorem("dilution_factor_opposite")
@pytest.mark.example("dilution_works_needed", "dilution_overlap")
def test_average_of_factors() -> None:
    rng = stream(5, "dilution")
    seen, own_seen = set(), set()
    key = column([1, 1])
    for at in range(500):
        k, m, r = int(rng.integers(1, 4)), 2, int(rng.integers(1, 3))
        readout, h = whole(rng, m, 2), whole(rng, 2, 1)
        left = [whole(rng, 2, r) for _ in range(k)]
        right = [whole(rng, r, 2, 5)] + [Mat([[x, -x] for x, _ in whole(rng, r, 2).rows]) for _ in range(k - 1)]
        if at % 2:  # cross terms that do not tell the answers apart
            readout = Mat([[1, 0], [0, 0]])
            left[1:] = [Mat([[0] * r, b.rows[1]]) for b in left[1:]]
        own = readout @ (left[0] @ right[0] @ key)
        cross = readout @ total([zeros(2, 1), *(b @ right[0] @ key for b in left[1:])])
        q = [Fraction(1, k)] * k
        merged = factor_merge(q, q, left, right)
        base = readout @ h
        kept = wins(readout @ (h + merged @ key), 0)
        deficit = -gap(base, 0, 1)
        assert kept == (k**2 * deficit < gap(own, 0, 1) + gap(cross, 0, 1))
        seen.add(kept)
        if gap(cross, 0, 1) == 0 and wins(base + own, 0):
            assert kept == (deficit <= 0 or k**2 * deficit < gap(own, 0, 1))
            assert kept == (k <= dilution_limit(float(gap(own, 0, 1)), float(deficit), "factor"))
            own_seen.add((k, kept))
        updates = [low_rank(b, a) for b, a in zip(left, right, strict=True)]
        made = factor_average(updates, [1 / k] * k, "plain").apply([1.0, 1.0])
        assert np.allclose(made, (merged @ key).floats()[:, 0], atol=1e-12)
    assert seen == {True, False}
    assert {(2, True), (2, False), (3, False)} <= own_seen
    # opposite factors give 0 whatever the gain, so the own-term limit is no guarantee
    b, a = whole(rng, 2, 1), [whole(rng, 1, 2) for _ in range(2)]
    assert factor_merge([Fraction(1)] * 2, [Fraction(1)] * 2, [b, -b], a) == zeros(2, 2)
    # no deficit and no gain: the condition holds, the edit is no win; the code says 0
    assert not wins(zeros(2, 1), 0)
    assert dilution_limit(0, 0) == 0
    base, own = delta(2, 1, 1, 0), 100 * delta(2, 1, 0, 0)
    assert 2 * -gap(base, 0, 1) < gap(own, 0, 1)
    assert not wins(base + Fraction(1, 2) * (own - own), 0)


@pytest.mark.theorem("dilution_factor_cross")
def test_own_term_decides_only_without_cross_terms() -> None:
    for c, own, cross in product((1, 4), (0, 3), (-2, 0, 2)):
        own_logits, cross_logits = column([own, 0]), column([cross, 0])
        agreed = True
        for d in range(-40, 41):
            base = column([Fraction(d, 8), 0])
            kept = wins(base + Fraction(1, c) * (own_logits + cross_logits), 0)
            agreed &= kept == (c * -gap(base, 0, 1) < gap(own_logits, 0, 1))
        assert agreed == (gap(cross_logits, 0, 1) == 0)


# ---- interference ----


@pytest.mark.theorem("interference")
@pytest.mark.example("interference_rank_needed")
def test_keys_left_alone() -> None:
    for b in every(2, 2, 2):
        for a in list(every(2, 2, 2))[::3]:
            for key in every(2, 1, 2):
                if b.rank() == 2:
                    assert (b @ a @ key == zeros(2, 1, 2)) == (a @ key == zeros(2, 1, 2))
    u = LowRank([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, -1.0], [2.0, -2.0]])
    (bound,) = interference_bound([u], [1.0, 1.0])
    # a bound in floats owns up to the roundings of what cancels: an eps of |B| |(2, 4)| for each size, and 16
    assert 0.0 <= bound <= (3 + 2 + 2 + 17) * np.finfo(float).eps * 3.0**0.5 * 20.0**0.5
    assert interference_bound([u], [1.0, 0.0])[0] > 0
    assert zeros(1, 1) @ eye(1) @ eye(1) == zeros(1, 1)  # B = 0 leaves every key alone, A does not


@pytest.mark.theorem("interference_bound", "interference_bound_frob")
def test_bound_on_the_damage() -> None:
    rng = stream(6, "interference")
    for _ in range(20):
        b, a, key, s = whole(rng, 3, 2), whole(rng, 2, 3), whole(rng, 3, 1), Fraction(-5, 2)
        damage = ((s * (b @ a)) @ key).frob2()
        assert damage <= s**2 * b.frob2() * (a @ key).frob2()
        # beta: the least whole number that bounds the squared spectral norm
        beta = next(x for x in range(60) if stretches_at_most(b, x))
        assert damage <= s**2 * beta * (a @ key).frob2()
        (bound,) = interference_bound([low_rank(b, a, s)], key.floats()[:, 0])
        assert float(damage) <= bound**2 + 1e-9
        assert bound**2 <= float(s**2 * beta * (a @ key).frob2()) + 1e-9
        assert bound**2 == near(float(s**2) * float(np.linalg.norm(b.floats(), 2)) ** 2 * float((a @ key).frob2()))
    # attained, and the wrong reading (frobenius for the spectral norm) is larger
    b, a, key = diagonal([3, 1]), eye(2), column([1, 0])
    (bound,) = interference_bound([low_rank(b, a)], [1.0, 0.0])
    assert bound**2 == near(float((b @ a @ key).frob2()))
    assert b.frob2() * (a @ key).frob2() > (b @ a @ key).frob2()


def furthest(logits: Mat, z0: int) -> Fraction:
    """How far they move the lead of z0 over another value, at most."""
    return max(abs(gap(logits, z0, z)) for z in range(logits.m) if z != z0)


def margin(logits: Mat, z0: int) -> Fraction:
    return min(gap(logits, z0, z) for z in range(logits.m) if z != z0)


def above(square: Fraction) -> Fraction:
    """A rational at least the square root, by at most 1/64."""
    return Fraction(math.isqrt(math.ceil(square * 4096)) + 1, 64)


@pytest.mark.theorem("interference_survival", "interference_survival_logits")
@pytest.mark.theorem("interference_survival_coherence", "interference_survival_norm", "interference_survival_root2")
def test_facts_that_survive_a_sum() -> None:
    rng = stream(7, "survival")
    counted = Counter[str]()
    for _ in range(150):
        # the hidden state is the logits, E = 1; own updates are strong, others weak
        k, facts, r = rng.integers((2, 1, 1), (4, 4, 3)).tolist()
        keys = [4 * delta(4, 1, f, 0) + whole(rng, 4, 1, 1) for f in range(facts)]
        right, owner = rng.integers(0, 3, facts).tolist(), rng.integers(0, k, facts).tolist()
        left, readers = [whole(rng, 3, r, 1) for _ in range(k)], [whole(rng, r, 4, 1) for _ in range(k)]
        w = [Fraction(int(x)) for x in rng.choice([-1, 1, 2], k)]
        survived, margins, damages = list[bool](), list[Fraction](), list[Mapping[str, Fraction]]()
        for key, z, own in zip(keys, right, owner, strict=True):
            hidden = Fraction(int(rng.integers(1, 60))) * delta(3, 1, z, 0)
            written = [x * (b @ a @ key) for x, b, a in zip(w, left, readers, strict=True)]
            survived.append(wins(hidden + total(written), z))
            margins.append(margin(hidden + written[own], z))
            damage = defaultdict[str, Fraction](Fraction)
            for j in {*range(k)} - {own}:
                reading = readers[j] @ key
                damage["survival"] += furthest(written[j], z)
                damage["logits"] += 2 * max(map(abs, written[j].entries))
                directions = max(furthest(left[j].column(i), z) for i in range(r))
                damage["coherence"] += abs(w[j]) * r * max(map(abs, reading.entries)) * directions
                # rational upper bounds of the norms; two answers' rows are sqrt 2 apart
                damage["norm"] += abs(w[j]) * above(Fraction(2)) * above(left[j].frob2()) * above(reading.frob2())
            damages.append(damage)
        premises = [name for name in damages[0] if all(d[name] < x for d, x in zip(damages, margins, strict=True))]
        counted.update(premises)
        assert all(survived) or not premises
        # the code: unit weights, the matrix of the logits itself
        scaled = [low_rank(x * b, a) for x, b, a in zip(w, left, readers, strict=True)]
        verdict = surviving_facts(scaled, hstack(*keys).floats(), [float(x) for x in margins], owner)
        assert all(really or not sure for sure, really in zip(verdict, survived, strict=True))
        counted["code"] += sum(verdict)
        assert all(verdict) or "norm" not in premises  # the code's norms are at most these
    assert len(counted) == 5
    assert min(counted.values()) >= 15


@pytest.mark.theorem("interference_edits", "interference_edits_coherence")
@pytest.mark.example("interference_orthogonal", "interference_tie", "interference_not_necessary")
def test_plain_sum_of_edits() -> None:
    rng = stream(8, "edits")
    used = [0, 0]
    for _ in range(200):
        facts, m, n = int(rng.integers(1, 4)), 3, 5
        keys = [4 * delta(n, 1, f, 0) + whole(rng, n, 1, 1) for f in range(facts)]
        right = rng.integers(0, m, facts).tolist()
        change = [3 * delta(m, 1, z, 0) + whole(rng, m, 1, 1) for z in right]
        hidden = [whole(rng, m, 1, 1) for _ in range(facts)]
        edits = total([1 / key.frob2() * (c @ key.T) for c, key in zip(change, keys, strict=True)])
        coh = {(g, f): (1 / keys[g].frob2()) * (keys[g].T @ keys[f])[0, 0] for g in range(facts) for f in range(facts)}
        assert all(coh[f, f] == 1 for f in range(facts))
        margins = [margin(hidden[f] + change[f], right[f]) for f in range(facts)]
        gain = {(f, g): furthest(change[g], right[f]) for f in range(facts) for g in range(facts)}
        survived = [wins(hidden[f] + edits @ keys[f], right[f]) for f in range(facts)]
        if all(sum(abs(coh[g, f]) * gain[f, g] for g in range(facts) if g != f) < margins[f] for f in range(facts)):
            used[0] += 1
            assert all(survived)
        mu = max([abs(x) for (g, f), x in coh.items() if g != f], default=Fraction(0))
        if (facts - 1) * mu * max(gain.values()) < min(margins):
            used[1] += 1
            assert all(survived)
    assert min(used) >= 20
    k1, k2, c1, c2 = column([1, 2, 0]), column([2, -1, 5]), column([1, 3]), column([4, 4])
    assert (k2.T @ k1)[0, 0] == 0
    assert (1 / k1.frob2() * (c1 @ k1.T) + 1 / k2.frob2() * (c2 @ k2.T)) @ k1 == c1
    one = delta(2, 1, 0, 0)
    assert gap(one, 0, 1) == 1
    assert not wins(one - one, 0)  # damage equal to the margin: a tie
    assert surviving_facts([LowRank(np.eye(2), np.eye(2))], [[1.0], [0.0]], [0.0], [0]) == [False]
    x = 100 * delta(2, 1, 1, 0)
    assert abs(gap(x, 0, 1)) + abs(gap(-x, 0, 1)) == 200
    assert wins(one + (x - x), 0)  # damages may cancel: sufficient, not necessary


# ---- weights ----


def leads_under(rows: Sequence[Sequence[Fraction]], w: Sequence[Fraction]) -> list[Fraction]:
    return [sum((x * v for x, v in zip(row, w, strict=True)), Fraction(0)) for row in rows]


@pytest.mark.theorem("optimal_weights_lead", "optimal_weights")
def test_leads_average_and_each_optimum_has_its_certificate() -> None:
    for seed in range(8):
        rng = stream(seed, "weights")
        readout, hidden, key = whole(rng, 3, 2), whole(rng, 2, 1), whole(rng, 2, 1)
        updates = [whole(rng, 2, 2) for _ in range(3)]
        parts = [Fraction(int(x)) for x in rng.integers(1, 5, 3)]
        w = [x / sum(parts) for x in parts]
        alone = [readout @ (hidden + u @ key) for u in updates]
        merged = readout @ (hidden + weighted(w, updates) @ key)
        rows = [[a[0, 0] - a[z, 0] for a in alone] for z in (1, 2)]
        assert leads_under(rows, w) == [merged[0, 0] - merged[z, 0] for z in (1, 2)]
        # duality, at the lead that was found: no weights of a grid lift every lead above the certificate's ceiling
        best = best_weights(rows)
        assert all(sum(y * row[j] for y, row in zip(best.mixture, rows, strict=True)) <= best.ceiling for j in range(3))
        grid = [(Fraction(i, 6), Fraction(j, 6), Fraction(6 - i - j, 6)) for i in range(7) for j in range(7 - i)]
        assert max(min(leads_under(rows, w)) for w in grid) <= best.ceiling
        assert min(leads_under(rows, best.weights)) == best.lead  # and some lift them that far
        assert best.ceiling - best.lead <= Fraction(1, 10**8)


@pytest.mark.theorem("optimal_weights_uniform")
def test_when_the_uniform_mean_is_best() -> None:
    seen = set()
    cases = [whole(stream(seed, "uniform"), 3, 2, 2).rows for seed in range(20)]
    for rows in [*cases, [[3, 1], [1, 3]], [[2, 2, 0], [0, 2, 2], [2, 0, 2]]]:
        k = len(rows[0])
        at_uniform = leads_under(rows, [Fraction(1, k)] * k)
        t = min(at_uniform)
        best = best_weights(rows)
        is_best = best.ceiling - t <= Fraction(1, 10**8)  # the leads are whole: an optimum differs by more or not
        tight = [row for row, lead in zip(rows, at_uniform, strict=True) if lead == t]
        # a mixture of the tight pairs with mean lead t under every adapter
        balance = [[float(row[j] - t) for row in tight] for j in range(k)] + [[1.0] * len(tight)]
        assert is_best == linprog([0.0] * len(tight), A_eq=balance, b_eq=[0.0] * k + [1.0]).success
        seen.add(is_best)
    assert seen == {True, False}


@pytest.mark.theorem("optimal_weights_apart", "optimal_weights_need")
@pytest.mark.example("optimal_weights_beat_uniform")
def test_updates_that_leave_one_another_alone() -> None:
    seen = set()
    for seed in range(30):
        rng = stream(seed, "apart")
        k, pairs = 2, int(rng.integers(2, 5))
        owners = [0, 1, *(int(x) for x in rng.integers(0, k, pairs - 2))]
        gains = [Fraction(int(x)) for x in rng.integers(1, 5, pairs)]
        deficits = [Fraction(int(x), 2) for x in rng.integers(-1, 3, pairs)]
        rows = [[g * (j == o) - d for j in range(k)] for g, d, o in zip(gains, deficits, owners, strict=True)]
        at_uniform = leads_under(rows, [Fraction(1, k)] * k)
        t, best = min(at_uniform), best_weights(rows)
        uniform_best = best.ceiling - t <= Fraction(1, 10**8)
        tight = {o for o, lead in zip(owners, at_uniform, strict=True) if lead == t}
        assert uniform_best == (tight == {0, 1})
        needs = least_weights(gains, deficits, owners, k)
        spare = 1 - sum(needs, Fraction(0))
        if spare > 0:  # the proof's weights
            assert min(leads_under(rows, [need + spare / k for need in needs])) > 0
        else:
            assert best.ceiling <= Fraction(1, 10**8)
        seen.add((uniform_best, spare > 0))
    assert len(seen) == 4
    # gains 10 and 10 against deficits 6 and 1
    rows = [[Fraction(4), Fraction(-6)], [Fraction(-1), Fraction(9)]]
    assert min(leads_under(rows, [Fraction(1, 2)] * 2)) < 0 < min(leads_under(rows, [Fraction(4, 5), Fraction(1, 5)]))


# ---- masks ----


@pytest.mark.theorem("mask_dilution", "mask_dilution_rescaled", "mask_dilution_answer")
@pytest.mark.example("mask_dilution_one_draw")
def test_the_mean_over_all_masks() -> None:
    rng = stream(7, "masks")
    kept = set()
    for rate_out, rate_in in (
        (Fraction(1, 3), Fraction(1, 4)),
        (Fraction(1, 2), Fraction(1, 2)),
        (Fraction(0), Fraction(2, 5)),
    ):
        share = mask_share(rate_out, rate_in)
        for _ in range(6):
            b, a, readout, base, key = (whole(rng, *shape) for shape in ((2, 2), (2, 2), (3, 2), (2, 1), (2, 1)))
            mean, rescaled, logits = zeros(2, 2), zeros(2, 2), zeros(3, 1)
            for out, inp in product(product((0, 1), repeat=2), repeat=2):
                kept_out = math.prod((1 - rate_out if x else rate_out for x in out), start=Fraction(1))
                chance = kept_out * math.prod((1 - rate_in if x else rate_in for x in inp), start=Fraction(1))
                masked = (diagonal(out) @ b) @ (a @ diagonal(inp))
                mean = mean + chance * masked
                rescaled = rescaled + chance / share * masked
                logits = logits + chance * (readout @ (base + masked @ key))
            assert mean == share * (b @ a)
            assert rescaled == b @ a
            alone, gain, before = readout @ (base + b @ a @ key), readout @ (b @ a @ key), readout @ base
            for z0 in range(3):
                if wins(alone, z0):  # an edit that works by itself
                    behind = [z for z in range(3) if gap(before, z0, z) < 0]
                    want = all(-gap(before, z0, z) < share * gap(gain, z0, z) for z in behind)
                    assert want == wins(logits, z0)
                    kept.add(want)
    assert kept == {True, False}
    assert (diagonal([0]) @ eye(1)) @ (eye(1) @ diagonal([0])) == zeros(1, 1) != mask_share(0.5, 0.5) * eye(1)
