"""A base's files: what they hold is read without its numbers, and each way in which they can be broken is one line."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.base import quiet
from empirical.adapters.checkpoint import INDEX, WHOLE, Checkpoint
from empirical.adapters.names import skeleton
from tests.empirical.adapters.folders import configured


@pytest.fixture
def base(save_base):
    """A tiny base in several files."""
    folder = save_base(max_shard_size="20KB")
    assert (folder / INDEX).is_file()
    return folder


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def shard(folder: Path, number: int = 0) -> Path:
    return sorted(folder.glob("*.safetensors"))[number]


#: fault -> (how it comes about, what the line must name)
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), r"a model folder with config\.json"),
    "configuration cut off": (write("config.json", '{"model_type"'), r"JSON in config\.json"),
    "configuration of another kind": (write("config.json", "[1]"), r"a JSON object in config\.json, got list"),
    "index cut off": (write(INDEX, '{"weight_map": {'), rf"JSON in {INDEX}"),
    "index without a map": (write(INDEX, '{"metadata": {}}'), "an index with a weight_map"),
    "index that names no file": (write(INDEX, '{"weight_map": {"a": 1}}'), "an index with a weight_map"),
    "index that names a file elsewhere": (
        write(INDEX, '{"weight_map": {"a": "../base/model.safetensors"}}'),
        "an index with a weight_map .* beside it",
    ),
    "another file named": (
        write("config.json", '{"transformers_weights": "../base/model.safetensors"}'),
        r"transformers_weights to name safetensors.* beside config\.json, got \.\./base",
    ),
    "an index named that is not there": (
        write("config.json", '{"transformers_weights": "other.safetensors.index.json"}'),
        r"expected other\.safetensors\.index\.json, got none",
    ),
    "a pointer of git-lfs": (
        lambda f: shard(f).write_text("version https://git-lfs.github.com/spec/v1\n"),
        r"got model-000.*: a pointer of git-lfs \(git lfs pull brings the file\)",
    ),
    "a file that is not there": (lambda f: shard(f).unlink(), r"weights in safetensors \(model-00001"),
    "a file cut off": (
        lambda f: shard(f, -1).write_bytes(shard(f, -1).read_bytes()[:100]),
        "whole safetensors files, got model-000",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_base_is_one_line(fault, base):
    assert Checkpoint(base).place
    change, named = BROKEN[fault]
    change(base)
    with pytest.raises(ValueError, match=named) as caught:
        Checkpoint(base)
    assert str(caught.value).startswith("base: expected ")
    assert len(str(caught.value).splitlines()) == 1


def test_norms_are_those_of_the_tensor_in_its_file(base, tiny_base):
    found = Checkpoint(base)
    for key, weight in tiny_base("llama").state_dict().items():
        assert found.norm(key) == pytest.approx(float(weight.double().norm()), rel=1e-6)  # summed in float32
    assert len(found.files) > 1
    assert set(found.place) == set(tiny_base("llama").state_dict())


@pytest.mark.parametrize("named", [None, "other.safetensors", INDEX])
def test_weights_that_lie_twice_are_those_that_transformers_reads(named, base, tiny_base):
    """A whole file beside the parts of another model, and one that the configuration names."""
    other, last = ({k: v * by for k, v in tiny_base("llama").state_dict().items()} for by in (2.0, 3.0))
    save_file(other, base / WHOLE, {"format": "pt"})
    save_file(last, base / "other.safetensors", {"format": "pt"})
    torch.save(last, base / "pytorch_model.bin")
    if named is not None:
        configured(base, "config.json", transformers_weights=named)
    found = Checkpoint(base)
    with quiet():
        read = type(tiny_base("llama")).from_pretrained(base).state_dict()
    for key, weight in read.items():
        assert found.norm(key) == pytest.approx(float(weight.double().norm()), rel=1e-6)
    assert found.index == (named if named == INDEX else None)
    assert len(found.files) == 1 or named == INDEX


@pytest.mark.parametrize(
    ("said", "method"),
    [({"quant_method": "gptq"}, "gptq"), ({"bits": 4}, "of an unknown kind"), ("fp8", "of an unknown kind"),
     ({}, None), (None, None)],
)  # fmt: skip
def test_a_quantisation_is_known_from_the_configuration(said, method, base):
    found = Checkpoint(configured(base, "config.json", quantization_config=said))
    assert found.quantised == method
    assert (found.norm("model.norm.weight") is None) == (method is not None)


def test_codes_have_no_norm(base, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(base / "config.json", whole)
    save_file({"codes": torch.ones(4, dtype=torch.int8), "plain": torch.ones(4, dtype=torch.float16)}, whole / WHOLE)
    assert (Checkpoint(whole).norm("codes"), Checkpoint(whole).norm("plain")) == (None, 2.0)


def test_keys_are_parameters_of_the_model_or_what_it_computes_them_from(save_base):
    """The experts of a mixture lie one by one in old files, and fused in the model."""
    folder = save_base(architecture="experts")
    stored = load_file(folder / WHOLE)
    found = Checkpoint(folder).parameters(skeleton(folder))
    assert found.keys() == stored.keys()
    fused = {k: v for k, v in found.items() if v[1] is not None}
    assert fused
    assert all(".experts." in name for name, _ in fused.values())
    assert len({name for name, _ in fused.values()}) < len(fused)
    assert all(name == key for key, (name, pattern) in found.items() if pattern is None and "mlp" not in name)
