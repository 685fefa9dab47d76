"""PTX arithmetic on one thread's f32, in fractions rounded by the definition."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import product
from typing import Any

from tests.emulator.integer_oracle import COMPARE, Operation, signed
from tests.emulator.numbers_oracle import round_exactly

NAN = 0x7FFFFFFF


def to_float(bits: int) -> float:
    """Value of an f32."""
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def from_float(value: float) -> int:
    """Bits of a value that an f32 holds exactly; NaN is canonical."""
    return NAN if math.isnan(value) else int(struct.unpack("<I", struct.pack("<f", value))[0])


def float_operations() -> Iterator[Operation]:
    """f32 without .ftz, in every rounding."""
    for mode in ("rn", "rz", "rm", "rp"):
        for name, arity, compute in (
            ("add", 2, _sum),
            ("sub", 2, _difference),
            ("mul", 2, _times),
            ("div", 2, _ratio),
            ("fma", 3, _fused),
        ):
            sources = ", ".join(f"{{{i + 1}}}" for i in range(arity))
            yield Operation(
                f"{name}.{mode}.f32 {{0}}, {sources};",
                "f" * (arity + 1),
                lambda *bits, compute=compute, mode=mode: from_float(
                    compute(*map(to_float, bits), mode)
                ),
            )
        for sign, (width, kind) in product("su", ((32, "r"), (64, "d"))):

            def value(bits: int, sign: str = sign, width: int = width) -> int:
                return signed(bits, width) if sign == "s" else bits

            yield Operation(
                f"cvt.{mode}.f32.{sign}{width} {{0}}, {{1}};",
                "f" + kind,
                lambda a, value=value, mode=mode: from_float(_rounded(Fraction(value(a)), mode)),
            )
    yield from _to_integers()
    yield Operation("neg.f32 {0}, {1};", "ff", lambda a: a ^ 1 << 31)
    yield Operation("abs.f32 {0}, {1};", "ff", lambda a: a & (1 << 31) - 1)
    yield Operation("selp.f32 {0}, {1}, {2}, {3};", "fffp", lambda a, b, p: a if p else b)
    for name, pick in (("min", min), ("max", max)):
        yield Operation(
            f"{name}.f32 {{0}}, {{1}}, {{2}};", "fff", lambda a, b, pick=pick: _extreme(a, b, pick)
        )
    for name, holds in COMPARE.items():
        for suffix, unordered in (("", 0), ("u", 1)):
            yield Operation(
                f"setp.{name}{suffix}.f32 {{0}}, {{1}}, {{2}};",
                "pff",
                lambda a, b, holds=holds, unordered=unordered: (
                    unordered
                    if math.isnan(to_float(a)) or math.isnan(to_float(b))
                    else int(holds(to_float(a), to_float(b)))
                ),
            )


def _to_integers() -> Iterator[Operation]:
    """Saturating; NaN becomes 0, of 64 bits the top bit alone."""
    roundings = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}
    for (mode, to_whole), sign, (width, kind) in product(
        roundings.items(), "su", ((32, "r"), (64, "d"))
    ):
        low, high = (
            (-(1 << width - 1), (1 << width - 1) - 1) if sign == "s" else (0, (1 << width) - 1)
        )

        def whole(
            bits: int,
            to_whole: Any = to_whole,
            low: int = low,
            high: int = high,
            width: int = width,
        ) -> int:
            value = to_float(bits)
            if math.isnan(value):
                return 0 if width == 32 else 1 << 63
            if math.isinf(value):
                return high if value > 0 else low
            return int(min(max(to_whole(value), low), high))

        yield Operation(f"cvt.{mode}.{sign}{width}.f32 {{0}}, {{1}};", kind + "f", whole)


def _rounded(exact: Fraction, mode: str, zero: float = 0.0) -> float:
    return round_exactly(exact, "f32", mode) if exact else zero


def _sum(a: float, b: float, mode: str) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    same_sign = math.copysign(1, a) == math.copysign(1, b)
    opposite = -0.0 if mode == "rm" else 0.0
    return _rounded(Fraction(a) + Fraction(b), mode, a if same_sign else opposite)


def _difference(a: float, b: float, mode: str) -> float:
    return _sum(a, -b, mode)


def _times(a: float, b: float, mode: str) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    return _rounded(Fraction(a) * Fraction(b), mode, math.copysign(0.0, a) * math.copysign(1, b))


def _ratio(a: float, b: float, mode: str) -> float:
    if math.isnan(a) or math.isnan(b):
        return math.nan
    if b == 0:
        return math.nan if a == 0 else math.copysign(math.inf, a) * math.copysign(1, b)
    if not (math.isfinite(a) and math.isfinite(b)):
        return a / b
    return _rounded(Fraction(a) / Fraction(b), mode, math.copysign(0.0, a) * math.copysign(1, b))


def _fused(a: float, b: float, c: float, mode: str) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b + c
    exact = Fraction(a) * Fraction(b)
    if not math.isfinite(c) or (exact == 0 and c != 0):
        return c
    if exact == 0:
        return _sum(math.copysign(0.0, a) * math.copysign(1, b), c, mode)
    return _rounded(exact + Fraction(c), mode, -0.0 if mode == "rm" else 0.0)


def _extreme(a: int, b: int, pick: Callable[..., float]) -> int:
    """NaN only when both are; -0 lies below +0."""
    known = [bits for bits in (a, b) if not math.isnan(to_float(bits))]
    if not known:
        return NAN
    return int(pick(known, key=lambda bits: (to_float(bits), math.copysign(1, to_float(bits)))))
