"""Tolerances, input checks and random streams shared by every topic.

One convention for floats, on the safe side. *In*: a bound takes a float for any number that its format rounds to it,
and uses the end of that range which claims less (:func:`above`, :func:`below`); whole numbers and Fractions, and zero,
are exact. *Out*: a ceiling is never below its exact value, a floor or a certificate never above it, by a margin for
every rounding on the way (:func:`rounding`); a value that is a quotient of whole numbers is the float nearest to it.
"""

from __future__ import annotations

import math
import numbers
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPS = float(np.finfo(np.float64).eps)
Array = NDArray[np.float64]


def require(condition: bool, argument: str, expected: str, got: Any) -> None:
    """Raise ``ValueError`` in one line (argument, expected, got) unless `condition` holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {_shown(got, str)}")


def _shown(value: Any, form: Callable[[Any], str] = repr) -> str:
    try:
        return form(value)
    except ValueError:  # Python prints no number of more than 4300 digits
        return "a number of thousands of digits"


def numbers_of(value: ArrayLike, name: str, expected: str) -> Array:
    """`value` as a float64 array; ``ValueError`` naming `name` if it does not hold real numbers only."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:  # ragged lists, objects
        raise ValueError(f"{name}: expected {expected}, got {type(value).__name__}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected {expected}, got dtype {array.dtype}")
    with np.errstate(over="ignore"):  # a wider format; what it cannot hold is infinite and refused as that
        return array.astype(np.float64)


def matrix(value: ArrayLike, name: str) -> Array:
    """`value` as a finite float64 matrix; ``ValueError`` naming `name` if it is not one.

    Complex input is refused: no claim here speaks of it, and a cast would drop its imaginary part.
    """
    array = numbers_of(value, name, "a real matrix")
    require(array.ndim == 2, name, "a matrix (2 dimensions)", f"{array.ndim} dimensions")
    require(bool(np.isfinite(array).all()), name, "finite entries", "nan or inf")
    return array


def vector(value: ArrayLike, name: str) -> Array:
    """`value` as a finite float64 vector; ``ValueError`` naming `name` if it is not one."""
    array = numbers_of(value, name, "a real vector")
    require(array.ndim == 1, name, "a vector (1 dimension)", f"{array.ndim} dimensions")
    require(bool(np.isfinite(array).all()), name, "finite entries", "nan or inf")
    return array


def integer(value: Any, name: str, at_least: int) -> int:
    """`value` as a Python int of at least `at_least`; bools and fractions are refused."""
    is_int = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    require(is_int, name, f"an integer >= {at_least}", value if is_int else _shown(value))
    require(int(value) >= at_least, name, f"an integer >= {at_least}", value)
    return int(value)


def real(value: Any, name: str) -> float:
    """`value` as a finite Python float; what a float cannot hold exactly (Fraction, large int) is rounded."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_))
    require(is_real, name, "a real number", value if is_real else _shown(value))
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    require(math.isfinite(number), name, "a finite number", value)
    return number


def exact(value: Any, name: str) -> Fraction:
    """`value` as a Fraction: whole and rational numbers (also SymPy's) of any size, floats as the dyadic they are."""
    if isinstance(value, numbers.Rational) and not isinstance(value, bool):
        return Fraction(int(value.numerator), int(value.denominator))  # NumPy's would overflow
    return Fraction(real(value, name))


def above(value: Any, name: str) -> Fraction:
    """The least number that `value` may not exceed: a float plus one unit in the last place of its format.

    A wider one than float64 counts as that. Exact numbers (whole, Fraction, SymPy's rationals) and zero are what they
    are.
    """
    return _beside(value, name, np.inf)


def below(value: Any, name: str) -> Fraction:
    """As :func:`above`, one unit less."""
    return _beside(value, name, -np.inf)


def _beside(value: Any, name: str, towards: float) -> Fraction:
    number = exact(value, name)
    if isinstance(value, numbers.Rational) or not number:
        return number
    kind = type(value) if isinstance(value, (np.float16, np.float32)) else np.float64
    with np.errstate(over="ignore"):
        neighbour = float(np.nextafter(kind(number), kind(towards)))
    return exact(neighbour, name) if math.isfinite(neighbour) else number


def quotient(value: float, count: int) -> float:
    """``value / count`` for a count of any size, also beyond the range of floats; rounded once."""
    return rounded(Fraction(value) / count)


def rounded(value: Fraction) -> float:
    """The float next to `value`; infinite beyond their range."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def rounded_up(value: Fraction) -> float:
    """The least float that is not below `value`, for what a ceiling may not fall below."""
    nearest = rounded(value)
    return nearest if nearest >= value else math.nextafter(nearest, math.inf)


def exponent(a: Array) -> int:
    """The least e with all entries below 2^e in absolute value; 0 where all are zero."""
    return int(np.frexp(np.abs(a).max(initial=0.0))[1])


def one_of(value: Any, name: str, allowed: Sequence[str]) -> str:
    """`value` if it is one of `allowed`."""
    require(isinstance(value, str) and value in allowed, name, "one of " + ", ".join(allowed), repr(value))
    return str(value)


def rank_tolerance(shape: Sequence[int], scale: float) -> float:
    """Singular values at or below this are rounding: ``4 eps max(shape) scale``.

    A product or decomposition of matrices whose norms multiply to `scale` is computed with an
    absolute error of at most a small multiple of ``eps * max(shape) * scale`` (Higham, Accuracy
    and Stability of Numerical Algorithms, 2nd ed., Theorems 3.5 and 19.4; Weyl's inequality carries it
    over to singular values). The factor 4 covers the two QR steps, the core product and the SVD.
    """
    return 4.0 * EPS * max(*shape, 1) * scale


def rounding(*lengths: int) -> float:
    """Relative to the result, more than floats lose of sums of positive terms, of these lengths, one inside another.

    Room for twice as many roundings as terms, and 31 beside: of a root, a few factors, the allowance itself.
    """
    return (sum(lengths) + 16) * EPS


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """A named, independent random stream of `seed`: ``stream(7, "train", 3)``. No global state is touched."""
    keys = [n if isinstance(n, int) else zlib.crc32(n.encode()) for n in names]
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(keys)))
