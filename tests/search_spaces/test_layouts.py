"""Layouts proved against the PTX ISA: what ldmatrix and mma.m16n8k8 read, lane by lane.

Nothing here uses the layouts to say what is right: shared memory is a dictionary from offsets to
(row, k), written as the kernel writes it and read as ldmatrix reads it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pycute import Layout

from search_spaces import GroupedGemmConfig, SpaceView
from search_spaces.grouped_gemm_space import GROUPED_GEMM
from search_spaces.layouts import Operand, bank_conflicts, swizzle, tile_layouts, warp_tile
from tests.search_spaces.spaces import LAYOUTS, MIXTRAL, ONE_OF_EACH, TURING, reduced

SMEM = next(p.values for p in GROUPED_GEMM.parameters if p.name == "smem")


def sampled(count: int, seed: int) -> list[GroupedGemmConfig]:
    rng = random.Random(seed)
    return [LAYOUTS.sample(rng) for _ in range(count)]


def permuted(smem: str, offset: int) -> int:
    """CuTe's Swizzle<B, M, S>: B bits from M + S on are XORed onto the B bits from M on."""
    if not smem.startswith("sw"):
        return offset
    bits, base, shift = (int(part) for part in smem[2:].split("."))
    return offset ^ ((offset >> (base + shift)) % (1 << bits) << base)


def values(layout: Layout, threads: int) -> list[int]:
    return [int(layout(t)) for t in range(threads)]


def written(config: GroupedGemmConfig, rows: int) -> dict[int, tuple[int, int]]:
    """Shared memory after a tile of ``rows`` rows is stored: offset of a half -> (row, k).

    A thread fetches the chunk number thread % chunks of row thread / chunks + pass x pass_rows
    and stores it at its swizzled offset of pass 0 plus a static one.
    """
    layouts, chunks = tile_layouts(config), config.tile_k // 8
    copy = values(layouts.copy, config.threads)
    memory: dict[int, tuple[int, int]] = {}
    for first in range(0, rows, layouts.pass_rows):
        for thread in range(config.threads):
            row = thread // chunks + first
            if row < rows:
                slot = permuted(config.smem, copy[thread]) + first * config.row_halves
                for i in range(8):
                    assert slot + i not in memory, "two chunks share a place"
                    memory[slot + i] = (row, thread % chunks * 8 + i)
    assert sorted(memory.values()) == [(r, k) for r in range(rows) for k in range(config.tile_k)]
    assert max(memory) < rows * config.row_halves
    return memory


