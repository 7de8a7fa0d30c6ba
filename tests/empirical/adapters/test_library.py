"""Many adapters: all pairs at once against one by one, what is the same, what belongs together, and how it is shown."""

import json
import math
from types import SimpleNamespace
from typing import Any

import lxml.html
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from empirical.adapters import joint, peft_types
from empirical.adapters.audit import Settings, audit
from empirical.adapters.files import SAFE, expanded, read_adapter
from empirical.adapters.library import FEW, clusters, duplicates, linked, multiples, side_by_side
from empirical.adapters.page import as_html
from empirical.adapters.report import as_json
from empirical.cli import main
from tests.empirical.adapters.folders import changed, configured
from theory.lowrank import LowRank
from theory.merging import interference_bound

# ---------------------------------------------------------------- joint coordinates


@pytest.mark.parametrize("dim", [0, 1])
def test_inner_products_by_blocks(dim):
    draw = torch.Generator().manual_seed(0)
    tall = [torch.randn(joint.ROWS * 2 + 5, r, generator=draw).to(t) for r, t in ((3, torch.bfloat16), (4, torch.half))]
    tensors = tall if dim else [x.T for x in tall]
    whole = torch.cat([x.double() for x in tall], 1).numpy()
    exact = whole.T @ whole
    sizes = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    assert np.abs(joint.gram(tensors, dim) - exact).max() < 1e-12 * sizes.max()
    off = np.abs(joint.gram(tensors, dim, torch.float32) - exact) / sizes
    assert off.max() < 2.0**-24 * math.sqrt(joint.ROWS)  # in all likelihood, as it says
    assert off.max() > 0
    coarse = [x.to(torch.bfloat16) * 1.0001 for x in tensors]
    assert (np.abs(joint.gram(coarse, dim, torch.float32) - exact) / sizes).max() > 2.0**-24 * math.sqrt(joint.ROWS)


@pytest.mark.parametrize("apart", [True, False])
def test_compressed_updates_keep_what_is_between_them(apart):
    rng = np.random.default_rng(0)
    out, inner, ranks, scales = 5000, 90, (3, 4, 2), (2.0, 0.5, -1.0)
    factors = [
        (torch.from_numpy(rng.standard_normal((r, inner))), torch.from_numpy(rng.standard_normal((out, r))))
        for r in ranks
    ]
    if not apart:
        factors[1] = (factors[1][0], torch.cat([factors[0][1], factors[0][1][:, :1]], 1))
    full = [LowRank(b.numpy(), a.numpy(), s) for (a, b), s in zip(factors, scales, strict=True)]
    small = joint.compressed(factors, scales)
    for one, first in zip(full, small, strict=True):
        assert first.shape <= (sum(ranks), sum(ranks))
        for two, second in zip(full, small, strict=True):
            assert first.inner(second) == pytest.approx(one.inner(two), rel=1e-12, abs=1e-9)
        u, values, vt = first.svd((out, inner))
        assert np.abs((u * values) @ vt - first.dense()).max() < 1e-10
        assert len(values) == one.rank()
    assert LowRank.combine(small, [1.0] * 3).tolerance((out, inner)) == pytest.approx(
        LowRank.combine(full, [1.0] * 3).tolerance()
    )


