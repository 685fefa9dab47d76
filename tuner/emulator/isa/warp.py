"""Warp: what the instructions share in which the threads of a warp see each other's values."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.binder import Binder, Target
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.ptx import Instruction, Operand, Pair, Vector

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_EVERYONE = np.uint32(0xFFFFFFFF)


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


@lru_cache(maxsize=16)
def _own_bits(lanes: int) -> Array:
    """The bit of each lane in a member mask, uint32 [lanes]; not to be written."""
    bits: Array = np.uint32(1) << lane_ids(lanes).astype(np.uint32)
    bits.flags.writeable = False
    return bits


def members(cohort: Cohort, found: Instruction, membermask: Array) -> Array:
    """The threads of ``membermask`` that execute, as bits, uint32 [lanes].

    Raises EmulationFault for a thread that is not in its own mask: that is undefined.
    """
    if membermask.shape[0] > 1 or membermask[0] != _EVERYONE:
        outside = membermask & _own_bits(cohort.lanes) == 0
        if cohort.mask is not None:
            outside &= cohort.mask
        if outside.any():
            lane = int(outside.argmax())
            mask = int(cohort.broadcast(membermask)[lane])
            what = f"is not in the member mask {mask:#010x} that it names"
            raise EmulationFault(FaultKind.BARRIER, cohort, lane, found, what)
    if cohort.mask is None:
        return cohort.broadcast(membermask)
    return membermask & to_lanes(ballot(cohort.mask))


def check_whole_warps(cohort: Cohort, found: Instruction) -> None:
    """Raises EmulationFault where only a part of a warp's 32 threads executes: for the matrix
    instructions that is undefined, even if the others have left."""
    if cohort.mask is None:
        return
    threads = ballot(cohort.mask)
    torn = (threads != 0) & (threads != _EVERYONE)
    if torn.any():
        executing = cohort.mask.reshape(-1, WARP)
        warp = int(torn.argmax())
        lane = warp * WARP + int(executing[warp].argmax())
        missing = WARP - int(np.count_nonzero(executing[warp]))
        what = f"executes it without {missing} threads of its warp: all 32 have to"
        raise EmulationFault(FaultKind.BARRIER, cohort, lane, found, what)


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
