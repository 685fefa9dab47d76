"""Floating: arithmetic on f32 and f64, correctly rounded in the mode asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa import exact
from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.rounding import (
    MODES,
    canonical,
    flush,
    narrow,
    odd_sum,
    saturate,
)
from tuner.emulator.isa.typed import check_type, typed
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import Instruction

FLOATS = ("f32", "f64")
# The bits of float64 that float32 has not, and their value in the middle of two float32.
_BELOW_F32, _TIE_OF_F32 = np.uint64((1 << 29) - 1), np.uint64(1 << 28)
_NORMAL_F32 = 2.0**-126
Compute = Callable[..., Array]


@typed("add", types=FLOATS)
@typed("sub", types=FLOATS)
@typed("mul", types=FLOATS)
def add_sub_mul(found: Instruction, bind: Binder) -> Step:
    """d = a + b, a - b or a * b; ``.rn`` unless another mode is named."""
    only(found, {*MODES, *_f32_only(found, "ftz", "sat")})
    mode = rounding_mode(found, bind, MODES) or "rn"
    return floating(found, bind, 2, _ARITHMETIC[found.root](found.type, mode))


@typed("fma", types=FLOATS)
@typed("mad", types=FLOATS)
def fma(found: Instruction, bind: Binder) -> Step:
    """d = a * b + c, rounded once; ``mad`` is the same."""
    only(found, {*MODES, *_f32_only(found, "ftz", "sat")})
    mode = rounding_mode(found, bind, MODES)
    if mode is None:
        raise bind.error(f"'{found.root}' needs one of .rn, .rz, .rm and .rp")
    if found.type == "f64":
        return floating(found, bind, 3, lambda a, b, c: exact.fma(a, b, c, mode))
    return floating(found, bind, 3, lambda a, b, c: fma_f32(a, b, c, mode))


@typed("div", types=FLOATS)
def div(found: Instruction, bind: Binder) -> Step:
    """d = a / b; ``.approx`` and ``.full`` are rounded correctly too."""
    only(found, {*MODES, *_f32_only(found, "ftz", "approx", "full")})
    mode = rounding_mode(found, bind, (*MODES, "approx", "full"))
    if mode is None:
        raise bind.error("'div' needs a rounding mode, .approx or .full")
    if mode == "approx":
        return floating(found, bind, 2, _divide_approximately)
    mode = "rn" if mode == "full" else mode
    if mode == "rn":
        return floating(found, bind, 2, np.divide)
    if found.type == "f64":
        return floating(found, bind, 2, lambda a, b: exact.divide(a, b, mode))
    # float64's quotient q of two 24-bit numbers is on the right side of every float32 value r:
    # a - r*b is 0 or at least 2^-48 of a, and q is wrong by 2^-53. So is 1/b.
    return floating(found, bind, 2, lambda a, b: narrow(_wide(a) / _wide(b), "f32", mode))


@typed("abs", types=FLOATS)
@typed("neg", types=FLOATS)
def abs_neg(found: Instruction, bind: Binder) -> Step:
    """d = |a| or -a: a change of the sign bit, NaNs too."""
    only(found, _f32_only(found, "ftz"))
    compute = np.abs if found.root == "abs" else np.negative
    before = flush if found.has("ftz") else _same
    return alu(found, bind, found.type, [found.type], lambda a: compute(before(a)))


@typed("min", types=FLOATS)
@typed("max", types=FLOATS)
def min_max(found: Instruction, bind: Binder) -> Step:
    """d = the smaller or greater; NaN loses unless ``.NaN``; -0 < +0."""
    only(found, _f32_only(found, "ftz", "NaN"))
    least, wins = found.root == "min", found.has("NaN")
    return floating(found, bind, 2, lambda a, b: extreme(a, b, least, wins))


@instruction("testp", section="Floating Point")
def testp(found: Instruction, bind: Binder) -> Step:
    """p = whether a number is of a class."""
    only(found, _CLASSES)
    kind = check_type(found, bind, FLOATS)
    asked = [m for m in found.modifiers if m in _CLASSES]
    if len(asked) != 1:
        raise bind.error(f"'testp' needs one of {', '.join(_CLASSES)}")
    return alu(found, bind, "pred", [kind], _CLASSES[asked[0]])


@instruction("copysign", section="Floating Point")
def copysign(found: Instruction, bind: Binder) -> Step:
    """d = b with the sign of a."""
    only(found, ())
    kind = check_type(found, bind, FLOATS)
    return alu(found, bind, kind, [kind] * 2, lambda a, b: np.copysign(b, a))


def floating(found: Instruction, bind: Binder, arity: int, compute: Compute) -> Step:
    """Wraps ``compute`` on the type at the end in ``.ftz``, ``.sat`` and the GPU's NaN."""
    kind = found.type
    before = flush if found.has("ftz") else _same
    clamp = saturate if found.has("sat") else _same

    @np.errstate(all="ignore")
    def whole(*values: Array) -> Array:
        return clamp(before(canonical(compute(*map(before, values)), kind)))

    return alu(found, bind, kind, [kind] * arity, whole)


