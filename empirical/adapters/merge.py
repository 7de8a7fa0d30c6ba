"""The exact merge of adapters on disk: one standard peft adapter whose update is the weighted sum, module by module.

The factors of the parts are stacked (rank = sum of the ranks), or the sum is factored anew where it has a smaller rank.
What is lost is the rounding of the stored factors, which is measured and bounded; with a base at hand the logits of the
merged adapter are compared with those of the parts, active together, before anything is published.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from empirical.adapters.base import load_model, owns
from empirical.adapters.files import (
    Adapter,
    Draft,
    Layout,
    Module,
    check_output,
    check_weights,
    lora_config,
    module_names,
    pattern,
    read_all,
    stream_adapter,
)
from empirical.adapters.identity import IdentityReport, Intended, identity_test
from empirical.adapters.joint import blocks, compressed, gram, workers
from empirical.adapters.names import factor_key
from theory.adapters import adapter_scale
from theory.lowrank import LowRank, column_norms
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
        rounding: measured Frobenius norm of what storing in the output format changed; `bound`: what it can be, 0 where
            every number of the factors fits.
        norm: of the wanted sum; None where nothing was lost, so that nothing is relative to it.
        rank: of what was written, without the padding.
    """

    name: str
    r: int
    ranks: int
    norm: float | None
    truncation: float
    rounding: float
    bound: float
    rank: int


@dataclass
class MergeReport:
    """What :func:`merge` did.

    Errors are relative to the Frobenius norm of the wanted sum over the modules whose norm is known, all that lost
    something among them; None of a sum that is zero.
    """

    output: str
    adapters: list[str]
    weights: list[float]
    method: str
    dtype: str
    modules: list[MergedModule]
    truncation: float | None
    rounding: float | None
    bound: float | None
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


class Exact(NamedTuple):
    """Factors before they were rounded."""

    B: torch.Tensor
    A: torch.Tensor


