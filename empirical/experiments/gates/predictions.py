"""What `gates` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up. Bounds
near one are no higher than ten worlds can show: where all answer everything, the interval of a share reaches to .91.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.experiments.gates.tables import Answered, Grouped, Measured, Settings
from theory.additive import additive_ceiling
from theory.numerics import rank_tolerance
from theory.routing import bridge_blind_ceiling

CLAIM, LIMIT = "gated_merge", "additive_limit"
#: gates that depend on the prompt and on neither table, and gates that were taught answers
BLIND, TAUGHT = ("random", "kind"), ("answers", "together")
#: gates are said to be blind to the bridge if they read it in no larger a share of the questions
READS = 1 / 15
#: within a group, what is left beside the best guess: for two bridges that guess is what is expected
GUESS = 0.08
#: step of the scale of relative errors
ERROR = 0.01


def of(gates: str, name: str, read: Callable[[Answered], Outcome]) -> Measure:
    """What is read off experts that were trained apart, or together, under some gates."""
    return measure(Measured, f"gates: {gates}: {name}", lambda m: read(m.gates[gates]))


def group(number: int, name: str, read: Callable[[Grouped], Outcome]) -> Measure:
    """What is read off an expert for each group of bridges."""
    return measure(Measured, f"{number} groups: {name}", lambda m: read(m.groups[str(number)]))


def declare(settings: Settings) -> Predictions:
    """Gates that know no bridge, gates that know its group, and weights in place of gates."""
    said = Predictions()
    unaware(said, settings)
    for number in settings.groups:
        grouped(said, settings, number)
    aware(said, settings)
    merges(said, settings)
    return said


def unaware(said: Predictions, settings: Settings) -> None:
    """Experts of single hops under gates by the prompt."""
    s = settings
    ceiling, blind = additive_ceiling(s.bridges, s.values), bridge_blind_ceiling(s.bridges, s.values)
    for gates in TAUGHT:
        for hop in ("first", "second"):
            right = of(gates, f"{hop} hops", lambda a, hop=hop: getattr(a, hop))  # type: ignore[misc]
            said.control(f"{gates}.{hop}", CLAIM, f"gates: {gates}: the adapter knows its {hop} hops", of=right,
                         at_least=0.85)  # fmt: skip
    beyond = Alternative("a merge that passes the ceiling by a tenth", ceiling + 0.1, 0.03, s.persons)
    for gates in BLIND:
        says = f"gates: {gates} (of the prompt, and of neither table): under the additive ceiling"
        said.ceiling(gates, LIMIT, says, of=of(gates, "two hops", lambda a: a.two_hop), at_most=ceiling, unless=beyond,
                     about=gates)  # fmt: skip
    composes = Alternative("they read the bridge in one question of five", blind + (1 - blind) / 5, 0.03, s.persons)
    for gates in TAUGHT:
        says = f"gates: {gates} (taught single hops): blind to the bridge in all but one question of fifteen"
        said.hypothesis(gates, CLAIM, says, of=of(gates, "two hops", lambda a: a.two_hop),
                        at_most=blind + READS * (1 - blind), unless=composes, about=gates)  # fmt: skip


def grouped(said: Predictions, settings: Settings, number: int) -> None:
    """Gates that have learnt the group of the bridge leave no more open than which bridge of the group it is."""
    s, size = settings, settings.bridges // number
    name, words = f"group.{number}", f"{number} groups of {size}"
    found, second = group(number, "groups told", lambda g: g.found), group(number, "second", lambda g: g.gated.second)
    said.control(f"{name}.found", CLAIM, f"{words}: gates tell everybody's group", of=found, at_least=0.9)
    said.control(f"{name}.second", CLAIM, f"{words}: experts know their second hops", of=second, at_least=0.9)
    if size == 1:
        return
    right = group(number, "two hops", lambda g: g.gated.two_hop)
    ceiling, blind = additive_ceiling(size, s.values), bridge_blind_ceiling(size, s.values)
    beyond = Alternative("it passes the ceiling by a tenth", ceiling + 0.1, 0.03, s.persons)
    says = f"{words}: under the additive ceiling of {size} bridges"
    said.ceiling(name, LIMIT, says, of=right, at_most=ceiling, unless=beyond, about=words)
    reaches = Alternative("the additive ceiling is reached", ceiling, 0.05, s.persons)
    says = f"{words}: as blind within the group as a guess by how often it has each value, but for {GUESS:g}"
    said.hypothesis(f"{name}.blind", CLAIM, says, of=right, at_most=blind + GUESS, unless=reaches, about=words)


def aware(said: Predictions, settings: Settings) -> None:
    """Gates that have learnt the bridge are over the ceiling, and one weight in their place is not."""
    s = settings
    most, ceiling = max(s.groups), additive_ceiling(s.bridges, s.values)
    right = group(most, "two hops", lambda g: g.gated.two_hop)
    nearly = Alternative("one question in four is lost to other experts", 0.75, 0.08, s.persons)
    says = f"an expert for each of {most} bridges: two-hop questions are answered"
    said.hypothesis("bridge", CLAIM, says, of=right, at_least=0.9, unless=nearly, about="bridge")
    for number in sorted(s.groups)[-2:]:
        says = f"{number} groups: over the additive ceiling of all {s.bridges} bridges"
        alike = Alternative("as an answer blind to the bridge", bridge_blind_ceiling(s.bridges, s.values), 0.03,
                            s.persons)  # fmt: skip
        said.hypothesis(f"over.{number}", CLAIM, says, unless=alike, about=f"{number} groups", at_least=ceiling,
                        of=group(number, "two hops", lambda g: g.gated.two_hop))  # fmt: skip
    says = "gates that learnt the bridge at first-hop prompts carry over to two hops"
    half = Alternative("half of the questions are lost", 0.5, 0.1, s.persons)
    said.hypothesis("carried", CLAIM, says, of=group(most, "two hops, carried", lambda g: g.carried.two_hop),
                    at_least=0.7, unless=half, about="bridge")  # fmt: skip
    beyond = Alternative("a merge that passes the ceiling by a tenth", ceiling + 0.1, 0.03, s.persons)
    for name, words in (("summed", "all experts at full weight"), ("mean", "all experts at one weight of 1 / K")):
        says = f"an expert for each of {most} bridges, without gates, {words}: under the additive ceiling"
        merged = group(most, f"two hops, {name}", lambda g, name=name: getattr(g, name).two_hop)  # type: ignore[misc]
        said.ceiling(f"merged.{name}", LIMIT, says, of=merged, at_most=ceiling, unless=beyond, about=name)


def merges(said: Predictions, settings: Settings) -> None:
    """One weight in place of gates."""
    s = settings
    even = measure(Measured, "gates of 1 / K: error of all experts at full weight", lambda m: m.merges["even"].ignored)
    says = f"gates of 1 / {s.experts}: the merge that ignores them adds {s.experts - 1} times too much"
    rounding = rank_tolerance((s.hidden, s.experts * s.rank), float(s.experts))
    said.exact("merge.even", CLAIM, says, of=even, equal=float(s.experts - 1), within=rounding)
    worst = measure(Measured, "error at the mean gates minus that at full weights, the largest over gates",
                    lambda m: max(e.mean - e.ignored for e in m.merges.values()))  # fmt: skip
    says = "no weight is better than that at the mean gates"
    said.exact("merge.best", CLAIM, says, of=worst, at_most=0.0)
    off = measure(Measured, "together: error at the mean gates", lambda m: m.merges["together"].mean, step=ERROR)
    says = "gates and experts that learnt together have no merged weight: the best is off by at least .15"
    still = Alternative("the gates hardly move", 0.05, 0.05)
    said.hypothesis("merge.together", CLAIM, says, of=off, at_least=0.15, unless=still, about="together")
