"""Word problems: one right answer each, splits that do not meet, and one tiny world through every path."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.engine.catalogue import settings as config
from empirical.engine.eager import seal
from empirical.engine.records import Record
from empirical.engine.settings import Count, UserMethod, as_json
from empirical.experiments.word_problems import figures
from empirical.experiments.word_problems import run as experiment
from empirical.experiments.word_problems.tables import Settings
from empirical.tasks import word_problems as task
from empirical.tasks.sentences import Ragged, Sentences
from empirical.training.bases import BaseShape, scratch_base
from tests.empirical.experiments.live import live, spoilt, verdicts
from theory.composition import chain_of_thought, coverage_law
from theory.numerics import stream

TINY = {
    "width": 16, "layers": 2, "heads": 2, "feed_forward": 24, "base_rows": 40, "base_steps": 6, "base_batch": 16,
    "adapter_rows": 30, "adapter_steps": 2, "adapter_batch": 8, "rank": 2, "questions": 24,
    "methods": ("mean", "ties", "arrow_top1"),
}  # fmt: skip
OWN = UserMethod(reference="examples/my_merge.py:merge", sha256="0" * 64)


def tiny(**changes: Any) -> Settings:
    found: Settings = config("word_problems", "smoke").but(**{**TINY, **changes})
    return found


@pytest.fixture(scope="module")
def records() -> list[Record]:
    """Every cell of the tiny grid, with a method of the user's own."""
    return [live("word_problems", cell.but(user_method=OWN)) for cell in experiment.cells(tiny())]


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
    shown = [p.sentences for p in world.pretraining(True, 25)]
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
    for composed in (True, False):
        most = 0
        for part in world.pretraining(composed, 60):
            for words, _ in read_back(part.sentences):
                if new & set(words):
                    assert words[-2 if words[-2] == "said" else -3] in ("said", "at_first")
                elif "?" in words:
                    most = max(most, words[: words.index("?")].count(".") - 1)
        assert most == (2 if composed else 1)


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
def test_the_two_groups_are_compared_world_by_world(profile: str) -> None:
    grid = experiment.cells(config("word_problems", profile))
    assert min(c.seed for c in grid) >= 100  # seeds below 100 were used for calibration
    seeds = {g: {c.seed for c in grid if getattr(c, "group", None) == g} for g in ("composed", "single", "live")}
    assert seeds["composed"] >= seeds["single"] > set()
    assert profile != "cpu" or len(seeds["live"]) >= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("summ",)}, "method: expected one of"),
        ({"questions": 0}, "questions: expected greater than or equal to 1, got 0"),
        ({"experts": ("A", "joint")}, "experts: expected A and B among them"),
        ({"groups": [{"name": "a", "composed": True, "worlds": 1}]}, r"expected the key groups\.0\.first_seed"),
        (
            {"groups": [{"name": "a", "composed": 1, "worlds": 1, "first_seed": 0}]},
            "composed: expected a valid boolean",
        ),
    ],
)
def test_bad_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        experiment.cells(tiny(**changes))


# ------------------------------------------------------------ a world


def test_every_condition_is_scored_in_every_cell(records: list[Record]) -> None:
    for record in records:
        scores = record.metrics.scores
        assert set(scores) == {"base", *experiment.EXPERTS, "sum", "random_first", "mean", "ties", "arrow_top1", "own"}
        for counts in scores.values():
            assert set(counts) >= set(task.CELLS) | {"worked_A", "worked_AB", "bare", "lure_A_verb"}
            assert all(0 <= k <= n for k, n in counts.values())
            assert all(counts[c].asked == TINY["questions"] for c in task.CELLS)
        # a lure is right by its frame or answered by its verb, never both
        assert all(c[f"lure_{s}_clear"].right + c[f"lure_{s}_verb"].right <= c[f"lure_{s}_clear"].asked
                   for c in scores.values() for s in "AB")  # fmt: skip


