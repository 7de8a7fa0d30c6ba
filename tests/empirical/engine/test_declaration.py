"""Declared first: what refuses to run, what refuses to be judged, and faults that are planted and must be seen."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from empirical.engine import catalogue, declaration, sealed
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.records import (
    PREDICTIONS,
    RESULTS,
    RecordError,
    canonical,
    cell_hash,
    files,
    short_hash,
    write_json,
)
from empirical.engine.settings import Cell, Count, Table
from tests.empirical.conftest import ROOT
from tests.empirical.judged import records
from theory import provenance
from theory.provenance import git

COMMITTED = sorted((p.parent.parent.name, p.parent.name) for p in RESULTS.glob(f"*/[!s]*/{PREDICTIONS}"))
#: those that have records
RUN = [(name, profile) for name, profile in COMMITTED if files(RESULTS / name / profile)]


# ---------------------------------------------------------------- what is declared


@pytest.mark.parametrize(("name", "profile"), COMMITTED)
def test_a_declaration_is_made_without_results_and_is_the_committed_one(
    name: str, profile: str, tmp_path: Path
) -> None:
    (made,) = catalogue.declare([name], profile, tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [made]
    said, says = (json.loads(p.read_bytes()) for p in (RESULTS / name / profile / PREDICTIONS, made))
    assert declaration.same(said, says)


@pytest.mark.parametrize(("name", "profile"), RUN)
def test_records_were_made_under_a_declaration_that_was_committed_before(name: str, profile: str) -> None:
    """The file at the commit of each record has the hash that the record carries."""
    if git("rev-parse", "HEAD") is None:
        pytest.skip("no git checkout here")
    if (git("rev-parse", "--is-shallow-repository") or "").strip() == "true":
        pytest.skip("a shallow clone has no history")
    there = (RESULTS / name / profile).relative_to(ROOT).as_posix()
    pairs = {(r.commit, r.raw["declaration"]) for r in records(name, profile)}
    for commit, declared in pairs:
        text = git("show", f"{commit}:{there}/{PREDICTIONS}")
        assert text is not None, f"{commit} is not in the history, or declares nothing"
        assert short_hash(text) == declared


def ran_at(name: str, profile: str) -> tuple[str, str, Path]:
    """Hash of the declaration, a commit that records were made at, their folder."""
    said, ran = min((str(r.raw["declaration"]), str(r.commit)) for r in records(name, profile))
    return said, ran, RESULTS / name / profile


@pytest.mark.parametrize(("name", "profile"), RUN)
def test_what_is_declared_anew_is_asked_of_fresh_worlds(name: str, profile: str) -> None:
    """No world of a group in which something can be refuted had a record under an earlier declaration."""
    said, ran, folder = ran_at(name, profile)
    found = declaration.declared(said, ran, folder)
    if found is None:
        pytest.skip("the history is not here")
    declared = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))["predictions"]
    open_ = {entry["group"] for entry in declared if entry["alternative"]}
    fresh = {(r.raw["cell"].get("group", ""), r.cell.seed) for r in records(name, profile)}
    where = folder.relative_to(ROOT).as_posix()
    for commit, seen in found.replaced:
        old = short_hash(git("show", f"{commit}:{where}/{PREDICTIONS}") or "")
        added = (git("log", "--diff-filter=A", "--format=%H", f"-S{old}", ran, "--", where) or "").split()
        there = [place for at in added for place in (git("grep", "-l", old, at, "--", where) or "").split()]
        assert bool(there) == seen
        for cell in (json.loads(git("show", place) or "")["cell"] for place in there):
            assert cell.get("group", "") not in open_ or (cell.get("group", ""), cell["seed"]) not in fresh, cell


def test_the_commit_that_declared_is_the_first_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, folder = tmp_path / "there", tmp_path / "there" / "results" / "x"
    monkeypatch.setattr(provenance, "ROOT", root)
    monkeypatch.setattr(declaration, "ROOT", root)
    folder.mkdir(parents=True)

    def committed(name: str, text: str) -> str:
        (folder / name).write_text(text, encoding="utf-8")
        for command in (["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name]):
            subprocess.run(["git", "-C", str(root), *command], check=True)
        return (git("rev-parse", "HEAD") or "").strip()

    assert declaration.declared(short_hash("a"), "HEAD", folder) is None, "no repository"
    subprocess.run(["git", "-C", str(root), "init", "-q"], check=True)
    first, unseen = committed(PREDICTIONS, "a"), committed("1.json", f"a record under {short_hash('a')}")
    second, third = committed(PREDICTIONS, "b"), committed(PREDICTIONS, "c")
    last = committed("2.json", "another")
    assert declaration.declared(short_hash("a"), last, folder) == (first, [])
    assert declaration.declared(short_hash("c"), last, folder) == (third, [(first, True), (second, False)])
    assert declaration.declared(short_hash("b"), second, folder) == (second, [(first, True)])
    for said, ran in ((short_hash("b"), unseen), (short_hash("d"), last)):  # declared after the run; never
        with pytest.raises(
            RecordError, match=f"expected the declaration {said} in a commit before {ran[:7]}, got none"
        ):
            declaration.declared(said, ran, folder)
    assert declaration.declared(short_hash("a"), "0" * 40, folder) is None, "another repository"
    command = ["git", "clone", "-q", "--depth", "1", f"file://{root}", str(tmp_path / "shallow")]
    subprocess.run(command, check=True)
    for module in (provenance, declaration):
        monkeypatch.setattr(module, "ROOT", tmp_path / "shallow")
    shallow = tmp_path / "shallow" / "results" / "x"
    assert declaration.declared(short_hash("c"), last, shallow) is None, "the history ends before the declaration"


class Settings(Table):
    worlds: int = 8
    asked: int = 40


class Asked(Cell):
    pass


class Right(Table):
    right: Count
    number: float = 0.0


def run(cell: Asked, device: str) -> Right:
    return Right(right=Count(20, 40))


RIGHT = measure(Right, "right", lambda m: m.right)
NUMBER = measure(Right, "number", lambda m: m.number)
MOST = Alternative("nearly all are answered", 0.9, 0.05, 40)


def experiment(say: Callable[[Predictions], None]) -> Experiment[Settings]:
    def declare(settings: Settings) -> Predictions:
        said = Predictions()
        say(said)
        return said

    def cells(settings: Settings) -> list[Asked]:
        return [Asked(seed=i) for i in range(settings.worlds)]

    return Experiment("nothing", 1, 1, Settings, cells, [Kind(run)], declare)


def declared(say: Callable[[Predictions], None], **settings: int) -> Any:
    return declaration.complete(experiment(say), Settings(**settings), "planted", "cpu")


def test_a_file_says_what_is_predicted_what_would_refute_it_and_with_what_power() -> None:
    def say(said: Predictions) -> None:
        said.hypothesis("half", "dilution", "half", of=RIGHT, equal=0.5, within=0.2, unless=MOST, about="sum")
        said.control("some", "dilution", "some", of=RIGHT, at_least=0.1)

    half, some = declared(say)["predictions"]
    assert half == {
        "id": "half", "claim": "dilution", "kind": "hypothesis", "relation": "equal", "predicted": 0.5, "margin": 0.2,
        "of": "right", "group": "", "worlds": 8, "says": "half", "about": "sum", "family": "dilution",
        "alternative": {"says": "nearly all are answered", "mean": 0.9, "deviation": 0.05, "asked": 40}, "power": 1.0,
    }  # fmt: skip
    assert (some["alternative"], some["power"]) == (None, None)


def in_group_x(said: Predictions) -> None:
    said.group = "x"
    said.control("a", "dilution", "?", of=RIGHT, at_most=0.5)


@pytest.mark.parametrize(
    ("say", "named"),
    [
        # an alternative that four worlds of ten would miss
        (lambda s: s.hypothesis("a", "dilution", "?", of=RIGHT, at_most=0.5,
                                unless=Alternative("a little more", 0.55, 0.1, 40)), r"power of 0.8 .*got a 0\.\d"),
        # a law whose margin is larger than what it predicts: 0 would hold as well
        (lambda s: s.hypothesis("a", "dilution", "?", of=RIGHT, equal=0.1, within=0.1, unless=MOST),
         "margin below 0.1"),
        (lambda s: s.control("a", "dilution", "?", of=RIGHT, at_most=0.5, unless=MOST), "alternative .*only there"),
        (lambda s: [s.control("a", "dilution", "?", of=RIGHT, at_most=0.5) for _ in range(2)], "an id of its own"),
        # a number on a scale that nobody named
        (lambda s: s.hypothesis("a", "dilution", "?", of=NUMBER, at_most=0.5, unless=Alternative("more", 0.9, 0.1)),
         "a: step"),
        (in_group_x, r"a group of \[''\], got 'x'"),
    ],
)  # fmt: skip
def test_what_is_no_prediction_is_refused_in_one_line(say: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named) as caught:
        declared(say)
    assert "\n" not in str(caught.value)


def test_a_hypothesis_without_an_alternative_is_none() -> None:
    def say(said: Predictions) -> None:
        said.hypothesis("a", "dilution", "?", of=RIGHT, at_most=0.5)  # type: ignore[call-arg]

    with pytest.raises(ValueError, match="an alternative where it is a ceiling or hypothesis"):
        declared(say)


def test_power_falls_with_the_family_and_rises_with_worlds(tmp_path: Path) -> None:
    nearby = Alternative("a fifth more", 0.7, 0.1, 40)

    def say(count: int) -> Callable[[Predictions], None]:
        def said(s: Predictions) -> None:
            for i in range(count):
                s.hypothesis(f"h{i}", "dilution", "?", of=RIGHT, at_most=0.5, unless=nearby)

        return said

    def power(count: int, worlds: int) -> float:
        made = experiment(say(count))
        settings = Settings(worlds=worlds)
        return declaration.powers(made.declare(settings), made.planned(settings))[0] or 0.0

    assert power(40, 6) < power(1, 6) < power(1, 12)


def test_a_theorem_that_does_not_hold_is_named_as_soon_as_a_world_shows_it() -> None:
    def say(said: Predictions) -> None:
        said.exact("most", "dilution", "no number is above 1", of=NUMBER, at_most=1.0, within=0.1)
        said.exact("half", "dilution", "both halves", of=Measure("later", lambda world: None), equal=1.0)

    made = experiment(say)

    def world(number: float) -> Any:
        raw: Any = {"experiment": "e", "profile": "cpu", "metrics": {"right": [1, 2], "number": number}, "seconds": 1.0,
                    "device": "", "commit": None, "dirty": False}  # fmt: skip
        return [made.record(Asked(seed=1), raw)]

    assert made.broken(Settings(), world(1.05)) is None
    assert made.broken(Settings(), world(1.2)) == (
        "most: expected, by dilution, number at_most 1 (give or take 0.1), got 1.2"
    )


# ---------------------------------------------------------------- what may run, and what is judged


def changed(path: Path, change: Callable[[Any], None]) -> None:
    """Write JSON again with something else in it."""
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    write_json(path, found)


def judge(toy: Any, *experiments: str) -> subprocess.CompletedProcess[str]:
    """What the command says of the toy's records, or of these experiments'."""
    chosen = [word for name in experiments or ("toy",) for word in ("--experiment", name)]
    written = ("--results", str(toy.results), "--write", str(toy.folder / "judged.json"))
    done: subprocess.CompletedProcess[str] = toy.ask("judge", "--profile", "cpu", *written, *chosen)
    return done


def refused(done: subprocess.CompletedProcess[str], words: str) -> None:
    """The command ended with one line on stderr that holds the words."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert words in done.stderr


