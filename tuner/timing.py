"""Timing: cold-cache times of launches by CUDA events, several launches in turns.

A step is [sweep, event, launch, event]. The sweep reads a buffer of twice the L2, so that weights
come from memory as they do in a model, where dozens of layers lie between two uses; it reads
rather than writes, because dirty lines cost a small kernel up to 18 % when they are evicted. It
stands before the first event and is not timed. With the L2 swept there is no need to rotate among
several sets of weights.

All steps are queued behind a kernel that sleeps until the host is done: otherwise a launch that
the host is late with counts as time of the kernel. What the two events add to an empty launch,
some 2 us, stays in the figures (``scripts/probe_gpu.py`` measures it). Taking the difference of
two CUDA graphs, with and without the kernel, would leave that out, but gives one time per graph,
no spread, and charges the kernel with the sweep's eviction of its output.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from tuner.card import Card, CardState

Launch = Callable[[], object]  # queues work on torch's current stream

_QUEUED_STEPS = 120  # times 6 queue entries a step: the driver's queue holds 1024
_SLEEP_CLOCK_HZ = 2e9  # at a lower clock the sleep is longer than needed, never shorter
_WARM_SECONDS = 0.01  # lets the clocks rise after the host has kept the GPU waiting


@dataclass(frozen=True)
class Repeats:
    """How often a launch is timed: ``milliseconds`` of its own time, within these counts."""

    least: int
    most: int
    milliseconds: float

    def count(self, launch_ms: float) -> int:
        """Repeats of something that takes ``launch_ms``."""
        return int(min(self.most, max(self.least, self.milliseconds / max(launch_ms, 1e-6))))


SHORT = Repeats(least=5, most=20, milliseconds=20)
FULL = Repeats(least=15, most=100, milliseconds=200)


@dataclass(frozen=True)
class Timing:
    """Times of one launch in microseconds, and the card's state while they were taken."""

    samples_us: tuple[float, ...]
    state: CardState

    @property
    def median_us(self) -> float:
        """What a launch takes."""
        return statistics.median(self.samples_us)

    @property
    def spread_us(self) -> float:
        """(p90 - p10) / 2."""
        if len(self.samples_us) < 2:
            return 0.0
        deciles = statistics.quantiles(self.samples_us, n=10, method="inclusive")
        return (deciles[8] - deciles[0]) / 2


def rounds(count: int, repeats: int, rng: random.Random) -> list[list[int]]:
    """``repeats`` rounds in which each of ``count`` contestants has one turn, in random order.

    Clocks drift and a launch inherits its predecessor's heat: no one shall always come second.
    """
    return [rng.sample(range(count), count) for _ in range(repeats)]


class Stopwatch:
    """Times launches on torch's current device and stream."""

    def __init__(self, device: torch.device, card: Card) -> None:
        l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        self._swept = torch.zeros(2 * l2_bytes // 4, dtype=torch.float32, device=device)
        self._sum = torch.empty((), dtype=torch.float32, device=device)
        self._card = card

    def race(
        self, launches: Sequence[Launch], repeats: Repeats, rng: random.Random
    ) -> list[Timing]:
        """One Timing per launch, taken in turns. All must have run before, so that they load."""
        launch_ms, host_seconds = self._rehearse(launches)
        order = rounds(len(launches), repeats.count(launch_ms / len(launches)), rng)
        samples: list[list[float]] = [[] for _ in launches]
        at_once = max(1, _QUEUED_STEPS // len(launches))
        state = CardState()
        for first in range(0, len(order), at_once):
            steps = [turn for turns in order[first : first + at_once] for turn in turns]
            events = self._queue(launches, steps, host_seconds)
            state = self._card.state()
            torch.cuda.synchronize()
            for turn, (start, end) in zip(steps, events, strict=True):
                samples[turn].append(start.elapsed_time(end) * 1e3)
        return [Timing(tuple(times), state) for times in samples]

    def _rehearse(self, launches: Sequence[Launch]) -> tuple[float, float]:
        """GPU milliseconds of one launch of each, and host seconds to queue them."""
        began = time.perf_counter()
        while time.perf_counter() - began < _WARM_SECONDS:
            torch.sum(self._swept, dim=0, out=self._sum)
            torch.cuda.synchronize()
        began = time.perf_counter()
        events = self._queue(launches, range(len(launches)), 0.0)
        queued = time.perf_counter() - began
        torch.cuda.synchronize()
        return sum(start.elapsed_time(end) for start, end in events), queued

    def _queue(
        self, launches: Sequence[Launch], steps: Sequence[int], host_seconds: float
    ) -> list[tuple[torch.cuda.Event, torch.cuda.Event]]:
        """Queue the steps; the GPU starts when ``host_seconds`` for each round have passed."""
        pairs = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in steps
        ]
        ahead = host_seconds * len(steps) / len(launches)
        torch.cuda._sleep(int(ahead * _SLEEP_CLOCK_HZ))
        for turn, (start, end) in zip(steps, pairs, strict=True):
            torch.sum(self._swept, dim=0, out=self._sum)
            start.record()
            launches[turn]()
            end.record()
        return pairs
