"""Arrow against peft and against its definition, token by token; general knowledge; the oracle."""

import copy

import numpy as np
import pytest
import torch

from empirical.reuse.methods import Options, reused
from empirical.reuse.routers import oracle_right, subtract_general, subtract_general_factors
from empirical.training.bases import linear_modules
from tests.empirical.reuse.adapters import DOUBLE, SINGLE, adapter, close, logits
from theory.lowrank import LowRank
from theory.numerics import stream


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


def test_general_knowledge_is_subtracted_from_the_factors_as_in_peft(base):
    one, general = adapter(base, 1), [adapter(base, 2), adapter(base, 3)]
    found = subtract_general_factors(one, general)
    for name in one:
        b = one[name].B - (general[0][name].B + general[1][name].B) / 2
        a = one[name].A - (general[0][name].A + general[1][name].A) / 2
        assert np.allclose(found[name].dense(), 1.5 * b @ a, rtol=0, atol=1e-14)  # entries below 1, two roundings
    with pytest.raises(ValueError, match="general: expected"):
        subtract_general_factors(one, [])
    with pytest.raises(ValueError, match="general: expected low-rank updates"):
        subtract_general_factors(one, [adapter(base, 2, rank=3)])


def test_oracle_takes_the_union():
    first, second = np.array([True, False, False]), np.array([False, True, False])
    assert oracle_right([first, second]).tolist() == [True, True, False]
    with pytest.raises(ValueError, match="single: expected"):
        oracle_right([])


def test_general_knowledge_is_subtracted_from_the_updates(base):
    one, general = adapter(base, 1, layers=[0, 1]), [adapter(base, 2, 3), adapter(base, 3, layers=[0])]
    wanted = {
        n: 1.5 * u.B @ u.A - 0.5 * sum(g[n].scale * g[n].B @ g[n].A for g in general if n in g) for n, u in one.items()
    }
    close(subtract_general(one, general), wanted, DOUBLE)
    with pytest.raises(ValueError, match="general: expected"):
        subtract_general(one, [])


@pytest.mark.parametrize(
    ("method", "top", "factors", "subtract"),
    [("arrow_top1", 1, False, None), ("arrow_top2", 2, False, None), ("arrow", 3, False, None),
     ("arrow_factors", 3, True, None), ("arrow_top1_subtract_updates", 1, False, subtract_general),
     ("arrow_top2_subtract_updates", 2, False, subtract_general)],
)  # fmt: skip
def test_routing_follows_its_definition_token_by_token(base, method, top, factors, subtract):
    experts = [adapter(base, 1), adapter(base, 2, layers=[0, 1]), adapter(base, 3)]
    general = [adapter(base, 4), adapter(base, 5, 3)]
    name = linear_modules(base, [1])[0]
    module = base.get_submodule(name)
    x = torch.tensor(stream(0, "tokens").standard_normal((2, 3, 16)), dtype=torch.float32)
    plain = module(x).detach().double().numpy()
    with reused(method, experts, base, Options(temperature=0.6, general=general)):
        found = module(x).detach().double().numpy()
    mine = [(subtract(e, general) if subtract else e)[name] for e in experts]
    for i, j in np.ndindex(2, 3):
        token = x[i, j].double().numpy()
        scores = np.array([abs(np.linalg.svd(u.dense())[2][0] @ token) for u in mine])
        share = np.where(scores >= np.sort(scores)[-top], np.exp(scores / 0.6), 0.0)
        share /= share.sum()
        if factors:
            left, right = (sum(g * getattr(u, f) for g, u in zip(share, mine, strict=True)) for f in ("B", "A"))
            wanted = 1.5 * left @ right @ token
        else:
            wanted = sum(g * u.dense() @ token for g, u in zip(share, mine, strict=True))
        assert np.abs(found[i, j] - plain[i, j] - wanted).max() < 10 * SINGLE * max(1, np.abs(wanted).max())


def test_factors_of_unlike_ranks_are_not_mixed(base):
    with (
        pytest.raises(ValueError, match="router: expected adapters of one rank, to mix factors"),
        reused("arrow_factors", [adapter(base, 1, 2), adapter(base, 2, 3)], base),
    ):
        pass


def test_adapters_that_do_nothing_in_a_module_take_no_part(base):
    silent = {n: LowRank(0 * u.B, u.A, u.scale) for n, u in adapter(base, 2).items()}
    one = adapter(base, 1)
    with reused("arrow_top1", [silent, one], base) as model:
        found = logits(model)
    with reused("sum", [one], base) as model:
        assert torch.allclose(found, logits(model), atol=1e-5)  # float32 through three layers