@pytest.mark.parametrize("off", [2e-16, -2e-16, 1e-9, -1e-9])
def test_the_last_digits_of_a_number_are_the_processors_and_no_others(off: float, tmp_path: Path) -> None:
    said = json.loads((RESULTS / "one_layer" / "cpu" / PREDICTIONS).read_text(encoding="utf-8"))
    (entry,) = (e for e in said["predictions"] if e["id"] == "cosine")
    entry["predicted"] *= 1 + off
    path = tmp_path / "one_layer" / "cpu" / PREDICTIONS
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(said), encoding="utf-8")
    here = catalogue.load("one_layer"), catalogue.settings("one_layer", "cpu"), "one_layer", "cpu"
    if abs(off) < 1e-12:
        declaration.read(*here, tmp_path)
    else:
        with pytest.raises(RecordError, match="got another declaration"):
            declaration.read(*here, tmp_path)


def test_nothing_runs_before_it_is_declared_or_after_the_settings_have_changed(toy: Any) -> None:
    toy.declare = lambda results=None: None  # as if nobody had
    done = toy.here()
    refused(done, "expected what is predicted, declared before the run, got no such file (python -m empirical declare")
    type(toy).declare(toy)
    toy.settle("plain", xs=(1, 2, 3, 4))
    refused(toy.here(), "expected what the experiment and its settings say now, got another declaration")
    assert toy.marks() == []
    assert toy.files() == {}


