"""The identity test: it passes what is right, and every planted fault is caught on every kind of base."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from empirical.adapters import identity
from empirical.adapters import merge as merging
from empirical.adapters.files import SAFE, module_names, stream_adapter
from empirical.adapters.identity import Comparison, IdentityReport, Intended, misstored, rounding
from empirical.adapters.inputs import candidates, outputs, spelled_out
from empirical.adapters.merge import IdentityFailed, Written, merge
from empirical.cli import main
from empirical.training.bases import generator
from tests.empirical.adapters.folders import passed, times

Tensors = dict[str, torch.Tensor]

#: architecture -> which modules are adapted; of images and text, both towers
BASES: dict[str, dict[str, list[str]]] = {
    "llama": {},
    "vision": {},
    "encoder-decoder": {},
    "audio": {},
    "experts": {"targets": ["q_proj", "gate"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "images and text": {"targets": ["q_proj", "linear_1"]},
}


def scaled(factor: float) -> Callable[[Tensors], None]:
    def plant(tensors: Tensors) -> None:
        for key in tensors:
            if "lora_B" in key:
                tensors[key] *= factor

    return plant


def pairs(tensors: Tensors) -> list[str]:
    """Keys of A whose factors have the size of most others'."""
    shapes = [
        (tuple(v.shape), tuple(tensors[k.replace("lora_A", "lora_B")].shape))
        for k, v in tensors.items()
        if "lora_A" in k
    ]
    common = max(shapes, key=shapes.count)
    keys = [k for k in tensors if "lora_A" in k]
    return [k for k, s in zip(keys, shapes, strict=True) if s == common]


def dropped(tensors: Tensors) -> None:
    tensors[pairs(tensors)[-1].replace("lora_A", "lora_B")].zero_()


def exchanged(tensors: Tensors) -> None:
    one, two = pairs(tensors)[:2]
    tensors[one], tensors[two] = tensors[two], tensors[one]


def transposed(tensors: Tensors) -> None:
    square = next(k for k, v in tensors.items() if v.shape[0] == v.shape[1])
    tensors[square] = tensors[square].T.contiguous()


FAULTS = {
    "0": scaled(0.0), "-1x": scaled(-1.0), "0.99x": scaled(0.99), "1.01x": scaled(1.01), "0.5x": scaled(0.5),
    "1.5x": scaled(1.5), "dropped": dropped, "exchanged": exchanged, "transposed": transposed,
}  # fmt: skip


@pytest.fixture
def parts(save_adapter):
    """Two adapters for a base; of ranks that make factors of the merge square."""

    def make(architecture, **fewer):
        options = BASES[architecture] | fewer
        return [save_adapter(f"{architecture}{i}", architecture, i, r=16, **options) for i in (1, 2)]

    return make


@pytest.mark.parametrize("architecture", BASES)
def test_what_is_right_passes_and_every_fault_is_seen(architecture, parts, tiny_base, tmp_path, monkeypatch):
    """One loaded model per base: faults in the file are seen in the file, faults of the sum in the products."""
    kept: list[Comparison] = []
    right = Comparison.judge

    def judge(self: Comparison, folder: Path) -> IdentityReport:
        kept.append(self)
        return right(self, folder)

    monkeypatch.setattr(Comparison, "judge", judge)
    folders = parts(architecture)
    for dtype in ("float32", "bfloat16", "float16"):
        made = merge(folders, [0.7, -1.3], tmp_path / dtype, Written(dtype=dtype), base=tiny_base(architecture))
        found = passed(made)
        assert found.logits.bound < 1e-3 * found.logits.moved
        # units of 2^-24 on one side, of 2^-11 and 2^-8 on the other
        assert (found.logits.stored > 2.0**-17 * found.logits.moved) == (dtype != "float32")
        assert all(p.gap <= p.bound < 1e-9 * p.effect for p in found.products)
        # all are reached but the projector, which wants images and text at once
        assert all(p.seeded == ("linear_1" in p.module) for p in found.products)
    whole = kept[0]
    exact = {n: whole.intended(n) for n in whole.layers}
    for name, fault in FAULTS.items():
        for dtype in ("float32", "bfloat16", "float16"):
            stored = load_file(tmp_path / dtype / SAFE)
            before = {k: v.clone() for k, v in stored.items()}
            fault(stored)
            wrong = [k for k in stored if not torch.equal(stored[k], before[k])]
            assert wrong, name
            assert all(misstored(stored[k], _factor(exact, k)) for k in wrong), (name, dtype)
            assert not any(misstored(before[k], _factor(exact, k)) for k in wrong), (name, dtype)
        planted = {f"{n}.lora_{k}": getattr(x, k).clone() for n, x in exact.items() for k in "AB"}
        fault(planted)
        off = []
        for n, x in exact.items():
            p = whole.product(n, Intended(planted[f"{n}.lora_A"], planted[f"{n}.lora_B"], x.cut), None)
            off.append(p.gap > p.bound)
        count = {"dropped": 1, "transposed": 1, "exchanged": 2}.get(name, len(exact))
        assert off.count(True) == count, name


