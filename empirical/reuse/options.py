"""What a method of reuse may ask for, and how it is given that: by the names of its arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias

from empirical.tasks.sentences import Ragged, Sentences
from theory.numerics import integer, real, require

if TYPE_CHECKING:
    from torch import nn

    from empirical.training.bases import Updates

#: sentences with the answers that are to be predicted
Examples: TypeAlias = Sentences | Ragged


@dataclass(frozen=True)
class Options:
    """What methods may need beyond the adapters and the base.

    Args:
        seed: of the random methods (DARE, the random control).
        scale: factor in front of the merged update: task arithmetic's coefficient.
        density: share of entries kept by the methods that trim.
        rank: of `svd`; by default the largest number of columns of an adapter.
        temperature: of Arrow's softmax.
        general: adapters trained on general data, for general-knowledge subtraction.
        probes: for each adapter a few examples of what it was trained on.
        data: a few examples of the task that the reused adapters are to solve.
    """

    seed: int = 0
    scale: float = 1.0
    density: float = 0.5
    rank: int | None = None
    temperature: float = 1.0
    general: Sequence[Updates] = ()
    probes: Sequence[Examples] = ()
    data: Examples | None = None

    def __post_init__(self) -> None:
        real(self.scale, "scale")
        require(0.0 < self.density <= 1.0, "density", "a share in (0, 1]", self.density)
        require(self.rank is None or integer(self.rank, "rank", 1) > 0, "rank", "a rank", self.rank)
        require(self.temperature > 0.0, "temperature", "a positive number", self.temperature)


#: what a method can ask for: the updates of the adapters, the base that they adapt, and the options
GIVEN = ("updates", "base", *(field.name for field in fields(Options)))
#: what an experiment may not have
SPECIAL = frozenset({"general", "probes", "data"})


def needs(function: Callable[..., Any]) -> frozenset[str]:
    """What a function asks for, by the names of its arguments.

    Raises:
        ValueError: an argument that has no default and is none of `GIVEN`.
    """
    known = set()
    for name, parameter in inspect.signature(function).parameters.items():
        wanted = parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD,
        )  # fmt: skip
        require(name in GIVEN or not wanted, "arguments", "some of " + ", ".join(GIVEN), name)
        require(not wanted or parameter.kind != parameter.POSITIONAL_ONLY, "arguments", "ones given by name", name)
        if name in GIVEN:
            known.add(name)
    return frozenset(known)


def arguments(
    function: Callable[..., Any], updates: Sequence[Updates], base: nn.Module, options: Options
) -> dict[str, Any]:
    """What the function asks for, by name.

    Raises:
        ValueError: it asks for something that is not there.
    """
    given = {"updates": updates, "base": base, **{f.name: getattr(options, f.name) for f in fields(options)}}
    found = {name: given[name] for name in needs(function)}
    for name in sorted(SPECIAL & set(found)):
        require(
            found[name] is not None and len(found[name]) > 0, name, "some, as the method asks for them", "none here"
        )
    if "probes" in found:
        require(len(options.probes) == len(updates), "probes", f"{len(updates)}, for each adapter", len(options.probes))
    return found
