"""Sectors: how many 32-byte sectors a warp's access to global memory touches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.isa.values import WARP, Array

SECTOR_BYTES = 32
_NOBODY = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True)
class SectorUse:
    """One execution by several warps. ``requests``: warps with an active lane.

    ``ideal``: the sectors that each warp's distinct bytes would fill if they lay side by side.
    """

    requests: int
    lanes: int
    sectors: int
    ideal: int


def _distinct(keys: Array) -> Array:
    """How many values other than _NOBODY each row has; sorts ``keys`` in place."""
    keys.sort(axis=1)
    new = keys != _NOBODY
    new[:, 1:] &= keys[:, 1:] != keys[:, :-1]
    counts: Array = np.count_nonzero(new, axis=1)
    return counts


def sector_use(address: Array, mask: Array | None, bytes_per_lane: int) -> SectorUse:
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
    return SectorUse(
        requests=int(np.count_nonzero(touched)),
        lanes=lanes,
        sectors=int(touched.sum()),
        ideal=int((-(-wanted // SECTOR_BYTES)).sum()),
    )
