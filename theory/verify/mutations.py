"""What can be changed: a value that a function returns, or one place of its code.

Changes of a *value*, one field at a time: reals by +-1 %, integers by +-1, truth values turned, arrays and updates by
1 %. Changes of the *code*, one expression at a time:

* *guard*: a call of ``require`` (or of an input check that raises for it) dropped or turned, likewise ``if ..: raise``;
  the end of the range that it allows moved: ``<`` and ``<=`` exchanged, the least integer one larger;
* *operator*: an addend or a power dropped, * and / exchanged, ``min`` and ``max`` exchanged;
* *constant*: a whole number one larger, any other five per cent larger (0 and 1 are left: they start and index);
* *tolerance*: an allowance for rounding set to zero, or made a million times larger.
"""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from theory.lowrank import LowRank

# ---- values ----

_OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "+1 %": lambda v: v * (Fraction(101, 100) if isinstance(v, Fraction) else 1.01),
    "-1 %": lambda v: v * (Fraction(99, 100) if isinstance(v, Fraction) else 0.99),
    "+1": lambda v: v + 1,
    "-1": lambda v: v - 1,
    "turned": lambda v: not v,
    "update +1 %": lambda v: LowRank(v.B, v.A, v.scale * 1.01),
}


def operations_for(value: Any) -> tuple[str, ...]:
    """The changes that make sense for a leaf of a returned value; none where nothing would change."""
    if isinstance(value, (bool, np.bool_)):
        return ("turned",)
    if isinstance(value, (int, np.integer)):
        return ("+1", "-1")
    if isinstance(value, (float, np.floating, Fraction)):
        return ("+1 %", "-1 %") if value != 0 and (isinstance(value, Fraction) or math.isfinite(value)) else ()
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return ("+1 %",) if np.any(value) else ()
    if isinstance(value, LowRank):
        return ("update +1 %",) if value.norm("frobenius") > 0 else ()
    return ()


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Leaves of a returned value. Fields of named tuples are told apart, elements of lists are not ("*")."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield from leaves(getattr(value, name), (*path, name))
    elif isinstance(value, (list, tuple)):
        for element in value:
            yield from leaves(element, (*path, "*"))
    elif isinstance(value, dict):
        for element in value.values():
            yield from leaves(element, (*path, "*"))
    else:
        yield path, value


