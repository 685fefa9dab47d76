"""Layouts of a grouped GEMM tile, computed with pycute from the config alone.

The template prints them as finished ``cute::Layout`` literals; the cost model counts their bank
conflicts. All offsets are in halves. Vocabulary: operand X lies on the 16-wide axis of the MMA
and operand Y on the 8-wide one; tokens are X, weights Y, unless the config swaps them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from pycute import Layout, Swizzle

from search_spaces.grouped_gemm import GroupedGemmConfig

CHUNK = 8  # halves of one 128-bit access: a row of an 8x8 matrix, one lane of ldmatrix
BANKS_PER_CHUNK = 8  # a 128-byte wavefront of shared memory serves eight 16-byte chunks


def swizzle(smem: str) -> Swizzle:
    """The swizzle of a shared-memory layout name; the identity for ``none`` and ``padP``."""
    bits, base, shift = map(int, smem[2:].split(".")) if smem.startswith("sw") else (0, 3, 3)
    return Swizzle(bits, base, shift)


@dataclass(frozen=True)
class Operand:
    """One operand's way from shared memory into MMA fragments.

    ``extent`` rows belong to a warp. A k-step is ``matrices`` 8x8 matrices; ``width`` of them
    arrive per ldmatrix. ``thread`` maps the thread index to the offset of the row it addresses,
    before swizzling; ``rows`` maps the ldmatrix number within one k8 (or k16) group to a static
    row offset. ``k_groups`` is how many ldmatrix groups along k a k-step has.
    """

    extent: int
    width: int
    k_groups: int
    thread: Layout
    rows: Layout

    @property
    def loads(self) -> int:
        """ldmatrix instructions per k group."""
        return int(self.rows.size())


def _operand(config: GroupedGemmConfig, extent: int, warp_strides: tuple[int, int, int]) -> Operand:
    """``warp_strides``: halves between neighbouring warps along M, N and K."""
    row, blocks, k8 = config.row_halves, extent // 8, config.k_step // 8
    width = min(4, blocks * k8)
    idle = 32 // (8 * width)  # lanes whose address ldmatrix ignores repeat those of the others
    if blocks >= width:  # an ldmatrix stays within one k8: its lanes walk down the rows
        lanes: tuple[tuple[int, ...], tuple[int, ...]] = ((8 * width, idle), (row, 0))
        k_groups, loads = k8, blocks // width
    else:  # few rows: it spans both k8 halves of the k-step
        lanes = ((8 * blocks, width // blocks, idle), (row, CHUNK, 0))
        k_groups, loads = 1, 1
    shape = lanes[0] + (config.warps_m, config.warps_n, config.warps_k)
    return Operand(
        extent=extent,
        width=width,
        k_groups=k_groups,
        thread=Layout(shape, lanes[1] + warp_strides),
        rows=Layout((loads,), (8 * width * row,)),
    )


@dataclass(frozen=True)
class TileLayouts:
    """All layouts of one config.

    ``copy``: thread -> offset of its 128-bit chunk in a staged pass of ``pass_rows`` rows.
    ``x``, ``y``: ldmatrix of the two operands. ``c_x``, ``c_y``: thread -> row on either MMA axis
    of its first accumulator in the CTA tile.
    """

    copy: Layout
    pass_rows: int
    x: Operand
    y: Operand
    c_x: Layout
    c_y: Layout


def warp_tile(config: GroupedGemmConfig) -> tuple[int, int]:
    """Extents of a warp's tile along the 16-wide and the 8-wide MMA axis."""
    m, n = config.tile_m // config.warps_m, config.tile_n // config.warps_n
    return (n, m) if config.swap else (m, n)


def tile_layouts(config: GroupedGemmConfig) -> TileLayouts:
    """Layouts of a valid config."""
    row, chunks = config.row_halves, config.tile_k // CHUNK
    extent_x, extent_y = warp_tile(config)
    warps = (config.warps_m, config.warps_n, config.warps_k)
    k_slice = config.tile_k // config.warps_k
    along_m = (row * config.tile_m // config.warps_m, 0, k_slice)
    along_n = (0, row * config.tile_n // config.warps_n, k_slice)
    c_m, c_n = (config.tile_m // config.warps_m, 0, 0), (0, config.tile_n // config.warps_n, 0)
    pass_rows = config.threads // chunks
    return TileLayouts(
        copy=Layout((chunks, pass_rows), (CHUNK, row)),
        pass_rows=pass_rows,
        x=_operand(config, extent_x, along_n if config.swap else along_m),
        y=_operand(config, extent_y, along_m if config.swap else along_n),
        c_x=Layout((4, 8, *warps), (0, 1, *(c_n if config.swap else c_m))),
        c_y=Layout((4, 8, *warps), (2, 0, *(c_m if config.swap else c_n))),
    )


@dataclass(frozen=True)
class BankConflicts:
    """Extra shared-memory wavefronts per wavefront needed: 0 is ideal, 7 the worst."""

    store: float
    load_x: float
    load_y: float

    @property
    def worst(self) -> float:
        """The largest of the three."""
        return max(self.store, self.load_x, self.load_y)


def _conflict_rate(offset: Callable[[int], int], threads: int) -> float:
    """Eight lanes make one wavefront when their chunks fall into different banks."""
    extra = 0
    for first in range(0, threads, 8):
        banks = Counter(
            chunk % BANKS_PER_CHUNK
            for chunk in {offset(lane) // CHUNK for lane in range(first, first + 8)}
        )
        extra += max(banks.values()) - 1
    return extra / (threads / 8)


@lru_cache(maxsize=4096)
def bank_conflicts(config: GroupedGemmConfig) -> BankConflicts:
    """Conflict rates of the tile stores and of both operands' ldmatrix, from the layouts."""
    layouts, swz = tile_layouts(config), swizzle(config.smem)

    def rate(layout: Layout, threads: int) -> float:
        return _conflict_rate(lambda thread: int(swz(layout(thread))), threads)

    return BankConflicts(
        store=rate(layouts.copy, 32),
        load_x=rate(layouts.x.thread, 32),
        load_y=rate(layouts.y.thread, 32),
    )
