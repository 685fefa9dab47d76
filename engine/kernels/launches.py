"""Launches: one flat lookup from a call's sizes to its prepared launch, on one GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from engine.kernels.checks import Checked
from engine.kernels.dispatcher import Dispatcher
from engine.kernels.launch import Counters, Launch
from engine.kernels.loader import KernelLoader
from engine.kernels.problems import problem_of_shape
from search_spaces import GroupedGemmConfig, Numerics, Problem

# rows, E, N, K, top_k, epilogue, and whether rows are gathered
Sizes = tuple[int, int, int, int, "int | None", str, bool]

# A server meets every number of rows up to its batch limit; beyond this many the table is begun
# anew, which costs some microseconds per entry that is still in use.
MOST_ENTRIES = 1 << 16


class Launches:
    """Prepared launches of the GPU ``device``. Safe to share between threads and streams."""

    def __init__(self, dispatcher: Dispatcher, device: torch.device, numerics: Numerics) -> None:
        self._dispatcher = dispatcher
        self._device = device
        self._index = device.index
        self._numerics = numerics
        self._loader = KernelLoader(dispatcher.gpu)
        self._counters = Counters(device)
        self._ready: dict[Sizes, Launch] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def run(self, operands: Checked, c: int, top_k: int | None, epilogue: str) -> None:
        """Queue the kernel on torch's current stream of this device; c [rows, N] is a pointer.

        N is halved by a gated epilogue.
        """
        if torch.cuda.current_device() != self._index or not hasattr(self._thread, "bound"):
            with torch.cuda.device(self._index):
                self._bind()
                self.run(operands, c, top_k, epilogue)
            return
        rows, experts, n, k, a, b, offsets, index = operands
        sizes = (rows, experts, n, k, top_k, epilogue, index is not None)
        launch = self._ready.get(sizes) or self._first(sizes)
        if launch is not None:
            # torch.cuda.current_stream() makes an object for the same number, in 1.5 us.
            stream = torch._C._cuda_getCurrentRawStream(self._index)
            launch(a, b, c, offsets, index or 0, stream)

    def prepare(self, problem: Problem, rows: Sequence[int]) -> None:
        """Compile and load what these numbers of rows will run, with top_k given or not."""
        with torch.cuda.device(self._index):
            self._bind()
            for top_k in (problem.top_k, None):
                self._prepare(problem, rows, top_k)

    def forget(self) -> None:
        """Choose anew at each first call from now on; kernels that are loaded stay."""
        with self._lock:
            self._ready.clear()

    def _bind(self) -> None:
        """A new thread has no CUDA context until it asks for one, and torch may never ask.

        cudaSetDevice makes the primary context current; torch skips it for the device it believes
        to be current already.
        """
        from cupy.cuda import runtime

        runtime.setDevice(self._index)
        self._thread.bound = True

    def _first(self, sizes: Sizes) -> Launch | None:
        rows, experts, n, k, top_k, epilogue, gather = sizes
        problem = problem_of_shape(experts, n, k, top_k, self._numerics, epilogue, gather)
        if rows == 0:
            return None
        return self._prepare(problem, [rows], top_k)[0]

    def _prepare(self, problem: Problem, rows: Sequence[int], top_k: int | None) -> list[Launch]:
        self._dispatcher.warn_once(problem)
        choices = [self._dispatcher.choose(problem, count, top_k=top_k) for count in rows]
        configs = [GroupedGemmConfig.parse(choice.config) for choice in choices]
        with self._lock:
            kernels = self._loader.load(problem, configs)
            launches = [
                Launch(problem, config, count, kernel, self._counters, self._device)
                for count, config, kernel in zip(rows, configs, kernels, strict=True)
            ]
            if len(self._ready) >= MOST_ENTRIES:
                self._ready.clear()
            for count, launch in zip(rows, launches, strict=True):
                shape = (problem.experts, problem.n, problem.k)
                sizes = (count, *shape, top_k, problem.epilogue, problem.gather)
                self._ready[sizes] = launch
        return launches
