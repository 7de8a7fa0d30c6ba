"""Adapters on disk: what merging them would lose, measured in factor space.

:func:`audit` reads adapter folders as peft saves them, one module at a time, without loading a base model. Nothing here
forms an out x in matrix, except the dense combination types of peft on modules below a stated size.

Glossary: *keys* are inputs of a module; an update reads its row space and writes its column space. Norms are Frobenius
norms unless said otherwise, totals run over all modules (root of the sum of squares).
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from empirical.adapters.advice import verdict
from empirical.adapters.answer import answer
from empirical.adapters.base import BaseWeights
from empirical.adapters.files import Adapter, Module, check_weights, module_names, natural, read_all
from empirical.adapters.peft_types import (
    CLOSED_TYPES,
    DENSE_LIMIT,
    DENSE_TYPES,
    FACTOR_TYPES,
    RANDOM,
    TRIMMED,
    TYPES,
    Draw,
    Factors,
    Plan,
    closed_error,
    combined_dense,
    combined_factors,
    distance,
    peft_version,
    plan,
    pruned,
    widened,
)
from empirical.adapters.report import (
    AdapterSummary,
    AdapterTotal,
    Answer,
    AuditReport,
    Combination,
    Interference,
    InterferenceTotal,
    MeanReport,
    MeanTotal,
    ModuleCombination,
    ModuleReport,
    Options,
    Overlap,
    PairReport,
    PairTotal,
    PartReport,
    SumReport,
    SumTotal,
    Total,
)
from theory.approximation import spectral_rank
from theory.lowrank import LowRank
from theory.merging import factor_average, interference_bound
from theory.numerics import Array, integer, require

ENERGY = 0.95


@dataclass(frozen=True)
class Settings:
    """What an audit computes beside what is stored.

    Attributes:
        rank: the loss of a merge kept at this rank is reported; by default the largest rank of a part.
        density: of peft's pruning combination types; seed: of its random ones.
        dense: also compute peft's dense types on modules of any size (slow).
    """

    rank: int | None = None
    density: float = 0.5
    dense: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank is not None:
            integer(self.rank, "rank", 1)
        require(0.0 < self.density <= 1.0, "density", "a share in (0, 1]", self.density)
        integer(self.seed, "seed", 0)


class Part(NamedTuple):
    """One adapter's update of one module in compressed coordinates, decomposed."""

    adapter: int
    update: LowRank
    left: Array
    values: Array
    right: Array

    @property
    def rank(self) -> int:
        """Numerical rank."""
        return int(self.values.size)

    @property
    def norm(self) -> float:
        """Frobenius norm."""
        return float(np.linalg.norm(self.values))


