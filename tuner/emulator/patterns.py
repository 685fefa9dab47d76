"""Patterns: what an access cost, remembered for the next one of the same shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np

from tuner.emulator.isa.values import Array

CAPACITY = 1024  # patterns of 16 KiB at most in a cohort of 2048 lanes
_WAVEFRONT = np.uint64(128)

Cost = TypeVar("Cost")


class Patterns(Generic[Cost]):
    """``measure`` of (address [lanes], mask, bytes per lane) must not change with the address.

    That is: an access moved by whole wavefronts (128 bytes) costs the same. A loop that walks
    through memory then repeats a few patterns.
    """

    def __init__(self, measure: Callable[[Array, Array | None, int], Cost]) -> None:
        self._measure = measure
        self._known: dict[tuple[Any, ...], Cost] = {}

    def cost(self, address: Array, mask: Array | None, bytes_per_lane: int) -> Cost:
        """``mask`` None means all lanes; at least one lane must be active."""
        first = 0 if mask is None else int(mask.argmax())
        relative = address - address[first] // _WAVEFRONT * _WAVEFRONT
        if mask is None:
            key: tuple[Any, ...] = (bytes_per_lane, relative.tobytes())
        else:
            key = (bytes_per_lane, (relative * mask).tobytes(), mask.tobytes())
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= CAPACITY:
                self._known.clear()
            found = self._known[key] = self._measure(address, mask, bytes_per_lane)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Another process finds its own."""
        return {"_measure": self._measure, "_known": {}}
