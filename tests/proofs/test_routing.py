"""The theorems on routing, read literally, against the functions of :mod:`theory.routing`."""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import pytest

from tests.proofs.exact import tables
from theory.routing import bridge_blind_ceiling, maxload, oracle_ceiling

Table = tuple[int, ...]
SIZES = [(1, 1), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (2, 6), (3, 5)]


def max_load(q: Table) -> int:
    return max(Counter(q).values(), default=0)


def loads(n: int, m: int) -> int:
    return sum(max_load(q) for q in tables(n, m))


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


@pytest.mark.theorem("hard_routing_strict", "hard_routing")
def test_hard_routing_over_every_pair_of_adapters() -> None:
    truths = tables(2, 2)
    ceiling = 2 * 2 + loads(2, 2)
    best = 0
    for g1 in truths:
        for answers in product(range(2), repeat=len(truths)):
            pairs = zip(answers, truths, strict=True)
            best = max(best, sum(g1[y] == q[y] or z == q[y] for z, q in pairs for y in range(2)))
    assert best == 8 < ceiling == 10  # vacuous at m = 2 even for an oracle: the code clamps to 1
    assert oracle_ceiling(2, 2) == 1.0


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
    assert [max_load(q) for q in tables(0, 2)] == [0]
    assert 0 * 2**0 + loads(0, 2) == 0
