"""What the installed peft's ``add_weighted_adapter`` would make of adapters on disk, module by module.

peft's own code does the work: the check of the arguments, the configuration of the combination, the matching of modules
and the combination of factors are its functions, called on the factors alone. No base model and, but for the dense
``*_svd`` types, no out x in matrix is needed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from empirical.adapters.files import Adapter
from empirical.adapters.joint import ROWS
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import Array, stream

#: on the factors, one after the other
FACTOR_TYPES = ("linear", "ties", "dare_linear", "dare_ties", "magnitude_prune")
#: known in closed form
CLOSED_TYPES = ("cat", "svd")
#: on dense updates
DENSE_TYPES = ("ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd")
TYPES = ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune", *DENSE_TYPES)
RANDOM = ("dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd")
#: factor-wise types that trim every factor by magnitude first
TRIMMED = ("ties", "magnitude_prune")
#: largest out x in for which the dense types are computed unless asked for
DENSE_LIMIT = 1 << 18


#: (A, B) of each part
Factors = Sequence[tuple[torch.Tensor, torch.Tensor]]


def peft_version() -> str:
    """Version of the installed peft."""
    return metadata.version("peft")


@dataclass(frozen=True)
class Plan:
    """How the installed peft would go about one combination type.

    Attributes:
        refused: peft's own words if it refuses or fails before any module, else None.
        rank: of the combined adapter's configuration; `scale`: what it multiplies the combined factors by (not 1 where
            the first adapter is rank-stabilised).
        dropped: modules that an adapter touches and the combination would not, without a word.
    """

    kind: str
    refused: str | None
    rank: int = 0
    scale: float = 1.0
    dropped: tuple[str, ...] = ()


def plan(adapters: Sequence[Adapter], kind: str, modules: Iterable[str], base_modules: Iterable[str] = ()) -> Plan:
    """Run peft's checks and match its configuration of the combination with `modules`.

    Args:
        adapters: in the order given to peft; the first one's configuration is the model of the combination's.
        kind: combination type.
        modules: all that some adapter touches.
        base_modules: names of all modules of the base, if known: one that the combination targets and no adapter has
            makes peft fail. Without them, the modules of one layer are taken to exist in the other layers.
    """
    from peft.tuners.lora import LoraModel
    from peft.tuners.tuners_utils import check_target_module_exists

    names = _names(adapters)
    configs = {n: a.config for n, a in zip(names, adapters, strict=True)}
    shim: Any = SimpleNamespace(peft_config=configs, modules=lambda: [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, rank, targets = LoraModel._check_add_weighted_adapter(shim, names, kind, None)
            combined = dataclasses.replace(
                configs[names[0]], r=rank, lora_alpha=rank, target_modules=targets, alpha_pattern={}, rank_pattern={}
            )
        touched = list(modules)
        dropped = tuple(m for m in touched if not check_target_module_exists(combined, m))
        known, named = set(touched), list(base_modules)
        for module in named or _siblings(touched):
            if module not in known and check_target_module_exists(combined, module):
                words = f"fails: the combination would also target {module}, which no adapter has"
                return Plan(kind, words if named else words + " (unless the base has no such module: --base)", rank)
    except (ValueError, TypeError, AttributeError) as error:
        return Plan(kind, _words(error))
    return Plan(kind, None, rank, adapter_scale(rank, rank, bool(combined.use_rslora)), dropped)


def _siblings(modules: Sequence[str]) -> list[str]:
    """The same modules in the other layers that occur: what a base of equal layers has."""
    split = [re.split(r"(?<=\.)(\d+)(?=\.)", m, maxsplit=1) for m in modules]
    layers = dict.fromkeys(parts[1] for parts in split if len(parts) == 3)
    return [parts[0] + layer + parts[2] for parts in split if len(parts) == 3 for layer in layers]


def _names(adapters: Sequence[Adapter]) -> list[str]:
    return [f"adapter_{i}" for i in range(len(adapters))]


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"refuses: {lines[0][:160]}"


class Wanted(NamedTuple):
    """The parts of a wanted sum in one module.

    Attributes:
        factors: (A, B) of each as stored, r x in and out x r.
        scales, weights: one per part.
    """

    factors: Factors
    scales: Sequence[float]
    weights: Sequence[float]

    def updates(self) -> list[LowRank]:
        """As large as they are, in float64."""
        pairs = zip(self.factors, self.scales, strict=True)
        return [LowRank(b.double().numpy(), a.double().numpy(), s) for (a, b), s in pairs]


class Draw(NamedTuple):
    """What peft prunes and draws in one module.

    Attributes:
        module, seed: name the draw, which all types in :data:`RANDOM` share.
        density: of the pruning types.
    """

    module: str
    seed: int
    density: float

    def stream(self) -> np.random.Generator:
        """From its start."""
        return stream(self.seed, "combination", self.module)


def combined_factors(how: Plan, parts: Wanted) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of one of peft's factor-wise combinations (:data:`FACTOR_TYPES`) of factors that are pruned already.

    Raises:
        ValueError: peft fails, in its words.
    """
    from peft.tuners.lora import LoraModel

    names = [f"adapter_{i}" for i in range(len(parts.factors))]
    target: Any = SimpleNamespace(
        lora_A={n: SimpleNamespace(weight=a) for n, (a, _) in zip(names, parts.factors, strict=True)},
        lora_B={n: SimpleNamespace(weight=b) for n, (_, b) in zip(names, parts.factors, strict=True)},
        lora_embedding_A={},
        lora_embedding_B={},
        scaling=dict(zip(names, parts.scales, strict=True)),
    )
    try:
        shim: Any = None
        a, b = LoraModel._generalized_task_arithmetic_weighted_adapter(
            shim, how.kind, names, list(parts.weights), target, 1.0, "total"
        )
    except (RuntimeError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(_words(error).replace("refuses", "fails")) from error
    return a, b


def combined_dense(how: Plan, parts: Wanted, draw: Draw) -> LowRank:
    """The update that one of peft's dense combination types (:data:`DENSE_TYPES`) gives in one module."""
    from peft.tuners.lora import LoraModel

    names = [f"adapter_{i}" for i in range(len(parts.factors))]
    table = {n: torch.from_numpy(u.dense()).float() for n, u in zip(names, parts.updates(), strict=True)}
    target: Any = SimpleNamespace(
        lora_A=dict.fromkeys(names), lora_embedding_A={}, get_delta_weight=table.__getitem__, fan_in_fan_out=False
    )
    with _Faster(draw):
        shim: Any = None
        a, b = LoraModel._svd_generalized_task_arithmetic_weighted_adapter(
            shim, how.kind, names, list(parts.weights), how.rank, target, None, None, draw.density, "total",
            full_matrices=False,
        )  # fmt: skip
    return LowRank(b.double().numpy(), a.double().numpy(), how.scale)


def widened(factors: Factors) -> Factors:
    """Half precision as float32, as peft loads it."""
    half = (torch.float16, torch.bfloat16)
    return [(a.float() if a.dtype in half else a, b.float() if b.dtype in half else b) for a, b in factors]


class _Faster(TorchFunctionMode):
    """What peft asks of torch while it prunes, for less.

    It needs no more than a mask of the largest entries, so they are not sorted, and in large factors found by a
    partition: among equal entries the first are kept then, where torch keeps some (factors of 16 bits have many).
    Random masks are a named draw of NumPy, which is faster and touches no global state.
    """

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.random = draw.stream()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        kwargs = kwargs or {}
        if func is torch.topk:
            if args[0].numel() > _SURE:
                return None, _largest(args[0].detach().numpy(), kwargs["k"])
            kwargs = kwargs | {"sorted": False}
        if func is torch.bernoulli:
            drawn = self.random.random(tuple(args[0].shape), dtype=np.float32)
            return (torch.from_numpy(drawn) < args[0]).to(args[0].dtype)
        return func(*args, **kwargs)


#: entries of a factor above which equal ones are not kept as torch would: errors move by less than 1e-4
_SURE = 1 << 16


def _largest(values: np.ndarray[Any, Any], count: int) -> torch.Tensor:
    """Mask of the `count` largest of a vector."""
    if count == 0:
        return torch.zeros(values.size, dtype=torch.bool)
    least = np.partition(values, values.size - count)[values.size - count]
    mask = values > least
    mask[np.flatnonzero(values == least)[: count - int(np.count_nonzero(mask))]] = True
    return torch.from_numpy(mask)


def _made(plans: Sequence[Plan], parts: Wanted, draw: Draw) -> Iterator[tuple[Factors, dict[str, Any]]]:
    """Block by block: the factors (columns of A and rows of B), and what each type makes of them, (A, B) or a reason.

    All that peft does to the factors it does entry by entry, but for trimming them to their largest entries, which
    comes first.
    """
    from peft.utils.merge_utils import prune

    def cut(factors: Factors) -> Iterator[Factors]:
        pieces = [zip(a.tensor_split(count, 1), b.tensor_split(count), strict=True) for a, b in factors]
        return zip(*pieces, strict=True)

    def thinned(factors: Factors, method: Literal["magnitude", "random"]) -> Factors:
        with faster:
            return [(one(a, method), one(b, method)) for a, b in factors]

    def one(factor: torch.Tensor, method: Literal["magnitude", "random"]) -> torch.Tensor:
        return prune(factor, draw.density, method, rescale=method == "random")

    plain = widened(parts.factors)
    kinds = {p.kind for p in plans}
    inner, out = plain[0][0].shape[1], plain[0][1].shape[0]
    alike = len({a.shape[0] for a, _ in plain}) == 1  # where peft fails it names the shapes
    count = max(1, min(-(-max(inner, out) // ROWS), inner, out)) if alike else 1
    faster = _Faster(draw)
    trimmed = thinned(plain, "magnitude") if kinds & set(TRIMMED) else plain
    for block, largest in zip(cut(plain), cut(trimmed), strict=True):
        random = thinned(block, "random") if kinds & set(RANDOM) else block
        made: dict[str, Any] = {}
        for how in plans:
            source = largest if how.kind in TRIMMED else random
            try:
                made[how.kind] = combined_factors(how, parts._replace(factors=source))
            except ValueError as reason:
                made[how.kind] = reason
        yield block, made


def closed_error(how: Plan, values: np.ndarray[Any, Any]) -> float:
    """Frobenius norm of what ``cat`` or ``svd`` is off by, given the singular values of the wanted sum.

    ``cat`` is exact up to the combined adapter's scale; ``svd`` keeps the ``how.rank`` largest singular values.
    """
    kept = values if how.kind == "cat" else values[: how.rank]
    tail = values[len(kept) :]
    return math.hypot((how.scale - 1.0) * float(np.linalg.norm(kept)), float(np.linalg.norm(tail)))


def factor_errors(plans: Sequence[Plan], parts: Wanted, size: float, draw: Draw) -> dict[str, float | str]:
    """Frobenius norms of what factor-wise types that prune are off by, or peft's words where it fails.

    From inner products, summed block by block, where these are accurate, from the joint factors where not.

    Args:
        plans: of types that prune, by magnitude (:data:`TRIMMED`) or at random (:data:`RANDOM`).
        parts: of the wanted sum.
        size: its Frobenius norm.
        draw: density and seed.
    """
    small = sum(a.numel() + b.numel() for a, b in parts.factors) <= _LARGE
    dtype, floor = (np.float64, 1e-6) if small else (np.float32, 0.1)  # of 15 or 6 digits that leaves 9 or 5
    strengths = np.repeat([w * s for w, s in zip(parts.weights, parts.scales, strict=True)],
                          [a.shape[0] for a, _ in parts.factors])  # fmt: skip
    found: dict[str, float | str] = {}
    grams: dict[str, list[Array]] = {}
    for block, made in _made(plans, parts, draw):
        whole = [torch.cat([a for a, _ in block]), torch.cat([b for _, b in block], 1).T]
        for kind, pair in made.items():
            if isinstance(pair, ValueError):
                found[kind] = str(pair)
                continue
            for i, (x, y) in enumerate(zip((pair[0], pair[1].T), whole, strict=True)):
                rows, others = x.numpy().astype(dtype, copy=False), y.numpy().astype(dtype, copy=False)
                products = [rows @ rows.T, rows @ others.T]
                table = grams.setdefault(kind, [0.0, 0.0, 0.0, 0.0])  # type: ignore[list-item]
                table[2 * i] = table[2 * i] + products[0].astype(np.float64)
                table[2 * i + 1] = table[2 * i + 1] + products[1].astype(np.float64)
    close = []
    for how in plans:
        if how.kind in found:
            continue
        own_a, common_a, own_b, common_b = grams[how.kind]
        own = how.scale**2 * float(np.sum(own_a * own_b))
        square = own - 2.0 * how.scale * float(np.sum(common_a * common_b * strengths)) + size**2
        if square > floor * max(size**2, own):
            found[how.kind] = math.sqrt(square)
        else:
            close.append(how)
    if close:
        pairs = [made for _, made in _made(close, parts, draw)]
        for how in close:
            a, b = torch.cat([p[how.kind][0] for p in pairs], 1), torch.cat([p[how.kind][1] for p in pairs])
            found[how.kind] = distance(LowRank(b.double().numpy(), a.double().numpy(), how.scale), parts)
    return found


def distance(made: LowRank, parts: Wanted) -> float:
    """``||made - wanted||_F`` from their joint factors."""
    updates = [made, *parts.updates()]
    small = LowRank.compress(updates)
    return LowRank.combine(small, [1.0, *(-w for w in parts.weights)]).norm()


#: entries of the factors from which products are summed in single precision
_LARGE = 1 << 19
