"""Skewed and even loads run kernels of their own; a captured graph keeps the ones it began with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.kernels import TunedKernels
from search_spaces import Skew, space_for
from templates.device import device_spec
from tests.engine.tuned_db import add_bucket
from tests.gpu.dispatch_cases import SMALL, assert_right, default_config, operands, ragged

pytestmark = pytest.mark.gpu
ROWS = 256
STEEP = Skew("zipf", 1.1)


@pytest.fixture
def kernels(tmp_path: Path) -> TunedKernels:
    """Even loads take the default, which sums in fp32; skewed ones a kernel that sums in fp16."""
    default, gpu, size = default_config(SMALL), device_spec(0).name, f"{ROWS / SMALL.experts:g}"
    for skew, config in (
        ("uniform", default),
        ("zipf:1.2", replace(default, tile_m=64, acc="f16p4")),
    ):
        bucket, times = f"{size}@{skew}", {str(config): 10.0}
        add_bucket(tmp_path / "t.sqlite", bucket, times, problem=SMALL, gpu=gpu)
        assert space_for("grouped_gemm").view(SMALL, device_spec(0)).explain(config) == []
    return TunedKernels(tmp_path / "t.sqlite", "cuda", skew="auto")


def test_each_skew_runs_its_winner(kernels: TunedKernels) -> None:
    kernels.warm_up(SMALL, [ROWS // SMALL.top_k])
    a, b = operands(SMALL, ROWS, 1)
    offsets = ragged(SMALL, ROWS, 1)
    unknown, even, steep = (
        kernels.grouped_gemm(a, b, offsets, skew=skew) for skew in (None, Skew(), STEEP)
    )
    assert_right(even, a, b, offsets)
    assert_right(steep, a, b, offsets, "f16p4")
    assert torch.equal(unknown, even)
    assert not torch.equal(even, steep), "the same kernel ran"


def test_after_warming_up_any_skew_can_be_captured(kernels: TunedKernels) -> None:
    kernels.warm_up(SMALL, [ROWS // SMALL.top_k])
    a, b = operands(SMALL, ROWS, 2)
    offsets = ragged(SMALL, ROWS, 2)
    expected = {skew: kernels.grouped_gemm(a, b, offsets, skew=skew) for skew in (None, STEEP)}
    torch.cuda.synchronize()
    for skew, right in expected.items():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            c = kernels.grouped_gemm(a, b, offsets, skew=skew)
        graph.replay()
        assert torch.equal(c, right)
