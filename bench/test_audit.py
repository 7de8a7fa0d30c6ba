"""Audit and merge of two rank-16 adapters: factor space against peft's ``svd`` merge and a dense audit, in one run.

The same two adapters, written to disk, one square module of width 4096: the audit and the exact merge read them from
there; peft merges them with ``svd`` on a loaded layer; the dense audit decomposes the out x in updates. Ratios and the
agreement of the numbers are printed and asserted. The shapes of an 8B model (32 layers of 7 modules, and the head) give
seconds and memory at ranks 16 and 128, the merge beside reading and writing the same bytes and beside the least that it
has to do, and one layer of them beside peft's own concatenation. Fifty adapters of rank 16 on the shapes of a 1B model
(16 layers of 7 modules).
Limits of seconds are for two cores that have nothing else to do.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from empirical.adapters.audit import audit
from empirical.adapters.files import SAFE, read_adapter
from empirical.adapters.merge import BLOCK, MergeReport, Written, merge

R, WIDTH = 16, 4096
#: both sides agree to this, relative: peft and the dense audit work in float32
AGREE = 1e-5
EIGHT = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (1024, 4096), "self_attn.v_proj": (1024, 4096),
    "self_attn.o_proj": (4096, 4096), "mlp.gate_proj": (14336, 4096), "mlp.up_proj": (14336, 4096),
    "mlp.down_proj": (4096, 14336),
}  # fmt: skip
ONE = {
    "self_attn.q_proj": (2048, 2048), "self_attn.k_proj": (512, 2048), "self_attn.v_proj": (512, 2048),
    "self_attn.o_proj": (2048, 2048), "mlp.gate_proj": (8192, 2048), "mlp.up_proj": (8192, 2048),
    "mlp.down_proj": (2048, 8192),
}  # fmt: skip


def write(
    folder: Path, shapes: dict[str, tuple[int, int]], seed: int, r: int = R, dtype: torch.dtype = torch.float32
) -> Path:
    """An adapter with Gaussian factors of decaying strength."""
    draw = torch.Generator().manual_seed(seed)
    decay = torch.exp(-0.1 * torch.arange(r) * R / r)
    tensors = {}
    for name, (out, inner) in shapes.items():
        stem = f"base_model.model.{name}."
        tensors[stem + "lora_A.weight"] = torch.randn(r, inner, generator=draw) / inner**0.5 * decay[:, None]
        tensors[stem + "lora_B.weight"] = torch.randn(out, r, generator=draw) / r**0.5
    folder.mkdir()
    tensors = {k: v.to(dtype) for k, v in tensors.items()}
    save_file(tensors, str(folder / "adapter_model.safetensors"))
    config = LoraConfig(r=r, lora_alpha=2 * r, target_modules=sorted({n.rpartition(".")[2] for n in shapes}))
    config.save_pretrained(str(folder))
    return folder


def dense_audit(updates: list[torch.Tensor]) -> dict[str, float]:
    """The main numbers of the audit from dense float32 matrices."""
    parts = [torch.linalg.svd(u, full_matrices=False) for u in updates]
    wanted = updates[0] + updates[1]
    values = torch.linalg.svdvals(wanted)
    rows = [vt[:R] for _, _, vt in parts]
    shared = torch.linalg.svdvals(rows[0] @ rows[1].T)
    return {
        "norm": float(values.norm()),
        "truncation": float(values[R:].norm() / values.norm()),
        "share": float((shared**2).mean()),
        "largest": float(torch.linalg.svdvals(updates[1] @ rows[0].T)[0] / parts[0][1][0]),
    }


def test_one_wide_module(benchmark, tmp_path: Path) -> None:
    benchmark.group = f"audit and merge of two rank-{R} adapters at {WIDTH} x {WIDTH}"
    folders = [write(tmp_path / f"a{i}", {"proj": (WIDTH, WIDTH)}, i) for i in range(2)]
    audit(folders)  # imports and first touches are not measured
    data = benchmark.pedantic(audit, args=(folders,), rounds=5, iterations=1)
    audited = benchmark.stats.stats.median
    started = time.perf_counter()
    merge(folders, output=tmp_path / "exact")
    merged = time.perf_counter() - started

    layer = torch.nn.Sequential()
    layer.add_module("proj", torch.nn.Linear(WIDTH, WIDTH, bias=False))
    model = PeftModel.from_pretrained(layer, str(folders[0]), adapter_name="a0")
    model.load_adapter(str(folders[1]), adapter_name="a1")
    started = time.perf_counter()
    model.base_model.add_weighted_adapter(["a0", "a1"], [1.0, 1.0], "svd", combination_type="svd")
    by_peft = time.perf_counter() - started
    target = model.base_model.model.proj
    updates = [target.get_delta_weight(f"a{i}").detach() for i in range(2)]
    started = time.perf_counter()
    dense = dense_audit(updates)
    by_dense = time.perf_counter() - started

    (module,), (pair,) = data.modules, data.modules[0].pairs
    ours = {
        "norm": module.merge.norm,
        "truncation": module.merge.truncation,
        "share": pair.keys.share,
        "largest": pair.second_on_first.largest,
    }
    off = target.get_delta_weight("svd").detach().double() - updates[0].double() - updates[1].double()
    lost = float(off.norm()) / dense["norm"]
    gaps = {k: abs(ours[k] - v) / max(abs(v), 1e-12) for k, v in dense.items()}
    gaps["peft svd error"] = abs(data.total.combinations["svd"].error - lost) / lost
    print(
        f"\n{WIDTH} x {WIDTH}: audit {audited:.3f} s, exact merge {merged:.3f} s; peft svd {by_peft:.1f} s, dense "
        f"audit {by_dense:.1f} s; ratios {by_peft / merged:.0f} (merge), {by_dense / audited:.0f} (audit); largest gap "
        f"{max(gaps.values()):.1e}"
    )
    assert max(gaps.values()) <= AGREE, gaps
    assert by_peft / merged >= 100
    assert by_dense / audited >= 100


def layers(count: int, shapes: dict[str, tuple[int, int]] = EIGHT) -> dict[str, tuple[int, int]]:
    return {f"model.layers.{i}.{name}": shape for i in range(count) for name, shape in shapes.items()}


def seconds(act: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    started = clock()
    act()
    return clock() - started


def least(folders: list[Path], output: Path) -> None:
    """What no balanced merge can do without, and nothing to show that it is right: read, measure, scale, write."""
    parts = [read_adapter(f) for f in folders]
    with output.open("wb") as out:
        for module in parts[0].modules.values():
            for dim, key in enumerate(module.keys):
                tensors = [p.tensor(key) for p in parts]
                for piece in (x for t in tensors for x in t.split(max(1, BLOCK // t.shape[1]))):
                    piece.square().sum(1 - dim)
                stored = torch.cat(tensors, dim)
                torch.mul(stored, 2.0, out=stored)
                out.write(stored.view(torch.uint8).numpy().data)


@pytest.mark.parametrize(("rank", "limit"), [(16, 15.0), (128, 60.0)])
def test_shapes_of_an_8b_model(benchmark, rank: int, limit: float, tmp_path: Path) -> None:
    """Audit and exact merge of bfloat16 adapters.

    The merge beside reading and writing the same bytes, by the clock, and beside the least that it has to do, in
    seconds of a processor: that alone takes two to four times the copying. To show that ranks are full, numbers finite
    and nothing rounded may cost as much again.
    """
    shapes = layers(32) | {"lm_head": (128256, 4096)}
    folders = [write(tmp_path / f"a{i}", shapes, i, rank, torch.bfloat16) for i in range(2)]

    def exact() -> None:
        made.append(merge(folders, output=tmp_path / "exact", how=Written(dtype="bfloat16", force=True)))

    def copy() -> None:
        tensors = {f"{i}.{k}": v for i, f in enumerate(folders) for k, v in load_file(f / SAFE).items()}
        save_file(tensors, str(tmp_path / "copy.safetensors"))

    made: list[MergeReport] = []
    bare, busy = (
        min(seconds(act, time.process_time) for _ in range(2))
        for act in (lambda: least(folders, tmp_path / "l"), exact)
    )
    both = [(seconds(copy), seconds(exact)) for _ in range(3)]  # in turn: pages are written back all the while
    copied, merged = (min(x) for x in zip(*both, strict=True))
    benchmark.group = "two bfloat16 adapters on the shapes of an 8B model"
    audited, peak = benchmark.pedantic(audited_alone, args=(folders,), rounds=1, iterations=1)
    print(
        f"\n8B shapes, rank {rank}: audit {audited:.1f} s, {peak:.2f} GB; exact merge {merged:.1f} s, reading and "
        f"writing the same bytes {copied:.1f} s, ratio {merged / copied:.2f}; processor {busy:.1f} s, least "
        f"{bare:.1f} s"
    )
    assert len(made[0].modules) == 225
    assert {m.r for m in made[0].modules} == {2 * rank}
    assert made[0].rounding == 0.0  # weights of 1 and a scale of 2
    assert audited <= limit
    assert peak <= 1.5
    assert busy <= 2 * bare or busy <= 2.0  # where all is over in two seconds, names and headers weigh as much


@pytest.mark.parametrize("rank", [16, 128])
def test_one_layer_beside_peft(benchmark, rank: int, tmp_path: Path) -> None:
    """From two adapters on the disk to one: peft's ``cat`` on a loaded layer, loading that not counted, and ours."""
    folders = [write(tmp_path / f"a{i}", layers(1), i, rank, torch.bfloat16) for i in range(2)]
    base = torch.nn.Module()
    for name, (out, inner) in layers(1).items():
        place = base
        *path, last = name.split(".")
        for part in path:
            if not hasattr(place, part):
                place.add_module(part, torch.nn.Module())
            place = getattr(place, part)
        place.add_module(last, torch.nn.Linear(inner, out, bias=False, dtype=torch.bfloat16))

    def by_peft() -> None:
        model = PeftModel.from_pretrained(base, str(folders[0]), adapter_name="a0", autocast_adapter_dtype=False)
        model.load_adapter(str(folders[1]), adapter_name="a1", autocast_adapter_dtype=False)
        model.base_model.add_weighted_adapter(["a0", "a1"], [1.0, 1.0], "cat", combination_type="cat")
        model.save_pretrained(str(tmp_path / "peft"), selected_adapters=["cat"])

    theirs = seconds(by_peft)
    benchmark.group = "one layer of an 8B model, two bfloat16 adapters into one"
    how = Written(dtype="bfloat16", force=True)
    benchmark.pedantic(merge, args=(folders, None, tmp_path / "ours", how), rounds=3, iterations=1)
    ours = benchmark.stats.stats.median
    one, two = (load_file(tmp_path / place / SAFE) for place in ("peft/cat", "ours"))
    assert one.keys() == two.keys()
    for key, a in one.items():
        if "lora_A" in key:
            b = key.replace("lora_A", "lora_B")
            x = torch.randn(a.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            wanted, found = (t[b].double() @ (t[key].double() @ x) for t in (one, two))
            assert float((wanted - found).norm() / wanted.norm()) <= 2.0**-8  # peft rounds the scaled A once
    print(f"\none layer, rank {rank}: exact merge {ours:.2f} s, peft cat {theirs:.2f} s")


def test_fifty_adapters(benchmark, tmp_path: Path) -> None:
    folders = [write(tmp_path / f"a{i:02d}", layers(16, ONE), i, 16, torch.bfloat16) for i in range(50)]
    benchmark.group = "fifty bfloat16 adapters on the shapes of a 1B model"
    audited, peak = benchmark.pedantic(audited_alone, args=(folders,), rounds=1, iterations=1)
    print(f"\n50 adapters of rank 16, 112 modules: audit {audited:.1f} s, {peak:.2f} GB")
    assert audited <= 60.0
    assert peak <= 1.0


def audited_alone(folders: list[Path]) -> tuple[float, float]:
    """Seconds and peak memory (GB) of an audit in a process of its own.

    The peak is the kernel's VmHWM, which begins anew with a program; ru_maxrss keeps what its parent held.
    """
    code = (
        "import sys, time; from empirical.adapters.audit import audit; started = time.perf_counter(); "
        "audit(sys.argv[1:]); taken = time.perf_counter() - started; "
        "peak = next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')); "
        "print(taken, int(peak) * 1024 / 1e9)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, folders)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    taken, peak = done.stdout.split()[-2:]
    return float(taken), float(peak)
