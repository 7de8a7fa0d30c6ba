"""The paper's own TeX files, read as far as its checks need: comments, macros with their arguments, mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PAPER = Path(__file__).resolve().parent
#: defines the macros, asks for nothing
PREAMBLE = "preamble.tex"


class Use(NamedTuple):
    """A macro with its arguments in braces, as it stands in the text."""

    file: str
    line: int
    macro: str
    arguments: tuple[str, ...]


def texts(folder: Path = PAPER) -> dict[str, str]:
    """File name -> text without comments, for every file but the preamble."""
    return {
        path.name: without_comments(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.tex")) if path.name != PREAMBLE
    }  # fmt: skip


def without_comments(text: str) -> str:
    """TeX without comments; line numbers stay."""
    return re.sub(r"(?<!\\)((?:\\\\)*)%.*", r"\1", text)


def group(text: str, start: int) -> tuple[str, int] | None:
    """(what stands in the braces that open at or after `start`, position behind them); None if none follow."""
    i = start
    while i < len(text) and text[i].isspace():
        i += 1
    if i >= len(text) or text[i] != "{":
        return None
    depth = 0
    for j in range(i, len(text)):
        if text[j] == "{" and text[j - 1] != "\\":
            depth += 1
        elif text[j] == "}" and text[j - 1] != "\\":
            depth -= 1
            if depth == 0:
                return text[i + 1 : j], j + 1
    return None


def uses(file: str, text: str, arities: dict[str, int]) -> Iterator[Use]:
    """Every use of the macros in `arities` (name -> number of arguments), nested ones included.

    Raises:
        ValueError: an argument is missing.
    """
    for match in re.finditer(r"\\([A-Za-z]+)", text):
        macro, position = match[1], match.end()
        arguments: list[str] = []
        if macro not in arities:
            continue
        line = text.count("\n", 0, match.start()) + 1
        for _ in range(arities[macro]):
            found = group(text, position)
            if found is None:
                raise ValueError(f"{file}:{line}: expected {arities[macro]} arguments in braces after \\{macro}, got"
                                 f" {len(arguments)}")  # fmt: skip
            arguments.append(re.sub(r"\s+", " ", found[0]))
            position = found[1]
        yield Use(file, line, macro, tuple(arguments))
