"""Approx: reciprocals, roots and transcendental functions.

A GPU approximates them to within bounds that the manual states; here they are computed in float64
and rounded once, which is within every bound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa import exact
from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.floating import floating, rounding_mode
from tuner.emulator.isa.half import half
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.rounding import MODES, narrow
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import Instruction

Compute = Callable[..., Array]
# The NaN of rcp and rsqrt.approx.ftz.f64, which the manual gives in bits.
_COARSE_NAN = np.array([0x7FFFFFFF_00000000], np.uint64).view(np.float64)


@instruction("rcp", section="Floating Point")
def rcp(found: Instruction, bind: Binder) -> Step:
    """d = 1 / a."""
    if found.type == "f64" and found.has("approx"):
        return _coarse(found, bind, lambda a: 1.0 / a)
    mode = _mode(found, bind)
    if found.type == "f64":
        one = np.ones(1)
        return floating(found, bind, 1, lambda a: exact.divide(one, a, mode))
    # As for div: float64's quotient is on the right side of every float32 value.
    return floating(found, bind, 1, lambda a: narrow(1.0 / a.astype(np.float64), "f32", mode))


@instruction("sqrt", section="Floating Point")
def sqrt(found: Instruction, bind: Binder) -> Step:
    """d = the square root of a."""
    mode = _mode(found, bind)
    if found.type == "f64":
        if found.has("approx"):
            raise bind.error("'sqrt.approx' is for f32 only")
        return floating(found, bind, 1, lambda a: exact.square_root(a, mode))
    # r * r has 48 bits, so float64's root of a is on the right side of every float32 value r.
    return floating(found, bind, 1, lambda a: narrow(np.sqrt(a.astype(np.float64)), "f32", mode))


@instruction("rsqrt", section="Floating Point")
def rsqrt(found: Instruction, bind: Binder) -> Step:
    """d = 1 / the square root of a."""
    if found.type == "f64" and found.has("ftz"):
        return _coarse(found, bind, _reciprocal_root)
    only(found, {"approx", "ftz"} if found.type == "f32" else {"approx"})
    check_type(found, bind, ("f32", "f64"))
    _needs_approx(found, bind)
    if found.type == "f64":
        return floating(found, bind, 1, _reciprocal_root)
    return _approximate(found, bind, _reciprocal_root)


@instruction("sin", "cos", "lg2", section="Floating Point")
def transcendental(found: Instruction, bind: Binder) -> Step:
    """d = sin a, cos a (radians) or the binary logarithm of a."""
    only(found, {"approx", "ftz"})
    check_type(found, bind, ("f32",))
    _needs_approx(found, bind)
    return _approximate(found, bind, {"sin": np.sin, "cos": np.cos, "lg2": np.log2}[found.root])


@instruction("ex2", "tanh", section="Floating Point, Half Precision Floating Point")
def exponential(found: Instruction, bind: Binder) -> Step:
    """d = 2^a or tanh a, for f32 and halves."""
    kind = check_type(found, bind, ("f32", "f16", "f16x2", "bf16", "bf16x2"))
    ftz = found.root == "ex2" and not kind.startswith("f16")
    only(found, {"approx", "ftz"} if ftz else {"approx"})
    _needs_approx(found, bind)
    if found.root == "ex2" and kind.startswith("bf16") and not found.has("ftz"):
        raise bind.error(f"'ex2' of .{kind} needs .ftz")
    compute = np.exp2 if found.root == "ex2" else np.tanh
    if kind == "f32":
        return _approximate(found, bind, compute)
    return half(found, bind, 1, compute)


def _mode(found: Instruction, bind: Binder) -> str:
    """The rounding of ``rcp`` and ``sqrt``; ``.approx`` is rounded to the nearest."""
    check_type(found, bind, ("f32", "f64"))
    only(found, {*MODES, "approx", *(("ftz",) if found.type == "f32" else ())})
    mode = rounding_mode(found, bind, (*MODES, "approx"))
    if mode is None:
        raise bind.error(f"'{found.root}' needs .approx or a rounding mode")
    return "rn" if mode == "approx" else mode


def _needs_approx(found: Instruction, bind: Binder) -> None:
    if not found.has("approx"):
        raise bind.error(f"'{found.root}' needs .approx")


def _approximate(found: Instruction, bind: Binder, compute: Compute) -> Step:
    return floating(found, bind, 1, lambda a: narrow(compute(a.astype(np.float64)), "f32"))


def _reciprocal_root(a: Array) -> Array:
    return np.asarray(1.0 / np.sqrt(a))


def _coarse(found: Instruction, bind: Binder, compute: Compute) -> Step:
    """``.approx.ftz.f64``: only the upper words of source and result count."""
    only(found, {"approx", "ftz"})
    if not (found.has("approx") and found.has("ftz")):
        raise bind.error(f"'{found.root}' of f64 needs .approx.ftz or a rounding mode")
    upper = np.uint64(0xFFFFFFFF_00000000)

    @np.errstate(all="ignore")
    def whole(a: Array) -> Array:
        value = compute(_upper(a, upper))
        return np.where(np.isnan(value), _COARSE_NAN, _upper(value, upper))

    return alu(found, bind, "f64", ["f64"], whole)


def _upper(a: Array, mask: np.uint64) -> Array:
    tiny = np.abs(a) < np.finfo(np.float64).smallest_normal
    flushed = np.where(tiny, np.copysign(0.0, a), a)
    return np.asarray((flushed.view(np.uint64) & mask).view(np.float64))
