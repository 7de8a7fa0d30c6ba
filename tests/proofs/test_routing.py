"""The theorems on routing, read literally, against the functions of :mod:`theory.routing`."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product
from operator import mul

import pytest

from tests.proofs.exact import Mat, Table, answered, delta, tables, total, weighted, whole, zeros
from theory.additive import additive_optimum
from theory.lowrank import LowRank
from theory.numerics import stream
from theory.routing import bridge_blind_ceiling, gated_merge_error, maxload, oracle_ceiling

SIZES = [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (2, 6), (3, 5)]


def loads(n: int, m: int) -> int:
    return sum(max(Counter(q).values(), default=0) for q in tables(n, m))


def second_adapters(n: int, m: int) -> list[Callable[[Table], int]]:
    """Answers that know the table and not the bridge: the best one, a constant, the entry of one bridge, a sum."""
    return [
        lambda q: Counter(q).most_common(1)[0][0],
        lambda q: 0,
        lambda q: q[0],
        lambda q: sum(q) % m,
        lambda q: Counter(q).most_common()[-1][0],
    ]


@pytest.mark.theorem("blind_to_bridge", "blind_to_bridge_attained", "blind_to_table")
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_blind_answers(n: int, m: int) -> None:
    truths, ceiling = tables(n, m), loads(n, m)
    scores = [sum(g2(q) == q[y] for q in truths for y in range(n)) for g2 in second_adapters(n, m)]
    assert scores[0] == max(scores) == ceiling
    for g1 in tables(n, m)[:9]:
        assert sum(g1[y] == q[y] for q in truths for y in range(n)) == n * m ** (n - 1)
    assert abs(maxload(n, m) - Fraction(ceiling, m**n)) <= 1e-12 * n
    assert abs(bridge_blind_ceiling(n, m) - Fraction(ceiling, n * m**n)) <= 1e-12
    if n > 1 < m:  # the wrong reading, 1/m for whatever ignores the bridge, is below what is attained
        assert bridge_blind_ceiling(n, m) > 1 / m + 1e-3


@pytest.mark.theorem("hard_routing", "hard_routing_router", "hard_routing_strict", "hard_routing_accuracy")
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_oracle_ceiling_is_the_right_side(n: int, m: int) -> None:
    truths = tables(n, m)
    ceiling = n * m ** (n - 1) + loads(n, m)
    share = min(Fraction(1), Fraction(1, m) + Fraction(loads(n, m), m**n) / n)
    assert share == min(Fraction(1), Fraction(ceiling, n * m**n))
    assert abs(oracle_ceiling(n, m) - share) <= 1e-12
    for g1, g2 in product(tables(n, m)[:: max(1, len(truths) // 5)], second_adapters(n, m)):
        union = sum(g1[y] == q[y] or g2(q) == q[y] for q in truths for y in range(n))
        assert union < ceiling
        routes: list[Callable[..., bool]] = [
            lambda y, q: True,
            lambda y, q: (y + sum(q)) % 2 == 0,
            lambda y, q, g1=g1: g1[y] == q[y],  # the oracle
        ]
        for route in routes:
            right = sum((g1[y] if route(y, q) else g2(q)) == q[y] for q in truths for y in range(n))
            assert right <= union
            assert Fraction(right, n * m**n) <= share


@pytest.mark.theorem("hard_routing_choices")
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_further_choices(n: int, m: int) -> None:
    truths = tables(n, m)
    for t, g2 in product(range(3), second_adapters(n, m)):
        choices = [truths[(3 * i + 1) % len(truths)] for i in range(t + 1)]  # the first is adapter 1
        right = sum(g2(q) == q[y] or any(g[y] == q[y] for g in choices) for q in truths for y in range(n))
        assert right <= (t + 1) * n * m ** (n - 1) + loads(n, m)
        assert abs(oracle_ceiling(n, m, t) - min(1, Fraction(t + 1, m) + Fraction(loads(n, m), n * m**n))) <= 1e-12
    # m constants are right everywhere: each choice counts
    constants = [(z,) * n for z in range(m)]
    assert all(any(g[y] == q[y] for g in constants) for q in truths for y in range(n))
    assert m * n * m ** (n - 1) == n * m**n


@pytest.mark.example(
    "max_load_two", "blind_to_bridge_one_entry", "hard_routing_two", "hard_routing_leak", "hard_routing_strict_empty"
)
def test_two_bridges() -> None:
    for m in range(1, 7):
        assert loads(2, m) == m**2 + m
        assert sum(q[1] == q[y] for q in tables(2, m) for y in range(2)) == m**2 + m
    assert 2 * 6 + loads(2, 6) == 54
    assert abs(oracle_ceiling(2, 6) - 54 / 72) <= 1e-12
    # an adapter 1 that knows the table answers all 72: the premise is needed
    assert sum(q[y] == q[y] for q in tables(2, 6) for y in range(2)) == 72 > 54
    # no bridge: one empty table, both sides 0, nothing is strict
    assert len(tables(0, 2)) == 1
    assert loads(0, 2) == 0


# ---- gates ----


@pytest.mark.theorem("gated_merge", "gated_merge_gates")
@pytest.mark.example("gated_merge_equal")
def test_one_weight_for_all_contexts() -> None:
    one, other = delta(2, 2, 0, 0), delta(2, 2, 0, 1)
    half, third = [Fraction(1, 2)] * 2, [Fraction(1, 3), Fraction(2, 3)]
    weight = whole(stream(1, "gates"), 2, 2)
    inputs = [Mat([[1, 0, 2], [0, 1, 5]]), Mat([[1, 3], [1, -1]])]  # they span, context by context
    for experts, free in (([one, other], True), ([one, one], False), ([one, zeros(2, 2)], False)):
        for gates in ([half, half], [half, third]):
            sums = [weighted(g, experts) for g in gates]
            wanted = [weight @ x + s @ x for x, s in zip(inputs, sums, strict=True)]
            # each context's inputs determine the weight: one of these, or none
            candidates = [weight + s for s in sums]
            serves = any(all(c @ x == y for x, y in zip(inputs, wanted, strict=True)) for c in candidates)
            assert serves == (sums[0] == sums[1])
            if free:
                assert (sums[0] == sums[1]) == (gates[0] == gates[1])
            found = gated_merge_error([LowRank(u.floats(), [[1.0, 0.0], [0.0, 1.0]]) for u in experts],
                                      [[float(x) for x in g] for g in gates], [float(x) for x in gates[0]])  # fmt: skip
            assert (found <= 1e-12) == serves
    assert weighted(half, [one, one]) == weighted(third, [one, one]) == one


@pytest.mark.theorem("gated_merge_ignored", "gated_merge_best")
def test_errors_of_fixed_updates() -> None:
    rng = stream(2, "gates")
    for experts, contexts in ((2, 2), (3, 2), (2, 4)):
        parts = [whole(rng, 2, 3) for _ in range(experts)]
        gates = [[Fraction(int(x), 4) for x in rng.integers(0, 5, experts)] for _ in range(contexts)]
        chances = [Fraction(int(x)) for x in rng.integers(1, 4, contexts)]
        chances = [x / sum(chances) for x in chances]
        mean = [sum((c * g[k] for c, g in zip(chances, gates, strict=True)), Fraction(0)) for k in range(experts)]
        for g in gates:
            assert total(parts) - weighted(g, parts) == weighted([1 - x for x in g], parts)
        assert total(parts) == experts * weighted([Fraction(1, experts)] * experts, parts)

        def error(fixed: Mat, chances=chances, gates=gates, parts=parts) -> Fraction:
            return sum(
                (c * (fixed - weighted(g, parts)).frob2() for c, g in zip(chances, gates, strict=True)), Fraction(0)
            )

        for _ in range(3):
            fixed = whole(rng, 2, 3)
            assert error(fixed) == (fixed - weighted(mean, parts)).frob2() + error(weighted(mean, parts))
        # the code, at even chances
        updates = [LowRank(u.floats(), [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]) for u in parts]
        table = [[float(x) for x in g] for g in gates]
        even = [sum((g[k] for g in gates), Fraction(0)) / contexts for k in range(experts)]
        off = sum((weighted(even, parts) - weighted(g, parts)).frob2() for g in gates)
        size = sum(weighted(g, parts).frob2() for g in gates)
        assert abs(gated_merge_error(updates, table, [float(x) for x in even]) ** 2 - off / size) <= 1e-12


@pytest.mark.theorem("gated_merge_limit")
@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 2), (2, 3)])
def test_gates_by_the_prompt_stay_additive(n: int, m: int) -> None:
    most, seen = additive_optimum(n, m) * n * m**n, 0
    for seed in range(12):
        rng = stream(seed, "prompt")
        gates = [Fraction(int(x), 2) for x in rng.integers(1, 5, 3)]
        # two experts that know the bridge (products of places reach most), one that knows the table
        first = [[[int(rng.integers(1, 3)) * y * z for z in range(m)] for y in range(n)] for _ in range(2)]
        second = {
            q: [int(x) - int(rng.integers(0, 3)) * z * n + 3 * q.count(z) for z, x in enumerate(rng.integers(-1, 2, m))]
            for q in tables(n, m)
        }

        def logits(y: int, q: Table) -> list[Fraction]:
            known = first[0][y], first[1][y], second[q]  # noqa: B023
            return [sum(map(mul, gates, values)) for values in zip(*known, strict=True)]  # noqa: B023

        found = answered(n, m, logits)
        assert found <= most
        seen = max(seen, found)
    assert seen > n * m ** (n - 1)  # better than chance


@pytest.mark.theorem("gated_merge_groups")
@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 2), (2, 3)])
def test_gates_by_the_group_stay_additive_within_it(n: int, m: int) -> None:
    most, seen = additive_optimum(n, m) * n * m**n, 0
    for seed in range(12):
        rng = stream(seed, "group")
        # base, first hops and the experts of other groups, which the gates move from bridge to bridge
        known = [[Fraction(int(rng.integers(0, 3)) * y * z) for z in range(m)] for y in range(n)]
        others = [Fraction(int(x)) for x in rng.integers(-1, 2, m)]
        mine, theirs = ([Fraction(int(x), 2) for x in rng.integers(1, 4, n)] for _ in range(2))
        best = {q: [Fraction(3 * q.count(z) - n * z) for z in range(m)] for q in tables(n, m)}

        def logits(y: int, q: Table) -> list[Fraction]:
            return [known[y][z] + theirs[y] * others[z] + mine[y] * best[q][z] for z in range(m)]  # noqa: B023

        found = answered(n, m, logits)
        assert found <= most
        seen = max(seen, found)
    assert seen > n * m ** (n - 1)  # better than chance


@pytest.mark.theorem("gated_merge_sign_needed")
def test_a_gate_of_both_signs_escapes() -> None:
    def logits(y: int, q: Table) -> list[Fraction]:
        alike = q[0] == q[1]
        second = [(q[0] == z) if alike else 3 * (q[0] == z) - 3 * (q[1] == z) for z in range(3)]
        return [Fraction(2 * y * (z == 0) + (1 - 2 * y) * second[z]) for z in range(3)]

    assert additive_optimum(2, 3) * 18 == 15
    assert answered(2, 3, logits) == 16


@pytest.mark.theorem("gated_merge_bridge")
@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 2), (2, 3)])
def test_gates_that_point_at_the_bridge_answer_everything(n: int, m: int) -> None:
    def logits(y: int, q: Table) -> Mat:
        return weighted([Fraction(k == y) for k in range(n)], [delta(m, 1, z, 0) for z in q])

    assert answered(n, m, logits) == n * m**n
    assert additive_optimum(n, m) < 1
