"""Checks of the claims, one module per topic, and the small kit that they are written with.

A check is a function marked ``@check("claim_id")`` and, in this package, named in the registry under ``symbolic`` or
``numeric``. It returns a :class:`Figure` (the measured slack or attained gap) or None, and raises
:class:`CheckFailed` when the claim does not hold. It must be deterministic and take a few seconds at most.

A symbolic check takes one argument, ``code``: the public functions of its claim by name, and evaluates those; it
calls none of them otherwise, so that whoever hands in others (a test, a mutant) sees the check fail.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from theory.claims import Claim, load, resolve

#: the public functions of one claim: ``code.dilution_limit``; a method by its own name, the object first
Code = SimpleNamespace

_claims = functools.cache(load)
_expectations = 0
#: whether Hypothesis looks for a small counter-example where it has found one
shrinking = True


class Figure(NamedTuple):
    """What a check measured, e.g. ``Figure("gap to the witness", 3e-16, "relative")``."""

    name: str
    value: float
    unit: str


class CheckFailed(AssertionError):
    """A claim does not hold on an example; the message says on which."""


def functions_of(claim: Claim) -> Code:
    """What the registry lists under `code`, as it is bound now."""
    return Code(**{reference.replace(":", ".").rpartition(".")[2]: resolve(reference) for reference in claim.code})


def check(claim_id: str) -> Callable[[Callable[..., Figure | None]], Callable[..., Figure | None]]:
    """Mark a function as a check of `claim_id`; the registry must name it.

    Called without arguments it gets the claim's own code, if it asks for code. A check that expects nothing fails.
    """

    def mark(function: Callable[..., Figure | None]) -> Callable[..., Figure | None]:
        takes_code = bool(inspect.signature(function).parameters)

        @functools.wraps(function)
        def run(code: Code | None = None) -> Figure | None:
            global _expectations
            _expectations = 0
            figure = function(code or functions_of(_claims()[claim_id])) if takes_code else function()
            if not _expectations:
                raise CheckFailed("expected at least one expectation, got a check that asserts nothing")
            return figure

        run.claim = claim_id  # type: ignore[attr-defined]
        return run

    return mark


def expectations() -> int:
    """How many expectations the check that ran last has made."""
    return _expectations


def expect(condition: Any, message: str) -> None:
    """Raise :class:`CheckFailed` with `message` unless `condition` holds. Unlike assert it survives ``python -O``."""
    global _expectations
    _expectations += 1
    if not bool(condition):
        raise CheckFailed(message)


def expect_close(got: float, want: float, tolerance: float, what: str) -> None:
    """|got - want| <= tolerance; `tolerance` is computed by the caller, never guessed. NaN never passes."""
    expect(abs(got - want) <= tolerance, f"{what}: expected {want!r} within {tolerance:.3g}, got {got!r}")


def expect_entries(got: Any, want: Any, tolerance: float, what: str) -> None:
    """Every entry of the float array `got` within `tolerance` of that of `want`, rational numbers; compared exactly."""
    have, exact = np.asarray(got, dtype=np.float64), np.array(want, dtype=object)
    expect(have.shape == exact.shape, f"{what}: expected shape {exact.shape}, got {have.shape}")
    for at, x in np.ndenumerate(exact):
        off = abs(Fraction(float(have[at])) - Fraction(x))
        expect(off <= tolerance, f"{what}: expected {x} within {tolerance:.3g} at {list(at)}, got {have[at]}")


def expect_rejected(argument: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """`call` must raise a ``ValueError`` whose message begins with the name of `argument`."""
    try:
        call(*args, **kwargs)
    except ValueError as error:
        expect(str(error).startswith(argument), f"expected an error that names {argument}, got: {error}")
        return
    raise CheckFailed(f"expected a ValueError that names {argument}, got a result")


def expect_mutant_rejected(body: Callable[[Any], Any], mutant: Any, what: str) -> None:
    """The check `body` must fail when it is handed `mutant` in place of the bound it checks."""
    try:
        body(mutant)
    except CheckFailed:
        return
    raise CheckFailed(f"the check does not notice the mutant: {what}")


def for_all(body: Callable[..., None], examples: int, **strategies: Any) -> None:
    """Run `body(**drawn)` on Hypothesis examples; deterministic, shrinks to a small counter-example."""
    from hypothesis import HealthCheck, Phase, given, settings

    run = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.explicit, Phase.generate, *([Phase.shrink] if shrinking else [])),
        suppress_health_check=list(HealthCheck),
    )(given(**strategies)(body))
    run()
