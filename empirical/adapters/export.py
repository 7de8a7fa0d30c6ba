"""An adapter for llama.cpp: one GGUF file, written by the ``gguf`` library.

llama.cpp multiplies B A by alpha / rank, with one alpha in the file and the rank read off the tensor; names are those
of its own layers. The bases that it lays out differently from transformers (the rows of q and k of the llama family,
reordered for its rotary embedding) have B's rows reordered in the same way.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from empirical.adapters.files import Adapter, Module, beside, new_or_own, read_all
from empirical.adapters.names import said_base, skeleton
from empirical.adapters.rounding import UNIT
from theory.lowrank import column_norms, frobenius
from theory.numerics import one_of, require

FORMATS = ("gguf",)
#: with which every GGUF file begins
MAGIC = b"GGUF"
#: transformers' model type -> (llama.cpp's architecture, whether the rows of q and k are reordered)
ARCHITECTURES = {
    "llama": ("llama", True),
    "mistral": ("llama", True),
    "mixtral": ("llama", True),
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "gemma": ("gemma", False),
    "gemma2": ("gemma2", False),
    "gemma3_text": ("gemma3", False),
    "phi3": ("phi3", False),
    "gpt2": ("gpt2", False),
}
#: between these sizes the file's alpha says the largest scale; the factors take another, and what modules differ by
SCALES = (1e-30, 1e30)
DTYPES = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote; `notes`: what was taken otherwise than it is written, or is not in it."""

    file: str
    adapter: str
    architecture: str
    modules: int
    alpha: float
    dtype: str
    notes: tuple[str, ...]


def export(
    adapter: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    to: str = "gguf",
    base: Any = None,
    dtype: str = "float32",
    force: bool = False,
    seen: Callable[[Exported], object] | None = None,
) -> Exported:
    """Write an adapter as llama.cpp reads it.

    Args:
        adapter: folder or hub id.
        file: to write; whole or not at all.
        to: ``"gguf"``.
        base: folder or hub id of the base, of which the configuration alone is read; by default what the adapter names.
        dtype: of the factors, ``"float32"`` or ``"float16"``.
        force: replace an adapter of this format.
        seen: called with what was made before it is in its place; what it raises stops that.

    Raises:
        ValueError: what cannot be written, in one line; nothing is.
        OSError: what the operating system refuses; nothing is left behind.

    Source: llama.cpp, ``convert_lora_to_gguf.py`` and ``src/llama-adapter.cpp`` (the layout, and scale = alpha / rank).
    """
    one_of(to, "to", FORMATS)
    one_of(dtype, "dtype", tuple(DTYPES))
    target = Path(file)
    if target.is_symlink() or target.exists():
        plain = not target.is_symlink() and stat.S_ISREG(target.stat().st_mode)
        require(plain, "output", "a plain file to replace", str(target))
        require(force, "output", "a new file (or --force)", f"{target}, which exists")
    new_or_own(target, (MAGIC,))
    replaces = target.exists()
    other = replaces and target.stat().st_size and not _holds_adapter(target)
    require(not other, "output", "a new file, or an adapter's", f"{target}, another model's")
    (found,) = read_all([adapter])
    model = skeleton(base) if base is not None else said_base(found.raw)
    require(model is not None, "base", "its configuration (--base DIR), which says how llama.cpp lays it out", "none")
    (found,) = read_all([adapter], model=model)
    config = model.config.get_text_config()  # type: ignore[union-attr, operator]
    kind = str(config.model_type)
    require(kind in ARCHITECTURES, "base", f"an architecture among {', '.join(ARCHITECTURES)}", kind)
    architecture, reordered = ARCHITECTURES[kind]
    names = _names(found, architecture, model)
    most = max(found.modules.values(), key=lambda m: abs(m.scale))
    alpha = most.r * (most.scale if SCALES[0] < abs(most.scale) < SCALES[1] else 1.0)
    made = Exported(target.name, found.name, architecture, len(names), alpha, dtype, tuple(found.said))
    draft = beside(target)
    try:
        _write(draft, found, names, (architecture, config if reordered else None), alpha, DTYPES[dtype])
        if seen is not None:
            seen(made)
        if not replaces:
            target.touch(exist_ok=False)  # what appeared there meanwhile stays
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    return made


def _holds_adapter(path: Path) -> bool:
    """Whether a GGUF file says that it holds an adapter; a broken one does not."""
    import gguf

    try:
        kind = gguf.GGUFReader(path).get_field(gguf.Keys.General.TYPE)
    except (ValueError, IndexError, KeyError):
        return False
    return kind is not None and kind.contents() == gguf.GGUFType.ADAPTER


