"""moe_permute: from a config to source, and from token counts to a launch."""

from __future__ import annotations

import numpy as np

from search_spaces.permutation import chunk_count, histogram_bytes, permute_smem_bytes
from search_spaces.permute_config import PermuteConfig
from search_spaces.permute_problem import MOST_GROUPS, PermuteProblem
from templates.filled import filled
from templates.launch_shape import LaunchShape, Pass
from templates.variant import Variant

HEADERS = ("#include <light_moe/moe_permute.cuh>",)


def render(problem: PermuteProblem, config: PermuteConfig) -> Variant:
    """Source of the kernel for a config; it serves every problem."""
    smem = permute_smem_bytes(MOST_GROUPS, config.threads)
    return filled(problem.op, HEADERS, config.threads, smem, config=config)


def launch_shape(problem: PermuteProblem, config: PermuteConfig, tokens: int) -> LaunchShape:
    """Grids and scratch for ``tokens`` tokens; offsets are written even if there are none.

    The kernel's pointers are ids, slot_map, num_valid, offsets, rows, slots and inverse; its
    scalars tokens, top_k, experts, replicas, groups and the pass.
    """
    chunks = chunk_count(tokens * problem.top_k, config.chunk)
    sizes = (tokens, problem.top_k, problem.experts, problem.replicas, problem.groups)
    smem = permute_smem_bytes(problem.groups, config.threads)
    several = chunks > 1
    return LaunchShape(
        passes=tuple(
            Pass((chunks, 1, 1), smem, (*map(np.int32, sizes), np.int32(number)))
            for number in range(1 + several)
        ),
        workspace_bytes=histogram_bytes(problem.groups, chunks) * several,
        counters=0,
    )
