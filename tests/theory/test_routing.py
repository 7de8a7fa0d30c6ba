"""Routing: documented values, types and errors, and the largest load at its ends."""

import math
from fractions import Fraction

import numpy as np
import pytest

from theory.lowrank import LowRank
from theory.routing import LARGEST_N, gated_merge_error, maxload, oracle_ceiling


def test_ends() -> None:
    assert maxload(7, 1) == 7.0
    assert maxload(1, 7) == 1.0
    assert maxload(3, 10**400) == 1.0
    assert oracle_ceiling(1, 5) == 1.0
    assert oracle_ceiling(40, 1) == 1.0
    # two bins, in closed form, at the largest n; 1e-12 is the relative error that is documented
    n = LARGEST_N
    exact = Fraction(n, 2) + Fraction(n * math.comb(n - 1, n // 2), 2**n)
    assert abs(Fraction(maxload(n, 2)) / exact - 1) <= 1e-12


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"^n: expected at most 100000, got 100001$"):
        oracle_ceiling(LARGEST_N + 1, 10)
    with pytest.raises(ValueError, match=r"^m: expected an integer >= 1, got 0$"):
        oracle_ceiling(10, 0)
    with pytest.raises(ValueError, match=r"^bystanders: expected an integer >= 0, got -1$"):
        oracle_ceiling(10, 10, -1)


def test_merging_an_instance_wise_adapter() -> None:
    experts = [LowRank(np.eye(4)[:, [k]], np.eye(4)[[k]]) for k in range(4)]
    uniform = np.full((3, 4), 0.25)
    assert gated_merge_error(experts, uniform) == pytest.approx(3.0)  # four times too strong
    assert gated_merge_error(experts, uniform, uniform[0]) == 0.0
    pointed = np.eye(4)  # every context has an expert of its own
    assert gated_merge_error(experts, pointed, pointed.mean(axis=0)) == pytest.approx(math.sqrt(0.75))
    with pytest.raises(ValueError, match="gates: expected 4 columns, one per update, got 3"):
        gated_merge_error(experts, np.eye(3))
