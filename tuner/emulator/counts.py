"""Counts: what a launch did, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.emulator.sectors import SECTOR_BYTES


@dataclass(frozen=True)
class SharedCounts:
    """Accesses to shared memory. ``bytes`` are those that active lanes asked for."""

    requests: int = 0
    wavefronts: int = 0
    ideal: int = 0
    bytes: int = 0

    @property
    def conflicts(self) -> int:
        """Wavefronts that bank conflicts added."""
        return self.wavefronts - self.ideal

    def __add__(self, other: SharedCounts) -> SharedCounts:
        return SharedCounts(
            self.requests + other.requests,
            self.wavefronts + other.wavefronts,
            self.ideal + other.ideal,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True)
class GlobalCounts:
    """Accesses to global memory. ``bytes`` are those that active lanes asked for."""

    requests: int = 0
    sectors: int = 0
    ideal: int = 0
    bytes: int = 0

    @property
    def sector_bytes(self) -> int:
        """Bytes that the sectors move."""
        return self.sectors * SECTOR_BYTES

    def __add__(self, other: GlobalCounts) -> GlobalCounts:
        return GlobalCounts(
            self.requests + other.requests,
            self.sectors + other.sectors,
            self.ideal + other.ideal,
            self.bytes + other.bytes,
        )


@dataclass(frozen=True)
class Totals:
    """A launch in numbers.

    ``instructions`` are issued by warps; ``threads`` counts the threads they were issued for and
    ``threads_on`` those whose predicate held. ``shared`` and ``globals`` go by kind of access:
    load, store, matrix (``ldmatrix``), atomic, copy. ``divergent`` branches split a warp.
    """

    instructions: int
    threads: int
    threads_on: int
    by_class: Mapping[str, int]
    by_opcode: Mapping[str, int]
    mma: int
    flops: int
    shared: Mapping[str, SharedCounts]
    globals: Mapping[str, GlobalCounts]
    barriers: int
    divergent: int


@dataclass(frozen=True)
class LineCounts:
    """What the instructions of one PTX line did; ``warps`` and ``threads`` issued."""

    line: int
    text: str
    warps: int
    threads: int
    threads_on: int
    shared: SharedCounts
    globals: GlobalCounts
    barriers: int
    divergent: int
