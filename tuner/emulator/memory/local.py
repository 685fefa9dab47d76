"""Local: the memory that each thread has for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.fault import FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.arena import LINE, POISON, Arena
from tuner.emulator.memory.bounds import check_bounds
from tuner.emulator.memory.update import Update

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


class LocalMemory:
    """``size`` bytes for each thread, at addresses from 0."""

    def __init__(self, cohort: Cohort, size: int, *, checks: bool) -> None:
        stride = -(-size // LINE) * LINE
        self._size, self._place = size, "the thread's local memory"
        self._arena = Arena(cohort.lanes * stride, POISON)
        self._written = Arena(cohort.lanes * stride) if checks else None
        self._base = np.arange(cohort.lanes) * stride

    def load(self, access: Access, width: int) -> Array:
        """[n, k] unsigned integers of ``width`` bytes."""
        offset = self._locate(access)
        if self._written is not None:
            written = self._written.gather(offset, access.size, 1).all(axis=1)
            if not written.all():
                index = int(np.flatnonzero(~written)[0])
                what = f"at {int(access.address[index]):#x} of its local memory, never written"
                raise access.fault(FaultKind.UNWRITTEN, index, what)
        return self._arena.gather(offset, access.size, width)

    def store(self, access: Access, values: Array) -> None:
        """Writes [n, k] unsigned integers."""
        offset = self._locate(access)
        if self._written is not None:
            self._written.scatter(offset, np.ones((len(offset), access.size), np.uint8))
        self._arena.scatter(offset, values)

    def update(self, access: Access, change: Update) -> tuple[Array, Array]:
        """Raises EmulationFault: atomic instructions reach shared and global memory only."""
        raise access.fault(FaultKind.OUT_OF_BOUNDS, 0, f"in {self._place}, which is never atomic")

    def _locate(self, access: Access) -> Array:
        check_bounds(access, self._size, self._place)
        return access.address.view(np.int64) + access.pick(self._base)
