"""What others have published or released, held against what is said here: `make outside`.

Nothing of theirs is in this repository. A check whose material is not at hand is skipped with a word:

- *tables*: `MERGING=` a checkout of r-three/realistic-adaptive-merging (arXiv 2602.12323), whose tables say by task
  what a mean of about a thousand adapters, TSV and TIES reach, and the model without any. A mean helps tasks (what it
  dilutes are facts), TIES does not: intervals of the difference, the task being the unit;
- *memory*: needs nothing. Correlation memories, sums of n products of random vectors in d dimensions, are said to be
  all right from d^2 = 8 n ln n on (arXiv 2605.05189). At such d this is a trend and no equality: more are right well
  above than well below.

Not checked yet: LTE's own package (the rank after each merge), the code of Core Space and KnOTS.
"""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from empirical.engine.intervals import interval
from theory.numerics import Array, require, stream

#: level of the intervals by task
LEVEL = 0.99
#: column -> what is said of the mean difference to the model without adapters
MERGES = {"performance_agg": "helps", "performance_ties": "does not help"}


def column(file: Path, name: str) -> dict[str, float]:
    """Task -> number, of the tasks that have one.

    Raises:
        ValueError: the table has no such column.
    """
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    require(bool(rows) and {"task", name} <= rows[0].keys(), file.name, f"columns task and {name}", list(rows[:1]))
    return {row["task"]: float(row[name]) for row in rows if row[name]}


def gain(folder: Path, name: str) -> tuple[int, float, float, float]:
    """(tasks, mean difference to the model without adapters, its interval) of one way of merging."""
    tables = folder / "results" / "tables"
    plain = column(tables / "zero_shot_performance.csv", "zero_shot")
    merged = column(tables / "merged_performance_eval_experts_summary.csv", name)
    gains = [merged[task] - plain[task] for task in sorted(merged.keys() & plain.keys())]
    low, high = interval(gains, LEVEL, step=1e-3)
    return len(gains), float(np.mean(gains)), low, high


def recalled(d: int, excess: float, rng: np.random.Generator) -> bool:
    """Whether a sum of n products of normal vectors finds every value by its key, at d^2 of about excess n ln n."""
    n = max(k for k in range(2, d * d) if excess * k * np.log(k) <= d * d)
    keys, values = (rng.standard_normal((n, d)) / np.sqrt(d) for _ in range(2))
    scores: Array = values @ (values.T @ keys) @ keys.T
    return bool((scores.argmax(axis=0) == np.arange(n)).all())


def tables(folder: Path) -> Iterator[tuple[bool, str]]:
    """What the published tables say, and whether it is what is said here."""
    for name, wanted in MERGES.items():
        count, mean, low, high = gain(folder, name)
        found = "helps" if low > 0 else "does not help" if mean <= 0 else "undecided"
        yield found == wanted, f"tables: {name}: {mean:+.3f} [{low:+.3f}, {high:+.3f}] over {count} tasks: {found}"


def memory(d: int = 128, draws: int = 20) -> Iterator[tuple[bool, str]]:
    """Shares of memories that are all right, below, about and above 8 n ln n."""
    from scipy.stats import fisher_exact

    rng = stream(0, "outside", "memory")
    right = {c: sum(recalled(d, c, rng) for _ in range(draws)) for c in (4, 8, 12, 16)}
    below, above = right[4], right[16]
    chance = fisher_exact([[above, draws - above], [below, draws - below]], alternative="greater").pvalue
    said = ", ".join(f"{k / draws:.2f} at {c}" for c, k in right.items())
    more = chance < 1 - LEVEL
    yield (
        more,
        f"memory: d = {d}, d^2 / (n ln n): all right in {said}: {'more' if more else 'no more'} above 8 than below",
    )


def main() -> int:
    """Run what can be run; 1 where something is not as it is said here, 2 for material that cannot be read."""
    checks = [memory()]
    if folder := os.environ.get("MERGING"):
        checks.append(tables(Path(folder)))
    else:
        print("tables: skipped, no MERGING=<a checkout of r-three/realistic-adaptive-merging>")
    try:
        found = [line for check in checks for line in check]
    except (OSError, ValueError) as error:
        print(f"outside: {error}", file=sys.stderr)
        return 2
    for fits, line in found:
        print(f"{'as said' if fits else 'NOT AS SAID'}: {line}")
    return 0 if all(fits for fits, _ in found) else 1


if __name__ == "__main__":
    sys.exit(main())
