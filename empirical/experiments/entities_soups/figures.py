"""Figures of entities_soups."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine.drawing import Records, Rows
from empirical.experiments.plain_english_figures import panels_of_methods


def placed_figure(records: Records, rows: Rows) -> Figure | None:
    """Weights learnt over an early first hop and a late second one, and their sum: what is joined, what is kept."""
    title = "Placed experts: learnt weights and plain sum"
    return panels_of_methods(records, rows, "placed", title, "H.early+late", "kept.early+late")


plots = {"entities_soups": placed_figure}
