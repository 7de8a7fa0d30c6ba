"""What every experiment keeps to, whichever the engine finds: its settings, grids, records, predictions and figures."""

import copy
import re
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from empirical.engine import catalogue
from empirical.engine.experiment import Experiment
from empirical.engine.judge import judge_exact, observe
from empirical.engine.records import Record, cell_hash
from empirical.engine.settings import Cell, Table, as_json, read
from empirical.training.adapter import descend
from empirical.training.store import Storage, storing
from empirical.training.together import Block
from tests.empirical.experiments.live import changed, live, verdicts
from tests.empirical.judged import records, rows
from theory.claims import load as load_claims
from theory.provenance import ROOT

NAMES = catalogue.names()
experiments = pytest.mark.parametrize("name", NAMES)


def ran(name: str) -> list[Record]:
    """The records of an experiment; the test is skipped where it has yet to run whole under its declaration."""
    profile = catalogue.judged_profile(name, "auto")
    found, cells = records(name, profile), catalogue.cells(name, profile)
    if len(found) < len(cells):
        pytest.skip(f"{name}: declared, {len(found)} of {len(cells)} cells have run")
    return found


# ------------------------------------------------------------ what is trained

#: steps of every training, at most
STEPS = 20
#: seconds, as it is guessed, of a cell that is run twice
MOST = 30.0


def quick(cell: Cell) -> Cell:
    """The cell with few steps of training."""
    said = cell.identity().items()
    return cell.but(**{k: min(v, STEPS) for k, v in said if k.endswith("steps") and isinstance(v, int)})


def untimed(metrics: Any) -> Any:
    """Without the seconds that a merge took."""
    if isinstance(metrics, dict):
        return {key: untimed(value) for key, value in metrics.items() if key not in ("merging", "seconds")}
    return [untimed(value) for value in metrics] if isinstance(metrics, list) else metrics


def untrained(patch: pytest.MonkeyPatch) -> None:
    """Whatever trains is an error; a single step, and a method that learns, are none of these."""

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained again")

    for name, module in list(sys.modules.items()):
        if name.startswith("empirical.") and vars(module).get("descend") is descend:
            patch.setattr(module, "descend", refused)
    patch.setattr(Block, "descend", refused)


@experiments
def test_what_is_trained_is_kept_and_a_second_run_trains_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment, grid = catalogue.load(name), catalogue.cells(name, "smoke")
    for kind in sorted(experiment.kinds, key=lambda kind: not kind.stores):  # a process keeps the base that it trained
        mine = [cell for cell in grid if isinstance(cell, kind.cell)]
        if not mine:
            continue
        choose = max if kind.stores else min  # in the longest cell most is trained
        cell = quick(choose(mine, key=lambda c: experiment.seconds(c) or 0.0))
        if (experiment.seconds(cell) or 0.0) > MOST:
            pytest.skip(f"{name}: {experiment.seconds(cell):.0f} s, twice")
        first = None
        if kind.stores:
            with storing(storage := Storage(tmp_path, "here")):
                first = experiment.run(cell, "cpu")
            assert storage.used, kind
        with monkeypatch.context() as patch, storing(again := Storage(tmp_path, "here")):
            untrained(patch)
            second = experiment.run(cell, "cpu")
        assert not again.spent
        assert bool(again.used) == kind.stores
        assert first is None or untimed(first) == untimed(second)


# ------------------------------------------------------------ settings and grids


@pytest.mark.parametrize("profile", catalogue.PROFILES)
@experiments
def test_every_profile_has_a_grid_of_cells_that_are_read_back(name: str, profile: str) -> None:
    experiment, grid = catalogue.load(name), catalogue.cells(name, profile)
    assert grid
    names = {cell_hash(name, experiment.protocol, c.identity()) for c in grid}
    assert len(names) == len(grid)
    for cell in grid:
        assert experiment.cell(cell.identity()) == cell
        assert (experiment.seconds(cell) or 0) > 0
    with pytest.raises(ValueError, match=r"cell: .*typo"):
        experiment.cell(grid[0].identity() | {"typo": 1})


