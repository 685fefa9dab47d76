"""Bits: counting, finding, reversing and cutting out bits."""

from __future__ import annotations

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.ptx import Instruction

WORDS = ("b32", "b64")
NONE = np.uint32(0xFFFFFFFF)
_BYTES = np.arange(256, dtype=np.uint8)[:, None]
_REVERSED = np.packbits(np.unpackbits(_BYTES, axis=1, bitorder="little"), axis=1)[:, 0]
_COUNTS = np.unpackbits(_BYTES, axis=1).sum(axis=1, dtype=np.uint32)


@instruction("popc", section="Integer Arithmetic")
def popc(found: Instruction, bind: Binder) -> Step:
    """d = how many bits are set, in u32."""
    only(found, ())
    kind = check_type(found, bind, WORDS)
    size = DTYPES[kind].itemsize

    def count(a: Array) -> Array:
        per_byte = _COUNTS[np.ascontiguousarray(a).view(np.uint8).reshape(-1, size)]
        total: Array = per_byte.sum(axis=1, dtype=np.uint32)
        return total

    return alu(found, bind, "u32", [kind], count)


@instruction("clz", section="Integer Arithmetic")
def clz(found: Instruction, bind: Binder) -> Step:
    """d = the zeros above the highest set bit, in u32."""
    only(found, ())
    kind = check_type(found, bind, WORDS)
    width = np.uint32(8 * DTYPES[kind].itemsize)
    return alu(found, bind, "u32", [kind], lambda a: width - bit_length(a))


@instruction("bfind", section="Integer Arithmetic")
def bfind(found: Instruction, bind: Binder) -> Step:
    """d = the highest bit that differs from the sign, or the shift to it."""
    only(found, {"shiftamt"})
    kind = check_type(found, bind, ("u32", "u64", "s32", "s64"))
    dtype, amount = DTYPES[kind], found.has("shiftamt")
    raw, width = np.dtype(f"u{dtype.itemsize}"), np.uint32(8 * dtype.itemsize)

    def find(a: Array) -> Array:
        # x ^ (x >> 63): the bits of a negative number are looked at inverted.
        length = bit_length((a ^ (a >> (width - 1)).astype(dtype)).view(raw) if _signed(a) else a)
        place = width - length if amount else length - np.uint32(1)
        result: Array = np.where(length == 0, NONE, place)
        return result

    return alu(found, bind, "u32", [kind], find)


@instruction("brev", section="Integer Arithmetic")
def brev(found: Instruction, bind: Binder) -> Step:
    """d = a with its bits in reverse."""
    only(found, ())
    kind = check_type(found, bind, WORDS)

    def reverse(a: Array) -> Array:
        reversed_bytes: Array = _REVERSED[np.ascontiguousarray(a).view(np.uint8)]
        result: Array = reversed_bytes.view(a.dtype).byteswap()
        return result

    return alu(found, bind, kind, [kind], reverse)


@instruction("bfe", section="Integer Arithmetic")
def bfe(found: Instruction, bind: Binder) -> Step:
    """d = c bits of a from bit b on, extended by their sign for s32, s64."""
    only(found, ())
    kind = check_type(found, bind, ("u32", "u64", "s32", "s64"))
    dtype = DTYPES[kind]
    width = dtype.type(8 * dtype.itemsize)

    def extract(a: Array, start: Array, length: Array) -> Array:
        field: Array = a >> (start & _BYTE).astype(dtype)
        length = (length & _BYTE).astype(dtype)
        if dtype.kind == "u":
            return np.bitwise_and(field, low_bits(length))
        # Up against the top, and down again with the sign: a shift by the width gives 0.
        spare = width - np.minimum(length, width)
        result: Array = np.where(length == 0, dtype.type(0), field << spare >> spare)
        return result

    return alu(found, bind, kind, [kind, "u32", "u32"], extract)


@instruction("bfi", section="Integer Arithmetic")
def bfi(found: Instruction, bind: Binder) -> Step:
    """d = b with d bits of a put at bit c."""
    only(found, ())
    kind = check_type(found, bind, WORDS)
    dtype = DTYPES[kind]

    def insert(a: Array, b: Array, start: Array, length: Array) -> Array:
        place = (start & _BYTE).astype(dtype)
        mask = low_bits((length & _BYTE).astype(dtype)) << place
        result: Array = (b & ~mask) | (a << place & mask)
        return result

    return alu(found, bind, kind, [kind, kind, "u32", "u32"], insert)


@instruction("szext", section="Integer Arithmetic")
def szext(found: Instruction, bind: Binder) -> Step:
    """d = the lower b bits of a, extended by their sign or by zeros."""
    only(found, {"clamp", "wrap"})
    kind = check_type(found, bind, ("u32", "s32"))
    wraps, dtype = _wraps(found, bind), DTYPES[kind]

    def extend(a: Array, count: Array) -> Array:
        spare = np.uint32(32) - (count & np.uint32(31) if wraps else np.minimum(count, 32))
        up = spare.astype(dtype)
        result: Array = np.where(spare == 32, dtype.type(0), a << up >> up)
        return result

    return alu(found, bind, kind, [kind, "u32"], extend)


@instruction("bmsk", section="Integer Arithmetic")
def bmsk(found: Instruction, bind: Binder) -> Step:
    """d = b ones from bit a on."""
    only(found, {"clamp", "wrap"})
    check_type(found, bind, ("b32",))
    wraps = _wraps(found, bind)

    def mask(start: Array, count: Array) -> Array:
        if wraps:
            start, count = start & np.uint32(31), count & np.uint32(31)
        return low_bits(count) << start

    return alu(found, bind, "b32", ["u32", "u32"], mask)


def bit_length(a: Array) -> Array:
    """The highest set bit of an unsigned number plus one, 0 for none, in uint32."""
    if a.dtype.itemsize == 8:
        high = (a >> np.uint64(32)).astype(np.uint32)
        low = bit_length(a.astype(np.uint32))
        return np.where(high != 0, bit_length(high) + np.uint32(32), low)
    # float64 holds 32 bits exactly, and its exponent is their length.
    return np.frexp(a.astype(np.float64))[1].astype(np.uint32)


def low_bits(count: Array) -> Array:
    """``count`` ones at the bottom; NumPy shifts by the width or more to 0, so all ones then."""
    one = count.dtype.type(1)
    result: Array = (one << count) - one
    return result


_BYTE = np.uint32(0xFF)


def _signed(a: Array) -> bool:
    return a.dtype.kind == "i"


def _wraps(found: Instruction, bind: Binder) -> bool:
    if found.has("wrap") == found.has("clamp"):
        raise bind.error(f"'{found.root}' needs one of .clamp and .wrap")
    return found.has("wrap")
