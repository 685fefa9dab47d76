"""Logic: bitwise functions and shifts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.ptx import Immediate, Instruction

WORDS = ("b16", "b32", "b64")
Compute = Callable[..., Array]
_BINARY: dict[str, Compute] = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}


@instruction("and", "or", "xor", section="Logic and Shift")
def binary(found: Instruction, bind: Binder) -> Step:
    """d = a and, or, xor b, bit by bit."""
    only(found, ())
    kind = check_type(found, bind, ("pred", *WORDS))
    return alu(found, bind, kind, [kind, kind], _BINARY[found.root])


@instruction("not", section="Logic and Shift")
def invert(found: Instruction, bind: Binder) -> Step:
    """d = a with every bit turned."""
    only(found, ())
    kind = check_type(found, bind, ("pred", *WORDS))
    return alu(found, bind, kind, [kind], np.invert)


@instruction("cnot", section="Logic and Shift")
def cnot(found: Instruction, bind: Binder) -> Step:
    """d = 1 where a is 0, else 0."""
    only(found, ())
    kind = check_type(found, bind, WORDS)
    return alu(found, bind, kind, [kind], lambda a: (a == 0).astype(a.dtype))


@instruction("lop3", section="Logic and Shift")
def lop3(found: Instruction, bind: Binder) -> Step:
    """d = any function of three bits, given by its table."""
    only(found, ())
    check_type(found, bind, ("b32",))
    if len(found.operands) != 5 or not isinstance(found.operands[4], Immediate):
        raise bind.error("'lop3' takes 5 operands, the last an immediate table")
    table = found.operands[4].bits
    if not 0 <= table <= 0xFF:
        raise bind.error(f"the table of 'lop3' is a byte, not {table}")
    with_c, without_c = (_of_two(table >> bit) for bit in (1, 0))

    def compute(a: Array, b: Array, c: Array, _: Array) -> Array:
        return (with_c(a, b) & c) | (without_c(a, b) & ~c)

    return alu(found, bind, "b32", ["b32"] * 4, compute)


@instruction("shf", section="Logic and Shift")
def shf(found: Instruction, bind: Binder) -> Step:
    """d = 32 bits of b:a after a shift to the left or right."""
    only(found, {"l", "r", "clamp", "wrap"})
    check_type(found, bind, ("b32",))
    left, wraps = found.has("l"), found.has("wrap")
    if left == found.has("r") or wraps == found.has("clamp"):
        raise bind.error("'shf' needs one of .l and .r and one of .clamp and .wrap")
    word = np.uint64(32)

    def compute(a: Array, b: Array, count: Array) -> Array:
        pair = (b.astype(np.uint64) << word) | a
        amount = (count & np.uint32(31)) if wraps else np.minimum(count, np.uint32(32))
        shifted: Array = pair << amount >> word if left else pair >> amount
        return shifted.astype(np.uint32)

    return alu(found, bind, "b32", ["b32", "b32", "u32"], compute)


@instruction("shl", section="Logic and Shift")
def shl(found: Instruction, bind: Binder) -> Step:
    """d = a shifted to the left, zeros coming in; 0 from the width on."""
    only(found, ())
    kind = check_type(found, bind, WORDS)
    return _shift(found, bind, kind, np.left_shift)


@instruction("shr", section="Logic and Shift")
def shr(found: Instruction, bind: Binder) -> Step:
    """d = a shifted to the right, its sign (s) or zeros coming in."""
    only(found, ())
    kind = check_type(found, bind, (*WORDS, "u16", "u32", "u64", "s16", "s32", "s64"))
    return _shift(found, bind, kind, np.right_shift)


def _shift(found: Instruction, bind: Binder, kind: str, shift: Compute) -> Step:
    dtype = DTYPES[kind]
    width = np.uint32(8 * dtype.itemsize)
    if len(found.operands) == 3 and isinstance(found.operands[2], Immediate):
        amount = np.minimum(np.uint32(found.operands[2].bits % 2**32), width).astype(dtype)
        return alu(found, bind, kind, [kind, "u32"], lambda a, _: shift(a, amount))
    # NumPy defines shifts by the width: all bits leave, as in PTX.
    return alu(
        found,
        bind,
        kind,
        [kind, "u32"],
        lambda a, count: shift(a, np.minimum(count, width).astype(dtype)),
    )


def _of_two(table: int) -> Compute:
    """The function of a and b that ``lop3``'s table says for one value of c.

    Bit 2 * (2 * a + b) of what is left of the table is f(a, b).
    """
    f00, f01, f10, f11 = (bool(table >> 2 * i & 1) for i in range(4))
    functions: dict[tuple[bool, bool, bool, bool], Compute] = {
        (False, False, False, False): lambda a, b: np.zeros(1, np.uint32),
        (True, True, True, True): lambda a, b: np.array([0xFFFFFFFF], np.uint32),
        (False, False, True, True): lambda a, b: a,
        (True, True, False, False): lambda a, b: ~a,
        (False, True, False, True): lambda a, b: b,
        (True, False, True, False): lambda a, b: ~b,
        (False, False, False, True): np.bitwise_and,
        (True, True, True, False): lambda a, b: ~(a & b),
        (False, True, True, True): np.bitwise_or,
        (True, False, False, False): lambda a, b: ~(a | b),
        (False, True, True, False): np.bitwise_xor,
        (True, False, False, True): lambda a, b: ~(a ^ b),
        (False, False, True, False): lambda a, b: a & ~b,
        (False, True, False, False): lambda a, b: ~a & b,
        (True, False, True, True): lambda a, b: a | ~b,
        (True, True, False, True): lambda a, b: ~a | b,
    }
    return functions[f00, f01, f10, f11]
