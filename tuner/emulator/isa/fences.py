"""Fences: what a thread did before is seen by others before what it does next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.qualifiers import SCOPES, scope
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.warp import expect_operands
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_LEVELS = ("cta", "gl", "sys")


@instruction("membar", section="Parallel Synchronization and Communication")
def membar(found: Instruction, bind: Binder) -> Step:
    """``membar.cta``, ``.gl`` and ``.sys``."""
    only(found, _LEVELS)
    expect_operands(found, bind, 0)
    if len(found.modifiers) != 1:
        raise bind.error(f"'membar' needs one level of .{', .'.join(_LEVELS)}")
    return _fence(reaches_other_ctas=not found.has("cta"))


@instruction("fence", section="Parallel Synchronization and Communication")
def fence(found: Instruction, bind: Binder) -> Step:
    """``fence.sc`` and ``fence.acq_rel``: all that is emulated is in sequential order already, so
    that they are the same.
    """
    only(found, ("sc", "acq_rel", *SCOPES))
    expect_operands(found, bind, 0)
    return _fence(reaches_other_ctas=scope(found, bind) != "cta")


def _fence(*, reaches_other_ctas: bool) -> Step:
    """Within a CTA nothing has to be done: its threads see each other's writes at once."""
    if reaches_other_ctas:
        return lambda cohort: cohort.memory.fence(cohort)
    return lambda cohort: None


@instruction("nanosleep", section="Miscellaneous")
def nanosleep(found: Instruction, bind: Binder) -> Step:
    """``nanosleep``: gives way to others."""
    only(found, ())
    expect_operands(found, bind, 1)
    bind.source(found.operands[0], "u32")

    def step(cohort: Cohort) -> None:
        cohort.polled |= cohort.active

    return step
