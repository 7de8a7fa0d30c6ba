"""Figure of taught_real."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine.drawing import Records, Rows
from empirical.experiments.taught_figures import sides_figure


def real_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct questions over covered and uncovered countries, real ones."""
    judged = (f"half.{row}" for row in ("base.gap", "lambda.gap", "", "sum.random"))
    return sides_figure(records, rows, "Coverage, taught over real countries", *judged)


plots = {"taught_real": real_figure}
