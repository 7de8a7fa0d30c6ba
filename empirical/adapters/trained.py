"""An adapter that was trained here, as a folder that peft loads."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from empirical.adapters.files import Draft, check_output, write_adapter
from empirical.training.adapter import AdapterShape
from empirical.training.bases import Updates
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import require


def save_adapter(folder: str | os.PathLike[str], updates: Updates, shape: AdapterShape, base_name: str = "") -> None:
    """Write trained updates as an ordinary peft adapter, which ``PeftModel.from_pretrained`` loads and merges.

    Args:
        folder: a new folder; it appears whole or not at all.
        updates: what :func:`empirical.training.adapter.train_adapter` or
            :func:`empirical.training.together.train_adapters` gave for this `shape`.
        shape: what the adapter was trained as; its scale is checked against that of every update.
        base_name: folder or hub id of the base, for peft's ``base_model_name_or_path``.

    The factors are stored in float32 where that loses nothing, else in float64.

    Raises:
        ValueError: the folder exists or has no parent, no updates, or one that is not of this shape.
    """
    target = Path(folder)
    check_output(target, [], force=False)
    require(len(updates) > 0, "updates", "at least one module", "none")
    scale = adapter_scale(shape.alpha, shape.rank, shape.rslora)
    tensors: dict[str, torch.Tensor] = {}
    for name, update in updates.items():
        require(isinstance(update, LowRank), f"updates: {name}", "a LowRank", type(update).__name__)
        assert isinstance(update, LowRank)
        got = f"rank {update.columns}, scale {update.scale:g}"
        fits = update.columns == shape.rank and update.scale == scale
        require(fits, f"updates: {name}", f"rank {shape.rank}, scale {scale:g}", got)
        for factor, values in (("A", update.A), ("B", update.B)):
            tensors[f"base_model.model.{name}.lora_{factor}.weight"] = torch.tensor(values)
    narrow = {key: tensor.float() for key, tensor in tensors.items()}
    if all(torch.equal(narrow[key].double(), tensor) for key, tensor in tensors.items()):
        tensors = narrow
    config = shape.lora_config()
    config.base_model_name_or_path, config.task_type, config.inference_mode = base_name or None, "CAUSAL_LM", True
    plain = {k: sorted(v) if isinstance(v, set) else v for k, v in config.to_dict().items()}
    with Draft(target) as draft:
        write_adapter(draft.folder, plain, tensors, f"---\nlibrary_name: peft\n---\n\nTrained as {shape}.\n")
        draft.publish()
