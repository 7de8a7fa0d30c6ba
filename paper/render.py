"""Phrases as TeX and as HTML, and the templates of both, in which a value is set by the same rules."""

from __future__ import annotations

import html as web
import re
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from empirical.engine.show import spans
from paper import mathml, words
from paper.words import Code, Number, Phrase, Soft, TeX, Verdict, joined

TEMPLATES = Path(__file__).with_name("templates")
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "“": "``", "”": "''",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "—": "---", "–": "--", "’": "'", "\u202f": r"\,", "…": r"\dots{}",
    **{sign: rf"\ensuremath{{{name}}}" for sign, name in {
        "×": r"\times", "≤": r"\le", "≥": r"\ge", "±": r"\pm", "λ": r"\lambda", "α": r"\alpha", "κ": r"\kappa",
        "σ": r"\sigma", "π": r"\pi", "Δ": r"\Delta", "√": r"\surd", "₁": "_1", "₂": "_2", "²": "^2", "‖": r"\Vert",
        "−": "-", "→": r"\to",
    }.items()},
}  # fmt: skip
_VERDICTS = {"holds": "✓", "violated": "✗", "undecided": "?"}


def escape(text: str) -> str:
    """Plain text as TeX. Comparisons like ``<=`` become signs.

    Raises:
        ValueError: a character that the paper cannot set.
    """
    found = "".join(_SPECIAL.get(c, c) for c in text.replace("<=", "≤").replace(">=", "≥").replace("+-", "±"))
    if not found.isascii():
        odd = next(c for c in found if not c.isascii())
        raise ValueError(f"text: expected characters that the paper can set, got {odd!r} in {text[:60]!r}")
    return found


def tex(phrase: Phrase) -> Markup:
    """A phrase as TeX; numbers are safe in text and in mathematics."""

    def number(x: Number) -> str:
        digits, power = x.decimal()
        shown = re.sub(r"(.+)/(.+)", r"\\tfrac{\1}{\2}", digits).replace("∞", r"\infty")
        return rf"\ensuremath{{{shown}}}" if power is None else rf"\ensuremath{{{shown}\cdot 10^{{{power}}}}}"

    def text(x: str) -> str:
        if isinstance(x, Code):  # may be broken after an underscore, a dot or a colon
            return r"\code{" + re.sub(r"(\\_|\.|:)", r"\1\\allowbreak{}", escape(x)) + "}"
        if isinstance(x, Verdict):
            return rf"\verdict{{{x}}}"
        if isinstance(x, Soft):
            return rf"\textit{{{escape(x)}}}"
        return x if isinstance(x, TeX) else escape(x)

    return _set(phrase, number, text)


def html(phrase: Phrase) -> Markup:
    """A phrase as HTML.

    Raises:
        MarkupError: the registry's TeX has a command that the page cannot show.
    """

    def number(x: Number) -> str:
        digits, power = x.decimal()
        shown = digits if power is None else f"{digits}\u202f×\u202f10<sup>{power}</sup>"
        return shown.replace("-", "−")

    def text(x: str) -> str:
        if isinstance(x, TeX):
            return mathml.text(x)
        said = web.escape(x)
        if isinstance(x, Verdict):  # with a sign that does not need colour
            return f'<span class="verdict {x}"><span aria-hidden="true">{_VERDICTS[x]}</span> {said}</span>'
        tag = "code" if isinstance(x, Code) else "em" if isinstance(x, Soft) else ""
        return f"<{tag}>{said}</{tag}>" if tag else said

    return _set(phrase, number, text)


def _set(phrase: Phrase, number: Callable[[Number], str], text: Callable[[str], str]) -> Markup:
    if isinstance(phrase, Markup):  # what a template made
        return phrase
    if phrase is None:
        return Markup(text("–"))
    if isinstance(phrase, str):
        return Markup(text(phrase))
    if isinstance(phrase, (int, float, Fraction)):
        return Markup(number(Number(phrase)))
    if isinstance(phrase, Number):
        return Markup(number(phrase))
    return Markup("").join(_set(part, number, text) for part in phrase)


@cache
def _environment(render: Callable[[Phrase], Markup]) -> Environment:
    marks: dict[str, Any] = {
        "block_start_string": "<%", "block_end_string": "%>", "variable_start_string": "<<",
        "variable_end_string": ">>", "comment_start_string": "<#", "comment_end_string": "#>",
        "line_statement_prefix": "%%",
    } if render is tex else {}  # fmt: skip
    made = Environment(loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
                       lstrip_blocks=True, finalize=render, **marks)  # fmt: skip
    made.globals |= {"words": words, "spans": spans}
    made.filters |= {
        "code": Code, "tex": TeX, "verdict": Verdict, "joined": joined,
        "px": lambda x: Markup(f"{x:.1f}".removesuffix(".0")), "digits": lambda x, n: Markup(f"{x:.{n}g}"),
        "bare": lambda x: Markup(x),
    }  # fmt: skip
    return made


def template(name: str) -> Template:
    """A template by its file name without ``.j2``. In TeX the marks are ``<< value >>`` and ``%% for ...``."""
    return _environment(tex if name.endswith(".tex") else html).get_template(f"{name}.j2")
