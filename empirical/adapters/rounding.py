"""How far rounding alone can move the logits of a model: first-order bounds from one run and its gradients.

Two ways to compute the same function, a side path and a merged weight, differ only by rounding. Every operation
commits local errors of known sizes; to first order each reaches a logit multiplied by the derivative of the logit with
respect to the operation's result. :class:`RoundingTrace` records the results and their local bounds during one run and
sums them up, for both runs, with the bound on the difference between the two ways for the layers that have two:

* *certain*: sum of |derivative| x bound. Holds always, and is large: it lets all errors conspire.
* *likely*: ``LIKELY`` times the root of the sum of (derivative x bound)^2. If rounding errors are independent with mean
  zero (the model of Higham & Mary, SIAM J. Sci. Comput. 41, 2019), Hoeffding's inequality puts the probability of more
  below ``2 exp(-LIKELY^2 / 2)`` per logit. A sum of k products then counts sqrt(k) roundings instead of k.

Left out: terms of second order in the unit roundoff, and underflow. What depends on positions and masks alone (rotary
angles) is computed alike in both runs and counts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

#: unit roundoff: of results, and of the sums inside matrix products
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
#: moves or copies numbers
EXACT = {
    "__getitem__", "cat", "chunk", "clone", "contiguous", "detach", "dropout", "embedding", "expand", "flatten",
    "masked_fill", "neg", "permute", "reshape", "split", "squeeze", "transpose", "unsqueeze", "view", "where",
}  # fmt: skip
#: one rounding
_ONCE = {"add", "sub", "rsub", "mul", "div", "__add__", "__sub__", "__mul__", "__rmul__", "__radd__", "__truediv__"}
#: library functions; the vectorised ones are good to a few units in the last place
_FEW = {"pow", "rsqrt", "sqrt", "silu", "tanh", "gelu", "sigmoid", "exp"}
_FEW_UNITS = 8.0
#: changes of format: exact when widening
_CAST = {"to", "type", "float", "double", "bfloat16", "half", "type_as"}

#: standard deviations in the likely bound: exceeded with probability below 3e-8 per logit
LIKELY = 6.0


class Local(NamedTuple):
    """Bounds on what one operation adds to its result, of the result's shape: certain, and as a root sum of squares."""

    certain: torch.Tensor
    likely: torch.Tensor


class Reach(NamedTuple):
    """Bounds on what rounding moves one logit by."""

    certain: float
    likely: float


#: (module, its inputs, its output) -> bounds on the difference between the two ways to compute this output
Gap = Callable[[nn.Module, tuple[Any, ...], torch.Tensor], Local]


