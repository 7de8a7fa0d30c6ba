"""One module keeps one name: wrappers, prefixes, versions of transformers, and what peft's own conversion knows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.base import quiet
from empirical.adapters.files import CONFIG, SAFE, read_adapter, read_all
from empirical.adapters.identity import with_adapters
from empirical.adapters.merge import merge
from empirical.adapters.names import (
    WRAPPERS,
    _likened,
    doubtful,
    factor,
    factor_key,
    module_name,
    said_base,
    skeleton,
)
from tests.empirical.adapters.folders import configured, made_by_peft

IDS = torch.arange(8)[None]


def renamed(source: Path, name: str, change: Callable[[str], str]) -> Path:
    """A copy of an adapter with other keys."""
    folder = source.parent / name
    shutil.copytree(source, folder)
    tensors = {change(k): v for k, v in load_file(source / SAFE).items()}
    assert tensors.keys() != load_file(source / SAFE).keys()
    save_file(tensors, str(folder / SAFE))
    return folder


def logits(base: Any, *folders: Path) -> torch.Tensor:
    """Through peft, with all of these adapters active."""
    names = [f"a{i}" for i in range(len(folders))]
    model = with_adapters(base, folders, names)
    model.base_model.set_adapter(names)
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


#: what wrappers and tools do to a key
WRAPPED: dict[str, Callable[[str], str]] = {
    "fsdp": lambda k: k.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
    "checkpointed": lambda k: k.replace(".layers.0.", ".layers.0._checkpoint_wrapped_module."),
    "compiled": lambda k: k.replace("base_model.model.", "base_model.model._orig_mod."),
    "compiled outside": lambda k: "_orig_mod." + k,
    "parallel": lambda k: "module." + k,
    "parallel inside": lambda k: k.replace("base_model.model.", "base_model.model.module."),
    "doubled prefix": lambda k: "base_model.model." + k,
    "held by a module": lambda k: "net.student." + k,
    "lightning": lambda k: "_forward_module." + k,
    "factors in fsdp": lambda k: k.replace(".weight", ".default._fsdp_wrapped_module.weight"),
    "factors compiled": lambda k: k.replace(".lora_", "._orig_mod.lora_").replace(
        ".weight", ".default._orig_mod.weight"
    ),
    "parallel around the tuner": lambda k: k.replace("base_model.", "base_model.module."),
    "no prefix": lambda k: k.removeprefix("base_model.model."),
    "name inside": lambda k: k.replace(".weight", ".default.weight"),
    "name alone": lambda k: k.replace(".weight", ".default"),
    "neither": lambda k: k.removesuffix(".weight"),
    "a name like another": lambda k: k.replace(".weight", ".weight.weight"),
    "all": lambda k: "module._orig_mod." + k.replace(".self_attn.", "._fsdp_wrapped_module.self_attn."),
}


@pytest.mark.parametrize("how", WRAPPED)
def test_a_wrapped_adapter_is_merged_as_the_module_that_it_adapts(how, save_adapter, tiny_base, tmp_path):
    a, b = save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=2, targets=["q_proj", "v_proj"])
    odd = renamed(a, "odd", WRAPPED[how])
    made = merge([odd, b], None, tmp_path / "c")
    assert any("not as peft saves" in n for n in made.notes)
    wanted = logits(tiny_base("llama"), a, b)
    assert (logits(tiny_base("llama"), tmp_path / "c") - wanted).abs().max() < 1e-5
    assert (logits(tiny_base("llama"), b) - wanted).abs().max() > 1e-2  # peft alone loads half of it
    merge([odd], None, tmp_path / "repaired")  # and one alone is mended
    assert load_file(tmp_path / "repaired" / SAFE).keys() == load_file(a / SAFE).keys()
    assert not read_adapter(tmp_path / "repaired").notes


INSIDE = "._checkpoint_wrapped_module.self_attn.q_proj"


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": [f"model.layers.{i}{INSIDE}" for i in range(2)]},
        {"target_modules": r"model\.layers\.\d" + INSIDE.replace(".", r"\.")},
        {"r": 7, "rank_pattern": {f"layers.{i}{INSIDE}": 4 for i in range(2)}},
        {"lora_alpha": 1, "alpha_pattern": {f"model.layers.{i}{INSIDE}": 8 for i in range(2)}},
    ],
)
def test_a_configuration_may_name_modules_with_their_wrappers(fields, save_adapter, tmp_path):
    """As where the model was wrapped before peft saw it."""
    a = read_adapter(save_adapter("a", seed=1, targets=["q_proj"]))
    odd = renamed(a.path, "odd", lambda k: k.replace(".self_attn.q_proj", INSIDE))
    found = read_adapter(configured(odd, **fields))
    assert {n: (m.r, m.scale) for n, m in found.modules.items()} == {n: (m.r, m.scale) for n, m in a.modules.items()}
    merge([odd], None, tmp_path / "mended")
    assert not read_adapter(tmp_path / "mended").notes


def test_full_names_hold_where_the_base_calls_the_modules_otherwise(save_adapter, tiny_base, tmp_path):
    """Ranks and scales as trained, on the model inside; and the base that is given says what is one module."""
    from empirical.adapters.audit import audit

    names = [f"model.layers.{i}.self_attn.q_proj" for i in range(2)]
    full = save_adapter("full", seed=1, targets=names, rank_pattern={names[1]: 3}, alpha_pattern={"^" + names[1]: 9})
    bare = renamed(save_adapter("b", seed=2, targets=["q_proj"]), "bare", lambda k: k.replace("model.layers", "layers"))
    inner = tiny_base("llama").model
    modules = read_all([full, bare], model=inner)[0].modules
    assert {n: (m.r, m.scale) for n, m in modules.items()} == {
        "layers.0.self_attn.q_proj": (4, 2.0), "layers.1.self_attn.q_proj": (3, 3.0)
    }  # fmt: skip
    for base in (inner, tiny_base("llama")):
        assert audit([full, bare], base=base).total.pairs[0].common_modules == 2
    with pytest.raises(ValueError, match="--base says which"):
        audit([full, bare])


def test_the_names_of_wrappers_are_those_of_torch():
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import _CHECKPOINT_WRAPPED_MODULE
    from torch.distributed.fsdp._common_utils import FSDP_WRAPPED_MODULE

    with quiet():
        compiled: Any = torch.compile(torch.nn.Sequential(torch.nn.Linear(2, 2)))
    (inside,) = {n.partition(".")[0] for n, _ in compiled.named_parameters()}
    assert {_CHECKPOINT_WRAPPED_MODULE, FSDP_WRAPPED_MODULE, inside} <= set(WRAPPERS)


def test_names_are_read_strictly():
    assert module_name("base_model.model.base_model.model.model.x") == "model.x"
    assert module_name("model.module.x") == "model.module.x"  # a real module of that name stays
    assert factor("model.x.lora_A.weight.extra") is None
    assert factor("a..b.lora_A.weight") is None
    found = factor("base_model.model.wte.lora_embedding_A.mine")
    assert (found.module, found.factor, found.label) == ("wte", "embedding_A", "mine")
    assert found.key == "base_model.model.wte.lora_embedding_A"


def test_two_adapters_in_one_file_are_refused(save_adapter, tmp_path):
    a = save_adapter("a", targets=["q_proj"])
    both = renamed(a, "both", lambda k: k.replace(".weight", ".one.weight" if "layers.0" in k else ".two.weight"))
    with pytest.raises(ValueError, match="one adapter in a file, got 2: one, two"):
        read_adapter(both)


def test_doubtful_names_are_those_that_versions_move():
    language, old = "model.language_model.layers.0.q_proj", "language_model.model.layers.0.q_proj"
    assert doubtful([[language], [old]]) == (language, old)
    assert doubtful([["layers.0.q_proj"], ["model.layers.0.q_proj"]])
    assert doubtful([["model.layers.0.q_proj"], ["transformer.model.layers.0.q_proj"]])
    assert doubtful([["net.layers.0.q_proj"], ["layers.0.q_proj"]])
    assert doubtful([["layers.0.q_proj", "net.layers.0.q_proj"], ["layers.0.q_proj"]]) is None
    assert doubtful([["aux_layers.0.q_proj"], ["layers.0.q_proj"]]) is None
    assert doubtful([["encoder.block.0.q"], ["decoder.block.0.q"]]) is None
    assert doubtful([["model.vision_tower.layers.0.q_proj"], [language]]) is None
    assert doubtful([[language, "model.layers.0.q_proj"], [language]]) is None  # one model that has both


def on_disk(kind: Any, config: Any, folder: Path) -> Callable[[], Any]:
    """A way to load a random model that was saved there."""
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)

    def fresh() -> Any:
        with quiet():
            return kind.from_pretrained(folder).eval()

    return fresh


@pytest.fixture
def vlm(tmp_path):
    """A tiny Gemma 3 on disk, a way to load it, and two adapters of its language model with today's names."""
    import transformers

    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = small | {"vocab_size": 64, "num_key_value_heads": 2, "head_dim": 8}
    config = transformers.Gemma3Config(text_config=text, vision_config=small | {"image_size": 16, "patch_size": 8})
    fresh = on_disk(transformers.Gemma3ForConditionalGeneration, config, tmp_path / "base")
    targets = r".*language_model.*\.(q_proj|v_proj)"
    options = {"r": 4, "lora_alpha": 8, "target_modules": targets}
    folders = [made_by_peft(fresh(), tmp_path / f"new{i}", i, **options) for i in range(2)]
    return tmp_path / "base", fresh, folders


