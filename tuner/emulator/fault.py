"""Fault: what a kernel did wrong, found while it was emulated."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from search_spaces.errors import UserError

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort
    from tuner.emulator.ptx import Instruction


class FaultKind(Enum):
    """What compute-sanitizer's four tools look for, and what would never end."""

    OUT_OF_BOUNDS = "out of bounds"
    MISALIGNED = "misaligned"
    UNWRITTEN = "read of memory nobody wrote"
    SHARED_RACE = "race on shared memory"
    GLOBAL_RACE = "race on global memory"
    BARRIER = "barrier divergence"
    DEADLOCK = "deadlock"
    BUDGET = "instruction budget"
    TRAP = "trap"


class EmulationFault(UserError):  # noqa: N818  (the fault is the kernel's)
    """Names the kind, the PTX line, the thread and what it did there.

    ``kind``, ``line`` (1-based, in the PTX given) and ``text`` (the instruction) are there for
    programs; ``str()`` is for people.
    """

    def __init__(
        self, kind: FaultKind, cohort: Cohort, lane: int, instruction: Instruction, what: str
    ) -> None:
        self.kind, self.line, self.text = kind, instruction.line, instruction.text
        super().__init__(
            f"{kind.value} at PTX line {self.line}, {self.text}: {cohort.name_of(lane)} {what}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Faults travel between processes without the cohort they were found in.
        return _restored, (self.kind, self.line, self.text, str(self))


def _restored(kind: FaultKind, line: int, text: str, message: str) -> EmulationFault:
    fault = EmulationFault.__new__(EmulationFault)
    fault.kind, fault.line, fault.text = kind, line, text
    UserError.__init__(fault, message)
    return fault
