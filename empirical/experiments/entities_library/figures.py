"""Figures of entities_library."""

from __future__ import annotations

from matplotlib.figure import Figure

from empirical.engine.drawing import Records, Rows
from empirical.experiments.plain_english_figures import panels_of_methods


def methods_figure(records: Records, rows: Rows) -> Figure | None:
    """Every method over three experts on all layers, and sums with and without the third: what is joined, and what is kept."""
    title = "A library of three: two hops, and direct questions about others"
    return panels_of_methods(records, rows, "three", title, "placed.all+all+all.merge", "fewer.all+all+all")


plots = {"entities_library": methods_figure}