def test_a_record_carries_the_declaration_and_a_digest_of_its_metrics(toy: Any) -> None:
    assert toy.here().returncode == 0
    folder = toy.results / "toy" / "cpu"
    said = short_hash((folder / PREDICTIONS).read_text(encoding="utf-8"))
    for path in files(folder):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["declaration"] == said
        assert record["digest"] == short_hash(canonical(record["metrics"]))
        assert record["sealed"] is None
    assert {row["declared"] for row in toy.table()} == {said}


def test_planted_faults_are_one_line_each(toy: Any) -> None:
    assert toy.here().returncode == 0
    folder = toy.results / "toy" / "cpu"
    kept = toy.folder / "kept"
    shutil.copytree(folder, kept)

    def again() -> Path:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        return files(folder)[0]

    assert judge(toy).returncode == 0

    changed(folder / PREDICTIONS, lambda found: found["predictions"][0].update(predicted=0.4))
    refused(judge(toy), "expected what the experiment and its settings say now")

    victim = again()
    changed(victim, lambda found: found.update(declaration="0" * 16))
    refused(judge(toy), "judged under another declaration: 0000000000000000")

    victim = again()
    changed(victim, lambda found: found["metrics"].update(right=[1 - found["metrics"]["right"][0], 2]))
    refused(judge(toy), f"{victim.name}: expected metrics of digest")

    def without(found: Any) -> None:
        del found["metrics"]["right"]
        found["digest"] = short_hash(canonical(found["metrics"]))

    victim = again()
    changed(victim, without)
    refused(judge(toy), "expected right in the record, got: KeyError 'right' (delete it")

    victim = again()
    victim.write_text(victim.read_text(encoding="utf-8")[:60], encoding="utf-8")
    refused(judge(toy), f"{victim.name}: expected a whole JSON record")

    again().unlink()
    refused(judge(toy), "toy: 2 of 3 worlds: not judged yet")

    again()
    (folder / PREDICTIONS).unlink()
    refused(judge(toy), "got none and records judged under another declaration")


