"""Traffic: how many bytes a grouped GEMM moves through device memory and L2."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.problem import Problem

SEGMENT_BYTES = 23  # what a DRAM loses at each contiguous piece: see ``segment_cost``
# Where pieces of half a cache line cost still more: measured on HBM3, assumed of HBM2e.
HALF_LINES = {"sm_80": 1.35, "sm_90": 1.35}
STREAMED_ONCE = 0.985  # ld.global.cs: measured on an H100, where weights are read once
ATOMIC_SECTORS = 2.0  # an L2 sector changed by an atomic counts as read and written
STREAMED_AGAIN = 1.02  # a guess: lines that leave L2 first are not there for the next m-tile
SECTOR = 32  # bytes of L2 that an access moves at least
L2_KEPT = 0.5  # share of L2 that survives between two uses: the rest holds what streams through


@dataclass(frozen=True)
class TileGrid:
    """The output tiles of one launch. An expert with r rows has ceil(r / tile_m) m-tiles."""

    rows: int
    rows_of_c: int
    m_tiles: int
    n_tiles: int
    k_tiles: int
    split_k: int
    idle_m_tiles: int  # launched for a routing that spreads the rows worse

    @classmethod
    def of(cls, problem: Problem, c: GroupedGemmConfig, rows: Sequence[int]) -> TileGrid:
        """Tiles for ``rows`` per expert, [E]."""
        total, m_tiles = sum(rows), sum(-(-r // c.tile_m) for r in rows)
        launched = (total + min(len(rows), total) * (c.tile_m - 1)) // c.tile_m
        return cls(
            rows=total,
            rows_of_c=problem.rows_of_c(total),
            m_tiles=m_tiles,
            idle_m_tiles=launched - m_tiles,
            n_tiles=-(-problem.n // c.tile_n),
            k_tiles=-(-problem.k // c.tile_k),
            split_k=c.split_k,
        )

    @property
    def ctas(self) -> int:
        """CTAs with work to do."""
        return self.m_tiles * self.n_tiles * self.split_k

    @property
    def idle_ctas(self) -> int:
        """CTAs that find no rows and leave: the grid must do for every routing of the rows."""
        return self.idle_m_tiles * self.n_tiles * self.split_k

    @property
    def iterations(self) -> int:
        """k-tiles of the longest split."""
        return -(-self.k_tiles // self.split_k)

    def outputs(self, c: GroupedGemmConfig) -> int:
        """Elements of all output tiles, those beyond an expert's rows or N included."""
        return self.m_tiles * c.tile_m * self.n_tiles * c.tile_n


@dataclass(frozen=True)
class Traffic:
    """Bytes of a whole launch: through device memory, and between L2 and the SMs."""

    dram: float
    l2: float


def segment_cost(c: GroupedGemmConfig, gpu: GpuSpec) -> float:
    """Device-memory time per byte against the data sheet's, for rows read tile_k halves at a time.

    A k-tile is a piece of 2 x tile_k bytes from each of many distant rows. On an H100 pieces of 256
    bytes arrive at 3,080 GB/s, of 128 at 2,850, of 64 at 1,680 (K = 4096) or 1,900 (K = 1024),
    whatever else the config is.
    """
    piece = 2 * c.tile_k
    return (1 + SEGMENT_BYTES / piece) * (HALF_LINES.get(gpu.arch, 1.0) if piece < 128 else 1.0)


def traffic(
    problem: Problem,
    c: GroupedGemmConfig,
    gpu: GpuSpec,
    rows: Sequence[int],
    grid: TileGrid,
    resident: int,
) -> Traffic:
    """Bytes moved when ``resident`` CTAs run at once.

    The raster walks m-tiles in groups of ``group_m``; a group sweeps all n-tiles before the next
    begins. CTAs that run at once share what they read through L2. Weights are read again for each
    group their expert reaches into, unless they stay in L2; A is read again in each wave of a
    sweep, unless the group's rows survive the weights that stream past between two waves.
    """
    group = min(c.group_m, grid.m_tiles)
    k_bytes = 2 * problem.k / c.split_k  # of one row, in one split's slice of K
    at_once = group * max(1.0, resident / (group * grid.n_tiles))  # m-tiles that share weights
    kept = L2_KEPT * gpu.l2_bytes
    weights = 0.0
    for count, experts in Counter(rows).items():
        tiles = -(-count // c.tile_m)
        stays = problem.n * k_bytes <= kept or tiles <= 1
        reads = 1.0 if stays else 1 + (tiles - 1) / at_once
        if c.cache == "cs":
            reads *= STREAMED_ONCE if tiles <= 1 else STREAMED_AGAIN
        weights += experts * reads * problem.expert_bytes * (count > 0)

    sweep_waves = max(1.0, group * grid.n_tiles / resident)
    streamed = min(grid.n_tiles, resident / group) * c.tile_n * k_bytes
    a_stays = group * c.tile_m * k_bytes + streamed <= kept
    a_reads = 1.0 if a_stays else sweep_waves
    a_bytes, c_bytes = 2.0 * grid.rows * problem.k, 2.0 * grid.rows_of_c * problem.columns
    once = 2.0 * problem.rows_of_a(grid.rows) * problem.k
    if problem.gather and once <= kept:  # a token's experts find its row in L2
        a_reads *= once / a_bytes
    index = 4.0 * grid.rows if problem.gather else 0.0  # every n-tile asks for it, from L2

    workspace = 2 * 4.0 * grid.outputs(c) * c.split_k if c.split_k > 1 else 0.0
    combined, counted = _combined(problem, c, grid)
    workspace += combined
    spilled = workspace if workspace + weights > kept else 0.0  # the weights stream it out of L2
    return Traffic(
        dram=segment_cost(c, gpu) * (weights + a_reads * a_bytes) + index + c_bytes + spilled,
        l2=grid.m_tiles * problem.expert_bytes
        + grid.n_tiles * (a_bytes + index)
        + c_bytes
        + workspace
        + counted,
    )


def _combined(problem: Problem, c: GroupedGemmConfig, grid: TileGrid) -> tuple[float, float]:
    """Bytes of weighted rows between L2 and the SMs, and of what counts them.

    Rows are written in fp16 and read once; or added to fp32 sums, which are read and zeroed. A
    slot and a weight are read for each tile of a row. Counters are an L2 sector each time.
    """
    if c.combine == "none":
        return 0.0, 0.0
    index = 8.0 * grid.rows * grid.n_tiles
    sectors = ATOMIC_SECTORS * SECTOR * grid.rows * grid.n_tiles
    if c.combine == "atomic":
        added = ATOMIC_SECTORS * 4.0 * grid.rows * problem.n
        return added + 2 * 4.0 * grid.rows_of_c * problem.n, index + sectors
    parts = 2 * 2.0 * grid.rows * problem.n
    return parts, index + (sectors if c.combine == "ordered" else 0.0)
