"""Checks of the topic facts: exact rank, rank for a margin, counting bounds."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, permutations, product, takewhile
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.checks import (
    Code,
    Figure,
    check,
    expect,
    expect_close,
    expect_entries,
    expect_mutant_rejected,
    expect_rejected,
    for_all,
)
from theory.checks.strategies import conditioned, conditions, exact_rank, integer_matrices, scales, seeds, sizes
from theory.facts import (
    LeastRank,
    capacity_ceiling,
    circle_margin,
    circle_update,
    counting_bound,
    counting_threshold,
    least_rank,
    margin_rank_floor,
    random_code_eps,
)
from theory.lowrank import LowRank
from theory.numerics import EPS, rank_tolerance, rounding, stream

# ---- fact_rank ----


def _exact_pseudo_inverse(k: list[list[int]]) -> list[list[Fraction]]:
    """Moore-Penrose inverse of a 2 x 2 integer matrix: K^-1, K^T / ||K||_F^2 at rank 1, or 0."""
    (a, b), (c, d) = k
    det = a * d - b * c
    if det:
        return [[Fraction(d, det), Fraction(-b, det)], [Fraction(-c, det), Fraction(a, det)]]
    square = a * a + b * b + c * c + d * d
    return [[Fraction(x, square or 1) for x in row] for row in ((a, c), (b, d))]


@check("fact_rank")
def fact_rank_symbolic(code: Code) -> None:
    """Every pair of 2 x 2 matrices with entries in {-1, 0, 1}, in rationals, and Cauchy-Binet in free symbols."""
    import sympy

    # cond(K) <= golden ratio squared < 3, ||K^+|| < 2 and ||D|| <= 2: a pseudo-inverse is off by about
    # 4 eps max(shape) cond^2 ||K^+||, and D K^+ by that times ||D||
    allowed = rank_tolerance((2, 2), 3**2 * 2 * 2)
    grid = [[[a, b], [c, d]] for a, b, c, d in product((-1, 0, 1), repeat=4)]
    for k in grid:
        inverse = _exact_pseudo_inverse(k)
        rank_k = exact_rank(k)
        for d in grid:
            edit = [[sum(d[i][t] * inverse[t][j] for t in range(2)) for j in range(2)] for i in range(2)]
            written = [[sum(edit[i][t] * k[t][j] for t in range(2)) for j in range(2)] for i in range(2)]
            feasible = exact_rank(k + d) == rank_k  # the rows of D add nothing to the row space of K
            expect((written == d) == feasible, f"D K^+ writes D: {written == d}, feasible: {feasible}, K {k}, D {d}")
            got = code.least_rank(k, d)
            expect(got[:2] == (feasible, exact_rank(d)), f"{got} for K {k}, D {d}, which is feasible: {feasible}")
            expect((got.update is None) == (not feasible), f"an update exactly where one exists: K {k}, D {d}")
            if feasible:
                common = math.lcm(*(x.denominator for row in edit for x in row))
                edit_rank = exact_rank([[int(x * common) for x in row] for row in edit])
                expect(edit_rank == got.rank == got.update.columns, f"the edit has rank {edit_rank}, K {k}, D {d}")
                expect_entries(got.update.dense(), edit, allowed, f"D K^+ for K {k}, D {d}")
    # no U of lower rank: every 2 x 2 minor of U K is a combination of the 2 x 2 minors of U (Cauchy-Binet)
    u = sympy.Matrix(2, 3, sympy.symbols("u:6"))
    key = sympy.Matrix(3, 2, sympy.symbols("k:6"))
    minors = sum(
        u.extract([0, 1], list(c)).det() * key.extract(list(c), [0, 1]).det() for c in combinations(range(3), 2)
    )
    expect(sympy.expand((u * key).det() - minors) == 0, "Cauchy-Binet fails")
    # independent keys: K^+ K = I, so any D can be written, and with independent changes it costs rank N
    gram = key.T * key
    left_inverse = gram.adjugate() * key.T
    expect((left_inverse * key - gram.det() * sympy.eye(2)).expand().is_zero_matrix, "K^+ K is not the identity")


def _allowed(k: Any, d: Any, condition: float) -> float:
    """Error per unit of key norm that the docstring of least_rank allows, with a factor 4 for the check's products."""
    norms = np.linalg.norm(k, axis=0)
    norms = np.where(norms > 0, norms, 1.0)
    return 4.0 * rank_tolerance((*k.shape, *d.shape), condition * float(np.linalg.norm(d / norms)))


