"""Ray as the engine, on Rays that run here: the same records, and nothing lost with a worker, a machine or a driver."""

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from empirical.engine import catalogue, estimate
from empirical.engine import ray as cluster
from empirical.engine.ray import SHIPPED, Ray

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

#: two machines of one CPU each, as far as Ray can tell; a line on stdin takes the second away, the end of stdin both
TWO_MACHINES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
if sys.stdin.readline():
    cluster.remove_node(second, allow_graceful=False)
    sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    """A running cluster: its process, with the address as `args`."""
    for _ in range(3):  # Ray gives up after 30 s, which is little on a machine that is busy
        with subprocess.Popen(
            [sys.executable, "-c", TWO_MACHINES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            stderr=subprocess.DEVNULL, env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
        ) as helper:  # fmt: skip
            assert helper.stdout is not None
            assert helper.stdin is not None
            helper.args = helper.stdout.readline().strip()
            if helper.args:
                yield helper
                helper.stdin.close()
                return
    pytest.fail("no Ray cluster started in three attempts")


def sources(toy: Any) -> set[str]:
    """Where the workers found the experiment."""
    return {path.read_text(encoding="utf-8").split()[1] for path in (toy.folder / "marks").iterdir()}


def test_a_ray_of_its_own_gives_the_records_of_the_local_engine_and_a_killed_worker_costs_one_cell(toy: Any) -> None:
    toy.settle("die", xs=range(1, 6))
    here = toy.folder / "here"
    (toy.folder / "marks" / "2-0").touch()  # as if its first worker had died
    assert toy.here(results=here).returncode == 0
    toy.forget()
    for _ in range(3):
        done = toy.drive("--engine", "ray")
        if "timed out during startup" not in done.stderr:  # Ray's own 30 s, on a machine that is busy
            break
        assert done.returncode == 2
    assert done.returncode == 0, done.stdout + done.stderr
    assert toy.metrics() == toy.metrics(here)
    assert toy.table() == toy.table(here)
    assert toy.marks() == ["1-0", "2-0", "2-1", "3-0", "4-0", "5-0"]
    assert all(SHIPPED in source for source in sources(toy))
    assert "a Ray cluster (machines: 1, CPUs: 2, GPUs: 0)" in done.stdout


def test_nothing_is_lost_with_a_driver_a_machine_and_a_worker(toy: Any, machines: Any) -> None:
    ray = ("--engine", "ray", "--address", machines.args)

    # the driver is killed with two cells finished, without processes, and two running
    toy.settle("plain", xs=range(2))
    assert toy.here().returncode == 0
    toy.settle("plain", xs=range(6))
    toy.pause(600)
    driver = toy.start(*ray)
    toy.until(lambda: len(toy.at_work()) == 2, 120)
    driver.kill()
    driver.communicate()
    kept = toy.files()
    pids = list(toy.at_work().values())
    toy.until(lambda: not any(toy.running(pid) for pid in pids))

    # started again; then one machine goes, and the worker on the other is killed
    before = set(toy.at_work())
    driver = toy.start(*ray)
    toy.until(lambda: len(set(toy.at_work()) - before) == 2, 120)
    pids = [pid for name, pid in toy.at_work().items() if name not in before]
    toy.pause(0)
    machines.stdin.write("\n")
    machines.stdin.flush()
    toy.until(lambda: sum(map(toy.running, pids)) == 1)
    os.kill(next(pid for pid in pids if toy.running(pid)), signal.SIGKILL)
    out, err = driver.communicate()
    assert driver.returncode == 0, out + err
    assert len(toy.files()) == 6
    assert toy.files().items() >= kept.items()
    assert "a Ray cluster (machines: 2, CPUs: 2, GPUs: 0)" in out
    # each cell was started once, and once more for each time it was interrupted
    tries = {x: sum(mark.startswith(f"{x}-") for mark in toy.marks()) for x in range(6)}
    lost = {x: sum(mark.startswith(f"{x}-") for mark in toy.at_work()) for x in range(6)}
    assert tries == {x: 1 + lost[x] for x in range(6)}
    assert sum(lost.values()) == 4


def test_the_files_of_the_user_are_sent_along(toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import empirical.experiments

    mine = tmp_path / "mine.py"
    mine.write_text("def merge(updates):\n    return updates[0]\n", encoding="utf-8")
    monkeypatch.setenv("LORA_LIMITS_EXPERIMENTS", f"{toy.folder}{os.pathsep}{tmp_path / 'none'}")
    package = cluster._pack(tmp_path, catalogue.user_method(f"{mine}:merge"))
    sent = {p.relative_to(package).as_posix() for p in package.rglob("*") if p.is_file()}
    own = {f"experiments/0/toy/{name}" for name in ("__init__.py", "run.py", "settings.toml")}
    assert sent == {"__init__.py", "method/mine.py"} | own
    # on a worker: found there, though the driver's folders are not
    (toy.folder / "toy" / "run.py").unlink()
    mine.unlink()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(empirical.experiments, "__path__", list(empirical.experiments.__path__))
    for name in ("toy", "toy.run"):
        monkeypatch.delitem(sys.modules, f"empirical.experiments.{name}", raising=False)
    seen: list[object] = []
    monkeypatch.setattr(cluster, "work", lambda experiment, cell, device, sealed: seen.append(cell))
    reference: Any = {"reference": f"{mine}:merge", "sha256": "0"}
    cluster._work("toy", {"x": 1, "user_method": reference}, "cpu", None)
    assert seen == [{"x": 1, "user_method": {"reference": f"{package}/method/mine.py:merge", "sha256": "0"}}]
    assert sys.modules[catalogue.load("toy").cells.__module__].__file__ == str(
        package / "experiments" / "0" / "toy" / "run.py"
    )


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("nonsense", "--address: expected HOST:PORT or auto, got 'nonsense'"),
        ("127.0.0.1:1", "--address: expected a Ray cluster at 127.0.0.1:1, got: "),
        ("127.0.0.1:99999", "--address: expected a Ray cluster at 127.0.0.1:99999, got: "),
    ],
)
def test_an_address_without_a_cluster_gets_one_line_and_exit_two(toy: Any, address: str, named: str) -> None:
    done = toy.here("--engine", "ray", "--address", address)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert named in done.stderr
    assert toy.files() == {}


