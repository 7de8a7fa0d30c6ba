"""What `update_spectrum` predicts: claims, kinds and margins, each entry beside the figure that decides it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from empirical.engine import predictions as _book
from empirical.engine.judge import Prediction
from theory.approximation import saturation_point

#: smallest rates at which a positive control counts as positive; fixed on calibration worlds
CONTROLS = {"base_scratch": 0.95, "base_pretrained": 0.9, "learnt": 0.9, "spoken": 0.8}
#: an update that answers at least this share still has its task
KEPT = 0.9
#: r95 at the largest number of facts over r95 at the one before is 1 up to this: four times the facts, no more rank
SATURATED = 0.25
#: r95 of one random table over that of another is 1 up to this
ALIKE = 0.15


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean."""
    return sum(values) / len(values)


def needed_rank(cuts: Mapping[str, Any]) -> int:
    """Least rank of the grid to which the update can be cut and keep its task; twice the largest if none."""
    ranks = sorted(int(r) for r in cuts if r != "r95")
    kept = [r for r in ranks if _rate(cuts[str(r)]["asked"]["right"]) >= KEPT]
    return min(kept, default=2 * ranks[-1])


def _rate(count: Sequence[int]) -> float:
    return count[0] / count[1]


def predictions(config: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """What was said, and what the worlds of `results` showed: the linear memory, then group by group."""
    linear = [r["metrics"] for r in results if r["cell"]["kind"] == "linear"]
    found = _linear(config["linear"], linear) if linear else []
    for group in config["groups"]:
        records = [r for r in results if r["cell"]["group"] == group["name"]]
        if records:
            found += Book(records).written()
    return found


def _linear(settings: Mapping[str, Any], worlds: Sequence[Mapping[str, Any]]) -> list[Prediction]:
    """One matrix: closed forms, exactly; r95 of its updates by number of facts."""
    width, facts, ranks = settings["width"], settings["facts"], settings["ranks"]
    rounding = max(w["rounding"] for w in worlds)
    each = [w["facts"][str(n)] for w in worlds for n in facts]
    cut = [w["cuts"][str(r)] for w in worlds for r in ranks]
    said = [
        Prediction("linear.rank", "fact_rank", "exact", "equal",
                   [float(saturation_point(f["distinct"], width)) for f in each], 0.0, [float(f["rank"]) for f in each],
                   "one matrix: the least-norm edit has rank min(distinct answers, width)"),
        Prediction("linear.style", "spectral_concentration", "exact", "equal", 1.0, 0.0,
                   [float(w["style"][k]) for w in worlds for k in ("rank", "r95")],
                   "one matrix: a shift that all facts share has rank 1"),
        Prediction("linear.floor", "eckart_young", "exact", "at_least", [c["floor"] for c in cut], rounding,
                   [c["cut"] for c in cut], "one matrix: the cut update leaves at least the floor of squared error"),
        Prediction("linear.attained", "eckart_young", "exact", "equal", [c["floor"] for c in cut], rounding,
                   [c["written"] for c in cut], "one matrix: some update of rank r leaves exactly the floor"),
    ]  # fmt: skip
    by_size = {n: [float(w["facts"][str(n)]["r95"]) for w in worlds] for n in facts}
    return said + _growth("linear", by_size, saturation_point(settings["answers"], width), "one matrix")


def _growth(group: str, by_size: Mapping[int, Sequence[float]], point: int, where: str) -> list[Prediction]:
    """r95 against the number of facts: grows up to the saturation point, not beyond it, and stays within it."""
    sizes, claim = sorted(by_size), "spectral_concentration"
    said = []
    for a, b in pairwise(sizes):
        pairs = list(zip(by_size[a], by_size[b], strict=True))
        if b <= point:
            said.append(Prediction(f"{group}.grows.{b}", claim, "hypothesis", "order", 0.0, 0.0,
                                   [y - x for x, y in pairs],
                                   f"{where}: r95 at {b} facts above that at {a}"))  # fmt: skip
        elif a >= point:
            said.append(Prediction(f"{group}.saturates.{b}", claim, "hypothesis", "equal", 1.0, SATURATED,
                                   [y / x for x, y in pairs],
                                   f"{where}: r95 at {b} facts over that at {a}, both beyond {point}"))  # fmt: skip
    said.append(Prediction(f"{group}.within", claim, "hypothesis", "at_most", float(point), 0.0, by_size[sizes[-1]],
                           f"{where}: r95 at {sizes[-1]} facts at most min(answers, width)"))  # fmt: skip
    return said


class Book(_book.Book):
    """The predictions of one group of worlds. r95 of an update is the mean over its matrices."""

    names_group = True

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self.cell = records[0]["cell"]
        super().__init__(self.cell["group"], records)

    def ranks(self, condition: str, of: str = "r95") -> list[float]:
        """Mean over matrices of the 95 % rank of the update (or of the gradient), per world."""
        return [mean(w["conditions"][condition][of]) for w in self.worlds]

    def answers(self) -> int:
        """Number of distinct answers to draw facts from."""
        from empirical.tasks.styles import OBJECTS

        return int(self.cell["bridges"]) if self.cell["kind"] == "scratch" else len(OBJECTS)

    def width(self) -> int:
        """Smaller side of the matrices, up to which ranks can grow; the largest that a world shows."""
        return int(self.cell["width"]) if self.cell["kind"] == "scratch" else self.answers()

    def written(self) -> list[Prediction]:
        """All predictions of the group."""
        self.controls()
        sizes = {n: self.ranks(f"facts_{n}") for n in self.cell["facts"]}
        self.entries += _growth(self.group, sizes, saturation_point(self.answers(), self.width()), self.group)
        self.styles()
        self.cuts()
        return self.entries

    def controls(self) -> None:
        """Without these the spectra are of something that was not learnt."""
        claim = "spectral_concentration"
        counts = [w["base"]["right"] for w in self.worlds]
        least = CONTROLS[f"base_{self.cell['kind']}"]
        self.say("base", claim, "control", "at_least", least, counts, "the base knows the plain answers")
        for n in self.cell["facts"]:
            counts = [w["conditions"][f"facts_{n}"]["asked"]["right"] for w in self.worlds]
            self.say(f"learnt.{n}", claim, "control", "at_least", CONTROLS["learnt"], counts, f"{n} facts are learnt")
        for style in self.cell["styles"]:
            counts = [w["conditions"][style]["asked"]["right"] for w in self.worlds]
            self.say(f"spoken.{style}", claim, "control", "at_least", CONTROLS["spoken"], counts,
                     f"{style}: other prompts are answered in the style too")  # fmt: skip
        n = self.cell["compare"]
        ratios = self.over("facts_shuffled", f"facts_{n}")
        self.say("shuffled.facts", claim, "control", "equal", 1.0, ratios,
                 f"{n} facts with shuffled answers have the r95 of the facts", ALIKE)  # fmt: skip

    def over(self, a: str, b: str) -> list[float]:
        """r95 of one condition over that of another, per world."""
        return [x / y for x, y in zip(self.ranks(a), self.ranks(b), strict=True)]

    def styles(self) -> None:
        """A style is less spread than as many facts, than its own gradient at the base, than its shuffled control."""
        claim, facts = "spectral_concentration", f"facts_{self.cell['compare']}"
        for style in self.cell["styles"]:
            own = self.ranks(style)
            for name, other, says in (
                ("facts", self.ranks(facts), f"r95 of {style} below that of {facts}"),
                ("gradient", self.ranks(style, "gradient"), f"r95 of {style} below that of its mean gradient"),
            ):
                gaps = [y - x for x, y in zip(own, other, strict=True)]
                self.say(f"style.{style}.{name}", claim, "hypothesis", "order", 0.0, gaps, says)
        first = self.cell["styles"][0]
        pairs = zip(self.ranks(first), self.ranks(f"{first}_shuffled"), strict=True)
        self.say("shuffled.style", claim, "hypothesis", "order", 0.0, [y - x for x, y in pairs],
                 f"r95 of {first} below that of the same with shuffled answers")  # fmt: skip
        for name, against in (("facts", facts), ("shuffled", f"{first}_shuffled")):
            gaps = [float(needed_rank(w["cuts"][against]) - needed_rank(w["cuts"][first])) for w in self.worlds]
            self.say(f"needed.{name}", claim, "hypothesis", "order", 0.0, gaps,
                     f"{first} survives being cut to a lower rank than {against}")  # fmt: skip

    def cuts(self) -> None:
        """Cut to its r95 an update keeps its task; LoRA does at least as well as the cut, at any rank."""
        first, facts = self.cell["styles"][0], f"facts_{self.cell['compare']}"
        for name in (facts, first):
            counts = [w["cuts"][name]["r95"]["asked"]["right"] for w in self.worlds]
            self.say(f"cut.{name}", "spectral_concentration", "hypothesis", "at_least", KEPT, counts,
                     f"{name}: cut to its 95 % ranks, the update keeps its task")  # fmt: skip
        for name, runs in ((n, [w["lora"][n] for w in self.worlds]) for n in (facts, first)):
            for r in self.cell["ranks"]:
                gains = [w["cuts"][name][str(r)]["taught"]["loss"] - w["lora"][name][str(r)]["taught"]["loss"]
                         for w in self.worlds]  # fmt: skip
                self.say(f"lora.{name}.{r}", "eckart_young", "hypothesis", "at_least", 0.0, gains,
                         f"{name}: LoRA of rank {r} has a loss no higher than the full update cut to it")  # fmt: skip
                near = [run[str(r)] for run in runs]
                rounding = max(n["rounding"] for n in near)
                self.say(f"nearest.{name}.{r}", "eckart_young", "exact", "at_least", 0.0, [n["above"] for n in near],
                         f"{name}: no matrix of LoRA of rank {r} is nearer to the full update than the floor",
                         rounding)  # fmt: skip
                self.say(f"attained.{name}.{r}", "eckart_young", "exact", "equal", 0.0, [n["gap"] for n in near],
                         f"{name}: the cut to rank {r} is as near as the floor", rounding)  # fmt: skip
        below = self.below(facts)
        if below is not None:
            counts = [w["lora"][facts][str(below)]["asked"]["right"] for w in self.worlds]
            self.say("lora_below", "margin_rank", "hypothesis", "at_least", KEPT, counts,
                     f"LoRA of rank {below}, below half the r95 of the full update, learns the {facts}")  # fmt: skip

    def below(self, facts: str) -> int | None:
        """The largest rank of LoRA below half the r95 of the full facts update, in every world; None if none is."""
        limit = min(self.ranks(facts)) / 2
        return max((r for r in self.cell["ranks"] if r < limit), default=None)
