"""One convention for floats: what they stand for is taken on the safe side, and bounds are rounded outwards."""

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from theory.adapters import merge_rounding_bound
from theory.additive import additive_ceiling, additive_optimum, affine_ceiling
from theory.composition import bridge_room, few_writings_ceiling
from theory.facts import (
    capacity_ceiling,
    counting_bound,
    counting_threshold,
    margin_rank_floor,
    random_code_eps,
)
from theory.lowrank import LowRank
from theory.merging import dilution_limit, interference_bound, surviving_facts
from theory.numerics import above, below, stream


def test_floats_stand_for_what_their_format_rounds_to_them() -> None:
    for kind in (float, np.float64, np.float32, np.float16):
        x = kind(0.3)
        assert below(x, "x") < Fraction(3, 10) < above(x, "x")
        assert above(x, "x") - below(x, "x") <= 4 * Fraction(float(np.spacing(x)))
    plain: tuple[Any, ...] = (3, Fraction(1, 3), 0, 0.0, -0.0, np.int64(7))
    for exact in plain:
        assert above(exact, "x") == below(exact, "x") == Fraction(exact)
    wide = np.longdouble(1) / np.longdouble(3)  # as a float64 it is below a third
    assert below(wide, "x") < Fraction(1, 3) < above(wide, "x")
    assert above(-0.3, "x") > Fraction(-3, 10) > below(-0.3, "x")
    assert above(1.7e308, "x") > below(1.7e308, "x")
    assert above(np.finfo(float).max, "x") == Fraction(np.finfo(float).max)
    with pytest.raises(ValueError, match="x: expected a finite number, got nan"):
        above(math.nan, "x")


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, np.longdouble])
def test_ties_that_floats_stand_for_are_not_won(kind: type) -> None:
    # .3 over .1 is 3, which three adapters only tie; as floats the quotient is above or below 3 by chance
    assert dilution_limit(kind(0.3), kind(0.1)) == 2
    assert dilution_limit(kind(0.1) * kind(3), kind(0.1)) == 2
    assert dilution_limit(kind(0.35), kind(0.1)) == 3
    assert margin_rank_floor(10, kind(1) / kind(3)) <= margin_rank_floor(10, Fraction(1, 3))


def _rational(x: mpf) -> Fraction:
    sign, mantissa, exponent, _ = x._mpf_
    return (-1) ** sign * Fraction(mantissa) * Fraction(2) ** exponent


def _tails(n: int, m: int) -> list[Fraction]:
    weights = [math.comb(n, j) * (m - 1) ** (n - j) for j in range(n + 1)]
    return [Fraction(sum(weights[k:]), m**n) for k in range(1, n + 1)]


