"""Collective: shuffles, votes, matches and reductions among the threads of a warp.

The machine has gathered the threads of the member mask when a step runs. A member mask belongs to a
lane, not to a warp: two parts of a warp may execute the same instruction with two masks at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Gathering, Step, instruction, only
from tuner.emulator.isa.values import DTYPES, WARP, Array
from tuner.emulator.isa.warp import (
    ballot,
    destinations,
    expect_operands,
    lane_ids,
    members,
    to_lanes,
)
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

_TOGETHER = "Parallel Synchronization and Communication"  # the manual's chapter


def _choice(found: Instruction, bind: Binder, known: tuple[str, ...]) -> str:
    """The one modifier among ``known``; ``.sync`` must be there too and nothing else."""
    only(found, ("sync", *known))
    chosen = [modifier for modifier in found.modifiers if modifier in known]
    if len(chosen) != 1 or not found.has("sync"):
        raise bind.error(f"'{found.opcode}' needs .sync and one of .{', .'.join(known)}")
    return chosen[0]


def _source_lane(mode: str, lane: Array, b: Array, c: Array) -> tuple[Array, Array]:
    """Lane to read from within the warp, and whether it lies in range (else: one's own lane).

    ``c`` holds the clamp in bits 0-4 and the segment mask in bits 8-12.
    """
    step, clamp, segment = b & 31, c & 31, (c >> 8) & 31
    first = lane & segment
    last = first | (clamp & ~segment)
    if mode == "up":
        source = lane - step
        valid = source >= last
    else:
        source = {
            "down": lambda: lane + step,
            "bfly": lambda: lane ^ step,
            "idx": lambda: first | (step & ~segment),
        }[mode]()
        valid = source <= last
    return np.where(valid, source, lane), valid


@instruction("shfl", section="Data Movement and Conversion", gathers=Gathering.MEMBERS)
def shfl(found: Instruction, bind: Binder) -> Step:
    """``shfl.sync``: d = a of another lane of the warp.

    The manual leaves the value of a lane that does not execute open; here a lane that asks for one
    keeps its own.
    """
    mode = _choice(found, bind, ("up", "down", "bfly", "idx"))
    expect_operands(found, bind, 5)
    target, in_range = destinations(found, bind, "b32")
    read = bind.source(found.operands[1], "b32")
    read_b, read_c = (bind.source(operand, "s32") for operand in found.operands[2:4])
    read_mask = bind.source(found.operands[4], "u32")

    def step(cohort: Cohort) -> None:
        value = cohort.broadcast(read(cohort))
        lane = lane_ids(cohort.lanes)
        source, valid = _source_lane(mode, lane, read_b(cohort), read_c(cohort))
        taken = value[np.arange(cohort.lanes) - lane + source]
        there = members(cohort, found, read_mask(cohort)) >> source.astype(np.uint32) & np.uint32(1)
        target(cohort, np.where(there != 0, taken, value))
        if in_range is not None:
            in_range(cohort, valid)

    return step


_VOTES: dict[str, Callable[[Array, Array], Array]] = {
    "all": lambda yes, voters: yes == voters,
    "any": lambda yes, voters: yes != 0,
    "uni": lambda yes, voters: (yes == voters) | (yes == 0),
    "ballot": lambda yes, voters: yes,
}


@instruction(
    "vote", section="Parallel Synchronization and Communication", gathers=Gathering.MEMBERS
)
def vote(found: Instruction, bind: Binder) -> Step:
    """``vote.sync``: a predicate over the members, or their bits."""
    mode = _choice(found, bind, ("all", "any", "uni", "ballot"))
    expect_operands(found, bind, 3)
    result = "b32" if mode == "ballot" else "pred"
    if found.type != result:
        raise bind.error(f"'{found.opcode}' gives a .{result}")
    target = bind.target(found.operands[0], result)
    read = bind.source(found.operands[1], "pred")
    read_mask = bind.source(found.operands[2], "u32")
    decide = _VOTES[mode]

    def step(cohort: Cohort) -> None:
        voters = members(cohort, found, read_mask(cohort))
        yes = to_lanes(ballot(cohort.broadcast(read(cohort))))
        target(cohort, decide(yes & voters, voters))

    return step


@instruction(
    "match", section="Parallel Synchronization and Communication", gathers=Gathering.MEMBERS
)
def match(found: Instruction, bind: Binder) -> Step:
    """``match.sync``: the members that hold the same value as this lane."""
    mode = _choice(found, bind, ("any", "all"))
    expect_operands(found, bind, 3)
    target, all_equal = destinations(found, bind, "b32")
    read = bind.source(found.operands[1], found.type)
    read_mask = bind.source(found.operands[2], "u32")

    def step(cohort: Cohort) -> None:
        value = cohort.broadcast(read(cohort)).reshape(-1, WARP)
        asked = members(cohort, found, read_mask(cohort))
        same = ballot(value[:, :, None] == value[:, None, :]).ravel() & asked
        if mode == "any":
            target(cohort, same)
            return
        agree = same == asked
        target(cohort, np.where(agree, asked, np.uint32(0)))
        if all_equal is not None:
            all_equal(cohort, agree)

    return step


@instruction("activemask", section="Parallel Synchronization and Communication")
def activemask(found: Instruction, bind: Binder) -> Step:
    """``activemask.b32``: the threads of the warp that execute together now."""
    only(found, ())
    expect_operands(found, bind, 1)
    target = bind.target(found.operands[0], "b32")
    return lambda cohort: target(cohort, to_lanes(ballot(cohort.active)))


_REDUCTIONS: dict[str, np.ufunc] = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


def _neutral(operation: str, dtype: np.dtype[Any]) -> int:
    limits = np.iinfo(dtype)
    return {"min": limits.max, "max": limits.min, "and": limits.max}.get(operation, 0)


@instruction(
    "redux", section="Parallel Synchronization and Communication", gathers=Gathering.MEMBERS
)
def redux(found: Instruction, bind: Binder) -> Step:
    """``redux.sync``: one value from all members; sums wrap at 32 bits."""
    operation = _choice(found, bind, tuple(_REDUCTIONS))
    expect_operands(found, bind, 3)
    allowed = ("b32",) if operation in ("and", "or", "xor") else ("u32", "s32")
    if found.type not in allowed:
        raise bind.error(f"'{found.opcode}' needs .{' or .'.join(allowed)}")
    target = bind.target(found.operands[0], found.type)
    read = bind.source(found.operands[1], found.type)
    read_mask = bind.source(found.operands[2], "u32")
    reduce, dtype = _REDUCTIONS[operation], DTYPES[found.type]
    neutral = np.array(_neutral(operation, dtype), dtype)
    bits = np.uint32(1) << np.arange(WARP, dtype=np.uint32)

    def step(cohort: Cohort) -> None:
        value = cohort.broadcast(read(cohort)).reshape(-1, 1, WARP)
        asked = members(cohort, found, read_mask(cohort)).reshape(-1, WARP, 1)
        picked = np.where(asked & bits != 0, value, neutral)
        target(cohort, reduce.reduce(picked, axis=2, dtype=dtype).ravel())

    return step
