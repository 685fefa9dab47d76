"""Rounding: exact results in float64 and their rounding to a narrower type, once.

Rounding twice (to float64, then to float32) can go wrong at a tie. The way out is *rounding to odd*
(Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
rounding to odd", IEEE Transactions on Computers 57(4), 2008): an inexact result in float64 is cut
off and its last bit set, so that it never looks like a tie or like an exact value; as float64 has
more than two bits more than the target, rounding that in any direction is right.
"""

from __future__ import annotations

import numpy as np

from tuner.emulator.isa.values import DTYPES, Array

MODES = ("rn", "rz", "rm", "rp")


def directed(nearest: Array, error: Array, mode: str) -> Array:
    """The value rounded by ``mode``, from the nearest one and ``error`` = exact - nearest.

    Only the sign of ``error`` counts; NaN (an infinite or undefined result) stands for exact.
    """
    if mode == "rn":
        return nearest
    down = error < 0 if mode != "rp" else np.zeros(1, np.bool_)
    up = error > 0 if mode != "rm" else np.zeros(1, np.bool_)
    if mode == "rz":
        down, up = down & (nearest > 0), up & (nearest < 0)
    infinite = nearest.dtype.type(np.inf)
    lower = np.where(down, np.nextafter(nearest, -infinite), nearest)
    return np.where(up, np.nextafter(nearest, infinite), lower)


def odd(nearest: Array, error: Array) -> Array:
    """The value rounded to odd, from the nearest one and ``error`` = exact - nearest."""
    upwards = error > 0
    inexact = upwards | (error < 0)
    if not inexact.any():
        return nearest
    # The exact value lies between the nearest one and a neighbour; one of the two is odd.
    bits = nearest.view(f"i{nearest.dtype.itemsize}")
    even = inexact & (bits & bits.dtype.type(1) == 0)
    away = upwards != np.signbit(nearest)
    result: Array = bits + even * np.where(away, bits.dtype.type(1), bits.dtype.type(-1))
    return result.view(nearest.dtype)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b in float64 and its exact error (Knuth); the error is NaN where the sum is infinite."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def odd_sum(a: Array, b: Array, mode: str = "rn") -> Array:
    """a + b in float64, rounded to odd. An exact zero has the sign that ``mode`` asks for."""
    total, error = two_sum(a, b)
    result = odd(total, error)
    if mode == "rm":
        opposite = np.signbit(a) != np.signbit(b)
        result = np.where((total == 0) & opposite, -0.0, result)
    return result


def widen(value: Array, type_name: str) -> Array:
    """f16, bf16, f32 or f64 as float64: exact."""
    if type_name == "bf16":
        return bf16_to_f32(value).astype(np.float64)
    return value.astype(np.float64)


def narrow(value: Array, type_name: str, mode: str = "rn") -> Array:
    """float64, rounded to odd where it was inexact, as another float type; NaN is canonical."""
    if type_name == "bf16":
        return _to_bf16(value, mode)
    nearest = value.astype(DTYPES[type_name])
    if mode != "rn":
        nearest = directed(nearest, value - nearest, mode)
    return canonical(nearest, type_name)


def bf16_to_f32(bits: Array) -> Array:
    """bf16, as its 16 bits, in float32: exact."""
    value: Array = (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return value


def canonical(value: Array, type_name: str) -> Array:
    """Every NaN of f16 and f32 as the one that NVIDIA GPUs give; f64 keeps its payloads."""
    missing = np.isnan(value)
    if type_name == "f64" or not missing.any():
        return value
    return np.where(missing, _NAN[type_name], value)


def flush(value: Array) -> Array:
    """``.ftz``: subnormal numbers as zeros of their sign."""
    tiny = np.abs(value) < np.finfo(value.dtype).smallest_normal
    return np.where(tiny, np.copysign(value.dtype.type(0), value), value)


def saturate(value: Array) -> Array:
    """``.sat``: clamped to 0..1, NaN and -0 as +0."""
    result: Array = np.where(value > 0, np.minimum(value, value.dtype.type(1)), value.dtype.type(0))
    return result


def relu(value: Array) -> Array:
    """``.relu``: negative numbers and -0 as +0; NaN stays."""
    return np.where(value <= 0, value.dtype.type(0), value)


def _to_bf16(value: Array, mode: str) -> Array:
    # By way of float32 rounded to odd: it has the exponents of bf16 and 16 bits more, always.
    nearest = value.astype(np.float32)
    bits = odd(nearest, value - nearest).view(np.uint32)
    if mode == "rn":
        bits = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    elif mode != "rz":
        away = np.signbit(value) == (mode == "rm")
        bits = bits + np.where(away, np.uint32(0xFFFF), np.uint32(0))
    result: Array = np.where(
        np.isnan(value), np.uint16(0x7FFF), (bits >> np.uint32(16)).astype(np.uint16)
    )
    return result


_NAN: dict[str, Array] = {
    "f16": np.array([0x7FFF], np.uint16).view(np.float16),
    "f32": np.array([0x7FFFFFFF], np.uint32).view(np.float32),
}
