"""Adapters on disk: what merging them would lose, measured in factor space, and the exact merge.

:func:`audit` reads adapter folders as peft saves them, one module at a time, without loading a base model, and returns
plain data that follows ``docs/audit.schema.json``. :func:`merge` (from :mod:`empirical.adapters.merge`) writes the
weighted sum as a standard adapter. Nothing here forms an out x in matrix, except the dense combination types of peft
on modules below a stated size.

Glossary: *keys* are inputs of a module; an update reads its row space and writes its column space. Norms are Frobenius
norms unless said otherwise, totals run over all modules (root of the sum of squares).
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from empirical.adapters.files import Adapter, module_names, read_all
from empirical.adapters.merge import MergeReport, check_shapes, check_weights, compressed, merge
from empirical.adapters.peft_types import (
    CLOSED_TYPES,
    DENSE_LIMIT,
    DENSE_TYPES,
    FACTOR_TYPES,
    RANDOM,
    TRIMMED,
    TYPES,
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
from theory.approximation import spectral_rank
from theory.lowrank import LowRank
from theory.merging import factor_average, interference_bound
from theory.numerics import Array, integer, require

__all__ = ["MergeReport", "audit", "merge"]

ENERGY = 0.95
SCHEMA = 1


class Part(NamedTuple):
    """One adapter's update of one module in compressed coordinates, decomposed."""

    adapter: int
    update: LowRank
    left: Array
    values: Array
    right: Array

    @property
    def rank(self) -> int:
        return int(self.values.size)

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.values))


