"""The theorems on merging round after round, read literally, against the functions of :mod:`theory.continual`."""

from fractions import Fraction

import pytest

from tests.proofs.exact import Mat
from theory.continual import round_dilution, telescoping_rank
from theory.numerics import stream


def matrix(rng, rows: int, columns: int) -> Mat:
    return Mat(rng.integers(-3, 4, (rows, columns)).tolist(), columns)


def unit_keys(first: int, count: int, width: int) -> Mat:
    """`count` unit keys as columns, from coordinate `first` on."""
    return Mat([[int(i == first + j) for j in range(count)] for i in range(width)], count)


@pytest.mark.theorem("round_dilution")
@pytest.mark.parametrize("facts", [(1,), (1, 2), (2, 1, 1), (1, 1, 1, 1)])
def test_what_is_missing_shrinks_by_one_head_each_round(facts: tuple[int, ...]) -> None:
    rng, heads, width = stream(1, "rounds", len(facts)), len(facts), sum(facts)
    keys = [unit_keys(sum(facts[:h]), n, width) for h, n in enumerate(facts)]
    wanted = [matrix(rng, 2, n) for n in facts]
    weights = start = matrix(rng, 2, width)
    for rounds in range(5):
        for K, D in zip(keys, wanted, strict=True):
            assert D - weights @ K == (1 - round_dilution(heads, rounds)) * (D - start @ K)
        # U K_h = D_h - W K_h and U K_g = 0: unit keys are their own dual basis
        updates = [(D - weights @ K) @ K.T for K, D in zip(keys, wanted, strict=True)]
        for h, U in enumerate(updates):
            assert all((wanted[h] - weights @ K if g == h else 0 * (U @ K)) == U @ K for g, K in enumerate(keys))
        merged = weights
        for U in updates:
            merged = merged + Fraction(1, heads) * U
        if heads > 1:  # the sum of the heads instead of their mean writes everything at once
            assert merged != weights or all(weights @ K == D for K, D in zip(keys, wanted, strict=True))
        weights = merged


@pytest.mark.theorem("telescoping_merge")
@pytest.mark.parametrize(("heads", "r"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_merges_without_reset_telescope(heads: int, r: int) -> None:
    rng, side = stream(2, "telescoping", heads, r), heads * r + 2
    held = [0 * matrix(rng, side, side) for _ in range(heads)]
    start = weights = matrix(rng, side, side)
    ranks = []
    for rounds in range(1, 5):
        fresh = [matrix(rng, side, r) @ matrix(rng, r, side) for _ in range(heads)]
        for new, old in zip(fresh, held, strict=True):
            weights = weights + Fraction(2, 3) * (new - old)
        held = fresh
        ranks.append((weights - start).rank())
        assert ranks[-1] <= telescoping_rank(heads, r, rounds, reset=False) == heads * r
    assert max(ranks) == heads * r  # attained, so a smaller bound would be wrong


@pytest.mark.example("round_dilution_shared_key")
def test_two_heads_on_one_key_write_it_whole() -> None:
    written = Fraction(1, 2) * (1 + 1)
    assert 1 - written == 0 != 1 - round_dilution(2, 1)
