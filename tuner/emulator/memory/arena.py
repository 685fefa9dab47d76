"""Arena: a run of bytes that arrays of addresses read and write."""

from __future__ import annotations

from typing import Any

import numpy as np

from tuner.emulator.isa.values import Array

# 16 bytes move as one element: NumPy copies complex128 without looking at it.
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.uint8),
    2: np.dtype(np.uint16),
    4: np.dtype(np.uint32),
    8: np.dtype(np.uint64),
    16: np.dtype(np.complex128),
}
_SHIFTS = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}
LINE = 16  # the widest access, in bytes
POISON = 0xFF  # what lies in memory that nobody wrote: NaN as a float of any width


class Arena:
    """``size`` bytes (rounded up to whole lines). Offsets must be inside and aligned."""

    def __init__(self, size: int, fill: int = 0) -> None:
        lines = -(-size // LINE)
        self.bytes = np.zeros(max(lines, 1), np.complex128).view(np.uint8)
        if fill:
            self.bytes.fill(fill)
        self._views = {width: self.bytes.view(dtype) for width, dtype in _DTYPES.items()}

    def gather(self, offset: Array, size: int, width: int) -> Array:
        """``size`` bytes at each offset [n], as [n, size / width] of unsigned integers."""
        rows = self._views[size].take(offset >> _SHIFTS[size])
        values: Array = rows.view(_DTYPES[width]).reshape(len(offset), -1)
        return values

    def scatter(self, offset: Array, values: Array) -> None:
        """Writes [n, k] unsigned integers; where offsets meet, the last one stays."""
        size = values.itemsize * values.shape[1]
        rows = np.ascontiguousarray(values).view(_DTYPES[size])[:, 0]
        self._views[size][offset >> _SHIFTS[size]] = rows
