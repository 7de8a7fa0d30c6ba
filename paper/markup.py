"""The registry's TeX and the numbers of :mod:`paper.tex` as HTML: text, and MathML that browsers set by themselves."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

from paper.sources import group

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


class MarkupError(ValueError):
    """TeX that the page cannot show; the message quotes it."""


#: what paper.tex and the registry write outside mathematics, longest first
TEXT = {
    r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^", r"\textless{}": "<",
    r"\textgreater{}": ">", r"\textbar{}": "|", r"\textquotedbl{}": '"', r"\allowbreak{}": "", r"\dots{}": "…",
    r"\pending{}": "not finished", r"\%": "%", r"\_": "_", r"\&": "&", r"\#": "#", r"\$": "$", r"\{": "{", r"\}": "}",
    r"\,": "\u202f", "\\ ": " ", "---": "—", "--": "–", "~": "\u00a0",
}  # fmt: skip
_TEXT = re.compile("|".join(re.escape(t) for t in TEXT))
#: short mathematics that is text: numbers, signs
SIGNS = {r"\le": "≤", r"\ge": "≥", "=": "=", ">": ">", r"\pm": "±", r"\Delta": "Δ", r"\infty": "∞", r"-\infty": "−∞"}
_NUMBER = re.compile(r"(-?)(\d[\d.]*)")
_POWER = re.compile(r"(-?[\d.]+)\\cdot 10\^\{(-?\d+)\}")
#: a line may end after these, outside parentheses
RELATIONS = set("=<>≤≥≠∈⊆→↦⟺⇔,;:")
#: characters of a formula that may stay in one piece on the narrowest screen
SHORT = 24
#: signs without space around them
TIGHT = ("|", "∥", "‖", "∣", "/")
OPENING, CLOSING = set("([{⌈⌊⟨"), set(")]}⌉⌋⟩")


def text(tex: str) -> str:
    """TeX text, with mathematics in it, as HTML.

    Raises:
        MarkupError: a command that is not known here.
    """
    found, at = [], 0
    for match in re.finditer(r"\$([^$]*)\$|\\ensuremath(?=\{)|\\(verdict|textbf|code)(?=\{)", tex):
        if match.start() < at:
            continue
        found.append(_plain(tex[at : match.start()]))
        at = match.end()
        if match[1] is not None:
            found.append(math(match[1]))
            continue
        inner = group(tex, at)
        if inner is None:
            raise MarkupError(f"{tex}: expected braces that close")
        body, at = inner
        if match[2] is None:
            found.append(_sign(body))
        elif match[2] == "verdict":
            found.append(verdict(body))
        else:
            tag = {"textbf": "strong", "code": "code"}[match[2]]
            found.append(f"<{tag}>{text(body)}</{tag}>")
    found.append(_plain(tex[at:]))
    # a comma or stop does not begin a line
    return re.sub(r"(<math>(?:(?!</?math>).)*</math>[.,;:)]+)", r'<span class="joined">\1</span>', "".join(found))


def verdict(word: str) -> str:
    """A verdict, with a sign that does not need colour."""
    sign = {"holds": "✓", "violated": "✗", "undecided": "?"}[word]
    return f'<span class="verdict {word}"><span aria-hidden="true">{sign}</span> {word}</span>'


def _plain(tex: str) -> str:
    left = _TEXT.sub("", tex)
    if re.search(r"[\\{}$]", left):
        raise MarkupError(f"{tex.strip()[:80]}: expected TeX that the page can show, got an unknown command")
    return html.escape(_TEXT.sub(lambda m: TEXT[m[0]], tex), quote=False)


def _sign(tex: str) -> str:
    if tex in SIGNS:
        return html.escape(SIGNS[tex])
    if match := _NUMBER.fullmatch(tex):
        return ("−" if match[1] else "") + match[2]
    if match := _POWER.fullmatch(tex):
        mantissa, exponent = (g.replace("-", "−") for g in match.groups())
        return f"{mantissa}\u202f×\u202f10<sup>{exponent}</sup>"
    return math(tex)


@cache
def math(tex: str) -> str:
    """A formula as MathML, cut after relations so that it can be broken over lines.

    Raises:
        MarkupError: a command that the converter does not know.
    """
    from xml.etree import ElementTree

    from latex2mathml.converter import convert

    made = convert(" ".join(tex.split())).replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    if "\\" in made:
        raise MarkupError(f"${tex}$: expected TeX mathematics that the page can show, got an unknown command")
    root = ElementTree.fromstring(made)
    row = root[0]
    for parent in root.iter():
        _space(parent)
    if len(row) and row[0].tag == "mo":
        row[0].set("lspace", "0")  # a formula that begins with a relation goes on from the words before it
    cut = _pieces(row) if len("".join(root.itertext())) > SHORT else [list(row)]
    pieces = [f"<math>{''.join(ElementTree.tostring(e, encoding='unicode') for e in p)}</math>" for p in cut]
    return "<wbr>".join(pieces)


def _space(parent: Element) -> None:
    """No space around bars, a thin one after operators that are words (rank, ln) before what is no parenthesis."""
    children = list(parent)
    for i, child in enumerate(children):
        if child.tag == "mi" and child.text == ":":
            child.tag = "mo"
        said = (child.text or "").strip() if child.tag == "mo" else ""
        if said in TIGHT:
            child.set("lspace", "0")
            child.set("rspace", "0")
        elif len(said) > 1 and said.isalpha():
            closed = i + 1 == len(children) or (children[i + 1].text or "") in OPENING
            child.set("lspace", "0.1em")
            child.set("rspace", "0" if closed else "0.1667em")


def _pieces(row: Element) -> list[list[Element]]:
    pieces: list[list[Element]] = [[]]
    depth = 0
    for child in row:
        sign = (child.text or "").strip() if child.tag == "mo" else ""
        depth += (sign in OPENING and sign != "") - (sign in CLOSING and sign != "")
        pieces[-1].append(child)
        if depth == 0 and sign and sign in RELATIONS:
            child.set("form", "infix")
            pieces.append([])
    return [p for p in pieces if p]