def _least_rank_integer_body(solve: Callable[[Any, Any], LeastRank]) -> None:
    def body(data: Any) -> None:
        inside, out, count = data.draw(sizes), data.draw(sizes), data.draw(st.integers(1, 5))
        k = data.draw(integer_matrices(inside, count))
        if data.draw(st.booleans()):  # planted: D = U K
            u = data.draw(integer_matrices(out, inside))
            d = [[sum(u[i][t] * k[t][j] for t in range(inside)) for j in range(count)] for i in range(out)]
        else:
            d = data.draw(integer_matrices(out, count))
        size = data.draw(scales)
        # each key in its own unit: the same solutions, so the same answer
        units = np.array([10.0 ** data.draw(st.integers(-6, 6)) for _ in range(count)])
        keys, wanted = np.array(k, dtype=float) * units, np.array(d, dtype=float) * units * size
        got = solve(keys, wanted)
        feasible = exact_rank(k + d) == exact_rank(k)
        expect(got.feasible == feasible, f"feasible {got.feasible}, exactly {feasible}, K {k}, D {d}")
        expect(got.rank == exact_rank(d), f"rank {got.rank}, exactly {exact_rank(d)}")
        expect((got.update is None) == (not feasible), "an update exactly where one exists")
        if got.update is None:
            return
        expect(got.update.columns == got.rank, f"{got.update.columns} columns for rank {got.rank}")
        values = np.linalg.svd(keys[:, keys.any(axis=0)] / np.linalg.norm(keys[:, keys.any(axis=0)], axis=0))[1]
        live = values[values > 1e-9]  # Gram determinants of 5 unit columns of entries <= 3 stay above 1e-9
        condition = float(live[0] / live[-1]) if live.size else 1.0
        error = np.abs(got.update.apply(keys) - wanted) / np.where(keys.any(axis=0), np.linalg.norm(keys, axis=0), 1.0)
        expect(error.max(initial=0.0) <= _allowed(keys, wanted, condition), f"U K misses D by {error.max()}")

    for_all(body, 70, data=st.data())


@check("fact_rank")
def fact_rank_numeric() -> Figure:
    """Against exact integer ranks, on ill-conditioned keys, against NumPy's pseudo-inverse, with mutants."""
    _least_rank_integer_body(least_rank)

    def ill_conditioned(data: Any) -> None:
        count = data.draw(sizes)
        inside, out = data.draw(st.integers(count, 9)), data.draw(sizes)
        rng, condition = stream(data.draw(seeds), "facts"), data.draw(conditions)
        keys = conditioned(rng, inside, count, condition) * data.draw(scales)
        wanted = rng.standard_normal((out, count)) * data.draw(scales)
        got = least_rank(keys, wanted)
        expect(got.feasible and got.rank == min(out, count), f"{count} independent facts: {got}")
        edit = got.update
        expect(edit is not None and edit.columns == got.rank, "an edit of least rank")
        assert edit is not None
        error = np.linalg.norm(edit.apply(keys) - wanted, axis=0) / np.linalg.norm(keys, axis=0)
        unit = keys / np.linalg.norm(keys, axis=0)
        kappa = float(np.linalg.cond(unit))
        expect(error.max() <= _allowed(keys, wanted, kappa), f"misses by {error.max()}")
        # second oracle, and the least Frobenius norm: D K^+ by NumPy
        oracle = wanted @ np.linalg.pinv(keys, rcond=4 * EPS)
        gap = float(np.linalg.norm(edit.dense() - oracle))
        # a pseudo-inverse is computed to about eps cond^2 of its norm
        allowed = 64 * EPS * max(keys.shape) * max(kappa, float(np.linalg.cond(keys))) ** 2
        expect(gap <= allowed * float(np.linalg.norm(oracle)), f"differs from D K^+ by {gap}")

    for_all(ill_conditioned, 60, data=st.data())
    # witness: N independent keys and changes cost exactly N; the same change for all costs 1
    rng = stream(2, "fact_rank")
    keys, wanted = rng.standard_normal((64, 24)), rng.standard_normal((40, 24))
    got = least_rank(keys, wanted)
    expect(got[:2] == (True, 24) and got.update is not None and got.update.rank() == 24, f"24 facts: {got}")
    shared = np.outer(rng.standard_normal(40), np.ones(24))
    expect(least_rank(keys, shared)[:2] == (True, 1), f"one change for all: {least_rank(keys, shared)}")
    expect(least_rank(np.eye(3)[:, [0, 0]], [[1.0, 2.0]]) == (False, 1, None), "one key, two changes")
    expect(not least_rank([[0.0, 1.0]], [[1e-30, 1.0]]).feasible, "a zero key cannot read anything")
    expect(least_rank(np.zeros((3, 0)), np.zeros((2, 0)))[:2] == (True, 0), "no facts cost rank 0")
    for power in range(2, 16):  # factors that cancel up to 10^-power: what is left is writable, twelve keys or not
        b, a, more = rng.standard_normal((6, 2)), rng.standard_normal((2, 7)), rng.standard_normal((7, 12))
        left = LowRank(np.hstack([b, b]), np.vstack([a, -(1 + 10.0**-power) * a]))
        found = least_rank(more, left)
        expect(found.feasible and found.rank <= 2, f"what is left of 1 at {power}: {found}")
        assert found.update is not None
        miss = (found.update.apply(more) - left.apply(more)) / np.linalg.norm(more, axis=0)
        # by key, D is off by left.tolerance(); two singular values, and what sticks out, are dropped below that
        room = _allowed(more, left.apply(more), 10.0) + 4 * math.sqrt(12) * left.tolerance()
        expect(np.linalg.norm(miss) <= room, f"off by {np.linalg.norm(miss)} of {room} at {power}")
        expect(found.rank == (2 if power < 12 else found.rank), f"rank {found.rank} of what is left at {power}")
    # the edges of both tolerances, on three keys in a plane (condition sqrt 2) and on three orthonormal ones
    keys_in_plane = np.array([[1.0, 0.0, math.sqrt(0.5)], [0.0, 1.0, math.sqrt(0.5)]])
    inside, across = np.array([math.sqrt(0.5), -math.sqrt(0.5), 0.0]), np.array([0.5, 0.5, -math.sqrt(0.5)])
    for times, writable in ((0.5, True), (2.0, False)):
        sticking_out = inside + times * 4 * EPS * 3 * math.sqrt(2) * across
        expect(least_rank(keys_in_plane, [sticking_out]).feasible == writable, f"{times} times what may stick out")
        second = np.diag([1.0, times * 4 * EPS * 3, 0.0])
        expect(least_rank(np.eye(3), second).rank == 2 - writable, f"a change of {times} times what counts as zero")
    mutants: dict[str, Callable[[Any, Any], LeastRank]] = {
        "one rank too many": lambda k, d: least_rank(k, d)._replace(rank=least_rank(k, d).rank + 1),
        "always feasible": lambda k, d: least_rank(k, d)._replace(feasible=True),
        "an edit 1 % too large": lambda k, d: _scaled(least_rank(k, d)),
    }
    for what, mutant in mutants.items():
        expect_mutant_rejected(_least_rank_integer_body, mutant, what)
    expect_rejected("D:", least_rank, np.ones((2, 3)), np.ones((2, 2)))
    expect_rejected("D:", least_rank, np.ones((2, 3)), np.full((2, 3), math.nan))
    expect_rejected("K:", least_rank, np.full((2, 3), math.nan), np.ones((2, 3)))
    assert got.update is not None
    miss = float(np.linalg.norm(got.update.apply(keys) - wanted) / np.linalg.norm(wanted))
    return Figure("miss of the least-rank edit, 24 facts", miss, "relative")