def _factor(exact: dict[str, Intended], key: str) -> torch.Tensor:
    name, _, kind = key.removeprefix("base_model.model.").partition(".lora_")
    factor: torch.Tensor = getattr(exact[name], kind[0])
    return factor


def plant_file(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensors], None]) -> None:
    """After it was computed, before it is tested."""
    right = stream_adapter

    def wrong(folder: Path, config: Any, layout: Any, tensors: Any, card: Any) -> None:
        planted = {k: v.clone() for k, v in tensors}
        fault(planted)
        right(folder, config, layout, planted.items(), card)

    monkeypatch.setattr(merging, "stream_adapter", wrong)


def plant_sum(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensors], None]) -> None:
    """In the computation, so that the intended factors are wrong as well."""
    right = merging.merge_module
    planted: Tensors = {}

    def wrong(adapters: Any, weights: Any, name: str, *how: Any) -> Any:
        if not planted:
            for n in module_names(adapters):
                exact = right(adapters, weights, n, *how)[0].exact
                planted.update({f"{n}.lora_A": exact.A.clone(), f"{n}.lora_B": exact.B.clone()})
            fault(planted)
        stored, shape = right(adapters, weights, name, *how)
        a, b = planted[f"{name}.lora_A"], planted[f"{name}.lora_B"]
        exact = stored.exact._replace(A=a, B=b)
        return stored._replace(A=a.to(stored.A.dtype), B=b.to(stored.B.dtype), exact=exact), shape

    monkeypatch.setattr(merging, "merge_module", wrong)


#: architecture -> (modules, faults by format): all faults on all of them are above; here each goes the whole way
PLANTED: dict[str, tuple[list[str], dict[str, list[str]]]] = {
    "llama": (["q_proj", "down_proj"], {"float32": ["0", "dropped"], "bfloat16": ["0"], "float16": ["1.5x"]}),
    "vision": (["q_proj", "fc1"], {"float32": ["-1x", "exchanged"], "bfloat16": ["-1x"], "float16": ["0.5x"]}),
    "encoder-decoder": (["q", "wo"], {"float32": ["0.99x", "transposed"], "bfloat16": ["0.5x"], "float16": ["-1x"]}),
    "experts": (["q_proj"], {"float32": ["1.01x"], "bfloat16": ["1.5x"], "float16": ["0"]}),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("architecture", PLANTED)
def test_a_fault_stops_the_merge(architecture, dtype, parts, save_base, tmp_path, monkeypatch, capsys):
    """On the command line: planted in the file it is seen there, planted in the sum it is seen in the products."""
    targets, faults = PLANTED[architecture]
    folders = [str(f) for f in parts(architecture, targets=targets)]
    base = str(save_base(architecture=architecture))
    before = sorted(tmp_path.iterdir())
    command = ["merge", *folders, "--base", base, "--weights=0.7,-1.3", "-o", str(tmp_path / "c"), "--json", "-"]
    command += ["--dtype", dtype]
    for name, (plant, seen) in itertools.product(
        faults[dtype],
        ((plant_file, "expected the factors of the sum"), (plant_sum, "expected the sum of the parts")),
    ):
        with monkeypatch.context() as patched:
            plant(patched, FAULTS[name])
            status = main(command)
        captured = capsys.readouterr()
        assert (status, json.loads(captured.out)["identity"]["verdict"]) == (1, "failed"), (name, seen)
        assert "identity test failed, nothing was written: " in captured.err
        assert seen in captured.err
        assert sorted(tmp_path.iterdir()) == before
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["identity"]["verdict"] == "passed"


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"lora_alpha": 32.32}, "expected the sum of the parts"),  # 1.01 x
        ({"alpha_pattern": {"layers.1.self_attn.q_proj": 3}}, "expected the sum of the parts"),
        ({"exclude_modules": ["model.layers.1.self_attn.q_proj"]}, "the merged adapter does not"),
        ({"r": 7}, "peft does not load the merged adapter"),
    ],
)
def test_a_wrong_configuration_is_a_wrong_merge(fields, seen, parts, tiny_base, tmp_path, monkeypatch):
    right = merging.merged_config
    monkeypatch.setattr(merging, "merged_config", lambda *a: right(*a) | fields)
    with pytest.raises(IdentityFailed, match=seen):
        merge(parts("llama", targets=["q_proj"]), None, tmp_path / "c", base=tiny_base("llama"))
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("fewer", [{"targets": ["gate"]}, {"targets": ["k_proj"], "target_parameters": None}])
def test_parts_with_other_modules_beside_the_same_experts_pass(fewer, save_adapter, tiny_base, tmp_path):
    folders = [
        save_adapter("a", "experts", 1, **BASES["experts"]),
        save_adapter("b", "experts", 2, **BASES["experts"] | fewer),
    ]
    for given in (folders, folders[::-1]):
        passed(merge(given, [0.7, -1.3], tmp_path / "c", Written(force=True), base=tiny_base("experts")))


