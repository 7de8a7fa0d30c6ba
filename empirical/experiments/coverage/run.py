"""Two-hop reuse of real adapters: which bridges compose, where facts must be written, and what one can foretell.

A cell is either the constructed two-layer stack under one placement (exact, nothing is trained) or a *world*: a base is
pretrained on composition through a share c of the bridges; experts for the first hop (new persons) and the second hop
(changed values) are trained on it, each alone; what they do alone fixes the predictions; then they are reused together.

Several sets of experts are trained on each base, so that the noise of training is told from that of the world. Scored
in every condition: the one-hop facts of both experts and of the base, and the two-hop questions by new or held-out old
person, unchanged or changed second hop, covered or uncovered bridge: by kind of answer, by forced choice among the
values, and among the questions whose two hops survive.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Cell, Count
from empirical.experiments.coverage.predictions import declare
from empirical.experiments.coverage.tables import (
    FEW,
    PLACEMENTS,
    Additive,
    Alignment,
    Answered,
    Curvature,
    Experts,
    Foretold,
    HeldOut,
    Law,
    Measured,
    Pair,
    Queries,
    Scored,
    Settings,
    Stack,
    StackCell,
    Steps,
    Survivors,
    WorldCell,
    WorldSettings,
    asked,
    repeats,
    scores,
)
from empirical.experiments.known import fresh_base, known_world, lead
from empirical.reuse.methods import (
    Options,
    asks,
    check_method,
    modules_of,
    oracle_right,
    random_like,
    reused,
    weighted_sum,
)
from empirical.reuse.own import trial
from empirical.tasks.sentences import Batch, Part, Sentences, shuffle_answers
from empirical.tasks.two_hop import Queries as Asked
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    Trained,
    answer_logits,
    pretrain,
    train_everything,
    train_rows,
)
from empirical.training.bases import Updates, dense, updated
from empirical.training.together import train_adapters, trainer
from theory.additive import additive_ceiling, interaction_split
from theory.composition import coverage_law
from theory.numerics import require, stream
from theory.routing import bridge_blind_ceiling, oracle_ceiling
from theory.stack import place_edits, two_layer_stack

#: first-hop expert and second-hop expert that are reused together
PAIRS = {
    "all": ("first_all", "second_all"),
    "placed": ("first_early", "second_late"),
    "swapped": ("first_late", "second_early"),
    "rows": ("rows", "second_late"),
    "shuffled": ("first_shuffled", "second_late"),
}
#: two hops and an expert for the direct relation of other people: what a library holds beside the hops themselves
LIBRARY = (*PAIRS["all"], "direct_others")
EXPERTS = (
    *dict.fromkeys(e for pair in PAIRS.values() for e in pair),
    "joint",
    "joint_bridge",
    "direct",
    "direct_others",
    "identity",
    "general",
    "everything",
)


# ---------------------------------------------------------------- the grid


def cells(settings: Settings) -> list[Cell]:
    """The stack's placements and one cell per world of every group.

    Raises:
        ValueError: an unknown key of a group, an unknown expert or method.
    """
    grid: list[Cell] = []
    for seed in range(settings.stack.worlds):
        grid += [StackCell.of(settings.stack, placement=p, seed=seed) for p in PLACEMENTS]
    for group in settings.groups:
        world = WorldSettings.of(settings).but(**group.changes)
        unknown = sorted(set(world.experts) - set(EXPERTS))
        require(not unknown, "experts", "some of " + ", ".join(EXPERTS), ", ".join(unknown))
        for method in (*world.methods, *world.methods_placed):
            check_method(method)
        grid += [
            WorldCell.of(world, group=group.name, seed=group.first_seed + i, coverage=c)
            for i in range(group.worlds)
            for c in group.coverage
        ]
    return grid


def takes_method(cell: WorldCell) -> bool:
    """A merge of the user's own is run where others are, on one set of experts."""
    return bool(cell.methods) and set(PAIRS["all"]) <= set(cell.experts)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core, from its sizes."""
    size = cell.layers * cell.width**2 / (4 * 128**2)
    adapters = len(cell.experts) + (2 * cell.layers if cell.scan else 0)
    base = cell.base_steps * cell.base_batch * 4.5e-4
    experts = adapters * cell.adapter_steps * cell.adapter_batch * 2.2e-4 + adapters + len(cell.methods)
    return 5 + size * (base + cell.sets * experts)


# ---------------------------------------------------------------- the constructed stack


def run_stack(cell: StackCell, device: str) -> Stack:
    """The two-layer stack in torch (float64), all prompts at once; ties count as wrong."""
    n, m, people = cell.bridges, cell.values, cell.people
    rng = stream(cell.seed, "stack", "tables")
    bridge_of, table = rng.integers(n, size=people), rng.integers(m, size=n)
    stack = two_layer_stack(n, m, people)
    placement = place_edits(stack, bridge_of.tolist(), table.tolist(), cell.placement)
    W1, W2 = (torch.tensor(w) for w in (stack.W1, stack.W2))
    for update, late in ((placement.first, placement.first_late), (placement.second, placement.second_late)):
        (W2 if late else W1).add_(torch.tensor(update.dense()))
    gates, offsets, readout = (torch.tensor(w) for w in (stack.gates, stack.offsets, stack.readout))

    def logits(kind: str, count: int) -> torch.Tensor:
        h0 = torch.tensor(np.array([stack.prompt(kind, i) for i in range(count)]))
        h1 = h0 + torch.relu(h0) @ W1.T
        return (h1 + torch.relu(h1 @ gates.T - offsets) @ W2.T) @ readout.T

    def right(found: torch.Tensor, answers: np.ndarray) -> Count:
        own = found.gather(1, torch.tensor(answers)[:, None])
        beaten = (own - found > 1e-9).sum(dim=1) == found.shape[1] - 1  # logits are whole numbers up to rounding
        return Count.of(beaten.numpy())

    values = table[bridge_of]
    return Stack(
        first_hop=right(logits("first", people)[:, :n], bridge_of),
        second_hop=right(logits("second", n)[:, n:], table),
        two_hop=right(logits("two_hop", people)[:, n:], values),
        bridge_blind=Count(int(np.bincount(values).max()), people),
    )


# ---------------------------------------------------------------- a world


class Answers(NamedTuple):
    """A condition's answers on the new persons' questions: kinds (n,) by the fields of `Answered`, logits of the values
    (n, m), the confidence of the answers (n,); and which first hops (new persons, R1) and second hops (bridges, R2) are
    answered."""

    kinds: np.ndarray
    values: np.ndarray
    confidence: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Which questions are answered right (n,)."""
        right: np.ndarray = self.kinds == 0
        return right


