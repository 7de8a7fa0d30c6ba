"""Two-hop worlds: person -> bridge -> value, with a covered set of bridges and a changed second hop.

Glossary: a *first hop* is ``x R1 -> y`` (person to bridge), a *second hop* ``y R2 -> z`` (bridge to value), the
*direct* question ``x R1 R2 -> z`` asks for both at once, the *written-out* one lets the model name the bridge first.
*Old* persons are known to the base, *new* ones only to a first-hop adapter. A second hop is *changed* if a
second-hop adapter teaches it anew. (bridge, R2) is *covered* if pretraining contains direct questions through it.

Everything is drawn from named streams of one seed. New persons' bridges and the changed table are independent and
uniform (with replacement), which is the premise of the ceilings in `theory`; a changed fact may therefore repeat the
old value, and :attr:`Queries.differs` says where it does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NotRequired

import numpy as np

from empirical.tasks.example import Example
from empirical.tasks.sentences import Bools, Ints, Part, Sentences
from theory.numerics import integer, one_of, real, require, stream


@dataclass(frozen=True)
class WorldShape:
    """Sizes of a world.

    Args:
        old_persons, new_persons, bridges, values: how many of each.
        first_relations: relations R1 from a person to a bridge.
        second_relations: relations R2 from a bridge to a value.
        changed_relations: the first so many R2 are changed, for every bridge.
        coverage: share c in [0, 1] of covered bridges, rounded to whole bridges.
        composed_share: share of old persons that occur in direct and written-out questions of pretraining.
        coverage_by: ``"bridge"``: a bridge is covered in all R2 or in none; ``"relation"``: for each R2 its own set.

    Raises:
        ValueError: a count below 1, a share outside [0, 1], or more changed relations than there are.
    """

    old_persons: int = 400
    new_persons: int = 100
    bridges: int = 40
    values: int = 20
    first_relations: int = 2
    second_relations: int = 4
    changed_relations: int = 2
    coverage: float = 0.5
    composed_share: float = 0.8
    coverage_by: str = "bridge"

    def __post_init__(self) -> None:
        for name in ("old_persons", "new_persons", "bridges", "values", "first_relations", "second_relations"):
            integer(getattr(self, name), name, 1)
        integer(self.changed_relations, "changed_relations", 1)
        require(
            self.changed_relations < self.second_relations,
            "changed_relations",
            f"fewer than the {self.second_relations} second relations",
            self.changed_relations,
        )
        for name in ("coverage", "composed_share"):
            require(0.0 <= real(getattr(self, name), name) <= 1.0, name, "a share in [0, 1]", getattr(self, name))
        one_of(self.coverage_by, "coverage_by", ("bridge", "relation"))

    @property
    def persons(self) -> int:
        """Old persons come first, then the new ones."""
        return self.old_persons + self.new_persons


class Vocabulary:
    """Token numbers of a world: specials, relations, persons, bridges, values, attributes (in this order)."""

    SPECIALS = ("separator", "write_out", "identity", "attribute")

    def __init__(self, shape: WorldShape) -> None:
        self.separator, self.write_out, self.identity, self.attribute = range(len(self.SPECIALS))
        sizes = {
            "first": shape.first_relations,
            "second": shape.second_relations,
            "person": shape.persons,
            "bridge": shape.bridges,
            "value": shape.values,
            "attribute_value": shape.values,
        }
        start = len(self.SPECIALS)
        self._ranges: dict[str, range] = {}
        for name, size in sizes.items():
            self._ranges[name] = range(start, start + size)
            start += size
        self.size = start

    def range(self, kind: str) -> range:
        """Token numbers of ``first``, ``second``, ``person``, ``bridge``, ``value`` or ``attribute_value``."""
        return self._ranges[one_of(kind, "kind", tuple(self._ranges))]

    def tokens(self, kind: str, index: Ints) -> Ints:
        """Token numbers of the given indices of one kind."""
        return np.asarray(index, dtype=np.int64) + self.range(kind).start


@dataclass(frozen=True)
class Queries:
    """Two-hop questions with all that is needed to score them; every field has n rows.

    person, first, bridge, second: indices (not tokens). old: value that the old tables give; value: the right answer
    (changed table). covered, changed: flags of (bridge, second); differs: value != old.
    """

    person: Ints
    first: Ints
    bridge: Ints
    second: Ints
    old: Ints
    value: Ints
    covered: Bools
    changed: Bools
    differs: Bools

    def take(self, rows: Ints | Bools) -> Queries:
        """The questions of these rows (indices or a mask)."""
        return Queries(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def __len__(self) -> int:
        return len(self.person)


class World:
    """All tables of one world and the sentences that state them.

    Args:
        shape: sizes.
        seed: every stream of the world derives from it.

    Attributes:
        first: (persons, first_relations) bridge of each person. Old persons' bridges are balanced, so that every
            covered bridge is composed about equally often; new persons' are i.i.d. uniform.
        second_old, second_new: (bridges, second_relations) value; i.i.d. uniform, equal on unchanged relations.
        attributes: (persons,) a fact about every person, new ones too, so that their embeddings are trained.
        covered: (bridges, second_relations). composed: (old_persons,).
    """

    def __init__(self, shape: WorldShape, seed: int) -> None:
        self.shape, self.seed = shape, integer(seed, "seed", 0)
        self.vocabulary = Vocabulary(shape)
        s = shape
        rng = stream(seed, "world", "first")
        self.first = np.empty((s.persons, s.first_relations), dtype=np.int64)
        for r in range(s.first_relations):
            balanced = np.resize(rng.permutation(s.bridges), s.old_persons)
            self.first[: s.old_persons, r] = rng.permutation(balanced)
        self.first[s.old_persons :] = rng.integers(s.bridges, size=(s.new_persons, s.first_relations))
        rng = stream(seed, "world", "second")
        self.second_old = rng.integers(s.values, size=(s.bridges, s.second_relations))
        self.second_new = self.second_old.copy()
        changed = stream(seed, "world", "changed").integers(s.values, size=(s.bridges, s.changed_relations))
        self.second_new[:, : s.changed_relations] = changed
        self.attributes = stream(seed, "world", "attributes").integers(s.values, size=s.persons)
        self.covered = self._covered()
        self.composed = np.zeros(s.old_persons, dtype=bool)
        chosen = stream(seed, "world", "composed").permutation(s.old_persons)
        self.composed[chosen[: round(s.composed_share * s.old_persons)]] = True

    def _covered(self) -> Bools:
        s, rng = self.shape, stream(self.seed, "world", "covered")
        covered = np.zeros((s.bridges, s.second_relations), dtype=bool)
        orders = [rng.permutation(s.bridges) for _ in range(s.second_relations)]
        for r in range(s.second_relations):
            order = orders[0] if s.coverage_by == "bridge" else orders[r]
            covered[order[: round(s.coverage * s.bridges)], r] = True
        return covered

    @property
    def old(self) -> Ints:
        """Indices of the old persons."""
        return np.arange(self.shape.old_persons)

    @property
    def new(self) -> Ints:
        """Indices of the new persons."""
        return np.arange(self.shape.old_persons, self.shape.persons)

    @property
    def held_out(self) -> Ints:
        """Old persons that occur in no direct or written-out question of pretraining."""
        return np.flatnonzero(~self.composed)

    # ------------------------------------------------------------ sentences

    def _sentence(self, columns: Sequence[Ints | int], answers: tuple[int, ...]) -> Sentences:
        n = max(np.size(c) for c in columns)
        tokens = np.stack([np.broadcast_to(np.asarray(c, dtype=np.int64), (n,)) for c in columns], axis=1)
        return Sentences(np.ascontiguousarray(tokens), answers)

    def first_hops(self, persons: Ints) -> Sentences:
        """``x R1 y`` for every person given and every R1."""
        v, s = self.vocabulary, self.shape
        x, r = (a.ravel() for a in np.meshgrid(persons, np.arange(s.first_relations), indexing="ij"))
        y = v.tokens("bridge", self.first[x, r])
        return self._sentence([v.tokens("person", x), v.tokens("first", r), y], (2,))

    def second_hops(self, table: str, changed: bool | None = None) -> Sentences:
        """``y R2 z`` from the ``"old"`` or the ``"new"`` table; all R2, or only (un)changed ones."""
        one_of(table, "table", ("old", "new"))
        v, s = self.vocabulary, self.shape
        relations = np.arange(s.second_relations)
        if changed is not None:
            relations = relations[(relations < s.changed_relations) == changed]
        y, r = (a.ravel() for a in np.meshgrid(np.arange(s.bridges), relations, indexing="ij"))
        z = (self.second_old if table == "old" else self.second_new)[y, r]
        return self._sentence(
            [v.tokens("bridge", y), v.tokens("second", r), v.tokens("value", z)],
            (2,),
        )

    def attribute_facts(self, persons: Ints) -> Sentences:
        """``x ATTRIBUTE a`` for every person given."""
        v = self.vocabulary
        a = v.tokens("attribute_value", self.attributes[persons])
        return self._sentence([v.tokens("person", persons), v.attribute, a], (2,))

    def identities(self) -> Sentences:
        """The zero-hop task ``y IDENTITY y`` for every bridge."""
        v = self.vocabulary
        y = v.tokens("bridge", np.arange(self.shape.bridges))
        return self._sentence([y, v.identity, y], (2,))

    def queries(self, persons: Ints) -> Queries:
        """Every two-hop question (x, R1, R2) about these persons."""
        s = self.shape
        x, r1, r2 = (
            a.ravel()
            for a in np.meshgrid(persons, np.arange(s.first_relations), np.arange(s.second_relations), indexing="ij")
        )
        y = self.first[x, r1]
        old, value = self.second_old[y, r2], self.second_new[y, r2]
        return Queries(x, r1, y, r2, old, value, self.covered[y, r2], r2 < s.changed_relations, old != value)

    def direct(self, queries: Queries, table: str = "new") -> Sentences:
        """``x R1 R2 z``; z from the ``"old"`` or ``"new"`` table."""
        one_of(table, "table", ("old", "new"))
        z = queries.old if table == "old" else queries.value
        return self._sentence([*self._question(queries), self.vocabulary.tokens("value", z)], (3,))

    def written_out(self, queries: Queries, table: str = "new") -> Sentences:
        """``x R1 R2 WRITE_OUT y SEPARATOR y R2 z``: the bridge is named, then asked about."""
        one_of(table, "table", ("old", "new"))
        z = queries.old if table == "old" else queries.value
        v = self.vocabulary
        y, r2 = v.tokens("bridge", queries.bridge), v.tokens("second", queries.second)
        columns = [*self._question(queries), v.write_out, y, v.separator, y, r2, v.tokens("value", z)]
        return self._sentence(columns, (4, 8))

    def _question(self, queries: Queries) -> list[Ints | int]:
        v = self.vocabulary
        return [
            v.tokens("person", queries.person),
            v.tokens("first", queries.first),
            v.tokens("second", queries.second),
        ]

    def documents(self, sentences: Sequence[Sentences], count: int, seed_name: str) -> Sentences:
        """`count` documents of three one-hop sentences, drawn uniformly with replacement and packed into one row."""
        pool = np.concatenate([s.tokens for s in sentences])
        require(pool.shape[1] == 3, "sentences", "one-hop sentences (3 tokens)", f"{pool.shape[1]} tokens")
        picks = stream(self.seed, "documents", seed_name).integers(len(pool), size=(count, 3))
        v = self.vocabulary
        body = [pool[picks[:, i]] for i in range(3)]
        gap = np.full((count, 1), v.separator)
        return Sentences(np.hstack([body[0], gap, body[1], gap, body[2]]), (2, 6, 10))

    # ------------------------------------------------------------ what each model is shown

    def pretraining(self, weights: Weights | None = None, documents: int = 8000) -> list[Part]:
        """The base's mixture: all old facts, direct questions on covered bridges, written-out ones on all bridges."""
        w = weights or Weights()
        one_hop = [
            self.first_hops(self.old),
            self.second_hops("old"),
            self.attribute_facts(np.arange(self.shape.persons)),
        ]
        composed = self.queries(self.old[self.composed])
        direct = composed.take(composed.covered)
        parts = [Part(s, w.one_hop * len(s.tokens) / sum(len(t.tokens) for t in one_hop)) for s in one_hop]
        if len(direct):
            parts.append(Part(self.direct(direct, "old"), w.direct))
        parts.append(Part(self.written_out(composed, "old"), w.written_out))
        parts.append(Part(self.documents(one_hop, documents, "pretraining"), w.documents))
        return parts

    def replay(self, spare: Sentences | None = None) -> Sentences:
        """Old one-hop facts to rehearse while an adapter is trained, without the prompts of `spare`."""
        everything = np.concatenate(
            [
                self.first_hops(self.old).tokens,
                self.second_hops("old").tokens,
                self.attribute_facts(np.arange(self.shape.persons)).tokens,
            ]
        )
        if spare is not None:
            taught = {tuple(row) for row in spare.tokens[:, :2].tolist()}
            everything = everything[[tuple(row) not in taught for row in everything[:, :2].tolist()]]
        return Sentences(everything, (2,))


