"""Emulator: runs the PTX of a kernel on a CPU, checks what it does and counts what it costs."""

from tuner.emulator.arguments import Unwritten
from tuner.emulator.emulation import Emulation
from tuner.emulator.fault import EmulationFault, FaultKind
from tuner.emulator.launch import emulate

__all__ = ["Emulation", "EmulationFault", "FaultKind", "Unwritten", "emulate"]
