"""one_layer: a small world live, its exact predictions, wrong results that are seen, and the adversary's moves."""

import copy
import hashlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from empirical.engine.catalogue import settings as config
from empirical.engine.judge import judge
from empirical.experiments.one_layer import adversary
from empirical.experiments.one_layer import run as experiment
from theory.additive import additive_optimum, extremal_first, extremal_second
from theory.numerics import stream

OWN = Path(__file__).resolve().parents[3] / "examples" / "my_merge.py"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the engine's workers run: many tiny steps are slower on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def settings() -> dict:
    small = config("one_layer", "smoke")
    small["worlds"] = 1
    small["two_hop"] = {**small["two_hop"], "methods": ["sum", "mean", "magnitude_each", "linear"], "steps": 20,
                        "scratch_steps": 20}  # fmt: skip
    small["tail"] = {**small["tail"], "methods": ["sum", "dare_each"]}
    return small


@pytest.fixture(scope="module")
def results(settings: dict) -> list[dict]:
    grid = experiment.cells(settings)
    own = {"reference": f"{OWN}:merge", "sha256": hashlib.sha256(OWN.read_bytes()).hexdigest()}
    grid = [{**c, "user_method": own} if experiment.takes_method(c) else c for c in grid]
    return [{"cell": c, "metrics": experiment.run(c, "cpu")} for c in grid]


def verdicts(settings: dict, results: list[dict]) -> dict[str, tuple[str, str]]:
    said = experiment.predictions(settings, results)
    return {p.id: (p.kind, v.verdict) for p, v in zip(said, judge(said), strict=True)}


def test_exact_predictions_hold_in_a_live_world(settings: dict, results: list[dict]) -> None:
    found = verdicts(settings, results)
    exact = {name: verdict for name, (kind, verdict) in found.items() if kind == "exact"}
    assert {"fate.guarded.mean", "fate.guarded.linear", "tail.sum", "optimum.2.2"} <= set(exact)
    assert set(exact.values()) == {"holds"}, exact
    assert found["constructed.closed.own.0"][0] == "hypothesis"


def test_some_facts_die_and_some_live(results: list[dict]) -> None:
    fates = results[0]["metrics"]["fates"]
    kept, facts = fates["guarded mean 3"]["kept"]
    assert 0 < kept < facts
    assert fates["guarded mean 3"]["agree"][1] == facts
    assert results[0]["metrics"]["certified"][1] > 0


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
def test_a_wrong_result_is_violated(settings: dict, results: list[dict], kind: str, path, wrong, prediction) -> None:
    planted = copy.deepcopy(results)
    place = next(r for r in planted if r["cell"]["kind"] == kind)["metrics"]
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] != wrong
    place[path[-1]] = wrong
    assert verdicts(settings, planted)[prediction] == ("exact", "violated")


def test_a_merge_beyond_the_ceiling_is_shown(settings: dict, results: list[dict]) -> None:
    planted = [copy.deepcopy(r) for r in results for _ in range(12)]
    for r in planted:
        if r["cell"]["kind"] == "two_hop":
            for method in ("sum 0", "own 0"):
                if method in r["metrics"]["scores"]:
                    r["metrics"]["scores"][method]["two_hop"] = [20, 20]
    found = verdicts(settings, planted)
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
    many = experiment._dare(np.ones((200, 200)), 0.5, stream(0, "dare"))
    assert set(np.unique(many)) == {0.0, 2.0}
    assert abs(many.mean() - 1.0) < 5 / 200  # five standard deviations of the mean of 40000 entries 0 or 2


def test_bad_settings_are_named(settings: dict) -> None:
    with pytest.raises(ValueError, match="typo"):
        experiment.cells({**settings, "typo": 1})
    with pytest.raises(ValueError, match="methods"):
        experiment.cells({**settings, "two_hop": {**settings["two_hop"], "methods": ["magic"]}})
    with pytest.raises(ValueError, match="tail"):
        experiment.cells({**settings, "tail": {**settings["tail"], "methods": ["linear"]}})
    with pytest.raises(ValueError, match="bases"):
        experiment.cells({**settings, "bases": [["scratch", "closed"]]})
