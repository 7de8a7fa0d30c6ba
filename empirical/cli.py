"""``lora-limits``: audit, merge, fold and export the adapters that one has on disk; explain the claims behind it."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from theory import __version__
from theory.console import OneLine, guarded
from theory.numerics import require

if TYPE_CHECKING:
    from empirical.adapters.merge import MergeReport

#: what argparse would take for an option where it stands after one
_NEGATIVE = re.compile(r"-(\d|\.\d|inf|nan).*")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
        others = (f"{name} {found.get(name, '(not installed)')}" for name in ("peft", "torch", "transformers"))
        print(f"lora-limits {__version__}, {', '.join(others)}")
        sys.exit(0)


def numbers(text: str) -> list[float]:
    """Numbers separated by commas or blanks, from the command line."""
    try:
        return [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers as in 0.5,-0.5, got {text.strip()!r}") from None


def _adapter_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("adapters", nargs="+", metavar="ADAPTER", help="folder as peft saves it, or a hub id")
    command.add_argument(
        "--weights", type=numbers, nargs="+", metavar="W", help="one per adapter: 0.5 -0.5 or 0.5,-0.5 (1 each)"
    )
    command.add_argument("--base", metavar="DIR|ID", help="the base model: folder, hub id or 'packaged'")
    command.add_argument("--same-base", action="store_true", help="take bases of different names for the same")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (0)")


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(
        prog="lora-limits",
        description="Limits of reusing LoRA adapters, for people who have some: audit, merge, fold, export.",
        epilog="Exit status: 0 done; 1 a merged adapter does not compute what its parts do (nothing is written then); "
        "2 bad input (one line, nothing is written); 3 the test of a merged adapter could not decide.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of lora-limits and what it works with")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    audit = commands.add_parser(
        "audit", help="what merging adapters would lose", epilog="Exit status: 0 done; 2 bad input."
    )
    _adapter_options(audit)
    audit.add_argument("--rank", type=int, metavar="R", help="rank to keep (by default the largest of a part)")
    audit.add_argument("--density", type=float, default=0.5, metavar="D", help="of ties, dare and pruning (0.5)")
    audit.add_argument("--dense", action="store_true", help="peft's dense types on modules of any size too (slow)")
    audit.add_argument("--probe", metavar="FILE", help="prompt, tab, answer per line (# is a comment); needs --base")
    audit.add_argument("--modules", action="store_true", help="one row per module as well")
    audit.add_argument(
        "--pairs-by-module", action="store_true", help="pairs module by module in the JSON of more than 8 adapters too"
    )
    audit.add_argument("--why", action="store_true", help="the reasons behind the answer, their claims and limits")
    audit.add_argument("--json", metavar="FILE", help="the report as JSON; - for standard output alone")
    audit.add_argument("--html", metavar="FILE", help="the report as one HTML file with plots")
    merge = commands.add_parser(
        "merge",
        help="one adapter that computes the weighted sum",
        epilog="Exit status: 0 done; 1 the identity test failed, nothing is written; 2 bad input, nothing is written; "
        "3 written, but the identity test could not decide.",
    )
    _adapter_options(merge)
    merge.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write")
    merge.add_argument("--method", default="exact", metavar="exact|svd", help="svd: best update of rank --rank")
    merge.add_argument("--rank", type=int, metavar="R", help="with --method svd")
    merge.add_argument(
        "--dtype", default="float32", metavar="float32|float16|bfloat16", help="of the factors written (float32)"
    )
    merge.add_argument(
        "--compact", action="store_true", help="ranks by module, for loaders that read rank_pattern (one rank, padded)"
    )
    merge.add_argument("--json", metavar="FILE", help="what was done as JSON; - for standard output alone")
    merge.add_argument("--force", action="store_true", help="overwrite an adapter folder")
    fold = commands.add_parser(
        "fold",
        help="the base with the weighted sum in its weights",
        epilog="Exit status: 0 done; 1 a folded weight is not within its bound, nothing is written; 2 bad input.",
    )
    fold.add_argument("adapters", nargs="+", metavar="ADAPTER", help="folder as peft saves it, or a hub id")
    fold.add_argument("--base", required=True, metavar="DIR|ID", help="the base model, weights in safetensors")
    fold.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write")
    fold.add_argument("--weights", type=numbers, nargs="+", metavar="W", help="one per adapter (1 each)")
    fold.add_argument("--same-base", action="store_true", help="take bases of different names for the same")
    fold.add_argument("--dtype", metavar="float32|float16|bfloat16", help="of all weights (as the base has them)")
    fold.add_argument("--untie", action="store_true", help="give places that share an adapted weight one each")
    fold.add_argument("--force", action="store_true", help="overwrite a model folder")
    export = commands.add_parser("export", help="one adapter as another program reads it")
    export.add_argument("adapter", metavar="ADAPTER", help="folder as peft saves it, or a hub id")
    export.add_argument("--to", default="gguf", metavar="gguf", help="for llama.cpp")
    export.add_argument("-o", "--output", required=True, metavar="FILE", help="file to write")
    export.add_argument(
        "--base", metavar="DIR|ID", help="its configuration is read (by default what the adapter names)"
    )
    export.add_argument("--dtype", default="float32", metavar="float32|float16", help="of the factors (float32)")
    export.add_argument("--force", action="store_true", help="replace an adapter of this format")
    explain = commands.add_parser("explain", help="statement, status and proof of a claim")
    explain.add_argument("claim", metavar="CLAIM", nargs="?", help="its id; without one, all ids")
    return parser


def _audit(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from empirical.adapters.audit import Settings, audit
    from empirical.adapters.files import expanded, write_text
    from empirical.adapters.page import as_html
    from empirical.adapters.report import as_json
    from empirical.adapters.show import print_report

    _check_files(options.json, options.html)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("modules", total=None)
        data = audit(
            expanded(options.adapters),
            options.weights,
            Settings(options.rank, options.density, options.dense, options.seed, options.pairs_by_module or None),
            base=options.base,
            probe=options.probe,
            same_base=options.same_base,
            progress=lambda done, all_: bar.update(task, completed=done, total=all_),
        )
    for path, render in ((options.json, as_json), (options.html, as_html)):
        if path == "-":
            print(render(data), end="")
        elif path is not None:
            write_text(path, render(data))
    if "-" not in (options.json, options.html):
        print_report(_console(), data, options.modules, options.why)
    return 0


def _check_files(json: str | None, html: str | None = None, output: str | None = None) -> None:
    """Refuse a report that cannot be written, or that would take another file's place, before anything is computed."""
    from empirical.adapters.files import new_or_own
    from empirical.adapters.page import BEGINS

    places = [path if path == "-" else os.path.realpath(path) for path in (json, html) if path is not None]
    require(len(set(places)) == len(places), "--html", "another file than --json", "the same")
    for place in places:
        apart = output is None or os.path.realpath(output) not in (place, *map(str, Path(place).parents))
        require(apart, "--json", "a file outside of the output", place)
    for path, begins in ((json, (b'{\n "schema": 2,\n "tool"', b'{\n "output"')), (html, (BEGINS.encode(),))):
        if path not in (None, "-"):
            new_or_own(Path(path), begins)


