"""Adapters folded into their base, tensor by tensor: ``W + sum_i w_i s_i B_i A_i``, summed in float32 and rounded once.

The base is never in memory: each file of its checkpoint is read and written one tensor at a time, so that the peak is
a few times the largest tensor. Which tensor of the files is which parameter of the model, and how fused experts lie in
the files, is what transformers' own conversion says. Each folded tensor is held against its parts on random inputs,
in float64, under the bound of claim adapter_algebra.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from empirical.adapters.checkpoint import Checkpoint
from empirical.adapters.files import (
    CODES,
    CONFIG,
    TEMPLATES,
    Adapter,
    Draft,
    Module,
    Writer,
    check_output,
    check_weights,
    module_names,
    read_all,
    turned,
)
from empirical.adapters.merge import FORMATS, OUTPUT
from empirical.adapters.names import PREFIX, skeleton
from theory.adapters import likely_rounding_bound, merge_rounding_bound
from theory.lowrank import LowRank
from theory.numerics import one_of, require, stream

#: formats that weights can be folded in; others are codes of a quantisation
_FLOATS = {v: k for k, v in OUTPUT.items()}
#: rows of a tensor and inputs on which it is held against its parts
_ROWS, _INPUTS = 64, 4
#: what is not taken along: the weights themselves, in any form, and what would put an adapter on them
_WEIGHTS = (".safetensors", ".bin", ".index.json", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".ot", CONFIG)


class FoldFailed(RuntimeError):
    """A folded weight does not compute what base and adapters do; nothing was published."""


@dataclass(frozen=True)
class FoldedModule:
    """One module: largest difference of an output from the parts', the bounds there (claim adapter_algebra), its size.

    `likely` bounds it if rounding errors are independent (:func:`theory.adapters.likely_rounding_bound`).
    """

    name: str
    measured: float
    bound: float
    likely: float
    output: float

    def __str__(self) -> str:
        """The difference beside its bound; a bound beyond the output itself says so."""
        said = f"{self.measured:.2g}, bound {self.bound:.2g}"
        if self.bound <= self.output:
            return said
        return f"{said} (more than the output there, {self.output:.2g}; {self.likely:.2g} if errors are independent)"


@dataclass
class FoldReport:
    """What :func:`fold` did; `dtypes` of the folded tensors, `files` of weights written."""

    output: str
    adapters: list[str]
    weights: list[float]
    modules: list[FoldedModule]
    dtypes: list[str]
    files: int
    notes: list[str] = field(default_factory=list)

    @property
    def tightest(self) -> FoldedModule:
        """The module whose measured difference comes closest to its bound."""
        return max(self.modules, key=lambda m: m.measured / m.bound if m.bound else 0.0)


class Target(NamedTuple):
    """A parameter that adapters change: the modules that lie in it (the experts, or one)."""

    parameter: str
    modules: list[str]
    transposed: bool


def fold(
    paths: Sequence[str | os.PathLike[str]],
    base: str | os.PathLike[str],
    output: str | os.PathLike[str],
    weights: Sequence[float] | None = None,
    *,
    dtype: str | None = None,
    untie: bool = False,
    force: bool = False,
    same_base: bool = False,
    seen: Callable[[FoldReport], object] | None = None,
) -> FoldReport:
    """Write the base with the weighted sum of adapters folded in, with its configuration and tokenizer.

    Args:
        paths: adapter folders or hub ids.
        base: folder or hub id; weights in safetensors.
        output: folder to write. It appears whole or not at all.
        weights: one per adapter, by default 1 each.
        dtype: of all floating tensors; by default each keeps its own.
        untie: give a weight that two places share to each of them where an adapter acts on one; refused without.
        force: overwrite a model folder.
        same_base: take bases of different names for one and the same.
        seen: called with the report before anything is published; what it raises stops that.

    Raises:
        ValueError: what cannot be folded, in one line; nothing is written.
        OSError: what the operating system refuses; nothing is left behind.
        FoldFailed: a folded tensor is not within its bound; nothing is published.

    Source: claim adapter_algebra.
    """
    if dtype is not None:
        one_of(dtype, "dtype", tuple(OUTPUT))
    folder = _local(base)
    checkpoint = Checkpoint(folder)
    require(
        checkpoint.quantised is None, "base", "plain weights (fold into the model that was quantised, then quantise)",
        f"a quantised base ({checkpoint.quantised})",
    )  # fmt: skip
    model = skeleton(folder)
    adapters = read_all(paths, same_base, model)
    check_output(Path(output), [folder, *(a.path for a in adapters)], force, "config.json")
    chosen = check_weights(weights, len(adapters))
    notes = [n for a in adapters for n in a.notes]
    names = checkpoint.parameters(model)
    stored = {parameter: key for key, (parameter, pattern) in names.items() if pattern is None}
    _check_copies(adapters, checkpoint, model, stored)
    targets = _targets(adapters, model)
    untied = _untied(targets, model, untie, notes)
    freed = _freed(model, stored) if untied else {}
    work = _Work(adapters, chosen, model, targets, names, None if dtype is None else OUTPUT[dtype])
    work.check(freed)
    with Draft(Path(output)) as draft:
        _write(draft.folder, checkpoint, work, freed)
        _take_along(folder, draft.folder, checkpoint.config, dtype, untied)
        report = FoldReport(
            Path(output).name, [a.name for a in adapters], chosen, work.found, sorted(work.dtypes),
            len(checkpoint.files), notes,
        )  # fmt: skip
        (draft.folder / "README.md").write_text(_card(report, base), encoding="utf-8")
        worst = report.tightest
        if not worst.measured <= worst.bound:
            raise FoldFailed(
                f"fold: {worst.name}: expected outputs within {worst.bound:.3g} of the sum of the parts, got "
                f"{worst.measured:.3g}; nothing was written"
            )
        if seen is not None:
            seen(report)
        draft.publish()
    return report


def _local(base: str | os.PathLike[str]) -> Path:
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(base)))
    except Exception as error:  # every way in which a hub can fail
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"base: expected a model folder or a hub id, got {base} ({lines[0][:120]})") from error


def _check_copies(
    adapters: Sequence[Adapter], checkpoint: Checkpoint, model: nn.Module, stored: Mapping[str, str]
) -> None:
    """Weights that peft saved along must be the base's own."""
    from safetensors import safe_open

    stored = {**stored, **_freed(model, stored)}
    for adapter in adapters:
        for key, along in adapter.copies.items():
            name = key.removeprefix(PREFIX).replace(".base_layer.", ".")
            place = stored.get(name)
            require(place is not None, f"{adapter.name}: {name}", "a weight that the base has", "another (renamed?)")
            assert place is not None
            with safe_open(str(checkpoint.place[place]), framework="pt", device="cpu") as handle:
                own, copy = handle.get_tensor(place), adapter.tensor(along)
            require(
                own.shape == copy.shape and torch.equal(own.to(copy.dtype), copy), f"{adapter.name}: {name}",
                "the base's own weight",
                "another (trained, or the vocabulary was resized: put it into the base, and its tokenizer, first)",
            )  # fmt: skip


