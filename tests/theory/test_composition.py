"""Behaviour of theory.composition beyond its checks: documented types, known values, independent oracles."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.additive import (
    additive_ceiling,
)
from theory.checks.strategies import conditioned, conditions, scales, seeds, shapes
from theory.composition import aligned_answer, bridge_alignment, chain_of_thought, coverage_law
from theory.lowrank import LowRank
from theory.numerics import EPS, stream
from theory.one_layer import one_layer_edit, one_layer_model, relu_key_cosine
from theory.stack import PLACEMENTS, place_edits, two_layer_stack

probabilities = st.floats(0, 1)


# ---- one_layer_composition ----


@given(size=shapes(), seed=seeds, scale=scales)
@settings(max_examples=40, deadline=None)
def test_one_layer_edit_is_the_pseudo_inverse_solution(size: tuple[int, int], seed: int, scale: float) -> None:
    out, in_ = size
    rng = stream(seed, "edit")
    w, key, target = rng.standard_normal((out, in_)), scale * rng.standard_normal(in_), rng.standard_normal(out)
    update = one_layer_edit(w, key, target)
    assert isinstance(update, LowRank)
    assert update.columns == 1
    wanted = np.outer(target - w @ key, np.linalg.pinv(key[:, None]))
    # both evaluate in + 4 roundings per entry, against the size of what is subtracted
    size_of = float((np.linalg.norm(target) + np.linalg.norm(w) * np.linalg.norm(key)) / np.linalg.norm(key))
    assert np.abs(update.dense() - wanted).max() <= 8 * (in_ + 4) * EPS * size_of


def test_one_layer_edit_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"key: expected a key that is not zero, got zero"):
        one_layer_edit(np.eye(2), [0.0, 0.0], [1.0, 0.0])


def test_gaussian_relu_keys_have_the_stated_cosines() -> None:
    rng = stream(4, "cosine")
    hidden = np.maximum(rng.standard_normal((40_000, 2)) @ np.array([[1.0, 0.5], [0.0, math.sqrt(0.75)]]), 0.0)
    cosine = hidden[:, 0] @ hidden[:, 1] / (np.linalg.norm(hidden[:, 0]) * np.linalg.norm(hidden[:, 1]))
    assert abs(cosine - relu_key_cosine(0.5)) < 5 * 2 / math.sqrt(40_000)  # five standard errors of a ratio of means
    assert abs(relu_key_cosine(0.0) - 1 / math.pi) <= 2 * EPS


def test_model_writes_nothing_for_no_facts() -> None:
    model = one_layer_model(5, 4, 8, stream(0, "empty"))
    assert model.write([], []).columns == 0


# ---- bridge_alignment ----


@given(size=shapes(), seed=seeds, condition=conditions)
@settings(max_examples=40, deadline=None)
def test_alpha_agrees_with_least_squares(size: tuple[int, int], seed: int, condition: float) -> None:
    rng = stream(seed, "alpha")
    k, psi = conditioned(rng, *size, condition), rng.standard_normal(size[0])
    found = bridge_alignment(k, psi)
    assert type(found.full_rank) is bool
    wanted = np.linalg.lstsq(k, psi, rcond=None)[0]
    # two backward stable solvers: cond^2 times the residual (Higham, Theorem 20.1), norms of k at most one
    assert np.abs(found.alpha - wanted).max() <= 64 * max(size) * EPS * condition**2 * (1 + np.linalg.norm(psi))


def test_aligned_answer_returns_python_numbers() -> None:
    found = aligned_answer(np.eye(2), [1.0, 0.0], [0.0, 0.5], 0, 0)
    assert found == (1.0, 1.0, 0.5, 0.5, True)
    assert [type(x) for x in found] == [float, float, float, float, bool]


# ---- layer_order ----


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_only_the_right_placements_compose_for_every_person(placement: str) -> None:
    stack = two_layer_stack(bridges=3, values=3, people=3)
    p, q = [2, 0, 1], [1, 2, 0]
    placed = place_edits(stack, p, q, placement)
    answers = [int(stack.placed(stack.prompt("two_hop", i), placed)[3:].argmax()) for i in range(3)]
    right = answers == [q[j] for j in p]
    assert right == (placement in ("early_late", "early_early_memory", "late_early_memory"))
    for i in range(3):
        assert stack.placed(stack.prompt("first", i), placed)[:3].argmax() == p[i]
        assert stack.placed(stack.prompt("second", i), placed)[3:].argmax() == q[i]


def test_an_early_table_needs_a_reader() -> None:
    stack = two_layer_stack(2, 2, frozen_gates=False)
    placed = place_edits(stack, [1], [0, 1], "early_early_memory")
    assert not stack.placed(stack.prompt("two_hop", 0), placed)[2:].any()


# ---- coverage_law and chain_of_thought ----


@given(share=st.tuples(probabilities, probabilities, probabilities), m=st.integers(1, 1000))
def test_coverage_band_is_ordered(share: tuple[float, float, float], m: int) -> None:
    found = coverage_law(*share, m)
    assert 0 <= found.low <= found.high <= 1
    assert [type(x) for x in found] == [float, float]


def test_coverage_law_says_what_it_expected() -> None:
    with pytest.raises(ValueError, match=r"p2: expected a share in \[0, 1\], got 1.5"):
        coverage_law(0.5, 0.5, 1.5, 3)


@given(s1=probabilities, s2=probabilities)
def test_chain_bound_is_below_the_independent_value(s1: float, s2: float) -> None:
    found = chain_of_thought(s1, s2)
    assert 0 <= found.lower <= found.independent + EPS <= min(s1, s2) + 2 * EPS
    assert [type(x) for x in found] == [float, float]


def test_chain_of_thought_examples() -> None:
    assert chain_of_thought(1, 1) == (1.0, 1.0)
    assert chain_of_thought(0.5, 0.5) == (0.0, 0.25)


def test_a_late_joint_edit_of_two_facts_reads_with_both_signs_and_composes() -> None:
    """What limits a late first hop of one fact does not limit the joint edit of several, ReLU or not."""
    keys = np.array([[1.0, 50.0], [0.0, 50.0]])  # as columns, non-negative
    features = {(0, 1): [1.0, 0.0], (1, 0): [0.0, 1.0], (0, 0): [0.0, 0.0], (1, 1): [0.0, 0.0]}
    reading = {q: np.linalg.pinv(keys) @ f for q, f in features.items()}
    assert min(r[0] for r in reading.values()) < 0 < max(r[0] for r in reading.values())
    right = 0
    for q, p, another in product(features, (0, 1), (0, 1)):
        # value 0 against value 1: what the late edit adds for both facts, and what the early second hop writes itself
        late = reading[q] @ np.array([1 - 2 * p, 1 - 2 * another])
        early = 0.0 if q[0] != q[1] else 1.0 - 2 * q[0]
        right += int((late + early > 0) == (q[p] == 0))
    assert right == 16
    assert additive_ceiling(2, 2) < 16 / 16
