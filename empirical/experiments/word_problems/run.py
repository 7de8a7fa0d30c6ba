"""Word problems: do adapters that each read one kind of clause solve a problem that holds both?

A cell is one world. A base learns arithmetic in bare form, the language of all clauses, and two skills of its own
(subtract, ship) in stories of one, two and three clauses. Adapters then learn add (A) and box (B, so many tens more),
each alone and beside a clause of the base's own, before or after it; what they do by themselves fixes the predictions;
then they are reused together. Beside them stand one adapter for the lessons of both (*joint*), and one that saw
problems with both skills as well, in both orders (*mixed*).

Scored in every condition on test names, numbers and templates, as [right, asked]: one clause, two in both orders,
three, clauses of the base before and after, and lures, whose verb says the other skill. A direct answer is right if
both of its digits are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.word_problems.predictions import declare
from empirical.experiments.word_problems.tables import FEW, Chain, Foretold, Law, Settings, WorldCell, asked
from empirical.experiments.word_problems.tables import World as Measured
from empirical.reuse.methods import Options as ReuseOptions
from empirical.reuse.methods import asks, oracle_right, random_like, reused, weighted_sum
from empirical.reuse.own import trial
from empirical.tasks.sentences import Batch, Part, Ragged
from empirical.tasks.word_problems import (
    CELLS,
    KNOWN,
    LARGEST,
    SKILLS,
    STEP,
    WORDS,
    Problem,
    World,
    by_verb,
    digits,
    direct,
    pairs,
    tokens,
    worked,
)
from empirical.training.adapter import AdapterShape, Job, Schedule, answer_logits, pretrain
from empirical.training.bases import BaseShape, Updates, scratch_base, updated
from empirical.training.together import train_adapters, trainer
from theory.composition import coverage_law
from theory.numerics import require

Lessons = list[list[tuple[str, ...]]]
A: Lessons = [[("add",)], pairs(("add",), KNOWN), pairs(KNOWN, ("add",))]
B: Lessons = [[("box",)], pairs(("box",), KNOWN), pairs(KNOWN, ("box",))]
#: what each expert is taught, in equal parts: sequences of skills
EXPERTS: dict[str, Lessons] = {
    "A": A,
    "B": B,
    "joint": A + B,
    "mixed": [*A, *B, [("add", "box")], [("box", "add")]],
}
#: the cells that need both skills, by the cells that say what each clause is worth beside one of the base's own
BOTH = {"AB": ("A_known", "known_B"), "BA": ("B_known", "known_A")}
#: what is asked of every method; all else of the experts, of what saw more than they, and of their sum
REUSE = ("A", "B", "AB", "BA", "long")
#: more digits are not written, whatever the model does
POSITIONS = 80


def cells(settings: Settings) -> list[WorldCell]:
    """One cell a world.

    Raises:
        ValueError: an unknown method, or one that needs adapters which are not there.
    """
    for method in settings.methods:
        require("general" not in asks(method), "methods", "none that needs general adapters", method)
    seeds = range(settings.first_seed, settings.first_seed + settings.worlds)
    return [WorldCell.of(settings, seed=seed) for seed in seeds]


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a cell takes on one core, from its sizes."""
    size = cell.layers * cell.width / (4 * 64)
    rows = cell.base_steps * cell.base_batch + 2 * (cell.adapter_steps + cell.both_steps) * cell.adapter_batch
    return 4 + size * (rows * 8e-4 + (30 + len(cell.methods)) * cell.questions * 5e-3)


def run(cell: WorldCell, device: str) -> Measured:
    """Run one world. Raises TrainingDiverged where a loss was not finite."""
    return WorldRun(cell, device).run()


@torch.no_grad()
def answered(model: Any, rows: Ragged) -> np.ndarray:
    """Which answer tokens are the model's own choice after the right ones before them: (n, L), True off the answers.

    A greedy run writes the whole answer exactly where all of its tokens are: up to its first mistake it has read the
    same tokens.
    """
    where, columns = np.nonzero(rows.answers)
    logits, wanted = answer_logits(model, Batch(rows.tokens, where, columns))
    found = np.ones(rows.tokens.shape, dtype=np.bool_)
    found[where, columns] = (logits.argmax(dim=1) == wanted).cpu().numpy()
    return found


def whole(model: Any, rows: Ragged) -> np.ndarray:
    """Which rows (n,) the model answers right to the last token."""
    return np.asarray(answered(model, rows).all(axis=1), dtype=np.bool_)


