"""The last layers of a model, on states computed once, are the model; an unpacked GGUF file is the model in it."""

import copy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from empirical.tasks.sentences import Part, Ragged, collate, ragged
from empirical.training.adapter import AdapterShape, Job, Schedule, answer_logits, train_everything
from empirical.training.bases import BaseShape, dense, last_layers, linear_modules, no_bars, scratch_base, unpacked
from empirical.training.together import train_adapters
from theory.numerics import stream


def some(count: int = 6) -> Ragged:
    rng = stream(0, "test", "last layers")
    sizes = rng.integers(1, 6, size=count)
    prompts = [rng.integers(0, 20, size=n).tolist() for n in sizes]  # 0 is a token like others inside a sentence
    return ragged(prompts, [rng.integers(1, 20, size=2).tolist() for _ in range(count)])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_last_layers_compute_what_the_model_does(count):
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), count)
    assert len(linear_modules(upper)) == 7 * count
    sentences = some()
    for rows in (np.arange(6), np.array([4, 1]), np.arange(6)):  # the second and third time from memory, other padding
        (batch,) = collate([sentences.take(rows)])
        (wanted, targets), (found, same) = answer_logits(whole, batch), answer_logits(upper, batch)
        assert torch.equal(targets, same)
        # float64 sums of at most 24 terms in three layers, on logits below one
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-13)


def test_fine_tuning_the_last_layer_gives_the_same_change():
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), 1)
    plan = Schedule(5, 4, 1e-2)
    lesson = [Part(some(), 1.0)]
    wanted = train_everything(whole, lesson, plan, 0, linear_modules(whole, [2])).updates
    found = train_everything(upper, lesson, plan, 0, linear_modules(upper)).updates
    for (name, change), (_, own) in zip(wanted.items(), found.items(), strict=True):
        assert np.abs(np.asarray(change)).max() > 1e-3, name
        # five steps of AdamW, whose division by a small root can enlarge a rounding of 1e-16 by about 1 / eps = 1e8
        np.testing.assert_allclose(np.asarray(own), np.asarray(change), rtol=0, atol=1e-8)


def test_adapters_on_the_last_layer_are_those_of_the_whole_model():
    whole = scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0).double()
    upper = last_layers(copy.deepcopy(whole), 1)

    def job(layer: int) -> Job:
        plan = Schedule(5, 4, 1e-2)
        return Job("some", [Part(some(), 1.0)], AdapterShape(2, 4, (layer,)), plan, 0)

    wanted, found = (train_adapters(base, [job(k)])["some"].updates for base, k in ((whole, 2), (upper, 0)))
    assert len(wanted) == 7
    for (name, update), own in zip(wanted.items(), found.values(), strict=True):
        assert np.abs(dense(update)).max() > 1e-4, name
        # as above: five steps of AdamW
        np.testing.assert_allclose(dense(own), dense(update), rtol=0, atol=1e-8)


@pytest.mark.parametrize("count", [0, 4])
def test_a_model_has_only_so_many_layers(count):
    with pytest.raises(ValueError, match="count: expected 1 to 3 layers"):
        last_layers(scratch_base(BaseShape(20, width=16, layers=3, heads=2, feed_forward=24), 0), count)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """A model in a GGUF file, with codes of two kinds, plain numbers, grouped heads and a tied head."""
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    width, ff, heads, shared = 64, 96, 4, 2
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(shared)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(40)
    writer.add_token_list([f"t{i}" for i in range(40)])
    rng = stream(0, "test", "packed")
    kinds = gguf.GGMLQuantizationType
    q, k = (width, width), (width * shared // heads, width)
    shapes = {"attn_q": q, "attn_k": k, "attn_v": k, "attn_output": q, "ffn_gate": (ff, width), "ffn_up": (ff, width)}
    matrices = {f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    matrices |= {"blk.0.ffn_down.weight": (width, ff), "token_embd.weight": (40, width)}
    for number, (name, shape) in enumerate(matrices.items()):
        kind = (kinds.Q4_1, kinds.Q8_0, kinds.F32)[number % 3]
        codes = gguf.quants.quantize(rng.standard_normal(shape).astype(np.float32), kind)
        writer.add_tensor(name, codes, raw_dtype=kind)
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, rng.standard_normal(width).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "small.gguf"


def loaded(folder: Path, **options: str) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    with no_bars():
        model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
    return model


def test_an_unpacked_model_is_the_packed_one(packed, tmp_path):
    wanted = loaded(packed.parent, gguf_file=packed.name)
    folder = unpacked(packed, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [folder]
    found = loaded(folder)
    one, other = wanted.state_dict(), found.state_dict()
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert tensor.dtype == other[name].dtype == torch.float32
        assert torch.equal(tensor, other[name]), name
    described = [model.config.to_dict() for model in (wanted, found)]
    apart = {key for key in described[0] | described[1] if described[0].get(key) != described[1].get(key)}
    assert apart == {"_name_or_path", "architectures", "quantization_config"}  # where it lies; that it is packed
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    assert torch.equal(wanted.eval()(ids).logits, found.eval()(ids).logits)
    with torch.no_grad():  # what is loaded may be changed; what is kept does not change with it
        for parameter in found.parameters():
            parameter.zero_()
    assert all(
        torch.equal(t, one[name]) for name, t in loaded(unpacked(packed, tmp_path / "cache")).state_dict().items()
    )


def test_a_model_is_unpacked_once_and_whole(packed, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    save, cache = LlamaForCausalLM.save_pretrained, tmp_path / "cache"

    def full(model: Any, folder: Path) -> None:
        save(model, folder)
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "save_pretrained", full)
        with pytest.raises(OSError, match="disk full"):
            unpacked(packed, cache)
    assert list(cache.iterdir()) == []
    folder = unpacked(packed, cache)
    written = (folder / "model.safetensors").stat()
    assert unpacked(packed, cache) == folder
    assert (folder / "model.safetensors").stat() == written
    # other codes, the same size: another model
    codes = bytearray(packed.read_bytes())
    codes[-1] ^= 1
    packed.write_bytes(codes)
    assert unpacked(packed, cache) != folder
