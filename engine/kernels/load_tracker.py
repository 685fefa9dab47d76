"""LoadTracker: the skew of a layer's loads as of an earlier step, known without ever waiting."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch

from search_spaces.bucket import Skew
from search_spaces.skew_estimate import estimate_skew

BUFFERS = 2
EVERY = 64  # steps between copies: a copy and an estimate cost some 30 us of the host's time


class LoadTracker:
    """Follows the rows per expert of one MoE layer; one thread at a time may use it.

    ``experts`` are those that the router chooses among, ``top_k`` of them for a token. Shared ones,
    which the offsets count behind them, take every token and would pass for a skew. On a GPU every
    ``every`` steps the offsets are copied to pinned memory behind the step, with an event
    that later steps ask whether it has passed: the host never waits, and ``skew`` lags some steps
    behind. On a CPU they are read at once. While a CUDA graph is captured nothing is copied and
    the skew stays, so a graph keeps the kernels of the loads it was captured under; the offsets
    that a replay has filled may be recorded after it.
    """

    def __init__(
        self, experts: int, top_k: int, device: torch.device, *, every: int = EVERY
    ) -> None:
        self.skew = Skew()
        self._ends, self._top_k, self._every = experts + 1, top_k, every
        self._held = False
        self._left = 1  # steps until the next copy
        self._gpu = device.type == "cuda"
        self._free: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        self._under_way: list[tuple[torch.Tensor, torch.cuda.Event]] = []
        if self._gpu:
            for _ in range(BUFFERS):
                buffer = torch.empty(self._ends, dtype=torch.int32, pin_memory=True)
                self._free.append((buffer, torch.cuda.Event()))

    def record(self, offsets: torch.Tensor) -> None:
        """Notes a step's offsets, int32 [experts + 1] or more, once what fills them is queued.

        On torch's current stream of their device.
        """
        if self._held:
            return
        self._left -= 1
        if self._left > 0 and not self._under_way:
            return
        if not self._gpu:
            self._left = self._every
            self._learn(offsets)
        elif not torch.cuda.is_current_stream_capturing():
            # While a stream is captured, CUDA forbids even to ask an event.
            self._collect()
            if self._left <= 0 and self._free:
                self._left = self._every
                self._copy(offsets)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within, nothing is noted and the skew stays: for steps whose tokens nobody sent."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _copy(self, offsets: torch.Tensor) -> None:
        buffer, event = self._free.pop()
        buffer.copy_(offsets[: self._ends], non_blocking=True)
        event.record(torch.cuda.current_stream(offsets.device))
        self._under_way.append((buffer, event))

    def _collect(self) -> None:
        """Reads the copies that have arrived, the newest one last."""
        while self._under_way and self._under_way[0][1].query():
            self._learn(self._under_way[0][0])
            self._free.append(self._under_way.pop(0))

    def _learn(self, offsets: torch.Tensor) -> None:
        ends = offsets[: self._ends].tolist()
        rows = [end - start for start, end in pairwise(ends)]
        self.skew = estimate_skew(rows, self._top_k)
