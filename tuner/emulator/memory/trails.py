"""Trails: who accessed each place of a memory last, as 64-bit keys in maps.

A map has one key for each granule. Granules are as wide as the narrowest access so far: they start
with 16 bytes and are split when a narrower access comes, which loses nothing, since every earlier
access covered whole granules.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.isa.values import Array
from tuner.emulator.memory.arena import LINE

# A key's lowest bits hold the PTX line of the access.
LINE_BITS = 19
LAST_LINE = (1 << LINE_BITS) - 1


@dataclass(frozen=True, slots=True)
class Place:
    """The granules of an access: ``count`` beginning at ``index * count`` for each lane."""

    index: Array
    count: int

    def granules(self, flat: Array) -> Array:
        """Single granules, by index into the flattened keys [n, count] of this place."""
        if self.count == 1:
            return self.index.take(flat)
        lane, granule = np.divmod(flat, self.count)
        granules: Array = self.index.take(lane) * self.count + granule
        return granules


class Trails:
    """Maps by name, over ``size`` bytes; those in ``initial`` exist with the keys given there."""

    def __init__(self, size: int, initial: dict[str, int]) -> None:
        self._granules, self._granule = max(-(-size // LINE), 1), LINE
        self.maps: dict[str, Array] = {}
        for name, key in initial.items():
            self.add(name, key)

    def add(self, name: str, key: int) -> None:
        """A new map full of ``key``."""
        self.maps[name] = np.full(self._granules, key, np.uint64)

    def place(self, offset: Array, size: int) -> Place:
        """Where accesses of ``size`` bytes at ``offset`` [n] have their keys."""
        if size < self._granule:
            pieces = self._granule // size
            self.maps = {name: np.repeat(keys, pieces) for name, keys in self.maps.items()}
            self._granules, self._granule = self._granules * pieces, size
        return Place(offset >> (size.bit_length() - 1), size // self._granule)

    def get(self, name: str, place: Place) -> Array:
        """Keys [n, count]."""
        keys = self.maps[name]
        if place.count == 1:
            return keys.take(place.index)[:, None]
        return keys.reshape(-1, place.count).take(place.index, axis=0)

    def put(self, name: str, place: Place, keys: Array) -> None:
        """Sets keys [n, count] or [n, 1]; where lanes meet, the last one stays."""
        if place.count == 1:
            self.maps[name][place.index] = keys[:, 0]
        else:
            self.maps[name].reshape(-1, place.count)[place.index] = keys
