"""Operands of an instruction (PTX ISA, "Instruction Operands")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Register:
    """``%r1``; ``type`` as declared, without the dot: ``b32``, ``pred``, ..."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Special:
    """A special register or ``WARP_SZ``; the name as written: ``%tid.x``."""

    name: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A constant. ``int``: ``bits`` is the signed value; ``f32``, ``f64``: the bit pattern."""

    bits: int
    type: str


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable, parameter or function, plus ``offset`` bytes."""

    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Address:
    """``[base+offset]``, in bytes; without a base the offset is the whole address."""

    base: Register | Symbol | None
    offset: int


@dataclass(frozen=True, slots=True)
class Label:
    """A branch target."""

    name: str


@dataclass(frozen=True, slots=True)
class Sink:
    """``_``: a destination nobody reads."""


@dataclass(frozen=True, slots=True)
class Negated:
    """``!%p1`` as a source."""

    register: Register


@dataclass(frozen=True, slots=True)
class Vector:
    """``{%f1, %f2}``."""

    elements: tuple[Register | Immediate | Sink, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """``%r1|%p1``: two destinations of one instruction."""

    first: Register | Sink
    second: Register | Sink


Operand: TypeAlias = (
    Register | Special | Immediate | Symbol | Address | Label | Sink | Negated | Vector | Pair
)
