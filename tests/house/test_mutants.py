"""The mutants of the project's own code: what is changed, what notices, and whose turn it is after a change."""

import ast
import importlib
import linecache
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from theory.claims import Claim, RegistryError, load
from theory.verify import affected, mutants
from theory.verify.mutations import sites

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = load()
CONTINUAL = {name for name, claim in CLAIMS.items() if claim.topic == "continual"}


@pytest.mark.parametrize(("code", "changes"), [
    ("require(x < 1, 'x', f'{x + 1}', x)", "True | not x < 1 | x <= 1"),
    ("require(0 <= x < 2, 'x', 'y', 7)", "True | not 0 <= x < 2 | 0 < x < 2 | 0 <= x <= 2 | 3"),
    ("if x > a:\n  raise ValueError(1 + 1)", "False | not x > a | x >= a"),
    ("y = integer(x, 'x', 0)", "x | 1"),
    ("y = vector(x, 'x')", "__import__('numpy').asarray(x, dtype=float)"),
    ("y = a + b", "a | b"),
    ("y = a - b", "a"),
    ("y = a * b", "a / b"),
    ("y = a ** 2", "a | 3"),
    ("y = min(a, b)", "max(a, b)"),
    ("y = np.maximum(a, 1)", "np.minimum(a, 1)"),
    ("y: float = 0.5 * EPS", "0.5 / EPS | 0.525 | 0.0 | 1000000.0 * EPS"),
    ("y = rank_tolerance(a, b)", "0.0 | 1000000.0 * rank_tolerance(a, b)"),
    ("y = 'rows' + f'{a * b}'", ""),
    ("def inner(x: 'a + b'):\n  return x / c", "x * c"),
])  # fmt: skip
def test_places_that_are_changed(code: str, changes: str) -> None:
    (function,) = ast.parse("def f():\n " + code.replace("\n", "\n ")).body
    assert isinstance(function, ast.FunctionDef)
    assert [ast.unparse(site.new) for site in sites(function)] == [c for c in changes.split(" | ") if c]


def test_a_change_of_a_lone_number_says_where() -> None:
    (function,) = ast.parse("def f(x):\n  while x > 2:\n    x = x // 2\n  return x").body
    assert isinstance(function, ast.FunctionDef)
    assert [str(site) for site in sites(function)] == ["2 -> 3 in while x > 2:", "2 -> 3 in x = x // 2"]


PLANTED = """
from functools import lru_cache
from theory.checks import check, expect
from theory.numerics import EPS, integer, require
def bound(n):
    require(n < 10, "n", "below 10", n)
    return integer(n, "n", 0) * 2.0 + helped(n)
@lru_cache
def helped(n):
    return n if n > 4 else 3 + 0
@check("planted")
def weak():
    expect(4.9 < bound(1) < 5.4, "far off")
@check("planted")
def strong():
    expect([bound(n) for n in (0, 1, 4, 5, 9)] == [3.0, 5.0, 11.0, 15.0, 27.0], "off")
    for bad in (-1, 10):
        try:
            bound(bad)
        except ValueError:
            continue
        expect(False, "accepted")
"""
#: what only the end of a range or another value shows
UNSEEN_BY_WEAK = {
    "n < 10 -> True", "n < 10 -> n <= 10", "10 -> 11", "integer(n, 'n', 0) -> n", "0 -> 1", "4 -> 5", "2.0 -> 2.1",
    "returned value +1 %", "returned value -1 %",
}  # fmt: skip