def _console() -> Any:
    from rich.console import Console

    class Reporting(Console):
        def on_broken_pipe(self) -> None:
            """Like every other refusal of the operating system; rich would end with 1, which is a failed merge."""
            raise

    wide = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 116
    return Reporting(width=wide, highlight=False)


def _merge(options: argparse.Namespace) -> int:
    from empirical.adapters.files import write_text
    from empirical.adapters.merge import IdentityFailed, Written, merge

    def keep(made: MergeReport) -> None:
        """Say what was made, before it is in its place."""
        text = json.dumps(made.as_dict(), indent=1, allow_nan=False) + "\n"
        if options.json not in (None, "-"):
            write_text(options.json, text)
        if options.json == "-":
            print(text, end="", flush=True)
        elif made.identity is None or made.identity.verdict != "failed":
            print("\n".join(_summary(made)), flush=True)

    _check_files(options.json, output=options.output)
    try:
        made = merge(
            options.adapters,
            options.weights,
            options.output,
            Written(options.method, options.rank, options.dtype, options.compact, options.force),
            base=options.base,
            same_base=options.same_base,
            seed=options.seed,
            seen=keep,
        )
    except IdentityFailed as error:
        print(f"lora-limits: merge: {error}", file=sys.stderr)
        return 1
    return 3 if made.identity is not None and made.identity.verdict == "undecided" else 0


