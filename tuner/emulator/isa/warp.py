"""Warp: what the instructions share in which the threads of a warp see each other's values."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.binder import Binder, Target
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.ptx import Instruction, Operand, Pair, Vector

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


@lru_cache(maxsize=16)
def lane_ids(lanes: int) -> Array:
    """The index of each lane within its warp, int64 [lanes]; not to be written."""
    ids = np.arange(lanes) % WARP
    ids.flags.writeable = False
    return ids


def ballot(flags: Array) -> Array:
    """One bit a thread: uint32 [warps] from bool [lanes]."""
    return np.packbits(flags, bitorder="little").view(np.uint32)


def to_lanes(words: Array) -> Array:
    """A word per warp, handed to each of its lanes."""
    return np.repeat(words, WARP)


def members(cohort: Cohort, membermask: Array) -> Array:
    """The threads of ``membermask`` that execute, as bits, uint32 [lanes]."""
    if cohort.mask is None:
        return cohort.broadcast(membermask)
    return membermask & to_lanes(ballot(cohort.mask))


def destinations(found: Instruction, bind: Binder, type_name: str) -> tuple[Target, Target | None]:
    """The targets of ``d`` or of ``d|p``."""
    operand = found.operands[0]
    if isinstance(operand, Pair):
        return bind.target(operand.first, type_name), bind.target(operand.second, "pred")
    return bind.target(operand, type_name), None


def elements(operand: Operand) -> tuple[Operand, ...]:
    """The registers of ``{%r1, %r2}`` or of a bare ``%r1``."""
    return tuple(operand.elements) if isinstance(operand, Vector) else (operand,)


def expect_operands(found: Instruction, bind: Binder, count: int) -> None:
    """Raises PtxError when the instruction has another number of operands."""
    if len(found.operands) != count:
        raise bind.error(f"'{found.opcode}' takes {count} operands, not {len(found.operands)}")