class Stored(NamedTuple):
    """Factors as they will be written, what they are off by, and `exact`: before they were rounded."""

    A: torch.Tensor
    B: torch.Tensor
    facts: MergedModule
    exact: Exact | None = None

    def padded(self, rank: int) -> Stored:
        """With zeros up to this rank."""
        more = rank - self.facts.r
        if not more:
            return self
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
    seen: Callable[[MergeReport], object] | None = None,
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
        seen: called with the report before anything is published; what it raises stops that.

    Raises:
        ValueError: what cannot be merged, in one line; nothing is written.
        IdentityFailed: it does not compute what its parts do; nothing is published.

    Source: claims merge_rank, eckart_young, adapter_algebra.
    """
    how = how or Written()
    integer(seed, "seed", 0)
    target = Path(output)
    model = None
    if base is not None:
        named = [*paths, base] if isinstance(base, (str, os.PathLike)) else paths
        kept = [Path(p) for p in named if Path(p).is_dir()]
        check_output(target, kept, how.force)
        model = load_model(base)
    adapters = read_all(paths, same_base, model, repair=len(paths) == 1)
    check_output(target, [a.path for a in adapters], how.force)
    work = _Work(adapters, check_weights(weights, len(adapters)), how, _nests(adapters, model))
    notes = [*(n for a in adapters for n in a.notes), *_tied_notes(adapters, model)]
    copies = _copies(adapters, model, notes)
    written: list[MergedModule] = []

    def report() -> MergeReport:
        norms = [m.norm for m in written]
        return MergeReport(
            target.name, [a.name for a in adapters], work.weights, how.method, how.dtype, written,
            _relative([m.truncation for m in written], norms), _relative([m.rounding for m in written], norms),
            _relative([m.bound for m in written], norms), notes,
        )  # fmt: skip

    with workers() as each, Draft(target) as draft:
        ranks = work.ranks(each)
        config = merged_config(adapters, [(m, ranks[m.name]) for m in work.modules], model)
        layout = {**work.layout(ranks), **{key: (t.dtype, tuple(t.shape)) for key, t in copies.items()}}

        def tensors() -> Iterator[tuple[str, torch.Tensor]]:
            for pair, facts in each(lambda place: work.place(place, ranks), list(work.groups)):
                written.extend(facts)
                yield from pair.items()
            yield from copies.items()

        stream_adapter(draft.folder, config, layout, tensors(), lambda: _card(report(), config))
        made = report()
        if model is not None:
            made.identity = identity_test(
                model, adapters, work.weights, draft.folder, lambda place: work.intended(place, ranks), seed
            )
        if seen is not None:
            seen(made)
        if made.identity is not None and made.identity.verdict == "failed":
            raise IdentityFailed(made)
        draft.publish()
    return made


def _relative(parts: Sequence[float], norms: Sequence[float | None]) -> float | None:
    whole = math.hypot(*(n for n in norms if n is not None))
    if not whole:
        return 0.0 if None in norms else None
    return math.hypot(*parts) / whole


def shown(share: float | None, digits: int = 2) -> str:
    """A relative error for people."""
    return "nothing" if share is None else f"{share:.{digits}g}"


class _Work:
    """The modules of a merge by where peft puts them: experts of one parameter share a pair of factors."""

    def __init__(
        self, adapters: Sequence[Adapter], weights: list[float], how: Written, nests: dict[tuple[str, str], int]
    ) -> None:
        self.adapters, self.weights, self.how = adapters, weights, how
        first = {name: m for a in reversed(adapters) for name, m in a.modules.items()}
        self.modules = [first[name] for name in module_names(adapters)]
        self.groups: dict[str, list[Module]] = {}
        for m in self.modules:
            self.groups.setdefault(_place(m, nests), []).append(m)

    def made(self, name: str) -> Stored:
        """The merged factors of one module."""
        return merge_module(self.adapters, self.weights, name, self.how.rank, self.how.dtype)[0]

    def ranks(self, each: Callable[..., Iterator[int]]) -> dict[str, int]:
        """Module -> rank to write: one for all, which is the largest, or with `compact` one per parameter.

        A rank is at most the sum of the parts', and a side of the module; where the smallest module that can reach the
        largest does, that is it.
        """
        live = [a for a, w in zip(self.adapters, self.weights, strict=True) if w]
        sums = {m.name: sum(a.modules[m.name].r for a in live if m.name in a.modules) for m in self.modules}
        most = {m.name: min(sums[m.name], m.out, m.inner) for m in self.modules}
        largest = min(max(most.values()), self.how.rank or math.inf)

        def rank(name: str) -> int:
            return self.made(name).facts.r

        smallest = min((m for m in self.modules if most[m.name] >= largest), key=lambda m: m.out + m.inner)
        if not self.how.compact and rank(smallest.name) == largest:
            return dict.fromkeys(most, int(largest))
        found = dict(zip(most, each(rank, list(most)), strict=True))
        if not self.how.compact:
            return dict.fromkeys(most, max(found.values()))
        return {m.name: max(found[other.name] for other in group) for group in self.groups.values() for m in group}

    def layout(self, ranks: Mapping[str, int]) -> Layout:
        """What will be written."""
        found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
        for place, group in self.groups.items():
            m, rank = group[0], ranks[group[0].name] * len(group)
            for key, shape in zip(_keys(place, m), ((rank, m.inner), (m.out, rank)), strict=True):
                found[key] = (OUTPUT[self.how.dtype], shape)
        return found

    def place(self, place: str, ranks: Mapping[str, int]) -> tuple[dict[str, torch.Tensor], list[MergedModule]]:
        """The factors to write there by key, and what is known of their modules."""
        group = self.groups[place]
        stored = [self.made(m.name)._replace(exact=None).padded(ranks[m.name]) for m in group]
        return dict(zip(_keys(place, group[0]), _joined(stored), strict=True)), [s.facts for s in stored]

    def intended(self, place: str, ranks: Mapping[str, int]) -> Intended:
        """The same before they were rounded."""
        stored = []
        for m in self.groups[place]:
            made = self.made(m.name)
            assert made.exact is not None
            stored.append(Stored(made.exact.A, made.exact.B, made.facts).padded(ranks[m.name]))
        a, b = _joined(stored)
        return Intended(a.double(), b.double(), math.hypot(*(s.facts.truncation for s in stored)))


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
            if weight == 0.0:
                adapter.factors(name)  # no merge of what is not finite, however little it weighs
                continue
            a, b = adapter.stored(name)
            strength = weight * adapter.modules[name].scale
            require(math.isfinite(strength), f"{name}: weights", "a weight times a scale that float64 can hold",
                    f"{weight:g} x {adapter.modules[name].scale:g} (weights nearer to 1)")  # fmt: skip
            parts.append((b, a, strength))
    if not parts:
        nothing = _factors(torch.zeros(shape.out, 1), torch.zeros(1, shape.inner))
        return _store(nothing, name, Facts(ranks, 0.0, 0.0, 0), dtype), shape
    sizes = _sizes([b for b, _, _ in parts], 1), _sizes([a for _, a, _ in parts], 0)
    if not np.isfinite(np.hstack(sizes)).all():
        for adapter in owners:
            adapter.factors(name)  # says which number it is, if it is one of the file's
    stack = _stacked(parts, sizes, dtype)
    if rank is None and stack is not None and _independent(stack):
        most = float(stack.sizes[0] @ stack.sizes[1])
        require(
            0.0 < most * most < math.inf,
            f"{name}: weights",
            "a sum whose square float64 can hold",
            f"one of size {most:g} (weights nearer to 1)",
        )
        return _store(stack, name, Facts(ranks, None, 0.0, stack.rank), dtype), shape
    small = compressed([(a, b) for b, a, _ in parts], [scale for _, _, scale in parts])
    total = LowRank.combine(small, [1.0] * len(small))
    values = np.linalg.svd(total.dense(), compute_uv=False)
    # the numbers are those of the large factors, so their rounding is too
    least = int(np.count_nonzero(values > total.tolerance((shape.out, shape.inner))))
    norm = float(np.linalg.norm(values))
    keep = least if rank is None else min(rank, least)
    lost = float(np.linalg.norm(values[keep:])) if keep < least else 0.0
    if stack is None or keep != stack.rank:
        updates = [LowRank(b.double().numpy(), a.double().numpy(), scale) for b, a, scale in parts]
        cut = LowRank.combine(updates, [1.0] * len(updates)).truncate(max(keep, 1))  # peft knows no rank 0
        stack = _factors(*(torch.from_numpy(np.array(x) if keep else np.zeros_like(x)) for x in (cut.B, cut.A)))
    return _store(stack, name, Facts(ranks, norm, lost, keep), dtype), shape


class Facts(NamedTuple):
    """What is known of a module's sum: ranks of the parts, norm if computed, what was cut off, rank of the rest."""

    ranks: int
    norm: float | None
    lost: float
    rank: int


