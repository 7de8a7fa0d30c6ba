"""Which claims a change of files concerns: those whose code, checks, imports or registry entry differ."""

from __future__ import annotations

import ast
import functools
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

from theory.claims import Claim, RegistryError
from theory.provenance import ROOT

_REGISTRY = "theory/claims.toml"
#: what makes mutants: a change there concerns every claim
_INSTRUMENT = "theory/verify/mut"


def base(root: Path = ROOT) -> str | None:
    """The commit to compare with: where this branch left origin/main, else the one before this; None without either.

    A shallow clone, or one of a single commit, may have neither.
    """
    head = _git(root, "rev-parse", "HEAD")
    for found in (_git(root, "merge-base", "HEAD", "origin/main"), _git(root, "rev-parse", "--verify", "HEAD~1")):
        if found and found != head:
            return found
    return None


def affected(claims: Mapping[str, Claim], commit: str, root: Path = ROOT) -> set[str]:
    """Ids of the claims that the difference between `commit` and the files of `root` concerns.

    Raises:
        RegistryError: git cannot compare with `commit`.
    """
    listed = _git(root, "diff", "--name-only", commit)
    if listed is None:
        raise RegistryError(f"--changed: expected a commit that git knows, got {commit!r}")
    names = set(listed.splitlines())
    if any(name.startswith(_INSTRUMENT) for name in names):
        return set(claims)
    now = tomllib.loads((root / _REGISTRY).read_text(encoding="utf-8"))
    before = tomllib.loads(_git(root, "show", f"{commit}:{_REGISTRY}") or "")
    return {
        claim.id for claim in claims.values()
        if now.get(claim.id) != before.get(claim.id) or not names.isdisjoint(files(claim, root))
    }  # fmt: skip


def files(claim: Claim, root: Path = ROOT) -> set[str]:
    """The files behind the claim's code and checks, with all that they import from ``theory``, by name below `root`."""
    names = [r.partition(":")[0] for r in (*claim.code, *claim.checks)]
    found: dict[str, Path] = {}
    for name in names:
        stem = root.joinpath(*name.split("."))
        path = next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)
        if name not in found and path is not None:
            found[name] = path
            names += _imported(path.read_text(encoding="utf-8"))
    return {str(path.relative_to(root)) for path in found.values()}


@functools.cache
def _imported(source: str) -> list[str]:
    """What may be modules of ``theory`` among the names that a file imports."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in names if name.startswith("theory.")]


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
