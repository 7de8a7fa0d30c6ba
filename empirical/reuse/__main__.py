"""The methods in one table: ``python -m empirical.reuse`` (``--write`` takes it into docs/methods.md)."""

from __future__ import annotations

import sys

from empirical.reuse.methods import ROWS
from theory.provenance import ROOT, embed

#: what every method is given, or an option that only tunes it
PLAIN = {"updates", "base", "seed", "scale", "density", "rank", "temperature"}


def table() -> str:
    """One row per method: what it does, what it needs beside the adapters, whose it is, which claims limit it."""
    lines = ["| method | what it does | needs, beside adapters | reference | limited by |", "|---|---|---|---|---|"]
    for row in ROWS:
        name = f"`{row.name}`, `{row.name}@{row.number}`" if row.number else f"`{row.name}`"
        source = (
            f"[{row.reference}](https://arxiv.org/abs/{row.reference})"
            if row.reference[:1].isdigit()
            else row.reference
        )
        limit = ", ".join(f"`{claim}`" for claim in row.limit)
        wanted = ", ".join(sorted(row.needs - PLAIN))
        lines.append(f"| {name} | {row.kind}: {row.says} | {wanted or '-'} | {source or '-'} | {limit or '-'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        embed(ROOT / "docs" / "methods.md", "methods", table())
    else:
        print(table())
