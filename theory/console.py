"""What the command lines share."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class OneLine(argparse.ArgumentParser):
    """Bad input gets one line and exit status 2, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print `message` on stderr and exit with 2."""
        program = self.prog.removeprefix("python -m ").split()[0]
        print(f"{program}: {message} (--help says what is possible)", file=sys.stderr)
        sys.exit(2)
