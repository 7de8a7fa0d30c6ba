"""one_layer: a small world live, its exact predictions, wrong results that are seen, and the adversary's moves."""

import dataclasses
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.one_layer import adversary
from empirical.experiments.one_layer import run as experiment
from empirical.experiments.one_layer.tables import Settings
from empirical.reuse.trimmed import drop
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.additive import additive_optimum, extremal_first, extremal_second
from theory.numerics import stream

OWN = Path(__file__).resolve().parents[3] / "examples" / "my_merge.py"


@pytest.fixture(scope="module")
def settings() -> Settings:
    small = catalogue.settings("one_layer", "smoke")
    methods = ("sum", "mean", "magnitude_each", "linear")
    return small.but(
        worlds=1,
        two_hop=small.two_hop.but(methods=methods, steps=20, scratch_steps=20),
        tail=small.tail.but(methods=("sum", "dare_each")),
    )


@pytest.fixture(scope="module")
def results(settings: Settings) -> list[Record]:
    own = catalogue.user_method(f"{OWN}:merge")
    takes = catalogue.load("one_layer").takes_method
    grid = [c.but(user_method=own) if takes(c) else c for c in experiment.cells(settings)]
    return [live("one_layer", c) for c in grid]


def test_exact_predictions_hold_in_a_live_world(settings: Settings, results: list[Record]) -> None:
    found = verdicts("one_layer", settings, results)
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert {"fate.guarded.mean", "fate.guarded.linear", "tail.sum", "optimum.2.2"} <= set(exact)
    assert set(exact.values()) == {"holds"}, exact
    assert found["constructed.closed.own.0"][0] == "hypothesis"


def test_another_text_of_the_method_is_refused(settings: Settings) -> None:
    own = catalogue.user_method(f"{OWN}:merge").but(sha256="0" * 64)
    cell = next(c for c in experiment.cells(settings) if catalogue.load("one_layer").takes_method(c))
    with pytest.raises(ValueError, match="got another text"):
        live("one_layer", cell.but(user_method=own))


def test_some_facts_die_and_some_live(results: list[Record]) -> None:
    survival = results[0].metrics
    fate = survival.fates["guarded mean 3"]
    assert 0 < fate.kept.right < fate.kept.asked == fate.agree.asked
    assert survival.certified.asked > 0


@pytest.mark.parametrize(
    ("kind", "path", "wrong", "prediction"),
    [
        ("survival", ("fates", "guarded mean 2", "agree"), [23, 24], "fate.guarded.mean"),
        ("survival", ("certified",), [1, 48], "certified"),
        ("two_hop", ("scores", "direct 0", "two_hop"), [19, 20], "constructed.closed.alone.direct"),
        ("two_hop", ("scores", "product linear", "two_hop"), [10, 20], "constructed.closed.product"),
        ("tail", ("right", "sum"), [40, 40], "tail.sum"),
        ("adversary", ("small", "2,2", "optimised"), [8, 8], "optimum.2.2"),
        ("adversary", ("small", "3,2", "extremal"), [19, 24], "attained.3.2"),
    ],
)
def test_a_wrong_result_is_violated(
    settings: Settings, results: list[Record], kind: str, path: tuple[str, ...], wrong: list[int], prediction: str
) -> None:
    chosen = next(i for i, r in enumerate(results) if r.cell.kind == kind)
    wrongly = [*results[:chosen], spoilt(results[chosen], *path, to=wrong), *results[chosen + 1 :]]
    assert verdicts("one_layer", settings, wrongly)[prediction] == ("exact", "violated")


def test_a_merge_beyond_the_ceiling_is_shown(settings: Settings, results: list[Record]) -> None:
    closed = next(r for r in experiment.TWO_HOP.of(results) if r.cell.writing == "closed")
    for method in ("sum 0", "own 0"):
        closed = spoilt(closed, "scores", method, "two_hop", to=[20, 20])
    twelve = [dataclasses.replace(closed, cell=closed.cell.but(seed=i)) for i in range(12)]
    found = verdicts("one_layer", settings, twelve)
    assert found["constructed.closed.sum.0"] == ("ceiling", "violated")
    assert found["constructed.closed.own.0"] == ("hypothesis", "violated")


def test_the_adversary_counts_and_climbs() -> None:
    tables = np.array(list(product(range(2), repeat=3)))
    second = np.array([extremal_second(t, 2) for t in tables.tolist()])
    best = adversary.right(extremal_first(3, 2), second, tables)
    assert int(best.sum()) == additive_optimum(3, 2) * 3 * 8
    rng = stream(5, "climb")
    first, moving = rng.standard_normal((12, 3)), rng.standard_normal((20, 3))
    random = rng.integers(3, size=(20, 12))
    before = adversary.right(first, moving, random)
    after = adversary.right(first, adversary.ascend(first, moving, random, rng), random)
    assert (after >= before).all()
    assert after.sum() > before.sum()


def test_pruning_alone_keeps_what_it_says() -> None:
    values = np.arange(1.0, 13.0).reshape(3, 4) * np.array([1, -1, 1, -1])
    kept = experiment._magnitude(values, 0.25, stream(0, "unused"))
    assert np.count_nonzero(kept) == 3
    assert np.abs(kept).sum() == 10 + 11 + 12
    many = drop(np.ones((200, 200)), 0.5, stream(0, "dare"))
    assert set(np.unique(many)) == {0.0, 2.0}
    assert abs(many.mean() - 1.0) < 5 / 200  # five standard deviations of the mean of 40000 entries 0 or 2


def test_unknown_methods_and_bases_are_named(settings: Settings) -> None:
    with pytest.raises(ValueError, match="methods"):
        experiment.cells(settings.but(two_hop=settings.two_hop.but(methods=("magic",))))
    with pytest.raises(ValueError, match="tail"):
        experiment.cells(settings.but(tail=settings.tail.but(methods=("linear",))))
    with pytest.raises(ValueError, match="bases"):
        experiment.cells(settings.but(bases=(("scratch", "closed"),)))
