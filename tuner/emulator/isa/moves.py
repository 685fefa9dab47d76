"""Moves: ``mov`` of values and addresses, packing and unpacking."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.ptx import Instruction, Vector

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

WORDS = ("b16", "b32", "b64")
MOVED = ("pred", *(f"{kind}{bits}" for kind in "bus" for bits in (16, 32, 64)), "f32", "f64")


@instruction("mov", section="Data Movement and Conversion")
def mov(found: Instruction, bind: Binder) -> Step:
    """d = a; a vector on one side is the parts of the other's word.

    ``a`` may be a register, a special register, a constant or a variable, whose address in its own
    state space it is.
    """
    only(found, ())
    kind = check_type(found, bind, MOVED)
    if len(found.operands) != 2:
        raise bind.error(f"'{found.opcode}' takes 2 operands")
    target, source = found.operands
    if isinstance(target, Vector) or isinstance(source, Vector):
        if kind not in WORDS or (isinstance(target, Vector) and isinstance(source, Vector)):
            raise bind.error("a vector is packed into or unpacked from one .b16, .b32 or .b64")
        if isinstance(source, Vector):
            return _pack(found, bind, source, kind)
        assert isinstance(target, Vector)
        return _unpack(found, bind, target, kind)
    return alu(found, bind, kind, [kind], lambda a: a)


def _pack(found: Instruction, bind: Binder, parts: Vector, kind: str) -> Step:
    part = _part(parts, kind, bind)
    sources = [bind.source(element, part) for element in parts.elements]
    target = bind.target(found.operands[0], kind)
    dtype = DTYPES[kind]

    def pack(cohort: Cohort) -> None:
        words = np.stack(np.broadcast_arrays(*(source(cohort) for source in sources)), axis=1)
        target(cohort, words.view(dtype)[:, 0])

    return pack


def _unpack(found: Instruction, bind: Binder, parts: Vector, kind: str) -> Step:
    part = _part(parts, kind, bind)
    targets = [bind.target(element, part) for element in parts.elements]
    source = bind.source(found.operands[1], kind)
    dtype = DTYPES[part]

    def unpack(cohort: Cohort) -> None:
        words: Array = np.ascontiguousarray(source(cohort)).view(dtype).reshape(-1, len(targets))
        for i, target in enumerate(targets):
            target(cohort, np.ascontiguousarray(words[:, i]))

    return unpack


def _part(parts: Vector, kind: str, bind: Binder) -> str:
    """The type of each part, the lowest first."""
    bits, count = 8 * DTYPES[kind].itemsize, len(parts.elements)
    if count not in (2, 4) or bits // count < 8:
        raise bind.error(f".{kind} has no {count} parts")
    return f"b{bits // count}"
