"""grouped_gemm's search space: its parameters, the rules that join them, its default."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from search_spaces.constraint import Constraint
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm import GroupedGemmConfig
from search_spaces.parameter import Parameter
from search_spaces.problem import PAIR_BLOCK, Numerics, Problem
from search_spaces.space import SearchSpace

MAX_REGISTERS = 255  # per thread, every architecture since Kepler
ADDRESSING_REGISTERS = 32  # pointers, loop counters, predicates: read off compiled variants
PROMOTION_REGISTERS = 36  # fp16 sums on their way to fp32
ROUTED_ROW_BYTES = 8  # slot and weight of a row that is combined, in shared memory
SHORTEST_SPLIT = 4  # k-tiles; below that a split is all prologue

# The order lets constraints bite early: what only the launch needs comes last.
PARAMETERS = (
    Parameter("combine", ("none", "ordered", "atomic", "reduce")),
    Parameter("swap", (False, True)),
    Parameter("tile_m", (8, 16, 32, 64, 128, 256)),
    Parameter("warps_m", (1, 2, 4)),
    Parameter("tile_n", (32, 64, 128, 256)),
    Parameter("warps_n", (1, 2, 4, 8)),
    Parameter("tile_k", (32, 64, 128)),
    Parameter("warps_k", (1, 2, 4)),
    Parameter("min_ctas", (1, 2, 3, 4)),
    Parameter("k_step", (8, 16)),
    Parameter("fragments", (1, 2)),
    Parameter("acc", ("f32", "f16", "f16p1", "f16p2", "f16p4", "f16p8")),
    Parameter("smem", ("none", "pad8", "sw1.3.3", "sw2.3.3", "sw3.3.3", "sw3.3.4")),
    Parameter("stages", (1, 2, 3, 4)),
    Parameter("split_k", (1, 2, 4, 8)),
    Parameter("cache", ("ca", "cg", "cs", "nc")),
    Parameter("group_m", (1, 4, 8, 16)),
)


def _combine(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if not problem.combine:
        return None if c.combine == "none" else f"combine={c.combine}: rows of C stay apart here"
    if c.combine == "none":
        return "combine=none: rows of C are combined here"
    if c.combine == "atomic" and problem.combine == "ordered":
        return "combine=atomic sums in any order, and ordered sums are asked for"
    return None


def _mma_axis(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if c.swap and c.tile_m > 32:
        return f"tile_m={c.tile_m}: only tiles of up to 32 tokens go on the 8-wide MMA axis"
    rows, minimum = c.tile_m // c.warps_m, 8 if c.swap else 16
    if rows < minimum:
        return f"{rows} rows per warp: the MMA needs {minimum} on that axis"
    return None


def _warp_columns(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    columns, minimum = c.tile_n // c.warps_n, 16 if c.swap else 8
    if columns < minimum:
        return f"{columns} columns per warp: the MMA needs {minimum} on that axis"
    return None


def _pairs(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    columns = c.tile_n // c.warps_n
    if problem.gated and columns % (2 * PAIR_BLOCK):
        return f"{columns} columns per warp: {problem.epilogue} needs gate and up columns in one"
    return None


def _threads(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    threads = 32 * c.warps_m * c.warps_n * c.warps_k
    return None if threads <= 512 else f"{threads} threads: at most 512 a CTA"


def _k_slices(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if (c.tile_k // 16) % c.warps_k:
        return f"tile_k={c.tile_k} has no whole k-steps of 16 for {c.warps_k} warps along K"
    if c.tile_k > max(32, problem.k):
        return f"tile_k={c.tile_k} exceeds K={problem.k}"
    return None


def _staging(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    rows = 32 * c.warps_m * c.warps_n * c.warps_k * 8 // c.tile_k
    for tile in (c.tile_m, c.tile_n):
        if tile % rows and rows % tile:
            return f"{rows} rows per staged pass do not divide a tile of {tile}"
    staged = -(-c.tile_m // rows) - (-c.tile_n // rows)
    return None if staged <= 16 else f"{staged} staged 128-bit loads per thread: at most 16"


def _swizzle(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if not c.smem.startswith("sw"):
        return None
    bits, base, shift = map(int, c.smem[2:].split("."))
    if 1 << (base + bits) > c.tile_k:
        return f"{c.smem} permutes more chunks than a row of {c.tile_k} halves has"
    if 1 << (base + shift + bits) > 8 * c.tile_k:
        return f"{c.smem} reads row bits beyond 8 rows of {c.tile_k}: static offsets would move"
    return None


def _swizzle_passes(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if not c.smem.startswith("sw"):
        return None
    period = 1 << sum(map(int, c.smem[2:].split(".")))
    rows = 32 * c.warps_m * c.warps_n * c.warps_k * 8 // c.tile_k
    if rows < max(c.tile_m, c.tile_n) and rows * c.tile_k % period:
        return (
            f"{c.smem} repeats every {period // c.tile_k} rows, a staged pass has {rows}: "
            "the passes of a thread would not lie at static offsets"
        )
    return None


def _smem(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    used = smem_bytes(c)
    if used > gpu.smem_per_block:
        return f"{used} bytes of shared memory: {gpu.name} has {gpu.smem_per_block} a CTA"
    if (used + gpu.smem_reserved) * c.min_ctas > gpu.smem_per_sm:
        return f"{c.min_ctas} CTAs of {used} bytes exceed {gpu.smem_per_sm} bytes an SM"
    return None


def smem_bytes(c: Any) -> int:
    """Dynamic shared memory of a CTA: the ring, or what the epilogue reuses it for if larger."""
    row = c.tile_k + (int(c.smem[3:]) if c.smem.startswith("pad") else 0)
    ring = 2 * c.stages * (c.tile_m + c.tile_n) * row
    reduction = 4 * c.tile_m * c.tile_n if c.warps_k > 1 else 0
    transpose = 2 * c.tile_m * c.tile_n if c.swap else 0
    routed = ROUTED_ROW_BYTES * c.tile_m if c.combine != "none" else 0
    return int(max(ring, reduction, transpose + routed))


def register_estimate(c: Any, *, gather: bool = False) -> int:
    """Registers of a thread: accumulators, MMA fragments, staged loads, addressing.

    ``gather`` keeps the token of each staged row of A, a combined tile the slot and the weight of
    each of its rows, shared out to the threads. The epilogue, where all sums are fp32, can need
    more than the main loop.
    """
    m, n = c.tile_m // c.warps_m, c.tile_n // c.warps_n
    threads = 32 * c.warps_m * c.warps_n * c.warps_k
    f32, f16 = m * n // 32, m * n // 64
    sums = {"f32": f32, "f16": f16}.get(c.acc, f32 + f16 + PROMOTION_REGISTERS)
    fragments = c.fragments * (m + n) * c.k_step // 64
    staged = (c.tile_m + c.tile_n) * c.tile_k // threads // 2
    k_addresses = c.tile_k // c.warps_k // 8
    epilogue = f32 + (f16 if c.acc == "f16" else 0)
    tokens = -(-c.tile_m * c.tile_k // (8 * threads)) if gather else 0
    routed = 2 * -(-c.tile_m // threads) if c.combine != "none" else 0
    main_loop = sums + fragments + staged + k_addresses + tokens + routed
    return int(max(main_loop, epilogue) + ADDRESSING_REGISTERS)


def _registers(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    needed = register_estimate(c, gather=problem.gather)
    threads = 32 * c.warps_m * c.warps_n * c.warps_k
    if needed > MAX_REGISTERS:
        return f"about {needed} registers a thread: at most {MAX_REGISTERS}, the rest would spill"
    if needed * threads * c.min_ctas > gpu.regs_per_sm:
        return f"{c.min_ctas} CTAs x {threads} threads x {needed} registers exceed an SM's"
    return None


def _occupancy(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    threads = 32 * c.warps_m * c.warps_n * c.warps_k * c.min_ctas
    if threads > gpu.max_threads_per_sm:
        return f"{c.min_ctas} CTAs have {threads} threads: {gpu.max_threads_per_sm} fit an SM"
    return None


def _fragments(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    steps = c.tile_k // c.warps_k // c.k_step
    if c.fragments == 2 and steps < 2:
        return f"{steps} k-step a tile: a second fragment buffer needs at least 2"
    return None


def _numerics(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    allowed = {
        Numerics.FP32: ("f32",),
        Numerics.PROMOTED: ("f32", "f16p1", "f16p2", "f16p4", "f16p8"),
        Numerics.FP16: ("f32", "f16p1", "f16p2", "f16p4", "f16p8", "f16"),
    }[problem.numerics]
    if c.acc in allowed:
        return None
    return f"acc={c.acc} is not allowed with {problem.numerics.value} numerics"


def _promotion(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if not c.acc.startswith("f16p"):
        return None
    every, steps = int(c.acc[4:]), max(1, c.tile_k // c.warps_k // 16)
    if every % steps and steps % every:
        return f"promotion every {every} k-steps does not divide a tile's {steps}"
    return None


def _split_k(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if c.split_k > 1 and c.split_k * c.tile_k * SHORTEST_SPLIT > problem.k:
        return f"K={problem.k} in {c.split_k} splits leaves less than {SHORTEST_SPLIT} k-tiles each"
    return None


def _useful_tile(c: Any, problem: Problem, gpu: GpuSpec) -> str | None:
    if c.tile_n > 32 and c.tile_n >= 2 * problem.n:
        return f"tile_n={c.tile_n} would leave more than half of N={problem.n} idle"
    return None


_WARPS = ("warps_m", "warps_n", "warps_k")
_TILE = ("tile_m", "tile_n", "tile_k")
CONSTRAINTS = (
    Constraint("combine", ("combine",), _combine),
    Constraint("mma_axis", ("swap", "tile_m", "warps_m"), _mma_axis),
    Constraint("warp_columns", ("swap", "tile_n", "warps_n"), _warp_columns),
    Constraint("gate_up_pairs", ("tile_n", "warps_n"), _pairs),
    Constraint("useful_tile", ("tile_n",), _useful_tile),
    Constraint("threads", _WARPS, _threads),
    Constraint("k_slices", ("tile_k", "warps_k"), _k_slices),
    Constraint("staging", (*_TILE, *_WARPS), _staging),
    Constraint("swizzle", ("smem", "tile_k"), _swizzle),
    Constraint("swizzle_passes", ("smem", *_TILE, *_WARPS), _swizzle_passes),
    Constraint("fragments", ("fragments", "k_step", "tile_k", "warps_k"), _fragments),
    Constraint("numerics", ("acc",), _numerics),
    Constraint("promotion", ("acc", "tile_k", "warps_k"), _promotion),
    Constraint("occupancy", (*_WARPS, "min_ctas"), _occupancy),
    Constraint(
        "shared_memory",
        (*_TILE, "warps_k", "swap", "smem", "stages", "min_ctas", "combine"),
        _smem,
    ),
    Constraint(
        "registers",
        (*_TILE, *_WARPS, "fragments", "k_step", "acc", "min_ctas", "combine"),
        _registers,
    ),
    Constraint("split_k", ("split_k", "tile_k"), _split_k),
)


def _preferred(problem: Problem) -> tuple[GroupedGemmConfig, ...]:
    names = (
        "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1",
        "64x64x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1",
        "16x32x32_w1x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1",
    )
    combine = "ordered" if problem.combine else "none"
    return tuple(replace(GroupedGemmConfig.parse(name), combine=combine) for name in names)


GROUPED_GEMM = SearchSpace("grouped_gemm", GroupedGemmConfig, PARAMETERS, CONSTRAINTS, _preferred)
