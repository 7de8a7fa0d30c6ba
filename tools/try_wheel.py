"""Install the wheel into empty environments outside the checkout and see what people then see.

Two environments: one with the core dependencies alone, where what needs more must say so in one line; one where
``[adapters]`` is to be had, where ``audit`` and ``merge`` must work. Neither may write a file beside the package.

Usage: python tools/try_wheel.py WHEEL
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: what the core dependencies must not bring along; else the first environment tries nothing
EXTRAS = ("torch", "transformers", "peft", "hypothesis", "matplotlib", "plotly")
ADAPTERS = """
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM
config = LlamaConfig(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
torch.manual_seed(0)
LlamaForCausalLM(config).save_pretrained("base")
for name, rank in (("a", 2), ("b", 3)):
    base = LlamaForCausalLM.from_pretrained("base")
    model = get_peft_model(base, LoraConfig(r=rank, target_modules="all-linear", init_lora_weights=False))
    model.save_pretrained(name)
"""


@dataclass
class Environment:
    """A virtual environment `env` with the wheel in it, and a working folder `work` beside it; collects `faults`."""

    folder: Path
    faults: list[str] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """Where commands are run."""
        return self.folder / "work"

    def make(self, wheel: Path, packages: Sequence[Path] = ()) -> None:
        """Install the wheel: with its dependencies from the index, or, if `packages` is given, on top of those."""
        self.work.mkdir(parents=True)
        subprocess.run([sys.executable, "-m", "venv", self.folder / "env"], check=True)
        pip: list[str | Path] = [
            self.folder / "env" / "bin" / "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
        ]
        if packages:
            pip.append("--no-deps")
            self.site.joinpath("installed.pth").write_text("".join(f"{p}\n" for p in packages), encoding="utf-8")
        else:
            pip += ["-c", ROOT / "constraints.txt"]
        done = subprocess.run([*pip, wheel], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"package: pip could not install {wheel.name} (is the index there?)\n{done.stderr}")

    @property
    def site(self) -> Path:
        """The environment's site-packages."""
        (found,) = (self.folder / "env" / "lib").glob("python3*/site-packages")
        return found

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the working folder, without what the caller's shell exports."""
        program = self.folder / "env" / "bin" / command[0]
        clean = {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(self.work), "COLUMNS": "120",
                 "HF_HUB_OFFLINE": "1", "OPENBLAS_NUM_THREADS": "1"}  # fmt: skip
        return subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, check=False, cwd=self.work, env=clean
        )

    def snapshot(self) -> dict[str, int]:
        """Every file beside the package, but for what Python itself compiles -> when it was written."""
        files = (p for p in self.site.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        return {str(p.relative_to(self.site)): p.stat().st_mtime_ns for p in files}

    def expect(self, command: str, status: int, *words: str, lines: int | None = None) -> None:
        """A fault for every way in which a command ends otherwise: another status, a word missing, a traceback.

        `lines` is how many lines there may be on standard error; the words may stand in either stream.
        """
        done = self.run(*command.split())
        said = done.stdout + done.stderr
        wrong = [f"says no {word!r}" for word in words if word not in said]
        if done.returncode != status:
            wrong.append(f"exit status {done.returncode}, expected {status}")
        if "Traceback" in said:
            wrong.append("a traceback")
        if lines is not None and len(done.stderr.splitlines()) != lines:
            wrong.append(f"{len(done.stderr.splitlines())} lines on standard error, expected {lines}")
        print(f"{'FAIL' if wrong else 'ok':4}  {command}")
        if wrong:
            self.faults.append(
                f"{command}: {'; '.join(wrong)}\n" + "".join(f"    {s}\n" for s in said.splitlines()[-8:])
            )

    def expect_untouched(self, before: dict[str, int]) -> None:
        """A fault for every file beside the package that is not as it was."""
        after = self.snapshot()
        for name in sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            self.faults.append(f"{name} in site-packages was written, changed or removed: output belongs into the "
                               "working folder (theory.provenance)\n")  # fmt: skip

    def expect_file(self, name: str) -> None:
        """A fault if the working folder does not hold this file."""
        if not (self.work / name).is_file():
            self.faults.append(f"{name} was not written into the working folder\n")


def try_core(env: Environment) -> None:
    """What works with the core dependencies, and what is said where more is needed."""
    for name in EXTRAS:
        if env.run("python", "-c", f"import {name}").returncode == 0:
            env.faults.append(f"{name} can be imported, so this environment shows nothing: is it among "
                              "[project.dependencies]?\n")  # fmt: skip
    before = env.snapshot()
    version = env.run("python", "-c", "import theory; print(theory.__version__)").stdout.strip()
    env.expect("lora-limits --version", 0, f"lora-limits {version}", "not installed", lines=0)
    env.expect("lora-limits --help", 0, "audit", "merge", "explain", lines=0)
    env.expect("lora-limits explain", 0, "factor_average", lines=0)
    env.expect("lora-limits explain factor_average", 0, "theory.merging", "not computed here", lines=0)
    env.expect("lora-limits explain nope", 2, "nope", lines=1)
    for verb in ("audit a b", "merge a b -o c", "fold a --base b -o c", "export a -o c"):
        env.expect(f"lora-limits {verb}", 2, "pip install 'lora-limits[adapters]'", lines=1)
    env.expect("python -m empirical judge", 2, "pip install 'lora-limits[", lines=1)
    env.expect("python -m theory list", 0, "factor_average", lines=0)
    env.expect("python -m theory statements --write", 2, lines=1)
    env.expect("python -m theory verify", 0, "not checked", "hypothesis", "proofs", lines=0)
    env.expect_file("build/verification.json")
    env.expect("lora-limits explain factor_average", 0, "status (last", lines=0)
    env.expect_untouched(before)


def try_adapters(env: Environment) -> None:
    """Audit and merge two adapters that peft saved, on a tiny random base."""
    before = env.snapshot()
    made = env.run("python", "-c", ADAPTERS)
    if made.returncode:
        env.faults.append(f"peft could not save adapters for the trial\n{made.stderr}")
        return
    env.expect("lora-limits --version", 0, "peft", lines=0)
    env.expect("lora-limits audit a b --base base --json report.json --html report.html", 0, "a + b", lines=0)
    env.expect("lora-limits merge a b -o c --base base", 0, "identity test passed", lines=0)
    env.expect("lora-limits audit c", 0, "c", lines=0)
    env.expect("lora-limits fold a b --base base -o folded", 0, "weights in", lines=0)
    env.expect("lora-limits export c -o c.gguf --base base", 0, "for llama.cpp", lines=0)
    env.expect("lora-limits audit a nowhere", 2, "nowhere", lines=1)
    env.expect("python -m empirical run --dry-run --profile smoke --experiment rank_threshold", 0, "cells", lines=0)
    env.expect("python -m empirical judge", 2, "expected results", lines=1)
    env.expect("python -m empirical data --task two_hop", 0, "build/data", lines=0)
    for name in ("report.json", "report.html", "c/adapter_model.safetensors", "folded/config.json", "c.gguf"):
        env.expect_file(name)
    env.expect_untouched(before)


def main(arguments: Sequence[str]) -> int:
    """1 where something is otherwise than it must be."""
    (wheel,) = (Path(a).resolve() for a in arguments)
    with tempfile.TemporaryDirectory() as folder:
        core = Environment(Path(folder) / "core")
        core.make(wheel)
        print("core dependencies only")
        try_core(core)
        full = Environment(Path(folder) / "adapters")
        full.make(wheel, [Path(sysconfig.get_path("purelib"))])
        print("with [adapters]")
        try_adapters(full)
    for fault in core.faults + full.faults:
        print(f"package: {fault}", file=sys.stderr, end="")
    return 1 if core.faults + full.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
