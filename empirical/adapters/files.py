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
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch

from empirical.adapters.checkpoint import brief, unreadable
from empirical.adapters.names import PREFIX, converted, doubtful, factor, module_name, said_base
from theory.adapters import adapter_scale
from theory.lowrank import LowRank
from theory.numerics import real, require

if TYPE_CHECKING:
    from pydantic import JsonValue

CONFIG, SAFE, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
#: folder of a model in which transformers keeps chat templates
TEMPLATES = "additional_chat_templates"
#: formats of factors that are read; float64 is kept, the others are exact in float64
DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
#: names of formats in safetensors
CODES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_COPY = re.compile(r"(?P<module>[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]+)*?)(?:\.base_layer)?\.(?:weight|bias)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*")
#: largest configuration file that is read, bytes
_CONFIG_LIMIT = 1 << 22

# ---------------------------------------------------------------- configuration


class _Allowed(NamedTuple):
    """Values of a field that leave the update ``s B A`` as it is, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


def _off(value: Any) -> bool:
    return value is None or value is False or value == {} or value == []


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _rank(value: Any) -> bool:
    return _number(value) and value >= 1 and float(value).is_integer()


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, str) for x in value)


def _chosen(value: Any) -> bool:
    return value is None or isinstance(value, str) or _names(value)


def _by_name(what: str, fits: Callable[[Any], bool]) -> _Allowed:
    return _Allowed(f"{what} by name", lambda v: _off(v) or (isinstance(v, dict) and all(fits(x) for x in v.values())))


_ANY = _Allowed("anything", lambda v: True)
_TEXT = _Allowed("text or null", lambda v: v is None or isinstance(v, str))
_SWITCH = _Allowed("true or false", lambda v: v in (True, False))
_SOME = _Allowed("a name, or a list of names", _chosen)

#: fields that do not change the update, or whose effect is accounted for -> which values; everything else must be off
NEUTRAL: dict[str, _Allowed] = {
    "peft_type": _Allowed("LORA (no other adapters are read)", lambda v: v == "LORA"),
    "task_type": _TEXT,
    "peft_version": _TEXT,
    "auto_mapping": _ANY,
    "base_model_name_or_path": _TEXT,
    "revision": _TEXT,
    "inference_mode": _SWITCH,
    "r": _Allowed("an integer of at least 1", _rank),
    "lora_alpha": _Allowed("a finite number", _number),
    "lora_dropout": _Allowed("a share of at most 1", lambda v: _number(v) and 0 <= v <= 1),
    "target_parameters": _Allowed("a list of names", lambda v: v is None or _names(v)),
    "fan_in_fan_out": _SWITCH,
    "bias": _Allowed(
        '"none" (trained biases are in no update s B A; peft\'s merge_and_unload folds them)', lambda v: v == "none"
    ),
    "use_rslora": _SWITCH,
    "init_lora_weights": _Allowed(
        "true, false, gaussian, eva or orthogonal (others change the base weights: save with "
        "path_initial_model_for_weight_conversion)",
        lambda v: v in (True, False, "gaussian", "eva", "orthogonal"),
    ),
    "target_modules": _Allowed(
        "a list of names, or a pattern (as the adapter was trained)", lambda v: v is not None and _chosen(v)
    ),
    "exclude_modules": _SOME,
    "layers_to_transform": _Allowed(
        "a number, or a list of numbers",
        lambda v: v is None or isinstance(v, int) or all(isinstance(x, int) for x in v),
    ),
    "layers_pattern": _SOME,
    "rank_pattern": _by_name("integers of at least 1", _rank),
    "alpha_pattern": _by_name("finite numbers", _number),
    "megatron_core": _TEXT,
    "qalora_group_size": _ANY,  # read only where use_qalora is on, which is refused
    "eva_config": _ANY,  # how the training started; the ranks it chose are in rank_pattern
    "corda_config": _ANY,  # the same: the initialisations that change the base are refused by init_lora_weights
    "lora_ga_config": _ANY,
    "runtime_config": _ANY,
    "merge_weights": _SWITCH,  # of peft 0.2: whether the base holds the update while it answers
    "lora_dtype": _TEXT,  # of ms-swift: the format it was trained in, and rates of learning
    "lorap_lr_ratio": _ANY,
    "lorap_emb_lr": _ANY,
}
#: fields that other tools write as null where peft's default is meant
_DEFAULTED = (
    "lora_dropout", "fan_in_fan_out", "bias", "use_rslora", "init_lora_weights", "inference_mode",
    "qalora_group_size", "use_dora", "lora_bias", "use_qalora",
)  # fmt: skip
#: fields that must be off -> what they mean and what to do
_REASONS = {
    "lora_bias": "a bias inside the adapter is no part of B A",
    "use_dora": "DoRA rescales the merged weight, so updates do not add (fold each with peft's merge_and_unload)",
    "modules_to_save": "whole modules were retrained, which replace the base's (peft's merge_and_unload folds them)",
    "trainable_token_indices": "rows of the embedding were replaced, not added to",
    "layer_replication": "it changes the stack of layers",
    "alora_invocation_tokens": "the adapter acts on part of the tokens only",
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


def _no_twins(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    keys = [k for k, _ in pairs]
    require(len(set(keys)) == len(keys), "configuration", "every key once", "a key twice")
    return dict(pairs)


def _read_config(path: Path, name: str) -> dict[str, JsonValue]:
    try:
        require(path.stat().st_size <= _CONFIG_LIMIT, name, f"{CONFIG} of at most 4 MiB", "a larger one")
        text = path.read_text(encoding="utf-8-sig")  # editors put a mark before it
        raw: dict[str, JsonValue] = json.loads(text, object_pairs_hook=_no_twins)
    except (OSError, ValueError, RecursionError) as error:  # no JSON, no text, a number of ten thousand digits
        raise ValueError(f"{name}: expected readable JSON in {CONFIG}, got {brief(error)}") from error
    require(isinstance(raw, dict), name, f"an object in {CONFIG}", type(raw).__name__)
    return raw


def _switched_off(key: str) -> _Allowed:
    if key in _REASONS:
        return _Allowed(f"off, because {_REASONS[key]}", lambda v: not v)
    return _Allowed("off, because it is not known to leave s B A as it is (null, if it does)", _off)


def check_config(raw: Mapping[str, Any], name: str) -> None:
    """Refuse every field that could make the update something else than ``s B A``.

    Raises:
        ValueError: one line: adapter, field, what was expected and why.
    """
    for key, value in ({"peft_type": None, "target_modules": None} | dict(raw)).items():
        if value is None and (key in _DEFAULTED or (key == "target_modules" and raw.get("target_parameters"))):
            continue  # peft's default is meant
        allowed = NEUTRAL.get(key) or _switched_off(key)
        try:
            fine = allowed.fits(value)
        except (TypeError, OverflowError):  # not to be counted, or larger than any float
            fine = False
        shown = "none" if value is None else json.dumps(value)
        require(fine, f"{name}: {key}", allowed.words, shown if len(shown) <= 60 else shown[:57] + "...")


def lora_config(raw: Mapping[str, Any], name: str) -> Any:
    """peft's own ``LoraConfig`` of these fields; unknown ones that are off are left out."""
    import dataclasses

    from peft import LoraConfig

    known = {f.name for f in dataclasses.fields(LoraConfig) if f.init} - {"runtime_config"}
    given = {k: v for k, v in raw.items() if k in known and not (k in _DEFAULTED and v is None)}
    ranks = {n: int(r) for n, r in (raw.get("rank_pattern") or {}).items()}  # 4.0 is 4, which torch would not take
    given |= {"rank_pattern": ranks, "alpha_pattern": raw.get("alpha_pattern") or {}}
    if "r" in raw:
        given["r"] = int(raw["r"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft says which sub-configurations it ignores, as we do
            return LoraConfig(**given)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected a configuration that peft accepts, got {brief(error)}") from error


# ---------------------------------------------------------------- adapters


@dataclass(frozen=True)
class Module:
    """One adapted module: what its factors are, without them.

    `out` and `inner` are the sizes of B (out x r) and A (r x in). For an embedding `inner` counts tokens and `out` is
    the width, so that an update always reads its row space and writes its column space.

    A bare parameter (``target_parameters``) has `parameter`, its name, and where it holds a stack of experts each of
    the `experts` is a module of its own, number `expert`; `nest` is how many of peft's wrappers lie around it.
    """

    name: str
    kind: Literal["linear", "embedding"]
    out: int
    inner: int
    r: int
    scale: float
    dtype: str
    keys: tuple[str, str]
    place: str = ""
    parameter: str | None = None
    expert: int = 0
    experts: int = 1
    nest: int = 0


class Entry(NamedTuple):
    """A tensor of a file: shape, format (uint8 where it is none of those read) and the byte where it starts."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    place: int = 0


@dataclass
class Adapter:
    """An adapter on disk: configuration and modules; :meth:`update` reads the factors of one.

    Attributes:
        name: how it was called on the command line, with as many parent folders as tell it from the others.
        raw: the configuration as written; `config`: peft's object of it.
        modules: by name, in the order of the file.
        copies: tensors that peft saved along: the weights of embeddings and heads, unchanged copies of the base's as a
            rule. Name as peft saves it -> key in the file.
        notes: what was taken otherwise than it is written.
    """

    name: str
    path: Path
    raw: dict[str, JsonValue]
    config: Any
    modules: dict[str, Module] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _header: dict[str, Entry] = field(default_factory=dict)
    _factors: dict[str, str] = field(default_factory=dict)
    _loaded: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def said(self) -> list[str]:
        """The notes, and what else lies in the file."""
        along = ", ".join(key.removeprefix(PREFIX) for key in self.copies)
        return [*self.notes, *([f"{self.name}: {along} in the file, taken for the base's own"] if along else [])]

    def tensor(self, key: str) -> torch.Tensor:
        """One tensor of the file, read into memory of its own: a map of the file would stay there as a whole."""
        if key in self._loaded:
            return self._loaded[key]
        shape, dtype, place = self._header[key]
        if dtype not in DTYPES:
            from safetensors import safe_open

            with safe_open(str(self.path / SAFE), framework="pt", device="cpu") as handle:
                tensor: torch.Tensor = handle.get_tensor(key)
            return tensor
        raw = np.fromfile(self.path / SAFE, np.uint8, dtype.itemsize * math.prod(shape), offset=place)
        return torch.from_numpy(raw).view(dtype).reshape(shape)

    def stored(self, module: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, B) of one module as they are stored, whatever their numbers are."""
        m = self.modules[module]
        a, b = (self.tensor(k) for k in m.keys)
        if m.experts > 1:  # peft stacks the rows of A by expert, and the columns of B by rank
            a = a.reshape(m.experts, m.r, m.inner)[m.expert]
            b = b.reshape(m.out, m.r, m.experts)[..., m.expert]
        return a, b

    def factors(self, module: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(A, B) of one module as they are stored, checked to be finite.

        Raises:
            ValueError: a factor holds nan or inf.
        """
        a, b = self.stored(module)
        for key, tensor in zip(self.modules[module].keys, (a, b), strict=True):
            finite = bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all())
            require(
                finite,
                f"{self.name}: {key}",
                "finite entries",
                "nan or inf (diverged in training: take an earlier one)",
            )
        return a, b

    def update(self, module: str) -> LowRank:
        """The update of one module in float64, out x in."""
        a, b = self.factors(module)
        return LowRank(b.double().numpy(), a.double().numpy(), self.modules[module].scale)


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
        raise ValueError(f"{text}: expected a folder or a hub id that can be reached, got {brief(error)}") from error


def adapters_below(folder: Path) -> list[Path]:
    """Folders inside, at most two deep, that hold an adapter."""
    # what is hidden was put there by a tool: copies of an editor, drafts
    found = {p.parent for depth in ("[!.]*", "[!.]*/[!.]*") for p in folder.glob(f"{depth}/{CONFIG}")}
    return sorted(found, key=lambda p: natural(str(p)))


def expanded(paths: Iterable[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """A folder that is no adapter and holds several stands for all of them."""
    found: list[str | os.PathLike[str]] = []
    for path in paths:
        folder = Path(path)
        below = adapters_below(folder) if folder.is_dir() and not (folder / CONFIG).is_file() else []
        found += below if len(below) > 1 else [path]
    return found


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key that puts layer 10 after layer 9."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", name)]


def _called(path: Path) -> tuple[str, ...]:
    """Names for an adapter's folder, the shortest first; the hub's cache says owner and repository."""
    parts = path.absolute().parts
    for i, part in enumerate(parts):
        if part.startswith("models--") and parts[i + 1 : i + 2] == ("snapshots",) and len(parts) > i + 2:
            below = "/".join(parts[i + 3 :])
            name = part.removeprefix("models--").replace("--", "/") + (f"/{below}" if below else "")
            return name, f"{name}@{parts[i + 2][:8]}", f"{name}@{parts[i + 2]}"
    return tuple("/".join(parts[i:]).replace("//", "/") for i in range(len(parts) - 1, -1, -1))


def _tell_apart(adapters: Sequence[Adapter], given: Sequence[str | os.PathLike[str]]) -> None:
    """The shortest names that differ; the same folder given twice is numbered."""
    options = [_called(a.path) if Path(w).is_dir() else (a.name,) for a, w in zip(adapters, given, strict=True)]
    level = [0] * len(adapters)

    def names() -> list[str]:
        return [o[k] for o, k in zip(options, level, strict=True)]

    while True:
        now = names()
        grow = [i for i, n in enumerate(now) if now.count(n) > 1 and level[i] + 1 < len(options[i])]
        if not grow:
            break
        for i in grow:
            level[i] += 1
    final = names()
    for i, adapter in enumerate(adapters):
        twice = final.count(final[i]) > 1
        short = options[i][0] if twice and final.count(final[i]) == sum(o == options[i] for o in options) else final[i]
        adapter.name = f"{short}#{final[: i + 1].count(final[i])}" if twice else final[i]


def _beside(folder: Path) -> str:
    """What lies in a folder, for the line that says what does not."""
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"; it holds {shown}" if names else "; it is empty"


def _header(path: Path, name: str) -> tuple[dict[str, Entry], dict[str, torch.Tensor]]:
    """What the file holds, by key; for a pickle also the tensors, which were all read."""
    safe, pickle = path / SAFE, path / PICKLE
    require(safe.is_file() or pickle.is_file(), name, f"{SAFE} or {PICKLE}", f"neither{_beside(path)}")
    if safe.is_file():
        from safetensors import SafetensorError, safe_open

        named = {CODES[d]: d for d in DTYPES}
        try:
            with safe_open(str(safe), framework="pt", device="cpu") as handle:
                slices = {key: handle.get_slice(key) for key in handle.keys()}  # noqa: SIM118
            with safe.open("rb") as file:  # whole and in order, as the library has just checked
                size = int.from_bytes(file.read(8), "little")
                places = {k: v["data_offsets"][0] for k, v in json.loads(file.read(size)).items() if k in slices}
            return {
                k: Entry(tuple(s.get_shape()), named.get(s.get_dtype(), torch.uint8), 8 + size + places[k])
                for k, s in slices.items()
            }, {}
        except (SafetensorError, OSError, ValueError) as error:
            raise ValueError(f"{name}: expected a whole {SAFE}, got {unreadable(safe, error)}") from error
    try:
        loaded = torch.load(pickle, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle can fail in any way; with weights_only it cannot run code
        raise ValueError(f"{name}: expected plain tensors in {PICKLE}, got {unreadable(pickle, error)}") from error
    require(isinstance(loaded, dict), name, f"a table of tensors in {PICKLE}", type(loaded).__name__)
    for key, value in loaded.items():
        plain = isinstance(key, str) and type(value) in (torch.Tensor, torch.nn.Parameter)
        require(plain and value.layout == torch.strided, name, "tensors by name", f"{key!r}: {type(value).__name__}")
        require(not value.is_meta, name, f"numbers in {PICKLE}", f"{key!r} on the meta device, which has none")
    tensors = {k: v.detach() for k, v in loaded.items()}
    return {k: Entry(tuple(v.shape), v.dtype) for k, v in tensors.items()}, tensors


#: what the keys of other tools hold: kohya and diffusers, mlx and torchtune, NeMo
_OTHER_TOOLS = (
    ".lora_down", ".lora_up", ".lora.down", ".lora.up", "lora_unet_", "lora_te", ".processor.", ".lora_a", ".lora_b",
    "adapter.linear_in", "adapter.linear_out",
)  # fmt: skip


def read_adapter(where: str | os.PathLike[str]) -> Adapter:
    """Open an adapter folder, check all of it but the numbers, and describe its modules by the names in the file.

    Raises:
        ValueError: in one line: what cannot be read, or what is in it that is no plain LoRA.
    """
    path = locate(where)
    name = _called(path)[0] if Path(where).is_dir() else str(where)
    if not (path / CONFIG).is_file():
        below = [str(p.relative_to(path)) for p in adapters_below(path)]
        shown = ", ".join(below[:6]) + (f" and {len(below) - 6} more" if len(below) > 6 else "")
        got = f"none; adapters lie below it: {shown}" if below else f"none{_beside(path)}"
        require(False, name, f"{CONFIG} in the folder", got)
    raw = _read_config(path / CONFIG, name)
    check_config(raw, name)
    header, loaded = _header(path, name)
    adapter = Adapter(name, path, raw, lora_config(raw, name), _header=header, _loaded=loaded)
    labels = set()
    for key in header:
        found = factor(key)
        if found is not None:
            require(found.key not in adapter._factors, name, "one pair of factors per module", f"{found.key} twice")
            adapter._factors[found.key] = key
            labels.add(found.label)
            continue
        foreign = any(mark in key for mark in _OTHER_TOOLS)
        require(
            not foreign, name, "names as peft saves them (convert them with the tool that wrote them: kohya, mlx, ...)",
            repr(key)[:120],
        )  # fmt: skip
        copy = _COPY.fullmatch(key)
        require(".lora_" not in key and copy is not None, name, "factors lora_A and lora_B only", repr(key)[:120])
        assert copy is not None
        adapter.copies[PREFIX + module_name(key)] = key
    got = f"names like {next(iter(header))[:100]!r}" if header else "an empty file"
    require(bool(adapter._factors), name, "factors of at least one module, named as peft saves them", got)
    require(
        len(labels) <= 1,
        name,
        "one adapter in a file",
        f"{len(labels)}: {', '.join(map(str, sorted(map(str, labels))))}",
    )
    changed = [(key, old) for key, old in adapter._factors.items() if key != old]
    if changed:
        new, old = changed[0]
        adapter.notes.append(
            f"{name}: {len(changed)} of {len(adapter._factors)} names are not as peft saves them, and it would not "
            f"load them ({old[:100]}): taken as {new[:100]}; lora-limits merge writes them so"
        )
    _describe(adapter, {key: key for key in adapter._factors})
    embedded = "embedding" in {m.kind for m in adapter.modules.values()}
    for key, old in adapter.copies.items():
        along = ".base_layer." in old or key.split(".")[-2] in _saved_along()
        require(
            embedded or along, f"{name}: {key}", "factors only, or the embeddings and the head that peft saves along",
            "another module's weight (retrained? it cannot be added: merge it by hand)",
        )  # fmt: skip
    return adapter


def _saved_along() -> tuple[str, ...]:
    """Last names of the layers that peft saves along with a changed vocabulary."""
    from peft.utils.constants import EMBEDDING_LAYER_NAMES

    return (*EMBEDDING_LAYER_NAMES, "wte", "word_embeddings", "embed_out", "shared", "embed_in")


def settle(adapter: Adapter, model: torch.nn.Module) -> None:
    """Describe an adapter by the names that `model` (a base or its skeleton) has, as peft converts them.

    Raises:
        ValueError: peft cannot convert them, or a module is not there or has another size.
    """
    shapes = {key: adapter._header[old][0] for key, old in adapter._factors.items()}
    found = converted(model, adapter.config, shapes, lambda key: adapter.tensor(adapter._factors[key]), adapter.name)
    keys: dict[str, str] = {}
    for key, value in found.keys.items():
        keys[key] = value if isinstance(value, str) else key
        if isinstance(value, torch.Tensor):
            adapter._loaded[key] = value
            adapter._header[key] = Entry(tuple(value.shape), value.dtype)
            adapter._factors[key] = key
    moved = [(new, old) for new, old in keys.items() if new != old]
    made = sum(isinstance(v, torch.Tensor) for v in found.keys.values())
    if moved:
        new, old = moved[0]
        adapter.notes.append(f"{adapter.name}: {len(moved)} names as the base has them now: {old} is {new}")
    if made:
        adapter.notes.append(
            f"{adapter.name}: {made} factors computed by peft's conversion of experts that are fused now"
        )
    adapter.config = found.config
    adapter.modules = {}
    _describe(adapter, keys, model)
    modules = dict(model.named_modules())
    for m in adapter.modules.values():
        owner = modules.get(m.place)
        weight = getattr(owner, m.parameter or "weight", None)
        where = f"{adapter.name}: {m.name}"
        require(weight is not None, where, "a module of the base", "none (another base, or saved by another version)")
        assert weight is not None
        size, shape = (m.inner, m.out) if turned(owner, m) else (m.out, m.inner), tuple(weight.shape)
        require(size == shape[-2:], where, f"the base's {shape}", f"factors for {m.out} x {m.inner}")
        table = m.parameter is None and isinstance(owner, torch.nn.Embedding)
        kind = "embedding" if table else "linear"
        require(m.kind == kind, where, f"factors of the kind {kind} (peft loads no others there)", m.kind)


def turned(owner: Any, module: Module) -> bool:
    """Whether the weight lies in x out: that of an embedding, of GPT-2's Conv1D, of experts that say so."""
    if module.parameter is not None:  # which peft takes as it lies, but for stacks
        return getattr(owner, module.parameter).dim() == 3 and bool(getattr(owner, "is_transposed", False))
    return isinstance(owner, torch.nn.Embedding) or type(owner).__name__ == "Conv1D"


def _describe(adapter: Adapter, keys: Mapping[str, str], model: torch.nn.Module | None = None) -> None:
    """Fill in the modules. `keys`: as peft saves them -> in `_factors`."""
    from peft.utils.constants import INCLUDE_LINEAR_LAYERS_SHORTHAND

    pairs: dict[str, dict[str, str]] = {}
    told: dict[str, dict[str, None]] = {}
    for key, old in keys.items():
        found, stored = factor(key), factor(adapter._factors[old])
        assert found is not None
        assert stored is not None
        pairs.setdefault(found.module, {})[found.factor] = adapter._factors[old]
        told[found.module] = dict.fromkeys((found.module, stored.module, stored.said))
    targets = adapter.config.target_modules
    if isinstance(targets, str) and targets.lower() == INCLUDE_LINEAR_LAYERS_SHORTHAND:
        # peft puts the names in its place when it sees the model; they are those in the file
        adapter.config.target_modules = set(pairs)
    bare = _bare(adapter, pairs, model) if adapter.config.target_parameters else {}
    met = bool(bare) or not adapter.config.target_parameters
    require(met, f"{adapter.name}: target_parameters", "factors for at least one of them", "none in the file")
    for module, found_keys in pairs.items():
        for m in _modules(adapter, module, found_keys, bare.get(module), list(told[module])):
            adapter.modules[m.name] = m


class _Bare(NamedTuple):
    """A bare parameter that peft wraps: module that holds it, its name, and how many wrappers lie around this one."""

    place: str
    parameter: str
    nest: int


def _bare(adapter: Adapter, pairs: Iterable[str], model: torch.nn.Module | None) -> dict[str, _Bare]:
    """Which parameter each wrapped name stands for: peft wraps in the order of the parameters, inside first."""
    from peft.tuners.tuners_utils import check_target_module_exists

    stacks: dict[str, list[str]] = {}
    for module in pairs:
        place = re.sub(r"(\.base_layer)+$", "", module)
        if not check_target_module_exists(adapter.config, module):
            stacks.setdefault(place, []).append(module)
    found = {}
    for place, names in stacks.items():
        inside_first = sorted(names, key=len, reverse=True)
        dotted = [t.rpartition(".") for t in adapter.config.target_parameters]
        said = [(path, parameter) for path, _, parameter in dotted if not path or f".{place}".endswith("." + path)]
        # a name with its module in it is meant for this one, a bare one for any
        candidates = sorted({p for path, p in said if path} or {p for _, p in said})
        owner = None if model is None else dict(model.named_modules()).get(place)
        if owner is not None:
            candidates = [n for n, _ in owner.named_parameters(recurse=False) if n in candidates]
        elif len(candidates) == 2 and candidates[1].startswith("gate_up"):
            candidates.reverse()  # as transformers has them everywhere; the ranks are compared below
        known = len(candidates) == len(names) and (owner is not None or len(names) < 3)
        require(
            known, f"{adapter.name}: {place}", "names that tell which parameter is meant (--base: it says)",
            f"{len(names)} pairs of factors for {', '.join(candidates) or 'none'}",
        )  # fmt: skip
        for i, (module, parameter) in enumerate(zip(inside_first, candidates, strict=True)):
            found[module] = _Bare(place, parameter, len(inside_first) - 1 - i)
    return found


def _modules(
    adapter: Adapter, module: str, keys: Mapping[str, str], bare: _Bare | None, told: list[str]
) -> list[Module]:
    """`told`: what the module is called here and was called in training; the configuration may mean any of these."""
    from peft.tuners.tuners_utils import check_target_module_exists
    from peft.utils.other import get_pattern_key

    header = adapter._header
    where = f"{adapter.name}: {module}"
    kind: Literal["linear", "embedding"] = "linear" if set(keys) == {"A", "B"} else "embedding"
    whole = set(keys) in ({"A", "B"}, {"embedding_A", "embedding_B"})
    require(whole, where, "both factors, A and B", ", ".join(sorted(keys)))
    pair = (keys["A"], keys["B"]) if kind == "linear" else (keys["embedding_A"], keys["embedding_B"])
    for key in pair:
        shape, dtype, _ = header[key]
        require(
            dtype in DTYPES, where, "factors in float16, bfloat16, float32 or float64",
            f"another format in {key} (save them again in one of these)",
        )  # fmt: skip
        require(
            shape != (0,), where, "factors",
            "empty tensors (saved under DeepSpeed ZeRO-3 without gathering: gather them and save again)",
        )  # fmt: skip
        require(len(shape) == 2, where, "factors that are matrices (no convolutions)", f"shape {shape}")
        require(0 not in shape, where, "rank and sizes of at least 1", f"shape {shape} of {key}, which is empty")
    (rows, inner), (out, columns) = header[pair[0]][0], header[pair[1]][0]
    require(rows == columns, where, f"B with {rows} columns, as A has rows", f"{columns} columns")
    config = adapter.config
    told = told if bare is None else [f"{bare.place}.{bare.parameter}"]

    def said(pattern: Mapping[str, Any], default: Any) -> Any:
        found = (get_pattern_key(list(pattern), name) for name in told)
        return next((pattern[key] for key in found if key in pattern), default)

    try:
        wanted, alpha = said(config.rank_pattern, config.r), said(config.alpha_pattern, config.lora_alpha)
        targeted = bare is not None or any(check_target_module_exists(config, name) for name in told)
    except (re.error, TypeError, ValueError) as error:
        raise ValueError(f"{adapter.name}: expected patterns that peft can match, got {brief(error)}") from error
    require(
        bool(targeted), where, "a module that the configuration targets",
        "one that peft would not load (target_modules, layers_to_transform and exclude_modules choose)",
    )  # fmt: skip
    a_type, b_type = DTYPES[header[pair[0]][1]], DTYPES[header[pair[1]][1]]
    dtype_name = a_type if a_type == b_type else "mixed"
    scale = adapter_scale(alpha, wanted, bool(config.use_rslora))
    if bare is None or (bare.parameter == "weight" and rows == wanted):
        require(rows == wanted, where, f"rank {wanted}, which r and rank_pattern come to", f"rank {rows}")
        name, parameter = (module, None) if bare is None else (bare.place, bare.parameter)
        return [Module(name, kind, out, inner, rows, scale, dtype_name, pair, name, parameter)]
    require(rows % wanted == 0, where, f"rank {wanted} for every expert, as the configuration says", f"{rows} rows")
    return [
        Module(
            f"{bare.place}.{bare.parameter}[{e}]", kind, out, inner, wanted, scale, dtype_name, pair, bare.place,
            bare.parameter, e, rows // wanted, bare.nest,
        )
        for e in range(rows // wanted)
    ]  # fmt: skip


def read_all(
    paths: Iterable[str | os.PathLike[str]],
    same_base: bool = False,
    model: torch.nn.Module | None = None,
    repair: bool = False,
) -> list[Adapter]:
    """Open several adapters, check that they belong together, and call one module by one name.

    Args:
        paths: folders or hub ids.
        same_base: take bases of different names for one and the same.
        model: the base or its :func:`empirical.adapters.names.skeleton`: names and sizes are then those that it has.
            Without it, the base that the adapters name is asked for its names where they differ and it lies here.
        repair: ask that base in any case.

    Raises:
        ValueError: as :func:`read_adapter`; no paths; different bases; one module with different sizes, or with names
            of which it is not known whether they are one.
    """
    given = list(paths)
    adapters = [read_adapter(p) for p in given]
    require(len(adapters) > 0, "adapters", "at least one folder", "none")
    _tell_apart(adapters, given)
    if not same_base:
        for key in ("base_model_name_or_path", "revision"):
            said = {a.raw.get(key) for a in adapters} - {None, ""}
            require(
                len(said) <= 1, "adapters", f"one {key} (--same-base if these are the same)",
                " and ".join(sorted(str(s) for s in said)),
            )  # fmt: skip
    unclear = doubtful([list(a.modules) for a in adapters])
    if model is None and (unclear or repair):
        model = next((m for a in adapters if (m := said_base(a.raw)) is not None), None)
        if model is None and unclear:
            got = f"{unclear[0]} and {unclear[1]}, which versions of transformers use for one"
            raise ValueError(f"adapters: expected one name for one module (--base says which it is), got {got}")
    if model is not None:
        for adapter in adapters:
            settle(adapter, model)
    seen: dict[str, tuple[Module, str]] = {}
    for adapter in adapters:
        for module in adapter.modules.values():
            first, owner = seen.setdefault(module.name, (module, adapter.name))
            same = (first.out, first.inner, first.kind) == (module.out, module.inner, module.kind)
            got = f"{module.kind} {module.out} x {module.inner} in {adapter.name}"
            require(same, module.name, f"{first.kind} {first.out} x {first.inner}, as in {owner}", got)
            counted = first.experts == module.experts
            require(
                counted, module.name, f"{first.experts} experts, as in {owner}", f"{module.experts} in {adapter.name}"
            )
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


def check_output(target: Path, inputs: Iterable[Path], force: bool, holds: str = CONFIG) -> None:
    """Refuse an output that would overwrite something that it should not.

    Args:
        target: folder to write.
        inputs: folders that must stay.
        force: replace a folder that is of the same kind, which the file `holds` shows.
        holds: file of an adapter, or of a model.

    Raises:
        ValueError: it exists (without `force`, it is of another kind, or it holds folders other than of
            templates, which would be lost with it), it is one of the inputs, or its parent folder is missing.
    """
    parent = target.absolute().parent
    require(target.name not in ("", ".", ".."), "output", "a folder name", repr(str(target)))
    require(parent.is_dir(), "output", "an existing parent folder", str(target.parent))
    require(not target.is_symlink(), "output", "a folder, not a link", str(target))
    if target.exists():
        require(force, "output", "a new folder (or --force)", f"{target}, which exists")
        kind = "an adapter" if holds == CONFIG else "a model"
        require((target / holds).is_file(), "output", f"{kind} folder to overwrite", str(target))
        kept = sorted(each.name for each in target.iterdir() if each.is_dir() and each.name != TEMPLATES)
        require(not kept, "output", f"{kind} folder without folders in it", f"{target}, which holds {', '.join(kept)}")
        clash = any(target.samefile(i) for i in inputs)
        require(not clash, "output", "another folder than the adapters and the base", target)


def new_or_own(path: Path, begins: tuple[bytes, ...]) -> None:
    """Refuse a file to write that cannot be written, or that holds something else: nobody's weights are lost.

    Args:
        begins: how files of the kind that is written begin; one of these, or an empty one, is replaced.

    Raises:
        ValueError: it is a folder or in none, or another file is there.
    """
    fits = not path.is_dir() and path.absolute().parent.is_dir()
    require(fits, "output", "a file in an existing folder", str(path))
    if path.is_file():
        with path.open("rb") as file:
            found = file.read(max(map(len, begins)))
        own = not found or found.startswith(begins)
        require(own, "output", "a new file, or one of this kind", f"{path}, which holds something else")


def beside(target: Path) -> Path:
    """A path in the folder of `target` at which nothing is."""
    return target.absolute().parent / f".lora-limits-{secrets.token_hex(8)}"


class Draft:
    """A folder that is being written beside its place: :meth:`publish` moves it there, leaving the block drops it.

    What is at `target` when it begins is replaced; what comes there later is not.
    """

    def __init__(self, target: Path) -> None:
        self.target = target.absolute()
        self.replaces = self.target.exists()
        self.folder = beside(target)
        self.folder.mkdir()

    def __enter__(self) -> Draft:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def publish(self) -> None:
        """Into place in one step; an old folder stands aside until then and comes back if the step does not end.

        Raises:
            OSError: what the operating system refuses, a folder that came to `target` in the meantime too.
        """
        aside = beside(self.target)
        try:
            if self.replaces:
                self.target.rename(aside)
            self.folder.rename(self.target)
        finally:
            if aside.exists() and not self.target.exists():
                aside.rename(self.target)
            shutil.rmtree(aside, ignore_errors=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Whole or not at all; into a pipe, a device or what a link leads to it is written as it is there.

    Raises:
        OSError: the folder does not exist or cannot be written, or the disk is full; nothing is left behind.
    """
    target = Path(path)
    if target.is_symlink() or (target.exists() and not target.is_file()):
        target.write_text(text, encoding="utf-8")
        return
    draft = beside(target)
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


#: format and shape of tensors by key
Layout: TypeAlias = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]


class Writer:
    """A safetensors file that is written one tensor after the other."""

    def __init__(self, path: Path, layout: Layout) -> None:
        head: dict[str, dict[str, object]] = {"__metadata__": {"format": "pt"}}
        place = 0
        for key, (dtype, shape) in layout.items():
            size = dtype.itemsize * math.prod(shape)
            head[key] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [place, place + size]}
            place += size
        self.size = place
        self.layout, self.order = layout, iter(layout)
        text = json.dumps(head).encode()
        text += b" " * (-len(text) % 8)
        self.file = path.open("wb")
        self.file.write(len(text).to_bytes(8, "little") + text)

    def add(self, key: str, tensor: torch.Tensor) -> None:
        """The next tensor of the layout."""
        assert (key, tensor.dtype, tuple(tensor.shape)) == (next(self.order), *self.layout[key])
        self.file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def close(self) -> None:
        """All of it is in the file."""
        self.file.close()


def write_adapter(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], card: str) -> None:
    """Configuration, weights and a short README of an adapter into an existing folder.

    Raises:
        OSError: what the operating system refuses.
    """
    layout = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}
    stream_adapter(folder, config, layout, tensors.items(), lambda: card)


def stream_adapter(
    folder: Path,
    config: Mapping[str, Any],
    layout: Layout,
    tensors: Iterable[tuple[str, torch.Tensor]],
    card: Callable[[], str],
) -> None:
    """The same of an adapter that is never in memory as a whole.

    Args:
        folder: that exists.
        config: as peft writes it.
        layout: of the tensors; `tensors`: in its order, each written before the next is asked for.
        card: called when they are written.

    Raises:
        OSError: what the operating system refuses.
    """
    writer = Writer(folder / SAFE, layout)
    try:
        for key, tensor in tensors:
            writer.add(key, tensor)
    finally:
        writer.close()
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(), encoding="utf-8")
