"""Adapters that were trained here are ordinary peft adapters: saved, loaded by peft, merged."""

import numpy as np
import pytest
import torch

from empirical.adapters.base import quiet
from empirical.adapters.files import read_adapter
from empirical.adapters.trained import save_adapter
from empirical.tasks.sentences import Part, Sentences
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import BaseShape, scratch_base, updated
from empirical.training.together import train_adapters
from theory.lowrank import LowRank
from theory.numerics import stream

SHAPES = {
    "plain": AdapterShape(3, 6),
    "late": AdapterShape(2, 8, (1,), ("q_proj", "down_proj"), rslora=True),
}


@pytest.fixture
def base():
    shape = BaseShape(20, width=16, layers=2, heads=2, feed_forward=24, init=0.2)
    return scratch_base(shape, 0).requires_grad_(False)


@pytest.fixture
def trained(base):
    data = [Part(Sentences(stream(0, "facts").integers(20, size=(9, 3)), (2,)), 1.0)]
    return train_adapters(base, [Job(n, data, s, Schedule(6, 6, 2e-2, warmup=1), 0) for n, s in SHAPES.items()])


@pytest.mark.parametrize("name", list(SHAPES))
def test_saved_adapters_load_and_merge_in_peft(name, base, trained, tmp_path):
    from peft import PeftModel

    updates, tokens = trained[name].updates, torch.arange(20).view(4, 5)
    save_adapter(tmp_path / name, updates, SHAPES[name], "a/base")
    read = read_adapter(tmp_path / name)  # the strict reader finds the very same factors
    assert read.raw["base_model_name_or_path"] == "a/base"
    assert set(read.modules) == set(updates)
    for module, update in updates.items():
        again = read.update(module)
        assert np.array_equal(again.B, update.B)
        assert np.array_equal(again.A, update.A)
        assert again.scale == update.scale
    with updated(base, updates) as model, torch.no_grad():
        wanted = model(input_ids=tokens).logits
    bare = base(input_ids=tokens).logits
    with quiet(), torch.no_grad():
        loaded = PeftModel.from_pretrained(base, str(tmp_path / name))
        active = loaded(input_ids=tokens).logits
        merged = loaded.merge_and_unload()(input_ids=tokens).logits
    # float32 (unit 6e-8): two layers of about ten sums over at most 24 terms each
    room = 2 * 10 * 24 * 2**-24 * float(wanted.abs().max())
    assert float((active - wanted).abs().max()) <= room
    assert float((merged - wanted).abs().max()) <= room
    assert float((bare - wanted).abs().max()) > 10 * room


def test_what_is_no_adapter_of_this_shape_is_not_written(trained, tmp_path):
    updates, shape = trained["plain"].updates, SHAPES["plain"]
    for wrong in (AdapterShape(4, 8), AdapterShape(3, 3), AdapterShape(3, 6, rslora=True)):
        with pytest.raises(ValueError, match=r"updates: .*: expected rank"):
            save_adapter(tmp_path / "x", updates, wrong)
    with pytest.raises(ValueError, match="updates: expected at least one module"):
        save_adapter(tmp_path / "x", {}, shape)
    with pytest.raises(ValueError, match="expected a LowRank, got ndarray"):
        save_adapter(tmp_path / "x", {"model.layers.0.mlp.up_proj": np.zeros((24, 16))}, shape)
    assert not any(tmp_path.iterdir())
    save_adapter(tmp_path / "x", updates, shape)
    with pytest.raises(ValueError, match="output: expected a new folder"):
        save_adapter(tmp_path / "x", updates, shape)


def test_float64_factors_are_kept(tmp_path):
    rng = stream(0, "factors")
    update = LowRank(rng.standard_normal((4, 2)), rng.standard_normal((2, 5)), 2.0)
    save_adapter(tmp_path / "x", {"model.layers.0.mlp.up_proj": update}, AdapterShape(2, 4))
    assert np.array_equal(read_adapter(tmp_path / "x").update("model.layers.0.mlp.up_proj").A, update.A)
