"""Registry: from an opcode's root to the function that prepares its execution.

Every module of this package states the semantics of a family of instructions and registers them
here. An instruction is *assembled* once, when a program is prepared: its modifiers are read and its
operands bound then, and what remains is a step, called for each execution by a whole cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeAlias

from tuner.emulator.ptx import Instruction, PtxError

if TYPE_CHECKING:
    from tuner.emulator.cohort import Cohort
    from tuner.emulator.isa.binder import Binder

Step: TypeAlias = "Callable[[Cohort], None]"
Assembler: TypeAlias = "Callable[[Instruction, Binder], Step]"


class Gathering(Enum):
    """Which threads of a warp have to come before any of them executes an instruction."""

    WARP = "all that live"
    MEMBERS = "those that the last operand, a member mask, names"


@dataclass(frozen=True)
class Semantics:
    """How to assemble one root; ``gathers`` is None where each thread executes by itself."""

    assemble: Assembler
    section: str
    gathers: Gathering | None


_ROOTS: dict[str, Semantics] = {}


def instruction(
    *roots: str, section: str, gathers: Gathering | None = None
) -> Callable[[Assembler], Assembler]:
    """Registers an assembler for ``roots``; ``section`` is a chapter's title (see the package)."""

    def register(assemble: Assembler) -> Assembler:
        for root in roots:
            if root in _ROOTS:
                raise ValueError(f"{root} has semantics already")
            _ROOTS[root] = Semantics(assemble, section, gathers)
        return assemble

    return register


def semantics(found: Instruction) -> Semantics:
    """Raises PtxError for a root that nobody registered."""
    known = _ROOTS.get(found.root)
    if known is None:
        raise PtxError(found.line, f"the emulator does not know '{found.opcode}' ({found.text})")
    return known


def only(found: Instruction, allowed: Iterable[str]) -> None:
    """Raises PtxError for a modifier that is neither a type nor ``allowed``: nothing is skipped."""
    unknown = [m for m in found.modifiers if m not in allowed and m not in found.types]
    if unknown:
        raise PtxError(
            found.line,
            f"the emulator does not know '.{unknown[0]}' of '{found.opcode}' ({found.text})",
        )
