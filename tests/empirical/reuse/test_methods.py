"""Every method of reuse against its definition, evaluated a second way (dense algebra, peft's own layers, loops)."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from empirical.reuse.methods import (
    METHODS,
    Options,
    arrow_prototype,
    check_method,
    knots_module,
    merged,
    oracle_right,
    peft_weighted,
    random_like,
    reused,
    subtract_general,
    ties,
    weighted_sum,
)
from empirical.training.bases import BaseShape, dense, linear_modules, scratch_base, updated
from theory.lowrank import LowRank
from theory.numerics import stream

# float32 layers of at most 32 x 32 with entries of order 1: sums of 32 products, each rounded to 2^-24, and the merge
# on top of them
SINGLE = 64 * 2.0**-24


@pytest.fixture(scope="module")
def base():
    return scratch_base(BaseShape(vocabulary=30, width=16, layers=3, heads=2, feed_forward=32, init=0.2), seed=1)


def adapter(base, seed, rank=2, scale=1.5, layers=None):
    """A random adapter; entries are float32 numbers, as a trained one's are."""
    rng = stream(seed, "adapter")
    modules = dict(base.named_modules())
    found = {}
    for name in linear_modules(base, layers):
        out, inner = modules[name].weight.shape
        b, a = rng.standard_normal((out, rank)), rng.standard_normal((rank, inner))
        found[name] = LowRank(b.astype(np.float32) * 0.25, a.astype(np.float32) * 0.25, scale)
    return found


def close(found, wanted, tolerance=SINGLE):
    assert set(found) == set(wanted)
    for name in wanted:
        want = dense(wanted[name])
        assert np.abs(dense(found[name]) - want).max() <= tolerance * max(1.0, np.abs(want).max()), name


def logits(model, tokens=((3, 7, 1), (9, 2, 5))):
    with torch.no_grad():
        return model(input_ids=torch.tensor(tokens)).logits


def union_sum(adapters, weights):
    total: dict[str, np.ndarray] = {}
    for one, weight in zip(adapters, weights, strict=True):
        for name, update in one.items():
            total[name] = total.get(name, 0.0) + weight * update.scale * (update.B @ update.A)
    return total


def test_sum_and_mean_are_exact_for_unlike_ranks_scales_and_placements(base):
    adapters = [adapter(base, 1, 2, 1.5, [0]), adapter(base, 2, 3, 0.5, [1, 2]), adapter(base, 3, 1, 2.0)]
    double = 64 * np.finfo(np.float64).eps
    close(merged("sum", adapters, base), union_sum(adapters, [1, 1, 1]), double)
    close(merged("mean", adapters, base), union_sum(adapters, [1 / 3] * 3), double)
    mixed = [adapters[0], {n: u.dense() for n, u in adapters[1].items()}, adapters[2]]
    close(weighted_sum(mixed, [1.0, -2.0, 0.5]), union_sum(adapters, [1, -2, 0.5]), double)


@pytest.mark.parametrize("layers", [(None, None), ([0], [1, 2])])
def test_peft_cat_and_full_svd_are_the_sum_and_drop_no_layer(base, layers):
    adapters = [adapter(base, 1, 2, 1.5, layers[0]), adapter(base, 2, 3, 0.5, layers[1])]
    wanted = union_sum(adapters, [1, 1])
    close(merged("cat", adapters, base), wanted)
    close(peft_weighted(adapters, base, "svd", [1.0, 1.0], svd_rank=5), wanted)


def test_peft_svd_is_the_best_approximation_of_the_largest_rank(base):
    adapters = [adapter(base, 1), adapter(base, 2)]
    wanted = {}
    for name, total in union_sum(adapters, [1, 1]).items():
        u, s, vt = np.linalg.svd(total)
        wanted[name] = (u[:, :2] * s[:2]) @ vt[:2]
    close(merged("svd", adapters, base), wanted)


def test_peft_linear_averages_the_factors(base):
    adapters = [adapter(base, 1, scale=1.5), adapter(base, 2, scale=0.5)]
    wanted = {}
    for name in adapters[0]:
        first, second = (a[name] for a in adapters)
        left = np.sqrt(1.5) * first.B + np.sqrt(0.5) * second.B
        wanted[name] = left @ (np.sqrt(1.5) * first.A + np.sqrt(0.5) * second.A)
    close(merged("linear", adapters, base), wanted)


def test_factor_mean_keeps_a_quarter_and_adds_cross_terms(base):
    adapters = [adapter(base, 1), adapter(base, 2)]
    wanted = {n: 1.5 * sum(a[n].B @ b[n].A for a in adapters for b in adapters) / 4 for n in adapters[0]}
    close(merged("factor_mean", adapters, base), wanted, 64 * np.finfo(np.float64).eps)


