"""What the tests of paper and page share: real results and statements, and a verification in which all passed."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from empirical.engine.records import RESULTS
from empirical.ladder import LAYERS, SOURCES
from paper import evidence
from paper.evidence import Evidence, Run
from tests.empirical.judged import once
from theory.claims import load
from theory.verify.run import SCHEMA, Environment, Verification, sources_hash
from theory.verify.status import ResultData

Judged = dict[tuple[str, str], Run]


def verified(parts: dict[str, dict[str, str]]) -> Verification:
    """A verification in which everything passed; `parts`: claim -> prediction -> verdict."""

    registry = load()

    def layer(claim: str, name: str) -> ResultData:
        found = parts.get(claim, {}) if name == "empirical" else {}
        proved, sentences = registry[claim].proved, len(registry[claim].mathematics)
        return {"status": "pass", "figure": {"name": "gap", "value": 1e-16, "unit": "relative"},
                "seconds": 0.1, "parts": found, "reason": None, "expectations": 1,
                "proved": proved, "sentences": sentences}  # fmt: skip

    environment: Environment = {
        "python": "3", "platform": "a test", "cores": 2, "packages": {"peft": "1", "torch": None},
        "coq": "The Coq Proof Assistant, version 8", "commit": "0123456789", "dirty": False, "seconds": 60.0,
        "sources": sources_hash(SOURCES),
    }  # fmt: skip
    claims = {c: {name: layer(c, name) for name in LAYERS} for c in registry}
    return {"schema": SCHEMA, "environment": environment, "claims": claims}


@pytest.fixture(scope="session")
def judged() -> Judged:
    with pytest.MonkeyPatch.context() as patch:
        once(patch)
        return evidence.judge_everything(RESULTS)


@pytest.fixture(scope="session")
def gathered(tmp_path_factory: pytest.TempPathFactory, judged: Judged) -> Evidence:
    from empirical.engine.catalogue import judged_profile

    claims = load()
    parts: dict[str, dict[str, str]] = {}
    for (name, under), run in judged.items():
        for row in run.rows if under == judged_profile(name, "auto") else []:
            parts.setdefault(row["claim"], {})[row["id"]] = row["verdict"]
    path = tmp_path_factory.mktemp("build") / "verification.json"
    path.write_text(json.dumps(verified(parts)), encoding="utf-8")
    found = evidence.read_verification(Path(path), claims)
    evidence.check_measured(found, claims, judged, RESULTS)
    runs, unfinished = evidence.sort_runs(judged)
    return Evidence(claims, found, evidence.read_statements(evidence.STATEMENTS, claims), runs, unfinished)
