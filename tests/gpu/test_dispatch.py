"""TunedKernels on a GPU: right results, what is refused, and what a call costs the host."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.kernels import (
    NotTunedWarning,
    TunedKernels,
    grouped_gemm_reference,
    interleave_gate_up,
)
from search_spaces import Problem, UserError
from search_spaces.problem import EPILOGUES
from templates import CompilePool
from templates.device import device_spec
from tests.gpu.compiled import defaults, fill_cache
from tests.gpu.dispatch_cases import (
    SMALL,
    assert_right,
    default_config,
    operands,
    ragged,
    split_kernels,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::engine.kernels.NotTunedWarning"),
]
DEVICE = "cuda"
GATHERED = replace(SMALL, n=272, gather=True)
TINY = Problem("grouped_gemm", 8, 256, 256, 2)


@pytest.fixture(scope="module")
def untuned(tmp_path_factory: pytest.TempPathFactory, pool: CompilePool) -> TunedKernels:
    gathered = [replace(GATHERED, epilogue=epilogue) for epilogue in EPILOGUES]
    fill_cache(pool, defaults([SMALL, TINY, *gathered]))
    return TunedKernels(tmp_path_factory.mktemp("db") / "none.sqlite", DEVICE)


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    """Every wait for the device that torch knows of raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("seed", range(12))
def test_ragged_rows_against_fp64(untuned: TunedKernels, seed: int) -> None:
    rows = [1, 2, 7, 16, 33, 100, 128, 129, 511, 1000, 1537, 4096][seed]
    offsets = ragged(SMALL, rows, seed)
    a, b = operands(SMALL, rows, seed)
    c = untuned.grouped_gemm(a, b, offsets, top_k=2, check=True)
    assert (c.dtype, c.shape, c.device) == (torch.float16, (rows, SMALL.n), a.device)
    assert_right(c, a, b, offsets, default_config(SMALL).acc)


