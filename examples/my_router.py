"""A router of your own: how much of each adapter takes part, token by token and module by module.

    make experiments EXPERIMENT=coverage METHOD=examples/my_router.py:route

Give back a dict, module name -> gate. A gate turns the inputs of its module, a tensor (..., in), into shares (..., k)
of the k adapters; the updates are mixed as products, ``sum_i share_i B_i A_i x``.
"""

from collections.abc import Callable

import torch

from theory.lowrank import LowRank

Gate = Callable[[torch.Tensor], torch.Tensor]


def route(updates: list[dict[str, LowRank]]) -> dict[str, Gate]:
    """The stronger an adapter answers a token, the more it says: softmax over the norms of ``B_i A_i x``."""
    return {name: gate([adapter.get(name) for adapter in updates]) for name in {n for a in updates for n in a}}


def gate(here: list[LowRank | None]) -> Gate:
    """Shares of one module; an adapter that does not touch it (None) answers with zero."""
    matrices = [None if u is None else torch.tensor(u.dense()) for u in here]

    def shares(x: torch.Tensor) -> torch.Tensor:
        norms = [x.new_zeros(x.shape[:-1]) if m is None else (x @ m.to(x).T).norm(dim=-1) for m in matrices]
        return torch.softmax(torch.stack(norms, dim=-1), dim=-1)

    return shares
