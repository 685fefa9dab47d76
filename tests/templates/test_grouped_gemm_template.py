"""The grouped GEMM's source: every class of variants compiles without a GPU and spills nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from search_spaces import GroupedGemmConfig, Numerics, Problem, find_gpu, space_for
from search_spaces.grouped_gemm_space import register_estimate
from templates import Built, CompilePool, Target, launch_shape, render
from templates.grouped_gemm import most_m_tiles
from tests.pairs import covering

SPACE = space_for("grouped_gemm")
CARD = find_gpu("RTX 2080 Ti")
MIXTRAL = Problem("grouped_gemm", 8, 28672, 4096, 2, numerics=Numerics.FP16)
FUSED = replace(MIXTRAL, epilogue="swiglu", gather=True)
RAGGED = Problem("grouped_gemm", 5, 520, 1000, 2, numerics=Numerics.FP16)
# What the code branches on; tile and warp counts only change numbers.
BRANCHES = ("swap", "acc", "smem", "stages", "fragments", "k_step", "cache", "warps_k", "min_ctas")
TARGET = Target.for_tier("sm_75")
BASE = GroupedGemmConfig.parse("64x64x64_w2x2x1_s2_sw3.3.3_f32_r1x8_mn_ca_o1_g8_k1")


@pytest.fixture(scope="module")
def pool() -> Iterator[CompilePool]:
    with CompilePool(workers=1) as pool:
        yield pool


def has_room(config: GroupedGemmConfig, *, gather: bool = False) -> bool:
    """A quarter of the registers to spare: at the limit the assembler may spill a few bytes, which
    a search sees in the compiler's report and in the time."""
    limit = min(255, CARD.regs_per_sm // (config.threads * config.min_ctas))
    return register_estimate(config, gather=gather) <= 0.75 * limit


def build(pool: CompilePool, problem: Problem, configs: list[GroupedGemmConfig]) -> list[Built]:
    results = pool.build([render(problem, config) for config in configs], TARGET)
    failed = [result for result in results if not isinstance(result, Built)]
    assert not failed, failed[0]
    return [result for result in results if isinstance(result, Built)]


@pytest.mark.parametrize("problem", [MIXTRAL, RAGGED], ids=["mixtral", "ragged"])
def test_every_class_of_variants_compiles_and_spills_nothing(
    problem: Problem, pool: CompilePool
) -> None:
    view = SPACE.view(problem, CARD)
    configs = covering(view, BRANCHES, seed=3, draws=900, keep=has_room)
    for config, built in zip(configs, build(pool, problem, configs), strict=True):
        report = built.binaries["sm_75"].resources
        assert report.spill_stores == report.spill_loads == 0, f"{config}: {report}"


def test_fused_variants_spill_nothing(pool: CompilePool) -> None:
    view, names = SPACE.view(FUSED, CARD), ("swap", "acc", "stages")
    configs = covering(
        view, names, seed=3, draws=300, keep=lambda config: has_room(config, gather=True)
    )
    for config, built in zip(configs, build(pool, FUSED, configs), strict=True):
        report = built.binaries["sm_75"].resources
        assert report.spill_stores == report.spill_loads == 0, f"{config}: {report}"


def test_gathering_reads_each_number_once(pool: CompilePool) -> None:
    """One 32-bit load a staged row more than without, and one multiply-add a 128-bit load of A."""
    [plain], [gathered] = (
        build(pool, problem, [BASE]) for problem in (MIXTRAL, replace(MIXTRAL, gather=True))
    )
    numbers = [
        len(re.findall(r"ld\.global(?:\.nc)?\.[us]32", built.ptx)) for built in (plain, gathered)
    ]
    assert numbers[1] - numbers[0] == 4  # 64 rows, 16 of them in a pass of 128 threads
    addresses = re.findall(rf"mad\.wide\.u32\s+%rd\d+, %r\d+, {2 * MIXTRAL.k},", gathered.ptx)
    assert len(addresses) == (1 + BASE.stages) * 4


def test_default_configs_compile_and_spill_nothing(pool: CompilePool) -> None:
    for problem in (MIXTRAL, replace(MIXTRAL, combine="any")):
        default = SPACE.view(problem, CARD).default()
        ways = ("ordered", "atomic", "reduce") if problem.combine else ("none",)
        for built in build(pool, problem, [replace(default, combine=way) for way in ways]):
            assert built.binaries["sm_75"].resources.spill_stores == 0


def test_every_parameter_changes_the_machine_code_or_the_launch(pool: CompilePool) -> None:
    combining = replace(MIXTRAL, combine="any")
    view = SPACE.view(combining, CARD)
    changes: dict[str, dict[str, Any]] = {
        "swap": {"swap": True, "tile_m": 16, "warps_m": 1},
        "tile_m": {"tile_m": 32},
        "warps_m": {"warps_m": 1},
        "tile_n": {"tile_n": 32},
        "warps_n": {"warps_n": 1},
        "tile_k": {"tile_k": 128},
        "warps_k": {"warps_k": 2},
        "min_ctas": {"min_ctas": 2},
        "k_step": {"k_step": 16},
        "fragments": {"fragments": 2},
        "acc": {"acc": "f16p4"},
        "smem": {"smem": "pad8"},
        "stages": {"stages": 3},
        "cache": {"cache": "cs"},
        "combine": {"combine": "atomic"},
    }
    assert {*changes, "split_k", "group_m"} == {p.name for p in SPACE.parameters}
    base = replace(BASE, combine="ordered")
    configs = [base, *(replace(base, **change) for change in changes.values())]
    assert not [config for config in configs if view.explain(config)]
    codes = [re.sub(r"lm_\w+", "", built.ptx) for built in build(pool, combining, configs)]
    assert len(set(codes)) == len(codes)
    for launched in (replace(BASE, split_k=2), replace(BASE, group_m=4)):
        assert render(MIXTRAL, launched) == render(MIXTRAL, BASE)
        assert launch_shape(MIXTRAL, launched, 64) != launch_shape(MIXTRAL, BASE, 64)


def test_min_ctas_reaches_the_launch_bounds(pool: CompilePool) -> None:
    [built] = build(pool, MIXTRAL, [replace(BASE, min_ctas=3)])
    assert re.search(r"\.minnctapersm 3", built.ptx) and re.search(r"\.maxntid 128", built.ptx)


@pytest.mark.parametrize(
    ("config", "mmas", "ldmatrix", "wide_loads"),
    [
        # a warp multiplies 32x32x64 a k-tile: (32/16)(32/8)(64/8) MMAs; ldmatrix.x4 brings 32 rows
        # of 8 halves: 8 for A and 8 for B; 128 threads stage 4 + 4 chunks a tile
        (BASE, 64, 16, 8),
        # 16x16x64: 16 MMAs; with k-steps of 16, one ldmatrix.x4 brings 16 rows x 16 halves
        (replace(BASE, tile_m=32, tile_n=32, k_step=16), 16, 8, 4),
    ],
)
def test_main_loop_holds_what_the_tile_needs(
    config: GroupedGemmConfig, mmas: int, ldmatrix: int, wide_loads: int, pool: CompilePool
) -> None:
    """One k-tile of instructions in the loop, plus the staged tiles before it."""
    [built] = build(pool, MIXTRAL, [config])
    assert len(re.findall(r"mma\.sync\.aligned\.m16n8k8", built.ptx)) == mmas
    assert len(re.findall(r"ldmatrix\.sync", built.ptx)) == ldmatrix
    assert len(re.findall(r"ld\.global\.\w+\.v4", built.ptx)) == (1 + config.stages) * wide_loads


def test_fp16_accumulation_uses_its_own_instruction(pool: CompilePool) -> None:
    [built] = build(pool, MIXTRAL, [replace(BASE, acc="f16")])
    assert "m16n8k8.row.col.f16.f16.f16.f16" in built.ptx
    assert "trap" not in built.ptx


def test_grid_covers_every_routing() -> None:
    """Brute force: no split of the rows over experts has more tiles than the grid holds."""
    problem = Problem("grouped_gemm", 3, 64, 64, 1)
    config = replace(BASE, tile_m=16)
    for rows in range(40):
        tiles = most_m_tiles(problem, config, rows)
        worst = max(
            -(-a // 16) - (-b // 16) - (-(rows - a - b) // 16)
            for a in range(rows + 1)
            for b in range(rows + 1 - a)
        )
        assert tiles >= worst
        assert tiles <= worst + problem.experts
