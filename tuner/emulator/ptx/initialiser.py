"""Initial values of variables (PTX ISA, "Initializers")."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import TypeAlias

from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.extent import array_bytes
from tuner.emulator.ptx.number import immediate, integer
from tuner.emulator.ptx.operand import Immediate
from tuner.emulator.ptx.scalar import BITS, size_of
from tuner.emulator.ptx.variable import Relocation

Tree: TypeAlias = "str | list[Tree]"

# name+4, generic(name)+4
_SYMBOL = re.compile(
    r"(?:(generic)\s*\(\s*)?((?:[A-Za-z]|[_$%][\w$])[\w$]*)(?(1)\s*\))\s*(?:([+-])\s*(\w+))?$"
)
# 0xFF00(generic(name)): one byte of an address (PTX ISA, "Initializers", the mask operator).
_MASKED = re.compile(r"0[xX](FF(?:00){0,7})\s*\((.*)\)$")


def read_initialiser(
    text: str, type_name: str, shape: tuple[int | None, ...], line: int
) -> tuple[bytes, tuple[Relocation, ...]]:
    """All bytes of a variable of this shape, and the addresses to put into them.

    The first extent is None where the initialiser decides it. What it leaves out is zero.
    Raises PtxError for too many values, wrong nesting, and values that do not fit the type.
    """
    tree = _tree(text, line)
    if shape and shape[0] is None:
        shape = (len(tree), *shape[1:])
    extents = tuple(extent or 0 for extent in shape)
    data = bytearray(array_bytes(type_name, extents, line))
    relocations = []
    for offset, value in _placed(tree, extents, size_of(type_name), 0, line):
        relocation = _relocation(value, type_name, offset, line)
        if relocation is not None:
            relocations.append(relocation)
        else:
            encoded = _encoded(value, type_name, line)
            data[offset : offset + len(encoded)] = encoded
    return bytes(data), tuple(relocations)


def _tree(text: str, line: int) -> Tree:
    """Nested lists of the values' texts."""
    outermost: list[Tree] = []
    open_lists = [outermost]
    parts = [part.strip() for part in re.split(r"([{},])", text)]
    for part in filter(None, parts):
        if part == "{":
            inner: list[Tree] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif part == "}":
            open_lists.pop()
            if not open_lists:
                break
        elif part != ",":
            open_lists[-1].append(part)
    if len(open_lists) != 1 or len(outermost) != 1:
        raise PtxError(line, f"{shortened(text)}: the braces of this initialiser do not match")
    return outermost[0]


def _placed(
    tree: Tree, extents: tuple[int, ...], unit: int, offset: int, line: int
) -> Iterator[tuple[int, str]]:
    """Every value with its offset in bytes."""
    if isinstance(tree, str):
        if extents:
            raise PtxError(line, f"{shortened(tree)}: an array takes a list in braces")
        yield offset, tree
        return
    if not extents or len(tree) > extents[0]:
        room = extents[0] if extents else 1
        raise PtxError(line, f"an initialiser of {len(tree)} values where {room} fit")
    stride = unit
    for extent in extents[1:]:
        stride *= extent
    for index, part in enumerate(tree):
        yield from _placed(part, extents[1:], unit, offset + index * stride, line)


def _relocation(value: str, type_name: str, offset: int, line: int) -> Relocation | None:
    masked = _MASKED.match(value)
    found = _SYMBOL.match(masked[2].strip() if masked else value)
    if found is None:
        return None
    generic, symbol, sign, digits = found.groups()
    addend = 0 if digits is None else integer(digits)
    size = size_of(type_name)
    if addend is None or type_name[0] not in "bus" or size != (1 if masked else 8):
        rule = "an address, plus an integer, fills 64 bits, and a byte of it 8 bits"
        raise PtxError(line, f"{shortened(value)}: {rule}")
    addend = -addend if sign == "-" else addend
    first_byte = len(masked[1]) // 2 - 1 if masked else 0
    return Relocation(offset, size, symbol, addend, generic is not None, first_byte)


def _encoded(value: str, type_name: str, line: int) -> bytes:
    """Little endian bytes of a constant."""
    constant = immediate(value)
    bits = None if constant is None else _bits(constant, type_name)
    if bits is None:
        raise PtxError(line, f"{shortened(value)} is no value of type .{type_name}")
    return bits.to_bytes(size_of(type_name), "little")


def _bits(constant: Immediate, type_name: str) -> int | None:
    """The bit pattern, or None when the constant does not fit the type."""
    width = BITS[type_name]
    if constant.type == "int":
        fits = -(1 << width - 1) <= constant.bits < 1 << width
        return constant.bits % (1 << width) if fits and type_name[0] in "bus" else None
    if constant.type == type_name:
        return constant.bits
    if (constant.type, type_name) == ("f64", "f32"):
        return _single(constant.bits)
    return None


def _single(double: int) -> int | None:
    """A double's bits -> those of the nearest float; None when it is too large for one."""
    number = struct.unpack("<d", double.to_bytes(8, "little"))[0]
    try:
        return int.from_bytes(struct.pack("<f", number), "little")
    except OverflowError:
        return None