def _ceilings() -> Iterator[tuple[str, float, Fraction]]:
    """Name, bound, and its exact value (or one from below, by 60 digits) for many sizes."""
    rng = stream(41, "outward")
    for n, m in [(1, 2), (2, 2), (3, 3), (7, 5), (20, 2), (40, 10), (90, 7), (200, 3)]:
        tails = _tails(n, m)
        for hypotheses in (2, 3, 17, 10**6, 3**40):
            exact = sum((min(Fraction(1), hypotheses * t) for t in tails), Fraction(0)) / n
            yield f"writings {hypotheses} {n} {m}", few_writings_ceiling(hypotheses, n, m), exact
        for bits in (1, 5, 64, 300):
            exact = sum((min(Fraction(1), 2**bits * t) for t in tails), Fraction(0)) / n
            yield f"bits {bits} {n} {m}", capacity_ceiling(bits, n, m), exact
        for log_g in (0.5, 3.7, 40.0):
            size = _rational(mp.exp(mpf(log_g))) * (1 - Fraction(1, 10**50))
            exact = sum((min(Fraction(1), size * t) for t in tails), Fraction(0)) / n
            yield f"counting {log_g} {n} {m}", counting_bound(log_g, n, m), exact
        if n > 1:
            first = 1 + (Fraction(math.comb(n, 2) * math.comb(m + 1, 2), m**2))  # k = 2 at j = 1
            yield f"affine {n} {m}", affine_ceiling(n, m, n + 1), Fraction(1)
            assert additive_ceiling(n, m) <= min(1.0, float(first / n)) + 1e-12
    for n in (2, 3):
        for m in (*range(2, 40), 10**400):
            yield f"additive {n} {m}", additive_ceiling(n, m), additive_optimum(n, m)
    for n, r, failure in ((2, 1, 1.0), (1000, 64, 0.01), (50257, 768, 1e-9)):
        square = _rational((4 * mp.log(n) - 2 * mp.log(mpf(failure))) / r)
        yield f"codes {n} {r}", float(Fraction(random_code_eps(n, r, failure)) ** 2 / square), 1 - Fraction(1, 10**15)
    for width in (1, 5, 200):
        b, a, key = rng.standard_normal((width, 1)), rng.standard_normal((1, width)), rng.standard_normal(width)
        exact = sum((Fraction(x) ** 2 for x in b[:, 0].tolist()), Fraction(0))
        read = sum((Fraction(x) * Fraction(y) for x, y in zip(a[0].tolist(), key.tolist(), strict=True)), Fraction(0))
        bound = interference_bound([LowRank(b, a, 0.7)], key)[0]
        yield f"interference {width}", float(Fraction(bound) ** 2 / (Fraction(0.7) ** 2 * exact * read**2)), Fraction(1)
        W, inputs = np.abs(rng.standard_normal((1, width))), np.abs(key)
        plain = merge_rounding_bound(W, LowRank(np.zeros((1, 0)), np.zeros((0, width))), inputs, "float32")[0]
        u = Fraction(1, 2**24)
        sums = sum((Fraction(p) * Fraction(q) for p, q in zip(W[0], inputs, strict=True)), Fraction(0))
        yield f"rounding {width}", float(plain), 2 * ((1 + u) ** (width + 4) - 1) * sums


def test_ceilings_are_never_below_their_exact_value() -> None:
    with mp.workdps(60):
        found = list(_ceilings())
    assert len(found) > 160
    wrong = [name for name, bound, exact in found if Fraction(bound) < exact]
    assert not wrong
    assert all(Fraction(bound) <= exact * (1 + Fraction(1, 10**11)) + Fraction(1, 10**12) for _, bound, exact in found)


def test_thresholds_are_never_below_their_exact_value() -> None:
    ties = 0
    for n, m in product(range(1, 8), range(2, 6)):
        tails = _tails(n, m)
        for tail in tails:
            for level in (math.nextafter(float(tail), 0.0), float(tail)):
                least = next((k for k, t in enumerate(tails, 1) if t <= Fraction(level)), n + 1)
                found = counting_threshold(0.0, n, m, level)
                assert least <= found <= least + 1, (n, m, level)
                ties += found > least
        assert counting_threshold(0.0, n, m, float(tails[-1]) * (1 + 1e-12)) == n
    assert ties > 0


def test_certificates_are_never_beyond_their_exact_value() -> None:
    # the room is 5 / 5, the margin that survives sqrt(2) 5: both are ends, at which nothing is certain
    assert bridge_room([[3.0, 4.0], [0.0, 0.0]], [0.0, 0.0], [5.0, 0.0], 0) < 1
    # rows that differ by far less than they are large: the room is 1 / x
    assert all(
        0.9999 < bridge_room([[1e300, x], [1e300, 0.0]], [0.0, 0.0], [1.0, 0.0], 0) * x < 1 for x in (1e-20, 3e-20)
    )
    assert bridge_room([[1.7e308], [-1.7e308]], [1.0], [0.0, 0.0], 0) == 0.0
    update = LowRank([[3.0], [4.0]], [[1.0]])
    edge = 5 * math.sqrt(2)
    for margin, certain in ((edge * (1 - 1e-15), False), (edge, False), (edge * (1 + 1e-13), True)):
        assert surviving_facts([update, LowRank([[0.0], [0.0]], [[1.0]])], [[1.0]], [margin], [1]) == [certain]
