"""Declarations of parameters, registers and variables (PTX ISA, "Variable Declarations")."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.extent import array_bytes, read_count
from tuner.emulator.ptx.initialiser import read_initialiser
from tuner.emulator.ptx.number import integer
from tuner.emulator.ptx.operand import Register
from tuner.emulator.ptx.scalar import DECLARABLE, STORABLE, size_of
from tuner.emulator.ptx.variable import Param, Variable

IDENTIFIER = r"(?:[A-Za-z][\w$]*|[_$%][\w$]+)"
# More than any kernel names; a slip of the pen must not exhaust the host's memory.
MAX_REGISTERS = 1 << 20

_PARAM = re.compile(
    rf"""\.param\s+(?:\.align\s+(?P<align>\w+)\s+)?\.(?P<type>\w+)
    (?:\s*\.ptr(?:\s*\.(?:global|shared|const|local))?(?:\s*\.align\s+\w+)?)?
    \s+(?P<name>{IDENTIFIER})\s*(?:\[\s*(?P<count>\w+)\s*\])?$""",
    re.VERBOSE,
)
_REGISTERS = re.compile(r"\.reg\s*\.(\w+)\s+(.*)$", re.DOTALL)
_REGISTER = re.compile(rf"({IDENTIFIER})\s*(?:<\s*(\w+)\s*>)?$")
_PREFIX = re.compile(
    r"""\.(?P<space>shared|local|global|const|param)\b\s*(?:\.attribute\s*\(\s*\.managed\s*\)\s*)?
    (?:\.align\s+(?P<align>\w+)\s*)?(?:\.v(?P<lanes>[24])\s*)?\.(?P<type>\w+)\s+""",
    re.VERBOSE,
)
_DECLARATOR = re.compile(
    rf"""\s*(?P<name>{IDENTIFIER})\s*(?P<dims>(?:\[\s*\w*\s*\]\s*)*)
    (?:=\s*(?P<initial>\{{[^=]*\}}|[^,{{}}=]+?))?\s*(?P<end>,|$)""",
    re.VERBOSE,
)


def read_param(text: str, line: int) -> Param:
    """``.param .align 8 .b8 p[32]``. Raises PtxError for anything that is no kernel parameter."""
    found = _PARAM.match(text.strip())
    if found is None:
        raise PtxError(line, f"{shortened(text)}: no kernel parameter such as '.param .u64 name'")
    _storable(found["type"], line)
    align = _align(found["align"], size_of(found["type"]), line)
    count = None if found["count"] is None else read_count(found["count"], line)
    size = array_bytes(found["type"], [] if count is None else [count], line)
    return Param(found["name"], found["type"], align, size, count)


def read_registers(text: str, line: int) -> Iterator[Register]:
    """``.reg .b32 %r<10>, a;`` Raises PtxError for an unknown type or a bad name or range."""
    found = _REGISTERS.match(text)
    if found is None or found[1] not in DECLARABLE:
        raise PtxError(line, f"{shortened(text)}: registers are declared as '.reg .b32 %r<10>'")
    for part in found[2].split(","):
        name = _REGISTER.match(part.strip())
        if name is None:
            raise PtxError(line, f"{shortened(part)} is no register name, plain or with <count>")
        if name[2] is None:
            yield Register(name[1], found[1])
            continue
        count = read_count(name[2], line)
        if count > MAX_REGISTERS:
            raise PtxError(line, f"{count} registers {name[1]}: at most {MAX_REGISTERS}")
        yield from (Register(f"{name[1]}{index}", found[1]) for index in range(count))


def read_variables(text: str, line: int, external: bool) -> Iterator[Variable]:
    """``.global .align 4 .u32 a[2] = {1, 2}, b``.

    Raises PtxError for an unknown type, a bad alignment or size, or an initialiser that does not
    fit.
    """
    prefix = _PREFIX.match(text)
    if prefix is None:
        raise PtxError(line, f"{shortened(text)}: no declaration such as '.global .u32 name'")
    _storable(prefix["type"], line)
    unit = size_of(prefix["type"])
    lanes = int(prefix["lanes"] or 1)
    align = _align(prefix["align"], unit * lanes, line)
    kind = _Kind(prefix["space"], prefix["type"], align, lanes, external)
    position, more = prefix.end(), True
    while more:
        found = _DECLARATOR.match(text, position)
        if found is None:
            raise PtxError(line, f"{shortened(text[position:])}: no name of a variable here")
        yield _variable(kind, found, line)
        position, more = found.end(), found["end"] == ","


@dataclass(frozen=True, slots=True)
class _Kind:
    """What all names of one declaration share."""

    space: str
    type: str
    align: int
    lanes: int
    external: bool


def _variable(kind: _Kind, found: re.Match[str], line: int) -> Variable:
    name, initial = found["name"], found["initial"]
    shape = _shape(name, found["dims"], line)
    if kind.lanes > 1:
        shape = (*shape, kind.lanes)
    if initial is not None:
        if kind.space not in ("global", "const") or kind.external:
            raise PtxError(line, f"{name!r}: only .global and .const, not extern, take a value")
        data, relocations = read_initialiser(initial, kind.type, shape, line)
        return Variable(
            name, kind.space, kind.type, kind.align, len(data), False, data, relocations
        )
    if None in shape and not kind.external:
        raise PtxError(line, f"{name!r} has no size: give one, or an initialiser")
    size = array_bytes(kind.type, [extent or 0 for extent in shape], line)
    return Variable(name, kind.space, kind.type, kind.align, size, kind.external, None)


def _shape(name: str, dims: str, line: int) -> tuple[int | None, ...]:
    """``[][4]`` -> (None, 4)."""
    extents = [part.strip() for part in re.findall(r"\[([^\]]*)\]", dims)]
    if "" in extents[1:]:
        raise PtxError(line, f"{name!r}: only the first extent may be left open")
    return tuple(read_count(extent, line) if extent else None for extent in extents)


def _storable(type_name: str, line: int) -> None:
    if type_name not in STORABLE:
        raise PtxError(line, f"type '.{type_name}' cannot be stored: use one such as .b32 or .f16")


def _align(text: str | None, natural: int, line: int) -> int:
    """The alignment in bytes. Raises PtxError unless it is a power of two."""
    if text is None:
        return natural
    value = integer(text)
    if value is None or value < 1 or value & (value - 1):
        raise PtxError(line, f".align {text}: must be a power of two")
    return value
