"""What moving code about must not change: the names of the records, their verdicts, the theorems that Coq printed.

``pins.json`` is written by ``python -m tests.house.test_pins``; a difference is a change of meaning, to be wanted and
explained, or a mistake.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from empirical.engine import catalogue as engine
from empirical.engine.records import RESULTS
from tests.empirical.judged import rows
from theory.verify.formal import parse

PINS = Path(__file__).with_name("pins.json")
STATEMENTS = Path(__file__).resolve().parents[2] / "proofs" / "statements.v.out"


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(short(value), sort_keys=True).encode()).hexdigest()[:16]


def short(value: Any) -> Any:
    """Numbers to nine digits, in lists too: what follows differs from one processor to the next."""
    if isinstance(value, (list, tuple)):
        return [short(x) for x in value]
    return f"{round(value, 9) + 0.0:.9g}" if isinstance(value, float) else value


def found() -> dict[str, dict[str, int | str]]:
    """Counts and digests, from the records that the engine reads and the statements that Coq printed."""
    pins: dict[str, dict[str, int | str]] = {}
    for folder in sorted(RESULTS.glob("*/[!s]*")):
        name, profile = folder.parent.name, folder.name
        store = engine.store_for(name, profile)
        names = sorted(p.stem for p in map(store.path, engine.cells(name, profile)) if p.exists())
        judged = rows(name, profile)
        verdicts = sorted((r["id"], r["claim"], r["verdict"], r["predicted"], r["mean"], r["interval"]) for r in judged)
        pins[f"{name}/{profile}"] = {
            "records": len(names), "names": digest(names), "verdicts": len(judged), "judged": digest(verdicts),
        }  # fmt: skip
    printed = dict(parse(STATEMENTS.read_text(encoding="utf-8")))
    pins["theorems"] = {"count": len(printed), "printed": digest(sorted((k, list(v)) for k, v in printed.items()))}
    return pins


def test_what_must_not_change_did_not() -> None:
    wanted = "if the change is wanted: python -m tests.house.test_pins"
    assert found() == json.loads(PINS.read_text(encoding="utf-8")), wanted


if __name__ == "__main__":
    PINS.write_text(json.dumps(found(), indent=1) + "\n", encoding="utf-8")
