"""Sectors against sets of the bytes that each warp asks for."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.emulator.isa.values import Array
from tuner.emulator.sectors import GlobalCounts, sector_use

BASE = 0x7000_0000_0000


def simulate(address: Array, mask: Array | None, size: int) -> GlobalCounts:
    requests = sectors = ideal = asked = 0
    for first in range(0, len(address), 32):
        lanes = [lane for lane in range(first, first + 32) if mask is None or mask[lane]]
        touched = {int(address[lane]) + i for lane in lanes for i in range(size)}
        requests += bool(lanes)
        sectors += len({byte // 32 for byte in touched})
        ideal += -(-len(touched) // 32)
        asked += size * len(lanes)
    return GlobalCounts(requests, sectors, ideal, asked)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_random_accesses_touch_what_their_bytes_touch(size: int) -> None:
    rng = np.random.default_rng(size)
    for trial in range(40):
        warps = int(rng.integers(1, 9))
        span = [8, 100, 1 << 20][trial % 3]
        address = BASE + rng.integers(0, span, 32 * warps).astype(np.uint64) * np.uint64(size)
        mask = None if trial % 4 == 0 else rng.random(32 * warps) < [0.05, 0.5, 0.95][trial % 3]
        if mask is not None:
            address[~mask] = rng.integers(0, 1 << 63)
        kept = address.copy()
        assert sector_use(address, mask, size) == simulate(address, mask, size)
        assert (address == kept).all()


LANE = np.arange(32, dtype=np.uint64)


@pytest.mark.parametrize(
    ("address", "size", "sectors", "ideal"),
    [
        (LANE * 4, 4, 4, 4),
        (LANE * 4 + 4, 4, 5, 4),  # starts off a sector's edge
        (LANE * 0, 4, 1, 1),
        (LANE * 8, 4, 8, 4),
        (LANE * 4096, 4, 32, 4),
        (LANE * 16, 16, 16, 16),
        (LANE // 8 * 4096 + LANE % 8 * 16, 16, 16, 16),
        (LANE * 2, 2, 2, 2),
    ],
)
def test_patterns_everyone_knows(address: Array, size: int, sectors: int, ideal: int) -> None:
    found = sector_use(address + np.uint64(BASE), None, size)
    assert (found.requests, found.sectors, found.ideal) == (1, sectors, ideal)
    assert found.sector_bytes == 32 * sectors
    assert found.bytes == 32 * size


def test_nobody_active_costs_nothing() -> None:
    assert sector_use(LANE, np.zeros(32, np.bool_), 4) == GlobalCounts()
