"""What `update_spectrum` predicts: claims, kinds and margins, each entry beside the figure that decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from empirical.engine.eager import Predictions
from empirical.engine.judge import Observed
from empirical.engine.records import Record
from empirical.experiments.update_spectrum.tables import (
    Cut,
    LinearCell,
    LinearSettings,
    Memory,
    ScratchCell,
    Settings,
    Study,
    StudyCell,
)
from theory.approximation import saturation_point

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base_scratch": 0.95, "base_pretrained": 0.9, "learnt": 0.9, "spoken": 0.8}
#: an update that answers at least this share still has its task
KEPT = 0.9
#: r95 at the largest number of facts over r95 at the one before is 1 up to this: four times the facts, no more rank
SATURATED = 0.25
#: r95 of one random table over that of another is 1 up to this
ALIKE = 0.15
CLAIM = "spectral_concentration"


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def needed_rank(cuts: Mapping[str, Cut]) -> int:
    """Least rank of the grid to which the update can be cut and keep its task; twice the largest if none."""
    ranks = sorted(int(r) for r in cuts if r != "r95")
    kept = [r for r in ranks if cuts[str(r)].asked.right.rate >= KEPT]
    return min(kept, default=2 * ranks[-1])


def predictions(settings: Settings, records: Sequence[Record[Any, Any]]) -> list[Observed]:
    """What was said, and what the worlds showed: the linear memory, then group by group."""
    linear = [r.metrics for r in records if isinstance(r.cell, LinearCell)]
    found: list[Observed] = _linear(settings.linear, linear) if linear else []
    for group in settings.groups:
        mine = [r for r in records if r.cell.group == group.name]
        if mine:
            found += Worlds(mine[0].cell, [r.metrics for r in mine]).said
    return found


def _linear(settings: LinearSettings, worlds: Sequence[Memory]) -> Predictions:
    """One matrix: closed forms, exactly; r95 of its updates by number of facts."""
    said = Predictions("linear", words="one matrix")
    rounding = max(w.rounding for w in worlds)
    each = [w.facts[n] for w in worlds for n in settings.facts]
    cut = [w.cuts[r] for w in worlds for r in settings.ranks]
    points = [float(saturation_point(f.distinct, settings.width)) for f in each]
    says = "the least-norm edit has rank min(distinct answers, width)"
    said.exact("rank", "fact_rank", says, of=[float(f.rank) for f in each], equal=points)
    ones = [float(rank) for w in worlds for rank in (w.style.rank, w.style.r95)]
    said.exact("style", CLAIM, "a shift that all facts share has rank 1", of=ones, equal=1.0)
    floors = [c.floor for c in cut]
    says = "the cut update leaves at least the floor of squared error"
    said.exact("floor", "eckart_young", says, of=[c.cut for c in cut], at_least=floors, within=rounding)
    says = "some update of rank r leaves exactly the floor"
    said.exact("attained", "eckart_young", says, of=[c.written for c in cut], equal=floors, within=rounding)
    by_size = {n: [float(w.facts[n].r95) for w in worlds] for n in settings.facts}
    _growth(said, by_size, saturation_point(settings.answers, settings.width))
    return said


def _growth(said: Predictions, by_size: Mapping[int, Sequence[float]], point: int) -> None:
    """r95 against the number of facts: grows up to the saturation point, not beyond it, and stays within it."""
    sizes = sorted(by_size)
    for a, b in pairwise(sizes):
        pairs = list(zip(by_size[a], by_size[b], strict=True))
        if b <= point:
            gaps = [y - x for x, y in pairs]
            said.hypothesis(f"grows.{b}", CLAIM, f"r95 at {b} facts above that at {a}", of=gaps, above=0.0)
        elif a >= point:
            says = f"r95 at {b} facts over that at {a}, both beyond {point}"
            said.hypothesis(f"saturates.{b}", CLAIM, says, of=[y / x for x, y in pairs], equal=1.0, within=SATURATED)
    says = f"r95 at {sizes[-1]} facts at most min(answers, width)"
    said.hypothesis("within", CLAIM, says, of=by_size[sizes[-1]], at_most=float(point))


class Worlds:
    """The predictions of one group of worlds, `said`. r95 of an update is the mean over its matrices."""

    def __init__(self, cell: StudyCell, worlds: Sequence[Study]) -> None:
        self.cell, self.worlds = cell, worlds
        self.facts, self.style = f"facts_{cell.compare}", cell.styles[0]
        self.said = Predictions(cell.group, words=cell.group)
        self.controls()
        sizes = {n: self.ranks(f"facts_{n}") for n in cell.facts}
        _growth(self.said, sizes, saturation_point(self.answers(), self.width()))
        self.styles()
        self.cuts()

    def ranks(self, condition: str) -> list[float]:
        """Mean over matrices of the 95 % rank of the update, per world."""
        return [mean(w.conditions[condition].r95) for w in self.worlds]

    def answers(self) -> int:
        """Number of distinct answers to draw facts from."""
        from empirical.tasks.styles import OBJECTS

        return self.cell.bridges if isinstance(self.cell, ScratchCell) else len(OBJECTS)

    def width(self) -> int:
        """Smaller side of the matrices, up to which ranks can grow; the largest that a world shows."""
        return self.cell.width if isinstance(self.cell, ScratchCell) else self.answers()

    def controls(self) -> None:
        """Without these the spectra are of something that was not learnt."""
        say, worlds = self.said.control, self.worlds
        known = [w.base.right for w in worlds]
        say("base", CLAIM, "the base knows the plain answers", of=known, at_least=CONTROLS[f"base_{self.cell.kind}"])
        for n in self.cell.facts:
            counts = [w.conditions[f"facts_{n}"].asked.right for w in worlds]
            say(f"learnt.{n}", CLAIM, f"{n} facts are learnt", of=counts, at_least=CONTROLS["learnt"])
        for style in self.cell.styles:
            counts = [w.conditions[style].asked.right for w in worlds]
            says = f"{style}: other prompts are answered in the style too"
            say(f"spoken.{style}", CLAIM, says, of=counts, at_least=CONTROLS["spoken"])
        ratios = [x / y for x, y in zip(self.ranks("facts_shuffled"), self.ranks(self.facts), strict=True)]
        says = f"{self.cell.compare} facts with shuffled answers have the r95 of the facts"
        say("shuffled.facts", CLAIM, says, of=ratios, equal=1.0, within=ALIKE)

    def styles(self) -> None:
        """A style is less spread than as many facts, than its own gradient at the base, than its shuffled control."""
        facts, first, say = self.facts, self.style, self.said.hypothesis

        def gaps(style: str, other: Sequence[float]) -> list[float]:
            return [y - x for x, y in zip(self.ranks(style), other, strict=True)]

        for style in self.cell.styles:
            below = gaps(style, self.ranks(facts))
            say(f"style.{style}.facts", CLAIM, f"r95 of {style} below that of {facts}", of=below, above=0.0)
            below = gaps(style, [mean(w.conditions[style].gradient) for w in self.worlds])
            says = f"r95 of {style} below that of its mean gradient"
            say(f"style.{style}.gradient", CLAIM, says, of=below, above=0.0)
        below = gaps(first, self.ranks(f"{first}_shuffled"))
        says = f"r95 of {first} below that of the same with shuffled answers"
        say("shuffled.style", CLAIM, says, of=below, above=0.0)
        for name, against in (("facts", facts), ("shuffled", f"{first}_shuffled")):
            below = [float(needed_rank(w.cuts[against]) - needed_rank(w.cuts[first])) for w in self.worlds]
            says = f"{first} survives being cut to a lower rank than {against}"
            say(f"needed.{name}", CLAIM, says, of=below, above=0.0)

    def cuts(self) -> None:
        """Cut to its r95 an update keeps its task; LoRA does at least as well as the cut, at any rank."""
        both = (self.facts, self.style)
        for name in both:
            counts = [w.cuts[name]["r95"].asked.right for w in self.worlds]
            says = f"{name}: cut to its 95 % ranks, the update keeps its task"
            self.said.hypothesis(f"cut.{name}", CLAIM, says, of=counts, at_least=KEPT)
        for name in both:
            for r in self.cell.ranks:
                self.lora(name, r)
        below = self.below()
        if below is not None:
            counts = [w.lora[self.facts][below].asked.right for w in self.worlds]
            says = f"LoRA of rank {below}, below half the r95 of the full update, learns the {self.facts}"
            self.said.hypothesis("lora_below", "margin_rank", says, of=counts, at_least=KEPT)

    def lora(self, name: str, r: int) -> None:
        """LoRA of one rank beside the cut to it."""
        runs = [w.lora[name][r] for w in self.worlds]
        gains = [w.cuts[name][str(r)].taught.loss - run.taught.loss for w, run in zip(self.worlds, runs, strict=True)]
        says = f"{name}: LoRA of rank {r} has a loss no higher than the full update cut to it"
        self.said.hypothesis(f"lora.{name}.{r}", "eckart_young", says, of=gains, at_least=0.0)
        rounding = max(run.rounding for run in runs)
        says = f"{name}: no matrix of LoRA of rank {r} is nearer to the full update than the floor"
        above = [run.above for run in runs]
        self.said.exact(f"nearest.{name}.{r}", "eckart_young", says, of=above, at_least=0.0, within=rounding)
        says = f"{name}: the cut to rank {r} is as near as the floor"
        gap = [run.gap for run in runs]
        self.said.exact(f"attained.{name}.{r}", "eckart_young", says, of=gap, equal=0.0, within=rounding)

    def below(self) -> int | None:
        """The largest rank of LoRA below half the r95 of the full facts update, in every world; None if none is."""
        limit = min(self.ranks(self.facts)) / 2
        return max((r for r in self.cell.ranks if r < limit), default=None)
