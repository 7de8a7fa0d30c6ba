"""Arithmetic word problems: a start number and clauses that change it, one skill per clause.

``ann has 13 apples . ann buys 5 more apples . ann packs 3 boxes of ten apples . how many ?``

Four skills: *add* (A) and *box* (B, so many tens more) are left to adapters, *subtract* (C) and *ship* (D, so many tens
less) are the base's own. A *template* is a pair (frame, verb) of a skill; the frame decides what the clause means, and
in training every verb occurs in the frames of one skill only. A *lure* is a clause with the frame of one skill and a
verb of the other: it looks like the one and needs the other.

A problem is asked *direct* (the number at once), with *worked* steps (each clause as a bare fact, ``13 + 5 = 18 ;``),
or for what it only says (*at_first*, the start; *said*, the digit of the last clause). Numbers are 0 to 99, two digits
each, a token per digit, and no step carries; all other words are tokens. Names, start numbers and templates of the test
split are disjoint from those of training, for the base and for every adapter; bare facts (``13 + 5 = 18``) are known of
all numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np

from empirical.tasks.example import Example
from empirical.tasks.sentences import Part, Ragged, ragged
from theory.numerics import integer, one_of, require, stream


@dataclass(frozen=True)
class Skill:
    """One operation: its symbol in a bare fact, the verbs and frames of its clauses.

    In a frame ``{n}`` is the name, ``{v}`` the verb, ``{i}`` the item, ``{k}`` a digit from 1 to 5.
    """

    symbol: str
    verbs: tuple[str, ...]
    frames: tuple[str, ...]

    def apply(self, number: int, digit: int) -> int | None:
        """The number after the clause; None where it is none of 0 to 99 or a digit would have to be carried."""
        tens, units = divmod(number, 10)
        tens += {"t": digit, "u": -digit}.get(self.symbol, 0)
        units += {"+": digit, "-": -digit}.get(self.symbol, 0)
        return 10 * tens + units if 0 <= tens <= 9 and 0 <= units <= 9 else None


LARGEST = 99
DIGITS = range(1, 6)
SKILLS = {
    "add": Skill(
        "+",
        ("buys", "finds", "gets", "picks"),
        ("{n} {v} {k} more {i} .", "then {n} {v} another {k} {i} .", "{n} also {v} {k} {i} ."),
    ),
    "box": Skill(
        "t",
        ("packs", "loads", "stores", "stacks"),
        ("{n} {v} {k} boxes of ten {i} .", "then {n} {v} another {k} tens of {i} .",
         "in {k} boxes of ten {n} {v} {i} ."),
    ),
    "subtract": Skill(
        "-",
        ("loses", "sells", "eats", "donates"),
        ("{n} {v} {k} of the {i} .", "then {n} {v} {k} {i} .", "of the {i} {n} {v} {k} ."),
    ),
    "ship": Skill(
        "u",
        ("drops", "lends", "mails", "burns"),
        ("{n} {v} {k} of the tens of {i} .", "then {n} {v} {k} full boxes of {i} .",
         "{k} full boxes {n} {v} then ."),
    ),
}  # fmt: skip
NEW, KNOWN = ("add", "box"), ("subtract", "ship")
# fmt: off
NAMES = (
    "ann", "ben", "cara", "dan", "eva", "finn", "gina", "hugo", "ida", "jack", "kim", "leo", "mia", "ned", "olga",
    "paul", "quinn", "rosa", "sam", "tina", "umar", "vera", "walt", "xenia", "yann", "zoe", "alma", "bert", "cleo",
    "dora", "emil", "fay", "glen", "hana", "ivo", "jill", "kurt", "lena",
)
# fmt: on
ITEMS = ("apples", "books", "coins", "eggs", "pens", "shells", "stamps", "toys")
QUESTIONS = ("?", "#", "at_first", "said")
_FRAME_WORDS = {w for s in SKILLS.values() for f in s.frames for w in f.split() if "{" not in w}
WORDS = (
    *(str(d) for d in range(10)), "+", "-", "t", "u", "=", ";", ".", "has", *QUESTIONS, *ITEMS,
    *(v for s in SKILLS.values() for v in s.verbs), *sorted(_FRAME_WORDS - {"."}), *NAMES,
)  # fmt: skip
TOKEN = {word: i for i, word in enumerate(WORDS)}

CARD = """\
# word_problems

