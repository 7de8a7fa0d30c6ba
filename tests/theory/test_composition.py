"""Behaviour of theory.composition beyond its checks: documented types, known values, messages."""

import numpy as np
import pytest

from theory.composition import (
    aligned_answer,
    bridge_alignment,
    bridge_room,
    chain_of_thought,
    coverage_law,
    few_writings_ceiling,
)
from theory.one_layer import one_layer_edit


def test_one_layer_edit_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"key: expected a key that is not zero, got zero"):
        one_layer_edit(np.eye(2), [0.0, 0.0], [1.0, 0.0])


def test_returned_numbers_are_python_numbers() -> None:
    assert type(bridge_alignment(np.eye(2), [1.0, 0.0]).full_rank) is bool
    assert [type(x) for x in (*coverage_law(1, 0, 1, 3), *chain_of_thought(0, 1))] == [float] * 4
    found = aligned_answer(np.eye(2), [1.0, 0.0], [0.0, 0.5], 0, 0)
    assert found == (1.0, 1.0, 0.5, 0.5, True)
    assert [type(x) for x in found] == [float, float, float, float, bool]


# ---- coverage_law and chain_of_thought ----


def test_coverage_law_says_what_it_expected() -> None:
    with pytest.raises(ValueError, match=r"p2: expected a share in \[0, 1\], got 1.5"):
        coverage_law(0.5, 0.5, 1.5, 3)


def test_coverage_law_with_more_values_than_a_float_counts() -> None:
    low, high = coverage_law(0.5, 0.5, 0.5, 10**400)
    assert low == high == 0.125


def test_chain_of_thought_examples() -> None:
    assert chain_of_thought(1, 1) == (1.0, 1.0)
    assert chain_of_thought(0.5, 0.5) == (0.0, 0.25)


def test_few_writings_ceiling_is_a_share_between_guessing_and_all() -> None:
    assert few_writings_ceiling(1, 40, 10) == 0.1
    assert few_writings_ceiling(2**4096, 100, 10) == 1.0
    assert type(few_writings_ceiling(7, 5, 3)) is float
    with pytest.raises(ValueError, match="writings: expected an integer >= 1, got 0"):
        few_writings_ceiling(0, 5, 3)


def test_room_of_a_bridge_is_the_distance_to_the_first_boundary() -> None:
    room = bridge_room([[3.0, 4.0], [0.0, 0.0], [3.0, 0.0]], [1.0, 1.0], [0.0, 2.0, -6.0], 0)
    assert type(room) is float
    assert room <= 1.0 == pytest.approx(room, rel=1e-14)  # (7 - 2) / 5, nearer than (4 + 6) / 4
    assert bridge_room(np.eye(2), [0.0, 1.0], [0.0, 0.0], 0) == 0.0
    with pytest.raises(ValueError, match="changes: expected at least 2 rows, got 1"):
        bridge_room([[1.0]], [1.0], [0.0], 0)
