"""Transfer: loads, stores and conversions of addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.alu import alu
from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.qualifiers import SCOPES, SPACES, order, space
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.values import DTYPES, Array
from tuner.emulator.isa.warp import elements, expect_operands
from tuner.emulator.memory.windows import WINDOWS, within
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

# Hints to the caches change what an access costs, never what it gives.
_PREFETCHES = ("L2::64B", "L2::128B", "L2::256B")
_EVICTIONS = (
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
)
_LOADS = ("ca", "cg", "cs", "lu", "cv", "nc", "volatile", "relaxed", "acquire", *_PREFETCHES)
_STORES = ("wb", "cg", "cs", "wt", "volatile", "relaxed", "release")
_COMMON = ("weak", "v2", "v4", *SPACES, *SCOPES, *_EVICTIONS)
_TYPES = (*(f"{kind}{bits}" for kind in "bus" for bits in (8, 16, 32, 64)), "f32", "f64")
_MOST = 16  # bytes a thread, on the targets that the reader knows


def _shape(found: Instruction, bind: Binder, values: int) -> tuple[str, int]:
    """(type, bytes of one element), checked against the number of registers."""
    named = found.type
    if len(found.types) != 1 or named not in _TYPES:
        raise bind.error(f"'{found.opcode}' takes one type of .{', .'.join(_TYPES)}")
    counts = [int(m[1:]) for m in found.modifiers if m in ("v2", "v4")] or [1]
    if counts != [values]:
        raise bind.error(f"'{found.opcode}' moves {counts[0]} values, {values} are given")
    width = DTYPES[named].itemsize
    if width * values > _MOST:
        raise bind.error(f"'{found.opcode}' moves more than {_MOST} bytes a thread")
    return named, width


@instruction("ld", "ldu", section="Data Movement and Conversion")
def load(found: Instruction, bind: Binder) -> Step:
    """``ld``, ``ld.global.nc`` and ``ldu``."""
    only(found, (*_COMMON, *_LOADS))
    expect_operands(found, bind, 2)
    registers = elements(found.operands[0])
    named, width = _shape(found, bind, len(registers))
    targets = [bind.target(register, named) for register in registers]
    address = bind.address(found.operands[1])
    where, promised = space(found, bind), order(found, bind)
    dtype, count = DTYPES[named], len(targets)

    def step(cohort: Cohort) -> None:
        values = cohort.memory.load(
            cohort, found, where, address(cohort), width, count, order=promised
        )
        columns = values.T if count == 1 else np.ascontiguousarray(values.T)
        for target, column in zip(targets, columns.view(dtype), strict=True):
            target(cohort, column)

    return step


@instruction("st", section="Data Movement and Conversion")
def store(found: Instruction, bind: Binder) -> Step:
    """``st``."""
    only(found, (*_COMMON, *_STORES))
    expect_operands(found, bind, 2)
    operands = elements(found.operands[1])
    named, width = _shape(found, bind, len(operands))
    where, promised = space(found, bind), order(found, bind)
    if where == "param":
        raise bind.error(f"'{found.opcode}' passes an argument of a call: calls must be inlined")
    if where == "const":
        raise bind.error(f"'{found.opcode}': a kernel cannot write constant memory")
    address = bind.address(found.operands[0])
    sources = [bind.source(operand, named) for operand in operands]
    raw = np.dtype(f"u{width}")

    def step(cohort: Cohort) -> None:
        read = [source(cohort).view(raw) for source in sources]
        if len(read) == 1:
            values = read[0][:, None]
        else:
            values = np.empty((cohort.lanes, len(read)), raw)
            for i, value in enumerate(read):
                values[:, i] = value
        cohort.memory.store(cohort, found, where, address(cohort), values, order=promised)

    return step


@instruction("prefetch", "prefetchu", section="Data Movement and Conversion")
def prefetch(found: Instruction, bind: Binder) -> Step:
    """``prefetch`` and ``prefetchu``: a hint, which no address makes a fault."""
    only(found, ("global", "local", "L1", "L2", "L2::evict_last", "L2::evict_normal"))
    expect_operands(found, bind, 1)
    bind.address(found.operands[0])
    return lambda cohort: None


@instruction("isspacep", section="Data Movement and Conversion")
def is_space(found: Instruction, bind: Binder) -> Step:
    """``isspacep.space p, a``: whether a generic address lies in the space's window."""
    only(found, SPACES)
    named = space(found, bind)
    if named == "generic":
        raise bind.error("'isspacep' needs a state space")

    def inside(address: Array) -> Array:
        there = within(address, named)
        # On GPUs the window of kernel parameters is a part of global memory's.
        return there | within(address, "param") if named == "global" else there

    return alu(found, bind, "pred", ["u64"], inside)


@instruction("cvta", section="Data Movement and Conversion")
def convert_address(found: Instruction, bind: Binder) -> Step:
    """``cvta``: an address of a space as a generic one, ``cvta.to`` the other way."""
    only(found, ("to", *SPACES))
    named = space(found, bind)
    if named == "generic" or found.type != "u64":
        raise bind.error(f"'{found.opcode}' needs a state space and .u64")
    base = np.uint64(WINDOWS[named])
    if found.has("to"):
        return alu(found, bind, "u64", ["u64"], lambda address: address - base)
    return alu(found, bind, "u64", ["u64"], lambda address: address + base)
