"""The templates' PTX for a newer virtual architecture: other instructions, the same results."""

from __future__ import annotations

import pytest

from search_spaces import GroupedGemmConfig, Numerics, Problem
from templates import Built, Target, render
from templates.build import build_batch
from templates.cache import KernelCache
from tuner.emulated_gemm import check_config

PROBLEM = Problem("grouped_gemm", 5, 136, 328, 2, numerics=Numerics.FP16)
CONFIGS = [
    "64x64x64_w2x2x1_s2_sw3.3.3_f32_r2x8_mn_ca_o1_g8_k1",
    "16x64x32_w1x2x2_s2_sw1.3.3_f16p8_r1x16_mn_cg_o4_g1_k2",
    "8x32x64_w1x2x2_s3_pad8_f16_r1x8_nm_nc_o2_g4_k1",
]


@pytest.mark.parametrize("name", CONFIGS)
def test_compute_80(name: str) -> None:
    config = GroupedGemmConfig.parse(name)
    variant = render(PROBLEM, config)
    [built] = build_batch(KernelCache(), [variant], Target("compute_80", ()))
    assert isinstance(built, Built), built
    assert ".target sm_80" in built.ptx
    found = check_config(PROBLEM, config, built, [0, 17, 1, 0, 40], seed=3)
    assert found.ok, found.reason
