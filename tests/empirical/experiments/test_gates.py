"""gates: a small world live; the gated sum held against loops, premises of the ceilings, and wrong numbers seen."""

import numpy as np
import pytest
import torch

from empirical.engine import catalogue
from empirical.engine.records import Record
from empirical.experiments.gates import run as experiment
from empirical.experiments.gates.predictions import declare
from empirical.experiments.gates.tables import Settings
from empirical.experiments.one_matrix import World
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.numerics import stream


@pytest.fixture(scope="module")
def settings() -> Settings:
    return catalogue.settings("gates", "smoke").but(worlds=1)


@pytest.fixture(scope="module")
def result(settings: Settings) -> Record:
    return live("gates", experiment.cells(settings)[0])


def test_the_gated_sum_is_each_expert_times_its_gate() -> None:
    rng = stream(0, "gated")
    B, A, x, g = (torch.tensor(rng.standard_normal(s)) for s in ((3, 5, 2), (3, 2, 4), (6, 4), (6, 3)))
    experts = experiment.Experts(B, A)
    found = experts.add(x, g).numpy()
    for i in range(6):
        wanted = sum(float(g[i, k]) * u.dense() for k, u in enumerate(experts.updates())) @ x[i].numpy()
        assert np.allclose(found[i], wanted, rtol=0, atol=1e-12)


def test_exact_predictions_hold_live_and_wrong_numbers_are_seen(settings: Settings, result: Record) -> None:
    found = verdicts("gates", settings, [result])
    assert {n: v for n, (kind, v) in found.items() if kind == "exact"} == {"merge.even": "holds", "merge.best": "holds"}
    wrong = spoilt(result, "merges", "even", "ignored", to=settings.experts - 1 + 1e-9)
    assert verdicts("gates", settings, [wrong])["merge.even"] == ("exact", "violated")
    ignored = result.metrics.merges["kind"].ignored
    wrong = spoilt(result, "merges", "kind", "mean", to=ignored * 1.001)
    assert verdicts("gates", settings, [wrong])["merge.best"] == ("exact", "violated")


def test_gates_that_know_the_bridge_compose_and_experts_added_do_not(settings: Settings, result: Record) -> None:
    most = str(max(settings.groups))
    found = result.metrics.groups[most]
    assert found.gated.two_hop.rate >= 0.9
    assert found.summed.two_hop.rate <= 0.6
    assert result.metrics.gates["together"].first.rate >= 0.85


def test_premises_of_the_ceilings(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gates that are called blind are the same at other tables; experts of one hop do not see the other."""
    cell = experiment.cells(settings)[0].but(steps=3)
    runs = [experiment.WorldRun(cell, "cpu")]

    class Other(World):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)  # type: ignore[arg-type]
            self.p, self.q = (self.p + 1) % self.n, (self.q + 1) % self.m

    monkeypatch.setattr(experiment, "World", Other)
    runs.append(experiment.WorldRun(cell, "cpu"))
    x = runs[0].base.both
    assert torch.equal(x, runs[1].base.both)
    for blind in (lambda r: r.drawn("gates"), lambda r: r.by_kind()):
        assert torch.equal(*(blind(r)(x) for r in runs))
    assert not torch.equal(*(r.by_answers(r.apart())(x) for r in runs))
    runs[1].world.p = runs[0].world.p
    runs[1].first = runs[0].first
    one, other = (r.apart() for r in runs)
    half = settings.experts // 2
    assert torch.equal(one.B[:half], other.B[:half])
    assert not torch.equal(one.B[half:], other.B[half:])
    # gates of groups know the group and nothing of the values
    assert torch.equal(*(r.by_group(x, 4)(x) for r in runs))


@pytest.mark.parametrize(("name", "value"), [("experts", 3), ("groups", (7,))])
def test_settings_that_make_no_sense_are_refused(settings: Settings, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected"):
        experiment.cells(settings.but(**{name: value}))


def test_ceilings_of_groups_grow_as_groups_shrink() -> None:
    said = {p.id: p for p in declare(catalogue.settings("gates", "cpu"))}
    bounds = np.array([said[f"group.{k}"].predicted for k in (10, 20, 40, 100)], dtype=float)
    assert (np.diff(bounds) > 0).all()
    assert bounds[-1] == pytest.approx(3 / 4 + 1 / 20)
    assert said["group.100.blind"].predicted == pytest.approx(0.6 + 0.08)
