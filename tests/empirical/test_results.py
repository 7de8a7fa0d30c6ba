"""The committed results: whole, of the current grid and protocol, and in agreement with what must hold."""

import pytest

from empirical import run as engine
from empirical.record import RESULTS, read
from theory.claims import load

PAIRS = sorted({(p.parent.parent.name, p.parent.name) for p in RESULTS.glob("*/*/*.json")})
#: cells that take about a second, one per experiment: they are run again here
LIVE = {
    "coverage": {"kind": "stack", "placement": "early_late"},
    "rank_threshold": {},
    "one_layer": {},
}


def test_there_are_results_on_a_cpu_for_every_experiment_that_a_claim_names() -> None:
    assert {name for name, profile in PAIRS if profile == "cpu"} == {e for c in load().values() for e in c.experiments}
    assert {e for c in load().values() for e in c.experiments} <= set(engine.experiments())


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_results_are_of_the_current_grid_and_whole(name: str, profile: str) -> None:
    store = engine.store_for(name, profile)
    assert store.damaged() == []
    wanted = {store.path(cell) for cell in engine.cells(name, profile)}
    there = set(store.folder.glob("*.json"))
    assert wanted == there
    protocols = {read(path)["protocol"] for path in there}
    assert protocols == {engine.module(name).PROTOCOL}


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_results_come_from_one_kind_of_device_and_from_committed_code(name: str, profile: str) -> None:
    records = engine.records(name, profile)
    assert len({r["device"] for r in records}) == 1
    assert not any(r["dirty"] for r in records)
    assert all(r["commit"] for r in records)


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_what_must_hold_holds_and_violations_are_explained(name: str, profile: str) -> None:
    rows = engine.judge_all([name], profile)
    assert rows
    assert [r["id"] for r in rows if r["kind"] == "exact" and r["verdict"] != "holds"] == []
    assert [r["id"] for r in rows if r["kind"] in ("ceiling", "control") and r["verdict"] == "violated"] == []
    assert [r["id"] for r in rows if r["verdict"] == "violated" and not r["explained"]] == []


@pytest.mark.parametrize(("name", "profile"), PAIRS)
def test_predictions_that_were_sealed_before_the_merge_are_unchanged(name: str, profile: str) -> None:
    import hashlib

    from empirical.record import canonical

    for record in engine.records(name, profile):
        for sealed in record["metrics"].get("predicted", {}).values():
            if isinstance(sealed, dict) and "sha256" in sealed:
                assert hashlib.sha256(canonical(sealed["value"]).encode()).hexdigest() == sealed["sha256"]


def test_explanations_belong_to_predictions() -> None:
    ids = {r["id"] for name, profile in PAIRS for r in engine.judge_all([name], profile)}
    assert {key for claim in load().values() for key in claim.explained} <= ids


def test_registered_experiments_exist_and_speak_of_their_claims() -> None:
    claims = load()
    spoken = {(r["claim"], r["experiment"]) for name, profile in PAIRS for r in engine.judge_all([name], profile)}
    registered = {(c.id, e) for c in claims.values() for e in c.experiments}
    assert registered == spoken


@pytest.mark.parametrize("name", sorted({name for name, _ in PAIRS}))
def test_a_small_cell_comes_back_when_it_is_run_again(name: str) -> None:
    records = [r for r in engine.records(name, "cpu") if LIVE.get(name, {}).items() <= r["cell"].items()]
    record = min(records, key=lambda r: float(r["seconds"]))
    again = engine.module(name).run(record["cell"], "cpu")
    for key, value in record["metrics"].items():
        if isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value) and value[1]:
            k, n = value
            got, asked = again[key]
            assert asked == n
            # the same seeds on another processor: counts may move by rounding at ties, within binomial noise
            spread = max((k / n * (1 - k / n) * n) ** 0.5, 1.0)
            assert abs(got - k) <= 3 * spread
