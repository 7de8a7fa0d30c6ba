"""Checks of the topic adapters: size, dimension, gauge, first step, merging, and what rounding does to a merge."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from theory.adapters import (
    UNIT_ROUNDOFF,
    adapter_scale,
    first_step_power,
    first_update,
    largest_saving_rank,
    likely_rounding_bound,
    merge_rounding_bound,
    merged_weight,
    parameter_count,
    rank_set_dimension,
    regauge,
)
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
from theory.checks.strategies import conditioned, conditions, exact_rank, scales, seeds, shapes, updates
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, rank_tolerance, rounding, stream


def _jacobian(b: list[list[int]], a: list[list[int]]) -> list[list[int]]:
    """Jacobian of (B, A) -> B A at an integer point: one row per parameter, one column per entry of B A."""
    m, r, n = len(b), len(a), len(a[0])
    by_b = [[a[k][j] if row == i else 0 for row in range(m) for j in range(n)] for i in range(m) for k in range(r)]
    by_a = [
        [b[i][k] if column == j else 0 for i in range(m) for column in range(n)] for k in range(r) for j in range(n)
    ]
    return by_b + by_a


@check("adapter_algebra")
def adapter_algebra_symbolic(code: Code) -> Figure:
    """Merge, B = 0, gauge and tied weights in free symbols; the dimension by exact ranks; rounding on all toy cases.

    Then the code at whole numbers, at which the products are exact in float64.
    """
    import sympy

    def block(name: str, rows: int, columns: int) -> Any:
        return sympy.Matrix(rows, columns, sympy.symbols(f"{name}:{rows * columns}"))

    s = sympy.Symbol("s")
    W, B, A, x, h = block("w", 3, 2), block("b", 3, 2), block("a", 2, 2), block("x", 2, 1), block("h", 2, 1)
    side, merged = W * x + s * B * (A * x), (W + s * B * A) * x
    expect((side - merged).expand().is_zero_matrix, "a merged layer differs from its side path")
    expect((side.subs(dict.fromkeys(B, 0)) - W * x).expand().is_zero_matrix, "B = 0 is not the base")
    T = block("t", 2, 2)
    turned = (B * T) * (T.adjugate() * A)  # T^-1 = adj(T) / det(T), without the division
    expect((turned - T.det() * B * A).expand().is_zero_matrix, "(B T, T^-1 A) is another update")
    # a shared matrix: the side path leaves the head W h alone, merging moves it by exactly s B A h
    moved = (W + s * B * A) * h - W * h
    expect((moved - s * B * (A * h)).expand().is_zero_matrix, "merging a tied matrix moves the head by U h")
    # the r^2 directions (B X, -X A) do not move B A, and the rest has r (m + n - r) dimensions, exactly
    expect(((B * T) * A - B * (T * A)).expand().is_zero_matrix, "the gauge directions move the update")
    m_, n_, r_ = sympy.symbols("m n r")
    expect(sympy.expand(m_ * n_ - r_ * (m_ + n_ - r_) - (m_ - r_) * (n_ - r_)) == 0, "the codimension")
    rng = stream(5, "jacobian")
    for m, n, r in product(range(1, 5), range(1, 5), range(5)):
        want = r * (m + n) - r * r if r <= min(m, n) else m * n
        expect(code.rank_set_dimension(m, n, r) == want, f"dimension at {m, n, r}")
        if r:
            b = a = [[0]]
            while exact_rank(b) < min(m, r) or exact_rank(a) < min(r, n):  # a generic point, not a rare bad draw
                b, a = rng.integers(-9, 10, (m, r)).tolist(), rng.integers(-9, 10, (r, n)).tolist()
            expect(exact_rank(_jacobian(b, a)) == want, f"rank of the Jacobian at {m, n, r}")
            expect(code.parameter_count(m, n, r) == len(_jacobian(b, a)), f"parameters at {m, n, r}")
    for m, n in product(range(1, 12), repeat=2):
        least = max(r for r in range(m + n) if r * (m + n) < m * n)
        expect(code.largest_saving_rank(m, n) == least, f"largest saving rank at {m, n}")
    weight, left, right = (rng.integers(-9, 10, x.shape) for x in (W, B, A))
    turn = np.array([[3, 4], [-1, 2]])
    values = dict(zip([*W, *B, *A, s], [*weight.flat, *left.flat, *right.flat, sympy.Rational(3, 4)], strict=True))
    update = LowRank(left, right, 0.75)
    expect_entries(code.merged_weight(weight, update), (W + s * B * A).subs(values).tolist(), 0.0, "W + s B A")
    turned_update = code.regauge(update, turn)
    expect_entries(turned_update.B, (left @ turn).tolist(), 0.0, "B T")
    inverse = sympy.Matrix(turn.tolist()).inv()
    # a solve is off by about 4 eps r cond(T) ||T^-1|| ||A||
    room = rank_tolerance((2,), float(np.linalg.cond(turn)) * float(inverse.norm()) * float(np.linalg.norm(right)))
    expect_entries(turned_update.A, (inverse * sympy.Matrix(right.tolist())).tolist(), room, "T^-1 A")
    expect(turned_update.scale == 0.75, "the scale of another gauge")
    for alpha, r in product((Fraction(3, 2), Fraction(-8), Fraction(0)), (1, 4, 16)):
        expect(code.adapter_scale(alpha, r) == alpha / r, f"alpha / r at {alpha, r}")
        expect(code.adapter_scale(alpha, r, rslora=True) == alpha / math.isqrt(r), f"rslora at {alpha, r}")
    _rounding_formula_body(code.merge_rounding_bound)
    _likely_formula_body(code.likely_rounding_bound)
    return Figure("worst toy rounding gap / bound", float(_toy_rounding()), "ratio")


def _toy_round(value: Fraction) -> Fraction:
    """Nearest number of 3 significant bits (unit roundoff 1/8), ties to even; no underflow."""
    if not value:
        return value
    size = abs(value)
    exponent = math.floor(math.log2(size.numerator / size.denominator)) - 2
    unit = Fraction(2) ** exponent
    return round(value / unit) * unit


def _toy_rounding() -> Fraction:
    """Every 1 x 1 layer with 3-bit numbers in [1, 2) and all signs: the analysis of merge_rounding_bound, n = r = 1.

    Products and sums are rounded to the same format, so v = u = 1/8, and both paths are evaluated exactly.
    """
    u = Fraction(1, 8)
    on_base = 2 * ((1 + u) ** 5 - 1)
    on_side = (1 + u) ** 6 + (1 + u) ** 7 - 2
    mantissas = [Fraction(k, 4) for k in range(4, 8)]
    worst = Fraction(0)
    for w, b, a, x in product([*mantissas, *(-k for k in mantissas)], mantissas, mantissas, mantissas):
        for s in (Fraction(1, 8), Fraction(3, 4), Fraction(5)):
            side = _toy_round(_toy_round(w * x) + _toy_round(s * _toy_round(b * _toy_round(a * x))))
            merged = _toy_round(_toy_round(w + _toy_round(s * _toy_round(b * a))) * x)
            bound = on_base * abs(w * x) + on_side * s * b * a * x
            expect(abs(side - merged) <= bound, f"toy rounding gap above the bound at {w, b, a, x, s}")
            worst = max(worst, abs(side - merged) / bound)
    return worst


# ---- rounding, emulated in NumPy ----


def _rounder(dtype: str) -> tuple[Callable[[Any], Any], Any]:
    """(round to the format, NumPy type in which products and sums run)."""
    if dtype == "float64":
        return np.asarray, np.float64
    if dtype == "float32":
        return lambda a: np.asarray(a, dtype=np.float32), np.float32
    if dtype == "float16":
        return lambda a: np.asarray(a).astype(np.float16).astype(np.float32), np.float32
    return _to_bfloat16, np.float32


def _to_bfloat16(a: Any) -> Any:
    """float32 numbers whose lower 16 bits are rounded away, ties to even."""
    bits = np.array(a, dtype=np.float32, order="C").view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)).view(
        np.float32
    )


def _two_paths(W: Any, B: Any, A: Any, s: Any, x: Any, bias: Any, dtype: str) -> tuple[Array, Array]:
    """(merged, side path), every operation rounded to `dtype`; all arguments are numbers of the format."""
    to, kind = _rounder(dtype)
    W, B, A, x, bias, s = (np.asarray(v, dtype=kind) for v in (W, B, A, x, bias, s))
    base = to(to(W @ x) + bias[:, None])
    side = to(base + to(s * to(B @ to(A @ x))))
    merged = to(to(to(W + to(s * to(B @ A))) @ x) + bias[:, None])
    return merged.astype(np.float64), side.astype(np.float64)


Bound = Callable[..., Array]


def _rounding_body(bound: Bound, seen: list[float]) -> None:
    def body(data: Any) -> None:
        dtype = data.draw(st.sampled_from(sorted(UNIT_ROUNDOFF)))
        out, in_ = data.draw(shapes())
        r, count = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 3))
        rng = stream(data.draw(seeds), "rounding")
        # the narrow range of float16 leaves normal numbers soon; underflow is outside the bound
        size, condition = (1.0, 1.0) if dtype == "float16" else (data.draw(scales), data.draw(conditions))
        to, _ = _rounder(dtype)
        W = to(conditioned(rng, out, in_, condition))
        B = to(conditioned(rng, out, r, condition) if r else np.zeros((out, 0)))
        A = to(conditioned(rng, r, in_, condition) if r else np.zeros((0, in_)))
        bias, x = (
            to(rng.standard_normal(out) * data.draw(st.sampled_from([0.0, 1.0]))),
            to(rng.standard_normal((in_, count))),
        )
        s = float(to(size))
        merged, side = _two_paths(W, B, A, s, x, bias, dtype)
        allowed = bound(W, LowRank(B, A, s), x, dtype, bias)
        gap = np.abs(merged - side)
        expect(allowed.shape == gap.shape, f"shape {allowed.shape}")
        expect(
            bool((gap <= allowed).all()), f"{dtype}: merged and side path differ by {gap.max()}, bound {allowed.max()}"
        )
        seen.append(float((gap / np.where(allowed > 0, allowed, 1.0)).max()))

    for_all(body, 120, data=st.data())


def _rounding_formula_body(bound: Bound) -> None:
    """The bound in rationals: integers as entries, so that the products are exact."""
    rng = stream(6, "rounding")
    for dtype, (m, n, r) in product(UNIT_ROUNDOFF, [(3, 2, 1), (2, 5, 3), (1, 1, 0), (4, 3, 6)]):
        W, B, A = rng.integers(-9, 10, (m, n)), rng.integers(-9, 10, (m, r)), rng.integers(-9, 10, (r, n))
        x, bias = rng.integers(-9, 10, n), rng.integers(-9, 10, m)
        u = Fraction(1, 2 ** {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}[dtype])
        v = u if dtype == "float64" else Fraction(1, 2**24)
        on_base = 2 * ((1 + v) ** (n + 1) * (1 + u) ** 3 - 1)
        on_side = (1 + v) ** (n + r) * ((1 + u) ** 4 + (1 + u) ** 5) - 2
        inner = [sum(abs(int(A[k, j] * x[j])) for j in range(n)) for k in range(r)]
        got = bound(W, LowRank(B, A, -0.5), x, dtype, bias)
        for i in range(m):
            base = sum(abs(int(W[i, j] * x[j])) for j in range(n)) + abs(int(bias[i]))
            side = Fraction(1, 2) * sum(abs(int(B[i, k])) * inner[k] for k in range(r))
            exact = on_base * base + on_side * side
            expect(Fraction(float(got[i])) >= exact, f"{got[i]} is below the exact bound at {dtype, m, n, r}")
            expect_close(float(got[i]), float(exact), 2 * rounding(n, r) * float(exact), "rounding bound")
    half = Fraction(EPS) / 2
    for lengths in ((), (1,), (7, 2), (100, 3, 4)):  # that many roundings down are made good, and not one more
        held, raised = 2 * sum(lengths) + 31, 1 + Fraction(rounding(*lengths))
        expect((1 - half) ** held * raised >= 1 > (1 - half) ** (held + 1) * raised, f"room for sums of {lengths}")


def _likely_formula_body(bound: Bound) -> None:
    """The bound from its parts in rationals, error by error, at whole numbers and where products nearly cancel."""
    rng = stream(7, "likely")
    for dtype, (m, n, r), failure in product(UNIT_ROUNDOFF, [(3, 2, 1), (2, 5, 3), (1, 1, 0), (4, 3, 6)], (1e-3, 0.5)):
        W, B, A = rng.integers(-9, 10, (m, n)), rng.integers(-9, 10, (m, r)), rng.integers(-9, 10, (r, n))
        x, bias = rng.integers(-9, 10, n), rng.integers(-9, 10, m)
        _expect_likely(bound, W, LowRank(B, A, -0.5), x, dtype, bias, failure)
    for _ in range(20):  # what is left of B A is as large in bfloat16 as the sums inside, and rounded as its terms are
        b, a = rng.uniform(1.0, 2.0, (2, 1)), rng.uniform(1.0, 2.0, (1, 1))
        left, right = np.hstack([b, b * (1.0 + 2.0**-16)]), np.vstack([a, -a * (1.0 + 2.0**-30)])
        _expect_likely(bound, np.zeros((2, 1)), LowRank(left, right), [1.0], "bfloat16", [0.0, 0.0], 1e-3)
    nothing = LowRank(np.zeros((1, 0)), np.zeros((0, 100)))
    _expect_likely(bound, np.ones((1, 100)), nothing, np.ones(100), "float32", [0.0], 1e-3)


def _expect_likely(
    bound: Bound, weight: ArrayLike, update: LowRank, inputs: ArrayLike, dtype: str, offset: ArrayLike, failure: float
) -> None:
    """Never below the bound in rationals, and above it by no more than roundings of the certain one."""
    W, B, A, x, b = (np.vectorize(Fraction, otypes=[object])(np.asarray(y, float)).tolist()
                     for y in (weight, update.B, update.A, inputs, offset))  # fmt: skip
    (m, n), r, s = update.shape, update.columns, Fraction(update.scale)
    u = Fraction(UNIT_ROUNDOFF[dtype])
    v = min(u, Fraction(UNIT_ROUNDOFF["float32"]))
    got = bound(weight, update, inputs, dtype, offset, failure)
    certain = merge_rounding_bound(weight, update, inputs, dtype, offset)
    low = [sum(a * y for a, y in zip(row, x, strict=True)) for row in A]
    most_low = [sum(abs(a * y) for a, y in zip(row, x, strict=True)) for row in A]
    for i in range(m):
        change = [s * sum(B[i][k] * A[k][j] for k in range(r)) for j in range(n)]
        merged = [w + c for w, c in zip(W[i], change, strict=True)]
        base, new = (sum(w * y for w, y in zip(row, x, strict=True)) for row in (W[i], merged))
        added = new - base
        # a rounding error moves an output by itself times the exact value that it multiplies, to first order
        stored = [c * y for c, y in zip(change, x, strict=True) for _ in (0, 1)]
        stored += [w * y for w, y in zip(merged, x, strict=True)]
        stored += [new, new + b[i], base, base + b[i], added, added, new + b[i]]
        stored += [s * B[i][k] * low[k] for k in range(r)]
        sums = [sum(abs(w * y) for w, y in zip(row, x, strict=True)) for row in (W[i], merged)]
        inside = [w * y for row in (W[i], merged) for w, y in zip(row, x, strict=True)] + sums * n
        inside += [s * sum(abs(B[i][k] * A[k][j]) for k in range(r)) * x[j] for j in range(n)] * (r + 1)
        inside += [s * B[i][k] * most_low[k] for k in range(r)] * (n + 1)
        inside += [s * sum(abs(B[i][k] * low[k]) for k in range(r))] * (r + 1)
        square = u**2 * sum(Fraction(e) ** 2 for e in stored) + v**2 * sum(Fraction(e) ** 2 for e in inside)
        spread = math.sqrt(2 * (math.log(2 * m) - math.log(failure)))
        # of second order: (1 + v)^a (1 + u)^b less its first order, as if all conspired
        side = abs(s) * sum(abs(B[i][k]) * most_low[k] for k in range(r))
        second = 2 * _beyond_first(n + 1, v, 3, u) * (sums[0] + abs(b[i]))
        second += (_beyond_first(n + r, v, 4, u) + _beyond_first(n + r, v, 5, u)) * side
        want, most = spread * math.sqrt(square) + float(second), float(certain[i])
        expect(got[i] <= certain[i], "above the certain bound")
        expect(
            min(want * (1 + 4 * EPS), most) <= got[i] <= want + (spread + 0.5) * rounding(n, r) * most,
            f"likely bound {got[i]} at {dtype, m, n, r}, expected {want}",
        )


def _beyond_first(a: int, v: Fraction, b: int, u: Fraction) -> Fraction:
    return (1 + v) ** a * (1 + u) ** b - 1 - a * v - b * u


def _likely_body(bound: Bound) -> list[float]:
    """Layers of the sizes of real ones: no output off by more, in any format; much smaller than the certain bound.

    Returns:
        the largest gap over the bound, the median certain bound over the likely one, both in bfloat16, and the median
        certain and likely bound over the output.
    """
    found: list[float] = []
    for dtype, (m, n, r) in product(("float32", "float16", "bfloat16"), ((48, 2048, 32), (48, 64, 4))):
        rng = stream(8, "likely", dtype, n)
        to, _ = _rounder(dtype)
        W, B, A = (to(rng.standard_normal(size) / math.sqrt(size[1])) for size in ((m, n), (m, r), (r, n)))
        x, bias = to(rng.standard_normal((n, 16))), to(rng.standard_normal(m) / 4)
        merged, side = _two_paths(W, B, A, 2.0, x, bias, dtype)
        gap, arguments = np.abs(merged - side), (W, LowRank(B, A, 2.0), x, dtype, bias)
        likely, certain = bound(*arguments), merge_rounding_bound(*arguments)
        worst = float((gap / likely).max())
        expect(worst <= 1, f"{dtype}: an output is off by {worst} of what is likely")
        expect(bool((likely <= certain).all()), "above the certain bound")
        ratio = float(np.median(certain / likely))
        expect(
            ratio >= (8 if n > 1000 else 1), f"{dtype}, {n} inputs: the certain bound is {ratio} times the likely one"
        )
        if n > 1000 and dtype == "bfloat16":
            found = [worst, ratio, *(float(np.median(b / np.abs(merged))) for b in (certain, likely))]
    return found


@check("adapter_algebra")
def adapter_algebra_numeric() -> Figure:
    """Merging, gauge and scale over ill-conditioned updates; the rounding bound in four formats, with mutants."""

    def merge(data: Any) -> None:
        shape = data.draw(shapes())
        update = data.draw(updates(shape=shape))
        rng = stream(data.draw(seeds), "merge")
        W, x = rng.standard_normal(shape) * data.draw(scales), rng.standard_normal((shape[1], 3))
        got = merged_weight(W, update)
        side = W @ x + update.apply(x)
        # float64 on both paths, entry by entry
        allowed = merge_rounding_bound(W, update, x, "float64")
        expect(bool((np.abs(got @ x - side) <= allowed).all()), "merged differs from the side path in float64")
        vanished = LowRank(np.zeros_like(update.B), update.A, update.scale)
        expect(np.array_equal(merged_weight(W, vanished), W), "B = 0 changes the weight")

    for_all(merge, 60, data=st.data())

    def gauge(data: Any) -> None:
        update = data.draw(updates())
        r, kappa = update.columns, data.draw(conditions)
        T = conditioned(stream(data.draw(seeds), "gauge"), r, r, kappa) if r else np.zeros((0, 0))
        T = T * data.draw(scales)
        got = regauge(update, T)
        size = abs(update.scale) * float(np.linalg.norm(update.B) * np.linalg.norm(update.A))
        # B T and the solve have residuals of eps ||T|| times their factor, and T^-1 undoes T up to cond(T)
        gap = float(np.linalg.norm(got.dense() - update.dense()))
        allowed = 4 * rank_tolerance((*update.shape, r), max(r, 1) * kappa * size)
        expect(gap <= allowed, f"another gauge, another update: {gap}, allowed {allowed}")
        expect(got.columns == r and np.array_equal(got.B, update.B @ T), "B T is the new B")

    for_all(gauge, 60, data=st.data())
    plain = LowRank(np.eye(2), np.eye(2))
    expect(regauge(plain, np.diag([1.0, 1e-12])).rank() == 2, "an ill-conditioned gauge is allowed")
    expect(adapter_scale(16, 4) == 4.0 and adapter_scale(16.0, 4, rslora=True) == 8.0, "alpha / r and alpha / sqrt r")
    for alpha, r in product((-1.5, 0.0, 3.0, 1e6), (1, 3, 64)):
        expect_close(adapter_scale(alpha, r) * r, alpha, 2 * EPS * abs(alpha), "alpha / r")
        root = adapter_scale(alpha, r, rslora=True)
        expect_close(root * abs(root) * r, alpha * abs(alpha), 8 * EPS * alpha * alpha, "alpha / sqrt r")
    seen: list[float] = []
    _rounding_body(merge_rounding_bound, seen)
    expect_mutant_rejected(_rounding_formula_body, lambda *a: 0.99 * merge_rounding_bound(*a), "1 % below")

    def without_base(W: Any, *rest: Any) -> Array:
        return merge_rounding_bound(np.zeros_like(W), *rest)

    expect_mutant_rejected(lambda b: _rounding_body(b, []), without_base, "the rounding of the weight forgotten")
    worst, _, certain, likely = _likely_body(likely_rounding_bound)
    expect(certain > 1 > 0.5 > likely, f"2048 inputs, bfloat16: {certain} and {likely} times the output")
    expect(worst >= 0.05, f"the likely bound is {1 / worst} times what is seen")
    expect_mutant_rejected(_likely_body, lambda *a: worst / 1.01 * likely_rounding_bound(*a), "1 % below what is seen")
    expect_mutant_rejected(_likely_body, merge_rounding_bound, "the certain bound")
    for factor in (0.99, 1.01):
        expect_mutant_rejected(
            _likely_formula_body, lambda *a, f=factor: f * likely_rounding_bound(*a), f"{factor} times the bound"
        )
    _rejections()
    return Figure("worst rounding gap / bound", max(seen), "ratio")


def _rejections() -> None:
    expect(parameter_count(1, 1, 0) == rank_set_dimension(1, 1, 0) == 0, "no rank, no parameters")
    for function in (parameter_count, rank_set_dimension):
        expect_rejected("m:", function, 0, 2, 1)
        expect_rejected("n:", function, 2, 0, 1)
        expect_rejected("r:", function, 2, 2, -1)
    expect_rejected("A: expected 2 rows", LowRank, np.ones((3, 2)), np.ones((3, 3)))
    expect_rejected("m:", largest_saving_rank, 0, 2)
    expect_rejected("n:", largest_saving_rank, 2, 0)
    expect_rejected("alpha", adapter_scale, math.inf, 2)
    expect_rejected("r:", adapter_scale, 1.0, 0)
    update = LowRank(np.ones((3, 2)), np.ones((2, 4)))
    expect_rejected("T:", regauge, update, np.eye(3))
    expect_rejected("T:", regauge, update, np.ones((2, 2)))
    expect_rejected("T:", regauge, update, np.diag([1.0, EPS / 4]))
    expect_rejected("T:", regauge, update, np.diag([1.0, math.nan]))
    expect_rejected("W:", merged_weight, np.ones((1, 4)), update)
    expect_rejected("W:", merged_weight, np.full((3, 4), math.nan), update)
    good = np.ones((3, 4))
    expect_rejected("W:", merge_rounding_bound, np.ones((1, 4)), update, np.ones(4))
    expect_rejected("W:", merge_rounding_bound, math.nan * good, update, np.ones(4))
    expect_rejected("x:", merge_rounding_bound, good, update, np.ones(1))
    expect_rejected("x:", merge_rounding_bound, good, update, np.full(4, math.nan))
    expect_rejected("x:", merge_rounding_bound, good, update, np.full((4, 2), math.nan))
    expect_rejected("dtype", merge_rounding_bound, good, update, np.ones(4), "int8")
    expect_rejected("bias", merge_rounding_bound, good, update, np.ones(4), "float32", np.ones(1))
    expect_rejected("bias", merge_rounding_bound, good, update, np.ones(4), "float32", np.full(3, math.nan))
    for failure in (0.0, 1.0, -1.0, math.nan, True, "half"):
        expect_rejected("failure", likely_rounding_bound, good, update, np.ones(4), "float32", None, failure)
    expect_rejected("x:", likely_rounding_bound, good, update, np.ones(1))
    wide, signs = LowRank(np.zeros((3, 1)), np.zeros((1, 400))), np.tile([1.0, -1.0], 200)
    one = likely_rounding_bound(np.ones((3, 400)), wide, signs)
    both = likely_rounding_bound(np.ones((3, 400)), wide, np.stack([signs, signs], axis=1))
    expect(one.shape == (3,) and both.shape == (3, 2) and bool((both[:, 0] > one).all()), "more outputs, more may fail")


# ---- first_step_size ----


def _hadamard(n: int) -> list[list[int]]:
    """n x n signs with orthogonal rows, n a power of two (Sylvester)."""
    return [[(-1) ** (i & j).bit_count() for j in range(n)] for i in range(n)]


@check("first_step_size")
def first_step_size_symbolic(code: Code) -> None:
    """SymPy's derivatives and steps of whole numbers; means over all factors of signs; every power of r, exactly."""
    import sympy

    rng = stream(8, "first step")
    m, n = 2, 3
    G = rng.integers(-4, 5, (m, n))
    for rslora, alpha, rate in ((False, 4.0, 0.5), (True, 8.0, 0.25)):
        # ranks 2 and 4, at which alpha / r, alpha / sqrt r are exact
        size = 4 if rslora else 2
        A = rng.integers(1, 5, (size, n))
        B = rng.integers(1, 5, (m, size))
        left, right = (
            sympy.Matrix(*x, sympy.symbols(f"{y}:{x[0] * x[1]}")) for x, y in (((m, size), "b"), ((size, n), "a"))
        )
        s, eta = sympy.Rational(alpha) / (2 if rslora else size), sympy.Rational(rate)
        loss = sum(g * u for g, u in zip(G.flat, s * left * right, strict=True))
        for zero, known in (("B", A), ("A", B)):
            at = dict.fromkeys(left if zero == "B" else right, 0)
            at |= dict(zip(right if zero == "B" else left, known.flat, strict=True))
            moved, stays = (left, right) if zero == "B" else (right, left)
            expect(all(loss.diff(x).subs(at) == 0 for x in stays), "the other factor moves")
            slopes = [loss.diff(x).subs(at) for x in moved]
            for optimizer in ("sgd", "adam"):
                step = {
                    x: -eta * (g if optimizer == "sgd" else sympy.sign(g)) for x, g in zip(moved, slopes, strict=True)
                }
                want = (s * left * right).subs({**at, **step})
                got = code.first_update(G, known, alpha, rate, rslora, optimizer, zero)
                expect_entries(got.dense(), want.tolist(), 0.0, f"first update, {optimizer}, {zero} = 0")
    # the mean over all factors of signs: - rate s^2 r G, sigma^2 = 1
    for r in (1, 2):
        signs = [np.array(x).reshape(r, 2) for x in product((-1, 1), repeat=2 * r)]
        total = sum(code.first_update(G[:, :2], x, 4.0, 0.5).dense() for x in signs)
        expect_entries(total, (-0.5 * (4.0 / r) ** 2 * r * len(signs) * G[:, :2]).tolist(), 0.0, "mean update")
    # powers: orthogonal rows of signs and G = I, where every mean is the value itself
    n = 16
    for optimizer, rslora, zero in product(("sgd", "adam"), (False, True), ("B", "A")):
        found: dict[str, list[Fraction]] = {"norm": [], "loss": []}
        for r in (1, 4, 16):
            rows = np.array(_hadamard(n)[:r])
            u = code.first_update(
                np.eye(n), rows if zero == "B" else rows.T, 16.0, 1.0, rslora, optimizer, zero
            ).dense()
            found["norm"].append(Fraction(float(np.sum(u**2))))
            found["loss"].append(-Fraction(float(np.trace(u))))
        for of, values in found.items():
            power = code.first_step_power(optimizer, of, rslora) * (2 if of == "norm" else 1)
            # r is 1, 4, 16: r^power is a power of two
            steps = [Fraction(2) ** int(2 * k * power) for k in range(3)]
            expect(2 * power == int(2 * power), f"power {power}")
            expect(
                [x / values[0] for x in values] == steps, f"{of} of {optimizer}, rslora {rslora}, {zero} = 0: {values}"
            )


