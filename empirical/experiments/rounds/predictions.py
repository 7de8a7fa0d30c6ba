"""What `rounds` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Prediction, Predictions, measure
from empirical.experiments.rounds.tables import Condition, Heads, Masks, Round, Settings
from theory.continual import telescoping_rank

#: steps of the scales of margins (logits) and of differences of shares
LOGITS, SHARE = 0.05, 0.01
#: logits by which a median margin may be off the law, in the worst round
OFF = 1.5
#: share of the new facts that interference costs in the worst round, at least
LOST = 0.15
#: heads from which on single facts are asked: with two, changes were too large to add up on calibration worlds
MANY = 4


def declare(settings: Settings) -> list[Prediction]:
    """Heads, then masks."""
    return [*heads(settings), *masks(settings)]


# ---------------------------------------------------------------- heads


def after(condition: str, name: str, read: Callable[[tuple[Round, ...]], Outcome]) -> Measure:
    """What is read off the rounds of a condition."""
    return measure(Heads, f"{condition}, {name}", lambda m: read(m.rounds[condition]), step=SHARE)


def off(condition: str) -> Measure:
    """How far the median margin is from what the heads of the first round foretell, in the worst round."""

    def read(m: Heads) -> float:
        rounds, law = m.rounds[condition], m.predicted[condition]
        return max(abs(r.margin - foretold) for r, foretold in zip(rounds, law.margin, strict=True))

    return measure(Heads, f"{condition}, largest |median margin - sealed one| over rounds", read, step=LOGITS)


def heads(settings: Settings) -> Predictions:
    """What merged heads write."""
    said = Predictions("heads")
    s = settings.heads
    base = measure(Heads, "base, old facts", lambda m: m.old)
    said.control("base.old", "round_dilution", "the base knows its facts", of=base, at_least=0.97)
    base = measure(Heads, "base, new facts", lambda m: m.base)
    said.control("base.new", "round_dilution", "the base does not know the new ones", of=base, at_most=0.2)
    for c in s.conditions:
        name, r = c.name.replace(" ", "."), s.rank
        alone = after(c.name, "round 1, heads alone", lambda found: found[0].alone)
        said.control(f"{name}.alone", "round_dilution", f"{c.name}: every head learns its facts in one round",
                     of=alone, at_least=0.9)  # fmt: skip
        ranks(said, c, r)
    for c in s.conditions:
        if c.equal:
            equal(said, c)
        else:
            law(said, c)
    return said


def ranks(said: Predictions, c: Condition, r: int) -> None:
    """Exact: how large the rank of what was merged may be."""
    name = c.name.replace(" ", ".")
    most = [telescoping_rank(c.heads, r, t + 1, c.reset) for t in range(c.rounds)]

    def beyond(found: tuple[Round, ...]) -> float:
        return float(max(f.rank - m for f, m in zip(found, most, strict=True)))

    says = f"{c.name}: rank of what was merged at most {'T H r' if c.reset else 'H r'} after every round"
    of = after(c.name, "rank minus its bound, the largest over rounds", beyond)
    said.exact(f"{name}.rank", "telescoping_merge", says, of=of, at_most=0.0)


def law(said: Predictions, c: Condition) -> None:
    """The claim itself, and what it leaves out."""
    name = c.name.replace(" ", ".")
    says = f"{c.name}: the median margin is what the heads of round 1 foretell, in the worst round within {OFF} logits"
    unless = Alternative("each merge undoes what was written before: off by what three rounds write", 3.0, 0.8)
    said.hypothesis(f"{name}.law", "round_dilution", says, of=off(c.name), at_most=OFF, unless=unless, about=c.name)
    if c.heads < MANY:
        return

    def lost(m: Heads) -> float:
        pairs = zip(m.rounds[c.name], m.predicted[c.name].right, strict=True)
        return max(foretold.rate - r.right.rate for r, foretold in pairs)

    says = f"{c.name}: in some round at least {LOST} fewer facts are answered than if each were alone: they interfere"
    of = measure(Heads, f"{c.name}, sealed share of new facts minus share, the largest over rounds", lost, step=SHARE)
    unless = Alternative("each as if it were alone", 0.03, 0.04)
    said.hypothesis(f"{name}.facts", "interference", says, of=of, at_least=LOST, unless=unless, about=c.name)
    if not c.reset:
        return

    def additive(found: tuple[Round, ...]) -> float:
        return sum(abs(f.additive.rate - f.right.rate) for f in found) / len(found)

    says = f"{c.name}: a round answers as many facts as its heads' changes of logits, averaged and added, do"
    of = after(c.name, "|share foretold one round ahead - share|, mean over rounds", additive)
    unless = Alternative("off by a fifth", 0.2, 0.05)
    said.hypothesis(f"{name}.additive", "dilution", says, of=of, at_most=0.1, unless=unless, about=c.name)


def equal(said: Predictions, c: Condition) -> None:
    """Heads on the same facts are not diluted."""
    name = c.name.replace(" ", ".")
    says = f"{c.name}: one mean of heads that all know the facts loses few of them"
    of = after(c.name, "round 1, share of the heads alone minus share",
               lambda found: found[0].alone.rate - found[0].right.rate)  # fmt: skip
    unless = Alternative("a third, as a head's own facts survive a mean of two", 0.33, 0.1)
    said.hypothesis(f"{name}.kept", "round_dilution", says, of=of, at_most=0.15, unless=unless, about=c.name)


# ---------------------------------------------------------------- masks


def used(settings: Settings, mask: str, part: int) -> Measure:
    """New facts that are answered with 1 / part of the update."""
    at = settings.masks.parts.index(part)
    return measure(Masks, f"mask {mask}, new facts at 1/{part}", lambda m: m.found[mask].new[at])


def over_masks(mask: str) -> Measure:
    """New facts that are answered by the mean of outputs over masks."""
    return measure(Masks, f"mask {mask}, new facts by the mean over masks", lambda m: m.found[mask].ensemble)


def masks(settings: Settings) -> Predictions:
    """Adapters that are trained under masks are to be used at (1 - p)^2."""
    said, claim = Predictions("masks"), "dilution"
    base = measure(Masks, "base, old facts", lambda m: m.old)
    said.control("base.old", claim, "the base knows its facts", of=base, at_least=0.97)
    says = "without masks all new facts are learnt"
    said.control("plain", claim, says, of=used(settings, "0", 1), at_least=0.95)
    plain = Alternative("like an adapter without masks, which loses more than half", -0.4, 0.15)
    back = Alternative("the other way round, by .2", -0.2, 0.1)
    for mask, part in (("0.3", 2), ("0.5", 4)):
        about, near = f"mask {mask}", used(settings, mask, part)
        says = f"{about}, not scaled up: 1/{part} of the update, near (1 - p)^2, answers more than the whole"
        of = near - used(settings, mask, 1)
        said.hypothesis(f"{mask}.scale", claim, says, of=of, above=0.0, unless=plain, about=about)
        says = f"{about}: the mean of outputs over masks answers as many as 1/{part} of the update"
        quarter = Alternative("a quarter fewer or more", 0.25, 0.08)
        said.hypothesis(f"{mask}.mean", claim, says, of=over_masks(mask) - near, equal=0.0, within=0.1, unless=quarter,
                        about=about)  # fmt: skip
    says = "p = .5, scaled up in training: the whole update answers more than half of it"
    scaled = used(settings, "0.5 rescaled", 1) - used(settings, "0.5 rescaled", 2)
    said.hypothesis("rescaled", claim, says, of=scaled, above=0.0, unless=back, about="mask 0.5 rescaled")
    says = "p = .5, scaled up: masks do not prepare for a mean; half of it answers fewer than half of a plain adapter"
    of = used(settings, "0", 2) - used(settings, "0.5 rescaled", 2)
    said.hypothesis("robust", claim, says, of=of, above=0.0, unless=back, about="mask 0.5 rescaled")
    says = "p = .5, not scaled up: the whole update loses old facts"
    old = measure(Masks, "mask 0.5, old facts at 1/1", lambda m: m.found["0.5"].old[0])
    unless = Alternative("nearly all are kept", 0.9, 0.05, 260)
    said.hypothesis("whole", claim, says, of=old, at_most=0.6, unless=unless, about="mask 0.5")
    return said
