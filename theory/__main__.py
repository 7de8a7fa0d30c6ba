"""``python -m theory``: list the claims, verify them, write the Coq statements, run the mutants."""

from __future__ import annotations

import argparse
import subprocess
import sys

from theory.claims import Claim, RegistryError, load
from theory.console import OneLine, check_options, verification, verify_options
from theory.provenance import ROOT, cache_folder, embed, write_text


def _parser() -> argparse.ArgumentParser:
    parser = OneLine(prog="python -m theory", description=__doc__, epilog="Exit status: 0 done, "
                                    "1 a check failed (or, with STRICT=1, was not made), 2 bad input.")  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="one line per claim")
    listing.add_argument("--markdown", action="store_true", help="as the table and the graph that the README shows")
    verify_options(commands.add_parser("verify", help="run symbolic, numeric and formal layers, print the ladder"))
    statements = commands.add_parser("statements", help="the Coq file that prints every registered theorem")
    statements.add_argument("--write", action="store_true", help="write it, and what Coq prints, as the golden copy")
    mutants = commands.add_parser("mutants", help="change every bound and assumption in turn; no change may survive")
    mutants.add_argument("--claim", help="only this claim")
    mutants.add_argument("--changed", nargs="?", const="", metavar="COMMIT",
                         help="only claims whose files differ from that commit; by default where this branch left "
                              "origin/main, else HEAD~1; all claims where there is neither")  # fmt: skip
    mutants.add_argument("--budget", type=float, metavar="MIN",
                         help="begin none after so many minutes, in an order that changes with the commit")  # fmt: skip
    mutants.add_argument("--kind", action="append", default=[], help="only changes of this kind (may be repeated)")
    mutants.add_argument("--jobs", type=int, help="processes, by default one per core")
    return parser


def _list(claims: dict[str, Claim]) -> int:
    width = max(len(c) for c in claims)
    for claim in claims.values():
        print(f"{claim.id:<{width}}  {claim.topic:<13}  {claim.title}")
    return 0


def markdown(claims: dict[str, Claim]) -> str:
    """The table of claims, how many are whole, and the graph of their uses, as Markdown; the README holds a copy."""
    heads = ("claim", "what it is about", "kind", "bounds and constructions, in `theory`", "theorems",
             "sentences proved", "source")  # fmt: skip
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for c in claims.values():
        named = ", ".join(f"`{r.removeprefix('theory.').replace(':', '.')}`" for r in c.code[:2])
        named += " ..." if len(c.code) > 2 else ""
        proofs = f"{len(c.theorems)} in `proofs/{c.topic}` | {c.proved}/{len(c.mathematics)}"
        rows.append(f"| `{c.id}` | {c.title} | {c.kind} | {named} | {proofs} | {c.source} |")
    whole = f"{sum(c.whole for c in claims.values())} of {len(claims)} claims are proved whole."
    edges = [f"  {used} --> {c.id}" for c in claims.values() for used in c.uses]
    return "\n".join([*rows, "", whole, "", "```mermaid", "graph LR", *edges, "```"])


def _statements(claims: dict[str, Claim], write: bool) -> int:
    from theory.verify import formal

    folder = ROOT / "proofs"
    source = formal.statements_source(claims, folder)
    if not write:
        print(source, end="")
        return 0
    lacking = formal.missing_tools(folder)
    if lacking:
        raise RegistryError(f"statements: {lacking}")
    failure = formal.build(folder)
    if failure:
        raise RegistryError(f"statements: expected the proofs to build, got: {failure}")
    try:
        golden, known = formal.ask(folder, source), formal.meanings(folder, cache_folder() / "coq")
    except subprocess.CalledProcessError as error:
        got = " ".join(error.stderr.split("Error:")[-1].split())
        raise RegistryError(
            f"statements: expected the theorems of claims.toml in proofs/<topic>.v, got: {got}"
        ) from error
    write_text(folder / "statements.v", source)
    write_text(folder / "statements.v.out", golden)
    write_text(folder / "definitions.out", formal.definitions_file(known))
    embed(ROOT / "README.md", "claims", markdown(claims))
    written = "statements.v, statements.v.out and definitions.out in proofs, the table in README.md"
    print(f"written: {written} (review before committing)")
    return 0


def _concerned(options: argparse.Namespace, claims: dict[str, Claim]) -> set[str] | None:
    """The claims whose mutants are asked for; None for all. What ``--changed`` has found is said."""
    from theory.verify.affected import affected, base

    if options.claim is not None:
        return {options.claim}
    if options.changed is None:
        return None
    commit = options.changed or base()
    if commit is None:
        print("mutants: no earlier commit to compare with, so all claims")
        return None
    found = affected(claims, commit)
    print(f"mutants: differ from {commit[:12]}: {', '.join(c for c in claims if c in found) or 'no claim'}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        claims = load()
        if options.command == "list":
            if options.markdown:
                print(markdown(claims))
                return 0
            return _list(claims)
        if options.command == "statements":
            return _statements(claims, options.write)
        if options.command == "mutants":
            from theory.verify.mutants import run

            check_options(options, claims)
            return run(claims, _concerned(options, claims), options.jobs, options.budget, options.kind)
        from theory.verify.run import verify_claims

        return verify_claims(claims, **verification(options, claims))
    except RegistryError as error:
        print(f"theory: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
