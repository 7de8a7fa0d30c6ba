"""What the command lines share."""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Collection
from importlib import metadata
from typing import NoReturn, TypedDict

from theory.claims import RegistryError


class OneLine(argparse.ArgumentParser):
    """Bad input gets one line and exit status 2, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print `message` on stderr and exit with 2."""
        program = self.prog.removeprefix("python -m ").split()[0]
        print(f"{program}: {message} (--help says what is possible)", file=sys.stderr)
        sys.exit(2)


def install_hint(package: str) -> str:
    """How to get a package that is not a core dependency: by the extra that asks for it."""
    try:
        wanted = metadata.requires("lora-limits") or []
    except metadata.PackageNotFoundError:
        wanted = []
    found = (re.match(rf"{re.escape(package)}\b.*extra == ['\"](\w+)['\"]", line) for line in wanted)
    extra = next((f[1] for f in found if f and f[1] != "dev"), "adapters")
    return f"pip install 'lora-limits[{extra}]'"


def own_packages() -> set[str]:
    """Names of the packages that are installed together with this one."""
    try:
        named = metadata.distribution("lora-limits").read_text("top_level.txt")
    except metadata.PackageNotFoundError:
        named = None
    return {"theory", *(named or "").split()}


def guarded(program: str, command: str, act: Callable[[], int]) -> int:
    """Exit status of `act`; what people can mend becomes one line on standard error and status 2.

    That is bad input (ValueError), a package that is not installed, and what the operating system refuses; 130 after
    an interruption. An import of our own that fails is a fault of ours and stays a traceback.
    """
    if sys.stdout is None:  # closed by the caller, who wants to see nothing
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name with letters that this terminal lacks is still said
            stream.reconfigure(errors="backslashreplace")
    try:
        status = act()
        sys.stdout.flush()  # what was printed last is refused here, not behind our back
        return status
    except ValueError as error:
        said = str(error).splitlines()[0]
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in own_packages():
            raise
        said = f"{command}: {str(error).splitlines()[0]}"
        if isinstance(error, ModuleNotFoundError):
            said = f"{command}: expected the package {package}, got none; install it with: {install_hint(package)}"
    except BrokenPipeError:  # whoever read the output has seen enough
        _mute()
        return 2
    except (MemoryError, RuntimeError) as error:  # torch has no kind of its own for memory
        if not isinstance(error, MemoryError) and "allocate memory" not in str(error):
            raise
        said = f"{command}: the operating system says: no memory left"
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:  # the same once more when Python ends
            _mute()
        where = "" if error.filename is None else f": {error.filename}"
        said = f"{command}: the operating system says: {error.strerror or error}{where}"
    except KeyboardInterrupt:
        print(
            f"{program}: stopped; what is finished is kept, nothing is half-written; run the same command again",
            file=sys.stderr,
        )
        return 130
    print(f"{program}: {said}", file=sys.stderr)
    return 2


def _mute() -> None:
    """Nothing more reaches standard output."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def verify_options(command: argparse.ArgumentParser) -> None:
    """The options of a verification, for :func:`verification`."""
    command.add_argument("--claim", help="only this claim (nothing is written)")
    command.add_argument("--strict", action="store_true", help="not checked counts as failed (also STRICT=1)")
    command.add_argument("--jobs", type=int, help="processes, by default one per core")


class VerifyOptions(TypedDict):
    """The keywords of a verification: a claim or all, whether not checked counts as failed, how many processes."""

    only: str | None
    strict: bool
    jobs: int | None


def verification(options: argparse.Namespace, claims: Collection[str]) -> VerifyOptions:
    """What the command line asks of a verification.

    Raises:
        RegistryError: no such claim, or no process.
    """
    check_options(options, claims)
    strict = options.strict or os.environ.get("STRICT", "") not in ("", "0")
    return {"only": options.claim, "strict": strict, "jobs": options.jobs}


def check_options(options: argparse.Namespace, claims: Collection[str]) -> None:
    """Raise RegistryError unless ``--claim`` names a claim and ``--jobs`` is a number of processes."""
    if options.claim is not None and options.claim not in claims:
        raise RegistryError(f"--claim: expected a claim id (python -m theory list), got {options.claim!r}")
    if options.jobs is not None and options.jobs < 1:
        raise RegistryError(f"--jobs: expected an integer >= 1, got {options.jobs}")
