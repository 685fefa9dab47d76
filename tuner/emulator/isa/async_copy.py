"""Async copy: from global to shared memory while the thread goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.emulator.isa.binder import Binder, Source
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.warp import expect_operands
from tuner.emulator.ptx import Immediate, Instruction, Register

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_COPY = ("async", "ca", "cg", "shared", "shared::cta", "global")
_HINTS = ("L2::64B", "L2::128B", "L2::256B")
_SIZES = {"ca": (4, 8, 16), "cg": (16,)}


@instruction("cp", section="Data Movement and Conversion")
def assemble(found: Instruction, bind: Binder) -> Step:
    """``cp.async`` and what commits it and waits for it."""
    if found.has("commit_group"):
        return _commit(found, bind)
    if found.has("wait_group") or found.has("wait_all"):
        return _wait(found, bind)
    return _copy(found, bind)


def _commit(found: Instruction, bind: Binder) -> Step:
    only(found, ("async", "commit_group"))
    expect_operands(found, bind, 0)
    return lambda cohort: cohort.private.copies.commit(cohort.active)


def _wait(found: Instruction, bind: Binder) -> Step:
    only(found, ("async", "wait_group", "wait_all"))
    left: int | None = None
    if found.has("wait_group"):
        expect_operands(found, bind, 1)
        [count] = found.operands
        if not isinstance(count, Immediate) or count.type != "int" or count.bits < 0:
            raise bind.error("'cp.async.wait_group' takes a constant number of groups")
        left = count.bits
    else:
        expect_operands(found, bind, 0)

    def step(cohort: Cohort) -> None:
        cohort.private.copies.wait(cohort.active, left)
        cohort.memory.changes += 1

    return step


def _copy(found: Instruction, bind: Binder) -> Step:
    """``cp.async.ca [dst], [src], size{, src_size}`` or ``{, ignore_src}``."""
    only(found, (*_COPY, *_HINTS))
    cache = [modifier for modifier in found.modifiers if modifier in _SIZES]
    spaces = [m for m in found.modifiers if m in ("shared", "shared::cta", "global")]
    if len(cache) != 1 or spaces[-1:] != ["global"] or len(spaces) != 2 or not found.has("async"):
        raise bind.error("the emulator knows cp.async.ca and .cg from .global to .shared")
    if len(found.operands) not in (3, 4):
        raise bind.error(f"'{found.opcode}' takes 3 or 4 operands, not {len(found.operands)}")
    size = found.operands[2]
    if not isinstance(size, Immediate) or size.bits not in _SIZES[cache[0]]:
        raise bind.error(f"'cp.async.{cache[0]}' copies {_SIZES[cache[0]]} bytes")
    target, source = bind.address(found.operands[0]), bind.address(found.operands[1])
    taken = _taken(found, bind, size.bits)
    total = size.bits

    def step(cohort: Cohort) -> None:
        count = None if taken is None else cohort.broadcast(taken(cohort))
        cohort.memory.copy(cohort, found, target(cohort), source(cohort), total, count)

    return step


def _taken(found: Instruction, bind: Binder, size: int) -> Source | None:
    """Bytes that are read, the others being zeros; None for all of them."""
    if len(found.operands) == 3:
        return None
    operand = found.operands[3]
    if isinstance(operand, Register) and operand.type == "pred":
        ignores = bind.source(operand, "pred")
        return lambda cohort: (~ignores(cohort)).astype("u4") * size
    return bind.source(operand, "u32")
