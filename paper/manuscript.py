"""The paper's own TeX files, read as far as its checks need: comments, macros with their arguments, mathematics."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PAPER = Path(__file__).resolve().parent
#: defines the macros, asks for nothing
PREAMBLE = "preamble.tex"
#: folder of the sections on experiments
SECTIONS = "experiments"


class Use(NamedTuple):
    """A macro with its arguments in braces, as it stands in the text."""

    file: str
    line: int
    macro: str
    arguments: tuple[str, ...]


def texts(folder: Path = PAPER) -> dict[str, str]:
    """File name -> text without comments, for every file but the preamble; ``experiments/rank.tex`` has its folder."""
    return {
        path.relative_to(folder).as_posix(): without_comments(path.read_text(encoding="utf-8"))
        for path in sorted([*folder.glob("*.tex"), *folder.glob(f"{SECTIONS}/*.tex")]) if path.name != PREAMBLE
    }  # fmt: skip


def sectioned(sources: Mapping[str, str]) -> list[Use]:
    r"""Where the sections on experiments, ``experiments/*.tex``, say ``\status{experiment}``."""
    there = {file: text for file, text in sources.items() if file.startswith(f"{SECTIONS}/")}
    return [use for file, text in there.items() for use in uses(file, text, {"status": 1})]


def sections(experiments: Sequence[str], folder: Path = PAPER) -> list[str]:
    """Files about experiments without suffix, in the order of the first experiment that each one is about."""
    order: dict[str, int] = {}
    for use in sectioned(texts(folder)):
        place = experiments.index(use.arguments[0]) if use.arguments[0] in experiments else len(experiments)
        order[use.file] = min(place, order.get(use.file, place))
    return [file.removesuffix(".tex") for file in sorted(order, key=lambda f: (order[f], f))]


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
