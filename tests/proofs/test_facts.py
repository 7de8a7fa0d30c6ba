"""The theorems on storing facts, read literally, against the functions of :mod:`theory.facts`."""

import math
from fractions import Fraction
from functools import partial
from itertools import combinations, product

import numpy as np
import pytest

from tests.proofs.exact import (
    Mat,
    Table,
    agree,
    below,
    column,
    const,
    eye,
    pseudo_inverse,
    tables,
    tail_count,
    whole,
    wins,
    zeros,
)
from theory.checks.facts import exact_count
from theory.facts import (
    capacity_ceiling,
    circle_margin,
    circle_update,
    counting_bound,
    counting_threshold,
    least_rank,
    margin_rank_floor,
    random_code_eps,
)
from theory.numerics import EPS, stream


def close(got: float, want: Fraction, n: int) -> bool:
    """Within the documented relative error n eps, and a conversion."""
    return abs(got - float(want)) <= 8 * n * EPS * float(want)


# ---- counting, in nat as in Coq ----


def hypothesis_sets(n: int, m: int) -> list[list[Table]]:
    every_table = tables(n, m)
    rng = stream(n, "hypotheses", m)
    sizes = [size for size in (0, 1, 2, 3, 5) if size <= len(every_table)]
    chosen = [[every_table[i] for i in rng.choice(len(every_table), size, False)] for size in sizes for _ in range(3)]
    return [*chosen, [t for t in every_table if len(set(t)) == 1], every_table]


SIZES = [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2)]


@pytest.mark.theorem("counting_bound", "counting_tail", "counting_mean")
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_few_hypotheses_agree_with_few_tables(n: int, m: int) -> None:
    truths = tables(n, m)
    for chosen in hypothesis_sets(n, m):
        best = [max((agree(g, q) for g in chosen), default=0) for q in truths]
        for k in range(n + 2):
            hits = sum(any(k <= agree(g, q) for g in chosen) for q in truths)
            assert hits <= len(chosen) * math.comb(n, k) * m ** max(n - k, 0)
            assert hits <= len(chosen) * tail_count(n, m, k)
        ceiling = exact_count(len(chosen), n, m)
        assert sum(best) <= ceiling
        if chosen:  # the statement's natural number over n m^n is what the code computes
            assert close(counting_bound(math.log(len(chosen)), n, m), Fraction(ceiling, n * m**n), n)
    # the wrong reading, the uncapped sum, is another number as soon as the cap is active
    if min(n, m) > 1:
        uncapped = sum(len(truths) * tail_count(n, m, k) for k in range(1, n + 1))
        assert not close(counting_bound(math.log(len(truths)), n, m), Fraction(uncapped, n * m**n), n)


@pytest.mark.theorem("counting_tail")
def test_threshold_is_the_first_small_tail() -> None:
    for (n, m), hypotheses, level in product(SIZES[3:], (1, 2, 5, 40), (0.01, 0.3, 0.7)):
        small = (k for k in range(1, n + 1) if hypotheses * tail_count(n, m, k) <= Fraction(level) * m**n)
        assert counting_threshold(math.log(hypotheses), n, m, level) == next(small, n + 1)


@pytest.mark.theorem("counting_single", "counting_mean_single", "counting_ceiling_single")
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_one_table_agrees_at_one_in_m(n: int, m: int) -> None:
    for g in tables(n, m)[:6]:
        assert sum(agree(g, q) for q in tables(n, m)) == n * m ** (n - 1)
    assert exact_count(1, n, m) == n * m ** (n - 1)
    assert counting_ceiling(n, m, 1) == Fraction(1, m)
    assert counting_bound(0.0, n, m) == 1 / m


@pytest.mark.theorem("capacity_bits")
@pytest.mark.parametrize(("n", "m"), SIZES[3:7])
def test_bits_name_functions(n: int, m: int) -> None:
    truths = tables(n, m)
    rng = stream(n, "codes", m)
    for bits, words in ((0, 1), (1, 2), (1, 1), (2, 3), (3, 8), (6, 64)):
        decode = [truths[i] for i in rng.integers(0, len(truths), words)]
        assert len(set(decode)) <= 2**bits
        ceiling = exact_count(2**bits, n, m)
        best = [max(range(words), key=[agree(word, q) for word in decode].__getitem__) for q in truths]
        for write in (best, rng.integers(0, words, len(truths)).tolist()):
            assert sum(agree(decode[w], q) for w, q in zip(write, truths, strict=True)) <= ceiling
        assert close(capacity_ceiling(bits, n, m), Fraction(ceiling, n * m**n), n)


