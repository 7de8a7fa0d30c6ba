"""Routers: at every token and module, how much of each adapter takes part.

A *gate* turns the inputs of one module (..., in) into shares (..., k) of the k adapters. The updates are mixed as
products, ``sum_i g_i B_i A_i x``, or, as mttl does by default, as factors, ``(sum_i g_i B_i)(sum_i g_i A_i) x``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.reuse.linear import modules_of, weighted_sum
from empirical.training.bases import Updates
from theory.lowrank import LowRank
from theory.numerics import Array, require

Gate = Callable[[torch.Tensor], torch.Tensor]


class Routing(NamedTuple):
    """What a router decides: the updates that are mixed, a gate per module, and whether factors are mixed."""

    updates: Sequence[Updates]
    gates: Mapping[str, Gate]
    factors: bool = False


# ---------------------------------------------------------------- Arrow


def arrow_prototype(update: LowRank) -> Array:
    """Top right singular vector (in,) of an update: the direction of inputs that it reads most."""
    core = update.core()
    _, _, vt = np.linalg.svd(core.core)
    top: Array = (vt[0] @ core.mix_right) @ core.wide_right
    return top


class ArrowGate:
    """Shares of Arrow (Ostapenko et al. 2024, arXiv 2405.11157) in one module.

    Per token: scores ``|v_e . x|`` with the prototypes v_e, the k largest kept, softmax over them at a temperature.
    Adapters that do nothing in the module take no part.

    Args:
        updates: of the module, None for an adapter that does not touch it.
        top: k; None for all.
        temperature: of the softmax.
    """

    def __init__(self, updates: Sequence[LowRank | None], top: int | None, temperature: float) -> None:
        active = [i for i, u in enumerate(updates) if u is not None and u.norm() > 0]
        self.adapters, self.temperature = len(updates), temperature
        self.top = len(active) if top is None else min(top, len(active))
        self.active = torch.tensor(active, dtype=torch.long)
        here = [u for u in updates if u is not None and u.norm() > 0]
        self.prototypes = torch.as_tensor(np.array([arrow_prototype(u) for u in here]))

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Shares (..., adapters) at inputs (..., in)."""
        shares = x.new_zeros(*x.shape[:-1], self.adapters)
        if self.top:
            self.prototypes, self.active = self.prototypes.to(x), self.active.to(x.device)  # moved there once
            kept, index = (x @ self.prototypes.T).abs().topk(self.top, dim=-1)
            shares.scatter_(-1, self.active[index], torch.softmax(kept / self.temperature, dim=-1))
        return shares


def arrow(updates: Sequence[Updates], temperature: float, *, top: int | None = None, factors: bool = False) -> Routing:
    """Arrow over all adapters, or the `top` ones of each token."""
    gates: dict[str, Gate] = {}
    for name in modules_of(updates):
        here = [a.get(name) for a in updates]
        low = [u if isinstance(u, LowRank) else None for u in here]
        require(all(u is None or isinstance(u, LowRank) for u in here), "arrow", "low-rank updates", name)
        gates[name] = ArrowGate(low, top, temperature)
    return Routing(updates, gates, factors)


def arrow_subtract(
    updates: Sequence[Updates],
    temperature: float,
    general: Sequence[Updates],
    *,
    top: int,
    subtract: Callable[[Updates, Sequence[Updates]], Updates],
) -> Routing:
    """Arrow over adapters from which general knowledge was subtracted."""
    return arrow([subtract(a, general) for a in updates], temperature, top=top)


def subtract_general_factors(adapter: Updates, general: Sequence[Updates]) -> dict[str, LowRank]:
    """General-knowledge subtraction as peft does it: mean factors of `general` off the factors of `adapter`.

    That is ``(B - mean B)(A - mean A)`` and not the update less the mean update.

    Raises:
        ValueError: no general adapters, or modules, ranks or forms that do not match.
    """
    require(len(general) > 0, "general", "at least one general adapter", "none")
    purified = {}
    for name, update in adapter.items():
        peers = [g.get(name) for g in general]
        fits = isinstance(update, LowRank) and all(
            isinstance(p, LowRank) and p.shape == update.shape and p.columns == update.columns for p in peers
        )
        require(fits, "general", f"low-rank updates of {name} with the adapter's shape and rank", "something else")
        assert isinstance(update, LowRank)
        low = [p for p in peers if isinstance(p, LowRank)]
        purified[name] = LowRank(
            update.B - np.mean([p.B for p in low], axis=0), update.A - np.mean([p.A for p in low], axis=0), update.scale
        )
    return purified