@torch.no_grad()
def write_on(model: Any, prompts: Ragged, count: int) -> np.ndarray:
    """The `count` tokens (n, count) that the model writes greedily after each prompt (the tokens before its answer)."""
    starts = prompts.answers.argmax(axis=1)
    every = np.arange(len(starts))
    # as wide as prompts with answers of `count` tokens, so that rounding is that of a teacher-forced pass
    tape = np.zeros((len(starts), int(starts.max()) + count), dtype=np.int64)
    for i, start in enumerate(starts):
        tape[i, :start] = prompts.tokens[i, :start]
    for step in range(count):
        logits, _ = answer_logits(model, Batch(tape, every, starts + step))
        tape[every, starts + step] = logits.argmax(dim=1).cpu().numpy()
    return np.stack([tape[i, s : s + count] for i, s in enumerate(starts)])


def kinds(asked: Sequence[Problem], written: np.ndarray) -> dict[str, Count]:
    """Wrong answers (n, 2) to problems of two clauses, by what was done: the first alone, the second alone, neither."""
    alone = [SKILLS[p.clauses[1].skill].apply(p.numbers[0], p.clauses[1].digit) for p in asked]
    numbers: dict[str, list[int | None]] = {
        "first": [p.numbers[1] for p in asked], "second": alone, "neither": [p.numbers[0] for p in asked],
    }  # fmt: skip
    texts = ["".join(WORDS[token] for token in answer) for answer in written]
    said = [int(text) if text.isdigit() else -1 for text in texts]
    return {kind: Count.of(np.array(said) == np.array([-2 if n is None else n for n in found]))
            for kind, found in numbers.items()}  # fmt: skip


