"""Constants: the parameters of a kernel and the constant memory of its module."""

from __future__ import annotations

import numpy as np

from tuner.emulator.fault import FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.arena import Arena
from tuner.emulator.memory.bounds import check_bounds
from tuner.emulator.memory.update import Update


class Constants:
    """Bytes that every thread reads at the same addresses and none may write."""

    def __init__(self, content: bytes, place: str) -> None:
        self._size, self._place = len(content), place
        self._arena = Arena(len(content))
        self._arena.bytes[: len(content)] = np.frombuffer(content, np.uint8)

    def load(self, access: Access, width: int) -> Array:
        """[n, k] unsigned integers of ``width`` bytes."""
        check_bounds(access, self._size, self._place)
        return self._arena.gather(access.address.view(np.int64), access.size, width)

    def store(self, access: Access, values: Array) -> None:
        """Raises EmulationFault: this memory cannot be written."""
        raise access.fault(FaultKind.OUT_OF_BOUNDS, 0, f"in {self._place}, which are read-only")

    def update(self, access: Access, change: Update) -> tuple[Array, Array]:
        """Raises EmulationFault: this memory cannot be written."""
        raise access.fault(FaultKind.OUT_OF_BOUNDS, 0, f"in {self._place}, which are read-only")
