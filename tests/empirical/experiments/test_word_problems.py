"""Word problems: one right answer each, splits that do not meet, and one tiny world through every path."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.engine.catalogue import settings as config
from empirical.engine.records import Record
from empirical.engine.sealed import check, seal, sealing
from empirical.engine.settings import UserMethod, as_json
from empirical.experiments.word_problems import figures
from empirical.experiments.word_problems import predictions as experiment_predictions
from empirical.experiments.word_problems import run as experiment
from empirical.experiments.word_problems.tables import Settings
from empirical.reuse.methods import METHODS, asks
from empirical.tasks import word_problems as task
from empirical.tasks.sentences import Ragged, Sentences
from empirical.training.bases import BaseShape, scratch_base
from tests.empirical.experiments.live import live, spoilt, verdicts
from tests.empirical.judged import records
from theory.composition import coverage_law

METHODS_ASKED = ("mean", "ties", "arrow_top1")
TINY = {
    "width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "base_rows": 40, "base_steps": 6, "base_batch": 16,
    "adapter_rows": 30, "adapter_steps": 2, "both_steps": 2, "adapter_batch": 8, "rank": 2, "questions": 24,
    "methods": METHODS_ASKED,
}  # fmt: skip
MERGE = Path("examples/my_merge.py")
OWN = UserMethod(reference=f"{MERGE}:merge", sha256=hashlib.sha256(MERGE.read_bytes()).hexdigest())


def tiny(**changes: Any) -> Settings:
    found: Settings = config("word_problems", "smoke").but(**{**TINY, **changes})
    return found


@pytest.fixture(scope="module")
def record() -> Record:
    """A tiny world, with a method of the user's own."""
    return live("word_problems", experiment.cells(tiny())[0].but(user_method=OWN))


# ------------------------------------------------------------ the task


def solve(text):
    """The answer of a problem by its text alone; what the words mean is written down here a second time."""
    first, *clauses = [c.strip() for c in text.removesuffix("how many ?").strip().split(".") if c.strip()]
    number = int(first.split()[2])
    for clause in clauses:
        words = clause.split()
        digit = int(next(w for w in words if w.isdigit()))
        if "full" in words or {"of", "the", "tens"} <= set(words):
            number -= 10 * digit
        elif "ten" in words or "tens" in words:
            number += 10 * digit
        elif {"more", "another", "also"} & set(words):
            number += digit
        else:
            number -= digit
    return number


cell_names = st.sampled_from(sorted(task.CELLS))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), cell_names, st.sampled_from(["train", "test"]))
def test_every_question_has_one_right_answer(seed, cell, split):
    sequences, lure = task.CELLS[cell]
    for p in task.World(seed).problems(sequences, 6, split, "x", lure):
        text = task.plain([*task.story(p), "how", "many", "?"])
        assert solve(text) == p.numbers[-1]
        assert all(0 <= n <= task.LARGEST for n in p.numbers)
        assert tuple(c.skill for c in p.clauses) in set(sequences)
        facts = re.findall(r"(\d+) ([-+tu]) (\d+) = (\d+) [;.]", task.plain(task.steps(p)))
        assert len(facts) == len(p.clauses)
        number = p.numbers[0]
        for a, sign, b, result in facts:
            assert int(a) == number
            number = {"+": number + int(b), "-": number - int(b), "t": number + 10 * int(b), "u": number - 10 * int(b)}[
                sign
            ]
            assert int(result) == number
        assert number == p.numbers[-1]


def read_back(rows: Sentences | Ragged) -> Iterator[tuple[list[str], list[str]]]:
    """(words of the whole row, words of the answer) of every row."""
    assert isinstance(rows, Ragged)
    for i, length in enumerate(rows.lengths):
        words = [task.WORDS[t] for t in rows.tokens[i, :length]]
        yield words, [task.WORDS[t] for t in rows.tokens[i][rows.answers[i]]]


