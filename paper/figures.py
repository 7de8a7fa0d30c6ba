"""The figures of the experiments: drawn by the experiments, fitted to the paper's page, with captions."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from paper.evidence import Run
from paper.keys import RUN_FIELDS
from paper.words import Phrase

if TYPE_CHECKING:
    from pathlib import Path


class Figure(NamedTuple):
    """A figure in the paper; `says` is what it shows, in a sentence."""

    name: str
    title: str
    says: str
    origin: Phrase


def drawn(run: Run, **style: Any) -> Iterator[tuple[str, Any, str]]:
    """(name, figure, what it shows) of each figure that the run has the records for."""
    import matplotlib

    from empirical.engine.drawing import STYLE
    from empirical.engine.figures import plots

    for plot in plots([run.experiment]):
        with matplotlib.rc_context({**STYLE, **style}):
            figure = plot.draw(run.records, run.rows)
            if figure is not None:
                yield plot.name, figure, caption(plot.draw)


def caption(draw: Any) -> str:
    """What a figure shows: the first paragraph of its docstring."""
    return " ".join((inspect.getdoc(draw) or "").partition("\n\n")[0].split())


def provenance(run: Run) -> Phrase:
    """Profile, device, seeds and short commit of a run."""
    field = {name: RUN_FIELDS[name](run) for name in ("profile", "device", "seeds", "commit")}
    return ("Profile ", field["profile"], "; ", field["device"], "; seeds ", field["seeds"], "; commit ",
            field["commit"], ".")  # fmt: skip


def write(run: Run, folder: Path) -> list[Figure]:
    """Draw the figures of a run as PDF into `folder`; title and provenance go into the captions."""
    found = []
    for name, figure, says in drawn(run, **{"pdf.fonttype": 42, "pdf.compression": 6}):
        title, origin = figure.get_suptitle(), provenance(run)
        if figure._suptitle is not None:
            figure._suptitle.set_visible(False)
            figure._suptitle.set_in_layout(False)
        for text in figure.texts:
            if text.get_text().startswith(f"{run.experiment}, profile"):
                origin = text.get_text().replace("  |  ", "; ") + "."
                text.set_visible(False)
        settle(figure)
        save(figure, folder / f"{name}.pdf")
        found.append(Figure(name, title, says, origin))
    return found


def settle(figure: Any) -> None:
    """Lay a figure out once and keep the places, rounded: the solver's last digits differ from run to run."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    for axis in figure.axes:
        axis.set_position([round(float(x), 4) for x in axis.get_position().bounds])


def save(figure: Any, path: Path) -> None:
    """Write a settled figure as PDF, the same bytes every time; `savefig` would first draw it for its layout."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    canvas: Any = FigureCanvasPdf(figure)
    canvas.print_pdf(path, metadata={"CreationDate": None, "Producer": None})
