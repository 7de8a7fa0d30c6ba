"""The base model of adapters on disk: loaded, or read weight by weight from its files."""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from empirical.adapters.checkpoint import PLAIN, Checkpoint
from empirical.adapters.files import Adapter
from empirical.adapters.names import PREFIX, skeleton
from empirical.training.bases import load_base, no_bars
from theory.numerics import require

#: in place of a folder or hub id: the model that the optional package brings
PACKAGED = "packaged"


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings of peft and transformers about loading, and without bars."""
    with warnings.catch_warnings(), no_bars():
        warnings.simplefilter("ignore")
        yield


def load_model(base: Any) -> Any:
    """The base model in evaluation mode: a loaded one (copied), a folder, a hub id or ``"packaged"``.

    Raises:
        ValueError: it cannot be loaded.
    """
    if isinstance(base, nn.Module):
        return copy.deepcopy(base).eval().requires_grad_(False)
    try:
        with quiet():
            if str(base) == PACKAGED:
                return load_base(None).requires_grad_(False)
            import transformers

            config = transformers.AutoConfig.from_pretrained(str(base))
            names = getattr(config, "architectures", None) or []
            found = getattr(transformers, names[0], None) if names else None
            loader: Any = found or transformers.AutoModelForCausalLM
            return loader.from_pretrained(str(base), dtype=torch.float32).eval().requires_grad_(False)
    except Exception as error:  # every way in which loading a model can fail
        lines = str(error).strip().splitlines() or [type(error).__name__]
        got = f"{base} ({lines[0][:120]})"
        raise ValueError(f"base: expected a model folder or hub id, got {got}") from error


def owns(model: Any, adapter: Adapter, key: str) -> bool:
    """Whether a weight that peft saved along is the model's own."""
    parameter = model.state_dict().get(key.removeprefix(PREFIX).replace(".base_layer.", "."))
    along = adapter.tensor(adapter.copies[key])
    return parameter is not None and parameter.shape == along.shape and torch.equal(parameter.to(along.dtype), along)


class BaseWeights:
    """Norms of the base's weights, read one at a time from its files or taken from a loaded model."""

    def __init__(self, model: Any = None, checkpoint: Checkpoint | None = None, skeleton: Any = None) -> None:
        self.model = model
        self.checkpoint = checkpoint
        #: the loaded model, else its skeleton; None of no base
        self.known = model if model is not None else skeleton
        named = () if self.known is None else self.known.named_modules()
        self.modules = {n: m for n, m in named if hasattr(m, "weight")}
        self.names = sorted(self.modules)
        self.keys: dict[str, str] = {}
        if checkpoint is not None:
            places = checkpoint.parameters(skeleton).items()
            self.keys = {parameter: key for key, (parameter, pattern) in places if pattern is None}

    @classmethod
    def of(cls, base: Any, loaded: bool) -> BaseWeights:
        """Without loading the model where its files are safetensors.

        Args:
            base: as :func:`load_model` takes it, or None.
            loaded: load the model in any case.
        """
        if base is None:
            return cls()
        if not loaded and isinstance(base, (str, os.PathLike)) and any(Path(base).glob("*.safetensors")):
            return cls(checkpoint=Checkpoint(Path(base)), skeleton=skeleton(base))
        return cls(load_model(base))

    def norm(self, module: str) -> float | None:
        """Frobenius norm of a module's weight; None without one in plain numbers (quantised, fused, no base).

        Raises:
            ValueError: the files hold another shape than the configuration tells, or numbers that are not finite.
        """
        weight = getattr(self.modules.get(module), "weight", None)
        key = self.keys.get(module + ".weight")
        if self.checkpoint is not None:
            size = None if key is None or weight is None else self.checkpoint.norm(key, tuple(weight.shape))
        else:
            size = float(weight.detach().double().norm()) if weight is not None and weight.dtype in PLAIN else None
        require(size is None or math.isfinite(size), f"base: {module}", "finite weights", "nan or inf")
        return size
