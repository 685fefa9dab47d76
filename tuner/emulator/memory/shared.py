"""Shared: the shared memory of a cohort's CTAs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access, Order
from tuner.emulator.memory.arena import LINE, POISON, Arena
from tuner.emulator.memory.bounds import check_bounds
from tuner.emulator.memory.shared_races import SharedRaces
from tuner.emulator.memory.update import Update

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


class SharedMemory:
    """``size`` bytes for each CTA, at addresses from 0."""

    def __init__(self, cohort: Cohort, size: int, *, checks: bool) -> None:
        stride = -(-size // LINE) * LINE
        self.size = size
        self._arena = Arena(len(cohort.ctas) * stride, POISON)
        self._races = SharedRaces(cohort, len(cohort.ctas) * stride) if checks else None
        self._base = cohort.slot * stride
        self._place = f"the CTA's {size} bytes of shared memory"

    def load(self, access: Access, width: int) -> Array:
        """[n, k] unsigned integers of ``width`` bytes."""
        offset = self._locate(access)
        if self._races is not None:
            if access.order is Order.WEAK:
                self._races.read(access, offset)
            else:
                self._races.update(access, offset, reads=True, writes=False)
        return self._arena.gather(offset, access.size, width)

    def store(self, access: Access, values: Array) -> None:
        """Writes [n, k] unsigned integers."""
        offset = self._locate(access)
        self._arena.scatter(offset, values)
        if self._races is None:
            return
        if access.order is Order.WEAK:
            self._races.write(access, offset, lambda: self._overwritten(offset, values))
        else:
            self._races.update(access, offset, reads=False, writes=True)

    def update(self, access: Access, change: Update) -> tuple[Array, Array]:
        """Reads and writes at once, lane after lane: (old, new) bits [n]."""
        offset = self._locate(access)
        if self._races is not None:
            self._races.update(access, offset, reads=True, writes=True)
        return change.apply(self._arena, offset, access.size)

    def announce(self, access: Access) -> None:
        """An asynchronous copy will write there."""
        offset = self._locate(access)
        if self._races is not None:
            self._races.announce(access, offset)

    def land(self, access: Access, values: Array) -> None:
        """What was announced arrives."""
        offset = self._locate(access)
        if self._races is not None:
            self._races.land(access, offset)
        self._arena.scatter(offset, values)

    def _locate(self, access: Access) -> Array:
        """Offsets in the arena, int64 [n]. Raises EmulationFault out of bounds."""
        check_bounds(access, self.size, self._place)
        return access.address.view(np.int64) + access.pick(self._base)

    def _overwritten(self, offset: Array, values: Array) -> Array:
        """Whose bytes are no longer there, because another lane wrote after it: bool [n]."""
        there = self._arena.gather(offset, values.itemsize * values.shape[1], values.itemsize)
        return np.asarray((there != values).any(axis=1))
