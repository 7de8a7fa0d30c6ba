"""Two-hop reuse in a real pretrained model: person -> country -> capital, in plain English.

A cell is either *base* (the untouched base is asked what it knows and what it composes) or a *world*: experts for the
first hop (new people's countries) and the second hop (made-up capitals) are trained, each alone; what they do alone
fixes the predictions; then they are reused together. Families of facts: R real, H real countries with made-up
capitals, F made up throughout (see the task). Answers are names read off greedy text; the wordings asked are never
trained.

Scored in every condition, as [right, asked]: both hops, the direct question, the written-out one, and what the base
knew before: real capitals, direct questions about famous people, its own text. Beside every direct score stands its
chance: the share right if the answers given were permuted among the people of the family.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from torch import nn

from empirical.engine.eager import seal
from empirical.engine.experiment import Experiment, Kind
from empirical.engine.settings import Cell, Count
from empirical.experiments.entities.model import agreement, base_model, survey
from empirical.experiments.entities.predictions import predictions
from empirical.experiments.entities.tables import (
    BaseCell,
    Foretold,
    Knowledge,
    Law,
    Measured,
    Settings,
    Steps,
    WorldCell,
    WorldSettings,
    Written,
)
from empirical.reuse.methods import FORMER, Options, check_method, oracle_right, reused
from empirical.tasks.entities import (
    FAMILIES,
    REAL,
    EntityShape,
    Person,
    Question,
    World,
    bridge_given,
    direct,
    first_hop,
    second_hop,
    training,
    training_second,
    written_out,
)
from empirical.tasks.sentences import Part
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, updated
from empirical.training.together import train_adapters, trainer
from theory.composition import chain_of_thought, coverage_law
from theory.numerics import require

EXPERTS = ("first", "second", "joint", "joint_bridge", "direct")


# ---------------------------------------------------------------- the grid


def cells(settings: Settings) -> list[Cell]:
    """Base cells, and one cell per world of every group.

    Raises:
        ValueError: an unknown method, or an unknown setting of a group.
    """
    default, asked = WorldSettings.of(settings), settings.asked
    seeds = range(asked.first_seed, asked.first_seed + asked.worlds)
    grid: list[Cell] = [BaseCell.of(asked, base=settings.base, seed=s) for s in seeds]
    for group in settings.groups:
        world = default.but(**group.changes)
        for method in world.methods:
            check_method(FORMER.get(method, method))
        grid += [WorldCell.of(world, group=group.name, seed=group.first_seed + i) for i in range(group.worlds)]
    return grid


def base_seconds(cell: BaseCell) -> float:
    """A guess of the seconds that a base cell takes on one core with the packaged base."""
    return 5.0 if cell.base == "scratch" else 15.0


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core with the packaged base, from its sizes."""
    steps = len(EXPERTS) * cell.steps * cell.batch
    questions = (4 * 3 * cell.people + 5 * cell.countries) * (len(cell.methods) + len(EXPERTS) + 2)
    if cell.base == "scratch":
        return 10 + steps * 0.005 + questions * 0.01
    return 60 + steps * 0.075 + questions * 0.06


# ---------------------------------------------------------------- the untouched base


def run_base(cell: BaseCell, device: str) -> Knowledge:
    """What the untouched base knows of real countries drawn at random, and what it composes.

    `given`: the direct question about a new person after a sentence that states the country; `new`: without it, and
    its chance; `famous`: the direct question about famous people, chosen by nothing that the base was asked before.

    Raises:
        ValueError: the base cannot be loaded.
    """
    model, reader = base_model(cell.base, device)
    world = World(EntityShape(cell.people, cell.countries), cell.seed)
    names = [*dict.fromkeys([c.capital for c in REAL])]
    new = [p for p in world.people if p.family == "R"]
    sets = {
        "capitals": second_hop({y: world.old[y] for y in world.countries["R"]}),
        "given": bridge_given(new),
        "new": direct(new),
        "famous": direct(world.famous("R")[: 3 * cell.people]),
    }
    given = {name: reader.names(model, _prompts(asked), names) for name, asked in sets.items()}
    counts = {name: Count.of(_right(given[name], asked)) for name, asked in sets.items()}
    return Knowledge(**counts, new_chance=permuted_chance(given["new"], [p.capital for p in new]))


# ---------------------------------------------------------------- a world


def _prompts(asked: Sequence[Question]) -> list[str]:
    return [q.prompt for q in asked]


def _right(given: Sequence[str | None], asked: Sequence[Question]) -> np.ndarray:
    return np.array([g == q.answer for g, q in zip(given, asked, strict=True)], dtype=bool)