Arithmetic word problems in plain templates: a start number and one, two or three clauses, each of one skill (add,
box: so many tens more, subtract, ship: so many tens less). Fields: `prompt`, `answer`, `steps` (the worked solution;
`t` and `u` stand for plus and minus so many tens), `skills` (one per clause), `lure` (true where the verb belongs to
another skill than the frame), `hops` (clauses), `cell`, `split`, `id`.

**How generated.** `empirical/tasks/word_problems.py`, seeded; splits are drawn from the seed. Splits: `train` and
`test`; names, start numbers and templates (pairs of frame and verb) of `test` do not occur in `train`.

**Right answer.** Exactly one: apply the clauses in order. The frame alone decides what a clause means.

**Known limits.** English of a few dozen words, whole numbers from 0 to 99, operands below 6, nothing is carried;
intermediate numbers of test problems may be start numbers of training problems. Add and box change different digits, so
that neither needs what the other has worked out, and their order does not matter.

**Licence.** Apache-2.0.
"""


class Clause(NamedTuple):
    """A clause: the skill that its frame means, the frame's index there, the verb (of that skill unless a lure)."""

    skill: str
    frame: int
    verb: str
    digit: int


class Problem(NamedTuple):
    """A problem and, in `numbers`, the start followed by the number after each clause."""

    name: str
    item: str
    clauses: tuple[Clause, ...]
    numbers: tuple[int, ...]


