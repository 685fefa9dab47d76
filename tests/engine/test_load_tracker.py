"""LoadTracker on a CPU: it reads every few steps, and what it tells is the estimate of those."""

from __future__ import annotations

import time
from itertools import accumulate

import torch

from engine.kernels.load_tracker import LoadTracker
from search_spaces import Bucket, Problem, Skew
from search_spaces.skew_estimate import estimate_skew

PROBLEM = Problem("grouped_gemm", 64, 8, 8, 6)
CPU = torch.device("cpu")


def offsets(per_expert: float, skew: str, seed: int = 0) -> torch.Tensor:
    """The offsets of that bucket, int32 [65]."""
    rows = Bucket(per_expert, Skew.parse(skew)).histogram(PROBLEM, seed)
    return torch.tensor([0, *accumulate(rows)], dtype=torch.int32)


def test_the_skew_of_the_loads_is_known_after_a_step() -> None:
    tracker = LoadTracker(64, 6, CPU, every=1)
    assert tracker.skew == Skew()
    for skew in ("zipf:1.2", "uniform", "zipf:0.6"):
        tracker.record(offsets(256, skew))
        assert abs(tracker.skew.exponent - Skew.parse(skew).exponent) <= 0.03


def test_only_every_so_many_steps_are_read() -> None:
    tracker = LoadTracker(64, 6, CPU, every=4)
    seen = []
    for step in range(12):
        tracker.record(offsets(256, "zipf:1.2" if step % 8 == 4 else "uniform"))
        seen.append(tracker.skew.kind)
    assert seen == ["uniform"] * 4 + ["zipf"] * 4 + ["uniform"] * 4


def test_rows_that_no_expert_takes_do_not_count() -> None:
    """Padding lies behind the last offset; a step without rows is one without skew."""
    tracker = LoadTracker(64, 6, CPU, every=1)
    loads = offsets(64, "zipf:1")
    tracker.record(loads)
    assert tracker.skew == estimate_skew(loads.diff().tolist(), 6)
    tracker.record(torch.zeros(65, dtype=torch.int32))
    assert tracker.skew == Skew()


def test_shared_experts_which_take_every_token_are_no_skew() -> None:
    tracker = LoadTracker(64, 6, CPU, every=1)
    routed = offsets(256, "uniform")
    behind = routed[-1] + routed[-1] // 6 * torch.arange(1, 3, dtype=torch.int32)
    tracker.record(torch.cat([routed, behind]))
    assert tracker.skew == Skew()


def test_while_held_nothing_is_noted_and_no_step_counts() -> None:
    tracker = LoadTracker(64, 6, CPU, every=2)
    steep = offsets(256, "zipf:1.2")
    tracker.record(steep)
    known = tracker.skew
    assert known.kind == "zipf"
    with tracker.held():
        for _ in range(5):
            tracker.record(offsets(256, "uniform"))
    assert tracker.skew == known
    tracker.record(offsets(256, "uniform"))
    assert tracker.skew == known, "the first of two steps"
    tracker.record(offsets(256, "uniform"))
    assert tracker.skew == Skew()


def test_a_step_costs_the_host_less_than_two_microseconds() -> None:
    """Copies, polls and estimates included: the best of several rounds, on whatever machine."""
    tracker = LoadTracker(64, 6, CPU)
    loads = offsets(64, "zipf:1")
    tracker.record(loads)
    best, steps = float("inf"), 640
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(steps):
            tracker.record(loads)
        best = min(best, (time.perf_counter() - start) / steps)
    assert best < 2e-6
