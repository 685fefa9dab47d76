"""Convert: ``cvt`` between every two types, and ``cvt.pack``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.rounding import (
    MODES,
    canonical,
    directed,
    flush,
    narrow,
    odd_sum,
    relu,
    two_sum,
    widen,
)
from tuner.emulator.isa.rounding import saturate as clamp_to_one
from tuner.emulator.isa.values import DTYPES, PACKED, Array
from tuner.emulator.ptx import Instruction

Convert = Callable[[Array], Array]
INTEGERS = tuple(f"{kind}{bits}" for kind in "us" for bits in (8, 16, 32, 64))
FLOATS = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}  # with their digits
WHOLE: dict[str, Convert] = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
PACKABLE = ("f16x2", "bf16x2")


@instruction("cvt", section="Data Movement and Conversion")
def cvt(found: Instruction, bind: Binder) -> Step:
    """d = a in another type, or two f32 packed, a above b."""
    if found.has("pack"):
        return _pack_integers(found, bind)
    only(found, {*MODES, *WHOLE, "rna", "ftz", "sat", "relu"})
    if len(found.types) != 2:
        raise bind.error(f"'{found.opcode}' needs two types")
    result, kind = found.types
    if result in PACKABLE and kind == "f32":
        return _pack_floats(found, bind)
    if result == "tf32":
        return _to_tf32(found, bind)
    return alu(found, bind, result, [kind], np.errstate(all="ignore")(_conversion(found, bind)))


def _conversion(found: Instruction, bind: Binder) -> Convert:
    result, kind = found.types
    for name in (result, kind):
        if name not in INTEGERS and name not in FLOATS:
            raise bind.error(f"the emulator cannot convert .{name}")
    if found.has("relu") and not (result in ("f16", "bf16") and kind == "f32"):
        raise bind.error("'.relu' converts f32 to f16 or bf16 only")
    if found.has("relu") and not {*found.modifiers} & {"rn", "rz"}:
        raise bind.error("'.relu' needs .rn or .rz")
    if found.has("sat") and result == "bf16":
        raise bind.error("'.sat' of floats makes f16, f32 or f64")
    if found.has("ftz") and "f32" not in (result, kind):
        raise bind.error("'.ftz' needs f32 on one side")
    if result in INTEGERS and kind in INTEGERS:
        _rounding(found, bind, ())
        return _integers(found, result)
    if result in INTEGERS:
        return _float_to_integer(found, bind)
    if kind in INTEGERS:
        return _finished(found, _integer_to_float(result, _rounding(found, bind, MODES)))
    return _finished(found, _floats(found, bind))


def _integers(found: Instruction, result: str) -> Convert:
    dtype = DTYPES[result]
    if not found.has("sat"):
        return lambda a: a.astype(dtype)
    limits = np.iinfo(dtype)

    def clamp(a: Array) -> Array:
        own = np.iinfo(a.dtype)
        low, high = max(limits.min, own.min), min(limits.max, own.max)
        return a.clip(a.dtype.type(low), a.dtype.type(high)).astype(dtype)

    return clamp


def _float_to_integer(found: Instruction, bind: Binder) -> Convert:
    """Out of range is clamped, with or without ``.sat``; NaN gives 0, or for 64 bits 2^63.

    The manual since 8.8: 0 unless the source is f64 or the result s64 or u64; else only the
    highest bit.
    """
    result, kind = found.types
    round_it = WHOLE[_rounding(found, bind, tuple(WHOLE))]
    dtype, limits = DTYPES[result], np.iinfo(DTYPES[result])
    # The first float64 above the greatest integer, which itself may not be one.
    beyond = float(limits.max + 1)
    special = kind == "f64" or dtype.itemsize == 8
    bits = 1 << (8 * dtype.itemsize - 1) if special else 0
    missing = np.array([bits], f"u{dtype.itemsize}").view(dtype)
    ftz = found.has("ftz")

    def convert(a: Array) -> Array:
        whole = round_it(widen(flush(a) if ftz else a, kind))
        inside = (whole >= limits.min) & (whole < beyond)
        value = np.where(inside, whole, 0.0).astype(dtype)
        value = np.where(whole >= beyond, dtype.type(limits.max), value)
        value = np.where(whole < limits.min, dtype.type(limits.min), value)
        return np.where(np.isnan(whole), missing, value)

    return convert


def _integer_to_float(result: str, mode: str) -> Convert:
    def convert(a: Array) -> Array:
        if a.dtype.itemsize < 8:
            return narrow(a.astype(np.float64), result, mode)
        # 64 bits do not fit into float64, their halves do.
        high = (a >> a.dtype.type(32)).astype(np.float64) * 2.0**32
        low = (a & a.dtype.type(0xFFFFFFFF)).astype(np.float64)
        if result == "f64":
            return directed(*two_sum(high, low), mode)
        return narrow(odd_sum(high, low), result, mode)

    return convert


def _floats(found: Instruction, bind: Binder) -> Convert:
    result, kind = found.types
    ftz = found.has("ftz") and kind == "f32"

    def read(a: Array) -> Array:
        return widen(flush(a) if ftz else a, kind)

    if result == kind:
        mode = _rounding(found, bind, tuple(WHOLE), needed=False)
        whole = WHOLE[mode] if mode else (lambda a: a)
        return lambda a: narrow(whole(read(a)), result)
    if FLOATS[result] > FLOATS[kind] and (result, kind) != ("f16", "bf16"):
        _rounding(found, bind, ())
        if kind != "bf16" and not ftz:
            return lambda a: a.astype(DTYPES[result])
        return lambda a: narrow(read(a), result)
    modes = ("rn", "rz") if (result, kind) == ("bf16", "f32") else MODES
    mode = _rounding(found, bind, modes)
    if mode == "rn" and "bf16" not in (result, kind) and not ftz:
        return lambda a: a.astype(DTYPES[result])
    return lambda a: narrow(read(a), result, mode)


def _finished(found: Instruction, convert: Convert) -> Convert:
    """``.relu``, ``.sat`` and ``.ftz`` of a float result."""
    result = found.types[0]
    if result == "bf16":
        return _relu_bf16(convert) if found.has("relu") else convert
    after = [f for m, f in (("relu", relu), ("sat", clamp_to_one)) if found.has(m)]
    if found.has("ftz") and result == "f32":
        after.append(flush)

    def finish(a: Array) -> Array:
        value = convert(a)
        for function in after:
            value = function(value)
        return canonical(value, result)

    return finish


def _relu_bf16(convert: Convert) -> Convert:
    def finish(a: Array) -> Array:
        bits = convert(a)
        return np.where(bits & np.uint16(0x8000) != 0, np.uint16(0), bits)

    return finish


def _pack_floats(found: Instruction, bind: Binder) -> Step:
    only(found, {"rn", "rz", "relu"})
    mode = _rounding(found, bind, ("rn", "rz"))
    packed, relus = found.types[0], found.has("relu")
    kind = PACKED[packed]

    @np.errstate(all="ignore")
    def pack(a: Array, b: Array) -> Array:
        wide = np.stack(np.broadcast_arrays(b, a), axis=1).astype(np.float64)
        return narrow(relu(wide) if relus else wide, kind, mode)

    return alu(found, bind, packed, ["f32", "f32"], pack)


def _to_tf32(found: Instruction, bind: Binder) -> Step:
    only(found, {"rna"})
    if found.types[1] != "f32" or not found.has("rna"):
        raise bind.error("tf32 is made from f32 with .rna only")
    drop = np.uint32(0x1FFF)

    def convert(a: Array) -> Array:
        # Ten bits stay; half of their last place is added to the magnitude.
        rounded = (a.view(np.uint32) + np.uint32(0x1000)) & ~drop
        result: Array = np.where(np.isnan(a), np.uint32(0x7FFFFFFF), rounded)
        return result

    return alu(found, bind, "b32", ["f32"], convert)


def _pack_integers(found: Instruction, bind: Binder) -> Step:
    """d = c moved up (or nothing), then a and b clamped below it."""
    only(found, {"pack", "sat"})
    types, size = found.types, len(found.operands)
    halves = types in (("u16", "s32"), ("s16", "s32")) and size == 3
    bytes_ = types in (("u8", "s32", "b32"), ("s8", "s32", "b32")) and size == 4
    if not found.has("sat") or not (halves or bytes_):
        raise bind.error("cvt.pack.sat makes 16 bits of two s32, or 8 bits above a third b32")
    limits, bits = np.iinfo(DTYPES[types[0]]), np.uint32(16 if halves else 8)
    mask = (np.uint32(1) << bits) - np.uint32(1)

    def clamp(a: Array) -> Array:
        return np.asarray(a.clip(limits.min, limits.max).view(np.uint32) & mask)

    def pack(a: Array, b: Array, *above: Array) -> Array:
        pair = clamp(a) << bits | clamp(b)
        result: Array = pair | above[0] << np.uint32(16) if above else pair
        return result

    return alu(found, bind, "b32", ["s32", "s32", *["b32"] * bytes_], pack)


def _rounding(found: Instruction, bind: Binder, modes: tuple[str, ...], needed: bool = True) -> str:
    """The rounding that is named, of those the conversion has; "" for none."""
    named = [m for m in found.modifiers if m in MODES or m in WHOLE or m == "rna"]
    if named and (len(named) > 1 or named[0] not in modes):
        raise bind.error(f"'.{named[-1]}' does not fit this conversion")
    if modes and needed and not named:
        raise bind.error(f"this conversion needs one of .{', .'.join(modes)}")
    return named[0] if named else ""
