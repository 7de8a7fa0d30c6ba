"""Figures of the experiments, predicted and measured in one plot: ``build/figures/*.svg`` and ``*.png``.

A module per experiment; each figure is a function of the records and the judged rows of that experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib

from empirical.engine.drawing import STYLE
from empirical.engine.records import RESULTS, ROOT, RecordError
from empirical.experiments.coverage import figures as coverage
from empirical.experiments.entities import figures as entities
from empirical.experiments.one_layer import figures as one_layer
from empirical.experiments.rank_threshold import figures as rank_threshold
from empirical.experiments.update_spectrum import figures as update_spectrum
from empirical.experiments.word_problems import figures as word_problems
from theory.numerics import require

FIGURES = ROOT / "build" / "figures"
PLOTS = (
    *rank_threshold.PLOTS,
    *one_layer.PLOTS,
    *coverage.PLOTS,
    *word_problems.PLOTS,
    *entities.PLOTS,
    *update_spectrum.PLOTS,
)


def draw(
    profile: str = "auto",
    results: Path = RESULTS,
    out: Path = FIGURES,
    names: Sequence[str] | None = None,
    method: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Draw what the results allow; yields one line per figure, drawn or skipped.

    Args:
        profile: "auto" takes gpu where it has results, else cpu.
        names: only figures of these experiments.

    Raises:
        ValueError: no results of the profile at all, or an unknown profile.
        RecordError: a damaged record, or a folder that cannot be written.
    """
    from empirical.engine import driver as engine

    if profile == "auto":
        profile = "gpu" if any(results.glob("*/gpu/*.json")) else "cpu"
    plots = [p for p in PLOTS if names is None or p.experiment in names]
    wanted = list(dict.fromkeys(p.experiment for p in plots))
    found = {name: engine.records(name, profile, results, method) for name in wanted}
    if names is None:
        got = "none (make experiments)"
        require(any(found.values()), "figures", f"results of profile {profile} in {results}", got)
    rows = {name: engine.judge_all([name], profile, results, method) for name in wanted}
    for plot in plots:
        records = found[plot.experiment]
        with matplotlib.rc_context(STYLE):
            figure = plot.draw(records, rows[plot.experiment]) if records else None
            if figure is None:
                yield f"skipped: {plot.name}, no results of {plot.experiment} under profile {profile}"
                continue
            try:
                out.mkdir(parents=True, exist_ok=True)
                figure.savefig(out / f"{plot.name}.svg", metadata={"Date": None})
                figure.savefig(out / f"{plot.name}.png", metadata={"Software": None})
            except OSError as error:
                raise RecordError(f"{out}: expected a folder to write to, got: {error.strerror}") from error
        shown = out.relative_to(ROOT) if out.is_relative_to(ROOT) else out
        yield f"written: {shown / plot.name}.svg, .png"