def _summary(made: MergeReport) -> Iterator[str]:
    """A merge in a few lines."""
    from empirical.adapters.merge import shown

    ranks = [m.r for m in made.modules]
    span = str(ranks[0]) if min(ranks) == max(ranks) else f"{min(ranks)} to {max(ranks)}"
    yield f"{made.output}: " + " + ".join(f"{w:g} x {n}" for w, n in zip(made.weights, made.adapters, strict=True))
    yield f"  {len(ranks)} modules, rank {span}, scale 1, {made.dtype}"
    if made.method == "svd":
        yield f"  cut off: {shown(made.truncation, 3)} of the norm of the sum"
    yield f"  rounding to {made.dtype}: {shown(made.rounding)} of the norm of the sum, bound {shown(made.bound)}"
    yield from (f"  {note}" for note in made.notes)
    if made.identity is None:
        yield "  identity test: not run (--base)"
    else:
        yield f"  identity test {made.identity.verdict}: {made.identity.text}"


def _fold(options: argparse.Namespace) -> int:
    from empirical.adapters.fold import FoldFailed, FoldReport, fold

    def say(made: FoldReport) -> None:
        terms = " + ".join(f"{w:g} x {n}" for w, n in zip(made.weights, made.adapters, strict=True))
        worst = made.tightest
        print(f"{made.output}: {Path(options.base).name} + {terms}")
        print(f"  {len(made.modules)} weights in {made.files} files, {' and '.join(made.dtypes)}, each rounded once")
        print(f"  outputs on random inputs: off by {worst} ({worst.name}, the closest)")
        print(*(f"  {note}\n" for note in made.notes), sep="", end="", flush=True)

    try:
        fold(
            options.adapters,
            options.base,
            options.output,
            options.weights,
            dtype=options.dtype,
            untie=options.untie,
            force=options.force,
            same_base=options.same_base,
            seen=say,
        )
    except FoldFailed as error:
        print(f"lora-limits: {error}", file=sys.stderr)
        return 1
    return 0


def _export(options: argparse.Namespace) -> int:
    from empirical.adapters.export import Exported, export

    def say(made: Exported) -> None:
        kind = f"{made.architecture}, {made.modules} modules, alpha {made.alpha:g}, {made.dtype}"
        print(f"{made.file}: {made.adapter} for llama.cpp ({kind})")
        print(*(f"  {note}\n" for note in made.notes), sep="", end="", flush=True)

    export(
        options.adapter, options.output, to=options.to, base=options.base, dtype=options.dtype, force=options.force,
        seen=say,
    )  # fmt: skip
    return 0


def _explain(options: argparse.Namespace) -> int:
    from empirical.explain import explain

    for line in explain(options.claim):
        print(line)
    return 0


ACTIONS = {"audit": _audit, "merge": _merge, "fold": _fold, "export": _export, "explain": _explain}


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    # with a blank before it, a negative number is no option to argparse, in whatever form it is written
    options = _parser().parse_args([f" {a}" if _NEGATIVE.fullmatch(a) else a for a in given])
    if getattr(options, "weights", None) is not None:
        options.weights = [w for part in options.weights for w in part]
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # on the way out, what is half written is dropped
    try:
        return guarded("lora-limits", options.command, lambda: ACTIONS[options.command](options))
    except Exception:  # a fault of ours: Python's own status, 1, would say that a merge failed
        traceback.print_exc()
        return 70
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
