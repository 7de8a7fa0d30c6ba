"""One JSON file per finished cell: named by a hash of what was run, whole or not there at all.

``results/<experiment>/<profile>/<hash>.json`` holds {cell, experiment, protocol, profile, metrics, seconds, device,
environment, commit, dirty, declaration, digest, sealed}. The name is the first 16 hex digits of SHA-256 over the
canonical JSON of cell, experiment and protocol version: the same cell is never run twice, and a changed config or
protocol is another cell. `digest` is that of the metrics, `declaration` that of the predictions that were declared
before (None for a method of the user's own), `sealed` that of what single experts said (None where a cell seals
nothing).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, FiniteFloat, JsonValue, SkipValidation, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic reads that of typing from Python 3.12 on

from empirical.engine.settings import Cell, refusal
from theory import provenance
from theory.numerics import require
from theory.provenance import ROOT, build_folder, in_checkout, versions, write_bytes

#: the committed results; outside a checkout those of the working folder
RESULTS = ROOT / "empirical" / "results" if in_checkout() else build_folder() / "results"
SCHEMA = 2
CURE = "delete it and run again"
#: beside the records: what was declared before they were made
PREDICTIONS = "predictions.json"
PACKAGES = ("numpy", "torch", "transformers", "peft")

C = TypeVar("C", bound=Cell, covariant=True)
M = TypeVar("M", covariant=True)


#: what was parsed as JSON is not looked at again
Parsed = dict[str, SkipValidation[JsonValue]]


@with_config(ConfigDict(extra="forbid", strict=True))
class RawRecord(TypedDict):
    """A record as its file holds it; digests are 16 hex digits each."""

    schema: int
    cell: Parsed
    experiment: str
    protocol: int
    profile: str
    metrics: Parsed
    seconds: FiniteFloat
    device: str
    environment: Parsed
    commit: str | None
    dirty: bool
    declaration: str | None
    digest: str
    sealed: str | None


FIELDS = set(RawRecord.__annotations__)
_RECORD = TypeAdapter(RawRecord)


@dataclass(frozen=True)
class Record(Generic[C, M]):
    """A record as the experiments read it: its cell, and what was measured there."""

    experiment: str
    profile: str
    cell: C
    metrics: M
    #: wall time of the cell alone; what was loaded counts with the time that its training took
    seconds: float
    #: the device in words
    device: str
    commit: str | None
    dirty: bool
    #: the file
    raw: RawRecord

    def __getitem__(self, field: str) -> Any:
        """A field as the file holds it."""
        return self.raw[field]  # type: ignore[literal-required]


class RecordError(ValueError):
    """A result file or folder is not what it must be; one line says which and why."""


def canonical(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, no NaN. Raises ValueError for what JSON cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def short_hash(text: str) -> str:
    """First 16 hex digits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def files(folder: Path) -> list[Path]:
    """The records of a folder, which also holds what was declared."""
    return sorted(path for path in folder.glob("*.json") if path.name != PREDICTIONS)


def cell_hash(experiment: str, protocol: int, cell: Mapping[str, Any]) -> str:
    """First 16 hex digits of SHA-256 over the canonical JSON of cell, experiment and protocol version."""
    text = canonical({"cell": dict(cell), "experiment": experiment, "protocol": protocol})
    return short_hash(text)


def write_json(path: Path, value: Any) -> None:
    """Write whole or not at all, as JSON.

    Raises:
        RecordError: the folder cannot be written or the disk is full; nothing is left behind.
        ValueError: a number is not finite. TypeError: something that JSON cannot hold.
    """
    _write(path, as_bytes(value))


