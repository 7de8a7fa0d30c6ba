"""The README says what the registry says, and what it tells people to type exists."""

import re
from pathlib import Path
from typing import Any

import pytest

from empirical.engine import summary
from theory.__main__ import markdown
from theory.claims import load
from theory.provenance import embed, marked

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def between(text: str, name: str) -> str:
    return marked(text, name, "README.md")[1]


def test_the_table_of_claims_is_the_registry() -> None:
    assert between(README, "claims") == markdown(load()), "the table is of another registry: make golden"


def test_a_stale_table_is_noticed() -> None:
    stale = README.replace("| `merge_rank` |", "| `merge_ranks` |")
    assert between(stale, "claims") != markdown(load())


@pytest.mark.usefixtures("judged_once")
def test_the_table_of_experiments_is_what_the_committed_results_say() -> None:
    assert between(README, "experiments") == summary.summary(), "the table is of other results: make golden"


def test_a_second_run_is_the_same_again_only_at_the_same_settings() -> None:
    def run(*cells: dict[str, int]) -> set[str]:
        records: Any = [{"cell": {**cell, "seed": seed}} for seed, cell in enumerate(cells)]
        return summary.settled(records)

    first = run({"rank": 1}, {"rank": 2}, {"rank": 1})
    assert summary.again(first, run({"rank": 2}, {"rank": 1})) == "the same again, on fresh worlds"
    assert summary.again(first, run({"rank": 2})) == "a part of the same, on fresh worlds"
    for other in (run({"rank": 1}, {"rank": 3}), run({"rank": 1}, {"rank": 2}, {"rank": 3})):
        assert summary.again(first, other) == "in part the same, in part at other settings, on fresh worlds"


def test_text_is_put_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "x.md"
    document.write_text("a\n<!-- t -->\nold\nolder\n<!-- /t -->\nb\n", encoding="utf-8")
    embed(document, "t", "new")
    assert document.read_text(encoding="utf-8") == "a\n<!-- t -->\nnew\n<!-- /t -->\nb\n"
    for damaged in ("# a title\n", "<!-- t -->\nno end\n", "x\n<!-- /t -->\n"):
        document.write_text(damaged, encoding="utf-8")
        with pytest.raises(ValueError, match=r"x\.md: expected the marks <!-- t --> and <!-- /t -->"):
            embed(document, "t", "new")
        assert document.read_text(encoding="utf-8") == damaged
    assert [p.name for p in tmp_path.iterdir()] == ["x.md"]


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert set(re.findall(r"`make ([a-z-]+)", document)) <= targets


def test_the_example_in_python_gives_what_it_says() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, object] = {}
    said = 0
    for line in filter(None, example.splitlines()):
        call, _, value = line.partition(" #")
        if value:
            wanted = value.strip().partition(":")[0]
            assert str(eval(call, names)).startswith(wanted.removesuffix("...")), line
            said += 1
        else:
            exec(call, names)
    assert said == 3


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_every_file_that_is_named_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"\]\(([\w./-]+)\)", text)
    assert named or document == "CONTRIBUTING.md"
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing
