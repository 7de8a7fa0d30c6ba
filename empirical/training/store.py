"""Trained weights are made once: kept by the hash of everything that made them, and loaded bit for bit.

Within `storing`, which the engine opens around a cell, a trainer asks `stored` before it trains; elsewhere `stored`
just makes. What a model answers can be kept in the same way (`answered`). An entry is one file,
``<hash>.safetensors``, whole or not there at all. Its name is the hash of what the trainer was told (settings,
sentences, the base's very weights), of the trainer's code, of the libraries' versions and of the device, so that
whatever would train something else looks under another name. The file says all of that in words, and has a digest of
its numbers.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from theory.lowrank import LowRank
from theory.provenance import versions, write_bytes

if TYPE_CHECKING:
    import torch

    Tensors: TypeAlias = Mapping[str, torch.Tensor]

#: modules of the project that decide what a trainer makes of what it is told
CODE = ("empirical.tasks.sentences", "empirical.training.adapter", "empirical.training.bases",
        "empirical.training.forms", "empirical.training.readout", "empirical.training.together", "theory.adapters",
        "theory.numerics")  # fmt: skip
PACKAGES = ("numpy", "peft", "torch", "transformers")
SUFFIX = ".safetensors"


class Storage:
    """What is kept in a folder for one kind of device.

    Args:
        folder: made where it is not there.
        device: in words, of the processor or accelerator: another one rounds in another way.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        #: seconds that training took, by entry that was asked for here, whoever trained it
        self.used: dict[str, float] = {}
        #: seconds of training that were spent here, and that were not since it was loaded, each time that it was
        self.spent = self.spared = 0.0

    def _about(self) -> dict[str, Any]:
        """What decides what comes of training beside what the trainer is told."""
        return {"code": code(), "versions": libraries(), "device": self.device}

    def path(self, name: str) -> Path:
        """Where an entry lies or will lie."""
        return self.folder / f"{name}{SUFFIX}"

    def get(self, kind: str, made_of: Mapping[str, Any], make: Callable[[], Tensors]) -> Tensors:
        """See `stored`."""
        import torch

        told = {"kind": kind, "made_of": made_of, "threads": torch.get_num_threads(), **self._about()}
        text, name = _named(described(told))
        kept = self._load(name, text)
        if kept is None:
            started = time.perf_counter()
            made = {key: tensor.detach().cpu().contiguous() for key, tensor in make().items()}
            self.used[name] = time.perf_counter() - started
            self.spent += self.used[name]
            self._keep(name, text, made)
        else:
            made, self.used[name] = kept
            self.spared += self.used[name]
        return {key: tensor.clone() for key, tensor in made.items()}

    def remember(self, cell: Mapping[str, Any], seconds: float) -> None:
        """Note the entries that a cell asked for, and what it took beside training, of the `seconds` that it took."""
        note = {"entries": sorted(self.used), "rest": max(seconds - self.spent, 0.0)}
        with suppress(OSError):  # a note that is missing spares nobody anything and costs nothing
            write_bytes(self._note(cell), json.dumps(note).encode())

    def remembered(self, cell: Mapping[str, Any]) -> float | None:
        """Seconds that a cell took beside training, if it ran here and all that it trained is there; else None."""
        try:
            note = json.loads(self._note(cell).read_bytes())
        except (OSError, ValueError):
            return None
        return float(note["rest"]) if all(self.path(name).exists() for name in note["entries"]) else None

    def _note(self, cell: Mapping[str, Any]) -> Path:
        return self.folder / "cells" / f"{_named({'cell': cell, **self._about()})[1]}.json"

    def _load(self, name: str, text: str) -> tuple[dict[str, torch.Tensor], float] | None:
        from safetensors import SafetensorError, safe_open

        path = self.path(name)
        try:
            with safe_open(path, framework="pt") as file:
                said = file.metadata() or {}
                # in the order in which they were made, which the file does not have
                tensors = {key: file.get_tensor(key) for key in json.loads(said.get("order", "[]"))}
            if said == _said(text, seconds := float(said.get("seconds", "nan")), tensors):
                return tensors, seconds
            problem = "other content"
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            problem = str(error)
        _tell(f"{path}: expected what was written there, got: {problem}; trained again")
        return None

    def _keep(self, name: str, text: str, tensors: dict[str, torch.Tensor]) -> None:
        from safetensors.torch import save

        try:
            write_bytes(self.path(name), save(tensors, _said(text, self.used[name], tensors)))
        except OSError as error:
            _tell(f"{self.path(name)}: expected to write it, got: {error.strerror}; not kept")


_CURRENT: ContextVar[Storage | None] = ContextVar("storing", default=None)


