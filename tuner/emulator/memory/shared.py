"""Shared: the shared memory of a cohort's CTAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.arena import LINE, POISON, Arena
from tuner.emulator.memory.bounds import check_bounds
from tuner.emulator.memory.update import Update

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


class SharedMemory:
    """``size`` bytes for each CTA, at addresses from 0."""

    def __init__(self, cohort: Cohort, size: int) -> None:
        stride = -(-size // LINE) * LINE
        self.size = size
        self.arena = Arena(len(cohort.ctas) * stride, POISON)
        self._base = cohort.slot * stride

    def locate(self, access: Access) -> Array:
        """Offsets in the arena, int64 [n]. Raises EmulationFault out of bounds."""
        check_bounds(access, self.size, f"the CTA's {self.size} bytes of shared memory")
        return access.address.view(np.int64) + access.pick(self._base)

    def load(self, access: Access, width: int) -> Array:
        """[n, k] unsigned integers of ``width`` bytes."""
        return self.arena.gather(self.locate(access), access.size, width)

    def store(self, access: Access, values: Array) -> None:
        """Writes [n, k] unsigned integers."""
        self.arena.scatter(self.locate(access), values)

    def announce(self, access: Access) -> None:
        """An asynchronous copy will write there."""
        self.locate(access)

    def land(self, access: Access, values: Array) -> None:
        """What was announced arrives."""
        self.arena.scatter(self.locate(access), values)

    def update(self, access: Access, change: Update) -> tuple[Array, Array]:
        """Reads and writes at once, lane after lane: (old, new) bits [n]."""
        return change.apply(self.arena, self.locate(access), access.size)