class Stack(NamedTuple):
    """A sum as one product of balanced factors, not formed yet.

    Attributes:
        B, A: what lies side by side in the two factors, as stored.
        on_b, on_a: numbers that multiply the columns of B and the rows of A: powers of two on B.
        formats: in which the two products are exact, but for weights that are no power of two.
        sizes: norms of the columns of B and the rows of A that result, to two digits.
    """

    B: Sequence[torch.Tensor]
    A: Sequence[torch.Tensor]
    on_b: Array
    on_a: Array
    formats: tuple[torch.dtype, torch.dtype]
    sizes: tuple[Array, Array]

    @property
    def rank(self) -> int:
        """Columns of B."""
        return len(self.on_b)

    def grams(self) -> tuple[Array, Array]:
        """Inner products of the columns of B and of the rows of A that result: most of the work, where asked for."""
        left, right = _gram(self.B, 1), _gram(self.A, 0)
        return left * np.outer(self.on_b, self.on_b), right * np.outer(self.on_a, self.on_a)


def _factors(b: torch.Tensor, a: torch.Tensor) -> Stack:
    ones = np.ones(b.shape[1])
    return Stack([b], [a], ones, ones, (b.dtype, a.dtype), (_sizes([b], 1), _sizes([a], 0)))


#: sizes whose squares stay in the range of single precision, with room for a sum
_RANGE = (1e-30, 1e30)
#: products of up to this many multiplications are computed in float64
_SMALL = 1 << 24