def _first_update_body(update: Callable[..., LowRank]) -> float:
    """Against steps of a loss of its own, a quadratic one, whose slopes are differences of it; the largest gap."""
    worst = [0.0]

    def body(data: Any) -> None:
        (m, n), r = data.draw(shapes(5)), data.draw(st.integers(1, 4))
        rng, zero = stream(data.draw(seeds), "slopes"), data.draw(st.sampled_from("BA"))
        optimizer, rslora = data.draw(st.sampled_from(["sgd", "adam"])), data.draw(st.booleans())
        alpha, rate = data.draw(st.sampled_from([0.5, 16.0])), data.draw(st.sampled_from([1e-3, 0.1]))
        W, X, Y = rng.standard_normal((m, n)), rng.standard_normal((n, 3)), rng.standard_normal((m, 3))
        factors: dict[str, Any] = {"B": np.zeros((m, r)), "A": np.zeros((r, n))}
        known = "A" if zero == "B" else "B"
        factors[known] = rng.standard_normal(factors[known].shape)
        scale = alpha / (math.sqrt(r) if rslora else r)

        def loss() -> float:
            return 0.5 * float(np.sum(((W + scale * factors["B"] @ factors["A"]) @ X - Y) ** 2))

        def slope(of: str, at: tuple[int, ...]) -> float:
            values = []
            for move in (1.0, -1.0):  # a quadratic loss: the central difference is its slope, at any length
                factors[of][at] += move
                values.append(loss())
                factors[of][at] -= move
            return (values[0] - values[1]) / 2.0

        slopes: dict[str, Any] = {of: np.zeros_like(f) for of, f in factors.items()}
        for of, f in factors.items():
            for at in np.ndindex(*f.shape):
                slopes[of][at] = slope(of, at)
        gradient = (W @ X - Y) @ X.T
        level = float(np.abs(slopes[zero]).max())
        size = scale * float(np.abs(factors[known]).max()) * (1.0 + scale * float(np.abs(factors[known]).max()))
        # values of the loss are rounded: m x 3 squares of sums of n (and r) products
        room = (
            64 * EPS * (n + r + m) * (1.0 + size) ** 2 * (1.0 + float(np.sum((W @ X - Y) ** 2)) + float(np.sum(X**2)))
        )
        if optimizer == "adam" and float(np.abs(slopes[zero]).min()) <= room:
            return  # a sign that rounding could turn
        expect(float(np.abs(slopes[known]).max()) <= room, "the factor that is not zero moves")
        moved = factors | {zero: -rate * (np.sign(slopes[zero]) if optimizer == "adam" else slopes[zero])}
        want = scale * moved["B"] @ moved["A"]
        got = update(gradient, factors[known], alpha, rate, rslora, optimizer, zero).dense()
        allowed = rate * scale * r * float(np.abs(factors[known]).max()) * (room + 64 * EPS * (1.0 + level))
        off = float(np.abs(got - want).max())
        expect(off <= allowed, f"first update off by {off}, allowed {allowed}")
        worst[0] = max(worst[0], off / allowed)

    for_all(body, 60, data=st.data())
    return worst[0]


