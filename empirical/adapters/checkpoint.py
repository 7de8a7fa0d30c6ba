"""A base on disk as transformers saves it: which file holds which tensor, and which parameter of the model that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from theory.numerics import require

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
#: formats whose numbers are the weights themselves; others are codes of a quantisation
PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Checkpoint:
    """The safetensors files of a base: which holds which tensor, and its format, without reading a number.

    Raises:
        ValueError: no such files, or a broken one.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.folder = folder
        require((folder / "config.json").is_file(), "base", "a model folder with config.json", str(folder))
        self.config = _object(folder / "config.json")
        said = self.config.get("quantization_config") or None
        #: method of the quantisation, None of plain weights
        self.quantised: str | None = None
        if said is not None:
            method = said.get("quant_method") if isinstance(said, dict) else None
            self.quantised = str(method or "of an unknown kind")
        named = self.config.get("transformers_weights")
        fits = named is None or (_beside(named) and named.endswith((".safetensors", ".safetensors.index.json")))
        require(
            fits, "base", "transformers_weights to name safetensors, or an index of them, beside config.json", named
        )
        names = [named or next((n for n in (WHOLE, INDEX) if (folder / n).is_file()), WHOLE)]  # as transformers does
        #: file that says which tensor is in which file, None of a single one
        self.index = names[0] if names[0].endswith(".json") else None
        if self.index is not None:
            places = _object(folder / self.index).get("weight_map")
            told = list(places.values()) if isinstance(places, dict) else []
            fits = bool(told) and all(map(_beside, told))
            require(fits, "base", "an index with a weight_map from tensors to files beside it", self.index)
            names = sorted(set(told))
        self.files = [folder / n for n in names]
        self.place: dict[str, Path] = {}
        for path in self.files:
            require(
                path.is_file(), "base", f"weights in safetensors ({path.name})", "none (save_pretrained writes them)"
            )
            try:
                with safe_open(str(path), framework="pt", device="cpu") as handle:
                    self.place |= dict.fromkeys(handle.keys(), path)
            except (SafetensorError, OSError) as error:
                got = unreadable(path, error)
                raise ValueError(f"base: expected whole safetensors files, got {path.name}: {got}") from error

    def parameters(self, model: Any) -> dict[str, tuple[str, str | None]]:
        """Key in the files -> (parameter of the model, pattern of the conversion that computes it or None)."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

        steps = get_model_conversion_mapping(model)
        renamings = [s for s in steps if isinstance(s, WeightRenaming)]
        converters = [s for s in steps if isinstance(s, WeightConverter)]
        prefix, known = getattr(model, "base_model_prefix", ""), model.state_dict()
        return {key: rename_source_key(key, renamings, converters, prefix, known) for key in self.place}

    def norm(self, key: str, shape: tuple[int, ...] | None = None) -> float | None:
        """Frobenius norm of a tensor of this shape; None of one that is no plain floating-point weight.

        Raises:
            ValueError: it has another shape.
        """
        from safetensors import safe_open

        with safe_open(str(self.place[key]), framework="pt", device="cpu") as handle:
            tensor = handle.get_tensor(key)
        if self.quantised is not None or tensor.dtype not in PLAIN:
            return None
        found = tuple(tensor.shape)
        require(shape in (None, found), f"base: {key}", f"the shape {shape} that the configuration tells", found)
        return float(tensor.float().norm())


def brief(error: BaseException) -> str:
    """Kind and first line of an error."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + text[0][:160] if text else ''}"


def unreadable(path: Path, error: BaseException) -> str:
    """What a file of weights is, if it is none: a pointer that git-lfs left in its place, or what the reader said."""
    with path.open("rb") as file:
        pointer = file.read(20) == b"version https://git-"
    return "a pointer of git-lfs (git lfs pull brings the file)" if pointer else brief(error)


def _beside(name: Any) -> bool:
    """Whether it names a file of the same folder."""
    return isinstance(name, str) and Path(name).name == name != ""


def _object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    require(path.is_file(), "base", path.name, "none")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, no text
        raise ValueError(f"base: expected JSON in {path.name}, got {error}") from error
    require(isinstance(found, dict), "base", f"a JSON object in {path.name}", type(found).__name__)
    return dict(found)
