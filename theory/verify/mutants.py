"""Change every bound and every assumption check in turn and see whether the claim's checks notice.

Two kinds of mutants, for every function that a claim names under ``code`` and, for the second kind, every helper in
the same modules:

* *value*: what a registered function returns, one field at a time: reals by +-1 %, integers by +-1, truth values
  turned, arrays and updates by 1 %;
* *guard*: one call of ``require`` (or of an input check that raises for it) dropped, and turned into its opposite;
  one ``if ...: raise`` dropped, and turned.

A mutant is killed when at least one check of a claim that uses the function fails. Each mutant lives in a forked
process of its own, so nothing on disk changes.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from theory.claims import Claim, RegistryError, resolve
from theory.lowrank import LowRank

#: input checks that return their argument; dropping one passes the raw value on
VALIDATORS = {"matrix": "asarray", "vector": "asarray", "integer": "raw", "real": "raw", "one_of": "raw"}
#: a mutant that runs this much longer than the unchanged checks is killed: it did not end as they do
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Mutant:
    """One change: where, what, and the claims whose checks must notice."""

    module: str
    function: str
    what: str
    claims: tuple[str, ...]
    #: value mutants: (path into the returned value, operation); guard mutants: (index of the site, operation)
    site: tuple[Any, ...]
    kind: str

    def __str__(self) -> str:
        return f"{self.module}:{self.function}: {self.what}"


# ---- value mutants ----

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


def _theory_modules() -> list[ModuleType]:
    return [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "theory" and m]


def _replace_everywhere(owner: Any, name: str, old: Any, new: Any) -> None:
    """Bind `new` wherever `old` is bound: in its own module or class and where others imported it."""
    raw = inspect.getattr_static(owner, name)
    setattr(owner, name, staticmethod(new) if isinstance(raw, staticmethod) else new)
    for module in _theory_modules():
        for key, bound in list(vars(module).items()):
            if bound is old:
                setattr(module, key, new)


def _owner(reference: str) -> tuple[Any, str]:
    module_name, _, path = reference.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module_name)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


# ---- guard mutants ----


class _Sites(ast.NodeTransformer):
    """Counts the guards of a function; changes the one with index `chosen` by `operation`."""

    def __init__(self, chosen: int = -1, operation: str = "") -> None:
        self.chosen, self.operation = chosen, operation
        self.found: list[tuple[int, str, str]] = []
        self.count = 0

    def _next(self, operations: Sequence[str], what: str) -> bool:
        index, self.count = self.count, self.count + 1
        self.found += [(index, operation, what) for operation in operations]
        return index == self.chosen

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``require(condition, ...)`` and the input checks that return their argument."""
        self.generic_visit(node)
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name == "require" and node.args:
            what = f"line {node.lineno}: require({ast.unparse(node.args[0])})"
            if self._next(("dropped", "turned"), what):
                opposite = ast.UnaryOp(ast.Not(), node.args[0])
                node.args[0] = ast.Constant(True) if self.operation == "dropped" else opposite
        elif name in VALIDATORS and node.args:
            what = f"line {node.lineno}: {ast.unparse(node)}"
            if self._next(("dropped",), what):
                if VALIDATORS[name] == "raw":
                    return ast.copy_location(node.args[0], node)
                array = ast.parse("__import__('numpy').asarray(0, dtype=float)", mode="eval").body
                assert isinstance(array, ast.Call)
                array.args[0] = node.args[0]
                return ast.copy_location(array, node)
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """``if condition: raise ...``."""
        self.generic_visit(node)
        if isinstance(node.body[0], ast.Raise):
            what = f"line {node.lineno}: if {ast.unparse(node.test)}: raise"
            if self._next(("dropped", "turned"), what):
                node.test = ast.Constant(False) if self.operation == "dropped" else ast.UnaryOp(ast.Not(), node.test)
        return node


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Functions and methods that are written in this module, with their dotted names."""
    for name, value in vars(module).items():
        if isinstance(value, FunctionType) and value.__module__ == module.__name__:
            yield name, value
        elif inspect.isclass(value) and value.__module__ == module.__name__:
            for method_name in vars(value):
                raw = inspect.getattr_static(value, method_name)
                method = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
                method = method.fget if isinstance(method, property) else method
                if isinstance(method, FunctionType) and method.__module__ == module.__name__:
                    yield f"{name}.{method_name}", method


def _definition(module: ModuleType, function: FunctionType) -> tuple[ast.Module, ast.FunctionDef] | None:
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == function.__code__.co_firstlineno:
                return tree, node
    return None


def _apply_guard(mutant: Mutant) -> None:
    """Give the living function the code of its mutated definition; every reference to it sees the change."""
    module = importlib.import_module(mutant.module)
    function = dict(_functions(module))[mutant.function]
    found = _definition(module, function)
    if found is None:
        raise LookupError(str(mutant))
    _, node = found
    index, operation = mutant.site
    node = _Sites(index, operation).visit(node)
    node.decorator_list = []
    namespace: dict[str, FunctionType] = {}
    body = ast.parse("from __future__ import annotations")
    body.body.append(node)
    exec(compile(ast.fix_missing_locations(body), f"<{mutant}>", "exec"), dict(vars(module)), namespace)
    function.__code__ = namespace[node.name].__code__


# ---- running ----


def _checks_of(claims: Mapping[str, Claim], ids: Sequence[str], seconds: Mapping[str, float]) -> list[str]:
    references = [r for i in ids for r in claims[i].symbolic + claims[i].numeric]
    return sorted(dict.fromkeys(references), key=lambda r: seconds.get(r, 0.0))


def find(claims: Mapping[str, Claim], only: str | None = None) -> tuple[list[Mutant], dict[str, float]]:
    """All mutants (that concern the claim `only`, if given), and the seconds that each unchanged check takes.

    Raises:
        RegistryError: a check fails on the unchanged code; mutants would mean nothing then.
    """
    users: dict[str, list[str]] = {}
    for claim in claims.values():
        for reference in claim.code:
            users.setdefault(reference, []).append(claim.id)
    guards = [m for m in _guards(users) if only is None or only in m.claims]
    wanted = {r: ids for r, ids in users.items() if only is None or only in ids}
    judging = {i for m in guards for i in m.claims} | {i for ids in wanted.values() for i in ids}
    returned: dict[str, dict[tuple[Any, ...], set[str]]] = {r: {} for r in wanted}
    restore = []
    for reference in wanted:
        owner, name = _owner(reference)
        old = getattr(owner, name)
        if not isinstance(old, FunctionType):
            raise RegistryError(f"{reference}: expected a function, got {type(old).__name__}")
        new = _recording(old, returned[reference])
        _replace_everywhere(owner, name, old, new)
        restore.append((owner, name, new, old))
    seconds: dict[str, float] = {}
    for claim in (c for c in claims.values() if c.id in judging):
        for check in claim.symbolic + claim.numeric:
            started = time.perf_counter()
            try:
                resolve(check)()
            except AssertionError as error:
                raise RegistryError(f"{check}: expected to pass on the unchanged code, got: {error}") from error
            seconds[check] = time.perf_counter() - started
    for owner, name, new, old in restore:
        _replace_everywhere(owner, name, new, old)
    mutants = []
    for reference, seen in returned.items():
        module_name, _, path = reference.partition(":")
        for leaf, operations in sorted(seen.items(), key=str):
            for operation in sorted(operations):
                where = ".".join(str(x) for x in leaf) or "value"
                what = f"returned {where} {operation}"
                mutants.append(Mutant(module_name, path, what, tuple(wanted[reference]), (leaf, operation), "value"))
        if not seen:
            nothing = "returns nothing that a check looks at"
            mutants.append(Mutant(module_name, path, nothing, tuple(wanted[reference]), ((), ""), "unseen"))
    return mutants + guards, seconds


def _recording(old: FunctionType, seen: dict[tuple[Any, ...], set[str]]) -> Callable[..., Any]:
    @functools.wraps(old)
    def recording(*args: Any, **kwargs: Any) -> Any:
        value = old(*args, **kwargs)
        for path, leaf in leaves(value):
            operations = operations_for(leaf)
            if operations:
                seen.setdefault(path, set()).update(operations)
        return value

    return recording


def _guards(users: Mapping[str, list[str]]) -> Iterator[Mutant]:
    """Guards in every function of the modules that the claims name, and of the private modules that these import.

    A function that no claim names answers to all claims of the modules that use its module.
    """
    modules: dict[str, list[str]] = {}
    for reference, ids in users.items():
        modules.setdefault(reference.partition(":")[0], []).extend(ids)
    for module_name, ids in list(modules.items()):
        for value in list(vars(importlib.import_module(module_name)).values()):
            origin = str(getattr(value, "__module__", ""))
            if origin.startswith("theory._") and not origin.startswith("theory.__") and origin != module_name:
                modules.setdefault(origin, []).extend(ids)
    for module_name, ids in modules.items():
        module = importlib.import_module(module_name)
        for name, function in _functions(module):
            found = _definition(module, function)
            if found is None:
                continue
            sites = _Sites()
            sites.visit(found[1])
            claims = tuple(dict.fromkeys(users.get(f"{module_name}:{name}", ids)))
            for index, operation, what in sites.found:
                yield Mutant(module_name, name, f"{what} {operation}", claims, (index, operation), "guard")


def _live(mutant: Mutant, references: Sequence[str], outcome: Any) -> None:
    """In the forked process: apply the change, run the checks, send the name of the first that fails (or None)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        if mutant.kind == "value":
            owner, name = _owner(f"{mutant.module}:{mutant.function}")
            old = getattr(owner, name)
            path, operation = mutant.site
            _replace_everywhere(
                owner, name, old, functools.wraps(old)(lambda *a, **k: changed(old(*a, **k), path, operation))
            )
        elif mutant.kind == "guard":
            _apply_guard(mutant)
    except Exception as error:
        outcome.send(("broken", f"{type(error).__name__}: {error}"))
        return
    for reference in references:
        try:
            resolve(reference)()
        except BaseException:
            outcome.send(("killed", reference.partition(":")[2]))
            return
    outcome.send(("survived", ""))


