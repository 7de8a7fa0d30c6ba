"""One linear matrix with adapters trained on it: what rank_threshold and one_layer share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.training.adapter import Schedule, descend
from empirical.training.bases import factors, generator, lora_layers, update_of, with_peft
from empirical.training.store import stored
from theory.lowrank import LowRank
from theory.numerics import Array, require


class Readout(nn.Module):
    """A frozen matrix W (out x in) as a linear layer `readout` without bias, in float64."""

    def __init__(self, W: Array, device: str = "cpu") -> None:
        super().__init__()
        outputs, inputs = W.shape
        self.readout = nn.Linear(inputs, outputs, bias=False, dtype=torch.float64, device=device)
        with torch.no_grad():
            self.readout.weight.copy_(torch.as_tensor(W))
        self.requires_grad_(False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Outputs (N, out) at features (N, in)."""
        outputs: torch.Tensor = self.readout(features)
        return outputs


def fit(
    base: Readout,
    features: torch.Tensor,
    loss_of: Callable[..., torch.Tensor],
    targets: Sequence[torch.Tensor],
    rank: int,
    schedule: Schedule,
    seed: int,
    name: str,
) -> LowRank:
    """Train a LoRA of this rank on `base` with peft, on all features at once; the base is left as it was.

    Args:
        base: the frozen memory.
        features: (N, in), read in every step.
        loss_of: outputs (N, out), then the targets -> loss.
        targets: what the outputs are held against.
        rank: r, with alpha = r, so that the update is B A.
        schedule: of AdamW; its batch is ignored.
        seed: of the world; the initial A comes from its stream ("init", "adapter", name).
        name: of the adapter.

    Returns:
        the trained update.

    Raises:
        TrainingDiverged: a loss was not finite.
    """
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["readout"], lora_dropout=0.0, bias="none")
    told = {"name": name, "rank": rank, "seed": seed, "schedule": asdict(schedule)}

    def train() -> dict[str, torch.Tensor]:
        with torch.random.fork_rng(devices=[]), with_peft(base, config, name) as wrapped:
            layer = lora_layers(wrapped)["readout"]
            a, b = factors(layer, name)
            draw = generator(seed, "init", "adapter", name)
            with torch.no_grad():
                a.copy_((torch.rand(a.shape, generator=draw, dtype=a.dtype) * 2 - 1) / a.shape[1] ** 0.5)
            inner = wrapped.get_base_model()
            descend([a, b], lambda _: loss_of(inner(features), *targets), repeat([]), schedule, told)
            update = update_of(layer, name)
        return {"B": torch.tensor(update.B), "A": torch.tensor(update.A)}

    made_of = {**told, "base": base, "features": features, "loss": loss_of, "targets": targets}
    found = stored("readout", made_of, train)
    return LowRank(found["B"].numpy(), found["A"].numpy())


def table(config: Mapping[str, Any], keys: set[str], experiment: str) -> None:
    """Refuse unknown and missing keys of a settings table.

    Raises:
        ValueError: naming them.
    """
    unknown, missing = sorted(set(config) - keys), sorted(keys - set(config))
    require(not unknown, experiment, "known keys", ", ".join(unknown))
    require(not missing, experiment, "the keys " + ", ".join(sorted(keys)), "no " + ", ".join(missing))


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    """A random rows x columns matrix with orthonormal columns (columns <= rows)."""
    q: Array = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    return q
