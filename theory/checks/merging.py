"""Checks of the topic merging: rank of a sum, averaging of factors, dilution, weights, masks, interference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, product
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
from theory.checks.strategies import (
    conditioned,
    exact_rank,
    integer_matrices,
    orthonormal,
    scales,
    seeds,
    shapes,
    updates,
)
from theory.lowrank import LowRank
from theory.merging import (
    LP_TOLERANCE,
    MergedRank,
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
from theory.numerics import EPS, Array, rank_tolerance, rounding, stream

# ---- merge_rank ----


@check("merge_rank")
def merge_rank_symbolic(code: Code) -> None:
    """Exact rational ranks: the bound, equality iff both families of spaces are independent, on all small cases.

    Two updates of rank <= 1 on 2 x 2 with entries in {-1, 0, 1}: every sum there is, and symbolically the block form:
    rank of [B1 B2] diag(w1, w2) [A1; A2] is full iff both stacks have full rank.
    """
    import sympy

    vectors = list(product((-1, 0, 1), repeat=2))
    outer = {tuple(x * y for x, y in product(b, a)): (b, a) for b, a in product(vectors, repeat=2)}
    made = {pair: LowRank(np.array([pair[0]]).T, [pair[1]]) for pair in outer.values()}
    for (b1, a1), (b2, a2) in combinations_with_replacement(made, 2):
        total = [[b1[i] * a1[j] + b2[i] * a2[j] for j in range(2)] for i in range(2)]
        ranks = [int(any(b) and any(a)) for b, a in ((b1, a1), (b2, a2))]
        columns = exact_rank([list(b) for b, r in ((b1, ranks[0]), (b2, ranks[1])) if r])
        rows = exact_rank([list(a) for a, r in ((a1, ranks[0]), (a2, ranks[1])) if r])
        rank, independent = exact_rank(total), columns == rows == sum(ranks)
        expect((rank == sum(ranks)) == independent, f"equality and independence differ for {b1, a1, b2, a2}")
        got = code.merged_rank([made[b1, a1], made[b2, a2]])
        expect(got == (rank, sum(ranks), independent), f"{got} for {b1, a1, b2, a2}, exact rank {rank}")
    # free symbols: the 2 x 2 minor of w1 b1 a1^T + w2 b2 a2^T factors, so it is non-zero iff all three factors are
    w = sympy.symbols("w1 w2")
    b = sympy.Matrix(2, 2, sympy.symbols("b:4"))
    a = sympy.Matrix(2, 2, sympy.symbols("a:4"))
    minor = (b * sympy.diag(*w) * a).det()
    expect(sympy.expand(minor - w[0] * w[1] * b.det() * a.det()) == 0, "the minor of a merged update does not factor")


def _merge_rank_body(bound: Callable[[Sequence[LowRank]], MergedRank]) -> None:
    def body(data: Any) -> None:
        out, in_ = data.draw(shapes())
        count = data.draw(st.integers(1, 4))
        factors = []
        for _ in range(count):
            r = data.draw(st.integers(0, 3))
            factors.append(
                (data.draw(integer_matrices(out, r)), data.draw(integer_matrices(r, in_)), data.draw(st.integers(1, 3)))
            )
        made = [
            LowRank(np.reshape(b, (out, len(a))).astype(float), np.reshape(a, (len(a), in_)).astype(float), s)
            for b, a, s in factors
        ]
        dense = [[[s * sum(b[i][k] * a[k][j] for k in range(len(a))) for j in range(in_)] for i in range(out)]
                 for b, a, s in factors]  # fmt: skip
        ranks = [exact_rank(d) for d in dense]
        total = [[sum(d[i][j] for d in dense) for j in range(in_)] for i in range(out)]
        columns = exact_rank([[x for d in dense for x in d[i]] for i in range(out)])
        rows = exact_rank([d[i] for d in dense for i in range(out)])
        got = bound(made)
        expect(got.rank == exact_rank(total), f"rank {got.rank} of a sum whose exact rank is {exact_rank(total)}")
        expect(got.bound == sum(ranks), f"bound {got.bound}, exact {sum(ranks)}")
        expect(got.independent == (columns == rows == sum(ranks)), f"independent: {got.independent}")

    for_all(body, 80, data=st.data())


@check("merge_rank")
def merge_rank_numeric() -> Figure:
    """Against exact integer ranks, on ill-conditioned real updates, with a witness of equality and a mutant."""
    _merge_rank_body(merged_rank)

    def real_updates(data: Any) -> None:
        shape = data.draw(shapes())
        parts = data.draw(st.lists(updates(shape=shape), min_size=1, max_size=4))
        got = merged_rank(parts)
        expect(got.rank <= got.bound <= sum(u.columns for u in parts), f"{got} for {parts}")

    for_all(real_updates, 60, data=st.data())
    # witness: orthogonal spaces, very different sizes; the bound is attained
    rng = stream(1, "merge_rank")
    left, right = orthonormal(rng, 12, 12), orthonormal(rng, 12, 12)
    parts = [LowRank(left[:, i : i + 3], right[i : i + 3], 10.0 ** (i - 4)) for i in (0, 3, 6, 9)]
    expect(merged_rank(parts) == (12, 12, True), f"independent updates: {merged_rank(parts)}")
    for size in (1e-13, 1e13, 1e-30):  # as independent as before, whatever the rounding of the larger one
        apart = [parts[1], LowRank(parts[2].B, parts[2].A, parts[2].scale * size)]
        expect(merged_rank(apart) == (6, 6, True), f"an update {size} times another: {merged_rank(apart)}")
    for times in (0.5, 2.0):  # the edge of what counts as zero: 4 eps 12, as the first of its singular values is 1
        edge = LowRank(left[:, :2] * [1.0, times * 48 * EPS], right[:2])
        counted = (edge.rank(), edge.column_basis().shape[1], edge.row_basis().shape[0], merged_rank([edge]).rank)
        expect(set(counted) == {1 if times < 1 else 2}, f"{counted} directions with one {times} times what is zero")
    # columns just dependent, beside small directions that count among the bases but not for the size of the sum
    angle = math.sqrt(2.0) * 192 * EPS
    lean = [LowRank(left[:, i : i + 3] * [1.0, 1e-3, 1e-3], right[i : i + 3]) for i in (0, 3)]
    lean[1] = LowRank(np.hstack([left[:, :1] + angle * left[:, 6:7], lean[1].B[:, 1:]]), lean[1].A)
    expect(LowRank.combine(lean, [1.0, 1.0]).rank() == 6, "an angle that the sum shows")
    expect(merged_rank(lean) == (5, 6, False), f"an angle that its bases do not show: {merged_rank(lean)}")
    # dependent columns, independent rows: strictly below although the row spaces are independent
    shared = [LowRank(left[:, :2], right[:2]), LowRank(left[:, :2], right[2:4])]
    expect(merged_rank(shared) == (2, 4, False), f"shared column space: {merged_rank(shared)}")
    expect(merged_rank([parts[0], parts[0]]) == (3, 6, False), "twice the same update")
    opposite = [parts[1], LowRank(parts[1].B, parts[1].A, -parts[1].scale)]
    expect(merged_rank(opposite) == (0, 6, False), "an update and its negative")
    # a merge kept at rank r loses the Eckart-Young tail of the sum
    total = LowRank.combine(parts, [1.0] * 4)
    lost = LowRank.combine([total, total.truncate(3)], [1.0, -1.0]).norm("spectral")
    gap = abs(lost - total.singular_values()[3])
    expect(gap <= total.tolerance(), f"truncation lost {lost}, the tail is {total.singular_values()[3]}")
    expect_mutant_rejected(
        _merge_rank_body, lambda us: merged_rank(us)._replace(bound=merged_rank(us).bound - 1), "bound one too low"
    )
    expect_mutant_rejected(
        _merge_rank_body, lambda us: merged_rank(us)._replace(independent=True), "always independent"
    )
    one, far = LowRank([[1.0]], [[1.0]]), LowRank([[1e200]], [[1e200]], 1e300)
    refused: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
        ("tol", one.rank, ("1",)),
        ("tol", one.rank, (-1.0,)),
        ("r", one.truncate, (1.5,)),
        ("x", one.apply, ([math.nan],)),
        ("x", one.apply, ([[math.nan]],)),
        ("x: expected 1 rows", one.apply, ([1.0, 1.0],)),
        ("scale", LowRank, ([[1.0]], [[1.0]], "1")),
        ("kind", one.norm, ("largest",)),
        ("B: expected factors and a scale that can be balanced", far.norm, ()),
        ("updates: expected at least one update", LowRank.combine, ([], [])),
        ("weights: expected 2 weights", LowRank.combine, ([one, one], [1.0])),
        ("weights", LowRank.combine, ([one], ["1"])),
        ("weights", LowRank.combine, ([far], [1e10])),
    ]
    for argument, call, wrong in refused:
        expect_rejected(argument, call, *wrong)
    for factor in ([[math.nan]], [["1"]], [1.0]):
        expect_rejected("B", LowRank, factor, [[1.0]])
        expect_rejected("A", LowRank, [[1.0]], factor)
    cancels = LowRank([[1.0, -1.0]], [[1.0, 1e16, 0.0], [0.0, 1e16, 0.0]])
    expect(cancels.apply(np.ones(3)).tolist() == [1.0], "what cancels between the factors does so before x is read")
    unlike = LowRank([[1e-49], [0.0]], [[1e49, 0.0]])
    expect_close(float(unlike.apply([1e300, 1.0])[0]) / 1e300, 1.0, 8 * EPS, "factors and an x of unlike sizes")
    expect_rejected("updates", merged_rank, [])
    expect_rejected("updates", merged_rank, [LowRank(np.ones((2, 1)), np.ones((1, 2))), parts[0]])
    return Figure("gap of the truncation loss to the tail", float(gap / total.norm("spectral")), "relative")


# ---- factor_average ----


@check("factor_average")
def factor_average_symbolic(code: Code) -> None:
    """The expansion into own terms and cross terms, for free entries and weights; the shares of both conventions.

    Then the code at whole numbers and dyadic square weights, where every float of the expansion is exact.
    """
    import sympy

    k, m, r, n = 3, 2, 2, 2
    b = [sympy.Matrix(m, r, sympy.symbols(f"b{i}_:{m * r}")) for i in range(k)]
    a = [sympy.Matrix(r, n, sympy.symbols(f"a{i}_:{r * n}")) for i in range(k)]
    c = sympy.symbols(f"c:{k}")
    zero = sympy.zeros(m, n)
    whole = sum((c[i] * b[i] for i in range(k)), sympy.zeros(m, r)) * sum(
        (c[i] * a[i] for i in range(k)), sympy.zeros(r, n)
    )
    own = sum((c[i] ** 2 * b[i] * a[i] for i in range(k)), zero)
    cross = sum((c[i] * c[j] * b[i] * a[j] for i in range(k) for j in range(k) if i != j), zero)
    expect((whole - own - cross).expand() == zero, "own terms plus cross terms are not the product")
    # square-root weights: the own term is the wanted one; plain weights 1/k: the own term is 1/k^2 of each update
    w = sympy.symbols(f"w:{k}", positive=True)
    wanted = sum((w[i] * b[i] * a[i] for i in range(k)), zero)
    rooted = own.subs({c[i]: sympy.sqrt(w[i]) for i in range(k)}, simultaneous=True)
    expect((rooted - wanted).expand() == zero, "square-root weights do not give the wanted own terms")
    plain = own.subs({c[i]: sympy.Rational(1, k) for i in range(k)}, simultaneous=True)
    expect(
        (plain - sum((b[i] * a[i] for i in range(k)), zero) / k**2).expand() == zero, "plain weights do not keep 1/k^2"
    )
    # independent Gaussian factors, unit own terms: mean square of the error over that of the wanted mean
    count = sympy.Symbol("k", positive=True, integer=True)
    sqrt_error = (count * (count - 1) / count**2) / (count / count**2)
    expect(sympy.simplify(sqrt_error - (count - 1)) == 0, "the sqrt convention's error is not sqrt(k - 1)")
    own_loss = count * (1 / count - 1 / count**2) ** 2 + count * (count - 1) / count**4
    expect(
        sympy.simplify(own_loss / (1 / count) - (count - 1) / count) == 0, "the plain error is not sqrt((k - 1) / k)"
    )
    mixtures = [[Fraction(w) for w in ws] for ws in ((1, 1, 1), (4, -1, 0.25), (-9, 0, 1), (9, 4, -0.25))]
    rng = stream(8, "factor_average")
    for convention, weights in product(("sqrt", "plain"), mixtures):
        factors = [(rng.integers(-3, 4, (m, r)), rng.integers(-3, 4, (r, n))) for _ in range(k)]
        made, reals = [LowRank(left, right, 4) for left, right in factors], [float(x) for x in weights]
        roots = [_exact_root(abs(4 * x)) for x in weights] if convention == "sqrt" else weights
        signed = [x if w >= 0 or convention == "plain" else -x for x, w in zip(roots, weights, strict=True)]
        expanded = sum(roots[i] * signed[j] * (factors[i][0] @ factors[j][1]).astype(object)
                       for i, j in product(range(k), repeat=2))  # fmt: skip
        averaged, total = code.factor_average(made, reals, convention), LowRank.combine(made, reals)
        expect_entries(averaged.dense(), expanded * (4 if convention == "plain" else 1), 0.0, f"{convention} average")
        want = math.sqrt(_exact_factor_error2([(*x, Fraction(4)) for x in factors], weights, convention))
        rounding = LowRank.combine([averaged, total], [1.0, -1.0]).tolerance() + total.tolerance() * (1 + want)
        got = code.factor_average_error(made, reals, convention)
        expect_close(got, want, rounding / total.norm(), f"{convention} error at the weights {weights}")
    for k_ in (2, 3, 4):  # orthogonal updates of one size: the Gaussian law holds exactly
        units = [LowRank(np.eye(k_)[:, [i]], np.eye(k_)[[i]]) for i in range(k_)]
        for convention, square in (("sqrt", k_ - 1), ("plain", Fraction(k_ - 1, k_))):
            got = code.factor_average_error(units, [1 / k_] * k_, convention)
            expect_close(got**2, float(square), 64 * k_ * EPS, f"{convention} error of {k_} orthogonal updates")


def _exact_factor_error2(
    parts: Sequence[tuple[Any, Any, Any]], weights: Sequence[Fraction], convention: str
) -> Fraction:
    """Squared relative error by dense exact arithmetic, the second evaluation. Weights are squares under "sqrt"."""
    m, r, n = len(parts[0][0]), len(parts[0][1]), len(parts[0][1][0])

    def product_of(left: Any, right: Any) -> list[list[Fraction]]:
        return [[sum((left[i][k] * right[k][j] for k in range(r)), Fraction(0)) for j in range(n)] for i in range(m)]

    def blend(which: int, coefficients: Sequence[Fraction], rows: int, columns: int) -> list[list[Fraction]]:
        return [
            [sum((c * p[which][i][j] for c, p in zip(coefficients, parts, strict=True)), Fraction(0))
             for j in range(columns)] for i in range(rows)
        ]  # fmt: skip

    if convention == "sqrt":
        roots = [_exact_root(abs(w * s)) for w, (_, _, s) in zip(weights, parts, strict=True)]
        signed = [x if w * s >= 0 else -x for x, w, (_, _, s) in zip(roots, weights, parts, strict=True)]
        left, right, scale = blend(0, roots, m, r), blend(1, signed, r, n), Fraction(1)
    else:
        left, right, scale = blend(0, weights, m, r), blend(1, weights, r, n), parts[0][2]
    got: list[list[Any]] = [[scale * x for x in row] for row in product_of(left, right)]
    wanted: list[list[Any]] = [[Fraction(0)] * n for _ in range(m)]
    for w, (b, a, s) in zip(weights, parts, strict=True):
        term = product_of(b, a)
        wanted = [[x + w * s * t for x, t in zip(u, v, strict=True)] for u, v in zip(wanted, term, strict=True)]
    size = sum(x * x for row in wanted for x in row)
    error = sum((x - y) ** 2 for u, v in zip(got, wanted, strict=True) for x, y in zip(u, v, strict=True))
    return error / size if size else (Fraction(0) if error == 0 else Fraction(-1))


def _exact_root(x: Fraction) -> Fraction:
    root = Fraction(math.isqrt(x.numerator), math.isqrt(x.denominator))
    expect(root * root == x, f"{x} is not a rational square")
    return root


def _factor_average_body(error_of: Callable[[Sequence[LowRank], Sequence[float], str], float]) -> None:
    def body(data: Any) -> None:
        convention = data.draw(st.sampled_from(["sqrt", "plain"]))
        m, n = data.draw(shapes(5))
        r, k = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
        squares = st.sampled_from([Fraction(1), Fraction(4), Fraction(1, 4), Fraction(9)])
        common = data.draw(squares)
        parts, weights = [], []
        for _ in range(k):
            scale = data.draw(squares) if convention == "sqrt" else common
            parts.append((data.draw(integer_matrices(m, r)), data.draw(integer_matrices(r, n)), scale))
            weights.append(data.draw(squares) * data.draw(st.sampled_from([1, -1])))
        made = [LowRank(np.array(b, float), np.array(a, float), float(s)) for b, a, s in parts]
        exact = _exact_factor_error2(parts, weights, convention)
        got = error_of(made, [float(w) for w in weights], convention)
        if exact < 0:
            expect(got == math.inf, f"wanted sum 0, averaged not 0, error {got}")
            return
        # every entry is an integer combination of exact floats; what rounds is the QR-based norm
        total = LowRank.combine(made, [float(w) for w in weights])
        averaged = factor_average(made, [float(w) for w in weights], convention)
        joint = LowRank.combine([averaged, total], [1.0, -1.0])
        size = total.norm("frobenius")
        want = math.sqrt(exact)
        tolerance = (joint.tolerance() + total.tolerance() * (1 + want)) / size if size else 0.0
        expect_close(got, want, tolerance, f"{convention} error of {k} adapters of rank {r}")

    for_all(body, 100, data=st.data())


@check("factor_average")
def factor_average_numeric() -> Figure:
    """Against exact rational evaluation; cross terms as computed; the Gaussian values sqrt(k-1) and sqrt((k-1)/k)."""
    _factor_average_body(factor_average_error)
    expect_mutant_rejected(
        _factor_average_body,
        lambda us, ws, c: factor_average_error(
            us, ws, "plain" if c == "sqrt" and len({u.scale for u in us}) == 1 else c
        ),
        "the conventions exchanged",
    )
    expect_mutant_rejected(
        _factor_average_body, lambda us, ws, c: 1.01 * factor_average_error(us, ws, c), "one per cent too large"
    )
    # witness: orthogonal spaces of equal size: the error of two adapters at weights 1/2 is exactly 1 and sqrt(1/2)
    basis = np.eye(4)
    pair = [LowRank(basis[:, i : i + 1], basis[i : i + 1], 2.0) for i in (0, 1)]
    expect_close(factor_average_error(pair, [0.5, 0.5], "sqrt"), 1.0, 16 * EPS, "orthogonal pair, sqrt")
    expect_close(factor_average_error(pair, [0.5, 0.5], "plain"), math.sqrt(0.5), 16 * EPS, "orthogonal pair, plain")
    averaged = factor_average(pair, [0.5, -0.5], "sqrt").dense()
    by_hand = np.zeros((4, 4))
    by_hand[:2, :2] = [[1.0, -1.0], [1.0, -1.0]]
    expect(np.array_equal(averaged, by_hand), "signs: the negative weight sits on A alone")
    plain = factor_average(pair, [0.5, -0.5], "plain").dense()
    by_hand[:2, :2] = [[0.5, -0.5], [-0.5, 0.5]]
    expect(np.array_equal(plain, by_hand), "plain convention: both factors carry the weight")
    expect(factor_average_error([pair[0]], [0.0], "sqrt") == 0.0, "nothing wanted, nothing got")
    expect(factor_average_error(pair[:1] * 2, [1.0, -1.0], "sqrt") == 0.0, "the cross terms cancel too")
    crossed = [pair[0], LowRank(-pair[0].B, pair[0].A, 2.0)]
    expect(factor_average_error(crossed, [1.0, 1.0], "sqrt") == 0.0, "an update and its negative")
    lonely = [LowRank(basis[:, :1], basis[:1]), LowRank(basis[:, :1], -basis[:1])]
    expect(factor_average_error(lonely, [4.0, 4.0], "sqrt") == 0.0, "opposite A cancel in both")
    lost = [LowRank(basis[:, :1], basis[:1], 1.0), LowRank(basis[:, :1], basis[:1], -1.0)]
    expect(factor_average_error(lost, [1.0, 4.0], "sqrt") < math.inf, "a non-zero wanted sum has a finite error")
    b, *a = stream(4, "alike").standard_normal((7, 9, 3))
    # nearly one B: plain weights that sum to one average them nearly to the mean, and the terms of the error cancel
    for size in (1.0, 1e3, 1e-3):
        alike = [LowRank(size * (b + 1e-8 * x), size * y.T) for x, y in zip(a[:3], a[3:], strict=True)]
        mean = np.mean([u.dense() for u in alike], axis=0)
        blended = np.mean([u.B for u in alike], axis=0) @ np.mean([u.A for u in alike], axis=0)
        moved = float(np.linalg.norm(blended - mean) / np.linalg.norm(mean))
        terms = float(np.linalg.norm(b) * np.linalg.norm(a) * size**2 / np.linalg.norm(mean))
        rest = 16 * rank_tolerance((9, 9, 3), terms)
        expect_close(
            factor_average_error(alike, [1 / 3] * 3, "plain"), moved, rest, f"adapters of nearly one B, {size}"
        )
    lengths = ((1.3, 1.7), (0.7, 0.4))
    crossed_share = math.hypot(1.3 * 0.4, 0.7 * 1.7) / math.hypot(1.3 * 1.7, 0.7 * 0.4)
    for sizes in ((1e-160, 1e150), (1e150, 1e-160)):  # squares of one factor below the normal range
        unlike = [
            LowRank(sizes[0] * left * basis[:, [i]], sizes[1] * right * basis[[i]])
            for i, (left, right) in enumerate(lengths)
        ]
        expect_close(
            factor_average_error(unlike, [0.5, 0.5], "sqrt"), crossed_share, 16 * EPS, f"factors of sizes {sizes}"
        )
    for size in (1e-170, 1e-90, 1e90, 1e150):  # squares beyond the range of float64
        tiny = [LowRank(u.B, u.A, size) for u in pair]
        expect_close(tiny[0].norm() / size, 1.0, 16 * EPS, f"norm of an update of size {size}")
        expect_close(factor_average_error(tiny, [0.5, 0.5], "sqrt"), 1.0, 16 * EPS, f"orthogonal pair of size {size}")
    doomed = [LowRank(basis[:, :2], basis[:2]), LowRank(2.0 * basis[:, [1, 0]], -0.5 * basis[[1, 0]])]
    expect(factor_average_error(doomed, [1.0, 1.0], "sqrt") == math.inf, "wanted 0, got the cross terms")
    rng = stream(3, "factor_average")
    gap = 0.0
    for k in (2, 3, 4):
        gaussian = [LowRank(rng.standard_normal((256, 8)), rng.standard_normal((8, 256))) for _ in range(k)]
        for convention, want in (("sqrt", math.sqrt(k - 1)), ("plain", math.sqrt((k - 1) / k))):
            got = factor_average_error(gaussian, [1.0 / k] * k, convention)
            gap = max(gap, abs(got / want - 1))
    # ||B A||_F^2 of 256 x 8 Gaussian factors has relative standard deviation 2 / sqrt(8 * 256) = 0.044, and the ratio
    # of two averages over them moves by no more than their own; half of it, since the root is taken, at 4 deviations
    allowed = 4 * 0.5 * 2 / math.sqrt(8 * 256)
    expect(gap < allowed, f"Gaussian adapters: {gap} away from sqrt(k - 1) and sqrt((k - 1) / k)")
    for function in (factor_average_error, factor_average):
        expect_rejected("convention", function, pair, [1.0, 1.0], "linear")
        expect_rejected("updates", function, [], [], "sqrt")
        expect_rejected("weights", function, pair, [1.0], "sqrt")
        expect_rejected("weights", function, pair, [1.0, math.nan], "sqrt")
        expect_rejected("updates", function, [pair[0], LowRank(np.ones((4, 2)), np.ones((2, 4)))], [1.0, 1.0], "sqrt")
        expect_rejected("updates", function, [pair[0], LowRank(np.ones((4, 1)), np.ones((1, 3)))], [1.0, 1.0], "sqrt")
        expect_rejected("updates", function, [pair[0], LowRank(pair[1].B, pair[1].A, 3.0)], [1.0, 1.0], "plain")
    return Figure("largest distance from the Gaussian law", gap, "relative")


# ---- dilution ----


@check("dilution")
def dilution_symbolic(code: Code) -> None:
    """The mean's margin is gain/k - deficit; its sign for free symbols; and the edit that always dies."""
    import sympy

    gain, deficit, k = sympy.symbols("g d k", positive=True)
    expect(sympy.simplify(k * (gain / k - deficit) - (gain - k * deficit)) == 0, "update convention")
    expect(sympy.simplify(k**2 * (gain / k**2 - deficit) - (gain - k**2 * deficit)) == 0, "factor convention")
    # two adapters, factors averaged, B_2 = -B_1: nothing is left at any gain
    b = sympy.Matrix(2, 1, sympy.symbols("b:2"))
    a1, a2 = (sympy.Matrix(1, 2, sympy.symbols(f"a{i}_:2")) for i in (1, 2))
    half = sympy.Rational(1, 2)
    expect((half * b + half * -b) * (half * a1 + half * a2) == sympy.zeros(2, 2), "the averaged factors do not cancel")
    # exact search: the closed form is the largest k, for all small rationals
    for g, d in product(range(1, 25), range(1, 13)):
        for unit in (Fraction(1), Fraction(1, 7)):
            for convention, power in (("update", 1), ("factor", 2)):
                by_search = max((i for i in range(1, 30) if g * unit > i**power * d * unit), default=0)
                got = code.dilution_limit(g * unit, d * unit, convention)
                expect(
                    got == by_search, f"{convention}: gain {g * unit}, deficit {d * unit}: {got}, search {by_search}"
                )
    # nothing to overcome: every mean answers, or, without gain or lead, none
    for g, d, want in ((0, -1, math.inf), (-5, -1, math.inf), (1, 0, math.inf), (0, 0, 0), (-1, 0, 0), (-1, 3, 0)):
        expect(code.dilution_limit(g, d) == want, f"gain {g}, deficit {d}")