def _scaled(result: LeastRank) -> LeastRank:
    update = result.update
    return result if update is None else result._replace(update=LowRank(update.B, update.A, 1.01 * update.scale))


# ---- margin_rank ----


def _equiangular_28() -> list[list[int]]:
    """28 vectors in the 7-dimensional space orthogonal to (1, .., 1): norm^2 24, inner products +-8."""
    return [list(v) for v in sorted(set(permutations((3, 3, -1, -1, -1, -1, -1, -1), 8)))]


@check("margin_rank")
def margin_rank_symbolic(code: Code) -> None:
    """(tr M)^2 <= rank(M) ||M||_F^2 and where it is attained, the circle, and the moments behind random codes."""
    import sympy

    # rank 1 (Lagrange's identity) and rank 2 in free symbols: the gap is a sum of squares
    b, a = sympy.symbols("b:3"), sympy.symbols("a:3")
    gap = sum(x**2 for x in b) * sum(x**2 for x in a) - sum(x * y for x, y in zip(b, a, strict=True)) ** 2
    squares = sum((b[i] * a[j] - b[j] * a[i]) ** 2 for i, j in combinations(range(3), 2))
    expect(sympy.expand(gap - squares) == 0, "Lagrange's identity fails")
    p, q, r, s = sympy.symbols("p q r s", real=True)
    two = 2 * (p**2 + q**2 + r**2 + s**2) - (p + s) ** 2
    expect(sympy.expand(two - ((p - s) ** 2 + 2 * q**2 + 2 * r**2)) == 0, "the 2 x 2 case fails")
    # all 3 x 3 integer matrices with right logits 2 and other right classes moved by -2 .. 2 (eps = 0, 1/2, 1)
    attained, floors = 0, [code.margin_rank_floor(3, Fraction(x, 2)) for x in range(3)]
    for rows in product(range(-2, 3), repeat=6):
        m = [[2, rows[0], rows[1]], [rows[2], 2, rows[3]], [rows[4], rows[5], 2]]
        floor = floors[max(abs(x) for x in rows)]
        rank = exact_rank(m)
        expect(rank >= floor, f"rank {rank} below the floor {floor}: {m}")
        attained += rank == floor
    expect(attained > 0, "the floor is never attained")
    # attained exactly: 28 equiangular lines in 7 dimensions, eps = 1/3; simplices, eps = 1/(N - 1)
    lines = _equiangular_28()
    gram = [[sum(x * y for x, y in zip(u, v, strict=True)) for v in lines] for u in lines]
    off = {abs(gram[i][j]) for i, j in combinations(range(28), 2)}
    expect(off == {8} and {gram[i][i] for i in range(28)} == {24}, "not equiangular")
    expect(exact_rank(gram) == 7 == code.margin_rank_floor(28, Fraction(1, 3)), "28 lines do not attain the floor")
    for n, eps in ((6, Fraction(1, 3)), (50, Fraction(1, 4)), (1000, Fraction(1, 10)), (1000, Fraction(9, 10)), (7, 1)):
        found = code.margin_rank_floor(n, eps)
        expect(found == _floor_by_powers(n, eps), f"floor of {n} answers at {eps}: {found}")
    for n in range(2, 9):
        simplex = [[n - 1 if i == j else -1 for j in range(n)] for i in range(n)]
        expect(exact_rank(simplex) == n - 1 == code.margin_rank_floor(n, Fraction(1, n - 1)), f"simplex of {n}")
    # the circle: the best rival is the neighbour; both sines lie in [0, pi] for 1 <= d <= N - 1
    d, n = sympy.symbols("d n", positive=True)
    neighbour = sympy.cos(2 * sympy.pi / n) - sympy.cos(2 * sympy.pi * d / n)
    factors = 2 * sympy.sin(sympy.pi * (d + 1) / n) * sympy.sin(sympy.pi * (d - 1) / n)
    expect(sympy.simplify((neighbour - factors).rewrite(sympy.exp)) == 0, "the rivals on the circle")
    for size in (2, 3, 4, 5, 6, 12):  # cosines of these angles are algebraic; the logits are one rounded product each
        want = sympy.Matrix(size, size, lambda i, j, n=size: sympy.cos(2 * sympy.pi * (i - j) / n)).evalf(30)
        update = code.circle_update(size)
        expect_entries(update.dense(), _rational(want), 16 * math.pi * EPS, f"logits of {size} answers on the circle")
        lead = 1 - sympy.cos(2 * sympy.pi / size)
        expect_close(code.circle_margin(size), float(lead), 4 * EPS * float(lead), f"margin of {size} on the circle")
    # a coordinate of a random unit vector has at most the even moments of a Gaussian of variance 1/r, so
    # P[|x| >= t] <= 2 exp(-r t^2 / 2); then N^2 / 2 pairs at t^2 = (4 ln N + 2 ln(1/f)) / r leave less than f
    t, big, f, dim = sympy.symbols("t N f r", positive=True)
    for r_ in (3, 5, 7):
        density = (1 - t**2) ** ((r_ - 3) // 2)
        mass = sympy.integrate(density, (t, -1, 1))
        for k in range(1, 6):
            moment = sympy.integrate(t ** (2 * k) * density, (t, -1, 1)) / mass
            formula = Fraction(math.prod(range(1, 2 * k, 2)), math.prod(r_ + 2 * i for i in range(k)))
            expect(moment == sympy.Rational(formula.numerator, formula.denominator), f"moment {2 * k} in {r_}")
    for k in range(1, 6):  # prod (r + 2 i) - r^k has no negative coefficient
        difference = sympy.Poly(sympy.prod([dim + 2 * i for i in range(k)]) - dim**k, dim)
        expect(all(c >= 0 for c in difference.coeffs()), f"moment {2 * k} is above the Gaussian one")
    square = (4 * sympy.log(big) - 2 * sympy.log(f)) / dim
    expect(sympy.simplify(big**2 * sympy.exp(-dim * square / 2) - f) == 0, "the union over pairs")
    for count, r, failure in ((2, 1, 1), (100, 7, Fraction(1, 50)), (10**6, 64, Fraction(1, 10**9)), (3, 10**400, 1)):
        want = square.subs({big: count, dim: r, f: sympy.Rational(failure)}).evalf(60)
        more = sympy.Rational(*Fraction(code.random_code_eps(count, r, failure)).as_integer_ratio()) ** 2 / want - 1
        expect(bool(0 <= more <= 3 * rounding()), f"coherence of {count} codes, rounded up")


def _rational(matrix: Any) -> list[list[Fraction]]:
    """Decimal entries of a SymPy matrix as Fractions."""
    return [[Fraction(str(x)) for x in row] for row in matrix.tolist()]


def _floor_by_powers(n: int, eps: Fraction | int) -> int:
    """The least rank that no entrywise power forbids, powers and ranks tried one after another."""

    def allowed(r: int) -> bool:
        powers = takewhile(lambda k: k == 1 or (n - 1) * eps ** (2 * k - 2) > 1, range(1, 101))
        return all(math.comb(r + k - 1, k) * (1 + (n - 1) * Fraction(eps) ** (2 * k)) >= n for k in powers)

    return next(r for r in range(1, n + 1) if allowed(r))


def _margin_floor_body(floor: Callable[[int, float], int]) -> None:
    def planted(data: Any) -> None:
        # logit changes M = C U K of planted integer rank; classes as rows, the fact of class j as column j
        count, rank = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 4))
        left = data.draw(integer_matrices(count, rank, 2))
        right = data.draw(integer_matrices(rank, count, 2))
        m = [[sum(left[i][t] * right[t][j] for t in range(rank)) for j in range(count)] for i in range(count)]
        rises = [m[j][j] for j in range(count)]
        if min(rises) <= 0:
            return
        eps = max((Fraction(abs(m[i][j]), rises[j]) for i in range(count) for j in range(count) if i != j), default=0)
        got = floor(count, float(eps))
        expect(got <= exact_rank(m), f"floor {got} above the rank {exact_rank(m)} of {m}")

    for_all(planted, 60, data=st.data())

    def formula(count: int, power: int, numerator: int) -> None:
        eps = Fraction(numerator, 2**power)  # dyadic: exact as a float, and never a tie except where eps^2 makes one
        got = floor(count, float(eps))
        nudged = min(eps + Fraction(1, 2**60), Fraction(1))
        expect(got == _floor_by_powers(count, nudged), f"floor {got} at N {count}, eps {eps}")

    for_all(formula, 120, count=st.integers(1, 300), power=st.integers(0, 8), numerator=st.integers(0, 255))
    expect(floor(28, 1.0 / 3.0) == 7, "28 equiangular lines")
    expect(floor(6, 1.0 / math.sqrt(5.0)) == 3, "the six diagonals of the icosahedron")
    expect(floor(9, 0.0) == 9 and floor(1, 0.0) == 1 and floor(50, 1.0) == 1 and floor(50, 1e9) == 1, "the ends")


