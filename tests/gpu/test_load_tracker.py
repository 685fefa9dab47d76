"""LoadTracker on a GPU: nothing in it waits, whatever the stream is busy with."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from engine import MoE, TunedKernels
from engine.kernels.load_tracker import BUFFERS, LoadTracker
from search_spaces import Skew
from tests.engine.test_load_tracker import offsets
from tests.gpu.moe_layers import make_layer

pytestmark = pytest.mark.gpu
CARD = torch.device("cuda", 0)
LONG = 1 << 31  # cycles: a second or more


@contextmanager
def strictly() -> Iterator[None]:
    """Torch raises at any of its own calls that would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.fixture
def tracker() -> LoadTracker:
    return LoadTracker(64, 6, CARD, every=1)


def follow(tracker: LoadTracker, loads: torch.Tensor, skew: Skew) -> None:
    """Records the same loads until they have arrived; fails after some seconds."""
    deadline = time.monotonic() + 20
    while tracker.skew != skew:
        assert time.monotonic() < deadline, f"still {tracker.skew}"
        tracker.record(loads)
        time.sleep(0.001)


def expected(loads: torch.Tensor) -> Skew:
    host = LoadTracker(64, 6, torch.device("cpu"))
    host.record(loads.cpu())
    return host.skew


def test_steps_behind_a_busy_stream_go_on_at_once(tracker: LoadTracker) -> None:
    loads = offsets(256, "zipf:1.2").to(CARD)
    wanted = expected(loads)
    with strictly():
        torch.cuda._sleep(LONG)
        start = time.monotonic()
        for _ in range(50 * BUFFERS):
            tracker.record(loads)
        assert time.monotonic() - start < 0.2
        assert tracker.skew == Skew()
        follow(tracker, loads, wanted)


def test_a_copy_reads_what_its_own_step_wrote(tracker: LoadTracker) -> None:
    """The offsets change in place right behind the step, on a side stream."""
    even, steep = (offsets(256, skew).to(CARD) for skew in ("uniform", "zipf:1.2"))
    wanted, side = expected(steep), torch.cuda.Stream()
    with torch.cuda.stream(side), strictly():
        loads = even.clone()
        torch.cuda._sleep(LONG // 8)
        loads.copy_(steep)
        tracker.record(loads)
        loads.copy_(even)
    side.synchronize()
    tracker.record(loads)
    assert tracker.skew == wanted


def test_a_captured_graph_copies_nothing_and_keeps_the_skew(tracker: LoadTracker) -> None:
    steep, even = (offsets(256, skew).to(CARD) for skew in ("zipf:1.2", "uniform"))
    follow(tracker, steep, expected(steep))
    known = tracker.skew
    static = even.clone()
    tracker.record(static)  # under way while the capture begins
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static.copy_(even)
        for _ in range(5):
            tracker.record(static)
    assert tracker.skew == known
    static.copy_(steep)
    graph.replay()
    follow(tracker, static, Skew())


@pytest.mark.filterwarnings("ignore::engine.kernels.NotTunedWarning")
def test_a_capture_learns_nothing_from_its_own_tokens(tmp_path: Path) -> None:
    """It warms up on zeros, which all go to the same experts."""
    given = make_layer("olmoe", seed=1)
    kernels = TunedKernels(tmp_path / "none.sqlite", CARD, skew="auto")
    layer = MoE(given.config, given.weights, kernels, max_tokens=512)
    layer.loads = LoadTracker(64, 8, CARD, every=1)
    layer.capture(512)
    torch.cuda.synchronize()
    layer(given.tokens(512, seed=2))  # collects what has arrived
    assert layer.loads.skew == Skew()
