"""Plain data as TeX: text, numbers, judged predictions, provenance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "—": "---", "–": "--", "’": "'", "×": r"$\times$", "≤": r"$\le$",
    "≥": r"$\ge$", "±": r"$\pm$", "λ": r"$\lambda$", "α": r"$\alpha$", "κ": r"$\kappa$", "σ": r"$\sigma$",
    "π": r"$\pi$", "√": r"$\surd$",
    "₁": "$_1$", "₂": "$_2$", "²": "$^2$", "‖": r"$\Vert$", "−": "$-$", "→": r"$\to$", "…": r"\dots{}",
}  # fmt: skip
SIGNS = {"at_most": r"\le", "at_least": r"\ge", "equal": "=", "order": ">"}
VERDICTS = ("holds", "violated", "undecided")


def escape(text: str) -> str:
    """Plain text as TeX. Comparisons like ``<=`` become signs."""
    marked = text.replace("<=", "≤").replace(">=", "≥").replace("+-", "±")
    found = "".join(_SPECIAL.get(c, c) for c in marked)
    if not found.isascii():
        odd = next(c for c in found if not c.isascii())
        raise ValueError(f"text: expected characters that the paper can set, got {odd!r} in {text[:60]!r}")
    return found


def escape_prose(text: str) -> str:
    """Plain text with mathematics between dollars, which stays as it is."""
    parts = re.split(r"(\$[^$]*\$)", text)
    return "".join(p if i % 2 else escape(p) for i, p in enumerate(parts))


def code(name: str) -> str:
    """An identifier, which may be broken after an underscore, a dot or a colon."""
    return r"\code{" + re.sub(r"(\\_|\.|:)", r"\1\\allowbreak{}", escape(name)) + "}"


def number(x: float | int | Fraction | None, digits: int = 3) -> str:
    """A number as TeX, to `digits` significant digits; whole numbers as they are. Safe in text and in mathematics."""
    if x is None:
        return "--"
    if isinstance(x, bool):
        raise ValueError(f"number: expected a number, got {x}")
    if isinstance(x, Fraction) and x.denominator != 1:
        return rf"\ensuremath{{\tfrac{{{x.numerator}}}{{{x.denominator}}}}}"
    x = float(x)
    if math.isinf(x):
        return r"\ensuremath{-\infty}" if x < 0 else r"\ensuremath{\infty}"
    if x == round(x) and abs(x) < 1e7:
        text = str(round(x))
    elif 1e-3 <= abs(x) < 1e6:
        text = f"{x:.0f}" if abs(x) >= 10**digits else f"{x:.{digits}g}"
    else:
        mantissa, exponent = f"{x:.{max(digits - 2, 0)}e}".split("e")
        return rf"\ensuremath{{{mantissa}\cdot 10^{{{int(exponent)}}}}}"
    return rf"\ensuremath{{{text}}}"


def percent(x: float, digits: int = 3) -> str:
    """A share as a percentage."""
    return number(100 * float(x), digits) + r"\,\%"


def mean(values: Sequence[float]) -> float:
    """Mean; NaN of nothing."""
    return math.fsum(values) / len(values) if values else math.nan


def rates(row: Mapping[str, Any]) -> list[float]:
    """Outcome per world of a judged prediction; worlds in which nothing was asked are left out."""
    found = [w if isinstance(w, (int, float)) else (w[0] / w[1] if w[1] else math.nan) for w in row["worlds"]]
    return [float(w) for w in found if not math.isnan(w)]


def by_world(row: Mapping[str, Any]) -> bool:
    """Whether the predicted value differs from world to world (the interval is then one of differences)."""
    return not isinstance(row["predicted"], (int, float)) and len(set(row["predicted"])) > 1


def target(row: Mapping[str, Any]) -> float:
    """The predicted value, or its mean over worlds."""
    said = row["predicted"]
    return float(said) if isinstance(said, (int, float)) else mean([float(p) for p in said])


def predicted(row: Mapping[str, Any]) -> str:
    """What was said, with its margin."""
    sign = rf"\ensuremath{{{SIGNS[row['relation']]}}}"
    if row["kind"] == "exact" and by_world(row):
        return sign + " by world"
    margin = rf" \ensuremath{{\pm}} {number(row['margin'])}" if row["relation"] == "equal" and row["margin"] else ""
    if row["kind"] == "exact":
        margin = ""  # the margin of a theorem is rounding
    return f"{sign} {number(target(row))}{margin}" + (" (by world)" if by_world(row) else "")


def interval(row: Mapping[str, Any]) -> str:
    """The interval that decided; of the difference from the prediction where that varies by world."""
    low, high = (number(v) if v is not None else number(math.inf * s)
                 for v, s in zip(row["interval"], (-1, 1), strict=True))  # fmt: skip
    return (r"\ensuremath{\Delta} " if by_world(row) and row["kind"] != "exact" else "") + f"[{low}, {high}]"


def measured(row: Mapping[str, Any]) -> str:
    """Mean over worlds with its interval; for a theorem the range over worlds."""
    found = rates(row)
    if not found:
        return "nothing asked"
    if row["kind"] == "exact":
        least, greatest = min(found), max(found)
        return number(least) if least == greatest else f"{number(least)} to {number(greatest)}"
    return f"{number(mean(found))} {interval(row)}"


def verdict(row: Mapping[str, Any]) -> str:
    """The verdict, a violated one as loud as can be."""
    return rf"\verdict{{{row['verdict']}}}"


def tally(rows: Sequence[Mapping[str, Any]]) -> str:
    """One clause: how many of the predictions hold, are violated, are undecided."""
    counts = {v: sum(r["verdict"] == v for r in rows) for v in VERDICTS}
    return (f"{number(counts['holds'])} of {number(len(rows))} predictions hold, {number(counts['violated'])} "
            f"{'is' if counts['violated'] == 1 else 'are'} violated, {number(counts['undecided'])} "
            f"{'is' if counts['undecided'] == 1 else 'are'} undecided")  # fmt: skip


def outcome(row: Mapping[str, Any]) -> str:
    """One clause about one prediction: predicted, measured, verdict."""
    return f"predicted {predicted(row)}, measured {measured(row)} in {number(len(rates(row)))} worlds: {verdict(row)}"


def spans(values: Sequence[int]) -> str:
    """Whole numbers as ranges."""
    found: list[list[int]] = []
    for v in sorted(set(values)):
        if found and v == found[-1][1] + 1:
            found[-1][1] = v
        else:
            found.append([v, v])
    return ", ".join(str(a) if a == b else f"{a}--{b}" for a, b in found)


def plain(value: Any) -> str:
    """A setting of a cell as TeX."""
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(k))} {plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        inner = [f"({plain(v)})" if isinstance(v, (list, tuple)) else plain(v) for v in value]
        return ", ".join(inner)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    if value == "":
        return "--"
    return escape(str(value).replace("_", " ") if isinstance(value, str) else str(value))
