"""What single experts foretell, on the disk before what it foretells is scored.

A cell calls `seal` with what it has measured of single experts; the value is appended, under the path at which the
metrics will hold it, to ``sealed/<hash of the cell>.json`` beside the records: one JSON line a value, each on the disk
before `seal` returns. A file belongs to one attempt, is made new and is never written again; a second attempt gets a
file of its own, ``<hash>.2.json``. The record carries the SHA-256 of the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count, takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from empirical.engine.records import RecordError, canonical, short_hash
from empirical.engine.settings import as_json

T = TypeVar("T")
FOLDER = "sealed"


class Line(TypedDict):
    """A value, and the path at which the metrics hold it."""

    name: str
    value: Any


_LINE = TypeAdapter(Line)


class Seal:
    """What one attempt at a cell has sealed.

    Args:
        path: the file of the first attempt; nothing is written where its results folder is not, as on another machine.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._first = path if path is not None and path.parent.parent.is_dir() else None
        self._path: Path | None = None
        self.text = ""

    def add(self, name: str, value: Any) -> None:
        """Append a value and wait for the disk. Raises RecordError where it cannot be written."""
        line = canonical({"name": name, "value": as_json(value)}) + "\n"
        self.text += line
        if self._first is None:
            return
        try:
            if self._path is None:
                self._path = write_new(self._first, "")
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise RecordError(f"{self._first}: expected to write it, got: {error.strerror}") from error


def _paths(first: Path) -> Iterator[Path]:
    """The files of all attempts, there or not; named one by one, since a look at the folder takes longer the fuller."""
    yield first
    yield from (first.with_name(f"{first.stem}.{attempt}.json") for attempt in count(2))


def write_new(first: Path, text: str) -> Path:
    """Write `text` to a new file, `first` or the next attempt's name; returns which."""
    first.parent.mkdir(parents=True, exist_ok=True)
    for path in _paths(first):
        try:
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            return path
        except FileExistsError:
            continue
    raise AssertionError("there is always a next attempt")


_CURRENT: ContextVar[Seal | None] = ContextVar("sealing", default=None)


@contextmanager
def sealing(path: Path | None) -> Iterator[Seal]:
    """What is sealed within goes to `path`."""
    found = Seal(path)
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)


def seal(name: str, value: T) -> T:
    """Fix a value before what it foretells is scored; gives it back.

    Args:
        name: dotted path at which the metrics of the cell will hold the value, as in "predicted.coverage_law".

    Raises:
        ValueError: JSON cannot hold the value. RecordError: the disk did not take it.
    """
    current = _CURRENT.get()
    if current is not None:
        current.add(name, value)
    return value


def check(text: str, metrics: Mapping[str, Any], where: str) -> None:
    """Every value that was sealed is what the metrics hold at its path. Raises RecordError for another."""
    for line in text.splitlines():
        try:
            entry = _LINE.validate_json(line)
            want = canonical(entry["value"])
        except ValueError as error:
            raise RecordError(f"{where}: expected lines of a name and a value that were sealed, got others") from error
        found: Any = metrics
        for step in entry["name"].split("."):
            found = found.get(step) if isinstance(found, Mapping) else None
        if canonical(found) != want:
            raise RecordError(f"{where}: expected {entry['name']} as it was sealed, got another value")


def sealed_path(record: Path) -> Path:
    """Where the cell of a record seals, at the first attempt."""
    return record.parent / FOLDER / record.name


def _attempts(record: Path) -> list[str]:
    # what is no text has another hash
    return [
        path.read_text(encoding="utf-8", errors="replace")
        for path in takewhile(Path.exists, _paths(sealed_path(record)))
    ]


def secure(record: Path, text: str) -> str | None:
    """The hash of what a cell sealed, None for nothing; written now where the worker's disk was another one."""
    if not text:
        return None
    if text not in _attempts(record):
        write_new(sealed_path(record), text)
    return short_hash(text)


def find(record: Path, sha256: str) -> str | None:
    """What an attempt at the record's cell sealed under this hash; None where there is no file at all.

    Raises:
        RecordError: there are files, and none is the one.
    """
    texts = _attempts(record)
    found = [text for text in texts if short_hash(text) == sha256]
    if texts and not found:
        raise RecordError(f"{sealed_path(record)}: expected the hash {sha256} that the record has, got another")
    return found[0] if found else None
