"""Matrix: the warp-level matrix instructions; each registers itself where it is written."""

from __future__ import annotations

from tuner.emulator.isa import ldmatrix, mma

__all__ = ["ldmatrix", "mma"]