def test_rows_say_what_the_problem_says():
    problems = task.World(3).problems([("add", "box")], 8, "train", "x")
    for p, (words, answer), (chain, written), (_, read) in zip(
        problems, read_back(task.direct(problems)), read_back(task.worked(problems)),
        read_back(task.reading(problems)), strict=True,
    ):  # fmt: skip
        assert "".join(answer) == f"{p.numbers[-1]:02d}"
        assert words[:-2] == [*task.story(p), "?"]
        assert written == task.steps(p)
        assert len(written) == 2 * task.STEP
        assert chain[: -len(written)] == [*task.story(p), "#"]
        assert "".join(read) in (f"{p.numbers[0]:02d}", str(p.clauses[-1].digit))


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6))
def test_names_numbers_and_templates_of_the_test_are_in_no_training_text(seed):
    world = task.World(seed)
    shown = [p.sentences for p in world.pretraining(25)]
    for sequences in experiment.EXPERTS["mixed"]:
        shown += [p.sentences for p in world.lesson(sequences, 25, "x", 1.0)]
    names, starts, templates = set(), set(), set()
    for rows in shown:
        for words, _ in read_back(rows):
            if words[1] == "has":
                text = task.plain(words)
                names.add(words[0])
                starts.add(int(text.split()[2]))
                templates |= used(words)
    for cell, (sequences, lure) in task.CELLS.items():
        asked = world.problems(sequences, 25, "test", f"ask {cell}", lure)
        assert not names & {p.name for p in asked}
        assert not starts & {p.numbers[0] for p in asked}
        for p in asked:
            own = used(task.story(p))
            assert own == {(task.SKILLS[c.skill].frames[c.frame], c.verb) for c in p.clauses}
            assert not templates & own
    assert len(names) > 10
    assert len(starts) > 40


def pattern(frame):
    text = re.escape(frame.removesuffix(" .")).replace(r"\{n\}", r"\w+").replace(r"\{i\}", r"\w+")
    return re.compile(text.replace(r"\{k\}", r"\d").replace(r"\{v\}", r"(\w+)"))


FRAMES = {frame: pattern(frame) for skill in task.SKILLS.values() for frame in skill.frames}


def used(words):
    """(frame, verb) pairs of a story, found by holding every frame against the text of each clause."""
    _, *clauses = " ".join(words).split(" . ")
    found = set()
    for clause in clauses:
        for frame, form in FRAMES.items():
            match = form.fullmatch(clause.removesuffix(" ."))
            if match:
                found.add((frame, match.group(1)))
    return found


def test_base_meets_the_new_skills_only_in_questions_that_need_none():
    world = task.World(5)
    new = {w for s in task.NEW for w in task.SKILLS[s].verbs}
    lengths = set()
    for part in world.pretraining(60):
        for words, _ in read_back(part.sentences):
            if new & set(words):
                assert words[-2 if words[-2] == "said" else -3] in ("said", "at_first")
            elif "?" in words:
                lengths.add(words[: words.index("?")].count(".") - 1)
    assert lengths == {1, 2, 3}


def test_experts_see_their_skill_alone_and_beside_known_clauses_and_only_some_see_both():
    new = {name: {tuple(s for s in sequence if s in task.NEW) for lesson in lessons for sequence in lesson}
           for name, lessons in experiment.EXPERTS.items()}  # fmt: skip
    a, b = {("add",)}, {("box",)}
    assert new == {"A": a, "B": b, "joint": a | b, "mixed": {*a, *b, ("add", "box"), ("box", "add")}}
    beside = task.beside("add", 2)
    assert sorted(beside) == sorted((*task.pairs(("add",), task.KNOWN), *task.pairs(task.KNOWN, ("add",))))
    assert sorted(s for lesson in experiment.EXPERTS["A"] for s in lesson) == sorted([("add",), *beside])
    assert len(set(task.beside("box", 3))) == 12
    # no expert is shown what is asked of three clauses
    assert max(len(s) for lessons in experiment.EXPERTS.values() for lesson in lessons for s in lesson) == 2


def test_lures_have_the_frame_of_one_skill_and_a_verb_of_the_other():
    world = task.World(1)
    for skill, other in (("add", "box"), ("box", "add")):
        for p in world.problems([(skill,)], 20, "test", "x", lure=True):
            assert p.clauses[0].verb in task.SKILLS[other].verbs
            assert task.by_verb(p) == task.SKILLS[other].apply(p.numbers[0], p.clauses[0].digit)
    plain = world.problems([("add",)], 5, "test", "x")
    assert all(task.by_verb(p) == p.numbers[-1] for p in plain)


def test_streams_differ_and_repeat():
    world, again, other = task.World(1), task.World(1), task.World(2)
    assert world.problems([("add",)], 9, "test", "x") == again.problems([("add",)], 9, "test", "x")
    assert world.problems([("add",)], 9, "test", "x") != world.problems([("add",)], 9, "test", "y")
    assert world.names != other.names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([("ad",)], 1, "test", "x"), "skill: expected one of"),
        (([], 1, "test", "x"), "skills: expected at least one"),
        (([("add",)], 1, "dev", "x"), "split: expected one of train, test"),
        (([("add",)], -1, "test", "x"), "count: expected an integer >= 0"),
        (([("ship",)], 1, "test", "x", True), "skill: expected one of add, box"),
    ],
)
def test_bad_requests_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        task.World(0).problems(*arguments)