@pytest.mark.example("counting_mean_two", "capacity_one_bit", "counting_mean_all", "counting_ceiling_small")
def test_two_hypotheses_on_two_bits() -> None:
    truths = tables(2, 2)
    scores = [sum(max(agree(g, q) for g in pair) for q in truths) for pair in combinations(truths, 2)]
    assert max(scores) <= exact_count(2, 2, 2) == 6
    assert sum(max(agree(g, q) for g in truths) for q in truths) == 8
    assert counting_ceiling(2, 2, 2) == Fraction(3, 4)
    assert close(counting_bound(math.log(2), 2, 2), Fraction(3, 4), 2)
    assert close(capacity_ceiling(1, 2, 2), Fraction(3, 4), 2)


def binomial_tail(n: int, m: int, k: int) -> Fraction:
    chance = Fraction(1, m)
    return sum((math.comb(n, j) * chance**j * (1 - chance) ** (n - j) for j in range(k, n + 1)), Fraction(0))


def counting_ceiling(n: int, m: int, hypotheses: int) -> Fraction:
    return sum((min(Fraction(1), hypotheses * binomial_tail(n, m, k)) for k in range(1, n + 1)), Fraction(0)) / n


@pytest.mark.theorem("counting_mean_accuracy", "counting_ceiling_monotone", "counting_ceiling_le1")
@pytest.mark.parametrize(("n", "m"), [*SIZES, (7, 3), (20, 4)])
def test_counting_ceiling_is_counting_bound(n: int, m: int) -> None:
    values = [counting_ceiling(n, m, g) for g in range(1, 30)]
    assert values == sorted(values)
    assert counting_ceiling(n, m, 0) == 0 <= values[0]
    assert values[-1] <= 1
    for g, value in enumerate(values, start=1):
        assert value == Fraction(exact_count(g, n, m), n * m**n)
        assert close(counting_bound(math.log(g), n, m), value, n)
    if (n, m) in SIZES:
        for chosen in hypothesis_sets(n, m):
            score = sum(max((agree(g, q) for g in chosen), default=0) for q in tables(n, m))
            for above in (0, 1, 4):
                assert Fraction(score, n * m**n) <= counting_ceiling(n, m, len(chosen) + above)


# ---- rank for a margin ----


def off_diagonal(a: Mat) -> list[Fraction]:
    return [a[i, j] for i in range(a.m) for j in range(a.n) if i != j]


def margin_instances() -> list[Mat]:
    rng = stream(4, "margins")
    found = [eye(n) for n in range(1, 5)] + [const(n, n, 1) for n in range(1, 5)] + [simplex(n) for n in range(4)]
    for n, r in product((2, 3, 4, 5), (1, 2, 3)):
        a = whole(rng, n, r, 2) @ whole(rng, r, n, 2)
        if all(a[i, i] for i in range(n)):
            found.append(Mat([[x / a[i, i] for x in a.rows[i]] for i in range(n)]))
            found.append(Mat([[2 * x / a[i, i] for x in a.rows[i]] for i in range(n)]))
    return found


def simplex(n: int) -> Mat:
    """n + 2 classes: 1 on the diagonal, -1/(n+1) off it."""
    return Mat([[1 if i == j else Fraction(-1, n + 1) for j in range(n + 2)] for i in range(n + 2)])