def before_4_52(key: str) -> str:
    return key.replace("model.model.language_model.layers", "model.language_model.model.layers")


def test_names_from_before_a_move_are_one_module(vlm, tmp_path):
    base, fresh, (new, other) = vlm
    old = renamed(new, "old", before_4_52)
    wanted = logits(fresh(), new, other)
    made = merge([old, other], None, tmp_path / "c")  # the base that they name lies here, and is asked
    assert len(made.modules) == 4
    assert (logits(fresh(), tmp_path / "c") - wanted).abs().max() < 1e-5
    merge([old], None, tmp_path / "repaired")
    assert load_file(tmp_path / "repaired" / SAFE).keys() == load_file(new / SAFE).keys()
    for folder in (old, other):  # as if they had been trained elsewhere
        configured(folder, base_model_name_or_path=None)
    with pytest.raises(ValueError, match=r"one name for one module \(--base"):
        merge([old, other], None, tmp_path / "d")
    merge([old, other], None, tmp_path / "d", base=fresh())
    assert (logits(fresh(), tmp_path / "d") - wanted).abs().max() < 1e-5
    assert base.is_dir()


def test_experts_from_before_they_were_fused_meet_those_after(tmp_path):
    import transformers

    none: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, **none,
    )  # fmt: skip
    fresh = on_disk(transformers.MixtralForCausalLM, config, tmp_path / "base")

    def old(name: str, seed: int) -> Path:
        draw, tensors = torch.Generator().manual_seed(seed), {}
        sizes = {"self_attn.q_proj": (32, 32)}
        for e in range(4):
            sizes |= {f"block_sparse_moe.experts.{e}.{w}": s for w, s in zip(("w1", "w3"), [(48, 32)] * 2, strict=True)}
            sizes[f"block_sparse_moe.experts.{e}.w2"] = (32, 48)
        for module, (rows, columns) in sizes.items():
            stem = f"base_model.model.model.layers.0.{module}."
            tensors[stem + "lora_A.weight"] = torch.randn(3, columns, generator=draw) * 0.2
            tensors[stem + "lora_B.weight"] = torch.randn(rows, 3, generator=draw) * 0.2
        (tmp_path / name).mkdir()
        save_file(tensors, str(tmp_path / name / SAFE))
        fields = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 3, "lora_alpha": 6, "lora_dropout": 0.0}
        fields["target_modules"] = ["q_proj", "w1", "w2", "w3"]
        (tmp_path / name / CONFIG).write_text(json.dumps(fields), encoding="utf-8")
        return tmp_path / name

    a, b = old("a", 1), old("b", 2)
    wanted = logits(fresh(), a, b)
    merge([a, b], None, tmp_path / "c")  # in the old names, which peft converts
    assert (logits(fresh(), tmp_path / "c") - wanted).abs().max() < 1e-5
    found = read_all([a, b], model=fresh())  # in the names of the base: what peft would load
    fused = found[0].modules["model.layers.0.mlp.experts.gate_up_proj[3]"]
    assert (fused.r, fused.out, fused.inner, fused.experts, fused.scale) == (6, 96, 32, 4, 2.0)
    dense = found[0].update(fused.name).dense()
    tensors = load_file(a / SAFE)
    for half, w in enumerate(("w1", "w3")):
        stem = f"base_model.model.model.layers.0.block_sparse_moe.experts.3.{w}."
        part = 2.0 * tensors[stem + "lora_B.weight"] @ tensors[stem + "lora_A.weight"]
        assert (torch.from_numpy(dense)[48 * half : 48 * half + 48] - part).abs().max() < 1e-6


