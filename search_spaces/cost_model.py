"""Cost model: an analytic guess at a grouped GEMM's time on a GPU nobody has at hand.

CTAs run in waves, as many at once as fit. In a wave each k-tile costs tensor, shared-memory, issue,
L2 and device-memory time; how well these overlap depends on the warps a scheduler has and on the
register buffers of the kernel. No wave is shorter than the chain of latencies of one CTA (Little's
law: few bytes in flight cannot fill a memory's latency). The overlap and some latencies are round
figures fitted to timings on an H100: per number of tokens, half of the predictions lie within 7 %
and ranks correlate by 0.8 to 0.97. Elsewhere trust the order of configs, not the microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.grouped_gemm_space import MAX_REGISTERS, register_estimate, smem_bytes
from search_spaces.layouts import BankConflicts, bank_conflicts, warp_tile
from search_spaces.problem import Problem
from search_spaces.traffic import L2_KEPT, TileGrid, Traffic, traffic

SUBPARTITIONS = 4  # schedulers of an SM, each with its own tensor core
LAUNCH_US = 2.0  # from the first CTA's start to the last one's being seen as finished
CTA_START_US = 0.3  # an SM's slot is free, until the next CTA has found its rows or none
LDMATRIX_CLK = 30  # from issue to use
# Loads take the same pipe, one piece of a row a clock. Counters of an H100 show it 61 % busy with
# 256x128x64 tiles and 86 % with 128x128x32 at 300 TFLOPS: a little less than a clock each.
LINE_CLK = 0.8
STAGED_INSTRUCTIONS = 4  # predicate, load, store, address: per 128 bits a thread stages
PROMOTION_LANES = 2.5  # convert, add and clear, per fp16 accumulator

# Fitted to 1,000 timings on an H100 of Mixtral's first GEMM at 0.25 to 2048 tokens an expert.
DRAM_LATENCY_US = 0.7  # under load
L2_LATENCY_US = 0.3
COUNTED_LATENCIES = 4  # a guess: store and fence, counter, fence, loads
BARRIER_CLK = 50
LOOP_INSTRUCTIONS = 64  # addresses, branch and what the assembler adds, per k-tile and warp
PROMOTION_EXPOSED = 0.5  # share of it that the next MMAs on the same accumulators wait for
REGISTER_SLACK = 1.06  # compilers take a little more than the sum of what is live
STRAGGLE = 0.08  # CTAs that start together end over this share of their time
OVERLAP = 1.3  # see ``_overlap``
OVERLAP_PER_WARP = 1.5
OVERLAP_FRAGMENTS = 1.5
OVERLAP_CHAIN = 4.0

# Not in GpuSpec: fp32 lanes an SM (128 elsewhere), and L2 bytes per SM and clock.
_FP32_LANES = {"sm_75": 64, "sm_80": 64}
_L2_BYTES_PER_CLK = {"sm_75": 20.0, "sm_80": 32.0, "sm_86": 18.0, "sm_89": 16.0, "sm_90": 36.0}
# Share of its clock that a GPU keeps under sustained MMAs: the H100's power cap leaves ~1470 MHz.
_SUSTAINED_CLOCK = {"sm_90": 0.84}


@dataclass(frozen=True)
class Prediction:
    """Microseconds of a launch, and why.

    The ``*_us`` of a resource is the time it alone would take; they overlap, so ``total_us`` is
    less than their sum and no less than the largest. ``latency_us`` is the part of the total in
    which all units wait for one CTA's chain of loads, barriers and MMAs, ``overhead_us`` what
    CTAs spend outside their main loops. ``occupancy`` counts CTAs per SM, ``waves`` how often
    these fill the GPU, ``useful`` is the share of multiplied tile elements that exist,
    ``bank_conflicts`` the extra shared-memory wavefronts per needed one in the worst access.
    ``limiter`` is the part with the largest time.
    """

    total_us: float
    tensor_us: float
    shared_us: float
    dram_us: float
    l2_us: float
    issue_us: float
    latency_us: float
    overhead_us: float
    occupancy: int
    waves: float
    useful: float
    bank_conflicts: float
    limiter: str


@dataclass(frozen=True)
class _TileCost:
    """Clocks of one k-tile of one CTA: what its SM's units are busy for, and what it waits for.

    ``serial`` is a warp's way through its own MMAs, ``handover`` the store and the barrier between
    two tiles; the load of the next tile hides behind the former only. ``shared`` is the memory
    pipe: fragment reads, stores of staged tiles, and the loads from global memory.
    """

    tensor: float
    shared: float
    issue: float
    serial: float
    handover: float
    conflicts: float


def occupancy(c: GroupedGemmConfig, gpu: GpuSpec, *, gather: bool = False) -> int:
    """CTAs of a valid config that fit one SM, as registers, shared memory and threads allow."""
    allowed = min(MAX_REGISTERS, gpu.regs_per_sm // (c.threads * c.min_ctas))
    registers = min(allowed, REGISTER_SLACK * register_estimate(c, gather=gather))
    by_registers = int(gpu.regs_per_sm / (registers * c.threads))
    by_smem = gpu.smem_per_sm // (smem_bytes(c) + gpu.smem_reserved)
    by_threads = gpu.max_threads_per_sm // c.threads
    return max(c.min_ctas, min(by_registers, by_smem, by_threads, gpu.max_blocks_per_sm))


def fp32_lanes(gpu: GpuSpec) -> int:
    """fp32 multiply-adds of an SM in a clock."""
    return _FP32_LANES.get(gpu.arch, 128)


def l2_clk(gpu: GpuSpec) -> float:
    """Bytes that L2 serves an SM in a clock."""
    return _L2_BYTES_PER_CLK.get(gpu.arch, 20.0)


@lru_cache(maxsize=1024)
def _conflicts(tile_k: int, smem: str, k_step: int, x: int, y: int) -> BankConflicts:
    """Bank conflicts depend on little of a config: a one-warp config with that little has them."""
    one_warp = GroupedGemmConfig(
        x, y, tile_k, 1, 1, 1, 1, smem, "f32", 1, k_step, False, "ca", 1, 1, 1
    )
    return bank_conflicts(one_warp)


def _tile_cost(c: GroupedGemmConfig, gpu: GpuSpec) -> _TileCost:
    x, y = warp_tile(c)
    warps, k_slice = c.threads // 32, c.tile_k // c.warps_k
    steps = k_slice // c.k_step
    rate = gpu.mma_f32acc if c.acc == "f32" else gpu.mma_f16acc
    tensor = 2.0 * c.tile_m * c.tile_n * c.tile_k / rate
    promotions = k_slice / (16 * c.promote_every) if c.promote_every else 0.0
    lanes = PROMOTION_LANES * x * y * promotions  # of one warp
    tensor += PROMOTION_EXPOSED * lanes * warps / fp32_lanes(gpu)

    bad = _conflicts(c.tile_k, c.smem, c.k_step, min(x, 32), min(y, 32))
    stored = 2.0 * (c.tile_m + c.tile_n) * c.tile_k * (1 + bad.store)
    loaded = 2.0 * warps * k_slice * (x * (1 + bad.load_x) + y * (1 + bad.load_y))
    fetched = 2.0 * (c.tile_m + c.tile_n) * c.tile_k / min(gpu.smem_bytes_per_clk, 2 * c.tile_k)
    shared = (stored + loaded) / gpu.smem_bytes_per_clk + LINE_CLK * fetched

    k8 = c.k_step // 8
    ldmatrix = sum(rows // 8 * k8 / min(4, rows // 8 * k8) for rows in (x, y)) * steps
    staged = -(-c.tile_m * c.tile_k // (8 * c.threads)) - (-c.tile_n * c.tile_k // (8 * c.threads))
    mma = x // 16 * (y // 8) * (k_slice // 8)
    instructions = mma + ldmatrix + STAGED_INSTRUCTIONS * staged + lanes / 32 + LOOP_INSTRUCTIONS
    issue = instructions * warps / SUBPARTITIONS

    # A second fragment buffer hides ldmatrix.
    exposed = LDMATRIX_CLK * (steps if c.fragments == 1 else 1)
    serial = tensor * SUBPARTITIONS / warps + exposed
    barriers = BARRIER_CLK * (2 if c.stages == 1 else 1)
    handover = stored / gpu.smem_bytes_per_clk + barriers
    return _TileCost(tensor, shared, issue, serial, handover, bad.worst)


def _overhead_clk(problem: Problem, c: GroupedGemmConfig, gpu: GpuSpec) -> float:
    """Clocks of a CTA outside its main loop: find the expert, fill the ring, reduce, write C."""
    us, l2 = gpu.clock_mhz, l2_clk(gpu)
    scan = -(-problem.experts // 32) * (L2_LATENCY_US * us + 150)
    fill = max(1, c.stages - 1) * DRAM_LATENCY_US * us
    if problem.gather:  # which tokens, before any of their rows
        fill += DRAM_LATENCY_US * us
    outputs = c.tile_m * c.tile_n
    written = outputs * problem.columns // problem.n
    write = 2 * written / l2 + L2_LATENCY_US * us
    if c.swap:
        write += 4 * written / gpu.smem_bytes_per_clk + BARRIER_CLK
    across_warps = (c.warps_k - 1) * (8 * outputs / gpu.smem_bytes_per_clk + 2 * BARRIER_CLK)
    across_ctas = 0.0
    if c.split_k > 1:  # leave the sums, count, and one CTA in split_k reads all of them
        across_ctas = 4 * outputs * (1 + c.split_k) / l2 + 4 * L2_LATENCY_US * us
    return scan + fill + write + across_warps + across_ctas + _combine_clk(c, gpu)


def _combine_clk(c: GroupedGemmConfig, gpu: GpuSpec) -> float:
    """Clocks of a CTA that weights its rows and sums the tokens of which it has the last one.

    Two barriers for slots and weights; then a fence, a counter and the loads, one behind the other.
    """
    if c.combine == "none":
        return 0.0
    counted = COUNTED_LATENCIES * L2_LATENCY_US * gpu.clock_mhz if c.combine != "reduce" else 0.0
    return 2 * BARRIER_CLK + counted


def _second_pass_us(problem: Problem, c: GroupedGemmConfig, gpu: GpuSpec, rows: int) -> float:
    """The launch that sums weighted rows: a latency, and what it moves."""
    if c.combine != "reduce":
        return 0.0
    moved = 2.0 * problem.n * (rows + problem.rows_of_c(rows))
    busy = moved / (l2_clk(gpu) * gpu.sms * gpu.clock_mhz)
    spilled = moved / (gpu.dram_gbps * 1e3) if moved > L2_KEPT * gpu.l2_bytes else 0.0
    return LAUNCH_US + DRAM_LATENCY_US + max(busy, spilled)


def _overlap(c: GroupedGemmConfig, resident: int) -> float:
    """Exponent p of the norm that joins resource times: 1 adds them up, infinity hides all.

    More warps a scheduler and a second fragment buffer let units work side by side.
    """
    warps = min(5.0, resident * c.threads / (32 * SUBPARTITIONS))
    return OVERLAP + OVERLAP_PER_WARP * warps + OVERLAP_FRAGMENTS * (c.fragments - 1)


def _norm(values: Sequence[float], p: float) -> float:
    largest = max(values)
    return largest * sum((v / largest) ** p for v in values) ** (1 / p) if largest else 0.0


def _wave(
    c: GroupedGemmConfig, gpu: GpuSpec, grid: TileGrid, tile: _TileCost, moved: Traffic, ctas: int
) -> dict[str, float]:
    """Clocks of ``ctas`` CTAs side by side: of each unit alone, and how long all of them wait."""
    resident = -(-ctas // gpu.sms)
    k_tiles = resident * grid.iterations / _SUSTAINED_CLOCK.get(gpu.arch, 1.0)
    idle = max(1.0, SUBPARTITIONS * 32 / (resident * c.threads))
    share = ctas / grid.ctas
    clk = {
        "tensor": k_tiles * tile.tensor * idle,
        "shared": k_tiles * tile.shared,
        "issue": k_tiles * tile.issue * idle,
        "l2": share * moved.l2 / (l2_clk(gpu) * min(ctas, gpu.sms)),
        "dram": share * moved.dram / (gpu.dram_gbps * 1e3 / gpu.clock_mhz),
    }
    busy = _norm(list(clk.values()), _overlap(c, resident))
    load = DRAM_LATENCY_US * gpu.clock_mhz
    chain = grid.iterations * (max(tile.serial, load) + tile.handover)
    waiting = _norm([busy, chain], OVERLAP_CHAIN) - busy
    return clk | {"latency": waiting, "total": busy + waiting}


def _waves(
    c: GroupedGemmConfig, gpu: GpuSpec, grid: TileGrid, tile: _TileCost, moved: Traffic, slots: int
) -> dict[str, float]:
    """Sum of ``_wave`` over all waves of up to ``slots`` CTAs, and the wait for stragglers."""
    full, rest = divmod(grid.ctas, slots)
    first = _wave(c, gpu, grid, tile, moved, min(slots, grid.ctas))
    clk = {name: full * value for name, value in first.items()}
    if rest:
        last = _wave(c, gpu, grid, tile, moved, rest)
        # The more waves went before, the less do the CTAs of the last one start together.
        hidden = last["latency"] * (1 - 1 / max(1, full))
        last["latency"] -= hidden
        last["total"] -= hidden
        clk = {name: value + last[name] for name, value in clk.items()}
    for name in ("latency", "total"):
        clk[name] += STRAGGLE * first["total"]
    return clk


def predict(
    problem: Problem, config: GroupedGemmConfig, gpu: GpuSpec, rows_per_expert: Sequence[int]
) -> Prediction:
    """Time of one launch of a valid config on ``rows_per_expert`` rows, [E]."""
    grid = TileGrid.of(problem, config, rows_per_expert)
    fits = occupancy(config, gpu, gather=problem.gather)
    if grid.ctas == 0:
        return Prediction(LAUNCH_US, 0, 0, 0, 0, 0, 0, LAUNCH_US, fits, 0, 1.0, 0, "overhead")
    slots = fits * gpu.sms
    tile = _tile_cost(config, gpu)
    moved = traffic(problem, config, gpu, rows_per_expert, grid, min(grid.ctas, slots))
    clk = _waves(config, gpu, grid, tile, moved, slots)
    total = clk.pop("total")
    # Later waves start while other CTAs of their SM still compute.
    exposed = 1 + (-(-grid.ctas // slots) - 1) / fits
    clk["overhead"] = _overhead_clk(problem, config, gpu) * exposed
    clk["overhead"] += CTA_START_US * gpu.clock_mhz * grid.idle_ctas / slots
    us = {f"{name}_us": value / gpu.clock_mhz for name, value in clk.items()}
    us["overhead_us"] += LAUNCH_US + _second_pass_us(problem, config, gpu, grid.rows)
    return Prediction(
        total_us=total / gpu.clock_mhz + us["overhead_us"],
        **us,
        occupancy=fits,
        waves=grid.ctas / slots,
        useful=grid.rows * problem.n / grid.outputs(config),
        bank_conflicts=tile.conflicts,
        limiter=max(us, key=us.__getitem__).removesuffix("_us"),
    )


def explain(prediction: Prediction) -> list[str]:
    """Lines that tell where the predicted time goes, longest first."""
    p = prediction
    parts = {
        "tensor cores": p.tensor_us,
        "shared memory": p.shared_us,
        "device memory": p.dram_us,
        "L2": p.l2_us,
        "instruction issue": p.issue_us,
        "waiting, all units idle": p.latency_us,
        "launch, prologue, epilogue": p.overhead_us,
    }
    lines = [f"predicted {p.total_us:.1f} us, limited by {p.limiter}"]
    for name, us in sorted(parts.items(), key=lambda part: -part[1]):
        lines.append(f"  {name:<27}{us:10.1f} us {us / p.total_us:6.0%} of the time if alone")
    lines.append(
        f"  {p.occupancy} CTAs an SM, {p.waves:.2f} waves, {p.useful:.0%} of the tiles' elements "
        f"exist, {p.bank_conflicts:.2g} extra wavefronts by bank conflicts"
    )
    return lines