def tables(found: Any, kind: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all keys of the settings, of nested tables too."""
    for key, value in found.items():
        yield (*path, key)
        annotation = kind.model_fields[key].annotation
        if isinstance(annotation, type) and issubclass(annotation, Table):
            yield from tables(value, annotation, (*path, key))


def with_value(found: Any, path: tuple[Any, ...], value: Any = None) -> Any:
    """Settings with another value at `path`, or without the key."""
    again = copy.deepcopy(found)
    place = again
    for step in path[:-1]:
        place = place[step]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return again


@experiments
def test_unknown_missing_and_wrong_settings_are_one_line_that_names_the_key(name: str) -> None:
    kind = catalogue.load(name).settings
    found: Any = as_json(catalogue.settings(name, "smoke"))
    assert read(kind, found, name) == catalogue.settings(name, "smoke")
    for path in tables(found, kind):
        for wrong in (
            with_value(found, path),
            with_value(found, path, {"a": "table"}),
            with_value(found, (*path[:-1], "typo"), 1),
        ):
            with pytest.raises(ValueError, match=rf"^{name}: .*({path[-1]}|typo)") as caught:
                read(kind, wrong, name)
            assert "\n" not in str(caught.value)


# ------------------------------------------------------------ records and predictions


@experiments
def test_records_are_read_whole(name: str) -> None:
    def known(value: Any) -> Any:
        """Without keys that say that there is nothing."""
        return {k: known(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    for record in [r for profile in catalogue.JUDGED for r in records(name, profile)]:
        assert known(as_json(record.metrics)) == known(record.raw["metrics"])
        assert record.cell.identity() == record.raw["cell"]


@experiments
def test_predictions_have_ids_of_their_own_and_registered_claims(name: str) -> None:
    experiment, settings = catalogue.load(name), catalogue.settings(name, "cpu")
    seen = experiment.observed(settings, ran(name))
    assert len({s.prediction.id for s in seen}) == len(seen) > 0
    assert {s.prediction.claim for s in seen} <= set(load_claims())
    assert all(s.prediction.says.strip() and s.outcomes for s in seen)
    assert not any(s.outcomes for s in experiment.observed(settings, []))


#: a count, else a number: none and all are right; nothing, less than nothing and far too much was measured
WRONG: list[Callable[[Any], Any]] = [
    lambda x: [0, x[1]] if isinstance(x, list) else type(x)(0),
    lambda x: [x[1], x[1]] if isinstance(x, list) else type(x)(3 * x + 1000),
    lambda x: x if isinstance(x, list) else type(x)(-1000),
]


def leaf(path: tuple[Any, ...]) -> str:
    """The name under which a number stands, whatever its place in a list."""
    return next(step for step in reversed(path) if isinstance(step, str))


def names_of(metrics: Any) -> set[str]:
    """Names under which numbers stand."""
    found: set[str] = set()
    changed(metrics, lambda path, _: found.add(leaf(path)))
    return found


def spoiled(metrics: Any, names: set[str], wrong: Callable[[Any], Any]) -> Any:
    """The metrics with every number of these names wrong."""
    return changed(metrics, lambda path, x: wrong(x) if leaf(path) in names else x)


@experiments
def test_every_exact_prediction_holds_and_some_wrong_number_violates_it(name: str) -> None:
    profile = catalogue.judged_profile(name, "auto")
    experiment, settings = catalogue.load(name), catalogue.settings(name, profile)
    declared = [p for p in experiment.declare(settings) if p.kind == "exact"]

    def exact(record: Record, known: set[str]) -> dict[str, str]:
        seen = [s for s in observe([p for p in declared if p.id not in known], [record]) if s.outcomes]
        return {s.prediction.id: judge_exact(s).verdict for s in seen}

    alike = {str(r.cell.but(seed=0).identity()): r for r in records(name, profile)}
    safe: set[str] = set()
    seen: set[str] = set()
    for record in alike.values():
        untouched = exact(record, set())
        assert set(untouched.values()) <= {"holds"}
        safe |= set(untouched)
        metrics: Any = record.raw["metrics"]
        names = names_of(metrics)
        # everything at once first, which is quick; what holds of numbers that are wrong together, one name at a time
        for wrong, some in product(WRONG, [names, *({name} for name in sorted(names))]):
            if set(untouched) <= seen:
                break
            raw: Any = {**record.raw, "metrics": spoiled(metrics, some, wrong)}
            try:
                found = exact(experiment.record(record.cell, raw), seen)
            except (ValueError, ZeroDivisionError, OverflowError):
                continue  # refused
            seen |= {id_ for id_, verdict in found.items() if verdict == "violated"}
    assert safe - seen == set(), "no wrong number is seen by these"


# ------------------------------------------------------------ figures


@experiments
def test_figures_are_drawn_and_a_violation_is_loud(name: str) -> None:
    pytest.importorskip("matplotlib")
    from empirical.engine.figures import plots

    violated: Any = [{**row, "verdict": "violated"} for row in rows(name, catalogue.judged_profile(name, "auto"))]
    drawn = plots([name])
    loud = []
    for plot in drawn:
        assert plot.draw([], []) is None
        figure = plot.draw(ran(name), violated)
        assert figure is not None
        assert (plot.draw.__doc__ or "").strip(), "no caption"
        titles = [axis.get_title(loc="left") for axis in figure.axes]
        texts = [t.get_text() for axis in figure.axes for t in axis.texts]
        loud += [text for text in titles + texts if "VIOLATED" in text]
    assert loud or not drawn


# ------------------------------------------------------------ what the engine refuses

RUN = """
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Table
class Settings(Table):
    xs: tuple[int, ...]
def run(cell: Cell, device: str) -> dict[str, int]:
    return {{}}
def cells(settings):
    return [Cell(seed=x) for x in settings.xs]
{experiment}
"""
MEMBERS = {
    "purpose": '"nothing"', "order": "1", "protocol": "1", "settings": "Settings", "cells": "cells",
    "kinds": "[Kind(run)]", "declare": "lambda settings: []",
}  # fmt: skip


def planted(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import empirical.experiments

    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text("", encoding="utf-8")
    (folder / name / "run.py").write_text(RUN.format(experiment=text), encoding="utf-8")
    (folder / name / "settings.toml").write_text("[common]\nxs = [1]\n[smoke]\n[cpu]\n[gpu]\n", encoding="utf-8")
    monkeypatch.setattr(empirical.experiments, "__path__", [*empirical.experiments.__path__, str(folder)])


def test_the_experiment_of_the_guide_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding an experiment")[2]
    toml, code = (re.search(rf"```{kind}\n(.*?)```", guide, re.S) for kind in ("toml", "python"))
    assert toml is not None
    assert code is not None
    planted(tmp_path, "coins", "", monkeypatch)
    (tmp_path / "coins" / "run.py").write_text(code[1], encoding="utf-8")
    (tmp_path / "coins" / "settings.toml").write_text(toml[1], encoding="utf-8")
    tossed = [live("coins", cell) for cell in catalogue.cells("coins", "cpu")]
    assert verdicts("coins", catalogue.settings("coins", "cpu"), tossed) == {"half": ("hypothesis", "holds")}


def with_members(**changes: str | None) -> str:
    given = {k: v for k, v in {**MEMBERS, **changes}.items() if v is not None}
    return f"experiment = Experiment({', '.join(f'{k}={v}' for k, v in given.items())})"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", r"run.py: expected an object `experiment`, got NoneType"),
        ("experiment = 3", r"run.py: expected an object `experiment`, got int"),
        (with_members(ordre="2"), r"run.py: .*'ordre'"),
        (with_members(kinds="[Kind(run, takes_metod=len)]"), r"run.py: .*'takes_metod'"),
        (with_members(kinds="[Kind(lambda cell, device: {})]"), r"expected annotations \(cell: a Cell"),
        *((with_members(**{member: None}), rf"run.py: .*'{member}'") for member in MEMBERS),
    ],
)
def test_a_misspelt_or_missing_member_is_one_line_that_names_it(
    text: str, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"planted_{abs(hash(text))}"
    planted(tmp_path, name, text, monkeypatch)
    with pytest.raises(ValueError, match=named) as caught:
        catalogue.load(name)
    assert "\n" not in str(caught.value)


def test_a_folder_is_an_experiment_and_its_order_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(tmp_path, "planted_first", with_members(order="0"), monkeypatch)
    assert catalogue.names() == ["planted_first", *NAMES]
    assert isinstance(catalogue.load("planted_first"), Experiment)
    assert [c.seed for c in catalogue.cells("planted_first", "cpu")] == [1]
    (tmp_path / "planted_first" / "settings.toml").unlink()
    assert catalogue.names() == NAMES
