"""What an experiment is: one folder with ``settings.toml`` and a ``run.py`` that defines one `experiment`.

It has a grid of cells, kinds of cells that can be run, and predictions that are held against the records. All members
are arguments of `Experiment` and `Kind`, so that a missing or misspelt one is an error when the module is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, Union, get_type_hints

from pydantic import JsonValue

from empirical.engine.judge import Observed, judge_exact, observe
from empirical.engine.predictions import Prediction, World
from empirical.engine.records import RawRecord, Record
from empirical.engine.settings import Cell, as_json, group_of, read
from empirical.engine.spread import Repeats
from empirical.engine.ways import Asked
from theory.numerics import require

S = TypeVar("S")
C = TypeVar("C", bound=Cell)
M = TypeVar("M")


def _no(_: Any) -> bool:
    return False


@dataclass(frozen=True)
class Kind(Generic[C, M]):
    """A kind of cell.

    Args:
        run: cell, device ("cpu" or "cuda") -> metrics. Its annotations say which cells are of this kind and what they
            measure, by which records are read back.
        seconds: a guess of the seconds that a cell takes on one core.
        takes_method: whether a method of the user's own can be run in a cell.
        stores: whether what its cells train is kept, so that they train it once; see :mod:`empirical.training.store`.
    """

    run: Callable[[C, str], M]
    seconds: Callable[[C], float] | None = None
    takes_method: Callable[[C], bool] = _no
    stores: bool = False

    @cached_property
    def _types(self) -> tuple[type[C], type[M]]:
        hints = get_type_hints(self.run)
        metrics = hints.pop("return", None)
        cell = next(iter(hints.values()), None)
        annotated = isinstance(cell, type) and issubclass(cell, Cell) and metrics is not None
        require(
            annotated, getattr(self.run, "__name__", "run"), "annotations (cell: a Cell, device: str) -> metrics", hints
        )
        return cell, metrics  # type: ignore[return-value]

    @property
    def cell(self) -> type[C]:
        """The type of its cells."""
        return self._types[0]

    @property
    def metrics(self) -> type[M]:
        """The type of what they measure."""
        return self._types[1]

    def of(self, records: Iterable[Record[Any, Any]]) -> list[Record[C, M]]:
        """The records of this kind, in their order."""
        return [r for r in records if isinstance(r.cell, self.cell)]


@dataclass(frozen=True)
class Experiment(Generic[S]):
    """An experiment, as its ``run.py`` defines it.

    Args:
        purpose: what it holds against real training, in one line without a full stop.
        order: experiments run and are shown in this order.
        protocol: version of what the cells do; another one makes other records.
        settings: type of the settings of a profile; the tables [common] and [profile] of ``settings.toml`` are read
            into it.
        cells: settings -> the grid. Raises ValueError for settings that make no sense.
        kinds: of the cells.
        declare: settings -> the predictions, made without sight of a result.
        try_method: tries a method of the user's own by its name, before anything is trained, on two tiny adapters of
            such a base, and with what the cells can give it; by default on a tiny decoder, with nothing else.
        of_method: settings -> what is said of a merge of the user's own, beside the rest; nothing of it is declared.
        asked: records -> what each method made of its experts in each world, where methods of reuse are compared.
        repeats: records -> numbers that worlds with several trainings hold once for each.
    """

    purpose: str
    order: int
    protocol: int
    settings: type[S]
    cells: Callable[[S], Sequence[Cell]]
    kinds: Sequence[Kind[Any, Any]]
    declare: Callable[[S], Sequence[Prediction]]
    try_method: Callable[[str], None] | None = None
    of_method: Callable[[S], Sequence[Prediction]] | None = None
    asked: Callable[[Sequence[Record[Any, Any]]], Iterable[Asked]] | None = None
    repeats: Callable[[Sequence[Record[Any, Any]]], Iterable[Repeats]] | None = None

    def observed(self, settings: S, records: Sequence[Record[Any, Any]]) -> list[Observed]:
        """Every prediction, and what the worlds of these records show of it.

        Raises:
            ValueError: a record does not have what a prediction names.
        """
        said = list(self.declare(settings))
        if self.of_method is not None and any(r.cell.user_method for r in records):
            said += self.of_method(settings)
        return observe(said, records)

    def broken(self, settings: S, world: World) -> str | None:
        """The first theorem about the very numbers that does not hold in a world, whole or not; None if all do."""
        said = [p for p in self.declare(settings) if p.kind == "exact"]
        for seen in observe(said, world):
            if seen.outcomes and (found := judge_exact(seen)).verdict != "holds":
                p, target = seen.prediction, seen.targets[0]
                return (f"{p.id}: expected, by {p.claim}, {p.of.name} {p.relation} {target:g} (give or take"
                        f" {p.margin:g}), got {found.mean:g}")  # fmt: skip
        return None

    def planned(self, settings: S) -> dict[str, int]:
        """Group -> its worlds, which are the different seeds of the grid."""
        seeds: dict[str, set[int]] = {}
        for cell in self.cells(settings):
            seeds.setdefault(group_of(cell), set()).add(cell.seed)
        return {group: len(found) for group, found in seeds.items()}

    def kind(self, cell: Cell) -> Kind[Any, Any]:
        """The kind that a cell is of."""
        return next(kind for kind in self.kinds if isinstance(cell, kind.cell))

    def cell(self, identity: Mapping[str, Any]) -> Cell:
        """The cell with this identity. Raises ValueError for one that no kind has."""
        any_of: Any = Union[tuple(kind.cell for kind in self.kinds)]  # noqa: UP007
        found: Cell = read(any_of, identity, "cell")
        return found

    def seconds(self, cell: Cell) -> float | None:
        """A guess of the seconds that a cell takes on one core; None if the experiment has none."""
        guess = self.kind(cell).seconds
        return None if guess is None else float(guess(cell))

    def takes_method(self, cell: Cell) -> bool:
        """Whether a merge of the user's own can be run in this cell."""
        return self.kind(cell).takes_method(cell)

    def run(self, cell: Cell, device: str) -> JsonValue:
        """What a cell measures, as JSON."""
        return as_json(self.kind(cell).run(cell, device))

    def record(self, cell: Cell, raw: RawRecord) -> Record[Any, Any]:
        """A record of `cell` with its metrics as what the kind measures. Raises ValueError for others."""
        metrics = read(self.kind(cell).metrics, raw["metrics"], f"{raw['experiment']}: metrics")
        return Record(
            raw["experiment"], raw["profile"], cell, metrics, raw["seconds"], raw["device"], raw["commit"],
            raw["dirty"], raw,
        )  # fmt: skip
