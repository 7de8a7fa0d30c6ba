"""What `capacity_pretrained` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.experiments.capacity_pretrained.tables import Measured, Settings, Written

BITS, RANK = "capacity_bits", "margin_rank"
#: steps of the scales of shares, and of falls of the loss in nats
SHARE, NATS = 0.01, 0.05


def of(name: str, read: Callable[[Measured], Outcome], step: float = SHARE) -> Measure:
    """What is read off a world."""
    return measure(Measured, name, read, step=step)


def rank(r: int, name: str, read: Callable[[Written], Outcome], step: float = SHARE) -> Measure:
    """What is read off a trained adapter of this rank."""
    return of(f"rank {r}: {name}", lambda m: read(m.ranks[str(r)]), step)


def right(r: int) -> Measure:
    """What a trained adapter of this rank recalls."""
    return rank(r, "recalled", lambda w: w.recalled)


def off(r: int) -> Measure:
    """How far the fall of the loss is off the law at a rank that it foretold."""

    def read(m: Measured) -> float:
        return abs(m.ranks[str(r)].drop / m.law.foretold[str(r)] - 1)

    return of(f"rank {r}: how far the fall of the loss is off the sealed one, relative to that", read)


def density(m: Measured) -> float:
    """The most bits of facts recalled for each number of an adapter, over ranks."""
    return max(w.recalled.right * math.log2(m.values) / w.parameters for w in m.ranks.values())


def declare(settings: Settings) -> Predictions:
    """The power law, what training makes of its numbers and of few bits of them, and two ranks by hand."""
    said, s = Predictions(), settings
    base = of("base: facts", lambda m: m.base)
    said.control("base", BITS, "the base does not know the facts", of=base, at_most=0.1)
    most = max(s.foretold)
    said.control("whole", BITS, f"rank {most} recalls nearly all facts", of=right(most), at_least=0.9)
    law(said, s)
    training(said, s)
    by_hand(said, s)
    return said


def law(said: Predictions, settings: Settings) -> None:
    """A power law within the fitted ranks, which beyond them foretells more than there is to be lost."""
    s, (least, *_, greatest) = settings, settings.fitted
    fall = [rank(r, "fall of the loss", lambda w: w.drop, NATS) for r in (greatest, least)]
    says = f"rank {greatest} takes at least two nats more of the loss than rank {least}"
    little = Alternative("one and a half", 1.5, 0.3)
    said.hypothesis("law.grows", BITS, says, of=fall[0] - fall[1], at_least=2.0, unless=little)
    for r in (r for r in s.foretold if r < greatest):
        says = f"at rank {r}, between the fitted ones, the power law foretells the fall of the loss, give or take .12"
        bent = Alternative("as far off as beyond them", 0.2, 0.05)
        said.hypothesis(f"law.between.{r}", BITS, says, of=off(r), at_most=0.12, unless=bent)
    following = min(r for r in s.foretold if r > greatest)
    excess = of(f"rank {following}: sealed fall of the loss over the base's loss",
                lambda m: m.law.foretold[str(following)] / m.loss)  # fmt: skip
    says = f"at rank {following}, beyond them, the law foretells a fall of more than the whole loss of the base"
    within = Alternative("less by a seventh", 0.85, 0.1)
    said.hypothesis("law.beyond", BITS, says, of=excess, at_least=1.0, unless=within)
    last = max(s.foretold)
    share = of(f"rank {last}: fall of the loss over the base's loss", lambda m: m.ranks[str(last)].drop / m.loss)
    says = f"rank {last} takes nearly the whole loss, at least .94 of it"
    stays = Alternative("an eighth stays", 0.875, 0.04)
    said.hypothesis("law.end", BITS, says, of=share, at_least=0.94, unless=stays)


def training(said: Predictions, settings: Settings) -> None:
    """What a rank of training holds, and how many of its bits count."""
    s, (least, *_, greatest) = settings, settings.fitted
    half = greatest // 2
    says = f"rank {greatest} recalls at least .2 more than rank {half}"
    less = Alternative("a tenth", 0.1, 0.06)
    said.hypothesis("doubled", BITS, says, of=right(greatest) - right(half), at_least=0.2, unless=less)
    says = f"rank {least}, of whose bits one in twenty would do for all facts by counting, recalls less than a tenth"
    more = Alternative("a fifth", 0.2, 0.05, s.facts)
    said.hypothesis("training", BITS, says, of=right(least), at_most=0.1, unless=more)
    says = "no rank recalls more than a tenth of a bit for each of its numbers, where two are published for pretraining"
    twice = Alternative("two tenths", 0.2, 0.05)
    per_number = of("bits of facts recalled for each number, the most over ranks", density)
    said.hypothesis("density", BITS, says, of=per_number, at_most=0.1, unless=twice)

    def rounded(b: int) -> Measure:
        return of(f"rank {s.rank}, {b} bits: recalled", lambda m: m.rounded[str(b)].recalled)

    says = f"rank {s.rank}: 8 bits a number lose next to nothing"
    loses = Alternative("a tenth is lost", 0.1, 0.03)
    said.hypothesis("bits.8", BITS, says, of=rounded(32) - rounded(8), at_most=0.05, unless=loses)
    says = f"rank {s.rank}: 4 bits a number, rounded after training, lose more than .3"
    keeps = Alternative("they lose a seventh", 0.14, 0.1)
    said.hypothesis("bits.4", BITS, says, of=rounded(32) - rounded(4), at_least=0.3, unless=keeps)


def by_hand(said: Predictions, settings: Settings) -> None:
    """Two ranks are enough for all facts, with numbers exact enough; training is far from it."""
    s, last = settings, max(settings.foretold)

    def circle(b: int) -> Measure:
        return of(f"rank 2 by hand, {b} bits: recalled", lambda m: m.circle[str(b)].recalled)

    beyond = of("floor less rank, the most over trained ranks",
                lambda m: float(max(w.floor - int(r) for r, w in m.ranks.items())), 1.0)  # fmt: skip
    says = "the floor for the root-mean-square leak of a trained adapter is at most its rank"
    said.exact("margin", RANK, says, of=beyond, at_most=0.0)
    lost = Alternative("a sixth is lost to rounding", 0.83, 0.05, s.facts)
    said.hypothesis("hand", RANK, "rank 2 by hand recalls nearly all facts", of=circle(32), at_least=0.9, unless=lost)
    says = "rank 2 by hand recalls at least .7 more than rank 2 trained"
    near = Alternative("half as much more", 0.5, 0.1)
    said.hypothesis("hand.trained", RANK, says, of=circle(32) - right(2), at_least=0.7, unless=near)
    says = "rank 2 by hand: 16 bits a number lose at least .03"
    keeps = Alternative("they lose nothing", 0.0, 0.02)
    said.hypothesis("hand.16", RANK, says, of=circle(32) - circle(16), at_least=0.03, unless=keeps)
    says = "rank 2 by hand: 8 bits a number keep at most a fifth, where counting would allow all"
    half = Alternative("half is kept", 0.5, 0.15, s.facts)
    said.hypothesis("hand.8", RANK, says, of=circle(8), at_most=0.2, unless=half)
    floor = rank(last, "floor", lambda w: float(w.floor), 1.0)
    says = f"rank {last} trained: its leak would need no more than 8 ranks"
    spent = Alternative("a quarter of them", last / 4, 5.0)
    said.hypothesis("spent", RANK, says, of=floor, at_most=8.0, unless=spent)
