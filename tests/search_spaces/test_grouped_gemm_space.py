"""grouped_gemm's space: its size, and the reason of every rule."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest

from search_spaces import (
    GPUS,
    PRESETS,
    Constraint,
    GroupedGemmConfig,
    Numerics,
    Problem,
    load_model,
)
from search_spaces.grouped_gemm_space import GROUPED_GEMM, register_estimate, smem_bytes
from tests.search_spaces.spaces import MIXTRAL, ONE_OF_EACH, TURING, reduced

FINE = "128x128x32_w2x2x1_s2_sw2.3.3_f32_r2x8_mn_ca_o1_g8_k1"


# (what is changed in a valid config, the rule it breaks, words of the reason)
BROKEN: list[tuple[dict[str, object], str, list[str]]] = [
    ({"swap": True}, "mma_axis", ["tile_m=128", "32 tokens"]),
    ({"tile_m": 16}, "mma_axis", ["8 rows per warp", "16"]),
    ({"tile_m": 8, "swap": True}, "mma_axis", ["4 rows per warp", "8"]),
    ({"tile_n": 32, "warps_n": 8}, "warp_columns", ["4 columns per warp", "8"]),
    ({"tile_n": 32, "warps_n": 4, "tile_m": 32, "swap": True}, "warp_columns",
     ["8 columns per warp", "16"]),
    ({"warps_m": 4, "warps_n": 8}, "threads", ["1024 threads", "512"]),
    ({"warps_k": 4}, "k_slices", ["tile_k=32", "4 warps along K"]),
    ({"warps_m": 1, "warps_n": 1, "tile_k": 128}, "staging", ["staged 128-bit loads", "16"]),
    ({"smem": "sw3.3.3"}, "swizzle", ["sw3.3.3", "32 halves"]),
    ({"smem": "sw3.3.4", "tile_k": 64}, "swizzle", ["sw3.3.4", "8 rows"]),
    ({"smem": "sw3.3.4", "tile_k": 128, "warps_n": 1, "tile_m": 32, "tile_n": 32},
     "swizzle_passes", ["sw3.3.4 repeats every 8 rows", "pass has 4"]),
    ({"k_step": 16, "warps_k": 2}, "fragments", ["1 k-step a tile", "at least 2"]),
    ({"acc": "f16"}, "numerics", ["acc=f16", "promoted numerics"]),
    ({"min_ctas": 4, "warps_n": 8}, "occupancy", ["4 CTAs have 2048 threads", "1024"]),
    ({"stages": 4, "tile_k": 64, "smem": "sw3.3.3"}, "shared_memory",
     ["131072 bytes", "RTX 2080 Ti has 65536"]),
    ({"stages": 2, "min_ctas": 3}, "shared_memory", ["3 CTAs of 32768 bytes", "65536"]),
    ({"tile_m": 256, "tile_n": 256}, "registers", ["registers a thread", "255"]),
    ({"min_ctas": 2, "warps_n": 4, "tile_n": 256}, "registers", ["2 CTAs x 256 threads"]),
]  # fmt: skip


def test_the_starting_point_is_valid() -> None:
    assert GROUPED_GEMM.view(MIXTRAL, TURING).explain(GroupedGemmConfig.parse(FINE)) == []


@pytest.mark.parametrize(("change", "rule", "words"), BROKEN)
def test_each_rule_says_why(change: dict[str, object], rule: str, words: list[str]) -> None:
    config = replace(GroupedGemmConfig.parse(FINE), **change)  # type: ignore[arg-type]
    broken = {v.constraint: v.reason for v in GROUPED_GEMM.view(MIXTRAL, TURING).explain(config)}
    assert rule in broken, broken
    assert all(word in broken[rule] for word in words), broken[rule]


@pytest.mark.parametrize(
    ("shape", "change", "rule", "words"),
    [
        ((64, 4096), {"tile_n": 256}, "useful_tile", ["tile_n=256", "N=64"]),
        ((4096, 40), {"tile_k": 64}, "k_slices", ["tile_k=64 exceeds K=40"]),
        ((4096, 512), {"split_k": 8}, "split_k", ["K=512 in 8 splits", "4 k-tiles"]),
    ],
)
def test_rules_about_the_problem(
    shape: tuple[int, int], change: dict[str, int], rule: str, words: list[str]
) -> None:
    config = replace(GroupedGemmConfig.parse(FINE), **change)  # type: ignore[arg-type]
    view = GROUPED_GEMM.view(Problem("grouped_gemm", 8, *shape, 2), TURING)
    broken = {v.constraint: v.reason for v in view.explain(config)}
    assert all(word in broken[rule] for word in words)


def test_gate_and_up_columns_stay_in_one_warp() -> None:
    config = replace(GroupedGemmConfig.parse(FINE), tile_m=16, warps_m=1, tile_n=32, warps_n=4)
    gated = replace(MIXTRAL, epilogue="swiglu")
    broken = {v.constraint: v.reason for v in GROUPED_GEMM.view(gated, TURING).explain(config)}
    assert "8 columns per warp: swiglu needs gate and up" in broken["gate_up_pairs"]
    assert not GROUPED_GEMM.view(MIXTRAL, TURING).explain(config)
    assert not GROUPED_GEMM.view(gated, TURING).explain(replace(config, tile_n=64))


def test_gathering_takes_a_register_for_each_staged_row() -> None:
    config = GroupedGemmConfig.parse(FINE)  # 128 rows, 32 of them in a pass of 128 threads
    assert register_estimate(config, gather=True) == register_estimate(config) + 4


@pytest.mark.parametrize(
    ("combine", "allowed"),
    [("", {"none"}), ("ordered", {"ordered", "reduce"}), ("any", {"ordered", "atomic", "reduce"})],
)
def test_rows_are_combined_as_the_problem_says(combine: str, allowed: set[str]) -> None:
    view = GROUPED_GEMM.view(replace(MIXTRAL, combine=combine), TURING)
    values = next(p.values for p in GROUPED_GEMM.parameters if p.name == "combine")
    config = view.default()
    assert config.combine == ("ordered" if combine else "none")
    valid = {v for v in values if not view.explain(replace(config, combine=v))}
    assert valid == allowed
    assert view.count % len(allowed) == 0  # they ask the same of a tile


def test_combining_takes_two_registers_for_each_row_of_a_thread() -> None:
    config = GroupedGemmConfig.parse(FINE)  # 128 rows, 128 threads
    combining = replace(config, combine="ordered")
    assert register_estimate(combining) == register_estimate(config) + 2


def test_promotion_rule_allows_whole_multiples_only() -> None:
    # 128 / 16 / 1 = 8 steps a tile: every period divides 8
    tile = replace(GroupedGemmConfig.parse(FINE), tile_m=32, tile_n=64, tile_k=128, smem="none")
    view = GROUPED_GEMM.view(MIXTRAL, TURING)
    for acc in ("f16p1", "f16p2", "f16p4", "f16p8"):
        assert view.explain(replace(tile, acc=acc)) == []
    odd = replace(tile, tile_k=96, acc="f16p4")  # 6 steps; 96 is in no space, the rule still holds
    rule = next(c for c in GROUPED_GEMM.constraints if c.name == "promotion")
    assert (
        rule.check(odd, MIXTRAL, TURING) == "promotion every 4 k-steps does not divide a tile's 6"
    )


def test_every_rule_is_exercised_above() -> None:
    exercised = {rule for _, rule, _ in BROKEN} | {
        "useful_tile", "split_k", "promotion", "gate_up_pairs", "combine",
    }  # fmt: skip
    assert {c.name for c in GROUPED_GEMM.constraints} <= exercised


@pytest.mark.parametrize("constraint", GROUPED_GEMM.constraints, ids=lambda c: str(c.name))
def test_rules_read_no_more_than_they_declare(constraint: Constraint) -> None:
    """A rule that read an undeclared parameter would be checked before that is fixed."""
    view, rng = reduced(**ONE_OF_EACH).view(MIXTRAL, TURING), random.Random(1)
    config = view.sample(rng)
    partial = SimpleNamespace(**{name: getattr(config, name) for name in constraint.uses})
    assert constraint.check(partial, MIXTRAL, TURING) is None


def test_mixtral_has_thousands_of_kernels_before_launch_arguments() -> None:
    kernels = reduced(group_m=(1,), split_k=(1,), cache=("ca",), min_ctas=(1,))
    assert kernels.view(MIXTRAL, TURING).count >= 5_000


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("layer", ["gate_up", "down"])
def test_every_preset_has_a_valid_default_everywhere(name: str, layer: str) -> None:
    for numerics in Numerics:
        problem = load_model(name).problem(layer, numerics)
        for gpu in GPUS:
            view = GROUPED_GEMM.view(problem, gpu)
            assert view.explain(view.default()) == []


@pytest.mark.parametrize(("n", "k"), [(8, 8), (8, 4096), (40, 72), (4096, 8)])
def test_the_smallest_problems_have_configs(n: int, k: int) -> None:
    view = GROUPED_GEMM.view(Problem("grouped_gemm", 1, n, k, 1), TURING)
    assert view.explain(view.default()) == []


def test_numerics_decide_who_may_accumulate_in_fp16() -> None:
    config = replace(GroupedGemmConfig.parse(FINE), tile_m=64)
    accs = ("f32", "f16", "f16p1", "f16p2", "f16p4", "f16p8")
    allowed = {}
    for numerics in Numerics:
        view = GROUPED_GEMM.view(replace(MIXTRAL, numerics=numerics), TURING)
        allowed[numerics] = {acc for acc in accs if not view.explain(replace(config, acc=acc))}
    assert allowed[Numerics.FP32] == {"f32"}
    assert allowed[Numerics.PROMOTED] == set(accs) - {"f16"}
    assert allowed[Numerics.FP16] == set(accs)


def test_shared_memory_by_hand() -> None:
    config = GroupedGemmConfig.parse(FINE)
    assert smem_bytes(config) == 2 * (128 + 128) * 32 * 2
    assert smem_bytes(replace(config, smem="pad8")) == 2 * (128 + 128) * 40 * 2
    # the epilogue of 2 warps along K needs a tile of floats, more than one stage of the ring
    assert smem_bytes(replace(config, warps_k=2, stages=1)) == 128 * 128 * 4
