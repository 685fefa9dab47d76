"""Launches: one flat lookup from a call's sizes to its prepared launch, on one GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, TypeVar

import torch

from engine.kernels.dispatcher import Dispatcher
from engine.kernels.launch import Counters, Launch
from engine.kernels.loader import KernelLoader
from engine.kernels.scratch import Scratch
from engine.kernels.work import Work
from search_spaces import Problem, Skew, space_for
from search_spaces.permute_config import permute_config
from search_spaces.permute_problem import PermuteProblem

# A call's sizes, whatever its op takes for that, the index of its skew, and a config it asks for.
Key: TypeAlias = "tuple[Hashable, int, str | None]"
Sizes = TypeVar("Sizes", bound=Hashable)

# A server meets every number of rows up to its batch limit; beyond this many the table is begun
# anew, which costs some microseconds per entry that is still in use.
MOST_ENTRIES = 1 << 16


class Launches:
    """Prepared launches of the GPU ``device``. Safe to share between threads and streams."""

    def __init__(self, dispatcher: Dispatcher, device: torch.device) -> None:
        self._dispatcher = dispatcher
        self._device = device
        self._index = device.index
        self._counters = Counters(device)
        self._loader = KernelLoader(dispatcher.gpu, device, self._counters)
        self._ready: dict[Key, Launch] = {}
        self._lock = threading.Lock()
        self._thread = threading.local()

    def run(
        self,
        sizes: Sizes,
        work: Callable[[Sizes], Work],
        pointers: tuple[int, ...],
        skew: Skew | None = None,
        config: str | None = None,
        scratch: Scratch | None = None,
    ) -> None:
        """Queue an op's passes on torch's current stream of this device.

        ``work`` tells what ``sizes`` stand for, when they are met for the first time; ``pointers``
        are the op's. ``config`` is one to run whatever was tuned, ``scratch`` memory to use instead
        of torch's.
        """
        if torch.cuda.current_device() != self._index or not hasattr(self._thread, "bound"):
            with torch.cuda.device(self._index):
                self._bind()
                self.run(sizes, work, pointers, skew, config, scratch)
            return
        key = (sizes, self._dispatcher.skew_index(skew), config)
        launch = self._ready.get(key) or self._first(key, work(sizes), skew)
        if launch is not None:
            # torch.cuda.current_stream() makes an object for the same number, in 1.5 us.
            stream = torch._C._cuda_getCurrentRawStream(self._index)
            launch(pointers, stream, scratch)

    def prepare(self, sizes: Sequence[Sizes], work: Callable[[Sizes], Work]) -> None:
        """Compile and load what these sizes, all of one problem, will run under any skew."""
        works = [work(each) for each in sizes]
        with torch.cuda.device(self._index):
            self._bind()
            for index, skew in enumerate(self._dispatcher.skews):
                self._prepare([(each, index, None) for each in sizes], works, skew)

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

    def _first(self, key: Key, work: Work, skew: Skew | None) -> Launch | None:
        if work.count == 0 and isinstance(work.problem, Problem):
            return None  # no rows, no C; other ops write offsets even so
        return self._prepare([key], [work], skew)[0]

    def _config(self, work: Work, named: str | None, skew: Skew | None) -> Any:
        problem, count = work.problem, max(1, work.count)
        if isinstance(problem, PermuteProblem):
            return permute_config(problem, count)
        if named is None:
            self._dispatcher.warn_once(problem)
            named = self._dispatcher.choose(problem, count, top_k=work.top_k, skew=skew).config
        return space_for(problem.op).config_type.parse(named)

    def _prepare(
        self, keys: Sequence[Key], works: Sequence[Work], skew: Skew | None
    ) -> list[Launch]:
        problem = works[0].problem
        pairs = zip(keys, works, strict=True)
        configs = [self._config(work, named, skew) for (_, _, named), work in pairs]
        with self._lock:
            kernels = self._loader.load(problem, configs)
            launches = [
                Launch(work.launch_shape(config), kernel, self._counters, self._device)
                for work, config, kernel in zip(works, configs, kernels, strict=True)
            ]
            if len(self._ready) >= MOST_ENTRIES:
                self._ready.clear()
            self._ready.update(zip(keys, launches, strict=True))
        return launches
