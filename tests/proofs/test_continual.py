"""The theorems on merging round after round, read literally, against the functions of :mod:`theory.continual`."""

import math
from fractions import Fraction
from itertools import product

import pytest

from tests.proofs.exact import Mat, agree, eye, hstack, tables, total, whole, wins
from theory.continual import exposures, round_dilution, rounds_to_answer, route_drift, telescoping_rank
from theory.lowrank import LowRank
from theory.numerics import stream


def unit_keys(first: int, count: int, width: int) -> Mat:
    """`count` unit keys as columns, from coordinate `first` on."""
    return Mat([[int(i == first + j) for j in range(count)] for i in range(width)], count)


@pytest.mark.theorem("round_dilution", "round_dilution_answer")
@pytest.mark.parametrize("facts", [(1,), (1, 2), (2, 1, 1), (1, 1, 1, 1)])
def test_what_is_missing_shrinks_by_one_head_each_round(facts: tuple[int, ...]) -> None:
    rng, heads, width = stream(1, "rounds", len(facts)), len(facts), sum(facts)
    keys = [unit_keys(sum(facts[:h]), n, width) for h, n in enumerate(facts)]
    wanted = [whole(rng, 2, n) for n in facts]
    weights = start = whole(rng, 2, width)
    readout, stream_in = whole(rng, 4, 2), whole(rng, 2, 1)
    answered = {True: 0, False: 0}
    for rounds in range(5):
        for K, D in zip(keys, wanted, strict=True):
            share = round_dilution(heads, rounds)
            assert D - weights @ K == (1 - share) * (D - start @ K)
            mixed = whole(rng, K.n, 1)  # any combination of the head's facts
            base, edit = readout @ (stream_in + start @ K @ mixed), readout @ ((D - start @ K) @ mixed)
            final = readout @ (stream_in + weights @ K @ mixed)
            for z0 in range(4):
                leads = [(base[z0, 0] - base[z, 0], edit[z0, 0] - edit[z, 0]) for z in range(4) if z != z0]
                assert wins(final, z0) == all(-lead < share * gain for lead, gain in leads)
                answered[wins(final, z0)] += 1
        # U K_h = D_h - W K_h and U K_g = 0: unit keys are their own dual basis
        updates = [(D - weights @ K) @ K.T for K, D in zip(keys, wanted, strict=True)]
        for h, U in enumerate(updates):
            assert all((wanted[h] - weights @ K if g == h else 0 * (U @ K)) == U @ K for g, K in enumerate(keys))
        merged = weights + Fraction(1, heads) * total(updates)
        if heads > 1:  # the sum of the heads instead of their mean writes everything at once
            assert merged != weights or all(weights @ K == D for K, D in zip(keys, wanted, strict=True))
        weights = merged
    assert min(answered.values()) >= 3


@pytest.mark.theorem("round_dilution_reached", "round_dilution_lasts")
def test_some_number_of_rounds_will_do() -> None:
    for heads, gain, deficit in product((1, 2, 5), range(-3, 4), range(-3, 4)):
        least = rounds_to_answer(gain, deficit, heads)
        assert (least < math.inf) == (deficit < 0 or deficit < gain)
        held = [deficit < round_dilution(heads, rounds) * gain for rounds in range(40)]
        assert held.index(True) == least if least < math.inf else not any(held)
        if deficit < gain:
            assert all(held[int(least) :])  # ever after
    # an edit that does not work by itself need not last: the base answers it, more of the change does not
    assert [round_dilution(2, rounds) * -3 > -1 for rounds in range(3)] == [True, False, False]