def test_adapters_are_called_by_what_tells_them_apart(save_adapter, tmp_path):
    a = save_adapter("a", targets=["q_proj"])
    places = []
    for owner in ("org", "other"):
        place = tmp_path / "hub" / f"models--{owner}--x-lora" / "snapshots" / ("0123456789" * 4)
        shutil.copytree(a, place)
        places.append(place)
    second = places[0].parent / ("9876543210" * 4)
    shutil.copytree(a, second)
    assert [x.name for x in read_all(places)] == ["org/x-lora", "other/x-lora"]
    assert [x.name for x in read_all([places[0], second])] == ["org/x-lora@01234567", "org/x-lora@98765432"]
    for run in ("run1", "run2"):
        shutil.copytree(a, tmp_path / run / "checkpoint-100")
    shutil.copytree(a, tmp_path / "run1" / "checkpoint-20")
    one, two = (tmp_path / run / "checkpoint-100" for run in ("run1", "run2"))
    assert [x.name for x in read_all([one, two, a])] == ["run1/checkpoint-100", "run2/checkpoint-100", "a"]
    twice = [x.name for x in read_all([one, one, two])]
    assert twice == ["checkpoint-100#1", "checkpoint-100#2", "run2/checkpoint-100"]
    with pytest.raises(ValueError, match="below it: checkpoint-20, checkpoint-100"):
        read_adapter(tmp_path / "run1")


