"""What is kept is what was made, bit for bit and in its order; what would make something else has a name of its own;
what is damaged, torn or cannot be written is made again."""

import ast
import importlib.util
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from empirical.experiments.one_layer.adversary import optimise
from empirical.tasks.sentences import Part, Sentences
from empirical.training import store
from empirical.training.adapter import (
    AdapterShape,
    Job,
    Schedule,
    Trained,
    TrainingDiverged,
    adamw,
    pretrain,
    train_everything,
    train_rows,
)
from empirical.training.bases import BaseShape, dense, last_layers, scratch_base
from empirical.training.forms import Form, Values, adding
from empirical.training.store import CODE, Storage, described, moved, stored, storing
from empirical.training.together import train_adapters
from theory.lowrank import LowRank
from theory.numerics import stream

PLAN = Schedule(6, 8, 1e-2)
PLACE = "model.layers.1.mlp.down_proj"


def facts(seed: int) -> list[Part]:
    return [Part(Sentences(stream(seed, "facts").integers(30, size=(12, 3)), (2,)), 1.0)]


def base() -> Any:
    return scratch_base(BaseShape(30, width=16, layers=2, heads=2, feed_forward=24, init=0.2), 0).requires_grad_(False)


def job(name: str, **changes: Any) -> Job:
    return replace(Job(name, facts(1), AdapterShape(2, 4), PLAN, 7), **changes)


def gated(gain: float, draw: torch.Generator | None = None) -> Form:
    """A form of its own on one matrix: rank one times a gate that is trained, a gain that is not, and noise."""

    def change(name: str, x: torch.Tensor, values: Values) -> torch.Tensor:
        noise = torch.ones(()) if draw is None else torch.rand((), generator=draw)
        added = x @ values[f"{name}.A"].mT @ values[f"{name}.B"].mT
        return gain * noise * values["gate"][:, :, None] * added

    def updates(values: Values) -> dict[str, LowRank]:
        b, a = (values[f"{PLACE}.{factor}"].numpy() for factor in "BA")
        return {PLACE: LowRank(gain * float(values["gate"]) * b, a)}

    start = {"gate": torch.ones(1), f"{PLACE}.A": torch.full((1, 24), 0.1), f"{PLACE}.B": torch.zeros(16, 1)}
    return Form((PLACE,), start, adding(change), updates, {}, draw)


def everything() -> tuple[list[float], dict[str, Trained], dict[str, torch.Tensor]]:
    """All trainers on one base: its losses, what they made, the base."""
    model = base()
    losses = pretrain(model, facts(0), PLAN, 3)
    jobs = [job("z"), job("joint", shape=AdapterShape(1, 2, (1,)), schedule=replace(PLAN, batch=4)),
            job("gated", shape=gated(1.5))]  # fmt: skip
    found = {
        **train_adapters(model, jobs),
        "rows": train_rows(model, np.array([3, 5]), facts(1), PLAN, 3),
        "all": train_everything(model, facts(1), PLAN, 3),
    }
    return losses, found, model.state_dict()


def plain(found: tuple[list[float], dict[str, Trained], dict[str, torch.Tensor]]) -> Any:
    """Every number, in its order, as text that is exact."""
    losses, trained, weights = found
    return (
        losses,
        [(n, t.losses, [(m, dense(u).tobytes()) for m, u in t.updates.items()],
          [(m, v.numpy().tobytes()) for m, v in t.values.items()]) for n, t in trained.items()],
        [(n, w.numpy().tobytes()) for n, w in weights.items()],
    )  # fmt: skip


@pytest.mark.parametrize("sequential", ["0", "1"])
def test_what_is_loaded_is_what_is_made(tmp_path, monkeypatch, sequential):
    monkeypatch.setenv("SEQUENTIAL", sequential)
    free = plain(everything())
    found = []
    for _ in range(2):
        with storing(storage := Storage(tmp_path, "here")):
            found.append(plain(everything()))
    entries = 5 + int(sequential)  # a base, rows, all weights, a form, adapters: together or one by one
    assert len(storage.used) == len(list(tmp_path.iterdir())) == entries
    assert storage.spared == sum(storage.used.values()) > 0
    assert found == [free, free]
    everything()  # outside, nothing is kept
    assert len(list(tmp_path.iterdir())) == entries


def test_what_is_loaded_belongs_to_nobody(tmp_path):
    for _ in range(2):
        found = kept(lambda: stored("toy", {}, lambda: {"x": torch.zeros(3)}), tmp_path)
        assert found["x"].tolist() == [0, 0, 0]
        found["x"] += 1


