"""Wavefronts against 32 banks simulated word by word, and against the layouts' own counts."""

from __future__ import annotations

import numpy as np
import pytest

from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.layouts import bank_conflicts, swizzle, tile_layouts
from tuner.emulator.banks import SharedCounts, bank_use
from tuner.emulator.isa.values import Array


def simulate(address: Array, mask: Array | None, size: int, *, atomic: bool) -> SharedCounts:
    """Each phase's banks as sets of words; an atomic's as lists, for nobody shares a word."""
    per_phase = 32 if size <= 4 else 128 // size
    wavefronts = ideal = 0
    active = [lane for lane in range(len(address)) if mask is None or mask[lane]]
    for first in range(0, len(address), per_phase):
        banks: dict[int, list[int]] = {}
        for lane in (lane for lane in active if first <= lane < first + per_phase):
            begin = int(address[lane])
            for word in range(begin // 4, (begin + size - 1) // 4 + 1):
                banks.setdefault(word % 32, []).append(word)
        if banks:
            loads = [len(words if atomic else set(words)) for words in banks.values()]
            wavefronts += max(loads)
            ideal += 1
    requests = len({lane // 32 for lane in active})
    return SharedCounts(requests, wavefronts, ideal, size * len(active))


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("atomic", [False, True])
def test_random_accesses_take_what_the_banks_take(size: int, atomic: bool) -> None:
    rng = np.random.default_rng(size)
    for trial in range(40):
        warps = int(rng.integers(1, 9))
        span = [16, 200, 4096][trial % 3]
        address = rng.integers(0, span, 32 * warps).astype(np.uint64) * np.uint64(size)
        mask = None if trial % 4 == 0 else rng.random(32 * warps) < [0.05, 0.5, 0.95][trial % 3]
        if mask is not None:
            address[~mask] = rng.integers(0, 1 << 63)  # what the others hold is garbage
        expected = simulate(address, mask, size, atomic=atomic)
        assert bank_use(address, mask, size, atomic=atomic) == expected


LANE = np.arange(32, dtype=np.uint64)


@pytest.mark.parametrize(
    ("address", "size", "wavefronts", "ideal"),
    [
        (LANE * 4, 4, 1, 1),
        (LANE * 0, 4, 1, 1),  # broadcast
        (LANE * 8, 4, 2, 1),
        (LANE * 128, 4, 32, 1),
        (LANE * 132, 4, 1, 1),  # padded by a word
        (LANE * 2, 2, 1, 1),
        (LANE, 1, 1, 1),
        (LANE * 8, 8, 2, 2),
        (LANE * 16, 16, 4, 4),
        (LANE * 128, 16, 32, 4),
        (LANE * 144, 16, 4, 4),  # padded by 16 bytes
        (LANE % 2 * 128, 16, 8, 4),
    ],
)
def test_patterns_everyone_knows(address: Array, size: int, wavefronts: int, ideal: int) -> None:
    found = bank_use(address, None, size)
    assert (found.wavefronts, found.ideal) == (wavefronts, ideal)
    assert found.conflicts == wavefronts - ideal


def test_nobody_active_costs_nothing() -> None:
    assert bank_use(LANE, np.zeros(32, np.bool_), 4) == SharedCounts()


NAMES = (
    "128x32x32_w4x1x2_s4_sw1.3.3_f16p2_r1x8_mn_ca_o1_g16_k2",
    "16x32x128_w2x2x4_s2_sw3.3.3_f16_r2x8_nm_cs_o1_g8_k1",
    "16x32x32_w1x2x1_s3_pad8_f16p2_r1x8_mn_cs_o4_g8_k2",
    "16x64x32_w1x4x2_s4_sw2.3.3_f16_r1x16_nm_cs_o3_g1_k2",
    "64x128x128_w4x2x1_s1_sw3.3.4_f16p8_r2x8_mn_cs_o1_g4_k1",
    "64x128x32_w1x4x1_s3_none_f16p8_r1x8_mn_nc_o1_g16_k1",
    "32x128x64_w1x2x4_s2_none_f32_r1x16_mn_cs_o1_g8_k1",
    "32x32x32_w4x2x1_s4_pad8_f32_r1x8_nm_cg_o2_g4_k1",
)


@pytest.mark.parametrize("name", NAMES)
def test_tile_layouts_conflict_as_the_cost_model_says(name: str) -> None:
    config = GroupedGemmConfig.parse(name)
    layouts, turned = tile_layouts(config), swizzle(config.smem)
    rates = []
    for layout in (layouts.copy, layouts.x.thread, layouts.y.thread):
        halves = [int(turned(layout(thread))) for thread in range(32)]
        found = bank_use(np.array(halves, np.uint64) * np.uint64(2), None, 16)
        rates.append(found.conflicts / found.ideal)
    known = bank_conflicts(config)
    assert rates == [known.store, known.load_x, known.load_y]


def test_the_configs_above_have_conflicts_and_none() -> None:
    worst = [bank_conflicts(GroupedGemmConfig.parse(name)).worst for name in NAMES]
    assert min(worst) == 0
    assert max(worst) == 7
