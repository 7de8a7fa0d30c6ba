"""The type of an update: ``scale * B @ A``, handled in factor space.

Glossary: ``B`` (out x r), ``A`` (r x in), ``scale`` the factor in front (``alpha / r`` for plain LoRA,
``alpha / sqrt(r)`` for rslora). Only :meth:`LowRank.dense` forms the out x in matrix, where it is larger
than the factors; every other method costs O((out + in) r^2 + r^3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory.numerics import Array, integer, matrix, numbers_of, one_of, rank_tolerance, real, require, vector


class Core(NamedTuple):
    """``scale * B @ A == left @ core @ right`` with orthonormal columns of `left` and rows of `right`.

    Both are kept as products with a small r x r matrix, ``left = tall_left @ mix_left``, ``right = mix_right @
    wide_right``: what is needed of them are a few columns or rows, and then the large product is not formed.
    """

    tall_left: Array
    mix_left: Array
    core: Array
    mix_right: Array
    wide_right: Array


class LowRank:
    """An update ``scale * B @ A`` of a weight with `out` rows and `in` columns.

    Args:
        B: out x r, finite and real.
        A: r x in, finite and real. r may be 0 and may exceed min(out, in).
        scale: finite factor in front, 1 by default.

    Raises:
        ValueError: an argument is not a finite real matrix or the inner sizes differ.
    """

    __slots__ = ("A", "B", "scale")

    def __init__(self, B: ArrayLike, A: ArrayLike, scale: float = 1.0) -> None:
        b, a = matrix(B, "B"), matrix(A, "A")
        require(b.shape[1] == a.shape[0], "A", f"{b.shape[1]} rows, as B has columns", f"{a.shape[0]} rows")
        b.setflags(write=False)
        a.setflags(write=False)
        self.B: Array = b
        self.A: Array = a
        self.scale: float = real(scale, "scale")

    def __repr__(self) -> str:
        return f"LowRank({self.shape[0]} x {self.shape[1]}, columns {self.columns}, scale {self.scale:g})"

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in)."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def columns(self) -> int:
        """Columns of B: an upper bound of the rank, and what an adapter file calls its rank."""
        return int(self.B.shape[1])

    def dense(self) -> Array:
        """The out x in matrix itself."""
        b, a, scale = self._factors()
        return scale * (b @ a)

    def apply(self, x: ArrayLike) -> Array:
        """``scale * B @ (A @ x)`` for a vector (in,) or columns (in, N)."""
        columns = numbers_of(x, "x", "a real vector or matrix")
        columns = vector(columns, "x") if columns.ndim == 1 else matrix(columns, "x")
        require(columns.shape[0] == self.shape[1], "x", f"{self.shape[1]} rows", f"{columns.shape[0]} rows")
        b, a, scale = self._factors(np.abs(columns).max(axis=0, initial=0.0))
        if b is self.B and self.columns >= min(self.shape):  # no larger than its factors; what cancels does so once
            return scale * (b @ a) @ columns
        return scale * (b @ (a @ columns))

    def _factors(self, *others: ArrayLike) -> tuple[Array, Array, float]:
        """B, A and scale, to be multiplied with `others`.

        Where one of all these is so large or so small that they might leave the range of floats on the way, columns of
        B and rows of A of equal sizes, the scale in both: what these leave it with, the product leaves it with.
        """
        largest_b, largest_a = np.abs(self.B).max(axis=0, initial=0.0), np.abs(self.A).max(axis=1, initial=0.0)
        if all(mild(sizes) for sizes in (largest_b, largest_a, abs(self.scale), *others)):
            return self.B, self.A, self.scale
        size = np.sqrt(largest_b) * np.sqrt(largest_a) * math.sqrt(abs(self.scale))
        b, a = (np.where(largest > 0, largest, 1.0) for largest in (largest_b, largest_a))
        return self.B / b * np.copysign(size, self.scale), self.A / a[:, None] * size[:, None], 1.0

    def _balance(self) -> tuple[Array, Array, float, float]:
        """Column scales of B and row scales of A that balance them, and the Frobenius norms that they then have.

        (B T, T^-1 A) is the same update for every diagonal T > 0; the balanced choice, in which the k-th column and
        row have equal norms, makes ``||B|| ||A||``, and with it the rounding error, as small as a diagonal T can up to
        a factor r. The scale is split between the two; a zero column or row silences its partner.
        """
        b_norm, a_norm = column_norms(self.B), column_norms(self.A.T)
        used = (b_norm > 0) & (a_norm > 0)
        root_b, root_a = np.sqrt(np.where(used, b_norm, 1.0)), np.sqrt(np.where(used, a_norm, 1.0))
        root = math.sqrt(abs(self.scale))
        with np.errstate(over="ignore", invalid="ignore"):
            left = np.where(used, root_a / root_b * math.copysign(root, self.scale), 0.0)
            right = np.where(used, root_b / root_a * root, 0.0)
            sizes = frobenius(b_norm * left), frobenius(a_norm * right)
        require(math.isfinite(sum(sizes)), "B", "factors and a scale that can be balanced within floats", self.scale)
        return left, right, *sizes

    def core(self) -> Core:
        """Two thin QR decompositions of the balanced factors."""
        left, right, *_ = self._balance()
        tall, mix_left, r_left = _thin_qr(self.B, left)
        wide, mix_right, r_right = _thin_qr(self.A.T, right)
        return Core(tall, mix_left, r_left @ r_right.T, mix_right.T, wide.T)

    def singular_values(self) -> Array:
        """Singular values of the update, descending; as many as B has columns, zeros kept.

        Absolute error at most ``rank_tolerance((out, in, r), ||B'||_F ||A'||_F)`` for the balanced factors B', A'.
        """
        values = np.zeros(self.columns)
        core = self.core().core
        if core.size:
            computed = np.linalg.svd(core, compute_uv=False)
            values[: computed.size] = computed
        return values

    def tolerance(self, shape: tuple[int, int] | None = None) -> float:
        """Absolute error of :meth:`singular_values`; what :meth:`rank` counts as zero.

        Args:
            shape: (out, in) of the update that this one stands for in other coordinates (:meth:`compress`): the
                rounding is that of the large factors.
        """
        _, _, left_norm, right_norm = self._balance()
        return rank_tolerance((*(shape or self.shape), self.columns), left_norm * right_norm)

    def rank(self, tol: float | None = None) -> int:
        """Number of singular values above `tol`; by default above their rounding error.

        Raises:
            ValueError: `tol` is negative or not finite.
        """
        threshold = self.tolerance() if tol is None else real(tol, "tol")
        require(threshold >= 0, "tol", "a number >= 0", tol)
        return int(np.count_nonzero(self.singular_values() > threshold))

    def norm(self, kind: str = "frobenius") -> float:
        """``"spectral"``, ``"frobenius"`` or ``"nuclear"`` norm, from the singular values."""
        one_of(kind, "kind", ("spectral", "frobenius", "nuclear"))
        values = self.singular_values()
        if not values.size:
            return 0.0
        if kind == "spectral":
            return float(values[0])
        return frobenius(values) if kind == "frobenius" else float(values.sum())

    def truncate(self, r: int) -> LowRank:
        """Best approximation of rank at most `r` in every unitarily invariant norm (Eckart-Young); scale 1.

        Has min(r, columns, out, in) columns.
        """
        r = integer(r, "r", 0)
        core = self.core()
        if not core.core.size:
            return LowRank(np.zeros((self.shape[0], 0)), np.zeros((0, self.shape[1])))
        u, values, vt = np.linalg.svd(core.core, full_matrices=False)
        keep = min(r, values.size)
        root = np.sqrt(values[:keep])
        return LowRank._trusted(
            core.tall_left @ (core.mix_left @ (u[:, :keep] * root)),
            ((root[:, None] * vt[:keep]) @ core.mix_right) @ core.wide_right,
        )

    def inner(self, other: LowRank) -> float:
        """Frobenius inner product ``trace(self^T other)``, in factor space."""
        _same_shape([self, other])
        (b, a, scale), (other_b, other_a, other_scale) = self._factors(), other._factors()
        return float(scale * other_scale * np.sum((b.T @ other_b) * (a @ other_a.T)))

    def row_basis(self) -> Array:
        """Orthonormal rows (rank x in) spanning the row space: the directions of keys that it reads."""
        return self.svd()[2]

    def column_basis(self) -> Array:
        """Orthonormal columns (out x rank) spanning the column space: the directions that it writes."""
        return self.svd()[0]

    def svd(self, shape: tuple[int, int] | None = None) -> tuple[Array, Array, Array]:
        """(U, values, V^T) with the singular values above :meth:`tolerance`; `shape` as there."""
        core = self.core()
        if not core.core.size:
            return np.zeros((self.shape[0], 0)), np.zeros(0), np.zeros((0, self.shape[1]))
        u, values, vt = np.linalg.svd(core.core, full_matrices=False)
        kept = int(np.count_nonzero(values > self.tolerance(shape)))
        left = core.tall_left @ (core.mix_left @ u[:, :kept])
        return left, values[:kept], (vt[:kept] @ core.mix_right) @ core.wide_right

    @staticmethod
    def combine(updates: Sequence[LowRank], weights: Sequence[float]) -> LowRank:
        """Exact weighted sum: columns are stacked, so ranks may differ; weights may be negative.

        Raises:
            ValueError: no updates, different shapes, or not one finite weight per update.
        """
        require(len(updates) > 0, "updates", "at least one update", "none")
        require(len(weights) == len(updates), "weights", f"{len(updates)} weights", len(weights))
        _same_shape(updates)
        numbers = [real(w, "weights") for w in weights]
        products = [w * u.scale for u, w in zip(updates, numbers, strict=True)]
        require(all(map(math.isfinite, products)), "weights", "finite products with the scales", products)
        factors = [u._factors(abs(w)) for u, w in zip(updates, numbers, strict=True)]
        return LowRank._trusted(
            np.hstack([w * scale * b for (b, _, scale), w in zip(factors, numbers, strict=True)]),
            np.vstack([a for _, a, _ in factors]),
        )

    @staticmethod
    def compress(updates: Sequence[LowRank]) -> list[LowRank]:
        """The same updates in coordinates of their joint column and row space: norms, angles and products are kept.

        Every matrix shrinks from out x in to at most (sum of columns) squared; sums and averages of factors commute
        with it.
        """
        left = _triangle(np.hstack([u.B for u in updates]))
        right = _triangle(np.vstack([u.A for u in updates]).T)
        ends = np.cumsum([0, *(u.columns for u in updates)])
        return [
            LowRank(left[:, i:j], right[:, i:j].T, u.scale)
            for u, i, j in zip(updates, ends[:-1], ends[1:], strict=True)
        ]

    @classmethod
    def _trusted(cls, b: Array, a: Array) -> LowRank:
        """Scale 1, factors that this module computed from checked ones."""
        made = cls.__new__(cls)
        b.setflags(write=False)
        a.setflags(write=False)
        made.B, made.A, made.scale = b, a, 1.0
        return made


#: sizes of which half a dozen multiply well within the range of floats
_MILD = 1e50


def mild(sizes: ArrayLike) -> bool:
    """Whether all of them but zeros are far from the ends of the range of floats."""
    given = np.asarray(sizes)
    return bool(((given == 0) | ((given > 1.0 / _MILD) & (given < _MILD))).all())


def _same_shape(updates: Sequence[LowRank]) -> None:
    shapes = {u.shape for u in updates}
    require(len(shapes) == 1, "updates", "equal shapes (out, in)", sorted(shapes))


def column_norms(columns: Array) -> Array:
    """Column norms; scaled first where squaring would overflow or underflow."""
    norms: Array = np.sqrt(np.einsum("ij,ij->j", columns, columns))
    if columns.size and not np.all((norms > 1e-140) & (norms < 1e140)):
        largest = np.abs(columns).max(axis=0)
        norms = largest * np.linalg.norm(columns / np.where(largest > 0, largest, 1.0), axis=0)
    return norms


def frobenius(a: Array) -> float:
    """Frobenius norm of a matrix, Euclidean of a vector; squares neither overflow nor underflow."""
    return float(column_norms(a.reshape(-1, 1))[0])


#: squared condition number up to which two Cholesky passes give an orthonormal factor to rounding
_CHOLESKY_LIMIT = 1e10


def _thin_qr(columns: Array, scales: Array) -> tuple[Array, Array, Array]:
    """(tall, mix, r) with ``tall @ mix @ r == columns * scales`` and orthonormal columns of ``tall @ mix``.

    Cholesky-QR, twice, where the columns are tall and well enough conditioned, else Householder. The first pass leaves
    a loss of orthogonality of about eps cond^2 <= 2e-6, the second squares that and ends at rounding (Yamamoto,
    Nakatsukasa, Yanagisawa & Fukaya, ETNA 44, 2015). It is all matrix products and one triangular solve, an order of
    magnitude faster than Householder for the tall and narrow factors of an adapter.
    """
    rows, width = columns.shape
    if 0 < 4 * width <= rows:
        with np.errstate(over="ignore", invalid="ignore"):
            gram = columns.T @ columns
        norms = np.sqrt(np.diag(gram))
        if np.all((norms > 1e-140) & (norms < 1e140)):
            gram /= norms[:, None] * norms
            values = np.linalg.eigvalsh(gram)
            if values[0] * _CHOLESKY_LIMIT > values[-1]:
                first = norms[:, None] * np.linalg.cholesky(gram)
                tall = _divide(columns, first)
                # within 2e-6 of the identity: multiplying with its inverse is stable
                second = np.linalg.cholesky(tall.T @ tall)
                return tall, np.linalg.inv(second).T, (second.T @ first.T) * scales
    q, r = np.linalg.qr(columns * scales)
    return q, np.eye(q.shape[1]), r


#: squared condition number up to which one Cholesky factor of the Gram matrix is as good as a triangle of Householder's
_WELL = 1e3


def triangle(gram: Array) -> Array | None:
    """Upper R with ``R^T R == gram``, the inner products of some columns; None where these are not well apart."""
    norms = np.sqrt(np.diag(gram))
    if not np.all((norms > 1e-140) & (norms < 1e140)):
        return None
    cosines = gram / norms / norms[:, None]
    try:
        np.linalg.cholesky(cosines - np.eye(len(gram)) / _WELL)
        return np.asarray(np.linalg.cholesky(cosines).T * norms)
    except np.linalg.LinAlgError:
        return None


def _triangle(columns: Array) -> Array:
    """R with ``R^T R == columns^T columns``: by Cholesky where columns are tall and well apart, else by Householder."""
    rows, width = columns.shape
    with np.errstate(over="ignore", invalid="ignore"):
        found = triangle(columns.T @ columns) if 0 < 4 * width <= rows else None
    return np.asarray(np.linalg.qr(columns, mode="r")) if found is None else found


def _divide(columns: Array, lower: Array) -> Array:
    """``columns @ inv(lower.T)`` by a triangular solve, which is backward stable where the inverse is not."""
    from scipy.linalg import solve_triangular

    solved: Array = solve_triangular(lower, columns.T, lower=True, check_finite=False)
    return solved.T
