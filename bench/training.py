"""Adapters trained together against one by one with peft: the same steps on the same data, in one run.

``python bench/training.py`` times K adapters on the coverage experiment's base (width 128, 4 layers, rank 16, all
layers), writes ``build/bench/training.json`` and prints the table; if it is cut off, the same command goes on after the
last row that it finished. Each repeat is a pair, one after the other; a step
is what a longer run takes beyond a run of one step, so that the set-up (which peft pays K times) is left out. Peak
memory is that of a process of its own, or of the device. ``--write`` takes a result into ``bench/results/`` and
``docs/training.md``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TypedDict

import torch

from empirical.engine.records import device_name
from empirical.tasks.sentences import Part
from empirical.tasks.two_hop import World, WorldShape
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import BaseShape, scratch_base
from empirical.training.together import train_adapters
from theory.provenance import embed, write_bytes

ROOT = Path(__file__).resolve().parents[1]
OUTPUT, DOCS = ROOT / "build/bench/training.json", ROOT / "docs/training.md"
BEGUN = OUTPUT.with_suffix(".part.json")
BATCHES, COUNTS, QUICK = (8, 128), (1, 4, 8, 16, 64), (1, 4)
MODES = ("peft", "together")
#: what the profiler's operators are, by name; everything else that it sees is elementwise work, norms and copies
KINDS = {
    "frozen matrices": ("aten::mm", "aten::addmm"),
    "adapter matrices": ("aten::bmm", "aten::baddbmm", "aten::baddbmm_"),
    "attention": ("scaled_dot_product",),
    "AdamW": ("_fused_adamw_",),
}


class Bench:
    """The base and the jobs; `run` trains them either way."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.threads)
        self.options = options
        self.world = World(WorldShape(values=20, changed_relations=1), 0)
        dtype = getattr(torch, options.dtype)
        self.base = scratch_base(BaseShape(self.world.vocabulary.size), 0).to(options.device, dtype)

    def jobs(self, count: int, batch: int, steps: int) -> list[Job]:
        w = self.world
        facts = w.first_hops(w.new)
        parts = [Part(facts, 0.5), Part(w.replay(spare=w.second_hops("new", changed=True)), 0.5)]
        plan = Schedule(steps, batch, 2e-3)
        return [Job(f"expert {i}", parts, AdapterShape(16, 32), plan, i) for i in range(count)]

    def run(self, mode: str, count: int, batch: int, steps: int) -> float:
        """Seconds."""
        os.environ["SEQUENTIAL"] = "1" if mode == "peft" else ""
        jobs = self.jobs(count, batch, steps)
        self.wait()
        started = time.perf_counter()
        train_adapters(self.base, jobs, capture=self.options.capture and mode == "together")
        self.wait()
        return time.perf_counter() - started

    def wait(self) -> None:
        if self.options.device == "cuda":
            torch.cuda.synchronize()

    def step(self, mode: str, count: int, batch: int, steps: int) -> float:
        """Seconds of one step of all K adapters."""
        short = self.run(mode, count, batch, 1)
        return (self.run(mode, count, batch, steps) - short) / (steps - 1)

    def matrix_rate(self) -> float:
        """Floating-point operations a second of one large matrix product, the best of ten."""
        side = 4096 if self.options.device == "cuda" else 1024
        x = torch.randn(side, side).to(self.options.device, getattr(torch, self.options.dtype))
        best = float("inf")
        for _ in range(10):
            self.wait()
            started = time.perf_counter()
            x @ x
            self.wait()
            best = min(best, time.perf_counter() - started)
        return 2 * side**3 / best

    def operations(self, count: int, batch: int) -> float:
        """Floating-point operations of one step together, counted in its matrix products and attention."""
        from torch.utils.flop_counter import FlopCounterMode

        os.environ["SEQUENTIAL"] = ""
        found = []
        for steps in (1, 2):
            with FlopCounterMode(display=False) as counter:
                train_adapters(self.base, self.jobs(count, batch, steps))
            found.append(counter.get_total_flops())
        return float(found[1] - found[0])

    def split(self, count: int, batch: int, steps: int) -> dict[str, float]:
        """Where the time of a run together goes: shares of its wall time, by kind of operator."""
        from torch.profiler import ProfilerActivity, profile

        os.environ["SEQUENTIAL"] = ""
        jobs = self.jobs(count, batch, steps)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            inside = time.perf_counter()
            train_adapters(self.base, jobs)
            wall = time.perf_counter() - inside
        shares = dict.fromkeys([*KINDS, "other operators"], 0.0)
        for event in seen.key_averages():
            kind = next((k for k, names in KINDS.items() if any(_is(event.key, n) for n in names)), "other operators")
            shares[kind] += event.self_cpu_time_total * 1e-6 / wall
        return shares | {"Python": max(0.0, 1.0 - sum(shares.values()))}


