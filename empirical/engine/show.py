"""What a run says on the screen: what is to be done, how far it is, how the predictions came out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from empirical.engine.estimate import Job, Times
from empirical.engine.judge import Row
from empirical.engine.records import canonical

if TYPE_CHECKING:
    from rich.console import Console


def new_console() -> Console:
    """A console as wide as the terminal, or as a page."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 132, highlight=False)


def print_cells(console: Console, jobs: Sequence[Job], times: Times) -> None:
    """One line per cell: the name of its record, the seconds that are expected, what it is."""
    for job in times.ordered(jobs):
        expected = times.expected(job)
        shown = "time unknown" if expected is None else f"{expected:.3g} s"
        name, cell = job.store.path(job.cell).stem, canonical(job.cell.identity())
        console.print(f"  {name}  {job.experiment}  {shown}  {cell}", soft_wrap=True, markup=False)


@contextmanager
def progress(console: Console, jobs: Sequence[Job], times: Times) -> Iterator[Callable[[Job, int], None]]:
    """A progress bar whose time left goes by expected seconds, since cells differ; yields what advances it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("cells {task.fields[count]}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn(elapsed_when_finished=True))  # fmt: skip
    expected = [times.expected(job) for job in jobs]
    weights = {id(job): 1.0 if None in expected else e or 0.0 for job, e in zip(jobs, expected, strict=True)}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(weights.values()), count=f"0/{len(jobs)}")
        yield lambda job, done: bar.update(task, advance=weights[id(job)], count=f"{done}/{len(jobs)}")


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """One line per prediction: what was said, what came out per world, the verdict; violations as loud as the rest."""
    from rich.table import Table

    colour = {"holds": "[green]holds[/]", "violated": "[bold red]VIOLATED[/]", "undecided": "[yellow]undecided[/]"}
    signs = {"at_most": "<=", "at_least": ">=", "equal": "=", "order": ">"}
    table = Table(title="Predictions and outcomes", title_justify="left", show_edge=False, pad_edge=False)
    for column in ("prediction", "kind", "predicted", "mean", "interval", "level", "worlds", "verdict"):
        table.add_column(column, overflow="fold")
    for row in rows:
        predicted = row["predicted"]
        target = f"{predicted:.3g}" if isinstance(predicted, (int, float)) else "by world"
        if row["relation"] == "equal" and row["margin"]:
            target += f" ± {row['margin']:g}"
        low, high = row["interval"]
        interval = f"[{'-inf' if low is None else f'{low:.3g}'}, {'inf' if high is None else f'{high:.3g}'}]"
        table.add_row(
            f"{row['experiment']}: {row['says']}",
            row["kind"],
            f"{signs[row['relation']]} {target}",
            "-" if row["mean"] is None else f"{row['mean']:.3g}",
            interval.replace("[", "\\["),
            "exact" if row["kind"] == "exact" else f"{100 * row['level']:.2f} %",
            str(len(row["worlds"])),
            colour[row["verdict"]],
        )
    console.print(table)
    counts = {v: sum(r["verdict"] == v for r in rows) for v in ("holds", "violated", "undecided")}
    console.print(", ".join(f"{n} {v}" for v, n in counts.items()))