def digits(number: int) -> list[str]:
    """The two digits of a number from 0 to 99."""
    return [str(number // 10), str(number % 10)]


def story(problem: Problem) -> list[str]:
    """The words of a problem, without a question."""
    words = [problem.name, "has", *digits(problem.numbers[0]), problem.item, "."]
    for clause in problem.clauses:
        slots = {"n": problem.name, "v": clause.verb, "i": problem.item, "k": str(clause.digit)}
        words += SKILLS[clause.skill].frames[clause.frame].format(**slots).split()
    return words


def fact(skill: str, number: int, digit: int) -> list[str]:
    """The bare fact ``number symbol operand = result`` as words; the result is its last two."""
    operation = SKILLS[skill]
    result = operation.apply(number, digit)
    require(result is not None, "number", f"one that {skill} maps to 0..{LARGEST}", number)
    assert result is not None
    return [*digits(number), operation.symbol, str(digit), "=", *digits(result)]


def by_verb(problem: Problem) -> int | None:
    """The number that a problem of one clause would end in if its verb decided; None where that is no number."""
    (clause,) = problem.clauses
    skill = next(s for s in SKILLS.values() if clause.verb in s.verbs)
    return skill.apply(problem.numbers[0], clause.digit)


#: words of one worked step, its separator included
STEP = 8


def steps(problem: Problem) -> list[str]:
    """The worked solution: a bare fact per clause, each with ``;`` behind it, the last with ``.``."""
    words: list[str] = []
    for clause, number in zip(problem.clauses, problem.numbers, strict=False):
        words += [*fact(clause.skill, number, clause.digit), ";"]
    return [*words[:-1], "."]


def tokens(words: Sequence[str]) -> list[int]:
    """Token numbers of words."""
    return [TOKEN[w] for w in words]


def direct(problems: Sequence[Problem]) -> Ragged:
    """``story ? d d``: the number at once."""
    return ragged([tokens([*story(p), "?"]) for p in problems], [tokens(digits(p.numbers[-1])) for p in problems])


def worked(problems: Sequence[Problem]) -> Ragged:
    """``story # steps``."""
    return ragged([tokens([*story(p), "#"]) for p in problems], [tokens(steps(p)) for p in problems])


def reading(problems: Sequence[Problem]) -> Ragged:
    """What a story says without any skill: its start number (even rows) or the digit of its last clause (odd rows)."""
    prompts, answers = [], []
    for i, p in enumerate(problems):
        said = i % 2 == 1
        prompts.append(tokens([*story(p), "said" if said else "at_first"]))
        answers.append(tokens([str(p.clauses[-1].digit)] if said else digits(p.numbers[0])))
    return ragged(prompts, answers)


def bare_facts() -> list[list[str]]:
    """Every bare fact of every skill."""
    found = []
    for name, skill in SKILLS.items():
        for number in range(LARGEST + 1):
            for digit in DIGITS:
                if skill.apply(number, digit) is not None:
                    found.append(fact(name, number, digit))
    return found


class World:
    """Splits drawn from a seed, and problems over them.

    Args:
        seed: every stream of the world derives from it.

    Attributes:
        names, starts, templates: ``"train"`` and ``"test"`` -> names, start numbers, and by skill the (frame, verb)
            pairs. Every frame and every verb occurs in training, the test's pairs of them do not.
    """

    def __init__(self, seed: int) -> None:
        self.seed = integer(seed, "seed", 0)
        rng = stream(seed, "words", "split")
        names = [NAMES[i] for i in rng.permutation(len(NAMES))]
        self.names = {"train": names[len(NAMES) // 4 :], "test": names[: len(NAMES) // 4]}
        # two starts of every ten, so that each sequence of skills has problems in both splits
        every = range(1, LARGEST + 1)
        groups = [[s for s in every if s // 10 == ten and s % 2 == odd] for ten in range(10) for odd in (0, 1)]
        held_out = sorted(group[rng.integers(len(group))] for group in groups)
        self.starts = {"train": [s for s in every if s not in held_out], "test": held_out}
        self.templates: dict[str, dict[str, list[tuple[int, str]]]] = {"train": {}, "test": {}}
        for name, skill in SKILLS.items():
            held = {(f, skill.verbs[v]) for f, v in enumerate(rng.permutation(len(skill.verbs))[: len(skill.frames)])}
            templates = [(f, v) for f in range(len(skill.frames)) for v in skill.verbs]
            self.templates["train"][name] = [t for t in templates if t not in held]
            self.templates["test"][name] = [t for t in templates if t in held]

    def problems(
        self, skills: Sequence[Sequence[str]], count: int, split: str, stream_name: str, lure: bool = False
    ) -> list[Problem]:
        """`count` problems whose clauses have the skills of a sequence drawn from `skills`, each equally often.

        With `lure` every clause takes a verb of the other new skill; such templates are in no training text.
        Drawn until every number is one of 0 to 99, independently, so a problem may occur twice.

        Raises:
            ValueError: an unknown skill or split, no skills, or a lure for a skill that is not new.
        """
        integer(count, "count", 0)
        one_of(split, "split", ("train", "test"))
        require(len(skills) > 0 and all(skills), "skills", "at least one sequence of skills", skills)
        for sequence in skills:
            for skill in sequence:
                one_of(skill, "skill", NEW if lure else tuple(SKILLS))
        rng = stream(self.seed, "words", stream_name, split)
        starts, names = self.starts[split], self.names[split]
        found: list[Problem] = []
        while len(found) < count:
            sequence = skills[len(found) % len(skills)]
            numbers = [starts[rng.integers(len(starts))]]
            clauses = []
            for skill in sequence:
                digit = int(rng.choice(DIGITS))
                templates = self.templates[split][skill]
                frame, verb = templates[rng.integers(len(templates))]
                if lure:
                    others = SKILLS[NEW[1 - NEW.index(skill)]].verbs
                    verb = others[rng.integers(len(others))]
                clauses.append(Clause(skill, frame, verb, digit))
                number = SKILLS[skill].apply(numbers[-1], digit)
                if number is None:
                    break
                numbers.append(number)
            if len(numbers) == len(sequence) + 1:
                name, item = names[rng.integers(len(names))], ITEMS[rng.integers(len(ITEMS))]
                found.append(Problem(name, item, tuple(clauses), tuple(numbers)))
        return found

    # ------------------------------------------------------------ what each model is shown

    def arithmetic(self, count: int) -> Ragged:
        """`count` rows of five bare facts each; the results are the answers."""
        pool = np.array([tokens([*f, ";"]) for f in bare_facts()])
        picks = stream(self.seed, "words", "bare").integers(len(pool), size=(count, 5))
        rows = pool[picks].reshape(count, -1)[:, :-1]
        marks = np.zeros(rows.shape, dtype=np.bool_)
        for result in (STEP - 3, STEP - 2):
            marks[:, result::STEP] = True
        return Ragged(rows, np.full(count, rows.shape[1], dtype=np.int64), marks)

    def pretraining(self, count: int) -> list[Part]:
        """The base's mixture, `count` rows a part: bare facts, reading, and stories of the known skills.

        Its direct stories have one, two or three clauses, so that it composes its own skills; worked ones one or two.
        """
        one, two, three = ([*product(KNOWN, repeat=clauses)] for clauses in (1, 2, 3))
        every = [(s,) for s in SKILLS] + pairs(tuple(SKILLS), tuple(SKILLS))
        return [
            Part(self.arithmetic(count), 0.15),
            Part(reading(self.problems(every, count, "train", "read")), 0.1),
            Part(direct(self.problems(one, count, "train", "base one")), 0.15),
            Part(direct(self.problems(two, count, "train", "base two")), 0.25),
            Part(direct(self.problems(three, count, "train", "base three")), 0.15),
            Part(worked(self.problems(one, count, "train", "base worked one")), 0.05),
            Part(worked(self.problems(two, count, "train", "base worked two")), 0.15),
        ]

    def lesson(self, sequences: Sequence[Sequence[str]], count: int, stream_name: str, weight: float) -> list[Part]:
        """Problems with these skills, two thirds of them direct and one worked."""
        shown = self.problems(sequences, count, "train", stream_name)
        return [Part(direct(shown), 2 * weight / 3), Part(worked(shown), weight / 3)]


def pairs(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, ...]]:
    """All sequences of a skill of `first` and then one of `second`."""
    return [(a, b) for a in first for b in second]


def beside(skill: str, clauses: int) -> list[tuple[str, ...]]:
    """All sequences of so many clauses, one of which has this skill and the others known ones."""
    return [
        (*others[:place], skill, *others[place:])
        for others in product(KNOWN, repeat=clauses - 1)
        for place in range(clauses)
    ]


#: what is asked of every model: cell -> (sequences of skills, lures)
CELLS: dict[str, tuple[list[tuple[str, ...]], bool]] = {
    "A": ([("add",)], False),
    "B": ([("box",)], False),
    "AB": ([("add", "box")], False),
    "BA": ([("box", "add")], False),
    "long": ([("add", "box", "add"), ("box", "add", "box")], False),
    "A_known": (pairs(("add",), KNOWN), False),
    "known_A": (pairs(KNOWN, ("add",)), False),
    "B_known": (pairs(("box",), KNOWN), False),
    "known_B": (pairs(KNOWN, ("box",)), False),
    "A_long": (beside("add", 3), False),
    "B_long": (beside("box", 3), False),
    "known": ([(s,) for s in KNOWN], False),
    "known_known": ([("subtract", "ship"), ("ship", "subtract")], False),
    "known_long": ([("subtract", "ship", "subtract"), ("ship", "subtract", "ship")], False),
    "lure_A": ([("add",)], True),
    "lure_B": ([("box",)], True),
}


def plain(words: Sequence[str]) -> str:
    """Words as a line of text: the two digits of a number stand together, without a leading zero."""
    text = ""
    for i, word in enumerate(words):
        # a clause's digit is never beside another digit, so that two in a row are one number
        joined = word.isdigit() and i > 0 and words[i - 1].isdigit()
        text += word if joined or not text else f" {word}"
    return re.sub(r"\b0(?=\d)", "", text)


class ProblemExample(Example):
    """A problem with its worked steps; `cell` is one of :data:`CELLS`, `skills` has one per clause."""

    cell: str
    steps: str
    skills: list[str]
    lure: bool
    hops: int


def examples(seed: int, train: int = 2000, test: int = 500) -> Iterator[ProblemExample]:
    """The task as a benchmark: `train` and `test` problems per cell; lures occur in the test split only.

    Raises:
        ValueError: a negative count.
    """
    world = World(seed)
    for split, count in (("train", train), ("test", test)):
        for cell, (sequences, lure) in CELLS.items():
            if lure and split == "train":
                continue
            for i, p in enumerate(world.problems(sequences, count, split, f"export {cell}", lure)):
                yield {
                    "id": f"word_problems-{seed}-{split}-{cell}-{i}",
                    "task": "word_problems",
                    "split": split,
                    "cell": cell,
                    "prompt": plain([*story(p), "how", "many", "?"]),
                    "answer": str(p.numbers[-1]),
                    "steps": plain(steps(p)),
                    "skills": [c.skill for c in p.clauses],
                    "lure": lure,
                    "hops": len(p.clauses),
                }
