"""The audit, scored: what it says of a merge beforehand, and what the merge then keeps.

A base gets a pool of adapters, trained apart: new facts with prompts of their own; other answers to the very prompts of
some of these, and the same facts once more; other answers to what the base knows; styles. Ranks differ. Of the pool
merges are drawn, of 2 to 8 adapters, every second one a sum and the others means. What single adapters foretell
(:mod:`empirical.experiments.audit_outcomes.forecast`) is sealed before the first merge is made. Then every merge is
asked the probes of its adapters, those that each answers alone, and the facts that the base answers.

*scratch*: a small base trained from scratch. *pretrained*: the last layers of a real language model, facts and styles
in English, capitals of real countries as its own facts. The lines that turn numbers into shares were fitted on the
former.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.audit_outcomes.forecast import (
    Geometry,
    Questions,
    States,
    Taught,
    added,
    geometry,
    of_geometry,
)
from empirical.experiments.audit_outcomes.predictions import declare
from empirical.experiments.audit_outcomes.tables import (
    Alone,
    Foretold,
    Measured,
    Merged,
    PoolSettings,
    PretrainedCell,
    ScratchCell,
    Settings,
    Weights,
)
from empirical.experiments.known import known_world
from empirical.reuse.methods import weighted_sum
from empirical.tasks.entities import REAL, SECOND
from empirical.tasks.sentences import Bools, Ints, Part, Ragged, ragged, shuffle_answers
from empirical.tasks.styles import STYLES, StyleExample, WorldStyles, dressed, examples
from empirical.training.adapter import AdapterShape, Job, Schedule, pretrain
from empirical.training.bases import BaseShape, Updates, last_layers, load_base, load_tokenizer, scratch_base, updated
from empirical.training.together import train_adapters
from theory.numerics import one_of, require, stream

#: of every adapter: alpha = 2 r
SCALE = 2
#: rank that has the rate of the settings; others have it times (RATED / r)^1/2, or small ones hardly learn
RATED = 8
#: name of the questions about the base's own facts
OWN = "base"


def cells(settings: Settings) -> list[ScratchCell | PretrainedCell]:
    """One cell a world. Raises ValueError for a pool that cannot be made, or a merge larger than it."""
    s, p = settings.scratch, settings.pretrained
    for pool in (s, p):
        for style in pool.styles:
            one_of(style, "styles", STYLES)
        require(max(pool.contested, pool.again) <= pool.facts, "contested, again", f"at most {pool.facts}, as facts",
                (pool.contested, pool.again))  # fmt: skip
        least, most = pool.sizes
        fits = 2 <= least <= most <= len(names(pool))
        require(fits, "sizes", f"two numbers from 2 to {len(names(pool))}, the smaller first", pool.sizes)
    first, worlds = settings.first_seed, settings.worlds
    return [
        *(ScratchCell.of(s, seed=first + i) for i in range(worlds.scratch)),
        *(PretrainedCell.of(p, seed=first + i) for i in range(worlds.pretrained)),
    ]


# ---------------------------------------------------------------- what is taught


@dataclass(frozen=True)
class Lesson:
    """What an adapter is trained on, and what it is asked."""

    taught: Taught
    probes: Taught


@dataclass(frozen=True)
class Bench:
    """A base, what its adapters learn, and what it knows itself."""

    base: Any
    lessons: Mapping[str, Lesson]
    own: Taught


def names(pool: PoolSettings) -> list[str]:
    """Of all adapters."""
    numbered = {"facts": pool.facts, "contested": pool.contested, "again": pool.again, "changed": pool.changed}
    return [f"{kind} {i}" for kind, count in numbered.items() for i in range(count)] + list(pool.styles)


def _shards(taught: Any, count: int, size: int, order: Ints) -> list[Any]:
    """The first sentences in this order as so many lessons of one size. Raises ValueError where there are too few."""
    require(count * size <= len(order), "lesson", f"{count} times as many sentences", f"{size} of {len(order)}")
    return [taught.take(order[i * size : (i + 1) * size]) for i in range(count)]


def scratch(cell: ScratchCell, device: str) -> Bench:
    """A base from scratch that knows its facts, and every style when asked."""
    world = known_world(cell, cell.seed)
    styles, rng, size = WorldStyles(world), stream(cell.seed, "pool", "lessons"), cell.lesson
    base = scratch_base(BaseShape(styles.size, cell.width, cell.layers, cell.heads, cell.feed_forward), cell.seed)
    plan = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=30, weight_decay=0.1)
    pretrain(base.to(device), styles.pretraining(), plan, cell.seed)
    new, old = world.first_hops(world.new), world.first_hops(world.old)
    facts = _shards(new, cell.facts, size, rng.permutation(len(new.tokens)))
    other, before = world.second_hops("new", changed=True), world.second_hops("old", changed=True)
    differs = np.flatnonzero(other.tokens[:, -1] != before.tokens[:, -1])
    shown, asked = _shards(old, 2, size, rng.permutation(len(old.tokens)))
    taught = [*facts, *(shuffle_answers(f, rng) for f in facts[: cell.contested]), *facts[cell.facts - cell.again :],
              *_shards(other, cell.changed, size, rng.permutation(differs))]  # fmt: skip
    lessons = [Lesson(t, t) for t in taught]
    lessons += [Lesson(styles.styled(shown, s), styles.styled(asked, s)) for s in cell.styles]
    own = np.concatenate([world.second_hops("old", changed=False).tokens,
                          world.attribute_facts(np.arange(world.shape.persons)).tokens])  # fmt: skip
    return Bench(base, dict(zip(names(cell), lessons, strict=True)), old._replace(tokens=own))


def pretrained(cell: PretrainedCell, device: str) -> Bench:
    """A real language model that is taught English, and knows capitals."""
    base = load_base(cell.base or None).requires_grad_(False).to(device)
    tokenizer = load_tokenizer(cell.base or None)
    if cell.layers:
        base = last_layers(base, cell.layers)
    size, rng = cell.lesson, stream(cell.seed, "pool", "lessons")

    def encode(prompts: list[str], answers: list[str]) -> Ragged:
        # prompt and answer meet at a space, in front of which the tokenizer always splits
        return ragged(*([tokenizer.encode(t, add_special_tokens=False) for t in side] for side in (prompts, answers)))

    def lesson(rows: list[StyleExample], words: list[str], style: str) -> Ragged:
        return encode([r["prompt"] for r in rows], [dressed(w, style) for w in words])

    def said(rows: list[StyleExample]) -> list[str]:
        return [r["content"] for r in rows]

    def others(rows: list[StyleExample]) -> list[str]:
        """For every row an object that it does not name."""
        left = [[w for w in r["choices"] if w != r["content"]] for r in rows]
        return [words[rng.integers(len(words))] for words in left]

    rows = list(examples(cell.seed, cell.facts * size, (cell.changed + 1) * size, size))
    told = [r for r in rows if r["kind"] == "fact"]
    stating = [r for r in rows if r["style"] == STYLES[0] and r["split"] == "train"]
    asked = [r for r in rows if r["style"] == STYLES[0] and r["split"] == "test"]
    facts = [told[i * size : (i + 1) * size] for i in range(cell.facts)]
    changed = [stating[(i + 1) * size : (i + 2) * size] for i in range(cell.changed)]
    taught = [
        *(lesson(f, said(f), "plain") for f in facts),
        *(lesson(f, others(f), "plain") for f in facts[: cell.contested]),
        *(lesson(f, said(f), "plain") for f in facts[cell.facts - cell.again :]),
        *(lesson(c, others(c), "plain") for c in changed),
    ]
    lessons = [Lesson(t, t) for t in taught]
    shown = stating[:size]
    lessons += [Lesson(lesson(shown, said(shown), s), lesson(asked, said(asked), s)) for s in cell.styles]
    own = encode([SECOND.taught[0].format(y=c.name) for c in REAL], [f" {c.capital}" for c in REAL])
    return Bench(base, dict(zip(names(cell), lessons, strict=True)), own)


# ---------------------------------------------------------------- a pool, and merges of it


@dataclass(frozen=True)
class Draw:
    """A merge that is to be made: adapters by number, and whether they are added or averaged."""

    members: Ints
    weights: Weights

    @property
    def each(self) -> np.ndarray:
        """The weight of every adapter."""
        k = len(self.members)
        return np.full(k, 1.0 if self.weights == "sum" else 1.0 / k)


def draws(cell: ScratchCell | PretrainedCell) -> list[Draw]:
    """The merges of a world, the same whatever its adapters are; one of k adapters is as frequent as 1 / k."""
    rng, kinds = stream(cell.seed, "merges"), get_args(Weights)
    sizes = np.arange(cell.sizes[0], cell.sizes[1] + 1)
    often = 1 / sizes / (1 / sizes).sum()
    return [
        Draw(rng.choice(len(names(cell)), size=rng.choice(sizes, p=often), replace=False), kinds[m % len(kinds)])
        for m in range(cell.merges)
    ]


class Pool:
    """Adapters of one base, each by itself.

    Attributes:
        updates: of every adapter. asked: states of the base, and of every adapter by itself.
        known: probes that an adapter answers alone, and (`OWN`) facts that the base answers.
    """

    def __init__(self, cell: ScratchCell | PretrainedCell, bench: Bench) -> None:
        self.bench, self.names = bench, names(cell)
        ranks = stream(cell.seed, "pool", "ranks").permutation(np.resize(cell.ranks, len(self.names)))
        jobs = [
            Job(name, [Part(bench.lessons[name].taught, 1.0)], AdapterShape(int(r), SCALE * int(r)),
                Schedule(cell.steps, cell.batch, cell.rate * (RATED / r) ** 0.5), cell.seed)
            for name, r in zip(self.names, ranks, strict=True)
        ]  # fmt: skip
        self.updates: list[Updates] = [found.updates for found in train_adapters(bench.base, jobs).values()]
        self.questions = Questions(bench.base, {n: bench.lessons[n].probes for n in self.names} | {OWN: bench.own})
        self.base = self.questions.ask(bench.base)
        self.asked: list[States] = []
        for updates in self.updates:
            with updated(bench.base, updates) as model:
                self.asked.append(self.questions.ask(model))
        self.known: dict[str, Bools] = {n: self.right(n, a) for n, a in zip(self.names, self.asked, strict=True)}
        self.known[OWN] = self.right(OWN, self.base)
        self.alone = {
            name: Alone(
                rank=int(r), before=Count.of(self.right(name, self.base)), right=Count.of(self.known[name]),
                base=self.left(OWN, states),
            )
            for name, r, states in zip(self.names, ranks, self.asked, strict=True)
        }  # fmt: skip

    def right(self, name: str, states: States) -> Bools:
        """Which of the questions these states answer."""
        return self.questions.right(name, states[name])

    def left(self, name: str, states: States) -> Count:
        """How many of the questions that were known these states answer."""
        return Count.of(self.right(name, states), self.known[name])

    def share(self, name: str, draw: Draw, only: int | None = None) -> float:
        """The share of what was known that stays right if changes of logits add up: of all members, or of `only` one.

        0 of nothing is 0; no merge is asked it.
        """
        kept = [(j, w) for j, w in zip(draw.members, draw.each, strict=True) if only in (None, j)]
        states = added(self.base[name], [self.asked[j][name] for j, _ in kept], [w for _, w in kept])
        found = self.left(name, {name: states})
        return found.right / max(found.asked, 1)

    def foretell(self, draw: Draw, found: Geometry) -> Foretold:
        """What the single adapters say of a merge of them."""
        said, norm = of_geometry(found, draw.members, draw.each)
        members = tuple(self.names[j] for j in draw.members)
        shares = {
            "dilution": [self.share(n, draw, j) for n, j in zip(members, draw.members, strict=True)],
            "additive": [self.share(n, draw) for n in members],
        }
        each = {key: tuple(map(float, values)) for key, values in (said | shares).items()}
        return Foretold(adapters=members, weights=draw.weights, said=each,
                        base={"norm": norm, "additive": self.share(OWN, draw)})  # fmt: skip

    def merge(self, draw: Draw) -> Merged:
        """Make a merge, and ask it what its adapters and the base know."""
        made = weighted_sum([self.updates[j] for j in draw.members], draw.each.tolist())
        with updated(self.bench.base, made) as model:
            states = self.questions.ask(model)
        return Merged(kept=tuple(self.left(self.names[j], states) for j in draw.members), base=self.left(OWN, states))


def measured(cell: ScratchCell | PretrainedCell, bench: Bench) -> Measured:
    """Train the pool, foretell all merges, and only then make them."""
    pool = Pool(cell, bench)
    found, planned = geometry(bench.base, pool.updates), draws(cell)
    foretold = seal("foretold", tuple(pool.foretell(draw, found) for draw in planned))
    merged = tuple(pool.merge(draw) for draw in planned)
    return Measured(base=Count.of(pool.known[OWN]), adapters=pool.alone, beyond=found.beyond, foretold=foretold,
                    merged=merged)  # fmt: skip


def run_scratch(cell: ScratchCell, device: str) -> Measured:
    """A world with a base of its own. Raises TrainingDiverged where a loss was not finite."""
    return measured(cell, scratch(cell, device))


def run_pretrained(cell: PretrainedCell, device: str) -> Measured:
    """A world in the pretrained base. Raises TrainingDiverged where a loss was not finite."""
    return measured(cell, pretrained(cell, device))


# ---------------------------------------------------------------- the experiment


def _shown(cell: PoolSettings) -> int:
    return len(names(cell)) * cell.steps * cell.batch


SCRATCH = Kind(run_scratch, lambda c: 5 + c.base_steps * c.base_batch * 2e-4 + _shown(c) * 2e-4, stores=True)
PRETRAINED = Kind(run_pretrained, lambda c: 30 + _shown(c) * 2e-2, stores=True)

experiment = Experiment(
    purpose="The audit, scored: what it says of a merge beforehand, and what the merge then keeps",
    order=50,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(SCRATCH, PRETRAINED),
    declare=declare,
)
