"""Merging: documented values and types, and laws that the checks do not already hold."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from theory.lowrank import LowRank
from theory.merging import (
    best_weights,
    dilution_limit,
    factor_average_error,
    least_weights,
    mask_share,
    surviving_facts,
)
from theory.numerics import stream


@pytest.mark.parametrize(
    ("gain", "deficit", "want"),
    [(10, 5, 1), (10, 4, 2), (5, 5, 0), (1, 5, 0), (-1, 5, 0), (3, 0, math.inf), (3, -1, math.inf), (0, 0, 0)],
)
def test_dilution_limit_by_hand(gain: float, deficit: float, want: float) -> None:
    found = dilution_limit(gain, deficit, "update")
    assert found == want
    assert type(found) is (float if want == math.inf else int)


def test_dilution_limit_is_exact_for_numbers_that_no_float_holds() -> None:
    assert dilution_limit(Fraction(5, 3), Fraction(1, 3)) == 4
    assert dilution_limit(5 / 3, 1 / 3) == 4  # 5/3 is rounded up, 1/3 down: as floats the quotient is above 5
    assert dilution_limit(2**70, 1) == 2**70 - 1


def test_time_does_not_grow_with_what_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One spectral norm for each update, however many facts; a factor average takes none and no decomposition."""
    rng = stream(3, "speed")
    parts = [LowRank(rng.standard_normal((40, 2)), rng.standard_normal((2, 30))) for _ in range(3)]
    taken, norm = [], np.linalg.norm

    def counted(x: Any, order: Any = None, **rest: Any) -> Any:
        taken.append(order)
        return norm(x, order, **rest)

    monkeypatch.setattr(np.linalg, "norm", counted)
    survive = surviving_facts(parts, rng.standard_normal((30, 50)), np.full(50, 1e9), [0] * 50)
    assert all(survive)
    assert taken.count(2) == len(parts)
    for name in ("svd", "qr", "cholesky", "norm"):
        monkeypatch.setattr(np.linalg, name, None)
    assert 0.5 < factor_average_error(parts, [1.0] * 3, "sqrt") < 5  # sqrt 2 for very wide ones


def test_best_weights_are_exact_numbers_and_say_what_is_wrong() -> None:
    best = best_weights(np.array([[4.0, -6.0], [-1.0, 9.0]]))
    assert all(type(x) is Fraction for x in (*best.weights, best.lead, best.ceiling, *best.mixture))
    assert [float(w) for w in best.weights] == pytest.approx([0.75, 0.25])
    assert float(best.ceiling) == pytest.approx(1.5)
    with pytest.raises(ValueError, match=r"leads: expected rows of one length, at least one entry, got \[1, 2\]"):
        best_weights([[1.0], [1.0, 2.0]])


def test_what_each_adapter_needs() -> None:
    assert least_weights([4, 8, 1], [1, 4, -3], [0, 0, 1], 3) == [Fraction(1, 2), 0, 0]
    # one quotient for all: three adapters of gain 10 over 3 are kept, by the uniform mean as well, four are not
    assert sum(least_weights([10] * 3, [3] * 3, range(3), 3)) < 1 <= sum(least_weights([10] * 4, [3] * 4, range(4), 4))
    assert dilution_limit(10, 3) == 3
    with pytest.raises(ValueError, match="gains: expected positive numbers, got 0"):
        least_weights([0], [1], [0], 1)


def test_the_scale_of_an_adapter_that_was_trained_under_masks() -> None:
    assert mask_share(Fraction(3, 10), Fraction(3, 10)) == Fraction(49, 100)
    assert mask_share(0, 0.5) == Fraction(1, 2)
    with pytest.raises(ValueError, match=r"rate_out: expected a probability in \[0, 1\], got 30"):
        mask_share(30)
