"""Ray as the engine past one machine: the same cells, run as Ray tasks; docs/cluster.md says how to start a cluster.

The driver sends its own code, the folders of LORA_LIMITS_EXPERIMENTS and the file of METHOD= along, so that the other
machines need the installed packages and nothing else. They send outcomes back; only the driver writes.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import empirical
import theory
from empirical.engine.estimate import MEMORY
from empirical.engine.pool import ONE_THREAD, Outcome, work
from empirical.engine.settings import UserMethod
from theory.numerics import require

#: so many cells share a GPU
PER_GPU = 12
#: the package that carries the user's own files to the workers
SHIPPED = "lora_limits_shipped"
#: switches of the cells that are no part of their settings
PASSED_ON = ("SEQUENTIAL",)


class Ray:
    """Tasks of a Ray cluster; without an address, of one on this machine that ends with the driver.

    Raises:
        ValueError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str | None, workers: int | None = None, method: UserMethod | None = None) -> None:
        found = importlib.util.find_spec("ray") is not None
        require(found, "--engine ray", "the package ray (pip install 'lora-limits[cluster]')", "none installed")
        if address not in (None, "auto"):
            _reachable(str(address))
        # said before the import, or Ray warns on stderr and reports its use over the network
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self._ray = ray
        self._most = workers
        self._per_gpu = max(PER_GPU, workers or 0) if address is None else PER_GPU
        self._tickets: dict[Any, int] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="lora-limits-")
        shipped = _pack(Path(self._folder.name), method)
        packages = [Path(str(package.__file__)).parent for package in (theory, empirical)]
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        environment = {
            "py_modules": [str(folder) for folder in (*packages, shipped)],
            "excludes": ["results", "__pycache__"],
            "env_vars": ONE_THREAD | passed,
        }
        try:
            # what a cluster has, it has already
            ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR,
                     runtime_env=environment, num_cpus=None if address else workers,
                     include_dashboard=None if address else False)  # fmt: skip
        except Exception as error:  # Ray raises Exception itself, among others
            self._folder.cleanup()
            where = f"a Ray cluster at {address}" if address else "Ray to start on this machine"
            raise ValueError(f"--address: expected {where}, got: {str(error).splitlines()[0]}") from error
        self._run = ray.remote(_work)

    def gpus(self) -> float:
        """GPUs of the cluster as it is now."""
        return float(self._ray.cluster_resources().get("GPU", 0))

    def name(self) -> str:
        """The cluster in words."""
        resources = self._ray.cluster_resources()
        machines = sum(node["Alive"] for node in self._ray.nodes())
        return f"a Ray cluster (machines: {machines}, CPUs: {resources.get('CPU', 0):g}, GPUs: {self.gpus():g})"

    def slots(self, device: str) -> int:
        """How many cells the cluster runs at once; it may grow and shrink."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        room = min(cpus, int(self.gpus() * self._per_gpu)) if device == "cuda" else cpus
        return max(1, min(room, self._most or room))

    def submit(
        self, ticket: int, experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None = None
    ) -> None:
        """Start a cell as a task: one CPU, memory, and with CUDA a share of a GPU. The driver counts the attempts."""
        gpu = int(1e4 / self._per_gpu) / 1e4 if device == "cuda" else 0  # Ray counts in steps of 1e-4
        # never more than there is for each, or Ray would wait for ever for a larger machine
        memory = min(MEMORY[device], self._ray.cluster_resources().get("memory", 0) / self.slots(device))
        task = self._run.options(num_cpus=1, num_gpus=gpu, memory=int(memory), max_retries=0)
        self._tickets[task.remote(experiment, cell, device, sealed)] = ticket

    def wait(self) -> list[tuple[int, Outcome | None]]:
        """Wait until a task ends, or is lost with its worker or machine."""
        ready, _ = self._ray.wait(list(self._tickets), num_returns=1)
        found: list[tuple[int, Outcome | None]] = []
        for task in ready:
            ticket = self._tickets.pop(task)
            try:
                found.append((ticket, self._ray.get(task)))
            except self._ray.exceptions.RuntimeEnvSetupError as error:
                raise ValueError(f"--engine ray: expected workers to take the code, got: {error}") from error
            except self._ray.exceptions.RayTaskError as error:
                raise ValueError(f"--engine ray: expected workers to import the code, got: {error.cause}") from error
            except self._ray.exceptions.RayError:
                found.append((ticket, None))
        return found

    def close(self) -> None:
        """Leave the cluster, which ends the tasks; stop it if it was started here."""
        self._ray.shutdown()
        self._folder.cleanup()


def _reachable(address: str) -> None:
    """Ray itself asks an address for minutes before it gives up."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    require(bool(host) and port.isdecimal(), "--address", "HOST:PORT or auto", repr(address))
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ValueError(f"--address: expected a Ray cluster at {address}, got: {error}") from error


def _pack(folder: Path, method: UserMethod | None) -> Path:
    """A package of the user's own experiments and method."""
    package = folder / SHIPPED
    package.mkdir()
    (package / "__init__.py").write_text('"""Files of the user, sent by the driver."""\n', encoding="utf-8")
    given = os.environ.get("LORA_LIMITS_EXPERIMENTS", "").split(os.pathsep)
    for i, source in enumerate(filter(None, given)):
        target = package / "experiments" / str(i)
        for settings in Path(source).glob("*/settings.toml"):
            shutil.copytree(
                settings.parent, target / settings.parent.name, ignore=shutil.ignore_patterns("__pycache__")
            )
    if method is not None:
        (package / "method").mkdir()
        shutil.copy(method.reference.rpartition(":")[0], package / "method")
    return package


def _work(experiment: str, cell: dict[str, JsonValue], device: str, sealed: Path | None) -> Outcome:
    """On a worker: run a cell with the files that were sent."""
    import empirical.experiments

    sent = Path(str(importlib.import_module(SHIPPED).__file__)).parent
    known = empirical.experiments.__path__
    # before the folders of this machine, which may hold another version, and after the experiments of the project
    known[1:1] = [str(p) for p in sorted(sent.glob("experiments/*")) if str(p) not in known]
    own = cell.get("user_method")
    if isinstance(own, dict):
        path, _, function = str(own["reference"]).rpartition(":")
        cell = {**cell, "user_method": {**own, "reference": f"{sent / 'method' / Path(path).name}:{function}"}}
    return work(experiment, cell, device, sealed)