@pytest.mark.theorem("trace_rank", "margin_rank_total", "margin_rank_mean_square", "margin_rank")
def test_margin_costs_rank() -> None:
    tight = 0
    for a in margin_instances():
        n = a.m
        assert a.trace() ** 2 <= a.rank() * a.frob2()
        tight += a.trace() ** 2 == a.rank() * a.frob2()
        assert all(a[i, i] >= 1 for i in range(n))
        largest = max(map(abs, off_diagonal(a)), default=Fraction(0))
        squares = sum(x**2 for x in off_diagonal(a))
        assert n * n <= a.rank() * (n + squares)
        assert n <= a.rank() * (1 + (n - 1) * largest**2)
        # mean square: any eps whose square is at least the mean will do; take the square itself
        mean = squares / Fraction(n * (n - 1)) if n > 1 else Fraction(0)
        assert n <= a.rank() * (1 + (n - 1) * mean)
        assert margin_rank_floor(n, float(largest)) <= a.rank()
    assert tight >= 8
    # every other matrix too, for trace_rank
    rng = stream(5, "margins")
    for n in range(1, 6):
        a = whole(rng, n, n)
        assert a.trace() ** 2 <= a.rank() * a.frob2()


@pytest.mark.theorem("rank_entrywise_power", "margin_rank_powers")
def test_entrywise_powers() -> None:
    for a, k in product(margin_instances(), range(5)):
        n, monomials = a.m, math.comb(a.rank() + k - 1, k)
        assert a.map(partial(pow, exp=k)).rank() <= monomials
        largest = max(map(abs, off_diagonal(a)), default=Fraction(0))
        if all(a[i, i] == 1 for i in range(n)):
            assert n <= monomials * (1 + (n - 1) * largest ** (2 * k))
    rng = stream(8, "powers")
    for r, k in ((1, 3), (2, 2), (2, 3), (3, 2)):
        a = whole(rng, 7, r, 4) @ whole(rng, r, 6, 4)
        assert a.map(partial(pow, exp=k)).rank() == math.comb(r + k - 1, k)
    # three lines of the plane at 60 degrees: the rank in place of the monomials is too small at k = 2
    lines = Fraction(1, 2) * Mat([[2, 1, -1], [1, 2, 1], [-1, 1, 2]])
    assert lines.rank() == 2
    assert 2 * (1 + 2 * Fraction(1, 2) ** 2) == 3  # attained at k = 1
    assert 2 * (1 + 2 * Fraction(1, 2) ** 4) < 3 <= math.comb(3, 2) * (1 + 2 * Fraction(1, 2) ** 4)


@pytest.mark.theorem("margin_rank", "margin_rank_attained")
@pytest.mark.example("margin_rank_no_rise", "margin_rank_no_bound")
def test_floor_is_the_ceiling_of_the_statement() -> None:
    for n in range(1, 40):
        for eps in (Fraction(0), Fraction(1, 8), Fraction(3, 8), Fraction(1, 2), Fraction(1), Fraction(3)):
            least = next(r for r in range(n + 1) if n <= r * (1 + (n - 1) * min(eps, Fraction(1)) ** 2))
            # eps is rounded up by one unit in the last place, which at eps = 0 is nothing
            assert margin_rank_floor(n, float(eps), powers=1) in {least, max(1, least - 1)}
            if least != n / (1 + (n - 1) * min(eps, Fraction(1)) ** 2) or eps in {0, 1, 3}:
                assert margin_rank_floor(n, float(eps), powers=1) == least
    for n in range(6):
        a, eps = simplex(n), Fraction(1, n + 1)
        assert all(a[i, i] == 1 for i in range(n + 2))
        assert all(abs(x) == eps for x in off_diagonal(a))
        assert n + 2 == a.rank() * (1 + (n + 1) * eps**2)
        assert a.rank() == n + 1 == margin_rank_floor(n + 2, 1 / (n + 1))
    zero = zeros(1, 1)
    assert not zero.m <= zero.rank() * (1 + 0)  # without the rise
    flat = const(4, 4, 1)
    assert flat.rank() == 1 == margin_rank_floor(4, 1.0)  # without the bound
    # the wrong reading, N / (1 + N eps^2), is another number
    assert margin_rank_floor(4, 0.5) == 3 != math.ceil(4 / (1 + 4 * 0.25))


def margin_premises(logits: Mat, right: tuple[int, ...], eps: Fraction) -> tuple[bool, bool, bool]:
    """(the right logit rises, other right classes stay, the same for every other fact)."""
    facts = range(len(right))
    rises = all(logits[right[i], i] >= 1 for i in facts)
    others = all(abs(logits[right[i], j]) <= eps for i in facts for j in facts if right[i] != right[j])
    apart = all(abs(logits[right[i], j]) <= eps for i in facts for j in facts if i != j)
    return rises, others, apart