def subtract_general(adapter: Updates, general: Sequence[Updates]) -> Updates:
    """GenKnowSub (Bagherifard et al. 2025, arXiv 2505.10939): the update less the mean update of `general`.

    In the modules of `adapter`; ranks may differ.

    Raises:
        ValueError: no general adapters, or shapes that differ.
    """
    require(len(general) > 0, "general", "at least one general adapter", "none")
    share = -1.0 / len(general)
    rest = [{name: g[name] for name in adapter if name in g} for g in general]
    return weighted_sum([adapter, *rest], [1.0, *[share] * len(rest)])


# ---------------------------------------------------------------- mixing


class _Mixing:
    """Adds the mixed updates to the output of one linear module.

    Args:
        updates: of the module, None for an adapter that does not touch it.
        gate: shares (..., k) of the module's inputs.
        factors: mix A x and B apart; then all have one rank.
        like: the module's weight, for type and device.
    """

    def __init__(self, updates: Sequence[LowRank | None], gate: Gate, factors: bool, like: torch.Tensor) -> None:
        self.gate, self.mix_factors = gate, factors
        self.parts = [
            (e, torch.as_tensor(u.scale * u.B).to(like), torch.as_tensor(np.array(u.A)).to(like))
            for e, u in enumerate(updates)
            if u is not None
        ]

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        x = inputs[0]
        shares = self.gate(x).to(x)
        inner = [(e, x @ a.T, b) for e, b, a in self.parts]
        if self.mix_factors:
            mixed = torch.stack([shares[..., e : e + 1] * h for e, h, _ in inner]).sum(dim=0)
            inner = [(e, mixed, b) for e, _, b in inner]
        for e, h, b in inner:
            output = output + shares[..., e : e + 1] * (h @ b.T)
        return output


@contextmanager
def routed(base: nn.Module, routing: Routing) -> Iterator[nn.Module]:
    """`base` with the routing in place; as it was on leaving.

    Raises:
        ValueError: a module that is not linear, dense updates, or factors of different ranks to be mixed.
    """
    modules = dict(base.named_modules())
    with ExitStack() as hooks:
        for name, gate in routing.gates.items():
            module = modules.get(name)
            require(isinstance(module, nn.Linear), "router", "linear modules only", name)
            assert isinstance(module, nn.Linear)
            here = [a.get(name) for a in routing.updates]
            require(all(u is None or isinstance(u, LowRank) for u in here), "router", "low-rank updates", name)
            low = [u if isinstance(u, LowRank) else None for u in here]
            ranks = {u.columns for u in low if u is not None}
            alike = not routing.factors or len(ranks) == 1
            require(alike, "router", "adapters of one rank, to mix factors", sorted(ranks))
            hooks.callback(module.register_forward_hook(_Mixing(low, gate, routing.factors, module.weight)).remove)
        yield base


# ---------------------------------------------------------------- an oracle


def oracle_right(single: Sequence[np.ndarray]) -> np.ndarray:
    """One-adapter routing by an oracle: a query is right if some single adapter (or the base) answers it right.

    Args:
        single: boolean arrays (n,), one per adapter that the router may choose.
    """
    require(len(single) > 0, "single", "at least one adapter's answers", "none")
    right: np.ndarray = np.logical_or.reduce([np.asarray(s, dtype=bool) for s in single])
    return right


#: Arrow with general-knowledge subtraction, on factors or updates
ARROW_SUBTRACT = {
    f"arrow_top{top}_subtract{suffix}": partial(arrow_subtract, top=top, subtract=subtract)
    for suffix, subtract in (("", subtract_general_factors), ("_updates", subtract_general))
    for top in (1, 2)
}
