"""Figure of taught_coverage."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine.drawing import Records, Rows
from empirical.experiments.taught_figures import sides_figure


def made_up_figure(records: Records, rows: Rows) -> Figure | None:
    """Direct questions over covered and uncovered countries, made up."""
    judged = (f"half.{row}.F" for row in ("base", "lambda", "p2.free", "sum"))
    return sides_figure(records, rows, "Coverage, taught to a pretrained model", *judged)


plots = {"taught_coverage": made_up_figure}
