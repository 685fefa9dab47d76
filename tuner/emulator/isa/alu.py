"""Alu: the shape that most instructions have: some sources, a function, one destination."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Step
from tuner.emulator.isa.values import Array
from tuner.emulator.ptx import Instruction

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort


def alu(
    found: Instruction,
    bind: Binder,
    result: str,
    sources: Sequence[str],
    compute: Callable[..., Array],
) -> Step:
    """First operand = compute(the others), with the PTX types given.

    ``compute`` gets arrays of shape [lanes] or [1] and returns one of the result's type.
    """
    expected = 1 + len(sources)
    if len(found.operands) != expected:
        raise bind.error(f"'{found.opcode}' takes {expected} operands, not {len(found.operands)}")
    target = bind.target(found.operands[0], result)
    read = [bind.source(o, t) for o, t in zip(found.operands[1:], sources, strict=True)]
    if len(read) == 1:
        [first] = read

        def unary(cohort: Cohort) -> None:
            target(cohort, compute(first(cohort)))

        return unary

    def step(cohort: Cohort) -> None:
        target(cohort, compute(*(source(cohort) for source in read)))

    return step