def kept(make: Callable[[], Any], folder: Path) -> Any:
    """What `make` gives with a store there."""
    with storing(Storage(folder, "here")):
        return make()


def names(make: Callable[[], Any], folder: Path, device: str = "here") -> set[str]:
    """The entries that `make` asks for."""
    with storing(storage := Storage(folder, device)):
        make()
    return set(storage.used)


CHANGES: dict[str, Callable[[], Any]] = {
    "rank": lambda: train_adapters(base(), [job("z", shape=AdapterShape(3, 4))]),
    "steps": lambda: train_adapters(base(), [job("z", schedule=replace(PLAN, steps=7))]),
    "rate": lambda: train_adapters(base(), [job("z", schedule=replace(PLAN, rate=1.1e-2))]),
    "seed": lambda: train_adapters(base(), [job("z", seed=8)]),
    "sentences": lambda: train_adapters(base(), [job("z", parts=facts(2))]),
    "share": lambda: train_adapters(base(), [job("z", parts=[facts(1)[0]._replace(weight=2.0)])]),
    "company": lambda: train_adapters(base(), [job("z"), job("y")]),
    "base": lambda: train_adapters(scratch_base(BaseShape(30, 16, 2, 2, 24, 0.2), 1), [job("z")]),
    "attention": lambda: train_adapters(_eager(), [job("z")]),
    "below": lambda: train_adapters(_top(0), [job("z")]),
    "another below": lambda: train_adapters(_top(1), [job("z")]),
    "form": lambda: train_adapters(base(), [job("z", shape=gated(1.0))]),
    "what a form closes over": lambda: train_adapters(base(), [job("z", shape=gated(2.0))]),
    "where a form draws from": lambda: train_adapters(base(), [job("z", shape=gated(1.0, torch.Generator()))]),
    "drawn before": lambda: train_adapters(base(), [job("z", shape=gated(1.0, torch.Generator().manual_seed(1)))]),
    "trainer": lambda: train_everything(base(), facts(1), PLAN, 7),
    "optimiser": lambda: train_everything(base(), facts(1), PLAN, 7, optimizer_of=_slower),
}  # fmt: skip


def _slower(parameters: Any, schedule: Schedule) -> torch.optim.Optimizer:
    return adamw(parameters, replace(schedule, weight_decay=0.1))


def _eager() -> Any:
    model = base()
    model.set_attn_implementation("eager")
    return model


def _top(seed: int) -> Any:
    """The last layer of a base; the first one, of its own seed, is not among its weights."""
    model = base()
    other: Any = scratch_base(BaseShape(30, 16, 2, 2, 24, 0.2), seed)
    model.model.layers[0].load_state_dict(other.model.layers[0].state_dict())
    return last_layers(model, 1)


def test_whatever_makes_something_else_has_another_name(tmp_path, monkeypatch):
    def one() -> Any:
        return train_adapters(base(), [job("z")])

    first = names(one, tmp_path)
    assert names(one, tmp_path) == first
    seen = [first, *(names(make, tmp_path) for make in CHANGES.values()), names(one, tmp_path, "elsewhere")]
    for module, name, other in (
        (store, "libraries", {"torch": "0.0"}), (store, "code", ["another"]), (torch, "get_num_threads", 9),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda other=other: other)
            seen.append(names(one, tmp_path))
    assert len(set().union(*seen)) == len(seen) == len(CHANGES) + 5


def test_what_a_form_draws_from_is_left_where_training_left_it(tmp_path):
    states = []
    for _ in range(2):
        draw = torch.Generator().manual_seed(3)
        with storing(storage := Storage(tmp_path, "here")):
            train_adapters(base(), [job("z", shape=gated(1.0, draw))])
        states.append(draw.get_state())
    assert storage.spared > 0
    assert torch.equal(*states)
    assert not torch.equal(states[0], torch.Generator().manual_seed(3).get_state())


def test_parameters_are_set_to_where_training_moved_them(tmp_path):
    trained: list[float] = []

    def end(start: float) -> float:
        parameter = torch.nn.Parameter(torch.tensor([start]))

        def train() -> None:
            trained.append(start)
            parameter.data += 1 / 3

        kept(lambda: moved("toy", {}, [parameter], train), tmp_path)
        return float(parameter.detach())

    assert end(1.0) == end(1.0) > 1.3
    assert end(2.0) > 2.3
    assert trained == [1.0, 2.0]


