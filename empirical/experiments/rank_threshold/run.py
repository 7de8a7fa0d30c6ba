"""How much rank facts cost: exactly, for the argmax, and without any limit on rank.

Three parts, each in worlds of its own:

*squared*: an adapter of rank r on a frozen associative memory is trained to change its outputs at N independent keys by
D. The closed form says what is left (the tail of D's spectrum) and that nothing is left from r = rank D on.
*answers*: the same with cross-entropy over N distinct answers that the memory has wrong. The argmax needs far less rank
than exactness; the margin is what rank limits (trace bound).
*memory*: no adapter. How many Gaussian pairs does a full d x d matrix store, against the published p log p / d^2 = 1/2?
Nested lists of pairs, so that bisection is exact: fewer pairs are fewer facts and fewer rivals. Nothing of it is kept:
the search is the measurement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.engine.experiment import Experiment, Kind
from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Cell, Count, Table, Worlds
from empirical.training.adapter import Schedule
from empirical.training.readout import Readout, fit, orthonormal
from theory.approximation import decay_spectrum, floor_error
from theory.facts import margin_rank_floor, random_code_eps
from theory.numerics import Array, rank_tolerance, require, stream
from theory.one_layer import joint_edit

#: not stored if any W with all margins >= 1 (keys of length 1, targets of length about 1) has a norm above this
UNREACHABLE = 1e6
LOOKS = 2000
#: p log p / d^2 of decoupled memories for large d (arXiv 2605.10795)
LAW = 0.5
RESTARTS = 5
#: pairs more or fewer that are tried where a number of pairs sits too close to the limit to be decided
NEAR = (0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16)


# ---------------------------------------------------------------- the grid


class SquaredTask(Table):
    """Changes D of outputs at independent keys: their number, the sizes, D's rank and the decay of its spectrum."""

    facts: int
    inputs: int
    outputs: int
    rank: int
    decay: float
    #: of the adapters
    ranks: tuple[int, ...]
    steps: int
    rate: float


class SquaredSettings(SquaredTask):
    """And the margins of the predictions, relative to the norm of D: above the floor, and where it is zero."""

    margin: float
    zero: float


class AnswersSettings(Table):
    """Answers to be changed by cross-entropy."""

    facts: int
    inputs: int
    ranks: tuple[int, ...]
    steps: int
    rate: float


class MemorySettings(Table):
    """Widths d of full memories, and what is said of them.

    `large` is a width of its own, with so many `worlds`. `finite` is where the figure lies when the finite number of
    rivals is reckoned with (`rivals`), to `near`; `start` is where the search for the number of pairs begins.
    """

    sizes: tuple[int, ...]
    large: int
    worlds: int
    finite: float
    near: float
    start: float


class Settings(Worlds):
    """Of a profile."""

    squared: SquaredSettings
    answers: AnswersSettings
    memory: MemorySettings


class SquaredCell(SquaredTask, Cell):
    """One world of *squared*."""

    part: Literal["squared"] = "squared"


class AnswersCell(AnswersSettings, Cell):
    """One world of *answers*."""

    part: Literal["answers"] = "answers"


class MemoryCell(Cell):
    """One world of *memory* at one width."""

    part: Literal["memory"] = "memory"
    group: Literal["", "large"]
    d: int
    start: float


def cells(settings: Settings) -> list[Cell]:
    """One cell per world and part (and size d of the memory).

    Raises:
        ValueError: ranks from which the predictions cannot be read.
    """
    squared, memory = settings.squared, settings.memory
    least = min(squared.facts, squared.outputs)
    require(squared.facts <= squared.inputs, "facts", "at most as many as inputs", squared.facts)
    require(squared.rank <= least, "rank", f"at most {least}", squared.rank)
    require(max(squared.ranks) >= squared.rank, "ranks", f"one from {squared.rank} on", max(squared.ranks))
    code_rank(settings.answers)
    grid: list[Cell] = []
    for seed in settings.seeds:
        grid += [SquaredCell.of(squared, seed=seed), AnswersCell.of(settings.answers, seed=seed)]
        grid += [MemoryCell(seed=seed, group="", d=d, start=memory.start) for d in memory.sizes]
    for seed in range(settings.first_seed, settings.first_seed + memory.worlds):
        grid.append(MemoryCell(seed=seed, group="large", d=memory.large, start=memory.start))
    return grid


def _training_seconds(facts: int, inputs: int, outputs: int, steps: int) -> float:
    return steps * (8e-4 + 1.2e-9 * facts * inputs * outputs)