def _dilution_body(limit: Callable[[float, float, str], float]) -> None:
    """Merge k one-layer edits with non-overlapping keys and ask: does the argmax survive exactly up to the limit?"""

    def body(gain: int, deficit: int, outputs: int, convention: str, seed: int) -> None:
        rng = stream(seed, "dilution")
        limit_k = limit(float(gain), float(deficit), convention)
        if deficit <= 0:
            expect(
                limit_k == (math.inf if deficit < 0 or gain > 0 else 0), f"gain {gain}, deficit {deficit}: {limit_k}"
            )
            return
        expect(isinstance(limit_k, int), f"expected an int, got {limit_k!r}")
        right, rival = (int(i) for i in rng.permutation(outputs)[:2])
        for k in {1, max(limit_k, 1), limit_k + 1}:
            base = np.zeros(outputs)
            base[rival] = deficit
            power = 1 if convention == "update" else 2
            # k^power times the merged logits; integers throughout, so that a tie is a tie. Only the own update reads
            # the query's key, so it alone writes here
            merged = base * k**power
            merged[right] += gain
            others = np.delete(merged, right)
            answered = bool(merged[right] > others.max())
            expect(answered == (k <= limit_k), f"gain {gain}, deficit {deficit}, {convention}, k {k}: {answered}")

    for_all(
        body,
        120,
        gain=st.integers(-2, 60),
        deficit=st.integers(-2, 12),
        outputs=st.integers(2, 6),
        convention=st.sampled_from(["update", "factor"]),
        seed=seeds,
    )


