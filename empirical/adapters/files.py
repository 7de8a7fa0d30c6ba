"""LoRA adapters on disk, as peft saves them: a strict reader and a writer that leaves a whole folder or none.

The reader takes plain LoRA on linear layers and embeddings, and nothing else: every configuration field that is not
known to leave the update ``s B A`` as it is, and every tensor that is not a factor, is refused in one line. Factors are
read one module at a time, so an adapter is never in memory as a whole unless it came as a pickle.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import real, require

CONFIG, SAFE, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
#: formats of factors that are read; float64 is kept, the others are exact in float64
DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
_PART = r"[A-Za-z0-9_\-]+"
_FACTOR = re.compile(
    rf"base_model\.model\.(?P<module>{_PART}(?:\.{_PART})*)\.(?P<factor>lora_[AB]\.weight|lora_embedding_[AB])"
)
_COPY = re.compile(rf"base_model\.model\.(?P<module>{_PART}(?:\.{_PART})*?)(?:\.base_layer)?\.(?:weight|bias)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
#: largest configuration file that is read, bytes
_CONFIG_LIMIT = 1 << 22

# ---------------------------------------------------------------- configuration


def _off(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []


def _plain_start(value: Any) -> bool:
    """Initialisations that leave the base weights alone."""
    return value is True or value is False or value in ("gaussian", "eva", "orthogonal")


def _any(value: Any) -> bool:
    return True


_TEXT: Callable[[Any], bool] = lambda v: v is None or isinstance(v, str)  # noqa: E731

#: fields that do not change the update, or whose effect is accounted for -> which values; everything else must be off
NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda v: v == "LORA",
    "task_type": _TEXT,
    "peft_version": _TEXT,
    "auto_mapping": _any,
    "base_model_name_or_path": _TEXT,
    "revision": _TEXT,
    "inference_mode": lambda v: isinstance(v, bool),
    "r": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 1,
    "lora_alpha": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v),
    "lora_dropout": lambda v: isinstance(v, (int, float)) and 0 <= v < 1,
    "fan_in_fan_out": lambda v: isinstance(v, bool),
    "bias": lambda v: v == "none",
    "use_rslora": lambda v: isinstance(v, bool),
    "init_lora_weights": _plain_start,
    "target_modules": lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(x, str) for x in v)),
    "exclude_modules": lambda v: v is None or isinstance(v, str) or all(isinstance(x, str) for x in v),
    "layers_to_transform": lambda v: v is None or isinstance(v, int) or all(isinstance(x, int) for x in v),
    "layers_pattern": lambda v: v is None or isinstance(v, str) or all(isinstance(x, str) for x in v),
    "rank_pattern": lambda v: v is None or (isinstance(v, dict) and all(_rank(x) for x in v.values())),
    "alpha_pattern": lambda v: v is None or (isinstance(v, dict) and all(_number(x) for x in v.values())),
    "megatron_core": _TEXT,
    "qalora_group_size": _any,  # read only where use_qalora is on, which is refused
    "eva_config": _any,  # how the training started; the ranks it chose are in rank_pattern
    "corda_config": _any,  # the same: the initialisations that change the base are refused by init_lora_weights
    "lora_ga_config": _any,
    "runtime_config": _any,
}
#: what an active field means, for the refusal
_REASONS = {
    "peft_type": "only LoRA adapters are read",
    "bias": "biases were trained, and a sum of biases is no LoRA update",
    "lora_bias": "a bias inside the adapter is no part of B A",
    "use_dora": "DoRA rescales the merged weight, so updates do not add",
    "modules_to_save": "whole modules were retrained, and they replace the base's instead of adding to it",
    "trainable_token_indices": "rows of the embedding were replaced, not added to",
    "target_parameters": "it adapts bare parameters, not modules",
    "layer_replication": "it changes the stack of layers",
    "alora_invocation_tokens": "the adapter acts on part of the tokens only",
    "init_lora_weights": "this initialisation changes the base weights (save it as converted first)",
    "loftq_config": "the base weights were quantised for it",
    "use_qalora": "its factors act on pooled inputs",
    "kasa_config": "it changes the base weights",
    "use_bdlora": "its factors are block-diagonal",
    "monteclora_config": "it samples its weights",
    "arrow_config": "it is a router, not an update",
    "ensure_weight_tying": "one pair of factors acts at two places",
    "velora_config": "it is not known to be neutral",
    "megatron_config": "its layers are split over devices",
}


def _rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [k for k, _ in pairs]
    require(len(set(keys)) == len(keys), "configuration", "every key once", "a key twice")
    return dict(pairs)


def _read_config(path: Path, name: str) -> dict[str, Any]:
    try:
        require(path.stat().st_size <= _CONFIG_LIMIT, name, f"{CONFIG} of at most 4 MiB", "a larger one")
        raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_twins)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: expected readable JSON in {CONFIG}, got {_brief(error)}") from error
    require(isinstance(raw, dict), name, f"an object in {CONFIG}", type(raw).__name__)
    return raw


def _brief(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}{': ' + text[0][:160] if text else ''}"


def check_config(raw: Mapping[str, Any], name: str) -> None:
    """Refuse every field that could make the update something else than ``s B A``.

    Raises:
        ValueError: one line: adapter, field, what was expected and why.
    """
    require("peft_type" in raw, name, f"peft_type LORA in {CONFIG}", "none")
    for key, value in raw.items():
        allowed = NEUTRAL.get(key, _off)
        try:
            fine = allowed(value)
        except TypeError:
            fine = False
        if fine or (key == "loftq_config" and _off(value)):
            continue
        reason = _REASONS.get(key, "it is not known to be neutral")
        shown = json.dumps(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        expected = "off" if key not in NEUTRAL else "another value"
        raise ValueError(f"{name}: {key}: expected {expected}, because {reason}; got {shown}")


def lora_config(raw: Mapping[str, Any], name: str) -> Any:
    """peft's own ``LoraConfig`` of these fields; unknown ones that are off are left out."""
    import dataclasses

    from peft import LoraConfig

    known = {f.name for f in dataclasses.fields(LoraConfig) if f.init} - {"runtime_config"}
    given = {k: v for k, v in raw.items() if k in known and not (k in ("rank_pattern", "alpha_pattern") and v is None)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft says which sub-configurations it ignores, as we do
            return LoraConfig(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a configuration that peft accepts, got {_brief(error)}") from error


# ---------------------------------------------------------------- adapters


@dataclass(frozen=True)
class Module:
    """One adapted module: what its factors are, without them.

    `out` and `inner` are the sizes of B (out x r) and A (r x in). For an embedding `inner` counts tokens and `out` is
    the width, so that an update always reads its row space and writes its column space.
    """

    name: str
    kind: Literal["linear", "embedding"]
    out: int
    inner: int
    r: int
    scale: float
    dtype: str
    keys: tuple[str, str]


@dataclass
class Adapter:
    """An adapter on disk: configuration and modules; :meth:`update` reads the factors of one.

    Attributes:
        name: how it was called on the command line, without its parent folders.
        raw: the configuration as written; `config`: peft's object of it.
        modules: by name, in the order of the file.
        copies: tensors that peft saved along: the weights of adapted embeddings and their heads, unchanged copies
            of the base as a rule.
    """

    name: str
    path: Path
    raw: dict[str, Any]
    config: Any
    modules: dict[str, Module] = field(default_factory=dict)
    copies: tuple[str, ...] = ()
    _loaded: dict[str, torch.Tensor] | None = None
    _handle: Any = None

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor of the file."""
        if self._loaded is not None:
            return self._loaded[key]
        if self._handle is None:
            from safetensors import safe_open

            self._handle = safe_open(str(self.path / SAFE), framework="pt", device="cpu")
        tensor: torch.Tensor = self._handle.get_tensor(key)
        return tensor

    def factors(self, module: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, B) of one module as they are stored, checked to be finite.

        Raises:
            ValueError: a factor holds nan or inf.
        """
        a, b = (self.tensor(k) for k in self.modules[module].keys)
        for key, tensor in zip(self.modules[module].keys, (a, b), strict=True):
            require(bool(torch.isfinite(tensor).all()), f"{self.name}: {key}", "finite entries", "nan or inf")
        return a, b

    def update(self, module: str) -> LowRank:
        """The update of one module in float64, out x in."""
        a, b = self.factors(module)
        return LowRank(b.double().numpy(), a.double().numpy(), self.modules[module].scale)

    def close(self) -> None:
        """Let go of the file."""
        self._handle = None


def locate(where: str | os.PathLike[str]) -> Path:
    """The folder of an adapter: a local one, or a hub id that a hub can be asked for.

    Raises:
        ValueError: neither.
    """
    path = Path(where)
    if path.is_dir():
        return path
    text = str(where)
    require(not path.exists(), text, "an adapter folder", "a file")
    require(
        bool(_HUB_ID.fullmatch(text)) and ".." not in text, text, "an adapter folder or a hub id owner/name", "none"
    )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(text, allow_patterns=[CONFIG, SAFE, PICKLE]))
    except Exception as error:  # every way in which a hub can fail
        raise ValueError(f"{text}: expected a folder or a hub id that can be reached, got {_brief(error)}") from error


def _header(path: Path, name: str) -> tuple[dict[str, tuple[tuple[int, ...], torch.dtype]], dict[str, Any] | None]:
    """Shapes and formats by key; for a pickle also the tensors, which were all read."""
    safe, pickle = path / SAFE, path / PICKLE
    require(safe.is_file() or pickle.is_file(), name, f"{SAFE} or {PICKLE}", "neither")
    if safe.is_file():
        from safetensors import SafetensorError, safe_open

        named = {v: k for k, v in _SAFE_DTYPES.items()}
        try:
            with safe_open(str(safe), framework="pt", device="cpu") as handle:
                slices = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118
                return {
                    k: (tuple(s.get_shape()), named.get(s.get_dtype(), torch.uint8)) for k, s in slices.items()
                }, None
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{name}: expected a whole {SAFE}, got {_brief(error)}") from error
    try:
        loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle can fail in any way; with weights_only it cannot run code
        raise ValueError(f"{name}: expected plain tensors in {PICKLE}, got {_brief(error)}") from error
    require(isinstance(loaded, dict), name, f"a table of tensors in {PICKLE}", type(loaded).__name__)
    for key, value in loaded.items():
        plain = isinstance(key, str) and type(value) in (torch.Tensor, torch.nn.Parameter)
        require(plain and value.layout == torch.strided, name, "tensors by name", f"{key!r}: {type(value).__name__}")
    tensors = {k: v.detach() for k, v in loaded.items()}
    return {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}, tensors


_SAFE_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def read_adapter(where: str | os.PathLike[str]) -> Adapter:
    """Open an adapter folder, check all of it but the numbers, and describe its modules.

    Raises:
        ValueError: in one line: what cannot be read, or what is in it that is no plain LoRA.
    """
    path = locate(where)
    name = path.name if Path(where).is_dir() else str(where)
    name = name or path.resolve().name
    require((path / CONFIG).is_file(), name, f"{CONFIG} in the folder", "none")
    raw = _read_config(path / CONFIG, name)
    check_config(raw, name)
    header, loaded = _header(path, name)
    config = lora_config(raw, name)
    adapter = Adapter(name, path, raw, config, _loaded=loaded)
    pairs: dict[str, dict[str, str]] = {}
    copies = []
    for key in header:
        found = _FACTOR.fullmatch(key)
        if found:
            factor = found["factor"].removesuffix(".weight").replace("lora_", "")
            pairs.setdefault(found["module"], {})[factor] = key
            continue
        require(
            ".lora_" not in key and bool(_COPY.fullmatch(key)), name, "factors lora_A and lora_B only", repr(key)[:120]
        )
        copies.append(key)
    require(bool(pairs), name, "at least one adapted module", "none")
    for module, found_keys in pairs.items():
        adapter.modules[module] = _module(adapter, module, found_keys, header)
    for key in copies:
        found = _COPY.fullmatch(key)
        assert found is not None
        require(
            "embedding" in {m.kind for m in adapter.modules.values()} or ".base_layer." in key,
            f"{name}: {key}", "factors only", "a weight, and no embedding is adapted",
        )  # fmt: skip
    adapter.copies = tuple(copies)
    return adapter


def _module(
    adapter: Adapter, module: str, keys: Mapping[str, str], header: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
) -> Module:
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    where = f"{adapter.name}: {module}"
    kind: Literal["linear", "embedding"] = "linear" if set(keys) == {"A", "B"} else "embedding"
    whole = set(keys) in ({"A", "B"}, {"embedding_A", "embedding_B"})
    require(whole, where, "both factors, A and B", ", ".join(sorted(keys)))
    pair = (keys["A"], keys["B"]) if kind == "linear" else (keys["embedding_A"], keys["embedding_B"])
    for key in pair:
        shape, dtype = header[key]
        require(dtype in DTYPES, where, "factors in float16, bfloat16, float32 or float64", f"another format in {key}")
        require(len(shape) == 2, where, "factors that are matrices (no convolutions)", f"shape {shape}")
        require(0 not in shape, where, "rank and sizes of at least 1", f"shape {shape} of {key}")
    (r, inner), (out, columns) = header[pair[0]][0], header[pair[1]][0]
    require(r == columns, where, f"B with {r} columns, as A has rows", f"{columns} columns")
    config = adapter.config
    try:
        wanted = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), module), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), module), config.lora_alpha)
        targeted = check_target_module_exists(config, module)
    except (re.error, TypeError, ValueError) as error:
        raise ValueError(f"{adapter.name}: expected patterns that peft can match, got {_brief(error)}") from error
    require(bool(targeted), where, "a module that the configuration targets", "one that peft would not load")
    require(r == wanted, where, f"rank {wanted}, as the configuration says", f"rank {r}")
    a_type, b_type = DTYPES[header[pair[0]][1]], DTYPES[header[pair[1]][1]]
    scale = adapter_scale(alpha, r, bool(config.use_rslora))
    return Module(module, kind, out, inner, r, scale, a_type if a_type == b_type else "mixed", pair)