@check("margin_rank")
def margin_rank_numeric() -> Figure:
    """The floor on planted ranks and at equiangular lines, the circle, and the real coherence of random codes."""
    _margin_floor_body(margin_rank_floor)
    expect_mutant_rejected(_margin_floor_body, lambda n, e: margin_rank_floor(n, e) + 1, "floor one too high")
    expect_mutant_rejected(_margin_floor_body, lambda n, e: max(margin_rank_floor(n, e) - 1, 1), "floor one too low")
    expect_rejected("eps", margin_rank_floor, 3, -0.1)
    expect_rejected("eps", margin_rank_floor, 3, math.inf)
    expect_rejected("n_answers", margin_rank_floor, 0, 0.1)
    expect_rejected("powers", margin_rank_floor, 3, 0.1, 0)
    for n, eps in ((26, 0.5), (50_257, 0.1)):  # the first power alone, for which a root mean square will do
        first = math.ceil(n / (1 + (n - 1) * Fraction(eps) ** 2))
        expect(margin_rank_floor(n, eps, powers=1) == first < margin_rank_floor(n, eps), f"first power at {n, eps}")

    def circle(n: int) -> None:
        update = circle_update(n)
        logits = update.dense()
        i = np.arange(n)
        want = np.cos(2 * np.pi * (i[:, None] - i) / n)
        # angles of up to 2 pi n / n are rounded to eps relative, then one product of two terms
        expect(np.abs(logits - want).max() <= 16 * np.pi * EPS, f"the circle of {n}")
        expect(update.rank() <= 2 and update.columns == 2, f"rank {update.rank()}")
        if n > 1:
            rivals = np.where(np.eye(n, dtype=bool), -np.inf, logits).max(axis=0)
            expect_close(circle_margin(n), 1.0 - rivals.max(), 32 * np.pi * EPS, f"margin of {n} on the circle")

    for_all(circle, 40, n=st.integers(1, 200))
    # relative error: 1 - cos by its series, two terms are exact to (2 pi / N)^4 / 360
    expect_close(circle_margin(10**6) * 10**12 / (2 * math.pi**2), 1.0, 1e-11, "the margin falls like 2 pi^2 / N^2")
    expect_rejected("n_answers", circle_margin, 1)
    expect_rejected("n_answers", circle_update, 0)

    def codes(count: int, r: int, failure: float) -> None:
        eps = random_code_eps(count, r, failure)
        union = 2 * math.log(count) - r * eps * eps / 2  # ln of N^2 exp(-r eps^2 / 2)
        expect_close(union, math.log(failure), 64 * EPS * (1 + 4 * math.log(count) - math.log(failure)), "union bound")

    some = st.sampled_from([1.0, 0.5, 0.01, 1e-12])
    for_all(codes, 60, count=st.integers(2, 10**6), r=sizes, failure=some)
    expect(random_code_eps(1, 1, 1.0) == 0.0, "one code disturbs none")
    expect_rejected("n_answers", random_code_eps, 0, 3)
    expect_rejected("r:", random_code_eps, 3, 0)
    expect_rejected("failure", random_code_eps, 3, 3, True)
    expect_rejected("failure", random_code_eps, 3, 3, 9.95e-301)
    expect_rejected("failure", random_code_eps, 3, 3, 1.005)
    ends: list[tuple[Fraction, Any]] = [  # what a number of a narrow format can stand for at least
        (Fraction(float(np.nextafter(np.float32(0.3), np.float32(0)))), np.float32(0.3)),
        (Fraction(1, 2**25), np.float16(2.0**-24)), (Fraction(1e-300), Fraction(1e-300)),
    ]  # fmt: skip
    for least, failure in ends:
        square = 4 * math.log(5) - 2 * math.log(least)
        expect(abs(random_code_eps(5, 2, failure) ** 2 * 2 / square - 1) < 64 * EPS, f"failure {failure}")
    # the exact tail of a coordinate, I_{1-t^2}((r-1)/2, 1/2), never exceeds 2 exp(-r t^2 / 2)
    from scipy.special import betainc

    t = np.linspace(0.0, 1.0, 201)[None, :]
    r_ = np.array([2, 3, 5, 16, 64, 512])[:, None]
    tail = betainc((r_ - 1) / 2, 0.5, 1 - t * t)
    expect(bool((tail <= 2 * np.exp(-r_ * t * t / 2)).all()), "the tail of a coordinate")
    # facts that share answers count once: 60 facts over 2 values are answered exactly at rank 2, and not below
    two = np.eye(2)[:, np.arange(60) % 2]
    expect(least_rank(np.eye(60), two).rank == 2 == margin_rank_floor(2, 0.0), "60 facts over 2 values")
    # measured: 200 codes in 64 dimensions, and the floor that their coherence implies
    draw = stream(3, "codes").standard_normal((64, 200))
    unit = draw / np.linalg.norm(draw, axis=0)
    coherence = float(np.abs(unit.T @ unit - np.eye(200)).max())
    bound = random_code_eps(200, 64, 0.01)
    expect(coherence <= bound, f"200 codes in 64 dimensions: coherence {coherence} above {bound}")
    expect(margin_rank_floor(200, coherence) <= 64, "the floor is above the rank of the codes")
    return Figure("coherence of 200 random codes in 64 dimensions / bound at 1 %", coherence / bound, "ratio")


