"""Dot: sums of products of packed bytes and half words."""

from __future__ import annotations

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.ptx import Instruction


@instruction("dp4a", section="Integer Arithmetic")
def dp4a(found: Instruction, bind: Binder) -> Step:
    """d = c + the products of four bytes of a and b."""
    only(found, ())
    return _dot(found, bind, 8, slice(0, 4))


@instruction("dp2a", section="Integer Arithmetic")
def dp2a(found: Instruction, bind: Binder) -> Step:
    """d = c + the products of a's halves and two bytes of b."""
    only(found, {"lo", "hi"})
    if found.has("lo") == found.has("hi"):
        raise bind.error("'dp2a' needs one of .lo and .hi")
    return _dot(found, bind, 16, slice(0, 2) if found.has("lo") else slice(2, 4))


def _dot(found: Instruction, bind: Binder, bits: int, taken: slice) -> Step:
    types = found.types
    if len(types) != 2 or not {*types} <= {"u32", "s32"}:
        raise bind.error(f"'{found.root}' needs two types, each .u32 or .s32")
    first, second = DTYPES[f"{types[0][0]}{bits}"], DTYPES[f"{types[1][0]}8"]
    kind = "s32" if "s32" in types else "u32"
    total = DTYPES[kind]

    def dot(a: Array, b: Array, c: Array) -> Array:
        left = np.ascontiguousarray(a).view(first).reshape(-1, 32 // bits).astype(np.int64)
        right = np.ascontiguousarray(b).view(second).reshape(-1, 4)[:, taken].astype(np.int64)
        result: Array = (left * right).sum(axis=1).astype(total) + c
        return result

    return alu(found, bind, kind, [types[0], types[1], kind], dot)
