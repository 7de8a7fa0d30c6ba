"""Limits of reusing low-rank adapters: bounds, constructions and their checks.

Importing this package loads nothing but itself; import the topic that you need,
``from theory.merging import dilution_limit``. Topics: ``adapters``,
``approximation``, ``networks``, ``facts``, ``merging``, ``routing``,
``composition``. The type of an update is :class:`theory.lowrank.LowRank`; the
claims behind the functions stand in ``theory/claims.toml``.

Letters used everywhere: ``W`` (out x in) a frozen weight, ``B`` (out x r) and
``A`` (r x in) the factors of an update ``scale * B @ A``, ``K`` (in x N) keys as
columns, ``D`` (out x N) wanted changes of the outputs at the keys.
"""

__version__ = "0.1.0"
