"""The profile gpu without a GPU: its plan and its cells, at toy size, on a stand-in that computes on the processor.

What the cells of every experiment do is run on it by :func:`tests.empirical.experiments.live.live`.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from empirical.engine import catalogue, pool
from empirical.engine.run import run
from empirical.training.bases import load_base
from tests.empirical.accelerator import accelerator

NAMES = catalogue.names()


@pytest.mark.parametrize("name", NAMES)
def test_the_profile_is_planned_and_can_be_declared(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    experiment, settings = catalogue.load(name), catalogue.settings(name, "gpu")
    assert {p.group for p in experiment.declare(settings)} == set(experiment.planned(settings))
    with accelerator():
        assert run([name], "gpu", dry_run=True) == 0
    assert f"{len(catalogue.cells(name, 'gpu'))}" in capsys.readouterr().out


def test_a_worker_runs_a_cell_on_the_device_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "cache_folder", lambda: tmp_path)
    cell = catalogue.cells("rank_threshold", "gpu")[0]
    small = cell.but(facts=8, inputs=8, outputs=8, rank=2, ranks=(1, 2), steps=3)
    with accelerator():
        outcome = pool.work("rank_threshold", small.identity(), "cuda", tmp_path / "sealed.json")
    assert outcome.error is None, outcome.error
    assert outcome.device == "a stand-in"


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_model_that_is_loaded_beside_the_device_is_the_one_that_was_saved(
    architecture: str, save_base: Callable[..., Path]
) -> None:
    folder = save_base(architecture=architecture)
    saved = load_base(folder)
    with accelerator():
        loaded = load_base(folder)
    wanted = {**saved.state_dict(), **dict(saved.named_buffers())}
    found = {**loaded.state_dict(), **dict(loaded.named_buffers())}  # not all buffers are saved
    assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in wanted.items()}
    with accelerator(), torch.device("meta"):
        assert torch.empty(2).device == torch.device("meta")
    with accelerator():
        assert torch.empty(2, device="cuda").isnan().all()