@pytest.mark.parametrize("limit", [identity.DOUBLE_LIMIT, 0])
def test_a_wrong_sum_is_seen_in_products_and_outputs(limit, parts, tiny_base, tmp_path, monkeypatch):
    """In float64, and in float32 as with bases that are too large for it."""
    monkeypatch.setattr(identity, "DOUBLE_LIMIT", limit)
    folders = parts("llama")
    passed(merge(folders, [0.7, -1.3], tmp_path / "c", base=tiny_base("llama")))
    plant_sum(monkeypatch, scaled(1.01))
    with pytest.raises(IdentityFailed) as caught:
        merge(folders, [0.7, -1.3], tmp_path / "d", base=tiny_base("llama"))
    found = caught.value.report.identity
    assert [r.partition(":")[0] for r in found.reasons] == [*(p.module for p in found.products), "outputs"]


#: sums in which most of what a test could compare is gone or dwarfed -> (options of each adapter, weights)
SUMS: dict[str, tuple[list[dict[str, Any]], list[float]]] = {
    "one against itself": ([{"seed": 1}, {"seed": 1}], [1.0, -1.0]),
    "a dead one": ([{"fill": times(0.0)}], [1.0]),
    "no weight": ([{"seed": 1}, {"seed": 2}], [0.0, 0.0]),
    "one huge": ([{"seed": 1, "fill": times(1e6)}, {"seed": 2}], [1.0, 1.0]),
    "one negative": ([{"seed": 1, "alpha": -8.0}, {"seed": 2}], [1.0, -1.0]),
}


@pytest.mark.parametrize("kind", SUMS)
def test_something_where_nothing_should_be_is_seen(kind, save_adapter, tiny_base, tmp_path, monkeypatch):
    def added(tensors: Tensors) -> None:
        key = next(k for k in tensors if "lora_B" in k)
        tensors[key] = tensors[key] + 1e-2 * tensors[key].abs().max().clamp_min(1.0)
        tensors[key.replace("lora_B", "lora_A")] += 1e-2

    options, weights = SUMS[kind]
    folders = [save_adapter(f"a{i}", targets=["q_proj"], **o) for i, o in enumerate(options)]
    made = merge(folders, weights, tmp_path / "c", base=tiny_base("llama"))
    passed(made)
    assert made.identity is not None
    assert not any(p.seeded for p in made.identity.products), "inputs reach them all"
    plant_sum(monkeypatch, added)
    with pytest.raises(IdentityFailed, match="expected the sum of the parts"):
        merge(folders, weights, tmp_path / "d", base=tiny_base("llama"))
    assert not (tmp_path / "d").exists()


