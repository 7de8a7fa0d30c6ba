"""Exact arithmetic for tests and checks: matrices over the rationals or a prime field, finite functions, spectra.

Nothing here rounds. A matrix is a :class:`Mat`; with a prime `p` its entries are residues, so that statements about
every field can be decided by going through all matrices over F_2 or F_3. Rows are vectors, as in MathComp: `below` and
`direct` speak of row spaces, column spaces are row spaces of the transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import product
from operator import mul
from typing import Any

import numpy as np
import pytest
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from theory.additive import additive_ceiling
from theory.numerics import EPS, Array

Table = tuple[int, ...]

near = partial(pytest.approx, rel=1e-9, abs=1e-9)


@dataclass(frozen=True)
class Mat:
    """An exact m x n matrix: entries are Fractions, or residues 0..p-1 where a prime p is given."""

    rows: Sequence[Sequence[Any]]
    n: int = -1  # needed where there are no rows
    p: int = 0

    def __post_init__(self) -> None:
        rows = tuple(tuple(int(x) % self.p if self.p else Fraction(x) for x in row) for row in self.rows)
        n = len(rows[0]) if self.n < 0 else self.n
        if any(len(row) != n for row in rows):
            raise ValueError(f"rows: expected {n} entries each, got {[len(row) for row in rows]}")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "n", n)

    def __getitem__(self, at: tuple[int, int]) -> Any:
        return self.rows[at[0]][at[1]]

    def __add__(self, other: Mat) -> Mat:
        if (self.m, self.n, self.p) != (other.m, other.n, other.p):
            raise ValueError(f"expected shape {self.m} x {self.n}, got {other.m} x {other.n}")
        pairs = zip(self.rows, other.rows, strict=True)
        return Mat([[x + y for x, y in zip(a, b, strict=True)] for a, b in pairs], self.n, self.p)

    def __sub__(self, other: Mat) -> Mat:
        return self + -1 * other

    def __neg__(self) -> Mat:
        return -1 * self

    def __rmul__(self, scalar: Any) -> Mat:
        return self.map(lambda x: scalar * x)

    def __matmul__(self, other: Mat) -> Mat:
        if self.n != other.m or self.p != other.p:
            raise ValueError(f"expected {self.n} rows, got {other.m}")
        columns = other.T.rows
        return Mat([[sum(map(mul, row, column)) for column in columns] for row in self.rows], other.n, self.p)

    @property
    def m(self) -> int:
        """The number of rows."""
        return len(self.rows)

    @property
    def entries(self) -> list[Any]:
        """All entries, row by row."""
        return [x for row in self.rows for x in row]

    @property
    def T(self) -> Mat:
        """The transpose."""
        return Mat([[row[j] for row in self.rows] for j in range(self.n)], self.m, self.p)

    def column(self, j: int) -> Mat:
        """Column j, m x 1."""
        return self.part(slice(None), slice(j, j + 1))

    def row(self, i: int) -> Mat:
        """Row i, 1 x n."""
        return self.part(slice(i, i + 1), slice(None))

    def part(self, rows: slice, columns: slice) -> Mat:
        """A block."""
        return Mat([row[columns] for row in self.rows[rows]], len(range(self.n)[columns]), self.p)

    def map(self, function: Callable[[Any], Any]) -> Mat:
        """Entry by entry."""
        return Mat([[function(x) for x in row] for row in self.rows], self.n, self.p)

    def rank(self) -> int:
        """The rank."""
        return len(_eliminated(self)[1])

    def unit(self) -> bool:
        """Whether it is square and invertible."""
        return self.m == self.n == self.rank()

    def inverse(self) -> Mat:
        """MathComp's ``invmx``: the inverse, and the matrix itself where it is singular."""
        if not self.unit():
            return self
        work, _ = _eliminated(hstack(self, eye(self.m, self.p)))
        return Mat([row[self.m :] for row in work], self.m, self.p)

    def frob2(self) -> Any:
        """The squared Frobenius norm."""
        return sum(x * x for x in self.entries)

    def trace(self) -> Any:
        """The trace."""
        return sum(self[i, i] for i in range(self.m))

    def floats(self) -> Array:
        """As float64."""
        return np.array(self.entries, dtype=np.float64).reshape(self.m, self.n)


def _eliminated(a: Mat) -> tuple[list[list[Any]], list[int]]:
    """Reduced row echelon form and its pivot columns."""
    work: list[list[Any]] = [list(row) for row in a.rows]
    pivots: list[int] = []
    for j in range(a.n):
        at = len(pivots)
        i = next((i for i in range(at, a.m) if work[i][j]), None)
        if i is None:
            continue
        work[at], work[i] = work[i], work[at]
        scale = pow(work[at][j], -1, a.p) if a.p else 1 / work[at][j]
        work[at] = [x * scale % a.p if a.p else x * scale for x in work[at]]
        for k in range(a.m):
            if k != at and work[k][j]:
                c = work[k][j]
                rest = [x - c * y for x, y in zip(work[k], work[at], strict=True)]
                work[k] = [x % a.p for x in rest] if a.p else rest
        pivots.append(j)
    return work, pivots


def zeros(m: int, n: int, p: int = 0) -> Mat:
    """The zero matrix."""
    return Mat([[0] * n] * m, n, p)


def const(m: int, n: int, value: Any) -> Mat:
    """Every entry `value`."""
    return Mat([[value] * n] * m, n)


def eye(n: int, p: int = 0) -> Mat:
    """The identity."""
    return Mat([[int(i == j) for j in range(n)] for i in range(n)], n, p)


def delta(m: int, n: int, i: int, j: int, p: int = 0) -> Mat:
    """The matrix unit with a 1 at (i, j)."""
    return Mat([[int((a, b) == (i, j)) for b in range(n)] for a in range(m)], n, p)


