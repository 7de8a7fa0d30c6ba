"""Worlds of two-hop facts in plain English: experts for the hops, each alone and measured alone, then reused together.

Experts for the first hop (new people's countries) and the second hop (made-up capitals) are trained on chosen layers,
each alone; what they do alone fixes the predictions; then they are reused together. Families of facts: R real, H real
countries with made-up capitals, F made up throughout (see the task). No wording that is asked was trained.

Every direct question is answered in free text, read off greedily and told by kind (the right capital, the one before,
another one, the country itself, another country, neither), and by forced choice among the capitals of the family. The
first-hop expert alone is asked for the capitals that the base knows: that is its lambda. Beside these stand the one-hop
facts, and what the base knew before: capitals elsewhere, its own text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from empirical.engine.experiment import Kind
from empirical.engine.sealed import seal
from empirical.engine.settings import Count
from empirical.experiments.plain_english_tables import (
    FEW,
    Answered,
    Foretold,
    Grouped,
    Law,
    Measured,
    Reply,
    Scored,
    Steps,
    WorldCell,
    WorldSettings,
)
from empirical.experiments.pretrained import SCRATCH, agreement, base_model, survey, train_placed
from empirical.reuse.methods import Options, asks, oracle_right, random_like, reused
from empirical.reuse.own import trial
from empirical.tasks.entities import (
    DIRECT,
    FIRST,
    REAL,
    EntityShape,
    Person,
    Question,
    World,
    direct,
    first_hop,
    second_hop,
    training,
    training_second,
    written_out,
)
from empirical.tasks.sentences import Part, Ragged
from empirical.training.adapter import AdapterShape, Job, Schedule
from empirical.training.bases import Updates, updated
from empirical.training.store import answered, code, described
from empirical.training.together import trainer
from theory.composition import coverage_law
from theory.numerics import require, stream

HOPS, PLACES = ("first", "second", "direct"), ("early", "middle", "late", "all")
#: what an expert learns: a hop, or "general", what the others rehearse and no fact of its own
LEARNT = (*HOPS, "general")
GENERAL = "general_all"
#: modules that decide what a model answers, beside those of a trainer
ANSWERING = ("empirical.experiments.plain_english", "empirical.experiments.plain_english_tables",
             "empirical.experiments.pretrained", "empirical.reuse.linear", "empirical.reuse.methods",
             "empirical.reuse.options", "empirical.reuse.own", "empirical.reuse.peft_forms", "empirical.reuse.routers",
             "empirical.reuse.spectral", "empirical.reuse.trimmed", "empirical.reuse.with_data",
             "empirical.tasks.entities", "theory.lowrank", "theory.merging")  # fmt: skip
#: kinds of questions
KINDS = ("first", "second", "direct", "famous", "kept")
#: what a single expert is asked
ASKED = {
    "first": ("first", "direct", "kept"),
    "second": ("second", "direct", "famous", "kept"),
    "direct": ("direct", "famous", "kept"),
    "general": ("kept",),
}


class Expert(NamedTuple):
    """What the name of an expert says: its hop, its place (of PLACES, or "3-5" for layers), whether it rehearses direct
    questions about other people."""

    hop: str
    place: str
    typed: bool

    @classmethod
    def of(cls, name: str) -> Expert:
        """Read the name. Raises ValueError for another one."""
        hop, _, rest = name.partition("_")
        place, _, typed = rest.partition("_")
        layers = place in PLACES or all(part.isdigit() for part in place.split("-", 1))
        fits = hop in LEARNT and layers and typed in ("", "typed")
        require(fits, "experts", f"one of {', '.join(LEARNT)}, _, a place, and _typed where it is so", name)
        return cls(hop, place, bool(typed))


def members(sum_: str) -> list[str]:
    """The experts of a sum: "early+late" are first_early and second_late, a third one learns direct questions."""
    places = sum_.split("+")
    require(2 <= len(places) <= 3, "sums", "the places of two or three experts, joined by +", sum_)
    return [f"{hop}_{place}" for hop, place in zip(HOPS, places, strict=False)]


# ---------------------------------------------------------------- the grid


def world_cells(settings: Grouped) -> list[WorldCell]:
    """One cell per world of every group.

    Raises:
        ValueError: an unknown expert or method, a sum of experts that are not trained, an unknown setting of a group.
    """
    grid: list[WorldCell] = []
    for group in settings.groups:
        world = WorldSettings.of(settings).but(**group.changes)
        for expert in world.experts:
            Expert.of(expert)
        for method in world.methods:
            has = "general" not in asks(method) or GENERAL in world.experts
            require(has, f"methods: {method}", f"the expert {GENERAL}, for which it asks", ", ".join(world.experts))
        for sum_ in (*world.sums, *world.libraries):
            missing = sorted(set(members(sum_)) - set(world.experts))
            require(not missing, f"sums: {sum_}", "experts that are trained", ", ".join(missing))
        grid += [WorldCell.of(world, group=group.name, seed=group.first_seed + i) for i in range(group.worlds)]
    return grid


def takes_method(cell: WorldCell) -> bool:
    """A merge of the user's own is run where others are."""
    return bool(cell.libraries)


