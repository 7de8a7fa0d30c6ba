"""The exact merge of adapters on disk: one standard peft adapter whose update is the weighted sum, module by module.

The factors of the parts are stacked (rank = sum of the ranks), or the sum is factored anew where it has a smaller rank.
What is lost is the rounding of the stored factors, which is measured and bounded; with a base at hand the logits of the
merged adapter are compared with those of the parts, active together, before anything is published.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.base import load_model
from empirical.adapters.files import (
    Adapter,
    Draft,
    Module,
    check_output,
    check_weights,
    lora_config,
    module_names,
    pattern,
    read_all,
    write_adapter,
)
from empirical.adapters.identity import IdentityReport, Intended, identity_test
from empirical.adapters.names import factor_key
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import EPS, integer, one_of, require

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
        compact: every module keeps the rank that it needs (``rank_pattern`` and ``alpha_pattern`` say which).
        force: overwrite an adapter folder.
    """

    method: str = "exact"
    rank: int | None = None
    dtype: str = "float32"
    compact: bool = False
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


@dataclass(frozen=True)
class MergedModule:
    """One module of a merged adapter.

    Attributes:
        r: rank that was written; `ranks`: sum of the ranks of the parts.
        truncation: Frobenius norm of what was cut off (0 where nothing was).
        rounding: measured Frobenius norm of what storing in the output format changed; `bound`: what it can be.
        norm: of the wanted sum.
        rank: of what was written, without the padding.
    """

    name: str
    r: int
    ranks: int
    norm: float
    truncation: float
    rounding: float
    bound: float
    rank: int


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
    identity: IdentityReport | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


class IdentityFailed(RuntimeError):
    """The merged adapter does not compute what its parts do; nothing was published.

    Attributes:
        report: what was measured.
    """

    def __init__(self, report: MergeReport) -> None:
        self.report = report
        reasons = report.identity.reasons if report.identity else ()
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        super().__init__(f"identity test failed, nothing was written: {''.join(reasons[:1])}{more}")


