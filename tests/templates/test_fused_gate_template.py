"""The gate's source: its classes of variants compile without a GPU and spill nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from search_spaces.gate import GateConfig
from search_spaces.gate_problem import GateProblem
from templates import Built, CompilePool, Target
from templates.fused_gate import launch_shape, render

QWEN = GateProblem(128, 2048, 8, renormalise=True)
V3 = GateProblem(256, 7168, 8, "f16", "sigmoid", True, 8, 4, "top2", True, 1)
KERNELS = [
    (QWEN, "mma64x128x64_w2x4x1_s2_te_k1_l8_pass"),
    (QWEN, "mma8x64x64_w1x4x1_s3_et_k4_l32_last"),
    (V3, "mma128x128x64_w2x4x1_s2_te_k2_l16_pass"),
    (V3, "fma8x32x256_w1x4x2_s1_te_k2_l8_last"),
    (GateProblem(8, 4096, 2, "f32"), "fma8x8x256_w1x4x2_s1_te_k1_l8_last"),
    (GateProblem(2048, 0, 32, "bf16"), "none8x0x0_w4x1x1_s1_te_k1_l32_last"),
]


@pytest.fixture(scope="module")
def pool() -> Iterator[CompilePool]:
    with CompilePool(workers=1) as pool:
        yield pool


def test_classes_of_variants_compile_and_spill_nothing(pool: CompilePool) -> None:
    variants = [render(problem, GateConfig.parse(name)) for problem, name in KERNELS]
    built = list(pool.build(variants, Target.for_tier("sm_75")))
    for (_, name), one in zip(KERNELS, built, strict=True):
        assert isinstance(one, Built), one
        report = one.binaries["sm_75"].resources
        assert report.spill_stores == report.spill_loads == 0, f"{name}: {report}"


def test_equal_compile_keys_give_equal_source() -> None:
    config = GateConfig.parse("mma16x64x64_w1x4x1_s2_te_k8_l8_last")
    assert render(QWEN, config) == render(QWEN, config.compile_key)


def test_without_tokens_one_cta_writes_the_offsets() -> None:
    for name in ("mma16x64x64_w1x4x1_s2_te_k8_l8_last", "none8x0x0_w2x1x1_s1_te_k1_l8_pass"):
        config = GateConfig.parse(name)
        shape = launch_shape(QWEN, config, 0)
        [only] = shape.passes
        assert only.grid == (1, 1, 1) and only.scalars[-1] == 1
        assert shape.workspace_bytes == 4 * 128


@pytest.mark.parametrize(("tail", "passes"), [("last", 1), ("pass", 2)])
def test_passes_follow_the_tail(tail: str, passes: int) -> None:
    config = GateConfig.parse(f"fma8x32x256_w1x4x2_s1_te_k2_l8_{tail}")
    shape = launch_shape(QWEN, config, 100, scaling=2.5)
    assert len(shape.passes) == passes
    assert shape.passes[0].grid == (13, 8, 1)  # 4 tiles of experts, 2 splits
    assert shape.counters == 1 + 13
    for number, each in enumerate(shape.passes):
        tokens, scaling, _, last = map(float, each.scalars)
        assert (tokens, scaling, last) == (100, 2.5, number)
    partial = 4 * 13 * 2 * 8 * 128
    assert shape.workspace_bytes == partial + 4 * 128 * (1 if tail == "last" else 13)
