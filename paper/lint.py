"""What the paper must not have: typed numbers in result sentences, holes, boxes that stick out, a long main text.

``python -m paper.lint`` checks the text; with ``--built`` also what LaTeX said and the text of the finished PDF.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from paper.manuscript import group, sectioned, texts, uses
from theory.claims import load, topics
from theory.provenance import ROOT

BUILT = ROOT / "build" / "paper"
NAME = "lora-limits"
#: greatest overhang of a box, in points
OVERHANG = 5.0
#: pages of the main text, before references and appendix
PAGES = 14
#: arguments of these are no prose
SILENT = frozenset({
    "val", "claim", "claimref", "status", "judged", "summary", "violations", "scores", "figures", "figref", "label",
    "ref", "eqref", "pageref", "autoref", "hyperref", "cite", "citet", "citep", "citealp", "citealt", "citeauthor",
    "citeyear", "input", "include", "includegraphics", "bibliography", "bibliographystyle", "url", "href", "vspace",
    "hspace", "vskip", "hskip", "setlength", "addtolength", "begin", "end", "setcounter", "renewcommand",
    "newcommand", "hypersetup", "resizebox", "rule", "spread", "ways",
})  # fmt: skip
NAMES = frozenset({"code", "texttt"})
#: lengths are written without a space; with one, "in" and "em" could be words
_LENGTH = re.compile(r"\d*\.?\d+(?:(?:pt|cm|mm|em|ex)\b|\\(?:text|line|column)width)")
_MATH = re.compile(
    r"\$\$.*?\$\$|(?<!\\)\$.*?(?<!\\)\$|\\\(.*?\\\)|\\\[.*?\\\]"
    r"|\\begin\{(equation|align|gather|multline|eqnarray|displaymath)(\*?)\}.*?\\end\{\1\2\}",
    re.DOTALL,
)
_WORDS = re.compile(
    r"\b(?:eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty"
    r"|seventy|eighty|ninety|hundred|thousand|dozen)s?\b", re.IGNORECASE)  # fmt: skip


def _blank(text: str) -> str:
    """As many lines, nothing on them."""
    return "\n" * text.count("\n")


def _prose(text: str) -> str:
    """The text without arguments that are no prose, and without names that hold a letter."""
    out, position = [], 0
    for match in re.finditer(r"\\([A-Za-z]+)\*?", text):
        macro = match[1]
        if match.start() < position or macro not in SILENT | NAMES:
            continue
        out.append(text[position : match.start()])
        end = match.end()
        taken: list[str] = []
        while True:
            option = re.compile(r"\s*\[[^\]]*\]").match(text, end)
            if option and macro in SILENT:
                end = option.end()
                continue
            found = group(text, end)
            if found is None or (macro in NAMES and taken):
                break
            taken.append(found[0])
            end = found[1]
        named = macro in NAMES and not any(re.search(r"[A-Za-z]", t) for t in taken)
        out.append(text[match.start() : end] if named else _blank(text[match.start() : end]))
        position = end
    out.append(text[position:])
    return "".join(out)


def typed_numbers(file: str, text: str) -> Iterator[str]:
    """Digits typed where a generated value belongs, one line each. `text` has no comments.

    Mathematics is free where theorems are proved; elsewhere it may only have single digits, as in indices and 1/m.
    """
    body = text.partition(r"\begin{document}")[2] or text
    offset = text.count("\n") - body.count("\n")
    strict = file.removesuffix(".tex") not in topics(load())

    def mathematics(match: re.Match[str]) -> str:
        typed = re.search(r"\d*\.\d+|\d{2,}|\d\s*\\%", re.sub(r"\\val\s*\{[^}]*\}", "", match[0]))
        return (f"\0{typed[0]}\0" if strict and typed else "") + _blank(match[0])

    plain = _LENGTH.sub("", _prose(_MATH.sub(mathematics, body)))
    for i, line in enumerate(plain.splitlines()):
        typed = re.search(r"(?<![A-Za-z\d])\d[\d.,]*", line)
        if typed is None and strict:
            typed = _WORDS.search(line)
        if typed:
            yield f"{file}:{i + 1 + offset}: expected a generated value, got the typed number {typed[0].strip()!r}"


def missing_claims(sources: Mapping[str, str]) -> Iterator[str]:
    """Claims of the registry that the paper does not state, or states twice."""
    stated = [use.arguments[0] for file, text in sources.items() for use in uses(file, text, {"claim": 1})]
    for claim in load():
        if stated.count(claim) != 1:
            yield f"paper: expected \\claim{{{claim}}} once, got it {stated.count(claim)} times"


def misplaced_claims(sources: Mapping[str, str]) -> Iterator[str]:
    """Claims that are stated in another file than that of their topic."""
    topics = {claim.id: claim.topic for claim in load().values()}
    for file, text in sources.items():
        for use in uses(file, text, {"claim": 1}):
            topic = topics.get(use.arguments[0])
            if topic is not None and file != f"{topic}.tex":
                yield f"{file}:{use.line}: expected \\claim{{{use.arguments[0]}}} in {topic}.tex, the file of its topic"


def missing_sections(sources: Mapping[str, str]) -> Iterator[str]:
    r"""Experiments that no section is about (``\status{experiment}``), or two."""
    from empirical.engine.catalogue import names

    stated = [use.arguments[0] for use in sectioned(sources)]
    for name in names():
        if stated.count(name) != 1:
            yield (f"paper: expected \\status{{{name}}} once in paper/experiments/*.tex, in a section that says what is"
                   f" predicted, got it {stated.count(name)} times")  # fmt: skip


def log_problems(log: str) -> Iterator[str]:
    """What LaTeX warned of and must not be: undefined or doubled names, boxes that stick out."""
    for line in log.splitlines():
        if re.search(r"(?:Citation|Reference) [`'].*undefined|There were undefined|multiply.defined", line):
            yield f"log: {line.strip()}"
        if "Float too large" in line:
            yield f"log: {line.strip()}"
        box = re.match(r"Overfull \\[hv]box \((\d+(?:\.\d+)?)pt too", line)
        if box and float(box[1]) > OVERHANG:
            yield f"log: {line.strip()}"


def length_problems(aux: str) -> Iterator[str]:
    r"""A main text that is longer than :data:`PAGES`; it ends at ``\label{main:end}``."""
    end = re.search(r"\\newlabel\{main:end\}\{\{[^{}]*\}\{(\d+)\}", aux)
    if end is None or int(end[1]) > PAGES:
        yield f"aux: expected main:end by page {PAGES}, got {f'it on page {end[1]}' if end else 'no such label'}"


def pdf_problems(text: str) -> Iterator[str]:
    """Holes in the finished text: ``??`` of a reference, ``[?]`` of a citation."""
    for number, page in enumerate(text.split("\f"), 1):
        for hole in ("??", "[?]", "(?)"):
            if hole in page:
                yield f"pdf: expected no {hole!r}, got one on page {number}"


def built_problems(folder: Path = BUILT, name: str = NAME) -> Iterator[str]:
    """Problems of a finished build."""
    log, aux, pdf = (folder / f"{name}.{kind}" for kind in ("log", "aux", "pdf"))
    for path in (log, aux, pdf):
        if not path.exists():
            yield f"{path.name}: expected what LaTeX writes, got no such file"
            return
    yield from log_problems(log.read_text(encoding="utf-8", errors="replace"))
    yield from length_problems(aux.read_text(encoding="utf-8"))
    done = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=False)
    if done.returncode:
        yield f"{pdf.name}: expected a PDF, got: {done.stderr.strip().splitlines()[:1]}"
    yield from pdf_problems(done.stdout)


def main(arguments: list[str] | None = None) -> int:
    """Print every problem; exit status 1 if there is one."""
    given = sys.argv[1:] if arguments is None else arguments
    if given not in ([], ["--built"]):
        print(f"paper: expected no argument or --built, got {' '.join(given)}", file=sys.stderr)
        return 2
    sources = texts()
    found = [problem for file, text in sources.items() for problem in typed_numbers(file, text)]
    found += [*missing_claims(sources), *misplaced_claims(sources), *missing_sections(sources)]
    if given:
        found += built_problems()
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
