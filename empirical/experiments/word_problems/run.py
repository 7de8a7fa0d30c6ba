"""Word problems: do adapters that each read one kind of clause solve a problem that holds both?

A cell is one world. A base learns arithmetic in bare form, the language of all clauses, and two skills of its own
(subtract, ship); its direct stories have two clauses (*composed*) or one. Adapters then learn add (A) and box (B, so
many tens more), each alone; what they do alone fixes the predictions; then they are reused together. Joint training
and an adapter that saw mixed problems (A then B, never B then A) stand beside them.

Scored in every condition on test names, numbers and templates, as [right, asked]: one clause, two in both orders,
three, clauses of the base before and after, and lures, whose verb says the other skill. A direct answer is right if
both of its digits are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.engine.eager import seal
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Count
from empirical.experiments.word_problems.predictions import predictions
from empirical.experiments.word_problems.tables import (
    Chain,
    Foretold,
    Law,
    Settings,
    Steps,
    WorldCell,
    WorldSettings,
    asked,
)
from empirical.experiments.word_problems.tables import World as Measured
from empirical.reuse.methods import FORMER, asks, oracle_right, random_like, reused, weighted_sum
from empirical.reuse.methods import Options as ReuseOptions
from empirical.tasks.sentences import Batch, Part, Ragged
from empirical.tasks.word_problems import (
    CELLS,
    LARGEST,
    STEP,
    WORDS,
    Problem,
    World,
    by_verb,
    digits,
    direct,
    tokens,
    worked,
)
from empirical.training.adapter import AdapterShape, Job, Schedule, answer_logits, pretrain
from empirical.training.bases import BaseShape, Updates, scratch_base, updated
from empirical.training.together import train_adapters, trainer
from theory.composition import chain_of_thought, coverage_law
from theory.numerics import require

#: what each expert is taught: sequences of skills
EXPERTS: dict[str, list[list[tuple[str, ...]]]] = {
    "A": [[("add",)]],
    "B": [[("box",)]],
    "joint": [[("add",)], [("box",)]],
    "mixed": [[("add",)], [("box",)], [("add", "box")]],
}
#: the cells that need both skills, by the cells that say what each hop is worth over the base's own composition
BOTH = {"AB": ("A_known", "known_B"), "BA": ("B_known", "known_A")}
#: more digits are not written, whatever the model does
POSITIONS = 80


def cells(settings: Settings) -> list[Cell]:
    """One cell per world of every group.

    Raises:
        ValueError: an unknown expert, method or setting of a group, or experts without A and B.
    """
    default = WorldSettings.of(settings)
    grid: list[Cell] = []
    for group in settings.groups:
        world = default.but(**group.changes)
        unknown = sorted(set(world.experts) - set(EXPERTS))
        require(not unknown, "experts", "some of " + ", ".join(EXPERTS), ", ".join(unknown))
        require({"A", "B"} <= set(world.experts), "experts", "A and B among them", world.experts)
        for method in world.methods:
            asked = sorted(asks(FORMER.get(method, method)))
            require(not asked, "methods", "none that needs more than adapters", f"{method}: {', '.join(asked)}")
        about = {"group": group.name, "composed": group.composed}
        grid += [WorldCell.of(world, seed=group.first_seed + i, **about) for i in range(group.worlds)]
    return grid


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a cell takes on one core, from its sizes."""
    size = cell.layers * cell.width / (4 * 64)
    lessons = sum((1 + len(EXPERTS[name])) / 2 for name in cell.experts)
    rows = cell.base_steps * cell.base_batch + lessons * cell.adapter_steps * cell.adapter_batch
    return 4 + size * (rows * 1.6e-3 + (8 + len(cell.methods)) * cell.questions * 1.5e-2)


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

    def run(self) -> Measured:
        """Pretrain, train experts, measure them alone, seal the predictions, reuse, score."""
        cell = self.cell
        shown = self.world.pretraining(cell.composed, cell.base_rows)
        plan = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=100, weight_decay=0.1)
        losses = {"base": pretrain(self.base, shown, plan, self.seed)}
        self.score("base", self.base)
        trained = train_adapters(self.base, [self.job(name, shown) for name in cell.experts])
        experts = {name: t.updates for name, t in trained.items()}
        losses |= {name: t.losses for name, t in trained.items()}
        chains = {}
        for name, updates in experts.items():
            with updated(self.base, updates) as model:
                self.score(name, model)
                if name in ("joint", "mixed"):
                    chains[name] = self.chain(model)
        predicted = self.foretell()
        members = [experts["A"], experts["B"]]
        with updated(self.base, weighted_sum(members, [1.0, 1.0])) as model:
            chains["sum"] = self.chain(model)
            self.score("sum", model)
        random = weighted_sum([random_like(experts["A"], self.seed), experts["B"]], [1.0, 1.0])
        with updated(self.base, random) as model:
            self.score("random_first", model)
        self.others(members)
        last = {name: float(np.mean(values[-20:])) for name, values in losses.items()}
        return Measured(trainer=trainer(), losses=last, scores=self.scores, predicted=predicted, chains=chains)

    def job(self, name: str, replay: Sequence[Part]) -> Job:
        """One expert: its lessons are half of every batch, the base's own mixture the other half.

        An adapter of several lessons takes half as many steps again for each further one.
        """
        cell, lessons = self.cell, EXPERTS[name]
        parts = [
            part
            for sequences in lessons
            for part in self.world.lesson(
                sequences, cell.adapter_rows, f"teach {'-'.join(sequences[0])}", 0.5 / len(lessons)
            )
        ]
        parts += [Part(p.sentences, 0.5 * p.weight) for p in replay]
        plan = Schedule(cell.adapter_steps * (1 + len(lessons)) // 2, cell.adapter_batch, cell.rate)
        return Job(name, parts, AdapterShape(cell.rank, 2 * cell.rank), plan, self.seed)

    # ------------------------------------------------------------ scores

    def score(self, name: str, model: nn.Module) -> None:
        """Ask the model everything; counts go to `scores`, answers by question to `right`."""
        right = {cell: whole(model, direct(asked)) for cell, asked in self.problems.items()}
        counts = {cell: Count.of(r) for cell, r in right.items()}
        for cell in ("A", "B", "AB", "BA"):
            counts[f"worked_{cell}"] = Count.of(whole(model, worked(self.problems[cell])))
        for cell in ("lure_A", "lure_B"):
            asked = self.problems[cell]
            other = [by_verb(p) for p in asked]
            clear = np.array([o is not None and o != p.numbers[-1] for o, p in zip(other, asked, strict=True)])
            swapped = [p._replace(numbers=(*p.numbers[:-1], o or 0)) for o, p in zip(other, asked, strict=True)]
            counts[f"{cell}_clear"] = Count.of(right[cell], clear)
            counts[f"{cell}_verb"] = Count.of(whole(model, direct(swapped)), clear)
        facts = self.world.arithmetic(self.cell.questions)
        known = answered(model, facts)
        counts["bare"] = Count.of(np.asarray(known[:, :STEP].all(axis=1)))
        self.scores[name], self.right[name] = counts, right

    def foretell(self) -> Foretold:
        """What the experts alone say about reuse; sealed before any merge."""
        laws, routed = {}, {}
        for cell, (first, second) in BOTH.items():
            retrieval, p2 = self.scores[cell[0]][first].rate, self.scores[cell[1]][second].rate
            low = coverage_law(float(self.cell.composed), retrieval, p2, LARGEST + 1).low
            laws[cell] = Law(retrieval=retrieval, p2=p2, low=low)
            routed[cell] = Count.of(oracle_right([self.right[e][cell] for e in ("base", "A", "B")])).rate
        return Foretold(coverage_law=seal(laws), oracle=seal(routed))

    def chain(self, model: nn.Module) -> Chain:
        """Worked steps on the two-clause cells: both steps teacher-forced and sealed, then the model's own run."""
        foretold, reached = {}, {}
        for cell in BOTH:
            asked = self.problems[cell]
            rows = worked(asked)
            right = answered(model, rows)
            starts = rows.answers.argmax(axis=1)
            first, second = (
                np.array([right[i, s + k * STEP : s + (k + 1) * STEP].all() for i, s in enumerate(starts)])
                for k in (0, 1)
            )
            steps = [Count.of(first), Count.of(second)]
            law = chain_of_thought(*(s.rate for s in steps))
            foretold[cell] = Steps(s1=steps[0], s2=steps[1], lower=law.lower, independent=law.independent)
        sealed = seal(foretold)
        for cell in BOTH:
            asked = self.problems[cell]
            wanted = np.array([tokens(digits(p.numbers[-1])) for p in asked])
            written = write_on(model, worked(asked), 2 * STEP)
            reached[cell] = Count.of(np.asarray((written[:, -3:-1] == wanted).all(axis=1)))
        return Chain(predicted=sealed, reached=reached)

    def others(self, members: Sequence[Updates]) -> None:
        """The other methods of reuse, and the user's own."""
        own = self.cell.user_method
        options = ReuseOptions(seed=self.seed, density=self.cell.density)
        for method in [*self.cell.methods, *([own.reference] if own else [])]:
            # records name peft's forms on the factors by their former names
            with reused(FORMER.get(method, method), members, self.base, options) as model:
                self.score("own" if ".py:" in method else method, model)


WORLD = Kind(run, seconds=seconds, takes_method=lambda cell: True, stores=True)
experiment = Experiment(
    purpose="Word problems: do adapters that each read one kind of clause solve a problem that holds both?",
    order=40,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(WORLD,),
    asked=asked,
    predictions=predictions,
)