class RoundingTrace(TorchFunctionMode):
    """Records the floating-point results of a run with their local rounding bounds.

    Args:
        model: the model that will run, frozen; its attention must be the eager one, which consists of named steps.
        gaps: modules that the two runs compute in different ways, each with the bound on the difference.

    Raises:
        ValueError: during the run, on an operation whose rounding is not known here.
    """

    def __init__(self, model: nn.Module, gaps: Mapping[nn.Module, Gap]) -> None:
        super().__init__()
        self.model, self.gaps = model, gaps
        self.results: list[torch.Tensor] = []
        self.errors: list[Local] = []
        self.inside = 0

    @contextmanager
    def watching(self) -> Iterator[RoundingTrace]:
        """Run the model once inside this."""
        handles = []
        for module, gap in self.gaps.items():
            handles.append(module.register_forward_pre_hook(self._enter))
            handles.append(module.register_forward_hook(self._leave(gap)))
        try:
            with torch.enable_grad(), self:
                yield self
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        self.inside += 1

    def _leave(self, gap: Gap) -> Callable[..., torch.Tensor]:
        def leave(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            self.inside -= 1
            with torch._C.DisableTorchFunction():
                with torch.no_grad():
                    error = gap(module, inputs, output)
                if not output.requires_grad:
                    output = output.detach().requires_grad_()
            self._record(output, error)
            return output

        return leave

    def _record(self, result: torch.Tensor, error: Local) -> None:
        self.results.append(result)
        self.errors.append(error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note its local error."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        if self.inside or not isinstance(out, torch.Tensor) or not out.dtype.is_floating_point:
            return out
        if name == "embedding" and not out.requires_grad:
            return out.requires_grad_()  # the first numbers that differ from run to run start here
        if not out.requires_grad or name in EXACT:
            return out
        with torch.no_grad(), torch._C.DisableTorchFunction():
            error = _local_error(name, args, kwargs, out)
        if error is not None:
            self._record(out, Local(2.0 * error.certain, math.sqrt(2.0) * error.likely))  # both runs round
        return out

    def bound(self, logits: torch.Tensor, where: Sequence[tuple[int, ...]]) -> list[Reach]:
        """For each index in `where`: most that this logit differs between the two runs, to first order."""
        bounds = []
        for index in where:
            gradients = torch.autograd.grad(logits[index], self.results, retain_graph=True, allow_unused=True)
            certain = squares = 0.0
            for gradient, error in zip(gradients, self.errors, strict=True):
                if gradient is not None:
                    slope = gradient.double().abs()
                    certain += float((slope * error.certain.double()).sum())
                    squares += float(((slope * error.likely.double()) ** 2).sum())
            bounds.append(Reach(certain, LIKELY * math.sqrt(squares)))
        return bounds


def sum_unit(dtype: torch.dtype) -> float:
    """Unit roundoff inside a sum of products whose result has this format (float32 for the 16-bit ones)."""
    return min(UNIT[dtype], UNIT[torch.float32])


def _local_error(name: str, args: Any, kwargs: Any, out: torch.Tensor) -> Local | None:
    size, u, v = out.abs(), UNIT[out.dtype], sum_unit(out.dtype)
    if name in _ONCE:
        return _alike(u * size)
    if name in _FEW:
        return _alike((u + _FEW_UNITS * v) * size)
    if name in _CAST:
        return _alike(u * size) if UNIT[args[0].dtype] < u else None
    if name == "mean":
        terms = args[0].numel() // max(out.numel(), 1)
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        return _sum(args[0].abs().mean(dim, keepdim=kwargs.get("keepdim", False)), terms, v, u * size)
    if name in ("matmul", "bmm"):
        left, right = args[0].abs(), args[1].abs()
        return _sum(left @ right, left.shape[-1], v, u * size)
    if name == "linear":
        x, weight = args[0], args[1]
        bias = args[2] if len(args) > 2 else kwargs.get("bias")
        return _product(x.abs() @ weight.abs().T, bias, out, x.shape[-1], u, v)
    if name == "addmm":
        bias, x, weight = args
        return _product(x.abs() @ weight.abs(), bias, out, x.shape[-1], u, v)
    if name == "softmax":
        return _alike(_softmax(args[0], out, u, kwargs.get("dim", args[1] if len(args) > 1 else -1)))
    if name == "layer_norm":
        return _alike(_layer_norm(args, kwargs, out, u, v))
    raise ValueError(f"operation: expected one whose rounding is known, got {name}")


def _alike(error: torch.Tensor) -> Local:
    return Local(error, error)


def _sum(size: torch.Tensor, terms: int, v: float, stored: torch.Tensor) -> Local:
    """`terms` roundings inside of at most v `size` each, and those of storing the result."""
    return Local(terms * v * size + stored, math.sqrt(terms) * v * size + stored)


def _product(size: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor, terms: int, u: float, v: float) -> Local:
    """k products summed in any order, with a bias: k + 1 roundings inside, then the product and the sum stored."""
    if bias is None:
        return _sum(size, terms, v, u * out.abs())
    return _sum(size + bias.abs(), terms + 1, v, u * (2.0 * out.abs() + bias.abs()))


def _softmax(scores: torch.Tensor, out: torch.Tensor, u: float, dim: int) -> torch.Tensor:
    """The exponent is rounded relative to its distance from the largest score; then a sum and a quotient."""
    live = out > 0  # masked scores have probability 0 and no error
    distance = (scores.amax(dim, keepdim=True) - scores).where(live, torch.zeros_like(scores)).to(out.dtype)
    unit = sum_unit(out.dtype)
    moved = unit * distance
    if UNIT[scores.dtype] < UNIT[out.dtype]:  # a softmax in a narrower format rounds the scores first
        moved = moved + u * scores.abs().where(live, torch.zeros_like(scores)).to(out.dtype)
    moved = moved + (out * moved).sum(dim, keepdim=True)
    return out * (moved + unit * (scores.shape[dim] + _FEW_UNITS) + u)


def _layer_norm(args: Any, kwargs: Any, out: torch.Tensor, u: float, v: float) -> torch.Tensor:
    """Mean, variance (a running one, error n u times its condition), reciprocal root, weight and bias."""
    x, weight, bias = args[0], kwargs.get("weight", args[2] if len(args) > 2 else None), kwargs.get("bias")
    bias = args[3] if bias is None and len(args) > 3 else bias
    eps = kwargs.get("eps", args[4] if len(args) > 4 else 1e-5)
    n = x.shape[-1]
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True) + eps
    unit = (x - mean) / variance.sqrt()
    condition = (1.0 + mean**2 / variance).sqrt()
    error: torch.Tensor = unit.abs() * v * ((n + 4) * condition / 2 + _FEW_UNITS)
    error = error + n * v * x.abs().mean(-1, keepdim=True) / variance.sqrt()
    error = error if weight is None else error * weight.abs()
    error = error + u * out.abs() + (0.0 if bias is None else u * bias.abs())
    return error


def lora_gap(scale: float, A: torch.Tensor, B: torch.Tensor, W: torch.Tensor, bias: torch.Tensor | None) -> Gap:
    """Bound on the difference between a layer with a LoRA side path and the same layer merged.

    Certain by the formula of :func:`theory.adapters.merge_rounding_bound`, here on tensors with any leading
    dimensions. Likely by the squares of the single roundings; those of a weight are the same for all tokens and add up
    over them, by Cauchy-Schwarz at most as if their squares counted once per token.

    Args:
        scale: the adapter's scale.
        A: r x in.
        B: out x r.
        W: out x in, the base weight before merging; its format is that of the layer.
        bias: (out,) or None.
    """
    u, v = UNIT[W.dtype], sum_unit(W.dtype)
    r, n = A.shape
    inner, stored = math.log1p(v), math.log1p(u)
    on_base = 2.0 * math.expm1((n + 1) * inner + 3 * stored)
    on_side = sum(math.expm1((n + r) * inner + k * stored) for k in (4, 5))

    def gap(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> Local:
        x, w, a = inputs[0].detach().double(), W.detach().double(), A.detach().double()
        b = abs(scale) * B.detach().double()
        base, side = x.abs() @ w.abs().T, x.abs() @ a.abs().T @ b.abs().T
        low, product, offset = x @ a.T, x @ w.T, torch.zeros((), dtype=torch.float64)
        if bias is not None:
            offset = bias.detach().double()
            base = base + offset.abs()
        added = low @ b.T
        update = b @ a
        # roundings of weights: the merged one, and twice on the way to the update
        squares = torch.add(w, update, alpha=math.copysign(1.0, scale)).square_().addcmul_(update, update, value=2.0)
        weights = (x**2) @ squares.T
        # of results: A x, B (A x) and its scale, product and bias of both paths, the sum of the side path
        results = (low**2) @ (b**2).T + 2 * added**2 + product**2 + (product + offset) ** 2
        results = results + (product + math.copysign(1.0, scale) * added) ** 2 + 2 * output.detach().double() ** 2
        inside = 2.0 * v * (math.sqrt(n + 1) * base + math.sqrt(n + r) * side)
        tokens = x.numel() // n
        likely = (u**2 * (tokens * weights + results) + inside**2).sqrt()
        return Local(on_base * base + on_side * side, likely)

    return gap