# ------------------------------------------------------------ the grid


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_worlds_are_fresh_and_every_method_that_needs_no_general_adapters_is_asked(profile: str) -> None:
    found = config("word_problems", profile)
    grid = experiment.cells(found)
    seeds = {c.seed for c in grid}
    assert len(seeds) == len(grid) == found.worlds
    assert not seeds & {*range(100), *range(100, 106), *range(200, 203), *range(400, 406)}  # calibrated on, or judged
    if profile != "smoke":
        asked = {m for m in METHODS if "general" not in asks(m) and m not in ("sum", "random", "cat")}
        assert asked <= set(found.methods)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("summ",)}, "method: expected one of"),
        ({"methods": ("arrow_top1_subtract",)}, "methods: expected none that needs general adapters"),
        ({"questions": 0}, "questions: expected greater than or equal to 1, got 0"),
        ({"worlds": 1.5}, "worlds: expected a valid integer"),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment.cells(tiny(**changes))


# ------------------------------------------------------------ a world


def test_every_condition_is_scored_in_every_cell(record: Record) -> None:
    scores, asked = record.metrics.scores, TINY["questions"]
    whole = {"base", *experiment.EXPERTS, "sum", "random_first"}
    assert set(scores) == {*whole, *METHODS_ASKED, "own"}
    for name, counts in scores.items():
        assert all(0 <= k <= n for k, n in counts.values())
        cells = task.CELLS if name in whole else experiment.REUSE
        assert all(counts[c].asked == asked for c in cells)
        for order in experiment.BOTH:  # kinds of answers exclude one another
            assert sum(counts[f"{order}{kind}"].right for kind in figures.KINDS) <= asked
    # a lure is right by its frame or answered by its verb, never both
    for counts in (scores[n] for n in whole):
        for lure in ("lure_A", "lure_B"):
            assert counts[f"{lure}_clear"].right + counts[f"{lure}_verb"].right <= counts[f"{lure}_clear"].asked
    assert set(record.metrics.chains) == whole


def test_another_text_of_the_method_is_refused() -> None:
    cell = experiment.cells(tiny(methods=()))[0]
    with pytest.raises(ValueError, match="got another text"):
        live("word_problems", cell.but(user_method=OWN.but(sha256="0" * 64)))


def test_what_is_foretold_is_read_off_the_single_experts_and_sealed_before_any_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    ask = experiment.WorldRun.ask

    def heard(self: Any, name: str, model: Any, cells: Any) -> Any:
        events.append(name)
        return ask(self, name, model, cells)

    monkeypatch.setattr(experiment.WorldRun, "ask", heard)
    with sealing(None) as sealed:
        monkeypatch.setattr(experiment, "seal", lambda name, value: (events.append("sealed"), seal(name, value))[1])
        metrics = experiment.run(experiment.cells(tiny(methods=("mean",)))[0], "cpu")
    assert events == ["base", *experiment.EXPERTS, "sealed", "sealed", "sum", "random_first", "mean"]
    written: Any = as_json(metrics)
    check(sealed.text, written, "here")
    for order, (one, two) in {"AB": ("A_known", "known_B"), "BA": ("B_known", "known_A")}.items():
        shares = metrics.scores[order[0]][one].rate, metrics.scores[order[1]][two].rate
        assert metrics.predicted.coverage_law[order].low == coverage_law(1.0, *shares, 100).low
        alone = [metrics.scores[e][order].right for e in ("base", "A", "B")]
        assert max(alone) <= metrics.predicted.oracle[order].right <= sum(alone)


def test_kinds_of_answers_are_told_apart() -> None:
    """Planted answers: both clauses, the first alone, the second alone, the start, and what is no number."""
    asked = task.World(0).problems([("add", "box"), ("box", "add")], 20, "test", "x")
    second = [p.numbers[0] + p.numbers[2] - p.numbers[1] for p in asked]  # no digit is carried, so that order is none
    planted = {"": [p.numbers[2] for p in asked], "first": [p.numbers[1] for p in asked], "second": second,
               "neither": [p.numbers[0] for p in asked]}  # fmt: skip
    for kind, numbers in planted.items():
        written = np.array([task.tokens(task.digits(n)) for n in numbers])
        found = experiment.kinds(asked, written)
        assert {k: c.right for k, c in found.items()} == {k: 20 * (k == kind) for k in ("first", "second", "neither")}
    words = np.array([task.tokens(["apples", "."])] * 20)
    assert all(count.right == 0 for count in experiment.kinds(asked, words).values())