def seconds(cell: WorldCell) -> float:
    """A guess of the seconds that a world takes on one core with the packaged base, from its sizes."""
    asked = len(cell.families) * cell.people + cell.famous
    conditions = len(cell.experts) + len(cell.sums) + len(cell.methods) * len(cell.libraries) + 2
    if cell.base == SCRATCH:
        return 10 + len(cell.experts) * cell.steps * 0.05 + conditions
    depth = 30  # of the packaged base
    above = sum(1 - (layers(cell, Expert.of(e).place) or (0,))[0] / depth for e in cell.experts)
    return 60 + above * cell.steps * cell.batch * 0.055 + conditions * asked * 0.25


def prompts(asked: Sequence[Question]) -> list[str]:
    """The texts of questions."""
    return [q.prompt for q in asked]


def hits(given: Sequence[str | None], asked: Sequence[Question]) -> np.ndarray:
    """Which names given (n,) are the answers."""
    return np.array([g == q.answer for g, q in zip(given, asked, strict=True)], dtype=bool)


# ---------------------------------------------------------------- a world


def layers(cell: WorldSettings, place: str) -> tuple[int, ...] | None:
    """The layers of a place; None for all."""
    if place == "all":
        return None
    found = getattr(cell, place) if place in PLACES else [int(part) for part in place.split("-")]
    return tuple(range(found[0], found[-1] + 1))