@check("dilution")
def dilution_numeric() -> Figure:
    """Against explicit merges of k edits, over all conventions; known values; factor averages that die at any gain."""
    _dilution_body(dilution_limit)
    expect_mutant_rejected(_dilution_body, lambda g, d, c: dilution_limit(g, d, c) + 1, "one adapter too many")
    expect_mutant_rejected(_dilution_body, lambda g, d, c: dilution_limit(g, d, "update"), "1/k for averaged factors")
    # floats stand for what they round: the least gain over the largest deficit
    huge = math.ceil(Fraction(math.nextafter(1e300, 0)) / Fraction(math.nextafter(1e-300, 1))) - 1
    known = {(10, 5, "update"): 1, (10.1, 5, "update"): 2, (5, 5, "update"): 0, (90, 10, "factor"): 2,
             (90.1, 10, "factor"): 3, (1e300, 1e-300, "update"): huge}  # fmt: skip
    known |= {(0.3, 0.1, "update"): 2, (0.1 * 3, 0.1, "update"): 2, (0.35, 0.1, "update"): 3}
    for (g, d, convention), want in known.items():
        expect(dilution_limit(g, d, convention) == want, f"dilution_limit({g}, {d}, {convention!r}) is not {want}")
    expect(dilution_limit(10, 5) == 1, "the default convention is the mean of the updates")
    # real updates: orthogonal keys, k adapters, the mean as LowRank; the answer flips between the limit and the next k
    rng = stream(5, "dilution")
    keys = orthonormal(rng, 16, 12)
    gain, deficit = 9.0, 2.0
    margins = {}
    for k in (4, 5):
        parts = [LowRank(np.eye(3)[:, :1] * gain, keys[:, j : j + 1].T) for j in range(k)]
        logits = np.array([0.0, deficit, 0.0]) + LowRank.combine(parts, [1.0 / k] * k).apply(keys[:, 0])
        margins[k] = float(logits[0] - logits[1])
    expect(dilution_limit(gain, deficit) == 4 and margins[4] > 0 > margins[5], f"margins {margins}")
    # the factor average has cross terms on the same key: it dies here although gain > k^2 deficit
    b = np.eye(3)[:, :1] * 100.0
    killed = factor_average([LowRank(b, keys[:, :1].T), LowRank(-b, keys[:, 1:2].T)], [0.5, 0.5], "plain")
    expect(dilution_limit(100.0, deficit, "factor") >= 2, "the own-term limit allows two adapters")
    expect(not killed.apply(keys[:, 0]).any(), "B_2 = -B_1 must leave nothing")
    for bad in ("mean", ""):
        expect_rejected("convention", dilution_limit, 1.0, 1.0, bad)
    expect_rejected("gain", dilution_limit, math.nan, 1.0)
    expect_rejected("deficit", dilution_limit, 1.0, math.inf)
    return Figure("margin just inside the limit", margins[4], "logits")


