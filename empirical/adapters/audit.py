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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.advice import verdict
from empirical.adapters.answer import answer
from empirical.adapters.base import BaseWeights
from empirical.adapters.files import Adapter, check_weights, module_names, natural, read_all
from empirical.adapters.joint import Meeting, Part, angles, compressed, meeting, workers
from empirical.adapters.library import FEW
from empirical.adapters.peft_types import (
    CLOSED_TYPES,
    DENSE_LIMIT,
    DENSE_TYPES,
    FACTOR_TYPES,
    RANDOM,
    TRIMMED,
    TYPES,
    Draw,
    Plan,
    Wanted,
    closed_error,
    combined_dense,
    combined_factors,
    distance,
    factor_errors,
    peft_version,
    plan,
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
from theory.merging import factor_average
from theory.numerics import Array, integer, require

ENERGY = 0.95


@dataclass(frozen=True)
class Settings:
    """What an audit computes beside what is stored.

    Attributes:
        rank: the loss of a merge kept at this rank is reported; by default the largest rank of a part.
        density: of peft's pruning combination types; seed: of its random ones.
        dense: also compute peft's dense types on modules of any size (slow).
        by_module: report pairs module by module too; by default those of up to :data:`FEW` adapters.
    """

    rank: int | None = None
    density: float = 0.5
    dense: bool = False
    seed: int = 0
    by_module: bool | None = None

    def __post_init__(self) -> None:
        if self.rank is not None:
            integer(self.rank, "rank", 1)
        require(0.0 < self.density <= 1.0, "density", "a share in (0, 1]", self.density)
        integer(self.seed, "seed", 0)


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

    Source: claims merge_rank, eckart_young, factor_average, dilution, optimal_weights, interference, additive_limit.
    """
    settings = settings or Settings()
    require(probe is None or base is not None, "probe", "a base to ask (--base)", "none")
    known = BaseWeights.of(base, probe is not None)
    adapters = read_all(paths, same_base, known.known)
    chosen = check_weights(weights, len(adapters))
    for w in chosen:  # squares are taken of what they weigh
        require(w == 0.0 or 1e-100 <= abs(w) <= 1e100, "weights", "numbers of size 1e-100 to 1e100, or 0", w)
    names = sorted(module_names(adapters), key=natural)
    rank = settings.rank or max(m.r for a in adapters for m in a.modules.values())
    measure = _Measure(adapters, chosen, replace(settings, rank=rank), known, _plans(adapters, names, known, settings))
    modules: list[ModuleReport] = []
    together = Together(len(adapters))
    with warnings.catch_warnings(), workers() as each:
        warnings.simplefilter("ignore")  # peft says that a density of 1 prunes nothing
        for found, met in each(measure.module, names):
            modules.append(found)
            together.add(met)
            if progress is not None:
                progress(len(modules), len(names))
    probes = None
    if probe is not None:
        from empirical.adapters.probes import ask

        probes = ask(known.model, base, adapters, chosen, probe)
    report = AuditReport(
        schema=2,
        tool={n: metadata.version(n) for n in ("lora-limits", "peft", "torch", "numpy")},
        options=Options(
            tuple(chosen), rank, settings.seed, settings.density, settings.dense, DENSE_LIMIT, _base_name(base)
        ),
        answer=Answer(),
        adapters=tuple(_summary(a) for a in adapters),
        modules=tuple(modules),
        total=measure.total(modules, together),
        probe=probes,
        verdict=(),
    )
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
        notes=tuple(adapter.said),
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
    """The wanted sum in one module: its parts as stored and compressed, the sum of the latter, its singular values."""

    name: str
    parts: Wanted
    updates: list[LowRank]
    dense: Array
    values: Array


@dataclass(frozen=True)
class _Measure:
    """Everything that the measurement of one module needs to know about all of them."""

    adapters: Sequence[Adapter]
    weights: Sequence[float]
    settings: Settings
    base: BaseWeights
    plans: dict[str, Plan]

    def module(self, name: str) -> tuple[ModuleReport, Meeting]:
        """One module that some adapter touches, and what its pairs do to each other."""
        owners = [i for i, a in enumerate(self.adapters) if name in a.modules]
        shape = self.adapters[owners[0]].modules[name]
        size = (shape.out, shape.inner)
        raw = Wanted(
            [self.adapters[i].factors(name) for i in owners],
            [self.adapters[i].modules[name].scale for i in owners],
            [self.weights[i] for i in owners],
        )
        updates = compressed(raw.factors, raw.scales)
        parts = [Part(i, u, *u.svd(size)) for i, u in zip(owners, updates, strict=True)]
        total = LowRank.combine(updates, raw.weights)
        dense = total.dense()
        values: Array = np.asarray(np.linalg.svd(dense, compute_uv=False))
        wanted = _Sum(name, raw, updates, dense, values[values > total.tolerance(size)])
        met = meeting(parts, *size)
        base_norm = self.base.norm(name)
        shown = self.settings.by_module or (self.settings.by_module is None and len(self.adapters) <= FEW)
        return ModuleReport(
            name=name,
            kind=shape.kind,
            out=shape.out,
            inner=shape.inner,
            base_norm=base_norm,
            parts=tuple(_part(p, self.adapters[p.adapter].modules[name].r, base_norm) for p in parts),
            keys_shared=float(met.keys[_above(parts)].max()) if len(parts) > 1 else None,
            pairs=tuple(_pairs(parts, met)) if shown else None,
            merge=self._merge(wanted),
            mean=_mean(parts, len(self.adapters)),
            combinations=self._combinations(wanted),
        ), met

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
        """The error of each of peft's combinations in one module; None where peft does not get there."""
        live = [p for p in self.plans.values() if p.refused is None and wanted.name not in p.dropped]
        draw = Draw(wanted.name, self.settings.seed, self.settings.density)
        norm = float(np.linalg.norm(wanted.values))
        pruning = [p for p in live if p.kind in (*TRIMMED, *RANDOM) and p.kind in FACTOR_TYPES]
        errors: dict[str, float | str] = dict(factor_errors(pruning, wanted.parts, norm, draw)) if pruning else {}
        for how in live:
            try:
                if how.kind in CLOSED_TYPES:
                    errors[how.kind] = closed_error(how, wanted.values)
                elif how.kind == "linear":
                    errors[how.kind] = _linear(how, wanted)
                elif how.kind in DENSE_TYPES:
                    errors[how.kind] = distance(combined_dense(how, wanted.parts, draw), wanted.parts)
            except ValueError as reason:
                errors[how.kind] = str(reason)
        found: dict[str, ModuleCombination | None] = {}
        for kind, how in self.plans.items():
            error = errors.get(kind)
            if how.refused is not None:
                found[kind] = None
            elif wanted.name in how.dropped:
                found[kind] = ModuleCombination(norm, True, None)
            elif isinstance(error, str):
                found[kind] = ModuleCombination(None, False, error)
            else:
                found[kind] = ModuleCombination(error, False, None)
        return found

    def total(self, modules: Sequence[ModuleReport], together: Together) -> Total:
        """All modules together."""
        wanted = math.hypot(*(m.merge.norm for m in modules))
        lost = math.hypot(*((m.merge.truncation or 0.0) * m.merge.norm for m in modules))
        count = len(self.adapters)
        assert self.settings.rank is not None
        return Total(
            modules=len(modules),
            norm=wanted,
            adapters=tuple(_adapter_total(i, modules) for i in range(count)),
            pairs=tuple(together.pair(i, j) for i in range(count) for j in range(i + 1, count)),
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


def _above(parts: Sequence[Part]) -> tuple[Any, Any]:
    """Every pair once."""
    return np.triu_indices(len(parts), 1)


def _pairs(parts: Sequence[Part], met: Meeting) -> Iterator[PairReport]:
    for i, j in zip(*_above(parts), strict=True):
        one, two = parts[i], parts[j]
        size = one.norm * two.norm
        yield PairReport(
            first=one.adapter,
            second=two.adapter,
            cosine=float(met.inner[i, j]) / size if size else 0.0,
            keys=Overlap(float(met.keys[i, j]), float(met.keys_chance[i, j]), angles(one.right, two.right)),
            outputs=Overlap(
                float(met.outputs[i, j]), float(met.outputs_chance[i, j]), angles(one.left.T, two.left.T)
            ),
            second_on_first=Interference(float(met.bound[i, j]), float(met.largest[i, j])),
            first_on_second=Interference(float(met.bound[j, i]), float(met.largest[j, i])),
        )  # fmt: skip


def _mean(parts: Sequence[Part], count: int) -> MeanReport:
    """The uniform mean of all adapters: what it keeps of each, and what averaging the factors makes of it."""
    updates = [p.update for p in parts]
    shares = [1.0 / count] * len(parts)
    mean = LowRank.combine(updates, shares)
    whole = mean.dense()
    norm = float(np.linalg.norm(whole))
    kept = _kept(whole, parts)
    if len({(u.columns, u.scale) for u in updates}) > 1:
        return MeanReport(norm, kept, None, None)
    averaged = factor_average(updates, shares, "plain")
    made = averaged.dense()
    size = float(np.linalg.norm(made - whole))
    floor = LowRank.combine([averaged, mean], [1.0, -1.0]).tolerance()
    return MeanReport(norm, kept, _ratio(0.0 if size <= floor else size, norm), _kept(made, parts))


def _kept(whole: Array, parts: Sequence[Part]) -> tuple[float | None, ...]:
    """Per part: projection of `whole` on its update, relative to it."""
    left, right = np.hstack([p.update.B for p in parts]), np.vstack([p.update.A for p in parts])
    starts = np.cumsum([0, *(p.update.columns for p in parts[:-1])])
    products = np.add.reduceat(np.sum((left.T @ whole) * right, axis=1), starts)
    return tuple(_ratio(p.update.scale * float(x), p.norm**2) for p, x in zip(parts, products, strict=True))


def _linear(how: Plan, wanted: _Sum) -> float:
    """peft's ``linear`` adds factors, which commutes with compressing them."""
    small = [(torch.from_numpy(np.array(u.A)), torch.from_numpy(np.array(u.B))) for u in wanted.updates]
    a, b = combined_factors(how, wanted.parts._replace(factors=small))
    return float(np.linalg.norm(how.scale * (b @ a).numpy() - wanted.dense))


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


class Together:
    """Pairs over all modules, from the meetings in each."""

    def __init__(self, count: int) -> None:
        def table() -> Array:
            return np.zeros((count, count))

        self.common, self.squares = table().astype(int), np.zeros(count)
        self.sums = {key: table() for key in Meeting._fields[1:]}
        self.most = {key: table() for key in ("largest", "bound")}

    def add(self, met: Meeting) -> None:
        """One more module."""
        here = np.ix_(met.owners, met.owners)
        self.common[here] += 1
        self.squares[met.owners] += np.diag(met.inner)
        for key, table in self.sums.items():
            table[here] += getattr(met, key)
        for key, table in self.most.items():
            table[here] = np.maximum(table[here], getattr(met, key))

    def pair(self, i: int, j: int) -> PairTotal:
        """Two adapters."""
        count = int(self.common[i, j])
        whole = math.sqrt(self.squares[i] * self.squares[j])

        def mean(key: str, one: int = i, two: int = j) -> float | None:
            return float(self.sums[key][one, two]) / count if count else None

        def way(own: int, other: int) -> InterferenceTotal:
            most = (float(self.most[key][own, other]) if count else None for key in ("largest", "bound"))
            return InterferenceTotal(mean("largest", own, other), *most)

        return PairTotal(
            first=i,
            second=j,
            common_modules=count,
            cosine=float(self.sums["inner"][i, j]) / whole if whole else 0.0,
            keys_share=mean("keys"),
            keys_chance=mean("keys_chance"),
            outputs_share=mean("outputs"),
            outputs_chance=mean("outputs_chance"),
            second_on_first=way(i, j),
            first_on_second=way(j, i),
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