def read_all(paths: Iterable[str | os.PathLike[str]], same_base: bool = False) -> list[Adapter]:
    """Open several adapters and check that they belong together.

    Args:
        paths: folders or hub ids.
        same_base: take bases of different names for one and the same.

    Raises:
        ValueError: as :func:`read_adapter`; no paths; different bases; one module with different sizes.
    """
    adapters = [read_adapter(p) for p in paths]
    require(len(adapters) > 0, "adapters", "at least one folder", "none")
    names = [a.name for a in adapters]
    for i, adapter in enumerate(adapters):
        if names.count(adapter.name) > 1:  # two folders of one name: tell them apart by number
            adapter.name = f"{adapter.name}#{names[: i + 1].count(names[i])}"
    if not same_base:
        for key in ("base_model_name_or_path", "revision"):
            said = {a.raw.get(key) for a in adapters} - {None, ""}
            require(
                len(said) <= 1, "adapters", f"one {key} (--same-base if these are the same)",
                " and ".join(sorted(str(s) for s in said)),
            )  # fmt: skip
    seen: dict[str, tuple[Module, str]] = {}
    for adapter in adapters:
        for module in adapter.modules.values():
            first, owner = seen.setdefault(module.name, (module, adapter.name))
            same = (first.out, first.inner, first.kind) == (module.out, module.inner, module.kind)
            got = f"{module.kind} {module.out} x {module.inner} in {adapter.name}"
            require(same, module.name, f"{first.kind} {first.out} x {first.inner}, as in {owner}", got)
    return adapters


