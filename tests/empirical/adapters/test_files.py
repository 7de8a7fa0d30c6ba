"""The reader takes what peft saves and refuses everything else in one line; hostile and broken folders do no harm."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from empirical.adapters.files import CONFIG, PICKLE, SAFE, Draft, check_config, read_adapter, read_all
from empirical.adapters.merge import merge
from empirical.cli import main

OTHER = "base_model.model.x.k_proj."
STEM = "base_model.model.model.layers.0.self_attn.q_proj."


def plain(folder: Path, tensors: dict[str, torch.Tensor] | None = None, **fields: Any) -> Path:
    """A hand-made adapter with one 6 x 5 module of rank 2."""
    folder.mkdir(exist_ok=True)
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]} | fields
    (folder / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    if tensors is None:
        tensors = {STEM + "lora_A.weight": torch.ones(2, 5), STEM + "lora_B.weight": torch.ones(6, 2)}
    save_file(tensors, str(folder / SAFE))
    return folder


def refused(folder: Path, capsys: pytest.CaptureFixture[str], named: str = "") -> str:
    """The merge of it: exit 2, one line that names the fault, nothing written beside it."""
    before = sorted(p.name for p in folder.parent.iterdir())
    assert main(["merge", str(folder), "-o", str(folder.parent / "made")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("lora-limits: ")
    assert named in lines[0]
    assert sorted(p.name for p in folder.parent.iterdir()) == before
    return lines[0]


# ---------------------------------------------------------------- what is read


def test_an_adapter_comes_back_as_peft_applies_it(save_adapter):
    folder = save_adapter(
        "a", seed=1, r=4, alpha=8.0, use_rslora=True, rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 3}
    )
    adapter = read_adapter(folder)
    assert len(adapter.modules) == 14
    q, down = adapter.modules["model.layers.0.self_attn.q_proj"], adapter.modules["model.layers.1.mlp.down_proj"]
    assert (q.r, q.scale) == (2, 8 / 2**0.5)
    assert (down.r, down.scale) == (4, 3 / 2.0)  # rslora: over the square root of the rank
    assert (down.out, down.inner, down.kind, down.dtype) == (32, 48, "linear", "float32")
    update = adapter.update(down.name)
    stored = load_file(folder / SAFE)
    key = f"base_model.model.{down.name}."
    assert np.array_equal(update.B, stored[key + "lora_B.weight"].double().numpy())
    assert np.array_equal(update.A, stored[key + "lora_A.weight"].double().numpy())
    assert update.scale == 1.5


def test_embeddings_read_tokens_and_write_the_width(save_adapter):
    adapter = read_adapter(save_adapter("a", targets=["embed_tokens"]))
    module = adapter.modules["model.embed_tokens"]
    assert (module.kind, module.out, module.inner) == ("embedding", 32, 61)


def test_fields_that_do_not_change_the_update_are_taken(tmp_path):
    fine: dict[str, Any] = {
        "inference_mode": True, "lora_dropout": 0.1, "init_lora_weights": "gaussian", "eva_config": {"rho": 2.0},
        "bias": "none", "revision": None, "qalora_group_size": 16, "merge_weights": False, "enable_lora": None,
        "corda_config": {}, "modules_to_save": None, "use_rslora": None, "fan_in_fan_out": None, "rank_pattern": None,
        "auto_mapping": {"a": "b"},
    }  # fmt: skip
    assert read_adapter(plain(tmp_path / "a", **fine)).modules


@pytest.mark.parametrize("field", ["lora_dropout", "bias", "init_lora_weights", "inference_mode", "lora_bias"])
def test_null_is_the_default_of_peft(field, tmp_path):
    from peft import LoraConfig

    adapter = read_adapter(plain(tmp_path / "a", **{field: None}))
    assert getattr(adapter.config, field) == getattr(LoraConfig(), field)


@pytest.mark.parametrize(
    ("field", "value", "scale"),
    [
        ("r", 2.0, 2.0), ("rank_pattern", {"q_proj": 2.0}, 2.0), ("rank_pattern", [], 2.0), ("alpha_pattern", [], 2.0),
        ("lora_alpha", -3, -1.5), ("use_rslora", 1, 4 / 2**0.5), ("use_dora", 0, 2.0), ("modules_to_save", "", 2.0),
        ("merge_weights", True, 2.0), ("lora_dtype", "bfloat16", 2.0), ("lorap_emb_lr", 1e-6, 2.0),
        ("layers_to_transform", 0, 2.0), ("exclude_modules", "k_proj", 2.0),
        ("target_modules", ["self_attn.q_proj"], 2.0),
        ("lora_dropout", 1, 2.0), ("target_modules", r".*\.q_proj", 2.0), ("inference_mode", 0, 2.0),
    ],
)  # fmt: skip
def test_a_form_that_other_writers_choose_is_its_value(field, value, scale, tmp_path):
    (module,) = read_adapter(plain(tmp_path / "a", **{field: value})).modules.values()
    assert (module.r, module.scale) == (2, scale)


def test_marks_and_views_of_other_writers_are_read(tmp_path):
    """The mark that editors of Windows put before a text; tensors that lie in a pickle as transposed views."""
    wanted = read_adapter(plain(tmp_path / "a"))
    marked = plain(tmp_path / "b")
    (marked / CONFIG).write_bytes(b"\xef\xbb\xbf" + (marked / CONFIG).read_bytes())
    (marked / SAFE).unlink()
    tensors = {
        STEM + "lora_A.weight": torch.ones(5, 2).T,
        STEM + "lora_B.weight": torch.nn.Parameter(torch.ones(2, 6).T),
    }
    torch.save(tensors, marked / PICKLE)
    found = read_adapter(marked)
    (name,) = found.modules
    assert np.array_equal(found.update(name).dense(), wanted.update(name).dense())


def test_all_linear_as_it_was_written_means_the_modules_of_the_file(tmp_path):
    folder = plain(tmp_path / "a", target_modules="all-linear")
    assert len(read_adapter(folder).modules) == 1
    merge([folder], None, tmp_path / "c")
    listed = json.loads((tmp_path / "c" / CONFIG).read_text(encoding="utf-8"))["target_modules"]
    assert listed == ["model.layers.0.self_attn.q_proj"]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_dora", True), ("bias", "all"), ("bias", "lora_only"), ("lora_bias", True),
        ("modules_to_save", ["lm_head"]), ("trainable_token_indices", [1, 2]), ("target_parameters", ["experts.w"]),
        ("layer_replication", [[0, 2]]), ("alora_invocation_tokens", [5]), ("init_lora_weights", "pissa"),
        ("init_lora_weights", "pissa_niter_4"), ("init_lora_weights", "olora"), ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"), ("init_lora_weights", "lora_ga"), ("init_lora_weights", "mica"),
        ("loftq_config", {"loftq_bits": 4}), ("use_qalora", True), ("kasa_config", {"beta": 1}),
        ("use_bdlora", {"nblocks": 2}), ("monteclora_config", {"num_samples": 2}), ("arrow_config", {"top_k": 2}),
        ("velora_config", {"scale": 1.0}), ("megatron_config", {"x": 1}), ("ensure_weight_tying", True),
        ("peft_type", "ADALORA"), ("invented_yesterday", 3), ("r", 0), ("r", "8"), ("r", True),
        ("lora_alpha", None), ("target_modules", None), ("rank_pattern", {"q_proj": 0}), ("rank_pattern", {"(": 2}),
        ("alpha_pattern", {"q_proj": "2"}), ("fan_in_fan_out", "yes"), ("target_modules", "("),
    ],
)  # fmt: skip
def test_a_field_that_is_not_neutral_is_refused_by_name(field, value, tmp_path, capsys):
    line = refused(plain(tmp_path / "a", **{field: value}), capsys)
    assert field in line or "pattern" in line


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"r": 2.5}, "r: expected an integer of at least 1, got 2.5"),
        ({"r": None}, "r: expected an integer of at least 1, got none"),
        ({"lora_alpha": "8"}, 'lora_alpha: expected a finite number, got "8"'),
        ({"lora_alpha": 10**400}, "lora_alpha: expected a finite number, got 1000"),
        ({"use_rslora": "false"}, 'use_rslora: expected true or false, got "false"'),
        ({"bias": "None"}, 'bias: expected "none" '),
        ({"target_modules": None}, "target_modules: expected a list of names, or a pattern"),
        ({"rank_pattern": {"q_proj": "2"}}, "rank_pattern: expected integers of at least 1 by name, got"),
        ({"from_tomorrow": 0}, "from_tomorrow: expected off, because it is not known to leave s B A as it is"),
        ({"r": 3}, "expected rank 3, which r and rank_pattern come to, got rank 2"),
    ],
)
def test_a_refusal_says_what_was_wanted_and_what_is_there(fields, said, tmp_path, capsys):
    refused(plain(tmp_path / "a", **fields), capsys, said)


def test_every_field_of_peft_is_accounted_for():
    """A new field of peft is refused while it is on; this says so aloud when peft grows one."""
    import dataclasses

    from peft import LoraConfig

    from empirical.adapters.files import _REASONS, NEUTRAL

    assert {f.name for f in dataclasses.fields(LoraConfig)} <= set(NEUTRAL) | set(_REASONS)


def test_quantised_and_odd_factors_are_refused(tmp_path, capsys):
    a, b = STEM + "lora_A.weight", STEM + "lora_B.weight"
    ones = {a: torch.ones(2, 5), b: torch.ones(6, 2)}
    cases = [
        ({a: torch.ones(2, 5, dtype=torch.int8), b: ones[b]}, f"another format in {a} (save them again"),
        ({a: ones[a], b: ones[b].to(torch.float8_e4m3fn)}, f"another format in {b} (save them again"),
        ({a: torch.ones(2, 5, 1, 1), b: torch.ones(6, 2, 1, 1)}, "matrices"),
        ({a: torch.ones(3, 5), b: torch.ones(6, 3)}, "rank 2"),
        ({a: torch.ones(2, 5), b: torch.ones(6, 3)}, "columns"),
        ({a: torch.ones(0, 5), b: torch.ones(6, 0)}, "at least 1"),
        ({a: torch.full((2, 5), float("nan")), b: ones[b]}, "finite"),
        ({a: ones[a], b: torch.full((6, 2), float("inf"))}, "finite"),
        ({a: ones[a]}, "both factors"),
        (ones | {STEM + "lora_magnitude_vector": torch.ones(6)}, "lora_A and lora_B only"),
        (ones | {STEM + "lora_B.bias": torch.ones(6)}, "lora_A and lora_B only"),
        (ones | {"base_model.model.score.weight": torch.ones(6, 2)}, "retrained"),
        ({a: torch.empty(0), b: torch.empty(0)}, "ZeRO-3"),
        ({a.replace("lora_A", "lora_down"): ones[a], b.replace("lora_B", "lora_up"): ones[b]}, "kohya"),
        ({a.replace("lora_A", "lora_a"): ones[a], b.replace("lora_B", "lora_b"): ones[b]}, "mlx"),
        ({"model.adapter.linear_in.weight": ones[a]}, "convert them"),
        ({"loraA.weight": ones[a], "loraB.weight": ones[b]}, "names like 'loraA.weight'"),
        (ones | {a.replace("lora_A", "lora_A.second"): torch.ones(2, 5)}, "twice"),
        (ones | {OTHER + "lora_A.weight": torch.ones(2, 5), OTHER + "lora_B.weight": torch.ones(6, 2)}, "not load"),
        ({"../../etc/passwd.lora_A.weight": ones[a], "../../etc/passwd.lora_B.weight": ones[b]}, "only"),
        ({"base_model.model./etc/x.lora_A.weight": ones[a]}, "only"),
        ({"base_model.model.a..q_proj.lora_A.weight": ones[a]}, "only"),
        ({"x\x1b[31m\n": ones[a]}, "only"),
    ]  # fmt: skip
    for i, (tensors, named) in enumerate(cases):
        refused(plain(tmp_path / f"case{i}", tensors), capsys, named)


def test_broken_folders_are_refused(tmp_path, capsys):
    for i, name in enumerate(("weights.safetensors", "adapter_model-00001-of-00002.safetensors")):
        renamed = plain(tmp_path / f"renamed{i}")
        (renamed / SAFE).rename(renamed / name)
        refused(renamed, capsys, f"neither; it holds adapter_config.json, {name}" if i else f"config.json, {name}")
    model = plain(tmp_path / "model")
    (model / CONFIG).rename(model / "config.json")
    refused(model, capsys, f"{CONFIG} in the folder, got none; it holds {SAFE}, config.json")
    for name in (SAFE, PICKLE):
        pointer = plain(tmp_path / f"pointer {name}")
        (pointer / SAFE).unlink()
        (pointer / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", encoding="utf-8")
        refused(pointer, capsys, "a pointer of git-lfs (git lfs pull brings the file)")
    folder = plain(tmp_path / "of folders")
    (folder / SAFE).unlink()
    (folder / SAFE).mkdir()
    refused(folder, capsys, "neither")
    huge, deep, twice = '{"r": ' + "9" * 5000 + "}", "[" * 5000, '{"peft_type": "LORA", "r": 1, "r": 2}'
    for i, text in enumerate(["", "[]", "null", "\udcff", huge, deep, twice]):
        folder = plain(tmp_path / f"config{i}")
        (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogateescape"))
        refused(folder, capsys)


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize("kind", ["bomb", "nested bomb", "not a table", "object", "numbers", "meta", "noise", "empty"])
def test_hostile_pickles_do_nothing(kind, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = plain(tmp_path / "a")
    (folder / SAFE).unlink()
    content: Any = {
        "bomb": Bomb(), "nested bomb": {STEM + "lora_A.weight": Bomb()}, "not a table": [1, 2], "object": Path("x"),
        "numbers": {STEM + "lora_A.weight": 3},
        "meta": {STEM + f"lora_{k}.weight": torch.empty(2, 2, device="meta") for k in "AB"},
    }.get(kind)  # fmt: skip
    if kind in ("noise", "empty"):
        (folder / PICKLE).write_bytes(bytes(range(256)) * 8 if kind == "noise" else b"")
    elif kind == "bomb":
        (folder / PICKLE).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, folder / PICKLE)
    refused(folder, capsys)
    assert not (tmp_path / "exploded").exists()


@settings(max_examples=60)
@given(
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    which=st.booleans(),
)
def test_truncated_and_flipped_files_give_one_line_or_a_merge(cut, flips, which, tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    folder = plain(root / "a")
    path = folder / (SAFE if which else CONFIG)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[int(place * (len(data) - 1))] = value
    path.write_bytes(bytes(data[: int(cut * len(data)) if cut < 0.9 else len(data)]))
    said = ""
    try:
        merge([folder], None, root / "made")
    except ValueError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1
    assert sorted(p.name for p in root.iterdir()) == (["a"] if said else ["a", "made"])
    shutil.rmtree(root)


def test_a_configuration_is_checked_without_a_file():
    check_config({"peft_type": "LORA", "r": 1, "target_modules": ["q"]}, "x")
    for missing in ("peft_type", "target_modules"):
        with pytest.raises(ValueError, match=f"x: {missing}: expected .*, got none"):
            check_config({k: "LORA" for k in ("peft_type", "target_modules") if k != missing}, "x")


def test_adapters_that_do_not_belong_together_are_refused(tmp_path):
    a = plain(tmp_path / "a", base_model_name_or_path="one/base")
    b = plain(tmp_path / "b", base_model_name_or_path="other/base")
    with pytest.raises(ValueError, match="one base_model_name_or_path"):
        read_all([a, b])
    assert len(read_all([a, b], same_base=True)) == 2
    wide = {STEM + "lora_A.weight": torch.ones(2, 7), STEM + "lora_B.weight": torch.ones(6, 2)}
    with pytest.raises(ValueError, match="6 x 5"):
        read_all([a, plain(tmp_path / "c", wide)])
    with pytest.raises(ValueError, match="at least one"):
        read_all([])


def test_a_draft_that_fails_leaves_the_old_folder(tmp_path):
    old = plain(tmp_path / "old")

    def fail() -> None:
        with Draft(old) as draft:
            (draft.folder / "half").write_text("x", encoding="utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert read_adapter(old).modules


@pytest.mark.parametrize("ends", [SystemExit, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moves", [0, 1, 2])
def test_a_replacement_that_is_ended_at_any_move_leaves_the_old_folder_or_the_new(ends, moves, tmp_path, monkeypatch):
    old, rename, made = plain(tmp_path / "old"), Path.rename, []

    def ended(path: Path, to: Path) -> None:
        if len(made) == moves:
            made.append(None)
            raise ends
        rename(path, to)
        made.append(None)
        if len(made) == moves:  # when it is done, before anything else
            made.append(None)
            raise ends

    def replaced() -> None:
        with Draft(old) as draft:
            (draft.folder / "new").write_text("x", encoding="utf-8")
            draft.publish()

    monkeypatch.setattr(Path, "rename", ended)
    with pytest.raises(ends):
        replaced()
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert [p.name for p in old.iterdir()] == ["new"] if moves == 2 else read_adapter(old).modules


def test_what_comes_to_the_place_of_a_draft_in_the_meantime_stays(tmp_path):
    for name, put in (("folder", plain), ("file", lambda path: path.write_text("mine", encoding="utf-8"))):
        with Draft(tmp_path / name) as draft:
            put(tmp_path / name)
            with pytest.raises(OSError, match=r"Not a directory|not empty"):
                draft.publish()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
    assert read_adapter(tmp_path / "folder").modules
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_what_is_written_is_for_those_whom_the_user_allows(mask, tmp_path):
    a, before = plain(tmp_path / "a"), os.umask(mask)
    name = "é" * 120  # 240 bytes, as long as a name can be
    try:
        assert main(["merge", str(a), "-o", str(tmp_path / name), "--json", str(tmp_path / "r.json")]) == 0
    finally:
        os.umask(before)
    files = [tmp_path / "r.json", *(tmp_path / name).iterdir()]
    assert {p.stat().st_mode & 0o777 for p in files} == {0o666 & ~mask}
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o777 & ~mask