@contextmanager
def storing(storage: Storage | None) -> Iterator[None]:
    """What is trained within is kept there; None: it is not kept."""
    token = _CURRENT.set(storage)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def stored(kind: str, made_of: Mapping[str, Any], make: Callable[[], Tensors]) -> Tensors:
    """What `make` gives, as it was kept or as it is made now; on the CPU and not shared with anybody.

    Args:
        kind: of what is made, in a word.
        made_of: everything that decides what comes out but the trainers' code; see `described`.
        make: trains; what it raises is raised, and nothing is kept.
    """
    storage = _CURRENT.get()
    return make() if storage is None else storage.get(kind, made_of, make)


def answered(made_of: Mapping[str, Any], make: Callable[[], str]) -> str:
    """A text, as what a model answers written as JSON, kept like weights; see `stored`."""
    import torch

    def tensors() -> Tensors:
        return {"text": torch.frombuffer(bytearray(make(), "utf-8"), dtype=torch.uint8)}

    return bytes(stored("answers", made_of, tensors)["text"].numpy()).decode()


def moved(
    kind: str, made_of: Mapping[str, Any], parameters: Sequence[torch.Tensor], train: Callable[[], object]
) -> None:
    """Train `parameters` in place from where they are, or set them to what came of that before; see `stored`.

    Args:
        made_of: everything else that decides what comes out.
        train: moves the parameters.
    """
    import torch

    def make() -> Tensors:
        train()
        return {str(i): parameter for i, parameter in enumerate(parameters)}

    found = stored(kind, {**made_of, "start": parameters}, make)
    with torch.no_grad():
        for i, parameter in enumerate(parameters):
            parameter.copy_(found[str(i)])


def described(value: Any) -> Any:
    """A value as JSON that differs where it does: arrays, tensors, generators and models by their digests, functions by
    the code of their files and by what they close over.

    Raises:
        ValueError: something of another kind, which nothing would be known of.
    """
    import torch
    from torch import nn

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [type(value).__name__, *(described(item) for item in value)]
    if isinstance(value, Sequence):
        return [described(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [type(value).__name__, {f.name: described(getattr(value, f.name)) for f in fields(value)}]
    if isinstance(value, LowRank):
        return [type(value).__name__, *(described(part) for part in (value.scale, value.B, value.A))]
    if isinstance(value, np.ndarray):
        return _hash(f"{value.dtype} {value.shape}", np.ascontiguousarray(value))
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        return _hash(f"{value.dtype} {tuple(value.shape)}", plain)
    if isinstance(value, torch.Generator):
        return described(value.get_state())
    if isinstance(value, nn.Module):
        return _model(value)
    if callable(value) and hasattr(value, "__qualname__"):
        closed = [described(cell.cell_contents) for cell in getattr(value, "__closure__", None) or ()]
        return [value.__qualname__, _code(inspect.getsourcefile(value) or ""), *closed]
    raise ValueError(f"made_of: expected numbers, text, arrays or models, got {type(value).__name__}")


def _model(model: Any) -> Any:
    """The class, settings and weights of a model, and of what lies below one whose lower layers were cut off."""
    from empirical.training.bases import below

    config = getattr(model, "config", None)
    settings = {} if config is None else {**config.to_dict(), "attention": config._attn_implementation}
    settings.pop("_name_or_path", None)  # where it lies is not what it is
    return [type(model).__name__, json.loads(json.dumps(settings, default=str)), described(model.state_dict()),
            [_model(part) for part in below(model)]]  # fmt: skip


def _hash(head: str, array: np.ndarray) -> str:
    found = hashlib.sha256(head.encode())
    found.update(array.data if array.size else b"")
    return found.hexdigest()


def _named(told: Any) -> tuple[str, str]:
    """(text, name) of what was told, as JSON."""
    text = json.dumps(told, sort_keys=True)
    return text, hashlib.sha256(text.encode()).hexdigest()[:24]


def _said(text: str, seconds: float, tensors: Tensors) -> dict[str, str]:
    """What the file of an entry says beside its tensors."""
    said = {"made_of": text, "seconds": repr(seconds), "order": json.dumps(list(tensors))}
    return {**said, "digest": hashlib.sha256(json.dumps([said, described(tensors)]).encode()).hexdigest()}


@cache
def _code(file: str) -> str:
    """The digest of a module's code; its comments and its layout do not count."""
    return hashlib.sha256(ast.dump(ast.parse(Path(file).read_text(encoding="utf-8"))).encode()).hexdigest()


@cache
def libraries() -> dict[str, str | None]:
    """Versions of `PACKAGES`."""
    return versions(PACKAGES)


@cache
def code(*names: str) -> list[str]:
    """Digests of modules, by default of those of `CODE`."""
    return [_code(str(importlib.util.find_spec(name).origin)) for name in names or CODE]  # type: ignore[union-attr]


def _tell(line: str) -> None:
    logging.getLogger(__name__).warning(line)
