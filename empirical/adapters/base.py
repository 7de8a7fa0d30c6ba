"""The base model of adapters on disk: loaded, or read weight by weight from its files."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from empirical.adapters.files import Adapter, module_names, settle
from empirical.training.bases import load_base, no_bars

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


def check_shapes(adapters: Sequence[Adapter], model: Any) -> None:
    """Every adapted module exists in the base and has the size of its factors; names become those of the base.

    Raises:
        ValueError: naming the module.
    """
    for adapter in adapters:
        settle(adapter, model)


class BaseWeights:
    """Norms of the base's weights, read one at a time from safetensors or taken from a loaded model."""

    def __init__(self, model: Any = None, files: dict[str, Path] | None = None) -> None:
        self.model = model
        self.files = files or {}
        modules = dict(model.named_modules()) if model is not None else {}
        self.modules = {n: m for n, m in modules.items() if hasattr(m, "weight")}
        self.names = sorted(self.modules) or sorted(
            k.removesuffix(".weight") for k in self.files if k.endswith(".weight")
        )

    @classmethod
    def of(cls, base: Any, adapters: Sequence[Adapter], loaded: bool) -> BaseWeights:
        """Without loading the model where its checkpoint names its weights as the modules are named.

        Args:
            base: as :func:`load_model` takes it, or None.
            adapters: whose modules are wanted.
            loaded: load the model in any case.
        """
        if base is None:
            return cls()
        wanted = {n + ".weight" for n in module_names(adapters)}
        if not loaded and isinstance(base, (str, os.PathLike)) and Path(base).is_dir():
            files = _checkpoint(Path(base))
            if wanted <= set(files):
                return cls(files=files)
        model = load_model(base)
        check_shapes(adapters, model)
        return cls(model)

    def norm(self, module: str) -> float | None:
        """Frobenius norm of a module's weight; None where the base is not given or stores no such weight."""
        if module in self.modules:
            return float(self.modules[module].weight.detach().double().norm())
        path = self.files.get(module + ".weight")
        if path is None:
            return None
        from safetensors import safe_open

        with safe_open(str(path), framework="pt", device="cpu") as handle:
            return float(handle.get_tensor(module + ".weight").float().norm())


def _checkpoint(folder: Path) -> dict[str, Path]:
    from safetensors import SafetensorError, safe_open

    found: dict[str, Path] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(str(path), framework="pt", device="cpu") as handle:
                found |= dict.fromkeys(handle.keys(), path)
        except (SafetensorError, OSError) as error:
            got = str(error).splitlines()[0][:120]
            raise ValueError(f"base: expected whole safetensors files, got {path.name}: {got}") from error
    return found
