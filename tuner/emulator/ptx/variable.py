"""What has an address: kernel parameters and variables (PTX ISA, "Variable Declarations")."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Param:
    """A kernel parameter: ``size`` bytes in all, ``count`` elements or None for a scalar."""

    name: str
    type: str
    align: int
    size: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Relocation:
    """The address of ``symbol`` plus ``addend``, to be put ``offset`` bytes into a variable.

    ``generic`` asks for the generic address, otherwise it is the one within the symbol's own
    state space. Of its eight bytes, little endian, ``size`` go there, from ``first_byte`` on: all
    of them, or one each where a packed structure takes a pointer apart.
    """

    offset: int
    size: int
    symbol: str
    addend: int
    generic: bool
    first_byte: int = 0


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable in ``space`` (shared, local, global, const; param around a call).

    ``size`` counts bytes, 0 for ``extern ... []``. ``initial`` holds all ``size`` bytes,
    zero where a relocation belongs; None when the declaration has no initialiser.
    """

    name: str
    space: str
    type: str
    align: int
    size: int
    external: bool
    initial: bytes | None
    relocations: tuple[Relocation, ...] = ()