def test_other_experiments_go_on(toy: Any) -> None:
    shutil.copytree(toy.folder / "toy", toy.folder / "other")
    assert toy.here("--experiment", "other").returncode == 0
    files(toy.results / "toy" / "cpu")[0].write_text("{", encoding="utf-8")
    done = judge(toy, "toy", "other")
    assert done.returncode == 1
    assert "toy: not judged: " in done.stdout
    assert [r["experiment"] for r in json.loads((toy.folder / "judged.json").read_text())["predictions"]] == ["other"]
    toy.forget()
    files(toy.results / "other" / "cpu")[0].unlink()
    done = toy.here("--experiment", "other")
    assert done.returncode == 1
    assert "left out: " in done.stdout
    assert len(toy.marks()) == 1, "the cell of the other that was missing"


def test_all_that_is_asked_for_is_declared_or_nothing(toy: Any) -> None:
    shutil.copytree(toy.folder / "toy", toy.folder / "other")
    toy.results.mkdir()
    (toy.results / "other").write_text("in the way", encoding="utf-8")
    for second, words in (("nope", "experiment: expected one of"), ("other", "expected a folder to write to")):
        given = ("--experiment", "toy", "--experiment", second, "--profile", "cpu", "--results", str(toy.results))
        refused(toy.ask("declare", *given), words)
        assert [p.name for p in toy.results.rglob("*")] == ["other"]


