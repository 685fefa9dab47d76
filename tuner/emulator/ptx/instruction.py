"""One instruction of a kernel."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.operand import Operand, Register
from tuner.emulator.ptx.scalar import BITS


@dataclass(frozen=True, slots=True)
class Instruction:
    """``@%p1 ld.global.v4.u32 {...}, [%rd1];``

    ``root`` is ``ld``, ``modifiers`` are ``("global", "v4", "u32")``; one with ``::`` stays whole.
    ``line`` counts from 1 in the text that was read; ``text`` is the statement without its ``;``.
    A ``call`` keeps its text only. The operands of ``brx.idx`` are the index and then the labels
    of its table, in order.
    """

    opcode: str
    root: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    predicate: Register | None
    negated: bool
    line: int
    text: str

    def has(self, modifier: str) -> bool:
        return modifier in self.modifiers

    @property
    def types(self) -> tuple[str, ...]:
        """Every type among the modifiers, in order."""
        return tuple(modifier for modifier in self.modifiers if modifier in BITS)

    @property
    def type(self) -> str:
        """The last type among the modifiers. Raises PtxError when there is none."""
        types = self.types
        if not types:
            raise PtxError(self.line, f"{shortened(self.text)}: names no type, such as .b32")
        return types[-1]
