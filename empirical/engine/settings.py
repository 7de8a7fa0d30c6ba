"""Tables of settings, cells and metrics: frozen, and neither a key too many nor one too few.

A `Table` is a pydantic model that refuses unknown and missing keys; what comes from a file is read strictly, so that
no text becomes a number. A `Cell` is a table that says what one run is; its canonical JSON names its record.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

T = TypeVar("T")


class Count(NamedTuple):
    """So many right of so many asked; [right, asked] in JSON."""

    right: int
    asked: int

    @property
    def rate(self) -> float:
        """right / asked; of 0 of 0 there is no rate, which is NaN."""
        return self.right / self.asked if self.asked else float("nan")

    @classmethod
    def of(cls, right: np.ndarray, among: np.ndarray | None = None) -> Self:
        """Count the true entries of a mask, of all or `among` those that another mask chooses."""
        chosen = right if among is None else right[among]
        return cls(int(np.count_nonzero(chosen)), len(chosen))

    @classmethod
    def total(cls, counts: Iterable[tuple[int, int]]) -> Self:
        """All counts together."""
        right, asked = np.array([(0, 0), *counts]).sum(axis=0).tolist()
        return cls(right, asked)


class Table(BaseModel):
    """A table of settings, or of metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)

    @classmethod
    def of(cls, table: Table, **more: Any) -> Self:
        """A table of this type, with `more` and the fields that it shares with `table`."""
        fields = cls.model_fields
        return cls(**{k: v for k, v in table if k in fields} | more)

    def but(self, **changes: Any) -> Self:
        """The same table with some values changed, checked like those from a file."""
        found: Any = as_json({**dict(self), **changes})
        return read(type(self), found, type(self).__name__)


class UserMethod(Table):
    """What a cell remembers of METHOD=file.py:function: the reference, and the hash of the file's text."""

    reference: str
    sha256: str

    @property
    def pinned(self) -> str:
        """By this name :mod:`empirical.reuse` runs the method, and refuses another text of the file."""
        return f"{self.reference}@{self.sha256}"


class Cell(Table):
    """What one run is. Fields that are None are left out of its identity."""

    seed: int
    #: a merge of the user's own, which is run beside the known ones
    user_method: UserMethod | None = None

    def identity(self) -> dict[str, JsonValue]:
        """The cell as JSON; with experiment and protocol its hash names the record."""
        return self.model_dump(mode="json", exclude_none=True)


class WholeWorld(Cell):
    """A world, all of which is run in one cell."""

    kind: Literal["world"] = "world"


def group_of(cell: Cell) -> str:
    """The group of worlds that a cell belongs to: its field `group`, "" where it has none."""
    return str(getattr(cell, "group", ""))


class Worlds(Table):
    """How many worlds, and the seed of the first."""

    worlds: int
    first_seed: int

    @property
    def seeds(self) -> range:
        """The seed of each world."""
        return range(self.first_seed, self.first_seed + self.worlds)


class Group(Worlds):
    """A group of worlds in the settings; any further key changes a setting of its worlds."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def changes(self) -> dict[str, JsonValue]:
        """Settings of its worlds that differ from those of the others."""
        return self.model_extra or {}


def read(kind: type[T], found: Mapping[str, Any], where: str) -> T:
    """`found`, as it comes from a file, as `kind`: a table, a union of tables, or any type that pydantic knows.

    Raises:
        ValueError: an unknown or missing key, or a value of another type; one line that names it and `where` it stands.
    """
    try:
        return TypeAdapter(kind).validate_json(json.dumps(found), strict=True)
    except ValidationError as error:
        raise ValueError(f"{where}: {refusal(error)}") from None


def refusal(error: ValidationError) -> str:
    """What pydantic refuses first, and where, in one line."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return first["msg"]
    if first["type"] == "missing":
        return f"expected the key {path}, got none"
    if first["type"] == "extra_forbidden":
        return f"expected known keys, got {path}"
    said = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"{path}: expected {said}, got {first['input']!r}"


def as_json(value: Any) -> JsonValue:
    """Tables, counts and what is made of them as plain JSON. Raises ValueError for what JSON cannot hold."""
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        found: JsonValue = to_jsonable_python(value, by_alias=True)
    except PydanticSerializationError as error:
        raise ValueError(f"expected what JSON can hold, got: {error}") from error
    return found