class Stored(NamedTuple):
    """Factors as they will be written, what they are off by, and `exact`: before they were rounded."""

    A: torch.Tensor
    B: torch.Tensor
    facts: MergedModule
    exact: Stack | None = None

    def padded(self, rank: int) -> Stored:
        """With zeros up to this rank."""
        more = rank - self.facts.r
        pad = torch.nn.functional.pad
        return Stored(pad(self.A, (0, 0, 0, more)), pad(self.B, (0, more)), replace(self.facts, r=rank))


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

    The factors written are balanced (column k of B is of the size of row k of A, to a factor of 2) and, unless
    ``how.compact``, padded with zeros to one rank, so that loaders that know one rank and one alpha compute the same.

    Args:
        paths: adapter folders or hub ids; ranks, scales and modules may differ. A module that an adapter does not
            touch counts as zero there. One alone is written with the names that peft saves today.
        weights: one per adapter, negative allowed; by default 1 each (the plain sum).
        output: folder to write. It appears whole or not at all.
        how: exactly, unless said otherwise, and in float32.
        base: folder or hub id of the base, ``"packaged"``, or a loaded model: what was made is then held against its
            parts (:mod:`empirical.adapters.identity`, on random inputs of `seed`), and published unless that fails.
        same_base: take bases of different names for one and the same.

    Raises:
        ValueError: what cannot be merged, in one line; nothing is written.
        IdentityFailed: it does not compute what its parts do; nothing is published.

    Source: claims merge_rank, eckart_young, adapter_algebra.
    """
    how = how or Written()
    target = Path(output)
    model = None
    if base is not None:
        check_output(target, [Path(p) for p in paths if Path(p).is_dir()], how.force)
        model = load_model(base)
    adapters = read_all(paths, same_base, model, repair=len(paths) == 1)
    check_output(target, [a.path for a in adapters], how.force)
    chosen = check_weights(weights, len(adapters))
    notes = [*(n for a in adapters for n in a.notes), *_tied_notes(adapters, model)]
    made = []
    for name in module_names(adapters):
        stored, shape = merge_module(adapters, chosen, name, how.rank, how.dtype)
        made.append((shape, stored._replace(exact=None)))  # which would double the memory
    padded = _common_rank(made, how.compact)
    written = [stored.facts for _, stored in padded]
    nests = _nests(adapters, model)
    tensors = _tensors(padded, nests) | _copies(adapters, model, notes)
    config = merged_config(adapters, [(shape, stored.facts.r) for shape, stored in padded], model)
    whole = math.hypot(*(m.norm for m in written))
    report = MergeReport(
        target.name, [a.name for a in adapters], chosen, how.method, how.dtype, written,
        _relative([m.truncation for m in written], whole), _relative([m.rounding for m in written], whole),
        _relative([m.bound for m in written], whole), notes,
    )  # fmt: skip
    with Draft(target) as draft:
        write_adapter(draft.folder, config, tensors, _card(report, config))
        if model is not None:

            def exact(place: str) -> Intended:
                group = []
                for shape, kept in groups[place]:
                    made, _ = merge_module(adapters, chosen, shape.name, how.rank, how.dtype)
                    assert made.exact is not None
                    group.append((shape, Stored(made.exact.A, made.exact.B, made.facts).padded(kept.facts.r)))
                a, b = _tensors(group, nests).values()
                return Intended(a.double(), b.double(), math.hypot(*(s.facts.truncation for _, s in group)))

            groups: dict[str, list[tuple[Module, Stored]]] = {}
            for shape, stored in padded:
                groups.setdefault(_place(shape, nests), []).append((shape, stored))
            report.identity = identity_test(model, adapters, chosen, draft.folder, exact, seed)
            if report.identity.verdict == "failed":
                raise IdentityFailed(report)
        draft.publish()
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
    ranks = sum(a.modules[name].r for a in owners)
    parts = []
    for adapter, weight in zip(adapters, weights, strict=True):
        if name in adapter.modules:
            a, b = adapter.factors(name)
            if weight != 0.0:
                parts.append((b, a, weight * adapter.modules[name].scale))
    stack = _stacked(parts, dtype)
    if rank is None and stack is not None and _independent(stack):
        norm = _product_norm(stack.left, stack.right)
        return _store(stack, name, Facts(ranks, norm, 0.0, stack.B.shape[1]), dtype), shape
    if not parts:
        nothing = _factors(torch.zeros(shape.out, 1), torch.zeros(1, shape.inner))
        return _store(nothing, name, Facts(ranks, 0.0, 0.0, 0), dtype), shape
    updates = [LowRank(b.double().numpy(), a.double().numpy(), scale) for b, a, scale in parts]
    ones = [1.0] * len(updates)
    total = LowRank.combine(updates, ones)
    values = LowRank.combine(LowRank.compress(updates), ones).singular_values()
    # the numbers are those of the large factors, so their rounding is too
    least = int(np.count_nonzero(values > total.tolerance()))
    norm = float(np.linalg.norm(values))
    keep = least if rank is None else min(rank, least)
    lost = float(np.linalg.norm(values[keep:])) if keep < least else 0.0
    if stack is None or keep != stack.B.shape[1]:
        cut = total.truncate(max(keep, 1))  # peft knows no rank 0
        stack = _factors(*(torch.from_numpy(np.array(x) if keep else np.zeros_like(x)) for x in (cut.B, cut.A)))
    return _store(stack, name, Facts(ranks, norm, lost, keep), dtype), shape


class Facts(NamedTuple):
    """What is known of a module's sum: ranks of the parts, norm, what was cut off, rank of the rest."""

    ranks: int
    norm: float
    lost: float
    rank: int


class Stack(NamedTuple):
    """Balanced factors of a sum, exact but for weights that are no power of two, and their Gram matrices in float64."""

    B: torch.Tensor
    A: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor


def _factors(b: torch.Tensor, a: torch.Tensor) -> Stack:
    return Stack(b, a, _gram(b), _gram(a.T))


