"""Write ``build/site/``: the material of the paper as one static page that works offline.

The page is ``index.html`` with a style sheet, a script of its own and the script of plotly beside it; it asks no
network for anything. The same input gives the same bytes. What is missing or stale stops the build with the file's
name.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from html import escape
from pathlib import Path
from string import Template

from paper import page, tex
from paper.markup import text
from paper.material import Material, command
from paper.values import sealed
from theory.provenance import ROOT

SITE = ROOT / "build" / "site"
TEMPLATES = Path(__file__).with_suffix("")


def build(material: Material, out: Path = SITE) -> list[str]:
    """Write the page into `out`, all or nothing. Returns the names of the files.

    Raises:
        MarkupError: the registry's TeX has a command that the page cannot show.
        PlotError: a figure has something that the page cannot draw.
    """
    from plotly.offline import get_plotlyjs

    drawn = {page.run_name(run): page.plots_of(run) for runs in material.runs.values() for run in runs}
    everything = [row for runs in material.runs.values() for run in runs for row in run.rows]
    whole = Template((TEMPLATES / "page.html").read_text(encoding="utf-8")).substitute(
        claims_count=len(material.claims),
        tally=text(tex.tally(everything)),
        unfinished=escape(", ".join(material.unfinished)) or "none",
        verification=page.verification_line(material),
        ladder=page.ladder(material),
        graph=page.graph(material),
        claims=page.claims(material),
        experiments=page.experiments(material, drawn),
        filters=page.filters(material),
        count=len(everything),
        sealed=sum(sealed(r) for runs in material.runs.values() for run in runs for r in run.records),
        records=sum(len(run.records) for runs in material.runs.values() for run in runs),
        predictions=page.predictions(material),
        environments=page.environments(material),
        plots=page.plot_data(material, drawn),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        fresh = Path(scratch) / "site"
        fresh.mkdir()
        (fresh / "index.html").write_text(whole, encoding="utf-8")
        (fresh / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        for name in ("site.css", "site.js"):
            shutil.copyfile(TEMPLATES / name, fresh / name)
        written = sorted(p.name for p in fresh.iterdir())
        if out.exists():
            shutil.rmtree(out)
        fresh.replace(out)
    return written


def main() -> int:
    """Exit status 0, or 2 with one line; see :func:`paper.material.command`."""

    def whole(material: Material) -> str:
        return f"written: build/site/index.html and {len(build(material)) - 1} files beside it"

    return command("site", whole)


if __name__ == "__main__":
    sys.exit(main())
