"""Settings, cells and metrics of the experiment."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from empirical.engine.settings import Cell, Count, Table, read

# ---------------------------------------------------------------- settings


class Linear(Table):
    """One matrix (answers x width): numbers of facts, ranks to which its update is cut."""

    facts: tuple[int, ...]
    answers: int
    width: int
    ranks: tuple[int, ...]


class LinearSettings(Linear):
    """And its worlds."""

    worlds: int
    first_seed: int


class Tuning(Table):
    """Full fine-tuning and LoRA; see ``settings.toml``."""

    facts: tuple[int, ...]
    compare: int
    held: int
    styles: tuple[str, ...]
    steps: int
    batch: int
    rate: float
    cuts: tuple[int, ...]
    ranks: tuple[int, ...]
    lora_rate: float
    #: the rank of LoRA, below half of the 95 % rank of full updates on calibration worlds, that is to learn the facts
    low: int
    #: rate by optimiser, beside AdamW
    others: dict[str, float]

    @property
    def conditions(self) -> list[str]:
        """Names of everything that is fine-tuned on, in order."""
        facts = [f"facts_{n}" for n in self.facts]
        return [*facts, "facts_shuffled", *self.styles, f"{self.styles[0]}_shuffled", "known"]


class Scratch(Tuning):
    """A base that is trained from scratch."""

    bridges: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    base_steps: int
    base_batch: int
    base_rate: float


class Pretrained(Tuning):
    """A pretrained base: folder or hub id, empty for the packaged one; its last `layers` are trained (0: all)."""

    base: str
    layers: int


class Group(Table):
    """Worlds of one kind. Any other key changes a default of that kind."""

    model_config = ConfigDict(extra="allow")

    name: str
    kind: Literal["scratch", "pretrained"]
    worlds: int
    first_seed: int


class Settings(Table):
    """Of a profile."""

    linear: LinearSettings
    scratch: Scratch
    pretrained: Pretrained
    groups: tuple[Group, ...]

    def tuning(self, group: Group) -> Scratch | Pretrained:
        """The defaults of the group's kind with its own changes. Raises ValueError for an unknown key."""
        default: Scratch | Pretrained = self.scratch if group.kind == "scratch" else self.pretrained
        return read(type(default), default.model_dump() | (group.model_extra or {}), f"group {group.name}")


# ---------------------------------------------------------------- cells


class LinearCell(Linear, Cell):
    """One world of the linear memory."""

    kind: Literal["linear"] = "linear"
    group: Literal["linear"] = "linear"


class ScratchCell(Scratch, Cell):
    """One world with a base of its own."""

    kind: Literal["scratch"] = "scratch"
    group: str


class PretrainedCell(Pretrained, Cell):
    """One world in a pretrained base."""

    kind: Literal["pretrained"] = "pretrained"
    group: str


StudyCell = ScratchCell | PretrainedCell

# ---------------------------------------------------------------- metrics


class Edit(Table):
    """An update of one matrix: its rank, and the least rank that keeps 95 % of its energy."""

    rank: int
    r95: int


class FactsEdit(Edit):
    """And how many different answers its facts have."""

    distinct: int


class LinearCut(Table):
    """Errors relative to ||D||: of the update cut, of the cut of D written, and the floor."""

    cut: float
    written: float
    floor: float


class Memory(Table):
    """What a linear cell measures; facts by their number, cuts by rank."""

    facts: dict[int, FactsEdit]
    style: Edit
    cuts: dict[int, LinearCut]
    rounding: float


class Score(Table):
    """Mean loss per answer token, and the sentences with every answer token right."""

    loss: float
    right: Count


class Fits(Table):
    """Decay rates fitted to a spectrum, and the 95 % ranks that the closed forms give for them."""

    power: float
    power_r95: int
    exponential: float
    exponential_r95: int


class Spectra(Fits):
    """Of an update: r95 by module, norm of all, and the spectrum of one module relative to its largest value."""

    r95: tuple[int, ...]
    norm: float
    spectrum: tuple[float, ...]


class Condition(Spectra):
    """A full update: beside its spectra the 95 % ranks of the gradient at the base, and its scores."""

    gradient: tuple[int, ...]
    taught: Score
    asked: Score
    plain: Score


class Other(Table):
    """An update by another optimiser: r95 by module, and what it answers."""

    r95: tuple[int, ...]
    asked: Score


class Cut(Table):
    """Scores of an update of limited rank."""

    taught: Score
    asked: Score


class Nearness(Table):
    """How far updates of rank r stay from a full update, relative to it; see :func:`.run.nearness`."""

    above: float
    gap: float
    rounding: float


class Lora(Cut, Nearness):
    """Scores of LoRA of one rank, and how near it is to the full update."""


class Study(Table):
    """What the other cells measure; cuts and LoRA by condition and rank ("r95": each matrix at its own).

    `others` by optimiser and condition.
    """

    base: Score
    conditions: dict[str, Condition]
    cuts: dict[str, dict[str, Cut]]
    lora: dict[str, dict[int, Lora]]
    others: dict[str, dict[str, Other]]