def _stacked(parts: Sequence[tuple[torch.Tensor, torch.Tensor, float]], dtype: str) -> Stack | None:
    """``sum c B A`` as one product of balanced factors; None where nothing is left of it.

    Balanced by powers of two, and c goes into them but for its fraction, which A takes (in float64 unless it is 1/2).
    """
    parts = [p for p in parts if p[2] != 0.0]
    if not parts:
        return None
    wide = dtype == "float64" or any(torch.float64 in (b.dtype, a.dtype) for b, a, _ in parts)
    form = torch.float64 if wide else torch.float32
    b, a = torch.cat([p[0].to(form) for p in parts], 1), torch.cat([p[1].to(form) for p in parts])
    left, right = _gram(b), _gram(a.T)
    split = [math.frexp(strength) for _, _, strength in parts]
    counts = torch.tensor([p[0].shape[1] for p in parts])
    fractions, powers = (
        torch.tensor(x, dtype=torch.float64).repeat_interleave(counts) for x in zip(*split, strict=True)
    )
    b_size, a_size = left.diagonal().sqrt(), right.diagonal().sqrt()
    used = (b_size > 0) & (a_size > 0)
    if not bool(used.any()):
        return None
    if not bool(used.all()):
        b, a, left, right = b[:, used], a[used], left[used][:, used], right[used][:, used]
        fractions, powers, b_size, a_size = (x[used] for x in (fractions, powers, b_size, a_size))
    shift = torch.round((torch.log2(a_size / b_size) + powers) / 2)
    on_b, on_a = torch.exp2(shift), fractions * torch.exp2(powers - shift)
    if bool((fractions.abs() != 0.5).any()):
        a = a.double()
    b, a = b * on_b.to(b.dtype), a * on_a.to(a.dtype)[:, None]
    return Stack(b, a, left * on_b * on_b[:, None], right * on_a * on_a[:, None])


#: products of up to this many multiplications are computed in float64
_SMALL = 1 << 24


