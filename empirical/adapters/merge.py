"""The exact merge of adapters on disk: one standard peft adapter whose update is the weighted sum, module by module.

The factors of the parts are stacked (rank = sum of the ranks), or the sum is factored anew where it has a smaller rank.
What is lost is the rounding of the stored factors, which is measured and bounded; with a base at hand the logits of the
merged adapter are compared with those of the parts, active together, before anything is published.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.base import check_shapes, load_model
from empirical.adapters.files import (
    Adapter,
    Draft,
    Module,
    check_output,
    check_weights,
    factor_keys,
    lora_config,
    module_names,
    pattern,
    read_all,
    write_adapter,
)
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import EPS, Array, integer, one_of, require

METHODS = ("exact", "svd")
OUTPUT = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
#: unit roundoff and smallest positive number (half of it is the error of an underflow)
FORMATS = {
    "float64": (2.0**-53, 2.0**-1074),
    "float32": (2.0**-24, 2.0**-149),
    "float16": (2.0**-11, 2.0**-24),
    "bfloat16": (2.0**-8, 2.0**-133),
}


@dataclass(frozen=True)
class Written:
    """How a merge is written.

    Attributes:
        method: ``"exact"``, or ``"svd"``: the best update of rank `rank` in every module.
        dtype: of the factors.
        force: overwrite an adapter folder.
    """

    method: str = "exact"
    rank: int | None = None
    dtype: str = "float32"
    force: bool = False

    def __post_init__(self) -> None:
        one_of(self.method, "method", METHODS)
        one_of(self.dtype, "dtype", tuple(OUTPUT))
        if self.method == "svd":
            require(self.rank is not None, "rank", "a number with method svd", "none")
            integer(self.rank, "rank", 1)
        require(
            self.method == "svd" or self.rank is None, "rank", "none with method exact (use --method svd)", self.rank
        )


class IdentityFailed(RuntimeError):
    """The merged adapter does not compute what its parts do; nothing was published."""


@dataclass(frozen=True)
class MergedModule:
    """One module of a merged adapter.

    Attributes:
        r: rank that was written; `ranks`: sum of the ranks of the parts.
        truncation: Frobenius norm of what was cut off (0 where nothing was).
        rounding: measured Frobenius norm of what storing in the output format changed; `bound`: what it can be.
        norm: of the wanted sum.
    """

    name: str
    r: int
    ranks: int
    norm: float
    truncation: float
    rounding: float
    bound: float


@dataclass
class MergeReport:
    """What :func:`merge` did. Relative errors are to the Frobenius norm of the wanted sum over all modules."""

    output: str
    adapters: list[str]
    weights: list[float]
    method: str
    dtype: str
    modules: list[MergedModule]
    truncation: float
    rounding: float
    bound: float
    notes: list[str] = field(default_factory=list)
    identity: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Stored(NamedTuple):
    """Factors as they will be written, and what they are off by."""

    A: torch.Tensor
    B: torch.Tensor
    facts: MergedModule


def merge(
    paths: Sequence[str | os.PathLike[str]],
    weights: Sequence[float] | None = None,
    output: str | os.PathLike[str] = "merged",
    how: Written | None = None,
    *,
    base: Any = None,
    same_base: bool = False,
    seed: int = 0,
) -> MergeReport:
    """Merge adapters into one whose update is ``sum_i w_i U_i`` in every module, and write it as peft does.

    Args:
        paths: adapter folders or hub ids; ranks, scales and modules may differ. A module that an adapter does not
            touch counts as zero there.
        weights: one per adapter, negative allowed; by default 1 each (the plain sum).
        output: folder to write. It appears whole or not at all.
        how: exactly, unless said otherwise, and in float32.
        base: folder or hub id of the base, ``"packaged"``, or a loaded model: the logits are then compared (on random
            tokens of `seed`) and nothing is published unless they agree to the derived bound.
        same_base: take bases of different names for one and the same.

    Raises:
        ValueError: what cannot be merged, in one line; nothing is written.
        IdentityFailed: the logits do not agree; nothing is published.

    Source: claims merge_rank, eckart_young, adapter_algebra.
    """
    how = how or Written()
    target = Path(output)
    adapters = read_all(paths, same_base)
    check_output(target, [a.path for a in adapters], how.force)
    chosen = check_weights(weights, len(adapters))
    model = None
    if base is not None:
        model = load_model(base)
        check_shapes(adapters, model)
    notes = [*_tied_notes(adapters, model)]
    tensors: dict[str, torch.Tensor] = {}
    written: list[MergedModule] = []
    kinds: dict[str, Module] = {}
    for name in module_names(adapters):
        stored, shape = merge_module(adapters, chosen, name, how.rank, how.dtype)
        key_a, key_b = factor_keys(shape)
        tensors[key_a], tensors[key_b] = stored.A, stored.B
        written.append(stored.facts)
        kinds[name] = shape
    tensors |= _copies(adapters, model, notes)
    config = merged_config(adapters, {m.name: m.r for m in written})
    whole = math.hypot(*(m.norm for m in written))
    report = MergeReport(
        target.name, [a.name for a in adapters], chosen, how.method, how.dtype, written,
        _relative([m.truncation for m in written], whole), _relative([m.rounding for m in written], whole),
        _relative([m.bound for m in written], whole), notes,
    )  # fmt: skip
    with Draft(target) as draft:
        write_adapter(draft.folder, config, tensors, _card(report, config))
        if model is not None:
            from empirical.adapters.identity import identity_test

            found = identity_test(model, adapters, chosen, draft.folder, written, seed)
            report.identity = found
            if how.method == "exact" and not found["holds"]:
                raise IdentityFailed(
                    f"identity test: expected logits within {found['bound']:.3g} of the weighted sum of the parts, "
                    f"got {found['gap']:.3g}; nothing was written"
                )
        draft.publish()
    for adapter in adapters:
        adapter.close()
    return report


def _relative(parts: Sequence[float], whole: float) -> float:
    total = math.hypot(*parts)
    return total / whole if whole else (0.0 if total == 0 else math.inf)


def merge_module(
    adapters: Sequence[Adapter], weights: Sequence[float], name: str, rank: int | None, dtype: str
) -> tuple[Stored, Module]:
    """The merged factors of one module; `rank` None for an exact merge."""
    owners = [a for a in adapters if name in a.modules]
    shape = owners[0].modules[name]
    parts, kept = [], []
    for adapter, weight in zip(adapters, weights, strict=True):
        if name in adapter.modules:
            update = adapter.update(name)
            if weight != 0.0:
                parts.append(update)
                kept.append(weight)
    ranks = sum(a.modules[name].r for a in owners)
    if not parts:
        return _store(
            LowRank(np.zeros((shape.out, 0)), np.zeros((0, shape.inner))), name, ranks, 0.0, 0.0, dtype
        ), shape
    small = LowRank.combine(LowRank.compress(parts), kept)
    values = small.singular_values()
    # the numbers are those of the large factors, so their rounding is too
    least = int(np.count_nonzero(values > LowRank.combine(parts, kept).tolerance()))
    norm = float(np.linalg.norm(values))
    keep = least if rank is None else min(rank, least)
    lost = float(np.linalg.norm(values[keep:])) if keep < least else 0.0
    if keep < min(len(values), sum(p.columns for p in parts)):
        total = LowRank.combine(parts, kept).truncate(keep)
    else:
        strengths = [w * p.scale for w, p in zip(kept, parts, strict=True)]
        total = LowRank(
            np.hstack([p.B for p in parts]),
            np.vstack([c * p.A for c, p in zip(strengths, parts, strict=True)]),
        )
    return _store(total, name, ranks, norm, lost, dtype), shape


def _store(total: LowRank, name: str, ranks: int, norm: float, lost: float, dtype: str) -> Stored:
    b, a = np.array(total.B), np.array(total.A)
    if not total.columns:  # peft knows no rank 0
        b, a = np.zeros((b.shape[0], 1)), np.zeros((1, a.shape[1]))
    as_b, as_a = (torch.from_numpy(x).to(OUTPUT[dtype]) for x in (b, a))
    finite = bool(torch.isfinite(as_a).all()) and bool(torch.isfinite(as_b).all())
    require(finite, f"{name}: dtype", "a format with room for the factors", f"{dtype}, which overflows")
    back_b, back_a = as_b.double().numpy(), as_a.double().numpy()
    # B' A' - B A = (B' - B) A' + B (A' - A), small factors that lose nothing to cancellation
    change = LowRank(np.hstack([back_b - b, b]), np.vstack([back_a, back_a - a]))
    rounding = _frobenius(change)
    facts = MergedModule(name, b.shape[1], ranks, norm, lost, rounding, storage_bound(back_b, back_a, dtype))
    return Stored(as_a, as_b, facts)


def _frobenius(update: LowRank) -> float:
    """Norm from Gram matrices: enough for an error, of which the size counts and not its last digits."""
    return math.sqrt(max(update.inner(update), 0.0))


def storage_bound(b: Array, a: Array, dtype: str) -> float:
    """Most that rounding both factors to `dtype` changed their product by, in Frobenius norm.

    Entry by entry ``|B'A' - BA| <= (2u + u^2) / (1 - u)^2 |B'||A'|`` for results of normal size, and half of the
    smallest positive number for the others; the float64 arithmetic before is added, r products each.
    """
    unit, tiny = FORMATS[dtype]
    size_b, size_a = np.abs(b), np.abs(a)
    product = math.sqrt(max(float(np.sum((size_b.T @ size_b) * (size_a @ size_a.T))), 0.0))
    r = b.shape[1]
    factor = (2 * unit + unit**2) / (1 - unit) ** 2 + 4 * (r + 4) * EPS * max(b.shape[0], a.shape[1])
    edges = tiny * (math.sqrt(a.shape[1]) * float(size_b.sum()) + math.sqrt(b.shape[0]) * float(size_a.sum()))
    return factor * product + edges + tiny**2 * r * math.sqrt(b.shape[0] * a.shape[1])


# ---------------------------------------------------------------- configuration of the result


def merged_config(adapters: Sequence[Adapter], ranks: dict[str, int]) -> dict[str, Any]:
    """A configuration with scale 1 in every module, that targets exactly the modules of `ranks`.

    Where all parts choose their modules in the same words, these words are kept; otherwise the modules are listed.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    (r, _), *_ = Counter(ranks.values()).most_common(1)
    first = adapters[0]
    chosen = ("target_modules", "layers_to_transform", "layers_pattern", "exclude_modules")
    words = [tuple(_plain(getattr(a.config, key)) for key in chosen) for a in adapters]
    alike = all(w == words[0] for w in words)
    selection: dict[str, Any] = dict(zip(chosen, words[0], strict=True))
    if not alike:
        selection = dict.fromkeys(chosen) | {"target_modules": sorted(ranks)}
    others = {pattern(name): n for name, n in ranks.items() if n != r}
    dropouts = {float(a.config.lora_dropout) for a in adapters}
    config = LoraConfig(
        r=r,
        lora_alpha=r,
        rank_pattern=dict(others),
        alpha_pattern=dict(others),
        lora_dropout=dropouts.pop() if len(dropouts) == 1 else 0.0,
        fan_in_fan_out=any(a.config.fan_in_fan_out for a in adapters),
        task_type=first.config.task_type,
        base_model_name_or_path=_first_of(adapters, "base_model_name_or_path"),
        revision=_first_of(adapters, "revision"),
        inference_mode=True,
        **selection,
    )
    for name, n in ranks.items():  # what peft will make of it
        found = others.get(get_pattern_key(list(others), name), r)
        alpha = others.get(get_pattern_key(list(others), name), r)
        fits = bool(check_target_module_exists(config, name)) and found == n and adapter_scale(alpha, n) == 1.0
        require(fits, name, "a name that peft's patterns can single out", "another")
    plain = {k: _plain(v) for k, v in config.to_dict().items()}
    mappings = [a.raw.get("auto_mapping") for a in adapters]
    plain["auto_mapping"] = mappings[0] if all(m == mappings[0] for m in mappings) else None
    lora_config(plain, "merged")
    return plain


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, (set, frozenset)) else value


