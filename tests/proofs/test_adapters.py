"""The theorems on one adapter, read literally, against the functions of :mod:`theory.adapters`."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from tests.proofs.exact import (
    Mat,
    column,
    const,
    every,
    eye,
    hstack,
    vstack,
    whole,
    zeros,
)
from theory.adapters import (
    first_step_power,
    first_update,
    merged_weight,
    parameter_count,
    rank_set_dimension,
    regauge,
)
from theory.lowrank import LowRank
from theory.numerics import stream


def update(s: object, b: Mat, a: Mat) -> Mat:
    return s * (b @ a)


def side_path(w: Mat, s: object, b: Mat, a: Mat, x: Mat) -> Mat:
    return w @ x + s * (b @ (a @ x))


def block(m11: Mat, m12: Mat, m21: Mat, m22: Mat) -> Mat:
    return vstack(hstack(m11, m12), hstack(m21, m22))


@pytest.mark.theorem("adapter_zero", "adapter_merge")
def test_side_path_and_merged_weight() -> None:
    rng = stream(1, "adapters")
    for m, n, r, s in ((2, 3, 1, 2), (3, 2, 2, -1), (3, 3, 0, 5)):
        w, b, a, x = whole(rng, m, n), whole(rng, m, r), whole(rng, r, n), whole(rng, n, 4)
        assert side_path(w, s, zeros(m, r), a, x) == w @ x
        assert w + update(s, zeros(m, r), a) == w
        assert (w + update(s, b, a)) @ x == side_path(w, s, b, a, x)
        made = LowRank(b.floats(), a.floats(), float(s))
        merged = merged_weight(w.floats(), made)
        assert np.array_equal(merged, (w + update(s, b, a)).floats())
        assert np.array_equal(w.floats() @ x.floats() + made.apply(x.floats()), side_path(w, s, b, a, x).floats())
        assert np.array_equal(merged_weight(w.floats(), LowRank(np.zeros((m, r)), a.floats())), w.floats())


@pytest.mark.example("adapter_merge_small")
def test_merge_small() -> None:
    w = Mat([[i + 2 * j for j in range(3)] for i in range(2)])
    b, a, x = column([1, 2]), Mat([[1, 2, 3]]), const(3, 1, 1)
    want = column([18, 33])
    assert (w + update(2, b, a)) @ x == want == side_path(w, 2, b, a, x)
    got = merged_weight(w.floats(), LowRank(b.floats(), a.floats(), 2.0)) @ x.floats()
    assert np.array_equal(got, want.floats())


def tied_side(e: Mat, u: Mat, x: Mat) -> Mat:
    return e @ ((e.T + u) @ x)


def tied_merged(e: Mat, u: Mat, x: Mat) -> Mat:
    return (e + u.T) @ ((e + u.T).T @ x)


@pytest.mark.theorem("adapter_tied")
@pytest.mark.example("adapter_tied_differs")
def test_tied_embedding() -> None:
    rng = stream(2, "adapters")
    for v, d, r in ((3, 2, 1), (2, 3, 2), (1, 1, 1)):
        e, b, a, x = whole(rng, v, d), whole(rng, d, r), whole(rng, r, v), whole(rng, v, 3)
        u = b @ a
        assert tied_merged(e, u, x) == tied_side(e, u, x) + u.T @ ((e.T + u) @ x)
        # the module merges the embedding d x v; the head is the same matrix, transposed
        embedding = merged_weight(e.T.floats(), LowRank(b.floats(), a.floats()))
        assert np.array_equal(embedding.T @ (embedding @ x.floats()), tied_merged(e, u, x).floats())
        assert np.array_equal(e.floats() @ (embedding @ x.floats()), tied_side(e, u, x).floats())
    one = eye(1)
    assert (tied_side(one, one, one), tied_merged(one, one, one)) == (2 * one, 4 * one)  # untied reading: not equal


@pytest.mark.theorem("adapter_gauge")
@pytest.mark.example("adapter_gauge_singular")
def test_gauge() -> None:
    b, a, turn = Mat([[1, 2], [0, 1], [3, 1]]), Mat([[1, 0, 2], [1, 1, 1]]), Mat([[2, 1], [0, 4]])
    assert turn.unit()
    assert update(3, b @ turn, turn.inverse() @ a) == update(3, b, a)
    made = regauge(LowRank(b.floats(), a.floats(), 3.0), turn.floats())
    assert np.array_equal(made.B, (b @ turn).floats())
    assert np.array_equal(made.A, (turn.inverse() @ a).floats())
    assert np.array_equal(made.dense(), update(3, b, a).floats())
    # the wrong reading, T on both sides, is another update
    assert update(3, b @ turn, turn @ a) != update(3, b, a)
    one, singular = eye(1), zeros(1, 1)
    assert update(1, one @ singular, singular.inverse() @ one) != update(1, one, one)
    with pytest.raises(ValueError, match="invertible"):
        regauge(LowRank([[1.0]], [[1.0]]), [[0.0]])


@pytest.mark.theorem("adapter_gauge_unique")
@pytest.mark.example("adapter_gauge_hidden")
def test_gauge_is_the_only_freedom() -> None:
    p, r = 2, 2
    units = [t for t in every(r, r, p) if t.unit()]
    left = [b for b in every(3, r, p) if b.rank() == r][::9]
    right = [a for a in every(r, 2, p) if a.rank() == r]
    every_left, every_right = list(every(3, r, p)), list(every(r, 2, p))
    for b in left:
        for a in right[::2]:
            wanted = b @ a
            same = [(b1, a1) for b1 in every_left for a1 in every_right if b1 @ a1 == wanted]
            for b1, a1 in same:
                assert sum(b1 == b @ t and a1 == t.inverse() @ a for t in units) == 1
            assert len(same) == len(units)
    # B = 0 hides A: same update, no T
    hidden, a, a1 = zeros(1, 1, p), eye(1, p), zeros(1, 1, p)
    assert hidden @ a1 == hidden @ a
    assert not any(a1 == t.inverse() @ a for t in every(1, 1, p) if t.unit())


@pytest.mark.theorem("adapter_rank_le", "adapter_rankP", "adapter_out_of_reach")
@pytest.mark.example("adapter_identity_out_of_reach", "adapter_rank_scale_zero")
def test_the_updates_of_size_r_are_the_matrices_of_rank_r() -> None:
    m, n = 2, 3
    for p, s, r in ((2, 1, 0), (2, 1, 1), (2, 1, 2), (3, 2, 1)):
        reached = {update(s, b, a) for b in every(m, r, p) for a in every(r, n, p)}
        assert reached == {u for u in every(m, n, p) if u.rank() <= r}
        assert {update(0, b, a) for b in every(m, r, p) for a in every(r, n, p)} == {zeros(m, n, p)}
    assert eye(2, 2) not in {b @ a for b in every(2, 1, 2) for a in every(1, 2, 2)}
    # LowRank counts rank, not columns
    assert LowRank([[1.0, 2.0], [2.0, 4.0]], [[1.0, 0.0], [0.0, 1.0]]).rank() == 1


@pytest.mark.theorem("adapter_dimension")
@pytest.mark.example("adapter_dimension_singular")
def test_rank_through_the_leading_block() -> None:
    for r, m, n, p in ((1, 1, 2, 3), (1, 2, 1, 2), (2, 1, 1, 2)):
        units = [u for u in every(r, r, p) if u.unit()]
        for m11, m12, m21 in product(units, every(r, n, p), every(m, r, p)):
            wanted = m21 @ m11.inverse() @ m12
            for m22 in every(m, n, p):
                rank = block(m11, m12, m21, m22).rank()
                assert (rank <= r) == (m22 == wanted) == (rank == r)
    zero, one = zeros(1, 1), eye(1)
    assert zero == one @ zero.inverse() @ one
    assert block(zero, one, one, zero).rank() == 2


@pytest.mark.theorem("adapter_chart", "adapter_parameter_count")
def test_dimension_and_parameters() -> None:
    for r, m, n, p in ((1, 1, 1, 3), (1, 1, 2, 2), (2, 1, 1, 2), (1, 2, 2, 2)):
        units = [u for u in every(r, r, p) if u.unit()]
        blocks = product(units, every(r, n, p), every(m, r, p))
        charts = [block(m11, m12, m21, m21 @ m11.inverse() @ m12) for m11, m12, m21 in blocks]
        lead = slice(0, r)
        found = {a for a in every(r + m, r + n, p) if a.rank() == r and a.part(lead, lead).unit()}
        assert set(charts) == found
        assert len(charts) == len(found) == len(units) * p ** (r * n + m * r)
    for r, m, n in product(range(5), range(4), range(4)):
        free = r * r + r * n + m * r
        assert free == r * ((r + m) + (r + n) - r)
        if r + m and r + n:
            assert rank_set_dimension(r + m, r + n, r) == free
    for m, n, r in product(range(1, 6), range(1, 6), range(11)):
        assert r * (m + n) == r * (m + n - r) + r * r
        assert parameter_count(m, n, r) == r * (m + n)
        if r <= min(m, n):
            assert parameter_count(m, n, r) == rank_set_dimension(m, n, r) + r * r
    # beyond min(m, n) the formula r (m + n - r) is not the dimension: 3 (2 + 2 - 3) = 3, all of 2 x 2 has 4
    assert rank_set_dimension(2, 2, 3) == 4 != 3 * (2 + 2 - 3)


@pytest.mark.theorem("adapter_generic")
def test_few_points_of_a_line_are_within_reach() -> None:
    rng = stream(3, "adapters")
    attained = 0
    for r, m, n in ((0, 0, 1), (1, 0, 0), (1, 1, 0), (2, 0, 1)):
        turn = block(eye(r + 1), zeros(r + 1, n), zeros(m, r + 1), zeros(m, n))
        targets = [whole(rng, r + 1 + m, r + 1 + n, 2) for _ in range(6)]
        targets.append(Mat([[i * int(i == j) for j in range(r + 1 + n)] for i in range(r + 1 + m)]))
        for e in targets:
            within = [t for t in range(-8, 9) if (e + t * turn).rank() <= r]
            assert len(within) <= r + 1
            attained += len(within) == r + 1
    assert attained >= 4  # the bound r + 1 is reached: it is not r


# ---- the first step ----


def inner(g: Mat, u: Mat) -> Fraction:
    return (g.T @ u).trace()


def signs(m: Mat) -> Mat:
    return Mat([[(x > 0) - (x < 0) for x in row] for row in m.rows], m.n)


@pytest.mark.theorem("first_step_gradient", "first_step_size", "first_step_transposed")
def test_the_first_step_of_gradient_descent() -> None:
    rng = stream(9, "step")
    for r, alpha in ((1, 2), (2, 3), (4, -4)):
        s, eta = Fraction(alpha, r), Fraction(1, 4)
        g, b, a = whole(rng, 3, 2), whole(rng, 3, r), whole(rng, r, 2)
        move_b, move_a = whole(rng, 3, r), whole(rng, r, 2)
        grad_b, grad_a = s * (g @ a.T), s * (b.T @ g)
        assert inner(g, update(s, move_b, a)) == inner(grad_b, move_b)
        assert inner(g, update(s, b, move_a)) == inner(grad_a, move_a)
        rows = -(eta * s**2) * (g @ a.T @ a)
        columns = -(eta * s**2) * (b @ b.T @ g)
        assert update(s, -eta * grad_b, a) == rows
        assert update(s, b, -eta * grad_a) == columns
        assert -(eta * s**2) * (g.T @ b @ b.T) == columns.T
        assert (first_update(g.floats(), a.floats(), alpha, float(eta)).dense() == rows.floats()).all()
        assert (first_update(g.floats(), b.floats(), alpha, float(eta), zero="A").dense() == columns.floats()).all()


@pytest.mark.theorem("first_step_descent", "first_step_mean", "first_step_adam", "first_step_adam_mean")
def test_sizes_of_the_first_step() -> None:
    g = Mat([[3, 1, -2, 5], [0, 4, 7, -1]])
    eta, falls = Fraction(1, 2), []
    for r in (1, 2):
        s = Fraction(3, r)
        means, squares, level = zeros(2, 4), Fraction(0), [Fraction(0)] * r
        family = [Mat([x[4 * k : 4 * k + 4] for k in range(r)]) for x in product((-1, 1), repeat=4 * r)]
        for a in family:  # every matrix of signs: each row has second moments I
            step = -(eta * s**2) * (g @ a.T @ a)
            assert inner(g, step) == -(eta * s**2 * (g @ a.T).frob2())
            means, squares = means + step, squares + (g @ a.T).frob2()
            slope = s * (g @ a.T)
            adam = update(s, -eta * signs(slope), a)
            absolute = [[abs(x) for x in row] for row in (g @ a.T).rows]
            assert inner(g, adam) == -(eta * s * sum(map(sum, absolute)))
            level = [x + sum(row[k] for row in absolute) for k, x in enumerate(level)]
            if a @ a.T == 4 * eye(r):
                assert step.frob2() == eta**2 * s**4 * 4 * (g @ a.T).frob2()
                if all(x for row in absolute for x in row):
                    assert adam.frob2() == eta**2 * s**2 * 4 * 2 * r
        assert Fraction(1, len(family)) * means == -(eta * s**2 * r) * g
        assert squares == len(family) * r * g.frob2()
        assert len(set(level)) == 1  # the rows have one law
        falls.append(sum(level) / len(family))
    assert falls[1] == 2 * falls[0]


@pytest.mark.theorem("first_step_conventions")
def test_powers_of_the_rank() -> None:
    alpha = Fraction(7, 2)
    for root in (1, 2, 3, 5):
        r = root**2
        assert (alpha / r) ** 2 * r == alpha**2 / r
        assert (alpha / r) * r == alpha
        assert (alpha / root) ** 2 * r == alpha**2
        assert (alpha / root) * r == alpha * root
        for rslora, scale in ((False, Fraction(1, r)), (True, Fraction(1, root))):
            loss = {"sgd": scale**2 * r, "adam": scale * r}
            norm = {"sgd": scale**4 * r, "adam": scale**2 * r}  # squared
            for optimizer in ("sgd", "adam"):
                assert root ** (2 * first_step_power(optimizer, "loss", rslora)) == loss[optimizer]
                assert Fraction(root) ** int(4 * first_step_power(optimizer, "norm", rslora)) == norm[optimizer]