def _gram(columns: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Inner products of the columns in float64; large ones are summed in float32, whose six digits are plenty here."""
    if dtype is None:
        small = columns.numel() * columns.shape[1] <= _SMALL
        dtype = torch.float64 if small else torch.float32
    largest = float(columns.abs().max())
    x = columns.to(dtype)
    if largest == 0.0 or 1e-9 < largest < 1e9:  # squares stay in range
        return (x.T @ x).double()
    x = (columns / largest).to(dtype)
    return (x.T @ x).double() * largest**2


#: least eigenvalue of a matrix of cosines above which columns are independent beyond doubt: what rounding does to it
#: stays below, r sqrt(n) u in float32 and, where all errors conspire, r n u in float64 (r <= 2^9, n <= 2^18 entries)
_INDEPENDENT = {torch.float32: 2e-2, torch.float64: 1e-6}


def _independent(stack: Stack) -> bool:
    """Whether both factors have full rank for certain; False also where that takes a closer look."""
    return all(_full_rank(x, gram) for x, gram in ((stack.B, stack.left), (stack.A.T, stack.right)))


def _full_rank(columns: torch.Tensor, gram: torch.Tensor | None = None) -> bool:
    if columns.shape[1] > columns.shape[0]:
        return False
    small = columns.numel() * columns.shape[1] <= _SMALL
    for dtype in (torch.float32, torch.float64):
        if dtype == torch.float32 and (small or gram is None):
            continue
        found = gram if gram is not None and (small or dtype == torch.float32) else _gram(columns, dtype)
        size = found.diagonal().sqrt()
        if not bool(((size > 0) & torch.isfinite(size)).all()):
            continue
        cosines = found / size / size[:, None]
        cosines.diagonal().sub_(_INDEPENDENT[dtype])
        if int(torch.linalg.cholesky_ex(cosines).info) == 0:
            return True
    return False


def _product_norm(left: torch.Tensor, right: torch.Tensor) -> float:
    """``||B A||_F`` from the Gram matrices of the columns of B and of the rows of A."""
    return math.sqrt(max(float((left * right).sum()), 0.0))


def _store(stack: Stack, name: str, facts: Facts, dtype: str) -> Stored:
    b, a = stack.B, stack.A
    as_b, as_a = b.to(OUTPUT[dtype]), a.to(OUTPUT[dtype])
    finite = all(bool(torch.isfinite(x.abs().max())) for x in (as_a, as_b))
    require(finite, f"{name}: dtype", "a format with room for the factors", f"{dtype}, which overflows")
    off_b, off_a = (None if torch.equal(s.to(x.dtype), x) else s.to(x.dtype) - x for s, x in ((as_b, b), (as_a, a)))
    rounding = 0.0
    # B' A' - B A = (B' - B) A' + B (A' - A), small factors that lose nothing to cancellation
    if off_b is not None and off_a is not None:
        left, right = torch.cat([off_b.double(), b.double()], 1), torch.cat([as_a.double(), off_a.double()])
        rounding = _product_norm(_gram(left), _gram(right.T))
    elif off_b is not None:
        rounding = _product_norm(_gram(off_b), stack.right)
    elif off_a is not None:
        rounding = _product_norm(stack.left, _gram(off_a.T))
    sizes = stack.left.diagonal().sqrt(), stack.right.diagonal().sqrt()
    bound = storage_bound(as_b, as_a, dtype, sizes)
    made = MergedModule(name, b.shape[1], facts.ranks, facts.norm, facts.lost, rounding, bound, facts.rank)
    return Stored(as_a, as_b, made, stack)


def storage_bound(
    b: torch.Tensor, a: torch.Tensor, dtype: str, sizes: tuple[torch.Tensor, torch.Tensor] | None = None
) -> float:
    """Most that rounding both factors to `dtype` changed their product by, in Frobenius norm.

    Entry by entry ``|B'A' - BA| <= (2u + u^2) / (1 - u)^2 |B'||A'|`` for results of normal size, and half of the
    smallest positive number for the others; ``|| |B'||A'| ||_F`` is at most the sum over k of the norms of column k
    times row k. The arithmetic before is added, one rounding of float64 or, for a power of two, none.

    Args:
        b: out x r; a: r x in: as stored.
        dtype: their format.
        sizes: norms of the columns of b and the rows of a before they were rounded, if known (to six digits).
    """
    unit, tiny = FORMATS[dtype]
    if sizes is None:
        sizes = tuple(torch.linalg.vector_norm(x.double(), dim=i) for i, x in enumerate((b, a)))
    assert sizes is not None
    b_size, a_size = sizes
    (rows, r), columns = b.shape, a.shape[1]
    grown = (1.0 + unit + 1e-5) ** 2 / (1 - unit) ** 2
    # the sum of the moduli of n numbers is at most sqrt(n) times their norm
    edges = tiny * math.sqrt(rows * columns) * float(b_size.sum() + a_size.sum()) * grown
    factor = ((2 * unit + unit**2) + 4 * EPS) * grown
    return factor * float((b_size * a_size).sum()) + edges + tiny**2 * r * math.sqrt(rows * columns)


# ---------------------------------------------------------------- the file


def _common_rank(made: Sequence[tuple[Module, Stored]], compact: bool) -> list[tuple[Module, Stored]]:
    """Padded with zeros to one rank, or with `compact` to one rank for the experts of one parameter."""
    groups = [(shape.place, shape.parameter) if compact else None for shape, _ in made]
    largest: dict[Any, int] = {}
    for group, (_, stored) in zip(groups, made, strict=True):
        largest[group] = max(largest.get(group, 0), stored.facts.r)
    padded = []
    for group, (shape, stored) in zip(groups, made, strict=True):
        padded.append((shape, stored.padded(largest[group])))
    return padded


def _nests(adapters: Sequence[Adapter], model: Any) -> dict[tuple[str, str], int]:
    """(place, bare parameter) -> how many of peft's wrappers will lie around it: the last of the module is outside."""
    places: dict[str, dict[str, int]] = {}
    for adapter in adapters:
        for m in adapter.modules.values():
            if m.parameter is not None:
                known = places.setdefault(m.place, {})
                known[m.parameter] = max(known.get(m.parameter, 0), m.nest)
    found: dict[tuple[str, str], int] = {}
    for place, parameters in places.items():
        inside_first = sorted(parameters, key=lambda p: (-parameters[p], not p.startswith("gate_up")))
        if model is not None:
            order = [n for n, _ in dict(model.named_modules())[place].named_parameters(recurse=False)]
            inside_first = sorted(parameters, key=order.index)
        found |= {(place, p): len(inside_first) - 1 - i for i, p in enumerate(inside_first)}
    return found


def _wrapped(place: str, nest: int) -> str:
    return place + ".base_layer" * nest


def _place(shape: Module, nests: dict[tuple[str, str], int]) -> str:
    """Where peft puts the layer that holds these factors."""
    if shape.parameter is None or shape.name == shape.place:
        return shape.name
    return _wrapped(shape.place, nests[shape.place, shape.parameter])


def _tensors(made: Sequence[tuple[Module, Stored]], nests: dict[tuple[str, str], int]) -> dict[str, torch.Tensor]:
    """Factors by the keys of peft; experts stacked, rows of A by expert and columns of B by rank."""
    tensors: dict[str, torch.Tensor] = {}
    experts: dict[tuple[str, str], list[Stored]] = {}
    for shape, stored in made:
        if shape.parameter is not None and shape.name != shape.place:
            experts.setdefault((shape.place, shape.parameter), []).append(stored)
            continue
        kinds = ("embedding_A", "embedding_B") if shape.kind == "embedding" else ("A", "B")
        for kind, tensor in zip(kinds, (stored.A, stored.B), strict=True):
            tensors[factor_key(shape.name, kind)] = tensor
    for (place, parameter), stack in experts.items():
        where = _wrapped(place, nests[place, parameter])
        tensors[factor_key(where, "A")] = torch.cat([s.A for s in stack])
        tensors[factor_key(where, "B")] = torch.stack([s.B for s in stack], -1).flatten(1)
    return tensors


# ---------------------------------------------------------------- configuration of the result


def merged_config(
    adapters: Sequence[Adapter], made: Sequence[tuple[Module, int]], model: Any = None
) -> dict[str, object]:
    """A configuration with scale 1 in every module, that targets exactly the modules of `made` (with their ranks).

    Where all parts choose their modules in the same words, these words are kept; otherwise, and where a base is known
    in which they choose more, the modules are listed.
    """
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    ranks = {shape.name if shape.parameter is None else f"{shape.place}.{shape.parameter}": r for shape, r in made}
    plain_names = [shape.name for shape, _ in made if shape.parameter is None]
    bare = sorted({f"{shape.place}.{shape.parameter}" for shape, _ in made if shape.parameter is not None})
    (r, _), *_ = Counter(ranks.values()).most_common(1)
    first = adapters[0]
    chosen = ("target_modules", "layers_to_transform", "layers_pattern", "exclude_modules", "target_parameters")
    words = [tuple(_plain(getattr(a.config, key)) for key in chosen) for a in adapters]
    others = {pattern(name): n for name, n in ranks.items() if n != r}
    dropouts = {float(a.config.lora_dropout) for a in adapters}
    dropout = dropouts.pop() if len(dropouts) == 1 and not bare else 0.0

    def build(selection: Mapping[str, Any]) -> Any:
        return LoraConfig(
            r=r,
            lora_alpha=r,
            rank_pattern=dict(others),
            alpha_pattern=dict(others),
            lora_dropout=dropout,
            fan_in_fan_out=any(a.config.fan_in_fan_out for a in adapters),
            task_type=first.config.task_type,
            base_model_name_or_path=_first_of(adapters, "base_model_name_or_path"),
            revision=_first_of(adapters, "revision"),
            inference_mode=True,
            **selection,
        )

    def chooses(config: Any) -> bool:
        """These modules and no other that is known."""
        said = [f".{t}" for t in config.target_parameters or ()]
        hits = all(check_target_module_exists(config, name) for name in plain_names)
        hits = hits and all(any(f".{b}".endswith(t) for t in said) for b in bare)
        known = set(plain_names) | {b.rpartition(".")[0] for b in bare}
        names = [n for n, _ in model.named_modules()] if model is not None else []
        return hits and not any(n not in known and check_target_module_exists(config, n) for n in names)

    config = build(dict(zip(chosen, words[0], strict=True)))
    if any(w != words[0] for w in words) or not chooses(config):
        listed = {"target_modules": sorted(plain_names), "target_parameters": bare or None}
        config = build(dict.fromkeys(chosen) | listed)
    for name, n in ranks.items():  # what peft will make of it
        found = others.get(get_pattern_key(list(others), name), r)
        fits = chooses(config) and found == n and adapter_scale(found, n) == 1.0
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


def _card(report: MergeReport, config: Mapping[str, object]) -> str:
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
        first = holders[0].tensor(holders[0].copies[key])
        alike = all(torch.equal(first, a.tensor(a.copies[key])) for a in holders[1:])
        if alike and len(holders) == len(adapters):
            kept[key] = first.clone()
            notes.append(f"{key}: the same in all adapters, copied")
            continue
        got = "different ones (an embedding was trained, or the vocabulary resized with new rows of its own in each)"
        require(alike, key, "equal copies of the base's weight", got)
        names = ", ".join(a.name for a in holders)
        require(model is not None, key, "the base to compare it with (--base)", f"a weight saved in {names} only")
        parameter = model.state_dict().get(key.removeprefix("base_model.model.").replace(".base_layer.", "."))
        same = (
            parameter is not None and parameter.shape == first.shape and torch.equal(parameter.to(first.dtype), first)
        )
        require(
            same,
            f"{names}: {key}",
            "the base's own weight",
            "another (the embedding was trained or the vocabulary resized)",
        )
        notes.append(f"{key}: the base's own weight, left out")
    return kept
