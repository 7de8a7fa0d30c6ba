"""The formal layer: sources without escapes, statements as reviewed, and each of its gates seen to fail."""

import re
import shutil
from pathlib import Path

import pytest

from theory.claims import Claim, load
from theory.verify.formal import (
    CLOSED,
    build,
    missing_tools,
    parse,
    printed,
    source_problems,
    statements_source,
    strip_comments,
    theorem_status,
)

PROOFS = Path(__file__).resolve().parents[2] / "proofs"
CLAIMS = load()
needs_coq = pytest.mark.skipif(missing_tools() is not None, reason=missing_tools() or "")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PROOFS, tmp_path / "proofs")
    return tmp_path / "proofs"


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def test_the_sources_hold() -> None:
    assert not source_problems(PROOFS, CLAIMS)


@pytest.mark.parametrize(
    "escape",
    [
        "Lemma planted : 0 = 1. Proof. Admitted.",
        "Lemma planted : 0 = 1. Proof. admit. Qed.",
        "Axiom planted : 0 = 1.",
        "Axioms planted other : 0 = 1.",
        "Parameter planted : 0 = 1.",
        "Conjecture planted : 0 = 1.",
        "Unset Guard Checking.",
        '#[bypass_check(guard)] Fixpoint planted (n : nat) : nat := planted n.',
    ],
)  # fmt: skip
def test_an_escape_is_noticed(copy: Path, escape: str) -> None:
    append(copy / "merging.v", f"\n{escape}\n")
    assert source_problems(copy, CLAIMS)


def test_an_escape_in_a_comment_is_none(copy: Path) -> None:
    append(copy / "merging.v", "\n(* no Admitted (* nor Axiom *) here *)\n")
    assert not source_problems(copy, CLAIMS)
    assert strip_comments('a (* b (* c *) d *) e "(* f" g').split() == ["a", "e", '""', "g"]


def test_a_file_outside_the_build_is_noticed(copy: Path) -> None:
    (copy / "forgotten.v").write_text("Lemma planted : True. Proof. exact I. Qed.\n", encoding="utf-8")
    assert any("forgotten.v" in p for p in source_problems(copy, CLAIMS))


def test_a_listed_file_that_is_not_there_is_noticed(copy: Path) -> None:
    append(copy / "_CoqProject", "missing.v\n")
    assert any("missing.v" in p for p in source_problems(copy, CLAIMS))


def test_a_theorem_that_is_not_registered_is_noticed(copy: Path) -> None:
    append(copy / "merging.v", "\nTheorem planted : True. Proof. exact I. Qed.\n")
    assert any("planted" in p for p in source_problems(copy, CLAIMS))


def test_a_registered_theorem_that_is_gone_is_noticed(copy: Path) -> None:
    text = (copy / "merging.v").read_text(encoding="utf-8")
    (copy / "merging.v").write_text(text.replace("Theorem merge_rank ", "Lemma merge_rank "), encoding="utf-8")
    assert any("merge_rank" in p for p in source_problems(copy, CLAIMS))


def test_statements_that_the_registry_does_not_give_are_noticed(copy: Path) -> None:
    append(copy / "statements.v", "\nCheck 0.\n")
    assert any("statements.v" in p for p in source_problems(copy, CLAIMS))


def test_the_golden_copy_is_complete_and_closed() -> None:
    golden = parse((PROOFS / "statements.v.out").read_text(encoding="utf-8"))
    assert [name for name, _ in golden] == [t for c in CLAIMS.values() for t in c.theorems]
    assert {printed.assumptions for _, printed in golden} == {CLOSED}
    assert statements_source(CLAIMS, PROOFS).count("Print Assumptions") == len(golden)


def test_what_coq_prints_is_split_by_theorem() -> None:
    text = "t\n     : forall x, x = x\nClosed under the global context\nu\n     : y\n       z\nAxioms:\na : y\n"
    (first, second) = parse(text)
    assert first == ("t", ("     : forall x, x = x", CLOSED))
    assert second[0] == "u"
    assert second[1].assumptions.startswith("Axioms:")


@needs_coq
def test_coq_says_the_same_as_the_golden_copy() -> None:
    status = theorem_status(PROOFS, CLAIMS)
    assert {t: s for t, s in status.items() if s[0] != "pass"} == {}


@needs_coq
def test_a_changed_statement_is_noticed(copy: Path) -> None:
    golden = copy / "statements.v.out"
    text = golden.read_text(encoding="utf-8")
    changed = re.sub(r"<= \\sum_i r i", "< \\\\sum_i r i", text)
    assert changed != text
    golden.write_text(changed, encoding="utf-8")
    status = theorem_status(copy, CLAIMS)
    assert status["merge_rank"][0] == "fail"
    assert "not the reviewed one" in str(status["merge_rank"][1])


@needs_coq
@pytest.mark.parametrize(("proof", "want"), [("exact: I.", "pass"), ("by case: planted.", "fail")])
def test_an_axiom_that_slips_through_the_source_gate_is_still_noticed(
    proof: str, want: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small development of its own: Coq itself must name the axiom, whatever the source gate says."""
    monkeypatch.setattr("theory.verify.formal.source_problems", lambda *_: [])
    shutil.copy(PROOFS / "Makefile", tmp_path)
    header = "From mathcomp Require Import all_ssreflect all_algebra.\n"
    source = f"{header}Axiom planted : False.\nTheorem toy : True.\nProof. {proof} Qed.\n"
    (tmp_path / "merging.v").write_text(source, encoding="utf-8")
    (tmp_path / "lowrank.v").write_text("", encoding="utf-8")
    (tmp_path / "_CoqProject").write_text("-R . LoraLimits\nlowrank.v\nmerging.v\nstatements.v\n", encoding="utf-8")
    lists = {"code": (), "symbolic": (), "numeric": (), "assumptions": ()}
    claim = Claim("toy", "merging", "t", "theorem", "s", source="ours", theorems={"toy": "all"}, **lists)
    (tmp_path / "statements.v").write_text(statements_source({"toy": claim}, tmp_path), encoding="utf-8")
    assert build(tmp_path) is None
    (tmp_path / "statements.v.out").write_text(printed(tmp_path), encoding="utf-8")
    status, reason = theorem_status(tmp_path, {"toy": claim})["toy"]
    assert status == want
    assert want == "pass" or "planted" in str(reason)
