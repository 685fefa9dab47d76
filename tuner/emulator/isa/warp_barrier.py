"""Warp barrier: orders the accesses of a warp's threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Gathering, Step, instruction, only
from tuner.emulator.isa.values import WARP
from tuner.emulator.isa.warp import expect_operands, members
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


@instruction(
    "bar",
    "barrier",
    section="Parallel Synchronization and Communication",
    gathers=Gathering.MEMBERS,
)
def warp_sync(found: Instruction, bind: Binder) -> Step:
    """``bar.warp.sync mask``: what its threads did before is seen by all of them afterwards."""
    only(found, {"warp", "sync"})
    expect_operands(found, bind, 1)
    read_mask = bind.source(found.operands[0], "u32")

    def step(cohort: Cohort) -> None:
        members(cohort, found, read_mask(cohort))
        cohort.warp_epoch += cohort.active.reshape(-1, WARP).any(axis=1)

    return step
