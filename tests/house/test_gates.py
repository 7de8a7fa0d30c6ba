"""Every gate of the verification is seen to fail: a violation is planted in a copy and red is expected."""

import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from theory.__main__ import main
from theory.claims import load
from theory.console import verification
from theory.verify.run import Formal, Numeric, Symbolic, verify
from theory.verify.status import run_reference, worst

ROOT = Path(__file__).resolve().parents[2]


def theory(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "theory", *arguments],
        capture_output=True, text=True, cwd=cwd, env=os.environ | {"STRICT": ""} | environment, check=False,
    )  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with a proof of nothing, free to be broken."""
    shutil.copytree(ROOT / "theory", tmp_path / "theory", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs" / "merging.v").write_text("", encoding="utf-8")
    return tmp_path


def test_a_broken_bound_fails_its_claim_and_a_layer_that_cannot_run_does_not(copy: Path) -> None:
    source = copy / "theory" / "merging.py"
    text = source.read_text(encoding="utf-8")
    broken = text.replace("below_ratio = max(math.ceil(g / d) - 1, 0)", "below_ratio = max(math.ceil(g / d), 0)")
    assert broken != text
    without_coq = {"PATH": str(copy)}
    whole = theory("verify", "--claim", "dilution", cwd=copy, **without_coq)
    assert whole.returncode == 0
    assert "not checked" in whole.stdout
    assert "apt-get install coq" in whole.stdout
    source.write_text(broken, encoding="utf-8")
    red = theory("verify", "--claim", "dilution", cwd=copy, **without_coq)
    assert red.returncode == 1
    assert "FAIL" in red.stdout
    assert "dilution_numeric" in red.stdout


def test_what_was_not_checked_fails_only_when_strict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = load()
    unproved = [Formal(claims, tmp_path / "none")]
    one = {"dilution": claims["dilution"]}
    assert [verify(one, unproved, strict=strict) for strict in (False, True)] == [0, 1]
    given = Namespace(claim="dilution", strict=False, jobs=None)
    for said, strict in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv("STRICT", said)
        assert verification(given, claims)["strict"] is strict


def test_an_installed_package_says_what_it_has_not_and_writes_nothing(
    copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    absent = "raise ModuleNotFoundError('none', name='hypothesis')\n"
    (copy / "hypothesis.py").write_text(absent, encoding="utf-8")
    shutil.rmtree(copy / "proofs")
    cache = str(tmp_path_factory.mktemp("cache"))
    done = theory("verify", "--claim", "dilution", cwd=copy, XDG_CACHE_HOME=cache, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no proofs in" in done.stdout
    assert "expected the package hypothesis, got none (pip install 'lora-limits[checks]')" in done.stdout
    assert {p.name for p in copy.iterdir()} == {"theory", "hypothesis.py"}  # nothing is written beside the package


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("verify", "--claim", "nope"), "'nope'"),
        (("mutants", "--claim", "nope"), "'nope'"),
        (("mutants", "--claim", "dilution", "--kind", "odd"), "--kind: expected some of value"),
        (("verify", "--jobs", "0"), "--jobs"),
        (("verify", "--jobs", "two"), "--jobs"),
        (("nonsense",), "nonsense"),
        ((), "COMMAND"),
    ],
)
def test_bad_input_gets_one_line_and_exit_two(
    arguments: tuple[str, ...], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status: object = main(list(arguments))
    except SystemExit as end:  # of a command line that cannot be read
        status = end.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    assert named in err


def test_a_broken_registry_gets_one_line_and_exit_two(copy: Path) -> None:
    with (copy / "theory" / "claims.toml").open("a", encoding="utf-8") as registry:
        registry.write("\n[planted]\nstatus = 'proved'\n")
    done = theory("list", cwd=copy)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "planted" in done.stderr


def test_list_names_every_claim_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(load())


def test_verification_json_follows_its_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "build" / "verification.json"
    claims = load()
    layers = [Symbolic(), Numeric(), Formal(claims)]
    assert verify({"dilution": claims["dilution"]}, layers, write=target) == 0
    shown = capsys.readouterr().out
    assert "dilution" in shown
    assert "1 of 1 claims are proved whole." in shown
    document = json.loads(target.read_text(encoding="utf-8"))
    assert document["schema"] == 2
    assert {"python", "packages", "commit", "dirty", "cores", "coq", "seconds"} <= set(document["environment"])
    (found,) = document["claims"].values()
    assert list(found) == [layer.name for layer in layers]
    for layer in found.values():
        assert set(layer) == {"status", "figure", "seconds", "parts", "reason", "expectations", "proved", "sentences"}
        assert layer["status"] in {"pass", "fail", "not_checked", "none_planned"}
        assert layer["proved"] <= layer["sentences"]
        assert layer["figure"] is None or set(layer["figure"]) == {"name", "value", "unit"}
        assert layer["seconds"] >= 0
    assert found["numeric"]["parts"] == {"dilution_numeric": "pass"}
    assert (found["formal"]["proved"], found["formal"]["sentences"]) == (4, 4)
    assert set(found["formal"]["parts"]) == set(claims["dilution"].theorems)
    assert [p.name for p in target.parent.iterdir()] == ["verification.json"]


def test_the_worst_status_wins() -> None:
    assert worst(["pass", "not_checked", "fail"]) == "fail"
    assert worst(["pass", "not_checked"]) == "not_checked"
    assert worst(["pass", "pass"]) == "pass"
    assert worst([]) == "none_planned"


SMALL_CHECKS = """
from theory.checks import check, expect
@check("dilution")
def asserts_nothing(): pass
@check("dilution")
def counts():
    expect(True, "")
    expect(True, "")
