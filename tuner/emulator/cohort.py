"""Cohort: the CTAs that are executed together, one NumPy lane a thread."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.special import SPECIAL_REGISTERS
from tuner.emulator.isa.values import WARP, Array, Dim3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.emulator.counters import Counters
    from tuner.emulator.memory import Memory, Private


class Cohort:
    """Lane ``slot * width + t`` is thread t of the CTA ``ctas[slot]``.

    A CTA takes ``width`` lanes, its threads rounded up to whole warps; lanes beyond ``threads`` are
    never alive. Registers are arrays of raw bits [lanes]: a write makes a new array, so that a read
    may keep what it got. ``mask`` [lanes] tells who executes the present instruction, None means
    every lane; ``writes`` whose registers it may change, None when nobody else's matter any more.

    ``epoch`` [CTAs] counts a CTA's barriers, ``warp_epoch`` [warps] a warp's: two accesses are
    ordered when one lies between them.
    """

    def __init__(
        self,
        ctas: Sequence[int],
        grid: Dim3,
        block: Dim3,
        registers: Sequence[np.dtype[np.generic]],
        memory: Memory,
        counters: Counters | None,
    ) -> None:
        self.grid, self.block, self.memory, self.counters = grid, block, memory, counters
        self.ctas = np.asarray(ctas, np.int64)
        self.threads = math.prod(block)
        self.width: int = lanes_of(block)
        self.lanes = len(self.ctas) * self.width
        self.warps: int = self.lanes // WARP
        self.slot: Array = np.repeat(np.arange(len(self.ctas)), self.width)
        self.thread: Array = np.tile(np.arange(self.width), len(self.ctas))
        self.alive = self.thread < self.threads
        self.mask: Array | None = None
        self.writes: Array | None = None
        # No register is ever changed in place: to begin with, all of one type are the same array.
        zeros = {dtype: np.zeros(self.lanes, dtype) for dtype in set(registers)}
        self.registers: list[Array] = [zeros[dtype] for dtype in registers]
        self.epoch = np.zeros(len(self.ctas), np.uint32)
        self.warp_epoch = np.zeros(self.warps, np.uint32)
        self.polled = np.zeros(self.lanes, np.bool_)
        self.carry = np.zeros(self.lanes, np.bool_)  # CC.CF of extended-precision arithmetic
        self.private: Private = memory.open(self)
        self._special: dict[str, Array] = {}

    def write(self, slot: int, value: Array) -> None:
        """Register ``slot`` of the executing lanes = value, raw bits of shape [lanes] or [1]."""
        if self.writes is not None:
            self.registers[slot] = np.where(self.writes, value, self.registers[slot])
        elif value.shape[0] == self.lanes:
            self.registers[slot] = value
        else:
            self.registers[slot] = np.repeat(value, self.lanes)

    def execute(self, mask: Array | None, writes: Array | None) -> None:
        """Sets who executes what follows."""
        self.mask, self.writes = mask, writes

    @property
    def active(self) -> Array:
        """Who executes the present instruction, [lanes] of bool."""
        return np.ones(self.lanes, np.bool_) if self.mask is None else self.mask

    def broadcast(self, value: Array) -> Array:
        """A value [1] as [lanes]; others as they are."""
        return value if value.shape[0] == self.lanes else np.repeat(value, self.lanes, axis=0)

    def special(self, name: str) -> Array:
        """A special register as uint64 [lanes] or [1] (PTX ISA, "Special Registers")."""
        if name not in self._special:
            self._special[name] = SPECIAL_REGISTERS[name](self)
        return self._special[name]

    def name_of(self, lane: int) -> str:
        """``thread (3,0,0) of CTA (1,0,0)``."""
        thread = _place(int(self.thread[lane]), self.block)
        return f"thread {thread} of {self.name_of_cta(int(self.ctas[self.slot[lane]]))}"

    def name_of_cta(self, cta: int) -> str:
        """``CTA (1,0,0)``, by its linear index in the grid."""
        return f"CTA {_place(cta, self.grid)}"


def lanes_of(block: Dim3) -> int:
    """Lanes that a CTA takes: whole warps."""
    return -(-math.prod(block) // WARP) * WARP


def _place(index: int, extents: Dim3) -> str:
    x, y, _ = extents
    return f"({index % x},{index // x % y},{index // (x * y)})"