def audit(
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
    *,
    base: Any = None,
    rank: int | None = None,
    seed: int = 0,
    density: float = 0.5,
    dense: bool = False,
    probe: str | os.PathLike[str] | None = None,
    same_base: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure adapters and what merging them would do.

    Args:
        paths: adapter folders or hub ids.
        weights: of the wanted sum, by default 1 each.
        base: folder or hub id of the base, ``"packaged"`` or a loaded model; norms are then relative to its weights.
        rank: for the loss of a merge kept at this rank; by default the largest rank of a part.
        seed, density: of peft's random and pruning combination types.
        dense: also compute peft's dense types on modules of any size (slow).
        probe: a text file with a prompt and an answer per line, separated by a tab; needs `base`.
        same_base: take bases of different names for one and the same.
        progress: called with (modules done, modules).

    Returns:
        plain data as described by ``docs/audit.schema.json``.

    Raises:
        ValueError: in one line: what cannot be read or does not fit.

    Source: claims merge_rank, eckart_young, factor_average, dilution, interference, additive_limit.
    """
    require(0.0 < density <= 1.0, "density", "a share in (0, 1]", density)
    integer(seed, "seed", 0)
    adapters = read_all(paths, same_base)
    chosen = check_weights(weights, len(adapters))
    kept_rank = max(m.r for a in adapters for m in a.modules.values()) if rank is None else integer(rank, "rank", 1)
    require(probe is None or base is not None, "probe", "a base to ask (--base)", "none")
    weights_of = _base_weights(base, adapters, probe is not None)
    names = sorted(module_names(adapters), key=natural)
    plans = _plans(adapters, names, weights_of.names, dense)
    modules = []

    def measure(name: str) -> dict[str, Any]:
        return _module(adapters, chosen, name, plans, kept_rank, density, seed, weights_of)

    workers = min(4, os.cpu_count() or 1)
    with warnings.catch_warnings(), ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # peft says that a density of 1 prunes nothing
        for found in pool.map(measure, names):
            modules.append(found)
            if progress is not None:
                progress(len(modules), len(names))
    probes = None
    if probe is not None:
        from empirical.adapters.probes import ask

        probes = ask(weights_of.model, base, adapters, chosen, probe)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "tool": {n: metadata.version(n) for n in ("lora-limits", "peft", "torch", "numpy")},
        "options": {
            "weights": chosen, "rank": kept_rank, "seed": seed, "density": density, "dense": dense,
            "dense_limit": DENSE_LIMIT, "base": None if base is None else _base_name(base),
        },
        "adapters": [_adapter(a, weights_of) for a in adapters],
        "modules": modules,
        "total": _total(adapters, modules, plans, kept_rank),
        "probe": probes,
    }  # fmt: skip
    for a in adapters:
        a.close()
    from empirical.adapters.advice import verdict

    data["verdict"] = verdict(data)
    return data


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts layer 10 after layer 9."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name)]


def _base_name(base: Any) -> str:
    return Path(str(base)).name if isinstance(base, (str, os.PathLike)) else type(base).__name__


def _adapter(adapter: Adapter, base: BaseWeights) -> dict[str, Any]:
    ranks = sorted({m.r for m in adapter.modules.values()})
    return {
        "name": adapter.name,
        "base": adapter.raw.get("base_model_name_or_path"),
        "ranks": ranks,
        "scales": sorted({m.scale for m in adapter.modules.values()}),
        "rslora": bool(adapter.config.use_rslora),
        "dtypes": sorted({m.dtype for m in adapter.modules.values()}),
        "modules": len(adapter.modules),
        "parameters": sum(m.r * (m.out + m.inner) for m in adapter.modules.values()),
    }


def _plans(
    adapters: Sequence[Adapter], names: Sequence[str], base_names: Sequence[str], dense: bool
) -> dict[str, Plan]:
    kinds = TYPES if len(adapters) > 1 else ("linear",)
    made = {}
    for kind in kinds:
        made[kind] = plan(adapters, kind, names, base_names)
        if kind in DENSE_TYPES and made[kind].refused is None and not dense:
            sizes = {n: a.modules[n].out * a.modules[n].inner for a in adapters for n in a.modules}
            large = sum(1 for s in sizes.values() if s > DENSE_LIMIT)
            if large:
                reason = f"not computed: {large} modules have more than {DENSE_LIMIT} entries (--dense)"
                made[kind] = Plan(kind, reason)
    return made


# ---------------------------------------------------------------- one module


def _parts(updates: Sequence[tuple[int, LowRank]]) -> list[Part]:
    """The updates in coordinates of their joint spaces, each with its singular value decomposition."""
    parts = []
    for (owner, full), small in zip(updates, compressed([u for _, u in updates]), strict=True):
        u, values, vt = np.linalg.svd(small.dense(), full_matrices=False)
        kept = int(np.count_nonzero(values > full.tolerance()))  # the rounding is that of the large factors
        parts.append(Part(owner, small, u[:, :kept], values[:kept], vt[:kept]))
    return parts


def _module(
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    name: str,
    plans: dict[str, Plan],
    kept_rank: int,
    density: float,
    seed: int,
    base: BaseWeights,
) -> dict[str, Any]:
    owners = [(i, a) for i, a in enumerate(adapters) if name in a.modules]
    shape = owners[0][1].modules[name]
    factors = [a.factors(name) for _, a in owners]
    full = [
        (i, LowRank(b.double().numpy(), f.double().numpy(), a.modules[name].scale))
        for (i, a), (f, b) in zip(owners, factors, strict=True)
    ]
    parts = _parts(full)
    base_norm = base.norm(name)
    chosen = [weights[i] for i, _ in owners]
    small = LowRank.combine([p.update for p in parts], chosen)
    wanted = LowRank.combine([u for _, u in full], chosen)
    values: Array = np.asarray(np.linalg.svd(small.dense(), compute_uv=False))
    values = values[values > wanted.tolerance()]
    norm = float(np.linalg.norm(values))
    loaded = widened(factors)
    trimmed = pruned(loaded, density) if any(k in plans and plans[k].refused is None for k in TRIMMED) else loaded
    return {
        "name": name,
        "kind": shape.kind,
        "out": shape.out,
        "in": shape.inner,
        "base_norm": base_norm,
        "parts": [_part(p, adapters[p.adapter].modules[name].r, base_norm) for p in parts],
        "pairs": [_pair(p, q, shape.out, shape.inner) for i, p in enumerate(parts) for q in parts[i + 1 :]],
        "merge": {
            "norm": norm,
            "ranks": sum(u.columns for _, u in full),
            "rank": int(values.size),
            "rank95": spectral_rank(values, ENERGY) if norm else 0,
            "singular_values": values.tolist(),
            "truncation": _ratio(float(np.linalg.norm(values[kept_rank:])), norm),
        },
        "mean": _mean(parts, len(adapters)),
        "combinations": {
            kind: _combination(
                p,
                trimmed if kind in TRIMMED else loaded,
                full,
                chosen,
                wanted,
                values,
                name,
                1.0 if kind in TRIMMED else density,
                seed,
            )
            for kind, p in plans.items()
        },
    }


def _ratio(part: float, whole: float) -> float | None:
    """None where there is nothing to be relative to."""
    if whole == 0.0:
        return 0.0 if part == 0.0 else None
    return part / whole


def _part(part: Part, r: int, base_norm: float | None) -> dict[str, Any]:
    norm = part.norm
    return {
        "adapter": part.adapter,
        "r": r,
        "scale": part.update.scale,
        "rank": part.rank,
        "stable_rank": (norm / float(part.values[0])) ** 2 if part.rank else 0.0,
        "rank95": spectral_rank(part.values, ENERGY) if part.rank else 0,
        "norm": norm,
        "spectral_norm": float(part.values[0]) if part.rank else 0.0,
        "relative_norm": norm / base_norm if base_norm else None,
        "singular_values": part.values.tolist(),
    }


def _pair(one: Part, two: Part, out: int, inner: int) -> dict[str, Any]:
    product = one.update.inner(two.update)
    size = one.norm * two.norm
    return {
        "first": one.adapter,
        "second": two.adapter,
        "cosine": product / size if size else 0.0,
        "keys": _overlap(one.right.T, two.right.T, inner),
        "outputs": _overlap(one.left, two.left, out),
        "second_on_first": _interference(one, two),
        "first_on_second": _interference(two, one),
    }


def _overlap(one: Array, two: Array, width: int) -> dict[str, Any]:
    """Two subspaces by orthonormal columns: the share that they have in common, the angles, and what chance gives.

    The share is the mean squared cosine of the principal angles; for independent random subspaces its mean is
    (larger dimension) / width.
    """
    if not one.shape[1] or not two.shape[1]:
        return {"share": 0.0, "chance": 0.0, "angles": []}
    cosines = np.clip(np.linalg.svd(one.T @ two, compute_uv=False), 0.0, 1.0)
    return {
        "share": float(np.mean(cosines**2)),
        "chance": max(one.shape[1], two.shape[1]) / width,
        "angles": np.degrees(np.arccos(cosines)).tolist(),
    }


def _interference(own: Part, other: Part) -> dict[str, float | None]:
    """What `other` does to keys that `own` reads, relative to the most that `own` does to a key of the same length.

    ``bound`` is ``s ||B||_2 ||A k||`` for the worst unit key in the row space of `own` (claim interference),
    ``largest`` the norm of the change at its own worst key there: the exact maximum.
    """
    if not own.rank or not other.rank:
        return {"bound": 0.0, "largest": 0.0}
    read = other.update.A @ own.right.T
    _, _, vt = np.linalg.svd(read)
    (bound,) = interference_bound([other.update], vt[0] @ own.right)
    done = (other.left * other.values) @ (other.right @ own.right.T)
    strength = float(own.values[0])
    return {"bound": bound / strength, "largest": float(np.linalg.norm(done, 2)) / strength}


def _mean(parts: Sequence[Part], count: int) -> dict[str, Any]:
    """The uniform mean of all adapters: what it keeps of each, and what averaging the factors makes of it."""
    shares = [1.0 / count] * len(parts)
    mean = LowRank.combine([p.update for p in parts], shares)
    kept = [_ratio(mean.inner(p.update), p.norm**2) for p in parts]
    norm = mean.norm()
    found: dict[str, Any] = {"norm": norm, "kept": kept, "factor_error": None, "factor_kept": None}
    alike = len({p.update.columns for p in parts}) == 1 and len({p.update.scale for p in parts}) == 1
    if alike:
        averaged = factor_average([p.update for p in parts], shares, "plain")
        off = LowRank.combine([averaged, mean], [1.0, -1.0])
        size = off.norm()
        found["factor_error"] = _ratio(0.0 if size <= off.tolerance() else size, norm)
        found["factor_kept"] = [_ratio(averaged.inner(p.update), p.norm**2) for p in parts]
    return found


def _combination(
    how: Plan,
    factors: Factors,
    full: Sequence[tuple[int, LowRank]],
    weights: Sequence[float],
    wanted: LowRank,
    values: Array,
    name: str,
    density: float,
    seed: int,
) -> dict[str, Any] | None:
    """Norm of the error of one of peft's combinations in one module; None where peft does not get there."""
    if how.refused is not None:
        return None
    if name in how.dropped:
        return {"error": float(np.linalg.norm(values)), "dropped": True, "reason": None}
    updates = [u for _, u in full]
    try:
        if how.kind in CLOSED_TYPES:
            error = closed_error(how.kind, values, how.rank, how.scale)
        elif how.kind in FACTOR_TYPES:
            made = combined_factors(how.kind, updates, factors, weights, how.scale, density, seed, name)
            error = distance(made, wanted, float(values @ values))
        else:
            made = combined_dense(how.kind, updates, weights, how.rank, how.scale, density, seed, name)
            error = distance(made, wanted, float(values @ values))
    except ValueError as reason:
        return {"error": None, "dropped": False, "reason": str(reason)}
    return {"error": error, "dropped": False, "reason": None}


# ---------------------------------------------------------------- totals


def _root(values: Sequence[float]) -> float:
    return math.hypot(*values) if values else 0.0


def _total(
    adapters: Sequence[Adapter], modules: Sequence[dict[str, Any]], plans: dict[str, Plan], kept_rank: int
) -> dict[str, Any]:
    wanted = _root([m["merge"]["norm"] for m in modules])
    lost = _root([(m["merge"]["truncation"] or 0.0) * m["merge"]["norm"] for m in modules])
    count = len(adapters)
    return {
        "modules": len(modules),
        "norm": wanted,
        "adapters": [_adapter_total(i, modules) for i in range(count)],
        "pairs": [_pair_total(i, j, modules) for i in range(count) for j in range(i + 1, count)],
        "merge": {
            "largest_rank": max(m["merge"]["rank"] for m in modules),
            "smallest_rank": min(m["merge"]["rank"] for m in modules),
            "compressed_modules": sum(1 for m in modules if m["merge"]["rank"] < m["merge"]["ranks"]),
            "kept_rank": kept_rank,
            "truncation": _ratio(lost, wanted),
        },
        "mean": {
            "adapters": count,
            "kept": 1.0 / count,
            "factor_kept": 1.0 / count**2,
            "factor_error": _factor_total(modules),
        },
        "combinations": {kind: _combination_total(p, modules, wanted) for kind, p in plans.items()},
    }


def _adapter_total(index: int, modules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    parts = [p for m in modules for p in m["parts"] if p["adapter"] == index]
    bases = [m["base_norm"] for m in modules if any(p["adapter"] == index for p in m["parts"])]
    norm = _root([p["norm"] for p in parts])
    known = bool(bases) and all(b for b in bases)
    kept = [m["mean"]["kept"][k] for m in modules for k, p in enumerate(m["parts"]) if p["adapter"] == index]
    sizes = [p["norm"] ** 2 for p in parts]
    share = sum((k or 0.0) * s for k, s in zip(kept, sizes, strict=True))
    return {
        "norm": norm,
        "relative_norm": norm / _root([b for b in bases if b]) if known else None,
        "mean_rank": float(np.mean([p["rank"] for p in parts])),
        "mean_stable_rank": float(np.mean([p["stable_rank"] for p in parts])),
        "mean_rank95": float(np.mean([p["rank95"] for p in parts])),
        "kept_by_mean": _ratio(share, sum(sizes)),
    }


def _pair_total(i: int, j: int, modules: Sequence[dict[str, Any]]) -> dict[str, Any]:
    product, common, pairs = 0.0, 0, []
    sizes = [0.0, 0.0]
    for m in modules:
        norms = {p["adapter"]: p["norm"] for p in m["parts"]}
        sizes[0] += norms.get(i, 0.0) ** 2
        sizes[1] += norms.get(j, 0.0) ** 2
        for pair in m["pairs"]:
            if (pair["first"], pair["second"]) == (i, j):
                common += 1
                product += pair["cosine"] * norms[i] * norms[j]
                pairs.append(pair)

    def mean(*keys: str) -> float | None:
        found = [p[keys[0]][keys[1]] for p in pairs]
        return float(np.mean(found)) if found else None

    def most(*keys: str) -> float | None:
        return max((p[keys[0]][keys[1]] for p in pairs), default=None)

    whole = math.sqrt(sizes[0] * sizes[1])
    return {
        "first": i, "second": j, "common_modules": common,
        "cosine": product / whole if whole else 0.0,
        "keys_share": mean("keys", "share"), "keys_chance": mean("keys", "chance"),
        "outputs_share": mean("outputs", "share"), "outputs_chance": mean("outputs", "chance"),
        **{
            way: {"mean_largest": mean(way, "largest"), "largest": most(way, "largest"), "bound": most(way, "bound")}
            for way in ("second_on_first", "first_on_second")
        },
    }  # fmt: skip


def _factor_total(modules: Sequence[dict[str, Any]]) -> float | None:
    if any(m["mean"]["factor_error"] is None for m in modules):
        return None
    errors = [m["mean"]["factor_error"] * m["mean"]["norm"] for m in modules]
    return _ratio(_root(errors), _root([m["mean"]["norm"] for m in modules]))


def _combination_total(how: Plan, modules: Sequence[dict[str, Any]], wanted: float) -> dict[str, Any]:
    found: dict[str, Any] = {
        "peft": peft_version(), "error": None, "rank": how.rank or None, "scale": how.scale,
        "random": how.kind in RANDOM, "dropped": list(how.dropped), "reason": how.refused,
    }  # fmt: skip
    if how.refused is not None:
        return found
    entries = [m["combinations"][how.kind] for m in modules]
    failed = next((f"{m['name']}: {e['reason']}" for m, e in zip(modules, entries, strict=True) if e["reason"]), None)
    if failed is not None:
        return found | {"reason": failed}
    return found | {"error": _ratio(_root([e["error"] for e in entries]), wanted)}


# ---------------------------------------------------------------- the base


class BaseWeights:
    """Norms of the base's weights, read one at a time from safetensors or taken from a loaded model."""

    def __init__(self, model: Any = None, files: dict[str, Path] | None = None) -> None:
        self.model = model
        self.files = files or {}
        modules = dict(model.named_modules()) if model is not None else {}
        self.modules = {n: m for n, m in modules.items() if hasattr(m, "weight")}
        self.names = sorted(self.modules) or sorted(
            k.removesuffix(".weight") for k in self.files if k.endswith(".weight")
        )

    def norm(self, module: str) -> float | None:
        """Frobenius norm of a module's weight; None where the base is not given or stores no such weight."""
        if module in self.modules:
            return float(self.modules[module].weight.detach().double().norm())
        path = self.files.get(module + ".weight")
        if path is None:
            return None
        from safetensors import safe_open

        with safe_open(str(path), framework="pt", device="cpu") as handle:
            return float(handle.get_tensor(module + ".weight").float().norm())


def _base_weights(base: Any, adapters: Sequence[Adapter], loaded: bool) -> BaseWeights:
    """Without loading the model where its checkpoint names its weights as the modules are named."""
    if base is None:
        return BaseWeights()
    wanted = {n + ".weight" for n in module_names(adapters)}
    if not loaded and isinstance(base, (str, os.PathLike)) and Path(base).is_dir():
        files = _checkpoint(Path(base))
        if wanted <= set(files):
            return BaseWeights(files=files)
    from empirical.adapters.identity import load_model

    model = load_model(base)
    check_shapes(adapters, model)
    return BaseWeights(model)


def _checkpoint(folder: Path) -> dict[str, Path]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(str(path), framework="pt", device="cpu") as handle:
                found |= dict.fromkeys(handle.keys(), path)
        except (SafetensorError, OSError) as error:
            got = str(error).splitlines()[0][:120]
            raise ValueError(f"base: expected whole safetensors files, got {path.name}: {got}") from error
    return found