def test_all_pairs_at_once_are_the_pairs_one_by_one(save_adapter):
    """Ranks differ, one is dead, one reads what another reads; totals follow from the modules."""
    folders = [save_adapter(f"a{i}", seed=i, r=r, targets=["q_proj", "down_proj"]) for i, r in enumerate((4, 2, 3, 5))]
    changed(folders[2], lambda key, x: x * (0 if "lora_B" in key else 1))
    shared = load_file(folders[0] / SAFE)
    changed(folders[3], lambda key, x: torch.cat([shared[key], x[:1]]) if "lora_A" in key else x)
    data = audit(folders)
    parts = [read_adapter(f) for f in folders]
    for m in data.modules:
        assert [(p.first, p.second) for p in m.pairs] == [(i, j) for i in range(4) for j in range(i + 1, 4)]
        for p in m.pairs:
            one, two = parts[p.first].update(m.name), parts[p.second].update(m.name)
            if 2 in (p.first, p.second):
                assert p.keys.share == p.cosine == p.first_on_second.bound == p.second_on_first.largest == 0.0
                continue
            rows = one.row_basis(), two.row_basis()
            assert p.cosine == pytest.approx(one.inner(two) / one.norm() / two.norm(), abs=1e-12)
            angles = np.linalg.svd(rows[0] @ rows[1].T, compute_uv=False)
            assert p.keys.share == pytest.approx(float(np.mean(angles**2)), abs=1e-12)
            assert p.keys.chance == max(len(r) for r in rows) / m.inner
            assert np.cos(np.radians(p.keys.angles)) == pytest.approx(np.clip(angles, 0, 1), abs=1e-12)
            for found, own, basis, other in (
                (p.second_on_first, one, *rows[:1], two),
                (p.first_on_second, two, rows[1], one),
            ):
                strength = own.norm("spectral")
                assert found.largest == pytest.approx(np.linalg.norm(other.dense() @ basis.T, 2) / strength)
                _, _, vt = np.linalg.svd(other.A @ basis.T)
                (most,) = interference_bound([other], vt[0] @ basis)
                assert found.bound == pytest.approx(most / strength)
        assert m.keys_shared == max(p.keys.share for p in m.pairs)
        updates = [p.update(m.name) for p in parts]
        mean = sum(u.dense() for u in updates) / len(updates)
        assert m.mean.norm == pytest.approx(np.linalg.norm(mean))
        kept = [float(np.sum(mean * u.dense())) / u.norm() ** 2 if i != 2 else 0.0 for i, u in enumerate(updates)]
        assert m.mean.kept == pytest.approx(kept, abs=1e-12)
    for total in data.total.pairs:
        met = [p for m in data.modules for p in m.pairs or () if (p.first, p.second) == (total.first, total.second)]
        assert total.common_modules == len(met) == 4
        assert total.keys_share == pytest.approx(np.mean([p.keys.share for p in met]))
        assert total.second_on_first.largest == max(p.second_on_first.largest for p in met)
        assert total.first_on_second.mean_largest == pytest.approx(np.mean([p.first_on_second.largest for p in met]))
        whole = sum(parts[total.first].update(m.name).inner(parts[total.second].update(m.name)) for m in data.modules)
        sizes = [data.total.adapters[i].norm for i in (total.first, total.second)]
        assert total.cosine == pytest.approx(whole / math.prod(sizes) if all(sizes) else 0.0, abs=1e-12)


def test_threads_are_as_they_were(save_adapter):
    before = torch.get_num_threads()
    folder = save_adapter("a", targets=["q_proj"])
    torch.set_num_threads(3)
    try:
        audit([folder])
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- peft's combinations by blocks


def test_combinations_by_blocks_are_those_of_the_whole(save_adapter, monkeypatch):
    folders = [
        save_adapter("a", seed=1, targets=["q_proj", "down_proj"]),
        save_adapter("b", seed=2, targets=["q_proj"]),
    ]

    def errors() -> dict[str, float | None]:
        found = audit(folders, [0.7, -1.3]).total.combinations
        return {k: found[k].error for k in ("linear", "ties", "magnitude_prune")}

    whole = errors()
    monkeypatch.setattr(peft_types, "ROWS", 7)
    assert errors() == pytest.approx(whole, rel=1e-12)
    monkeypatch.setattr(peft_types, "_LARGE", 0)  # products in single precision, six digits
    assert errors() == pytest.approx(whole, rel=1e-5)
    assert errors() != pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("large", [1 << 19, 0])
def test_a_combination_that_is_exact_is_found_to_be(large, save_adapter, monkeypatch):
    """Inner products cannot tell 1e-4 from nothing; the joint factors can."""
    monkeypatch.setattr(peft_types, "_LARGE", large)
    monkeypatch.setattr(peft_types, "ROWS", 9)
    folders = [save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=2, targets=["q_proj"])]
    found = audit(folders, [2.0, 0.0], Settings(density=1.0)).total.combinations
    assert found["magnitude_prune"].error == pytest.approx(0.0, abs=1e-6)  # float32
    assert found["dare_linear"].error == pytest.approx(0.0, abs=1e-6)


def test_the_largest_entries_are_those_of_torch():
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for count in (0, 1, 500, 1000):
        wanted = torch.zeros(1000, dtype=torch.bool)
        wanted[torch.topk(x, count)[1]] = True
        assert torch.equal(peft_types._largest(x.numpy(), count), wanted)
    tied = x.round(decimals=1)
    mask = peft_types._largest(tied.numpy(), 500)
    assert int(mask.sum()) == 500
    assert tied[mask].min() >= tied[~mask].max()