def check_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    """One finite weight per adapter, by default 1 each.

    Raises:
        ValueError: another number of weights, or one that is not finite.
    """
    if weights is None:
        return [1.0] * count
    require(len(weights) == count, "weights", f"{count} numbers, one per adapter", len(weights))
    return [real(w, "weights") for w in weights]


def module_names(adapters: Iterable[Adapter]) -> list[str]:
    """All modules that some adapter touches, in order of first appearance."""
    return list(dict.fromkeys(name for a in adapters for name in a.modules))


# ---------------------------------------------------------------- writing


def pattern(module: str) -> str:
    """A key of rank_pattern or alpha_pattern that peft matches with this module and no other."""
    return "^" + re.escape(module)


def _is_adapter(path: Path) -> bool:
    return (path / CONFIG).is_file()


def check_output(target: Path, inputs: Iterable[Path], force: bool) -> None:
    """Refuse an output that would overwrite something that it should not.

    Raises:
        ValueError: it exists (without `force`, or it is no adapter folder), it is one of the inputs, or its parent
            folder is missing.
    """
    parent = target.resolve().parent
    require(target.name not in ("", ".", ".."), "output", "a folder name", repr(str(target)))
    require(parent.is_dir(), "output", "an existing parent folder", str(target.parent))
    require(not target.is_symlink(), "output", "a folder, not a link", str(target))
    if target.exists():
        require(force, "output", "a new folder (or --force)", f"{target}, which exists")
        require(target.is_dir() and _is_adapter(target), "output", "an adapter folder to overwrite", str(target))
        clash = any(target.resolve() == i.resolve() for i in inputs)
        require(not clash, "output", "another folder than the adapters", str(target))


