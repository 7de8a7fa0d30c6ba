"""What the installed peft's ``add_weighted_adapter`` would make of adapters on disk, module by module.

peft's own code does the work: the check of the arguments, the configuration of the combination, the matching of modules
and the combination of factors are its functions, called on the factors alone. No base model and, but for the dense
``*_svd`` types, no out x in matrix is needed.
"""

from __future__ import annotations

import dataclasses
import math
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from empirical.adapters.files import Adapter
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import stream

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


class Draw(NamedTuple):
    """What peft prunes and draws in one module.

    Attributes:
        module, seed: name the random draw of the types in :data:`RANDOM`.
        density: of the pruning types; 1 where the factors are pruned already.
    """

    module: str
    seed: int
    density: float = 1.0


def combined_factors(
    how: Plan, updates: Sequence[LowRank], factors: Factors, weights: Sequence[float], draw: Draw
) -> LowRank:
    """The update that one of peft's factor-wise combination types (:data:`FACTOR_TYPES`) gives in one module.

    Args:
        how: kind and scale of the combined adapter.
        updates: scales of the parts; `factors`: their (A, B) as :func:`widened` gives them, or for the types that prune
            by magnitude as :func:`pruned` does, with a density of 1.
        weights: one per part.
        draw: density and seed.

    Raises:
        ValueError: peft fails, in its words.
    """
    from peft.tuners.lora import LoraModel

    names = [f"adapter_{i}" for i in range(len(updates))]
    target: Any = SimpleNamespace(
        lora_A={n: SimpleNamespace(weight=a) for n, (a, _) in zip(names, factors, strict=True)},
        lora_B={n: SimpleNamespace(weight=b) for n, (_, b) in zip(names, factors, strict=True)},
        lora_embedding_A={},
        lora_embedding_B={},
        scaling={n: u.scale for n, u in zip(names, updates, strict=True)},
    )
    with _drawing(how.kind, draw):
        try:
            shim: Any = None
            a, b = LoraModel._generalized_task_arithmetic_weighted_adapter(
                shim, how.kind, names, list(weights), target, draw.density, "total"
            )
        except (RuntimeError, IndexError, AttributeError, TypeError) as error:
            raise ValueError(_words(error).replace("refuses", "fails")) from error
    return LowRank(b.double().numpy(), a.double().numpy(), how.scale)


def combined_dense(how: Plan, updates: Sequence[LowRank], weights: Sequence[float], draw: Draw) -> LowRank:
    """The update that one of peft's dense combination types (:data:`DENSE_TYPES`) gives in one module."""
    from peft.tuners.lora import LoraModel

    names = [f"adapter_{i}" for i in range(len(updates))]
    table = {n: torch.from_numpy(u.dense()).float() for n, u in zip(names, updates, strict=True)}
    target: Any = SimpleNamespace(
        lora_A=dict.fromkeys(names), lora_embedding_A={}, get_delta_weight=table.__getitem__, fan_in_fan_out=False
    )
    with _drawing(how.kind, draw):
        shim: Any = None
        a, b = LoraModel._svd_generalized_task_arithmetic_weighted_adapter(
            shim, how.kind, names, list(weights), how.rank, target, None, None, draw.density, "total",
            full_matrices=False,
        )  # fmt: skip
    return LowRank(b.double().numpy(), a.double().numpy(), how.scale)


#: torch's global generator is one per process
_LOCK = threading.Lock()


@contextmanager
def _drawing(kind: str, draw: Draw) -> Iterator[None]:
    """A named random draw for peft, which uses the global generator; its state is put back."""
    if kind not in RANDOM:
        yield
        return
    with _LOCK, torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(draw.seed, "combination", kind, draw.module).integers(2**63 - 1)))
        yield


def widened(factors: Factors) -> Factors:
    """Half precision as float32, as peft loads it."""
    half = (torch.float16, torch.bfloat16)
    return [(a.float() if a.dtype in half else a, b.float() if b.dtype in half else b) for a, b in factors]


def pruned(factors: Factors, density: float) -> Factors:
    """Every factor trimmed by peft's own magnitude pruning, which ``ties`` and ``magnitude_prune`` start with."""
    from peft.utils.merge_utils import prune

    with _Unsorted():
        return [(prune(a, density, "magnitude"), prune(b, density, "magnitude")) for a, b in factors]


class _Unsorted(TorchFunctionMode):
    """The largest entries, in no order: peft makes a mask of them and needs none, and sorting is most of the work."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation."""
        kwargs = kwargs or {}
        return func(*args, **(kwargs | {"sorted": False} if func is torch.topk else kwargs))


def closed_error(how: Plan, values: np.ndarray[Any, Any]) -> float:
    """Frobenius norm of what ``cat`` or ``svd`` is off by, given the singular values of the wanted sum.

    ``cat`` is exact up to the combined adapter's scale; ``svd`` keeps the ``how.rank`` largest singular values.
    """
    kept = values if how.kind == "cat" else values[: how.rank]
    tail = values[len(kept) :]
    return math.hypot((how.scale - 1.0) * float(np.linalg.norm(kept)), float(np.linalg.norm(tail)))


def distance(made: LowRank, wanted: LowRank, size: float) -> float:
    """``||made - wanted||_F``, from inner products where that is accurate, from the joint factors where not.

    `size` is ``||wanted||_F^2``.
    """
    if made.columns * sum(made.shape) > _LARGE:
        own, common = (_quick_inner(made, other) for other in (made, wanted))
        square = own - 2.0 * common + size
        if square > 0.1 * max(size, own):  # six digits of each leave five
            return math.sqrt(square)
    own = made.inner(made)
    square = own - 2.0 * made.inner(wanted) + size
    if square > 1e-6 * max(size, own):
        return math.sqrt(square)
    return LowRank.combine([made, wanted], [1.0, -1.0]).norm()


#: entries of the factors from which single precision is tried first
_LARGE = 1 << 19


def _quick_inner(one: LowRank, two: LowRank) -> float:
    """Inner product, summed in float32."""
    b1, a1, b2, a2 = (x.astype(np.float32) for x in (one.B, one.A, two.B, two.A))
    return float(one.scale * two.scale * np.sum((b1.T @ b2).astype(np.float64) * (a1 @ a2.T)))