def as_bytes(value: Any) -> bytes:
    """JSON as it is written. Raises ValueError or TypeError for what JSON cannot hold."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_all(contents: Mapping[Path, bytes]) -> None:
    """Write several files, each whole or not at all, and none where one has no place.

    Raises:
        RecordError: a folder cannot be written, then nothing is; or the disk is full.
    """
    for path in contents:
        above = next(p for p in path.absolute().parents if p.exists())
        if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            got = f"the folder {path}" if path.is_dir() else above
            raise RecordError(f"{path}: expected a folder to write to and no folder in its place, got {got}")
    for path, content in contents.items():
        _write(path, content)


def _write(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:
        raise RecordError(f"{path}: expected to write it, got: {error.strerror}") from error


def read(path: Path) -> RawRecord:
    """A record, as `parse` checks it. Raises RecordError for what is none, or cannot be read."""
    try:
        return parse(path.read_bytes(), path.stem)
    except OSError as error:
        raise RecordError(f"{path}: expected a whole JSON record, got: {error.strerror} ({CURE})") from error
    except RecordError as error:
        raise RecordError(f"{path}: {error} ({CURE})") from error


def parse(content: bytes, name: str) -> RawRecord:
    """A record, checked against its own name, and its metrics against their digest.

    Raises:
        RecordError: not JSON, fields missing, unknown or of another type, or a hash is not that of the content.
    """
    try:
        found = _RECORD.validate_json(content)
        want, digest = cell_hash(found["experiment"], found["protocol"], found["cell"]), canonical(found["metrics"])
        require(type(found["cell"].get("seed")) is int, "cell", "an integer seed", found["cell"].get("seed"))
    except ValueError as error:  # of pydantic, or of a number that JSON does not have
        got = refusal(error) if isinstance(error, ValidationError) else error
        raise RecordError(f"expected a whole JSON record, got: {got}") from error
    if name != want:
        raise RecordError(f"expected the name {want} for this content, got {name}")
    if found["digest"] != short_hash(digest):
        raise RecordError(f"expected metrics of digest {found['digest']}, got others")
    return found


@cache
def environment() -> dict[str, JsonValue]:
    """Versions that a result depends on, of the process that asks."""
    found: dict[str, JsonValue] = dict(versions(PACKAGES))
    return {"python": platform.python_version(), "machine": platform.machine(), "packages": found}


def commit() -> tuple[str | None, bool]:
    """(commit, dirty) of the code: results are what a run writes, they do not make what wrote them dirty."""
    return provenance.commit("empirical/results")


def device_name(device: str) -> str:
    """The device in words: the processor's or the accelerator's model name."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"CPU: {line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass
    return f"CPU: {platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def finite(value: Any, where: str = "metrics") -> None:
    """Raise RecordError if a number anywhere in `value` is NaN or infinite: a failed cell, not a row in a table."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RecordError(f"{where}: expected finite numbers, got {value}")
    if isinstance(value, Mapping):
        for key, item in value.items():
            finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            finite(item, f"{where}[{i}]")


class Store:
    """The records of one experiment under one profile; those that are put belong to `declaration`."""

    def __init__(
        self, results: Path, experiment: str, protocol: int, profile: str, declaration: str | None = None
    ) -> None:
        self.experiment, self.protocol, self.profile = experiment, protocol, profile
        self.declaration = declaration
        self.folder = results / experiment / profile

    def path(self, cell: Cell) -> Path:
        """Where the record of `cell` lies or will lie."""
        return self.folder / f"{cell_hash(self.experiment, self.protocol, cell.identity())}.json"

    def _error_path(self, cell: Cell) -> Path:
        path = self.path(cell)
        return path.with_name(f"{path.stem}.error.txt")

    def get(self, cell: Cell) -> RawRecord | None:
        """The record of `cell`, None if it is not there. Raises RecordError for a damaged file."""
        path = self.path(cell)
        return read(path) if path.exists() else None

    def put(
        self,
        cell: Cell,
        metrics: dict[str, JsonValue],
        seconds: float,
        device: str,
        versions: dict[str, JsonValue] | None = None,
        code: tuple[str | None, bool] | None = None,
        sealed: str | None = None,
    ) -> RawRecord:
        """Write the record of a finished cell; a number that is not finite raises RecordError.

        Args:
            seconds: wall time of the cell alone, as if it had trained what it loaded.
            device: in words, of the process that ran the cell.
            versions: `environment` of that process, by default of this one.
            code: `commit` of what ran, by default as it is now.
            sealed: hash of what the cell sealed.
        """
        finite(metrics)
        identity, dirty = code or commit()
        record: RawRecord = {
            "schema": SCHEMA,
            "cell": cell.identity(),
            "experiment": self.experiment,
            "protocol": self.protocol,
            "profile": self.profile,
            "metrics": metrics,
            "seconds": round(seconds, 3),
            "device": device,
            "environment": versions or environment(),
            "commit": identity,
            "dirty": dirty,
            "declaration": self.declaration,
            "digest": short_hash(canonical(metrics)),
            "sealed": sealed,
        }
        # first the error of an earlier try: killed in between, the cell runs again, and no record keeps a stale error
        with suppress(OSError):
            self._error_path(cell).unlink(missing_ok=True)
        write_json(self.path(cell), record)
        return record

    def put_error(self, cell: Cell, error: str) -> None:
        """Keep why a cell failed, beside where its record would lie; the next run tries it again."""
        _write(self._error_path(cell), f"{canonical(cell.identity())}\n{error}\n".encode())

    def strangers(self, cells: Iterable[Cell]) -> int:
        """How many files here belong to none of `cells`: records of another config or protocol."""
        return len({p.name for p in files(self.folder)} - {self.path(cell).name for cell in cells})

    def damaged(self) -> list[str]:
        """One line for every file here that is no whole record."""
        problems = []
        for path in files(self.folder):
            try:
                read(path)
            except RecordError as error:
                problems.append(str(error))
        return problems

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Only one driver at a time writes here; a second one gets RecordError at once."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            raise RecordError(f"{self.folder}: expected a folder to write to, got: {error.strerror}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RecordError(f"{self.folder}: expected no other driver, got one that is running here") from error
            # what a killed driver left half-written is nothing to anybody
            for partial in self.folder.glob(".*.partial"):
                partial.unlink(missing_ok=True)
            yield
