"""A stand-in for a CUDA device: it computes on the processor and refuses what a CUDA device refuses.

While it is open, a tensor that is moved or made there says so, and so does whatever is computed from it. Tensors of two
devices in one operation, and NumPy on a tensor of the device, are the errors that they are there. Memory to which
nothing was written holds no number. Streams do nothing; a graph holds the operations of its capture, which leaves no
numbers behind, and runs them when it is replayed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

HOST, THERE = torch.device("cpu"), torch.device("cuda", 0)
_T: Any = torch.Tensor
#: read or set without the numbers: no device is asked
PLAIN = {getattr(_T, name).__get__ for name in ("shape", "dtype", "ndim", "requires_grad", "is_leaf", "grad_fn")}
PLAIN |= {_T.size, _T.dim, _T.numel, _T.__len__, _T.is_floating_point, _T.element_size, _T.requires_grad_, _T.__hash__}
PLAIN |= {_T.untyped_storage, torch.device, torch._C._nn._parse_to, torch._has_compatible_shallow_copy_type}
#: they take numbers from one device to another
ACROSS = {_T.copy_, _T.data.__set__, _T.__setitem__}
#: what they give is to be written to
EMPTY = {torch.empty, torch.empty_like, torch.empty_strided, _T.new_empty, _T.new_empty_strided}
DEVICE, IS_CUDA = _T.device.__get__, _T.is_cuda.__get__


def device_of(x: torch.Tensor) -> torch.device:
    """Where a tensor is said to be: where its memory is, which one of the meta device has not."""
    place: torch.device = DEVICE(x)
    return THERE if place == HOST and getattr(_memory(x), "there", False) else place


class _Devices(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.layers: set[torch.device] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in PLAIN:
            return func(*args, **kwargs)
        given = _tensors((*args, *kwargs.values()))
        places = {device_of(x) for x in given if x.dim()} or {device_of(x) for x in given}
        there = THERE in places
        if func in (DEVICE, IS_CUDA):
            return device_of(args[0]) if func == DEVICE else there
        if there and func in (_T.numpy, _T.__array__):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is torch.nn.functional.linear:
            self.layers |= places
        asked = _asked(func, args, kwargs)
        # an index may stay on the processor
        if asked is None and len(places) > 1 and func not in ACROSS and not (
            func is _T.__getitem__ and device_of(args[0]) == THERE
        ):  # fmt: skip
            raise RuntimeError(f"expected all tensors to be on the same device, but found two: {func}")
        if func in (_T.cpu, _T.cuda):
            func, args, kwargs = _T.to, (args[0], HOST), {}
        if asked is not None:
            args, kwargs = tuple(map(_here, args)), {name: _here(value) for name, value in kwargs.items()}
        found = func(*args, **kwargs)
        if func is _T.to and found is args[0] and device_of(found) != asked:
            found = found.clone()  # another device is another memory
        if func in EMPTY and found.is_floating_point():
            found.detach().fill_(math.nan)
        if there if asked is None else asked == THERE:
            for x in _tensors((found,)):
                _memory(x).there = True
        return found


def _here(value: Any) -> Any:
    """An argument as the processor takes it."""
    if isinstance(value, torch.device):
        return HOST if value.type == "cuda" else value
    return HOST if isinstance(value, str) and value[:4] == "cuda" else value


def _asked(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names; None where it names none."""
    if func in (_T.cpu, _T.cuda):
        return HOST if func is _T.cpu else THERE
    said = kwargs.get("device")
    if func is _T.to:
        for value in args[1:]:
            if isinstance(value, torch.Tensor):
                return device_of(value)
            if isinstance(value, (torch.device, str)):
                said = value
        said = said or device_of(args[0])
    if said is None:
        return None
    return THERE if torch.device(said).type == "cuda" else torch.device(said)


def _tensors(values: Any) -> list[torch.Tensor]:
    """The tensors among some values, in lists and tables too."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
        elif isinstance(value, dict):
            found += _tensors(value.values())
    return found


def _memory(x: torch.Tensor) -> Any:
    """The storage of a tensor, of one inside a transform too."""
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x.untyped_storage()


class _Graph:
    """The operations of a capture, on the very tensors that it saw."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            for func, args, kwargs, found in self.calls:
                for old, new in zip(_tensors((found,)), _tensors((func(*args, **kwargs),)), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Capture(TorchDispatchMode):
    """What runs while it is open goes into `graph`; of numbers that it makes, none is left."""

    open = False

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.graph = graph

    def __enter__(self) -> Any:
        _Capture.open = True
        return super().__enter__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        found = func(*args, **(kwargs or {}))
        self.graph.calls.append((func, args, kwargs or {}, found))
        return found

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        _Capture.open = False
        given: set[int] = set()
        made: dict[int, torch.Tensor] = {}
        for _, args, kwargs, found in self.graph.calls:
            given |= {_memory(x)._cdata for x in _tensors((args, kwargs))} - set(made)
            made |= {_memory(x)._cdata: x for x in _tensors((found,)) if _memory(x)._cdata not in given | set(made)}
        with torch.no_grad():
            for x in made.values():
                if x.is_floating_point():
                    x.fill_(math.nan)


@contextlib.contextmanager
def accelerator() -> Iterator[None]:
    """While open, this process has one, and every linear layer is to be computed on it."""
    nothing = mock.MagicMock()
    there: dict[str, Any] = {
        "is_available": lambda: True, "Stream": nothing, "current_stream": nothing, "CUDAGraph": _Graph,
        "stream": lambda _: contextlib.nullcontext(), "graph": _Capture,
        "is_current_stream_capturing": lambda: _Capture.open,
        "get_rng_state": lambda _: None, "set_rng_state": lambda *_: None, "get_device_name": lambda _: "a stand-in",
    }  # fmt: skip
    with mock.patch.multiple(torch.cuda, **there), _Devices() as devices:
        yield
    assert devices.layers <= {THERE}, "a model ran on the processor"
