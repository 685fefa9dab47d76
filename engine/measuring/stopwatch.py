"""Stopwatch: cold-cache times of whole layers, taken in turns.

A step is [sweep, event, launch, event]. The sweep reads a buffer of twice the L2: a model has
dozens of layers, so that a layer's weights come from memory each time. It reads rather than writes,
because dirty lines cost whoever evicts them. It stands before the first event and is not timed.
Between the launches of one layer nothing is swept: the second GEMM finds in the L2 what the first
one left there, as it does in a model.

Steps are queued behind a kernel that sleeps until the host is done, so that a launch which the
host is late with never counts as time of the layer. A layer is replayed as a CUDA graph, as a
server would: what the host needs for its three launches is not in the figures.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch

Launch: TypeAlias = "Callable[[], object]"

_LEAST, _MOST = 15, 100  # rounds
_MILLISECONDS = 200.0  # of one launch's own time, within these
_QUEUED_STEPS = 120  # times 4 queue entries a step: the driver's queue holds 1024
_SLEEP_CLOCK_HZ = 2e9  # at a lower clock the sleep is longer than needed, never shorter
_CPU_ROUNDS = 3


@dataclass(frozen=True)
class Timing:
    """Times of one launch in microseconds."""

    samples_us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """What a launch takes."""
        return statistics.median(self.samples_us)

    @property
    def spread_us(self) -> float:
        """(p90 - p10) / 2."""
        deciles = statistics.quantiles(self.samples_us, n=10, method="inclusive")
        return (deciles[8] - deciles[0]) / 2


class Stopwatch(Protocol):
    """Times launches in turns, in random order: clocks drift, and heat stays for the next one."""

    def race(self, launches: Sequence[Launch], seed: int) -> list[Timing]:
        """One Timing per launch; all must have run before."""


def stopwatch_for(device: torch.device) -> Stopwatch:
    """A GPU's events, or the host's clock for a CPU."""
    return GpuStopwatch(device) if device.type == "cuda" else CpuStopwatch()


class CpuStopwatch:
    """The host's clock; caches are as the launch before left them."""

    def race(self, launches: Sequence[Launch], seed: int) -> list[Timing]:
        """One Timing per launch; all must have run before."""
        samples: list[list[float]] = [[] for _ in launches]
        for turn in _turns(len(launches), _CPU_ROUNDS, seed):
            began = time.perf_counter()
            launches[turn]()
            samples[turn].append((time.perf_counter() - began) * 1e6)
        return [Timing(tuple(times)) for times in samples]


class GpuStopwatch:
    """CUDA events on torch's current stream of ``device``, its current device."""

    def __init__(self, device: torch.device) -> None:
        l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        self._swept = torch.zeros(2 * l2_bytes // 4, dtype=torch.float32, device=device)
        self._sum = torch.empty((), dtype=torch.float32, device=device)

    def race(self, launches: Sequence[Launch], seed: int) -> list[Timing]:
        """One Timing per launch; all must have run before."""
        began = time.perf_counter()
        rehearsal = self._queue(launches, range(len(launches)), 0.0)
        step_seconds = (time.perf_counter() - began) / len(launches)
        torch.cuda.synchronize()
        launch_ms = sum(start.elapsed_time(end) for start, end in rehearsal) / len(launches)
        rounds = int(min(_MOST, max(_LEAST, _MILLISECONDS / launch_ms)))
        turns = _turns(len(launches), rounds, seed)
        samples: list[list[float]] = [[] for _ in launches]
        for first in range(0, len(turns), _QUEUED_STEPS):
            steps = turns[first : first + _QUEUED_STEPS]
            events = self._queue(launches, steps, step_seconds)
            torch.cuda.synchronize()
            for turn, (start, end) in zip(steps, events, strict=True):
                samples[turn].append(start.elapsed_time(end) * 1e3)
        return [Timing(tuple(times)) for times in samples]

    def _queue(
        self, launches: Sequence[Launch], steps: Sequence[int], step_seconds: float
    ) -> list[tuple[torch.cuda.Event, torch.cuda.Event]]:
        """Queues the steps; the GPU starts when the host has had ``step_seconds`` for each."""
        pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in steps
        ]
        torch.cuda._sleep(int(step_seconds * len(steps) * _SLEEP_CLOCK_HZ))
        for turn, (start, end) in zip(steps, pairs, strict=True):
            torch.sum(self._swept, dim=0, out=self._sum)
            start.record()
            launches[turn]()
            end.record()
        return pairs


def _turns(count: int, rounds: int, seed: int) -> list[int]:
    """``rounds`` rounds in which each of ``count`` launches has one turn, one after the other."""
    rng = random.Random(seed)
    return [turn for _ in range(rounds) for turn in rng.sample(range(count), count)]