def _first_of(adapters: Sequence[Adapter], key: str) -> Any:
    return next((a.raw[key] for a in adapters if a.raw.get(key)), None)


def _card(report: MergeReport, config: dict[str, Any]) -> str:
    terms = " + ".join(f"{w:g} x {n}" for w, n in zip(report.weights, report.adapters, strict=True))
    kind = "exact weighted sum" if report.method == "exact" else "best approximation of the weighted sum at its rank"
    name = config.get("base_model_name_or_path")
    base = f"base_model: {json_string(name)}\n" if name else ""
    return (
        f"---\nlibrary_name: peft\n{base}---\n\nMerged by lora-limits: {kind}\n{terms}\n\n"
        f"Relative error in Frobenius norm: {report.truncation:.3g} cut off, {report.rounding:.3g} from storing in "
        f"{report.dtype} (bound {report.bound:.3g}).\n"
    )


def json_string(text: Any) -> str:
    """A string as JSON and YAML both read it."""
    import json

    return json.dumps(str(text))


# ---------------------------------------------------------------- against the base


def _tied_notes(adapters: Sequence[Adapter], model: Any) -> list[str]:
    touched = set(module_names(adapters))
    if model is not None:
        owners: dict[int, list[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
        shared = [names for names in owners.values() if len(names) > 1 and touched & set(names)]
        return [_tied_text(" and ".join(names)) for names in shared]
    ends = ("embed_tokens", "wte", "word_embeddings", "lm_head", "embed_out", "shared")
    found = sorted(n for n in touched if n.rpartition(".")[2] in ends)
    return [_tied_text(", ".join(found), "may share its weight")] if found else []


def _tied_text(names: str, verb: str = "share one weight") -> str:
    return (
        f"{names}: {verb} with another place; as an adapter the merge acts on the adapted place alone, folded into the "
        "weight it would act on both (claim adapter_algebra)"
    )


def _copies(adapters: Sequence[Adapter], model: Any, notes: list[str]) -> dict[str, torch.Tensor]:
    """Weights that peft saved along with adapted embeddings: kept if all parts agree, else compared with the base."""
    keys = list(dict.fromkeys(k for a in adapters for k in a.copies))
    kept = {}
    for key in keys:
        holders = [a for a in adapters if key in a.copies]
        first = holders[0].tensor(key)
        alike = all(torch.equal(first, a.tensor(key)) for a in holders[1:])
        if alike and len(holders) == len(adapters):
            kept[key] = first.clone()
            notes.append(f"{key}: the same in all adapters, copied")
            continue
        require(alike, key, "equal copies of the base's weight", "different ones (an embedding was trained or resized)")
        names = ", ".join(a.name for a in holders)
        require(model is not None, key, "the base to compare it with (--base)", f"a weight saved in {names} only")
        parameter = model.state_dict().get(key.removeprefix("base_model.model.").replace(".base_layer.", "."))
        same = (
            parameter is not None and parameter.shape == first.shape and torch.equal(parameter.to(first.dtype), first)
        )
        require(same, f"{names}: {key}", "the base's own weight", "another (the embedding was trained or resized)")
        notes.append(f"{key}: the base's own weight, left out")
    return kept