@pytest.mark.theorem("telescoping_merge", "telescoping_merge_sum")
@pytest.mark.parametrize(("heads", "r"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_merges_without_reset_telescope(heads: int, r: int) -> None:
    rng, side = stream(2, "telescoping", heads, r), heads * r + 2
    held = [0 * whole(rng, side, side) for _ in range(heads)]
    start = weights = whole(rng, side, side)
    ranks = []
    for rounds in range(1, 5):
        fresh = [whole(rng, side, r) @ whole(rng, r, side) for _ in range(heads)]
        for new, old in zip(fresh, held, strict=True):
            weights = weights + Fraction(2, 3) * (new - old)
        held = fresh
        assert weights - start == Fraction(2, 3) * total(held)
        ranks.append((weights - start).rank())
        assert ranks[-1] <= telescoping_rank(heads, r, rounds, reset=False) == heads * r
    assert max(ranks) == heads * r  # attained, so a smaller bound would be wrong


@pytest.mark.theorem("telescoping_merge_reset", "telescoping_merge_attained")
@pytest.mark.parametrize(("heads", "r", "rounds"), [(1, 1, 3), (2, 1, 2), (2, 2, 1), (3, 1, 2), (2, 0, 2)])
def test_with_reset_the_ranks_add_up(heads: int, r: int, rounds: int) -> None:
    rng, side = stream(3, "reset", heads, r), rounds * heads * r + 1
    for _ in range(3):
        updates = [whole(rng, side, r) @ whole(rng, r, side) for _ in range(rounds * heads)]
        assert total(updates).rank() <= telescoping_rank(heads, r, rounds, reset=True) == rounds * heads * r
    # attained: slices of an identity, one to each head and round
    size = rounds * heads * r
    one = eye(size)
    slices = [
        hstack(*(one.column(i) for i in part)) @ hstack(*(one.column(i) for i in part)).T
        for part in (range(at, at + r) for at in range(0, size, max(r, 1)))
    ]
    assert len(slices) == (rounds * heads if r else 0)
    assert all(u.rank() == r for u in slices)
    assert total(slices).rank() == size if r else True
    last = slices[-heads:]  # what the heads hold after the last round is all that is left without reset
    assert total(last).rank() == telescoping_rank(heads, r, rounds, reset=False) if r else True


@pytest.mark.example("round_dilution_shared_key")
def test_two_heads_on_one_key_write_it_whole() -> None:
    written = Fraction(1, 2) * (1 + 1)
    assert 1 - written == 0 != 1 - round_dilution(2, 1)


@pytest.mark.theorem("exposure_law")
@pytest.mark.parametrize(("buffer", "draws"), [(1, 3), (2, 0), (2, 3), (3, 2), (4, 1)])
def test_each_fact_of_the_buffer_is_drawn_equally_often_in_the_mean(buffer: int, draws: int) -> None:
    every = tables(draws, buffer)
    for fact in range(buffer):
        drawn = sum(agree((fact,) * draws, d) for d in every)
        assert drawn * buffer == draws * buffer**draws
        assert Fraction(drawn, len(every)) == exposures(1, 1, draws, buffer)


@pytest.mark.theorem("frozen_route_drift", "frozen_route_drift_gauge", "frozen_route_drift_alone", "frozen_route_rank")
@pytest.mark.example("frozen_route_drift_skipped")
def test_a_frozen_route_drifts_with_its_factors() -> None:
    rng, seen = stream(4, "route"), set()
    for r in (1, 2, 2, 3, 3):
        b, c, a, d = whole(rng, 3, r), whole(rng, 3, r), whole(rng, r, 4), whole(rng, r, 4)
        route, turn = whole(rng, r, r), whole(rng, r, r)
        scale = Fraction(1, 2)
        for left, right in ((b, a), (c, a), (b, d), (c, d)):
            drift = scale * (left @ route @ right) - scale * (b @ route @ a)
            assert drift == scale * ((left - b) @ (route @ right) + b @ (route @ (right - a)))
            found = route_drift(
                route.floats(), LowRank(b.floats(), a.floats(), 0.5), LowRank(left.floats(), right.floats(), 0.5)
            )
            assert (found.dense() == drift.floats()).all()
            same = left @ route @ right == b @ route @ a
            assert same == (drift == 0 * drift)
            if route.unit() and b.rank() == a.rank() == r and (left is b or right is a):
                assert same == (left == b and right == a)
                seen.add(same)
            assert (b @ (route + turn) @ a).rank() <= r
        if turn.unit() and route.unit():
            assert (b @ (route @ turn @ route.inverse())) @ route @ (turn.inverse() @ a) == b @ route @ a
        read = b @ route
        if route.unit() and b.rank() == a.rank() == r:
            # C R = B R T has one solution at most: by the left inverse of B R
            t = (read.T @ read).inverse() @ read.T @ (c @ route)
            gauge = t.unit() and c == read @ t @ route.inverse() and d == t.inverse() @ a
            assert (c @ route @ d == read @ a) == gauge
    assert seen == {True, False}
    assert whole(rng, 1, 1) @ (0 * eye(1)) @ eye(1) == 0 * eye(1)