def slow_ties(values, density):
    """TIES entry by entry."""
    trimmed = []
    for v in values:
        order = sorted(range(v.size), key=lambda i: -abs(v.flat[i]))
        keep = set(order[: int(density * v.size)])
        trimmed.append([v.flat[i] if i in keep else 0.0 for i in range(v.size)])
    out = []
    for entries in zip(*trimmed, strict=True):
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [e for e in entries if e * sign > 0]
        out.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    return np.array(out).reshape(values[0].shape)


def test_peft_ties_merges_the_factors_entry_by_entry(base):
    adapters = [adapter(base, 1), adapter(base, 2), adapter(base, 3)]
    root = np.sqrt(1.5)
    wanted = {
        n: (root * slow_ties([a[n].B for a in adapters], 0.5)) @ (root * slow_ties([a[n].A for a in adapters], 0.5))
        for n in adapters[0]
    }
    close(merged("ties", adapters, base, Options(density=0.5)), wanted)


def test_own_ties_agrees_with_the_slow_one():
    rng = stream(0, "ties")
    for density in (0.2, 0.5, 1.0):
        values = [rng.standard_normal((4, 7)) for _ in range(3)]
        assert np.allclose(ties(values, density), slow_ties(values, density), rtol=1e-15, atol=0)  # same few sums


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties"])
def test_dare_is_seeded_and_leaves_the_global_generator_alone(base, method):
    adapters = [adapter(base, 1), adapter(base, 2)]
    before = torch.random.get_rng_state()
    made: list[Mapping[str, Any]] = [merged(method, adapters, base, Options(seed=s)) for s in (5, 5, 6)]
    one, again, other = made
    assert torch.equal(before, torch.random.get_rng_state())
    close(one, again, 0.0)
    name = next(iter(one))
    assert np.abs(one[name].dense() - other[name].dense()).max() > 0


def test_dare_linear_keeps_or_drops_each_entry_of_the_factors(base):
    only = [adapter(base, 1), {n: LowRank(0 * u.B, 0 * u.A, u.scale) for n, u in adapter(base, 1).items()}]
    found: Mapping[str, Any] = merged("dare_linear", only, base, Options(density=0.5, seed=2))
    kept = total = 0
    for name, update in only[0].items():
        for got, given in ((found[name].B, update.B), (found[name].A, update.A)):
            ratio = got / (np.sqrt(1.5) * given)
            assert (np.isclose(ratio, 0, atol=0) | np.isclose(ratio, 2, rtol=SINGLE)).all()
            kept, total = kept + int(np.count_nonzero(ratio)), total + ratio.size
    assert abs(kept / total - 0.5) < 5 * 0.5 / np.sqrt(total)  # five standard errors of a fair coin


def test_knots_reconstructs_a_single_update_and_merges_in_the_joint_basis():
    rng = stream(3, "knots")
    updates = [LowRank(rng.standard_normal((6, 2)), rng.standard_normal((2, 5)), 0.7) for _ in range(2)]
    tolerance = 1e3 * np.finfo(np.float64).eps  # an SVD of a 6 x 10 matrix with entries of order 1
    assert np.abs(knots_module(updates[:1], 1.0).dense() - updates[0].dense()).max() < tolerance
    left, values, right = np.linalg.svd(np.hstack([u.dense() for u in updates]), full_matrices=False)
    parts = [right[:4, :5], right[:4, 5:]]  # rank 4: the other singular values are rounding
    for density in (0.4, 1.0):
        wanted = (left[:, :4] * values[:4]) @ slow_ties(parts, density)
        assert np.abs(knots_module(updates, density).dense() - wanted).max() < tolerance
        as_dense = knots_module([u.dense() for u in updates], density)
        assert np.abs(as_dense.dense() - wanted).max() < tolerance


def test_random_control_has_the_norms_and_ranks(base):
    one = adapter(base, 1)
    noise = random_like(one, seed=4)
    for name in one:
        assert noise[name].norm() == pytest.approx(one[name].norm(), rel=1e-12)  # one division and one SVD
        assert noise[name].rank() == one[name].rank()
        assert abs(noise[name].inner(one[name])) < 0.9 * one[name].norm() ** 2
    array = random_like({"model.norm": np.ones(16)}, seed=4)["model.norm"]
    assert isinstance(array, np.ndarray)
    assert np.linalg.norm(array) == pytest.approx(4.0, rel=1e-12)
    total = merged("random", [one, one], base, Options(seed=4))
    assert set(total) == set(one)


