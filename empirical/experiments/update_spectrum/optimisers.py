"""Optimisers beside AdamW, which tell what of an update's rank is the optimiser's doing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from empirical.training.adapter import Optimizer, Schedule


def sgd(parameters: Sequence[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """Gradient descent with momentum 0.9: the update is a sum of gradients, no coordinate has a scale of its own."""
    return torch.optim.SGD(parameters, lr=schedule.rate, momentum=0.9)


class _MatrixScaled(torch.optim.Optimizer):
    def __init__(self, parameters: Sequence[nn.Parameter], schedule: Schedule) -> None:
        super().__init__(parameters, {"lr": schedule.rate, "betas": schedule.betas})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            first, second = group["betas"]
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros((), device=p.device))
                state["step"] += 1
                state["mean"].lerp_(p.grad, 1 - first)
                state["square"].lerp_(p.grad.square().mean(), 1 - second)
                mean = state["mean"] / (1 - first ** state["step"])
                scale = (state["square"] / (1 - second ** state["step"])).sqrt()
                p.sub_(mean / (scale + 1e-8), alpha=group["lr"])


def matrix_scaled(parameters: Sequence[nn.Parameter], schedule: Schedule) -> torch.optim.Optimizer:
    """Adam with one second moment for each matrix, the mean of its squares, in place of one for each coordinate."""
    return _MatrixScaled(parameters, schedule)


OPTIMISERS: dict[str, Optimizer] = {"sgd": sgd, "matrix_scaled": matrix_scaled}
