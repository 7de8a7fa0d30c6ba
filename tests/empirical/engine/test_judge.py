"""The judge: intervals with real coverage, verdicts that follow from them, and Holm over an experiment."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from empirical.engine.judge import Prediction, as_row, judge, smallest_error, t_interval
from empirical.engine.predictions import Predictions
from empirical.engine.settings import Count
from theory.numerics import EPS, stream


def predict(relation: str, predicted: object, worlds: list, margin: float = 0.1, kind: str = "ceiling") -> Prediction:
    return Prediction("p", "additive_limit", kind, relation, predicted, margin, worlds, "says")  # type: ignore[arg-type]


def verdict(*arguments: object, **more: object) -> str:
    return judge([predict(*arguments, **more)])[0].verdict  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=20), st.sampled_from([0.95, 0.99]))
def test_the_interval_is_the_t_interval_of_scipy(values: list[float], level: float) -> None:
    spread = float(np.std(values, ddof=1))
    if set(values) in ({0.0}, {1.0}) or spread == 0:
        return
    low, high = t_interval(values, level)
    oracle = scipy.stats.t.interval(level, len(values) - 1, np.mean(values), spread / math.sqrt(len(values)))
    # two ways to a mean and a deviation of numbers up to 1, times a quantile below 100
    slack = 100 * len(values) * EPS
    assert abs(low - oracle[0]) <= slack
    assert abs(high - oracle[1]) <= slack


@pytest.mark.parametrize(("value", "want"), [(0.0, (0.0, 1 - 0.025 ** (1 / 5))), (1.0, (0.025 ** (1 / 5), 1.0))])
def test_worlds_that_all_agree_get_clopper_pearson(value: float, want: tuple[float, float]) -> None:
    oracle = scipy.stats.binomtest(int(5 * value), 5).proportion_ci(0.95, "exact")
    got = t_interval([value] * 5, 0.95)
    assert np.allclose(got, want, rtol=8 * EPS, atol=0)  # one power
    assert np.allclose(got, (oracle.low, oracle.high), rtol=1e-9, atol=1e-12)  # scipy's root finding


@given(
    st.integers(2, 12),
    st.integers(1, 300),
    st.integers(0, 300),
    st.sampled_from([0.95, 0.99]),
    st.sampled_from([-1, 1]),
)
def test_worlds_that_all_agree_get_the_interval_of_the_nearest_that_do_not(
    worlds: int, asked: int, right: int, level: float, way: int
) -> None:
    right = min(right, asked)
    if not 0 <= right + way <= asked:
        way = -way
    low, high = t_interval([right / asked] * worlds, level, 1 / asked)
    moved = [right / asked] * (worlds - 1) + [(right + way) / asked]
    oracle = scipy.stats.t.interval(level, worlds - 1, np.mean(moved), scipy.stats.sem(moved))
    # the quantile is below 700 (one degree of freedom at 99.9 %), times the rounding of means of numbers up to 1
    slack = 700 * worlds * EPS
    assert low - slack <= oracle[0]
    assert oracle[1] <= high + slack
    assert math.isclose(low if way < 0 else high, oracle[0] if way < 0 else oracle[1], rel_tol=0, abs_tol=slack)


def test_a_right_answer_more_never_turns_a_held_prediction_undecided() -> None:
    for threshold in (0.6, 0.8, 0.9, 0.95):
        nearly = verdict("at_least", threshold, [[200, 200]] * 9 + [[199, 200]])
        assert nearly == verdict("at_least", threshold, [[200, 200]] * 10) == "holds"
    assert judge([predict("at_least", 0.9, [[200, 200]] * 10)])[0].interval[1] == 1.0
    assert verdict("at_least", 0.8, [[1, 1]] * 10) == "undecided", "ten coin tosses are no proof of four in five"


def test_the_interval_covers_where_pooled_queries_do_not() -> None:
    """Worlds with a spread of their own: the world interval keeps its 99 %, the pooled one does not."""
    rng = stream(0, "coverage")
    covered = pooled = 0
    runs = 400
    for _ in range(runs):
        rates = np.clip(rng.normal(0.4, 0.1, 10), 0, 1)
        counts = rng.binomial(50, rates)
        low, high = t_interval([c / 50 for c in counts], 0.99)
        covered += low <= 0.4 <= high
        flat = scipy.stats.binomtest(int(counts.sum()), 500).proportion_ci(0.99, "exact")
        pooled += flat.low <= 0.4 <= flat.high
    # 400 runs of a 99 % interval: fewer than 385 hits has a probability below 1e-4 by the binomial tail
    assert scipy.stats.binom.cdf(384, runs, 0.99) < 1e-4
    assert covered >= 385
    assert pooled < covered


@pytest.mark.parametrize(
    ("relation", "predicted", "rates", "want"),
    [
        ("at_most", 0.5, [0.1, 0.12, 0.09, 0.11], "holds"),
        ("at_most", 0.05, [0.3, 0.32, 0.29, 0.31], "violated"),
        ("at_most", 0.11, [0.1, 0.12, 0.09, 0.11], "undecided"),
        ("at_least", 0.05, [0.3, 0.32, 0.29, 0.31], "holds"),
        ("at_least", 0.5, [0.3, 0.32, 0.29, 0.31], "violated"),
        ("equal", 0.3, [0.3, 0.32, 0.29, 0.31], "holds"),
        ("equal", 0.8, [0.3, 0.32, 0.29, 0.31], "violated"),
        ("equal", 0.39, [0.3, 0.32, 0.29, 0.31], "undecided"),
        ("order", 0.0, [0.3, 0.32, 0.29, 0.31], "holds"),
        ("order", 0.0, [-0.3, -0.32, -0.29, -0.31], "violated"),
        ("order", 0.0, [0.3, -0.32, 0.29, -0.31], "undecided"),
    ],
)
def test_verdicts(relation: str, predicted: float, rates: list[float], want: str) -> None:
    assert verdict(relation, predicted, rates) == want


def test_predictions_by_world_are_judged_by_their_differences() -> None:
    targets = [0.1, 0.5, 0.9, 0.3]
    close = [t + d for t, d in zip(targets, (0.01, -0.01, 0.02, 0.0), strict=True)]
    assert verdict("equal", targets, close) == "holds"
    assert (
        verdict("equal", targets, [t + 0.3 + d for t, d in zip(targets, (0, 0.01, 0, 0.01), strict=True)]) == "violated"
    )
    low, high = judge([predict("equal", targets, close)])[0].interval
    assert low < 0.005 < high


def test_counts_and_rates_are_the_same_outcome() -> None:
    counts = judge([predict("at_most", 0.5, [[1, 10], [2, 10], [1, 10]])])[0]
    assert counts == judge([predict("at_most", 0.5, [0.1, 0.2, 0.1])])[0]


def test_worlds_without_queries_are_left_out() -> None:
    assert judge([predict("at_most", 0.5, [[1, 10], [0, 0], [2, 10], [1, 10]])])[0].mean == pytest.approx(4 / 30)
    assert verdict("at_most", 0.5, [[0, 0]]) == "undecided"


def test_one_world_decides_nothing_unless_the_prediction_is_exact() -> None:
    assert verdict("at_most", 0.5, [0.1]) == "undecided"
    assert verdict("at_most", 0.5, [0.1], kind="exact") == "holds"


def test_exact_predictions_hold_in_every_world_or_not_at_all() -> None:
    assert verdict("equal", 1.0, [1.0, 1.0, 1.0], margin=0.0, kind="exact") == "holds"
    assert verdict("equal", 1.0, [1.0, 0.99, 1.0], margin=0.0, kind="exact") == "violated"
    assert verdict("at_most", 0.5, [0.5, 0.500001], margin=0.0, kind="exact") == "violated"
    assert verdict("equal", [0.1, 0.2], [0.1, 0.2], margin=0.0, kind="exact") == "holds"
    assert verdict("equal", 1.0, [], margin=0.0, kind="exact") == "undecided"


def test_ten_worlds_are_judged_at_99_per_cent_and_fewer_at_95() -> None:
    rng = stream(1)
    assert judge([predict("at_most", 1.0, list(rng.uniform(0, 0.2, 10)))])[0].level == pytest.approx(0.99)
    assert judge([predict("at_most", 1.0, list(rng.uniform(0, 0.2, 9)))])[0].level == pytest.approx(0.95)


def test_holm_widens_the_intervals_of_many_predictions() -> None:
    rates = [0.30, 0.34, 0.28, 0.33, 0.31]
    alone = predict("at_most", 0.349, rates)
    assert judge([alone])[0].verdict == "holds"
    noise = [predict("at_most", 0.31, [0.2, 0.4, 0.3, 0.35, 0.25]) for _ in range(30)]
    together = judge([*noise, alone])
    assert together[-1].verdict == "undecided"
    assert together[-1].level > 0.95
    assert all(v.verdict == "undecided" for v in together)


def test_holm_is_the_textbook_step_down() -> None:
    rng = stream(2)
    predictions = [predict("at_most", 0.5, list(rng.normal(m, 0.05, 6))) for m in (0.1, 0.3, 0.42, 0.45, 0.49)]
    errors = [smallest_error(p) for p in predictions]
    order = np.argsort(errors)
    wanted = ["undecided"] * len(predictions)
    for step, i in enumerate(order):
        if errors[i] > 0.05 / (len(predictions) - step):
            break
        wanted[i] = "holds"
    assert [v.verdict for v in judge(predictions)] == wanted
    assert "holds" in wanted


def test_smallest_error_of_a_ceiling_is_the_two_sided_t_test() -> None:
    rates = [0.30, 0.34, 0.28, 0.33, 0.31]
    p = scipy.stats.ttest_1samp(rates, 0.36).pvalue
    assert smallest_error(predict("at_most", 0.36, rates)) == pytest.approx(p, rel=1e-6)


def test_the_hash_is_of_what_was_fixed_before() -> None:
    before, after = predict("equal", 0.3, []), predict("equal", 0.3, [[1, 2]])
    assert before.hash() == after.hash()
    assert before.hash() != predict("equal", 0.31, []).hash()
    assert before.hash() != predict("equal", 0.3, [], margin=0.2).hash()


def test_rows_have_the_documented_keys() -> None:
    p = predict("at_most", 0.5, [[1, 10], [2, 10]])
    row = as_row(p, judge([p])[0], "coverage", None, ["a CPU"])
    documented = {"id", "claim", "experiment", "kind", "relation", "predicted", "margin", "worlds", "interval", "level",
                  "verdict", "predicted_hash", "explained"}  # fmt: skip
    assert documented <= set(row)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("above", 0.5, [0.1]), "relation"),
        (("equal", 0.5, [0.1], -1.0), "margin"),
        (("equal", [0.5, 0.6], [0.1]), "predicted"),
        (("equal", 0.5, [0.1], 0.1, "guess"), "kind"),
    ],
)
def test_bad_predictions_are_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        predict(*arguments)


def test_controls_are_judged_at_the_full_level_and_do_not_use_up_the_rest() -> None:
    noise = [predict("at_most", 0.31, [0.2, 0.4, 0.3, 0.35, 0.25], kind="control") for _ in range(30)]
    control = predict("at_most", 0.349, [0.30, 0.34, 0.28, 0.33, 0.31], kind="control")
    judged = judge([*noise, control, predict("at_most", 0.349, [0.30, 0.34, 0.28, 0.33, 0.31])])
    assert [v.level for v in judged] == [pytest.approx(0.95)] * 32
    assert [v.verdict for v in judged[-2:]] == ["holds", "holds"]


def test_a_verb_makes_a_prediction_of_its_kind_and_its_keyword_the_relation() -> None:
    few, many, none = Count(1, 10), Count(8, 10), Count(0, 0)
    worlds = [{"sum": {"new": many, "old": none}, "joint": {"new": few}}, {"sum": {"new": few, "old": few}}]
    said = Predictions("headline", worlds, "worlds")
    said.control("a", "dilution", "sums", of=("sum", "new"), at_least=0.3)
    said.hypothesis("b", "dilution", "more", of=("sum", "new"), above=("joint", "new"))
    said.ceiling("c", "dilution", "less", of=("sum", "old"), at_most=[0.5, 0.6])
    said.exact("d", "dilution", "numbers", of=[0.5, 0.25], equal=[0.5, 0.25], within=1e-9)
    said.exact("nothing was asked", "dilution", "nothing", of=[none], equal=1.0)
    assert [(p.id, p.kind, p.relation, p.predicted, p.worlds) for p in said] == [
        ("headline.a", "control", "at_least", 0.3, [many, few]),
        ("headline.b", "hypothesis", "order", 0.0, [many.rate - few.rate]),
        ("headline.c", "ceiling", "at_most", [0.6], [few]),
        ("headline.d", "exact", "equal", [0.5, 0.25], [0.5, 0.25]),
    ]
    assert said[0].says == "worlds: sums"
    assert said[3].margin == 1e-9
    for relation in ({}, {"at_most": 0.5, "at_least": 0.5}, {"at_lest": 0.5}):
        with pytest.raises(ValueError, match=r"e: expected one of at_most, at_least, equal, above, got"):
            said.exact("e", "dilution", "?", of=[0.5], **relation)
