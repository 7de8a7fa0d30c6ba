"""What llama.cpp reads: the file read back, under its own rule for the scale, in the layout of its own conversion."""

import contextlib
import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch

from empirical.adapters import export as exporting
from empirical.adapters.export import export
from empirical.adapters.files import read_adapter
from tests.empirical.adapters.folders import changed, configured


@pytest.fixture
def config_of(tiny_base, tmp_path):
    """The configuration of a base, without its weights."""

    def write(architecture, tied=False):
        model = tiny_base(architecture, tied=tied)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(tmp_path / f"base_{architecture}_{tied}")
        return tmp_path / f"base_{architecture}_{tied}"

    return write


def updates(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """As llama.cpp applies them: B A times alpha, if it is not 0, over the rank that it reads off B."""
    reader = gguf.GGUFReader(path)
    fields = {k: f.contents() for k, f in reader.fields.items()}
    tensors = {t.name: torch.from_numpy(t.data.copy()).double() for t in reader.tensors}
    found = {}
    for name, b in tensors.items():
        if name.endswith(".lora_b"):
            a = tensors[name.removesuffix("b") + "a"]
            a = a.T if name.startswith("token_embd") else a
            alpha = fields["adapter.lora.alpha"]
            found[name.removesuffix(".lora_b")] = (alpha / b.shape[1] if alpha else 1.0) * b @ a
    assert len(tensors) == 2 * len(found)
    return found, fields


@pytest.mark.parametrize(
    "options",
    [
        {}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}}, {"alpha": 0},
        {"alpha": 0, "alpha_pattern": {"v_proj": -3}}, {"alpha": 1e-50}, {"alpha": 1e39},
    ],
)  # fmt: skip
def test_a_file_read_back_is_the_update(options, save_adapter, config_of, tmp_path):
    targets = ["q_proj", "v_proj", "down_proj", "embed_tokens", "lm_head"]
    a = save_adapter("a", seed=1, targets=targets, **options)
    base = config_of("llama")
    made = export(a, tmp_path / "a.gguf", base=base)
    found, fields = updates(tmp_path / "a.gguf")
    said = [fields[k] for k in ("general.type", "adapter.type", "general.architecture")]
    assert said == ["adapter", "lora", "llama"]
    adapter = read_adapter(a)
    assert len(found) == len(adapter.modules) == made.modules
    pairs = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.layers.1.mlp.down_proj": "blk.1.ffn_down",
             "model.layers.0.self_attn.v_proj": "blk.0.attn_v"}  # fmt: skip
    for name, theirs in pairs.items():
        wanted = torch.from_numpy(adapter.update(name).dense())
        assert (found[theirs + ".weight"] - wanted).abs().max() <= 1e-6 * wanted.abs().max(), name


def test_rows_of_q_are_where_llama_cpp_looks_for_them(save_adapter, tiny_base, config_of, tmp_path):
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


def test_the_base_that_the_adapter_names_is_asked(save_adapter, save_base, tmp_path):
    a = save_adapter("a", "gpt2", seed=1, targets=["c_attn"], fan_in_fan_out=True)
    with pytest.raises(ValueError, match="--base"):
        export(a, tmp_path / "a.gguf")
    made = export(a, tmp_path / "a.gguf", base=save_base(architecture="gpt2"), dtype="float16")
    found, _ = updates(tmp_path / "a.gguf")
    wanted = torch.from_numpy(read_adapter(a).update("transformer.h.0.attn.c_attn").dense())
    assert (found["blk.0.attn_qkv.weight"] - wanted).abs().max() < 2e-3 * wanted.abs().max()
    assert made.architecture == "gpt2"


def test_only_plain_files_are_replaced(save_adapter, config_of, tmp_path):
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
    assert sorted(p.name for p in tmp_path.iterdir() if p.name not in ("b", "base_bert_False")) == before
    with pytest.raises(ValueError, match="holds something else"):
        export(a, tmp_path / "file", base=base, force=True)
    (tmp_path / "file").write_bytes(b"")
    for _ in range(2):
        export(a, tmp_path / "file", base=base, force=True)
    assert updates(tmp_path / "file")[0]


def test_what_appears_meanwhile_is_not_replaced(save_adapter, config_of, tmp_path, monkeypatch):
    a, base, file = save_adapter("a", targets=["q_proj"]), config_of("llama"), tmp_path / "a.gguf"
    write = exporting._write

    def slow(*given):
        write(*given)
        file.write_text("another's", encoding="utf-8")

    monkeypatch.setattr(exporting, "_write", slow)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FileExistsError):
        export(a, file, base=base)
    assert file.read_text(encoding="utf-8") == "another's"
    assert sorted(tmp_path.iterdir()) == sorted([file, *before])


