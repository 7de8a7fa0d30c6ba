"""The identity test: does the merged adapter compute what its parts compute together? Three questions, each sharp.

* *Storage.* Every number in the file is the exact factor's, rounded once to the format of the file: within half a unit
  in the last place, entry by entry. The exact factors are computed anew, in float64.
* *Products.* With exact factors, what the merged adapter adds to a module's output is what the weighted parts add
  there, through peft's own forward pass of that module in float64, on activations of the base; random ones where no
  input reaches the module. The bound is that of float64 sums, far below what the adapters do.
* *Logits.* The whole model gives the same logits with exact factors as with the parts, each within a bound of its own,
  estimated by Monte Carlo arithmetic (:class:`Noise`).

What 16 bits cost is thereby measured apart and cannot hide a fault. The answer is "passed" only if every comparison
would have noticed a change of the adapters by one per cent; "failed" if one does not hold; else "undecided".
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from empirical.adapters.base import quiet
from empirical.adapters.checkpoint import brief
from empirical.adapters.files import Adapter, read_adapter
from empirical.adapters.inputs import candidates, outputs, spelled_out, towers
from empirical.adapters.names import factor_key
from empirical.adapters.rounding import EXACT, LIKELY, UNIT
from empirical.training.bases import factors, generator, holds, lora_layers
from theory.numerics import require

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

#: largest base that is run in float64, parameters; above it float32
DOUBLE_LIMIT = 1_000_000_000
#: rows of activations that are kept per module
ROWS = 32
#: a bound is decisive below this share of the adapters' own effect: half of a change by one per cent
DECISIVE = 0.005
#: runs with noise, and how much larger than rounding it is, so that it stands out from the rounding of these runs
RUNS, LOUDER = 3, 16.0
#: operations that sum products; the number of terms is the last size of their first operand
_SUMS = {
    "linear", "matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "addmm", "baddbmm", "einsum", "conv1d", "conv2d",
    "conv3d", "scaled_dot_product_attention", "layer_norm", "group_norm", "mean", "sum", "cumsum",
}  # fmt: skip

Verdict = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Product:
    """What the merged adapter and the weighted parts add to the output of one module, in Frobenius norm.

    Of a bare parameter, which acts inside of a larger module, it is the update itself that is compared.

    Attributes:
        gap: of the difference, with exact factors; `bound`: what float64 sums allow.
        effect: of the strongest part alone.
        cut: the norm of what method svd left out there; the bound allows for it.
        seeded: on random activations, because no input reached the module.
    """

    module: str
    gap: float
    bound: float
    effect: float
    cut: float
    seeded: bool


@dataclass(frozen=True)
class Logits:
    """The outputs of the model, merged against parts.

    Attributes:
        count: outputs compared. `gap`, `bound`: at the one that comes closest to its bound, or oversteps it most.
        moved: how far the adapters move the outputs from the base, at most.
        stored: how far storing the factors in the format of the file moves them, at most.
        dtype: of the runs.
    """

    count: int
    gap: float
    bound: float
    moved: float
    stored: float
    dtype: str


@dataclass(frozen=True)
class IdentityReport:
    """Outcome of the identity test; `reasons` say what failed or could not be decided."""

    verdict: Verdict
    reasons: tuple[str, ...]
    products: tuple[Product, ...]
    logits: Logits | None

    @property
    def text(self) -> str:
        """One sentence with the measured numbers."""
        worst = max(self.products, key=lambda p: p.gap / p.effect if p.effect else 0.0, default=None)
        said = list(self.reasons)
        if worst is not None:
            gap, bound = _share(worst.gap, worst.effect), _share(worst.bound, worst.effect)
            said.append(f"{len(self.products)} modules within {gap} of what the adapters do there (bound {bound})")
        seeded = sum(p.seeded for p in self.products)
        if seeded:
            said.append(f"{seeded} of them on random activations, since no input reached them")
        if self.logits is not None:
            x = self.logits
            said.append(
                f"{x.count} outputs differ by at most {x.gap:.2g}, bound {x.bound:.2g}; the adapters move them by "
                f"{x.moved:.3g}, storing by {x.stored:.2g}"
            )
        return "; ".join(said)


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1e}" if whole else f"{part:.1e} (of nothing)"


# ---------------------------------------------------------------- adapters in peft


def with_adapters(model: Any, folders: Sequence[Path], names: Sequence[str]) -> Any:
    """`model` wrapped by peft with these adapters loaded from disk."""
    from peft import PeftModel

    with quiet():
        wrapped: Any = PeftModel.from_pretrained(model, str(folders[0]), adapter_name=names[0])
        for folder, name in zip(folders[1:], names[1:], strict=True):
            wrapped.load_adapter(str(folder), adapter_name=name)
    return wrapped.eval().requires_grad_(False)


def with_parts(model: Any, parts: Sequence[Adapter], names: Sequence[str]) -> Any:
    """The same of adapters whose names peft does not know, but we do.

    Raises:
        ValueError: what peft does not load.
    """
    try:
        wrapped = with_adapters(model, [p.path for p in parts], names)
    except Exception as error:  # every way in which peft can fail
        raise ValueError(f"peft could not load the parts: {brief(error)}") from error
    for name, part in zip(names, parts, strict=True):
        lost = supply(lora_layers(wrapped), name, part)
        require(not lost, part.name, "modules that peft loads", "".join(lost[:1]))
    return wrapped


def supply(layers: Mapping[str, LoraLayer], name: str, part: Adapter) -> list[str]:
    """Hand peft the factors that it passed over, because the file has another name for them; what has no layer."""
    lost = []
    for module in part.modules.values():
        layer = layers.get(module.name)
        if module.parameter is not None:
            continue  # read by peft under the names of its wrappers, or not at all
        if layer is None or not holds(layer, name):
            lost.append(module.name)
        elif idle(layer, name):
            for mine, stored in zip(factors(layer, name), part.factors(module.name), strict=True):
                mine.data = stored.to(mine.dtype)
    return lost


def idle(layer: Any, name: str) -> bool:
    """Whether an adapter adds nothing there because a factor is zero, as where its file has none for the layer."""
    return not all(bool(f.any()) for f in factors(layer, name))


@contextlib.contextmanager
def active(layers: Sequence[LoraLayer], weights: Mapping[str, float]) -> Iterator[None]:
    """These adapters switched on together, each times its weight on top of peft's own scale; no other."""
    before = [dict(layer.scaling) for layer in layers]
    try:
        for layer in layers:
            chosen = [n for n in weights if holds(layer, n)]
            layer.set_adapter(chosen)
            for name in chosen:
                layer.scaling[name] *= weights[name]
        yield
    finally:
        for layer, scaling in zip(layers, before, strict=True):
            layer.scaling.update(scaling)


