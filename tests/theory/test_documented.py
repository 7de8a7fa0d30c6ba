"""What the docstrings of the topics promise beyond what the checks hold: values, of their types, and messages."""

import math
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

from theory import adapters, additive, approximation, composition, continual, facts, merging, networks, routing
from theory.lowrank import LowRank
from theory.networks import Block, TransformerWeights
from theory.one_layer import one_layer_edit

TENTH: Any = np.float32(0.1)
HALF, NONE, EYE = Fraction(1, 2), np.zeros((0, 3)), np.eye(2)
ZERO, LOW = np.zeros(2), np.diag([1.0, 0.0])
ONE = LowRank([[1.0]], [[1.0]])
WIDE = LowRank(np.ones((3, 2)), np.ones((2, 4)))
TARGET = [(np.diag([5.0, 3.0]), ZERO)]
IRREGULAR = "expected a layer regular to working precision, got one of reciprocal condition 0 and a product off by"
FIRST_STEPS = list(product(("sgd", "adam"), ("norm", "loss"), (False, True)))

VALUES: list[tuple[Callable[[], object], object]] = [
    # a usual layer
    (lambda: adapters.parameter_count(4096, 4096, 16), 131072),
    (lambda: adapters.rank_set_dimension(4096, 4096, 16), 131072 - 256),
    (lambda: [adapters.largest_saving_rank(n, n) for n in (4096, 1)], [2047, 0]),
    (lambda: adapters.adapter_scale(16, 64, rslora=True), 2.0),
    (lambda: adapters.regauge(LowRank([[1.0], [2.0]], [[3.0, 4.0]], 0.5), [[2.0]]).shape, (2, 2)),
    (
        lambda: [adapters.first_step_power(*step) for step in FIRST_STEPS],
        [-3 * HALF, -HALF, -2 * HALF, 0 * HALF, -HALF, 0 * HALF, 0 * HALF, HALF],
    ),
    # averages of factors
    (lambda: [additive.affine_patterns(*x) for x in ((3, 2, 1), (2, 3, 1), (4, 2, 9))], [4, 7, 16]),
    (lambda: [additive.factor_numbers(10, r) for r in (1, 0)], [19, 9]),
    (lambda: [additive.composing_rank(n) for n in (1000, 3, 2)], [500, 1, 1]),
    (lambda: [additive.escape_rank(1000, 10), additive.escape_rank(2, 2)], [42, 1]),
    (lambda: additive.affine_ceiling(5, 2, 5), 1.0),
    (lambda: additive.monotone_score(400, 2), additive.additive_optimum(400, 2)),  # not 22 seconds, lengths by lengths
    (lambda: [x.shape for x in additive.interaction_split(NONE, NONE, NONE, NONE, [])], [(0, 3), (0, 3), (0,), (0,)]),
    # floors, ranks, decays
    (lambda: [approximation.deep_linear_floor([np.eye(4)] * 2, np.diag([9.0, 5.0, 3.0, 2.0]), r) for r in range(4)],
     [8.0, 2.0, 0.0, 0.0]),
    (lambda: approximation.floor_error([1.0, 3.0, 2.0], 1), 2.0),
    (lambda: approximation.floor_error([3.0, 4.0], 0, "frobenius"), 5.0),
    (lambda: [approximation.floor_error(x, 0) for x in (np.zeros((0, 2)), [], ONE)], [0.0, 0.0, 1.0]),
    (lambda: approximation.deep_linear_adapters([EYE], np.ones((2, 2)), 0)[0].columns, 0),
    (lambda: [u.columns for u in approximation.deep_linear_adapters([LOW] * 3, LOW, 2)],
     [0, 0, 0]),  # a target that needs no update asks nothing of the layers
    (lambda: approximation.rounds_needed(EYE, 1), 2),
    (lambda: approximation.decay_rank("power", 1.0), 12),
    (lambda: approximation.decay_rank("exponential", 0.1), 15),
    (lambda: approximation.decay_rank("exponential", 0.0, 0.95, 20), 19),
    (lambda: approximation.decay_rank("power", 0.5, 0.48, 4), 1),  # 1 of 25/12: a tie that floats cannot see
    (lambda: approximation.decay_error("power", 1.0, 0), 1.0),
    (lambda: approximation.decay_error("power", 2.0, 1, norm="spectral"), 0.25),
    (lambda: approximation.decay_error("power", 2.0, 5, 5), 0.0),
    (lambda: approximation.decay_error("power", 0.5, 10**400, norm="spectral"), 1e-200),
    (lambda: approximation.decay_error("exponential", 1e-3, 10**400, norm="spectral"), 0.0),
    (lambda: [approximation.spectral_rank([1.0] * 10, x) for x in (0.1, float(TENTH), TENTH)],
     [1, 2, 1]),  # the last prints as one tenth
    (lambda: [approximation.spectral_rank([], 0.95), approximation.spectral_rank([0.0], 1.0)], [0, 0]),
    (lambda: approximation.saturation_point(40, 128), 40),
    (lambda: approximation.decay_spectrum("power", 1.0, 3).tolist(), [1.0, 0.5, 1 / 3]),
    # composition
    (lambda: composition.bridge_alignment(EYE, [1.0, 0.0]).full_rank, True),
    (lambda: [*composition.aligned_answer(EYE, [1.0, 0.0], [0.0, 0.5], 0, 0)], [1.0, 1.0, 0.5, 0.5, True]),
    (lambda: [*composition.coverage_law(0.5, 0.5, 0.5, 10**400)], [0.125, 0.125]),
    (lambda: [*composition.coverage_law(1, 0, 1, 2)], [0.0, 0.5]),
    (lambda: [*composition.chain_of_thought(1, 1)], [1.0, 1.0]),
    (lambda: [*composition.chain_of_thought(0.5, 0.5)], [0.0, 0.25]),
    (lambda: composition.few_writings_ceiling(1, 40, 10), 0.1),
    (lambda: composition.few_writings_ceiling(2**4096, 100, 10), 1.0),
    (lambda: composition.bridge_room(EYE, [0.0, 1.0], [0.0, 0.0], 0), 0.0),
    # rounds
    (lambda: [continual.round_dilution(*x) for x in ((4, 1), (2, 10), (3, 0))],
     [Fraction(1, 4), 1 - Fraction(1, 2**10), 0 * HALF]),
    (lambda: continual.rounds_to_answer(14.4, 8.2, 4), 3),
    (lambda: [continual.rounds_to_answer(1.0, x, 5) for x in (0.0, -0.5)], [1, 0]),  # a tie is no answer
    (lambda: continual.rounds_to_answer(1, 2, 5), math.inf),
    (lambda: continual.rounds_to_answer(10**400, 10**399, 2), 1),
    (lambda: continual.rounds_to_answer(Fraction(10**30 + 1, 10**30), 1, 3), 171),  # 30 ln 10 / ln 1.5 = 170.4
    (lambda: [continual.telescoping_rank(4, 8, 1000, reset=x) for x in (False, True)], [32, 32_000]),
    (lambda: continual.exposures(Fraction(1, 4), 32, 200, 1380), Fraction(80, 69)),
    (lambda: continual.exposures(0.5, 2, 3, 1), Fraction(3)),
    # facts
    (lambda: facts.least_rank(np.diag([1e-150, 1.0, 1e150]), np.diag([1e-150, 1.0, 1e150]))[:2], (True, 3)),
    (lambda: facts.counting_bound(1e300, 10**5, 10), 1.0),
    (lambda: facts.counting_bound(0.0, 10**6, 3), 1 / 3),
    (lambda: facts.circle_margin(10**400), 0.0),
    (lambda: facts.random_code_eps(3, 10**800), math.ulp(0.0)),
    # merging
    (lambda: [merging.dilution_limit(*x) for x in ((10, 5), (10, 4), (5, 5), (1, 5), (-1, 5), (0, 0))],
     [1, 2, 0, 0, 0, 0]),
    (lambda: [merging.dilution_limit(3, x, "update") for x in (0, -1)], [math.inf, math.inf]),
    (lambda: merging.dilution_limit(Fraction(5, 3), Fraction(1, 3)), 4),
    (lambda: merging.dilution_limit(5 / 3, 1 / 3), 4),  # as floats the quotient is above 5
    (lambda: merging.dilution_limit(2**70, 1), 2**70 - 1),
    (lambda: merging.least_weights([4, 8, 1], [1, 4, -3], [0, 0, 1], 3), [HALF, 0 * HALF, 0 * HALF]),
    (lambda: merging.mask_share(Fraction(3, 10), Fraction(3, 10)), Fraction(49, 100)),
    (lambda: merging.mask_share(0, 0.5), HALF),
    # the largest load at its ends
    (lambda: [routing.maxload(*x) for x in ((7, 1), (1, 7), (3, 10**400))], [7.0, 1.0, 1.0]),
    (lambda: [routing.oracle_ceiling(*x) for x in ((1, 5), (40, 1))], [1.0, 1.0]),
]  # fmt: skip


