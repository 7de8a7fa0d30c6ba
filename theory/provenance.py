"""Where files come from and how they are written: checkout, commit, versions; whole or not at all; between marks."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

#: the checkout, or the folder that the package was installed into
ROOT = Path(__file__).resolve().parents[1]


def in_checkout() -> bool:
    """Whether this is a checkout of the project; beside an installed package nothing is ever written."""
    return (ROOT / "pyproject.toml").is_file()


def build_folder() -> Path:
    """Where what a command makes belongs: ``build/`` of the checkout, else ``build/`` of the working folder."""
    return (ROOT if in_checkout() else Path.cwd()) / "build"


def shown(path: Path) -> Path:
    """`path` as a person would type it: from the checkout, else from the working folder, where it lies in there."""
    home = build_folder().parent
    return path.relative_to(home) if path.is_relative_to(home) else path


def cache_folder() -> Path:
    """Where what can be made again is kept: ``build/cache`` of the checkout, else the user's cache folder."""
    if in_checkout():
        return build_folder() / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lora-limits"


def first_line(command: list[str]) -> str | None:
    """The first line that `command` prints, "" if none; None if it cannot run, fails or takes half a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip().splitlines() or [""])[0] if done.returncode == 0 else None


def git(*arguments: str) -> str | None:
    """What git prints about this checkout; None where there is no git or no checkout, or it fails."""
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def commit(*ignored: str) -> tuple[str | None, bool]:
    """(commit, whether anything but `ignored`, paths below the root, differs from it).

    Outside a checkout the commit comes from LORA_LIMITS_COMMIT and the difference from LORA_LIMITS_DIRTY.
    """
    head = first_line(["git", "-C", str(ROOT), "rev-parse", "HEAD"]) if in_checkout() else None
    if head is None:
        return os.environ.get("LORA_LIMITS_COMMIT"), os.environ.get("LORA_LIMITS_DIRTY", "") not in ("", "0")
    changes = ["git", "-C", str(ROOT), "status", "--porcelain", "--", ".", *(f":!{path}" for path in ignored)]
    return head, bool(first_line(changes))


def short(commit: str | None, dirty: bool = False) -> str:
    """A commit in words."""
    return (commit or "unknown")[:7] + (" with changes" if dirty else "")


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Package -> its installed version, None if it is not there."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all; see `write_bytes`."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write whole or not at all: a reader sees the old file or the new one, also after a crash.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full; nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def marked(document: str, name: str, where: str) -> tuple[str, str, str]:
    """`document` as (before, between, after) the marks ``<!-- name -->`` and ``<!-- /name -->``, which stand in lines.

    Raises:
        ValueError: the marks are missing; `where` names the document.
    """
    start, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, opened, rest = document.partition(start)
    between, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{where}: expected the marks {start.strip()} and {end.strip()}, got no such section")
    return before + start, between, end + after


def embed(path: Path, name: str, text: str) -> None:
    """Put `text` between the marks `name` of the document `path`. Raises ValueError where they are missing."""
    before, _, after = marked(path.read_text(encoding="utf-8"), name, path.name)
    write_text(path, before + text + after)
