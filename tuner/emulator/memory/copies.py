"""Copies: the asynchronous copies to shared memory that threads have not waited for (cp.async)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.shared import SharedMemory

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


@dataclass(slots=True)
class _Copy:
    """``values`` [n, k] on their way to ``access``; ``lanes`` and ``group`` [n], of each thread."""

    access: Access
    values: Array
    lanes: Array
    group: Array

    def part(self, chosen: Array) -> _Copy:
        access, values = self.access.part(chosen), self.values[chosen]
        return _Copy(access, values, self.lanes[chosen], self.group[chosen])


class Copies:
    """Data lands when its thread waits: the latest moment that the PTX ISA allows."""

    def __init__(self, cohort: Cohort, shared: SharedMemory) -> None:
        self._shared = shared
        self._groups = np.zeros(cohort.lanes, np.int64)  # committed by each thread
        self._pending: list[_Copy] = []

    def issue(self, access: Access, values: Array) -> None:
        """``values`` [n, k] will be written by ``access``."""
        self._shared.announce(access)
        lanes = np.arange(len(self._groups)) if access.lanes is None else access.lanes
        self._pending.append(_Copy(access, values, lanes, self._groups[lanes]))

    def commit(self, mask: Array) -> None:
        """The copies that these threads issued since their last commit become a group."""
        self._groups += mask

    def wait(self, mask: Array, left: int | None) -> None:
        """Lands all groups of these threads but their last ``left``; None: all copies at once."""
        pending, self._pending = self._pending, []
        limit = self._groups + 1 if left is None else self._groups - left
        for copy in pending:
            lands = mask[copy.lanes] & (copy.group < limit[copy.lanes])
            if lands.all():
                self._shared.land(copy.access, copy.values)
            elif not lands.any():
                self._pending.append(copy)
            else:
                now = copy.part(np.flatnonzero(lands))
                self._shared.land(now.access, now.values)
                self._pending.append(copy.part(np.flatnonzero(~lands)))