def test_predictions_are_judged_and_a_wrong_outcome_is_violated(record: Record) -> None:
    found = verdicts("word_problems", tiny(), [record])
    assert all(verdict == "holds" for kind, verdict in found.values() if kind == "exact")
    # an untrained base knows nothing, and the judge says so
    assert found["bare"][1] != "holds"
    wrong = spoilt(record, "chains", "sum", "AB", "first", to=[24, 24])
    wrong = spoilt(wrong, "chains", "sum", "AB", "second", to=[24, 24])
    assert verdicts("word_problems", tiny(), [wrong])["chain.bound"][1] == "violated"


# ------------------------------------------------------------ asking


def test_a_greedy_run_is_what_teacher_forcing_says():
    """On a model that answers some rows and not others: rows whose every token is the model's choice, and no others,
    are written out as they stand."""
    world = task.World(0)
    problems = world.problems([("add", "box"), ("box", "add")], 30, "train", "x")
    base = scratch_base(BaseShape(len(task.WORDS), width=16, layers=2, heads=2, feed_forward=24, positions=80), 0)
    rows = task.worked(problems)
    written = experiment.write_on(base, rows, 2 * task.STEP)
    starts = rows.answers.argmax(axis=1)
    half = rows.tokens.copy()
    for i, start in enumerate(starts):
        if i % 2:  # these rows now ask for what the model writes
            half[i, start : start + 2 * task.STEP] = written[i]
    right = experiment.answered(base, Ragged(half, rows.lengths, rows.answers)).all(axis=1)
    same = np.array([(half[i, s : s + 2 * task.STEP] == written[i]).all() for i, s in enumerate(starts)])
    assert isinstance(right, np.ndarray)
    assert (right == same).all()
    assert right[1::2].all()
    assert not right[::2].all()


def test_prompts_end_before_the_answer():
    """What is written does not depend on the right answer, which the tape must not hold."""
    world = task.World(0)
    problems = world.problems([("add", "box")], 6, "train", "x")
    base = scratch_base(BaseShape(len(task.WORDS), width=16, layers=2, heads=2, feed_forward=24, positions=80), 0)
    rows = task.worked(problems)
    other = rows.tokens.copy()
    other[rows.answers] = 0
    first = experiment.write_on(base, rows, 5)
    assert (first == experiment.write_on(base, Ragged(other, rows.lengths, rows.answers), 5)).all()


def test_the_longest_problem_fits():
    longest = max(len(f.split()) for s in task.SKILLS.values() for f in s.frames)
    assert 6 + 3 * longest + 1 + 3 * task.STEP <= experiment.POSITIONS
    assert torch.is_tensor(scratch_base(BaseShape(len(task.WORDS), width=8, heads=2, layers=1), 0).lm_head.weight)


# ------------------------------------------------------------ figures


def test_figures_show_what_was_predicted(record: Record) -> None:
    drawn = figures.hops_figure([record], [])
    assert drawn is not None
    lines = {line.get_gid(): line for axis in drawn.axes for line in axis.lines if line.get_gid()}
    height = float(np.asarray(lines["oracle.AB"].get_ydata())[0])
    assert height == pytest.approx(record.metrics.predicted.oracle["AB"].rate, rel=1e-12)


def test_the_product_of_worked_steps_fails_where_the_end_is_reached_past_a_wrong_first_step() -> None:
    """The explanation of `chain.joint` and `chain.mixed`, in the committed worlds."""
    off, past = {}, {}
    for model in ("joint", "mixed"):
        for world in records("word_problems", "cpu"):
            steps, key = world.metrics.chains[model].values(), (model, world.cell.seed)
            product = np.mean([c.first.rate * c.second.rate for c in steps])
            off[key] = abs(np.mean([c.reached.rate for c in steps]) - product) > experiment_predictions.MARGIN
            past[key] = max(c.reached.rate - c.first.rate for c in steps) > experiment_predictions.MARGIN
    assert off == past
    assert {key for key, there in off.items() if there} == {("joint", 701), ("joint", 709), ("mixed", 701)}


def test_on_the_gpu_too_the_product_is_off_where_the_first_step_is_wrong() -> None:
    """The explanation of `chain.joint`."""
    steps = [c for world in records("word_problems", "gpu") for c in world.metrics.chains["joint"].values()]
    off = [(c.reached.rate - c.first.rate * c.second.rate, c.first.rate >= 0.9) for c in steps]
    right, wrong = ([x for x, firm in off if firm is side] for side in (True, False))
    assert [round(float(np.mean(x)), 2) for x in (right, wrong)] == [0.05, 0.13]  # as explained.toml has it
