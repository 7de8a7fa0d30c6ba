"""Facts: documented values and types, and laws that the checks do not already hold."""

import math

import numpy as np
import pytest

from theory.facts import (
    capacity_ceiling,
    circle_margin,
    counting_bound,
    least_rank,
    margin_rank_floor,
    random_code_eps,
)


def test_keys_of_very_different_size_are_separate_facts() -> None:
    keys = np.diag([1e-150, 1.0, 1e150])
    got = least_rank(keys, keys)
    assert (got.feasible, got.rank) == (True, 3)


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match=r"^D: expected 3 columns, one per key, got 2 columns$"):
        least_rank(np.ones((2, 3)), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"^eps: expected a number >= 0, got -1$"):
        margin_rank_floor(3, -1)
    with pytest.raises(ValueError, match=r"^log_hypotheses: expected a number >= 0, got -0\.5$"):
        counting_bound(-0.5, 3, 3)
    with pytest.raises(ValueError, match=r"^n_values: expected an integer >= 1, got 0$"):
        capacity_ceiling(3, 3, 0)


def test_counting_bound_does_not_overflow() -> None:
    assert counting_bound(1e300, 10**5, 10) == 1.0
    assert counting_bound(0.0, 10**6, 3) == 1 / 3
    assert 0 < counting_bound(1e4, 10**5, 10**400) < 0.1


def test_integers_beyond_the_range_of_floats() -> None:
    huge = 10**400
    assert circle_margin(huge) == 0.0
    assert 0 <= random_code_eps(3, huge) * 1e200 / math.sqrt(4 * math.log(3)) - 1 < 1e-14  # and not below it
    assert random_code_eps(3, huge**2) == math.ulp(0.0)
    assert random_code_eps(huge, 3) == pytest.approx(math.sqrt(4 * 400 * math.log(10) / 3), rel=1e-14)
