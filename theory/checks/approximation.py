"""Checks of the topic approximation: best low-rank update, deep linear chains, many rounds, decaying spectra."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
from hypothesis import strategies as st

from theory.approximation import (
    best_update,
    decay_error,
    decay_rank,
    decay_spectrum,
    deep_linear_adapters,
    deep_linear_floor,
    floor_error,
    rounds_needed,
    saturation_point,
    spectral_rank,
    split_update,
)
from theory.chains import adapt, stretch
from theory.checks import (
    CheckFailed,
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
    conditions,
    exact_rank,
    integer_matrices,
    orthonormal,
    scales,
    seeds,
    shapes,
    updates,
    with_spectrum,
)
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, rank_tolerance, stream

# ---- eckart_young ----


@check("eckart_young")
def eckart_young_symbolic(code: Code) -> None:
    """Both lower bounds as polynomial identities with free symbols; SVD bases reduce E to diag(s_1, .., s_n).

    Frobenius: U = U V V^T for orthonormal V spanning its row space, so
    ||E - U||^2 = ||E||^2 - ||E V||^2 + ||(E - U) V||^2, and with p_i the squared row norms of V
    (0 <= p_i <= 1, sum r) what is lost above the tail is
    sum_{i<=r} (s_i^2 - s_r^2)(1 - p_i) + sum_{i>r} (s_r^2 - s_i^2) p_i >= 0.
    Spectral: U = B A of rank r kills some x in the first r+1 directions, the cross product of A's rows there, and
    ||(E - U) x||^2 - s_{r+1}^2 ||x||^2 = sum_i (s_i^2 - s_{r+1}^2) x_i^2 >= 0.
    Then the code at a matrix whose singular vectors and values are rational.
    """
    import sympy

    n = 5
    s, p = sympy.symbols("s1:6"), list(sympy.symbols("p1:6"))
    for r in range(1, n):
        p[n - 1] = r - sum(p[: n - 1])
        energy = sum(s[i] ** 2 * (1 - p[i]) for i in range(n))
        above = energy - sum(s[i] ** 2 for i in range(r, n))
        terms = sum((s[i] ** 2 - s[r - 1] ** 2) * (1 - p[i]) for i in range(r)) + sum(
            (s[r - 1] ** 2 - s[i] ** 2) * p[i] for i in range(r, n)
        )
        expect(sympy.expand(above - terms) == 0, f"Frobenius loss of a projection of rank {r}")
    # the projection identity, rank 1 in three dimensions: V = v with |v| = 1 imposed by v1^2 = 1 - v2^2 - v3^2
    v = sympy.Matrix(sympy.symbols("v1:4"))
    u = sympy.Matrix(sympy.symbols("u1:4"))
    e = sympy.diag(*s[:3])
    residual, at_v = e - u * v.T, e * v - u
    difference = sum(x**2 for x in residual) - sum(x**2 for x in e) + sum(x**2 for x in e * v) - sum(x**2 for x in at_v)
    reduced = sympy.rem(sympy.expand(difference), v[0] ** 2 + v[1] ** 2 + v[2] ** 2 - 1, v[0])
    expect(sympy.expand(reduced) == 0, "||E - u v^T||^2 = ||E||^2 - ||E v||^2 + ||E v - u||^2")
    for r in (1, 2):
        a = sympy.Matrix(r, 4, sympy.symbols(f"a:{4 * r}"))
        b = sympy.Matrix(4, r, sympy.symbols(f"b:{4 * r}"))
        rest = list(range(r + 1))
        x = sympy.zeros(4, 1)
        for i in rest:
            x[i] = (-1) ** i * a[:, [j for j in rest if j != i]].det()
        expect((a * x).expand() == sympy.zeros(r, 1), "the cross product of the rows is in the kernel")
        moved = sympy.diag(*s[:4]) * x - b * (a * x).expand()
        got = sum(y**2 for y in moved) - s[r] ** 2 * sum(y**2 for y in x)
        want = sum((s[i] ** 2 - s[r] ** 2) * x[i] ** 2 for i in range(r))
        expect(sympy.expand(got - want) == 0, f"spectral loss of rank {r}")
    values, left, right = (6, 3, 2), _q3(), _q3()[[1, 2, 0], :]
    pieces = [values[i] * left[:, i] * right[:, i].T for i in range(3)]
    exact = sum(pieces, sympy.zeros(3, 3))
    dense = np.array(exact.tolist(), dtype=float)
    off = rank_tolerance((3, 3), 6.0)  # of a singular value; a singular vector turns by off over the least gap, 1
    for r in range(4):
        kept, tail = sum(pieces[:r], sympy.zeros(3, 3)), values[r:]
        for form in (dense, LowRank(dense, np.eye(3)), [2, 6, 3]):
            expect_close(code.floor_error(form, r), max(tail, default=0), off, f"spectral floor at {r}")
            want = math.hypot(*tail)
            expect_close(code.floor_error(form, r, "frobenius"), want, 2 * off, f"Frobenius floor at {r}")
        for form in (dense, LowRank(dense, np.eye(3))):
            update = code.best_update(form, r)
            expect(update.columns <= r, f"{update.columns} columns at rank {r}")
            expect_entries(update.dense(), kept.tolist(), 2 * 6 * off, f"the truncated decomposition at rank {r}")


def _eckart_young_body(floor: Callable[..., float]) -> None:
    def body(data: Any) -> None:
        rows, columns = data.draw(shapes())
        least = min(rows, columns)
        rng = stream(data.draw(seeds), "eckart_young")
        scale = data.draw(scales)
        planted = np.sort(np.geomspace(1.0, 1.0 / data.draw(conditions), least) * rng.uniform(0.1, 1.0, least))[::-1]
        planted[data.draw(st.integers(0, least)) :] = 0.0
        planted = planted * scale
        E = with_spectrum(rng, rows, columns, planted)
        r = data.draw(st.integers(0, least + 2))
        off = rank_tolerance((rows, columns), float(planted.max(initial=0.0)))  # of each singular value
        want = float(planted[r]) if r < least else 0.0
        total = math.sqrt(math.fsum(x * x for x in planted[r:]))
        forms = (E, LowRank(E, np.eye(columns)), rng.permutation(planted))
        for form in forms:
            expect_close(floor(form, r, "spectral"), want, 2 * off, "spectral floor")
            expect_close(floor(form, r, "frobenius"), total, 2 * off * math.sqrt(least), "Frobenius floor")
        rival = LowRank(rng.standard_normal((rows, r)), rng.standard_normal((r, columns)), scale * rng.uniform(0, 0.1))
        for update in (best_update(E, r), rival, best_update(LowRank(E, np.eye(columns)), r)):
            expect(update.columns <= max(r, 0), f"{update.columns} columns at rank {r}")
            gap = E - update.dense()
            room = 4 * off * math.sqrt(least) + rank_tolerance((rows, columns), update.norm("spectral"))
            for norm, size in (("spectral", np.linalg.norm(gap, 2)), ("frobenius", np.linalg.norm(gap))):
                expect(size >= floor(E, r, norm) - room, f"a {norm} error {size} below the floor")
                if update is not rival:
                    expect(size <= floor(E, r, norm) + room, f"the best update misses the {norm} floor: {size}")

    for_all(body, 60, data=st.data())


def _q3() -> Any:
    import sympy

    return sympy.Matrix([[1, 2, 2], [2, 1, -2], [2, -2, 1]]) / 3


@check("eckart_young")
def eckart_young_numeric() -> Figure:
    """Planted spectra, all three forms of E, random rivals, an exact witness, mutants."""
    _eckart_young_body(floor_error)
    # exact witness: E^T E = [[25, 20], [20, 25]] has the eigenvalues 45 and 5
    E = np.array([[3.0, 0.0], [4.0, 5.0]])
    exact = {(0, "spectral"): math.sqrt(45), (1, "spectral"): math.sqrt(5), (0, "frobenius"): math.sqrt(50)}
    worst = max(abs(floor_error(E, r, norm) - want) / want for (r, norm), want in exact.items())
    expect(worst <= rank_tolerance((2, 2), math.sqrt(50)), f"floor of the witness off by {worst}")
    attained = float(np.linalg.norm(E - best_update(E, 1).dense(), 2))
    expect_close(attained, math.sqrt(5), rank_tolerance((2, 2), 7.0), "error of the best update of the witness")
    expect(floor_error(E, 2) == 0.0 and floor_error(np.zeros((3, 2)), 0) == 0.0, "nothing is left above full rank")
    expect(floor_error(np.zeros((0, 3)), 0) == 0.0 and floor_error([], 0, "frobenius") == 0.0, "empty matrices")
    huge = floor_error([3e200, 4e200], 0, "frobenius")
    expect_close(huge / 1e200, 5.0, 8 * EPS * 5, "the Frobenius floor must not overflow")
    expect_mutant_rejected(_eckart_young_body, lambda e, r, n: floor_error(e, r + 1, n), "one rank too many")
    expect_mutant_rejected(_eckart_young_body, lambda e, r, n: 1.01 * floor_error(e, r, n), "floor 1 % too high")
    for bad in (np.array([[np.nan]]), [1.0, -1.0], np.zeros((2, 2, 2)), np.eye(2) * 1j):
        expect_rejected("E", floor_error, bad, 1)
    expect_rejected("E", best_update, [1.0, 2.0], 1)
    expect_rejected("E", floor_error, [math.inf, 1.0], 1)
    for function in (floor_error, best_update):
        expect_rejected("r", function, E, -1)
        expect_rejected("r", function, E, 1.5)
    expect_rejected("norm", floor_error, E, 1, "nuclear")
    return Figure("gap of the best update to the floor", float(abs(attained / math.sqrt(5) - 1)), "relative")


# ---- deep_linear ----


@check("deep_linear")
def deep_linear_symbolic(code: Code) -> None:
    """The telescoping identity in non-commuting symbols; the construction in exact rational arithmetic and as coded."""
    import sympy

    for depth in range(1, 6):
        w = sympy.symbols(f"w1:{depth + 1}", commutative=False)
        u = sympy.symbols(f"u1:{depth + 1}", commutative=False)
        moved = sympy.Mul(*[a + b for a, b in zip(w[::-1], u[::-1], strict=True)]) - sympy.Mul(*w[::-1])
        terms = sum(
            sympy.Mul(*w[depth - 1 : at : -1], u[at], *[w[i] + u[i] for i in range(at - 1, -1, -1)])
            for at in range(depth)
        )
        expect(sympy.expand(moved - terms) == 0, f"telescoping of {depth} layers")
    # rational orthogonal bases give a target whose SVD, and so every step, is rational: 3 <- 4 <- 3 <- 2 layers
    q3 = _q3()
    q2 = sympy.Matrix([[3, 4], [-4, 3]]) / 5
    w = [
        sympy.Matrix([[1, 2], [0, 1], [1, 1]]),
        sympy.Matrix([[2, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 3]]),
        sympy.Matrix([[1, 0, 2, 0], [0, 1, 0, 1], [1, 1, 0, 3]]),
    ]
    values = (7, 3)
    pieces = [values[i] * q3[:, i] * q2[:, i].T for i in range(2)]
    frozen = w[2] * w[1] * w[0]
    target = frozen + pieces[0] + pieces[1]
    prefix, updates_ = sympy.eye(2), []
    for at in range(2):  # rank 1 per layer: two layers suffice, the third stays as it is
        suffix = sympy.eye(3)
        for layer in w[at + 1 :][::-1]:
            suffix = suffix * layer
        right_inverse = suffix.T * (suffix * suffix.T).inv()
        left_inverse = (prefix.T * prefix).inv() * prefix.T
        updates_.append(right_inverse * pieces[at] * left_inverse)
        expect(updates_[at].rank() == 1, "an update of rank above 1")
        prefix = (w[at] + updates_[at]) * prefix
        through = suffix * prefix
        want = frozen + sum(pieces[: at + 1], sympy.zeros(3, 2))
        expect(through == want, f"after layer {at} the product is not the frozen one plus the leading terms")
    expect(w[2] * prefix == target, "the adapted product is not the target")
    layers, wanted, total = (
        [np.array(x.tolist(), dtype=float) for x in w],
        *(np.array(x.tolist(), dtype=float) for x in (target, frozen)),
    )
    magnitude = float(np.linalg.norm(wanted, 2)) + math.prod(float(np.linalg.norm(x, 2)) for x in layers)
    rounding = rank_tolerance((4,), 3 * magnitude)
    # three layers of rank 1 reach the target; one of rank 1 the leading term, at the distance 3 of the second
    for chain, want, room in ((layers, target, adapt(layers, wanted, 1, [""] * 3).tolerance),
                              ([total], frozen + pieces[0], 8 * rounding)):  # fmt: skip
        made = code.deep_linear_adapters(chain, wanted, 1)
        expect(all(u.columns <= 1 for u in made), "an adapter of rank above 1")
        expect_entries(_dense_product(chain, made), want.tolist(), room + rounding, f"{len(chain)} adapted layers")
    for chain, r, distance in ((layers, 0, 7), (layers, 1, 0), ([total], 0, 7), ([total], 1, 3), ([total], 2, 0)):
        expect_close(code.deep_linear_floor(chain, wanted, r), distance, rounding, f"floor at rank {r}")
    # W_2 = 0 cannot be dropped: the product has rank 1 whatever the updates are, and misses a target of rank 2
    a = sympy.Matrix(2, 1, sympy.symbols("a1:3"))
    b = sympy.Matrix(1, 2, sympy.symbols("b1:3"))
    any_prefix = sympy.Matrix(2, 2, sympy.symbols("q1:5"))
    expect(sympy.expand(((a * b) * any_prefix).det()) == 0, "a chain through a zero layer has rank at most 1")


def _dense_product(weights: Sequence[Array], adapters: Sequence[LowRank]) -> Array:
    total = np.eye(weights[0].shape[1])
    for w, u in zip(weights, adapters, strict=True):
        total = (w + u.dense()) @ total
    return total


def _deep_linear_body(construct: Callable[..., list[LowRank]], floor: Callable[..., float]) -> None:
    def body(data: Any) -> None:
        depth, r = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 3))
        square = data.draw(st.booleans())
        first, last = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
        if square:
            last = first
        wide = max(first, last)
        hidden = [wide if square else data.draw(st.integers(wide, wide + 2)) for _ in range(depth - 1)]
        sizes = [first, *hidden, last]
        rng = stream(data.draw(seeds), "deep_linear")
        whole = data.draw(conditions)  # of all suffix products together: beyond 1e6 float64 cannot tell full rank
        condition = whole ** (1 / max(depth - 1, 1))
        scale = data.draw(scales)
        weights = [conditioned(rng, out, in_, condition) * scale ** (1 / depth) for in_, out in pairwise(sizes)]
        frozen = _dense_product(
            weights, [LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1]))) for w in weights]
        )
        planted = np.sort(rng.uniform(0.2, 1.0, min(first, last)))[::-1] * scale
        planted[data.draw(st.integers(0, len(planted))) :] = 0.0
        target = frozen + with_spectrum(rng, last, first, planted)
        want = float(planted[r * depth]) if r * depth < len(planted) else 0.0
        made = construct(weights, target, r)
        exact = adapt(weights, target, r, ["weights"] * depth)
        magnitude = float(np.linalg.norm(target, 2)) + math.prod(float(np.linalg.norm(w, 2)) for w in weights)
        room = exact.tolerance + rank_tolerance(sizes, magnitude)  # the second for the target as planted
        expect(all(u.columns <= r for u in made), "an adapter of rank above r")
        error = float(np.linalg.norm(target - _dense_product(weights, made), 2))
        expect_close(error, want, room, f"distance to the target of {sizes} at rank {r}, condition {whole}")
        expect_close(floor(weights, target, r), want, rank_tolerance(sizes, (depth + 1) * magnitude), "floor")
        stated = _stated_tolerance(weights, target, exact.adapters)
        expect(exact.tolerance <= stated, f"tolerance {exact.tolerance} above {stated}, as the claim states it")
        rivals = [
            LowRank(u.B + 0.01 * rng.standard_normal(u.B.shape), u.A, 1 + 0.01 * rng.standard_normal()) for u in made
        ]
        nearby = float(np.linalg.norm(target - _dense_product(weights, rivals), 2))
        expect(nearby >= want - room, f"rank-{r} rivals reach {nearby}, below the floor {want}")

    for_all(body, 60, data=st.data())


def _stated_tolerance(weights: Sequence[Array], target: Array, adapters: Sequence[LowRank]) -> float:
    """8 d eps (m + mbar + ||T|| + ||T - P||), term by term."""

    def total(layers: Sequence[Array]) -> float:
        return math.fsum(
            _norm(_chain(layers[at + 1 :], len(layers[-1]))) * _norm(layers[at]) * _norm(_chain(layers[:at], width))
            for at in range(1, len(layers))
        )

    width = weights[0].shape[1]
    adapted = [w + u.dense() for w, u in zip(weights, adapters, strict=True)]
    sums = total(weights) + total(adapted) + _norm(target) + _norm(target - _chain(weights, width))
    size = int(np.max([w.shape for w in weights]))
    return 8 * size * EPS * sums * (1 + 1e-9)  # the norms themselves are rounded


def _norm(a: Array) -> float:
    return float(np.linalg.svd(a, compute_uv=False)[0])


def _chain(weights: Sequence[Array], width: int) -> Array:
    """Product of the layers, input first, from the output on; the identity of this width where there are none."""
    total = np.eye(len(weights[-1]) if weights else width)
    for w in weights[::-1]:
        total = total @ w
    return total


def _solvable_body(construct: Callable[..., list[LowRank]]) -> None:
    """What the claim promises and the order of the singular values, or a cautious refusal, does not keep."""

    def reached(weights: Sequence[Array], target: Array, r: int, what: str) -> float:
        """How far the distance is from the floor, which is 0 exactly where the ranks suffice; within what is stated."""
        try:
            made = construct(weights, target, r)
        except ValueError as refusal:
            raise CheckFailed(f"{what}: refused, although the layers are regular: {refusal}") from refusal
        expect(all(u.columns <= r for u in made), "an adapter of rank above r")
        adapted = [w + u.dense() for w, u in zip(weights, made, strict=True)]
        want = deep_linear_floor(weights, target, r) if r * len(weights) < len(target) else 0.0
        off = abs(_norm(target - _chain(adapted, len(target))) - want)
        expect(off <= _stated_tolerance(weights, target, made), f"{what}: off by {off:.2g}")
        return off

    for size in (64, 128):
        rng = stream(size, "deep_linear")
        weights = [rng.standard_normal((size, size)) for _ in range(4)]
        target = rng.standard_normal((size, size)) * size**1.5
        for r in (size // 4, size // 16):
            off = reached(weights, target, r, f"Gaussian layers of size {size} at rank {r}") / _norm(target)
            expect(off <= 1e-12, f"Gaussian layers of size {size} at rank {r}: off by {off:.2g} of ||T||")
    # targets at which many or all intermediate products are singular
    eye, turned = np.eye(2), np.array([[0.0, 1.0], [-1.0, 0.0]])
    # of the halves: there the rows that are left are to be mixed in with one sign and not the other
    halves = (turned + eye) / 2, (turned - eye) / 2
    # what is written is -1/2 of what is there, and as much is mixed in of the rest if the layer itself is left out
    golden = eye / 2 + math.sqrt((1 + math.sqrt(5)) / 8) * turned
    for target in (0 * eye, turned, -eye, np.diag([0.0, 1.5]), *halves, golden):
        reached([eye, eye], target, 1, f"two identities to {target.tolist()}")
        weights = [conditioned(stream(at, "singular"), 6, 6, 1e2) for at in range(3)]
        reached(
            weights, np.kron(target, np.eye(3)) @ _chain(weights, 6), 2, f"three layers to {target.tolist()} times P"
        )
    for seed in range(6):
        reached(*_half_way_singular(seed), 1, "from a leading correction that makes the product singular")
    # rows that see by rounding alone what the first layer all but loses are not to be divided by what is left of it
    lost = np.array([[5.0, 0.0, 1e-18], [0.0, 3.0, 1e-18], [0.0, 0.0, 0.0]])
    reached([np.diag([1.0, 1.0, 1e-40]), np.eye(3)], lost, 1, "a direction that is lost")
    # close to the limits: a layer of condition 1e14, and rounding of a twentieth less than what is refused
    reached([np.eye(4), conditioned(stream(4, "deep_linear"), 4, 4, 1e14)], np.diag([5.0, 4.0, 3.0, 2.0]), 2, "ill")
    reached(_two_steep_layers(84 * EPS), np.diag([1.5, 1.0]), 2, "two steep layers")


def _in_svd_order(weights: Sequence[Array], target: Array, r: int) -> list[LowRank]:
    """Group l of the terms of the SVD for layer l, as [Z] and earlier versions of this construction split the gap."""
    width = weights[0].shape[1]
    left, values, right = np.linalg.svd(target - _chain(weights, width))
    prefix, made = np.eye(width), []
    for at, w in enumerate(weights):
        group = slice(at * r, (at + 1) * r)
        b = np.linalg.pinv(_chain(weights[at + 1 :], len(target))) @ (left[:, group] * values[group])
        made.append(LowRank(b, right[group] @ np.linalg.pinv(prefix)))
        prefix = (w + made[-1].dense()) @ prefix
    return made


def _timid(limit: float) -> Callable[..., list[LowRank]]:
    """Refuses where `limit` times the tolerance is above a tenth of the scale."""

    def construct(weights: Sequence[Array], target: Array, r: int) -> list[LowRank]:
        made = adapt(weights, target, r, ["weights"] * len(weights))
        scale = _norm(target) + _norm(target - _chain(weights, len(target)))
        if limit * made.tolerance > scale / 10:
            raise ValueError("weights: refused too early")
        return made.adapters

    return construct


@check("deep_linear")
def deep_linear_numeric() -> Figure:
    """Square and rectangular chains reach sigma_{rL+1}, none does better; exact witness; singular layers are named."""
    _deep_linear_body(deep_linear_adapters, deep_linear_floor)
    _solvable_body(deep_linear_adapters)
    expect_mutant_rejected(_solvable_body, _in_svd_order, "the gap split in the order of its singular values")
    expect_mutant_rejected(_solvable_body, _timid(1e4), "refused 10^4 times earlier")
    rng = stream(64, "deep_linear")
    gaussian, wanted = [rng.standard_normal((64, 64)) for _ in range(4)], rng.standard_normal((64, 64)) * 512
    tolerance = adapt(gaussian, wanted, 16, [""] * 4).tolerance / _norm(wanted)
    expect(tolerance <= 1e-9, f"a tolerance of {tolerance} of ||T|| says too little")
    rng = stream(9, "deep_linear")
    weights = [orthonormal(rng, 12, 12) for _ in range(3)]
    target = 4 * orthonormal(rng, 12, 12) + rng.standard_normal((12, 12))
    made = deep_linear_adapters(weights, target, 2)
    frozen = weights[2] @ weights[1] @ weights[0]
    want = float(np.linalg.svd(target - frozen, compute_uv=False)[6])
    gap = abs(float(np.linalg.norm(target - _dense_product(weights, made), 2)) - want) / want
    expect(gap <= adapt(weights, target, 2, [""] * 3).tolerance / want, f"relative gap {gap} of the random witness")
    eye = np.eye(4)
    weights, target = [eye, 2 * eye], 2 * eye + np.diag([8.0, 4.0, 2.0, 1.0])
    made = deep_linear_adapters(weights, target, 1)
    expect_close(deep_linear_floor(weights, target, 1), 2.0, rank_tolerance((4,), 14.0), "floor of the witness")
    error = float(np.linalg.norm(target - _dense_product(weights, made), 2))
    expect_close(error, 2.0, 8 * rank_tolerance((4,), 14.0), "distance of the witness (condition numbers at most 5)")
    # W_1 may be singular, and layers that need no update ask nothing
    low = np.diag([1.0, 1.0, 1.0, 0.0])
    full = np.diag([2.0, 2.0, 2.0, 9.0])
    error = float(np.linalg.norm(full - _dense_product([low, eye], deep_linear_adapters([low, eye], full, 2)), 2))
    expect(error <= 8 * rank_tolerance((4,), 14.0), f"a singular first layer is no obstacle: {error}")
    expect(all(u.columns == 0 for u in deep_linear_adapters([eye, low], low, 2)), "target = product needs no update")
    differ = [np.array([[1e8], [1e8 * (1 + EPS)]]), np.array([[1.0, -1.0]])]  # large numbers, nearly the same
    expect(deep_linear_adapters(differ, np.zeros((1, 1)), 1)[0].columns == 0, "what the product rounds is no gap")
    expect_mutant_rejected(lambda f: _deep_linear_body(f, deep_linear_floor), _without_last, "the last update left out")
    expect_mutant_rejected(lambda f: _deep_linear_body(deep_linear_adapters, f), _floor_one_layer_short, "floor")
    for at in (1, 2):  # a layer is asked for what those above let through, and nothing comes through zero
        singular = [eye, 3 * eye, 2 * eye]
        singular[at] = low
        made = deep_linear_adapters(singular, target, 1)
        error = float(np.linalg.norm(target - _dense_product(singular, made), 2))
        want = deep_linear_floor(singular, target, 1)
        expect_close(error, want, 8 * rank_tolerance((4,), 20.0), f"a singular layer {at} that lets enough through")
        singular[at] = 0 * eye
        expect_rejected(f"weights[{at}]", deep_linear_adapters, singular, target, 1)
    expect_rejected("weights[0]", deep_linear_adapters, [0 * eye, eye], eye, 2)
    expect_rejected("weights[1]", deep_linear_adapters, [np.ones((1, 3)), np.ones((3, 1))], np.eye(3), 1)
    turn = orthonormal(stream(4, "deep_linear"), 4, 4)
    ill = turn * [1.0, 1e-17, 1e-17, 1e-17] @ turn  # of rank 1 to working precision
    expect_rejected("weights[1]", deep_linear_adapters, [eye, ill], target, 2)
    # regular each, but rounding in the product is a twentieth more than a tenth of the scale
    expect_rejected("weights", deep_linear_adapters, _two_steep_layers(76 * EPS), np.diag([1.5, 1.0]), 2)
    irregular = "expected a layer regular to working precision, got one of reciprocal condition"
    blind = np.diag([1.0, 1e-17, 1e-17, 1e-17])
    expect_rejected(f"weights[1]: {irregular} 1e-17 ", deep_linear_adapters, [eye, blind], target, 2)
    steep = np.diag([1.0, 1.0, 1.0, 1e-12])  # regular, and no reason to refuse: that is what the first is once adapted
    expect_rejected(f"weights[0]: {irregular} 0 ", deep_linear_adapters, [0 * eye, steep], eye, 1)
    # of a number among zeros: what it is off by as computed, and the rounding of the gap
    single = adapt([np.diag([3.0, 0.0])[:1]], np.diag([0.1, 0.0])[:1], 1, ["weights"]).tolerance
    off = 3.0 + (0.1 - 3.0) - 0.1
    expect_close(single, off + 8 * EPS * (0.1 + 2.9), off / 8, "tolerance of a number")
    for at in range(32):  # each of the four directions of the power method nearly misses some axis, not all the same
        spiked = np.eye(32) / 2
        spiked[at, at] = 1.0
        for size in (1e-200, 1.0, 1e200):
            found = stretch(size * spiked) / size
            expect(0.9 <= found <= 1.0 + 32 * EPS, f"norm of a spike of {size} at {at}: expected about 1, got {found}")
    expect_close(stretch(np.diag([-1e200, 0.0])), 1e200, 1e200 * 32 * EPS, "norm of a large number below zero")
    for function in (deep_linear_adapters, deep_linear_floor):
        expect_rejected("weights", function, [], eye, 1)
        expect_rejected("weights[1]", function, [eye, np.ones((2, 3))], np.ones((2, 4)), 1)
        expect_rejected("weights[0]", function, [np.zeros((0, 4)), np.zeros((4, 0))], eye, 1)
        expect_rejected("weights[1]", function, [eye, np.full((4, 4), np.inf)], eye, 1)
        expect_rejected("target", function, [eye], np.ones((4, 3)), 1)
        expect_rejected("target", function, [eye], np.ones(4), 1)
        expect_rejected("target", function, [eye], np.full((4, 4), math.nan), 1)
        expect_rejected("r", function, [eye], eye, -1)
        expect_rejected("r", function, [eye, eye], eye, True)
    return Figure("gap to σ of index rL + 1, three orthogonal 12 x 12 layers", gap, "relative")


def _two_steep_layers(slope: float) -> list[Array]:
    """The second direction is written through both, at a cost of ``1 / slope``.

    For the target diag(1.5, 1) what is allowed for rounding is 8 eps / slope of the scale; refused beyond a tenth.
    """
    return [np.eye(2), np.diag([1.0, slope]), np.diag([1.0, slope])]


def _half_way_singular(seed: int) -> tuple[list[Array], Array]:
    """Two layers, the second of condition 1e6, and a target at which product + leading correction is singular.

    det(P - c u v^T) = det P (1 - c v^T P^-1 u) vanishes at c = s_4 for u, v the weakest singular directions of P. The
    rest of the gap is smaller, so this is its leading term, and written first it leaves the second layer nothing to
    write with.
    """
    rng = stream(seed, "half-way")
    weights = [orthonormal(rng, 4, 4), conditioned(rng, 4, 4, 1e6)]
    frozen = weights[1] @ weights[0]
    left, values, right = np.linalg.svd(frozen)
    sizes = values[3] * np.array([-0.2, -0.3, -0.4, -1.0])
    return weights, frozen + (left * sizes) @ right


def _without_last(weights: Any, target: Any, r: int) -> list[LowRank]:
    made = deep_linear_adapters(weights, target, r)
    out, in_ = made[-1].shape
    return [*made[:-1], LowRank(np.zeros((out, 0)), np.zeros((0, in_)))]


def _floor_one_layer_short(weights: Any, target: Any, r: int) -> float:
    total = _dense_product(weights, [LowRank(np.zeros((w.shape[0], 0)), np.zeros((0, w.shape[1]))) for w in weights])
    return floor_error(np.asarray(target) - total, r * (len(weights) - 1))


# ---- merge_and_reset ----


@check("merge_and_reset")
def merge_and_reset_symbolic(code: Code) -> None:
    """All 2 x 2 sums over {-1, 0, 1} by exact rank; the minors that vanish and the split, with free symbols."""
    import sympy

    ones = [[[b * a for a in right] for b in left] for left, right in product(product((-1, 0, 1), repeat=2), repeat=2)]
    reached = {tuple(a[i][j] + b[i][j] for i in range(2) for j in range(2)) for a, b in combinations(ones * 2, 2)}
    for entries in product((-1, 0, 1), repeat=4):
        rank = exact_rank([list(entries[:2]), list(entries[2:])])
        single = any(tuple(x for row in a for x in row) == entries for a in ones)
        expect(single == (rank <= 1), f"one round of rank 1 and {entries}")
        expect(entries in reached, f"two rounds of rank 1 reach every 2 x 2, got none for {entries}")
        change = np.reshape(entries, (2, 2))
        expect(code.rounds_needed(change, 1) == rank, f"rounds of rank 1 for {entries}")
        rounds = code.split_update(change, 1, 2)
        expect([u.columns for u in rounds] == [rank > 0, rank > 1], f"rounds for {entries}")
        expect_entries(rounds[0].dense() + rounds[1].dense(), change, rank_tolerance((2, 2), 2.0), f"sum for {entries}")
    b = sympy.Matrix(3, 2, sympy.symbols("b:6"))
    a = sympy.Matrix(2, 3, sympy.symbols("a:6"))
    rounds = [b[:, t] * a[t, :] for t in range(2)]
    expect(sympy.expand((rounds[0] + rounds[1]).det()) == 0, "two rounds of rank 1 have no minor of order 3")
    expect((rounds[0] + rounds[1] - b * a).expand() == sympy.zeros(3, 3), "slicing a factorisation gives the rounds")


def _merge_and_reset_body(needed: Callable[..., int], split: Callable[..., list[LowRank]]) -> None:
    def body(data: Any) -> None:
        out, in_ = data.draw(shapes(largest=6))
        inner = data.draw(st.integers(0, 6))
        left, right = data.draw(integer_matrices(out, inner)), data.draw(integer_matrices(inner, in_))
        entries = [[sum(left[i][k] * right[k][j] for k in range(inner)) for j in range(in_)] for i in range(out)]
        rank, r = exact_rank(entries), data.draw(st.integers(1, 4))
        dense = np.array(entries, dtype=float).reshape(out, in_)
        factored = LowRank(np.reshape(left, (out, inner)).astype(float), np.reshape(right, (inner, in_)).astype(float))
        least = math.ceil(Fraction(rank, r))
        extra = data.draw(st.integers(0, 2))
        for form in (dense, factored):
            expect(needed(form, r) == least, f"{needed(form, r)} rounds for rank {rank} in steps of {r}")
            rounds = split(form, r, least + extra)
            expect(len(rounds) == least + extra, f"{len(rounds)} updates for {least + extra} rounds")
            expect(all(u.columns <= r for u in rounds), "a round of rank above r")
            total = sum((u.dense() for u in rounds), np.zeros((out, in_)))
            size = factored.tolerance() + rank_tolerance((out, in_), math.sqrt(rank) * float(np.linalg.norm(dense)))
            expect(np.linalg.norm(total - dense) <= size, "the rounds do not add up to the target")
            if least:
                expect_rejected("E", split, form, r, least - 1)

    for_all(body, 60, data=st.data())


@check("merge_and_reset")
def merge_and_reset_numeric() -> Figure:
    """Exact integer ranks, ill-conditioned updates, the witness that needs every round, mutants."""
    _merge_and_reset_body(rounds_needed, split_update)

    def real_updates(update: LowRank, r: int) -> None:
        count = rounds_needed(update, r)
        rounds = split_update(update, r, count)
        expect(sum(u.rank() for u in rounds) == update.rank(), "the ranks of the rounds do not add up")
        if count:
            error = LowRank.combine([*rounds, update], [1.0] * count + [-1.0])
            expect(error.norm("frobenius") <= 4 * error.tolerance(), "the rounds do not add up to the update")

    for_all(real_updates, 40, update=updates(), r=st.integers(1, 4))
    rng = stream(2, "merge_and_reset")
    # the weakest direction is well above rounding, 1e-11 here, and well below a million times that
    witness = with_spectrum(rng, 12, 9, np.geomspace(1e3, 1e-6, 7))
    expect(rounds_needed(witness, 2) == 4 and rounds_needed(witness, 7) == 1, "rounds of the witness of rank 7")
    rounds = split_update(witness, 2, 4)
    gap = float(np.linalg.norm(sum(u.dense() for u in rounds) - witness) / np.linalg.norm(witness))
    expect(gap <= rank_tolerance((12, 9), 1.0), f"the rounds miss the witness by {gap}")
    expect(rounds_needed(np.zeros((3, 2)), 1) == 0 and split_update(np.zeros((3, 2)), 0, 0) == [], "nothing to reach")
    expect_mutant_rejected(
        lambda f: _merge_and_reset_body(f, split_update), lambda e, r: rounds_needed(e, r + 1), "one rank too many"
    )
    expect_mutant_rejected(
        lambda f: _merge_and_reset_body(rounds_needed, f), lambda e, r, t: split_update(e, r, t)[:-1], "a round less"
    )
    for function, arguments in ((rounds_needed, ()), (split_update, (3,))):
        expect_rejected("E", function, np.full((2, 2), np.nan), 1, *arguments)
        expect_rejected("E", function, np.ones(3), 1, *arguments)
        expect_rejected("r", function, np.eye(2), -1, *arguments)
    expect_rejected("r", rounds_needed, np.eye(2), 0)
    expect_rejected("rounds", split_update, np.eye(2), 1, -1)
    expect_rejected("E", split_update, np.eye(3), 1, 2)
    return Figure("gap of the sum of rounds to the target", gap, "relative")


# ---- spectral_concentration ----


@check("spectral_concentration")
def spectral_concentration_symbolic(code: Code) -> None:
    """The sums by induction with free symbols; the bracket of the power tail by convexity; r95 of i^-1 exactly."""
    import sympy

    q, n, r = sympy.symbols("q n r", positive=True)
    closed = q * (1 - q**n) / (1 - q)
    expect(sympy.simplify(closed.subs(n, n + 1) - closed - q ** (n + 1)) == 0, "geometric sum, step")
    expect(sympy.simplify(closed.subs(n, 0)) == 0, "geometric sum, start")
    lost = (closed - closed.subs(n, r)) / closed
    expect(sympy.simplify(lost - q**r * (1 - q ** (n - r)) / (1 - q**n)) == 0, "relative tail of e^{-ci}")
    share = sympy.symbols("t", positive=True)
    rank = sympy.log(1 - share * (1 - q**n)) / sympy.log(q)
    expect(sympy.simplify(1 - (1 - q**rank) / (1 - q**n) - (1 - share)) == 0, "the closed form of the rank")
    # x^-s is decreasing and convex: int_i^{i+1} <= i^-s <= int_{i-1/2}^{i+1/2} (Hermite-Hadamard), summed over i > r
    x, s, i = sympy.symbols("x s i", positive=True)
    expect(sympy.diff(x**-s, x).is_negative, "x^-s decreases")
    expect(sympy.diff(x**-s, x, 2).is_positive, "x^-s is convex")
    area = -(x ** (1 - s)) / (s - 1)
    expect(sympy.simplify(sympy.diff(area, x) - x**-s) == 0, "the integral of x^-s")
    for power in (2, 3, 4):  # the two gaps themselves, positive for i >= 1
        primitive = area.subs(s, power)
        upper = primitive.subs(x, i + sympy.Rational(1, 2)) - primitive.subs(x, i - sympy.Rational(1, 2)) - i**-power
        lower = i**-power - primitive.subs(x, i + 1) + primitive.subs(x, i)
        shift = sympy.symbols("j", nonnegative=True)
        for gap in (upper, lower):
            top, bottom = sympy.fraction(sympy.together(gap.subs(i, shift + 1)))
            coefficients = [*sympy.Poly(top, shift).coeffs(), *sympy.Poly(bottom, shift).coeffs()]
            expect(len({sympy.sign(c) for c in coefficients}) == 1, f"a bracket of i^-{power} has the wrong sign")
    total = sympy.pi**2 / 6
    tails = [total - sum(sympy.Rational(1, k * k) for k in range(1, m + 1)) for m in (11, 12)]
    expect(bool(tails[0] > total / 20) and bool(tails[1] <= total / 20), "12 directions keep 95 % of i^-1, 11 do not")
    expect(code.decay_rank("power", 1) == 12, "r95 of i^-1 as coded")
    # the code at rational spectra, 1/i and 1/i^2, and at e^{-i/2}, where the closed forms above are evaluated
    half = {q: sympy.exp(-1), n: 5}
    for k in range(6):
        for p in (1, 2):
            squares = [Fraction(1, i ** (2 * p)) for i in range(1, 6)]
            kept = float(sum(squares[k:], Fraction(0)) / sum(squares))
            got = code.decay_error("power", p, k, 5)
            expect_close(got**2, kept, 8 * EPS * kept, f"error of i^-{p} at rank {k}")
        want = float(lost.subs(half | {r: k}).evalf(30))
        got = code.decay_error("exponential", 0.5, k, 5)
        expect_close(got**2, want, 8 * EPS * want, f"error of e^(-i/2) at rank {k}")
        got = code.decay_error("power", 2, k, None, "spectral")
        expect_close(got, 1 / (k + 1) ** 2, 4 * EPS, f"spectral error of i^-2 at rank {k}")
    for keep in ("0.5", "0.72", "0.95", "0.999"):
        least = math.ceil(rank.subs(half | {share: sympy.Rational(keep)}).evalf(30))
        expect(code.decay_rank("exponential", 0.5, float(keep), 5) == least, f"rank of e^(-i/2) for {keep}")
        squares = [Fraction(x * x) for x in (5, 4, 2, 1)]
        least = next(k for k in range(5) if sum(squares[:k]) >= Fraction(keep) * sum(squares))
        expect(code.spectral_rank([1, 4, 5, 2], float(keep)) == least, f"rank of (5, 4, 2, 1) for {keep}")
    expect_entries(code.decay_spectrum("power", 2, 5), [Fraction(1, i * i) for i in range(1, 6)], 2 * EPS, "i^-2")
    decays = [Fraction(str(sympy.exp(-sympy.Rational(i, 2)).evalf(30))) for i in range(1, 6)]
    expect_entries(code.decay_spectrum("exponential", 0.5, 5), decays, 2 * EPS, "e^(-i/2)")
    # a facts update has rank at most the number of distinct answers: equal columns of D add nothing
    d = sympy.Matrix(3, 2, sympy.symbols("d:6"))
    expect((d * sympy.Matrix([[1, 0, 1], [0, 1, 0]])).det().expand() == 0, "three facts with two answers: rank 2")
    for answers, width in product(range(1, 6), repeat=2):  # distinct answers as points of the moment curve
        facts = [[(a % answers) ** i for a in range(7)] for i in range(width)]
        expect(code.saturation_point(answers, width) == exact_rank(facts), f"saturation at {answers, width}")


def _direct(decay: str, rate: float, n: int) -> list[Any]:
    """Squares of the n singular values, term by term, with 40 digits."""
    import mpmath

    with mpmath.workdps(40):
        if decay == "power":
            return [mpmath.mpf(i) ** (-2 * mpmath.mpf(rate)) for i in range(1, n + 1)]
        return [mpmath.exp(-2 * mpmath.mpf(rate) * i) for i in range(1, n + 1)]


_SHARES = ("0", "0.1", "0.48", "0.5", "0.72", "0.8", "0.9", "0.95", "0.99", "0.999", "1")


def _concentration_body(error: Callable[..., float], rank: Callable[..., int]) -> None:
    import mpmath

    def body(decay: str, rate: float, n: int, r: int, share: str) -> None:
        squares = _direct(decay, rate, n)
        with mpmath.workdps(40):
            total = mpmath.fsum(squares)
            want = mpmath.sqrt(mpmath.fsum(squares[r:]) / total)
            wanted = mpmath.mpf(share) * total * (1 - mpmath.mpf(10) ** -35)
            least = n if share == "1" else next(k for k in range(n + 1) if mpmath.fsum(squares[:k]) >= wanted)
            top = mpmath.sqrt(squares[r] / squares[0]) if r < n else mpmath.mpf(0)
        where = f"{decay} {rate}, n = {n}"
        expect_close(error(decay, rate, r, n, "frobenius"), float(want), 4 * EPS * float(want), f"error, {where}")
        # pow and exp of a rounded argument: a relative error of eps times the logarithm of the result
        room = (4 + 2 * rate * n) * EPS * float(top)
        expect_close(error(decay, rate, r, n, "spectral"), float(top), room, f"spectral error, {where}")
        expect(rank(decay, rate, float(share), n) == least, f"rank for {share}, {where}: expected {least}")

    for_all(
        body,
        60,
        decay=st.sampled_from(["power", "exponential"]),
        rate=st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0, 1.5, 3.0, 1e-6]),
        n=st.integers(1, 30),
        r=st.integers(0, 32),
        share=st.sampled_from(_SHARES),
    )
    # rates so near 0 that all values are as good as equal: ties, and the last of so many that nearly all digits cancel
    for decay, tiny, n in product(("power", "exponential"), (0.0, 1e-99), (20, 10**31)):
        for part in ("0.1", "0.7", "0.95"):
            least = math.ceil(Fraction(part) * n)
            expect(rank(decay, tiny, float(part), n) == least, f"rank for {part} of {n} equal values, {decay} {tiny}")
        expect_close(error(decay, tiny, 10**80, 10**80 + 1), 1e-40, 4 * EPS * 1e-40, f"last of 10^80, {decay} {tiny}")
    for decay, size in product(("power", "exponential"), (None, 5)):  # the first value holds it all, or more than asked
        expect(
            rank(decay, 1e45, 0.95, size) == rank(decay, 2.0, 1e-60, size) == 1, f"one direction, {decay}, n = {size}"
        )
    # infinite spectra: exact tails of zeta(2), a long direct sum for the exponential ones
    for r in (0, 1, 5, 11, 12, 40):
        head = sum((Fraction(1, k * k) for k in range(1, r + 1)), Fraction(0))
        with mpmath.workdps(40):
            want = float(mpmath.sqrt(1 - mpmath.mpf(head.numerator) / head.denominator * 6 / mpmath.pi**2))
        expect_close(error("power", 1.0, r), want, 4 * EPS * want, f"tail of zeta(2) after {r}")
        expect_close(error("power", 1.0, r, None, "spectral"), 1 / (r + 1), 4 * EPS / (r + 1), "spectral, infinite")
    for rate in (0.2, 0.9):
        squares = _direct("exponential", rate, 500)  # e^{-2 * 0.2 * 500} is far below eps
        with mpmath.workdps(40):
            for r in (0, 3, 10):
                want = float(mpmath.sqrt(mpmath.fsum(squares[r:]) / mpmath.fsum(squares)))
                expect_close(error("exponential", rate, r), want, 4 * EPS * want, "infinite exponential")
            least = next(k for k in range(500) if mpmath.fsum(squares[k:]) <= mpmath.fsum(squares) / 20)
        expect(rank("exponential", rate) == least, f"r95 of e^(-{rate} i): expected {least}")
    expect(rank("power", 1.0) == 12, "r95 of 1/i")
    slow = ((0.51, 0.1), (0.6, 0.95), (0.75, 0.5), (0.75, 0.8), (0.8, 0.95))
    for rate, share in (*slow, (1.5, 0.99), (2.0, 0.9), (4.0, 0.5)):
        found = rank("power", rate, share)
        with mpmath.workdps(40):  # sums up to 2000 and the Euler-Maclaurin tail beyond, as second oracle
            s = 2 * mpmath.mpf(rate)

            def tail(r: int, s: Any = s) -> Any:
                a = mpmath.mpf(max(r + 1, 2000))
                return (
                    mpmath.fsum(mpmath.mpf(k) ** -s for k in range(r + 1, 2000))
                    + a ** (1 - s) / (s - 1)
                    + (a**-s / 2 + s * a ** (-s - 1) / 12 - s * (s + 1) * (s + 2) * a ** (-s - 3) / 720)
                )

            allowed = (1 - mpmath.mpf(str(share))) * tail(0)
            expect(tail(found) <= allowed < tail(found - 1), f"rank for {share} of i^-{rate}: {found}")


@check("spectral_concentration")
def spectral_concentration_numeric() -> Figure:
    """Closed forms against term-by-term sums with 40 digits; spectral_rank against Fractions; mutants."""
    _concentration_body(decay_error, decay_rank)

    def brute(values: list[float], share: str, order: int) -> None:
        squares = sorted((Fraction(v) ** 2 for v in values), reverse=True)
        least = next(k for k in range(len(values) + 1) if sum(squares[:k]) >= Fraction(share) * sum(squares))
        mixed = stream(order, "order").permutation(np.array(values, dtype=float))
        expect(spectral_rank(mixed, float(share)) == least, f"spectral_rank of {values} at {share}")

    numbers = st.one_of(st.sampled_from([0.0, 0.1, 1.0, 2.0, 1e-160, 1e150]), st.floats(1e-6, 1e6))
    for_all(brute, 60, values=st.lists(numbers, max_size=9), share=st.sampled_from(_SHARES), order=seeds)
    worst = 0.0
    for decay, rate, n in product(("power", "exponential"), (0.3, 0.5, 1.0, 2.0), (1, 6, 25)):
        values = decay_spectrum(decay, rate, n)
        own = [i**-rate if decay == "power" else math.exp(-rate * i) for i in range(1, n + 1)]
        expect(values.shape == (n,), f"{values.shape} values for n = {n}")
        for got, want in zip(values, own, strict=True):
            expect_close(float(got), want, (4 + 2 * rate * n) * EPS * want, f"value of {decay} {rate}")
        for r in (0, 1, n - 1, n, n + 1):
            measured = floor_error(values, r, "frobenius") / floor_error(values, 0, "frobenius")
            want = decay_error(decay, rate, r, n)
            expect_close(measured, want, (8 + 4 * n * (1 + rate)) * EPS * want, "floor of the spectrum")
            worst = max(worst, abs(measured / want - 1) if want else 0.0)
        expect(spectral_rank(values, 0.95) == decay_rank(decay, rate, 0.95, n), f"r95 of {decay} {rate}, n = {n}")
    expect(decay_rank("power", 0.6) == 1829474 and decay_rank("exponential", 1e-9) == 1497866137, "slow decays")
    expect(decay_rank("exponential", 30.0, 1.0, 7) == 7 and decay_rank("power", 1.0, 0.0) == 0, "the ends")
    expect([saturation_point(40, 128), saturation_point(40, 16)] == [40, 16], "saturation of the toy worlds")
    expect_mutant_rejected(lambda f: _concentration_body(f, decay_rank), _error_squared, "error without the root")
    expect_mutant_rejected(
        lambda f: _concentration_body(decay_error, f), lambda *a: max(decay_rank(*a) - 1, 0), "a rank too few"
    )
    _concentration_rejects()
    return Figure("gap of closed form and direct floor", worst, "relative")


def _error_squared(*arguments: Any) -> float:
    return decay_error(*arguments) ** 2


def _concentration_rejects() -> None:
    for values in ([1.0, -1.0], [np.nan], [[1.0]], ["a"]):
        expect_rejected("singular_values", spectral_rank, values, 0.5)
    for energy in (-0.1, 1.1, math.nan, "half"):
        expect_rejected("energy", spectral_rank, [1.0], energy)
        expect_rejected("energy", decay_rank, "power", 1.0, energy)
    expect_rejected("energy", decay_rank, "power", 1.0, 1.0)
    expect_rejected("energy", decay_rank, "exponential", 1.0, 1.0)
    for function, rest in ((decay_spectrum, (3,)), (decay_error, (1,)), (decay_rank, ())):
        expect_rejected("decay", function, "linear", 1.0, *rest)
        expect_rejected("rate", function, "power", -1.0, *rest)
        expect_rejected("rate", function, "exponential", math.inf, *rest)
    for decay, rate in (("power", 0.5), ("exponential", 0.0)):
        expect_rejected("rate", decay_error, decay, rate, 1)
        expect_rejected("rate", decay_rank, decay, rate)
    expect_rejected("rate", decay_rank, "power", 0.54)  # x is about 1.15 * 2^53
    expect_rejected("n", decay_spectrum, "power", 1.0, 0)
    expect_rejected("n", decay_error, "power", 1.0, 1, 0)
    expect_rejected("n", decay_rank, "power", 1.0, 0.9, 0)
    expect_rejected("r", decay_error, "power", 1.0, -1)
    expect_rejected("norm", decay_error, "power", 1.0, 1, 5, "nuclear")
    expect_rejected("n_answers", saturation_point, 0, 1)
    expect_rejected("width", saturation_point, 1, 0)
