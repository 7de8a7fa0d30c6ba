"""Imports run one way, theory <- empirical <- paper, and theory stays light."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from theory.claims import load

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = {
    "theory": {"empirical", "paper", "tests", "torch", "transformers", "peft"},
    "empirical": {"paper", "tests"},
    "paper": {"tests", "torch"},
}
#: rooms of ``empirical``, in the order in which one may import another: only from a room before it
ROOMS = ("tasks", "training", "reuse", "adapters", "engine", "experiments")
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


def backward_imports(root: Path) -> list[str]:
    """What a room of ``empirical`` imports, even inside a function, from one that stands after it in `ROOMS`.

    The package of a room by itself is its folder, in which the engine finds the experiments.
    """
    found = []
    for place, room in enumerate(ROOMS):
        for path in sorted((root / "empirical" / room).rglob("*.py")):
            for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
                package, *inside = name.split(".")
                later = package == "empirical" and inside and inside[0] in ROOMS[place + 1 :]
                if later and inside[1:]:
                    found.append(f"{path.relative_to(root)}: {name}")
    return found


def sideways_imports(root: Path) -> list[str]:
    """Experiments that import another one; what several share is a module beside their folders."""
    room = root / "empirical" / "experiments"
    names = {path.parent.name for path in room.glob("*/run.py")}
    found = []
    for path in sorted(room.rglob("*.py")):
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            other = name.removeprefix("empirical.experiments.").split(".")[0]
            if other != name and other in names - {path.parent.name}:
                found.append(f"{path.relative_to(root)}: {name}")
    return found


def circles(root: Path) -> list[str]:
    """A circle of imports between the modules of all packages, those inside functions among them."""
    files = {".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
             for package in FORBIDDEN for p in (root / package).rglob("*.py")}  # fmt: skip
    graph = {name: imported(ast.parse(path.read_text(encoding="utf-8"))) for name, path in files.items()}
    try:  # a module stands above the packages that it is in
        TopologicalSorter({n: {x for x in of if x in files and not f"{n}.".startswith(f"{x}.")}
                           for n, of in graph.items()}).prepare()  # fmt: skip
    except CycleError as error:
        return list(error.args[1])
    return []


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


def test_rooms_import_one_way_experiments_stand_alone_and_nothing_has_a_circle(tmp_path: Path) -> None:
    assert sideways_imports(ROOT) == []
    assert backward_imports(ROOT) == []
    folders = {path.parent.name for path in (ROOT / "empirical").glob("*/__init__.py")}
    assert folders - {"results"} == set(ROOMS)
    assert circles(ROOT) == []
    planted = {
        "experiments/one/run.py": "from empirical.experiments.two.run import seal\n",
        "experiments/two/run.py": "from empirical.experiments.shared import a\nfrom empirical.adapters import b\n",
        "experiments/shared.py": "from empirical.experiments import one\n",
        "training/adapter.py": "def save():\n    from empirical.adapters.files import Draft\n",
        "adapters/probes.py": "from empirical.training import bases\n",
        "engine/a.py": "from empirical.experiments.one import run\nfrom empirical.engine import b\n",
        "engine/b.py": "def later():\n    from empirical.engine import a\n",
    }
    for name, text in planted.items():
        path = tmp_path / "empirical" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert {line.split(":")[0] for line in sideways_imports(tmp_path)} == {
        f"empirical/experiments/{file}" for file in ("one/run.py", "shared.py")
    }
    assert {line.split(":")[0] for line in backward_imports(tmp_path)} == {
        f"empirical/{file}" for file in ("engine/a.py", "training/adapter.py")
    }
    assert set(circles(tmp_path)) == {"empirical.engine.a", "empirical.engine.b"}


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


@pytest.mark.parametrize(
    "modules",
    [
        [f"theory.{path.stem}" for path in (ROOT / "theory").glob("[a-z]*.py")],
        ["empirical.engine.run", "empirical.engine.pool"],  # a driver and each of its workers start with these
    ],
    ids=["theory", "engine"],
)
def test_what_every_process_imports_loads_nothing_heavy(modules: list[str]) -> None:
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not (HEAVY | {"torch", "hypothesis"}) & set(loaded.stdout.split())


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