def permuted_chance(given: Sequence[str | None], answers: Sequence[str]) -> float:
    """Expected share right if the answers given were permuted uniformly among the people: exact, no draw.

    Every pair of a given answer and a person meets with probability 1/n, so it is the share of equal pairs among all.
    """
    require(len(given) == len(answers) > 0, "given", f"{len(answers)} answers, at least one", len(given))
    there = Counter(answers)
    return sum(there[g] for g in given if g is not None) / len(answers) ** 2


class WorldRun:
    """Everything that happens in one world, in order; see :meth:`run`."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.seed = cell, cell.seed
        self.base, self.reader = base_model(cell.base, device)
        self.survey = survey(cell.base, device)
        self.world = World(EntityShape(cell.people, cell.countries), self.seed, self.survey.known)
        w = self.world
        self.people = {f: [p for p in w.people if p.family == f] for f in FAMILIES}
        self.tables = {f: {y: w.capital[y] for y in w.countries[f]} for f in FAMILIES}
        self.famous = {f: [p for p in w.famous(f) if p.name in self.survey.composed] for f in ("R", "H")}
        rows = np.arange(len(self.survey.texts.tokens))
        self.rehearsed, self.kept_apart = self.survey.texts.take(rows[::2]), self.survey.texts.take(rows[1::2])
        self.countries = [*dict.fromkeys([c.name for c in REAL] + w.countries["F"])]
        self.capitals = [*dict.fromkeys([c.capital for c in REAL] + list(w.capital.values()))]
        self.losses: dict[str, float] = {}
        self.scores: dict[str, dict[str, Count]] = {}
        self.chance: dict[str, dict[str, float]] = {}
        self.written: dict[str, Written] = {}
        self.alone: dict[str, dict[str, np.ndarray]] = {}

    def run(self) -> Measured:
        """Train experts, measure them alone, seal the predictions, reuse, score."""
        self.alone["base"] = self.score("base", self.base)
        experts = self.train([self.job(name) for name in EXPERTS])
        for name, updates in experts.items():
            with updated(self.base, updates) as model:
                self.alone[name] = self.score(name, model)
        predicted = Foretold(law=seal(self.law()))
        pair = [experts["first"], experts["second"]]
        for method in self.methods():
            options = Options(seed=self.seed, density=self.cell.density)
            # records name peft's forms on the factors by their former names
            with reused(FORMER.get(method, method), pair, self.base, options) as model:
                self.score("own" if ".py:" in method else method, model)
        both = ("base", "first", "second")
        routed = {f: Count.of(oracle_right([self.alone[e][f] for e in both])) for f in FAMILIES}
        return Measured(
            known=len(self.survey.known), trainer=trainer(), losses=self.losses, scores=self.scores,
            chance=self.chance, written=self.written, oracle=routed, predicted=predicted,
        )  # fmt: skip

    def methods(self) -> list[str]:
        """The exact sum, the methods of the cell, the user's own."""
        own = self.cell.user_method
        listed = dict.fromkeys(["sum", *self.cell.methods, *([own.reference] if own else [])])
        return list(listed)

    # ------------------------------------------------------------ experts

    def train(self, jobs: Sequence[Job]) -> dict[str, Updates]:
        """All experts of the world."""
        trained = train_adapters(self.base, jobs)
        self.losses = {name: float(np.mean(t.losses[-10:])) for name, t in trained.items()}
        return {name: t.updates for name, t in trained.items()}

    def job(self, name: str) -> Job:
        """What an expert is shown. A half of every batch (bridge data: 0.4) rehearses what the base gets right.

        Rehearsed are capitals of countries outside the world and the base's own text; never capitals of R, famous
        people or a direct question.
        """
        w, reader, cell = self.world, self.reader, self.cell
        first = training(w.people, "first")
        second = training_second({**self.tables["H"], **self.tables["F"]})
        shown = {
            "first": [(first, 0.5)],
            "second": [(second, 0.5)],
            "joint": [(first, 0.25), (second, 0.25)],
            "joint_bridge": [(first, 0.2), (second, 0.2), (training(w.people[::2], "direct"), 0.2)],
            "direct": [(training(w.people, "direct"), 0.5)],
        }[name]
        inside = {*w.countries["R"], *w.countries["H"]}
        capitals = [q for country, known in self.survey.replay.items() if country not in inside for q in known]
        rest = 1.0 - sum(share for _, share in shown)
        parts = [Part(reader.lesson(asked), share) for asked, share in shown]
        replay = [Part(reader.lesson(capitals), 0.6 * rest)] if capitals else []
        parts += [*replay, Part(self.rehearsed, rest - sum(p.weight for p in replay))]
        shape = AdapterShape(cell.rank, 2 * cell.rank)
        plan = Schedule(cell.steps, cell.batch, cell.rate, warmup=max(1, cell.steps // 10))
        return Job(name, parts, shape, plan, self.seed)

    # ------------------------------------------------------------ questions and scores

    def ask(self, model: nn.Module, asked: Sequence[Question], names: Sequence[str]) -> list[str | None]:
        """The names given, in the order of the questions."""
        return self.reader.names(model, _prompts(asked), names) if asked else []

    def score(self, name: str, model: nn.Module) -> dict[str, np.ndarray]:
        """Score the model in every cell; returns which direct questions it answers, family by family."""
        counts: dict[str, Count] = {}
        chance: dict[str, float] = {}
        answered: dict[str, np.ndarray] = {}
        people = self.world.people
        named = self.ask(model, first_hop(people), self.countries)
        first = _right(named, first_hop(people))
        bare: dict[str, bool] = {}
        for family in FAMILIES:
            mine = np.array([p.family == family for p in people])
            counts[f"first_{family}"] = Count.of(first[mine])
            asked = second_hop(self.tables[family])
            right = _right(self.ask(model, asked, self.capitals), asked)
            counts[f"second_{family}"] = Count.of(right)
            bare |= dict(zip(self.tables[family], right.tolist(), strict=True))
        asked = direct(people)
        given = self.ask(model, asked, self.capitals)
        right = _right(given, asked)
        for family in FAMILIES:
            rows = [i for i, p in enumerate(people) if p.family == family]
            answered[family] = right[rows]
            counts[f"direct_{family}"] = Count.of(right[rows])
            counts[f"unseen_{family}"] = Count.of(right[[i for i in rows if i % 2]])
            chance[family] = permuted_chance([given[i] for i in rows], [people[i].capital for i in rows])
        for family, famous in self.famous.items():
            given = self.ask(model, direct(famous), self.capitals)
            counts[f"famous_{family}"] = Count.of(_right(given, direct(famous)))
            counts[f"famous_{family}_old"] = Count.of(
                np.array([g == p.old for g, p in zip(given, famous, strict=True)])
            )
        counts["text"] = agreement(model, self.kept_apart)
        self.scores[name], self.chance[name] = counts, chance
        self.written[name] = self.write_out(model, people, named, first, bare)
        return answered

    def write_out(
        self,
        model: nn.Module,
        people: Sequence[Person],
        named: Sequence[str | None],
        first: np.ndarray,
        bare: Mapping[str, bool],
    ) -> Written:
        """The written-out question: both steps, sealed, then the second step after the country that the model named.

        The text up to the country is the one-hop question, so that its first step is that question's answer. The form
        around the country is filled in. A model that names no country has failed.
        """
        asked = written_out(people)
        second = _right(self.ask(model, asked, self.capitals), asked)
        known = np.array([bare[p.country] for p in people])
        rows = {f: np.array([p.family == f for p in people]) for f in FAMILIES}
        foretold = {}
        for family, mine in rows.items():
            steps = [Count.of(step[mine]) for step in (first, second, known)]
            law, bare2 = chain_of_thought(steps[0].rate, steps[1].rate), steps[2].rate
            foretold[family] = Steps(
                s1=steps[0], s2=steps[1], bare2=steps[2], lower=law.lower, independent=law.independent,
                bare=chain_of_thought(steps[0].rate, bare2).independent,
            )  # fmt: skip
        sealed = seal(foretold)
        reached = second & first
        lost = [i for i, country in enumerate(named) if country is not None and not first[i]]
        if lost:
            own = written_out([people[i] for i in lost], [named[i] for i in lost])
            reached[lost] = _right(self.ask(model, own, self.capitals), own)
        return Written(predicted=sealed, reached={family: Count.of(reached[mine]) for family, mine in rows.items()})

    # ------------------------------------------------------------ predictions from single experts

    def law(self) -> Law:
        """coverage_law from the experts alone: lambda on R with the first, p2 on famous people of H with the second.

        A base that composes no famous person of H promises nothing there: p2 is 0.
        """
        retrieval, famous = self.scores["first"]["direct_R"].rate, self.scores["second"]["famous_H"]
        p2 = famous.rate if famous.asked else 0.0
        law = coverage_law(1.0, retrieval, p2, self.cell.countries)
        return Law(retrieval=retrieval, p2=p2, low=law.low, high=law.high)


def run_world(cell: WorldCell, device: str) -> Measured:
    """Run a world.

    Raises:
        TrainingDiverged: a loss was not finite.
        ValueError: the base cannot be loaded, or knows too few countries.
    """
    return WorldRun(cell, device).run()


BASE = Kind(run_base, seconds=base_seconds)
WORLD = Kind(run_world, seconds=seconds, takes_method=lambda cell: True, stores=True)
experiment = Experiment(
    purpose="Two-hop reuse in a real pretrained model: person -> country -> capital, in plain English",
    order=50,
    protocol=1,
    settings=Settings,
    cells=cells,
    kinds=(BASE, WORLD),
    predictions=predictions,
)
