"""Every pointer that is printed is true: the files are read, in the lines that are named."""

import json
import re
from functools import cache
from pathlib import Path

import pytest

from empirical.engine.catalogue import names
from empirical.explain import explain
from empirical.ladder import experiments_of
from theory.__main__ import markdown
from theory.claims import load
from theory.verify.formal import theorem_files

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = load()
HELD = theorem_files(ROOT / "proofs")


@cache
def explained(claim: str) -> list[str]:
    """What is said of a claim where nothing was run."""
    return explain(claim, ROOT / "build" / "no such folder")


def rows(claim: str) -> dict[str, list[str]]:
    """Label -> its values, as printed (a value that is wrapped is put together again)."""
    found: dict[str, list[str]] = {}
    lines = explained(claim)
    label = ""
    for line in lines[lines.index("assumes") :]:
        if line.startswith("      ") and found:
            found[label][-1] += " " + line.strip()
        elif line.startswith("    ") and found:
            found[label].append(line.strip())
        elif ": " in line and not line.startswith(" "):
            label, _, value = line.partition(": ")
            found[label] = [value]
    return found


@pytest.mark.parametrize("claim", CLAIMS)
def test_what_explain_points_at_is_there(claim):
    found = rows(claim)
    (proofs,) = (re.fullmatch(r"proved in proofs/(\w+)\.v", label) for label in found if label.startswith("proved in"))
    assert proofs
    theorems = [value.partition(" ")[0] for value in found[proofs[0]]]
    assert theorems == list(CLAIMS[claim].theorems)
    assert {stem for name in theorems for stem in HELD[name]} == {proofs[1]}
    marked = [pointer for pointer in found["tested by"] if " " in pointer]
    files = found["tested by"][len(marked) :]
    assert files, f"rows in tests/theory/test_documented.py that name what {claim} computes"
    code = {reference.partition(":")[2] for reference in CLAIMS[claim].code}
    for file in files:
        assert any(name in (ROOT / file).read_text(encoding="utf-8") for name in code)
    tested = set()
    for pointer in marked:
        file, line, test, those = re.fullmatch(r"(\S+):(\d+) (\w+) \((.*)\)", pointer).groups()
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        tested |= set(those.split(", "))
    assert tested == set(theorems)
    (pointer,) = found["in the paper"]
    file, line, section, label = re.fullmatch(r"(\S+):(\d+), section (\S+), label (\S+)", pointer).groups()
    text = (ROOT / file).read_text(encoding="utf-8")
    assert f"\\claim{{{claim}}}" in text.splitlines()[int(line) - 1]
    assert f"\\label{{{section}}}" in text
    assert label == f"claim:{claim}"
    measured = [v.removeprefix("empirical/experiments/") for v in found["measured by"]]
    assert measured == (list(experiments_of(claim)) or ["no experiment"])
    assert set(measured) <= {*names(), "no experiment"}


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_sentence_is_numbered_and_says_what_it_stands_on(claim):
    lines = explained(claim)
    said = " ".join(line.strip() for line in lines[: lines.index("assumes")])
    for number, sentence in enumerate(CLAIMS[claim].sentences, start=1):
        stands = ", ".join(sentence.theorems) or sentence.unproved or sentence.measured
        where = said.index(f" {number}. {sentence.tex} -> ")
        assert said.index(stands, where) >= where
    count = sum(bool(s.theorems) for s in CLAIMS[claim].sentences)
    of = sum(not s.measured for s in CLAIMS[claim].sentences)
    assert f"sentences proved: {count}/{of}" in lines
    assert f" | {count}/{of} | " in markdown({claim: CLAIMS[claim]})


def test_claims_that_are_proved_whole_are_counted():
    two = {name: CLAIMS[name] for name in ("few_numbers", "spectral_concentration")}
    assert "\n1 of 2 claims are proved whole.\n" in markdown(two)


def test_a_prediction_is_shown_with_its_experiment(tmp_path):
    row = {"id": "single.law.AB", "claim": "coverage_law", "experiment": "coverage", "verdict": "holds"}
    row["kind"] = "hypothesis"
    (tmp_path / "experiments.json").write_text(json.dumps({"predictions": [row]}), encoding="utf-8")
    shown = "prediction coverage/single.law.AB: holds (hypothesis; last make experiments)"
    assert shown in explain("coverage_law", tmp_path)
    assert not [line for line in explain("dilution", tmp_path) if line.startswith("prediction")]


def test_the_table_of_claims_points_at_the_files_that_hold_the_theorems():
    table = markdown(CLAIMS).splitlines()
    for claim in CLAIMS.values():
        (line,) = (line for line in table if line.startswith(f"| `{claim.id}` |"))
        count, stem = re.search(r"(\d+) in `proofs/(\w+)`", line).groups()
        assert sum(HELD[name] == [stem] for name in claim.theorems) == int(count)
        for module, name in re.findall(r"`([a-z_]+)\.(\w+)[.\w]*`", line):
            source = (ROOT / "theory" / f"{module}.py").read_text(encoding="utf-8")
            assert re.search(rf"^(def|class) {name}\b", source, re.MULTILINE), name