# ---------------------------------------------------------------- squared error


class Squared(Table):
    """Errors ||(W + U) K - (W K + D)||_F / ||D||_F of trained adapters, by rank, and what rounding may add."""

    ranks: tuple[int, ...]
    errors: tuple[float, ...]
    rounding: float


def spectrum(task: SquaredTask) -> Array:
    """Singular values of the wanted changes D: i^-decay, scaled to ||D||_F = 1."""
    values = decay_spectrum("power", task.decay, task.rank)
    return values / np.linalg.norm(values)


def run_squared(cell: SquaredCell, device: str) -> Squared:
    """Train an adapter of every rank. Raises TrainingDiverged where a loss was not finite."""
    seed, facts, inputs, outputs = cell.seed, cell.facts, cell.inputs, cell.outputs
    K = stream(seed, "squared", "keys").standard_normal((inputs, facts))
    rng = stream(seed, "squared", "changes")
    left, right = orthonormal(rng, outputs, cell.rank), orthonormal(rng, facts, cell.rank)
    D = left * spectrum(cell) @ right.T
    old = stream(seed, "squared", "old").standard_normal((outputs, facts))
    W = joint_edit(np.zeros((outputs, inputs)), K, old / np.linalg.norm(old)).dense()
    base = Readout(W, device)
    features = torch.as_tensor(K.T.copy(), device=device)
    wanted = base(features) + torch.as_tensor(D.T.copy(), device=device)
    schedule = Schedule(cell.steps, facts, cell.rate, floor=0.0)
    errors, largest = [], 0.0
    for r in cell.ranks:
        update = fit(base, features, _squares, [wanted], r, schedule, seed, f"squared {r}")
        reached = torch.as_tensor(W + update.dense(), device=device) @ features.T
        errors.append(float((reached.T - wanted).norm()))
        largest = max(largest, update.norm())
    scale = (float(np.linalg.norm(W)) + largest) * float(np.linalg.norm(K))
    rounding = rank_tolerance((inputs, outputs, facts), scale)
    return Squared(ranks=cell.ranks, errors=tuple(errors), rounding=rounding)