def gapped(base, seed):
    """An adapter with a clear top singular value, so that peft's power iteration converges."""
    found = {}
    for name, update in adapter(base, seed).items():
        u, _, vt = np.linalg.svd(update.dense(), full_matrices=False)
        found[name] = LowRank((u[:, :2] * np.array([1.0, 0.2])).astype(np.float32), vt[:2].astype(np.float32), 1.0)
    return found


@pytest.mark.parametrize("top", [1, 2])
@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.filterwarnings("ignore::UserWarning:peft")  # peft talks about adapters it finds beside the new one
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # by peft
def test_arrow_agrees_with_peft(base, tmp_path, top, subtract):
    from peft import ArrowConfig, LoraConfig, create_arrow_model, get_peft_model

    experts = [gapped(base, s) for s in (1, 2, 3)]
    general = [{n: LowRank(0.1 * u.B, 0.1 * u.A, u.scale) for n, u in gapped(base, 4).items()}]
    paths = []
    for i, one in enumerate([*experts, *general]):
        lora = LoraConfig(r=2, lora_alpha=2, target_modules=list(one), base_model_name_or_path="none")
        wrapped = get_peft_model(copy.deepcopy(base), lora)
        for name, layer in wrapped.get_base_model().named_modules():
            if name in one:
                layer.lora_A["default"].weight.data = torch.tensor(one[name].A, dtype=torch.float32)
                layer.lora_B["default"].weight.data = torch.tensor(one[name].B, dtype=torch.float32)
        wrapped.save_pretrained(str(tmp_path / str(i)))
        paths.append(str(tmp_path / str(i)))
    config = ArrowConfig(top_k=top, router_temperature=0.7, use_gks=subtract, rng_seed=0)
    theirs = create_arrow_model(
        copy.deepcopy(base), paths[:3], config, general_adapter_paths=paths[3:] if subtract else None
    )
    wanted = logits(theirs)
    before = logits(base)
    name = f"arrow_top{top}" + ("_subtract" if subtract else "")
    with reused(name, experts, base, Options(temperature=0.7, general=general)) as model:
        found = logits(model)
    assert torch.equal(before, logits(base))
    # 15 power iterations with a ratio of 25 between squared singular values leave nothing; what remains is float32
    # through 3 layers of products
    assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()
    assert (found - before).abs().max() > 0.05 * before.abs().max()


def test_arrow_follows_its_definition_token_by_token(base):
    experts = [adapter(base, 1, layers=[0]), adapter(base, 2, layers=[0, 1])]
    name = linear_modules(base, [0])[0]
    module = base.get_submodule(name)
    x = torch.tensor(stream(0, "tokens").standard_normal((2, 3, 16)), dtype=torch.float32)
    with reused("arrow_top1", experts, base):
        found = module(x)
    for i in range(2):
        for j in range(3):
            token = x[i, j].double().numpy()
            scores = [abs(np.linalg.svd(e[name].dense())[2][0] @ token) for e in experts]
            chosen = experts[int(np.argmax(scores))][name]
            wanted = module(x[i, j]).detach().numpy() + chosen.dense() @ token
            assert np.abs(found[i, j].detach().numpy() - wanted).max() < SINGLE * np.abs(wanted).max()


def test_arrow_prototype_is_the_top_right_singular_vector(base):
    update = next(iter(adapter(base, 1).values()))
    v = np.linalg.svd(update.dense())[2][0]
    assert abs(arrow_prototype(update) @ v) == pytest.approx(1.0, abs=1e-12)


def test_general_knowledge_is_subtracted_from_the_factors(base):
    one, general = adapter(base, 1), [adapter(base, 2), adapter(base, 3)]
    found = subtract_general(one, general)
    for name in one:
        b = one[name].B - (general[0][name].B + general[1][name].B) / 2
        a = one[name].A - (general[0][name].A + general[1][name].A) / 2
        assert np.allclose(found[name].dense(), 1.5 * b @ a, rtol=0, atol=1e-14)  # entries below 1, two roundings
    with pytest.raises(ValueError, match="general: expected"):
        subtract_general(one, [])
    with pytest.raises(ValueError, match="general: expected low-rank updates"):
        subtract_general(one, [adapter(base, 2, rank=3)])


def test_oracle_takes_the_union():
    first, second = np.array([True, False, False]), np.array([False, True, False])
    assert oracle_right([first, second]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="single: expected"):
        oracle_right([])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_the_base_as_it_was(base, method):
    before = {k: v.clone() for k, v in base.state_dict().items()}
    plain = logits(base)
    options = Options(general=[adapter(base, 9)])
    with reused(method, [adapter(base, 1), adapter(base, 2)], base, options) as model:
        assert not torch.equal(logits(model), plain)
    assert torch.equal(logits(base), plain)
    assert all(torch.equal(v, before[k]) for k, v in base.state_dict().items())


