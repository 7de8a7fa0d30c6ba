"""A merge or router of your own: one function in a file, named ``file.py:function``.

It asks for what it needs by the names of its arguments (:mod:`empirical.reuse.options`): ``updates`` (the adapters),
``base``, ``probes``, ``data``, ``seed``, ... A merge gives back a dict, module -> update; a router a dict, module ->
gate, or a :class:`empirical.reuse.routers.Routing`. Before anything is trained it is tried on a tiny base. What it is
given but the base are copies.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from empirical.reuse.options import Options, arguments, needs
from empirical.reuse.routers import Gate, Routing, routed
from empirical.tasks.sentences import ragged
from empirical.training.bases import BaseShape, Updates, check_updates, linear_modules, scratch_base, updated
from empirical.training.readout import Readout
from theory.lowrank import LowRank
from theory.numerics import require, stream


def is_own(name: str) -> bool:
    """Whether a method's name is a function in a file."""
    return ".py:" in name


def load(reference: str) -> Callable[..., Any]:
    """The function that ``path/to/file.py:function`` names; behind an ``@`` the SHA-256 that the file must have.

    Raises:
        ValueError: no such file, another text, the file cannot be run, or it has no such function.
    """
    path, _, name = reference.rpartition(":")
    name, _, promised = name.partition("@")
    is_file = path.endswith(".py") and Path(path).is_file()
    require(is_file, "method", "a file, as in my_merge.py:merge", repr(path))
    with _guarded("a file that can be read", path):
        text = Path(path).read_bytes()
    made_of = hashlib.sha256(text).hexdigest()
    same = promised in ("", made_of)
    require(same, "method", f"{path} as it was when the run began", "another text; leave it and run again")
    module = ModuleType(f"method_{made_of}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # where dataclasses look for it
    try:
        with _guarded("a file that runs", path):
            exec(compile(text, path, "exec", dont_inherit=True), vars(module))
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    function: Callable[..., Any] | None = getattr(module, name, None)
    require(callable(function), "method", f"a function {name!r} in {path}", type(function).__name__)
    assert function is not None
    return function


@contextmanager
def _guarded(expected: str, whose: str, *refusals: type[Exception]) -> Iterator[None]:
    """Whatever is raised within becomes one line, and behind it whose it is; `refusals` say what was expected."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit of a user's function must not end a worker either
        said = _first_line(error)
        if not isinstance(error, refusals):
            said = f"method: expected {expected}, got {type(error).__name__}: {said}"
        raise ValueError(said if whose in said else f"{said} ({whose})") from error


def _first_line(error: BaseException) -> str:
    try:
        lines = str(error).splitlines()
    except Exception:  # of a user's own __str__
        lines = []
    return next(filter(str.strip, lines), "no message")


def own_needs(reference: str) -> frozenset[str]:
    """What the function asks for. Raises ValueError as :func:`load`, or for an unknown argument."""
    function = load(reference)
    with _guarded("a function with arguments", reference, ValueError):
        return needs(function)


def fingerprint(base: nn.Module) -> str:
    """A hash of all weights and buffers."""
    made_of = hashlib.blake2b(digest_size=16)
    for name, value in base.state_dict().items():
        made_of.update(name.encode())
        made_of.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return made_of.hexdigest()


def own_answer(reference: str, updates: Sequence[Updates], base: nn.Module, options: Options) -> Updates | Routing:
    """What the user's function makes of copies of the adapters, checked against `base`.

    Raises:
        ValueError: in one line: it fails, changes the base, or gives back neither updates nor gates of the base.
    """
    function = load(reference)
    with _guarded("updates or gates that can be used", reference, ValueError):
        given = arguments(function, [dict(a) for a in updates], base, options)
        given = copy.deepcopy(given, {id(base): base})  # what it does to them, other methods must not see
        before = fingerprint(base)
        with _guarded("updates or gates", reference):
            found = function(**given)
        require(fingerprint(base) == before, "base", "the weights as they were", "others")
        if isinstance(found, Mapping) and found and all(map(callable, found.values())):
            found = Routing(updates, found)
        if isinstance(found, Routing):
            k = len(found.updates)
            return found._replace(gates={name: _checked(gate, k, reference) for name, gate in found.gates.items()})
        return check_updates(base, found, "updates")


def _checked(gate: Gate, adapters: int, reference: str) -> Gate:
    """The gate, with whatever it does wrong in one line."""

    def shares(x: torch.Tensor) -> torch.Tensor:
        wanted = (*x.shape[:-1], adapters)
        with _guarded("shares that can be used", reference, ValueError):
            with _guarded("a gate that answers", reference):
                found = gate(x)
            require(isinstance(found, torch.Tensor), "gate", "a tensor of shares", type(found).__name__)
            require(tuple(found.shape) == wanted, "gate", f"shares of shape {wanted}", tuple(found.shape))
            require(bool(torch.isfinite(found).all()), "gate", "finite shares", "nan or inf")
        return torch.as_tensor(found)

    return shares


# ---------------------------------------------------------------- the trial


def tiny_base() -> Any:
    """A decoder of two layers whose modules are named as those of the bases that experiments train."""
    return scratch_base(BaseShape(vocabulary=12, width=8, layers=2, heads=2, feed_forward=12, init=0.3), seed=0)


def random_adapter(base: nn.Module, seed: int, rank: int = 2) -> Updates:
    """A random adapter of the linear modules of `base`: those in its layers, or where it has none all."""
    names = linear_modules(base) or [n for n, module in base.named_modules() if isinstance(module, nn.Linear)]
    found = {}
    for name in names:
        weight = base.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        rng, (out, inner) = stream(seed, "trial", name), weight.shape
        found[name] = LowRank(0.3 * rng.standard_normal((out, rank)), 0.3 * rng.standard_normal((rank, inner)), 1.5)
    return found


def trial(reference: str, base: nn.Module | None = None, given: Sequence[str] = ()) -> None:
    """Try a function of the user's own on two tiny random adapters.

    Args:
        reference: ``file.py:function``.
        base: what they adapt, a decoder or a readout; by default a tiny decoder.
        given: of general, probes and data those that the experiment can give.

    Raises:
        ValueError: in one line, whatever is wrong with it.
    """
    base = tiny_base() if base is None else base
    updates = [random_adapter(base, seed) for seed in (1, 2)]
    few = ragged([[1, 2], [3, 4], [5, 6]], [[7], [8], [9]])
    there: dict[str, Any] = {"general": [random_adapter(base, 3)], "probes": [few, few], "data": few}
    answer = own_answer(reference, updates, base, Options(**{name: there[name] for name in given}))
    inputs = torch.as_tensor(few.tokens)
    if isinstance(base, Readout):
        inputs = torch.ones(3, base.readout.in_features, dtype=torch.float64)

    before = fingerprint(base)
    with _guarded("updates or gates that can be used", reference, ValueError):
        placed = routed(base, answer) if isinstance(answer, Routing) else updated(base, answer)
        with np.errstate(all="ignore"), placed as model, torch.no_grad():
            found = model(inputs)
        finite = bool(torch.isfinite(torch.as_tensor(getattr(found, "logits", found))).all())
        require(finite, "logits", "finite numbers", "nan or inf")
        require(fingerprint(base) == before, "base", "the weights as they were", "others")