def test_an_experiment_that_is_named_twice_is_taken_once(toy: Any) -> None:
    done = toy.here("--experiment", "toy")
    assert "3 to run" in done.stdout
    assert toy.marks() == ["1-0", "2-0", "3-0"]
    assert judge(toy, "toy", "toy").returncode == 0
    assert len(json.loads((toy.folder / "judged.json").read_text(encoding="utf-8"))["predictions"]) == 1


WORLDS = """
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.predictions import Predictions, Measure
from empirical.engine.sealed import seal
from empirical.engine.settings import Cell, Count, Table
class Settings(Table):
    seeds: tuple[int, ...]
def cells(settings):
    return [Cell(seed=s) for s in settings.seeds]
def run(cell: Cell, device: str) -> dict[str, object]:
    law = seal("foretold.law", {"placed": 0.25})
    return {"right": [cell.seed % 2, 4], "foretold": {"law": LAW}}
def declare(settings):
    said = Predictions()
    right = Measure("right", lambda world: Count(*world[0].metrics["right"]))
    said.exact("rates", "additive_limit", "rates are rates", of=right, at_most=BOUND)
    said.control("few", "additive_limit", "few are right", of=right, at_most=0.9)
    return said
experiment = Experiment(purpose="Seals", order=98, protocol=1, settings=Settings, cells=cells, kinds=[Kind(run)],
                        declare=declare)
"""


def sealing(toy: Any, law: str = "law", bound: str = "1.0", seeds: tuple[int, ...] = (1, 2, 3, 4)) -> Path:
    """An experiment that seals, in place of the toy; returns the folder of its records."""
    text = WORLDS.replace("LAW", law).replace("BOUND", bound)
    (toy.folder / "toy" / "run.py").write_text(text, encoding="utf-8")
    common = f"[common]\nseeds = {list(seeds)}\n[smoke]\n[cpu]\n[gpu]\n"
    (toy.folder / "toy" / "settings.toml").write_text(common, encoding="utf-8")
    return Path(toy.results / "toy" / "cpu")


def test_a_fifth_world_that_is_added_after_four_is_not_judged(toy: Any) -> None:
    folder = sealing(toy)
    assert toy.here().returncode == 0
    with_four = judge(toy)
    assert with_four.returncode == 0
    declared_four = (folder / PREDICTIONS).read_text(encoding="utf-8")
    kept = {p.name: p.read_text(encoding="utf-8") for p in files(folder)}

    # the settings are changed and declared again: what ran under the first declaration is not judged under the second
    sealing(toy, seeds=(1, 2, 3, 4, 5))
    toy.here()
    assert len(files(folder)) == 5
    refused(judge(toy), "judged under another declaration")

    # or the plan is put back: the fifth lies beside those that were planned
    sealing(toy)
    (folder / PREDICTIONS).write_text(declared_four, encoding="utf-8")
    line = "toy: not judged: expected the 4 worlds that are planned, got others beside them of seeds [5]"
    refused(judge(toy), line)
    assert {p.name: p.read_text(encoding="utf-8") for p in files(folder)}.items() > kept.items()


def test_a_broken_theorem_stops_its_cell_and_leaves_no_record(toy: Any) -> None:
    folder = sealing(toy, bound="0.1")
    done = toy.here()
    assert done.returncode == 1
    assert "a theorem does not hold here: rates: expected, by additive_limit, right at_most 0.1" in done.stdout
    assert sorted(json.loads(p.read_text())["cell"]["seed"] for p in files(folder)) == [2, 4]


def test_what_is_sealed_lies_on_the_disk_and_a_record_holds_to_it(toy: Any) -> None:
    folder = sealing(toy)
    assert toy.here().returncode == 0
    for path in files(folder):
        text = (folder / "sealed" / path.name).read_text(encoding="utf-8")
        assert text == '{"name":"foretold.law","value":{"placed":0.25}}\n'
        assert json.loads(path.read_text(encoding="utf-8"))["sealed"] == short_hash(text)
    victim = files(folder)[0]
    mark = folder / "sealed" / victim.name
    mark.write_text(mark.read_text(encoding="utf-8").replace("0.25", "0.35"), encoding="utf-8")
    refused(judge(toy), "that the record has, got another")

    def both(found: Any) -> None:
        found["sealed"] = short_hash(mark.read_text(encoding="utf-8"))

    changed(victim, both)
    refused(judge(toy), "expected foretold.law as it was sealed, got another value")


