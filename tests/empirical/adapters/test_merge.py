"""The exact merge: each is confirmed by logits through peft, on decoders with and without Conv1D and an encoder."""

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters.files import SAFE, pattern, read_adapter
from empirical.adapters.merge import Written, merge, storage_bound
from tests.empirical.adapters.folders import config_of, made_by_peft, passed, times
from theory.lowrank import LowRank

#: name -> (architecture, first adapter, second adapter)
VARIANTS: dict[str, tuple[str, dict[str, object], dict[str, object]]] = {
    "llama": ("llama", {}, {"r": 3, "alpha": 5.0}),
    "conv1d": ("gpt2", {"fan_in_fan_out": True}, {"r": 6, "use_rslora": True}),
    "encoder": ("bert", {"targets": ["query", "dense"]}, {"targets": ["value", "dense"], "r": 2}),
    "patterns": (
        "llama",
        {"rank_pattern": {"q_proj": 6, r"layers\.1\.mlp\..*": 2}, "alpha_pattern": {"v_proj": 3}},
        {"use_rslora": True, "rank_pattern": {"layers.0.self_attn.k_proj": 1}},
    ),
    "layers": (
        "llama",
        {"targets": ["q_proj", "up_proj"], "layers_to_transform": [0]},
        {"targets": ["q_proj", "v_proj"], "layers_to_transform": [1]},
    ),
    "regex": ("llama", {"targets": r".*\.0\..*(q|k)_proj"}, {"targets": ["down_proj"], "r": 5}),
    "embedding": ("llama", {"targets": ["embed_tokens", "q_proj"]}, {"targets": ["embed_tokens"], "r": 2}),
    "gpt2 embedding": ("gpt2", {"targets": ["wte", "c_attn"]}, {"targets": ["wte", "lm_head"], "r": 3}),
    "half": ("llama", {"dtype": torch.float16}, {"dtype": torch.bfloat16}),
    "pickle": ("llama", {"safe": False}, {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_of_the_merge_are_those_of_the_weighted_sum(variant, save_adapter, tiny_base, tmp_path):
    architecture, one, two = VARIANTS[variant]
    a = save_adapter("a", architecture, 1, **one)
    b = save_adapter("b", architecture, 2, **two)
    made = merge([a, b], [0.7, -1.3], tmp_path / "c", base=tiny_base(architecture))
    logits = passed(made).logits
    assert logits.gap < 1e-3 * logits.moved
    assert all(m.rounding <= m.bound for m in made.modules)
    read_adapter(tmp_path / "c")  # and it is an adapter by our own strict reading


def test_the_files_are_the_weighted_sum_in_float64(save_adapter, tmp_path):
    a, b = save_adapter("a", seed=1), save_adapter("b", seed=2, r=2, use_rslora=True)
    merge([a, b], [2.0, -0.5], tmp_path / "c", Written(dtype="float64"))
    parts, made = [read_adapter(a), read_adapter(b)], read_adapter(tmp_path / "c")
    for name, module in made.modules.items():
        assert module.scale == 1.0
        assert module.r == 6
        wanted = LowRank.combine([p.update(name) for p in parts], [2.0, -0.5])
        off = LowRank.combine([made.update(name), wanted], [1.0, -1.0])
        assert off.norm() <= off.tolerance()


def test_the_rank_is_that_of_the_sum(save_adapter, tiny_base, tmp_path):
    one, two, three = (save_adapter(f"a{r}", seed=r, r=r) for r in (1, 2, 3))
    for parts, weights, rank in (
        ([one, two, three], [1 / 3] * 3, 6),
        ([three], [-2.0], 3),
        ([two, two], [1.0, 0.5], 2),
        ([two, two], [1.0, -1.0], 1),  # peft has no rank 0: one column of zeros
    ):
        made = merge(parts, weights, tmp_path / "c", Written(force=True), base=tiny_base("llama"))
        assert {m.r for m in made.modules} == {rank}
    assert not any(t.any() for t in load_file(tmp_path / "c" / SAFE).values())


@pytest.mark.filterwarnings("ignore:overflow encountered", "ignore:invalid value encountered")
def test_a_sum_of_nothing_is_nothing_and_one_too_large_or_small_is_refused(save_adapter, tmp_path):
    a, b = save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=2, targets=["q_proj"])
    none = merge([a, b], [0.0, 0.0], tmp_path / "none")
    assert (none.truncation, none.rounding, none.bound) == (None, None, None)
    for weight, dtype, named in (
        (1e300, "float64", "weights"),
        (1e-300, "float32", "weights"),
        (1e90, "float32", "dt"),
        (2.0**255, "float32", "dt"),
    ):
        with pytest.raises(ValueError, match=f"q_proj: {named}.*: expected a"):
            merge([a, b], [weight, weight], tmp_path / "c", Written(dtype=dtype))


def test_power_of_two_weights_are_bit_exact(save_adapter, tmp_path):
    a, b = save_adapter("a", seed=1), save_adapter("b", seed=2)
    made = merge([a, b], [0.5, 2.0], tmp_path / "c")  # scales are 8 / 4
    assert (made.rounding, made.bound, {m.norm for m in made.modules}) == (0.0, 0.0, {None})


def test_errors_are_relative_to_the_modules_that_have_some(save_adapter, tmp_path):
    how = {"targets": ["q_proj", "v_proj"], "alpha_pattern": {"v_proj": 3}, "dtype": torch.bfloat16}
    folders = [save_adapter(f"a{i}", seed=i, **how) for i in range(2)]
    made = merge(folders, None, tmp_path / "c", Written(dtype="bfloat16"))
    parts = [read_adapter(f) for f in folders]
    norms = []
    for m in made.modules:
        assert (m.norm is None) == (m.rounding == 0.0) == (m.bound == 0.0) == ("q_proj" in m.name)
        if m.norm is not None:
            norms.append(float(np.linalg.norm(sum(p.update(m.name).dense() for p in parts))))
            assert m.norm == pytest.approx(norms[-1], rel=1e-6)
    assert made.rounding == pytest.approx(math.hypot(*(m.rounding for m in made.modules)) / math.hypot(*norms), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_power_of_two_is_exact_unless_an_entry_is_too_small_for_it(dtype):
    from empirical.adapters.merge import _rounded

    small = torch.finfo(dtype).smallest_normal
    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    for entry, power in ((0.0, -2), (3 * small, -1), (3 * small, -4), (1.5 * small, 3)):
        x[5, 2] = entry
        for tensors, dim in (([x, x], 1), ([x.T.contiguous(), x.T.contiguous()], 0)):
            numbers = np.exp2(np.full(8, power))
            stored, before = _rounded(tensors, dim, numbers, torch.float64, dtype)
            assert before is None
            assert torch.equal(stored.double(), torch.cat(tensors, dim).double() * 2.0**power)
    x[5, 2] = small * (1 + torch.finfo(dtype).eps)  # its last bit falls out
    numbers = np.array([4.0, 2.0, 0.5, 1.0])
    stored, before = _rounded([x], 1, numbers, torch.float64, dtype)
    assert before is not None
    off = (stored.double() - before).abs()
    assert torch.equal(off > 0, (x == x[5, 2]))
    assert torch.equal(before, x.double() * torch.from_numpy(numbers))


@pytest.mark.parametrize(
    ("stored", "written", "exact"),
    [
        (torch.bfloat16, torch.float32, True), (torch.float16, torch.float32, True),
        (torch.float16, torch.bfloat16, False), (torch.bfloat16, torch.float16, True),
        (torch.float32, torch.bfloat16, False),
    ],
)  # fmt: skip
def test_a_format_that_holds_the_numbers_changes_none(stored, written, exact):
    from empirical.adapters.merge import _rounded

    x = torch.linspace(0.5, 1.0, 35).reshape(5, 7).to(stored)
    found, before = _rounded([x], 0, np.full(5, 2.0), torch.float32, written)
    assert found.dtype == written
    assert torch.equal(found, (x.double() * 2).to(written))
    assert (before is None) == exact


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [3e-4, 1.0, 3e3])
def test_sizes_are_norms_to_two_digits(dtype, size):
    from empirical.adapters.merge import _sizes

    x = (torch.randn(30000, 5, generator=torch.Generator().manual_seed(0)) * size).to(dtype)
    for tensor, dim in ((x, 1), (x.T.contiguous(), 0)):
        # squares and their sum, rounded to bfloat16, are off by at most 2^-8 each, their root by half of it
        assert _sizes([tensor], dim) == pytest.approx(x.double().norm(dim=0).numpy(), rel=2.0**-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize(("value", "weight"), [(math.nan, 1.0), (math.inf, -0.5), (-math.inf, 0.0), (math.nan, 0.0)])
def test_numbers_that_are_not_finite_are_named(dtype, value, weight, save_adapter, tmp_path):
    a, b = (save_adapter(n, seed=i, targets=["q_proj"], dtype=dtype) for i, n in enumerate("ab"))
    for factor in ("lora_A", "lora_B"):
        tensors = load_file(b / SAFE)
        key = next(k for k in reversed(tensors) if factor in k)
        good = tensors[key].clone()
        tensors[key][1, 1] = value
        save_file(tensors, b / SAFE)
        with pytest.raises(ValueError, match=f"{factor}.*: expected finite entries, got nan or inf"):
            merge([a, b], [1.0, weight], tmp_path / "c")
        assert not (tmp_path / "c").exists()
        save_file(tensors | {key: good}, b / SAFE)


def test_best_rank_loses_the_tail(save_adapter, tmp_path):
    a, b = save_adapter("a", seed=1), save_adapter("b", seed=2)
    made = merge([a, b], None, tmp_path / "c", Written("svd", 3))
    parts = [read_adapter(a), read_adapter(b)]
    tails, norms = [], []
    for m in made.modules:
        dense = sum(p.update(m.name).dense() for p in parts)
        values = np.linalg.svd(dense, compute_uv=False)
        tails.append(float(np.linalg.norm(values[3:])))
        norms.append(float(np.linalg.norm(values)))
        assert m.r == 3
    # relative, by an independent dense SVD: float64 rounding of 48 x 48 matrices is below 1e-13
    assert made.truncation == pytest.approx(math.hypot(*tails) / math.hypot(*norms), rel=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_rounding_stays_within_its_bound(dtype, save_adapter, tiny_base, tmp_path):
    a, b = save_adapter("a", seed=1), save_adapter("b", seed=2)
    made = merge([a, b], [0.7, 0.3], tmp_path / "c", Written(dtype=dtype), base=tiny_base("llama"))
    passed(made)
    assert 0 < made.rounding <= made.bound
    stored = load_file(tmp_path / "c" / SAFE)
    assert {str(t.dtype) for t in stored.values()} == {f"torch.{dtype}"}


def test_the_bound_notices_a_coarser_format():
    rng = np.random.default_rng(0)
    b, a = (torch.from_numpy(rng.standard_normal(size)) for size in ((40, 3), (3, 30)))
    coarse_b, coarse_a = (x.to(torch.bfloat16) for x in (b, a))
    off = float((coarse_b.double() @ coarse_a.double() - b @ a).norm())
    assert off <= storage_bound(coarse_b, coarse_a, "bfloat16")
    assert off > storage_bound(coarse_b, coarse_a, "float16")


def test_modules_that_differ_are_listed_and_others_left_alone(save_adapter, tmp_path):
    a = save_adapter("a", seed=1, targets=["q_proj"], layers_to_transform=[0])
    b = save_adapter("b", seed=2, targets=["v_proj"], layers_to_transform=[1])
    merge([a, b], None, tmp_path / "c")
    config = config_of(tmp_path / "c")
    assert config["target_modules"] == ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj"]
    assert config["layers_to_transform"] is None
    same = save_adapter("d", seed=3, targets=["q_proj"], layers_to_transform=[0])
    merge([a, same], None, tmp_path / "e")
    kept = config_of(tmp_path / "e")
    assert (kept["target_modules"], kept["layers_to_transform"]) == (["q_proj"], [0])


def test_a_pattern_matches_one_module():
    from peft.utils.other import get_pattern_key

    key = pattern("layers.1.q_proj")
    assert get_pattern_key([key], "layers.1.q_proj") == key
    for other in ("model.layers.1.q_proj", "layers.11.q_proj", "layers.1.q_projx", "layersx1.q_proj"):
        assert get_pattern_key([key], other) != key


def test_copies_of_an_embedding(save_adapter, tiny_base, tmp_path):
    a = save_adapter("a", seed=1, targets=["embed_tokens"], embedding_copies=True)
    b = save_adapter("b", seed=2, targets=["embed_tokens"], embedding_copies=True)
    plain = save_adapter("plain", seed=3, targets=["embed_tokens"])
    assert read_adapter(a).copies
    made = merge([a, b], None, tmp_path / "c", base=tiny_base("llama"))
    assert any("copied" in n for n in made.notes)
    assert read_adapter(tmp_path / "c").copies == read_adapter(a).copies
    with pytest.raises(ValueError, match=r"--base"):
        merge([a, plain], None, tmp_path / "d")
    made = merge([a, plain], None, tmp_path / "d", base=tiny_base("llama"))
    assert any("left out" in n for n in made.notes)
    other = tiny_base("llama")
    with torch.no_grad():
        other.model.embed_tokens.weight += 1
    with pytest.raises(ValueError, match="base's own weight"):
        merge([a, plain], None, tmp_path / "e", base=other)


def test_equal_copies_of_a_resized_vocabulary_are_carried_over(save_adapter, tmp_path):
    def with_head(name: str, seed: int, head: torch.Tensor) -> Path:
        folder = save_adapter(name, seed=seed, targets=["q_proj"])
        tensors = load_file(folder / SAFE) | {"base_model.model.lm_head.weight": head}
        save_file(tensors, str(folder / SAFE))
        return folder

    head = torch.randn(70, 32, generator=torch.Generator().manual_seed(0))
    merge([with_head("a", 1, head), with_head("b", 2, head)], None, tmp_path / "c")
    assert torch.equal(load_file(tmp_path / "c" / SAFE)["base_model.model.lm_head.weight"], head)
    with pytest.raises(ValueError, match="vocabulary resized"):
        merge([tmp_path / "a", with_head("d", 3, head + 1)], None, tmp_path / "e")


def misread(folder: Path, parts: list[Path], weights: list[float]) -> float:
    """Largest relative error of an update in loaders that know one rank and one alpha.

    They multiply B A by alpha over the rank that the tensor has (llama.cpp), or that the configuration says (vLLM).
    """
    tensors, adapters = load_file(folder / SAFE), [read_adapter(p) for p in parts]
    config = config_of(folder)
    assert not config["use_rslora"]
    worst = 0.0
    for key, a in tensors.items():
        if "lora_A" in key:
            name = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            known = [(w, p.update(name).dense()) for w, p in zip(weights, adapters, strict=True) if name in p.modules]
            wanted = sum(w * u for w, u in known)
            product = (tensors[key.replace("lora_A", "lora_B")].double() @ a.double()).numpy()
            for rank in (a.shape[0], config["r"]):
                off = float(np.linalg.norm(config["lora_alpha"] / rank * product - wanted))
                worst = max(worst, off / float(np.linalg.norm(wanted)))
    return worst


#: parts that loaders of one rank and one alpha get wrong, or that have no room in float16: (options of each, weights)
UNEVEN: dict[str, tuple[list[dict[str, Any]], list[float]]] = {
    "patterns": ([{"use_rslora": True, "rank_pattern": {"q_proj": 5, "down_proj": 1}, "alpha_pattern": {"v_proj": 3}},
                  {"targets": ["q_proj"]}], [0.7, -1.3]),
    "one alone": ([{"rank_pattern": {"q_proj": 7}, "alpha_pattern": {"q_proj": 1}}], [1.0]),
    "more rank than size": ([{"rank_pattern": {"q_proj": 40}}, {"targets": ["v_proj"]}], [1.0, 1.0]),
    "a negative alpha": ([{"alpha": -3.0}, {"r": 6, "targets": ["q_proj"]}], [1.0, 1.0]),
    "unbalanced": ([{"fill": times(1e12, 1e-12), "r": 3}, {"targets": ["k_proj"]}], [1.0, 1.0]),
    "one of another size": ([{}, {"r": 2, "targets": ["v_proj"], "fill": times(1e-7, 1.0)}], [1.0, 1e7]),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNEVEN)
@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-6), ("float16", 2e-3)])
def test_any_loader_computes_the_sum(kind, dtype, most, save_adapter, tmp_path):
    options, weights = UNEVEN[kind]
    parts = [save_adapter(f"a{i}", seed=i + 1, **o) for i, o in enumerate(options)]
    merge(parts, weights, tmp_path / "c", Written(dtype=dtype))
    assert misread(tmp_path / "c", parts, weights) < most
    merge(parts, weights, tmp_path / "d", Written(dtype=dtype, compact=True))
    assert misread(tmp_path / "d", parts, weights) > 0.1  # such loaders are not what this form is for


def test_ranks_by_module_are_in_the_configuration_only_if_asked(save_adapter, tmp_path):
    a = save_adapter("a", seed=1, r=3, targets=["q_proj", "v_proj"])
    b = save_adapter("b", seed=2, r=5, targets=["v_proj", "o_proj"], use_rslora=True)
    for compact, ranks in ((False, {8}), (True, {3, 5, 8})):
        made = merge([a, b], [0.7, -1.3], tmp_path / "c", Written(compact=compact, force=True))
        assert {m.r for m in made.modules} == ranks
        assert {m.rank for m in made.modules} == {3, 5, 8}
        config = config_of(tmp_path / "c")
        assert config["rank_pattern"] == config["alpha_pattern"]
        assert bool(config["rank_pattern"]) == compact


@pytest.mark.parametrize("size", [1e-6, 1e-8, 1e4])
def test_factors_are_balanced_and_float16_loses_little(size, save_adapter, tmp_path):
    fill = times(size / 0.15)  # entries of B are of 0.15
    a, b = (save_adapter(n, seed=i, targets=["q_proj"], fill=fill) for i, n in enumerate("ab"))
    made = merge([a, b], [1.0, 0.5], tmp_path / "c", Written(dtype="float16"))
    assert made.rounding < 1.1e-3  # half precision alone loses 2^-11 per factor, and subnormal numbers of 1e-8 more
    tensors = load_file(tmp_path / "c" / SAFE)
    for key, factor in tensors.items():
        if "lora_A" in key:
            rows = factor.double().norm(dim=1)
            columns = tensors[key.replace("lora_A", "lora_B")].double().norm(dim=0)
            assert ((rows / columns).log2().abs() <= 1.0 + 1e-3).all()


def test_a_rank_is_doubted_before_it_is_believed():
    from empirical.adapters.merge import _full_rank, _sizes

    draw = torch.Generator().manual_seed(0)
    for rows, width in ((40, 6), (20000, 64)):
        columns = torch.randn(rows, width, generator=draw)

        def believed(x: torch.Tensor) -> bool:
            return _full_rank([x], 1, _sizes([x], 1))

        assert believed(columns)
        columns[:, 1] = columns[:, 0] * 3
        assert not believed(columns)
        columns = columns.double()
        columns[:, 1] += 1e-3 * torch.randn(rows, generator=draw)  # below the certainty of either format
        assert not believed(columns)
        columns[:, 1] += 1e-1 * torch.randn(rows, generator=draw)  # too close for float32, not for float64
        assert believed(columns)
    columns = torch.randn(4000, 4, generator=draw)
    columns[:, 1] = columns[:, 0]
    columns[:1000] = torch.randn(1000, 4, generator=draw) * 1e-5  # independent, and next to nothing
    assert not believed(columns)
    wide = [torch.randn(3, 5, generator=draw)]
    assert not _full_rank(wide, 1, _sizes(wide, 1))


def test_modules_that_are_missing_in_the_file_stay_out(save_adapter, tiny_base, tmp_path):
    a = save_adapter("a", seed=1, targets=["q_proj", "v_proj"])
    tensors = {k: v for k, v in load_file(a / SAFE).items() if "layers.1" not in k}
    save_file(tensors, str(a / SAFE))
    made = merge([a], [2.0], tmp_path / "c", base=tiny_base("llama"))
    assert len(made.modules) == 2
    config = config_of(tmp_path / "c")
    assert config["target_modules"] == ["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"]


def test_tied_weights_are_named(save_adapter, tiny_base, tmp_path):
    a = save_adapter("a", seed=1, targets=["embed_tokens"])
    made = merge([a], None, tmp_path / "c", base=tiny_base("llama", tied=True))
    assert any("share one weight" in n and "lm_head" in n for n in made.notes)
    untied = merge([a], None, tmp_path / "d", base=tiny_base("llama"))
    assert not untied.notes
    unknown = merge([a], None, tmp_path / "e")
    assert any("may share" in n for n in unknown.notes)


def test_outputs_are_whole_or_not_there(save_adapter, tmp_path):
    a, b = save_adapter("a", seed=1), save_adapter("b", seed=2)
    merge([a], None, tmp_path / "c")
    before = (tmp_path / "c" / SAFE).read_bytes()
    with pytest.raises(ValueError, match="--force"):
        merge([a, b], None, tmp_path / "c")
    assert (tmp_path / "c" / SAFE).read_bytes() == before
    merge([a, b], None, tmp_path / "c", Written(force=True))
    assert (tmp_path / "c" / SAFE).read_bytes() != before
    with pytest.raises(ValueError, match="another folder than the adapters"):
        merge([a, b], None, a, Written(force=True))
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(ValueError, match="an adapter folder to overwrite"):
        merge([a, b], None, tmp_path / "papers", Written(force=True))
    steps = [shutil.copytree(each, a / f"checkpoint-{each.name}") for each in (b, a)]  # as transformers leaves them
    with pytest.raises(ValueError, match=r"without folders in it, got .*checkpoint-a, checkpoint-b"):
        merge(steps, None, a, Written(force=True))
    with pytest.raises(ValueError, match="parent"):
        merge([a, b], None, tmp_path / "no" / "where")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c", "papers"]


@pytest.mark.parametrize(
    ("how", "others", "named"),
    [
        ({}, {"weights": [1.0]}, "weights"),
        ({}, {"weights": [1.0, float("nan")]}, "weights"),
        ({}, {"weights": [1.0, 1e308]}, "weights: expected a weight times a scale"),
        ({"method": "mean"}, {}, "method"),
        ({"method": "svd"}, {}, "rank"),
        ({"method": "svd", "rank": 0}, {}, "rank"),
        ({"rank": 4}, {}, "rank"),
        ({"dtype": "int8"}, {}, "dtype"),
        ({"dtype": "float16"}, {"weights": [1e30, 1.0]}, "dtype"),
        ({}, {"base": str(Path(__file__).parent)}, "base"),
        ({}, {"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_named(how, others, named, save_adapter, tmp_path):
    a, b = save_adapter("a", targets=["q_proj"]), save_adapter("b", targets=["q_proj"])
    with pytest.raises(ValueError, match=named) as caught:
        merge([a, b], output=tmp_path / "c", how=Written(**how), **others)
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_a_merge_on_the_packaged_pretrained_model(tmp_path):
    from importlib import metadata

    from empirical.training.bases import PACKAGED_MODEL, load_base

    try:
        metadata.distribution(PACKAGED_MODEL)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGED_MODEL} is not installed")
    base = load_base(None)
    folders = []
    for number, r in enumerate((4, 2)):
        options = {"r": r, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"]}
        options["layers_to_transform"] = [0, 15 + number]
        folders.append(made_by_peft(base, tmp_path / f"a{number}", number, **options))
    made = merge(folders, [0.7, -1.3], tmp_path / "c", base=base)
    assert len(made.modules) == 6
    passed(made)
