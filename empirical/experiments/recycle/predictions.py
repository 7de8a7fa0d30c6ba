"""What `recycle` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up. Bounds
near one are no higher than ten worlds can show: where all answer everything, the interval of a share reaches to .91.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.recycle.tables import Learnt, Measured, Probed, Settings
from theory.routing import bridge_blind_ceiling

CLAIM = "interference"
#: experts, and what takes their place
EXPERTS = ("first a", "second a", "first b", "second b")
MERGES = ("sum", "mean")
DISTILLED = ("raw", "surest")
#: step of the scale of a difference of shares
SHARE = 0.01


def of(name: str, what: str, read: Callable[[Learnt], Outcome]) -> Measure:
    """What one adapter in place of all experts answers."""
    return measure(Measured, f"{name}: {what}", lambda m: read(m.found[name]), step=SHARE)


def facts(name: str) -> Measure:
    """Facts of all experts that one adapter answers."""
    return of(name, "facts of all experts", lambda found: Count.total(found.tasks))


def probed(names: tuple[str, ...], what: str, read: Callable[[Probed], Count]) -> Measure:
    """What probing gives away, of several adapters together."""
    return measure(Measured, f"{', '.join(names)}: {what}", lambda m: Count.total(read(m.probed[n]) for n in names))


def declare(settings: Settings) -> Predictions:
    """Controls, what probing recovers, what is distilled of it, and two hops."""
    said = Predictions()
    controls(said)
    recovered(said)
    distilled(said)
    two_hops(said, settings)
    return said


def controls(said: Predictions) -> None:
    """What must hold, or the worlds show nothing."""
    base = measure(Measured, "base, old facts", lambda m: m.base)
    said.control("base", CLAIM, "the base knows its facts", of=base, at_least=0.9)
    composes = measure(Measured, "base, two hops of held-out old persons over covered bridges", lambda m: m.composes)
    said.control("composes", "coverage_law", "the base composes over covered bridges", of=composes, at_least=0.6)
    alone = probed(EXPERTS, "facts of its own that each answers", lambda p: p.alone)
    said.control("alone", CLAIM, "experts know their facts", of=alone, at_least=0.9)
    said.control("joint", CLAIM, "one adapter can be taught all facts", of=facts("joint"), at_least=0.85)


def recovered(said: Predictions) -> None:
    """Adapters are not private; what they changed is not only what they were taught."""
    recalled = probed(EXPERTS, "taught facts that were new to the base and are found", lambda p: p.recalled)
    says = "asking every prompt finds the facts that experts were taught: they are not private"
    hidden = Alternative("one in four stays hidden", 0.75, 0.08, 100)
    said.hypothesis("recalled", CLAIM, says, of=recalled, at_least=0.9, unless=hidden)
    taught = probed(EXPERTS, "changed answers that were taught", lambda p: p.taught)
    says = "experts change answers that they were not taught: at most seven in ten of the changed ones were"
    clean = Alternative("nearly all were", 0.85, 0.05, 195)
    said.hypothesis("taught", CLAIM, says, of=taught, at_most=0.7, unless=clean)
    conflicts = measure(Measured, "prompts at which experts contradict one another, of the changed ones",
                        lambda m: m.conflicts)  # fmt: skip
    says = "experts of disjoint facts contradict one another at two prompts of five that they changed, at least"
    rare = Alternative("at one in four", 0.25, 0.06, 110)
    said.hypothesis("conflicts", CLAIM, says, of=conflicts, at_least=0.4, unless=rare)
    for name, most, says in (("sum", 0.6, "half"), ("mean", 0.2, "few")):
        found = probed((name,), "taught facts that were new to the base and are found", lambda p: p.recalled)
        says = f"probing their {name} finds {says} of the facts: a merge gives away what it keeps"
        more = Alternative("a fifth more", most + 0.2, 0.08, 100)
        said.hypothesis(f"recalled.{name}", CLAIM, says, of=found, at_most=most, unless=more, about=name)


def distilled(said: Predictions) -> None:
    """One adapter that is taught what was recovered."""
    says = "distilled from the surest, no data used: four facts in five are kept"
    fewer = Alternative("two thirds", 0.67, 0.06, 112)
    said.hypothesis("surest", CLAIM, says, of=facts("surest"), at_least=0.8, unless=fewer, about="surest")
    foretold = measure(Measured, "surest: facts that stand right in what was recovered, sealed",
                       lambda m: m.foretold["surest"])  # fmt: skip
    says = "distilled from the surest: it answers as many facts as stand right in what was recovered"
    loses = Alternative("distilling loses a tenth of them", -0.1, 0.03)
    said.hypothesis("foretold", CLAIM, says, of=facts("surest") - foretold, equal=0.0, within=0.05, unless=loses,
                    about="surest")  # fmt: skip
    says = "distilled from the surest: at least .25 more facts than the sum of the experts"
    alike = Alternative("hardly more", 0.08, 0.08)
    said.hypothesis("sum", CLAIM, says, of=facts("surest") - facts("sum"), at_least=0.25, unless=alike, about="sum")
    says = "without resolving what experts contradict one another in, at least .15 fewer facts are kept"
    alike = Alternative("as many", 0.0, 0.08)
    said.hypothesis("raw", CLAIM, says, of=facts("surest") - facts("raw"), at_least=0.15, unless=alike, about="raw")
    old = of("surest", "old facts, share", lambda found: found.old.rate)
    says = "distilled from the surest: old facts are kept, though none of their data was used"
    lost = Alternative("the sum of experts keeps as many", 0.93, 0.025)
    said.hypothesis("old", CLAIM, says, of=old, at_least=0.97, unless=lost, about="surest")


def two_hops(said: Predictions, settings: Settings) -> None:
    """Composition is that of joint training."""
    claim = "coverage_law"
    covered = [of(name, "new x changed over covered bridges", lambda f: f.covered) for name in ("surest", "joint")]
    says = "two hops over covered bridges, distilled from the surest: as joint training has them, give or take .12"
    better = Alternative("a quarter more or fewer", 0.25, 0.08)
    said.hypothesis("covered", claim, says, of=covered[0] - covered[1], equal=0.0, within=0.12, unless=better,
                    about="surest")  # fmt: skip
    blind = bridge_blind_ceiling(settings.bridges, settings.values)
    asked = settings.new_persons * settings.first_relations * settings.changed_relations // 2
    two_fifths = Alternative("two fifths are answered", blind + 0.15, 0.08, asked)
    for name in (*MERGES, *DISTILLED, "joint"):
        says = f"uncovered bridges, {name}: no better than an answer blind to the bridge"
        said.hypothesis(f"uncovered.{name}", claim, says, at_most=blind, unless=two_fifths, about=name,
                        of=of(name, "new x changed over uncovered bridges", lambda found: found.uncovered),
                        family="no method over uncovered bridges")  # fmt: skip