def _names(adapter: Adapter, architecture: str, model: Any) -> dict[str, str]:
    """Module -> name of llama.cpp's weight."""
    import gguf

    numbers = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    table = gguf.get_tensor_name_map(numbers[architecture], int(model.config.get_text_config().num_hidden_layers))
    head = model.get_output_embeddings()
    tied = head is None or head.weight is model.get_input_embeddings().weight
    found = {}
    for m in adapter.modules.values():
        plain = m.name == m.place
        require(plain, m.name, "modules (fold adapters of fused experts into the base, then convert it)", "an expert")
        # where a language model stands inside another, llama.cpp has it alone
        bare = re.sub(r"^(model\.language_model|language_model\.model|language_model)\.", "model.", m.name)
        name = table.get_name(bare)
        require(name is not None, m.name, f"a module that llama.cpp has in {architecture}", "another")
        # it reads positions without their factors
        acts = name != "position_embd"
        require(acts, m.name, "modules where llama.cpp adds adapters (fold it, then convert the base)", "positions")
        # and multiplies by those of the embedding, which lie the other way, where that is the head
        free = not tied or name not in ("token_embd", "output")
        wanted = "a head with a weight of its own (lora-limits fold --untie gives it one, but not in Gemma)"
        require(free, m.name, wanted, "the embedding's, which llama.cpp has once")
        found[m.name] = f"{name}.weight"
    return found


def _write(
    path: Path, adapter: Adapter, names: dict[str, str], layout: tuple[str, Any], alpha: float, dtype: torch.dtype
) -> None:
    import gguf

    architecture, heads = layout
    with contextlib.closing(gguf.GGUFWriter(path, arch=architecture)) as writer:
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
        writer.add_string(gguf.Keys.General.NAME, adapter.name)
        number = torch.empty((), dtype=dtype).numpy()
        for name, weight in names.items():
            m = adapter.modules[name]
            reads = (m.inner, m.r) if m.kind == "embedding" else (m.r, m.inner)  # llama.cpp looks rows up
            for factor, shape in (("lora_a", reads), ("lora_b", (m.out, m.r))):
                writer.add_tensor_info(f"{weight}.{factor}", shape, number.dtype, math.prod(shape) * number.itemsize)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        assert writer.fout is not None
        (out,) = writer.fout  # the library's own way would not notice that the disk is full
        writer.write_padding(out, out.tell())
        for name in names:
            m = adapter.modules[name]
            a, b = adapter.factors(name)
            a, b = _balanced(a, b, m.r / alpha * m.scale)
            b = b if heads is None else _reordered(m, b, heads)
            for tensor in (a.T if m.kind == "embedding" else a, b):
                stored = tensor.to(dtype).contiguous()
                lost = (stored.double() - tensor).numpy()
                # one rounding; more is what overflows, or falls below the smallest numbers of the format
                fits = stored.isfinite().all() and frobenius(lost) <= 2 * UNIT[dtype] * frobenius(tensor.numpy())
                wanted = "a format with room for the factors (or a scale nearer to 1)"
                require(bool(fits), f"{name}: dtype", wanted, str(dtype).removeprefix("torch."))
                out.write(stored.numpy().data)
                writer.write_padding(out, stored.nbytes)


def _balanced(a: torch.Tensor, b: torch.Tensor, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of `strength` B A in float64; by powers of two, rows of A are of the size of columns of B."""
    a, b = a.double(), b.double()
    rows, columns = (torch.from_numpy(column_norms(x.numpy())) for x in (a.T, b))
    live = (rows > 0) & (columns > 0) & (strength != 0)
    shift = ((rows.log2() - columns.log2() + math.log2(abs(strength) or 1.0)) / 2).round()
    on_a, on_b = (torch.where(live, x, 0.0) for x in ((-shift).exp2() * strength, shift.exp2()))
    return a * on_a[:, None], b * on_b


def _reordered(module: Module, b: torch.Tensor, config: Any) -> torch.Tensor:
    """Rows of q and k, in each head from two halves to pairs."""
    last = module.name.rpartition(".")[2]
    if last not in ("q_proj", "k_proj"):
        return b
    count = config.num_attention_heads if last == "q_proj" else config.num_key_value_heads
    return b.reshape(count, 2, b.shape[0] // count // 2, -1).transpose(1, 2).reshape(b.shape)