@pytest.mark.parametrize(("call", "want"), VALUES)
def test_values_and_their_types(call: Callable[[], object], want: object) -> None:
    assert repr(call()) == repr(want)


def transformer(key: np.ndarray, w1: np.ndarray) -> TransformerWeights:
    """One block of identities but for the key of its head and the first layer."""
    return TransformerWeights([Block([(EYE, key, EYE, EYE)], w1, ZERO, EYE, ZERO)], EYE)


MESSAGES: list[tuple[Callable[[], object], str]] = [
    (lambda: adapters.regauge(WIDE, np.ones((2, 2))),
     "T: expected an invertible matrix, got a matrix that is singular"),
    (lambda: adapters.merged_weight(np.ones((4, 3)), WIDE),
     r"W: expected shape \(3, 4\), as the update, got \(4, 3\)$"),
    (lambda: adapters.merge_rounding_bound(np.ones((3, 4)), WIDE, np.ones(4), "int8"),
     "dtype: expected one of float64, float32, float16, bfloat16, got 'int8'$"),
    (lambda: adapters.likely_rounding_bound(np.ones((3, 4)), WIDE, np.ones(4), failure=2),
     r"failure: expected a probability in \(0, 1\), got 2"),
    (lambda: adapters.first_update(EYE, np.ones((1, 3)), 1.0, 1.0),
     "factor: expected 2 columns, as the gradient, got 3"),
    (lambda: additive.affine_ceiling(5, 2, -1), "d: expected an integer >= 0, got -1"),
    (lambda: additive.composing_factors(0, (2, 0), 2, 1), "table: expected entries below 2, got 2"),
    (lambda: approximation.deep_linear_adapters([np.eye(3), np.zeros((3, 3)), np.eye(3)], np.diag([5.0, 4, 3]), 1),
     rf"weights\[1\]: {IRREGULAR} .* put another layer in its place"),
    (lambda: approximation.deep_linear_adapters([np.zeros((3, 3)), np.eye(3)], np.diag([5.0, 4, 3]), 1),
     rf"weights\[0\]: {IRREGULAR}"),  # of rank 1 once adapted
    (lambda: approximation.deep_linear_adapters([np.ones((2, 3)), EYE], [[1.0, 5.0, 2.0], [0.0, 1.0, 7.0]], 1),
     rf"weights\[0\]: {IRREGULAR}"),  # too narrow inside
    (lambda: approximation.deep_linear_adapters([np.eye(3), EYE], np.eye(3), 1), r"weights\[1\]: expected 3 columns"),
    (lambda: approximation.deep_linear_floor([np.eye(3)], np.ones((2, 3)), 1), "target: expected shape"),
    (lambda: approximation.split_update(np.eye(3), 1, 2), "E: expected rank at most 2, as 2 rounds of rank 1, got 3$"),
    (lambda: approximation.floor_error([1.0, -2.0], 0), "E: expected singular values >= 0, got -2.0$"),
    (lambda: approximation.floor_error(EYE, -1), "r: expected an integer >= 0, got -1$"),
    (lambda: approximation.floor_error(EYE, 0, "nuclear"), "norm: expected one of spectral, frobenius, got 'nuclear'$"),
    (lambda: approximation.spectral_rank([1.0], 1.5), r"energy: expected a share in \[0, 1\], got 1.5$"),
    (lambda: approximation.decay_rank("power", 0.5),
     "rate: expected a rate above 0.5 for an infinite spectrum, got 0.5$"),
    (lambda: approximation.decay_rank("power", 1.0, 1.0),
     "energy: expected a share below 1 for an infinite spectrum, got 1.0$"),
    (lambda: one_layer_edit(EYE, [0.0, 0.0], [1.0, 0.0]), "key: expected a key that is not zero, got zero"),
    (lambda: composition.coverage_law(0.5, 0.5, 1.5, 3), r"p2: expected a share in \[0, 1\], got 1.5"),
    (lambda: composition.few_writings_ceiling(0, 5, 3), "writings: expected an integer >= 1, got 0"),
    (lambda: composition.bridge_room([[1.0]], [1.0], [0.0], 0), "changes: expected at least 2 rows, got 1"),
    (lambda: continual.round_dilution(0, 1), "heads: expected an integer >= 1, got 0"),
    (lambda: continual.round_dilution(2.0, 1), "heads"),  # type: ignore[arg-type]
    (lambda: continual.exposures(25, 32, 200, 1380), r"share: expected a number in \[0, 1\], got 25"),
    (lambda: continual.route_drift([[0.5]], ONE, LowRank([[1.0]], [[1.0]], 2.0)),
     "after: expected shape, columns and scale"),
    (lambda: facts.least_rank(np.ones((2, 3)), EYE), "D: expected 3 columns, one per key, got 2 columns$"),
    (lambda: facts.margin_rank_floor(3, -1), "eps: expected a number >= 0, got -1$"),
    (lambda: facts.counting_bound(-0.5, 3, 3), r"log_hypotheses: expected a number >= 0, got -0\.5$"),
    (lambda: facts.capacity_ceiling(3, 3, 0), "n_values: expected an integer >= 1, got 0$"),
    (lambda: merging.best_weights([[1.0], [1.0, 2.0]]),
     r"leads: expected rows of one length, at least one entry, got \[1, 2\]"),
    (lambda: merging.best_weights([1.0, 2.0]),  # type: ignore[list-item]
     "leads: expected pairs x adapters, got single numbers"),
    (lambda: merging.least_weights([0], [1], [0], 1), "gains: expected positive numbers, got 0"),
    (lambda: merging.mask_share(30), r"rate_out: expected a probability in \[0, 1\], got 30"),
    (lambda: networks.relu_adapters([(EYE, ZERO), (EYE, ZERO), (LOW, ZERO)], TARGET, 1, 1.0),
     r"frozen\[2\]: expected a layer regular to working precision"),
    (lambda: networks.relu_rank([(EYE, ZERO)], TARGET * 2),
     "frozen: expected at least 2 layers, as the target has, got 1$"),
    (lambda: networks.relu_error_bound([(EYE, ZERO)], [(np.ones((1, 2)), np.zeros(1))], 1, 1.0),
     r"target\[0\]\.W: expected shape \(2, 2\)"),
    (lambda: networks.relu_adapters([(EYE, ZERO)], TARGET, 1, -1.0), r"radius: expected a number >= 0, got -1\.0$"),
    (lambda: networks.transformer_adapters(transformer(EYE, LOW), transformer(EYE, LOW), 1),
     r"frozen\.blocks\[0\]\.W1: expected an invertible layer \(rank 2\), got rank 1$"),
    (lambda: networks.transformer_adapters(transformer(0 * EYE, EYE), transformer(np.diag([3.0, 2.0]), EYE), 1),
     r"frozen\.blocks\[0\]\.heads\[0\] Wk: expected a layer regular"),
    (lambda: routing.oracle_ceiling(routing.LARGEST_N + 1, 10), "n: expected at most 100000, got 100001$"),
    (lambda: routing.oracle_ceiling(10, 0), "m: expected an integer >= 1, got 0$"),
    (lambda: routing.oracle_ceiling(10, 10, -1), "bystanders: expected an integer >= 0, got -1$"),
    (lambda: routing.gated_merge_error([ONE] * 4, np.eye(3)), "gates: expected 4 columns, one per update, got 3"),
    (lambda: LowRank(np.ones(3), np.ones((1, 3))), "B: expected a matrix"),
    (lambda: LowRank(np.ones((3, 2)), np.ones((1, 3))), "A: expected 2 rows"),
    (lambda: LowRank([[math.nan]], [[1.0]]), "B: expected finite"),
    (lambda: LowRank([[1.0 + 1j]], [[1.0]]), "B: expected a real"),
    (lambda: LowRank([["x"]], [[1.0]]), "B: expected a real"),
    (lambda: LowRank([[1.0]], [[1.0]], math.inf), "scale: expected a finite"),
    (lambda: LowRank([[1.0]], [[1.0]], "2"), "scale: expected a real"),  # type: ignore[arg-type]
    (lambda: ONE.truncate(-1), "r: expected an integer >= 0"),
    (lambda: ONE.truncate(1.5), "r: expected an integer"),  # type: ignore[arg-type]
    (lambda: ONE.rank(-1.0), "tol: expected a number >= 0"),
    (lambda: ONE.norm("max"), "kind: expected one of"),
    (lambda: ONE.apply([1.0, 2.0]), "x: expected 1 rows"),
    (lambda: ONE.apply([1j]), "x: expected a real vector or matrix, got dtype complex"),
    (lambda: ONE.apply(["one"]), "x: expected a real vector or matrix, got dtype <U3"),
    (lambda: LowRank.combine([], []), "updates: expected at least one"),
    (lambda: LowRank.combine([ONE], [1.0, 2.0]), "weights: expected 1 weights"),
    (lambda: LowRank.combine([ONE, LowRank([[1.0]], [[1.0, 2.0]])], [1.0, 2.0]), "updates: expected equal shapes"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), MESSAGES)
def test_messages_give_argument_expected_and_got(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        call()
    assert ", got " in str(caught.value)
    assert "\n" not in str(caught.value)