# ---- optimal_weights ----


def _game_value(rows: Sequence[Sequence[Fraction]]) -> Fraction:
    """Value of the matrix game, exactly: the best mixture of those where as many leads are equal as have weight."""
    import sympy

    pairs, adapters = len(rows), len(rows[0])
    leads = sympy.Matrix([[sympy.Rational(x) for x in row] for row in rows])
    found = []
    for size in range(1, min(pairs, adapters) + 1):
        for tight in combinations(range(pairs), size):
            for used in combinations(range(adapters), size):
                equal = leads[list(tight), list(used)].row_join(-sympy.ones(size, 1))
                system = equal.col_join(sympy.Matrix([[1] * size + [0]]))
                if system.rank() <= size:
                    continue
                *weights, _ = system.LUsolve(sympy.Matrix([0] * size + [1]))
                if min(weights) >= 0:
                    found.append(min(leads[:, list(used)] * sympy.Matrix(weights)))
    value = max(found)
    return Fraction(int(value.p), int(value.q))


def _expect_certified(best: Any, rows: Sequence[Sequence[Fraction]]) -> float:
    """Both players' mixtures are mixtures and give what is said, exactly; the relative gap."""
    for mixture, name in ((best.weights, "weights"), (best.mixture, "mixture")):
        expect(min(mixture) >= 0 and sum(mixture) == 1, f"{name}: no mixture")
    merged = [sum(Fraction(x) * w for x, w in zip(row, best.weights, strict=True)) for row in rows]
    means = [
        sum(y * Fraction(x) for y, x in zip(best.mixture, column, strict=True)) for column in zip(*rows, strict=True)
    ]
    expect(best.lead == min(merged), f"lead {best.lead}, least lead under the weights {min(merged)}")
    expect(best.ceiling == max(means), f"ceiling {best.ceiling}, largest mean of the mixture {max(means)}")
    size = max(abs(Fraction(x)) for row in rows for x in row)
    # each of both players is optimal within the solver's tolerance, in units of the largest lead
    expect(0 <= best.ceiling - best.lead <= 4 * LP_TOLERANCE * size, f"gap {float(best.ceiling - best.lead)}")
    return float((best.ceiling - best.lead) / size) if size else 0.0


