"""Access: one instruction's reach into memory, a lane at a time in an array."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.isa.values import Array

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort
    from tuner.emulator.ptx import Instruction


class Order(Enum):
    """What an access promises to other CTAs (PTX ISA, "Memory Consistency Model").

    ``RELAXED`` stands for volatile too. An access whose scope is the CTA is ``LOCAL``: other CTAs
    may count on it no more than on a weak one, threads of its own CTA may.
    """

    WEAK = "weak"
    LOCAL = "local"
    RELAXED = "relaxed"
    ACQUIRE = "acquire"
    RELEASE = "release"
    ACQ_REL = "acq_rel"

    @property
    def strong(self) -> bool:
        """Whether other CTAs may access the same place at the same time."""
        return self not in (Order.WEAK, Order.LOCAL)

    @property
    def acquires(self) -> bool:
        """Whether it acquires without a fence behind it."""
        return self in (Order.ACQUIRE, Order.ACQ_REL)

    @property
    def releases(self) -> bool:
        """Whether it releases without a fence before it."""
        return self in (Order.RELEASE, Order.ACQ_REL)


@dataclass(slots=True)
class Access:
    """``address`` [n] in bytes, for the lanes ``lanes`` [n] of the cohort; None means all of them.

    ``size`` bytes a lane. ``kind`` is load, store, matrix, atomic or copy.
    """

    cohort: Cohort
    found: Instruction
    lanes: Array | None
    address: Array
    size: int
    kind: str
    order: Order = Order.WEAK

    def pick(self, by_lane: Array) -> Array:
        """The entries of [lanes] that belong to this access."""
        return by_lane if self.lanes is None else by_lane.take(self.lanes)

    def part(self, chosen: Array) -> Access:
        """The same access by some of its lanes: indices into its arrays."""
        lanes = chosen if self.lanes is None else self.lanes[chosen]
        return replace(self, lanes=lanes, address=self.address[chosen])

    def lane(self, index: int) -> int:
        """The cohort's lane at ``index`` of the arrays."""
        return index if self.lanes is None else int(self.lanes[index])

    @property
    def verb(self) -> str:
        """``reads 16 bytes``."""
        word = {"store": "writes", "atomic": "updates"}.get(self.kind, "reads")
        return f"{word} {self.size} byte{'s' if self.size > 1 else ''}"

    def fault(self, kind: FaultKind, index: int, what: str) -> EmulationFault:
        """The fault of the lane at ``index``, of the form ``reads 16 bytes <what>``."""
        lane = self.lane(index)
        return EmulationFault(kind, self.cohort, lane, self.found, f"{self.verb} {what}")

    def check_alignment(self, place: str) -> None:
        """Raises EmulationFault unless every address is a multiple of the size."""
        low = np.uint64(self.size - 1)
        if np.bitwise_or.reduce(self.address) & low:
            index = int(np.flatnonzero(self.address & low)[0])
            where = f"at {int(self.address[index]):#x} of {place}, no multiple of {self.size}"
            raise self.fault(FaultKind.MISALIGNED, index, where)