@pytest.mark.theorem("margin_rank_shared", "margin_rank_keys", "margin_rank_keys_mean_square")
@pytest.mark.theorem("margin_rank_powers_keys")
@pytest.mark.example("margin_rank_two_answers")
def test_answers_count_not_facts() -> None:
    rng = stream(6, "margins")
    used = 0
    for _ in range(400):
        classes, facts, r = (int(x) for x in rng.integers((1, 1, 1), (4, 5, 3)))
        readout, keys = whole(rng, classes, 2, 1), whole(rng, 2, facts, 1)
        u = whole(rng, 2, r, 1) @ whole(rng, r, 2, 1)
        right = tuple(rng.integers(0, classes, facts).tolist())
        logits = readout @ u @ keys
        for eps in (Fraction(0), Fraction(1), Fraction(2)):
            rises, others, apart = margin_premises(logits, right, eps)
            answers = len(set(right))
            if rises and others:
                used += 1
                assert answers <= u.rank() * (1 + (answers - 1) * eps**2)
                assert margin_rank_floor(answers, float(eps)) <= u.rank()
            if rises and apart and answers == facts:
                for power in range(4):
                    monomials = math.comb(u.rank() + power - 1, power)
                    assert facts <= monomials * (1 + (facts - 1) * eps ** (2 * power))
        if rises and facts > 1:
            square = sum(x**2 for x in off_diagonal(Mat([logits.rows[z] for z in right])))
            assert facts <= u.rank() * (1 + (facts - 1) * square / (facts * (facts - 1)))
    assert used > 30
    # many facts over two answers: rank 2 is enough, so the floor for N facts would be the wrong reading
    right = (0, 1, 1, 0, 1)
    u = Mat([[int(z == a) for z in right] for a in range(2)])
    assert margin_premises(eye(2) @ u @ eye(5), right, Fraction(0))[:2] == (True, True)
    assert u.rank() == 2 == margin_rank_floor(2, 0.0) < margin_rank_floor(5, 0.0)


# ---- writing facts exactly ----


@pytest.mark.theorem("fact_rank", "fact_rank_least_norm", "fact_rank_independent")
@pytest.mark.example("fact_rank_same_key", "fact_rank_same_change")
def test_joint_edit_is_the_least() -> None:
    rng, independent = stream(7, "facts"), 0
    for m, n, facts, r in ((2, 3, 2, 2), (3, 2, 4, 2), (2, 4, 3, 1), (1, 2, 2, 2)):
        k = whole(rng, n, facts)
        wanted = whole(rng, m, r) @ whole(rng, r, n) @ k
        assert below(wanted, k)
        edit = wanted @ pseudo_inverse(k)
        assert edit @ k == wanted
        assert edit.rank() == wanted.rank()
        for other in (whole(rng, m, n) for _ in range(5)):
            also = edit + other @ (eye(n) - k @ pseudo_inverse(k))  # every solution has this form
            assert also @ k == wanted
            assert edit.frob2() <= also.frob2()
        found = least_rank(k.floats(), wanted.floats())
        assert found.update is not None
        assert found.feasible
        assert found.rank == wanted.rank() == found.update.columns
        independent += k.rank() == facts == wanted.rank() == found.rank
        assert np.allclose(found.update.dense(), edit.floats(), rtol=1e-10, atol=1e-10)
    assert independent  # as many independent keys as changes: a rank for each
    same_key = least_rank([[1, 1]], [[1, 0]])
    assert not same_key.feasible
    assert not below(Mat([[1, 0]]), Mat([[1, 1]]))
    same_change = least_rank(np.eye(2), np.ones((2, 2)))
    assert same_change.rank == 1  # independent keys alone do not cost rank N
    # row spaces decide; the wrong reading, column spaces, would call this infeasible
    k, d = Mat([[1, 0], [0, 0]]), Mat([[1, 0], [1, 0]])
    assert below(d, k)
    assert not below(d.T, k.T)
    assert least_rank(k.floats(), d.floats()).feasible


# ---- the circle and random codes ----


