"""What low-rank updates can reach at all: best approximation, deep linear chains, many rounds, spectra.

Glossary: ``E`` the wanted change of a matrix (target minus frozen weight), ``sigma_i`` its singular values, largest
first, *energy* the sum of their squares, r95 the least rank that keeps 95 % of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from theory.chains import adapt, check_chain
from theory.lowrank import LowRank
from theory.numerics import Array, integer, matrix, one_of, rank_tolerance, real, require, vector

NORMS = ("spectral", "frobenius")
DECAYS = ("power", "exponential")

# ---- eckart_young ----


def floor_error(E: LowRank | ArrayLike, r: int, norm: str = "spectral") -> float:
    """Least possible ``||E - U||`` over all U of rank at most r.

    Args:
        E: out x in matrix, LowRank, or a 1-D array of singular values in any order.
        r: rank, >= 0; at or above the number of singular values the error is 0.0.
        norm: ``"spectral"``: sigma_{r+1}; ``"frobenius"``: ``sqrt(sum_{i>r} sigma_i^2)``.

    Returns:
        absolute error in the units of E. Computed within a few ``eps max(out, in) ||E||_2`` per singular value, so
        it is of that size, and seldom 0.0, where the exact answer is 0.

    Raises:
        ValueError: E not finite and real or a negative singular value, r not an integer >= 0, unknown norm.

    Source: claim eckart_young (Eckart, Young, Mirsky; standard).
    """
    rank = integer(r, "r", 0)
    one_of(norm, "norm", NORMS)
    tail = _singular_values(E, "E")[rank:]
    if not tail.size or tail[0] == 0.0:
        return 0.0
    # dividing by the largest keeps the squares from under- and overflowing
    return float(tail[0]) if norm == "spectral" else float(tail[0] * np.linalg.norm(tail / tail[0]))


def best_update(E: LowRank | ArrayLike, r: int) -> LowRank:
    """A closest matrix of rank at most r in every unitarily invariant norm: the truncated SVD, scale 1.

    Args:
        E: out x in matrix or LowRank.
        r: rank, >= 0.

    Returns:
        LowRank with at most r columns; attains :func:`floor_error` within ``4 eps max(out, in) ||E||_F``.

    Raises:
        ValueError: E not finite and real, r not an integer >= 0.

    Source: claim eckart_young.
    """
    rank = integer(r, "r", 0)
    if isinstance(E, LowRank):
        return E.truncate(rank)
    left, values, right = np.linalg.svd(matrix(E, "E"), full_matrices=False)
    root = np.sqrt(values[:rank])
    return LowRank(left[:, :rank] * root, root[:, None] * right[:rank])


def _singular_values(E: LowRank | ArrayLike, name: str) -> Array:
    """Singular values of E, descending; a 1-D E is the values themselves."""
    if isinstance(E, LowRank):
        return E.singular_values()
    if np.ndim(E) == 1:
        values = vector(E, name)
        require(bool((values >= 0).all()), name, "singular values >= 0", values.min(initial=0.0))
        return np.sort(values)[::-1]
    dense = matrix(E, name)
    values = np.zeros(min(dense.shape))
    if dense.size:
        values[:] = np.linalg.svd(dense, compute_uv=False)
    return values


# ---- deep_linear ----


def deep_linear_adapters(weights: Sequence[ArrayLike], target: ArrayLike, r: int) -> list[LowRank]:
    """Adapters of rank at most r, one per layer, with which a frozen linear chain comes closest to `target`.

    Args:
        weights: L layers, input first, W_l of shape d_l x d_{i-1}; their product is ``W_L @ ... @ W_1``.
        target: d_L x d_0.
        r: rank per layer, >= 0.

    Returns:
        L updates, input first. ``(W_L + U_L) ... (W_1 + U_1)`` has spectral distance sigma_{rL+1}(target - product)
        to the target, the least that updates of rank r can give. The product is formed and compared with what it
        should be: the distance is off by at most twice what multiplying the layers out rounds,
        ``4 eps d sum_l ||S_l|| ||W_l|| ||Q_{l-1}||`` over frozen and over adapted layers (S_l the product of those
        above, Q_{l-1} of those below, d the largest size), plus ``4 eps d (||T|| + ||T - product||)``. Where no
        update is needed all are without columns.

    Raises:
        ValueError: no layers, shapes that do not fit, not finite and real, r not an integer >= 0; or the product is
            further off than that, or not one of its digits is certain, which names the worst conditioned layer. Square
            layers do not come to that unless they are singular to working precision, or so many and so
            ill-conditioned that rounding is above a tenth of ``||T|| + ||T - product||``. A singular W_1, and
            rectangular layers, do if an adapted product W_l ... W_1 comes out singular; hidden widths of at least
            max(d_0, d_L) with products W_L ... W_l of full row rank are what the construction asks for.

    Source: claim deep_linear; [Z] linear case, there for square layers.
    """
    rank = integer(r, "r", 0)
    layers, wanted, names = _chain(weights, target)
    return adapt(layers, wanted, rank, names).adapters


def deep_linear_floor(weights: Sequence[ArrayLike], target: ArrayLike, r: int) -> float:
    """Least spectral distance to `target` that rank-r updates of every layer can give: sigma_{rL+1}(target - product).

    A lower bound for any layers; attained by :func:`deep_linear_adapters` where its assumptions hold. Same arguments;
    absolute error as :func:`floor_error` of a product of L layers.

    Raises:
        ValueError: no layers, shapes that do not fit, not finite and real, r not an integer >= 0.

    Source: claim deep_linear.
    """
    rank = integer(r, "r", 0)
    layers, wanted, _ = _chain(weights, target)
    total = layers[0]
    for w in layers[1:]:
        total = w @ total
    return floor_error(wanted - total, rank * len(layers), "spectral")


def _chain(weights: Sequence[ArrayLike], target: ArrayLike) -> tuple[list[Array], Array, list[str]]:
    require(len(weights) > 0, "weights", "at least one layer", "none")
    names = [f"weights[{i}]" for i in range(len(weights))]
    layers = [matrix(w, name) for w, name in zip(weights, names, strict=True)]
    check_chain(layers, names)
    wanted = matrix(target, "target")
    shape = (layers[-1].shape[0], layers[0].shape[1])
    require(wanted.shape == shape, "target", f"shape {shape}, as the product of the layers", wanted.shape)
    return layers, wanted, names


# ---- merge_and_reset ----


def rounds_needed(E: LowRank | ArrayLike, r: int) -> int:
    """Least number of rounds with reset (or of parallel heads) of rank r whose sum is exactly E: ``ceil(rank E / r)``.

    Args:
        E: out x in matrix or LowRank; its rank is numerical (singular values above their rounding error).
        r: rank per round, >= 1.

    Raises:
        ValueError: E not finite and real, r not an integer >= 1.

    Source: claim merge_and_reset.
    """
    return -(-_rank(E) // integer(r, "r", 1))


def split_update(E: LowRank | ArrayLike, r: int, rounds: int) -> list[LowRank]:
    """`rounds` updates of rank at most r whose sum is E: what merging and reset after each round reach.

    Args:
        E: out x in matrix or LowRank of rank at most ``rounds * r``.
        r: rank per round, >= 0.
        rounds: number of rounds (or of heads trained side by side and merged), >= 0.

    Returns:
        updates that carry the singular directions of E from the strongest on; their sum is E within
        ``4 eps max(out, in) ||E||_F``. Rounds that are not needed get an update without columns.

    Raises:
        ValueError: E not finite and real or of higher rank, r or rounds not an integer >= 0.

    Source: claim merge_and_reset.
    """
    columns, count = integer(r, "r", 0), integer(rounds, "rounds", 0)
    rank = _rank(E)
    require(rank <= count * columns, "E", f"rank at most {count * columns}, as {count} rounds of rank {columns}", rank)
    best = best_update(E, rank)
    groups = [slice(t * columns, (t + 1) * columns) for t in range(count)]
    return [LowRank(best.B[:, group], best.A[group]) for group in groups]


def _rank(E: LowRank | ArrayLike) -> int:
    if isinstance(E, LowRank):
        return E.rank()
    dense = matrix(E, "E")
    values = _singular_values(dense, "E")
    return int(np.count_nonzero(values > rank_tolerance(dense.shape, float(values.max(initial=0.0)))))


# ---- spectral_concentration ----


def spectral_rank(singular_values: ArrayLike, energy: float) -> int:
    """Least r with ``sum_{i<=r} sigma_i^2 >= energy * sum_i sigma_i^2``.

    Args:
        singular_values: 1-D, >= 0, any order. Exact for the floats given: values that are rounding count as they are.
        energy: share in [0, 1], read as the decimal that it prints as (0.1 is one tenth).

    Returns:
        int; 0 if all values are 0.

    Raises:
        ValueError: values not finite, real, 1-D and >= 0; energy not a number in [0, 1].

    Source: claim spectral_concentration (definition).
    """
    values = _singular_values(vector(singular_values, "singular_values"), "singular_values")
    share = _share(energy)
    ratios = [value.as_integer_ratio() for value in values.tolist()]
    unit = max((below for _, below in ratios), default=1)  # a power of two, as they all are
    squares = [(above * (unit // below)) ** 2 for above, below in ratios]  # exact integers proportional to the squares
    wanted, kept, rank = share.numerator * sum(squares), 0, 0
    while kept * share.denominator < wanted:
        kept += squares[rank]
        rank += 1
    return rank


def decay_spectrum(decay: str, rate: float, n: int) -> Array:
    """The n singular values ``i^-rate`` (``"power"``) or ``e^{-rate i}`` (``"exponential"``), i = 1..n, descending.

    Raises:
        ValueError: unknown decay, rate not a number >= 0, n not an integer >= 1.
    """
    rate = _rate(decay, rate)
    index = np.arange(1, integer(n, "n", 1) + 1, dtype=np.float64)
    return index**-rate if decay == "power" else np.exp(-rate * index)


def decay_error(decay: str, rate: float, r: int, n: int | None = None, norm: str = "frobenius") -> float:
    """Relative error ``floor_error / ||E||`` of the best rank-r update for a spectrum with this decay, closed form.

    Args:
        decay: ``"power"``: sigma_i = i^-rate; ``"exponential"``: sigma_i = e^{-rate i}; i = 1..n.
        rate: >= 0.
        r: rank, >= 0.
        n: number of singular values; None for the infinite spectrum.
        norm: ``"spectral"``: (r+1)^-rate and e^{-rate r}; ``"frobenius"``:
            power ``sqrt((H_n - H_r) / H_n)`` with H_k = sum_{i<=k} i^{-2 rate}, infinite
            ``sqrt(zeta(2 rate, r+1) / zeta(2 rate))``; exponential
            ``e^{-rate r} sqrt((1 - e^{-2 rate (n-r)}) / (1 - e^{-2 rate n}))``, infinite ``e^{-rate r}``.

    Returns:
        float in [0, 1], correct to the last bits; 0.0 for r >= n.

    Raises:
        ValueError: unknown decay or norm, rate, r or n out of range, or an infinite spectrum without finite energy
            (power with rate <= 1/2, exponential with rate 0) in the Frobenius norm.

    Source: claim spectral_concentration (standard sums).
    """
    rate, rank, size = _rate(decay, rate), integer(r, "r", 0), _size(n)
    one_of(norm, "norm", NORMS)
    if size is not None and rank >= size:
        return 0.0
    if norm == "frobenius":
        _require_energy(decay, rate, size)
    import mpmath

    with mpmath.workdps(_DIGITS + len(str(size))):  # of a tail up to n as many digits cancel
        if norm == "spectral":
            exact = mpmath.mpf(rate)
            return float(mpmath.mpf(rank + 1) ** -exact if decay == "power" else mpmath.exp(-exact * rank))
        return float(mpmath.sqrt(_energy(decay, rate, rank + 1, size) / _energy(decay, rate, 1, size)))


def decay_rank(decay: str, rate: float, energy: float = 0.95, n: int | None = None) -> int:
    """Least rank that keeps this share of the squared spectrum, for a spectrum with this decay, closed form.

    Exponential: ``ceil(-ln(1 - energy (1 - e^{-2 rate n})) / (2 rate))``, without the second factor if infinite.
    Power, infinite: ``ceil(x - 1)`` or ``ceil(x - 1/2)`` with s = 2 rate and
    ``x = ((s - 1) (1 - energy) zeta(s))^(-1/(s-1))``, which the tail zeta(s, r+1) decides; finite: least r with
    ``zeta(s) - zeta(s, r+1) >= energy (zeta(s) - zeta(s, n+1))`` by bisection (digamma in place of zeta at s = 1).

    Args:
        decay, rate, n: as in :func:`decay_error`.
        energy: share in [0, 1], for an infinite spectrum below 1; read as the decimal that it prints as.

    Returns:
        int, decided with 60 digits (shares that agree to 40 digits count as equal).

    Raises:
        ValueError: unknown decay, rate, energy or n out of range, an infinite spectrum without finite energy, or an
            infinite power spectrum so slow that the rank exceeds 2^53.

    Source: claim spectral_concentration (tail bounds by convexity of x^-s; ours).
    """
    rate, share, size = _rate(decay, rate), _share(energy), _size(n)
    _require_energy(decay, rate, size)
    if share == 0:
        return 0
    if share == 1:
        require(size is not None, "energy", "a share below 1 for an infinite spectrum", energy)
        return int(size or 0)
    import mpmath

    with mpmath.workdps(_DIGITS):
        keep = mpmath.mpf(share.numerator) / share.denominator
        if decay == "exponential":
            if rate == 0.0:
                return math.ceil(share * int(size or 0))
            whole = 1 if size is None else -mpmath.expm1(-2 * mpmath.mpf(rate) * size)
            return _ceiling(-mpmath.log1p(-keep * whole) / (2 * mpmath.mpf(rate)))
        total = _energy(decay, rate, 1, size)
        allowed = (1 - keep) * total * (1 + mpmath.mpf(_AGREE))

        def lost_too_much(r: int) -> bool:
            return bool(_energy(decay, rate, r + 1, size) > allowed)

        if size is None:
            s = 2 * mpmath.mpf(rate)
            x = ((s - 1) * (1 - keep) * total) ** (-1 / (s - 1))
            require(bool(x < 2**53), "rate", "a decay fast enough for a rank up to 2^53", rate)
            low = max(_ceiling(x - 1), 1)
            return low + 1 if lost_too_much(low) else low
        low, high = 0, size  # rank `low` is too small, rank `high` is enough
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if lost_too_much(middle) else (low, middle)
        return high


def saturation_point(n_answers: int, width: int) -> int:
    """Number of facts at which r95 of a facts update is predicted to stop growing: min(distinct answers, width).

    A hypothesis, not a bound: the least rank that writes the facts saturates there, a trained update need not.

    Raises:
        ValueError: not integers >= 1.

    Source: claim spectral_concentration (ours, hypothesis).
    """
    return min(integer(n_answers, "n_answers", 1), integer(width, "width", 1))


_DIGITS, _AGREE = 60, 1e-40


def _share(energy: float) -> Fraction:
    real(energy, "energy")
    share = Fraction(str(energy))
    require(0 <= share <= 1, "energy", "a share in [0, 1]", energy)
    return share


def _rate(decay: str, rate: float) -> float:
    one_of(decay, "decay", DECAYS)
    value = real(rate, "rate")
    require(value >= 0, "rate", "a number >= 0", rate)
    return value


def _size(n: int | None) -> int | None:
    return None if n is None else integer(n, "n", 1)


def _require_energy(decay: str, rate: float, size: int | None) -> None:
    least = 0.5 if decay == "power" else 0.0
    require(size is not None or rate > least, "rate", f"a rate above {least:g} for an infinite spectrum", rate)


def _energy(decay: str, rate: float, first: int, last: int | None) -> Any:
    """sum_{i=first}^{last} sigma_i^2 in the working precision of mpmath; last None: to infinity.

    Exponential: that times ``1 - e^{-2 rate}``, unless the rate is 0.
    """
    import mpmath

    s = 2 * mpmath.mpf(rate)
    if decay == "power":
        if last is None:
            return mpmath.zeta(s, first)
        if s == 1:
            return mpmath.digamma(last + 1) - mpmath.digamma(first)
        return mpmath.zeta(s, first) - mpmath.zeta(s, last + 1)
    if last is None:
        return mpmath.exp(-s * first)
    if rate == 0.0:
        return mpmath.mpf(last - first + 1)
    return mpmath.exp(-s * first) * -mpmath.expm1(-s * (last - first + 1))


def _ceiling(x: Any) -> int:
    """Ceiling of an mpmath number that was computed with `_DIGITS`."""
    import mpmath

    nearest = int(mpmath.nint(x))
    return nearest if abs(x - nearest) <= _AGREE * abs(x) else int(mpmath.ceil(x))