def _shared(model: nn.Module) -> list[list[str]]:
    """Names of parameters by parameter."""
    groups: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return list(groups.values())


def _targets(adapters: Sequence[Adapter], model: nn.Module) -> dict[str, Target]:
    """Parameters that change."""
    owners = dict(model.named_modules())
    found: dict[str, Target] = {}
    for name in module_names(adapters):
        m = next(a.modules[name] for a in adapters if name in a.modules)
        owner = owners[m.place]
        key = f"{m.place}.{m.parameter or 'weight'}"
        weight = getattr(owner, m.parameter or "weight")
        require(weight.dim() <= 3, m.name, "a matrix, or a stack of matrices", f"{weight.dim()} dimensions")
        found.setdefault(key, Target(key, [], turned(owner, m))).modules.append(name)
    return found


def _untied(targets: Mapping[str, Target], model: nn.Module, untie: bool, notes: list[str]) -> bool:
    """Whether adapters act on weights that places share, which then need one each."""
    before = len(notes)
    for names in _shared(model):
        touched, others = ([n for n in names if (n in targets) == acts] for acts in (True, False))
        if len(names) < 2 or not touched:
            continue
        words = f"{' and '.join(touched)} {'share their' if len(touched) > 1 else 'shares its'} weight"
        if others:
            words += f" with {' and '.join(others)}, where the adapter does not act"
        else:
            words += ", and each has an update of its own"
        words += " (claim adapter_algebra)"
        require(untie, "base", "places with weights of their own (or --untie, which gives them some)", words)
        notes.append(f"untied: {words}; each has its own weight now")
    return len(notes) > before