def test_what_is_no_base_is_one_line_and_no_said_base(tmp_path):
    for name, text in {"unknown": '{"model_type": "no such"}', "cut": '{"model_type"', "list": "[1]"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text, encoding="utf-8")
    for name in ("unknown", "cut", "list", "missing"):
        with pytest.raises(ValueError, match="whose configuration transformers knows, got ") as caught:
            skeleton(tmp_path / name, local=True)
        assert len(str(caught.value).splitlines()) == 1
        assert said_base({"base_model_name_or_path": str(tmp_path / name)}) is None
    for said in (None, "", 3, "./missing", "nobody/has-this-one"):
        assert said_base({"base_model_name_or_path": said}) is None


def test_a_base_that_is_said_is_built_without_its_weights(vlm, tmp_path):
    base, _, _ = vlm
    for weights in base.glob("*.safetensors"):
        weights.unlink()
    found = said_base({"base_model_name_or_path": str(base)})
    assert {p.device.type for p in found.parameters()} == {"meta"}
    assert "model.language_model.layers.1.self_attn.q_proj" in dict(found.named_modules())
    assert skeleton(found) is found


def test_a_module_that_stands_under_two_names_of_the_base_is_refused(vlm, tmp_path):
    _, fresh, (new, other) = vlm
    doubled = renamed(new, "doubled", before_4_52)
    tensors = load_file(new / SAFE)
    save_file({before_4_52(k): v.clone() for k, v in tensors.items()} | tensors, str(doubled / SAFE))
    with pytest.raises(ValueError, match="one name for one module, got two that the base knows as one"):
        read_all([doubled, other], model=fresh())


def test_a_likeness_counts_only_if_it_is_the_only_one():
    class Two(torch.nn.Module):
        def __init__(self, *names: str) -> None:
            super().__init__()
            for name in names:
                self.add_module(name, torch.nn.ModuleDict({"q": torch.nn.Linear(2, 2)}))

    key = factor_key("text_model.q", "A")
    assert _likened(Two("model"), {key: "old"}) == {factor_key("model.q", "A"): "old"}
    assert _likened(Two("model", "language_model"), {key: "old"}) == {key: "old"}
    assert _likened(Two("text_model", "model"), {key: "old"}) == {key: "old"}  # it is there
    other = factor_key("language_model.q", "A")
    with pytest.raises(ValueError, match="one name for one module, got two that the base knows as one"):
        _likened(Two("model"), {key: "old", other: "older"})


def test_what_peft_cannot_convert_is_refused_in_its_words(vlm, monkeypatch):
    def refuses(*_: Any) -> None:
        raise NotImplementedError("no such conversion\nat all")

    where = "peft.utils.transformers_weight_conversion.convert_peft_adapter_state_dict_for_transformers"
    monkeypatch.setattr(where, refuses)
    with pytest.raises(
        ValueError, match="new0: expected names that peft can convert to the base's, got no such"
    ) as caught:
        read_all(vlm[2], model=vlm[1]())
    assert len(str(caught.value).splitlines()) == 1