@check("optimal_weights")
def optimal_weights_symbolic(code: Code) -> None:
    """The mean of leads with free symbols; games of whole numbers against exact values; what each adapter needs."""
    import sympy

    # leads under weights of sum one, base included, are means of the leads alone: two adapters, three logits
    base, first, second = (sympy.Matrix(3, 1, sympy.symbols(f"{x}:3")) for x in "bfs")
    w = sympy.Symbol("w")
    merged = base + w * first + (1 - w) * second
    alone = w * (base + first) + (1 - w) * (base + second)
    expect((merged - alone).expand().is_zero_matrix, "leads do not average")
    rng = stream(3, "games")
    for pairs, adapters in ((1, 1), (1, 3), (3, 1), (2, 2), (3, 2), (2, 3), (4, 3), (5, 3)):
        rows = [[Fraction(int(x), 2) for x in row] for row in rng.integers(-9, 10, (pairs, adapters))]
        best, value = code.best_weights(rows), _game_value(rows)
        _expect_certified(best, rows)
        expect(best.lead <= value <= best.ceiling, f"value {value} outside {best.lead} .. {best.ceiling}")
    # apart: gains 10 and 10 over deficits 6 and 1; the mean loses one, 7/10 + 3/10 > 6/10 + 1/10 keeps both
    rows = [[Fraction(4), Fraction(-6)], [Fraction(-1), Fraction(9)]]
    expect(abs(code.best_weights(rows).lead - Fraction(3, 2)) <= 9 * LP_TOLERANCE, "two facts apart")
    expect(min(sum(row) / 2 for row in rows) < 0, "the uniform mean answers both")
    for seed in range(12):
        rng = stream(seed, "needs")
        adapters, pairs = int(rng.integers(1, 4)), int(rng.integers(1, 6))
        gains = [Fraction(int(x), 3) for x in rng.integers(1, 12, pairs)]
        deficits = [Fraction(int(x), 3) for x in rng.integers(-3, 6, pairs)]
        owners = [int(x) for x in rng.integers(0, adapters, pairs)]
        needs = code.least_weights(gains, deficits, owners, adapters)
        alone = [[g * (j == o) - d for j in range(adapters)] for g, d, o in zip(gains, deficits, owners, strict=True)]
        expect((_game_value(alone) > 0) == (sum(needs) < 1), f"needs {needs} of {gains, deficits, owners}")
        quotients = [
            [d / g for g, d, o in zip(gains, deficits, owners, strict=True) if o == j] for j in range(adapters)
        ]
        expect(needs == [max([Fraction(0), *own]) for own in quotients], f"needs {needs}")
    expect(sum(code.least_weights([10, 10], [6, 1], [0, 1], 2)) == Fraction(7, 10), "needs of two facts")