def _is(key: str, name: str) -> bool:
    return key == name if name.startswith("aten::") else name in key


def peak_memory(options: argparse.Namespace, mode: str, count: int, batch: int) -> float:
    """MiB that training adds to the peak: of the device's memory, or of that of a fresh process."""
    if options.device == "cuda":
        bench = Bench(options)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        bench.run(mode, count, batch, 2)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_resident, (options, mode, count, batch))


def peak_resident(options: argparse.Namespace, mode: str, count: int, batch: int) -> float:
    """MiB that training adds to the peak of this process, in which nothing ran before."""
    bench = Bench(options)
    bench.run(mode, 1, 1, 1)  # imports
    # not ru_maxrss: it keeps, through fork and exec, the peak of the process that started this one
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is resident now
    before = _resident("VmRSS")
    bench.run(mode, count, batch, 2)
    return _resident("VmHWM") - before


def _resident(field: str) -> float:
    """MiB of this process that are in memory now (VmRSS), or were at its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 2**10


class Row(TypedDict):
    """So many adapters at one size of batch: seconds a step of every repeat, tokens a second, MiB per way."""

    adapters: int
    batch: int
    steps: int
    peft_step_s: list[float]
    together_step_s: list[float]
    ratios: list[float]
    ratio: float
    tokens_per_s: float
    matrix_share: float
    peak_mib: dict[str, float]


class Measured(TypedDict):
    """All rows, and what they were measured with; `split`: size of batch -> kind of work -> its share of the time."""

    device: str
    threads: int
    dtype: str
    captured: bool
    torch: str
    repeats: int
    load_before: float
    load_after: float
    matrix_flops: float
    profiled_adapters: int
    rows: list[Row]
    split: dict[str, dict[str, float]]


def begun(told: dict[str, object]) -> list[Row]:
    """Rows of a run of the same kind that was cut off."""
    try:
        found = json.loads(BEGUN.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    rows: list[Row] = found["rows"] if found["told"] == told else []
    return rows


def measure(options: argparse.Namespace) -> Measured:
    """All of it as plain data."""
    load = os.getloadavg()[0]
    bench = Bench(options)
    told: dict[str, object] = {**vars(options), "on": device_name(options.device), "torch": torch.__version__}
    bench.run("peft", 1, 8, 3)  # first touches
    rate = bench.matrix_rate()
    tokens = 2  # of a sentence of three, the last is never an input
    rows = begun(told)
    done = {(row["batch"], row["adapters"]) for row in rows}
    for batch in BATCHES:
        for count in QUICK if options.quick else COUNTS:
            if (batch, count) in done:
                continue
            steps = 4 if options.quick else max(4, min(60, 1600 // (count * (1 if batch == 8 else 4))))
            for mode in MODES:
                bench.run(mode, count, batch, 2)  # what a device does once for every size: kernels chosen, captured
            pairs = [
                [bench.step(mode, count, batch, steps) for mode in (MODES if i % 2 else MODES[::-1])]
                for i in range(options.repeats)
            ]
            peft, together = zip(*(p if i % 2 else p[::-1] for i, p in enumerate(pairs)), strict=True)
            memory = {}
            for mode in MODES:
                memory[mode] = peak_memory(options, mode, count, batch)
            step = statistics.median(together)
            rows.append({
                "adapters": count, "batch": batch, "steps": steps, "peft_step_s": list(peft),
                "together_step_s": list(together), "ratios": [a / b for a, b in zip(peft, together, strict=True)],
                "ratio": statistics.median(a / b for a, b in zip(peft, together, strict=True)),
                "tokens_per_s": count * batch * tokens / step,
                "matrix_share": bench.operations(count, batch) / step / rate, "peak_mib": memory,
            })  # fmt: skip
            print(f"batch {batch}, {count} adapters: {rows[-1]['ratio']:.2f}", file=sys.stderr, flush=True)
            write_bytes(BEGUN, json.dumps({"told": told, "rows": rows}).encode())
    count = QUICK[-1] if options.quick else 16
    cuda = options.device == "cuda"
    return {
        "device": device_name(options.device),
        "threads": options.threads, "dtype": options.dtype, "captured": options.capture, "torch": torch.__version__,
        "repeats": options.repeats, "load_before": load, "load_after": os.getloadavg()[0], "matrix_flops": rate,
        "profiled_adapters": count, "rows": rows,
        "split": {} if cuda else {str(b): bench.split(count, b, 3 if options.quick else 8) for b in BATCHES},
    }  # fmt: skip


def table(found: Measured) -> str:
    """The result in Markdown."""
    lines = [
        f"{found['device']}, {found['threads']} threads, {found['dtype']}, torch {found['torch']}, "
        f"{found['repeats']} interleaved pairs; load average {found['load_before']:.1f} before the run and "
        f"{found['load_after']:.1f} after it. One large matrix product: "
        f"{found['matrix_flops'] / 1e9:.0f} GFLOP/s.",
        "",
        "| batch | adapters | peft, ms a step | together, ms a step | ratio (range) | tokens/s | of the matrix rate | "
        "peak memory, MiB: peft, together |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        peft, together = (1e3 * statistics.median(row[k]) for k in ("peft_step_s", "together_step_s"))
        lines.append(
            f"| {row['batch']} | {row['adapters']} | {peft:.1f} | {together:.1f} | {row['ratio']:.2f} "
            f"({min(row['ratios']):.2f}-{max(row['ratios']):.2f}) | {row['tokens_per_s']:.0f} | "
            f"{row['matrix_share']:.0%} | {row['peak_mib']['peft']:.0f}, {row['peak_mib']['together']:.0f} |"
        )
    if found["split"]:
        kinds = list(next(iter(found["split"].values())))
        lines += ["", f"Where the time of {found['profiled_adapters']} adapters together goes, by the profiler:", ""]
        lines += ["| batch | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
        lines += [f"| {b} | " + " | ".join(f"{s[k]:.0%}" for k in kinds) + " |" for b, s in found["split"].items()]
    return "\n".join(lines)


def write(found: Measured) -> None:
    """Keep the result and put its table into the documentation."""
    kind = "cpu" if found["device"].startswith("CPU") else "cuda"
    results = ROOT / f"bench/results/training-{kind}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    embed(DOCS, kind, table(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--capture", action="store_true", help="CUDA graphs")
    parser.add_argument("--quick", action="store_true", help="few adapters, few steps: does it run?")
    parser.add_argument("--write", action="store_true", help="keep the result in bench/results and docs/training.md")
    options = parser.parse_args()
    found = measure(options)
    write_bytes(OUTPUT, (json.dumps(found, indent=1) + "\n").encode())
    BEGUN.unlink(missing_ok=True)
    print(table(found))
    if options.write:
        write(found)


if __name__ == "__main__":
    main()
