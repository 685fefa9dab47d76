"""What follows from a gate's problem and config: whose experts, how much memory."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from search_spaces.grouped_gemm_space import smem_bytes as ring_bytes
from search_spaces.permutation import permute_smem_bytes

# Floats between two tokens in shared memory: a warp's pairs fall into different banks.
PAD = 8


@dataclass(frozen=True)
class LaneShare:
    """How experts are spread over the lanes that share a token, in ascending order.

    ``group_lanes`` (a power of two) lanes share a group of experts, ``share`` experts each; where
    there are more groups than lanes, a lane has ``lane_groups`` whole ones. An op without groups
    has one.
    """

    group_lanes: int
    lane_groups: int
    share: int

    @property
    def items(self) -> int:
        """Experts of a lane, at most."""
        return self.lane_groups * self.share


def lane_share(problem: GateProblem, lanes: int) -> LaneShare:
    """The spread over ``lanes``, a power of two."""
    groups, size = problem.groups, problem.experts // problem.groups
    if groups > lanes:
        return LaneShare(1, -(-groups // lanes), size)
    group_lanes = 1 << (lanes // groups).bit_length() - 1
    return LaneShare(group_lanes, 1, -(-size // group_lanes))


def parts(problem: GateProblem, config: GateConfig) -> int:
    """CTAs that together have the logits of a block of tokens."""
    if config.router == "none":
        return 1
    return -(-problem.router_rows // config.tile_e) * config.split


def columns(problem: GateProblem, config: GateConfig) -> int:
    """Logits of a token in shared memory or workspace, with those of rows that do not exist."""
    if config.router == "none":
        return 0
    return -(-problem.router_rows // config.tile_e) * config.tile_e


def vector(problem: GateProblem) -> int:
    """Elements of 16 bytes."""
    return 16 // problem.element_bytes


def stride(problem: GateProblem, c: GateConfig) -> int:
    """Floats from the logits of a token to the next one's, which begin at 16 bytes."""
    aligned = -(-columns(problem, c) // 4) * 4
    return aligned + (PAD if parts(problem, c) == 1 else 0)


def smem_bytes(problem: GateProblem, c: GateConfig) -> int:
    """Dynamic shared memory of a CTA: for the router and its logits, then for sorting rows."""
    used = permute_smem_bytes(problem.all_experts, c.threads)
    if c.router == "none":
        return used
    logits = 4 * c.tile_t * stride(problem, c) if parts(problem, c) == 1 else 0
    if c.router == "fma":  # sums of warps along H lie beside the logits
        return max(used, logits + 4 * (c.warps_k - 1) * c.tile_t * c.tile_e)
    return max(used, logits, ring_bytes(c.mma_tile))
