"""Global memory: the bytes behind the buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import UserError
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.arena import Arena
from tuner.emulator.memory.buffers import Buffers
from tuner.emulator.memory.global_races import GlobalRaces
from tuner.emulator.memory.update import Update
from tuner.emulator.memory.windows import GLOBAL_BASE

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


class GlobalMemory:
    """Buffers are added, then sealed into one arena, then accessed."""

    def __init__(self, *, checks: bool) -> None:
        self._races = GlobalRaces() if checks else None
        self._buffers = Buffers()
        self._contents: dict[str, NDArray[np.uint8]] = {}
        self._arena = Arena(0)

    def add(self, name: str, content: NDArray[np.uint8], *, written: bool) -> int:
        """The address of a new buffer. Raises UserError for a name that is taken."""
        if name in self._contents:
            raise UserError(f"there are two buffers called '{name}': give them names of their own")
        self._contents[name] = content.copy()
        return self._buffers.add(name, content, written=written).address

    def seal(self) -> None:
        """Lays the contents out. Nothing can be added any more."""
        self._arena = Arena(self._buffers.end - GLOBAL_BASE)
        for buffer in self._buffers.all:
            start = buffer.address - GLOBAL_BASE
            self._arena.bytes[start : start + buffer.size] = self._contents[buffer.name]
        self._contents.clear()

    def content(self, name: str) -> NDArray[np.uint8]:
        """A view of a buffer's bytes. Raises UserError when there is none of that name."""
        for buffer in self._buffers.all:
            if buffer.name == name:
                start = buffer.address - GLOBAL_BASE
                return self._arena.bytes[start : start + buffer.size]
        raise UserError(f"there is no buffer '{name}'")

    def load(self, access: Access, width: int) -> Array:
        """[n, k] unsigned integers of ``width`` bytes."""
        self._watch(access, reads=True, writes=False)
        return self._arena.gather(_offset(access), access.size, width)

    def store(self, access: Access, values: Array) -> None:
        """Writes [n, k] unsigned integers."""
        self._watch(access, reads=False, writes=True)
        self._arena.scatter(_offset(access), values)

    def update(self, access: Access, change: Update) -> tuple[Array, Array]:
        """Reads and writes at once, lane after lane: (old, new) bits [n]."""
        self._watch(access, reads=True, writes=True)
        return change.apply(self._arena, _offset(access), access.size)

    def fence(self, cohort: Cohort) -> None:
        """A fence of the executing lanes that reaches beyond the CTA."""
        if self._races is not None:
            self._races.fence(cohort)

    def _watch(self, access: Access, *, reads: bool, writes: bool) -> None:
        """Checks the bounds and, buffer by buffer, the races."""
        found, races = self._buffers.find(access), self._races
        if races is None:
            return
        for buffer, chosen in found:
            part = access if chosen is None else access.part(chosen)
            if access.order.strong:
                races.update(part, buffer, reads=reads, writes=writes)
                continue
            if reads:
                races.read(part, buffer)
            if writes:
                races.write(part, buffer)


def _offset(access: Access) -> Array:
    offset: Array = (access.address - np.uint64(GLOBAL_BASE)).view(np.int64)
    return offset
