"""``python -m empirical``: run the experiments, judge them, verify every claim, draw, write the data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from theory.console import OneLine, guarded, verification, verify_options


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(
        prog="python -m empirical",
        description="Run the experiments, judge them, verify every claim, draw, write the data.",
        epilog="Exit status: 0 done; 1 a cell or a check failed, a prediction that must hold is violated, or something "
        "could not be judged; 2 bad "
        "input (one line, nothing is written).",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train, reuse, judge; goes on where the last run stopped")
    run.add_argument("--experiment", action="append", metavar="NAME", help="only this one (may be repeated)")
    run.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: gpu where CUDA is, else cpu"
    )
    run.add_argument("--method", metavar="FILE.py:FUNCTION", help="your own merge or router, beside the known ones")
    run.add_argument("--workers", type=int, metavar="N", help="cells at once (by default one per core, 12 on a GPU)")
    run.add_argument(
        "--budget", type=float, metavar="MIN", help="start no cell that would end later; run again to go on"
    )
    run.add_argument("--results", type=Path, metavar="DIR", help="where the records lie (default empirical/results)")
    run.add_argument("--dry-run", action="store_true", help="only show the cells and the estimate")
    run.add_argument("--engine", default="local", metavar="local|ray", help="processes here, or Ray (docs/cluster.md)")
    run.add_argument("--address", metavar="HOST:PORT|auto", help="of a Ray cluster (by default one started here)")
    declare = commands.add_parser("declare", help="write down what is predicted; to be committed before the run")
    declare.add_argument("--experiment", action="append", metavar="NAME", help="only this one (may be repeated)")
    declare.add_argument("--profile", default="cpu", metavar="smoke|cpu|gpu", help="by default cpu")
    declare.add_argument("--results", type=Path, metavar="DIR")
    judge = commands.add_parser("judge", help="hold the finished cells against the predictions")
    judge.add_argument("--experiment", action="append", metavar="NAME")
    judge.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: of each experiment the one that counts"
    )
    judge.add_argument("--results", type=Path, metavar="DIR")
    judge.add_argument("--write", type=Path, metavar="FILE", help="by default build/experiments.json")
    log = commands.add_parser(
        "log", help="add the sets of results that are there to results/LOG.md; shows what it adds"
    )
    log.add_argument("--results", type=Path, metavar="DIR")
    figures = commands.add_parser("figures", help="plot the finished cells beside the predictions")
    figures.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: of each experiment the one that counts"
    )
    figures.add_argument("--results", type=Path, metavar="DIR")
    figures.add_argument("--out", type=Path, metavar="DIR", help="by default build/figures")
    verify_options(commands.add_parser("verify", help="every layer for every claim; prints the ladder"))
    pack = commands.add_parser("pack", help="all records of a profile in one archive, with their hashes")
    pack.add_argument("archive", type=Path)
    pack.add_argument("--profile", default="gpu", metavar="smoke|cpu|gpu")
    pack.add_argument("--results", type=Path, metavar="DIR")
    data = commands.add_parser("data", help="the tasks as JSON Lines with data cards")
    data.add_argument("--task", action="append", metavar="NAME", help="only this one (may be repeated)")
    data.add_argument("--seed", type=int, default=0, metavar="N", help="of the worlds (0)")
    data.add_argument("--train", type=int, metavar="N", help="training examples, of tasks whose size is free")
    data.add_argument("--test", type=int, metavar="N", help="test examples, of tasks whose size is free")
    data.add_argument("--out", type=Path, metavar="DIR", help="by default build/data")
    data.add_argument("--card", type=Path, metavar="FILE", help="write the data card of all tasks there as well")
    unpack = commands.add_parser("import-results", help="unpack such an archive; every file is verified by its hash")
    unpack.add_argument("archive", type=Path)
    unpack.add_argument("--results", type=Path, metavar="DIR")
    return parser


def _run(options: argparse.Namespace) -> int:
    from empirical.engine.run import run

    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers: expected an integer >= 1, got {options.workers}")
    if options.budget is not None and not options.budget > 0:
        raise ValueError(f"--budget: expected minutes above 0, got {options.budget}")
    return run(
        options.experiment, options.profile, options.method, options.workers, options.results,
        options.budget, options.dry_run, options.engine, options.address,
    )  # fmt: skip


def _results(options: argparse.Namespace) -> Path:
    from empirical.engine.records import RESULTS

    return options.results or RESULTS


def _declare(options: argparse.Namespace) -> int:
    from empirical.engine import catalogue
    from theory.provenance import shown

    for path in catalogue.declare(catalogue.asked_for(options.experiment), options.profile, _results(options)):
        print(shown(path))
    return 0


def _judge(options: argparse.Namespace) -> int:
    from empirical.engine import catalogue, show
    from empirical.engine.run import write_experiments
    from theory.provenance import build_folder

    results, profile = _results(options), options.profile
    chosen = catalogue.asked_for(options.experiment)
    console, refused = show.new_console(), list[str]()
    rows = catalogue.judge_all(chosen, profile, results, report=refused.append)
    if not rows:
        got = "; ".join(refused) or "none (make experiments)"
        raise ValueError(f"judge: expected results of profile {profile} in {results}, got {got}")
    show.print_rows(console, rows)
    for line in refused:
        show.teller(console)(line)
    write_experiments(options.write or build_folder() / "experiments.json", profile, rows)
    broken = any(r["verdict"] == "violated" and r["kind"] != "hypothesis" for r in rows)
    return 1 if broken or refused else 0


def _log(options: argparse.Namespace) -> int:
    from empirical.engine.log import append

    for row in append(_results(options)):
        print(row)
    return 0


def _figures(options: argparse.Namespace) -> int:
    from empirical.engine.figures import FIGURES, draw

    for line in draw(options.profile, _results(options), options.out or FIGURES):
        print(line)
    return 0


def _data(options: argparse.Namespace) -> int:
    from empirical.tasks.export import DATA, export

    sizes = {k: v for k, v in (("train", options.train), ("test", options.test)) if v is not None}
    for line in export(options.out or DATA, options.seed, sizes, options.task, options.card):
        print(line)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from empirical.ladder import verify
    from theory.claims import load

    return verify(**verification(options, load()))


def _pack(options: argparse.Namespace) -> int:
    from empirical.engine import archive

    count = archive.pack(_results(options), options.profile, options.archive)
    print(f"{count} records in {options.archive}")
    return 0


def _unpack(options: argparse.Namespace) -> int:
    from empirical.engine import archive

    new, known = archive.unpack(options.archive, _results(options))
    print(f"{new} new records, {known} that were there already")
    return 0


ACTIONS = {
    "run": _run,
    "declare": _declare,
    "judge": _judge,
    "log": _log,
    "verify": _verify,
    "figures": _figures,
    "data": _data,
    "pack": _pack,
    "import-results": _unpack,
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    return guarded("empirical", options.command, lambda: ACTIONS[options.command](options))


if __name__ == "__main__":
    sys.exit(main())
