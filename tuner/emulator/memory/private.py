"""Private: the memory of a cohort's CTAs that no other CTA sees."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.emulator.memory.copies import Copies
from tuner.emulator.memory.local import LocalMemory
from tuner.emulator.memory.shared import SharedMemory


@dataclass(frozen=True)
class Private:
    """Shared memory by CTA and local memory by thread; copies on their way to the former."""

    shared: SharedMemory
    copies: Copies
    local: LocalMemory