# ---- capacity_bits ----


def exact_count(hypotheses: int, n: int, m: int) -> int:
    """sum_k min(m^n, G sum_{j >= k} C(n, j) (m - 1)^(n - j)): n m^n times the counting bound, in integers."""
    total = tail = 0
    for k in range(n, 0, -1):
        tail += math.comb(n, k) * (m - 1) ** (n - k)
        total += min(m**n, hypotheses * tail)
    return total


def _best_agreements(tables: list[tuple[int, ...]], truths: list[tuple[int, ...]]) -> int:
    return sum(max(sum(x == y for x, y in zip(g, q, strict=True)) for g in tables) for q in truths)


def _hamming_code() -> list[tuple[int, ...]]:
    """The 16 words of the (7, 4) code: a perfect code, every word of length 7 is within distance 1 of one."""
    checks = ((0, 2, 4, 6), (1, 2, 5, 6), (3, 4, 5, 6))
    return [w for w in product((0, 1), repeat=7) if not any(sum(w[i] for i in c) % 2 for c in checks)]


@check("capacity_bits")
def capacity_bits_symbolic(code: Code) -> None:
    """Every family of tables for three small sizes, in integers; attained by one table, all, and perfect codes."""
    import sympy

    for n, m in ((2, 2), (3, 2), (2, 3)):
        truths = list(product(range(m), repeat=n))
        agree = [[sum(x == y for x, y in zip(g, q, strict=True)) for q in truths] for g in truths]
        for size in range(1, len(truths) + 1):
            bound = exact_count(size, n, m)
            share = Fraction(bound, n * m**n)
            # ln G and the n tails are rounded, each tail a sum of at most n terms
            got = code.counting_bound(math.log(size), n, m)
            expect_close(got, float(share), (8 * n + 16) * EPS, f"counting bound at G {size}, n {n}, m {m}")
            tails = [sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1)) for k in range(1, n + 2)]
            # 7/13 of m^n is never whole, so that rounding cannot decide
            least = next(k for k, tail in enumerate(tails, 1) if size * tail <= Fraction(7, 13) * m**n)
            got = code.counting_threshold(math.log(size), n, m, 7 / 13)
            expect(got == least, f"threshold {got}, exactly {least}, at G {size}, n {n}, m {m}")
            for family in combinations(agree, size):
                best = sum(map(max, zip(*family, strict=True)))
                expect(best <= bound, f"{size} tables agree {best} times, bound {bound}, n {n}, m {m}")
        expect(exact_count(1, n, m) == n * m ** (n - 1), "one table: the mean is 1/m")
        expect(exact_count(m**n, n, m) == n * m**n, "all tables: everything is right")
    words = list(product((0, 1), repeat=7))
    expect(_best_agreements(_hamming_code(), words) == exact_count(16, 7, 2), "the Hamming code attains the bound")
    expect_close(code.capacity_ceiling(4, 7, 2), 7 / 8, 64 * EPS, "4 bits name the 16 words, which recall 7/8")
    ternary = [w for w in product(range(3), repeat=4) if (w[0] + w[1] + w[2]) % 3 == 0 == (w[1] - w[2] + w[3]) % 3]
    expect(len(ternary) == 9, "the ternary code has 9 words")
    threes = list(product(range(3), repeat=4))
    expect(_best_agreements(ternary, threes) == exact_count(9, 4, 3), "the ternary Hamming code attains the bound")
    # exactly 1/m at G = 1, m free: the mean of the binomial is the sum of its tails
    m_ = sympy.Symbol("m", positive=True)
    for n in range(1, 7):
        tails = sum(math.comb(n, j) * (m_ - 1) ** (n - j) for k in range(1, n + 1) for j in range(k, n + 1))
        expect(sympy.expand(tails - n * m_ ** (n - 1)) == 0, f"the tails of n = {n} do not sum to n/m")


