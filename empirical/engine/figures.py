"""Figures of the experiments, predicted and measured in one plot: ``build/figures/*.svg`` and ``*.png``.

``figures.py`` in the folder of an experiment, where there is one, holds `plots`: name of a file -> function of the
records and the judged rows.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

from empirical.engine import catalogue
from empirical.engine.drawing import STYLE, Plot
from empirical.engine.records import RESULTS, write_all
from empirical.engine.settings import UserMethod
from theory.numerics import require
from theory.provenance import build_folder, shown

FIGURES = build_folder() / "figures"


def plots(names: Sequence[str] | None = None) -> list[Plot]:
    """The plots of these experiments, or of all, in their order.

    Raises:
        ValueError: a ``figures.py`` without `plots`.
    """
    found = []
    for name in catalogue.names() if names is None else names:
        if not (catalogue.folders()[name] / "figures.py").exists():
            continue
        module = importlib.import_module(f"empirical.experiments.{name}.figures")
        drawn = getattr(module, "plots", None)
        require(isinstance(drawn, dict), f"{name}/figures.py", "a table `plots`", type(drawn).__name__)
        found += [Plot(file, name, draw) for file, draw in (drawn or {}).items()]
    return found


def draw(
    profile: str = "auto",
    results: Path = RESULTS,
    out: Path = FIGURES,
    names: Sequence[str] | None = None,
    method: UserMethod | None = None,
) -> Iterator[str]:
    """Draw what the results allow; yields one line per figure, drawn or skipped.

    Args:
        profile: "auto" takes of each experiment the one that counts.
        names: only figures of these experiments.

    Raises:
        ValueError: no results of the profile at all, or an unknown profile.
        RecordError: a damaged record, or a folder that cannot be written.
    """
    chosen = plots(names)
    wanted = list(dict.fromkeys(p.experiment for p in chosen))
    under = {name: catalogue.judged_profile(name, profile, results) for name in wanted}
    found = {name: catalogue.records(name, under[name], results, method) for name in wanted}
    if names is None:
        got = "none (make experiments)"
        require(any(found.values()), "figures", f"results of profile {profile} in {results}", got)
    rows = {name: catalogue.judge_all([name], profile, results, method) for name in wanted}
    for plot in chosen:
        records = found[plot.experiment]
        with matplotlib.rc_context(STYLE):
            figure = plot.draw(records, rows[plot.experiment]) if records else None
            if figure is None:
                yield f"skipped: {plot.name}, no results of {plot.experiment} under profile {under[plot.experiment]}"
                continue
            made = {}
            for kind, unsaid in (("svg", "Date"), ("png", "Software")):
                text = io.BytesIO()
                figure.savefig(text, format=kind, metadata={unsaid: None})
                made[out / f"{plot.name}.{kind}"] = text.getvalue()
            write_all(made)
        yield f"written: {shown(out) / plot.name}.svg, .png"
