"""Sectors: how many 32-byte sectors a warp's access to global memory touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.isa.values import WARP, Array

SECTOR_BYTES = 32
_NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class GlobalCounts:
    """Accesses to global memory.

    ``requests``: warps with an active lane. ``sectors``: what they touched, warp by warp.
    ``ideal``: the sectors that each warp's distinct bytes would fill if they lay side by side.
    ``bytes``: what the active lanes asked for.
    """

    requests: int = 0
    sectors: int = 0
    ideal: int = 0
    bytes: int = 0

    @property
    def sector_bytes(self) -> int:
        """Bytes that the sectors move."""
        return self.sectors * SECTOR_BYTES

    def __add__(self, other: GlobalCounts) -> GlobalCounts:
        return GlobalCounts(
            self.requests + other.requests,
            self.sectors + other.sectors,
            self.ideal + other.ideal,
            self.bytes + other.bytes,
        )


def _distinct(keys: Array) -> Array:
    """How many values other than _NOBODY each row has; sorts ``keys`` in place."""
    keys.sort(axis=1)
    new = keys != _NOBODY
    new[:, 1:] &= keys[:, 1:] != keys[:, :-1]
    counts: Array = np.count_nonzero(new, axis=1)
    return counts


def sector_use(address: Array, mask: Array | None, bytes_per_lane: int) -> GlobalCounts:
    """Sectors of aligned accesses at ``address`` [lanes], at most one sector wide each."""
    places = address.reshape(-1, WARP)
    sectors = places // np.uint64(SECTOR_BYTES)
    lanes = address.size
    if mask is None:
        places = places.copy()
    else:
        active = mask.reshape(-1, WARP)
        lanes = int(np.count_nonzero(active))
        places, sectors = (np.where(active, array, _NOBODY) for array in (places, sectors))
    wanted = _distinct(places) * bytes_per_lane
    touched = _distinct(sectors)
    return GlobalCounts(
        requests=int(np.count_nonzero(touched)),
        sectors=int(touched.sum()),
        ideal=int((-(-wanted // SECTOR_BYTES)).sum()),
        bytes=lanes * bytes_per_lane,
    )
