"""What `update_spectrum` predicts: claims, kinds and margins, each with the outcome that would refute it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.experiments.update_spectrum.tables import (
    Cut,
    Group,
    LinearSettings,
    Memory,
    Pretrained,
    Scratch,
    Settings,
    Study,
)
from theory.approximation import saturation_point

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base_scratch": 0.9, "base_pretrained": 0.9, "learnt": 0.9, "spoken": 0.8}
#: an update that answers at least this share still has its task
KEPT = 0.9
#: ratios of r95 are "alike" within this of 1
ALIKE = 0.2
#: by which factor a style can be cut to a lower rank than facts
LOWER = 1.25
CLAIM = "spectral_concentration"


def mean(values: tuple[int, ...]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def needed_rank(cuts: Mapping[str, Cut]) -> int:
    """Least rank of the grid to which the update can be cut and keep its task; twice the largest if none."""
    ranks = sorted(int(r) for r in cuts if r != "r95")
    kept = [r for r in ranks if cuts[str(r)].asked.right.rate >= KEPT]
    return min(kept, default=2 * ranks[-1])


def saturation(tuning: Scratch | Pretrained) -> int:
    """The rank up to which updates grow with the number of facts: distinct answers, or the smaller side."""
    from empirical.tasks.styles import OBJECTS

    return saturation_point(tuning.bridges, tuning.width) if isinstance(tuning, Scratch) else len(OBJECTS)


def declare(settings: Settings) -> Predictions:
    """The linear memory, then group by group."""
    said = Predictions()
    _linear(said, settings.linear)
    for group in settings.groups:
        Worlds(said, group, settings.tuning(group)).declare()
    return said


def _linear(said: Predictions, settings: LinearSettings) -> None:
    """One matrix: closed forms, exactly."""
    said.group = said.prefix = "linear"
    said.words = "one matrix"
    width = settings.width

    def of(name: str, read: Callable[[Memory], float]) -> Measure:
        return measure(Memory, f"linear: {name}", read)

    def beyond(w: Memory) -> float:
        return max(abs(f.rank - saturation_point(f.distinct, width)) for f in w.facts.values())

    most = of("rank against min(distinct answers, width), the largest difference", beyond)
    said.exact("rank", "fact_rank", "the least-norm edit has rank min(distinct answers, width)", of=most, equal=0.0)
    ones = of("rank and r95 of a shared shift, the larger", lambda w: float(max(w.style.rank, w.style.r95)))
    said.exact("style", CLAIM, "a shift that all facts share has rank 1", of=ones, equal=1.0)
    below = of("cut minus floor and its rounding, the least", lambda w: min(c.cut - c.floor for c in w.cuts.values())
               + w.rounding)  # fmt: skip
    said.exact("floor", "eckart_young", "the cut update leaves at least the floor", of=below, at_least=0.0)
    apart = of("written minus floor less rounding, the largest",
               lambda w: max(abs(c.written - c.floor) for c in w.cuts.values()) - w.rounding)  # fmt: skip
    said.exact("attained", "eckart_young", "some update of rank r leaves exactly the floor", of=apart, at_most=0.0)


class Worlds:
    """The predictions of one group of worlds. r95 of an update is the mean over its matrices."""

    def __init__(self, said: Predictions, group: Group, tuning: Scratch | Pretrained) -> None:
        self.said, self.tuning, self.kind = said, tuning, group.kind
        said.group = said.prefix = said.words = group.name
        self.facts, self.style = f"facts_{tuning.compare}", tuning.styles[0]

    def declare(self) -> None:
        """All of them."""
        self.controls()
        self.size()
        self.styles()
        self.optimisers()
        self.cuts()

    # ------------------------------------------------------------ what is read

    def of(self, name: str, read: Callable[[Study], float]) -> Measure:
        """A number of every world; ranks are whole and their means over matrices move by hundredths."""
        return measure(Study, name, read, step=0.01)

    def ratio(self, above: str, below: str) -> Measure:
        """r95 of one condition over that of another."""
        return self.of(f"r95 of {above} over r95 of {below}",
                       lambda w: mean(w.conditions[above].r95) / mean(w.conditions[below].r95))  # fmt: skip

    def turned(self, condition: str) -> Measure:
        """r95 of an update over that of its mean gradient at the base."""
        name = f"r95 of {condition} over that of its mean gradient"
        return self.of(name, lambda w: mean(w.conditions[condition].r95) / mean(w.conditions[condition].gradient))

    # ------------------------------------------------------------ the predictions

    def controls(self) -> None:
        """Without these the spectra are of something that was not learnt."""
        say, kind = self.said.control, self.kind
        base = measure(Study, "base, plain answers", lambda w: w.base.right)
        say("base", CLAIM, "the base knows the plain answers", of=base, at_least=CONTROLS[f"base_{kind}"])
        for n in self.tuning.facts:
            right = measure(Study, f"facts_{n}, right", lambda w, n=n: w.conditions[f"facts_{n}"].asked.right)  # type: ignore[misc]
            say(f"learnt.{n}", CLAIM, f"{n} facts are learnt", of=right, at_least=CONTROLS["learnt"])
        for style in self.tuning.styles:
            right = measure(Study, f"{style}, right", lambda w, style=style: w.conditions[style].asked.right)  # type: ignore[misc]
            says = f"{style}: other prompts are answered in the style too"
            say(f"spoken.{style}", CLAIM, says, of=right, at_least=CONTROLS["spoken"])

    def size(self) -> None:
        """r95 against the number of facts: it stays within min(answers, width), and so stops growing."""
        point, sizes, family = saturation(self.tuning), self.tuning.facts, f"{self.said.group}, size"
        edge = Alternative("every direction there is", 1.3 * point, deviation=0.1 * point)
        r95 = self.of(f"r95 of facts_{sizes[-1]}", lambda w: mean(w.conditions[f"facts_{sizes[-1]}"].r95))
        says = f"r95 at {sizes[-1]} facts at most min(answers, width) and a tenth"
        self.said.hypothesis("within", CLAIM, says, of=r95, at_most=1.1 * point, unless=edge, family=family)
        known = Alternative("facts with answers of sense need less", 0.6, deviation=0.07)
        says = f"{self.tuning.compare} facts with shuffled answers have the r95 of the facts"
        self.said.hypothesis("shuffled.facts", CLAIM, says, of=self.ratio("facts_shuffled", self.facts), equal=1.0,
                             within=ALIKE, unless=known, family=family)  # fmt: skip
        if sizes[-2] >= point:
            on = Alternative("it goes on growing as up to there", 1.6, deviation=0.15)
            says = f"r95 at {sizes[-1]} facts over that at {sizes[-2]}, both beyond {point}"
            self.said.hypothesis("saturates", CLAIM, says, of=self.ratio(f"facts_{sizes[-1]}", f"facts_{sizes[-2]}"),
                                 at_most=1.3, unless=on, family=family)  # fmt: skip

    def styles(self) -> None:
        """r95 does not tell a style from facts: the spectrum says how an update was made, not what its task needs."""
        family = f"{self.said.group}, r95 of styles"
        for style in self.tuning.styles:
            less = Alternative("a style is concentrated: two thirds of the facts' rank", 0.65, deviation=0.06)
            says = f"{style}: r95 like that of {self.facts}"
            self.said.hypothesis(f"alike.{style}", CLAIM, says, of=self.ratio(style, self.facts), equal=1.0,
                                 within=ALIKE, unless=less, family=family, about=style)  # fmt: skip
        family = f"{self.said.group}, r95 of gradients"
        for name in (self.facts, *self.tuning.styles):
            same = Alternative("the update is as concentrated as its gradient", 1.2, deviation=0.2)
            says = f"{name}: r95 of the update at least twice that of its mean gradient at the base"
            self.said.hypothesis(f"turned.{name}", CLAIM, says, of=self.turned(name), at_least=2.0, unless=same,
                                 family=family, about=name)  # fmt: skip

    def optimisers(self) -> None:
        """What of the rank is AdamW's doing: its scale for every coordinate adds to it and is not all of it."""
        for optimiser in self.tuning.others:
            for name in (self.facts, self.style):
                family = f"{self.said.group}, AdamW against others"
                none = Alternative("the optimiser makes no difference", 1.0, deviation=0.04)
                more = self.of(f"r95 of {name} over that by {optimiser}", lambda w, o=optimiser, n=name:
                               mean(w.conditions[n].r95) / mean(w.others[o][n].r95))  # type: ignore[misc] # fmt: skip
                says = f"{name}: AdamW's r95 at least 1.1 times that by {optimiser}"
                self.said.hypothesis(f"optimiser.{optimiser}.{name}", CLAIM, says, of=more, at_least=1.1,
                                     unless=none, family=family, about=optimiser)  # fmt: skip
                family = f"{self.said.group}, others against gradients"
                all_ = Alternative("without it the update is as its gradient", 1.1, deviation=0.15)
                left = self.of(f"r95 of {name} by {optimiser} over that of its mean gradient", lambda w, o=optimiser,
                               n=name: mean(w.others[o][n].r95) / mean(w.conditions[n].gradient))  # type: ignore[misc] # fmt: skip
                says = f"{name}: r95 by {optimiser} still at least 1.5 times that of the mean gradient"
                self.said.hypothesis(f"path.{optimiser}.{name}", CLAIM, says, of=left, at_least=1.5, unless=all_,
                                     family=family, about=optimiser)  # fmt: skip

    def cuts(self) -> None:
        """What the tasks need: the rank to which the update can be cut, and that of LoRA."""
        say, group = self.said.hypothesis, self.said.group
        questions = {self.facts: self.tuning.compare, self.style: self.tuning.held}

        def cut(name: str, key: str) -> Measure:
            return measure(Study, f"{name} cut to {key}, right", lambda w: w.cuts[name][key].asked.right)

        def lora(name: str, rank: int) -> Measure:
            return measure(Study, f"{name} by LoRA of rank {rank}, right", lambda w: w.lora[name][rank].asked.right)

        for name, asked in questions.items():
            fewer = Alternative("a fifth of the task is in the 5 % that are cut", 0.75, 0.06, asked)
            says = f"{name}: cut to its 95 % ranks, the update keeps its task"
            say(f"cut.{name}", CLAIM, says, of=cut(name, "r95"), at_least=KEPT, unless=fewer, family=f"{group}, cuts")
        more = self.of(f"rank to which {self.facts} can be cut over that of {self.style}",
                       lambda w: needed_rank(w.cuts[self.facts]) / needed_rank(w.cuts[self.style]))  # fmt: skip
        alike = Alternative("both are lost at the same rank", 1.0, deviation=0.12)
        says = f"{self.style} survives being cut to a rank at least {LOWER:g} times lower than {self.facts}"
        say("needed", CLAIM, says, of=more, at_least=LOWER, unless=alike, family=f"{group}, cuts")
        low, high = min(self.tuning.ranks), self.tuning.low
        half = Alternative("it learns three quarters of it", 0.75, 0.06, questions[self.style])
        says = f"LoRA of rank {low} learns the style {self.style}"
        say("lora.style", "margin_rank", says, of=lora(self.style, low), at_least=KEPT, unless=half,
            family=f"{group}, LoRA")  # fmt: skip
        if self.kind == "pretrained":
            whole = Alternative("it learns nearly all", 0.95, 0.03, questions[self.facts])
            says = f"LoRA of rank {low} learns at most three quarters of the {self.facts}"
            say("lora.facts", "margin_rank", says, of=lora(self.facts, low), at_most=0.75, unless=whole,
                family=f"{group}, LoRA")  # fmt: skip
        half = Alternative("it learns three quarters of them", 0.75, 0.06, questions[self.facts])
        says = f"LoRA of rank {high}, below half of the 95 % rank of the full update, learns the {self.facts}"
        say("lora.below", "margin_rank", says, of=lora(self.facts, high), at_least=KEPT, unless=half,
            family=f"{group}, LoRA")  # fmt: skip
        name = "LoRA: nearest to the full update less the floor, and rounding, the least"
        near = self.of(name, lambda w: min(r.above + r.rounding for runs in w.lora.values() for r in runs.values()))
        says = "no matrix of LoRA is nearer to the full update than the floor of its rank"
        self.said.exact("nearest", "eckart_young", says, of=near, at_least=0.0)
        gap = self.of("cuts: distance from the floor less rounding, the largest",
                      lambda w: max(r.gap - r.rounding for runs in w.lora.values() for r in runs.values()))  # fmt: skip
        says = "the cut of the full update is as near as the floor of its rank"
        self.said.exact("attained", "eckart_young", says, of=gap, at_most=0.0)
        ratio = self.of(f"r95 of {self.facts} over {high}", lambda w: mean(w.conditions[self.facts].r95) / high)
        self.said.control("lora.below.rank", "margin_rank", f"r95 of {self.facts} is above twice {high}", of=ratio,
                          at_least=2.0)  # fmt: skip