def _quick(tensors: Sequence[torch.Tensor], dim: int) -> torch.dtype:
    """Format for inner products of which six digits are plenty."""
    width = sum(t.shape[dim] for t in tensors)
    large = width**2 * tensors[0].shape[1 - dim] > _SMALL
    return torch.float32 if large and all(t.dtype != torch.float64 for t in tensors) else torch.float64


def _in_range(squares: Array) -> bool:
    low, high = _RANGE
    return bool(np.all((squares > low) & (squares < high)))


def _gram(tensors: Sequence[torch.Tensor], dim: int) -> Array:
    found = gram(tensors, dim, _quick(tensors, dim))
    return found if _in_range(np.diag(found)) else gram(tensors, dim)


#: entries that are taken at a time where every one is touched more than once: they stay in the cache of a core
BLOCK = 1 << 17


def _pieces(tensor: torch.Tensor) -> list[slice]:
    step = max(1, BLOCK // tensor.shape[1])
    return [slice(start, start + step) for start in range(0, len(tensor), step)]


def _sizes(tensors: Sequence[torch.Tensor], dim: int) -> Array:
    """Norms of all columns (`dim` 1) or rows (`dim` 0), to two digits: squares have the format of the file.

    Not finite where an entry is not.
    """
    if all(t.dtype != torch.float64 for t in tensors):
        formats = [torch.float32 if t.dtype == torch.float16 else t.dtype for t in tensors]  # with room for squares
        sums = [
            [t[rows].to(form).square().sum(1 - dim).double() for rows in _pieces(t)]
            for t, form in zip(tensors, formats, strict=True)
        ]
        squares = torch.cat([sum(x, torch.zeros(())) if dim else torch.cat(x) for x in sums]).numpy()
        if _in_range(squares):
            return np.asarray(np.sqrt(squares))
    doubles = [t.double().numpy() for t in tensors]
    with np.errstate(invalid="ignore"):
        return np.concatenate([column_norms(x if dim else x.T) for x in doubles])


def _stacked(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor, float]], sizes: tuple[Array, Array], dtype: str
) -> Stack | None:
    """``sum c B A`` as one product of balanced factors; None where nothing is left of it. `sizes`: of all B and all A.

    Balanced by powers of two, and c goes into them but for its fraction, which A takes (in float64 unless it is 1/2).
    """
    b, a = [p[0] for p in parts], [p[1] for p in parts]
    wide = dtype == "float64" or any(x.dtype == torch.float64 for x in (*b, *a))
    counts = [x.shape[1] for x in b]
    fractions, powers = (np.repeat(x, counts) for x in np.frexp([strength for _, _, strength in parts]))
    used = (sizes[0] > 0) & (sizes[1] > 0) & (fractions != 0)
    if not used.any():
        return None
    if not used.all():
        kept = torch.from_numpy(used)
        b, a = [torch.cat(b, 1)[:, kept]], [torch.cat(a)[kept]]
        fractions, powers, sizes = fractions[used], powers[used], (sizes[0][used], sizes[1][used])
    shift = np.round((np.log2(sizes[1] / sizes[0]) + np.log2(np.abs(fractions)) + powers) / 2)
    on_b, on_a = np.exp2(shift), fractions * np.exp2(powers - shift)
    form = torch.float64 if wide else torch.float32
    formats = (form, form if np.all(np.abs(fractions) == 0.5) else torch.float64)
    return Stack(b, a, on_b, on_a, formats, (sizes[0] * on_b, sizes[1] * np.abs(on_a)))


