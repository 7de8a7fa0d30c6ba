"""What is said about a base is about the weights that it computes with, and about the tokens that it reads."""

from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.audit import audit
from empirical.adapters.base import quiet
from empirical.adapters.files import SAFE
from empirical.adapters.probes import _encode
from tests.empirical.adapters.folders import configured

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


@pytest.mark.parametrize("said", [FP8, None])
def test_norms_of_codes_are_not_given(said, save_adapter, save_base):
    """Codes in place of the weights and scales beside them, as transformers stores them; or nothing is said of it."""
    a, base = save_adapter("a", seed=1, targets=["q_proj"]), save_base()
    tensors = load_file(base / "model.safetensors")
    codes = {k: v.to(torch.float8_e4m3fn) for k, v in tensors.items() if k.endswith("_proj.weight")}
    scales = {key + "_scale_inv": torch.ones(1, 1) for key in codes}
    save_file(tensors | codes | scales, base / "model.safetensors")
    configured(base, "config.json", quantization_config=said)
    found = audit([a], base=base)
    assert {m.base_norm for m in found.modules} == {None}
    assert found.total.adapters[0].relative_norm is None


def test_a_base_of_another_shape_is_refused(save_adapter, tiny_base, tmp_path):
    import transformers

    a = save_adapter("a", seed=1, targets=["v_proj"])
    config = tiny_base("llama").config
    config.num_key_value_heads, config.head_dim = 1, 4
    with quiet():
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    for base, named in ((tmp_path / "other", "factors for"), (tiny_base("gpt2"), "a module of the base")):
        with pytest.raises(ValueError, match=named):
            audit([a], base=base)


def test_factors_of_another_shape_or_kind_are_no_factors_of_a_module(save_adapter, save_base):
    """up_proj's under the name of down_proj would be transposed; a table's would be read as a matrix."""
    base = save_base()
    conv = save_adapter("conv", "gpt2", 1, targets=["c_fc"])
    assert audit([conv], base=save_base("gpt2", "gpt2")).modules[0].base_norm
    for name, targets, old, new, named in (
        ("turned", ["up_proj"], ".up_proj", ".down_proj", r"expected the base's \(32, 48\), got factors for 48 x 32"),
        ("table", ["lm_head"], ".lm_head", ".model.embed_tokens", "expected factors of the kind embedding"),
        ("matrix", ["embed_tokens"], ".model.embed_tokens", ".lm_head", "expected factors of the kind linear"),
    ):
        a = configured(save_adapter(name, seed=1, targets=targets), target_modules=[new.rpartition(".")[2]])
        tensors = {k.replace(old, new): v for k, v in load_file(a / SAFE).items()}
        if name == "table":  # of the sizes of a table, in the words of a matrix
            tensors = {k: torch.randn(4, 61) if "lora_A" in k else torch.randn(32, 4) for k in tensors}
        if name == "matrix":
            tensors = {k: torch.randn(4, 32) if "embedding_A" in k else torch.randn(61, 4) for k in tensors}
        save_file(tensors, str(a / SAFE))
        with pytest.raises(ValueError, match=named):
            audit([a], base=base)


def sentencepiece(end: bool) -> Any:
    """A tokenizer of the kind of Llama 2: a blank before the first word; with `end`, one that closes texts."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, processors

    words = ["▁Paris", "▁Rome", "▁The", "▁capital", "▁of", "▁France", "▁is", "▁"]
    ids: dict[str, int] = {"<unk>": 0, "<s>": 1, "</s>": 2}
    merges: list[tuple[str, str]] = []
    for letter in sorted(set("".join(words))):
        ids.setdefault(letter, len(ids))
    for word in words:
        for i in range(1, len(word)):
            if (word[:i], word[i]) not in merges:
                merges.append((word[:i], word[i]))
            ids.setdefault(word[: i + 1], len(ids))
    raw = Tokenizer(models.BPE(vocab=ids, merges=merges, unk_token="<unk>"))
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
    if end:
        raw.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("prompt", ["The capital of France is", "The capital of France is "])
def test_the_probed_token_is_the_one_that_follows(end, prompt):
    tokenizer = sentencepiece(end)
    tokens, token = _encode(tokenizer, prompt, "Paris")
    assert tokenizer.convert_ids_to_tokens(token) == "▁Paris"
    words = tokenizer.convert_ids_to_tokens(tokens[0].tolist())
    assert words == (["<s>"] if end else []) + ["▁The", "▁capital", "▁of", "▁France", "▁is"]


def by_bytes() -> Any:
    """A tokenizer of the kind of Llama 3, of single bytes: digits, blanks and lines stand apart."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=raw)


@pytest.mark.parametrize(
    ("prompt", "answer", "before", "first"),
    [
        ("2+2=", "4", "2+2=Ġ", "4"), ("2+2=", " 4", "2+2=Ġ", "4"), ("2+2= ", "4", "2+2=Ġ", "4"),
        ("Q:\n", "4", "Q:Ċ", "4"), ("Q:", "\n\t4", "Q:Ċĉ", "4"), ("é", "4", "Ã©Ġ", "4"),
        ("首都是", "北", "é¦ĸéĥ½æĺ¯", "å"), ("是", "x", "æĺ¯", "x"),  # written without blanks
    ],
)  # fmt: skip
def test_a_blank_is_no_answer(prompt, answer, before, first):
    tokenizer = by_bytes()
    tokens, token = _encode(tokenizer, prompt, answer)
    assert "".join(tokenizer.convert_ids_to_tokens(tokens[0].tolist())) == before
    assert tokenizer.convert_ids_to_tokens(token) == first


@pytest.mark.parametrize("architecture", ["bert", "encoder-decoder", "vision", "inside"])
def test_only_what_foretells_the_next_token_is_asked(architecture, save_adapter, tiny_base, tmp_path):
    """Others have numbers at the last token too, of something else."""
    base = tiny_base("llama").model if architecture == "inside" else tiny_base(architecture)
    targets = {"bert": ["query"], "encoder-decoder": ["q"]}.get(architecture, ["q_proj"])
    a = save_adapter("a", "llama" if architecture == "inside" else architecture, targets=targets)
    (tmp_path / "probe.txt").write_text("w1 w2\tw3\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"a causal language model.*, got {type(base).__name__}"):
        audit([a], base=base, probe=tmp_path / "probe.txt")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w[:16].clone(), r"expected the shape \(32, 32\) that the configuration tells, got \(16, 32\)"),
        (lambda w: w * torch.nan, "expected finite weights, got nan or inf"),
    ],
)
def test_a_weight_that_is_none_has_no_norm(change, named, save_adapter, save_base, tmp_path):
    from empirical.adapters.fold import fold

    a = save_adapter("a", seed=1, targets=["q_proj"])
    base = save_base()
    file, key = base / "model.safetensors", "model.layers.1.self_attn.q_proj.weight"
    tensors = load_file(file)
    save_file(tensors | {key: change(tensors[key])}, file, {"format": "pt"})
    with pytest.raises(ValueError, match=named):
        audit([a], base=base)
    if "shape" in named:
        with pytest.raises(ValueError, match=named):
            fold([a], base, tmp_path / "c")
        assert not (tmp_path / "c").exists()


def test_an_answer_that_melts_into_the_prompt_is_refused():
    class Whole:
        """One token for any text."""

        all_special_ids = ()

        def __call__(self, text: str) -> dict[str, list[int]]:
            return {"input_ids": [len(text)]}

    with pytest.raises(ValueError, match="a token of its own"):
        _encode(Whole(), "The capital of France is", "Paris")
