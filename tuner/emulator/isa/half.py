"""Half: arithmetic on f16 and bf16, alone and in pairs.

All is computed in float64, where products of halves are exact and sums are rounded to odd, and then
rounded once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.floating import extreme
from tuner.emulator.isa.registry import Step, only
from tuner.emulator.isa.rounding import (
    bf16_to_f32,
    canonical,
    narrow,
    odd_sum,
    relu,
    saturate,
    widen,
)
from tuner.emulator.isa.typed import typed
from tuner.emulator.isa.values import PACKED, Array
from tuner.emulator.ptx import Instruction

HALVES = ("f16", "f16x2", "bf16", "bf16x2")
_COMPUTE: dict[str, Callable[..., Array]] = {
    "add": odd_sum,
    "sub": lambda a, b: odd_sum(a, -b),
    "mul": np.multiply,
    "fma": lambda a, b, c: odd_sum(a * b, c),
}
_SIGN = np.uint16(0x8000)
_EXPONENT = {"f16": np.uint16(0x7C00), "bf16": np.uint16(0x7F80)}


@typed("add", types=HALVES)
@typed("sub", types=HALVES)
@typed("mul", types=HALVES)
@typed("fma", types=HALVES)
def arithmetic(found: Instruction, bind: Binder) -> Step:
    """d = a + b, a - b, a * b or a * b + c, to the nearest."""
    f16 = element(found).startswith("f16")
    allowed = {"rn", *(("ftz", "sat") if f16 else ()), *(("relu",) if found.root == "fma" else ())}
    only(found, allowed)
    if found.has("relu") and found.has("sat"):
        raise bind.error("'.relu' and '.sat' exclude each other")
    if found.root == "fma" and not found.has("rn"):
        raise bind.error("'fma' needs .rn")
    return half(found, bind, 3 if found.root == "fma" else 2, _COMPUTE[found.root])


@typed("abs", types=HALVES)
@typed("neg", types=HALVES)
def abs_neg(found: Instruction, bind: Binder) -> Step:
    """d = |a| or -a: a change of the sign bit, NaNs too."""
    kind = element(found)
    only(found, {"ftz"} if kind == "f16" else ())
    ftz, clears = found.has("ftz"), found.root == "abs"

    def compute(a: Array) -> Array:
        bits: Array = (_flush(a, kind) if ftz else a).view(np.uint16)
        changed: Array = bits & ~_SIGN if clears else bits ^ _SIGN
        return changed.view(a.dtype)

    return alu(found, bind, found.type, [found.type], compute)


@typed("min", types=HALVES)
@typed("max", types=HALVES)
def min_max(found: Instruction, bind: Binder) -> Step:
    """d = the smaller or greater; NaN loses unless ``.NaN``; -0 < +0."""
    kind = element(found)
    only(found, {"NaN", "ftz"} if kind == "f16" else {"NaN"})
    least, wins, ftz = found.root == "min", found.has("NaN"), found.has("ftz")

    @np.errstate(all="ignore")
    def compute(a: Array, b: Array) -> Array:
        if kind == "bf16":
            chosen = extreme(bf16_to_f32(a), bf16_to_f32(b), least, wins)
            return narrow(chosen.astype(np.float64), kind)
        if ftz:
            a, b = _flush(a, kind), _flush(b, kind)
        return canonical(extreme(a, b, least, wins), kind)

    return alu(found, bind, found.type, [found.type] * 2, compute)


def half(found: Instruction, bind: Binder, arity: int, compute: Callable[..., Array]) -> Step:
    """Wraps ``compute`` on float64 in ``.ftz``, ``.sat``, ``.relu`` and one rounding."""
    kind, whole = element(found), found.type
    ftz, clamps = found.has("ftz"), [f for m, f in _CLAMPS.items() if found.has(m)]

    @np.errstate(all="ignore")
    def step(*values: Array) -> Array:
        result = compute(*(widen(_flush(v, kind) if ftz else v, kind) for v in values))
        for clamp in clamps:
            result = clamp(result)
        rounded = narrow(result, kind)
        return _flush(rounded, kind) if ftz else rounded

    return alu(found, bind, whole, [whole] * arity, step)


def element(found: Instruction) -> str:
    """The type of one value: f16 or bf16."""
    return PACKED.get(found.type, found.type)


def _flush(value: Array, kind: str) -> Array:
    """``.ftz``: subnormal halves as zeros of their sign."""
    bits = value.view(np.uint16)
    return np.where(bits & _EXPONENT[kind], bits, bits & _SIGN).view(value.dtype)


_CLAMPS = {"sat": saturate, "relu": relu}