@pytest.mark.parametrize(("check", "survivors"), [("weak", UNSEEN_BY_WEAK), ("strong", set())])
def test_mutants_survive_a_weak_check_and_not_a_strong_one(
    check: str, survivors: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "planted_bound.py").write_text(PLANTED, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted_bound", raising=False)
    claim = Claim("planted", "merging", "t", "theorem", (), (), "ours", code=("planted_bound:bound",), symbolic=(),
                  numeric=(f"planted_bound:{check}",))  # fmt: skip
    monkeypatch.setattr(mutants, "_modules", lambda _: [__import__("planted_bound")])
    every = mutants.find({"planted": claim})
    expected = [m for m in every if m.function in ("bound", "helped")]
    left = {m.what.partition(" in ")[0] for m in expected if mutants.judge(m) == ("survived", "")}
    assert left == survivors | {"3 + 0 -> 3"}
    assert {m.kind for m in expected} == {"value", "guard", "operator", "constant"}

    listed = tmp_path / "equivalent.toml"
    listed.write_text('[[mutant]]\nfunction = "planted_bound:helped"\nreason = "?"\nchanges = '
                      '["3 + 0 -> 3", "3 + 0 -> 0", "gone -> away"]\n', encoding="utf-8")  # fmt: skip
    monkeypatch.setattr(mutants, "EQUIVALENT", listed)
    monkeypatch.setattr(mutants, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(mutants, "find", lambda *_: [m for m in expected if m.function == "helped"])
    assert mutants.run({"planted": claim}) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if "planted_bound" in line]
    assert lines[:1] == ["listed, but no such place: planted_bound:helped: gone -> away"]
    assert "3 + 0 -> 0 listed as equivalent, but" in lines[-1]
    assert [line.partition(": ")[2] for line in lines[1:-1]] == (
        ["planted_bound:helped line 10: constant: 4 -> 5 in return n if n > 4 else 3 + 0"] if check == "weak" else []
    )
    with monkeypatch.context() as patch:
        patch.setattr(mutants, "judge", None)
        assert mutants.run({"planted": claim}, budget=0.0) == 1, "all verdicts are there"
    again = [line for line in capsys.readouterr().out.splitlines() if "planted_bound" in line]
    assert sorted(again) == sorted(lines)  # the order of a budget changes with the commit
    (tmp_path / "mutants.jsonl").write_text('["cut short"', encoding="utf-8")
    assert mutants.run({"planted": claim}, budget=0.0) == 1
    assert "0 of 4 mutants tried (0 before), 1 left" in capsys.readouterr().out


@pytest.mark.parametrize(("old", "new", "stand"), [
    ("# nothing", "#", {"one", "two"}),
    ("TABLE = [1, 2]", "TABLE = [7, 2]", set()),
    ("return n + 1", "return 1 + n", {"two"}),
    ("n == 1", "1 == n", {"two"}),
    ("return n * 2", "return 2 * n", {"one"}),
])  # fmt: skip
def test_a_verdict_stands_until_something_that_its_checks_run_through_changes(
    old: str, new: str, stand: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
from theory.checks import check, expect
TABLE = [1, 2]
def one(n):
    return n + 1
def two(n):
    return n * 2
def helped(n):
    return n == 1
@check("planted")
def first():
    expect(helped(one(0)), "off")
@check("planted")
def second():
    expect(two(TABLE[1]) == 4, "off")
# nothing
"""
    monkeypatch.syspath_prepend(str(tmp_path))
    claim = Claim("planted", "merging", "t", "theorem", (), (), "ours", code=("planted_two:one", "planted_two:two"),
                  symbolic=(), numeric=("planted_two:first", "planted_two:second"))  # fmt: skip

    def keys(source: str) -> dict[str, str]:
        (tmp_path / "planted_two.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, "planted_two", raising=False)
        linecache.checkcache()
        monkeypatch.setattr(mutants, "_modules", lambda _: [importlib.import_module("planted_two")])
        return {m.key: m.function for m in mutants.find({"planted": claim}) if m.kind == "value"}

    before = keys(text)
    assert set(before.values()) == {"one", "two"}
    after = keys(text.replace(old, new))
    assert {name for key, name in before.items() if key in after} == stand


def test_the_listed_equivalents_give_reasons() -> None:
    assert all(len(reason.split()) > 5 for reason in mutants.equivalent().values())


def git(root: Path, *arguments: str) -> str:
    name = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(root), *name, *arguments], capture_output=True, text=True,
                          check=True).stdout.strip()  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The package as the only commit of a repository."""
    shutil.copytree(ROOT / "theory", tmp_path / "theory", ignore=shutil.ignore_patterns("__pycache__"))
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    return tmp_path


@pytest.mark.parametrize(("file", "old", "new", "those"), [
    ("continual.py", "import math", "import math  # changed", CONTINUAL),
    ("checks/continual.py", "from theory", "# changed\nfrom theory", CONTINUAL),
    ("claims.toml", "[dilution]", "[dilution]\n# changed\nchanged = 1", {"dilution"}),
    ("numerics.py", "import math", "import math  # changed", set(CLAIMS)),
    ("verify/mutations.py", "import math", "import math  # changed", set(CLAIMS)),
    ("provenance.py", "import os", "import os  # changed", set()),
])  # fmt: skip
def test_a_change_concerns_the_claims_behind_whose_code_or_checks_it_stands(
    file: str, old: str, new: str, those: set[str], checkout: Path
) -> None:
    assert affected.base(checkout) is None, "a single commit has none before it"
    path = checkout / "theory" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    assert affected.affected(CLAIMS, "HEAD", checkout) == those
    git(checkout, "commit", "-q", "-a", "-m", "two")
    before = git(checkout, "rev-parse", "HEAD~1")
    assert affected.base(checkout) == before
    assert affected.affected(CLAIMS, before, checkout) == those
    assert affected.affected(CLAIMS, "HEAD", checkout) == set()


def test_a_branch_is_compared_with_where_it_left_main(checkout: Path) -> None:
    left = git(checkout, "rev-parse", "HEAD")
    git(checkout, "update-ref", "refs/remotes/origin/main", left)
    for message in ("two", "three"):
        git(checkout, "commit", "-q", "--allow-empty", "-m", message)
    assert affected.base(checkout) == left


def test_a_shallow_clone_has_nothing_to_compare_with(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    git(checkout, "commit", "-q", "--allow-empty", "-m", "two")
    clone = tmp_path_factory.mktemp("clone") / "clone"
    git(checkout, "clone", "-q", "--depth", "1", checkout.as_uri(), str(clone))
    assert affected.base(clone) is None
    with pytest.raises(RegistryError, match="--changed: expected a commit that git knows, got 'gone'"):
        affected.affected(CLAIMS, "gone", clone)
