"""Extended: sums and products of several words, linked by the carry flag of each thread.

CC.CF is one bit a thread; ``.cc`` writes it, ``addc``, ``subc`` and ``madc`` read it. After a
subtraction it holds the borrow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.products import high_product
from tuner.emulator.isa.registry import Step, instruction, only
from tuner.emulator.isa.typed import check_type
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort

TYPES = ("u32", "s32", "u64", "s64", "b32", "b64")


@instruction("addc", section="Extended-Precision Integer Arithmetic")
def add_with_carry(found: Instruction, bind: Binder) -> Step:
    """d = a + b (+ carry for ``addc``); ``.cc`` keeps the carry."""
    only(found, {"cc"})

    def compute(carry: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return _add(a, b, carry)

    return _linked(found, bind, 2, found.root == "addc", compute)


@instruction("subc", section="Extended-Precision Integer Arithmetic")
def subtract_with_borrow(found: Instruction, bind: Binder) -> Step:
    """d = a - b (- borrow for ``subc``); ``.cc`` keeps the borrow."""
    only(found, {"cc"})

    def compute(borrow: Array, a: Array, b: Array) -> tuple[Array, Array]:
        part = a - b
        return part - borrow, (a < b) | (part < borrow)

    return _linked(found, bind, 2, found.root == "subc", compute)


@instruction("madc", section="Extended-Precision Integer Arithmetic")
def multiply_with_carry(found: Instruction, bind: Binder) -> Step:
    """d = a half of a * b + c (+ carry for ``madc``)."""
    only(found, {"cc", "lo", "hi"})
    if found.has("lo") == found.has("hi"):
        raise bind.error(f"'{found.root}' needs one of .lo and .hi")
    signed = f"i{8 if found.type.endswith('64') else 4}"

    def high(a: Array, b: Array) -> Array:
        if found.type[0] != "s":
            return high_product(a, b)
        return high_product(a.view(signed), b.view(signed)).view(a.dtype)

    product = np.multiply if found.has("lo") else high

    def compute(carry: Array, a: Array, b: Array, c: Array) -> tuple[Array, Array]:
        return _add(product(a, b), c, carry)

    return _linked(found, bind, 3, found.root == "madc", compute)


def _add(a: Array, b: Array, carry: Array) -> tuple[Array, Array]:
    part = a + b
    total = part + carry
    return total, (part < a) | (total < part)


def _linked(
    found: Instruction,
    bind: Binder,
    arity: int,
    reads: bool,
    compute: Callable[..., tuple[Array, Array]],
) -> Step:
    # Two's complement: unsigned words give the same bits and the carry.
    kind = "u" + check_type(found, bind, TYPES)[1:]
    if len(found.operands) != 1 + arity:
        raise bind.error(f"'{found.opcode}' takes {1 + arity} operands")
    target = bind.target(found.operands[0], kind)
    sources = [bind.source(operand, kind) for operand in found.operands[1:]]
    writes, none = found.has("cc"), np.zeros(1, np.bool_)

    def step(cohort: Cohort) -> None:
        carry = cohort.carry if reads else none
        values = [source(cohort) for source in sources]
        result, out = compute(carry.astype(values[0].dtype), *values)
        target(cohort, result)
        if writes:
            others = cohort.writes
            cohort.carry = (
                cohort.broadcast(out) if others is None else np.where(others, out, cohort.carry)
            )

    return step
