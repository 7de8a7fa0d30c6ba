"""Adapter folders as the tests look at them and change them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.base import quiet
from empirical.adapters.files import CONFIG, SAFE
from empirical.adapters.identity import IdentityReport
from empirical.adapters.merge import MergeReport
from empirical.adapters.through_peft import randomize


def made_by_peft(model: Any, folder: Path, seed: int, **options: Any) -> Path:
    """A random adapter for this model, which is left as it was."""
    from peft import LoraConfig, get_peft_model

    with quiet():
        wrapped: Any = get_peft_model(model, LoraConfig(**options))
        randomize(wrapped, "default", seed)
        wrapped.save_pretrained(str(folder))
        wrapped.unload()
    return folder


def config_of(folder: Path, file: str = CONFIG) -> dict[str, Any]:
    """The configuration of an adapter, or of a base."""
    found: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    return found


def configured(folder: Path, file: str = CONFIG, **fields: Any) -> Path:
    """The adapter or base there, with other fields in its configuration."""
    (folder / file).write_text(json.dumps(config_of(folder, file) | fields), encoding="utf-8")
    return folder


def changed(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> Path:
    """The adapter there, with other factors."""
    tensors = {key: change(key, value).contiguous() for key, value in load_file(folder / SAFE).items()}
    save_file(tensors, folder / SAFE)
    return folder


def times(b: float = 1.0, a: float = 1.0, only: str = "lora_") -> Callable[[Any], None]:
    """Fills an adapter: multiplies its factors, or those of some modules."""

    def fill(model: Any) -> None:
        for name, parameter in model.named_parameters():
            if "lora_" in name and only in name:
                parameter.data *= a if "lora_A" in name else b

    return fill


def passed(made: MergeReport) -> IdentityReport:
    """What the identity test says of a merge that it passed."""
    found = made.identity
    assert found is not None
    assert (found.verdict, found.reasons) == ("passed", ())
    return found
