"""Constants (PTX ISA, "Constants"): integers, decimal and hexadecimal floats."""

from __future__ import annotations

import re
import struct

from tuner.emulator.ptx.operand import Immediate

_INTEGER = re.compile(
    r"([+-]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|(0[0-7]*)|([1-9][0-9]{0,19}))U?$"
)
_FLOAT = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?$")
_HEX_FLOAT = re.compile(r"0(?:[fF]([0-9a-fA-F]{8})|[dD]([0-9a-fA-F]{16}))$")


def integer(text: str) -> int | None:
    """The value of an integer literal that fits in 64 bits; None for anything else."""
    found = _INTEGER.match(text)
    if found is None:
        return None
    sign, hexadecimal, binary, octal, decimal = found.groups()
    if hexadecimal is not None:
        value = int(hexadecimal, 16)
    elif binary is not None:
        value = int(binary, 2)
    else:
        value = int(octal, 8) if octal is not None else int(decimal)
    value = -value if sign == "-" else value
    return value if -(1 << 63) <= value < 1 << 64 else None


def immediate(text: str) -> Immediate | None:
    """The constant that ``text`` spells, or None. Decimal floats are f64, as the ISA says."""
    value = integer(text)
    if value is not None:
        return Immediate(value, "int")
    found = _HEX_FLOAT.match(text)
    if found is not None:
        single, double = found.groups()
        return Immediate(int(single, 16), "f32") if single else Immediate(int(double, 16), "f64")
    if _FLOAT.match(text):
        return Immediate(struct.unpack("<Q", struct.pack("<d", float(text)))[0], "f64")
    return None
