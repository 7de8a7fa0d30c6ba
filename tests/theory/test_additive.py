"""Behaviour of theory.additive beyond its checks: documented types and values, ends of the range, messages."""

from __future__ import annotations

import numpy as np
import pytest

from theory.additive import (
    additive_optimum,
    affine_ceiling,
    affine_patterns,
    composing_factors,
    composing_rank,
    escape_rank,
    factor_numbers,
    interaction_split,
    monotone_score,
)
from theory.merging import factor_average


def test_the_longest_subsequences_of_a_long_word_over_two_letters() -> None:
    assert monotone_score(400, 2) == additive_optimum(400, 2)  # 22 seconds where whole lengths were followed


def test_interaction_split_keeps_shapes_and_takes_no_queries() -> None:
    none = np.zeros((0, 3))
    empty = interaction_split(none, none, none, none, [])
    assert empty.additive.shape == (0, 3)
    assert empty.certified.shape == (0,)


def test_documented_values_of_factor_averages() -> None:
    assert (affine_patterns(3, 2, 1), affine_patterns(2, 3, 1), affine_patterns(4, 2, 9)) == (4, 7, 16)
    assert (factor_numbers(10, 1), factor_numbers(10, 0)) == (19, 9)
    assert (composing_rank(1000), composing_rank(3), composing_rank(2)) == (500, 1, 1)
    assert (escape_rank(1000, 10), escape_rank(2, 2)) == (42, 1)
    for r, ceiling in ((1, 0.2836), (4, 0.4061), (16, 0.6932)):  # of 1000 bridges with 10 values
        assert ceiling - 1e-4 < affine_ceiling(1000, 10, factor_numbers(10, r)) < ceiling


def test_types_of_factor_averages() -> None:
    assert type(affine_ceiling(5, 2, 1)) is type(affine_ceiling(5, 2, 5)) is float
    assert all(
        type(x) is int for x in (composing_rank(4), escape_rank(4, 3), affine_patterns(3, 3, 2), factor_numbers(2, 2))
    )


def test_thousands_of_values_are_told_apart() -> None:
    for table in ((5, 1999, 1998), (7, 0, 0), (1000, 1000, 999)):
        for bridge, answer in enumerate(table):
            base, first, second = composing_factors(bridge, table, 2000, 1)
            logits = base + factor_average([first, second], [1.0, 1.0], "plain").dense()[:, 0]
            assert int(np.argmax(logits)) == answer


def test_messages_of_factor_averages() -> None:
    with pytest.raises(ValueError, match="d: expected an integer >= 0, got -1"):
        affine_ceiling(5, 2, -1)
    with pytest.raises(ValueError, match="table: expected entries below 2, got 2"):
        composing_factors(0, (2, 0), 2, 1)
