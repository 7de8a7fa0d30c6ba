"""Records of cells that run here and now, and records with an outcome that was not."""

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from empirical.engine import catalogue
from empirical.engine.figures import plots
from empirical.engine.judge import judge
from empirical.engine.records import Record
from empirical.engine.settings import Cell, as_json
from empirical.experiments.plain_english_tables import Answered
from tests.empirical.accelerator import accelerator


def live(name: str, cell: Cell, metrics: Any = None) -> Record:
    """The record of a cell of this experiment: of these metrics, or of what running it gives."""
    experiment = catalogue.load(name)
    if metrics is None:
        with accelerator():  # so that every line that a GPU would run is run as there
            metrics = experiment.run(cell, "cuda")
    raw: Any = {
        "cell": cell.identity(), "experiment": name, "profile": "smoke", "metrics": as_json(metrics), "seconds": 1.0,
        "device": "CPU: a test", "commit": "0123456789abcdef", "dirty": False,
    }  # fmt: skip
    return experiment.record(cell, raw)


def small(name: str) -> Any:
    """Its smallest settings, with three steps of training."""
    found = catalogue.settings(name, "smoke").but(steps=3, batch=4)
    teaching = getattr(found, "teaching", None)
    return found.but(teaching=teaching.but(steps=3)) if teaching else found


def labels(name: str, records: list[Record], axis: str = "x") -> list[list[str]]:
    """What stands along this axis of every panel of its figures."""
    drawn = [plot.draw(records, []) for plot in plots([name])]
    panels = [panel for figure in drawn if figure for panel in figure.axes]
    return [[t.get_text() for t in getattr(panel, f"get_{axis}ticklabels")()] for panel in panels]


def planted(records: list[Record], chosen: Callable[[Record], bool], **metrics: Any) -> list[Record]:
    """The records, those that are chosen with other metrics."""
    return [dataclasses.replace(r, metrics=r.metrics.but(**metrics)) if chosen(r) else r for r in records]


def worlds_that_answer(
    record: Record, worlds: int, said: Mapping[str, Mapping[str, Mapping[str, int]]], metrics: Any = None
) -> list[Record]:
    """Worlds with the metrics of one, or with these, in which conditions answer all wordings of a family alike.

    `said`: condition -> family -> counts by kind of answer.
    """
    metrics = as_json(record.metrics) if metrics is None else metrics
    for condition, families in said.items():
        for family, counts in families.items():
            for wording in metrics["answered"][condition]["questions"].get(family, ()):
                wording[:] = [counts.get(field, 0) for field in Answered._fields]
    return [live(record.experiment, record.cell.but(seed=seed), metrics) for seed in range(worlds)]


def changed(metrics: Any, change: Callable[[tuple[Any, ...], Any], Any], path: tuple[Any, ...] = ()) -> Any:
    """What `change` makes of every number and every count [right, asked] of a record, given its place."""
    if isinstance(metrics, dict):
        return {key: changed(value, change, (*path, key)) for key, value in metrics.items()}
    if isinstance(metrics, list) and not (len(metrics) == 2 and {type(x) for x in metrics} == {int}):
        return [changed(value, change, (*path, i)) for i, value in enumerate(metrics)]
    return change(path, metrics) if type(metrics) in (list, int, float) else metrics


def spoilt(record: Record, *path: str | int, to: Any) -> Record:
    """The record with another metric at `path`, as if it had been read like that."""
    metrics = copy.deepcopy(record.raw["metrics"])
    place: Any = metrics
    for step in path[:-1]:
        place = place[step]
    assert place[path[-1]] != to, "not another"
    place[path[-1]] = to
    return live(record.experiment, record.cell, metrics)


def verdicts(name: str, settings: Any, records: list[Record]) -> dict[str, tuple[str, str]]:
    """Prediction -> its kind and its verdict."""
    seen = [s for s in catalogue.load(name).observed(settings, records) if s.outcomes]
    return {s.prediction.id: (s.prediction.kind, v.verdict) for s, v in zip(seen, judge(seen), strict=True)}
