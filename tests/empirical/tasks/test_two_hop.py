"""Worlds: what each model is shown, and that every question has one right answer, recomputed from the sentences."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.tasks.sentences import Part, Sentences, batches, collate, shuffle_answers
from empirical.tasks.two_hop import World, WorldShape
from theory.numerics import stream

SMALL = {"old_persons": 30, "new_persons": 12, "bridges": 8, "values": 5}


def small(seed=0, **changes):
    return World(WorldShape(**{**SMALL, **changes}), seed)


def facts(*groups):
    """Prompt -> set of answers, read from one-hop sentences."""
    found: dict[tuple[int, ...], set[int]] = {}
    for group in groups:
        for *prompt, answer in group.tokens.tolist():
            found.setdefault(tuple(prompt), set()).add(answer)
    return found


worlds = st.builds(
    small,
    seed=st.integers(0, 10**6),
    coverage=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    coverage_by=st.sampled_from(["bridge", "relation"]),
    changed_relations=st.integers(1, 3),
)


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_every_question_has_one_right_answer(world):
    everyone = np.arange(world.shape.persons)
    known = facts(world.first_hops(everyone), world.second_hops("new"))
    assert all(len(answers) == 1 for answers in known.values())
    queries = world.queries(everyone)
    direct, written = world.direct(queries).tokens, world.written_out(queries).tokens
    assert len(np.unique(direct[:, :3], axis=0)) == len(queries) == world.shape.persons * 2 * 4
    for (x, r1, r2, z), path in zip(direct.tolist(), written.tolist(), strict=True):
        (bridge,) = known[(x, r1)]
        assert known[(bridge, r2)] == {z}
        w = world.vocabulary
        assert path == [x, r1, r2, w.write_out, bridge, w.separator, bridge, r2, z]


@settings(max_examples=30, deadline=None)
@given(worlds)
def test_the_base_never_sees_what_the_experts_teach(world):
    v = world.vocabulary
    new = set(v.tokens("person", world.new).tolist())
    covered = {
        (b, r)
        for b, r in zip(
            *(v.tokens(k, i) for k, i in zip(("bridge", "second"), np.nonzero(world.covered), strict=True)), strict=True
        )
    }
    bridge_of = {(x, r): a for x, r, a in world.first_hops(world.old).tokens.tolist()}
    held_out = set(v.tokens("person", world.held_out).tolist())
    taught = {tuple(s) for s in world.second_hops("new", changed=True).tokens.tolist()}
    stale = {tuple(s) for s in world.second_hops("old").tokens.tolist()}
    for part in world.pretraining(documents=50):
        tokens = part.sentences.tokens
        for row in tokens.tolist():
            if len(row) == 3:
                assert row[0] not in new or row[1] == v.attribute
                assert tuple(row) not in taught - stale
            elif len(row) == 4:
                assert row[0] not in new | held_out
                assert (bridge_of[row[0], row[1]], row[2]) in covered
            elif len(row) == 9:
                assert row[0] not in new | held_out
                assert tuple(row[6:]) in stale
            else:
                for i in (0, 4, 8):
                    assert row[i] not in new or row[i + 1] == v.attribute


@pytest.mark.parametrize(("coverage", "bridges"), [(0.0, 0), (0.25, 2), (0.3, 2), (0.5, 4), (1.0, 8)])
@pytest.mark.parametrize("by", ["bridge", "relation"])
def test_covered_share_is_exact(coverage, bridges, by):
    covered = small(coverage=coverage, coverage_by=by).covered
    assert (covered.sum(axis=0) == bridges).all()
    if by == "bridge":
        assert (covered == covered[:, :1]).all()


def test_coverage_by_relation_differs_between_relations():
    covered = small(bridges=40, coverage_by="relation").covered
    assert not (covered == covered[:, :1]).all()


def test_old_bridges_are_balanced_and_changed_tables_are_drawn_anew():
    world = small(seed=3, old_persons=80)
    counts = [np.bincount(world.first[:80, r], minlength=8) for r in range(2)]
    assert all((c == 10).all() for c in counts)
    assert (world.second_old[:, 2:] == world.second_new[:, 2:]).all()
    other = small(seed=4, old_persons=80)
    assert not (world.second_new == other.second_new).all()
    assert not (world.first == other.first).all()
    queries = world.queries(world.new)
    assert (queries.differs == (queries.old != queries.value)).all()
    assert not queries.differs[~queries.changed].any()


def test_changed_values_are_uniform_whatever_the_old_ones_were():
    # 200 worlds x 8 bridges x 2 relations = 3200 draws, each old with probability 1/5; 5 standard errors are allowed
    draws = [small(seed=s) for s in range(200)]
    same = np.mean([(w.second_old[:, :2] == w.second_new[:, :2]).mean() for w in draws])
    assert abs(same - 0.2) < 5 * np.sqrt(0.2 * 0.8 / 3200)


def test_replay_leaves_out_the_prompts_of_the_adapter():
    world = small()
    own = world.second_hops("new", changed=True)
    prompts = {tuple(p) for p in own.tokens[:, :2].tolist()}
    everything = {tuple(p) for p in world.replay().tokens[:, :2].tolist()}
    kept = {tuple(p) for p in world.replay(spare=own).tokens[:, :2].tolist()}
    assert prompts <= everything
    assert kept == everything - prompts


def test_shuffled_answers_keep_prompts_and_answers_but_not_the_facts():
    own = small(new_persons=60).first_hops(np.arange(30, 90))
    shuffled = shuffle_answers(own, stream(0, "shuffle"))
    assert (shuffled.tokens[:, :2] == own.tokens[:, :2]).all()
    assert sorted(shuffled.tokens[:, 2]) == sorted(own.tokens[:, 2])
    assert (shuffled.tokens[:, 2] == own.tokens[:, 2]).mean() < 0.5


def test_batches_differ_and_shares_are_exact():
    world = small()
    first, second = world.first_hops(world.old), world.second_hops("old")
    stream_of = batches([Part(first, 1.0), Part(second, 2.0)], 10, stream(0, "train"))
    drawn = [next(stream_of) for _ in range(12)]
    rows = [b.tokens.tolist() for (b,) in drawn]
    assert all(a != b for a, b in pairwise(rows))
    assert all(len(r) == 10 for r in rows)
    people = set(world.vocabulary.range("person"))
    from_first = [sum(r[0] in people for r in batch) for batch in rows]
    assert sum(from_first) == 40  # a third of 120
    seen = [tuple(r) for batch in rows for r in batch if r[0] not in people]
    assert {seen.count(s) for s in set(seen)} <= {2, 3}  # 80 draws of 32 sentences: cycled, not drawn blindly
    again = batches([Part(first, 1.0), Part(second, 2.0)], 10, stream(1, "train"))
    assert next(again)[0].tokens.tolist() != rows[0]


def test_collate_points_at_the_answers():
    world = small()
    queries = world.queries(world.old)
    groups = [world.first_hops(world.old), world.direct(queries, "old"), world.written_out(queries, "old")]
    short, long = collate(groups)
    wanted = [*groups[0].tokens[:, 2], *groups[1].tokens[:, 3]]
    assert short.tokens[short.rows, short.columns].tolist() == wanted
    expected = groups[2].tokens[:, [4, 8]].ravel().tolist()
    assert long.tokens[long.rows, long.columns].tolist() == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"coverage": 1.5}, "coverage: expected a share in"),
        ({"bridges": 0}, "bridges: expected an integer >= 1"),
        ({"changed_relations": 4}, "changed_relations: expected fewer"),
        ({"coverage_by": "person"}, "coverage_by: expected one of bridge, relation"),
    ],
)
def test_bad_shapes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        WorldShape(**changes)


def test_bad_batches_are_refused():
    facts_ = small().first_hops(np.arange(3))
    for parts in ([], [Part(Sentences(facts_.tokens[:0], (2,)), 1.0)], [Part(facts_, 0.0)]):
        with pytest.raises(ValueError, match="parts: expected"):
            next(batches(parts, 4, stream(0, "x")))
