"""Banks: how many wavefronts a warp's access to shared memory takes.

32 banks, each 4 bytes wide. A warp's access is served in phases: all lanes at once for up to 4
bytes a lane, half-warps for 8, quarter-warps for 16; ``ldmatrix`` has a phase for each 8x8 matrix,
its 8 rows of 16 bytes, which is a quarter-warp again. In a phase each bank delivers one word per
wavefront; lanes that want the same word share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.emulator.isa.values import WARP, Array

WAVEFRONT_BYTES = 128


@dataclass(frozen=True)
class SharedCounts:
    """Accesses to shared memory.

    ``requests``: warps with an active lane. ``wavefronts``: what they took. ``ideal``: phases with
    an active lane, so that the difference counts bank conflicts and nothing else; bytes that a
    partly active phase leaves idle are no conflict. ``bytes``: what the active lanes asked for.
    """

    requests: int = 0
    wavefronts: int = 0
    ideal: int = 0
    bytes: int = 0

    @property
    def conflicts(self) -> int:
        """Wavefronts that bank conflicts added."""
        return self.wavefronts - self.ideal

    def __add__(self, other: SharedCounts) -> SharedCounts:
        return SharedCounts(
            self.requests + other.requests,
            self.wavefronts + other.wavefronts,
            self.ideal + other.ideal,
            self.bytes + other.bytes,
        )


def bank_use(
    address: Array, mask: Array | None, bytes_per_lane: int, *, atomic: bool = False
) -> SharedCounts:
    """Wavefronts for addresses [lanes] of aligned accesses; ``mask`` None means all lanes.

    The lanes of an ``atomic`` share nothing: those that change one word take turns.
    """
    unit = max(4, bytes_per_lane)
    banks = WAVEFRONT_BYTES // unit  # as many as lanes in a phase, each ``unit`` bytes wide
    units = (address // np.uint64(unit)).astype(np.int64).reshape(-1, banks)
    active = np.ones(units.shape, np.bool_) if mask is None else mask.reshape(-1, banks)
    # Sorted by bank and then by unit, a bank's units are neighbours and equal ones too.
    rows = units // banks
    span = int(rows.max(where=active, initial=0)) + 1
    keys = np.where(active, units % banks * span + rows, banks * span)
    keys.sort(axis=1)
    new = np.ones(keys.shape, np.bool_)
    if not atomic:
        new[:, 1:] = keys[:, 1:] != keys[:, :-1]
    new &= keys < banks * span
    phase = np.arange(len(keys))[:, None]
    loads = np.bincount((phase * banks + keys // span % banks)[new], minlength=keys.size)
    wavefronts = loads.reshape(-1, banks).max(axis=1)
    return SharedCounts(
        requests=int(np.count_nonzero(active.reshape(-1, WARP).any(axis=1))),
        wavefronts=int(wavefronts.sum()),
        ideal=int(np.count_nonzero(wavefronts)),
        bytes=int(np.count_nonzero(active)) * bytes_per_lane,
    )
