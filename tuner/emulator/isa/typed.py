"""Typed: roots whose meaning depends on the type at their end, as ``add.s32`` and ``add.f16x2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tuner.emulator.isa.binder import Binder
from tuner.emulator.isa.registry import Assembler, Step, instruction
from tuner.emulator.ptx import Instruction

_INTEGER, _EXTENDED = "Integer Arithmetic", "Extended-Precision Integer Arithmetic"
_FLOAT, _HALF = "Floating Point", "Half Precision Floating Point"
# Where the manual describes a root: one chapter for each family of types.
SECTIONS = {
    **dict.fromkeys(("mul", "abs", "neg", "min", "max"), f"{_INTEGER}, {_FLOAT}, {_HALF}"),
    **dict.fromkeys(("add", "sub"), f"{_INTEGER}, {_EXTENDED}, {_FLOAT}, {_HALF}"),
    "mad": f"{_INTEGER}, {_EXTENDED}, {_FLOAT}",
    "fma": f"{_FLOAT}, {_HALF}",
    "div": f"{_INTEGER}, {_FLOAT}",
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
