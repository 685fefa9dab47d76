"""Memory: state spaces, their bounds, and who may see whose writes."""

from tuner.emulator.memory.access import Order
from tuner.emulator.memory.memory import Memory
from tuner.emulator.memory.private import Private

__all__ = ["Memory", "Order", "Private"]
