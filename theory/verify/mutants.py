"""Change every bound, every step behind it and every assumption check in turn; see whether a check notices.

What is changed stands in :mod:`theory.verify.mutations`: the values that registered functions return, and the code of
every function of ``theory`` that a check reaches. A mutant is killed when at least one check of a claim that uses the
function fails. Each mutant lives in a forked process of its own, so nothing on disk changes.

A change that makes no difference anywhere is listed in ``equivalent.toml`` with the reason; an entry that a check
contradicts, or that no place of the code answers to any more, is counted as left.

All of them take hours, so verdicts are kept: one holds until something that its checks run through is changed.
"""

from __future__ import annotations

import ast
import cProfile
import functools
import hashlib
import importlib
import inspect
import json
import math
import multiprocessing
import os
import resource
import sys
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from theory import checks
from theory.claims import Claim, RegistryError, resolve
from theory.provenance import cache_folder, commit
from theory.verify.mutations import changed, leaves, operations_for, replaced, sites

#: a mutant with which a check takes so much more processor time than without, and five times its own, is killed
PATIENCE_SECONDS = 5.0
#: a mutant that asks for more memory than this beyond what is there is killed
MEMORY = 2 << 30
KINDS = ("value", "unseen", "guard", "tolerance", "operator", "constant")
EQUIVALENT = Path(__file__).with_name("equivalent.toml")
_MACHINERY = ("theory.checks", "theory.verify", "theory.claims", "theory.console", "theory.provenance")
_FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Mutant:
    """One change: where, what, and the checks that must notice, fastest first."""

    module: str
    function: str
    line: int
    what: str
    #: of `KINDS`: "unseen" has nothing to change, since no check looks at it; those after it are of the code
    kind: str
    claims: tuple[str, ...]
    checks: tuple[str, ...]
    #: seconds of processor time, check by check, after which it counts as one that does not end
    limits: tuple[float, ...] = ()
    #: of a value: (path into the returned value, operation); of the code: (index of the site,)
    site: tuple[Any, ...] = ()
    #: all code that its checks run through: what a verdict rests on
    code: str = ""

    @property
    def place(self) -> str:
        """``module:function``."""
        return f"{self.module}:{self.function}"

    @property
    def key(self) -> str:
        """The same for as long as a verdict holds."""
        text = f"{self.place} {self.what} {self.site} {sorted(self.checks)} {self.code}"
        return hashlib.sha256(text.encode()).hexdigest()

    def __str__(self) -> str:
        return f"{self.place} line {self.line}: {self.kind}: {self.what}"


