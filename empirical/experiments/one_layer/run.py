"""One adapted matrix before the logits: it keeps facts as computed, and no additive merge composes two hops with it.

Model: features of a prompt are frozen, ``logits = W phi(prompt)``, adapters sit on W alone. Cells:

*survival*: k adapters with facts of their own, merged; which one-hop facts live is computed beforehand, fact by fact.
*two_hop*: persons with a random bridge in the first adapter, a random table of values in the second, merged by every
method and asked ``x REL1 REL2``. The model is constructed (closed form or trained adapters) or a one-layer transformer
trained from scratch. Controls: an adapter that is taught the two-hop answers, and factors whose product composes.
*tail*: one person, the adapters of all n bridges, one table: the count of right bridges in a single world.
*adversary*: logits optimised for two-hop accuracy itself, against the exact optimum (small) and the ceiling (large).

Tables are i.i.d. uniform, and the base knows neither. Two-hop answers are scored among the values, one-hop answers
among all tokens; ties are wrong. Nothing but *two_hop* trains anything, which is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import product, repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Count
from empirical.experiments.known import lead, top1
from empirical.experiments.one_layer.adversary import answer, optimise, right
from empirical.experiments.one_layer.predictions import COVERED, declare, of_method
from empirical.experiments.one_layer.tables import (
    FORMER,
    Adversary,
    AdversaryCell,
    Fate,
    Hops,
    Settings,
    Small,
    Survival,
    SurvivalCell,
    Tail,
    TailCell,
    TwoHop,
    TwoHopCell,
    asked,
)
from empirical.experiments.one_matrix import (
    Asked,
    Constructed,
    Indices,
    World,
    constructed,
    one_hot,
    prompts_of,
)
from empirical.reuse.methods import METHODS, Options, asks, merged, reused, weighted_sum
from empirical.reuse.own import trial
from empirical.reuse.trimmed import drop
from empirical.training.adapter import Schedule, descend
from empirical.training.bases import BaseShape, Update, Updates, dense, generator, scratch_base, updated
from empirical.training.readout import Readout, fit
from empirical.training.store import moved
from theory.additive import composed_share, extremal_first, extremal_second
from theory.lowrank import LowRank
from theory.merging import dilution_limit, factor_average, interference_bound, surviving_facts
from theory.numerics import Array, one_of, rank_tolerance, stream
from theory.one_layer import joint_edit, one_layer_model, summed_edits

# ---------------------------------------------------------------- merges of one matrix


Merge = Callable[[Sequence[Updates], nn.Module, Options], Updates]


def _svd_full(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
    """The best approximation at the sum of the ranks, which is the sum."""
    ranks = [u.columns for a in adapters for u in a.values() if isinstance(u, LowRank)]
    return merged("svd", adapters, base, replace(options, rank=sum(ranks)))


def _alone(prune: Callable[[Any, float, np.random.Generator], Any], name: str) -> Merge:
    def merge(adapters: Sequence[Updates], base: nn.Module, options: Options) -> Updates:
        rng = stream(options.seed, "one_layer", name)
        thin: list[dict[str, Update]] = [
            {n: prune(dense(u), options.density, rng) for n, u in a.items()} for a in adapters
        ]
        return weighted_sum(thin, [1.0] * len(thin))

    return merge


def _magnitude(values: Array, density: float, rng: np.random.Generator) -> Array:
    """The largest entries of one update, this share of them."""
    keep = max(1, round(density * values.size))
    return np.where(np.abs(values) >= np.partition(np.abs(values).ravel(), -keep)[-keep], values, 0.0)


#: covered by additive_limit besides sum, mean and cat
OWN: dict[str, Merge] = {
    "svd_full": _svd_full,
    "dare_each": _alone(drop, "dare"),
    "magnitude_each": _alone(_magnitude, "magnitude"),
}
#: names in settings and records; `ties` and `dare_*` mean peft's forms on the factors
NAMES = (*FORMER, *OWN, *(name for name in METHODS if not asks(name)))


def in_place(
    method: str, adapters: Sequence[Updates], base: nn.Module, options: Options
) -> AbstractContextManager[nn.Module]:
    """The base with the adapters merged or routed."""
    if method in OWN:
        return updated(base, OWN[method](adapters, base, options))
    return reused(FORMER.get(method, method), adapters, base, options)


# ---------------------------------------------------------------- the grid


def cells(settings: Settings) -> list[Cell]:
    """All cells of a profile.

    Raises:
        ValueError: an unknown method, base or way of writing.
    """
    for method in settings.two_hop.methods:
        one_of(method, "methods", NAMES)
    for method in settings.tail.methods:
        one_of(method, "tail: methods", COVERED)
    for base, writing in settings.bases:
        one_of(f"{base} {writing}", "bases", ("constructed closed", "constructed trained", "scratch trained"))
    grid: list[Cell] = []
    for seed in settings.seeds:
        grid.append(SurvivalCell.of(settings.survival, seed=seed))
        grid += [TwoHopCell.of(settings.two_hop, seed=seed, base=b, writing=w) for b, w in settings.bases]
        grid += [TailCell.of(settings.tail, seed=seed), AdversaryCell.of(settings.adversary, seed=seed)]
    return grid


def two_hop_seconds(cell: TwoHopCell) -> float:
    """A guess of the seconds that a cell takes on one core."""
    scratch = cell.base == "scratch"
    inputs = cell.scratch_width if scratch else cell.hidden
    tokens = cell.persons + cell.old_persons + cell.bridges + cell.values
    step = 1e-3 + 2e-10 * (2 * cell.persons + cell.bridges) * inputs * tokens
    found = len(cell.ranks) * (len(cell.methods) * 0.05 + (0.0 if cell.writing == "closed" else cell.steps * step))
    return 1.0 + found + (cell.scratch_steps * cell.scratch_batch * inputs**2 * 2e-8 if scratch else 0.0)


# ---------------------------------------------------------------- models and worlds


def world_of(cell: TwoHopCell | TailCell) -> World:
    """The world of a cell."""
    if isinstance(cell, TwoHopCell) and cell.base == "scratch":
        return World(cell, cell.seed, cell.scratch_old_persons, distinct=True)
    return World(cell, cell.seed)


def score(asked: Asked, world: World) -> Hops:
    """Right answers of the model as it is."""
    with torch.no_grad():
        first, second, both = (asked.readout(f).cpu().numpy() for f in (asked.first, asked.second, asked.both))
    return Hops(
        first=top1(first, world.bridge[world.p]),
        second=top1(second, world.value[world.q]),
        two_hop=top1(both[:, world.value], world.q[world.p]),
        second_old=top1(second, world.old_q),
    )


class Transformer(nn.Module):
    """A one-layer decoder without its head: prompts (N, t) -> features (N, width) at the last token."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, prompts: torch.Tensor) -> torch.Tensor:
        """Features after the final norm, which has no bias."""
        states: torch.Tensor = self.inner(input_ids=prompts, use_cache=False).last_hidden_state
        return states[:, -1]


