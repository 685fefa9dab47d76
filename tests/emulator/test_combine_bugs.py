"""Bugs planted into what combines rows: a missing barrier or fence is a race, the rest shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.emulator.planted import Edit, built_with
from tests.emulator.test_combine import NARROW, TAILS, WIDE, drawn, launched
from tuner.emulated_gemm import check_config
from tuner.emulator import EmulationFault, FaultKind

COMBINE, ROWS, TILE = "combine.cuh", "weighted_rows.cuh", "grouped_gemm_sm75.cuh"
FENCE = "  __syncthreads();\n  __threadfence();\n"
RACES = {
    "stored rows are not released": (
        "ordered", Edit(COMBINE, FENCE, "  __syncthreads();\n"), FaultKind.GLOBAL_RACE,
    ),
    "not all threads have stored": (
        "ordered", Edit(COMBINE, FENCE, "  __threadfence();\n"), FaultKind.SHARED_RACE,
    ),
    "nothing is acquired": (
        "ordered", Edit(COMBINE, "    __threadfence();\n    __syncwarp();", "    __syncwarp();"),
        FaultKind.GLOBAL_RACE,
    ),
    "fp32 sums are not released": (
        "atomic", Edit(COMBINE, FENCE, "  __syncthreads();\n"), FaultKind.GLOBAL_RACE,
    ),
    "slots and weights are not there yet": (
        "ordered",
        Edit(TILE, "routed.share(table);\n    __syncthreads();", "routed.share(table);"),
        FaultKind.SHARED_RACE,
    ),
}  # fmt: skip
WRONG = {
    "counter is left": ("ordered", Edit(COMBINE, "*counter = 0;", ""), "counters are not zero"),
    "sums are left": ("atomic", Edit(COMBINE, "*low = *high = float4{};", ""), "counters are not"),
    "first slot only": ("reduce", Edit(COMBINE, "size_t(done + i)", "size_t(done)"), "wrong"),
    "weight of the next row": (
        "ordered", Edit(ROWS, "pair[1].weight", "pair[0].weight"), "elements are wrong",
    ),
    "block of the wrong lane": (
        "ordered", Edit(ROWS, "first + threadIdx.x % 4;", "first + (threadIdx.x + 1) % 4;"),
        "elements are wrong",
    ),
    "one row early": ("ordered", Edit(COMBINE, "== top_k - 1", "== top_k - 2"), ""),
}  # fmt: skip
HISTOGRAM = (20, 0, 17, 1, 0, 0, 0, 0, 2)


@pytest.mark.parametrize("bug", RACES)
def test_a_planted_race_is_found(bug: str, tmp_path: Path) -> None:
    way, edit, kind = RACES[bug]
    config = replace(NARROW, combine=way)
    built = built_with(TAILS, config, tmp_path, edit)
    with pytest.raises(EmulationFault) as fault:
        launched(built, drawn(TAILS, list(HISTOGRAM)), config)
    assert fault.value.kind is kind


@pytest.mark.parametrize("bug", WRONG)
def test_a_planted_mistake_is_found(bug: str, tmp_path: Path) -> None:
    way, edit, told = WRONG[bug]
    config = replace(NARROW, combine=way)
    built = built_with(TAILS, config, tmp_path, edit)
    found = check_config(TAILS, config, built, HISTOGRAM, seed=1)
    assert not found.ok and told in str(found.reason)


def test_a_sum_in_another_order_has_other_bits(tmp_path: Path) -> None:
    """Two large parts that cancel come first; after small ones they swallow their last bits."""
    config, inputs = replace(WIDE, combine="ordered"), drawn(replace(TAILS, top_k=8), [3] * 8 + [0])
    inputs.a.copy_(inputs.a[:1].expand_as(inputs.a))
    inputs.b.copy_(inputs.b[:1].expand_as(inputs.b))
    assert inputs.weights is not None
    inputs.weights.copy_(torch.tensor([300.0, -300.0, *[0.001] * 6]))
    order = Edit(COMBINE, "size_t(done + i) * V::kN", "size_t(top_k - 1 - done - i) * V::kN")
    first = launched(built_with(TAILS, config, tmp_path / "right"), inputs, config)
    other = launched(built_with(TAILS, config, tmp_path / "wrong", order), inputs, config)
    assert not torch.equal(first, other)
    torch.testing.assert_close(first, other, rtol=0, atol=1e-3)