@check("first_step_size")
def first_step_size_numeric() -> Figure:
    """Drawn layers against differences of a quadratic loss; sizes of random factors at ranks 1 and 16; mutants."""
    worst = _first_update_body(first_update)
    for what, mutant in {
        "the scale once": lambda g, f, a, e, x, o, z: LowRank(
            first_update(g, f, a, e, x, o, z).B, first_update(g, f, a, e, x, o, z).A
        ),
        "the other convention": lambda g, f, a, e, x, o, z: first_update(g, f, a, e, not x, o, z),
        "no signs": lambda g, f, a, e, x, o, z: first_update(g, f, a, e, x, "sgd", z),
        "uphill": lambda g, f, a, e, x, o, z: first_update(-np.asarray(g), f, a, e, x, o, z),
    }.items():
        expect_mutant_rejected(_first_update_body, mutant, what)
    # Gaussian gradients, orthonormal rows: n r m and m r are means of squares with m r degrees of freedom
    rng, m, n, draws = stream(3, "sizes"), 8, 32, 60
    for rslora in (False, True):
        seen: dict[int, float] = {}
        for r in (1, 16):
            squares = []
            for _ in range(draws):
                rows = math.sqrt(n) * np.linalg.qr(rng.standard_normal((n, r)))[0].T
                squares.append(
                    float(np.sum(first_update(rng.standard_normal((m, n)), rows, 1.0, 1.0, rslora).dense() ** 2))
                )
            seen[r] = sum(squares) / draws
        ratio = seen[16] / seen[1] / 16.0 ** float(2 * first_step_power("sgd", "norm", rslora))
        # seven relative deviations of either mean of chi squares
        room = 7.0 * math.sqrt(2.0 / (m * draws)) * (1.0 + 0.25)
        expect(abs(ratio - 1.0) <= room, f"norm at rank 16 over rank 1, against the power: {ratio}")
    G, A = np.ones((2, 3)), np.ones((1, 3))
    expect_rejected("gradient", first_update, np.ones(3), A, 1.0, 1.0)
    expect_rejected("factor", first_update, G, np.ones((1, 2)), 1.0, 1.0)
    expect_rejected("factor", first_update, G, A, 1.0, 1.0, zero="A")
    expect_rejected("factor", first_update, G, np.full((1, 3), math.nan), 1.0, 1.0)
    expect_rejected("alpha", first_update, G, A, math.inf, 1.0)
    expect_rejected("rate", first_update, G, A, 1.0, math.nan)
    expect_rejected("r:", first_update, G, np.zeros((0, 3)), 1.0, 1.0)
    expect_rejected("optimizer", first_update, G, A, 1.0, 1.0, optimizer="lion")
    expect_rejected("zero", first_update, G, A, 1.0, 1.0, zero="C")
    expect_rejected("optimizer", first_step_power, "lion", "norm")
    expect_rejected("of", first_step_power, "sgd", "size")
    return Figure("largest gap to differences of a loss", worst, "of what is allowed")
