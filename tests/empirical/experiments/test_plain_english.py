"""What models answer is asked once: kept by what they are made of, and taken from there bit for bit."""

import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import empirical.reuse
from empirical.engine import catalogue
from empirical.engine.settings import as_json
from empirical.experiments import plain_english, pretrained
from empirical.experiments.plain_english import ANSWERING, WorldRun
from empirical.experiments.plain_english_tables import WorldCell
from empirical.training.store import CODE, Storage, storing

MERGE = f"{Path(__file__).resolve().parents[3]}/examples/my_merge.py:merge"


def cell(**changes: Any) -> WorldCell:
    few = {"experts": ["first_all", "second_all"], "sums": ["all+all"], "libraries": ["all+all"]}
    settings = catalogue.settings("entities_library", "smoke").but(
        steps=2, batch=4, methods=["mean", "arrow_top1"], **few
    )
    (found,) = plain_english.world_cells(settings)
    return found.but(**changes)


class Counted:
    """A world that is run with what is kept in a folder, and the models that were asked there."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.asked = folder, 0
        reply = WorldRun.reply

        def counting(run: WorldRun, *args: Any) -> Any:
            self.asked += 1
            return reply(run, *args)

        monkeypatch.setattr(WorldRun, "reply", counting)

    def run(self, one: WorldCell) -> tuple[int, Any]:
        self.asked = 0
        with storing(Storage(self.folder, "CPU: a test")):
            metrics = plain_english.run_world(one, "cpu")
        return self.asked, as_json(metrics)


def test_a_method_of_ones_own_asks_one_model_where_the_others_were_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Counted(tmp_path, monkeypatch)
    every, first = world.run(cell())
    assert every == len(first["answered"])
    assert world.run(cell()) == (0, first)
    own = catalogue.user_method(MERGE)
    for methods in (["mean", "arrow_top1"], []):  # what may draw from anywhere is asked every time
        asked, beside = world.run(cell(user_method=own, methods=methods))
        assert asked == 1
        for part in ("answered", "merging"):
            assert beside[part].pop("own:all+all")
            kept = {name: value for name, value in first[part].items() if name in beside[part]}
            assert beside[part] == kept
            assert len(kept) == len(first[part]) - 2 + len(methods)
    with pytest.raises(ValueError, match="got another text"):
        world.run(cell(user_method=own.but(sha256="0" * 64), methods=[]))


def test_another_world_question_method_or_line_of_code_is_asked_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Counted(tmp_path, monkeypatch)
    every, _ = world.run(cell())
    assert world.run(cell(density=0.25))[0] == 2  # what methods are told; experts and plain sums are as before
    assert world.run(cell(methods=["mean", "ties"]))[0] == 1
    assert world.run(cell(apart=3))[0] == every
    assert world.run(cell(steps=3))[0] == every - 1  # other experts, the same base
    answer = pretrained.Reader.answer
    with monkeypatch.context() as patch:  # another tokenizer under the same weights
        patch.setattr(pretrained.Reader, "answer", lambda reader, text: [*answer(reader, text)[:-1], 1])
        assert world.run(cell())[0] == every
    monkeypatch.setattr(plain_english, "code", lambda *names: ["another"])
    assert world.run(cell())[0] == every


def test_all_code_that_reuses_and_asks_counts() -> None:
    reuse = {m.name for m in pkgutil.iter_modules(empirical.reuse.__path__, "empirical.reuse.")}
    assert reuse - {"empirical.reuse.__main__"} <= set(ANSWERING)
    assert not set(ANSWERING) & set(CODE), "told once"


def test_what_the_untouched_base_knows_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "survey", cache(pretrained.survey.__wrapped__))
    first = pretrained.survey(pretrained.SCRATCH, "cpu")
    pretrained.survey.cache_clear()
    with storing(Storage(tmp_path, "CPU: a test")):
        kept = pretrained.survey(pretrained.SCRATCH, "cpu")
        pretrained.survey.cache_clear()
        monkeypatch.setattr(pretrained, "_surveyed", None)
        again = pretrained.survey(pretrained.SCRATCH, "cpu")
    for found in (kept, again):
        for field, expected in first._asdict().items():
            value = getattr(found, field)
            if field in ("rehearsed", "apart"):
                assert all((a == b).all() and a.dtype == b.dtype for a, b in zip(value, expected, strict=True))
            else:
                assert value == expected
                assert type(value) is type(expected)
