"""What an adapter is to the trainer: what modules put out, as a function of their inputs and of parameters.

LoRA (:func:`low_rank`) is one such form. Others need no more than a function of their own: directions with magnitudes
of their own, a routing between two factors, masks that are drawn anew in every pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from empirical.training.bases import Updates
from theory.lowrank import LowRank

#: name -> tensor; of what is trained and what is fixed together. A leading axis stands for the adapters that run
#: together, where there are several
Values: TypeAlias = Mapping[str, torch.Tensor]
#: name of a module, the module, its inputs (n, tokens, in), values (n, ...) -> its outputs (n, tokens, out)
Outputs: TypeAlias = Callable[[str, nn.Linear, torch.Tensor, Values], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Form:
    """An adapter: where it acts, what is trained of it, and how.

    Args:
        modules: names of the ``nn.Linear`` modules whose outputs it changes.
        trained: initial values, of modules or of all modules together.
        fixed: what is read beside them and stays as it is.
        outputs: see :data:`Outputs`. Adapters with one such function run together; where one lacks a value, or has it
            in a smaller shape, there are zeros, which must make no difference.
        updates: values after training -> what is added to the modules' weights.
        draw: what `outputs` draws from in every pass, if it does. Training leaves it where its last pass did.
    """

    modules: tuple[str, ...]
    trained: Values
    outputs: Outputs
    updates: Callable[[Values], Updates]
    fixed: Values
    draw: torch.Generator | None = None


def adding(change: Callable[[str, torch.Tensor, Values], torch.Tensor]) -> Outputs:
    """Outputs of a frozen module and what an adapter adds: name, inputs (n, tokens, in), values -> (n, tokens, out)."""

    def outputs(name: str, module: nn.Linear, x: torch.Tensor, values: Values) -> torch.Tensor:
        return nn.functional.linear(x, module.weight, module.bias) + change(name, x, values)

    return outputs


# ---------------------------------------------------------------- LoRA


def low_rank(factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], scale: float) -> Form:
    """LoRA: ``s B A`` is added to the weight of each module; factors are the initial (B, A), out x r and r x in."""
    trained = {f"{n}.{key}": f for n, (b, a) in factors.items() for key, f in (("A", a), ("B", b))}
    fixed = {"scale": torch.full((1, 1), scale, dtype=torch.float64)}

    def updates(values: Values) -> Updates:
        return {n: LowRank(values[f"{n}.B"].numpy(), values[f"{n}.A"].numpy(), scale) for n in factors}

    return Form(tuple(factors), trained, _low_rank_outputs, updates, fixed)


def _low_rank_outputs(name: str, module: nn.Linear, x: torch.Tensor, values: Values) -> torch.Tensor:
    a, b = values[f"{name}.A"], values[f"{name}.B"]
    out: torch.Tensor = _LowRank.apply(x, module.weight, module.bias, a, b, values["scale"])  # type: ignore[no-untyped-call]
    return out


class _LowRank(torch.autograd.Function):
    """``x W' + bias + s (x A') B'``, with a frozen weight for all rows and one pair of factors per adapter.

    x: (n, tokens, in). W: out x in. A: (n, r, in). B: (n, out, r). s: (n, 1, 1). Written by hand because the low-rank
    terms can then be added in place, forwards and backwards.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, W: Any, bias: Any, A: Any, B: Any, s: Any) -> Any:
        A, B = A.to(x.dtype), B.to(x.dtype)
        xa = torch.bmm(x, A.mT).mul_(s)
        y = nn.functional.linear(x, W, bias).baddbmm_(xa, B.mT)
        ctx.save_for_backward(x, xa, W, A, B, s)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, xa, W, A, B, s = ctx.saved_tensors
        g = gradients[0].contiguous()
        gb = torch.bmm(g, B).mul_(s)
        gx = (g @ W).baddbmm_(gb, A) if ctx.needs_input_grad[0] else None
        return gx, None, None, torch.bmm(gb.mT, x), torch.bmm(g.mT, xa), None
