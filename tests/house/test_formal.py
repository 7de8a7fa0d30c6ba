"""The formal layer: sources without escapes, statements as reviewed, and each of its gates seen to fail."""

import re
import shutil
from pathlib import Path

import pytest

from theory.claims import Claim, load
from theory.provenance import cache_folder
from theory.verify.formal import (
    CLOSED,
    ask,
    build,
    definitions_file,
    meanings,
    missing_tools,
    parse,
    printed,
    source_problems,
    sources_hash,
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


def test_the_sources_hold() -> None:
    assert not source_problems(PROOFS, CLAIMS)


@pytest.mark.parametrize(
    ("file", "added", "named"),
    [
        ("merging.v", "Lemma planted : 0 = 1. Proof. Admitted.", "merging.v: expected no Admitted"),
        ("merging.v", "Lemma planted : 0 = 1. Proof. admit. Qed.", "merging.v: expected no admit"),
        ("merging.v", "Axiom planted : 0 = 1.", "merging.v: expected no Axiom"),
        ("merging.v", "Axioms planted other : 0 = 1.", "merging.v: expected no Axioms"),
        ("merging.v", "Parameter planted : 0 = 1.", "merging.v: expected no Parameter"),
        ("merging.v", "Conjecture planted : 0 = 1.", "merging.v: expected no Conjecture"),
        ("merging.v", "Lemma planted : nat. Proof. exact 0. Defined.", "merging.v: expected no Defined"),
        ("merging.v", "Unset Guard Checking.", "merging.v: expected no Unset Guard Checking"),
        ("merging.v", "#[bypass_check(guard)] Fixpoint planted (n : nat) : nat := planted n.", "no bypass_check"),
        ("merging.v", "Theorem planted : True. Proof. exact I. Qed.", "Theorem planted in claims.toml"),
        ("forgotten.v", "Lemma planted : True. Proof. exact I. Qed.", "forgotten.v: expected in _CoqProject"),
        ("_CoqProject", "missing.v", "expected the file missing.v"),
        ("statements.v", "Check 0.", "statements.v: expected what the registry gives"),
    ],
)
def test_what_sources_must_not_hold_is_noticed(copy: Path, file: str, added: str, named: str) -> None:
    with (copy / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{added}\n")
    assert any(named in problem for problem in source_problems(copy, CLAIMS))


def test_an_escape_in_a_comment_is_none(copy: Path) -> None:
    text = (copy / "merging.v").read_text(encoding="utf-8")
    (copy / "merging.v").write_text(f"{text}(* no Admitted (* nor Axiom *) here *)\n", encoding="utf-8")
    assert not source_problems(copy, CLAIMS)
    assert strip_comments('a (* b (* c *) d *) e "(* f" g').split() == ["a", "e", '""', "g"]


def test_a_registered_theorem_that_is_gone_is_noticed(copy: Path) -> None:
    text = (copy / "merging.v").read_text(encoding="utf-8")
    (copy / "merging.v").write_text(text.replace("Theorem merge_rank ", "Lemma merge_rank "), encoding="utf-8")
    assert any("merge_rank" in p for p in source_problems(copy, CLAIMS))


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
def test_a_golden_copy_of_another_statement_is_noticed(copy: Path) -> None:
    golden = copy / "statements.v.out"
    text = golden.read_text(encoding="utf-8")
    changed = re.sub(r"<= \\sum_i r i", "< \\\\sum_i r i", text)
    assert changed != text
    golden.write_text(changed, encoding="utf-8")
    status = theorem_status(copy, CLAIMS, ["merge_rank"])
    assert status["merge_rank"][0] == "fail"
    assert "not the reviewed one" in str(status["merge_rank"][1])


MEANT = """
Definition inner := {0}.
Lemma ground : ({0}) \\/ ({0}). Proof. by {3}. Qed.
Definition meant := let _ := ground in inner.
Definition kind := {1}.
Notation hidden := (forall x : kind, x = x).
Definition apart := {0}.
Example shown : {0}. Proof. by []. Qed.
{2}
"""


@needs_coq
def test_a_changed_meaning_under_the_same_statement_is_noticed(tmp_path: Path) -> None:
    """Through a definition, through one that a notation hides, and beside it, in the Examples; proofs go on to hold."""
    statement, gone = "meant /\\ hidden", "Example gone : True. Proof. by []. Qed."
    toy = Toy(tmp_path, statement, MEANT.format("True", "nat", gone, "left"))
    toy.write(statement, "by [].", MEANT.format("True", "nat", gone, "right"))  # of a lemma the statement counts
    assert toy.status() == ("pass", None)
    toy.write(statement, "by [].", MEANT.format("True -> True", "bool", gone.replace("gone", "new"), "left"))
    status, reason = toy.status()
    assert status == "fail"
    changed = "merging.gone, merging.ground, merging.inner, merging.kind, merging.meant, merging.new, merging.shown"
    assert f"expected {changed} as reviewed in proofs/definitions.out" in str(reason)
    assert "make golden" in str(reason)


@needs_coq
@pytest.mark.parametrize(
    ("name", "reviewed", "other", "fails", "holds"),
    [
        ("networks.on_tokens", "const_mx 1", "const_mx 0", "transformer", "relu_network"),
        (
            "composition.twohop",
            "V *m embed rel1 + embed rel2",
            "V *m embed rel1",
            "one_layer_composition",
            "layer_order_last",
        ),
    ],
)
def test_a_definition_other_than_the_reviewed_one_fails_where_it_is_reached(
    copy: Path, name: str, reviewed: str, other: str, fails: str, holds: str
) -> None:
    """Two changes that leave every statement's text as it is and every proof valid."""
    text = (copy / "definitions.out").read_text(encoding="utf-8")
    before, mark, after = text.partition(f"\n{name} = ")
    assert mark
    (copy / "definitions.out").write_text(before + mark + after.replace(reviewed, other, 1), encoding="utf-8")
    status = theorem_status(copy, CLAIMS, [fails, holds])
    assert status[holds] == ("pass", None)
    assert status[fails][0] == "fail"
    assert f"expected {name} as reviewed" in str(status[fails][1])


@needs_coq
def test_the_reviewed_definitions_are_those_that_are_reached() -> None:
    known = meanings(PROOFS, cache_folder() / "coq")
    assert definitions_file(known) == (PROOFS / "definitions.out").read_text(encoding="utf-8")
    assert {f"{c.topic}.{t}" for c in CLAIMS.values() for t in c.theorems} <= known.keys()
    assert {"networks.hq", "composition.slot", "facts.agree"} <= known.keys()


def test_without_proofs_nothing_is_checked_and_nothing_fails(tmp_path: Path) -> None:
    assert {s for s, _ in theorem_status(tmp_path / "proofs", CLAIMS).values()} == {"not_checked"}


class Toy:
    """A small development of its own, its one theorem reviewed, with a cache of its own."""

    def __init__(self, folder: Path, statement: str = "True", before: str = "") -> None:
        self.folder, self.cache = folder, folder / "cache"
        claim = Claim("toy", "merging", "t", "theorem", (), source="ours", theorems={"toy": "all"}, code=(),
                      symbolic=(), numeric=(), assumptions=())  # fmt: skip
        self.claims = {"toy": claim}
        shutil.copy(PROOFS / "Makefile", folder)
        (folder / "lowrank.v").write_text("", encoding="utf-8")
        (folder / "_CoqProject").write_text("-R . LoraLimits\nlowrank.v\nmerging.v\n", encoding="utf-8")
        self.write(statement, "by [].", before)
        source = statements_source(self.claims, folder)
        (folder / "statements.v").write_text(source, encoding="utf-8")
        assert build(folder) is None
        (folder / "statements.v.out").write_text(ask(folder, source), encoding="utf-8")
        reviewed = definitions_file(meanings(folder, self.cache))
        (folder / "definitions.out").write_text(reviewed, encoding="utf-8")

    def write(self, statement: str, proof: str, before: str = "") -> None:
        """Write the source of the theorem."""
        text = f"From mathcomp Require Import ssreflect.\n{before}\nTheorem toy : {statement}.\nProof. {proof} Qed.\n"
        (self.folder / "merging.v").write_text(text, encoding="utf-8")

    def status(self) -> tuple[str, str | None]:
        return theorem_status(self.folder, self.claims, cache=self.cache)["toy"]


@needs_coq
def test_what_coq_printed_is_kept_and_hides_no_changed_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the source gate: Coq itself must name an axiom and print a changed statement, whatever was kept."""
    monkeypatch.setattr("theory.verify.formal.source_problems", lambda *_: [])
    toy = Toy(tmp_path)
    asked = []
    monkeypatch.setattr("theory.verify.formal.ask", lambda *a: asked.append(a) or ask(*a))
    assert [toy.status()[0] for _ in range(3)] == ["pass"] * 3
    assert len(asked) == 1
    toy.write("True", "by case: planted.", before="Axiom planted : False.")
    status, reason = toy.status()
    assert status == "fail"
    assert "planted" in str(reason)
    toy.write("True -> True", "by [].")
    status, reason = toy.status()
    assert status == "fail"
    assert "not the reviewed one" in str(reason)
    toy.write("False", "by [].")
    assert toy.status()[0] == "fail"  # does not build
    toy.write("True", "by [].")
    assert toy.status()[0] == "pass"
    assert len(asked) == 3  # the first print still stands for the first source


@needs_coq
@pytest.mark.parametrize("damage", ["", "{}", "[1, 2]", '{"toy": 3}'])
def test_a_damaged_cache_is_asked_anew(tmp_path: Path, damage: str) -> None:
    folder, cache = tmp_path / "empty", tmp_path
    folder.mkdir()
    (folder / "_CoqProject").write_text("", encoding="utf-8")
    (cache / f"{sources_hash(folder)}.json").write_text(damage, encoding="utf-8")
    assert printed(folder, {}, [], cache) == {}
