"""``python -m empirical``: run the experiments, judge their results, carry results between machines."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn


class OneLine(argparse.ArgumentParser):
    """Bad input gets one line and exit status 2, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print `message` on stderr and exit with 2."""
        print(f"{self.prog.split()[0]}: {message}", file=sys.stderr)
        sys.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(
        prog="lora-limits",
        description="Limits of reusing LoRA adapters: experiments and their verdicts.",
        epilog="Exit status: 0 done; 1 a cell failed or a prediction that must hold is violated; 2 bad input.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="train, reuse, judge; goes on where the last run stopped")
    run.add_argument("--experiment", action="append", metavar="NAME", help="only this one (may be repeated)")
    run.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: gpu where CUDA is, else cpu"
    )
    run.add_argument("--method", metavar="FILE.py:FUNCTION", help="your own merge, run beside the known ones")
    run.add_argument("--workers", type=int, metavar="N", help="processes (by default one per core, 12 on a GPU)")
    run.add_argument(
        "--budget", type=float, metavar="MIN", help="start no cell that would end later; run again to go on"
    )
    run.add_argument("--results", type=Path, metavar="DIR", help="where the records lie (default empirical/results)")
    run.add_argument("--dry-run", action="store_true", help="only show the cells and the estimate")
    judge = commands.add_parser("judge", help="hold the finished cells against the predictions")
    judge.add_argument("--experiment", action="append", metavar="NAME")
    judge.add_argument("--profile", default="cpu", metavar="smoke|cpu|gpu")
    judge.add_argument("--results", type=Path, metavar="DIR")
    pack = commands.add_parser("pack", help="all records of a profile in one archive, with their hashes")
    pack.add_argument("archive", type=Path)
    pack.add_argument("--profile", default="gpu", metavar="smoke|cpu|gpu")
    pack.add_argument("--results", type=Path, metavar="DIR")
    unpack = commands.add_parser("import-results", help="unpack such an archive; every file is verified by its hash")
    unpack.add_argument("archive", type=Path)
    unpack.add_argument("--results", type=Path, metavar="DIR")
    return parser


def _judge(names: list[str] | None, profile: str, results: Path) -> int:
    from rich.console import Console

    from empirical import run as engine
    from empirical.record import ROOT

    chosen = names or engine.experiments()
    rows = engine.judge_all(chosen, profile, results)
    if not rows:
        raise ValueError(f"judge: expected results of profile {profile} in {results}, got none (make experiments)")
    engine.print_rows(Console(width=None if sys.stdout.isatty() else 132, highlight=False), rows)
    engine.write_experiments(ROOT / "build" / "experiments.json", profile, rows)
    return 1 if any(r["verdict"] == "violated" and r["kind"] != "hypothesis" for r in rows) else 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    from empirical.record import RESULTS

    results = getattr(options, "results", None)
    try:
        if options.command == "run":
            from empirical.run import run

            if options.workers is not None and options.workers < 1:
                raise ValueError(f"--workers: expected an integer >= 1, got {options.workers}")
            return run(
                options.experiment, options.profile, options.method, options.workers, results,
                options.budget, options.dry_run,
            )  # fmt: skip
        if options.command == "judge":
            return _judge(options.experiment, options.profile, results or RESULTS)
        from empirical import archive

        if options.command == "pack":
            count = archive.pack(results or RESULTS, options.profile, options.archive)
            print(f"{count} records in {options.archive}")
        else:
            new, known = archive.unpack(options.archive, results or RESULTS)
            print(f"{new} new records, {known} that were there already")
        return 0
    except ValueError as error:
        print(f"lora-limits: {str(error).splitlines()[0]}", file=sys.stderr)
        return 2
    except ImportError as error:
        print(f"lora-limits: a package is missing: {error} (make setup)", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lora-limits: stopped; finished cells are kept, run the same command to go on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
