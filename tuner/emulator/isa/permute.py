"""Permute: ``prmt`` picks bytes of two registers."""

from __future__ import annotations

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import Immediate, Instruction

# Mode -> for each value of c's two bits, the bytes of b:a that are taken, the lowest first.
_MODES = {
    "f4e": ((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)),
    "b4e": ((0, 7, 6, 5), (1, 0, 7, 6), (2, 1, 0, 7), (3, 2, 1, 0)),
    "rc8": ((0, 0, 0, 0), (1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3)),
    "ecl": ((0, 1, 2, 3), (1, 1, 2, 3), (2, 2, 2, 3), (3, 3, 3, 3)),
    "ecr": ((0, 0, 0, 0), (0, 1, 1, 1), (0, 1, 2, 2), (0, 1, 2, 3)),
    "rc16": ((0, 1, 0, 1), (2, 3, 2, 3), (0, 1, 0, 1), (2, 3, 2, 3)),
}
_NIBBLES = np.arange(4, dtype=np.uint32) * np.uint32(4)


@instruction("prmt", section="Data Movement and Conversion")
def prmt(found: Instruction, bind: Binder) -> Step:
    """d = four of the eight bytes of b:a, or of their signs."""
    only(found, _MODES)
    check_type(found, bind, ("b32",))
    named = [m for m in found.modifiers if m in _MODES]
    if len(named) > 1:
        raise bind.error(f"'.{named[0]}' and '.{named[1]}' exclude each other")
    table = np.array(_MODES[named[0]]) if named else None
    selector = found.operands[-1]
    if table is None and isinstance(selector, Immediate) and not selector.bits & 0x8888:
        taken = [selector.bits >> 4 * i & 7 for i in range(4)]

        def pick(a: Array, b: Array, _: Array) -> Array:
            chosen: Array = np.ascontiguousarray(_pair(a, b)[:, taken])
            return chosen.view(np.uint32)[:, 0]

        return alu(found, bind, "b32", ["b32"] * 3, pick)

    def permute(a: Array, b: Array, c: Array) -> Array:
        pair = _pair(*np.broadcast_arrays(a, b, c)[:2])
        if table is not None:
            chosen = table[np.broadcast_to(c & np.uint32(3), len(pair))]
            return np.take_along_axis(pair, chosen, axis=1).view(np.uint32)[:, 0]
        nibbles = np.broadcast_to((c[:, None] >> _NIBBLES) & np.uint32(15), (len(pair), 4))
        taken = np.take_along_axis(pair, (nibbles & np.uint32(7)).astype(np.intp), axis=1)
        # Bit 3 of a selector asks for the byte's sign, eight times.
        signs = (taken.view(np.int8) >> np.int8(7)).view(np.uint8)
        return np.where(nibbles & np.uint32(8), signs, taken).view(np.uint32)[:, 0]

    return alu(found, bind, "b32", ["b32"] * 3, permute)


def _pair(a: Array, b: Array) -> Array:
    """The eight bytes of b:a, the lowest first."""
    return np.stack(np.broadcast_arrays(a, b), axis=1).view(np.uint8)
