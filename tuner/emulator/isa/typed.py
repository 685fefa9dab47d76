"""Typed: roots whose meaning depends on the type at their end, as ``add.s32`` and ``add.f16x2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Assembler, Step, instruction
from tuner.emulator.ptx import Instruction

# Where the PTX ISA manual (8.7) describes a root: one section for each family of types.
SECTIONS = {
    "add": "9.7.1.1, 9.7.2.1, 9.7.3.3, 9.7.4.1",
    "sub": "9.7.1.2, 9.7.2.3, 9.7.3.4, 9.7.4.2",
    "mul": "9.7.1.3, 9.7.3.5, 9.7.4.3",
    "mad": "9.7.1.4, 9.7.2.5, 9.7.3.7",
    "fma": "9.7.3.6, 9.7.4.4",
    "div": "9.7.1.8, 9.7.3.8",
    "abs": "9.7.1.10, 9.7.3.9, 9.7.4.6",
    "neg": "9.7.1.11, 9.7.3.10, 9.7.4.5",
    "min": "9.7.1.12, 9.7.3.11, 9.7.4.7",
    "max": "9.7.1.13, 9.7.3.12, 9.7.4.8",
}

_ASSEMBLERS: dict[str, dict[str, Assembler]] = {}


def typed(*roots: str, types: Iterable[str]) -> Callable[[Assembler], Assembler]:
    """Registers an assembler for those types of ``roots``, which all are keys of SECTIONS."""

    def register(assemble: Assembler) -> Assembler:
        for root in roots:
            if root not in _ASSEMBLERS:
                _ASSEMBLERS[root] = {}
                instruction(root, section=SECTIONS[root])(_dispatch)
            _ASSEMBLERS[root].update(dict.fromkeys(types, assemble))
        return assemble

    return register


def check_type(found: Instruction, bind: Binder, allowed: Iterable[str]) -> str:
    """The only type of an instruction; raises PtxError unless it is one of ``allowed``."""
    if len(found.types) != 1 or found.type not in allowed:
        raise bind.error(f"the emulator knows '{found.root}' for {', '.join(allowed)} only")
    return found.type


def _dispatch(found: Instruction, bind: Binder) -> Step:
    known = _ASSEMBLERS[found.root]
    return known[check_type(found, bind, known)](found, bind)
