"""Gate cost: an analytic guess at a fused gate's time on a GPU nobody has at hand.

Reading x and the router, multiplying, choosing and sorting come one after another for a token, but
CTAs that share an SM are at different ones of these. So in a wave the units' times overlap, and no
wave is shorter than the chain of latencies of one CTA. No figure here is fitted to a measurement of
a gate: trust the order of configs that differ much, not the microseconds.
"""

from __future__ import annotations

from search_spaces.cost_model import (
    BARRIER_CLK,
    DRAM_LATENCY_US,
    L2_LATENCY_US,
    LAUNCH_US,
    SUBPARTITIONS,
    Prediction,
    fp32_lanes,
    l2_clk,
)
from search_spaces.gate import LANES, GateConfig
from search_spaces.gate_layout import lane_share, parts, smem_bytes, vector
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm_space import register_estimate

PASS_US = 1.5  # a launch that follows another one of the same graph
OVERLAP = 3.0  # exponent of the norm that joins the units' times: 1 adds them up
REGISTERS = 64  # of a thread that multiplies nothing
# Instructions of a warp, read off compiled variants.
LOAD_ITEM, EXP_ITEM, KEY_ITEM, LOOK_ITEM = 2, 8, 4, 3
ROUND, SHUFFLES = 14, 2  # of a round of the choice; a shuffle and what is done with it
SORT_SLOT = 40  # of 32 slots that are ranked and written
CONVERSION = 1.0  # of an element to fp32