def auc(score: np.ndarray, right: np.ndarray) -> float | None:
    """Probability that a right answer has the higher score than a wrong one (ties half); None below 3 of either."""
    from scipy.stats import rankdata

    positive = int(np.count_nonzero(right))
    negative = len(right) - positive
    if min(positive, negative) < 3:
        return None
    ranks = rankdata(score)
    return float((ranks[right].sum() - positive * (positive + 1) / 2) / (positive * negative))


def run_world(cell: WorldCell, device: str) -> Measured:
    """Run one world. Raises TrainingDiverged where a loss was not finite."""
    return WorldRun(cell, device).run()


class WorldRun:
    """A world, its base and the questions that every model is asked; see :meth:`run`."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.device = cell, device
        self.world = w = known_world(cell, cell.seed)
        self.base = fresh_base(cell, w, device)
        self.new = w.queries(w.new)
        self.old = w.queries(w.held_out)
        self.first, self.second = w.first_hops(w.new), w.second_hops("new", changed=True)
        self.one_hops = {
            "first_new": self.first,
            "second_changed": self.second,
            "first_old": w.first_hops(w.old),
            "second_unchanged": w.second_hops("old", changed=False),
        }

    def run(self) -> Measured:
        """Pretrain; train every set of experts and measure each alone; seal what that foretells; reuse and score."""
        cell = self.cell
        schedule = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=100, weight_decay=0.1)
        losses = pretrain(self.base, self.world.pretraining(), schedule, cell.seed)
        right = self.right(self.base, self.world.direct(self.old, "old"))
        held_out = HeldOut(covered=Count.of(right, self.old.covered), uncovered=Count.of(right, ~self.old.covered))
        base, answers = self.score(self.base)
        sets = [SetRun(self, i, answers) for i in range(1 if cell.user_method else cell.sets)]
        for experts in sets:
            experts.train_all()
        predicted = seal("predicted", self.foretell(sets))
        found = [experts.reuse() for experts in sets]
        scored = {"base": [base]} | {condition: [f.scores[condition] for f in found] for condition in found[0].scores}
        merging = {condition: float(np.mean([s.merging[condition] for s in sets])) for condition in sets[0].merging}
        return Measured(
            trainer=trainer(), base_loss=float(np.mean(losses[-20:])), held_out_questions=held_out,
            queries=self.size(), predicted=predicted, scores=scores(scored), base=base, sets=tuple(found),
            merging=merging,
        )  # fmt: skip

    def size(self) -> Queries:
        """How many new persons, and how many queries of the headline cell, this world has."""
        headline = self.new.changed & self.new.covered & self.new.differs
        return Queries(new_persons=len(np.unique(self.new.person)), headline=int(headline.sum()))

    def foretell(self, sets: Sequence[SetRun]) -> Foretold:
        """What the experts alone, the tables' sizes and the theory say about reuse."""
        n, m = self.cell.bridges, self.cell.values
        return Foretold(
            coverage_law=tuple(experts.laws() for experts in sets),
            oracle_ceiling=oracle_ceiling(n, m, bystanders=1),
            additive_ceiling=additive_ceiling(n, m),
            bridge_blind=bridge_blind_ceiling(n, m),
        )

    @property
    def shown(self) -> np.ndarray:
        """Changed questions about every other new person: the bridge data that joint training may see."""
        shown: np.ndarray = self.new.changed & (self.new.person % 2 == 0)
        return shown

    # ------------------------------------------------------------ questions and scores

    @torch.no_grad()
    def ask(self, model: Any, sentences: Sentences) -> torch.Tensor:
        """Logits (n, vocabulary) in front of the last answer of every sentence."""
        tokens = sentences.tokens
        column = sentences.answers[-1]
        batch = Batch(tokens[:, : column + 1], np.arange(len(tokens)), np.full(len(tokens), column))
        return answer_logits(model, batch)[0]

    def right(self, model: Any, sentences: Sentences) -> np.ndarray:
        """Which last answers the model gives, by the largest logit over the whole vocabulary."""
        if not len(sentences.tokens):
            return np.zeros(0, dtype=bool)
        found = self.ask(model, sentences).argmax(dim=1).cpu().numpy()
        right: np.ndarray = found == sentences.tokens[:, sentences.answers[-1]]
        return right

    def kinds(self, queries: Asked, answers: np.ndarray) -> np.ndarray:
        """What kind of answer each token (n,) is, by the position of its field in `Answered`."""
        v = self.world.vocabulary

        def among(kind: str) -> np.ndarray:
            span = v.range(kind)
            return (answers >= span.start) & (answers < span.stop)

        kinds: np.ndarray = np.select(
            [
                answers == v.tokens("value", queries.value),
                answers == v.tokens("bridge", queries.bridge),
                answers == v.tokens("value", queries.old),
                among("value"),
                among("bridge"),
            ],
            [Answered._fields.index(f) for f in ("right", "bridge", "old_value", "other_value", "other_bridge")],
            Answered._fields.index("neither"),
        )
        return kinds

    def score(self, model: nn.Module) -> tuple[Scored, Answers]:
        """The model's counts in every cell, and its answers."""
        w, new, old = self.world, self.new, self.old
        span = w.vocabulary.range("value")
        hops = {hop: self.right(model, sentences) for hop, sentences in self.one_hops.items()}
        logits = {"new": self.ask(model, w.direct(new)), "old": self.ask(model, w.direct(old))}
        questions: dict[str, Answered] = {}
        found = {}
        for person, queries in (("new", new), ("old", old)):
            kinds = self.kinds(queries, logits[person].argmax(dim=1).cpu().numpy())
            forced = logits[person][:, span.start : span.stop].argmax(dim=1).cpu().numpy() == queries.value
            for cell, mask in cells_of(queries).items():
                questions[f"{person}_{cell}"] = Answered.of(kinds, forced, mask)
            found[person] = kinds, forced
        kinds, forced = found["new"]
        questions["new_changed_any"] = Answered.of(kinds, forced, new.changed)  # i.i.d., repeats of the old included
        unseen = new.changed & new.differs & ~self.shown
        questions["new_changed_unseen"] = Answered.of(kinds, forced, unseen & new.covered)
        questions["new_changed_unseen_uncovered"] = Answered.of(kinds, forced, unseen & ~new.covered)
        # first_hops and second_hops list all (x, R1) and all (y, R2) in order, changed relations first
        first = hops["first_new"].reshape(-1, w.shape.first_relations)
        second = np.hstack([hops[h].reshape(w.shape.bridges, -1) for h in ("second_changed", "second_unchanged")])
        answers = Answers(
            kinds, logits["new"][:, span.start : span.stop].double().cpu().numpy(),
            torch.softmax(logits["new"].double(), dim=1).amax(dim=1).cpu().numpy(), first, second,
        )  # fmt: skip
        one, two = self.hops(answers)
        survivors = {
            f"new_{cell}": Survivors(
                first=Count.of(one, mask), second=Count.of(two, mask), both=Answered.of(kinds, forced, mask & one & two)
            )
            for cell, mask in cells_of(new).items()
            if cell.startswith("changed")
        }
        facts = {hop: Count.of(right) for hop, right in hops.items()}
        return Scored(facts=facts, questions=questions, survivors=survivors), answers

    def hops(self, answers: Answers) -> tuple[np.ndarray, np.ndarray]:
        """Of every new person's question: whether its first hop is answered, and its second (n,)."""
        new = self.new
        return answers.first[new.person - self.world.new[0], new.first], answers.second[new.bridge, new.second]