def test_what_cannot_be_decided_says_so(parts, save_base, tmp_path, monkeypatch, capsys):
    """A base that does not run: the modules are compared all the same, the merge is written, the status is 3."""
    folders = [str(f) for f in parts("llama")]
    base = ["--base", str(save_base())]

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("transformers.models.llama.modeling_llama.LlamaModel.forward", broken)
    assert main(["merge", *folders, "-o", str(tmp_path / "c"), *base, "--json", "-"]) == 3
    report = json.loads(capsys.readouterr().out)["identity"]
    assert report["verdict"] == "undecided"
    assert report["reasons"] == ["the base could not be run: RuntimeError: no such kernel"]
    assert (tmp_path / "c" / SAFE).is_file()
    assert main(["merge", *folders, "-o", str(tmp_path / "d"), *base]) == 3
    assert "identity test undecided: the base could not be run" in capsys.readouterr().out
    plant_sum(monkeypatch, scaled(0.99))
    assert main(["merge", *folders, "-o", str(tmp_path / "e"), *base, "--json", "-"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["identity"]["verdict"] == "failed"
    assert "lora-limits: merge: identity test failed, nothing was written" in captured.err
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize("architecture", ["masked images", "series", "long text", "films", "images to text"])
def test_a_model_that_draws_or_takes_another_input_is_run(architecture, save_adapter, tiny_base, tmp_path):
    """Masks are drawn anew in every run of the first, which must not look like a difference."""
    targets = ["q_proj", "v_proj", "query", "value", "c_attn"]
    folders = [save_adapter(f"a{i}", architecture, i, targets=targets) for i in (1, 2)]
    logits = passed(merge(folders, None, tmp_path / "c", base=tiny_base(architecture))).logits
    assert logits.bound < 1e-3 * logits.moved


def test_a_base_that_is_another_in_every_run_or_nan_decides_nothing(parts, tiny_base, tmp_path):
    restless, broken, runs = tiny_base("llama"), tiny_base("llama"), itertools.count()

    def shifted(_model: Any, _inputs: Any, result: Any) -> None:
        result.logits.add_(next(runs))

    restless.register_forward_hook(shifted)
    with torch.no_grad():
        broken.model.layers[0].mlp.up_proj.weight[:] = torch.nan
    folders = parts("llama", targets=["q_proj"])
    for base, said in (
        (restless, "the base could not be run: RuntimeError: its outputs are others in every run"),
        (broken, "its outputs are not finite, with or without the parts"),
    ):
        found = merge(folders, None, tmp_path / "c", Written(force=True), base=base).identity
        assert found.verdict == "undecided"
        (reason,) = found.reasons
        assert said in reason


def test_a_truncated_merge_may_differ_by_what_it_cut_off(parts, tiny_base, tmp_path):
    how, any_size = Written("svd", 3), 2**70
    made = merge(parts("llama"), None, tmp_path / "c", how, base=tiny_base("llama"), seed=any_size)
    assert all(0.0 < p.gap <= p.bound for p in passed(made).products)


@pytest.mark.parametrize("architecture", BASES)
def test_noise_foretells_rounding(architecture, tiny_base):
    """The float32 run is as far from the float64 run as its own noise says, output by output, and not much less."""
    wide, narrow = (spelled_out(tiny_base(architecture, dtype)) for dtype in (torch.float64, torch.float32))
    given = next(candidates(narrow, generator(1, "input")))

    def run(model: Any) -> torch.Tensor:
        ready = {k: v.to(model.dtype) if v.dtype.is_floating_point else v for k, v in given.items()}
        with torch.no_grad():
            return outputs(model(**ready)).double()

    plain = run(narrow)
    bound, gap = rounding(lambda: run(narrow), plain, 0), (run(wide) - plain).abs()
    assert bool((gap <= bound).all())
    # of LIKELY sqrt(2) standard deviations of errors that are all of the largest size, which real ones are not
    assert float(bound.square().mean().sqrt()) <= 100 * float(gap.square().mean().sqrt())


def test_stored_factors_are_rounded_once_and_no_more():
    draw = torch.Generator().manual_seed(0)
    exact = torch.randn(40, 30, generator=draw, dtype=torch.float64) * torch.exp2(
        torch.randint(-30, 4, (40, 30), generator=draw)
    )
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        stored = exact.to(dtype)
        assert not misstored(stored, exact)
        stored.view(torch.int16 if dtype.itemsize == 2 else torch.int32)[3, 4] += 1  # one unit in the last place
        assert misstored(stored, exact)
    assert misstored(exact[:, :3].float(), exact)
    assert misstored(exact.float() * torch.inf, exact)
