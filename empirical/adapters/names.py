"""One module, one name: what wrappers, tools and versions of transformers add to the names in an adapter's file.

What a wrapper adds is dropped without asking. Which names of two versions of transformers are one module is known to
peft's own conversion, which needs the architecture of the base, not its weights: :func:`skeleton` builds that on the
meta device from a configuration, and :func:`converted` asks.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from theory.numerics import require

PREFIX = "base_model.model."
#: components that FSDP, activation checkpointing, torch.compile, old FSDP and Lightning put between the real ones
WRAPPERS = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "_fpw_module", "_forward_module")
#: components that come and go between versions of transformers and between a model with and without its head
CARRIERS = ("model", "language_model", "text_model")
_PART = r"[A-Za-z0-9_\-]+"
_NAME = rf"{_PART}(?:\.{_PART})*"
#: a wrapper, and the dot that parts it from what it wraps
_WRAPPER = re.compile(rf"(?<![A-Za-z0-9_\-])(?:{'|'.join(WRAPPERS)})\.")
#: peft's prefix after whatever holds the model there, each part perhaps in a DataParallel; or that alone
_OUTSIDE = re.compile(r"^(?:(?:.*\.)?base_model(?:\.module)*\.model\.)?(?:module\.)*")
_FACTOR = re.compile(
    rf"(?P<module>{_NAME})\.(?:lora_(?P<linear>[AB])(?:\.(?!bias$)(?P<one>{_PART}))??(?:\.weight)?"
    rf"|lora_(?P<embedding>embedding_[AB])(?:\.(?P<two>{_PART}))?)"
)


class Factor(NamedTuple):
    """A key of an adapter's file, read: the module, which factor ("A", "embedding_B", ...), the key as peft saves it.

    `label` is the adapter's name where the key holds one; `said` the module's name with its wrappers.
    """

    module: str
    factor: str
    label: str | None
    key: str
    said: str


def module_name(name: str) -> str:
    """Without the prefix of peft and what stands before it, and without wrappers."""
    return _OUTSIDE.sub("", _WRAPPER.sub("", name))


@lru_cache(maxsize=1 << 16)
def factor(key: str) -> Factor | None:
    """What a key names; None where it names no factor of LoRA."""
    found = _FACTOR.fullmatch(_WRAPPER.sub("", key))  # FSDP wraps the factors as well
    if found is None:
        return None
    module = module_name(found["module"])
    if not module:
        return None
    kind = found["linear"] or found["embedding"]
    said = _OUTSIDE.sub("", key.partition(".lora_")[0])
    return Factor(module, kind, found["one"] or found["two"], factor_key(module, kind), said)


def factor_key(module: str, kind: str) -> str:
    """As peft writes it."""
    return f"{PREFIX}{module}.lora_{kind}" + (".weight" if kind in ("A", "B") else "")


def carried(name: str) -> str:
    """The name without the components that versions of transformers move."""
    return ".".join(p for p in name.split(".") if p not in CARRIERS)


def doubtful(names: Sequence[Sequence[str]]) -> tuple[str, str] | None:
    """Two names of different adapters that may be one module: two versions of transformers, or one inside of a larger.

    None without.
    """
    seen: dict[str, str] = {}
    known = [set(n) for n in names]
    whole = set().union(*known)
    for one in names:
        for name in one:
            parts = name.split(".")
            inner = (".".join(parts[i:]) for i in range(1, len(parts)))
            for first in (seen.setdefault(carried(name), name), *(n for n in inner if n in whole)):
                # an adapter that has both under its own roof knows them as two modules
                if first != name and not any(first in k and name in k for k in known):
                    return first, name
    return None


# ---------------------------------------------------------------- the architecture


def skeleton(base: Any, local: bool = False) -> nn.Module:
    """The base without its weights: a loaded model as it is, else built on the meta device from a configuration.

    Args:
        base: model, folder or hub id.
        local: do not ask a hub that is not here.

    Raises:
        ValueError: there is no configuration that transformers can build.
    """
    if isinstance(base, nn.Module):
        return base
    import transformers

    try:
        with warnings.catch_warnings(), torch.device("meta"):
            warnings.simplefilter("ignore")
            config = transformers.AutoConfig.from_pretrained(str(base), local_files_only=local, trust_remote_code=False)
            names = getattr(config, "architectures", None) or []
            found = getattr(transformers, names[0], None) if names else None
            if found is not None:
                made: nn.Module = found(config)
                return made
            return transformers.AutoModelForCausalLM.from_config(config)  # type: ignore[no-any-return]
    except Exception as error:  # every way in which a configuration can fail
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"base: expected a model folder or hub id whose configuration transformers knows, got {base} "
            f"({lines[0][:120]})"
        ) from error


def said_base(raw: Mapping[str, Any]) -> nn.Module | None:
    """The skeleton of the base that an adapter names, where it lies on this machine."""
    name = raw.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        return None
    if not (Path(name) / "config.json").is_file() and (os.sep in name[:1] or name.startswith(".")):
        return None
    try:
        return skeleton(name, local=True)
    except ValueError:
        return None


class Converted(NamedTuple):
    """Names as the base has them: new key -> old key, or -> tensor where peft had to compute it; the configuration."""

    keys: dict[str, str | torch.Tensor]
    config: Any


def converted(model: nn.Module, config: Any, shapes: Mapping[str, tuple[int, ...]], read: Any, name: str) -> Converted:
    """peft's own conversion of an adapter's names for this model, and where peft leaves a name, its unique likeness.

    Args:
        model: the base, or its skeleton.
        config: the adapter's ``LoraConfig``.
        shapes: by key, as peft saves keys.
        read: key -> tensor, called only where the conversion computes (experts that were fused since).
        name: of the adapter, for errors.

    Raises:
        ValueError: peft cannot convert it, in its words.
    """
    import copy

    from peft.utils.transformers_weight_conversion import (
        convert_peft_adapter_state_dict_for_transformers,
        convert_peft_config_for_transformers,
    )

    def ask(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        try:
            return convert_peft_adapter_state_dict_for_transformers(model, config, state, "default")
        except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ValueError(
                f"{name}: expected names that peft can convert to the base's, got {lines[0][:160]}"
            ) from error

    ghosts = {k: torch.empty(s, device="meta") for k, s in shapes.items()}
    owner = {id(t): k for k, t in ghosts.items()}
    found = ask(dict(ghosts))
    keys: dict[str, str | torch.Tensor]
    if all(id(t) in owner for t in found.values()):
        keys = {k: owner[id(t)] for k, t in found.items()}
        lost = sorted(ghosts.keys() - keys.values())
        require(not lost, f"{name}: {''.join(lost[:1])}", "one name for one module", "two that the base knows as one")
        return Converted(_likened(model, keys), config)
    tensors = {k: read(k) for k in shapes}
    owner = {id(t): k for k, t in tensors.items()}
    keys = {k: owner.get(id(t), t) for k, t in ask(dict(tensors)).items()}
    config = copy.deepcopy(config)
    convert_peft_config_for_transformers(config, model, None)
    return Converted(_likened(model, keys), config)


def _likened(model: nn.Module, keys: dict[str, str | torch.Tensor]) -> dict[str, str | torch.Tensor]:
    """Names that the base does not have, but has one like them but for the carriers."""
    alike: dict[str, list[str]] = {}
    for n, _ in model.named_modules():
        alike.setdefault(carried(n), []).append(n)
    made: dict[str, str | torch.Tensor] = {}
    for key, value in keys.items():
        read = factor(key)
        if read is not None:  # a name that the base has is its own likeness
            found = alike.get(carried(read.module), [])
            key = factor_key(found[0], read.factor) if len(found) == 1 else key
        require(key not in made, key, "one name for one module", "two that the base knows as one")
        made[key] = value
    return made
