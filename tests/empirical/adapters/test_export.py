"""What llama.cpp reads: the file read back, under its own rule for the scale, in the layout of its own conversion."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from empirical.adapters.base import quiet
from empirical.adapters.export import export
from empirical.adapters.files import read_adapter

Save = Callable[..., Path]
Base = Callable[..., Any]


@pytest.fixture
def config_of(tiny_base: Base, tmp_path: Path) -> Callable[[str], Path]:
    """The configuration of a base, without its weights."""

    def write(architecture: str) -> Path:
        tiny_base(architecture).config.save_pretrained(tmp_path / f"base_{architecture}")
        return tmp_path / f"base_{architecture}"

    return write


def updates(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """As llama.cpp applies them: B A times alpha over the rank that it reads off B."""
    reader = gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items()}
    tensors = {t.name: torch.from_numpy(t.data.copy()).double() for t in reader.tensors}
    found = {}
    for name, b in tensors.items():
        if name.endswith(".lora_b"):
            a = tensors[name.removesuffix("b") + "a"]
            a = a.T if name.startswith("token_embd") else a
            found[name.removesuffix(".lora_b")] = fields["adapter.lora.alpha"] / b.shape[1] * b @ a
    assert len(tensors) == 2 * len(found)
    return found, fields


@pytest.mark.parametrize(
    "options", [{}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}]
)
def test_a_file_read_back_is_the_update(
    options: dict[str, object], save_adapter: Save, config_of: Callable[[str], Path], tmp_path: Path
) -> None:
    targets = ["q_proj", "v_proj", "down_proj", "embed_tokens", "lm_head"]
    a = save_adapter("a", seed=1, targets=targets, **options)
    base = config_of("llama")
    made = export(a, tmp_path / "a.gguf", base=base)
    found, fields = updates(tmp_path / "a.gguf")
    assert (fields["general.type"], fields["adapter.type"], fields["general.architecture"]) == (
        "adapter",
        "lora",
        "llama",
    )
    adapter = read_adapter(a)
    assert len(found) == len(adapter.modules) == made.modules
    pairs = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.layers.1.mlp.down_proj": "blk.1.ffn_down",
             "model.layers.0.self_attn.v_proj": "blk.0.attn_v"}  # fmt: skip
    for name, theirs in pairs.items():
        wanted = torch.from_numpy(adapter.update(name).dense())
        assert (found[theirs + ".weight"] - wanted).abs().max() < 1e-6 * wanted.abs().max(), name


def test_rows_of_q_are_where_llama_cpp_looks_for_them(
    save_adapter: Save, tiny_base: Base, config_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """transformers reads such files too, and undoes the order: its code, not ours, is the judge."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS

    a = save_adapter("a", seed=1, targets=["q_proj", "k_proj"])
    export(a, tmp_path / "a.gguf", base=config_of("llama"))
    found, _ = updates(tmp_path / "a.gguf")
    config = tiny_base("llama").config
    judge = TENSOR_PROCESSORS["llama"](config=config.to_dict())
    adapter = read_adapter(a)
    for theirs, ours in (("attn_q", "q_proj"), ("attn_k", "k_proj")):
        name = f"blk.1.{theirs}.weight"
        back = judge.process(found[name].numpy(), name).weights
        wanted = torch.from_numpy(adapter.update(f"model.layers.1.self_attn.{ours}").dense())
        assert (torch.from_numpy(back.copy()) - wanted).abs().max() < 1e-6
        assert (found[name] - wanted).abs().max() > 1e-2


def test_the_base_that_the_adapter_names_is_asked(save_adapter: Save, tiny_base: Base, tmp_path: Path) -> None:
    a = save_adapter("a", "gpt2", seed=1, targets=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(ValueError, match="--base"):
        export(a, tmp_path / "a.gguf")
    with quiet():
        tiny_base("gpt2").save_pretrained(tmp_path / "base")
    made = export(a, tmp_path / "a.gguf", base=tmp_path / "base", dtype="float16")
    found, _ = updates(tmp_path / "a.gguf")
    wanted = torch.from_numpy(read_adapter(a).update("transformer.h.0.attn.c_attn").dense())
    assert (found["blk.0.attn_qkv.weight"] - wanted).abs().max() < 2e-3 * wanted.abs().max()
    assert made.architecture == "gpt2"


def test_only_plain_files_are_replaced(save_adapter: Save, config_of: Callable[[str], Path], tmp_path: Path) -> None:
    a, base = save_adapter("a", targets=["q_proj"]), config_of("llama")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("old", encoding="utf-8")
    before = sorted(p.name for p in tmp_path.iterdir())
    for name, named in {"pipe": "plain file", "link": "plain file", "file": "--force", "no/where": "existing"}.items():
        with pytest.raises(ValueError, match=named):
            export(a, tmp_path / name, base=base)
    with pytest.raises(ValueError, match="an architecture among"):
        export(save_adapter("b", "bert", targets=["query"]), tmp_path / "b.gguf", base=config_of("bert"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("b", "base_bert")) == before
    export(a, tmp_path / "file", base=base, force=True)
    assert updates(tmp_path / "file")[0]