def _best_body(best: Callable[[Any], Any]) -> float:
    worst = [0.0]

    def body(seed: int, pairs: int, adapters: int, scale: float, apart: bool) -> None:
        rng = stream(seed, "leads")
        if apart:  # each pair its adapter's, where the best weights have a closed form: lead + deficit = weight gain
            gains, deficits = rng.uniform(1.0, 2.0, adapters), rng.uniform(0.0, 0.2, adapters)
            leads = scale * (np.diag(gains) - deficits[:, None])
            lead = (1.0 - float(np.sum(deficits / gains))) / float(np.sum(1.0 / gains))
        else:
            leads = scale * rng.standard_normal((pairs, adapters))
        found = best(leads)
        worst[0] = max(worst[0], _expect_certified(found, leads.tolist()))
        if apart and min((lead + deficits) / gains) >= 0:  # no weight hits zero
            size = scale * float(np.abs(leads / scale).max())
            # what the solver leaves, and a sum of quotients in floats
            expect_close(float(found.lead), scale * lead, (4 * LP_TOLERANCE + 8 * adapters * EPS) * size, "lead apart")
        for _ in range(4):  # any others
            others = rng.dirichlet(np.ones(adapters))
            room = 4 * adapters * EPS * float(np.abs(leads).max())
            expect(float((leads @ others).min()) <= float(found.ceiling) + room, "weights above the ceiling")

    for_all(
        body, 25, seed=seeds, pairs=st.integers(1, 12), adapters=st.integers(1, 6), scale=scales, apart=st.booleans()
    )
    return worst[0]


@check("optimal_weights")
def optimal_weights_numeric() -> Figure:
    """Drawn leads, certificates exactly, the closed form where keys do not overlap, rejections, mutants."""
    worst = _best_body(best_weights)

    def uniform(leads: Any) -> Any:
        rows, found = np.asarray(leads).tolist(), best_weights(leads)
        w = [Fraction(1, len(rows[0]))] * len(rows[0])
        return found._replace(weights=w, lead=min(sum(map(Fraction, row), Fraction(0)) / len(row) for row in rows))

    for what, mutant in {
        "the uniform mean": uniform,
        "a lead that is too high": lambda m: best_weights(m)._replace(lead=best_weights(m).ceiling + 1),
        "leads of the other player": lambda m: best_weights(np.asarray(m) - np.asarray(m).mean(axis=0)),
    }.items():
        expect_mutant_rejected(_best_body, mutant, what)
    shapes_and_entries: list[list[list[float]]] = [[], [[]], [[1.0], [1.0, 2.0]], [[math.nan]], [[1.0, math.inf]]]
    for bad in shapes_and_entries:
        expect_rejected("leads", best_weights, bad)
    expect_rejected("leads: expected pairs x adapters", best_weights, [1.0, 2.0])
    expect(best_weights([[0.0, 0.0]]).ceiling == 0, "nothing to win")
    large = best_weights([[10**400, 0], [0, 10**400]]).lead / 10**400  # whole numbers that no float holds
    expect(abs(large - Fraction(1, 2)) <= 4 * LP_TOLERANCE, "leads of any size")
    expect(best_weights([[Fraction(1, 3)]]).lead == Fraction(1, 3), "Fractions stay exact")
    # a float is taken at the end of its range that needs more weight
    expect(least_weights([0.5], [0.1], [0], 2) > [Fraction(1, 5), Fraction(0)], "needs of floats")
    expect(least_weights([1], [-1], [1], 2) == [0, 0], "what the base answers needs nothing")
    expect_rejected("gains", least_weights, [0], [1], [0], 1)
    expect_rejected("gains", least_weights, [5e-324], [1], [0], 1)
    expect_rejected("deficits", least_weights, [1], [math.nan], [0], 1)
    for owner in (-1, 2, 0.5):
        expect_rejected("owners", least_weights, [1], [1], [owner], 2)
    expect_rejected("owners", least_weights, [1, 2], [1], [0], 1)
    expect_rejected("owners", least_weights, [1], [1], [0, 0], 1)
    expect_rejected("adapters", least_weights, [], [], [], 0)
    return Figure("gap between weights and certificate", worst, "relative")


# ---- mask_dilution ----


def _mask_mean(b: Any, a: Any, rate_out: Any, rate_in: Any) -> Any:
    """Mean of diag(mask) B A diag(mask) over all masks, each by its chance; SymPy matrices."""
    import sympy

    m, n = b.shape[0], a.shape[1]
    total = sympy.zeros(m, n)
    for out, inp in product(product((0, 1), repeat=m), product((0, 1), repeat=n)):
        chance = sympy.Integer(1)
        for kept, rate in [*((x, rate_out) for x in out), *((x, rate_in) for x in inp)]:
            chance *= (1 - rate) if kept else rate
        total += chance * sympy.diag(*out) * b * a * sympy.diag(*inp)
    return total


