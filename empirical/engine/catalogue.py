"""The experiments there are, their settings, grids and records; found by their folders, in the order that they name.

A folder with ``settings.toml`` and ``run.py`` is an experiment, in ``empirical/experiments`` and in the folders of
LORA_LIMITS_EXPERIMENTS.
"""

from __future__ import annotations

import hashlib
import importlib
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import empirical.experiments
from empirical.engine import declaration, sealed
from empirical.engine.experiment import Experiment
from empirical.engine.judge import Row, as_row, judge
from empirical.engine.records import (
    CURE,
    PREDICTIONS,
    RESULTS,
    Record,
    RecordError,
    Store,
    as_bytes,
    canonical,
    files,
    write_all,
)
from empirical.engine.records import read as read_record
from empirical.engine.settings import Cell, UserMethod, group_of, read
from empirical.engine.ways import Way, table
from theory.numerics import one_of, require

PROFILES = ("smoke", "cpu", "gpu")
#: those whose results are evidence; where both have run whole the first one counts, and the other repeats it
JUDGED = ("cpu", "gpu")


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
    found = [n for n in folders() if results is None or any(map(files, results.glob(f"{n}/{profile}")))]
    return sorted(found, key=lambda name: (load(name).order, name))


def asked_for(asked: Sequence[str] | None = None) -> list[str]:
    """The experiments that are asked for, each once, in this order; all if none is. Raises ValueError as `load`."""
    found = list(dict.fromkeys(asked or names()))
    for name in found:
        load(name)
    return found


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
    """The records of the current grid, in its order. Cells that have not run are left out.

    Raises:
        RecordError: a record is damaged, lacks a metric, or does not hold what was sealed; one line with the cure.
    """
    experiment, store = load(name), store_for(name, profile, results)
    found = []
    for cell in cells(name, profile, method):
        raw = store.get(cell)
        if raw is None:
            continue
        path = store.path(cell)
        try:
            found.append(experiment.record(cell, raw))
        except ValueError as error:
            raise RecordError(f"{path}: {error} ({CURE})") from error
        if (mark := raw.get("sealed")) and (text := sealed.find(path, mark)) is not None:
            sealed.check(text, raw["metrics"], str(path))
    return found


def declare(names: Sequence[str], profile: str, results: Path = RESULTS) -> list[Path]:
    """Write what experiments predict under a profile, before they run; see :mod:`empirical.engine.declaration`.

    Raises:
        ValueError: one of them declares something that is no prediction, or there is no place for it; nothing is
            written then.
    """
    made = {
        results / name / profile / PREDICTIONS: declaration.complete(load(name), settings(name, profile), name, profile)
        for name in names
    }
    write_all({path: as_bytes(found) for path, found in made.items()})
    return list(made)


def declared(name: str, profile: str, results: Path = RESULTS) -> str:
    """The hash of the declaration under which the cells of an experiment may run.

    Raises:
        RecordError: it is missing, not committed, or another than the experiment's.
    """
    return declaration.required(load(name), settings(name, profile), name, profile, results)


class Theorems:
    """What must hold in the world of a cell that just ended; settings and grid are read once, however many cells end.

    Args:
        profile: of the run. method: the user's own, which is in all its cells.
    """

    def __init__(self, profile: str, method: UserMethod | None = None) -> None:
        self.profile, self.method = profile, method
        self._known: dict[str, tuple[Experiment[Any], Any, dict[tuple[str, int], list[Cell]]]] = {}

    def _grid(self, name: str) -> tuple[Experiment[Any], Any, dict[tuple[str, int], list[Cell]]]:
        if name not in self._known:
            worlds: dict[tuple[str, int], list[Cell]] = {}
            for c in cells(name, self.profile, self.method):
                worlds.setdefault((group_of(c), c.seed), []).append(c)
            self._known[name] = load(name), settings(name, self.profile), worlds
        return self._known[name]

    def broken(self, store: Store, cell: Cell, metrics: Mapping[str, Any]) -> str | None:
        """The first theorem that does not hold; None if all do."""
        experiment, chosen, worlds = self._grid(store.experiment)
        others = [c for c in worlds[group_of(cell), cell.seed] if c != cell]
        there = [(c, raw) for c in others if (raw := store.get(c))]
        this: Any = {"experiment": store.experiment, "profile": self.profile, "metrics": metrics, "seconds": 0.0,
                     "device": "", "commit": None, "dirty": False}  # fmt: skip
        world = [experiment.record(c, raw) for c, raw in [*there, (cell, this)]]
        return experiment.broken(chosen, world)


def ways_of(name: str, records: Sequence[Record[Any, Any]]) -> list[Way]:
    """What each method made of its experts, over the worlds of these records; empty where none are compared."""
    experiment = load(name)
    return [] if experiment.asked is None else table(name, experiment.asked(records))


def explanations(name: str, profile: str) -> dict[str, str]:
    """Id or family of predictions -> why they were violated or undecided under `profile`, by its table in
    ``explained.toml``; else empty."""
    path = folders()[name] / "explained.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")).get(profile, {}) if path.is_file() else {}