def test_predictions_are_read_off_the_single_experts(records: list[Record]) -> None:
    for record in records:
        scores, predicted = record.metrics.scores, record.metrics.predicted
        for cell, (one, two) in {"AB": ("A_known", "known_B"), "BA": ("B_known", "known_A")}.items():
            shares = scores[cell[0]][one].rate, scores[cell[1]][two].rate
            low = coverage_law(float(record.cell.composed), *shares, 100).low
            assert predicted.coverage_law.value[cell].low == low
            alone = [scores[e][cell].rate for e in ("base", "A", "B")]
            assert max(alone) <= predicted.oracle.value[cell] <= sum(alone)
        for chain in record.metrics.chains.values():
            assert seal(chain.predicted.value).sha256 == chain.predicted.sha256
            for steps in chain.predicted.value.values():
                law = chain_of_thought(steps.s1.rate, steps.s2.rate)
                assert (steps.lower, steps.independent) == (law.lower, law.independent)


def test_predictions_are_judged_and_a_wrong_outcome_is_violated(records: list[Record]) -> None:
    found = verdicts("word_problems", tiny(), records)
    assert all(verdict == "holds" for kind, verdict in found.values() if kind == "exact")
    wanted = ("law.AB", "oracle.BA", "joint.AB", "chain.BA", "worked.AB", "retained.A", "spread", "lure.B", "mixed")
    assert {f"single.{w}" for w in wanted} | {"composed.composes", "coverage.AB"} <= set(found)
    assert {kind for kind, _ in found.values()} == {"exact", "hypothesis", "control"}
    # an untrained base knows nothing, and the judge says so
    assert found["composed.bare"][1] != "holds"
    wrong = spoilt(records[0], "chains", "sum", "predicted", "value", "AB", "lower", to=1.5)
    assert verdicts("word_problems", tiny(), [wrong, *records[1:]])["composed.chain.lower"][1] == "violated"


def test_good_worlds_pass_and_bad_ones_do_not(records: list[Record]) -> None:
    """Ten planted worlds in which everything comes out as predicted, and ten in which the sum does the opposite."""
    ten = tiny(groups=[{"name": "composed", "composed": True, "worlds": 10, "first_seed": 0}])

    def worlds(right: bool) -> dict[str, tuple[str, str]]:
        found, rng = [], stream(0, "planted")
        for seed in range(10):
            metrics: Any = as_json(records[0].metrics)
            for name, counts in metrics["scores"].items():
                for cell, (_, asked) in counts.items():
                    good = not (name == "random_first" or cell.endswith("_verb"))
                    good = good == (right or name != "sum")
                    one = int(rng.integers(2))  # worlds that agree to the last question would tell the judge little
                    counts[cell] = Count(asked - one if good else one, asked)
            for cell in ("AB", "BA"):
                metrics["predicted"]["coverage_law"]["value"][cell]["low"] = 1.0
                metrics["predicted"]["oracle"]["value"][cell] = 0.0
            found.append(live("word_problems", records[0].cell.but(seed=seed), metrics))
        return verdicts("word_problems", ten, found)

    good, bad = worlds(True), worlds(False)
    for name in ("law.AB", "oracle.AB", "joint.AB", "retained.A", "lure.A", "learnt.A", "random", "mixed"):
        assert good[f"composed.{name}"][1] == "holds", name
    for name in ("law.AB", "oracle.AB", "joint.AB", "retained.A", "lure.A"):
        assert bad[f"composed.{name}"][1] == "violated", name


def test_live_worlds_only_carry_what_is_exact(records: list[Record]) -> None:
    group = {"name": "live", "composed": True, "worlds": 1, "first_seed": 200}
    tiny_world = live("word_problems", records[0].cell.but(group="live"), records[0].metrics)
    found = verdicts("word_problems", tiny(groups=[group]), [tiny_world])
    assert {kind for kind, _ in found.values()} == {"exact"}


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


def test_figures_show_what_was_predicted(records: list[Record]) -> None:
    drawn = figures.hops_figure(records, [])
    assert drawn is not None
    lines = {line.get_gid(): line for axis in drawn.axes for line in axis.lines if line.get_gid()}
    composed = next(r for r in records if r.cell.group == "composed")
    height = float(np.asarray(lines["oracle.composed.AB"].get_ydata())[0])
    assert height == pytest.approx(composed.metrics.predicted.oracle.value["AB"], rel=1e-12)
