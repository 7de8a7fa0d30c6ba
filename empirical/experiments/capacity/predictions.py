"""What `capacity` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.experiments.capacity.tables import Measured, Settings
from empirical.experiments.filled import Filled
from theory.facts import capacity_ceiling

CLAIM = "capacity_bits"
#: steps of the scales of shares, and of falls of the loss in nats
SHARE, NATS = 0.01, 0.05


def of(name: str, read: Callable[[Measured], Outcome], step: float = SHARE) -> Measure:
    """What is read off a world."""
    return measure(Measured, name, read, step=step)


def off(ranks: tuple[int, ...], name: str, read: Callable[[list[float]], float]) -> Measure:
    """By how much the fall of the loss is off the law, relative to it, at ranks that it foretold."""

    def read_all(m: Measured) -> float:
        return read([m.ranks[str(r)].drop / m.law.foretold[str(r)] - 1 for r in ranks])

    return of(f"fall of the loss over the sealed one, minus one, {name}", read_all)


def rank(r: int, name: str, read: Callable[[Filled], Outcome]) -> Measure:
    """What is read off an adapter of this rank on the last layer."""
    return of(f"rank {r}, last layer: {name}", lambda m: read(m.ranks[str(r)]), NATS)


def declare(settings: Settings) -> Predictions:
    """The power law, where it is written, bits."""
    said = Predictions()
    base = of("base, old facts", lambda m: m.known)
    said.control("base.old", CLAIM, "the base knows its facts", of=base, at_least=0.9)
    new = of("base, new facts", lambda m: m.base)
    said.control("base.new", CLAIM, "the base does not know the new ones", of=new, at_most=0.2)
    law(said, settings)
    places(said, settings)
    bits(said, settings)
    return said


def law(said: Predictions, settings: Settings) -> None:
    """A power law within the fitted ranks, and less than it beyond them."""
    s, (least, *_, greatest) = settings, settings.fitted
    fall = [rank(r, "fall of the loss", lambda f: f.drop) for r in (greatest, least)]
    says = f"rank {greatest} takes at least a nat more of the loss than rank {least}"
    little = Alternative("a third of one", 0.35, 0.3)
    said.hypothesis("law.grows", CLAIM, says, of=fall[0] - fall[1], at_least=1.0, unless=little)
    between = tuple(r for r in s.foretold if least < r < greatest)
    if between:
        worst = off(between, "largest size, between the fitted ranks", lambda found: max(map(abs, found)))
        says = f"between the fitted ranks, at {between}, the power law foretells the fall of the loss, give or take .12"
        bent = Alternative("as far off as it is beyond them", 0.2, 0.045)
        said.hypothesis("law.between", CLAIM, says, of=worst, at_most=0.12, unless=bent)
    beyond = max(s.foretold)
    last = off((beyond,), f"rank {beyond}", lambda found: found[0])
    says = f"at rank {beyond}, beyond them, the fall is less than the law foretells by at least .05 of it"
    holds = Alternative("the power law goes on", 0.0, 0.03)
    said.hypothesis("law.beyond", CLAIM, says, of=last, at_most=-0.05, unless=holds)


def places(said: Predictions, settings: Settings) -> None:
    """Where an adapter is written."""
    s, first, middle, top = settings, "0", str(settings.layers // 2), str(settings.layers - 1)

    def layer(name: str) -> Measure:
        return of(f"rank {s.rank}, layers {name}: recalled", lambda m: m.layers[name].recalled)

    says = f"rank {s.rank}: on layer {middle} it recalls at least .15 more than on layer {first}, by as many numbers"
    alike = Alternative("as many", 0.0, 0.08)
    said.hypothesis("middle", CLAIM, says, of=layer(middle) - layer(first), at_least=0.15, unless=alike)
    says = f"rank {s.rank}: on all layers it recalls at least .1 more than on the last"
    alike = Alternative("as many", 0.0, 0.06)
    said.hypothesis("all", CLAIM, says, of=layer("all") - layer(top), at_least=0.1, unless=alike)


def bits(said: Predictions, settings: Settings) -> None:
    """Numbers rounded to few bits."""
    s = settings

    def rounded(b: int) -> Measure:
        return of(f"rank {s.rank}, all layers, {b} bits: recalled", lambda m: m.rounded[str(b)].recalled)

    says = f"rank {s.rank}, all layers: 8 bits a number lose next to nothing"
    loses = Alternative("a seventh is lost", 0.14, 0.05)
    said.hypothesis("bits.8", CLAIM, says, of=rounded(32) - rounded(8), at_most=0.05, unless=loses)
    says = f"rank {s.rank}, all layers: 3 bits a number, rounded after training, lose more than .3"
    keeps = Alternative("they lose a seventh", 0.14, 0.09)
    said.hypothesis("bits.3", CLAIM, says, of=rounded(32) - rounded(3), at_least=0.3, unless=keeps)
    least, facts = min(s.bits), s.new_persons * s.first_relations
    size = least * (s.width + s.feed_forward) + 64  # and the largest number of either factor
    ceiling = capacity_ceiling(size, facts, s.bridges)
    small = of(f"rank 1, one matrix, {least} bits: recalled", lambda m: m.small[str(least)].recalled)
    says = f"rank 1 on one matrix, {size} bits: under what counting allows"
    beyond = Alternative("all are recalled", min(ceiling + 0.1, 0.97), 0.02, facts)
    said.ceiling("counting", CLAIM, says, of=small, at_most=ceiling, unless=beyond)
    says = f"rank 1 on one matrix, {size} bits: at most a fifth, where counting allows {ceiling:.2f}"
    more = Alternative("a third", 0.33, 0.06, facts)
    said.hypothesis("training", CLAIM, says, of=small, at_most=0.2, unless=more)