class WorldRun:
    """Everything that happens in one world, in order; see :meth:`run`."""

    def __init__(self, cell: WorldCell, device: str) -> None:
        self.cell, self.seed = cell, cell.seed
        self.base, self.reader = base_model(cell.base, device)
        self.survey = survey(cell.base, device)
        shape = EntityShape(cell.people, cell.countries, cell.families, cell.famous_names)
        self.world = World(shape, self.seed, self.survey.known)
        w = self.world
        self.people = {f: [p for p in w.people if p.family == f] for f in cell.families}
        self.tables = {f: {y: w.capital[y] for y in names} for f, names in w.countries.items()}
        #: people of whom the base composes, by the name of their cell
        self.famous = {f"famous_{f}": self._famous(f) for f in w.real}
        inside = {c.name for found in w.real.values() for c in found}
        named = [c for c in self.survey.named if c.name not in inside]
        require(len(named) >= cell.apart, "apart", f"at most {len(named)} countries that the base names", cell.apart)
        order = stream(self.seed, "entities", "apart").permutation(len(named))
        self.apart = [named[i] for i in order[: cell.apart]]
        inside |= {c.name for c in self.apart}
        self.rehearsed = [c for c in REAL if c.name not in inside and self.survey.replay[c.name]]
        known = self.survey.composed - {p.name for p in w.people}
        self.others = [
            Person(x, "R", c.name, c.capital, c.capital) for c in self.rehearsed for x in c.people if x in known
        ]
        self.countries = [*dict.fromkeys([c.name for c in REAL] + [y for names in w.countries.values() for y in names])]
        self.capitals = [*dict.fromkeys([c.capital for c in REAL] + list(w.capital.values()))]
        self.losses: dict[str, float] = {}
        self.replies: dict[str, Reply] = {}

    def _famous(self, family: str) -> list[Person]:
        """Famous people of the family's countries of whom the base composes, at most `famous` of them."""
        found = [p for p in self.world.famous(family) if p.name in self.survey.composed]
        order = stream(self.seed, "entities", "famous", family).permutation(len(found))
        return [found[i] for i in sorted(order[: self.cell.famous])]

    def run(self) -> Measured:
        """Train experts, measure them alone, seal the predictions, reuse, score."""
        cell = self.cell
        self.told = described({"base": self.base, "asked": self.asked, "code": code(*ANSWERING), "run": type(self)})
        self.score("base", KINDS, lambda: nullcontext(self.base))
        experts = self.train([self.job(name) for name in cell.experts])
        for name, updates in experts.items():
            self.score(name, ASKED[Expert.of(name).hop], partial(updated, self.base, updates), updates=updates)
        predicted = seal("predicted", self.foretell())
        for sum_ in cell.sums:
            self.reuse("sum", sum_, [experts[e] for e in members(sum_)])
        if cell.sums:
            first, *rest = (experts[e] for e in members(cell.sums[0]))
            self.reuse("random", cell.sums[0], [random_like(first, self.seed), *rest])
        own = cell.user_method
        general = [experts[GENERAL]] if GENERAL in experts else []
        for library in cell.libraries:
            parts = [experts[e] for e in members(library)]
            seen = Options(seed=self.seed, density=cell.density, general=general,
                           probes=[self.few(self.shown(e)) for e in members(library)],
                           data=self.few(training(self.others, "direct")))  # fmt: skip
            methods = [*cell.methods]
            if own and (general or "general" not in asks(own.pinned)):
                methods.append(own.pinned)
            for method in dict.fromkeys(methods):
                self.reuse(method, library, parts, seen)
        oracle = {sum_: self.routed(members(sum_)) for sum_ in dict.fromkeys([*cell.sums, *cell.libraries])}
        replies = self.replies
        return Measured(
            known=len(self.survey.known), trainer=trainer(), losses=self.losses, predicted=predicted,
            answered={name: reply.scored for name, reply in replies.items()},
            written={name: reply.written for name, reply in replies.items() if reply.written}, oracle=oracle,
            merging={name: reply.seconds for name, reply in replies.items() if ":" in name},
        )  # fmt: skip

    @property
    def asked(self) -> dict[str, Any]:
        """Everything that questions are made from, and tokens that tell one tokenizer from another."""
        w = self.world
        return {"people": w.people, "tables": self.tables, "old": w.old, "famous": self.famous, "apart": self.apart,
                "text": self.survey.apart, "countries": self.countries, "capitals": self.capitals,
                "tokens": self.reader.lesson([*first_hop(w.people), *second_hop(w.capital)])}  # fmt: skip

    def reuse(self, method: str, sum_: str, parts: Sequence[Updates], options: Options | None = None) -> None:
        """Score the experts of a sum, reused by a method; "random" is the sum of what stands in for them."""
        own, how = ".py:" in method, "sum" if method == "random" else method
        self.score(f"{'own' if own else method}:{sum_}", KINDS, partial(reused, how, parts, self.base, options),
                   written=method == "sum", keep=not own, method=how, parts=parts, options=options)  # fmt: skip

    def routed(self, experts: Sequence[str]) -> dict[str, Count]:
        """What an oracle that hands each question to the base or one expert answers right in free text."""
        return {
            f: Count.of(oracle_right([np.array(self.replies[e].right[f]) for e in ("base", *experts)]))
            for f in self.people
        }

    # ------------------------------------------------------------ experts

    def train(self, jobs: Sequence[Job]) -> dict[str, Updates]:
        """All experts of the world."""
        trained = train_placed(self.base, jobs)
        self.losses = {job.name: float(np.mean(trained[job.name].losses[-10:])) for job in jobs}
        return {job.name: trained[job.name].updates for job in jobs}

    def job(self, name: str) -> Job:
        """What an expert is shown.

        Rehearsed are the base's own text, capitals of countries outside the world, none of them asked for damage, and
        if `typed`, direct questions about famous people there of whom the base composes. Never capitals of the world,
        never a direct question about a new person or one of the world's countries.
        """
        cell, lesson, expert, shown = self.cell, self.reader.lesson, Expert.of(name), self.shown(name)
        typed = cell.typed if expert.typed else 0.0
        rest = 1.0 - cell.own - cell.text - typed
        capitals = [q for c in self.rehearsed for q in self.survey.replay[c.name]]
        asked = [(shown, cell.own)] if shown else []
        asked += [(capitals, rest)]
        asked += [(training(self.others, "direct"), typed)] if typed else []
        parts = [Part(self.survey.rehearsed, cell.text), *(Part(lesson(found), share) for found, share in asked)]
        shape = AdapterShape(cell.rank, 2 * cell.rank, layers(cell, expert.place))
        plan = Schedule(cell.steps, cell.batch, cell.rate, warmup=max(1, cell.steps // 10))
        return Job(name, parts, shape, plan, self.seed)

    def shown(self, name: str) -> list[Question]:
        """The facts that an expert is taught as its own."""
        hop = Expert.of(name).hop
        changed = {y: z for f, table in self.tables.items() if f != "R" for y, z in table.items()}
        if hop == "general":
            return []
        return (
            training_second(changed)
            if hop == "second"
            else training(self.world.people if hop == "first" else self.others, hop)
        )

    def few(self, shown: Sequence[Question]) -> Ragged:
        """A few of these questions with their answers, for methods that are not free of data."""
        order = stream(self.seed, "entities", "few").permutation(len(shown))[:FEW]
        return self.reader.lesson([shown[i] for i in order])

    # ------------------------------------------------------------ questions and scores

    def ask(self, model: nn.Module, asked: Sequence[Question], names: Sequence[str]) -> list[str | None]:
        """The names given, in the order of the questions."""
        return self.reader.names(model, prompts(asked), names) if asked else []

    def score(
        self, name: str, kinds: Sequence[str], model: Callable[[], AbstractContextManager[nn.Module]], *,
        written: bool = False, keep: bool = True, **made_of: Any,
    ) -> None:  # fmt: skip
        """Score a model under a name; what it answered before is taken from where it was kept.

        Args:
            model: makes it, for as long as it is asked.
            keep: whether what it answers is determined by `made_of`, what it is made of beside the base.
        """

        def ask() -> str:
            started = time.process_time()
            with model() as there:
                seconds = time.process_time() - started
                return self.reply(there, kinds, written).but(seconds=seconds).model_dump_json()

        told = {**self.told, "kinds": kinds, "written": written, **made_of}
        self.replies[name] = Reply.model_validate_json(answered(told, ask) if keep else ask())

    def reply(self, model: nn.Module, kinds: Iterable[str], written: bool = False) -> Reply:
        """What the model answers to the kinds of questions given, and to the written-out ones."""
        w = self.world
        facts: dict[str, Count] = {}
        questions: dict[str, tuple[Answered, ...]] = {}
        survivors: dict[str, Answered] = {}
        named: list[str | None] = []
        one: dict[str, bool] = {}
        two: dict[str, bool] = {}
        right_ones: dict[str, tuple[bool, ...]] = {}
        if "first" in kinds:
            for number, wording in enumerate(FIRST.held_out):
                asked = first_hop(w.people, wording)
                given = self.ask(model, asked, self.countries)
                right = hits(given, asked)
                named = named or given
                one = {p.name: one.get(p.name, False) or bool(r) for p, r in zip(w.people, right, strict=True)}
                facts[f"first_{number}"] = Count.of(right)
            facts["first"] = Count.total(facts[f"first_{number}"] for number in range(len(FIRST.held_out)))
        if "second" in kinds:
            asked = [q for table in self.tables.values() for q in second_hop(table)]
            right = hits(self.ask(model, asked, self.capitals), asked)
            two = dict(zip((y for table in self.tables.values() for y in table), right.tolist(), strict=True))
            changed = np.array([f != "R" for f, table in self.tables.items() for _ in table])
            facts["second"] = Count.of(right, changed)
        if "direct" in kinds:
            answers = {f: self.direct(model, people) for f, people in self.people.items()}
            right_ones = {f: tuple(np.concatenate([k == 0 for k, _ in a]).tolist()) for f, a in answers.items()}
            for family, found in answers.items():
                every = np.ones(len(self.people[family]), dtype=bool)
                questions[family] = tuple(Answered.of(*wording, every) for wording in found)
                if one or two:
                    mask = np.array([one.get(p.name, True) and two.get(p.country, True) for p in self.people[family]])
                    survivors[family] = Answered.total(Answered.of(*wording, mask) for wording in found)
        if "famous" in kinds:
            for name_, people in self.famous.items():
                every = np.ones(len(people), dtype=bool)
                questions[name_] = tuple(Answered.of(*a, every) for a in self.direct(model, people))
        if "kept" in kinds:
            asked = second_hop({c.name: c.capital for c in self.apart})
            facts["capitals"] = Count.of(hits(self.ask(model, asked, self.capitals), asked))
            facts["text"] = agreement(model, self.survey.apart)
        return Reply(
            scored=Scored(facts=facts, questions=questions, survivors=survivors), right=right_ones,
            written=self.write_out(model, named, two) if written else {},
        )  # fmt: skip

    def direct(self, model: nn.Module, people: Sequence[Person]) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
        """Direct questions about people of one family, wording by wording: kinds of the free answers (n,), and which
        forced choices are right (n,); see `Answered`."""
        if not people:
            nobody = dict.fromkeys(Answered._fields[6:], np.zeros(0, dtype=bool))
            return [(np.zeros(0, dtype=int), nobody) for _ in DIRECT.held_out]
        table = self.tables[people[0].family]
        new, old = list(table.values()), [self.world.old[y] for y in table]
        both = list(dict.fromkeys(new + old))
        target = {field: np.array([both.index(getattr(p, field)) for p in people]) for field in ("capital", "old")}
        found = []
        for wording in DIRECT.held_out:
            asked = direct(people, wording)
            free = self.ask(model, asked, [*self.capitals, *self.countries])
            kinds = np.array([self.kind(g, p) for g, p in zip(free, people, strict=True)])
            scores = self.reader.forced(model, prompts(asked), both)
            found.append((kinds, {
                "forced": best(scores, [both.index(x) for x in new]) == target["capital"],
                "old_forced": best(scores, [both.index(x) for x in old]) == target["old"],
                "forced_of_all": scores.argmax(axis=1) == target["capital"],
                "old_forced_of_all": scores.argmax(axis=1) == target["old"],
            }))  # fmt: skip
        return found

    def kind(self, given: str | None, person: Person) -> int:
        """What kind of answer a name is, by the position of its field in `Answered`."""
        kinds = {person.capital: "right", person.country: "country"}
        if person.old != person.capital:
            kinds[person.old] = "old"
        other = "other_country" if given in self.countries else "other_capital"
        return Answered._fields.index("neither" if given is None else kinds.get(given, other))

    def write_out(self, model: nn.Module, named: Sequence[str | None], two: Mapping[str, bool]) -> dict[str, Steps]:
        """The written-out question: its two steps, then the second step after the country that the model named.

        The text up to the country is the one-hop question, so that its first step is that question's answer. The form
        around the country is filled in. A model that names no country has failed.
        """
        people = self.world.people
        first = np.array([g == p.country for g, p in zip(named, people, strict=True)])
        asked = written_out(people)
        second = hits(self.ask(model, asked, self.capitals), asked)
        reached = second & first
        lost = [i for i, country in enumerate(named) if country is not None and not first[i]]
        if lost:
            own = written_out([people[i] for i in lost], [named[i] for i in lost])
            reached[lost] = hits(self.ask(model, own, self.capitals), own)
        steps = {"s1": first, "s2": second, "bare2": np.array([two[p.country] for p in people]), "reached": reached}
        mine = {f: np.array([p in chosen for p in people]) for f, chosen in self.people.items()}
        return {f: Steps(**{step: Count.of(right, m) for step, right in steps.items()}) for f, m in mine.items()}

    # ------------------------------------------------------------ predictions from single experts

    def foretell(self) -> Foretold:
        """The law of every sum of two over H: lambda of its first expert, p2 of its second one."""
        pairs = [s for s in self.cell.sums if len(members(s)) == 2 and "H" in self.people]
        return Foretold(
            free={s: self.law(s, "H", "famous_H", "old", "right") for s in pairs},
            forced={s: self.law(s, "H", "famous_H", "old_forced", "forced") for s in pairs},
        )

    def law(self, sum_: str, of: str, known: str, old: str, new: str) -> Law:
        """coverage_law: lambda by the capitals that the base knows with the first expert, p2 by famous people with the
        second. A base that composes no famous person promises nothing there: p2 is 0."""
        first, second = members(sum_)
        retrieval = Answered.total(self.replies[first].scored.questions[of]).kind(old).rate
        famous = Answered.total(self.replies[second].scored.questions[known]).kind(new)
        p2 = famous.rate if famous.asked else 0.0
        law = coverage_law(1.0, retrieval, p2, self.cell.countries)
        return Law(retrieval=retrieval, p2=p2, product=law.low)


def best(scores: np.ndarray, columns: list[int]) -> np.ndarray:
    """The column with the largest score of those given, row by row."""
    found: np.ndarray = np.array(columns)[scores[:, columns].argmax(axis=1)]
    return found


def run_world(cell: WorldCell, device: str) -> Measured:
    """Run a world.

    Raises:
        TrainingDiverged: a loss was not finite.
        ValueError: the base cannot be loaded, or knows too few countries.
    """
    return WorldRun(cell, device).run()


WORLD = Kind(run_world, seconds=seconds, takes_method=takes_method, stores=True)
try_method = partial(trial, given=("general", "probes", "data"))
