"""grouped_gemm: from (problem, config) to source, and from row counts to a launch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.grouped_gemm_space import smem_bytes
from search_spaces.layouts import swizzle, tile_layouts
from search_spaces.problem import Problem
from templates.literal import literal
from templates.variant import Variant

HEADERS = ("#include <light_moe/grouped_gemm_sm75.cuh>",)
_CACHE = {"ca": "kAll", "cg": "kGlobal", "cs": "kStreaming", "nc": "kReadOnly"}
_ACCUMULATE = {"f32": "kF32", "f16": "kF16"}
_EPILOGUE = {"plain": "kPlain", "swiglu": "kSwiGlu", "geglu": "kGeGlu", "reglu": "kReGlu"}


@lru_cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("templates", ""), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["literal"] = literal
    return environment


def render(problem: Problem, config: GroupedGemmConfig) -> Variant:
    """Source of the kernel for a valid config. N, K, epilogue and gather are baked in; row counts
    are not.

    Configs with equal ``compile_key`` give equal variants, whatever model names the problem.
    """
    key = config.compile_key
    block = (
        _environment()
        .get_template("grouped_gemm.cu.jinja")
        .render(
            n=problem.n,
            k=problem.k,
            out_n=problem.columns,
            epilogue=_EPILOGUE[problem.epilogue],
            gather=problem.gather,
            config=key,
            layouts=tile_layouts(key),
            swizzle=swizzle(key.smem),
            xor=key.smem.startswith("sw"),
            steps=key.tile_k // key.warps_k // key.k_step,
            promote_steps=key.promote_every * 16 // key.k_step,
            accumulate=_ACCUMULATE.get(key.acc, "kPromoted"),
            cache=_CACHE[key.cache],
            entry="{entry}",
        )
    )
    entry = f"lm_{hashlib.sha256(block.encode()).hexdigest()[:16]}"
    return Variant(
        op=problem.op,
        entry=entry,
        source=block.replace("{entry}", entry),
        threads=key.threads,
        smem_bytes=smem_bytes(key),
        headers=HEADERS,
        tier="sm_75",
    )


@dataclass(frozen=True)
class LaunchShape:
    """What a launch needs besides pointers to A, B, C, offsets, rows, workspace and counters.

    ``rows`` is null unless the problem gathers. ``counters`` is a number of int32, zero before and
    after. ``scalars`` follow the pointers in the kernel's parameter list: experts, m_tiles,
    group_m, split_k.
    """

    grid: tuple[int, int, int]
    workspace_bytes: int
    counters: int
    scalars: tuple[np.int32, np.int32, np.int32, np.int32]

    @property
    def m_tiles(self) -> int:
        """Upper bound of the tiles along M over all experts."""
        return int(self.scalars[1])


def launch_shape(problem: Problem, config: GroupedGemmConfig, rows: int) -> LaunchShape:
    """Grid and scratch for ``rows`` sorted rows, however the router spreads them over experts.

    An expert with r > 0 rows has ceil(r / tile_m) tiles; over all experts that is at most
    (rows + active x (tile_m - 1)) / tile_m, with no more active experts than rows.
    """
    active = min(problem.experts, rows)
    m_tiles = (rows + active * (config.tile_m - 1)) // config.tile_m
    tiles = m_tiles * -(-problem.n // config.tile_n)
    split = config.split_k > 1
    return LaunchShape(
        grid=(tiles, config.split_k, 1),
        workspace_bytes=4 * tiles * config.split_k * config.tile_m * config.tile_n * split,
        counters=tiles * split,
        scalars=(
            np.int32(problem.experts),
            np.int32(m_tiles),
            np.int32(config.group_m),
            np.int32(config.split_k),
        ),
    )
