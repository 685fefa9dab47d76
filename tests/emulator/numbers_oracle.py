"""Numbers: sample values full of corners, and exact rounding counted in fractions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from tuner.emulator.isa.values import DTYPES, Array


@dataclass(frozen=True)
class Format:
    """A binary floating-point type: its digits, its least and greatest exponents, its width."""

    digits: int
    least: int
    most: int
    width: int

    @property
    def greatest(self) -> Fraction:
        return (2 - Fraction(2) ** (1 - self.digits)) * Fraction(2) ** self.most

    def corners(self) -> list[int]:
        """Bit patterns of zeros, subnormals, extremes, infinities, NaN and plain numbers."""
        mantissa = self.digits - 1
        exponents = (self.most + 1) * 2
        one = self.most << mantissa
        infinite = (exponents - 1) << mantissa
        positive = [
            0, 1, 2, (1 << mantissa) - 1, 1 << mantissa, (1 << mantissa) + 1,
            one - 1, one, one + 1, one + (1 << (mantissa - 1)), one + (1 << mantissa),
            one + (3 << (mantissa - 1)), one + (self.digits << mantissa) + 1,
            one - (self.digits << mantissa), infinite - 1, infinite - (1 << mantissa), infinite,
            infinite + (1 << (mantissa - 1)),
        ]  # fmt: skip
        return positive + [bits | 1 << (self.width - 1) for bits in positive]


FORMATS = {
    "f16": Format(11, -14, 15, 16),
    "bf16": Format(8, -126, 127, 16),
    "f32": Format(24, -126, 127, 32),
    "f64": Format(53, -1022, 1023, 64),
}


def round_exactly(value: Fraction, kind: str, mode: str) -> float:
    """``value`` (not zero) in a floating-point type, as a Python float; by the definition."""
    form, size, negative = FORMATS[kind], abs(value), value < 0
    sign = -1.0 if negative else 1.0
    exponent = size.numerator.bit_length() - size.denominator.bit_length()
    if Fraction(2) ** exponent > size:
        exponent -= 1
    unit = Fraction(2) ** (max(exponent, form.least) - form.digits + 1)
    whole, rest = divmod(size, unit)
    up = {
        "rn": rest * 2 > unit or (rest * 2 == unit and whole % 2 == 1),
        "rz": False,
        "rm": negative and rest > 0,
        "rp": not negative and rest > 0,
    }[mode]
    rounded = (whole + up) * unit
    if rounded > form.greatest:
        outwards = mode == "rn" or mode == ("rm" if negative else "rp")
        return sign * (math.inf if outwards else float(form.greatest))
    return sign * float(rounded)


def decode(bits: Array, kind: str) -> Array:
    """Typed values as float64."""
    value = (bits.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else bits
    with np.errstate(invalid="ignore"):  # a signalling NaN
        return value.astype(np.float64)


def encode(values: Iterable[float], kind: str) -> Array:
    """Python floats, exact in the type, as typed values; NaN as GPUs write it."""
    wide = np.array(list(values), np.float64)
    with np.errstate(invalid="ignore"):  # a signalling NaN
        if kind != "bf16":
            return wide.astype(DTYPES[kind])
        bits = (wide.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return np.where(np.isnan(wide), np.uint16(0x7FFF), bits)


def exact_sum(mode: str, *terms: float | Fraction) -> float | Fraction:
    """A sum in fractions; a float where it is infinite, NaN or a zero, whose sign it has."""
    if not all(isinstance(t, Fraction) or math.isfinite(t) for t in terms):
        return next(float(t) for t in terms if not _finite(t)) if _agree(terms) else math.nan
    total = sum(Fraction(t) for t in terms)
    if total:
        return total
    negative = [math.copysign(1, t) < 0 for t in terms]
    below = all(negative) or (mode == "rm" and any(negative))
    return -0.0 if below else 0.0


def exact_product(a: float, b: float) -> float | Fraction:
    """A product, as :func:`exact_sum` gives sums."""
    if _finite(a) and _finite(b) and a and b:
        return Fraction(a) * Fraction(b)
    return a * b


def rounded(value: float | Fraction, kind: str, mode: str) -> float:
    """What exact arithmetic gave, in a floating-point type."""
    if isinstance(value, float):
        return value
    return round_exactly(value, kind, mode)


def _finite(value: float | Fraction) -> bool:
    return isinstance(value, Fraction) or math.isfinite(value)


def _agree(terms: Iterable[float | Fraction]) -> bool:
    """Whether the terms that are not finite are infinities of one sign."""
    odd = {float(t) for t in terms if not _finite(t)}
    return not any(math.isnan(t) for t in odd) and len(odd) == 1


def floats(kind: str, arity: int, count: int = 1500, seed: int = 0) -> list[Array]:
    """``arity`` arrays: all pairs of corners, then random bits, then numbers near one."""
    random, form = np.random.default_rng(seed), FORMATS[kind]
    raw = np.dtype(f"u{form.width // 8}")
    corners = np.array(form.corners(), raw)
    mixed = [corners.repeat(len(corners)), np.tile(corners, len(corners))]
    columns = []
    for i in range(arity):
        bits = random.integers(0, 2**form.width, count, raw)
        # Exponents close to one, so that sums cancel and round.
        near = random.integers(0, 1 << form.digits, count).astype(raw)
        near += raw.type((form.most - 1) << (form.digits - 1))
        near ^= random.integers(0, 2, count).astype(raw) << raw.type(form.width - 1)
        corner = mixed[i] if i < 2 else random.permutation(mixed[0])
        columns.append(np.concatenate([corner if arity > 1 else corners, bits, near]))
    return [column.view(DTYPES[kind]) for column in columns]


def integers(kind: str, arity: int, count: int = 400, seed: int = 0) -> list[Array]:
    """``arity`` arrays: all pairs of extremes and small numbers, then random ones of all sizes."""
    random, dtype = np.random.default_rng(seed), DTYPES[kind]
    raw, width = np.dtype(f"u{dtype.itemsize}"), 8 * dtype.itemsize
    top = 1 << (width - 1)
    corners = [0, 1, 2, 3, 7, 31, 32, 33, 63, 64, top - 1, top, top + 1, 2 * top - 1, 2 * top - 2]
    known = np.array(corners, np.uint64).astype(raw)
    mixed = [known.repeat(len(known)), np.tile(known, len(known))]
    columns = []
    for i in range(arity):
        bits = random.integers(0, 2**width, count, raw, endpoint=False)
        bits >>= random.integers(0, width, count).astype(raw)
        corner = mixed[i] if i < 2 else random.permutation(mixed[0])
        columns.append(np.concatenate([corner, bits]).view(dtype))
    return columns


def same(found: Array, expected: Array) -> None:
    """Bit for bit, but for the payload of NaN."""
    assert found.dtype == expected.dtype
    if found.dtype.kind == "f":
        nan = np.isnan(found) & np.isnan(expected)
        raw = f"u{found.dtype.itemsize}"
        equal = nan | (found.view(raw) == expected.view(raw))
    else:
        equal = found == expected
    wrong = np.flatnonzero(~equal)
    assert len(wrong) == 0, (wrong[:5], found[wrong[:5]], expected[wrong[:5]])
