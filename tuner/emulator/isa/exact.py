"""Exact: float64 arithmetic that NumPy lacks: fused, or rounded in a direction.

No wider type holds these results, so most of it is counted in fractions, a lane at a time: right,
and slow; kernels seldom have any. A fused multiply-add to the nearest is vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from tuner.emulator.isa.rounding import directed, odd_sum, two_sum
from tuner.emulator.isa.values import Array

# Veltkamp's constant: splits 53 bits into two parts of 26.
_SPLITTER = 2.0**27 + 1
# Between these no step of the fused multiply-add over- or underflows.
_LEAST, _MOST = 2.0**-400, 2.0**400


def add(a: Array, b: Array, mode: str) -> Array:
    """a + b rounded by ``mode``."""
    total, error = two_sum(a, b)
    # An overflow's error is NaN, but the sum is finite: the nearest is too far out.
    lost = np.isinf(total) & np.isfinite(a) & np.isfinite(b)
    return _signed_zero(directed(total, np.where(lost, -total, error), mode), a, b, mode)


def multiply(a: Array, b: Array, mode: str) -> Array:
    """a * b rounded by ``mode``."""
    return directed(a * b, _errors(a * b, lambda x, y: x * y, a, b), mode)


def divide(a: Array, b: Array, mode: str) -> Array:
    """a / b rounded by ``mode``."""
    return directed(a / b, _errors(a / b, lambda x, y: x / y if y else None, a, b), mode)


def square_root(a: Array, mode: str) -> Array:
    """The square root of a rounded by ``mode``."""
    nearest = np.sqrt(a)
    # The root lies beyond r where a lies beyond r * r; both are positive.
    squares = [
        _sign(Fraction(float(x)) - Fraction(float(r)) ** 2) if np.isfinite(r) else 0
        for x, r in zip(a, nearest, strict=True)
    ]
    return directed(nearest, np.array(squares), mode)


def fma(a: Array, b: Array, c: Array, mode: str) -> Array:
    """a * b + c rounded once by ``mode``."""
    a, b, c = np.broadcast_arrays(a, b, c)
    product = a * b
    factors = np.isfinite(a) & np.isfinite(b)
    # A finite product must not overflow before an infinite c decides.
    result = np.where(factors & np.isinf(c), c, product + c)
    result = _signed_zero(result, product, c, mode)
    # With a factor of zero, the sum is exact as it is.
    usual = (a == 0) | (b == 0) | ~factors | ~np.isfinite(c)
    if mode == "rn":
        moderate = _moderate(a) & _moderate(b) & _moderate(c) & _moderate(product)
        result = np.where(moderate, _fused(a, b, c), result)
        # With c = 0 the product was rounded once, unless it vanished and c gave its sign.
        usual |= moderate | ((c == 0) & (product != 0))
    rare = np.flatnonzero(~usual)
    rows = zip(*(v[rare].tolist() for v in (a, b, c, result)), strict=True)
    result[rare] = [
        _rounded(Fraction(x) * Fraction(y) + Fraction(z), zero, mode) for x, y, z, zero in rows
    ]
    return result


def _fused(a: Array, b: Array, c: Array) -> Array:
    # Boldo and Melquiond's emulation: the two small parts are summed to odd, then to the nearest.
    high, low = _two_product(a, b)
    top, rest = two_sum(c, low)
    total, error = two_sum(high, top)
    return total + odd_sum(rest, error)


def _two_product(a: Array, b: Array) -> tuple[Array, Array]:
    product = a * b
    (a1, a0), (b1, b0) = _split(a), _split(b)
    return product, a0 * b0 - (((product - a1 * b1) - a0 * b1) - a1 * b0)


def _split(a: Array) -> tuple[Array, Array]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def _moderate(a: Array) -> Array:
    size = np.abs(a)
    return (size >= _LEAST) & (size <= _MOST)


def _rounded(value: Fraction, zero: float, mode: str) -> float:
    if value == 0:
        return zero
    try:
        nearest = float(value)
    except OverflowError:
        nearest = np.inf if value > 0 else -np.inf
    error = _sign(value - Fraction(nearest)) if np.isfinite(nearest) else -_sign(value)
    return float(directed(np.array([nearest]), np.array([error]), mode)[0])


def _errors(
    nearest: Array, compute: Callable[[Fraction, Fraction], Fraction | None], a: Array, b: Array
) -> Array:
    """The sign of exact - nearest; 0 where an operand is not finite."""
    a, b, nearest = np.broadcast_arrays(a, b, nearest)
    signs = np.zeros(nearest.shape)
    for i in np.flatnonzero(np.isfinite(a) & np.isfinite(b)):
        value = compute(Fraction(float(a[i])), Fraction(float(b[i])))
        if value is not None:
            known = np.isfinite(nearest[i])
            signs[i] = _sign(value - Fraction(float(nearest[i])) if known else -value)
    return signs


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


def _signed_zero(result: Array, a: Array, b: Array, mode: str) -> Array:
    """An exact zero sum of unlike signs is -0 when rounding down, else +0."""
    cancelled = (result == 0) & (a == -b) & (np.signbit(a) != np.signbit(b))
    return np.where(cancelled, -0.0 if mode == "rm" else 0.0, result)
