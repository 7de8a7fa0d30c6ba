"""Write ``build/site/``: the evidence of the paper as one static page that works offline.

The page is ``index.html`` with a style sheet, a script of its own and the script of plotly beside it; it asks no
network for anything. The same input gives the same bytes. What is missing or stale stops the build with the file's
name.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from empirical.engine.judge import ERROR
from empirical.engine.predictions import KINDS
from paper import figures, keys, overview, render, tables, words
from paper.evidence import Evidence, Run, command
from paper.plots import Drawn, convert
from paper.replications import CAME, counts, replications
from paper.words import VERDICTS
from theory.provenance import ROOT

SITE = ROOT / "build" / "site"
STATIC = Path(__file__).with_name("static")


def panel_id(run: Run, plot: Drawn, panel: int) -> str:
    """The id of the element that a panel is drawn in."""
    return f"plot-{run.profile}-{plot.name}-{panel}"


def plot_data(evidence: Evidence, drawn: Mapping[str, Sequence[Drawn]]) -> str:
    """Data and layout of all panels as JSON for a script element."""
    found = {
        panel_id(run, plot, i): {"data": panel.data, "layout": panel.layout}
        for run in evidence.all_runs for plot in drawn[run.name] for i, panel in enumerate(plot.panels)
    }  # fmt: skip
    written = json.dumps(found, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return written.replace("</", r"<\/")


def page(evidence: Evidence) -> str:
    """The page as HTML.

    Raises:
        MarkupError: the registry's TeX has a command that the page cannot show.
        PlotError: a figure has something that the page cannot draw.
    """
    from empirical.engine.summary import purpose

    runs = evidence.all_runs
    rows = [row for run in runs for row in run.rows]
    records = [record for run in runs for record in run.records]
    drawn = {
        run.name: [convert(figure, name, says, f"{run.experiment}, profile {run.profile}")
                   for name, figure, says in figures.drawn(run)] for run in runs
    }  # fmt: skip
    about: dict[str, object] = {
        **tables.ladder(evidence), "evidence": evidence, "rows": rows, "drawn": drawn, "place": tables.strip,
        "verification": tables.verification(evidence), "environments": tables.environments(evidence),
        "experiments": list(dict.fromkeys((*evidence.runs, *evidence.unfinished))), "purpose": purpose,
        "fields": keys.RUN_FIELDS, "declarations": tables.declarations(evidence),
        "overview": overview.svg({run.experiment: run for run in evidence.first_runs}),
        "again": replications(evidence), "counts": counts, "came": CAME, "number": words.Number, "error": ERROR,
        "counted": [row for run in evidence.first_runs for row in run.rows],
        "behind": [name for name in dict.fromkeys(p.experiment for p in overview.PANELS) if name in evidence.runs],
        "ways": tables.methods(evidence), "panel_id": panel_id, "plots": plot_data(evidence, drawn),
        "sealed": sum(map(keys.sealed, records)), "records": len(records),
        "filters": {
            "run": [run.name for run in runs],
            "kind": [kind for kind in KINDS if any(r["kind"] == kind for r in rows)],
            "verdict": VERDICTS,
            "claim": [claim for claim in evidence.claims if any(r["claim"] == claim for r in rows)],
        },
    }  # fmt: skip
    return render.template("index.html").render(about)


def build(evidence: Evidence, out: Path = SITE) -> list[str]:
    """Write the page into `out`, all or nothing. Returns the names of the files.

    Raises:
        MarkupError, PlotError: see :func:`page`.
    """
    from plotly.offline import get_plotlyjs

    whole = page(evidence)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        fresh = Path(scratch) / "site"
        shutil.copytree(STATIC, fresh)
        (fresh / "index.html").write_text(whole, encoding="utf-8")
        (fresh / "plotly.min.js").write_text(get_plotlyjs(), encoding="utf-8")
        written = sorted(p.name for p in fresh.iterdir())
        if out.exists():
            shutil.rmtree(out)
        fresh.replace(out)
    return written


def main() -> int:
    """Exit status 0, or 2 with one line; see :func:`paper.evidence.command`."""

    def whole(evidence: Evidence) -> str:
        return f"written: build/site/index.html and {len(build(evidence)) - 1} files beside it"

    return command("site", whole)


if __name__ == "__main__":
    sys.exit(main())
