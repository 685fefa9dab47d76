"""PTX reader: the text NVRTC writes -> kernels, instructions and variables."""

from tuner.emulator.ptx.error import PtxError
from tuner.emulator.ptx.instruction import Instruction
from tuner.emulator.ptx.module import Entry, Module
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
from tuner.emulator.ptx.reader import TARGETS, read_module
from tuner.emulator.ptx.variable import Param, Relocation, Variable

__all__ = [
    "TARGETS",
    "Address",
    "Entry",
    "Immediate",
    "Instruction",
    "Label",
    "Module",
    "Negated",
    "Operand",
    "Pair",
    "Param",
    "PtxError",
    "Register",
    "Relocation",
    "Sink",
    "Special",
    "Symbol",
    "Variable",
    "Vector",
    "read_module",
]