def _counting_body(bound: Callable[[float, int, int], float]) -> None:
    def body(n: int, m: int, power: int, offset: int) -> None:
        hypotheses = 2**power + offset % 2**power
        want = Fraction(exact_count(hypotheses, n, m), n * m**n)
        log_g = math.log(hypotheses)
        # ln G is rounded (eps ln G), the tails are sums of n rounded terms
        tolerance = float(want) * EPS * (8 * n + 2 * log_g + 8)
        expect_close(bound(log_g, n, m), float(want), tolerance, f"counting bound at G {hypotheses}, n {n}, m {m}")

    some = st.sampled_from([1, 2, 3, 10, 1000])
    for_all(body, 120, n=st.integers(1, 40), m=some, power=st.integers(0, 200), offset=st.integers(0, 2**200))


def _exactly(log_g: Any, n: int, m: int) -> Any:
    """The counting bound for ln G as it is, with 60 digits."""
    import mpmath

    tail, total, tables = 0, mpmath.mpf(0), mpmath.exp(log_g)
    for k in range(n, 0, -1):
        tail += math.comb(n, k) * (m - 1) ** (n - k)
        total += min(mpmath.mpf(1), tables * tail / mpmath.mpf(m) ** n)
    return total / n


def _rounded_up(bound: Callable[[float, int, int], float]) -> None:
    """Never below, where logarithms are large as well; above by what is said, where they are small."""
    import mpmath

    rng = stream(0, "counting bound")
    with mpmath.workdps(60):
        for n, m in product((1, 2, 3, 5, 8, 24, 40, 200), (2, 10, 10**6, 10**9, 10**15)):
            for share in (1e-3, *rng.random(6)):
                log_g = float(share * n * math.log(m))
                above = bound(log_g, n, m) / _exactly(mpmath.mpf(log_g), n, m) - 1
                expect(
                    above >= 0, f"counting bound {float(above):.1e} below the exact one at ln G {log_g}, n {n}, m {m}"
                )
                said = (2 * (n + 2) + 8) * EPS
                expect(
                    m > 10 or above <= said, f"counting bound {float(above):.1e} above at ln G {log_g}, n {n}, m {m}"
                )