def test_a_second_attempt_seals_beside_the_first_and_a_changed_value_fails_the_cell(toy: Any) -> None:
    folder = sealing(toy, law='{"placed": 0.5}')
    done = toy.here()
    assert done.returncode == 1
    assert "expected foretold.law as it was sealed, got another value" in done.stdout
    assert files(folder) == []
    first = {p.name: p.read_bytes() for p in (folder / "sealed").iterdir()}
    assert len(first) == 4
    sealing(toy)
    assert toy.here().returncode == 0
    assert {p.name: p.read_bytes() for p in (folder / "sealed").iterdir()}.items() > first.items()
    assert len(list((folder / "sealed").glob("*.2.json"))) == 4
    assert judge(toy).returncode == 0


def test_what_was_sealed_on_another_machine_is_written_by_the_driver(tmp_path: Path) -> None:
    record = tmp_path / "toy" / "cpu" / f"{'0' * 16}.json"
    with sealed.sealing(sealed.sealed_path(record)) as there:  # no such results folder on that machine
        assert sealed.seal("law", {"placed": 0.25}) == {"placed": 0.25}
    assert not (tmp_path / "toy").exists()
    mark = sealed.secure(record, there.text)
    assert mark == short_hash(there.text)
    assert sealed.secure(record, there.text) == mark, "once"
    assert [p.name for p in (tmp_path / "toy" / "cpu" / "sealed").iterdir()] == [record.name]
    assert sealed.find(record, mark) == there.text
    assert sealed.secure(record, "") is None
    sealed.check(there.text, {"law": {"placed": 0.25}}, "metrics")
    for metrics in ({}, {"law": {"placed": 0.26}}, {"law": 3}):
        with pytest.raises(ValueError, match="expected law as it was sealed"):
            sealed.check(there.text, metrics, "metrics")


def test_what_was_edited_is_named_and_other_experiments_go_on(toy: Any) -> None:
    folder = sealing(toy)
    shutil.copytree(toy.folder / "toy", toy.folder / "other")
    assert toy.here("--experiment", "other").returncode == 0
    victim = files(folder)[0]
    whole = victim.read_bytes()
    found = json.loads(whole)

    def edited(**fields: Any) -> bytes:
        return json.dumps(found | fields).encode()

    def stranger(**seed: Any) -> tuple[str, bytes]:
        cell = {k: v for k, v in found["cell"].items() if k != "seed"} | seed
        return f"{cell_hash('toy', 1, cell)}.json", edited(cell=cell)

    mark = f"sealed/{victim.name}"
    noted = b'{"name": 5}'
    for name, content in (
        *((victim.name, edited(**{field: value})) for field, values in {
            "cell": ([1], None), "metrics": ([1], None, {"right": float("nan")}), "declaration": (["a"],),
            "device": (["a"], None), "seconds": (None, [1], "x", float("inf")), "experiment": (None,),
            "sealed": (5,), "commit": (5,),
        }.items() for value in values),
        (victim.name, b'{"a":' * 100_000),
        (victim.name, whole.replace(b'"right"', b'"more": %s, "right"' % (b"1" * 5000))),
        stranger(), stranger(seed="abc"), stranger(seed=1.5), ("stranger.json", b"{"),
        (PREDICTIONS, b"[" * 100_000), (PREDICTIONS, b'{"a":' * 100_000), (mark, b"\xff"), (mark, noted),
    ):  # fmt: skip
        path = folder / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        if content is noted:
            victim.write_bytes(edited(sealed=short_hash(noted.decode())))
        done = judge(toy, "toy", "other")
        assert (done.returncode, done.stderr) == (1, ""), content[:500]
        (line,) = [line for line in done.stdout.splitlines() if line.startswith("toy: not judged: ")]
        assert path.name in line, content[:500]
        assert {r["experiment"] for r in json.loads((toy.folder / "judged.json").read_text())["predictions"]} == {
            "other"
        }
        path.unlink() if before is None else path.write_bytes(before)
        victim.write_bytes(whole)
    assert judge(toy, "toy", "other").returncode == 0
