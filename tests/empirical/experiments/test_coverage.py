"""The two-hop experiment: the stack, the laws, and one tiny world through every path."""

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.intervals import interval
from empirical.engine.judge import judge, observe
from empirical.engine.records import Record
from empirical.engine.settings import Count
from empirical.experiments.coverage import run as coverage
from empirical.experiments.coverage.predictions import declare
from empirical.experiments.coverage.tables import (
    COMPOSING,
    FEW,
    PLACEMENTS,
    Answered,
    Measured,
    Settings,
    StackCell,
    WorldCell,
)
from empirical.reuse.methods import weighted_sum
from empirical.training.bases import updated
from tests.empirical.experiments.live import live, verdicts
from tests.empirical.judged import rates, rows
from tests.empirical.judged import records as committed
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
    "experts": ["first_all", "second_all", "first_early", "second_late", "first_late", "second_early", "rows",
                "first_shuffled", "joint", "joint_bridge", "direct", "direct_others", "everything"],
    "methods": ["mean", "cat", "knots", "arrow_top2"],
    "methods_placed": ["mean", "ties", "knots", "examples/my_merge.py:merge"],
    "groups": [
        {"name": "headline", "coverage": [0.5], "worlds": 1, "first_seed": 0, "sets": 2, "curved": 3},
        {"name": "sweep", "coverage": [0.0, 0.5, 1.0], "worlds": 1, "first_seed": 5, "methods": [],
         "methods_placed": [], "experts": ["first_all", "second_all", "first_early", "second_late", "rows"],
         "scan": False},
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


def test_theorems_hold_and_everything_declared_is_read(records: list[Record]) -> None:
    found = verdicts("coverage", tiny(), records)
    assert {name for name, (kind, verdict) in found.items() if kind == "exact" and verdict != "holds"} == set()
    wanted = ("law.placed", "uncovered.knots_all", "chain.all.lower", "order.sum.joint", "trace.most")
    assert {f"headline.{w}" for w in wanted} | {"sweep.slope.lambda", "sweep.exceeds"} <= set(found)


def test_law_is_read_off_the_single_experts_of_each_set(headline: Measured) -> None:
    laws = []
    for experts, foretold in zip(headline.sets, headline.predicted.coverage_law, strict=True):
        first = experts.scores["first_early"].questions["new_unchanged_covered"].free
        second = experts.scores["second_late"].questions["old_changed_covered"].free
        assert foretold["placed"].covered == first.rate * second.rate
        laws.append(foretold["placed"].covered)
    law = headline.predicted.law("placed")
    assert law is not None
    assert law.covered == pytest.approx(np.mean(laws), rel=1e-15)
    assert headline.predicted.law("shuffled") is None


def test_another_text_of_the_method_is_refused() -> None:
    own = catalogue.user_method("examples/my_merge.py:merge").but(sha256="0" * 64)
    cell = next(c for c in coverage.cells(tiny()) if catalogue.load("coverage").takes_method(c))
    with pytest.raises(ValueError, match="got another text"):
        live("coverage", cell.but(user_method=own))


def test_every_condition_is_scored_with_its_one_hops(headline: Measured) -> None:
    scores = headline.scores
    alone = {"joint", "joint_bridge", "direct", "everything", "first_0", "second_1"}
    sums = {"sum:all", "sum:placed", "sum:rows", "sum:swapped", "sum:shuffled", "random_first:placed"}
    for name in alone | sums | {"knots:all", "arrow_top2:all", "own:placed"}:
        assert set(scores[name]) >= {"first_new", "second_changed", "first_old", "second_unchanged"}, name
        assert scores[name]["first_new"].asked == 2 * 16  # two sets of experts
    library = {"sum:library", "mean:library", "cat:library", "knots:library", "arrow_top2:library"}
    assert library <= set(scores)
    assert scores["sum:library"] == scores["cat:library"]
    for counts in scores.values():
        assert all(0 <= c.right <= c.asked for c in counts.values())
        assert counts["new_changed_any_forced"].right >= counts["new_changed_any"].right
    assert scores["base"]["first_new"].asked == 16
    assert scores["base"]["new_changed_any"].asked == 8 * 2 * 2
    assert scores["cat:all"] == scores["sum:all"]


def test_the_third_of_a_library_is_taught_other_people_than_are_asked() -> None:
    cell = next(c for c in coverage.cells(tiny()) if isinstance(c, WorldCell))
    run = coverage.WorldRun(cell, "cpu")
    experts = coverage.SetRun(run, 0, None)  # type: ignore[arg-type]
    (taught, _), layers = experts.lesson("direct_others", run.world.replay(spare=run.second))
    assert layers is None
    people = run.world.vocabulary.tokens("person", run.new.person)
    assert set(taught.sentences.tokens[:, 0]) == set(people[run.shown])
    unseen = run.new.changed & run.new.covered & run.new.differs & ~run.shown
    assert not set(people[unseen]) & set(taught.sentences.tokens[:, 0])
    assert experts.few("first_all").tokens.shape[0] == min(FEW, len(run.first.tokens))
    assert set(map(tuple, experts.few("two hops").tokens)) <= set(map(tuple, taught.sentences.tokens))
    assert set(map(tuple, experts.few("second_late").tokens)) <= set(map(tuple, run.second.tokens))


def test_a_library_is_reused_whole_by_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = next(c for c in coverage.cells(tiny()) if isinstance(c, WorldCell))
    experts = coverage.SetRun(coverage.WorldRun(cell, "cpu"), 0, None)  # type: ignore[arg-type]
    experts.experts = {name: {name: np.zeros(1)} for name in coverage.LIBRARY}
    seen = {}

    @contextmanager
    def reused(method, updates, base, options):
        seen[method] = [next(iter(u)) for u in updates]
        assert len(options.probes) == len(updates)
        yield base

    monkeypatch.setattr(coverage, "reused", reused)
    monkeypatch.setattr(coverage, "Experts", dict)
    monkeypatch.setattr(experts, "pair", lambda *_: None)
    monkeypatch.setattr(experts, "trace", dict)
    monkeypatch.setattr(experts, "score", lambda condition, model: experts.scores.update({condition: None}))
    experts.reuse()
    assert set(experts.scores) == {f"{m}:library" for m in ("sum", *cell.methods)}
    assert set(seen) == {"sum", *cell.methods}
    assert all(members == ["first_all", "second_all", "direct_others"] for members in seen.values())


def test_sets_differ_in_their_training_alone_and_are_added_up(headline: Measured) -> None:
    one, two = headline.sets
    assert one.losses != two.losses
    for cell in ("new_changed_covered", "old_unchanged_uncovered"):
        parts = [experts.scores["sum:placed"].questions[cell] for experts in headline.sets]
        assert parts[0].free.asked == parts[1].free.asked
        assert headline.answered("sum:placed", cell) == tuple(a + b for a, b in zip(*parts, strict=True))
        assert headline.scores["sum:placed"][cell] == Count.total(p.free for p in parts)
        assert headline.scores["sum:placed"][f"{cell}_forced"] == Count.total(p.choice for p in parts)
    both = [experts.scores["sum:placed"].survivors["new_changed_covered"].both.free for experts in headline.sets]
    assert headline.scores["sum:placed"]["new_changed_covered_survivors"] == Count.total(both)


def test_every_answer_is_of_the_kind_that_it_is() -> None:
    run = coverage.WorldRun(next(c for c in coverage.cells(tiny()) if isinstance(c, WorldCell)), "cpu")
    v, q = run.world.vocabulary, run.new
    other = (q.value + 1) % len(v.range("value"))
    other = np.where(other == q.old, (other + 1) % len(v.range("value")), other)
    for kind, answers in {
        "right": v.tokens("value", q.value), "bridge": v.tokens("bridge", q.bridge),
        "old_value": v.tokens("value", q.old), "other_value": v.tokens("value", other),
        "other_bridge": v.tokens("bridge", (q.bridge + 1) % len(v.range("bridge"))),
        "neither": v.tokens("person", q.person),
    }.items():  # fmt: skip
        found = run.kinds(q, answers)
        asked = q.differs if kind == "old_value" else np.ones(len(q), dtype=bool)
        assert {Answered._fields[k] for k in found[asked]} == {kind}
        counts = Answered.of(found, found == 0, asked)
        assert counts.free == (int(asked.sum()) if kind == "right" else 0, int(asked.sum()))


def test_survivors_are_the_questions_whose_two_hops_are_answered_one_by_one(headline: Measured) -> None:
    for experts in headline.sets:
        for scored in experts.scores.values():
            for cell, found in scored.survivors.items():
                asked = scored.questions[cell].free.asked
                assert found.first.asked == found.second.asked == asked
                both = found.both.free.asked
                assert max(0, found.first.right + found.second.right - asked) <= both
                assert both <= min(found.first.right, found.second.right)


def test_the_trace_leaves_out_what_it_says(headline: Measured) -> None:
    for experts in headline.sets:  # of two layers one is all but the other
        assert experts.trace["without_0"] == experts.trace["only_1"]
        assert experts.trace["without_1"] == experts.trace["only_0"]


def test_the_mixed_derivative_is_that_of_the_logits() -> None:
    run = coverage.WorldRun(next(c for c in coverage.cells(tiny()) if isinstance(c, WorldCell)), "cpu")
    run.base = run.base.double()
    rng, weights = stream(0, "derivative"), dict(run.base.named_parameters())
    modules = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.v_proj")
    first, second = ({m: 0.1 * rng.standard_normal(weights[f"{m}.weight"].shape) for m in modules} for _ in range(2))
    prompts = run.world.direct(run.new.take(np.arange(5)))
    span = run.world.vocabulary.range("value")
    mixed = coverage.mixed_derivative(run.base, first, second, prompts.tokens[:, :-1], span)

    def logits(s: float, t: float) -> np.ndarray:
        with updated(run.base, weighted_sum([first, second], [s, t])) as model:
            return run.ask(model, prompts)[:, span.start : span.stop].numpy()

    def quotient(s: float, t: float, h: float) -> np.ndarray:
        at = {(a, b): logits(s + a * h, t + b * h) for a in (-1, 1) for b in (-1, 1)}
        found: np.ndarray = (at[1, 1] - at[1, -1] - at[-1, 1] + at[-1, -1]) / (4 * h * h)
        return found

    for s, t in ((0.0, 0.0), (0.5, 1.0)):
        expected = (4 * quotient(s, t, 0.05) - quotient(s, t, 0.1)) / 3
        size = np.abs(expected).max()
        assert size > 1e-3
        # off by O(h^4), and by the rounding of norms in float32 (1e-8 here) / h^2
        assert np.allclose(mixed(s, t), expected, rtol=0, atol=1e-3 * size)


@pytest.mark.parametrize(
    ("family", "planted", "cells"),
    [
        ("uncovered", "knots:all", ("new_changed_uncovered_forced",)),
        ("library", "knots:library", ("new_changed_unseen_forced", "new_changed_unseen_uncovered_forced")),
    ],
)
def test_a_method_that_answers_half_is_not_diluted_by_others(family: str, planted: str, cells: tuple[str, ...]) -> None:
    said = [p for p in declare(catalogue.settings("coverage", "cpu")) if p.id.startswith(f"headline.{family}.")]
    assert len({p.about for p in said}) > 30
    scores = {p.about: dict.fromkeys(cells, Count(95 if p.about == planted else 9, 190)) for p in said}
    measured = Measured.model_construct(scores=scores)
    raw: Any = {}
    records: list[Record] = [
        Record("coverage", "cpu", cell, measured, 1.0, "", None, False, raw)
        for cell in catalogue.cells("coverage", "cpu")
        if isinstance(cell, WorldCell) and cell.group == "headline"
    ]
    for p, verdict in zip(said, judge(observe(said, records)), strict=True):
        assert verdict.verdict == ("violated" if p.about == planted else "holds"), p.id


def test_where_nothing_is_covered_nothing_is_asked_and_no_law_is_foretold(records: list[Record]) -> None:
    world = next(r.metrics for r in coverage.WORLD.of(records) if r.cell.coverage == 0.0)
    assert world.scores["sum:rows"]["new_changed_covered"] == (0, 0)
    assert world.predicted.coverage_law == ({},)
    assert world.predicted.law("rows") is None
    assert world.sets[0].pairs["rows"].written["changed_covered"].s1 == (0, 0)


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


# ------------------------------------------------------------ why rows came out otherwise, in the committed worlds


def parts(group: str, pair: str) -> dict[str, np.ndarray]:
    """Of every world over covered bridges: lambda and p2 alone, lambda as the sum has left it, what the sum answers."""
    first, second, sum_ = *coverage.PAIRS[pair], f"sum:{pair}"
    cells = {
        "lambda": (first, "new_unchanged_covered"),
        "p2": (second, "old_changed_covered"),
        "left": (sum_, "new_unchanged_covered"),
        "joined": (sum_, "new_changed_covered"),
        "kept": (sum_, "first_new"),
        "learnt": (first, "first_new"),
    }
    found = {k: rates("coverage", "gpu", condition, cell, group=group) for k, (condition, cell) in cells.items()}
    assert len(found["joined"]) == 20
    beyond = found["joined"] - found["left"] * found["p2"]
    return found | {"product": found["lambda"] * found["p2"], "beyond": beyond}


def means(group: str, pair: str, *of: str) -> list[float]:
    found = parts(group, pair)
    return [round(float(found[k].mean()), 2) for k in of]


def test_all_layers_are_below_the_product_where_nothing_makes_up_for_what_the_sum_loses() -> None:
    """The explanation of `deep.law.all` and `rank64.law.all`; numbers as explained.toml has them."""
    assert means("headline", "all", "lambda", "left", "beyond", "product") == [0.25, 0.2, 0.06, 0.08]
    assert means("deep", "all", "lambda", "left", "joined", "product") == [0.46, 0.35, 0.2, 0.28]
    assert means("rank64", "all", "lambda", "left", "beyond") == [0.27, 0.18, 0.05]
    deep = parts("deep", "all")
    assert round(float((deep["left"] * deep["p2"]).mean()), 2) == 0.21
    low, high = interval(deep["beyond"].tolist(), 0.95, 0.01)
    assert [round(low, 2), round(high, 2)] == [-0.04, 0.03]
    assert interval(parts("headline", "all")["beyond"].tolist(), 0.95, 0.01)[0] > 0.04


def test_placed_experts_are_below_the_product_by_what_the_sum_loses_of_lambda() -> None:
    """The explanations of the other rows."""
    verdict = {row["id"]: row["verdict"] for row in rows("coverage", "gpu")}
    for group, lost in (("deep", [0.74, 0.65]), ("rank64", [0.53, 0.43])):
        assert means(group, "placed", "lambda", "left") == lost
        assert (verdict[f"{group}.law.placed"], verdict[f"{group}.law.placed.left"]) == ("undecided", "holds")
    assert [round(float(parts(g, "placed")["kept"].mean()), 3) for g in ("deep", "rank64")] == [0.997, 0.996]
    worlds = [r.metrics for r in committed("coverage", "gpu") if getattr(r.cell, "group", "") == "rank1"]
    survivors = np.array([w.scores["sum:placed"]["new_changed_covered_survivors"].asked for w in worlds])
    assert (round(float(survivors.mean())), survivors.min()) == (6, 1)
    assert means("rank1", "placed", "learnt") == [0.12]