@check("mask_dilution")
def mask_dilution_symbolic(code: Code) -> None:
    """Every mask of a 2 x 2 layer with free symbols; shares of rational rates; facts at the border, all masks."""
    import sympy

    p, q = sympy.symbols("p q")
    b, a = sympy.Matrix(2, 1, sympy.symbols("b:2")), sympy.Matrix(1, 2, sympy.symbols("a:2"))
    mean = _mask_mean(b, a, p, q)
    expect((mean - (1 - p) * (1 - q) * b * a).expand().is_zero_matrix, "the mean over masks")
    for rate_out, rate_in in product((Fraction(0), Fraction(3, 10), Fraction(1, 2), Fraction(1)), repeat=2):
        share = code.mask_share(rate_out, rate_in)
        at = {p: sympy.Rational(rate_out), q: sympy.Rational(rate_in)}
        expect((mean.subs(at) - sympy.Rational(share) * b * a).expand().is_zero_matrix, f"share {share} at {at}")
        expect(code.mask_share(rate_out) == 1 - rate_out, "one mask alone")
    # a share of one k-th is the mean of k updates: the same facts survive
    for rates, k in (((0, 0), 1), ((Fraction(1, 2), 0), 2), ((Fraction(1, 2), Fraction(1, 3)), 3), ((0.5, 0.5), 4)):
        for gain, deficit in product(range(1, 13), (1, 2, 3)):
            kept = code.mask_share(*rates) * gain > deficit
            expect(kept == (k <= dilution_limit(gain, deficit)), f"gain {gain}, deficit {deficit}, k {k}")


def _mask_body(share: Callable[[float, float], Fraction]) -> float:
    worst = [0.0]

    def body(seed: int, rate: float, out: int, width: int) -> None:
        rng, draws = stream(seed, "masks"), 2000
        b, a = rng.standard_normal((out, 2)), rng.standard_normal((2, width))
        keep_out, keep_in = rng.random((draws, out)) >= rate, rng.random((draws, width)) >= rate
        kept = (keep_out[:, :, None] * keep_in[:, None, :]).mean(axis=0)
        want = float(share(rate, rate))
        # an entry is kept or not: seven deviations of a mean over the draws, one more draw where that is small
        room = 7.0 * math.sqrt((0.25 + 1.0 / draws) / draws) * np.abs(b @ a)
        off = np.abs((b @ a) * kept - want * (b @ a))
        expect(bool((off <= room).all()), f"share {want} at rate {rate}")
        worst[0] = max(worst[0], float((off / np.where(room > 0, room, 1.0)).max()))

    for_all(body, 20, seed=seeds, rate=st.floats(0, 1), out=st.integers(1, 4), width=st.integers(1, 4))
    return worst[0]


@check("mask_dilution")
def mask_dilution_numeric() -> Figure:
    """Drawn masks, a fact on either side of the border, rejections, mutants."""
    worst = _mask_body(mask_share)
    for what, mutant in {
        "one mask alone": lambda p, q: mask_share(p),
        "what is dropped": lambda p, q: 1 - mask_share(p, q),
        "rescaled masks": lambda p, q: Fraction(1),
        "rates that add": lambda p, q: max(Fraction(0), 1 - Fraction(p) - Fraction(q)),
    }.items():
        expect_mutant_rejected(_mask_body, mutant, what)
    expect(mask_share(0.3, 0.1) == (1 - Fraction(0.3)) * (1 - Fraction(0.1)), "floats are taken as they are")
    for rate in (-0.1, 1.1, math.nan):
        expect_rejected("rate_out", mask_share, rate)
        expect_rejected("rate_in", mask_share, 0, rate)
    expect(mask_share(0) == 1 and mask_share(1) == 0 and mask_share(0, 1) == 0, "the ends of the rates")
    return Figure("largest deviation of a share", worst, "of what is allowed")


# ---- interference ----


@check("interference")
def interference_symbolic(code: Code) -> None:
    """B of full column rank: B A k = 0 iff A k = 0, by the left inverse; and Cauchy-Schwarz for the bound, exactly.

    Then the code: bounds at whole numbers against exact squares, and a fact that is kept, tied and lost.
    """
    import sympy

    b = sympy.Matrix([[1, 0], [sympy.Symbol("p"), 1], [sympy.Symbol("q"), sympy.Symbol("r")]])
    a = sympy.Matrix(2, 3, sympy.symbols("a:6"))
    key = sympy.Matrix(3, 1, sympy.symbols("k:3"))
    left_inverse = sympy.Matrix([[1, 0, 0], [-b[1, 0], 1, 0]])
    expect((left_inverse * b - sympy.eye(2)).expand() == sympy.zeros(2, 2), "not a left inverse")
    expect((left_inverse * (b * a * key) - a * key).expand() == sympy.zeros(2, 1), "B A k does not determine A k")
    # counter-example to the 'only if' when B loses rank: A k != 0 and nothing is written
    flat = sympy.Matrix([[1, -1]])
    expect(flat * sympy.eye(2) * sympy.Matrix([1, 1]) == sympy.zeros(1, 1), "the counter-example fails")
    # difference of two entries of v against its norm: 2 |v|^2 - (v_0 - v_1)^2 is a sum of squares
    v = sympy.Matrix(3, 1, sympy.symbols("v:3", real=True))
    slack = 2 * v.dot(v) - (v[0] - v[1]) ** 2
    expect(sympy.expand(slack - (v[0] + v[1]) ** 2 - 2 * v[2] ** 2) == 0, "sqrt(2) is not enough for two logits")
    # orthogonal columns of length 5 and 2, the longer one read: attained; else above the damage; 0 iff A k = 0
    left, right, scale = np.array([[3, 0], [4, 0], [0, 2]]), np.array([[1, -1, 2], [0, 1, 1]]), 1.5
    for k in product((-2, 0, 1), repeat=3):
        (got,) = code.interference_bound([LowRank(left, right, scale)], k)
        read, damage = right @ k, left @ right @ k
        square = (5 * scale) ** 2 * int(read @ read)  # floats, but exact
        most = (5 * scale) ** 2 * int(np.sum((np.abs(right) @ np.abs(k)) ** 2))
        expect_close(got**2, square, 3 * rounding(3, 3, 2) * most, f"squared bound at the key {k}")
        expect(scale**2 * int(damage @ damage) <= square and (got == 0) == (not read.any()), f"damage at the key {k}")
    # a margin of exactly 3 sqrt(2) |(-1, 1)| = 6 is undone, a tie; a hair more survives
    own, other = LowRank([[5], [0]], [[1, 0]]), LowRank([[-1], [1]], [[0, 3]])
    for margin, want in ((5, False), (6, False), (6 + 2.0**-40, True), (7, True)):
        expect(code.surviving_facts([own, other], [[1], [1]], [margin], [0]) == [want], f"margin {margin} of 6")


def _interference_body(bound: Callable[[Sequence[LowRank], Array], list[float]]) -> None:
    def body(data: Any) -> None:
        shape = data.draw(shapes())
        parts = data.draw(st.lists(updates(shape=shape), min_size=1, max_size=3))
        key = stream(data.draw(seeds), "key").standard_normal(shape[1]) * data.draw(scales)
        bounds = bound(parts, key)
        expect(len(bounds) == len(parts), "one bound per update")
        for u, got in zip(parts, bounds, strict=True):
            # second evaluation: power of the spectral norm through eigenvalues of B^T B, dense product for the damage
            spectral = math.sqrt(max(float(np.linalg.eigvalsh(u.B.T @ u.B)[-1]), 0.0)) if u.B.size else 0.0
            want = abs(u.scale) * spectral * math.sqrt(float(np.sum((u.A @ key) ** 2)))
            sizes = [float(np.linalg.norm(x)) for x in (u.B, u.A, key)]
            slack = 2 * rounding(*u.shape, u.columns) * abs(u.scale) * math.prod(sizes)
            expect_close(got, want, slack, "interference bound")
            damage = float(np.linalg.norm(u.dense() @ key))
            expect(damage <= got + slack, f"damage {damage} above the bound {got}")

    for_all(body, 100, data=st.data())