@dataclass
class Survey:
    """What one run of the unchanged checks shows."""

    #: check -> the functions that it reaches, "module:name"
    reached: dict[str, set[str]] = field(default_factory=dict)
    #: registered function -> path into what it returned -> operations
    returned: dict[str, dict[tuple[Any, ...], set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


# ---- what there is to change ----


def _functions(module: ModuleType) -> Iterator[tuple[str, FunctionType]]:
    """Functions and methods that are written in this module, with their dotted names."""

    def plain(raw: Any) -> Any:
        raw = raw.__func__ if isinstance(raw, (staticmethod, classmethod)) else raw
        return inspect.unwrap(raw.fget if isinstance(raw, property) and raw.fget else raw) if callable(raw) else raw

    for name, value in list(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        own = {f"{name}.{key}": raw for key, raw in vars(value).items()} if inspect.isclass(value) else {name: value}
        for dotted, raw in own.items():
            function = plain(raw.fget if isinstance(raw, property) else raw)
            if isinstance(function, FunctionType) and function.__module__ == module.__name__:
                yield dotted, function


def _modules(claims: Mapping[str, Claim]) -> list[ModuleType]:
    """Those that the claims name, and what they import from ``theory``, directly or not."""
    names = list(dict.fromkeys(r.partition(":")[0] for c in claims.values() for r in c.code))
    for name in names:
        for value in vars(importlib.import_module(name)).values():
            origin = value.__name__ if isinstance(value, ModuleType) else str(getattr(value, "__module__", ""))
            if origin.startswith("theory.") and not origin.startswith(_MACHINERY) and origin not in names:
                names.append(origin)
    return [importlib.import_module(name) for name in names]


def _checking() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(checks.__name__)]


@functools.cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def _definition(module: ModuleType, function: FunctionType) -> ast.FunctionDef | None:
    """A fresh tree of the function; None where it is not written out (as the methods of a named tuple)."""
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first == function.__code__.co_firstlineno:
                return node
    return None


@functools.cache
def _outline(module: ModuleType) -> str:
    """What a module holds beside its functions: constants, classes."""
    body = ast.parse(_source(module)).body
    return "\n".join(ast.unparse(node) for node in body if not isinstance(node, (ast.FunctionDef, ast.ImportFrom)))


def _texts(modules: Sequence[ModuleType]) -> Callable[[frozenset[str]], str]:
    """A digest of the text of functions, "module:name", and of the modules around them."""
    functions = {f"{module.__name__}:{name}": function for module in modules for name, function in _functions(module)}

    @functools.cache
    def digest(places: frozenset[str]) -> str:
        around = sorted({place.partition(":")[0] for place in places})
        texts = [inspect.getsource(functions[place]) for place in sorted(places)]
        texts += [_outline(importlib.import_module(name)) for name in around]
        return hashlib.sha256("\n".join(texts).encode()).hexdigest()

    return digest


def _owner(reference: str) -> tuple[Any, str]:
    module_name, _, path = reference.partition(":")
    *outer, name = path.split(".")
    owner: Any = importlib.import_module(module_name)
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def _replace_everywhere(owner: Any, name: str, old: Any, new: Any) -> None:
    """Bind `new` wherever `old` is bound: in its own module or class and where others imported it."""
    raw = inspect.getattr_static(owner, name)
    setattr(owner, name, staticmethod(new) if isinstance(raw, staticmethod) else new)
    for module in [m for key, m in list(sys.modules.items()) if key.partition(".")[0] == "theory" and m]:
        for key, bound in list(vars(module).items()):
            if bound is old:
                setattr(module, key, new)


# ---- surveying ----


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


def _survey_one(check: str, names: Mapping[tuple[str, int], str], code: Sequence[str]) -> Survey:
    """Run one check in a process of its own."""
    found = Survey(returned={reference: {} for reference in code})
    for reference in code:
        owner, name = _owner(reference)
        old = getattr(owner, name)
        _replace_everywhere(owner, name, old, _recording(old, found.returned[reference]))
    calls = cProfile.Profile(subcalls=False, builtins=False)
    started = time.process_time()
    try:
        calls.runcall(resolve(check))
    except AssertionError as error:
        raise RegistryError(f"{check}: expected to pass on the unchanged code, got: {error}") from error
    found.seconds[check] = time.process_time() - started
    codes = [entry.code for entry in calls.getstats() if not isinstance(entry.code, str)]
    places = {(code.co_filename, code.co_firstlineno) for code in codes}
    found.reached[check] = {names[at] for at in places if at in names}
    return found


def survey(claims: Mapping[str, Claim], jobs: int | None = None) -> Survey:
    """Run every check once on the unchanged code.

    Raises:
        RegistryError: a check fails there (mutants would mean nothing then), or a claim names no function under `code`.
    """
    code = list(dict.fromkeys(r for c in claims.values() for r in c.code))
    for reference in code:
        owner, name = _owner(reference)
        if not isinstance(getattr(owner, name), FunctionType):
            got = type(getattr(owner, name)).__name__
            raise RegistryError(f"{reference}: expected a function, got {got}")
    every = list(dict.fromkeys(r for c in claims.values() for r in c.checks))
    for check in every:
        resolve(check)
    names = {
        (function.__code__.co_filename, function.__code__.co_firstlineno): f"{module.__name__}:{name}"
        for module in (*_modules(claims), *_checking())
        for name, function in _functions(module)
    }
    whole = Survey(returned={reference: {} for reference in code})
    with _FORK.Pool(jobs, maxtasksperchild=1) as pool:  # a process each: what one has cached, another would not reach
        for found in pool.imap(functools.partial(_survey_one, names=names, code=code), every, chunksize=1):
            whole.reached |= found.reached
            whole.seconds |= found.seconds
            for reference, seen in found.returned.items():
                for path, operations in seen.items():
                    whole.returned[reference].setdefault(path, set()).update(operations)
    return whole


def find(claims: Mapping[str, Claim], jobs: int | None = None) -> list[Mutant]:
    """All mutants. A function that no claim names answers to all claims whose checks reach it.

    Raises:
        RegistryError: as :func:`survey`.
    """
    known = survey(claims, jobs)
    users: dict[str, list[str]] = {}
    for claim in claims.values():
        for reference in claim.code:
            users.setdefault(reference, []).append(claim.id)
    named = {reference.partition(":")[0] for reference in users}
    digest = _texts([*_modules(claims), *_checking()])
    mutants = []
    for module in _modules(claims):
        for name, function in _functions(module):
            place, line = f"{module.__name__}:{name}", function.__code__.co_firstlineno
            owners = users.get(place, list(claims))
            judges = [r for i in owners for r in claims[i].checks if place in known.reached[r]]
            judges = sorted(dict.fromkeys(judges), key=known.seconds.__getitem__)
            owners = [i for i in owners if place in users or not set(judges).isdisjoint(claims[i].checks)]
            node = _definition(module, function)
            if not judges:
                if module.__name__ in named and node is not None:
                    what = "no check reaches it"
                    mutants.append(Mutant(module.__name__, name, line, what, "unseen", tuple(owners), ()))
                continue
            limits = tuple(PATIENCE_SECONDS + 5.0 * known.seconds[r] for r in judges)
            code = digest(frozenset().union(*(known.reached[r] for r in judges)))
            make = functools.partial(
                Mutant, module.__name__, name, claims=tuple(owners), checks=tuple(judges), limits=limits, code=code
            )
            if place in users and not known.returned[place]:
                mutants.append(make(line=line, what="returns nothing that a check looks at", kind="unseen"))
            for path, operations in sorted(known.returned.get(place, {}).items(), key=str):
                where = ".".join(str(x) for x in path) or "value"
                mutants += [
                    make(line=line, what=f"returned {where} {o}", kind="value", site=(path, o))
                    for o in sorted(operations)
                ]
            for at, site in enumerate(sites(node) if node else ()):
                mutants.append(make(line=site.old.lineno, what=str(site), kind=site.kind, site=(at,)))
    return mutants


# ---- judging ----


def _apply(mutant: Mutant) -> None:
    """Change the living function; every reference to it sees the change, and nothing computed before is kept."""
    for module in [m for key, m in list(sys.modules.items()) if key.startswith("theory") and m]:
        for value in list(vars(module).values()):
            if hasattr(value, "cache_clear"):
                value.cache_clear()
    if mutant.kind == "value":
        owner, name = _owner(mutant.place)
        old = getattr(owner, name)
        path, operation = mutant.site
        new = functools.wraps(old)(lambda *a, **k: changed(old(*a, **k), path, operation))
        _replace_everywhere(owner, name, old, new)
        return
    module = importlib.import_module(mutant.module)
    function = dict(_functions(module))[mutant.function]
    node = _definition(module, function)
    assert node is not None
    node = replaced(node, list(sites(node))[mutant.site[0]])
    node.decorator_list = []
    namespace: dict[str, FunctionType] = {}
    body = ast.parse("from __future__ import annotations")
    body.body.append(node)
    exec(compile(ast.fix_missing_locations(body), f"<{mutant}>", "exec"), dict(vars(module)), namespace)
    function.__code__ = namespace[node.name].__code__


def _live(mutant: Mutant, outcome: Any) -> None:
    """In the forked process: apply the change, run the checks, send the name of the first that fails (or None)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    checks.shrinking = False
    try:
        _apply(mutant)
    except Exception as error:
        outcome.send(("broken", f"{type(error).__name__}: {error}"))
        return
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    for reference, limit in zip(mutant.checks, mutant.limits, strict=True):
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + limit), -1))
        try:
            resolve(reference)()
        except BaseException:
            outcome.send(("killed", reference.partition(":")[2]))
            return
    outcome.send(("survived", ""))


def judge(mutant: Mutant) -> tuple[str, str]:
    """("killed", by which check), ("survived", "") or ("broken", why the mutant could not be made)."""
    if mutant.kind == "unseen":
        return "survived", ""
    receiver, sender = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_live, args=(mutant, sender))
    process.start()
    sender.close()
    try:
        outcome: tuple[str, str] = receiver.recv()
    except EOFError:
        outcome = ("killed", "it crashed, or did not end")
    process.join()
    return outcome


# ---- reporting ----


def verdicts() -> dict[str, tuple[str, str]]:
    """What earlier runs found, by :attr:`Mutant.key`; a last line that was cut short is left out."""
    path = _kept()
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return {key: (outcome, by) for key, outcome, by in (json.loads(line) for line in lines if line.endswith("]\n"))}


def _kept() -> Path:
    return cache_folder() / "mutants.jsonl"


def equivalent() -> dict[tuple[str, str], str]:
    """(place, change) -> why it makes no difference."""
    raw = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))
    return {(entry["function"], change): entry["reason"] for entry in raw["mutant"] for change in entry["changes"]}


def _turn(mutants: Sequence[Mutant]) -> list[Mutant]:
    """In an order that another commit would not give, so that short runs see other places every time."""
    head = commit()[0] or ""
    return sorted(mutants, key=lambda m: hashlib.sha256(f"{head} {m}".encode()).digest())


def run(
    claims: Mapping[str, Claim], only: Collection[str] | None = None, jobs: int | None = None,
    budget: float | None = None, kinds: Collection[str] = (),
) -> int:  # fmt: skip
    """Judge the mutants that concern the claims `only`, of these kinds (all by default), print those left and a table.

    With `budget`, as many as are begun in so many minutes, in an order that changes with the commit. A verdict of an
    earlier run that still holds is taken from there. 0 if none is left.
    """
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise RegistryError(f"--kind: expected some of {', '.join(KINDS)}, got {', '.join(unknown)}")
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    console = Console(width=None if sys.stdout.isatty() else 132, highlight=False)
    if only is not None and not only:
        return 0
    started = time.monotonic()
    known = equivalent()
    every = find(claims, jobs)
    stale = [f"listed, but no such place: {place}: {change}" for place, change in known
             if not any((m.place, m.what) == (place, change) for m in every)]  # fmt: skip
    mutants = [m for m in every if (only is None or not set(m.claims).isdisjoint(only)) and m.kind in (kinds or KINDS)]
    if budget is not None:
        mutants = _turn(mutants)
    counts: dict[str, dict[str, int]] = {}
    left = stale

    kept = verdicts()

    def outcome_of(mutant: Mutant) -> tuple[str, str] | None:
        late = budget is not None and time.monotonic() - started > 60 * budget
        return kept.get(mutant.key) or (None if late else judge(mutant))

    tried = before = 0
    _kept().parent.mkdir(parents=True, exist_ok=True)
    with (
        ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool,
        Progress(console=console, transient=True) as bar,
        _kept().open("a", encoding="utf-8") as record,
    ):
        task = bar.add_task("mutants", total=len(mutants))
        for mutant, found in zip(mutants, pool.map(outcome_of, mutants), strict=True):
            bar.advance(task)
            if found is None:
                continue
            outcome, by = found
            tried += 1
            before += mutant.key in kept
            if mutant.key not in kept and outcome != "broken":
                print(json.dumps((mutant.key, outcome, by)), file=record, flush=True)
            listed = (mutant.place, mutant.what) in known
            if listed and outcome == "survived":
                outcome = "equivalent"
            elif listed and outcome == "killed":
                outcome, by = "broken", f"listed as equivalent, but {by} notices"
            for claim in mutant.claims:
                row = counts.setdefault(claim, dict.fromkeys(("killed", "equivalent", "survived", "broken"), 0))
                row[outcome] += 1
            if outcome in ("survived", "broken"):
                left.append(f"{outcome}: {mutant} {by}".rstrip())
    table = Table(title="Mutants by claim", title_justify="left", show_edge=False)
    for name in ("claim", "killed", "equivalent", "survived", "broken"):
        table.add_column(name, justify="left" if name == "claim" else "right")
    for claim in (c for c in claims if c in counts and (only is None or c in only)):
        table.add_row(claim, *map(str, counts[claim].values()))
    console.print(table)
    for line in left:
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"{tried} of {len(mutants)} mutants tried ({before} before), {len(left)} left")
    return 1 if left else 0