@dataclass(frozen=True)
class Weights:
    """Relative weights of the base's mixture."""

    one_hop: float = 0.4
    direct: float = 0.4
    written_out: float = 0.1
    documents: float = 0.1


CARD = """\
# two_hop

Made-up persons, bridges and values. A first hop `person_3 first_0` leads to a bridge, a second hop
`bridge_7 second_1` to a value, a direct question `person_3 first_0 second_1` asks for the value through the bridge.
One world of the default sizes of `WorldShape`. Further fields: `hops`; of two-hop questions also `bridge`, `covered`
(some pretraining question goes through this bridge and relation), `changed` (its second hop is taught anew),
`old_answer`.

**How generated.** `empirical/tasks/two_hop.py`, seeded. Splits: `pretraining` (all facts of old persons, the
attributes of all persons, direct questions of composed old persons over covered bridges), `first_hop` (new persons'
bridges), `second_hop` (changed values), `test` (every direct question of new persons under the changed table).

**Right answer.** Exactly one, by looking up the two tables. New persons' bridges and changed values are drawn
independently and uniformly, so a changed value may equal the old one.

**Known limits.** Symbols, no language; tables are random, so that nothing can be guessed from a name.

**Licence.** Apache-2.0.
"""


class TwoHopExample(Example):
    """A fact (1 hop) or a direct question (2 hops), of which alone the other fields say something."""

    hops: int
    bridge: NotRequired[str]
    covered: NotRequired[bool]
    changed: NotRequired[bool]
    old_answer: NotRequired[str]


