"""Exact arithmetic for tests and checks: matrices over the rationals or a prime field, finite functions, spectra.

Nothing here rounds. A matrix is a :class:`Mat`; with a prime `p` its entries are residues, so that statements about
every field can be decided by going through all matrices over F_2 or F_3. Rows are vectors, as in MathComp: `below` and
`direct` speak of row spaces, column spaces are row spaces of the transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np

from theory.checks.strategies import exact_rank
from theory.numerics import Array


class Mat:
    """An exact m x n matrix: entries are Fractions, or residues 0..p-1 where a prime p is given."""

    __slots__ = ("m", "n", "p", "rows")

    def __init__(self, rows: Sequence[Sequence[Any]], n: int | None = None, p: int = 0) -> None:
        """`n` is needed where there are no rows."""
        self.rows: tuple[tuple[Any, ...], ...] = tuple(
            tuple(int(x) % p if p else Fraction(x) for x in row) for row in rows
        )
        self.m, self.p = len(self.rows), p
        self.n = n if n is not None else len(self.rows[0])
        if any(len(row) != self.n for row in self.rows):
            raise ValueError(f"rows: expected {self.n} entries each, got {[len(row) for row in self.rows]}")

    def __repr__(self) -> str:
        return f"Mat({[[str(x) for x in row] for row in self.rows]}, n={self.n}, p={self.p})"

    def __getitem__(self, at: tuple[int, int]) -> Any:
        return self.rows[at[0]][at[1]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mat) and (self.rows, self.n, self.p) == (other.rows, other.n, other.p)

    def __hash__(self) -> int:
        return hash((self.rows, self.n, self.p))

    def _like(self, other: Mat) -> None:
        if (self.m, self.n, self.p) != (other.m, other.n, other.p):
            raise ValueError(f"expected shape {self.m} x {self.n}, got {other.m} x {other.n}")

    def __add__(self, other: Mat) -> Mat:
        self._like(other)
        return Mat(
            [[x + y for x, y in zip(a, b, strict=True)] for a, b in zip(self.rows, other.rows, strict=True)],
            self.n,
            self.p,
        )

    def __sub__(self, other: Mat) -> Mat:
        return self + -1 * other

    def __neg__(self) -> Mat:
        return -1 * self

    def __rmul__(self, scalar: Any) -> Mat:
        return Mat([[scalar * x for x in row] for row in self.rows], self.n, self.p)

    def __matmul__(self, other: Mat) -> Mat:
        if self.n != other.m or self.p != other.p:
            raise ValueError(f"expected {self.n} rows, got {other.m}")
        columns = other.T.rows
        return Mat(
            [[sum(x * y for x, y in zip(a, b, strict=True)) for b in columns] for a in self.rows], other.n, self.p
        )

    @property
    def T(self) -> Mat:
        """The transpose."""
        return Mat([[row[j] for row in self.rows] for j in range(self.n)], self.m, self.p)

    def column(self, j: int) -> Mat:
        """Column j, m x 1."""
        return Mat([[row[j]] for row in self.rows], 1, self.p)

    def row(self, i: int) -> Mat:
        """Row i, 1 x n."""
        return Mat([self.rows[i]], self.n, self.p)

    def part(self, rows: slice, columns: slice) -> Mat:
        """A block."""
        kept = range(self.n)[columns]
        return Mat([[row[j] for j in kept] for row in self.rows[rows]], len(kept), self.p)

    def map(self, function: Callable[[Any], Any]) -> Mat:
        """Entry by entry."""
        return Mat([[function(x) for x in row] for row in self.rows], self.n, self.p)

    def rank(self) -> int:
        """The rank: fraction-free elimination on whole numbers, or elimination over F_p."""
        if self.p:
            return len(_eliminated(self)[1])
        common = math.lcm(*(x.denominator for row in self.rows for x in row))
        return exact_rank([[int(x * common) for x in row] for row in self.rows])

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
        return sum(x * x for row in self.rows for x in row)

    def trace(self) -> Any:
        """The trace."""
        return sum(self.rows[i][i] for i in range(self.m))

    def floats(self) -> Array:
        """As float64."""
        return np.array([[float(x) for x in row] for row in self.rows], dtype=np.float64).reshape(self.m, self.n)


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


def partial_identity(m: int, n: int, r: int) -> Mat:
    """MathComp's ``pid_mx r``: 1 at the first r places of the diagonal."""
    return Mat([[int(i == j < r) for j in range(n)] for i in range(m)], n)


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
    rows = [sum((part.rows[i] for part in parts), ()) for i in range(parts[0].m)]
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


def pseudo_inverse(a: Mat) -> Mat:
    """The Moore-Penrose inverse over the rationals, from a rank factorization a = C B: B^+ C^+."""
    work, pivots = _eliminated(a)
    b = Mat(work[: len(pivots)], a.n)
    c = Mat([[row[j] for j in pivots] for row in a.rows], len(pivots))
    return b.T @ (b @ b.T).inverse() @ (c.T @ c).inverse() @ c.T


def definite(a: Mat, strictly: bool) -> bool:
    """Whether a symmetric rational matrix is positive semidefinite, or positive definite; by elimination."""
    work: list[list[Any]] = [list(row) for row in a.rows]
    for k in range(a.m):
        if work[k][k] < 0 or (strictly and work[k][k] == 0):
            return False
        if work[k][k] == 0:
            if any(work[k][j] for j in range(k, a.m)):
                return False
            continue
        for i in range(k + 1, a.m):
            c = work[i][k] / work[k][k]
            work[i] = [x - c * y for x, y in zip(work[i], work[k], strict=True)]
    return True


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
