"""Emulator: runs generated PTX on a CPU."""
