"""The tasks as a benchmark: one JSON Lines file per split, and a data card.

A task module takes part if it has ``examples(seed, ...)``, an iterator of :class:`~empirical.tasks.example.Example`,
and ``CARD``, its data card in Markdown. Sizes are passed to those that have them as parameters.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TextIO

import empirical.tasks
from empirical.tasks.example import Example
from theory.numerics import integer, one_of, require
from theory.provenance import ROOT, build_folder

DATA = build_folder() / "data"
CARD = ROOT / "docs" / "data-card.md"
FIELDS = tuple(Example.__annotations__)
INTRODUCTION = """\
# Data card

The tasks of the experiments, as data for others. `make data` writes `build/data/<task>/<split>.jsonl`, one JSON
object per line, from a seed (`python -m empirical data --seed N --out DIR`); the same seed and sizes give the same
bytes. Every object has `id`, `task`, `split`, `prompt` and `answer`; what else it has, the task's own section says. The
cards below stand in the task modules, `empirical/tasks/`; this file is written by the same command.
"""


def tasks() -> dict[str, ModuleType]:
    """The task modules that have data to export, by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(empirical.tasks.__path__))
    modules = {name: importlib.import_module(f"empirical.tasks.{name}") for name in names}
    return {name: m for name, m in modules.items() if hasattr(m, "examples") and hasattr(m, "CARD")}


def card() -> str:
    """The data card of all tasks (``docs/data-card.md``)."""
    # each task's card is a document of its own; here it is a section
    return "\n".join([INTRODUCTION, *("#" + module.CARD for module in tasks().values())])


def rows(module: ModuleType, seed: int, sizes: Mapping[str, int]) -> Iterator[Example]:
    """The examples of one task, checked.

    Raises:
        ValueError: an example without the common fields, or an id that occurs twice.
    """
    taken = {k: v for k, v in sizes.items() if k in inspect.signature(module.examples).parameters}
    seen: set[str] = set()
    for row in module.examples(seed, **taken):
        missing = [f for f in FIELDS if f not in row]
        require(not missing, module.__name__, "the fields " + ", ".join(FIELDS), "none of " + ", ".join(missing))
        require(row["id"] not in seen, module.__name__, "ids that differ", f"{row['id']} twice")
        seen.add(row["id"])
        yield row


def export(
    out: Path = DATA,
    seed: int = 0,
    sizes: Mapping[str, int] | None = None,
    names: Sequence[str] | None = None,
    cards: Path | None = None,
) -> Iterator[str]:
    """Write the data of the tasks named (None: all); one line per file written.

    Every file of a task is complete under a temporary name before any of them takes its own.

    Args:
        out: folder; a folder per task is made in it.
        seed: of the worlds, >= 0.
        sizes: how many training and test examples (``train``, ``test``), for tasks whose size is free.
        cards: file for the data card of all tasks.

    Raises:
        ValueError: an unknown task, a seed or size that is none, or no place for a file, and nothing is written;
            examples that are not what they must be, or a disk that is full.
    """
    known, sizes = tasks(), sizes or {}
    integer(seed, "seed", 0)
    for name, size in sizes.items():
        integer(size, name, 1)
    for name in names or ():
        one_of(name, "task", tuple(known))
    chosen = dict.fromkeys(names or known)
    for folder in (out / name for name in chosen):
        above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        writable = above.is_dir() and os.access(above, os.W_OK)
        require(writable, str(folder), "a folder to write to", above)
    if cards is not None:
        writable = not cards.is_dir() and os.access(cards if cards.exists() else cards.absolute().parent, os.W_OK)
        require(writable, str(cards), "a file to write to", "a folder" if cards.is_dir() else "none that can be made")
    for name in chosen:
        folder = out / name
        partial: dict[str, TextIO] = {}
        counts: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for row in rows(known[name], seed, sizes):
                    split = f"{row['split']}.jsonl"
                    if split not in partial:
                        partial[split] = (folder / f".{split}.partial").open("w", encoding="utf-8", newline="\n")
                    partial[split].write(json.dumps(row, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")
                    counts[split] = counts.get(split, 0) + 1
                for file in partial.values():
                    file.close()
                made = [f"- `{split}`: {count} examples" for split, count in counts.items()]
                text = "\n".join([known[name].CARD, f"**These files** (seed {seed}):", "", *made, ""])
                (folder / ".README.md.partial").write_text(text, encoding="utf-8")
                for target in (*partial, "README.md"):
                    (folder / f".{target}.partial").replace(folder / target)
            finally:
                for file in partial.values():
                    file.close()
                for left in folder.glob(".*.partial"):
                    left.unlink()
        except OSError as error:
            raise ValueError(f"{folder}: expected a folder to write to, got: {error.strerror}") from error
        for split, count in counts.items():
            yield f"{folder / split}: {count} examples"
    if cards is not None:
        write_card(cards)


def write_card(path: Path) -> None:
    """Write :func:`card` to `path`.

    Raises:
        ValueError: the file cannot be written.
    """
    try:
        path.write_text(card(), encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: expected a file to write to, got: {error.strerror}") from error
