"""Folding into the base: weights and logits are those of peft's own merge, up to one rounding; whole or not at all."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.base import quiet
from empirical.adapters.checkpoint import INDEX, WHOLE
from empirical.adapters.files import CONFIG, SAFE
from empirical.adapters.fold import FoldFailed, FoldReport, fold
from tests.empirical.adapters.folders import config_of, configured, made_by_peft

IDS = torch.arange(8)[None]


def stored(model: Any, folder: Path, shard: str = "20KB") -> Path:
    """A base on disk, in several files, with something beside the weights."""
    with quiet():
        model.save_pretrained(folder, max_shard_size=shard)
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {k: v for path in folder.glob("*.safetensors") for k, v in load_file(path).items()}


def loaded(folder: Path, like: Any, dtype: torch.dtype = torch.float32) -> Any:
    with quiet():
        return type(like).from_pretrained(folder, dtype=dtype).eval()


def by_peft(model: Any, folders: list[Path], weights: list[float]) -> Any:
    """peft's merge_and_unload of adapters one after the other, each with its weight."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    for folder, weight in zip(folders, weights, strict=True):
        with quiet():
            wrapped: Any = PeftModel.from_pretrained(model, str(folder))
            for layer in wrapped.modules():
                if isinstance(layer, LoraLayer):
                    layer.scaling["default"] *= weight
            model = wrapped.merge_and_unload()
    return model


@pytest.mark.parametrize(
    ("architecture", "one", "two"),
    [
        ("llama", {}, {"r": 3, "use_rslora": True, "targets": ["q_proj", "lm_head"]}),
        ("gpt2", {"fan_in_fan_out": True}, {"targets": ["c_attn"], "r": 2, "fan_in_fan_out": True}),
        ("llama", {"targets": ["embed_tokens", "v_proj"]}, {"targets": ["embed_tokens"], "r": 2}),
    ],
)
def test_the_fold_is_that_of_peft(architecture, one, two, save_adapter, tiny_base, tmp_path):
    model = tiny_base(architecture)
    base = stored(model, tmp_path / "base")
    assert (base / INDEX).is_file()
    folders = [save_adapter("a", architecture, 1, **one), save_adapter("b", architecture, 2, **two)]
    report = fold(folders, base, tmp_path / "c", [0.7, -1.3])
    wanted = by_peft(loaded(base, model), folders, [0.7, -1.3])
    made = loaded(tmp_path / "c", model)
    for name, parameter in wanted.named_parameters():
        off = (made.get_parameter(name) - parameter).abs().max()
        assert off <= 4 * 2.0**-24 * parameter.abs().max(), name  # both round a few sums of one unit
    moved = (wanted(IDS).logits - loaded(base, model)(IDS).logits).abs().max()
    assert (made(IDS).logits - wanted(IDS).logits).abs().max() < 1e-5 * moved
    assert report.modules
    assert all(m.measured <= m.bound for m in report.modules)
    assert (tmp_path / "c" / "tokenizer.json").is_file()
    assert sorted(p.name for p in (tmp_path / "c").glob("*.safetensors")) == sorted(
        p.name for p in base.glob("*.safetensors")
    )


def test_sixteen_bits_are_rounded_once(save_adapter, tiny_base, tmp_path):
    base = stored(tiny_base("llama", torch.bfloat16), tmp_path / "base")
    a = save_adapter("a", seed=1)
    report = fold([a], base, tmp_path / "c")
    assert report.dtypes == ["bfloat16"]
    exact = by_peft(loaded(base, tiny_base("llama")), [a], [1.0])
    for name, tensor in weights_of(tmp_path / "c").items():
        assert torch.equal(tensor, exact.get_parameter(name).to(torch.bfloat16)), name
    fold([a], base, tmp_path / "wide", dtype="float32")
    assert {t.dtype for t in weights_of(tmp_path / "wide").values()} == {torch.float32}
    assert config_of(tmp_path / "wide", "config.json")["dtype"] == "float32"
    (worst,) = {fold([a], base, tmp_path / "wider", dtype="float64").tightest}
    assert worst.measured <= worst.bound < 1e-12 * worst.output  # summed in float64 as well


