"""Counts: what a launch did, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.emulator.banks import SharedCounts
from tuner.emulator.sectors import GlobalCounts


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
