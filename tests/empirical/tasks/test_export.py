"""`python -m empirical data`: the same bytes twice, whole files or none, answers that follow from the other lines."""

import json
from types import ModuleType, SimpleNamespace

import pytest

from empirical.__main__ import main
from empirical.tasks import export as data
from empirical.tasks.word_problems import CELLS
from tests.empirical.conftest import status_of

SMALL = {"train": 12, "test": 6}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    out = tmp_path_factory.mktemp("data")
    assert len(list(data.export(out, 3, SMALL, ["two_hop", "word_problems"]))) == 6
    return out


def test_a_second_run_gives_the_same_bytes_and_another_seed_others(exported, tmp_path):
    list(data.export(tmp_path / "again", 3, SMALL, ["two_hop", "word_problems"]))
    list(data.export(tmp_path / "other", 4, SMALL, ["word_problems"]))
    found = sorted(p.relative_to(exported) for p in exported.rglob("*") if p.is_file())
    assert len(found) == 8  # a card beside the splits of each task
    for path in found:
        assert (exported / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    other = (tmp_path / "other" / "word_problems" / "test.jsonl").read_bytes()
    assert other != (exported / "word_problems" / "test.jsonl").read_bytes()


def test_every_example_has_the_common_fields_and_an_id_of_its_own(exported):
    for folder in exported.iterdir():
        rows = [row for path in folder.glob("*.jsonl") for row in lines(path)]
        assert len({row["id"] for row in rows}) == len(rows)
        assert all(set(data.FIELDS) <= set(row) for row in rows)
        assert {row["task"] for row in rows} == {folder.name}
        for path in folder.glob("*.jsonl"):
            assert {row["split"] for row in lines(path)} == {path.stem}
            assert f"`{path.name}`: {len(lines(path))} examples" in (folder / "README.md").read_text(encoding="utf-8")


def test_two_hop_answers_follow_from_the_exported_facts(exported):
    folder = exported / "two_hop"
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    for row in lines(folder / "pretraining.jsonl"):
        if row["hops"] == 1:
            assert row["prompt"] not in old
            old[row["prompt"]] = row["answer"]
    for split in ("first_hop", "second_hop"):
        new |= {row["prompt"]: row["answer"] for row in lines(folder / f"{split}.jsonl")}
    now = {**old, **new}
    changed = 0
    for row in lines(folder / "test.jsonl"):
        person, first, second = row["prompt"].split()
        assert f"{person} {first}" not in old
        bridge = now[f"{person} {first}"]
        assert row["bridge"] == bridge
        assert row["answer"] == now[f"{bridge} {second}"]
        assert row["old_answer"] == old[f"{bridge} {second}"]
        assert row["changed"] == (f"{bridge} {second}" in new)
        changed += row["answer"] != row["old_answer"]
    assert changed > 0
    for row in lines(folder / "pretraining.jsonl"):
        if row["hops"] == 2:
            person, first, second = row["prompt"].split()
            assert row["covered"]
            assert row["answer"] == old[f"{old[f'{person} {first}']} {second}"]


def test_sizes_are_per_cell_and_test_names_are_new(exported):
    train, test = (lines(exported / "word_problems" / f"{s}.jsonl") for s in ("train", "test"))
    for rows, size in ((train, 12), (test, 6)):
        cells = [row["cell"] for row in rows]
        assert {cells.count(c) for c in cells} == {size}
    assert not {r["prompt"].split()[0] for r in train} & {r["prompt"].split()[0] for r in test}
    assert not any(r["lure"] for r in train)
    assert any(r["lure"] for r in test)
    assert all(r["steps"].split()[-2] == r["answer"] for r in train + test)


def test_the_card_in_the_documents_is_that_of_the_tasks():
    assert data.CARD.read_text(encoding="utf-8") == data.card()
    assert {"two_hop", "word_problems"} <= set(data.tasks())


def test_command_writes_data_and_card(tmp_path, capsys):
    arguments = ["data", "--task", "word_problems", "--train", "2", "--test", "1", "--out", str(tmp_path / "d")]
    assert main([*arguments, "--card", str(tmp_path / "card.md")]) == 0
    kinds = sum(not lure for _, lure in CELLS.values())  # lures are for tests alone
    assert f"train.jsonl: {2 * kinds} examples" in capsys.readouterr().out
    assert len((tmp_path / "d" / "word_problems" / "train.jsonl").read_text(encoding="utf-8").splitlines()) == 2 * kinds
    assert (tmp_path / "card.md").read_text(encoding="utf-8") == data.card()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "riddles"], "task: expected one of"),
        (["--seed", "-1"], "seed: expected an integer >= 0, got -1"),
        (["--train", "0"], "train: expected an integer >= 1, got 0"),
        (["--seed", "x"], "--seed"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    assert status_of(main, ["data", "--out", str(tmp_path / "d"), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert not (tmp_path / "d").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["data", "--task", "two_hop", "--out", str(tmp_path / "file")]) == 2
    assert "expected a folder to write to" in capsys.readouterr().err
    assert main(["data", "--task", "word_problems", "--train", "1", "--test", "1", "--out", str(tmp_path / "d"),
                 "--card", str(tmp_path / "none" / "card.md")]) == 2  # fmt: skip
    assert "expected a file to write to" in capsys.readouterr().err
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "word_problems").write_text("in the way", encoding="utf-8")
    assert main(["data", "--task", "two_hop", "--task", "word_problems", "--out", str(tmp_path / "d")]) == 2
    assert "expected a folder to write to" in capsys.readouterr().err
    assert [p.name for p in tmp_path.rglob("*")] == ["file", "d", "word_problems"]


@pytest.mark.parametrize(
    ("row", "message"),
    [({"id": "a", "task": "t", "split": "s", "prompt": "p"}, "none of answer"), (None, "a twice")],
)
def test_a_task_that_breaks_the_rules_leaves_what_was_there(monkeypatch, tmp_path, row, message):
    good = {"id": "a", "task": "t", "split": "test", "prompt": "p", "answer": "x"}
    broken = SimpleNamespace(__name__="broken", CARD="# broken\n", examples=lambda seed: iter([good, row or good]))
    assert not isinstance(broken, ModuleType)
    monkeypatch.setattr(data, "tasks", lambda: {"broken": broken})
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "test.jsonl").write_text("as it was", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        list(data.export(tmp_path))
    assert [p.name for p in (tmp_path / "broken").iterdir()] == ["test.jsonl"]
    assert (tmp_path / "broken" / "test.jsonl").read_text(encoding="utf-8") == "as it was"