def test_a_tied_embedding_is_refused_or_untied(save_adapter, tiny_base, tmp_path):
    model = tiny_base("llama", tied=True)
    base = stored(model, tmp_path / "base")
    a = save_adapter("a", seed=1, targets=["embed_tokens"])
    with pytest.raises(ValueError, match=r"--untie.*shares its weight with lm_head"):
        fold([a], base, tmp_path / "c")
    assert not (tmp_path / "c").exists()
    report = fold([a], base, tmp_path / "c", untie=True)
    assert any(n.startswith("untied") for n in report.notes)
    before, after = weights_of(base), weights_of(tmp_path / "c")
    assert torch.equal(after["lm_head.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    from peft import PeftModel

    with quiet():
        side = PeftModel.from_pretrained(loaded(base, model), str(a))(IDS).logits
    assert (loaded(tmp_path / "c", model)(IDS).logits - side).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("architecture", "targets", "said"),
    [
        ("llama", ["lm_head"], "lm_head.weight shares its weight with model.embed_tokens.weight, where"),
        (
            "llama",
            ["embed_tokens", "lm_head"],
            "embed_tokens.weight and lm_head.weight share their weight, and",
        ),
        (
            "encoder-decoder",
            ["embed_tokens"],
            "encoder.* and decoder.* share their weight with shared.* and lm_head",
        ),
        ("gpt2", ["wte"], "transformer.wte.weight shares"),
        ("bert", ["word_embeddings"], "word_embeddings.weight shares"),
    ],
)
@pytest.mark.parametrize("held", ["once", "twice", "under other names"])
def test_untied_places_each_compute_what_adapters_do_there(
    held, architecture, targets, said, save_adapter, tiny_base, tmp_path
):
    """Whether the files hold the weight once or at each place, and under the model's names or without its prefix."""
    model = tiny_base(architecture, tied=True)
    if architecture == "bert":
        model.cls.predictions.bias += 1  # shared as well, and not adapted
    base = stored(model, tmp_path / "base", "1GB")
    tensors, prefix = load_file(base / WHOLE), f"{model.base_model_prefix}."
    if held == "twice":
        tensors = {k: v.clone() for k, v in model.state_dict().items()}
    if held == "under other names":
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    save_file(tensors, base / WHOLE, {"format": "pt"})
    a = save_adapter("a", architecture, 1, targets=targets)
    with pytest.raises(ValueError, match=f"or --untie.* got .*{said}"):
        fold([a], base, tmp_path / "c")
    assert fold([a], base, tmp_path / "c", untie=True).notes
    assert config_of(tmp_path / "c", "config.json")["tie_word_embeddings"] is False
    from peft import PeftModel

    inputs = {"input_ids": IDS} | ({"decoder_input_ids": IDS} if architecture == "encoder-decoder" else {})
    with quiet():
        side = PeftModel.from_pretrained(loaded(base, model), str(a))(**inputs).logits
    assert (loaded(tmp_path / "c", model)(**inputs).logits - side).abs().max() < 1e-4


def test_what_has_no_room_or_is_no_number_is_no_failed_fold(save_adapter, tiny_base, tmp_path):
    a = save_adapter("a", seed=1, targets=["q_proj"])
    model = tiny_base("llama")
    base = stored(model, tmp_path / "base")
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[:] = torch.nan
    odd = stored(model, tmp_path / "odd")
    before = sorted(tmp_path.iterdir())
    for folder, weight, dtype, named in (
        (base, 1e6, "float16", "q_proj: dtype: expected a format with room for the weights, got float16"),
        (base, 1e39, None, "q_proj: weights: expected a weight times a scale that float32 holds, got 2e"),
        (odd, 1.0, None, "base: .*q_proj: expected finite weights"),
    ):
        with pytest.raises(ValueError, match=named):
            fold([a], folder, tmp_path / "c", [weight], dtype=dtype)
    assert sorted(tmp_path.iterdir()) == before


def test_what_no_adapter_touches_has_room_in_the_format_too(save_adapter, tiny_base, tmp_path):
    """As the parts of a fused parameter have; what is infinite in the base may stay so."""
    model = tiny_base("llama", torch.bfloat16)
    with torch.no_grad():
        model.lm_head.weight[0, 0] = 7e4
    base, a = stored(model, tmp_path / "base"), save_adapter("a", seed=1, targets=["q_proj"])
    mixture = qwen_moe()
    with torch.no_grad():
        mixture.model.layers[1].mlp.experts.down_proj[2, 0, 0] = 7e4
    fused_base = stored(mixture, tmp_path / "fused")
    b = fused(mixture, tmp_path / "b", 1, [], target_parameters=["mlp.experts.down_proj"])
    before = sorted(tmp_path.iterdir())
    for adapter, folder, named in ((a, base, "lm_head.weight"), (b, fused_base, "experts.2.down_proj.weight")):
        with pytest.raises(
            ValueError, match=f"{named}: dtype: expected a format with room for the weights, got float16"
        ):
            fold([adapter], folder, tmp_path / "c", dtype="float16")
    assert sorted(tmp_path.iterdir()) == before
    fold([a], base, tmp_path / "c", dtype="float32")
    with torch.no_grad():
        model.lm_head.weight[0, 0] = -torch.inf
    fold([a], stored(model, tmp_path / "masked"), tmp_path / "d", dtype="float16")
    assert float(weights_of(tmp_path / "d")["lm_head.weight"][0, 0]) == -torch.inf


@pytest.mark.parametrize("tied", [False, True])
def test_a_head_that_was_trained_is_not_lost(tied, save_adapter, tiny_base, tmp_path):
    """peft saves it along, and loads it in place of the base's."""
    model = tiny_base("llama", tied=tied)
    base = stored(model, tmp_path / "base")
    a = save_adapter("a", seed=1, targets=["q_proj"])
    tensors, key = load_file(a / SAFE), "base_model.model.lm_head.weight"
    save_file(tensors | {key: model.lm_head.weight.clone()}, a / SAFE)
    fold([a], base, tmp_path / "c")
    save_file(tensors | {key: model.lm_head.weight + 1}, a / SAFE)
    with pytest.raises(ValueError, match=r"a: lm_head.weight: expected the base's own weight, got another"):
        fold([a], base, tmp_path / "d")


def qwen_moe() -> Any:
    """A tiny mixture whose experts lie one by one in the files and fused in the model."""
    import transformers

    heads: dict[str, Any] = {"head_dim": 8}
    config = transformers.Qwen3MoeConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2,
        bos_token_id=None, eos_token_id=None, pad_token_id=None, **heads,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        return transformers.Qwen3MoeForCausalLM(config).eval()


def fused(model: Any, folder: Path, seed: int, targets: Any = "all-linear", **options: Any) -> Path:
    """An adapter on everything that peft calls all-linear: attention, router and fused experts."""
    options |= {"r": 3, "lora_alpha": 6, "target_modules": targets, "task_type": "CAUSAL_LM"}
    return made_by_peft(model, folder, seed, **options)


def test_fused_experts_are_merged_and_folded(tmp_path):
    from empirical.adapters.audit import audit
    from empirical.adapters.files import read_all
    from empirical.adapters.merge import merge

    base = stored(qwen_moe(), tmp_path / "base")
    assert any("experts.3.up_proj" in k for k in weights_of(base))
    folders = [fused(qwen_moe(), tmp_path / f"a{i}", i) for i in range(2)]
    made = merge(folders, [0.7, -1.3], tmp_path / "merged")
    wanted = by_peft(loaded(base, qwen_moe()), folders, [0.7, -1.3])
    moved = (wanted(IDS).logits - loaded(base, qwen_moe())(IDS).logits).abs().max()
    together = by_peft(loaded(base, qwen_moe()), [tmp_path / "merged"], [1.0])
    for name, parameter in wanted.named_parameters():
        assert (together.get_parameter(name) - parameter).abs().max() < 1e-5 * parameter.abs().max(), name
    assert {m.r for m in made.modules} == {12}  # gate_up holds two of rank 3 and of 3 each
    assert fold(folders, base, tmp_path / "wide", [0.7, -1.3], dtype="float64").dtypes == ["float64"]
    report = fold(folders, base, tmp_path / "c", [0.7, -1.3])
    assert all(m.measured <= m.bound for m in report.modules)
    folded = loaded(tmp_path / "c", qwen_moe())
    for name, parameter in wanted.named_parameters():
        assert (folded.get_parameter(name) - parameter).abs().max() < 1e-6 * parameter.abs().max(), name
    assert (folded(IDS).logits - wanted(IDS).logits).abs().max() < 1e-4 * moved
    parts, audited = read_all(folders), audit(folders).modules
    for m in audited:
        assert [x.norm for x in m.parts] == pytest.approx([p.update(m.name).norm() for p in parts])
    names = {m.name for m in audited}
    assert names == set(parts[0].modules)
    assert "model.layers.1.mlp.experts.down_proj[3]" in names


def test_what_transformers_reads_beside_the_weights_comes_along(save_adapter, tiny_base, tmp_path):
    """Templates, further tokenizers, but no adapter, no checkpoint and nothing hidden; the README is one's own."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    model = tiny_base("llama")
    base, a = stored(model, tmp_path / "base"), save_adapter("a", seed=1)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    tokenizer.chat_template = {"default": "one {{ messages }}", "tool_use": "two {{ messages }}"}
    for folder in (base, base / "decoder_tokenizer", base / "checkpoint-100", base / ".cache"):
        tokenizer.save_pretrained(folder)
    with quiet():
        model.save_pretrained(base / "checkpoint-100")
        model.save_pretrained(base / "notes" / "inner")
    (base / "README.md").write_text("of the base", encoding="utf-8")
    (base / "LICENSE").write_text("of the base", encoding="utf-8")
    for name in (CONFIG, SAFE):
        shutil.copy(a / name, base / name)
    fold([a], base, tmp_path / "c")
    along = {p.relative_to(base) for p in base.rglob("*") if p.is_file()}
    along -= {p for p in along if p.name in (CONFIG, SAFE) or p.parts[0] in ("checkpoint-100", ".cache", "notes")}
    assert {p.relative_to(tmp_path / "c") for p in (tmp_path / "c").rglob("*") if p.is_file()} == along
    for folder in (tmp_path / "c", tmp_path / "c" / "decoder_tokenizer"):
        assert PreTrainedTokenizerFast.from_pretrained(folder).chat_template == tokenizer.chat_template
    assert "Folded by lora-limits: base + 1 x a" in (tmp_path / "c" / "README.md").read_text(encoding="utf-8")
    assert (tmp_path / "c" / "LICENSE").read_text(encoding="utf-8") == "of the base"
    loaded(tmp_path / "c", model)


def test_an_adapter_is_not_replaced_by_its_fold(save_adapter, tiny_base, tmp_path):
    """Also one that holds the configuration of its model."""
    base, a, b = stored(tiny_base("llama"), tmp_path / "base"), save_adapter("a", seed=1), save_adapter("b", seed=2)
    shutil.copy(base / "config.json", a)
    with pytest.raises(ValueError, match="another folder"):
        fold([b, a], base, a, force=True)
    assert (a / SAFE).is_file()


@pytest.mark.parametrize("fault", ["scale", "missing", "expert"])
def test_a_wrong_fold_is_noticed(fault, save_adapter, tiny_base, tmp_path, monkeypatch):
    moe = fault == "expert"
    base = stored(qwen_moe() if moe else tiny_base("llama"), tmp_path / "base")
    only = {"targets": [], "target_parameters": ["mlp.experts.gate_up_proj"]}
    a = fused(qwen_moe(), tmp_path / "a", 1, **only) if moe else save_adapter("a", seed=1)
    right = torch.Tensor.addmm_

    def wrong(self: torch.Tensor, *arguments: Any, alpha: float = 1.0) -> torch.Tensor:
        return right(self, *arguments, alpha=alpha * {"scale": 1.001, "missing": 0.0, "expert": 1.001}[fault])

    monkeypatch.setattr(torch.Tensor, "addmm_", wrong)
    with pytest.raises(FoldFailed, match="nothing was written"):
        fold([a], base, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_what_cannot_be_folded_is_refused_in_one_line(save_adapter, tiny_base, tmp_path):
    base = stored(tiny_base("llama"), tmp_path / "base")
    a = save_adapter("a", seed=1)
    codes = Path(shutil.copytree(base, tmp_path / "fp8"))
    configured(codes, "config.json", quantization_config={"quant_method": "fp8"})
    bare = Path(shutil.copytree(base, tmp_path / "bare", ignore=shutil.ignore_patterns("*.safetensors*")))
    raw = Path(shutil.copytree(base, tmp_path / "raw"))
    for path in raw.glob("*.safetensors"):
        save_file({k: v.to(torch.float8_e4m3fn) for k, v in load_file(path).items()}, str(path))
    other = stored(tiny_base("gpt2"), tmp_path / "other")
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (codes, {}, "quantised base .fp8"), (bare, {}, "weights in safetensors"), (raw, {}, "plain format"),
        (other, {}, "a module of the base"), (tmp_path / "missing", {}, "a model folder"),
        (base, {"dtype": "int8"}, "dtype"), (base, {"weights": [1.0, 2.0]}, "weights"),
    ]  # fmt: skip
    before = sorted(p.name for p in tmp_path.iterdir())
    for folder, options, named in cases:
        with pytest.raises(ValueError, match=named) as caught:
            fold([a], folder, tmp_path / "c", **options)
        assert len(str(caught.value).splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    made = fold([a], base, tmp_path / "c")
    assert isinstance(made, FoldReport)
    with pytest.raises(ValueError, match="--force"):
        fold([a], base, tmp_path / "c")
    fold([a], base, tmp_path / "c", [2.0], force=True)
    with pytest.raises(ValueError, match="another folder"):
        fold([a], base, base, force=True)