def _bits_rounded_up(ceiling: Callable[[float, int, int], float]) -> None:
    import mpmath

    with mpmath.workdps(60):
        for n, m, bits in product((3, 24, 40), (2, 10**15), range(7, 80, 6)):
            size = math.floor(bits / 80 * n * math.log2(m))
            exact = _exactly(size * mpmath.log(2), n, m)
            expect(ceiling(size, n, m) >= exact, f"the ceiling of {size} bits on {n} facts of {m} values lies below")


def _threshold_body(threshold: Callable[[float, int, int, float], int]) -> None:
    def body(n: int, m: int, power: int, level: Fraction) -> None:
        def reached(k: int) -> Fraction:
            tail = sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1))
            return Fraction(3**power * tail, m**n)

        least = next(k for k in range(1, n + 2) if reached(k) <= level)
        got = threshold(power * math.log(3.0), n, m, float(level))
        expect(got == least, f"threshold {got}, exactly {least}, at G 3^{power}, n {n}, m {m}, level {level}")

    # levels with a prime in the denominator that no m^n here has: G P never equals one, so rounding cannot decide
    levels = st.sampled_from([Fraction(7, 1300), Fraction(3, 35), Fraction(7, 13)])
    for_all(
        body, 120, n=st.integers(1, 30), m=st.sampled_from([1, 2, 3, 5, 50]), power=st.integers(0, 40), level=levels
    )


def _threshold_ties(threshold: Callable[[float, int, int, float], int]) -> None:
    """Where rounding decides, the larger threshold; a little above a tie, the least."""
    import mpmath

    with mpmath.workdps(60):
        for n, m, log_g in product((1, 2, 5, 8, 24, 200), (2, 3, 10, 10**6, 10**15), (0.0, 0.3, 7.0, 100.0)):
            for k in {1, 2, n // 2 + 1, n - 1, n} & set(range(1, n + 1)):
                tail = sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1))
                tie = mpmath.exp(log_g) * tail / mpmath.mpf(m) ** n
                if 1e-300 < tie < 0.99:
                    below = math.nextafter(float(tie), 0.0)
                    got = threshold(log_g, n, m, float(tie)), threshold(log_g, n, m, below)
                    expect(
                        got[0] >= k + (float(tie) < tie) and got[1] > k, f"threshold {got} at {n, m, log_g}, tie {k}"
                    )
                    got = threshold(log_g, n, m, float(tie) * (1 + 1e-9)), 0
                    expect(n > 24 or got[0] <= k, f"threshold {got[0]} above the tie {k} at {n, m, log_g}")


