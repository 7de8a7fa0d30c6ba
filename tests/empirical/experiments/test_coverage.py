"""The two-hop experiment: the stack, the laws, and one tiny world through every path."""

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.eager import seal
from empirical.engine.records import Record
from empirical.experiments.coverage import run as coverage
from empirical.experiments.coverage.tables import COMPOSING, PLACEMENTS, Measured, Settings, StackCell, WorldCell
from tests.empirical.experiments.live import live, verdicts
from theory.composition import bridge_alignment
from theory.numerics import stream

TINY = {
    "stack": {"worlds": 1, "bridges": 4, "values": 3, "people": 8},
    "old_persons": 24,
    "new_persons": 8,
    "bridges": 6,
    "values": 4,
    "changed_relations": 2,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "feed_forward": 24,
    "base_steps": 12,
    "base_batch": 32,
    "adapter_steps": 4,
    "adapter_batch": 16,
    "rank": 2,
    "early": [0],
    "late": [1],
    "alpha_layer": 1,
    "kappa_layer": 1,
    "scan": True,
    "methods_placed": ["mean", "ties", "knots", "examples/my_merge.py:merge"],
    "groups": [
        {"name": "headline", "coverage": [0.5], "worlds": 1, "first_seed": 0},
        {"name": "sweep", "coverage": [0.0, 1.0], "worlds": 1, "first_seed": 5, "methods": [], "methods_placed": [],
         "experts": ["first_early", "second_late", "rows"], "scan": False},
    ],
}  # fmt: skip


def tiny(**changes) -> Settings:
    return catalogue.settings("coverage", "smoke").but(**TINY | changes)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Every cell of the tiny grid."""
    return [live("coverage", cell) for cell in coverage.cells(tiny())]


@pytest.fixture(scope="module")
def headline(records: list[Record]) -> Measured:
    return next(r.metrics for r in coverage.WORLD.of(records) if r.cell.group == "headline")


# ------------------------------------------------------------ grid and predictions


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_profiles_ask_enough_of_seeds_that_chose_nothing(profile: str) -> None:
    worlds = [c for c in catalogue.cells("coverage", profile) if isinstance(c, WorldCell)]
    headline = [c for c in worlds if c.group == "headline"]
    assert min(c.seed for c in worlds) >= 100  # seeds below 100 were used to choose placement and rates
    assert len({c.seed for c in headline}) >= 10
    assert all(c.new_persons >= 100 for c in headline)
    assert len({c.coverage for c in worlds} - {0.5}) >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": ["first_all", "third"]}, "experts: expected some of .*, got third"),
        ({"methods": ["summ"]}, "method: expected one of"),
        ({"groups": [{"name": "a", "coverage": [0.5], "worlds": 1, "first_seed": 0, "seed": 1}]}, "got seed"),
        ({"groups": [{"name": "a", "coverage": [0.5], "worlds": 1, "first_seed": 0, "rank": "4"}]}, "rank: expected"),
    ],
)
def test_bad_groups_experts_and_methods_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coverage.cells(tiny(**changes))


def test_predictions_are_fixed_by_kind_and_judged(records: list[Record]) -> None:
    found = verdicts("coverage", tiny(), records)
    assert {name for name, (kind, verdict) in found.items() if kind == "exact" and verdict != "holds"} == set()
    wanted = ("law.placed", "additive.all", "oracle.rows", "chain.all.lower", "order.sum.swapped", "joint_like_sum")
    assert {f"headline.{w}" for w in wanted} | {"sweep.lambda.rows", "sweep.p2.placed", "sweep.exceeds"} <= set(found)
    assert {kind for kind, _ in found.values()} == {"exact", "ceiling", "hypothesis", "control"}


def test_law_is_read_off_the_single_experts(headline: Measured) -> None:
    laws = headline.predicted.coverage_law
    first, second = headline.scores["first_early"], headline.scores["second_late"]
    expected = first["new_unchanged_covered"].rate * second["old_changed_covered"].rate
    assert laws.value["placed"].covered == expected
    assert seal(laws.value) == laws


def test_every_condition_is_scored_with_its_one_hops(headline: Measured) -> None:
    scores = headline.scores
    alone = {"base", "joint", "joint_bridge", "direct", "identity", "everything", "first_0", "second_1"}
    sums = {"sum:all", "sum:placed", "sum:rows", "sum:swapped", "sum:shuffled", "random_first:placed"}
    for name in alone | sums | {"identity:placed", "knots:all", "arrow_top2_subtract:all", "own:placed"}:
        assert set(scores[name]) >= {"first_new", "second_changed", "first_old", "second_unchanged"}, name
    for counts in scores.values():
        assert all(0 <= c.right <= c.asked for c in counts.values())
        assert counts["first_new"].asked == 16
        assert counts["new_changed_any"].asked == 8 * 2 * 2
        assert counts["new_unchanged_covered"].asked + counts["new_unchanged_uncovered"].asked == 8 * 2 * 2
    assert scores["cat:all"] == scores["sum:all"]


def test_where_nothing_is_covered_nothing_is_asked_and_no_law_is_foretold(records: list[Record]) -> None:
    world = next(r.metrics for r in coverage.WORLD.of(records) if r.cell.coverage == 0.0)
    assert world.scores["sum:rows"]["new_changed_covered"] == (0, 0)
    assert world.predicted.coverage_law.value == {}
    steps = world.pairs["rows"].written.predicted.value["changed_covered"]
    assert (steps.s1, steps.lower, steps.bare) == ((0, 0), None, None)


# ------------------------------------------------------------ the stack


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_stack_cells_agree_with_the_theory_prompt_by_prompt(placement: str) -> None:
    from theory.stack import place_edits, two_layer_stack

    cell = StackCell(placement=placement, seed=3, bridges=5, values=3, people=9)
    found = coverage.run_stack(cell, "cpu")
    rng = stream(3, "stack", "tables")
    p, q = rng.integers(5, size=9), rng.integers(3, size=5)
    stack = two_layer_stack(5, 3, 9)
    placed = place_edits(stack, p.tolist(), q.tolist(), placement)
    right = 0
    for i in range(9):
        values = stack.placed(stack.prompt("two_hop", i), placed)[5:]
        rivals = np.delete(values, q[p[i]])
        right += bool(values[q[p[i]]] > rivals.max() + 1e-9)  # whole numbers up to rounding
    assert found.two_hop == (right, 9)
    assert found.first_hop == (9, 9)
    assert found.second_hop == (5, 5)
    assert (found.two_hop == (9, 9)) == (placement in COMPOSING)


# ------------------------------------------------------------ scores of foretelling


def test_auc_counts_pairs():
    rng = stream(0, "auc")
    score, right = rng.integers(5, size=40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right] for b in score[~right]]
    assert coverage.auc(score, right) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert coverage.auc(score, np.arange(40) < 2) is None


def test_coefficients_are_bridge_alignment():
    rng = stream(0, "alpha")
    K, psi = rng.standard_normal((12, 5)), rng.standard_normal((12, 4))
    found = coverage.coefficients(K, psi)
    for i in range(4):
        # K is well conditioned (Gaussian, 12 x 5): both routes lose a few digits at most
        assert np.allclose(found[:, i], bridge_alignment(K, psi[:, i]).alpha, rtol=0, atol=1e-12)
