"""fused_gate's search space: its parameters, the rules that join them, its default."""

from __future__ import annotations

from typing import Any

from search_spaces.constraint import Constraint
from search_spaces.gate import LANES, GateConfig
from search_spaces.gate_layout import lane_share, smem_bytes, vector
from search_spaces.gate_problem import GateProblem
from search_spaces.gpu import GpuSpec
from search_spaces.grouped_gemm_space import MAX_REGISTERS, register_estimate
from search_spaces.parameter import Parameter
from search_spaces.space import SearchSpace

MOST_ITEMS = 64  # experts of a lane: their scores are kept in registers
MOST_SUMS = 64  # of a lane of the fma router
LEAST_TILE = 16  # router rows that an MMA multiplies at once: no fewer need to be saved
MOST_PARTS = 256  # CTAs of a block of tokens: one of them adds up what all leave

# The order lets constraints bite early.
PARAMETERS = (
    Parameter("router", ("none", "fma", "mma")),
    Parameter("swap", (False, True)),
    Parameter("tile_t", (1, 2, 4, 8, 16, 32, 64, 128)),
    Parameter("warps_t", (1, 2, 4, 8)),
    Parameter("tile_e", (0, 1, 4, 8, 16, 32, 64, 96, 128, 160, 256)),
    Parameter("warps_e", (1, 2, 4, 8)),
    Parameter("tile_k", (0, 32, 64, 128, 256, 512, 1024)),
    Parameter("warps_k", (1, 2, 4, 8)),
    Parameter("stages", (1, 2, 3)),
    Parameter("split", (1, 2, 4, 8, 16)),
    Parameter("lanes", (4, 8, 16, 32)),
    Parameter("tail", ("last", "pass")),
)


