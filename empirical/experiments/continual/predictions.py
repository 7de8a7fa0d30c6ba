"""What `continual` declares: claims, kinds, margins, and for each what would refute it.

Deviations of the alternatives are what calibration worlds (seeds below 100) showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative, Outcome
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.continual.tables import Learnt, Measured, Settings
from theory.routing import bridge_blind_ceiling

#: of C-LoRA
ROUTE = "interference"
#: step of the scale of a difference of shares
SHARE = 0.01
#: methods that learn one task after the other
SEQUENTIAL = ("go on", "merge and reset", "sd formula", "sd released", "c moving", "c wide moving", "c wide frozen")


def of(method: str, name: str, read: Callable[[Learnt], Outcome]) -> Measure:
    """What is read off a method."""
    return measure(Measured, f"{method}, {name}", lambda m: read(m.methods[method]), step=SHARE)


def earlier(method: str) -> Measure:
    """Mean share that is kept of the tasks before the last, each counting alike."""
    return of(method, "tasks but the last, mean share kept", lambda found: _mean(found.kept[:-1]))


def _mean(counts: tuple[Count, ...]) -> float:
    return sum(c.rate for c in counts) / len(counts)


def declare(settings: Settings) -> Predictions:
    """Theorems, controls, what is kept, and two hops."""
    said = Predictions()
    controls(said, settings)
    ranks(said, settings)
    kept(said, settings)
    for method in settings.methods:
        two_hops(said, settings, method)
    return said


def controls(said: Predictions, settings: Settings) -> None:
    """What must hold, or the worlds show nothing."""
    claim = "merge_and_reset"
    base = measure(Measured, "base, old facts", lambda m: m.base)
    said.control("base", claim, "the base knows its facts", of=base, at_least=0.97)
    composes = measure(Measured, "base, two hops of held-out old persons over covered bridges", lambda m: m.composes)
    said.control("composes", "coverage_law", "the base composes over covered bridges", of=composes, at_least=0.6)
    says = "all tasks at once can be learnt"
    said.control("joint", claim, says, of=of("joint", "all tasks, kept", lambda f: Count.total(f.kept)), at_least=0.9)
    for method in settings.methods:
        if method in SEQUENTIAL and not method.startswith("c "):
            learnt = of(method, "all tasks, right after each", lambda f: Count.total(f.learnt))
            name = method.replace(" ", ".")
            says = f"{method}: every task is learnt"
            said.control(f"{name}.learnt", claim, says, of=learnt, at_least=0.8)


def ranks(said: Predictions, settings: Settings) -> None:
    """Exact: how large the rank of what is added may be."""
    r, tasks = settings.rank, 4
    bounds = {
        "go on": ("telescoping_merge", r), "merge and reset": ("merge_and_reset", tasks * r),
        "sd formula": ("merge_rank", tasks * r), "sd released": ("merge_rank", tasks * r),
        "c moving": ("merge_rank", r), "c wide moving": ("merge_rank", settings.wide),
        "c wide frozen": ("merge_rank", settings.wide), "sum": ("merge_rank", tasks * r),
    }  # fmt: skip
    for method in settings.methods:
        if method in bounds:
            claim, bound = bounds[method]
            says = f"{method}: what is added after four tasks has rank at most {bound}"
            said.exact(f"{method.replace(' ', '.')}.rank", claim, says, of=of(method, "rank", lambda f: float(f.rank)),
                       at_most=float(bound))  # fmt: skip


def kept(said: Predictions, settings: Settings) -> None:
    """What is kept of earlier tasks and of the base."""
    claim, reset = "interference", earlier("merge and reset")
    back = Alternative("the other way round, by .15", -0.15, 0.1)
    says = "SD-LoRA by its formula keeps no more of earlier tasks than merge and reset, give or take"
    protects = Alternative("it protects them: .35 more", 0.35, 0.12)
    said.hypothesis("sd.formula", "dilution", says, of=earlier("sd formula") - reset, at_most=0.15, unless=protects,
                    about="sd formula")  # fmt: skip
    switched = of("sd released", "task just learnt, after the switch and before any step",
                  lambda found: Count.total(found.switched))  # fmt: skip
    says = "SD-LoRA as released: the switch to the next task loses the last one before any step"
    whole = Alternative("as before the switch", 0.95, 0.03, 96)
    said.hypothesis("sd.switch", "dilution", says, of=switched, at_most=0.6, unless=whole, about="sd released")
    says = "SD-LoRA as released keeps less of earlier tasks than by its formula"
    said.hypothesis("sd.released", "dilution", says, of=earlier("sd formula") - earlier("sd released"), above=0.0,
                    unless=back, about="sd released")  # fmt: skip
    says = "C-LoRA, as wide: with its factors frozen it keeps more of the base than with factors that move"
    base = {m: of(m, "old facts", lambda found: found.base) for m in settings.methods}
    said.hypothesis("c.base", ROUTE, says, of=base["c wide frozen"] - base["c wide moving"], above=0.0, unless=back,
                    about="c wide moving")  # fmt: skip
    says = "C-LoRA at the rank of the others, factors moving: the base is lost although it is rehearsed"
    whole = Alternative("as much as any other method keeps", 0.95, 0.04, 500)
    said.hypothesis("c.moving", ROUTE, says, of=base["c moving"], at_most=0.6, unless=whole, about="c moving")
    says = "C-LoRA with frozen factors keeps more of earlier tasks than with factors that move"
    said.hypothesis("c.frozen", ROUTE, says, of=earlier("c wide frozen") - earlier("c wide moving"), above=0.0,
                    unless=back, about="c wide frozen")  # fmt: skip
    says = "C-LoRA, factors frozen: fewer facts are answered right after their task than with merge and reset"
    learnt = {m: of(m, "all tasks, right after each", lambda f: Count.total(f.learnt)) for m in settings.methods}
    said.hypothesis("c.learns", ROUTE, says, of=learnt["merge and reset"] - learnt["c wide frozen"], above=0.0,
                    unless=back, about="c wide frozen")  # fmt: skip
    says = "the mean of four adapters keeps few of the facts that each alone knows"
    most = of("mean", "all tasks, kept", lambda found: Count.total(found.kept))
    half = Alternative("half of them", 0.5, 0.1, 112)
    said.hypothesis("mean", "dilution", says, of=most, at_most=0.3, unless=half, about="mean")
    says = "the sum of four adapters trained apart keeps less of the base than merge and reset"
    said.hypothesis("sum.base", claim, says, of=base["merge and reset"] - base["sum"], above=0.0, unless=back,
                    about="sum")  # fmt: skip


def two_hops(said: Predictions, settings: Settings, method: str) -> None:
    """Over uncovered bridges nothing composes."""
    blind = bridge_blind_ceiling(settings.bridges, settings.values)
    says = f"uncovered bridges, {method}: no better than an answer blind to the bridge"
    asked = settings.new_persons * settings.first_relations * settings.changed_relations // 2
    unless = Alternative("two fifths are answered", blind + 0.15, 0.08, asked)
    said.hypothesis(f"uncovered.{method.replace(' ', '.')}", "coverage_law", says,
                    of=of(method, "new x changed over uncovered bridges", lambda found: found.uncovered),
                    at_most=blind, unless=unless, family="no method over uncovered bridges", about=method)  # fmt: skip