def _squares(outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    # the mean over outputs of a unit change would drive Adam into its own epsilon; the sum does not
    return ((outputs - wanted) ** 2).sum()


# ---------------------------------------------------------------- answers


class Answers(Table):
    """What adapters of the ranks did, each in turn; see `changed`."""

    ranks: tuple[int, ...]
    base: Count
    right: tuple[Count, ...]
    trace_rank: tuple[float, ...]
    eps: tuple[float, ...]
    eps_mean_square: tuple[float, ...]
    margin: tuple[float, ...]


def code_rank(answers: AnswersSettings) -> int:
    """Smallest rank of the grid at which random codes have all coherences below 1, so that every argmax can be right.

    Raises:
        ValueError: there is none up to a quarter of the facts.
    """
    n = answers.facts
    found = [r for r in sorted(answers.ranks) if r <= n / 4 and random_code_eps(n, r) < 1.0]
    require(bool(found), "ranks", f"a rank with random_code_eps({n}, r) < 1 up to {n}/4", answers.ranks)
    return int(found[0])


def run_answers(cell: AnswersCell, device: str) -> Answers:
    """Train an adapter of every rank with cross-entropy. Raises TrainingDiverged where a loss was not finite."""
    seed, n, inputs = cell.seed, cell.facts, cell.inputs
    K = stream(seed, "answers", "keys").standard_normal((inputs, n)) / math.sqrt(inputs)
    rng = stream(seed, "answers", "tables")
    cycle = rng.permutation(n)
    old, new = np.empty(n, dtype=np.int64), np.arange(n)
    old[cycle] = np.roll(cycle, 1)  # a cyclic shift: every old answer is wrong now
    W = joint_edit(np.zeros((n, inputs)), K, np.eye(n)[:, old]).dense()
    base = Readout(W, device)
    features, answers = torch.as_tensor(K.T.copy(), device=device), torch.as_tensor(new, device=device)
    schedule = Schedule(cell.steps, n, cell.rate, floor=0.0)
    right, seen = [], []
    for r in cell.ranks:
        update = fit(base, features, _answered, [answers], r, schedule, seed, f"ce {r}")
        changes = update.apply(K)  # n x n: row class, column fact; the right ones on the diagonal
        logits = features @ torch.as_tensor(W + update.dense(), device=device).T
        right.append(_right(logits, answers))
        seen.append(changed(changes))
    by_rank = {name: tuple(s[name] for s in seen) for name in seen[0]}
    return Answers(ranks=cell.ranks, base=_right(base(features), answers), right=tuple(right), **by_rank)


def _answered(outputs: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, answers)


def changed(changes: Array) -> dict[str, float]:
    """What the trace bound sees of logit changes A (class x fact; right classes on the diagonal).

    Returns:
        trace_rank ``(tr A)^2 / ||A||_F^2``, which the rank is never below. With every column divided by the rise of its
        own right logit, which keeps the rank: eps and eps_mean_square, the largest and the root-mean-square change of
        another class (2.0 stands for anything above, and for a right logit that does not rise); margin, the least
        lead of a right class over its best rival (at least -1.0).
    """
    n = len(changes)
    own = np.diag(changes)
    trace = float(own.sum()) ** 2 / float(np.linalg.norm(changes)) ** 2
    if own.min() <= 0:
        return {"trace_rank": trace, "eps": 2.0, "eps_mean_square": 2.0, "margin": -1.0}
    others = changes / own
    np.fill_diagonal(others, 0.0)
    rivals = others + np.diag(np.full(n, -np.inf))
    return {
        "trace_rank": trace,
        "eps": min(float(np.abs(others).max()), 2.0),
        "eps_mean_square": min(float(np.linalg.norm(others)) / math.sqrt(n * (n - 1)), 2.0),
        "margin": max(1.0 - float(rivals.max()), -1.0),
    }


def _right(logits: torch.Tensor, answers: torch.Tensor) -> Count:
    """Strictly right answers."""
    own = logits.gather(1, answers[:, None])
    rivals = logits.scatter(1, answers[:, None], -torch.inf)
    return Count(int((own[:, 0] > rivals.max(dim=1).values).sum()), len(answers))


# ---------------------------------------------------------------- the full memory


class Memory(Table):
    """So many pairs are stored, so many are not; p log p / d^2 of those that are, and the same by `rivals`."""

    stored: int
    refuted: int
    ratio: float
    finite: float


class Stored(NamedTuple):
    """Whether a matrix stores the pairs: proved by a matrix, or refuted by a bound from below on the norm of any."""

    stored: bool
    norm: float
    decided: bool


def stores(keys: Array, targets: Array, device: str = "cpu") -> Stored:
    """Is there a W (d x d) with ``targets_i . W keys_i > targets_j . W keys_i`` for all j != i?

    Minimises the squared hinge loss at margin 1, which is convex and smooth, by L-BFGS. Every W whose margins are all
    positive proves "stored". With slopes ``l_ij >= 0`` of the loss and its gradient G, every W with all margins >= 1
    has ``sum l <= <G, W> <= ||G|| ||W||``: a bound on its norm. At the least loss of pairs that cannot be stored G = 0.

    Args:
        keys, targets: p x d.

    Returns:
        stored, the norm of the matrix found or the bound on all, and whether either was reached within the looks.
    """
    from scipy.optimize import minimize

    p, d = keys.shape
    k = torch.as_tensor(keys / np.linalg.norm(keys, axis=1)[:, None], device=device)
    v = torch.as_tensor(targets / math.sqrt(d), device=device)
    diagonal = torch.eye(p, dtype=torch.bool, device=device)
    found: list[Stored] = []

    class Decided(Exception):
        pass

    def loss(w: Array) -> tuple[float, Array]:
        W = torch.as_tensor(w.reshape(d, d), device=device)
        scores = k @ W.T @ v.T
        margins = (scores.diagonal()[:, None] - scores).masked_fill(diagonal, torch.inf)
        # rounding of a difference of two products of d + d terms each
        if float(margins.min()) > rank_tolerance((p, d), float(W.norm() * v.norm(dim=1).max())):
            found.append(Stored(True, float(W.norm()), True))
            raise Decided
        slopes = (1.0 - margins).clamp_min(0.0)
        gradient = (v * slopes.sum(dim=1)[:, None]).T @ k - (slopes @ v).T @ k
        bound = float(slopes.sum() / gradient.norm())
        if bound > UNREACHABLE:
            found.append(Stored(False, bound, True))
            raise Decided
        return 0.5 * float((slopes**2).sum()), -gradient.cpu().numpy().ravel()

    options = {"maxiter": LOOKS, "maxfun": 2 * LOOKS, "ftol": 0.0, "gtol": 0.0, "maxcor": 20}
    w = np.zeros(d * d)
    try:
        for _ in range(RESTARTS):  # a line search may give up before its looks are used; it goes on with a fresh memory
            w = minimize(loss, w, jac=True, method="L-BFGS-B", options=options).x
    except Decided:
        return found[0]
    return Stored(False, 0.0, False)


def rivals(p: int) -> float:
    """``log p - log(4 pi log p) / 2``: half the square of the largest of p Gaussians, to first order.

    A right answer has to beat the largest of its p rivals, whose square is 2 log p for large p only; at p = 600 this is
    two thirds of log p. At least 0, which it is up to p = 6.
    """
    return max(math.log(p) - 0.5 * math.log(4 * math.pi * math.log(p)), 0.0) if p > 1 else 0.0


def law_pairs(d: int, law: float) -> float:
    """The p with ``p log p / d^2 = law``."""
    from scipy.optimize import brentq

    return float(brentq(lambda p: p * math.log(p) / d**2 - law, 1.0, 1e3 + 10 * d * d))


def run_memory(cell: MemoryCell, device: str) -> Memory:
    """The largest number of Gaussian pairs stored, to one part in a hundred, by bisection on nested lists.

    Raises:
        RuntimeError: some list was neither proved stored nor refuted, or all pairs drawn are stored.
    """
    d = cell.d
    start = max(2, round(law_pairs(d, cell.start)))
    keys = stream(cell.seed, "memory", "keys", d).standard_normal((8 * start, d))
    targets = stream(cell.seed, "memory", "targets", d).standard_normal((8 * start, d))

    def holds(p: int) -> tuple[int, bool]:
        """(q, whether q pairs are stored) for the q nearest to p for which one of the two can be proved."""
        for q in (p + step for step in NEAR):
            if q <= low or (high and q >= high):
                continue
            answer = stores(keys[:q], targets[:q], device)
            if answer.decided:
                return q, answer.stored
        raise RuntimeError(
            f"memory: neither proved nor refuted that d = {d} stores {p} pairs, give or take {max(NEAR)}"
        )

    low, high = 1, 0  # `low` is stored (a single pair always is), `high` is not
    p = start
    while not high:
        if p > len(keys):
            raise RuntimeError(f"memory: d = {d} stores more than {len(keys)} pairs; raise the length of the list")
        p, stored = holds(p)
        if stored:
            low, p = p, math.ceil(1.06 * p)
        else:
            high = p
    while high - low > max(1, low // 100):
        middle, stored = holds((low + high) // 2)
        low, high = (middle, high) if stored else (low, middle)
    return Memory(stored=low, refuted=high, ratio=low * math.log(low) / d**2, finite=low * rivals(low) / d**2)


# ---------------------------------------------------------------- predictions


SQUARED = Kind(
    run_squared, lambda c: len(c.ranks) * _training_seconds(c.facts, c.inputs, c.outputs, c.steps), stores=True
)
ANSWERS = Kind(
    run_answers, lambda c: len(c.ranks) * _training_seconds(c.facts, c.inputs, c.facts, c.steps), stores=True
)
MEMORY = Kind(run_memory, lambda c: 20.0 * (c.d / 64) ** 4)


def declare(settings: Settings) -> Predictions:
    """What is said of each part; values from theory and settings alone."""
    said = Predictions()
    _squared(said, settings.squared)
    _answers(said, settings.answers)
    _memory(said, settings.memory)
    return said


def _squared(said: Predictions, settings: SquaredSettings) -> None:
    values, whole = spectrum(settings), settings.rank
    floors = {r: floor_error(values, r, "frobenius") if r < whole else 0.0 for r in settings.ranks}

    def below(w: Squared) -> float:
        gaps = [floors[r] - e for r, e in zip(w.ranks, w.errors, strict=True) if r < whole]
        return max(gaps, default=0.0) - w.rounding

    says = f"no trained adapter of rank below {whole} has an error below the closed-form floor"
    most = measure(Squared, "squared: floor minus error and its rounding, the largest over ranks", below)
    said.exact("floor", "eckart_young", says, of=most, at_most=0.0)
    for i, r in enumerate(settings.ranks):
        name, claim, margin = ("reached", "eckart_young", settings.margin)
        says = "the closed-form floor"
        if r >= whole:
            name, claim, margin, says = "zero", "fact_rank", settings.zero, f"zero (rank D is {whole})"
        says = f"rank {r}: the trained error reaches {says}"
        error = measure(Squared, f"squared: error at rank {r}", lambda w, i=i: w.errors[i], step=0.001)  # type: ignore[misc]
        stalls = Alternative(
            "training stalls above it by ten times the margin", floors[r] + 10 * margin, deviation=3 * margin
        )
        said.hypothesis(f"{name}.{r}", claim, says, of=error, equal=floors[r], within=margin, unless=stalls)


def _answers(said: Predictions, settings: AnswersSettings) -> None:
    n, enough, most = settings.facts, code_rank(settings), max(settings.ranks)
    claim = "margin_rank"

    def measured(name: str, read: Callable[[Answers], Outcome], step: float | None = None) -> Measure:
        return measure(Answers, f"answers: {name}", read, step=step)

    def floors(w: Answers) -> float:
        # the bound's proof sums squares, so that the root mean square may stand for the largest change
        return max(margin_rank_floor(n, e, powers=1) - r for e, r in zip(w.eps_mean_square, w.ranks, strict=True))

    def least(w: Answers) -> float:
        right = [r for r, count in zip(w.ranks, w.right, strict=True) if count.right == count.asked]
        return float(min(right, default=n))

    base = measured("right before training", lambda w: w.base)
    said.exact("base", claim, "the memory alone has every new answer wrong", of=base, equal=0.0)
    trace = measured("(tr A)^2 / ||A||^2 minus rank, the largest over ranks",
                     lambda w: max(t - r for t, r in zip(w.trace_rank, w.ranks, strict=True)))  # fmt: skip
    says = "every trained adapter: (tr A)^2 / ||A||^2 of its logit changes is at most its rank"
    # (tr A)^2 / ||A||_F^2 from sums of n^2 products of up to n terms
    said.exact("trace", claim, says, of=trace, at_most=0.0, within=rank_tolerance((n, n), n))
    says = "every trained adapter: the rank floor for its root-mean-square eps is at most its rank"
    said.exact("margin", claim, says, of=measured("rank floor minus rank, the largest over ranks", floors), at_most=0.0)
    says = f"the least rank with all {n} answers right is at most that of random codes (exactness: {n})"
    half = Alternative("the argmax costs half of what exactness costs", n / 2, deviation=n / 8)
    rank = measured("least rank with all answers right", least, step=1.0)
    said.hypothesis("argmax", claim, says, of=rank, at_most=float(enough), unless=half)
    says = f"the relative margin at rank {most} is above that at rank {enough}"
    gains = measured(f"margin at rank {most} minus margin at rank {enough}",
                     lambda w: w.margin[w.ranks.index(most)] - w.margin[w.ranks.index(enough)], step=0.01)  # fmt: skip
    falls = Alternative("more rank is spent on the same margin, which then varies and falls a little", -0.1, 0.05)
    said.hypothesis("margin_grows", claim, says, of=gains, above=0.0, unless=falls)


def _memory(said: Predictions, settings: MemorySettings) -> None:
    claim, large = "margin_rank", settings.large
    widest, d = max(settings.sizes), min(settings.sizes)

    def ratio(d: int) -> Measure:
        name = f"memory: p log p / d^2 at d = {d}"
        return measure(Memory, name, lambda m: m.ratio, lambda cell: cell.d == d, step=0.005)

    def finite(d: int) -> Measure:
        name = f"memory: p (log p - log(4 pi log p) / 2) / d^2 at d = {d}"
        return measure(Memory, name, lambda m: m.finite, lambda cell: cell.d == d, step=0.005)

    says = f"p log p / d^2 falls from d = {d} to d = {widest}"
    flat = Alternative("it stays where it is, or rises a little", -0.03, deviation=0.02)
    said.hypothesis("law_trend", claim, says, of=ratio(d) - ratio(widest), above=0.0, unless=flat, family="memory")
    half = Alternative("the published limit is reached", LAW, deviation=0.015)
    said.group = "large"
    says = f"full {large} x {large} memory: p log p / d^2 is still above the published limit of {LAW} by a half"
    said.hypothesis("law", claim, says, of=ratio(large), at_least=1.5 * LAW, unless=half, family="memory, large")
    says = f"full {large} x {large} memory: with the finite number of rivals it is what it was on calibration worlds"
    drifts = Alternative("it goes on rising as from d = 16 to d = 32", settings.finite + 0.06, deviation=0.005)
    said.hypothesis("finite", claim, says, of=finite(large), equal=settings.finite, within=settings.near,
                    unless=drifts, family="memory, large")  # fmt: skip


experiment = Experiment(
    purpose="How much rank facts cost: exactly, for the argmax, and without any limit on rank",
    order=1,
    protocol=2,
    settings=Settings,
    cells=cells,
    kinds=(SQUARED, ANSWERS, MEMORY),
    declare=declare,
)
