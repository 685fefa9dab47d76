"""Fragments: the registers of a warp as the matrices they hold, for every warp at once.

All shapes of ``mma.sync`` are built from one block: 8 rows of 128 bits, a 32-bit register of each
lane, lane T holding word T%4 of row T/4 (the manual's "Matrix Fragments for mma"). A register array
[lanes] is therefore [warps, 8 rows, elements] without moving a byte. An A fragment numbers its
blocks down the rows first, then along k; B is such a block per 128 bits of k, its rows being the
columns of B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.values import WARP, Array, raw_dtype
from tuner.emulator.isa.warp import elements
from tuner.emulator.ptx import Operand, Register

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

BLOCK_ROWS = 8
BLOCK_BITS = 128

_BYTE = np.arange(256)
_NIBBLES = np.stack([_BYTE & 15, _BYTE >> 4], axis=1).astype(np.float32)  # the low one first
_SIGNED_NIBBLES = np.where(_NIBBLES > 7, _NIBBLES - 16, _NIBBLES).astype(np.float32)


def _bf16(raw: Array) -> Array:
    """bf16 is the upper half of a float32."""
    upper: Array = raw.view(np.uint16).astype(np.uint32) << np.uint32(16)
    return upper.view(np.float32)


def _tf32(raw: Array) -> Array:
    """The tensor core does not see the lower 13 bits of a float32."""
    seen: Array = raw & np.uint32(0xFFFFE000)
    return seen.view(np.float32)


# Registers (uint32) -> numbers that float32 holds exactly.
_DECODE: dict[str, Callable[[Array], Array]] = {
    "f16": lambda raw: raw.view(np.float16),
    "bf16": _bf16,
    "tf32": _tf32,
    "s8": lambda raw: raw.view(np.int8),
    "u8": lambda raw: raw.view(np.uint8),
    "s4": lambda raw: _SIGNED_NIBBLES[raw.view(np.uint8)],
    "u4": lambda raw: _NIBBLES[raw.view(np.uint8)],
}
ELEMENT_BITS = {"f16": 16, "bf16": 16, "tf32": 32, "s8": 8, "u8": 8, "s4": 4, "u4": 4}


def left(type_name: str, row_blocks: int, raws: list[Array]) -> Array:
    """A in float32, [warps, 8 * row_blocks, k], from its registers."""
    row = BLOCK_BITS // ELEMENT_BITS[type_name]
    warps, k_blocks = raws[0].size // WARP, len(raws) // row_blocks
    matrix = np.empty((warps, row_blocks, BLOCK_ROWS, k_blocks, row), np.float32)
    for i, raw in enumerate(raws):
        block = _DECODE[type_name](raw).reshape(warps, BLOCK_ROWS, row)
        matrix[:, i % row_blocks, :, i // row_blocks] = block
    return matrix.reshape(warps, row_blocks * BLOCK_ROWS, k_blocks * row)


def right(type_name: str, raws: list[Array]) -> Array:
    """B in float32, [warps, k, 8], from its registers."""
    row = BLOCK_BITS // ELEMENT_BITS[type_name]
    warps = raws[0].size // WARP
    matrix = np.empty((warps, len(raws), row, BLOCK_ROWS), np.float32)
    for i, raw in enumerate(raws):
        block = _DECODE[type_name](raw).reshape(warps, BLOCK_ROWS, row)
        matrix[:, i] = block.transpose(0, 2, 1)
    return matrix.reshape(warps, len(raws) * row, BLOCK_ROWS)


class Fragment:
    """A fragment's matrix, kept for as long as its registers hold the same arrays.

    A tile uses each fragment for a whole row or column of MMAs. A register write always makes a
    new array, so identity tells whether the matrix is still the right one.
    """

    def __init__(self, slots: Sequence[int], build: Callable[[list[Array]], Array]) -> None:
        self._slots, self._build = slots, build
        self._raws: list[Array] = []
        self._matrix: Array = np.empty(0, np.float32)

    def matrix(self, cohort: Cohort) -> Array:
        """The float32 matrix of the registers' present content."""
        raws = [cohort.registers[slot] for slot in self._slots]
        kept = self._raws
        if len(kept) != len(raws) or any(a is not b for a, b in zip(kept, raws, strict=True)):
            self._raws, self._matrix = raws, self._build(raws)
        return self._matrix


# By program (its binder), then by role, type and registers: its instructions share the fragments.
_KNOWN: WeakKeyDictionary[Binder, dict[tuple[object, ...], Fragment]] = WeakKeyDictionary()


def fragment(bind: Binder, operand: Operand, type_name: str, row_blocks: int | None) -> Fragment:
    """The A fragment of ``row_blocks`` blocks of rows, or the B fragment (None), in ``operand``."""
    slots = []
    for register in elements(operand):
        if not isinstance(register, Register) or raw_dtype(register.type).itemsize != 4:
            raise bind.error("a matrix fragment lies in 32-bit registers")
        slots.append(bind.slots[register.name])
    known = _KNOWN.setdefault(bind, {})
    key = (type_name, row_blocks, *slots)
    if key not in known:
        if row_blocks is None:
            build: Callable[[list[Array]], Array] = partial(right, type_name)
        else:
            build = partial(left, type_name, row_blocks)
        known[key] = Fragment(slots, build)
    return known[key]