@check("capacity_bits")
def capacity_bits_numeric() -> Figure:
    """Against exact integers, at n = 1e5 against SciPy's incomplete beta function, and attained by a code of 4 bits."""
    _counting_body(counting_bound)
    expect_mutant_rejected(_counting_body, lambda g, n, m: 0.99 * counting_bound(g, n, m), "1 % below")
    expect_mutant_rejected(_counting_body, lambda g, n, m: counting_bound(g, n, m + 1), "one answer too many")
    _rounded_up(counting_bound)
    expect_mutant_rejected(
        _rounded_up, lambda g, n, m: counting_bound(g, n, m) * (1 - 2 * (n + 2) * EPS), "not rounded up"
    )
    _bits_rounded_up(capacity_ceiling)
    less = 1.0 - 1e-12
    expect_mutant_rejected(_bits_rounded_up, lambda b, n, m: capacity_ceiling(b * less, n, m), "too few bits")
    _threshold_body(counting_threshold)
    expect_mutant_rejected(_threshold_body, lambda *a: counting_threshold(*a) - 1, "threshold one too low")
    _threshold_ties(counting_threshold)
    below = lambda g, n, m, level: counting_threshold(g, n, m, level * (1 + 1e-12))  # noqa: E731
    expect_mutant_rejected(_threshold_ties, below, "no room for rounding")
    from scipy.special import betainc

    for log_g, n, m in ((120.0, 10**5, 10), (500.0, 3 * 10**4, 100), (0.5, 10**5, 2)):
        k = np.arange(1, n + 1)
        tails = betainc(k, n - k + 1.0, 1.0 / m)
        # where the tail underflows (below 1e-300) G = e^500 of it is still nothing
        want = float(np.minimum(1.0, np.exp(np.log(np.maximum(tails, 1e-300)) + log_g)).sum()) / n
        # SciPy's incomplete beta function loses about n eps in the exponent, as the sum of n ratios does here
        expect_close(counting_bound(log_g, n, m), want, 8 * n * EPS * want, f"counting bound at n = {n}, by SciPy")
    expect(counting_bound(0.0, 10**5, 7) == 1 / 7 and counting_bound(5.0, 3, 1) == 1.0, "exactly 1/m at G = 1")
    expect(counting_bound(1e300, 10**5, 10) == 1.0, "everything is right with enough tables")
    # witness: 4 bits name the words of the Hamming code, which recalls 7 random bits with mean accuracy 7/8
    truths = list(product((0, 1), repeat=7))
    recalled = Fraction(_best_agreements(_hamming_code(), truths), 7 * len(truths))
    ceiling = capacity_ceiling(4, 7, 2)
    gap = ceiling - float(recalled)
    expect_close(ceiling, float(recalled), 64 * EPS, "the ceiling of 4 bits on 7 binary facts")
    expect_rejected("log_hypotheses", counting_bound, -1.0, 3, 3)
    expect_rejected("log_hypotheses", counting_bound, math.inf, 3, 3)
    expect_rejected("log_hypotheses", counting_threshold, -1.0, 3, 3)
    expect_rejected("log_hypotheses", counting_threshold, math.inf, 3, 3)
    expect_rejected("n:", counting_threshold, 1.0, 0, 3)
    expect_rejected("m:", counting_threshold, 1.0, 3, 0)
    expect_rejected("level", counting_threshold, 1.0, 3, 3, "half")
    expect_rejected("level", counting_threshold, 1.0, 3, 3, 0.0)
    expect_rejected("level", counting_threshold, 1.0, 3, 3, 1.0)
    ends = (capacity_ceiling(0.0, 3, 4), capacity_ceiling(5.0, 1, 1), capacity_ceiling(0.0, 1, 2))
    expect(
        ends[1] == 1.0 and abs(ends[0] - 0.25) + abs(ends[2] - 0.5) <= 16 * EPS, f"no bits, one fact, one value: {ends}"
    )
    expect(capacity_ceiling(10**400, 3, 5) == 1.0, "more bits than a float holds name every table")
    expect(capacity_ceiling(6.5, 3, 5) < 1.0, "6.5 bits do not name all 125 tables of three facts")
    expect_rejected("bits", capacity_ceiling, -1.0, 3, 3)
    expect_rejected("bits", capacity_ceiling, math.inf, 3, 3)
    expect_rejected("n_facts", capacity_ceiling, 1.0, 0, 3)
    expect_rejected("n_facts", capacity_ceiling, 10**400, 10**400, 3)
    expect(counting_bound(1.0, 10**8, 1) == 1.0, "one answer is right, for as many queries as are taken")
    expect_rejected("n:", counting_bound, 1.0, 10**8 + 1, 1)
    expect_rejected("n_values", capacity_ceiling, 1.0, 3, 0)
    expect_rejected("n:", counting_bound, 1.0, 0, 3)
    expect_rejected("m:", counting_bound, 1.0, 3, 0)
    return Figure("gap of the ceiling to a perfect code, 4 bits on 7 facts", gap, "accuracy")
