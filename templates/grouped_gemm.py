"""grouped_gemm: from (problem, config) to source, and from row counts to a launch."""

from __future__ import annotations

import numpy as np

from search_spaces.errors import UserError
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.grouped_gemm_space import smem_bytes
from search_spaces.layouts import swizzle, tile_layouts
from search_spaces.problem import ALIGNMENT, Problem
from templates.filled import filled
from templates.launch_shape import LaunchShape, Pass
from templates.variant import Variant

HEADERS = ("#include <light_moe/grouped_gemm_sm75.cuh>",)
_CACHE = {"ca": "kAll", "cg": "kGlobal", "cs": "kStreaming", "nc": "kReadOnly"}
_ACCUMULATE = {"f32": "kF32", "f16": "kF16"}
_COMBINE = {
    "none": "kNone", "ordered": "kOrdered", "atomic": "kAtomic", "reduce": "kReduce",
}  # fmt: skip
_EPILOGUE = {"plain": "kPlain", "swiglu": "kSwiGlu", "geglu": "kGeGlu", "reglu": "kReGlu"}


def render(problem: Problem, config: GroupedGemmConfig) -> Variant:
    """Source of the kernel for a valid config. N, K, epilogue, gather and the way to combine are
    baked in; row counts and top_k are not.

    Configs with equal ``compile_key`` give equal variants, whatever model names the problem.
    """
    key = config.compile_key
    return filled(
        problem.op,
        HEADERS,
        key.threads,
        smem_bytes(key),
        n=problem.n,
        k=problem.k,
        out_n=problem.columns,
        epilogue=_EPILOGUE[problem.epilogue],
        gather=problem.gather,
        combine=_COMBINE[key.combine],
        config=key,
        layouts=tile_layouts(key),
        swizzle=swizzle(key.smem),
        xor=key.smem.startswith("sw"),
        steps=key.tile_k // key.warps_k // key.k_step,
        promote_steps=key.promote_every * 16 // key.k_step,
        accumulate=_ACCUMULATE.get(key.acc, "kPromoted"),
        cache=_CACHE[key.cache],
    )


def most_m_tiles(problem: Problem, config: GroupedGemmConfig, rows: int) -> int:
    """Upper bound of the tiles along M over all experts, however the router spreads the rows.

    An expert with r > 0 rows has ceil(r / tile_m) tiles; over all experts that is at most
    (rows + active x (tile_m - 1)) / tile_m, with no more active experts than rows.
    """
    active = min(problem.experts, rows)
    return (rows + active * (config.tile_m - 1)) // config.tile_m


def launch_shape(problem: Problem, config: GroupedGemmConfig, rows: int) -> LaunchShape:
    """Grids and scratch for ``rows`` sorted rows.

    The kernel's pointers are A, B, C, offsets, rows (null unless the problem gathers), slots and
    weights (null unless it combines); its scalars experts, m_tiles, group_m, split_k, top_k and
    pass. Raises UserError where rows are combined and the last token lacks some.
    """
    if problem.combine and rows % problem.top_k:
        raise UserError(
            f"{rows} rows are no whole tokens of top_k={problem.top_k}: every slot of a token that "
            "is combined needs its row"
        )
    m_tiles = most_m_tiles(problem, config, rows)
    tiles_n = -(-problem.n // config.tile_n)
    tiles = m_tiles * tiles_n
    split = config.split_k > 1
    scalars = (problem.experts, m_tiles, config.group_m, config.split_k, problem.top_k)
    grids = [((tiles, config.split_k, 1), smem_bytes(config))]
    if config.combine == "reduce":
        chunks = problem.rows_of_c(rows) * problem.n // ALIGNMENT
        grids.append(((-(-chunks // config.threads), 1, 1), 0))
    passes = (
        Pass(grid, smem, tuple(map(np.int32, (*scalars, number))))
        for number, (grid, smem) in enumerate(grids)
    )
    parts = 2 * rows * problem.n if config.combine in ("ordered", "reduce") else 0
    return LaunchShape(
        passes=tuple(passes),
        workspace_bytes=4 * tiles * config.split_k * config.tile_m * config.tile_n * split + parts,
        counters=_counters(config, tiles * split, tiles_n, problem.tokens(rows), problem.n),
    )


def _counters(
    config: GroupedGemmConfig, split_tiles: int, tiles_n: int, tokens: int, n: int
) -> int:
    """int32: one a tile where K is split, then one a token and n-tile, and with atomic sums these.

    What stands behind others starts on 16 bytes.
    """
    each = {"ordered": tiles_n, "atomic": _up_to_16_bytes(tiles_n) + n}.get(config.combine)
    return split_tiles if each is None else _up_to_16_bytes(split_tiles) + tokens * each


def _up_to_16_bytes(numbers: int) -> int:
    return -(-numbers // 4) * 4
