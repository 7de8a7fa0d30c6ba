"""Limits of reusing low-rank adapters: bounds, constructions and their checks.

Importing this package loads nothing but itself. Everything public can be taken
from it, ``from theory import dilution_limit``, and is loaded when it is asked
for: the type of an update, :class:`LowRank`, the registry, ``theory.claims``, and
every function that a claim in ``theory/claims.toml`` names (``dir(theory)``). The
functions live in one module per topic, ``theory.merging.dilution_limit``.

Letters used everywhere: ``W`` (out x in) a frozen weight, ``B`` (out x r) and
``A`` (r x in) the factors of an update ``scale * B @ A``, ``K`` (in x N) keys as
columns, ``D`` (out x N) wanted changes of the outputs at the keys.
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def _public() -> dict[str, str]:
    """Name -> the module that it is taken from; the registry says which functions are public."""
    from theory.claims import load

    references = [reference.split(":") for claim in load().values() for reference in claim.code]
    functions = {name: module for module, name in references if "." not in name}
    return {"LowRank": "theory.lowrank", "claims": "theory.claims"} | functions


def __dir__() -> list[str]:
    return sorted({*globals(), *_public()})


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return sorted(_public())
    module = None if name.startswith("_") else _public().get(name)
    if module is None:
        raise AttributeError(f"module 'theory' has no attribute {name!r}; dir(theory) lists what it has")
    found = importlib.import_module(module)
    return found if name == "claims" else getattr(found, name)
