"""Buffers: global memory, laid out so that an access beyond a buffer hits no other one."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tuner.emulator.fault import FaultKind
from tuner.emulator.isa.values import Array
from tuner.emulator.memory.access import Access
from tuner.emulator.memory.windows import GLOBAL_BASE

ALIGNMENT = 256  # of every buffer, as cudaMalloc gives it
GAP = 4096  # bytes between buffers, at least


@dataclass(frozen=True, eq=False)
class Buffer:
    """``written``: its content counts as written before the kernel starts."""

    name: str
    address: int
    size: int
    written: bool

    @property
    def end(self) -> int:
        """The address behind its last byte."""
        return self.address + self.size


class Buffers:
    """The buffers by rising address."""

    def __init__(self) -> None:
        self.all: list[Buffer] = []
        self._starts: list[int] = []

    @property
    def end(self) -> int:
        """Where the next buffer may begin."""
        if not self.all:
            return GLOBAL_BASE
        return -(-(self.all[-1].end + GAP) // ALIGNMENT) * ALIGNMENT

    def add(self, name: str, content: NDArray[np.uint8], *, written: bool) -> Buffer:
        """Lays out one more."""
        buffer = Buffer(name, self.end, content.size, written)
        self.all.append(buffer)
        self._starts.append(buffer.address)
        return buffer

    def find(self, access: Access) -> list[tuple[Buffer, Array | None]]:
        """The buffers that an access reaches, each with the lanes that do: None for all of them.

        Raises EmulationFault out of bounds and for misaligned addresses.
        """
        lowest, highest = int(access.address.min()), int(access.address.max())
        number = bisect_right(self._starts, lowest) - 1
        if number >= 0 and highest + access.size <= self.all[number].end:
            access.check_alignment(f"buffer '{self.all[number].name}'")
            return [(self.all[number], None)]
        numbers = np.searchsorted(np.array(self._starts, np.uint64), access.address, "right") - 1
        self._check(access, numbers)
        access.check_alignment("global memory")
        return [(self.all[int(n)], np.flatnonzero(numbers == n)) for n in np.unique(numbers)]

    def _check(self, access: Access, numbers: Array) -> None:
        """Raises EmulationFault for the first lane outside of the buffer that begins before it."""
        ends = np.array([buffer.end for buffer in self.all], np.uint64)
        inside = numbers >= 0
        if self.all:
            # The difference first: the highest addresses plus the size would wrap around.
            room = ends[np.maximum(numbers, 0)] - np.uint64(access.size)
            inside &= access.address <= room
            inside &= np.array([b.size >= access.size for b in self.all])[np.maximum(numbers, 0)]
        if not inside.all():
            index = int(np.flatnonzero(~inside)[0])
            raise access.fault(FaultKind.OUT_OF_BOUNDS, index, self._outside(access, index))

    def _outside(self, access: Access, index: int) -> str:
        start = int(access.address[index])
        where = f"at {start:#x}: "
        if start < GAP:
            return f"{where}a null pointer, or an offset from one"
        if not self.all:
            return f"{where}there is no global memory"

        def distance(buffer: Buffer) -> int:
            return buffer.address - start if start < buffer.address else start - buffer.end

        nearest = min(self.all, key=distance)
        if start < nearest.address:
            return f"{where}{nearest.address - start} bytes before {_named(nearest)}"
        return f"{where}{start + access.size - nearest.end} bytes beyond {_named(nearest)}"


def _named(buffer: Buffer) -> str:
    return f"buffer '{buffer.name}' of {buffer.size} bytes"