def rounding_mode(found: Instruction, bind: Binder, modes: tuple[str, ...]) -> str | None:
    """The one of ``modes`` that is named, None for none; raises PtxError for two."""
    named = [m for m in found.modifiers if m in modes]
    if len(named) > 1:
        raise bind.error(f"'.{named[0]}' and '.{named[1]}' exclude each other")
    return named[0] if named else None


def fma_f32(a: Array, b: Array, c: Array, mode: str) -> Array:
    """a * b + c in float32: the product of two 24-bit numbers is exact in float64."""
    product, addend = _wide(a) * _wide(b), _wide(c)
    if mode == "rn":
        total = product + addend
        # Rounding twice to the nearest goes wrong only where the first looks like a tie of the
        # second: half a last place, which for subnormal results may be any bit.
        tie = (total.view(np.uint64) & _BELOW_F32) == _TIE_OF_F32
        tiny = (np.abs(total) < _NORMAL_F32) & (total != 0)
        if not (tie | tiny).any():
            return total.astype(np.float32)
    return narrow(odd_sum(product, addend, mode), "f32", mode)


def extreme(a: Array, b: Array, least: bool, nan_wins: bool) -> Array:
    """The smaller or greater of two float arrays; of equal ones (zeros) the sign bit decides."""
    bits = np.dtype(f"u{a.dtype.itemsize}")
    x, y = a.view(bits), b.view(bits)
    if least:
        chosen, equal = (np.minimum if nan_wins else np.fmin)(a, b), x | y
    else:
        chosen, equal = (np.maximum if nan_wins else np.fmax)(a, b), x & y
    return np.where(a == b, equal.view(a.dtype), chosen)


def _same(value: Array) -> Array:
    return value


def _wide(value: Array) -> Array:
    return value.astype(np.float64)


def _f32_only(found: Instruction, *modifiers: str) -> tuple[str, ...]:
    return modifiers if found.type == "f32" else ()


def _sum(kind: str, mode: str) -> Compute:
    if mode == "rn":
        return np.add
    if kind == "f64":
        return lambda a, b: exact.add(a, b, mode)
    return lambda a, b: narrow(odd_sum(_wide(a), _wide(b), mode), "f32", mode)


def _difference(kind: str, mode: str) -> Compute:
    if mode == "rn":
        return np.subtract
    plus = _sum(kind, mode)
    return lambda a, b: plus(a, -b)


def _product(kind: str, mode: str) -> Compute:
    if mode == "rn":
        return np.multiply
    if kind == "f64":
        return lambda a, b: exact.multiply(a, b, mode)
    return lambda a, b: narrow(_wide(a) * _wide(b), "f32", mode)


def _subnormal(a: Array) -> Array:
    return np.asarray((np.abs(a) < np.finfo(a.dtype).smallest_normal) & (a != 0))


def _divide_approximately(a: Array, b: Array) -> Array:
    # Documented: for 2^126 < |b| < 2^128 the reciprocal is flushed, so the quotient is 0 (or NaN).
    size = np.abs(b)
    vast = (size > np.float32(2.0**126)) & np.isfinite(b)
    zero = np.copysign(np.float32(0), a * np.sign(b))
    flushed = np.where(np.isfinite(a), zero, np.float32(np.nan))
    return np.where(vast, flushed, a / b)


_ARITHMETIC = {"add": _sum, "sub": _difference, "mul": _product}
_CLASSES: dict[str, Callable[[Array], Array]] = {
    "finite": np.isfinite,
    "infinite": np.isinf,
    "number": lambda a: ~np.isnan(a),
    "notanumber": np.isnan,
    # Zeros are considered normal.
    "normal": lambda a: np.isfinite(a) & ~_subnormal(a),
    "subnormal": _subnormal,
}
