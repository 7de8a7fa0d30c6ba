"""What full fine-tuning changes: the spectra of its updates, and whether LoRA needs the rank that they show.

Three kinds of cells. *linear*: facts written into one matrix by the least-norm edit; the closed forms hold exactly.
*scratch*: a transformer trained from scratch; *pretrained*: a real language model (on a CPU its last layers). In the
last two all weight matrices of the layers chosen are trained, with one optimiser, number of steps and batch size, on N
independent facts, on a change of style of as many known answers, and on controls: shuffled answers, nothing new. For
each: the 95 % rank of every matrix's change, that of the gradient at the base, and what is left when the change is cut
to rank r, beside LoRA of rank r trained in the same way. What *pretrained* trains is not kept: the changes of whole
matrices are half a gigabyte a world.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Count
from empirical.experiments.update_spectrum.optimisers import OPTIMISERS
from empirical.experiments.update_spectrum.predictions import declare
from empirical.experiments.update_spectrum.tables import (
    Condition,
    Cut,
    Edit,
    FactsEdit,
    Fits,
    LinearCell,
    LinearCut,
    Lora,
    Memory,
    Nearness,
    Other,
    PretrainedCell,
    Score,
    ScratchCell,
    Settings,
    Spectra,
    Study,
    StudyCell,
)
from empirical.tasks.sentences import Part, Ragged, Sentences, collate, ragged, shuffle_answers
from empirical.tasks.styles import STYLES, StyleExample, WorldStyles, dressed, examples
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    answer_logits,
    answer_loss,
    pretrain,
    train_everything,
)
from empirical.training.bases import (
    BaseShape,
    Update,
    Updates,
    last_layers,
    linear_modules,
    load_base,
    load_tokenizer,
    scratch_base,
    updated,
)
from empirical.training.bases import dense as dense_of
from empirical.training.together import train_adapters
from theory.approximation import best_update, decay_rank, floor_error, spectral_rank
from theory.lowrank import LowRank
from theory.numerics import Array, rank_tolerance, require, stream

#: share of the energy that an update's rank has to keep
ENERGY = 0.95
#: sentences that are measured at a time
CHUNK = 128

Taught = Sentences | Ragged


# ---------------------------------------------------------------- the grid


def cells(settings: Settings) -> list[Cell]:
    """One cell per world of the linear memory and of every group.

    Raises:
        ValueError: a group with an unknown key, or settings from which the predictions cannot be read.
    """
    linear = settings.linear
    grid: list[Cell] = [LinearCell.of(linear, seed=linear.first_seed + i) for i in range(linear.worlds)]
    for group in settings.groups:
        changed = settings.tuning(group)
        unknown = sorted(set(changed.styles) - set(STYLES))
        require(not unknown, "styles", "some of " + ", ".join(STYLES), ", ".join(unknown))
        require(len(changed.styles) > 0, "styles", "at least one style", "none")
        require(changed.compare in changed.facts, "compare", f"one of {changed.facts}", changed.compare)
        require(changed.facts == tuple(sorted(set(changed.facts))), "facts", "growing numbers", changed.facts)
        unknown = sorted(set(changed.others) - set(OPTIMISERS))
        require(not unknown, "others", "some of " + ", ".join(OPTIMISERS), ", ".join(unknown))
        lacking = sorted(set(changed.ranks) - set(changed.cuts))
        require(not lacking, "ranks", f"ranks among the cuts {changed.cuts}", lacking)
        require(changed.low in changed.ranks, "low", f"one of the ranks {changed.ranks}", changed.low)
        kind = ScratchCell if group.kind == "scratch" else PretrainedCell
        grid += [kind.of(changed, group=group.name, seed=group.first_seed + i) for i in range(group.worlds)]
    return grid


def _runs(cell: StudyCell) -> int:
    """Steps times sentences of all that is trained on the base."""
    return (len(cell.conditions) + 2 * len(cell.others) + 3 * len(cell.ranks)) * cell.steps * cell.batch


def _scratch_seconds(cell: ScratchCell) -> float:
    size = cell.layers * cell.width**2 / (2 * 64**2)
    return 5 + size * (cell.base_steps * cell.base_batch * 2e-4 + _runs(cell) * 1.5e-4)


def _pretrained_seconds(cell: PretrainedCell) -> float:
    return 30.0 + _runs(cell) * 0.05


# ---------------------------------------------------------------- one linear matrix


def run_linear(cell: LinearCell, device: str) -> Memory:
    """The least-norm edit U = D K^+ of an empty memory (answers x width), by number of facts; a style beside it.

    Facts: D has the one-hot answers, i.i.d. uniform, as columns. Style: every output moves by the same shift. For the
    cuts, the largest number of facts that can be written exactly: the error ||R K - D||_F of U cut to rank r, of the
    cut of D written by K^+, and the floor, all relative to ||D||_F.
    """
    width, m, most = cell.width, cell.answers, max(cell.facts)
    keys = stream(cell.seed, "linear", "keys").standard_normal((width, most)) / np.sqrt(width)
    answers = stream(cell.seed, "linear", "answers").integers(m, size=most)
    facts = {}
    for n in cell.facts:
        edit = _edit(keys[:, :n], np.eye(m)[:, answers[:n]])
        facts[n] = FactsEdit(rank=edit.rank, r95=edit.r95, distinct=len(set(answers[:n].tolist())))
    n = max(n for n in cell.facts if n <= width)
    K, D = keys[:, :n], np.eye(m)[:, answers[:n]]
    shift = stream(cell.seed, "linear", "shift").standard_normal((m, 1))
    inverse, size = np.linalg.pinv(K), float(np.linalg.norm(D))
    cuts = {
        r: LinearCut(
            cut=float(np.linalg.norm(best_update(D @ inverse, r).dense() @ K - D)) / size,
            written=float(np.linalg.norm(best_update(D, r).dense() @ inverse @ K - D)) / size,
            floor=floor_error(D, r, "frobenius") / size,
        )
        for r in cell.ranks
    }
    # products and decompositions of K, K^+ and D, whose norms multiply to cond(K) ||D||
    rounding = rank_tolerance((*K.shape, m), float(np.linalg.cond(K)))
    return Memory(facts=facts, style=_edit(K, np.broadcast_to(shift, (m, n))), cuts=cuts, rounding=rounding)


def _edit(K: Array, D: Array) -> Edit:
    """The least-norm edit D K^+; singular values below their rounding do not count."""
    inverse = np.linalg.pinv(K)
    scale = float(np.linalg.norm(D, 2) * np.linalg.norm(inverse, 2) * np.linalg.cond(K))
    values, tolerance = np.linalg.svd(D @ inverse, compute_uv=False), rank_tolerance((*K.shape, *D.shape), scale)
    return Edit(rank=int(np.count_nonzero(values > tolerance)), r95=spectral_rank(values, ENERGY))


# ---------------------------------------------------------------- what is taught


class Lessons(NamedTuple):
    """train: what each condition is fine-tuned on. held: styles -> other prompts in that style. plain: those prompts
    with their plain answers, which the base knows."""

    train: dict[str, Taught]
    held: dict[str, Taught]
    plain: Taught


def _scratch(cell: ScratchCell, device: str) -> tuple[nn.Module, list[str], Lessons]:
    """A base trained from scratch on a world that has room for all facts and prompts."""
    seed, most, needed = cell.seed, max(cell.facts), cell.compare + cell.held
    shape = WorldShape(
        old_persons=max(needed // 2 + 1, cell.bridges), new_persons=most // 2 + 1, bridges=cell.bridges,
        first_relations=2, second_relations=2, changed_relations=1, coverage=0.0,
    )  # fmt: skip
    world = World(shape, seed)
    styles = WorldStyles(world)
    size = (cell.width, cell.layers, cell.heads, cell.feed_forward)
    base = scratch_base(BaseShape(styles.size, *size), seed).to(device)
    schedule = Schedule(cell.base_steps, cell.base_batch, cell.base_rate, warmup=100, weight_decay=0.1)
    pretrain(base, styles.pretraining(), schedule, seed)
    rng = stream(seed, "spectrum", "prompts")
    facts, known = world.first_hops(world.new), world.first_hops(world.old)
    facts, known = (s.take(rng.permutation(len(s.tokens))) for s in (facts, known))
    shown, other = known.take(np.arange(cell.compare)), known.take(np.arange(cell.compare, needed))
    train: dict[str, Taught] = {f"facts_{n}": facts.take(np.arange(n)) for n in cell.facts}
    train["facts_shuffled"] = shuffle_answers(facts.take(np.arange(cell.compare)), rng)
    train |= {s: styles.styled(shown, s) for s in cell.styles}
    first = cell.styles[0]
    train[f"{first}_shuffled"] = styles.styled(shuffle_answers(shown, rng), first)
    train["known"] = shown
    held: dict[str, Taught] = {s: styles.styled(other, s) for s in cell.styles}
    return base, linear_modules(base), Lessons(train, held, other)


def _pretrained(cell: PretrainedCell, device: str) -> tuple[nn.Module, list[str], Lessons]:
    """A real language model with English facts and styles; of its layers the last so many (0: all) are trained."""
    base = load_base(cell.base or None).requires_grad_(False).to(device)
    tokenizer = load_tokenizer(cell.base or None)
    if cell.layers:
        base = last_layers(base, cell.layers)
    modules = linear_modules(base)
    seed, compare = cell.seed, cell.compare
    rows = list(examples(seed, max(cell.facts), compare, cell.held))

    def encode(chosen: Sequence[StyleExample], answers: Sequence[str]) -> Ragged:
        # prompt and answer meet at a space, in front of which the tokenizer always splits
        texts = ([r["prompt"] for r in chosen], list(answers))
        return ragged(*([tokenizer.encode(t, add_special_tokens=False) for t in side] for side in texts))

    def shuffled(chosen: Sequence[StyleExample], name: str) -> list[str]:
        order = stream(seed, "spectrum", name).permutation(len(chosen))
        return [dressed(chosen[i]["content"], r["style"]) for i, r in zip(order, chosen, strict=True)]

    facts = [r for r in rows if r["kind"] == "fact"]
    by = {(s, split): [r for r in rows if (r["style"], r["split"]) == (s, split) and r["kind"] == "style"]
          for s in STYLES for split in ("train", "test")}  # fmt: skip
    first = cell.styles[0]
    train: dict[str, Taught] = {f"facts_{n}": encode(facts[:n], [r["answer"] for r in facts[:n]])
                                for n in cell.facts}  # fmt: skip
    train["facts_shuffled"] = encode(facts[:compare], shuffled(facts[:compare], "facts"))
    train |= {s: encode(by[s, "train"], [r["answer"] for r in by[s, "train"]]) for s in cell.styles}
    train[f"{first}_shuffled"] = encode(by[first, "train"], shuffled(by[first, "train"], "styles"))
    train["known"], plain = (
        encode(by[first, split], [dressed(r["content"], "plain") for r in by[first, split]])
        for split in ("train", "test")
    )
    held: dict[str, Taught] = {s: encode(by[s, "test"], [r["answer"] for r in by[s, "test"]]) for s in cell.styles}
    return base, modules, Lessons(train, held, plain)


# ---------------------------------------------------------------- fine-tuning, spectra, cuts


def run_scratch(cell: ScratchCell, device: str) -> Study:
    """Fine-tune a base of its own. Raises TrainingDiverged where a loss was not finite."""
    return study(cell, *_scratch(cell, device))


def run_pretrained(cell: PretrainedCell, device: str) -> Study:
    """Fine-tune a pretrained base. Raises TrainingDiverged where a loss was not finite."""
    return study(cell, *_pretrained(cell, device))


def study(cell: StudyCell, base: nn.Module, modules: list[str], lessons: Lessons) -> Study:
    """Fine-tune fully on every lesson, take the spectra, cut the updates, train LoRA beside the cuts."""
    schedule = Schedule(cell.steps, cell.batch, cell.rate)
    first = cell.styles[0]
    compared = (f"facts_{cell.compare}", first, f"{first}_shuffled")
    # a style is judged by prompts that it was not shown on, facts can only be those that were shown
    asked = {name: lessons.held.get(name, taught) for name, taught in lessons.train.items()}
    full: dict[str, dict[str, Whole]] = {}
    conditions = {}
    for name in cell.conditions:
        taught = lessons.train[name]
        updates = train_everything(base, [Part(taught, 1.0)], schedule, cell.seed, modules).updates
        ranks = tuple(energy_ranks(gradient(base, modules, taught)).values())
        with updated(base, updates) as model:
            scores = dict(_scores(model, taught, asked[name])) | {"plain": measure(model, lessons.plain)}
        conditions[name] = Condition(**dict(spectra(updates)), gradient=ranks, **scores)
        if name in compared:
            full[name] = {module: decomposed(update) for module, update in updates.items()}
    others: dict[str, dict[str, Other]] = {}
    for optimiser, rate in cell.others.items():
        others[optimiser] = {}
        for name in compared[:2]:
            plan, parts = Schedule(cell.steps, cell.batch, rate), [Part(lessons.train[name], 1.0)]
            updates = train_everything(base, parts, plan, cell.seed, modules, OPTIMISERS[optimiser]).updates
            with updated(base, updates) as model:
                right = measure(model, asked[name])
            others[optimiser][name] = Other(r95=tuple(energy_ranks(updates).values()), asked=right)
    found = {name: cuts(base, full[name], cell.cuts, lessons.train[name], asked[name]) for name in compared}
    plan = Schedule(cell.steps, cell.batch, cell.lora_rate)
    trained = train_adapters(base, [
        Job(f"{name}_{r}", [Part(lessons.train[name], 1.0)], _lora_shape(base, r), plan, cell.seed)
        for name in compared[:2] for r in cell.ranks
    ])  # fmt: skip
    lora: dict[str, dict[int, Lora]] = {}
    for name in compared[:2]:
        lora[name] = {}
        for r in cell.ranks:
            updates = trained[f"{name}_{r}"].updates
            with updated(base, updates) as model:
                both = Cut(taught=measure(model, lessons.train[name]), asked=measure(model, asked[name]))
            lora[name][r] = Lora(**dict(both), **dict(nearness(full[name], updates, r)))
    return Study(base=measure(base, lessons.plain), conditions=conditions, cuts=found, lora=lora, others=others)


def _scores(model: Any, taught: Taught, asked: Taught) -> Cut:
    shown = measure(model, taught)
    return Cut(taught=shown, asked=shown if asked is taught else measure(model, asked))


def _lora_shape(base: Any, rank: int) -> AdapterShape:
    """LoRA on the very matrices that full fine-tuning trains."""
    return AdapterShape(rank, 2 * rank, tuple(range(int(base.config.num_hidden_layers))))


@torch.no_grad()
def measure(model: Any, sentences: Taught) -> Score:
    """Mean loss per answer token, and how many sentences have every answer token right."""
    loss, tokens, right = 0.0, 0, 0
    for start in range(0, len(sentences.tokens), CHUNK):
        part = sentences.take(np.arange(start, min(start + CHUNK, len(sentences.tokens))))
        (batch,) = collate([part])
        logits, answers = answer_logits(model, batch)
        loss += float(nn.functional.cross_entropy(logits, answers, reduction="sum"))
        tokens += len(answers)
        whole = np.ones(len(part.tokens), dtype=bool)
        np.logical_and.at(whole, batch.rows, (logits.argmax(dim=1) == answers).cpu().numpy())
        right += int(whole.sum())
    return Score(loss=loss / tokens, right=Count(right, len(sentences.tokens)))


def gradient(base: Any, modules: Sequence[str], sentences: Taught) -> dict[str, Array]:
    """The gradient of the mean loss over all sentences at the base, by module."""
    model = copy.deepcopy(base).requires_grad_(False)
    weights = {name: model.get_submodule(name).weight.requires_grad_(True) for name in modules}
    total = len(sentences.tokens)
    for start in range(0, total, CHUNK):
        part = sentences.take(np.arange(start, min(start + CHUNK, total)))
        # sentences of one lesson have about as many answers each, so that shares of sentences weigh the chunks
        (answer_loss(model, collate([part])) * (len(part.tokens) / total)).backward()
    return {name: weight.grad.double().cpu().numpy() for name, weight in weights.items()}


def energy_ranks(updates: Updates) -> dict[str, int]:
    """The least rank that keeps 95 % of the energy, by module."""
    return {name: spectral_rank(_values(dense_of(update)), ENERGY) for name, update in updates.items()}


def _values(update: Array) -> Array:
    """Singular values, largest first, as roots of the eigenvalues of the smaller Gram matrix.

    That is many times faster than an SVD and loses what lies below 1e-8 of the largest, which neither the 95 % rank nor
    the decays depend on.
    """
    side = update if update.shape[0] <= update.shape[1] else update.T
    values: Array = np.sqrt(np.maximum(np.linalg.eigvalsh(side @ side.T)[::-1], 0.0))
    return values


class Whole(NamedTuple):
    """A full update of one matrix: itself, its singular values, and its SVD as factors, largest direction first."""

    dense: Array
    values: Array
    factors: LowRank

    def cut(self, rank: int) -> LowRank:
        """The best update of this rank."""
        return LowRank(self.factors.B[:, :rank], self.factors.A[:rank])


def decomposed(update: Update) -> Whole:
    """An update with everything that its cuts and floors need, so that it is decomposed once."""
    D = dense_of(update)
    values = np.asarray(np.linalg.svd(D, compute_uv=False), dtype=np.float64)
    return Whole(D, values, best_update(D, min(D.shape)))


def spectra(updates: Updates) -> Spectra:
    """What an update looks like; the spectrum is that of the module in the middle by r95, at most 64 values."""
    values = {name: _values(dense_of(update)) for name, update in updates.items()}
    ranks = {name: spectral_rank(v, ENERGY) for name, v in values.items()}
    middle = values[sorted(ranks, key=lambda name: ranks[name])[len(ranks) // 2]]
    relative = middle / middle[0]
    norm = float(np.sqrt(sum(float(v @ v) for v in values.values())))
    shown = tuple(float(f"{v:.4g}") for v in relative[:64])
    return Spectra(r95=tuple(ranks.values()), norm=norm, spectrum=shown, **dict(decay_fits(relative)))


def decay_fits(values: Array) -> Fits:
    """Least-squares fits of log sigma_i to ``-p log i`` and ``-c i``, over the values that hold 99 % of the energy."""
    kept = max(spectral_rank(values, 0.99), 3)
    y = np.log(np.maximum(values[:kept], np.finfo(np.float64).tiny))
    index = np.arange(1.0, len(y) + 1)
    power, exponential = (max(-float(np.polyfit(x, y, 1)[0]), 0.0) for x in (np.log(index), index))
    return Fits(
        power=power, power_r95=decay_rank("power", power, ENERGY, len(values)),
        exponential=exponential, exponential_r95=decay_rank("exponential", exponential, ENERGY, len(values)),
    )  # fmt: skip


def cuts(
    base: nn.Module, full: Mapping[str, Whole], ranks: Sequence[int], taught: Taught, asked: Taught
) -> dict[str, Cut]:
    """Scores of a full update with every matrix cut to rank r, and (key "r95") each to its own 95 % rank."""
    kept: dict[str, Mapping[str, int]] = {str(r): dict.fromkeys(full, r) for r in ranks}
    found = {}
    for key, rank in (kept | {"r95": {name: spectral_rank(w.values, ENERGY) for name, w in full.items()}}).items():
        with updated(base, {name: whole.cut(rank[name]) for name, whole in full.items()}) as model:
            found[key] = _scores(model, taught, asked)
    return found


def nearness(full: Mapping[str, Whole], lora: Updates, rank: int) -> Nearness:
    """How far updates of rank r stay from a full update, over its matrices and relative to their norms.

    Returns:
        above: least distance of the LoRA update less the floor of Eckart and Young. gap: largest difference between
        the distance of the cut and the floor. rounding: what float64 may be off by.
    """
    above, gap, rounding = [], [], []
    for name, whole in full.items():
        D, U = whole.dense, dense_of(lora[name])
        size, floor = float(np.linalg.norm(D)), floor_error(whole.values, rank, "frobenius")
        above.append((float(np.linalg.norm(D - U)) - floor) / size)
        gap.append(abs(float(np.linalg.norm(D - whole.cut(rank).dense())) - floor) / size)
        rounding.append(rank_tolerance(D.shape, 1.0 + float(np.linalg.norm(U)) / size))
    return Nearness(above=min(above), gap=max(gap), rounding=max(rounding))


LINEAR = Kind(run_linear, seconds=lambda cell: 0.5)
SCRATCH = Kind(run_scratch, seconds=_scratch_seconds, stores=True)
PRETRAINED = Kind(run_pretrained, seconds=_pretrained_seconds)
experiment = Experiment(
    purpose="What full fine-tuning changes: the spectra of its updates, and whether LoRA needs the rank that they show",
    order=60,
    protocol=2,
    settings=Settings,
    cells=cells,
    kinds=(LINEAR, SCRATCH, PRETRAINED),
    declare=declare,
)