@check("interference")
def interference_numeric() -> Figure:
    """Damage below the bound on random updates, equal to it on a witness, zero exactly where A k = 0; facts survive."""
    _interference_body(interference_bound)
    expect_mutant_rejected(
        _interference_body, lambda us, k: [0.99 * x for x in interference_bound(us, k)], "one per cent too low"
    )
    expect_mutant_rejected(
        _interference_body, lambda us, k: [x / max(abs(u.scale), 1e-300) for x, u in
                                           zip(interference_bound(us, k), us, strict=True)], "scale forgotten"
    )  # fmt: skip
    rng = stream(7, "interference")
    left, right = orthonormal(rng, 6, 3), orthonormal(rng, 8, 8)
    witness = LowRank(left * [3.0, 1.0, 0.5], right[:, :3].T, -2.0)
    attained = float(np.linalg.norm(witness.apply(right[:, 0])))
    gap = abs(interference_bound([witness], right[:, 0])[0] - attained) / attained
    expect(gap <= 64 * EPS, f"the bound is not attained at the leading direction: {gap}")
    away = np.zeros(8)
    away[7] = 1.0
    blind = LowRank(left, np.hstack([np.ones((3, 7)), np.zeros((3, 1))]))
    expect(interference_bound([blind], away) == [0.0], "a key that A does not read")
    for size in (1e-170, 1e170):
        far = interference_bound([witness], size * right[:, 0])[0] / size
        expect_close(far, attained, 64 * EPS * attained, f"a key of size {size}")
    expect(interference_bound([LowRank(np.zeros((2, 0)), np.zeros((0, 8)))], away) == [0.0], "rank 0")
    cancelling = LowRank([[1.0]], [[1e16, 1.0, -1e16]])  # A k is 1, in floats 0 or 1
    expect(interference_bound([cancelling], np.ones(3))[0] >= 1.0, "what cancels is not counted")
    expect(interference_bound([LowRank([[1e-200]], [[1e-200]])], [1.0])[0] > 0, "damage below the range of floats")
    for _ in range(
        100
    ):  # one output and one input: the squared damage in rationals; norms of 300 terms round both ways
        write, read, size = rng.uniform(1.0, 2.0, (1, 300)), rng.uniform(1.0, 2.0), float(rng.uniform(1.0, 2.0))
        known = Fraction(size) ** 2 * sum(Fraction(float(x)) ** 2 for x in write.flat) * 300 * Fraction(read) ** 2
        most = interference_bound([LowRank(write, np.full((300, 1), read), size)], [1.0])[0]
        expect(Fraction(most) ** 2 >= known, f"the bound {most} lies below the damage")
    # facts that must survive do survive the real sum, and the condition is attained: two logits, opposite changes
    keys = conditioned(rng, 8, 4, 10.0)
    expect_mutant_rejected(_survival_body, lambda *a: [True] * len(surviving_facts(*a)), "everything survives")
    _survival_body(surviving_facts)
    damage = LowRank(np.array([[-1.0], [1.0]]) / math.sqrt(2.0), np.eye(8)[:1])
    own = LowRank(np.array([[1.0], [0.0]]), np.eye(8)[1:2])
    tight = math.sqrt(2.0)  # the margin that this damage undoes exactly
    # rounded up by all sizes, then the updates, and each time 16 units of eps: 45 here
    for factor, want in ((1 - 8 * EPS, False), (1.0, False), (1 + 64 * EPS, True)):
        got = surviving_facts([own, damage], np.eye(8)[:, :1], np.array([tight * factor]), [0])
        expect(got == [want], f"margin {factor} of the damage: survives {got}")
    expect_rejected("key", interference_bound, [witness], np.ones(7))
    expect_rejected("key", interference_bound, [witness], keys)
    expect_rejected("key", interference_bound, [witness], np.full(8, math.nan))
    # sums of equal damages round one way all along: a float just under the exact threshold is not certain
    parts = [LowRank([[0.0], [0.0]], [[1.0]]), *[LowRank([[5 / 3], [0.0]], [[1.0]])] * 500]
    square = 2 * (500 * Fraction(5 / 3)) ** 2
    margin = math.sqrt(square) * (1.0 - 2.0 * EPS)
    expect(Fraction(margin) ** 2 < square, "a margin below the damage of all")
    expect(not any(surviving_facts(parts, [[1.0, 1.0]], [margin] * 2, [0, 0])), "survives 500 updates")
    expect_rejected("keys", surviving_facts, [witness], np.ones(8), np.ones(1), [0])
    expect_rejected("margins", surviving_facts, [witness], keys, np.ones(3), [0] * 3)
    expect_rejected("margins", surviving_facts, [witness], keys, np.full(4, math.nan), [0] * 4)
    expect_rejected("owners", surviving_facts, [witness], keys, np.ones(4), [0] * 3)
    for owner in (0.5, True, None):
        expect_rejected("owners", surviving_facts, [witness], keys, np.ones(4), [0, 0, 0, owner])
    expect_rejected("owners", surviving_facts, [witness], keys, np.ones(4), [0, 0, 0, 1])
    expect_rejected("owners", surviving_facts, [witness], keys, np.ones(4), [0, 0, 0, -1])
    expect_rejected("key", surviving_facts, [witness], np.ones((5, 4)), np.ones(4), [0] * 4)
    return Figure("gap of the attained bound", gap, "relative")


def _survival_body(survives: Callable[..., list[bool]]) -> None:
    def body(data: Any) -> None:
        outputs, width, k = data.draw(st.integers(2, 5)), data.draw(st.integers(2, 8)), data.draw(st.integers(1, 3))
        rng = stream(data.draw(seeds), "survival")
        parts = [LowRank(rng.standard_normal((outputs, 2)), rng.standard_normal((2, width)), data.draw(scales))
                 for _ in range(k)]  # fmt: skip
        keys = rng.standard_normal((width, 3))
        owners = [data.draw(st.integers(0, k - 1)) for _ in range(3)]
        base = 10.0 * rng.standard_normal((outputs, 3))
        alone = np.column_stack([base[:, i] + parts[o].dense() @ keys[:, i] for i, o in enumerate(owners)])
        right = alone.argmax(axis=0)
        margins = np.array([np.sort(alone[:, i])[-1] - np.sort(alone[:, i])[-2] for i in range(3)])
        merged = base + sum(u.dense() for u in parts) @ keys
        for i, survived in enumerate(survives(parts, keys, margins, owners)):
            if survived:
                expect(merged[:, i].argmax() == right[i], f"fact {i} was to survive and did not")
            if k == 1:
                expect(survived == bool(margins[i] > 0), "nothing else is merged, so a positive margin survives")

    for_all(body, 80, data=st.data())
