"""Launch: a kernel with all that a number of rows fixes; only pointers are left to give."""

from __future__ import annotations

import torch

from engine.kernels.loader import LoadedKernel
from search_spaces import GroupedGemmConfig, Problem
from templates import launch_shape


class Counters:
    """Zeroed int32 counters for split-K, one tensor per stream; every kernel leaves them zero.

    Kernels of one stream run one after another, so they share; those of two streams must not. A
    captured graph may be replayed beside anything, so it gets counters of its own, from its own
    memory pool.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._by_stream: dict[int, torch.Tensor] = {}

    def get(self, stream: int, count: int) -> torch.Tensor:
        """At least ``count`` zeros, for work queued on ``stream``, torch's current one."""
        if torch.cuda.is_current_stream_capturing():
            return self._zeros(count)
        held = self._by_stream.get(stream)
        if held is None or held.shape[0] < count:
            # A thread that still holds the smaller tensor keeps it alive until it has launched.
            held = self._by_stream[stream] = self._zeros(count)
        return held

    def _zeros(self, count: int) -> torch.Tensor:
        return torch.zeros(count, dtype=torch.int32, device=self._device)


class Launch:
    """One problem shape, config and row count, on one GPU. Safe to share between threads."""

    __slots__ = ("_counters", "_device", "_grid", "_launch", "_lock", "_scalars", "_scratch")

    def __init__(
        self,
        problem: Problem,
        config: GroupedGemmConfig,
        rows: int,
        loaded: LoadedKernel,
        counters: Counters,
        device: torch.device,
    ) -> None:
        shape = launch_shape(problem, config, rows)
        [only] = shape.passes
        self._grid = only.grid
        self._scratch = (shape.workspace_bytes, shape.counters) if shape.counters else None
        self._scalars = only.scalars
        self._launch = loaded.kernel.launch
        self._lock = loaded.lock
        self._counters = counters
        self._device = device

    def __call__(self, a: int, b: int, c: int, offsets: int, rows: int, stream: int) -> None:
        """Queue the kernel on ``stream``, torch's current one, with these device pointers.

        ``rows`` is 0 unless the problem gathers.
        """
        if self._scratch is None:
            with self._lock:
                self._launch(self._grid, (a, b, c, offsets, rows, 0, 0, *self._scalars), stream)
            return
        # Partial sums live in torch's memory of this stream, free for its next user at once.
        workspace = torch.empty(self._scratch[0], dtype=torch.uint8, device=self._device)
        counters = self._counters.get(stream, self._scratch[1])
        pointers = (a, b, c, offsets, rows, workspace.data_ptr(), counters.data_ptr())
        with self._lock:
            self._launch(self._grid, (*pointers, *self._scalars), stream)