class WorldRun:
    """Everything that happens in one world, in order; see :meth:`run`."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.seed = cell, cell.seed
        self.world = World(self.seed)
        size = (cell.width, cell.layers, cell.heads, cell.feed_forward)
        self.base = scratch_base(BaseShape(len(WORDS), *size, positions=POSITIONS), self.seed).to(device)
        self.problems: dict[str, list[Problem]] = {
            name: self.world.problems(sequences, cell.questions, "test", f"ask {name}", lure)
            for name, (sequences, lure) in CELLS.items()
        }
        self.scores: dict[str, dict[str, Count]] = {}
        self.right: dict[str, dict[str, np.ndarray]] = {}
        self.chains: dict[str, dict[str, Chain]] = {}
        self.merging: dict[str, float] = {}

    def run(self) -> Measured:
        """Pretrain, train experts, measure them alone, seal the predictions, reuse, score."""
        cell = self.cell
        shown = self.world.pretraining(cell.base_rows)
        plan = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=100, weight_decay=0.1)
        losses = {"base": pretrain(self.base, shown, plan, self.seed)}
        self.score("base", {})
        trained = train_adapters(self.base, [self.job(name, shown) for name in EXPERTS])
        experts = {name: t.updates for name, t in trained.items()}
        losses |= {name: t.losses for name, t in trained.items()}
        for name, updates in experts.items():
            self.score(name, updates)
        predicted = self.foretell()
        members = [experts["A"], experts["B"]]
        self.score("sum", weighted_sum(members, [1.0, 1.0]))
        self.score("random_first", weighted_sum([random_like(experts["A"], self.seed), experts["B"]], [1.0, 1.0]))
        self.others(members)
        last = {name: float(np.mean(values[-20:])) for name, values in losses.items()}
        return Measured(
            trainer=trainer(), losses=last, scores=self.scores, predicted=predicted, chains=self.chains,
            merging=self.merging,
        )  # fmt: skip

    def lessons(self, name: str, weight: float) -> list[Part]:
        """What an expert is taught, in equal parts."""
        lessons, rows = EXPERTS[name], self.cell.adapter_rows
        return [
            part
            for sequences in lessons
            for part in self.world.lesson(sequences, rows, f"teach {sequences}", weight / len(lessons))
        ]

    def job(self, name: str, replay: Sequence[Part]) -> Job:
        """One expert: a share of every batch are its lessons, the rest is the base's own mixture."""
        cell, rest = self.cell, 1.0 - self.cell.lessons
        parts = [*self.lessons(name, cell.lessons), *(Part(p.sentences, rest * p.weight) for p in replay)]
        steps = cell.adapter_steps if name in ("A", "B") else cell.both_steps
        plan = Schedule(steps, cell.adapter_batch, cell.rate)
        return Job(name, parts, AdapterShape(cell.rank, 2 * cell.rank), plan, self.seed)

    # ------------------------------------------------------------ scores

    def score(self, name: str, updates: Updates) -> None:
        """Ask the base with these updates everything: direct answers, lures, worked steps, bare facts."""
        with updated(self.base, updates) as model:
            counts = self.ask(name, model, CELLS)
            for cell in ("lure_A", "lure_B"):
                asked = self.problems[cell]
                other = [by_verb(p) for p in asked]
                clear = np.array([o is not None and o != p.numbers[-1] for o, p in zip(other, asked, strict=True)])
                swapped = [p._replace(numbers=(*p.numbers[:-1], o or 0)) for o, p in zip(other, asked, strict=True)]
                counts[f"{cell}_clear"] = Count.of(self.right[name][cell], clear)
                counts[f"{cell}_verb"] = Count.of(whole(model, direct(swapped)), clear)
            for cell in ("A", "B", "long"):
                counts[f"worked_{cell}"] = Count.of(whole(model, worked(self.problems[cell])))
            self.chains[name] = {cell: self.chain(model, self.problems[cell]) for cell in BOTH}
            known = answered(model, self.world.arithmetic(self.cell.questions))
            counts["bare"] = Count.of(np.asarray(known[:, :STEP].all(axis=1)))

    def ask(self, name: str, model: nn.Module, cells: Iterable[str]) -> dict[str, Count]:
        """Direct answers to these cells, and kinds of answers to two new clauses; counts go to `scores`, what is right
        question by question to `right`."""
        right = self.right[name] = {cell: whole(model, direct(self.problems[cell])) for cell in cells}
        counts = self.scores[name] = {cell: Count.of(r) for cell, r in right.items()}
        for cell in BOTH:
            asked = self.problems[cell]
            written = write_on(model, direct(asked), 2)
            counts |= {f"{cell}_{kind}": count for kind, count in kinds(asked, written).items()}
        return counts

    def chain(self, model: nn.Module, asked: Sequence[Problem]) -> Chain:
        """Worked steps on problems of two clauses: each step after the right ones, then the model's own run."""
        rows = worked(asked)
        right, starts = answered(model, rows), rows.answers.argmax(axis=1)
        first, second = (
            np.array([right[i, s + k * STEP : s + (k + 1) * STEP].all() for i, s in enumerate(starts)]) for k in (0, 1)
        )
        wanted = np.array([tokens(digits(p.numbers[-1])) for p in asked])
        written = write_on(model, rows, 2 * STEP)
        reached = np.asarray((written[:, -3:-1] == wanted).all(axis=1))
        return Chain(first=Count.of(first), second=Count.of(second), reached=Count.of(reached))

    def foretell(self) -> Foretold:
        """What the experts alone say about reuse, sealed before any merge."""
        laws, routed = {}, {}
        for cell, (first, second) in BOTH.items():
            retrieval, p2 = self.scores[cell[0]][first].rate, self.scores[cell[1]][second].rate
            low = coverage_law(1.0, retrieval, p2, LARGEST + 1).low
            laws[cell] = Law(retrieval=retrieval, p2=p2, low=low)
            routed[cell] = Count.of(oracle_right([self.right[e][cell] for e in ("base", "A", "B")]))
        return Foretold(coverage_law=seal("predicted.coverage_law", laws), oracle=seal("predicted.oracle", routed))

    def others(self, members: Sequence[Updates]) -> None:
        """The other methods of reuse, and the user's own."""
        own = self.cell.user_method
        options = ReuseOptions(
            seed=self.seed,
            density=self.cell.density,
            probes=[self.few(A), self.few(B)],
            data=self.few(EXPERTS["mixed"][-2:]),
        )
        for method in [*self.cell.methods, *([own.pinned] if own else [])]:
            name, started = "own" if ".py:" in method else method, time.process_time()
            with reused(method, members, self.base, options) as model:
                self.merging[name] = time.process_time() - started
                self.ask(name, model, REUSE)

    def few(self, lessons: Lessons) -> Ragged:
        """A few direct examples of these lessons, for methods that are not data-free."""
        sequences = [sequence for lesson in lessons for sequence in lesson]
        return direct(self.world.problems(sequences, FEW, "train", "few"))


WORLD = Kind(run, seconds=seconds, takes_method=lambda cell: True, stores=True)
experiment = Experiment(
    purpose="Word problems: do adapters that each read one kind of clause solve a problem that holds both?",
    order=40,
    protocol=2,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    asked=asked,
    declare=declare,
    try_method=partial(trial, given=("probes", "data")),
)
