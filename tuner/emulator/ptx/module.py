"""A PTX module and its kernels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.emulator.ptx.instruction import Instruction
from tuner.emulator.ptx.variable import Param, Variable


@dataclass(frozen=True, slots=True)
class Entry:
    """A kernel.

    ``variables`` are those declared in its body. ``labels`` give the index of the instruction
    they stand before, ``len(instructions)`` at the very end. ``directives`` are the performance
    tuning directives: ``maxntid`` and ``reqntid`` with three numbers, others with one.
    Names declared in an inner block get a ``#2``, ``#3``, ... where the plain name is taken, so
    that every name of an entry means one thing.
    """

    name: str
    params: tuple[Param, ...]
    variables: tuple[Variable, ...]
    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    directives: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Module:
    """A module for ``target`` (``sm_75``), with 64-bit addresses."""

    version: str
    target: str
    address_size: int
    variables: tuple[Variable, ...]
    entries: Mapping[str, Entry]