#: least eigenvalue of a matrix of cosines above which columns are independent beyond doubt: what rounding does to it
#: stays below, r sqrt(n) u in float32 and, where all errors conspire, r n u in float64 (r <= 2^9, n <= 2^18 entries)
_INDEPENDENT = {torch.float32: 2e-2, torch.float64: 1e-6}
#: share of every column's square that some of the rows must hold to speak for all: what they say is not rounding
_SPEAK = 1e-4


def _independent(stack: Stack) -> bool:
    """Whether both factors have full rank for certain; False also where that takes a closer look."""
    on_b, on_a = stack.sizes[0] / stack.on_b, stack.sizes[1] / np.abs(stack.on_a)
    return _full_rank(stack.B, 1, on_b) and _full_rank(stack.A, 0, on_a)


def _full_rank(tensors: Sequence[torch.Tensor], dim: int, sizes: Array) -> bool:
    """Columns (`dim` 1) or rows (`dim` 0) of these norms are independent already if a part of their entries is."""
    if len(sizes) > tensors[0].shape[1 - dim]:
        return False
    for dtype in dict.fromkeys((_quick(tensors, dim), torch.float64)):
        found = torch.zeros(len(sizes), len(sizes), dtype=torch.float64)
        for block in blocks(tensors, dim, max(2 * len(sizes), 256)):
            x = block.to(dtype)
            found += x.T @ x if dim else x @ x.T
            if np.all(found.diagonal().numpy() > _SPEAK * sizes**2) and _apart(found, dtype):
                return True
    return False


def _apart(found: torch.Tensor, dtype: torch.dtype) -> bool:
    size = found.diagonal().rsqrt()
    cosines = (found * size * size[:, None]).to(dtype)
    cosines.diagonal().sub_(_INDEPENDENT[dtype])
    triangle, failed = torch.linalg.cholesky_ex(cosines)
    return not failed and bool((triangle.diagonal() > 0).all())  # nan is not


def _product_norm(left: Array, right: Array) -> float:
    """``||B A||_F`` from the Gram matrices of the columns of B and of the rows of A."""
    return math.sqrt(max(float((left * right).sum()), 0.0))


