"""Build sdist and wheel into build/dist/ from what the repository holds, and see that the sdist leaves nothing out.

Built from a copy: setuptools takes up again whatever an earlier build noted in ``*.egg-info``, and its ``build/`` would
lie among ours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "build" / "dist"


def sources(root: Path) -> list[str]:
    """Names of the files that belong to the project: by git, or, where an sdist was unpacked, by its own list."""
    if (root / ".git").exists():
        command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    else:
        names = (root / "lora_limits.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines()
        names = [name for name in names if ".egg-info" not in name]
    return sorted(name for name in set(names) if name and (root / name).is_file())


def left_out(sdist: Path, names: Iterable[str]) -> list[str]:
    """Those of `names` that the archive does not hold."""
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    return sorted(set(names) - held)


def build(root: Path, out: Path) -> tuple[Path, Path]:
    """Wheel (built from the sdist) and sdist. Raises SystemExit with what the build said when it failed."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sources(root):
            target = Path(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, target)
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"dist: the build stopped (pyproject.toml, MANIFEST.in?)\n{done.stdout}{done.stderr}")
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def main() -> int:
    """Build both; 1 where the sdist lacks a file of the repository."""
    shutil.rmtree(DIST, ignore_errors=True)
    wheel, sdist = build(ROOT, DIST)
    lacking = left_out(sdist, sources(ROOT))
    for name in lacking:
        print(f"dist: {sdist.name} lacks {name}: name it, or its folder, in MANIFEST.in", file=sys.stderr)
    print(f"written: {wheel.relative_to(ROOT)}, {sdist.relative_to(ROOT)}")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
