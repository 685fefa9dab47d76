"""Patch: the part of C that a CTA of a grouped GEMM writes, worked out on the host.

The kernel finds its part on the device (raster and find_expert_tile of the template); this is the
same rule told a second time, in plain Python, to check a sample of CTAs against.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from search_spaces.problem import Problem
from templates.grouped_gemm import launch_shape, most_m_tiles
from templates.launch_shape import LaunchShape


@dataclass(frozen=True)
class Patch:
    """Rows and columns of C, all of one expert; ``tile`` is blockIdx.x of its CTAs."""

    tile: int
    expert: int
    rows: range
    columns: range


def patches(problem: Problem, config: Any, histogram: Sequence[int]) -> list[Patch]:
    """One for each tile of C, in the order of blockIdx.x; tiles beyond the last row have none."""
    shape = launch_shape(problem, config, sum(histogram))
    m_tiles = most_m_tiles(problem, config, sum(histogram))
    found = []
    strips = _strips(config.tile_m, histogram)
    for tile in range(shape.passes[0].grid[0]):
        m_tile, n_tile = _raster(tile, m_tiles, problem, config)
        if m_tile < len(strips):
            expert, rows = strips[m_tile]
            first = n_tile * config.tile_n * problem.columns // problem.n
            width = config.tile_n * problem.columns // problem.n
            columns = range(first, min(first + width, problem.columns))
            found.append(Patch(tile, expert, rows, columns))
    return found


def spread(found: Sequence[Patch], count: int) -> list[Patch]:
    """``count`` of them, evenly spread, the first and the last among them; all if that is fewer."""
    if count >= len(found):
        return list(found)
    if count == 1:
        return [found[0]]
    return [found[index * (len(found) - 1) // (count - 1)] for index in range(count)]


def ctas_of(found: Sequence[Patch], shape: LaunchShape) -> list[int]:
    """Linear indices of the CTAs that work on these patches, all splits of each."""
    tiles, splits, _ = shape.passes[0].grid
    return [patch.tile + tiles * split for split in range(splits) for patch in found]


def _strips(tile_m: int, histogram: Sequence[int]) -> list[tuple[int, range]]:
    """Expert and rows of every m-tile: ceil(rows / tile_m) of them an expert."""
    ends = list(accumulate(histogram))
    return [
        (expert, range(first, min(first + tile_m, end)))
        for expert, (end, rows) in enumerate(zip(ends, histogram, strict=True))
        for first in range(end - rows, end, tile_m)
    ]


def _raster(tile: int, m_tiles: int, problem: Problem, config: Any) -> tuple[int, int]:
    """``group_m`` m-tiles share a sweep over n."""
    group, within = divmod(tile, config.group_m * -(-problem.n // config.tile_n))
    height = min(config.group_m, m_tiles - group * config.group_m)
    n_tile, m_tile = divmod(within, height)
    return group * config.group_m + m_tile, n_tile