def test_code_counts_and_comments_do_not(tmp_path):
    texts = ["x = 1  # one\n", "# one\nx   =   1\n", "x = 2\n"]
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.py").write_text(text, encoding="utf-8")
    one, same, other = (store._code(str(tmp_path / f"{i}.py")) for i in range(3))
    assert one == same != other
    # what the trainers import is in the list too, but what only writes, holds or finds
    free = {"empirical.adapters.files", "empirical.training.store", "theory.lowrank", "theory.provenance"}
    for name in CODE:
        tree = ast.parse(Path(str(importlib.util.find_spec(name).origin)).read_text(encoding="utf-8"))
        found = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        assert {n for n in found if n.startswith(("empirical", "theory"))} <= {*CODE, *free}, name


def test_nothing_is_kept_of_what_cannot_be_told():
    with pytest.raises(ValueError, match="made_of: expected numbers, text, arrays or models, got object"):
        described({"x": object()})
    assert described(np.zeros((2, 3))) != described(np.zeros((3, 2))) != described(torch.zeros(3, 2))
    assert described(optimise) != described(_slower)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path, caplog):
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"b": torch.arange(5.0), "a": torch.tensor(3.0, dtype=torch.float64)}

    def get(rank: int = 3) -> dict[str, torch.Tensor]:
        return dict(kept(lambda: stored("toy", {"rank": rank}, make), tmp_path))

    first = get()
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    seconds = whole.index(b'"seconds":"') + len(b'"seconds":"')
    rng = np.random.default_rng(0)
    places = [0, 9, seconds, len(whole) - 1, len(whole) - 25, *rng.integers(len(whole), size=40).tolist()]
    for place in places:
        planted = bytearray(whole)
        planted[place] ^= 1
        file.write_bytes(planted)
        caplog.clear()
        made.clear()
        found = get()
        assert list(found) == ["b", "a"]
        assert all(torch.equal(found[k], first[k]) for k in first)
        assert made == [1], place
        assert "trained again" in caplog.text
        assert len(list(tmp_path.iterdir())) == 1
    for torn in (b"", whole[:50], whole[:-1]):
        file.write_bytes(torn)
        made.clear()
        get()
        assert made == [1]
    # a whole file under another's name
    get(4)
    (other,) = set(tmp_path.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    made.clear()
    get(4)
    assert made == [1]


def test_a_full_disk_costs_nothing_but_the_copy(tmp_path, monkeypatch, caplog):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_bytes", full)
    found = kept(lambda: stored("toy", {}, lambda: {"x": torch.ones(2)}), tmp_path)
    assert found["x"].tolist() == [1, 1]
    assert "No space left on device; not kept" in caplog.text


def test_nothing_is_kept_of_adapters_of_which_one_diverged(tmp_path):
    jobs = [job("wild", schedule=replace(PLAN, rate=1e30)), job("tame")]
    for _ in range(2):
        with pytest.raises(TrainingDiverged) as caught:
            kept(lambda: train_adapters(base(), jobs), tmp_path)
        assert list(caught.value.finished) == ["tame"]
    assert list(tmp_path.iterdir()) == []


def _write(folder: Path, count: int) -> None:
    """Entries of a megabyte, all of them asked for by every process."""
    for i in range(count):
        with storing(Storage(folder, "here")):
            found = stored("toy", {"i": i}, lambda i=i: {"x": torch.full((250_000,), float(i))})  # type: ignore[misc]
            assert bool((found["x"] == i).all())


def test_processes_that_write_the_same_entries_at_once_disturb_nobody(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(tmp_path, 12)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 12  # and nothing half-written beside them
    kept(lambda: [stored("toy", {"i": i}, pytest.fail) for i in range(12)], tmp_path)


def test_an_entry_says_what_made_it(tmp_path):
    from safetensors import safe_open

    kept(lambda: train_adapters(base(), [job("z")]), tmp_path)
    (file,) = tmp_path.iterdir()
    with safe_open(file, framework="pt") as opened:
        said = json.loads(opened.metadata()["made_of"])
    assert [said["kind"], said["device"]] == ["adapters", "here"]
    assert said["made_of"]["jobs"][0][1]["shape"][1]["rank"] == 2
    assert set(said["versions"]) == set(store.PACKAGES)


def test_numbers_that_float32_does_not_hold_are_kept_whole():
    third = np.full((2, 2), 1 / 3)
    trained = Trained({"a.b": LowRank(third, third, 1 / 3), "c": third}, [1 / 3, float("inf")])
    found = Trained.of(trained.tensors())
    low = found.updates["a.b"]
    assert isinstance(low, LowRank)
    assert (low.B[0, 0], low.A[1, 1], low.scale, dense(found.updates["c"])[0, 1]) == (1 / 3,) * 4
    assert found.losses == trained.losses
    half = {"c": np.full((2, 2), 0.5)}
    assert {t.dtype for t in Trained(half, [0.25]).tensors().values()} == {torch.float32}