def audit(
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
    settings: Settings | None = None,
    *,
    base: Any = None,
    probe: str | os.PathLike[str] | None = None,
    same_base: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> AuditReport:
    """Measure adapters and what merging them would do.

    Args:
        paths: adapter folders or hub ids.
        weights: of the wanted sum, by default 1 each.
        settings: ranks, densities and draws.
        base: folder or hub id of the base, ``"packaged"`` or a loaded model; norms are then relative to its weights.
        probe: a text file with a prompt and an answer per line, separated by a tab; needs `base`.
        same_base: take bases of different names for one and the same.
        progress: called with (modules done, modules).

    Raises:
        ValueError: in one line: what cannot be read or does not fit.

    Source: claims merge_rank, eckart_young, factor_average, dilution, interference, additive_limit.
    """
    settings = settings or Settings()
    adapters = read_all(paths, same_base)
    chosen = check_weights(weights, len(adapters))
    require(probe is None or base is not None, "probe", "a base to ask (--base)", "none")
    known = BaseWeights.of(base, adapters, probe is not None)
    names = sorted(module_names(adapters), key=natural)
    rank = settings.rank or max(m.r for a in adapters for m in a.modules.values())
    measure = _Measure(adapters, chosen, replace(settings, rank=rank), known, _plans(adapters, names, known, settings))
    modules = []
    workers = min(4, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # peft says that a density of 1 prunes nothing
        for found in pool.map(measure.module, names):
            modules.append(found)
            if progress is not None:
                progress(len(modules), len(names))
    probes = None
    if probe is not None:
        from empirical.adapters.probes import ask

        probes = ask(known.model, base, adapters, chosen, probe)
    report = AuditReport(
        schema=1,
        tool={n: metadata.version(n) for n in ("lora-limits", "peft", "torch", "numpy")},
        options=Options(
            tuple(chosen), rank, settings.seed, settings.density, settings.dense, DENSE_LIMIT, _base_name(base)
        ),
        answer=Answer(),
        adapters=tuple(_summary(a) for a in adapters),
        modules=tuple(modules),
        total=measure.total(modules),
        probe=probes,
        verdict=(),
    )
    for a in adapters:
        a.close()
    return replace(report, answer=answer(report), verdict=tuple(verdict(report)))


def _base_name(base: Any) -> str | None:
    if base is None:
        return None
    return Path(str(base)).name if isinstance(base, (str, os.PathLike)) else type(base).__name__


def _summary(adapter: Adapter) -> AdapterSummary:
    modules = adapter.modules.values()
    base = adapter.raw.get("base_model_name_or_path")
    return AdapterSummary(
        name=adapter.name,
        base=None if base is None else str(base),
        ranks=tuple(sorted({m.r for m in modules})),
        scales=tuple(sorted({m.scale for m in modules})),
        rslora=bool(adapter.config.use_rslora),
        dtypes=tuple(sorted({m.dtype for m in modules})),
        modules=len(modules),
        parameters=sum(m.r * (m.out + m.inner) for m in modules),
    )


def _plans(adapters: Sequence[Adapter], names: Sequence[str], base: BaseWeights, settings: Settings) -> dict[str, Plan]:
    kinds = TYPES if len(adapters) > 1 else ("linear",)
    made = {}
    for kind in kinds:
        made[kind] = plan(adapters, kind, names, base.names)
        if kind in DENSE_TYPES and made[kind].refused is None and not settings.dense:
            sizes = {n: a.modules[n].out * a.modules[n].inner for a in adapters for n in a.modules}
            large = sum(1 for s in sizes.values() if s > DENSE_LIMIT)
            if large:
                reason = f"not computed: {large} modules have more than {DENSE_LIMIT} entries (--dense)"
                made[kind] = Plan(kind, reason)
    return made


# ---------------------------------------------------------------- one module


class _Sum(NamedTuple):
    """The wanted sum in one module: the parts as stored, the sum of their updates, its singular values."""

    name: str
    factors: Factors
    updates: list[LowRank]
    weights: list[float]
    total: LowRank
    values: Array


@dataclass(frozen=True)
class _Measure:
    """Everything that the measurement of one module needs to know about all of them."""

    adapters: Sequence[Adapter]
    weights: Sequence[float]
    settings: Settings
    base: BaseWeights
    plans: dict[str, Plan]

    def module(self, name: str) -> ModuleReport:
        """One module that some adapter touches."""
        owners = [i for i, a in enumerate(self.adapters) if name in a.modules]
        shape = self.adapters[owners[0]].modules[name]
        factors = [self.adapters[i].factors(name) for i in owners]
        full = [
            LowRank(b.double().numpy(), a.double().numpy(), self.adapters[i].modules[name].scale)
            for i, (a, b) in zip(owners, factors, strict=True)
        ]
        weights = [self.weights[i] for i in owners]
        parts = _parts(owners, full)
        total = LowRank.combine(full, weights)
        small = LowRank.combine([p.update for p in parts], weights)
        values: Array = np.asarray(np.linalg.svd(small.dense(), compute_uv=False))
        wanted = _Sum(name, factors, full, weights, total, values[values > total.tolerance()])
        base_norm = self.base.norm(name)
        return ModuleReport(
            name=name,
            kind=shape.kind,
            out=shape.out,
            inner=shape.inner,
            base_norm=base_norm,
            parts=tuple(_part(p, self.adapters[p.adapter].modules[name].r, base_norm) for p in parts),
            pairs=tuple(_pair(p, q, shape) for i, p in enumerate(parts) for q in parts[i + 1 :]),
            merge=self._merge(wanted),
            mean=_mean(parts, len(self.adapters)),
            combinations=self._combinations(wanted),
        )

    def _merge(self, wanted: _Sum) -> SumReport:
        norm = float(np.linalg.norm(wanted.values))
        return SumReport(
            norm=norm,
            ranks=sum(u.columns for u in wanted.updates),
            rank=int(wanted.values.size),
            rank95=spectral_rank(wanted.values, ENERGY) if norm else 0,
            singular_values=tuple(wanted.values.tolist()),
            truncation=_ratio(float(np.linalg.norm(wanted.values[self.settings.rank :])), norm),
        )

    def _combinations(self, wanted: _Sum) -> dict[str, ModuleCombination | None]:
        seed, density = self.settings.seed, self.settings.density
        plain = wanted._replace(factors=widened(wanted.factors))
        trimmed = plain
        if any(k in self.plans and self.plans[k].refused is None for k in TRIMMED):
            trimmed = plain._replace(factors=pruned(plain.factors, density))
        return {
            kind: _combination(how, trimmed, Draw(wanted.name, seed))
            if kind in TRIMMED
            else _combination(how, plain, Draw(wanted.name, seed, density))
            for kind, how in self.plans.items()
        }

    def total(self, modules: Sequence[ModuleReport]) -> Total:
        """All modules together."""
        wanted = math.hypot(*(m.merge.norm for m in modules))
        lost = math.hypot(*((m.merge.truncation or 0.0) * m.merge.norm for m in modules))
        count = len(self.adapters)
        assert self.settings.rank is not None
        return Total(
            modules=len(modules),
            norm=wanted,
            adapters=tuple(_adapter_total(i, modules) for i in range(count)),
            pairs=tuple(_pair_total(i, j, modules) for i in range(count) for j in range(i + 1, count)),
            merge=SumTotal(
                largest_rank=max(m.merge.rank for m in modules),
                smallest_rank=min(m.merge.rank for m in modules),
                compressed_modules=sum(1 for m in modules if m.merge.rank < m.merge.ranks),
                kept_rank=self.settings.rank,
                truncation=_ratio(lost, wanted),
            ),
            mean=MeanTotal(count, 1.0 / count, 1.0 / count**2, _factor_total(modules)),
            combinations={kind: _combination_total(p, modules, wanted) for kind, p in self.plans.items()},
        )


def _parts(owners: Sequence[int], updates: Sequence[LowRank]) -> list[Part]:
    """The updates in coordinates of their joint spaces, each with its singular value decomposition."""
    parts = []
    for owner, full, small in zip(owners, updates, LowRank.compress(updates), strict=True):
        u, values, vt = np.linalg.svd(small.dense(), full_matrices=False)
        kept = int(np.count_nonzero(values > full.tolerance()))  # the rounding is that of the large factors
        parts.append(Part(owner, small, u[:, :kept], values[:kept], vt[:kept]))
    return parts


def _ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to be relative to."""
    if whole == 0.0:
        return 0.0 if part == 0.0 else None
    return part / whole


def _part(part: Part, r: int, base_norm: float | None) -> PartReport:
    norm = part.norm
    return PartReport(
        adapter=part.adapter,
        r=r,
        scale=part.update.scale,
        rank=part.rank,
        stable_rank=(norm / float(part.values[0])) ** 2 if part.rank else 0.0,
        rank95=spectral_rank(part.values, ENERGY) if part.rank else 0,
        norm=norm,
        spectral_norm=float(part.values[0]) if part.rank else 0.0,
        relative_norm=norm / base_norm if base_norm else None,
        singular_values=tuple(part.values.tolist()),
    )


def _pair(one: Part, two: Part, shape: Module) -> PairReport:
    product = one.update.inner(two.update)
    size = one.norm * two.norm
    return PairReport(
        first=one.adapter,
        second=two.adapter,
        cosine=product / size if size else 0.0,
        keys=_overlap(one.right.T, two.right.T, shape.inner),
        outputs=_overlap(one.left, two.left, shape.out),
        second_on_first=_interference(one, two),
        first_on_second=_interference(two, one),
    )


def _overlap(one: Array, two: Array, width: int) -> Overlap:
    """Two subspaces by orthonormal columns: the share that they have in common, the angles, and what chance gives.

    The share is the mean squared cosine of the principal angles; for independent random subspaces its mean is
    (larger dimension) / width.
    """
    if not one.shape[1] or not two.shape[1]:
        return Overlap(0.0, 0.0, ())
    cosines = np.clip(np.linalg.svd(one.T @ two, compute_uv=False), 0.0, 1.0)
    chance = max(one.shape[1], two.shape[1]) / width
    return Overlap(float(np.mean(cosines**2)), chance, tuple(np.degrees(np.arccos(cosines)).tolist()))


def _interference(own: Part, other: Part) -> Interference:
    """What `other` does to keys that `own` reads, relative to the most that `own` does to a key of the same length.

    ``bound`` is ``s ||B||_2 ||A k||`` for the worst unit key in the row space of `own` (claim interference),
    ``largest`` the norm of the change at its own worst key there: the exact maximum.
    """
    if not own.rank or not other.rank:
        return Interference(0.0, 0.0)
    read = other.update.A @ own.right.T
    _, _, vt = np.linalg.svd(read)
    (bound,) = interference_bound([other.update], vt[0] @ own.right)
    done = (other.left * other.values) @ (other.right @ own.right.T)
    strength = float(own.values[0])
    return Interference(bound / strength, float(np.linalg.norm(done, 2)) / strength)


def _mean(parts: Sequence[Part], count: int) -> MeanReport:
    """The uniform mean of all adapters: what it keeps of each, and what averaging the factors makes of it."""
    shares = [1.0 / count] * len(parts)
    mean = LowRank.combine([p.update for p in parts], shares)
    norm = mean.norm()
    found = MeanReport(norm, tuple(_ratio(mean.inner(p.update), p.norm**2) for p in parts), None, None)
    if len({(p.update.columns, p.update.scale) for p in parts}) > 1:
        return found
    averaged = factor_average([p.update for p in parts], shares, "plain")
    off = LowRank.combine([averaged, mean], [1.0, -1.0])
    size = off.norm()
    return replace(
        found,
        factor_error=_ratio(0.0 if size <= off.tolerance() else size, norm),
        factor_kept=tuple(_ratio(averaged.inner(p.update), p.norm**2) for p in parts),
    )


def _combination(how: Plan, wanted: _Sum, draw: Draw) -> ModuleCombination | None:
    """The error of one of peft's combinations in one module; None where peft does not get there."""
    if how.refused is not None:
        return None
    values = wanted.values
    if wanted.name in how.dropped:
        return ModuleCombination(float(np.linalg.norm(values)), True, None)
    try:
        if how.kind in CLOSED_TYPES:
            return ModuleCombination(closed_error(how, values), False, None)
        if how.kind in FACTOR_TYPES:
            made = combined_factors(how, wanted.updates, wanted.factors, wanted.weights, draw)
        else:
            made = combined_dense(how, wanted.updates, wanted.weights, draw)
    except ValueError as reason:
        return ModuleCombination(None, False, str(reason))
    return ModuleCombination(distance(made, wanted.total, float(values @ values)), False, None)


# ---------------------------------------------------------------- totals


def _adapter_total(index: int, modules: Sequence[ModuleReport]) -> AdapterTotal:
    found = [(m, k, p) for m in modules for k, p in enumerate(m.parts) if p.adapter == index]
    parts = [p for _, _, p in found]
    norm = math.hypot(*(p.norm for p in parts))
    bases = [m.base_norm for m, _, _ in found if m.base_norm]
    share = sum((m.mean.kept[k] or 0.0) * p.norm**2 for m, k, p in found)
    return AdapterTotal(
        norm=norm,
        relative_norm=norm / math.hypot(*bases) if bases and len(bases) == len(found) else None,
        mean_rank=float(np.mean([p.rank for p in parts])),
        mean_stable_rank=float(np.mean([p.stable_rank for p in parts])),
        mean_rank95=float(np.mean([p.rank95 for p in parts])),
        kept_by_mean=_ratio(share, sum(p.norm**2 for p in parts)),
    )


def _pair_total(i: int, j: int, modules: Sequence[ModuleReport]) -> PairTotal:
    norms = [{p.adapter: p.norm for p in m.parts} for m in modules]
    found = [(n, p) for m, n in zip(modules, norms, strict=True) for p in m.pairs if (p.first, p.second) == (i, j)]
    pairs = [p for _, p in found]
    product = sum(p.cosine * n[i] * n[j] for n, p in found)
    whole = math.sqrt(sum(n.get(i, 0.0) ** 2 for n in norms) * sum(n.get(j, 0.0) ** 2 for n in norms))

    def mean(values: list[float]) -> float | None:
        return float(np.mean(values)) if values else None

    def way(seen: list[Interference]) -> InterferenceTotal:
        most = (max((x.largest for x in seen), default=None), max((x.bound for x in seen), default=None))
        return InterferenceTotal(mean([x.largest for x in seen]), *most)

    return PairTotal(
        first=i,
        second=j,
        common_modules=len(pairs),
        cosine=product / whole if whole else 0.0,
        keys_share=mean([p.keys.share for p in pairs]),
        keys_chance=mean([p.keys.chance for p in pairs]),
        outputs_share=mean([p.outputs.share for p in pairs]),
        outputs_chance=mean([p.outputs.chance for p in pairs]),
        second_on_first=way([p.second_on_first for p in pairs]),
        first_on_second=way([p.first_on_second for p in pairs]),
    )


def _factor_total(modules: Sequence[ModuleReport]) -> float | None:
    errors = [m.mean.factor_error * m.mean.norm for m in modules if m.mean.factor_error is not None]
    if len(errors) < len(modules):
        return None
    return _ratio(math.hypot(*errors), math.hypot(*(m.mean.norm for m in modules)))


def _combination_total(how: Plan, modules: Sequence[ModuleReport], wanted: float) -> Combination:
    found = Combination(
        peft=peft_version(),
        error=None,
        rank=how.rank or None,
        scale=how.scale,
        random=how.kind in RANDOM,
        dropped=how.dropped,
        reason=how.refused,
    )
    entries = [(m.name, e) for m in modules if (e := m.combinations[how.kind]) is not None]
    if how.refused is not None:
        return found
    failed = next((f"{name}: {e.reason}" for name, e in entries if e.reason), None)
    if failed is not None:
        return replace(found, reason=failed)
    return replace(found, error=_ratio(math.hypot(*(e.error or 0.0 for _, e in entries)), wanted))