@check("dilution")
def name_gone(): from theory.facts import a_name_that_is_gone
@check("dilution")
def module_gone(): import theory.gone
@check("dilution")
def own_module_gone(): import planted_checks.gone
@check("dilution")
def not_installed(): import a_package_of_others
@check("dilution")
def another_version(): from numpy import a_name_that_is_gone
"""


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("asserts_nothing", "fail", "asserts nothing"),
        ("counts", "pass", ""),
        ("name_gone", "fail", "a_name_that_is_gone"),
        ("module_gone", "fail", "theory.gone"),
        ("own_module_gone", "fail", "planted_checks.gone"),
        ("not_installed", "not_checked", "a_package_of_others"),
        ("another_version", "fail", "numpy"),
    ],
)
def test_a_check_that_is_empty_or_cannot_import_its_own_project_fails(
    name: str, status: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "planted_checks.py").write_text(SMALL_CHECKS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "planted_checks", raising=False)
    row = run_reference(f"planted_checks:{name}")
    assert row.status == status
    assert reason in (row.reason or "")
    assert row.expectations == (2 if name == "counts" else 0)


def test_setup_says_what_is_missing_where_coq_may_not_be_installed(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "coq.sh")], capture_output=True, text=True, env={"PATH": str(tmp_path)},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert "will not be checked" in done.stderr


def test_setup_without_python_gets_one_line_and_exit_two(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "setup.sh"), "no-such-python", str(tmp_path / "venv")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_theorem_that_no_proof_states_is_one_line_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*_: object) -> str:
        raise subprocess.CalledProcessError(
            1, "coqc", stderr="File x, line 1:\nError: The reference merging.nope\nwas not found.\n"
        )

    for name, planted in (("missing_tools", lambda *_: None), ("build", lambda *_: None), ("ask", ask)):
        monkeypatch.setattr(f"theory.verify.formal.{name}", planted)
    monkeypatch.setattr("theory.__main__.write_text", lambda *_: pytest.fail("written"))
    assert main(["statements", "--write"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "claims.toml" in line
    assert "merging.nope was not found" in line