@pytest.mark.filterwarnings("ignore:The density 1.0")
def test_which_of_equal_entries_are_kept_moves_no_error(monkeypatch):
    draw = torch.Generator().manual_seed(0)
    n, r = 2049, 32
    factors = [
        (torch.randn(r, n, generator=draw).bfloat16(), torch.randn(n, r, generator=draw).bfloat16()) for _ in range(2)
    ]
    parts = peft_types.Wanted(factors, [2.0, 2.0], [0.7, -1.3])
    plans = [peft_types.Plan(kind, None, r) for kind in peft_types.TRIMMED]
    size = LowRank.combine(parts.updates(), parts.weights).norm()

    def errors() -> list[float]:
        return [
            float(e) / size for e in peft_types.factor_errors(plans, parts, size, peft_types.Draw("m", 0, 0.5)).values()
        ]

    assert n * r > peft_types._SURE
    ours = errors()
    monkeypatch.setattr(peft_types, "_SURE", n * r)
    assert ours == pytest.approx(errors(), abs=1e-4)
    assert ours != errors()


# ---------------------------------------------------------------- what is the same, what belongs together


@pytest.mark.parametrize(
    ("dtype", "change", "same"),
    [
        ("float32", 0.0, True), ("float32", 1e-5, False), ("bfloat16", 0.0, True), ("bfloat16", 1e-2, False),
        ("float16", 1e-3, False),
    ],
)  # fmt: skip
def test_the_same_is_the_same_to_the_rounding_of_its_format(dtype, change, same, save_adapter):
    one, two = save_adapter("a", seed=1, targets=["q_proj"]), save_adapter("b", seed=1, targets=["q_proj"])
    changed(two, lambda key, x: (x * (1 + change if "lora_B" in key else 1)).to(getattr(torch, dtype)))
    other = save_adapter("c", seed=2, targets=["q_proj"])
    data = audit([one, two, other])
    assert duplicates(data) == ([(0, 1)] if same else [])
    ((i, j, times),) = multiples(data)  # and no others
    assert (i, j) == (0, 1)
    assert times == pytest.approx(1 + change, abs={"float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}[dtype])


def turned(key: str, x: torch.Tensor) -> torch.Tensor:
    return x.flip(0) if "lora_A" in key else x.flip(1)


def moved(key: str, x: torch.Tensor) -> torch.Tensor:
    return x * (8.0 if "lora_A" in key else 0.125)


@pytest.mark.parametrize(
    ("change", "fields", "dead", "twin"),
    [
        (lambda key, x: x * ("lora_A" in key), {}, True, False),
        (lambda key, x: x * ("lora_B" in key), {}, True, False),
        (lambda key, x: (x * ("lora_A" in key)).bfloat16(), {}, True, False), (moved, {"lora_alpha": 0}, True, False),
        (lambda key, x: x * 1e-20, {}, False, False), (turned, {}, False, True), (moved, {}, False, True),
        (moved, {"lora_alpha": 8.5}, False, False),
    ],
)  # fmt: skip
def test_an_update_is_judged_by_what_it_does(change, fields, dead, twin, save_adapter):
    """Whichever factor, number or format makes it nothing; however the factors of the same update are turned."""
    one, two = (save_adapter(n, seed=1, targets=["q_proj"]) for n in "ab")
    changed(two, change)
    data = audit([one, configured(two, **fields)])
    assert ("An update of zero, which changes nothing: b" in str(data.answer.waste)) == dead
    assert duplicates(data) == ([(0, 1)] if twin else [])


def test_a_folder_stands_for_what_people_put_into_it(save_adapter, tmp_path):
    """Not for what tools left there: copies of an editor, drafts of a merge that was killed."""
    for name in ("pool/one", "pool/two", "pool/.ipynb_checkpoints", "pool/.c.x1y2/folder", "pool/one/.c.z3"):
        save_adapter(name, targets=["q_proj"])
    assert expanded([tmp_path / "pool"]) == [tmp_path / "pool" / "one", tmp_path / "pool" / "two"]


def pair(share: float | None, chance: float | None) -> Any:
    return SimpleNamespace(keys_share=share, keys_chance=chance)


def test_half_is_counted_beyond_chance():
    assert linked(pair(0.51, 0.0))
    assert not linked(pair(0.49, 0.0))
    assert not linked(pair(0.64, 0.5))  # narrow modules: chance shares half
    assert linked(pair(0.76, 0.5))
    assert not linked(pair(None, None))


def test_what_is_linked_by_way_of_others_lies_together():
    near = {(0, 3), (3, 4)}
    pairs = [
        SimpleNamespace(first=i, second=j, keys_share=0.9 * ((i, j) in near), keys_chance=0.1)
        for i in range(5)
        for j in range(i + 1, 5)
    ]
    data: Any = SimpleNamespace(adapters=range(5), total=SimpleNamespace(pairs=pairs))
    assert clusters(data) == [[0, 3, 4]]
    assert side_by_side(data) == [0, 3, 4, 1, 2]


# ---------------------------------------------------------------- how it is shown


@pytest.fixture
def pool(save_adapter):
    """One more than a few; the last has names that peft would not load."""
    folders = [save_adapter(f"pool/task{i}", seed=i, targets=["q_proj", "v_proj"]) for i in range(FEW + 1)]
    tensors = {k.replace("base_model.model.", "base_model.model._orig_mod."): v for k, v in
               load_file(folders[-1] / SAFE).items()}  # fmt: skip
    save_file(tensors, str(folders[-1] / SAFE))
    return folders


def test_json_grows_with_pairs_alone_unless_asked(pool, tmp_path):
    few, many = audit(pool[:FEW]), audit(pool)
    assert all(m.pairs is not None and len(m.pairs) == FEW * (FEW - 1) // 2 for m in few.modules)
    assert all(m.pairs is None for m in many.modules)
    assert len(as_json(many)) < len(as_json(few))
    asked = audit(pool, settings=Settings(by_module=True))
    assert asked.total == many.total
    assert [len(m.pairs or ()) for m in asked.modules] == [36] * len(many.modules)
    assert all(m.pairs is None for m in audit(pool[:2], settings=Settings(by_module=False)).modules)
    for extra, wanted in (([], None), (["--pairs-by-module"], 36)):
        assert main(["audit", str(pool[0].parent), "--json", str(tmp_path / "r.json"), *extra]) == 0
        (first, *_) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["modules"]
        assert (first["pairs"] if wanted is None else len(first["pairs"])) == wanted
        assert first["keys_shared"] == many.modules[0].keys_shared


def test_repaired_names_are_said_in_text_page_and_json(pool, capsys):
    capsys.readouterr()
    for folders in (pool[-2:], pool):
        assert main(["audit", *map(str, folders)]) == 0
        assert "names are not as peft saves them" in " ".join(capsys.readouterr().out.split())
        data = audit(folders)
        assert "names are not as peft saves them" in as_html(data)
        assert [len(a.notes) for a in data.adapters] == [0] * (len(folders) - 1) + [1]
        assert "names are not as peft saves them" in json.loads(as_json(data))["adapters"][-1]["notes"][0]
    assert main(["audit", *map(str, pool[:2])]) == 0
    assert "note" not in capsys.readouterr().out
    assert "Notes" not in as_html(audit(pool[:2]))


@pytest.mark.parametrize("count", [3, 2 * FEW + 1])
def test_the_map_can_be_read_without_eyes_and_without_a_pointer(count, save_adapter):
    folders = [save_adapter(f"task{i}", seed=i % 5, targets=["q_proj"]) for i in range(count - 1)]
    data = audit([*folders, save_adapter("apart", seed=9, targets=["up_proj"])])
    text = as_html(data)
    (table,) = lxml.html.fromstring(text).find_class("map")
    columns = [head.text_content() for head in table.xpath(".//th[@scope='col']")]
    rows = {row[0].get("title"): row for row in table.xpath(".//tr[th/@scope='row']")}
    names = [data.adapters[i].name for i in side_by_side(data)]
    assert columns == list(rows) == names
    shares = {frozenset((data.adapters[p.first].name, data.adapters[p.second].name)): p.keys_share
              for p in data.total.pairs}  # fmt: skip
    for name, (head, *cells) in rows.items():
        assert head.get("tabindex") == "0"  # the keyboard gets there
        for other, cell in zip(names, cells, strict=True):
            share = shares.get(frozenset((name, other)))
            wanted = "itself" if name == other else "no module in common" if share is None else f"{100 * share:.0f}"
            assert cell.text_content() == wanted
    assert ("class=hid" in text) == (count > 2 * FEW)
    assert 'role="region"' in text


def test_many_adapters_have_a_page_of_bounded_width(pool):
    text = as_html(audit(pool))
    assert f"<title>Audit of {len(pool)} adapters</title>" in text
    assert "All 36 pairs</summary>" in text
    assert text.count("<polyline") == 2  # one spectrum for all, and the loss
    assert as_html(audit(pool[:3])).count("<polyline") == 4