def cells_of(queries: Asked) -> dict[str, np.ndarray]:
    """Masks of two-hop questions by second hop and bridge; of changed ones those with another value than before."""
    return {
        f"{second}_{bridge}": chosen & covered
        for second, chosen in (("unchanged", ~queries.changed), ("changed", queries.changed & queries.differs))
        for bridge, covered in (("covered", queries.covered), ("uncovered", ~queries.covered))
    }


class SetRun:
    """One set of experts on the base of a world: trained with a seed of its own, measured alone, then reused."""

    def __init__(self, run: WorldRun, number: int, base: Answers) -> None:
        self.run, self.cell, self.world, self.base = run, run.cell, run.world, run.base
        self.seed = int(stream(run.cell.seed, "experts", number).integers(2**31))
        self.experts: dict[str, Updates] = {}
        self.losses: dict[str, float] = {}
        self.scores: dict[str, Scored] = {}
        self.merging: dict[str, float] = {}
        self.alone: dict[str, Answers] = {"base": base}

    # ------------------------------------------------------------ experts

    def train_all(self) -> None:
        """Train the experts and measure each alone."""
        wanted = self.wanted()
        trained = self.train(wanted)
        for name in wanted:
            self.experts[name] = trained[name].updates
            self.losses[name] = float(np.mean(trained[name].losses[-20:]))
            self.alone[name] = self.measure(name, [self.experts[name]])

    def measure(self, condition: str, members: Sequence[Updates]) -> Answers:
        """Score the base with the exact sum of these updates."""
        with updated(self.base, weighted_sum(members, [1.0] * len(members))) as model:
            return self.score(condition, model)

    def score(self, condition: str, model: nn.Module) -> Answers:
        """Score a model; its counts are kept under the name of the condition."""
        self.scores[condition], answers = self.run.score(model)
        return answers

    def has(self, *experts: str) -> bool:
        """Whether these experts were trained."""
        return all(e in self.experts for e in experts)

    def wanted(self) -> list[str]:
        """Experts to train: those of the cell, and with `scan` both hops on each single layer."""
        scan = [f"{hop}_{layer}" for layer in range(self.cell.layers) for hop in ("first", "second")]
        return [*self.cell.experts, *(scan if self.cell.scan else [])]

    def train(self, names: Sequence[str]) -> dict[str, Trained]:
        """Train these experts, all adapters together.

        Half of every batch rehearses old one-hop facts, or the base is wiped out.
        """
        w, cell, first, second = self.world, self.cell, self.run.first, self.run.second
        replay = w.replay(spare=second)
        found: dict[str, Trained] = {}
        jobs = []
        for name in names:
            if name == "rows":
                tokens = w.vocabulary.tokens("person", w.new)
                plan = Schedule(cell.adapter_steps // 2, cell.adapter_batch, cell.rate_rows)
                found[name] = train_rows(self.base, tokens, [Part(first, 1.0)], plan, self.seed)
            elif name == "everything":
                parts = [Part(first, 0.25), Part(second, 0.25), Part(replay, 0.5)]
                plan = Schedule(cell.adapter_steps, cell.adapter_batch, cell.rate_everything)
                found[name] = train_everything(self.base, parts, plan, self.seed)
            else:
                parts, layers = self.lesson(name, replay)
                shape = AdapterShape(cell.rank, 2 * cell.rank, layers)
                plan = Schedule(cell.adapter_steps, cell.adapter_batch, cell.rate)
                jobs.append(Job(name, parts, shape, plan, self.seed))
        return found | train_adapters(self.base, jobs)

    def lesson(self, name: str, replay: Sentences) -> tuple[list[Part], tuple[int, ...] | None]:
        """What an adapter is shown, and the layers on which it is written (None: all)."""
        w, first, second, new = self.world, self.run.first, self.run.second, self.run.new
        hop, _, place = name.partition("_")
        layers: tuple[int, ...] | None = None
        if hop in ("first", "second") and place != "all":
            places = {"early": self.cell.early, "late": self.cell.late, "shuffled": self.cell.early}
            layers = (int(place),) if place.isdigit() else tuple(places[place])
        if name == "first_shuffled":
            own = [(shuffle_answers(first, stream(self.seed, "control", "shuffled")), 0.5)]
        elif hop == "first":
            own = [(first, 0.5)]
        elif hop == "second":
            own = [(second, 0.5)]
        elif name == "joint":
            own = [(first, 0.25), (second, 0.25)]
        elif name == "joint_bridge":
            own = [(first, 0.2), (second, 0.2), (w.direct(new.take(self.run.shown)), 0.2)]
        elif name == "direct":
            own = [(w.direct(new.take(new.changed)), 0.5)]
        elif name == "direct_others":
            own = [(w.direct(new.take(self.run.shown)), 0.5)]
        elif name == "identity":
            own = [(w.identities(), 0.5)]
        else:
            own = []
        parts = [Part(sentences, share) for sentences, share in own]
        return [*parts, Part(replay, 1.0 - sum(share for _, share in own))], layers

    def laws(self) -> dict[str, Law]:
        """The coverage law of every pair, from its experts alone."""
        new, laws = self.run.new, {}
        asked = new.changed & new.differs
        for pair, (first, second) in PAIRS.items():
            if pair == "shuffled" or not self.has(first, second):
                continue
            retrieved = self.scores[first].questions["new_unchanged_covered"].free
            changed = self.scores[second].questions["old_changed_covered"].free
            if retrieved.asked and changed.asked and asked.any():
                law = coverage_law(float(new.covered[asked].mean()), retrieved.rate, changed.rate, self.cell.values)
                laws[pair] = Law(retrieval=retrieved.rate, p2=changed.rate, covered=retrieved.rate * changed.rate,
                                 low=law.low, high=law.high)  # fmt: skip
        return laws

    # ------------------------------------------------------------ reuse

    def reuse(self) -> Experts:
        """Score every pair, and the first hop of a random adapter in place of the early one."""
        pairs = {name: self.pair(name, *members) for name, members in PAIRS.items() if self.has(*members)}
        if "placed" in pairs:
            first, second = (self.experts[e] for e in PAIRS["placed"])
            self.measure("random_first:placed", [random_like(first, self.seed), second])
        if self.has(*LIBRARY):
            self.reuse_by(["sum", *self.methods("all")], "library", LIBRARY)
        trace = self.trace() if "all" in pairs else {}
        return Experts(losses=self.losses, scores=self.scores, pairs=pairs, trace=trace)

    def pair(self, name: str, first: str, second: str) -> Pair:
        """The exact sum of two experts: foretell per query, then score; then the other methods where they are asked."""
        members = [self.experts[first], self.experts[second]]
        with updated(self.base, weighted_sum(members, [1.0, 1.0])) as model:
            foretold = self.alignment(model) if name in ("all", "placed", "rows") else {}
            answers = self.score(f"sum:{name}", model)
            written = self.written(model, answers)
        routed = oracle_right([self.alone[e].right for e in ("base", first, second)])
        self.reuse_by(self.methods(name), name, (first, second))
        return Pair(
            written=written,
            alignment=self.judge_alignment(foretold, answers) if foretold else None,
            additive=self.additive(first, second, answers),
            oracle=Count.of(routed, self.run.new.changed),
            curvature=self.curvature(first, second, answers) if name == "all" and self.cell.curved else None,
        )

    def reuse_by(self, methods: Sequence[str], name: str, members: Sequence[str]) -> None:
        """Score these methods on some experts, under `name`."""
        options = Options(
            seed=self.seed,
            density=self.cell.density,
            general=[self.experts["general"]] if "general" in self.experts else [],
            probes=[self.few(member) for member in members],
            data=self.few("two hops"),
        )
        for method in methods:
            condition, started = f"{self.label(method)}:{name}", time.process_time()
            with reused(method, [self.experts[member] for member in members], self.base, options) as model:
                self.merging[condition] = time.process_time() - started
                self.score(condition, model)

    def few(self, name: str) -> Sentences:
        """A few examples of what an expert was trained on, or of the two-hop questions that joint training may see.

        For methods that are not data-free; each asks for what it needs.
        """
        hop, new = name.partition("_")[0], self.run.new
        facts = {"first": self.run.first, "second": self.run.second}.get(hop)
        shown = self.world.direct(new.take(self.run.shown)) if facts is None else facts
        return shown.take(stream(self.seed, "few", name).permutation(len(shown.tokens))[:FEW])

    def methods(self, pair: str) -> list[str]:
        """Methods to score on a pair: few on experts without a common module, where most of them are the plain sum."""
        if pair not in ("all", "placed"):
            return []
        own = self.cell.user_method
        listed = self.cell.methods if pair == "all" else self.cell.methods_placed
        chosen = [m for m in listed if m != "sum"] + ([own.pinned] if own else [])
        return [m for m in chosen if "general" not in asks(m) or "general" in self.experts]

    @staticmethod
    def label(method: str) -> str:
        """Name of a method in the scores; a file's path would differ from machine to machine."""
        return "own" if ".py:" in method else method

    def additive(self, first: str, second: str, both: Answers) -> Additive:
        """f(U1) + f(U2) - f(0) on the new x changed questions, and what the interaction I carries."""
        new = self.run.new
        chosen = new.changed
        zero, one, two = (self.alone[e].values[chosen] for e in ("base", first, second))
        answers = new.value[chosen]
        split = interaction_split(zero, one, two, both.values[chosen], answers.tolist())
        additive = lead(split.additive, answers) > 0
        together = split.margin > 0
        carried = together & ~additive
        return Additive(additive=Count.of(additive), together=Count.of(together), carried=Count.of(carried),
                        within=Count.of(~split.certified, carried))  # fmt: skip

    def curvature(self, first: str, second: str, both: Answers) -> Curvature | None:
        """The mixed derivative of the whole network on the first questions of the headline cell; None where none is."""
        new, w = self.run.new, self.world
        rows = np.flatnonzero(new.changed & new.differs & new.covered)[: self.cell.curved]
        if not len(rows):
            return None
        prompts = w.direct(new.take(rows)).tokens[:, :-1]
        span = w.vocabulary.range("value")
        mixed = mixed_derivative(self.base, self.experts[first], self.experts[second], prompts, span)
        answers = new.value[rows]
        zero, one, two = (self.alone[e].values[rows] for e in ("base", first, second))
        split = interaction_split(zero, one, two, both.values[rows], answers.tolist())
        largest = np.max([np.abs(mixed(s, t)).max(axis=1) for s in (0.0, 0.5, 1.0) for t in (0.0, 0.5, 1.0)], axis=0)
        decided = split.margin > 2 * largest
        at_zero = mixed(0.0, 0.0)
        size = float(np.linalg.norm(split.interaction))
        return Curvature(
            decided=Count.of(decided),
            agree=Count.of(lead(split.additive, answers) > 0, decided),
            residual=float(np.linalg.norm(split.interaction - at_zero)) / size,
        )

    def trace(self) -> dict[str, dict[str, Count]]:
        """Facts kept by the all-layer first expert plus the second one's part on one layer, or on all others."""
        first, second = (self.experts[e] for e in PAIRS["all"])
        found = {}
        for layer in range(self.cell.layers):
            here = {name: update for name, update in second.items() if f".{layer}." in name}
            rest = {name: update for name, update in second.items() if name not in here}
            for label, part in ((f"only_{layer}", here), (f"without_{layer}", rest)):
                with updated(self.base, weighted_sum([first, part], [1.0, 1.0])) as model:
                    found[label] = {hop: Count.of(self.run.right(model, self.run.one_hops[hop]))
                                    for hop in ("first_new", "second_changed")}  # fmt: skip
        return found

    # ------------------------------------------------------------ written out

    def written(self, model: nn.Module, answers: Answers) -> dict[str, Steps]:
        """The written-out question on new persons: both steps teacher-forced, then the model's own bridge.

        The model names the bridge; the form ``SEPARATOR y R2`` around it is filled in, and the last step is asked.
        """
        new = self.run.new
        sentences = self.world.written_out(new)
        step1 = Sentences(sentences.tokens, (sentences.answers[0],))
        named = self.run.ask(model, step1).argmax(dim=1).cpu().numpy()
        first_right = named == sentences.tokens[:, sentences.answers[0]]
        last_right = self.run.right(model, sentences)
        bare_first, bare_second = self.run.hops(answers)
        own = sentences.tokens.copy()
        own[:, 4] = own[:, 6] = named
        reached = last_right.copy()
        asked = ~first_right
        if asked.any():
            reached[asked] = self.run.right(model, Sentences(own[asked], sentences.answers))
        counted = {"s1": first_right, "s2": last_right, "bare1": bare_first, "bare2": bare_second, "reached": reached}
        return {
            cell: Steps(**{step: Count.of(right, mask) for step, right in counted.items()})
            for cell, mask in cells_of(new).items()
        }

    # ------------------------------------------------------------ alpha and kappa

    @torch.no_grad()
    def features(self, model: Any, sentences: Sentences, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of the MLP (n, width) and of its output matrix (n, ff) at `layer`, at the last token of the prompt."""
        taken: dict[str, torch.Tensor] = {}
        prompt = Sentences(sentences.tokens[:, : sentences.answers[-1]], (sentences.answers[-1] - 1,))
        block = f"model.layers.{layer}.mlp"
        with read_inputs(model, {"mlp": block, "down": f"{block}.down_proj"}, taken):
            tokens = torch.as_tensor(prompt.tokens, device=self.run.device)
            model.model(input_ids=tokens, use_cache=False)
        return tuple(taken[k][:, -1].double().cpu().numpy() for k in ("mlp", "down"))  # type: ignore[return-value]

    def alignment(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Per query, before it is scored: alpha of the right bridge (changed facts), kappa (unchanged facts)."""
        w, new, cell = self.world, self.run.new, self.cell
        direct = w.direct(new)
        alpha = np.full(len(new), np.nan)
        _, keys = self.features(model, self.run.second, cell.alpha_layer)
        _, psi = self.features(model, direct, cell.alpha_layer)
        facts = new.bridge * w.shape.changed_relations + new.second  # second_hops lists all (y, R2) in order
        alpha[new.changed] = coefficients(keys.T, psi[new.changed].T)[
            facts[new.changed], np.arange(int(new.changed.sum()))
        ]
        one_hop = w.second_hops("new")
        mlp_keys, _ = self.features(model, one_hop, cell.kappa_layer)
        mlp_psi, _ = self.features(model, direct, cell.kappa_layer)
        relation = np.tile(np.arange(w.shape.second_relations), w.shape.bridges)
        for r in range(w.shape.second_relations):  # the relation dominates both families; its mean is taken out
            mlp_keys[relation == r] -= mlp_keys[relation == r].mean(axis=0)
            mlp_psi[new.second == r] -= mlp_psi[new.second == r].mean(axis=0)
        own = mlp_keys[new.bridge * w.shape.second_relations + new.second]
        norms = np.linalg.norm(own, axis=1) * np.linalg.norm(mlp_psi, axis=1)
        kappa = np.sum(own * mlp_psi, axis=1) / np.maximum(norms, np.finfo(np.float64).tiny)
        return {"alpha": alpha, "kappa": kappa}

    def judge_alignment(self, foretold: Mapping[str, np.ndarray], answers: Answers) -> Alignment:
        """AUC of alpha and kappa against the answer's own confidence, within covered bridges and over all."""
        new = self.run.new
        found: dict[str, float | None] = {}
        for score, cell in (("alpha", new.changed & new.differs), ("kappa", ~new.changed)):
            for bridges, mask in (("covered", cell & new.covered), ("any", cell)):
                right = answers.right[mask]
                found[f"{score}_{bridges}"] = auc(foretold[score][mask], right)
                found[f"{score}_{bridges}_confidence"] = auc(answers.confidence[mask], right)
        return Alignment(**found)


class _Silu(nn.Module):
    """x sigmoid(x), differentiable twice forward."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(x)


def mixed_derivative(
    base: Any, first: Updates, second: Updates, prompts: np.ndarray, span: range
) -> Callable[[float, float], np.ndarray]:
    """(s, t) -> d2/ds dt of the logits of `span` (n, m) behind the prompts (n, L), at weights W + s U1 + t U2.

    Forward over forward in float64 (norms in float32, as transformers has them); attention and SiLU are written out,
    since fused kernels have no such derivative.
    """
    model = copy.deepcopy(base).double()
    model.set_attn_implementation("eager")
    for layer in model.base_model.layers:
        layer.mlp.act_fn = _Silu()
    tokens = torch.as_tensor(prompts, device=next(model.parameters()).device)
    weights = {f"{name}.weight": model.get_submodule(name).weight.detach() for name in modules_of([first, second])}
    parts = [
        {f"{name}.weight": torch.as_tensor(dense(update)).to(tokens.device) for name, update in updates.items()}
        for updates in (first, second)
    ]

    def logits(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        moved = {
            name: weight + sum(x * part[name] for x, part in zip((s, t), parts, strict=True) if name in part)
            for name, weight in weights.items()
        }
        given = {"input_ids": tokens, "use_cache": False}
        found: torch.Tensor = torch.func.functional_call(model, moved, (), given).logits
        return found[:, -1, span.start : span.stop]

    def mixed(s: float, t: float) -> np.ndarray:
        one = torch.ones((), dtype=torch.float64, device=tokens.device)

        def slope(x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = torch.func.jvp(lambda y: logits(x, y), (t * one,), (one,))[1]
            return found

        with torch.no_grad(), warnings.catch_warnings():
            # torch compiles its own rules with a function that it calls deprecated
            warnings.filterwarnings("ignore", r"`torch\.jit\.script` is deprecated", DeprecationWarning)
            found: np.ndarray = torch.func.jvp(slope, (s * one,), (one,))[1].cpu().numpy()
        return found

    return mixed


def coefficients(K: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """``K^+ psi`` for many columns psi at once (theory.composition.bridge_alignment, one decomposition for all)."""
    found: np.ndarray = np.linalg.pinv(K, rcond=4 * np.finfo(np.float64).eps * max(K.shape)) @ psi
    return found


@contextmanager
def read_inputs(model: nn.Module, modules: Mapping[str, str], into: dict[str, torch.Tensor]) -> Iterator[None]:
    """While open, every forward pass leaves the inputs of the named modules in `into`."""
    handles = []
    try:
        for key, name in modules.items():

            def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...], key: str = key) -> None:
                into[key] = inputs[0].detach()

            handles.append(model.get_submodule(name).register_forward_pre_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---------------------------------------------------------------- the experiment

STACK = Kind(run_stack, lambda cell: 1.0)
WORLD = Kind(run_world, seconds, takes_method, stores=True)


experiment = Experiment(
    purpose="Two-hop reuse of real adapters: which bridges compose, where facts must be written, and what one can "
    "foretell",
    order=30,
    protocol=2,
    settings=Settings,
    cells=cells,
    kinds=(STACK, WORLD),
    declare=declare,
    asked=asked,
    repeats=repeats,
    try_method=partial(trial, given=("general", "probes", "data")),
)