def _router(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if (c.router == "none") != (problem.hidden == 0):
        return f"router={c.router}: {'logits are' if not problem.hidden else 'no logits are'} given"
    if c.router == "mma" and problem.dtype != "f16":
        return f"router=mma: the tensor cores of sm_75 do not multiply {problem.dtype}"
    return None


def _given(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router == "none" and (c.tile_e, c.tile_k, c.warps_e, c.warps_k) != (0, 0, 1, 1):
        return "without a router, nothing is tiled but tokens"
    if c.router != "none" and 0 in (c.tile_e, c.tile_k):
        return f"router={c.router} needs a tile_e and a tile_k"
    return None


def _pipeline(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "mma" and (c.stages, c.swap) != (1, False):
        return f"router={c.router} has neither stages nor MMA axes"
    return None


def _split(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router == "none" and c.split > 1:
        return "without a router, there is nothing to split"
    if c.split > 1 and c.split * c.tile_k > problem.hidden:
        return f"H={problem.hidden} in {c.split} splits leaves less than tile_k={c.tile_k} to each"
    return None


def _useful_tile(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if not c.tile_e:
        return None
    tiles = -(-problem.router_rows // c.tile_e)
    idle = tiles * c.tile_e - problem.router_rows
    if idle >= LEAST_TILE and 4 * idle >= problem.router_rows:
        return f"E={problem.experts} in tiles of {c.tile_e} leaves {idle} rows idle"
    if tiles * c.split > MOST_PARTS:
        return f"E={problem.experts} in tiles of {c.tile_e} and {c.split} splits: too many parts"
    return None


def _threads(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    threads = LANES * c.warps_t * c.warps_e * c.warps_k
    return None if 64 <= threads <= 512 else f"{threads} threads: 64 to 512 a CTA"


def _choosers(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router == "none" and c.warps_t * (LANES // c.lanes) > max(c.tile_t, 8):
        return f"{c.tile_t} tokens leave some of {c.warps_t} warps idle"
    return None


def _fma_sums(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "fma":
        return None
    if c.tile_t % c.warps_t or c.tile_e % c.warps_e:
        return f"{c.tile_t} tokens, {c.tile_e} router rows: some warps have none"
    sums = (c.tile_t // c.warps_t) * (c.tile_e // c.warps_e)
    if sums & (sums - 1):
        return f"{sums} sums a warp: lanes halve them, so a power of two"
    return None if sums <= MOST_SUMS else f"{sums} sums a lane: at most {MOST_SUMS}"


def _fma_step(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "fma":
        return None
    step = LANES * vector(problem)
    if c.tile_k % step:
        return f"tile_k={c.tile_k}: a warp reads {step} elements at a time"
    if c.tile_k > max(step, problem.hidden):
        return f"tile_k={c.tile_k} exceeds H={problem.hidden}"
    loads = c.tile_k // step * (c.tile_t // c.warps_t + c.tile_e // c.warps_e)
    return None if loads <= 24 else f"{loads} 128-bit loads of a lane at once: at most 24"


def _mma_axis(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "mma":
        return None
    if c.swap and c.tile_t > 32:
        return f"tile_t={c.tile_t}: only tiles of up to 32 tokens go on the 8-wide MMA axis"
    tokens, rows = c.tile_t // c.warps_t, c.tile_e // c.warps_e
    least_t, least_e = (8, 16) if c.swap else (16, 8)
    if c.tile_e % (c.warps_e * least_e) or tokens < least_t:
        return f"{tokens} tokens, {rows} router rows a warp: the MMA takes {least_t}, {least_e}"
    blocks = rows // 8
    if blocks > 4 and blocks % 4:
        return f"{rows} router rows a warp: ldmatrix reads 32 at a time"
    return None


def _mma_step(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "mma":
        return None
    if c.tile_k > 128 or c.tile_k // c.warps_k < 16:
        return f"tile_k={c.tile_k} for {c.warps_k} warps along H: 32 to 128, 16 or more a warp"
    if c.tile_k > max(32, problem.hidden):
        return f"tile_k={c.tile_k} exceeds H={problem.hidden}"
    rows = LANES * c.warps_t * c.warps_e * c.warps_k * 8 // c.tile_k
    for tile in (c.tile_t, c.tile_e):
        if tile % rows and rows % tile:
            return f"{rows} rows per staged pass do not divide a tile of {tile}"
    staged = -(-c.tile_t // rows) - (-c.tile_e // rows)
    return None if staged <= 16 else f"{staged} staged 128-bit loads per thread: at most 16"


def _mma_registers(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "mma":
        return None
    needed = register_estimate(_config(c).mma_tile)
    threads = LANES * c.warps_t * c.warps_e * c.warps_k
    if needed > min(MAX_REGISTERS, gpu.regs_per_sm // threads):
        return f"about {needed} registers a thread: the rest would spill"
    return None


def _smem(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    if c.router != "none" and not c.tile_e:
        return None  # "given" says what is wrong
    used = smem_bytes(problem, _config(c))
    if used > gpu.smem_per_block:
        return f"{used} bytes of shared memory: {gpu.name} has {gpu.smem_per_block} a CTA"
    return None


def _lanes(c: Any, problem: GateProblem, gpu: GpuSpec) -> str | None:
    items = lane_share(problem, c.lanes).items
    if items > MOST_ITEMS:
        return f"{items} experts a lane: at most {MOST_ITEMS}"
    if c.lanes > 4 and c.lanes >= 2 * problem.experts:
        return f"{c.lanes} lanes share E={problem.experts}: half of them would have none"
    return None


def _config(c: Any) -> GateConfig:
    """What the tiling rules read, as a config: the parameters that they do not are not fixed."""
    return GateConfig(
        c.router, c.tile_t, c.tile_e, c.tile_k, c.warps_t, c.warps_e, c.warps_k, c.stages, c.swap,
        getattr(c, "split", 1), LANES, "last",
    )  # fmt: skip


_WARPS = ("warps_t", "warps_e", "warps_k")
_TILE = ("tile_t", "tile_e", "tile_k")
CONSTRAINTS = (
    Constraint("router", ("router",), _router),
    Constraint("given", ("router", "tile_e", "tile_k", "warps_e", "warps_k"), _given),
    Constraint("pipeline", ("router", "stages", "swap"), _pipeline),
    Constraint("useful_tile", ("tile_e", "split"), _useful_tile),
    Constraint("threads", _WARPS, _threads),
    Constraint("fma_sums", ("router", "tile_t", "warps_t", "tile_e", "warps_e"), _fma_sums),
    Constraint("fma_step", ("router", *_TILE, "warps_t", "warps_e"), _fma_step),
    Constraint("mma_axis", ("router", "swap", "tile_t", "warps_t", "tile_e", "warps_e"), _mma_axis),
    Constraint("mma_step", ("router", *_TILE, *_WARPS), _mma_step),
    Constraint("registers", ("router", *_TILE, *_WARPS, "stages", "swap"), _mma_registers),
    Constraint("shared_memory", ("router", *_TILE, *_WARPS, "stages", "swap"), _smem),
    Constraint("split", ("router", "split", "tile_k"), _split),
    Constraint("lanes", ("lanes",), _lanes),
    Constraint("choosers", ("router", "tile_t", "warps_t", "lanes"), _choosers),
)


def _preferred(problem: GateProblem) -> tuple[GateConfig, ...]:
    names = [
        f"{tile}_l{lanes}_pass"
        for lanes in (8, 32, 4)
        for tile in (
            "mma32x128x64_w1x4x1_s2_te_k1",
            "mma32x64x64_w2x2x1_s2_te_k1",
            "mma32x16x64_w2x2x1_s2_te_k1",
            "fma16x16x256_w2x4x1_s1_te_k1",
            "fma8x8x256_w2x2x1_s1_te_k1",
            "fma8x4x256_w2x2x1_s1_te_k1",
            "fma8x1x256_w4x1x1_s1_te_k1",
            "none32x0x0_w4x1x1_s1_te_k1",
        )
    ]
    return tuple(GateConfig.parse(name) for name in names)


FUSED_GATE = SearchSpace("fused_gate", GateConfig, PARAMETERS, CONSTRAINTS, _preferred)
