"""Imports run one way, theory <- empirical <- paper, and theory stays light."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from theory.claims import load

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "theory": {"empirical", "paper", "tests", "torch", "transformers", "peft"},
    "empirical": {"paper", "tests"},
    "paper": {"tests", "torch"},
}
#: loaded only inside the functions that need them
HEAVY = {"sympy", "scipy.optimize", "scipy.stats", "matplotlib"}


def imported(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def upward_imports(root: Path) -> list[str]:
    found = []
    for package, banned in FORBIDDEN.items():
        for path in sorted((root / package).rglob("*.py")):
            for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
                if name.partition(".")[0] in banned:
                    found.append(f"{path.relative_to(root)}: {name}")
    return found


def upward_names(root: Path) -> list[str]:
    """Lines of ``theory`` that name what stands above it: a command that starts it, or a reference in the registry."""
    files = sorted(path for kind in ("*.py", "*.toml") for path in (root / "theory").rglob(kind))
    lines = [(path, line) for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return [f"{path.relative_to(root)}: {line}" for path, line in lines if re.search(r"\b(empirical|paper)\b", line)]


def heavy_imports(root: Path) -> list[str]:
    found = []
    for path in sorted((root / "theory").glob("*.py")):
        top = ast.Module(list(ast.parse(path.read_text(encoding="utf-8")).body), [])
        top.body = [n for n in top.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        for name in imported(top):
            if name in HEAVY or name.partition(".")[0] in HEAVY:
                found.append(f"{path.relative_to(root)}: {name}")
    return found


def test_imports_run_one_way() -> None:
    assert not upward_imports(ROOT)


def test_theory_names_nothing_above_it() -> None:
    assert not upward_names(ROOT)


@pytest.mark.parametrize(
    ("file", "line"),
    [("planted.py", 'command = [sys.executable, "-m", "empirical"]'), ("claims.toml", 'numeric = ["empirical.a:b"]')],
)
def test_an_upward_name_is_noticed(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / file).write_text(line + "\n", encoding="utf-8")
    assert upward_names(tmp_path)


def test_heavy_imports_stay_inside_functions() -> None:
    assert not heavy_imports(ROOT)


@pytest.mark.parametrize("line", ["import empirical.reuse", "from torch import nn", "def f():\n    import peft"])
def test_an_upward_import_is_noticed(tmp_path: Path, line: str) -> None:
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "planted.py").write_text(line + "\n", encoding="utf-8")
    assert upward_imports(tmp_path)


def test_a_heavy_import_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "theory").mkdir()
    (tmp_path / "theory" / "planted.py").write_text("from scipy import stats\n", encoding="utf-8")
    assert heavy_imports(tmp_path)


def test_importing_the_topics_loads_nothing_heavy() -> None:
    topics = "adapters approximation networks facts merging routing additive composition one_layer stack lowrank"
    code = f"import sys, theory; [__import__('theory.' + t) for t in '{topics}'.split()]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"sympy", "torch", "scipy.stats", "scipy.optimize", "hypothesis"} & set(loaded.stdout.split())


def test_the_package_alone_is_light_and_shows_its_public_list() -> None:
    code = """if True:
        import sys, theory
        print(*sys.modules)
        print(*dir(theory))
        from theory import *
        print(dilution_limit(10, 3), LowRank([[1]], [[2]]).dense().tolist(), "dilution" in claims.load())
        print(*theory.__all__)
        try:
            theory.nothing
        except AttributeError as error:
            print(error)
        from theory import chains  # a module that is not in the list
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    light, listed, values, public, message = done.stdout.splitlines()
    assert not {"numpy", "tomllib", "theory.claims"} & set(light.split())
    assert values == "3 [[2.0]] True"
    named = {r.rpartition(":")[2] for claim in load().values() for r in claim.code}
    assert set(public.split()) == {"LowRank", "claims"} | {name for name in named if "." not in name}
    assert set(public.split()) <= set(listed.split())
    assert message.startswith("module 'theory' has no attribute 'nothing'")