def occupancy(problem: GateProblem, c: GateConfig, gpu: GpuSpec) -> int:
    """CTAs of a valid config that fit one SM."""
    registers = REGISTERS
    if c.router == "mma":
        registers = max(registers, register_estimate(c.mma_tile))
    elif c.router == "fma":
        sums = (c.tile_t // c.warps_t) * (c.tile_e // c.warps_e)
        registers = max(registers, 32 + sums + 4 * _loads(problem, c))
    return max(
        1,
        min(
            gpu.regs_per_sm // (registers * c.threads),
            gpu.smem_per_sm // (smem_bytes(problem, c) + gpu.smem_reserved),
            gpu.max_threads_per_sm // c.threads,
            gpu.max_blocks_per_sm,
        ),
    )


def predict_gate(problem: GateProblem, c: GateConfig, gpu: GpuSpec, tokens: int) -> Prediction:
    """Time of all passes of a valid config for ``tokens`` tokens."""
    fits, blocks = occupancy(problem, c, gpu), max(1, -(-tokens // c.tile_t))
    ctas = blocks * parts(problem, c)
    running = min(ctas, fits * gpu.sms)
    us = {
        "dram": problem.traffic(tokens) / min(gpu.dram_gbps * 1e3, _reach(problem, c, running)),
        "l2": _read(problem, c, ctas) / (_l2(gpu) * min(ctas, gpu.sms)),
        "tensor": _multiply(problem, c, gpu, ctas),
        "issue": _choose(problem, c) * blocks * c.tile_t / min(blocks, gpu.sms) / _rate(gpu),
    }
    largest = max(us.values())
    busy = largest * sum((value / largest) ** OVERLAP for value in us.values()) ** (1 / OVERLAP)
    latency = max(0.0, -(-ctas // (fits * gpu.sms)) * _chain(problem, c, gpu) - busy)
    us |= {"latency": latency, "overhead": LAUNCH_US + _sort(problem, c, gpu, tokens, blocks)}
    columns = -(-problem.router_rows // c.tile_e) * c.tile_e if c.tile_e else problem.experts
    return Prediction(
        total_us=busy + latency + us["overhead"],
        shared_us=0.0,
        **{f"{name}_us": value for name, value in us.items()},
        occupancy=fits,
        waves=ctas / (fits * gpu.sms),
        useful=tokens * problem.experts / (blocks * c.tile_t * columns),
        bank_conflicts=0.0,
        limiter=max(us, key=us.__getitem__),
    )


def _rate(gpu: GpuSpec) -> float:
    """Warp instructions of an SM in a microsecond."""
    return float(SUBPARTITIONS * gpu.clock_mhz)


def _l2(gpu: GpuSpec) -> float:
    """Bytes of an SM in a microsecond."""
    return l2_clk(gpu) * gpu.clock_mhz


def _loads(problem: GateProblem, c: GateConfig) -> int:
    """128-bit loads that a lane of the fma router has under way."""
    step = c.tile_k // (LANES * vector(problem))
    return step * (c.tile_t // c.warps_t + c.tile_e // c.warps_e)


def _reach(problem: GateProblem, c: GateConfig, running: int) -> float:
    """Bytes a microsecond that loads under way can ask for (Little's law)."""
    if c.router == "mma":
        flying = 2 * c.tile_k * (c.tile_t + c.tile_e)
    elif c.router == "fma":
        flying = 16 * c.threads * _loads(problem, c)
    else:
        flying = c.threads * lane_share(problem, c.lanes).items * problem.element_bytes
    return running * flying / DRAM_LATENCY_US


def _read(problem: GateProblem, c: GateConfig, ctas: int) -> float:
    """Bytes that CTAs ask L2 for."""
    if c.router == "none":
        return float(ctas * c.tile_t * problem.experts * problem.element_bytes)
    depth = problem.hidden / c.split * problem.element_bytes
    return ctas * (c.tile_t + min(c.tile_e, problem.router_rows)) * depth


def _multiply(problem: GateProblem, c: GateConfig, gpu: GpuSpec, ctas: int) -> float:
    """Microseconds of the router's products, those of rows that do not exist included."""
    if c.router == "none":
        return 0.0
    per_sm = -(-ctas // gpu.sms)
    clk = per_sm * c.tile_t * c.tile_e * problem.hidden / c.split
    if c.router == "mma":
        idle = max(1.0, SUBPARTITIONS * LANES / (per_sm * c.threads))
        return 2.0 * clk * idle / gpu.mma_f32acc / gpu.clock_mhz
    tokens, rows = c.tile_t // c.warps_t, c.tile_e // c.warps_e
    work = 1 + CONVERSION * (tokens + rows) / (tokens * rows)
    return clk * work / fp32_lanes(gpu) / gpu.clock_mhz


def _choose(problem: GateProblem, c: GateConfig) -> float:
    """Warp instructions of a token's choice."""
    items, steps = lane_share(problem, c.lanes).items, c.lanes.bit_length() - 1
    scored = problem.bias or not (problem.renormalise or problem.score == "sigmoid")
    each = LOAD_ITEM + KEY_ITEM + (EXP_ITEM if scored else 0)
    rounds = problem.top_k + (problem.topk_group if problem.topk_group < problem.groups else 0)
    choice = items * each + rounds * (LOOK_ITEM * items + SHUFFLES * steps + ROUND)
    return choice * c.lanes / LANES


def _chain(problem: GateProblem, c: GateConfig, gpu: GpuSpec) -> float:
    """Microseconds of a CTA whose loads all wait, one step of H after another."""
    turns = -(-c.tile_t // (c.threads // c.lanes))
    choice = _choose(problem, c) * LANES / c.lanes * turns * 4 / gpu.clock_mhz  # 4 clk each
    if c.router == "none":
        return turns * DRAM_LATENCY_US + choice
    steps = -(-problem.hidden // (c.tile_k * c.split))
    if c.router == "fma":
        return -(-steps // c.warps_k) * DRAM_LATENCY_US + choice
    return steps * max(DRAM_LATENCY_US, BARRIER_CLK / gpu.clock_mhz) + choice


def _sort(problem: GateProblem, c: GateConfig, gpu: GpuSpec, tokens: int, blocks: int) -> float:
    """Microseconds of arriving and of sorting rows."""
    slots, experts = tokens * problem.slots, problem.all_experts
    arrival = 4 * L2_LATENCY_US
    time = arrival if parts(problem, c) > 1 else 0.0
    work = SORT_SLOT * slots / LANES / _rate(gpu)
    if c.tail == "last":
        chunks = -(-slots // (16 * c.threads))
        return time + arrival + chunks * 4 * L2_LATENCY_US + 4 * work + 20 * slots / _l2(gpu)
    histograms = 4.0 * blocks * experts  # each CTA reads all
    reads = -(-blocks // gpu.sms) * histograms / _l2(gpu)
    return time + PASS_US + LAUNCH_US + 4 * L2_LATENCY_US + reads + work / min(blocks, gpu.sms)
