"""What a run says on the screen: what is to be done, how far it is, how the predictions came out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from empirical.engine.estimate import Job, Times
from empirical.engine.judge import Row, by_method, informative, tally
from empirical.engine.predictions import INFORMATIVE
from empirical.engine.records import canonical
from empirical.engine.ways import Share, Way

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


#: of a sentence about methods, before their names
SAID = {"holds": "holds for", "violated": "is violated by", "undecided": "is undecided for"}


def new_console() -> Console:
    """A console as wide as the terminal, or as a page."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 132, highlight=False)


def print_cells(console: Console, jobs: Sequence[Job], times: Times) -> None:
    """One line per cell: the name of its record, the seconds that are expected, what it is."""
    for job in times.ordered(jobs):
        expected = times.expected(job)
        shown = "time unknown" if expected is None else f"{expected:.3g} s"
        if job.stores:
            shown += ", to train" if job.stored is None else ", stored"
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


def teller(console: Console) -> Callable[[str], None]:
    """Prints one line, as it is."""
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def print_rows(console: Console, rows: Sequence[Row]) -> None:
    """One line per prediction: what was said, what came out per world, the verdict; violations as loud as the rest.

    Ceilings and hypotheses come first, with the verdict alone and among the others of their family; controls and what
    is exact are listed apart, and so is what was not declared before it ran.
    """
    counted = informative(rows)
    rest = [row for row in rows if row not in counted]
    for title, chosen in (
        ("Predictions and outcomes", counted),
        ("Controls", [r for r in rest if r["kind"] == "control"]),
        ("Theorems about the very numbers", [r for r in rest if r["kind"] == "exact"]),
        ("Not declared before the run, counted nowhere", [r for r in rest if r["kind"] in INFORMATIVE]),
    ):
        if chosen:
            console.print(_table(title, chosen))
    families: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["about"]:
            families.setdefault((row["experiment"], row["family"]), []).append(row)
    for (experiment, family), of in families.items():
        if len(of) > 1:
            teller(console)(f"{experiment}, {family}: {verdicts_by_method(of)}")
    console.print(tally_line(rows))


def _table(title: str, rows: Sequence[Row]) -> Table:
    from rich.table import Table

    colour = {"holds": "[green]holds[/]", "violated": "[bold red]VIOLATED[/]", "undecided": "[yellow]undecided[/]"}
    signs = {"at_most": "<=", "at_least": ">=", "equal": "=", "order": ">"}
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in ("prediction", "kind", "predicted", "mean", "interval", "p", "worlds", "alone", "verdict"):
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
            "exact" if row["kind"] == "exact" else f"{row['p']:.2g}",
            str(len(row["worlds"])),
            colour[row["alone"]],
            colour[row["verdict"]],
        )
    return table


def print_ways(console: Console, rows: Sequence[Way]) -> None:
    """Three ways of asking each method: facts kept, two hops, two hops among what was kept; one's own is marked."""
    from rich.table import Table

    if not rows:
        return
    table = Table(title=f"{rows[0].experiment}: methods of reuse; mean share over worlds, and its 95 % interval",
                  title_justify="left", show_edge=False, pad_edge=False)  # fmt: skip
    for column in ("worlds", "experts", "method", "first hops kept", "second hops kept", "two hops, covered",
                   "two hops, uncovered", "covered, of both kept", "limited by", "examples", "CPU s"):  # fmt: skip
        table.add_column(column, overflow="fold")
    for row in rows:
        shares = [_share(s) for s in (row.first, row.second, row.covered, row.uncovered, row.survivors)]
        worlds = f"{row.group}: {row.worlds}" if row.group else str(row.worlds)
        method = f"[bold]> {row.method}[/]" if row.own else row.method
        seen = "?" if row.examples is None else str(row.examples or "-")
        spent = "-" if row.seconds is None else f"{row.seconds:.2g}"
        table.add_row(worlds, row.on, method, *shares, ", ".join(row.limit) or "-", seen, spent)
    console.print(table)


def _share(share: Share | None) -> str:
    return "-" if share is None else "{} {}-{}".format(*(f"{x:.2f}".removeprefix("0") for x in share))


def spans(values: Iterable[int]) -> str:
    """Whole numbers as ranges."""
    found: list[list[int]] = []
    for v in sorted(set(values)):
        if found and v == found[-1][1] + 1:
            found[-1][1] = v
        else:
            found.append([v, v])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in found)


def tally_line(rows: Sequence[Row]) -> str:
    """How many of the predictions that are counted came out how, by kind, and how many are not counted."""
    plural = {"hypothesis": "hypotheses", "ceiling": "ceilings"}
    parts = [
        f"{plural[kind]}: " + ", ".join(f"{n} {verdict}" for verdict, n in found.items())
        for kind, found in tally(rows).items()
    ]
    rest = [r for r in rows if r not in informative(rows)]
    for name, kind in (("controls", "control"), ("theorems", "exact")):
        of = [r["verdict"] for r in rest if r["kind"] == kind]
        parts += [f"{name}: {of.count('holds')} of {len(of)} hold"] if of else []
    undeclared = sum(r["kind"] in INFORMATIVE for r in rest)
    parts += [f"not declared: {undeclared}"] if undeclared else []
    return "; ".join(parts)


def verdicts_by_method(rows: Sequence[Row]) -> str:
    """For which methods a sentence holds, of rows that each say it of one method."""
    return "; ".join(f"{SAID[v]} {', '.join(methods)}" for v, methods in by_method(rows).items() if methods)