def _rounded(
    tensors: Sequence[torch.Tensor], dim: int, numbers: Array, form: torch.dtype, output: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Tensors side by side times `numbers`, in the format of the output; and before that, if it changed anything."""
    limits, size = torch.finfo(output), np.abs(numbers)
    # a power of two moves the exponent and nothing else, unless what results is too small for that
    moved = bool(np.all((np.frexp(size)[0] == 0.5) & (size >= limits.smallest_normal) & (size <= limits.max)))
    moved = moved and all(torch.promote_types(t.dtype, output) == output for t in tensors)
    grows = moved and bool(size.min() >= 1.0)
    factors = torch.from_numpy(numbers).to(form)
    factors = factors if dim else factors[:, None]
    shape = (tensors[0].shape[0], len(numbers)) if dim else (len(numbers), tensors[0].shape[1])
    stored, same = torch.empty(shape, dtype=output), True
    counts = [t.shape[dim] for t in tensors]
    by = factors.to(output if moved else form)
    for tensor, place, numbers_here in zip(tensors, stored.split(counts, dim), by.split(counts), strict=True):
        for rows in _pieces(tensor):
            x, y, f = tensor[rows], place[rows], numbers_here if dim else numbers_here[rows]
            if moved:
                torch.mul(x, f, out=y)
                if grows or y.abs().min() >= limits.smallest_normal:
                    continue
            exact = x * f.to(form)
            y.copy_(exact)
            same = same and np.array_equal(y.to(form).numpy(), exact.numpy())
    return stored, None if same else torch.cat(list(tensors), dim).to(form) * factors


def _store(stack: Stack, name: str, facts: Facts, dtype: str) -> Stored:
    (b_form, a_form), output = stack.formats, OUTPUT[dtype]
    as_b, b = _rounded(stack.B, 1, stack.on_b, b_form, output)
    as_a, a = _rounded(stack.A, 0, stack.on_a, a_form, output)
    largest = torch.finfo(output).max
    finite = all(
        2 * x.max() < largest or bool(torch.isfinite(y).all()) for x, y in zip(stack.sizes, (as_b, as_a), strict=True)
    )
    require(finite, f"{name}: dtype", "a format with room for the factors", f"{dtype}, which overflows")
    made = MergedModule(name, stack.rank, facts.ranks, facts.norm, facts.lost, 0.0, 0.0, facts.rank)
    if b is None and a is None:
        return Stored(as_a, as_b, made, Exact(as_b, as_a))
    left, right = stack.grams()
    # B' A' - B A = (B' - B) A' + B (A' - A), small factors that lose nothing to cancellation
    if b is not None and a is not None:
        off = _gram([as_b.to(b.dtype) - b, b], 1), _gram([as_a.to(a.dtype), as_a.to(a.dtype) - a], 0)
    elif b is not None:
        off = _gram([as_b.to(b.dtype) - b], 1), right
    else:
        assert a is not None
        off = left, _gram([as_a.to(a.dtype) - a], 0)
    norm = _product_norm(left, right) if facts.norm is None else facts.norm
    bound = storage_bound(as_b, as_a, dtype, (np.sqrt(np.diag(left)), np.sqrt(np.diag(right))))
    made = replace(made, norm=norm, rounding=_product_norm(*off), bound=bound)
    return Stored(as_a, as_b, made, Exact(as_b if b is None else b, as_a if a is None else a))


def storage_bound(b: torch.Tensor, a: torch.Tensor, dtype: str, sizes: tuple[Array, Array] | None = None) -> float:
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
        sizes = (column_norms(b.double().numpy()), column_norms(a.double().numpy().T))
    b_size, a_size = sizes
    (rows, r), columns = b.shape, a.shape[1]
    grown = (1.0 + unit + 1e-5) ** 2 / (1 - unit) ** 2
    # the sum of the moduli of n numbers is at most sqrt(n) times their norm
    edges = tiny * math.sqrt(rows * columns) * float(b_size.sum() + a_size.sum()) * grown
    factor = ((2 * unit + unit**2) + 4 * EPS) * grown
    return factor * float((b_size * a_size).sum()) + edges + tiny**2 * r * math.sqrt(rows * columns)


# ---------------------------------------------------------------- the file


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


def _keys(place: str, shape: Module) -> list[str]:
    """Of A and of B, as peft saves them."""
    kinds = ("embedding_A", "embedding_B") if shape.kind == "embedding" else ("A", "B")
    return [factor_key(place, kind) for kind in kinds]


def _joined(stored: Sequence[Stored]) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of one layer; experts are stacked, rows of A by expert and columns of B by rank."""
    if len(stored) == 1:
        return stored[0].A, stored[0].B
    return torch.cat([s.A for s in stored]), torch.stack([s.B for s in stored], -1).flatten(1)


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
        said = [a.config.target_parameters for a in adapters if a.config.target_parameters]
        held = {f"{m.place}.{m.parameter}" for a in adapters for m in a.modules.values() if m.parameter is not None}
        # peft loads adapters side by side only if they name their parameters alike
        alike = held == set(bare) and all(set(s) == set(said[0]) for s in said)
        parameters = said[0] if said and alike else bare or None
        listed = {"target_modules": sorted(plain_names), "target_parameters": parameters}
        config = build(dict.fromkeys(chosen) | listed)
    chosen_all = chooses(config)
    for name, n in ranks.items():  # what peft will make of it
        found = others.get(get_pattern_key(list(others), name), r)
        fits = chosen_all and found == n and adapter_scale(found, n) == 1.0
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
        f"Relative error in Frobenius norm: {shown(report.truncation, 3)} cut off, {shown(report.rounding, 3)} from "
        f"storing in {report.dtype} (bound {shown(report.bound, 3)}).\n"
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
        got = "another (the embedding was trained or the vocabulary resized)"
        require(owns(model, holders[0], key), f"{names}: {key}", "the base's own weight", got)
        notes.append(f"{key}: the base's own weight, left out")
    return kept
