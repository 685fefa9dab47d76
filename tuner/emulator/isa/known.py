"""Known: importing this registers the semantics of every family of instructions."""

from tuner.emulator.isa import (
    approx,
    async_copy,
    atomic,
    bits,
    collective,
    compare,
    convert,
    fences,
    floating,
    half,
    integer,
    matrix,
    moves,
    transfer,
    warp_barrier,
)

__all__ = [
    "approx",
    "async_copy",
    "atomic",
    "bits",
    "collective",
    "compare",
    "convert",
    "fences",
    "floating",
    "half",
    "integer",
    "matrix",
    "moves",
    "transfer",
    "warp_barrier",
]
