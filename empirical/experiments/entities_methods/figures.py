"""Figures of entities_methods."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine.drawing import Records, Rows
from empirical.experiments.plain_english_figures import panels_of_methods


def methods_figure(records: Records, rows: Rows) -> Figure | None:
    """Every method over two experts on all layers, and the sum of placed ones: what is joined, and what is kept."""
    title = "Every method over experts on all layers"
    return panels_of_methods(records, rows, "two", title, "placed.all+all.merge")


plots = {"entities_methods": methods_figure}