def examples(seed: int) -> Iterator[TwoHopExample]:
    """One world of the default sizes as a benchmark: facts to learn from, and two-hop questions."""
    world = World(WorldShape(), seed)
    words = {
        token: f"{kind}_{i}"
        for kind in ("first", "second", "person", "bridge", "value", "attribute_value")
        for i, token in enumerate(world.vocabulary.range(kind))
    }
    words[world.vocabulary.attribute] = "attribute"
    composed = world.queries(world.old[world.composed])
    facts = {
        "pretraining": [
            world.first_hops(world.old),
            world.second_hops("old"),
            world.attribute_facts(np.arange(world.shape.persons)),
        ],
        "first_hop": [world.first_hops(world.new)],
        "second_hop": [world.second_hops("new", changed=True)],
    }
    questions = {"pretraining": (composed.take(composed.covered), "old"), "test": (world.queries(world.new), "new")}
    count = 0

    def row(split: str, line: list[int], hops: int) -> TwoHopExample:
        nonlocal count
        count += 1
        prompt, answer = " ".join(words[t] for t in line[:-1]), words[line[-1]]
        name = f"two_hop-{seed}-{count - 1}"
        return {"id": name, "task": "two_hop", "split": split, "prompt": prompt, "answer": answer, "hops": hops}

    for split, groups in facts.items():
        for sentences in groups:
            for line in sentences.tokens.tolist():
                yield row(split, line, 1)
    for split, (queries, table) in questions.items():
        for i, line in enumerate(world.direct(queries, table).tokens.tolist()):
            yield {
                **row(split, line, 2), "bridge": f"bridge_{queries.bridge[i]}", "covered": bool(queries.covered[i]),
                "changed": bool(queries.changed[i]), "old_answer": f"value_{queries.old[i]}",
            }  # fmt: skip