class Draft:
    """A folder that is being written beside its place: :meth:`publish` moves it there, leaving the block drops it."""

    def __init__(self, target: Path) -> None:
        self.target = target.resolve()
        self.folder = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.", dir=self.target.parent))
        self.folder.chmod(0o755)

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> None:
        """Into place in one step; an old folder stands aside until then and comes back if the step fails."""
        if not self.target.exists():
            self.folder.rename(self.target)
            return
        aside = Path(tempfile.mkdtemp(prefix=f".{self.target.name}.old.", dir=self.target.parent)) / "folder"
        self.target.rename(aside)
        try:
            self.folder.rename(self.target)
        except OSError:
            aside.rename(self.target)
            raise
        finally:
            shutil.rmtree(aside.parent, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Whole or not at all.

    Raises:
        ValueError: the folder does not exist or cannot be written.
    """
    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.resolve().parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                out.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ValueError(f"output: expected a file that can be written, got {error.strerror}: {path}") from error


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], card: str) -> None:
    """Configuration, weights and a short README of an adapter into an existing folder."""
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in tensors.items()}, str(folder / SAFE), metadata={"format": "pt"})
    (folder / SAFE).chmod(0o644)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def factor_keys(module: Module) -> tuple[str, str]:
    """Names of A and B in the file."""
    stem = f"base_model.model.{module.name}."
    if module.kind == "embedding":
        return stem + "lora_embedding_A", stem + "lora_embedding_B"
    return stem + "lora_A.weight", stem + "lora_B.weight"
