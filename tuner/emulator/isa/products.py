"""Products: whole products of integers, of which PTX takes the lower or the upper half."""

from __future__ import annotations

import numpy as np

from tuner.emulator.isa.values import Array


def wide_product(a: Array, b: Array) -> Array:
    """The product of 16- or 32-bit integers in twice their width."""
    double = np.dtype(f"{a.dtype.kind}{2 * a.dtype.itemsize}")
    return np.multiply(a, b, dtype=double)


def high_product(a: Array, b: Array) -> Array:
    """The upper half of the product of 16-, 32- or 64-bit integers."""
    if a.dtype.itemsize < 8:
        return (wide_product(a, b) >> (8 * a.dtype.itemsize)).astype(a.dtype)
    x, y = a.view(np.uint64), b.view(np.uint64)
    high = _high_unsigned(x, y)
    if a.dtype.kind == "i":
        # A negative factor counts 2^64 more as an unsigned one: that much of the other is too much.
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def _high_unsigned(x: Array, y: Array) -> Array:
    half, low = np.uint64(32), np.uint64(0xFFFFFFFF)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high: Array = x1 * y1 + (middle >> half) + (other >> half)
    return high
