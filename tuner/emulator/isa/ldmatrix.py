"""ldmatrix: 8x8 matrices of 16-bit elements from shared memory into fragments."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Gathering, Step, instruction, only
from tuner.emulator.isa.values import WARP, Array
from tuner.emulator.isa.warp import check_whole_warps, elements, expect_operands, lane_ids
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_ROWS = 8  # of a matrix; each is 16 bytes, at the address that one lane gives
_COUNTS = {"x1": 1, "x2": 2, "x4": 4}
_SHARED = ("shared", "shared::cta")


@lru_cache(maxsize=16)
def _addressing(lanes: int, matrices: int) -> Array:
    """The lanes whose addresses count: the first eight for each matrix."""
    return lane_ids(lanes) < _ROWS * matrices


def _transposed(rows: Array) -> Array:
    """uint32 [warps, 8, 4], two elements a word, as the matrices turned over."""
    halves = rows.view(np.uint16).transpose(0, 2, 1)
    return np.ascontiguousarray(halves).view(np.uint32)


@instruction("ldmatrix", section="Warp Level Matrix Multiply-Accumulate", gathers=Gathering.WARP)
def assemble(found: Instruction, bind: Binder) -> Step:
    """``ldmatrix.sync.aligned.m8n8``: lane T gets word T%4 of row T/4 of each matrix.

    Lane 8i+r gives the address of row r of matrix i. ``.trans`` hands out columns instead of rows.
    """
    only(found, ("sync", "aligned", "m8n8", "trans", *_COUNTS, *_SHARED))
    expect_operands(found, bind, 2)
    counts = [_COUNTS[modifier] for modifier in found.modifiers if modifier in _COUNTS]
    if len(counts) != 1 or not found.has("m8n8") or found.type != "b16":
        raise bind.error(f"'{found.opcode}': the emulator knows .m8n8 of .b16, .x1, .x2 or .x4")
    [matrices] = counts
    registers = elements(found.operands[0])
    if len(registers) != matrices:
        raise bind.error(f"'{found.opcode}' fills {matrices} registers, not {len(registers)}")
    targets = [bind.target(register, "b32") for register in registers]
    address = bind.address(found.operands[1])
    space = "shared" if any(found.has(name) for name in _SHARED) else "generic"
    transposed = found.has("trans")

    def step(cohort: Cohort) -> None:
        check_whole_warps(cohort, found)
        mask = _addressing(cohort.lanes, matrices)
        if cohort.mask is not None:
            mask = mask & cohort.mask
        place = cohort.broadcast(address(cohort))
        rows = cohort.memory.load(
            cohort, found, space, place, 4, 4, mask=mask, kind="matrix"
        ).reshape(-1, WARP // _ROWS, _ROWS, 4)
        for i, target in enumerate(targets):
            matrix = rows[:, i]
            if transposed:
                matrix = _transposed(np.ascontiguousarray(matrix))
            target(cohort, matrix.reshape(cohort.lanes))

    return step
