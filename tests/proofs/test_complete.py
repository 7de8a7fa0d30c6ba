"""Every theorem is tested against the code, no test names one that does not exist; Coq agrees with Python on numbers.

A test names what it evaluates: ``@pytest.mark.theorem("merge_rank", ..)`` for theorems, ``@pytest.mark.example(..)``
for Coq's counter-examples and worked instances.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.proofs.exact import Mat, agree, tables
from theory import claims
from theory.additive import additive_optimum, additive_patterns
from theory.routing import maxload
from theory.verify.formal import missing_tools, strip_comments, theorem_files

PROOFS = Path(__file__).parents[2] / "proofs"
TESTS = Path(__file__).parent


def named(sources: Mapping[str, str], marker: str) -> dict[str, list[str]]:
    """name -> ``file:test`` of every test function that carries ``pytest.mark.<marker>(name, ..)``."""
    found: dict[str, list[str]] = {}
    for file, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.FunctionDef) and node.name.startswith("test_")):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == f"pytest.mark.{marker}":
                    for argument in mark.args:
                        found.setdefault(ast.literal_eval(argument), []).append(f"{file}:{node.name}")
    return found


def problems(wanted: Iterable[str], marked: Mapping[str, list[str]], known: Iterable[str]) -> list[str]:
    """One line per theorem without a test, and per marker that names nothing."""
    existing = set(known)
    missing = [f"Theorem {name}: expected a test in tests/proofs, got none" for name in wanted if name not in marked]
    return missing + [
        f"{marked[name][0]}: expected the name of a theorem, got {name}" for name in marked if name not in existing
    ]


def examples() -> dict[str, str]:
    """Every ``Example`` of the sources: name -> file stem."""
    return {
        name: path.stem
        for path in sorted(PROOFS.glob("*.v"))
        for name in re.findall(
            r"^\s*Example\s+([\w']+)", strip_comments(path.read_text(encoding="utf-8")), re.MULTILINE
        )
    }


SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(TESTS.glob("test_*.py"))}


def test_every_theorem_has_a_test() -> None:
    stated = theorem_files(PROOFS)
    registered = [theorem for claim in claims.load().values() for theorem in claim.theorems]
    assert len(stated) > 100
    assert problems([*stated, *registered], named(SOURCES, "theorem"), [*stated, *registered]) == []


def test_every_theorem_is_tested_in_its_topic() -> None:
    marked = named(SOURCES, "theorem")
    strays = [
        f"{theorem}: expected a test in test_{stem}.py, got {marked.get(theorem)}"
        for theorem, (stem, *_) in theorem_files(PROOFS).items()
        if not any(at.startswith(f"test_{stem}.py:") for at in marked.get(theorem, []))
    ]
    assert strays == []


def test_every_topic_reproduces_its_counter_examples() -> None:
    stated, marked = examples(), named(SOURCES, "example")
    assert problems(stated, marked, stated) == []
    assert {stem.split("_")[0] for stem in stated.values()} >= set(claims.topics(claims.load()))


def test_a_planted_omission_and_a_planted_name_are_noticed() -> None:
    planted = '@pytest.mark.theorem("kept", "imagined")\ndef test_planted(): ...\n'
    helper = '@pytest.mark.theorem("forgotten")\ndef helper(): ...\n# "forgotten" in a comment\n'
    marked = named({"test_planted.py": planted + helper}, "theorem")
    assert marked == {"kept": ["test_planted.py:test_planted"], "imagined": ["test_planted.py:test_planted"]}
    assert problems(["kept", "forgotten"], marked, ["kept", "forgotten"]) == [
        "Theorem forgotten: expected a test in tests/proofs, got none",
        "test_planted.py:test_planted: expected the name of a theorem, got imagined",
    ]


# ---- the other direction: numbers that Python computes, closed by the theorems in Coq ----

HEADER = """\
From mathcomp Require Import all_ssreflect all_algebra.
From LoraLimits Require Import {modules}.
Local Open Scope nat_scope.
"""


def instances() -> list[tuple[str, str]]:
    """(module, Coq source) of instances whose numbers come from Python."""
    found = []
    # counting_single and blind_to_table: g1 = the constant table, n m^(n-1)
    for n, m in ((2, 2), (3, 2), (2, 5)):
        score = sum(agree((0,) * n, q) for q in tables(n, m))
        found.append(("facts", f"Goal forall g : {{ffun 'I_{n} -> 'I_{m}}}, \\sum_q agree g q = {score}.\n"
                      "Proof. by move=> g; rewrite counting_single !card_ord. Qed."))  # fmt: skip
    # hard_routing at two bridges: 2 m + m^2 + m, the right side of the ceiling in counts
    for m in (2, 6):
        loads = round(maxload(2, m) * m**2)
        found.append(("routing", f"Goal \\sum_(q : {{ffun bool -> 'I_{m}}}) max_load q = {loads}.\n"
                      "Proof. by rewrite max_load_two card_ord. Qed."))  # fmt: skip
        found.append(("routing", f"Goal forall (g1 : bool -> 'I_{m}) (g2 : {{ffun bool -> 'I_{m}}} -> 'I_{m}),\n"
                      f"  \\sum_(q : {{ffun bool -> 'I_{m}}}) \\sum_y ((g1 y == q y) || (g2 q == q y))\n"
                      f"    <= {2 * m + loads}.\n"
                      "Proof. move=> g1 g2; apply: leq_trans (hard_routing g1 g2) _.\n"
                      "by rewrite max_load_two card_bool !card_ord. Qed."))  # fmt: skip
    # parameters of an adapter
    found.append(
        ("adapters", "Goal 3 * (5 + 4) = 3 * (5 + 4 - 3) + 3 * 3.\nProof. exact: adapter_parameter_count. Qed.")
    )
    # trace_rank on a rational matrix: (tr A)^2 <= rank A * frob2 A
    a = Mat([[1, 2], [0, 1]])
    square, norm = a.trace() ** 2, a.frob2()
    entries = "(if i == j then 1 else if i == ord0 then 2%:R else 0)"
    found.append(("facts", "Local Open Scope ring_scope.\nImport GRing.Theory Num.Theory.\n"
                  f"Goal forall A : 'M[rat]_2, A = \\matrix_(i, j) {entries} ->\n"
                  f"  {square}%:R <= (\\rank A)%:R * {norm}%:R :> rat.\n"
                  f"Proof. move=> A defA; have [<- <-] : (\\tr A) ^+ 2 = {square}%:R /\\ lowrank.frob2 A = {norm}%:R.\n"
                  "  rewrite defA /lowrank.frob2 /mxtrace.\n"
                  "  by rewrite !big_ord_recl !big_ord0 /= !mxE; split; apply/eqP.\n"
                  "exact: trace_rank. Qed.\nLocal Close Scope ring_scope."))  # fmt: skip
    # additive_limit, part 3, at two bridges
    for m in (2, 3, 5):
        ceiling = additive_optimum(2, m) * 2 * m**2  # at n = 2 the ceiling is attained
        found.append(("additive", f"Goal 4 * {m} * patterns_ceiling 'C((2 + {m}).-1, 2) 2 {m} = {4 * m * ceiling}.\n"
                      "Proof. by rewrite patterns_ceiling_card2. Qed."))  # fmt: skip
    found.append(("additive", f"Goal 'C((2 + 3).-1, 2) = {additive_patterns(2, 3)} /\\\n"
                  f"  'C((3 + 2).-1, 3) = {additive_patterns(3, 2)}.\nProof. by []. Qed."))  # fmt: skip
    return found


@pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))
def test_coq_accepts_the_numbers_of_python(tmp_path: Path) -> None:
    used = instances()
    modules = list(dict.fromkeys(["lowrank", *(module for module, _ in used)]))
    unbuilt = [name for name in modules if not (PROOFS / f"{name}.vo").exists()]
    if unbuilt:
        pytest.skip(f"proofs not built ({', '.join(unbuilt)}): make -C proofs")

    def compiled(statements: Iterable[str]) -> subprocess.CompletedProcess[str]:
        source = HEADER.format(modules=" ".join(modules)) + "\n".join(statements) + "\n"
        (tmp_path / "instances.v").write_text(source, encoding="utf-8")
        options = ["-q", "-w", "none", "-R", str(PROOFS), "LoraLimits"]
        return subprocess.run(
            ["coqc", *options, "instances.v"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    done = compiled(text for _, text in used)
    if "inconsistent assumptions" in done.stderr or "bad version" in done.stderr:
        pytest.skip("proofs built from other sources: make -C proofs")
    assert done.returncode == 0, done.stderr
    # a wrong number is not accepted
    wrong = used[0][1].replace("agree g q = 4.", "agree g q = 5.")
    assert wrong != used[0][1]
    assert compiled([wrong]).returncode != 0
