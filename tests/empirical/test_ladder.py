"""What stands above the layers of theory: real adapters among the checks, and the rung *measured*."""

import sys
from pathlib import Path
from typing import Any

import pytest

from empirical import ladder
from empirical.ladder import LAYERS, Measured, Numeric, checks_of, experiments_of
from theory.claims import load
from theory.verify import run
from theory.verify.status import Row

CLAIMS = load()


def row(kind: str, verdict: str, claim: str = "dilution", declared: str | None = "0" * 16) -> dict[str, str | None]:
    return {"id": f"{kind}.{verdict}", "claim": claim, "kind": kind, "verdict": verdict, "declared": declared}


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([row("exact", "holds"), row("hypothesis", "violated")], "pass"),
        ([row("exact", "holds"), row("ceiling", "violated")], "fail"),
        ([row("control", "violated")], "fail"),
        ([row("exact", "violated", claim="coverage_law")], "not_checked"),
        ([row("exact", "holds", declared=None), row("hypothesis", "holds", declared=None)], "not_checked"),
        ([row("exact", "holds", declared=None), row("hypothesis", "holds")], "pass"),
        ([], "not_checked"),
    ],
)
def test_a_violated_hypothesis_is_a_result_and_a_violated_theorem_a_defect(rows: list[Any], status: str) -> None:
    found = Measured().results({"dilution": CLAIMS["dilution"]}, [(rows, None)])["dilution"]
    assert found.status == status
    assert found.parts == {r["id"]: r["verdict"] for r in rows if r["claim"] == "dilution"}


def test_a_claim_that_no_experiment_names_is_not_planned_to_be_measured() -> None:
    silent = {c: claim for c, claim in CLAIMS.items() if not experiments_of(c)}
    assert silent
    assert {r.status for r in Measured().results(silent, []).values()} == {"none_planned"}
    assert not Measured().tasks(silent)


def test_without_what_judges_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    import empirical.engine

    monkeypatch.setitem(sys.modules, "empirical.engine.catalogue", None)
    monkeypatch.delattr(empirical.engine, "catalogue", raising=False)  # where a test before has loaded it
    rows, missing = ladder._judged(["one_layer"], None)
    assert rows == []
    assert missing
    found = Measured().results({"dilution": CLAIMS["dilution"]}, [(rows, missing)])["dilution"]
    assert (found.status, found.reason) == ("not_checked", missing)
    assert Measured().lacking(found)  # unlike an experiment that waits for its run
    (waits,) = Measured().results({"coverage_law": CLAIMS["coverage_law"]}, [([], None)]).values()
    assert (waits.status, Measured().lacking(waits)) == ("not_checked", False)


def test_a_real_adapter_that_fails_fails_its_claim() -> None:
    claims = {"merge_rank": CLAIMS["merge_rank"]}
    (adapter,) = checks_of("merge_rank")
    good = Row("pass", None, None, 0.0, 1)
    plain = dict.fromkeys(CLAIMS["merge_rank"].numeric, good)
    layer = Numeric()
    assert len(layer.tasks(claims)) == 1 + len(plain)
    for status in ("pass", "fail", "not_checked"):
        bad = Row(status, None, "planted", 0.0, 1)
        assert layer.results(claims, [{adapter: bad}, plain])["merge_rank"].status == status
    assert adapter.partition(":")[2] in layer.details([{adapter: good}, plain])[1]
    assert not layer.details([plain])


def test_the_whole_ladder_has_all_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(run, "verify", lambda *a: seen.append(a) or 0)
    monkeypatch.setattr(ladder, "build_folder", lambda: tmp_path)
    assert ladder.verify() == 0
    assert ladder.verify("dilution", strict=True) == 0
    for claims, evidence, strict, _, write, sources in seen:
        assert tuple(layer.name for layer in evidence) == LAYERS
        assert (write is None) == strict == (list(claims) == ["dilution"])
        assert set(run.SOURCES) < set(sources)
    assert [layer.rung for layer in seen[0][1]] == ["checked", "checked", "proved", "measured"]
