"""The experiments there are, their settings, grids and records; found by their folders, in the order that they name.

A folder with ``settings.toml`` and ``run.py`` is an experiment, in ``empirical/experiments`` and in the folders of
LORA_LIMITS_EXPERIMENTS.
"""

from __future__ import annotations

import hashlib
import importlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import empirical.experiments
from empirical.engine.experiment import Experiment
from empirical.engine.judge import Row, as_row, judge
from empirical.engine.records import RESULTS, Record, Store, canonical
from empirical.engine.settings import Cell, UserMethod, read
from theory.numerics import one_of, require

PROFILES = ("smoke", "cpu", "gpu")


def folders() -> dict[str, Path]:
    """Name -> folder of every experiment; of two with one name the one that is imported."""
    found: dict[str, Path] = {}
    for parent in empirical.experiments.__path__:
        for file in sorted(Path(parent).glob("*/run.py")):
            if file.with_name("settings.toml").exists():
                found.setdefault(file.parent.name, file.parent)
    return found


def names(results: Path | None = None, profile: str = "*") -> list[str]:
    """Names of all experiments, in the order in which they run; of those with results if a folder is given."""
    found = [n for n in folders() if results is None or any(results.glob(f"{n}/{profile}/*.json"))]
    return sorted(found, key=lambda name: (load(name).order, name))


def load(name: str) -> Experiment[Any]:
    """The experiment in the folder `name`.

    Raises:
        ValueError: an unknown name, or a ``run.py`` that defines no `experiment` with all its members and no other.
    """
    one_of(name, "experiment", sorted(folders()))
    try:
        module = importlib.import_module(f"empirical.experiments.{name}.run")
    except TypeError as error:  # of Experiment or Kind, about an argument
        raise ValueError(f"{name}/run.py: expected the members of an experiment, got: {error}") from error
    found = getattr(module, "experiment", None)
    require(isinstance(found, Experiment), f"{name}/run.py", "an object `experiment`", type(found).__name__)
    assert isinstance(found, Experiment)
    for kind in found.kinds:
        assert kind.cell  # its annotations are read
    return found


def settings(name: str, profile: str) -> Any:
    """The experiment's settings under `profile`: its table over [common], as the type that the experiment names.

    Raises:
        ValueError: unreadable file, no table for the profile, a key that [common] does not have, or settings that are
            not those of the experiment.
    """
    one_of(profile, "profile", PROFILES)
    kind = load(name).settings
    path = folders()[name] / "settings.toml"
    where = f"{name}/{path.name}"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{where}: expected readable TOML, got: {error}") from error
    require("common" in tables and profile in tables, where, f"the tables common and {profile}", sorted(tables))
    unknown = sorted(set(tables[profile]) - set(tables["common"]))
    require(not unknown, f"{where} [{profile}]", "only keys that [common] has", ", ".join(unknown))
    return read(kind, {**tables["common"], **tables[profile]}, f"{where} [{profile}]")


def cells(name: str, profile: str, method: UserMethod | None = None) -> list[Cell]:
    """The grid of an experiment under a profile; with a user's method only where the experiment can take one."""
    experiment = load(name)
    found = list(experiment.cells(settings(name, profile)))
    if method is not None:
        found = [c.but(user_method=method) for c in found if experiment.takes_method(c)]
    different = {canonical(c.identity()) for c in found}
    require(len(different) == len(found), f"{name}.cells", "different cells", "the same cell twice")
    return found


def store_for(name: str, profile: str, results: Path = RESULTS) -> Store:
    """Where the records of an experiment lie."""
    return Store(results, name, load(name).protocol, profile)


def records(
    name: str, profile: str, results: Path = RESULTS, method: UserMethod | None = None
) -> list[Record[Any, Any]]:
    """The records of the current grid, in its order. Cells that have not run are left out."""
    experiment, store = load(name), store_for(name, profile, results)
    found = ((cell, store.get(cell)) for cell in cells(name, profile, method))
    return [experiment.record(cell, raw) for cell, raw in found if raw is not None]


def explanations(name: str) -> dict[str, str]:
    """Prediction id -> why it was violated, from ``explained.toml`` of the experiment; empty where it has none."""
    path = folders()[name] / "explained.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def judge_all(
    names: Sequence[str], profile: str, results: Path = RESULTS, method: UserMethod | None = None
) -> list[Row]:
    """Judge every experiment that has a record: rows as in ``build/experiments.json``."""
    from theory.claims import load as load_claims

    claims = load_claims()
    rows = []
    for name in names:
        found = records(name, profile, results, method)
        if not found:
            continue
        explained = explanations(name)
        devices = sorted({r.device for r in found})
        predictions = load(name).predictions(settings(name, profile), found)
        for prediction, verdict in zip(predictions, judge(predictions), strict=True):
            require(prediction.claim in claims, f"{name}: claim", "an id of the registry", prediction.claim)
            rows.append(as_row(prediction, verdict, name, explained.get(prediction.id), devices))
    return rows


def pick_profile(profile: str, cuda: bool | None = None) -> str:
    """Resolve "auto"; refuse "gpu" where there is none. `cuda`: whether there is one, by default on this machine."""
    one_of(profile, "profile", (*PROFILES, "auto"))
    if profile in ("smoke", "cpu"):
        return profile
    if cuda is None:
        import torch

        cuda = bool(torch.cuda.is_available())
    if profile == "auto":
        return "gpu" if cuda else "cpu"
    require(cuda, "profile", "a CUDA device for gpu (PROFILE=cpu runs anywhere)", "none")
    return profile


def judged_profile(results: Path) -> str:
    """The profile that counts: gpu where it has results, else cpu."""
    return "gpu" if any(results.glob("*/gpu/*.json")) else "cpu"


def user_method(reference: str) -> UserMethod:
    """What a cell remembers of METHOD=file.py:function.

    Raises:
        ValueError: the file or the function is not there.
    """
    path, _, function = reference.partition(":")
    require(bool(path) and bool(function), "method", "file.py:function", repr(reference))
    file = Path(path)
    require(file.is_file(), "method", "a Python file", repr(path))
    from empirical.reuse.methods import own_merge

    own_merge(reference)
    return UserMethod(reference=f"{file.resolve()}:{function}", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