def diagonal(values: Sequence[Any]) -> Mat:
    """The diagonal matrix of `values`."""
    return Mat([[x if i == j else 0 for j in range(len(values))] for i, x in enumerate(values)], len(values))


def column(values: Sequence[Any], p: int = 0) -> Mat:
    """A column."""
    return Mat([[x] for x in values], 1, p)


def total(parts: Sequence[Mat]) -> Mat:
    """The matrix sum (not the sum of row spaces) of one or more matrices."""
    result = parts[0]
    for part in parts[1:]:
        result = result + part
    return result


def weighted(weights: Sequence[Fraction], parts: Sequence[Mat]) -> Mat:
    """The sum of the matrices, each times its weight."""
    return total([w * part for w, part in zip(weights, parts, strict=True)])


def hstack(*parts: Mat) -> Mat:
    """Side by side."""
    rows = [[x for part in parts for x in part.rows[i]] for i in range(parts[0].m)]
    return Mat(rows, sum(part.n for part in parts), parts[0].p)


def vstack(*parts: Mat) -> Mat:
    """One above the other."""
    return Mat([row for part in parts for row in part.rows], parts[0].n, parts[0].p)


def chain(layers: Sequence[Mat], size: int, p: int = 0) -> Mat:
    """``foldr mulmx 1%:M``: the OUTPUT layer first."""
    result = eye(size, p)
    for layer in reversed(layers):
        result = layer @ result
    return result


def below(a: Mat, b: Mat) -> bool:
    """``(A <= B)%MS``: the row space of a lies in that of b."""
    return vstack(b, a).rank() == b.rank()


def direct(parts: Sequence[Mat]) -> bool:
    """``mxdirect (\\sum_i <<A i>>)``: the row spaces are independent."""
    return vstack(*parts).rank() == sum(part.rank() for part in parts)


def factors(a: Mat) -> tuple[Mat, Mat]:
    """(C, B): a rank factorization a = C B over the rationals."""
    work, pivots = _eliminated(a)
    return Mat([[row[j] for j in pivots] for row in a.rows], len(pivots)), Mat(work[: len(pivots)], a.n)


def pseudo_inverse(a: Mat) -> Mat:
    """The Moore-Penrose inverse over the rationals: B^+ C^+."""
    c, b = factors(a)
    return b.T @ (b @ b.T).inverse() @ (c.T @ c).inverse() @ c.T


def definite(a: Mat, strictly: bool) -> bool:
    """Whether a symmetric rational matrix is positive semidefinite, or positive definite.

    The signs of the characteristic polynomial of one alternate, as it has real zeros only.
    """
    rational = DomainMatrix([[QQ.convert(x) for x in row] for row in a.rows], (a.m, a.n), QQ)
    least = min((-1) ** k * c for k, c in enumerate(rational.charpoly()))
    return least > 0 if strictly else least >= 0


def stretches_at_most(a: Mat, square: Any) -> bool:
    """``forall v, frob2 (v *m A^T) <= square * frob2 v``, that is ||A||_2^2 <= square."""
    return definite(square * eye(a.n) - a.T @ a, strictly=False)


def stretches_some(a: Mat, square: Any) -> bool:
    """``exists v != 0, square * frob2 v <= frob2 (v *m A^T)``, that is ||A||_2^2 >= square."""
    return a.n > 0 and not definite(square * eye(a.n) - a.T @ a, strictly=True)


def every(m: int, n: int, p: int) -> Iterator[Mat]:
    """All p^(m n) matrices over F_p."""
    for entries in product(range(p), repeat=m * n):
        yield Mat([entries[i * n : (i + 1) * n] for i in range(m)], n, p)


def whole(rng: np.random.Generator, m: int, n: int, bound: int = 3) -> Mat:
    """Random whole numbers from -bound to bound."""
    return Mat(rng.integers(-bound, bound + 1, (m, n)).tolist(), n)


def tables(n: int, m: int) -> list[tuple[int, ...]]:
    """All m^n functions from n points to m values, in lexicographic order."""
    return list(product(range(m), repeat=n))


def agree(g: Sequence[int], q: Sequence[int]) -> int:
    """At how many points two functions coincide."""
    return sum(x == y for x, y in zip(g, q, strict=True))


def wins(logits: Any, z: int, margin: Any = 0) -> bool:
    """Whether value z is ahead of every other one, by more than the margin; of a column, a list or an array."""
    values = logits.entries if isinstance(logits, Mat) else logits
    return all(x + margin < values[z] for i, x in enumerate(values) if i != z)


def answered(n: int, m: int, logits: Callable[..., Any], margin: Any = 0) -> int:
    """At how many of the n m^n pairs of a bridge y and a table q the value q(y) wins."""
    return sum(wins(logits(y, q), q[y], margin) for q in tables(n, m) for y in range(n))


def tail_count(n: int, m: int, k: int) -> int:
    """How many tables agree with a given one at k places or more."""
    return sum(math.comb(n, j) * (m - 1) ** (n - j) for j in range(k, n + 1))


def part_one(found: int, n: int, m: int) -> bool:
    """``additive_limit`` at two bridges or more."""
    return 4 * m * found <= (3 * m + 1) * (n * m**n)


def three_bridges(found: int, n: int, m: int) -> bool:
    """``additive_limit_three``."""
    return 3 * m * found <= (2 * m + 1) * (n * m**n)


def within_limit(found: int, n: int, m: int) -> bool:
    """Both at two bridges or more, and no more than the least ceiling that the code computes."""
    below = found <= additive_ceiling(n, m) * n * m**n * (1 + 8 * n * EPS)
    return part_one(found, n, m) and (n == 2 or three_bridges(found, n, m)) and below
