"""Sizes of arrays."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.emulator.ptx.error import PtxError
from tuner.emulator.ptx.number import integer
from tuner.emulator.ptx.scalar import size_of

# A slip of the pen must not exhaust the host's memory.
MAX_BYTES = 1 << 30
MAX_EXTENTS = 8


def read_count(text: str, line: int) -> int:
    """An integer from 1 to MAX_BYTES. Raises PtxError for anything else."""
    value = integer(text)
    if value is None or not 1 <= value <= MAX_BYTES:
        raise PtxError(line, f"{text!r} is no count: it must be an integer from 1 to {MAX_BYTES}")
    return value


def array_bytes(type_name: str, extents: Sequence[int], line: int) -> int:
    """Bytes of an array; of one value without extents. Raises PtxError where that is absurd."""
    size = size_of(type_name)
    for extent in extents:
        size *= extent
    if size > MAX_BYTES or len(extents) > MAX_EXTENTS:
        rule = f"at most {MAX_BYTES} bytes in {MAX_EXTENTS} extents"
        raise PtxError(line, f"an array of {size} bytes in {len(extents)} extents: {rule}")
    return size
