"""What single experts foretell, fixed before what it foretells is scored."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

from empirical.engine.records import canonical
from empirical.engine.settings import Table, as_json

T = TypeVar("T")


class Sealed(Table, Generic[T]):
    """A value as it was fixed before the outcome, and the SHA-256 of its canonical JSON."""

    value: T
    sha256: str


def seal(value: T) -> Sealed[T]:
    """Fix a value. Raises ValueError for one that JSON cannot hold."""
    return Sealed(value=value, sha256=hashlib.sha256(canonical(as_json(value)).encode()).hexdigest())
