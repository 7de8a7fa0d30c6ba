"""``lora-limits`` (``python -m empirical``): audit and merge adapters on disk, explain claims, run the experiments."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NoReturn

from theory.console import OneLine


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        print(f"lora-limits {metadata.version('lora-limits')}, peft {metadata.version('peft')}")
        sys.exit(0)


def _adapter_commands(commands: Any) -> None:
    audit = commands.add_parser(
        "audit", help="what merging adapters would lose", epilog="Exit status: 0 done; 2 bad input."
    )
    audit.add_argument("adapters", nargs="+", metavar="ADAPTER", help="folder as peft saves it, or a hub id")
    _common(audit)
    audit.add_argument("--rank", type=int, metavar="R", help="rank to keep (by default the largest of a part)")
    audit.add_argument("--density", type=float, default=0.5, metavar="D", help="of ties, dare and pruning (0.5)")
    audit.add_argument("--dense", action="store_true", help="peft's dense types on modules of any size too (slow)")
    audit.add_argument("--probe", metavar="FILE", help="prompt, tab, answer per line; needs --base")
    audit.add_argument("--modules", action="store_true", help="one row per module as well")
    audit.add_argument("--json", metavar="FILE", help="the report as JSON (docs/audit.md)")
    audit.add_argument("--html", metavar="FILE", help="the report as one HTML file with plots")
    merge = commands.add_parser(
        "merge",
        help="one adapter that computes the weighted sum",
        epilog="Exit status: 0 done; 1 the identity test failed, nothing is written; 2 bad input, nothing is written.",
    )
    merge.add_argument("adapters", nargs="+", metavar="ADAPTER", help="folder as peft saves it, or a hub id")
    merge.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write")
    _common(merge)
    merge.add_argument("--method", default="exact", metavar="exact|svd", help="svd: best update of rank --rank")
    merge.add_argument("--rank", type=int, metavar="R", help="with --method svd")
    merge.add_argument(
        "--dtype", default="float32", metavar="float32|float16|bfloat16", help="of the factors written (float32)"
    )
    merge.add_argument("--force", action="store_true", help="overwrite an adapter folder")
    explain = commands.add_parser("explain", help="statement, status and proof of a claim")
    explain.add_argument("claim", metavar="CLAIM", nargs="?", help="its id; without one, all ids")


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--weights", type=float, nargs="+", metavar="W", help="one per adapter (1 each)")
    command.add_argument("--base", metavar="DIR|ID", help="the base model: folder, hub id or 'packaged'")
    command.add_argument("--same-base", action="store_true", help="take bases of different names for the same")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (0)")


def _audit(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from empirical.adapters.audit import Settings, audit
    from empirical.adapters.files import write_text
    from empirical.adapters.page import as_html
    from empirical.adapters.report import as_json
    from empirical.adapters.show import print_report

    if options.json is not None and options.json == options.html:
        raise ValueError("--html: expected another file than --json, got the same")
    for path in (options.json, options.html):
        if path is not None and (Path(path).is_dir() or not Path(path).resolve().parent.is_dir()):
            raise ValueError(f"output: expected a file in an existing folder, got {path}")
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("modules", total=None)
        data = audit(
            options.adapters,
            options.weights,
            Settings(options.rank, options.density, options.dense, options.seed),
            base=options.base,
            probe=options.probe,
            same_base=options.same_base,
            progress=lambda done, all_: bar.update(task, completed=done, total=all_),
        )
    for path, render in ((options.json, as_json), (options.html, as_html)):
        if path is not None:
            write_text(path, render(data))
    print_report(_console(), data, options.modules)
    return 0


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 116, highlight=False)


def _merge(options: argparse.Namespace) -> int:
    from empirical.adapters.merge import IdentityFailed, Written, merge

    try:
        made = merge(
            options.adapters,
            options.weights,
            options.output,
            Written(options.method, options.rank, options.dtype, options.force),
            base=options.base,
            same_base=options.same_base,
            seed=options.seed,
        )
    except IdentityFailed as error:
        print(f"lora-limits: {error}", file=sys.stderr)
        return 1
    ranks = [m.r for m in made.modules]
    span = str(ranks[0]) if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
    print(f"{made.output}: " + " + ".join(f"{w:g} x {n}" for w, n in zip(made.weights, made.adapters, strict=True)))
    print(f"  {len(ranks)} modules, rank {span}, scale 1, {made.dtype}")
    if made.method == "svd":
        print(f"  cut off: {made.truncation:.3g} of the norm of the sum")
    print(f"  rounding to {made.dtype}: {made.rounding:.2g} of the norm of the sum, bound {made.bound:.2g}")
    for note in made.notes:
        print(f"  {note}")
    if made.identity is None:
        print("  identity test: not run (--base)")
    elif made.method == "svd":
        print(f"  against the sum of the parts: logits differ by at most {made.identity['gap']:.3g}, the adapters move "
              f"them by {made.identity['moved']:.3g}")  # fmt: skip
    else:
        print(f"  identity test passed: {made.identity['text']}")
    return 0


def _explain(claim: str | None) -> int:
    from empirical.explain import explain

    for line in explain(claim):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(
        prog="lora-limits",
        description="Limits of reusing LoRA adapters: audit and merge what you have, or run the experiments.",
        epilog="Exit status: 0 done; 1 a cell failed, a prediction that must hold is violated, or a merged adapter "
        "does not compute what its parts do (nothing is written then); 2 bad input (one line, nothing is written).",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of lora-limits and peft")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _adapter_commands(commands)
    run = commands.add_parser("run", help="train, reuse, judge; goes on where the last run stopped")
    run.add_argument("--experiment", action="append", metavar="NAME", help="only this one (may be repeated)")
    run.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: gpu where CUDA is, else cpu"
    )
    run.add_argument("--method", metavar="FILE.py:FUNCTION", help="your own merge, run beside the known ones")
    run.add_argument("--workers", type=int, metavar="N", help="cells at once (by default one per core, 12 on a GPU)")
    run.add_argument(
        "--budget", type=float, metavar="MIN", help="start no cell that would end later; run again to go on"
    )
    run.add_argument("--results", type=Path, metavar="DIR", help="where the records lie (default empirical/results)")
    run.add_argument("--dry-run", action="store_true", help="only show the cells and the estimate")
    run.add_argument("--engine", default="local", metavar="local|ray", help="processes here, or Ray (docs/cluster.md)")
    run.add_argument("--address", metavar="HOST:PORT|auto", help="of a Ray cluster (by default one started here)")
    judge = commands.add_parser("judge", help="hold the finished cells against the predictions")
    judge.add_argument("--experiment", action="append", metavar="NAME")
    judge.add_argument("--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: gpu where it has results")
    judge.add_argument("--results", type=Path, metavar="DIR")
    judge.add_argument("--write", type=Path, metavar="FILE", help="by default build/experiments.json")
    figures = commands.add_parser("figures", help="plot the finished cells beside the predictions")
    figures.add_argument(
        "--profile", default="auto", metavar="smoke|cpu|gpu|auto", help="auto: gpu where it has results"
    )
    figures.add_argument("--results", type=Path, metavar="DIR")
    figures.add_argument("--out", type=Path, metavar="DIR", help="by default build/figures")
    scaling = commands.add_parser("scaling", help="what a sweep of 100,000 cells would need (docs/scaling.md)")
    scaling.add_argument("--write", action="store_true", help="bring docs/scaling.md up to date")
    scaling.add_argument("--measure", action="store_true", help="time the driver anew (docs/scaling.json)")
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


def _judge(names: list[str] | None, profile: str, results: Path, write: Path | None) -> int:
    from rich.console import Console

    from empirical.engine import catalogue
    from empirical.engine import driver as engine
    from empirical.engine.records import ROOT

    chosen = names or catalogue.names()
    if profile == "auto":
        profile = catalogue.judged_profile(results)
    rows = catalogue.judge_all(chosen, profile, results)
    if not rows:
        raise ValueError(f"judge: expected results of profile {profile} in {results}, got none (make experiments)")
    engine.print_rows(Console(width=None if sys.stdout.isatty() else 132, highlight=False), rows)
    engine.write_experiments(write or ROOT / "build" / "experiments.json", profile, rows)
    return 1 if any(r["verdict"] == "violated" and r["kind"] != "hypothesis" for r in rows) else 0


def _scaling(write: bool, measure: bool) -> int:
    from empirical.engine import scaling

    if measure:
        print(f"written: {scaling.write_measured()}")
    if write:
        print(f"written: {scaling.write()}")
    if not (write or measure):
        print(scaling.section())
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    from empirical.engine.records import RESULTS

    results = getattr(options, "results", None)
    try:
        if options.command == "audit":
            return _audit(options)
        if options.command == "merge":
            return _merge(options)
        if options.command == "explain":
            return _explain(options.claim)
        if options.command == "run":
            from empirical.engine.driver import run

            if options.workers is not None and options.workers < 1:
                raise ValueError(f"--workers: expected an integer >= 1, got {options.workers}")
            if options.budget is not None and not options.budget > 0:
                raise ValueError(f"--budget: expected minutes above 0, got {options.budget}")
            return run(
                options.experiment, options.profile, options.method, options.workers, results,
                options.budget, options.dry_run, options.engine, options.address,
            )  # fmt: skip
        if options.command == "judge":
            return _judge(options.experiment, options.profile, results or RESULTS, options.write)
        if options.command == "data":
            from empirical.tasks.export import DATA, export, write_card

            sizes = {k: v for k, v in (("train", options.train), ("test", options.test)) if v is not None}
            for line in export(options.out or DATA, options.seed, sizes, options.task):
                print(line)
            if options.card:
                write_card(options.card)
            return 0
        if options.command == "figures":
            from empirical.engine.figures import FIGURES, draw

            for line in draw(options.profile, results or RESULTS, options.out or FIGURES):
                print(line)
            return 0
        if options.command == "scaling":
            return _scaling(options.write, options.measure)
        from empirical.engine import archive

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