def test_the_base_comes_back_when_the_body_fails(base):
    plain = logits(base)
    with pytest.raises(RuntimeError), reused("sum", [adapter(base, 1)], base):
        raise RuntimeError
    assert torch.equal(logits(base), plain)


def test_an_update_written_into_the_weight_is_the_side_path(base):
    one = adapter(base, 1)
    name = linear_modules(base)[0]
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    plain = base.get_submodule(name)(x)
    with updated(base, one) as model:
        found = model.get_submodule(name)(x)
    wanted = plain.double().numpy() + one[name].apply(x.double().numpy().T).T
    assert np.abs(found.numpy() - wanted).max() < SINGLE * np.abs(wanted).max()


# ------------------------------------------------------------ a merge of one's own


def write(tmp_path, body):
    path = tmp_path / "own.py"
    path.write_text("import numpy as np\nfrom theory.lowrank import LowRank\n\n\ndef merge(adapters, base):\n" + body)
    return f"{path}:merge"


def test_the_example_runs(base):
    reference = "examples/my_merge.py:merge"
    adapters = [adapter(base, 1, scale=4.0), adapter(base, 2, scale=0.5)]
    found: Mapping[str, Any] = merged(reference, adapters, base)
    for name in adapters[0]:
        sizes = [a[name].norm() for a in adapters]
        wanted = sum(a[name].dense() * (sum(sizes) / 2 / s) for a, s in zip(adapters, sizes, strict=True))
        assert np.allclose(found[name].dense(), wanted, rtol=0, atol=1e-13)  # entries of order 1, a few roundings
    assert check_method(reference) == reference


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return 3\n", "expected a dict module -> LowRank or array, got int"),
        ("    return {'nowhere': np.ones((2, 2))}\n", "expected names of modules with a weight, got 'nowhere'"),
        (
            "    return {n: np.ones((2, 2)) for n in adapters[0]}\n",
            r"expected shape \(16, 16\) for .*got shape \(2, 2\)",
        ),
        ("    return {n: [[1.0]] for n in adapters[0]}\n", "expected a LowRank or a numpy array for"),
        ("    return {n: u.dense() * np.nan for n, u in adapters[0].items()}\n", "expected finite numbers for"),
        ("    return {n: u.dense() * 1j for n, u in adapters[0].items()}\n", "expected real numbers for"),
    ],
)
def test_a_wrong_merge_is_refused_in_one_line(base, tmp_path, body, message):
    with pytest.raises(ValueError, match=message) as caught:
        merged(write(tmp_path, body), [adapter(base, 1)], base)
    assert "\n" not in str(caught.value)
    assert "own.py:merge" in str(caught.value)


def test_unknown_methods_and_files_are_refused(base, tmp_path):
    with pytest.raises(ValueError, match="method: expected one of sum, mean"):
        check_method("summ")
    with pytest.raises(ValueError, match="method: expected one of"):
        merged("summ", [adapter(base, 1)], base)
    with pytest.raises(ValueError, match="method: expected a file"):
        check_method("nowhere.py:merge")
    with pytest.raises(ValueError, match="method: expected a function 'other'"):
        check_method(write(tmp_path, "    return {}\n").replace(":merge", ":other"))
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    with pytest.raises(ValueError, match="method: expected a file that runs, got ZeroDivisionError"):
        check_method(f"{broken}:merge")


def test_methods_say_which_adapters_they_cannot_take(base):
    unlike = [adapter(base, 1, rank=2), adapter(base, 2, rank=3)]
    for method in ("linear", "ties", "dare_linear", "dare_ties"):
        with pytest.raises(ValueError, match=f"{method}: expected adapters of one rank"):
            merged(method, unlike, base)
    full = {n: u.dense() for n, u in unlike[0].items()}
    for method in ("cat", "svd", "factor_mean"):
        with pytest.raises(ValueError, match=f"{method}: expected low-rank updates"):
            merged(method, [full, unlike[1]], base)
    rows = {"model.embed_tokens": LowRank(np.zeros((30, 1)), np.zeros((1, 16)))}
    with pytest.raises(ValueError, match="cat: expected linear modules only"):
        merged("cat", [rows, unlike[1]], base)
    with pytest.raises(ValueError, match=r"adapters\[0\]: expected shape"):
        merged("sum", [{"lm_head": np.zeros((2, 2))}], base)
    with pytest.raises(ValueError, match="adapters: expected at least one"):
        merged("sum", [], base)
