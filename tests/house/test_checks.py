"""A symbolic check evaluates the code of its claim: it fails when any one of the claim's functions is another."""

import functools
from collections.abc import Callable
from typing import Any

import pytest

from theory.checks import CheckFailed, Code, expect, functions_of
from theory.claims import load, resolve
from theory.verify.mutations import changed, leaves, operations_for

CLAIMS = load()
EACH = [
    pytest.param(reference, claim.id, name, id=f"{claim.id}-{name}")
    for claim in CLAIMS.values()
    for reference in claim.symbolic
    for name in vars(functions_of(claim))
]


def bent(old: Callable[..., Any]) -> Callable[..., Any]:
    """Every number that it returns one per cent or one larger, every truth value turned."""

    @functools.wraps(old)
    def new(*arguments: Any, **options: Any) -> Any:
        value = old(*arguments, **options)
        for path in dict.fromkeys(path for path, leaf in leaves(value) if operations_for(leaf)):
            operations = {o for p, leaf in leaves(value) if p == path for o in operations_for(leaf)}
            value = changed(value, path, next(o for o in ("turned", "+1", "+1 %", "update +1 %") if o in operations))
        return value

    return new


def notices(check: Callable[[Code], Any], code: Code, name: str) -> bool:
    """Whether `check` fails when the function `name` of `code` returns something else."""
    try:
        check(Code(**vars(code) | {name: bent(getattr(code, name))}))
    except CheckFailed:
        return True
    return False


@pytest.mark.parametrize(("reference", "claim", "name"), EACH)
def test_a_symbolic_check_fails_when_a_function_of_its_claim_is_another(reference: str, claim: str, name: str) -> None:
    assert notices(resolve(reference), functions_of(CLAIMS[claim]), name)


def test_a_check_that_types_the_formula_again_is_noticed() -> None:
    def typed_again(code: Code) -> None:
        expect(max(k for k in range(1, 9) if 3 * k < 10) == 3, "the limit")

    def called(code: Code) -> None:
        expect(code.dilution_limit(10, 3) >= 0, "the limit")

    def held_against_it(code: Code) -> None:
        expect(code.dilution_limit(10, 3) == max(k for k in range(1, 9) if 3 * k < 10), "the limit")

    found = [notices(f, functions_of(CLAIMS["dilution"]), "dilution_limit")
             for f in (typed_again, called, held_against_it)]  # fmt: skip
    assert found == [False, False, True]


def test_the_functions_of_a_claim_have_names_of_their_own() -> None:
    assert all(len(vars(functions_of(claim))) == len(claim.code) for claim in CLAIMS.values())
