"""Behaviour of theory.few_numbers beyond its checks: documented values, types and messages."""

import pytest

from theory.additive import additive_ceiling
from theory.few_numbers import affine_ceiling, affine_patterns, composing_factors, factor_numbers, factor_ranks
from theory.merging import factor_average


def test_documented_values() -> None:
    assert (affine_patterns(3, 2, 1), affine_patterns(2, 3, 1), affine_patterns(4, 2, 9)) == (4, 7, 16)
    assert (factor_numbers(10, 1), factor_numbers(10, 0)) == (19, 9)
    assert factor_ranks(1000, 10) == (500, 500, 43)
    assert factor_ranks(3, 2)[:2] == (1, 2)
    for r, ceiling in ((1, 0.2836), (4, 0.4061), (16, 0.6932)):  # of 1000 bridges with 10 values
        assert ceiling - 1e-4 < affine_ceiling(1000, 10, factor_numbers(10, r)) < ceiling


def test_a_sum_seen_through_its_offsets_is_bounded_more_loosely() -> None:
    for n, m in ((10, 3), (100, 10), (1000, 2)):
        assert additive_ceiling(n, m) <= affine_ceiling(n, m, m - 1) < 1


def test_types() -> None:
    assert type(affine_ceiling(5, 2, 1)) is type(affine_ceiling(5, 2, 5)) is float
    assert all(type(x) is int for x in (*factor_ranks(4, 3), affine_patterns(3, 3, 2), factor_numbers(2, 2)))


def test_bridges_beyond_the_rank_get_the_first_value() -> None:
    for table in ((1, 1, 1), (0, 1, 0)):
        base, first, second = composing_factors(2, table, 2, 1)
        logits = base + factor_average([first, second], [1.0, 1.0], "plain").dense()[:, 0]
        assert logits[0] > logits[1]


def test_messages() -> None:
    with pytest.raises(ValueError, match="d: expected an integer >= 0, got -1"):
        affine_ceiling(5, 2, -1)
    with pytest.raises(ValueError, match="table: expected entries below 2, got 2"):
        composing_factors(0, (2, 0), 2, 1)
