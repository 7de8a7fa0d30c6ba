"""The checks on adapters that peft made: that they run on small models, and that they can fail."""

import importlib.metadata
import math

import numpy as np
import pytest

pytest.importorskip("peft")
pytest.importorskip("transformers")
import torch

from empirical.adapters import through_peft as checks
from empirical.adapters.rounding import LIKELY, RoundingTrace
from empirical.training import bases as models
from empirical.training.bases import lora_layers, update_of
from theory.checks import CheckFailed


@pytest.mark.parametrize(
    "check",
    [checks.adapter_algebra_scale, checks.adapter_algebra_tied, checks.merge_rank_adapters],
)
def test_check_holds(check):
    figure = check()
    assert math.isfinite(figure.value)


@pytest.mark.parametrize("architecture", checks.ARCHITECTURES)
@pytest.mark.parametrize("dtype", list(checks.FORMATS))
def test_merging_agrees_and_merging_twice_does_not(architecture, dtype):
    base = checks.small_base(architecture, dtype)
    model = checks.saved_and_loaded(base, {"one": checks.lora_config(3, 6)}, seed=11)
    tokens = checks.prompt(12)
    gap, bound = checks.merge_against_side(model, tokens, 3, seed=13)
    assert gap <= min(bound)
    with pytest.raises(CheckFailed, match="differ"):
        checks.merge_against_side(model, tokens, 1, 13, checks.merged_twice)


def test_updates_are_read_as_peft_applies_them():
    model = checks.saved_and_loaded(checks.small_base("gpt2"), {"one": checks.lora_config(3, 6)}, seed=14)
    for layer in lora_layers(model).values():
        update = update_of(layer, "one")
        assert update.shape == tuple(checks.weight_of(layer)[0].shape)
        # float32 products of 3 columns and a scale
        assert np.allclose(checks.delta(layer, "one"), update.dense(), rtol=1e-5, atol=1e-6 * update.norm())


def test_factor_average_as_predicted(monkeypatch):
    monkeypatch.setattr(checks, "ARCHITECTURES", ("llama",))
    assert checks.factor_average_adapters().value > 0.5
    monkeypatch.setattr(checks, "factor_average_error", lambda *_: 0.5)
    with pytest.raises(CheckFailed, match="error of linear"):
        checks.factor_average_adapters()


def test_trace_bounds_the_rounding_of_a_product():
    draw = models.generator(1, "trace")
    layer = torch.nn.Linear(64, 5, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(5, 64, generator=draw))
    x = torch.randn(1, 64, generator=draw).requires_grad_()
    trace = RoundingTrace(layer, {})
    with trace.watching():
        y = layer(x)
    x = x.detach()
    exact = x.double() @ layer.weight.double().T
    for i, bound in enumerate(trace.bound(y, [(0, i) for i in range(5)])):
        assert abs(float((y.detach().double() - exact)[0, i])) <= bound.certain / 2  # one run of two
        size = float((x.double().abs() @ layer.weight.double().abs().T)[0, i])
        assert bound.certain <= 2 * 66 * 2.0**-24 * size
        assert bound.likely <= LIKELY * math.sqrt(2) * (math.sqrt(64) + 1) * 2.0**-24 * size * (1 + 1e-6)


def test_trace_refuses_what_it_does_not_know():
    x = torch.ones(2, requires_grad=True)
    trace = RoundingTrace(torch.nn.Identity(), {})
    with (
        pytest.raises(ValueError, match=r"^operation: expected one whose rounding is known, got erf$"),
        trace.watching(),
    ):
        torch.erf(x)


def test_missing_packaged_model_is_an_import_error(monkeypatch):
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ImportError):
        models.load_base()


def test_load_base_reads_a_folder(tmp_path):
    base = checks.small_base("llama")
    base.save_pretrained(tmp_path)
    loaded = models.load_base(tmp_path)
    kept = dict(base.named_parameters())
    assert all(torch.equal(p, kept[name]) for name, p in loaded.named_parameters())
    assert not loaded.training