def circle(t: Fraction) -> list[Fraction]:
    return [(1 - t**2) / (1 + t**2), 2 * t / (1 + t**2)]


def circle_code(n: int) -> Mat:
    return Mat([circle(Fraction(i * 2, n) - 1) for i in range(n)], 2)


@pytest.mark.theorem("margin_circle")
@pytest.mark.example("circle_half")
def test_circle_has_rank_two() -> None:
    assert circle(Fraction(1, 2)) == [Fraction(3, 5), Fraction(4, 5)]
    for n in range(1, 9):
        gram = circle_code(n) @ circle_code(n).T
        assert gram.rank() <= 2
        assert all(gram[i, i] == 1 for i in range(n))
        off = off_diagonal(gram)
        assert all(x <= 1 - Fraction(2, n * n) for x in off)
        assert circle_update(n).rank() <= 2
        assert np.array_equal(circle_update(n).dense().argmax(axis=0), np.arange(n))
        if n > 1:  # roots of unity do at least as well as the rational points
            assert circle_margin(n) >= 2 / n**2
            assert circle_margin(n) >= float(1 - max(off)) - 1e-12


@pytest.mark.theorem("margin_circle_update")
def test_circle_overrides_any_logits() -> None:
    rng = stream(8, "circle")
    for n, m, width in ((2, 2, 3), (3, 4, 3), (4, 5, 6)):
        readout, keys = whole(rng, n, m, 4), whole(rng, width, n, 4)
        assert readout.rank() == n == keys.rank()
        before = whole(rng, n, n, 9)
        code = circle_code(n)
        spread = max(map(abs, before.entries))
        strength = 2 * spread * n * n + 1  # margin 2/n^2 times this exceeds every difference of old logits
        u = strength * (pseudo_inverse(readout) @ code @ code.T @ pseudo_inverse(keys))
        after = before + readout @ u @ keys
        assert u.rank() <= 2
        assert all(wins(after.column(i), i) for i in range(n))


@pytest.mark.theorem("argmax_rank_one")
def test_rank_one_serves_two_facts() -> None:
    best = 0
    for n in (1, 2, 3):
        for left in product((-2, -1, 0, 1, 2), repeat=n):
            for right in product((-1, 1, 2), repeat=n):
                a = column(left) @ Mat([right])
                assert a.rank() <= 1
                if all(wins(a.column(i), i) for i in range(n)):
                    assert n <= 2
                    best = max(best, n)
    assert best == 2


def bad_words(r: int, eps: Fraction) -> int:
    return sum(math.comb(r, k) for k in range(r + 1) if eps * r < abs(2 * k - r))


@pytest.mark.theorem("random_codes", "margin_codes")
def test_random_codes() -> None:
    for n, r, eps in ((2, 3, Fraction(1, 2)), (3, 2, Fraction(0)), (3, 3, Fraction(1, 3)), (2, 4, Fraction(1, 2))):
        words = list(product((False, True), repeat=r))
        bad = 0
        good: tuple[tuple[bool, ...], ...] | None = None
        for code in product(words, repeat=n):
            if any(eps * r < abs(2 * agree(code[i], code[j]) - r) for i, j in combinations(range(n), 2)):
                bad += 1
            else:
                good = code
        assert bad <= math.comb(n, 2) * bad_words(r, eps) * (2**r) ** (n - 1)
        if math.comb(n, 2) * bad_words(r, eps) < 2**r:
            assert good is not None
            signs = Mat([[1 if x else -1 for x in word] for word in good])
            a = Fraction(1, r) * (signs @ signs.T)
            assert a.rank() <= r
            assert all(a[i, i] == 1 for i in range(n))
            assert all(abs(x) <= eps for x in off_diagonal(a))
    # the code's closed form is large enough for sign codes as well: the premise of margin_codes holds there
    for n, r in product((2, 3, 10, 100), (4, 20, 60)):
        eps = Fraction(random_code_eps(n, r))
        assert eps >= 1 or math.comb(n, 2) * bad_words(r, eps) < 2**r
        half = eps / 2
        assert n < 10 or half >= 1 or math.comb(n, 2) * bad_words(r, half) >= 2**r  # half of it is not
