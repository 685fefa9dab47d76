"""TunedKernels under streams, threads and CUDA graphs."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from engine.kernels import TunedKernels
from search_spaces import Problem, UserError
from tests.gpu.dispatch_cases import SMALL, assert_right, operands, ragged, split_kernels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore::engine.kernels.NotTunedWarning"),
]
ROWS = 256


@pytest.fixture(params=["plain", "split_k"])
def kernels(request: pytest.FixtureRequest, tmp_path: Path) -> TunedKernels:
    """Once without and once with scratch memory (the default config; split K in two)."""
    if request.param == "plain":
        return TunedKernels(tmp_path / "none.sqlite", "cuda")
    return split_kernels(tmp_path / "t.sqlite", SMALL, ROWS)


def test_work_is_queued_on_the_current_stream(kernels: TunedKernels) -> None:
    """a becomes right only after a long wait on the side stream; the kernel must come after it."""
    a, b = operands(SMALL, ROWS, 1)
    offsets = ragged(SMALL, ROWS, 1)
    kernels.warm_up(SMALL, [ROWS // SMALL.top_k])
    late = torch.zeros_like(a)
    torch.cuda.synchronize()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        torch.cuda._sleep(200_000_000)
        late.copy_(a)
        c = kernels.grouped_gemm(late, b, offsets)
    side.synchronize()
    assert_right(c, a, b, offsets)


def test_streams_do_not_share_scratch(kernels: TunedKernels) -> None:
    """Two streams at once, many times: shared counters would lose or double a split's sums."""
    a, b = operands(SMALL, ROWS, 2)
    cuts = [ragged(SMALL, ROWS, seed) for seed in range(2)]
    expected = [kernels.grouped_gemm(a, b, offsets) for offsets in cuts]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in cuts]
    results: list[list[torch.Tensor]] = [[], []]
    for _ in range(50):
        for index, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                results[index].append(kernels.grouped_gemm(a, b, cuts[index]))
    torch.cuda.synchronize()
    for found, right in zip(results, expected, strict=True):
        assert all(torch.equal(c, right) for c in found)


def test_threads_with_streams_of_their_own(kernels: TunedKernels) -> None:
    """First calls race for the same kernels; later ones for its argument buffer."""
    _, b = operands(SMALL, ROWS, 3)
    torch.cuda.synchronize()
    failures: list[str] = []

    def work(seed: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            for step in range(30):
                rows = (ROWS, 17, 64 + seed)[step % 3]
                a = operands(SMALL, rows, 100 * seed + step)[0]
                offsets = ragged(SMALL, rows, step)
                c = kernels.grouped_gemm(a, b, offsets, top_k=2)
                try:
                    assert_right(c, a, b, offsets)
                except AssertionError as error:
                    failures.append(f"thread {seed}, step {step}: {error}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_captured_graph_follows_new_data_and_offsets(kernels: TunedKernels) -> None:
    """The grid holds for any split of the rows, since the kernel reads offsets on the device."""
    kernels.warm_up(SMALL, [ROWS // SMALL.top_k])
    a, b = operands(SMALL, ROWS, 4)
    offsets = ragged(SMALL, ROWS, 4)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        first = kernels.grouped_gemm(a, b, offsets)
        second = kernels.grouped_gemm(a, b, offsets)
    for seed in range(6):
        a.copy_(operands(SMALL, ROWS, 50 + seed)[0])
        offsets.copy_(ragged(SMALL, ROWS, 50 + seed))
        first.fill_(float("nan"))
        graph.replay()
        assert_right(first, a, b, offsets)
        assert torch.equal(first, second)


def test_graphs_replayed_side_by_side_do_not_disturb_each_other(kernels: TunedKernels) -> None:
    kernels.warm_up(SMALL, [ROWS // SMALL.top_k])
    a, b = operands(SMALL, ROWS, 5)
    cuts = [ragged(SMALL, ROWS, seed) for seed in range(2)]
    expected = [kernels.grouped_gemm(a, b, offsets) for offsets in cuts]
    torch.cuda.synchronize()
    graphs, outputs = [torch.cuda.CUDAGraph() for _ in cuts], []
    for graph, offsets in zip(graphs, cuts, strict=True):
        with torch.cuda.graph(graph):
            outputs.append([kernels.grouped_gemm(a, b, offsets) for _ in range(20)])
    streams = [torch.cuda.Stream() for _ in cuts]
    for _ in range(5):
        for graph, stream in zip(graphs, streams, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    for found, right in zip(outputs, expected, strict=True):
        assert all(torch.equal(c, right) for c in found)


def test_a_first_use_under_capture_is_refused_with_the_way_out(tmp_path: Path) -> None:
    problem = Problem("grouped_gemm", 4, 128, 136, 2)  # no other test loads this one
    kernels = TunedKernels(tmp_path / "none.sqlite", "cuda")
    a, b = operands(problem, 32, 6)
    offsets = ragged(problem, 32, 6)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(UserError, match="warm_up"), torch.cuda.graph(graph):
        kernels.grouped_gemm(a, b, offsets, out=a.new_empty(32, problem.n))
    kernels.warm_up(problem, [16])
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        c = kernels.grouped_gemm(a, b, offsets)
    graph.replay()
    assert_right(c, a, b, offsets)
