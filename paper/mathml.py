"""The registry's TeX as HTML: text, and MathML that browsers set by themselves."""

from __future__ import annotations

import html
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


class MarkupError(ValueError):
    """TeX that the page cannot show; the message quotes it."""


#: what the registry writes outside mathematics, longest first
TEXT = {r"\%": "%", r"\_": "_", r"\&": "&", r"\,": "\u202f", "\\ ": " ", "---": "—", "--": "–", "~": "\u00a0"}
_TEXT = re.compile("|".join(map(re.escape, TEXT)))
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
    parts = re.split(r"\$([^$]*)\$", tex)
    found = "".join(math(part) if i % 2 else _plain(part) for i, part in enumerate(parts))
    # a comma or stop does not begin a line
    return re.sub(r"(<math>(?:(?!</?math>).)*</math>[.,;:)]+)", r'<span class="joined">\1</span>', found)


def _plain(tex: str) -> str:
    left = _TEXT.sub("", tex)
    if re.search(r"[\\{}$]", left):
        raise MarkupError(f"{tex.strip()[:80]}: expected TeX that the page can show, got an unknown command")
    return html.escape(_TEXT.sub(lambda m: TEXT[m[0]], tex), quote=False)


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
