"""Write ``paper/generated/``: every number, table and figure that the text asks for.

Reads the registry, ``build/verification.json``, ``empirical/results/`` and what Coq printed, nothing else
(:mod:`paper.evidence`); what the text asks for is read off its own files (``\\val{key}``, ``\\claim{id}``, ...). The
keys that it may ask for are listed in ``build/paper/keys.txt``. The same input gives the same bytes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from paper import figures, overview, render
from paper.evidence import Evidence, command
from paper.figures import Figure
from paper.keys import Values
from paper.manuscript import PAPER, texts, uses
from paper.requests import parts, requests
from theory.provenance import ROOT

KEYS = ROOT / "build" / "paper" / "keys.txt"
HEADER = "% Written by paper/generate.py; do not edit.\n"


class RequestError(ValueError):
    """The text asks for something that there is not; the message names file, line and request."""


def answers(evidence: Evidence, values: Values, drawn: Mapping[str, Sequence[Figure]], folder: Path) -> str:
    """TeX definitions of everything that the text in `folder` asks for.

    Raises:
        RequestError: an unknown key, claim, experiment or figure.
    """
    known = requests(evidence, values, drawn)
    arities = {name: count for name, (count, _) in known.items()}
    defined: dict[str, str] = {}
    for file, text in texts(folder).items():
        try:
            found = list(uses(file, text, arities))
        except ValueError as error:
            raise RequestError(str(error)) from error
        for use in found:
            name = ":".join((use.macro, *use.arguments))
            try:
                defined[name] = render.tex(known[use.macro][1](*(a.strip() for a in use.arguments)))
            except KeyError as error:
                raise RequestError(f"{use.file}:{use.line}: \\{use.macro}: {error.args[0]}") from error
    return HEADER + "".join(f"\\lldef{{{name}}}{{{body}}}\n" for name, body in sorted(defined.items()))


def generate(evidence: Evidence, folder: Path = PAPER, out: Path | None = None, keys: Path = KEYS) -> list[str]:
    """Write the generated parts for the text in `folder`; all or nothing. Returns the names of the files.

    Raises:
        RequestError: see :func:`answers`.
    """
    target = out or folder / "generated"
    values = Values(evidence)
    keys.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=keys.parent) as scratch:
        fresh = Path(scratch) / "generated"
        (fresh / "figures").mkdir(parents=True)
        drawn = {run.experiment: figures.write(run, fresh / "figures") for run in evidence.first_runs}
        keys.write_text("".join(f"{key}\t{render.tex(value)}\n" for key, value in values.listed()), encoding="utf-8")
        (fresh / "numbers.tex").write_text(answers(evidence, values, drawn, folder), encoding="utf-8")
        first = {run.experiment: run for run in evidence.first_runs}
        about = {**parts(evidence), "overview": overview.write(first, fresh / "figures")}
        for stem, text in about.items():
            (fresh / f"{stem}.tex").write_text(HEADER + text, encoding="utf-8")
        written = sorted(p.relative_to(fresh).as_posix() for p in fresh.rglob("*") if p.is_file())
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(fresh, target)
    return written


def main() -> int:
    """Exit status 0, or 2 with one line; see :func:`paper.evidence.command`."""

    def build(evidence: Evidence) -> str:
        written = generate(evidence)
        return f"written: paper/generated, {len(written)} files; keys in build/paper/keys.txt"

    return command("paper", build)


if __name__ == "__main__":
    sys.exit(main())