def judge(mutant: Mutant, references: Sequence[str], seconds: Mapping[str, float]) -> tuple[str, str]:
    """("killed", by which check), ("survived", "") or ("broken", why the mutant could not be made)."""
    if mutant.kind == "unseen":
        return "survived", ""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_live, args=(mutant, references, sender))
    process.start()
    sender.close()
    limit = PATIENCE_SECONDS + 5.0 * sum(seconds.get(r, 0.0) for r in references)
    try:
        outcome = receiver.recv() if receiver.poll(limit) else ("killed", "it does not end")
    except EOFError:
        outcome = ("killed", "it crashed")
    process.kill()
    process.join()
    return outcome


def run(claims: Mapping[str, Claim], only: str | None = None, jobs: int | None = None) -> int:
    """Judge all mutants, print one line each for those that survive and a table by claim. 0 if none survives."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    mutants, seconds = find(claims, only)
    counts: dict[str, dict[str, int]] = {}
    left = []
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool, Progress(console=console, transient=True) as bar:
        task = bar.add_task("mutants", total=len(mutants))
        work = ((m, _checks_of(claims, m.claims, seconds)) for m in mutants)
        for mutant, (outcome, by) in zip(
            mutants, pool.map(lambda pair: judge(pair[0], pair[1], seconds), work), strict=True
        ):
            for claim in mutant.claims:
                row = counts.setdefault(claim, {"killed": 0, "survived": 0, "broken": 0})
                row[outcome] += 1
            if outcome != "killed":
                left.append(f"{outcome}: {mutant} {by}".rstrip())
            bar.advance(task)
    table = Table(title="Mutants by claim", title_justify="left", show_edge=False)
    for name in ("claim", "killed", "survived", "broken"):
        table.add_column(name, justify="left" if name == "claim" else "right")
    for claim, row in counts.items():
        table.add_row(claim, str(row["killed"]), str(row["survived"]), str(row["broken"]))
    console.print(table)
    for line in left:
        console.print(line, markup=False)
    console.print(f"{len(mutants) - len(left)} of {len(mutants)} mutants killed, {len(left)} left")
    return 1 if left else 0
