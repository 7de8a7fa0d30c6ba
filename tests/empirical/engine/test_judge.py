"""The judge: verdicts that follow from intervals, Holm by family, and what is counted."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from empirical.engine.intervals import Alternative, fit, tend
from empirical.engine.judge import ERROR, Observed, as_row, by_method, judge, observe, tally, worlds
from empirical.engine.predictions import Measure, Prediction, Predictions, address, measure, rate
from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count, Table
from empirical.engine.show import verdicts_by_method
from theory.numerics import stream

UNREAD = Measure("unread", lambda world: None)
HALF = Alternative("half of them", 0.5, 0.1, 20)


def predict(
    relation: str, predicted: Any, seen: list, margin: float = 0.1, kind: str = "ceiling", **more: Any
) -> Observed:
    by_world = isinstance(predicted, list)
    value = UNREAD if by_world else predicted
    said = Prediction("p", "additive_limit", kind, relation, value, margin, UNREAD, "", "says", **more)
    outcomes = [Count(*o) if isinstance(o, list) else o for o in seen]
    return Observed(said, outcomes, predicted if by_world else [predicted] * len(seen), 0.01)


def verdict(*arguments: Any, **more: Any) -> str:
    return judge([predict(*arguments, **more)])[0].verdict


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


def test_a_right_answer_more_never_turns_a_held_prediction_undecided() -> None:
    for threshold in (0.6, 0.8, 0.9):
        nearly = verdict("at_least", threshold, [[200, 200]] * 9 + [[199, 200]])
        assert nearly == verdict("at_least", threshold, [[200, 200]] * 10) == "holds"
    low, high = judge([predict("at_least", 0.9, [[200, 200]] * 10)])[0].interval
    assert low < high == 1.0


def test_a_number_whose_scale_nobody_named_is_not_judged() -> None:
    seen = replace(predict("at_most", 0.5, [0.1, 0.12, 0.09]), step=0.0)
    with pytest.raises(ValueError, match="p: step"):
        judge([seen])
    assert judge([replace(seen, outcomes=[Count(1, 9)] * 3)])[0].verdict == "holds", "a count has one: a question"
    assert verdict("at_least", 0.8, [[1, 1]] * 10) == "undecided", "ten coin tosses are no proof of four in five"


def test_predictions_by_world_are_judged_by_their_differences() -> None:
    targets = [0.1, 0.5, 0.9, 0.3]
    close = [t + d for t, d in zip(targets, (0.01, -0.01, 0.02, 0.0), strict=True)]
    assert verdict("equal", targets, close) == "holds"
    far = [t + 0.3 + d for t, d in zip(targets, (0, 0.01, 0, 0.01), strict=True)]
    assert verdict("equal", targets, far) == "violated"
    low, high = judge([predict("equal", targets, close)])[0].interval
    assert low < 0.005 < high


def test_a_prediction_without_a_world_is_undecided() -> None:
    assert verdict("at_most", 0.5, []) == "undecided"
    assert verdict("equal", 1.0, [], margin=0.0, kind="exact") == "undecided"


def test_one_world_decides_nothing_unless_the_prediction_is_exact() -> None:
    assert verdict("at_most", 0.5, [0.1]) == "undecided"
    assert verdict("at_most", 0.5, [0.1], kind="exact") == "holds"


def test_exact_predictions_hold_in_every_world_or_not_at_all() -> None:
    assert verdict("equal", 1.0, [1.0, 1.0, 1.0], margin=0.0, kind="exact") == "holds"
    assert verdict("equal", 1.0, [1.0, 0.99, 1.0], margin=0.0, kind="exact") == "violated"
    assert verdict("at_most", 0.5, [0.5, 0.500001], margin=0.0, kind="exact") == "violated"
    assert verdict("equal", [0.1, 0.2], [0.1, 0.2], margin=0.0, kind="exact") == "holds"


def test_the_error_rate_is_the_same_for_any_number_of_worlds() -> None:
    rng = stream(1)
    levels = {judge([predict("at_most", 1.0, list(rng.uniform(0, 0.2, n)))])[0].level for n in (5, 9, 10, 20)}
    assert levels == {1 - ERROR}


def test_holm_decides_less_than_each_row_alone_and_only_within_its_family() -> None:
    rates = [0.30, 0.34, 0.28, 0.33, 0.31]
    alone = predict("at_most", 0.349, rates)
    assert judge([alone])[0].verdict == "holds"
    noise = [predict("at_most", 0.31, [0.2, 0.4, 0.3, 0.35, 0.25]) for _ in range(30)]
    together = judge([*noise, alone])
    assert (together[-1].verdict, together[-1].alone) == ("undecided", "holds")
    elsewhere = predict("at_most", 0.349, rates, family="another")
    assert judge([*noise, elsewhere])[-1].verdict == "holds"


def test_holm_is_the_textbook_step_down() -> None:
    rng = stream(2)
    said = [predict("at_most", 0.5, list(rng.normal(m, 0.05, 6))) for m in (0.1, 0.3, 0.42, 0.45, 0.49)]
    errors = [tend("at_most", 0.5, 0.1, fit(s.outcomes, 1e-9))[1] for s in said]
    wanted = ["undecided"] * len(said)
    for step, i in enumerate(np.argsort(errors)):
        if errors[i] > ERROR / (len(said) - step):
            break
        wanted[i] = "holds"
    assert [v.verdict for v in judge(said)] == wanted
    assert set(wanted) == {"holds", "undecided"}


def test_controls_are_judged_at_the_full_level_and_do_not_use_up_the_rest() -> None:
    noise = [predict("at_most", 0.31, [0.2, 0.4, 0.3, 0.35, 0.25], kind="control") for _ in range(30)]
    control = predict("at_most", 0.349, [0.30, 0.34, 0.28, 0.33, 0.31], kind="control")
    judged = judge([*noise, control, predict("at_most", 0.349, [0.30, 0.34, 0.28, 0.33, 0.31])])
    assert [v.verdict for v in judged[-2:]] == ["holds", "holds"]


def test_one_method_that_breaks_the_rule_is_not_diluted_by_those_that_keep_it() -> None:
    """Twenty methods at chance and one that answers half of what was asked, in each of ten worlds."""
    rng = stream(3)
    chance = [predict("at_most", 0.126, rng.binomial(80, 0.05, 10).tolist(), about=f"m{i}") for i in range(20)]
    chance = [
        Observed(s.prediction, [Count(int(k), 80) for k in s.outcomes], s.targets)  # type: ignore[arg-type]
        for s in chance
    ]
    half = predict("at_most", 0.126, [[int(k), 80] for k in rng.binomial(80, 0.5, 10)], about="half")
    seen = [*chance, half]
    assert judge(seen)[-1].verdict == "violated"
    rows = [as_row(s, v, "coverage", None, []) for s, v in zip(seen, judge(seen), strict=True)]
    assert by_method(rows)["violated"] == ["half"]
    assert verdicts_by_method([rows[0], rows[-1]]) == "holds for m0; is violated by half"
    pooled = [Count.total(s.outcomes[i] for s in seen) for i in range(10)]  # type: ignore[misc]
    assert fit(pooled).best < 0.126, "the mean over methods would have said that none does"


def test_rows_have_the_documented_keys_and_only_declared_ones_are_counted() -> None:
    s = predict("at_most", 0.5, [[1, 10], [2, 10]], unless=HALF)
    row = as_row(s, judge([s])[0], "coverage", None, ["a CPU"], "0" * 16, 0.9)
    documented = {"id", "claim", "experiment", "kind", "relation", "predicted", "margin", "worlds", "interval", "level",
                  "verdict", "predicted_hash", "explained", "alternative", "power", "p", "declared", "family", "alone",
                  "about"}  # fmt: skip
    assert documented <= set(row)
    assert row["alternative"] == {"says": "half of them", "mean": 0.5, "deviation": 0.1, "asked": 20}
    late = as_row(s, judge([s])[0], "coverage", None, ["a CPU"])
    exact = predict("equal", 1.0, [1.0], kind="exact")
    theorem = as_row(exact, judge([exact])[0], "coverage", None, ["a CPU"], "0" * 16)
    assert tally([row, late, theorem]) == {"ceiling": {"holds": 0, "violated": 0, "undecided": 0} | {row["verdict"]: 1}}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("above", 0.5, [0.1]), "relation"),
        (("equal", 0.5, [0.1], -1.0), "margin"),
        (("equal", [0.5, 0.6], [0.1]), "p: predicted"),
        (("equal", 0.5, [0.1], 0.1, "guess"), "kind"),
    ],
)
def test_bad_predictions_are_refused(arguments: tuple, named: str) -> None:
    with pytest.raises(ValueError, match=f"^{named}: expected"):
        predict(*arguments)


# ---------------------------------------------------------------- what is said, and read off a world


class Scored(Table):
    scores: dict[str, dict[str, Count]]


class Grouped(Cell):
    group: str = "headline"
    draw: int = 0


def record(seed: int, scores: Any, group: str = "headline", draw: int = 0) -> Record:
    cell = Grouped(seed=seed, group=group, draw=draw)
    raw: Any = {"cell": cell.identity()}
    return Record("e", "cpu", cell, Scored(scores=scores), 1.0, "a CPU", None, False, raw)


FEW, MANY, NONE = Count(1, 10), Count(8, 10), Count(0, 0)


def test_a_verb_makes_a_prediction_of_its_kind_and_its_keyword_the_relation() -> None:
    said = Predictions("headline", words="worlds")
    foretold = Measure("sealed law", lambda world: 0.6)
    said.control("a", "dilution", "sums", of=("sum", "new"), at_least=0.3)
    said.hypothesis("b", "dilution", "more", of=("sum", "new"), above=("joint", "new"), unless=HALF)
    said.ceiling("c", "dilution", "less", of=("sum", "old"), at_most=foretold, unless=HALF, about="sum", family="f")
    said.exact("d", "dilution", "numbers", of=Measure("x", lambda world: 0.5), equal=0.5, within=1e-9)
    assert [(p.id, p.kind, p.relation, p.group, p.of.name, p.family) for p in said] == [
        ("headline.a", "control", "at_least", "headline", "sum, new", "dilution"),
        ("headline.b", "hypothesis", "order", "headline", "sum, new - joint, new", "dilution"),
        ("headline.c", "ceiling", "at_most", "headline", "sum, old", "f"),
        ("headline.d", "exact", "equal", "headline", "x", "dilution"),
    ]
    assert (said[0].says, said[3].margin, said[2].about, said[2].predicted) == ("worlds: sums", 1e-9, "sum", foretold)
    for relation in ({}, {"at_most": 0.5, "at_least": 0.5}, {"at_lest": 0.5}):
        with pytest.raises(ValueError, match=r"e: expected one of at_most, at_least, equal, above, got"):
            said.exact("e", "dilution", "?", of=UNREAD, **relation)


def test_outcomes_are_read_world_by_world_of_the_group_that_decides() -> None:
    said = Predictions("headline")
    said.control("a", "dilution", "sums", of=("sum", "new"), at_least=0.3)
    said.hypothesis("b", "dilution", "more", of=("sum", "new"), above=("joint", "new"), unless=HALF)
    foretold = Measure("sealed", lambda world: 0.1 * world[0].cell.seed)
    said.hypothesis("c", "dilution", "as foretold", of=("sum", "new"), equal=foretold, within=0.1, unless=HALF)
    records = [
        record(1, {"sum": {"new": FEW}, "joint": {"new": FEW}}),
        record(1, {"sum": {"new": MANY}}, draw=1),  # another set of experts in the same world
        record(2, {"sum": {"new": NONE}, "joint": {"new": FEW}}),
        record(3, {"sum": {"new": MANY}}),
        record(4, {"sum": {"new": MANY}}, group="sweep"),
    ]
    assert [len(w) for w in worlds(records)["headline"]] == [2, 1, 1]
    a, b, c = observe(said, records)
    assert list(a.outcomes) == [Count(9, 20), MANY]
    assert list(b.outcomes) == [pytest.approx(9 / 20 - 1 / 10)]
    assert b.step == 1 / 10, "one question, of the measure with the fewer"
    assert (list(c.outcomes), c.targets) == ([Count(9, 20), MANY], [0.1, pytest.approx(0.3)])
    assert not any(s.outcomes for s in observe(said, []))


def test_a_metric_that_is_not_there_is_one_line_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"expected sum, new in the record, got: KeyError 'new'"):
        address("sum", "new")([record(1, {"sum": {"old": FEW}})])
    with pytest.raises(ValueError, match=r"expected errors in the record, got: AttributeError"):
        measure(Scored, "errors", lambda m: m.errors)([record(1, {})])  # type: ignore[attr-defined]


def test_a_rate_of_nothing_is_no_rate() -> None:
    assert math.isnan(rate(NONE))
    assert address("sum", "new")([record(1, {"sum": {"new": NONE}})]) is None