def judge_all(
    names: Sequence[str],
    profile: str,
    results: Path = RESULTS,
    method: UserMethod | None = None,
    report: Callable[[str], None] | None = None,
) -> list[Row]:
    """Judge every experiment that has a record: rows as in ``build/experiments.json``.

    Args:
        profile: "auto" takes of each experiment the one that counts.
        report: is told in one line what is not judged, and why; the rest goes on.

    Raises:
        RecordError: records cannot be judged, and there is no `report`.
    """
    from theory.claims import load as load_claims

    claims = load_claims()
    rows: list[Row] = []
    for name in names:
        try:
            under = judged_profile(name, profile, results)
            rows += _judge(name, under, results, method, report or (lambda line: None))
        except RecordError as error:
            if report is None:
                raise
            report(f"{name}: not judged: {error}")
    for row in rows:
        require(row["claim"] in claims, f"{row['experiment']}: claim", "an id of the registry", row["claim"])
    return rows


def _judge(
    name: str, profile: str, results: Path, method: UserMethod | None, report: Callable[[str], None]
) -> list[Row]:
    experiment, chosen = load(name), settings(name, profile)
    found = records(name, profile, results, method)
    if not found:
        return []
    kept: list[Record[Any, Any]] = []
    declared: dict[str, str | None] = {}
    nothing: tuple[None, dict[str, float | None]] = (None, {})
    current, noticed = nothing if method else declaration.read(experiment, chosen, name, profile, results)
    for group, mine in _whole(name, profile, results, method, found, report).items():
        under = {r.raw["declaration"] for r in mine}
        if under != {current}:
            raise RecordError(
                f"{results / name / profile / PREDICTIONS}: expected the declaration of all records, got"
                f" {current or 'none'} and records judged under another declaration:"
                f" {', '.join(str(u) for u in under if u != current)} (move them away and run again)"
            )
        kept += mine
        declared[group] = current
    explained, devices = explanations(name, profile), sorted({r.device for r in found})
    try:
        seen = experiment.observed(chosen, kept)
    except ValueError as error:
        raise RecordError(f"{results / name / profile}: {error} ({CURE})") from error
    return [
        as_row(s, verdict, name, explained.get(s.prediction.id, explained.get(s.prediction.family)), devices,
               declared.get(s.prediction.group), noticed.get(s.prediction.id))
        # those whose worlds are not all there count in their family
        for s, verdict in zip(seen, judge(seen), strict=True)
        if s.outcomes or s.prediction.group in declared
    ]  # fmt: skip


def _whole(
    name: str, profile: str, results: Path, method: UserMethod | None, found: Sequence[Record[Any, Any]],
    report: Callable[[str], None],
) -> dict[str, list[Record[Any, Any]]]:  # fmt: skip
    """Group -> its records, of groups with exactly the planned worlds; there is no look at fewer or more."""
    grid, store = cells(name, profile, method), store_for(name, profile, results)
    wanted, there = Counter(map(group_of, grid)), Counter(group_of(r.cell) for r in found)
    added = _added(store, grid)
    whole: dict[str, list[Record[Any, Any]]] = {}
    for group in wanted:
        where = f"{name}: {group}" if group else name
        planned = len({c.seed for c in grid if group_of(c) == group})
        mine = [r for r in found if group_of(r.cell) == group]
        if group in added:
            report(f"{where}: not judged: expected the {planned} worlds that are planned, got others beside them of"
                   f" seeds {sorted(added[group])} (move them away)")  # fmt: skip
        elif there[group] < wanted[group]:
            report(f"{where}: {len({r.cell.seed for r in mine})} of {planned} worlds: not judged yet")
        else:
            whole[group] = mine
    return whole


def _added(store: Store, grid: Sequence[Cell]) -> dict[str, set[int]]:
    """Group -> seeds of records that only their seed keeps out of the grid."""
    names = {store.path(c).name for c in grid}
    alike = {canonical({**c.identity(), "seed": 0}): group_of(c) for c in grid}
    found: dict[str, set[int]] = {}
    for path in files(store.folder):
        raw = read_record(path) if path.name not in names else None
        if raw is not None and raw["protocol"] == store.protocol:
            group = alike.get(canonical({**raw["cell"], "seed": 0}))
            if group is not None:
                found.setdefault(group, set()).add(int(str(raw["cell"]["seed"])))
    return found


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


def judged_profile(name: str, profile: str, results: Path = RESULTS) -> str:
    """Resolve "auto": the profile whose results count, cpu unless more of the cells of gpu have run."""

    def ran(profile: str) -> float:
        store, grid = store_for(name, profile, results), cells(name, profile)
        return sum(store.path(cell).exists() for cell in grid) / len(grid)

    return max(JUDGED, key=ran) if profile == "auto" else profile


def user_method(reference: str, experiments: Sequence[str] = ()) -> UserMethod:
    """What a cell remembers of METHOD=file.py:function, once it was tried as these experiments would run it.

    Raises:
        ValueError: the file or the function is not there, or it fails on two tiny adapters.
    """
    path, _, function = reference.partition(":")
    require(bool(path) and bool(function), "method", "file.py:function", repr(reference))
    file = Path(path)
    require(file.is_file(), "method", "a Python file", repr(path))
    from empirical.reuse.own import trial

    own = UserMethod(reference=f"{file.resolve()}:{function}", sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    for attempt in [found for name in experiments if (found := load(name).try_method)] or [trial]:
        attempt(reference)
    return own
