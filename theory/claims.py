"""Strict loader of the registry ``theory/claims.toml``.

The registry is the only index: a claim's id is its key here, its Coq theorem, its test and its LaTeX label.
There is no status field; a claim's rung on the ladder is computed by :mod:`theory.verify`.
"""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

REGISTRY = Path(__file__).with_name("claims.toml")
KINDS = ("theorem", "construction", "hypothesis")
_REFERENCE = re.compile(r"[a-z_][\w.]*:[A-Za-z_][\w.]*")


class RegistryError(ValueError):
    """The registry is not what it must be; one line says where and why."""


@dataclass(frozen=True)
class Sentence:
    """One sentence of a claim: proved by theorems, or one line says why not; exactly one of the three is there."""

    #: TeX
    tex: str
    #: theorems that together say no less than the sentence, of this claim or of another
    theorems: tuple[str, ...] = ()
    #: why a sentence of mathematics names no theorem
    unproved: str = ""
    #: why the sentence is one for experiments, not for proof
    measured: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim. Strings are plain text, except `assumptions` and the sentences, which are TeX."""

    id: str
    topic: str
    title: str
    kind: str
    #: numbered from 1 wherever they are shown
    sentences: tuple[Sentence, ...]
    assumptions: tuple[str, ...]
    source: str
    code: tuple[str, ...]
    symbolic: tuple[str, ...]
    numeric: tuple[str, ...]
    #: theorem name -> what it says; all live in proofs/<topic>.v
    theorems: Mapping[str, str] = field(default_factory=dict)
    #: why a layer is not planned: layer -> reason
    none_planned: Mapping[str, str] = field(default_factory=dict)
    #: ids of claims that this one rests on
    uses: tuple[str, ...] = ()

    @property
    def checks(self) -> tuple[str, ...]:
        """All check references, symbolic first."""
        return self.symbolic + self.numeric

    @property
    def mathematics(self) -> tuple[Sentence, ...]:
        """The sentences that can be proved."""
        return tuple(s for s in self.sentences if not s.measured)

    @property
    def proved(self) -> int:
        """How many sentences name theorems."""
        return sum(bool(s.theorems) for s in self.sentences)

    @property
    def whole(self) -> bool:
        """Whether every sentence that can be proved names theorems."""
        return self.proved == len(self.mathematics)


_LISTS = {"assumptions", "code", "symbolic", "numeric", "uses"}
_TABLES = {"theorems", "none_planned"}


def _entry(claim_id: str, raw: Any) -> Claim:
    where = f"claims.toml [{claim_id}]"
    if not isinstance(raw, dict):
        raise RegistryError(f"{where}: expected a table, got {type(raw).__name__}")
    known = {f.name for f in fields(Claim)} - {"id"}
    unknown = sorted(set(raw) - known)
    if unknown:
        raise RegistryError(f"{where}: expected only known keys, got {', '.join(unknown)}")
    missing = sorted(f.name for f in fields(Claim) if f.name in known - set(raw) and f.name not in _optional())
    if missing:
        raise RegistryError(f"{where}: expected the keys {', '.join(missing)}, got none")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key in _LISTS:
            if not (isinstance(value, list) and all(isinstance(v, str) and v for v in value)):
                raise RegistryError(f"{where}.{key}: expected a list of strings, got {value!r}")
            values[key] = tuple(value)
        elif key in _TABLES:
            if not (isinstance(value, dict) and all(isinstance(v, str) and v for v in value.values())):
                raise RegistryError(f"{where}.{key}: expected a table of strings, got {value!r}")
            values[key] = dict(value)
        elif key == "sentences":
            if not (isinstance(value, list) and value):
                raise RegistryError(f"{where}.sentences: expected a list of tables, got {value!r}")
            values[key] = tuple(_sentence(f"{where}.sentences[{i}]", raw) for i, raw in enumerate(value, start=1))
        elif isinstance(value, str) and value.strip():
            values[key] = value.strip()
        else:
            raise RegistryError(f"{where}.{key}: expected text, got {value!r}")
    claim = Claim(id=claim_id, **values)
    if claim.kind not in KINDS:
        raise RegistryError(f"{where}.kind: expected one of {', '.join(KINDS)}, got {claim.kind!r}")
    for reference in (*claim.code, *claim.checks):
        if not _REFERENCE.fullmatch(reference):
            raise RegistryError(f"{where}: expected references module:name, got {reference!r}")
    for reference in claim.checks:
        stem = reference.partition(":")[0].rpartition(".")[2]
        if stem != claim.topic:
            raise RegistryError(f"{where}.topic: expected {stem}, the file of its checks, got {claim.topic!r}")
    return claim


def _sentence(where: str, raw: Any) -> Sentence:
    reasons = [f.name for f in fields(Sentence) if f.name != "tex"]
    if not (isinstance(raw, dict) and len(raw) == 2 and "tex" in raw and set(raw) & set(reasons)):
        raise RegistryError(f"{where}: expected tex and one of {', '.join(reasons)}, got {raw!r}")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        is_list = key == "theorems"
        texts = value if is_list and isinstance(value, list) else [] if is_list else [value]
        if not (texts and all(isinstance(text, str) and text.strip() for text in texts)):
            raise RegistryError(f"{where}.{key}: expected {'a list of names' if is_list else 'text'}, got {value!r}")
        values[key] = tuple(value) if is_list else " ".join(value.split())
    return Sentence(**values)


def _optional() -> set[str]:
    return {"theorems", "none_planned", "uses"}


def load(path: Path = REGISTRY) -> dict[str, Claim]:
    """The registry as id -> :class:`Claim`, in file order.

    Raises:
        RegistryError: unreadable TOML, unknown or missing keys, a `uses` that names no claim or runs in a circle,
            a theorem name registered twice, named by no sentence of its claim, or named by one and not registered.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RegistryError(f"{path.name}: expected readable TOML, got: {error}") from error
    claims = {claim_id: _entry(claim_id, entry) for claim_id, entry in raw.items()}
    _check_uses(claims)
    owner: dict[str, str] = {}
    for claim in claims.values():
        for theorem in claim.theorems:
            if theorem in owner:
                raise RegistryError(
                    f"claims.toml [{claim.id}.theorems]: expected {theorem} once, got it in {owner[theorem]} too"
                )
            owner[theorem] = claim.id
    for claim in claims.values():
        named = [theorem for sentence in claim.sentences for theorem in sentence.theorems]
        for theorem in named:
            if theorem not in owner:
                raise RegistryError(f"claims.toml [{claim.id}.sentences]: expected a registered theorem, got {theorem}")
        for theorem in claim.theorems:
            if theorem not in named:
                raise RegistryError(f"claims.toml [{claim.id}.theorems]: expected a sentence for {theorem}, got none")
    return claims


def topics(claims: Mapping[str, Claim]) -> list[str]:
    """File stems, the same in every folder, in the order of the registry."""
    return list(dict.fromkeys(claim.topic for claim in claims.values()))


def _check_uses(claims: Mapping[str, Claim]) -> None:
    done: set[str] = set()

    def visit(claim_id: str, path: tuple[str, ...]) -> None:
        if claim_id in path:
            raise RegistryError(f"claims.toml: expected no circle in uses, got {' -> '.join((*path, claim_id))}")
        if claim_id in done:
            return
        for used in claims[claim_id].uses:
            if used not in claims:
                raise RegistryError(f"claims.toml [{claim_id}].uses: expected a claim id, got {used!r}")
            visit(used, (*path, claim_id))
        done.add(claim_id)

    for claim_id in claims:
        visit(claim_id, ())


def resolve(reference: str) -> Any:
    """The object behind ``module:name.attribute``.

    Raises:
        RegistryError: the module or the attribute does not exist.
    """
    module_name, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise  # the module is there, something that it needs is not installed
        raise RegistryError(f"{reference}: expected a module {module_name}, got none") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise RegistryError(f"{reference}: expected {part} in {module_name}, got none")
        found = getattr(found, part)
    return found
