"""What an audit measured, as types: the report, its JSON form, and the schema of that form.

Norms are Frobenius norms of updates ``s B A`` unless said otherwise; totals are roots of sums of squares over modules.
Adapters are referred to by their index in ``adapters``. The texts below the fields are those of the schema, which
``python -m empirical.adapters.report`` writes beside this file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from empirical.adapters.files import write_text

SCHEMA = Path(__file__).with_name("audit.schema.json")

Count: TypeAlias = Annotated[int, Field(ge=0)]
Size: TypeAlias = Annotated[float, Field(ge=0)]


class _Strict:
    """The schema allows no other keys, and takes its texts from below the fields."""

    __pydantic_config__ = ConfigDict(extra="forbid", use_attribute_docstrings=True)


# ---------------------------------------------------------------- one module


@dataclass(frozen=True)
class PartReport(_Strict):
    """One adapter's update of one module."""

    adapter: Count
    r: Count
    """columns as stored"""
    scale: float
    rank: Count
    """numerical rank of the update"""
    stable_rank: Size
    rank95: Count
    """least rank with 95 % of the energy"""
    norm: Size
    spectral_norm: Size
    relative_norm: float | None
    """to the base weight"""
    singular_values: tuple[float, ...]


@dataclass(frozen=True)
class Overlap(_Strict):
    """Two subspaces."""

    share: Size
    """mean squared cosine of the principal angles"""
    chance: Size
    """its mean for independent random subspaces"""
    angles: tuple[float, ...]
    """principal angles in degrees, smallest first"""


@dataclass(frozen=True)
class Interference(_Strict):
    """What one update does to unit keys in the other's row space, relative to the most that the other does there."""

    bound: Size
    """s ||B||_2 ||A k|| at the worst key, an upper bound"""
    largest: Size
    """the exact maximum"""


@dataclass(frozen=True)
class PairReport(_Strict):
    """Two adapters in one module that both touch."""

    first: Count
    second: Count
    cosine: float
    """of the two updates"""
    keys: Overlap
    """row spaces"""
    outputs: Overlap
    """column spaces"""
    second_on_first: Interference
    first_on_second: Interference


@dataclass(frozen=True)
class SumReport(_Strict):
    """The wanted weighted sum."""

    norm: Size
    ranks: Count
    """sum of the ranks as stored"""
    rank: Count
    """rank of the sum: needed for an exact merge"""
    rank95: Count
    singular_values: tuple[float, ...]
    truncation: float | None
    """least relative error at options.rank"""


@dataclass(frozen=True)
class MeanReport(_Strict):
    """The uniform mean over all adapters."""

    norm: Size
    kept: tuple[float | None, ...]
    """per part: projection of the mean on the update, relative to it"""
    factor_error: float | None
    """of averaging both factors with weights 1/k, relative to the mean; null where ranks or scales differ"""
    factor_kept: tuple[float | None, ...] | None


@dataclass(frozen=True)
class ModuleCombination(_Strict):
    """One of peft's combination types in one module."""

    error: float | None
    """Frobenius norm of made minus wanted"""
    dropped: bool
    reason: str | None


@dataclass(frozen=True)
class ModuleReport(_Strict):
    """One module that some adapter touches."""

    name: str
    kind: Literal["linear", "embedding"]
    out: Count
    inner: Annotated[Count, Field(alias="in")]
    base_norm: float | None
    parts: tuple[PartReport, ...]
    keys_shared: float | None
    """largest share of row spaces over the pairs of parts"""
    pairs: tuple[PairReport, ...] | None
    """null for more than a few adapters, unless asked for (--pairs-by-module)"""
    merge: SumReport
    mean: MeanReport
    combinations: dict[str, ModuleCombination | None]
    """peft's combination types; null where the type as a whole is refused or skipped"""


# ---------------------------------------------------------------- all modules


@dataclass(frozen=True)
class AdapterTotal(_Strict):
    """One adapter over all its modules."""

    norm: Size
    relative_norm: float | None
    mean_rank: Size
    mean_stable_rank: Size
    mean_rank95: Size
    kept_by_mean: float | None


@dataclass(frozen=True)
class InterferenceTotal(_Strict):
    """Over the common modules."""

    mean_largest: float | None
    largest: float | None
    bound: float | None


@dataclass(frozen=True)
class PairTotal(_Strict):
    """Two adapters over all modules; shares are means over the common ones."""

    first: Count
    second: Count
    common_modules: Count
    cosine: float
    keys_share: float | None
    keys_chance: float | None
    outputs_share: float | None
    outputs_chance: float | None
    second_on_first: InterferenceTotal
    first_on_second: InterferenceTotal


@dataclass(frozen=True)
class SumTotal(_Strict):
    """The weighted sum over all modules."""

    largest_rank: Count
    smallest_rank: Count
    compressed_modules: Count
    """modules in which the sum has a smaller rank than its parts together"""
    kept_rank: Count
    truncation: float | None


@dataclass(frozen=True)
class MeanTotal(_Strict):
    """The uniform mean over all modules."""

    adapters: Count
    kept: float
    """1/k"""
    factor_kept: float
    """1/k^2"""
    factor_error: float | None


@dataclass(frozen=True)
class Combination(_Strict):
    """One of peft's combination types over all modules."""

    peft: str
    """installed version"""
    error: float | None
    """relative to the wanted sum; null with a reason, or where the wanted sum is zero"""
    rank: int | None
    scale: float
    """of the combined adapter; not 1 where the first adapter is rank-stabilised"""
    random: bool
    """one draw of options.seed"""
    dropped: tuple[str, ...]
    """modules that peft would leave out without a word"""
    reason: str | None
    """why there is no error: peft's words, or not computed"""