def warp_origin(config: GroupedGemmConfig, warp: int) -> tuple[int, int, int]:
    """First row, column and k of a warp: warps are numbered along M, then N, then K."""
    m, rest = warp % config.warps_m, warp // config.warps_m
    n, k = rest % config.warps_n, rest // config.warps_n
    return (
        m * (config.tile_m // config.warps_m),
        n * (config.tile_n // config.warps_n),
        k * (config.tile_k // config.warps_k),
    )


def fragments(
    config: GroupedGemmConfig, operand: Operand, memory: dict[int, tuple[int, int]], step: int
) -> Iterator[tuple[int, int, tuple[tuple[int, int], tuple[int, int]]]]:
    """(thread, matrix number in its registers, its two elements) after a k-step's ldmatrix.

    PTX ISA, ldmatrix: lane l < 8 x width addresses row l % 8 of matrix l / 8; lane l receives
    elements 2 (l % 4) and the next of row l / 4 of each matrix.
    """
    thread_offset = values(operand.thread, config.threads)
    for group in range(operand.k_groups):
        k = step * config.k_step + 8 * group
        for load in range(operand.loads):
            static = int(operand.rows(load))

            def address(thread: int, k: int = k, static: int = static) -> int:
                base = permuted(config.smem, thread_offset[thread])
                padded = config.smem.startswith("pad")
                return (base + k if padded else base ^ permuted(config.smem, k)) + static

            for thread in range(config.threads):
                warp, lane = thread // 32 * 32, thread % 32
                for matrix in range(operand.width):
                    row = address(warp + 8 * matrix + lane // 4)
                    assert row % 8 == 0, "ldmatrix rows start on 16 bytes"
                    pair = memory[row + 2 * (lane % 4)], memory[row + 2 * (lane % 4) + 1]
                    yield thread, operand.width * (group * operand.loads + load) + matrix, pair


def prove(config: GroupedGemmConfig) -> None:
    layouts = tile_layouts(config)
    tiles = {"m": written(config, config.tile_m), "n": written(config, config.tile_n)}
    x_axis, y_axis = ("n", "m") if config.swap else ("m", "n")
    for operand, axis in ((layouts.x, x_axis), (layouts.y, y_axis)):
        blocks = operand.extent // 8
        matrices = blocks * config.k_step // 8
        for step in range(config.tile_k // config.warps_k // config.k_step):
            seen = 0
            for thread, matrix, pair in fragments(config, operand, tiles[axis], step):
                m, n, k = warp_origin(config, thread // 32)
                # PTX ISA, mma.m16n8k8: a0, a1 lie in row lane / 4, a2, a3 eight rows below, b0, b1
                # in column lane / 4, all at k = 2 (lane % 4) and the next. So register q of either
                # operand wants block q % blocks of 8 rows and block q / blocks of 8 along k.
                row = (m if axis == "m" else n) + 8 * (matrix % blocks) + thread % 32 // 4
                first_k = k + step * config.k_step + 8 * (matrix // blocks) + 2 * (thread % 4)
                assert pair == ((row, first_k), (row, first_k + 1)), (str(config), thread, matrix)
                seen += 1
            assert seen == matrices * config.threads


def test_ldmatrix_delivers_what_the_mma_wants() -> None:
    rng = random.Random(11)
    configs = [
        reduced(**{**ONE_OF_EACH, "smem": (smem,), "swap": (swap,), "warps_k": (warps_k,)})
        .view(MIXTRAL, TURING)
        .sample(rng)
        for smem in SMEM
        for swap in (False, True)
        for warps_k in (1, 2, 4)
    ]
    for config in configs:
        prove(config)
    covered = {
        "k_step": {c.k_step for c in configs},
        "x": {tile_layouts(c).x.width for c in configs},
        "y": {tile_layouts(c).y.width for c in configs},
    }
    assert covered == {
        "k_step": {8, 16},
        "x": {2, 4},  # the 16-wide axis has two blocks of 8 at least
        "y": {1, 2, 4},
    }


def test_a_wrong_swizzle_is_noticed() -> None:
    """The proof can fail: the config that swizzle_passes refuses reads what nobody stored there."""
    wrong = GroupedGemmConfig.parse("32x32x128_w1x2x1_s2_sw3.3.4_f32_r1x8_mn_ca_o1_g1_k1")
    assert [v.constraint for v in LAYOUTS.explain(wrong)] == ["swizzle_passes"]
    with pytest.raises(AssertionError):
        prove(wrong)


def test_accumulators_cover_the_tile_once_per_slice_of_k() -> None:
    for config in sampled(60, seed=12):
        layouts = tile_layouts(config)
        x, y = warp_tile(config)
        c_x, c_y = values(layouts.c_x, config.threads), values(layouts.c_y, config.threads)
        # PTX ISA: c0, c1 in row lane / 4, columns 2 (lane % 4) and the next; c2, c3 8 rows below
        covered = Counter(
            (c_x[t] + 16 * i + 8 * half, c_y[t] + 8 * j + v)
            for t in range(config.threads)
            for i in range(x // 16)
            for j in range(y // 8)
            for half in (0, 1)
            for v in (0, 1)
        )
        width, height = (config.tile_n, config.tile_m)[:: 1 if config.swap else -1]
        expected = {(a, b) for a in range(width) for b in range(height)}
        assert set(covered) == expected
        assert set(covered.values()) == {config.warps_k}
        for t in range(0, config.threads, 7):
            m, n, _ = warp_origin(config, t // 32)
            first = (n, m) if config.swap else (m, n)
            assert (c_x[t], c_y[t]) == (first[0] + t % 32 // 4, first[1] + 2 * (t % 4))


def distinct_in_shared_memory(view: SpaceView = LAYOUTS) -> list[GroupedGemmConfig]:
    """One config for each way of storing tiles: all of them, not a sample."""
    found: dict[tuple[object, ...], GroupedGemmConfig] = {}
    for c in view:
        found.setdefault((c.tile_m, c.tile_n, c.tile_k, c.threads, c.smem), c)
    return list(found.values())


def offsets_move(config: GroupedGemmConfig) -> bool:
    """Whether adding a static row offset before swizzling differs from adding it after."""
    layouts, tile = tile_layouts(config), max(config.tile_m, config.tile_n)
    slots = values(layouts.copy, config.threads)
    steps = [r * config.row_halves for r in range(0, tile, layouts.pass_rows)]
    swizzled = [permuted(config.smem, slot) for slot in slots]
    return any(
        permuted(config.smem, slot + step) != there + step
        for slot, there in zip(slots, swizzled, strict=True)
        for step in steps
        if slot + step < tile * config.row_halves
    )


def test_static_row_offsets_commute_with_every_swizzle() -> None:
    """The kernel swizzles a thread's offset once and adds what is known at compile time."""
    configs = [c for c in distinct_in_shared_memory() if c.smem.startswith("sw")]
    assert len(configs) > 200
    assert [str(c) for c in configs if offsets_move(c)] == []


def test_swizzle_passes_refuses_only_what_would_break() -> None:
    rule = next(c for c in GROUPED_GEMM.constraints if c.name == "swizzle_passes")
    without = replace(LAYOUTS.space, constraints=tuple(
        c for c in LAYOUTS.space.constraints if c is not rule
    ))  # fmt: skip
    refused = [
        config
        for config in distinct_in_shared_memory(without.view(MIXTRAL, TURING))
        if rule.check(config, MIXTRAL, TURING) is not None
    ]
    assert len(refused) > 5
    assert all(offsets_move(config) for config in refused)


@pytest.mark.parametrize("smem", ["none", "sw1.3.3", "sw2.3.3", "sw3.3.3", "sw3.3.4"])
def test_swizzles_are_as_defined_and_linear_over_xor(smem: str) -> None:
    swz = swizzle(smem)
    rng = random.Random(14)
    for _ in range(200):
        a, b = rng.randrange(1 << 15), rng.randrange(1 << 15)
        assert int(swz(a)) == permuted(smem, a)
        assert int(swz(a ^ b)) == int(swz(a)) ^ int(swz(b))


# -- bank conflicts -----------------------------------------------------------------------------


def half_offset(config: GroupedGemmConfig, row: int, chunk: int) -> int:
    pad = int(config.smem[3:]) if config.smem.startswith("pad") else 0
    return permuted(config.smem, row * (config.tile_k + pad) + 8 * chunk)


def wavefronts(config: GroupedGemmConfig, lanes: list[tuple[int, int]]) -> int:
    """Wavefronts of a 128-bit phase: the most different 4-byte words any of 32 banks must serve."""
    words: dict[int, set[int]] = {}
    for row, chunk in lanes:
        first = half_offset(config, row, chunk) * 2 // 4
        for word in range(first, first + 4):
            words.setdefault(word % 32, set()).add(word)
    return max(len(wanted) for wanted in words.values())


def extra(config: GroupedGemmConfig, phases: list[list[tuple[int, int]]]) -> float:
    return sum(wavefronts(config, lanes) - 1 for lanes in phases) / len(phases)


def store_phases(config: GroupedGemmConfig) -> list[list[tuple[int, int]]]:
    """A warp stores 32 consecutive chunks, row after row, eight lanes at a time."""
    chunks = config.tile_k // 8
    return [[divmod(lane, chunks) for lane in range(p, p + 8)] for p in range(0, 32, 8)]


def load_phases(config: GroupedGemmConfig, extent: int) -> list[list[tuple[int, int]]]:
    """An ldmatrix reads a matrix of eight rows at a time: down the rows first, then along k."""
    blocks = extent // 8
    width = min(4, blocks * config.k_step // 8)
    return [[(j % blocks * 8 + lane, j // blocks) for lane in range(8)] for j in range(width)]


def test_bank_conflicts_match_a_simulation_of_32_banks() -> None:
    worst = Counter[float]()
    for config in sampled(150, seed=15):
        counted = bank_conflicts(config)
        x, y = warp_tile(config)
        assert counted.store == extra(config, store_phases(config)), str(config)
        assert counted.load_x == extra(config, load_phases(config, x)), str(config)
        assert counted.load_y == extra(config, load_phases(config, y)), str(config)
        worst[counted.worst] += 1
    assert set(worst) >= {0.0, 1.0, 3.0, 7.0}


@pytest.mark.parametrize(
    ("tile_k", "smem", "store", "load"),
    [
        (32, "none", 0, 3),  # rows of 64 bytes: every second row starts in the same bank
        (64, "none", 0, 7),  # rows of 128 bytes: all eight start in the same bank
        (128, "none", 0, 7),
        (32, "sw2.3.3", 0, 0),
        (64, "sw3.3.3", 0, 0),
        (128, "sw3.3.4", 0, 0),
        (64, "pad8", 0, 0),
        (32, "pad8", 1, 0),  # a phase of stores spans two rows, 80 bytes apart
    ],
)
def test_bank_conflicts_known_by_heart(tile_k: int, smem: str, store: int, load: int) -> None:
    config = GroupedGemmConfig.parse(f"64x64x{tile_k}_w2x2x1_s1_{smem}_f32_r1x8_mn_ca_o1_g1_k1")
    counted = bank_conflicts(config)
    assert (counted.store, counted.load_x, counted.load_y) == (store, load, load)