@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_gathered_tokens_and_gated_columns(untuned: TunedKernels, epilogue: str) -> None:
    """Against the torch reference, whose products are in fp32; fp16 rounds by 2^-11."""
    _, b = operands(SMALL, 1, 5)
    b = interleave_gate_up(torch.cat([b, b[:, :8]], dim=1))  # 272 rows: 136 gate, 136 up
    hidden, _ = operands(SMALL, 100, 6)
    offsets = ragged(SMALL, 200, 5)
    generator = torch.Generator(DEVICE).manual_seed(7)
    rows = (torch.randperm(200, generator=generator, device=DEVICE) // 2).int()
    fused: dict[str, Any] = {"rows": rows, "epilogue": epilogue}
    c = untuned.grouped_gemm(hidden, b, offsets, top_k=2, check=True, **fused)
    expected = grouped_gemm_reference(hidden, b, offsets, **fused)
    torch.testing.assert_close(c, expected, rtol=2e-3, atol=2e-2)
    out = torch.empty_like(c)
    with waiting_is_an_error():
        assert untuned.grouped_gemm(hidden, b, offsets, top_k=2, out=out, **fused) is out
    assert torch.equal(out, c)


def test_no_rows(untuned: TunedKernels) -> None:
    a, b = operands(SMALL, 0, 1)
    offsets = torch.zeros(SMALL.experts + 1, dtype=torch.int32, device=DEVICE)
    assert untuned.grouped_gemm(a, b, offsets).shape == (0, SMALL.n)


def test_rows_outside_the_offsets_are_not_written(untuned: TunedKernels) -> None:
    a, b = operands(SMALL, 40, 2)
    offsets = torch.tensor([0, 3, 3, 3, 9, 9, 20, 20, 29], dtype=torch.int32, device=DEVICE)
    out = torch.full((40, SMALL.n), 7.0, dtype=torch.float16, device=DEVICE)
    assert untuned.grouped_gemm(a, b, offsets, out=out) is out
    assert (out[29:] == 7).all()
    assert_right(out, a, b, offsets)


def test_split_k_is_right_and_repeats_to_the_bit(tmp_path: Path) -> None:
    """A counter that one launch leaves behind would spoil the next."""
    kernels = split_kernels(tmp_path / "t.sqlite", SMALL, 256)
    a, b = operands(SMALL, 256, 3)
    for seed in range(5):
        offsets = ragged(SMALL, 256, seed)
        first = kernels.grouped_gemm(a, b, offsets, top_k=2)
        assert_right(first, a, b, offsets)
        for _ in range(5):
            assert torch.equal(kernels.grouped_gemm(a, b, offsets, top_k=2), first)


def test_another_device_than_the_current_one(tmp_path: Path) -> None:
    """With one GPU this is the plain case; with more, tensors live beside the current device."""
    last = torch.cuda.device_count() - 1
    kernels = TunedKernels(tmp_path / "none.sqlite", f"cuda:{last}")
    a, b = operands(SMALL, 64, 4, device=f"cuda:{last}")
    offsets = ragged(SMALL, 64, 4).to(f"cuda:{last}")
    assert torch.cuda.current_device() == 0
    c = kernels.grouped_gemm(a, b, offsets)
    assert torch.cuda.current_device() == 0
    torch.cuda.synchronize(last)
    assert_right(c, a, b, offsets)


def test_bad_tensors_are_refused_before_any_launch(untuned: TunedKernels) -> None:
    a, b = operands(SMALL, 16, 5)
    offsets = ragged(SMALL, 16, 5)
    for bad in ((a.cpu(), b, offsets), (a, b.cpu(), offsets), (a, b, offsets.cpu())):
        with pytest.raises(UserError, match="is on cpu: must be on cuda:0"):
            untuned.grouped_gemm(*bad)
    odd = torch.randn(1 + 16 * SMALL.k, device=DEVICE).half()[1:].view(16, SMALL.k)
    with pytest.raises(UserError, match="2 bytes past a multiple of 16"):
        untuned.grouped_gemm(odd, b, offsets)
    with pytest.raises(UserError, match="descend"):
        untuned.grouped_gemm(a, b, offsets.flip(0), check=True)
    with pytest.raises(UserError, match="multiple of 8"):
        untuned.grouped_gemm(a, b[:, :30].contiguous(), offsets)
    torch.cuda.synchronize()


def test_nothing_tuned_warns_once_and_names_this_gpu(tmp_path: Path) -> None:
    kernels = TunedKernels(tmp_path / "none.sqlite", DEVICE)
    a, b = operands(SMALL, 16, 6)
    offsets = ragged(SMALL, 16, 6)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for rows in (16, 8, 16):
            kernels.grouped_gemm(a[:rows], b, offsets.clamp(max=rows))
    (warning,) = [w for w in caught if w.category is NotTunedWarning]
    assert warning.filename == __file__
    assert "python -m tuner.search --op grouped_gemm" in str(warning.message)
    assert "--gpus 0" in str(warning.message)
    assert kernels.explain(SMALL, 8).gpu == device_spec(0).name


def test_a_warm_call_waits_for_nothing(untuned: TunedKernels) -> None:
    """The call comes back while the stream is still busy with what was queued before it."""
    a, b = operands(SMALL, 128, 7)
    offsets = ragged(SMALL, 128, 7)
    untuned.grouped_gemm(a, b, offsets)
    with waiting_is_an_error():
        torch.cuda._sleep(1_000_000_000)
        c = untuned.grouped_gemm(a, b, offsets)
        assert not torch.cuda.current_stream().query()
    assert_right(c, a, b, offsets)


@pytest.mark.parametrize("split", [False, True], ids=["plain", "split_k"])
def test_memory_does_not_grow_with_calls(
    untuned: TunedKernels, tmp_path: Path, split: bool
) -> None:
    kernels = split_kernels(tmp_path / "t.sqlite", SMALL, 256) if split else untuned
    a, b = operands(SMALL, 256, 8)
    offsets = ragged(SMALL, 256, 8)
    out = kernels.grouped_gemm(a, b, offsets)
    kernels.grouped_gemm(a, b, offsets, out=out)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for _ in range(200):
        kernels.grouped_gemm(a, b, offsets, out=out)
        kernels.grouped_gemm(a, b, offsets)
    torch.cuda.synchronize()
    assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_host_cost_is_printed(untuned: TunedKernels, capsys: pytest.CaptureFixture[str]) -> None:
    """For people to read: how long the host is busy per call, median of 3,000."""
    a, b = operands(TINY, 16, 9)
    offsets = ragged(TINY, 16, 9)
    cases = {"": None, " with out=": untuned.grouped_gemm(a, b, offsets, top_k=2)}
    for name, out in cases.items():
        costs = []
        for repeat in range(3000):
            begin = time.perf_counter_ns()
            untuned.grouped_gemm(a, b, offsets, top_k=2, out=out)
            costs.append((time.perf_counter_ns() - begin) / 1000)
            if repeat % 100 == 0:
                torch.cuda.synchronize()  # a full launch queue would make the host wait
        with capsys.disabled():
            print(f"\nhost cost of grouped_gemm{name}: {statistics.median(costs):.2f} us")
        assert len(costs) == 3000
