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

    ``size`` is the number of bytes it fills. ``generic`` asks for the generic address, otherwise
    it is the one within the symbol's own state space.
    """

    offset: int
    size: int
    symbol: str
    addend: int
    generic: bool


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
