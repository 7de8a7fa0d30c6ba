"""Two-hop reuse of real adapters: which bridges compose, where facts must be written, and what one can foretell.

A cell is either the constructed two-layer stack under one placement (exact, nothing is trained) or a *world*: a base is
pretrained on composition through a share c of the bridges; experts for the first hop (new persons) and the second hop
(changed values) are trained on it, each alone; what they do alone fixes the predictions; then they are reused together.

Scored in every condition, as [right, asked]: the one-hop facts of both experts and of the base, and the two-hop
questions by new or held-out old person, unchanged or changed second hop, covered or uncovered bridge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.eager import seal
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.judge import Observed
from empirical.engine.records import Record
from empirical.engine.settings import Cell, Count
from empirical.experiments.coverage import predictions as said
from empirical.experiments.coverage.tables import (
    PLACEMENTS,
    Additive,
    Alignment,
    Foretold,
    HeldOut,
    Law,
    Measured,
    Pair,
    Queries,
    Settings,
    Stack,
    StackCell,
    Steps,
    WorldCell,
    WorldSettings,
    Written,
)
from empirical.reuse.methods import ROUTERS, Options, check_method, oracle_right, random_like, reused, weighted_sum
from empirical.tasks.sentences import Batch, Part, Sentences, shuffle_answers
from empirical.tasks.two_hop import World, WorldShape
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
from empirical.training.bases import BaseShape, Updates, scratch_base, updated
from empirical.training.together import train_adapters, trainer
from theory.additive import additive_ceiling, interaction_split
from theory.composition import chain_of_thought, coverage_law
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
EXPERTS = (
    *dict.fromkeys(e for pair in PAIRS.values() for e in pair),
    "joint",
    "joint_bridge",
    "direct",
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
        for level, c in enumerate(group.coverage):
            for i in range(group.worlds):
                seed = group.first_seed + level * group.worlds + i
                grid.append(WorldCell.of(world, group=group.name, seed=seed, coverage=c))
    return grid


def takes_method(cell: WorldCell) -> bool:
    """A merge of the user's own is run in every world that has both experts on all layers."""
    return set(PAIRS["all"]) <= set(cell.experts)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core, from its sizes."""
    size = cell.layers * cell.width**2 / (4 * 128**2)
    adapters = len(cell.experts) + (2 * cell.layers if cell.scan else 0)
    base = cell.base_steps * cell.base_batch * 4.5e-4
    return 5 + size * (base + adapters * cell.adapter_steps * cell.adapter_batch * 2.2e-4 + len(cell.methods))


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
    """A condition's answers on the two-hop questions: right (n,) by query, and the logits of the values (n, m)."""

    right: np.ndarray
    values: np.ndarray
    confidence: np.ndarray


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
    """Everything that happens in one world, in order; see :meth:`run`."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.device, self.seed = cell, device, cell.seed
        shape = cell.model_dump(include={field.name for field in fields(WorldShape)})
        self.world = World(WorldShape(**shape), self.seed)
        w = self.world
        sizes = BaseShape(w.vocabulary.size, cell.width, cell.layers, cell.heads, cell.feed_forward)
        self.base = scratch_base(sizes, self.seed).to(device)
        self.new = w.queries(w.new)
        self.old = w.queries(w.held_out)
        self.first, self.second = w.first_hops(w.new), w.second_hops("new", changed=True)
        self.one_hops = {
            "first_new": self.first,
            "second_changed": self.second,
            "first_old": w.first_hops(w.old),
            "second_unchanged": w.second_hops("old", changed=False),
        }
        self.experts: dict[str, Updates] = {}
        self.losses: dict[str, float] = {}
        self.scores: dict[str, dict[str, Count]] = {}
        self.alone: dict[str, Answers] = {}

    def run(self) -> Measured:
        """Pretrain, train experts, measure them alone, seal the predictions, reuse, score."""
        cell = self.cell
        schedule = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=100, weight_decay=0.1)
        losses = pretrain(self.base, self.world.pretraining(), schedule, self.seed)
        self.losses["base"] = float(np.mean(losses[-20:]))
        self.alone["base"] = self.measure("base", {})
        trained = self.train(self.wanted())
        for name in self.wanted():
            self.experts[name] = trained[name].updates
            self.losses[name] = float(np.mean(trained[name].losses[-20:]))
            self.alone[name] = self.measure(name, self.experts[name])
        predicted = self.foretell()
        pairs = {name: self.pair(name, *members) for name, members in PAIRS.items() if self.has(*members)}
        self.others()
        return Measured(
            trainer=trainer(), losses=self.losses, scores=self.scores, predicted=predicted, pairs=pairs,
            queries=self.size(), held_out_questions=self.held_out_scores,
        )  # fmt: skip

    def has(self, *experts: str) -> bool:
        """Whether these experts were trained in this world."""
        return all(e in self.experts for e in experts)

    def size(self) -> Queries:
        """How many new persons, and how many queries of the headline cell, this world has."""
        headline = self.new.changed & self.new.covered & self.new.differs
        return Queries(new_persons=len(np.unique(self.new.person)), headline=int(headline.sum()))

    # ------------------------------------------------------------ experts

    def wanted(self) -> list[str]:
        """Experts to train: those of the cell, and with `scan` both hops on each single layer."""
        scan = [f"{hop}_{layer}" for layer in range(self.cell.layers) for hop in ("first", "second")]
        return [*self.cell.experts, *(scan if self.cell.scan else [])]

    def train(self, names: Sequence[str]) -> dict[str, Trained]:
        """Train these experts, all adapters together.

        Half of every batch rehearses old one-hop facts, or the base is wiped out.
        """
        w, cell = self.world, self.cell
        replay = w.replay(spare=self.second)
        found: dict[str, Trained] = {}
        jobs = []
        for name in names:
            if name == "rows":
                tokens = w.vocabulary.tokens("person", w.new)
                plan = Schedule(cell.adapter_steps // 2, cell.adapter_batch, cell.rate_rows)
                found[name] = train_rows(self.base, tokens, [Part(self.first, 1.0)], plan, self.seed)
            elif name == "everything":
                parts = [Part(self.first, 0.25), Part(self.second, 0.25), Part(replay, 0.5)]
                plan = Schedule(cell.adapter_steps, cell.adapter_batch, cell.rate_everything)
                found[name] = train_everything(self.base, parts, plan, self.seed)
            else:
                parts, layers = self.lesson(name, replay)
                rate = cell.rate_all if layers is None else cell.rate_placed
                shape = AdapterShape(cell.rank, 2 * cell.rank, layers)
                plan = Schedule(cell.adapter_steps, cell.adapter_batch, rate)
                jobs.append(Job(name, parts, shape, plan, self.seed))
        return found | train_adapters(self.base, jobs)

    def lesson(self, name: str, replay: Sentences) -> tuple[list[Part], tuple[int, ...] | None]:
        """What an adapter is shown, and the layers on which it is written (None: all)."""
        w = self.world
        hop, _, place = name.partition("_")
        layers: tuple[int, ...] | None = None
        if hop in ("first", "second") and place != "all":
            places = {"early": self.cell.early, "late": self.cell.late, "shuffled": self.cell.early}
            layers = (int(place),) if place.isdigit() else tuple(places[place])
        if name == "first_shuffled":
            own = [(shuffle_answers(self.first, stream(self.seed, "control", "shuffled")), 0.5)]
        elif hop == "first":
            own = [(self.first, 0.5)]
        elif hop == "second":
            own = [(self.second, 0.5)]
        elif name == "joint":
            own = [(self.first, 0.25), (self.second, 0.25)]
        elif name == "joint_bridge":
            own = [(self.first, 0.2), (self.second, 0.2), (w.direct(self.new.take(self.shown)), 0.2)]
        elif name == "direct":
            own = [(w.direct(self.new.take(self.new.changed)), 0.5)]
        elif name == "identity":
            own = [(w.identities(), 0.5)]
        else:
            own = []
        parts = [Part(sentences, share) for sentences, share in own]
        return [*parts, Part(replay, 1.0 - sum(share for _, share in own))], layers

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

    def score(self, name: str, model: nn.Module) -> Answers:
        """Score the model in every cell; the counts go to `scores`."""
        w, new, old = self.world, self.new, self.old
        counts = {hop: Count.of(self.right(model, s)) for hop, s in self.one_hops.items()}
        logits = self.ask(model, w.direct(new))
        truth = w.vocabulary.tokens("value", new.value)
        right = logits.argmax(dim=1).cpu().numpy() == truth
        old_right = self.right(model, w.direct(old))
        for person, queries, answers in (("new", new, right), ("old", old, old_right)):
            for second, chosen in (("unchanged", ~queries.changed), ("changed", queries.changed & queries.differs)):
                for bridge, covered in (("covered", queries.covered), ("uncovered", ~queries.covered)):
                    counts[f"{person}_{second}_{bridge}"] = Count.of(answers, chosen & covered)
        counts["new_changed_any"] = Count.of(right, new.changed)  # i.i.d. table, repeats of the old value included
        counts["new_changed_unseen"] = Count.of(right, new.changed & new.covered & new.differs & ~self.shown)
        self.scores[name] = counts
        span = w.vocabulary.range("value")
        values = logits[:, span.start : span.stop].double().cpu().numpy()
        confidence = torch.softmax(logits.double(), dim=1).amax(dim=1).cpu().numpy()
        return Answers(right, values, confidence)

    def measure(self, name: str, updates: Updates) -> Answers:
        """Score the base with these updates added."""
        if name == "base":
            direct = self.world.direct(self.old, "old")
            right = self.right(self.base, direct)
            covered = self.old.covered
            self.held_out_scores = HeldOut(covered=Count.of(right, covered), uncovered=Count.of(right, ~covered))
        with updated(self.base, updates) as model:
            return self.score(name, model)

    # ------------------------------------------------------------ predictions from single experts

    def foretell(self) -> Foretold:
        """What the experts alone, the tables' sizes and the theory say about reuse; sealed before any merge."""
        n, m = self.cell.bridges, self.cell.values
        laws = {}
        for pair, (first, second) in PAIRS.items():
            if pair == "shuffled" or not self.has(first, second):
                continue
            retrieved, changed = self.scores[first]["new_unchanged_covered"], self.scores[second]["old_changed_covered"]
            asked = self.new.changed & self.new.differs
            if retrieved.asked and changed.asked and asked.any():
                law = coverage_law(float(self.new.covered[asked].mean()), retrieved.rate, changed.rate, m)
                laws[pair] = Law(retrieval=retrieved.rate, p2=changed.rate, covered=retrieved.rate * changed.rate,
                                 low=law.low, high=law.high)  # fmt: skip
        return Foretold(
            coverage_law=seal(laws),
            oracle_ceiling=seal(oracle_ceiling(n, m, bystanders=1)),
            additive_ceiling=seal(additive_ceiling(n, m)),
            bridge_blind=seal(bridge_blind_ceiling(n, m)),
        )

    # ------------------------------------------------------------ pairs

    def pair(self, name: str, first: str, second: str) -> Pair:
        """The exact sum of two experts: foretell per query, then score; then the other methods where they are asked."""
        members = [self.experts[first], self.experts[second]]
        with updated(self.base, weighted_sum(members, [1.0, 1.0])) as model:
            foretold = self.alignment(model) if name in ("all", "placed", "rows") else {}
            written = self.written(model)
            answers = self.score(f"sum:{name}", model)
        routed = oracle_right([self.alone[e].right for e in ("base", first, second)])
        for method in self.methods(name):
            options = Options(
                seed=self.seed,
                density=self.cell.density,
                general=[self.experts["general"]] if "general" in self.experts else [],
            )
            with reused(method, members, self.base, options) as model:
                self.score(f"{self.label(method)}:{name}", model)
        return Pair(
            written=written,
            alignment=self.judge_alignment(foretold, answers) if foretold else None,
            additive=self.additive(first, second, answers),
            oracle=Count.of(routed, self.new.changed),
        )

    def methods(self, pair: str) -> list[str]:
        """Methods to score on a pair: few on experts without a common module, where most of them are the plain sum."""
        if pair not in ("all", "placed"):
            return []
        own = self.cell.user_method
        listed = self.cell.methods if pair == "all" else self.cell.methods_placed
        chosen = [m for m in listed if m != "sum"] + ([own.reference] if own else [])
        subtracts = {m for m in ROUTERS if ROUTERS[m][1]}
        return [m for m in chosen if m not in subtracts or "general" in self.experts]

    @staticmethod
    def label(method: str) -> str:
        """Name of a method in the scores; a file's path would differ from machine to machine."""
        return "own" if ".py:" in method else method

    def additive(self, first: str, second: str, both: Answers) -> Additive:
        """f(U1) + f(U2) - f(0) on the new x changed questions, and what the interaction I carries."""
        chosen = self.new.changed
        zero, one, two = (self.alone[e].values[chosen] for e in ("base", first, second))
        answers = self.new.value[chosen]
        split = interaction_split(zero, one, two, both.values[chosen], answers.tolist())
        additive = strictly_right(split.additive, answers)
        together = split.margin > 0
        carried = together & ~additive
        return Additive(additive=Count.of(additive), together=Count.of(together), carried=Count.of(carried),
                        within=Count.of(~split.certified, carried))  # fmt: skip

    def others(self) -> None:
        """Controls that need several adapters: a random first hop, and the identity adapter added to a pair."""
        if self.has(*PAIRS["placed"]):
            first, second = (self.experts[e] for e in PAIRS["placed"])
            conditions = {"random_first:placed": [random_like(first, self.seed), second]}
            if "identity" in self.experts:
                conditions["identity:placed"] = [first, second, self.experts["identity"]]
            for name, members in conditions.items():
                with updated(self.base, weighted_sum(members, [1.0] * len(members))) as model:
                    self.score(name, model)

    # ------------------------------------------------------------ written out

    def written(self, model: nn.Module) -> Written:
        """The written-out question on new persons: both steps teacher-forced, sealed, then the model's own bridge.

        The model names the bridge; the form ``SEPARATOR y R2`` around it is filled in, and the last step is asked.
        """
        w = self.world
        sentences = w.written_out(self.new)
        step1 = Sentences(sentences.tokens, (sentences.answers[0],))
        named = self.ask(model, step1).argmax(dim=1).cpu().numpy()
        first_right = named == sentences.tokens[:, sentences.answers[0]]
        last_right = self.right(model, sentences)
        one_hop_first = self.right(model, self.first)
        one_hop_second = self.right(model, w.second_hops("new"))
        # first_hops and second_hops list all (x, R1) and all (y, R2) in order
        bare_first = one_hop_first[(self.new.person - w.new[0]) * w.shape.first_relations + self.new.first]
        bare_second = one_hop_second[self.new.bridge * w.shape.second_relations + self.new.second]
        own = sentences.tokens.copy()
        own[:, 4] = own[:, 6] = named
        asked = ~first_right
        reached = last_right.copy()
        cells = {
            f"{second}_{bridge}": changed & covered
            for second, changed in (("unchanged", ~self.new.changed), ("changed", self.new.changed & self.new.differs))
            for bridge, covered in (("covered", self.new.covered), ("uncovered", ~self.new.covered))
        }
        sealed = seal({cell: steps(*(Count.of(a, mask) for a in (first_right, last_right, bare_first, bare_second)))
                       for cell, mask in cells.items()})  # fmt: skip
        if asked.any():
            reached[asked] = self.right(model, Sentences(own[asked], sentences.answers))
        return Written(predicted=sealed, reached={cell: Count.of(reached, mask) for cell, mask in cells.items()})

    # ------------------------------------------------------------ alpha and kappa

    @torch.no_grad()
    def features(self, model: Any, sentences: Sentences, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs of the MLP (n, width) and of its output matrix (n, ff) at `layer`, at the last token of the prompt."""
        taken: dict[str, torch.Tensor] = {}
        prompt = Sentences(sentences.tokens[:, : sentences.answers[-1]], (sentences.answers[-1] - 1,))
        block = f"model.layers.{layer}.mlp"
        with read_inputs(model, {"mlp": block, "down": f"{block}.down_proj"}, taken):
            tokens = torch.as_tensor(prompt.tokens, device=self.device)
            model.model(input_ids=tokens, use_cache=False)
        return tuple(taken[k][:, -1].double().cpu().numpy() for k in ("mlp", "down"))  # type: ignore[return-value]

    def alignment(self, model: nn.Module) -> dict[str, np.ndarray]:
        """Per query, before it is scored: alpha of the right bridge (changed facts), kappa (unchanged facts)."""
        w, new, cell = self.world, self.new, self.cell
        direct = w.direct(new)
        alpha = np.full(len(new), np.nan)
        _, keys = self.features(model, self.second, cell.alpha_layer)
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
        new = self.new
        sealed = hashlib.sha256(b"".join(np.ascontiguousarray(v).tobytes() for v in foretold.values())).hexdigest()
        found: dict[str, float | None] = {}
        for score, cell in (("alpha", new.changed & new.differs), ("kappa", ~new.changed)):
            for bridges, mask in (("covered", cell & new.covered), ("any", cell)):
                right = answers.right[mask]
                found[f"{score}_{bridges}"] = auc(foretold[score][mask], right)
                found[f"{score}_{bridges}_confidence"] = auc(answers.confidence[mask], right)
        return Alignment(sha256=sealed, **found)


def steps(s1: Count, s2: Count, bare1: Count, bare2: Count) -> Steps:
    """What the steps of a chain say of its end; nothing where none was asked."""
    law = chain_of_thought(s1.rate, s2.rate) if s1.asked else None
    bare = chain_of_thought(bare1.rate, bare2.rate).independent if bare1.asked else None
    return Steps(s1=s1, s2=s2, bare1=bare1, bare2=bare2, lower=law.lower if law else None,
                 independent=law.independent if law else None, bare=bare)  # fmt: skip


def strictly_right(logits: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Rows whose answer has a larger logit than every other value; ties are wrong."""
    own = logits[np.arange(len(logits)), answers]
    rivals = logits.copy()
    rivals[np.arange(len(logits)), answers] = -np.inf
    right: np.ndarray = own > rivals.max(axis=1)
    return right


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
WORLD = Kind(run_world, seconds, takes_method)


def predictions(settings: Settings, records: Sequence[Record[Any, Any]]) -> list[Observed]:
    """What was said, and what the worlds showed. Headline worlds carry the full list, others the laws."""
    found: list[Observed] = list(said.stack(STACK.of(records)))
    worlds = {g.name: [r for r in WORLD.of(records) if r.cell.group == g.name] for g in settings.groups}
    for group, mine in worlds.items():
        if mine:
            book = said.Worlds(group, mine)
            book.laws()
            if group == "headline":
                book.headline()
            else:
                book.against([r.metrics for r in worlds.get("headline", [])])
            found += book
    return found


experiment = Experiment(
    purpose="Two-hop reuse of real adapters: which bridges compose, where facts must be written, and what one can "
    "foretell",
    order=30,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(STACK, WORLD),
    predictions=predictions,
)