def test_the_gguf_of_a_model_is_not_replaced(save_adapter, config_of, tmp_path):
    a, base, model = save_adapter("a", targets=["q_proj"]), config_of("llama"), tmp_path / "model.gguf"
    with contextlib.closing(gguf.GGUFWriter(model, arch="llama")) as writer:
        writer.add_type(gguf.GGUFType.MODEL)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
    whole = model.read_bytes()
    for held in (whole, whole[:30]):
        model.write_bytes(held)
        with pytest.raises(ValueError, match="or an adapter's, got"):
            export(a, model, base=base, force=True)
        assert model.read_bytes() == held


def test_what_llama_cpp_does_not_have_is_refused(save_adapter, config_of, tmp_path):
    a = save_adapter("a", targets=["q_proj"])
    fused = save_adapter("fused", "experts", targets=["q_proj"], target_parameters=["experts.down_proj"])
    router = save_adapter("router", "images and text", targets=["linear_1"])
    head, table = (save_adapter(x, targets=[x]) for x in ("lm_head", "embed_tokens"))
    positions = save_adapter("positions", "gpt2", targets=["wpe"])
    llama, experts, images, gpt2 = (config_of(x) for x in ("llama", "experts", "images and text", "gpt2"))
    tied, headless = config_of("llama", tied=True), shutil.copytree(llama, tmp_path / "headless")
    configured(headless, "config.json", architectures=["LlamaModel"])
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[Path, Path, dict[str, Any], str]] = [
        (a, llama, {"to": "onnx"}, "to: expected one of"), (a, llama, {"dtype": "int8"}, "dtype: expected one of"),
        (fused, experts, {}, "modules .fold adapters of fused experts"),
        (router, images, {}, "a module that llama.cpp has in llama, got another"),
        (positions, gpt2, {}, "modules where llama.cpp adds adapters .fold it.*, got positions"),
        *((x, tied, {}, "a head with a weight of its own .*fold --untie.*, got the embed") for x in (head, table)),
        (table, headless, {}, "a head with a weight of its own"),
    ]  # fmt: skip
    for adapter, base, options, named in cases:
        with pytest.raises(ValueError, match=named) as caught:
            export(adapter, tmp_path / "x.gguf", base=base, **options)
        assert len(str(caught.value).splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_a_language_model_inside_another_has_its_own_names(save_adapter, config_of, tmp_path):
    a = save_adapter("a", "images and text", seed=1, targets=r".*language_model.*\.(k_proj|down_proj)")
    export(a, tmp_path / "a.gguf", base=config_of("images and text"))
    names = {f"blk.{i}.{n}.weight" for i in range(2) for n in ("attn_k", "ffn_down")}
    assert updates(tmp_path / "a.gguf")[0].keys() == names


@pytest.mark.parametrize("size", [2.0**-24, 2.0**20, 1e-200, 1e200])
def test_factors_are_balanced(size, save_adapter, config_of, tmp_path):
    """One is too small or too large for the format, though their product is of the usual size."""
    a = save_adapter("a", seed=1, targets=["v_proj"])
    changed(a, lambda key, x: x.double() * (size if "lora_A" in key else 1 / size))
    wanted = torch.from_numpy(read_adapter(a).update("model.layers.0.self_attn.v_proj").dense())
    for dtype, off in (("float16", 2e-3), ("float32", 1e-6)):
        export(a, tmp_path / dtype, base=config_of("llama"), dtype=dtype)
        found = updates(tmp_path / dtype)[0]["blk.0.attn_v.weight"]
        assert (found - wanted).abs().max() < off * wanted.abs().max()


@pytest.mark.parametrize(("size", "dtype"), [(2.0**40, "float16"), (2.0**-40, "float16"), (1e100, "float32"),
                                             (1e-100, "float32"), (1e300, "float32"), (1e-300, "float32")])  # fmt: skip
def test_updates_without_room_in_the_format_are_refused(size, dtype, save_adapter, config_of, tmp_path):
    a, base = save_adapter("a", seed=1, targets=["v_proj"]), config_of("llama")
    changed(a, lambda key, x: x.double() * size)
    with pytest.raises(ValueError, match=rf"dtype: expected a format with room .*, got {dtype}"):
        export(a, tmp_path / "a.gguf", base=base, dtype=dtype)
    assert not (tmp_path / "a.gguf").exists()