# ---------------------------------------------------------------- storage


def misstored(stored: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether an entry of `stored` is not `exact` (float64) rounded to its format, by more than half a last place."""
    if stored.shape != exact.shape:
        return True
    unit, tiny = UNIT[stored.dtype], torch.finfo(stored.dtype).smallest_normal  # below it, steps have one size
    return not bool(((stored.double() - exact).abs() <= unit * exact.abs().clamp_min(tiny)).all())


# ---------------------------------------------------------------- products


def _size(x: torch.Tensor) -> float:
    """Frobenius norm of rows of activations; those of an embedding are one-hot."""
    return float(x.norm()) if x.dtype.is_floating_point else math.sqrt(len(x))


class _Silent(nn.Module):
    """In place of a layer's base: adds nothing, and answers for it where peft asks for something else."""

    def __init__(self, base: nn.Module, layer: Any) -> None:
        super().__init__()
        self._base, self._width = (base,), layer.out_features
        if hasattr(layer, "parameter_name"):
            setattr(self, layer.parameter_name, torch.zeros((), dtype=torch.float64))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._base[0], name)

    def forward(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """Zeros of the shape of the base's output."""
        shape = x.shape[:-1] if x.dtype.is_floating_point else x.shape
        return torch.zeros(*shape, self._width, dtype=torch.float64)


def _added(layer: Any, weights: Mapping[str, float], x: torch.Tensor) -> tuple[torch.Tensor, float]:
    """What adapters add to the output of a silent float64 layer, and the norm of what that may be off by.

    The products of a row x err by at most ``(in + r) u s ||B|| ||A|| ||x||``, u the unit roundoff, and factors that a
    decomposition made by a few times ``max(out, in) u`` of the same. An adapter on a bare parameter acts inside of a
    larger module: there it is the update itself that is added.
    """
    bare = hasattr(layer, "parameter_name")
    names = [n for n in weights if holds(layer, n)]
    bound = 0.0
    with active([layer], weights), torch.no_grad():
        if bare:
            added = sum((layer.get_delta_weight(n) for n in names), torch.zeros((), dtype=torch.float64))
        else:
            added = layer(x)
        for name in names:
            a, b = factors(layer, name)
            size = abs(layer.scaling[name]) * float(a.norm() * b.norm()) * (1.0 if bare else _size(x))
            bound += 4 * (a.numel() // len(a) + len(b)) * UNIT[torch.float64] * size
    return added, bound


# ---------------------------------------------------------------- whole runs


class Activations:
    """While open, a run leaves up to :data:`ROWS` rows of input per layer, in float64."""

    def __init__(self, layers: Mapping[str, Any]) -> None:
        self.layers = layers
        self.found: dict[str, torch.Tensor] = {}

    def __enter__(self) -> Activations:
        self._handles = [
            layer.register_forward_pre_hook(self._reader(name), with_kwargs=True)
            for name, layer in self.layers.items()
            if not hasattr(layer, "parameter_name")
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _reader(self, name: str) -> Callable[..., None]:
        def read(module: nn.Module, inputs: tuple[torch.Tensor, ...], named: dict[str, torch.Tensor]) -> None:
            x = (*inputs, *named.values())[0].detach()
            rows = x.double().reshape(-1, x.shape[-1]) if x.dtype.is_floating_point else x.reshape(-1)
            rows = rows[torch.isfinite(rows).reshape(len(rows), -1).all(-1)]
            seen = self.found.get(name, rows[:0])
            self.found[name] = torch.cat([seen, rows[: ROWS - len(seen)]])

        return read


class Noise(TorchFunctionMode):
    """Monte Carlo arithmetic: every operation of a run is off by random errors, larger than rounding by `LOUDER`.

    An entry is off by its unit roundoff, a sum of n products by sqrt(n) units of the size of its row (the errors of
    partial sums, if they are independent); signs are random. How far this moves an output is how far rounding moves it,
    times `LOUDER` (Parker, Monte Carlo Arithmetic, 1997).
    """

    def __init__(self, draw: torch.Generator) -> None:
        super().__init__()
        self.draw = draw

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and disturb its result."""
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        plain = isinstance(out, torch.Tensor) and out.dtype in UNIT and out.dim() > 0
        if not plain or name in EXACT or name == "requires_grad_" or name.startswith("__get"):
            return out
        size = out.abs()
        if name in _SUMS:
            first = next(x for a in args for x in (a if isinstance(a, (tuple, list)) else [a]) if torch.is_tensor(x))
            row = size.square().mean(-1, keepdim=True).sqrt()
            size = torch.maximum(size, row).mul_(math.sqrt(max(first.shape[-1] if first.dim() else 1, 1)))
        size.clamp_(max=torch.finfo(out.dtype).max)  # a mask of -inf stays what it is
        signs = torch.empty_like(out).bernoulli_(0.5, generator=self.draw).mul_(2.0).sub_(1.0)
        return size.mul_(signs).mul_(LOUDER * UNIT[out.dtype]).add_(out)


def rounding(run: Callable[[], torch.Tensor], plain: torch.Tensor, seed: int) -> torch.Tensor:
    """For every output of `run`, how far two runs that only round differently may be apart; `plain` is one of them.

    It is `LIKELY` standard deviations. To an output's own response to noise that of its row is added, since few runs
    may miss one by chance.
    """
    squares = torch.zeros_like(plain)
    for i in range(RUNS):
        with Noise(generator(seed, "noise", i)):
            squares += (run() - plain).square() / RUNS
    return LIKELY * math.sqrt(2.0) / LOUDER * (squares + squares.mean(-1, keepdim=True)).sqrt()


# ---------------------------------------------------------------- the test


class Intended(NamedTuple):
    """Factors of the merged adapter in one layer, float64, before they were rounded; `cut`: the norm left out."""

    A: torch.Tensor
    B: torch.Tensor
    cut: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """The merged adapter, loaded by peft as "merged", beside its parts.

    Attributes:
        model: the base with all of them in it.
        weights: of the parts, by peft's names.
        intended: factors by layer.
        seed: of inputs and noise.
    """

    model: Any
    weights: Mapping[str, float]
    intended: Callable[[str], Intended]
    seed: int

    @cached_property
    def layers(self) -> dict[str, LoraLayer]:
        """Layers of the merged adapter by the names of their modules in the base."""
        return {n: x for n, x in lora_layers(self.model).items() if holds(x, "merged")}

    def missing(self) -> list[str]:
        """Layers that a part changes and the merged adapter does not have."""
        others = {n: x for n, x in lora_layers(self.model).items() if n not in self.layers}
        return [n for n, x in others.items() if any(holds(x, p) and not idle(x, p) for p in self.weights)]

    def product(self, name: str, intended: Intended, x: torch.Tensor | None) -> Product:
        """One module, with the intended factors, on rows of activations `x` (None where no input reached it)."""
        layer = self.layers[name]
        base = layer.get_base_layer()
        alone: Any = copy.deepcopy(layer, {id(base): _Silent(base, layer)})
        alone.double()
        for mine, other in zip(factors(alone, "merged"), intended[:2], strict=True):
            mine.data = other
        draw = generator(self.seed, "identity", name)
        if "merged" in alone.lora_embedding_A:
            random = torch.randint(alone.in_features, (ROWS,), generator=draw)
        else:
            random = torch.randn(ROWS, alone.in_features, generator=draw, dtype=torch.float64)
        for rows in (random,) if x is None else (x, random):
            merged, own_bound = _added(alone, {"merged": 1.0}, rows)
            wanted, bound = _added(alone, self.weights, rows)
            effect = max(float(_added(alone, {n: w}, rows)[0].norm()) for n, w in self.weights.items())
            if effect > 0.0:
                break  # else these activations show nothing: they are zero, or the parts are
        bare = hasattr(layer, "parameter_name")
        bound += own_bound + intended.cut * (1.0 if bare else _size(rows))
        gap = float((merged - wanted).norm())
        seeded = rows is random and not bare and (x is None or effect > 0.0)
        return Product(name, gap, bound, effect, intended.cut, seeded)

    def run(self) -> tuple[dict[str, torch.Tensor], Logits]:
        """Activations of the base by layer, and the outputs of the whole model compared.

        Raises:
            Exception: whatever the model raises on each input that it might take.
        """
        base = self.model.base_model.model
        last: Exception | None = None
        with torch.no_grad(), quiet():
            for given in candidates(base, generator(self.seed, "identity")):
                ready = {k: v.to(base.dtype) if v.dtype.is_floating_point else v for k, v in given.items()}
                try:
                    with Activations(self.layers) as seen:
                        self._outputs(ready, {})
                except Exception as error:  # another input may do
                    last = last or error
                    continue
                return seen.found, self._logits(ready)
        assert last is not None
        raise last

    def _outputs(self, given: dict[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
        # a model that draws (masks, noise) draws the same in every run
        with active(list(lora_layers(self.model).values()), weights), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed % 2**63)  # what torch takes
            return outputs(self.model.base_model.model(**given)).double()

    def _logits(self, given: dict[str, torch.Tensor]) -> Logits:
        plain, wanted, stored = (self._outputs(given, w) for w in ({}, self.weights, {"merged": 1.0}))
        if not bool((torch.isfinite(plain) & torch.isfinite(wanted)).all()):
            raise RuntimeError("its outputs are not finite, with or without the parts")
        kept = {n: [f.data for f in factors(x, "merged")] for n, x in self.layers.items()}
        for name, layer in self.layers.items():
            for mine, other in zip(factors(layer, "merged"), self.intended(name)[:2], strict=True):
                mine.data = other.to(mine.dtype)
        gap = (self._outputs(given, {"merged": 1.0}) - wanted).abs()
        for name, layer in self.layers.items():
            for mine, before in zip(factors(layer, "merged"), kept[name], strict=True):
                mine.data = before
        bound = rounding(lambda: self._outputs(given, self.weights), wanted, self.seed)
        worst = int((gap - bound).argmax())
        again = self._outputs(given, self.weights)
        moved, shift, drift = (float((x - wanted).abs().max()) for x in (plain, stored, again))
        if drift > DECISIVE * moved:  # which would pass for rounding
            raise RuntimeError("its outputs are others in every run")
        dtype = str(self.model.base_model.model.dtype).removeprefix("torch.")
        return Logits(gap.numel(), float(gap.flatten()[worst]), float(bound.flatten()[worst]), moved, shift, dtype)

    def tower_activations(self) -> dict[str, torch.Tensor]:
        """Of parts that take another input than the whole model, run alone where they can be."""
        found: dict[str, torch.Tensor] = {}
        for number, tower in enumerate(towers(self.model.base_model.model)):
            for given in candidates(tower, generator(self.seed, "tower", number)):
                with contextlib.suppress(Exception), torch.no_grad(), quiet(), Activations(self.layers) as seen:
                    with active(list(lora_layers(self.model).values()), {}):
                        tower(**{k: v.to(tower.dtype) if v.dtype.is_floating_point else v for k, v in given.items()})
                    found |= seen.found
                    break
        return found

    def judge(self, folder: Path) -> IdentityReport:
        """The verdict on the adapter in `folder`, from which "merged" was loaded."""
        missing = self.missing()
        if missing:
            return IdentityReport(
                "failed", (f"{missing[0]}: a part changes it, the merged adapter does not",), (), None
            )
        failed, undecided, products = [], [], []
        logits = None
        seen: dict[str, torch.Tensor] = {}
        try:
            seen, logits = self.run()
        except Exception as error:  # every way in which a model can refuse to run
            undecided.append(f"the base could not be run: {brief(error)}")
        if len(seen) < len(self.layers):
            seen = self.tower_activations() | seen
        made = read_adapter(folder)
        for name, layer in self.layers.items():
            intended = self.intended(name)
            keys = (factor_key(name, "embedding_" * ("merged" in layer.lora_embedding_A) + k) for k in "AB")
            if any(misstored(made.tensor(k), x) for k, x in zip(keys, intended[:2], strict=True)):
                failed.append(f"{name}: expected the factors of the sum in the file, rounded once, got others")
            p = self.product(name, intended, seen.get(name))
            products.append(p)
            if not p.gap <= p.bound:
                failed.append(f"{name}: expected the sum of the parts within {p.bound:.2g}, got {p.gap:.2g} off it")
            elif not p.cut and not p.bound <= DECISIVE * p.effect:
                undecided.append(f"{name}: the bound {p.bound:.2g} is not small beside the effect {p.effect:.2g}")
        if logits is not None and not logits.gap <= logits.bound and not any(p.cut for p in products):
            failed.append(f"outputs: expected the parts' within {logits.bound:.2g}, got {logits.gap:.2g} off them")
        elif logits is not None and 0.0 < DECISIVE * logits.moved < logits.bound:  # where none moves, products decide
            undecided.append(f"outputs: the bound {logits.bound:.2g} is not small beside the effect {logits.moved:.2g}")
        verdict: Verdict = "failed" if failed else "undecided" if undecided else "passed"
        return IdentityReport(verdict, tuple(failed or undecided), tuple(products), logits)


def identity_test(
    model: Any,
    parts: Sequence[Adapter],
    weights: Sequence[float],
    folder: Path,
    intended: Callable[[str], Intended],
    seed: int,
) -> IdentityReport:
    """Whether the adapter in `folder` computes the weighted sum of the parts, everything through peft.

    Args:
        model: the base; it is changed to float64 or float32 and wrapped.
        parts: adapters on disk; `weights`: one each.
        folder: the merged adapter.
        intended: its factors by peft's layer. Where something was cut off on purpose, products may differ by as much,
            and outputs are measured, not judged.
        seed: of the inputs.
    """
    names = {f"part{i}": w for i, w in enumerate(weights)}
    double = sum(p.numel() for p in model.parameters()) <= DOUBLE_LIMIT
    try:
        wrapped = with_parts(spelled_out(model), parts, list(names))
    except ValueError as error:
        return IdentityReport("undecided", (str(error),), (), None)
    try:
        with quiet():
            wrapped.load_adapter(str(folder), adapter_name="merged")
    except Exception as error:
        return IdentityReport("failed", (f"peft does not load the merged adapter: {brief(error)}",), (), None)
    wrapped = (wrapped.double() if double else wrapped.float()).eval().requires_grad_(False)
    return Comparison(wrapped, names, intended, seed).judge(folder)