def from_scratch(cell: TwoHopCell, world: World, device: str) -> Asked:
    """A one-layer transformer with a head of its own, trained on old facts, old two-hop questions and names."""
    width, seed = cell.scratch_width, cell.seed
    shape = BaseShape(world.tokens, width=width, layers=1, heads=4, feed_forward=2 * width, positions=8)
    encoder = Transformer(scratch_base(shape, seed).get_submodule("model")).to(device)
    head = nn.Parameter(torch.randn((world.tokens, width), generator=generator(seed, "init", "head")).to(device) * 0.02)
    short = torch.cat([world.old_first, world.second, world.names]).to(device)
    short_answers = np.concatenate([world.bridge[world.old_p], world.old_q, np.arange(len(world.names))])
    long, long_answers = world.old_both.to(device), world.old_q[world.old_p]
    lessons = [
        (short, torch.as_tensor(short_answers, device=device)),
        (long, torch.as_tensor(long_answers, device=device)),
    ]
    rng = stream(seed, "train", "base")
    schedule = Schedule(cell.scratch_steps, cell.scratch_batch, cell.scratch_rate, weight_decay=0.1)

    def loss(_: Any) -> torch.Tensor:
        parts = []
        for prompts, answers in lessons:
            rows = torch.as_tensor(rng.integers(len(prompts), size=schedule.batch // 2), device=device)
            parts.append(nn.functional.cross_entropy(encoder(prompts[rows]) @ head.T, answers[rows]))
        return torch.stack(parts).mean()

    encoder.train().requires_grad_(True)
    weights = [w for w in (*encoder.parameters(), head) if w.requires_grad]
    told = {"base": "scratch", "seed": seed}
    made_of = {**told, "shape": shape, "lessons": lessons, "schedule": schedule, "code": from_scratch}
    moved("one_layer", made_of, weights, lambda: descend(weights, loss, repeat([]), schedule, told))
    encoder.eval().requires_grad_(False)
    W = head.detach().double().cpu().numpy()
    features = (encoder(p.to(device)).double() for p in (world.first, world.second, world.both, world.old_first))
    return Asked(Readout(W, device), W, *features)


# ---------------------------------------------------------------- survival


def run_survival(cell: SurvivalCell, device: str) -> Survival:
    """k adapters, each with its share of the facts, merged: predicted and measured fate of every fact.

    The base holds every fact's old value with a strength of its own, so that a mean of k adapters loses some facts and
    keeps others. *guarded* adapters write nothing at the other adapters' keys, *joint* ones do not care, *summed* ones
    are plain sums of rank-one edits.
    """
    seed, facts, values = cell.seed, cell.facts, cell.values
    tokens = facts + values + 1
    model = one_layer_model(tokens, cell.width, cell.hidden, stream(seed, "model"))
    encoder = Constructed(model).to(device)
    features = encoder(prompts_of(np.arange(facts), tokens - 1).to(device))
    K = features.cpu().numpy().T
    rng = stream(seed, "tables", "facts")
    old = rng.integers(values, size=facts)
    new = (old + 1 + rng.integers(values - 1, size=facts)) % values
    strength = rng.uniform(0.0, cell.strongest, size=facts)
    W = joint_edit(model.readout, K, strength * one_hot(tokens, facts + old)).dense()
    answers, wanted = facts + new, one_hot(tokens, facts + new)
    base = Readout(W, device)
    unit = K / np.linalg.norm(K, axis=0)
    shared = (unit.T @ unit)[np.triu_indices(facts, 1)]
    fates: dict[str, Fate] = {}
    bounds, certified = [], []

    def measure(method: str, updates: Sequence[LowRank]) -> Array:
        with reused(method, [{"readout": u} for u in updates], base) as model, torch.no_grad():
            return lead(model(features).cpu().numpy(), answers)

    def record(name: str, expected: Array, method: str, updates: Sequence[LowRank]) -> None:
        """Fates foretold by the sign of `expected` (N,), against what the merged model says."""
        size = float(np.linalg.norm(W)) + sum(u.norm() for u in updates)
        rounding = rank_tolerance((*W.shape, facts), size**2 * float(np.linalg.norm(K, axis=0).max()))
        sure = np.abs(expected) > rounding
        got = measure(method, updates)
        agree = Count.of((expected > 0) == (got > 0), sure)
        fates[name] = Fate(agree=agree, foretold=Count.of(expected > 0), kept=Count.of(got > 0))

    for k in cell.adapters:
        owner = np.arange(facts) % k
        guarded = [joint_edit(W, K, np.where(owner == i, wanted, W @ K)) for i in range(k)]
        joint = [joint_edit(W, K[:, owner == i], wanted[:, owner == i]) for i in range(k)]
        rank = max(u.columns for u in guarded)
        guarded = [widen(u.truncate(u.columns), rank) for u in guarded]
        own = np.stack([u.apply(K) for u in guarded])[owner, :, np.arange(facts)].T  # tokens x facts
        gain, deficit = _leads(own, answers), -_leads(W @ K, answers)
        fits = np.array([[dilution_limit(g, d) >= k for g, d in zip(gs, ds, strict=True)]
                         for gs, ds in zip(gain.T, deficit.T, strict=True)])  # fmt: skip
        slack = (gain / k - deficit).min(axis=0)
        record(f"guarded mean {k}", np.where(fits.all(axis=1), 1.0, -1.0) * np.abs(slack), "mean", guarded)
        for name, method, weights, convention in (
            ("factor_mean", "factor_mean", [1.0 / k] * k, "plain"),
            ("linear", "linear", [1.0] * k, "sqrt"),
        ):
            average = factor_average(guarded, weights, convention)
            record(f"guarded {name} {k}", lead((W @ K + average.apply(K)).T, answers), method, guarded)
        for writing, updates in (
            ("guarded", guarded),
            ("joint", joint),
            ("summed", [summed_edits(W, K[:, owner == i], wanted[:, owner == i]) for i in range(k)]),
        ):
            total = lead((W @ K + sum(u.apply(K) for u in updates)).T, answers)
            record(f"{writing} sum {k}", total, "sum", updates)
        for updates in (guarded, joint):
            certified.append(_certain(W, K, updates, owner, answers, measure("sum", updates)))
        bounds.append(_damage(K, joint, owner))
    for writing, update in (("joint", joint_edit(W, K, wanted)), ("summed", summed_edits(W, K, wanted))):
        record(f"{writing} alone", lead((W @ K + update.apply(K)).T, answers), "sum", [update])
    return Survival(
        cosine=float(shared.mean()), fates=fates, bounds=Count.total(bounds), certified=Count.total(certified)
    )


def _leads(logits: Array, answers: Indices) -> Array:
    """Right minus rival for every rival: (tokens - 1) x N from tokens x N."""
    rows, columns = logits.shape
    rivals = np.arange(rows)[:, None] != answers[None, :]
    lead = logits[answers, np.arange(columns)][None, :] - logits
    found: Array = lead.T[rivals.T].reshape(columns, rows - 1).T
    return found


def _certain(W: Array, K: Array, updates: Sequence[LowRank], owner: Indices, answers: Indices, got: Array) -> Count:
    """Dead among the facts that were certain to survive the sum."""
    margins = [lead((W @ K[:, [i]] + updates[o].apply(K[:, [i]])).T, answers[[i]])[0] for i, o in enumerate(owner)]
    return Count.of(got <= 0, np.array(surviving_facts(updates, K, margins, owner.tolist())))


def _damage(K: Array, updates: Sequence[LowRank], owner: Indices) -> Count:
    """Damages at keys of other adapters that exceed their bound."""
    exceeds = []
    for i, o in enumerate(owner):
        bounds = interference_bound(updates, K[:, i])
        for j, u in enumerate(updates):
            if j != o:
                damage = float(np.linalg.norm(u.apply(K[:, i])))
                exceeds.append(damage > bounds[j] * (1 + rank_tolerance(u.shape, 1.0)))
    return Count.of(np.array(exceeds, dtype=bool))


def widen(update: LowRank, columns: int) -> LowRank:
    """The same update with zero columns and rows up to `columns`: peft averages factors of equal rank only."""
    more = columns - update.columns
    out, inner = update.shape
    B = np.hstack([update.B, np.zeros((out, more))])
    return LowRank(B, np.vstack([update.A, np.zeros((more, inner))]), update.scale)


# ---------------------------------------------------------------- two hops


def run_two_hop(cell: TwoHopCell, device: str) -> TwoHop:
    """Scores of the base, of each adapter, of every merge and of the controls, by rank (0: as many as needed)."""
    world = world_of(cell)
    asked = (from_scratch if cell.base == "scratch" else constructed)(cell, world, device)
    own = cell.user_method
    methods = [*cell.methods, *([own.pinned] if own else [])]
    options = Options(seed=cell.seed, density=cell.density)
    # (features, answers, features to leave alone): what the base says of the other relation, as far as it was known
    targets = {
        "first": (asked.first, world.bridge[world.p], asked.second),
        "second": (asked.second, world.value[world.q], asked.old),
        "direct": (asked.both, world.value[world.q[world.p]], asked.old),
    }
    scores: dict[str, Hops] = {"base": score(asked, world)}
    merging: dict[str, float] = {}
    for rank in [0] if cell.writing == "closed" else cell.ranks:
        updates = {name: write(cell, asked, name, rank, *lesson) for name, lesson in targets.items()}
        widest = max(updates[name].columns for name in ("first", "second"))
        pair: list[Updates] = [{"readout": widen(updates[name], widest)} for name in ("first", "second")]
        for name, update in updates.items():
            with updated(asked.readout, {"readout": update}):
                scores[f"{name} {rank}"] = score(asked, world)
        for method in methods:
            condition, started = f"{'own' if '.py:' in method else method} {rank}", time.process_time()
            with in_place(method, pair, asked.readout, options):
                merging[condition] = time.process_time() - started
                scores[condition] = score(asked, world)
    if cell.base == "constructed" and cell.writing == "closed":
        factors: list[Updates] = [{"readout": u} for u in product_factors(asked, world)]
        for method in ("linear", "sum"):
            with in_place(method, factors, asked.readout, options):
                scores[f"product {method}"] = score(asked, world)
    return TwoHop(scores=scores, merging=merging)


def write(
    cell: TwoHopCell,
    asked: Asked,
    name: str,
    rank: int,
    features: torch.Tensor,
    answers: Any,
    kept: torch.Tensor,
) -> LowRank:
    """One adapter: the joint edit with balanced factors, or trained with peft at this rank.

    Args:
        features, answers: the facts that it writes.
        kept: features at which the logits are to stay as they are (exactly, or as the base's answers in distribution).
    """
    if cell.writing == "closed":
        keys, still = features.cpu().numpy().T, kept.cpu().numpy().T
        wanted = np.hstack([one_hot(len(asked.W), answers), asked.W @ still])
        edit = joint_edit(asked.W, np.hstack([keys, still]), wanted)
        return edit.truncate(edit.columns)
    rate = cell.rate_scratch if cell.base == "scratch" else cell.rate_constructed
    targets = [torch.as_tensor(answers, device=features.device), asked.readout(kept).softmax(dim=1)]
    schedule = Schedule(cell.steps, len(features), rate)
    both = torch.cat([features, kept])
    return fit(asked.readout, both, _written_and_kept, targets, rank, schedule, cell.seed, f"{name} {rank}")


def _written_and_kept(outputs: torch.Tensor, answers: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    own, others = outputs.split([len(answers), len(before)])
    return nn.functional.cross_entropy(own, answers) + nn.functional.cross_entropy(others, before)


def product_factors(asked: Asked, world: World) -> tuple[LowRank, LowRank]:
    """Two adapters whose sum is zero and whose factor average composes: (0, A) and (B, 0), with B A the two hops.

    A reads the bridge's code off the two-hop prompt of each person (and nothing off one-hop prompts); B writes the
    value of that code, strongly enough for the base's own leanings.
    """
    psi = asked.both.cpu().numpy().T
    keys = np.hstack([psi, asked.first.cpu().numpy().T, asked.second.cpu().numpy().T])
    codes = np.hstack([one_hot(world.n, world.p), np.zeros((world.n, keys.shape[1] - world.persons))])
    A = joint_edit(np.zeros((world.n, len(keys))), keys, codes).dense()
    strength = 1.0 + 2.0 * float(np.abs(asked.W @ psi).max())
    B = strength * one_hot(world.tokens, world.value[world.q])
    return LowRank(np.zeros_like(B), A), LowRank(B, np.zeros_like(A))


# ---------------------------------------------------------------- one world's tail


def run_tail(cell: TailCell, device: str) -> Tail:
    """One person's two-hop prompt under the merges of all n first adapters with one second adapter: right bridges."""
    world = world_of(cell)
    asked = constructed(cell, world, device)
    keys = asked.first.cpu().numpy().T
    second = joint_edit(asked.W, asked.second.cpu().numpy().T, one_hot(world.tokens, world.value[world.q]))
    second = second.truncate(second.columns)
    psi = asked.both[:1]
    options = Options(seed=cell.seed, density=cell.density)
    hits = dict.fromkeys(cell.methods, 0)
    for y in range(world.n):
        bridges = np.concatenate([[y], world.p[1:]])
        first = joint_edit(asked.W, keys, one_hot(world.tokens, world.bridge[bridges]))
        pair: list[Updates] = [{"readout": first.truncate(first.columns)}, {"readout": second}]
        for method in hits:
            with in_place(method, pair, asked.readout, options), torch.no_grad():
                logits = asked.readout(psi).cpu().numpy()[:, world.value]
            hits[method] += top1(logits, world.q[[y]]).right
    return Tail(right={method: Count(k, world.n) for method, k in hits.items()})


# ---------------------------------------------------------------- the adversary


class Prompted(NamedTuple):
    """A small one-layer model at one two-hop prompt, into which logits of the values can be written."""

    readout: Readout
    psi: torch.Tensor
    leaning: Array

    def pair(self, first: Array, second: Array) -> list[Updates]:
        """Adapters that add `first` and `second` (m,) to the values' logits; the first also undoes the base's own."""
        psi = self.psi.cpu().numpy()[0]
        reading = (psi / (psi @ psi))[None, :]
        rows = self.readout.readout.weight.shape[0]
        m = len(self.leaning)
        columns = [np.concatenate([c, np.zeros(rows - m)])[:, None] for c in (first - self.leaning, second)]
        return [{"readout": LowRank(column, reading)} for column in columns]

    def values(self, first: Array, second: Array) -> Array:
        """Logits (m,) of the values with the sum of the two adapters in place."""
        with reused("sum", self.pair(first, second), self.readout), torch.no_grad():
            found: Array = self.readout(self.psi)[0, : len(self.leaning)].cpu().numpy()
        return found


def _prompted(seed: int, m: int, device: str) -> Prompted:
    tokens = m + 3
    model = one_layer_model(tokens, 16, 64, stream(seed, "model", "adversary"))
    rng = stream(seed, "readout", "adversary")
    readout = Readout(rng.standard_normal((tokens, 64)) / 8.0, device)
    psi = Constructed(model).to(device)(torch.tensor([[m, m + 1, m + 2]], device=device))
    with torch.no_grad():
        return Prompted(readout, psi, readout(psi)[0, :m].cpu().numpy())


def run_adversary(cell: AdversaryCell, device: str) -> Adversary:
    """Shares composed by optimised logits: over all tables at small sizes, over fresh tables at the large one."""
    small = {}
    for n, m in cell.sizes:
        rng = stream(cell.seed, "adversary", n, m)
        prompted = _prompted(cell.seed, m, device)
        tables = np.array(list(product(range(m), repeat=n)), dtype=np.int64)
        best = optimise(n, m, tables, cell.rounds, cell.starts, rng)
        extremal = extremal_first(n, m), np.array([extremal_second(t, m) for t in tables.tolist()])
        shares = []
        for first, second in (best, extremal):
            logits = np.array([[prompted.values(a, b) for b in second] for a in first])
            shares.append(composed_share(logits, _rounding(first, second)))
        optimised, attained = (Count(int(share * n * len(tables)), n * len(tables)) for share in shares)
        small[f"{n},{m}"] = Small(optimised=optimised, extremal=attained)
    return Adversary(small=small, large=_large(cell, device))


def _rounding(first: Array, second: Array) -> float:
    """Error of a logit that went through two rank-one updates of 64 inputs and the base's own leaning."""
    return rank_tolerance((64,), 4.0 * float(np.abs(first).max() + np.abs(second).max() + 1.0))


def _large(cell: AdversaryCell, device: str) -> tuple[Count, ...]:
    """Right of n for each fresh table; the first logits are chosen on other tables, the second may see theirs."""
    n, m, rounds = cell.bridges, cell.values, cell.rounds
    rng = stream(cell.seed, "adversary", "large")
    train, choose, fresh = (
        stream(cell.seed, "tables", name).integers(m, size=(number, n))
        for name, number in (("train", cell.train), ("choose", cell.train), ("fresh", cell.tables))
    )
    candidates = [optimise(n, m, train, rounds, 1, rng).first, rng.standard_normal((n, m)), extremal_first(n, m)]
    reached = [right(a, answer(a, choose, rounds, 2, rng), choose).sum() for a in candidates]
    first = candidates[int(np.argmax(reached))]
    second = answer(first, fresh, rounds, cell.starts, rng)
    prompted, tolerance = _prompted(cell.seed, m, device), _rounding(first, second)
    found = []
    for t, b in zip(fresh, second, strict=True):
        logits = np.array([prompted.values(a, b) for a in first])
        found.append(Count.of(lead(logits, t) > tolerance))
    return tuple(found)


# ---------------------------------------------------------------- the experiment

SURVIVAL = Kind(run_survival, lambda cell: 1.0)
TWO_HOP = Kind(run_two_hop, two_hop_seconds, takes_method=lambda cell: True, stores=True)
TAIL = Kind(run_tail, lambda cell: 0.008 * cell.bridges * len(cell.methods))
ADVERSARY = Kind(run_adversary, lambda cell: 2.0 + 4e-3 * cell.bridges * cell.tables)


experiment = Experiment(
    purpose="One adapted matrix before the logits: it keeps facts as computed, and no additive merge composes two hops "
    "with it",
    order=2,
    protocol=2,
    settings=Settings,
    cells=cells,
    kinds=(SURVIVAL, TWO_HOP, TAIL, ADVERSARY),
    declare=declare,
    try_method=lambda reference: trial(reference, Readout(np.eye(5, 4))),
    of_method=of_method,
    asked=asked,
)
