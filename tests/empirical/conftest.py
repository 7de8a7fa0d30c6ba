"""What the tests here share: adapters on disk, made by peft itself, and a toy experiment for the engines."""

import contextlib
import copy
import importlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import empirical.experiments
from empirical.__main__ import main
from empirical.engine import run
from empirical.engine.pool import Outcome, work
from empirical.engine.records import files

#: architecture -> (classes of configuration and model, sizes), beside those of the shipped checks
_TEXT = {"vocab_size": 61, "initializer_range": 0.2}
_FOUR = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "hidden_size": 32}
_NONE = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
_IMAGE = {"image_size": 8, "patch_size": 4, "num_channels": 3}
TINY: dict[str, tuple[str, str, dict[str, object]]] = {
    "bert": ("BertConfig", "BertForMaskedLM", {**_TEXT, **_FOUR, "max_position_embeddings": 32}),
    "vision": ("ViTConfig", "ViTForImageClassification", {**_FOUR, **_IMAGE, "initializer_range": 0.2}),
    "encoder-decoder": (
        "T5Config", "T5ForConditionalGeneration",
        {"vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
         "decoder_start_token_id": 0},
    ),
    "experts": (
        "MixtralConfig", "MixtralForCausalLM",
        {**_TEXT, **_FOUR, **_NONE, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "audio": (
        "WhisperConfig", "WhisperForConditionalGeneration",
        {"vocab_size": 61, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_mel_bins": 8,
         "max_source_positions": 20, "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1,
         "eos_token_id": 2, "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None},
    ),
    "long text": (
        "LongformerConfig", "LongformerForMaskedLM",
        {**_TEXT, **_FOUR, "max_position_embeddings": 64, "attention_window": 4},
    ),
    "films": ("VideoMAEConfig", "VideoMAEForVideoClassification", {**_FOUR, **_IMAGE, "num_frames": 4}),
    "images to text": (
        "VisionEncoderDecoderConfig", "VisionEncoderDecoderModel",
        {"encoder": {"model_type": "vit", **_FOUR, **_IMAGE},
         "decoder": {"model_type": "gpt2", **_NONE, "vocab_size": 61, "n_embd": 32, "n_layer": 1, "n_head": 4,
                     "n_positions": 32, "is_decoder": True, "add_cross_attention": True}},
    ),
    "masked images": (
        "ViTMAEConfig", "ViTMAEForPreTraining",
        {**_FOUR, **_IMAGE, "decoder_num_hidden_layers": 1, "decoder_hidden_size": 16, "decoder_num_attention_heads": 2,
         "decoder_intermediate_size": 32},
    ),
    "series": (
        "PatchTSTConfig", "PatchTSTForPrediction",
        {"num_input_channels": 2, "context_length": 16, "patch_length": 4, "patch_stride": 4, "d_model": 32,
         "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 48, "prediction_length": 4},
    ),
    "images and text": (
        "LlavaConfig", "LlavaForConditionalGeneration",
        {"text_config": {"model_type": "llama", **_TEXT, **_FOUR, **_NONE, "num_key_value_heads": 2},
         "vision_config": {"model_type": "clip_vision_model", **_FOUR, **_IMAGE, "projection_dim": 32},
         "image_token_index": 60},
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def tiny_base() -> Callable[..., Any]:
    """Architecture -> a tiny random model: "llama", "gpt2" (Conv1D) or one of TINY."""

    def build(architecture: str, dtype: torch.dtype = torch.float32, tied: bool = False) -> Any:
        import transformers

        from empirical.adapters.through_peft import small_base

        if architecture not in TINY:
            return small_base(architecture, dtype, tied)
        settings, model, sizes = TINY[architecture]
        config = getattr(transformers, settings)(**copy.deepcopy(sizes), tie_word_embeddings=tied)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return getattr(transformers, model)(config).to(dtype).eval().requires_grad_(False)

    return build


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As the engine's workers run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full: larger ones are refused when they are written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def save_adapter(tiny_base: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Saves one random adapter with peft and returns its folder."""

    def save(
        name: str,
        architecture: str = "llama",
        seed: int = 0,
        r: int = 4,
        alpha: Any = 8.0,
        targets: Any = "all-linear",
        dtype: torch.dtype | None = None,
        embedding_copies: bool = False,
        safe: bool = True,
        fill: Callable[[Any], None] | None = None,
        **options: Any,
    ) -> Path:
        from peft import LoraConfig, get_peft_model

        from empirical.adapters.base import quiet
        from empirical.adapters.through_peft import randomize

        kind = None if architecture in TINY else "CAUSAL_LM"
        config = LoraConfig(r=r, lora_alpha=alpha, target_modules=targets, task_type=kind, **options)
        with quiet():
            model: Any = get_peft_model(tiny_base(architecture), config)
            randomize(model, "default", seed)
            if fill is not None:
                fill(model)
            if dtype is not None:
                model.to(dtype)
            model.save_pretrained(str(tmp_path / name), save_embedding_layers=embedding_copies, safe_serialization=safe)
        return tmp_path / name

    return save


@pytest.fixture
def save_base(tiny_base: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Saves one tiny random model and returns its folder."""

    def save(name: str = "base", architecture: str = "llama", **options: Any) -> Path:
        from empirical.adapters.base import quiet

        with quiet():
            tiny_base(architecture).save_pretrained(tmp_path / name, **options)
        return tmp_path / name

    return save


TOY = """
import os, pathlib, signal, time
from typing import Any
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.predictions import Measure, Predictions
from empirical.engine.settings import Cell, Count, Table
class Settings(Table):
    xs: tuple[int, ...]
    mode: str
    marks: str
class Square(Cell):
    x: int
    mode: str
    marks: str
def cells(settings):
    return [Square(seed=x, x=x, mode=settings.mode, marks=settings.marks) for x in settings.xs]
def run(cell: Square, device: str) -> dict[str, Any]:
    folder, x = pathlib.Path(cell.marks), cell.x
    name = f"{x}-{len(list(folder.glob(f'{x}-*')))}"
    pause = float((folder.parent / "pause").read_text())  # before the mark: who has left one knows how long it takes
    (folder / name).write_text(f"{os.getpid()} {__file__}")
    time.sleep(pause)
    if cell.mode == "fail" and x == 2:
        raise RuntimeError("two is refused")
    if cell.mode == "nan" and x == 2:
        return {"square": float("nan")}
    if cell.mode == "object" and x == 2:
        return {"square": object()}
    if cell.mode == "die" and x == 2 and name.endswith("-0"):
        os.kill(os.getpid(), signal.SIGKILL)
    (folder.parent / "ends" / name).write_text("")
    return {"square": x ** 2, "right": [x % 2, 2]}
def declare(settings):
    said = Predictions()
    right = Measure("right", lambda world: Count(*world[0].metrics["right"]))
    said.exact("toy_at_most_one", "additive_limit", "rates are rates", of=right, at_most=1.0)
    return said
experiment = Experiment(
    purpose="Each cell squares its number, and leaves a mark when it starts and when it ends",
    order=99, protocol=1, settings=Settings, cells=cells, kinds=[Kind(run)], declare=declare,
)
"""
ROOT = Path(__file__).resolve().parents[2]


def status_of(line: Callable[[list[str]], int], arguments: list[str]) -> int:
    """With which a command line ends, also one that cannot be read."""
    try:
        return line(arguments)
    except SystemExit as end:
        return int(end.code or 0)


class InTurn:
    """An engine without processes: cells run in this one, one after the other."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.waiting: list[tuple[int, Any]] = []

    def slots(self, device: str) -> int:
        return self.workers

    def submit(self, ticket: int, *cell: Any) -> None:
        self.waiting.append((ticket, cell))

    def wait(self) -> list[tuple[int, Outcome | None]]:
        ticket, cell = self.waiting.pop(0)
        return [(ticket, work(*cell))]

    def close(self) -> None:
        pass


def _forget_planted() -> None:
    """Modules of experiments that were planted, whose folders are gone or hold another one by now."""
    for name in [m for m in sys.modules if m.startswith(("empirical.experiments.toy", "empirical.experiments.other"))]:
        del sys.modules[name]
        vars(empirical.experiments).pop(name.split(".")[2], None)
    importlib.invalidate_caches()


class Toy:
    """The toy experiment in a folder of its own, found through LORA_LIMITS_EXPERIMENTS, and drivers that run it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        (folder / "toy").mkdir()
        (folder / "toy" / "__init__.py").write_text("")
        (folder / "toy" / "run.py").write_text(TOY, encoding="utf-8")
        (folder / "marks").mkdir()
        (folder / "ends").mkdir()
        self.pause(0)
        self.settle("plain")

    def settle(self, mode: str, extra: str = "", xs: Iterable[int] = (1, 2, 3)) -> None:
        """Write the settings; `extra` goes into the profile cpu."""
        common = f'[common]\nxs = {list(xs)}\nmode = "{mode}"\nmarks = "{self.folder}/marks"\n'
        (self.folder / "toy" / "settings.toml").write_text(f"{common}[smoke]\n[cpu]\n{extra}[gpu]\n", encoding="utf-8")

    def pause(self, seconds: float) -> None:
        """How long each cell that starts from now on takes; no part of its settings."""
        fresh = self.folder / "pause.new"
        fresh.write_text(str(seconds), encoding="utf-8")
        fresh.replace(self.folder / "pause")  # at once: a cell may be reading it

    def show(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process find the experiments here."""
        patch.setattr(empirical.experiments, "__path__", [*empirical.experiments.__path__, str(self.folder)])

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What ``python -m empirical`` says in this process, in which its cells run too."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.setattr(sys, "dont_write_bytecode", True)  # of a file that changes within a second
            self.show(patch)
            patch.setattr(run, "Local", InTurn)
            _forget_planted()
            code = status_of(main, list(arguments))
            _forget_planted()
        return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())

    def declare(self, results: Path | None = None) -> None:
        """Write down what all experiments here predict under their present settings; where they are broken nothing."""
        for source in self.folder.glob("*/run.py"):
            given = ("--experiment", source.parent.name, "--profile", "cpu")
            self.ask("declare", *given, "--results", str(results or self.results))

    def _prepare(self, arguments: Iterable[str], results: Path | None) -> list[str]:
        """Declare what a driver is to run; its arguments."""
        if "--dry-run" not in arguments:
            self.declare(results)
        given = ["--experiment", "toy", "--profile", "cpu", "--workers", "2", "--results", str(results or self.results)]
        return ["run", *given, *arguments]

    def here(self, *arguments: str, results: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A driver in this process, in which its cells run too: for all but what processes do to one another."""
        return self.ask(*self._prepare(arguments, results))

    def start(self, *arguments: str, results: Path | None = None, **options: Any) -> subprocess.Popen[str]:
        """A driver with two workers, not waited for, after what it is to run was declared."""
        environment = os.environ | {"LORA_LIMITS_EXPERIMENTS": str(self.folder), "COLUMNS": "200"}
        return subprocess.Popen(
            [sys.executable, "-m", "empirical", *self._prepare(arguments, results)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT, **options,
        )  # fmt: skip

    def drive(self, *arguments: str, results: Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """A driver with two workers, waited for."""
        driver = self.start(*arguments, results=results, **options)
        out, err = driver.communicate()
        return subprocess.CompletedProcess(driver.args, driver.returncode, out, err)

    def files(self, results: Path | None = None) -> dict[str, str]:
        """Records by file name."""
        found = files((results or self.results) / "toy" / "cpu")
        return {p.name: p.read_text(encoding="utf-8") for p in found}

    def metrics(self, results: Path | None = None) -> dict[str, object]:
        """What was measured, by file name."""
        return {name: json.loads(text)["metrics"] for name, text in self.files(results).items()}

    def table(self, results: Path | None = None) -> Any:
        """The judged predictions that the last whole run wrote."""
        text = ((results or self.results) / "experiments.json").read_text(encoding="utf-8")
        return json.loads(text)["predictions"]

    def marks(self) -> list[str]:
        """``number-try`` of every cell that was started."""
        return sorted(p.name for p in (self.folder / "marks").iterdir())

    def at_work(self) -> dict[str, int]:
        """Marks of the cells that started and did not end -> pid of the worker."""
        started = list((self.folder / "marks").iterdir())
        ended = {p.name for p in (self.folder / "ends").iterdir()}
        written = {p.name: p.read_text(encoding="utf-8").split() for p in started if p.name not in ended}
        return {name: int(text[0]) for name, text in written.items() if text}

    def forget(self) -> None:
        """Remove all marks."""
        for folder in ("marks", "ends"):
            for path in (self.folder / folder).iterdir():
                path.unlink()

    @staticmethod
    def running(pid: int) -> bool:
        """Whether a process is there and not only waiting to be reaped."""
        try:
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    @staticmethod
    def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """What `condition` says once it is true; fails after `seconds`."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, f"waited {seconds:g} s for nothing"
            time.sleep(0.01)
        return found


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A folder with the toy experiment, its settings and a place for marks of what ran."""
    return Toy(tmp_path)