def _freed(model: nn.Module, stored: Mapping[str, str]) -> dict[str, str]:
    """Parameters without a tensor of their own in the files -> key of the tensor that they share."""
    freed: dict[str, str] = {}
    for names in _shared(model):
        key = next((stored[n] for n in names if n in stored), None)
        freed |= {} if key is None else {n: key for n in names if n not in stored}
    return freed


class _Work:
    """Folds one tensor of the files after the other and keeps account."""

    def __init__(
        self,
        adapters: Sequence[Adapter],
        weights: Sequence[float],
        model: nn.Module,
        targets: dict[str, Target],
        names: dict[str, tuple[str, str | None]],
        dtype: torch.dtype | None,
    ) -> None:
        self.adapters, self.weights, self.model = adapters, weights, model
        self.targets, self.names, self.dtype = targets, names, dtype
        self.found: list[FoldedModule] = []
        self.dtypes: set[str] = set()
        self._slices: dict[str, torch.Tensor] = {}

    def check(self, freed: Mapping[str, str]) -> None:
        """Every parameter that changes has its tensors in the files."""
        held = {name for name, _ in self.names.values()} | set(freed)
        for target in self.targets.values():
            require(target.parameter in held, target.parameter, "a tensor in the base's files", "none")

    def format(self, dtype: torch.dtype) -> torch.dtype:
        """Of the tensor as it will be written."""
        return self.dtype if self.dtype is not None and dtype.is_floating_point else dtype

    def fold(self, key: str, parameter: str, pattern: str | None, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor as it will be written."""
        target = self.targets.get(parameter)
        form = self.format(tensor.dtype)
        if target is None:
            return tensor if tensor.dtype == form else _rounded(key, tensor, tensor, form)
        require(tensor.dtype in _FLOATS, key, "a floating-point weight (plain, not quantised)", str(tensor.dtype))
        self.dtypes.add(_FLOATS[form])
        if pattern is not None:
            return self._converted(key, target, tensor, form)
        wanted, found = tuple(self.model.get_parameter(parameter).shape), tuple(tensor.shape)
        require(found == wanted, f"base: {key}", f"the shape {wanted} that the configuration tells", found)
        made = tensor.to(_wide(tensor.dtype, form))
        made = made.clone() if made is tensor else made
        for name in target.modules:
            expert = self._module(name).expert
            place, before = (made[expert], tensor[expert]) if made.dim() == 3 else (made, tensor)
            self._add(name, target, place, before, form)
        return made.to(form)

    def _add(self, name: str, target: Target, place: torch.Tensor, before: torch.Tensor, form: torch.dtype) -> None:
        """Add the updates of one module in place, and hold what will be written of it against the parts."""
        parts = self._parts(name)
        for b, a, strength in parts:
            held = abs(strength) <= torch.finfo(place.dtype).max
            require(held, f"{name}: weights", "a weight times a scale that float32 holds", f"{strength:g}")
            left, right = (a.T, b.T) if target.transposed else (b, a)
            place.addmm_(left.to(place.dtype), right.to(place.dtype), alpha=strength)
        made = _rounded(name, place, before, form)
        self._measure(name, before, made, parts, target.transposed)

    def _module(self, name: str) -> Module:
        return next(a.modules[name] for a in self.adapters if name in a.modules)

    def _parts(self, name: str) -> list[tuple[torch.Tensor, torch.Tensor, float]]:
        parts = []
        for adapter, weight in zip(self.adapters, self.weights, strict=True):
            if name in adapter.modules and weight != 0.0:
                a, b = adapter.factors(name)
                parts.append((b, a, weight * adapter.modules[name].scale))
        return parts

    def _measure(
        self,
        name: str,
        before: torch.Tensor,
        after: torch.Tensor,
        parts: Sequence[tuple[torch.Tensor, torch.Tensor, float]],
        transposed: bool,
    ) -> None:
        """Outputs of some rows for random inputs, in float64, beside those of base and parts."""
        before, after = (x.T if transposed else x for x in (before, after))
        rng = stream(0, "fold", name)
        rows = torch.from_numpy(np.sort(rng.choice(before.shape[0], min(_ROWS, before.shape[0]), replace=False)))
        form = _FLOATS[after.dtype]
        x = torch.from_numpy(rng.standard_normal((before.shape[1], _INPUTS))).to(after.dtype).double().numpy()
        # a sum of updates is one update of stacked factors
        b = [p[rows].double().numpy() * s for p, _, s in parts] or [np.zeros((len(rows), 0))]
        a = [p.double().numpy() for _, p, _ in parts] or [np.zeros((0, before.shape[1]))]
        update = LowRank(np.hstack(b), np.vstack(a))
        base = before[rows].double().numpy()
        require(bool(np.isfinite(base).all()), f"base: {name}", "finite weights", "nan or inf")
        outputs = after[rows].double().numpy() @ x
        off = np.abs(outputs - (base @ x + update.apply(x)))
        bound, likely = (b(base, update, x, form) for b in (merge_rounding_bound, likely_rounding_bound))
        worst = np.unravel_index(int(np.argmax(off / np.maximum(bound, np.finfo(float).tiny))), off.shape)
        self.found.append(FoldedModule(name, *(float(v[worst]) for v in (off, bound, likely, np.abs(outputs)))))

    def _converted(self, key: str, target: Target, tensor: torch.Tensor, form: torch.dtype) -> torch.Tensor:
        """A tensor of the files that is part of a parameter of the model: transformers' conversion, backwards."""
        wide = _wide(tensor.dtype, form)
        if key not in self._slices:
            from transformers.core_model_loading import revert_weight_conversion

            shape = self.model.get_parameter(target.parameter).shape
            delta = torch.zeros(shape, dtype=wide)
            for name in target.modules:
                place = delta[self._module(name).expert] if delta.dim() == 3 else delta
                self._add(name, target, place, torch.zeros_like(place), wide)
            model: Any = self.model
            self._slices |= revert_weight_conversion(model, {target.parameter: delta})
        require(key in self._slices, key, "a tensor that transformers can compute from the model's", "another")
        part = self._slices.pop(key)
        require(part.shape == tensor.shape, key, f"shape {tuple(part.shape)}", tuple(tensor.shape))
        made = _rounded(key, tensor.to(wide) + part, tensor, form)
        # one rounding to the format and one of the sum, entry by entry, summed up over inputs of size 1
        rows = slice(0, min(_ROWS, tensor.shape[0]))
        base, change, now = (x[rows].double() for x in (tensor, part, made))
        off = (now - (base + change)).abs().sum(-1)
        unit, tiny = FORMATS[_FLOATS[form]]
        summed = 2 * FORMATS[_FLOATS[wide]][0] * (base.abs() + change.abs())
        bound = (unit * now.abs() / (1 - unit) + summed + tiny).sum(-1)
        worst = int((off / bound).argmax())
        size = now.abs().sum(-1)
        self.found.append(FoldedModule(key, *(float(v[worst]) for v in (off, bound, bound, size))))
        return made


def _wide(dtype: torch.dtype, form: torch.dtype) -> torch.dtype:
    """What a weight is summed up in."""
    return torch.float64 if torch.float64 in (dtype, form) else torch.float32


def _rounded(name: str, tensor: torch.Tensor, before: torch.Tensor, form: torch.dtype) -> torch.Tensor:
    """A tensor in its format, finite wherever it was `before`."""
    made = tensor.to(form)
    room = torch.equal(torch.isfinite(made), torch.isfinite(before))
    require(room, f"{name}: dtype", "a format with room for the weights", f"{_FLOATS[form]}, which overflows")
    return made


def _write(folder: Path, checkpoint: Checkpoint, work: _Work, freed: Mapping[str, str]) -> None:
    """All files of weights, and their index."""
    from safetensors import safe_open

    total = 0
    where: dict[str, str] = {}
    for path in checkpoint.files:
        keys = [k for k, p in checkpoint.place.items() if p == path]
        extra = [(new, old) for new, old in freed.items() if checkpoint.place[old] == path]
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            layout = {}
            for key, source in [*((k, k) for k in keys), *extra]:
                part = handle.get_slice(source)
                dtype = _dtype(part.get_dtype(), source)
                layout[key] = (work.format(dtype), tuple(part.get_shape()))
            writer = Writer(folder / path.name, layout)
            try:
                for key, tensor in _tensors(path, [*((k, k) for k in keys), *extra]):
                    parameter, pattern = work.names.get(key, (key, None))
                    writer.add(key, work.fold(key, parameter, pattern, tensor))
            finally:
                writer.close()
        total += writer.size
        where |= dict.fromkeys(layout, path.name)
    if checkpoint.index is not None:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
        (folder / checkpoint.index).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _tensors(path: Path, keys: Sequence[tuple[str, str]]) -> Iterator[tuple[str, torch.Tensor]]:
    """One after the other; the file is let go of now and then, with the pages of it that are mapped."""
    from safetensors import safe_open

    for start in range(0, len(keys), 8):
        with safe_open(str(path), framework="pt", device="cpu") as handle:
            for key, source in keys[start : start + 8]:
                yield key, handle.get_tensor(source)


def _dtype(code: str, key: str) -> torch.dtype:
    found = {v: k for k, v in CODES.items()}.get(code)
    require(found is not None, f"base: {key}", "a plain format (fold into the model that was quantised)", code)
    assert found is not None
    return found


def _copy(source: Path, target: Path) -> None:
    """Files beside the weights, and folders where transformers looks for templates and further tokenizers."""
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.name.endswith(_WEIGHTS):
            continue
        if path.is_file():
            shutil.copyfile(path, target / path.name)
        elif path.name == TEMPLATES or _tokenizer(path):
            (target / path.name).mkdir()
            _copy(path, target / path.name)


def _tokenizer(folder: Path) -> bool:
    """A tokenizer alone: beside weights it is that of a checkpoint."""
    names = [p.name for p in folder.glob("*")]  # none of a folder that cannot be read
    return "tokenizer_config.json" in names and not any(n.endswith(_WEIGHTS) for n in names)


def _take_along(source: Path, target: Path, config: dict[str, Any], dtype: str | None, untied: bool) -> None:
    """Configuration, tokenizer and what else lies beside the weights."""
    _copy(source, target)
    for part in (config, *(v for v in config.values() if isinstance(v, dict))):
        if dtype is not None:
            part |= {k: dtype for k in ("dtype", "torch_dtype") if k in part}
        if untied and part.get("tie_word_embeddings", part is config):
            part["tie_word_embeddings"] = False
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _card(report: FoldReport, base: str | os.PathLike[str]) -> str:
    terms = " + ".join(f"{w:g} x {n}" for w, n in zip(report.weights, report.adapters, strict=True))
    worst = report.tightest
    return (
        f"---\nlibrary_name: transformers\n---\n\nFolded by lora-limits: {Path(base).name} + {terms}\n\n"
        f"Outputs differ from those of base and adapters by at most {worst} ({worst.name}).\n"
    )
