"""Text of the operands -> operands (PTX ISA, "Instruction Operands")."""

from __future__ import annotations

import re

from tuner.emulator.ptx.error import PtxError, shortened
from tuner.emulator.ptx.number import immediate, integer
from tuner.emulator.ptx.operand import (
    Address,
    Immediate,
    Label,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Vector,
)
from tuner.emulator.ptx.scope import Scope

# One operand and the comma behind it, if any.
_OPERAND = re.compile(r"\s*(\{[^{}]*\}|\[[^\[\]]*\]|[^\s,{}\[\]][^,{}\[\]]*?)\s*(,|$)")
# Two words and nothing between them: no operand has that.
_GAP = re.compile(r"[\w$]\s+[\w$%@.]")
_NAME = re.compile(r"(?:[A-Za-z][\w$]*|[_$%][\w$]+)$")
_OFFSETS = re.compile(r"([^\s+-]+)\s*((?:[+-]\s*-?\s*\w+\s*)*)$")
_OFFSET = re.compile(r"([+-])\s*(-?)\s*(\w+)")
# PTX ISA, "Special Registers".
_SPECIAL = re.compile(
    r"""%(?:n?(?:tid|ctaid)(?:\.[xyzw])? | n?(?:warpid|smid) | laneid | gridid
    | lanemask_(?:eq|le|lt|ge|gt) | clock(?:_hi|64)? | pm[0-7](?:_64)? | globaltimer(?:_lo|_hi)?
    | envreg(?:[12]?\d|3[01]) | (?:total|aggr|dynamic)_smem_size
    | reserved_smem_offset_(?:begin|end|cap|[01]) | current_graph_exec)$""",
    re.VERBOSE,
)


def read_operands(text: str, scope: Scope, line: int) -> tuple[Operand, ...]:
    """The operands of one instruction, with every name looked up.

    Raises PtxError for a name that is not declared and for text that is no operand.
    """
    operands: list[Operand] = []
    position, more = 0, bool(text)
    while more:
        found = _OPERAND.match(text, position)
        if found is None:
            rest = text[position:] or text
            raise PtxError(line, f"{shortened(rest)}: no operand, or no ',' behind it")
        operands.append(read_operand(found[1], scope, line))
        position, more = found.end(), found[2] == ","
    return tuple(operands)


def read_operand(text: str, scope: Scope, line: int) -> Operand:
    """One operand. Raises PtxError as read_operands does."""
    if text[0] == "[":
        return _address(text, scope, line)
    if text[0] == "{":
        return _vector(text, scope, line)
    if text[0] == "!":
        return Negated(read_predicate(text[1:].strip(), scope, line))
    if "|" in text:
        first, _, second = text.partition("|")
        return Pair(
            _destination(first.strip(), scope, line), _destination(second.strip(), scope, line)
        )
    return _plain(text, scope, line)


def read_predicate(text: str, scope: Scope, line: int) -> Register:
    """A declared register of type ``pred``. Raises PtxError for anything else."""
    meaning = scope.find(text)
    if meaning is None:
        raise _undeclared(text, line)
    if not isinstance(meaning, Register) or meaning.type != "pred":
        raise PtxError(line, f"{text!r} is no predicate: declare it with '.reg .pred'")
    return meaning


def _plain(text: str, scope: Scope, line: int) -> Operand:
    """An operand without brackets."""
    meaning = scope.find(text)
    if meaning is not None:
        return meaning
    if text == "_":
        return Sink()
    if _GAP.search(text):
        raise PtxError(line, f"{shortened(text)}: a ',' or ';' is missing")
    if text[0] in "0123456789.+-":
        constant = immediate(text)
        if constant is not None:
            return constant
        symbol = _OFFSETS.match(text)
        if symbol is None or integer(symbol[1]) is None:
            raise PtxError(line, f"{shortened(text)}: no constant of at most 64 bits")
        raise PtxError(line, f"{shortened(text)}: write a constant as one number, not as a sum")
    if text == "WARP_SZ" or _SPECIAL.match(text):
        return Special(text)
    base, offset = _base_and_offset(text, scope, line)
    if isinstance(base, Symbol):
        return Symbol(base.name, offset)
    raise PtxError(line, f"{shortened(text)}: only the address of a variable takes an offset")


def _address(text: str, scope: Scope, line: int) -> Address:
    inside = text[1:-1].strip()
    base, offset = _base_and_offset(inside, scope, line)
    return Address(base, offset)


def _base_and_offset(text: str, scope: Scope, line: int) -> tuple[Register | Symbol | None, int]:
    """``%rd1+-16``, ``name+4+8`` or a number alone."""
    found = _OFFSETS.match(text)
    if found is None:
        raise PtxError(line, f"{shortened(text)}: an address is a name or number plus offsets")
    offset = 0
    for plus_or_minus, sign, digits in _OFFSET.findall(found[2]):
        value = integer(digits)
        if value is None:
            raise PtxError(line, f"{shortened(text)}: the offset {digits!r} is no integer")
        offset += -value if (plus_or_minus == "-") != (sign == "-") else value
    start = integer(found[1])
    if start is not None:
        return None, start + offset
    meaning = scope.find(found[1])
    if meaning is None:
        raise _undeclared(found[1], line)
    if isinstance(meaning, Label):
        raise PtxError(line, f"{shortened(text)}: {found[1]!r} is a label, not a variable")
    return meaning, offset


def _vector(text: str, scope: Scope, line: int) -> Vector:
    elements: list[Register | Immediate | Sink] = []
    for part in text[1:-1].split(","):
        element = _plain(part.strip(), scope, line) if part.strip() else None
        if not isinstance(element, Register | Immediate | Sink):
            raise PtxError(line, f"{shortened(text)}: a vector holds registers, constants or '_'")
        elements.append(element)
    return Vector(tuple(elements))


def _destination(text: str, scope: Scope, line: int) -> Register | Sink:
    operand = _plain(text, scope, line) if text else None
    if isinstance(operand, Register | Sink):
        return operand
    raise PtxError(line, f"{shortened(text)}: only registers or '_' stand beside a '|'")


def _undeclared(text: str, line: int) -> PtxError:
    if _NAME.match(text):
        return PtxError(line, f"{text!r} is not declared: no register, variable or label here")
    return PtxError(line, f"{shortened(text)} is no operand of PTX")
