"""Integer: arithmetic on whole numbers; it wraps round unless ``.sat`` is asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.extended import add_with_carry, multiply_with_carry, subtract_with_borrow
from tuner.emulator.isa.products import high_product, wide_product
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type, typed
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.ptx import Instruction

UNSIGNED, SIGNED = ("u16", "u32", "u64"), ("s16", "s32", "s64")
INTEGERS = UNSIGNED + SIGNED


@typed("add", types=INTEGERS)
def add(found: Instruction, bind: Binder) -> Step:
    """d = a + b; ``.sat`` for s32; ``.cc`` keeps the carry."""
    if found.has("cc"):
        return add_with_carry(found, bind)
    return _sum(found, bind, np.add)


@typed("sub", types=INTEGERS)
def sub(found: Instruction, bind: Binder) -> Step:
    """d = a - b; ``.sat`` for s32; ``.cc`` keeps the borrow."""
    if found.has("cc"):
        return subtract_with_borrow(found, bind)
    return _sum(found, bind, np.subtract)


@typed("mul", types=INTEGERS)
def mul(found: Instruction, bind: Binder) -> Step:
    """d = a half of a * b, or (``.wide``) all of it."""
    only(found, {"lo", "hi", "wide"})
    kind = found.type
    return alu(found, bind, _result(found, bind), [kind, kind], _product(found, bind))


@typed("mad", types=INTEGERS)
def mad(found: Instruction, bind: Binder) -> Step:
    """d = a half of a * b (or all of it) + c; ``.hi.sat`` for s32."""
    if found.has("cc"):
        return multiply_with_carry(found, bind)
    only(found, {"lo", "hi", "wide", "sat"})
    kind, result, product = found.type, _result(found, bind), _product(found, bind)
    plus = _plus(found, bind)
    return alu(found, bind, result, [kind, kind, result], lambda a, b, c: plus(product(a, b), c))


@instruction("mul24", "mad24", section="Integer Arithmetic")
def mul24(found: Instruction, bind: Binder) -> Step:
    """d = bits 0..31 or 16..47 of the product of 24-bit factors (+ c)."""
    only(found, {"lo", "hi", "sat"})
    kind = check_type(found, bind, ("u32", "s32"))
    down = 16 if _half(found, bind) == "hi" else 0

    def product(a: Array, b: Array) -> Array:
        # The shifts drop the upper 8 bits and extend what is left by its sign or by zeros.
        return (wide_product(a << 8 >> 8, b << 8 >> 8) >> down).astype(a.dtype)

    if found.root == "mul24":
        return alu(found, bind, kind, [kind, kind], product)
    plus = _plus(found, bind)
    return alu(found, bind, kind, [kind] * 3, lambda a, b, c: plus(product(a, b), c))


@instruction("sad", section="Integer Arithmetic")
def sad(found: Instruction, bind: Binder) -> Step:
    """d = c + |a - b|."""
    only(found, ())
    kind = check_type(found, bind, INTEGERS)
    return alu(
        found, bind, kind, [kind] * 3, lambda a, b, c: c + (np.maximum(a, b) - np.minimum(a, b))
    )


@typed("div", types=INTEGERS)
def div(found: Instruction, bind: Binder) -> Step:
    """d = a / b, cut off towards zero.

    Division by zero is unspecified: it gives all ones here, as GPUs do for 32 bits.
    """
    only(found, ())
    return alu(found, bind, found.type, [found.type] * 2, _quotient)


@instruction("rem", section="Integer Arithmetic")
def rem(found: Instruction, bind: Binder) -> Step:
    """d = a % b with the sign of a. By zero (unspecified) it is a."""
    only(found, ())
    kind = check_type(found, bind, INTEGERS)

    @np.errstate(all="ignore")
    def remainder(a: Array, b: Array) -> Array:
        return np.where(b == 0, a, np.fmod(a, b))

    return alu(found, bind, kind, [kind] * 2, remainder)


@typed("abs", types=SIGNED)
@typed("neg", types=SIGNED)
def abs_neg(found: Instruction, bind: Binder) -> Step:
    """d = |a| or -a; the lowest number is its own negative."""
    only(found, ())
    compute = np.absolute if found.root == "abs" else np.negative
    return alu(found, bind, found.type, [found.type], compute)


@typed("min", types=INTEGERS)
@typed("max", types=INTEGERS)
def min_max(found: Instruction, bind: Binder) -> Step:
    """d = the smaller or greater of two."""
    only(found, ())
    compute = np.minimum if found.root == "min" else np.maximum
    return alu(found, bind, found.type, [found.type] * 2, compute)


def _sum(found: Instruction, bind: Binder, compute: Callable[..., Array]) -> Step:
    only(found, {"sat"})
    if _saturates(found, bind):
        compute = _clamped(compute)
    return alu(found, bind, found.type, [found.type] * 2, compute)


def _saturates(found: Instruction, bind: Binder) -> bool:
    if found.has("sat") and found.type != "s32":
        raise bind.error(f"'.sat' of '{found.root}' is for s32 only")
    return found.has("sat")


def _plus(found: Instruction, bind: Binder) -> Callable[..., Array]:
    """What adds c to a product."""
    if not _saturates(found, bind):
        return np.add
    if not found.has("hi"):
        raise bind.error(f"'.sat' of '{found.root}' needs '.hi'")
    return _clamped(np.add)


def _clamped(compute: Callable[..., Array]) -> Callable[..., Array]:
    limits = np.iinfo(np.int32)

    def clamp(a: Array, b: Array) -> Array:
        return compute(a, b, dtype=np.int64).clip(limits.min, limits.max).astype(np.int32)

    return clamp


def _half(found: Instruction, bind: Binder) -> str:
    halves = [m for m in found.modifiers if m in ("lo", "hi", "wide")]
    if len(halves) != 1:
        raise bind.error(f"'{found.root}' for integers needs one of .lo, .hi and .wide")
    return halves[0]


def _product(found: Instruction, bind: Binder) -> Callable[[Array, Array], Array]:
    products: dict[str, Callable[[Array, Array], Array]] = {
        "lo": np.multiply,
        "hi": high_product,
        "wide": wide_product,
    }
    return products[_half(found, bind)]


def _result(found: Instruction, bind: Binder) -> str:
    if _half(found, bind) != "wide":
        return found.type
    bits = 16 * DTYPES[found.type].itemsize
    if bits > 64:
        raise bind.error("'.wide' is for factors of 16 and 32 bits")
    return f"{found.type[0]}{bits}"


@np.errstate(all="ignore")
def _quotient(a: Array, b: Array) -> Array:
    if a.dtype.kind == "u":
        return np.where(b == 0, ~np.zeros(1, a.dtype), a // b)
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    # NumPy rounds down; PTX cuts off: divide the magnitudes. |INT_MIN| is right as unsigned.
    size = (np.absolute(a).view(unsigned) // np.absolute(b).view(unsigned)).view(a.dtype)
    quotient: Array = np.where(b == 0, a.dtype.type(-1), np.where((a < 0) ^ (b < 0), -size, size))
    return quotient