def changed(value: Any, path: tuple[Any, ...], operation: str) -> Any:
    """`value` with the leaves at `path` changed; leaves to which `operation` does not apply stay."""
    if not path:
        return _OPERATIONS[operation](value) if operation in operations_for(value) else value
    head, rest = path[0], path[1:]
    if head == "*":
        if isinstance(value, dict):
            return {k: changed(v, rest, operation) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(changed(v, rest, operation) for v in value)
        return value
    return value._replace(**{head: changed(getattr(value, head), rest, operation)}) if hasattr(value, head) else value


# ---- code ----

#: input checks that return their argument; dropping one passes the raw value on
VALIDATORS = {"matrix", "vector", "integer", "real", "exact", "one_of"}
_AS_ARRAY = "__import__('numpy').asarray({}, dtype=float)"
#: names and functions that say how much rounding is allowed
TOLERANCES = {"EPS", "rank_tolerance"}
_EXCHANGED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip
_OTHER_END = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum"}


class Site(NamedTuple):
    """One place and what would stand there."""

    kind: str
    old: ast.expr
    new: ast.expr
    #: the statement around a lone number or name, which alone would not say where
    within: str = ""

    def __str__(self) -> str:
        return f"{ast.unparse(self.old)} -> {ast.unparse(self.new)}" + (f" in {self.within}" if self.within else "")


def sites(function: ast.FunctionDef) -> Iterator[Site]:
    """Every change of the code of `function`, always in the same order; texts, messages and annotations are left."""
    line = ""
    for statement in function.body:
        for node in _evaluated(statement):
            if isinstance(node, ast.stmt):
                line = ast.unparse(node).splitlines()[0]
            for site in _changes(node):
                yield site._replace(within=line) if isinstance(site.old, (ast.Constant, ast.Name)) else site


def replaced(function: ast.FunctionDef, site: Site) -> ast.FunctionDef:
    """`function` with the change `site`, which is one of its own :func:`sites`."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return ast.copy_location(site.new, node) if node is site.old else self.generic_visit(node)

    made: ast.FunctionDef = Replace().visit(function)
    return made


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node`, itself first, that decide what is computed."""
    yield node
    parts: Iterator[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    if isinstance(node, ast.FunctionDef):
        parts = iter(node.body)
    elif isinstance(node, ast.AnnAssign):
        parts = iter([node.value] if node.value else [])
    elif isinstance(node, ast.Call) and _name(node) == "require":
        parts = iter(node.args[:1])
    for part in parts:
        yield from _evaluated(part)


def _changes(node: ast.AST) -> Iterator[Site]:
    if isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Name) and node.id in TOLERANCES and node.id.isupper():
        yield from _tolerance(node)
    elif isinstance(node, ast.BinOp):
        yield from _of_operator(node)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value not in (0, 1):
        value: Any = node.value
        yield Site("constant", node, ast.Constant(value + 1 if isinstance(value, int) else value * 1.05))
    elif isinstance(node, ast.If) and isinstance(node.body[0], ast.Raise):
        yield from _of_guard(node.test, False)


def _of_call(node: ast.Call) -> Iterator[Site]:
    name = _name(node)
    if name == "require":
        yield from _of_guard(node.args[0], True)
    elif name in VALIDATORS and node.args and isinstance(node.func, ast.Name):
        raw = _AS_ARRAY if name in ("matrix", "vector") else "{}"
        yield Site("guard", node, ast.parse(raw.format(ast.unparse(node.args[0])), mode="eval").body)
        if len(node.args) > 2 and isinstance(node.args[2], ast.Constant) and isinstance(node.args[2].value, int):
            yield Site("guard", node.args[2], ast.Constant(node.args[2].value + 1))
    elif name in TOLERANCES:
        yield from _tolerance(node)
    elif name in _OTHER_END:
        func: Any = copy.copy(node.func)
        setattr(func, "id" if isinstance(func, ast.Name) else "attr", _OTHER_END[name])
        yield Site("operator", node, ast.Call(func, node.args, node.keywords))


def _of_guard(condition: ast.expr, passes: bool) -> Iterator[Site]:
    """Dropped, turned, and every comparison in it with the other kind of end."""
    yield Site("guard", condition, ast.Constant(passes))
    yield Site("guard", condition, ast.UnaryOp(ast.Not(), condition))
    for part in ast.walk(condition):
        if isinstance(part, ast.Compare):
            for at, operator in enumerate(part.ops):
                if type(operator) in _EXCHANGED:
                    other: Any = [*part.ops[:at], _EXCHANGED[type(operator)](), *part.ops[at + 1 :]]
                    yield Site("guard", part, ast.Compare(part.left, other, part.comparators))


def _tolerance(node: ast.expr) -> Iterator[Site]:
    yield Site("tolerance", node, ast.Constant(0.0))
    yield Site("tolerance", node, ast.BinOp(ast.Constant(1e6), ast.Mult(), node))


def _of_operator(node: ast.BinOp) -> Iterator[Site]:
    """Exchanged or dropped; texts that are put together are left alone."""
    if any(isinstance(x, ast.JoinedStr) or isinstance(getattr(x, "value", 0), str) for x in (node.left, node.right)):
        return
    if type(node.op) in _EXCHANGED:
        other: Any = _EXCHANGED[type(node.op)]()
        yield Site("operator", node, ast.BinOp(node.left, other, node.right))
    if isinstance(node.op, (ast.Add, ast.Sub, ast.Pow)):
        yield Site("operator", node, node.left)
    if isinstance(node.op, ast.Add):
        yield Site("operator", node, node.right)


def _name(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
