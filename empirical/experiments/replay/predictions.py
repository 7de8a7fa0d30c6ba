"""What `replay` declares: claims, kinds, margins, and for each what would refute it.

The claim says that exposures per fact decide. On calibration worlds (seeds below 100) the number of rehearsed examples
did: a quarter of the facts, each seen four times as often, were kept hardly better. So that is what is declared where
the two differ. Deviations of the alternatives are what those worlds showed between worlds, rounded up.
"""

from __future__ import annotations

from collections.abc import Callable

from empirical.engine.intervals import Alternative
from empirical.engine.predictions import Measure, Predictions, measure
from empirical.engine.settings import Count
from empirical.experiments.replay.tables import Measured, Rehearsed, Settings, WorldCell
from theory.numerics import require

CLAIM = "exposure_law"
#: step of the scale of a difference of shares
SHARE = 0.01


def run_name(share: float, steps: int) -> str:
    """The name of a run."""
    return f"{share:g} {steps}"


def ways(settings: Settings, rehearsed: float) -> list[str]:
    """Runs with this number of rehearsed examples, the shortest first; ValueError where there is none."""
    s = settings
    found = [run_name(share, steps) for steps in s.steps for share in s.shares if share * s.batch * steps == rehearsed]
    require(len(found) > 0, "rehearsals", "a product of share, batch and steps", rehearsed)
    return found


def facts(settings: Settings, old_persons: int) -> int:
    """How many facts a base of so many old persons knows: their bridges, all values, everybody's attribute."""
    s = settings
    return old_persons * (s.first_relations + 1) + s.bridges * s.second_relations + s.new_persons


class Read:
    """Measures of a profile."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def of(self, name: str, read: Callable[[Measured], Count | float | None], few: bool = False) -> Measure:
        """What is read off the base of all old persons, or of few."""
        persons = self.settings.fewer if few else self.settings.old_persons

        def where(cell: WorldCell) -> bool:
            return cell.old_persons == persons

        return measure(Measured, f"{persons} old persons, {name}", read, where, SHARE)

    def kept(self, names: list[str], few: bool = False) -> Measure:
        """Mean share of the old facts that is kept by runs, each counting alike."""
        name = "old facts after " + ", ".join(names)
        return self.of(name, lambda m: sum(m.runs[n].inside.rate for n in names) / len(names), few)

    def buffered(self, size: int, name: str, read: Callable[[Rehearsed], Count]) -> Measure:
        """What is read off the run with a buffer of this size."""
        return self.of(f"buffer of {size}: {name}", lambda m: read(m.buffers[str(size)]))


def declare(settings: Settings) -> Predictions:
    """Controls, what decides, and facts outside the buffer."""
    said, read = Predictions(), Read(settings)
    controls(said, settings, read)
    decides(said, settings, read)
    outside(said, settings, read)
    return said


def controls(said: Predictions, settings: Settings, read: Read) -> None:
    """What must hold, or the worlds show nothing."""
    says = "the base knows its facts, however many"
    for few in (False, True):
        name = "few" if few else "many"
        said.control(f"base.{name}", CLAIM, says, of=read.of("base, old facts", lambda m: m.base, few), at_least=0.9)
    longest = [run_name(share, max(settings.steps)) for share in settings.shares]
    new = read.of("new facts, the longest runs", lambda m: Count.total(m.runs[n].new for n in longest))
    said.control("new", CLAIM, "the longest runs learn the new facts at every share", of=new, at_least=0.9)


def decides(said: Predictions, settings: Settings, read: Read) -> None:
    """Rehearsed examples, not their share, and not how often each fact is seen."""
    s, short, long = settings, min(settings.steps), max(settings.steps)
    none = [[run_name(0.0, steps)] for steps in (short, long)]
    says = f"without replay {long} steps keep less than {short}, by at least .05"
    alike = Alternative("the new facts are learnt by then, and nothing more is lost", 0.0, 0.03)
    said.hypothesis("none", CLAIM, says, of=read.kept(none[0]) - read.kept(none[1]), at_least=0.05, unless=alike)
    share = ways(s, s.rehearsals[-1])[-1].split()[0]
    same = [[f"{share} {steps}"] for steps in (short, long)]
    says = f"at one share, {share}, {long} steps keep more than {short}, by at least .05"
    alike = Alternative("the share decides, and not how long", 0.0, 0.03)
    said.hypothesis("steps", CLAIM, says, of=read.kept(same[1]) - read.kept(same[0]), at_least=0.05, unless=alike)
    for number in s.rehearsals[1:]:
        first, *_, last = ways(s, number)
        says = f"{number} examples rehearsed: as many old facts are kept in {short} steps as in {long}, give or take .1"
        by_share = Alternative("the share decides: four times as large, it keeps .15 more", 0.15, 0.03)
        said.hypothesis(f"ways.{number}", CLAIM, says, of=read.kept([first]) - read.kept([last]), equal=0.0, within=0.1,
                        unless=by_share)  # fmt: skip
    times = facts(s, s.old_persons) / facts(s, s.fewer)
    for number in s.rehearsals[:-1]:
        few, many = read.kept(ways(s, number), few=True), read.kept(ways(s, number))
        says = f"{number} examples rehearsed: of a quarter of the facts as large a share is kept, give or take .09"
        by_fact = Alternative("exposures per fact decide: four times as many keep .14 more", 0.14, 0.03)
        said.hypothesis(f"facts.{number}", CLAIM, says, of=few - many, equal=0.0, within=0.09, unless=by_fact)
        says = f"at equal exposures of each ({number} examples for the few), of a quarter of the facts less is kept"
        by_fact = Alternative("exposures per fact decide: as much", 0.0, 0.03)
        said.hypothesis(f"exposures.{number}", CLAIM, says, of=read.kept(ways(s, number * times)) - few, at_least=0.05,
                        unless=by_fact)  # fmt: skip


def outside(said: Predictions, settings: Settings, read: Read) -> None:
    """Facts outside the buffer gain, but less. What the smallest buffer does for the others was too little to tell."""
    nothing = read.kept([run_name(0.0, settings.buffer_steps)])
    for size, lead in zip(settings.buffers, (0.1, 0.1, 0.02), strict=False):
        inside = read.buffered(size, "inside", lambda r: r.inside)
        others = read.buffered(size, "others", lambda r: r.outside)
        says = f"buffer of {size}: its facts are kept more than all others, by at least {lead:g}"
        carried = Alternative("all others are carried along as far", 0.0, lead / 2)
        said.hypothesis(f"inside.{size}", CLAIM, says, of=inside - others, at_least=lead, unless=carried)
        if size > min(settings.buffers):
            says = f"buffer of {size}: the others gain as well, by at least .1, though they are never shown"
            alone = Alternative("they gain nothing, since they share no prompt with what is rehearsed", 0.0, 0.05)
            said.hypothesis(f"outside.{size}", CLAIM, says, of=others - nothing, at_least=0.1, unless=alone)