@dataclass(frozen=True)
class Total(_Strict):
    """All modules together."""

    modules: Count
    norm: Size
    """of the wanted sum"""
    adapters: tuple[AdapterTotal, ...]
    pairs: tuple[PairTotal, ...]
    merge: SumTotal
    mean: MeanTotal
    combinations: dict[str, Combination]


# ---------------------------------------------------------------- probes


@dataclass(frozen=True)
class Probe(_Strict):
    """One question, asked of the base, of every adapter alone, of the weighted sum and of the uniform mean.

    A margin is the logit of the answer's first token minus that of the best rival, after the prompt.
    """

    prompt: str
    answer: str
    token: str
    """first token of the answer, which is what is scored"""
    base_margin: float
    margins: tuple[float, ...]
    """per adapter alone"""
    sum_margin: float
    added_margin: float
    """the sum's, if what each adapter adds to the logits by itself added up: foretold, not measured"""
    mean_margin: float
    best: Count
    """adapter with the largest margin"""
    deficit: float | None
    gain: float | None
    mean_limit: int | None
    """largest uniform mean that still answers, from gain and deficit; null where the base answers by itself"""
    disturbance: tuple[Size | None, ...]
    """per adapter: the most that it can do at the keys of this prompt, relative to what the best adapter does there,
    mean over shared modules; null for the best adapter"""


@dataclass(frozen=True)
class Answered(_Strict):
    """Probes whose margin is positive."""

    base: Count
    best_single: Count
    sum: Count
    added: Count
    """of the sum, if what each adapter adds to the logits by itself added up: foretold, not measured"""
    mean: Count


@dataclass(frozen=True)
class Advised(_Strict):
    """Weights of sum one with the largest least margin, if what the adapters add to the logits adds up."""

    weights: tuple[float, ...]
    """per adapter"""
    foretold: float
    """least margin that they then have"""
    ceiling: float
    """least margin that no weights of sum one then exceed"""
    answered: Count
    """probes whose margin is positive under these weights, measured"""


@dataclass(frozen=True)
class Probes(_Strict):
    """All questions of a probe file."""

    lines: tuple[Probe, ...]
    answered: Answered
    advised: Advised | None
    """null for one adapter"""


# ---------------------------------------------------------------- the report


@dataclass(frozen=True)
class Options(_Strict):
    """What was asked for."""

    weights: tuple[float, ...]
    rank: Count
    """rank at which the loss of a truncated merge is reported"""
    seed: Count
    density: float
    dense: bool
    dense_limit: Count
    base: str | None


@dataclass(frozen=True)
class AdapterSummary(_Strict):
    """An adapter as it is stored."""

    name: str
    base: str | None
    ranks: tuple[Count, ...]
    """ranks as stored, distinct"""
    scales: tuple[float, ...]
    rslora: bool
    dtypes: tuple[str, ...]
    modules: Count
    parameters: Count
    notes: tuple[str, ...]
    """what was taken otherwise than it is written"""


@dataclass(frozen=True)
class Answer(_Strict):
    """What it comes to: one sentence each, null where there is nothing to say."""

    merge: str | None = None
    """can the wanted sum be made exactly, and where"""
    keep: str | None = None
    """what is left of each adapter"""
    disturb: str | None = None
    """who acts on what another reads"""
    waste: str | None = None
    """what is dead, doubled or dropped"""
    join: str | None = None
    """will facts of different adapters be joined"""
    do: str | None = None
    """what to do"""

    def lines(self) -> list[tuple[str, str]]:
        """(question, sentence) of all that there is to say."""
        return [(f.name, text) for f in fields(self) if (text := getattr(self, f.name)) is not None]


@dataclass(frozen=True)
class Sentence(_Strict):
    """A reason behind the answer; level limit is nothing that a merge could mend."""

    claim: str
    """id in the registry; lora-limits explain"""
    level: Literal["fine", "warning", "limit"]
    text: str
    limits: str


@dataclass(frozen=True)
class AuditReport(_Strict):
    """Report of lora-limits audit.

    Norms are Frobenius norms of updates s B A unless said otherwise; totals are roots of sums of squares over modules.
    Adapters are referred to by their index in adapters.
    """

    schema: Literal[2]
    """grows when a key changes its meaning or goes"""
    tool: dict[str, str]
    """versions by distribution"""
    options: Options
    answer: Answer
    adapters: tuple[AdapterSummary, ...]
    modules: tuple[ModuleReport, ...]
    total: Total
    probe: Probes | None
    verdict: tuple[Sentence, ...]
    """reasons behind the answer, each with its claim and limits"""


# ---------------------------------------------------------------- JSON


def as_json(report: AuditReport) -> str:
    """The report as strict JSON (no NaN, no infinity), with the keys of the schema."""
    plain = TypeAdapter(AuditReport).dump_python(report, by_alias=True, mode="json")
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


class _Untitled(GenerateJsonSchema):
    """Without a title made of every key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_text() -> str:
    """The JSON schema of :func:`as_json`, from the types above."""
    made = TypeAdapter(AuditReport).json_schema(by_alias=True, mode="serialization", schema_generator=_Untitled)
    return json.dumps({"$schema": GenerateJsonSchema.schema_dialect} | made, indent=1) + "\n"


if __name__ == "__main__":
    write_text(SCHEMA, schema_text())
