"""fused_gate: from (problem, config) to source, and from token counts to launches."""

from __future__ import annotations

from typing import Any

import numpy as np

from search_spaces.gate import GateConfig
from search_spaces.gate_layout import (
    columns,
    lane_share,
    parts,
    smem_bytes,
    stride,
    vector,
)
from search_spaces.gate_problem import GateProblem
from search_spaces.layouts import swizzle, tile_layouts
from search_spaces.permutation import chunk_count, histogram_bytes
from templates.filled import filled
from templates.launch_shape import LaunchShape, Pass
from templates.variant import Variant

HEADERS = ("#include <light_moe/gate_sm75.cuh>",)
SORTED_AT_ONCE = 16  # slots a thread of the CTA that sorts all rows: it keeps them in registers
CHOOSE, PLACE = 0, 1  # passes
_ELEMENT = {"f16": "cute::half_t", "bf16": "cute::bfloat16_t", "f32": "float"}
_ROUTER = {"none": "kNone", "fma": "kFma", "mma": "kMma"}


def render(problem: GateProblem, config: GateConfig) -> Variant:
    """Source of the kernel for a valid config. The problem is baked in, token counts are not.

    Configs with equal ``compile_key`` give equal variants, whatever model names the problem.
    """
    key = config.compile_key
    return filled(
        problem.op,
        HEADERS,
        key.threads,
        smem_bytes(problem, key),
        problem=problem,
        config=key,
        element=_ELEMENT[problem.dtype],
        router=_ROUTER[key.router],
        share=lane_share(problem, key.lanes),
        vector=_load_width(problem, key),
        columns=columns(problem, key),
        stride=stride(problem, key),
        parts=parts(problem, key),
        k_tiles=-(-problem.hidden // max(1, key.tile_k)),
        sorted_slots=SORTED_AT_ONCE * key.threads,
        **(_mma(key) if key.router == "mma" else _fma(problem, key)),
    )


def _mma(key: GateConfig) -> dict[str, Any]:
    tile = key.mma_tile
    return {
        "tile": tile,
        "layouts": tile_layouts(tile),
        "swizzle": swizzle(tile.smem),
        "steps": tile.tile_k // tile.warps_k // tile.k_step,
    }


def _fma(problem: GateProblem, key: GateConfig) -> dict[str, Any]:
    logits = key.tile_t * stride(problem, key) if parts(problem, key) == 1 else 0
    return {"vectors": key.tile_k // (32 * vector(problem)), "planes": logits}


def _load_width(problem: GateProblem, config: GateConfig) -> int:
    """Logits that a lane loads at once: as many as fit 16 bytes and divide what lanes begin at."""
    share = lane_share(problem, config.lanes)
    width = vector(problem) if config.router == "none" else 4
    size = problem.experts // problem.groups
    while problem.experts % width or share.share % width or size % width:
        width //= 2
    return width


def launch_shape(
    problem: GateProblem, config: GateConfig, tokens: int, scaling: float = 1.0
) -> LaunchShape:
    """Grids and scratch for ``tokens`` tokens; routed weights are multiplied by ``scaling``.

    The kernel's pointers are x, router, bias, ids, weights, offsets, rows, slots, inverse and
    flag, those that the problem does not use null; its scalars tokens, scaling, the number of
    chunks in which rows are sorted, and the pass. Without tokens, only the offsets are written.
    """
    blocks, split_in = -(-tokens // config.tile_t), parts(problem, config)
    if config.tail == "last":
        chunks = chunk_count(tokens * problem.slots, SORTED_AT_ONCE * config.threads)
    else:
        chunks = max(1, blocks)
    scalars = (np.int32(tokens), np.float32(scaling), np.int32(chunks))
    smem = smem_bytes(problem, config)
    passes = []
    if tokens:
        passes.append(Pass((blocks, split_in, 1), smem, (*scalars, np.int32(CHOOSE))))
    if config.tail == "pass" or not tokens:
        passes.append(Pass((chunks, 1, 1), smem, (*scalars, np.int32(PLACE))))
    partial = 4 * config.tile_t * stride(problem, config) * config.split
    return LaunchShape(
        passes=tuple(passes),
        workspace_bytes=histogram_bytes(problem.all_experts, chunks)
        + blocks * partial * (split_in > 1),
        counters=1 + blocks * (split_in > 1),
    )