def test_without_ray_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--engine ray: expected the package ray \(pip install"):
        Ray(None)


class Library:
    """What `Ray` asks of the library, with resources as given."""

    def __init__(self, **resources: float) -> None:
        self.resources, self.asked = resources, []

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def options(self, **options: Any) -> Any:
        self.asked.append(options)
        return self

    def remote(self, *arguments: Any) -> int:
        return len(self.asked)


@pytest.mark.parametrize(
    ("device", "resources", "most", "slots", "gpu"),
    [
        ("cpu", {"CPU": 8.0}, None, 8, 0),
        ("cpu", {"CPU": 8.0}, 3, 3, 0),
        ("cuda", {"CPU": 64.0, "GPU": 2.0}, None, 24, 0.0833),
        ("cuda", {"CPU": 6.0, "GPU": 2.0}, None, 6, 0.0833),
    ],
)
def test_resources_are_declared(
    device: str, resources: dict[str, float], most: int | None, slots: int, gpu: float
) -> None:
    engine = Ray.__new__(Ray)
    library = Library(memory=2.0**40, **resources)
    engine._ray = engine._run = library  # type: ignore[assignment]
    engine._most, engine._per_gpu, engine._tickets = most, cluster.PER_GPU, {}
    assert engine.slots(device) == slots
    engine.submit(0, "toy", {}, device)
    (asked,) = library.asked
    assert asked == {"num_cpus": 1, "num_gpus": gpu, "memory": int(estimate.MEMORY[device]), "max_retries": 0}
    # as many as share a GPU have room on it
    assert 12 * asked["num_gpus"] <= 1
