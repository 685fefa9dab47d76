"""Bounds: whether addresses lie in a memory that begins at 0."""

from __future__ import annotations

import numpy as np

from tuner.emulator.fault import FaultKind
from tuner.emulator.memory.access import Access


def check_bounds(access: Access, size: int, place: str) -> None:
    """Raises EmulationFault unless all lies within ``size`` bytes (``place``) and is aligned."""
    if int(access.address.max()) + access.size > size:
        # No address is inside where the memory is smaller than the access.
        outside = access.address > np.uint64(max(size - access.size, 0))
        index = int(outside.argmax()) if size >= access.size else 0
        start = int(access.address[index])
        out = start + access.size - size
        what = f"at {start:#x}: {out} bytes beyond {place} ({size} bytes)"
        raise access.fault(FaultKind.OUT_OF_BOUNDS, index, what)
    access.check_alignment(place)
