"""Wheel and sdist hold what they must, and the trial of the wheel sees what it is there to see."""

import re
import subprocess
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import theory
from tools.dist import build, left_out, sources
from tools.try_wheel import Environment

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


def contents(wheel: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sysconfig.get_path("scripts")) / "check-wheel-contents", wheel]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_wheel_holds_both_packages_whole(built: tuple[Path, Path]) -> None:
    assert contents(built[0]).returncode == 0
    held = zipfile.ZipFile(built[0]).namelist()
    assert {"theory/py.typed", "empirical/py.typed", "theory/claims.toml"} <= set(held)
    assert not [name for name in held if name.startswith("empirical/results")]


@pytest.mark.parametrize("dropped", ["theory/claims.toml", "empirical/py.typed", "theory/merging.py"])
def test_a_file_that_the_wheel_lacks_is_noticed(dropped: str, built: tuple[Path, Path], tmp_path: Path) -> None:
    poorer = tmp_path / built[0].name
    with zipfile.ZipFile(built[0]) as whole, zipfile.ZipFile(poorer, "w") as archive:
        for name in whole.namelist():
            data = whole.read(name)
            if name.endswith("RECORD"):
                data = b"".join(line for line in data.splitlines(True) if not line.startswith(dropped.encode()))
            if name != dropped:
                archive.writestr(name, data)
    done = contents(poorer)
    assert done.returncode == 1
    assert dropped in done.stdout


def test_the_sdist_holds_every_file_of_the_repository(built: tuple[Path, Path]) -> None:
    assert not left_out(built[1], sources(ROOT))


def test_a_file_that_the_sdist_lacks_is_noticed(tmp_path: Path) -> None:
    archive = tmp_path / "x.tar.gz"
    (tmp_path / "a").write_text("", encoding="utf-8")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "a", "x-1/proofs/a.v")
    assert left_out(archive, ["proofs/a.v", "proofs/b.v"]) == ["proofs/b.v"]


def test_a_build_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "lora_limits.egg-info").mkdir()
    (tmp_path / "lora_limits.egg-info" / "SOURCES.txt").write_text("pyproject.toml\n", encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = 'no version'\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="the build stopped"):
        build(tmp_path, tmp_path / "out")


def test_the_version_is_one() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {theory.__version__}\n" in citation
    released = re.findall(r"^## \[?(\d[\w.]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert released[0] == theory.__version__


def test_constraints_pin_what_pyproject_names() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [n for group in (extras["dependencies"], *extras["optional-dependencies"].values()) for n in group]
    wanted = {re.split(r"[^\w-]", n)[0].lower() for n in named} - {"lora-limits"}
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted <= pinned


@pytest.fixture
def planted(tmp_path: Path) -> Environment:
    """An environment without Python, whose programs are shell scripts."""
    environment = Environment(tmp_path)
    environment.work.mkdir()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "theory").mkdir(parents=True)
    return environment


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("echo one >&2; exit 2", None),
        ("echo one >&2; exit 1", "exit status 1, expected 2"),
        ("echo two >&2; exit 2", "says no 'one'"),
        ("echo one; exit 2", "0 lines on standard error, expected 1"),
        ("echo 'Traceback (most recent call last):' one >&2; exit 2", "a traceback"),
    ],
)
def test_a_command_that_ends_otherwise_is_a_fault(script: str, fault: str | None, planted: Environment) -> None:
    program = planted.folder / "env" / "bin" / "lora-limits"
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    planted.expect("lora-limits audit", 2, "one", lines=1)
    assert len(planted.faults) == (fault is not None)
    assert all(str(fault) in f for f in planted.faults)


def test_a_file_written_beside_the_package_is_a_fault(planted: Environment) -> None:
    before = planted.snapshot()
    planted.expect_untouched(before)
    assert planted.faults == []
    (planted.site / "theory" / "verification.json").write_text("{}", encoding="utf-8")
    planted.expect_untouched(before)
    assert "theory/verification.json" in planted.faults[0]


def test_a_file_that_is_missing_is_a_fault(planted: Environment) -> None:
    planted.expect_file("build/verification.json")
    assert len(planted.faults) == 1
