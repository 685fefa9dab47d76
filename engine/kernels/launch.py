"""Launch: a kernel with all that sizes fix; only pointers are left to give."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

import torch

from engine.kernels.scratch import Scratch
from templates import Kernel, LaunchShape
from templates.kernel import packed


@dataclass(frozen=True)
class LoadedKernel:
    """A kernel whose machine code is on the GPU. One thread at a time may launch it: ``lock``."""

    kernel: Kernel
    lock: Lock = field(default_factory=Lock)


class Counters:
    """Zeroed int32 counters of any op, one tensor per stream; every kernel leaves them zero.

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
    """The passes of one problem, config and count, on one GPU. Safe to share between threads."""

    __slots__ = ("_counters", "_device", "_launch", "_lock", "_passes", "_scratch")

    def __init__(
        self,
        shape: LaunchShape,
        loaded: LoadedKernel,
        counters: Counters,
        device: torch.device,
    ) -> None:
        self._passes = [(each.grid, packed(each.scalars), each.smem_bytes) for each in shape.passes]
        sizes = (shape.workspace_bytes, shape.counters)
        self._scratch = sizes if any(sizes) else None
        self._launch = loaded.kernel.launch
        self._lock = loaded.lock
        self._counters = counters
        self._device = device

    def __call__(
        self, pointers: tuple[int, ...], stream: int, scratch: Scratch | None = None
    ) -> None:
        """Queue the passes on ``stream``, torch's current one, with the op's device pointers.

        Without ``scratch`` a workspace is taken from torch's memory of this stream, free for its
        next user at once.
        """
        if self._scratch is None:
            self._queue((*pointers, 0, 0), stream)
        elif scratch is not None:
            self._queue((*pointers, *scratch.pointers(*self._scratch)), stream)
        else:
            workspace_bytes, count = self._scratch
            workspace = torch.empty(workspace_bytes, dtype=torch.uint8, device=self._device)
            counters = self._counters.get(stream, count)
            self._queue((*pointers, workspace.data_ptr(), counters.data_ptr()), stream)

    def _queue(self, pointers: tuple[int, ...], stream: int) -> None:
        with self._lock:
            for grid, scalars, smem_bytes in self._passes:
                self._launch(grid, (*pointers, scalars), stream, smem_bytes)
